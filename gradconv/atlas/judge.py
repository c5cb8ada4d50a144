"""Whether what was derived is what was measured: the atlas's rules, on plain numbers.

Two things are held against each other for every quantity of a cell. The *full law*, evaluated at
each h, must go through the data. And its *leading term* must be what a fit finds on an asymptotic
window: levels on which the law's own corrections are small. Where the meshes have no such window
the sum of the law's terms is held against the data instead, where the expansion carries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradconv.agreement import EXACT
from gradconv.rates import Rate, fit_rate

AGREES, DISAGREES, EXPLAINED = "agrees", "disagrees", "explained"
CORRECTION = 0.03
"""Largest share of all corrections in the leading term on the levels of an asymptotic window."""
NEGLECTED = 0.02
"""Largest share that the expansion may leave out on levels that it is held against."""
ORDER_SLACK = 0.05
"""How far corrections within `CORRECTION` can move the slope of three levels, or of more."""
CONSTANT_SLACK = 0.05
"""The same for the constant."""
WINDOW = 3
UNKNOWN_TERMS = (
    "not asymptotic on these meshes: the first unknown term of the expansion is not seen to fall"
)
NOT_ASYMPTOTIC = (
    "not asymptotic on these meshes: on no two levels does the expansion's last order, or what "
    "h_L/h > 0 takes away, stay below 2 %"
)


@dataclass(frozen=True)
class Judgement:
    """A verdict on one comparison.

    Parameters
    ----------
    status : {"agrees", "disagrees", "explained"}
        Explained: no comparison is possible, and `reason` says why.
    reason : str
        With the numbers.
    worst : float
        Largest deviation, in the unit of the comparison; NaN without one.
    """

    status: str
    reason: str = ""
    worst: float = math.nan


def exact_values(measured: np.ndarray, derived: np.ndarray, floor: np.ndarray) -> Judgement:
    """Hold the full law against exact expectations, to a relative `EXACT` and the rounding floor.

    Parameters
    ----------
    measured, derived, floor : ndarray
        One value a level.
    """
    apart = np.abs(measured - derived)
    ratio = apart / (EXACT * np.abs(derived) + floor)
    worst = float(np.max(apart / np.maximum(np.abs(derived), floor)))
    if np.all(ratio <= 1):
        return Judgement(AGREES, "", worst)
    level = int(np.argmax(ratio))
    return Judgement(
        DISAGREES,
        f"full law {derived[level]:.10g} against {measured[level]:.10g} at level {level}",
        worst,
    )


def deviations(
    contributions: np.ndarray, offset: np.ndarray, derived: np.ndarray, floor: np.ndarray
) -> list[float]:
    """Deviations of a sampled quantity from its law, in standard errors of its logarithm.

    Parameters
    ----------
    contributions : ndarray
        |gap − mean|² of each path, shape ``(replicates, levels)``.
    offset : ndarray
        Exact part of the quantity's square, ``(levels,)``: the mean gap's for the rms gap.
    derived : ndarray
        The law of the square, ``(levels,)``.
    floor : ndarray
        What rounding leaves of a square, ``(levels,)``.

    Returns
    -------
    list of float
        One a level, and last that of all levels together; 0 where both are under the floor, and
        infinite where only one of them is.
    """
    count = len(contributions)
    found = []
    ratios = []
    for level in range(len(derived)):
        paths = contributions[:, level] + offset[level]
        mean, law = float(paths.mean()), float(derived[level])
        if mean <= floor[level] or law <= floor[level]:
            found.append(0.0 if max(mean, law) <= 4 * floor[level] else math.inf)
            continue
        error = float(paths.std(ddof=1)) / math.sqrt(count) + EXACT * mean + floor[level]
        found.append(math.log(mean / law) * mean / error)
        ratios.append(paths / law)
    if ratios:
        pooled = np.mean(ratios, axis=0)
        error = float(pooled.std(ddof=1)) / math.sqrt(count) + EXACT * float(pooled.mean())
        found.append(math.log(pooled.mean()) * float(pooled.mean()) / error)
    return [float(v) for v in found]


def sampled_values(found: Sequence[float], quantile: float) -> Judgement:
    """Judge deviations of `deviations` by a simultaneous quantile."""
    worst = max((abs(v) for v in found), default=0.0)
    if worst <= quantile:
        return Judgement(AGREES, "", worst)
    return Judgement(
        DISAGREES, f"{worst:.3g} standard errors from the full law, {quantile:.2f} allowed", worst
    )


@dataclass(frozen=True)
class Fit:
    """What was measured of a leading term.

    Parameters
    ----------
    order, coefficient : float or None
        Signed order and constant; None without a fit.
    interval : tuple of float or None
        Interval of the order.
    verdict : str
        As in `gradconv.rates.Rate`.
    method : str
        ``window``, ``sum`` or ``fit`` (without a law).
    """

    order: float | None
    coefficient: float | None
    interval: tuple[float, float] | None
    verdict: str
    method: str


NO_FIT = Fit(None, None, None, "undecided", "")


def fitted(
    h: np.ndarray, values: np.ndarray, floor: np.ndarray, quantity: str
) -> tuple[Fit, Rate | None]:
    """Fit of `gradconv.rates`, as a record; none on fewer than three levels."""
    if len(h) < WINDOW:
        return NO_FIT, None
    kind: Any = "level" if quantity == "level_norm" else "gap"
    rate = fit_rate(h, values, floor=floor, kind=kind)
    known = math.isfinite(rate.order)
    fit = Fit(
        rate.order if known else None,
        rate.coefficient if known else None,
        rate.interval if known and all(map(math.isfinite, rate.interval)) else None,
        rate.verdict,
        "fit",
    )
    return fit, rate


def leading_term(
    law: dict[str, Any],
    quantity: str,
    h: np.ndarray,
    measured: np.ndarray,
    floor: np.ndarray,
    resolved: np.ndarray,
) -> tuple[Judgement, Fit]:
    """Hold the leading order and constant of a law against data.

    Parameters
    ----------
    law : dict
        A quantity's record of `gradconv.atlas.derived.law_record`.
    quantity : str
        Which one.
    h, measured, floor : ndarray
        Mesh sizes, data, and what cannot be told from zero.
    resolved : ndarray of bool
        Levels whose mesh resolves the kernel.
    """
    overall, rate = fitted(h, measured, floor, quantity)
    if law["order"] is None:
        return _zero(rate, measured, floor), overall
    if law.get("unknown") is not None:
        return _extrapolated(law, h, measured, floor, resolved), overall
    whole, left = np.array(law["sum"]), np.array(law["neglected"])
    shape = h ** law["order"] * np.log(1 / h) ** law["log"]
    corrections = np.abs(whole / (abs(law["coefficient"]) * shape) - 1)
    usable = resolved & (measured > 1e3 * floor) & (left <= NEGLECTED)
    window = _run(usable & (corrections <= CORRECTION))
    if len(window) >= WINDOW:
        return _on_window(law, quantity, h, measured, shape, window)
    levels = _pair(usable, left)
    if len(levels):
        apart = np.abs(measured[levels] / whole[levels] - 1)
        level, worst = int(levels[np.argmax(apart)]), float(apart.max())
        fit = replace(overall, method="sum")
        if worst <= CORRECTION:
            return Judgement(AGREES, "", worst), fit
        text = (
            f"sum of terms {whole[level]:.6g} against {measured[level]:.6g} at h = {h[level]:.4g}"
        )
        return Judgement(DISAGREES, text, worst), fit
    if np.all(measured <= 1e3 * floor):
        return Judgement(EXPLAINED, "all values are near the rounding floor"), overall
    return Judgement(EXPLAINED, NOT_ASYMPTOTIC, float(np.min(left))), overall


def _extrapolated(
    law: dict[str, Any],
    h: np.ndarray,
    measured: np.ndarray,
    floor: np.ndarray,
    resolved: np.ndarray,
) -> Judgement:
    """Hold a law whose next power is known, but not its constant, against data.

    It may go through them on three levels in a row. If not, data over law is 1 + c h^δ + …, δ from
    the leading to the first unknown term: two pairs of levels give its limit twice.
    """
    delta, fine = law["unknown"]
    near = np.zeros(len(h), dtype=bool)
    if law["data"] is not None:  # h_L ≪ h: what is left of h_L/h is no power of h
        near = law["data"] / h > CORRECTION
    whole = np.array(law["sum"])
    told = resolved & (measured > 1e3 * floor) & (whole > 0)
    apart = np.abs(measured / np.where(told, whole, np.inf) - 1)
    through = _run(told & (apart <= CORRECTION))
    if len(through) >= WINDOW:
        return Judgement(AGREES, "", float(apart[through].max()))
    seen = np.flatnonzero(told & ~near)
    if fine or delta <= 0 or len(seen) < WINDOW or seen[-1] - seen[-WINDOW] != WINDOW - 1:
        return Judgement(EXPLAINED, UNKNOWN_TERMS)
    ratio = measured[seen[-WINDOW:]] / whole[seen[-WINDOW:]]
    grown = 2.0**delta
    first, last = (grown * ratio[1:] - ratio[:-1]) / (grown - 1)
    if abs(last - first) > CONSTANT_SLACK * abs(last):
        return Judgement(EXPLAINED, UNKNOWN_TERMS, float(abs(last - first)))
    worst = float(abs(last - 1))
    if worst <= 2 * CONSTANT_SLACK:
        return Judgement(AGREES, "", worst)
    text = f"data over law tends to {last:.4f} (before: {first:.4f}) as h^{delta:g}"
    return Judgement(DISAGREES, text, worst)


def _run(mask: np.ndarray) -> np.ndarray:
    """Longest run of levels, the finest of equals."""
    best: list[int] = []
    current: list[int] = []
    for level, inside in enumerate(mask):
        current = [*current, level] if inside else []
        if len(current) >= len(best):
            best = current
    return np.array(best, dtype=int)


def _pair(usable: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The two neighbouring levels on which a law leaves out least."""
    pairs = [i for i in range(len(usable) - 1) if usable[i] and usable[i + 1]]
    if not pairs:
        return np.array([], dtype=int)
    best = min(pairs, key=lambda i: max(left[i], left[i + 1]))
    return np.array([best, best + 1])


