"""Restricting torch fields of a level to coarser ones, by a route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradconv.backend import Backend
from gradconv.errors import InputError, shortened
from gradconv.mesh import MeshHierarchy
from gradconv.restriction import RESTRICTIONS, ROUTES, Restriction

_TORCH = Backend(library="torch")


@dataclass(frozen=True)
class Descent:
    """A restriction and its route.

    Parameters
    ----------
    restriction : str or Restriction
        Fine → coarse map.
    route : {"chain", "direct"}
        Steps by 2, or one step from the mesh that is given.
    """

    restriction: str | Restriction = "average"
    route: str = "chain"

    def __post_init__(self) -> None:
        if self.route not in ROUTES:
            raise InputError(f"`route` must be chain or direct; got {shortened(self.route)}")
        object.__setattr__(self, "restriction", RESTRICTIONS.parse(self.restriction))

    @property
    def map(self) -> Restriction:
        """The restriction as a value."""
        assert isinstance(self.restriction, Restriction)
        return self.restriction

    def check(self, hierarchy: MeshHierarchy) -> None:
        """Refuse a finest mesh that the restriction cannot work on."""
        self.map.check_size(hierarchy.sizes[-1])

    def to_levels(
        self, x: torch.Tensor, hierarchy: MeshHierarchy, top: int, levels: Sequence[int]
    ) -> list[torch.Tensor]:
        """Restrict a field of level `top`, last axes space, to each of `levels`.

        Parameters
        ----------
        x : Tensor
            Shape ``(..., *hierarchy.meshes[top].shape)``, or that over, or times, one whole factor.
        hierarchy : MeshHierarchy
            The levels.
        top : int
            Level of the field.
        levels : sequence of int
            None finer than `top`.
        """
        dim, found = hierarchy.dim, {top: x}
        for level in range(top - 1, min(levels) - 1, -1):
            if self.route == "chain":
                found[level] = self.map.restrict(found[level + 1], dim, 2, backend=_TORCH)
            elif level in levels:
                found[level] = self.map.restrict(x, dim, 2 ** (top - level), backend=_TORCH)
        return [found[level] for level in levels]
