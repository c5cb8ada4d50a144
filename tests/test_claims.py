"""The claims ledger: verdicts by rule, from law and live measurement."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from claims_stub import BY_ID, one_dimensional, stub_laws

from gradconv.claims import scale as scale_module
from gradconv.claims.claim import Bound, Finding
from gradconv.claims.ledger import assess
from gradconv.claims.orders import Derived, grade_order, noise_limit
from gradconv.claims.paper import CLAIMS
from gradconv.claims.rules import judge, separate
from gradconv.rates import fit_rate

H = 0.5 ** np.arange(4, 10)


@pytest.fixture
def laws(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return stub_laws(monkeypatch)


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
    assert ("none contradicts it" in condition) == (grades == ["holds", "undecided"])


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
