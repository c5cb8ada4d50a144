"""The claims ledger: stored evidence, what it refuses, and the command with its tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claims_stub import BY_ID, one_dimensional, stub_laws
from click.testing import CliRunner, Result

from gradconv.claims import present
from gradconv.claims.claim import VERDICTS, Criterion
from gradconv.claims.command import claims_command
from gradconv.claims.evidence import check_document, evidence_document, read_folder, write_evidence
from gradconv.claims.figures import claim_figure
from gradconv.claims.ledger import assess, entry, ledger, select
from gradconv.claims.paper import CLAIMS
from gradconv.errors import InputError
from gradconv.provenance import provenance

WAITING = [c.id for c in CLAIMS if not c.live]


@pytest.fixture
def laws(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return stub_laws(monkeypatch)


# ---- stored evidence ----


def origin(dirty: bool = False) -> dict[str, Any]:
    found = provenance({"steps": 2000}, 0, "cpu", "float64")
    return {**found, "commit": "0123456789abcdef" * 2 + "01234567", "dirty": dirty}


def work_units(*numbers: float) -> list[dict[str, Any]]:
    names = [c.quantity for c in BY_ID["work-units"].criteria]
    return [{"quantity": q, "value": v} for q, v in zip(names, numbers, strict=True)]


PAPER_UNITS = (480_000, 74_000, 28_750)


def stored(tmp_path: Path, name: str, measured: list[dict[str, Any]], dirty: bool = False) -> Any:
    claim = BY_ID[name]
    write_evidence(tmp_path, evidence_document(claim, measured, origin(dirty)))
    return assess(claim, read_folder(tmp_path, CLAIMS)[name])


@pytest.mark.parametrize("name", WAITING)
def test_without_evidence_nothing_is_measured(name: str) -> None:
    found = assess(BY_ID[name])
    assert found.verdict == "not yet measured"
    for criterion in BY_ID[name].criteria:
        assert criterion.quantity in found.condition
    assert found.findings == ()


def test_evidence_is_judged_by_its_numbers(tmp_path: Path) -> None:
    good = stored(tmp_path, "work-units", work_units(*PAPER_UNITS))
    assert (good.verdict, good.condition) == ("reproduced", "")
    assert "dirty" not in good.notes[-1]
    assert stored(tmp_path, "work-units", work_units(1.0, 2.0, 3.0)).verdict == "not reproduced"
    mixed = stored(tmp_path, "work-units", work_units(480_000, 74_000, 30_000))
    assert mixed.verdict == "holds only if"
    partial = stored(tmp_path, "work-units", work_units(*PAPER_UNITS)[:2])
    assert partial.verdict == "not yet measured"
    assert partial.condition == "missing: work_units_full_multiscale"


def test_dirty_evidence_is_flagged(tmp_path: Path) -> None:
    found = stored(tmp_path, "work-units", work_units(*PAPER_UNITS), dirty=True)
    assert "(dirty)" in found.notes[-1]


def test_uncertain_evidence_is_undecided(tmp_path: Path) -> None:
    def bias(low: float, high: float) -> str:
        entry = {"quantity": "relative_bias", "value": (low + high) / 2, "interval": [low, high]}
        return str(stored(tmp_path, "unbiased-sum", [entry]).verdict)

    assert bias(-0.01, 0.02) == "reproduced"
    assert bias(0.01, 0.02) == "not reproduced"
    assert bias(-0.5, 0.5) == "not yet measured"  # contains 0, and tells nothing


def cost_evidence(reduction: float, tasks: int = 4) -> list[dict[str, Any]]:
    claim = BY_ID["cost-reduction"]
    return [
        {"quantity": quantity, "value": value, "conditions": {"task": task, "network": network}}
        for task in claim.coverage["task"][:tasks]
        for network in claim.coverage["network"]
        for quantity, value in (("cost_reduction", reduction), ("score_loss", 0.01))
    ]


def test_coverage_is_required_for_each_quantity(tmp_path: Path) -> None:
    assert stored(tmp_path, "cost-reduction", cost_evidence(8.0)).verdict == "reproduced"
    assert stored(tmp_path, "cost-reduction", cost_evidence(20.0)).verdict == "sharpened"
    part = stored(tmp_path, "cost-reduction", cost_evidence(8.0, tasks=3))
    assert part.verdict == "not yet measured"
    assert "cost_reduction of task super-resolution" in part.condition
    one_fails = cost_evidence(8.0)
    one_fails[0]["value"] = 2.0
    found = stored(tmp_path, "cost-reduction", one_fails)
    assert found.verdict == "holds only if"
    assert "denoising" in found.condition
    assert "UNet" in found.condition


def test_network_evidence_is_noted_and_counts(tmp_path: Path, laws: Callable[..., None]) -> None:
    laws()
    claim = one_dimensional("smooth-order")
    measured = [
        {
            "quantity": "network_order",
            "value": -1.0,
            "interval": [-1.2, -0.8],
            "conditions": {"model": "ResNet"},
        }
    ]
    write_evidence(tmp_path, evidence_document(claim, measured, origin()))
    found = assess(claim, read_folder(tmp_path, CLAIMS)[claim.id])
    assert found.verdict == "holds only if"
    assert found.condition == "one linear layer"
    assert "networks measured: ResNet" in found.notes


def damage(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        for path, value in changes.items():
            *way, last = path.split("__")
            target: Any = document
            for step in way:
                target = target[int(step)] if step.isdigit() else target[step]
            if value is None:
                del target[last]
            else:
                target[last] = value

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage(schema="gradconv.sweep/1"), "schema"),
        (damage(schema=None), "schema"),
        (damage(provenance=None), "provenance"),
        (damage(provenance__commit="unknown"), "commit"),
        (damage(provenance__commit=None), "commit"),
        (damage(provenance__dirty="no"), "dirty"),
        (damage(provenance__seed=True), "seed"),
        (damage(provenance__device=" "), "device"),
        (damage(provenance__versions={}), "versions"),
        (damage(provenance__configuration={"steps": 1}), "hash of its configuration"),
        (damage(provenance__configuration_hash="0" * 64), "hash of its configuration"),
        (damage(measurements__0__value=1.0), "digest"),
        (damage(measurements__0__value=float("nan")), "finite"),
        (damage(measurements__0__interval=[0.0, 1.0]), "contain the value"),
        (damage(measurements__0__quantity="work_units_singel"), "did you mean"),
        (damage(measurements__0__outcome="holds"), "may hold"),
        (damage(measurements=[]), "entries"),
        (damage(criteria__0__outcome="fails"), "outcomes"),
        (damage(criteria=[]), "outcomes"),
        (damage(verdict="reproduced"), "verdict"),
        (damage(claim="hot-start"), "named after"),
        (damage(digest=None), "digest"),
    ],
)
def test_bad_evidence_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    claim = BY_ID["work-units"]
    document = json.loads(json.dumps(evidence_document(claim, work_units(*PAPER_UNITS), origin())))
    check_document(document, claim, tmp_path / "work-units.json")  # sound before the change
    change(document)
    (tmp_path / "work-units.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=message) as error:
        read_folder(tmp_path, CLAIMS)
    assert "work-units" in str(error.value)
    assert "got" in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, text, message in (
        ("work-unit.json", "{}", "did you mean 'work-units'"),
        ("work-units.json", "{", "must be JSON"),
        ("work-units.json", "[1]", "JSON object"),
    ):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_folder(tmp_path, CLAIMS)
        path.unlink()
    (tmp_path / "claims.json").write_text('{"schema": "gradconv.claims/1"}')  # its own output
    assert read_folder(tmp_path, CLAIMS) == {}
    with pytest.raises(InputError, match="must be a folder"):
        read_folder(tmp_path / "absent", CLAIMS)


def test_parts_of_a_study_are_read(tmp_path: Path) -> None:
    claim = BY_ID["work-units"]
    document = evidence_document(claim, work_units(*PAPER_UNITS), origin())
    part = {"schema": "gradconv.study/1", "study": "claims", "part": claim.id}

    def put(name: str, **content: Any) -> None:
        (tmp_path / name).write_text(json.dumps({**part, **content}))

    put("work-units.json", results={"evidence": document, "entry": {}})
    put("smooth-order.json", results={"evidence": None, "entry": {}})  # measured on the spot
    found = read_folder(tmp_path, CLAIMS)
    assert list(found) == ["work-units"]
    assert found["work-units"].digest == document["digest"]
    changed = json.loads(json.dumps(document))
    changed["measurements"][0]["value"] = 1.0
    for content, message in (
        ({"results": {"evidence": changed}}, "digest"),
        ({"results": {"evidence": 3}}, "evidence as an object; got 3"),
        ({"results": {"runs": []}, "study": "training"}, "study of claims; got one of 'training'"),
        ({}, "study of claims"),
    ):
        put("work-units.json", **content)
        with pytest.raises(InputError, match=message):
            read_folder(tmp_path, CLAIMS)


def test_criteria_are_two_sided() -> None:
    four = Criterion("q", "q = 4", "equals", 4.0, tolerance=0.4)
    assert [four.grade(*i) for i in ((3.9, 4.1), (4.1, 4.2), (3.8, 3.9), (2.0, 6.0))] == [
        "holds",
        "fails",
        "fails",
        "undecided",
    ]
    most = Criterion("q", "q ≤ 1", "at most", 1.0, sharper=0.5)
    assert [most.grade(*i) for i in ((0.8, 1.0), (1.1, 1.2), (0.9, 1.1), (0.1, 0.5))] == [
        "holds",
        "fails",
        "undecided",
        "sharper",
    ]


# ---- the command ----


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(claims_command, [str(a) for a in arguments])


def test_only_takes_ids_numbers_and_commas() -> None:
    assert [c.number for c in select(("7,hot-start", "5", "7"))] == [5, 7, 9]
    assert select() == CLAIMS


@pytest.mark.parametrize(
    ("name", "message"),
    [("work-unit", "did you mean 'work-units'"), ("13", "got '13'"), ("5,", "empty name")],
)
def test_unknown_ids_are_refused(call: Callable[..., Result], name: str, message: str) -> None:
    result = call("--only", name)
    assert isinstance(result.exception, InputError)
    assert "`only`" in str(result.exception)
    assert message in str(result.exception)


@pytest.mark.parametrize("option", ["--results", "-o"])
def test_folders_must_be_folders(call: Callable[..., Result], tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    for text in ("file", " "):
        assert isinstance(call("--only=5", option, text).exception, InputError)


def test_json_document(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a line, where a case takes a tenth of the time."""
    monkeypatch.setattr(
        "gradconv.claims.ledger.select",
        lambda only: tuple(one_dimensional(c.id) for c in select(only)),
    )
    result = call("--only=smooth-order", "--only=work-units", "--json")
    assert result.exit_code == 0, result.exception
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert list(document) == ["schema", "provenance", "claims"]
    assert document["schema"] == "gradconv.claims/1"
    assert len(document["provenance"]["configuration_hash"]) == 64
    keys = [
        "id",
        "number",
        "title",
        "statement",
        "source",
        "verdict",
        "condition",
        "law",
        "measurement",
        "notes",
    ]
    for claim in document["claims"]:
        assert list(claim) == keys
        assert list(claim["source"]) == ["version", "place"]
        assert claim["verdict"] in VERDICTS
        assert claim["law"]
    assert len(document["claims"][0]["measurement"]) == 9


