"""Laws in symbols: expressions against the numbers that are derived beside them."""

from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy
from click.testing import CliRunner
from law_quadrature import integrate
from matplotlib.mathtext import MathTextParser

from gradconv import LawError, MeshHierarchy, Problem, derive
from gradconv.cli import app
from gradconv.laws.derive import norm_law
from gradconv.laws.expansion import gap_terms
from gradconv.laws.integrals import Profile, face_integral, lag_integral
from gradconv.laws.lattice import mean_gradients
from gradconv.laws.law import QuantityLaw, Term
from gradconv.laws.mean import mean_terms
from gradconv.laws.mellin import face_formula, lag_formula
from gradconv.laws.numeric import evaluate
from gradconv.laws.writing import Pieces, Written

H, FINE = 1.0 / 64, 1.0 / 4096
ALPHA = sympy.Symbol("alpha", real=True)
DIM = sympy.Symbol("d", positive=True, integer=True)

CHOICES = [
    (kernel, signal, target, noise, restriction, setting, dim)
    for kernel, setting, (dim, restriction), (signal, target, noise) in product(
        ("stencil", "scaled-stencil", "mfc", "spectral:2"),
        ("refinement", "coarsening"),
        (
            (1, "average"),
            (1, "injection"),
            (1, "full_weighting"),
            (1, "spectral"),
            (2, "average"),
        ),
        (
            ("sobolev:3", "identity", "none"),
            ("band-limited:2", "shift:0.1", "pixel:0.7"),
            ("plane-wave:3", "identity", "power:0.6"),
            ("sobolev:2.5", "blur:0.05", "matern:0.4:0.3"),
        ),
    )
] + [
    ("stencil:5", "plane-wave:3", "identity", "pixel:1", "bilinear", "coarsening", 2, 1, "direct"),
    ("stencil:7", "plane-wave:3", "identity", "power:0.6", "average", "refinement", 1),
    ("stencil:9", "band-limited:2", "shift:0.1", "pixel:1", "full_weighting", "coarsening", 1),
    ("stencil:7", "band-limited:2", "blur:0.05", "matern:0.4:0.3", "injection", "coarsening", 1),
    ("stencil", "band-limited:2", "identity", "power:1", "average", "refinement", 1),
    ("stencil", "band-limited:2", "identity", "power:2", "injection", "coarsening", 2),
    ("stencil", "band-limited:2", "identity", "power:3.3", "average", "refinement", 1),
    ("stencil", "band-limited:2", "derivative", "power:0", "average", "coarsening", 1),
    ("gaussian-derivative", "sobolev:3", "shift:0.1", "pixel:1", "average", "refinement", 1),
    ("gaussian-derivative", "sobolev:3", "identity", "power:2", "injection", "coarsening", 1),
    ("mfc", "sobolev:3", "identity", "power:0", "injection", "coarsening", 1),
    ("stencil", "band-limited:1", "shift:0.1", "pixel:1", "full_weighting", "coarsening", 3),
    ("scaled-stencil", "band-limited:1", "identity", "white:1", "average", "coarsening", 3),
    ("mfc", "band-limited:1", "blur:0.05", "none", "average", "refinement", 3),
    ("stencil", "sobolev:3", "identity", "salt-and-pepper:0.1", "average", "coarsening", 1),
    ("mfc", "sobolev:3", "identity", "salt-and-pepper:0.1", "average", "coarsening", 2),
    ("stencil", "sobolev:3", "blur:0.05", "pixel:1", "full_weighting", "coarsening", 1, 2),
    ("scaled-stencil", "sobolev:3", "identity", "power:0.6", "average", "refinement", 1, 2),
    ("mfc", "band-limited:2", "shift:0.1", "pixel:1", "average", "coarsening", 2, 2),
    ("spectral:2", "band-limited:2", "shift:0.1", "pixel:1", "average", "coarsening", 1, 2),
]  # fmt: skip


