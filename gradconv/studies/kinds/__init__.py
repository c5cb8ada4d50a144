"""Kinds of study: one file each, that registers itself."""

from gradconv.studies.kinds import (  # register themselves
    atlas,
    feature_maps,
    kernels,
    sweep,
    work_units,
)
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
    "atlas",
    "feature_maps",
    "kernels",
    "sweep",
    "work_units",
]
