"""Figures drawn from records alone; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, LAW, MARKERS, SCREEN, Style
from gradconv.problem import CHOICES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]

PANEL_CHOICES = tuple(name for name in CHOICES if name != "kernel")
LARGEST = 24  # panels; beyond this nobody reads them
LONGEST = 12  # characters of a kernel's name on one line with its order and law


def gap_figure(records: Sequence[Record], title: str = "", style: Style = SCREEN) -> Figure:
    """Log-log figure of mean and rms gap against h: a panel a problem, a colour a kernel.

    Points are measured, lines of their colour are fits, dotted dark lines the law, not fitted.

    Parameters
    ----------
    records : sequence of dict
        Records of the data contract.
    title : str
        Headline.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    panels, names = _panels(records)
    kernels = list(dict.fromkeys(r["kernel"] for r in records))
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    rows = sum(2 if _is_long(k) else 1 for k in kernels)  # of text under a panel
    width, height = 4.0 * columns + 0.6, (3.4 + 0.2 * rows) * lines + 0.7
    with style.apply():
        figure = Figure(
            figsize=(width, height),
            layout="constrained",
        )
        axes = figure.subplots(lines, columns, squeeze=False, sharex="all", sharey="all")
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        limits = _limits(records)
        for axis, key in zip(axes.flat, panels, strict=False):
            _draw_panel(axis, panels[key], kernels, limits)
            axis.set_title(_panel_title(names, key))
        for axis in axes[:, 0]:
            axis.set_ylabel("gap of neighbouring levels |g(h) − g(2h)|")
        for axis in axes.flat[: len(panels)]:
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("mesh size h (box = 1), finer to the right")
        figure.suptitle(_headline(records, title), fontsize=10.5, fontweight="bold")
        _legend(figure, any(_drawn(r) for r in records))
    return figure


def _headline(records: Sequence[Record], title: str) -> str:
    """Title, and how many problems are left out."""
    names = [c for c in PANEL_CHOICES if len({str(r[c]) for r in records}) > 1]
    count = len({tuple(str(r[c]) for c in names) for r in records})
    return f"{title}\n(the first {LARGEST} of {count} problems)" if count > LARGEST else title


def _panels(records: Sequence[Record]) -> tuple[dict[tuple[str, ...], list[Record]], list[str]]:
    names = [c for c in PANEL_CHOICES if len({str(r[c]) for r in records}) > 1]
    panels: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        panels.setdefault(tuple(str(record[c]) for c in names), []).append(record)
    return dict(list(panels.items())[:LARGEST]), names


def _panel_title(names: Sequence[str], key: Sequence[str]) -> str:
    return "\n".join(f"{name} {value}" for name, value in zip(names, key, strict=True))


def _limits(records: Sequence[Record]) -> tuple[float, float]:
    """Range of what is worth seeing: values at rounding level do not stretch the axis."""
    values = [
        v for r in records if r["quantity"] in ("mean_gap", "rms_gap") for v in r["values"] if v
    ]
    if not values:
        return 1e-16, 1.0
    top = max(values)
    return max(min(values), top * 1e-9) / 2.5, top * 4.0


def _draw_panel(
    axis: Axes, records: Sequence[Record], kernels: Sequence[str], limits: tuple[float, float]
) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_ylim(*limits)
    h = np.array(max((r["h"] for r in records if r["quantity"] == "mean_gap"), key=len))
    axis.set_xlim(h[0] * 1.3, h[-1] / 1.3)  # h falls to the right: refinement reads forwards
    every = -(-len(h) // 6)  # labels that do not touch
    names = [f"1/{round(1 / v)}" for v in h]
    axis.set_xticks(h, [n if (len(h) - 1 - i) % every == 0 else "" for i, n in enumerate(names)])
    axis.minorticks_off()
    axis.grid(True, which="major", color="0.9", linewidth=0.6)
    for record in records:
        if record["quantity"] in ("mean_gap", "rms_gap"):
            _draw_series(axis, record, kernels.index(record["kernel"]))
    _label_verdicts(axis, records, kernels)


def _draw_series(axis: Axes, record: Record, position: int) -> None:
    colour = COLOURS[position % len(COLOURS)]
    marker = MARKERS[position % len(MARKERS)]
    mean = record["quantity"] == "mean_gap"
    h, values = np.array(record["h"]), np.array(record["values"], dtype=float)
    errors = np.array(record["stderr"], dtype=float)
    seen = values > 0
    axis.errorbar(
        h[seen],
        values[seen],
        yerr=2.0 * errors[seen] if np.any(errors > 0) else None,
        color=colour,
        marker=marker,
        markersize=5.5 if mean else 7.5,
        linestyle="none",
        markerfacecolor=colour if mean else "none",
        capsize=2.0,
        linewidth=0.9,
        zorder=3 if mean else 2,
    )
    if record["order"] is not None:
        first, last = record["window"]
        window = h[first : last + 1]
        axis.plot(
            window,
            record["coefficient"] * window ** record["order"],
            color=colour,
            linestyle="-" if mean else "--",
            linewidth=1.3,
            alpha=0.9,
        )
    if _drawn(record):
        law = np.array(record["law"]["values"], dtype=float)  # NaN where it was not evaluated
        positive = law > 0
        axis.plot(h[positive], law[positive], **LAW)


def _drawn(record: Record) -> bool:
    """Whether a record's law is a line of the figure."""
    gap = record["quantity"] in ("mean_gap", "rms_gap")
    return gap and any(record.get("law", {}).get("values", ()))


def _law_words(record: Record) -> list[str]:
    """Derived order behind a verdict; nothing where there is no law."""
    law = record.get("law", {})
    if law.get("order") is not None:
        sign = "+" if law["order"] else ""
        words = f"law {law['order']:{sign}.4g}" + (" log" if law["log"] else "")
        return [words + (" disagrees" if law["agrees"] is False else "")]
    return [f"law {'agrees' if law['agrees'] else 'disagrees'}"] if law.get("values") else []


def _is_long(kernel: str) -> bool:
    """Whether a kernel's name leaves no room for order and law on the same line."""
    return len(kernel) > LONGEST


def _label_verdicts(axis: Axes, records: Sequence[Record], kernels: Sequence[str]) -> None:
    """State the mean gap's verdict and order of each kernel under its panel."""
    from matplotlib.lines import Line2D

    handles = []
    for record in records:
        if record["quantity"] != "mean_gap":
            continue
        position = kernels.index(record["kernel"])
        parts: list[str] = []
        if record["order"] is not None:
            low, high = record["order_interval"]
            parts.append(f"order {record['order']:+.2f} [{low:+.2f}, {high:+.2f}]")
        parts += _law_words(record)
        numbers = "; ".join(parts).replace("-", "−")
        colour, marker = COLOURS[position % len(COLOURS)], MARKERS[position % len(MARKERS)]
        label = f"{record['kernel']}: {record['verdict']}"
        if numbers:  # a label wider than its panel would push the panels apart
            label += ("\n" if _is_long(record["kernel"]) else ", ") + numbers
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=label))
    axis.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        frameon=False,
        labelcolor="linecolor",
        handletextpad=0.3,
    )


def _legend(figure: Figure, with_law: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color="0.3", marker="o", linestyle="-", label="mean gap, fit"),
        Line2D(
            [],
            [],
            color="0.3",
            marker="o",
            markerfacecolor="none",
            linestyle="--",
            markersize=7.5,
            label="rms gap (± 2 s.e.), fit",
        ),
    ]
    if with_law:
        handles.append(Line2D([], [], **LAW, label="law, not fitted"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
