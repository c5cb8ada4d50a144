"""Average: the mean of the 2**d cells that make a coarse one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradconv.restriction.base import RESTRICTIONS, LocalRestriction


@RESTRICTIONS.register("average")
@dataclass(frozen=True)
class Average(LocalRestriction):
    """x_coarse[I] = (x[2I] + x[2I+1]) / 2 an axis, on cell centres.

    White noise keeps half its variance an axis and stays uncorrelated.
    """

    grid: ClassVar[str] = "cell"
    nested: ClassVar[bool] = True

    def taps(self, factor: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return `factor` equal taps."""
        return tuple(range(factor)), (1.0 / factor,) * factor
