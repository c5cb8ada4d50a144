"""How the compiled code lays out waves, modes and kernels in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gradconv.nn.engine.plan import AxisPlan, Plan

LANES = 16  # channels of `numba_batched` are padded to multiples: a vector in single precision
_COLUMN = 8  # modes of a row that lie together
_BLOCK = 256  # modes mixed at once, where so many fit into the cache
_CACHE = 2**18  # bytes of the input's spectrum on a block


@dataclass(frozen=True, eq=False)
class Side:
    """Transforms of one axis and one mesh (input or output) in the order the kernels want.

    `sizes` is (points, folds, points after folding, padded waves a block, padded points after
    folding, waves a block).
    """

    sizes: tuple[int, ...]
    analysis: np.ndarray  # (blocks, points after folding, waves), flat
    synthesis: np.ndarray  # (blocks, waves, padded points), flat


_sides: WeakKeyDictionary[AxisPlan, dict[tuple[bool, str], Side]] = WeakKeyDictionary()


def side(axis: AxisPlan, output: bool, dtype: np.dtype[Any]) -> Side:
    """Transforms of one axis, to the input's or from the output's mesh; made once."""
    kept = _sides.setdefault(axis, {})
    key = (output, dtype.str)
    if key not in kept:
        waves = axis.inverse if output else axis.forward
        kept[key] = _prepare_side(waves, axis.folded, dtype)
    return kept[key]


def _prepare_side(waves: np.ndarray, folded: bool, dtype: np.dtype[Any]) -> Side:
    from gradconv.nn.engine.numba_tiles import padded

    n, count = waves.shape[1:]
    folds, parities, points = (4, 2, n // 4 + 1) if folded else (1, 1, n)
    waves_each = -(-count // parities)
    r, p = padded(waves_each), padded(points)
    analysis = np.zeros((2, parities, points, r), dtype)
    synthesis = np.zeros((2, parities, r, p), dtype)
    times = np.ones(points)
    if folded:
        # Points that a symmetry maps to themselves are added twice by the folding.
        times[0] = 0.5
        times[4 * np.arange(points) == n] *= 0.5
    for parity in range(parities):
        part = waves[:, :points, parity::parities]
        analysis[:, parity, :, : part.shape[2]] = part * times[:, None]
        synthesis[:, parity, : part.shape[2], :points] = part.transpose(0, 2, 1)
    sizes = (n, folds, points, r, p, waves_each)
    return Side(sizes, analysis.reshape(-1), synthesis.reshape(-1))


@dataclass(frozen=True, eq=False)
class Modes:
    """Modes in the order of the kernels: columns of eight j2, each row by row.

    A column holds all its rows from the first to the last that has a mode of the plan in it: a few
    modes more than the plan's. Behind it there may be places that weigh nothing.
    """

    order: np.ndarray  # places of the plan's modes, (modes,)
    places: np.ndarray  # of each row in each column, as in `numba_transform`
    empty: np.ndarray  # places behind the columns
    numbers: np.ndarray  # signed j of both axes, (2, places)
    weights: np.ndarray  # of `numba_mixing.MOMENTS`, (6, places)
    cuts: np.ndarray  # ends of blocks; each is within one column
    mean: int | None  # place of the mode k = 0, if it is a constant at the output points

    @property
    def length(self) -> int:
        """Places, a multiple of 16."""
        return self.numbers.shape[1]

    @property
    def blocks(self) -> int:
        """How many blocks."""
        return len(self.cuts) - 1


def modes_of(plan: Plan, planes: int, dtype: np.dtype[Any]) -> Modes:
    """Modes of a plan; `planes` is how many spectra a block of modes has to hold in cache."""
    room = max(64, _CACHE // (2 * planes * dtype.itemsize))
    return _mode_table(plan.axes, np.atleast_1d(plan.reach).tobytes(), min(_BLOCK, room), dtype)


@lru_cache(maxsize=32)
def _mode_table(
    axes: tuple[AxisPlan, ...], rows: bytes, largest: int, dtype: np.dtype[Any]
) -> Modes:
    # Plans are made anew at each call, and are often the same.
    reach = np.frombuffer(rows, np.int64)
    if len(axes) == 2:
        plan = Plan(axes, reach)
        order, places, starts, numbers, kept = _in_columns(plan)
        w = plan.weights_at(*numbers)
    else:
        plan = Plan(axes, reach[0])
        order, places, starts, numbers, kept = _in_line(plan)
        w = plan.weights_at(numbers[0])
    w = w * kept
    j1, j2 = numbers
    cuts = [np.zeros(1, np.int64)]
    for start, end in pairwise(starts):
        pieces = -(-(end - start) // largest)
        cuts.append(start + (end - start) // 16 * np.arange(1, pieces + 1) // pieces * 16)
    return Modes(
        order,
        places,
        np.flatnonzero(~kept)[::_COLUMN],
        numbers.astype(dtype),
        np.stack([w, w * j1**2, w * j1 * j2, w * j2**2, w * j1, w * j2]).astype(dtype),
        np.concatenate(cuts),
        None if plan.mean is None else int(order[plan.mean]),
    )


def _in_columns(plan: Plan) -> tuple[np.ndarray, ...]:
    """Order, places, starts of the columns and end, numbers, and whether a place is used."""
    reach = plan.reach
    centre = len(reach) // 2
    firsts = np.arange(0, int(reach.max()), _COLUMN)
    inside = [np.flatnonzero(reach > first) for first in firsts]
    tops = np.array([rows[0] for rows in inside])
    heights = np.array([rows[-1] + 1 for rows in inside]) - tops
    room = heights + heights % 2  # whole vectors
    # Rows to spare, for what is not kept; and no power of two between the channels, whose lines
    # would share a set.
    room[-1] += 2 + 2 * ((room.sum() + 2) * _COLUMN % 512 == 0)
    starts = _COLUMN * np.append(0, np.cumsum(room))
    length = int(starts[-1])
    places = np.full((len(reach) + 1, len(firsts) + len(firsts) % 2), length - _COLUMN)
    kept = np.zeros(length, bool)
    for n, (top, height, start) in enumerate(zip(tops, heights, starts[:-1], strict=True)):
        places[top : top + height, n] = start + _COLUMN * np.arange(height)
        kept[start : start + _COLUMN * height] = True
    row, column = plan.kept
    order = places[row + centre, column // _COLUMN] + column % _COLUMN
    lanes = np.arange(_COLUMN)
    columns = list(zip(tops - centre, firsts, room, strict=True))
    j1 = np.concatenate([np.repeat(top + np.arange(n), _COLUMN) for top, _, n in columns])
    j2 = np.concatenate([np.tile(first + lanes, n) for _, first, n in columns])
    return order, places, starts, np.stack([j1, j2]), kept


def _in_line(plan: Plan) -> tuple[np.ndarray, ...]:
    """The same on one axis, one mode after the other; its number is the first, the second is 0."""
    count = plan.modes
    length = -(-count // 16) * 16
    length += 16 * (length % 512 == 0)
    place = np.arange(length)
    numbers = np.stack([place, np.zeros_like(place)])
    return place[:count], np.empty((0, 0), np.int64), np.array([0, length]), numbers, place < count


@dataclass(frozen=True, eq=False)
class Table:
    """Waves and modes of a plan for `numba_batched`; a line is a field of one column.

    Waves are those of the input's mesh and of the output's, of each axis.
    """

    analysis: tuple[tuple[np.ndarray, np.ndarray], ...]  # (2, J + 1, n)
    synthesis: tuple[tuple[np.ndarray, np.ndarray], ...]  # (n, 2, J + 1)
    numbers: np.ndarray  # signed j of both axes, (2, modes)
    weights: np.ndarray  # how many modes each stands for, (modes,)


@lru_cache(maxsize=32)
def table_of(plan: Plan, dtype: np.dtype[Any]) -> Table:
    """Tables of a plan; made once, as plans are."""
    one = np.array([[[1.0]], [[0.0]]])
    meshes = []
    for output in (False, True):
        waves = [a.inverse if output else a.forward for a in plan.axes]
        meshes.append(waves + [one] * (2 - plan.dim))
    analysis = [[np.ascontiguousarray(w.transpose(0, 2, 1), dtype) for w in m] for m in meshes]
    synthesis = [[np.ascontiguousarray(w.transpose(1, 0, 2), dtype) for w in m] for m in meshes]
    kept = [*plan.kept, *[np.zeros_like(plan.kept[-1])] * (2 - plan.dim)]
    return Table(
        tuple((a, b) for a, b in analysis),
        tuple((a, b) for a, b in synthesis),
        np.stack(kept),
        plan.weights.astype(dtype),
    )


def padded(channels: int) -> int:
    """Channels with those that fill the last vector."""
    return -(-channels // LANES) * LANES


def array_of(x: Tensor) -> np.ndarray:
    """Numbers of a tensor, one after the other in memory."""
    return x.detach().contiguous().numpy()


class Kernels:
    """Kernels of all channel pairs as the compiled code wants them; a line is 2-D with j2 = 0."""

    def __init__(self, coefficients: Tensor, quadratic: Tensor, drift: Tensor, plan: Plan) -> None:
        from gradconv.nn.engine import numba_exponentials

        exponentials: Any = numba_exponentials  # typed by numba
        c, q, b = (array_of(v) for v in (coefficients, quadratic, drift))
        self.dim, self.columns = plan.dim, c.shape[3]
        lengths = tuple(a.length for a in plan.axes)
        if plan.dim == 1:
            lengths = (*lengths, 1.0)
            q = np.concatenate([q, np.zeros((*q.shape[:3], 2), q.dtype)], axis=3)
            b = np.concatenate([b, np.zeros_like(b)], axis=3)
        k1, k2 = (2.0 * np.pi / v for v in lengths)
        self.scale = np.array([1.0, k1, k2, k1 * k1, k1 * k2, k2 * k2])
        self.prepared = np.empty((*c.shape[:3], exponentials.PREPARED), c.dtype)
        flaw = exponentials.prepare(
            np.ascontiguousarray(q).reshape(-1, 3),
            np.ascontiguousarray(b).reshape(-1, 2),
            *lengths,
            exponentials.rows_together(c.itemsize),
            self.prepared.reshape(-1, exponentials.PREPARED),
        )
        full = {1: 1, 2: 3, 3: 6}[self.columns] if plan.dim == 1 else self.columns
        self.coefficients = np.zeros((*c.shape[:3], full), c.dtype)
        self.coefficients[..., self._places] = c * self.scale[self._places]
        self.coefficients[..., 0] += flaw.reshape(c.shape[:3])
        self.amplitude = c[..., 0]

    @property
    def _places(self) -> list[int]:
        """Where the plan's monomials are among 1, k1, k2, k1², k1k2, k2²."""
        return [[0, 1, 3], list(range(6))][self.dim - 1][: self.columns]

    @property
    def plain(self) -> bool:
        """Whether a symbol is an amplitude times an exponential."""
        return self.coefficients.shape[2:] == (1, 1)

    def gradients(self, moments: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """By coefficients, quadratic and drift from the moments, ``(O, I, E, 1 or 2, 6)``."""
        one, k1, k2, k11, k12, k22 = (self.scale[i] for i in range(6))
        by = moments[..., 0, :]
        own = by * self.amplitude[..., None] if self.plain else moments[..., 1, :]
        monomials = by[..., [0, 4, 5, 1, 2, 3]] * np.array([one, k1, k2, -k11, -k12, -k22])
        quadratic = own[..., 1:4] * np.array([-k11, -2.0 * k12, -k22])
        drift = own[..., 4:6] * np.array([k1, k2])
        if self.dim == 1:
            quadratic, drift = quadratic[..., :1], drift[..., :1]
        found = (monomials[..., self._places], quadratic, drift)
        c, q, b = (torch.from_numpy(v.astype(self.prepared.dtype)) for v in found)
        return c, q, b

    def by_rows(self, groups: int, turned: bool) -> tuple[np.ndarray, np.ndarray]:
        """Prepared kernels and coefficients, ``(columns, groups, terms, in, out)``; or out, in."""
        found = []
        for values in (self.prepared, self.coefficients):
            v = values.reshape(groups, -1, *values.shape[1:])
            v = v.transpose(4, 0, 3, 1, 2) if turned else v.transpose(4, 0, 3, 2, 1)
            rows = np.zeros((*v.shape[:3], *map(padded, v.shape[3:])), v.dtype)
            rows[..., : v.shape[3], : v.shape[4]] = v
            found.append(rows)
        return found[0], found[1]
