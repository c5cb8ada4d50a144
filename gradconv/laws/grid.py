"""Kernels that live on the grid: inner moments, outer integrals over the frequencies of a cell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from scipy.special import gamma

from gradconv.errors import LawError
from gradconv.kernels import KernelFormula
from gradconv.laws.expansion import Polynomial, pixel_covariance, target_factors, transfer_series
from gradconv.laws.ingredients import ORDER, Density, Transfer
from gradconv.laws.integrals import Profile, face_integral, lag_integral
from gradconv.laws.law import VectorTerm
from gradconv.laws.moments import lattice_moment
from gradconv.laws.symbols import compiled, kernel_values, mesh_size, wave_numbers
from gradconv.problem import Problem


def grid_terms(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    """Terms of a field's part in the mean gradient."""
    if density.flat:
        found = _grid_flat(problem, formula, transfer, density)
        if not density.origin:  # without the mode k = 0
            inner = _grid_inner(problem, formula, transfer, _only_origin(problem, density), origin)
            found += [t for t in inner if t.power == t.fine == 0]
        return found
    found = _grid_inner(problem, formula, transfer, density, origin)
    if not density.finite:
        found += _grid_outer(problem, formula, transfer, density, origin)
    return found


def _only_origin(problem: Problem, density: Density) -> Density:
    """Minus the mode j = 0."""
    zero = np.zeros((1, problem.dim))
    return Density(density.scale, density.symbol, modes=zero, power=np.array([-density.scale]))


@lru_cache(maxsize=256)
def _slope_series(slope: Any, k: tuple[Any, ...], h: Any) -> tuple[tuple[int, Any, Any], ...]:
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


def _expanded_slopes(problem: Problem, formula: KernelFormula) -> dict[int, Polynomial]:
    """∂σ/∂θ as Σ h^p times polynomials in k, coefficients of shape ``(p,)``."""
    k, h = wave_numbers(problem.dim), mesh_size()
    count = problem.convolution.theta.shape[2]
    constants, fixed = tuple(formula.constants), tuple(formula.constants.values())
    found: dict[int, Polynomial] = {}
    for position, slope in enumerate(formula.slopes):
        for power, mu, coefficient in _slope_series(slope, k, h):
            part = found.setdefault(power, {})
            values = part.setdefault(mu, np.zeros(count, dtype=complex))
            function = compiled((*constants, *formula.index), coefficient)
            if formula.index:
                assert formula.values is not None
                values += function(*fixed, *formula.values.T.astype(float))
            else:
                values[position] += complex(function(*fixed))
    return found