def problem_of(case: tuple[Any, ...]) -> Problem:
    channels, route = (*case[7:], *(1, "chain")[len(case) - 7 :])
    return Problem(*case[:7], channels=channels, route=route)


def number(term: Term) -> float:
    return (
        term.coefficient
        * H**term.exponent
        * FINE**term.fine_exponent
        * math.log(1 / H) ** term.logs
    )


def norms_of(case: tuple[Any, ...]) -> list[QuantityLaw]:
    """Laws of level norm and mean gap, as `derive` makes them, without those of the fluctuation."""
    problem = problem_of(case)
    terms, pieces = mean_terms(problem), Pieces(problem)
    parts = {"level_norm": terms, "mean_gap": gap_terms(terms)}
    return [norm_law(problem, q, t, pieces) for q, t in parts.items() if t]


@pytest.mark.parametrize("case", CHOICES, ids=lambda case: "-".join(map(str, case)))
def test_symbols_give_the_numbers(case: tuple[Any, ...]) -> None:
    """Each of the first two terms; a value that is off by 1 % shows."""
    for own in norms_of(case):
        written = own.written
        assert written.reason == ""
        assert len(written.parts) == len(own.terms[:2])
        for part, term in zip(written.parts, own.terms, strict=False):
            value = Written((part,), written.symbols).evaluate(H, FINE)
            assert value == pytest.approx(number(term), rel=1e-8, abs=0.0)
        if own.terms:
            total = sum(map(number, own.terms[:2]))
            assert own.evaluate_expression(H, FINE) == pytest.approx(total, rel=1e-7, abs=0.0)
            assert _moved_by_a_value(written, number(own.terms[0]))


def _moved_by_a_value(written: Written, expected: float) -> bool:
    lead = written.parts[0]
    sizes = {sympy.Symbol(n, positive=True): v for n, v in (("h", H), ("h_L", FINE))}
    used = (lead.free_symbols | lead.atoms(sympy.IndexedBase)) & set(written.values)
    wrong = [
        evaluate(lead, {**written.values, **sizes, s: 1.01 * np.asarray(written.values[s])}).real
        for s in used
        if s.name != "d"
    ]
    return all(abs(w / expected - 1) > 1e-6 for w in wrong)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_divergence_in_symbols(dim: int) -> None:
    """σ² h_L^d (1 − 2^{−d}) ‖θ‖ h^{−d}, with d, σ and θ as symbols."""
    law = derive(Problem("stencil", "band-limited:2", "identity", "pixel:0.7", dim=dim))
    sigma, norm, h, fine = sympy.symbols("sigma norm_theta h h_L", positive=True)
    expected = sigma**2 * fine**DIM * (1 - 2**-DIM) * norm / h**DIM
    lead = law.quantity("mean_gap").written.parts[0]
    assert sympy.simplify(lead - expected) == 0
    assert sympy.simplify(lead - 2 * expected) != 0
    values = law.quantity("mean_gap").values
    assert (values[sigma], values[DIM]) == (0.7, dim)


def test_the_critical_exponent_in_symbols() -> None:
    """2 π^{d/2} s² Σθ √p log 2 / Γ(α/2) at α = d; h^{α−d} next to it."""
    choices = {"signal": "band-limited:2", "setting": "refinement", "dim": 1}
    gap = derive(Problem("stencil", noise="power:1:0.3", **choices)).quantity("mean_gap")
    s, p, total = (
        sympy.Symbol("s", positive=True),
        sympy.Symbol("p", positive=True, integer=True),
        sympy.Symbol("s_0", real=True),
    )
    expected = 2 * sympy.pi ** (DIM / 2) * s**2 * total * sympy.sqrt(p) * sympy.log(2)
    assert sympy.simplify(gap.written.parts[0] - expected / sympy.gamma(ALPHA / 2)) == 0
    below = derive(Problem("stencil", noise="power:0.4:0.3", **choices)).quantity("mean_gap")
    h = sympy.Symbol("h", positive=True)
    lead = below.written.parts[0]
    assert sympy.simplify(h * sympy.diff(lead, h) / lead - (ALPHA - DIM)) == 0


