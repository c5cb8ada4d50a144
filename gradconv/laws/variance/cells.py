"""Noise with noise on kernels that live on the grid: integrals over the frequencies of a cell.

A class of 2^d fine modes φ + πp, p ∈ {0, 1}^d, meets one coarse mode 2φ, φ in [−π/2, π/2]^d. For
independent pixels the integrand is a trigonometric polynomial, summed exactly by a small discrete
Fourier transform. For a power law it is singular at φ = 0, like |φ|^{−2α}, |φ|^{−α} and 1 times
functions that are smooth along rays: each is integrated by a product rule for its power (finite
part) on the pyramids over the faces of the cube. What the finite part leaves out is in the
moments at modes of order 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from gradconv.kernels import Kernel
from gradconv.laws.aliases import check_aliases
from gradconv.laws.densities import Density
from gradconv.laws.integrals import Profile, lag_integral
from gradconv.laws.symbols import kernel_values
from gradconv.laws.transfers import Transfer
from gradconv.laws.variance.contractions import KernelKey
from gradconv.laws.variance.covariances import Part, noise_parts
from gradconv.laws.variance.cubature import folded, pyramid, radial_rule
from gradconv.laws.variance.scalars import Expansion, ScalarTerm
from gradconv.problem import Problem

_BLOCK = 2**20


def cell_terms(
    problem: Problem, key: KernelKey, transfer: Transfer, noise: Density, expansion: Expansion
) -> None:
    """Add the terms of noise with noise."""
    refining = problem.setting == "refinement"
    band = problem.noise.coupling == "modes" if refining else transfer.cut
    if noise.flat and not band:
        _independent(problem, key, transfer, noise, expansion)
    else:
        _power_law(problem, key, transfer, noise, expansion, band)


@dataclass(frozen=True)
class _Contractions:
    """Σ over parameters of Γ_a Γ̄_b (and Γ_a Γ_b at i' = i) at the phases of classes.

    Parameters
    ----------
    fine : ndarray
        Of each fine slot with itself, shape ``(classes, 2**dim)``.
    mixed : ndarray
        Of each fine slot with the coarse one.
    coarse : ndarray
        Shape ``(classes,)``.
    """

    fine: np.ndarray
    mixed: np.ndarray
    coarse: np.ndarray


def corners(dim: int) -> np.ndarray:
    """p ∈ {0, 1}^d, the low slot first; shape ``(2**dim, dim)``."""
    return np.array(list(product((0, 1), repeat=dim)), dtype=float)


@dataclass(frozen=True)
class _Rule:
    """Phases of classes, hashable."""

    kind: str
    dim: int
    count: int

    def phases(self) -> np.ndarray:
        """Shape ``(classes, dim)``."""
        if self.kind == "transform":
            line = 2 * np.pi * np.arange(self.count // 2) / self.count
            mesh = np.meshgrid(*[line] * self.dim, indexing="ij")
            return np.stack([a.ravel() for a in mesh], axis=1)
        return pyramid(self.dim, self.count)[0]


@lru_cache(maxsize=32)
def _contractions(key: KernelKey, rule: _Rule) -> tuple[tuple[float, _Contractions], ...]:
    """By power of h."""
    kernel, dim = key.kernel, key.kernel.dim
    each = np.array(key.scalings)
    phases = rule.phases()
    shifts = np.pi * corners(dim)
    step = max(1, _BLOCK // (2**dim * kernel.theta.size * kernel.theta.shape[1]))
    found: dict[float, list[_Contractions]] = {}
    for start in range(0, len(phases), step):
        phi = phases[start : start + step]
        for power, part in _block(kernel, each, phi[:, None, :] + shifts, 2.0 * phi):
            found.setdefault(power, []).append(part)
    return tuple(
        (
            power,
            _Contractions(
                np.concatenate([p.fine for p in parts]),
                np.concatenate([p.mixed for p in parts]),
                np.concatenate([p.coarse for p in parts]),
            ),
        )
        for power, parts in found.items()
    )


def _block(
    kernel: Kernel, each: np.ndarray, fine: np.ndarray, coarse: np.ndarray
) -> Iterator[tuple[float, _Contractions]]:
    theta = kernel.theta
    scale = np.broadcast_to(kernel.scale, theta.shape)
    levels = []
    for phi in (fine, coarse):
        values = kernel_values(kernel, tuple(phi[..., a] for a in range(kernel.dim)), 1.0)
        slopes = np.moveaxis(values.slopes, (0, 1, 2), (-3, -2, -1))
        levels.append((slopes, slopes / np.where(scale == 0, 1.0, scale)))
    totals: dict[float, list[np.ndarray]] = {}
    powers = sorted(set(each))
    for q in powers:
        mixed = []  # Γ by power of the symbol, on both levels
        for p in powers:
            symbols = [np.einsum("...oip,oip->...oi", b, theta * (each == p)) for _, b in levels]
            shrink = 2.0 ** (-p - q)
            mixed.append(
                [
                    factor * s[..., each == q].conj()[..., :, None, :] * x[..., None, :, None]
                    for factor, (s, _), x in zip((1.0, shrink), levels, symbols, strict=True)
                ]
            )
        for (i, p), (j, r) in product(enumerate(powers), repeat=2):
            (f, c), (g, e) = mixed[i], mixed[j]
            parts = [
                _contract(f, g),
                0.5 * (_contract(f, e[:, None]) + _contract(g, c[:, None])),
                _contract(c, e),
            ]
            power = -2 * q - p - r
            before = totals.get(power)
            totals[power] = (
                parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]
            )
    for power, (one, two, three) in totals.items():
        yield power, _Contractions(one, two, three)


def _contract(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    total = np.sum((x * y.conj()).real, axis=(-4, -3, -2, -1))
    own = np.arange(min(x.shape[-3], x.shape[-2]))
    closed = (x[..., own, own, :] * y[..., own, own, :]).real
    return np.asarray(total + np.sum(closed, axis=(-3, -2, -1)))


def _shared(problem: Problem, transfer: Transfer, phases: np.ndarray) -> np.ndarray:
    """|ρ|², what the coarse mode takes of each fine one; phases of shape ``(…, dim)``."""
    if problem.setting == "refinement":
        if problem.noise.coupling == "average":
            return np.asarray(np.prod(np.cos(0.5 * phases) ** 2, axis=-1))
        return np.ones(phases.shape[:-1])
    if transfer.single:
        return np.ones(phases.shape[:-1])
    line = sum(
        (1.0 if lag == 0 else 2.0) * c * np.cos(lag * phases)
        for lag, c in enumerate(transfer.autocorrelation)
    )
    return np.asarray(np.prod(line, axis=-1))


def _independent(
    problem: Problem, key: KernelKey, transfer: Transfer, noise: Density, expansion: Expansion
) -> None:
    """Independent pixels: every covariance has finitely many lags."""
    dim = problem.dim
    lags = len(transfer.autocorrelation)
    # the coarse mode's own terms have degree 4·reach + 2·lags in its phase
    half = 1 << (4 * key.reach + 2 * lags).bit_length()
    rule = _Rule("transform", dim, 2 * half)
    phi = rule.phases()
    fine = phi[:, None, :] + np.pi * corners(dim)
    parts = noise_parts(problem, transfer, noise)
    shared = _shared(problem, transfer, fine)
    values = [_on_levels(part, fine, 2.0 * phi) for part in parts]
    for power, c in _contractions(key, rule):
        for (one, (f, k)), (two, (g, m)) in product(zip(parts, values, strict=True), repeat=2):
            terms = np.sum((c.fine - 2.0 * shared * c.mixed) * f * g, axis=1) + c.coarse * k * m
            base = power + one.exponent + two.exponent - dim
            value = float(np.mean(terms)) / 2.0**dim
            if abs(value) > 1e-13 * float(np.mean(np.abs(c.coarse * k * m))):
                expansion.terms.append(
                    ScalarTerm(base, one.fine_exponent + two.fine_exponent, value, "noise", "cell")
                )


def _on_levels(part: Part, fine: np.ndarray, coarse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert part.smooth is not None
    return part.smooth(fine), 2.0**part.exponent * part.smooth(coarse)


def _power_law(
    problem: Problem,
    key: KernelKey,
    transfer: Transfer,
    noise: Density,
    expansion: Expansion,
    band: bool,
) -> None:
    dim = problem.dim
    count = 24 if key.reach == 1 else 40
    rule = _Rule("pyramid", dim, count)
    phases, faces, heights = pyramid(dim, count)
    length = np.linalg.norm(phases, axis=1) / (2 * np.pi)  # |j| h
    spectra = _spectra(problem, transfer, noise, phases, band)
    for power, c in _contractions(key, rule):
        for one, two in product(spectra, repeat=2):
            if one.step + two.step > 2:
                continue
            base = power - dim + one.exponent + two.exponent
            origin = (base, one.fine_exponent + two.fine_exponent)
            total = 0.0
            for kappa, terms in _pieces(c, one, two):
                smooth = terms * (length / np.tile(heights, len(faces))) ** -kappa
                radial = radial_rule(dim - 1.0 - kappa, count)
                total += float(faces @ (smooth.reshape(len(faces), count) @ radial))
            expansion.terms.append(ScalarTerm(*origin, total / 2.0**dim, "noise", "cell"))
            if band:
                edge = 1.0 if transfer.cut and problem.setting == "coarsening" else 2.0
                expansion.limit(
                    base + edge, origin[1], "the end of the band is known to first order"
                )
            elif not noise.flat:
                expansion.limit(
                    base + (4.0 if noise.shift else 2.0),
                    origin[1],
                    "the tail of the spectrum is known to second order",
                )


@dataclass(frozen=True)
class _Spectrum:
    """A power of the spectrum's tail on both levels at the phases of classes.

    The low and the coarse slot are |t|^{−alpha} times `low`, `coarse`, plus `low_rest` and
    `coarse_rest`; `high` are the other fine slots; `shared` is |ρ|² by fine slot.
    """

    exponent: float
    fine_exponent: float
    step: int
    alpha: float
    low: np.ndarray
    low_rest: np.ndarray
    coarse: np.ndarray
    coarse_rest: np.ndarray
    high: np.ndarray
    shared: np.ndarray


def _pieces(c: _Contractions, one: _Spectrum, two: _Spectrum) -> Iterator[tuple[float, np.ndarray]]:
    """Integrands by the power of |t| that is taken out."""
    low = c.fine[:, 0] - 2.0 * one.shared[:, 0] * c.mixed[:, 0]

    def both(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return low * a * b + c.coarse * x * y

    yield one.alpha + two.alpha, both(one.low, two.low, one.coarse, two.coarse)
    yield one.alpha, both(one.low, two.low_rest, one.coarse, two.coarse_rest)
    yield two.alpha, both(one.low_rest, two.low, one.coarse_rest, two.coarse)
    rest = both(one.low_rest, two.low_rest, one.coarse_rest, two.coarse_rest)
    high = c.fine[:, 1:] - 2.0 * one.shared[:, 1:] * c.mixed[:, 1:]
    yield 0.0, rest + np.sum(high * one.high * two.high, axis=1)


def _spectra(
    problem: Problem, transfer: Transfer, noise: Density, phases: np.ndarray, band: bool
) -> list[_Spectrum]:
    dim = problem.dim
    fine = phases[:, None, :] + np.pi * corners(dim)
    own = (
        (noise.mesh_exponent, 0.0)
        if problem.setting == "refinement"
        else (0.0, noise.mesh_exponent)
    )
    zero, one = np.zeros(len(phases)), np.ones(len(phases))
    found = []
    orders = [(0, noise.scale)]
    if noise.shift:
        orders.append((2, -0.5 * noise.alpha * noise.shift * noise.scale))
    for step, scale in orders:
        alpha = noise.alpha + step
        growth = 2.0 ** own[0]
        if band:
            wrapped = (fine - 2 * np.pi * np.round(fine / (2 * np.pi))) / (2 * np.pi)
            with np.errstate(divide="ignore"):
                high = scale * np.sum(wrapped[:, 1:] ** 2, axis=-1) ** (-0.5 * alpha)
            shared = np.zeros((len(phases), 2**dim))
            shared[:, 0] = 1.0
            found.append(
                _Spectrum(
                    alpha + own[0], own[1], step, alpha,
                    scale * one, zero, growth * scale * one, zero, high, shared,
                )
            )  # fmt: skip
            continue
        check_aliases(problem, transfer)
        shared = _shared(problem, transfer, fine)
        r = transfer.smoothing
        totals = folded(alpha, r, fine[:, 1:] / (2 * np.pi), low=True)
        rest = folded(alpha, r, phases / (2 * np.pi), low=False)
        coarse_rest = 2.0**alpha * folded(alpha, r, phases / np.pi, low=False)
        gain, double = (
            np.prod(np.sinc(p) ** (2 * r), axis=1) for p in (phases / (2 * np.pi), phases / np.pi)
        )
        found.append(
            _Spectrum(
                alpha, own[1], step, alpha,
                scale * gain, scale * rest, scale * double, scale * coarse_rest,
                scale * totals, shared,
            )
        )  # fmt: skip
        if r == 0:  # the data's own mesh ends the sum over aliases: independent pixels
            level = scale * lag_integral(alpha, (0,) * dim, Profile("band"))
            flat = level * np.ones_like(totals)
            found.append(
                _Spectrum(
                    float(dim), own[1] + alpha - dim, step, alpha,
                    zero, level * one, zero, 2.0**dim * level * one, flat, shared,
                )
            )  # fmt: skip
    return found
