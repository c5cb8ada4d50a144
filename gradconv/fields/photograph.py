"""Photographs as signals: the embedded ones, and any image file, folder or ``.npy`` array.

An image fills the unit box: its largest centred square is averaged by the largest whole factor
that leaves at least the finest mesh, and what is over is cut off evenly. There is no signal finer
than the image, so that a photograph has a coarsening setting only.
"""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from gradconv.errors import InputError, unknown_name
from gradconv.fields.signal import SIGNALS, Signal
from gradconv.fields.streams import SamplePath
from gradconv.mesh import Mesh
from gradconv.registry import LARGEST

EMBEDDED = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm", ".pgm")
LARGEST_IMAGE = 2**28  # values; beyond this an image does not fit the default memory bound
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


class ImageSignal(Signal):
    """A signal read from arrays in [0, 1], shape ``(channels, rows, columns)``."""

    refinable: ClassVar[bool] = False

    @abstractmethod
    def images(self) -> tuple[np.ndarray, ...]:
        """Return the arrays, read once."""

    @property
    def members(self) -> int:
        """Number of images."""
        return len(self.images())

    def check(self, mesh: Mesh, channels: int) -> None:
        """Refuse meshes finer than the image, other dimensions and absent channels."""
        for image in self.images():
            dim = image.ndim - 1
            if dim != mesh.dim:
                raise InputError(
                    f"`signal` {self.spec} has dimension {dim}, so `dim` must be {dim}; "
                    f"got {mesh.dim}"
                )
            if channels > 1 and image.shape[0] != channels:
                raise InputError(
                    f"`channels` must be 1 or {image.shape[0]} for `signal` {self.spec}; "
                    f"got {channels}"
                )
            side = min(image.shape[1:])
            if side < mesh.n:
                raise InputError(
                    f"`levels` must not be finer than the image: {self.spec} has "
                    f"{side} cells on its shorter side; got n={mesh.n}"
                )

    def draw(self, mesh: Mesh, grid: str, channels: int, path: SamplePath) -> np.ndarray:
        """Cut and average the image of this replicate to the mesh."""
        image = self.images()[path.replicate % self.members]
        if channels == 1 and image.shape[0] == 3:
            image = np.tensordot(_LUMA, image, axes=1)[None]
        elif channels == 1:
            image = image[:1]
        side = min(image.shape[1:])
        factor = side // mesh.n
        kept = factor * mesh.n
        for axis in range(1, image.ndim):
            start = (image.shape[axis] - kept) // 2
            image = np.take(image, range(start, start + kept), axis=axis)
        for axis in range(1, image.ndim):
            shape = (*image.shape[:axis], mesh.n, factor, *image.shape[axis + 1 :])
            image = image.reshape(shape).mean(axis=axis + 1)
        return np.ascontiguousarray(image)


@SIGNALS.register("photograph")
@dataclass(frozen=True)
class Photograph(ImageSignal):
    """One of the photographs that come with scikit-image (CC0 or public domain), values in [0, 1].

    Parameters
    ----------
    title : str
        astronaut, brick, camera, chelsea, coffee, grass, gravel or rocket.
    """

    title: str = "astronaut"

    def __post_init__(self) -> None:
        if self.title not in EMBEDDED:
            raise unknown_name("signal photograph", self.title, EMBEDDED)

    def images(self) -> tuple[np.ndarray, ...]:
        """Return the one photograph."""
        return _embedded(self.title)


@SIGNALS.register("image")
@dataclass(frozen=True)
class ImageFile(ImageSignal):
    """An image file, a folder of images, or a ``.npy`` array.

    Replicates go through the images of a folder in turn, in order of name.

    Parameters
    ----------
    path : str
        File or folder. Integer images are scaled to [0, 1]; ``.npy`` arrays of floating-point
        numbers are taken as they are, ``(n, …)`` or ``(channels, n, …)``; a three-dimensional array
        with at most 4 entries on its first axis counts as channels.
    """

    path: str

    def images(self) -> tuple[np.ndarray, ...]:
        """Return the images, read once for each state of the files."""
        files = _files(Path(self.path))
        return _read_all(tuple((str(f), f.stat().st_mtime_ns) for f in files))

    def fingerprint(self) -> str:
        """SHA-256 over the images, so that a run cannot go on with other ones."""
        digest = hashlib.sha256()
        for image in self.images():
            digest.update(repr(image.shape).encode())
            digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()


