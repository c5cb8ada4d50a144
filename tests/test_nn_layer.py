"""The mesh-free layer against a dense reference, on every mesh, in every way torch uses it."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from gradconv import InputError
from gradconv.nn import (
    MeshFreeConv1d,
    MeshFreeConv2d,
    MeshFreeConv3d,
    UnresolvedKernelWarning,
)
from gradconv.nn.engine import symbols
from tests.nn_dense import convolve

LAYERS = {1: MeshFreeConv1d, 2: MeshFreeConv2d, 3: MeshFreeConv3d}


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def fields(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed)).to(dtype)


def gradients(layer: torch.nn.Module, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Output, and the gradient of ⟨g, output⟩ by the input and every weight."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(g)
    found = {name: p.grad.clone() for name, p in layer.named_parameters()}
    return {"output": y.detach(), "input": x.grad, **found}


class Dense(torch.nn.Module):
    """The reference with the weights of a layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        la = self.layer
        y = convolve(
            x,
            la.physical(),
            la.sides(tuple(x.shape[2:])),
            groups=la.groups,
            padding=la.padding_mode,
            margin=4 * max(x.shape[2:]),
            stride=la.stride[0],
            restriction=la.restriction,
        )
        return y if la.bias is None else y + la.bias.reshape(-1, *(1,) * la.dim)


