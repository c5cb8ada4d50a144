"""The study of variance at equal cost: forecasts, ratios and their controls, and the kind."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from multilevel_data import LINE, noisy, stencil
from scipy.stats import binomtest

from gradconv.errors import InputError
from gradconv.figures import STYLES
from gradconv.multilevel import Fixed
from gradconv.multilevel.allocation import Allotment
from gradconv.multilevel.diagnosis import equal_cost
from gradconv.multilevel.diagnosis.equal_cost import (
    ESTIMATORS,
    EqualCost,
    at_budget,
    cost_ratio,
    expected_cost,
    measure_equal_cost,
    products,
)
from gradconv.multilevel.diagnosis.error_cost import Forecast, Prices
from gradconv.multilevel.diagnosis.level_table import tables
from gradconv.multilevel.diagnosis.repetition import Measured, variance_interval
from gradconv.multilevel.diagnosis.sample_gradients import SampleGradients, collect
from gradconv.multilevel.evaluator import Evaluator
from gradconv.nn.evaluation import mean_square
from gradconv.studies import KINDS, load_study
from gradconv.studies.kinds import Workplace

KIND = KINDS["equal_cost"]
COSTS = np.array([0.125, 0.25, 0.5, 1.0])  # one dimension, four levels
COUNTS = (16, 8, 4, 2)


def evaluator(**choices: Any) -> Evaluator:
    return Evaluator(stencil(), mean_square, noisy(LINE, **choices))


@lru_cache(maxsize=1)
def prices(samples: int = 200) -> Prices:
    whole = tables(collect(evaluator(), samples, memory=1e9))[0]
    return Prices(whole, COSTS + np.array([0.0, *COSTS[:-1]]), COSTS)


def measured_cost(repetitions: int = 40, samples: int = 300, **choices: Any) -> EqualCost:
    torch.manual_seed(0)
    return measure_equal_cost(
        evaluator(**choices),
        COSTS,
        budgets=(8.0, 16.0),
        counts=COUNTS,
        samples=samples,
        repetitions=repetitions,
    )


# -- forecasts ------------------------------------------------------------------------------------


def test_forecasts_approach_the_law_as_budgets_grow() -> None:
    """Variance × cost is K but for rounding, which is below 1 % at 4096 finest gradients."""
    given = prices()
    law = products(given, COUNTS)
    for name, forecast in at_budget(given, 4096.0, COUNTS, 1.0).items():
        assert forecast.variance * forecast.cost == pytest.approx(law[name], rel=0.01)
        assert forecast.cost == pytest.approx(4096.0, rel=0.01)
        assert forecast.epsilon == pytest.approx(np.sqrt(forecast.variance))
    assert law["optimal"] <= law["fixed"] * (1.0 + 1e-12)


def test_no_other_numbers_beat_the_optimal_ones() -> None:
    given, generator = prices(), np.random.default_rng(0)
    best = products(given, COUNTS)["optimal"]
    for _ in range(200):
        counts = generator.integers(1, 100, size=4)
        assert products(given, counts)["fixed"] >= best * (1.0 - 1e-12)


def test_every_term_has_a_sample_at_a_budget_too_small() -> None:
    found = at_budget(prices(), 0.01, COUNTS, 1.0)
    assert found["single"].counts == (0, 0, 0, 1)
    assert found["optimal"].counts == found["fixed"].counts == (1, 1, 1, 1)
    assert found["randomised"].draws == 1


def test_cost_in_the_unit_of_the_forecast_is_that_of_the_forecast() -> None:
    for forecast in at_budget(prices(), 64.0, COUNTS, 1.0).values():
        assert expected_cost(forecast, COSTS) == pytest.approx(forecast.cost)
        flat = expected_cost(forecast, np.ones(4))  # each gradient costs 1, whatever its mesh
        assert flat > forecast.cost or forecast.estimator == "single"


def test_variance_of_a_draw_is_not_negative() -> None:
    """Of five samples, means that belong to other terms would make it so in some seeds."""
    below = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        fine = tuple(1.0 + 0.5 * generator.standard_normal((5, 1)) for _ in COSTS)
        coarse = [f * (1.0 + 1e-3 * generator.standard_normal((5, 1))) for f in fine[1:]]
        found = SampleGradients(fine, (None, *coarse), {"w": slice(0, 1)}, {"w": (1,)}, 2.0**-52)
        given = Prices(tables(found)[0], COSTS + np.array([0.0, *COSTS[:-1]]), COSTS)
        moments = given.moments
        second = moments.difference + np.maximum(moments.mean_square, 0.0)
        square = max(float(moments.fine_mean_square[-1]), 0.0)
        below += bool(np.sum(second / given.chances) < square)
        assert given.draw[0] > 0.0
    assert below


# -- ratios ---------------------------------------------------------------------------------------


def forecast(name: str, cost: float, variance: float = 1.0) -> Forecast:
    return Forecast(name, 1.0, variance, (1,), None, None, cost, variance, 0.0)


def measured(vectors: np.ndarray) -> Measured:
    centred = vectors - vectors.mean(axis=0)
    gram = centred @ centred.T
    variance = float(np.trace(gram)) / (len(vectors) - 1)
    interval = variance_interval(gram, 0.95)
    return Measured(len(vectors), 1.0, variance, interval, 0.0, 0.0, 0.0, 0.0, 1.0, (0.5, 2.0))


def test_ratio_has_costs_in_it() -> None:
    """Twice the variance at half the cost is no difference; at equal cost it would be one."""
    vectors = np.random.default_rng(0).standard_normal((4000, 3))
    half, full = forecast("optimal", 0.5), forecast("single", 1.0)
    found = {half: measured(np.sqrt(2.0) * vectors), full: measured(vectors)}
    even = cost_ratio([half], [full], found)
    assert even.value == pytest.approx(1.0)
    assert even.verdict == "not told apart"
    assert cost_ratio([half], [full], found, lambda _: 1.0).verdict == "worse"
    assert cost_ratio([full], [half], found, lambda _: 1.0).verdict == "better"


def test_several_budgets_make_the_interval_narrower() -> None:
    generator = np.random.default_rng(0)
    over = [forecast("optimal", 1.0, float(i + 1)) for i in range(4)]
    under = [forecast("single", 1.0, float(i + 1)) for i in range(4)]
    found = {f: measured(generator.standard_normal((30, 5))) for f in (*over, *under)}
    alone, together = (cost_ratio(over[:n], under[:n], found) for n in (1, 4))
    widths = [np.log(r.high / r.low) for r in (alone, together)]
    assert widths[1] == pytest.approx(widths[0] / 2.0, rel=0.2)


def test_interval_of_the_ratio_covers() -> None:
    """Three budgets, 24 Gaussian vectors of unequal components; false alarm of this test 1e-4."""
    generator = np.random.default_rng(1)
    spread = np.sqrt([1.0, 0.4, 0.1])
    over = [forecast("optimal", 1.0, float(i + 1)) for i in range(3)]
    under = [forecast("single", 1.0, float(i + 1)) for i in range(3)]
    inside = 0
    for _ in range(300):
        found = {}
        for f, size in [*((f, 0.5) for f in over), *((f, 1.0) for f in under)]:
            vectors = np.sqrt(size * f.target) * spread * generator.standard_normal((24, 3))
            found[f] = measured(vectors)
        ratio = cost_ratio(over, under, found)
        inside += ratio.low <= 0.5 <= ratio.high
    assert binomtest(inside, 300, 0.95, alternative="less").pvalue > 1e-4


# -- measurement and its controls -----------------------------------------------------------------


def disagreeing(found: EqualCost) -> int:
    intervals = [found.measured[f].ratio_interval for own in found.forecasts.values() for f in own]
    return sum(not low <= 1.0 <= high for low, high in intervals)


def largest_bias(found: EqualCost, name: str) -> float:
    """Squared bias in its standard errors."""
    every = [found.measured[f] for f in found.forecasts[name]]
    return max(m.bias / m.bias_stderr for m in every)


def test_forecast_and_measurement_agree() -> None:
    """Eight intervals of 0.95: more than two outside in 0.6 % of the seeds; this one is fixed."""
    found = measured_cost()
    assert disagreeing(found) <= 2
    for name in ESTIMATORS:
        assert largest_bias(found, name) < 4.0
        for f in found.forecasts[name]:
            one = found.measured[f]
            assert one.error == pytest.approx(one.variance + one.bias, rel=0.2, abs=1e-12)


def test_a_wrong_weight_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of the finest term that count 1.5 times: more variance than forecast, and a bias."""

    def heavy(self: Fixed, *_: Any) -> Allotment:
        factors = [1.0 / n for n in self.counts]
        return Allotment(tuple(self.counts), (*factors[:-1], 1.5 * factors[-1]))

    monkeypatch.setattr(Fixed, "allot", heavy)
    found = measured_cost()
    single = [found.measured[f] for f in found.forecasts["single"]]
    assert all(m.ratio_interval[0] > 1.0 for m in single)
    assert largest_bias(found, "fixed") > 4.0


