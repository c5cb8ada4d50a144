"""The study of the atlas: parts, what is stored, and what is said of it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from gradconv.atlas.build import atlas
from gradconv.atlas.cells import CHOICES, enumerate_cells
from gradconv.errors import InputError
from gradconv.figures import TALLEST, find_style
from gradconv.studies import load_study, read_results
from gradconv.studies.kinds import KINDS, Workplace

STUDIES = Path(__file__).resolve().parent.parent / "studies"
KIND = KINDS["atlas"]
ONE = {
    "kernel": ["stencil"],
    "noise": ["pixel"],
    "setting": ["coarsening"],
    "restriction": ["average"],
    "target": ["identity"],
    "dim": [1],
}


@pytest.fixture(scope="module")
def stored() -> dict:
    return read_results(STUDIES / "atlas")


def test_parts_name_all_that_the_result_depends_on() -> None:
    every = KIND.parts({})
    assert every["atlas"]["count"] == len(enumerate_cells())
    assert every["critical"]["dim"] == [1, 2, 3]
    few = KIND.parts(ONE)
    assert few["atlas"]["count"] == 1
    assert few["critical"]["dim"] == [1]
    assert few["atlas"]["cells"] != every["atlas"]["cells"]
    assert KIND.parts({**ONE, "seed": 1})["atlas"] != few["atlas"]


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"kernels": ["mfc"]}, "`choice of an atlas` must be .*did you mean 'kernel'"),
        ({"kernel": ["mcf"]}, "did you mean 'mfc'"),
        ({"noise": "pixel"}, "`noise` must be a list of names; got 'pixel'"),
        ({"dim": [4]}, "`dim` must be one of 1, 2, 3; got '4'"),
        ({"replicates": 7}, "`replicates` must be a whole number from 8"),
        ({"seed": -1}, "`seed` must be a whole number from 0"),
        ({"exponents": [0.0, 1.0]}, "`exponents` must be shares of d between 0 and 2"),
        ({"measured_exponents": [1.0, 0.5]}, "`measured_exponents` must increase"),
    ],
)
def test_bad_choices_are_named(choice: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        KIND.parts({**ONE, **choice})


def test_the_stored_atlas_is_what_this_source_gives(stored: dict) -> None:
    """Verdicts, and orders to what rounding moves; other paths give other orders."""
    kept = {tuple(cell[c] for c in CHOICES): cell for cell in stored["atlas"]["cells"]}
    cells = enumerate_cells({**ONE, "dim": ["1"]})
    for seed, same in ((0, True), (1, False)):
        (found,) = atlas(cells, seed=seed)["cells"]
        old = kept[tuple(found[c] for c in CHOICES)]
        for quantity, own in found["quantities"].items():
            before = old["quantities"][quantity]
            assert own["status"] == before["status"]
            assert own["derived"]["verdict"] == before["derived"]["verdict"]
            assert own["measured"]["order"] == pytest.approx(before["measured"]["order"], abs=1e-5)
        worst = [c["quantities"]["rms_gap"]["values"]["worst"] for c in (found, old)]
        assert (worst[0] == pytest.approx(worst[1], rel=1e-3)) is same


def test_a_disagreement_is_shown_and_counted(stored: dict) -> None:
    study = load_study("atlas", STUDIES)
    assert "none with a disagreement" in study.kind.summary(stored)[0]
    assert "disagreements" not in [t.name for t in study.kind.tables(stored)]
    wrong = copy.deepcopy({"atlas": {**stored["atlas"]}, "critical": stored["critical"]})
    cell = wrong["atlas"]["cells"][7]
    cell["status"] = cell["quantities"]["mean_gap"]["status"] = "disagrees"
    cell["quantities"]["mean_gap"]["reason"] = "off by a factor"
    assert "; 1 with a disagreement" in study.kind.summary(wrong)[0]
    (found,) = [t for t in study.kind.tables(wrong) if t.name == "disagreements"]
    assert "off by a factor" in found.rows[0][0]


def test_critical_exponents_are_those_of_the_stored_orders(stored: dict) -> None:
    said = KIND.summary(stored)
    assert "stencil: the order of the mean gap changes sign at α = d (in every case)." in said
    assert "stencil: the order of the variance changes sign at α = d/2 (in every case)." in said
    assert any(
        text.startswith("mfc: the order of the mean gap changes sign nowhere") for text in said
    )
    moved = copy.deepcopy(stored["critical"])
    for series in moved["series"]:
        if (series["kernel"], series["quantity"], series["dim"]) == ("stencil", "mean_gap", 2):
            series["zeros"] = [1.5]
    said = KIND.summary({**stored, "critical": moved})
    assert any("α = 0.75 d (coarsening d = 2, refinement d = 2)" in text for text in said)


def test_nothing_is_kept_outside_the_place_of_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    part = KIND.parts({**ONE, "noise": ["none"], "replicates": 8})["atlas"]
    result = KIND.measure(part, Workplace(tmp_path / "work"))
    assert len(result["cells"]) == 1
    assert list((tmp_path / "work").rglob("*.json"))
    assert not (tmp_path / "cache").exists()
    calls: list[object] = []
    monkeypatch.setattr("gradconv.atlas.build.measure_unit", lambda *a: calls.append(a))
    assert KIND.measure(part, Workplace(tmp_path / "work")) == result  # goes on from there
    assert not calls


@pytest.mark.parametrize("name", ["screen", "one-column", "two-column"])
def test_figures_fit_their_page(stored: dict, name: str) -> None:
    style = find_style(name)
    for figure in KIND.figures(stored, style):
        assert figure.drawing.get_figwidth() == style.full
        assert figure.drawing.get_figheight() <= (
            TALLEST if style.paper else 10.0
        )  # a screen scrolls
