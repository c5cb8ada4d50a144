"""Kinds of study: one file each, that registers itself."""

from gradconv.studies.kinds import audit, diagnosis, sweep  # each registers itself
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)

__all__ = [
    "KINDS",
    "Origin",
    "Record",
    "Results",
    "StudyFigure",
    "StudyKind",
    "Workplace",
    "audit",
    "diagnosis",
    "sweep",
]
