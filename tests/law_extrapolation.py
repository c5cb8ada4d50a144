"""Constants of the laws by repeated Richardson extrapolation of direct sums on large meshes.

A stencil's mean gradient needs the input at a few lags only, E g_m = Σ_m' w_m' r_x(m' − m) −
r_xy(m) with r_x(l) = E x(lh) x(0) and r_xy(l) = E x(lh) y(0); a mesh-free convolution's is a sum
over the few modes that it does not damp. Both run over the modes one by one, without a Fourier
transform. Of gradconv only plain parameters are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from law_dense_maps import stencil_of_restriction
from law_reference import Reference, multiplier, noise_density, signal_power


def richardson(
    h: np.ndarray, values: np.ndarray, order: float, corrections: Sequence[float]
) -> tuple[np.ndarray, float]:
    """Constant C of values = C h^order (1 + Σ c_i h^corrections_i + …), and how sure it is.

    Parameters
    ----------
    h : ndarray
        Mesh sizes, each half the one before.
    values : ndarray
        One value, or vector, a mesh size; more than there are corrections.
    order : float
        Leading exponent.
    corrections : sequence of float
        Exponents of the corrections relative to the leading term.

    Returns
    -------
    constant : ndarray
        From the finest meshes.
    change : float
        Largest relative change by the last mesh.
    """
    assert np.allclose(h[1:], 0.5 * h[:-1])
    assert len(values) > len(corrections) + 1
    table = np.array([v / s**order for v, s in zip(values, h, strict=True)])
    for exponent in sorted(corrections):
        table = (2.0**exponent * table[1:] - table[:-1]) / (2.0**exponent - 1.0)
    change = np.linalg.norm(table[-1] - table[-2]) / np.linalg.norm(table[-1])
    return table[-1], float(change)


def _gain(problem: Any, j: np.ndarray, source: int, factor: int) -> np.ndarray:
    """|Σ_t w_t exp(2πi j o_t/source)|², the restriction's gain of resolved modes on one axis.

    Chained steps of a nested restriction are its direct step, and bilinear steps are averages.
    """
    if factor == 1:
        return np.ones(len(j))
    name = "average" if problem.restriction.name == "bilinear" else problem.restriction.name
    taps = stencil_of_restriction(name, factor)
    offsets, weights = np.array(list(taps)), np.array(list(taps.values()))
    return np.abs(np.exp(2j * np.pi * np.outer(j, offsets) / source) @ weights) ** 2


def _signal_table(problem: Any, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Modes of an axis, power and target multiplier on their tensor grid."""
    dim, name = problem.dim, problem.signal.name
    widest = problem.signal.modes if name == "band-limited" else (source - 1) // 2
    j = np.arange(-widest, widest + 1)
    grid = np.array(np.meshgrid(*[j] * dim, indexing="ij"))
    power = signal_power(problem.signal, np.sum(grid.astype(float) ** 2, axis=0), dim)
    return j, power, multiplier(problem.target, 2 * np.pi * grid)


def _contract(values: np.ndarray, tables: Sequence[np.ndarray]) -> np.ndarray:
    """Sum over every axis of `values` against the rows of its table."""
    for axis, table in enumerate(tables):
        values = np.moveaxis(np.tensordot(table, values, (1, axis)), 0, axis)
    return values


