"""From gradients of sample paths to the quantities of a sweep and their standard errors.

Exact where the expectation is known: the mean gap then has no sampling error, and the rms gap
takes only its fluctuation from the paths, rms² = |mean|² + variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradconv.bootstrap import estimate
from gradconv.errors import InputError, unknown_name
from gradconv.problem import MEANS, QUANTITIES, mesh_sizes
from gradconv.rates import Rate, fit_rate

# Rounding of a gradient: measured on exact (zero) gaps of band-limited problems, 1-D to 3-D,
# errors stayed below 4 eps times the summed magnitude of the terms; 32 leaves a margin.
ROUNDING = 32.0

CHANCE = 1e-3
"""Nominal chance that a right law is refused anywhere among comparisons that belong together."""
FRESH = 2**32
"""Added to a seed for the paths that confirm a disagreement."""

# A sampled mean this improbable under the exact expectation means that one of the two is wrong.
DISAGREEMENT = 1e-6


@dataclass(frozen=True)
class Contributions:
    """What a quantity is made of, as `fit_rate` takes it: exact values, or paths to average.

    Parameters
    ----------
    values : ndarray, optional
        Exact values, one a level.
    paths, offset, power
        Contributions of the sample paths; value = (offset + mean of paths)**power, or the norm of
        the mean path if paths are vectors.
    """

    values: np.ndarray | None = None
    paths: np.ndarray | None = None
    offset: np.ndarray | None = None
    power: float = 1.0


@dataclass(frozen=True)
class GradientSample:
    """Scaled gradients of all levels on shared sample paths.

    Parameters
    ----------
    gradients : ndarray
        Shape ``(replicates, levels, parameters)``.
    expected : ndarray or None
        Exact mean, shape ``(levels, parameters)``, where it is known.
    magnitude : ndarray
        Size of the terms that cancel in a gradient, shape ``(levels,)``.
    epsilon : float
        Machine epsilon of the arithmetic of `gradients`.
    """

    gradients: np.ndarray
    expected: np.ndarray | None
    magnitude: np.ndarray
    epsilon: float

    @property
    def replicates(self) -> int:
        """Number of sample paths."""
        return int(self.gradients.shape[0])

    @cached_property
    def gaps(self) -> np.ndarray:
        """g_l − g_{l−1} of each path, shape ``(replicates, levels − 1, parameters)``."""
        return np.diff(self.gradients, axis=1)

    @cached_property
    def mean_gaps(self) -> np.ndarray:
        """Exact mean gap, else the mean over paths, shape ``(levels − 1, parameters)``."""
        if self.expected is not None:
            return np.diff(self.expected, axis=0)
        return np.asarray(self.gaps.mean(axis=0))

    @cached_property
    def deviations(self) -> np.ndarray:
        """|gap − mean|² of each path, shape ``(replicates, levels − 1)``.

        Their mean is an unbiased variance; those at the rounding floor count as zero.
        """
        square = np.sum((self.gaps - self.mean_gaps) ** 2, axis=-1)
        # float32 paths against a float64 mean: differences at the rounding level are no variance
        floor = rounding_floor("variance", self.magnitude, self.epsilon)
        square[square <= floor * np.ones_like(square)] = 0.0
        if self.expected is None and self.replicates > 1:
            square *= self.replicates / (self.replicates - 1)
        return np.asarray(square)

    @property
    def exact(self) -> bool:
        """Whether the means carry no sampling error."""
        return self.expected is not None or self.replicates == 1

    @property
    def fluctuates(self) -> bool:
        """Whether paths differ at all."""
        return self.replicates > 1 and bool(np.any(self.deviations > 0))

    def series(self, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Values and standard errors of a quantity, one a level (gaps: one a pair of levels)."""
        made = self.contributions(quantity)
        if made.values is not None:
            return made.values, np.zeros_like(made.values)
        assert made.paths is not None
        return estimate(made.paths, made.offset, made.power)

    def rate(self, h: np.ndarray, quantity: str, confidence: float = 0.95, seed: int = 0) -> Rate:
        """Fit the signed order of a quantity.

        Parameters
        ----------
        h : ndarray
            Mesh sizes of the levels; gaps are fitted against the finer of their two.
        quantity : str
            One of `QUANTITIES`.
        confidence : float
            Level of the interval.
        seed : int
            Seed of the bootstrap.
        """
        made = self.contributions(quantity)
        return fit_rate(
            mesh_sizes(quantity, h),
            made.values,
            paths=made.paths,
            offset=made.offset,
            power=made.power,
            floor=rounding_floor(quantity, self.magnitude, self.epsilon_of(quantity)),
            kind="level" if quantity == "level_norm" else "gap",
            confidence=confidence,
            seed=seed,
        )

    def epsilon_of(self, quantity: str) -> float:
        """Machine epsilon of a quantity: exact means are in double precision, paths or not."""
        exact = self.expected is not None and quantity in MEANS
        return float(np.finfo(float).eps) if exact else self.epsilon

    def contributions(self, quantity: str) -> Contributions:
        """How the paths and the exact mean make up a quantity.

        Raises
        ------
        InputError
            If the quantity is unknown.
        """
        if quantity not in QUANTITIES:
            raise unknown_name("quantity", quantity, QUANTITIES)
        if quantity in MEANS:
            vectors = self.gradients if quantity == "level_norm" else self.gaps
            if not self.exact:
                return Contributions(paths=vectors)
            mean = vectors[0]
            if self.expected is not None:
                mean = self.expected if quantity == "level_norm" else self.mean_gaps
            return Contributions(values=np.linalg.norm(mean, axis=-1))
        if not self.fluctuates:
            norms = np.linalg.norm(self.mean_gaps, axis=-1)
            return Contributions(values=norms if quantity == "rms_gap" else np.zeros_like(norms))
        if quantity == "variance":
            return Contributions(paths=self.deviations)
        if self.expected is None:
            return Contributions(paths=np.sum(self.gaps**2, axis=-1), power=0.5)
        offset = np.sum(self.mean_gaps**2, axis=-1)
        return Contributions(paths=self.deviations, offset=offset, power=0.5)

    def cosine(self) -> tuple[np.ndarray, np.ndarray]:
        """Cosine of each level's mean gradient to the finest one's, with standard errors.

        Returns
        -------
        values, stderr : ndarray
            Shape ``(levels,)``; NaN where a gradient vanishes. The error of sampled means is the
            jackknife's over paths.
        """
        if self.exact:
            mean = self.gradients[0] if self.expected is None else self.expected
            return _cosines(mean), np.zeros(len(mean))
        count = self.replicates
        total = self.gradients.sum(axis=0)
        left_out = _cosines((total - self.gradients) / (count - 1))
        spread = np.sum((left_out - left_out.mean(axis=0)) ** 2, axis=0)
        return _cosines(total / count), np.sqrt((count - 1) / count * spread)

    def disagreement(self) -> float:
        """Smallest probability, over components, of a sampled mean this far from the exact one.

        Bonferroni-corrected and two-sided by Student's t; 1 where there is nothing to compare.
        """
        if self.expected is None or not self.fluctuates or self.replicates < 8:
            return 1.0
        from scipy.special import stdtr

        error = np.abs(self.gradients.mean(axis=0) - self.expected)
        spread = self.gradients.std(axis=0, ddof=1) / np.sqrt(self.replicates)
        rounding = ROUNDING * self.epsilon * self.magnitude[:, None]
        t = np.maximum(error - rounding, 0.0) / (spread + rounding + np.finfo(float).tiny)
        return float(min(1.0, 2.0 * stdtr(self.replicates - 1, -t).min() * t.size))


