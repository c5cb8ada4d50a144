"""What every sampler states and does: data of numbered sample paths on the levels asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy

Batch = tuple[torch.Tensor, Any]
"""Input, shape ``(B, C, *n)``, and target: a tensor whose first axis is the batch."""


class Sampler(ABC):
    """Draws what enters a module: samples have numbers, and one number is one sample path.

    A number gives the same sample whenever it is asked for, alone or with others, so that levels
    are coupled by asking for the same numbers, and independent samples are other numbers.

    Attributes
    ----------
    hierarchy : MeshHierarchy
        The levels.
    available : int or None
        Sample paths there are; None if there is no end of them.
    sequential : bool
        Whether samples can be drawn only once and in order (a data loader); a level's data are
        then those of one call.
    level_noise : bool
        Whether a draw on some levels has noise of its own on the finest of *them*. The data of a
        level may then have another law as the fine than as the coarse level of a term, and a sum
        over levels estimates the finest gradient only if they agree.
    """

    hierarchy: MeshHierarchy
    available: int | None = None
    sequential: bool = False
    level_noise: bool = False

    @abstractmethod
    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Input and target of some samples on some levels, in the order of `levels`.

        Parameters
        ----------
        numbers : sequence of int
            Numbers of the samples, not negative.
        levels : sequence of int
            Levels, 0 is the coarsest; all of them see one sample path a number.

        Raises
        ------
        InputError
            If the samples run out, or what is drawn breaks a rule.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the choices as JSON values."""

    @property
    def grid(self) -> str:
        """Where values live: ``"cell"`` centres or ``"vertex"`` points."""
        return "cell"

    @property
    def bytes_per_path(self) -> int:
        """Estimate of what making one path takes, in bytes."""
        return 0

    def path(self, number: int) -> list[Batch]:
        """One sample on every level, coarse to fine."""
        return self.draw([number], range(len(self.hierarchy)))

    def cells_drawn(self, levels: Sequence[int]) -> int:
        """Cells that a sample of a term on these levels is drawn on before it is restricted."""
        meshes = self.hierarchy.meshes
        return meshes[max(levels)].size if self.level_noise else meshes[-1].size

    def check_available(self, numbers: Sequence[int], levels: Sequence[int]) -> None:
        """Refuse numbers past the last sample.

        Raises
        ------
        InputError
            If the samples have run dry; the level is named.
        """
        if self.available is not None and len(numbers) and max(numbers) >= self.available:
            raise InputError(
                f"`sampler` must have new samples for every term; on level {max(levels)} "
                f"(n={self.hierarchy.sizes[max(levels)]}) it ran dry: sample {max(numbers)} was "
                f"asked for, and there are {self.available}"
            )


def joined(parts: Sequence[Any]) -> Any:
    """Join targets along the batch axis; what is no tensor is kept as it is, if it is alone."""
    if len(parts) == 1:
        return parts[0]
    if not all(isinstance(p, torch.Tensor) for p in parts):
        raise InputError(
            "`sampler` targets must be tensors to be joined into a batch; "
            f"got {type(parts[0]).__name__}"
        )
    return torch.cat(list(parts))


def check_finite(x: torch.Tensor, what: str, where: str) -> None:
    """Refuse NaN and infinity in what a user's callable or data gave."""
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        raise InputError(f"`{what}` inputs must be finite; got NaN or infinity for {where}")
