"""Figures of audited modules, drawn from their records alone; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, LAW, MARKERS, Style, mesh_axis
from gradconv.studies.audit_words import QUANTITIES, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
TITLES = {"rms_gap": "rms gap", "mean_gap": "mean gap"}
ZERO: Any = {"color": "0.35", "linewidth": 0.9, "linestyle": (0, (5.0, 2.0)), "zorder": 1}
ASIDE = 0.16  # between series beside each other, in rows or doublings


def orders_along(records: Sequence[Record], style: Style) -> Figure:
    """Signed orders against an option, rms and mean gap: a marker a module and case.

    Parameters
    ----------
    records : sequence of dict
        Audits, each with the value ``along`` that it is drawn at.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    found = series(records)
    modules = list(dict.fromkeys(module for module, _ in found))
    cases = list(dict.fromkeys(case for _, case in found))
    with style.apply():
        figure = Figure(figsize=(style.full, 0.29 * style.full + 1.0), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, quantity in zip(axes, QUANTITIES, strict=True):
            for place, ((module, case), own) in enumerate(found.items()):
                aside = 2.0 ** (ASIDE * (place - (len(found) - 1) / 2.0))
                look = _look(modules.index(module), cases.index(case))
                x = np.array([r["along"]["value"] for r in own], dtype=float)
                _intervals(axis, x * aside, [r["rates"][quantity] for r in own], look, upright=True)
            values = sorted({r["along"]["value"] for r in records})
            _along_axis(axis, values, records[0]["along"]["name"])
            axis.axhline(0.0, **ZERO)
            for law in _laws(records, quantity):
                axis.axhline(law, **LAW)
            axis.set_title(f"{TITLES[quantity]}")
        axes[0].set_ylabel("order q of the gap, $\\propto h^q$")
        _clip(axes[0], records, upright=True)
        low, high = axes[0].get_ylim()
        for axis, quantity in zip(axes, QUANTITIES, strict=True):
            for law in _laws(records, quantity):
                axis.annotate(
                    f"$\\propto h^{{{law:.1f}}}$",
                    (1.0, law),
                    xycoords=("axes fraction", "data"),
                    xytext=(-2, 2 if law > low + 0.1 * (high - low) else 8),
                    textcoords="offset points",
                    ha="right",
                    fontsize="x-small",
                )
            axis.annotate(
                "stalls",
                (0.0, 0.0),
                xycoords=("axes fraction", "data"),
                xytext=(3, 2),
                textcoords="offset points",
                fontsize="x-small",
                color="0.35",
            )
        _legend(figure, found, modules, cases, bool(_laws(records, "rms_gap")))
    return figure


def orders_by_module(records: Sequence[Record], style: Style) -> Figure:
    """Signed orders of the rms gap: a row a module, a marker a case.

    Parameters
    ----------
    records : sequence of dict
        Audits.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    modules = list(dict.fromkeys(r["module"] for r in records))
    cases = list(dict.fromkeys(r["case"] for r in records))
    with style.apply():
        height = 0.42 * len(modules) + 1.1
        figure = Figure(figsize=(style.full, height), layout="constrained")
        axis = figure.subplots()
        for place, case in enumerate(cases):
            own = [r for r in records if r["case"] == case]
            aside = 1.4 * ASIDE * (place - (len(cases) - 1) / 2.0)
            rows = np.array([modules.index(r["module"]) for r in own]) + aside
            look = _look(place, 0)
            rates = [r["rates"]["rms_gap"] for r in own]
            _intervals(axis, rows, rates, look, upright=False, decided=True)
            for row, record in zip(rows, own, strict=True):
                law = record["law"]["rms_gap"]
                if law is not None:
                    axis.plot([law, law], [row - 0.9 * ASIDE, row + 0.9 * ASIDE], **LAW)
        axis.axvline(0.0, **ZERO)
        axis.set_yticks(range(len(modules)), [_wrapped(m, 28) for m in modules])
        axis.set_ylim(len(modules) - 0.5, -0.5)
        for row in range(1, len(modules)):
            axis.axhline(row - 0.5, color="0.92", linewidth=0.6, zorder=0)
        axis.tick_params(axis="y", length=0)
        axis.grid(True, axis="x", color="0.9", linewidth=0.6)
        axis.set_xlabel("order of the rms gap: ← grows under refinement · stalls at 0 · vanishes →")
        _clip(axis, records, upright=False)
        keys = {(case, ""): [r for r in records if r["case"] == case] for case in cases}
        laws = any(r["law"]["rms_gap"] is not None for r in records)
        _legend(figure, keys, cases, [""], laws)
    return figure


def gaps(records: Sequence[Record], style: Style, along: bool) -> Figure:
    """Rms gaps against the mesh size, with fits: a panel a module, or a module and case.

    Parameters
    ----------
    records : sequence of dict
        Audits.
    style : Style
        Sizes and fonts.
    along : bool
        Whether a panel holds a series for each value of the option that orders are drawn against;
        else one for each case.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[Record]] = {}
    for r in records:
        panels.setdefault(f"{r['module']}, {r['case']}" if along else r["module"], []).append(r)
    names = [_series_name(r, along) for r in records]
    names = list(dict.fromkeys(names))
    wide = style.full > 8.0
    columns = min(len(panels), 4 if wide else 2 if along else 3)
    rows = -(-len(panels) // columns)
    with style.apply():
        size = style.full / columns
        height = 0.5 * size + 0.6 if along and not wide else 0.75 * size + 0.35
        figure = Figure(figsize=(style.full, height * rows + 0.5),
                        layout="constrained")  # fmt: skip
        # along an option slopes are compared between panels, else each module has its own scale
        axes = figure.subplots(rows, columns, squeeze=False, sharey="all" if along else "none")
        for place, axis in enumerate(axes.flat):
            if place >= len(panels):
                axis.set_visible(False)
                continue
            title = list(panels)[place]
            for record in panels[title]:
                _gap(axis, record, names.index(_series_name(record, along)))
            _mesh_axis(axis, panels[title], size)
            axis.set_title(_wrapped(title, int(13.0 * size)), fontsize="small")
            if place % columns == 0:
                axis.set_ylabel("rms gap |g(h) − g(2h)|", fontsize="small")
            if place >= len(panels) - columns:
                axis.set_xlabel("mesh size $h$, finer to the right", fontsize="small")
        figure.legend(
            handles=[_handle(name, *_colours(i)) for i, name in enumerate(names)],
            loc="outside lower center",
            ncols=min(len(names), 5 if along else 3),
            frameon=False,
        )
    return figure


def _wrapped(text: str, width: int) -> str:
    return fill(text, width, break_long_words=False)


def _series_name(record: Record, along: bool) -> str:
    return f"{record['along']['name']} {record['along']['value']}" if along else record["case"]


def _colours(place: int) -> tuple[str, str, str]:
    """Colour, marker and its face."""
    colour = COLOURS[place % len(COLOURS)]
    return colour, MARKERS[place % len(MARKERS)], colour


def _look(place: int, kind: int) -> tuple[str, str, str]:
    """Colour and marker of a place; faces are full for the first kind, then open."""
    colour, marker, _ = _colours(place)
    return colour, marker, colour if kind == 0 else "white"


def _intervals(
    axis: Axes,
    at: np.ndarray,
    rates: Sequence[Record],
    look: tuple[str, str, str],
    *,
    upright: bool,
    decided: bool = False,
) -> None:
    """Orders with their intervals, those without an order left out; open where undecided."""
    colour, marker, face = look
    for place, rate in zip(at, rates, strict=True):
        if rate["order"] is None:
            continue
        low, high = (
            1e3 * sign if end is None else end
            for sign, end in zip((-1.0, 1.0), rate["order_interval"], strict=True)
        )
        ends = [[rate["order"] - low], [high - rate["order"]]]
        orders = [rate["order"]]
        where: Any = ([place], orders, ends) if upright else (orders, [place], None, ends)
        axis.errorbar(
            *where,
            color=colour,
            marker=marker,
            markerfacecolor="white" if decided and rate["verdict"] == "undecided" else face,
            linestyle="none",
            capsize=2.0,
            linewidth=1.0,
            zorder=3,
        )


def _laws(records: Sequence[Record], quantity: str) -> list[float]:
    """Orders of laws of single layers; those that no eye tells apart once."""
    found = [r["law"][quantity] for r in records]
    seen: list[float] = []
    for law in found:
        if law is not None and all(abs(law - other) > 0.15 for other in seen):
            seen.append(law)
    return seen


def _clip(axis: Axes, records: Sequence[Record], *, upright: bool) -> None:
    """Limits that hold every order; wide intervals run over them."""
    orders = [
        r["rates"][q]["order"]
        for r in records
        for q in QUANTITIES
        if r["rates"][q]["order"] is not None
    ]
    laws = [law for q in QUANTITIES for law in _laws(records, q)]
    ends = (min([-0.5, *orders, *laws]) - 0.6, max([0.5, *orders, *laws]) + 0.6)
    axis.set(**{"ylim" if upright else "xlim": ends})


def _along_axis(axis: Axes, values: Sequence[float], name: str) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(v) for v in values])
    axis.minorticks_off()
    axis.set_xlim(min(values) / 1.5, max(values) * 2.0)
    axis.set_xlabel(name)
    axis.grid(True, axis="y", color="0.9", linewidth=0.6)


