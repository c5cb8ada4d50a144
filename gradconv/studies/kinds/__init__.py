"""Kinds of study: one file each, that registers itself."""

from gradconv.studies.kinds import sweep, training  # register themselves
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
    "sweep",
    "training",
]
