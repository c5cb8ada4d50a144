"""Which frequencies a set of mesh-free kernels needs, to a tolerance that holds for gradients too.

Under white input the error of a truncation is the energy of the symbol outside the band. The
derivative by the drift weighs the symbol with |k|, that by the diffusion matrix with |k|², so the
energy outside must be small with all of these weights, each against its own total.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gamma, gammaincc, i0e

_BINS, _SHAPES = 16, 6  # kernels of nearly equal decay and anisotropy are counted together
_ENDS = 9  # candidate band ends a round of the search
_FIRST = 2.0  # by how much of the first frequency's square a band reaches beyond it


@dataclass(frozen=True, eq=False)
class Band:
    """The ellipse kᵀMk ≤ 1 in frequency space, with the spatial reach of the kernels.

    Parameters
    ----------
    metric : ndarray, shape ``(d, d)``
        M, symmetric positive definite, in units of the domain squared.
    radius : float
        Distance beyond which every kernel is below the tolerance, in units of the domain.
    """

    metric: np.ndarray
    radius: float

    def widened(self, steps: tuple[float, ...]) -> Band:
        """Return the band for frequencies that are multiples of `steps`.

        The band compares integrals over k. Where kernels are as wide as the domain, the mean is all
        but alone, and what is left out must be small beside the first frequency, not beside them.
        """
        first = min(float(self.metric[a, a]) * step**2 for a, step in enumerate(steps))
        return Band(self.metric / (1.0 + _FIRST * first), self.radius)

    def reach(self, axis: int) -> float:
        """Largest k along an axis."""
        return float(np.sqrt(np.linalg.inv(self.metric)[axis, axis]))

    def last_axis(self, others: list[np.ndarray]) -> np.ndarray:
        """Largest k ≥ 0 of the last axis inside the band, given those of the other axes.

        Parameters
        ----------
        others : list of ndarray
            k of each leading axis, all of one shape.

        Returns
        -------
        ndarray
            Of that shape (``()`` in one dimension); nan or negative where there is none.
        """
        m = self.metric
        last = m.shape[0] - 1
        shape = others[0].shape if others else ()
        linear, constant = np.zeros(shape), np.full(shape, -1.0)
        for a, x in enumerate(others):
            linear = linear + m[a, last] * x
            for b, y in enumerate(others):
                constant = constant + m[a, b] * x * y
        root = linear**2 - m[last, last] * constant
        # A mode on the ellipse is inside, whatever the rounding.
        inside = np.where(root >= -1e-12 * np.abs(constant).max(initial=1.0), root.clip(0), np.nan)
        return np.asarray((np.sqrt(inside) - linear) / m[last, last] * (1.0 + 1e-12))


def choose_band(
    coefficients: np.ndarray,
    quadratic: np.ndarray,
    drift: np.ndarray,
    tolerance: float,
    highest: tuple[float, ...] | None = None,
) -> Band:
    """Smallest ellipse outside which output and gradients miss less than the tolerance.

    Parameters
    ----------
    coefficients : ndarray, shape ``(pairs, P)``
        Coefficients of 1, ik_a, (ik_a)(ik_b), as many as there are.
    quadratic : ndarray, shape ``(pairs, d(d+1)/2)``
        Upper triangle of A, row by row; A is positive definite.
    drift : ndarray, shape ``(pairs, d)``
        b.
    tolerance : float
        Relative error under white input, in the Euclidean norm.
    highest : tuple of float, optional
        Highest frequency of the mesh along each axis. If the least band that is ever chosen for
        these kernels holds all of the mesh's, it is given as it is, and the search is saved: on
        coarse meshes it would take as long as the convolution.

    Returns
    -------
    Band

    Notes
    -----
    The axes of the ellipse are those of the summed energy, Σ c² A⁻¹. In the coordinates that make
    it a ball, a kernel with eigenvalues λ₁ ≤ … has on the sphere |k| = ρ at most the mean energy
    c² exp(−2λ₁ρ²), in two dimensions c² exp(−2λ₁ρ²) e^{−x}I₀(x) with x = ρ²(λ₂ − λ₁), exactly.
    """
    dim = drift.shape[-1]
    square = coefficients**2
    weight = square[:, 0] + square[:, 0].mean()
    shared = weight if weight.any() else np.ones_like(weight)
    shape = _matrix(shared @ _inverse(quadratic, dim) / shared.sum(), dim)
    root = np.linalg.cholesky(shape)  # k = root k', so that Σ c² A⁻¹ becomes the identity
    lowest, spread, trace = _decay(_congruent(quadratic, root), dim)
    metric = np.linalg.inv(shape)
    least = _least_end(lowest, tolerance)
    if highest is not None and _corner(metric, highest) <= least:
        ends = least
    else:
        energies = _energies(square, weight, root, dim)
        ends = _band_end(energies, lowest, spread, trace, tolerance, dim)
    metric = metric / ends
    widest = float(np.sqrt(2.0 * _largest(quadratic, dim).max()))
    # exp(−r²/2w²) falls to the tolerance at r = w √(2 log 1/tol); one width more makes up for the
    # powers of r/w in derivatives, and in the gradients by A and b.
    radius = widest * (np.sqrt(2.0 * np.log(1.0 / tolerance)) + 1.0)
    radius += float(np.abs(drift).max(initial=0.0))
    return Band((metric + metric.T) / 2.0, radius)


def _least_end(lowest: np.ndarray, tolerance: float) -> float:
    """Where the search for ρ² begins, in units of 1/eigenvalue."""
    return float(0.25 * np.log(1.0 / tolerance) / lowest.max())


def _corner(metric: np.ndarray, highest: tuple[float, ...]) -> float:
    """Largest kᵀMk on a box of frequencies: at one of its corners."""
    signs = np.stack(np.meshgrid(*[(-1.0, 1.0)] * len(highest), indexing="ij")).reshape(
        len(highest), -1
    )
    corners = signs * np.array(highest)[:, None]
    return float(np.einsum("an,ab,bn->n", corners, metric, corners).max())


# Symmetric matrices are upper triangles, ``(pairs, d(d+1)/2)``: formulas for all of them at once
# take a tenth of the time of as many calls for small matrices.


@lru_cache(maxsize=3)
def _places(dim: int) -> np.ndarray:
    """Where each entry of a matrix is in its triangle."""
    rows, columns = np.triu_indices(dim)
    places = np.empty((dim, dim), np.int64)
    places[rows, columns] = places[columns, rows] = np.arange(len(rows))
    return places


def _matrix(triangle: np.ndarray, dim: int) -> np.ndarray:
    return np.asarray(triangle[..., _places(dim)])


def _triangle(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(matrix[(..., *np.triu_indices(matrix.shape[-1]))])


def _inverse(a: np.ndarray, dim: int) -> np.ndarray:
    if dim == 1:
        return 1.0 / a
    if dim == 2:
        determinant = a[:, 0] * a[:, 2] - a[:, 1] ** 2
        return np.stack([a[:, 2], -a[:, 1], a[:, 0]], axis=1) / determinant[:, None]
    return _triangle(np.linalg.inv(_matrix(a, dim)))


def _congruent(a: np.ndarray, root: np.ndarray) -> np.ndarray:
    """RootᵀA root: linear in the entries of A."""
    dim = len(root)
    entries = _matrix(np.eye(a.shape[1]), dim)
    return np.asarray(a @ _triangle(root.T @ entries @ root))


def _decay(a: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest eigenvalue, distance to the next in two dimensions, and tr A⁻¹."""
    if dim == 1:
        lowest = a[:, 0]
        return lowest, np.zeros_like(lowest), 1.0 / lowest
    if dim == 2:
        mean = (a[:, 0] + a[:, 2]) / 2.0
        half = np.hypot((a[:, 0] - a[:, 2]) / 2.0, a[:, 1])
        determinant = a[:, 0] * a[:, 2] - a[:, 1] ** 2
        # The determinant over the larger root: the difference would cancel.
        lowest = determinant / (mean + half)
        return lowest, 2.0 * half, 2.0 * mean / determinant
    values = np.linalg.eigvalsh(_matrix(a, dim))
    return values[:, 0], np.zeros(len(values)), (1.0 / values).sum(axis=1)


