"""Networks of training runs: every task, network and convolution on every level."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from gradconv import InputError
from gradconv.nn import ESPCN, MeshFreeConv2d, Prolong, ResNet, UNet, UnresolvedKernelWarning
from gradconv.nn.evaluation import mean_square
from gradconv.train.networks import (
    NETWORKS,
    TimedNetwork,
    build_network,
    check_sizes,
    size_divisor,
)
from gradconv.train.tasks import TASKS

SPECS = ("denoise", "denoise:0.05:0.2", "deblur", "inpaint", "superres")
# kernels that the coarsest mesh of the tests resolves
WIDE = (0.3, 0.4)
CASES = [
    (spec, name, conv)
    for spec, name, conv in product(SPECS, NETWORKS, ("standard", "mfc"))
    if name != "espcn" or spec == "superres"
]


def _network(spec: str, name: str, conv: str = "standard", **choices: Any) -> nn.Module:
    widths = WIDE if conv == "mfc" else None
    choices = {"width": 2, "layers": 2, "mesh_free_widths": widths, **choices}
    return build_network(name, TASKS.parse(spec), 1, conv=conv, **choices)


def _pair(spec: str, n: int, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    clean = torch.rand(2, channels, n, n, generator=generator)
    task = TASKS.parse(spec)
    return torch.cat([task.corrupt(u, generator) for u in clean.split(1)]), clean


@pytest.mark.filterwarnings("ignore::gradconv.nn.UnresolvedKernelWarning")
@pytest.mark.parametrize(("spec", "name", "conv"), CASES)
def test_every_network_trains_on_every_level(spec: str, name: str, conv: str) -> None:
    net = _network(spec, name, conv)
    least = 2 * size_divisor(name, TASKS.parse(spec), 2)
    for n in (least, 8, 16):
        x, clean = _pair(spec, n)
        made = net(x)
        assert made.shape == clean.shape
        net.zero_grad()
        mean_square(made, clean).backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            assert bool(torch.isfinite(parameter.grad).all()), key
        # all but what a mesh of two cells cannot see (derivatives at the Nyquist mode)
        norms = [float(p.grad.norm()) for p in net.parameters() if p.grad is not None]
        assert n == least or min(norms) > 0


@pytest.mark.parametrize(("spec", "name", "conv"), CASES)
def test_a_seed_is_one_set_of_weights(spec: str, name: str, conv: str) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        torch.nn.utils.parameters_to_vector(_network(spec, name, conv, seed=s).parameters())
        for s in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_the_names_stand_for() -> None:
    net = build_network("resnet", TASKS.parse("denoise"), 3)
    assert isinstance(net, ResNet)
    assert (net.opening.weight.shape[:2], len(net.hidden)) == ((32, 3), 1)
    assert isinstance(build_network("unet", TASKS.parse("deblur"), 3), UNet)
    free = build_network("resnet", TASKS.parse("inpaint"), 1, conv="mfc")
    kernels = [m for m in free.modules() if isinstance(m, MeshFreeConv2d)]
    assert [k.in_channels for k in kernels] == [2, 32, 32]
    espcn = build_network("espcn", TASKS.parse("superres"), 3)
    assert isinstance(espcn, ESPCN)
    shapes = [tuple(p.shape) for p in espcn.parameters() if p.ndim == 4]
    assert shapes == [(64, 3, 5, 5), (32, 64, 3, 3), (12, 32, 3, 3)]
    prolonged = build_network("resnet", TASKS.parse("superres"), 1)
    assert isinstance(prolonged, nn.Sequential)
    assert isinstance(prolonged[0], Prolong)


@pytest.mark.parametrize("layers", [2, 3, 18])
@pytest.mark.parametrize("conv", ["standard", "mfc"])
def test_depths(layers: int, conv: str) -> None:
    net = _network("denoise", "resnet", conv, layers=layers)
    kinds = (nn.Conv2d, MeshFreeConv2d)
    assert sum(isinstance(m, kinds) for m in net.modules()) == layers
    x, clean = _pair("denoise", 8)
    assert net(x).shape == clean.shape
    espcn = _network("superres", "espcn", layers=layers)
    assert sum(isinstance(m, nn.Conv2d) for m in espcn.modules()) == layers


def test_the_level_of_the_noise_is_a_time() -> None:
    net = _network("denoise:0.05:0.2", "unet")
    assert isinstance(net, TimedNetwork)
    x, _ = _pair("denoise:0.05:0.2", 8)
    times = torch.tensor([0.07, 0.19])
    x[:, -1] = times[:, None, None]
    torch.testing.assert_close(net(x), net.network(x[:, :1], times))
    # samples keep their own times, and the time matters
    torch.testing.assert_close(net(x)[:1], net(x[:1]))
    x[:, -1] = 0.1
    assert not torch.allclose(net(x), net.network(x[:, :1], times), atol=1e-4)
    # other networks take it as a channel
    assert _network("denoise:0.05:0.2", "resnet").opening.weight.shape[1] == 2


@pytest.mark.parametrize(
    ("name", "spec", "layers", "divisor"),
    [
        ("resnet", "denoise", 18, 1),
        ("resnet", "superres", 18, 2),
        ("unet", "denoise", None, 4),
        ("unet", "denoise", 1, 1),
        ("unet", "superres", 1, 2),
        ("unet", "superres", 4, 8),
        ("espcn", "superres", None, 2),
    ],
)
def test_smallest_sizes(name: str, spec: str, layers: int | None, divisor: int) -> None:
    task = TASKS.parse(spec)
    assert size_divisor(name, task, layers) == divisor
    least = 2 * divisor
    net = build_network(name, task, 1, width=2, layers=layers)
    for n in (least, 3 * divisor):
        check_sizes(name, task, layers, (n, 2 * n))
        x, clean = _pair(spec, n)
        assert net(x).shape == clean.shape
    for n in (divisor, 3 * divisor // 2 if divisor > 1 else 1):
        with pytest.raises(InputError, match=rf"divisible by {divisor}, .* got n={n} on level 1"):
            check_sizes(name, task, layers, (least, n))
    if name == "unet" and divisor > 2:
        x, _ = _pair(spec, divisor)
        with pytest.raises(InputError, match="`x` must have sizes divisible by"):
            net(x)


@pytest.mark.parametrize(
    ("name", "spec", "choices", "message"),
    [
        ("unett", "denoise", {}, r"`network` must be one of espcn, resnet, unet; .*mean 'unet'"),
        (7, "denoise", {}, "`network` must be one of"),
        ("espcn", "denoise:0.3", {}, r"`network` espcn .* such as superres; got task denoise:0.3"),
        ("espcn", "superres", {"norm": "group"}, "`norm` must be left out for espcn"),
        ("resnet", "denoise", {"conv": "mcf"}, "`conv` must be one of mfc, standard; .*'mfc'"),
        ("resnet", "denoise", {"layers": 1}, "`layers` must be a whole number from 2"),
        ("unet", "denoise", {"layers": 0}, "`layers` must be a whole number from 1 to 12"),
        ("unet", "denoise", {"width": 0}, "`width` must be a whole number from 1"),
        ("unet", "denoise", {"width": 2.5}, "`width` must be a whole number"),
        ("unet", "denoise", {"seed": -1}, "`seed` must be a whole number from 0"),
        ("unet", "denoise", {"padding_mode": "mirror"}, "`padding_mode` must be one of"),
        ("unet", "denoise", {"norm": "layer"}, "`norm` must be one of"),
        ("unet", "denoise", {"mesh_free_widths": (0.1, 0.2)}, "must be left out for conv standard"),
        ("unet", "denoise", {"conv": "mfc", "mesh_free_widths": (0.2, 0.1)}, "`widths` must"),
    ],
)
def test_networks_that_cannot_be(name: Any, spec: str, choices: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network(name, TASKS.parse(spec), 1, **choices)
    with pytest.raises(InputError, match="`task` must be a Task; got 'denoise'"):
        build_network("resnet", "denoise", 1)  # type: ignore[arg-type]


def test_widths_of_kernels_are_in_units_of_the_box() -> None:
    net = _network("denoise", "resnet", "mfc", mesh_free_widths=(0.02, 0.04))
    with pytest.warns(UnresolvedKernelWarning, match="narrower than a cell"):
        net(_pair("denoise", 16)[0])
    _network("denoise", "resnet", "mfc")(_pair("denoise", 16)[0])  # no warning: they are wide


@pytest.mark.parametrize(("spec", "name"), [("denoise", "resnet"), ("superres", "espcn")])
def test_conv_and_padding_reach_every_layer(spec: str, name: str) -> None:
    for mode, torch_name in (("periodic", "circular"), ("reflect", "replicate")):
        made = _network(spec, name, padding_mode=mode)
        found = [m.padding_mode for m in made.modules() if isinstance(m, nn.Conv2d)]
        assert found == [torch_name] * 2
        free = _network(spec, name, "mfc", padding_mode=mode)
        assert not any(isinstance(m, nn.Conv2d) for m in free.modules())
        modes = [m.padding_mode for m in free.modules() if isinstance(m, MeshFreeConv2d)]
        assert modes == [mode] * 2
