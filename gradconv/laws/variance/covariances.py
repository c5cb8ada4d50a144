"""Noise on two neighbouring levels at modes that both resolve, in parts that are powers of h.

A part of the noise on the mesh of size h has power h^p h_L^q S(k) g(kh) at mode k, with S the
singular factor of a power law (or 1) and g smooth; on the mesh of size 2h it is the same law at 2h,
and the two levels share ρ(kh) times the finer one's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.special import zeta

from gradconv.errors import LawError
from gradconv.laws.aliases import WeightPart, check_aliases, replica_sum, side_parts
from gradconv.laws.densities import Density
from gradconv.laws.integrals import Profile, lag_integral
from gradconv.laws.transfers import Transfer, flat_covariance
from gradconv.laws.variance.rays import Series, chopped, doubled, exponential, taylor, times
from gradconv.problem import Problem

Smooth = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sides:
    """Aliases on a mesh whose source has twice the cells: not smooth in k, known by mode.

    Parameters
    ----------
    density : tuple of float
        Scale, κ² and α of the signal, and what else tells it from others.
    parts : tuple of WeightPart
        What adds up, all of one power of h.
    """

    density: tuple[float, ...]
    parts: tuple[WeightPart, ...] = field(compare=False)

    def on(self, modes: np.ndarray) -> np.ndarray:
        """Values at modes j, ``(modes, dim)``."""
        k = tuple(2 * np.pi * modes.T)
        return np.asarray(np.sum([p.amount * p.at(k) for p in self.parts], axis=0))


@dataclass(frozen=True)
class Part:
    """Part of the noise's power on a mesh.

    Parameters
    ----------
    exponent, fine_exponent : float
        p and q.
    smooth : callable, optional
        g at phases, shape ``(…, dim)`` to ``(…)``; None is the restriction's own |T|².
    density : Density, optional
        S; None is 1.
    known : float
        Up to which relative power of h the part is known.
    apart : bool
        Whether the two levels have no mode of the part in common.
    """

    exponent: float
    fine_exponent: float
    smooth: Smooth | None
    density: Density | Sides | None = None
    known: float = math.inf
    apart: bool = False


def signal_aliases(problem: Problem, transfer: Transfer, density: Density) -> list[Part]:
    """Modes k + 2πp/h of a signal of infinitely many modes seen at k, to leading order in kh.

    Raises
    ------
    LawError
        If they have no closed form.
    """
    if problem.setting == "coarsening":
        return _alias_parts(problem, transfer, density)
    # the source has twice the level's cells: other modes on each level
    by_power: dict[float, list[WeightPart]] = {}
    for part in side_parts(problem, transfer, density):
        by_power.setdefault(part.exponent.value(density, problem.dim), []).append(part)
    last = max(by_power)
    own = (density.scale, density.shift, density.alpha, float(transfer.smoothing))
    return [
        Part(p, 0.0, constant(1.0), Sides((*own, p), tuple(same)), last - p, apart=True)
        for p, same in by_power.items()
    ]


def noise_parts(problem: Problem, transfer: Transfer, density: Density) -> list[Part]:
    """Split the noise at low modes.

    Raises
    ------
    LawError
        If its aliases have no closed form.
    """
    if density.flat and not density.origin:
        raise LawError("`alpha` must be positive for a law of the fluctuation; got 0")
    if problem.setting == "refinement" or transfer.cut:
        own = (density.mesh_exponent, 0.0)
        if problem.setting == "coarsening":
            own = own[::-1]
        if density.flat:
            return [Part(*own, lambda phi: density.scale * np.ones(phi.shape[:-1]))]
        return [Part(*own, None, density)]
    if density.flat:
        return flat_parts(problem.dim, transfer, density)
    return [
        Part(0.0, density.mesh_exponent, None, density),
        *_alias_parts(problem, transfer, density),
    ]


def flat_parts(dim: int, transfer: Transfer, density: Density) -> list[Part]:
    """Independent pixels after restriction: products over the axes of powers of h/h_L."""
    lines = flat_covariance(transfer)
    found: dict[float, list[tuple[dict[int, float], ...]]] = {}
    for axes in product(lines, repeat=dim):
        total = round(sum(exponent for exponent, _ in axes), 9)
        found.setdefault(total, []).append(tuple(rows for _, rows in axes))
    own = density.mesh_exponent - dim
    return [
        Part(dim + total, own - total, _trigonometric(density.scale, terms))
        for total, terms in found.items()
    ]


def _trigonometric(scale: float, terms: list[tuple[dict[int, float], ...]]) -> Smooth:
    def value(phi: np.ndarray) -> np.ndarray:
        total = np.zeros(phi.shape[:-1], dtype=phi.dtype)
        for rows in terms:
            line = scale
            for axis, lags in enumerate(rows):
                line = line * sum(
                    (1.0 if lag == 0 else 2.0) * c * np.cos(lag * phi[..., axis])
                    for lag, c in lags.items()
                )
            total = total + line
        return total

    return value


def _alias_parts(problem: Problem, transfer: Transfer, density: Density) -> list[Part]:
    """Modes k + 2πp/h of a power law seen at k, to leading order in kh."""
    check_aliases(problem, transfer)
    dim, alpha, r = problem.dim, density.alpha, transfer.smoothing
    if r == 0:
        value = density.scale * replica_sum(alpha, dim)
        band = density.scale * lag_integral(alpha, (0,) * dim, Profile("band"))
        return [
            Part(alpha, 0.0, constant(value), known=1),
            Part(float(dim), alpha - dim, constant(band), known=1),
        ]
    exponent = alpha + 2 * r
    size = 2 * zeta(exponent) * density.scale / (2 * np.pi) ** (2 * r)
    return [Part(alpha, 0.0, lambda phi: size * np.sum(phi ** (2 * r), axis=-1), known=2 * r + 1)]


def constant(value: float) -> Smooth:
    """The same at every phase."""
    return lambda phi: value * np.ones(phi.shape[:-1])


class Levels:
    """Transfers and noise of two levels along rays, h and 2h.

    Parameters
    ----------
    problem : Problem
        The problem.
    transfer : Transfer
        Of its restriction.
    rays : ndarray
        Directions, shape ``(rays, dim)``: modes k, or unit vectors.
    degree : int
        Highest power of h that is kept.
    """

    def __init__(self, problem: Problem, transfer: Transfer, rays: np.ndarray, degree: int) -> None:
        self._problem, self._transfer, self._rays = problem, transfer, rays
        self._degree = degree
        refining = problem.setting == "refinement"
        # polynomials in λ² are sampled at its values here
        self.ratios = ratio_nodes(1 if refining else degree // 2 + 1)
        sums = [np.sum(rays**e, axis=1) for e in range(degree + 1)]
        self._logs = [np.zeros((degree + 1, len(self.ratios), len(rays))) for _ in range(2)]
        for level, log in enumerate(self._logs):
            for e, gain in self._gains(level).items():
                log[e] = gain[:, None] * sums[e]

    def _gains(self, level: int) -> dict[int, np.ndarray]:
        """Coefficients of Σ_a (k_a h)^e in log |T|² of the signal on h (0) or 2h (1)."""
        transfer = self._transfer
        found: dict[int, np.ndarray] = {}
        if transfer.cut:
            return found
        rows = np.array(transfer.autocorrelation)
        counts = np.where(np.arange(len(rows)) == 0, 1.0, 2.0) * rows
        lags = np.arange(len(rows))
        line = taylor(
            lambda phi: np.log(np.cos(phi * lags) @ counts), np.ones((1, 1)), self._degree
        ).real
        for e in range(2, self._degree + 1, 2):
            ratio = (self.ratios**0.5 / 2.0**level) ** e
            if self._problem.setting == "refinement":
                share = np.full(1, 2.0**-e)
            elif transfer.single:
                share = ratio
            else:
                share = (1.0 - ratio) / (2.0**e - 1.0)
            found[e] = line[e, 0] * share * 2.0 ** (e * level)
        return found

    def transfers(self) -> tuple[Series, Series]:
        """T of the signal on both levels, phases left out."""
        return exponential(0.5 * self._logs[0]), exponential(0.5 * self._logs[1])

    def noise(self, part: Part) -> tuple[Series, Series, Series]:
        """Fine, mixed (coarse against fine) and coarse moments of a part, without S and powers."""
        growth = 2.0**part.exponent
        if part.smooth is None:
            fine = exponential(0.0 * self._logs[0])
            if self._problem.setting == "refinement":
                mixed = self._coupling()
                return fine, mixed, growth * fine
            fine, coarse = exponential(self._logs[0]), exponential(self._logs[1])
            return fine, exponential(0.5 * (self._logs[0] + self._logs[1])), growth * coarse
        # sums of products of cosines cancel at low degrees
        fine = chopped(taylor(part.smooth, self._rays, self._degree), 1e-12)[:, None]
        coarse = growth * doubled(fine)
        if part.apart:
            return fine, np.zeros_like(fine), coarse
        return fine, times(fine, self._coupling()), coarse

    def _coupling(self) -> Series:
        """ρ: what the coarser level sees of the finer one's noise."""
        if self._problem.setting == "coarsening":
            return exponential(0.5 * (self._logs[1] - self._logs[0]))
        rays, coupling = self._rays, self._problem.noise.coupling
        shift = 1.0 if coupling == "average" else 0.0  # in halves of a cell
        if self._problem.restriction.grid == "cell":  # the signal's meshes are shifted too
            shift -= 1.0

        def value(phi: np.ndarray) -> np.ndarray:
            phase = np.exp(0.5j * shift * phi.sum(axis=-1))
            if coupling == "average":
                phase = phase * np.prod(np.cos(0.5 * phi), axis=-1)
            return np.asarray(phase)

        return taylor(value, rays, self._degree)[:, None]


@lru_cache(maxsize=64)
def ratio_solver(count: int, steps: int) -> np.ndarray:
    """Matrix from values at `count` ratios to coefficients of powers of λ²."""
    return np.asarray(np.linalg.pinv(ratio_nodes(count)[:, None] ** np.arange(steps)))


def ratio_nodes(count: int) -> np.ndarray:
    """Values of λ² at which polynomials are sampled; one alone is λ = 0."""
    if count == 1:
        return np.zeros(1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count))
