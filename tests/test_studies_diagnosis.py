"""Studies of multilevel gradients: choices, what is measured, and what is drawn of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from gradconv import Problem
from gradconv.errors import InputError
from gradconv.figures import STYLES, Style
from gradconv.multilevel import diagnose
from gradconv.studies import KINDS, load_study
from gradconv.studies.kinds import Workplace

STUDIES = Path(__file__).resolve().parent.parent / "studies"
KIND = KINDS["diagnosis"]
STENCIL = {
    "title": "a stencil",
    "kernel": "stencil",
    "noise": "pixel:0.5",
    "dim": 1,
    "levels": [32, 64, 128, 256, 512],
    "samples": 64,
    "epsilons": [0.3],
    "repetitions": 8,
}


def network(conv: str, **changed: Any) -> dict[str, Any]:
    return {
        "title": f"{conv} network",
        "module": {"make": "resnet", "conv": conv, "channels": 2, "blocks": 1},
        "task": "denoise:2",
        "levels": [16, 32, 64, 128],
        "samples": 16,
        "repetitions": 4,
        **changed,
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    place = Workplace(tmp_path_factory.mktemp("diagnoses"))
    cases = {"stencil": STENCIL, "standard": network("standard"), "mfc": network("mfc")}
    return {name: KIND.measure(p, place) for name, p in KIND.parts({"case": cases}).items()}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernel": None}, "exactly one must be given; got both"),
        ({"module": None, "title": "x"}, "`module` must be a table; got None"),
        ({"title": 1}, "`title` of a case must be text; got 1"),
        ({"signal": "sobolev:3"}, "`choice of a diagnosis` must be one of"),
        ({"task": "denoize:1"}, "did you mean 'denoise'"),
        ({"task": "denoise:-1"}, "sigma must be positive"),
        ({"images": "photos"}, "did you mean 'photographs'"),
        ({"levels": [128, 256, 512, 1024]}, "must not exceed a photograph's shorter side"),
        ({"samples": 3}, "`samples` must be a whole number from 4"),
        ({"repetitions": 1}, "`repetitions` must be a whole number from 2"),
        ({"cost": "money"}, "`cost` must be one of"),
        ({"epsilons": [0.0]}, "`epsilons`"),
        ({"restriction": "averag"}, "did you mean 'average'"),
        ({"module": {"make": "resnet", "depth": 3}}, "`option of resnet` must be one of"),
    ],
)
def test_bad_choices_are_refused_before_any_work(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        KIND.parts({"case": {"a": network("standard", **changed)}})
    assert message in str(caught.value)


def test_no_case_is_refused() -> None:
    with pytest.raises(InputError, match="`case` must hold a table or more"):
        KIND.parts({"samples": 8})
    with pytest.raises(InputError, match="exactly one must be given; got neither"):
        KIND.parts({"case": {"a": {"title": "x"}}})


def test_a_part_is_the_diagnosis_of_its_choices(results: dict[str, dict[str, Any]]) -> None:
    problem = Problem("stencil", signal="sobolev:3", noise="pixel:0.5", dim=1)
    own = {k: STENCIL[k] for k in ("samples", "epsilons", "repetitions")}
    same = diagnose(problem, hierarchy=STENCIL["levels"], **own).to_dict()
    assert results["stencil"]["groups"] == same["groups"]
    assert results["stencil"]["errors"] == same["errors"]
    other = diagnose(problem, hierarchy=STENCIL["levels"], seed=1, **own).to_dict()
    assert results["stencil"]["groups"] != other["groups"]  # negative control


def test_standard_corrections_grow_and_mesh_free_ones_shrink(
    results: dict[str, dict[str, Any]],
) -> None:
    """Noise of twice the photographs' range rules on all of these meshes."""
    standard, mesh_free = (results[c]["groups"][0] for c in ("standard", "mfc"))
    grown = standard["difference_variance"]
    shrunk = mesh_free["difference_variance"]
    assert grown[1] < grown[2] < grown[3]
    assert shrunk[1] > shrunk[2] > shrunk[3]
    assert standard["alpha"]["order"] == pytest.approx(-2.0, abs=0.3)
    assert mesh_free["beta"]["order"] > 1.0
    for group in (standard, mesh_free):
        assert max(c for c in group["check"] if c is not None) < 1.0


