"""Denoising: independent normal noise in every pixel, of one level or of a random one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradconv.train.tasks.base import TASKS, WhiteNoiseTask, cells_of, pixel_noise


@TASKS.register("denoise")
@dataclass(frozen=True)
class Denoise(WhiteNoiseTask):
    """x = u + s·z with independent standard normal z.

    Parameters
    ----------
    sigma : float
        Standard deviation s; the image's values lie in [0, 1].
    upper : float
        If it is not 0, s is drawn for each image, uniformly from [sigma, upper], and a last
        channel of the input holds it: constants stay what they are on coarser meshes.
    """

    sigma: float = 0.1
    upper: float = 0.0

    def __post_init__(self) -> None:
        self.require_finite()
        if self.upper == 0.0:
            self.require(self.sigma > 0, "sigma must be positive")
        else:
            self.require(self.sigma >= 0, "sigma must not be negative")
            self.require(self.upper > self.sigma, "upper must be 0, or more than sigma")

    @property
    def timed(self) -> bool:
        """Whether the level is random."""
        return self.upper != 0.0

    def inputs(self, channels: int) -> int:
        """Channels of the image, and one of the level if it is random."""
        return channels + self.timed

    def weakened(self, clean: Tensor, generator: torch.Generator, share: float) -> Tensor:
        """Add that share of the noise, and the channel of its full level."""
        cells_of(clean)
        if not self.timed:
            return pixel_noise(clean, share * self.sigma, generator)
        one = (1, 1, *(1,) * (clean.ndim - 2))
        level = torch.rand(one, generator=generator, dtype=clean.dtype, device=clean.device)
        level = self.sigma + (self.upper - self.sigma) * level
        noisy = pixel_noise(clean, share * level, generator)
        return torch.cat([noisy, level.expand(1, 1, *clean.shape[2:])], dim=1)
