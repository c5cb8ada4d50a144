"""Sums over modes of order 1, as sums over rays whose weights follow from moments."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from gradconv.kernels.separable import monomials
from gradconv.laws.densities import Density, Keyed, signal_density
from gradconv.laws.expansion import ORDER, target_factors
from gradconv.laws.moments import Factor
from gradconv.laws.physical import lattice_reach
from gradconv.laws.variance.contractions import (
    Contraction,
    KernelKey,
    Profiles,
    ray_contractions,
    wide_contractions,
)
from gradconv.laws.variance.covariances import Sides
from gradconv.laws.variance.rays import ray_weights, rays
from gradconv.laws.variance.scalars import NOTHING
from gradconv.laws.variance.weights import spectral_moments
from gradconv.problem import Problem

Which = tuple[int, int, bool]


@dataclass(frozen=True)
class Nodes:
    """Sums over modes as sums over rays.

    Parameters
    ----------
    dim, degree : int
        Dimension, and highest power of h that is kept.
    modes : ndarray, optional
        All modes j that matter, shape ``(modes, dim)``; None where they are infinitely many.
    power, target : ndarray, optional
        The signal's power and m at the modes.
    factors : tuple of callables, optional
        m as one factor an axis, for infinitely many modes.
    profiles : dict, optional
        Contractions at the modes, for a kernel of a physical width.
    halved : bool
        Whether of ±j only one is there, j = 0 last; real parts of sums do not see the difference.
    """

    dim: int
    degree: int
    modes: np.ndarray | None = None
    power: np.ndarray | None = None
    target: np.ndarray | None = None
    factors: tuple[Factor | None, ...] | None = None
    profiles: Profiles | None = None
    halved: bool = False
    _known: dict[Any, tuple[list[np.ndarray], int]] = field(default_factory=dict)

    @property
    def rays(self) -> np.ndarray:
        """Directions, shape ``(rays, dim)``."""
        return rays(self.dim, self.degree)

    def contractions(self, key: KernelKey, gain: float) -> tuple[Contraction, ...]:
        """Contractions along the rays; those of a wide kernel are in the weights instead."""
        if key.grid:
            return ray_contractions(key, gain, self.degree)
        one = np.zeros((self.degree + 1, len(self.rays)), dtype=complex)
        one[0] = 1.0
        return tuple(
            Contraction(0.0, left, right, (one,) * 4, (one,) * 4)
            for left, right in product((0, 1), repeat=2)
        )

    def weights(
        self, densities: tuple[Density | Sides, ...], signals: int, which: tuple[Which, ...]
    ) -> tuple[list[np.ndarray], int]:
        """Weights c_e with Σ_k P^signals Π S m^a m̄^b q_e(k) = Σ c_e q_e(ray), and how many hold."""
        each = (d if isinstance(d, Sides) else (d.scale, d.shift, d.alpha) for d in densities)
        key = (signals, which, tuple(each))
        if key not in self._known:
            self._known[key] = self._weights(densities, signals, which)
        return self._known[key]

    def _weights(
        self, densities: tuple[Density | Sides, ...], signals: int, which: tuple[Which, ...]
    ) -> tuple[list[np.ndarray], int]:
        degrees = self.degree + 1
        if self.modes is None:
            ((left, right, closed),) = which
            powers = (left + right, 0) if closed else (left, right)
            spectra = tuple(d for d in densities if not isinstance(d, Sides))
            moments = spectral_moments(spectra, self.dim, self.degree, self.factors, powers)
            values, degrees = moments.values, moments.degrees
        else:
            w = np.sum([self._at_modes(one) for one in which], axis=0)
            if self.power is not None:
                w = w * self.power**signals
            squares = np.sum(self.modes * self.modes, axis=1)
            for density in densities[signals:]:
                if isinstance(density, Sides):
                    w = w * density.on(self.modes)
                else:
                    w = w * density.at(squares)
            values = _mode_moments(self.modes, w, self.degree, not self.halved)
        found = [ray_weights(self.dim, e, self.degree, v) for e, v in enumerate(values)]
        return found, degrees

    def _at_modes(self, which: Which) -> np.ndarray:
        """m^a m̄^b at the modes, times a wide kernel's contraction."""
        assert self.modes is not None
        left, right, closed = which
        w = np.full(len(self.modes), 2.0 if self.halved else 1.0, dtype=complex)
        if self.halved:
            w[-1] = 1.0  # j = 0
        if self.target is not None:
            for _ in range(left + right if closed else left):
                w = w * self.target
            if right and not closed:
                w = w * self.target.conj()
        return w if self.profiles is None else w * self.profiles[which]


