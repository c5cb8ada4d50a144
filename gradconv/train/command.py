"""``gradconv train``: train a network for a task by a strategy, or say what that would cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click

from gradconv.terminal import folder, make_console, progress_bar

# What each choice is, for --help; names, types and defaults are those of TrainingConfig.
HELP = {
    "task": "denoise[:SIGMA[:UPPER]], deblur[:WIDTH[:SIGMA]], inpaint[:FRACTION[:SIDE[:VALUE]]], "
    "superres[:SIGMA]. Default: denoise.",
    "network": "resnet, unet or espcn. Default: resnet.",
    "conv": "standard or mfc (mesh-free). Default: standard.",
    "strategy": "single, multiscale, full-multiscale, progressive, "
    "random-crops[:LOW[:HIGH[:BELOW]]], multigrid[:CYCLES]. Default: single.",
    "data": "photographs, folder:PATH, corpus[:PATH], cifar10:PATH, stl10:PATH, celeba:PATH, "
    "urban100:PATH. Default: photographs.",
    "size": "Cells an axis of the finest mesh. Default: 64.",
    "levels": "Levels, each with half the cells an axis of the one before. Default: 4.",
    "channels": "1 (grey) or 3. Default: 1.",
    "width": "Channels of the network.",
    "layers": "Depth of the network.",
    "mesh_free_widths": "LEAST,MOST width of mesh-free kernels at the start, in units of the box.",
    "norm": "group, instance or batch normalisation.",
    "padding": "periodic, reflect or zero. Default: periodic.",
    "counts": "Samples of each term a step, coarse to fine. "
    "Default: 16 on the finest level, doubling.",
    "steps": "Steps on the finest mesh. Default: 200.",
    "stages": "Steps of each stage, coarse to fine. Default: steps on the coarsest level, halving.",
    "batch": "Samples a step on one scale. Default: the sum of counts.",
    "stop": "WINDOW,TOLERANCE: a leg ends early once its loss has stalled.",
    "budget": "work:N, flops:N or seconds:N; the plan's steps are scaled to it.",
    "drawn": "Where noise is drawn: law (with the law of restricted noise: denoise and superres "
    "under averaging on the level itself, else on the finest), finest or level. Default: law.",
    "restriction": "Fine to coarse map. Default: average.",
    "route": "chain or direct. Default: chain.",
    "optimiser": "adam, adamw, sgd, nadam, rmsprop or adagrad. Default: adam.",
    "lr": "Learning rate. Default: 0.002.",
    "weight_decay": "Of the optimiser. Default: 0.",
    "momentum": "Of sgd. Default: 0.9.",
    "schedule": "constant, cosine, linear, onecycle or step. Default: constant.",
    "restarts": "Begin the schedule anew with each leg: true or false. Default: false.",
    "warmup": "Steps over which the learning rate rises. Default: 0.",
    "clip": "Largest norm of the gradient.",
    "accumulation": "Estimates of the gradient a step. Default: 1.",
    "microbatch": "Samples of a pass at most on the finest mesh, and as many cells on others.",
    "precision": "32, bf16 or 64. Default: 32.",
    "validate_every": "Steps between validations; 0: at the end of each leg. Default: 0.",
    "validation_tiles": "Tiles of a validation at most. Default: 64.",
    "test_tiles": "Tiles of the test at most. Default: 64.",
    "moments_every": "Steps between measurements of each term's norm and variance. "
    "Default: 0: never.",
    "moments_samples": "Samples a term of such a measurement. Default: 8.",
    "seed": "Of weights, tiles and noise. Default: 0.",
    "device": "auto, cpu or cuda. Default: auto.",
    "processes": "Processes on this machine; under torchrun its own number counts. Default: 1.",
    "nodes": "Machines. Default: 1.",
    "threads": "Threads of torch; 0: its own choice. Default: 0.",
    "prefetch": "Draw the next step's samples meanwhile: true or false. Default: on a GPU.",
    "memory": "GiB that a pass may take. Default: what is free.",
    "checkpoint_every": "Steps between checkpoints. Default: 100.",
    "log_every": "Steps between rows of the logs. Default: 1.",
}


def _config_class() -> Any:
    from gradconv.train.configuration import TrainingConfig

    return TrainingConfig


def _choice_options(command: Any) -> Any:
    """Add an option for each choice; values are read as text, and checked by the configuration."""
    for name in reversed(HELP):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, name, metavar="TEXT", help=HELP[name])(command)
    return command


@click.command("train")
@_choice_options
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with these choices.")
@click.option("-o", "--output", metavar="DIR", callback=folder, help="Folder of the run.")
@click.option(
    "--dry-run", is_flag=True, help="Print the plan and its expected cost; train nothing."
)
@click.option("--time", "timed", is_flag=True, help="Time a step of each leg in a dry run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def train_command(
    config: Path | None,
    output: Path | None,
    dry_run: bool,
    timed: bool,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Train a network for an imaging task on one scale, by multilevel gradients, or coarse to fine.

    Lists go from coarse to fine. With `-o` a run keeps checkpoints and logs there, and the same
    command goes on from them.

    \b
    gradconv train --task denoise:0.2 --network unet --conv mfc --strategy full-multiscale \\
                   --size 64 --levels 4 --counts 64,32,16,8 --stages 100,50,25,12 -o run
    """  # noqa: D301 (click wants the character \b itself)
    from gradconv.errors import InputError
    from gradconv.train.trainer import Trainer

    if timed and not dry_run:
        raise InputError("`--time` must be given with `--dry-run`; got it alone")
    given = {name: read_choice(name, text) for name, text in flags.items() if text is not None}
    trainer = Trainer.from_config(_config_class().read(config, given))
    if dry_run:
        _show_plan(trainer.forecast(seconds=timed), as_json)
        return
    with progress_bar("training") as progress:
        result = trainer.fit(output, progress if trainer.engine.leads else None)
    if not trainer.engine.leads:
        return
    if as_json:
        click.echo(json.dumps(result.document, allow_nan=False))
        return
    from gradconv.train.present import lines, table

    console = make_console()
    console.print(table(result.document))
    for line in lines(result.document):
        console.print(line, style="dim", markup=False)
    if output is not None:
        from gradconv.train.curves import draw_curves, read_run

        draw_curves([read_run(output)], output / "curves")
        console.print(
            f"Written to {output}: result.json, steps.csv, levels.csv, validation.csv, "
            "curves.png/pdf/svg, checkpoints/"
        )


