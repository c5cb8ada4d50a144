"""The laws against an independent reference, and the reference against the package and sampling.

`law_reference` (dense matrices) and `law_extrapolation` (direct sums on large meshes) share no code
with gradconv.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from law_extrapolation import (
    mean_gap_constant,
    mesh_free_mean,
    richardson,
    stencil_mean,
    variance_constant,
)
from law_reference import Reference
from scipy.integrate import quad

from gradconv import MeshHierarchy, Problem, derive, sweep
from gradconv.gradient import expected_gradients
from gradconv.laws import lattice

KERNELS = ("stencil", "mfc", "scaled-stencil", "gaussian-derivative", "spectral")
NOISES = (
    "none",
    "pixel:0.3",
    "white:0.1",
    "uniform:0.4",
    "power:1.3:0.2",
    "power:0:0.2",  # flat, yet without a mean
    "matern:0.7:0.1",
    "salt-and-pepper:0.3",
)
RESTRICTIONS = ("injection", "average", "full_weighting", "bilinear", "spectral")
MODES = (("coarsening", "chain"), ("coarsening", "direct"), ("refinement", "chain"))
SIZES = {1: (8, 16, 32), 2: (4, 8), 3: (4, 8)}
SMALL = {**SIZES, 3: (3, 6)}  # for the variance, which takes dense matrices of every pixel
DATA = (
    ("band-limited:1", "shift:0.07"),
    ("sobolev:1.2", "derivative:0"),
    ("sobolev:0.7", "identity"),
    ("plane-wave:3", "blur:0.05"),
)


def law_of(problem: Problem) -> Any:
    return derive(problem)


def cases(kernel: str, dim: int, keep: int) -> list[Problem]:
    """Every `keep`-th problem of the product of choices; a prime takes every value along."""
    if kernel == "spectral":
        kernel = "spectral:3" if dim == 1 else "spectral:1"
    data = DATA if dim == 1 else DATA[:3]  # the wave is not resolved on 4 cells
    found = [
        Problem(kernel, signal, target, noise, restriction, setting, dim, route=route)
        for signal, target in data
        for noise in NOISES
        for restriction in RESTRICTIONS
        for setting, route in MODES
    ]
    return found[::keep]


def check_values(got: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> None:
    """Hold every quantity of a law to the reference; what cancels to zero may leave rounding."""
    size = max(float(np.max(reference["level_norm"])), 0.01)
    floors = {"variance": 1e-14 * size**2, "rms_gap": 1e-7 * size}
    for name, values in reference.items():
        assert name in got, f"the law has no values of the {name}"
        found = np.asarray(got[name])
        assert found.shape == values.shape
        error = np.abs(found - values)
        allowed = 1e-10 * np.abs(values) + floors.get(name, 1e-13 * size)
        worst = int(np.argmax(error / allowed))
        assert np.all(error <= allowed), (
            f"{name}: got {found[worst]:.12g}, expected {values[worst]:.12g}"
        )


def check_constant(
    order: float, coefficient: float, expected_order: float, constant: float, tolerance: float
) -> None:
    """Hold the leading term of a law to an extrapolated constant."""
    assert order == pytest.approx(expected_order, abs=1e-12)
    assert coefficient == pytest.approx(constant, rel=tolerance, abs=0.0)


# --- the reference itself -------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("dim", "keep"), [(1, 11), (2, 23), (3, 89)])
def test_reference_means_equal_the_exact_expectations(kernel: str, dim: int, keep: int) -> None:
    for problem in cases(kernel, dim, keep):
        hierarchy = MeshHierarchy(dim, SIZES[dim])
        expected, _ = expected_gradients(problem, hierarchy)
        got = Reference(problem, hierarchy.sizes).mean_gradients()
        error = np.abs(got - expected).max()
        assert error <= 1e-12 * np.abs(expected).max(), (problem.describe(), error)


@pytest.mark.parametrize(
    ("kernel", "signal", "noise", "restriction", "setting", "dim", "channels"),
    [
        ("stencil", "sobolev:1.2", "uniform:2", "injection", "refinement", 1, 1),
        ("stencil", "sobolev:1.2", "white:0.1", "average", "refinement", 1, 2),
        ("mfc", "sobolev:1.2", "power:1.3:0.2", "injection", "refinement", 1, 2),
        ("scaled-stencil", "plane-wave:3", "matern:0.7:0.1", "average", "refinement", 1, 1),
        ("stencil", "plane-wave:3", "salt-and-pepper:0.3", "average", "coarsening", 1, 1),
        ("spectral:3", "sobolev:1.2", "pixel:0.7", "full_weighting", "coarsening", 1, 2),
        ("gaussian-derivative", "band-limited:1", "power:0.4:0.2", "spectral", "coarsening", 2, 1),
    ],
)
def test_reference_variance_equals_sampling(
    kernel: str, signal: str, noise: str, restriction: str, setting: str, dim: int, channels: int
) -> None:
    """Within 4.5 standard errors: a false alarm in fewer than 1 of 5000 runs of all cases."""
    problem = Problem(
        kernel, signal, "shift:0.07", noise, restriction, setting, dim, channels=channels
    )
    sizes = (8, 16, 32, 64) if dim == 1 else (4, 8, 16, 32)  # a sweep takes four levels
    hierarchy = MeshHierarchy(dim, sizes)
    values, errors = sweep(problem, hierarchy, replicates=800, seed=3).sample.series("variance")
    exact = Reference(problem, sizes).gap_variances()
    assert np.all(np.abs(values - exact) <= 4.5 * errors + 1e-25), (values - exact) / errors
    assert np.all(errors < 0.15 * exact)  # sharp enough to see a missing factor


def test_uniform_noise_needs_its_fourth_cumulant() -> None:
    """Negative control: Gaussian noise of the same spectrum has another variance."""
    hierarchy = MeshHierarchy(1, (8, 16, 32))
    uniform, normal = (
        Reference(
            Problem("stencil", "band-limited:1", noise=noise, restriction="injection", dim=1),
            hierarchy.sizes,
        ).gap_variances()
        for noise in ("uniform:2", "pixel:2")
    )
    assert np.all(uniform < 0.9 * normal)


def test_direct_sums_equal_the_dense_reference() -> None:
    for setting in ("coarsening", "refinement"):
        for restriction in ("injection", "average", "full_weighting", "bilinear"):
            for noise in ("none", "pixel:0.3", "white:0.1", "power:0.5:0.2", "matern:0.7:0.1"):
                if setting == "coarsening" and noise[:3] in ("pow", "mat"):
                    continue
                choices = ("band-limited:3", "shift:0.07", noise, restriction, setting)
                for dim, n in ((1, 16), (2, 8)):
                    problem = Problem("stencil", *choices, dim)
                    dense = Reference(problem, (n, 2 * n)).mean_gradients()[0].ravel()
                    assert np.abs(stencil_mean(problem, n, 2 * n) - dense).max() < 1e-13
                if noise[:3] not in ("pow", "mat"):
                    problem = Problem("mfc", *choices, 1)
                    scaled = Reference(problem, (128, 256)).scaled_means()[0]
                    assert np.abs(mesh_free_mean(problem, 128, 256) - scaled).max() < 1e-13


def test_richardson_finds_a_known_constant() -> None:
    h = 0.5 ** np.arange(4, 11)
    values = -3.0 * h**-0.5 * (1 + 2.0 * h**1.5 - 5.0 * h**2 + 7.0 * h**4)
    constant, change = richardson(h, values, -0.5, (1.5, 2, 4))
    assert constant == pytest.approx(-3.0, rel=1e-12)
    assert change < 1e-12
    wrong, shift = richardson(h, values, -0.5, (1, 2, 4))  # negative control: a wrong exponent
    assert abs(wrong / -3.0 - 1) > 1e-9
    assert shift > 1e-9


# --- the law at finite h --------------------------------------------------------------------


def check_law(problem: Problem, hierarchy: MeshHierarchy, derived: bool = True) -> None:
    """Hold the law's values to the reference, and demand all that it promises.

    `Law.evaluate` is a function of the problem alone: its terms, which take most of the time, are
    derived only if asked for.
    """
    values = lattice.evaluate(problem, hierarchy)
    if derived:
        same = law_of(problem).evaluate(hierarchy)
        assert same.keys() == values.keys()
        assert all(np.array_equal(same[name], values[name]) for name in values)
    reference = Reference(problem, hierarchy.sizes)
    follows_signal = problem.noise.name == "salt-and-pepper"
    mixes_pixels = problem.noise.name == "uniform" and problem.restriction.name == "spectral"
    wanted = {"level_norm", "mean_gap"}
    if not (follows_signal or mixes_pixels):
        wanted |= {"variance", "rms_gap"}
    assert wanted <= set(values), problem.describe()
    check_values(values, reference.quantities(*sorted(wanted)))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("dim", "keep"), [(1, 17), (2, 37), (3, 89)])
def test_law_at_finite_h(kernel: str, dim: int, keep: int) -> None:
    chosen = cases(kernel, dim, keep)
    assert len(chosen) >= 3
    for index, problem in enumerate(chosen):
        check_law(problem, MeshHierarchy(dim, SMALL[dim]), derived=index % 4 == 0)


@pytest.mark.parametrize("noise", ["none", "pixel:0.3", "uniform:0.4", "white:0.1"])
@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
def test_law_of_two_channels(noise: str, setting: str) -> None:
    restrictions = ("injection", "average", "full_weighting")
    for kernel in KERNELS[:3]:
        for restriction in restrictions:
            problem = Problem(
                kernel, "sobolev:2", "shift:0.07", noise, restriction, setting, 1, channels=2
            )
            derived = restriction == "full_weighting"
            check_law(problem, MeshHierarchy(1, (8, 16, 32)), derived)
    assert len(restrictions) == 3


@pytest.mark.parametrize("sizes", [(3, 6, 12), (2, 4, 8), (5, 10)])
def test_law_on_odd_and_tiny_meshes(sizes: tuple[int, ...]) -> None:
    """A stencil that reaches around the box; meshes without a Nyquist mode."""
    for setting in ("coarsening", "refinement"):
        for noise in ("pixel:0.3", "white:0.1", "power:1.3:0.2"):
            problem = Problem("stencil", "sobolev:1", "shift:0.07", noise, "average", setting, 1)
            check_law(problem, MeshHierarchy(1, sizes))
    assert sizes[1] == 2 * sizes[0]


# --- negative controls ----------------------------------------------------------------------


def assert_check_catches_wrong_values(
    values: dict[str, np.ndarray], problem: Problem, sizes: tuple[int, ...]
) -> None:
    """Break correct values, or the reference, in every way that must be seen."""
    reference = Reference(problem, sizes).quantities(*values)
    check_values(values, reference)
    for name in values:
        with pytest.raises(AssertionError, match=name):
            check_values({**values, name: 2.0 * values[name]}, reference)
    missing = {name: v for name, v in values.items() if name != "mean_gap"}
    with pytest.raises(AssertionError, match="no values"):
        check_values(missing, reference)
    for fault in ("no-aliases", "restricted-twice"):
        wrong = Reference(problem, sizes, fault).quantities(*values)
        for name in values:
            with pytest.raises(AssertionError, match=f"{name}: got"):
                check_values({**wrong, name: values[name]}, wrong)


def assert_check_catches_wrong_constants(
    order: float, coefficient: float, constant: float, tolerance: float
) -> None:
    """Break a correct leading term in every way that must be seen."""
    check_constant(order, coefficient, order, constant, tolerance)
    broken = [(order, 2.0 * coefficient), (-order, coefficient), (order, -coefficient)]
    broken += [(order, coefficient * (1 + 3 * tolerance)), (order + 1e-9, coefficient)]
    for wrong_order, wrong in broken:
        if (wrong_order, wrong) != (order, coefficient):  # -0 = 0
            with pytest.raises(AssertionError):
                check_constant(wrong_order, wrong, order, constant, tolerance)


@pytest.mark.parametrize("kernel", ["stencil", "mfc"])
def test_broken_values_are_caught(kernel: str) -> None:
    problem = Problem(kernel, "sobolev:1", "shift:0.07", "pixel:0.5", "average", "coarsening", 1)
    sizes = (8, 16, 32)
    correct = Reference(problem, sizes).quantities("level_norm", "mean_gap", "variance", "rms_gap")
    assert_check_catches_wrong_values(correct, problem, sizes)
    law = law_of(problem).evaluate(MeshHierarchy(1, sizes))
    assert set(law) == set(correct)
    assert_check_catches_wrong_values(law, problem, sizes)


# --- constants ------------------------------------------------------------------------------

B1, FINE = "band-limited:1", 2**20

# problem (B3: band-limited:3) | levels n = 2**e | order | exponents of corrections | tolerance
CONSTANTS = """
stencil B3 identity none average refinement 1               | 4:12  |    2 | 2 4 6           | 1e-9
stencil B3 blur:0.05 pixel:0.5 full_weighting refinement 1  | 4:12  |    2 | 2 4 6           | 1e-9
stencil B3 shift:0.07 none average refinement 1             | 4:15  |    1 | 1 2 3 4 5 6     | 1e-9
stencil B3 derivative:0 none average refinement 1           | 4:15  |    1 | 1 2 3 4 5 6     | 1e-9
stencil B3 identity none average refinement 2               | 4:11  |    2 | 2 4 6 8         | 1e-8
stencil B1 identity pixel:0.5 injection refinement 3        | 4:9   |    2 | 2 4             | 1e-6
stencil sobolev:3 identity none average refinement 1        | 4:14  |    2 | 2 4 6           | 1e-7
stencil sobolev:0.6 identity none average refinement 1      | 4:15  |  1.2 | 0.8 2 2.8 4     | 1e-8
stencil sobolev:0.6 identity none injection refinement 1    | 4:15  |  1.2 | 0.8 1 2 2.8 3 4 | 1e-8
stencil B1 identity white:0.1 average refinement 1          | 4:14  |   -1 | 3 5 7           | 1e-12
stencil B1 identity white:0.1 average refinement 2          | 4:10  |   -2 | 4 6             | 1e-8
stencil B1 identity power:0.5:0.1 average refinement 1      | 4:15  | -0.5 | 2 2.5 4 4.5     | 1e-10
stencil B1 identity power:1:0.1 average refinement 1        | 4:15  |    0 | 2 4 6           | 1e-10
stencil B1 identity power:1.5:0.1 average refinement 1      | 4:15  |  0.5 | 1.5 2 3.5 4     | 1e-9
stencil B1 identity power:2:0.1 average refinement 1        | 4:15  |    1 | 1 2 3 4         | 1e-8
stencil B1 identity power:1:0.1 average refinement 2        | 4:11  |   -1 | 2 3 4 5         | 1e-6
stencil B1 identity power:2:0.1 average refinement 2        | 4:11  |    0 | 2 4 6           | 1e-8
stencil B1 identity matern:0.7:0.1 average refinement 1     | 5:15  |  1.4 | 0.6 2 2.6 4 4.6 | 1e-8
stencil B1 identity pixel:20 average coarsening 1           | 4:12  |   -1 | 3 5 7           | 1e-11
stencil B1 identity pixel:20 average coarsening 2           | 4:12  |   -2 | 4 6 8           | 1e-8
stencil B1 identity white:0.02 average coarsening 1         | 4:12  |   -1 | 3 5 7           | 1e-11
stencil B1 identity pixel:20 full_weighting coarsening 1    | 4:10  |   -1 | 3 5 7           | 1e-6
stencil B3 identity pixel:20 injection coarsening 1         | 4:12  |    2 | 2 4 6           | 1e-7
stencil B3 identity none average coarsening 1               | 4:12  |    2 | 2 4 6           | 1e-9
stencil B3 shift:0.1 none injection coarsening 1            | 4:15  |    1 | 1 2 3 4 5 6     | 1e-9
mfc B3 identity none average refinement 1                   | 7:12  |    2 | 2 4             | 1e-9
mfc B3 identity pixel:0.5 average coarsening 1              | 7:12  |    2 | 2 4             | 1e-9
mfc B3 identity pixel:0.5 injection coarsening 1            | 7:12  |    1 |                 | 1e-11
mfc B3 identity pixel:0.5 injection refinement 1            | 7:12  |    1 |                 | 1e-11
"""


def table(text: str) -> list[tuple[Any, ...]]:
    """Rows as (choices of the problem, levels, order, corrections, tolerance)."""
    rows = []
    for line in text.strip().splitlines():
        problem, levels, order, corrections, tolerance = line.split("|")
        *choices, dim = re.sub(r"\bB(\d)", r"band-limited:\1", problem).split()
        exponents = tuple(float(c) for c in corrections.split())
        span = range(*(int(e) for e in levels.split(":")))
        rows.append(((*choices, int(dim)), span, float(order), exponents, float(tolerance)))
    return rows


@pytest.mark.parametrize("case", table(CONSTANTS), ids=lambda case: "-".join(map(str, case[0])))
def test_constant_of_the_mean_gap(case: tuple[Any, ...]) -> None:
    """The tolerance of a case covers what its extrapolation reaches."""
    choices, levels, order, corrections, tolerance = case
    constant, change = mean_gap_constant(Problem(*choices), levels, order, corrections, FINE)
    assert change < tolerance
    law = law_of(Problem(*choices)).quantity("mean_gap")
    coefficient = law.coefficient(1.0 / FINE)
    check_constant(law.order, coefficient, order, constant, max(tolerance, 1e-9))
    assert_check_catches_wrong_constants(law.order, coefficient, constant, max(tolerance, 1e-9))


VARIANCES = """
stencil B1 identity white:10 average refinement 1           | 4:10  |   -1 | 3 5             | 1e-9
stencil B1 identity pixel:50 injection refinement 1         | 4:10  |    1 | 2 4             | 1e-8
stencil B1 identity uniform:0.5 injection refinement 1      | 4:10  |    1 | 2 3             | 5e-5
stencil B1 identity none injection refinement 1             | 4:10  |    4 | 2 4 6           | 1e-7
stencil B1 identity power:0.2:10 average refinement 1       | 4:10  | -0.6 | 1.6 2           | 1e-5
mfc B1 identity pixel:0.5 injection refinement 1            | 7:11  |    1 | 1               | 1e-11
"""


@pytest.mark.parametrize("case", table(VARIANCES), ids=lambda case: "-".join(map(str, case[0])))
def test_constant_of_the_variance(case: tuple[Any, ...]) -> None:
    choices, levels, order, corrections, tolerance = case
    problem = Problem(*choices)
    constant, change = variance_constant(problem, levels, order, corrections)
    assert change < tolerance
    law = law_of(problem)
    derived = law.quantity("variance")
    assert derived.order == pytest.approx(order, abs=1e-9)
    assert derived.coefficient() == pytest.approx(constant, rel=max(tolerance, 1e-9), abs=0.0)
    assert_check_catches_wrong_constants(
        derived.order, derived.coefficient(), constant, max(tolerance, 1e-9)
    )
    hierarchy = MeshHierarchy.powers_of_two(problem.dim, levels[0] - 1, levels[-1])
    values = law.evaluate(hierarchy)["variance"]
    found, _ = richardson(hierarchy.h[1:], values, order, corrections)
    assert found == pytest.approx(constant, rel=tolerance, abs=0.0)
    assert 2 * found != pytest.approx(constant, rel=3 * tolerance, abs=0.0)


def test_extrapolated_constants_have_their_closed_forms() -> None:
    """The harness by itself: white noise, and power laws as integrals over the band."""
    for dim, levels, corrections in ((1, range(4, 14), (3, 5, 7)), (2, range(4, 10), (4, 6))):
        problem = Problem("stencil", B1, "identity", "white:0.1", "average", "refinement", dim)
        constant, _ = mean_gap_constant(problem, levels, -dim, corrections)
        norm = np.linalg.norm(np.asarray(problem.convolution.theta))
        assert constant == pytest.approx(0.01 * (1 - 0.5**dim) * norm, rel=1e-8)
    problem = Problem("stencil", B1, "identity", "power:0.5:0.1", "average", "refinement", 1)
    # r(l) = 2 s² n^{1-α} ∫ t^{-α} cos(2πlt) dt over t < 1/2, t = v²
    line = [
        quad(lambda v, m=m: 4 * np.cos(2 * np.pi * m * v * v), 0, 0.5**0.5)[0] for m in range(3)
    ]
    weights = np.asarray(problem.convolution.theta)[0, 0]
    vector = [sum(w * line[abs(b - a)] for b, w in enumerate(weights)) for a in range(3)]
    expected = 0.01 * (1 - 0.5**0.5) * np.linalg.norm(vector)
    constant, _ = mean_gap_constant(problem, range(4, 15), -0.5, (2, 2.5, 4, 4.5))
    assert constant == pytest.approx(expected, rel=1e-10)
    assert_check_catches_wrong_constants(-0.5, expected, constant, 1e-9)
    loud = Problem("stencil", B1, "identity", "pixel:50", "injection", "refinement", 1)
    found, _ = variance_constant(loud, range(4, 9), 1, (2, 4))
    assert found == pytest.approx(13877700.0, rel=1e-8)


def test_sums_over_many_modes_keep_their_digits() -> None:
    """A gap is a small difference of level norms: on 512² modes it is left with ten digits."""
    from gradconv.laws.lattice import mean_gradients, on_level
    from gradconv.laws.pairs import level_pairs

    problem = Problem("stencil", signal="sobolev:3", noise="none", restriction="average", dim=2)
    hierarchy = MeshHierarchy.powers_of_two(2, 8, 9)
    summed = mean_gradients(problem, hierarchy)[-1, 0, 0]
    (pair,) = level_pairs(problem, hierarchy, 2)
    kernel = on_level(problem, 512)
    residual = (kernel.symbol * pair.fine_power - pair.fine_cross)[0, 0].ravel()
    terms = (kernel.slopes[0, 0].reshape(9, -1).conj() * residual).real
    exact = np.array([math.fsum(row) for row in terms])
    assert np.abs(summed - exact).max() < 4e-16
    one_by_one = np.array([np.cumsum(row)[-1] for row in terms])  # the control
    assert np.abs(one_by_one - exact).max() > 1e-14
