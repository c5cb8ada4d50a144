"""Statistics of a diagnosis against known laws: table, components, orders, forecasts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from gradconv.bootstrap import estimate
from gradconv.errors import InputError
from gradconv.multilevel.diagnosis.complexity import bias_condition, compare, complexity
from gradconv.multilevel.diagnosis.components import scan
from gradconv.multilevel.diagnosis.error_cost import errors_for, forecasts
from gradconv.multilevel.diagnosis.level_table import LevelTable, products, tables
from gradconv.multilevel.diagnosis.repetition import variance_interval
from gradconv.multilevel.diagnosis.sample_gradients import SampleGradients
from gradconv.multilevel.diagnosis.term_orders import cost_order, orders_of
from gradconv.multilevel.moments import Moments
from gradconv.rates import Rate

LEVELS = 5
H = 2.0 ** -np.arange(2, 2 + LEVELS)


def gaussian(
    seed: int,
    samples: int = 64,
    size: int = 3,
    alpha: float = 1.0,
    beta: float = 2.0,
    shift: float = 0.0,
    levels: int = LEVELS,
) -> SampleGradients:
    """g_l = Z + h^α e + h^(β/2) W with Gaussian vectors Z, W of a sample; unit covariances.

    The difference has mean (1 − 2^α) h^α e and covariance (1 − 2^(β/2))² h^β. A `shift` is added
    to all coarse gradients: the sum over levels then does not telescope.
    """
    generator = np.random.default_rng(seed)
    e = np.ones(size) / np.sqrt(size)
    h = 2.0 ** -np.arange(2, 2 + levels)
    fine, coarse = [], []
    for level in range(levels):
        z, w = generator.standard_normal((2, samples, size))
        made = [z + h[k] ** alpha * e + h[k] ** (beta / 2) * w for k in (level, level - 1)]
        fine.append(made[0])
        coarse.append(made[1] + shift if level else None)
    columns = {"a.weight": slice(0, 2), "b.bias": slice(2, size)}
    shapes = {"a.weight": (1, 2), "b.bias": (size - 2,)}
    return SampleGradients(tuple(fine), tuple(coarse), columns, shapes, 2.0**-52)


def exact_rate(order: float, half: float = 0.0) -> Rate:
    ends = (order - half, order + half)
    return Rate(order, ends, 1.0, (0, 3), np.empty(0), "", "", half, 0.0, 0.95)


def test_norms_are_those_of_the_package() -> None:
    gradients = gaussian(0)
    whole = tables(gradients)[0]
    for level in range(1, LEVELS):
        difference = gradients.fine[level] - gradients.coarse[level]
        for which, vectors in enumerate(
            (gradients.fine[level], gradients.coarse[level], difference)
        ):
            value, error = estimate(vectors[:, None])
            assert whole.mean(which)[0][level] == pytest.approx(value[0], rel=1e-12)
            assert whole.mean(which)[1][level] == pytest.approx(error[0], rel=1e-12)
            covariance = np.cov(vectors.T)
            assert whole.variance(which)[0][level] == pytest.approx(np.trace(covariance), rel=1e-12)


def test_norms_of_many_samples_are_nearly_those_of_the_package() -> None:
    """Past 256 samples, products of different samples are taken within batches."""
    gradients = gaussian(30, 700, 5, alpha=3.0)
    whole = tables(gradients)[0]
    for level in range(1, LEVELS):
        difference = gradients.fine[level] - gradients.coarse[level]
        value, error = estimate(difference[:, None])
        assert whole.mean(2)[0][level] == pytest.approx(value[0], rel=1e-9)
        found = whole.mean(2)[1][level]
        assert found == error[0] or found == pytest.approx(error[0], rel=0.05)


def test_layers_add_up_to_the_whole() -> None:
    whole, a, b = tables(gaussian(1))
    assert (a.name, b.name, a.size + b.size) == ("a", "b", whole.size)
    for which in range(3):
        total = a.variance(which)[0] + b.variance(which)[0]
        np.testing.assert_allclose(whole.variance(which)[0], total, rtol=1e-12)


def test_pieces_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = gaussian(2)
    once = tables(gradients)[0]
    costs = np.ones(LEVELS)
    found = scan(gradients, costs, 1.0)
    monkeypatch.setattr("gradconv.multilevel.diagnosis.sample_gradients.COLUMNS_BYTES", 8 * 64)
    again = tables(gradients)[0]
    np.testing.assert_allclose(again.variance(2)[0], once.variance(2)[0], rtol=1e-12)
    np.testing.assert_allclose(again.check, once.check, rtol=1e-12)
    in_pieces = scan(gradients, costs, 1.0)
    assert in_pieces.worst.name == found.worst.name
    np.testing.assert_allclose(in_pieces.check, found.check, rtol=1e-12)


def test_exact_values_of_gaussian_vectors() -> None:
    """Mean, variance and kurtosis (1 + 2/p) within 4 standard errors of the truth."""
    size, samples = 4, 4000
    whole = tables(gaussian(3, samples, size))[0]
    variance, error = whole.variance(2)
    exact = size * (1.0 - 2.0) ** 2 * H**2
    assert np.all(np.abs(variance - exact)[1:] < 4 * error[1:])
    mean, error = whole.mean(2)
    assert np.all(np.abs(mean - H)[1:] < 4 * error[1:])  # (2 − 1) h
    np.testing.assert_allclose(whole.kurtosis[1:], 1.0 + 2.0 / size, rtol=0.06)
    moments = whole.moments
    np.testing.assert_allclose(moments.difference[1:], variance[1:], rtol=1e-9)
    np.testing.assert_allclose(moments.cross[1:], size * (1 + 2 * H[1:] ** 2), rtol=0.1)


def test_moments_of_level_0_are_those_of_the_gradient_itself() -> None:
    moments = tables(gaussian(4))[0].moments
    assert moments.coarse[0] == moments.cross[0] == 0.0
    assert moments.difference[0] == moments.fine[0]


def test_orders_are_found_and_keep_their_sign() -> None:
    found = orders_of(tables(gaussian(5, 512, alpha=1.0, beta=3.0))[0], H, 0.95)
    assert found.beta.interval[0] <= 3.0 <= found.beta.interval[1]
    growing = orders_of(tables(gaussian(6, 512, alpha=-1.0, beta=-1.0))[0], H, 0.95)
    assert growing.beta.interval[1] < 0.0
    assert growing.alpha.interval[1] < 0.0
    # a wrong scaling: an interval of β must not hold β + 1
    assert not found.beta.interval[0] <= 4.0 <= found.beta.interval[1]


def test_interval_of_beta_covers() -> None:
    """Coverage of β at 0.95 over 100 diagnoses of 32 samples; false alarm of this test 1e-4."""
    inside = 0
    for seed in range(100):
        found = orders_of(tables(gaussian(1000 + seed, 32, beta=2.0))[0], H, 0.95)
        inside += found.beta.interval[0] <= 2.0 <= found.beta.interval[1]
    assert binomtest(inside, 100, 0.95, alternative="less").pvalue > 1e-4


def test_too_few_levels_leave_orders_undecided() -> None:
    gradients = gaussian(7, levels=3)
    found = orders_of(tables(gradients)[0], H[:3], 0.95)
    assert found.alpha.verdict == found.beta.verdict == "undecided"
    assert np.isnan(found.beta.order)
    assert "needs 3" in found.beta.reason


def test_a_gap_that_sampling_hides_is_said_to_be() -> None:
    found = orders_of(tables(gaussian(17, 16, 3, alpha=20.0))[0], H, 0.95)
    assert np.isnan(found.alpha.order)
    assert "sampling floor" in found.alpha.reason
    assert "rounding" not in found.alpha.reason


def test_check_stays_below_its_limit_and_passes_it_when_levels_disagree() -> None:
    """Whole and components, 60 seeds: the false-alarm rates are 2e-5 and 0.0027 at most."""
    costs = np.ones(LEVELS)
    alarms = 0
    for seed in range(60):
        gradients = gaussian(2000 + seed, 32, 10)
        alarms += bool(np.any(scan(gradients, costs, 1.0).check > 1))
        assert not np.any(tables(gradients)[0].check > 1)
    assert binomtest(alarms, 60, 0.0027, alternative="greater").pvalue > 1e-4
    wrong = gaussian(8, 256, 3, shift=0.7)
    table, found = tables(wrong)[0], scan(wrong, costs, 1.0)
    assert np.all(table.check[1:] > 1)
    assert np.all(found.check[1:] > 1)


def test_check_of_components_sees_what_norms_hide() -> None:
    gradients = gaussian(9, 256, 200)
    assert gradients.coarse[2] is not None
    gradients.coarse[2][:, 1] += 0.8
    found = scan(gradients, np.ones(LEVELS), 1.0)
    assert found.check[2] > 1
    assert found.check_names[2] == "a.weight[0,1]"
    assert tables(gradients)[0].check[2] < 1
    assert not np.any(np.delete(found.check, [0, 2]) > 1)


def test_rounding_is_no_inconsistency() -> None:
    gradients = gaussian(10)
    still = [np.ones_like(g) for g in gradients.fine]
    moved = [None, *(g * (1 + 1e-15) for g in still[1:])]
    same = SampleGradients(tuple(still), tuple(moved), gradients.columns, gradients.shapes, 2.2e-16)
    whole = tables(same)[0]
    assert not np.any(whole.check > 1)
    far = [None, *(g * (1 + 1e-9) for g in still[1:])]
    other = SampleGradients(tuple(still), tuple(far), gradients.columns, gradients.shapes, 2.2e-16)
    assert np.all(tables(other)[0].check[1:] > 1)


def test_worst_component_is_the_one_that_gains_least() -> None:
    gradients = gaussian(11, 400, 6)
    generator = np.random.default_rng(0)
    for level in range(1, LEVELS):  # one component whose levels know nothing of each other
        coarse = gradients.coarse[level]
        assert coarse is not None
        coarse[:, 4] = generator.standard_normal(len(coarse))
    costs = 2.0 ** np.arange(LEVELS)
    found = scan(gradients, costs, float(costs[-1]))
    assert found.worst.name == "b.bias[2]"
    assert found.worst.kind == "component"
    assert found.worst.samples == 200
    # V_l = 2, V_0 = V = 1 but for the small parts: the formula by hand
    exact = (np.sqrt(costs[0]) + np.sqrt(2 * costs[1:]).sum()) ** 2 / costs[-1]
    assert found.ratio == pytest.approx(exact, rel=0.15)


def test_the_worst_component_does_not_overstate_itself() -> None:
    """Of 60 components of one law the worst looks 1.5 times as bad on the samples it is chosen on.

    On the others its variance is that of any: ratio 1 within 4 standard errors over 30 seeds.
    """
    chosen, described = [], []
    costs = np.zeros(LEVELS)
    costs[1] = 1.0  # the difference of level 1 alone decides
    for seed in range(30):
        gradients = gaussian(3000 + seed, 16, 60)
        found = scan(gradients, costs, 1.0)
        exact = H[1] ** 2
        described.append(float(found.worst.variance(2)[0][1]) / exact)
        index = next(i for i in range(60) if gradients.component(i) == found.worst.name)
        half = slice(0, 8)
        again = products(gradients, [slice(index, index + 1)], half)
        chosen.append(float(again[1].variances[2]) / exact)
    error = np.std(described, ddof=1) / np.sqrt(len(described))
    assert abs(np.mean(described) - 1.0) < 4 * error
    assert np.mean(chosen) - 1.0 > 4 * error


def test_products_of_rows_are_those_of_the_rows() -> None:
    gradients = gaussian(12)
    half = products(gradients, [slice(0, 1)], slice(0, 20))
    difference = gradients.fine[1][:20, 0] - gradients.coarse[1][:20, 0]
    table = LevelTable("x", "component", 1, tuple(half), 2.0**-52)
    assert table.variance(2)[0][1] == pytest.approx(np.var(difference, ddof=1), rel=1e-12)


@pytest.mark.parametrize(
    ("beta", "cases"),
    [((2.5, 3.0), (">",)), ((0.5, 1.5), ("<",)), ((1.5, 2.5), (">", "=", "<")), ((2, 2), ("=",))],
)
def test_cases_of_the_theorem(beta: tuple[float, float], cases: tuple[str, ...]) -> None:
    assert compare(beta, (2.0, 2.0)) == cases


def test_bias_condition_and_exponent() -> None:
    gamma = exact_rate(2.0)
    assert bias_condition(exact_rate(1.0), exact_rate(3.0), gamma) == "holds"
    assert bias_condition(exact_rate(0.9), exact_rate(3.0), gamma) == "fails"
    assert bias_condition(exact_rate(1.0, 0.2), exact_rate(3.0), gamma) == "undecided"
    ones = np.ones(4)
    moments = Moments(ones, 0 * ones, 0 * ones, ones, 9, ones)
    found = complexity(exact_rate(0.5), exact_rate(1.0), gamma, moments, ones, ones)
    assert found.cases == ("<",)
    assert found.exponent == pytest.approx((4.0, 4.0))
    lost = complexity(exact_rate(-1.0), exact_rate(-1.0), gamma, moments, ones, ones)
    assert np.isnan(lost.exponent).all()
    assert "does not converge" in lost.sentence
    open_ = complexity(exact_rate(1.0), exact_rate(2.0, 0.5), gamma, moments, ones, ones)
    assert open_.cases == (">", "=", "<")
    assert "undecided between" in open_.sentence
    assert open_.exponent == pytest.approx((2.0, 2.5))


def test_cost_of_the_finest_mesh_and_where_to_start() -> None:
    fine = np.ones(4)
    difference = np.array([1.0, 1.8, 0.01, 0.001])  # level 1 gains nothing from level 0
    cross = (fine + fine - difference) / 2
    moments = Moments(fine, np.append(0, fine[1:]), np.append(0, cross[1:]), fine, 9, fine)
    single = 2.0 ** np.arange(4)
    costs = single + np.append(0, single[:-1])
    found = complexity(exact_rate(1), exact_rate(1), exact_rate(1), moments, costs, single)
    assert found.single == pytest.approx(8.0)
    roots = np.sqrt(difference * costs)
    assert found.fixed == pytest.approx(roots.sum() ** 2)
    assert found.start == 1
    assert found.best == pytest.approx((np.sqrt(2.0) + roots[2:].sum()) ** 2)


def test_gamma_has_its_sign() -> None:
    rate = cost_order(H, H**-2.0, 0 * H, 0.95)
    assert rate.order == pytest.approx(2.0)
    assert rate.interval[0] <= rate.interval[1]


def test_forecasts_meet_their_targets_at_the_optimal_cost() -> None:
    whole = tables(gaussian(13, 2000, 3))[0]
    single = 2.0 ** np.arange(LEVELS)
    costs = single + np.append(0, single[:-1])
    errors = errors_for(whole, [1e-3])
    found = {f.estimator: f for f in forecasts(whole, errors, costs, single)}
    variances = whole.moments.difference
    target = (1e-3 * errors.scale) ** 2
    assert found["single"].cost == pytest.approx(whole.moments.fine[-1] / target * 16, rel=1e-3)
    optimum = np.sqrt(variances * costs).sum() ** 2 / target
    assert found["multilevel"].cost == pytest.approx(optimum, rel=1e-3)
    assert all(0.99 * target < f.variance <= target for f in found.values())
    # the randomised estimator pays for the means of its terms: never less than the sum
    assert found["randomised"].cost > found["multilevel"].cost


def test_errors_are_relative_to_what_is_known() -> None:
    resolved = errors_for(tables(gaussian(14, 64, 3, alpha=-2.0))[0], None)
    assert resolved.relative_to.startswith("norm")
    hidden = errors_for(tables(gaussian(15, 64, 3, alpha=3.0))[0], None)
    assert hidden.relative_to.startswith("standard deviation")
    assert hidden.epsilons == pytest.approx([n**-0.5 for n in (8, 32, 128)], rel=0.05)


def test_variance_interval_covers() -> None:
    """Trace of a covariance of unequal eigenvalues, 16 vectors; false alarm of this test 1e-4."""
    generator = np.random.default_rng(0)
    spread = np.array([1.0, 0.5, 0.2, 0.1])
    inside = 0
    for _ in range(300):
        x = generator.standard_normal((16, 4)) * np.sqrt(spread)
        centred = x - x.mean(axis=0)
        low, high = variance_interval(centred @ centred.T, 0.95)
        inside += low <= spread.sum() <= high
    assert binomtest(inside, 300, 0.95, alternative="less").pvalue > 1e-4


def test_variance_interval_of_a_scalar_is_the_textbook_one() -> None:
    x = np.random.default_rng(1).standard_normal((12, 1))
    centred = x - x.mean(axis=0)
    low, high = variance_interval(centred @ centred.T, 0.9)
    square = float(np.sum(centred**2))
    assert low == pytest.approx(square / chi2.ppf(0.95, 11), rel=1e-9)
    assert high == pytest.approx(square / chi2.ppf(0.05, 11), rel=1e-9)


def test_zero_variance_is_named_with_its_level() -> None:
    gradients = gaussian(16)
    gradients.fine[2][:] = gradients.coarse[2]
    whole = tables(gradients)[0]
    costs = np.ones(LEVELS)
    with pytest.raises(InputError, match="level 2"):
        forecasts(whole, errors_for(whole, None), costs, costs)
