"""Input and target of every level of a sample path: built in, from tensors, or from a callable."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gradconv.backend import Backend
from gradconv.errors import InputError, shortened
from gradconv.gradient import InputSource
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.problem import Problem
from gradconv.restriction import Restriction

Pair = tuple[torch.Tensor, Any]


class Data:
    """What enters a module on every level, on shared sample paths.

    Attributes
    ----------
    hierarchy : MeshHierarchy
        The levels.
    available : int or None
        Sample paths there are; None if there is no end of them.
    """

    hierarchy: MeshHierarchy
    available: int | None = None

    @abstractmethod
    def path(self, replicate: int) -> list[Pair]:
        """Input, shape ``(B, C, *mesh.shape)``, and target of each level, coarse to fine."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the choices as JSON values."""

    @property
    def grid(self) -> str:
        """Where values live: ``"cell"`` centres or ``"vertex"`` points."""
        return "cell"

    @property
    def bytes_per_path(self) -> int:
        """Estimate of what making one path takes, in bytes."""
        return 0


@dataclass(frozen=True)
class ProblemData(Data):
    """Built-in noisy data: input and target of a `Problem`, whose kernel plays no part.

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
    """

    problem: Problem
    hierarchy: MeshHierarchy
    seed: int
    outputs: int | None = None

    def __post_init__(self) -> None:
        self.problem.check(self.hierarchy)
        self.problem.check_values(self.hierarchy)
        if self.problem.deterministic:
            object.__setattr__(self, "available", 1)

    @cached_property
    def _source(self) -> InputSource:
        return InputSource(self.problem, self.hierarchy, self.seed)

    def path(self, replicate: int) -> list[Pair]:
        """One sample a path."""
        pairs: list[Pair] = []
        for level in self._source.sample([replicate]):
            x, y = level.x, level.y
            if self.outputs is not None and self.outputs != y.shape[1]:
                y = y[:, np.arange(self.outputs) % y.shape[1]]
            pairs.append((torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(y))))
        return pairs

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


@dataclass(frozen=True)
class TensorData(Data):
    """Given samples on the finest mesh, restricted to the others.

    Parameters
    ----------
    inputs : Tensor
        Shape ``(B, C, *finest)``; sample b is sample path b.
    targets : Tensor
        Shape ``(B, C', *mesh)``, restricted like the input, or any other shape ``(B, …)``, which
        serves all levels (labels).
    restriction : Restriction
        Fine → coarse map of both.
    route : {"chain", "direct"}
        Steps by 2, or one step from the finest mesh.
    hierarchy : MeshHierarchy
        The levels; the finest must have the input's cells an axis.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    restriction: Restriction
    route: str
    hierarchy: MeshHierarchy

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
        for name, values in (("inputs", x), ("targets", y)):
            if not bool(torch.isfinite(values).all()):
                raise InputError(f"`data` {name} must be finite; got NaN or infinity")
        self.restriction.check_size(finest.n)
        coarsening = finest.n // self.hierarchy.sizes[0]
        if self._follows and any(n % coarsening for n in y.shape[2:]):
            raise InputError(
                f"`data` targets must have cells an axis that {coarsening} divides; "
                f"got shape {tuple(y.shape)}"
            )
        object.__setattr__(self, "available", len(x))

    @property
    def _follows(self) -> bool:
        """Whether targets are fields, restricted like the inputs."""
        return bool(self.targets.ndim == self.inputs.ndim and self.targets.is_floating_point())

    def path(self, replicate: int) -> list[Pair]:
        """Sample `replicate` on every level."""
        x, y = (t[replicate : replicate + 1].detach().cpu() for t in (self.inputs, self.targets))
        xs = self._descend(x.double())
        ys = self._descend(y.double()) if self._follows else [y] * len(xs)
        return list(zip(xs, ys, strict=True))

    def _descend(self, finest: torch.Tensor) -> list[torch.Tensor]:
        dim, sizes = self.hierarchy.dim, self.hierarchy.sizes
        torch_backend = Backend(library="torch")
        levels = [finest]
        for coarse in reversed(sizes[:-1]):
            chained = self.route == "chain"
            source, factor = (levels[-1], 2) if chained else (finest, sizes[-1] // coarse)
            levels.append(self.restriction.restrict(source, dim, factor, backend=torch_backend))
        return levels[::-1]

    def describe(self) -> dict[str, Any]:
        """Return shapes and restriction."""
        return {
            "data": "given samples",
            "inputs": list(self.inputs.shape),
            "targets": list(self.targets.shape),
            "restriction": self.restriction.spec,
            "route": self.route,
            "setting": "coarsening",
        }

    @property
    def grid(self) -> str:
        """The restriction's grid."""
        return self.restriction.grid

    @property
    def bytes_per_path(self) -> int:
        """Input and target in double precision, on all levels."""
        return 4 * 8 * (self.inputs[0].numel() + self.targets[0].numel())


@dataclass(frozen=True)
class CallableData(Data):
    """Samples made by the caller, level by level.

    Parameters
    ----------
    make : callable
        ``make(n, replicate) -> (input, target)`` on n cells an axis; arrays or tensors. Levels of
        one replicate must be one sample path, and calls must repeat themselves.
    hierarchy : MeshHierarchy
        The levels.
    """

    make: Callable[[int, int], tuple[Any, Any]]
    hierarchy: MeshHierarchy

    def path(self, replicate: int) -> list[Pair]:
        """Ask for every level."""
        return [self._level(mesh, replicate) for mesh in self.hierarchy.meshes]

    def _level(self, mesh: Mesh, replicate: int) -> Pair:
        made = self.make(mesh.n, replicate)
        if not isinstance(made, Sequence) or len(made) != 2:
            raise InputError(
                f"`data` must return (input, target) for n={mesh.n}; got {shortened(made)}"
            )
        x, y = made
        x = torch.as_tensor(x)
        if not bool(torch.isfinite(x).all()):
            raise InputError(f"`data` inputs must be finite; got NaN or infinity for n={mesh.n}")
        return x, torch.as_tensor(y) if isinstance(y, np.ndarray) else y

    def describe(self) -> dict[str, Any]:
        """Name the callable."""
        name = getattr(self.make, "__qualname__", type(self.make).__qualname__)
        return {"data": "callable", "callable": name}