def _grid_inner(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    kernel = problem.convolution
    theta, scale = kernel.theta, np.broadcast_to(kernel.scale, kernel.theta.shape)
    slopes = _expanded_slopes(problem, formula)
    gains = transfer_series(problem, transfer, origin)
    factors = target_factors(problem) if origin == "signal" else None
    gain = problem.noise.gain if origin == "signal" else 1.0
    own = np.eye(*theta.shape[:2])[:, :, None]
    found = []

    def moment(mu: tuple[int, ...], weights: Any) -> tuple[complex, float]:
        return lattice_moment(density, mu, weights)

    def record(a: int, b: int, mu: tuple[int, ...], part: np.ndarray, weighted: bool) -> None:
        value, pole = moment(mu, factors if weighted else None)
        sign = -gain if weighted else gain**2
        mixed = sign * scale * (part * value).real
        region = "inner"
        power = a + density.mesh_power
        found.append(VectorTerm(power, b, 0, mixed, origin, region))
        if pole:
            logs = 2.0 * pole * sign * scale * np.real(part)
            found.append(VectorTerm(power, b, 1, logs, origin, region))

    for (a, b), polynomial in gains.items():
        for nu, weight in polynomial.items():
            for p, left in slopes.items():
                if a + b + p > ORDER:
                    continue
                for mu, values in left.items():
                    total = tuple(x + y for x, y in zip(mu, nu, strict=True))
                    if origin == "signal":
                        part = weight * own * values.conj()
                        record(a + p, b, total, part, True)
                    for q, right in slopes.items():
                        if a + b + p + q > ORDER:
                            continue
                        for rho, others in right.items():
                            symbol = np.einsum("oip,p->oi", theta, others)[:, :, None]
                            part = weight * values.conj() * symbol
                            both = tuple(x + y for x, y in zip(total, rho, strict=True))
                            if sum(both) % 2 == 0:
                                record(a + p + q, b, both, part, False)
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


def _scalings(problem: Problem, formula: KernelFormula) -> np.ndarray:
    """Scaling q of each parameter's slope."""
    k, h = wave_numbers(problem.dim), mesh_size()
    each = np.array([_scaling(s, k, h) for s in formula.slopes])
    return each if not formula.index else np.full(problem.convolution.theta.shape[2], each[0])


def lag_coefficients(
    problem: Problem, formula: KernelFormula, target: bool = False
) -> Iterator[tuple[float, tuple[int, ...], np.ndarray]]:
    """Re[conj(b_m) σ] at k = φ/h as Σ_δ A_δ cos(δ·φ): (power of h, δ, A) with scaled A.

    With `target`, Re[conj(b_m)] of the diagonal pairs instead.
    """
    kernel, dim = problem.convolution, problem.dim
    scalings = _scalings(problem, formula)
    reach = 2 if formula.values is None else int(np.abs(formula.values).max(initial=1))
    n = 1 << (4 * reach + 1).bit_length()
    phi = 2.0 * np.pi * np.fft.fftfreq(n)
    axes = np.meshgrid(*[phi] * dim, indexing="ij", sparse=True)
    values = kernel_values(kernel, tuple(axes), 1.0)  # at h = 1 frequencies are phases
    scale = np.broadcast_to(kernel.scale, kernel.theta.shape)
    basis = values.slopes / scale.reshape(*scale.shape, *(1,) * dim)
    own = np.eye(*kernel.theta.shape[:2]).reshape(*kernel.theta.shape[:2], *(1,) * (dim + 1))
    for q in {0.0} if target else set(scalings):
        if target:
            mixed = (own * values.slopes.conj()).real
        else:
            chosen = kernel.theta * (scalings == q)
            symbol = np.einsum("oip,oip...->oi...", chosen, basis)
            mixed = (values.slopes.conj() * symbol[:, :, None]).real
        lags = np.fft.fftn(mixed, axes=tuple(range(-dim, 0)), norm="forward").real
        for p in set(scalings):
            part = lags * (scalings == p).reshape(-1, *(1,) * dim)
            size = np.abs(part).max()
            for index in np.argwhere(np.abs(part).max(axis=(0, 1, 2)) > 1e-14 * size):
                lag = tuple(int(i) if i <= n // 2 else int(i) - n for i in index)
                yield -(p + q), lag, part[(..., *index)]


def _grid_flat(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density
) -> list[VectorTerm]:
    """Independent pixels: Σ_δ A_δ Cov(δ), the covariance of the restricted noise in cells."""
    found = []
    covariance = pixel_covariance(problem, transfer, density)
    for power, lag, vector in lag_coefficients(problem, formula):
        # Cov = variance of a pixel times a product over the axes of sums of powers
        choices = [covariance[1](abs(x)) for x in lag]
        for parts in product(*choices):
            a = sum(part[0] for part in parts)
            b = sum(part[1] for part in parts)
            c = math.prod(part[2] for part in parts)
            if c:
                h_power, fine = covariance[0]
                amount = density.scale * c * vector
                found.append(VectorTerm(power + h_power + a, fine + b, 0, amount, "noise", "flat"))
    return found


def _profile(problem: Problem, transfer: Transfer, origin: str) -> Profile:
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


def _grid_outer(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    """The tail |j|^{−α−2i} of the spectrum against the frequencies of a cell."""
    dim, alpha = problem.dim, density.alpha
    found: list[VectorTerm] = []
    coefficients = None
    for i in range(ORDER):
        tail = alpha + 2 * i
        if i and density.shift == 0:
            break
        if coefficients is None:
            lowest = -2.0 * max(_scalings(problem, formula))
            if tail - dim + density.mesh_power + lowest > ORDER:
                break
            profile = _profile(problem, transfer, origin)
            gain = problem.noise.gain if origin == "signal" else 1.0
            coefficients = [
                (p, lag, gain**2 * v) for p, lag, v in lag_coefficients(problem, formula)
            ]
            if origin == "signal":
                coefficients += [
                    (p, lag, -gain * v) for p, lag, v in _outer_target(problem, formula)
                ]
        ratio = (-density.shift) ** i / math.factorial(i)
        ratio *= float(gamma(alpha / 2 + i) / gamma(alpha / 2)) * density.scale
        for power, lag, vector in coefficients:
            value = lag_integral(tail, lag, profile)
            p = power + tail - dim + density.mesh_power
            if p > ORDER:
                continue
            found.append(VectorTerm(p, 0.0, 0, ratio * value * vector, origin, "outer"))
            found += _edges(problem, transfer, origin, tail, p, lag, ratio * vector, profile)
    return found


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
    power: float,
    lag: tuple[int, ...],
    vector: np.ndarray,
    profile: Profile,
) -> list[VectorTerm]:
    """Corrections from where the modes end: the sum there is a trapezoidal rule with a kink."""
    found = []
    if profile.kind == "band" and profile.width == 0.5:
        kink = -tail / 12.0 * face_integral(tail + 2.0, lag, profile)
        found.append(VectorTerm(power + 2, 0.0, 0, kink * vector, origin, "boundary"))
        if transfer.cut and (problem.setting == "coarsening" or origin == "signal"):
            # a quarter of each end's power instead of a half
            missing = -0.5 * face_integral(tail, lag, profile)
            found.append(VectorTerm(power + 1, 0.0, 0, missing * vector, origin, "boundary"))
    if profile.kind == "all" and not any(lag):
        # the variance of a pixel is that of the data's own mesh, whatever h
        own = power - (tail - len(lag))
        pole = lattice_moment(Density(1.0, 1, alpha=tail, origin=False), lag, None)[1]
        band = lag_integral(tail, lag, Profile("band"))
        found.append(VectorTerm(own, tail - len(lag), 0, band * vector, origin, "boundary"))
        if pole and own:
            raise LawError(
                f"`alpha` must differ from d = {len(lag)} for a law under injection with weights "
                "that scale with h: the logarithm is that of h_L"
            )
        if pole:  # its logarithm is that of h_L, not of h
            found.append(VectorTerm(own, 0.0, 1, -2.0 * pole * vector, origin, "boundary"))
    elif profile.kind == "all":
        axes = [a for a, x in enumerate(lag) if x]
        if len(axes) == 1:  # along an axis the end of the data's band is felt far away
            face = face_integral(tail + 2.0, (0,) * len(lag), Profile("band")) / len(lag)
            size = -tail * face / (2 * np.pi * lag[axes[0]]) ** 2
            own = power - (tail - len(lag))
            fine = 2 + tail - len(lag)
            found.append(VectorTerm(own - 2, fine, 0, size * vector, origin, "boundary"))
    return found
