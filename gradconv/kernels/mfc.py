"""Mesh-free convolution: the semigroup of a learnable elliptic operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradconv.backend import NUMPY, Array, Backend
from gradconv.errors import InputError
from gradconv.kernels.base import (
    KERNELS,
    NEGLIGIBLE,
    DenseOperator,
    Kernel,
    KernelFamily,
    KernelFormula,
    KernelOptions,
    channel_mixing,
    finite_array,
)
from gradconv.mesh import FourierGrid
from gradconv.registry import SMALLEST

if TYPE_CHECKING:
    import sympy


@KERNELS.register("mfc")
@dataclass(frozen=True)
class MeshFreeFamily(KernelFamily):
    """c exp(∇·A∇ + b·∇), one (c, A, b) a channel pair.

    The default A has eigenvalues near 0.001 and 0.002 and is not diagonal (a kernel of standard
    deviation about 0.05 of the box), the default drift is oblique.
    """

    options: ClassVar[tuple[str, ...]] = ("diffusivity", "drift", "amplitude")

    def build(self, dim: int, channels: int, options: KernelOptions) -> Kernel:
        """Make the kernel from options."""
        default_a = 0.0014 * np.eye(dim) + 0.0004 * (1.0 - np.eye(dim))
        default_a += np.diag(0.0002 * np.arange(dim))
        default_b = 0.012 * (-0.6) ** np.arange(dim)
        pairs = (channels, channels)
        c = 0.9 * channel_mixing(channels)
        if options.amplitude is not None:
            c = _broadcast(options.amplitude, pairs, "amplitude")
        a = np.broadcast_to(default_a, (*pairs, dim, dim))
        if options.diffusivity is not None:
            given = finite_array(options.diffusivity, "diffusivity")
            if given.ndim == 0:
                given = given * np.eye(dim)
            elif given.ndim == 1 and given.size == dim * dim:
                given = given.reshape(dim, dim)
            a = _broadcast(given, (*pairs, dim, dim), "diffusivity")
        b = np.broadcast_to(default_b, (*pairs, dim))
        if options.drift is not None:
            b = _broadcast(options.drift, (*pairs, dim), "drift")
        return MeshFree.from_parameters(c, a, b)


def _broadcast(values: Any, shape: tuple[int, ...], argument: str) -> np.ndarray:
    array = finite_array(values, argument)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise InputError(
            f"`{argument}` must broadcast to shape {shape}; got shape {array.shape}"
        ) from None


class MeshFree(Kernel):
    """Symbol c exp(−kᵀAk + i b·k), A symmetric positive definite, τ absorbed.

    A pair's parameters are c, the upper triangle of A row by row, and b. Norms use the scaled
    gradient (∂_c, λ²∂_A, λ∂_b) with λ² = tr A / dim at the fixed θ and the Frobenius norm over the
    symmetric matrix: an off-diagonal entry moves two elements of A, so that its derivative counts
    with weight 1/√2.
    """

    @classmethod
    def from_parameters(cls, c: np.ndarray, a: np.ndarray, b: np.ndarray) -> MeshFree:
        """Make the kernel from c ``(out, in)``, A ``(out, in, d, d)`` and b ``(out, in, d)``.

        Raises
        ------
        InputError
            If A is not symmetric positive definite.
        """
        dim = a.shape[-1]
        if not np.allclose(a, np.swapaxes(a, -1, -2), rtol=1e-12, atol=0.0):
            raise InputError(f"`diffusivity` must be symmetric; got {a[0, 0].tolist()}")
        lowest = float(np.linalg.eigvalsh(a).min())
        if lowest <= 0:
            raise InputError(
                f"`diffusivity` must be positive definite; got smallest eigenvalue {lowest:.3g}"
            )
        if lowest < SMALLEST**2:
            raise InputError(
                f"`diffusivity` must have eigenvalues of at least {SMALLEST**2:g}; got {lowest:.3g}"
            )
        rows, columns = np.triu_indices(dim)
        return cls(dim, np.concatenate([c[..., None], a[..., rows, columns], b], axis=-1))

    @property
    def diffusion(self) -> np.ndarray:
        """A, shape ``(out, in, d, d)``, units of box²."""
        rows, columns = np.triu_indices(self.dim)
        a = np.zeros((*self.theta.shape[:2], self.dim, self.dim))
        entries = self.theta[..., 1 : 1 + len(rows)]
        a[..., rows, columns] = entries
        a[..., columns, rows] = entries
        return a

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """c, A[ab], b[a]."""
        rows, columns = np.triu_indices(self.dim)
        names = [f"A[{r},{c}]" for r, c in zip(rows, columns, strict=True)]
        return ("c", *names, *(f"b[{a}]" for a in range(self.dim)))

    @property
    def scale(self) -> np.ndarray:
        """(1, λ² (1 or 1/√2), λ) a channel pair."""
        square = np.trace(self.diffusion, axis1=-2, axis2=-1) / self.dim
        rows, columns = np.triu_indices(self.dim)
        entry = np.where(rows == columns, 1.0, np.sqrt(0.5))
        ones = np.ones((*square.shape, 1))
        lengths = np.sqrt(square)[..., None] * np.ones(self.dim)
        return np.concatenate([ones, square[..., None] * entry, lengths], axis=-1)

    def cutoff(self) -> int | None:
        """Where exp(−λ_min k²) k² is negligible."""
        lowest = float(np.linalg.eigvalsh(self.diffusion).min())
        reach = np.sqrt((-np.log(NEGLIGIBLE) + 4.0) / lowest)
        return int(np.ceil(reach / (2.0 * np.pi)))

    def unresolved(self, h: float) -> str | None:
        """Flag kernels whose narrowest standard deviation √(2λ_min(A)) is below a cell."""
        width = float(np.sqrt(2.0 * np.linalg.eigvalsh(self.diffusion).min()))
        if width < h:
            return f"kernel width {width:.3g} is below the cell size {h:.3g}"
        return None

    def _exponents(self, k: tuple[Array, ...]) -> list[Array]:
        """∂(log σ)/∂(A entries, b) at k: −k_a k_b (twice off the diagonal), i k_a."""
        rows, columns = np.triu_indices(self.dim)
        quadratic = [
            (-1.0 if r == c else -2.0) * k[r] * k[c] for r, c in zip(rows, columns, strict=True)
        ]
        return quadratic + [1j * a for a in k]

    def symbol(
        self, grid: FourierGrid, theta: Array | None = None, backend: Backend = NUMPY
    ) -> Array:
        """c exp(−kᵀAk + i b·k)."""
        theta = backend.array(self.theta) if theta is None else theta

        def value(*k: Array) -> Array:
            def pair(j: int) -> Array:
                return theta[..., j].reshape((*theta.shape[:2], *(1,) * self.dim))

            exponent = sum(pair(j + 1) * e for j, e in enumerate(self._exponents(k)))
            exponential = np.exp if not backend.uses_torch else _torch_exp
            return pair(0) * exponential(exponent)

        return grid.evaluate(value, backend.array)

    def formula(self, k: tuple[sympy.Symbol, ...], h: sympy.Symbol) -> KernelFormula:
        """c exp(−kᵀAk + i b·k) and its derivatives."""
        import sympy

        rows, columns = np.triu_indices(self.dim)
        c = sympy.Symbol("c", real=True)
        a = [
            sympy.Symbol(f"A_{r + 1}{s + 1}", real=True) for r, s in zip(rows, columns, strict=True)
        ]
        b = [sympy.Symbol(f"b_{r + 1}", real=True) for r in range(self.dim)]
        quadratic = sum(
            (1 if r == s else 2) * x * k[r] * k[s] for x, r, s in zip(a, rows, columns, strict=True)
        )
        drift = sum(x * y for x, y in zip(b, k, strict=True))
        symbol = c * sympy.exp(-quadratic + sympy.I * drift)
        parameters = (c, *a, *b)
        slopes = tuple(sympy.diff(symbol, x) for x in parameters)
        return KernelFormula(slopes, symbol=symbol, parameters=parameters)

    def operator(self, grid: FourierGrid, backend: Backend = NUMPY) -> DenseOperator:
        """Keep the symbol and its Jacobian on the modes that matter."""
        c, *rest = np.moveaxis(self.theta, -1, 0)

        def jacobian(*k: np.ndarray) -> np.ndarray:
            exponents = self._exponents(k)
            shape = (*c.shape, *(1,) * self.dim)
            total = sum(t.reshape(shape) * e for t, e in zip(rest, exponents, strict=True))
            heat = np.exp(total)
            slopes = [heat, *(c.reshape(shape) * heat * e for e in exponents)]
            return np.stack(slopes, axis=2)

        return DenseOperator(self.symbol(grid), grid.evaluate(jacobian), grid, backend)

    def operator_bytes(self, grid: FourierGrid) -> int:
        """Symbol and Jacobian, with one copy of the Jacobian while it is made."""
        out, in_, p = self.theta.shape
        return 16 * out * in_ * (2 * p + 1) * int(np.prod(grid.shape))


def _torch_exp(x: Array) -> Array:
    import torch

    return torch.exp(x)
