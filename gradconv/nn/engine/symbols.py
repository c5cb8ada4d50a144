"""Symbols of all kernels on blocks of modes.

Where nothing is to be differentiated, exponentials along neighbouring rows of modes follow from
each other: on row k₁ + δ the exponential of a quadratic is that on row k₁ times a ratio R, and the
next ratio is R times a constant. Two products replace an exponential, a sine and a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradconv.nn.engine.pairs import Pair, Parameters, frequencies, products, squares
from gradconv.nn.engine.plan import Plan
from gradconv.nn.engine.transform import constant

# Entries of S at once: half a MiB in single precision stays in cache; a GPU wants more.
_BLOCK, _BLOCK_GPU = 2**17, 2**24
_SEGMENT = 8  # rows that follow from one: rounding grows with the square of it
_STEEPEST = 60.0  # growth along a segment, as a logarithm, that cannot lift a vanished value


class Symbols:
    """w S on blocks of modes; differentiable in the kernels."""

    def __init__(self, p: Parameters, plan: Plan, like: Tensor) -> None:
        self.plan = plan
        self.squares = constant(plan, squares, like)
        self.k = constant(plan, frequencies, like)
        self.products = constant(plan, products, like)
        ones = torch.ones_like(p.lanes(p.drift, 0)[:1])
        terms = range(p.terms)
        # The weights ride along in the exponent.
        self.quadratic = [torch.cat([p.lanes(p.quadratic, t), ones]) for t in terms]
        self.drift = [p.lanes(p.drift, t) for t in terms]
        self.coefficients = [p.lanes(p.coefficients, t) for t in terms]
        self.matrix = (-1, p.drift.shape[1], p.drift.shape[0] // p.groups)

    def pieces(self) -> list[Piece]:
        """Cut the modes into pieces that stay in cache."""
        lanes, here = self.drift[0].shape[1], self.k.device.type == "cpu"
        if not here or self.plan.dim == 1 or torch.is_grad_enabled() or self._steep():
            step = max(1, (_BLOCK if here else _BLOCK_GPU) // max(lanes, 1))
            modes = range(self.plan.modes)
            return [Piece(slice(i, modes[i : i + step].stop)) for i in modes[::step]]
        return _segments(self.plan)

    def exponentials(self, piece: Piece) -> list[Pair]:
        """w exp(−kᵀAk + ib·k) of each term, parts ``(modes, lanes)``."""
        if piece.rows:
            return [self._followed(piece, term) for term in range(len(self.drift))]
        cut, found = piece.cut, []
        for quadratic, drift in zip(self.quadratic, self.drift, strict=True):
            size = torch.exp(self.squares[cut] @ quadratic)
            phase = self.k[cut] @ drift
            found.append((size * torch.cos(phase), size * torch.sin(phase)))
        return found

    def matrices(self, piece: Piece, exponentials: list[Pair] | None = None) -> Pair:
        """w S as one matrix a mode and group, parts ``(modes · groups, in, out)``."""
        if exponentials is None:
            exponentials = self.exponentials(piece)
        cut = piece.cut
        total: Pair | None = None
        for (real, imaginary), c in zip(exponentials, self.coefficients, strict=True):
            even, odd = self._prefactor(c, cut)
            part = (even * real, even * imaginary)
            if odd is not None:
                part = (part[0] - odd * imaginary, part[1] + odd * real)
            total = part if total is None else (total[0] + part[0], total[1] + part[1])
        assert total is not None
        return total[0].reshape(self.matrix), total[1].reshape(self.matrix)

    def _prefactor(self, c: Tensor, cut: slice) -> tuple[Tensor, Tensor | None]:
        """P(k), real and imaginary parts; None for zero."""
        dim = self.k.shape[1]
        even, odd = c[:1], None
        if len(c) > 1:
            odd = self.k[cut] @ c[1 : 1 + dim]
        if len(c) > 1 + dim:
            even = even - self.products[cut] @ c[1 + dim :]
        return even, odd

    def _steep(self) -> bool:
        """Whether values too small for a number may matter a few rows on."""
        plan, dim = self.plan, self.plan.dim
        reach = [float(a.frequencies[-1]) for a in plan.axes]
        step = 2.0 * np.pi / plan.axes[-2].length
        along = [i for i, (r, c) in enumerate(_entries(dim)) if dim - 2 in (r, c)]
        bound = [reach[r] + reach[c] - reach[dim - 2] for r, c in (_entries(dim)[i] for i in along)]
        steepest = 0.0
        for quadratic in self.quadratic:
            sizes = quadratic[along].abs().amax(dim=1).tolist()
            growth = sum(a * k for a, k in zip(sizes, bound, strict=True))
            steepest = max(steepest, 2.0 * _SEGMENT * step * growth)
        return steepest > _STEEPEST

    def _followed(self, segment: Piece, term: int) -> Pair:
        """Exponentials of a segment: on its first row by the formula, on the others by ratios."""
        first = segment.rows[0]
        lanes = self.drift[term].shape[1]
        size = torch.exp(self.squares[first] @ self.quadratic[term])
        phase = self.k[first] @ self.drift[term]
        real = size.new_empty(segment.cut.stop - segment.cut.start, lanes)
        imaginary = torch.empty_like(real)
        here = _within(first, segment.cut)
        torch.mul(size, phase.cos(), out=real[here])
        torch.mul(size, phase.sin(), out=imaginary[here])
        if len(segment.rows) == 1:
            return real, imaginary
        ratio, constant_ratio = self._ratios(segment, term)
        for row in segment.rows[1:]:
            count = row.stop - row.start
            before, there = slice(here.start, here.start + count), _within(row, segment.cut)
            ratio = (ratio[0][:count], ratio[1][:count])
            a, b = real[before], imaginary[before]
            torch.mul(a, ratio[0], out=real[there]).addcmul_(b, ratio[1], value=-1.0)
            torch.mul(a, ratio[1], out=imaginary[there]).addcmul_(b, ratio[0])
            ratio[0].mul_(constant_ratio)
            ratio[1].mul_(constant_ratio)
            here = there
        return real, imaginary

    def _ratios(self, segment: Piece, term: int) -> tuple[Pair, Tensor]:
        """E(k + step) / E(k) on the first row, and the ratio of two such on neighbouring rows."""
        plan, axis = self.plan, self.plan.dim - 2
        first, second = segment.rows[0], segment.rows[1]
        step = segment.sign * 2.0 * np.pi / plan.axes[axis].length
        count = second.stop - second.start
        quadratic, drift = self.quadratic[term], self.drift[term]
        k = self.k[first][:count]
        size, own = torch.zeros(1, 1, dtype=k.dtype, device=k.device), 0
        for i, (r, c) in enumerate(_entries(plan.dim)):
            if r == c == axis:
                own = i
                size = size - torch.outer(2.0 * step * k[:, axis] + step**2, quadratic[i])
            elif axis in (r, c):
                other = c if r == axis else r
                size = size - torch.outer(2.0 * step * k[:, other], quadratic[i])
        size = torch.exp(size)
        phase = step * drift[axis]
        return (size * phase.cos(), size * phase.sin()), torch.exp(-2.0 * step**2 * quadratic[own])


@dataclass(frozen=True)
class Piece:
    """A run of modes.

    Parameters
    ----------
    cut : slice
        Which of those kept.
    rows : tuple of slice
        Where exponentials follow from row to row: modes of each row in this order, no row longer
        than the one before.
    sign : int
        Whether the rows' frequencies rise or fall in this order.
    """

    cut: slice
    rows: tuple[slice, ...] = ()
    sign: int = 1


def _entries(dim: int) -> list[tuple[int, int]]:
    return [(r, c) for r in range(dim) for c in range(r, dim)]


def _within(row: slice, cut: slice) -> slice:
    return slice(row.start - cut.start, row.stop - cut.start)


def _segments(plan: Plan) -> list[Piece]:
    """Cut the rows into segments, outwards from the longest row."""
    reach = plan.reach.reshape(-1, plan.reach.shape[-1])
    ends = np.cumsum(plan.reach.reshape(-1)).reshape(reach.shape)
    whole = plan.axes[-2].weights[np.abs(plan.rows[-1])] == 1.0
    found = []
    for lengths, stops in zip(reach, ends, strict=True):
        rows = [slice(int(e - n), int(e)) for n, e in zip(lengths, stops, strict=True)]
        longest = last = int(np.argmax(lengths))
        ways = ((range(longest, len(rows)), 1), (range(longest - 1, -1, -1), -1))
        for order, sign in ways:
            kept: list[slice] = []
            for r in order:
                length = rows[r].stop - rows[r].start
                # A row of halved weights, |j| = n/2, stands alone.
                alike = whole[r] and whole[last]
                fits = kept and alike and length <= kept[-1].stop - kept[-1].start
                if kept and (len(kept) == _SEGMENT or not fits):
                    found.append(_segment(kept, sign))
                    kept = []
                if length:
                    kept.append(rows[r])
                    last = r
            if kept:
                found.append(_segment(kept, sign))
    return found


def _segment(rows: list[slice], sign: int) -> Piece:
    cut = slice(min(r.start for r in rows), max(r.stop for r in rows))
    return Piece(cut, tuple(rows), sign)
