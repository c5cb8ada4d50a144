"""CIFAR-10 in both of its original layouts: Python batches and binary ones.

References
----------
Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, University of
Toronto, 2009. Layouts: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gradconv.errors import InputError
from gradconv.images.arrays import StackPhotographs, held_back
from gradconv.images.base import IMAGES, ImageSource, Photographs, fingerprint_files
from gradconv.images.originals import map_bytes, missing

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = ("test_batch",)
IN_BATCH = 10_000
PIXELS = 3 * 32 * 32
_LABELS = 10
_LARGEST = 64 * 2**20  # bytes; a batch has 31 million


@IMAGES.register("cifar10")
@dataclass(frozen=True)
class Cifar10(ImageSource):
    """Colour images of 32 × 32: 45 000 to train, each tenth of the training images to validate.

    Parameters
    ----------
    path : str
        ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, or the folder that one of them is in.
    """

    path: str

    def _opened(self, split: str, channels: int) -> Photographs:
        stacks = []
        for file in self._files(TEST if split == "test" else TRAIN):
            pixels = self._read(file).reshape(-1, 3, 32, 32)
            chosen = np.arange(len(pixels)) if split == "test" else held_back(len(pixels), split)
            stacks.append((file.name, pixels, chosen))
        return StackPhotographs(self.spec, split, stacks, channels)

    def fingerprint(self) -> str:
        """SHA-256 over name, size and both ends of the batches."""
        files = self._files(TRAIN + TEST)
        return fingerprint_files(files[0].parent, files)

    def _files(self, names: tuple[str, ...]) -> list[Path]:
        root = Path(self.path)
        for folder in (root, root / "cifar-10-batches-py", root / "cifar-10-batches-bin"):
            for suffix in ("", ".bin"):
                files = [folder / f"{name}{suffix}" for name in names]
                if all(file.is_file() for file in files):
                    return files
        needs = (
            "data_batch_1 to data_batch_5 and test_batch of cifar-10-batches-py, or the same with "
            ".bin of cifar-10-batches-bin"
        )
        raise missing("cifar10", needs, PAGE, root)

    def _read(self, file: Path) -> np.ndarray:
        """Pixels of a batch, shape ``(10000, 3072)``."""
        if file.suffix != ".bin":
            return _read_python(file)
        records = map_bytes("cifar10", file, 1 + PIXELS, IN_BATCH)
        if records[:, 0].max() >= _LABELS:
            raise _refused(file, f"label {records[:, 0].max()}")
        return records[:, 1:]


def _read_python(file: Path) -> np.ndarray:
    if file.stat().st_size > _LARGEST:
        raise _refused(file, f"{file.stat().st_size} bytes")
    try:
        content = _BatchUnpickler(io.BytesIO(file.read_bytes())).load()
        array, labels = content[b"data"], content[b"labels"]
        shape, pixels = array.shape, np.frombuffer(array.content, np.uint8)
        sound = shape == (IN_BATCH, PIXELS) and pixels.size == IN_BATCH * PIXELS
        sound = sound and len(labels) == IN_BATCH and set(labels) <= set(range(_LABELS))
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _refused(file, f"{type(error).__name__}: {error}"[:160]) from None
    if not sound:
        raise _refused(file, f"shape {shape}, {pixels.size} bytes, {len(labels)} labels")
    return pixels.reshape(shape, order=array.order)


def _refused(file: Path, got: str) -> InputError:
    return InputError(
        f"`data` cifar10: {file} must be an original batch of {IN_BATCH} images with labels 0 to "
        f"{_LABELS - 1} ({PAGE}); got {got}"
    )


class _Type:
    """Stands for the type of an array's values; holds nothing but its name."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"values of type {name!r}")

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and the like: a byte has none


class _Array:
    """Stands for an array: holds its shape, order and bytes, and runs no code of numpy's."""

    shape: Any = None
    content: Any = b""
    order: Any = "C"

    def __setstate__(self, state: Any) -> None:
        _, self.shape, kind, columns_first, self.content = state
        self.order = "F" if columns_first else "C"
        if not isinstance(kind, _Type) or not isinstance(self.content, bytes):
            raise pickle.UnpicklingError("an array of something else than bytes")


def _made(kind: Any, *_: Any) -> _Array:
    if kind is not _Array:
        raise pickle.UnpicklingError("an array of another kind")
    return _Array()


class _BatchUnpickler(pickle.Unpickler):
    """Reads what the batches hold, a dictionary with one array of bytes, and nothing else.

    A pickle can name any callable to be run; here three names are known, and what they stand for
    only keeps what it is given.
    """

    known: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy.core.multiarray", "_reconstruct"): _made,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
    }

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="bytes")  # the batches were written by Python 2

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"the file names {module}.{name}, which no batch does")
        return self.known[module, name]
