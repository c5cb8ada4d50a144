"""Small data and models for the tests of multilevel estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv import MeshHierarchy
from gradconv.samplers import NoisySampler

LINE = MeshHierarchy.powers_of_two(1, 2, 5)
SQUARE = MeshHierarchy.powers_of_two(2, 3, 5)


def waves(hierarchy: MeshHierarchy, count: int = 6, channels: int = 1) -> torch.Tensor:
    """Smooth clean samples of different phase, shape ``(count, channels, *finest)``."""
    x = (torch.arange(hierarchy.sizes[-1], dtype=torch.float64) + 0.5) / hierarchy.sizes[-1]
    fields = []
    for i in range(count * channels):
        line = torch.sin(2 * torch.pi * (x + i / (count * channels))) + 0.3 * torch.cos(
            4 * torch.pi * x + i
        )
        field = line
        for _ in range(hierarchy.dim - 1):
            field = field[..., None] * line + 0.2 * line
        fields.append(field)
    return torch.stack(fields).reshape(count, channels, *hierarchy.finest.shape)


class Noise:
    """Independent pixels; `white` scales them as cell means of white noise."""

    def __init__(self, sigma: float, white: bool = False) -> None:
        self.sigma, self.white = sigma, white

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        size = clean.shape[2:].numel()
        sigma = self.sigma * (size**0.5 if self.white else 1.0)
        return clean + sigma * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)


def noisy(hierarchy: MeshHierarchy = LINE, sigma: float = 0.5, **choices: Any) -> NoisySampler:
    """Denoising of the waves."""
    white = choices.pop("white", False)
    channels = choices.pop("channels", 1)
    return NoisySampler(
        waves(hierarchy, channels=channels), Noise(sigma, white), hierarchy, **choices
    )


def stencil(dim: int = 1, channels: int = 1, seed: int = 0) -> nn.Module:
    """A periodic convolution of three points an axis, in double precision."""
    torch.manual_seed(seed)
    kind = (nn.Conv1d, nn.Conv2d)[dim - 1]
    return kind(channels, channels, 3, padding=1, padding_mode="circular").double()


def flat(gradients: dict[str, torch.Tensor]) -> np.ndarray:
    """All gradients as one vector."""
    return torch.cat([g.reshape(-1) for g in gradients.values()]).numpy()
