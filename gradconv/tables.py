"""Tables as data, and their Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gradconv.errors import InputError

# Characters that LaTeX reads as commands, or that fonts of pdfTeX lack.
ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\(<\)",
    ">": r"\(>\)",
    "–": "--",
    "−": r"\(-\)",
    "±": r"\(\pm\)",
    "×": r"\(\times\)",
    "·": r"\(\cdot\)",
    "→": r"\(\to\)",
    "≈": r"\(\approx\)",
    "∝": r"\(\propto\)",
    "∞": r"\(\infty\)",
    "∇": r"\(\nabla\)",
    "∂": r"\(\partial\)",
    "‖": r"\(\|\)",
    "“": "``",
    "”": "''",
    "≤": r"\(\le\)",
    "≥": r"\(\ge\)",
    "α": r"\(\alpha\)",
    "β": r"\(\beta\)",
    "γ": r"\(\gamma\)",
    "θ": r"\(\theta\)",
    "λ": r"\(\lambda\)",
    "σ": r"\(\sigma\)",
    "τ": r"\(\tau\)",
    "√": r"\(\surd\)",
    "½": r"\(\frac12\)",
    "…": r"\dots{}",
}
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵈ", [*"0123456789-+d"], strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉ₗ", [*"0123456789l"], strict=True))


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

    def latex(self) -> str:
        """Floating table with caption and label (package booktabs)."""
        columns = "l" * len(self.header)
        lines = [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
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
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def tex(text: str) -> str:
    """Escape text for LaTeX; ``h^...`` and raised digits become mathematics, ``**...**`` bold.

    What stands between two dollar signs is mathematics already, for Markdown too.

    Parameters
    ----------
    text : str
        Plain text.
    """
    formulas = re.split(r"\$(.+?)\$", text)
    return "".join(
        rf"\({part}\)" if odd else _words(part)
        for part, odd in zip(formulas, _alternating(len(formulas)), strict=True)
    )


def _words(text: str) -> str:
    bold = re.split(r"\*\*(.+?)\*\*", text)
    return "".join(
        rf"\textbf{{{_tex(part)}}}" if odd else _tex(part)
        for part, odd in zip(bold, _alternating(len(bold)), strict=True)
    )


def _tex(text: str) -> str:
    raised, lowered = "".join(RAISED), "".join(LOWERED)
    found = []
    for part in re.split(rf"(h\^[-\w/.]+|[{raised}]+|[{lowered}]+)", text):
        if part.startswith("h^"):
            found.append(rf"\(h^{{{part[2:]}}}\)")
        elif part and part[0] in RAISED:
            found.append(rf"\(^{{{''.join(RAISED[c] for c in part)}}}\)")
        elif part and part[0] in LOWERED:
            found.append(rf"\(_{{{''.join(LOWERED[c] for c in part)}}}\)")
        else:
            found.append("".join(ESCAPES.get(c, c) for c in part))
    return "".join(found)


def _alternating(count: int) -> list[bool]:
    return [place % 2 == 1 for place in range(count)]


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    return text.replace("|", "∣").replace("\n", " ").replace("<", "&lt;")
