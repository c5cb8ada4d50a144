"""Published operator layers, made as their users make them: for all meshes at once, or for each.

Two references stand beside them: a standard convolution and a mesh-free one. The packages that the
others come from (``pip install gradconv[compare]``) are imported when a layer is made.
"""

from __future__ import annotations

import torch
from torch import nn

WIDTH = 8  # channels of blocks
RADIUS = 1 / 16  # of the box: support of a local kernel that does not shrink with the mesh


def standard() -> nn.Module:
    """3×3 convolution of torch."""
    return nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")


def mesh_free() -> nn.Module:
    """Mesh-free convolution."""
    from gradconv.nn import MeshFreeConv2d

    return MeshFreeConv2d(1, 1, widths=(1 / 24, 1 / 12))


def spectral() -> nn.Module:
    """Fourier layer of neuraloperator without its skip connection."""
    from neuralop.layers.spectral_convolution import SpectralConv

    return SpectralConv(1, 1, n_modes=(16, 16))


def fno() -> nn.Module:
    """FNO of two blocks, as its page shows it."""
    from neuralop.models import FNO

    return FNO(n_modes=(16, 16), in_channels=1, out_channels=1, hidden_channels=WIDTH, n_layers=2)


def disco_default(n: int) -> nn.Module:
    """Discrete-continuous convolution of neuraloperator, radius by default: one cell."""
    return _disco(n, None)


def disco_fixed(n: int) -> nn.Module:
    """Discrete-continuous convolution of neuraloperator, radius fixed in the domain."""
    return _disco(n, 2 * RADIUS)  # its domain has side 2


def _disco(n: int, radius: float | None) -> nn.Module:
    from neuralop.layers.discrete_continuous_convolution import (
        EquidistantDiscreteContinuousConv2d,
    )

    shape = (n, n)
    return EquidistantDiscreteContinuousConv2d(
        1, 1, shape, shape, kernel_shape=[2, 4], periodic=True, radius_cutoff=radius
    )


class _OnItsMesh(nn.Module):
    """Gives a layer the mesh size that it asks for."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(x, 1.0 / x.shape[-1])
        return made


def finite_difference() -> nn.Module:
    """Differential layer of neuraloperator: a stencil without its sum, over the mesh size."""
    from neuralop.layers.differential_conv import FiniteDifferenceConvolution

    return _OnItsMesh(FiniteDifferenceConvolution(1, 1, 2, kernel_size=3, padding="periodic"))


def _local_block(n: int) -> nn.Module:
    from neuralop.layers.local_no_block import LocalNOBlocks

    block = LocalNOBlocks(
        WIDTH,
        WIDTH,
        n_modes=(8, 8),
        default_in_shape=(n, n),
        disco_kernel_shape=[2, 4],
        radius_cutoff=4 * RADIUS,  # 8 cells an axis need more: an even kernel changes the shape
    )
    lift, project = nn.Conv2d(1, WIDTH, 1), nn.Conv2d(WIDTH, 1, 1)
    return nn.Sequential(lift, block, project)


def local_block_as_is() -> nn.Module:
    """Block of Fourier, differential and local layers, made for 64 cells and used on all meshes."""
    return _local_block(64)


def local_block_each(n: int) -> nn.Module:
    """The same block, made for each mesh."""
    return _local_block(n)


def sphere_default(n: int) -> nn.Module:
    """DISCO convolution of torch-harmonics on the sphere, cutoff by default: one cell."""
    return _sphere(n, None)


def sphere_fixed(n: int) -> nn.Module:
    """DISCO convolution of torch-harmonics on the sphere, cutoff fixed."""
    return _sphere(n, RADIUS * torch.pi)


def _sphere(n: int, cutoff: float | None) -> nn.Module:
    from torch_harmonics import DiscreteContinuousConvS2

    return DiscreteContinuousConvS2(
        1,
        1,
        in_shape=(n, n),
        out_shape=(n, n),
        kernel_shape=(2, 4),
        grid_in="legendre-gauss",
        grid_out="legendre-gauss",
        theta_cutoff=cutoff,
    )
