"""Mesh-free layers and networks in torch.

>>> import torch
>>> from gradconv.nn import MeshFreeConv2d
>>> layer = MeshFreeConv2d(3, 8, widths=(1 / 32, 1 / 16), stride=2)
>>> layer(torch.randn(1, 3, 64, 48)).shape
torch.Size([1, 8, 32, 24])
"""

from __future__ import annotations

from gradconv.nn.cost import LayerCost, layer_cost
from gradconv.nn.kernel_figure import kernel_image
from gradconv.nn.layer import (
    MeshFreeConv1d,
    MeshFreeConv2d,
    MeshFreeConv3d,
    UnresolvedKernelWarning,
)
from gradconv.nn.parameters import PhysicalParameters

__all__ = [
    "LayerCost",
    "MeshFreeConv1d",
    "MeshFreeConv2d",
    "MeshFreeConv3d",
    "PhysicalParameters",
    "UnresolvedKernelWarning",
    "kernel_image",
    "layer_cost",
]
