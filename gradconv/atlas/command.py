"""``gradconv atlas``: the command line of the atlas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gradconv.terminal import folder, make_console, progress_bar

CHOICES = ("kernel", "noise", "setting", "restriction", "target", "dim")


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(CHOICES):
        text = f"Only these values of {name}, with commas. Default: all that are registered."
        command = click.option(f"--{name}", metavar="TEXT", help=text)(command)
    return command


@click.command("atlas")
@_filters
@click.option(
    "-o",
    "--output",
    callback=folder,
    metavar="DIR",
    help="Folder for atlas.json.gz, table.md and the figures phase and critical.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--no-cache", is_flag=True, help="Read and keep nothing in the cache folder.")
@click.option("--workers", type=int, help="Processes on this machine. Default: one a core.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, for its workers instead.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of sample paths.")
@click.option(
    "--replicates", type=click.IntRange(min=8), help="Sample paths of variances. Default: 128."
)
def atlas_command(
    output: Path | None,
    as_json: bool,
    no_cache: bool,
    workers: int | None,
    scheduler: str | None,
    seed: int,
    replicates: int | None,
    **filters: str | None,
) -> None:
    """Derive and measure every combination of choices, and hold one against the other.

    Laws and measurements are kept by content: an interrupted run goes on from there.

    \b
    gradconv atlas --kernel stencil,mfc --noise pixel,power --dim 1,2 -o atlas
    """  # noqa: D301 (click wants the character \b itself)
    import os

    from gradconv.atlas.build import atlas
    from gradconv.atlas.cache import default_folder
    from gradconv.atlas.cells import REPLICATES, enumerate_cells

    chosen = {
        name: tuple(part.strip() for part in text.split(","))
        for name, text in filters.items()
        if text is not None
    }
    if workers is None:
        workers = 1 if scheduler is not None else os.cpu_count() or 1
    cells = enumerate_cells(chosen)
    count = REPLICATES if replicates is None else replicates
    with progress_bar("atlas") as progress:
        document = atlas(
            cells,
            cache=None if no_cache else default_folder(),
            workers=workers,
            scheduler=scheduler,
            seed=seed,
            replicates=count,
            progress=progress,
        )
    if output is not None:
        from gradconv.atlas.critical import critical_series

        dims = tuple(sorted({int(c.dim) for c in cells}))
        document["critical"] = critical_series(dims, count, seed, workers, scheduler)
        write(output, document)
    if as_json:
        import json

        click.echo(json.dumps(document, allow_nan=False))
        return
    _show(document, output)


def _show(document: dict[str, Any], output: Path | None) -> None:
    from gradconv.atlas import present

    console = make_console()
    console.print(present.table(document))
    for word, agree, no, leading, wrong in present.compared(document):
        console.print(
            f"{word}: full law agrees {agree}, disagrees {no}; leading term agrees {leading}, "
            f"disagrees {wrong}",
            style="dim",
        )
    for line in present.disagreements(document):
        console.print(f"disagrees: {line}", markup=False, style="bold")
    for count, quantities, reason in present.reasons(document):
        console.print(f"explained: {count} cells ({quantities}): {reason}", markup=False)
    if output is not None:
        from gradconv.figures import KINDS

        console.print(
            f"Written to {output}: atlas.json.gz, table.md, phase and critical as "
            f"{'/'.join(KINDS)}",
            markup=False,
        )


def write(folder: Path, document: dict[str, Any]) -> None:
    """Write the atlas's document, its table and its figures into a folder.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    document : dict
        What `gradconv.atlas.build.atlas` gives, with ``critical`` of
        `gradconv.atlas.critical.critical_series`.
    """
    import gzip
    import json

    from gradconv.atlas import present
    from gradconv.atlas.figures import critical_figure, phase_figure
    from gradconv.store import write_atomically, write_figure

    text = json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n"
    write_atomically(folder / "atlas.json.gz", gzip.compress(text.encode(), 9, mtime=0))
    write_atomically(folder / "table.md", present.markdown(document).encode())
    for name, figure in (
        ("phase", phase_figure(document)),
        ("critical", critical_figure(document["critical"])),
    ):
        write_figure(folder / name, figure)
