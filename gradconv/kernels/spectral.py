"""A Fourier layer: one free weight for each of a fixed number of modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradconv.backend import NUMPY, Array, Backend
from gradconv.errors import InputError
from gradconv.kernels.base import (
    KERNELS,
    DenseOperator,
    Kernel,
    KernelFamily,
    KernelFormula,
    KernelOptions,
    channel_mixing,
)
from gradconv.mesh import FourierGrid

if TYPE_CHECKING:
    import sympy


@KERNELS.register("spectral")
@dataclass(frozen=True)
class SpectralFamily(KernelFamily):
    """Weights on the modes |j|_∞ ≤ modes.

    Parameters
    ----------
    modes : int
        Cutoff; must stay below n/2 on the coarsest mesh.

    References
    ----------
    Z. Li et al., *Fourier Neural Operator for Parametric Partial Differential Equations*, 2021.
    """

    modes: int = 4

    def __post_init__(self) -> None:
        self.require(1 <= self.modes <= 32, "modes must lie in 1 to 32")

    def build(self, dim: int, channels: int, options: KernelOptions) -> Kernel:
        """Make weights that fall with |j|, with a tilt."""
        j = np.arange(-self.modes, self.modes + 1) / self.modes
        axes = np.meshgrid(*[j] * dim, indexing="ij")
        falling = 0.9 * np.exp(-sum(a * a for a in axes)) * (1.0 + 0.2 * axes[0])
        mixed = np.multiply.outer(channel_mixing(channels), falling.ravel())
        return SpectralKernel(dim, mixed)


class SpectralKernel(Kernel):
    """σ_j = ((z_j + z_{−j}) + i(z_j − z_{−j}))/2 for |j|_∞ ≤ modes, zero beyond.

    The real parameters z and the Hermitian weights have the same Euclidean norm.
    """

    @property
    def modes(self) -> int:
        """Cutoff."""
        return (round(self.theta.shape[2] ** (1 / self.dim)) - 1) // 2

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """z[j]."""
        m = self.modes
        side = 2 * m + 1
        indices = np.ndindex(*(side,) * self.dim)
        return tuple(f"z[{','.join(str(i - m) for i in index)}]" for index in indices)

    def cutoff(self) -> int | None:
        """Return the number of modes."""
        return self.modes

    def unresolved(self, h: float) -> str | None:
        """Flag meshes whose Nyquist mode is inside the weights."""
        if 2 * self.modes * h >= 1.0:
            return f"{self.modes} modes are not below the Nyquist mode of h={h:.3g}"
        return None

    def check(self, h: float, boundary: str) -> None:
        """Refuse meshes that do not carry the modes, and boxes that are not periodic."""
        if self.unresolved(h):
            raise InputError(
                f"`kernel` spectral needs 2*modes < n on the coarsest mesh; "
                f"got modes={self.modes} and n={round(1 / h)}"
            )
        if boundary != "periodic":
            raise InputError(f"`kernel` spectral needs boundary periodic; got {boundary}")

    def _slopes(self, grid: FourierGrid) -> np.ndarray:
        """∂σ/∂z, shape ``(p, *grid.shape)``."""
        m, side = self.modes, 2 * self.modes + 1
        grids = np.meshgrid(*grid.modes, indexing="ij")
        inside = np.all([np.abs(j) <= m for j in grids], axis=0)
        where = np.flatnonzero(inside)
        columns = [j.ravel()[where] for j in grids]
        here = np.ravel_multi_index([j + m for j in columns], (side,) * self.dim)
        there = np.ravel_multi_index([m - j for j in columns], (side,) * self.dim)
        slopes = np.zeros((side**self.dim, inside.size), dtype=complex)
        slopes[here, where] += 0.5 + 0.5j
        slopes[there, where] += 0.5 - 0.5j
        return slopes.reshape((-1, *inside.shape))

    def symbol(
        self, grid: FourierGrid, theta: Array | None = None, backend: Backend = NUMPY
    ) -> Array:
        """Weights on the modes kept."""
        theta = backend.array(self.theta) if theta is None else theta
        slopes = backend.array(self._slopes(grid).reshape(self.theta.shape[2], -1))
        return ((theta + 0j) @ slopes).reshape((*theta.shape[:2], *grid.shape))

    def operator(self, grid: FourierGrid, backend: Backend = NUMPY) -> DenseOperator:
        """Keep the weights and their (constant) derivative."""
        slopes = np.broadcast_to(
            self._slopes(grid), (*self.theta.shape[:2], self.theta.shape[2], *grid.shape)
        )
        return DenseOperator(self.symbol(grid), slopes, grid, backend)

    def operator_bytes(self, grid: FourierGrid) -> int:
        """Jacobian and one copy of it."""
        out, in_, p = self.theta.shape
        return 32 * out * in_ * p * int(np.prod(grid.shape))

    def formula(self, k: tuple[sympy.Symbol, ...], h: sympy.Symbol) -> KernelFormula:
        """((1 + i) δ(k − 2πm) + (1 − i) δ(k + 2πm))/2 for the weight of mode m."""
        import sympy

        m = sympy.symbols(f"m1:{self.dim + 1}", integer=True)

        def at(sign: int) -> sympy.Expr:
            pairs = zip(k, m, strict=True)
            return sympy.prod([sympy.KroneckerDelta(a, sign * 2 * sympy.pi * b) for a, b in pairs])

        slope = ((1 + sympy.I) * at(1) + (1 - sympy.I) * at(-1)) / 2
        side = 2 * self.modes + 1
        values = np.array(list(np.ndindex(*(side,) * self.dim))) - self.modes
        return KernelFormula((slope,), m, values)
