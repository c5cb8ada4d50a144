"""Lattice moments of products of spectra, with powers of a target's multiplier.

(κ₁ + |j|²)^{−a} (κ₂ + |j|²)^{−b} is a mixture of Gaussians e^{−u|j|²} with the weight
u^{a+b−1} e^{−κ₁u} ₁F₁(b; a + b; (κ₁ − κ₂)u) / Γ(a + b): its moments are integrals of products of
one-dimensional theta sums, as in `gradconv.laws.moments`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gamma, hyp1f1

from gradconv.kernels.separable import monomials
from gradconv.laws.densities import Density
from gradconv.laws.moments import MODES, REACH, Factor, gaussians, panels, theta_sum

_LOWEST = REACH / MODES**2  # theta sums with weights know no smaller u
_LOWEST_PLAIN = 1e-14  # those without are Gaussian integrals there
_FLAT = 1e-9

Factors = tuple[Factor | None, ...]
Spectrum = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Moments:
    """Σ_j w(j) k^μ by degree of μ.

    Parameters
    ----------
    values : tuple of ndarray
        For each degree, one value for each of `monomials`; complex.
    degrees : int
        How many of them converge, from degree 0.
    """

    values: tuple[np.ndarray, ...]
    degrees: int


def spectral_moments(
    densities: tuple[Density, ...],
    dim: int,
    degree: int,
    factors: Factors | None,
    powers: tuple[int, int],
) -> Moments:
    """Moments of Π S_i(j) · m(k)^a conj(m(k))^b over the lattice.

    Parameters
    ----------
    densities : tuple of Density
        One or two spectra with infinitely many modes.
    dim, degree : int
        Dimension, and highest degree.
    factors : tuple of callables, optional
        m as one factor an axis; None is 1.
    powers : (int, int)
        a and b.
    """
    spectrum = tuple((d.shift, d.alpha) for d in densities)
    origin = all(d.shift > 0 and d.origin for d in densities)
    plain = factors is None or powers == (0, 0) or all(f is None for f in factors)
    found = _moments(
        spectrum, origin, dim, degree, None if plain else factors, (0, 0) if plain else powers
    )
    scale = math.prod(d.scale for d in densities)
    return Moments(tuple(scale * v for v in found.values), found.degrees)


def _merged(spectrum: Spectrum) -> Spectrum:
    """Spectra of equal shift as one; the smallest shift first."""
    found: dict[float, float] = {}
    for shift, alpha in spectrum:
        key = next((s for s in found if abs(s - shift) < _FLAT), shift)
        found[key] = found.get(key, 0.0) + alpha
    return tuple(sorted(found.items()))


@lru_cache(maxsize=1024)
def _moments(
    spectrum: Spectrum,
    origin: bool,
    dim: int,
    degree: int,
    factors: Factors | None,
    powers: tuple[int, int],
) -> Moments:
    parts = _merged(spectrum)
    order = 0.5 * sum(alpha for _, alpha in parts)
    least = parts[0][0]
    lowest = _LOWEST_PLAIN if factors is None else _LOWEST
    count = 100 if factors is None else 60
    x, w = panels(np.linspace(math.log(lowest), math.log(REACH / (1.0 + least)) + 0.5, count))
    u = np.exp(x)
    density = u**order * np.exp(-least * u) / gamma(order)
    if len(parts) > 1:
        (first, _), (second, alpha) = parts
        density = density * hyp1f1(0.5 * alpha, order, (first - second) * u)
    lines = [_line(u, None if factors is None else factors[a], powers, degree) for a in range(dim)]
    zero = math.prod(complex(line[1]) for line in lines)
    exact = zero * math.prod(shift ** (-0.5 * alpha) for shift, alpha in parts) if origin else 0.0
    exact = exact - zero * lowest**order / (order * gamma(order))
    values = []
    # at |k| → ∞ the terms fall like |k|^{e − α}, in as many directions as m does not close
    room = 2 * order - sum(line[2] for line in lines)
    degrees = int(np.sum(np.arange(degree + 1) < room - _FLAT))
    for total in range(degree + 1):
        row = []
        for mu in monomials(dim, total):
            product = math.prod(line[0][nu] for line, nu in zip(lines, mu, strict=True))
            value = np.sum(w * density * (product - (zero if total == 0 else 0.0)))
            tail = _tail(u, density * product, lowest)
            row.append(complex(value) + tail + (exact if total == 0 else 0.0))
        values.append(np.array(row))
    return Moments(tuple(values), degrees)


def _tail(u: np.ndarray, terms: np.ndarray, lowest: float) -> complex:
    """∫ over (0, lowest) of a power of u; 0 where it diverges."""
    ends, size = np.abs(terms[[0, 20]]), float(np.abs(terms).max())
    if ends[0] <= 1e-13 * size:
        return 0.0
    slope = math.log(ends[1] / ends[0]) / math.log(u[20] / u[0])
    return complex(terms[0] * (lowest / u[0]) ** slope) / slope if slope > 0 else 0.0


def _line(
    u: np.ndarray, factor: Factor | None, powers: tuple[int, int], degree: int
) -> tuple[Sequence[np.ndarray | float], complex, float]:
    """Σ_j f(k) k^ν e^{−uj²} for every ν, f at j = 0, and 1 + the power with which f grows."""
    if factor is None:
        even = [theta_sum(u, nu) if nu % 2 == 0 else 0.0 for nu in range(degree + 1)]
        return even, 1.0, 1.0
    j = np.arange(-MODES, MODES + 1)
    k = 2.0 * np.pi * j
    base = np.asarray(factor(k), dtype=complex) * np.ones(len(j))
    weight = base ** powers[0] * base.conj() ** powers[1]
    columns = weight * k ** np.arange(degree + 1)[:, None]
    folded = columns[:, MODES:].copy()
    folded[:, 1:] += columns[:, :MODES][:, ::-1]
    gauss = gaussians(tuple(u))  # real products are much faster
    found = list(folded.real @ gauss.T + 1j * (folded.imag @ gauss.T))
    half, end = np.abs(weight[[MODES + MODES // 2, -1]])
    closes = end < 1e-6 * np.abs(weight).max()  # such an axis leaves a line of modes
    return found, complex(weight[MODES]), 0.0 if closes else 1.0 + round(math.log2(end / half), 3)
