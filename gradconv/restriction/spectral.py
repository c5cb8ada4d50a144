"""Spectral restriction: truncate the Fourier series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradconv.backend import Array, Backend
from gradconv.restriction.base import RESTRICTIONS, Restriction


@RESTRICTIONS.register("spectral")
@dataclass(frozen=True)
class Spectral(Restriction):
    """Keep the modes of the coarse mesh; at its Nyquist mode the mean of the two ends.

    No mode aliases. White noise on n cells keeps (m − 1/2)/n of its variance an axis, m = n/factor,
    and is uncorrelated but for the halved Nyquist mode. Periodic boxes only.
    """

    grid: ClassVar[str] = "vertex"
    nested: ClassVar[bool] = True
    boundaries: ClassVar[tuple[str, ...]] = ("periodic",)
    band_limiting: ClassVar[bool] = True

    def restrict_axis(
        self, x: Array, axis: int, factor: int, boundary: str, backend: Backend
    ) -> Array:
        """Crop the real FFT of one axis; the inverse takes the real part at the Nyquist mode."""
        n = x.shape[axis]
        coarse = n // factor
        kept = (..., slice(0, coarse // 2 + 1), *(slice(None),) * (-axis - 1))
        if backend.uses_torch:
            import torch

            spectrum = torch.fft.rfft(x, dim=axis, norm="forward")[kept]
            return torch.fft.irfft(spectrum, n=coarse, dim=axis, norm="forward")
        import scipy.fft

        spectrum = scipy.fft.rfft(x, axis=axis, norm="forward")[kept]
        return scipy.fft.irfft(spectrum, n=coarse, axis=axis, norm="forward")

    def _kept(self, n: int, factor: int) -> np.ndarray:
        """|T(j, k)|² of each fine mode k, in FFT order, in the one coarse mode j that it enters."""
        coarse = n // factor
        j = np.fft.fftfreq(n, 1.0 / n).round()
        gain = (2 * np.abs(j) < coarse).astype(float)
        gain[2 * np.abs(j) == coarse] = 0.25  # |1/2|² of each end, which are uncorrelated
        return gain

    def white_noise_variance(self, n: int, factor: int = 2) -> float:
        """(m − 1/2)/n for even m = n/factor: the Nyquist mode keeps half its power."""
        return float(self._kept(n, factor).sum() / n)

    def pixel_power(self, variance: np.ndarray, dim: int, factor: int, route: str) -> np.ndarray:
        """Flat, but for the Nyquist modes: Σ v(x) cos²(π i/factor) / n² along their axis."""
        n = variance.shape[-1]
        coarse = n // factor
        rows = np.stack([np.ones(n), np.cos(np.pi * np.arange(n) / factor) ** 2])
        kind = (2 * np.abs(np.fft.fftfreq(coarse, 1.0 / coarse)) == coarse).astype(int)
        power = variance
        for axis in range(dim):
            sums = np.moveaxis(np.tensordot(rows, power, axes=(1, axis)), 0, axis)
            power = np.take(sums, kind, axis=axis)
        return np.asarray(power / float(n) ** (2 * dim))

    def power_transfer(
        self, spectrum: np.ndarray, axis: int, n: int, factor: int = 2
    ) -> np.ndarray:
        """Crop; the Nyquist mode gets a quarter of each end."""
        coarse = n // factor
        shape = [1] * spectrum.ndim
        shape[axis] = n
        weighted = np.moveaxis(spectrum * self._kept(n, factor).reshape(shape), axis, 0)
        half = coarse // 2
        if coarse % 2:
            out = np.concatenate([weighted[: half + 1], weighted[n - half :]])
        else:
            ends = weighted[half : half + 1] + weighted[n - half : n - half + 1]
            out = np.concatenate([weighted[:half], ends, weighted[n - half + 1 :]])
        return np.moveaxis(out, 0, axis)
