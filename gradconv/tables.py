"""Tables as data, and their Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gradconv.errors import InputError
from gradconv.latex import plain, tex

__all__ = ["Table", "plain", "tex"]


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
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise InputError(
                    f"`rows` must have {len(self.header)} cells each, as the header has; "
                    f"got {len(row)} in {row!r}"
                )

    def markdown(self) -> str:
        """Pipe table with its caption above and its notes below."""
        lines = [self.caption, "", _pipes(self.header), _pipes(["---"] * len(self.header))]
        lines += [_pipes(_plain(cell) for cell in row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def latex(self, environment: str = "table") -> str:
        """Floating table with caption and label (package booktabs).

        Parameters
        ----------
        environment : str
            ``"table*"`` spans both columns of a page.
        """
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


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    return text.replace("|", "∣").replace("\n", " ").replace("<", "&lt;")
