"""One figure a claim, drawn from its record alone; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.claims.claim import Record
from gradconv.claims.present import verdict_text
from gradconv.claims.rules import word
from gradconv.figures import (
    COLOURS,
    LAW,
    MARKERS,
    SCREEN,
    TALLEST,
    Style,
    below,
    mesh_axis,
    settle,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 30.0  # of the ends of positive measurements, from which on their axis is logarithmic

VERDICT_COLOURS = {
    "reproduced": COLOURS[2],
    "sharpened": COLOURS[2],
    "holds only if": COLOURS[1],
    "not reproduced": COLOURS[1],
    "not yet measured": "0.35",
}


def claim_figure(claim: Record, style: Style = SCREEN) -> Figure:
    """Draw a claim: gaps against h, differences against resolution, or criteria.

    Parameters
    ----------
    claim : dict
        A claim of the ledger's document.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    measured = claim["measurement"]
    with style.apply():
        if any("h" in m for m in measured):
            figure = _orders_figure(claim, style)
        elif any("cells" in m for m in measured):
            figure = _scale_figure(claim, style)
        else:
            figure = _criteria_figure(claim, style)
        if not style.paper:
            _headline(figure, claim)
        settle(figure)
    return figure


def _headline(figure: Figure, claim: Record) -> None:
    """Put number, title and verdict above the panels."""
    width, height = figure.get_size_inches()
    text = fill(verdict_text(claim), int(width * 14))
    lines = text.count("\n") + 1
    space = 0.36 + 0.17 * lines
    figure.set_size_inches(width, height + space)
    total = height + space
    engine: Any = figure.get_layout_engine()  # declared without the options of its subclasses
    engine.set(rect=(0.0, 0.0, 1.0, height / total))
    figure.text(
        0.012,
        1.0 - 0.1 / total,
        f"{claim['number']}.  {claim['title']}",
        fontsize="large",
        fontweight="bold",
        va="top",
    )
    figure.text(
        0.012,
        1.0 - 0.32 / total,
        text,
        va="top",
        color=VERDICT_COLOURS[claim["verdict"]],
    )


def _new(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
    return figure


def _orders_figure(claim: Record, style: Style) -> Figure:
    measured = [m for m in claim["measurement"] if "h" in m]
    laws = {r["case"]: r for r in claim["law"] if "case" in r}
    dims = sorted({m["choices"]["dim"] for m in measured})
    varied = "target" if len({m["choices"]["target"] for m in measured}) > 1 else "noise"
    colours = list(dict.fromkeys(m["choices"][varied] for m in measured))
    markers = list(dict.fromkeys(_mesh_choice(m) for m in measured))
    entries = max(len({_series(m, varied) for m in measured if _dim(m) == d}) for d in dims)
    width = style.full if len(dims) > 1 else style.column
    height = 0.75 * width / len(dims) + 7.0 * style.font / 72.0 + entries * style.line
    figure = _new(width, height)
    axes = figure.subplots(1, len(dims), squeeze=False)[0]
    for axis, dim in zip(axes, dims, strict=True):
        shown = [m for m in measured if _dim(m) == dim]
        _mesh_axis(axis, shown)
        for m in shown:
            look = (colours.index(m["choices"][varied]), markers.index(_mesh_choice(m)))
            _draw_gap(axis, m, laws[m["case"]], *look, style.scale)
        _order_legend(axis, shown, varied, colours, markers, 3.6 * style.font)
        axis.set_title(f"d = {dim}")
    axes[0].set_ylabel(r"gap $\Vert g(h) - g(2h) \Vert$")
    _kinds_legend(figure, measured, any(r.get("order") is not None for r in laws.values()))
    return figure


def _dim(record: Record) -> str:
    return str(record["choices"]["dim"])


def _mesh_choice(record: Record) -> str:
    return f"{record['choices']['setting']}, {record['choices']['restriction']}"


def _series(record: Record, varied: str) -> tuple[str, str]:
    return record["choices"][varied], _mesh_choice(record)


def _mesh_axis(axis: Axes, records: Sequence[Record]) -> None:
    mesh_axis(axis, max((r["h"] for r in records), key=len))
    axis.set_yscale("log")
    axis.minorticks_off()
    axis.grid(True, which="major")


def _draw_gap(
    axis: Axes, record: Record, law: Record, colour: int, marker: int, size: float
) -> None:
    h, values = np.array(record["h"]), np.array(record["values"], dtype=float)
    errors = np.array(record["stderr"], dtype=float)
    seen = values > 0
    mean = record["quantity"] == "mean_gap"
    tint = COLOURS[colour % len(COLOURS)]
    axis.errorbar(
        h[seen],
        values[seen],
        yerr=2.0 * errors[seen] if np.any(errors > 0) else None,
        color=tint,
        marker=MARKERS[marker % len(MARKERS)],
        markersize=(4.5 if mean else 6.5) * size,
        markerfacecolor=tint if mean else "none",
        linestyle="none",
        elinewidth=0.9 * size,
    )
    if record["order"] is not None:
        first, last = record["window"]
        window = h[first : last + 1]
        line = record["coefficient"] * window ** record["order"]
        axis.plot(window, line, color=tint, linestyle="-" if mean else "--")
    if law.get("order") is None:
        return
    predicted = law["values"] or list(law["coefficient"] * h ** law["order"])
    axis.plot(h, np.array(predicted, dtype=float), **LAW)


def _order_legend(
    axis: Axes,
    records: Sequence[Record],
    varied: str,
    colours: Sequence[str],
    markers: Sequence[str],
    points: float,
) -> None:
    """State the measured orders of each series under its panel."""
    from matplotlib.lines import Line2D

    series: dict[tuple[str, str], list[str]] = {}
    for r in records:
        order = r["verdict"] if r["order"] is None else f"{r['order']:+.2f}".replace("-", "−")
        kind = r["quantity"].removesuffix("_gap")
        series.setdefault(_series(r, varied), []).append(f"{kind} {order}")
    handles = []
    for (choice, mesh), orders in series.items():
        handles.append(
            Line2D(
                [],
                [],
                color=COLOURS[colours.index(choice) % len(COLOURS)],
                marker=MARKERS[markers.index(mesh) % len(MARKERS)],
                linestyle="none",
                label=f"{word(varied, choice)}, {mesh}: {', '.join(orders)}",
            )
        )
    axis.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=below(axis, points),
        labelcolor="linecolor",
        handlelength=0.8,
        handletextpad=0.5,
        labelspacing=0.25,
        borderaxespad=0.0,
        borderpad=0.0,
        fontsize="x-small",
    )