def relative(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    return {
        name.removeprefix("layer."): float(
            (found[name.removeprefix("layer.")].double() - e).norm() / e.norm()
        )
        for name, e in expected.items()
    }


WIDE = (1 / 4, 1 / 4)  # zero walls need resolved kernels: others ring across any extension
CASES = [
    ((16,), {"in_channels": 4, "out_channels": 4}),
    ((17,), {"in_channels": 2, "out_channels": 3, "terms": 2, "derivatives": 2}),
    ((2,), {"in_channels": 1, "out_channels": 1}),
    ((16, 16), {"in_channels": 2, "out_channels": 3, "padding_mode": "reflect"}),
    ((15, 20), {"in_channels": 4, "out_channels": 4, "groups": 2, "terms": 2, "derivatives": 1}),
    ((64, 80), {"in_channels": 2, "out_channels": 2, "widths": (1 / 20, 1 / 8)}),
    ((66, 9), {"in_channels": 1, "out_channels": 2, "extent": (2.0, 0.5), "derivatives": 2}),
    ((40, 48), {"in_channels": 3, "out_channels": 3, "groups": 3, "padding_mode": "zero"}),
    ((24, 16), {"in_channels": 2, "out_channels": 2, "stride": 2, "restriction": "full_weighting"}),
    ((16, 20), {"in_channels": 1, "out_channels": 2, "stride": 4, "padding_mode": "reflect"}),
    ((13, 12), {"in_channels": 2, "out_channels": 1, "derivatives": 2, "zero_mean": True}),
    ((8, 10, 9), {"in_channels": 2, "out_channels": 2, "derivatives": 1}),
    ((10, 10, 10), {"in_channels": 2, "out_channels": 1, "padding_mode": "zero", "widths": WIDE}),
]


@pytest.mark.filterwarnings("ignore::gradconv.nn.UnresolvedKernelWarning")
@pytest.mark.parametrize(("n", "options"), CASES, ids=str)
def test_layer_is_the_dense_convolution_with_every_gradient(n, options):
    options = {"widths": (1 / 12, 1 / 6), **options}
    layer = LAYERS[len(n)](
        **options, path="torch", tolerance=1e-15, dtype=torch.float64, generator=seeded()
    )
    x = fields(2, options["in_channels"], *n)
    g = fields(*layer(x).shape, seed=2)
    found = gradients(layer, x, g)
    errors = relative(found, gradients(Dense(layer), x, g))
    assert max(errors.values()) < 1e-11, errors
    # Negative control: the drift's sign, and a diffusion one per cent off, are seen.
    for name, factor in (("drift", -1.0), ("diffusion", 1.005)):
        wrong = copy.deepcopy(layer)
        with torch.no_grad():
            getattr(wrong, name).mul_(factor)
        off = relative(gradients(wrong, x, g), gradients(Dense(layer), x, g))
        assert max(off.values()) > 1e-6


@pytest.mark.parametrize("derivatives", [0, 1, 2])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("spectrum", ["white", "smooth"])
def test_tolerance_holds_for_output_and_every_gradient(derivatives, tolerance, spectrum):
    """Relative errors of the truncation stay below the tolerance, and not by orders."""
    options = {"widths": (1 / 36, 1 / 20), "derivatives": derivatives, "dtype": torch.float64}
    layer = MeshFreeConv2d(4, 4, **options, tolerance=tolerance, path="torch", generator=seeded(3))
    exact = MeshFreeConv2d(4, 4, **options, tolerance=1e-15, path="torch", generator=seeded(3))
    x, g = fields(2, 4, 96, 96), fields(2, 4, 96, 96, seed=5)
    if spectrum == "smooth":
        j = torch.fft.fftfreq(96, 1 / 96, dtype=torch.float64)
        decay = 1.0 / (1.0 + j[:, None] ** 2 + j[None, :] ** 2)
        x = torch.fft.ifft2(torch.fft.fft2(x) * decay).real
    errors = relative(gradients(layer, x, g), gradients(exact, x, g))
    assert max(errors.values()) < tolerance, errors
    if spectrum == "white":  # negative control: the cut is felt
        assert max(errors.values()) > tolerance / 50, errors


def test_anisotropic_kernels_of_one_direction_need_fewer_modes():
    layer = MeshFreeConv2d(1, 1, widths=(1 / 40, 1 / 10), dtype=torch.float64, generator=seeded())
    layer.set_physical(diffusion=[[[[[0.008, 0.0], [0.0, 0.0004]]]]])
    thin = layer.plan((96, 96)).modes
    layer.set_physical(diffusion=[[[[[0.0004, 0.0], [0.0, 0.0004]]]]])
    assert thin < 0.3 * layer.plan((96, 96)).modes


def band_limited(n: tuple[int, ...], modes: int = 3) -> Tensor:
    """One field in two channels, resolved on every mesh, at the points ih."""
    x: Tensor | float = 0.0
    grids = torch.meshgrid(*(torch.arange(m, dtype=torch.float64) / m for m in n), indexing="ij")
    draw = np.random.default_rng(7)
    for _ in range(6):
        j = draw.integers(-modes, modes + 1, len(n))
        phase = sum(2 * math.pi * int(a) * t for a, t in zip(j, grids, strict=True))
        x = x + torch.stack([draw.normal() * torch.cos(phase), draw.normal() * torch.sin(phase)])
    return x[None]


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_same_weights_are_one_operator_on_every_mesh(dim):
    layer = LAYERS[dim](
        2,
        2,
        widths=(1 / 8, 1 / 5),
        extent=1.0,
        derivatives=1,
        dtype=torch.float64,
        generator=seeded(),
    )
    coarse, fine = (8, 9, 10)[:dim], (24, 27, 30)[:dim]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UnresolvedKernelWarning)
        on_coarse, on_fine = layer(band_limited(coarse)), layer(band_limited(fine))
    every_third = on_fine[(..., *(slice(None, None, 3),) * dim)]
    torch.testing.assert_close(on_coarse, every_third, rtol=1e-11, atol=1e-12)
    # Negative control: a stencil is another operator on each.
    conv = getattr(torch.nn, f"Conv{dim}d")(2, 2, 3, padding=1, padding_mode="circular").double()
    with torch.no_grad():
        off = conv(band_limited(fine))[(..., *(slice(None, None, 3),) * dim)]
        assert (off - conv(band_limited(coarse))).norm() > 0.05 * off.norm()


