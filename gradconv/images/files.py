"""Photographs that lie in files: checked when opened, decoded when asked for."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from gradconv.errors import InputError
from gradconv.fields.photograph import LARGEST_IMAGE, _read_image, _scaled, _silent_decoders
from gradconv.images.base import Photographs, with_channels

CACHE = 512 * 2**20  # bytes of decoded images kept by one split
GREY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TAIL = 64  # bytes in which a whole file shows its end
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
# One image at a time: silencing decoders turns the process's standard error off and on again.
_DECODING = Lock()


class FilePhotographs(Photographs):
    """Images decoded when they are asked for; those used last are kept up to a number of bytes.

    Parameters
    ----------
    name, split : str
        Source and split.
    root : Path
        Folder that titles are relative to.
    files : sequence of (Path, tuple of int)
        File and (rows, columns), already checked.
    channels : {1, 3}
        Colour images are reduced to luma if 1.
    cache : int
        Bytes of decoded images to keep.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        files: Sequence[tuple[Path, tuple[int, int]]],
        channels: int,
        cache: int = CACHE,
    ) -> None:
        self.name, self.split, self.channels = name, split, channels
        self.sizes = np.array([size for _, size in files], dtype=int).reshape(-1, 2)
        self.cache = cache
        self._root = root
        self._files = [path for path, _ in files]
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self.kept_bytes = 0

    def __getitem__(self, index: int) -> np.ndarray:
        index = range(len(self))[index]
        with _DECODING:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            image = self._decoded(index)
            self._kept[index] = image
            self.kept_bytes += image.nbytes
            while self.kept_bytes > self.cache:
                self.kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return image

    def title(self, index: int) -> str:
        """Name of the file in its folder."""
        return self._files[index].relative_to(self._root).as_posix()

    def _decoded(self, index: int) -> np.ndarray:
        path = self._files[index]
        image = decode(path, self.name)
        if image.shape[1:] != tuple(self.sizes[index]):
            raise InputError(
                f"`data` {self.name}: {path} has changed since it was checked: "
                f"{tuple(self.sizes[index])} pixels then, {image.shape[1:]} now"
            )
        return with_channels(image, self.channels)


def decode(path: Path, source: str) -> np.ndarray:
    """Image of a file, shape ``(C, rows, columns)``: uint8, or float32 in [0, 1] of deeper ones.

    Raises
    ------
    InputError
        If it cannot be read whole; the file is named.
    """
    try:
        values = _read_image(path)
        if values.dtype != np.uint8:
            deep = np.clip(_scaled(values, str(path)), 0, 1)
            return np.ascontiguousarray(deep, dtype=np.float32)
        return values[None] if values.ndim == 2 else np.ascontiguousarray(np.moveaxis(values, 2, 0))
    except Exception as error:  # image decoders raise many kinds; all mean the same to the user
        raise unreadable(path, source, error) from None


def check_header(path: Path, source: str) -> tuple[tuple[int, int], bool]:
    """Check an image file without decoding it, and say its size and whether it has colour.

    The header must be sound and the file must end as whole files of its format do; one that ends
    in another way is decoded to find out.

    Returns
    -------
    tuple
        (rows, columns), and true if it has colour.

    Raises
    ------
    InputError
        If the file is missing, damaged, truncated or too large; it is named.
    """
    try:
        size, mode, layout = _header(path)
        if size[0] * size[1] * 3 > LARGEST_IMAGE:
            raise ValueError(f"{size[0]} × {size[1]} pixels are more than an image may have")
        if not _ends_well(path, layout):
            _read_image(path)
    except Exception as error:  # as above
        raise unreadable(path, source, error) from None
    return size, mode not in GREY_MODES


def unreadable(path: Path, source: str, error: Exception) -> InputError:
    """Error for a file that is no sound image."""
    first = (str(error).splitlines() or [""])[0][:120]
    return InputError(
        f"`data` {source}: every file must be a whole, readable image; got {path} "
        f"({type(error).__name__}: {first})"
    )


def _header(path: Path) -> tuple[tuple[int, int], str, Any]:
    from PIL import Image

    with warnings.catch_warnings(), _DECODING:
        warnings.simplefilter("ignore")
        with _silent_decoders(), Image.open(path) as image:
            return (image.height, image.width), image.mode, image.format


def _ends_well(path: Path, layout: str) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if layout == "WEBP":
            file.seek(4)
            return size >= int.from_bytes(file.read(4), "little") + 8
        file.seek(max(0, size - _TAIL))
        return layout in _ENDS and _ENDS[layout] in file.read()
