"""Estimators of one cost beside each other: forecasts for a budget, ratios of variance × cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any

import numpy as np

from gradconv.multilevel.costs.model import term_costs
from gradconv.multilevel.diagnosis.checks import check_varies
from gradconv.multilevel.diagnosis.error_cost import Errors, Forecast, Prices, errors_for
from gradconv.multilevel.diagnosis.level_table import tables
from gradconv.multilevel.diagnosis.repetition import Measured, measure_reference, repeat
from gradconv.multilevel.diagnosis.sample_gradients import Array, collect
from gradconv.multilevel.evaluator import Evaluator
from gradconv.multilevel.optimum import optimal_counts
from gradconv.parallel import Progress

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


def expected_cost(forecast: Forecast, single: Array) -> float:
    """Cost of an estimator in another unit than that of its forecast.

    Parameters
    ----------
    forecast : Forecast
        With its samples, or its probabilities.
    single : ndarray
        Cost of one fine gradient of each level, in that unit.
    """
    if forecast.estimator == "single":
        assert forecast.counts is not None
        return float(forecast.counts[-1] * single[-1])
    samples = np.asarray(forecast.counts)
    if forecast.counts is None:
        assert forecast.draws is not None
        samples = forecast.draws * np.asarray(forecast.probabilities)
    return float(np.sum(samples * term_costs(single)))


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


@dataclass(frozen=True, eq=False)
class EqualCost:
    """Estimators at several budgets: what was forecast, and what repetitions gave.

    Parameters
    ----------
    prices : Prices
        From the moments of single samples.
    errors : Errors
        What errors are relative to.
    products : dict of str to float
        K of the law K/W, by estimator.
    forecasts : dict of str to list of Forecast
        By estimator, one a budget.
    measured : dict of Forecast to Measured
        Of each.
    """

    prices: Prices
    errors: Errors
    products: dict[str, float]
    forecasts: dict[str, list[Forecast]]
    measured: dict[Forecast, Measured]

    def ratio(
        self, name: str, budgets: Sequence[int] | None = None, costs: Sequence[float] | None = None
    ) -> CostRatio:
        """Measured variance × cost of an estimator over that of the finest level alone.

        Parameters
        ----------
        name : str
            One of `ESTIMATORS`.
        budgets : sequence of int, optional
            Places of the budgets; default all.
        costs : sequence of float, optional
            Cost of one fine gradient of each level, if not that which was forecast for.
        """
        places = range(len(self.forecasts[name])) if budgets is None else budgets
        over, under = ([self.forecasts[n][i] for i in places] for n in (name, "single"))
        if costs is None:
            return cost_ratio(over, under, self.measured)
        single = np.asarray(costs)
        return cost_ratio(over, under, self.measured, lambda f: expected_cost(f, single))


def measure_equal_cost(
    evaluator: Evaluator,
    single: Sequence[float],
    *,
    budgets: Sequence[float],
    counts: Sequence[int],
    samples: int,
    repetitions: int,
    confidence: float = 0.95,
    memory: float = 2.0**30,
    workers: int = 1,
    progress: Progress | None = None,
) -> EqualCost:
    """Forecast estimators from moments of single samples, and repeat them on other samples.

    Parameters
    ----------
    evaluator : Evaluator
        Model, loss and data.
    single : sequence of float
        Cost of one fine gradient of each level, coarse to fine.
    budgets : sequence of float
        Costs of an estimate, rising.
    counts : sequence of int
        As in `products`.
    samples : int
        Samples of each term for the moments.
    repetitions : int
        Estimates of each kind at each budget.
    confidence : float
        Level of the intervals.
    memory : float
        Bytes of gradients that are held in memory; more are kept in a file.
    workers, progress
        As `gradconv.parallel.compute` takes them.

    Raises
    ------
    InputError
        If samples run dry, a level cannot be computed, or a variance is zero.
    """
    one = np.asarray(single, dtype=float)
    terms = term_costs(one)
    work = [samples * terms.sum(), repetitions * budgets[-1]]
    work.append(repetitions * len(ESTIMATORS) * sum(budgets))
    ends = [0.0, *(float(v) for v in np.cumsum(work) / np.sum(work))]
    manner: list[dict[str, Any]] = [
        {"workers": workers, "progress": _between(progress, *pair)} for pair in pairwise(ends)
    ]
    gradients = collect(evaluator, samples, memory=memory, **manner[0])
    whole = tables(gradients)[0]
    check_varies(whole, evaluator)
    prices, errors = Prices(whole, terms, one), errors_for(whole, None)
    rows = [at_budget(prices, budget, counts, errors.scale) for budget in budgets]
    start, alone = samples * len(one), rows[-1]["single"]
    # of far more samples than an estimate has, or a bias would drown in its error
    reference = measure_reference(
        evaluator, alone, whole, repetitions=repetitions, start=start, **manner[1]
    )
    measured = repeat(
        evaluator,
        tuple(forecast for row in rows for forecast in row.values()),
        reference,
        one,
        "",
        repetitions=repetitions,
        start=start + repetitions * alone.samples,
        confidence=confidence,
        **manner[2],
    )
    forecasts = {name: [row[name] for row in rows] for name in ESTIMATORS}
    return EqualCost(prices, errors, products(prices, counts), forecasts, measured)


def _between(progress: Progress | None, low: float, high: float) -> Progress | None:
    """Progress of a part of the work, as progress of all of it."""
    if progress is None:
        return None
    return lambda done, total: progress(low + (high - low) * done / total, 1.0)
