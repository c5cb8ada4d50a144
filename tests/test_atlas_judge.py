"""The atlas's judgement: right laws pass, wrong ones are seen."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradconv.atlas import build, derived, fluctuations, unit
from gradconv.atlas.cells import Cell, enumerate_cells
from gradconv.atlas.judge import (
    deviations,
    exact_values,
    leading_term,
    sampled_values,
)
from gradconv.laws import Law, derive
from gradconv.problem import QUANTITIES
from gradconv.statistics import simultaneous_quantile

H = 0.5 ** np.arange(4, 12)
NOTHING = np.full(len(H), 1e-16)
ALL = np.ones(len(H), dtype=bool)


def law(order: float, coefficient: float, log: int = 0, factor: float = 1.0) -> dict[str, Any]:
    values = factor * coefficient * H**order * np.log(1 / H) ** log * (1 + 3 * H**2)
    return {
        "order": order,
        "log": log,
        "coefficient": factor * coefficient,
        "verdict": "",
        "sum": list(values),
        "neglected": list(10 * H**2),
    }


def data(order: float, coefficient: float, log: int = 0) -> np.ndarray:
    return np.asarray(coefficient * H**order * np.log(1 / H) ** log * (1 + 3 * H**2))


@pytest.mark.parametrize(("order", "log"), [(2.0, 0), (-1.0, 0), (0.5, 0), (1.0, 1)])
def test_a_right_leading_term_passes(order: float, log: int) -> None:
    found = leading_term(law(order, 0.3, log), "mean_gap", H, data(order, 0.3, log), NOTHING, ALL)
    assert found[0].status == "agrees", found
    assert found[1].method == "window"
    assert found[1].order == pytest.approx(order, abs=0.05)
    assert found[1].coefficient == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [law(2.0, 0.6), law(2.0, 0.33), law(-2.0, 0.3), law(1.8, 0.3), law(2.0, 0.3, log=1)],
    ids=["factor 2", "constant +10 %", "reversed order", "order off by 0.2", "logarithm"],
)
def test_a_wrong_leading_term_is_seen(wrong: dict[str, Any]) -> None:
    judged, _ = leading_term(wrong, "mean_gap", H, data(2.0, 0.3), NOTHING, ALL)
    assert judged.status == "disagrees"
    assert "against" in judged.reason


def test_without_a_window_the_sum_of_terms_decides() -> None:
    own = law(2.0, 0.3)
    values = 0.3 * H**2 + 0.05 * H  # a slow correction: no level is within 3 % of the leading term
    own["sum"] = list(values)
    judged, fit = leading_term(own, "mean_gap", H, values, NOTHING, ALL)
    assert (judged.status, fit.method) == ("agrees", "sum")
    own["sum"] = list(2 * values)
    assert leading_term(own, "mean_gap", H, values, NOTHING, ALL)[0].status == "disagrees"


def test_without_asymptotic_levels_the_reason_is_given() -> None:
    own = law(2.0, 0.3)
    own["neglected"] = [1.0] * len(H)
    judged, fit = leading_term(own, "mean_gap", H, data(2.0, 0.3), NOTHING, ALL)
    assert judged.status == "explained"
    assert "not asymptotic" in judged.reason
    assert judged.worst == 1.0
    assert fit.method == "fit"


def test_a_zero_law_is_zero_or_faster_than_any_power() -> None:
    nothing = {**law(0.0, 0.0), "order": None}
    decaying = np.maximum(np.exp(-1 / H), 1e-20)
    assert leading_term(nothing, "mean_gap", H, decaying, NOTHING, ALL)[0].status == "agrees"
    found = leading_term(nothing, "mean_gap", H, data(2.0, 0.3), NOTHING, ALL)
    assert found[0].status == "disagrees"


def test_exact_values_to_eight_digits() -> None:
    values = data(2.0, 0.3)
    assert exact_values(values, values * (1 + 5e-9), NOTHING).status == "agrees"
    far = exact_values(values, values * (1 + 5e-8), NOTHING)
    assert far.status == "disagrees"
    assert "at level" in far.reason


# ---- sampled ----


def paths(seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(scale * rng.standard_normal((128, 4, 6)) ** 2).mean(axis=-1)


def test_right_variances_lie_within_the_simultaneous_interval() -> None:
    quantile = simultaneous_quantile(4000, 128)
    offset, floor = np.zeros(4), np.full(4, 1e-30)
    worst = [
        max(map(abs, deviations(paths(seed), offset, np.ones(4), floor))) for seed in range(800)
    ]
    assert max(worst) < quantile  # 4000 comparisons, all right


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_factor_of_two_in_a_variance_is_seen(factor: float) -> None:
    found = deviations(paths(0), np.zeros(4), factor * np.ones(4), np.full(4, 1e-30))
    assert sampled_values(found, simultaneous_quantile(80_000, 128)).status == "disagrees"


def test_a_variance_of_another_order_is_seen() -> None:
    slope = 2.0 ** np.arange(4)
    found = deviations(paths(0), np.zeros(4), slope, np.full(4, 1e-30))
    assert sampled_values(found, simultaneous_quantile(80_000, 128)).status == "disagrees"


def test_one_sided_zeros_are_seen() -> None:
    floor = np.full(4, 1e-12)
    found = deviations(paths(0), np.zeros(4), np.zeros(4), floor)
    assert math.isinf(max(found))
    assert max(deviations(np.zeros((128, 4)), np.zeros(4), np.zeros(4), floor)) == 0.0


# ---- whole cells with broken laws ----

CELL = {
    "kernel": ["stencil"],
    "noise": ["power:0.5"],
    "setting": ["refinement"],
    "restriction": ["average"],
    "target": ["identity"],
    "dim": ["1"],
}


def status(quantity: str, part: str = "leading") -> str:
    (cell,) = build.atlas(enumerate_cells(CELL), replicates=32)["cells"]
    own = cell["quantities"][quantity]
    assert (cell["status"] == "disagrees") == any(
        r["status"] == "disagrees" for r in cell["quantities"].values()
    )
    return str(own[part]["status"])


def broken(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    def made(problem: Any) -> Law:
        law = derive(problem)
        laws = {q: change(own) for q, own in law.laws.items()}
        return replace(law, laws=laws)

    monkeypatch.setattr(derived, "derive", made)


def test_the_right_law_of_the_control_cell_agrees() -> None:
    assert status("mean_gap") == "agrees"
    assert status("mean_gap", "values") == "agrees"
    assert status("variance", "values") == "agrees"


def test_a_factor_of_two_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def double(own: Any) -> Any:
        terms = tuple(replace(t, coefficient=2 * t.coefficient) for t in own.terms)
        vectors = tuple(replace(t, vector=2 * t.vector) for t in own.vectors)
        return replace(own, terms=terms, vectors=vectors)

    broken(monkeypatch, double)
    assert status("mean_gap") == "disagrees"


def test_a_reversed_order_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def reverse(own: Any) -> Any:
        terms = tuple(replace(t, exponent=-t.exponent) for t in own.terms)
        vectors = tuple(replace(t, exponent=-t.exponent) for t in own.vectors)
        return replace(own, terms=terms, vectors=vectors)

    broken(monkeypatch, reverse)
    assert status("mean_gap") == "disagrees"


def test_a_dropped_outer_term_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(own: Any) -> Any:
        terms = tuple(t for t in own.terms if t.exponent >= 0)
        vectors = tuple(t for t in own.vectors if t.region != "outer")
        return replace(own, terms=terms, vectors=vectors)

    broken(monkeypatch, drop)
    assert status("mean_gap") == "disagrees"


def test_dropped_aliases_in_the_full_law_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = unit.derived_spectra

    def without(group: Any, levels: Any) -> Any:
        powers, crosses = honest(group, levels)
        cut = [p.copy() for p in powers["power:0.5"]]
        for spectrum in cut[:-1]:
            spectrum[len(spectrum) // 2] = 0.0
        return {**powers, "power:0.5": cut}, crosses

    monkeypatch.setattr(unit, "derived_spectra", without)
    assert status("mean_gap", "values") == "disagrees"


def test_a_restriction_applied_twice_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = unit.derived_spectra

    def twice(group: Any, levels: Any) -> Any:
        powers, crosses = honest(group, levels)
        theta = [np.pi * np.fft.fftfreq(len(p)) for p in powers[""]]
        again = [p * np.cos(t / 2) ** 2 for p, t in zip(powers[""], theta, strict=True)]
        return {**powers, "": again}, crosses

    monkeypatch.setattr(unit, "derived_spectra", twice)
    assert status("mean_gap", "values") == "disagrees"


def test_a_wrong_full_variance_disagrees_on_fresh_paths_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = fluctuations.gap_variances
    monkeypatch.setattr(fluctuations, "gap_variances", lambda *a: 8 * honest(*a))
    assert status("variance", "values") == "disagrees"


def test_a_chance_deviation_is_settled_by_fresh_paths() -> None:
    law = {"laws": {}, "missing": {}}
    fit = {"order": None, "coefficient": None, "interval": None, "verdict": "", "method": ""}
    first = {"variance": {"why": "", "deviations": [9.0], "fit": fit}}
    second = {"variance": {"why": "", "deviations": [0.5], "fit": fit}}
    settled = build._quantity("variance", build.Found(law, first, second), 6.0)
    assert settled["values"]["status"] == "agrees"
    kept = build._quantity("variance", build.Found(law, first, first), 6.0)
    assert kept["status"] == "disagrees"
    assert "fresh" in kept["reason"]


def test_a_broken_derivation_is_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(problem: Any) -> Law:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(derived, "derive", failing)
    (cell,) = build.atlas(enumerate_cells(CELL), replicates=32)["cells"]
    assert cell["status"] == "disagrees"
    assert "broke down" in cell["quantities"]["mean_gap"]["reason"]


def test_statuses_of_a_cell_are_the_worst_of_its_quantities() -> None:
    law = {"laws": {}, "missing": dict.fromkeys(QUANTITIES, "no symbol")}
    row = build._row(
        Cell("mfc", "none", "coarsening", "average", "blur", 1), build.Found(law, {}), 6
    )
    assert row["status"] == "explained"
    assert {q["reason"] for q in row["quantities"].values()} == {"no symbol"}
