"""The N-jet: Gaussian derivatives at a physical width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradconv.kernels.base import (
    KERNELS,
    NEGLIGIBLE,
    Kernel,
    KernelFamily,
    KernelFormula,
    KernelOptions,
    channel_mixing,
)
from gradconv.kernels.separable import SeparableKernel, multi_indices

if TYPE_CHECKING:
    import sympy


@KERNELS.register("gaussian-derivative")
@dataclass(frozen=True)
class GaussianDerivativeFamily(KernelFamily):
    """Σ_α θ_α width^|α| ∂^α G_width over |α| ≤ order.

    Parameters
    ----------
    order : int
        Highest derivative, 0 to 6.
    width : float
        Standard deviation of the Gaussian, in units of the box.

    References
    ----------
    L. Florack et al., *The Gaussian scale-space paradigm and the multiscale local jet*, 1996.
    """

    order: int = 2
    width: float = 0.05

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 <= self.order <= 6, "order must lie in 0 to 6")
        self.require(0 < self.width <= 1, "width must lie in (0, 1]")

    def build(self, dim: int, channels: int, options: KernelOptions) -> Kernel:
        """Make a falling series of coefficients."""
        theta = np.array([0.9 * (-0.4) ** sum(m) for m in multi_indices(dim, self.order)])
        mixed = np.multiply.outer(channel_mixing(channels), theta)
        return GaussianDerivative(dim, mixed, self.order, self.width)


@dataclass(frozen=True, eq=False)
class GaussianDerivative(SeparableKernel):
    """Symbols (i width k)^α exp(−width²|k|²/2): dimensionless parameters."""

    order: int = 2
    width: float = 0.05

    @property
    def count(self) -> int:
        """Derivatives 0 to `order`."""
        return self.order + 1

    @property
    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Orders of the derivatives along each axis."""
        return multi_indices(self.dim, self.order)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """G[orders]."""
        return tuple(f"G[{','.join(map(str, index))}]" for index in self.indices)

    def factors(self, k: np.ndarray, h: float) -> np.ndarray:
        """Derivatives of a Gaussian."""
        s = self.width * k
        powers = np.arange(self.count)
        return (1j * s[:, None]) ** powers * np.exp(-0.5 * s * s)[:, None]

    def cutoff(self) -> int | None:
        """Where exp(−(width·k)²/2) (width·k)^order is negligible."""
        s = np.linspace(0.0, 40.0, 4001)
        seen = s**self.order * np.exp(-0.5 * s * s) > NEGLIGIBLE
        largest = s[np.flatnonzero(seen)[-1] + 1]
        return int(np.ceil(largest / (2.0 * np.pi * self.width)))

    def unresolved(self, h: float) -> str | None:
        """Flag widths under the cell size."""
        if self.width < h:
            return f"kernel width {self.width:.3g} is below the cell size {h:.3g}"
        return None

    def formula(self, k: tuple[sympy.Symbol, ...], h: sympy.Symbol) -> KernelFormula:
        """(i w k)^m exp(−w²|k|²/2), one slope a multi-index."""
        import sympy

        w = sympy.Symbol("w", positive=True)
        gauss = sympy.exp(-(w**2) * sum(a * a for a in k) / 2)
        slopes = [
            gauss * sympy.prod([(sympy.I * w * a) ** m for m, a in zip(index, k, strict=True)])
            for index in self.indices
        ]
        return KernelFormula(tuple(slopes), constants={w: self.width})
