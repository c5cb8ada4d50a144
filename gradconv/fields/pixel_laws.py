"""Non-Gaussian noise, each pixel on its own: Poisson, salt-and-pepper, uniform.

Poisson and salt-and-pepper noise depend on the signal: their variance differs from pixel to pixel,
so that on a fixed image the noise is not stationary.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from gradconv.fields.noise import NOISES, Noise
from gradconv.fields.streams import SamplePath, pixel_field
from gradconv.mesh import Mesh

if TYPE_CHECKING:
    import sympy

Values = TypeVar("Values", float, np.ndarray)


class PixelLaw(Noise):
    """Non-Gaussian noise, each pixel on its own: one uniform number a pixel, inverse CDF."""

    gaussian: ClassVar[bool] = False

    @abstractmethod
    def variance(self, mean: Values, square: Values) -> Values:
        """Variance of a pixel where the signal is u: linear in `mean` = u and `square` = u².

        At the means of u and u² it is the mean variance.
        """

    @property
    def fourth_cumulant(self) -> float | None:
        """Fourth cumulant of a pixel, where it does not depend on the signal; else None."""
        return None

    @abstractmethod
    def transform(self, signal: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Noisy pixels from clean ones and uniform numbers in (0, 1)."""

    def spectrum(self, mesh: Mesh, mean: float = 0.0, square: float = 0.0) -> float:
        """Return the mean variance times h^d: independent pixels have a flat spectrum."""
        return self.variance(mean, square) * mesh.h**mesh.dim

    def apply(self, signal: np.ndarray, mesh: Mesh, path: SamplePath, coupled: bool) -> np.ndarray:
        """Draw one uniform number a pixel and transform."""
        fields = [
            self.transform(clean, pixel_field(path.generator(c), mesh, coupled, "uniform"))
            for c, clean in enumerate(signal)
        ]
        return np.stack(fields)


@NOISES.register("uniform")
@dataclass(frozen=True)
class Uniform(PixelLaw):
    """Independent uniform values of standard deviation sigma.

    Parameters
    ----------
    sigma : float
        Standard deviation.
    """

    sigma: float = 0.5

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.sigma > 0, "sigma must be positive")

    def variance(self, mean: Values, square: Values) -> Values:
        """Return σ²."""
        return self.sigma**2 + 0.0 * mean

    @property
    def fourth_cumulant(self) -> float:
        """−6/5 σ⁴."""
        return -1.2 * self.sigma**4

    def formula(
        self, square: sympy.Symbol, h: sympy.Symbol, dim: sympy.Expr
    ) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
        """σ² h^d."""
        import sympy

        sigma = sympy.Symbol("sigma", positive=True)
        return sigma**2 * h**dim, {sigma: self.sigma}

    def transform(self, signal: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Add the centred uniform number."""
        return signal + np.sqrt(12.0) * self.sigma * (uniform - 0.5)


@NOISES.register("poisson")
@dataclass(frozen=True)
class Poisson(PixelLaw):
    """Photon counts: x = Poisson(peak·u)/peak, so that Var x = u/peak. Needs u ≥ 0.

    Parameters
    ----------
    peak : float
        Expected count where the signal is 1.
    """

    peak: float = 30.0

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 < self.peak <= 1e6, "peak must lie in (0, 1e6]")

    def check(self, lowest: float, highest: float) -> None:
        """Refuse negative signals."""
        least = (
            "a Gaussian field has no bound" if np.isinf(lowest) else f"its least is {lowest:.3g}"
        )
        self.require(
            lowest >= 0,
            f"the signal must be nowhere negative, as a photograph or cartoon is ({least})",
        )

    def variance(self, mean: Values, square: Values) -> Values:
        """Return E u / peak."""
        return mean / self.peak

    def transform(self, signal: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Inverse CDF of the Poisson law."""
        from scipy.stats import poisson

        return np.asarray(poisson.ppf(uniform, self.peak * signal)).clip(0.0) / self.peak


@NOISES.register("salt-and-pepper")
@dataclass(frozen=True)
class SaltAndPepper(PixelLaw):
    """A pixel becomes 0 or 1, each with probability fraction/2: the noise has a mean.

    Parameters
    ----------
    fraction : float
        Share of the pixels hit.
    """

    fraction: float = 0.1

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 < self.fraction <= 1, "fraction must lie in (0, 1]")

    @property
    def gain(self) -> float:
        """Share of the pixels that survive."""
        return 1.0 - self.fraction

    @property
    def offset(self) -> float:
        """Mean of what replaces the others."""
        return 0.5 * self.fraction

    def variance(self, mean: Values, square: Values) -> Values:
        """E x² − (E x)² with E x² = (1−p) u² + p/2."""
        p = self.fraction
        mean_square = (1 - p) ** 2 * square + p * (1 - p) * mean + 0.25 * p**2
        return (1 - p) * square + 0.5 * p - mean_square

    def transform(self, signal: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Replace the two tails of the uniform number."""
        half = 0.5 * self.fraction
        return np.where(uniform < half, 0.0, np.where(uniform > 1.0 - half, 1.0, signal))