def test_single_precision_keeps_1e_4_in_output_and_every_gradient():
    low, high = math.sqrt(2.8e-4), math.sqrt(5.6e-4)  # about five pixels of 256²
    layer = MeshFreeConv2d(8, 8, widths=(low, high), path="torch", generator=seeded())
    exact = MeshFreeConv2d(8, 8, widths=(low, high), path="torch", dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    x, g = (fields(2, 8, 128, 128, seed=s, dtype=torch.float32) for s in (1, 2))
    errors = relative(gradients(layer, x, g), gradients(exact, x.double(), g.double()))
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize("padding", ["periodic", "reflect", "zero"])
@pytest.mark.parametrize("n", [(17,), (12, 10), (8, 6, 8)], ids=str)
def test_first_and_second_derivatives_pass_gradcheck(n, padding):
    layer = LAYERS[len(n)](
        2,
        2,
        widths=(1 / 5, 1 / 4),
        derivatives=1,
        terms=2,
        padding_mode=padding,
        stride=2 if len(n) == 2 else 1,
        dtype=torch.float64,
        generator=seeded(),
    )
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *weights: Tensor) -> Tensor:
        weight = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, weight, (x,))

    leaves = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    inputs = (fields(1, 2, *n).requires_grad_(), *leaves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnresolvedKernelWarning)
        assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_compiled_graph_is_whole_and_gives_the_same():
    layer = MeshFreeConv2d(
        3, 4, widths=(1 / 12, 1 / 8), stride=2, derivatives=2, terms=2, generator=seeded()
    )
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, g = fields(2, 3, 32, 32, dtype=torch.float32), fields(2, 4, 16, 16, dtype=torch.float32)
    expected, leaf = gradients(layer, x, g), x.clone().requires_grad_()
    layer.zero_grad()
    y = whole(leaf)
    y.backward(g)
    torch.testing.assert_close(y.detach(), expected["output"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(leaf.grad, expected["input"], rtol=1e-5, atol=1e-6)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-5)


def test_autocast_takes_and_gives_bfloat16_at_single_precision_inside():
    layer = MeshFreeConv2d(2, 3, widths=(1 / 12, 1 / 8), generator=seeded())
    x = fields(1, 2, 32, 32, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, short = layer(x), layer(x.bfloat16())
    assert y.dtype == short.dtype == torch.bfloat16
    torch.testing.assert_close(y, layer(x).bfloat16(), rtol=0, atol=0)
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())


def test_state_round_trip_carries_the_unit_of_the_weights():
    one = MeshFreeConv2d(2, 2, widths=(1 / 12, 1 / 8), derivatives=1, generator=seeded())
    other = MeshFreeConv2d(2, 2, widths=(1 / 30, 1 / 3), derivatives=1, generator=seeded(9))
    x = fields(1, 2, 32, 32, dtype=torch.float32)
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(one(x), other(x))


def test_results_are_the_same_bits_each_time_and_for_one_seed():
    a, b = (MeshFreeConv2d(4, 4, widths=(1 / 12, 1 / 8), generator=seeded(4)) for _ in range(2))
    x, g = (fields(2, 4, 32, 32, seed=s, dtype=torch.float32) for s in (1, 2))
    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradients(a, x, g), gradients(b, x, g)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    "options", [{}, {"derivatives": 2}, {"terms": 2, "derivatives": 1}], ids=str
)
def test_variance_of_smooth_fields_is_preserved_through_depth(options):
    """Twenty linear layers change the mean square of a smooth field by less than ten."""
    ratios = []
    for seed in range(4):
        layers = [
            MeshFreeConv2d(
                32, 32, widths=(1 / 40, 1 / 24), generator=seeded(100 * seed + j), **options
            )
            for j in range(20)
        ]
        x = fields(1, 32, 48, 48, seed=seed, dtype=torch.float32)
        j = torch.fft.fftfreq(48, 1 / 48)
        x = torch.fft.ifft2(torch.fft.fft2(x) * torch.exp(-(j[:, None] ** 2 + j**2) / 8.0)).real
        start = float(x.square().mean())
        with torch.no_grad():
            for layer in layers:
                layer.bias.zero_()
                x = layer(x)
        ratios.append(float(x.square().mean()) / start)
    assert 0.1 < np.median(ratios) < 10.0, ratios


def test_physical_values_round_trip_and_mean_what_they_say():
    layer = MeshFreeConv2d(1, 1, bias=False, derivatives=1, dtype=torch.float64)
    layer.set_physical(
        amplitude=2.0, derivative=[0.01, 0.0], diffusion=0.001 * np.eye(2), drift=[0.125, 0.0]
    )
    p = layer.physical()
    assert p.amplitude.item() == pytest.approx(2.0)
    assert p.widths.flatten().tolist() == pytest.approx([math.sqrt(0.002)] * 2)
    wave = torch.sin(2 * math.pi * torch.arange(64, dtype=torch.float64) / 64)
    x = wave[:, None].expand(64, 64)[None, None]
    k = 2 * math.pi
    t = torch.arange(64, dtype=torch.float64) / 64 + 0.125  # the output at t is centred at t + b
    expected = math.exp(-0.001 * k * k) * (2.0 * torch.sin(k * t) + 0.01 * k * torch.cos(k * t))
    torch.testing.assert_close(layer(x)[0, 0, :, 5], expected, rtol=1e-10, atol=1e-12)


