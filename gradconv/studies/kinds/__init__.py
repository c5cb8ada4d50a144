"""Kinds of study: one file each, that registers itself."""

from gradconv.studies.kinds import (  # each registers itself
    atlas,
    audit,
    diagnosis,
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
    "audit",
    "diagnosis",
    "feature_maps",
    "kernels",
    "sweep",
    "work_units",
]
