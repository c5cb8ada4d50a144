"""Several multilevel diagnoses beside each other, drawn from their records; nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, LAW, MARKERS, Style, mesh_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
LINES: Any = {"single": (0, (5.0, 2.0)), "multilevel": "-"}


def comparison_figure(results: Sequence[Record], style: Style) -> Figure:
    """Variance of the differences against the level, and cost against error: a colour a model.

    Parameters
    ----------
    results : sequence of dict
        Documents of diagnoses on the same data and meshes, each with its ``title``.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    with style.apply():
        figure = Figure(figsize=(style.full, 0.33 * style.full + 1.1), layout="constrained")
        variance, cost = figure.subplots(1, 2)
        handles = []
        for place, result in enumerate(results):
            colour = COLOURS[place % len(COLOURS)]
            marker = MARKERS[place % len(MARKERS)]
            _variance(variance, result, colour, marker)
            _cost(cost, result, colour, marker)
            handles.append(_handle(_label(result), colour, marker))
        law = any(_laws(r) for r in results)
        _finish_variance(variance, results[0])
        _finish_cost(cost, results)
        figure.legend(handles=[*handles, *_kinds(law)], loc="outside lower center", frameon=False,
                      ncols=2)  # fmt: skip
    return figure


def _label(result: Record) -> str:
    beta = result["groups"][0]["beta"]
    if beta["order"] is None:
        return f"{result['title']}: β undecided"
    low, high = beta["order_interval"]
    ends = ("−∞" if low is None else f"{low:+.2f}", "∞" if high is None else f"{high:+.2f}")
    text = f"β = {beta['order']:+.2f} [{ends[0]}, {ends[1]}]".replace("-", "−")
    return f"{result['title']}: {text}"


def _laws(result: Record) -> list[Record]:
    """Laws of β that are the model's own."""
    return [w for w in result["laws"] if w["own"] and w["symbol"] == "beta" and any(w["values"])]


def _variance(axis: Axes, result: Record, colour: str, marker: str) -> None:
    group = result["groups"][0]
    h = np.array([level["h"] for level in result["levels"]])[1:]
    scale = group["fine_variance"][-1]
    values = _array(group["difference_variance"])[1:] / scale
    errors = _array(group["difference_variance_stderr"])[1:] / scale
    seen = values > 0
    above = 2.0 * np.nan_to_num(errors[seen], posinf=0.0)
    below = np.minimum(above, 0.8 * values[seen])  # a logarithmic axis has no zero
    axis.errorbar(h[seen], values[seen], yerr=[below, above], color=colour, marker=marker,
                  linestyle="none", capsize=2.0, linewidth=0.9, zorder=3)  # fmt: skip
    beta = group["beta"]
    if beta["order"] is not None and beta["coefficient"] is not None:
        first, last = beta["window"]
        window = h[first : last + 1]
        axis.plot(window, beta["coefficient"] * window ** beta["order"] / scale, color=colour)
    for law in _laws(result):
        axis.plot(h, _array(law["values"]) / scale, **LAW)


def _finish_variance(axis: Axes, result: Record) -> None:
    h = [level["h"] for level in result["levels"]][1:]
    mesh_axis(axis, h)
    axis.set_yscale("log")
    axis.minorticks_off()
    axis.grid(True, color="0.9", linewidth=0.6)
    axis.set_title("variance of the difference")
    axis.set_ylabel("V(h) / variance on the finest level")


def _cost(axis: Axes, result: Record, colour: str, marker: str) -> None:
    scale = result["errors"]["scale"]
    for estimator, line in LINES.items():
        rows = [f for f in result["errors"]["forecasts"] if f["estimator"] == estimator]
        axis.plot(
            [f["variance"] ** 0.5 / scale for f in rows],
            [f["cost"] for f in rows],
            color=colour,
            linestyle=line,
        )
        done = [f["measured"] | {"forecast": f} for f in rows if f["measured"]]
        if not done:
            continue
        reached = np.array([m["variance"] for m in done]) ** 0.5 / scale
        low, high = (
            np.array([m["variance_interval"][i] for m in done]) ** 0.5 / scale for i in (0, 1)
        )
        axis.errorbar(
            reached,
            [m["cost"] for m in done],
            xerr=[reached - low, high - reached],
            color=colour,
            marker=marker,
            markerfacecolor="white" if estimator == "single" else colour,
            linestyle="none",
            capsize=2.0,
            linewidth=0.9,
            zorder=3,
        )


def _finish_cost(axis: Axes, results: Sequence[Record]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.invert_xaxis()
    axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axis.xaxis.set_minor_formatter(lambda v, _: "")
    axis.grid(True, color="0.9", linewidth=0.6)
    axis.set_title("cost of an error")
    axis.set_xlabel("relative error, smaller to the right")
    axis.set_ylabel(f"cost ({results[0]['errors']['unit'].split(' (')[0]})")


def _kinds(law: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    faces = {"single": "white", "multilevel": "0.3"}
    words = {"single": "single level", "multilevel": "multilevel"}
    found = [
        Line2D(
            [],
            [],
            color="0.3",
            linestyle=line,
            marker="o",
            markerfacecolor=faces[name],
            label=words[name],
        )
        for name, line in LINES.items()
    ]
    return [*found, *([Line2D([], [], label="law, not fitted", **LAW)] if law else [])]


def _handle(name: str, colour: str, marker: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, label=name)


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=float)