def test_unresolved_kernels_are_told_once_a_mesh():
    layer = MeshFreeConv2d(1, 2, widths=(1 / 40, 1 / 30))
    with pytest.warns(UnresolvedKernelWarning, match="2 of 2 kernels .* mesh 16×16"):
        layer(torch.zeros(1, 1, 16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.zeros(1, 1, 16, 16))
        layer(torch.zeros(1, 1, 64, 64))
    assert layer.unresolved((16, 16)).all()
    assert not layer.unresolved((64, 64)).any()


BAD = [
    ({"in_channels": 0}, "`in_channels` must be a whole number"),
    ({"out_channels": 2.5}, "`out_channels` must be a whole number"),
    ({"groups": 2}, "`groups` must divide `in_channels`; got 2 and 3"),
    ({"padding_mode": "mirror"}, "`padding_mode` must be one of"),
    ({"widths": (0.1, 0.01)}, "`widths` must be a range"),
    ({"widths": (math.nan, 0.01)}, "`widths` must be a range"),
    ({"derivatives": 3}, "`derivatives` must be 0, 1 or 2"),
    ({"zero_mean": True}, "`zero_mean` needs derivatives"),
    ({"stride": 0}, "`stride` must be 2 whole numbers"),
    ({"restriction": "nearest"}, "`restriction` must be one of"),
    ({"extent": (1.0, -1.0)}, "`extent` must be 2 positive lengths"),
    ({"tolerance": 1.0}, "`tolerance` must lie in"),
    ({"tolerance": "tight"}, "`tolerance` must lie in"),
    ({"stride": 2.0}, "`stride` must be 2 whole numbers"),
    ({"widths": 0.1}, "`widths` must be a range"),
    ({"extent": ["a", 1]}, "`extent` must be 2 positive lengths"),
    ({"padding_mode": ["zero"]}, "`padding_mode` must be one of"),
    ({"path": "fast"}, "`path` must be one of"),
    ({"dtype": torch.float16}, "`dtype` must be float32 or float64"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda v: str(v)[:40])
def test_bad_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        MeshFreeConv2d(**{"in_channels": 3, "out_channels": 4, **options})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 8, 8), "must have shape"),
        (torch.zeros(1, 2, 8, 8), "must have 3 channels; got 2"),
        (torch.zeros(1, 3, 8, 1), "at least 2 points"),
        (torch.zeros(1, 3, 8, 8).double(), "weights' type torch.float32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "weights' type torch.float32"),
        (torch.zeros(1, 3, 8, 9), "`stride` must divide the mesh; got 2 on 9 points"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "on one device; got meta and cpu"),
        ("field", "must be a tensor; got 'str'"),
    ],
    ids=lambda v: v if isinstance(v, str) else "x",
)
def test_bad_fields_are_named(x, message):
    layer = MeshFreeConv2d(3, 4, stride=2, widths=(0.3, 0.4))
    with pytest.raises(InputError, match=message):
        layer(x)


@pytest.mark.parametrize(
    ("weight", "value", "message"),
    [
        ("amplitude", math.nan, "`amplitude` .* finite"),
        ("diffusion", 1e30, "`diffusion` .* finite"),
        ("drift", math.inf, "`drift` .* finite"),
    ],
)
def test_weights_that_overflow_are_named(weight, value, message):
    layer = MeshFreeConv2d(1, 1, widths=(0.3, 0.4))
    with torch.no_grad():
        getattr(layer, weight).flatten()[0] = value
    with pytest.raises(InputError, match=message):
        layer(torch.zeros(1, 1, 8, 8))


