"""Given samples on the finest mesh, restricted to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.restriction import Restriction
from gradconv.samplers.base import Batch, Sampler
from gradconv.samplers.descent import Descent
from gradconv.samplers.epochs import shuffled


@dataclass(frozen=True)
class TensorSampler(Sampler):
    """Given samples on the finest mesh, restricted to the others; noise, if any, is in them.

    Parameters
    ----------
    inputs : Tensor
        Shape ``(B, C, *finest)``; sample b is sample path b.
    targets : Tensor
        Shape ``(B, C', *mesh)``, restricted like the input, or any other shape ``(B, …)``, which
        serves all levels (labels).
    restriction : str or Restriction
        Fine → coarse map of both.
    route : {"chain", "direct"}
        Steps by 2, or one step from the finest mesh.
    hierarchy : MeshHierarchy
        The levels; the finest must have the input's cells an axis.
    epochs : bool
        Whether numbers past the last sample begin again, each epoch in an order of its own.
    seed : int
        Seed of the orders.

    Raises
    ------
    InputError
        If shapes do not fit each other or the hierarchy, or values are not finite.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    restriction: str | Restriction
    route: str
    hierarchy: MeshHierarchy
    epochs: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        x, y, finest = self.inputs, self.targets, self.hierarchy.finest
        if tuple(x.shape[2:]) != finest.shape or x.ndim != finest.dim + 2:
            raise InputError(
                f"`data` inputs must have shape (B, C, {', '.join(map(str, finest.shape))}), the "
                f"finest mesh of the hierarchy; got {tuple(x.shape)}"
            )
        if len(y) != len(x):
            raise InputError(
                f"`data` must have as many targets as inputs; got {len(y)} and {len(x)}"
            )
        if len(x) == 0:
            raise InputError("`data` must hold at least one sample; got none")
        for name, values in (("inputs", x), ("targets", y)):
            if not bool(torch.isfinite(values).all()):
                raise InputError(f"`data` {name} must be finite; got NaN or infinity")
        self.descent.check(self.hierarchy)
        coarsening = finest.n // self.hierarchy.sizes[0]
        if self._follows and any(n % coarsening for n in y.shape[2:]):
            raise InputError(
                f"`data` targets must have cells an axis that {coarsening} divides; "
                f"got shape {tuple(y.shape)}"
            )
        object.__setattr__(self, "available", None if self.epochs else len(x))

    @cached_property
    def descent(self) -> Descent:
        """Restriction and route."""
        return Descent(self.restriction, self.route)

    @property
    def _follows(self) -> bool:
        """Whether targets are fields, restricted like the inputs."""
        return bool(self.targets.ndim == self.inputs.ndim and self.targets.is_floating_point())

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Restrict the samples of these numbers."""
        self.check_available(numbers, levels)
        places = list(numbers)
        if self.epochs:
            places = shuffled(numbers, len(self.inputs), self.seed)
        x, y = (t[places].detach().cpu() for t in (self.inputs, self.targets))
        xs = self._descend(x.double(), levels)
        ys = self._descend(y.double(), levels) if self._follows else [y] * len(xs)
        return list(zip(xs, ys, strict=True))

    def _descend(self, finest: torch.Tensor, levels: Sequence[int]) -> list[torch.Tensor]:
        return self.descent.to_levels(finest, self.hierarchy, len(self.hierarchy) - 1, levels)

    def describe(self) -> dict[str, Any]:
        """Return shapes and restriction."""
        return {
            "data": "given samples",
            "inputs": list(self.inputs.shape),
            "targets": list(self.targets.shape),
            "restriction": self.descent.map.spec,
            "route": self.route,
            "setting": "coarsening",
        }

    @property
    def grid(self) -> str:
        """The restriction's grid."""
        return self.descent.map.grid

    @property
    def bytes_per_path(self) -> int:
        """Input and target in double precision, on all levels."""
        return 4 * 8 * (self.inputs[0].numel() + self.targets[0].numel())
