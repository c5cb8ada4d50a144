"""Swapping the convolutions of a network: what is replaced, what is not, and what it costs."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn
from torch.nn.utils import parametrizations, prune

from gradconv.errors import InputError
from gradconv.nn import MeshFreeConv2d, UnresolvedKernelWarning
from gradconv.nn.fitting.swap import SwapReport, to_mesh_free
from gradconv.nn.networks import ESPCN, ResNet, StagedResNet, UNet

CIRCULAR: dict[str, Any] = {"padding": 1, "padding_mode": "circular"}


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build a module whose weights depend on the seed alone, and leave torch's state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def photograph_like(
    *shape: int, alpha: float = 2.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Periodic random fields with the power spectrum (1 + |j|²)^(−α/2), unit variance."""
    rng = np.random.default_rng(seed)
    sizes = shape[2:]
    j = np.meshgrid(*(np.fft.fftfreq(n, 1.0 / n) for n in sizes), indexing="ij")
    gain = (1.0 + sum(k**2 for k in j)) ** (-alpha / 4.0)
    axes = tuple(range(2, len(shape)))
    field = np.fft.ifftn(gain * np.fft.fftn(rng.normal(size=shape), axes=axes), axes=axes).real
    return torch.from_numpy(field / field.std()).to(dtype)


def error(first: nn.Module, second: nn.Module, x: torch.Tensor, *more: object) -> float:
    """Relative difference of the outputs."""
    with torch.no_grad():
        a, b = first(x, *more), second(x, *more)
    return float((a - b).norm() / a.norm())


def only(report: SwapReport) -> Any:
    (row,) = report.rows
    return row


@pytest.mark.parametrize("alpha", [0.0, 2.0])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "groups": 4},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": (1, 3), "padding": (0, 1)},
        {"kernel_size": 2, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 2, "padding": 0, "stride": 2},
        {"kernel_size": 4, "padding": 1, "stride": 2},
        {"kernel_size": 3, "padding": 1, "stride": (1, 2), "bias": False},
    ],
    ids=str,
)
def test_reported_error_is_seen_in_the_output(options: dict[str, Any], alpha: float) -> None:
    """Kernels of even size and strides only fit if the taps sit where torch puts them."""
    conv = seeded(lambda: nn.Conv2d(4, 8, padding_mode="circular", **options))
    swapped, report = to_mesh_free(conv, (32, 32), spectrum=alpha, tolerance=2.0)
    assert isinstance(swapped, MeshFreeConv2d)
    x = photograph_like(24, 4, 32, 32, alpha=alpha)
    bias = 0.0 if conv.bias is None else conv.bias.detach()[:, None, None]
    with torch.no_grad():
        plain = conv(x) - bias
        measured = float((swapped(x) - bias - plain).norm() / plain.norm())
    # 24 samples of 4 channels, few of whose modes hold most of the power
    assert measured == pytest.approx(only(report).relative_error, rel=0.15)


def test_a_shifted_stride_is_another_operator() -> None:
    """Negative control: averages do not keep the points that the convolution keeps."""
    conv = seeded(lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="circular"))
    x = photograph_like(8, 2, 32, 32)
    injected, report = to_mesh_free(conv, (32, 32))
    averaged, other = to_mesh_free(conv, (32, 32), restriction="average")
    assert error(conv, averaged, x) > 2 * error(conv, injected, x)
    assert only(report).note == ""
    assert only(other).note == "strides by average, not by injection"


