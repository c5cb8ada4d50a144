"""What a source of images states and does, and the rule that splits photographs by name."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.registry import Choice, Registry

SPLITS = ("train", "validation", "test")
CHANNELS = (1, 3)
_BOUNDS = (0.8, 0.9)  # of the hash: 80 % train, 10 % validation, 10 % test
_ENDS = 4096  # bytes of each end of a file that enter its fingerprint


class Photographs(ABC):
    """A sequence of images of one split.

    Attributes
    ----------
    name : str
        Canonical text of the source.
    split : {"train", "validation", "test"}
        Which photographs.
    channels : {1, 3}
        Luma, or red, green and blue.
    sizes : ndarray
        Rows and columns of every image, shape ``(N, 2)``.
    """

    name: str
    split: str
    channels: int
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray:
        """Image of shape ``(channels, rows, columns)``: uint8, or float32 in [0, 1]."""

    def title(self, index: int) -> str:
        """Name of one photograph, unlike that of any other in the source."""
        return f"image {index}"


class ImageSource(Choice, ABC):
    """Where images come from: a frozen dataclass, made without a look at the disk."""

    def open(self, split: str, channels: int) -> Photographs:
        """Photographs of a split, after every check that can be made before training.

        Parameters
        ----------
        split : {"train", "validation", "test"}
            Which photographs; no photograph is in two of them.
        channels : {1, 3}
            1: luma (ITU-R BT.601) of colour images, and grey ones; 3: colour images only.

        Returns
        -------
        Photographs
            At least one.

        Raises
        ------
        InputError
            If an argument breaks a rule, or data are missing, truncated or of another format: the
            file is named.
        """
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if channels not in CHANNELS:
            raise InputError(
                f"`channels` must be 1 (luma) or 3 (colour); got {shortened(channels)}"
            )
        found = self._opened(split, channels)
        self.require(
            len(found) > 0,
            f"the {split} split must hold an image"
            + (" in colour, since `channels` is 3" if channels == 3 else ""),
        )
        return found

    @abstractmethod
    def _opened(self, split: str, channels: int) -> Photographs:
        """Check and open; `split` and `channels` are sound."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 that changes with the data and not with the place they lie in.

        Of a file that is not described by checksums it covers the name, the size and both ends.
        """


IMAGES: Registry[ImageSource] = Registry("data")


def luma(colour: np.ndarray) -> np.ndarray:
    """Luma of an image, rounded to 8 bits if the image has 8.

    Parameters
    ----------
    colour : ndarray
        Shape ``(3, rows, columns)``, uint8 or float32 in [0, 1].

    Returns
    -------
    ndarray
        Shape ``(1, rows, columns)``, of the same type.

    References
    ----------
    ITU-R, Recommendation BT.601-7, 2011, section 2.5.1: Y = 0.299 R + 0.587 G + 0.114 B.
    """
    red, green, blue = colour.astype(np.float32)
    made = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    if colour.dtype == np.uint8:
        return np.rint(made).astype(np.uint8)[None]
    return np.minimum(made, np.float32(1))[None]


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Reduce a colour image to luma if it is to have one channel."""
    return luma(image) if channels == 1 and image.shape[0] == 3 else image


def split_by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """Split photographs by a hash of their names.

    A name is in the same split whatever others there are, so that new files move no old one from
    training to testing. The one exception: a split that would be empty takes the name whose hash
    is nearest.

    Parameters
    ----------
    names : sequence of str
        Three different names at least.

    Returns
    -------
    dict
        Names of each split in the order given.
    """
    places = {name: _place(name) for name in names}
    found: dict[str, set[str]] = {
        "train": {n for n in names if places[n] < _BOUNDS[0]},
        "validation": {n for n in names if _BOUNDS[0] <= places[n] < _BOUNDS[1]},
        "test": {n for n in names if places[n] >= _BOUNDS[1]},
    }
    middles = {"train": 0.4, "validation": 0.85, "test": 0.95}
    for split in ("test", "validation", "train"):
        if not found[split]:
            rich = [n for other in SPLITS if len(found[other]) > 1 for n in found[other]]
            nearest = min(rich, key=lambda n: (abs(places[n] - middles[split]), n))
            for members in found.values():
                members.discard(nearest)
            found[split] = {nearest}
    return {split: [n for n in names if n in found[split]] for split in SPLITS}


def _place(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def fingerprint_files(root: Path, files: Sequence[Path]) -> str:
    """SHA-256 over name, size and both ends of files, cheap enough for a hundred thousand."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(_ENDS)
            file.seek(max(0, size - _ENDS))
            tail = file.read(_ENDS)
        name = path.relative_to(root).as_posix()
        digest.update(f"{len(name)}:{name}:{size}:".encode())
        digest.update(hashlib.sha256(head + tail).digest())
    return digest.hexdigest()
