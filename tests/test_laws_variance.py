"""The variance of the gap in powers of h: terms against the full law, exponents found."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradconv import MeshHierarchy, Problem, derive
from gradconv.laws.densities import Density
from gradconv.laws.lattice import gap_variances
from gradconv.laws.variance.cubature import folded, pyramid, radial_rule
from gradconv.laws.variance.rays import monomials, ray_weights, rays, taylor
from gradconv.laws.variance.terms import variance_terms
from gradconv.laws.variance.weights import spectral_moments

KERNELS = ("stencil", "mfc", "scaled-stencil", "gaussian-derivative", "spectral:2")
RESTRICTIONS = ("average", "injection", "full_weighting", "bilinear", "spectral")
WHITE = ("none", "pixel:0.3", "white:0.1")
COLOURED = ("power:0.3:0.1", "power:0.8:0.1", "power:2.3:0.1", "matern:0.4:0.2")
DATA = (
    ("band-limited:2", "blur:0.1"),
    ("sobolev:3", "identity"),
    ("sobolev:2.2", "shift:0.07"),
    ("plane-wave:3", "derivative:0"),
)


# a problem's errors are asked for again by the negative control
expansion_of = lru_cache(maxsize=4)(variance_terms)
values_of = lru_cache(maxsize=4)(gap_variances)


def expansion(problem: Problem, h: np.ndarray, fine_h: float) -> np.ndarray:
    """Sum of all terms."""
    terms = expansion_of(problem).terms
    return sum((t.value * h**t.exponent * fine_h**t.fine_exponent for t in terms), np.zeros_like(h))


def errors(problem: Problem, first: int, last: int, factor: float = 1.0) -> np.ndarray:
    """Relative error of the expansion on every pair of levels."""
    hierarchy = MeshHierarchy.powers_of_two(problem.dim, first, last)
    values = values_of(problem, hierarchy)
    found = factor * expansion(problem, hierarchy.h[1:], float(hierarchy.h[-1]))
    if not np.any(found):
        return np.asarray(values)
    return np.asarray(np.abs(values / found - 1.0))


def problems(noises: tuple[str, ...], setting: str, dim: int, keep: int) -> list[Problem]:
    everything = product(KERNELS, DATA, noises, RESTRICTIONS)
    return [
        Problem(kernel, signal, target, noise, restriction, setting, dim)
        for kernel, (signal, target), noise, restriction in list(everything)[::keep]
    ]


def name(problem: Problem) -> str:
    parts = problem.describe()
    keys = ("kernel", "signal", "target", "noise", "restriction", "setting", "dim")
    return "-".join(str(parts[k]) for k in keys)


FLAT = [p for s in ("refinement", "coarsening") for p in problems(WHITE, s, 1, 11)]


@pytest.mark.parametrize("problem", FLAT, ids=name)
def test_terms_with_independent_pixels(problem: Problem) -> None:
    """White and pixel noise: nothing but powers that are left out separates terms from values."""
    expansion = expansion_of(problem)
    found = errors(problem, 5, 11)
    if not expansion.terms:  # zero, or beyond what is known
        assert expansion.unknown is not None or found[-1] < 1e-16
        return
    assert min(found) < 2e-3
    assert found[3] < 0.3 * found[0] or found[3] < 1e-5
    assert min(errors(problem, 5, 11, factor=2.0)) > 0.4  # control


SMOOTH = problems(COLOURED, "refinement", 1, 19) + problems(COLOURED, "coarsening", 1, 19)


@pytest.mark.parametrize("problem", SMOOTH, ids=name)
def test_terms_with_power_laws(problem: Problem) -> None:
    """Coarsening is asymptotic where h_L ≪ h ≪ 1 alone: the middle of many levels is looked at."""
    expansion = expansion_of(problem)
    found = errors(problem, 4, 13)
    if not expansion.terms:
        assert expansion.unknown is not None or found[-1] < 1e-16
        return
    best = int(np.argmin(found))
    assert found[best] < 0.03
    assert errors(problem, 4, 13, factor=2.0)[best] > 0.4  # control


LARGER = """
stencil sobolev:3 identity pixel:0.3 average coarsening          2 | 7 | 1e-4
stencil sobolev:3 identity uniform:0.3 average coarsening        2 | 7 | 1e-4
stencil sobolev:3 identity power:1.7:0.1 injection refinement    2 | 7 | 0.02
stencil sobolev:3 shift:0.1 power:0.8:0.1 average refinement     2 | 7 | 0.03
scaled-stencil sobolev:3 identity pixel:0.3 injection refinement 2 | 7 | 1e-4
mfc sobolev:3 identity power:1.7:0.1 average refinement          2 | 7 | 1e-6
mfc sobolev:3 identity white:0.3 full_weighting coarsening       2 | 7 | 1e-3
stencil sobolev:3 identity pixel:0.3 average refinement          3 | 5 | 0.03
mfc sobolev:3 identity pixel:0.3 injection coarsening            3 | 5 | 1e-4
"""


@pytest.mark.parametrize("row", LARGER.strip().splitlines())
def test_terms_in_more_dimensions(row: str) -> None:
    """On 2^last cells an axis."""
    choices, last, limit = (part.split() for part in row.split("|"))
    problem = Problem(*choices[:-1], int(choices[-1]))
    assert errors(problem, 2, int(last[0]))[-1] < float(limit[0])
    assert errors(problem, 2, int(last[0]), factor=2.0)[-1] > 0.4  # control


def test_second_term_of_a_spectrum_that_bends() -> None:
    """(κ² + |j|²)^{−α/2}: the tail's next power is seen where h is near the correlation length."""
    choices = ("stencil", "band-limited:1", "identity", "matern:0.1:0.01:5", "average")
    problem = Problem(*choices, "coarsening", 1)
    assert errors(problem, 5, 15)[4] < 2e-4
    h = MeshHierarchy.powers_of_two(1, 5, 15).h[5]
    second = next(t for t in variance_terms(problem).terms if t.exponent == pytest.approx(3.4))
    lead = next(t for t in variance_terms(problem).terms if t.exponent == pytest.approx(1.4))
    assert abs(second.value * h**2 / lead.value) > 0.01  # it is felt there


