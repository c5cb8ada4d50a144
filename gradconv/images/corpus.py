"""The prepared corpus: photographs from Debian packages, described by a manifest with checksums."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradconv.errors import InputError, shortened
from gradconv.images.base import IMAGES, SPLITS, ImageSource, Photographs
from gradconv.images.files import FilePhotographs, check_header
from gradconv.provenance import configuration_hash

MANIFEST = "manifest.json"
_KEYS = {"file": str, "file_sha256": str, "pixels_sha256": str, "rows": int, "columns": int}


@IMAGES.register("corpus")
@dataclass(frozen=True)
class Corpus(ImageSource):
    """Photographs that ``make corpus`` prepared; the manifest says the split.

    Parameters
    ----------
    path : str
        The folder with ``manifest.json``.
    """

    path: str = "corpus"

    def _opened(self, split: str, channels: int) -> Photographs:
        root = Path(self.path)
        files = []
        for entry in self._manifest():
            if entry["split"] != split:
                continue
            path = root / entry["file"]
            size, colour = self._checked(path, entry)
            if colour or channels == 1:
                files.append((path, size))
        return FilePhotographs(self.spec, split, root, files, channels)

    def fingerprint(self) -> str:
        """SHA-256 over name, split and pixel checksum of every photograph."""
        kept = [[e["file"], e["split"], e["pixels_sha256"]] for e in self._manifest()]
        return configuration_hash({"photographs": kept})

    def _checked(self, path: Path, entry: dict[str, Any]) -> tuple[tuple[int, int], bool]:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(
                f"`data` corpus: {path} must be there, as {MANIFEST} says; got {error.strerror}; "
                "`make corpus` makes it again"
            ) from None
        if digest != entry["file_sha256"]:
            raise InputError(
                f"`data` corpus: {path} must be the file that {MANIFEST} describes, SHA-256 "
                f"{entry['file_sha256'][:12]}…; got {digest[:12]}…; `make corpus` makes it again"
            )
        size, colour = check_header(path, self.spec)
        if size != (entry["rows"], entry["columns"]):
            raise InputError(
                f"`data` corpus: {path} must have {entry['rows']} × {entry['columns']} pixels, as "
                f"{MANIFEST} says; got {size[0]} × {size[1]}"
            )
        return size, colour

    def _manifest(self) -> list[dict[str, Any]]:
        path = Path(self.path) / MANIFEST
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["photographs"]
        except OSError:
            raise InputError(
                f"`data` corpus must name a prepared folder, which `make corpus` makes from Debian "
                f"packages; got {self.path}, where {MANIFEST} is missing"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"`data` corpus: {path} must be a manifest that `make corpus` wrote; got "
                f"{type(error).__name__}: {shortened(str(error))}"
            ) from None
        for entry in entries if isinstance(entries, list) else [entries]:
            sound = isinstance(entry, dict) and entry.get("split") in SPLITS
            sound = sound and all(isinstance(entry.get(k), t) for k, t in _KEYS.items())
            if not sound or Path(entry["file"]).name != entry["file"]:
                raise InputError(
                    f"`data` corpus: {path} must describe each photograph by split, "
                    f"{', '.join(_KEYS)}; got {shortened(entry)}"
                )
        return list(entries)
