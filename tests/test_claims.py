"""The claims ledger: verdicts by rule, live measurements, stored evidence, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradconv.claims import orders as orders_module
from gradconv.claims import present
from gradconv.claims import scale as scale_module
from gradconv.claims.claim import VERDICTS, Bound, Claim, Criterion, Finding
from gradconv.claims.command import claims_command
from gradconv.claims.evidence import check_document, evidence_document, read_folder, write_evidence
from gradconv.claims.ledger import assess, entry, ledger, select
from gradconv.claims.orders import Derived, grade_order, noise_limit
from gradconv.claims.paper import CLAIMS
from gradconv.claims.rules import judge, separate
from gradconv.errors import InputError, LawError
from gradconv.problem import Problem
from gradconv.provenance import provenance
from gradconv.rates import fit_rate

BY_ID = {c.id: c for c in CLAIMS}
WAITING = [c.id for c in CLAIMS if not c.live]
H = 0.5 ** np.arange(4, 10)


def one_dimensional(name: str) -> Claim:
    claim = BY_ID[name]
    return replace(claim, cases=tuple(c for c in claim.cases if c.problem["dim"] == 1))


def reference_order(problem: Problem, quantity: str) -> float:
    """The orders of the theory for the cases of the ledger (see test_reference_orders.py)."""
    d, rms = problem.dim, quantity == "rms_gap"
    average = problem.restriction.name == "average"
    if problem.kernel.name == "mfc":
        return (1.0 if rms else 2.0) if average else (d / 2 if rms else float(d))
    noise = problem.noise
    if noise.name == "none":
        return 1.0 if problem.target.name == "shift" else 2.0
    if noise.name == "power":
        return min(2.0, noise.alpha - d)
    if noise.name == "white" or average:
        return -float(d)
    return d / 2 if rms else 2.0


class StubLaw:
    def __init__(self, problem: Problem, sign: float, missing: str) -> None:
        self.problem, self.sign, self.missing = problem, sign, missing

    def quantity(self, name: str) -> Any:
        if self.missing:
            raise LawError(self.missing)
        order = self.sign * reference_order(self.problem, name)
        return SimpleNamespace(
            order=order,
            coefficient=lambda fine_h=None: 1.0,
            expression=f"h**{order:g}",
            latex=f"h^{{{order:g}}}",
            assumptions=("periodic",),
            verdict="converges" if order > 0 else "diverges",
        )

    def evaluate(self, hierarchy: Any) -> dict[str, np.ndarray]:
        return {}


@pytest.fixture
def laws(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put stand-ins in the place of the derivations."""

    def put(sign: float = 1.0, missing: str = "", agrees: bool | None = True) -> None:
        def compare(law: StubLaw, sweep: Any, values: Any = None) -> dict[str, Any]:
            agreement = SimpleNamespace(agrees=agrees, reason="constants differ")
            return {q: agreement for q in ("mean_gap", "rms_gap")}

        monkeypatch.setattr(orders_module, "derive", lambda p: StubLaw(p, sign, missing))
        monkeypatch.setattr(orders_module, "compare", compare)

    return put


# ---- claims and rules ----


def test_twelve_claims_in_order() -> None:
    assert [c.number for c in CLAIMS] == list(range(1, 13))
    assert len(BY_ID) == 12
    for claim in CLAIMS:
        assert claim.title
        assert claim.statement
        assert claim.source.version
        assert claim.source.place
        assert re.fullmatch(r"[a-z][a-z-]+", claim.id)  # a file name
        assert bool(claim.live) or any(c.required for c in claim.criteria)


def finding(grade: str, order: float = 1.0, **choices: str) -> Finding:
    text = {"case": str(choices), "quantity": "mean_gap", "choices": choices}
    measurement = {**text, "grade": grade, "text": str(choices), "order": order}
    return Finding(choices, grade, {**text, "order": order}, measurement)


