"""Run a study: part by part, resumable; then its tables and figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradconv.errors import InputError
from gradconv.figures import SCREEN, figure_bytes
from gradconv.provenance import configuration_hash, provenance, source_digest, versions
from gradconv.store import write_atomically
from gradconv.studies.kinds import Workplace
from gradconv.studies.stored import (
    SCHEMA,
    read_documents,
    read_results,
    remove_others,
    write_part,
)
from gradconv.studies.study import Study

Record = dict[str, Any]
WORK = "unfinished"  # folder of what parts keep while they are measured
Tell = Callable[[str, float, float], None]


def run_study(
    study: Study,
    size: str,
    folder: Path,
    *,
    workers: int = 1,
    keep: bool = False,
    tell: Tell | None = None,
) -> dict[str, Record]:
    """Measure what is not stored yet, and write tables and figures.

    Parameters
    ----------
    study : Study
        The study.
    size : str
        ``"smoke"``, ``"small"`` or ``"full"``.
    folder : Path
        Where to. A part found there with the same configuration is not measured again, if it
        comes from the same source of the package.
    workers : int
        Processes that share the work of a part, where it can be shared.
    keep : bool
        Whether stored parts of the same configuration are kept whatever source they come from.
    tell : callable, optional
        Called with (part, work done, all work); a part counts 1.

    Returns
    -------
    dict
        What was measured, by part.

    Raises
    ------
    InputError
        Before any work, if a choice breaks a rule, or a part needs what is not installed or a
        device that is not there.
    StorageError
        If results cannot be written; parts already there stay.
    """
    waiting = check_run(study, size, folder, keep=keep)
    parts = study.parts(size)
    # Before the work: it tells what is about to run, and writing makes the tree another one.
    origins = {name: _origin(study, part) for name, part in parts.items()}
    for place, (name, part) in enumerate(parts.items()):
        progress = _progress(tell, name, place, len(parts))
        progress(0.0, 1.0)
        if name not in waiting:
            continue
        work = folder / WORK / name
        place_of_work = Workplace(work, workers, progress, study.folder, origins[name])
        results = study.kind.measure(part, place_of_work)
        write_part(
            folder,
            {
                "schema": SCHEMA,
                "study": study.name,
                "kind": study.kind.name,
                "size": size,
                "part": name,
                "place": place,
                "provenance": origins[name],
                "results": results,
            },
        )
        shutil.rmtree(work, ignore_errors=True)
    if tell is not None:
        tell("tables and figures", len(parts), len(parts))
    remove_others(folder, parts)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    write_presentation(study, folder)
    return read_results(folder)


def check_run(study: Study, size: str, folder: Path, *, keep: bool = False) -> list[str]:
    """Parts that a run would measure, after every check that can be made before it.

    Parameters
    ----------
    study, size, folder, keep
        As in `run_study`.

    Raises
    ------
    InputError
        If a choice breaks a rule, or a part needs what is not installed or not there.
    """
    parts, stored = study.parts(size), read_documents(folder)
    waiting = [
        name
        for name, part in parts.items()
        if name not in stored or not _is_of(stored[name], size, part, keep)
    ]
    if waiting:
        study.check_device(size)
    for name in waiting:
        try:
            study.kind.require(parts[name])
        except InputError as error:
            raise InputError(f"study {study.name}, {size}, part {name}: {error}") from None
    return waiting


def _progress(tell: Tell | None, name: str, place: int, parts: int) -> Callable[..., None]:
    def progress(done: float, total: float, *_: object) -> None:
        if tell is not None:
            tell(name, place + (done / total if total else 0.0), parts)

    return progress


def _origin(study: Study, part: Record) -> Record:
    own = study.kind.origin(part)
    found = provenance(part, own.seed, own.device, own.dtype)
    return {
        **found,
        "versions": {**found["versions"], **versions(own.packages)},
        "source": source_digest(),
    }


def _is_of(stored: Record, size: str, part: Record, keep: bool) -> bool:
    """Whether a stored part is what would be measured."""
    there = stored["provenance"]
    same = there["configuration_hash"] == configuration_hash(part)
    return same and stored["size"] == size and (keep or there.get("source") == source_digest())


def write_presentation(study: Study, folder: Path) -> None:
    """Write tables and figures of what is stored in a folder.

    Parameters
    ----------
    study : Study
        The study.
    folder : Path
        Where its data are, and ``table.md`` and ``NAME.png`` go.
    """
    results = read_results(folder)
    write_atomically(folder / "table.md", markdown(study, results).encode())
    for figure in study.kind.figures(results, SCREEN):
        write_atomically(folder / f"{figure.name}.png", figure_bytes(figure.drawing, "png"))


def markdown(study: Study, results: dict[str, Record]) -> str:
    """What was found, and every table, as a Markdown page."""
    lines = [f"# {study.title}", "", f"**{study.question}**", ""]
    lines += [f"- {sentence}" for sentence in study.kind.summary(results)]
    for table in study.kind.tables(results):
        lines += ["", table.markdown().rstrip("\n")]
    return "\n".join(lines) + "\n"
