"""Super-resolution by 2: the input holds the means of 2^d children."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradconv.backend import Backend
from gradconv.restriction import RESTRICTIONS, Restriction
from gradconv.train.tasks.base import TASKS, Task, averaged, cells_of, pixel_noise

_TORCH = Backend(library="torch")
_AVERAGE = RESTRICTIONS.parse("average")


@TASKS.register("superres")
@dataclass(frozen=True)
class SuperResolution(Task):
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

    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Average, then add the noise."""
        return self._halve(clean, generator)

    def restricted(
        self, restriction: Restriction, ratio: int, dim: int
    ) -> Callable[[Tensor, torch.Generator], Tensor] | None:
        """Weaken the noise as averaging does, by ratio^{−dim/2}; None for other restrictions."""
        return averaged(self._halve, restriction, ratio, dim)

    def _halve(self, clean: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
        self.input_size(cells_of(clean))
        mean = _AVERAGE.restrict(clean, clean.ndim - 2, self.factor, backend=_TORCH)
        return pixel_noise(mean, share * self.sigma, generator) if self.sigma else mean
