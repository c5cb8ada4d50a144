"""Which case of the complexity theorem holds, by intervals, and how cost grows in each.

Two readings are kept apart. For a fixed finest mesh the target is E g_L, there is no bias, and
variance × cost is (Σ_l √(V_l C_l))² whatever the orders are. If the finest mesh is refined as the
error tolerance ε falls, α, β and γ say how the cost grows.

References
----------
M. B. Giles, "Multilevel Monte Carlo methods", Acta Numerica 24, 2015, Theorem 1. C. Rhee, P. W.
Glynn, "Unbiased estimation with square root convergence for SDE models", Operations Research 63,
2015 (no finest level: β > γ is needed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.moments import Moments
from gradconv.rates import Rate

CASES = (">", "=", "<")
GROWTH = {">": "ε^-2", "=": "ε^-2 (log ε)²", "<": "ε^(-2 - (γ - β)/α)"}
SAME = 1e-6  # two exact orders this close are one


@dataclass(frozen=True)
class Complexity:
    """The theorem's case, and what it means.

    Parameters
    ----------
    cases : tuple of {">", "=", "<"}
        How β can compare with γ: one case if the intervals decide it, else those left open; none
        if β is not known.
    bias : {"holds", "fails", "undecided"}
        Whether α ≥ ½ min(β, γ).
    exponent : tuple of float
        Interval of p in a cost of ε^{−p} (logarithms apart); NaN where it is not known.
    sentence : str
        All of it in words.
    fixed : float
        Variance × cost of multilevel on the finest mesh given, (Σ √(V_l C_l))².
    single : float
        Variance × cost of a single level there, V C.
    start : int
        Coarsest level worth having: with it as the coarsest, variance × cost is least.
    best : float
        Variance × cost from there.
    """

    cases: tuple[str, ...]
    bias: str
    exponent: tuple[float, float]
    sentence: str
    fixed: float
    single: float
    start: int
    best: float


def compare(beta: tuple[float, float], gamma: tuple[float, float]) -> tuple[str, ...]:
    """Cases that the intervals of β and γ leave open; none if an end is not known."""
    if any(math.isnan(end) for end in (*beta, *gamma)):
        return ()
    if beta[0] > gamma[1] + SAME:
        return (">",)
    if beta[1] < gamma[0] - SAME:
        return ("<",)
    if beta[1] - beta[0] < SAME and gamma[1] - gamma[0] < SAME:
        return ("=",)
    return CASES


def bias_condition(alpha: Rate, beta: Rate, gamma: Rate) -> str:
    """Whether α ≥ ½ min(β, γ) by the intervals."""
    low, high = alpha.interval
    ends = [0.5 * min(b, g) for b, g in zip(beta.interval, gamma.interval, strict=True)]
    if any(math.isnan(v) for v in (low, high, *ends)):
        return "undecided"
    if low >= ends[1]:
        return "holds"
    return "fails" if high < ends[0] else "undecided"


def complexity(
    alpha: Rate, beta: Rate, gamma: Rate, moments: Moments, costs: Array, single: Array
) -> Complexity:
    """Find the case.

    Parameters
    ----------
    alpha, beta, gamma : Rate
        Orders of mean gap, variance and cost.
    moments : Moments
        Of the whole gradient.
    costs : ndarray
        C_l of one sample of each term, shape ``(levels,)``.
    single : ndarray
        Cost of one sample's fine gradient on each level.
    """
    cases = compare(beta.interval, gamma.interval)
    bias = bias_condition(alpha, beta, gamma)
    exponent = _exponent(cases, alpha, beta, gamma)
    roots = np.sqrt(moments.difference * costs)
    # started at level s, the estimator has g_s there instead of a difference
    totals = [
        float(np.sqrt(moments.fine[s] * single[s]) + roots[s + 1 :].sum()) ** 2
        for s in range(len(moments))
    ]
    start = int(np.argmin(totals))
    return Complexity(
        cases,
        bias,
        exponent,
        _sentence(cases, bias, exponent, alpha, beta, gamma),
        totals[0],
        totals[-1],
        start,
        totals[start],
    )


def _exponent(cases: tuple[str, ...], alpha: Rate, beta: Rate, gamma: Rate) -> tuple[float, float]:
    """Interval of p: 2 where β ≥ γ, else 2 + (γ − β)/α; endless where α may be 0."""
    if not cases:
        return math.nan, math.nan
    if "<" not in cases:
        return 2.0, 2.0
    low, high = alpha.interval
    if math.isnan(low) or high <= 0:
        return math.nan, math.nan
    excess = gamma.interval[1] - beta.interval[0]
    worst = 2.0 + excess / low if low > 0 else math.inf
    least = max(gamma.interval[0] - beta.interval[1], 0.0)
    return 2.0 + (least / high if math.isfinite(high) else 0.0), worst


def _sentence(
    cases: tuple[str, ...],
    bias: str,
    exponent: tuple[float, float],
    alpha: Rate,
    beta: Rate,
    gamma: Rate,
) -> str:
    if not cases:
        unknown = "β" if math.isnan(beta.interval[0]) else "γ"
        return f"no case: the order {unknown} is not known"
    parts = []
    words = f"β {interval(beta)} against γ {interval(gamma)}"
    if len(cases) > 1:
        open_ = ", ".join(f"β {c} γ ({GROWTH[c]})" for c in cases)
        parts.append(f"undecided between {open_}: {words}")
    else:
        parts.append(f"β {cases[0]} γ, {GROWTH[cases[0]]}: {words}")
    if "<" in cases:
        parts.append(_exponent_words(exponent, alpha))
    if len(cases) == 1:
        has = "has" if cases == (">",) else "has not"
        parts.append(
            f"randomised over endlessly many levels it {has} both a finite variance and a finite "
            "expected cost"
        )
    condition = "α ≥ ½ min(β, γ)"
    known = not math.isnan(alpha.interval[0])
    if bias == "fails":
        reason = f"{condition} fails (α {interval(alpha)}): the bias decides the cost"
        parts.append(reason if alpha.interval[1] > 0 else f"{reason}, and nothing converges")
    elif bias == "undecided":
        why = f"α {interval(alpha)}" if known else "α is not known"
        parts.append(f"whether {condition} is undecided ({why})")
    return "; ".join(parts)


def _exponent_words(exponent: tuple[float, float], alpha: Rate) -> str:
    low, high = exponent
    if math.isnan(low):
        if math.isnan(alpha.interval[0]):
            return "p of ε^-p is not known, as α is not"
        return "there is no p of ε^-p: the mean gap does not converge"
    top = f"{high:.3g}" if math.isfinite(high) else "any p, as α may be 0"
    return f"p of ε^-p between {low:.3g} and {top}"


def interval(rate: Rate) -> str:
    """Interval of an order in words."""
    low, high = rate.interval
    if math.isnan(low) or math.isnan(high):
        return "unknown"
    return f"in [{low:+.2f}, {high:+.2f}]" if high - low > 5e-3 else f"= {rate.order:+.3g}"
