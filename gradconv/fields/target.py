"""Targets y = m(D)u: Fourier multipliers of the signal."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.errors import InputError
from gradconv.mesh import FourierGrid, Mesh
from gradconv.registry import Choice, Registry

if TYPE_CHECKING:
    import sympy

TARGETS: Registry[Target] = Registry("target")


class Target(Choice):
    """A Fourier multiplier, real operator on real fields: m(−k) = conj m(k)."""

    @abstractmethod
    def multiplier(self, *k: np.ndarray) -> np.ndarray:
        """Return m(k) on arrays that broadcast against each other, in radians per box."""

    def formula(self, k: tuple[sympy.Symbol, ...]) -> tuple[sympy.Expr, ...] | None:
        """Give m(k) in sympy as one factor an axis; None if it is no such product."""
        return None

    def check(self, mesh: Mesh) -> None:
        """Raise an `InputError` if the target cannot be computed on `mesh`."""

    def on_grid(self, grid: FourierGrid) -> np.ndarray:
        """Return m on the modes of a mesh, shape ``grid.shape``; a mean of ±n/2 at the ends."""
        return np.asarray(grid.evaluate(self._broadcast))

    def _broadcast(self, *k: np.ndarray) -> np.ndarray:
        shape = np.broadcast_shapes(*(a.shape for a in k))
        return np.broadcast_to(self.multiplier(*k), shape)


@TARGETS.register("identity")
@dataclass(frozen=True)
class Identity(Target):
    """The signal itself: denoising."""

    def multiplier(self, *k: np.ndarray) -> np.ndarray:
        """Return one."""
        return np.ones(())

    def formula(self, k: tuple[sympy.Symbol, ...]) -> tuple[sympy.Expr, ...]:
        """Ones."""
        import sympy

        return (sympy.Integer(1),) * len(k)


@TARGETS.register("blur")
@dataclass(frozen=True)
class Blur(Target):
    """A Gaussian blur exp(−width²|k|²/2).

    Parameters
    ----------
    width : float
        Standard deviation of the blur, in units of the box.
    """

    width: float = 0.02

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.width > 0, "width must be positive")

    def multiplier(self, *k: np.ndarray) -> np.ndarray:
        """Return the Gaussian."""
        return np.exp(-0.5 * self.width**2 * sum(a * a for a in k))

    def formula(self, k: tuple[sympy.Symbol, ...]) -> tuple[sympy.Expr, ...]:
        """Gaussians."""
        import sympy

        return tuple(sympy.exp(-(sympy.Float(self.width) ** 2) * a**2 / 2) for a in k)


@TARGETS.register("unblur")
@dataclass(frozen=True)
class Unblur(Target):
    """The inverse Gaussian blur exp(+width²|k|²/2): deblurring, u being the blurred image.

    Parameters
    ----------
    width : float
        Standard deviation of the blur undone, in units of the box.
    """

    width: float = 0.002

    _LARGEST = 1e6

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.width > 0, "width must be positive")

    def check(self, mesh: Mesh) -> None:
        """Refuse amplifications that drown the data in rounding errors."""
        exponent = 0.5 * mesh.dim * (self.width * np.pi * mesh.n) ** 2
        if exponent > np.log(self._LARGEST):
            widest = np.sqrt(2 * np.log(self._LARGEST) / mesh.dim) / (np.pi * mesh.n)
            raise InputError(
                f"`target` unblur must amplify no mode of the mesh above {self._LARGEST:g}: "
                f"width at most {widest:.3g} on {mesh.n} cells an axis; got {self.width:g}"
            )

    def multiplier(self, *k: np.ndarray) -> np.ndarray:
        """Return the inverse Gaussian."""
        return np.exp(0.5 * self.width**2 * sum(a * a for a in k))

    def formula(self, k: tuple[sympy.Symbol, ...]) -> tuple[sympy.Expr, ...]:
        """Inverse Gaussians."""
        import sympy

        return tuple(sympy.exp(sympy.Float(self.width) ** 2 * a**2 / 2) for a in k)


@TARGETS.register("shift")
@dataclass(frozen=True)
class Shift(Target):
    """A translation exp(i k_axis distance): y(x) = u(x + distance e_axis).

    Parameters
    ----------
    distance : float
        In units of the box.
    axis : int
        Direction.
    """

    distance: float = 0.05
    axis: int = 0

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.axis in (0, 1, 2), "axis must be 0, 1 or 2")

    def check(self, mesh: Mesh) -> None:
        """Refuse an axis that the mesh lacks."""
        self.require(self.axis < mesh.dim, f"axis must be below dim={mesh.dim}")

    def multiplier(self, *k: np.ndarray) -> np.ndarray:
        """Return the phase."""
        return np.exp(1j * self.distance * k[self.axis])

    def formula(self, k: tuple[sympy.Symbol, ...]) -> tuple[sympy.Expr, ...]:
        """Give the phase on its axis."""
        import sympy

        phase = sympy.exp(sympy.I * sympy.Float(self.distance) * k[self.axis])
        return tuple(phase if axis == self.axis else sympy.Integer(1) for axis in range(len(k)))


@TARGETS.register("derivative")
@dataclass(frozen=True)
class Derivative(Target):
    """A first derivative i k_axis, times a length that keeps it of the signal's size.

    Parameters
    ----------
    axis : int
        Direction.
    length : float
        Factor, in units of the box.
    """

    axis: int = 0
    length: float = 0.05

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.axis in (0, 1, 2), "axis must be 0, 1 or 2")

    def check(self, mesh: Mesh) -> None:
        """Refuse an axis that the mesh lacks."""
        self.require(self.axis < mesh.dim, f"axis must be below dim={mesh.dim}")

    def multiplier(self, *k: np.ndarray) -> np.ndarray:
        """Return i k times the length."""
        return 1j * self.length * k[self.axis]

    def formula(self, k: tuple[sympy.Symbol, ...]) -> tuple[sympy.Expr, ...]:
        """i k times the length on its axis."""
        import sympy

        slope = sympy.I * sympy.Float(self.length) * k[self.axis]
        return tuple(slope if axis == self.axis else sympy.Integer(1) for axis in range(len(k)))


@dataclass(frozen=True)
class Multiplier(Target):
    """Any Fourier multiplier given as a function (Python only).

    Parameters
    ----------
    function : callable
        ``function(*k)`` with one array of frequencies an axis (radians per box); must be real
        where k = 0 and satisfy m(−k) = conj m(k).
    label : str
        Name in tables and stored data.
    """

    function: Callable[..., Any]
    label: str = "multiplier"

    argument = "target"
    name = "multiplier"

    @property
    def spec(self) -> str:
        """Return the label; a function has no text."""
        return f"multiplier:{self.label}"

    def multiplier(self, *k: np.ndarray) -> np.ndarray:
        """Evaluate the function, checking symmetry and finiteness."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            forward = np.asarray(self.function(*k))
            backward = np.asarray(self.function(*(-a for a in k)))
        if not np.all(np.isfinite(forward)):
            raise InputError("`target` multiplier must be finite at every frequency; got NaN/inf")
        if not np.allclose(backward, np.conj(forward), rtol=1e-10, atol=1e-12):
            raise InputError(
                f"`target` multiplier must satisfy m(-k) = conj m(k); got {self.label!r}"
            )
        return forward
