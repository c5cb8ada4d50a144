"""Injection: keep every other point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradconv.restriction.base import RESTRICTIONS, LocalRestriction


@RESTRICTIONS.register("injection")
@dataclass(frozen=True)
class Injection(LocalRestriction):
    """x_coarse[I] = x[2I].

    White noise keeps its variance and stays uncorrelated. Lives on vertices; on cell centres each
    step moves the grid by h_coarse/4, harmless where input and target move together.
    """

    grid: ClassVar[str] = "vertex"
    nested: ClassVar[bool] = True

    def taps(self, factor: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """One tap at the point itself."""
        return (0,), (1.0,)
