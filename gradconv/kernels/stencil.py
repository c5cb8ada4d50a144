"""The standard convolution: fixed weights on grid points, whatever the mesh size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gradconv.backend import Array
from gradconv.errors import InputError
from gradconv.kernels.base import (
    KERNELS,
    Kernel,
    KernelFamily,
    KernelFormula,
    KernelOptions,
    channel_mixing,
    finite_array,
)
from gradconv.kernels.separable import SeparableKernel

if TYPE_CHECKING:
    import sympy


@KERNELS.register("stencil")
@dataclass(frozen=True)
class StencilFamily(KernelFamily):
    """Odd stencils of `size` points an axis.

    The default weights are the product of (0.2, 0.5, 0.1) an axis, padded with a falling tail for
    sizes above 3: neither symmetric nor of sum one, so that no term of a law vanishes by accident.

    Parameters
    ----------
    size : int
        Points an axis: odd.
    """

    options: ClassVar[tuple[str, ...]] = ("weights",)
    size: int = 3

    def __post_init__(self) -> None:
        self.require(self.size % 2 == 1, "size must be odd")
        self.require(1 <= self.size <= 31, "size must lie in 1 to 31")

    def build(self, dim: int, channels: int, options: KernelOptions) -> Kernel:
        """Make the kernel; given weights decide the size themselves."""
        if options.weights is None:
            line = default_line(self.size)
            weights = reduce(np.multiply.outer, [line] * dim)
            mixed = np.multiply.outer(channel_mixing(channels), weights)
            return Stencil.from_weights(mixed, dim)
        weights = finite_array(options.weights, "weights")
        if weights.ndim == 1 and dim > 1:
            side = round(len(weights) ** (1 / dim))
            if side**dim == len(weights):
                weights = weights.reshape((side,) * dim)
        if weights.ndim == dim:
            weights = np.broadcast_to(weights, (channels, channels, *weights.shape))
        return Stencil.from_weights(weights, dim, channels)


def default_line(size: int) -> np.ndarray:
    """Default weights of one axis."""
    m = np.arange(size) - size // 2
    line = np.where(m < 0, 0.2, 0.1) * 0.5 ** np.maximum(np.abs(m) - 1, 0)
    line[size // 2] = 0.5
    return line


class Stencil(SeparableKernel):
    """y(x) = Σ_m w_m u(x + m h): symbol Σ_m w_m exp(i k·m h). Parameters: the weights."""

    doubles = False

    @classmethod
    def from_weights(cls, weights: np.ndarray, dim: int, channels: int | None = None) -> Stencil:
        """Make a stencil from weights, shape ``(out, in, size, …, size)``."""
        sides = set(weights.shape[2:])
        square = weights.ndim == dim + 2 and len(sides) == 1 and next(iter(sides)) % 2 == 1
        counted = channels is None or weights.shape[:2] == (channels, channels)
        if not (square and counted):
            raise InputError(
                f"`weights` must have an odd number of points, the same along each of {dim} "
                f"axes, for every pair of {channels or 'any number of'} channels; "
                f"got shape {weights.shape}"
            )
        theta = np.array(weights, dtype=float).reshape(*weights.shape[:2], -1)
        return cls(dim, theta)

    @property
    def count(self) -> int:
        """Points an axis."""
        return round(self.theta.shape[2] ** (1 / self.dim))

    @property
    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Every grid point of the stencil, the last axis fastest."""
        return tuple(product(range(self.count), repeat=self.dim))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """w[m] with m the offset in cells."""
        half = self.count // 2
        return tuple(f"w[{','.join(str(i - half) for i in index)}]" for index in self.indices)

    def factors(self, k: np.ndarray, h: float) -> np.ndarray:
        """exp(i k m h)."""
        m = np.arange(self.count) - self.count // 2
        return np.exp(1j * h * np.multiply.outer(k, m))

    def formula(self, k: tuple[sympy.Symbol, ...], h: sympy.Symbol) -> KernelFormula:
        """exp(i h k·m) for the weight at offset m."""
        import sympy

        m = sympy.symbols(f"m1:{self.dim + 1}", integer=True)
        phase = sum(a * b for a, b in zip(k, m, strict=True))
        values = np.array(self.indices) - self.count // 2
        return KernelFormula((sympy.exp(sympy.I * h * phase),), m, values)

    def apply(self, x: Array, theta: Array, boundary: str) -> Array:
        """Convolve grid point by grid point, as ``torch.nn.ConvNd`` does."""
        import torch
        import torch.nn.functional as functional

        half = self.count // 2
        for axis in range(-self.dim, 0):
            n = x.shape[axis]
            index = torch.arange(-half, n + half, device=x.device)
            if boundary == "reflecting":
                index = index % (2 * n)
                index = torch.where(index < n, index, 2 * n - 1 - index)
            padded = x.index_select(axis % x.ndim, index % n)
            if boundary == "zero":
                outside = torch.ones(n + 2 * half, dtype=x.dtype, device=x.device)
                outside[:half] = 0.0
                outside[n + half :] = 0.0
                padded = padded * outside.reshape((-1, *(1,) * (-axis - 1)))
            x = padded
        weights = theta.reshape((*theta.shape[:2], *(self.count,) * self.dim))
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[self.dim - 1]
        return convolve(x, weights)
