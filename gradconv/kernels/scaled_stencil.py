"""Finite differences with their powers of h: a discretised differential operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradconv.kernels.base import (
    KERNELS,
    Kernel,
    KernelFamily,
    KernelFormula,
    KernelOptions,
    channel_mixing,
)
from gradconv.kernels.separable import SeparableKernel, multi_indices

if TYPE_CHECKING:
    import sympy


@KERNELS.register("scaled-stencil")
@dataclass(frozen=True)
class ScaledStencilFamily(KernelFamily):
    """c + b·∇_h + Σ_{a≤b} A_ab D_a D_b on three points an axis.

    Parameters
    ----------
    length : float
        Length that gives the derivative weights the unit of c in norms, in units of the box.
    """

    length: float = 0.05

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.length > 0, "length must be positive")

    def build(self, dim: int, channels: int, options: KernelOptions) -> Kernel:
        """Make the first-order expansion of a drifting heat kernel of width `length`."""
        theta = []
        for index in multi_indices(dim, 2):
            order = sum(index)
            size = (0.9, 0.3, 0.4)[order] * self.length**order
            theta.append(size * (1.0 if max(index, default=0) == order else 0.2))
        mixed = np.multiply.outer(channel_mixing(channels), np.array(theta))
        return ScaledStencil(dim, mixed, self.length)


@dataclass(frozen=True, eq=False)
class ScaledStencil(SeparableKernel):
    """Symbols 1, i sin(kh)/h and −4 sin²(kh/2)/h², and their products of total order 2."""

    length: float = 0.05
    count = 3

    @property
    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Orders of the differences along each axis."""
        return multi_indices(self.dim, 2)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """D[orders]."""
        return tuple(f"D[{','.join(map(str, index))}]" for index in self.indices)

    @property
    def scale(self) -> np.ndarray:
        """length**order: ∂/∂θ of a difference of order m carries length**−m."""
        orders = np.array([sum(index) for index in self.indices])
        return np.asarray(self.length**orders)[None, None]

    def factors(self, k: np.ndarray, h: float) -> np.ndarray:
        """Central first and second difference quotients."""
        first = 1j * np.sin(k * h) / h
        second = -4.0 * np.sin(0.5 * k * h) ** 2 / h**2
        return np.stack([np.ones_like(first), first, second], axis=-1)

    def formula(self, k: tuple[sympy.Symbol, ...], h: sympy.Symbol) -> KernelFormula:
        """Products of difference quotients, one slope a multi-index."""
        import sympy

        def factor(order: int, a: sympy.Symbol) -> sympy.Expr:
            first, second = sympy.I * sympy.sin(a * h) / h, -4 * sympy.sin(a * h / 2) ** 2 / h**2
            return (sympy.Integer(1), first, second)[order]

        slopes = [
            sympy.prod([factor(m, a) for m, a in zip(index, k, strict=True)])
            for index in self.indices
        ]
        return KernelFormula(tuple(slopes))