def test_targets_of_one_name_are_told_apart() -> None:
    """Two functions under one label: what is kept of the first is not given to the second."""
    from gradconv.fields import Multiplier

    found = []
    for width in (0.05, 0.2):
        target = Multiplier(lambda k, w=width: np.exp(-0.5 * (w * k) ** 2), "smooth")
        problem = Problem("stencil", "sobolev:3", target, "none", "average", "coarsening", 1)
        assert errors(problem, 6, 11)[-1] < 1e-4
        found.append(variance_terms(problem).terms)
    assert found[0] != found[1]


def test_rounding_leaves_no_term() -> None:
    """Parts of restricted noise that vanish at k = 0 to high order leave nothing at low powers."""
    choices = ("spectral:2", "sobolev:3", "identity", "white", "full_weighting", "coarsening", 3)
    law = derive(Problem(*choices)).quantity("variance")
    assert (law.terms[0].exponent, law.terms[0].fine_exponent) == (4.0, 0.0)
    assert all(abs(t.coefficient) > 1e-12 for t in law.terms)


def test_terms_with_channels() -> None:
    """Modes of several channels mix: the fluctuation loses an order of the low modes."""
    choices = ("stencil", "sobolev:3", "shift:0.1", "power:0.8:0.1", "average", "refinement", 1)
    several, one = Problem(*choices, channels=3), Problem(*choices)
    assert errors(several, 4, 11)[-1] < 1e-2
    assert variance_terms(several).terms != variance_terms(one).terms


def test_fourth_cumulant_is_seen() -> None:
    """Uniform pixels fluctuate less than normal ones of the same variance."""
    choices = ("stencil", "band-limited:2", "blur:0.1", "{}", "{}", "coarsening", 1)
    for restriction, fine in (("injection", 0.0), ("average", 3.0), ("full_weighting", 3.0)):
        by_noise = {}
        for noise in ("uniform:0.3", "pixel:0.3"):
            filled = [noise if c == "{}" and i == 3 else c for i, c in enumerate(choices)]
            filled[4] = restriction
            terms = variance_terms(Problem(*filled)).terms
            by_noise[noise] = {(t.exponent, t.fine_exponent): t.value for t in terms}
        power = 1.0 if restriction == "injection" else -2.0
        normal = by_noise["pixel:0.3"].get((power, fine), 0.0)
        assert by_noise["uniform:0.3"][power, fine] < normal


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("setting", ["refinement", "coarsening"])
def test_second_critical_exponent(dim: int, setting: str) -> None:
    """Where the variance of a stencil's gap neither grows nor falls is found at α = d/2."""

    def order(alpha: float) -> float:
        problem = Problem(
            "stencil", "band-limited:1", noise=f"power:{alpha}:0.1", setting=setting, dim=dim
        )
        return derive(problem).quantity("variance").order

    orders = [order(alpha) for alpha in (0.1, dim / 2 - 2e-3, dim / 2 + 2e-3, 1.9)]
    assert orders == sorted(orders)
    assert orders[1] < 0 < orders[2]


