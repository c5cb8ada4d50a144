"""Figures of the study, drawn from what the summaries give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gradconv.figures import COLOURS, SCREEN, Style, settle
from gradconv.studies.training import panels
from gradconv.studies.training.comparing import axis_summary, budget_summary
from gradconv.studies.training.curves import curve, extremes, moments
from gradconv.studies.training.groups import (
    CONVS,
    FULL,
    MULTISCALE,
    SINGLE,
    Key,
    Record,
    Runs,
    group,
)
from gradconv.studies.training.hot_starts import start_curve
from gradconv.studies.training.panels import marked, plain
from gradconv.studies.training.tables import noise_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRATEGIES = (SINGLE, MULTISCALE, FULL, "progressive", "random-crops", "multigrid")
UNITS = {"work": ("work units", 1.0), "flops": ("10⁹ FLOPs", 1e-9), "seconds": ("seconds", 1.0)}
STARTS = ("cold", "1 level below", "2 levels below", "3 levels below")
AXES = {"noise": "standard deviation σ of the noise", "depth": "layers"}


def budgets(runs: Runs, style: Style = SCREEN) -> Figure:
    """Test MSE at fixed budgets against each cost."""
    with style.apply():
        found = budget_summary(runs)["lines"]
        figure, axes = panels.grid(style, len(found), len(UNITS), sharey="all")
        drawn: list[str] = []
        for place, (conv, by_strategy) in enumerate(found.items()):
            row, last = axes[place], place == len(found) - 1
            for axis, (cost, (label, unit)) in zip(row, UNITS.items(), strict=True):
                for strategy, rows in by_strategy.items():
                    drawn += [] if strategy in drawn else [strategy]
                    axis.errorbar(
                        [r[cost].mean * unit for r in rows],
                        [r["mse"].mean for r in rows],
                        yerr=panels.deviations([r["mse"] for r in rows]),
                        elinewidth=0.8 * style.scale,
                        **marked(STRATEGIES.index(strategy)),
                    )
                panels.log_log(axis, label if last else "", "test MSE" if cost == "work" else "")
            row[1].set_title(f"{conv} convolutions")
        names = [(name, marked(STRATEGIES.index(name))) for name in STRATEGIES if name in drawn]
        panels.legend(figure, names)
    return figure


def convolutions(noise: Runs, depth: Runs | None = None, style: Style = SCREEN) -> Figure:
    """Standard and mesh-free convolutions against noise and depth, and the ratio of their MSE."""
    rows = [(AXES["noise"], axis_summary(noise, "task", noise_of))]
    if depth:
        rows.append((AXES["depth"], axis_summary(depth, "layers", float)))
    names = [(conv, strategy) for strategy in (SINGLE, FULL) for conv in CONVS]
    with style.apply():
        figure, axes = panels.grid(style, len(rows), 2, share=0.62)
        for row, (label, found) in zip(axes, rows, strict=True):
            for position, key in enumerate(names):
                entries = found["lines"].get(key, [])
                row[0].errorbar(
                    [e["x"] for e in entries],
                    [e["mse"].mean for e in entries],
                    yerr=panels.deviations([e["mse"] for e in entries]),
                    elinewidth=0.8 * style.scale,
                    **marked(position),
                )
            for position, strategy in ((0, SINGLE), (2, FULL)):
                entries = found["ratios"].get(strategy, [])
                shift = 0.97 if position else 1.03  # intervals side by side
                ratios = [e["ratio"] for e in entries]
                row[1].errorbar(
                    [e["x"] * shift for e in entries],
                    [r.value for r in ratios],
                    yerr=[[r.value - r.low for r in ratios], [r.high - r.value for r in ratios]],
                    **marked(position, color=COLOURS[4 + position // 2 * 2]),
                    label=strategy,
                )
            row[1].axhline(1.0, color="0.3", linewidth=style.scale, linestyle=":")
            ticks = list(dict.fromkeys(e["x"] for v in found["lines"].values() for e in v))
            panels.log_log(row[0], label, "test MSE", ticks)
            panels.log_log(row[1], label, "MSE of mfc / of standard", ticks)
        axes[0, 1].legend(title="ratio, 95 % interval", title_fontsize="small")
        keys = [(f"{conv}, {strategy}", marked(i)) for i, (conv, strategy) in enumerate(names)]
        panels.legend(figure, keys)
    return figure


def hot_starts(runs: Runs, style: Style = SCREEN) -> Figure:
    """Validation MSE on the finest mesh, from cold and from hot starts."""
    with style.apply():
        found = group(runs, "setup", "conv")
        setups = list(dict.fromkeys(key[0] for key in found))
        figure, axes = panels.grid(
            style, len(setups), len(CONVS), share=0.55, sharex="all", sharey="row"
        )
        most = 0
        for row, setup in zip(axes, setups, strict=True):
            for axis, conv in zip(row, CONVS, strict=True):
                mine = found.get((setup, conv), [])
                for below in range(len(STARTS)):
                    started = [r for r in mine if len(r["legs"]) == below + 1]
                    most = max(most, below) if started else most
                    panels.band(axis, start_curve(started), plain(below))
                axis.set_title(f"{setup}, {conv}")
                label = "steps on the finest mesh" if setup == setups[-1] else ""
                panels.log_log(axis, label, "validation MSE" if conv == CONVS[0] else "")
                panels.linear(axis)
        panels.legend(figure, [(STARTS[i], plain(i)) for i in range(most + 1)])
    return figure


def curves(runs: Runs, style: Style = SCREEN) -> Figure:
    """Validation MSE against work units and seconds."""
    with style.apply():
        found = group(runs, "setup", "conv")
        costs = ("work", "seconds")
        figure, axes = panels.grid(style, len(costs), len(found), share=0.95, sharey="col")
        drawn: list[str] = []
        for row, cost in zip(axes, costs, strict=True):
            for axis, (key, mine) in zip(row, found.items(), strict=True):
                for (strategy,), same in group(mine, "strategy").items():
                    drawn += [] if strategy in drawn else [strategy]
                    panels.band(axis, curve(same, cost), plain(STRATEGIES.index(strategy)))
                if cost == "work":
                    axis.set_title(_panel_title(key))
                panels.log_log(axis, UNITS[cost][0], "validation MSE" if axis is row[0] else "")
        panels.legend(figure, [(s, plain(STRATEGIES.index(s))) for s in STRATEGIES if s in drawn])
    return figure


def terms(runs: Runs, style: Style = SCREEN) -> Figure:
    """Gradient norm and variance of each term through multiscale training."""
    with style.apply():
        mine = [r for r in runs if r["strategy"] == MULTISCALE]
        found = group(mine, "setup", "conv")
        names = {"norm": "norm of the mean", "variance": "variance"}
        figure, axes = panels.grid(style, len(names), len(found), share=0.95, sharey="row")
        levels = 0
        for row, (quantity, name) in zip(axes, names.items(), strict=True):
            for axis, (key, same) in zip(row, found.items(), strict=True):
                by_level = moments(same, quantity)
                levels = max(levels, len(by_level))
                for level, points in by_level.items():
                    axis.plot(*zip(*points, strict=True), **marked(level))
                if quantity == "norm":
                    axis.set_title(_panel_title(key))
                label = "step" if quantity == "variance" else ""
                panels.log_log(axis, label, f"{name} of the term" if axis is row[0] else "")
                panels.linear(axis)
            for axis, same in zip(row, found.values(), strict=True):
                for level, ends in extremes(same, quantity).items():
                    panels.shade(axis, ends, marked(level)["color"])
        sizes = mine[0]["sizes"]
        labels = [f"{sizes[0]}²"] + [f"{fine}² − {coarse}²" for coarse, fine in pairwise(sizes)]
        panels.legend(figure, [(name, marked(i)) for i, name in enumerate(labels[:levels])])
    return figure


def _panel_title(key: Key) -> str:
    return ",\n".join(key)


# name of the file: blocks it is drawn from, of which the first must be there, and who draws it
FIGURES: dict[str, tuple[tuple[str, ...], Callable[..., Figure]]] = {
    "budgets": (("budgets",), budgets),
    "convolutions": (("noise", "depth"), convolutions),
    "hot-starts": (("hot-starts",), hot_starts),
    "curves": (("curves",), curves),
    "terms": (("curves",), terms),
}


def drawings(results: Mapping[str, Record], style: Style) -> dict[str, Figure]:
    """Figures of the blocks that are there, by name.

    Parameters
    ----------
    results : mapping of str to dict
        By block, its ``runs``.
    style : Style
        Sizes and fonts.
    """
    found: dict[str, Figure] = {}
    for name, (blocks, draw) in FIGURES.items():
        if blocks[0] in results:
            runs: list[Any] = [results[b]["runs"] for b in blocks if b in results]
            with style.apply():
                found[name] = draw(*runs, style=style)
                settle(found[name])
    return found
