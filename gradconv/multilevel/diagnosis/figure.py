"""Six panels of a diagnosis, drawn from its document alone; nothing is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, LAW, MARKERS, SCREEN, Style, mesh_axis, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
FINE, DIFFERENCE = COLOURS[0], COLOURS[1]
ERROR = 0.7  # width of an error bar in that of a line
SHOWN = 4  # errors whose sample numbers get a line
ESTIMATORS: Any = {  # colour, marker, line: told apart in grey too; points side by side
    "single": (COLOURS[0], "s", (0, (5.0, 2.0)), 1.05),
    "multilevel": (COLOURS[1], "o", "-", 1.0),
    "randomised": (COLOURS[2], "^", (0, (1.0, 1.5)), 1.0 / 1.05),
}


def diagnosis_figure(found: Record, title: str = "", style: Style = SCREEN) -> Figure:
    """Variance, mean, check, kurtosis, sample numbers and cost: the six panels.

    Points are measured (± 2 standard errors), lines of the first two panels fits, dotted dark
    lines the derived law where the module is a problem's own layer, lines of the last panel
    forecasts.

    Parameters
    ----------
    found : dict
        The document of a diagnosis.
    title : str
        Headline on screen; by default the module.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    with style.apply():
        figure = Figure(figsize=(style.full, 0.72 * style.full))
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
        axes = figure.subplots(2, 3)
        _values(axes[0, 0], found, "variance", "beta", "variance (trace)")
        _values(axes[0, 1], found, "mean", "alpha", "norm of the mean")
        _check(axes[0, 2], found)
        _kurtosis(axes[1, 0], found)
        _numbers(axes[1, 1], found)
        _cost(axes[1, 2], found)
        for axis in (*axes[0], *axes[1, :2]):
            _mesh_axis(axis, [level["h"] for level in found["levels"]])
        if not style.paper:
            figure.suptitle(title or _title(found))
        settle(figure)
    return figure


def _title(found: Record) -> str:
    setup = found["provenance"]["configuration"]
    data = f", noise {setup['noise']}, {setup['setting']}" if "noise" in setup else ""
    return f"Multilevel gradient of {setup['model']} ({setup['dim']}-D{data})"


