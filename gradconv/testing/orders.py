"""`assert_order`: a sequence of values under refinement has the order that is claimed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from gradconv.errors import InputError, check_positive, shortened
from gradconv.rates import Kind, Rate, fit_rate
from gradconv.testing.drawings import order_drawing
from gradconv.testing.failures import fail
from gradconv.testing.session import Measurement, record
from gradconv.verdicts import STALL_BAND

TOLERANCE = 0.5
"""Default distance of an interval's ends from the order: tells 2 from 1.5 and from 2.5."""

_WORDS = {
    "gap": {1: ("converges",), 0: ("stalls",), -1: ("diverges",)},
    "level": {1: ("vanishes",), 0: ("bounded",), -1: ("grows",)},
}


def assert_order(
    h: ArrayLike,
    values: ArrayLike | None = None,
    order: float | None = None,
    *,
    tolerance: float = TOLERANCE,
    paths: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    power: float = 1.0,
    stderr: ArrayLike | None = None,
    floor: ArrayLike | None = None,
    kind: Kind = "gap",
    confidence: float = 0.95,
    seed: int = 0,
    label: str = "values",
) -> Rate:
    """Assert that values behave as C h^order, judged from both sides.

    The order is fitted by `gradconv.fit_rate`. The assertion holds if the order lies in the
    confidence interval, the whole interval lies within `tolerance` of the order, and the verdict
    is that of an order of this sign. A wide interval, an undecided verdict and an order of the
    wrong sign all fail.

    Parameters
    ----------
    h : array_like, shape (L,)
        Mesh sizes > 0, coarse to fine, L >= 3.
    values : array_like, shape (L,), optional
        Values >= 0. Exactly one of `values`, `paths` is needed.
    order : float
        Signed order; negative for a divergence, ``math.inf`` for a decay faster than any power or
        for values that are zero to rounding.
    tolerance : float
        Largest distance > 0 of either end of the interval from `order`.
    paths, offset, power, stderr, floor, kind, confidence, seed
        As in `gradconv.fit_rate`: sample paths of shape (R, L) or (R, L, p), what their mean is
        added to and raised to, standard errors, the rounding floor, gap or level norm.
    label : str
        Name of the values in messages.

    Returns
    -------
    Rate
        The fit.

    Raises
    ------
    CheckFailed
        If the assertion does not hold; an `AssertionError`.
    InputError
        If an argument breaks a rule.

    Notes
    -----
    False alarms: on exact values there is no chance in it. On sample paths a true order falls
    outside its interval with a probability of at most about ``1 - confidence`` (2 % of pure power
    laws at 0.95, see `gradconv.fit_rate`), and few paths make an interval too wide: with 6 levels,
    paths of 50 % standard deviation and the default tolerance, 11 % of 400 seeds failed with 16
    paths, none with 64. A test on sample paths therefore needs a fixed seed and enough of them.

    Examples
    --------
    >>> h = [1 / 8, 1 / 16, 1 / 32, 1 / 64]
    >>> print(f"{assert_order(h, [x**2 for x in h], order=2).order:.3f}")
    2.000
    """
    __tracebackhide__ = True
    given = dict(locals())
    wanted = checked_order(order)
    check_positive("tolerance", tolerance)
    rate = fit_rate(
        h,
        values,
        paths=paths,
        offset=offset,
        power=power,
        stderr=stderr,
        floor=floor,
        kind=kind,
        confidence=confidence,
        seed=seed,
    )
    reason = objection(rate, wanted, tolerance, kind)
    note(rate, label, wanted, not reason)
    if reason:
        sizes = np.asarray(h, dtype=float)
        shown = _shown(values, paths, offset, power, stderr, len(sizes))
        fail(
            assert_order,
            f"{label} of order {wanted:g}, to within {tolerance:g}",
            reason,
            rate_facts(rate),
            ("h", label, "order to the next", "fit"),
            level_rows(sizes, shown, rate),
            given,
            order_drawing(sizes, shown, rate, wanted, label),
        )
    return rate


