"""Cost of an error ε on the finest mesh given, forecast from the moments of a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradconv.errors import InputError, shortened
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.optimum import optimal_counts, randomised_probabilities

ESTIMATORS = ("single", "multilevel", "randomised")
RESOLVED = 4.0  # standard errors from which on a mean is known well enough to be a scale
AUTOMATIC = (8, 32, 128)  # samples of the single level at the errors that are chosen by default


@dataclass(frozen=True)
class Forecast:
    """What an estimator needs for an error, from the moments.

    Parameters
    ----------
    estimator : {"single", "multilevel", "randomised"}
        Which.
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
        "norm of the mean gradient on the finest level"
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
        real = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
        if not real or not 0 < float(value) < np.inf:  # type: ignore[arg-type]
            raise InputError(
                f"`epsilons` must be positive and finite relative errors; got {shortened(epsilons)}"
            )


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
    moments = whole.moments
    fine, fine_errors = whole.variance(0)
    _, spread_errors = whole.variance(2)
    squares = np.maximum(moments.mean_square, 0.0)
    chances = randomised_probabilities(moments.difference + squares, costs)
    second = float(np.sum((moments.difference + squares) / chances))
    draw = second - max(float(moments.fine_mean_square[-1]), 0.0)
    moment_errors = np.array([p.second_moment_errors[2] for p in whole.products])
    means, mean_errors = whole.mean(0)
    finest_error = 2.0 * means[-1] * mean_errors[-1] if means[-1] else 0.0
    draw_error = float(np.hypot(np.sqrt(np.sum((moment_errors / chances) ** 2)), finest_error))
    found = []
    for epsilon in errors.epsilons:
        target = (epsilon * errors.scale) ** 2
        n = max(1, int(np.ceil(fine[-1] / target)))
        counts = np.maximum(np.ceil(optimal_counts(moments.difference, costs, variance=target)), 1)
        draws = max(1, int(np.ceil(draw / target)))
        whole_numbers = tuple(int(c) for c in counts)
        found += [
            Forecast(
                "single",
                epsilon,
                target,
                (*(0,) * (len(costs) - 1), n),
                None,
                None,
                float(n * single[-1]),
                float(fine[-1] / n),
                float(fine_errors[-1] / n),
            ),
            Forecast(
                "multilevel",
                epsilon,
                target,
                whole_numbers,
                None,
                None,
                float(np.sum(counts * costs)),
                float(np.sum(moments.difference / counts)),
                float(np.sqrt(np.sum((spread_errors / counts) ** 2))),
            ),
            Forecast(
                "randomised",
                epsilon,
                target,
                None,
                draws,
                tuple(float(p) for p in chances),
                float(draws * np.sum(chances * costs)),
                draw / draws,
                draw_error / draws,
            ),
        ]
    return tuple(found)
