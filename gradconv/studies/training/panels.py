"""Panels of the study's figures: axes, bands, marks and legends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradconv.figures import COLOURS, MARKERS, Style
from gradconv.studies.training.spreads import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES: Any = ("-", (0, (5.0, 1.5)), (0, (1.2, 1.2)), (0, (6.0, 1.5, 1.2, 1.5)), (0, (3.0, 3.0)))
WIDE = 300.0  # of the ends of an axis, from which on it names decades only
NARROW = 4.0
Look = dict[str, Any]


def plain(position: int, **more: Any) -> Look:
    """Colour and dashes of a line."""
    return {"color": COLOURS[position], "linestyle": LINES[position % len(LINES)], **more}


def marked(position: int, **more: Any) -> Look:
    """Colour, dashes and marker of a line."""
    return plain(position, marker=MARKERS[position], **more)


def grid(
    style: Style, rows: int, columns: int, *, share: float = 0.8, **shared: Any
) -> tuple[Figure, Any]:
    """Panels across the page.

    Parameters
    ----------
    style : Style
        Its full width is used, or that of a column for one panel a row.
    rows, columns : int
        How many panels.
    share : float
        Height of a panel over its width.
    **shared
        ``sharex``, ``sharey`` of `matplotlib.figure.Figure.subplots`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : ndarray of Axes, shape ``(rows, columns)``
    """
    from matplotlib.figure import Figure

    width = style.full if columns > 1 else style.column
    height = share * width / columns * rows + 0.06 * style.font
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def deviations(spreads: Sequence[Spread]) -> list[list[float]]:
    """Standard deviations as bars that stay on a logarithmic axis."""
    bars = [0.0 if math.isnan(s.sd) else s.sd for s in spreads]
    below = [min(bar, 0.9 * s.mean) for bar, s in zip(bars, spreads, strict=True)]
    return [below, bars]


def band(axis: Axes, points: Sequence[tuple[float, ...]], look: Look) -> None:
    """Mean over the seeds, with what lies between the least and the greatest shaded."""
    if not points:
        return
    x, middle, low, high = zip(*points, strict=True)
    axis.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
    axis.plot(x, middle, **look)


def shade(axis: Axes, ends: Sequence[tuple[float, float, float]], colour: str) -> None:
    """Shade between the least and the greatest over the seeds, within the axis."""
    floor, top = axis.get_ylim()
    x, low, high = zip(*ends, strict=True)
    below, above = ([min(max(v, floor), top) for v in side] for side in (low, high))
    axis.fill_between(x, below, above, color=colour, alpha=0.18, linewidth=0)
    axis.set_ylim(floor, top)


def log_log(axis: Axes, x: str, y: str, ticks: Sequence[float] = ()) -> None:
    """Logarithmic axes with labels, and few names at their ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(True, which="major")
    for side in (axis.xaxis, axis.yaxis):
        low, high = side.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high < WIDE * low else (1.0,)
        narrow = high < NARROW * low  # too little room for powers
        side.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=subs, numticks=20))
        side.set_major_formatter(FuncFormatter(_number))
        side.set_minor_locator(NullLocator())
    if ticks:
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _number(value: float, _: int | None = None) -> str:
    """A number as one writes it, a small one as a power of ten times it."""
    if value >= 1e-3:
        return f"{value:g}"
    digits, power = f"{value:e}".split("e")
    factor = "" if float(digits) == 1.0 else rf"{float(digits):g} \cdot "
    return f"${factor}10^{{{int(power)}}}$"


def linear(axis: Axes) -> None:
    """Linear steps, from 0 on."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axis.set_xscale("linear")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.set_xlim(left=0.0)


def legend(figure: Figure, entries: Sequence[tuple[str, Look]]) -> None:
    """Names of all lines under the panels."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=name, **look) for name, look in entries]
    columns = min(len(entries), 6 if sum(len(n) for n, _ in entries) < 70 else 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