@pytest.mark.parametrize("mode", ["zeros", "circular", "replicate", "reflect"])
def test_paddings(mode: str) -> None:
    def error_at_the_wall(padding_mode: str) -> float:
        """Over that inside, against the same weights with some padding."""
        other = nn.Conv2d(2, 4, 3, padding=1, padding_mode=padding_mode)
        other.load_state_dict(conv.state_dict())
        with torch.no_grad():
            gap = (swapped(x) - other(x)).abs()
        return float(gap[..., 0, :].mean() / gap[..., 8:-8, 8:-8].mean())

    conv = seeded(lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode=mode))
    swapped, report = to_mesh_free(conv, (32, 32), steps=5)
    x = photograph_like(4, 2, 32, 32, alpha=4.0)
    if mode != "circular":
        x = x + 3.0 * torch.linspace(0.0, 1.0, 32)[:, None]
    if mode == "reflect":  # torch leaves the last point out, and says so here
        assert "walls differ" in only(report).note
        assert 3 < error_at_the_wall("reflect") < 10
        return
    assert only(report).note == ""
    assert error_at_the_wall(mode) < 2
    for wrong in {"zeros", "circular", "replicate", "reflect"} - {mode}:  # control
        assert error_at_the_wall(wrong) > 3


def test_replication_further_out_is_another_wall() -> None:
    conv = seeded(lambda: nn.Conv2d(1, 1, 5, padding=2, padding_mode="replicate"))
    _, report = to_mesh_free(conv, (16, 16), tolerance=2.0)
    assert "walls differ beyond the first cell" in only(report).note


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_every_dimension(dim: int) -> None:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dim - 1]
    mesh = ((32,), (32, 32), (12, 12, 12))[dim - 1]
    model = seeded(lambda: nn.Sequential(kind(2, 4, 3, **CIRCULAR), nn.Tanh(), kind(4, 2, 1)))
    swapped, report = to_mesh_free(model, mesh, tolerance=1.0)
    assert [row.new for row in report.rows] == [f"MeshFreeConv{dim}d", None]
    bound = 2.0 * report.rows[0].relative_error
    assert error(model, swapped, photograph_like(4, 2, *mesh)) < bound


