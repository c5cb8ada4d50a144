"""Moments of a spectrum over the integer lattice, Σ_j S(j) k^μ m(k) with k = 2πj.

(κ² + |j|²)^{−α/2} is a mixture of Gaussians, ∫ s^{α/2−1} e^{−s(κ²+|j|²)} ds / Γ(α/2). Under the
integral a moment is a product of one-dimensional theta sums, whatever the dimension, and Poisson's
formula gives their behaviour as s → 0 in closed form. Where the sum diverges, its finite part is
taken (the analytic continuation, an Epstein zeta value); a term ds/s is the sign of a logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import gamma

from gradconv.errors import LawError
from gradconv.laws.densities import Density

Factor = Callable[[np.ndarray], np.ndarray]
Monomial = tuple[int, ...]

POISSON = 0.05  # below this s a theta sum is its Gaussian integral to 1e-80
REACH = 45.0  # exp(-45) is nothing
MODES = 1024  # modes an axis of a weighted theta sum
_PANEL = np.polynomial.legendre.leggauss(20)


def panels(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on the panels between the points."""
    x, w = _PANEL
    half = 0.5 * np.diff(points)[:, None]
    centre = 0.5 * (points[1:] + points[:-1])[:, None]
    return (centre + half * x).ravel(), (half * w).ravel()


def lattice_moment(
    density: Density, mu: Monomial, factors: tuple[Factor | None, ...] | None
) -> tuple[complex, float]:
    """Sum (or finite part) of S(j) k^μ m(k), and the coefficient of ds/s.

    Parameters
    ----------
    density : Density
        S, without its power of the mesh size.
    mu : tuple of int
        Exponents of k_a.
    factors : tuple of callables, optional
        m(k) as one factor an axis; None is 1.

    Returns
    -------
    value : complex
        The moment; real for even |μ|, imaginary for odd (the other parts cancel).
    pole : float
        Not 0 where the sum diverges like a logarithm.
    """
    if density.modes is not None and density.power is not None:
        k = 2.0 * np.pi * density.modes
        terms = density.power * np.prod(k ** np.array(mu), axis=1)
        for axis, factor in enumerate(factors or ()):
            if factor is not None:
                terms = terms * factor(k[:, axis])
        return complex(np.sum(terms)), 0.0
    if factors is None or all(f is None for f in factors):
        return _plain_moment(density.scale, density.shift, density.alpha, density.origin, mu)
    return _weighted_moment(density, mu, factors), 0.0


def _gaussian_moment(nu: int) -> float:
    """(ν − 1)!! for even ν."""
    return float(math.prod(range(nu - 1, 0, -2))) if nu else 1.0


@lru_cache(maxsize=4096)
def _plain_moment(
    scale: float, shift: float, alpha: float, origin: bool, mu: Monomial
) -> tuple[complex, float]:
    if any(nu % 2 for nu in mu):
        return 0.0, 0.0
    if alpha <= 0:
        raise LawError(f"`alpha` must be positive for the moments of a spectrum; got {alpha:g}")
    dim, total = len(mu), sum(mu)
    # s → 0: the theta sums are lead · s^{-(d+|μ|)/2}
    lead = math.prod(
        (2 * math.pi) ** nu * math.sqrt(math.pi) * _gaussian_moment(nu) / 2 ** (nu / 2) for nu in mu
    )
    zero = 1.0 if total == 0 else 0.0
    split = min(1.0, 1.0 / shift) if shift else 1.0
    points = np.linspace(math.log(split), math.log(REACH / (1.0 + shift)) + 0.5, 40)
    x, w = panels(points)
    s = np.exp(x)
    theta = np.prod([theta_sum(s, nu) for nu in mu], axis=0)
    value = float(np.sum(w * s ** (alpha / 2) * np.exp(-shift * s) * (theta - zero)))
    # (0, split): what Poisson's formula leaves out is seen only near 1
    if split > POISSON:
        x, w = panels(np.linspace(math.log(POISSON), math.log(split), 12))
        s = np.exp(x)
        rest = np.prod([theta_sum(s, nu) for nu in mu], axis=0) - lead * s ** (-(dim + total) / 2)
        value += float(np.sum(w * s ** (alpha / 2) * np.exp(-shift * s) * rest))
    pole = 0.0
    for i in range(60):
        size = (-shift) ** i / math.factorial(i)
        for amount, power in ((lead, (alpha - dim - total) / 2 + i), (-zero, alpha / 2 + i)):
            if abs(power) < 1e-9:
                pole += amount * size
                value += amount * size * math.log(split)
            else:
                value += amount * size * split**power / power
        if shift == 0:
            break
    value /= gamma(alpha / 2)
    if origin and total == 0 and shift:
        value += shift ** (-alpha / 2)
    return complex(scale * value), scale * pole / gamma(alpha / 2)