def checked_order(order: object) -> float:
    """Return the order as a float, or raise an `InputError`."""
    if isinstance(order, bool) or not isinstance(order, int | float | np.integer | np.floating):
        raise InputError(f"`order` must be a number; got {shortened(order)}")
    if math.isnan(order) or order == -math.inf:
        raise InputError(f"`order` must be finite or inf; got {order}")
    return float(order)


def objection(rate: Rate, order: float, tolerance: float, kind: Kind = "gap") -> str:
    """Say why a fit does not show an order, or return an empty text if it does.

    Parameters
    ----------
    rate : Rate
        The fit.
    order : float
        What is claimed; inf for faster than any power, or exactly zero.
    tolerance : float
        Largest distance of the interval's ends from `order`.
    kind : {"gap", "level"}
        What the verdict is about.
    """
    low, high = rate.interval
    if order == math.inf:
        zero = rate.verdict == "exact" or (kind == "level" and math.isnan(rate.order))
        if rate.order == math.inf or (zero and rate.verdict != "undecided"):
            return ""
        return f"does not fall faster than any power of h: {_measured(rate)}"
    if rate.verdict == "undecided":
        return "undecided, so that no order is shown"
    if math.isnan(rate.order):
        return "all values are zero to rounding: they have no order (order=math.inf asserts that)"
    sign = 0 if abs(order) < STALL_BAND else int(math.copysign(1, order))
    if math.isinf(rate.order):
        return f"{'falls' if rate.order > 0 else 'grows'} faster than any power of h"
    if rate.verdict not in _WORDS[kind][sign]:
        wanted = " or ".join(_WORDS[kind][sign])
        return f"the verdict is {rate.verdict}, an order of {order:g} {wanted}"
    if not low <= order <= high:
        return f"the interval [{low:+.3f}, {high:+.3f}] does not contain {order:g}"
    far = max(order - low, high - order)
    if far > tolerance:
        return (
            f"the interval [{low:+.3f}, {high:+.3f}] is too wide: it reaches {far:.3g} from "
            f"{order:g}, {tolerance:g} allowed"
        )
    return ""


def note(rate: Rate, label: str, expected: float | None, passed: bool) -> None:
    """Hand the measured order to the summary of the run."""
    low, high = (float(end) for end in rate.interval)
    record(Measurement(label, float(rate.order), low, high, rate.verdict, expected, passed))


def _measured(rate: Rate) -> str:
    if math.isnan(rate.order):
        return f"no order, verdict {rate.verdict}"
    low, high = rate.interval
    level = f"{100 * rate.confidence:g} % interval [{low:+.3f}, {high:+.3f}]"
    return f"order {rate.order:+.3f}, {level}, verdict {rate.verdict}"


def rate_facts(rate: Rate) -> dict[str, str]:
    """Lines of a message about a fit."""
    return {"measured": _measured(rate), "because": rate.reason}


def level_rows(h: np.ndarray, values: np.ndarray, rate: Rate) -> list[list[str]]:
    """Rows of a table of levels: h, value, signed order to the next level, * inside the fit."""
    orders = ["" if np.isnan(q) else f"{q:+.3f}" for q in rate.pairwise] + [""]
    first, last = rate.window
    return [
        [f"{h[i]:.6g}", f"{values[i]:.6e}", orders[i], "*" if 0 <= first <= i <= last else ""]
        for i in range(len(h))
    ]


def _shown(
    values: ArrayLike | None,
    paths: ArrayLike | None,
    offset: ArrayLike | None,
    power: float,
    stderr: ArrayLike | None,
    levels: int,
) -> np.ndarray:
    """Values of the levels, whichever way they were given."""
    from gradconv.bootstrap import sample_from

    return np.asarray(sample_from(values, paths, offset, power, stderr, levels).values)
