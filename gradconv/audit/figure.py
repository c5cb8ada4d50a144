"""Figure of an audit, drawn from its document alone; nothing is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, MARKERS, SCREEN, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
SHOWN = 6  # layers that get a colour of their own; the rest are grey
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
        Headline; by default module and verdict.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    setup = found["provenance"]["configuration"]
    panels = 3 if found["aliasing"] else 2
    with style.apply():
        figure = Figure(figsize=(4.0 * panels + 0.4, 4.4), layout="constrained")
        axes = list(figure.subplots(1, panels))
        layers = _layers(found)
        for axis, quantity in zip(axes, TITLES, strict=False):
            _draw_gaps(axis, found, quantity, layers)
        if found["aliasing"]:
            label = _label("whole", found["aliasing"])
            _draw(axes[-1], found["aliasing"], "#000000", "o", 5.5, 3, label)
            axes[-1].set_title("operator aliasing")
            axes[-1].set_ylabel("relative error of the output, h against 2h")
            _legend(axes[-1])
        for axis in axes:
            _scale(axis, found["rates"][0]["h"])
        figure.suptitle(
            title or f"{setup['module']}: the gradient {said(found['verdict'])}",
            fontsize=10.5,
            fontweight="bold",
        )
    return figure


def said(verdict: str) -> str:
    """Verdict as the end of a sentence."""
    return verdict if verdict.endswith("s") else f"is {verdict}"


def _layers(found: Record) -> list[str]:
    """Layers that get a colour: those with grave findings first, then in order."""
    blamed = [f["layer"] for f in found["findings"] if f["severity"] in ("breaks", "suspect")]
    names = [r["group"] for r in found["rates"] if r["kind"] == "layer"]
    ordered = [n for n in dict.fromkeys(blamed) if n in names]
    return list(dict.fromkeys([*ordered, *names]))[:SHOWN]


def _draw_gaps(axis: Axes, found: Record, quantity: str, layers: list[str]) -> None:
    for record in found["rates"]:
        if record["quantity"] != quantity or record["kind"] == "parameter":
            continue
        name = record["group"]
        if record["kind"] == "whole":
            _draw(axis, record, "#000000", "o", 6.0, 4, _label(name, record))
        elif name in layers:
            i = layers.index(name)
            colour = COLOURS[i % (len(COLOURS) - 1)]
            marker = MARKERS[(i + 1) % len(MARKERS)]
            _draw(axis, record, colour, marker, 4.5, 3, _label(name, record))
        else:
            _draw(axis, record, "0.75", ".", 3.0, 1)
    axis.set_title(TITLES[quantity])
    axis.set_ylabel("gap of neighbouring levels |g(h) − g(2h)|")
    _legend(axis)


def _legend(axis: Axes) -> None:
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.18),
        frameon=False,
        labelcolor="linecolor",
        handletextpad=0.3,
    )


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
        capsize=2.0,
        linewidth=0.9,
        zorder=order,
        label=label,
    )
    if record["order"] is not None and record["coefficient"] is not None:
        first, last = record["window"]
        window = h[first : last + 1]
        line = record["coefficient"] * window ** record["order"]
        axis.plot(window, line, color=colour, linewidth=1.2, alpha=0.9, zorder=order)


def _label(name: str, record: Record) -> str:
    text = f"{name}: {record['verdict']}"
    if record["order"] is not None:
        low, high = record["order_interval"]
        text += f", {record['order']:+.2f}"
        if low is not None and high is not None:
            text += f" [{low:+.2f}, {high:+.2f}]"
    return text.replace("-", "−")


def _scale(axis: Axes, h: list[float]) -> None:
    axis.set_xscale("log", base=2)
    if any(line.get_ydata().size for line in axis.get_lines()):  # type: ignore[union-attr]
        axis.set_yscale("log")
    axis.set_xlim(h[0] * 1.3, h[-1] / 1.3)  # h falls to the right: refinement reads forwards
    axis.set_xticks(h, [f"1/{round(1 / v)}" for v in h])
    axis.minorticks_off()
    axis.grid(True, which="major", color="0.9", linewidth=0.6)
    axis.set_xlabel("mesh size h (box = 1), finer to the right")
