"""Training curves, drawn from the logs of runs alone; nothing is computed here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.errors import InputError, shortened
from gradconv.figures import COLOURS, MARKERS, SCREEN, Style, settle
from gradconv.store import CONFIGURATION, write_figure
from gradconv.train.logs import COLUMNS, WHOLE, read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What may be empty: not measured at every row, or not for every term.
OPTIONAL = ("lr", "gradient_norm", "coarse_loss", "norm", "variance", "psnr", "ssim")
GROWING = ("step", "work", "flops", "seconds")  # from row to row
MOST = 8  # runs of one figure
ACROSS = 4  # runs side by side
COSTS = (("work", "work units"), ("seconds", "seconds"))
LINES: Any = ("-", (0, (5.0, 1.5)), (0, (1.2, 1.2)), (0, (6.0, 1.5, 1.2, 1.5)))
RATIO = 20.0  # of the largest to the smallest value, from which an axis is logarithmic
SMALL = 0.75  # of the usual size, where points are many
SHADES = "viridis"  # of levels: from dark to light in grey, too


@dataclass(frozen=True)
class RunCurves:
    """The logs of a run.

    Parameters
    ----------
    label : str
        What the run is called in a figure.
    steps, levels, validation : dict of ndarray
        A column each, named as in `gradconv.train.logs.COLUMNS`, shape ``(rows,)``, float64; NaN
        where nothing was measured.
    """

    label: str
    steps: Mapping[str, np.ndarray]
    levels: Mapping[str, np.ndarray]
    validation: Mapping[str, np.ndarray]


def read_run(folder: Path | str, label: str | None = None) -> RunCurves:
    """Read the logs of a run's folder, of a run that is still going too.

    Parameters
    ----------
    folder : path
        With ``steps.csv``, ``levels.csv`` and ``validation.csv``; the last may be missing.
    label : str, optional
        By default the strategy that the folder's configuration names, or the folder's name.

    Raises
    ------
    InputError
        If a file is missing or a column is corrupt; the message names file and column.
    """
    folder = Path(folder)
    return RunCurves(
        _label(folder) if label is None else label,
        _table(folder, "steps"),
        _table(folder, "levels"),
        _table(folder, "validation"),
    )


def draw_curves(runs: Sequence[RunCurves], path: Path | str) -> tuple[Path, ...]:
    """Draw the curves of runs into ``PATH.png``, ``.pdf`` and ``.svg``.

    Parameters
    ----------
    runs : sequence of RunCurves
        At most 8.
    path : path
        Without the ending.

    Returns
    -------
    tuple of Path
        The files.

    Raises
    ------
    InputError
        If there are none, or too many.
    StorageError
        If a file can not be written.
    """
    return tuple(write_figure(Path(path), curves_figure(runs)))


def curves_figure(runs: Sequence[RunCurves], style: Style = SCREEN) -> Figure:
    """Loss and validation against both costs, and gradient norm and variance by level.

    Above, a colour and a line style a run; below, a column a run and a shade and a marker a level.

    Parameters
    ----------
    runs : sequence of RunCurves
        At most 8.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.

    Raises
    ------
    InputError
        If there are none, or too many.
    """
    from matplotlib.figure import Figure

    if not 1 <= len(runs) <= MOST:
        raise InputError(f"`runs` must be 1 to {MOST} runs; got {len(runs)}")
    labels = _labels(runs)
    measured = [q for q in ("norm", "variance") if any(_seen(r.levels, q) for r in runs)]
    with style.apply():
        em = style.font / 72.0
        row = 0.21 * style.full + 3.6 * em  # of panels, with their labels
        legend = 2.2 * em * -(-len(runs) // ACROSS)
        lines = 1 if len(runs) == 1 else len(measured) * -(-len(runs) // ACROSS)
        heights = [2 * row + legend, *([lines * (row + 1.0 * em) + 2.0 * em] if measured else [])]
        figure = Figure(figsize=(style.full, sum(heights)))
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
        parts: Any = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        _draw_costs(parts[0], runs, labels)
        if measured:
            _draw_levels(parts[1], runs, labels, measured)
        settle(figure)
    return figure


# -- reading ------------------------------------------------------------------------------------


def _table(folder: Path, table: str) -> dict[str, np.ndarray]:
    path = folder / f"{table}.csv"
    optional = table == "validation" and not path.exists()  # a run without validation has none
    rows = [] if optional else read_table(folder, table)
    columns: dict[str, np.ndarray] = {}
    for place, name in enumerate(COLUMNS[table]):
        values = np.array(
            [_number(row[place], path, name, line) for line, row in enumerate(rows, 2)], dtype=float
        )
        falling = np.flatnonzero(np.diff(values) < 0)
        if name in GROWING and len(falling):
            raise InputError(
                f"`{name}` of {path} must not fall; it does in line {int(falling[0]) + 3}"
            )
        columns[name] = values
    return columns


def _number(text: str, path: Path, name: str, line: int) -> float:
    if not text and name in OPTIONAL:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if name in WHOLE and not value.is_integer():
        value = math.inf
    if not math.isfinite(value) or (value < 0 and name in (*GROWING, *WHOLE)):
        raise InputError(
            f"`{name}` of {path} must hold finite numbers; got {shortened(text)} in line {line}"
        )
    return value


def _label(folder: Path) -> str:
    """Strategy of the folder's configuration, else its name: a figure needs no more."""
    try:
        found = json.loads((folder / CONFIGURATION).read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    strategy = found.get("strategy") if isinstance(found, dict) else None
    return strategy if isinstance(strategy, str) else folder.resolve().name


def _labels(runs: Sequence[RunCurves]) -> list[str]:
    """Labels that tell the runs apart: a number behind those that are the same."""
    names = [run.label for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


# -- drawing ------------------------------------------------------------------------------------


def _draw_costs(part: Any, runs: Sequence[RunCurves], labels: Sequence[str]) -> None:
    from matplotlib import rcParams

    axes = part.subplots(2, 3, sharey="col")
    for row, (cost, cost_name) in zip(axes, COSTS, strict=True):
        for i, run in enumerate(runs):
            style: Any = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
            width = SMALL * rcParams["lines.linewidth"]
            row[0].plot(run.steps[cost], run.steps["loss"], linewidth=width, alpha=0.85, **style)
            for axis, quantity in zip(row[1:], ("mse", "psnr"), strict=True):
                axis.plot(
                    run.validation[cost],
                    run.validation[quantity],
                    marker=MARKERS[i % len(MARKERS)],
                    markersize=SMALL * rcParams["lines.markersize"],
                    **style,
                )
        for axis in row:
            axis.set_xlabel(cost_name)
    for column, name in enumerate(("training loss", "validation MSE", "validation PSNR (dB)")):
        for axis in axes[:, column]:
            _frame(axis, log_y=name != "validation PSNR (dB)")
            axis.set_ylabel(name)
            axis.tick_params(labelleft=True)
    _runs_legend(part, labels)


def _runs_legend(part: Any, labels: Sequence[str]) -> None:
    from matplotlib import rcParams
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[i % len(COLOURS)],
            linestyle=LINES[i % len(LINES)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=SMALL * rcParams["lines.markersize"],
            label=label,
        )
        for i, label in enumerate(labels)
    ]
    part.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), ACROSS))