def test_setting_bad_physical_values_changes_nothing():
    layer = MeshFreeConv2d(1, 1, widths=(0.1, 0.2))
    before = copy.deepcopy(layer.state_dict())
    for values, message in (
        ({"amplitude": 3.0, "diffusion": [[1.0, 2.0], [2.0, 1.0]]}, "`diffusion` must have eigen"),
        ({"amplitude": 3.0, "drift": [1.0, 2.0, 3.0]}, "`drift` must broadcast"),
        ({"derivative": 1.0}, "`derivative` is not a weight"),
        ({"amplitude": math.inf}, "`amplitude` must be finite"),
    ):
        with pytest.raises(InputError, match=message):
            layer.set_physical(**values)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_batches_of_none_and_a_mesh_of_two_points():
    layer = MeshFreeConv1d(2, 2, widths=(0.8, 0.9))
    assert layer(torch.zeros(0, 2, 8)).shape == (0, 2, 8)
    assert layer(torch.zeros(1, 2, 2)).shape == (1, 2, 2)


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives():
    layer = MeshFreeConv2d(8, 8, widths=(1 / 24, 1 / 12), derivatives=1, generator=seeded())
    x, g = (fields(2, 8, 96, 80, seed=s, dtype=torch.float32) for s in (1, 2))
    expected = gradients(layer, x, g)
    there = copy.deepcopy(layer).cuda()
    found = gradients(there, x.cuda(), g.cuda())
    errors = {
        k: float((v.cpu() - expected[k]).norm() / expected[k].norm()) for k, v in found.items()
    }
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize(
    ("n", "widths", "tolerance"),
    [((128, 128), (0.0167, 0.0237), 1e-5), ((20, 24, 20), (0.05, 0.09), 1e-5)],
    ids=str,
)
def test_symbols_that_follow_from_row_to_row_are_the_formulas(n, widths, tolerance, monkeypatch):
    """Ratios from row to row, in single precision, against an exponential a mode."""
    layer = LAYERS[len(n)](
        3, 4, widths=widths, derivatives=1, path="torch", generator=seeded(), tolerance=tolerance
    )
    x = fields(1, 3, *n, dtype=torch.float32)
    g = fields(1, 4, *n, seed=2, dtype=torch.float32)
    followed = gradients(layer, x, g)
    monkeypatch.setattr(symbols, "_STEEPEST", -1.0)
    direct = gradients(layer, x, g)
    errors = relative(followed, direct)
    assert 0.0 < max(errors.values()) < 2e-6, errors  # above zero: both ways were taken
    monkeypatch.setattr(symbols, "_STEEPEST", 60.0)
    ratios = symbols.Symbols._ratios

    def wrong(*args):
        pair, constant = ratios(*args)
        return pair, 1.001 * constant

    monkeypatch.setattr(symbols.Symbols, "_ratios", wrong)
    assert max(relative(gradients(layer, x, g), direct).values()) > 1e-4


def test_kernels_too_steep_for_ratios_are_computed_one_by_one():
    """Narrow and wide kernels of one layer: values vanish on a row and matter a few rows on."""
    layer = MeshFreeConv2d(1, 2, widths=(0.02, 0.3), path="torch", generator=seeded())
    thin = np.array([[4.5e-2, 0.0], [0.0, 2.1e-4]])
    turn = np.array([[1.0, -1.0], [1.0, 1.0]]) / math.sqrt(2.0)
    layer.set_physical(diffusion=np.stack([turn @ thin @ turn.T, 2e-4 * np.eye(2)])[:, None, None])
    x, g = fields(1, 1, 96, 96), fields(1, 2, 96, 96, seed=3)
    dense = copy.deepcopy(layer).double()
    errors = relative(
        gradients(layer, x.float(), g.float()), gradients(Dense(dense), x.float().double(), g)
    )
    assert max(errors.values()) < 1e-4, errors


HARD = [
    {"widths": (0.3, 0.3), "derivatives": 2, "padding_mode": "zero"},
    {"widths": (1 / 12, 1 / 12), "derivatives": 1, "zero_mean": True, "padding_mode": "zero"},
    {"widths": (0.47, 0.47)},  # the mean is all but alone
    {"widths": (1.0, 1.0), "derivatives": 2},
]


@pytest.mark.parametrize("tolerance", [3e-3, 5e-5])
@pytest.mark.parametrize("options", HARD, ids=str)
def test_tolerance_holds_for_wide_kernels_and_behind_walls(options, tolerance):
    layer = MeshFreeConv2d(
        2, 2, **options, tolerance=tolerance, dtype=torch.float64, generator=seeded(1)
    )
    layer.set_physical(drift=0.0)  # a drift would lengthen the extension
    x, g = fields(1, 2, 32, 32), fields(1, 2, 32, 32, seed=4)
    errors = relative(gradients(layer, x, g), gradients(Dense(layer), x, g))
    assert max(errors.values()) < tolerance, errors


