"""Logs of a run: rows of CSV that are exact and can be rewound, and events for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from gradconv.errors import InputError, StorageError, check_whole, shortened
from gradconv.store import write_atomically

# What a row holds, in this order; every row has all of them. `norm` is that of the mean gradient
# of a term, with the sampling error taken off its square: negative if less than nothing is left.
COLUMNS: dict[str, tuple[str, ...]] = {
    "steps": (
        *("step", "leg", "loss", "lr", "gradient_norm"),
        *("work", "flops", "seconds", "samples"),
    ),
    "levels": ("step", "level", "samples", "fine_loss", "coarse_loss", "norm", "variance"),
    "validation": ("step", "leg", "work", "flops", "seconds", "mse", "psnr", "ssim"),
}
WHOLE = ("step", "leg", "level", "samples")
# Not the costs: an event takes as long as ten rows, and TensorBoard draws against steps only.
SCALARS = (
    *("loss", "lr", "gradient_norm", "fine_loss", "coarse_loss", "norm", "variance"),
    *("mse", "psnr", "ssim"),
)
EVENTS = "tensorboard"  # folder of the events
LONGEST = 1000  # bytes of a line that can be one of these rows


class RunLog:
    """Rows of steps, levels and validations in a folder.

    A row is with the operating system as soon as it is written, so that it outlives the process;
    `flush` brings all of them onto the disk. Numbers are written so that they read back exactly.

    Parameters
    ----------
    folder : Path
        Gets ``steps.csv``, ``levels.csv``, ``validation.csv`` and ``tensorboard/``.
    tensorboard : bool
        Whether events are written too. Without the package there are none, and a note.

    Attributes
    ----------
    notes : list of str
        What a person should hear of.
    """

    def __init__(self, folder: Path, tensorboard: bool = True) -> None:
        self.folder, self.notes = Path(folder), list[str]()
        self._files: dict[str, BinaryIO] = {}
        self._last: dict[str, int] = {}
        self._kept: dict[str, set[tuple[str, ...]]] = {}
        self._wants_events = tensorboard
        self._events: Any = None
        self._purge: int | None = None

    def step(self, **row: float | None) -> None:
        """Write a row of ``steps.csv``; the arguments are its columns, None where not measured.

        Raises
        ------
        InputError
            If columns are missing or unknown, or the step is not after that of the row before.
        StorageError
            If it can not be written.
        """
        self._write("steps", row)

    def level(self, **row: float | None) -> None:
        """Write a row of ``levels.csv``: one term of a step; see `step`."""
        self._write("levels", row)

    def validation(self, **row: float | None) -> None:
        """Write a row of ``validation.csv``; see `step`."""
        self._write("validation", row)

    def rewind(self, step: int) -> None:
        """Drop the rows after a step: those that a resumed run will write again.

        A last line without its end, left by a killed process, goes too. A row of this very step
        that is kept and is written again (all but ``seconds`` alike) stays single.

        Parameters
        ----------
        step : int
            The last step whose rows stay; 0 drops all of them.

        Raises
        ------
        InputError
            If a file is not such a log; the message names file and line.
        StorageError
            If a file can not be written.
        """
        check_whole("step", step, 0)
        self.close()
        for table in COLUMNS:
            path = self._path(table)
            content = _read(path)
            if content is None:
                if step and table == "steps":
                    self.notes.append(f"{path} is missing; it begins after step {step}")
                self._kept[table], self._last[table] = set(), -1
                continue
            rows = [r for r in _rows(path, table, content) if int(r[0]) <= step]
            kept = b"".join(_line(row) for row in (COLUMNS[table], *rows))
            if kept != content:
                write_atomically(path, kept)
            self._kept[table] = {_identity(table, r) for r in rows if int(r[0]) == step}
            self._last[table] = int(rows[-1][0]) if rows else -1
        self._purge = step + 1

    def flush(self) -> None:
        """Bring all rows and events onto the disk; to be called before a checkpoint is saved.

        Raises
        ------
        StorageError
            If there is no space.
        """
        for table, file in self._files.items():
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise _storage_error(self._path(table), error) from error
        if self._events is not None:
            self._on_events("flush")

    def close(self) -> None:
        """Close all files; the next row opens them again."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        self._files.clear()
        if self._events is not None:
            self._on_events("close")
            self._events = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, table: str) -> Path:
        return self.folder / f"{table}.csv"

    def _write(self, table: str, row: Mapping[str, float | None]) -> None:
        columns = COLUMNS[table]
        if set(row) != set(columns):
            wrong = ", ".join(sorted(set(columns) ^ set(row)))
            raise InputError(
                f"`row` of {table} must have the columns {', '.join(columns)}; {wrong}"
            )
        values = tuple(_text(name, row[name]) for name in columns)
        step = int(values[0])
        if table not in self._files:
            self._files[table] = self._open(table)
        least = self._last[table] + (table == "steps")
        kept = _identity(table, values) in self._kept.get(table, ())
        if step < least and not kept:
            raise InputError(
                f"`step` of {table} must follow that of the row before, {self._last[table]}; "
                f"got {step}; rewind the log to go on from an earlier step"
            )
        if kept:
            return
        self._append(table, _line(values))
        self._last[table] = step
        self._add_events(table, row)

    def _open(self, table: str) -> BinaryIO:
        path = self._path(table)
        content = _read(path)
        if content:
            rows = _rows(path, table, content)
            if not content.endswith(b"\n"):
                raise InputError(f"`folder` must be rewound first: {path} ends within a row")
            self._last[table] = int(rows[-1][0]) if rows else -1
        else:
            self._last[table] = -1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not content:
                path.write_bytes(_line(COLUMNS[table]))
            return path.open("ab", buffering=0)
        except OSError as error:
            raise _storage_error(path, error) from error

    def _append(self, table: str, line: bytes) -> None:
        file = self._files[table]
        try:
            while line:  # a disk that fills up takes a part of a line
                line = line[file.write(line) :]
        except OSError as error:
            raise _storage_error(self._path(table), error) from error

    def _add_events(self, table: str, row: Mapping[str, Any]) -> None:
        if self._wants_events and self._events is None:
            self._events = self._writer()
        if self._events is None:
            return
        place = f"{table}/{int(row['level'])}" if table == "levels" else table
        for name in COLUMNS[table]:
            if name in SCALARS and row[name] is not None:
                step = int(row["step"])
                self._on_events("add_scalar", f"{place}/{name}", float(row[name]), step)

    def _writer(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._wants_events = False
            self.notes.append("no events for TensorBoard are written: it is not installed")
            return None
        folder = self.folder / EVENTS
        try:
            return SummaryWriter(str(folder), purge_step=self._purge)
        except OSError as error:
            raise _storage_error(folder, error) from error

    def _on_events(self, name: str, *arguments: Any) -> None:
        try:
            getattr(self._events, name)(*arguments)
        except OSError as error:  # of this call, or of the thread that writes
            raise _storage_error(self.folder / EVENTS, error) from error


def read_table(folder: Path, table: str) -> list[tuple[str, ...]]:
    """Rows of a log as texts, in the order of `COLUMNS`; a last line without its end is left out.

    Parameters
    ----------
    folder : Path
        Of the run.
    table : str
        "steps", "levels" or "validation".

    Raises
    ------
    InputError
        If the file is missing or is not such a log; the message names file and line.
    """
    path = Path(folder) / f"{table}.csv"
    content = _read(path)
    if content is None:
        raise InputError(f"`folder` must hold the logs of a run; {path} is missing")
    return _rows(path, table, content)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"`folder` must be readable; got {path} ({error.strerror})") from None


