"""Kinds of study: one file each, that registers itself."""

from gradconv.studies.kinds import layer_cost, sweep  # register themselves
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
    "layer_cost",
    "sweep",
]