@pytest.mark.parametrize(
    ("grades", "verdict"),
    [
        (["holds", "holds"], "reproduced"),
        (["sharper", "holds"], "sharpened"),
        (["sharper", "fails"], "holds only if"),
        (["holds", "undecided"], "holds only if"),
        (["fails", "fails"], "not reproduced"),
        (["undecided", "undecided"], "not yet measured"),
        ([], "not yet measured"),
        (["holds", "holds", "disagrees"], "not reproduced"),
    ],
)
def test_verdict_of_grades(grades: list[str], verdict: str) -> None:
    found = [finding(g, case=str(i)) for i, g in enumerate(grades)]
    got, condition = judge(BY_ID["smooth-order"], found)
    assert got == verdict
    assert (condition == "") == (verdict == "reproduced")
    if "disagrees" in grades:
        assert "law and measurement disagree" in condition
    if "undecided" in grades:
        assert "undecided" in condition


def test_separate_finds_the_shortest_phrase() -> None:
    a = {"quantity": "mean gap", "restriction": "average", "dim": "1"}
    b = {"quantity": "rms gap", "restriction": "average", "dim": "1"}
    c = {"quantity": "rms gap", "restriction": "injection", "dim": "1"}
    d = {"quantity": "rms gap", "restriction": "injection", "dim": "2"}
    assert separate([a, b], [c, d]) == "average"
    assert separate([c], [a, b, d]) == "injection, d = 1"
    assert separate([a, c], [a]) is None


@pytest.mark.parametrize(
    ("relation", "order", "grade"),
    [
        ("at least", 2.0, "sharper"),
        ("at least", 1.0, "holds"),
        ("at least", 0.5, "fails"),
        ("at least", -1.0, "fails"),
        ("at most", -1.0, "holds"),
        ("at most", 0.0, "holds"),
        ("at most", 0.5, "fails"),
    ],
)
def test_bound_grades_keep_the_sign(relation: str, order: float, grade: str) -> None:
    bound = Bound(relation, 1.0 if relation == "at least" else 0.0)
    assert bound.grade(order) == grade
    assert bound.grade_interval(order - 0.01, order + 0.01, 0.05) == grade


def test_a_wide_interval_decides_nothing() -> None:
    assert Bound("at least", 1.0).grade_interval(0.5, 1.5, 0.05) == "undecided"
    assert Bound("at most", 0.0).grade_interval(-0.5, 0.5, 0.05) == "undecided"


def derived(order: float | None, agrees: bool | None = True, word: str = "") -> Derived:
    word = word or ("converges" if (order or 0.0) > 0 else "diverges")
    return Derived({"verdict": word}, order, agrees, "constants differ")


def test_law_and_measurement_are_held_against_each_other() -> None:
    bound = Bound("at least", 1.0)
    rate = fit_rate(H, 3.0 * H**2)
    assert grade_order(bound, rate, derived(2.0))[0] == "sharper"
    assert grade_order(bound, rate, derived(None))[0] == "sharper"
    for wrong in (derived(-2.0), derived(1.0), derived(2.0, False), derived(2.0, True, "stalls")):
        assert grade_order(bound, rate, wrong)[0] == "disagrees"
    zero = fit_rate(H, 0.0 * H, floor=1e-12)
    assert zero.verdict == "exact"
    assert grade_order(bound, zero, derived(math.inf, True, "exact"))[0] == "sharper"
    zigzag = fit_rate(H, 1.0 + 0.9 * (-1.0) ** np.arange(len(H)))
    assert grade_order(bound, zigzag, derived(2.0))[0] == "undecided"


# ---- live measurements ----


def test_smooth_order_is_sharpened_in_both_dimensions(laws: Callable[..., None]) -> None:
    laws()
    found = assess(BY_ID["smooth-order"])
    assert found.verdict == "sharpened"
    assert found.condition == (
        "the order is +2.00 for target identity or blur; 1 is attained for target shift"
    )
    assert len(found.findings) == 18
    for f in found.findings:
        expected = 1.0 if f.choices["target"] == "shift" else 2.0
        assert f.measurement["order"] == pytest.approx(expected, abs=0.03)
    assert "networks not yet measured" in found.notes[0]


