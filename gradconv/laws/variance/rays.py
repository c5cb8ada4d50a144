"""Truncated Taylor series along rays, and lattice sums of what they hold.

A function of the phases φ = kh that is analytic at φ = 0 is known by its Taylor coefficients along
sufficiently many rays φ = t v: an array whose first axis is the power of t. A sum over the lattice
Σ_k w(k) q(k) of a homogeneous polynomial q is a combination of the values of q on the rays, whose
weights follow from the moments of w.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from gradconv.kernels.separable import monomials

_RADIUS = 1.0
_CIRCLE = 64
_SMALL = 256
_NOTHING = 1e-14  # of the largest value on the circle: rounding

Series = np.ndarray
Monomial = tuple[int, ...]


@lru_cache(maxsize=8)
def _toeplitz(count: int) -> np.ndarray:
    """Index e − i at row i and column e; the last one (of a zero) where it is negative."""
    index = np.arange(count)[None, :] - np.arange(count)[:, None]
    return np.where(index < 0, count, index)


def times(left: Series, right: Series) -> Series:
    """Product of two series, truncated; other axes broadcast."""
    count, shape = len(left), np.broadcast_shapes(left.shape[1:], right.shape[1:])
    if math.prod(shape) <= _SMALL:  # one product of all pairs is faster than a loop
        shifted = np.concatenate([right, np.zeros_like(right[:1])])[_toeplitz(count)]
        return np.asarray(np.sum(left[:, None] * shifted, axis=0))
    found = np.zeros((count, *shape), dtype=np.result_type(left, right))
    for i in range(count):
        if np.any(left[i]):
            found[i:] += left[i] * right[: count - i]
    return found


def doubled(series: Series) -> Series:
    """The same function at 2φ."""
    factors = 2.0 ** np.arange(len(series))
    return np.asarray(series * factors.reshape(-1, *(1,) * (series.ndim - 1)))


def chopped(series: Series, share: float = 1e-13) -> Series:
    """Without what cancelled to rounding: less than a share of the largest coefficient."""
    return np.where(np.abs(series) < share * np.abs(series).max(), 0.0, series)


def exponential(series: Series) -> Series:
    """exp of a series without constant term."""
    found = np.zeros_like(series)
    found[0] = 1.0
    power = found
    for i in range(1, len(series)):
        power = times(power, series) / i
        found = found + power
    return found


def taylor(
    function: Callable[[np.ndarray], np.ndarray], directions: np.ndarray, degree: int
) -> Series:
    """Taylor coefficients of a function of φ along rays, by Cauchy's formula.

    Parameters
    ----------
    function : callable
        Takes complex phases, shape ``(m, rays, dim)``, and returns shape ``(m, rays, …)``; analytic
        in |φ| ≤ 1.
    directions : ndarray
        Rays, shape ``(rays, dim)``.
    degree : int
        Highest power of t that is kept.
    """
    sizes = np.linalg.norm(directions, axis=1)
    unit = directions / np.where(sizes == 0, 1.0, sizes)[:, None]
    angles = 2.0 * np.pi * np.arange(_CIRCLE) / _CIRCLE
    t = _RADIUS * np.exp(1j * angles)
    values = np.asarray(function(t[:, None, None] * unit))
    modes = np.fft.fft(values, axis=0)[: degree + 1] / _CIRCLE
    modes[np.abs(modes) < _NOTHING * np.abs(values).max(axis=0)] = 0.0
    scale = (sizes / _RADIUS) ** np.arange(degree + 1)[:, None]
    return np.asarray(modes * scale.reshape(*scale.shape, *(1,) * (values.ndim - 2)))


@lru_cache(maxsize=8)
def rays(dim: int, degree: int) -> np.ndarray:
    """Directions, shape ``(rays, dim)``: enough for homogeneous polynomials up to a degree."""
    if dim == 1:
        return np.ones((1, 1))
    if dim == 2:
        angles = np.pi * (np.arange(degree + 1) + 0.3) / (degree + 1)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    count = (degree + 1) * (degree + 2) // 2 + 8  # a spiral over half of the sphere
    height = (np.arange(count) + 0.5) / count
    turn = np.pi * (1.0 + 5.0**0.5) * np.arange(count)
    radius = np.sqrt(1.0 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


@lru_cache(maxsize=64)
def _solver(dim: int, degree: int, most: int) -> np.ndarray:
    """Matrix from moments to weights of the rays, shape ``(rays, monomials)``."""
    powers = np.array(monomials(dim, degree))
    values = np.prod(rays(dim, most)[:, None, :] ** powers[None], axis=2)
    return np.asarray(np.linalg.pinv(values.T))


def ray_weights(dim: int, degree: int, most: int, moments: np.ndarray) -> np.ndarray:
    """Weights c with Σ_k w(k) q(k) = Σ_v c_v q(v) for homogeneous q of a degree.

    Parameters
    ----------
    dim, degree : int
        Dimension and degree.
    most : int
        Degree up to which the rays serve.
    moments : ndarray
        Σ_k w(k) k^μ for μ in `monomials`, shape ``(monomials,)``.
    """
    return np.asarray(_solver(dim, degree, most) @ moments)
