"""Verdicts on a fit: convergence, stall, divergence, oscillation, decay faster than any power."""

from __future__ import annotations

import numpy as np

from gradconv.bootstrap import Array, t_quantile
from gradconv.regression import MIN_LEVELS, SETTLED, VERDICT_CONFIDENCE, LevelRun, WindowFit

STALL_BAND = 0.1
"""Orders within this distance of 0 are no convergence: a level's halving gains under 7 %."""
VERDICT_SAFETY = 1.75
"""Factor on the model term behind a verdict on 3 levels: c + h must not pass for convergence."""
ALGEBRAIC_LIMIT = 4.0
"""Pairwise orders must pass this, still growing as a power of 1/h, to be called exponential."""
FLOOR_FALL = 12.0
"""A fall to the rounding floor within one level, of at least this order, is no power law."""

_ROUNDING = 1e-9  # differences of orders this small are rounding


def judge(run: LevelRun, start: int, fit: WindowFit, steady: bool) -> tuple[str, str]:
    """Judge a fit by its strict interval and the course of the pairwise orders.

    Parameters
    ----------
    run : LevelRun
        The usable levels.
    start : int
        First level of the window in `run`.
    fit : WindowFit
        The fit.
    steady : bool
        Whether the quantity has no limit of its own to level off to (a gap), so that with a level
        to spare the check for drift suffices and the model term counts once.

    Returns
    -------
    word : str
        "+", "-" or "0" for a positive, negative or vanishing order, else "undecided".
    reason : str
        Why.
    """
    safety = 1.0 if steady and len(run.h) > MIN_LEVELS else VERDICT_SAFETY
    low, high = fit.interval(fit.strictness, safety)
    span = f"order {fit.order:.3g} with strict interval [{low:.3g}, {high:.3g}]"
    if _oscillates(run, fit.order):
        return "undecided", "pairwise orders alternate (oscillation), so there is no power law"
    if _drifts(run, fit.order):
        return "undecided", "no power law: pairwise orders move away from it ever faster"
    if low > -STALL_BAND and high < STALL_BAND:
        return "0", f"{span} lies within {STALL_BAND} of 0"
    if _levels_off(run, fit):
        return "0", f"pairwise orders fall to {fit.extrapolated:.2g}, within {STALL_BAND} of 0"
    if _keeps_a_limit(run):
        return "undecided", "pairwise orders fall as those of a sequence with a non-zero limit do"
    if low > 0:
        return "+", f"{span} lies above 0"
    if high < 0:
        return "-", f"{span} lies below 0"
    return "undecided", f"interval too wide: {span} contains 0"


def _oscillates(run: LevelRun, order: float) -> bool:
    """Whether pairwise orders alternate, beyond noise, by as much as the order itself."""
    swings = np.diff(run.differences, axis=0)
    size = swings @ run.y
    limit = np.array([run.critical * run.noise(row) for row in swings])
    large = np.abs(size) > np.maximum(limit, max(STALL_BAND, abs(order)))
    if len(size) == 1:  # two orders: only opposite signs are worth the name
        first, second = run.orders
        return bool(large[0] and min(abs(first), abs(second)) > STALL_BAND and first * second < 0)
    alternating = size[-1] * size[-2] < 0
    return bool(alternating and large[-1] and large[-2])


def _drifts(run: LevelRun, order: float) -> bool:
    """Whether pairwise orders move on ever faster: towards a flip, or past a zero of the values.

    Orders of a divergence that grow steeper are left alone: it is a divergence all the same, and
    in the coarsening setting the gaps next to the data's own mesh look so.
    """
    swings = np.diff(run.differences, axis=0)
    if len(swings) < 2:
        return False
    previous, last = (swings @ run.y)[-2:]
    limit = max(2 * SETTLED * max(1.0, abs(order)), run.critical * run.noise(swings[-1]))
    steeper_divergence = order < 0 and last < 0
    accelerates = previous * last > -_ROUNDING and abs(last) > max(limit, 1.1 * abs(previous))
    return bool(accelerates and not steeper_divergence)


