"""The audit's numbers against the sweep, the orders of reference, and its own definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from audit_modules import NOISY, SMOOTH, ResNet, mesh_free, stencil
from torch import nn

from gradconv import MeshHierarchy, Problem, sweep
from gradconv.audit import Audit, audit

QUANTITIES = ("level_norm", "mean_gap", "rms_gap", "variance")


def convolution(problem: Problem) -> nn.Module:
    """The problem's stencil as a layer of torch."""
    theta = problem.convolution.theta
    shape = (*theta.shape[:2], *(3,) * problem.dim)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[problem.dim - 1]
    options = {"padding": 1, "padding_mode": "circular", "bias": False, "dtype": torch.float64}
    layer = kind(problem.channels, problem.channels, 3, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(theta.reshape(shape)))
    return layer


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("dim", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("setting", "restriction"),
    [("coarsening", "average"), ("coarsening", "injection"), ("refinement", "average")],
)
def test_gradients_are_those_of_the_sweep(dim: int, setting: str, restriction: str) -> None:
    problem = Problem(
        "stencil", "sobolev:2", "shift:0.07", "pixel:0.3", restriction, setting, dim, channels=2
    )
    hierarchy = MeshHierarchy.powers_of_two(dim, 2, 5)
    expected = sweep(problem, hierarchy, replicates=4, seed=7).sample.gradients
    found = audit(
        convolution(problem), data=problem, hierarchy=hierarchy, replicates=4, seed=7, explain=False
    )
    # components enough to be kept as they are would be compared as such: norms are isometric
    gram = [np.einsum("alp,bmp->albm", g, g) for g in (expected, found.samples["whole"].gradients)]
    assert relative(gram[1], gram[0]) < 1e-10
    other = audit(
        convolution(problem), data=problem, hierarchy=hierarchy, replicates=4, seed=8, explain=False
    )
    wrong = other.samples["whole"].gradients  # negative control: other paths
    assert relative(np.einsum("alp,bmp->albm", wrong, wrong), gram[0]) > 1e-3


def test_a_short_gradient_is_kept_component_by_component() -> None:
    problem = Problem("stencil", noise="pixel:20", signal="plane-wave:3", dim=2)
    hierarchy = MeshHierarchy.powers_of_two(2, 3, 6)
    swept = sweep(problem, hierarchy, replicates=16)
    found = audit(
        convolution(problem), noise="pixel:20", signal="plane-wave:3", hierarchy=hierarchy
    )
    assert relative(found.samples["whole"].gradients, swept.sample.gradients) < 1e-10
    # rounding magnitudes differ (the audit measures them), values do not
    sampled = swept.sample.gradients
    gaps = np.diff(sampled, axis=1)
    rms = np.sqrt(np.mean(np.sum(gaps**2, axis=-1), axis=0))
    assert relative(found.series("rms_gap")[0], rms) < 1e-10
    cosine = sampled.mean(0) @ sampled.mean(0)[-1] / np.linalg.norm(sampled.mean(0), axis=-1)
    cosine /= np.linalg.norm(sampled.mean(0)[-1])
    assert found.series("cosine")[0] == pytest.approx(cosine, abs=1e-10)


@pytest.mark.parametrize("dim", [1, 2])
def test_stencil_diverges_as_the_theory_says(dim: int) -> None:
    """Pixel noise, coarsening by averages: order −d."""
    levels = (32, 64, 128, 256, 512) if dim == 1 else (16, 32, 64, 128)
    found = audit(
        convolution(Problem("stencil", dim=dim)),
        noise="pixel:20",
        signal="plane-wave:3",
        hierarchy=levels,
        replicates=32,
        explain=False,
    )
    for quantity in ("rms_gap", "mean_gap"):
        rate = found.rate(quantity)
        assert rate.verdict == "diverges"
        assert rate.interval[0] <= -dim <= rate.interval[1]
        assert rate.interval[1] < 0  # negative control: the sign
    assert found.verdict == "diverges"


def test_three_layers_of_stencils_diverge_at_order_minus_two() -> None:
    torch.manual_seed(0)
    found = audit(ResNet(lambda i, o: stencil(i, o, bias=False)), **NOISY, explain=False)
    rate = found.rate("rms_gap")
    assert rate.verdict == "diverges"
    assert rate.interval[0] <= -2.0 <= rate.interval[1]
    assert {found.rate("rms_gap", g.name).verdict for g in found.layers()} == {"diverges"}


def test_three_mesh_free_layers_converge_at_order_two() -> None:
    torch.manual_seed(0)
    found = audit(
        ResNet(lambda i, o: mesh_free(i, o, bias=False, widths=(1 / 12, 1 / 6)), width=2),
        noise="pixel:0.1",
        signal="plane-wave:3",
        hierarchy=(16, 32, 64, 128),
        replicates=4,
    )
    rate = found.rate("rms_gap")
    assert rate.verdict == "converges"
    assert rate.interval[0] <= 2.0 <= rate.interval[1]
    assert found.findings == ()


def test_a_resolved_mesh_free_layer_is_exact() -> None:
    torch.manual_seed(0)
    choices = {"noise": "none", "signal": "band-limited:3", "restriction": "injection"}
    layer = mesh_free(1, 1, bias=False)
    found = audit(layer, **choices, hierarchy=(8, 16, 32, 64), explain=False)
    assert [found.rate(q).verdict for q in ("mean_gap", "rms_gap")] == ["exact", "exact"]
    assert found.verdict == "exact"
    assert found.aliasing is not None
    assert found.aliasing.values.max() < 1e-13
    standard = audit(stencil(1, 1), **choices, hierarchy=(8, 16, 32, 64), explain=False)
    assert standard.verdict != "exact"  # negative control


