"""Gradients of single samples, level by level: computed in blocks, held in memory or in a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from gradconv.errors import InputError
from gradconv.multilevel.evaluator import Evaluator
from gradconv.nn.timing import torch_threads
from gradconv.parallel import Progress, compute

Array = np.ndarray
BLOCK_BYTES = 2**25  # of gradients that a worker sends back at once
BLOCK_SAMPLES = 16
COLUMNS_BYTES = 2**24  # of one array's columns that a statistic reads at once


@dataclass(frozen=True)
class Block:
    """Samples of one term.

    Parameters
    ----------
    term : int
        Fine level l; level l − 1 is the coarse one.
    first, stop : int
        Numbers of the samples.
    """

    term: int
    first: int
    stop: int


@dataclass(frozen=True)
class SampleGradients:
    """Gradients of N independent samples a term, on its two levels.

    Parameters
    ----------
    fine : tuple of ndarray
        g_l of the samples of term l, one array a level, shape ``(N, P)``.
    coarse : tuple of ndarray or None
        g_{l−1} of the same samples; None on level 0.
    columns : dict
        Columns of each parameter tensor, by name.
    shapes : dict
        Shape of each parameter tensor; complex ones have a last axis (real, imaginary).
    epsilon : float
        Machine epsilon of the arithmetic.
    """

    fine: tuple[Array, ...]
    coarse: tuple[Array | None, ...]
    columns: dict[str, slice]
    shapes: dict[str, tuple[int, ...]]
    epsilon: float

    @property
    def samples(self) -> int:
        """Samples a term."""
        return len(self.fine[0])

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.fine)

    @property
    def size(self) -> int:
        """Number of components."""
        return int(self.fine[0].shape[1])

    def pieces(self, columns: slice) -> Iterator[slice]:
        """Cut columns into pieces that fit into memory, in double precision."""
        step = max(1, COLUMNS_BYTES // (8 * self.samples))
        for start in range(columns.start, columns.stop, step):
            yield slice(start, min(start + step, columns.stop))

    def read(self, level: int, columns: slice, rows: slice = slice(None)) -> tuple[Array, Array]:
        """Fine and coarse gradients of a piece in double precision; zeros below level 0."""
        fine = np.asarray(self.fine[level][rows, columns], dtype=float)
        held = self.coarse[level]
        coarse = np.zeros_like(fine) if held is None else np.asarray(held[rows, columns], float)
        return fine, coarse

    def component(self, index: int) -> str:
        """Name of a component, such as ``layer.weight[0,1,2,0]``."""
        for name, columns in self.columns.items():
            if columns.start <= index < columns.stop:
                shape = self.shapes[name]
                place = np.unravel_index(index - columns.start, shape) if shape else ()
                return f"{name}[{','.join(str(int(i)) for i in place)}]" if shape else name
        raise IndexError(index)


def collect(
    evaluator: Evaluator,
    samples: int,
    *,
    start: int = 0,
    memory: float,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> SampleGradients:
    """Compute the gradients of `samples` samples a term: those of term l are not those of l − 1.

    Every gradient is that of a batch of one, computed with one thread, so that neither workers nor
    the size of blocks change its bits.

    Parameters
    ----------
    evaluator : Evaluator
        Model, loss and data.
    samples : int
        Samples a term, N.
    start : int
        Number of the first sample; term l has the numbers start + l N to start + (l + 1) N − 1.
    memory : float
        Bytes of gradients that are held in memory; more go to a file without a name in the
        temporary folder, which is gone when the result is, whatever ends the process.
    workers, scheduler
        As `gradconv.parallel.compute` takes them.
    progress : callable, optional
        Called with (work done, all work).

    Raises
    ------
    InputError
        If samples run dry or a level cannot be computed (the level is named), or neither memory
        nor the temporary folder has the room.
    """
    sampler, levels = evaluator.sampler, evaluator.finest + 1
    for term in range(levels):
        last = start + (term + 1) * samples - 1
        sampler.check_available([last], [term])
    if sampler.sequential and (workers > 1 or scheduler is not None):
        raise InputError(
            "`workers` must be 1 for a data loader, whose samples come once and in order; "
            f"got {workers if scheduler is None else scheduler}"
        )
    sizes = {
        name: p.numel() * (2 if p.is_complex() else 1) for name, p in evaluator.parameters.items()
    }
    ends = np.cumsum(list(sizes.values()))
    columns = {
        name: slice(int(end) - size, int(end))
        for (name, size), end in zip(sizes.items(), ends, strict=True)
    }
    shapes = {
        name: (*p.shape, 2) if p.is_complex() else tuple(p.shape)
        for name, p in evaluator.parameters.items()
    }
    kind = np.float64 if evaluator.dtype == torch.float64 else np.float32
    total = int(ends[-1])
    held = _room((2 * levels - 1, samples, total), kind, memory)
    blocks = _blocks(levels, samples, start, total)
    work = [float((b.stop - b.first) * _cells(evaluator, b.term)) for b in blocks]
    found = compute(
        partial(block_gradients, evaluator),
        blocks,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
        sizes=work,
    )
    for index, (fine, coarse, notes) in found:
        block = blocks[index]
        base = start + block.term * samples
        rows = slice(block.first - base, block.stop - base)
        held[block.term][rows] = fine
        if coarse is not None:
            held[levels + block.term - 1][rows] = coarse
        for note in notes:
            evaluator.note(note)
    return SampleGradients(
        tuple(held[:levels]),
        (None, *held[levels:]),
        columns,
        shapes,
        float(np.finfo(kind).eps),
    )


def block_gradients(
    evaluator: Evaluator, block: Block
) -> tuple[Array, Array | None, tuple[str, ...]]:
    """Gradients of the samples of a block on both levels of its term, and what was noted."""
    levels = [block.term] if block.term == 0 else [block.term, block.term - 1]
    rows: list[list[Array]] = [[] for _ in levels]
    with torch_threads(1):  # sums over several may round otherwise
        for number in range(block.first, block.stop):
            batches = evaluator.sampler.draw([number], levels)
            for row, level, batch in zip(rows, levels, batches, strict=True):
                found = evaluator.gradient(level, batch, number)
                row.append(torch.cat(list(found.values())).cpu().numpy())
    made = [np.array(row) for row in rows]
    return made[0], made[1] if len(made) > 1 else None, tuple(evaluator.notes)


def _cells(evaluator: Evaluator, term: int) -> int:
    meshes = evaluator.sampler.hierarchy.meshes
    return meshes[term].size + (meshes[term - 1].size if term else 0)


def _blocks(levels: int, samples: int, start: int, size: int) -> list[Block]:
    """Samples of all terms in the order of their numbers, which a data loader needs."""
    step = max(1, min(BLOCK_SAMPLES, BLOCK_BYTES // (16 * size)))
    return [
        Block(term, first, min(first + step, start + (term + 1) * samples))
        for term in range(levels)
        for first in range(start + term * samples, start + (term + 1) * samples, step)
    ]


def _room(shape: tuple[int, ...], kind: Any, memory: float) -> list[Array]:
    """Arrays of shape ``shape[1:]``, as many as ``shape[0]``, in memory or in a nameless file."""
    needed = int(np.prod(shape, dtype=float)) * np.dtype(kind).itemsize
    if needed <= memory:
        return list(np.zeros(shape, kind))
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        raise InputError(
            f"`memory` must hold the gradients of all samples, {needed / 2**30:.3g} GiB here, or "
            f"{folder} must have room for them; got {memory / 2**30:.3g} GiB and "
            f"{free / 2**30:.3g} GiB (fewer `samples` need less)"
        )
    with tempfile.TemporaryFile() as file:  # the map keeps it after it is closed
        return list(np.memmap(file, dtype=kind, mode="w+", shape=shape))
