"""``gradconv audit --estimator``: options, loading and output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gradconv.errors import InputError, shortened
from gradconv.terminal import make_console, progress_bar, whole_numbers

if TYPE_CHECKING:
    from gradconv.audit.estimator.loop import EstimatorLoop

OWN = ("batch_sizes", "work", "steps", "fail_on_findings")
SHARED = ("target_module", "estimator", "levels", "loss", "seed", "as_json")


def estimator_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that only ``--estimator`` has."""
    for option in (
        click.option(
            "--estimator",
            is_flag=True,
            help="MODULE:NAME makes (step, module), a multilevel training loop: audit that.",
        ),
        click.option("--batch-sizes", metavar="N,…", help="Declared samples, coarse to fine."),
        click.option("--work", type=float, help="Claimed work units a step."),
        click.option("--steps", type=int, help="Training steps to run. Default: 16."),
        click.option("--fail-on-findings", is_flag=True, help="Exit with 1 if it is not sound."),
    ):
        command = option(command)
    return command


def check_options(context: click.Context, estimator: bool) -> None:
    """Refuse options that the other kind of audit has.

    Raises
    ------
    InputError
        If one was given.
    """
    for name in context.params:
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        foreign = name not in OWN + SHARED if estimator else name in OWN
        if given and foreign:
            flag = name.replace("_", "-")
            rule = "is no option with --estimator" if estimator else "belongs to --estimator"
            raise InputError(f"`{flag}` {rule}; got --{flag}")


def run(
    name: str,
    *,
    levels: str | None,
    batch_sizes: str | None,
    work: float | None,
    steps: int | None,
    loss: str,
    seed: int,
    as_json: bool,
    fail_on_findings: bool,
) -> None:
    """Audit the loop that a factory makes, and print what was found.

    Raises
    ------
    InputError
        If the factory or an option breaks a rule.
    """
    from gradconv.audit.estimator.auditing import STEPS, audit_estimator
    from gradconv.loading import load

    loop = made(load("estimator", name))
    sizes = loop.hierarchy if levels is None else read_sizes(levels)
    if sizes is None:
        raise InputError(
            "`hierarchy` must be given, by the estimator's factory or --levels; got none"
        )
    criterion = loop.loss
    if loss != "mse":  # the default of a module's audit: for an estimator nothing is declared then
        criterion = load("loss", loss)
    with progress_bar("audit") as progress:
        found = audit_estimator(
            loop.step,
            module=loop.module,
            hierarchy=sizes,
            batch_sizes=loop.batch_sizes
            if batch_sizes is None
            else whole_numbers("batch-sizes", batch_sizes),
            work=loop.work if work is None else work,
            steps=STEPS if steps is None else steps,
            loss=criterion,
            optimizer=loop.optimizer,
            seed=seed,
            progress=progress,
        )
    document = found.to_dict()
    if as_json:
        click.echo(json.dumps(document, allow_nan=False))
    else:
        _show(document)
    if fail_on_findings and not found.sound:
        sys.exit(1)


def made(given: Any) -> EstimatorLoop:
    """Call a factory and read what it returns.

    Raises
    ------
    InputError
        If it fails, or returns something else than a loop.
    """
    from torch import nn

    from gradconv.audit.estimator.loop import EstimatorLoop

    if callable(given) and not isinstance(given, EstimatorLoop):
        try:
            given = given()
        except Exception as error:  # each factory has errors of its own
            raise InputError(
                f"`estimator` factory must make a loop; called without arguments it raised "
                f"{type(error).__name__}: {error}"
            ) from error
    if isinstance(given, EstimatorLoop):
        return given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], nn.Module):
        return EstimatorLoop(*given)
    raise InputError(
        f"`estimator` must be or make (step, module) or an EstimatorLoop; got {shortened(given)}"
    )


def read_sizes(text: str) -> tuple[int, ...]:
    """Read ``A:B``, powers of two, or the cells themselves with commas.

    Raises
    ------
    InputError
        If it is neither.
    """
    if ":" not in text:
        return whole_numbers("levels", text)
    from gradconv.mesh import read_levels

    first, last = read_levels(text)
    return tuple(2**e for e in range(first, last + 1))


def _show(document: dict[str, Any]) -> None:
    from gradconv.audit.estimator import present
    from gradconv.audit.findings import STYLES, finding_lines

    console = make_console()
    console.print(present.table(document))
    sound = "green" if document["sound"] else "bold"
    console.print(present.verdict_line(document), style=sound, markup=False)
    lines = finding_lines(document, "term")
    for finding, text in zip(document["findings"], lines, strict=True):
        console.print(text, style=STYLES.get(finding["severity"], "dim"), markup=False)
    for note in document["notes"]:
        console.print(f"note: {note}", style="dim", markup=False)
