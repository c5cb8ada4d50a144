"""Figure of what training plans cost, drawn from their document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, LAW, MARKERS, SCREEN, Style
from gradconv.multilevel.costs.present import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]


def work_figure(units: Record, networks: Mapping[str, Record], style: Style = SCREEN) -> Figure:
    """Work spent against steps, a multiscale step by level, and counted operations.

    Parameters
    ----------
    units : dict
        Plans, levels and ``gamma``, as `gradconv.multilevel.costs.document` has them; of each plan
        its ``path`` too, pairs of steps and work at the ends of its stages.
    networks : mapping of str to dict
        The same with operations, by name of the network; without any there are two panels.
    style : Style
        Sizes and fonts.
    """
    from matplotlib.figure import Figure

    with style.apply():
        figure = Figure(figsize=(style.full, 0.36 * style.full), layout="constrained")
        axes = figure.subplots(1, 3 if networks else 2)
        _paths(axes[0], units)
        _step(axes[1], units)
        if networks:
            _growth(axes[2], units, networks)
    return figure


def _paths(axis: Axes, units: Record) -> None:
    plans = units["plans"]
    longest = max(plan["steps"] for plan in plans)
    for plan, colour, marker in zip(plans, COLOURS, MARKERS, strict=False):
        steps, spent = np.array(plan["path"]).T
        fine = np.unique(np.concatenate([steps, np.linspace(steps[-1] / 200, steps[-1], 200)]))[1:]
        axis.plot(fine, np.interp(fine, steps, spent), color=colour)
        axis.plot(steps[1:], spent[1:], marker, color=colour, label=plan["name"])
        axis.annotate(
            count(plan["work_units"]),
            (steps[-1], spent[-1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize="x-small",
        )
    axis.set_yscale("log")
    top = max(plan["work_units"] for plan in plans)
    axis.set_xlim(0, 1.38 * longest)
    axis.set_ylim(top / 1e3, 3.0 * top)
    axis.set_xlabel("step")
    axis.set_ylabel("work units spent")
    axis.legend(loc="lower right", frameon=False, fontsize="x-small")


def _step(axis: Axes, units: Record) -> None:
    levels = units["levels"]
    work = [level["work_units_per_step"] for level in levels]
    axis.bar(range(len(levels)), work, width=0.7, color=COLOURS[1])
    for level, height in zip(levels, work, strict=True):
        axis.annotate(
            f"{count(level['samples'])} ×\n{level['term']:.3g}",
            (level["level"], height),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize="x-small",
        )
    axis.set_ylim(0, 1.25 * max(work))
    axis.set_xticks(range(len(levels)))
    axis.set_xlabel("level ℓ (0: coarsest)")
    axis.set_ylabel("work units of a multiscale step")


def _growth(axis: Axes, units: Record, networks: Mapping[str, Record]) -> None:
    levels = [level["level"] for level in units["levels"]]
    for (name, result), colour, marker, face in zip(
        networks.items(), COLOURS, MARKERS, ("none", *COLOURS[1:]), strict=False
    ):
        flops = np.array([level["flops"] for level in result["levels"]])
        axis.plot(
            levels,
            flops / flops[-1],
            marker,
            color=colour,
            markerfacecolor=face,
            markersize=7.0 if face == "none" else 4.0,  # both are seen where they coincide
            label=f"{name}: operations",
        )
    law = [level["gradient"] for level in units["levels"]]
    gamma = f"{units['gamma']:g}"
    axis.plot(levels, law, label=rf"law $2^{{-{gamma}(L-\ell)}}$", **LAW)
    axis.set_yscale("log", base=2)
    axis.set_xticks(levels)
    axis.set_xlabel("level ℓ (0: coarsest)")
    axis.set_ylabel("cost of a gradient / the finest's")
    axis.legend(loc="upper left", frameon=False, fontsize="x-small")
