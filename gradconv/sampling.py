"""Gradients of many sample paths on every level, in batches and tasks, within a memory bound."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from gradconv.backend import Backend
from gradconv.errors import InputError, check_gib, check_whole
from gradconv.gradient import FourierGradient, InputSource, autograd_gradients
from gradconv.mesh import FourierGrid, MeshHierarchy
from gradconv.parallel import compute
from gradconv.problem import Problem

GIB = 2**30
# Replicates are worked on in batches of about this many numbers: they then stay in the cache.
BATCH_NUMBERS = 2**17
# A task for a worker is about this many, a tenth of a second or more.
TASK_NUMBERS = 2**21
# glibc hands freed memory back to the system, and every batch pays for its pages anew, unless an
# array of nearly 32 MiB has once been freed: then it keeps what it has. (Elsewhere: no effect.)
ALLOCATOR_HINT = 2**25 - 2**16

Progress = Callable[[int, int], None]
Checkpoint = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class SamplingPlan:
    """How the sample paths of a problem are worked through.

    Parameters
    ----------
    replicates : int
        Sample paths.
    seed : int
        Seed of all streams.
    backend : Backend
        Device and precision.
    threads : int
        Worker threads.
    batch : int
        Replicates that a thread works on at once.
    """

    replicates: int
    seed: int
    backend: Backend
    threads: int
    batch: int


def plan_sampling(
    problem: Problem,
    hierarchy: MeshHierarchy,
    *,
    replicates: int,
    seed: int,
    dtype: str,
    device: str,
    memory: float,
    threads: int,
) -> SamplingPlan:
    """Check the numbers of a sweep and fit its batches into the memory; nothing is drawn.

    Raises
    ------
    InputError
        If a number breaks its rule, or the memory cannot hold one replicate a thread.
    """
    replicates = check_whole("replicates", replicates, 2, 10**40)
    seed = check_whole("seed", seed, 0, 2**128)
    threads = check_whole("threads", threads, 1, 1024)
    check_gib(memory)
    backend = Backend(device, dtype)
    replicates = 1 if problem.deterministic else replicates
    batch = _batch_size(problem, hierarchy, replicates, memory * GIB, threads)
    return SamplingPlan(replicates, seed, backend, threads, batch)


def parameter_names(problem: Problem) -> list[str]:
    """Names of all gradient components; with several channels they start with out,in."""
    names = problem.convolution.parameter_names
    if problem.channels == 1:
        return list(names)
    pairs = [(o, i) for o in range(problem.channels) for i in range(problem.channels)]
    return [f"{o},{i}:{name}" for o, i in pairs for name in names]


def _batch_size(
    problem: Problem, hierarchy: MeshHierarchy, replicates: int, room: float, threads: int
) -> int:
    """Replicates worked on at once by a thread, within a bound in bytes."""
    size, channels = hierarchy.finest.size, problem.channels
    source = problem.source_mesh(hierarchy.finest).size
    kernel = problem.convolution
    grids = [FourierGrid(mesh, kernel.cutoff()) for mesh in hierarchy.meshes]
    operators = sum(kernel.operator_bytes(g) for g in grids)
    # clean signal and target of every level; spectra of noise, signal and cross term
    shared = 8 * problem.signal.members * 5 * channels * source if not problem.signal.random else 0
    moments = 8 * (10 * source + (4 + 2 * channels**2) * size)
    # measured peaks of each path, with a margin of about a tenth
    per_path = 8 * (7 * channels + 2 * channels**2) * size
    if problem.signal.random:  # complex modes on the closed box, drawn, mirrored and laid out
        per_path += 8 * (20 if problem.setting == "refinement" else 8) * channels * source
    if problem.boundary != "periodic":  # autograd's graph, on a doubled box but for stencils
        doubled = 2**problem.dim if kernel.doubles else 1
        per_path += 8 * 22 * channels**2 * doubled * size
    if not problem.noise.gaussian:  # the uniform field and what its transform holds
        per_path += 8 * 4 * size
    # the gradients of all replicates and what the statistics make of them
    kept = 6 * 8 * replicates * len(hierarchy) * len(parameter_names(problem))
    fixed = operators + shared + kept
    needed = fixed + max(moments, threads * per_path)
    if needed > room:
        raise InputError(
            f"`memory` must hold one replicate a thread on the finest mesh, about "
            f"{needed / GIB:.3g} GiB here; got {room / GIB:.3g} GiB"
        )
    fits = int((room - fixed) // (threads * per_path))
    return max(1, min(fits, BATCH_NUMBERS // (size * channels)))


def sample_gradients(
    problem: Problem,
    hierarchy: MeshHierarchy,
    plan: SamplingPlan,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
    done: np.ndarray | None = None,
    checkpoint: Checkpoint | None = None,
) -> np.ndarray:
    """Scaled gradients of all sample paths on all levels.

    Parameters
    ----------
    problem : Problem
        The problem.
    hierarchy : MeshHierarchy
        The levels.
    plan : SamplingPlan
        From `plan_sampling`; batches and threads do not change a bit of the result.
    workers, scheduler, progress, done, checkpoint
        As in `gradconv.sweep`.

    Returns
    -------
    ndarray
        Shape ``(replicates, levels, parameters)``.
    """
    found = Gathering(problem, hierarchy, plan, done)
    if progress is not None:
        progress(found.complete, plan.replicates)
    if found.complete == plan.replicates:
        return found.whole()
    for replicates, part in _parts(problem, hierarchy, plan, found.complete, workers, scheduler):
        if not found.add(replicates, part):
            continue
        if checkpoint is not None:
            checkpoint(found.first)
        if progress is not None:
            progress(found.complete, plan.replicates)
    return found.whole()


class Gathering:
    """Gradients of a problem's sample paths, put together from ranges that come in any order.

    Parameters
    ----------
    problem, hierarchy, plan
        As in `sample_gradients`.
    done : ndarray, optional
        Gradients of the first replicates.
    """

    def __init__(
        self,
        problem: Problem,
        hierarchy: MeshHierarchy,
        plan: SamplingPlan,
        done: np.ndarray | None = None,
    ) -> None:
        self._dtype = plan.backend.dtype
        shape = (plan.replicates, len(hierarchy), len(parameter_names(problem)))
        self._gradients = np.empty(shape)
        self._ends: dict[int, int] = {}
        self.complete = 0
        """How many of the first replicates are there."""
        if done is not None:
            if done.shape[1:] != shape[1:]:
                raise InputError(
                    f"`done` must have shape (replicates, {shape[1]}, {shape[2]}): levels and "
                    f"parameters; got {done.shape}"
                )
            self.complete = min(len(done), plan.replicates)
            self._gradients[: self.complete] = done[: self.complete]

    def __len__(self) -> int:
        """How many replicates there will be."""
        return len(self._gradients)

    @property
    def first(self) -> np.ndarray:
        """Gradients of the first replicates, as far as they are complete."""
        return self._gradients[: self.complete]

    def add(self, replicates: range, part: np.ndarray) -> bool:
        """Put a range in its place; whether more of the first replicates are complete now."""
        self._gradients[replicates.start : replicates.stop] = part
        self._ends[replicates.start] = replicates.stop
        before = self.complete
        while self.complete in self._ends:
            self.complete = self._ends.pop(self.complete)
        return self.complete > before

    def whole(self) -> np.ndarray:
        """All gradients, shape ``(replicates, levels, parameters)``; refused if not finite."""
        finite = np.isfinite(self._gradients).all(axis=(1, 2))
        if not np.all(finite):
            raise InputError(
                f"`dtype` {self._dtype} must hold the gradients of the problem; "
                f"got overflow or NaN in replicate {int(np.flatnonzero(~finite)[0])}"
            )
        return self._gradients


class LevelGradients:
    """Scaled gradients of given replicates on every level.

    Parameters
    ----------
    problem : Problem
        The problem.
    source : InputSource
        Its inputs and targets on a hierarchy.
    backend : Backend
        Device and precision.
    """

    def __init__(self, problem: Problem, source: InputSource, backend: Backend) -> None:
        np.empty(ALLOCATOR_HINT, dtype=np.uint8)
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
        """Gradients of some replicates, shape ``(replicates, levels, parameters)``."""
        with np.errstate(over="ignore", invalid="ignore"):  # non-finite results are refused later
            return self._gradients(replicates)

    def _gradients(self, replicates: range) -> np.ndarray:
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


def _parts(
    problem: Problem,
    hierarchy: MeshHierarchy,
    plan: SamplingPlan,
    start: int,
    workers: int,
    scheduler: str | None,
) -> Iterator[tuple[range, np.ndarray]]:
    """Gradients of ranges of replicates from `start` on, as they are completed."""
    if workers > 1 or scheduler is not None:
        tasks = sampling_tasks(problem, hierarchy, plan, start)
        results = compute(sample_task, tasks, workers=workers, scheduler=scheduler)
        for index, part in results:
            yield tasks[index].replicates, part
        return
    gradients = LevelGradients(problem, InputSource(problem, hierarchy, plan.seed), plan.backend)
    pieces = _pieces(range(start, plan.replicates), plan.batch)
    if plan.threads == 1:
        for piece in pieces:
            yield piece, gradients(piece)
        return
    pool = ThreadPoolExecutor(plan.threads)
    try:
        pending: dict[Future[np.ndarray], range] = {}
        for piece in pieces:
            pending[pool.submit(gradients, piece)] = piece
            if len(pending) == plan.threads:
                yield from _completed(pending)
        while pending:
            yield from _completed(pending)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pieces(replicates: range, size: int) -> list[range]:
    cuts = range(replicates.start, replicates.stop, size)
    return [range(a, min(a + size, replicates.stop)) for a in cuts]


def _completed(pending: dict[Future[np.ndarray], range]) -> Iterator[tuple[range, np.ndarray]]:
    ready, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in ready:
        yield pending.pop(future), future.result()


# ---- sample paths as tasks for workers ----


@dataclass(frozen=True)
class SamplingTask:
    """Some sample paths of a problem, to be worked on in any process.

    Parameters
    ----------
    problem : str
        The problem's call, for messages.
    replicates : range
        The sample paths.
    setup : bytes
        Problem, hierarchy, plan, and the digest of what the signal is read from.
    """

    problem: str
    replicates: range
    setup: bytes = field(repr=False)


def sampling_tasks(
    problem: Problem, hierarchy: MeshHierarchy, plan: SamplingPlan, start: int = 0
) -> list[SamplingTask]:
    """Tasks that make up a problem's sample paths from `start` on, whoever works on them."""
    work = hierarchy.finest.size * problem.channels
    size = plan.batch * max(1, TASK_NUMBERS // (work * plan.batch))
    try:
        setup = pickle.dumps((problem, hierarchy, plan, problem.signal.fingerprint()))
    except Exception as error:  # whatever a kernel or target of the user's own raises
        raise InputError(
            f"`problem` must be such that it can be pickled for workers; got {problem!r} ({error})"
        ) from None
    return [
        SamplingTask(repr(problem), piece, setup)
        for piece in _pieces(range(start, plan.replicates), size)
    ]


def sample_task(task: SamplingTask) -> np.ndarray:
    """Gradients of a task's sample paths, shape ``(replicates, levels, parameters)``."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        gradients, batch = _set_up(task.setup)
        return np.concatenate([gradients(piece) for piece in _pieces(task.replicates, batch)])


@lru_cache(maxsize=1)  # a worker goes on with the problem that it has
def _set_up(setup: bytes) -> tuple[LevelGradients, int]:
    problem, hierarchy, plan, fingerprint = pickle.loads(setup)
    if problem.signal.fingerprint() != fingerprint:
        raise InputError(
            f"`signal` {problem.signal.spec} must be the same images on every worker; got others"
        )
    source = InputSource(problem, hierarchy, plan.seed)
    return LevelGradients(problem, source, plan.backend), plan.batch


def forget() -> None:
    """Drop what `sample_task` keeps for the next task: something else needs the memory."""
    _set_up.cache_clear()
