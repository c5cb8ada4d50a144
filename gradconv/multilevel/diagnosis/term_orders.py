"""Signed orders α, β and γ of the terms: mean gap, variance of the difference, and cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradconv.bootstrap import t_quantile
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.rates import Kind, Rate, fit_rate
from gradconv.regression import MIN_LEVELS

UNDECIDED = "undecided"


@dataclass(frozen=True)
class TermOrders:
    """Orders of a group of components, signed and never floored.

    Parameters
    ----------
    alpha : Rate
        ‖E[g_l − g_{l−1}]‖ ~ h^α.
    beta : Rate
        V_l = Var(g_l − g_{l−1}) ~ h^β.
    """

    alpha: Rate
    beta: Rate


def orders_of(table: LevelTable, h: Array, confidence: float) -> TermOrders:
    """Fit α and β over the levels 1 and up.

    Terms have independent samples. β is fitted to the samples' squared deviations, whose skewness
    a studentised bootstrap takes into account; α to norms with standard errors, which are
    estimates themselves and are widened from the normal to Student's distribution.

    Parameters
    ----------
    table : LevelTable
        The group.
    h : ndarray
        Mesh sizes, coarse to fine.
    confidence : float
        Level of the intervals.
    """
    gaps, gap_errors = table.mean(2)
    n = table.samples
    variances = table.variance(2)[0]
    deviations = np.array([p.deviations[2] for p in table.products]).T * n / (n - 1.0)
    means = np.sqrt([max(p.square[0], p.square[1]) for p in table.products])
    floor = 32.0 * table.epsilon * means
    # a norm clipped at 0 has no finite error: it is known to the root of V/N only, and it is
    # sampling that hides it unless rounding is larger still
    bound = np.sqrt(variances / n)
    clipped = ~np.isfinite(gap_errors)
    gaps = np.where(clipped & (bound > floor), np.maximum(gaps, 2.0 * floor), gaps)
    gap_errors = np.where(clipped, np.maximum(bound, 1e-300), gap_errors)
    return TermOrders(
        term_order(h, gaps, gap_errors, n, confidence, floor=floor),
        _spread_order(h, deviations, floor**2, confidence),
    )


def _spread_order(h: Array, deviations: Array, floor: Array, confidence: float) -> Rate:
    """Order of the mean over samples, shape ``(N, levels)``, from level 1 on."""
    if len(h) - 1 < MIN_LEVELS:
        return _too_few(h, confidence)
    return fit_rate(h[1:], paths=deviations[:, 1:], floor=floor[1:], confidence=confidence)


def _too_few(h: Array, confidence: float) -> Rate:
    nan = float("nan")
    reason = f"{len(h)} levels have {len(h) - 1} differences; a fit needs {MIN_LEVELS}"
    pairs = np.full(max(len(h) - 2, 0), nan)
    return Rate(nan, (nan, nan), nan, (-1, -1), pairs, UNDECIDED, reason, nan, nan, confidence)


def term_order(
    h: Array,
    values: Array,
    errors: Array,
    samples: int,
    confidence: float,
    *,
    floor: Array | None = None,
    kind: Kind = "gap",
) -> Rate:
    """Fit values of the terms 1 and up; undecided where there are fewer than three.

    Parameters
    ----------
    h, values, errors : ndarray
        One value a level, that of level 0 not used.
    samples : int
        Samples behind each error; 0 if errors are known.
    confidence : float
        Level of the interval.
    floor : ndarray, optional
        Rounding floor of each value.
    kind : {"gap", "level"}
        As `gradconv.rates.fit_rate` takes it.
    """
    if len(h) - 1 < MIN_LEVELS:
        return _too_few(h, confidence)
    if samples > 1:
        tail = 0.5 + confidence / 2
        errors = errors * t_quantile(tail, samples - 1.0) / t_quantile(tail, np.inf)
    return fit_rate(
        h[1:],
        values[1:],
        stderr=errors[1:],
        floor=None if floor is None else floor[1:],
        kind=kind,
        confidence=confidence,
    )


def cost_order(h: Array, costs: Array, errors: Array, confidence: float) -> Rate:
    """γ with costs C_l ~ h^{−γ}: the fitted order with its sign turned.

    Parameters
    ----------
    h, costs, errors : ndarray
        Mesh sizes, costs of one sample of each term, and their standard errors.
    confidence : float
        Level of the interval.
    """
    found = term_order(h, costs, errors, 0, confidence, kind="level")
    low, high = found.interval
    return replace(found, order=-found.order, interval=(-high, -low), pairwise=-found.pairwise)