def test_sentences_have_the_numbers(results: dict[str, dict[str, Any]]) -> None:
    told = KIND.summary(results)
    assert len(told) == 6
    beta = results["stencil"]["groups"][0]["beta"]
    low, high = beta["order_interval"]
    text = f"β = {beta['order']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
    assert text in told[0]
    assert "γ = +1.00" in told[0]
    assert "law of α −1; law of β −1" in told[0]
    assert "the sum telescopes" in told[0]
    assert "law of" not in told[2]  # of a network there is none
    assert "of the forecast" in told[1]
    broken = copy.deepcopy(results)  # negative control
    broken["stencil"]["groups"][0]["check"][2] = 1.7
    assert "does NOT telescope (largest check 1.70, limit 1)" in KIND.summary(broken)[0]
    unknown = copy.deepcopy(results)
    unknown["mfc"]["groups"][0]["alpha"] |= {"order": None, "decay": "none"}
    assert "α = undecided" in KIND.summary(unknown)[4]


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda s: s.name)
def test_figures_are_drawn_from_the_results(
    results: dict[str, dict[str, Any]], style: Style
) -> None:
    figures = {f.name: f for f in KIND.figures(results, style)}
    assert list(figures) == [*results, "comparison"]
    variance, cost = figures["comparison"].drawing.axes
    assert figures["comparison"].drawing.get_size_inches()[0] == style.full
    drawn = [list(line.get_ydata()) for line in variance.get_lines()]
    for name in ("standard", "mfc"):
        group = results[name]["groups"][0]
        scale = group["fine_variance"][-1]
        values = [v / scale for v in group["difference_variance"][1:]]
        assert any(len(y) == 3 and y == pytest.approx(values) for y in drawn)
        rows = [
            f["cost"]
            for f in results[name]["errors"]["forecasts"]
            if f["estimator"] == "multilevel"
        ]
        assert any(list(line.get_ydata()) == rows for line in cost.get_lines())
    assert "Dotted: the derived law" in figures["stencil"].caption
    assert "Dotted" not in figures["mfc"].caption
    alone = {n: r for n, r in results.items() if n != "mfc"}  # nothing to compare with
    assert [f.name for f in KIND.figures(alone, style)] == ["stencil", "standard"]


def test_only_what_shares_its_data_is_compared(results: dict[str, dict[str, Any]]) -> None:
    other = copy.deepcopy(results)
    other["mfc"]["choices"]["task"] = "denoise:0.1"
    assert [f.name for f in KIND.figures(other, STYLES["screen"])] == list(results)


def test_tables_by_part(results: dict[str, dict[str, Any]]) -> None:
    tables = {t.name: t for t in KIND.tables(results)}
    kinds = ("levels", "orders", "errors")
    assert list(tables) == [f"{name}-{kind}" for name in results for kind in kinds]
    levels = tables["stencil-levels"]
    assert [row[1] for row in levels.rows] == ["32", "64", "128", "256", "512"]
    assert "seconds" not in levels.header
    assert any(
        n.startswith("Law of this layer (stencil), β: -1") for n in tables["stencil-orders"].notes
    )
    assert tables["stencil-orders"].rows[0][4].startswith("−")


def test_kernels_that_a_coarse_mesh_does_not_resolve_are_noted(tmp_path: Path) -> None:
    cases = {"a": network("mfc", levels=[8, 16, 32, 64], samples=4, repetitions=0)}
    (part,) = KIND.parts({"case": cases}).values()
    found = KIND.measure(part, Workplace(tmp_path))
    assert any("narrower than a cell on the meshes 8×8" in note for note in found["notes"])


def test_photographs_are_part_of_the_configuration() -> None:
    parts = load_study("multilevel", STUDIES).parts("full")
    assert len(parts["resnet-mfc"]["fingerprint"]) == 64
    assert "fingerprint" not in parts["stencil"]
    assert parts["resnet-mfc"] == parts["resnet-standard"] | {
        "title": parts["resnet-mfc"]["title"],
        "module": parts["resnet-standard"]["module"] | {"conv": "mfc"},
    }
