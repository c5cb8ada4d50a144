"""What every task states and does.

A task takes a clean image to a network's input, on whichever mesh the image lives. Lengths are in
units of the box, of side 1, so that an operator is the same on each mesh; pixel noise is what a
sensor of that mesh adds, independent from cell to cell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from gradconv.errors import InputError, shortened
from gradconv.registry import Choice, Registry
from gradconv.restriction import Restriction

TASKS: Registry[Task] = Registry("task")


class Task(Choice, ABC):
    """A way to corrupt a clean image.

    Attributes
    ----------
    factor : int
        Cells of the target for one of the input, along an axis.
    """

    factor: ClassVar[int] = 1

    @property
    def timed(self) -> bool:
        """Whether the input's last channel is the noise level, constant over the box."""
        return False

    def inputs(self, channels: int) -> int:
        """Channels of the input for images of so many channels."""
        return channels

    def input_size(self, n: int) -> int:
        """Cells an axis of the input for a target of `n`.

        Raises
        ------
        InputError
            If the factor does not divide `n`.
        """
        if n % self.factor:
            raise InputError(
                f"`task` {self.name} needs targets of sizes divisible by {self.factor}; got {n}"
            )
        return n // self.factor

    @abstractmethod
    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Make the input of a clean image.

        Parameters
        ----------
        clean : Tensor
            One image, shape ``(1, C, *n)`` with equal sizes n, values in [0, 1].
        generator : torch.Generator
            All of the randomness; on the image's device.

        Returns
        -------
        Tensor
            Shape ``(1, inputs(C), *(n / factor))``, of the image's precision.

        Raises
        ------
        InputError
            If the image has another shape, or sizes that the factor does not divide.
        """

    def restricted(
        self, restriction: Restriction, ratio: int, dim: int
    ) -> Callable[[Tensor, torch.Generator], Tensor] | None:
        """Corruption of restricted images which has the law of restricting corrupted ones.

        Parameters
        ----------
        restriction : Restriction
            Fine → coarse map.
        ratio : int
            Cells an axis of the image before for one after.
        dim : int
            Axes.

        Returns
        -------
        callable or None
            As `corrupt`; None where it has no such law.
        """
        return None


def cells_of(clean: Tensor) -> int:
    """Cells an axis of one image on the unit box.

    Raises
    ------
    InputError
        Unless its shape is ``(1, C, n, …, n)`` with 1 to 3 axes of n.
    """
    shape = tuple(clean.shape) if isinstance(clean, Tensor) else ()
    sound = 3 <= len(shape) <= 5 and shape[0] == 1 and len(set(shape[2:])) == 1
    if not sound or not clean.is_floating_point():
        got = f"{clean.dtype} of shape {shape}" if shape else shortened(clean)
        raise InputError(
            f"`clean` must be one real image (1, C, n, …, n) on 1 to 3 axes; got {got}"
        )
    return shape[2]


class WhiteNoiseTask(Task):
    """A task of white noise, which without its noise commutes with averaging."""

    @abstractmethod
    def weakened(self, clean: Tensor, generator: torch.Generator, share: float) -> Tensor:
        """Make the input as `corrupt` does, with `share` of the noise's standard deviation."""

    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Make the input of a clean image, with all of the noise."""
        return self.weakened(clean, generator, 1.0)

    def restricted(
        self, restriction: Restriction, ratio: int, dim: int
    ) -> Callable[[Tensor, torch.Generator], Tensor] | None:
        """Weaken the noise as averaging does; None for other restrictions.

        The mean of ratio^dim independent normal values is normal with ratio^{−dim/2} of their
        standard deviation, and independent from cell to cell.
        """
        if restriction.spec != "average":
            return None
        return partial(self.weakened, share=ratio ** (-dim / 2))


def pixel_noise(
    clean: Tensor, sigma: float | Tensor, generator: torch.Generator
) -> Tensor:  # shape: that of clean
    """Add independent normal values of standard deviation `sigma`."""
    if isinstance(sigma, Tensor):
        noise = torch.empty_like(clean).normal_(generator=generator).mul_(sigma)
    else:  # one pass less: half of the time on small meshes
        noise = torch.empty_like(clean).normal_(0.0, sigma, generator=generator)
    return noise.add_(clean)