class Branches(nn.Module):
    """A network with one of everything that cannot be swapped."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(4, 4, 3, **CIRCULAR)
        self.same = self.shared
        self.list = nn.ModuleList([self.shared])
        self.many = nn.Conv2d(4, 4, 3, **CIRCULAR)
        self.tied = nn.Conv2d(4, 4, 3, **CIRCULAR)
        self.other = nn.Conv2d(4, 4, 3, **CIRCULAR)
        self.other.weight = self.tied.weight
        self.point = nn.Conv2d(4, 4, 1)
        self.skip = nn.Conv2d(4, 4, 1, stride=2)
        self.valid = nn.Conv2d(4, 4, 3)
        self.uneven = nn.Conv2d(4, 4, 3, stride=3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.normed = parametrizations.weight_norm(nn.Conv2d(4, 4, 3, **CIRCULAR))
        self.spectral = nn.utils.spectral_norm(nn.Conv2d(4, 4, 3, **CIRCULAR))
        self.pruned = nn.Conv2d(4, 4, 3, **CIRCULAR)
        prune.l1_unstructured(self.pruned, "weight", amount=0.5)
        self.own = Own(4, 4, 3, **CIRCULAR)
        self.lazy = nn.LazyConv2d(4, 3, **CIRCULAR)
        self.broken = nn.Conv2d(4, 4, 3, **CIRCULAR)
        nn.init.constant_(self.broken.bias, torch.nan)
        self.unused = nn.Conv2d(4, 4, 3, **CIRCULAR)
        self.wanted = nn.Conv2d(4, 4, 3, **CIRCULAR)
        self.free = MeshFreeConv2d(4, 4, widths=(0.1, 0.2))
        self.deep = nn.Conv2d(4, 4, 3, **CIRCULAR)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.list[0](self.same(self.shared(x)))
        y = self.other(self.tied(self.point(y))) + self.many(x)
        y = self.pruned(self.spectral(self.normed(y))) + self.own(x) + self.lazy(x)
        y = self.wanted(y) + self.free(y) + 0.0 * torch.nan_to_num(self.broken(y))
        for half in (self.skip(y), self.many(y)[..., ::2, ::2]):
            y = y + self.up(half)
        self.valid(y), self.uneven(y)
        return self.deep(functional.avg_pool2d(y, 8)) + self.many(y[..., ::8, ::8])


class Own(nn.Conv2d):
    """A convolution that could do anything."""


REASONS = {
    "many": "used on several meshes: 32×32, 4×4",
    "tied": "shares its weight with other",
    "other": "shares its weight with tied",
    "point": "kernel size 1: acts point by point on any mesh",
    "skip": "kernel size 1: acts point by point on any mesh, and strides by injection",
    "valid": "its padding takes the mesh from 32 to 30 points an axis, not 32",
    "uneven": "its stride 3 does not divide the mesh 32×32",
    "up": "transposed",
    "normed": "its weights are made from others",
    "spectral": "its weights are made from others",
    "pruned": "its weights are made from others",
    "own": "a subclass, Own",
    "lazy": "lazy: its weights do not exist yet",
    "broken": "its weights are not finite",
    "unused": "not reached by such an input",
    "wanted": "kept on request",
    "free": "mesh-free already",
}


@pytest.fixture
def branches() -> nn.Module:
    return seeded(Branches)


def test_what_is_not_swapped_is_listed_with_the_reason(branches: nn.Module) -> None:
    state = torch.random.get_rng_state()
    before = {k: v.clone() for k, v in branches.state_dict().items() if "lazy" not in k}
    swapped, report = to_mesh_free(branches, 32, keep=("wanted",))
    assert {row.name: row.reason for row in report.kept}.keys() == REASONS.keys()
    for row in report.kept:
        assert REASONS[row.name] in row.reason, row.name
        assert row.new is None
    assert [row.name for row in report.swapped] == ["shared", "deep"]
    # nothing has happened to the model, its lazy layer, or torch's random numbers
    assert torch.equal(state, torch.random.get_rng_state())
    for key, value in before.items():
        assert torch.equal(branches.state_dict()[key], value) or "broken.bias" in key
    assert isinstance(branches.lazy, nn.LazyConv2d)
    assert isinstance(swapped.lazy, nn.LazyConv2d)
    assert type(branches.shared) is nn.Conv2d


def test_shared_modules_stay_shared(branches: nn.Module) -> None:
    swapped, report = to_mesh_free(branches, (32, 32))
    assert isinstance(swapped.shared, MeshFreeConv2d)
    assert swapped.shared is swapped.same is swapped.list[0]
    assert report.rows[0].aliases == ("same", "list.0")
    assert swapped.tied.weight is swapped.other.weight


def test_cells_grow_where_the_network_coarsens(branches: nn.Module) -> None:
    swapped, report = to_mesh_free(branches, (32, 32))
    rows = {row.name: row for row in report.rows}
    assert rows["shared"].mesh == (32, 32)
    assert rows["deep"].mesh == (4, 4)
    for layer, n in ((swapped.shared, 32), (swapped.deep, 4)):
        narrowest = float(layer.physical().widths.detach().min())
        assert narrowest == pytest.approx(0.6 / n, rel=1e-3)
    assert rows["shared"].narrowest == pytest.approx(0.6)
    assert rows["shared"].resolved is False


def test_sides_are_stated_only_where_meshes_lose_their_proportions() -> None:
    pool = nn.AvgPool2d(2)
    model = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3, **CIRCULAR), pool, nn.Conv2d(1, 1, 3, **CIRCULAR))
    )
    even, _ = to_mesh_free(model, (16, 24), tolerance=1.0)
    assert even[0].extent is None
    assert even[2].extent is None
    odd, report = to_mesh_free(model, (17, 24), tolerance=1.0)
    assert report.rows[1].mesh == (8, 12)
    assert odd[2].extent == pytest.approx((1.0, 24 / 17))
    given, _ = to_mesh_free(model, (16, 16), extent=(2.0, 2.0), tolerance=1.0)
    assert given[0].extent == (2.0, 2.0)
    assert float(given[0].physical().widths.detach().min()) == pytest.approx(2 * 0.6 / 16, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_mode_and_gradients_are_kept(dtype: torch.dtype) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3, **CIRCULAR), nn.Dropout())).to(dtype)
    model[0].weight.requires_grad_(False)
    model[0].eval()
    model[0].register_forward_hook(lambda *args: None)
    swapped, report = to_mesh_free(model, (16, 16), tolerance=1.0)
    layer = swapped[0]
    assert layer.drift.dtype == dtype
    assert not layer.training
    assert swapped[1].training
    assert not layer.amplitude.requires_grad
    assert layer.bias.requires_grad
    assert torch.equal(layer.bias, model[0].bias)
    assert "1 hooks dropped" in report.rows[0].note
    half, kept = to_mesh_free(model.to(torch.bfloat16), (16, 16))
    assert "not torch.bfloat16" in kept.rows[0].reason
    assert type(half[0]) is nn.Conv2d


def test_what_does_not_resolve_stays() -> None:
    rough = seeded(lambda: nn.Conv2d(4, 4, 3, **CIRCULAR))
    kept, report = to_mesh_free(rough, (32, 32), tolerance=0.02)
    assert type(kept) is nn.Conv2d
    row = only(report)
    assert "exceeds 0.02" in row.reason
    assert row.relative_error > 0.02
    assert row.resolvable < 0.2
    smooth = copy.deepcopy(rough)
    nn.init.constant_(smooth.weight, 1 / 36)
    _, report = to_mesh_free(smooth, (32, 32), tolerance=0.02, steps=20)
    assert only(report).new == "MeshFreeConv2d"
    assert only(report).resolvable == 1.0


def test_report_as_text_and_as_data(branches: nn.Module) -> None:
    calls: list[tuple[int, int, str]] = []
    _, report = to_mesh_free(branches, 32, progress=lambda *args: calls.append(args))
    names = [row.name for row in report.rows]
    assert calls == [(i + 1, len(names), name) for i, name in enumerate(names)]
    lines = str(report).splitlines()
    assert lines[0].split() == [
        "module", "was", "mesh", "parameters", "error", "worst", "resolved", "result"
    ]  # fmt: skip
    assert lines[1].startswith("shared = same = list.0  Conv2d 3×3")
    assert "148 → " in lines[1]
    for row, line in zip(report.rows, lines[1:], strict=False):
        assert row.name in line
        assert row.reason in line
    assert lines[-1].startswith(f"{len(report.swapped)} of {len(names)} convolutions swapped.")
    data = json.loads(json.dumps(report.to_dict()))
    assert data["mesh"] == [32, 32]
    first = data["rows"][0]
    assert first["aliases"] == ["same", "list.0"]
    assert first["parameters"] == 148
    assert first["new_parameters"] == 16 * 2 * (1 + 5 + 3 + 2) + 4
    assert first["resolved"] is False
    assert 0 < first["relative_error"] < 0.3


def test_a_swapped_network_is_one_operator_on_finer_meshes() -> None:
    model = seeded(lambda: ResNet(1, 1, channels=4, layers=4))
    swapped, report = to_mesh_free(model, (32, 32))
    assert len(report.swapped) == 4

    def field(n: int) -> torch.Tensor:
        x = 2 * math.pi * torch.arange(n) / n
        return (torch.cos(2 * x[:, None] - 3 * x) + torch.sin(x[:, None] + 2 * x))[None, None]

    with torch.no_grad():
        gaps = []
        for net in (swapped, model):
            coarse, fine = net(field(32)), net(field(128))[..., ::4, ::4]
            gaps.append(float((fine - coarse).norm() / coarse.norm()))
    assert gaps[0] < 2e-3
    assert gaps[1] > 0.2  # control: the stencils shrink with the cells
    with pytest.warns(UnresolvedKernelWarning):  # coarser than what it was fitted on
        swapped(field(16))


@pytest.mark.parametrize(
    ("make", "more"),
    [
        (lambda: ResNet(2, 1, channels=8, layers=4), ()),
        (lambda: StagedResNet(2, 3, channels=(8, 12), blocks=(1, 1), mean=False), ()),
        (lambda: UNet(2, 1, channels=(6, 8), time_features=4), (torch.tensor([0.5]),)),
        (lambda: ESPCN(2, 1, channels=(8, 8)), ()),
    ],
    ids=["resnet", "staged", "unet", "espcn"],
)
def test_networks(make: Callable[[], nn.Module], more: tuple[torch.Tensor, ...]) -> None:
    """Smooth inputs pass almost unchanged, white noise does not."""
    model = seeded(make)
    given = (torch.zeros(1, 2, 32, 32), *more) if more else None
    swapped, report = to_mesh_free(model, (32, 32), inputs=given, tolerance=1.0)
    wide = [r for r in report.rows if "kernel size 1" not in r.reason]
    assert all(row.new == "MeshFreeConv2d" for row in wide)
    smooth = error(model, swapped, photograph_like(2, 2, 32, 32, alpha=4.0), *more)
    rough = error(model, swapped, photograph_like(2, 2, 32, 32, alpha=0.0), *more)
    assert smooth < 0.2
    assert rough > 1.5 * smooth


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_is_kept() -> None:
    model = seeded(lambda: UNet(1, 1, channels=(4, 6)))
    here, _ = to_mesh_free(model, (32, 32), tolerance=1.0)
    there, report = to_mesh_free(model.cuda(), (32, 32), tolerance=1.0)
    assert report.swapped
    assert all(p.is_cuda for p in there.parameters())
    x = photograph_like(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(there(x.cuda()).cpu(), here(x), rtol=1e-3, atol=1e-4)


def test_gradients_flow_through_what_was_swapped() -> None:
    swapped, _ = to_mesh_free(seeded(lambda: ResNet(1, 1, channels=4)), (16, 16), tolerance=1.0)
    swapped(photograph_like(1, 1, 16, 16)).square().mean().backward()
    for name, parameter in swapped.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


class NoCopy(nn.Conv2d):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise TypeError("not this one")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: to_mesh_free("resnet", 32), "`module` must be a torch.nn.Module"),
        (lambda m: to_mesh_free(nn.Linear(2, 2), 32), "`module` must hold a convolution"),
        (
            lambda m: to_mesh_free(NoCopy(1, 1, 3), 32),
            "must be copyable.*copy.deepcopy raised TypeError",
        ),
        (lambda m: to_mesh_free(m, (32,)), "`mesh` must be 2 whole numbers"),
        (lambda m: to_mesh_free(m, 1), "`mesh` must be 2 whole numbers of at least 2"),
        (lambda m: to_mesh_free(m, 32, inputs=torch.zeros(1, 3, 32, 32)), "RuntimeError"),
        (lambda m: to_mesh_free(m, 32, inputs=torch.zeros(1, 2, 16, 32)), "last axes are the mesh"),
        (lambda m: to_mesh_free(m, 32, extent=(1.0,)), "`extent`"),
        (lambda m: to_mesh_free(m, 32, spectrum=-2.0), "`spectrum`"),
        (lambda m: to_mesh_free(m, 32, tolerance=0.0), "`tolerance`"),
        (lambda m: to_mesh_free(m, 32, terms=0), "`terms`"),
        (lambda m: to_mesh_free(m, 32, steps=1.5), "`steps`"),
        (lambda m: to_mesh_free(m, 32, restriction="inject"), "did you mean 'injection'"),
        (lambda m: to_mesh_free(m, 32, keep=("nothing",)), "`keep` must be"),
        (lambda m: to_mesh_free(m, 32, keep="weight"), "`keep` must be"),
    ],
)
def test_bad_input(call: Callable[[nn.Module], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(nn.Conv2d(2, 2, 3, **CIRCULAR))