def test_results_and_output(call: Callable[..., Result], tmp_path: Path) -> None:
    results = tmp_path / "studies" / "claims" / "data"  # found by itself in the working directory
    claim = BY_ID["work-units"]
    write_evidence(results, evidence_document(claim, work_units(*PAPER_UNITS), origin()))
    result = call("--only=7,9", "-o", "out")
    assert result.exit_code == 0, result.exception
    assert "reproduced" in result.stdout
    assert "not yet measured" in result.stdout
    figures = [f"{c}.{k}" for c in ("hot-start", "work-units") for k in ("pdf", "png", "svg")]
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == sorted([*figures, "claims.json", "claims.md", "claims.tex"])
    document = json.loads((tmp_path / "out" / "claims.json").read_text())
    configuration = document["provenance"]["configuration"]
    digest = json.loads((results / "work-units.json").read_text())["digest"]
    assert configuration["evidence"] == {"work-units": digest}
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    call("--only=7,9", "-o", "out")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}


def test_tables(laws: Callable[..., None]) -> None:
    laws()
    claims = (one_dimensional("noise-divergence"), BY_ID["batch-variance"])
    document = ledger(claims)
    page = present.markdown(document)
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in table[:4]}) == 1
    assert "h^-1" in page
    assert "**holds only if**" in page
    text = present.latex(document)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{longtable}"):
        assert text.count(rule) == 1
    body = text.replace(r"\{", "").replace(r"\}", "")
    assert body.count("{") == body.count("}")
    rows = [line for line in text.splitlines() if re.match(r"\d+ &", line)]
    assert len(rows) == 2
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 4
        assert row.endswith(r" \\")
        assert not re.search(r"(?<!\\)[_#%]", row)
        assert row.isascii(), [c for c in row if not c.isascii()]


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        ({"1": -1.0, "2": -2.0}, "-d"),
        ({"1": 0.5, "2": 1.0}, "d/2"),
        ({"1": 2.0, "2": 2.0}, "2"),
        ({"1": 1.0, "2": 3.0}, "1 (d = 1), 3 (d = 2)"),
    ],
)
def test_formula_keeps_the_sign(orders: dict[str, float], text: str) -> None:
    assert present.formula(orders) == text


