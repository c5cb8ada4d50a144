"""Derived laws: orders and constants, the full law against sweeps, errors, the command."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import sympy
from click.testing import CliRunner
from hypothesis import given, settings

from gradconv import LawError, MeshHierarchy, Problem, derive, sweep
from gradconv.agreement import compare
from gradconv.cli import app
from gradconv.gradient import expected_gradients
from gradconv.kernels import KERNELS
from gradconv.laws.densities import read_density
from gradconv.laws.derive import _add
from gradconv.laws.expansion import gap_terms
from gradconv.laws.lattice import mean_gradients, on_level
from gradconv.laws.mean import mean_terms
from gradconv.laws.transfers import flat_covariance, transfer_of
from gradconv.laws.writing import Pieces
from gradconv.mesh import FourierGrid, Mesh
from gradconv.testing import strategies as gst
from tests.test_reference_orders import EXACT


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(KERNELS.names))
def test_formula_is_the_symbol(name: str, dim: int) -> None:
    """The symbol in sympy against the one that the gradient uses, Nyquist modes included."""
    kernel = Problem(name, dim=dim, channels=2).convolution
    n = 10
    values = on_level(Problem(kernel, dim=dim, channels=2), n)
    grid = FourierGrid(Mesh(dim, n))
    half = values.symbol[..., : n // 2 + 1]
    assert np.allclose(half, kernel.symbol(grid), rtol=0, atol=1e-12 * np.abs(half).max())
    rng = np.random.default_rng(0)
    q = rng.standard_normal((2, 2, *(n,) * dim))
    modes = np.fft.fftn(q, axes=tuple(range(-dim, 0)))
    expected = kernel.operator(grid).pullback(modes[..., : n // 2 + 1]) * kernel.scale
    flat = values.slopes.reshape(*values.slopes.shape[:3], -1).conj()
    found = np.einsum("oipk,oik->oip", flat, modes.reshape(2, 2, -1)).real
    assert np.allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("row", EXACT, ids=lambda row: "-".join(row[:-1]))
def test_derived_orders(row: tuple[Any, ...], dim: int) -> None:
    kernel, signal, target, noise, setting, restriction, order = row
    problem = Problem(kernel, signal, target, noise, restriction, setting, dim)
    law = derive(problem).quantity("mean_gap")
    assert law.order == order(dim)
    assert law.verdict == ("converges" if order(dim) > 0 else "diverges")


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_constant_of_the_divergence(dim: int) -> None:
    """σ² h_L^d (1 − 2^{−d}) ‖θ‖, by Parseval."""
    problem = Problem("stencil", "band-limited:2", "identity", "pixel:0.7", dim=dim)
    law = derive(problem).quantity("mean_gap")
    norm = float(np.linalg.norm(problem.convolution.theta))
    expected = 0.49 * (1 - 2.0**-dim) * norm * (1 / 64) ** dim
    assert law.coefficient(1 / 64) == pytest.approx(expected, rel=1e-12, abs=0.0)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_first_critical_exponent(dim: int) -> None:
    """α = d: a logarithm in the level norm, a constant gap s² |S^{d−1}| log 2 |Σw| √p."""
    text = f"power:{dim}:0.3"
    problem = Problem("stencil", "band-limited:2", "identity", text, setting="refinement", dim=dim)
    law = derive(problem)
    level, gap = law.quantity("level_norm"), law.quantity("mean_gap")
    assert (level.order, level.logs, level.verdict) == (0.0, 1, "grows")
    assert (gap.order, gap.logs, gap.verdict) == (0.0, 0, "stalls")
    weights = problem.convolution.theta
    sphere = (2.0, 2 * math.pi, 4 * math.pi)[dim - 1]
    expected = 0.09 * sphere * math.log(2) * abs(weights.sum()) * math.sqrt(weights.size)
    assert gap.coefficient() == pytest.approx(expected, rel=1e-10, abs=0.0)


@pytest.mark.parametrize(("target", "highest"), [("identity", 2.0), ("shift:0.1", 1.0)])
@pytest.mark.parametrize("dim", [1, 2])
def test_orders_around_the_critical_exponent(dim: int, target: str, highest: float) -> None:
    for step in (-0.7, -0.2, 0.2, 0.9, 1.4, 2.6):
        noise = f"power:{dim + step:.9g}"
        problem = Problem("stencil", "band-limited:2", target, noise, setting="refinement", dim=dim)
        law = derive(problem).quantity("mean_gap")
        assert law.order == pytest.approx(min(step, highest), abs=1e-9)
    smooth = Problem("stencil", "band-limited:2", "identity", "matern:0.4:0.2",
                     setting="refinement", dim=dim)  # fmt: skip
    assert derive(smooth).quantity("mean_gap").order == pytest.approx(0.8)


CASES = [
    (kernel, signal, target, noise, restriction, setting, dim)
    for dim in (1, 2)
    for kernel in ("stencil", "scaled-stencil", "mfc", "gaussian-derivative")
    for setting in ("refinement", "coarsening")
    for signal, target, noise in (
        ("sobolev:3", "identity", "none"),
        ("band-limited:2", "shift:0.1", "pixel:0.7"),
        ("sobolev:3", "blur:0.05", "white:0.1"),
        ("band-limited:2", "identity", "power:0.6"),
        ("band-limited:2", "identity", "matern:0.7:0.3"),
    )
    for restriction in ("average", "injection", "full_weighting", "spectral")
    if (kernel, dim) != ("scaled-stencil", 2)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_expansion_goes_through_the_full_law(case: tuple[Any, ...]) -> None:
    """All terms together, at a mesh in the middle, against the sum over modes."""
    problem = Problem(*case)
    laws, missing = {}, {}
    # as `derive` does, without the fluctuation, which takes longer
    _add(laws, missing, Pieces(problem), "mean_gap", gap_terms(mean_terms(problem)))
    if missing:
        assert "aliases" in missing["mean_gap"]
        return
    gap = laws["mean_gap"]
    coarsening = problem.setting == "coarsening"
    n, finest = (256, 2**13) if problem.dim == 1 else (64, 256)
    folded = all(t.region == "alias" and t.origin == "signal" for t in gap.vectors)
    if folded and problem.dim == 2:  # higher powers of |k|h need a finer mesh
        n, finest = 128, 512
    last = finest if coarsening else n
    sizes = tuple(n // 4 * 2**i for i in range(int(math.log2(last / (n // 4))) + 1))
    hierarchy = MeshHierarchy(problem.dim, sizes)
    gradients = mean_gradients(problem, hierarchy)
    values = np.linalg.norm(np.diff(gradients[:3].reshape(3, -1), axis=0), axis=1)
    h, fine = np.array([2.0, 1.0]) / n, 1.0 / finest if coarsening else 1.0 / n
    if not gap.terms:
        assert values[-1] < 1e-6 * np.abs(gradients).max()
        return
    # the gap between the expansion and the sum is of the order of what is not expanded
    error = np.abs(gap.asymptote(h, fine) - values) / values
    assert error.min() < (0.1 if (coarsening or folded) and problem.dim == 2 else 0.02), error
    doubled = np.abs(2 * gap.asymptote(h, fine) - values) / values  # negative control
    assert doubled[-1] > 0.5


# one restriction depends on the position, and has no law
LAWFUL = gst.restrictions().filter(lambda text: text != "bilinear_corners")


@settings(max_examples=40, deadline=None)
@given(gst.placed_problems(boundary="periodic", restriction=LAWFUL))
def test_full_law_goes_through_exact_expectations(placed: tuple[Problem, MeshHierarchy]) -> None:
    problem, hierarchy = placed
    expected, magnitude = expected_gradients(problem, hierarchy)
    found = mean_gradients(problem, hierarchy)
    scaled = expected * problem.convolution.scale
    # a signal outside of the kernel's band leaves the squares of rounding errors, about 1e-32
    assert np.abs(found - scaled).max() <= 1e-11 * magnitude.max() + 1e-28


def test_compare_refuses_wrong_laws() -> None:
    problem = Problem("stencil", "band-limited:1", "shift:0.1", "pixel:5", "average", dim=1)
    hierarchy = MeshHierarchy.powers_of_two(1, 3, 8)
    result, law = sweep(problem, hierarchy, replicates=128), derive(problem)
    right = compare(law, result)
    assert [right[q].agrees for q in sorted(right)] == [True] * 4
    assert right["mean_gap"].order == -1.0
    values = law.evaluate(hierarchy)
    twice = compare(law, result, {q: 2 * v for q, v in values.items()})
    assert [twice[q].agrees for q in sorted(twice)] == [False] * 4
    turned = compare(law, result, {q: v[::-1] for q, v in values.items()})  # the order's sign
    assert [turned[q].agrees for q in sorted(turned)] == [False] * 4
    other = derive(Problem("stencil", "band-limited:1", "identity", "pixel:5", "average", dim=1))
    with pytest.raises(ValueError, match="`sweep` must be of the law's problem"):
        compare(other, result)


def test_covariance_of_full_weighting_is_found() -> None:
    """r₀(f) = 2/(3f) + 1/(3f³), r₁(f) = (1/f − 1/f³)/6, from powers of one step."""
    parts = dict(flat_covariance(transfer_of(Problem("stencil", restriction="full_weighting"))))
    assert parts[-1.0] == pytest.approx({0: 2 / 3, 1: 1 / 6})
    assert parts[-3.0] == pytest.approx({0: 1 / 3, 1: -1 / 6})


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"boundary": "zero"}, "`boundary` must be periodic"),
        ({"restriction": "bilinear_corners"}, "act alike at every position"),
    ],
)
def test_no_law_at_all(choices: dict[str, str], message: str) -> None:
    with pytest.raises(LawError, match=message):
        derive(Problem("stencil", **choices))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"signal": "photograph"}, "measured spectrum"),
        ({"noise": "power:-1", "setting": "refinement"}, "`alpha` must be positive"),
        ({"target": "unblur:0.001"}, "bounded multiplier"),
        ({"signal": "plane-wave:3", "channels": 2}, "`channels` must be 1"),
        (  # the noise's aliases fall like h^6, the signal's like h^4.4: they come first
            {
                "kernel": "mfc",
                "signal": "sobolev:1.2",
                "target": "shift:0.1",
                "noise": "power:6",
                "dim": 2,
                "restriction": "injection",
            },
            "their aliases move",
        ),
    ],
)
def test_missing_laws_say_which_assumption_fails(choices: dict[str, Any], message: str) -> None:
    law = derive(Problem(**{"kernel": "stencil", **choices}))
    with pytest.raises(LawError, match=message):
        law.quantity("mean_gap")


def test_photograph_is_evaluated_with_its_spectrum() -> None:
    problem = Problem("stencil", "photograph:camera", noise="pixel:0.2")
    hierarchy = MeshHierarchy.powers_of_two(2, 3, 6)
    result = sweep(problem, hierarchy, replicates=64)
    agreement = compare(derive(problem), result)
    assert agreement["mean_gap"].agrees is True
    assert agreement["variance"].agrees is True
    assert agreement["mean_gap"].order is None


def test_a_density_of_another_form_is_refused() -> None:
    square, h = sympy.symbols("J h", positive=True)
    with pytest.raises(LawError, match="`spectral density` must be"):
        read_density(sympy.exp(-square), {}, square, h)


def test_derive_command() -> None:
    text = "derive --kernel stencil --noise white:1 --dim 1 --setting refinement"
    arguments = [*text.split(), "--restriction", "average", "--levels", "4:9"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    document = json.loads(result.output)
    assert document["schema"] == "gradconv.law/1"
    gap = next(r for r in document["laws"] if r["quantity"] == "mean_gap")
    assert gap["order"] == -1.0
    assert gap["coefficient"] == pytest.approx(0.5 * math.sqrt(0.3), rel=1e-12)
    assert gap["assumptions"]
    assert gap["latex"]
    assert "h" in gap["expression"]
    reasons = {r["quantity"]: r["reason"] for r in document["laws"]}
    assert sorted(reasons) == ["level_norm", "mean_gap", "rms_gap", "variance"]
    assert set(reasons.values()) == {""}
    orders = {r["quantity"]: r["order"] for r in document["laws"]}
    assert orders["variance"] == orders["rms_gap"] == -1.0
    assert reasons["mean_gap"] == ""
    assert "norm_theta*sigma**2" in CliRunner().invoke(app, arguments).output
    assert r"\frac" in CliRunner().invoke(app, [*arguments, "--latex"]).output
    assert "flat spectrum" in CliRunner().invoke(app, [*arguments, "--steps"]).output


@pytest.mark.parametrize(
    ("noise", "restriction", "setting", "dim", "tolerance"),
    [
        ("power:0.6", "average", "refinement", 1, 1e-8),
        ("power:0.6", "average", "refinement", 2, 1e-6),
        ("power:0.6", "spectral", "coarsening", 1, 1e-6),
        ("matern:0.4:0.3", "average", "refinement", 1, 1e-6),
        ("white:0.1", "spectral", "coarsening", 1, 1e-9),
    ],
)
def test_corrections_are_right(
    noise: str, restriction: str, setting: str, dim: int, tolerance: float
) -> None:
    """Edges of the band and Nyquist modes are seen only well below the leading term."""
    problem = Problem("stencil", "band-limited:1", "identity", noise, restriction, setting, dim)
    n = 2**10 if dim == 1 else 2**8
    hierarchy = MeshHierarchy.powers_of_two(dim, n.bit_length() - 3, n.bit_length() - 1)
    gradients = mean_gradients(problem, hierarchy).reshape(3, -1)
    # in coarsening the finest mesh is not restricted: its gap is not yet the law's
    level = 1 if setting == "coarsening" else 2
    expected = np.linalg.norm(gradients[level] - gradients[level - 1])
    h, fine = hierarchy.h[[level]], float(hierarchy.h[-1])
    found = derive(problem).quantity("mean_gap").asymptote(h, fine)[0]
    assert found == pytest.approx(expected, rel=tolerance, abs=0.0)