@lru_cache(maxsize=4)
def _embedded(title: str) -> tuple[np.ndarray, ...]:
    from skimage import data

    return (_scaled(np.asarray(getattr(data, title)()), f"photograph:{title}"),)


@lru_cache(maxsize=4)
def _read_all(files: tuple[tuple[str, int], ...]) -> tuple[np.ndarray, ...]:
    return tuple(_read(Path(name)) for name, _ in files)


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            found = sorted(
                p for p in path.iterdir() if p.suffix.lower() in (*IMAGE_SUFFIXES, ".npy")
            )
            if not found:
                raise InputError(
                    f"`signal` image: the folder must hold images "
                    f"({' '.join(IMAGE_SUFFIXES)} .npy); got {path}"
                )
            return found
        if not path.is_file():
            raise InputError(f"`signal` image: the file must exist; got {path}")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"`signal` image: the path must be readable; got {path} ({error})"
        ) from None
    return [path]


def _read(path: Path) -> np.ndarray:
    try:
        values = _read_array(path) if path.suffix.lower() == ".npy" else _read_image(path)
    except InputError:
        raise
    except Exception as error:  # image decoders raise many kinds; all mean the same to the user
        first = (str(error).splitlines() or [""])[0][:120]
        raise InputError(
            f"`signal` image: the file must be a readable image or .npy array; got {path} "
            f"({type(error).__name__}: {first})"
        ) from None
    return _scaled(values, str(path))


def _read_array(path: Path) -> np.ndarray:
    from numpy.lib import format as layout

    with path.open("rb") as file:  # the header first: a huge array is refused unread
        version = layout.read_magic(file)
        read_header = (
            layout.read_array_header_1_0 if version == (1, 0) else (layout.read_array_header_2_0)
        )
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            raise InputError(f"`signal` image: values must be real numbers; got objects in {path}")
        _check_size(shape, path)
        file.seek(0)
        values = np.load(file, allow_pickle=False)
    if values.ndim == 4 or (values.ndim == 3 and values.shape[0] <= 4):
        return np.moveaxis(values, 0, -1)  # channels last, as image readers give
    return values[..., None] if values.ndim == 3 else values


@contextmanager
def _silent_decoders() -> Iterator[None]:
    """Keep C libraries from writing to standard error; what they find is raised all the same."""
    keep, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(keep, 2)
        os.close(keep)
        os.close(nowhere)


def _read_image(path: Path) -> np.ndarray:
    import warnings

    from PIL import Image

    with warnings.catch_warnings():
        # the decompression-bomb warning becomes an error: a huge file is refused unread
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _silent_decoders(), Image.open(path) as image:
            _check_size((image.height, image.width, len(image.getbands())), path)
            image.load()
            plain = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "LA": "L", "1": "L"}
            plain |= dict.fromkeys(("CMYK", "YCbCr", "HSV", "LAB"), "RGB")
            target = plain.get(image.mode)
            return np.asarray(image.convert(target) if target else image)


def _check_size(shape: tuple[int, ...], path: Path) -> None:
    size = int(np.prod(shape, dtype=float))
    if size > LARGEST_IMAGE:
        raise InputError(
            f"`signal` image: an image may hold {LARGEST_IMAGE} values at most; "
            f"got {size} in {path}"
        )


def _scaled(values: np.ndarray, source: str) -> np.ndarray:
    """Channels first, in [0, 1] if the values are integers."""
    if values.dtype.kind not in "buif":
        raise InputError(
            f"`signal` image: values must be real numbers; got {values.dtype} in {source}"
        )
    if values.ndim not in (1, 2, 3, 4) or 0 in values.shape:
        raise InputError(
            f"`signal` image: the array must have 1, 2 or 3 axes and a channel axis at most; "
            f"got shape {values.shape} in {source}"
        )
    top = 1.0
    if values.dtype.kind in "ui":
        top = float(np.iinfo(values.dtype).max)
        if values.dtype.itemsize > 2:  # 32-bit integer modes of image files hold 16-bit data
            top = 65535.0
    with np.errstate(over="ignore", invalid="ignore"):
        values = values.astype(float) / top
    if not np.all(np.abs(values) <= LARGEST):  # false for NaN
        raise InputError(
            f"`signal` image: values must be finite and at most {LARGEST:g} in size; got NaN, "
            f"infinity or larger ones in {source}"
        )
    if values.ndim <= 2:
        return values[None]
    return np.moveaxis(values, -1, 0)
