"""What all figures share: styles for screen and paper, colours, markers, and their files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.errors import unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito colours: told apart by colour-blind readers; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Dark dots on top of everything: seen on each colour, and no line of a fit looks like them.
LAW: Any = {"color": "0.1", "linestyle": (0, (1.0, 1.7)), "zorder": 5}
KINDS = ("pdf", "svg", "png")
TALLEST = 9.2  # inches of a figure on paper: a page of Letter or A4 less its margins
SERIF = ("STIXGeneral", "DejaVu Serif")  # the second has the glyphs that the first lacks


@dataclass(frozen=True)
class Style:
    """Sizes and fonts of figures for one kind of page.

    Figures state sizes of text relative to `font` ("small", "x-small"), and widths as `column` or
    `full`, so that no figure has to be scaled by whoever includes it.

    Parameters
    ----------
    name : str
        As it is chosen.
    column : float
        Width of a figure beside text or in one column, in inches.
    full : float
        Width of a figure across the page, in inches.
    font : float
        Size of text, in points.
    serif : bool
        Whether text is set in a serif like that of the page.
    paper : bool
        Whether a caption under the figure says what it shows: then it has no headline.
    dpi : int
        Pixels an inch of a PNG.
    """

    name: str
    column: float
    full: float
    font: float
    serif: bool = False
    paper: bool = False
    dpi: int = 160

    @property
    def scale(self) -> float:
        """Size of lines and markers relative to those of 9-point text."""
        return self.font / 9.0

    @property
    def line(self) -> float:
        """Height of a line of small text, in inches: what a legend adds to a figure."""
        return 1.45 * 0.833 * self.font / 72.0

    @property
    def rc(self) -> Any:
        """Parameters of matplotlib, by name."""
        scale = self.scale
        fonts = {"font.family": [*SERIF], "mathtext.fontset": "stix"} if self.serif else {}
        return {
            "font.size": self.font,
            "axes.titlesize": "medium",
            "axes.labelsize": "medium",
            "figure.titlesize": "large",
            "figure.titleweight": "bold",
            "xtick.labelsize": "small",
            "ytick.labelsize": "small",
            "legend.fontsize": "small",
            "legend.frameon": False,
            "lines.linewidth": 1.3 * scale,
            "lines.markersize": 5.0 * scale,
            "lines.markeredgewidth": 0.9 * scale,
            "errorbar.capsize": 2.0 * scale,
            "axes.linewidth": 0.7 * scale,
            "grid.color": "0.9",
            "grid.linewidth": 0.6 * scale,
            "hatch.linewidth": 0.35 * scale,
            **{f"{axis}tick.major.size": 3.0 * scale for axis in "xy"},
            **{f"{axis}tick.minor.size": 1.7 * scale for axis in "xy"},
            **{f"{axis}tick.major.width": 0.7 * scale for axis in "xy"},
            **{f"{axis}tick.minor.width": 0.5 * scale for axis in "xy"},
            "axes.unicode_minus": True,
            "text.hinting": "none",  # text is as wide in every kind of file, as the layout has it
            "svg.hashsalt": "gradconv",  # identical files from identical data
            "svg.fonttype": "path",
            "pdf.fonttype": 42,
            **fonts,
        }

    def apply(self) -> AbstractContextManager[None]:
        """Context in which figures of this style are made."""
        import matplotlib

        return matplotlib.rc_context(self.rc)


STYLES = {
    style.name: style
    for style in (
        # README, HTML page, results of a command
        Style("screen", column=5.0, full=9.0, font=9.0),
        # text of 6.5 inches in 10 points, as in the Transactions on Machine Learning Research
        Style("one-column", column=4.2, full=6.5, font=8.5, serif=True, paper=True, dpi=300),
        # columns of 3.5 inches, 7.16 across, as in the journals of the IEEE
        Style("two-column", column=3.5, full=7.16, font=8.0, serif=True, paper=True, dpi=300),
    )
}
SCREEN = STYLES["screen"]


def find_style(name: str) -> Style:
    """Style of a name.

    Parameters
    ----------
    name : str
        One of ``"screen"``, ``"one-column"``, ``"two-column"``.

    Raises
    ------
    InputError
        If there is no such style.
    """
    if name not in STYLES:
        raise unknown_name("style", name, STYLES)
    return STYLES[name]


def below(axis: Axes, points: float) -> Any:
    """Transformation whose origin is that of an axis, moved down.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Its figure must have the size that it keeps.
    points : float
        How far, whatever the axis's height.
    """
    from matplotlib.transforms import ScaledTranslation

    return axis.transAxes + ScaledTranslation(0.0, -points / 72.0, axis.figure.dpi_scale_trans)


def mesh_axis(axis: Axes, h: Sequence[float], labels: int = 6, name: bool = True) -> None:
    """Scale a horizontal axis for mesh sizes, falling to the right: refinement reads forwards.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        The axis.
    h : sequence of float
        Mesh sizes, from coarse to fine; the box is 1.
    labels : int
        At most so many ticks are labelled, the finest among them.
    name : bool
        Whether to write under the axis what it shows.
    """
    axis.set_xscale("log", base=2)
    axis.set_xlim(h[0] * 1.3, h[-1] / 1.3)
    every = -(-len(h) // labels)
    ticks = [f"1/{round(1 / v)}" for v in h]
    axis.set_xticks(h, [t if (len(h) - 1 - i) % every == 0 else "" for i, t in enumerate(ticks)])
    axis.xaxis.minorticks_off()
    if name:
        axis.set_xlabel("mesh size $h$, finer to the right")


def text_width(text: str, size: str = "small") -> float:
    """Width of a line of text in points, within `Style.apply`.

    Parameters
    ----------
    text : str
        May hold mathematics between dollar signs.
    size : str
        Relative size.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    mathematics: Any = "$" in text
    font = FontProperties(size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, mathematics)[0])


def settle(figure: Figure) -> None:
    """Fix the layout: its solver's last bits change from time to time, and move pixels.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Within `Style.apply`; the layout engine has no further say.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.p0 = np.round(part.bbox_relative.p0, 4)
        part.bbox_relative.p1 = np.round(part.bbox_relative.p1, 4)
    for axis in figure.axes:
        axis.set_position(tuple(np.round(axis.get_position(original=True).bounds, 4)))


def figure_bytes(figure: Figure, kind: str, style: Style = SCREEN) -> bytes:
    """Render a figure as ``png``, ``pdf`` or ``svg``; the same data give the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, made within `Style.apply`.
    kind : str
        One of `KINDS`.
    style : Style
        That which the figure was made in.
    """
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    stream = io.BytesIO()
    with style.apply():
        figure.savefig(stream, format=kind, dpi=style.dpi, metadata=metadata)
    return stream.getvalue()
