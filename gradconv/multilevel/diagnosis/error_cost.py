"""Cost of an error ε on the finest mesh given, forecast from the moments of a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradconv.errors import check_positive
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.moments import Moments
from gradconv.multilevel.optimum import optimal_counts, randomised_probabilities

ESTIMATORS = ("single", "multilevel", "randomised")
RESOLVED = 4.0  # standard errors from which on a mean is known well enough to be a scale
NORM = "norm of the mean gradient on the finest level"
AUTOMATIC = (8, 32, 128)  # samples of the single level at the errors that are chosen by default


@dataclass(frozen=True)
class Forecast:
    """What an estimator needs for an error, from the moments.

    Parameters
    ----------
    estimator : str
        Which: "single", "multilevel" or "randomised", or a name of `equal_cost.ESTIMATORS`.
    epsilon : float
        Root mean square error aimed at, relative to `Errors.scale`.
    target : float
        Variance aimed at, (ε scale)².
    counts : tuple of int or None
        Samples of each term, coarse to fine; None for the randomised estimator.
    draws : int or None
        Draws of the randomised estimator.
    probabilities : tuple of float or None
        Of its levels.
    cost : float
        Expected cost, in the unit of the diagnosis.
    variance, stderr : float
        Predicted variance with the whole numbers above, and its standard error.
    """

    estimator: str
    epsilon: float
    target: float
    counts: tuple[int, ...] | None
    draws: int | None
    probabilities: tuple[float, ...] | None
    cost: float
    variance: float
    stderr: float

    @property
    def samples(self) -> int:
        """Sample numbers that one estimate takes."""
        return sum(self.counts) if self.counts is not None else int(self.draws or 0)


@dataclass(frozen=True)
class Errors:
    """Errors to forecast for, and what they are relative to.

    Parameters
    ----------
    epsilons : tuple of float
        Relative errors, falling.
    scale : float
        What they are relative to.
    relative_to : str
        In words.
    """

    epsilons: tuple[float, ...]
    scale: float
    relative_to: str


def errors_for(whole: LevelTable, epsilons: Sequence[float] | None) -> Errors:
    """Errors relative to the norm of the finest mean gradient where that is resolved.

    Parameters
    ----------
    whole : LevelTable
        Of the whole gradient.
    epsilons : sequence of float, optional
        Relative errors; by default those that 8, 32 and 128 samples of the finest level leave.

    Raises
    ------
    InputError
        If an error is not positive and finite.
    """
    norms, norm_errors = whole.mean(0)
    variance = float(whole.variance(0)[0][-1])
    known = bool(norms[-1] > RESOLVED * norm_errors[-1])
    scale = float(norms[-1]) if known else float(np.sqrt(variance))
    words = (
        NORM
        if known
        else "standard deviation of a sample's gradient on the finest level (its mean is not "
        "resolved)"
    )
    if epsilons is None:
        chosen = [float(f"{np.sqrt(variance / n) / scale:.2g}") for n in AUTOMATIC]
        return Errors(tuple(chosen), scale, words)
    return Errors(tuple(sorted({float(e) for e in epsilons}, reverse=True)), scale, words)


def check_epsilons(epsilons: object) -> None:
    """Refuse what is no sequence of positive errors."""
    if epsilons is None:
        return
    values: list[object] = [None]
    if isinstance(epsilons, Sequence) and not isinstance(epsilons, str) and len(epsilons):
        values = list(epsilons)
    for value in values:
        check_positive("epsilons", value)


@dataclass(frozen=True)
class Price:
    """What an estimator takes, and its variance.

    Parameters
    ----------
    counts, draws, probabilities, cost, variance, stderr
        As in `Forecast`.
    """

    counts: tuple[int, ...] | None
    draws: int | None
    probabilities: tuple[float, ...] | None
    cost: float
    variance: float
    stderr: float


@dataclass(frozen=True)
class Prices:
    """Variance and cost of any estimator, from the moments of a diagnosis.

    Parameters
    ----------
    whole : LevelTable
        Of the whole gradient.
    costs, single : ndarray
        Cost of one sample of each term, and of one fine gradient of each level.
    """

    whole: LevelTable
    costs: Array
    single: Array

    @cached_property
    def moments(self) -> Moments:
        """Of the whole gradient."""
        return self.whole.moments

    @cached_property
    def _second(self) -> Array:
        """E‖d_l‖² of each term."""
        return self.moments.difference + np.maximum(self.moments.mean_square, 0.0)

    @cached_property
    def chances(self) -> Array:
        """Probabilities of the randomised estimator's levels."""
        return randomised_probabilities(self._second, self.costs)

    @cached_property
    def draw(self) -> tuple[float, float, float]:
        """Variance of one draw of the randomised estimator, its standard error, and its cost."""
        square = max(float(self.moments.fine_mean_square[-1]), 0.0)
        moment_errors = np.array([p.second_moment_errors[2] for p in self.whole.products])
        means, mean_errors = self.whole.mean(0)
        finest_error = 2.0 * means[-1] * mean_errors[-1] if means[-1] else 0.0
        level_errors = np.sqrt(np.sum((moment_errors / self.chances) ** 2))
        # Σ ‖E d_l‖²/p_l is at least ‖E g_L‖²; estimates of few samples may not know
        least = float(np.sum(self.moments.difference / self.chances))
        return (
            max(float(np.sum(self._second / self.chances)) - square, least),
            float(np.hypot(level_errors, finest_error)),
            float(np.sum(self.chances * self.costs)),
        )

    def alone(self, samples: int) -> Price:
        """Price of a mean over samples of the finest level."""
        fine, errors = self.whole.variance(0)
        return Price(
            (*(0,) * (len(self.costs) - 1), samples),
            None,
            None,
            float(samples * self.single[-1]),
            float(fine[-1] / samples),
            float(errors[-1] / samples),
        )

    def summed(self, counts: Array) -> Price:
        """Price of the sum over levels, with whole numbers of samples a term."""
        errors = self.whole.variance(2)[1]
        return Price(
            tuple(int(n) for n in counts),
            None,
            None,
            float(np.sum(counts * self.costs)),
            float(np.sum(self.moments.difference / counts)),
            float(np.sqrt(np.sum((errors / counts) ** 2))),
        )

    def drawn(self, draws: int) -> Price:
        """Price of the randomised estimator."""
        variance, error, cost = self.draw
        chances = tuple(float(p) for p in self.chances)
        return Price(None, draws, chances, draws * cost, variance / draws, error / draws)


def forecasts(
    whole: LevelTable, errors: Errors, costs: Array, single: Array
) -> tuple[Forecast, ...]:
    """Forecast every estimator at every error.

    Parameters
    ----------
    whole : LevelTable
        Of the whole gradient.
    errors : Errors
        From `errors_for`.
    costs, single : ndarray
        Cost of one sample of each term, and of one fine gradient of each level.

    Raises
    ------
    InputError
        If a variance is zero: no number of samples follows from it; the level is named.
    """
    prices = Prices(whole, costs, single)
    fine, differences = float(prices.moments.fine[-1]), prices.moments.difference
    found = []
    for epsilon in errors.epsilons:
        target = (epsilon * errors.scale) ** 2
        draws = max(1, int(np.ceil(prices.draw[0] / target)))
        counts = np.maximum(np.ceil(optimal_counts(differences, costs, variance=target)), 1)
        priced = (
            prices.alone(max(1, int(np.ceil(fine / target)))),
            prices.summed(counts),
            prices.drawn(draws),
        )
        for name, price in zip(ESTIMATORS, priced, strict=True):
            found.append(Forecast(name, epsilon, target, **vars(price)))
    return tuple(found)
