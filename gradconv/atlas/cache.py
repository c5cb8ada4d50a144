"""Results kept on disk under what they depend on: their description, and the package's source."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from gradconv.store import write_atomically

# What a result follows from; texts, figures and the command line change none.
SOURCES = (
    "kernels",
    "fields",
    "restriction",
    "gradient",
    "laws",
    "atlas",
    "mesh.py",
    "problem.py",
    "registry.py",
    "sampling.py",
    "statistics.py",
    "rates.py",
    "regression.py",
    "bootstrap.py",
    "verdicts.py",
)
MANNER = ("present.py", "figures.py", "command.py", "cache.py")


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, as hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=1)
def source_digest(root: Path | None = None) -> str:
    """SHA-256 of every source file that a result follows from."""
    root = Path(__file__).resolve().parent.parent if root is None else root
    total = hashlib.sha256()
    for name in SOURCES:
        path = root / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            if file.parent.name == "atlas" and file.name in MANNER:
                continue
            total.update(file.relative_to(root).as_posix().encode() + b"\0")
            total.update(file.read_bytes() + b"\0")
    return total.hexdigest()


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
        self.source = source_digest() if source is None else source

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
        write_atomically(path, json.dumps(document, separators=(",", ":")).encode())


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
