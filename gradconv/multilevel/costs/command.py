"""``gradconv cost``: what training plans cost, before anything runs."""

from __future__ import annotations

import json
from typing import Any

import click

from gradconv.terminal import make_console


@click.command("cost")
@click.option("--dim", type=int, default=2, help="Dimension, 1 to 3. Default: 2.")
@click.option(
    "--levels",
    metavar="NUMBER|A:B",
    help="Number of levels, or meshes of 2^A to 2^B cells an axis. Default: as many as counts "
    "or stages, else 4.",
)
@click.option(
    "--counts",
    metavar="N,N,...",
    help="Samples of each term a step, coarse to fine. Default: 16 on the finest level, twice as "
    "many on each coarser one.",
)
@click.option("--steps", type=int, default=2000, help="Steps of a plan. Default: 2000.")
@click.option(
    "--stages",
    metavar="N,N,...",
    help="Steps of each stage of full multiscale training, coarse to fine. Default: `steps`, then "
    "half as many on each finer level.",
)
@click.option("--batch", type=int, help="Samples a step on one scale. Default: those of counts.")
@click.option("--gamma", type=float, help="Order of the cost, h^-gamma a gradient. Default: dim.")
@click.option(
    "--drawn",
    "noise_drawn",
    default="finest",
    metavar="TEXT",
    help="finest (each sample's noise on the finest mesh, and restricted) or level (on the fine "
    "mesh of its term). Default: finest.",
)
@click.option(
    "--microbatch",
    type=int,
    help="Most samples of a pass on the finest mesh, and as many cells on others.",
)
@click.option(
    "--plans",
    metavar="TEXT",
    default="single,multiscale,full-multiscale",
    help="single, multiscale, full-multiscale, progressive (one scale at a time on growing "
    "meshes, with the stages and the batch). Default: the first three.",
)
@click.option("--size", type=int, help="Cells an axis of the finest mesh.")
@click.option(
    "--module",
    "target_module",
    metavar="MODULE:NAME",
    help="Count operations and memory of this torch module's gradient on each level (needs the "
    "mesh: `size` or levels A:B); named as in `gradconv audit`.",
)
@click.option("--loss", default="mse", metavar="TEXT", help="mse, or MODULE:NAME of a callable.")
@click.option("--channels", type=int, help="Input channels. Default: the module's.")
@click.option("--seconds", is_flag=True, help="Time the module's gradients too.")
@click.option("--repeats", type=int, default=5, help="Timed passes a level. Default: 5.")
@click.option(
    "--samples",
    default="1",
    metavar="NUMBER|counts",
    help="Samples of a measured pass; `counts`: those of each term, of which a pass holds at most "
    "`microbatch`. Small meshes take less time a sample when there are several. Default: 1.",
)
@click.option("--device", default="cpu", metavar="TEXT", help="cpu or a torch device.")
@click.option("--dtype", default="float32", metavar="TEXT", help="float64 or float32.")
@click.option("--seed", type=click.IntRange(0, 2**62), default=0, help="Seed of weights and data.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def cost_command(target_module: str | None, as_json: bool, **options: Any) -> None:
    """Work units, memory and depth of training plans, side by side, before anything runs.

    A work unit is one sample's gradient on the finest mesh. Lists go from coarse to fine. Without
    options it is the plan of the paper.

    \b
    gradconv cost --counts 256,64,16 --steps 500 --module "gradconv.nn:ResNet(1, 1)" --size 128
    """  # noqa: D301 (click wants the character \b itself)
    from gradconv.multilevel.costs.document import Choices, document

    found = document(Choices.read(options), options, target_module)
    if as_json:
        click.echo(json.dumps(found, allow_nan=False))
    else:
        _show(found)


def _show(document: dict[str, Any]) -> None:
    from gradconv.multilevel.costs import present

    console = make_console()
    for table in (
        present.plan_table(document),
        present.measured_table(document),
        present.level_table(document),
    ):
        if table is not None:
            console.print(table)
    for line in present.lines(document):
        console.print(line, style="dim", markup=False)
