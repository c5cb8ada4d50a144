"""Kernels that live on the grid: inner moments, outer integrals over the frequencies of a cell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gamma

from gradconv.errors import LawError
from gradconv.kernels import KernelFormula
from gradconv.laws.densities import Density, Exponent
from gradconv.laws.expansion import (
    ORDER,
    Polynomial,
    over_axes,
    pixel_covariance,
    target_factors,
    transfer_series,
)
from gradconv.laws.integrals import Lags, Profile, face_integral, lag_integral
from gradconv.laws.law import VectorTerm
from gradconv.laws.moments import lattice_moment
from gradconv.laws.symbols import compiled, kernel_values, mesh_size, wave_numbers
from gradconv.laws.transfers import Transfer
from gradconv.problem import Problem

Slopes = dict[int, Polynomial]


def grid_terms(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    """Terms of a field's part in the mean gradient."""
    if density.flat:
        parts = flat_parts(problem, formula, transfer, density)
        found = [_lag_term(part, density, origin) for part in parts]
        if not density.origin:  # without the mode k = 0
            inner = _grid_inner(problem, formula, transfer, only_origin(problem, density), origin)
            found += [t for t in inner if t.exponent == t.fine_exponent == 0]
        return found
    found = _grid_inner(problem, formula, transfer, density, origin)
    if not density.finite:
        outer = outer_parts(problem, formula, transfer, density, origin)
        found += [_lag_term(part, density, origin) for part in outer]
    return found


def only_origin(problem: Problem, density: Density) -> Density:
    """Minus the mode j = 0."""
    zero = np.zeros((1, problem.dim))
    return Density(density.scale, density.constant, modes=zero, power=np.array([-density.scale]))


@lru_cache(maxsize=256)
def slope_series(slope: Any, k: tuple[Any, ...], h: Any) -> tuple[tuple[int, Any, Any], ...]:
    """(power of h, monomial in k, coefficient) of a slope that is regular at h = 0."""
    import sympy

    if slope.has(sympy.exp) and not slope.has(sympy.sin):
        expansion, derivative = sympy.Integer(0), slope
        for power in range(ORDER + 1):
            expansion += derivative.subs(h, 0) * h**power / sympy.factorial(power)
            derivative = sympy.diff(derivative, h)
    else:
        expansion = sympy.series(slope, h, 0, ORDER + 1).removeO()
    poly = sympy.Poly(sympy.expand(expansion), h, *k)
    return tuple((m[0], m[1:], c) for m, c in poly.terms())


def expanded_slopes(problem: Problem, formula: KernelFormula) -> Slopes:
    """∂σ/∂θ as Σ h^p times polynomials in k, coefficients of shape ``(p,)``."""
    k, h = wave_numbers(problem.dim), mesh_size()
    count = problem.convolution.theta.shape[2]
    constants, fixed = tuple(formula.constants), tuple(formula.constants.values())
    found: dict[int, Polynomial] = {}
    for position, slope in enumerate(formula.slopes):
        for power, mu, coefficient in slope_series(slope, k, h):
            part = found.setdefault(power, {})
            values = part.setdefault(mu, np.zeros(count, dtype=complex))
            function = compiled((*constants, *formula.index), coefficient)
            if formula.index:
                assert formula.values is not None
                values += function(*fixed, *formula.values.T.astype(float))
            else:
                values[position] += complex(function(*fixed))
    return found


class InnerPart(NamedTuple):
    """weight · slope · symbol · moment: one product of expansions in the inner region.

    Parameters
    ----------
    exponent, fine_exponent : float
        Exponents of h and h_L.
    weight : float
        Coefficient in the restriction's transfer.
    slope, symbol : (int, tuple of int)
        The term of the slopes' and of σ's expansion (power of h, monomial in k); no `symbol`: the
        target in σ's place.
    total : tuple of int
        Exponents of k in the moment.
    """

    exponent: float
    fine_exponent: float
    weight: float
    slope: tuple[int, Lags]
    symbol: tuple[int, Lags] | None
    total: Lags


