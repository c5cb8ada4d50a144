"""The exact gradient in Fourier space, all replicates at once (periodic boxes).

With Fourier coefficients divided by the number of cells, the loss is ½ Σ_k |σx̂ − ŷ|² and
∂_j = Re Σ_k conj(∂_jσ) conj(x̂)(σx̂ − ŷ). The sum runs over the modes on which the kernel is not
negligible.
"""

from __future__ import annotations

import numpy as np

from gradconv.backend import NUMPY, Array, Backend
from gradconv.kernels import Kernel, Operator
from gradconv.mesh import FourierGrid, Mesh

# Modes are worked on in blocks of about this many: temporaries then stay in the cache.
BLOCK = 2**15


class FourierGradient:
    """Gradient of one kernel on one mesh.

    Parameters
    ----------
    kernel : Kernel
        The convolution.
    mesh : Mesh
        The mesh.
    backend : Backend
        Where and how precisely to compute.
    """

    def __init__(self, kernel: Kernel, mesh: Mesh, backend: Backend = NUMPY) -> None:
        self.mesh = mesh
        self.backend = backend
        self.grid = FourierGrid(mesh, kernel.cutoff())
        self.operator: Operator = kernel.operator(self.grid, backend)

    def spectrum(self, x: Array) -> Array:
        """Fourier coefficients that matter to the kernel, shape ``(..., *grid.shape)``."""
        columns = self.grid.shape[-1] if self.grid.cropped else None
        return self.grid.crop(self.backend.rfftn(x, self.mesh.dim, columns), self.backend)

    def gradient(self, x_modes: Array, y_modes: Array) -> Array:
        """Gradient by θ, one a replicate.

        Parameters
        ----------
        x_modes : array
            Input, shape ``(replicates, in, *grid.shape)``.
        y_modes : array
            Target, shape ``(replicates or 1, out, *grid.shape)``.

        Returns
        -------
        array
            Shape ``(replicates, out, in, p)``.
        """
        n = self.grid.shape[0]
        rows = max(1, BLOCK * n // int(np.prod(self.grid.shape)))
        parts = [
            self._block(x_modes, y_modes, slice(start, start + rows)) for start in range(0, n, rows)
        ]
        return sum(parts[1:], start=parts[0])

    def _block(self, x_modes: Array, y_modes: Array, rows: slice) -> Array:
        """What the modes of some rows of the first axis add to the gradient."""
        symbol = self.operator.symbol[:, :, rows]
        x, y = x_modes[:, :, rows], y_modes[:, :, rows]
        residual = symbol[:, 0] * x[:, :1]
        for channel in range(1, x.shape[1]):
            residual += symbol[:, channel] * x[:, channel : channel + 1]
        residual -= y
        conjugate = x.conj()[:, None]
        if residual.shape[1] == 1 and x.shape[1] == 1:
            q = residual[:, :, None]
            q *= conjugate
        else:
            q = conjugate * residual[:, :, None]
        return self.operator.pullback(q, rows)

    def expected(
        self,
        x_mean: np.ndarray,
        y_mean: np.ndarray,
        covariance: np.ndarray,
        cross: np.ndarray,
    ) -> np.ndarray:
        """Expected gradient from first and second moments of the modes (numpy only).

        Parameters
        ----------
        x_mean, y_mean : ndarray
            Means of input and target modes, shapes ``(1, in or out, *grid.shape)``.
        covariance : ndarray
            Mean power of the fluctuation of each input channel (channels fluctuate
            independently), shape ``(in, *grid.shape)``.
        cross : ndarray
            Mean of conj(x̂')ŷ' of the fluctuations of a channel, shape ``grid.shape``.

        Returns
        -------
        ndarray
            Shape ``(out, in, p)``.
        """
        mean = self.gradient(x_mean, y_mean)[0]
        q = self.operator.symbol * covariance
        for channel in range(min(q.shape[:2])):
            q[channel, channel] -= cross
        return np.asarray(mean + self.operator.pullback(q))
