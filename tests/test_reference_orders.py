"""The reference orders of the theory, in d = 1, 2, 3: exact ones to 2 %, sampled ones inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradconv import MeshHierarchy, Problem, Sweep, sweep

# wide enough for the asymptotic range of every row below
RANGES = {1: (4, 11), 2: (4, 9), 3: (4, 7)}
# kernel, signal, target, noise, setting, restriction -> order of the mean gap as a function of d
EXACT = [
    ("stencil", "band-limited:2", "identity", "none", "coarsening", "average", lambda d: 2),
    ("stencil", "band-limited:2", "identity", "none", "refinement", "average", lambda d: 2),
    ("stencil", "band-limited:2", "identity", "none", "refinement", "injection", lambda d: 2),
    ("stencil", "band-limited:2", "blur:0.05", "none", "coarsening", "injection", lambda d: 2),
    ("stencil", "band-limited:2", "shift:0.15", "none", "coarsening", "injection", lambda d: 1),
    ("stencil", "band-limited:2", "identity", "pixel:40", "coarsening", "average", lambda d: -d),
    ("stencil", "band-limited:2", "identity", "white:1", "refinement", "average", lambda d: -d),
    ("stencil", "band-limited:2", "identity", "pixel:0.5", "coarsening", "injection", lambda d: 2),
    ("mfc", "band-limited:2", "identity", "none", "coarsening", "average", lambda d: 2),
    ("mfc", "band-limited:2", "identity", "pixel:0.5", "coarsening", "average", lambda d: 2),
    ("mfc", "band-limited:2", "identity", "pixel:0.5", "coarsening", "injection", lambda d: d),
]


def run(
    kernel: str,
    signal: str,
    target: str,
    noise: str,
    setting: str,
    restriction: str,
    dim: int,
    replicates: int = 2,
    levels: tuple[int, int] | None = None,
) -> Sweep:
    problem = Problem(kernel, signal, target, noise, restriction, setting, dim)
    hierarchy = MeshHierarchy.powers_of_two(dim, *(levels or RANGES[dim]))
    return sweep(problem, hierarchy, replicates=replicates)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("row", EXACT, ids=lambda row: "-".join(row[:-1]))
def test_exact_mean_gap(row: tuple[object, ...], dim: int) -> None:
    *choices, law = row
    expected = law(dim)  # type: ignore[operator]
    levels = None
    if dim == 3:  # a longer wave has the same orders on meshes half as fine
        choices[1] = "band-limited:1"
        levels = (3, 6) if choices[4:] == ["refinement", "average"] else (4, 7)
    rate = run(*choices, dim, levels=levels).rate("mean_gap")  # type: ignore[arg-type]
    low, high = rate.interval
    assert low <= expected <= high, (rate.order, rate.interval, rate.pairwise)
    # the finest pair is asymptotic; in 3-D, up to 128 cells an axis, the fit is not yet everywhere
    assert rate.pairwise[-1] == pytest.approx(expected, rel=0.015)
    assert rate.order == pytest.approx(expected, rel=0.03 if dim == 3 else 0.01)
    assert rate.verdict == ("converges" if expected > 0 else "diverges")


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_constant_of_the_divergence(dim: int) -> None:
    """Pixel noise under averaging: σ² h_L^d (1 − 2^{−d}) ‖θ‖ h^{−d}, by Parseval."""
    sigma = 1000.0  # drowns the signal: only the noise is left
    result = run(
        "stencil", "band-limited:2", "identity", f"pixel:{sigma}", "coarsening", "average", dim
    )
    theta = np.linalg.norm(result.problem.convolution.theta)
    finest = result.hierarchy.h[-1]
    expected = sigma**2 * finest**dim * (1 - 2.0**-dim) * theta
    rate = result.rate("mean_gap")
    assert rate.coefficient == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("quantity", ["mean_gap", "rms_gap", "variance", "level_norm"])
def test_resolved_mesh_free_gradient_is_exact(quantity: str, dim: int) -> None:
    rate = run(
        "mfc",
        "band-limited:2",
        "identity",
        "none",
        "coarsening",
        "injection",
        dim,
        levels=(5, 8) if dim < 3 else (4, 7),
    ).rate(quantity)
    assert rate.verdict == ("bounded" if quantity == "level_norm" else "exact")


# sampled rows: order of the rms gap, chosen so that one power of h rules the whole window
SAMPLED = [
    ("stencil", "plane-wave:3", "identity", "white:2", "refinement", "average", lambda d: -d),
    ("stencil", "plane-wave:3", "identity", "pixel:20", "coarsening", "average", lambda d: -d),
    ("stencil", "plane-wave:3", "identity", "pixel:20", "coarsening", "injection", lambda d: d / 2),
    ("mfc", "plane-wave:3", "identity", "pixel:0.02", "coarsening", "injection", lambda d: d / 2),
    (
        "stencil",
        "plane-wave:3",
        "identity",
        "pixel:20",
        "refinement",
        "injection",
        lambda d: d / 2,
    ),
]


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("row", SAMPLED, ids=lambda row: "-".join(row[:-1]))
def test_sampled_rms_gap(row: tuple[object, ...], dim: int) -> None:
    *choices, law = row
    levels = (6, 11) if dim == 1 else (5, 9)
    rate = run(*choices, dim, replicates=64, levels=levels).rate("rms_gap")  # type: ignore[arg-type]
    low, high = rate.interval
    assert low <= law(dim) <= high, (rate.order, rate.interval, rate.pairwise)  # type: ignore[operator]
    assert not low <= -law(dim) <= high  # type: ignore[operator]  # negative control: the sign


def test_mesh_free_rms_gap_under_averaging() -> None:
    """Order 1 in every dimension: the restricted grids sample the noise at shifted points."""
    for dim, levels in ((1, (6, 11)), (2, (5, 9))):
        rate = run(
            "mfc",
            "plane-wave:3",
            "identity",
            "pixel:20",
            "coarsening",
            "average",
            dim,
            replicates=64,
            levels=levels,
        ).rate("rms_gap")
        assert rate.interval[0] <= 1.0 <= rate.interval[1], (dim, rate)


@pytest.mark.parametrize("boundary", ["zero", "reflecting"])
def test_walls_cost_an_order(boundary: str, tmp_path: Path) -> None:
    """Order 1 in 1-D for a signal that does not fit the period, where a periodic box has 2.

    Odd terms of the expansion in h integrate to u² at one wall less u² at the other.
    """
    x = (np.arange(2**14) + 0.5) / 2**14
    np.save(tmp_path / "ramp.npy", 0.2 + x)
    hierarchy = MeshHierarchy.powers_of_two(1, 8, 14)
    ramp = Problem("stencil", f"image:{tmp_path / 'ramp.npy'}", dim=1, boundary=boundary)
    rate = sweep(ramp, hierarchy).rate("mean_gap")
    assert rate.interval[0] <= 1.0 <= rate.interval[1]
    assert rate.pairwise[-1] == pytest.approx(1.0, abs=0.1)
    wave = Problem("stencil", "plane-wave:3", dim=1)  # negative control
    assert sweep(wave, hierarchy).rate("mean_gap").order == pytest.approx(2.0, rel=0.02)


def test_a_sum_instead_of_a_mean_shifts_the_order() -> None:
    """Negative control: without the quadrature weight the same gaps have order 2 − d."""
    from gradconv import fit_rate

    result = run("stencil", "band-limited:2", "identity", "none", "coarsening", "average", 2)
    values, _ = result.sample.series("mean_gap")
    h = result.hierarchy.h[1:]
    assert fit_rate(h, values).order == pytest.approx(2.0, abs=0.05)
    assert fit_rate(h, values / h**2).verdict == "stalls"


def test_uncoupled_levels_are_caught() -> None:
    """Negative control: gaps between independent paths lose their order."""
    from gradconv import fit_rate

    result = run("mfc", "plane-wave:3", "identity", "pixel:20", "coarsening", "average", 2, 64)
    gradients = result.sample.gradients
    mixed = np.stack([np.roll(gradients[:, i], i, axis=0) for i in range(gradients.shape[1])], 1)
    h = result.hierarchy.h[1:]
    deviation = np.sum(np.diff(mixed - mixed.mean(0), axis=1) ** 2, -1)
    coupled = result.rate("variance").order
    assert coupled == pytest.approx(2.0, abs=0.4)
    broken = fit_rate(h[1:], paths=deviation[:, 1:]).order
    assert abs(broken - coupled) > 0.8