def read_choice(name: str, text: str) -> Any:
    """Turn the text of an option into the value of its kind.

    Raises
    ------
    InputError
        If it is of another kind.
    """
    from gradconv.errors import InputError, shortened

    kind = get_type_hints(_config_class())[name]
    kinds = [k for k in (get_args(kind) or (kind,)) if k is not type(None)]
    wanted = kinds[0]
    parts = [part.strip() for part in text.split(",")]
    try:
        if wanted is int:
            return int(text)
        if wanted is float:
            return float(text)
        if wanted is bool:
            return {"true": True, "false": False}[text.strip().lower()]
        if name in ("counts", "stages"):
            return tuple(int(part) for part in parts)
        if name == "stop":
            window, tolerance = parts
            return int(window), float(tolerance)
        if name == "mesh_free_widths":
            least, most = parts
            return float(least), float(most)
    except (ValueError, KeyError, OverflowError):
        shape = {int: "a whole number", float: "a number", bool: "true or false"}.get(
            wanted, HELP[name].rstrip(".")
        )
        raise InputError(f"`{name}` must be {shape}; got {shortened(text)}") from None
    return text


def _show_plan(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document, allow_nan=False))
        return
    from gradconv.train.forecast_present import forecast_lines, forecast_table

    console = make_console()
    console.print(forecast_table(document))
    for line in forecast_lines(document):
        console.print(line, style="dim", markup=False)
