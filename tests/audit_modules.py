"""Modules that the tests of the audit look at, each with one habit."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import nn

from gradconv.nn import MeshFreeConv2d

HIERARCHY = (8, 16, 32, 64)
SMOOTH = {"signal": "band-limited:2", "noise": "none", "hierarchy": HIERARCHY}
# noise that outweighs the signal on every level, yet does not saturate tanh
NOISY = {
    "signal": "sobolev:3:0.001",
    "noise": "pixel:0.2",
    "hierarchy": (8, 16, 32, 64, 128),
}


def stencil(inputs: int, outputs: int, **options: object) -> nn.Conv2d:
    """Standard 3×3 convolution, periodic unless said."""
    chosen = {"padding": 1, "padding_mode": "circular", **options}
    return nn.Conv2d(inputs, outputs, 3, **chosen)  # type: ignore[arg-type]


def mesh_free(inputs: int, outputs: int, **options: object) -> MeshFreeConv2d:
    """Mesh-free convolution of kernels that 8 cells an axis resolve; no compiler is waited for."""
    chosen = {"widths": (1 / 6, 1 / 4), "path": "torch", **options}
    return MeshFreeConv2d(inputs, outputs, **chosen)  # type: ignore[arg-type]


class ResNet(nn.Module):
    """Three layers with tanh and a skip connection."""

    def __init__(self, conv: Callable[[int, int], nn.Module], width: int = 4) -> None:
        super().__init__()
        self.first, self.middle, self.last = conv(1, width), conv(width, width), conv(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        return self.last(x + torch.tanh(self.middle(x)))


class Positions(nn.Module):
    """Adds a learned image, stretched over the mesh."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.image = nn.Conv2d(1, 4, 1), nn.Parameter(torch.randn(1, 4, 4, 4))
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        image = functional.interpolate(self.image, size=x.shape[2:], mode="bilinear")
        return self.last(torch.tanh(self.conv(x) + image))


class FixedGrid(nn.Module):
    """Works on a grid of 4 cells an axis whatever the mesh, reached by one bilinear step."""

    def __init__(self, steps: str) -> None:
        super().__init__()
        self.first, self.last, self.steps = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 1), steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        while self.steps == "chain" and y.shape[-1] > 4:
            y = functional.interpolate(y, scale_factor=0.5, mode="bilinear")
        y = functional.interpolate(y, size=(4, 4), mode="bilinear")
        return self.last(functional.interpolate(torch.tanh(y), size=x.shape[2:], mode="bilinear"))


class Shaky(nn.Module):
    """Fails, or is interrupted, after some calls."""

    def __init__(self, calls: int, error: BaseException) -> None:
        super().__init__()
        self.conv, self.norm = stencil(1, 1), nn.BatchNorm2d(1)
        self.calls, self.error = calls, error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return self.norm(self.conv(x)) + 0.0 * torch.rand(1, dtype=x.dtype)