def _levels_off(run: LevelRun, fit: WindowFit) -> bool:
    """Whether pairwise orders shrink towards 0, as those of a quantity with a limit do."""
    first, last = run.orders[-2:]
    if first * last < -_ROUNDING or abs(last) > abs(first) + _ROUNDING:
        return False
    finest = t_quantile(0.5 + VERDICT_CONFIDENCE / 2, run.sample.dof) * run.noise(
        run.differences[-1]
    )
    return abs(last) + finest < STALL_BAND and abs(fit.extrapolated) + finest < STALL_BAND


def _keeps_a_limit(run: LevelRun) -> bool:
    """Whether c + C h^p with c above half of the finest value describes the last three orders."""
    if len(run.h) <= MIN_LEVELS:
        return False
    first, middle, last = run.orders[-3:]
    swing = run.differences[-1] - run.differences[-3]
    if not first > middle > last > 0 or last > 0.6 * first:
        return False
    if abs(float(swing @ run.y)) <= run.critical * run.noise(swing):
        return False
    coarse, fine = np.diff(run.sample.values[-3:])
    limit = run.sample.values[-1] - fine**2 / (fine - coarse)  # Aitken
    return bool(limit > 0.5 * run.sample.values[-1])


def exponential(run: LevelRun, floor_follows: bool) -> int:
    """Sign of the order if pairwise orders grow as a power of 1/h, as for exp(-c/h); else 0."""
    orders, swings = run.orders, np.diff(run.differences, axis=0)
    growth = swings @ run.y
    sign = int(np.sign(orders[-1]))
    if abs(orders[-1]) < ALGEBRAIC_LIMIT or growth[-1] * sign <= run.critical * run.noise(
        swings[-1]
    ):
        return 0
    # exp(-c/h) doubles on halving; 0.7 leaves room for a power of h in front of it.
    needed = np.exp(-0.7 * np.diff(run.x))[1:]
    if len(growth) > 1:
        steady = (
            growth[-2] * sign > SETTLED
            and _evenly_faster(growth * sign)
            and orders[-1] / orders[-2] > 1.2
            and growth[-1] * sign >= needed[-1] * growth[-2] * sign
        )
        return sign if steady else 0
    doubling = orders[0] * sign > 0 and orders[1] * sign >= needed[-1] * orders[0] * sign
    # Three levels alone may be the onset of a high algebraic order.
    certain = floor_follows or abs(orders[-1]) > 1.5 * ALGEBRAIC_LIMIT
    return sign if doubling and certain else 0


def _evenly_faster(growth: Array) -> bool:
    """Whether growths of the orders keep their ratio, as exp(-c/h^p) does.

    Values that happen to pass through zero, |h - c|, have orders that shoot up once instead.
    """
    ratio = growth[-1] / growth[-2]
    if len(growth) == 2 or growth[-3] <= 0:
        return bool(ratio < 6.0)
    return bool(ratio < 1.5 * growth[-2] / growth[-3])


def falls_to_floor(h: Array, values: Array, finer: float, floor: float) -> float:
    """Lower bound on the last pairwise order when one or two values precede the rounding floor.

    Parameters
    ----------
    h, values : ndarray, shape (1,) or (2,)
        Levels above the floor, with mesh sizes.
    finer : float
        Mesh size of the next level.
    floor : float
        Floor of that level.

    Returns
    -------
    float
        The bound where the fall is faster than any power describes, else 0.
    """
    fall = np.log(values[-1] / max(floor, np.finfo(float).tiny))
    bound = float(fall / np.log(h[-1] / finer))
    if len(values) == 1:
        return bound if bound >= FLOOR_FALL else 0.0
    first = float(np.log(values[0] / values[1]) / np.log(h[0] / h[1]))
    growing = first > 0 and bound >= max(1.5 * first, 1.5 * ALGEBRAIC_LIMIT)
    return bound if growing else 0.0