def test_plain_sympy_evaluates_a_smooth_gap() -> None:
    """Sums over a stencil are sympy's own: substitution and doit, without this package."""
    gap = derive(Problem("stencil", "band-limited:2", noise="none", dim=1)).quantity("mean_gap")
    lead = gap.written.parts[0]
    numbers = {s: v for s, v in gap.values.items() if isinstance(s, sympy.Symbol)}
    value = float(lead.doit().subs(numbers).subs(sympy.Symbol("h", positive=True), H))
    assert value == pytest.approx(number(gap.terms[0]), rel=1e-12, abs=0.0)
    names = {str(s) for s in lead.free_symbols}
    assert names == {"M_2", "h", "s_0", "s_1", "s_2"}


def test_signal_and_noise_of_one_order_are_one_norm() -> None:
    choices = {"signal": "band-limited:2", "setting": "refinement", "dim": 2}
    gap = derive(Problem("mfc", noise="pixel:0.7", **choices)).quantity("mean_gap")
    assert gap.terms[0].origin == "signal + noise"
    values = {str(s): meaning for s, meaning in gap.symbols.items()}
    first = values["v"].formulas[0][1]
    assert {"sigma", "c", "A_11", "A_12", "A_22", "b_1", "b_2"} <= {
        str(s) for _, right in values["v"].formulas for s in right.free_symbols
    }
    assert first.has(sympy.Sum)
    assert gap.evaluate_expression(H, H) == pytest.approx(
        sum(map(number, gap.terms[:2])), rel=1e-10, abs=0.0
    )


@pytest.mark.parametrize(
    ("profile", "alpha", "lags"),
    [
        (Profile("band"), 0.6, (0,)),
        (Profile("band"), 0.6, (1,)),
        (Profile("band"), 3.3, (0, 1)),
        (Profile("band"), 1.2, (0, 0, 2)),
        (Profile("band"), 1.0, (0,)),
        (Profile("band", 1.0, 1), 0.6, (0,)),
        (Profile("sinc", 0.5, 1), 0.6, (0,)),
        (Profile("sinc", 0.5, 1), 3.0, (0, 1)),
        (Profile("sinc", 0.5, 2), 0.6, (1,)),
        (Profile("all"), 4.4, (0, 0, 1)),
    ],
    ids=str,
)
def test_integrals_over_a_cell(profile: Profile, alpha: float, lags: tuple[int, ...]) -> None:
    """Symbolic α and d, by tanh-sinh quadrature, against the package's Gauss rules."""
    formula = lag_formula(ALPHA, DIM, lags, profile, alpha)
    assert formula.has(sympy.Integral)
    assert formula.free_symbols == {ALPHA, DIM}
    expected = lag_integral(alpha, lags, profile)
    found = integrate(formula, {ALPHA: alpha, DIM: len(lags)})
    assert found == pytest.approx(expected, rel=1e-12, abs=0.0)
    other = lag_integral(alpha + 0.01, lags, profile)
    assert abs(other / found - 1) > 1e-4


@pytest.mark.parametrize("lags", [(0,), (1,), (0, 1), (1, 2), (0, 0, 1)], ids=str)
def test_integrals_over_faces(lags: tuple[int, ...]) -> None:
    found = integrate(face_formula(ALPHA, DIM, lags), {ALPHA: 2.7, DIM: len(lags)})
    expected = face_integral(2.7, lags, Profile("band"))
    assert found == pytest.approx(expected, rel=1e-12, abs=0.0)


