"""``gradconv multilevel``: the command line of multilevel diagnoses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gradconv.terminal import DATA_CHOICES, data_options, folder, make_console, progress_bar


@click.command("multilevel")
@click.argument("target_model", metavar="[MODULE:NAME]", required=False)
@click.option("--kernel", metavar="TEXT", help="Instead of a module: a single layer, as in sweep.")
@data_options
@click.option("--dim", type=click.IntRange(1, 3), help="Dimension. Default: the module's, else 2.")
@click.option("--levels", metavar="A:B", help="Meshes of 2^A to 2^B cells an axis.")
@click.option("--channels", type=click.IntRange(min=1), help="Channels. Default: the module's.")
@click.option("--loss", default="mse", metavar="TEXT", help="mse, or MODULE:NAME of a callable.")
@click.option("--mode", type=click.Choice(["train", "eval"]), help="Default: as it is.")
@click.option("--samples", type=click.IntRange(min=4), help="Samples a level. Default: 64.")
@click.option(
    "--epsilon",
    metavar="E,E,...",
    help="Relative errors to forecast the cost of. Default: what 8, 32 and 128 samples leave.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(min=0),
    default=16,
    help="Estimates that each forecast is checked by; 0 for none. Default: 16.",
)
@click.option(
    "--cost",
    type=click.Choice(["work", "flops", "seconds"]),
    default="work",
    help="Cost that gamma and sample numbers are for. Default: work.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed. Default: 0.")
@click.option("--device", default="cpu", metavar="TEXT", help="cpu or a torch device.")
@click.option("--dtype", default="float64", metavar="TEXT", help="float64 or float32.")
@click.option("--memory", type=float, default=4.0, help="GiB of gradients in memory. Default: 4.")
@click.option("--confidence", type=float, default=0.95, help="Level of the intervals.")
@click.option("--workers", type=int, default=1, help="Processes on this machine. Default: 1.")
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler, tcp://host:8786.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "-o",
    "--output",
    callback=folder,
    metavar="DIR",
    help="Folder for multilevel.json, table.md and figure.png/pdf/svg.",
)
def diagnose_command(
    target_model: str | None,
    kernel: str | None,
    dim: int | None,
    levels: str | None,
    loss: str,
    epsilon: str | None,
    as_json: bool,
    output: Path | None,
    channels: int | None,
    **options: Any,
) -> None:
    """Diagnose multilevel gradient estimation: does it telescope, and what does it cost.

    MODULE:NAME is a torch module, or a function or class that makes one (with literal arguments, if
    it needs some), of an installed package or of the current folder. Without one, `--kernel` names
    a single layer, which the derived laws are held against.

    \b
    gradconv multilevel --kernel stencil --noise pixel:0.5 --dim 1 --levels 4:9 -o results
    """  # noqa: D301 (click wants the character \b itself)
    from gradconv.errors import InputError
    from gradconv.loading import load, load_loss
    from gradconv.multilevel.choices import SIZES, level_sizes
    from gradconv.multilevel.diagnosis.diagnosing import diagnose

    if (target_model is None) == (kernel is None):
        got = "neither" if kernel is None else "both"
        raise InputError(f"`MODULE:NAME` or `kernel`: exactly one must be given; got {got}")
    epsilons = None if epsilon is None else _epsilons(epsilon)
    hierarchy = None if levels is None else level_sizes(levels)
    if hierarchy is None and dim is not None:
        hierarchy = SIZES[dim]
    given: Any
    if target_model is not None:
        given = load("module", target_model)
        options.update(dim=dim, channels=channels)
    else:
        given = _problem(kernel, dim, channels, options)
        hierarchy = hierarchy or SIZES[given.dim]
    with progress_bar("diagnosing") as progress:
        result = diagnose(
            given,
            loss=load_loss(loss),
            hierarchy=hierarchy,
            epsilons=epsilons,
            progress=progress,
            **options,
        )
    document = result.to_dict()
    if output is not None:
        result.save(output)
    if as_json:
        click.echo(json.dumps(document, allow_nan=False))
    else:
        _show(document, output)


def _problem(
    kernel: str | None, dim: int | None, channels: int | None, options: dict[str, Any]
) -> Any:
    """Take the problem's choices out of the options; defaults are those of an audit."""
    from gradconv.multilevel.choices import CHOICES as DEFAULTS
    from gradconv.problem import Problem

    given = {name: options.pop(name) for name in DATA_CHOICES}
    chosen: dict[str, Any] = {
        name: DEFAULTS[name] if value is None else value for name, value in given.items()
    }
    return Problem(kernel, dim=dim or 2, channels=channels or 1, **chosen)


def _epsilons(text: str) -> list[float]:
    from gradconv.errors import InputError, shortened

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"`epsilon` must be numbers, separated by commas; got {shortened(text)}"
        ) from None


def _show(document: dict[str, Any], output: Path | None) -> None:
    from gradconv.multilevel.diagnosis import present

    console = make_console()
    setup = document["provenance"]["configuration"]
    shown = [f"{k} {v}" for k, v in setup.items() if not isinstance(v, (list, dict))]
    console.print(", ".join(shown), style="dim", markup=False)
    for table in (
        present.level_table(document),
        present.order_table(document),
        present.error_table(document),
    ):
        if table is not None:
            console.print(table)
    for line in present.complexity_lines(document):
        console.print(line, markup=False)
    for line in present.law_lines(document):
        console.print(line, style="dim", markup=False)
    for line in present.warning_lines(document):
        console.print(f"warning: {line}", style="yellow", markup=False)
    for note in (present.component_line(document), *document["notes"]):
        console.print(f"note: {note}", style="dim", markup=False)
    if output is not None:
        console.print(
            f"Written to {output}: multilevel.json, table.md, figure.png/pdf/svg", markup=False
        )
