"""Operations, seconds and memory of a gradient on each level, by independent counts."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gradconv import InputError
from gradconv.multilevel.costs.counting import LevelCost, level_costs
from gradconv.nn import MeshFreeConv2d, ResNet, layer_cost, timing
from gradconv.nn.evaluation import mean_square
from gradconv.nn.memory import Allocations

SIZES = (8, 16, 32)
WIDTHS = (1 / 6, 1 / 4)  # resolved by 8 cells an axis


def pairs(
    sizes: Sequence[int] = SIZES,
    channels: int = 1,
    batch: int = 1,
    dim: int = 2,
    made: int = 1,
    dtype: torch.dtype = torch.float32,
) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(n,) * dim for n in sizes]
    return [
        (
            torch.randn(batch, channels, *n, generator=draw, dtype=dtype),
            torch.randn(batch, made, *n, generator=draw, dtype=dtype),
        )
        for n in shapes
    ]


def squared(p: Tensor, t: Tensor) -> Tensor:
    return p.square().mean()


def standard(width: int = 6, **options: Any) -> nn.Sequential:
    def conv(inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, padding=1, **options)

    return nn.Sequential(conv(1, width), nn.Tanh(), conv(width, width), nn.Tanh(), conv(width, 1))


def mesh_free(path: str, width: int = 4, **options: Any) -> ResNet:
    draw = torch.Generator().manual_seed(0)

    def conv(inputs: int, outputs: int) -> MeshFreeConv2d:
        chosen = {"widths": WIDTHS, "path": path, "generator": draw, **options}
        return MeshFreeConv2d(inputs, outputs, **chosen)

    return ResNet(1, 1, channels=width, conv=conv)


def torch_flops(module: nn.Module, x: Tensor) -> int:
    """What torch counts, as it is."""
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    return counter.get_total_flops()


def flops(costs: Sequence[LevelCost]) -> list[float]:
    return [c.flops for c in costs]


@pytest.mark.parametrize("batch", [1, 3])
def test_operations_of_a_convolutional_network(batch: int) -> None:
    """2·9·C_in·C_out a pixel forward, twice that backward, but no input gradient at the start."""
    found = level_costs(standard(), mean_square, pairs(batch=batch))
    layers = ((1, 6, 2), (6, 6, 3), (6, 1, 3))  # in, out, and products as dear as the forward pass
    by_hand = [sum(2 * 9 * i * o * n * n * passes for i, o, passes in layers) for n in SIZES]
    assert flops(found) == by_hand
    assert [c.level for c in found] == [0, 1, 2]
    assert [c.shape for c in found] == [(n, n) for n in SIZES]
    # negative control: a gradient by the input would be counted
    assert sum(2 * 9 * i * o * 64 * 3 for i, o, _ in layers) != by_hand[0]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d, nn.Conv1d])
def test_groups_strides_and_transposed_convolutions(kind: Any, groups: int) -> None:
    dim = 1 if kind is nn.Conv1d else 2
    conv = kind(8, 4, 3, padding=1, stride=2, groups=groups)
    x = torch.randn(2, 8, *(16,) * dim)
    (found,) = level_costs(conv, squared, [(x, None)])
    cells = (16 if kind is nn.ConvTranspose2d else 8) ** dim  # of the side with fewer cells
    forward = 2 * 3**dim * (8 // groups) * 4 * cells
    assert found.flops == 2 * forward  # and the gradient by the weights
    # negative control: torch takes that gradient for one without groups
    assert (torch_flops(conv, x) == 2 * 2 * forward) == (groups == 1)


def test_linear_maps_count() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 1))
    (found,) = level_costs(module, squared, pairs((8,), batch=4))
    assert found.flops == 2 * (2 * 64 * 5 + 3 * 5)


@pytest.mark.parametrize("options", [{}, {"padding_mode": "reflect", "derivatives": 1}])
def test_mesh_free_layers_count_alike_on_both_paths(options: dict[str, Any]) -> None:
    slow, fast = mesh_free("torch", **options), mesh_free("compiled", **options)
    found = [flops(level_costs(m, mean_square, pairs(batch=2))) for m in (slow, fast)]
    assert found[0] == found[1]
    layers = [m for m in slow.modules() if isinstance(m, MeshFreeConv2d)]
    by_hand = [sum(layer_cost(m, (n, n), 2).total for m in layers) / 2 for n in SIZES]
    assert found[0] == pytest.approx(by_hand, rel=1e-12)
    # negative control: torch sees nothing of the compiled path, and that shows
    x = torch.randn(2, 1, 32, 32)
    assert torch_flops(fast, x) < 0.1 * torch_flops(slow, x)


def test_mesh_free_count_is_near_what_torch_sees_of_the_torch_path() -> None:
    net = mesh_free("torch", width=16)
    x = torch.randn(2, 1, 32, 32, requires_grad=True)  # the count holds a first input gradient
    ((found),) = flops(level_costs(net, mean_square, [(x.detach(), torch.zeros(2, 1, 32, 32))]))
    assert 2 * found == pytest.approx(torch_flops(net, x), rel=0.15)


def test_a_mixed_network_counts_both_kinds_once() -> None:
    inner = MeshFreeConv2d(6, 6, widths=WIDTHS, stride=2)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), inner, nn.Conv2d(6, 1, 1))
    (found,) = level_costs(net, squared, pairs((32,)))
    ends = 2 * (2 * 9 * 6 * 32**2) + 3 * (2 * 6 * 16**2)
    assert found.flops == ends + layer_cost(inner, (32, 32)).total
    shared = nn.Sequential(nn.Conv2d(1, 6, 1), *[MeshFreeConv2d(6, 6, widths=WIDTHS)] * 2)
    (twice,) = level_costs(shared, squared, pairs((16,)))
    assert twice.flops == 2 * (2 * 6 * 16**2) + 2 * layer_cost(shared[1], (16, 16)).total


def test_costs_grow_with_the_cells() -> None:
    found = flops(level_costs(standard(), mean_square, pairs((8, 16, 32, 64))))
    assert [b / a for a, b in pairwise(found)] == [4.0] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [standard, lambda width: mesh_free("auto", width)])
def test_memory_of_many_samples_is_foreseen_from_few(make: Any, dtype: torch.dtype) -> None:
    net = make(8).to(dtype)
    (found,) = level_costs(net, mean_square, pairs((32,), dtype=dtype))
    ((x, y),) = pairs((32,), batch=12, dtype=dtype)
    with Allocations([*net.parameters(), x, y]) as counted:
        torch.autograd.grad(mean_square(net(x), y), list(net.parameters()))
    foreseen = found.fixed_bytes + 12 * found.sample_bytes
    assert foreseen == pytest.approx(counted.peak, rel=0.05)
    fields = 8 * 32**2 * x.element_size()
    assert found.sample_bytes > 2 * fields  # two hidden layers are kept
    (wider,) = level_costs(make(16).to(dtype), mean_square, pairs((32,), dtype=dtype))
    assert wider.sample_bytes > 1.7 * found.sample_bytes  # negative control


def test_samples_in_the_batch_do_not_matter() -> None:
    one, many = (level_costs(standard(), mean_square, pairs(batch=b)) for b in (1, 4))
    assert flops(one) == flops(many)
    for a, b in zip(one, many, strict=True):
        assert a.sample_bytes == pytest.approx(b.sample_bytes, rel=0.02)


def test_seconds_are_the_median_of_passes_after_one_that_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # seconds of each pass, in turn over two levels: a slow warm-up, then three rounds
    taken = [90.0, 99.0, 2.0, 40.0, 8.0, 20.0, 4.0, 24.0]

    def clock() -> Iterator[float]:
        now = 0.0
        for seconds in taken:
            yield now
            now += seconds
            yield now

    ticks = clock()
    clocks = SimpleNamespace(perf_counter=lambda: next(ticks), process_time=lambda: 0.0)
    monkeypatch.setattr(timing, "time", clocks)
    found = level_costs(standard(), mean_square, pairs((8, 16), batch=2), repeats=3)
    assert [c.seconds for c in found] == [4.0 / 2, 24.0 / 2]
    assert [c.seconds_range for c in found] == [(1.0, 4.0), (10.0, 20.0)]
    assert next(ticks, None) is None  # every pass was timed, and no other


def test_the_clock_is_left_alone_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "time", None)
    (found,) = level_costs(standard(), mean_square, pairs((8,)))
    assert found.seconds is found.seconds_range is None


def test_a_module_is_left_as_it_was() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        MeshFreeConv2d(4, 1, widths=WIDTHS),
    )
    module(torch.randn(1, 1, 16, 16)).sum().backward()
    gradients = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    before = copy.deepcopy(module.state_dict())
    keys = [set(m.__dict__) for m in module.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    level_costs(module, mean_square, pairs(), repeats=1)
    assert module.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert [set(m.__dict__) for m in module.modules()] == keys
    kept = [p.grad for p in module.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(gradients, kept, strict=True))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002
    # negative control: a pass of one's own does move the statistics
    module(torch.randn(1, 1, 16, 16))
    assert not torch.equal(module[1].running_mean, before["1.running_mean"])  # type: ignore[arg-type]


def test_a_failure_leaves_a_module_as_it_was() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), MeshFreeConv2d(2, 1, widths=WIDTHS)
    )
    before = copy.deepcopy(module.state_dict())
    calls = 0

    def failing(p: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:  # while operations are counted
            raise KeyboardInterrupt
        return mean_square(p, t)

    with pytest.raises(KeyboardInterrupt):
        level_costs(module, failing, pairs())
    assert "forward" not in module[2].__dict__
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_one_module_a_level_and_a_picked_output() -> None:
    class Two(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, width, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"rest": x, "field": self.conv(x)}

    found = level_costs([Two(w) for w in (1, 2, 4)], squared, pairs(), output="field")
    assert flops(found) == [2 * 2 * w * n * n for w, n in zip((1, 2, 4), SIZES, strict=True)]
    heard: list[str] = []
    listed = [nn.Sequential(Two(1)), nn.Sequential(Two(1))]
    with pytest.raises(InputError, match=r"`loss` must depend on the parameters .* level 0"):
        level_costs(listed, squared, pairs()[:2], note=heard.append)
    assert heard == ["the module returns a dict of rest, field: its first entry is the prediction"]


def test_unresolved_kernels_are_warned_of() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        level_costs(MeshFreeConv2d(1, 1, widths=(0.05, 0.06)), mean_square, pairs((8, 32)))
    assert ["8×8" in str(w.message) for w in heard] == [True]


def bad_on(n: int, value: float) -> Any:
    def loss(p: Tensor, t: Tensor) -> Tensor:
        return p.square().mean() * (value if p.shape[-1] == n else 1.0)

    return loss


def rooted(p: Tensor, t: Tensor) -> Tensor:
    return (0.0 * p[..., 0, 0]).sqrt().sum() if p.shape[-1] == 32 else p.mean()


TIED = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(), nn.Linear(32**2, 1))
DEEP = nn.Sequential(nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 5))
FROZEN = nn.Conv2d(1, 1, 1).requires_grad_(False)
LONE = torch.zeros(8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TIED, squared, pairs()), r"`module` must run on every mesh; on level 0 \(n=8x8\)"),
        ((DEEP, squared, pairs()), r"`module` must run .* level 0 \(n=8x8\), .* \(1, 1, 8, 8\)"),
        ((standard(), bad_on(16, np.nan), pairs()), r"`loss` .* got nan on level 1 \(n=16x16\)"),
        ((standard(), bad_on(32, np.inf), pairs()), r"`loss` .* got inf on level 2 \(n=32x32\)"),
        ((standard(), rooted, pairs()), r"`module` must have finite gradients; .* on level 2"),
        ((standard(), mean_square, pairs(made=2)), "`loss` mse needs an output .* on level 0"),
        ((standard(), lambda p, t: p.detach().sum(), pairs()), "`loss` must depend .* level 0"),
        ((standard(), lambda p, t: p, pairs()), "`loss` must return a scalar"),
        ((FROZEN, squared, pairs()), "`module` must have a parameter .* got none on level 0"),
        (([standard()] * 2, squared, pairs()), "`module` must be .* one for each of 3 levels"),
        (("net", squared, pairs()), "`module` must be a torch.nn.Module"),
        ((standard(), squared, []), "`batches` must hold input and target of at least one level"),
        (
            (standard(), squared, [(LONE, LONE)]),
            r"`batches` .* tensor of shape \(8, 8\), .* level 0",
        ),
        ((standard(), squared, [*pairs(), LONE]), "`batches` must hold .* on level 3"),
        (
            (standard(), squared, pairs(batch=0)),
            r"`batches` .* B at least 1; got .* \(0, 1, 8, 8\)",
        ),
    ],
)
def test_what_cannot_be_measured_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        level_costs(*arguments)


@pytest.mark.parametrize("repeats", [-1, 1.5, True, "3"])
def test_repeats_are_whole(repeats: Any) -> None:
    with pytest.raises(InputError, match="`repeats` must be a whole number from 0"):
        level_costs(standard(), mean_square, pairs(), repeats=repeats)


@pytest.mark.gpu
def test_a_gpu_counts_the_same_operations_and_its_own_memory() -> None:
    batches = [(x.cuda(), y.cuda()) for x, y in pairs((32, 64))]
    for make in (standard, lambda: mesh_free("torch")):
        found = level_costs(make().cuda(), mean_square, batches, repeats=3)
        assert flops(found) == flops(level_costs(make(), mean_square, pairs((32, 64))))
        assert all(c.seconds and c.seconds > 0 for c in found)
        assert found[1].sample_bytes > found[0].sample_bytes > 0
