"""What a kernel is: a parametrised convolution given by its symbol and the symbol's derivative.

A *family* (``stencil``, ``mfc``, …) is the word of the command line; ``family.build(...)`` makes a
`Kernel` with parameters θ of shape ``(out, in, p)``. A kernel put on the modes of one mesh is an
`Operator`: its symbol σ_h(k; θ), and the adjoint of the symbol's derivative, which turns
Q(k) = conj(x̂)(σx̂ − ŷ) into the gradient Re Σ_k conj(∂_jσ) Q.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradconv.backend import NUMPY, Array, Backend
from gradconv.errors import InputError, shortened
from gradconv.mesh import FourierGrid
from gradconv.registry import LARGEST, Choice, Registry

if TYPE_CHECKING:
    import sympy

KERNELS: Registry[KernelFamily] = Registry("kernel")

# Below this the square of a double-precision sum does not see a term: modes of a decaying
# symbol are cut where the symbol and its derivatives have fallen by this much.
NEGLIGIBLE = 1e-20


@dataclass(frozen=True)
class KernelOptions:
    """Parameter values by option; None means the family's default.

    Parameters
    ----------
    weights : array_like, optional
        Stencil weights, ``(size,)*dim``, the same in one row, or ``(out, in, size, …)``.
    diffusivity : array_like, optional
        MFC diffusion A (τ absorbed): a number, a ``(dim, dim)`` matrix, the same in one row, or one
        a channel pair; units of box².
    drift : array_like, optional
        MFC drift b: a number, ``(dim,)``, or one a channel pair; units of the box.
    amplitude : array_like, optional
        MFC amplitude c: a number or ``(out, in)``.
    """

    weights: Any = None
    diffusivity: Any = None
    drift: Any = None
    amplitude: Any = None

    def given(self) -> list[str]:
        """Names of the options that were set."""
        return [k for k, v in vars(self).items() if v is not None]


class KernelFamily(Choice):
    """Constructor of kernels of one kind.

    Attributes
    ----------
    options : tuple of str
        The `KernelOptions` that the family reads.
    """

    options: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def build(self, dim: int, channels: int, options: KernelOptions) -> Kernel:
        """Make the kernel with default or given parameters."""


@dataclass(frozen=True)
class KernelFormula:
    """A kernel's symbol in symbols: what laws are derived from.

    Either σ(k) = Σ_m θ_m slope(m; k, h) with one `slope` for every index m or one a parameter, or
    a closed form `symbol` in the `parameters`, whose slopes are its derivatives.

    Parameters
    ----------
    slopes : tuple of sympy.Expr
        ∂σ/∂θ: one expression in the `index` symbols, or one a parameter.
    index : tuple of sympy.Symbol
        Index symbols of a single slope.
    values : ndarray, optional
        Their values, shape ``(p, len(index))``.
    symbol : sympy.Expr, optional
        σ where it is not linear in θ.
    parameters : tuple of sympy.Symbol
        The symbols of the p parameters in `symbol`.
    constants : dict
        Values of all other symbols.
    """

    slopes: tuple[sympy.Expr, ...]
    index: tuple[sympy.Symbol, ...] = ()
    values: np.ndarray | None = None
    symbol: sympy.Expr | None = None
    parameters: tuple[sympy.Symbol, ...] = ()
    constants: dict[sympy.Symbol, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Kernel(ABC):
    """A convolution with parameters θ.

    Parameters
    ----------
    dim : int
        Dimension.
    theta : ndarray
        Parameters, shape ``(out, in, p)``.
    """

    dim: int
    theta: np.ndarray = field(repr=False)
    doubles: ClassVar[bool] = True
    """Whether `apply` goes through a box of twice the side where there are walls."""

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return int(self.theta.shape[0])

    @property
    def in_channels(self) -> int:
        """Number of input channels."""
        return int(self.theta.shape[1])

    @property
    @abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the p parameters of a channel pair."""

    @property
    def scale(self) -> np.ndarray:
        """Factors that give all gradient components one unit, broadcastable to θ."""
        return np.ones((1, 1, 1))

    def cutoff(self) -> int | None:
        """Largest |j|_∞ that matters on the unit box, or None if every mode does."""
        return None

    def unresolved(self, h: float) -> str | None:
        """Say why a mesh of size h does not resolve the kernel; None if it does."""
        return None

    def check(self, h: float, boundary: str) -> None:  # noqa: B027 (most kernels have no limits)
        """Raise an `InputError` if the kernel has no meaning on a mesh of size h."""

    @abstractmethod
    def symbol(
        self, grid: FourierGrid, theta: Array | None = None, backend: Backend = NUMPY
    ) -> Array:
        """σ_h(k; θ), complex, shape ``(out, in, *grid.shape)``; differentiable by torch."""

    def formula(self, k: tuple[sympy.Symbol, ...], h: sympy.Symbol) -> KernelFormula | None:
        """Give the symbol in sympy, so that laws can be derived; None if there is none."""
        return None

    @abstractmethod
    def operator(self, grid: FourierGrid, backend: Backend = NUMPY) -> Operator:
        """Put the kernel on the modes of a mesh."""

    @abstractmethod
    def operator_bytes(self, grid: FourierGrid) -> int:
        """Memory that `operator` holds."""

    def apply(self, x: Array, theta: Array, boundary: str) -> Array:
        """Convolve torch fields, differentiable by θ: through the symbol on an extended box.

        Parameters
        ----------
        x : torch.Tensor
            Shape ``(batch, in, n, …, n)``.
        theta : torch.Tensor
            Shape ``(out, in, p)``.
        boundary : {"periodic", "zero", "reflecting"}
            Zero and reflecting boxes are doubled, convolved periodically and cut.

        Returns
        -------
        torch.Tensor
            Shape ``(batch, out, n, …, n)``.
        """
        return spectral_apply(self, x, theta, boundary)


