"""How the modes of two neighbouring levels vary together.

Both levels are linear in the modes of one *base* mesh: in the coarsening setting the finest one, in
the refinement setting, for the noise, the finer of the two. Modes of the base are uncorrelated with
power S(J), and level modes are x̂(q) = Σ_{J ≡ q} T(J) η̂_J, so that all covariances are sums of
T T̄ S over aliases.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from gradconv.errors import LawError
from gradconv.fields import PixelLaw, RandomField
from gradconv.gradient.inputs import InputSource
from gradconv.laws.densities import read_density
from gradconv.laws.symbols import TWO_PI, compiled, taps_transfer, target_values
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.problem import Problem
from gradconv.restriction import LocalRestriction

Taps = dict[int, float]
POINT: Taps = {0: 1.0}


def fold(spectrum: np.ndarray, n: int, dim: int) -> np.ndarray:
    """Sum the aliases of each of n modes an axis, over the last `dim` axes (FFT order)."""
    base = spectrum.shape[-1]
    shape = (*spectrum.shape[:-dim], *(base // n, n) * dim)
    axes = tuple(range(-2 * dim, 0, 2))
    return np.asarray(spectrum.reshape(shape).sum(axis=axes))


def slots(values: np.ndarray, dim: int, layers: int | None = None) -> np.ndarray:
    """Order modes by class: ``(..., classes, 2**dim)``, or one slot on the coarse mesh."""
    lead, n = values.shape[:-dim], values.shape[-1]
    if layers == 1:
        return values.reshape(*lead, -1, 1)
    half = n // 2
    split = values.reshape(*lead, *(2, half) * dim)
    count = len(lead)
    order = [count + 2 * a for a in range(dim)], [count + 2 * a + 1 for a in range(dim)]
    moved = np.transpose(split, (*range(count), *order[1], *order[0]))
    return moved.reshape(*lead, half**dim, 2**dim)


@dataclass(frozen=True)
class Covariance:
    """Second moments of the modes of a fine and a coarse level.

    Parameters
    ----------
    fine, coarse : ndarray
        Power of each level's modes, FFT order.
    mixed : ndarray
        E[x̂_coarse(q) conj x̂_fine(q')] at every fine mode q' (q is its class).
    """

    fine: np.ndarray
    mixed: np.ndarray
    coarse: np.ndarray

    def __add__(self, other: Covariance) -> Covariance:
        return Covariance(
            self.fine + other.fine, self.mixed + other.mixed, self.coarse + other.coarse
        )

    def scaled(self, factor: float) -> Covariance:
        """All moments times a factor."""
        return Covariance(factor * self.fine, factor * self.mixed, factor * self.coarse)

    def matrices(self, dim: int) -> np.ndarray:
        """One Hermitian matrix a class, shape ``(classes, 2**dim + 1, 2**dim + 1)``."""
        fine, mixed = slots(self.fine, dim), slots(self.mixed, dim)
        classes, count = fine.shape
        full = np.zeros((classes, count + 1, count + 1), dtype=complex)
        diagonal = np.arange(count)
        full[:, diagonal, diagonal] = fine
        full[:, -1, :-1] = mixed
        full[:, :-1, -1] = mixed.conj()
        full[:, -1, -1] = self.coarse.ravel()
        return full


@dataclass(frozen=True)
class CrossCovariance:
    """E[ŷ conj x̂] between two levels: not Hermitian."""

    fine: np.ndarray
    coarse_fine: np.ndarray
    fine_coarse: np.ndarray
    coarse: np.ndarray

    def matrices(self, dim: int) -> np.ndarray:
        """One matrix a class, rows ŷ and columns x̂."""
        fine = slots(self.fine, dim)
        classes, count = fine.shape
        full = np.zeros((classes, count + 1, count + 1), dtype=complex)
        diagonal = np.arange(count)
        full[:, diagonal, diagonal] = fine
        full[:, -1, :-1] = slots(self.coarse_fine, dim)
        full[:, :-1, -1] = slots(self.fine_coarse, dim)
        full[:, -1, -1] = self.coarse.ravel()
        return full


@dataclass(frozen=True)
class LevelPair:
    """Moments of two neighbouring levels, n and n/2 cells an axis.

    Parameters
    ----------
    dim, n : int
        Dimension, and cells of the finer level.
    noise : Covariance
        Of the noise (each channel).
    signal : Covariance or None
        Of a random signal, times the square of the noise's gain.
    cross : CrossCovariance or None
        Target against signal, times the gain.
    target : Covariance or None
        Of the target.
    fine_noise : ndarray
        Mean power of the noise by channel on the finer level, ``(channels or 1, *mesh)``.
    coarse_noise : ndarray
        The same on the coarser one.
    base : int
        Cells of the mesh that the noise is drawn on.
    fine_taps, coarse_taps
        How the levels read the pixels of that mesh: weights by offset, an axis.
    """

    dim: int
    n: int
    noise: Covariance
    signal: Covariance | None
    cross: CrossCovariance | None
    target: Covariance | None
    fine_noise: np.ndarray
    coarse_noise: np.ndarray
    base: int
    fine_taps: Taps
    coarse_taps: Taps

    @property
    def fine_power(self) -> np.ndarray:
        """Power of the input by channel, fluctuations only."""
        return self.fine_noise + (0.0 if self.signal is None else self.signal.fine)

    @property
    def coarse_power(self) -> np.ndarray:
        """The same on the coarser level."""
        return self.coarse_noise + (0.0 if self.signal is None else self.signal.coarse)

    @property
    def fine_cross(self) -> np.ndarray:
        """E[conj(x̂) ŷ] on the finer level."""
        return np.zeros((self.n,) * self.dim) if self.cross is None else self.cross.fine

    @property
    def coarse_cross(self) -> np.ndarray:
        """The same on the coarser level."""
        return np.zeros((self.n // 2,) * self.dim) if self.cross is None else self.cross.coarse

    def noise_covariance(self) -> np.ndarray:
        """Matrices of the noise by class."""
        return self.noise.matrices(self.dim)

    def covariances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """⟨x̂ x̂*⟩, ⟨ŷ x̂*⟩ and ⟨ŷ ŷ*⟩ by class."""
        xx = self.noise_covariance()
        if self.signal is None or self.cross is None or self.target is None:
            return xx, np.zeros_like(xx), np.zeros_like(xx)
        return (
            xx + self.signal.matrices(self.dim),
            self.cross.matrices(self.dim),
            self.target.matrices(self.dim),
        )


def level_pairs(
    problem: Problem, hierarchy: MeshHierarchy, levels: int | None = None
) -> list[LevelPair]:
    """Moments of every pair of neighbours of the first `levels` levels, coarse to fine."""
    refining = problem.setting == "refinement"
    pairs = []
    for level in range(1, len(hierarchy) if levels is None else levels):
        n = hierarchy.sizes[level]
        base = n if refining else hierarchy.sizes[-1]
        noise, fine, coarse = _noise(problem, hierarchy, level, base)
        signal = cross = target = None
        if isinstance(problem.signal, RandomField):
            signal, cross, target = _signal(problem, problem.signal, n, base)
        taps = [POINT, POINT]
        if isinstance(problem.restriction, LocalRestriction) and not refining:
            taps = [problem.restriction.route_taps(base // m, problem.route) for m in (n, n // 2)]
        pairs.append(
            LevelPair(
                problem.dim,
                n,
                noise,
                signal,
                cross,
                target,
                fine,
                coarse,
                base,
                *taps,
            )
        )
    return pairs


def varies_by_pixel(problem: Problem) -> bool:
    """Whether the noise's variance follows a fixed signal from pixel to pixel."""
    noise = problem.noise
    return (
        isinstance(noise, PixelLaw) and noise.fourth_cumulant is None and not problem.signal.random
    )


def _line_transfer(problem: Problem, base: int, n: int) -> np.ndarray:
    """T(j) of one axis for all modes of the base mesh, FFT order, down to n cells."""
    j = np.fft.fftfreq(base, 1.0 / base).round()
    if n == base:
        return np.ones(base, dtype=complex)
    if isinstance(problem.restriction, LocalRestriction):
        theta = TWO_PI * j / base
        if problem.route == "direct":
            return taps_transfer(problem.restriction.taps(base // n), theta)
        steps = range((base // n).bit_length() - 1)
        return reduce(
            np.multiply, [taps_transfer(problem.restriction.taps(2), 2**s * theta) for s in steps]
        )
    if not problem.restriction.band_limiting:
        raise LawError(
            "`restriction` must have taps or cut the band for a law; got "
            f"{problem.restriction.name}"
        )
    kept = (2 * np.abs(j) < n).astype(complex)  # cut, half of each end
    kept[2 * np.abs(j) == n] = 0.5
    return kept


def _cube(line: np.ndarray, dim: int) -> np.ndarray:
    return reduce(np.multiply.outer, [line] * dim)


def _moments(
    power: np.ndarray, fine: np.ndarray, coarse: np.ndarray, n: int, dim: int
) -> Covariance:
    return Covariance(
        fold(np.abs(fine) ** 2 * power, n, dim).real,
        fold(coarse * fine.conj() * power, n, dim),
        fold(np.abs(coarse) ** 2 * power, n // 2, dim).real,
    )


def _noise(
    problem: Problem, hierarchy: MeshHierarchy, level: int, base: int
) -> tuple[Covariance, np.ndarray, np.ndarray]:
    """Covariance of the noise, and its power by channel on both levels."""
    dim, n = problem.dim, hierarchy.sizes[level]
    if varies_by_pixel(problem):
        fine, coarse = _position_dependent(problem, hierarchy, level)
        nothing = np.zeros((n,) * dim)
        return Covariance(nothing, nothing, coarse[0]), fine, coarse
    power = density_values(problem, base)
    if problem.setting == "coarsening":
        lines = [_line_transfer(problem, base, m) for m in (n, n // 2)]
    else:
        lines = [np.ones(n, dtype=complex), _coupling_line(problem, n)]
    fine_t, coarse_t = (_cube(line, dim) for line in lines)
    moments = _moments(power, fine_t, coarse_t, n, dim)
    coarse_power = moments.coarse
    if problem.setting == "refinement":
        coarse_power = density_values(problem, n // 2)
    return moments, moments.fine[None], coarse_power[None]


def _coupling_line(problem: Problem, n: int) -> np.ndarray:
    """How the coarser mesh's noise follows from the finer one's in the refinement setting."""
    j = np.fft.fftfreq(n, 1.0 / n).round()
    if problem.noise.coupling == "injection":
        return np.ones(n, dtype=complex)
    if problem.noise.coupling == "average":
        return taps_transfer(((0, 1), (0.5, 0.5)), TWO_PI * j / n)
    kept = (4 * np.abs(j) < n).astype(complex)
    kept[4 * np.abs(j) == n] = np.sqrt(0.5)  # both ends enter the coarse Nyquist mode
    return kept


def density_values(problem: Problem, n: int) -> np.ndarray:
    """S(k) of the noise on a mesh of its own, FFT order."""
    import sympy

    dim, mesh = problem.dim, Mesh(problem.dim, n)
    square, h = sympy.Symbol("J", positive=True), sympy.Symbol("h", positive=True)
    formula = problem.noise.formula(square, h, sympy.Integer(dim))
    if formula is None:
        mean_square = _mean_square(problem, mesh)
        return np.full(mesh.shape, float(problem.noise.spectrum(mesh, square=mean_square)))
    expression, values = formula
    j = np.fft.fftfreq(n, 1.0 / n).round()
    squares = sum(np.meshgrid(*[j * j] * dim, indexing="ij", sparse=True))
    regular = np.where(squares == 0, 1.0, squares)
    function = compiled((square, h, *values), expression)
    density = np.array(np.broadcast_to(function(regular, mesh.h, *values.values()), mesh.shape))
    if expression.has(square):
        at_zero = read_density(expression, values, square, h).origin
        # a power law |j|^{−α} has no share at the origin, whatever α
        density[(0,) * dim] = function(0.0, mesh.h, *values.values()) if at_zero else 0.0
    return density


def _mean_square(problem: Problem, mesh: Mesh) -> float:
    """E u² of a random signal where signal-dependent noise is drawn."""
    if not isinstance(problem.signal, RandomField):
        return 0.0
    source = problem.source_mesh(mesh)
    power = problem.signal.spectrum(source)
    transfer = _cube(_line_transfer(problem, source.n, mesh.n), mesh.dim)
    return float(np.sum(np.abs(transfer) ** 2 * power))


def _signal(
    problem: Problem, signal: RandomField, n: int, base: int
) -> tuple[Covariance, CrossCovariance, Covariance]:
    """Moments of a random signal and its target, on shared modes."""
    dim, gain = problem.dim, problem.noise.gain
    if problem.setting == "coarsening":
        source = base
        lines = [_line_transfer(problem, base, m) for m in (n, n // 2)]
    else:  # the coarser level sees the modes of its own source mesh alone
        source = 2 * n
        j = np.fft.fftfreq(source, 1.0 / source).round()
        fine = _line_transfer(problem, 2 * n, n)
        coarse = np.zeros(source, dtype=complex)
        own = np.abs(j) <= (n - 1) // 2
        coarse[own] = _line_transfer(problem, n, n // 2)[j[own].astype(int) % n]
        if problem.restriction.grid == "cell":  # centres of the two source meshes differ
            coarse = coarse * np.exp(1j * np.pi * j * (1.0 / n - 1.0 / source))
        lines = [fine, coarse]
    power = signal.spectrum(Mesh(dim, source))
    # the two source meshes differ in their Nyquist modes alone, which have no power
    m = target_values(problem, source)
    fine_t, coarse_t = (_cube(line, dim) for line in lines)

    def fold_to(values: np.ndarray, size: int) -> np.ndarray:
        return fold(values, size, dim)

    cross = CrossCovariance(
        gain * fold_to(m * np.abs(fine_t) ** 2 * power, n),
        gain * fold_to(m * coarse_t * fine_t.conj() * power, n),
        gain * fold_to(m * fine_t * coarse_t.conj() * power, n),
        gain * fold_to(m * np.abs(coarse_t) ** 2 * power, n // 2),
    )
    inputs = _moments(power, fine_t, coarse_t, n, dim).scaled(gain**2)
    targets = _moments(np.abs(m) ** 2 * power, fine_t, coarse_t, n, dim)
    return inputs, cross, targets


def _position_dependent(
    problem: Problem, hierarchy: MeshHierarchy, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of noise that follows a fixed signal from pixel to pixel.

    It is taken from the gradient's expectation, which the measured mean rests on as well: for this
    part of a mean their agreement says nothing.
    """
    from gradconv.gradient.expectation import noise_spectra

    spectra = noise_spectra(problem, hierarchy, InputSource(problem, hierarchy, 0))
    return spectra[level], spectra[level - 1]
