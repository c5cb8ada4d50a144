"""Integrals over the frequencies of a cell, as sympy `Integral`s with symbolic α and d.

The Mellin form of `gradconv.laws.integrals`: the finite part of ∫ |t|^{−α} Π g(t_a) cos(2πδ·t) dt
is ∫ u^{α/2−1} Π_a J_{δ_a}(u) du / Γ(α/2). Here J is in closed form, powers that diverge are taken
off one by one, and what is left is evaluated by tanh-sinh quadrature to any number of digits.
"""

from __future__ import annotations

import math
from typing import Any

from gradconv.laws.integrals import Lags, Profile


def _variable() -> Any:
    import sympy

    return sympy.Symbol("u", positive=True)


def axis_integral(lag: int, profile: Profile) -> Any:
    """J_δ(u) = ∫ e^{−ut²} g(t) cos(2πδt) dt in closed form."""
    import sympy

    u = _variable()
    if profile.kind == "all":
        return sympy.sqrt(sympy.pi / u) * sympy.exp(-((sympy.pi * lag) ** 2) / u)
    if profile.kind == "sinc":
        # sinc^{2r} is the transform of a spline: differences of repeated integrals of the Gaussian
        order = 2 * profile.smoothing
        return sum(
            (-1) ** i * sympy.binomial(order, i) * _repeated(order, lag + profile.smoothing - i)
            for i in range(order + 1)
        )
    # cos^{2r}(πt/2) is a sum of cosines, each a band with its own lag
    order, width = 2 * profile.smoothing, sympy.nsimplify(profile.width)
    total = sympy.Integer(0)
    for i in range(order + 1):
        shift = lag + sympy.Rational(profile.smoothing - i, 2)
        if shift == 0:
            band = sympy.erf(width * sympy.sqrt(u))
        else:
            angle = sympy.pi * shift / sympy.sqrt(u)
            band = sympy.re(sympy.erf(width * sympy.sqrt(u) + sympy.I * angle))
            band *= sympy.exp(-(angle**2))
        total += sympy.binomial(order, i) * band / sympy.Integer(2) ** order
    return sympy.sqrt(sympy.pi / u) * total


def _repeated(order: int, x: int) -> Any:
    """Integrate √(π/u) exp(−π²x²/u), the Gaussian's transform, `order` times, odd or even in x."""
    import sympy

    a = sympy.pi / sympy.sqrt(_variable())
    before = a / sympy.sqrt(sympy.pi) * sympy.exp(-((a * x) ** 2))
    now = sympy.erf(a * x) / 2
    for n in range(1, order):
        before, now = now, (x * now + before / (2 * a**2)) / n
    return now


def _tail(lag: int, profile: Profile, terms: int) -> list[Any]:
    """Coefficients of u^{−m−1/2} in J_δ at large u: Γ(m + 1/2) times those of g cos."""
    import sympy

    t = sympy.Symbol("t")
    g: Any = sympy.cos(2 * sympy.pi * lag * t)
    if profile.kind == "sinc":
        sinc = sum(
            (-1) ** i * (sympy.pi * t) ** (2 * i) / sympy.factorial(2 * i + 1)
            for i in range(terms + 1)
        )
        g *= sinc ** (2 * profile.smoothing)
    elif profile.kind == "band":
        g *= sympy.cos(sympy.pi * t / 2) ** (2 * profile.smoothing)
    series = sympy.series(g, t, 0, 2 * terms + 1).removeO()
    half = sympy.Rational(1, 2)
    return [series.coeff(t, 2 * m) * sympy.gamma(m + half) for m in range(terms)]


def _product_tail(lags: Lags, profile: Profile, dim: Any, terms: int) -> list[Any]:
    """Coefficients of u^{−m−d/2} in Π J, polynomials in d."""
    import sympy

    x = sympy.Symbol("x")
    moved = [lag for lag in lags if lag]
    total = sympy.pi ** (dim / 2)
    rest = [c / sympy.sqrt(sympy.pi) for c in _tail(0, profile, terms)]
    y = sum(c * x**m for m, c in enumerate(rest)) - 1
    power = dim - len(moved)
    series = sum(sympy.ff(power, i) / sympy.factorial(i) * y**i for i in range(terms))
    for lag in moved:
        line = _tail(lag, profile, terms)
        series *= sum(c / sympy.sqrt(sympy.pi) * x**m for m, c in enumerate(line))
    series = sympy.expand(series)
    return [sympy.factor(series.coeff(x, m)) * total for m in range(terms)]


def lag_formula(alpha: Any, dim: Any, lags: Lags, profile: Profile, value: float) -> Any:
    """Finite part of ∫ |t|^{−α} Π g(t_a) cos(2πδ·t) dt, in symbols.

    Parameters
    ----------
    alpha, dim : sympy.Expr
        α and d in symbols.
    lags : tuple of int
        δ, one a number of axes that the formula is meant for.
    profile : Profile
        g.
    value : float
        α as a number: it says which powers of u diverge and are taken off.
    """
    import sympy

    lags = tuple(sorted(abs(x) for x in lags))
    if profile.kind == "all" and not any(lags):
        return sympy.Integer(0)
    u = _variable()
    moved = [lag for lag in lags if lag]
    integrand = u ** (alpha / 2 - 1)
    integrand *= axis_integral(0, profile) ** (dim - len(moved))
    for lag in moved:
        integrand *= axis_integral(lag, profile)
    excess = (value - len(lags)) / 2
    terms = math.floor(excess + 0.5) + 1  # half a power more than needed: it converges fast
    if excess < -1e-9:
        return sympy.Integral(integrand, (u, 0, sympy.oo)) / sympy.gamma(alpha / 2)
    powers = _product_tail(lags, profile, dim, terms)
    taken = sum(c * u ** (alpha / 2 - 1 - dim / 2 - i) for i, c in enumerate(powers))
    total = sympy.Integral(integrand, (u, 0, 1))
    total += sympy.Integral(integrand - taken, (u, 1, sympy.oo))
    for i, c in enumerate(powers):
        if abs(excess - i) > 1e-9:  # a logarithm has no finite part of its own
            total -= c / ((alpha - dim) / 2 - i)
    return total / sympy.gamma(alpha / 2)


def face_formula(alpha: Any, dim: Any, lags: Lags) -> Any:
    """Σ_a cos(πδ_a) ∫ |t|^{−α} cos(2πδ·t) dt over the face t_a = 1/2 of the cell, in symbols."""
    import sympy

    u, band = _variable(), Profile("band")
    moved = [abs(lag) for lag in lags if lag]

    def face(others: list[int], axes: Any) -> Any:
        if len(lags) == 1:
            return sympy.Integer(2) ** alpha
        integrand = u ** (alpha / 2 - 1) * sympy.exp(-u / 4) * axis_integral(0, band) ** axes
        for lag in others:
            integrand *= axis_integral(lag, band)
        return sympy.Integral(integrand, (u, 0, sympy.oo)) / sympy.gamma(alpha / 2)

    plain = dim - len(moved) if len(lags) > 1 else 1 - len(moved)
    total = plain * face(moved, plain - 1) if len(moved) < len(lags) else sympy.Integer(0)
    for i, lag in enumerate(moved):
        total += (-1) ** lag * face(moved[:i] + moved[i + 1 :], plain)
    return total