def _largest(a: np.ndarray, dim: int) -> np.ndarray:
    """Largest eigenvalue."""
    if dim == 1:
        return a[:, 0]
    if dim == 2:
        return np.asarray((a[:, 0] + a[:, 2]) / 2.0 + np.hypot((a[:, 0] - a[:, 2]) / 2.0, a[:, 1]))
    return np.asarray(np.linalg.eigvalsh(_matrix(a, dim))[:, -1])


def _energies(
    square: np.ndarray, weight: np.ndarray, root: np.ndarray, dim: int
) -> list[np.ndarray]:
    """Squared size of the prefactor's terms of degree 0, 1, 2 in the ball's coordinates.

    Each kernel counts with at least the mean of all: its gradient is wanted, however small it is.
    """
    energies = [weight]
    # |p·k| ≤ |rootᵀp| |k'|, with the norm of root in place of the direction.
    stretch = float(np.linalg.norm(root, 2)) ** 2
    if square.shape[1] > 1:
        first = square[:, 1 : 1 + dim].sum(axis=1)
        energies.append((first + first.mean()) * stretch)
    if square.shape[1] > 1 + dim:
        second = square[:, 1 + dim :].sum(axis=1)
        energies.append((second + second.mean()) * stretch**2)
    return energies


def _band_end(
    energies: list[np.ndarray],
    lowest: np.ndarray,
    spread: np.ndarray,
    trace: np.ndarray,
    tolerance: float,
    dim: int,
) -> float:
    """Smallest ρ² beyond which the tails are below tolerance², for every weight."""
    logs = np.log(lowest)
    low = float(logs.min())
    # Kernels of nearly equal decay and anisotropy count as the slowest and roundest among them.
    kinds = _BINS * _binned(np.log1p(spread / lowest), _SHAPES) + _binned(logs, _BINS)
    slowest, roundest = np.full((2, _BINS * _SHAPES), np.inf)
    np.minimum.at(slowest, kinds, lowest)
    np.minimum.at(roundest, kinds, spread)
    filled = np.isfinite(slowest)
    decay, narrow = slowest[filled, None], roundest[filled, None]
    surface = np.pi ** (dim / 2.0) / gamma(dim / 2.0)
    mass = np.pi ** (dim / 2.0) / np.sqrt(_product(lowest, spread, trace, dim) * 2.0**dim)
    ones = np.ones_like(lowest)
    # Output, gradients by drift and by diffusion; then by the coefficients of each degree alone.
    cases = [
        [(energy, degree + extra) for degree, energy in enumerate(energies)] for extra in (0, 1, 2)
    ]
    cases += [[(ones, degree)] for degree in range(len(energies))]
    powers = range(len(energies) + 2)
    orders = [dim / 2.0 + p for p in powers]
    factors = [surface * gamma(s) / (2.0 * decay[:, 0]) ** s for s in orders]
    # Mean of |k|^2p under exp(−2kᵀAk), from below: least for a round kernel of the same trace.
    round_moments = np.cumprod([1.0, *(1.0 + 2.0 * p / dim for p in powers)])
    moments = [mass * round_moments[p] * (trace / 4.0) ** p for p in powers]
    weights = np.zeros((len(cases), len(powers), len(decay)))
    allowed = np.zeros(len(cases))
    for n, case in enumerate(cases):
        for energy, p in case:
            weights[n, p] += np.bincount(kinds, energy, _BINS * _SHAPES)[filled] * factors[p]
            allowed[n] += tolerance**2 * float(energy @ moments[p])
    weights, allowed = weights[allowed > 0.0], allowed[allowed > 0.0]

    def missed(ends: np.ndarray) -> np.ndarray:
        angular = i0e(ends * narrow) if dim == 2 else 1.0
        x = 2.0 * decay * ends
        tails = np.stack([angular * _upper_gamma(s, x) for s in orders])
        beyond = np.tensordot(weights, tails, axes=2) > allowed[:, None]
        return np.asarray(beyond.any(axis=0))

    # Beyond the last end no tolerance is missed.
    first = _least_end(lowest, tolerance)
    last = (np.log(1.0 / tolerance) + 12.0) / np.exp(low)
    steps = np.linspace(0.0, 1.0, _ENDS)
    for _ in range(3):
        ends = first * (last / first) ** steps
        place = min(int(missed(ends).sum()), _ENDS - 1)
        first, last = ends[max(place - 1, 0)], ends[place]
    return float(last)


def _binned(values: np.ndarray, bins: int) -> np.ndarray:
    """Numbers of equal bins between the least and the largest value."""
    least = float(values.min())
    width = max(float(values.max()) - least, 1e-9) / bins
    return np.minimum(((values - least) / width).astype(int), bins - 1)


def _upper_gamma(s: float, x: np.ndarray) -> np.ndarray:
    """Γ(s, x)/Γ(s); for whole numbers a sum, ten times faster than the general function."""
    if s % 1.0:
        return np.asarray(gammaincc(s, x))
    term = total = np.ones_like(x)
    for k in range(1, int(s)):
        term = term * x / k
        total = total + term
    return np.asarray(np.exp(-x) * total)


def _product(lowest: np.ndarray, spread: np.ndarray, trace: np.ndarray, dim: int) -> np.ndarray:
    """Determinant, or an upper bound of it in three dimensions."""
    if dim == 1:
        return lowest
    if dim == 2:
        return lowest * (lowest + spread)
    # Given tr A⁻¹ and the smallest eigenvalue, the other two are largest when equal.
    rest = np.maximum((trace - 1.0 / lowest) / 2.0, 1e-300)
    return np.asarray(lowest / rest**2)
