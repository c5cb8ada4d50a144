"""The fourth cumulant of independent pixels in the variance of a gap."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from gradconv.fields import PixelLaw
from gradconv.kernels import KernelFormula
from gradconv.laws.grid import lag_coefficients
from gradconv.laws.transfers import Transfer
from gradconv.laws.variance.contractions import KernelKey
from gradconv.laws.variance.scalars import Expansion, ScalarTerm
from gradconv.problem import Problem


def fourth_cumulant(
    problem: Problem,
    formula: KernelFormula,
    key: KernelKey,
    transfer: Transfer,
    expansion: Expansion,
) -> None:
    """What a fourth cumulant κ₄ of independent pixels adds: κ₄ Σ_x B_xx²."""
    assert isinstance(problem.noise, PixelLaw)
    cumulant, dim = problem.noise.fourth_cumulant, problem.dim
    if cumulant is None or (transfer.cut and problem.setting == "coarsening"):
        return
    sampled = problem.setting == "refinement" or len(transfer.autocorrelation) == 1
    if not key.grid:
        expansion.limit(
            3.0 * dim if sampled else 4.0,
            0.0 if sampled else 3.0 * dim,
            "the fourth cumulant of a wide kernel is left out",
        )
        return
    if not sampled and (transfer.single or transfer.smoothing not in (1, 2)):
        expansion.limit(
            -2.0 * dim, 3.0 * dim, "the fourth cumulant needs restrictions that leave splines"
        )
        return
    by_power: dict[float, dict[tuple[int, ...], np.ndarray]] = {}
    for power, lag, vector in lag_coefficients(problem, formula):
        place = by_power.setdefault(power, {})
        place[lag] = place.get(lag, 0.0) + vector
    rule = [_sampled(dim)] if sampled else [_spline(dim, transfer.smoothing)]
    for weights, reads in rule:
        gaps = {p: _diagonal_gap(lags, reads, p, sampled) for p, lags in by_power.items()}
        for (p, one), (q, two) in product(gaps.items(), repeat=2):
            value = float(cumulant * np.sum(weights * np.sum(one * two, axis=(1, 2, 3))))
            powers = (dim + p + q, 0.0) if sampled else (p + q - 2 * dim, 3.0 * dim)
            expansion.terms.append(ScalarTerm(*powers, value, "noise", "flat"))


Reads = tuple[list[tuple[tuple[int, ...], np.ndarray]], list[tuple[tuple[int, ...], np.ndarray]]]


def _sampled(dim: int) -> tuple[np.ndarray, Reads]:
    """Injection: pixels that both levels read, and pixels of the fine one; weights a fine cell."""
    zero = (0,) * dim
    shares = np.array([2.0**-dim, 1.0 - 2.0**-dim])
    return shares, ([(zero, np.ones(2))], [(zero, np.array([1.0, 0.0]))])


def _spline(dim: int, r: int) -> tuple[np.ndarray, Reads]:
    """A chain of restrictions from a much finer mesh reads pixels by a B-spline of order r.

    Positions u are Gauss nodes in a coarse cell, in units of the fine one's size.
    """
    x, w = np.polynomial.legendre.leggauss(8)
    u = np.concatenate([0.5 * (x + 1.0), 0.5 * (x + 3.0)])  # both halves of [0, 2]
    share = 0.25 * np.concatenate([w, w])

    def line(position: np.ndarray) -> list[tuple[int, np.ndarray]]:
        if r == 1:
            return [(0, np.ones_like(position))]
        inside = position - np.floor(position)
        return [(0, 1.0 - inside), (1, inside)]

    reads = []
    for size in (1.0, 2.0):
        axis = line(u / size)
        level = []
        for choice in product(axis, repeat=dim):
            grids = np.meshgrid(*[values for _, values in choice], indexing="ij")
            level.append((tuple(node for node, _ in choice), math.prod(g.ravel() for g in grids)))
        reads.append(level)
    weights = np.meshgrid(*[share] * dim, indexing="ij")
    return np.asarray(math.prod(g.ravel() for g in weights)), (reads[0], reads[1])


def _diagonal_gap(
    lags: dict[tuple[int, ...], np.ndarray], reads: Reads, power: float, sampled: bool
) -> np.ndarray:
    """B_xx of the finer level minus that of the coarser one, ``(positions, out, in, p)``.

    In units of h^(d + power) for injection, of h_L^2d h^(power − d) else.
    """
    dim = len(next(iter(lags)))
    shrink = 2.0 ** (power + (dim if sampled else -dim))
    total: np.ndarray | float = 0.0
    for level, factor in zip(reads, (1.0, -shrink), strict=True):
        for (one, a), (two, b) in product(level, repeat=2):
            lag = tuple(x - y for x, y in zip(one, two, strict=True))
            if lag in lags:
                total = total + factor * (a * b)[:, None, None, None] * lags[lag]
    return np.asarray(total)
