"""Result folders: atomic writes, partial results, and the guard against mixed configurations."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gradconv.errors import InputError, StorageError, shortened

CONFIGURATION = "configuration.json"
PARTS = "parts"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file so that at every moment the old or the new one is there, whole.

    Parameters
    ----------
    path : Path
        Final place.
    write : callable
        Writes the content to the path that it is given, which has the same suffix.

    Raises
    ------
    StorageError
        If there is no space or no permission; nothing is left behind.
    """
    handle, name = -1, ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        write(Path(name))
        os.chmod(name, 0o644)
        with open(name, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(name, path)
    except BaseException as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _storage_error(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write_atomically(path, lambda p: _spill(p, text.encode()))


def _spill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _storage_error(path: Path, error: OSError) -> StorageError:
    reasons = {
        errno.ENOSPC: "no space is left on the device",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than allowed",
        errno.EACCES: "permission is denied",
        errno.EROFS: "the file system is read-only",
        errno.ENOTDIR: "a part of the path is not a folder",
        errno.EEXIST: "a part of the path is not a folder",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return StorageError(
        f"`output` must be writable: {reason} at {path}; "
        "what was complete is kept, and the same command goes on from there"
    )


class ResultFolder:
    """A folder that holds the results of one configuration.

    Parameters
    ----------
    path : Path
        The folder; made when the first result is written.
    configuration : dict
        What the results are of, JSON values only.

    Raises
    ------
    InputError
        If the folder holds results of another configuration, or is a file.
    """

    def __init__(self, path: Path, configuration: dict[str, Any]) -> None:
        self.path = path
        self._text = json.dumps(configuration, indent=2, sort_keys=True) + "\n"
        marker = path / CONFIGURATION
        try:
            if path.exists() and not path.is_dir():
                raise InputError(f"`output` must be a folder; got the file {path}")
            if not marker.exists():
                return
        except OSError as error:
            raise InputError(
                f"`output` must be a folder that can be opened; got {shortened(str(path))} "
                f"({error.strerror})"
            ) from None
        try:
            there = json.loads(marker.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"`output` must hold a readable {CONFIGURATION} or none; got {marker} ({error})"
            ) from None
        if there != json.loads(self._text):
            names = sorted(
                k
                for k in {*configuration, *there}
                if not isinstance(there, dict) or there.get(k) != json.loads(self._text).get(k)
            )
            raise InputError(
                f"`output` must be empty or of the same configuration; got {path}, "
                f"which differs in {', '.join(names)}"
            )

    def open(self) -> None:
        """Write the configuration; from now on the folder belongs to it."""
        write_text(self.path / CONFIGURATION, self._text)
        for stale in (*self.path.glob(".*-*"), *(self.path / PARTS).glob(".*-*")):
            if stale.is_file():  # temporary files of a killed run
                stale.unlink(missing_ok=True)

    def load_part(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Gradients of the replicates already done, shape ``(done, *shape)``, or None.

        Parameters
        ----------
        key : str
            Name of the part.
        shape : tuple of int
            Expected shape of one replicate.
        """
        path = self.path / PARTS / f"{key}.npy"
        if not path.exists():
            return None
        try:
            part = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None  # damaged from outside: computed again
        return part if part.shape[1:] == shape and part.dtype == np.float64 else None

    def save_part(self, key: str, part: np.ndarray) -> None:
        """Store the gradients of the first replicates atomically."""

        def save(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, part)

        write_atomically(self.path / PARTS / f"{key}.npy", save)
