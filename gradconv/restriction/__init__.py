"""Restrictions: maps from a fine mesh to a coarser one. One file each."""

from __future__ import annotations

from gradconv.restriction import (  # noqa: F401  (importing a file registers its restriction)
    average,
    bilinear,
    full_weighting,
    injection,
    spectral,
)
from gradconv.restriction.base import (
    BOUNDARIES,
    RESTRICTIONS,
    ROUTES,
    LocalRestriction,
    Restriction,
)

__all__ = ["BOUNDARIES", "RESTRICTIONS", "ROUTES", "LocalRestriction", "Restriction"]
