"""Mesh-free layers and networks in torch.

>>> import torch
>>> from gradconv.nn import MeshFreeConv2d
>>> layer = MeshFreeConv2d(3, 8, widths=(1 / 32, 1 / 16), stride=2)
>>> layer(torch.randn(1, 3, 64, 48)).shape
torch.Size([1, 8, 32, 24])
"""

from __future__ import annotations

from gradconv.nn.cost import LayerCost, layer_cost
from gradconv.nn.feature_map_figure import draw_feature_maps
from gradconv.nn.feature_maps import feature_maps
from gradconv.nn.fitting import StencilFit, SwapReport, SwapRow, fit_stencil, to_mesh_free
from gradconv.nn.kernel_figure import kernel_image
from gradconv.nn.layer import (
    MeshFreeConv1d,
    MeshFreeConv2d,
    MeshFreeConv3d,
    UnresolvedKernelWarning,
)
from gradconv.nn.networks import (
    ESPCN,
    ConvFactory,
    MeshFreeFactory,
    PixelShuffle,
    ResNet,
    StagedResNet,
    StandardFactory,
    TimeEmbedding,
    UNet,
)
from gradconv.nn.parameters import PhysicalParameters
from gradconv.nn.resample import Prolong, Restrict

__all__ = [
    "ESPCN",
    "ConvFactory",
    "LayerCost",
    "MeshFreeConv1d",
    "MeshFreeConv2d",
    "MeshFreeConv3d",
    "MeshFreeFactory",
    "PhysicalParameters",
    "PixelShuffle",
    "Prolong",
    "ResNet",
    "Restrict",
    "StagedResNet",
    "StandardFactory",
    "StencilFit",
    "SwapReport",
    "SwapRow",
    "TimeEmbedding",
    "UNet",
    "UnresolvedKernelWarning",
    "draw_feature_maps",
    "feature_maps",
    "fit_stencil",
    "kernel_image",
    "layer_cost",
    "to_mesh_free",
]
