"""The command line. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradconv import __version__
from gradconv.atlas.command import atlas_command
from gradconv.audit.command import audit_command
from gradconv.claims.command import claims_command
from gradconv.multilevel.costs.command import cost_command
from gradconv.multilevel.diagnosis.command import diagnose_command
from gradconv.report.command import report_command
from gradconv.studies.command import figures_command, study_command
from gradconv.terminal import folder, make_console, progress_bar
from gradconv.train.command import train_command

if TYPE_CHECKING:
    from gradconv.config import SweepConfig
    from gradconv.runner import RunResult

OPTIONS = {
    "kernel": "stencil[:SIZE], mfc, scaled-stencil[:LENGTH], spectral[:MODES], "
    "gaussian-derivative[:ORDER[:WIDTH]]. Default: stencil,mfc.",
    "signal": "sobolev[:S[:SCALE]], band-limited[:MODES], plane-wave[:MODES], "
    "cartoon[:SHAPES[:LAYOUT]], photograph[:TITLE], image:PATH (file, folder or .npy). "
    "Default: sobolev:3.",
    "target": "identity, blur[:WIDTH], unblur[:WIDTH], shift[:DISTANCE[:AXIS]], "
    "derivative[:AXIS[:LENGTH]]. Default: identity.",
    "noise": "none, pixel[:SIGMA], white[:SIGMA], power[:ALPHA[:SCALE]], "
    "matern:NU:LENGTH[:SIGMA], poisson[:PEAK], salt-and-pepper[:FRACTION], uniform[:SIGMA]. "
    "Default: pixel:0.5.",
    "setting": "coarsening (data live on the finest mesh) or refinement (each mesh has a problem "
    "of its own). Default: coarsening.",
    "restriction": "average, injection, full_weighting, bilinear, bilinear_corners, spectral. "
    "Default: average,injection.",
    "dim": "1, 2 or 3. Default: 2.",
    "boundary": "periodic, zero or reflecting. Default: periodic.",
    "route": "chain (steps by 2) or direct (one step from the finest mesh). Default: chain.",
    "levels": "A:B, meshes of 2^A to 2^B cells an axis. Default: 4:9.",
    "channels": "Channels of signal and kernel. Default: 1.",
    "replicates": "Sample paths. Default: 64.",
    "seed": "Seed of all sample paths. Default: 0.",
    "weights": "Stencil weights: 0.2,0.5,0.1 or a JSON array.",
    "diffusivity": "MFC diffusion matrix A: a number or a JSON matrix.",
    "drift": "MFC drift b: a number, or one an axis.",
    "amplitude": "MFC amplitude c.",
    "dtype": "float64 or float32. Default: float64.",
    "device": "cpu or a torch device such as cuda. Default: cpu.",
    "memory": "Bound on memory, of each worker, in GiB. Default: 4.",
    "threads": "Worker threads. Default: 1.",
    "workers": "Processes on this machine that share the work. Default: 1.",
    "scheduler": "Address of a Dask scheduler whose workers share the work.",
    "confidence": "Level of the intervals. Default: 0.95.",
}
LISTS = ("kernel", "signal", "target", "noise", "setting", "restriction", "boundary", "route")
PARAMETERS = ("weights", "diffusivity", "drift", "amplitude")

DEMO: dict[str, Any] = {
    "kernel": ("stencil", "mfc"),
    "signal": ("photograph:astronaut",),
    "noise": ("pixel:1.0",),
    "setting": ("coarsening",),
    "restriction": ("average", "injection"),
    "dim": (2,),
    "levels": "3:9",
    "replicates": 64,
}
DEMO_TITLE = "Does the gradient survive refinement?  A photograph with pixel noise (σ = 1)"


output_option = click.option(
    "-o",
    "--output",
    callback=folder,
    metavar="DIR",
    help="Folder for data, table and figure; an interrupted run goes on from there.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gradconv")
def app() -> None:
    """Ask whether the parameter gradient of a convolution survives mesh refinement."""


def _choice_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, text in reversed(OPTIONS.items()):
        command = click.option(f"--{name}", metavar="TEXT", help=text)(command)
    return command


@app.command("sweep")
@_choice_options
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with the same choices; flags override it.",
)
@output_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of the table."
)
def sweep_command(
    config: Path | None, output: Path | None, as_json: bool, **flags: str | None
) -> None:
    """Sweep h toward 0 and fit signed orders of the gradient's gaps.

    Several values of a choice, separated by commas, sweep their product.

    \b
    gradconv sweep --kernel stencil,mfc --noise pixel:0.5 --setting coarsening \\
                   --restriction average,injection --dim 2 --levels 5:10 -o results
    """  # noqa: D301 (click wants the character \b itself)
    settings = _settings(config, {k: v for k, v in flags.items() if v is not None})
    _run(settings, output, as_json, "Gap of the parameter gradient between neighbouring levels")


@app.command("derive")
@_choice_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--latex", "as_latex", is_flag=True, help="Print the laws in LaTeX.")
@click.option("--steps", is_flag=True, help="Say how each law was found.")
def derive_command(as_json: bool, as_latex: bool, steps: bool, **flags: str | None) -> None:
    """Derive order and constant of the gradient's gap instead of measuring them.

    The choices are those of `gradconv sweep`; the finest of the levels is the mesh of the data.
    """
    from gradconv.laws import derive
    from gradconv.laws.present import SCHEMA, records, table

    config = _settings(None, {k: v for k, v in flags.items() if v is not None})
    found = []
    for problem, hierarchy in config.problems():
        found += records(derive(problem), float(hierarchy.h[-1]))
    if as_json:
        import json

        click.echo(json.dumps({"schema": SCHEMA, "laws": found}, allow_nan=False))
        return
    if as_latex:
        for r in found:
            if r["latex"] is not None:
                click.echo(f"% {r['kernel']}, {r['noise']}, {r['restriction']}, {r['quantity']}")
                click.echo(r["latex"])
        return
    console = make_console()
    console.print(table(found))
    for r in found:
        for step in r["steps"] if steps else ():
            console.print(f"{r['kernel']}, {r['quantity']}: {step}", style="dim", markup=False)


@app.command()
@output_option
def demo(output: Path | None) -> None:
    """Run the main job on an embedded photograph: standard convolution against mesh-free."""
    from gradconv.config import SweepConfig

    result = _run(SweepConfig(**DEMO, threads=2), output or Path("demo"), False, DEMO_TITLE)
    click.echo("")
    names = {"stencil": "the standard convolution's", "mfc": "the mesh-free convolution's"}
    for r in result.records:
        if r["quantity"] != "mean_gap":
            continue
        verdict = "is undecided" if r["verdict"] == "undecided" else r["verdict"]
        order = "" if r["order"] is None else f" (order {r['order']:+.2f})"
        click.echo(
            f"Coarse levels by {r['restriction']}: {names[r['kernel']]} gradient gap "
            f"{verdict}{order}."
        )


app.add_command(claims_command)
app.add_command(atlas_command)
app.add_command(audit_command)
app.add_command(cost_command)
app.add_command(diagnose_command)
app.add_command(train_command)
app.add_command(study_command)
app.add_command(figures_command)
app.add_command(report_command)


def _settings(path: Path | None, flags: dict[str, str]) -> SweepConfig:
    from gradconv.config import SweepConfig, parse_parameter, read_toml

    values: dict[str, Any] = read_toml(path) if path is not None else {}
    for name, text in flags.items():
        if name in LISTS:
            values[name] = _split(text)
        elif name == "dim":
            values[name] = tuple(_whole(name, part) for part in _split(text))
        elif name in ("channels", "replicates", "seed", "threads", "workers"):
            values[name] = _whole(name, text)
        elif name in ("memory", "confidence"):
            values[name] = _real(name, text)
        elif name in PARAMETERS:
            values[name] = parse_parameter(name, text)
        else:
            values[name] = text
    return SweepConfig(**values)


def _split(text: str) -> tuple[str, ...]:
    if text.startswith("image:"):  # a path may hold commas
        return (text,)
    return tuple(part.strip() for part in text.split(","))


def _whole(name: str, text: str) -> int:
    from gradconv.errors import InputError, shortened

    try:
        return int(text)
    except ValueError:  # also for integers of thousands of digits
        raise InputError(f"`{name}` must be a whole number; got {shortened(text)}") from None


def _real(name: str, text: str) -> float:
    from gradconv.errors import InputError, shortened

    try:
        return float(text)
    except ValueError:
        raise InputError(f"`{name}` must be a number; got {shortened(text)}") from None


def _run(config: SweepConfig, output: Path | None, as_json: bool, title: str) -> RunResult:
    from gradconv import rate_records
    from gradconv.runner import run

    with progress_bar("sweeping") as progress:
        result = run(config, output, title, progress)
    if as_json:
        import json

        click.echo(json.dumps(result.document, allow_nan=False))
        return result
    console = make_console()
    console.print(rate_records.constant(result.records), style="dim")
    console.print(rate_records.table(result.records))
    for line in rate_records.footnotes(result.records):
        console.print(line, style="dim")
    if output is not None:
        console.print(f"Written to {output}: sweep.nc, rates.json, table.md, figure.png/pdf/svg")
    return result


def main() -> None:
    """Entry point: errors that users can mend are one line and exit code 2."""
    from gradconv.errors import InputError, RunError, StorageError

    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except (InputError, RunError, StorageError) as error:
        _fail(str(error))
    except click.NoSuchOption as error:
        near = f"; did you mean {error.possibilities[0]!r}?" if error.possibilities else ""
        _fail(f"`{error.option_name}` is no option{near}")
    except click.ClickException as error:
        _fail(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "interrupted: what was complete is kept if an output folder was given; "
            "the same command goes on from there",
            err=True,
        )
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"output must be writable and input readable: {error.strerror or error}{where}")
    except MemoryError:
        _fail("`memory` must be what this machine has free; an allocation failed")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