def _gap(axis: Axes, record: Record, place: int) -> None:
    rate = record["rates"]["rms_gap"]
    colour, marker, _ = _colours(place)
    h = np.array(rate["h"])
    values = np.array(rate["values"], dtype=float)
    errors = np.nan_to_num(np.array(rate["stderr"], dtype=float), posinf=0.0)
    seen = values > 0
    below = np.minimum(2.0 * errors[seen], 0.8 * values[seen])  # a logarithmic axis has no zero
    axis.errorbar(
        h[seen],
        values[seen],
        yerr=[below, 2.0 * errors[seen]],
        color=colour,
        marker=marker,
        linestyle="none",
        capsize=1.5,
        linewidth=0.8,
        zorder=3,
    )
    if rate["order"] is not None and rate["coefficient"] is not None:
        first, last = rate["window"]
        window = h[first : last + 1]
        axis.plot(window, rate["coefficient"] * window ** rate["order"], color=colour)


def _mesh_axis(axis: Axes, records: Sequence[Record], width: float) -> None:
    h = max((r["rates"]["rms_gap"]["h"] for r in records), key=len)
    mesh_axis(axis, h, labels=max(2, int(1.6 * width)), name=False)
    if any(v for r in records for v in r["rates"]["rms_gap"]["values"]):
        axis.set_yscale("log")
    axis.minorticks_off()
    axis.grid(True, which="major", color="0.9", linewidth=0.6)


def _handle(name: str, colour: str, marker: str, face: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=colour, marker=marker, markerfacecolor=face, linestyle="none", label=name
    )


def _legend(
    figure: Figure,
    found: dict[tuple[str, str], list[Record]],
    first: Sequence[str],
    second: Sequence[str],
    law: bool,
) -> None:
    from matplotlib.lines import Line2D

    handles = [
        _handle(", ".join(part for part in key if part), *_look(first.index(key[0]), kind))
        for key in found
        for kind in [second.index(key[1])]
    ]
    if law:
        handles.append(Line2D([], [], label="law of a single layer", **LAW))
    most = 4 if figure.get_size_inches()[0] > 8.0 else 3
    columns = min(most, -(-len(handles) // -(-len(handles) // most)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
