"""Square tiles of photographs: random ones by number for training, a fixed grid for scores."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch

from gradconv.errors import InputError, check_whole, shortened
from gradconv.images.base import Photographs

_BLOCK = 256  # numbers whose words are made at once; the words do not depend on it
_TOP = np.float32(255)


class Tiles:
    """Square tiles of photographs.

    Parameters
    ----------
    photographs : Photographs
        Of one split.
    size : int
        Pixels an axis; no photograph may be smaller.
    seed : int
        Which random tiles; not negative.
    augment : bool
        Whether tiles are flipped and turned by quarter turns, all eight ways equally often.

    Raises
    ------
    InputError
        If an argument breaks a rule; a photograph that is too small is named.
    """

    def __init__(
        self, photographs: Photographs, size: int, *, seed: int = 0, augment: bool = True
    ) -> None:
        if not len(photographs):
            raise InputError("`photographs` must hold one at least; got none")
        self.photographs = photographs
        self.size = check_whole("size", size, 1)
        self.seed = check_whole("seed", seed, 0, 2**64 - 1)
        self.augment = augment
        sides = photographs.sizes.min(axis=1)
        if sides.min() < self.size:
            small = int(sides.argmin())
            rows, columns = photographs.sizes[small]
            raise InputError(
                f"`size` must not exceed a photograph's shorter side; {photographs.title(small)} "
                f"of `data` {photographs.name} ({photographs.split}) has {rows} × {columns} "
                f"pixels; got {size}"
            )
        self._grids: np.ndarray = photographs.sizes // self.size
        self._ends = list(accumulate(self._grids.prod(axis=1).tolist()))
        self._places = (photographs.sizes - self.size + 1).tolist()

    def __len__(self) -> int:
        """Disjoint tiles there are."""
        return self._ends[-1]

    @property
    def channels(self) -> int:
        """Channels of a tile."""
        return self.photographs.channels

    def __call__(self, number: int) -> torch.Tensor:
        """Tile of a number: it depends on seed and number only.

        A photograph is chosen in proportion to its disjoint tiles, and a place in it uniformly.

        Parameters
        ----------
        number : int
            Not negative.

        Returns
        -------
        Tensor
            Shape ``(C, size, size)``, float32 in [0, 1].
        """
        if number < 0:
            raise InputError(f"`number` must not be negative; got {number}")
        block, place = divmod(int(number), _BLOCK)
        which, down, right, way = _words(self.seed, block)[place]
        # a word times a whole number, over 2**64, is uniform below that number
        photograph = bisect_right(self._ends, which * len(self) >> 64)
        rows, columns = self._places[photograph]
        tile = self._cut(photograph, down * rows >> 64, right * columns >> 64)
        return _scaled(_turned(tile, way >> 61) if self.augment else tile)

    def fixed(self, most: int | None = None) -> torch.Tensor:
        """Disjoint tiles, spread evenly over the photographs; the seed plays no part.

        Parameters
        ----------
        most : int, optional
            Tiles at most; all of them if None.

        Returns
        -------
        Tensor
            Shape ``(N, C, size, size)``, float32 in [0, 1], photograph by photograph.
        """
        if most is not None and (isinstance(most, bool) or most < 1):
            raise InputError(f"`most` must be at least 1; got {shortened(most)}")
        total = len(self)
        wanted = total if most is None else min(int(most), total)
        made = torch.empty(wanted, self.channels, self.size, self.size)
        done = before = 0
        for photograph, end in enumerate(self._ends):
            share = end * wanted // total - done  # so that the shares add up to `wanted`
            for place in _spread(end - before, share):
                row, column = divmod(place, int(self._grids[photograph, 1]))
                corner = self._margin(photograph)
                tile = self._cut(
                    photograph, corner[0] + row * self.size, corner[1] + column * self.size
                )
                made[done] = _scaled(tile)
                done += 1
            before = end
        return made

    def _cut(self, photograph: int, row: int, column: int) -> np.ndarray:
        image = self.photographs[photograph]
        return image[:, row : row + self.size, column : column + self.size]

    def _margin(self, photograph: int) -> tuple[int, int]:
        """Rows and columns before the grid, which is centred."""
        over = self.photographs.sizes[photograph] % self.size // 2
        return int(over[0]), int(over[1])


def _spread(there: int, wanted: int) -> list[int]:
    """Some of a photograph's tiles, in a fixed random order: a stride could follow its columns."""
    if wanted in (0, there):
        return list(range(wanted))
    chosen = np.random.Generator(np.random.Philox(key=there)).permutation(there)[:wanted]
    return sorted(chosen.tolist())


@lru_cache(maxsize=64)
def _words(seed: int, block: int) -> list[list[int]]:
    """Four words of 64 bits a number: what Philox, keyed by the seed, makes of that counter."""
    stream = np.random.Philox(key=seed, counter=block * _BLOCK)
    words = stream.random_raw(4 * _BLOCK)
    return np.asarray(words).reshape(_BLOCK, 4).tolist()


def _turned(tile: np.ndarray, way: int) -> np.ndarray:
    """One of the eight flips and quarter turns of a square, as a view."""
    if way & 1:
        tile = tile.swapaxes(1, 2)
    if way & 2:
        tile = tile[:, ::-1]
    if way & 4:
        tile = tile[:, :, ::-1]
    return tile


def _scaled(tile: np.ndarray) -> torch.Tensor:
    made = np.empty(tile.shape, np.float32)
    if tile.dtype == np.uint8:
        np.divide(tile, _TOP, out=made)
    else:
        np.copyto(made, tile)
    return torch.from_numpy(made)