def test_noise_diverges_only_where_its_covariance_does(laws: Callable[..., None]) -> None:
    laws()
    found = assess(one_dimensional("noise-divergence"))
    assert found.verdict == "holds only if"
    assert found.condition == "the noise's covariance over the stencil has no limit"
    grades = {(f.choices["noise"], f.choices["restriction"]): f.grade for f in found.findings}
    assert grades == {
        ("pixel noise", "average"): "holds",
        ("white noise", "average"): "holds",
        ("power-law noise (α < d)", "average"): "holds",
        ("pixel noise", "injection"): "fails",
        ("power-law noise (α > d)", "average"): "fails",
    }


def test_mfc_rms_order_falls_below_one(laws: Callable[..., None]) -> None:
    laws()
    found = assess(one_dimensional("mfc-order"))
    assert found.verdict == "holds only if"
    assert found.condition == "not (rms gap, injection), where the order is +0.50"
    mean = [f for f in found.findings if f.choices["quantity"] == "mean gap"]
    assert {f.grade for f in mean} == {"sharper", "holds"}


def test_the_wrong_sign_of_a_law_changes_the_verdict(laws: Callable[..., None]) -> None:
    """Negative control, on orders that an absolute value would let pass."""
    claim = one_dimensional("smooth-order")
    laws(sign=-1.0)
    found = assess(claim)
    assert found.verdict == "not reproduced"
    assert found.condition.startswith("law and measurement disagree (9 of 9 cases)")


def test_a_wrong_constant_changes_the_verdict(laws: Callable[..., None]) -> None:
    laws(agrees=False)
    found = assess(one_dimensional("smooth-order"))
    assert (found.verdict, "constants differ" in found.condition) == ("not reproduced", True)


def test_a_missing_law_is_said(laws: Callable[..., None]) -> None:
    laws(missing="`boundary` must be periodic")
    found = assess(one_dimensional("smooth-order"))
    assert found.verdict == "sharpened"
    expected = "no law in 9 of 9 cases, judged by measurement alone: `boundary` must be periodic"
    assert expected in found.notes


@pytest.mark.parametrize(
    ("noise", "restriction", "setting", "limit"),
    [
        ("pixel:1.0", "average", "coarsening", "has no limit"),
        ("pixel:1.0", "injection", "coarsening", "has a limit"),
        ("white:1.0", "average", "refinement", "has no limit"),
        ("matern:1.5:0.1", "average", "refinement", "has a limit"),
    ],
)
def test_covariance_of_the_noise(noise: str, restriction: str, setting: str, limit: str) -> None:
    assert noise_limit(noise, restriction, setting, 1) == limit


def test_scale_independence_and_where_it_ends() -> None:
    found = assess(BY_ID["scale-independence"])
    assert found.verdict == "holds only if"
    assert found.condition == "the output is resolved by the mesh"
    bands = [f.measurement for f in found.findings if "control" in f.measurement]
    assert max(max(m["values"]) for m in bands) < 1e-14
    assert min(min(m["control"]["values"]) for m in bands) > 1e-2  # negative control
    impulses = [(f.law["value"], f.measurement["value"]) for f in found.findings[1:8]]
    for law, value in impulses[:6]:
        assert value == pytest.approx(law, rel=0.1)
    assert impulses[-1][1] < 1e-14


def test_a_kernel_tied_to_the_grid_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a stencil in the place of the mesh-free kernel, and a blunt control."""
    stencil = scale_module.KERNELS.parse("stencil")
    options = scale_module.KernelOptions()
    monkeypatch.setattr(scale_module, "gaussian", lambda dim: stencil.build(dim, 1, options))
    assert assess(BY_ID["scale-independence"]).verdict == "not reproduced"
    monkeypatch.undo()
    assert scale_module.grade_impulse(1e-15, 1e-20) == "holds"
    assert scale_module.grade_impulse(1e-15, 1e-20, telling=False) == "undecided"
    assert scale_module.grade_impulse(1e-3, 1e-5) == "disagrees"
    assert scale_module.grade_impulse(1e-5, 1e-3) == "disagrees"


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


def test_json_document(call: Callable[..., Result]) -> None:
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
    assert len(document["claims"][0]["measurement"]) == 18


def test_results_and_output(call: Callable[..., Result], tmp_path: Path) -> None:
    results = tmp_path / "studies" / "claims"  # found by itself in the working directory
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
