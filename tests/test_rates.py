"""Signed orders, windows, verdicts and errors of `fit_rate`, each with a negative control."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradconv.bootstrap import estimate
from gradconv.errors import InputError
from gradconv.rates import fit_rate
from gradconv.verdicts import STALL_BAND

H = 2.0 ** -np.arange(4, 10)
LEVEL = np.arange(6)


def halving(levels: int, coarsest: float = 1 / 16) -> np.ndarray:
    return coarsest * 2.0 ** -np.arange(levels)


@pytest.mark.parametrize("order", [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0])
def test_power_law_has_its_signed_order_and_constant(order: float) -> None:
    rate = fit_rate(H, 3.0 * H**order)
    assert rate.order == pytest.approx(order, abs=1e-10)
    assert rate.coefficient == pytest.approx(3.0, rel=1e-9)
    assert rate.window == (0, 5)
    assert rate.verdict == ("converges" if order > 0 else "diverges")
    assert rate.statistical == 0.0
    # Negative control: an order without its sign fails the same comparison for growth.
    assert (abs(rate.order) == pytest.approx(order, abs=1e-10)) == (order > 0)


def test_doubling_diverges() -> None:
    rate = fit_rate([1 / 4, 1 / 8, 1 / 16], [1, 2, 4])
    assert rate.order == pytest.approx(-1.0)
    assert rate.interval[1] < 0
    assert rate.verdict == "diverges"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (np.ones(6), "stalls"),
        (1 + H, "stalls"),
        (1 + 5 * H, "stalls"),
        (0.3 + H**2, "stalls"),
        (H**0.05, "stalls"),
        (H**2 * np.log(1 / H), "converges"),
        (H**2 * (1 - 3 * H + 5 * H**2), "converges"),
        (1 / H * (1 + 3 * H), "diverges"),
        (H**2 * (1 + 0.5 * (-1.0) ** LEVEL), "undecided"),
        (np.zeros(6), "exact"),
    ],
)
def test_verdict_of_exact_gaps(values: np.ndarray, verdict: str) -> None:
    assert fit_rate(H, values).verdict == verdict


def test_logarithm_does_not_converge() -> None:
    assert fit_rate(H, np.log(1 / H)).verdict != "converges"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (1 + 5 * H, "bounded"),
        (H, "vanishes"),
        (1 / H, "grows"),
        (np.zeros(6), "vanishes"),
        ([1, 2, 1, 2, 1, 2], "undecided"),
    ],
)
def test_verdict_of_level_norms(values: Any, verdict: str) -> None:
    assert fit_rate(H, values, kind="level").verdict == verdict


@pytest.mark.parametrize("values", [[1, 2, 1, 2, 1], [1, 2, 1], [3, 1, 3, 1, 3, 1, 3]])
def test_oscillation_is_named(values: list[float]) -> None:
    rate = fit_rate(halving(len(values)), values)
    assert rate.verdict == "undecided"
    assert "oscillation" in rate.reason


@pytest.mark.parametrize("weight", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("prefactor", [0.0, 1.0, -0.5])
def test_exponential_decay_is_faster_than_any_power(weight: float, prefactor: float) -> None:
    h = halving(7, 1 / 4)
    rate = fit_rate(h, h**prefactor * np.exp(-weight / h), floor=1e-15)
    assert rate.verdict == "converges"
    assert rate.order == np.inf
    assert "faster than any power" in rate.reason
    growing = fit_rate(h, h**prefactor * np.exp(weight / h))
    assert growing.verdict == "diverges"
    assert growing.order == -np.inf


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("bend", [1.0, 30.0, 300.0])
def test_onset_of_an_algebraic_order_is_not_exponential(order: int, bend: float) -> None:
    assert np.isfinite(fit_rate(H, (H**2 / (1 + bend * H**2)) ** (order / 2)).order)


def test_order_drifting_towards_divergence_is_undecided() -> None:
    h = halving(6)
    for growing in (1e-7, 3e-7, 1e-6):
        assert fit_rate(h, h**2 + growing / h).verdict == "undecided"
    assert fit_rate(halving(14), halving(14) ** 2 + 1e-5 / halving(14)).verdict == "diverges"
    # Negative control: the same sequence without the growing part converges.
    assert fit_rate(h, h**2).verdict == "converges"


@pytest.mark.parametrize("a", [-3.0, -1.0, 1.0, 3.0])
@pytest.mark.parametrize("b", [-5.0, 0.0, 5.0])
def test_curved_sequence_is_within_two_percent_and_covered(a: float, b: float) -> None:
    h = halving(7)
    rate = fit_rate(h, 0.7 * h**2 * (1 + a * h + b * h**2))
    assert rate.order == pytest.approx(2.0, rel=0.02)
    assert rate.interval[0] <= 2.0 <= rate.interval[1]
    assert rate.window[1] == 6
    # Negative control: the plain fit through all levels with its residual-free zero width misses.
    plain = np.polyfit(np.log(h), np.log(h**2 * (1 + a * h + b * h**2)), 1)[0]
    assert abs(plain - 2.0) > 1e-4


def test_preasymptotic_levels_are_dropped_and_named() -> None:
    h = halving(8)
    rate = fit_rate(h, h**2 * (1 + 20 * h))
    assert rate.window[0] > 0
    assert "pre-asymptotic" in rate.reason
    everything = np.polyfit(np.log(h), np.log(h**2 * (1 + 20 * h)), 1)[0]
    assert abs(rate.order - 2) < abs(everything - 2) / 3


def test_rounding_floor_is_dropped_and_named() -> None:
    values = np.maximum(H**4, 1e-8)
    rate = fit_rate(H, values, floor=1e-8)
    assert rate.window == (0, 2)
    assert "levels 3 to 5 left out at or past the rounding floor" in rate.reason
    assert rate.interval[0] <= 4.0 <= rate.interval[1]
    assert np.all(np.isnan(rate.pairwise[2:]))
    assert np.allclose(rate.pairwise[:2], 4.0)
    # Negative control: without the floor the levelled-off end spoils the order.
    blind = fit_rate(H, values)
    assert abs(blind.order - 4) > 1


def test_two_levels_above_the_floor_are_too_few() -> None:
    rate = fit_rate(H, [1, 0.25, 0, 0, 0, 0], floor=0.05)
    assert rate.verdict == "undecided"
    assert "fewer than 3" in rate.reason


@pytest.mark.parametrize("values", [[1, 1e-5, 0, 0, 0, 0], [1e-3, 0, 0, 0, 0, 0]])
def test_a_fall_to_the_rounding_floor_is_faster_than_algebraic(values: list[float]) -> None:
    rate = fit_rate(H, values, floor=1e-15)
    assert (rate.verdict, rate.order) == ("converges", np.inf)
    assert "faster than any power of h" in rate.reason
    slow = fit_rate(H, values, floor=5e-4)  # negative control: a floor that explains nothing
    assert slow.verdict == "undecided"


def test_vector_paths_lose_levels_at_the_sampling_floor() -> None:
    rng = np.random.default_rng(3)
    h = halving(8, 1.0)
    noise = rng.normal(size=(64, 8, 3))
    mean = np.array([1.0, 0.5, 0.0])
    rate = fit_rate(h, paths=h[:, None] ** 2 * mean + 0.2 * np.sqrt(h)[:, None] * noise)
    assert "sampling floor" in rate.reason
    assert rate.window[1] < 7
    assert rate.interval[0] <= 2.0 <= rate.interval[1]
    # Negative control: the norm of the mean path, not debiased, follows the noise at the end.
    plain = np.linalg.norm(
        h[:, None] ** 2 * mean + 0.2 * np.sqrt(h)[:, None] * noise.mean(0), axis=1
    )
    assert np.log2(plain[-2] / plain[-1]) < 1.5
    # Noise alone: no mean can be seen, and none is claimed.
    assert fit_rate(h, paths=noise).verdict == "undecided"
    assert {fit_rate(h, paths=rng.normal(size=(16, 8, 2))).verdict for _ in range(100)} == {
        "undecided"
    }


def test_estimate_matches_repetition() -> None:
    rng = np.random.default_rng(0)
    scalar = np.array([estimate(rng.chisquare(3, (50, 4)), np.ones(4), 0.5) for _ in range(800)])
    assert scalar[:, 0].mean(0) == pytest.approx(2.0, rel=0.01)
    assert scalar[:, 1].mean(0) == pytest.approx(scalar[:, 0].std(0), rel=0.1)
    mean = np.array([[0.6, 0.0, 0.8]])
    vector = np.array([estimate(mean + rng.normal(size=(50, 1, 3))) for _ in range(800)])
    assert np.mean(vector[:, 0] ** 2) == pytest.approx(1.0, abs=0.03)
    assert vector[:, 1].mean() == pytest.approx(vector[:, 0].std(), rel=0.1)
    # Negative control: the plain norm of the mean is biased by the sampling variance 3/50.
    plain = np.sum((mean + rng.normal(size=(800, 3)) / np.sqrt(50)) ** 2, axis=1)
    assert plain.mean() > 1.03


def test_standard_errors_alone_give_a_normal_interval() -> None:
    exact = H**1.0
    rate = fit_rate(H, exact, stderr=0.1 * exact)
    # Ordinary least squares: var(slope) = sigma^2 / sum (x - mean)^2.
    x = np.log(H)
    assert rate.statistical == pytest.approx(
        1.95996 * 0.1 / np.sqrt(np.sum((x - x.mean()) ** 2)), rel=1e-3
    )
    assert fit_rate(H, exact, stderr=0.3 * exact).verdict == "undecided"


def test_paths_in_proportion_have_an_order_without_error() -> None:
    size = np.random.default_rng(1).lognormal(size=(20, 1))
    rate = fit_rate(H, paths=size * H**2, power=0.5)
    assert rate.order == pytest.approx(1.0)
    assert rate.statistical < 1e-9


def test_same_seed_same_result_and_other_seed_other_interval() -> None:
    paths = np.random.default_rng(2).chisquare(3, (16, 6)) * H**2
    first, again, other = (fit_rate(H, paths=paths, seed=seed) for seed in (4, 4, 5))
    assert first.interval == again.interval
    assert first.order == other.order
    assert first.interval != other.interval


def test_two_paths_never_decide() -> None:
    paths = np.random.default_rng(8).chisquare(3, (2, 6)) * H**2
    assert fit_rate(H, paths=paths).verdict == "undecided"


PAIRS = st.lists(st.floats(-3, 3), min_size=3, max_size=7)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_order_is_free_of_units(pairwise: list[float], scale: float, unit: float) -> None:
    logs = -np.cumsum([0.0, *pairwise]) * np.log(2)
    values, h = np.exp(logs), halving(len(logs))
    rate = fit_rate(h, values)
    scaled = fit_rate(unit * h, scale * values)
    assert scaled.order == pytest.approx(rate.order, abs=1e-6)
    assert scaled.verdict == rate.verdict


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_inverse_values_flip_the_sign(pairwise: list[float]) -> None:
    values = np.exp(-np.cumsum([0.0, *pairwise]) * np.log(2))
    h = halving(len(values))
    rate, inverse = fit_rate(h, values), fit_rate(h, 1 / values)
    assert inverse.order == pytest.approx(-rate.order, abs=1e-6)
    if "ever faster" in rate.reason + inverse.reason:
        return  # a zero of the values may explain rising orders, but nothing steeper divergence
    flipped = {"converges": "diverges", "diverges": "converges"}
    assert inverse.verdict == flipped.get(rate.verdict, rate.verdict)


GOOD = [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"h": [1, 2, 3]}, "`h`"),
        ({"h": [1, 0.5, 0.5]}, "`h`"),
        ({"h": [1, 0.5, 0]}, "`h`"),
        ({"h": [np.inf, 1, 0.5]}, "`h`"),
        ({"h": [1, 0.5], "values": [1, 1]}, "`h`"),
        ({"h": "fine"}, "`h`"),
        ({"values": [1, 2]}, "`values`"),
        ({"values": [1, np.nan, 2]}, "`values`"),
        ({"values": [1, np.inf, 2]}, "`values`"),
        ({"values": [1, -1, 2]}, "`values`"),
        ({"values": [1, 1j, 2]}, "`values`"),
        ({"values": None}, "`paths`"),
        ({"paths": np.ones((4, 3))}, "`paths`"),
        ({"values": None, "paths": np.ones((1, 3))}, "`paths`"),
        ({"values": None, "paths": np.ones((4, 2))}, "`paths`"),
        ({"values": None, "paths": -np.ones((4, 3))}, "`paths`"),
        ({"values": None, "paths": np.full((4, 3, 2), np.nan)}, "`paths`"),
        ({"values": None, "paths": np.ones(3)}, "`paths`"),
        ({"values": None, "paths": np.ones((4, 3)), "offset": [-1, 0, 0]}, "`offset`"),
        ({"values": None, "paths": np.ones((4, 3)), "power": 0}, "`power`"),
        ({"values": None, "paths": np.ones((4, 3, 2)), "power": 0.5}, "`power`"),
        ({"values": None, "paths": np.ones((4, 3)), "stderr": GOOD}, "`stderr`"),
        ({"power": 0.5}, "`power`"),
        ({"stderr": [1, -1, 1]}, "`stderr`"),
        ({"floor": -1}, "`floor`"),
        ({"floor": [1, 2]}, "`floor`"),
        ({"kind": "norm"}, "`kind`"),
        ({"confidence": 1.0}, "`confidence`"),
        ({"confidence": np.nan}, "`confidence`"),
        ({"resamples": 10}, "`resamples`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_bad_input_names_argument_and_value(change: dict[str, Any], name: str) -> None:
    arguments: dict[str, Any] = {"h": GOOD, "values": GOOD} | change
    with pytest.raises(InputError, match=f"{name}.*; got "):
        fit_rate(**arguments)


def test_import_is_light() -> None:
    code = (
        "import sys, gradconv.rates;"
        "print({'torch', 'xarray', 'sympy', 'matplotlib', 'scipy.stats'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_stall_band_is_small() -> None:
    assert fit_rate(H, H ** (1.5 * STALL_BAND)).verdict == "converges"
    assert fit_rate(H, H ** (0.5 * STALL_BAND)).verdict == "stalls"


ZERO_CROSSINGS = [
    (np.abs(0.001 - 2.0 ** -np.arange(3, 11)), 2.0 ** -np.arange(3, 11)),
    (np.abs(halving(8) - 1e-6 / halving(8)), halving(8)),
    (np.abs(halving(6) ** 1.5 - 1e-4), halving(6)),
]


@pytest.mark.parametrize("position", range(len(ZERO_CROSSINGS)))
def test_values_that_pass_through_zero_do_not_converge(position: int) -> None:
    """Orders that shoot up once are no decay faster than algebraic."""
    values, h = ZERO_CROSSINGS[position]
    rate = fit_rate(h, values)
    assert rate.verdict != "converges" or abs(rate.order) < 1.2, (rate, rate.pairwise)
    assert not np.isinf(rate.order)


@pytest.mark.parametrize("share", [0.6, 0.7, 0.82])
@pytest.mark.parametrize("levels", [5, 6, 8])
def test_a_limit_that_rules_the_finest_value_is_no_convergence(share: float, levels: int) -> None:
    h = halving(levels)
    values = h + share / (1 - share) * h[-1]
    assert fit_rate(h, values).verdict in ("undecided", "stalls")
    assert fit_rate(h, h**0.4).verdict == "converges"  # negative control: a slow power law


@pytest.mark.parametrize("ratio", [2.0, 3.0, 10.0])
def test_a_fall_to_the_floor_is_measured_by_its_own_ratio(ratio: float) -> None:
    """Order 5 is no decay faster than every power, however meshes are refined."""
    h = ratio ** -np.arange(3.0)
    values = h**5
    rate = fit_rate(h, values, floor=0.5 * values[-1] * 4.0)
    assert rate.order != np.inf
    steep = fit_rate(h, [1.0, 1e-30, 1e-31], floor=1e-20)
    assert steep.order == np.inf
    assert steep.interval[0] == pytest.approx(np.log(1e20) / np.log(ratio))