def _draw_levels(
    part: Any, runs: Sequence[RunCurves], labels: Sequence[str], measured: Sequence[str]
) -> None:
    """Norm and variance of each term's gradient, a column a run; one run: side by side."""
    names = {"norm": "norm of the term", "variance": "variance of the term"}
    numbers = sorted({int(v) for run in runs for v in run.levels["level"]})
    if len(runs) == 1:
        axes = part.subplots(1, len(measured), squeeze=False)[0]
    else:
        across = min(len(runs), ACROSS)
        lines = len(measured) * -(-len(runs) // across)
        axes = part.subplots(lines, across, squeeze=False).ravel()
    wide = len(axes) // len(measured)  # axes of a quantity, some of them empty
    for first, quantity in zip(range(0, len(axes), wide), measured, strict=True):
        own = axes[first : first + wide]
        for i, (axis, run, label) in enumerate(zip(own, runs, labels, strict=False)):
            if i:
                axis.sharey(own[0])
                axis.tick_params(labelleft=i % ACROSS == 0)
            for place, number in enumerate(numbers):
                _draw_term(axis, run, quantity, number, place, len(numbers))
            _frame(axis, log_y=True)
            axis.set_xlabel("step")
            if len(runs) > 1:
                axis.set_title(label, fontsize="small")
            if not _seen(run.levels, quantity):
                axis.text(
                    *(0.5, 0.5, "not measured"),
                    transform=axis.transAxes,
                    ha="center",
                    va="center",
                    color="0.35",
                )
        for axis in own[len(runs) :]:
            axis.set_visible(False)
        for axis in own[::ACROSS]:
            axis.set_ylabel(names[quantity])
    _levels_legend(part, numbers)


def _draw_term(
    axis: Axes, run: RunCurves, quantity: str, number: int, place: int, levels: int
) -> None:
    # NaN where nothing was measured; a negative norm cannot be told apart from 0
    mine = (run.levels["level"] == number) & (run.levels[quantity] > 0)
    axis.plot(
        run.levels["step"][mine],
        run.levels[quantity][mine],
        **_level_style(place, levels),
    )


def _level_style(place: int, levels: int) -> dict[str, Any]:
    import matplotlib

    shade = 0.85 * place / max(levels - 1, 1)  # the end of the scale is too light on white
    return {
        "color": matplotlib.colormaps[SHADES](shade),
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": SMALL * matplotlib.rcParams["lines.markersize"],
        "linewidth": SMALL * matplotlib.rcParams["lines.linewidth"],
    }


def _levels_legend(part: Any, numbers: Sequence[int]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, number in enumerate(numbers):
        label = f"level {number}" + (" (coarsest)" if number == 0 else "")
        handles.append(Line2D([], [], label=label, **_level_style(place, len(numbers))))
    part.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _frame(axis: Axes, log_y: bool) -> None:
    """Scales that fit what is drawn, and a grid."""
    from matplotlib.ticker import NullFormatter

    lines = axis.get_lines()
    if _wide(v for line in lines for v in np.asarray(line.get_xdata(), dtype=float)):
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())  # beside decades there is no room
    if log_y and _positive(v for line in lines for v in np.asarray(line.get_ydata(), dtype=float)):
        axis.set_yscale("log")
        _plain_numbers(axis)
    axis.grid(True, which="major")


def _plain_numbers(axis: Axes) -> None:
    """Write 0.04 and not 4 × 10⁻², at those ticks that matplotlib names, if it is not smaller."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            if not super().__call__(x, pos):
                return ""
            mantissa, exponent = f"{x:.0e}".split("e")
            if -4 <= int(exponent) <= 4:
                return f"{x:g}".replace("-", "−")
            factor = "" if mantissa == "1" else rf"{mantissa} \times "
            return rf"${factor}10^{{{int(exponent)}}}$"

    axis.yaxis.set_major_formatter(Plain())
    axis.yaxis.set_minor_formatter(Plain(minor_thresholds=(1.5, 0.5)))


def _positive(values: Iterable[float]) -> bool:
    seen = [v for v in values if math.isfinite(v)]
    return bool(seen) and min(seen) > 0


def _wide(values: Iterable[float]) -> bool:
    seen = [v for v in values if math.isfinite(v)]
    return bool(seen) and min(seen) > 0 and max(seen) >= RATIO * min(seen)


def _seen(columns: Mapping[str, np.ndarray], quantity: str) -> bool:
    return bool(np.any(np.isfinite(columns[quantity])))
