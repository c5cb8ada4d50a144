"""Inpainting: boxes of the image are hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradconv.train.tasks.base import TASKS, Task, cells_of

MOST_BOXES = 10_000


@TASKS.register("inpaint")
@dataclass(frozen=True)
class Inpaint(Task):
    """Boxes at random places hide the image; a last channel is 1 where it is hidden, else 0.

    Each of K boxes (periodic, of side `side` rounded to whole cells of the mesh, at least one)
    covers a cell with probability a = (its cells) / (all cells), so that K of them hide
    1 − (1 − a)^K of the area on average. K is one of two neighbouring whole numbers, drawn for each
    image such that the average is `fraction` on every mesh. Coarser levels hold the restrictions of
    image and mask: there the mask is the share of a cell that is hidden.

    Parameters
    ----------
    fraction : float
        Share of the area that is hidden, on average.
    side : float
        Side of a box, in units of the image's side.
    value : float
        What hidden pixels are set to.
    """

    fraction: float = 0.25
    side: float = 1 / 8
    value: float = 0.0

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 < self.fraction < 1, "fraction must lie between 0 and 1, both excluded")
        self.require(0 < self.side < 1, "side must lie between 0 and 1, both excluded")
        self.require(
            math.log1p(-self.fraction) / math.log1p(-(self.side**2)) <= MOST_BOXES,
            f"fraction must take at most {MOST_BOXES} boxes of this side",
        )

    def inputs(self, channels: int) -> int:
        """Channels of the image, and the mask."""
        return channels + 1

    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Hide the boxes."""
        hidden = self._hidden(cells_of(clean), clean.ndim - 2, generator).to(clean.dtype)
        seen = clean * (1.0 - hidden) + self.value * hidden
        return torch.cat([seen, hidden.expand(1, 1, *hidden.shape)], dim=1)

    def _hidden(
        self, n: int, dim: int, generator: torch.Generator
    ) -> Tensor:  # shape: (n, …, n), values 0 and 1
        cells = min(max(round(self.side * n), 1), n - 1)
        covers = (cells / n) ** dim
        boxes = math.floor(math.log1p(-self.fraction) / math.log1p(-covers))
        # with `more`, the chance of one box more, E (1 − covers)^K is 1 − fraction
        more = (1.0 - (1.0 - self.fraction) / (1.0 - covers) ** boxes) / covers
        device = generator.device
        corners = torch.randint(n, (dim, boxes + 1, 1), generator=generator, device=device)
        last = torch.rand(1, generator=generator, device=device, dtype=torch.float64) < more
        offset = torch.arange(n, device=device) - corners
        # (dim, boxes, n): which coordinates of an axis each box takes, across the boundary too
        inside = ((offset >= 0) & (offset < cells)) | (offset < cells - n)
        inside[0, -1] &= last
        lines = inside.to(torch.float32)
        if dim == 1:
            hits = lines[0].sum(dim=0)
        elif dim == 2:
            hits = lines[0].T @ lines[1]
        else:
            hits = torch.einsum("ka,kb,kc->abc", *lines)
        return hits.clamp(max=1.0)
