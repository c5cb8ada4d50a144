"""Built-in noisy data: input and target of a `Problem`, whose kernel plays no part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gradconv.gradient import InputSource
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.samplers.base import Batch, Sampler


@dataclass(frozen=True)
class ProblemSampler(Sampler):
    """Samples of a problem's signal, noise, target and restriction.

    In the coarsening setting noise is drawn once on the finest mesh and restricted. In the
    refinement setting it is drawn by level, with neighbours coupled so that every level has the
    law of its own mesh in both roles.

    Parameters
    ----------
    problem : Problem
        Signal, noise, target, restriction and setting.
    hierarchy : MeshHierarchy
        The levels.
    seed : int
        Seed of all streams: the paths are those that `gradconv.sweep` draws from it.
    outputs : int or None
        Channels of the target: those of the input, repeated in turn. None: as the input.

    Raises
    ------
    InputError
        If the problem cannot be put on the hierarchy.
    """

    problem: Problem
    hierarchy: MeshHierarchy
    seed: int
    outputs: int | None = None

    def __post_init__(self) -> None:
        self.problem.check(self.hierarchy)
        self.problem.check_values(self.hierarchy)
        object.__setattr__(self, "level_noise", self.problem.setting == "refinement")
        if self.problem.deterministic:
            object.__setattr__(self, "available", 1)

    @cached_property
    def _source(self) -> InputSource:
        return InputSource(self.problem, self.hierarchy, self.seed)

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Draw as `gradconv.sweep` does, for these levels only."""
        self.check_available(numbers, levels)
        found = self._source.sample(list(numbers), levels)
        return [self._batch(data.x, data.y, len(numbers)) for data in found]

    def _batch(self, x: np.ndarray, y: np.ndarray, count: int) -> Batch:
        if self.outputs is not None and self.outputs != y.shape[1]:
            y = y[:, np.arange(self.outputs) % y.shape[1]]
        target = torch.from_numpy(np.ascontiguousarray(y))
        if len(target) != count:  # one target serves all
            target = target.expand(count, *target.shape[1:])
        return torch.from_numpy(np.ascontiguousarray(x)), target

    def describe(self) -> dict[str, Any]:
        """Return the choices of the problem, without its kernel."""
        words = {k: v for k, v in self.problem.describe().items() if k not in ("kernel", "dim")}
        return {"data": "built-in", **words}

    @property
    def grid(self) -> str:
        """The restriction's grid."""
        return self.problem.restriction.grid

    @property
    def bytes_per_path(self) -> int:
        """Noise, spectra and the levels, as `gradconv.sweep` counts them."""
        cells = self.problem.source_mesh(self.hierarchy.finest).size
        return 8 * 24 * self.problem.channels * cells