def _rows(path: Path, table: str, content: bytes) -> list[tuple[str, ...]]:
    columns = COLUMNS[table]
    lines = content.split(b"\n")[:-1]  # what follows the last end of a line is no row
    expected = _line(columns)[:-1]
    if not lines and expected.startswith(content):
        return []  # killed within the first line
    if not lines or lines[0] != expected:
        got = shortened(lines[0].decode(errors="replace")) if lines else "none"
        raise InputError(f"`{path}` must begin with {expected.decode()}; got {got}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        row = tuple(line.decode(errors="replace").split(",")) if len(line) < LONGEST else ()
        if len(row) != len(columns) or not (row[0].isascii() and row[0].isdigit()):
            raise InputError(
                f"`{path}` must have {len(columns)} columns, step first; "
                f"got {shortened(line[:LONGEST].decode(errors='replace'))} in line {number}"
            )
        rows.append(row)
    return rows


def _text(name: str, value: object) -> str:
    if value is None and name != "step":
        return ""
    if name in WHOLE:
        if type(value) is not int or value < 0:
            raise InputError(f"`{name}` must be a whole number, at least 0; got {shortened(value)}")
        return repr(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"`{name}` must be a number or None; got {shortened(value)}")
    return repr(float(value))


def _line(values: tuple[str, ...]) -> bytes:
    return (",".join(values) + "\n").encode()


def _identity(table: str, row: tuple[str, ...]) -> tuple[str, ...]:
    """A row without its time, which no run has twice."""
    return tuple(v for name, v in zip(COLUMNS[table], row, strict=True) if name != "seconds")


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"`folder` must be writable: {error.strerror or error} at {path}; rows before it are kept"
    )
