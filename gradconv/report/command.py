"""``gradconv report``: the command line of the page."""

from __future__ import annotations

from pathlib import Path

import click

from gradconv.studies.command import studies_option
from gradconv.terminal import make_console, progress_bar


def _file(context: click.Context, option: click.Parameter, text: str) -> Path:
    from gradconv.errors import InputError

    path = Path(text)
    if not text.strip() or path.is_dir():
        raise InputError(f"`output` must name a file; got {text!r}")
    return path


@click.command("report")
@click.option(
    "-o",
    "--output",
    callback=_file,
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The page.",
)
@studies_option
def report_command(output: Path, studies: Path) -> None:
    """Make one self-contained HTML page of all stored studies.

    Nothing is measured: figures and tables are made of the stored data. A study without data is
    listed with the command that runs it.
    """
    from gradconv.report.page import page
    from gradconv.store import write_atomically

    with progress_bar("report") as progress:
        content = page(studies, progress=progress).encode()
    write_atomically(output, content)
    console = make_console()
    console.print(f"Written to {output}, {len(content) / 1e6:.1f} MB", markup=False)
