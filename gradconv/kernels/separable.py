"""Kernels linear in θ whose basis symbols are products of one-dimensional factors.

σ(k) = Σ_m θ_m Π_a f_{m_a}(k_a). Three families share this: the factors are the phases of grid
points (stencil), difference quotients (scaled stencil), or Gaussian derivatives. The sums over
modes are then one small matrix product an axis.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from gradconv.backend import NUMPY, Array, Backend
from gradconv.kernels.base import ALL, Kernel, Operator
from gradconv.mesh import FourierGrid


@lru_cache(maxsize=64)
def monomials(dim: int, degree: int) -> tuple[tuple[int, ...], ...]:
    """All multi-indices of a degree."""
    found = combinations_with_replacement(range(dim), degree)
    return tuple(tuple(axes.count(a) for a in range(dim)) for axes in found)


def multi_indices(dim: int, order: int) -> tuple[tuple[int, ...], ...]:
    """Multi-indices of degree up to `order`, low ones first."""
    return tuple(index for degree in range(order + 1) for index in monomials(dim, degree))


class SeparableKernel(Kernel):
    """Base of kernels with separable basis symbols."""

    @property
    @abstractmethod
    def indices(self) -> tuple[tuple[int, ...], ...]:
        """For each parameter the factor it takes along each axis, p tuples of `dim`."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of one-dimensional factors q."""

    @abstractmethod
    def factors(self, k: np.ndarray, h: float) -> np.ndarray:
        """Evaluate f_m(k), shape ``(len(k), q)``, complex, frequencies in radians per box."""

    def axis_factors(self, grid: FourierGrid) -> list[np.ndarray]:
        """Factors on each axis of a grid; at |j| = n/2 the mean of both ends."""
        tables = []
        for axis, k in enumerate(grid.frequencies):
            table = np.array(self.factors(k, grid.h), dtype=complex)
            end = grid.nyquist(axis)
            if end is not None:
                edge = np.abs(k[end : end + 1])
                mean = 0.5 * (self.factors(edge, grid.h) + self.factors(-edge, grid.h))
                table[end] = mean[0]
            tables.append(table)
        return tables

    def _placement(self) -> np.ndarray:
        """Matrix that puts θ into the tensor of factor indices, shape ``(p, q**dim)``."""
        shape = (self.count,) * self.dim
        place = np.zeros((len(self.indices), self.count**self.dim))
        for row, index in enumerate(self.indices):
            place[row, np.ravel_multi_index(index, shape)] = 1.0
        return place

    def symbol(
        self, grid: FourierGrid, theta: Array | None = None, backend: Backend = NUMPY
    ) -> Array:
        """Contract θ with the factors, axis by axis."""
        theta = backend.array(self.theta) if theta is None else theta
        pair = tuple(theta.shape[:2])
        tensor = theta @ backend.array(self._placement())
        tensor = tensor.reshape((*pair, *(self.count,) * self.dim)) + 0j
        tables = [backend.array(t) for t in self.axis_factors(grid)]
        return _expand(tensor, tables, pair)

    def operator(self, grid: FourierGrid, backend: Backend = NUMPY) -> SeparableOperator:
        """Keep the symbol and one factor matrix an axis."""
        return SeparableOperator(self, grid, backend)

    def operator_bytes(self, grid: FourierGrid) -> int:
        """Size of the symbol."""
        return 16 * self.theta.shape[0] * self.theta.shape[1] * int(np.prod(grid.shape))


def _expand(tensor: Array, tables: list[Array], pair: tuple[int, ...]) -> Array:
    dim = len(tables)
    for axis in reversed(range(dim)):
        table = tables[axis]
        if axis == dim - 1:
            if dim == 1:
                return (tensor[..., None, :] @ table.T)[..., 0, :]
            tensor = tensor @ table.T
        else:
            tail = tuple(tensor.shape[len(pair) + axis + 1 :])
            head = tuple(tensor.shape[: len(pair) + axis])
            flat = tensor.reshape((*head, tensor.shape[len(pair) + axis], -1))
            tensor = (table @ flat).reshape((*head, table.shape[0], *tail))
    return tensor


class SeparableOperator(Operator):
    """A separable kernel on the modes of one mesh."""

    def __init__(self, kernel: SeparableKernel, grid: FourierGrid, backend: Backend) -> None:
        self.symbol = kernel.symbol(grid, None, backend)
        tables = [np.conj(t) for t in kernel.axis_factors(grid)]
        last = tables[-1] * grid.weights[:, None]
        self._last = backend.array(last)
        self._others = [backend.array(t.T) for t in tables[:-1]]
        shape = (kernel.count,) * kernel.dim
        self._selected = [int(np.ravel_multi_index(i, shape)) for i in kernel.indices]

    def pullback(self, q: Array, rows: slice = ALL) -> Array:
        """Contract the modes axis by axis; the shapes of the products do not depend on batches."""
        dim = len(self._others) + 1
        lead = tuple(q.shape[:-dim])
        if dim == 1:
            moments = q[..., None, :] @ self._last[rows]
        else:
            moments = q @ self._last
            for axis in reversed(range(dim - 1)):
                head = tuple(moments.shape[: len(lead) + axis])
                flat = moments.reshape((*head, moments.shape[len(lead) + axis], -1))
                others = self._others[axis] if axis else self._others[0][:, rows]
                moments = others @ flat
        return moments.real.reshape((*lead, -1))[..., self._selected]
