"""Gradients of all levels and sample paths, as short vectors with the same inner products.

The R·L gradients of a parameter tensor span at most R·L dimensions. A QR factorisation
replaces each by its R·L coordinates in an orthonormal basis, so that norms, means, covariances and
cosines are those of the full gradients. It is taken of the coarsest gradients and of the gaps
(Householder's errors are relative to each column): a gap far below the gradients keeps its digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gradconv.audit.memory import EXPLAINED, MARGIN, finest_step_bytes
from gradconv.audit.subject import Subject
from gradconv.errors import InputError
from gradconv.samplers import Sampler
from gradconv.sampling import GIB

ROWS = 2**14  # coordinates factorised at once
STEPS_OF_ROUNDING = 8.0  # size of the disturbance that measures rounding, in epsilons
ROUNDING_KEY = 2**21

Tick = Callable[[], None]


@dataclass(frozen=True)
class Gradients:
    """Gradients of each parameter tensor.

    Parameters
    ----------
    paths : dict
        By parameter name, shape ``(replicates, levels, p')`` with p' at most replicates × levels;
        isometric to the full gradients.
    magnitude : dict
        By parameter name, shape ``(levels,)``: rounding errors of a gradient are some multiple of
        machine epsilon times this.
    passes : int
        How often all gradients were computed to stay within the memory.
    """

    paths: dict[str, np.ndarray]
    magnitude: dict[str, np.ndarray]
    passes: int


@dataclass(frozen=True)
class Scheme:
    """How the gradients fit into the memory.

    Parameters
    ----------
    replicates : int
        Sample paths.
    columns : int
        Gradient components that are held at once, of every path and level.
    passes : int
        Times that all gradients are computed.
    needed : float
        Bytes that everything but those components takes, by estimate.
    """

    replicates: int
    columns: int
    passes: int
    needed: float


def plan(
    subject: Subject, data: Sampler, replicates: int, memory: float, explain: bool = False
) -> Scheme:
    """Fit the gradients into the memory.

    Parameters
    ----------
    subject : Subject
        The module.
    data : Sampler
        Its inputs and targets.
    replicates : int
        Sample paths.
    memory : float
        Bound in bytes on what the audit holds beyond the module that was given.
    explain : bool
        Whether causes are looked for afterwards, which takes more than a gradient.

    Raises
    ------
    InputError
        If the memory cannot hold one gradient on the finest mesh and the results; the number
        that is needed is named.
    """
    sizes = [_components(p) for p in subject.parameters.values()]
    total, vectors = sum(sizes), replicates * len(subject.meshes)
    margin = EXPLAINED if explain else MARGIN
    step = margin * finest_step_bytes(subject, data, memory / margin, explain)
    itemsize = torch.finfo(subject.dtype).bits // 8
    copies = (5 * itemsize + 8) * total + itemsize * total * len(set(map(id, subject.modules)))
    results = 8 * vectors * sum(min(size, vectors) for size in sizes)
    work = 3 * 8 * vectors * (min(ROWS, max(sizes)) + 2 * vectors)
    needed = step + copies + 3.0 * results + work + data.bytes_per_path
    left = int((memory - needed) // (8 * vectors))
    if left < 1:
        raise InputError(
            f"`memory` must hold one gradient on the finest mesh and the results, about "
            f"{(needed + 8 * vectors) / GIB:.3g} GiB here; got {memory / GIB:.3g} GiB"
        )
    columns = min(left, total)
    return Scheme(replicates, columns, -(-total // columns), needed)


def _components(parameter: torch.Tensor) -> int:
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def measure(subject: Subject, data: Sampler, scheme: Scheme, step: Tick) -> Gradients:
    """Compute the gradients of all paths on all levels, and measure their rounding.

    Parameters
    ----------
    subject : Subject
        The module.
    data : Sampler
        Its inputs and targets.
    scheme : Scheme
        From `plan`.
    step : callable
        Called after each path.
    """
    names = list(subject.parameters)
    sizes = [_components(p) for p in subject.parameters.values()]
    ends = np.cumsum(sizes)
    levels = len(subject.meshes)
    factors: dict[str, np.ndarray] = {}
    norms = np.zeros((len(names), scheme.replicates, levels))
    for start in range(0, int(ends[-1]), scheme.columns):
        stop = min(start + scheme.columns, int(ends[-1]))
        block = np.empty((scheme.replicates, levels, stop - start))
        for replicate in range(scheme.replicates):
            for level, (x, y) in enumerate(data.path(replicate)):
                found = subject.gradient(level, x, y, replicate)
                flat = torch.cat([found[name] for name in names])
                block[replicate, level] = flat[start:stop].double().cpu().numpy()
                if start == 0:
                    norms[:, replicate, level] = [
                        float(torch.linalg.vector_norm(found[n].double())) for n in names
                    ]
            step()
        for name, end, size in zip(names, ends, sizes, strict=True):
            first, last = max(start, int(end) - size), min(stop, int(end))
            if first < last:
                piece = block[..., first - start : last - start]
                factors[name] = compressed(factors.get(name), piece)
        del block
    shape = (scheme.replicates, levels, -1)
    paths = {name: from_gaps(factors[name].reshape(shape)) for name in names}
    rounding = _rounding(subject, data)
    magnitude = {
        name: np.maximum(norms[i].max(axis=0), rounding[name]) for i, name in enumerate(names)
    }
    return Gradients(paths, magnitude, scheme.passes)


def to_gaps(gradients: np.ndarray) -> np.ndarray:
    """Coarsest gradient, then the gaps, along the second axis."""
    return np.concatenate([gradients[:, :1], np.diff(gradients, axis=1)], axis=1)


def from_gaps(gaps: np.ndarray) -> np.ndarray:
    """Undo `to_gaps`."""
    return np.asarray(np.cumsum(gaps, axis=1))


def compressed(factor: np.ndarray | None, gradients: np.ndarray) -> np.ndarray:
    """Append components to the coarsest gradients and gaps, in as many coordinates as vectors.

    Parameters
    ----------
    factor : ndarray or None
        Coarsest gradients and gaps so far, shape ``(N, p')`` with N = replicates × levels.
    gradients : ndarray
        Further components of the gradients, shape ``(replicates, levels, p)``.

    Returns
    -------
    ndarray
        Shape ``(N, at most N)``, all inner products as in the joined vectors.
    """
    count = gradients.shape[0] * gradients.shape[1]
    for start in range(0, gradients.shape[2], ROWS):
        # a copy of few components at a time: the whole would take the memory twice
        piece = to_gaps(gradients[..., start : start + ROWS]).reshape(count, -1)
        joined = piece if factor is None else np.concatenate([factor, piece], axis=1)
        factor = joined
        if joined.shape[1] > count:
            factor = np.asarray(np.linalg.qr(joined.T, mode="r")).T
    assert factor is not None
    return np.ascontiguousarray(factor)


def joined(members: list[np.ndarray]) -> np.ndarray:
    """Gradients of several tensors as one, shape ``(replicates, levels, p')``."""
    replicates, levels = members[0].shape[:2]
    factor: np.ndarray | None = None
    for member in members:
        factor = compressed(factor, member)
    assert factor is not None
    return from_gaps(factor.reshape(replicates, levels, -1))


def _rounding(subject: Subject, data: Sampler) -> dict[str, np.ndarray]:
    """How far gradients move, in epsilons, if the input moves by a rounding error.

    Terms may cancel inside a module, so that the size of its gradient bounds no rounding error.
    """
    epsilon = STEPS_OF_ROUNDING * torch.finfo(subject.dtype).eps
    moved: dict[str, list[float]] = {name: [] for name in subject.parameters}
    for level, (x, y) in enumerate(data.path(0)):
        x = subject.place(x)
        generator = torch.Generator().manual_seed(ROUNDING_KEY + level)
        signs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
        near = x * (1 + epsilon * signs) if x.is_floating_point() else x
        first = subject.gradient(level, x, y, 0)
        second = subject.gradient(level, near, y, 0)
        for name, gradient in first.items():
            distance = torch.linalg.vector_norm((second[name] - gradient).double())
            moved[name].append(float(distance) / epsilon)
    return {name: np.array(values) for name, values in moved.items()}
