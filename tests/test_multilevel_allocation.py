"""Allocations, control weights and probabilities against brute force and simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from gradconv.multilevel import CostModel, Fixed, Moments, Optimal, Randomised
from gradconv.multilevel.allocation import TermMoments, levels_above
from gradconv.multilevel.moments import MomentSums, moments_of
from gradconv.multilevel.optimum import (
    control_weights,
    optimal_counts,
    randomised_probabilities,
)

positive = st.floats(1e-3, 1e3)
levels_of = st.integers(1, 5).flatmap(
    lambda n: st.tuples(*[st.lists(positive, min_size=n, max_size=n)] * 2)
)


def moments(rho: float = 0.9, levels: int = 4) -> Moments:
    """Falling variances of the difference, from fine and coarse ones with correlation `rho`."""
    fine = np.array([4.0, 2.0, 1.5, 1.2, 1.1])[:levels]
    coarse = np.append(0.0, fine[:-1])
    cross = np.append(0.0, rho * np.sqrt(fine[1:] * coarse[1:]))
    means = np.linspace(1.0, 1.3, levels) ** 2
    return Moments(fine, coarse, cross, 0.01 * means, 100, means)


def terms(m: Moments, theta: Any = None) -> TermMoments:
    weights = np.append(0.0, np.ones(len(m) - 1)) if theta is None else np.asarray(theta)
    return TermMoments.weighted(m, weights)


COSTS = np.array([1.0, 1.25, 5.0, 20.0]) / 16


@given(levels_of)
def test_optimal_counts_meet_target_and_budget(drawn: tuple[list[float], list[float]]) -> None:
    v, c = (np.array(x) for x in drawn)
    counts = optimal_counts(v, c, variance=0.01)
    assert np.sum(v / counts) == pytest.approx(0.01)
    counts = optimal_counts(v, c, budget=7.0)
    assert np.sum(c * counts) == pytest.approx(7.0)
    # N_l ∝ (V_l/C_l)^{1/2}
    ratio = counts / np.sqrt(v / c)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_no_counts_are_cheaper() -> None:
    v, c = np.array([3.0, 0.5, 0.2, 0.01]), COSTS
    best = optimal_counts(v, c, variance=0.02)
    found = minimize(
        lambda x: np.sum(np.exp(x) * c),
        np.zeros(4),
        constraints={"type": "eq", "fun": lambda x: np.sum(v / np.exp(x)) - 0.02},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.success
    assert np.sum(best * c) == pytest.approx(found.fun, rel=1e-5)


def test_the_papers_step_costs_37() -> None:
    gradient = np.asarray(CostModel.work_units(4, 2).gradient)
    costs = gradient + np.append(0.0, gradient[:-1])
    assert Fixed((128, 64, 32, 16)).expected_cost(None, costs) == 37.0
    assert Fixed((16, 32, 64, 128)).expected_cost(None, costs) != 37.0


@pytest.mark.parametrize(
    "allocation",
    [
        Fixed((9, 5, 3, 2)),
        Optimal(variance=0.3),
        Optimal(budget=3.0),
        Optimal(budget=0.4),
        Optimal(variance=0.9, rounding="random"),
        Randomised(3),
        Randomised(5, (0.4, 0.3, 0.2, 0.1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("theta", [None, (0.0, 0.8, 0.6, 0.9), (0.0, 1.0, 0.0, 0.7)])
def test_predictions_against_simulated_sums(allocation: Any, theta: Any) -> None:
    """Scalar Gaussian gradients with these moments: no torch, and not the estimator."""
    m = moments()
    weights = np.append(0.0, np.ones(3)) if theta is None else np.asarray(theta)
    seen, above = terms(m, weights), levels_above(weights)
    rng = np.random.default_rng(3)
    mean_fine = np.sqrt(m.fine_mean_square)
    sums, work = [], []
    for _ in range(5000):
        allotment = allocation.allot(seen, COSTS, rng)
        total = 0.0
        for level, (n, factor) in enumerate(zip(allotment.counts, allotment.factors, strict=True)):
            if n:
                spread = np.sqrt(m.variance(weights)[level] * n)
                coarse = mean_fine[level - 1] if level else 0.0
                mean = n * (mean_fine[level] - weights[level] * coarse)
                total += above[level] * factor * (mean + spread * rng.standard_normal())
        sums.append(total)
        work.append(np.sum(np.asarray(allotment.counts) * COSTS * seen.active))
    # the moments' mean gap is not that of the means above: the terms' own enter the prediction
    squares = (above * (mean_fine - weights * np.append(0.0, mean_fine[:-1]))) ** 2
    exact = TermMoments(seen.variances, squares, float(mean_fine[-1] ** 2), seen.active)
    if not (isinstance(allocation, Randomised) and allocation.probabilities is None):
        predicted = allocation.predicted_variance(exact, COSTS)
        assert np.var(sums) == pytest.approx(predicted, rel=0.08)
    assert np.mean(sums) == pytest.approx(mean_fine[-1], abs=5 * np.std(sums) / 70)
    assert np.mean(work) == pytest.approx(allocation.expected_cost(seen, COSTS), rel=0.03)


@pytest.mark.parametrize("rho", [0.8, 0.97])
def test_control_weights_against_a_search(rho: float) -> None:
    m = moments(rho=rho, levels=3)
    gradient = np.array([1.0, 4.0, 16.0])
    costs = gradient + np.append(0.0, gradient[:-1])
    found = control_weights(m, costs, gradient)

    def product(t1: float, t2: float) -> float:
        """Variance × cost of the best allocation, a pass left out where its weight is 0."""
        theta = np.array([0.0, t1, t2])
        spread = m.variance(theta) * levels_above(theta) ** 2
        price = np.where(theta != 0, costs, gradient)
        return float(np.sum(np.sqrt(spread * price)) ** 2)

    grid = np.linspace(-0.5, 1.5, 201)
    least = min(product(a, b) for a in grid for b in grid)
    assert product(*found.theta[1:]) <= least * (1 + 1e-9)
    assert found.gain == pytest.approx(product(1.0, 1.0) / product(*found.theta[1:]))
    assert found.gain > 1.0
    assert (found.theta[2] > 0.1) == (rho > 0.9)  # the levels are worth having, or not


def test_sums_are_the_sample_moments() -> None:
    """Running moments against numpy's covariances, far from zero mean."""
    rng = np.random.default_rng(0)
    fine = [rng.standard_normal((9, 5)) + 1e4 for _ in range(2)]
    coarse = [np.zeros((9, 5)), 0.5 * fine[1] + rng.standard_normal((9, 5)) + 1e4]
    sums = [MomentSums(), MomentSums()]
    for level in range(2):
        for i in range(9):
            sums[level].add(fine[level][i], coarse[level][i] if level else None)
    found = moments_of(sums)
    for level in range(2):
        gap = fine[level] - coarse[level]
        joint = [np.cov(fine[level][:, k], coarse[level][:, k]) for k in range(5)]
        assert found.fine[level] == pytest.approx(sum(c[0, 0] for c in joint), rel=1e-9)
        assert found.coarse[level] == pytest.approx(sum(c[1, 1] for c in joint), rel=1e-9)
        assert found.cross[level] == pytest.approx(sum(c[0, 1] for c in joint), rel=1e-9)
        assert found.difference[level] == pytest.approx(gap.var(0, ddof=1).sum(), rel=1e-9)
        debiased = np.sum(gap.mean(0) ** 2) - gap.var(0, ddof=1).sum() / 9
        assert found.mean_square[level] == pytest.approx(debiased, rel=1e-9)
        debiased = np.sum(fine[level].mean(0) ** 2) - fine[level].var(0, ddof=1).sum() / 9
        assert found.fine_mean_square[level] == pytest.approx(debiased, rel=1e-9)


