"""Effects of interventions: paired intervals that cover, and verdicts that wait for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from gradconv.audit.effects import HALVED, Effect, Estimate, compare, jackknife
from gradconv.bootstrap import Array

H = np.array([1 / 16, 1 / 32, 1 / 64])
STUDENT_1 = 12.706204736174698  # 0.975 quantile of 1 degree of freedom
TRIALS = 400
UNLIKELY = 1e-4  # false-alarm rate of each statistical test below, at seeds that are fixed


def drawn(
    rng: np.random.Generator, paths: int, share: float, rise: float, common: float = 0.9
) -> tuple[Array, Array]:
    """Squares |gap|² of 3 Gaussian components, correlated between both sides of a path.

    The rms gap is h without the intervention; with it, `share` of that on the finest mesh and of
    an order higher by `rise`.
    """
    first, own = rng.standard_normal((2, paths, len(H), 3))
    second = common * first + math.sqrt(1 - common**2) * own
    after = share * H * (H / H[-1]) ** rise
    return np.sum((H[:, None] * first) ** 2, -1), np.sum((after[:, None] * second) ** 2, -1)


def covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_two_paths_by_hand() -> None:
    """Each path left out leaves the other: the error is half of their difference."""
    before = np.array([[16.0, 4.0, 1.0], [16.0, 4.0, 4.0]])
    after = np.array([[4.0, 4.0, 0.25], [4.0, 4.0, 0.04]])
    share = compare(before, after, H, 0.95).share
    assert share.value == pytest.approx(math.sqrt(0.29 / 5.0))
    half = STUDENT_1 * abs(math.log(0.5) - math.log(0.1)) / 2
    assert math.log(share.high / share.value) == pytest.approx(half)
    assert math.log(share.value / share.low) == pytest.approx(half)


def test_orders_by_hand() -> None:
    """Over three pairs in steps by 2 the slope is half of log2 of the outer two's ratio."""
    before, after = np.array([[16.0, 2.0, 1.0]] * 3), np.array([[1.0, 9.0, 1.0]] * 3)
    effect = compare(before, after, H, 0.95)
    assert effect.before.value == pytest.approx(1.0)
    assert effect.after.value == pytest.approx(0.0, abs=1e-12)
    assert effect.rise.value == pytest.approx(-1.0)
    assert effect.rise.low == pytest.approx(effect.rise.high)  # equal paths leave no doubt


@pytest.mark.parametrize("paths", [4, 8, 16])
def test_intervals_cover(paths: int) -> None:
    rng = np.random.default_rng(paths)
    effects = [compare(*drawn(rng, paths, 0.6, 0.5), H, 0.95) for _ in range(TRIALS)]
    truths = {"share": 0.6, "rise": 0.5, "before": 1.0, "after": 1.5}
    for name, truth in truths.items():
        held = sum(covers(getattr(e, name), truth) for e in effects)
        # nominal, less the 0.02 that a jackknife of few skewed squares may lack
        assert binomtest(held, TRIALS, 0.93, alternative="less").pvalue > UNLIKELY, (name, held)
    if paths == 4:  # negative control: a normal quantile in the place of Student's
        shrunk = 1.96 / 3.182
        logs = [(math.log(e.share.value), math.log(e.share.high)) for e in effects]
        held = sum(abs(v - math.log(0.6)) <= shrunk * (high - v) for v, high in logs)
        assert binomtest(held, TRIALS, 0.93, alternative="less").pvalue < UNLIKELY


def test_pairing_tells_what_two_separate_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    paired, separate = [], []
    for _ in range(100):
        before, after = drawn(rng, 8, 0.4, 0.0, common=0.99)
        paired.append(compare(before, after, H, 0.95).share.below(HALVED))
        shuffled = compare(before, rng.permutation(after), H, 0.95)  # paths of their own
        separate.append(shuffled.share.below(HALVED))
    assert sum(paired) > 95
    assert sum(separate) < 60