def _mode_moments(
    modes: np.ndarray, w: np.ndarray, degree: int, cancels: bool
) -> tuple[np.ndarray, ...]:
    """Σ w k^μ by degree; sums over ±k that cancel to rounding are zero."""
    flat = np.ascontiguousarray(modes, dtype=float).tobytes()
    parts = np.stack([w.real, w.imag])  # real products are much faster
    found = []
    for columns in _monomial_table(flat, modes.shape[1], degree):
        real, imaginary = parts @ columns
        value = real + 1j * imaginary
        if cancels:
            value[np.abs(value) < NOTHING * (np.abs(w) @ np.abs(columns))] = 0.0
        found.append(value)
    return tuple(found)


@lru_cache(maxsize=4)
def _monomial_table(modes: bytes, dim: int, degree: int) -> tuple[np.ndarray, ...]:
    """k^μ at modes, one array ``(modes, monomials)`` a degree."""
    k = 2 * np.pi * np.frombuffer(modes).reshape(-1, dim)
    powers = [k**e for e in range(degree + 1)]
    return tuple(
        np.stack(
            [math.prod(powers[nu][:, a] for a, nu in enumerate(mu)) for mu in monomials(dim, e)],
            axis=1,
        )
        for e in range(degree + 1)
    )


def degree_of(key: KernelKey) -> int:
    """Two orders beyond the leading one; weights that scale as 1/h^q shift all by 4q."""
    return ORDER + 2 + 4 * round(max(key.scalings))


def reached(problem: Problem) -> np.ndarray:
    """Modes that a kernel of a physical width sees, one of ±j and then 0, ``(modes, dim)``."""
    reach = lattice_reach(problem)
    axes = np.meshgrid(*[np.arange(-reach, reach + 1.0)] * problem.dim, indexing="ij")
    return np.stack([a.ravel() for a in axes], axis=1)[: (axes[0].size + 1) // 2]


def _profiles(key: KernelKey, gain: float, modes: np.ndarray) -> Profiles | None:
    if key.grid:
        return None
    return wide_contractions(key, gain, (2 * np.pi * modes).tobytes())


def signal_nodes(problem: Problem, key: KernelKey) -> Nodes:
    """Where the signal has modes that the kernel sees."""
    what = (problem.signal, problem.target, problem.noise.gain)
    return _signal_nodes(Keyed((key, what), problem), key)


@lru_cache(maxsize=32)
def _signal_nodes(keyed: Keyed, key: KernelKey) -> Nodes:
    problem = keyed.problem
    signal = signal_density(problem)
    assert signal is not None
    factors, degree = target_factors(problem), degree_of(key)
    if key.grid and signal.modes is None:
        return Nodes(problem.dim, degree, factors=factors)
    modes = reached(problem) if signal.modes is None else signal.modes
    power = signal.power
    if power is None:
        power = signal.at(np.sum(modes * modes, axis=1))
    target = np.ones(len(modes), dtype=complex)
    for axis, factor in enumerate(factors or ()):
        if factor is not None:
            target = target * factor(2 * np.pi * modes[:, axis])
    profiles = _profiles(key, problem.noise.gain, modes)
    halved = signal.modes is None
    return Nodes(problem.dim, degree, modes, power, target, profiles=profiles, halved=halved)


def noise_nodes(problem: Problem, key: KernelKey) -> Nodes:
    """Where noise meets noise: the kernel's modes, or rays for a kernel on the grid."""
    return _noise_nodes(Keyed(key, problem), key)


@lru_cache(maxsize=8)
def _noise_nodes(keyed: Keyed, key: KernelKey) -> Nodes:
    problem = keyed.problem
    if key.grid:
        return Nodes(problem.dim, degree_of(key))
    modes = reached(problem)
    profiles = _profiles(key, 1.0, modes)
    return Nodes(problem.dim, degree_of(key), modes, profiles=profiles, halved=True)
