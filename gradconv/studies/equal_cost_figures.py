"""Figures of variances at equal cost, drawn from their records alone; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradconv.figures import COLOURS, MARKERS, Style
from gradconv.studies.equal_cost_words import MEAN, NAMES, relative

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
ASIDE = 1.03
LINES = ((0, (5.0, 2.0)), "-", (0, (3.0, 1.5, 1.0, 1.5)), (0, (1.0, 1.5)))
LOOKS: Any = dict(zip(NAMES, zip(COLOURS, MARKERS, LINES, strict=False), strict=False))


def variance_figure(records: Sequence[Record], style: Style) -> Figure:
    """Variances against costs, a row a restriction and a column a network.

    Parameters
    ----------
    records : sequence of dict
        Parts of one number of training steps.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(r["case"] for r in records))
    rows = list(dict.fromkeys(r["restriction"] for r in records))
    width = style.column if len(cases) == 1 else style.full
    height = (0.85 * width / max(len(cases), 2.6)) * len(rows) + 0.6
    with style.apply():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(len(rows), len(cases), squeeze=False, sharex="all", sharey="all")
        for record in records:
            place = rows.index(record["restriction"]), cases.index(record["case"])
            _draw(axes[place], record, relative(records))
            axes[place].set_title(f"{record['case']}, {record['restriction']}")
        for axis in axes[-1]:
            axis.set_xlabel("cost [finest gradients]")
        for axis in axes[:, 0]:
            axis.set_ylabel(f"variance / {relative(records)}")
        _legend(figure)
    return figure


def _draw(axis: Axes, record: Record, by: str) -> None:
    squared = record["scale"] ** 2  # of the stored numbers; K of one scale is a sample's variance
    unit = 1.0 if by == MEAN else record["products"]["single"] / squared
    for place, (name, estimates) in enumerate(record["estimates"].items()):
        colour, marker, line = LOOKS[name]
        aside = ASIDE ** (place - 0.5 * (len(LOOKS) - 1))  # intervals beside each other
        ends: Any = [
            [abs(e["variance_interval"][side] - e["variance"]) / unit for e in estimates]
            for side in (0, 1)
        ]
        budgets = [e["budget"] for e in estimates]
        law = [record["products"][name] / (w * unit * squared) for w in budgets]
        axis.plot(budgets, law, color=colour, linestyle=line)
        axis.errorbar(
            [aside * e["cost"] for e in estimates],
            [e["variance"] / unit for e in estimates],
            yerr=ends,
            color=colour,
            marker=marker,
            linestyle="none",
            capsize=1.5,
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(budgets, [f"{w:g}" for w in budgets])
    axis.minorticks_off()


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=line, label=NAMES[name])
        for name, (colour, marker, line) in LOOKS.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        handlelength=3.5,
        title="lines: forecast K/W; points: measured, with 95 % intervals",
        title_fontsize="small",
    )
