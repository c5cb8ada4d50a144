"""Result folders: atomic writes, partial results, and the guard against mixed configurations."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.errors import InputError, StorageError, shortened
from gradconv.figures import KINDS, SCREEN, Style, figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIGURATION = "configuration.json"
PARTS = "parts"
RESULTS = ("rates.json", "table.md", "sweep.nc", *(f"figure.{kind}" for kind in KINDS))
TEMPORARY = ".gradconv-"  # prefix of files being written
DIGEST = 32  # bytes of SHA-256 behind the array of a part


def write_figure(stem: Path, figure: Figure, style: Style = SCREEN) -> list[Path]:
    """Write a figure as ``STEM.pdf``, ``STEM.svg`` and ``STEM.png``.

    Parameters
    ----------
    stem : Path
        Folder and name, without an ending.
    figure : matplotlib.figure.Figure
        The figure.
    style : Style
        That which it was made in.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    StorageError
        If one cannot be written.
    """
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in KINDS]
    for path, kind in zip(paths, KINDS, strict=True):
        write_atomically(path, figure_bytes(figure, kind, style))
    return paths


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment the old or the new one is there, whole.

    Parameters
    ----------
    path : Path
        Where to; folders are made.
    content : bytes
        All of it: formats that write in many steps do so in memory, where no disk can fill up.

    Raises
    ------
    StorageError
        If there is no space or no permission; nothing is left behind.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _storage_error(path, error) from error
        raise


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
                self._refuse_orphans()
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
        here = json.loads(self._text)
        if there != here:
            found = there if isinstance(there, dict) else {}
            names = sorted(k for k in {*here, *found} if found.get(k) != here.get(k))
            raise InputError(
                f"`output` must be empty or of the same configuration; got {path}, "
                f"which differs in {', '.join(names)}"
            )

    def _refuse_orphans(self) -> None:
        orphans = [name for name in (PARTS, *RESULTS) if (self.path / name).exists()]
        if orphans:
            raise InputError(
                f"`output` must be empty or of the same configuration; got {self.path}, "
                f"which holds {', '.join(orphans)} without a {CONFIGURATION}"
            )

    def open(self) -> None:
        """Write the configuration; from now on the folder belongs to it."""
        write_atomically(self.path / CONFIGURATION, self._text.encode())
        for folder in (self.path, self.path / PARTS):
            for stale in folder.glob(f"{TEMPORARY}*"):  # left by a killed run
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
        try:
            content = (self.path / PARTS / f"{key}.npy").read_bytes()
        except OSError:
            return None
        array, digest = content[:-DIGEST], content[-DIGEST:]
        if hashlib.sha256(array).digest() != digest:
            return None  # damaged from outside: computed again
        part: np.ndarray = np.load(io.BytesIO(array), allow_pickle=False)
        return part if part.shape[1:] == shape else None

    def save_part(self, key: str, part: np.ndarray) -> None:
        """Store the gradients of the first replicates atomically."""
        stream = io.BytesIO()
        np.save(stream, part)
        array = stream.getvalue()
        digest = hashlib.sha256(array).digest()
        write_atomically(self.path / PARTS / f"{key}.npy", array + digest)