ALL = slice(None)


class Operator(ABC):
    """A kernel on the modes of one mesh.

    Attributes
    ----------
    symbol : array
        σ_h, shape ``(out, in, *grid.shape)``.
    """

    symbol: Array

    @abstractmethod
    def pullback(self, q: Array, rows: slice = ALL) -> Array:
        """Re Σ_k conj(∂_jσ_h(k)) q(k), the sum over both halves of the spectrum.

        Parameters
        ----------
        q : array
            Shape ``(..., out, in, *grid.shape)``, or only `rows` of it.
        rows : slice
            The rows of the first axis of the grid to sum over.

        Returns
        -------
        array
            Real, shape ``(..., out, in, p)``.
        """


class DenseOperator(Operator):
    """An operator from the Jacobian of the symbol at every mode kept.

    Parameters
    ----------
    symbol : ndarray
        Shape ``(out, in, *grid.shape)``.
    jacobian : ndarray
        ∂_jσ_h, shape ``(out, in, p, *grid.shape)``.
    grid : FourierGrid
        The modes.
    backend : Backend
        Where to keep them.
    """

    def __init__(
        self, symbol: np.ndarray, jacobian: np.ndarray, grid: FourierGrid, backend: Backend
    ) -> None:
        self.symbol = backend.array(symbol)
        out, in_, p = jacobian.shape[:3]
        weighted = (np.conj(jacobian) * grid.weights).reshape(out, in_, p, -1)
        self._adjoint = backend.array(np.swapaxes(weighted, -1, -2))
        self._adjoint = self._adjoint.reshape((out, in_, grid.shape[0], -1, p))

    def pullback(self, q: Array, rows: slice = ALL) -> Array:
        """One matrix product a channel pair and replicate."""
        lead = tuple(q.shape[: -self.symbol.ndim])
        pair = tuple(self.symbol.shape[:2])
        flat = q.reshape((*lead, *pair, 1, -1))
        adjoint = self._adjoint[:, :, rows].reshape((*pair, flat.shape[-1], -1))
        return (flat @ adjoint).real[..., 0, :]


def channel_mixing(channels: int) -> np.ndarray:
    """Default strengths of the channel pairs: 1 on the diagonal, small and irregular off it."""
    o, i = np.meshgrid(np.arange(channels), np.arange(channels), indexing="ij")
    return np.where(o == i, 1.0, 0.15 * np.cos(1.0 + 2.0 * o + 3.0 * i))


def finite_array(values: Any, argument: str) -> np.ndarray:
    """Convert to a float array, refusing text, NaN and infinity."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"`{argument}` must hold finite numbers; got {shortened(values)}"
        ) from None
    if not np.all(np.isfinite(array)) or np.any(np.abs(array) > LARGEST):
        raise InputError(
            f"`{argument}` must be finite and at most {LARGEST:g} in size; got {shortened(values)}"
        )
    return array


def spectral_apply(kernel: Kernel, x: Array, theta: Array, boundary: str) -> Array:
    """Convolve through the symbol; see `Kernel.apply`."""
    import torch

    from gradconv.mesh import Mesh

    n, dim = x.shape[-1], kernel.dim
    if boundary != "periodic":
        for axis in range(-dim, 0):
            mirror = torch.flip(x, dims=(axis,)) if boundary == "reflecting" else 0.0 * x
            x = torch.cat([x, mirror], dim=axis)
    doubled = x.shape[-1]
    grid = FourierGrid(Mesh(dim, doubled), length=doubled / n)
    backend = Backend(str(x.device), str(x.dtype).removeprefix("torch."), "torch")
    symbol = kernel.symbol(grid, theta, backend)
    modes = torch.fft.rfftn(x, dim=tuple(range(-dim, 0)))
    out = torch.einsum("oi...,bi...->bo...", symbol, modes)
    y = torch.fft.irfftn(out, s=(doubled,) * dim, dim=tuple(range(-dim, 0)))
    return y[(..., *(slice(0, n),) * dim)]
