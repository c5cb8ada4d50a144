"""Steps of a Taylor test along one direction: values, rounding, orders, and what they say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from gradconv.rates import Rate, fit_rate
from gradconv.testing.taylor_blocks import Array, Expansion

_FLOOR = 8.0  # rounding floor in units of the noise of f: two values, and a margin
_GRADIENT = 16.0  # epsilons by which rounding may change a term of ⟨g, v⟩
_LARGER = 8  # doublings beyond step 1 where the remainder hides in the rounding
_PAST = 6  # halvings beyond the square root of epsilon
_CLEAR = 8.0  # times the rounding floor: there rounding moves an order by less than 0.2
_ENOUGH = 4  # steps that make a window of their own
_STEADY = 0.25  # distance from the order of the finest steps that still counts as the same
_COARSE = 1e-10  # arithmetic above this leaves few steps between rounding and higher terms
_POINTS = 8  # values from which the noise of f is measured


@dataclass(frozen=True)
class Line:
    """Values along a direction.

    Attributes
    ----------
    steps : ndarray, shape (K,)
        ε > 0, decreasing.
    change : ndarray, shape (K,)
        f(x + εv) − f(x).
    remainder : ndarray, shape (K,)
        The same less ε⟨g, v⟩.
    floor : ndarray, shape (K,)
        Bound on the rounding of either.
    """

    steps: Array
    change: Array
    remainder: Array
    floor: Array

    def rows(self, fit: Rate | None) -> list[list[str]]:
        """Rows of the table of a message, down to a few steps below the rounding."""
        seen = np.flatnonzero(np.abs(self.remainder) > self.floor)
        last = min(len(self.steps), (seen[-1] if len(seen) else 2) + 4)
        rows = []
        for i in range(last):
            inside = fit is not None and 0 <= fit.window[0] <= i <= fit.window[1]
            rows.append(
                [
                    f"{self.steps[i]:.3e}",
                    f"{abs(self.change[i]):.6e}",
                    self._order(self.change, i),
                    f"{abs(self.remainder[i]):.6e}",
                    self._order(self.remainder, i),
                    f"{self.floor[i]:.1e}",
                    "*" if inside else "",
                ]
            )
        return rows

    def _order(self, values: Array, i: int) -> str:
        pair = np.abs(values[i : i + 2])
        if len(pair) < 2 or np.any(pair <= self.floor[i : i + 2]):
            return ""
        return f"{math.log2(pair[0] / pair[1]):+.3f}"


class Ladder:
    """A function along one direction from its point of expansion."""

    def __init__(self, expansion: Expansion, direction: Sequence[Array | None]) -> None:
        self.expansion, self.direction = expansion, direction
        self.start = expansion.evaluate([None] * len(direction))[0]
        self.slope = self._linear(direction)
        self.size = sum(
            float(np.sum(np.abs(block.gradient * v)))
            for block, v in zip(expansion.blocks, direction, strict=True)
            if v is not None
        )
        self.noise = self._measured_noise() if math.isfinite(self.start) else math.nan

    def value(self, step: float) -> tuple[float, float]:
        """f(x + εv) and the linear term of the step that was taken.

        Variables round: the linear term is that of the rounded step, or its rounding error, a
        whole epsilon of ⟨g, v⟩, would hide small remainders.
        """
        if step == 0:
            return self.expansion.evaluate([None] * len(self.direction))[0], 0.0
        steps = [None if v is None else step * v for v in self.direction]
        try:
            # a step of ours may leave the function's domain: no fault of the caller's
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value, taken = self.expansion.evaluate(steps)
        except (ArithmeticError, ValueError):
            return math.nan, math.nan
        return value, self._linear(taken)

    def _linear(self, step: Sequence[Array | None]) -> float:
        terms = [
            float(np.sum(np.conj(block.gradient) * v).real)
            for block, v in zip(self.expansion.blocks, step, strict=True)
            if v is not None
        ]
        return math.fsum(terms)

    def _measured_noise(self) -> float:
        """Noise of f by high differences of values close together (Moré and Wild 2011).

        Where f is computed more coarsely than its type tells, values close together are equal;
        the spacing then grows until they differ.
        """
        epsilon = self.expansion.epsilon
        spacing = math.sqrt(epsilon)
        while True:
            pairs = [self.value(i * spacing) for i in range(_POINTS)]
            # the linear part is smooth but for the rounding of the variables, so it goes first
            values = np.array([value - linear for value, linear in pairs])
            raw = len({value for value, _ in pairs})
            moves = abs(self.slope) * spacing > 4 * epsilon * abs(self.start)
            if raw > _POINTS // 2 or not moves or spacing > 0.1:
                break
            spacing *= 8.0
        if not np.isfinite(values).all():
            return 0.0
        worst = 0.0
        for k in (3, 4, 5):
            difference = np.diff(values, k)
            worst = max(worst, float(np.sqrt(np.mean(difference**2) / comb(2 * k, k))))
        return worst

    def line(self, steps: Array) -> Line:
        """Evaluate at the steps."""
        pairs = np.array([self.value(float(step)) for step in steps])
        values, linear = pairs[:, 0], pairs[:, 1]
        epsilon = self.expansion.epsilon
        largest = np.maximum(abs(self.start), np.abs(values))
        floor = _FLOOR * np.maximum(self.noise, epsilon * largest)
        floor = floor + _GRADIENT * epsilon * steps * self.size
        change = values - self.start
        finite = np.isfinite(values)
        first = len(steps) - int(np.argmin(finite[::-1])) if not finite.all() else 0
        keep = slice(first, None)  # steps larger than any that overflows
        return Line(steps[keep], change[keep], (change - linear)[keep], floor[keep])

    def quotient(self, line: Line) -> tuple[float, float]:
        """Derivative along v by the best central difference quotient, and its error."""
        best, least = math.nan, math.inf
        previous = math.nan
        for i in range(0, len(line.steps), 2):
            step = float(line.steps[i])
            quotient = (line.change[i] - (self.value(-step)[0] - self.start)) / (2.0 * step)
            error = abs(quotient - previous) + float(line.floor[i]) / step
            if error < least:
                best, least = float(quotient), error
            previous = quotient
        return best, least

    def kink(self, line: Line) -> float:
        """Difference of the one-sided derivatives if it does not go away with ε, else 0."""
        seen = np.flatnonzero(np.abs(line.change) > 16 * line.floor)
        if len(seen) < 6:
            return 0.0
        jumps = []
        for i in (seen[-1] - 4, seen[-1]):
            step = float(line.steps[i])
            left = (self.start - self.value(-step)[0]) / step
            jumps.append((float(line.change[i]) / step - left, float(line.floor[i]) / step))
        (wide, _), (narrow, error) = jumps
        stays = abs(narrow) > 4 * error and abs(narrow) > 0.5 * abs(wide)
        return narrow if stays else 0.0


def climb(ladder: Ladder) -> Line:
    """Take steps from 1 down past the square root of epsilon; from larger ones if need be."""
    last = math.ceil(-math.log2(ladder.expansion.epsilon) / 2) + _PAST
    line = ladder.line(0.5 ** np.arange(last + 1))
    above = np.abs(line.remainder) > line.floor
    if 0 < np.count_nonzero(above) < 5 and len(line.steps) == last + 1:
        line = ladder.line(0.5 ** np.arange(-_LARGER, last + 1))
    return line


def fitted(line: Line) -> tuple[Rate, Rate | None]:
    """Orders of the remainder and, where the linear term shows, of the change of f."""
    if len(line.steps) < 3:
        nan = math.nan
        reason = "f is finite at fewer than 3 steps"
        return Rate(
            nan, (nan, nan), nan, (-1, -1), np.empty(0), "undecided", reason, nan, nan, 0.95
        ), None
    size, linear = np.abs(line.remainder), np.abs(line.change - line.remainder)
    window = _window(size, line.floor)
    rate = fit_rate(line.steps[window], size[window], floor=line.floor[window])
    remainder = _placed(rate, window.start, line)
    shows = np.flatnonzero((linear > _CLEAR * line.floor) & (linear > _CLEAR * size))
    if len(shows) < _ENOUGH or shows[-1] - shows[0] >= len(shows):
        return remainder, None
    return remainder, fit_rate(line.steps[shows], np.abs(line.change[shows]))


def _window(size: Array, floor: Array) -> slice:
    """Steps of the fit: clear of the rounding, and from there up as long as the order is steady.

    A step at its rounding floor has an unknown error of its own size, and one where higher terms
    or kinks rule has an order of its own; either would widen the interval for nothing.
    """
    stop = _clear(size, floor)
    if stop < _ENOUGH or np.any(size[:stop] <= floor[:stop]):
        return slice(0, stop)
    orders = np.log2(size[: stop - 1] / size[1:stop])
    finest = float(np.median(orders[-3:]))
    uneven = np.flatnonzero(np.abs(orders - finest) > _STEADY)
    start = int(uneven[-1]) + 1 if len(uneven) else 0
    return slice(start if stop - start >= _ENOUGH else 0, stop)


def _clear(size: Array, floor: Array) -> int:
    """Steps before the first that is not clear of the rounding and leads to no larger ones."""
    for count in np.flatnonzero(size <= _CLEAR * floor):
        if count >= _ENOUGH and np.all(size[count:] <= size[count - 1]):
            return int(count)
    return len(size)


def _placed(rate: Rate, start: int, line: Line) -> Rate:
    """Count the window of a fit from the first step of the line."""
    if rate.window[0] < 0:
        return rate
    window = rate.window[0] + start, rate.window[1] + start
    ends = f"steps {line.steps[window[0]]:.3g} to {line.steps[window[1]]:.3g}"
    return replace(rate, window=window, reason=f"{ends}: {rate.reason}")


def verdict(
    ladder: Ladder, line: Line, remainder: Rate, first: Rate | None, tolerance: float
) -> tuple[str, str]:
    """Judge one direction: its status, and what is wrong with it (empty if nothing is)."""
    linear = np.abs(line.change - line.remainder)
    if np.all(np.abs(line.change) <= line.floor) and np.all(linear <= line.floor):
        return "flat", ""
    if remainder.verdict == "exact" or remainder.order == math.inf:
        return "linear", ""
    order = remainder.order
    if remainder.verdict == "undecided":
        return "undecided", f"undecided: {remainder.reason}{_advice(ladder)}"
    whole = max(2, round(order)) if math.isfinite(order) else 2
    if _near(remainder, whole, tolerance):
        if first is not None and not _near(first, 1, tolerance):
            return "wrong", f"f(x + εv) − f(x) falls at order {first.order:.3g}, not at 1"
        return f"order {whole}", ""
    return "wrong", _diagnosis(ladder, line, remainder, tolerance)


def _near(rate: Rate, order: int, tolerance: float) -> bool:
    low, high = rate.interval
    return order - tolerance <= low and high <= order + tolerance


def _diagnosis(ladder: Ladder, line: Line, rate: Rate, tolerance: float) -> str:
    """Tell a wrong gradient from a function that is not smooth."""
    low, high = rate.interval
    text = f"the remainder falls at order {rate.order:.3g}, not at 2"
    jump = ladder.kink(line)
    if jump:
        return f"{text}: f has a kink at x, its one-sided derivatives along v differ by {jump:.3g}"
    slope, (quotient, error) = ladder.slope, ladder.quotient(line)
    if not abs(slope - quotient) > 4 * error:
        if low <= 2 <= high:
            return (
                f"undecided: the order's interval [{low:.3g}, {high:.3g}] is wider than "
                f"2 ± {tolerance:g}{_advice(ladder)}"
            )
        why = "f is not twice differentiable at x, or the steps hold no power law"
        return f"{text}: {why}{_advice(ladder)}"
    if slope == 0:
        return f"{text}: the gradient is zero, yet f changes (is a part left out of the graph?)"
    if abs(slope + quotient) < 0.01 * abs(slope):
        return f"{text}: the gradient has the wrong sign"
    if abs(quotient) > error:
        return f"{text}: the gradient is {slope / quotient:.6g} times the difference quotient"
    return f"{text}: the gradient is not zero, yet f does not change"


def _advice(ladder: Ladder) -> str:
    return "; double precision may help" if ladder.expansion.epsilon > _COARSE else ""
