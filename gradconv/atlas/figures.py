"""Figures of the atlas, drawn from its document alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.atlas.present import Record, family, verdict_of
from gradconv.figures import COLOURS, MARKERS, SCREEN, Style, settle, text_width
from gradconv.wording import NOISE_WORDS, kernel_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAIN = "identity"  # the target whose order is the colour of a cell
X_SMALL = 0.694  # of the size of text
KEY_LINES = 4.6
LIMIT = 2.0  # orders beyond are drawn in the last colour
# Dark for divergence, white for a stall, lighter blue for convergence: told apart in grey too.
SCALE = ("#5e1f00", "#b3520e", "#f0a35e", "#ffffff", "#cfe3f2", "#92c1e0", "#5a9bc8")
WRONG = "#d0021b"
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
    from matplotlib.figure import Figure

    cells = document["cells"]
    kernels = sorted({family(c) for c in cells})
    noises = sorted({_noise(c) for c in cells}, key=_noise_order)
    restrictions = sorted({c["restriction"] for c in cells})
    present = {(c["setting"], c["dim"]) for c in cells}
    groups = [g for g in GROUPS if g in present]
    em, row = style.font / 72.0, 1.2 * X_SMALL * style.font / 72.0  # inches
    with style.apply():
        left = max(text_width(n, "x-small") for n in noises) / 72.0 + 0.7 * em
        names = [n.replace("_", " ") for n in restrictions]
        under = max(text_width(n, "x-small") for n in names) / 72.0 + 0.7 * em
        wide = style.full - left - 6.6 * em
        high = row * len(noises)
        bottom = under + KEY_LINES * row + 0.5 * em
        height = bottom + len(kernels) * (high + 2.7 * em)
        figure = Figure(figsize=(style.full, height))

        def place(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
            return x / style.full, y / height, w / style.full, h / height

        for i, kernel in enumerate(kernels):
            y = height - (i + 1) * (high + 2.7 * em)
            axis = figure.add_axes(place(left, y, wide, high))
            own = [c for c in cells if family(c) == kernel]
            _panel(axis, own, noises, restrictions, groups, style.scale)
            words = kernel_words(kernel, 0)
            axis.set_title(words, loc="left", fontweight="bold", pad=1.4 * style.font)
            axis.set_xticks([])
        _columns(axis, names, groups)
        tall = min(height - bottom, 4.0)
        bar = figure.add_axes(
            place(left + wide + 1.5 * em, height - tall, 0.9 * em, tall - 2.7 * em)
        )
        _scale(figure, bar)
        _key(figure, style.scale)
    return figure


def _noise(cell: Record) -> str:
    name, _, rest = str(cell["noise"]).partition(":")
    if name != "power":
        return "no noise" if name == "none" else NOISE_WORDS.get(name, name)
    share = float(rest.partition(":")[0]) / cell["dim"]
    known = {0.25: "d/4", 0.5: "d/2", 0.75: "3d/4", 1.0: "d", 1.5: "3d/2"}
    return f"power, α = {known.get(round(share, 4), f'{share:.3g} d')}"


def _noise_order(name: str) -> tuple[int, str]:
    first = ("no noise", "pixel", "uniform", "salt-and-pepper", "Poisson", "white")
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
    size: float,
) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Polygon, Rectangle

    byplace: dict[tuple[float, int], list[Record]] = {}
    for cell in cells:
        start = _start(groups.index((cell["setting"], cell["dim"])), len(restrictions))
        x = start + restrictions.index(cell["restriction"])
        byplace.setdefault((x, noises.index(_noise(cell))), []).append(cell)
    mains = {
        place: next((c for c in members if c["target"] == MAIN), members[0])
        for place, members in byplace.items()
    }
    explained = [p for p, c in mains.items() if _status(c) == "explained"]
    divided = [p for p, members in byplace.items() if len({_side(c) for c in members}) > 1]
    wrong = [p for p, m in byplace.items() if any(c["status"] == "disagrees" for c in m)]
    squares = [Rectangle(place, 1, 1) for place in mains]
    colours = [_colour(c) for c in mains.values()]
    thin = 0.3 * size
    axis.add_collection(
        PatchCollection(squares, facecolors=colours, edgecolors="white", linewidths=thin)
    )
    hatched = [Rectangle(place, 1, 1) for place in explained]
    axis.add_collection(
        PatchCollection(hatched, facecolors="none", hatch="/////", linewidths=0.0, alpha=0.55)
    )
    corners = [Polygon([(x + 0.55, y), (x + 1, y), (x + 1, y + 0.45)]) for x, y in divided]
    axis.add_collection(PatchCollection(corners, facecolors="black", linewidths=0.0))
    for word, mark, colour in (("diverges", "_", "white"), ("stalls", "o", "black")):
        _marks(axis, [p for p, c in mains.items() if verdict_of(c) == word], mark, colour, size)
    _marks(axis, wrong, "x", WRONG, 1.4 * size)
    axis.set_xlim(0, _start(len(groups) - 1, len(restrictions)) + len(restrictions))
    axis.set_ylim(len(noises), 0)
    axis.set_yticks(np.arange(len(noises)) + 0.5, noises, fontsize="x-small")
    axis.tick_params(length=0, pad=1.5)
    for side in axis.spines.values():
        side.set_visible(False)
    for index, (setting, dim) in enumerate(groups):
        centre = _start(index, len(restrictions)) + 0.5 * len(restrictions)
        axis.text(centre, -0.25, f"{setting}, d = {dim}", ha="center", va="bottom", size="x-small")


def _status(cell: Record) -> str:
    return str(cell["quantities"]["mean_gap"]["status"])


def _marks(
    axis: Axes, places: Sequence[tuple[float, int]], mark: str, colour: str, size: float
) -> None:
    x, y = ([p[i] + 0.5 for p in places] for i in range(2))
    axis.plot(x, y, mark, color=colour, markersize=3.6 * size)


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


def _columns(axis: Axes, names: Sequence[str], groups: Sequence[tuple[str, int]]) -> None:
    places = [
        _start(g, len(names)) + i + 0.5 for g in range(len(groups)) for i in range(len(names))
    ]
    axis.set_xticks(places, [*names] * len(groups), rotation=90, fontsize="x-small")


def _scale(figure: Figure, axis: Axes) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(-LIMIT, LIMIT), _map()), cax=axis)
    bar.set_label("signed order of the mean gap", fontsize="small")
    bar.set_ticks([-2, -1, 0, 1, 2], labels=["≤ −2", "−1", "0", "1", "≥ 2"], fontsize="x-small")


def _key(figure: Figure, size: float) -> None:
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
            label="measured; no law to hold it against (explained)",
        ),
        Patch(facecolor=SCALE[1], label="– diverges"),
        Line2D([], [], marker="o", color="black", ls="none", markersize=3 * size, label="stalls"),
        Line2D(
            [],
            [],
            marker="^",
            color="black",
            linestyle="none",
            markersize=4 * size,
            label="another target goes another way",
        ),
        Line2D(
            [],
            [],
            marker="x",
            color=WRONG,
            linestyle="none",
            markersize=5 * size,
            label="disagrees",
        ),
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=3,
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
    pairs = [(k, s) for k in kernels for s in settings]
    with style.apply():
        size = style.scale * (0.75 if len(pairs) > 2 else 1.0)
        height = 5.0 * style.font / 72.0 + 0.75 * style.full / max(len(pairs), 3) * len(dims)
        figure = Figure(figsize=(style.full, height))
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
        panels = figure.subplots(len(dims), len(pairs), squeeze=False, sharey="row", sharex="row")
        for row, dim in enumerate(dims):
            for axis, (kernel, setting) in zip(panels[row], pairs, strict=True):
                own = [
                    s
                    for s in series
                    if (s["kernel"], s["setting"], s["dim"]) == (kernel, setting, dim)
                ]
                _critical_panel(axis, own, dim, size)
                if row == 0:
                    axis.set_title(f"{kernel_words(kernel, 0)}, {setting}", fontsize="small")
                if row == len(dims) - 1:
                    axis.set_xlabel("exponent α of the noise", fontsize="small")
            panels[row, 0].set_ylabel(f"order, d = {dim}", fontsize="small")
        _critical_key(figure, size)
        settle(figure)
    return figure


def _critical_panel(axis: Axes, series: Sequence[Record], dim: int, size: float) -> None:
    axis.axhline(0.0, color="0.6", linewidth=0.7 * size)
    for position, record in enumerate(series):
        colour, marker = COLOURS[position], MARKERS[position]
        share = 0.5 if record["quantity"] == "variance" else 1.0  # of a standard deviation
        style = ("-", "--")[position % 2]
        axis.plot(
            record["alpha"],
            share * np.array(record["order"]),
            style,
            color=colour,
            linewidth=1.3 * size,
        )
        for zero in record["zeros"]:
            axis.axvline(zero, color=colour, linewidth=0.7 * size, linestyle=":")
            axis.annotate(
                f"α = {zero:.3g}",
                (zero, 0.03),
                xycoords=("data", "axes fraction"),
                xytext=(2, 0),
                fontsize="x-small",
                color=colour,
                textcoords="offset points",
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
                markersize=4.0 * size,
                elinewidth=0.9 * size,
                markerfacecolor="white" if position else colour,
            )
    axis.set_xlim(0, 1.65 * dim)
    axis.set_ylim(-1.15 * dim - 0.3, 2.6)
    axis.grid(True)


def _critical_key(figure: Figure, size: float) -> None:
    from matplotlib.lines import Line2D

    names = ("mean gap", "standard deviation of the gap")
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[i],
            marker=MARKERS[i],
            linestyle=("-", "--")[i],
            markersize=4.0 * size,
            markerfacecolor="white" if i else COLOURS[i],
            label=f"{name}: derived (line), measured (95 % interval)",
        )
        for i, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
