"""Coverage of the intervals and error rates of the verdicts, on thousands of synthetic sweeps.

All seeds are fixed. A coverage test fails with probability under 0.001 where the true coverage
is the nominal one (one-sided binomial test).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from gradconv.bootstrap import Array
from gradconv.rates import Rate, fit_rate

H = 2.0 ** -np.arange(4, 10)
NOMINAL = 0.95
FALSE_ALARM = 0.001
ORDERS = (-2.0, -1.0, 0.5, 1.0, 2.0)
RESAMPLES = 299
SWEEPS = 200  # for each of the five orders: 1000 for each number of paths and distribution
SHARED = 0.7  # correlation of the levels: one path serves all of them

Draw = Callable[[np.random.Generator, int], Array]


def chi_square(rng: np.random.Generator, paths: int) -> Array:
    """Squared norms of Gaussian vectors with three components, correlated between levels."""
    shared = rng.normal(size=(paths, 1, 3))
    own = rng.normal(size=(paths, len(H), 3))
    return np.asarray(np.sum((np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own) ** 2, axis=2))


def lognormal(rng: np.random.Generator, paths: int) -> Array:
    """Skewed contributions (skewness 3.7), correlated between levels."""
    shared, own = rng.normal(size=(paths, 1)), rng.normal(size=(paths, len(H)))
    return np.asarray(np.exp(0.8 * (np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own)))


def corrections(h: Array) -> list[Array]:
    """Pre-asymptotic factors 1 + a h^r, too small to see at few paths and plain at many."""
    return [1 + a * h for a in (1, -1, 3, 10, -5)] + [1 + 30 * h**2]


def sweep(draw: Draw, rng: np.random.Generator, paths: int, order: float) -> Array:
    return draw(rng, paths) * H ** (2 * order)


def covers(rate: Rate, order: float) -> bool:
    return bool(rate.interval[0] <= order <= rate.interval[1])


def undercovers(hits: int, trials: int) -> bool:
    return bool(binomtest(hits, trials, NOMINAL, alternative="less").pvalue < FALSE_ALARM)


def exceeds(errors: int, trials: int, rate: float) -> bool:
    """Whether an error rate under `rate` is not shown at the 5 % level."""
    return bool(binomtest(errors, trials, rate, alternative="less").pvalue > 0.05)


def slope_weights() -> Array:
    x = np.log(H) - np.log(H).mean()
    return np.asarray(x / (x @ x))


def percentile_covers(paths: Array, order: float, rng: np.random.Generator) -> bool:
    """Negative control: what the plain percentile bootstrap of the same slope says."""
    count = len(paths)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=499) / count
    slopes = 0.5 * np.log(weights @ paths) @ slope_weights()
    low, high = np.quantile(slopes, [0.025, 0.975])
    return bool(low <= order <= high)


@pytest.mark.parametrize("paths", [16, 64, 256])
@pytest.mark.parametrize("draw", [chi_square, lognormal])
def test_rms_order_is_covered_and_the_verdict_right(draw: Draw, paths: int) -> None:
    rng = np.random.default_rng([paths, draw is chi_square])
    hits = wrong = decided = trials = 0
    widths, slopes = [], []
    for order in ORDERS:
        right = "converges" if order > 0 else "diverges"
        for _ in range(SWEEPS):
            data = sweep(draw, rng, paths, order)
            rate = fit_rate(H, paths=data, power=0.5, resamples=RESAMPLES)
            trials += 1
            hits += covers(rate, order)
            decided += rate.verdict == right
            wrong += rate.verdict not in (right, "undecided")
            widths.append((rate.interval[1] - rate.interval[0]) / 2)
            slopes.append(0.5 * np.log(data.mean(0)) @ slope_weights() - order)
    assert not undercovers(hits, trials), f"coverage {hits / trials}"
    assert not exceeds(wrong, trials, 0.01), f"wrong verdicts {wrong}"
    assert decided / trials > 0.95
    # Ideal: Student's width from the true scatter of the least-squares slope of all levels.
    ratio = np.mean(widths) / (student.ppf(0.975, paths - 1) * np.std(slopes))
    assert 0.8 < ratio < 3.0, f"half-width over ideal {ratio}"


@pytest.mark.parametrize("paths", [16, 64, 256])
@pytest.mark.parametrize("coarsest", [8, 16, 32])
def test_order_behind_noise_and_curvature_is_covered(paths: int, coarsest: int) -> None:
    h = 2.0 ** -np.arange(len(H)) / coarsest
    factors = corrections(h)
    rng = np.random.default_rng([paths, coarsest, 11])
    hits = np.zeros((len(factors), 2), dtype=int)
    trials, wrong, straight = 40, 0, 0
    for index, factor in enumerate(factors):
        for which, draw in enumerate((chi_square, lognormal)):
            for trial in range(trials):
                order = (-1.0, 0.5, 1.0, 2.0)[trial % 4]
                data = draw(rng, paths) * (h**order * factor) ** 2
                rate = fit_rate(h, paths=data, power=0.5, resamples=199)
                hits[index, which] += covers(rate, order)
                right = "converges" if order > 0 else "diverges"
                wrong += rate.verdict not in (right, "undecided")
                straight += abs(rate.order - order) <= rate.statistical
    # Each correction by itself, and all of them: 480 sweeps here, 1440 for a number of paths.
    assert not any(undercovers(int(row.sum()), 2 * trials) for row in hits), hits.tolist()
    assert not undercovers(int(hits.sum()), hits.size * trials), hits.tolist()
    assert not exceeds(wrong, hits.size * trials, 0.01), f"wrong verdicts {wrong}"
    # Negative control: the sampling error of the straight fit alone.
    assert undercovers(straight, hits.size * trials), f"coverage of the control {straight}"


@pytest.mark.parametrize("draw", [chi_square, lognormal])
def test_percentile_interval_fails_the_same_check(draw: Draw) -> None:
    rng = np.random.default_rng([16, draw is chi_square])
    trials = 1500
    hits = sum(percentile_covers(sweep(draw, rng, 16, 1.0), 1.0, rng) for _ in range(trials))
    assert undercovers(hits, trials), f"coverage {hits / trials}"


def test_levels_resampled_apart_are_not_the_right_width() -> None:
    # Negative control: forgetting that a path serves all levels overstates the error.
    rng = np.random.default_rng(5)
    together, apart = [], []
    for _ in range(50):
        data = sweep(chi_square, rng, 64, 1.0)
        mixed = np.stack([rng.permutation(column) for column in data.T], axis=1)
        together.append(fit_rate(H, paths=data, power=0.5, resamples=RESAMPLES).statistical)
        apart.append(fit_rate(H, paths=mixed, power=0.5, resamples=RESAMPLES).statistical)
    assert np.mean(apart) > 1.25 * np.mean(together)


@pytest.mark.parametrize("paths", [16, 64, 256])
@pytest.mark.parametrize("draw", [chi_square, lognormal])
def test_order_zero_neither_converges_nor_diverges(draw: Draw, paths: int) -> None:
    # Intervals shift with the order: their coverage is held more sharply by the test of all orders.
    rng = np.random.default_rng([paths, 7])
    trials = 500
    rates = [
        fit_rate(H, paths=sweep(draw, rng, paths, 0.0), power=0.5, resamples=RESAMPLES)
        for _ in range(trials)
    ]
    wrong = sum(rate.verdict not in ("stalls", "undecided") for rate in rates)
    assert not exceeds(wrong, trials, 0.01), f"wrong verdicts {wrong}"
    assert not undercovers(sum(covers(rate, 0.0) for rate in rates), trials)
    # Negative control: the sign of the order alone would decide, and be wrong every time.
    signs = sum(abs(rate.order) > 0 for rate in rates)
    assert exceeds(signs, trials, 0.01)


@pytest.mark.parametrize("paths", [16, 64, 256])
def test_vector_mean_order_is_covered(paths: int) -> None:
    # The mean dies faster than its noise, so fine levels sink under the sampling floor.
    rng = np.random.default_rng(paths)
    ratio = H / H[0]
    mean = np.array([0.8, 0.6, 0.0, 0.0])
    hits = fits = short = wrong = 0
    for _ in range(1000):
        noise = np.sqrt(0.5) * (rng.normal(size=(paths, 1, 4)) + rng.normal(size=(paths, 6, 4)))
        data = ratio[:, None] * mean + 0.03 * np.sqrt(paths * ratio)[:, None] * noise
        rate = fit_rate(H, paths=data, resamples=RESAMPLES)
        wrong += rate.verdict not in ("converges", "undecided")
        if np.isfinite(rate.order):
            fits += 1
            hits += covers(rate, 1.0)
            short += rate.window[1] < 5
    assert fits > 800
    assert not undercovers(hits, fits), f"coverage {hits / fits}"
    assert not exceeds(wrong, 1000, 0.01)
    assert short > 0


@pytest.mark.parametrize("correction", [1, 2])
def test_curved_exact_sequences_are_covered(correction: int) -> None:
    rng = np.random.default_rng(correction)
    trials = 1000
    hits = plain = 0
    for _ in range(trials):
        levels = int(rng.integers(4, 8))
        order = float(rng.choice(ORDERS))
        h = 2.0 ** -np.arange(levels) / rng.choice([16, 20, 24, 32])
        values = rng.uniform(0.1, 10) * h**order * (1 + rng.uniform(-5, 5) * h**correction)
        hits += covers(fit_rate(h, values), order)
        # Negative control: a width from the shift when one level is left out, unscaled.
        x, y = np.log(h), np.log(values)
        slope, shorter = np.polyfit(x, y, 1)[0], np.polyfit(x[1:], y[1:], 1)[0]
        plain += abs(slope - order) <= abs(slope - shorter)
    assert not undercovers(hits, trials), f"coverage {hits / trials}"
    assert undercovers(plain, trials), f"coverage of the control {plain / trials}"
