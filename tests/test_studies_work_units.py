"""Work units as a study: the paper's numbers, operations beside them, and their table in LaTeX."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from gradconv.errors import InputError
from gradconv.figures import find_style
from gradconv.studies import load_study
from gradconv.studies.kinds import KINDS, Workplace
from gradconv.tables import tex

STUDIES = Path(__file__).resolve().parent.parent / "studies"
KIND = KINDS["work_units"]
NETWORK = "gradconv.nn.networks:ResNet(1, 1, layers=2, channels=2)"


def measured(choices: dict, tmp_path: Path) -> dict:
    work = Workplace(tmp_path)
    return {name: KIND.measure(part, work) for name, part in KIND.parts(choices).items()}


@pytest.fixture
def paper(tmp_path: Path) -> dict:
    return measured(load_study("work-units", STUDIES).choices["smoke"], tmp_path)


def test_the_plan_of_the_paper_costs_what_it_says(paper: dict) -> None:
    plans = {plan["name"]: plan for plan in paper["plans"]["plans"]}
    found = {name: plan["work_units"] for name, plan in plans.items()}
    assert found["single"] == 480_000
    assert found["multiscale"] == 74_000
    assert found["full-multiscale"] == 28_750
    assert plans["full-multiscale"]["parallel_depth"] == 250 + 500 / 4 + 1000 / 16 + 2000 / 64
    for plan in plans.values():
        assert plan["path"][0] == [0, 0.0]
        assert plan["path"][-1] == [plan["steps"], plan["work_units"]]
    said = " ".join(KIND.summary(paper))
    assert "full-multiscale: 28 750 work units, a factor 16.7 under single" in said


def test_another_order_of_the_cost_is_another_result(tmp_path: Path) -> None:
    choices = load_study("work-units", STUDIES).choices["smoke"]
    found = measured({**choices, "gamma": 3.0}, tmp_path)["plans"]
    by_name = {plan["name"]: plan["work_units"] for plan in found["plans"]}
    assert found["gamma"] == 3.0
    step = sum(n * (8.0**-i) * (1 + 1 / 8) for i, n in enumerate((16, 32, 64))) + 128 * 8.0**-3
    assert by_name["multiscale"] == pytest.approx(2000 * step)
    assert by_name["multiscale"] != 74_000


def test_tables_show_the_formula_and_the_sum(paper: dict) -> None:
    work = KIND.tables(paper)[0]
    assert "multiscale, level by level: 2 000 × (2 + 5 + 10 + 20) = 74 000." in work.notes
    stages = "full-multiscale, stage by stage: 4 000 + 7 000 + 8 500 + 9 250 = 28 750."
    assert stages in work.notes
    latex = work.latex()
    assert r"\(C_\ell = 2^{-\gamma (L - \ell)}\)" in latex
    assert "textbackslash" not in latex
    assert "$" not in latex
    assert "$C_\\ell = 2^{-\\gamma (L - \\ell)}$" in work.markdown()
    wrong = copy.deepcopy(paper)
    wrong["plans"]["levels"][0]["work_units_per_step"] = 3.0
    assert KIND.tables(wrong)[0].notes != work.notes


def test_one_dollar_is_a_dollar_and_two_hold_mathematics() -> None:
    assert tex("5 $ and h_L") == r"5 \$ and h\_L"
    assert tex("cost $C_\\ell$, **bold**") == r"cost \(C_\ell\), \textbf{bold}"


def test_operations_of_a_network_grow_with_the_cells(tmp_path: Path) -> None:
    choices = {"counts": [4, 2], "steps": 4, "size": 16, "networks": {"small": NETWORK}}
    results = measured(choices, tmp_path)
    assert list(results) == ["plans", "small"]
    levels = results["small"]["levels"]
    assert levels[1]["flops_order"] == pytest.approx(2.0, abs=0.05)
    names = [table.name for table in KIND.tables(results)]
    assert names == ["work", "levels", "operations", "growth"]
    assert KIND.origin(KIND.parts(choices)["small"]).dtype == "float32"
    for name in ("screen", "one-column", "two-column"):
        style = find_style(name)
        (figure,) = KIND.figures(results, style)
        assert figure.drawing.get_figwidth() == style.full
        assert len(figure.drawing.axes) == 3


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"count": [1]}, "did you mean 'counts'"),
        ({"counts": "4,2"}, "`counts` must be a list; got '4,2'"),
        ({"counts": [4, -2]}, "`counts` must be whole numbers of at least 1"),
        ({"counts": [4, 2], "stages": [1]}, "`stages` must hold 2 whole numbers"),
        ({"plans": ["singel"]}, "`plans` must be .*did you mean 'single'"),
        ({"plans": ["single"]}, "`plans` must hold multiscale; got single"),
        ({"noise_drawn": "nowhere"}, "`drawn` must be one of finest, level"),
        ({"gamma": -1.0}, "`gamma` must be between 0 and 16"),
        ({"seed": 0.5}, "`seed` must be a whole number"),
        ({"networks": {"one": NETWORK}}, "`networks` needs `size`"),
        ({"networks": ["one"], "size": 64}, "`networks` must be a table of modules"),
        ({"networks": {"plans": NETWORK}, "size": 64}, "none called plans"),
        ({"networks": {"one": "gradconv.nn:Nothing"}, "size": 64}, "`networks` must"),
        ({"networks": {"one": NETWORK}, "size": 30}, "`size` must be halved 3 times"),
    ],
)
def test_bad_choices_are_named(choice: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        KIND.parts(choice)