def test_uncorrelated_levels_are_left_out() -> None:
    gradient = np.asarray(CostModel.work_units(4, 2).gradient)
    costs = gradient + np.append(0.0, gradient[:-1])
    found = control_weights(moments(rho=0.0), costs, gradient)
    np.testing.assert_array_equal(found.theta, 0.0)
    perfect = control_weights(moments(rho=0.999), costs, gradient)
    assert np.all(perfect.theta[1:] > 0.5)
    assert perfect.gain >= 1.0


def test_probabilities_are_the_best() -> None:
    second, c = np.array([3.0, 0.5, 0.2, 0.01]), COSTS
    p = randomised_probabilities(second, c)
    assert p.sum() == pytest.approx(1.0)

    def product(q: np.ndarray) -> float:
        return float(np.sum(second / q) * np.sum(q * c))

    rng = np.random.default_rng(0)
    others = rng.dirichlet(np.ones(4), 20_000)
    assert product(p) <= min(product(np.maximum(q, 1e-9)) for q in others)


def test_a_weight_of_zero_cuts_the_sum() -> None:
    seen = terms(moments(), (0.0, 1.0, 0.0, 0.7))
    np.testing.assert_array_equal(seen.active, [False, False, True, True])
    counts = Optimal(budget=3.0).allot(seen, COSTS, np.random.default_rng(0)).counts
    assert counts[:2] == (0, 0)
    assert min(counts[2:]) >= 0
