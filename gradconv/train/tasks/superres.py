"""Super-resolution by 2: the input holds the means of 2^d children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradconv.backend import Backend
from gradconv.restriction import RESTRICTIONS
from gradconv.train.tasks.base import TASKS, WhiteNoiseTask, cells_of, pixel_noise

_TORCH = Backend(library="torch")
_AVERAGE = RESTRICTIONS.parse("average")


@TASKS.register("superres")
@dataclass(frozen=True)
class SuperResolution(WhiteNoiseTask):
    """x = R u + sigma·z on the mesh of half the cells an axis, R the mean of a cell's children.

    R is the restriction `average`, so that restricting input and target of a level gives those of
    the next.

    Parameters
    ----------
    sigma : float
        Standard deviation of the pixel noise of the input; 0 for none.
    """

    factor: ClassVar[int] = 2
    sigma: float = 0.0

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(self.sigma >= 0, "sigma must not be negative")

    def weakened(self, clean: Tensor, generator: torch.Generator, share: float) -> Tensor:
        """Average, then add that share of the noise."""
        self.input_size(cells_of(clean))
        mean = _AVERAGE.restrict(clean, clean.ndim - 2, self.factor, backend=_TORCH)
        return pixel_noise(mean, share * self.sigma, generator) if self.sigma else mean
