"""Numbers over seeds: means, spreads, differences and ratios with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds (NaN for one seed)."""

    mean: float
    sd: float
    count: int


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def side(self, below: str, above: str, null: float = 0.0) -> str:
        """Which side of `null` the whole interval lies on."""
        if self.high < null:
            return below
        return above if self.low > null else "not told apart"


def spread(values: Iterable[float]) -> Spread:
    """Mean and spread of one number a seed."""
    found = list(values)
    return Spread(mean(found), stdev(found) if len(found) > 1 else math.nan, len(found))


def welch(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Difference of means, first less second, by Welch's t: unequal variances, unpaired."""
    a, b = spread(first), spread(second)
    parts = [a.sd**2 / a.count, b.sd**2 / b.count]
    error = math.sqrt(sum(parts))
    difference = a.mean - b.mean
    if error == 0.0:
        return Estimate(difference, difference, difference)
    freedom = sum(parts) ** 2 / sum(
        p**2 / (s.count - 1) for p, s in zip(parts, (a, b), strict=True)
    )
    return _interval(difference, error, freedom)


def paired(values: Sequence[float]) -> Estimate:
    """Mean of one number a seed, by Student's t."""
    found = spread(values)
    if found.sd == 0.0:
        return Estimate(found.mean, found.mean, found.mean)
    return _interval(found.mean, found.sd / math.sqrt(found.count), found.count - 1)


def ratio(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Geometric mean of the ratios of runs of the same seed, by Student's t on their logarithms."""
    logs = paired([math.log(a / b) for a, b in zip(first, second, strict=True)])
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def student_factor(freedom: float) -> float:
    """Half width of an interval in standard errors."""
    return float(student.ppf(0.5 + CONFIDENCE / 2, freedom))


def _interval(value: float, error: float, freedom: float) -> Estimate:
    half = student_factor(freedom) * error
    return Estimate(value, value - half, value + half)
