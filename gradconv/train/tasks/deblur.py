"""Deblurring: a Gaussian of physical width on the periodic box, and a little noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gradconv.train.tasks.base import TASKS, Task, cells_of, pixel_noise


@TASKS.register("deblur")
@dataclass(frozen=True)
class Deblur(Task):
    """x = G u + sigma·z: each mode k of u times exp(−width²|k|²/2), k = 2πj.

    That is convolution with the periodic heat kernel, a Gaussian of standard deviation `width`. The
    multiplier is real and even, so that the mode at −n/2 needs no care, and the meshes share the
    operator on the modes that they have in common.

    Parameters
    ----------
    width : float
        Standard deviation of the Gaussian, in units of the box.
    sigma : float
        Standard deviation of the pixel noise; 0 for none.
    """

    width: float = 1 / 40
    sigma: float = 0.01

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 < self.width <= 1, "width must be positive and at most the box, 1")
        self.require(self.sigma >= 0, "sigma must not be negative")

    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Blur, then add the noise."""
        n, axes = cells_of(clean), tuple(range(2, clean.ndim))
        spectrum = torch.fft.rfftn(clean, dim=axes)
        spectrum *= _multiplier(self.width, n, len(axes), clean.dtype, clean.device)
        blurred = torch.fft.irfftn(spectrum, s=clean.shape[2:], dim=axes)
        return pixel_noise(blurred, self.sigma, generator) if self.sigma else blurred


@lru_cache(maxsize=32)
def _multiplier(
    width: float, n: int, dim: int, dtype: torch.dtype, device: torch.device
) -> Tensor:  # shape: (n, …, n, n // 2 + 1)
    full = torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)
    half = torch.fft.rfftfreq(n, 1.0 / n, dtype=torch.float64)
    square = torch.zeros((), dtype=torch.float64)
    for axis in range(dim):
        j = half if axis == dim - 1 else full
        square = square[..., None] + (2 * math.pi * j) ** 2
    return torch.exp(-0.5 * width**2 * square).to(device, dtype)
