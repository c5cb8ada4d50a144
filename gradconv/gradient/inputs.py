"""Input and target of every level on the same sample path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from gradconv.backend import NUMPY
from gradconv.fields import SamplePath
from gradconv.fields.noise import join
from gradconv.fields.streams import SMALL
from gradconv.fields.target import Target
from gradconv.mesh import FourierGrid, Mesh, MeshHierarchy
from gradconv.problem import Problem


@dataclass(frozen=True)
class LevelInputs:
    """What enters the gradient on one level.

    Parameters
    ----------
    x : ndarray
        Input, shape ``(replicates, channels, *mesh.shape)``.
    y : ndarray
        Target, the same shape, or with one replicate that serves all.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class InputSource:
    """Draws the inputs of a problem on a hierarchy.

    Parameters
    ----------
    problem : Problem
        The problem.
    hierarchy : MeshHierarchy
        The levels.
    seed : int
        Seed of all streams.
    """

    problem: Problem
    hierarchy: MeshHierarchy
    seed: int

    def target_of(self, signal: np.ndarray, mesh: Mesh) -> np.ndarray:
        """m(D)u on a mesh, shape as `signal`."""
        if self.problem.target.name == "identity":
            return signal
        find = _multiplier if mesh.size <= SMALL else _multiplier.__wrapped__
        multiplier = find(self.problem.target, mesh)
        modes = NUMPY.rfftn(signal, mesh.dim) * multiplier
        return np.asarray(NUMPY.irfftn(modes, mesh.shape))

    def restrict(self, x: np.ndarray, factor: int = 2) -> np.ndarray:
        """One restriction, by the problem's map and boundary."""
        p = self.problem
        return np.asarray(p.restriction.restrict(x, p.dim, factor, p.boundary))

    def descend(self, finest: np.ndarray) -> list[np.ndarray]:
        """Restrict data of the finest mesh to every level, coarse to fine, by the route."""
        levels = [finest]
        n = self.hierarchy.sizes[-1]
        for size in reversed(self.hierarchy.sizes[:-1]):
            if self.problem.route == "chain":
                levels.append(self.restrict(levels[-1]))
            else:
                levels.append(self.restrict(finest, n // size))
        return levels[::-1]

    def clean(
        self, replicate: int, levels: Sequence[int] | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Noise-free input and target of every level, shapes ``(channels, *mesh.shape)``.

        Parameters
        ----------
        replicate : int
            Sample path (the member, for a folder of images).
        levels : sequence of int, optional
            In the refinement setting: the levels wanted; others are empty.
        """
        p = self.problem
        if p.setting == "coarsening":
            u = p.draw_signal(self.hierarchy.finest, replicate, self.seed)
            y = self.target_of(u, self.hierarchy.finest)
            signals = self.descend(u)
            return signals, signals if y is u else self.descend(y)
        signals, targets = [], []
        for level, mesh in enumerate(self.hierarchy.meshes):
            if levels is not None and level not in levels:
                signals.append(np.empty(0))
                targets.append(signals[-1])
                continue
            source = p.source_mesh(mesh)
            u = p.draw_signal(source, replicate, self.seed)
            y = self.target_of(u, source)
            signals.append(self.restrict(u))
            targets.append(signals[-1] if y is u else self.restrict(y))
        return signals, targets

    @cached_property
    def members(self) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
        """Clean data of each member of a deterministic signal."""
        return [self.clean(member) for member in range(self.problem.signal.members)]

    def sample(
        self, replicates: Sequence[int], levels: Sequence[int] | None = None
    ) -> list[LevelInputs]:
        """Noisy inputs and targets of levels.

        Parameters
        ----------
        replicates : sequence of int
            Sample paths.
        levels : sequence of int, optional
            Which levels, 0 is the coarsest; all by default, coarse to fine.

        Returns
        -------
        list of LevelInputs
            One a level.
        """
        wanted = range(len(self.hierarchy)) if levels is None else levels
        p = self.problem
        shared = not p.signal.random and p.signal.members == 1
        clean = [
            self.clean(r, wanted) if p.signal.random else self.members[r % len(self.members)]
            for r in replicates
        ]
        if p.setting == "coarsening":
            xs = self.descend(
                self._noisy([c[0][-1] for c in clean], self.hierarchy.finest, replicates)
            )
        else:
            xs = [
                self._noisy([c[0][level] for c in clean], mesh, replicates)
                if level in wanted
                else np.empty(0)
                for level, mesh in enumerate(self.hierarchy.meshes)
            ]
        told = clean[:1] if shared else clean
        return [LevelInputs(xs[level], join([c[1][level] for c in told])) for level in wanted]

    def _noisy(
        self, signals: list[np.ndarray], mesh: Mesh, replicates: Sequence[int]
    ) -> np.ndarray:
        p = self.problem
        coupled = p.setting == "refinement"
        paths = [SamplePath(self.seed, replicate, "noise") for replicate in replicates]
        return join(
            [p.noise.apply(u, mesh, path, coupled) for u, path in zip(signals, paths, strict=True)]
        )


@lru_cache(maxsize=64)  # the same for all replicates
def _multiplier(target: Target, mesh: Mesh) -> np.ndarray:
    return target.on_grid(FourierGrid(mesh))