def test_a_forecast_of_other_numbers_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of samples in the wrong order of the levels: 1.7 times the variance forecast."""
    right = Prices.summed

    def reversed_counts(self: Prices, counts: np.ndarray) -> Any:
        return replace(right(self, counts), counts=tuple(int(n) for n in counts[::-1]))

    monkeypatch.setattr(Prices, "summed", reversed_counts)
    found = measured_cost()
    wrong = [found.measured[f] for name in ("optimal", "fixed") for f in found.forecasts[name]]
    assert sum(m.ratio_interval[0] > 1.0 for m in wrong) >= 3
    assert np.mean([m.ratio for m in wrong]) == pytest.approx(1.7, rel=0.25)


def test_levels_whose_noise_does_not_fit_together_are_biased() -> None:
    """Pixel noise of one size on every mesh is not what averaging makes of it."""
    found = measured_cost(drawn="level", sigma=1.0)
    assert largest_bias(found, "single") < 4.0
    assert largest_bias(found, "fixed") > 4.0
    assert largest_bias(found, "optimal") > 4.0


def test_estimators_see_samples_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments, reference and repetitions have no sample in common."""
    starts: list[tuple[int, int]] = []
    own = equal_cost.measure_reference, equal_cost.repeat

    def reference(*given: Any, **options: Any) -> Any:
        taken = options["repetitions"] * given[1].samples
        starts.append((options["start"], options["start"] + taken))
        return own[0](*given, **options)

    def repeat(*given: Any, **options: Any) -> Any:
        starts.append((options["start"], 2**62))
        return own[1](*given, **options)

    monkeypatch.setattr(equal_cost, "measure_reference", reference)
    monkeypatch.setattr(equal_cost, "repeat", repeat)
    measured_cost(repetitions=4, samples=10)
    assert starts[0][0] == 4 * 10
    assert starts[1][0] == starts[0][1]


