"""What the commands share at the terminal: options, a console, and a bar of progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradconv.errors import InputError, shortened

if TYPE_CHECKING:
    from rich.console import Console

# Choices of the data that a module is given, as `gradconv sweep` names them.
DATA_CHOICES = ("signal", "target", "noise", "setting", "restriction", "route")
WIDTH = 160  # columns where output goes to no terminal


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each choice of the built-in data."""
    for name in reversed(DATA_CHOICES):
        text = f"{name.capitalize()} of the built-in data, as in `gradconv sweep`."
        command = click.option(f"--{name}", metavar="TEXT", help=text)(command)
    return command


def make_console() -> Console:
    """Console of standard output, wide enough for the tables where that is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def folder(context: click.Context, option: click.Parameter, text: str | None) -> Path | None:
    """Read an option that names a folder, one that need not exist.

    Raises
    ------
    InputError
        If it is blank or names a file.
    """
    if text is None:
        return None
    if not text.strip():
        raise InputError(f"`{option.name}` must name a folder; got {text!r}")
    path = Path(text)
    if os.path.exists(path) and not path.is_dir():  # also of names too long
        raise InputError(f"`{option.name}` must be a folder; got the file {path}")
    return path


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Read an option that holds whole numbers with commas.

    Raises
    ------
    InputError
        If one is none.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"`{name}` must be whole numbers with commas; got {shortened(text)}"
        ) from None


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None] | None]:
    """Show a bar with the remaining time on standard error, if that is a terminal.

    Yields
    ------
    callable or None
        Takes what is done, the total and, if there is more to say, a few words.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(done: float, total: float, words: str = "") -> None:
            bar.update(task, completed=done, total=total, description=words)

        yield update
