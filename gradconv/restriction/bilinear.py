"""Bilinear interpolation as ``torch.nn.functional.interpolate`` does it, in both conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from gradconv.backend import Array, Backend
from gradconv.errors import InputError
from gradconv.restriction.base import RESTRICTIONS, LocalRestriction, Restriction


@RESTRICTIONS.register("bilinear")
@dataclass(frozen=True)
class Bilinear(LocalRestriction):
    """``interpolate(..., mode="bilinear", align_corners=False)`` with no antialiasing.

    A step by 2 is the average. A direct step by f > 2 reads the middle two of f cells, so that
    white noise keeps half its variance an axis however large f is: not nested.
    """

    grid: ClassVar[str] = "cell"
    nested: ClassVar[bool] = False

    def taps(self, factor: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return the two cells on either side of the coarse centre."""
        return (factor // 2 - 1, factor // 2), (0.5, 0.5)


LARGEST_DENSE = 8192  # cells an axis: a map then takes a quarter of a gibibyte


@lru_cache(maxsize=4)
def _corner_matrix(n: int, factor: int) -> np.ndarray:
    coarse = n // factor
    position = np.arange(coarse) * ((n - 1) / (coarse - 1) if coarse > 1 else 0.0)
    left = np.minimum(np.floor(position).astype(int), n - 2)
    matrix = np.zeros((coarse, n))
    rows = np.arange(coarse)
    matrix[rows, left] = 1.0 - (position - left)
    matrix[rows, left + 1] += position - left
    matrix.flags.writeable = False
    return matrix


@RESTRICTIONS.register("bilinear_corners")
@dataclass(frozen=True)
class BilinearCorners(Restriction):
    """``interpolate(..., mode="bilinear", align_corners=True)``.

    The weights depend on the position: white noise becomes non-stationary, chained steps are not
    the direct step, and gaps follow no power law. It is here because published code uses it.
    """

    grid: ClassVar[str] = "cell"
    nested: ClassVar[bool] = False
    shift_invariant: ClassVar[bool] = False

    def check_size(self, n: int) -> None:
        """Refuse meshes whose dense maps would not fit in memory."""
        if n > LARGEST_DENSE:
            raise InputError(
                f"`levels` must end at {LARGEST_DENSE} cells an axis or below for restriction "
                f"{self.name}, whose maps are dense; got n={n}"
            )

    def matrix(self, n: int, factor: int = 2) -> np.ndarray:
        """Dense map of one axis, shape ``(n/factor, n)``."""
        return _corner_matrix(n, factor)

    def restrict_axis(
        self, x: Array, axis: int, factor: int, boundary: str, backend: Backend
    ) -> Array:
        """Interpolate linearly between the two neighbours of each position."""
        n = x.shape[axis]
        matrix = self.matrix(n, factor)
        rows = np.arange(n // factor)
        left = np.minimum(np.argmax(matrix > 0, axis=1), n - 2)
        tail = (1,) * (-axis - 1)
        near = backend.array(matrix[rows, left].reshape(-1, *tail))
        far = backend.array(matrix[rows, left + 1].reshape(-1, *tail))
        rest = (slice(None),) * (-axis - 1)
        low, high = left.tolist(), (left + 1).tolist()
        return near * x[(..., low, *rest)] + far * x[(..., high, *rest)]

    def white_noise_variance(self, n: int, factor: int = 2) -> float:
        """Mean over positions of the row sums of squares."""
        return float(np.mean(np.sum(self.matrix(n, factor) ** 2, axis=1)))

    def spectra(
        self, spectrum: np.ndarray, dim: int, sizes: Sequence[int], route: str = "chain"
    ) -> list[np.ndarray]:
        """Multiply the maps of a chain before squaring: a step leaves the modes correlated."""
        levels = [spectrum]
        n = sizes[-1]
        for coarse in reversed(sizes[:-1]):
            matrix = self._route_matrix(n, n // coarse, route)
            pushed = spectrum
            for axis in range(-dim, 0):
                pushed = _dense_power_transfer(matrix, pushed, axis)
            levels.append(pushed)
        return levels[::-1]

    def pixel_power(self, variance: np.ndarray, dim: int, factor: int, route: str) -> np.ndarray:
        """Square the Fourier transform of each pixel's response."""
        n = variance.shape[-1]
        matrix = self._route_matrix(n, factor, route)
        table = np.abs(np.fft.fft(matrix, axis=0)) ** 2 / float(n // factor) ** 2
        for axis in range(dim):
            variance = np.moveaxis(np.tensordot(table, variance, axes=(1, axis)), 0, axis)
        return variance

    def _route_matrix(self, n: int, factor: int, route: str) -> np.ndarray:
        if route == "direct":
            return self.matrix(n, factor)
        matrix = self.matrix(n, 2)
        for _ in range(factor.bit_length() - 2):
            matrix = self.matrix(matrix.shape[0], 2) @ matrix
        return matrix

    def power_transfer(
        self, spectrum: np.ndarray, axis: int, n: int, factor: int = 2
    ) -> np.ndarray:
        """Apply |T(j, k)|² with T the dense map in Fourier space (one step only)."""
        return _dense_power_transfer(self.matrix(n, factor), spectrum, axis)


def _dense_power_transfer(matrix: np.ndarray, spectrum: np.ndarray, axis: int) -> np.ndarray:
    """Push a spectrum of uncorrelated modes through a dense map of one axis.

    The result holds the mean power of each coarse mode; a position-dependent map leaves the
    coarse modes correlated, so that chains must multiply matrices before they square.

    Parameters
    ----------
    matrix : ndarray
        Shape ``(coarse, n)``.
    spectrum : ndarray
        n entries in FFT order along `axis`.
    axis : int
        Axis of `spectrum`.

    Returns
    -------
    ndarray
        `coarse` entries along `axis`.
    """
    coarse, n = matrix.shape
    # T = F_coarse R F_fine^{-1} with Fourier coefficients divided by the number of points
    transfer = np.fft.fft(np.fft.ifft(matrix, axis=1) * n, axis=0) / coarse
    moved = np.moveaxis(spectrum, axis, 0)
    shape = moved.shape[1:]
    pushed = (np.abs(transfer) ** 2) @ moved.reshape(n, -1)
    return np.moveaxis(pushed.reshape(coarse, *shape), 0, axis)
