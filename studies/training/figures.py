"""Figures of the study, drawn from what `summaries` gives; nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from summaries import (
    FULL,
    SINGLE,
    Record,
    axis_summary,
    budget_summary,
    curve,
    group,
    moments,
    start_curve,
)

from gradconv.figures import COLOURS, MARKERS, SCREEN

STRATEGIES = (SINGLE, "multiscale", FULL, "progressive", "random-crops")
CONVS = ("standard", "mfc")
LINES: Any = ("-", (0, (5.0, 1.5)), (0, (1.2, 1.2)), (0, (6.0, 1.5, 1.2, 1.5)), (0, (3.0, 3.0)))
UNITS = {"work": ("work units", 1.0), "flops": ("10⁹ FLOPs", 1e-9), "seconds": ("seconds", 1.0)}
WIDE = 300.0  # of the ends of an axis, from which on it names decades only
NARROW = 5.0
STARTS = ("cold", "1 level below", "2 levels below", "3 levels below")


def _style(position: int, **more: Any) -> dict[str, Any]:
    return {
        "color": COLOURS[position],
        "linestyle": LINES[position % len(LINES)],
        "linewidth": 1.3,
        "markersize": 4.5,
        **more,
    }


def _marked(position: int, **more: Any) -> dict[str, Any]:
    return _style(position, marker=MARKERS[position], **more)


def budgets(runs: list[Record]) -> Figure:
    """Test MSE at fixed budgets against each cost."""
    with matplotlib.rc_context(SCREEN.rc):
        found = budget_summary(runs)["lines"]
        figure, axes = _panels(len(found), len(UNITS), sharey="all")
        for row, (conv, by_strategy) in zip(axes, found.items(), strict=True):
            for axis, (cost, (label, unit)) in zip(row, UNITS.items(), strict=True):
                for strategy, rows in by_strategy.items():
                    axis.errorbar(
                        [r[cost].mean * unit for r in rows],
                        [r["mse"].mean for r in rows],
                        yerr=_bars([r["mse"] for r in rows]),
                        capsize=2.0,
                        elinewidth=0.8,
                        **_marked(STRATEGIES.index(strategy)),
                    )
                _log_log(axis, label, "test MSE" if cost == "work" else "")
            row[1].set_title(f"{conv} convolutions")
        _legend(figure, STRATEGIES, _marked)
    return figure


def convolutions(noise: list[Record], depth: list[Record] | None = None) -> Figure:
    """Standard and mesh-free convolutions against noise and depth, and the ratio of their MSE."""
    rows = [("standard deviation σ of the noise, image in [0, 1]", _by_noise(noise))]
    if depth:
        rows.append(("layers", axis_summary(depth, "layers", float)))
    with matplotlib.rc_context(SCREEN.rc):
        figure, axes = _panels(len(rows), 2, width=4.3)
        names = [(conv, strategy) for strategy in (SINGLE, FULL) for conv in CONVS]
        for row, (label, found) in zip(axes, rows, strict=True):
            for position, key in enumerate(names):
                entries = found["lines"].get(key, [])
                row[0].errorbar(
                    [e["x"] for e in entries],
                    [e["mse"].mean for e in entries],
                    yerr=_bars([e["mse"] for e in entries]),
                    capsize=2.0,
                    elinewidth=0.8,
                    **_marked(position),
                )
            for position, strategy in ((0, SINGLE), (2, FULL)):
                entries = found["ratios"].get(strategy, [])
                shift = 0.97 if position else 1.03  # intervals side by side
                ratios = [e["ratio"] for e in entries]
                row[1].errorbar(
                    [e["x"] * shift for e in entries],
                    [r.value for r in ratios],
                    yerr=[[r.value - r.low for r in ratios], [r.high - r.value for r in ratios]],
                    capsize=2.5,
                    **_marked(position, color=COLOURS[4 + position // 2 * 2]),
                    label=strategy,
                )
            row[1].axhline(1.0, color="0.3", linewidth=1.0, linestyle=":")
            ticks = list(dict.fromkeys(e["x"] for v in found["lines"].values() for e in v))
            _log_log(row[0], label, "test MSE", ticks)
            _log_log(row[1], label, "MSE of mfc / MSE of standard", ticks)
        axes[0, 1].legend(frameon=False, title="ratio with 95 % interval")
        _legend(figure, [f"{conv}, {strategy}" for conv, strategy in names], _marked, columns=2)
    return figure


def _by_noise(runs: list[Record]) -> Record:
    return axis_summary(runs, "task", lambda task: float(task.partition(":")[2]))


def hot_starts(runs: list[Record]) -> Figure:
    """Validation MSE on the finest mesh, from cold and from hot starts."""
    with matplotlib.rc_context(SCREEN.rc):
        found = group(runs, "setup", "conv")
        setups = list(dict.fromkeys(key[0] for key in found))
        figure, axes = _panels(len(setups), len(CONVS), width=4.3, sharex="all", sharey="row")
        for row, setup in zip(axes, setups, strict=True):
            for axis, conv in zip(row, CONVS, strict=True):
                mine = found.get((setup, conv), [])
                for below in range(len(STARTS)):
                    started = [r for r in mine if len(r["legs"]) == below + 1]
                    _band(axis, start_curve(started), _style(below))
                axis.set_title(f"{setup}, {conv}")
                label = "steps on the finest mesh" if setup == setups[-1] else ""
                _log_log(axis, label, "validation MSE" if conv == CONVS[0] else "")
                _linear(axis)
        _legend(figure, STARTS, _style)
    return figure


def curves(runs: list[Record]) -> Figure:
    """Validation MSE against work units and seconds."""
    with matplotlib.rc_context(SCREEN.rc):
        found = group(runs, "setup", "conv")
        costs = ("work", "seconds")
        figure, axes = _panels(len(costs), len(found), width=2.9, sharey="col")
        for row, cost in zip(axes, costs, strict=True):
            for axis, (key, mine) in zip(row, found.items(), strict=True):
                for (strategy,), same in group(mine, "strategy").items():
                    _band(axis, curve(same, cost), _style(STRATEGIES.index(strategy)))
                if cost == "work":
                    axis.set_title(", ".join(key))
                _log_log(axis, UNITS[cost][0], "validation MSE" if axis is row[0] else "")
        _legend(figure, STRATEGIES[:3], _style)
    return figure


def terms(runs: list[Record]) -> Figure:
    """Gradient norm and variance of each term through multiscale training."""
    with matplotlib.rc_context(SCREEN.rc):
        mine = [r for r in runs if r["strategy"] == "multiscale"]
        found = group(mine, "setup", "conv")
        names = {"norm": "norm of the mean", "variance": "variance"}
        figure, axes = _panels(len(names), len(found), width=2.9, sharey="row")
        levels = 0
        for row, (quantity, name) in zip(axes, names.items(), strict=True):
            for axis, (key, same) in zip(row, found.items(), strict=True):
                by_level = moments(same, quantity)
                levels = max(levels, len(by_level))
                for level, points in by_level.items():
                    axis.plot(*zip(*points, strict=True), **_marked(level))
                if quantity == "norm":
                    axis.set_title(", ".join(key))
                _log_log(axis, "step", f"{name} of the term" if axis is row[0] else "")
                _linear(axis)
        sizes = mine[0]["sizes"]
        labels = [f"{sizes[0]}²"] + [f"{fine}² − {coarse}²" for coarse, fine in pairwise(sizes)]
        _legend(figure, labels[:levels], _marked)
    return figure


# -- parts --------------------------------------------------------------------------------------


def _panels(rows: int, columns: int, width: float = 3.3, **shared: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width * columns, 2.6 * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _bars(spreads: Sequence[Any]) -> list[list[float]]:
    """Standard deviations as bars that stay on a logarithmic axis."""
    bars = [0.0 if math.isnan(s.sd) else s.sd for s in spreads]
    below = [min(bar, 0.9 * s.mean) for bar, s in zip(bars, spreads, strict=True)]
    return [below, bars]


def _band(axis: Axes, points: Sequence[tuple[float, ...]], style: dict[str, Any]) -> None:
    """Mean over the seeds, with what lies between the least and the greatest shaded."""
    if not points:
        return
    x, middle, low, high = zip(*points, strict=True)
    axis.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
    axis.plot(x, middle, **style)


def _log_log(axis: Axes, x: str, y: str, ticks: Sequence[float] = ()) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(True, which="major", color="0.9", linewidth=0.6)
    for side in (axis.xaxis, axis.yaxis):
        low, high = side.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high < WIDE * low else (1.0,)
        narrow = high < NARROW * low  # too little room for powers
        side.set_major_locator(MaxNLocator(6) if narrow else LogLocator(subs=subs, numticks=20))
        side.set_major_formatter(FuncFormatter(_plain))
        side.set_minor_locator(NullLocator())
    if ticks:
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _plain(value: float, _: int | None = None) -> str:
    """A number as one writes it, a small one as a power of ten times it."""
    if value >= 1e-3:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e")
    factor = "" if float(digits) == 1.0 else rf"{float(digits):g} \cdot "
    return f"${factor}10^{{{int(power)}}}$"


def _linear(axis: Axes) -> None:
    axis.set_xscale("linear")
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.set_xlim(left=0.0)


def _legend(
    figure: Figure,
    names: Sequence[str],
    style: Callable[[int], dict[str, Any]],
    columns: int | None = None,
) -> None:
    handles = [Line2D([], [], label=name, **style(i)) for i, name in enumerate(names)]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns or len(names), frameon=False
    )


# name of the file: blocks that it needs, blocks that it can do without, and who draws it
FIGURES: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Figure]]] = {
    "budgets": (("budgets",), (), budgets),
    "convolutions": (("noise",), ("depth",), convolutions),
    "hot-starts": (("hot-starts",), (), hot_starts),
    "curves": (("curves",), (), curves),
    "terms": (("curves",), (), terms),
}
