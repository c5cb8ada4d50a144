"""The cost model against operations counted by torch."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gradconv import InputError
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d, layer_cost

NARROW, WIDE, MESH = (1 / 40, 1 / 20), (1 / 20, 1 / 15), (16, 18, 20)


def counted(layer: torch.nn.Module, x: torch.Tensor) -> dict[str, int]:
    """Operations of matrix products in a forward and a backward pass, by kind."""
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    return {str(k): v for k, v in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize(
    ("layer", "n"),
    [
        (MeshFreeConv1d(8, 4, widths=NARROW, path="torch"), (96,)),
        (MeshFreeConv2d(16, 12, widths=NARROW, path="torch"), (80, 96)),
        (MeshFreeConv2d(8, 8, widths=WIDE, groups=2, derivatives=1, path="torch"), (48, 33)),
        (MeshFreeConv2d(8, 4, widths=WIDE, stride=2, path="torch"), (128, 64)),
        (MeshFreeConv3d(4, 6, widths=(1 / 8, 1 / 6), padding_mode="reflect", path="torch"), MESH),
    ],
    ids=lambda v: str(v)[:30],
)
def test_operations_are_those_that_torch_counts(layer, n):
    cost = layer_cost(layer, n, batch=3)
    x = torch.randn(3, layer.in_channels, *n, requires_grad=True)
    products = sum(counted(layer, x).values())
    assert cost.total == pytest.approx(products, rel=0.15)
    transforms = cost.analysis + cost.synthesis
    assert transforms < products  # what is left is the mixing's
    # Negative control: another batch is told apart.
    assert layer_cost(layer, n, batch=4).total > 1.1 * cost.total
    assert 0 < cost.modes <= cost.all_modes


def test_stencil_is_counted_as_torch_counts_a_convolution():
    conv = torch.nn.Conv2d(6, 8, 3, padding=1)
    products = sum(counted(conv, torch.randn(2, 6, 40, 30, requires_grad=True)).values())
    layer = MeshFreeConv2d(6, 8, widths=(1 / 20, 1 / 15))
    assert layer_cost(layer, (40, 30), batch=2).stencil == pytest.approx(products, rel=1e-12)


def test_cost_falls_with_width_and_rises_less_than_the_mesh():
    narrow, wide = (MeshFreeConv2d(4, 4, widths=(w, w)) for w in (1 / 60, 1 / 30))
    assert layer_cost(wide, (256, 256)).modes < 0.3 * layer_cost(narrow, (256, 256)).modes
    fine, coarse = layer_cost(wide, (512, 512)), layer_cost(wide, (256, 256))
    assert fine.mixing == pytest.approx(coarse.mixing, rel=0.01)
    assert fine.total < 3.9 * coarse.total
    assert "GFLOP" in str(fine)


def test_bad_requests_are_named():
    layer = MeshFreeConv2d(2, 2)
    for arguments, message in (
        ((layer, (8,)), "`shape` must be 2 sizes"),
        ((layer, (8, 1)), "`shape` must be 2 sizes"),
        ((layer, (8, 8), 0), "`batch` must be a whole number from 1"),
        ((torch.nn.Conv2d(1, 1, 3), (8, 8)), "`layer` must be a MeshFreeConv; got Conv2d"),
    ):
        with pytest.raises(InputError, match=message):
            layer_cost(*arguments)
