"""Random resized crops of another sampler's samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gradconv.errors import InputError, check_whole, shortened
from gradconv.samplers.base import Batch, Sampler


@dataclass(frozen=True)
class CroppedSampler(Sampler):
    """Squares cut at random from the finest pairs of a sampler and resized to a level's mesh.

    Input and target are cut by the same square and resized alike. An input on a mesh coarser than
    its target's by a whole factor is cut along its own cells. Squares do not reach over the edge
    of the box. Resizing is linear along each axis, cell centres kept in place, and widened to the
    coarser cells where it shrinks (torch's ``bilinear`` with ``antialias``), by one rule for all
    sizes; a square that has the mesh's cells is taken as it is.

    Parameters
    ----------
    sampler : Sampler
        Gives pairs of tensors on the finest mesh; `hierarchy` is its own.
    area : tuple of float
        Least and greatest area (volume) of a square, of the whole box's, in (0, 1]; evenly
        distributed between. Sides are rounded to whole cells of the input, of which there is at
        least one.
    seed : int
        Of the squares: that of a sample depends on it and the sample's number only.

    Raises
    ------
    InputError
        If an argument breaks a rule above.
    """

    sampler: Sampler
    area: tuple[float, float]
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, Sampler):
            raise InputError(f"`sampler` must be a Sampler; got {shortened(self.sampler)}")
        check_crops("area", self.area)
        check_whole("seed", self.seed, 0, 2**62)
        object.__setattr__(self, "hierarchy", self.sampler.hierarchy)
        object.__setattr__(self, "available", self.sampler.available)
        object.__setattr__(self, "sequential", self.sampler.sequential)

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Cut from the finest pair and resize to each level; one square a number."""
        hierarchy = self.hierarchy
        ((x, y),) = self.sampler.draw(numbers, (len(hierarchy) - 1,))
        factor = self._factor(x, y, min(levels))
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in levels]
        for place, number in enumerate(numbers):
            start, side = self.square(number, factor)
            inputs = _cut(x[place : place + 1], [s // factor for s in start], side // factor)
            targets = _cut(y[place : place + 1], start, side)
            for pairs, level in zip(found, levels, strict=True):
                n = hierarchy.sizes[level]
                pairs.append((resized(inputs, n // factor), resized(targets, n)))
        return [
            (torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])) for pairs in found
        ]

    def square(self, number: int, factor: int = 1) -> tuple[tuple[int, ...], int]:
        """First cell along each axis and side of a sample's square, in cells of the finest mesh.

        Parameters
        ----------
        number : int
            Number of the sample.
        factor : int
            Cells of the finest mesh to one of the input, along an axis; it divides all results.
        """
        finest = self.hierarchy.finest
        cells = finest.n // factor
        generator = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
        length = cells * generator.uniform(*self.area) ** (1 / finest.dim)
        side = min(max(math.floor(length + 0.5), 1), cells)
        start = generator.integers(0, cells - side + 1, size=finest.dim)
        return tuple(factor * int(s) for s in start), factor * side

    def _factor(self, x: Any, y: Any, coarsest: int) -> int:
        """Cells of the target to one of the input, along an axis."""
        shape, sizes = self.hierarchy.finest.shape, self.hierarchy.sizes
        tensors = isinstance(x, Tensor) and isinstance(y, Tensor)
        cells = x.shape[-1] if tensors and x.ndim else 0
        factor = sizes[-1] // cells if cells else 1
        inner = tuple(n // factor for n in shape) if factor else ()
        if (
            not tensors
            or tuple(y.shape[2:]) != shape
            or tuple(x.shape[2:]) != inner
            or sizes[-1] % factor
            or sizes[coarsest] % factor
        ):
            raise InputError(
                "`sampler` must give tensors on the finest mesh to be cut, inputs on it or on one "
                f"coarser by a whole factor that divides {sizes[coarsest]}; got "
                f"{_shape(x)} and {_shape(y)}"
            )
        return int(factor)

    def describe(self) -> dict[str, Any]:
        """The sampler's choices and the areas."""
        return {**self.sampler.describe(), "crops": list(self.area)}

    @property
    def grid(self) -> str:
        """The sampler's grid."""
        return self.sampler.grid

    @property
    def bytes_per_path(self) -> int:
        """The sampler's estimate."""
        return self.sampler.bytes_per_path


def check_crops(argument: str, area: object) -> None:
    """Refuse what is no range of relative areas."""
    pair = isinstance(area, Sequence) and not isinstance(area, str) and len(area) == 2
    real = pair and all(isinstance(a, (int, float)) and not isinstance(a, bool) for a in area)  # type: ignore[attr-defined]
    if not real or not 0 < area[0] <= area[1] <= 1:  # type: ignore[index]
        raise InputError(
            f"`{argument}` must be two relative areas in (0, 1] that do not fall; got "
            f"{shortened(area)}"
        )


def resized(x: Tensor, n: int) -> Tensor:
    """Resize a field to n cells an axis.

    Parameters
    ----------
    x : Tensor
        Shape ``(B, C, *m)``, 1 to 3 axes of space.
    n : int
        Cells.

    Returns
    -------
    Tensor
        Shape ``(B, C, n, …, n)``.
    """
    if x.shape[-1] == n:
        return x
    if x.ndim == 4:
        return interpolate(x, (n, n), mode="bilinear", antialias=True, align_corners=False)
    # it is a map along each axis in turn; torch has the antialiased one for two axes only
    for axis in range(2, x.ndim):
        lines = x.movedim(axis, -1)
        flat = lines.reshape(1, 1, -1, lines.shape[-1])
        size = (flat.shape[2], n)
        flat = interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False)
        x = flat.reshape(*lines.shape[:-1], n).movedim(-1, axis)
    return x


def _cut(x: Tensor, start: Sequence[int], side: int) -> Tensor:
    inside: tuple[Any, ...] = (..., *(slice(s, s + side) for s in start))
    return x[inside]


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else shortened(value)