def test_rms_gap_is_mean_square_and_variance() -> None:
    for noise, restriction in (("pixel:0.3", "injection"), ("white:0.3", "average")):
        law = derive(Problem("stencil", "sobolev:3", "identity", noise, restriction, dim=1))
        h, fine = np.array([2.0**-6, 2.0**-7]), 2.0**-14
        mean, variance, rms = (
            law.quantity(q).asymptote(h, fine) for q in ("mean_gap", "variance", "rms_gap")
        )
        np.testing.assert_allclose(rms**2, mean**2 + variance, rtol=1e-3)
        assert not np.allclose(rms**2, mean**2 + 2 * variance, rtol=1e-3)
        lead = law.quantity("rms_gap")
        assert lead.coefficient(fine) ** 2 == pytest.approx(
            lead.squares[0].coefficient * fine ** lead.squares[0].fine_exponent
        )


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["stencil", "mfc", "gaussian-derivative"]),
    st.sampled_from(["band-limited:1", "band-limited:2", "sobolev:3"]),
    st.sampled_from(["identity", "blur:0.1", "shift:0.07"]),
    st.sampled_from(["pixel", "white", "uniform"]),
    st.floats(0.05, 2.0),
    st.sampled_from(["average", "injection"]),
    st.sampled_from(["refinement", "coarsening"]),
)
def test_any_problem_with_white_noise(
    kernel: str, signal: str, target: str, noise: str, sigma: float, restriction: str, setting: str
) -> None:
    problem = Problem(kernel, signal, target, f"{noise}:{sigma}", restriction, setting, 1)
    assert errors(problem, 6, 12)[-1] < 2e-3, name(problem)


def test_logarithms_and_aliases_are_said() -> None:
    """What is not known is no term: no law, and why."""
    rough = Problem("mfc", "sobolev:3", "shift:0.1", "none", "injection", dim=2)
    assert "aliases of the signal" in derive(rough).missing["variance"]
    endless = Problem("stencil", "sobolev:3", "unblur", "none", "spectral", "refinement", 1)
    assert "bounded multiplier" in derive(endless).missing["variance"]
    meets = Problem("stencil", "band-limited:1", noise="power:2.5", setting="refinement", dim=1)
    expansion = variance_terms(meets)  # 2α − d meets the 4 of the low modes
    assert "logarithm" in expansion.limits()
    assert all(t.exponent < 4 for t in expansion.terms)


def test_rays_reproduce_sums_of_polynomials() -> None:
    rng = np.random.default_rng(3)
    for dim, degree in ((1, 5), (2, 6), (3, 6)):
        k, w = rng.normal(size=(40, dim)), rng.normal(size=40)
        powers = np.array(monomials(dim, degree))
        moments = w @ np.prod(k[:, None, :] ** powers, axis=2)
        weights = ray_weights(dim, degree, 6, moments)
        coefficients = rng.normal(size=len(powers))

        def polynomial(x: np.ndarray, c: Any = coefficients, p: Any = powers) -> np.ndarray:
            return np.asarray(np.prod(x[:, None, :] ** p, axis=2) @ c)

        assert weights @ polynomial(rays(dim, 6)) == pytest.approx(w @ polynomial(k), rel=1e-10)


def test_taylor_along_rays() -> None:
    directions = np.array([[3.0, 4.0], [0.0, 0.0]])
    series = taylor(lambda phi: np.exp(phi[..., 0] - 0.5 * phi[..., 1]), directions, 4)
    np.testing.assert_allclose(series[:, 0].real, [1, 1, 1 / 2, 1 / 6, 1 / 24], rtol=1e-12)
    np.testing.assert_allclose(series[:, 1].real, [1, 0, 0, 0, 0], atol=1e-13)


def test_moments_of_products_of_spectra() -> None:
    first = Density(2.0, 1, shift=1.0, alpha=7.0)
    second = Density(0.3, 1, alpha=1.5, origin=False)
    third = Density(0.7, 1, shift=40.0, alpha=2.4)

    def shifted(k: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(0.07j * k))

    j = np.arange(-250, 251)
    mesh = np.stack([a.ravel() for a in np.meshgrid(j, j, indexing="ij")], axis=1)
    square, k = np.sum(mesh**2, axis=1), 2 * np.pi * mesh
    for densities, factors, powers in (
        ((first, second), None, (0, 0)),
        ((first, third), None, (0, 0)),
        ((first, second), (None, shifted), (1, 0)),
        ((first, third), (shifted, None), (2, 0)),
    ):
        found = spectral_moments(densities, 2, 3, factors, powers)
        w = np.prod([d.at(square) for d in densities], axis=0).astype(complex)
        for axis, factor in enumerate(factors or ()):
            if factor is not None:
                w = w * factor(k[:, axis]) ** powers[0]
        for degree in range(4):
            for mu, value in zip(monomials(2, degree), found.values[degree], strict=True):
                direct = np.sum(w * np.prod(k ** np.array(mu), axis=1))
                assert value == pytest.approx(direct, rel=4e-4, abs=1e-9)
    assert spectral_moments((first,), 2, 6, None, (0, 0)).degrees == 5  # 7 − 2 − 5 = 0 diverges


