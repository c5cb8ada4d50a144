"""Figure of an audit, drawn from its document alone; nothing is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, MARKERS, SCREEN, Style, below, mesh_axis, settle, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
SHOWN = 6  # layers that get a colour of their own; the rest are grey
SHORTEST = 6  # characters of a layer's name that stay, its last ones
TITLES = {"rms_gap": "rms gap", "mean_gap": "mean gap"}


def audit_figure(found: Record, title: str = "", style: Style = SCREEN) -> Figure:
    """Log-log figure of the gaps against h: the whole in black, a colour a layer, and aliasing.

    Points are measured (± 2 standard errors), lines are fits; layers beyond the six that diverge
    most or come first are grey.

    Parameters
    ----------
    found : dict
        The document of an audit.
    title : str
        Headline on screen; by default module and verdict.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    setup = found["provenance"]["configuration"]
    panels = 3 if found["aliasing"] else 2
    with style.apply():
        layers = _layers(found)
        head = not style.paper
        panel = style.full / panels
        lines = max(_entries(found, quantity, layers) for quantity in TITLES)
        height = 0.75 * panel + 5.0 * style.font / 72.0 + lines * style.line + 0.3 * head
        figure = Figure(figsize=(style.full, height), layout="constrained")
        share = (lines + 0.5) * style.line / height  # of the legends, which panels stay above
        engine: Any = figure.get_layout_engine()  # declared without the options of its subclasses
        engine.set(rect=(0.0, share, 1.0, 1.0 - share))
        axes = list(figure.subplots(1, panels))
        size = style.scale * (0.8 if panels > 2 else 1.0)
        room = 72.0 * panel - (2.3 if panels > 2 else 6.5) * style.font
        for axis, quantity in zip(axes, TITLES, strict=False):
            _draw_gaps(axis, found, quantity, layers, size, room)
        if found["aliasing"]:
            label = _label("whole", found["aliasing"], 72.0 * panel - 6.5 * style.font)
            _draw(axes[-1], found["aliasing"], "#000000", "o", 5.5 * size, 3, label)
            axes[-1].set_title("operator aliasing")
            axes[-1].set_ylabel("relative error of the output")
        for axis in axes:
            _scale(axis, found["rates"][0]["h"])
            _legend(axis, 3.6 * style.font)
        if head:
            figure.suptitle(title or f"{setup['module']}: the gradient {said(found['verdict'])}")
        settle(figure)
    return figure


def _entries(found: Record, quantity: str, layers: list[str]) -> int:
    """Lines of a panel's legend."""
    shown = [r for r in found["rates"] if r["quantity"] == quantity]
    return sum(r["kind"] == "whole" or r["group"] in layers for r in shown)


def said(verdict: str) -> str:
    """Verdict as the end of a sentence."""
    return verdict if verdict.endswith("s") else f"is {verdict}"


def _layers(found: Record) -> list[str]:
    """Layers that get a colour: those with grave findings first, then in order."""
    blamed = [f["layer"] for f in found["findings"] if f["severity"] in ("breaks", "suspect")]
    names = [r["group"] for r in found["rates"] if r["kind"] == "layer"]
    ordered = [n for n in dict.fromkeys(blamed) if n in names]
    return list(dict.fromkeys([*ordered, *names]))[:SHOWN]


def _draw_gaps(
    axis: Axes, found: Record, quantity: str, layers: list[str], size: float, room: float
) -> None:
    for record in found["rates"]:
        if record["quantity"] != quantity or record["kind"] == "parameter":
            continue
        name = record["group"]
        if record["kind"] == "whole":
            _draw(axis, record, "#000000", "o", 6.0 * size, 4, _label(name, record, room))
        elif name in layers:
            i = layers.index(name)
            colour = COLOURS[i % (len(COLOURS) - 1)]
            marker = MARKERS[(i + 1) % len(MARKERS)]
            _draw(axis, record, colour, marker, 4.5 * size, 3, _label(name, record, room))
        else:
            _draw(axis, record, "0.75", ".", 3.0 * size, 1)
    axis.set_title(TITLES[quantity])
    axis.set_ylabel(r"gap $\Vert g(h) - g(2h) \Vert$")


def _legend(axis: Axes, points: float) -> None:
    """Put the legend under the axis; no entry is wider than the panel."""
    entries = axis.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=below(axis, points),
        labelcolor="linecolor",
        handlelength=0.8,
        handletextpad=0.5,
        labelspacing=0.35,
        borderaxespad=0.0,
        borderpad=0.0,
    )
    entries.set_in_layout(False)


def _draw(
    axis: Axes,
    record: Record,
    colour: str,
    marker: str,
    size: float,
    order: int,
    label: str | None = None,
) -> None:
    h = np.array(record["h"])
    values = np.array(record["values"], dtype=float)
    errors = np.array(record["stderr"], dtype=float)
    seen = values > 0
    finite = np.where(np.isfinite(errors), errors, 0.0)
    axis.errorbar(
        h[seen],
        values[seen],
        yerr=2.0 * finite[seen] if np.any(finite > 0) else None,
        color=colour,
        marker=marker,
        markersize=size,
        linestyle="none",
        elinewidth=0.18 * size,
        zorder=order,
        label=label,
    )
    if record["order"] is not None and record["coefficient"] is not None:
        first, last = record["window"]
        window = h[first : last + 1]
        line = record["coefficient"] * window ** record["order"]
        axis.plot(window, line, color=colour, alpha=0.9, zorder=order)


def _label(name: str, record: Record, room: float) -> str:
    """Name, verdict and order; less of the name, or two lines, where `room`, in points, is short.

    A short name that does not fit on a line with the order goes above it.
    """
    text, order = f": {record['verdict']}", ""
    if record["order"] is not None:
        low, high = record["order_interval"]
        order = f"{record['order']:+.2f}"
        if low is not None and high is not None:
            order += f" [{low:+.2f}, {high:+.2f}]"
        order = order.replace("-", "−")
    whole = f"{name}{text}, {order}" if order else f"{name}{text}"
    if text_width(whole) <= room:
        return whole
    if name == "whole":
        return f"{name}{text}\n{order}"
    rest = whole.removeprefix(name)
    while len(name) > SHORTEST and text_width(f"…{name}{rest}") > room:
        name = name[1:]
    return f"…{name}{rest}"


def _scale(axis: Axes, h: list[float]) -> None:
    mesh_axis(axis, h, labels=5)
    if any(line.get_ydata().size for line in axis.get_lines()):  # type: ignore[union-attr]
        axis.set_yscale("log")
    axis.minorticks_off()
    axis.grid(True, which="major")
