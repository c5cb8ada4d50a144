"""Finite parts of ∫ |t|^{−α} g(t) cos(2πδ·t) dt: what grid-scale kernels see of a power law.

t = kh/2π is the frequency in units of the mesh, g the product over the axes of what cutoffs and
restrictions leave of a mode's power (a *profile*). As a mixture of Gaussians the integral is
∫ s^{α/2−1} Π_a J_{δ_a}(s) ds / Γ(α/2), J_δ(s) = ∫ e^{−st²} g(t) cos(2πδt) dt, in any dimension.
With s = 1/u², J = u K(u), and K is even in u: finite parts at large s are those of powers of u.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import BSpline
from scipy.special import gamma, roots_jacobi

from gradconv.errors import LawError
from gradconv.laws.moments import panels

Lags = tuple[int, ...]

_TERMS = 24  # of Taylor series
_TAIL = 6.7  # exp(-6.7²) is below rounding


@dataclass(frozen=True)
class Profile:
    """Power left at frequency t (cycles a cell) an axis.

    Parameters
    ----------
    kind : {"band", "sinc", "all"}
        |t| ≤ width, with one step of cos(πt/2)^r inside if `smoothing`; sinc(t)^{2r}, what
        infinitely many restriction steps leave; or everything (infinitely many injections).
    width : float
        Half-width of the band.
    smoothing : int
        r.
    """

    kind: str
    width: float = 0.5
    smoothing: int = 0

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """Evaluate g inside its support."""
        if self.kind == "sinc":
            return np.asarray(np.sinc(t) ** (2 * self.smoothing))
        if self.kind == "band":
            return np.asarray(np.cos(0.5 * np.pi * t) ** (2 * self.smoothing))
        return np.ones_like(t)

    def taylor(self, delta: int) -> np.ndarray:
        """Coefficients of t^{2m} of g(t) cos(2πδt)."""
        m = np.arange(_TERMS)
        signs = (-1.0) ** m
        factorials = np.array([math.factorial(2 * i) for i in m], dtype=float)
        series = signs * (2 * np.pi * delta) ** (2 * m) / factorials
        if self.kind == "sinc":
            odd = np.array([math.factorial(2 * i + 1) for i in m], dtype=float)
            base = signs * np.pi ** (2 * m) / odd
        elif self.kind == "band":
            base = signs * (0.5 * np.pi) ** (2 * m) / factorials
        else:
            return series
        for _ in range(2 * self.smoothing):
            series = np.convolve(series, base)[:_TERMS]
        return series


@lru_cache(maxsize=512)
def _large(profile: Profile, delta: int, nodes: tuple[float, ...]) -> np.ndarray:
    """K_δ(u)."""
    u = np.array(nodes)[:, None]
    if profile.kind == "all":
        return np.asarray(math.sqrt(math.pi) * np.exp(-((np.pi * delta * u[:, 0]) ** 2)))
    end = np.minimum(profile.width / u, _TAIL) if profile.kind == "band" else np.full_like(u, _TAIL)
    x, w = np.polynomial.legendre.leggauss(96)
    points = 0.5 * end * (x + 1.0)
    values = np.exp(-points * points) * profile(u * points) * np.cos(2 * np.pi * delta * u * points)
    return np.asarray(np.sum(end * w * values, axis=1))


@lru_cache(maxsize=512)
def line_transform(profile: Profile, delta: int, nodes: tuple[float, ...]) -> np.ndarray:
    """J_δ(v²), v ≤ 1."""
    v = np.array(nodes)
    if profile.kind == "all":
        return np.asarray(math.sqrt(math.pi) / v * np.exp(-((np.pi * delta / v) ** 2)))
    if profile.kind == "band":
        x, w = np.polynomial.legendre.leggauss(64)
        t = 0.5 * profile.width * (x + 1.0)
        kernel = profile(t) * np.cos(2 * np.pi * delta * t) * profile.width * w
        return np.asarray(np.exp(-np.multiply.outer(v * v, t * t)) @ kernel)
    # sinc^{2r} is the transform of a spline: average it over a Gaussian, piece by piece
    order = 2 * profile.smoothing
    spline = BSpline.basis_element(np.arange(order + 1) - 0.5 * order, extrapolate=False)
    found = []
    for scale in v / np.pi:
        knots = (np.arange(-profile.smoothing, profile.smoothing + 1) - delta) / scale
        inside = knots[np.abs(knots) < _TAIL]
        ends = np.concatenate([[-_TAIL], inside, [_TAIL]])
        y, w = panels(np.unique(np.concatenate([ends, np.linspace(-_TAIL, _TAIL, 5)])))
        values = np.nan_to_num(spline(delta + scale * y))
        found.append(np.sum(w * values * np.exp(-y * y)) / math.sqrt(math.pi))
    return np.array(found)


@lru_cache(maxsize=4096)
def lag_integral(alpha: float, lags: Lags, profile: Profile) -> float:
    """Finite part of ∫ |t|^{−α} Π g(t_a) cos(2πδ·t) dt.

    Parameters
    ----------
    alpha : float
        Positive.
    lags : tuple of int
        δ, one a axis.
    profile : Profile
        g.

    Raises
    ------
    LawError
        If alpha is not positive: the high frequencies then rule.
    """
    if alpha <= 0:
        raise LawError(
            f"`alpha` must be positive for a law (noise that grows with frequency is ruled by its "
            f"cutoff); got {alpha:g}"
        )
    lags = tuple(sorted(abs(x) for x in lags))
    dim = len(lags)
    if profile.kind == "all" and not any(lags):
        return 0.0  # a pure power has no scale: its finite part is zero
    x, w = roots_jacobi(60, 0.0, alpha - 1.0)
    v, weights = 0.5 * (x + 1.0), w * 0.5**alpha
    value = 2.0 * float(
        np.sum(weights * np.prod([line_transform(profile, d, tuple(v)) for d in lags], axis=0))
    )
    value += 2.0 * _finite_part(dim - alpha, lags, profile)
    return value / float(gamma(alpha / 2))


def _finite_part(beta: float, lags: Lags, profile: Profile) -> float:
    """Finite part of ∫_0^1 u^{β−1} Π K_{δ_a}(u) du."""
    start = 0.15 * profile.width if profile.kind == "band" else 0.1
    m = np.arange(_TERMS)
    series = np.array([1.0])
    for delta in lags:
        line = profile.taylor(delta) * gamma(m + 0.5)
        series = np.convolve(series, line)[:_TERMS]
    value = 0.0
    for i, coefficient in enumerate(series):
        power = beta + 2 * i
        if abs(power) < 1e-9:
            value += float(coefficient) * math.log(start)
        else:
            value += float(coefficient) * start**power / power
    u, w = panels(np.geomspace(start, 1.0, 7))
    product = np.prod([_large(profile, d, tuple(u)) for d in lags], axis=0)
    return value + float(np.sum(w * u ** (beta - 1.0) * product))


@lru_cache(maxsize=4096)
def face_integral(alpha: float, lags: Lags, profile: Profile) -> float:
    """Σ_a cos(πδ_a) ∫ |t|^{−α} cos(2πδ·t) over the face t_a = 1/2 of a band of half-width 1/2.

    The other components run over the band.
    """
    total = 0.0
    for axis, lag in enumerate(lags):
        others = tuple(sorted(abs(x) for i, x in enumerate(lags) if i != axis))
        total += (-1.0) ** lag * _face(alpha, others, profile)
    return total


@lru_cache(maxsize=4096)
def _face(alpha: float, others: Lags, profile: Profile) -> float:
    if not others:
        return 0.5**-alpha
    x, w = roots_jacobi(40, 0.0, alpha - 1.0)
    v, weights = 0.5 * (x + 1.0), w * 0.5**alpha
    inner = np.prod([line_transform(profile, d, tuple(v)) for d in others], axis=0)
    value = 2.0 * float(np.sum(weights * np.exp(-0.25 * v * v) * inner))
    u, w = panels(np.geomspace(0.075, 1.0, 9))
    inner = np.prod([u * _large(profile, d, tuple(u)) for d in others], axis=0)
    value += 2.0 * float(np.sum(w * u ** (-alpha - 1.0) * np.exp(-0.25 / u**2) * inner))
    return value / float(gamma(alpha / 2))
