"""How numbers of the study stand in cells and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import geometric_mean

from gradconv.studies.training.hot_starts import Factor
from gradconv.studies.training.spreads import Estimate, Spread

MILLI = 1e3


def root(square: Estimate) -> str:
    """Square roots of a number and of its ends, 0 for what is below."""
    value, low, high = (MILLI * v for v in roots(square))
    return f"{value:.2f} [{end(low) if low else '0'}, {end(high)}]"


def roots(square: Estimate) -> tuple[float, float, float]:
    """Square roots of a number and of the ends of its interval, 0 for what is below."""
    value, low, high = (math.sqrt(max(v, 0.0)) for v in (square.value, square.low, square.high))
    return value, low, high


def spread_text(value: Spread, unit: float, digits: int) -> str:
    """Mean ± standard deviation, where there is one, in a unit."""
    text = f"{value.mean * unit:.{digits}f}"
    return text if math.isnan(value.sd) else f"{text} ± {value.sd * unit:.{digits}f}"


def estimate(value: Estimate) -> str:
    """Number with its interval, ``1.12 [0.98, 1.29]``."""
    return f"{value.value:.2f} [{end(value.low)}, {end(value.high)}]"


def end(value: float) -> str:
    """End of an interval."""
    return f"{value:.2f}" if 0.005 <= value < 100 else f"{value:.1g}"


def factors(found: Sequence[Factor]) -> str:
    """Geometric mean of factors with range; a bound of one is a bound of all."""
    known = [f for f in found if f.bound != "?"]
    if not known:
        return "unknown"
    bounds = {f.bound for f in known} - {""}
    sign = bounds.pop() if len(bounds) == 1 else "~" if bounds else ""
    low, high = (pick(known, key=lambda f: f.value) for pick in (min, max))
    middle = geometric_mean(f.value for f in known)
    return f"× {sign}{middle:.2g} [{low.bound}{low.value:.2g}, {high.bound}{high.value:.2g}]" + (
        "" if len(known) == len(found) else f" ({len(found) - len(known)} unknown)"
    )
