"""Figures of the atlas, drawn from its document alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.atlas.present import Record, family, verdict_of
from gradconv.figures import COLOURS, MARKERS, SCREEN, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAIN = "identity"  # the target whose order is the colour of a cell
LIMIT = 2.0  # orders beyond are drawn in the last colour
# Dark for divergence, white for a stall, lighter blue for convergence: told apart in grey too.
SCALE = ("#5e1f00", "#b3520e", "#f0a35e", "#ffffff", "#cfe3f2", "#92c1e0", "#5a9bc8")
EXACT, UNKNOWN = "#2f6f9f", "#d9d9d9"
GROUPS = tuple((s, d) for s in ("coarsening", "refinement") for d in (1, 2, 3))


def phase_figure(document: Record, style: Style = SCREEN) -> Figure:
    """Phase diagram: where the mean gap converges, stalls and diverges; a panel a kernel.

    Parameters
    ----------
    document : dict
        Of `gradconv.atlas.build.atlas`.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Rows are noises, columns restrictions in groups of setting and dimension.
    """
    import matplotlib
    from matplotlib.figure import Figure

    cells = document["cells"]
    kernels = sorted({family(c) for c in cells})
    noises = sorted({_noise(c) for c in cells}, key=_noise_order)
    restrictions = sorted({c["restriction"] for c in cells})
    present = {(c["setting"], c["dim"]) for c in cells}
    groups = [g for g in GROUPS if g in present]
    lines = 8 + 0.6 * max(len(name) for name in restrictions) + len(kernels) * (3 + len(noises))
    height = max(3.4, 0.0108 * style.font * lines)
    with matplotlib.rc_context({**style.rc, "hatch.linewidth": 0.35}):
        figure = Figure(figsize=(style.full, height), layout="constrained")
        panels = figure.subplots(len(kernels), 1, squeeze=False, sharex=True)[:, 0]
        for axis, kernel in zip(panels, kernels, strict=True):
            own = [c for c in cells if family(c) == kernel]
            _panel(axis, own, noises, restrictions, groups)
            axis.set_title(
                kernel, loc="left", fontsize="medium", fontweight="bold", pad=1.3 * style.font
            )
        _columns(panels[-1], restrictions, groups)
        _scale(figure, panels)
        _key(figure)
    return figure


def _noise(cell: Record) -> str:
    name, _, rest = str(cell["noise"]).partition(":")
    if name != "power":
        return name
    share = float(rest.partition(":")[0]) / cell["dim"]
    known = {0.25: "d/4", 0.5: "d/2", 0.75: "3d/4", 1.0: "d", 1.5: "3d/2"}
    return f"power, α = {known.get(round(share, 4), f'{share:.3g} d')}"


def _noise_order(name: str) -> tuple[int, str]:
    first = ("none", "pixel", "uniform", "salt-and-pepper", "poisson", "white")
    powers = ("d/4", "d/2", "3d/4", "d", "3d/2")
    if name in first:
        return first.index(name), name
    if name.startswith("power"):
        end = name.rpartition("= ")[2]
        return (10 + powers.index(end) if end in powers else 20), name
    return 30, name


def _panel(
    axis: Axes,
    cells: Sequence[Record],
    noises: Sequence[str],
    restrictions: Sequence[str],
    groups: Sequence[tuple[str, int]],
) -> None:
    from matplotlib.patches import Rectangle

    byplace: dict[tuple[float, int], list[Record]] = {}
    for cell in cells:
        start = _start(groups.index((cell["setting"], cell["dim"])), len(restrictions))
        x = start + restrictions.index(cell["restriction"])
        byplace.setdefault((x, noises.index(_noise(cell))), []).append(cell)
    for (x, y), members in byplace.items():
        main = next((c for c in members if c["target"] == MAIN), members[0])
        patch = Rectangle((x, y), 1, 1, facecolor=_colour(main), edgecolor="white", linewidth=0.3)
        axis.add_patch(patch)
        gap = main["quantities"]["mean_gap"]
        if gap["status"] == "explained":
            hatch = Rectangle((x, y), 1, 1, fill=False, hatch="/////", linewidth=0, alpha=0.55)
            axis.add_patch(hatch)
        word = verdict_of(main)
        if word in ("diverges", "stalls"):
            mark = {"diverges": "_", "stalls": "o"}[word]
            colour = "white" if word == "diverges" else "black"
            axis.plot(x + 0.5, y + 0.5, mark, color=colour, markersize=3.6, markeredgewidth=1.0)
        if len({_side(c) for c in members}) > 1:
            axis.fill([x + 0.55, x + 1, x + 1], [y, y, y + 0.45], color="black", linewidth=0)
        if any(c["status"] == "disagrees" for c in members):
            axis.plot(x + 0.5, y + 0.5, "x", color="#d0021b", markersize=5, markeredgewidth=1.4)
    axis.set_xlim(0, _start(len(groups) - 1, len(restrictions)) + len(restrictions))
    axis.set_ylim(len(noises), 0)
    axis.set_yticks(np.arange(len(noises)) + 0.5, noises, fontsize="x-small")
    axis.tick_params(length=0, pad=1.5)
    for side in axis.spines.values():
        side.set_visible(False)
    for index, (setting, dim) in enumerate(groups):
        centre = _start(index, len(restrictions)) + 0.5 * len(restrictions)
        axis.text(
            centre, -0.25, f"{setting}, d = {dim}", ha="center", va="bottom", fontsize="x-small"
        )


def _start(index: int, width: int) -> float:
    return index * (width + 0.6)


def _order(cell: Record) -> float | None:
    """Order of the mean gap: derived, else measured."""
    own = cell["quantities"]["mean_gap"]
    found = own.get("derived") or own.get("measured") or {}
    order = found.get("order")
    return None if order is None else float(order)


def _side(cell: Record) -> str:
    """What a reader is told of a cell: which way the gap goes."""
    word = verdict_of(cell)
    return "converges" if word == "exact" else word


def _colour(cell: Record) -> Any:
    word, order = verdict_of(cell), _order(cell)
    if word == "exact" or (word == "converges" and order is None):
        return EXACT
    if word == "undecided" or order is None:
        return UNKNOWN
    return _map()(0.5 + 0.5 * float(np.clip(order / LIMIT, -1, 1)))


def _map() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("order", SCALE)


def _columns(axis: Axes, restrictions: Sequence[str], groups: Sequence[tuple[str, int]]) -> None:
    places = [
        _start(g, len(restrictions)) + i + 0.5
        for g in range(len(groups))
        for i in range(len(restrictions))
    ]
    labels = [name.replace("_", " ") for name in restrictions] * len(groups)
    axis.set_xticks(places, labels, rotation=90, fontsize="x-small")


def _scale(figure: Figure, panels: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(-LIMIT, LIMIT), _map())
    bar = figure.colorbar(
        mappable, ax=list(panels), location="right", aspect=60, pad=0.012, fraction=0.02
    )
    bar.set_label("signed order of the mean gap\n(negative: divergence)", fontsize="small")
    bar.set_ticks([-2, -1, 0, 1, 2], labels=["≤ −2", "−1", "0", "1", "≥ 2"], fontsize="x-small")
    bar.outline.set_linewidth(0.4)


def _key(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=EXACT, label="exact, or faster than any power"),
        Patch(facecolor=UNKNOWN, label="undecided"),
        Patch(
            facecolor="white",
            edgecolor="0.3",
            hatch="/////",
            linewidth=0.3,
            label="explained: no law to hold it against",
        ),
        Patch(facecolor=SCALE[1], label="– diverges"),
        Line2D([], [], marker="o", color="black", linestyle="none", markersize=3, label="stalls"),
        Line2D(
            [],
            [],
            marker="^",
            color="black",
            linestyle="none",
            markersize=4,
            label="another target goes another way",
        ),
        Line2D(
            [],
            [],
            marker="x",
            color="#d0021b",
            linestyle="none",
            markersize=5,
            markeredgewidth=1.4,
            label="disagrees",
        ),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize="x-small",
        columnspacing=1.2,
        handletextpad=0.5,
    )


def critical_figure(series: Sequence[Record], style: Style = SCREEN) -> Figure:
    """Order against the exponent of power-law noise, and where it crosses zero.

    Parameters
    ----------
    series : sequence of dict
        Of `gradconv.atlas.critical.critical_series`.
    style : Style
        Sizes and fonts.
    """
    from matplotlib.figure import Figure

    kernels = list(dict.fromkeys(s["kernel"] for s in series))
    settings = list(dict.fromkeys(s["setting"] for s in series))
    dims = list(dict.fromkeys(s["dim"] for s in series))
    width = style.full
    with style.apply():
        figure = Figure(figsize=(width, 0.9 + 0.24 * width * len(dims)), layout="constrained")
        panels = figure.subplots(
            len(dims), len(kernels) * len(settings), squeeze=False, sharey="row", sharex="row"
        )
        for row, dim in enumerate(dims):
            pairs = [(k, s) for k in kernels for s in settings]
            for axis, (kernel, setting) in zip(panels[row], pairs, strict=True):
                own = [
                    s
                    for s in series
                    if (s["kernel"], s["setting"], s["dim"]) == (kernel, setting, dim)
                ]
                _critical_panel(axis, own, dim)
                if row == 0:
                    axis.set_title(f"{kernel}, {setting}", fontsize="small")
                if row == len(dims) - 1:
                    axis.set_xlabel("exponent α of the noise", fontsize="small")
            panels[row, 0].set_ylabel(f"d = {dim}\norder of the gap", fontsize="small")
        _critical_key(figure)
    return figure


def _critical_panel(axis: Axes, series: Sequence[Record], dim: int) -> None:
    axis.axhline(0.0, color="0.6", linewidth=0.7)
    for position, record in enumerate(series):
        colour, marker = COLOURS[position], MARKERS[position]
        share = 0.5 if record["quantity"] == "variance" else 1.0  # of a standard deviation
        style = ("-", "--")[position % 2]
        axis.plot(
            record["alpha"],
            share * np.array(record["order"]),
            style,
            color=colour,
            linewidth=1.2,
        )
        for zero in record["zeros"]:
            axis.axvline(zero, color=colour, linewidth=0.7, linestyle=":")
            axis.annotate(
                f"α = {zero:.3g}",
                (zero, 0.0),
                xycoords=("data", "axes fraction"),
                xytext=(1.5, 4.0),
                textcoords="offset points",
                fontsize="x-small",
                color=colour,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
                zorder=6,
            )
        for point in record["points"]:
            order = share * point["order"]
            low, high = (share * end for end in point["interval"])
            axis.errorbar(
                point["alpha"],
                order,
                yerr=[[max(0.0, order - low)], [max(0.0, high - order)]],
                color=colour,
                marker=marker,
                markersize=3.2,
                capsize=1.5,
                linewidth=0.8,
                markerfacecolor="white" if position else colour,
            )
    axis.tick_params(labelsize="x-small")
    axis.set_xlim(0, 1.65 * dim)
    axis.set_ylim(-1.15 * dim - 0.3, 2.6)
    axis.grid(True, color="0.93", linewidth=0.5)


def _critical_key(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    names = ("mean gap", "standard deviation of the gap")
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[i],
            marker=MARKERS[i],
            linestyle=("-", "--")[i],
            markersize=3.5,
            markerfacecolor="white" if i else COLOURS[i],
            label=f"{name}: derived (line), measured (95 %)",
        )
        for i, name in enumerate(names)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="x-small"
    )
