"""Tables as data, and their Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradconv.errors import InputError
from gradconv.latex import plain, tex

__all__ = ["Table", "pipes", "plain", "tex"]


@dataclass(frozen=True)
class Table:
    """A table: caption, header, rows of text.

    Parameters
    ----------
    name : str
        Short name: that of its file, and its label in LaTeX.
    caption : str
        What it shows, in sentences.
    header : tuple of str
        Column names.
    rows : tuple of tuple of str
        Cells, as many a row as there are columns. ``**bold**`` is bold.
    notes : tuple of str
        What stands under the table.
    widths : tuple of float
        Shares of the width of the text by column, 0 for one as wide as its cells; empty: all are.
        Cells of a column with a width are paragraphs, and a line break in one is kept. Such a
        table may be longer than a page.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    widths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.widths and len(self.widths) != len(self.header):
            raise InputError(
                f"`widths` must be one for each of the {len(self.header)} columns; "
                f"got {len(self.widths)}"
            )
        for row in self.rows:
            if len(row) != len(self.header):
                raise InputError(
                    f"`rows` must have {len(self.header)} cells each, as the header has; "
                    f"got {len(row)} in {row!r}"
                )

    def markdown(self) -> str:
        """Pipe table with its caption above and its notes below."""
        lines = [self.caption, "", *pipes(self.header, self.rows)]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def latex(self, environment: str = "table") -> str:
        """Floating table with caption and label (package booktabs).

        With `widths` one that breaks over pages (packages array, booktabs, longtable).

        Parameters
        ----------
        environment : str
            ``"table*"`` spans both columns of a page.
        """
        if self.widths:
            return self._long_latex()
        columns = "l" * len(self.header)
        lines = [
            r"% \usepackage{booktabs}",
            rf"\begin{{{environment}}}",
            r"\centering",
            rf"\caption{{{tex(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            " & ".join(tex(cell) for cell in self.header) + r" \\",
            r"\midrule",
            *(" & ".join(tex(cell) for cell in row) + r" \\" for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip\footnotesize {tex(note)}" for note in self.notes),
            rf"\end{{{environment}}}",
        ]
        return "\n".join(lines) + "\n"

    def _long_latex(self) -> str:
        columns = "".join(
            rf">{{\raggedright\arraybackslash}}p{{{width:g}\linewidth}}" if width else "l"
            for width in self.widths
        )
        lines = [
            r"% \usepackage{array,booktabs,longtable}",
            rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
            rf"\caption{{{tex(self.caption)}}}\label{{tab:{self.name}}} \\",
            r"\toprule",
            " & ".join(tex(cell) for cell in self.header) + r" \\",
            r"\midrule",
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *(
                " & ".join(r" \newline ".join(map(tex, cell.split("\n"))) for cell in row) + r" \\"
                for row in self.rows
            ),
            r"\end{longtable}",
            *(rf"\par\smallskip\noindent{{\footnotesize {tex(note)}}}" for note in self.notes),
        ]
        return "\n".join(lines) + "\n"


def pipes(header: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table; a bar in a cell is written as one that ends none."""
    lines = [header, ["---"] * len(header), *(map(_cell, row) for row in rows)]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _cell(text: str) -> str:
    return text.replace("|", "∣").replace("<", "&lt;").replace("\n", "<br>")