def test_no_false_alarm_where_point_estimates_raise_it() -> None:
    """A gap that keeps 0.55 of itself is not halved; chance says so of few paths' values."""
    rng = np.random.default_rng(1)
    alarms = {"interval": 0, "point": 0, "one path": 0}
    for _ in range(TRIALS):
        before, after = drawn(rng, 8, 0.55, 0.0, common=0.5)
        effect = compare(before, after, H, 0.95)
        alarms["interval"] += effect.helps
        alarms["point"] += point(effect).helps
        alarms["one path"] += compare(before[:1], after[:1], H, 0.95).helps
    # two ways to help, 0.025 each
    assert binomtest(alarms["interval"], TRIALS, 0.05, alternative="greater").pvalue > UNLIKELY
    assert alarms["point"] > 0.2 * TRIALS  # negative controls
    assert alarms["one path"] > 0.2 * TRIALS


def point(effect: Effect) -> Effect:
    """An effect without its intervals, as if the values were certain."""
    values = (effect.share, effect.before, effect.after, effect.rise)
    return Effect(*(Estimate(e.value, e.value, e.value) for e in values))


def made(share: float, before: float, after: float, width: float) -> Effect:
    """An effect whose intervals reach as far to both sides."""
    rise = after - before
    ends = [Estimate(v, v - width, v + width) for v in (before, after, rise)]
    return Effect(Estimate(share, share / (1 + width), share * (1 + width)), *ends)


def test_verdicts_wait_for_the_intervals() -> None:
    sure, open_ = made(0.3, -1.0, 1.0, 0.2), made(0.3, -1.0, 1.0, 2.0)
    assert sure.helps
    assert sure.cures
    assert sure.stands_in_the_way
    assert not open_.helps
    assert not open_.cures
    assert not open_.stands_in_the_way
    assert open_.may_help
    assert point(open_).helps
    assert point(open_).cures
    none = made(0.95, 1.0, 1.0, 0.02)
    assert not none.helps
    assert not none.may_help
    smaller = made(0.7, 0.0, 0.5, 0.05)  # not by half, but of a higher order
    assert smaller.helps
    assert not made(0.7, 0.0, 0.2, 0.01).helps


def test_a_larger_gap_that_falls_stands_in_no_way() -> None:
    assert not made(0.01, 1.0, 1.1, 0.3).stands_in_the_way
    assert made(0.01, 1.0, 1.1, 0.3).helps
    assert made(0.01, 0.4, 2.0, 0.3).stands_in_the_way  # it may stall, and falls faster without
    assert not made(0.01, 0.4, 0.5, 0.3).stands_in_the_way


def test_one_path_has_no_interval() -> None:
    before, after = np.array([[16.0, 4.0, 1.0]]), np.array([[16.0, 1.0, 1 / 16]])
    effect = compare(before, after, H, 0.95)
    assert (effect.share.low, effect.share.value, effect.share.high) == pytest.approx((0.25,) * 3)
    assert "[" not in effect.sentence("so", "its")


def test_sentences_show_the_intervals() -> None:
    said = made(0.5, -1.0, 1.0, 0.25).sentence("with it gone", "its")
    assert said == (
        "with it gone its finest rms gap is 0.5 [0.4, 0.62] times as large, "
        "order from -1.00 to +1.00, by +2.00 [+1.75, +2.25]"
    )


def test_gaps_of_zero() -> None:
    some, zero = np.ones((4, 3)), np.zeros((4, 3))
    gone = compare(some, zero, H, 0.95)
    assert gone.share.value == gone.share.high == 0.0
    assert gone.after.value == np.inf
    assert gone.helps
    assert gone.cures
    assert "any power" in gone.sentence("so", "its")
    for after in (zero, some):  # nothing to be helped
        effect = compare(zero, after, H, 0.95)
        assert not effect.helps
        assert not effect.cures
    lone = zero.copy()
    lone[0] = 1.0  # all of it on one path: its error is unknown
    assert jackknife(lone, np.array([0.0, 0.0, 1.0]), 0.95).high == np.inf
    assert not compare(some, lone, H, 0.95).helps


def test_ends_far_beyond_any_number() -> None:
    before, after = np.ones((2, 3)), np.array([[1e-200] * 3, [1e-20] * 3])
    share = compare(before, after, H, 0.9999).share
    assert share.low == 0.0
    assert share.high == np.inf
