"""Photographs that lie in arrays: in memory, or mapped from a file of equal images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradconv.images.base import Photographs, with_channels


class ArrayPhotographs(Photographs):
    """Images of different sizes, all in memory.

    Parameters
    ----------
    name, split : str
        Source and split.
    images : dict of str to ndarray
        Title and image, shape ``(C, rows, columns)``, uint8 or float32 in [0, 1].
    channels : {1, 3}
        Colour images are reduced to luma if 1.
    """

    def __init__(self, name: str, split: str, images: dict[str, np.ndarray], channels: int) -> None:
        self.name, self.split, self.channels = name, split, channels
        self.titles = list(images)
        self._images = [with_channels(image, channels) for image in images.values()]
        self.sizes = np.array([i.shape[1:] for i in self._images], dtype=int).reshape(-1, 2)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[index]

    def title(self, index: int) -> str:
        """Title given."""
        return self.titles[index]


class StackPhotographs(Photographs):
    """Colour images of one size, in a few arrays that may be mapped from files.

    Parameters
    ----------
    name, split : str
        Source and split.
    stacks : sequence of (str, ndarray, ndarray)
        Title, array of shape ``(N, 3, rows, columns)`` and uint8, and the indices that belong to
        the split.
    channels : {1, 3}
        Images are reduced to luma as they are asked for if 1.
    """

    def __init__(
        self,
        name: str,
        split: str,
        stacks: Sequence[tuple[str, np.ndarray, np.ndarray]],
        channels: int,
    ) -> None:
        self.name, self.split, self.channels = name, split, channels
        self._stacks = stacks
        self._ends = np.cumsum([len(indices) for _, _, indices in stacks])
        shape = stacks[0][1].shape[2:]
        self.sizes = np.broadcast_to(np.array(shape, dtype=int), (int(self._ends[-1]), 2))

    def __getitem__(self, index: int) -> np.ndarray:
        _, images, place = self._find(index)
        return with_channels(np.asarray(images[place]), self.channels)

    def title(self, index: int) -> str:
        """File and index in it."""
        title, _, place = self._find(index)
        return f"{title}[{place}]"

    def _find(self, index: int) -> tuple[str, np.ndarray, int]:
        index = range(len(self))[index]
        which = int(np.searchsorted(self._ends, index, side="right"))
        title, images, indices = self._stacks[which]
        before = int(self._ends[which - 1]) if which else 0
        return title, images, int(indices[index - before])


def held_back(count: int, split: str) -> np.ndarray:
    """Indices of the training images (nine of ten) or of those kept for validation (each tenth)."""
    indices = np.arange(count)
    return indices[(indices % 10 == 9) == (split == "validation")]
