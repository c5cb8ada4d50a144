"""Given samples on the finest mesh, restricted to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.restriction import Restriction
from gradconv.samplers.base import Batch
from gradconv.samplers.epochs import shuffled
from gradconv.samplers.restricting import RestrictedSampler, follows


@dataclass(frozen=True)
class TensorSampler(RestrictedSampler):
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
        self.restricting.check(self.hierarchy)
        self.check_targets(x, y, "data")
        object.__setattr__(self, "available", None if self.epochs else len(x))

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Restrict the samples of these numbers."""
        self.check_available(numbers, levels)
        places = list(numbers)
        if self.epochs:
            places = shuffled(numbers, len(self.inputs), self.seed)
        x, y = (t[places].detach().cpu() for t in (self.inputs, self.targets))
        y = y.double() if follows(x, y) else y
        return self.restrict_pair(x.double(), y, levels)

    def describe(self) -> dict[str, Any]:
        """Return shapes and restriction."""
        return {
            "data": "given samples",
            "inputs": list(self.inputs.shape),
            "targets": list(self.targets.shape),
            "restriction": self.restricting.map.spec,
            "route": self.route,
            "setting": "coarsening",
        }

    @property
    def bytes_per_path(self) -> int:
        """Input and target in double precision, on all levels."""
        return 4 * 8 * (self.inputs[0].numel() + self.targets[0].numel())
