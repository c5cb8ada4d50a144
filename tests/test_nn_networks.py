"""Networks: layouts, variance at the start, the same output on finer meshes, bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradconv.errors import InputError
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d
from gradconv.nn.networks import (
    ESPCN,
    MeshFreeFactory,
    PixelShuffle,
    ResNet,
    StagedResNet,
    StandardFactory,
    UNet,
)
from gradconv.nn.networks.blocks import ACTIVATIONS, gain_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d)
WIDE = MeshFreeFactory(2, widths=(1 / 16, 1 / 8))

SMALL: dict[str, Callable[..., nn.Module]] = {
    "resnet": partial(ResNet, channels=4, layers=3),
    "staged": partial(StagedResNet, channels=(4, 6), blocks=(1, 1), mean=False),
    "unet": partial(UNet, channels=(4, 6)),
    "espcn": partial(ESPCN, channels=(4, 4), factor=3),
}
GROWTH = {"resnet": 1.0, "staged": 0.5, "unet": 1.0, "espcn": 3.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def smooth(channels: int, n: int, grid: float = 0.0, modes: int = 2, seed: int = 0) -> torch.Tensor:
    """Band-limited fields of unit variance at the points (i + grid)/n, the same for every n."""
    x = 2 * np.pi * (np.arange(n) + grid) / n
    rng = np.random.default_rng(seed)
    field = np.zeros((channels, n, n))
    for j in range(-modes, modes + 1):
        for k in range(-modes, modes + 1):
            a, b = rng.normal(size=(2, channels, 1, 1))
            phase = j * x[:, None] + k * x
            field += a * np.cos(phase) + b * np.sin(phase)
    return torch.from_numpy(field[None] / (2 * modes + 1))


def double(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    kwargs.setdefault("generator", generator())
    if isinstance(kwargs.get("conv"), MeshFreeFactory):
        kwargs["conv"] = replace(kwargs["conv"], generator=kwargs["generator"])
    return make(*args, **kwargs).double()


@pytest.mark.filterwarnings("ignore::gradconv.nn.UnresolvedKernelWarning")  # meshes of few cells
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("conv", ["standard", "mfc"])
@pytest.mark.parametrize("name", SMALL)
def test_shapes_and_gradients_in_every_dimension(name: str, conv: str, dim: int) -> None:
    sizes = (8, 12) if dim == 2 else (4, 6, 4)[:dim]
    net = SMALL[name](2, 3, dim=dim, conv=conv, generator=generator())
    y = net(noise(2, 2, *sizes, dtype=torch.float32))
    assert y.shape == (2, 3, *(int(GROWTH[name] * n) for n in sizes))
    y.square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("layers", [2, 3, 18, 34])
def test_resnet_counts_its_convolutions(layers: int) -> None:
    net = ResNet(1, 1, channels=2, layers=layers)
    assert sum(isinstance(m, CONVOLUTIONS) for m in net.modules()) == layers


def test_staged_resnet_has_the_layout_of_resnet18() -> None:
    net = StagedResNet(3, 1000)
    weighted = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    shortcuts = [m for m in weighted if getattr(m, "kernel_size", None) == (1, 1)]
    assert len(weighted) - len(shortcuts) == 18
    assert len(shortcuts) == 3
    with torch.no_grad():
        field = net.body(net.opening(torch.zeros(1, 3, 32, 32)))
    assert field.shape == (1, 512, 4, 4)
    # He et al.: 11.7 million with the 7×7 opening; 9408 − 1728 fewer with 3×3, no batch norm
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters == pytest.approx(11.68e6, rel=0.01)


@pytest.mark.parametrize("layers", [2, 5, 18])
@pytest.mark.parametrize("conv", ["standard", WIDE], ids=["standard", "mfc"])
def test_variance_survives_depth(layers: int, conv: Any) -> None:
    ratios = []
    for seed in range(3):
        net = double(
            ResNet, 12, 12, channels=12, layers=layers, conv=conv, generator=generator(seed)
        )
        x = smooth(12, 16, modes=1, seed=seed)
        with torch.no_grad():
            ratios.append(float(net(x).var() / x.var()))
    # over so few draws of the weights the mean ratio scatters by some tens of percent
    assert 0.3 < np.mean(ratios) < 3.0


def test_variance_without_small_steps_explodes() -> None:
    """Negative control: the test above sees a network whose variance grows with depth."""
    net = double(ResNet, 12, 12, channels=12, layers=18, step=1.0)
    x = smooth(12, 16, modes=1)
    with torch.no_grad():
        assert float(net(x).var() / x.var()) > 30


@pytest.mark.parametrize("conv", ["standard", WIDE], ids=["standard", "mfc"])
@pytest.mark.parametrize("depth", [1, 3])
def test_variance_survives_in_every_network(depth: int, conv: Any) -> None:
    ratios: dict[str, list[float]] = {"unet": [], "staged": [], "espcn": []}
    for seed in range(3):
        make = partial(double, conv=conv, generator=generator(seed))
        x = smooth(8, 16, modes=1, seed=seed)
        blocks = (depth, depth)
        for name, net in {
            "unet": make(UNet, 8, 8, channels=(12, 12), blocks=depth),
            "staged": make(StagedResNet, 8, 8, channels=(12, 12), blocks=blocks, mean=False),
            "espcn": make(ESPCN, 8, 8, channels=(12,) * (depth + 1)),
        }.items():
            with torch.no_grad():
                ratios[name].append(float(net(x).square().mean() / x.square().mean()))
    for name, values in ratios.items():
        assert 0.25 < np.mean(values) < 4.0, name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gain_keeps_the_second_moment(name: str) -> None:
    z = noise(400_000)
    moment = float((gain_of(ACTIVATIONS[name]) * ACTIVATIONS[name]()(z)).square().mean())
    assert moment == pytest.approx(1.0, abs=0.02)  # 4 standard errors are below 0.02
    if name != "softplus":  # without the gain it is another, for every activation
        assert float(ACTIVATIONS[name]()(z).square().mean()) < 0.6


def change(net: nn.Module, n: int, ratio: float = 1.0) -> float:
    """Relative change of the output at shared points from n to 2n points an axis."""
    with torch.no_grad():
        coarse, fine = net(smooth(2, n)), net(smooth(2, 2 * n))
    return float((fine[..., ::2, ::2] - coarse).norm() / coarse.norm()) * ratio


def test_mesh_free_networks_are_the_same_on_every_mesh() -> None:
    resnet = double(ResNet, 2, 2, channels=4, layers=4, conv=WIDE)
    unet = double(UNet, 2, 2, channels=(4, 6), conv=WIDE, restriction="spectral", activation="tanh")
    assert change(resnet, 32) < 1e-6
    # what activations put beyond the coarse level's modes falls faster than any power of h
    assert change(unet, 64) < min(1e-3, change(unet, 32) / 16)
    assert change(unet, 128) < change(unet, 64) / 64
    # negative control: the same networks with stencils
    assert change(double(ResNet, 2, 2, channels=4, layers=4), 32) > 0.05
    assert change(double(UNet, 2, 2, channels=(4, 6), restriction="spectral"), 64) > 0.05


def test_unet_on_cells_converges_with_its_restriction() -> None:
    """Averages and piecewise constants: what is cell-averaged from 2n approaches n at order 2."""
    net = double(UNet, 2, 2, channels=(4, 6), conv=WIDE, prolongation="linear")

    def gap(n: int) -> float:
        with torch.no_grad():
            coarse, fine = net(smooth(2, n, 0.5)), net(smooth(2, 2 * n, 0.5))
        average = nn.functional.avg_pool2d(fine, 2)
        return float((average - coarse).norm() / coarse.norm())

    order = np.log2(gap(32) / gap(64))
    assert order == pytest.approx(2.0, abs=0.3)


def test_pixel_shuffle_has_no_limit_for_mesh_free_networks() -> None:
    def oscillation(net: nn.Module, n: int) -> float:
        with torch.no_grad():
            y = net(smooth(2, n))
        return float((y[..., 1::2] - y[..., ::2]).norm() / y.norm())

    make = partial(double, ESPCN, 2, 1, channels=(8, 8), conv=WIDE)
    shuffled, prolonged = make(upsampling="pixel_shuffle"), make()
    assert oscillation(shuffled, 128) > 0.9 * oscillation(shuffled, 32) > 0.3
    ratio = oscillation(prolonged, 32) / oscillation(prolonged, 128)
    assert ratio == pytest.approx(4.0, rel=0.1)  # neighbours differ by O(h)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle_puts_channels_in_their_place(dim: int, factor: int) -> None:
    x = noise(2, 3 * factor**dim, *(3, 4, 2)[:dim])
    y = PixelShuffle(factor)(x)
    for child in range(factor**dim):
        place = np.unravel_index(child, (factor,) * dim)
        cut = (slice(None), slice(None), *(slice(int(r), None, factor) for r in place))
        assert torch.equal(y[cut], x[:, child :: factor**dim])
    if dim == 2:
        assert torch.equal(y, nn.PixelShuffle(factor)(x))


@pytest.mark.parametrize("conv", ["standard", WIDE], ids=["standard", "mfc"])
@pytest.mark.parametrize("name", SMALL)
def test_translations_commute(name: str, conv: Any) -> None:
    net = double(SMALL[name], 2, 2, conv=conv)
    x = noise(1, 2, 16, 16)
    by = int(GROWTH[name] * 4)
    with torch.no_grad():
        moved = net(torch.roll(x, (4, -4), (2, 3)))
        torch.testing.assert_close(moved, torch.roll(net(x), (by, -by), (2, 3)))
    if name == "unet":  # control: half a coarse cell is no symmetry of its meshes
        moved = net(torch.roll(x, 1, 2))
        assert not torch.allclose(moved, torch.roll(net(x), 1, 2), rtol=1e-3)


def test_time_enters() -> None:
    net = double(UNet, 1, 1, channels=(4, 6), time_features=8)
    x = noise(2, 1, 8, 8)
    times = torch.tensor([0.3, 0.3], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x, 0.3), net(x, times))
        later = net(x, torch.tensor([0.3, 0.4], dtype=torch.float64))
        torch.testing.assert_close(later[0], net(x, times)[0])
        assert float((later[1] - net(x, times)[1]).norm()) > 1e-3 * float(later[1].norm())


def test_weights_come_from_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    for name, make in SMALL.items():
        for conv in ("standard", "mfc"):
            first = make(1, 1, conv=conv, generator=generator(3)).state_dict()
            again = make(1, 1, conv=conv, generator=generator(3)).state_dict()
            other = make(1, 1, conv=conv, generator=generator(4)).state_dict()
            assert all(torch.equal(first[k], again[k]) for k in first), name
            assert not all(torch.equal(first[k], other[k]) for k in first), name
    assert torch.equal(state, torch.random.get_rng_state())
    ResNet(1, 1)  # control: without a generator it is torch's own that is drawn from
    assert not torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("norm", [None, "group", "instance", "batch", nn.BatchNorm2d])
def test_norms(norm: Any) -> None:
    net = ResNet(1, 1, channels=8, norm=norm)
    assert sum("Norm" in type(m).__name__ for m in net.modules()) == (norm is not None)
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)


def test_group_norm_is_a_quadrature() -> None:
    net = double(ResNet, 2, 2, channels=8, conv=WIDE, norm="group")
    assert change(net, 32) < 1e-6


def test_kernels_widen_with_the_cells() -> None:
    net = UNet(1, 1, channels=(4, 6, 8), conv="mfc")
    widths = [level[0].conv1.widths[0] for level in net.down]
    assert widths == pytest.approx([1 / 64, 1 / 32, 1 / 16])
    staged = StagedResNet(1, 1, channels=(4, 6), blocks=(1, 2), conv="mfc")
    found = [(b.conv1.widths[0], b.conv1.stride, b.conv2.widths[0]) for b in staged.body]
    fine, coarse = 1 / 64, 1 / 32
    assert found == [
        (fine, (1, 1), fine),
        (fine, (2, 2), coarse),
        (coarse, (1, 1), coarse),
    ]


def test_a_convolution_of_your_own() -> None:
    calls = []

    def own(in_channels: int, out_channels: int, **options: Any) -> nn.Module:
        calls.append(options)
        return nn.Conv2d(in_channels, out_channels, 5, padding=2, **options)

    assert StagedResNet(1, 2, channels=(4, 6), blocks=(1, 1), conv=own)(
        torch.zeros(1, 1, 8, 8)
    ).shape == (1, 2)
    assert {call.get("stride", 1) for call in calls} == {1, 2}
    five = StandardFactory(2, kernel_size=5)
    assert ResNet(1, 1, conv=five).opening.kernel_size == (5, 5)


def test_reflecting_walls_are_the_same_for_both_kinds() -> None:
    """A field that is even about its walls stays so: nothing is seen of the wall."""
    half = noise(1, 1, 16, 16)
    mirrored = torch.cat([half, half.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)
    standard = StandardFactory(2, padding_mode="reflect", generator=generator())(1, 1).double()
    around = StandardFactory(2, padding_mode="periodic")(1, 1).double()
    around.load_state_dict(standard.state_dict())
    torch.testing.assert_close(standard(half), around(mirrored)[..., :16, :16])


def test_state_dict_round_trip() -> None:
    for make in SMALL.values():
        first = double(make, 1, 1, conv=WIDE)
        second = double(make, 1, 1, conv=WIDE, generator=generator(1))
        x = smooth(1, 32)
        assert not torch.equal(first(x), second(x))
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(1, 1, conv="standart"), "did you mean 'standard'"),
        (lambda: ResNet(1, 1, conv=3), "`conv` must be 'standard', 'mfc' or callable; got 3"),
        (lambda: ResNet(1, 1, conv=lambda i, o, **k: None), "`conv` must return"),
        (lambda: ResNet(1, 1, dim=1, conv=WIDE), "`conv` must make convolutions in 1 dim"),
        (lambda: ResNet(1, 1, dim=4), "`dim` must be 1, 2 or 3; got 4"),
        (lambda: ResNet(1, 1, layers=1), "`layers` must be a whole number from 2"),
        (lambda: ResNet(0, 1), "`in_channels`"),
        (lambda: ResNet(1, 1, channels=True), "`channels`"),
        (lambda: ResNet(1, 1, step=0.0), "`step` must be a positive number"),
        (lambda: ResNet(1, 1, step=float("nan")), "`step` must be a positive number"),
        (lambda: ResNet(1, 1, activation="sillu"), "did you mean 'silu'"),
        (lambda: ResNet(1, 1, activation=1), "`activation`"),
        (lambda: ResNet(1, 1, norm="layer"), "`norm` must be one of"),
        (lambda: ResNet(1, 1, norm=2), "`norm`"),
        (lambda: ResNet(1, 1, padding_mode="same"), "`padding_mode`"),
        (lambda: StandardFactory(2, kernel_size=4), "`kernel_size` must be an odd number"),
        (lambda: MeshFreeFactory(2, widths=(1.0, 0.5)), "`widths`"),
        (lambda: StagedResNet(1, 1, blocks=(1,)), "`blocks` must have one number a stage, 4"),
        (lambda: StagedResNet(1, 1, channels=()), "`channels` must be a sequence"),
        (lambda: UNet(1, 1, channels=16), "`channels` must be a sequence"),
        (lambda: UNet(1, 1, time_features=3), "`time_features` must be 0 or an even number"),
        (lambda: UNet(1, 1, restriction="injection"), "`restriction` must be one of"),
        (lambda: UNet(1, 1, prolongation="cubic"), "`prolongation` must be one of"),
        (lambda: UNet(1, 1, restriction="spectral", padding_mode="zero"), "spectral needs"),
        (lambda: ESPCN(1, 1, upsampling="shuffle"), "did you mean 'pixel_shuffle'"),
        (lambda: ESPCN(1, 1, factor=0), "`factor`"),
        (lambda: PixelShuffle(2)(torch.zeros(1, 3, 4)), "channels divisible by 2"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_bad_fields_are_refused() -> None:
    unet = UNet(1, 1, channels=(2, 2, 2))
    with pytest.raises(
        InputError, match=r"divisible by 4, and at least 8 for 3 levels.*\(30, 32\)"
    ):
        unet(torch.zeros(1, 1, 30, 32))
    with pytest.raises(InputError, match=r"at least 8 .*got \(4, 8\)"):
        unet(torch.zeros(1, 1, 4, 8))
    with pytest.raises(InputError, match="`t` must be left out"):
        unet(torch.zeros(1, 1, 8, 8), 0.5)
    timed = UNet(1, 1, channels=(2, 2), time_features=4)
    with pytest.raises(InputError, match="`t` must be given"):
        timed(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match=r"`t` must be a number or have shape \(2,\)"):
        timed(torch.zeros(2, 1, 8, 8), torch.zeros(3))
    with pytest.raises(InputError, match="1, 2 axes of space"):
        ResNet(1, 1)(torch.zeros(1, 2, 8, 8))
    with pytest.raises(InputError, match="`x` must be a tensor"):
        ResNet(1, 1)([1.0])
    with pytest.raises(InputError, match="for the stages"):
        StagedResNet(1, 1, channels=(2, 2), blocks=(1, 1))(torch.zeros(1, 1, 9, 8))
