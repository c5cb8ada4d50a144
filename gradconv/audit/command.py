"""``gradconv audit``: the command line of audits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from gradconv.audit.estimator.command import OWN, check_options, estimator_options
from gradconv.audit.estimator.command import run as run_estimator
from gradconv.terminal import data_options, folder, make_console, progress_bar


@click.command("audit")
@click.argument("target_module", metavar="MODULE:NAME")
@data_options
@click.option("--dim", type=click.IntRange(1, 3), help="Dimension. Default: the module's, else 2.")
@click.option("--levels", metavar="A:B", help="Meshes of 2^A to 2^B cells an axis.")
@click.option("--channels", type=click.IntRange(min=1), help="Channels. Default: the module's.")
@click.option("--loss", default="mse", metavar="TEXT", help="mse, or MODULE:NAME of a callable.")
@click.option("--mode", type=click.Choice(["train", "eval"]), help="Default: as it is.")
@click.option("--replicates", type=click.IntRange(min=2), help="Sample paths. Default: 16.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed. Default: 0.")
@click.option("--device", default="cpu", metavar="TEXT", help="cpu or a torch device.")
@click.option("--dtype", default="float64", metavar="TEXT", help="float64 or float32.")
@click.option("--memory", type=float, default=4.0, help="Bound on memory in GiB. Default: 4.")
@click.option("--confidence", type=float, default=0.95, help="Level of the intervals.")
@click.option("--parameters", is_flag=True, help="Show every parameter, not only the layers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--fail-on-divergence", is_flag=True, help="Exit with 1 if the gradient diverges.")
@click.option(
    "-o",
    "--output",
    callback=folder,
    metavar="DIR",
    help="Folder for audit.json, audit.nc, table.md and figure.png/pdf/svg.",
)
@estimator_options
@click.pass_context
def audit_command(
    context: click.Context,
    /,
    target_module: str,
    estimator: bool,
    dim: int | None,
    levels: str | None,
    loss: str,
    parameters: bool,
    as_json: bool,
    fail_on_divergence: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Audit a torch module: where its gradient converges under refinement, and where not.

    MODULE:NAME is a torch module, or a function or class that makes one (with literal arguments, if
    it needs some), of an installed package or of the current folder. One that takes `n` makes a
    module for each mesh.

    \b
    gradconv audit "gradconv.nn.networks:ResNet(1, 1, conv='standard')" --noise pixel:1 -o results

    With --estimator, MODULE:NAME makes (step, module), a multilevel gradient loop, and what is
    wrong with it is named: does it telescope, are terms independent, do batch sizes grow.

    \b
    gradconv audit --estimator mypackage.training:build --levels 16,32,64 --batch-sizes 64,32,16
    """  # noqa: D301 (click wants the character \b itself)
    check_options(context, estimator)
    own = {name: options.pop(name) for name in OWN}
    if estimator:
        run_estimator(
            target_module, levels=levels, loss=loss, seed=options["seed"], as_json=as_json, **own
        )
        return
    from gradconv.audit import audit
    from gradconv.loading import load, load_loss
    from gradconv.multilevel.choices import SIZES, level_sizes

    hierarchy = None if levels is None else level_sizes(levels)
    if hierarchy is None and dim is not None:
        hierarchy = SIZES[dim]
    given = load("module", target_module)
    with progress_bar("audit") as progress:
        result = audit(
            given, loss=load_loss(loss), hierarchy=hierarchy, dim=dim, progress=progress, **options
        )
    document = result.to_dict()
    if output is not None:
        result.save(output)
    if as_json:
        click.echo(json.dumps(document, allow_nan=False))
    else:
        _show(document, parameters, output)
    if fail_on_divergence and result.verdict == "diverges":
        sys.exit(1)


def _show(document: dict[str, Any], parameters: bool, output: Path | None) -> None:
    from gradconv.audit import present
    from gradconv.audit.findings import STYLES, finding_lines

    console = make_console()
    setup = document["provenance"]["configuration"]
    shown = [f"{k} {v}" for k, v in setup.items() if not isinstance(v, (list, dict))]
    console.print(", ".join(shown), style="dim", markup=False)
    kinds = ("whole", "layer", *(("parameter",) if parameters else ()))
    console.print(present.table(document, kinds))
    for line in (*present.undecided_lines(document), present.aliasing_line(document)):
        if line:
            console.print(line, style="dim", markup=False)
    lines = finding_lines(document, "layer")
    for finding, text in zip(document["findings"], lines, strict=True):
        console.print(text, style=STYLES.get(finding["severity"], "dim"), markup=False)
    for note in document["notes"]:
        console.print(f"note: {note}", style="dim", markup=False)
    if output is not None:
        console.print(
            f"Written to {output}: audit.json, audit.nc, table.md, figure.png/pdf/svg",
            markup=False,
        )
