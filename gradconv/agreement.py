"""Whether a law goes through the data of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradconv.errors import InputError
from gradconv.laws import Law
from gradconv.statistics import QUANTITIES, ROUNDING
from gradconv.sweeps import Sweep

EXACT = 1e-8
"""Relative difference below which a law and an exact expectation agree."""
CHANCE = 1e-3
"""Chance that a right law is refused over all levels of one sampled quantity."""
LARGEST = 2**22
"""Numbers (modes times parameters) on the finest mesh beyond which no law is evaluated."""


@dataclass(frozen=True)
class Agreement:
    """A law held against a measured quantity.

    Parameters
    ----------
    order : float or None
        Derived order; None without one.
    coefficient : float or None
        Derived constant, h_L included.
    agrees : bool or None
        Whether the full law, at the mesh size of every level, goes through the data; None if it
        could not be evaluated.
    reason : str
        With the numbers.
    """

    order: float | None
    coefficient: float | None
    agrees: bool | None
    reason: str


def compare(
    law: Law, sweep: Sweep, values: Mapping[str, np.ndarray] | None = None
) -> dict[str, Agreement]:
    """Hold a law against a sweep of the same problem.

    Exact expectations must agree to `EXACT` (and the rounding floor of the gradients); sampled
    quantities must lie within simultaneous intervals over their levels.

    Parameters
    ----------
    law : Law
        What was derived.
    sweep : Sweep
        What was measured.
    values : mapping of str to ndarray, optional
        What ``law.evaluate(sweep.hierarchy)`` gave, if it is known already.

    Returns
    -------
    dict of str to Agreement
        By quantity.

    Raises
    ------
    InputError
        If law and sweep are of different problems.
    """
    if law.problem.describe() != sweep.problem.describe():
        raise InputError("`sweep` must be of the law's problem; got another one")
    size = sweep.hierarchy.finest.size * law.problem.convolution.theta.size
    if values is None:
        values = law.evaluate(sweep.hierarchy) if size <= LARGEST else {}
    found = {}
    for quantity in QUANTITIES:
        order = coefficient = None
        if quantity in law.laws:
            own = law.laws[quantity]
            order, coefficient = own.order, own.coefficient(float(sweep.hierarchy.h[-1]))
        if quantity in values:
            agrees, reason = _judge(values[quantity], sweep, quantity)
        elif size > LARGEST:
            agrees, reason = None, f"the finest mesh is too large to evaluate the law ({size:.2g})"
        else:
            agrees, reason = None, law.missing.get(quantity, "not evaluated")
        found[quantity] = Agreement(order, coefficient, agrees, reason)
    return found


def _judge(derived: np.ndarray, sweep: Sweep, quantity: str) -> tuple[bool, str]:
    from scipy.stats import t

    measured, errors = sweep.sample.series(quantity)
    magnitude = sweep.sample.magnitude
    floor = ROUNDING * sweep.sample.epsilon * magnitude
    if quantity != "level_norm":
        floor = floor[1:] + floor[:-1]
    if quantity == "variance":
        floor = floor**2
    apart = np.abs(measured - derived)
    if not np.any(errors > 0):
        allowed = EXACT * np.abs(derived) + floor
        worst = float(np.max(apart / np.maximum(np.abs(derived), floor)))
        return bool(np.all(apart <= allowed)), f"largest relative difference {worst:.1e}"
    quantile = float(t.ppf(1 - CHANCE / (2 * len(derived)), sweep.sample.replicates - 1))
    worst = float(np.max(apart / np.maximum(errors, np.finfo(float).tiny)))
    within = bool(np.all(apart <= quantile * errors + EXACT * np.abs(derived) + floor))
    return within, f"largest difference {worst:.1f} standard errors, {quantile:.1f} allowed"
