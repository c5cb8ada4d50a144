"""Full weighting: [1 2 1]/4 an axis, the multigrid restriction on vertices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradconv.restriction.base import RESTRICTIONS, LocalRestriction


@RESTRICTIONS.register("full_weighting")
@dataclass(frozen=True)
class FullWeighting(LocalRestriction):
    """x_coarse[I] = (x[2I−1] + 2x[2I] + x[2I+1]) / 4 an axis.

    White noise keeps 3/8 of its variance an axis and neighbours become correlated by 1/6. The
    direct step by f is the hat function of half-width f, which the chain reproduces.

    References
    ----------
    U. Trottenberg, C. Oosterlee, A. Schüller, *Multigrid*, 2001, eq. (2.3.3).
    """

    grid: ClassVar[str] = "vertex"
    nested: ClassVar[bool] = True

    def taps(self, factor: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Hat of half-width `factor`."""
        offsets = tuple(range(1 - factor, factor))
        return offsets, tuple((factor - abs(o)) / factor**2 for o in offsets)