def rounding_floor(quantity: str, magnitude: np.ndarray, epsilon: float) -> np.ndarray:
    """What rounding leaves of a quantity that is zero.

    Parameters
    ----------
    quantity : str
        One of `QUANTITIES`.
    magnitude : ndarray
        Size of the terms that cancel in a gradient, shape ``(levels,)``.
    epsilon : float
        Machine epsilon.

    Returns
    -------
    ndarray
        One value a level, or a gap.
    """
    floor = ROUNDING * epsilon * magnitude
    if quantity == "level_norm":
        return floor
    gap = floor[1:] + floor[:-1]
    return gap**2 if quantity == "variance" else gap


def simultaneous_quantile(comparisons: int, replicates: int) -> float:
    """Standard errors that any of so many comparisons may be off, by chance alone.

    Student's t for means over `replicates` paths, Bonferroni-corrected: all right laws lie within
    with a chance of at least 1 − `CHANCE`.
    """
    from scipy.special import stdtrit

    return float(stdtrit(replicates - 1, 1 - CHANCE / (2 * max(1, comparisons))))


def _cosines(mean: np.ndarray) -> np.ndarray:
    finest = mean[..., -1:, :]
    norms = np.linalg.norm(mean, axis=-1) * np.linalg.norm(finest, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sum(mean * finest, axis=-1) / norms)


def check_levels(levels: int) -> None:
    """Refuse hierarchies too short for a fit of the gaps.

    Raises
    ------
    InputError
        That names the number of meshes.
    """
    if levels < 4:
        raise InputError(f"`levels` must hold at least 4 meshes for a fit; got {levels}")