def _array(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def _h(found: Record) -> np.ndarray:
    return np.array([level["h"] for level in found["levels"]])


def _points(
    axis: Axes,
    h: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    colour: str,
    marker: str,
    label: str,
) -> None:
    from matplotlib import rcParams

    seen = values > 0
    above = 2.0 * np.nan_to_num(errors[seen], posinf=0.0)
    below = np.minimum(above, 0.8 * values[seen])  # a logarithmic axis has no zero
    axis.errorbar(
        h[seen],
        values[seen],
        yerr=[below, above],
        color=colour,
        marker=marker,
        linestyle="none",
        elinewidth=ERROR * rcParams["lines.linewidth"],
        label=label,
        zorder=3,
    )


def _values(axis: Axes, found: Record, quantity: str, symbol: str, label: str) -> None:
    group, h = found["groups"][0], _h(found)
    for role, colour, marker in (("fine", FINE, "s"), ("difference", DIFFERENCE, "o")):
        values = _array(group[f"{role}_{quantity}"])
        errors = _array(group[f"{role}_{quantity}_stderr"])
        first = 0 if role == "fine" else 1  # on level 0 the difference is the fine gradient
        words = role if role == "fine" else f"difference{_order_words(group[symbol], symbol)}"
        _points(axis, h[first:], values[first:], errors[first:], colour, marker, words)
    rate = group[symbol]
    if rate["order"] is not None and rate["coefficient"] is not None:
        first, last = rate["window"]
        window = h[1:][first : last + 1]
        axis.plot(window, rate["coefficient"] * window ** rate["order"], color=DIFFERENCE)
    for law in found["laws"]:
        if law["own"] and law["symbol"] == symbol and law["values"]:
            words = "law, not fitted"
            if law["order"] is not None:
                words += f" ({law['order']:+.3g})".replace("-", "−")
            axis.plot(h[1:], _array(law["values"]), label=words, **LAW)
    axis.set_yscale("log")
    axis.set_title(label)
    axis.set_ylabel("loss² per parameter²" if quantity == "variance" else "loss per parameter")
    _headroom(axis)
    _legend(axis)


def _order_words(rate: Record, symbol: str) -> str:
    name = {"alpha": "α", "beta": "β"}[symbol]
    if rate["order"] is None:
        return f", {name} undecided"
    low, high = rate["order_interval"]
    text = f", {name} = {rate['order']:+.2f}"
    if low is not None and high is not None:
        text += f" [{low:+.2f}, {high:+.2f}]"
    return text.replace("-", "−")


def _check(axis: Axes, found: Record) -> None:
    h = _h(found)
    layers = [g for g in found["groups"] if g["kind"] == "layer"]
    for i, group in enumerate(layers if len(layers) > 1 else []):
        label = "layers" if i == 0 else None
        axis.plot(h, _array(group["check"]), color="0.75", lw=0.8, label=label, zorder=1)
    axis.plot(h, _array(found["groups"][0]["check"]), color=FINE, marker="s", label="whole")
    worst = _array(found["components"]["check"])
    axis.plot(h, worst, color=DIFFERENCE, marker="o", label="largest of the components")
    axis.axhline(1.0, color="0.1", linestyle=(0, (4.0, 2.0)))
    top = np.nanmax([1.0, *worst[np.isfinite(worst)], *_array(found["groups"][0]["check"])[1:]])
    axis.set_ylim(0.0, 1.45 * float(top))
    axis.annotate(
        "limit of a telescoping sum",
        (0.03, 1.0),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize="x-small",
    )
    axis.set_title("consistency check")
    axis.set_ylabel("check (1 = limit)")
    _legend(axis)


def _kurtosis(axis: Axes, found: Record) -> None:
    h = _h(found)
    layers = [g for g in found["groups"] if g["kind"] == "layer"]
    for i, group in enumerate(layers if len(layers) > 1 else []):
        label = "layers" if i == 0 else None
        axis.plot(h, _array(group["kurtosis"]), color="0.75", lw=0.8, label=label, zorder=1)
    axis.plot(h, _array(found["groups"][0]["kurtosis"]), color=FINE, marker="s", label="whole")
    largest = _array(found["components"]["kurtosis"])
    axis.plot(h, largest, color=DIFFERENCE, marker="o", label="largest of the components")
    dashes = (0, (4.0, 2.0))
    axis.axhline(3.0, color="0.5", lw=0.9, linestyle=dashes, label="3, a Gaussian scalar")
    axis.set_yscale("log")
    _plain_ticks(axis)
    axis.set_title("kurtosis of the difference")
    axis.set_ylabel("E‖d − μ‖⁴ / (E‖d − μ‖²)²")
    _headroom(axis)
    _legend(axis)


def _numbers(axis: Axes, found: Record) -> None:
    h, chosen = _h(found), found["errors"]["optimal_numbers"]
    greys = np.linspace(0.0, 0.6, max(len(chosen[:SHOWN]), 1))
    for i, (record, grey) in enumerate(zip(chosen[:SHOWN], greys, strict=False)):
        axis.plot(
            h,
            _array(record["counts"]),
            color=str(grey),
            marker=MARKERS[i % len(MARKERS)],
            label=f"ε = {record['epsilon']:.2g}",
        )
    axis.set_title("optimal sample numbers")
    axis.set_ylabel("$N_l$ (before rounding)")
    if chosen:
        axis.set_yscale("log")
        axis.axhline(1.0, color="0.6", linewidth=0.8, linestyle=(0, (4.0, 2.0)))
        _headroom(axis)
        _legend(axis)
    else:
        _absent(axis)


def _cost(axis: Axes, found: Record) -> None:
    from matplotlib import rcParams

    errors = found["errors"]
    for name, (colour, marker, line, aside) in ESTIMATORS.items():
        rows = [f for f in errors["forecasts"] if f["estimator"] == name]
        if not rows:
            continue
        epsilon = np.array([f["epsilon"] for f in rows])
        cost = np.array([f["cost"] for f in rows])
        variance = np.array([f["variance"] for f in rows]) / errors["scale"] ** 2
        axis.plot(epsilon, variance * cost, color=colour, linestyle=line, label=name)
        done = [f for f in rows if f["measured"]]
        if not done:
            continue
        spent = np.array([f["measured"]["cost"] for f in done]) / errors["scale"] ** 2
        y = spent * [f["measured"]["variance"] for f in done]
        low, high = (
            spent * [f["measured"]["variance_interval"][i] for f in done] for i in range(2)
        )
        axis.errorbar(
            [aside * f["epsilon"] for f in done],
            y,
            yerr=[y - low, high - y],
            color=colour,
            marker=marker,
            linestyle="none",
            elinewidth=ERROR * rcParams["lines.linewidth"],
            label="measured",
        )
    axis.set_title("cost of an error ε (lines: forecasts)")
    axis.set_xlabel("relative error ε aimed at")
    axis.set_ylabel(f"ε² reached × cost ({errors['unit']})")
    axis.grid(True, which="major")
    if errors["forecasts"]:
        axis.set_xscale("log")
        axis.set_yscale("log")
        seen = [f["epsilon"] for f in errors["forecasts"]]
        axis.set_xlim(max(seen) * 1.35, min(seen) / 1.35)
        axis.set_xticks(sorted(set(seen)), [f"{e:.2g}" for e in sorted(set(seen))])
        axis.minorticks_off()
        _headroom(axis, 0.45)
        _legend(axis, columns=2)
    else:
        _absent(axis)


def _absent(axis: Axes) -> None:
    axis.text(
        0.5,
        0.5,
        "no forecast: a variance is zero",
        transform=axis.transAxes,
        ha="center",
        va="center",
        color="0.4",
    )


def _headroom(axis: Axes, share: float = 0.3) -> None:
    """Leave room for the legend at the top of a logarithmic axis."""
    low, high = axis.get_ylim()
    if 0 < low < high:
        axis.set_ylim(low, high * (high / low) ** share)


def _plain_ticks(axis: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.yaxis.set_major_locator(LogLocator(10.0, (1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _legend(axis: Axes, columns: int = 1) -> None:
    axis.legend(
        loc="upper left",
        fontsize="x-small",
        ncols=columns,
        handlelength=1.8,
        borderaxespad=0.3,
        labelspacing=0.3,
        columnspacing=1.2,
    )


def _mesh_axis(axis: Axes, h: list[float]) -> None:
    mesh_axis(axis, h, labels=5)
    axis.grid(True, which="major")