def theta_sum(s: np.ndarray, nu: int) -> np.ndarray:
    """Σ_j (2πj)^ν exp(−s j²)."""
    low = (2 * math.pi) ** nu * _gaussian_moment(nu) * np.sqrt(np.pi / s) / (2 * s) ** (nu / 2)
    j = np.arange(1, 33)[:, None]
    direct = 2 * np.sum((2 * math.pi * j) ** nu * np.exp(-s * j * j), axis=0) + (nu == 0)
    return np.where(s < POISSON, low, direct)


@lru_cache(maxsize=4096)
def _weighted_moment(density: Density, mu: Monomial, factors: tuple[Factor | None, ...]) -> complex:
    """Moment with a target's multiplier: theta sums with weights, for convergent sums only."""
    alpha, shift = density.alpha, density.shift
    j = np.arange(-MODES, MODES + 1)
    k = 2.0 * np.pi * j
    lowest = REACH / MODES**2
    weights = []
    for nu, factor in zip(mu, factors, strict=True):
        values = k.astype(complex) ** nu
        if factor is not None:
            values = values * factor(k)
        if not np.all(np.isfinite(values)) or np.abs(values[-1]) > 1e3 * MODES ** (nu + 2):
            raise LawError(
                "`target` must have a bounded multiplier for a law with a signal of infinitely "
                "many modes; this one amplifies without bound"
            )
        weights.append(values)
    x, w = panels(np.linspace(math.log(lowest), math.log(REACH / (1 + shift)) + 0.5, 60))
    s = np.exp(x)
    product = np.ones(len(s), dtype=complex)
    origin = 1.0 + 0j
    for values in weights:
        folded = values[MODES:].copy()
        folded[1:] += values[:MODES][::-1]
        product *= gaussians(tuple(s)) @ folded
        origin *= values[MODES]
    terms = w * s ** (alpha / 2) * np.exp(-shift * s) * (product - origin)
    value = complex(np.sum(terms))
    # j = 0 over all s; the piece below `lowest` belongs to modes beyond MODES
    value += origin * _incomplete(alpha / 2, shift, lowest)
    value /= gamma(alpha / 2)
    if shift and density.origin:
        return density.scale * complex(value)
    return density.scale * complex(
        value - origin * _incomplete(alpha / 2, shift, lowest) / gamma(alpha / 2)
    )


@lru_cache(maxsize=8)
def gaussians(nodes: tuple[float, ...]) -> np.ndarray:
    """exp(−s j²) for 0 ≤ j ≤ `MODES`, shape ``(nodes, modes)``."""
    return np.asarray(np.exp(-np.multiply.outer(nodes, np.arange(MODES + 1.0) ** 2)))


def _incomplete(power: float, shift: float, lowest: float) -> float:
    """∫_lowest^∞ s^{power−1} exp(−shift·s) ds; 0 without a shift (there is no such mode)."""
    from scipy.special import gammaincc

    if shift == 0:
        return 0.0
    return float(gammaincc(power, shift * lowest) * gamma(power) * shift**-power)
