"""Every figure and table of stored studies in one folder, as a paper includes them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradconv.errors import InputError
from gradconv.figures import KINDS, Style
from gradconv.latex import plain, tex
from gradconv.store import write_atomically, write_figure
from gradconv.studies.stored import DATA, read_documents
from gradconv.studies.study import Study

Record = dict[str, Any]
PACKAGES = ("amsmath", "booktabs", "graphicx")
FIGURES, README = "figures.tex", "README.md"


@dataclass(frozen=True)
class Drawn:
    """What was written for a study.

    Parameters
    ----------
    study : Study
        The study.
    stored : dict
        Its documents, by part.
    figures : tuple of (name of the files, caption, alternative, width in inches)
        Its figures.
    tables : tuple of (name of the file, caption)
        Its tables.
    """

    study: Study
    stored: dict[str, Record]
    figures: tuple[tuple[str, str, str, float], ...]
    tables: tuple[tuple[str, str], ...]


def draw_studies(
    studies: Sequence[Study],
    style: Style,
    folder: Path,
    tell: Callable[[str, float, float], None] | None = None,
) -> list[str]:
    """Draw all figures as PDF, SVG and PNG, write all tables for LaTeX, and say what they show.

    Parameters
    ----------
    studies : sequence of Study
        The studies; one without stored data is left out.
    style : Style
        Sizes and fonts.
    folder : Path
        Where to; the same data give the same bytes.
    tell : callable, optional
        Called with (study, studies done, all studies).

    Returns
    -------
    list of str
        Names of the studies that were left out.

    Raises
    ------
    InputError
        If no study has stored data, or two files would have one name.
    StorageError
        If a file can not be written.
    """
    stored = {study.name: read_documents(study.folder) for study in studies}
    found = [study for study in studies if stored[study.name]]
    if not found:
        names = ", ".join(stored) or "none"
        raise InputError(f"`studies` must have stored data to be drawn; got {names} without any")
    drawn: list[Drawn] = []
    for place, study in enumerate(found):
        if tell is not None:
            tell(study.name, place, len(found))
        drawn.append(_draw(study, stored[study.name], style, folder))
    if tell is not None:
        tell("captions", len(found), len(found))
    write_atomically(folder / FIGURES, figures_tex(drawn, style).encode())
    write_atomically(folder / README, readme(drawn, style).encode())
    return [name for name, documents in stored.items() if not documents]


def _draw(study: Study, stored: dict[str, Record], style: Style, folder: Path) -> Drawn:
    results = {name: document["results"] for name, document in stored.items()}
    figures, tables = [], []
    for figure in study.kind.figures(results, style):
        name = f"{study.name}-{figure.name}"
        write_figure(folder / name, figure.drawing, style)
        width = float(figure.drawing.get_figwidth())
        figures.append((name, figure.caption, figure.alternative, width))
    for table in study.kind.tables(results):
        named = dataclasses.replace(table, name=f"{study.name}-{table.name}")
        content = named.latex("table*" if _columns(style) > 1 else "table")
        write_atomically(folder / f"{named.name}.tex", content.encode())
        tables.append((named.name, table.caption))
    for names in ([f[0] for f in figures], [t[0] for t in tables]):
        if len(set(names)) < len(names):
            raise InputError(f"figures and tables must have names of their own; got {names}")
    return Drawn(study, stored, tuple(figures), tuple(tables))


def _columns(style: Style) -> int:
    """Columns of text on a page of this style."""
    return 2 if style.paper and style.full > 1.9 * style.column else 1


def figures_tex(drawn: Sequence[Drawn], style: Style) -> str:
    """Figure environments with captions and labels, in LaTeX.

    Parameters
    ----------
    drawn : sequence of Drawn
        What was written.
    style : Style
        Wide figures of a page of two columns span both.
    """
    lines = [f"% \\usepackage{{{package}}}" for package in PACKAGES]
    lines.append("% Files are as wide as they are included: nothing is scaled.")
    for one in drawn:
        for name, caption, _, width in one.figures:
            wide = _columns(style) > 1 and width > style.column + 0.01
            environment = "figure*" if wide else "figure"
            lines += [
                "",
                rf"\begin{{{environment}}}[t]",
                r"\centering",
                rf"\includegraphics[width={width:.4g}in]{{{name}.pdf}}",
                rf"\caption{{{tex(caption)}}}",
                rf"\label{{fig:{name}}}",
                rf"\end{{{environment}}}",
            ]
    return "\n".join(lines) + "\n"


def readme(drawn: Sequence[Drawn], style: Style) -> str:
    """What every file shows, from which data, and how those were made.

    Parameters
    ----------
    drawn : sequence of Drawn
        What was written.
    style : Style
        Sizes and fonts.
    """
    sizes = f"{style.column:g} and {style.full:g} inches wide, text of {style.font:g} points"
    lines = [
        f"# Figures and tables: {style.name}",
        "",
        f"Figures are {sizes}; PNG at {style.dpi} pixels an inch. `{FIGURES}` has their "
        f"environments, with captions and labels (packages {', '.join(PACKAGES)}).",
        "",
        f"Drawn from stored data by `gradconv figures --style {style.name}`.",
    ]
    for one in drawn:
        lines += ["", f"## {one.study.title}", "", one.study.question, "", *_origin(one)]
        for name, caption, alternative, width in one.figures:
            files = ", ".join(f"`{name}.{kind}`" for kind in KINDS)
            text = f"{plain(caption)} *{plain(alternative)}*"
            lines += ["", f"- {files} ({width:g} in): {text}"]
        lines += [f"- `{name}.tex`: {plain(caption)}" for name, caption in one.tables]
    return "\n".join(lines) + "\n"


def _origin(one: Drawn) -> list[str]:
    """Command, and commit and hashes of every part, as a table."""
    size = next(iter(one.stored.values()))["size"]
    lines = [
        f"Data: `gradconv study {one.study.name} --size {size} --store`",
        "",
        "| part | commit | configuration | SHA-256 of the data |",
        "| --- | --- | --- | --- |",
    ]
    for part, document in one.stored.items():
        origin = document["provenance"]
        commit = (origin["commit"] or "none")[:12] + (" (dirty)" if origin["dirty"] else "")
        (file,) = (one.study.folder / DATA).glob(f"{part}.json*")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        hashed = origin["configuration_hash"][:12]
        lines.append(f"| {part} | {commit} | {hashed} | {digest} |")
    return lines