def inner_parts(
    gains: dict[tuple[int, int], Polynomial], slopes: Slopes, target: bool
) -> Iterator[InnerPart]:
    """Products of the expansions of transfer, slopes and symbol, up to `ORDER`."""
    for (a, b), polynomial in gains.items():
        for nu, weight in polynomial.items():
            for p, left in slopes.items():
                if a + b + p > ORDER:
                    continue
                for mu in left:
                    total = tuple(x + y for x, y in zip(mu, nu, strict=True))
                    if target:
                        yield InnerPart(a + p, b, weight, (p, mu), None, total)
                    for q, right in slopes.items():
                        if a + b + p + q > ORDER:
                            continue
                        for rho in right:
                            both = tuple(x + y for x, y in zip(total, rho, strict=True))
                            if sum(both) % 2 == 0:
                                yield InnerPart(a + p + q, b, weight, (p, mu), (q, rho), both)


def _grid_inner(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    kernel = problem.convolution
    theta, scale = kernel.theta, np.broadcast_to(kernel.scale, kernel.theta.shape)
    slopes = expanded_slopes(problem, formula)
    gains = transfer_series(problem, transfer, origin)
    factors = target_factors(problem) if origin == "signal" else None
    gain = problem.noise.gain if origin == "signal" else 1.0
    own = np.eye(*theta.shape[:2])[:, :, None]
    found = []
    for part in inner_parts(gains, slopes, origin == "signal"):
        left = slopes[part.slope[0]][part.slope[1]].conj()
        if part.symbol is None:
            sign, right = -gain, own
            value, pole = lattice_moment(density, part.total, factors)
        else:
            others = slopes[part.symbol[0]][part.symbol[1]]
            sign, right = gain**2, np.einsum("oip,p->oi", theta, others)[:, :, None]
            value, pole = lattice_moment(density, part.total, None)
        vector = part.weight * left * right
        power = part.exponent + density.mesh_exponent
        mixed = sign * scale * (vector * value).real
        found.append(VectorTerm(power, part.fine_exponent, 0, mixed, origin, "inner"))
        if pole:
            logs = 2.0 * pole * sign * scale * np.real(vector)
            found.append(VectorTerm(power, part.fine_exponent, 1, logs, origin, "inner"))
    return found


@lru_cache(maxsize=256)
def _scaling(slope: Any, k: tuple[Any, ...], h: Any) -> float:
    """q where slope(φ/h, h) = h^{−q} b(φ)."""
    import sympy

    scaled = slope.subs({a: a / h for a in k}, simultaneous=True)
    power = sympy.simplify(h * sympy.diff(scaled, h) / scaled)
    if power.free_symbols:
        raise LawError(
            "`kernel` must scale as a power of h at frequencies of order 1/h for a law; got "
            f"slope {slope}"
        )
    return -float(power)


def scalings(problem: Problem, formula: KernelFormula) -> np.ndarray:
    """Scaling q of each parameter's slope."""
    k, h = wave_numbers(problem.dim), mesh_size()
    each = np.array([_scaling(s, k, h) for s in formula.slopes])
    return each if not formula.index else np.full(problem.convolution.theta.shape[2], each[0])


def lags_told_apart(formula: KernelFormula) -> int:
    """Phases an axis on which the lags of products of two taps are not aliases of each other."""
    reach = 2 if formula.values is None else int(np.abs(formula.values).max(initial=1))
    return 1 << (4 * reach + 1).bit_length()


def lag_coefficients(
    problem: Problem, formula: KernelFormula, target: bool = False
) -> Iterator[tuple[float, tuple[int, ...], np.ndarray]]:
    """Re[conj(b_m) σ] at k = φ/h as Σ_δ A_δ cos(δ·φ): (power of h, δ, A) with scaled A.

    With `target`, Re[conj(b_m)] of the diagonal pairs instead.
    """
    kernel, dim = problem.convolution, problem.dim
    each = scalings(problem, formula)
    n = lags_told_apart(formula)
    phi = 2.0 * np.pi * np.fft.fftfreq(n)
    axes = np.meshgrid(*[phi] * dim, indexing="ij", sparse=True)
    values = kernel_values(kernel, tuple(axes), 1.0)  # at h = 1 frequencies are phases
    scale = np.broadcast_to(kernel.scale, kernel.theta.shape)
    basis = values.slopes / scale.reshape(*scale.shape, *(1,) * dim)
    own = np.eye(*kernel.theta.shape[:2]).reshape(*kernel.theta.shape[:2], *(1,) * (dim + 1))
    for q in {0.0} if target else set(each):
        if target:
            mixed = (own * values.slopes.conj()).real
        else:
            chosen = kernel.theta * (each == q)
            symbol = np.einsum("oip,oip...->oi...", chosen, basis)
            mixed = (values.slopes.conj() * symbol[:, :, None]).real
        lags = np.fft.fftn(mixed, axes=tuple(range(-dim, 0)), norm="forward").real
        for p in set(each):
            part = lags * (each == p).reshape(-1, *(1,) * dim)
            size = np.abs(part).max()
            for index in np.argwhere(np.abs(part).max(axis=(0, 1, 2)) > 1e-14 * size):
                lag = tuple(int(i) if i <= n // 2 else int(i) - n for i in index)
                yield -(p + q), lag, part[(..., *index)]


class LagPart(NamedTuple):
    """What one lag of the covariance of neighbouring pixels adds to a vector.

    Parameters
    ----------
    kind : str
        flat (a product of `choices` over the axes), outer (`lag_integral`), or a correction at the
        end of the band: kink and nyquist (`face_integral`), band, pole, far.
    step : int
        i of the term |j|^{−α−2i} of the spectrum's tail.
    exponent, fine_exponent : Exponent
        Exponents of h and h_L.
    logs : int
        Exponent of log(1/h).
    slopes : float
        The power of h that the kernel's slopes bring.
    lag : tuple of int
        δ, in cells.
    target : bool
        Whether the target takes the place of the symbol.
    vector : ndarray
        The whole contribution.
    choices : tuple
        Exponents of h and h_L of each axis, for flat spectra.
    """

    kind: str
    step: int
    exponent: Exponent
    fine_exponent: Exponent
    logs: int
    slopes: float
    lag: Lags
    target: bool
    vector: np.ndarray
    choices: tuple[tuple[float, float], ...] = ()


_REGION = {"flat": "flat", "outer": "outer"}


def _lag_term(part: LagPart, density: Density, origin: str) -> VectorTerm:
    dim = len(part.lag)
    power, fine = part.exponent.value(density, dim), part.fine_exponent.value(density, dim)
    region = _REGION.get(part.kind, "boundary")
    return VectorTerm(power, fine, part.logs, part.vector, origin, region)


def flat_parts(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density
) -> Iterator[LagPart]:
    """Independent pixels: Σ_δ A_δ Cov(δ), the covariance of the restricted noise in cells."""
    covariance = pixel_covariance(problem, transfer, density)
    own, none = Exponent(dim=-1.0, mesh=1.0), Exponent()
    variance = (own, none) if problem.setting == "refinement" else (none, own)
    for power, lag, vector in lag_coefficients(problem, formula):
        # Cov = variance of a pixel times a product over the axes of sums of powers
        for parts in product(*(covariance[1](abs(x)) for x in lag)):
            c = math.prod(part[2] for part in parts)
            if c:
                choices = tuple((part[0], part[1]) for part in parts)
                h, fine = (over_axes(tuple(x[side] for x in choices)) for side in (0, 1))
                yield LagPart(
                    "flat",
                    0,
                    variance[0].plus(*h).plus(power),
                    variance[1].plus(*fine),
                    0,
                    power,
                    lag,
                    False,
                    density.scale * c * vector,
                    choices,
                )


def outer_profile(problem: Problem, transfer: Transfer, origin: str) -> Profile:
    """What is left of a mode's power over the frequencies of a cell.

    Raises
    ------
    LawError
        If that has no closed form.
    """
    if problem.setting == "refinement":
        if origin == "noise" or transfer.cut:
            return Profile("band")
        smoothing = transfer.smoothing
        kind = Profile("band", 1.0, max(smoothing, 0))
    else:
        smoothing = transfer.smoothing
        kind = Profile("band") if transfer.cut else Profile("sinc", 0.5, smoothing)
        if smoothing == 0 and not transfer.cut:
            kind = Profile("all")
    if smoothing < 0 or transfer.single:
        raise LawError(
            f"`restriction` {problem.restriction.name} leaves a power law no closed profile "
            "(its symbol is no power of cos(θ/2), or its route is direct)"
        )
    return kind


def outer_parts(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> Iterator[LagPart]:
    """The tail |j|^{−α−2i} of the spectrum against the frequencies of a cell."""
    dim, alpha = problem.dim, density.alpha
    coefficients = None
    for i in range(ORDER):
        tail = alpha + 2 * i
        if i and density.shift == 0:
            break
        if coefficients is None:
            lowest = -2.0 * max(scalings(problem, formula))
            if tail - dim + density.mesh_exponent + lowest > ORDER:
                break
            profile = outer_profile(problem, transfer, origin)
            gain = problem.noise.gain if origin == "signal" else 1.0
            coefficients = [
                (p, lag, False, gain**2 * v) for p, lag, v in lag_coefficients(problem, formula)
            ]
            if origin == "signal":
                coefficients += [
                    (p, lag, True, -gain * v) for p, lag, v in _outer_target(problem, formula)
                ]
        ratio = (-density.shift) ** i / math.factorial(i)
        ratio *= float(gamma(alpha / 2 + i) / gamma(alpha / 2)) * density.scale
        for slopes, lag, target, vector in coefficients:
            power = Exponent(slopes + 2 * i, 1.0, -1.0, 1.0)
            if power.value(density, dim) > ORDER:
                continue
            amount = ratio * vector
            part = LagPart("outer", i, power, Exponent(), 0, slopes, lag, target, amount)
            yield part._replace(vector=lag_integral(tail, lag, profile) * amount)
            yield from _edges(problem, transfer, origin, tail, part, profile)


def _outer_target(problem: Problem, formula: KernelFormula) -> Any:
    name = problem.target.name
    if name in ("blur", "shift"):  # nothing of them is left at k of order 1/h
        return ()
    if name == "identity":
        return lag_coefficients(problem, formula, target=True)
    raise LawError(
        f"`target` {problem.target.spec} needs a smoother signal for a law: its multiplier meets "
        "the tail of the spectrum at frequencies of order 1/h"
    )


def _edges(
    problem: Problem,
    transfer: Transfer,
    origin: str,
    tail: float,
    part: LagPart,
    profile: Profile,
) -> Iterator[LagPart]:
    """Corrections from where the modes end: the sum there is a trapezoidal rule with a kink."""
    lag, dim = part.lag, len(part.lag)

    def correction(
        kind: str, size: float, power: Exponent, fine: Exponent, logs: int = 0
    ) -> LagPart:
        vector = size * part.vector
        return part._replace(
            kind=kind, exponent=power, fine_exponent=fine, logs=logs, vector=vector
        )

    if profile.kind == "band" and profile.width == 0.5:
        kink = -tail / 12.0 * face_integral(tail + 2.0, lag, profile)
        yield correction("kink", kink, part.exponent.plus(2.0), part.fine_exponent)
        if transfer.cut and (problem.setting == "coarsening" or origin == "signal"):
            # a quarter of each end's power instead of a half
            missing = -0.5 * face_integral(tail, lag, profile)
            yield correction("nyquist", missing, part.exponent.plus(1.0), part.fine_exponent)
    own, rest = Exponent(part.slopes, mesh=1.0), Exponent(2.0 * part.step, 1.0, -1.0)
    if profile.kind == "all" and not any(lag):
        # the variance of a pixel is that of the data's own mesh, whatever h
        pole = lattice_moment(Density(1.0, 1, alpha=tail, origin=False), lag, None)[1]
        band = lag_integral(tail, lag, Profile("band"))
        yield correction("band", band, own, rest)
        if pole and part.slopes:
            raise LawError(
                f"`alpha` must differ from d = {dim} for a law under injection with weights "
                "that scale with h: the logarithm is that of h_L"
            )
        if pole:  # its logarithm is that of h_L, not of h
            yield correction("pole", -2.0 * pole, own, Exponent(), 1)
    elif profile.kind == "all":
        axes = [a for a, x in enumerate(lag) if x]
        if len(axes) == 1:  # along an axis the end of the data's band is felt far away
            size = far_end(tail, lag)
            yield correction("far", size, own.plus(-2.0), rest.plus(2.0))


def far_end(tail: float, lag: Lags) -> float:
    """What the end of the data's band adds at a lag along one axis, over (h_L/h)²."""
    face = face_integral(tail + 2.0, (0,) * len(lag), Profile("band")) / len(lag)
    return -tail * face / (2 * np.pi * sum(lag)) ** 2
