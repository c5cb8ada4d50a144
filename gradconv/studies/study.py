"""A study: its question, its kind, and what it is run with at each size."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.provenance import configuration_hash
from gradconv.studies.kinds import KINDS, StudyKind

Record = dict[str, Any]
CONFIGURATION = "configuration.toml"
FOLDER = Path("studies")
SIZES = ("smoke", "small", "full")
"""Seconds, for tests; a minute or so on two cores; that of the paper, or what it takes."""
HEAD = ("kind", "title", "question")
KEYS = (*HEAD, "needs", "choices", *SIZES)
DEVICES = ("cuda",)


@dataclass(frozen=True)
class Study:
    """A study as its configuration states it.

    Parameters
    ----------
    name : str
        Name of its folder.
    folder : Path
        Where configuration and stored data are.
    title, question : str
        What it is about, and what it asks.
    kind : StudyKind
        How it is measured and drawn.
    choices : mapping of str to dict
        By size, what it is run with.
    needs : {"", "cuda"}
        Device that it cannot do without, but at the size ``"smoke"``.
    """

    name: str
    folder: Path
    title: str
    question: str
    kind: StudyKind
    choices: Mapping[str, Record]
    needs: str = ""

    def lacks(self, size: str) -> str:
        """Device that a size needs and this machine has not; empty if there is none."""
        if not self.needs or size == "smoke":
            return ""
        import torch

        return "" if torch.cuda.is_available() else self.needs

    def check_device(self, size: str) -> None:
        """Check that this machine has what a size needs.

        Raises
        ------
        InputError
            If it has not.
        """
        if lacking := self.lacks(size):
            raise InputError(
                f"`study` must be one that this machine can run; got {self.name}, which needs a "
                f"{lacking} device at the size {size} (smoke needs none)"
            )

    def parts(self, size: str) -> dict[str, Record]:
        """Configuration of every part at a size.

        Raises
        ------
        InputError
            If there is no such size, or a choice breaks a rule.
        """
        if size not in SIZES:
            raise unknown_name("size", size, SIZES)
        try:
            return self.kind.parts(self.kind.complete(self.choices[size], self.folder))
        except InputError as error:
            raise InputError(f"{self.folder / CONFIGURATION}, {size}: {error}") from None

    def hashes(self, size: str) -> dict[str, str]:
        """Hash of every part's configuration at a size."""
        return {name: configuration_hash(part) for name, part in self.parts(size).items()}


def load_study(name: str, folder: Path = FOLDER) -> Study:
    """Read the study of a name.

    Parameters
    ----------
    name : str
        Name of its folder.
    folder : Path
        Where studies are.

    Raises
    ------
    InputError
        If there is no such study, or its configuration breaks a rule.
    """
    known = find_studies(folder)
    if name not in known:
        raise unknown_name("study", name, known)
    path = folder / name / CONFIGURATION
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise InputError(f"`study` must have a readable {path}; got {reason}") from None
    for key in read:
        if key not in KEYS:
            raise unknown_name(f"key in {path}", key, KEYS)
    for key in HEAD:
        if not isinstance(read.get(key), str) or not read[key].strip():
            raise InputError(f"`{key}` of {path} must be text; got {shortened(read.get(key))}")
    for key in ("choices", *SIZES):
        if not isinstance(read.get(key, {}), dict):
            raise InputError(f"`{key}` of {path} must be a table; got {shortened(read[key])}")
    needs = read.get("needs", "")
    if needs and needs not in DEVICES:
        raise unknown_name(f"needs of {path}", needs, DEVICES)
    shared = read.get("choices", {})
    return Study(
        name=name,
        folder=folder / name,
        title=read["title"],
        question=read["question"],
        kind=KINDS[read["kind"]],
        choices={size: {**shared, **read.get(size, {})} for size in SIZES},
        needs=needs,
    )


def find_studies(folder: Path = FOLDER) -> list[str]:
    """Names of all studies in a folder, in alphabetical order.

    Raises
    ------
    InputError
        If the folder is missing or has no study.
    """
    found = sorted(path.parent.name for path in folder.glob(f"*/{CONFIGURATION}"))
    if not found:
        raise InputError(
            f"`studies` must be a folder of studies, each with a {CONFIGURATION}; got {folder} "
            "(they are in gradconv's source tree)"
        )
    return found
