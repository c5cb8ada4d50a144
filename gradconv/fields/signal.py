"""Noise-free signals u: random fields of known regularity and formulas."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gradconv.errors import InputError
from gradconv.fields.streams import SMALL, SamplePath, hermitian_modes, mesh_spectrum
from gradconv.mesh import Mesh
from gradconv.registry import Choice, Registry

if TYPE_CHECKING:
    import sympy

SIGNALS: Registry[Signal] = Registry("signal")


class Signal(Choice):
    """Noise-free input: a function that every mesh can ask for, or images of a mesh of their own.

    Attributes
    ----------
    random : bool
        Whether each replicate has a signal of its own. A random signal is a stationary Gaussian
        field with independent channels, mean zero and a known spectrum.
    refinable : bool
        Whether the signal exists on every mesh (a photograph does not: it has no limit h → 0).
    members : int
        How many deterministic signals replicates go through in turn (a folder of images).
    """

    random: ClassVar[bool] = False
    refinable: ClassVar[bool] = True

    @property
    def members(self) -> int:
        """Number of deterministic signals; expectations average over them."""
        return 1

    def check(self, mesh: Mesh, channels: int) -> None:
        """Raise an `InputError` if the signal cannot be put on `mesh`."""

    def finite_modes(self, dim: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Give all modes j, shape ``(modes, dim)``, and their power, if they are finitely many."""
        return None

    def fingerprint(self) -> str | None:
        """Digest of what the signal reads from files; None if it reads none."""
        return None

    @abstractmethod
    def draw(self, mesh: Mesh, grid: str, channels: int, path: SamplePath) -> np.ndarray:
        """Return the signal on a mesh, shape ``(channels, *mesh.shape)``.

        Parameters
        ----------
        mesh : Mesh
            The mesh.
        grid : {"cell", "vertex"}
            Where the values live.
        channels : int
            Number of channels.
        path : SamplePath
            Replicate (and randomness).
        """


class RandomField(Signal):
    """A stationary Gaussian field: E|û_j|² = density(|j|²) below a mesh's Nyquist mode."""

    random: ClassVar[bool] = True

    @abstractmethod
    def density(self, square: np.ndarray) -> np.ndarray:
        """E|û_j|² at |j|² = `square`; the dimension is the number of axes of `square`."""

    def formula(
        self, square: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]] | None:
        """Give E|û_j|² in sympy at |j|² = `square`, and the values of its symbols; None if none."""
        return None

    def cutoff(self, mesh: Mesh) -> int:
        """Largest |j|_∞ on the mesh."""
        return (mesh.n - 1) // 2

    def spectrum(self, mesh: Mesh) -> np.ndarray:
        """E|û_j|² in full FFT order, shape ``mesh.shape``."""
        j = np.fft.fftfreq(mesh.n, 1.0 / mesh.n).round()
        axes = np.meshgrid(*[j] * mesh.dim, indexing="ij", sparse=True)
        values = self.density(np.asarray(sum(a * a for a in axes)))
        for axis in axes:
            values = values * (np.abs(axis) <= self.cutoff(mesh))
        return values

    def draw(self, mesh: Mesh, grid: str, channels: int, path: SamplePath) -> np.ndarray:
        """Draw modes shell by shell: a finer mesh adds modes to the same path."""
        import scipy.fft

        largest, dim = self.cutoff(mesh), mesh.dim
        find = _factors if mesh.size <= SMALL else _factors.__wrapped__
        scale, phase = find(self, mesh, grid)
        fields = []
        for channel in range(channels):
            modes = hermitian_modes(path.generator(channel), dim, largest) * scale * phase
            spectrum = mesh_spectrum(modes, mesh.n)
            fields.append(scipy.fft.irfftn(spectrum, s=mesh.shape, norm="forward"))
        return np.stack(fields)


@lru_cache(maxsize=64)  # the same for all replicates
def _factors(field: RandomField, mesh: Mesh, grid: str) -> tuple[np.ndarray, np.ndarray | float]:
    """Root of the power of the modes of a mesh, and the phase of its points."""
    largest, dim = field.cutoff(mesh), mesh.dim
    j = np.arange(-largest, largest + 1, dtype=float)
    axes = np.meshgrid(*[j] * dim, indexing="ij", sparse=True)
    scale = np.sqrt(field.density(np.asarray(sum(a * a for a in axes))))
    shift = 0.5 * mesh.h if grid == "cell" else 0.0
    return scale, np.exp(2j * np.pi * shift * sum(axes)) if shift else 1.0


@lru_cache(maxsize=64)
def _band_count(modes: int, dim: int) -> int:
    """How many integer points lie in 0 < |j| <= modes."""
    j = np.arange(-modes, modes + 1)
    square = sum(np.meshgrid(*[j * j] * dim, indexing="ij", sparse=True))
    return int(np.count_nonzero(square <= modes**2)) - 1


