"""What a failed assertion says: the claim, what was measured, a table, a figure, a snippet."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gradconv.testing.session import failure_files, figures_wait
from gradconv.testing.snippets import snippet

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class CheckFailed(AssertionError):
    """A numerical assertion that does not hold.

    Attributes
    ----------
    check : str
        Name of the assertion.
    reason : str
        Why it failed.
    figure : pathlib.Path or None
        The figure; None if there is none. Under the pytest plugin it is drawn once the test has
        failed.
    snippet : str
        Python code that repeats the assertion.
    """

    def __init__(
        self,
        message: str,
        check: str,
        reason: str,
        figure: Path | None,
        snippet: str,
        draw: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(message)
        self.check = check
        self.reason = reason
        self.figure = figure
        self.snippet = snippet
        self._draw = draw

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it travel between processes, without the figure that waits."""
        return (CheckFailed, (str(self), self.check, self.reason, self.figure, self.snippet))

    def draw(self) -> str:
        """Draw the figure if it waits to be drawn; return why it could not be, or an empty text."""
        draw, self._draw = self._draw, None
        return draw() if draw else ""


CheckFailed.__module__ = "gradconv.testing"  # where users find it, and what pytest prints

Rows = Sequence[Sequence[str]]


def table(columns: Sequence[str], rows: Rows) -> str:
    """Lay out cells in columns that are aligned to the right, but the first to the left."""
    cells = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def fail(
    check: Callable[..., Any],
    claim: str,
    reason: str,
    facts: Mapping[str, str],
    columns: Sequence[str],
    rows: Rows,
    arguments: Mapping[str, Any],
    draw: Callable[[Axes], None] | None,
) -> NoReturn:
    """Raise `CheckFailed` with all that a reader needs to go on.

    Parameters
    ----------
    check : callable
        The assertion.
    claim : str
        What was asserted.
    reason : str
        Why it does not hold.
    facts : mapping of str to str
        Further lines of the message by label.
    columns, rows
        Head and cells of the table.
    arguments : mapping of str to object
        Arguments of the call, for the snippet.
    draw : callable or None
        Draws the figure on the axes that it is given; None where there is nothing to draw.
    """
    __tracebackhide__ = True
    name = str(getattr(check, "__name__", check))
    stem = failure_files(name)
    path = stem.with_name(stem.name + ".png")

    def paint() -> str:
        return _figure(draw, claim, path) if draw else "there is nothing to draw"

    wait = draw is not None and figures_wait()
    trouble = "" if wait else paint()
    figure = None if trouble else path
    try:
        code = snippet(check, arguments, stem)
    except Exception as error:  # nor must a snippet hide the failure
        code = f"# could not be written ({type(error).__name__}: {error})"
    lines = [f"{name}: {claim}", ""]
    shown = {"failed": reason, **facts, "figure": str(figure) if figure else f"none: {trouble}"}
    width = max(len(label) for label in shown) + 2
    for label, text in shown.items():
        lines.append(f"  {label.ljust(width)}{text}")
    if rows:
        lines += ["", textwrap.indent(table(columns, rows), "  ")]
    lines += ["", "  to reproduce:", "", textwrap.indent(code, "    ")]
    raise CheckFailed("\n".join(lines), name, reason, figure, code, paint if wait else None)


def _figure(draw: Callable[[Axes], None], claim: str, path: Path) -> str:
    """Draw and keep the figure; a failure to draw must not hide the failure of the check."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import matplotlib
            from matplotlib.figure import Figure

            from gradconv.figures import SCREEN, figure_bytes

            with matplotlib.rc_context(SCREEN.rc):
                figure = Figure(figsize=(5.2, 3.9), layout="constrained")
                axes = figure.subplots()
                draw(axes)
                axes.set_title("\n".join(textwrap.wrap(claim, 64)))
                path.write_bytes(figure_bytes(figure, "png"))
    except Exception as error:
        return f"could not be drawn ({type(error).__name__}: {error})"
    return ""