def test_tolerance_holds_for_small_derivatives_without_a_mean():
    options = {"widths": (1 / 20, 1 / 10), "derivatives": 2, "zero_mean": True}
    layer = MeshFreeConv2d(4, 4, **options, tolerance=1e-3, dtype=torch.float64)
    with torch.no_grad():
        layer.derivative.mul_(1e-4)
    x, g = fields(1, 4, 64, 64), fields(1, 4, 64, 64, seed=4)
    errors = relative(gradients(layer, x, g), gradients(Dense(layer), x, g))
    assert max(errors.values()) < 1e-3, errors


@pytest.mark.filterwarnings("ignore::gradconv.nn.UnresolvedKernelWarning")
@pytest.mark.parametrize("dim", [2, 3])
def test_diffusion_stays_positive_definite_in_single_precision(dim):
    layer = LAYERS[dim](8, 8, widths=(0.1, 0.2), generator=seeded())
    with torch.no_grad():
        layer.diffusion.copy_(12.0 * torch.rand(layer.diffusion.shape, generator=seeded(2)))
        layer.diffusion[..., -1] = 0.0  # GGᵀ is singular
    assert float(torch.linalg.eigvalsh(layer.physical().diffusion.detach()).min()) > 0.0
    assert layer(fields(1, 8, *(12,) * dim, dtype=torch.float32)).isfinite().all()
    with torch.no_grad():
        layer.double().diffusion[..., -1] = 0.5
    kept = layer.physical().diffusion.detach().clone()
    layer.set_physical(diffusion=kept)
    torch.testing.assert_close(layer.physical().diffusion, kept, rtol=1e-10, atol=0.0)


def test_inference_leaves_nothing_that_hinders_derivatives():
    layer = MeshFreeConv2d(1, 1, widths=(0.2, 0.3), path="torch")
    x = torch.randn(1, 1, 10, 14)
    with torch.inference_mode():
        layer(x)
    x.requires_grad_()
    (g,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    g.square().sum().backward()
    assert x.grad.norm() > 0.0


def test_kernels_that_become_unresolved_are_told_then():
    layer = MeshFreeConv2d(1, 1, widths=(0.1, 0.2))
    x = torch.zeros(1, 1, 32, 32)
    layer(x)
    layer.set_physical(diffusion=1e-4 * np.eye(2))
    with pytest.warns(UnresolvedKernelWarning, match="mesh 32×32"):
        layer(x)


def test_layer_without_storage_and_batches_without_fields():
    layer = MeshFreeConv2d(2, 3, widths=(0.1, 0.2), device="meta")
    assert layer.drift.is_meta
    layer = MeshFreeConv2d(2, 3, widths=(0.1, 0.2))
    layer(torch.zeros(0, 2, 16, 16)).sum().backward()
    assert all(float(p.grad.abs().max()) == 0.0 for p in layer.parameters())


def test_weights_of_half_precision_and_drift_out_of_reach_are_named():
    with pytest.raises(InputError, match="`dtype` of the weights must be float32 or float64"):
        MeshFreeConv2d(1, 1, widths=(0.1, 0.2)).half()(torch.zeros(1, 1, 16, 16).half())
    layer = MeshFreeConv2d(1, 1, widths=(0.1, 0.2), padding_mode="zero", derivatives=1)
    layer.set_physical(drift=50.0)
    with pytest.raises(InputError, match="`drift` and `diffusion` must keep kernels within"):
        layer(torch.zeros(1, 1, 16, 16))
    with pytest.raises(InputError, match=r"`amplitude` must be finite in torch\.float32"):
        layer.set_physical(amplitude=1e300)
    with pytest.raises(InputError, match="`amplitude` must be real numbers"):
        layer.set_physical(amplitude="loud")
    with pytest.raises(InputError, match="`shape` must be 2 sizes"):
        layer.unresolved((32,))
    with torch.no_grad():
        layer.derivative.fill_(math.nan)
    with pytest.raises(InputError, match=r"`derivative` .* finite"):
        layer(torch.zeros(1, 1, 16, 16))
