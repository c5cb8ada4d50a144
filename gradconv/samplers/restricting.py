"""Restricting torch fields of a level to coarser ones, by a route, and samplers that do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from gradconv.backend import Backend
from gradconv.errors import InputError, shortened
from gradconv.mesh import MeshHierarchy
from gradconv.restriction import RESTRICTIONS, ROUTES, Restriction
from gradconv.samplers.base import Batch, Sampler

_TORCH = Backend(library="torch")


@dataclass(frozen=True)
class RestrictionRoute:
    """A restriction and the route that it takes from level to level.

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


class RestrictedSampler(Sampler):
    """A sampler of pairs on the finest mesh, which a restriction takes to the others.

    Attributes
    ----------
    restriction : str or Restriction
        Fine → coarse map.
    route : {"chain", "direct"}
        Steps by 2, or one step from the finest mesh.
    """

    restriction: str | Restriction
    route: str

    @cached_property
    def restricting(self) -> RestrictionRoute:
        """Restriction and route."""
        return RestrictionRoute(self.restriction, self.route)

    @property
    def grid(self) -> str:
        """The restriction's grid."""
        return self.restricting.map.grid

    def to_levels(self, finest: torch.Tensor, levels: Sequence[int]) -> list[torch.Tensor]:
        """Restrict a field of the finest mesh to each of `levels`."""
        top = len(self.hierarchy) - 1
        return self.restricting.to_levels(finest, self.hierarchy, top, levels)

    def restrict_pair(self, x: torch.Tensor, y: Any, levels: Sequence[int]) -> list[Batch]:
        """Restrict an input to each of `levels`, and its target if that is a field too."""
        xs = self.to_levels(x, levels)
        ys = self.to_levels(y, levels) if follows(x, y) else [y] * len(xs)
        return list(zip(xs, ys, strict=True))

    def check_targets(self, x: torch.Tensor, y: Any, argument: str) -> None:
        """Refuse target fields that cannot be restricted to the coarsest level.

        Raises
        ------
        InputError
            If the hierarchy's coarsening does not divide their cells.
        """
        coarsening = self.hierarchy.sizes[-1] // self.hierarchy.sizes[0]
        if follows(x, y) and any(n % coarsening for n in y.shape[2:]):
            raise InputError(
                f"`{argument}` targets must have cells an axis that {coarsening} divides; "
                f"got shape {tuple(y.shape)}"
            )


def follows(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether a target is a field, restricted like its input, and no label."""
    return bool(y.ndim == x.ndim and y.is_floating_point())
