"""Noise models: how each is drawn on a mesh, and its exact second moments.

Given the clean signal u, the input is x = gain·u + offset + η with E[η | u] = 0. On a mesh of n
cells the modes of η have mean power S(k) = E|η̂_k|² (Fourier coefficients divided by the number of
cells). For the non-Gaussian pixel noises gain, offset and S follow from the law of one pixel.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gradconv.fields.streams import (
    SMALL,
    SamplePath,
    hermitian_modes,
    mesh_spectrum,
    pixel_field,
    white_field,
)
from gradconv.mesh import FourierGrid, Mesh
from gradconv.registry import Choice, Registry

if TYPE_CHECKING:
    import sympy

NOISES: Registry[Noise] = Registry("noise")


def join(fields: list[np.ndarray]) -> np.ndarray:
    """Stack along a new first axis; a single field is not copied."""
    return fields[0][None] if len(fields) == 1 else np.stack(fields)


class Noise(Choice):
    """A noise model.

    Attributes
    ----------
    gaussian : bool
        Whether η is Gaussian.
    coupling : {"injection", "average", "modes"}
        How neighbouring meshes share a path in the refinement setting: the coarser one takes every
        other value, or their means, or the modes that both have.
    """

    gaussian: ClassVar[bool] = True
    coupling: ClassVar[str] = "injection"

    @property
    def gain(self) -> float:
        """Factor of the signal in the mean of the input."""
        return 1.0

    @property
    def offset(self) -> float:
        """Constant in the mean of the input."""
        return 0.0

    @abstractmethod
    def spectrum(self, mesh: Mesh, mean: float = 0.0, square: float = 0.0) -> np.ndarray | float:
        """S(k) on a mesh, full FFT order ``mesh.shape``, or one number if it is flat.

        Parameters
        ----------
        mesh : Mesh
            The mesh on which the noise is drawn.
        mean, square : float
            Means over the box of u and u² (read by noise that depends on the signal).
        """

    def formula(
        self, square: sympy.Symbol, h: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]] | None:
        """Give S in sympy at |j|² = `square` on a mesh of size `h`, and the values of its symbols.

        None if the noise has no spectral density of its own.
        """
        return None

    @abstractmethod
    def apply(self, signal: np.ndarray, mesh: Mesh, path: SamplePath, coupled: bool) -> np.ndarray:
        """Noisy version of `signal`, shape ``(channels, *mesh.shape)``.

        Parameters
        ----------
        signal : ndarray
            Clean signal, shape ``(channels, *mesh.shape)``.
        mesh : Mesh
            The mesh.
        path : SamplePath
            Source of randomness.
        coupled : bool
            Whether coarser meshes must see the same path (the refinement setting).
        """

    def check(self, lowest: float, highest: float) -> None:
        """Raise an `InputError` if signals in [lowest, highest] cannot carry this noise."""


@NOISES.register("none")
@dataclass(frozen=True)
class NoNoise(Noise):
    """No noise."""

    def spectrum(self, mesh: Mesh, mean: float = 0.0, square: float = 0.0) -> float:
        """Return zero."""
        return 0.0

    def formula(
        self, square: sympy.Symbol, h: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
        """Zero."""
        import sympy

        return sympy.Integer(0), {}

    def apply(self, signal: np.ndarray, mesh: Mesh, path: SamplePath, coupled: bool) -> np.ndarray:
        """Return the signal."""
        return signal


@NOISES.register("pixel")
@dataclass(frozen=True)
class Pixel(Noise):
    """Independent normal values on the mesh it is drawn on: S = σ² h^d.

    Parameters
    ----------
    sigma : float
        Standard deviation of a pixel.
    """

    sigma: float = 0.5

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.sigma > 0, "sigma must be positive")

    def spectrum(self, mesh: Mesh, mean: float = 0.0, square: float = 0.0) -> float:
        """Return σ² h^d."""
        return self.sigma**2 * mesh.h**mesh.dim

    def formula(
        self, square: sympy.Symbol, h: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
        """σ² h^d."""
        import sympy

        sigma = sympy.Symbol("sigma", positive=True)
        return sigma**2 * h**dim, {sigma: self.sigma}

    def apply(self, signal: np.ndarray, mesh: Mesh, path: SamplePath, coupled: bool) -> np.ndarray:
        """Add the noise."""
        fields = []
        for channel, clean in enumerate(signal):
            field = pixel_field(path.generator(channel), mesh, coupled, "normal")
            field *= self.sigma
            field += clean
            fields.append(field)
        return join(fields)


@NOISES.register("white")
@dataclass(frozen=True)
class White(Noise):
    """Cell means of white noise, variance σ² h^{-d}: S = σ².

    Parameters
    ----------
    sigma : float
        Intensity.
    """

    coupling: ClassVar[str] = "average"
    sigma: float = 0.01

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.sigma > 0, "sigma must be positive")

    def spectrum(self, mesh: Mesh, mean: float = 0.0, square: float = 0.0) -> float:
        """Return σ²."""
        return self.sigma**2

    def formula(
        self, square: sympy.Symbol, h: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
        """σ²."""
        import sympy

        sigma = sympy.Symbol("sigma", positive=True)
        return sigma**2, {sigma: self.sigma}

    def apply(self, signal: np.ndarray, mesh: Mesh, path: SamplePath, coupled: bool) -> np.ndarray:
        """Add the noise."""
        fields = [
            white_field(path.generator(channel), mesh, coupled) for channel in range(len(signal))
        ]
        return signal + self.sigma * np.stack(fields)


class SpectralNoise(Noise):
    """Gaussian noise drawn mode by mode; meshes share the modes they have in common."""

    coupling: ClassVar[str] = "modes"

    @abstractmethod
    def density(self, square: np.ndarray) -> np.ndarray:
        """S at |j|² = `square`; the dimension is the number of axes of `square`."""

    def spectrum(self, mesh: Mesh, mean: float = 0.0, square: float = 0.0) -> np.ndarray:
        """Evaluate the density on the mesh's modes: cut there, never renormalised."""
        j = np.fft.fftfreq(mesh.n, 1.0 / mesh.n).round()
        return self.density(_squares([j] * mesh.dim))

    def apply(self, signal: np.ndarray, mesh: Mesh, path: SamplePath, coupled: bool) -> np.ndarray:
        """Add the noise."""
        import scipy.fft

        dim = mesh.dim
        find = _amplitude if mesh.size <= SMALL else _amplitude.__wrapped__
        amplitude = find(self, mesh)
        axes = tuple(range(dim))
        noisy = np.empty_like(signal)
        for channel, clean in enumerate(signal):
            rng = path.generator(channel)
            if coupled and mesh.n % 2 == 0:
                modes = mesh_spectrum(hermitian_modes(rng, dim, mesh.n // 2), mesh.n, "white")
            elif coupled:
                modes = mesh_spectrum(hermitian_modes(rng, dim, mesh.n // 2), mesh.n)
            else:
                white = rng.standard_normal(mesh.shape)
                modes = scipy.fft.rfftn(white, norm="ortho")  # E|·|² = 1
            modes *= amplitude
            field = scipy.fft.irfftn(modes, s=mesh.shape, axes=axes, norm="forward")
            np.add(field, clean, out=noisy[channel])
        return noisy


@lru_cache(maxsize=64)  # the same for all replicates
def _amplitude(noise: SpectralNoise, mesh: Mesh) -> np.ndarray:
    """Root of the density on the modes of a mesh, in real-FFT layout."""
    return np.asarray(np.sqrt(noise.density(_squares(FourierGrid(mesh).modes))))


def _squares(modes: Sequence[np.ndarray]) -> np.ndarray:
    """|j|² from the modes along each axis."""
    axes = np.meshgrid(*modes, indexing="ij", sparse=True)
    return np.asarray(sum(a * a for a in axes), dtype=float)


@NOISES.register("power")
@dataclass(frozen=True)
class PowerLaw(SpectralNoise):
    """S = scale² |j|^{-alpha}, the mean left out.

    Parameters
    ----------
    alpha : float
        Decay of the spectrum: 0 is white, d critical for the mean gap, d/2 for the fluctuation.
    scale : float
        Amplitude of the lowest modes.
    """

    alpha: float = 2.0
    scale: float = 0.1

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.scale > 0, "scale must be positive")
        self.require(abs(self.alpha) <= 20, "alpha must lie in [-20, 20]")

    def density(self, square: np.ndarray) -> np.ndarray:
        """Return scale² |j|^{-alpha}, zero at the origin."""
        with np.errstate(divide="ignore"):
            values = self.scale**2 * square ** (-0.5 * self.alpha)
        values[square == 0] = 0.0
        return values

    def formula(
        self, square: sympy.Symbol, h: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
        """s² |j|^{−α}."""
        import sympy

        scale, alpha = sympy.Symbol("s", positive=True), sympy.Symbol("alpha", real=True)
        return scale**2 * square ** (-alpha / 2), {scale: self.scale, alpha: self.alpha}


@NOISES.register("matern")
@dataclass(frozen=True)
class Matern(SpectralNoise):
    """Periodic Matérn field of smoothness ν and correlation length: S ∝ (2ν/ℓ² + |k|²)^{-ν-d/2}.

    Normalised in the whole space: variance sigma² up to the periodic images.

    Parameters
    ----------
    nu : float
        Smoothness, positive.
    length : float
        Correlation length, in units of the box.
    sigma : float
        Standard deviation.

    References
    ----------
    C. Rasmussen, C. Williams, *Gaussian Processes for Machine Learning*, 2006, eq. (4.15).
    """

    nu: float
    length: float
    sigma: float = 0.5

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 < self.nu <= 20, "nu must lie in (0, 20]")
        self.require(self.length > 0, "length must be positive")
        self.require(self.sigma > 0, "sigma must be positive")

    def density(self, square: np.ndarray) -> np.ndarray:
        """Evaluate the spectral density of the whole-space field, per mode."""
        from scipy.special import gammaln

        d, nu = np.ndim(square), self.nu
        scale = 2.0 * nu / self.length**2
        log_constant = (
            d * np.log(2.0)
            + 0.5 * d * np.log(np.pi)
            + gammaln(nu + 0.5 * d)
            - gammaln(nu)
            + nu * np.log(scale)
        )
        return self.sigma**2 * np.exp(
            log_constant - (nu + 0.5 * d) * np.log(scale + (2.0 * np.pi) ** 2 * square)
        )

    def formula(
        self, square: sympy.Symbol, h: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
        """σ² 2^d π^{d/2} Γ(ν + d/2)/Γ(ν) κ^{2ν} (κ² + 4π²|j|²)^{−ν−d/2}, κ² = 2ν/ℓ²."""
        import sympy

        sigma, nu, length = sympy.symbols("sigma nu ell", positive=True)
        kappa = 2 * nu / length**2
        constant = 2**dim * sympy.pi ** (dim / 2) * sympy.gamma(nu + dim / 2) / sympy.gamma(nu)
        power = -(nu + dim / 2)
        density = sigma**2 * constant * kappa**nu * (kappa + 4 * sympy.pi**2 * square) ** power
        return density, {sigma: self.sigma, nu: self.nu, length: self.length}
