"""What a failed assertion draws: values against h with their orders, errors with their bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.rates import Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 4.0  # factor by which the axis reaches beyond the values; a claimed line may leave it
_LABELS = 10  # mesh sizes whose names do not touch
_DASHED = (0, (5, 2))


def order_drawing(
    h: np.ndarray, values: np.ndarray, rate: Rate, order: float | None, label: str
) -> Callable[[Axes], None]:
    """Return what draws values against mesh sizes, with their fit and the claimed order.

    Parameters
    ----------
    h, values : ndarray, shape (L,)
        Mesh sizes and values.
    rate : Rate
        The fit, with a window into `h`.
    order : float or None
        What is claimed.
    label : str
        Name of the values.
    """

    def draw(axes: Any) -> None:
        _draw(axes, h, values, rate, order, label)
        axes.set_xlabel("mesh size h (box = 1), finer to the right")
        if len(h) <= _LABELS and np.all(np.abs(1 / h - np.round(1 / h)) < 1e-6):
            axes.set_xticks(h, [f"1/{round(1 / x)}" for x in h])
            axes.minorticks_off()

    return draw


def step_drawing(
    steps: np.ndarray, values: np.ndarray, floor: np.ndarray, rate: Rate | None, label: str
) -> Callable[[Axes], None]:
    """Return what draws Taylor remainders against steps, with their rounding and order 2.

    Parameters
    ----------
    steps, values, floor : ndarray, shape (K,)
        Steps, remainders, and the bound on their rounding.
    rate : Rate or None
        The fit, with a window into `steps`; None where all values are rounding.
    label : str
        Name of the values.
    """

    def draw(axes: Any) -> None:
        _draw(axes, steps, values, rate, 2.0, label)
        axes.plot(steps, floor, color="0.5", linestyle=":", label="rounding")
        axes.set_ylim(bottom=min(axes.get_ylim()[0], floor.min() / _MARGIN))
        axes.set_xlabel("step ε, in units of the variables' size")
        axes.legend(frameon=False)

    return draw


def _draw(
    axes: Any,
    x: np.ndarray,
    values: np.ndarray,
    rate: Rate | None,
    order: float | None,
    label: str,
) -> None:
    from gradconv.figures import COLOURS

    seen = np.isfinite(values) & (values > 0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.plot(x[seen], values[seen], "o", color=COLOURS[0], markersize=4.5, label=label)
    first, last = rate.window if rate else (-1, -1)
    if rate and first >= 0 and math.isfinite(rate.order):
        window = x[first : last + 1]
        text = f"fit, order {rate.order:+.2f}".replace("-", "−")
        axes.plot(window, rate.coefficient * window**rate.order, color=COLOURS[0], label=text)
    if order is not None and math.isfinite(order) and seen.any():
        anchor = first if first >= 0 and seen[first] else int(np.flatnonzero(seen)[0])
        line = values[anchor] * (x / x[anchor]) ** order
        text = f"claimed, order {order:+g}".replace("-", "−")
        axes.plot(x, line, color=COLOURS[1], linestyle=_DASHED, label=text)
    if seen.any():
        axes.set_ylim(values[seen].min() / _MARGIN, values[seen].max() * _MARGIN)
    axes.invert_xaxis()  # refinement reads forwards
    axes.set_ylabel(label)
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    axes.legend(frameon=False)


def error_drawing(
    x: Sequence[float], errors: Mapping[str, Sequence[float]], bound: float, label: str
) -> Callable[[Axes], None]:
    """Return what draws relative errors with the bound that they must keep.

    Parameters
    ----------
    x : sequence of float
        Number of the sample, or mesh size.
    errors : mapping of str to sequence of float
        Errors at `x` by name.
    bound : float
        Largest error allowed.
    label : str
        Name of `x`.
    """

    def draw(axes: Any) -> None:
        from gradconv.figures import COLOURS, MARKERS

        axes.set_yscale("log")
        for i, (name, values) in enumerate(errors.items()):
            seen = [(a, e) for a, e in zip(x, values, strict=True) if 0 < e < math.inf]
            if seen:
                axes.plot(
                    *zip(*seen, strict=True), MARKERS[i], color=COLOURS[i], linestyle="", label=name
                )
        axes.axhline(bound, color="0.3", linestyle=_DASHED, label=f"allowed, {bound:.2g}")
        axes.set_xticks(list(x), [f"{a:.4g}" for a in x])
        axes.set_xlabel(label)
        axes.set_ylabel("relative error")
        axes.grid(True, which="major", color="0.9", linewidth=0.6)
        axes.legend(frameon=False)

    return draw
