"""Stored data of a study: a file a part, with provenance."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradconv.errors import InputError
from gradconv.store import write_atomically

Record = dict[str, Any]
SCHEMA = "gradconv.study/1"
DATA = "data"
LARGE = 500_000  # bytes from which on a part is compressed


def write_part(folder: Path, document: Record) -> None:
    """Store a part; the same data give the same bytes.

    Parameters
    ----------
    folder : Path
        That of the study.
    document : dict
        Schema ``gradconv.study/1``; `part` is the name of the file.
    """
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    content = text.encode()
    path = folder / DATA / f"{document['part']}.json"
    packed = path.with_suffix(".json.gz")
    if len(content) < LARGE:
        write_atomically(path, content)
        packed.unlink(missing_ok=True)
    else:
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        write_atomically(packed, gzip.compress(text.encode(), mtime=0))
        path.unlink(missing_ok=True)


def read_documents(folder: Path) -> dict[str, Record]:
    """Every stored part of a study, by name in the order of its configuration.

    Raises
    ------
    InputError
        If a file is damaged, or is not of this schema.
    """
    found = {}
    for path in sorted((folder / DATA).glob("*.json*")):
        try:
            content = path.read_bytes()
            document = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
            if document["schema"] != SCHEMA or not isinstance(document["place"], int):
                raise ValueError(f"schema {document['schema']!r}")
            found[document["part"]] = document
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(
                f"stored data must be whole, of schema {SCHEMA}; got {path} ({error})"
            ) from None
    return dict(sorted(found.items(), key=lambda item: item[1]["place"]))


def read_results(folder: Path) -> dict[str, Record]:
    """What was measured, by part.

    Parameters
    ----------
    folder : Path
        That of the study.

    Raises
    ------
    InputError
        If nothing is stored, or a file is damaged.
    """
    found = read_documents(folder)
    if not found:
        raise InputError(f"the study must have been run; got {folder} without data")
    return {name: document["results"] for name, document in found.items()}


def remove_others(folder: Path, parts: Iterable[str]) -> None:
    """Remove stored parts that are none of these."""
    names = set(parts)
    for path in (folder / DATA).glob("*.json*"):
        if path.name.partition(".")[0] not in names:
            path.unlink()
