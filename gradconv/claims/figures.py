"""One figure a claim, drawn from its record alone; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.claims.claim import Record
from gradconv.claims.present import verdict_text
from gradconv.claims.rules import word
from gradconv.figures import COLOURS, LAW, MARKERS, SCREEN, Style

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
            figure = _orders_figure(claim)
        elif any("cells" in m for m in measured):
            figure = _scale_figure(claim)
        else:
            figure = _criteria_figure(claim)
        _headline(figure, claim)
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
        fontsize=10.5,
        fontweight="bold",
        va="top",
    )
    figure.text(
        0.012,
        1.0 - 0.32 / total,
        text,
        fontsize=8.5,
        va="top",
        color=VERDICT_COLOURS[claim["verdict"]],
    )


def _new(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _orders_figure(claim: Record) -> Figure:
    measured = [m for m in claim["measurement"] if "h" in m]
    laws = {r["case"]: r for r in claim["law"] if "case" in r}
    dims = sorted({m["choices"]["dim"] for m in measured})
    varied = "target" if len({m["choices"]["target"] for m in measured}) > 1 else "noise"
    colours = list(dict.fromkeys(m["choices"][varied] for m in measured))
    markers = list(dict.fromkeys(_mesh_choice(m) for m in measured))
    entries = max(len({_series(m, varied) for m in measured if _dim(m) == d}) for d in dims)
    figure = _new(5.2 * len(dims) + 0.3, 3.5 + 0.19 * entries)
    axes = figure.subplots(1, len(dims), squeeze=False)[0]
    for axis, dim in zip(axes, dims, strict=True):
        shown = [m for m in measured if _dim(m) == dim]
        _mesh_axis(axis, shown)
        for m in shown:
            style = (colours.index(m["choices"][varied]), markers.index(_mesh_choice(m)))
            _draw_gap(axis, m, laws[m["case"]], *style)
        _order_legend(axis, shown, varied, colours, markers)
        axis.set_title(f"d = {dim}")
    axes[0].set_ylabel("gap of neighbouring levels |g(h) − g(2h)|")
    _kinds_legend(figure, measured, any(r.get("order") is not None for r in laws.values()))
    return figure


def _dim(record: Record) -> str:
    return str(record["choices"]["dim"])


def _mesh_choice(record: Record) -> str:
    return f"{record['choices']['setting']}, {record['choices']['restriction']}"


def _series(record: Record, varied: str) -> tuple[str, str]:
    return record["choices"][varied], _mesh_choice(record)


def _mesh_axis(axis: Axes, records: Sequence[Record]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    h = np.array(max((r["h"] for r in records), key=len))
    axis.set_xlim(h[0] * 1.3, h[-1] / 1.3)  # h falls to the right: refinement reads forwards
    names = [f"1/{round(1 / v)}" for v in h]
    every = -(-len(h) // 6)
    axis.set_xticks(h, [n if (len(h) - 1 - i) % every == 0 else "" for i, n in enumerate(names)])
    axis.minorticks_off()
    axis.grid(True, which="major", color="0.9", linewidth=0.6)
    axis.set_xlabel("mesh size h (box = 1), finer to the right")


def _draw_gap(axis: Axes, record: Record, law: Record, colour: int, marker: int) -> None:
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
        markersize=4.5 if mean else 6.5,
        markerfacecolor=tint if mean else "none",
        linestyle="none",
        capsize=2.0,
        linewidth=0.9,
    )
    if record["order"] is not None:
        first, last = record["window"]
        window = h[first : last + 1]
        line = record["coefficient"] * window ** record["order"]
        axis.plot(window, line, color=tint, linestyle="-" if mean else "--", linewidth=1.1)
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
                markersize=5.0,
                label=f"{word(varied, choice)}, {mesh}: {', '.join(orders)}",
            )
        )
    axis.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.08, -0.17),
        frameon=False,
        labelcolor="linecolor",
        handletextpad=0.2,
        labelspacing=0.25,
        fontsize=7.5,
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
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _scale_figure(claim: Record) -> Figure:
    figure = _new(9.5, 3.6)
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
        axis.grid(True, which="major", color="0.9", linewidth=0.6)
        axis.legend(frameon=False, loc="best")
    return figure


def _criteria_figure(claim: Record) -> Figure:
    laws: dict[str, Record] = {}
    for record in claim["law"]:
        laws.setdefault(record["quantity"], record)
    rows = {q: [m for m in claim["measurement"] if m["quantity"] == q] for q in laws}
    heights = [max(len(found), 1) + 1.2 for found in rows.values()]
    figure = _new(7.5, 0.28 * sum(heights) + 0.55 * len(rows) + 0.2)
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (quantity, found) in zip(axes, rows.items(), strict=True):
        _draw_criterion(axis, laws[quantity], found)
    return figure


def _draw_criterion(axis: Axes, law: Record, found: Sequence[Record]) -> None:
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
    axis.axvline(threshold, color="0.3", linestyle="--", linewidth=1.0)
    rows = max(len(found), 1)
    axis.set_ylim(rows - 0.4, -0.6)
    names = []
    for row, m in enumerate(found):
        colour = {"fails": COLOURS[1], "undecided": "0.5"}.get(m["grade"], COLOURS[0])
        axis.plot(m["interval"], [row, row], color=colour, linewidth=1.3)
        axis.plot(m["value"], row, color=colour, marker="s" if m["grade"] == "fails" else "o")
        conditions = [v for k, v in m["choices"].items() if k != "quantity"]
        names.append(", ".join(conditions) or m["grade"])
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
    axis.set_yticks(range(len(names)), names)
    longest = max(map(len, names), default=0)  # names on the left leave less room for the title
    axis.set_title(fill(law["statement"], max(30, 110 - longest)), fontsize=8.5, loc="left")
    axis.grid(True, axis="x", color="0.9", linewidth=0.6)