def _on_window(
    law: dict[str, Any],
    quantity: str,
    h: np.ndarray,
    measured: np.ndarray,
    shape: np.ndarray,
    window: np.ndarray,
) -> tuple[Judgement, Fit]:
    plain = measured / np.log(1 / h) ** law["log"]
    found, rate = fitted(h[window], plain[window], np.zeros(len(window)), quantity)
    constant = float(np.exp(np.mean(np.log(measured[window] / shape[window]))))
    straight = float(np.polyfit(np.log(h[window]), np.log(plain[window]), 1)[0])
    order = rate.order if rate is not None and math.isfinite(rate.order) else straight
    fit = Fit(order, constant, found.interval, found.verdict, "window")
    share = constant / abs(law["coefficient"]) - 1
    worst = max(abs(order - law["order"]) / ORDER_SLACK, abs(share) / CONSTANT_SLACK)
    if worst <= 1:
        return Judgement(AGREES, "", worst), fit
    text = (
        f"order {order:+.4f} against {law['order']:+.4f}, constant {constant:.6g} against "
        f"{abs(law['coefficient']):.6g}"
    )
    return Judgement(DISAGREES, text, worst), fit


def _zero(rate: Rate | None, measured: np.ndarray, floor: np.ndarray) -> Judgement:
    """A law without terms: the data are zero to rounding, or fall faster than any power."""
    if np.all(measured <= floor) or (rate is not None and rate.order == math.inf):
        return Judgement(AGREES)
    if measured[-1] <= 10 * floor[-1]:
        return Judgement(AGREES)
    text = f"smaller than any power by the law, {measured[-1]:.3g} on the finest mesh"
    return Judgement(DISAGREES, text, float(measured[-1] / floor[-1]))