def test_whole_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    found = audit(ResNet(stencil, width=8), **NOISY, replicates=4, explain=False)
    for kind in ("layer", "parameter"):
        parts = [g.name for g in found.groups if g.kind == kind]
        for quantity in ("rms_gap", "variance"):
            power = 2 if quantity == "rms_gap" else 1
            whole = found.series(quantity)[0] ** power
            total = sum(found.series(quantity, name)[0] ** power for name in parts)
            assert whole == pytest.approx(total, rel=1e-10)
    assert found.groups[0].size == sum(g.size for g in found.layers())


def test_bias_is_the_distance_to_the_finest_level() -> None:
    torch.manual_seed(0)
    found = audit(stencil(1, 1), **SMOOTH, replicates=3, explain=False)
    mean = found.samples["whole"].gradients
    values, _ = found.series("bias")
    difference = mean - mean[:, -1:]
    spread = difference.var(axis=0, ddof=1).sum(-1) / len(mean)
    square = np.sum(difference.mean(0) ** 2, -1) - spread
    assert values == pytest.approx(np.sqrt(np.maximum(square, 0)), rel=1e-9)
    assert values[-1] == 0
    assert values[0] > values[1] > values[2] > 0


def test_same_seed_same_bits_and_more_levels_keep_the_rest() -> None:
    torch.manual_seed(0)
    net = ResNet(stencil)
    runs = [audit(net, **SMOOTH, replicates=3, explain=False) for _ in range(2)]
    first, second = (r.samples["whole"].gradients for r in runs)
    assert np.array_equal(first, second)
    other = audit(net, **SMOOTH, replicates=3, explain=False, seed=1)
    assert not np.array_equal(first, other.samples["whole"].gradients)


def test_data_has_units_and_every_group() -> None:
    found = audit(stencil(1, 1), **SMOOTH, explain=False)
    data = found.data
    assert list(data["kind"].values) == ["whole", "layer", "parameter", "parameter"]
    assert list(data["group"].values) == ["whole", "(module)", "weight", "bias"]
    for name in ("level_norm", "bias", "mean_gap", "rms_gap", "variance", "cosine"):
        assert data[name].dims == ("group", "level")
        assert data[name].attrs["units"]
        assert f"{name}_stderr" in data
    assert data["aliasing"].attrs["units"] == "1"
    gap = np.diff(data["gradient"].values, axis=1)
    rms = np.sqrt(np.mean(np.sum(gap**2, -1), axis=0))
    assert data["rms_gap"].values[0, 1:] == pytest.approx(rms, rel=1e-12)
    assert np.isnan(data["rms_gap"].values[0, 0])


def test_rates_cover_every_group_and_quantity() -> None:
    found = audit(stencil(1, 1), **SMOOTH, explain=False)
    rates = found.rates
    assert set(rates) == {"whole", "(module)", "weight", "bias"}
    assert all(set(r) == set(QUANTITIES) for r in rates.values())
    assert rates["whole"]["mean_gap"] is found.rate("mean_gap")
    assert rates["whole"]["level_norm"].verdict in ("bounded", "vanishes", "grows", "undecided")


def test_aliasing_of_a_stencil_has_order_one() -> None:
    """Its symbol is Σ w exp(i k m h): the first moment of the weights remains."""
    found = audit(
        convolution(Problem("stencil", dim=1)),
        signal="band-limited:2",
        noise="none",
        hierarchy=(32, 64, 128, 256, 512),
        explain=False,
    )
    rate = found.aliasing_rate
    assert rate is not None
    assert rate.verdict == "converges"
    assert rate.interval[0] <= 1.0 <= rate.interval[1]


def test_aliasing_against_the_symbol() -> None:
    """On one plane wave the error is |σ_h(k) − σ_2h(k)| / |σ_h(k)|."""
    from gradconv.audit.aliasing import relative_difference

    layer = convolution(Problem("stencil", dim=1))
    weights = layer.weight.detach().numpy().ravel()
    outputs, symbols = [], []
    for n in (16, 32):
        x = torch.cos(2 * torch.pi * 3 * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
        outputs.append(layer(x[None, None]).detach())
        symbols.append(np.sum(weights * np.exp(2j * np.pi * 3 / n * np.array([-1, 0, 1]))))
    got = relative_difference(*outputs, 1, "cell")
    assert got == pytest.approx(abs(symbols[1] - symbols[0]) / abs(symbols[1]), rel=1e-12)
    # negative control: with the half cell between the meshes' origins left in
    assert abs(relative_difference(*outputs, 1, "vertex") / got - 1) > 0.1


def test_a_float32_audit_agrees() -> None:
    torch.manual_seed(0)
    net = ResNet(stencil)
    single, double = (audit(net, **NOISY, dtype=d, explain=False) for d in ("float32", "float64"))
    values = [a.series("rms_gap")[0] for a in (single, double)]
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    assert single.samples["whole"].epsilon > 1e-8


@pytest.mark.gpu
def test_gpu_agrees() -> None:
    torch.manual_seed(0)
    net = ResNet(stencil)
    there = audit(net, **NOISY, device="cuda")
    here = audit(net, **NOISY)
    values = [a.series("rms_gap")[0] for a in (there, here)]
    assert values[0] == pytest.approx(values[1], rel=1e-8)
    assert [f.cause for f in there.findings] == [f.cause for f in here.findings]


def test_unknown_names_are_refused() -> None:
    from gradconv import InputError

    found: Audit = audit(stencil(1, 1), **SMOOTH, explain=False)
    with pytest.raises(InputError, match="did you mean 'rms_gap'"):
        found.rate("rms_gp")
    with pytest.raises(InputError, match="`group` must be one of"):
        found.rate("rms_gap", "nothing")
