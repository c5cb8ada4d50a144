"""Expansion of the mean gradient in powers of h: vectors, one for each power.

The mean gradient is Σ_k Re[conj(∂σ)(σ P(k) − δ C(k))]. Two regions of k matter (the method of
regions). *Inner*, k of order 1: everything that depends on kh is expanded, and what is left are
moments of the spectrum. *Outer*, k of order 1/h, for kernels that live on the grid: the spectrum is
replaced by its power-law tail, and what is left are integrals over the frequencies of a cell. Where
an inner moment diverges like a logarithm, the two together leave log(1/h).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from scipy.special import gamma, zeta

from gradconv.errors import LawError
from gradconv.kernels import KernelFormula
from gradconv.laws.ingredients import (
    ORDER,
    Density,
    Transfer,
    flat_covariance,
    noise_density,
    signal_density,
    transfer_of,
)
from gradconv.laws.integrals import Profile, face_integral, lag_integral
from gradconv.laws.moments import Factor, lattice_moment
from gradconv.laws.symbols import (
    compiled,
    formula_of,
    kernel_values,
    mesh_size,
    wave_numbers,
)
from gradconv.problem import Problem

Polynomial = dict[tuple[int, ...], Any]
NOTHING = 1e-13  # of the largest vector: rounding


@dataclass(frozen=True)
class VectorTerm:
    """v h^power h_L^fine log(1/h)^logs in the mean gradient.

    Parameters
    ----------
    power, fine : float
        Exponents of h and of the mesh size h_L of the data.
    logs : int
        0 or 1.
    vector : ndarray
        v, scaled gradient, shape ``(out, in, p)``.
    origin : str
        signal or noise.
    region : str
        How it was found: inner (a moment of the spectrum), outer (an integral over the
        frequencies of a cell), flat (a covariance in closed form), alias, boundary.
    """

    power: float
    fine: float
    logs: int
    vector: np.ndarray
    origin: str
    region: str


def mean_terms(problem: Problem) -> tuple[VectorTerm, ...]:
    """All terms of the mean gradient up to relative order `ORDER`.

    Parameters
    ----------
    problem : Problem
        A periodic problem.

    Raises
    ------
    LawError
        If an assumption fails; the message names it.
    """
    if problem.boundary != "periodic":
        raise LawError(
            f"`boundary` must be periodic for a law (a wall breaks the symmetry under shifts); "
            f"got {problem.boundary}"
        )
    formula, transfer = formula_of(problem.convolution), transfer_of(problem)
    grid = any(s.has(mesh_size()) for s in formula.slopes)
    signal, noise = signal_density(problem), noise_density(problem)
    if problem.channels > 1 and not problem.signal.random:
        raise LawError(
            "`channels` must be 1 for a law with a fixed signal (its channels are correlated); "
            f"got {problem.channels}"
        )
    terms: list[VectorTerm] = []
    expand = _grid if grid else _physical
    if signal is not None:
        terms += expand(problem, formula, transfer, signal, "signal")
    if noise is not None:
        terms += expand(problem, formula, transfer, noise, "noise")
    if problem.noise.offset:
        terms.append(_offset(problem))
    return merge(terms)


def merge(terms: list[VectorTerm]) -> tuple[VectorTerm, ...]:
    """Add vectors of the same powers and drop those that are rounding; in no special order."""
    found: dict[tuple[float, float, int, str, str], np.ndarray] = {}
    for t in terms:
        key = (round(t.power, 9), round(t.fine, 9), t.logs, t.origin, t.region)
        found[key] = found.get(key, 0.0) + t.vector
    largest = max((float(np.abs(v).max()) for v in found.values()), default=0.0)
    return tuple(
        VectorTerm(float(power), float(fine), logs, vector, origin, region)
        for (power, fine, logs, origin, region), vector in found.items()
        if np.abs(vector).max() > NOTHING * largest
    )


def gap_terms(terms: tuple[VectorTerm, ...]) -> tuple[VectorTerm, ...]:
    """Terms of the gap between h and 2h: g(h) − g(2h)."""
    found = []
    for t in terms:
        shrink = 1.0 - 2.0**t.power
        if shrink:
            vector = shrink * t.vector
            found.append(VectorTerm(t.power, t.fine, t.logs, vector, t.origin, t.region))
        if t.logs:  # log(1/2h) = log(1/h) − log 2
            vector = 2.0**t.power * math.log(2.0) * t.vector
            found.append(VectorTerm(t.power, t.fine, 0, vector, t.origin, t.region))
    return merge(found)


def _offset(problem: Problem) -> VectorTerm:
    """A constant input: the mode k = 0 alone, all channels alike."""
    values = kernel_values(problem.convolution, tuple(np.zeros(1) for _ in range(problem.dim)), 1.0)
    total = values.symbol[..., 0].sum(axis=1)
    vector = np.real(np.conj(values.slopes[..., 0]) * total[:, None, None])
    return VectorTerm(0.0, 0.0, 0, problem.noise.offset**2 * vector, "noise", "inner")


# --- what restrictions leave of a mode's power, expanded at fixed k --------------------------


def transfer_series(
    problem: Problem, transfer: Transfer, origin: str
) -> dict[tuple[int, int], Polynomial]:
    """|T(k)|² as Σ h^a h_L^b times polynomials in k, a + b ≤ `ORDER`."""
    dim = problem.dim
    one = (0,) * dim
    if transfer.cut or (problem.setting == "refinement" and origin == "noise"):
        return {(0, 0): {one: 1.0}}
    logs: dict[int, dict[tuple[int, int], float]] = {}
    for i, c in enumerate(transfer.cumulants, start=1):
        e = 2 * i
        if problem.setting == "refinement":  # one step, from cells of h/2
            logs[e] = {(e, 0): c / 2.0**e}
        elif transfer.single:
            logs[e] = {(0, e): c}
        else:  # Σ over the steps of c (2^s k h_L)^{2i}
            logs[e] = {(e, 0): c / (2.0**e - 1), (0, e): -c / (2.0**e - 1)}
    found: dict[tuple[int, int], Polynomial] = {(0, 0): {one: 1.0}}

    def add(key: tuple[int, int], mu: tuple[int, ...], value: float) -> None:
        if value:
            part = found.setdefault(key, {})
            part[mu] = part.get(mu, 0.0) + value

    units = [tuple(int(a == b) for b in range(dim)) for a in range(dim)]
    for e, parts in logs.items():
        for key, value in parts.items():
            for unit in units:
                add(key, tuple(e * u for u in unit), value)
    for (key, value), (other, amount) in product(logs[2].items(), repeat=2):
        for one_axis, two_axis in product(units, repeat=2):
            mu = tuple(2 * (a + b) for a, b in zip(one_axis, two_axis, strict=True))
            add((key[0] + other[0], key[1] + other[1]), mu, 0.5 * value * amount)
    return found


def target_factors(problem: Problem) -> tuple[Factor | None, ...] | None:
    """m(k) as numeric factors an axis; None for the identity."""
    k = wave_numbers(problem.dim)
    formula = problem.target.formula(k)
    if formula is None:
        if problem.dim > 1:
            raise LawError(
                "`target` must be a product of functions of k_a for a law; got "
                f"{problem.target.spec}"
            )
        return (problem.target.multiplier,)
    if all(f == 1 for f in formula):
        return None
    return tuple(None if f == 1 else compiled((a,), f) for f, a in zip(formula, k, strict=True))


# --- kernels that live on the grid ------------------------------------------------------------


def _grid(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
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
    covariance = _covariance(problem, transfer, density)
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


def _covariance(problem: Problem, transfer: Transfer, density: Density) -> Any:
    """((powers of h, h_L) of a pixel's variance, lag → [(power of h, of h_L, coefficient)])."""
    own = density.mesh_power - problem.dim  # variance of a pixel is S h^{−d}
    if problem.setting == "refinement":
        return (own, 0.0), lambda lag: [(0.0, 0.0, 1.0 if lag == 0 else 0.0)]
    if transfer.cut:
        # modes of n cells, half the power at ±n/2: (n − 1/2)/n_L at lag 0, −(−1)^lag/(2 n_L) else
        def cut(lag: int) -> list[tuple[float, float, float]]:
            ends = (0.0, 1.0, -0.5 * (-1.0) ** lag)
            return [(-1.0, 1.0, 1.0), ends] if lag == 0 else [ends]

        return (0.0, own), cut
    parts = flat_covariance(transfer)

    def local(lag: int) -> list[tuple[float, float, float]]:
        return [(e, -e, rows[lag]) for e, rows in parts if lag in rows]

    return (0.0, own), local


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


# --- kernels of a physical width --------------------------------------------------------------


def _physical(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    """Moments of the spectrum against the kernel, which ends them all."""
    dim, kernel = problem.dim, problem.convolution
    if density.modes is not None and density.power is not None:
        k = tuple(2.0 * np.pi * density.modes.T)
        power = density.power
    else:
        cutoff = kernel.cutoff()
        if cutoff is None:
            raise LawError(f"`kernel` {kernel} must decay or live on the grid for a law")
        reach = math.ceil(0.85 * cutoff)  # to 1e-14 of the largest term
        j = np.arange(-reach, reach + 1)
        mesh = np.meshgrid(*[j] * dim, indexing="ij")
        columns = [x.ravel() for x in mesh]
        power = density.at(np.sum([x * x for x in columns], axis=0))
        k = tuple(2.0 * np.pi * x for x in columns)
    values = kernel_values(kernel, k, 1.0)
    gain = problem.noise.gain if origin == "signal" else 1.0
    residual = gain**2 * values.symbol
    if origin == "signal":
        target = np.ones(len(power), dtype=complex)
        factors = target_factors(problem)
        for factor, column in zip(factors or (), k, strict=False):
            if factor is not None:
                target = target * factor(column)
        for channel in range(residual.shape[0]):
            residual[channel, channel] = residual[channel, channel] - gain * target
    slopes = (values.slopes.conj() * residual[:, :, None]).real
    found = []

    def record(a: float, b: float, weight: np.ndarray | float, region: str) -> None:
        found.append(VectorTerm(a, b, 0, slopes @ (weight * power), origin, region))

    if density.flat:
        for a, b, weight in _flat_spectrum(problem, transfer, density, k):
            record(a, b, weight, "flat")
        return found
    own = density.mesh_power
    for (a, b), polynomial in transfer_series(problem, transfer, origin).items():
        weight = sum(c * _monomial(k, mu) for mu, c in polynomial.items())
        record(a + own, b, weight, "inner")
    aliased = problem.setting == "coarsening" or origin == "signal"
    if aliased and not density.finite and not transfer.cut:
        found += _physical_aliases(problem, transfer, density, slopes, k, origin)
    return found


def _monomial(k: tuple[np.ndarray, ...], mu: tuple[int, ...]) -> np.ndarray | float:
    return math.prod((a**e for a, e in zip(k, mu, strict=True) if e), start=1.0)


def _flat_spectrum(
    problem: Problem, transfer: Transfer, density: Density, k: tuple[np.ndarray, ...]
) -> Iterator[tuple[float, float, np.ndarray]]:
    """S_h(k)/S of restricted independent pixels at fixed k: (power of h, of h_L, weight)."""
    (h_power, fine), row = _covariance(problem, transfer, density)
    if problem.setting == "refinement" or transfer.cut:
        if problem.setting == "refinement":
            yield density.mesh_power, 0.0, np.ones(len(k[0]))
        else:  # no mode below the cut is touched
            yield 0.0, density.mesh_power, np.ones(len(k[0]))
        return
    # an axis: Σ_lag r_lag cos(lag k h), with cos expanded; h^d in front
    lines: list[list[tuple[float, float, int, float]]] = [[]]
    line = lines[0]
    for lag in range(len(transfer.rows)):
        for a, b, c in row(lag):
            for m in range(ORDER // 2 + 1):
                count = 1.0 if lag == 0 else 2.0
                size = count * c * (-1.0) ** m * float(lag) ** (2 * m) / math.factorial(2 * m)
                if size:
                    line.append((a + 2 * m, b, 2 * m, size))
    for parts in product(line, repeat=problem.dim):
        if sum(part[2] for part in parts) > ORDER:
            continue
        a = sum(part[0] for part in parts) + h_power + problem.dim
        b = sum(part[1] for part in parts) + fine
        weight = _monomial(k, tuple(part[2] for part in parts))
        yield a, b, math.prod(part[3] for part in parts) * weight * np.ones(len(k[0]))


def _physical_aliases(
    problem: Problem,
    transfer: Transfer,
    density: Density,
    slopes: np.ndarray,
    k: tuple[np.ndarray, ...],
    origin: str,
) -> list[VectorTerm]:
    """Power at k + 2πp/h, p ≠ 0, seen at k: leading order in h."""
    dim, alpha, found = problem.dim, density.alpha, []
    if origin == "signal":
        if alpha - dim <= 2:
            raise LawError(
                "`signal` must have Sobolev regularity s > 1 for a law with a kernel of a "
                f"physical width (its aliases count otherwise); got s = {(alpha - dim) / 2:g}"
            )
        return []
    if transfer.single or transfer.smoothing < 0:
        raise LawError(
            f"`route` {problem.route} of restriction {problem.restriction.name} leaves the aliases "
            "of a power law no closed form"
        )
    own = density.mesh_power
    ones = np.ones(len(k[0]))
    if transfer.smoothing == 0:
        tail = Density(density.scale, density.symbol, alpha=alpha, origin=False)
        value, pole = lattice_moment(tail, (0,) * dim, None)
        if pole:
            raise LawError(
                f"`alpha` must differ from d under injection for a law; got alpha = d = {dim}"
            )
        found.append(VectorTerm(alpha + own, 0.0, 0, value.real * (slopes @ ones), origin, "alias"))
        # the sum over aliases is ended by the data's own mesh
        band = density.scale * lag_integral(alpha, (0,) * dim, Profile("band"))
        vector = band * (slopes @ ones)
        found.append(VectorTerm(dim + own, alpha - dim, 0, vector, origin, "alias"))
        return found
    exponent = alpha + 2 * transfer.smoothing
    if exponent > 1:  # aliases along one axis: Σ_p |p|^{−α−2r}, and (k_a h/2π)^{2r} from T
        weight = sum(a ** (2 * transfer.smoothing) for a in k)
        size = 2 * zeta(exponent) * density.scale / (2 * np.pi) ** (2 * transfer.smoothing)
        vector = size * (slopes @ (weight * ones))
        found.append(VectorTerm(exponent + own, 0.0, 0, vector, origin, "alias"))
    return found
