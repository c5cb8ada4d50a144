"""What an intervention does to an rms gap, with intervals over paths that both sides share.

Each path has a gap without the intervention and one with it. Most of their scatter is common to
both and cancels in the ratio, so that few paths tell what they could not tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradconv.bootstrap import Array, t_quantile

HALVED = 0.5  # what counts as an effect: half of the finest gap,
SMALLER, RISEN = 0.8, 0.25  # or a smaller gap of a higher order
TENTH, GONE = 0.1, 0.02


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval; without a width if there is but one path.

    Parameters
    ----------
    value : float
        The number.
    low, high : float
        Ends of the interval.
    """

    value: float
    low: float
    high: float

    def above(self, bound: float) -> bool:
        """Whether the whole interval lies above a bound."""
        return self.low > bound

    def below(self, bound: float) -> bool:
        """Whether the whole interval lies below a bound."""
        return self.high < bound

    def written(self, form: str) -> str:
        """Write the number in a format, and the interval in brackets if it has a width."""
        if self.low == self.high:
            return f"{self.value:{form}}"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True)
class Effect:
    """What an intervention does to the rms gap of some parameters.

    Parameters
    ----------
    share : Estimate
        Finest gap that is left, as a fraction.
    before, after : Estimate
        Order over the finest pairs, without and with the intervention.
    rise : Estimate
        Their difference; its interval is that of the difference on the same paths.
    """

    share: Estimate
    before: Estimate
    after: Estimate
    rise: Estimate

    @property
    def helps(self) -> bool:
        """Whether the gap surely falls by half, or falls and has a higher order."""
        return self.share.below(HALVED) or (self.share.below(SMALLER) and self.rise.above(RISEN))

    @property
    def may_help(self) -> bool:
        """Whether the intervals leave it open that it helps."""
        rises = self.share.low < SMALLER and self.rise.high > RISEN
        return self.share.low < HALVED or rises

    @property
    def cures(self) -> bool:
        """Whether a gap that did not fall with h surely does now, or all but disappears."""
        healed = self.after.above(RISEN) or self.share.below(GONE)
        return self.before.below(RISEN) and healed

    @property
    def stands_in_the_way(self) -> bool:
        """Whether the gap surely does not fall with h, or may not and surely is of a lower order.

        A cause that only makes a gap larger which falls with h does not keep it from converging.
        """
        may_not = not self.before.above(RISEN)
        return self.before.below(RISEN) or (may_not and self.rise.above(RISEN))

    def sentence(self, words: str, of: str) -> str:
        """Say what was done and what it did."""
        text = f"{words} {of} finest rms gap is {self.share.written('.2g')} times as large, "
        text += f"order from {self.before.value:+.2f} to {self.after.value:+.2f}"
        if self.rise.low < self.rise.high:
            text += f", by {self.rise.written('+.2f')}"
        return text.replace("+inf", "any power")


def compare(before: Array, after: Array, h: Array, confidence: float) -> Effect:
    """Compare the gaps of the same paths without and with an intervention.

    Parameters
    ----------
    before, after : ndarray, shape (R, W)
        |gap|² of each path over the finest pairs of levels, coarse to fine.
    h : ndarray, shape (W,)
        Finer mesh size of each pair.
    confidence : float
        Two-sided level of each interval.

    Notes
    -----
    Intervals are the delete-one jackknife's over paths, of sums of log rms gaps, with Student's t
    of R − 1 degrees of freedom. On squares of 1 to 10 Gaussian components their coverage at a
    confidence of 0.95 is 0.92 to 0.96 for 4, 8 and 16 paths; on the same squares the t interval
    of the delta method has 0.88 to 0.96 and the studentised bootstrap is up to a sixth wider.

    References
    ----------
    B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11 (jackknife).
    """
    x = np.log(h) - np.log(h).mean()
    slope = x / (x @ x)
    rise = Estimate(0.0, 0.0, 0.0)
    if before.any(axis=0).all():
        rise = _order(np.concatenate([before, after], axis=1), np.append(-slope, slope), confidence)
    return Effect(
        share=_share(before[:, -1:], after[:, -1:], confidence),
        before=_order(before, slope, confidence),
        after=_order(after, slope, confidence),
        rise=rise,
    )


def _order(squares: Array, functional: Array, confidence: float) -> Estimate:
    if not squares.any(axis=0).all():
        return Estimate(np.inf, np.inf, np.inf)
    return jackknife(squares, functional, confidence)


def _share(before: Array, after: Array, confidence: float) -> Estimate:
    if not before.any():
        return Estimate(1.0, 1.0, 1.0)
    if not after.any():
        return Estimate(0.0, 0.0, 0.0)
    left = jackknife(np.concatenate([before, after], axis=1), np.array([-1.0, 1.0]), confidence)
    with np.errstate(over="ignore"):  # an end far beyond any number is as good as none
        return Estimate(*(float(np.exp(v)) for v in (left.value, left.low, left.high)))


def jackknife(squares: Array, functional: Array, confidence: float) -> Estimate:
    """Linear functional of log rms values, with its delete-one jackknife interval over paths.

    Parameters
    ----------
    squares : ndarray, shape (R, L)
        Squares >= 0 of each path, of which each of the L values is the root of the mean, > 0.
    functional : ndarray, shape (L,)
        Coefficients of the logarithms.
    confidence : float
        Two-sided level in (0, 1).

    Returns
    -------
    Estimate
        Without a width for a single path; from -inf to inf where a value is all one path's.
    """
    paths = len(squares)
    value = float(0.5 * np.log(squares.mean(axis=0)) @ functional)
    if paths == 1:
        return Estimate(value, value, value)
    without = np.array([np.delete(squares, i, axis=0).mean(axis=0) for i in range(paths)])
    if not without.all():
        return Estimate(value, -np.inf, np.inf)
    left_out = 0.5 * np.log(without) @ functional
    spread = np.sum((left_out - left_out.mean()) ** 2)
    half = t_quantile(0.5 + confidence / 2, paths - 1) * np.sqrt((paths - 1) / paths * spread)
    return Estimate(value, value - half, value + half)
