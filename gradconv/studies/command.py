"""``gradconv study`` and ``gradconv figures``: the command line of the studies."""

from __future__ import annotations

from pathlib import Path

import click

from gradconv.terminal import folder, make_console, progress_bar

SIZES = ("smoke", "small", "full")
OUTPUT = "build/studies"
FIGURES = "build/figures"

studies_option = click.option(
    "--studies",
    callback=folder,
    default="studies",
    show_default=True,
    metavar="DIR",
    help="Folder of the studies.",
)


@click.command("study")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every study.")
@click.option(
    "--size",
    type=click.Choice(SIZES),
    default="small",
    show_default=True,
    help="smoke: seconds; small: a minute or so on two cores; full: that of the paper.",
)
@click.option(
    "-o",
    "--output",
    callback=folder,
    metavar="DIR",
    help=f"Folder for data, tables and figures, one in it a study. Default: {OUTPUT}/SIZE.",
)
@click.option("--check", is_flag=True, help="Hold stored data against configuration and figures.")
@click.option("--store", is_flag=True, help="Write to the folder of the studies themselves.")
@click.option("--keep", is_flag=True, help="Keep stored parts whatever source they come from.")
@click.option("--workers", type=int, default=1, help="Processes that share the work. Default: 1.")
@studies_option
def study_command(
    names: tuple[str, ...],
    everything: bool,
    size: str,
    output: Path | None,
    check: bool,
    store: bool,
    keep: bool,
    workers: int,
    studies: Path,
) -> None:
    """Run studies, or list them.

    A study that is interrupted goes on with the same command: its parts are kept one by one.
    """
    from gradconv.errors import InputError
    from gradconv.parallel import check_workers
    from gradconv.studies import find_studies, load_study, run_study
    from gradconv.studies.checking import complaints
    from gradconv.studies.running import check_run

    console = make_console()
    if not names and not everything:
        for name in find_studies(studies):
            console.print(f"{name}: {load_study(name, studies).question}", markup=False)
        return
    if names and everything:
        raise InputError(f"`--all` needs no names; got {', '.join(names)}")
    if store and output is not None:
        raise InputError("`--store` writes to the studies' own folders; got `--output` as well")
    check_workers(workers, None, 1)
    chosen = [load_study(n, studies) for n in (find_studies(studies) if everything else names)]
    if check:
        found = {one.name: complaints(one) for one in chosen}
        for name, texts in found.items():
            for text in texts or ["stored data, table and figures are those of the configuration"]:
                console.print(f"{name}: {text}", markup=False)
        if any(found.values()):
            raise SystemExit(1)
        return
    if everything:  # the others cannot run here, and are no reason to run none
        for one in chosen:
            if lacking := one.lacks(size):
                console.print(f"{one.title}: left out, it needs a {lacking} device", markup=False)
        chosen = [one for one in chosen if not one.lacks(size)]
    targets = [
        one.folder if store else (output or Path(OUTPUT) / size) / one.name for one in chosen
    ]
    for one, target in zip(chosen, targets, strict=True):  # every mistake before any work
        check_run(one, size, target, keep=keep)
    for one, target in zip(chosen, targets, strict=True):
        with progress_bar(one.name) as bar:

            def tell(part: str, done: float, total: float) -> None:
                if bar is not None:
                    bar(done, total, part)

            results = run_study(one, size, target, workers=workers, keep=keep, tell=tell)
        console.print(f"{one.title} ({size})", style="bold", markup=False)
        for sentence in one.kind.summary(results):
            console.print(f"  {sentence}", markup=False)
        console.print(f"  Written to {target}", style="dim", markup=False)


@click.command("figures")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--style",
    default="screen",
    show_default=True,
    metavar="[screen|one-column|two-column]",
    help="Page that the figures are for: widths, fonts, captions.",
)
@click.option(
    "-o",
    "--output",
    callback=folder,
    metavar="DIR",
    help=f"Folder for all files. Default: {FIGURES}/STYLE.",
)
@studies_option
def figures_command(names: tuple[str, ...], style: str, output: Path | None, studies: Path) -> None:
    """Draw the figures of stored studies for a paper, all of them by default.

    Figures as PDF, SVG and PNG, tables and captions for LaTeX, and a README.md that says what each
    shows and what made its data. Nothing is measured.
    """
    from gradconv.figures import find_style
    from gradconv.studies import find_studies, load_study
    from gradconv.studies.drawing import draw_studies

    console = make_console()
    chosen = find_style(style)
    found = [load_study(n, studies) for n in dict.fromkeys(names or find_studies(studies))]
    target = output or Path(FIGURES) / chosen.name
    with progress_bar("drawing") as bar:

        def tell(study: str, done: float, total: float) -> None:
            if bar is not None:
                bar(done, total, study)

        left_out = draw_studies(found, chosen, target, tell)
    for name in left_out:
        console.print(f"{name}: left out, nothing is stored", markup=False)
    console.print(f"Written to {target}", style="dim", markup=False)