def test_a_table_rests_on_its_integrals() -> None:
    choices = {"signal": "band-limited:2", "setting": "refinement", "dim": 2}
    gap = derive(Problem("stencil", noise="power:0.6:0.3", **choices)).quantity("mean_gap")
    meaning = gap.symbols[sympy.IndexedBase("I")]
    checked = 0
    for entry, formula in meaning.definitions:
        if 2 not in entry.indices:
            value = integrate(formula, {ALPHA: 0.6, DIM: 2})
            assert value == pytest.approx(meaning.value[entry.indices], rel=1e-12, abs=0.0)
            checked += 1
    assert checked == 3


@pytest.mark.parametrize("kernel", ["mfc", "spectral:2"])
@pytest.mark.parametrize("restriction", ["injection", "average", "spectral"])
@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
def test_flat_noise_without_its_mean(kernel: str, restriction: str, setting: str) -> None:
    """The mode j = 0 is missing on the data's mesh, but its aliases are not."""
    problem = Problem(kernel, "band-limited:2", "identity", "power:0", restriction, setting, 1)
    hierarchy = MeshHierarchy.powers_of_two(1, 7, 12)
    level = derive(problem).quantity("level_norm")
    exact = np.linalg.norm(mean_gradients(problem, hierarchy)[1])
    found = level.asymptote(hierarchy.h[[1]], float(hierarchy.h[-1]))[0]
    assert found == pytest.approx(exact, rel=1e-7, abs=0.0)


def test_expressions_are_written_when_asked_for() -> None:
    gap = derive(Problem("stencil", "band-limited:2", noise="pixel:1", dim=1)).quantity("mean_gap")
    assert "written" not in vars(gap)
    assert gap.expression.has(sympy.Symbol("norm_theta", positive=True))
    assert "written" in vars(gap)


def test_a_symbol_without_a_value_is_named() -> None:
    x, table = sympy.Symbol("x"), sympy.IndexedBase("T")
    with pytest.raises(LawError, match="got x"):
        evaluate(x + 1, {})
    with pytest.raises(LawError, match="table for T"):
        evaluate(table[0], {})


def test_derive_shows_symbols() -> None:
    text = "derive --kernel stencil,mfc --noise pixel:0.7 --signal band-limited:2 --dim 2"
    arguments = [*text.split(), "--restriction", "average", "--levels", "4:8"]
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    records = {(r["kernel"], r["quantity"]): r for r in document["laws"]}
    gap = records["stencil", "mean_gap"]
    assert gap["leading"] == "h_L**d*norm_theta*sigma**2*(1 - 1/2**d)/h**d"
    assert gap["symbols"]["sigma"]["value"] == 0.7
    assert "norm" in gap["symbols"]["norm_theta"]["meaning"]
    drifted = records["mfc", "mean_gap"]["symbols"]
    assert "A_12" in drifted["v"]["definition"]["v[0]"]
    assert len(drifted["v"]["value"]) == 6
    shown = CliRunner().invoke(app, arguments).output
    assert "norm_theta*sigma**2" in shown
    assert max(map(len, shown.splitlines())) <= 160
    steps = CliRunner().invoke(app, [*arguments, "--steps"]).output
    for line in ("σ(k) = c*exp(", "|T(k)|² = 1", "S(2πj) = sigma**2", "sigma = 0.7", "dsigma/d"):
        assert line in steps


def test_latex_is_set() -> None:
    """Every law of a few problems goes through a TeX parser."""
    parser = MathTextParser("path")
    for kernel, noise in (("stencil", "pixel:1"), ("stencil", "power:0.6"), ("mfc", "white:1")):
        law = derive(Problem(kernel, "band-limited:2", noise=noise, dim=1))
        for own in law.laws.values():
            text = own.latex.replace(r"\lVert", r"\|").replace(r"\rVert", r"\|")
            assert parser.parse(f"${text}$").width > 0
    with pytest.raises(ValueError, match="Expected"):
        parser.parse(r"$\frac{1$")