def test_a_verdict_cannot_be_typed_in() -> None:
    claim = BY_ID["work-units"]
    with pytest.raises(InputError, match="verdict"):
        replace(entry(claim, ()), verdict="proved")
    with pytest.raises(InputError, match="verdict"):
        evidence_document(claim, [{**work_units(*PAPER_UNITS)[0], "verdict": "x"}], origin())


@pytest.mark.slow
def test_the_whole_ledger(call: Callable[..., Result], tmp_path: Path) -> None:
    result = call("-o", "out")
    assert result.exit_code == 0, result.exception
    document = json.loads((tmp_path / "out" / "claims.json").read_text())
    verdicts = {c["id"]: c["verdict"] for c in document["claims"]}
    assert verdicts["smooth-order"] == "sharpened"
    for name in ("noise-divergence", "mfc-order", "scale-independence"):
        assert verdicts[name] == "holds only if"
    assert {verdicts[name] for name in WAITING} == {"not yet measured"}
    assert len(list((tmp_path / "out").glob("*.png"))) == 12


@pytest.mark.parametrize("undecided", [0, 3, 5])
def test_of_many_undecided_cases_the_terminal_shows_the_first(undecided: int) -> None:
    notes = [*(f"undecided: case {i}" for i in range(undecided)), "evidence: from there"]
    other = {"number": "2", "notes": ["undecided: alone"]}
    lines = present.footnotes({"claims": [{"number": "1", "notes": notes}, other]})
    shown = [f"1. undecided: case {i}" for i in range(min(undecided, 3))]
    more = ["1. 2 more undecided cases; `-o DIR` writes all of them"] if undecided > 3 else []
    assert lines == [*shown, "1. evidence: from there", *more, "2. undecided: alone"]


@pytest.mark.parametrize(("most", "scale"), [(40.0, "linear"), (4000.0, "log")])
def test_measurements_over_decades_have_a_logarithmic_axis(most: float, scale: str) -> None:
    """Names are long: the title is broken so that it stays inside the figure."""
    law = {"threshold": 5.0, "relation": "at least", "quantity": "factor", "statement": "so " * 60}
    choices = {"quantity": "factor", "task": "inpainting, ResNet, 1.05 × the best cold error, low"}
    rows = [
        {"quantity": "factor", "value": v, "interval": [v / 2, v * 2], "grade": "holds"}
        | {"choices": choices}
        for v in (4.0, most / 2)
    ]
    claim = {"number": "9", "id": "x", "title": "t", "verdict": "holds only if", "condition": "c"}
    figure = claim_figure({**claim, "law": [law], "measurement": rows})
    (axis,) = figure.axes
    assert axis.get_xscale() == scale
    low, high = axis.get_xlim()
    assert low < 2.0 < most < high
    figure.canvas.draw()
    assert axis._left_title.get_window_extent().x1 < figure.bbox.x1