def _kinds_legend(figure: Figure, records: Sequence[Record], with_law: bool) -> None:
    from matplotlib.lines import Line2D

    point: dict[str, Any] = {"color": "0.3", "marker": "o"}
    handles = [Line2D([], [], **point, linestyle="-", label="mean gap, fitted order")]
    if any(r["quantity"] == "rms_gap" for r in records):
        handles.append(
            Line2D(
                [],
                [],
                **point,
                markerfacecolor="none",
                linestyle="--",
                label="rms gap (± 2 s.e.), fitted order",
            )
        )
    if with_law:
        handles.append(Line2D([], [], **LAW, label="derived law"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _scale_figure(claim: Record, style: Style) -> Figure:
    figure = _new(style.full, 0.42 * style.full)
    left, right = figure.subplots(1, 2)
    impulses = [m for m in claim["measurement"] if "cells" in m]
    laws = [r for r in claim["law"] if "cells" in r]
    dims = sorted({_dim(m) for m in impulses})
    for position, dim in enumerate(dims):
        points = [(m["cells"], m["value"]) for m in impulses if _dim(m) == dim]
        curve = [(r["cells"], r["value"]) for r in laws if _dim(r) == dim]
        left.plot(
            *zip(*points, strict=True),
            color=COLOURS[position],
            marker=MARKERS[position],
            linestyle="none",
            label=f"d = {dim}, measured",
        )
        left.plot(*zip(*curve, strict=True), **LAW)
    left.plot([], [], **LAW, label=r"law $\sqrt{1 - \mathrm{erf}(\pi w/h)^d}$")
    left.set_title("impulse: the kernel itself")
    left.set_xlabel("kernel's standard deviation w / mesh size h")
    left.set_ylabel("relative difference to the finest mesh")
    bands = [m for m in claim["measurement"] if "control" in m]
    for position, m in enumerate(bands):
        tint, shape = COLOURS[position], MARKERS[position]
        dim = f"d = {_dim(m)}"
        right.plot(
            m["n"],
            m["values"],
            color=tint,
            marker=shape,
            linestyle="none",
            label=f"{dim}, mesh-free",
        )
        right.plot(
            m["n"],
            m["control"]["values"],
            color=tint,
            marker=shape,
            linestyle="none",
            markerfacecolor="none",
            label=f"{dim}, fixed stencil (control)",
        )
    right.set_title("band-limited input, even and odd meshes")
    right.set_xlabel("cells an axis n")
    right.set_xscale("log", base=2)
    ticks = [n for n in (bands[0]["n"] if bands else []) if n % 2 == 0]
    right.set_xticks(ticks, [str(n) for n in ticks])
    right.minorticks_off()
    for axis in (left, right):
        axis.set_yscale("log")
        axis.set_ylim(1e-17, 5.0)
        axis.grid(True, which="major")
        axis.legend(loc="best", fontsize="x-small")
    return figure


def _criteria_figure(claim: Record, style: Style) -> Figure:
    laws: dict[str, Record] = {}
    for record in claim["law"]:
        laws.setdefault(record["quantity"], record)
    rows = {q: [m for m in claim["measurement"] if m["quantity"] == q] for q in laws}
    # The names of rows take from the width of the titles, which break into as many lines.
    longest = max((text_width(n, "x-small") for q in rows for n in _names(rows[q])), default=0.0)
    room = 72.0 * style.full - longest - 2.0 * style.font
    titles = {q: _wrapped(laws[q]["statement"], room) for q in rows}
    row = 1.3 * 0.694 * style.font / 72.0
    heights = [max(len(found), 1) + 1.0 for found in rows.values()]
    space = sum(2.9 * style.font / 72.0 + (t.count("\n") + 1) * style.line for t in titles.values())
    if style.paper:
        row = min(row, (TALLEST - space) / sum(heights))
    figure = _new(style.full, row * sum(heights) + space)
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (quantity, found) in zip(axes, rows.items(), strict=True):
        _draw_criterion(axis, laws[quantity], found, style.scale)
        axis.set_title(titles[quantity], fontsize="small", loc="left")
    return figure


def _names(found: Sequence[Record]) -> list[str]:
    """Conditions of each measurement, or its grade where it has none."""
    conditions = [[v for k, v in m["choices"].items() if k != "quantity"] for m in found]
    return [", ".join(c) or m["grade"] for c, m in zip(conditions, found, strict=True)]


def _wrapped(text: str, room: float) -> str:
    """Text in small lines that are no wider than `room`, in points."""
    lines = [""]
    for word_ in text.split():
        longer = f"{lines[-1]} {word_}".strip()
        if lines[-1] and text_width(longer) > room:
            lines.append(word_)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _draw_criterion(axis: Axes, law: Record, found: Sequence[Record], size: float) -> None:
    """Threshold as a line, the side that the claim allows shaded, each measurement a row."""
    threshold = law["threshold"]
    ends = [threshold, *(e for m in found for e in m["interval"])]
    if min(ends) > 0 and max(ends) > WIDE * min(ends):  # factors: half and twice are as far from 1
        axis.set_xscale("log")
        low, high = min(ends) / 2.0, max(ends) * 2.0
    else:
        margin = 0.25 * (max(ends) - min(ends)) or 0.5 * abs(threshold) or 1.0
        low, high = min(ends) - margin, max(ends) + margin
    axis.set_xlim(low, high)
    if law["relation"] == "at least":
        axis.axvspan(threshold, high, color="0.93", zorder=0)
    elif law["relation"] == "at most":
        axis.axvspan(low, threshold, color="0.93", zorder=0)
    axis.axvline(threshold, color="0.3", linestyle="--", linewidth=1.0 * size)
    rows = max(len(found), 1)
    axis.set_ylim(rows - 0.4, -0.6)
    for row, m in enumerate(found):
        colour = {"fails": COLOURS[1], "undecided": "0.5"}.get(m["grade"], COLOURS[0])
        marker = {"fails": "s", "undecided": "D"}.get(m["grade"], "o")
        axis.plot(m["interval"], [row, row], color=colour)
        axis.plot(m["value"], row, color=colour, marker=marker, markersize=3.5 * size)
    if not found:
        axis.text(
            0.5,
            0.5,
            "not yet measured",
            transform=axis.transAxes,
            ha="center",
            va="center",
            color="0.35",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 3.0},
        )
    axis.set_yticks(range(len(found)), _names(found), fontsize="x-small")
    axis.tick_params(axis="x", labelsize="x-small")
    axis.grid(True, axis="x")