@SIGNALS.register("band-limited")
@dataclass(frozen=True)
class BandLimited(RandomField):
    """Random field of unit variance with equal power at 0 < |j| ≤ modes, none beyond.

    Parameters
    ----------
    modes : int
        Largest |j|; a mesh of n cells resolves it if 2·modes < n.
    """

    modes: int = 6

    def __post_init__(self) -> None:
        self.require(1 <= self.modes <= 100, "modes must lie in 1 to 100")

    def check(self, mesh: Mesh, channels: int) -> None:
        """Refuse meshes that do not resolve the band."""
        if 2 * self.modes >= mesh.n:
            raise InputError(
                f"`signal` band-limited needs 2*modes < n on the coarsest mesh; "
                f"got modes={self.modes} and n={mesh.n}"
            )

    def density(self, square: np.ndarray) -> np.ndarray:
        """Return an equal share of the variance inside the band."""
        inside = (square > 0) & (square <= self.modes**2)
        return inside / _band_count(self.modes, np.ndim(square))

    def finite_modes(self, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the modes of the band."""
        j = np.arange(-self.modes, self.modes + 1)
        axes = np.stack(np.meshgrid(*[j] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
        square = np.sum(axes * axes, axis=1)
        inside = (square > 0) & (square <= self.modes**2)
        return axes[inside], np.full(int(inside.sum()), 1.0 / _band_count(self.modes, dim))

    def cutoff(self, mesh: Mesh) -> int:
        """Return the band, on every mesh that resolves it."""
        return min(self.modes, (mesh.n - 1) // 2)


@SIGNALS.register("sobolev")
@dataclass(frozen=True)
class Sobolev(RandomField):
    """Random field of regularity s: E|û_j|² = scale² (1 + |j|²)^{-(s + d/2)}.

    Its paths lie in H^r for every r < s.

    Parameters
    ----------
    s : float
        Sobolev regularity.
    scale : float
        Amplitude of the lowest modes.
    """

    s: float = 3.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 < self.s <= 40, "s must lie in (0, 40]")
        self.require(self.scale > 0, "scale must be positive")

    def density(self, square: np.ndarray) -> np.ndarray:
        """Return scale² (1 + |j|²)^{-(s + d/2)}."""
        return self.scale**2 * (1.0 + square) ** (-(self.s + 0.5 * np.ndim(square)))

    def formula(
        self, square: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
        """a² (1 + |j|²)^{−(s + d/2)}."""
        import sympy

        scale, s = sympy.symbols("a s_u", positive=True)
        return scale**2 * (1 + square) ** (-(s + dim / 2)), {scale: self.scale, s: self.s}


@SIGNALS.register("plane-wave")
@dataclass(frozen=True)
class PlaneWave(Signal):
    """√2 cos(2π j·x + phase) with j = (modes, modes−1, modes−2) cut to the dimension.

    Parameters
    ----------
    modes : int
        Wave number along the first axis, at least 3.
    """

    modes: int = 5

    def __post_init__(self) -> None:
        self.require(3 <= self.modes <= 512, "modes must lie in 3 to 512")

    def check(self, mesh: Mesh, channels: int) -> None:
        """Refuse meshes that do not resolve the wave."""
        if 2 * self.modes >= mesh.n:
            raise InputError(
                f"`signal` plane-wave needs 2*modes < n on the coarsest mesh; "
                f"got modes={self.modes} and n={mesh.n}"
            )

    def finite_modes(self, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ±j, each with half of the wave's power."""
        j = np.array([[self.modes - a for a in range(dim)]])
        return np.concatenate([j, -j]), np.array([0.5, 0.5])

    def draw(self, mesh: Mesh, grid: str, channels: int, path: SamplePath) -> np.ndarray:
        """Evaluate the cosine; channel c is shifted in phase by c."""
        points = mesh.points(grid)
        angle = 2 * np.pi * sum((self.modes - a) * x for a, x in enumerate(points))
        return np.stack([np.sqrt(2.0) * np.cos(angle + 0.7 + c) for c in range(channels)])


@SIGNALS.register("cartoon")
@dataclass(frozen=True)
class Cartoon(Signal):
    """Piecewise constant in [0, 1], with jumps along closed curves (points in 1-D, sheets in 3-D).

    Star-shaped regions r < R(1 + wobble) about random centres, each with a grey value of its own,
    on a periodic box.

    Parameters
    ----------
    shapes : int
        Number of regions.
    layout : int
        Number that fixes the geometry; independent of the run's seed.
    """

    shapes: int = 6
    layout: int = 0

    def __post_init__(self) -> None:
        self.require(1 <= self.shapes <= 200, "shapes must lie in 1 to 200")
        self.require(self.layout >= 0, "layout must not be negative")

    def draw(self, mesh: Mesh, grid: str, channels: int, path: SamplePath) -> np.ndarray:
        """Point values: what is seen on a coarser mesh is for the restriction to say."""
        rng = np.random.default_rng([self.layout, mesh.dim])
        points = mesh.points(grid)
        field = np.full((channels, *mesh.shape), 0.2)
        for _ in range(self.shapes):
            centre, radius = rng.random(mesh.dim), rng.uniform(0.08, 0.22)
            bumps, turn = int(rng.integers(2, 6)), rng.uniform(0, 2 * np.pi)
            depth, value = rng.uniform(0.05, 0.3), rng.uniform(0.3, 1.0)
            offset = [(x - c + 0.5) % 1.0 - 0.5 for x, c in zip(points, centre, strict=True)]
            distance = np.sqrt(sum(o * o for o in offset))
            edge = np.full(mesh.shape, radius)
            if mesh.dim > 1:
                angle = np.arctan2(offset[1], offset[0])
                edge = edge * (1 + depth * np.cos(bumps * angle + turn))
            tints = value * (1 - 0.15 * np.arange(channels))
            inside = distance < edge
            for c in range(channels):
                field[c][inside] = tints[c]
        return field
