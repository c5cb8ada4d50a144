"""Estimators of one cost beside each other: forecasts for a budget, ratios of variance × cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from gradconv.multilevel.diagnosis.error_cost import Forecast, Prices
from gradconv.multilevel.diagnosis.repetition import Measured
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.optimum import optimal_counts

ESTIMATORS = ("single", "optimal", "fixed", "randomised")
"""One level; the sum over levels with optimal numbers, and with given ones; single terms."""


@dataclass(frozen=True)
class CostRatio:
    """Variance × cost of an estimator over that of another.

    Parameters
    ----------
    value : float
        Geometric mean over the budgets.
    low, high : float
        Its confidence interval.
    """

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether all of the interval lies below 1, or above it."""
        if self.high < 1.0:
            return "better"
        return "worse" if self.low > 1.0 else "not told apart"


def products(prices: Prices, counts: Sequence[int]) -> dict[str, float]:
    """Variance × cost of each estimator before numbers are rounded: the K of the law K/W.

    Parameters
    ----------
    prices : Prices
        From moments and costs.
    counts : sequence of int
        Numbers of samples a term, coarse to fine, to which those of "fixed" are proportional.

    Returns
    -------
    dict
        V_L C_L; (Σ (V_l C_l)^{1/2})²; Σ V_l/n_l × Σ n_l C_l; (Σ E‖d_l‖²/p_l − ‖E g_L‖²) Σ p_l C_l.
    """
    moments, costs, shares = prices.moments, prices.costs, np.asarray(counts, dtype=float)
    variance, _, cost = prices.draw
    return {
        "single": float(moments.fine[-1] * prices.single[-1]),
        "optimal": float(np.sum(np.sqrt(moments.difference * costs)) ** 2),
        "fixed": float(np.sum(moments.difference / shares) * np.sum(shares * costs)),
        "randomised": variance * cost,
    }


def at_budget(
    prices: Prices, budget: float, counts: Sequence[int], scale: float
) -> dict[str, Forecast]:
    """Forecast each estimator at a cost, as nearly as whole numbers of samples allow.

    Parameters
    ----------
    prices : Prices
        From moments and costs.
    budget : float
        Cost of an estimate, in the unit of the costs.
    counts : sequence of int
        As in `products`.
    scale : float
        What errors are relative to.

    Returns
    -------
    dict
        By name. Every term has at least one sample, which may exceed a small budget.

    Raises
    ------
    InputError
        If a variance is zero: no number of samples follows from it; the level is named.
    """
    costs, shares = prices.costs, np.asarray(counts, dtype=float)
    best = optimal_counts(prices.moments.difference, costs, budget=budget)
    scaled = shares * budget / np.sum(shares * costs)
    priced = {
        "single": prices.alone(_whole(budget / prices.single[-1])),
        "optimal": prices.summed(np.maximum(np.rint(best), 1.0)),
        "fixed": prices.summed(np.maximum(np.rint(scaled), 1.0)),
        "randomised": prices.drawn(_whole(budget / prices.draw[2])),
    }
    return {
        name: Forecast(name, float(np.sqrt(p.variance)) / scale, p.variance, **vars(p))
        for name, p in priced.items()
    }


def _whole(number: float) -> int:
    return max(1, int(np.rint(number)))


def expected_cost(forecast: Forecast, costs: Array, single: Array) -> float:
    """Cost of an estimator in another unit than that of its forecast.

    Parameters
    ----------
    forecast : Forecast
        With its samples, or its probabilities.
    costs, single : ndarray
        As in `Prices`, in that unit.
    """
    if forecast.counts is None:
        assert forecast.draws is not None
        return float(forecast.draws * np.sum(np.asarray(forecast.probabilities) * costs))
    if forecast.estimator == "single":
        return float(forecast.counts[-1] * single[-1])
    return float(np.sum(np.asarray(forecast.counts) * costs))


def cost_ratio(
    over: Sequence[Forecast],
    under: Sequence[Forecast],
    measured: Mapping[Forecast, Measured],
    price: Callable[[Forecast], float] = attrgetter("cost"),
) -> CostRatio:
    """Measured variance × cost of one estimator over that of another, at several budgets.

    Logarithms of the variances err independently; their intervals, which lie unevenly about the
    estimates, are added in squares end by end.

    Parameters
    ----------
    over, under : sequence of Forecast
        Of each budget.
    measured : mapping of Forecast to Measured
        What repetitions of each gave.
    price : callable
        Cost of an estimate; by default that which was forecast.

    References
    ----------
    G. Y. Zou, A. Donner, "Construction of confidence limits about effect measures: a general
    approach", Statistics in Medicine 27, 2008, eq. (2).
    """
    logs, below, above = [], 0.0, 0.0
    for a, b in zip(over, under, strict=True):
        spread = measured[a].variance / measured[b].variance
        logs.append(np.log(spread * price(a) / price(b)))
        (a_low, a_high), (b_low, b_high) = (_distances(measured[f]) for f in (a, b))
        below += a_low**2 + b_high**2
        above += a_high**2 + b_low**2
    middle, count = float(np.mean(logs)), len(logs)
    return CostRatio(
        float(np.exp(middle)),
        float(np.exp(middle - np.sqrt(below) / count)),
        float(np.exp(middle + np.sqrt(above) / count)),
    )


def _distances(measured: Measured) -> tuple[float, float]:
    """How far the ends of the variance's interval are, in logarithms."""
    low, high = measured.variance_interval
    return float(np.log(measured.variance / low)), float(np.log(high / measured.variance))
