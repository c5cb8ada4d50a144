"""From the arguments of an audit or a diagnosis to its meshes and data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv.errors import InputError, shortened
from gradconv.mesh import MeshHierarchy, read_levels
from gradconv.nn.making import first_channels
from gradconv.problem import Problem
from gradconv.samplers.base import Sampler
from gradconv.samplers.by_level import CallableSampler
from gradconv.samplers.problem import ProblemSampler
from gradconv.samplers.tensors import TensorSampler
from gradconv.sampling import GIB
from gradconv.statistics import check_levels

SIZES = {1: (16, 32, 64, 128, 256), 2: (8, 16, 32, 64, 128), 3: (4, 8, 16, 32)}
CHOICES = {
    "signal": "sobolev:3",
    "target": "identity",
    "noise": "pixel:0.5",
    "setting": "coarsening",
    "restriction": "average",
    "route": "chain",
}


def dimension(module: Any, data: Any, hierarchy: Any, dim: int | None) -> int:
    """Dimension that the arguments agree on; else the module's, else 2."""
    known = {
        "dim": dim,
        "hierarchy": hierarchy.dim if isinstance(hierarchy, MeshHierarchy) else None,
        "data": data.dim if isinstance(data, Problem) else None,
    }
    if isinstance(data, (tuple, list)) and data and isinstance(data[0], torch.Tensor):
        known["data"] = data[0].ndim - 2
    given = {name: value for name, value in known.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, bool) or value not in (1, 2, 3):
            raise InputError(f"`{name}` must have 1, 2 or 3 dimensions; got {shortened(value)}")
    if len(set(given.values())) > 1:
        raise InputError(
            f"`{' and `'.join(f'{n}`' for n in given)} must agree in dimension; "
            f"got {', '.join(str(v) for v in given.values())}"
        )
    if given:
        return int(next(iter(given.values())))
    return _dimension(module) or 2


def level_sizes(text: str) -> tuple[int, ...]:
    """Cells an axis of each level of ``A:B``, from 2^A to 2^B.

    Raises
    ------
    InputError
        If the text has another form, or fewer than four levels.
    """
    first, last = read_levels(text, fit=True)
    return tuple(2**e for e in range(first, last + 1))


def check_sample_fits(hierarchy: MeshHierarchy, channels: int, memory: float) -> None:
    """Refuse a finest mesh of which one sample, input and target, is larger than the memory.

    Parameters
    ----------
    hierarchy : MeshHierarchy
        The levels.
    channels : int
        Channels of the input.
    memory : float
        Bound in GiB.

    Raises
    ------
    InputError
        With the mesh and what it needs; nothing has been drawn.
    """
    needed = 2 * 8 * channels * float(hierarchy.finest.size) / GIB
    if needed > memory:
        raise InputError(
            f"`memory` must hold a sample on the finest mesh (n={hierarchy.finest.n}), "
            f"{needed:.3g} GiB; got {memory:g} GiB"
        )


def _dimension(module: Any) -> int | None:
    """Dimension of the first layer that tells."""
    if not isinstance(module, nn.Module):
        return None
    for layer in module.modules():
        channels = getattr(layer, "in_channels", None)
        if not isinstance(channels, int) or channels < 1:
            continue
        kernel = getattr(layer, "kernel_size", None)
        spans = len(kernel) if isinstance(kernel, tuple) else getattr(layer, "dim", None)
        if spans in (1, 2, 3):
            return int(spans)
    return None


def make_hierarchy(given: Any, dim: int, data: Any) -> MeshHierarchy:
    """The levels: as given, by halving the samples, or by default."""
    if isinstance(given, MeshHierarchy):
        found = given
    elif given is None and isinstance(data, (tuple, list)):
        found = MeshHierarchy(dim, _halved(data))
    elif given is None:
        found = MeshHierarchy(dim, SIZES[dim])
    else:
        sizes = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else None
        whole = sizes is not None and all(isinstance(n, (int, np.integer)) for n in sizes)
        if not whole:
            raise InputError(
                f"`hierarchy` must be a MeshHierarchy or the cells an axis of each level; "
                f"got {shortened(given)}"
            )
        assert sizes is not None
        found = MeshHierarchy(dim, tuple(int(n) for n in sizes))
    check_levels(len(found))
    return found


def _halved(data: Any) -> tuple[int, ...]:
    """Halve the cells of given samples, down to 8 or to an odd number."""
    sizes = [int(data[0].shape[-1])] if data and getattr(data[0], "ndim", 0) > 2 else [2]
    while sizes[0] % 2 == 0 and sizes[0] > 8:
        sizes.insert(0, sizes[0] // 2)
    if len(sizes) < 4:
        raise InputError(
            f"`data` inputs must have cells an axis that can be halved three times; got {sizes[-1]}"
        )
    return tuple(sizes)


def make_data(
    data: Any,
    choices: dict[str, Any],
    channels: int | None,
    module: nn.Module,
    meshes: MeshHierarchy,
    seed: int,
    outputs: Callable[[Problem], int | None],
) -> Sampler:
    """Data from what was given, or built in from the choices.

    Parameters
    ----------
    data, choices, channels
        As `gradconv.audit.audit` takes them; choices that are None have a default.
    module : Module
        Tells the channels, where they are not given.
    meshes : MeshHierarchy
        The levels.
    seed : int
        Of the built-in data.
    outputs : callable
        Channels of the module's output on a problem's data, None if they are the data's.

    Raises
    ------
    InputError
        If choices and data contradict each other, or either breaks a rule.
    """
    given = [name for name, value in choices.items() if value is not None]
    chosen: dict[str, Any] = {
        name: CHOICES[name] if v is None else v for name, v in choices.items()
    }
    if data is None:
        count = channels if channels is not None else first_channels(module) or 1
        problem = Problem("stencil", dim=meshes.dim, channels=count, **chosen)
        return ProblemSampler(problem, meshes, seed, outputs(problem))
    mapped = ("restriction", "route") if isinstance(data, (tuple, list)) else ()
    wrong = [name for name in given if name not in mapped]
    wrong += ["channels"] if channels is not None else []
    if wrong:
        raise InputError(f"`{wrong[0]}` belongs to the built-in data; got it together with `data`")
    if isinstance(data, Problem):
        return ProblemSampler(data, meshes, seed, outputs(data))
    if isinstance(data, (tuple, list)):
        if len(data) != 2 or not all(isinstance(t, torch.Tensor) for t in data):
            raise InputError(
                f"`data` must be (inputs, targets), two tensors; got {shortened(data)}"
            )
        return TensorSampler(data[0], data[1], chosen["restriction"], chosen["route"], meshes)
    if callable(data):
        return CallableSampler(data, meshes)
    raise InputError(
        f"`data` must be None, a Problem, (inputs, targets) or a callable; got {shortened(data)}"
    )
