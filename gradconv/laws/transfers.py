"""What a restriction does to the power of a mode and to independent pixels.

A transfer is known by the cumulants of log |T₂(θ)|², T₂ the symbol of one restriction step; a chain
of steps adds them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gradconv.errors import LawError
from gradconv.laws.densities import simplest_number
from gradconv.problem import Problem
from gradconv.restriction import LocalRestriction


@dataclass(frozen=True)
class Transfer:
    """What the restriction does to the power of a mode.

    Parameters
    ----------
    cumulants : tuple of float
        c₂, c₄ of log |T₂(θ)|² = c₂θ² + c₄θ⁴ + …, an axis.
    autocorrelation : tuple of float
        Autocorrelation of the taps of one step at lags 0, 1, …: cov of neighbouring outputs.
    smoothing : int
        r where |T₂| = |cos(θ/2)|^r, so that infinitely many steps make sinc^r; −1 if it is not.
    cut : bool
        Whether modes beyond the coarse mesh are cut (the spectral restriction).
    single : bool
        Whether a level is reached by one step whose taps do not depend on the factor.
    """

    cumulants: tuple[float, float]
    autocorrelation: tuple[float, ...]
    smoothing: int
    cut: bool = False
    single: bool = False


def transfer_of(problem: Problem) -> Transfer:
    """Transfer of a problem's restriction.

    Raises
    ------
    LawError
        If it depends on the position, or its direct step is no fixed symbol.
    """
    restriction = problem.restriction
    if restriction.band_limiting:
        return Transfer((0.0, 0.0), (1.0,), 0, cut=True)
    if not isinstance(restriction, LocalRestriction):
        raise LawError(
            f"`restriction` must act alike at every position for a law; got {restriction.name}, "
            "whose weights depend on the position: no power law"
        )
    single = problem.route == "direct" and not restriction.nested
    taps = restriction.taps(4 if single else 2)
    if single:
        other = restriction.taps(8)
        gap = {o: w for o, w in zip(*other, strict=True)}
        shift = other[0][0] - taps[0][0]
        if gap != {o + shift: w for o, w in zip(*taps, strict=True)}:
            raise LawError(
                f"`route` direct needs a restriction with taps independent of the factor for a "
                f"law; got {restriction.name}"
            )
    return _read_taps(taps, single)


@lru_cache(maxsize=64)
def _read_taps(taps: tuple[tuple[int, ...], tuple[float, ...]], single: bool) -> Transfer:
    import sympy

    weights = {o: simplest_number(w) for o, w in zip(*taps, strict=True)}
    if sum(weights.values()) != 1:
        raise LawError(
            f"`restriction` must keep constants for a law; its weights sum to "
            f"{sum(weights.values())}"
        )
    theta = sympy.Symbol("theta", real=True)
    lags: dict[int, Any] = {}
    for a, w in weights.items():
        for b, v in weights.items():
            lags[a - b] = lags.get(a - b, 0) + w * v
    power = sum(w * sympy.cos(theta * lag) for lag, w in lags.items())
    series = sympy.series(sympy.log(power), theta, 0, 6).removeO()
    cumulants = (float(series.coeff(theta, 2)), float(series.coeff(theta, 4)))
    smoothing = -1
    for r in range(5):
        half = ((1 + sympy.cos(theta)) / 2) ** r  # cos²ʳ(θ/2)
        if sympy.simplify(sympy.expand_trig(sympy.expand(power - half))) == 0:
            smoothing = r
            break
    widest = max(lags)
    autocorrelation = tuple(float(lags.get(lag, 0)) for lag in range(widest + 1))
    return Transfer(cumulants, autocorrelation, smoothing, single=single)


def flat_covariance(transfer: Transfer) -> list[tuple[float, dict[int, float]]]:
    """Covariance, an axis, of what f-fold restriction leaves of unit independent pixels.

    One step maps lags r_l to Σ_o a_o r_{2l+o}, a the taps' autocorrelation: a small matrix M, so
    that log₂ f steps are M^{log₂ f}. Its eigenvalues λ give the powers f^{log₂ λ}.

    Returns
    -------
    list of (exponent, {lag: coefficient})
        r_lag(f) = Σ coefficient · f^exponent, for lags ≥ 0.
    """
    import sympy

    rows = {0: simplest_number(transfer.autocorrelation[0])}
    for lag, value in enumerate(transfer.autocorrelation[1:], start=1):
        rows[lag] = rows[-lag] = simplest_number(value)
    if transfer.single:  # one step, whatever f: the lags beyond the taps' reach are empty
        return [(0.0, {0: float(rows[0])})]
    reach = len(transfer.autocorrelation) - 1
    size = max(1, reach)
    matrix = sympy.zeros(size, size)
    for lag in range(size):
        for offset, value in rows.items():
            source = abs(2 * lag + offset)
            if source < size:
                matrix[lag, source] += value
    basis, diagonal = matrix.diagonalize()
    start = basis.inv() * sympy.Matrix([1] + [0] * (size - 1))
    found: dict[Any, dict[int, float]] = {}
    for index in range(size):
        eigenvalue = diagonal[index, index]
        if eigenvalue == 0 or start[index] == 0:
            continue
        exponent = sympy.log(eigenvalue, 2)
        part = found.setdefault(exponent, {})
        for lag in range(size):
            value = float(basis[lag, index] * start[index])
            if value:
                part[lag] = part.get(lag, 0.0) + value
    return sorted(((float(e), p) for e, p in found.items()), key=lambda item: -item[0])