# -- the kind -------------------------------------------------------------------------------------

CHOICES: dict[str, Any] = {
    "case": {"standard": {"conv": "standard"}, "mfc": {"conv": "mfc"}},
    "task": "denoise:0.2",
    "size": 16,
    "levels": 2,
    "width": 2,
    "layers": 2,
    "restriction": ["average"],
    "steps": [0, 2],
    "batch": 2,
    "counts": [8, 4],
    "budgets": [4, 8],
    "samples": 8,
    "repetitions": 4,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": [8, 4]}, "`budgets` must rise"),
        ({"budgets": [0]}, "`budgets` must be positive"),
        ({"samples": 2}, "`samples` must be a whole number from 4"),
        ({"repetitions": 1}, "`repetitions` must be a whole number from 4"),
        ({"counts": [8]}, "`counts` must hold 2 whole numbers"),
        ({"steps": [-1]}, "`steps` must be a whole number from 0"),
        ({"steps": []}, "`steps` must be a list"),
        ({"restriction": ["shrink"]}, "`restriction` must be one of"),
        ({"restriction": ["average", "average"]}, "`restriction` must not repeat"),
        ({"case": "standard"}, "`case` must hold tables"),
        ({"case": {}}, "`case` must hold tables"),
        ({"case": {"a": {"conv": "magic"}}}, "`conv` must be one of"),
        ({"colour": "red"}, "`choice` must be one of"),
        ({"device": "cuda"}, "`choice` must be one of"),
        ({"strategy": "multiscale"}, "`choice` must be one of"),
    ],
)
def test_bad_choices_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KIND.parts({**CHOICES, **change})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All parts, measured, in the order in which files are found."""
    work = Workplace(Path(tmp_path_factory.mktemp("work")))
    parts = KIND.parts(CHOICES)
    return {name: KIND.measure(parts[name], work) for name in sorted(parts)}


def test_parts_are_networks_restrictions_and_states(results: dict[str, Any]) -> None:
    assert list(results) == [
        *("mfc-average-0", "mfc-average-2", "standard-average-0", "standard-average-2"),
    ]
    new, trained = results["standard-average-0"], results["standard-average-2"]
    assert new["moments"] != trained["moments"]
    assert new["estimates"]["single"][0]["counts"] == [0, 4]


def test_same_part_has_the_same_numbers(results: dict[str, Any], tmp_path: Path) -> None:
    part = KIND.parts(CHOICES)["standard-average-2"]
    assert KIND.measure(part, Workplace(tmp_path)) == results["standard-average-2"]


def test_operations_of_mesh_free_layers_do_not_go_with_cells(results: dict[str, Any]) -> None:
    for name, record in results.items():
        coarse = record["costs"]["operations"][0]
        assert record["costs"]["work units"] == [0.25, 1.0]
        assert (coarse == pytest.approx(0.25)) == ("standard" in name)


def test_progress_goes_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []
    part = KIND.parts({**CHOICES, "steps": [0]})["standard-average-0"]
    KIND.measure(part, Workplace(tmp_path, progress=lambda d, t: told.append((d, t))))
    shares = [d / t for d, t in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def by_hand(verdicts: tuple[str, str, str] = ("better", "worse", "not told apart")) -> Any:
    """Results of one part whose numbers are easy to follow."""
    low_high = {"better": (0.4, 0.6), "worse": (1.5, 3.0), "not told apart": (0.8, 1.3)}
    laws = {"single": 2.0, "optimal": 1.0, "fixed": 4.0, "randomised": 2.0}
    estimates = {
        name: [
            {
                "budget": w,
                "counts": None if name == "randomised" else [8, int(w)],
                "draws": 30 if name == "randomised" else None,
                "cost": 1.1 * w,
                "mean_cost": 1.1 * w,
                "forecast": k / w,
                "forecast_stderr": 0.1 * k / w,
                "variance": 1.2 * k / w,
                "variance_interval": [0.9 * k / w, 1.6 * k / w],
                "ratio": 1.2,
                "ratio_interval": [1.1, 1.3],
                "agrees": name != "fixed",
                "error": 1.2 * k / w,
                "error_stderr": 0.1,
                "squared_bias": 0.0,
                "squared_bias_stderr": 0.1,
                "biased": name == "fixed" and w == 8.0,
            }
            for w in (4.0, 8.0)
        ]
        for name, k in laws.items()
    }
    ratios = {}
    for name, verdict in zip(list(laws)[1:], verdicts, strict=True):
        low, high = low_high[verdict]
        one = {"value": (low * high) ** 0.5, "low": low, "high": high, "verdict": verdict}
        ratios[name] = {"each": [1.0, 1.1], "work": one, "operations": one}
    return {
        "case": "standard",
        "conv": "standard",
        "restriction": "average",
        "steps": 0,
        "meshes": [8, 16],
        "counts": [8, 4],
        "notes": [],
        "mean_resolved": True,
        "scale": 1.0,
        "products": laws,
        "estimates": estimates,
        "ratios": ratios,
    }


def test_sentences_tell_who_wins() -> None:
    first, last = KIND.summary({"standard-average-0": by_hand()})
    assert first == (
        "standard (new), average: variance at equal cost over that of one scale: optimal numbers "
        "0.49 [0.4, 0.6] (better), given numbers 2.12 [1.5, 3] (worse), randomised "
        "1.02 [0.8, 1.3] (not told apart)."
    )
    assert "in 6 of 8 estimates; a bias shows in 1." in last


def test_standard_convolutions_come_first() -> None:
    other = {**by_hand(), "case": "mfc", "conv": "mfc"}
    later = {**by_hand(), "steps": 5}
    found = KIND.summary({"a": later, "b": other, "c": by_hand()})
    assert [s.partition(",")[0] for s in found[:3]] == [
        *("standard (new)", "mfc (new)", "standard (after 5 steps)"),
    ]


def test_tables_mark_what_disagrees() -> None:
    ratios, forecasts = KIND.tables({"standard-average-0": by_hand()})
    row = dict(zip(ratios.header, ratios.rows[1], strict=True))
    assert (row["forecast"], row["verdict"]) == ("2", "**worse**")
    by_name = {row[3]: row for row in forecasts.rows}
    assert by_name["given numbers"][-2:] == ("1.20*, 1.20*", "1.00, 1.00*")
    assert by_name["one scale"][-2:] == ("1.20, 1.20", "1.00, 1.00")
    assert by_name["randomised"][4] == "30 draws; 30 draws"
    assert by_name["one scale"][4] == "8 4; 8 8"


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_figure_has_law_and_points(style: Any) -> None:
    made = {"a": by_hand(), "b": {**by_hand(), "steps": 7}}
    new, after = KIND.figures(made, style)
    assert (new.name, after.name) == ("new", "after-7")
    (axis,) = new.drawing.axes
    laws = [line for line in axis.lines if line.get_linestyle() != "None"]
    assert [list(line.get_ydata()) for line in laws[:2]] == [[0.5, 0.25], [0.25, 0.125]]
    points = [container.lines[0].get_ydata() for container in axis.containers]
    assert list(points[0]) == pytest.approx([0.6, 0.3])
    spans = [c.lines[2][0].get_segments() for c in axis.containers]
    assert spans[0][0][:, 1] == pytest.approx([0.45, 0.8])
    assert "7 training steps" in after.caption
    assert "8 : 4 from coarse to fine" in new.caption


def test_panels_have_one_unit_where_a_mean_is_not_resolved() -> None:
    """Then all are relative to a sample's variance, K of one scale: 2 here."""
    unknown = {**by_hand(), "case": "mfc", "conv": "mfc", "mean_resolved": False}
    (figure,) = KIND.figures({"a": by_hand(), "b": unknown}, STYLES["screen"])
    for axis in figure.drawing.axes:
        assert list(axis.lines[0].get_ydata()) == [0.25, 0.125]
        assert list(axis.containers[0].lines[0].get_ydata()) == pytest.approx([0.3, 0.15])
        spans = axis.containers[0].lines[2][0].get_segments()
        assert spans[0][:, 1] == pytest.approx([0.225, 0.4])
    assert "V" in figure.drawing.axes[0].get_ylabel()
    assert "that of a single sample" in figure.caption


def test_measured_results_can_be_shown(results: dict[str, Any]) -> None:
    assert len(KIND.figures(results, STYLES["screen"])) == 2
    assert [len(t.rows) for t in KIND.tables(results)] == [12, 16]
    assert len(KIND.summary(results)) == 5


def test_study_asks_for_every_size() -> None:
    study = load_study("equal-cost")
    assert [len(study.parts(size)) for size in ("smoke", "small", "full")] == [2, 4, 8]
