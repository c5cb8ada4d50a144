"""Which frequencies a set of mesh-free kernels needs, to a tolerance that holds for gradients too.

Under white input the error of a truncation is the energy of the symbol outside the band. The
derivative by the drift weighs the symbol with |k|, that by the diffusion matrix with |k|², so the
energy outside must be small with all of these weights, each against its own total.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma, gammaincc, i0e

_BINS = 24  # kernels of nearly equal decay are counted together
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
    coefficients: np.ndarray, diffusion: np.ndarray, drift: np.ndarray, tolerance: float
) -> Band:
    """Smallest ellipse outside which output and gradients miss less than the tolerance.

    Parameters
    ----------
    coefficients : ndarray, shape ``(pairs, P)``
        Coefficients of 1, ik_a, (ik_a)(ik_b), as many as there are.
    diffusion : ndarray, shape ``(pairs, d, d)``
        A, positive definite.
    drift : ndarray, shape ``(pairs, d)``
        b.
    tolerance : float
        Relative error under white input, in the Euclidean norm.

    Returns
    -------
    Band

    Notes
    -----
    The axes of the ellipse are those of the summed energy, Σ c² A⁻¹. In the coordinates that make
    it a ball, a kernel with eigenvalues λ₁ ≤ … has on the sphere |k| = ρ at most the mean energy
    c² exp(−2λ₁ρ²), in two dimensions c² exp(−2λ₁ρ²) e^{−x}I₀(x) with x = ρ²(λ₂ − λ₁), exactly.
    """
    dim = diffusion.shape[-1]
    square = coefficients**2
    weight = square[:, 0] + square[:, 0].mean()
    shared = weight if weight.any() else np.ones_like(weight)
    shape = np.einsum("p,pab->ab", shared / shared.sum(), np.linalg.inv(diffusion))
    root = np.linalg.cholesky(shape)  # k = root k', so that Σ c² A⁻¹ becomes the identity
    unit = np.swapaxes(root, -1, -2) @ diffusion @ root
    lowest, spread, trace = _decay(unit)
    energies = _energies(square, weight, root, dim)
    ends = _band_end(energies, lowest, spread, trace, tolerance, dim)
    metric = np.linalg.inv(shape) / ends
    widest = float(np.sqrt(2.0 * _largest(diffusion).max()))
    # exp(−r²/2w²) falls to the tolerance at r = w √(2 log 1/tol); one width more makes up for the
    # powers of r/w in derivatives, and in the gradients by A and b.
    radius = widest * (np.sqrt(2.0 * np.log(1.0 / tolerance)) + 1.0)
    radius += float(np.abs(drift).max(initial=0.0))
    return Band((metric + metric.T) / 2.0, radius)


def _decay(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest eigenvalue, distance to the next in two dimensions, and tr A⁻¹."""
    dim = a.shape[-1]
    if dim == 1:
        lowest = a[:, 0, 0]
        return lowest, np.zeros_like(lowest), 1.0 / lowest
    if dim == 2:
        mean = (a[:, 0, 0] + a[:, 1, 1]) / 2.0
        half = np.hypot((a[:, 0, 0] - a[:, 1, 1]) / 2.0, a[:, 0, 1])
        determinant = a[:, 0, 0] * a[:, 1, 1] - a[:, 0, 1] ** 2
        # The determinant over the larger root: the difference would cancel.
        lowest = determinant / (mean + half)
        return lowest, 2.0 * half, 2.0 * mean / determinant
    values = np.linalg.eigvalsh(a)
    return values[:, 0], np.zeros(len(values)), (1.0 / values).sum(axis=1)


def _largest(a: np.ndarray) -> np.ndarray:
    """Upper bound of the largest eigenvalue, exact in one and two dimensions."""
    if a.shape[-1] == 2:
        mean = (a[:, 0, 0] + a[:, 1, 1]) / 2.0
        return np.asarray(mean + np.hypot((a[:, 0, 0] - a[:, 1, 1]) / 2.0, a[:, 0, 1]))
    if a.shape[-1] == 1:
        return a[:, 0, 0]
    return np.asarray(np.linalg.eigvalsh(a)[:, -1])


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
    low, high = float(logs.min()), float(logs.max())
    bins = np.minimum(((logs - low) * (_BINS / max(high - low, 1e-9))).astype(int), _BINS - 1)
    decay, narrow = np.full(_BINS, np.inf), np.full(_BINS, np.inf)
    np.minimum.at(decay, bins, lowest)
    np.minimum.at(narrow, bins, spread)
    filled = np.isfinite(decay)
    decay, narrow = decay[filled, None], narrow[filled, None]
    surface = np.pi ** (dim / 2.0) / gamma(dim / 2.0)
    mass = np.pi ** (dim / 2.0) / np.sqrt(_product(lowest, spread, trace, dim) * 2.0**dim)
    ones = np.ones_like(lowest)
    # Output, gradients by drift and by diffusion; then by the coefficients of each degree alone.
    cases = [
        [(energy, degree + extra) for degree, energy in enumerate(energies)] for extra in (0, 1, 2)
    ]
    cases += [[(ones, degree)] for degree in range(len(energies))]
    conditions = []
    for case in cases:
        parts, total = [], 0.0
        for energy, power in case:
            s = dim / 2.0 + power
            binned = np.bincount(bins, energy, _BINS)[filled, None]
            parts.append((s, surface * gamma(s) * binned / (2.0 * decay) ** s))
            # Jensen's inequality bounds the moment of |k|² from below.
            total += float((energy * mass * (trace / 4.0) ** power).sum())
        if total > 0.0:
            conditions.append((parts, tolerance**2 * total))

    def missed(ends: np.ndarray) -> np.ndarray:
        angular = i0e(ends * narrow) if dim == 2 else 1.0
        beyond = np.zeros(len(ends), dtype=bool)
        for parts, allowed in conditions:
            tail = sum(
                (w * angular * gammaincc(s, 2.0 * decay * ends)).sum(axis=0) for s, w in parts
            )
            beyond |= tail > allowed
        return beyond

    # In units of 1/eigenvalue; beyond the last end no tolerance is missed.
    ends = np.geomspace(
        0.25 * np.log(1.0 / tolerance) / np.exp(high),
        (np.log(1.0 / tolerance) + 12.0) / np.exp(low),
        _ENDS,
    )
    for _ in range(2):
        last = min(int(missed(ends).sum()), _ENDS - 1)
        ends = np.geomspace(ends[max(last - 1, 0)], ends[last], _ENDS)
    return float(ends[min(int(missed(ends).sum()), _ENDS - 1)])


def _product(lowest: np.ndarray, spread: np.ndarray, trace: np.ndarray, dim: int) -> np.ndarray:
    """Determinant, or an upper bound of it in three dimensions."""
    if dim == 1:
        return lowest
    if dim == 2:
        return lowest * (lowest + spread)
    # Given tr A⁻¹ and the smallest eigenvalue, the other two are largest when equal.
    rest = np.maximum((trace - 1.0 / lowest) / 2.0, 1e-300)
    return np.asarray(lowest / rest**2)