def _noise_covariance(problem: Any, n: int, fine: int, lags: np.ndarray) -> np.ndarray:
    """Covariance of the noise of a level at lags (the same list along every axis)."""
    noise, dim, refining = problem.noise, problem.dim, problem.setting == "refinement"
    shape = (len(lags),) * dim
    if noise.name == "none":
        return np.zeros(shape)
    if noise.name in ("power", "matern"):
        assert refining
        j = np.arange(-(n // 2), n // 2 + 1)
        grid = np.meshgrid(*[j.astype(float)] * dim, indexing="ij")
        density = noise_density(noise, sum(g * g for g in grid), dim)
        half = np.where(2 * np.abs(j) == n, 0.5, 1.0)
        table = half * np.cos(2 * np.pi * np.outer(lags, j) / n)
        return _contract(density, [table] * dim)
    drawn = n if refining else fine
    variance = noise.sigma**2 * (drawn**dim if noise.name == "white" else 1.0)
    line = np.where(lags == 0, 1.0, 0.0)
    if drawn != n:
        name = "average" if problem.restriction.name == "bilinear" else problem.restriction.name
        factor = drawn // n
        taps = stencil_of_restriction(name, factor)
        least = min(taps)
        weights = np.zeros(max(taps) - least + 1)
        weights[np.array(list(taps)) - least] = list(taps.values())
        line = np.zeros(len(lags))
        for place, lag in enumerate(np.abs(lags) * factor):
            if lag < len(weights):
                line[place] = weights[: len(weights) - lag] @ weights[lag:]
    out = np.array(variance)
    for _ in range(dim):
        out = np.multiply.outer(out, line)
    return out


def stencil_mean(problem: Any, n: int, fine: int) -> np.ndarray:
    """E g of one level of a stencil with one channel, from covariances at its lags.

    Parameters
    ----------
    problem : Problem
        Random signal, or none of its power; nested restriction.
    n, fine : int
        Cells of the level, and of the mesh that holds the data (coarsening).
    """
    dim, theta = problem.dim, np.asarray(problem.convolution.theta)[0, 0]
    side = round(len(theta) ** (1 / dim))
    offsets = list(product(range(-(side // 2), side // 2 + 1), repeat=dim))
    lags = np.arange(1 - side, side)
    source = 2 * n if problem.setting == "refinement" else fine
    j, power, target = _signal_table(problem, source)
    gain = _gain(problem, j, source, source // n)
    table = gain * np.exp(2j * np.pi * np.outer(lags, j) / n)
    r_x = _contract(power, [table] * dim).real + _noise_covariance(problem, n, fine, lags)
    r_xy = _contract(power * np.conj(target), [table] * dim).real
    zero = side - 1

    def at(r: np.ndarray, lag: Sequence[int]) -> float:
        return float(r[tuple(zero + v for v in lag)])

    return np.array(
        [
            sum(
                w * at(r_x, [a - b for a, b in zip(other, own, strict=True)])
                for w, other in zip(theta, offsets, strict=True)
            )
            - at(r_xy, own)
            for own in offsets
        ]
    )


def mesh_free_mean(problem: Any, n: int, fine: int, cutoff: int = 40) -> np.ndarray:
    """E g of one level of a mesh-free convolution in 1-D, in the units of its norm.

    White spectra only: σ² h times what the restriction leaves, with its aliases.
    """
    assert problem.dim == 1
    assert n > 2 * cutoff
    c, a, b = np.asarray(problem.convolution.theta)[0, 0]
    source = 2 * n if problem.setting == "refinement" else fine
    j = np.arange(-cutoff, cutoff + 1)
    k = 2 * np.pi * j
    square = j[None].astype(float) ** 2
    power = signal_power(problem.signal, square[0], 1) * _gain(problem, j, source, source // n)
    power = power * (np.abs(j) <= getattr(problem.signal, "modes", cutoff))
    cross = power * np.conj(multiplier(problem.target, k[None]))
    lags = np.array([-1, 0, 1])
    left = _noise_covariance(problem, n, fine, lags)
    noise = (np.exp(-2j * np.pi * np.outer(j, lags) / n) @ left).real / n
    heat = np.exp(-a * k**2 + 1j * b * k)
    slopes = np.array([heat, -(k**2) * c * heat * a, 1j * k * c * heat * np.sqrt(a)])
    x_power = c * heat * (power + noise) - np.conj(cross)
    return np.sum(np.conj(slopes) * x_power, axis=1).real


def mean_gap_constant(
    problem: Any,
    exponents: range,
    order: float,
    corrections: Sequence[float],
    fine: int = 0,
) -> tuple[float, float]:
    """Constant of the mean gap, component by component, then its norm.

    Parameters
    ----------
    problem : Problem
        A stencil or a mesh-free convolution of one channel.
    exponents : range
        Levels n = 2**e; gaps belong to the finer mesh size.
    order, corrections : float, sequence of float
        As in `richardson`.
    fine : int
        Cells of the mesh that holds the data in the coarsening setting.

    Returns
    -------
    constant, change : float
        As in `richardson`.
    """
    stencil = type(problem.convolution).__name__ == "Stencil"
    one = stencil_mean if stencil else mesh_free_mean
    means = np.array([one(problem, 2**e, fine) for e in exponents])
    h = np.array([0.5**e for e in exponents])
    constant, change = richardson(h[1:], np.diff(means, axis=0), order, corrections)
    return float(np.linalg.norm(constant)), change


def variance_constant(
    problem: Any, exponents: range, order: float, corrections: Sequence[float]
) -> tuple[float, float]:
    """Constant of the variance of the gap in the refinement setting, from dense matrices.

    Parameters
    ----------
    problem : Problem
        A 1-D problem.
    exponents : range
        Gaps between n = 2**(e−1) and 2**e.
    order, corrections : float, sequence of float
        As in `richardson`.

    Returns
    -------
    constant, change : float
        As in `richardson`.
    """
    assert problem.setting == "refinement"
    sizes = [2**e for e in exponents]
    values = np.array([Reference(problem, (n // 2, n)).gap_variances()[0] for n in sizes])
    constant, change = richardson(1.0 / np.array(sizes), values, order, corrections)
    return float(constant), change
