"""Results kept on disk under what they depend on: their description, and the package's source."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from gradconv.errors import StorageError
from gradconv.provenance import source_digest, versions
from gradconv.store import write_atomically

# What no result of the atlas follows from: what stands above it or beside it, texts and figures.
WITHOUT = (
    "cli.py",
    "testing",
    "studies",
    "claims",
    "audit",
    "train",
    "multilevel",
    "nn",
    "samplers",
    "images",
    "terminal.py",
    *(f"atlas/{name}.py" for name in ("present", "figures", "command", "cache")),
)


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, as hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=1)
def source_of_results() -> str:
    """Digest of every source file that a result follows from, and of the packages' versions."""
    return digest([source_digest(without=WITHOUT), versions()])


def default_folder() -> Path:
    """Folder of the platform for what can be computed again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "gradconv"


class Cache:
    """JSON values on disk, by content.

    Parameters
    ----------
    folder : Path or None
        Where they lie; None keeps nothing.
    source : str, optional
        Digest of the source that the values follow from.
    """

    def __init__(self, folder: Path | None, source: str | None = None) -> None:
        self.folder = folder
        self.source = source_of_results() if source is None else source

    def path(self, description: Any) -> Path | None:
        """File of a value; None without a folder."""
        if self.folder is None:
            return None
        name = digest({"source": self.source, "of": description})
        return self.folder / name[:2] / f"{name}.json"

    def load(self, description: Any) -> Any:
        """Value stored under a description; None if there is none, or it is damaged."""
        path = self.path(description)
        if path is None:
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or set(found) != {"of", "value", "digest"}:
            return None
        whole = found["digest"] == digest([found["of"], found["value"]])
        return found["value"] if whole and found["of"] == digest(description) else None

    def save(self, description: Any, value: Any) -> None:
        """Store a value; a folder that cannot be written is none."""
        path = self.path(description)
        if path is None:
            return
        own = digest(description)
        document = {"of": own, "value": value, "digest": digest([own, value])}
        try:
            write_atomically(path, json.dumps(document, separators=(",", ":")).encode())
        except StorageError:
            self.folder = None


class Carried(Cache):
    """Values that travel with the work to where the folder of the cache cannot be seen.

    Parameters
    ----------
    values : dict
        What came along, by the digest of its description.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(None)
        self.values = values
        self.added: list[tuple[Any, Any]] = []
        """Descriptions and values to be stored at home."""

    def load(self, description: Any) -> Any:
        """Value that came along, or was saved here; None if there is none."""
        return self.values.get(digest(description))

    def save(self, description: Any, value: Any) -> None:
        """Keep a value for the way home."""
        self.values[digest(description)] = value
        self.added.append((description, value))
