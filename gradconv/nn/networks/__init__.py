"""Networks with a choice of convolution: standard, mesh-free, or one of your own."""

from __future__ import annotations

from gradconv.nn.networks.espcn import ESPCN, PixelShuffle
from gradconv.nn.networks.factory import ConvFactory, MeshFreeFactory, StandardFactory
from gradconv.nn.networks.resnet import ResNet, StagedResNet
from gradconv.nn.networks.unet import TimeEmbedding, UNet

__all__ = [
    "ESPCN",
    "ConvFactory",
    "MeshFreeFactory",
    "PixelShuffle",
    "ResNet",
    "StagedResNet",
    "StandardFactory",
    "TimeEmbedding",
    "UNet",
]
