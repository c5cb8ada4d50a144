"""Kinds of study: one file each, that registers itself."""

from gradconv.studies.kinds import (  # each registers itself
    atlas,
    audit,
    claims,
    diagnosis,
    equal_cost,
    feature_maps,
    kernels,
    layer_cost,
    sweep,
    training,
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
    "claims",
    "diagnosis",
    "equal_cost",
    "feature_maps",
    "kernels",
    "layer_cost",
    "sweep",
    "training",
    "work_units",
]