def test_product_rule_takes_finite_parts() -> None:
    _, _, t = pyramid(1, 16)
    for power in (0.3, -0.6, -1.7, -3.4):
        weights = radial_rule(power, 16)
        # ∫ t^p cos t by its series, the divergent powers dropped
        terms = [
            (-1.0) ** m / np.prod(np.arange(1.0, 2 * m + 1)) / (power + 2 * m + 1)
            for m in range(12)
        ]
        assert weights @ np.cos(t) == pytest.approx(sum(terms), rel=1e-9)


def test_folded_spectrum_is_the_sum_over_aliases() -> None:
    t = np.array([[0.1, 0.3], [0.37, -0.2]])
    p = np.arange(-300, 301)
    x, y = np.meshgrid(p, p, indexing="ij")
    for alpha, r in ((1.4, 1), (3.2, 1), (1.3, 2)):
        direct = []
        for a, b in t:
            gain = (np.sinc(a + x) * np.sinc(b + y)) ** (2 * r)
            direct.append(np.sum(((a + x) ** 2 + (b + y) ** 2) ** (-alpha / 2) * gain))
        np.testing.assert_allclose(folded(alpha, r, t, low=True), direct, rtol=1e-4)
    # without aliases' cutoff: 2 ζ(α, t) in one dimension, by continuation for α < 1
    from mpmath import zeta

    line = np.array([[0.2], [0.4]])
    for alpha in (2.5, 0.6):
        hurwitz = [float(zeta(alpha, a) + zeta(alpha, 1 - a)) for a in line[:, 0]]
        np.testing.assert_allclose(folded(alpha, 0, line, low=True), hurwitz, rtol=1e-7)


def test_a_wrong_sign_is_caught() -> None:
    """The check of terms sees a term with the other sign, and a term that is left out."""
    problem = Problem(
        "stencil", "band-limited:2", "blur:0.1", "pixel:0.3", "average", "refinement", 1
    )
    hierarchy = MeshHierarchy.powers_of_two(1, 5, 11)
    values, h = gap_variances(problem, hierarchy), hierarchy.h[1:]
    terms = sorted(variance_terms(problem).terms, key=lambda t: t.exponent)
    for broken in (
        [replace(terms[0], value=-terms[0].value), *terms[1:]],
        terms[1:],
        [terms[0], replace(terms[1], value=-terms[1].value), *terms[2:]],
    ):
        wrong = sum(t.value * h**t.exponent for t in broken)
        assert np.abs(values / wrong - 1)[2] > 1e-3
    right = sum(t.value * h**t.exponent for t in terms)
    assert np.abs(values / right - 1)[2] < 1e-4


WRITTEN = """
stencil sobolev:3 identity pixel:0.7 average coarsening           | variance
mfc sobolev:3 blur:0.1 pixel:0.7 average coarsening               | rms_gap
stencil sobolev:3 identity matern:1:0.1 average refinement        | variance
stencil band-limited:2 shift:0.1 power:0.7:0.2 average refinement | rms_gap
stencil sobolev:3 identity uniform:0.5 injection coarsening       | variance
"""


@pytest.mark.parametrize("row", WRITTEN.strip().splitlines())
def test_symbols_give_the_numbers(row: str) -> None:
    choices, quantity = row.split("|")
    law = derive(Problem(*choices.split(), 1)).quantity(quantity.strip())
    h, fine = 0.01, 0.001
    total = sum(t.coefficient * h**t.exponent * fine**t.fine_exponent for t in law.terms[:2])
    assert law.evaluate_expression(h, fine) == pytest.approx(total, rel=1e-9, abs=0.0)
    names = {str(s): s for s in law.symbols}
    constants = [n for n in names if n[:2] in ("K_", "J_")]
    assert constants
    for name_of in constants:  # every constant is felt
        moved = {**law.values, names[name_of]: 1.5 * law.values[names[name_of]]}
        shown = law.expression.subs(moved)
        sizes = {s: {"h": h, "h_L": fine}[s.name] for s in shown.free_symbols}
        assert abs(float(shown.subs(sizes)) / total - 1) > 1e-6


def test_the_fluctuation_of_noise_is_quartic_in_sigma() -> None:
    import sympy

    law = derive(Problem("stencil", "band-limited:2", noise="pixel:0.7", dim=2))
    lead = law.quantity("variance").written.parts[0]
    sigma, h, fine = sympy.symbols("sigma h h_L", positive=True)
    assert sympy.degree(lead, sigma) == 4
    constant = sympy.Symbol("K_nn", real=True)
    assert sympy.simplify(lead - constant * sigma**4 * fine**4 / h**2) == 0
