"""The main job: gradients of a problem on every level of a hierarchy, and their rates."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.backend import Backend
from gradconv.errors import InputError
from gradconv.gradient import (
    FourierGradient,
    InputSource,
    autograd_gradients,
    expected_gradients,
    has_expectation,
)
from gradconv.mesh import FourierGrid, MeshHierarchy
from gradconv.problem import Problem
from gradconv.rates import Rate
from gradconv.statistics import DISAGREEMENT, QUANTITIES, GradientSample, check_levels

if TYPE_CHECKING:
    import xarray as xr

GIB = 2**30
# Replicates are worked on in batches of about this many numbers: they then stay in the cache.
BATCH_NUMBERS = 2**17

Progress = Callable[[int, int], None]
Checkpoint = Callable[[np.ndarray], None]


@dataclass(frozen=True, eq=False)
class Sweep:
    """Gradients of one problem over a hierarchy and what follows from them.

    Parameters
    ----------
    problem : Problem
        The problem.
    hierarchy : MeshHierarchy
        The levels.
    seed : int
        Seed of all streams.
    backend : Backend
        Device and precision of the sampled gradients.
    sample : GradientSample
        The scaled gradients.
    confidence : float
        Level of the intervals.
    """

    problem: Problem
    hierarchy: MeshHierarchy
    seed: int
    backend: Backend
    sample: GradientSample
    confidence: float = 0.95
    notes: tuple[str, ...] = field(default=())

    def rate(self, quantity: str) -> Rate:
        """Signed order, interval, window and verdict of a quantity.

        Parameters
        ----------
        quantity : {"level_norm", "mean_gap", "rms_gap", "variance"}
            What to fit.
        """
        return self.rates[quantity]

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """The rate of every quantity."""
        h = self.hierarchy.h
        return {q: self.sample.rate(h, q, self.confidence, self.seed) for q in QUANTITIES}

    def mesh_sizes(self, quantity: str) -> np.ndarray:
        """H of each value of a quantity: gaps belong to the finer of their two levels."""
        return self.hierarchy.h if quantity == "level_norm" else self.hierarchy.h[1:]

    @cached_property
    def data(self) -> xr.Dataset:
        """Labelled results: gradients of each path and the quantities with standard errors.

        Dimensions ``replicate``, ``level`` and ``parameter``; gaps of level 0 are NaN.
        """
        import xarray as xr

        unit = {"units": "loss per scaled parameter"}
        levels = len(self.hierarchy)
        variables: dict[str, Any] = {
            "gradient": (
                ("replicate", "level", "parameter"),
                self.sample.gradients,
                {"long_name": "scaled parameter gradient of each sample path", **unit},
            ),
        }
        if self.sample.expected is not None:
            variables["expected_gradient"] = (
                ("level", "parameter"),
                self.sample.expected,
                {"long_name": "exact mean of the gradient", **unit},
            )
        series = {q: self.sample.series(q) for q in QUANTITIES}
        series["cosine"] = self.sample.cosine()
        for name, (values, errors) in series.items():
            pad = (levels - len(values), 0)
            units = {"variance": "(loss per scaled parameter)^2", "cosine": "1"}
            label = {"long_name": LONG_NAMES[name], "units": units.get(name, unit["units"])}
            for suffix, array in (("", values), ("_stderr", errors)):
                padded = np.pad(np.asarray(array, dtype=float), pad, constant_values=np.nan)
                attributes = dict(label)
                if suffix:
                    attributes["long_name"] = f"standard error of {label['long_name']}"
                variables[name + suffix] = ("level", padded, attributes)
        return xr.Dataset(
            variables,
            coords={
                "level": ("level", np.arange(levels), {"long_name": "level, 0 is the coarsest"}),
                "h": ("level", self.hierarchy.h, {"long_name": "mesh size", "units": "box"}),
                "n": ("level", np.array(self.hierarchy.sizes), {"long_name": "cells an axis"}),
                "replicate": ("replicate", np.arange(self.sample.replicates)),
                "parameter": ("parameter", parameter_names(self.problem)),
            },
            attrs={
                **{k: v for k, v in self.problem.describe().items()},
                "seed": self.seed,
                "dtype": self.backend.dtype,
                "device": self.backend.device,
                "notes": "; ".join(self.notes),
            },
        )


LONG_NAMES = {
    "level_norm": "norm of the mean gradient",
    "mean_gap": "norm of the mean gap between a level and the next coarser one",
    "rms_gap": "root mean square gap between a level and the next coarser one",
    "variance": "variance of the gap",
    "cosine": "cosine of the mean gradient to the finest level's",
}


def parameter_names(problem: Problem) -> list[str]:
    """Names of all gradient components; with several channels they start with out,in."""
    names = problem.convolution.parameter_names
    if problem.channels == 1:
        return list(names)
    pairs = [(o, i) for o in range(problem.channels) for i in range(problem.channels)]
    return [f"{o},{i}:{name}" for o, i in pairs for name in names]


def sweep(
    problem: Problem,
    hierarchy: MeshHierarchy,
    *,
    replicates: int = 64,
    seed: int = 0,
    dtype: str = "float64",
    device: str = "cpu",
    memory: float = 4 * GIB,
    threads: int = 1,
    confidence: float = 0.95,
    progress: Progress | None = None,
    done: np.ndarray | None = None,
    checkpoint: Checkpoint | None = None,
) -> Sweep:
    """Sweep a problem over the levels of a hierarchy.

    Parameters
    ----------
    problem : Problem
        The problem.
    hierarchy : MeshHierarchy
        At least 4 levels.
    replicates : int
        Sample paths, at least 2 (a deterministic problem has just one).
    seed : int
        Not negative. The same seed gives the same bits on the CPU for any `memory` and `threads`;
        more replicates or coarser levels leave those already there unchanged, and so do finer
        levels in the refinement setting.
    dtype : {"float64", "float32"}
        Precision of the sampled gradients; expectations are always float64.
    device : str
        ``"cpu"`` or a torch device.
    memory : float
        Bound on what the sweep holds at once, in bytes.
    threads : int
        Worker threads.
    confidence : float
        Level of the intervals.
    progress : callable, optional
        Called with (replicates done, replicates).
    done : ndarray, optional
        Gradients of the first replicates from an earlier, interrupted call.
    checkpoint : callable, optional
        Called with the gradients of the first replicates each time more of them are done.

    Returns
    -------
    Sweep
        The results; ``.data`` is an `xarray.Dataset`, ``.rate(quantity)`` a `Rate`.

    Raises
    ------
    InputError
        Before any work, if an argument breaks a rule.

    Examples
    --------
    >>> from gradconv import MeshHierarchy, Problem, sweep
    >>> problem = Problem(
    ...     "stencil", signal="band-limited:3", noise="white:0.1", setting="refinement", dim=1
    ... )
    >>> result = sweep(problem, MeshHierarchy.powers_of_two(1, 6, 11), replicates=8)
    >>> rate = result.rate("mean_gap")
    >>> f"{rate.order:.2f} {rate.verdict}"
    '-1.00 diverges'
    """
    backend = Backend(device, dtype)
    _check_numbers(replicates, seed, memory, threads, confidence)
    check_levels(len(hierarchy))
    problem.check(hierarchy)
    if problem.deterministic:
        replicates = 1
    batch = _batch_size(problem, hierarchy, backend, memory, threads)
    with _single_threaded_blas():
        gradients = _sample(
            problem,
            hierarchy,
            seed,
            backend,
            replicates,
            batch,
            threads,
            progress,
            done,
            checkpoint,
        )
        expected, magnitude = _expectation(problem, hierarchy, seed, gradients)
    epsilon = backend.epsilon if not problem.deterministic else np.finfo(float).eps
    sample = GradientSample(gradients, expected, magnitude, float(epsilon))
    notes = _notes(problem, hierarchy, sample)
    return Sweep(problem, hierarchy, seed, backend, sample, confidence, notes)


def _check_numbers(
    replicates: int, seed: int, memory: float, threads: int, confidence: float
) -> None:
    for name, value, least in (
        ("replicates", replicates, 2),
        ("seed", seed, 0),
        ("threads", threads, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"`{name}` must be a whole number of at least {least}; got {value!r}")
    if not memory > 0:
        raise InputError(f"`memory` must be positive; got {memory!r}")
    if not 0 < confidence < 1:
        raise InputError(f"`confidence` must lie between 0 and 1; got {confidence!r}")


def _single_threaded_blas() -> Any:
    # a threaded matrix product may sum in another order: the bits would depend on the machine
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _expectation(
    problem: Problem, hierarchy: MeshHierarchy, seed: int, gradients: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    if has_expectation(problem):
        expected, magnitude = expected_gradients(problem, hierarchy, seed)
        scaled = (expected * problem.convolution.scale).reshape(len(hierarchy), -1)
        return scaled, magnitude
    # no bound on the terms without the expectation: the largest gradient stands in for it
    return None, np.linalg.norm(gradients, axis=-1).max(axis=0)


def _notes(problem: Problem, hierarchy: MeshHierarchy, sample: GradientSample) -> tuple[str, ...]:
    notes = []
    coarse = [n for n in hierarchy.sizes if problem.convolution.unresolved(1.0 / n)]
    if coarse:
        why = problem.convolution.unresolved(1.0 / coarse[0])
        notes.append(f"not resolved up to n={coarse[-1]}: {why}")
    if problem.restriction.name == "bilinear_corners":
        notes.append("bilinear_corners depends on the position: no power law is to be expected")
    if problem.setting == "coarsening" and not problem.signal.refinable:
        notes.append("an image has no limit h -> 0: orders are slopes over its own levels")
    chance = sample.disagreement()
    if chance < DISAGREEMENT:
        notes.append(f"sampled and exact mean gradients disagree (p = {chance:.1e})")
    return tuple(notes)


def _batch_size(
    problem: Problem, hierarchy: MeshHierarchy, backend: Backend, memory: float, threads: int
) -> int:
    """Replicates worked on at once by a thread, within the memory bound."""
    size, channels = hierarchy.finest.size, problem.channels
    source = problem.source_mesh(hierarchy.finest).size
    kernel = problem.convolution
    grids = [FourierGrid(mesh, kernel.cutoff()) for mesh in hierarchy.meshes]
    operators = sum(kernel.operator_bytes(g) for g in grids)
    # clean signal and target of every level; spectra of noise, signal and cross term
    shared = 8 * problem.signal.members * 4 * channels * source if not problem.signal.random else 0
    moments = 8 * (10 * source + (4 + 2 * channels**2) * size)
    per_path = 8 * (6 * channels + 2 * channels**2) * size
    if problem.signal.random:
        per_path += 8 * 8 * channels * source
    fixed = operators + shared
    needed = fixed + max(moments, threads * per_path)
    if needed > memory:
        raise InputError(
            f"`memory` must hold one replicate a thread on the finest mesh, about "
            f"{needed / GIB:.3g} GiB here; got {memory / GIB:.3g} GiB"
        )
    fits = int((memory - fixed) // (threads * per_path))
    return max(1, min(fits, BATCH_NUMBERS // (size * channels)))


def _sample(
    problem: Problem,
    hierarchy: MeshHierarchy,
    seed: int,
    backend: Backend,
    replicates: int,
    batch: int,
    threads: int,
    progress: Progress | None,
    done: np.ndarray | None,
    checkpoint: Checkpoint | None,
) -> np.ndarray:
    source = InputSource(problem, hierarchy, seed)
    compute = _Gradients(problem, source, backend)
    size = len(parameter_names(problem))
    gradients = np.empty((replicates, len(hierarchy), size))
    start = 0
    if done is not None:
        start = min(len(done), replicates)
        gradients[:start] = done[:start]
    if progress is not None:
        progress(start, replicates)
    for finished in _run_batches(compute, gradients, start, batch, threads):
        if checkpoint is not None:
            checkpoint(gradients[:finished])
        if progress is not None:
            progress(finished, replicates)
    if not np.all(np.isfinite(gradients)):
        bad = int(np.flatnonzero(~np.isfinite(gradients).all(axis=(1, 2)))[0])
        raise InputError(
            f"`dtype` {backend.dtype} must hold the gradients of the problem; got overflow or NaN "
            f"in replicate {bad}"
        )
    return gradients


class _Gradients:
    """Scaled gradients of given replicates on every level."""

    def __init__(self, problem: Problem, source: InputSource, backend: Backend) -> None:
        self.problem, self.source, self.backend = problem, source, backend
        self.engines: list[FourierGradient] = []
        self.targets: list[Any] = []
        if problem.boundary != "periodic":
            return
        meshes = source.hierarchy.meshes
        self.engines = [FourierGradient(problem.convolution, mesh, backend) for mesh in meshes]
        if not problem.signal.random and problem.signal.members == 1:
            _, targets = source.members[0]
            self.targets = [
                engine.spectrum(backend.array(y[None]))
                for engine, y in zip(self.engines, targets, strict=True)
            ]

    def __call__(self, replicates: range) -> np.ndarray:
        inputs = self.source.sample(replicates)
        parts = []
        for level, data in enumerate(inputs):
            if self.engines:
                engine = self.engines[level]
                x = engine.spectrum(self.backend.array(data.x))
                if self.targets:
                    y = self.targets[level]
                else:
                    y = engine.spectrum(self.backend.array(data.y))
                gradient = self.backend.numpy(engine.gradient(x, y))
            else:
                mesh = self.source.hierarchy.meshes[level]
                gradient = autograd_gradients(
                    self.problem.convolution,
                    mesh,
                    data.x,
                    data.y,
                    self.problem.boundary,
                    self.backend.device,
                    self.backend.dtype,
                )
            scaled = gradient * self.problem.convolution.scale
            parts.append(scaled.reshape(len(replicates), -1))
        return np.stack(parts, axis=1)


def _run_batches(
    compute: _Gradients, gradients: np.ndarray, start: int, batch: int, threads: int
) -> Iterator[int]:
    """Fill `gradients` from `start` on; yields how many of the first replicates are complete."""
    replicates = len(gradients)
    cuts = range(start, replicates, batch)
    pieces = [range(a, min(a + batch, replicates)) for a in cuts]
    if threads == 1:
        for piece in pieces:
            gradients[piece.start : piece.stop] = compute(piece)
            yield piece.stop
        return
    pool = ThreadPoolExecutor(threads)
    try:
        pending: dict[Future[np.ndarray], range] = {}
        complete = start
        finished: dict[int, int] = {}
        for piece in pieces:
            pending[pool.submit(compute, piece)] = piece
            if len(pending) < threads:
                continue
            complete = yield from _collect(pending, gradients, finished, complete)
        while pending:
            complete = yield from _collect(pending, gradients, finished, complete)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    pending: dict[Future[np.ndarray], range],
    gradients: np.ndarray,
    finished: dict[int, int],
    complete: int,
) -> Generator[int, None, int]:
    ready, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in ready:
        piece = pending.pop(future)
        gradients[piece.start : piece.stop] = future.result()
        finished[piece.start] = piece.stop
    before = complete
    while complete in finished:
        complete = finished.pop(complete)
    if complete > before:
        yield complete
    return complete
