"""Samples made by the caller, level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradconv.errors import InputError, shortened
from gradconv.loading import name_of
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.samplers.base import Batch, Sampler, check_finite, joined


@dataclass(frozen=True)
class CallableSampler(Sampler):
    """Samples made by the caller, level by level.

    Parameters
    ----------
    make : callable
        ``make(n, number) -> (input, target)`` on n cells an axis; arrays or tensors with a batch
        axis. Levels of one number must be one sample path, and calls must repeat themselves.
    hierarchy : MeshHierarchy
        The levels.
    """

    make: Callable[[int, int], tuple[Any, Any]]
    hierarchy: MeshHierarchy

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Ask for every number on every level."""
        found = []
        for level in levels:
            pairs = [self._level(self.hierarchy.meshes[level], m) for m in numbers]
            xs, ys = zip(*pairs, strict=True)
            found.append((torch.cat(xs), joined(ys)))
        return found

    def _level(self, mesh: Mesh, number: int) -> Batch:
        made = self.make(mesh.n, number)
        if not isinstance(made, Sequence) or len(made) != 2:
            raise InputError(
                f"`data` must return (input, target) for n={mesh.n}; got {shortened(made)}"
            )
        x, y = made
        x = torch.as_tensor(x)
        check_finite(x, "data", f"n={mesh.n}")
        return x, torch.as_tensor(y) if isinstance(y, np.ndarray) else y

    def describe(self) -> dict[str, Any]:
        """Name the callable."""
        name = name_of(self.make)
        return {"data": "callable", "callable": name}
