"""What all figures share: styles for screen and paper, colours, markers, and their files."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradconv.errors import unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe-Ito colours: told apart by colour-blind readers; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Dark dots on top of everything: seen on each colour, and no line of a fit looks like them.
LAW: Any = {"color": "0.1", "linestyle": (0, (1.0, 1.7)), "linewidth": 1.3, "zorder": 5}
KINDS = ("pdf", "svg", "png")
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
    """

    name: str
    column: float
    full: float
    font: float
    serif: bool

    @property
    def rc(self) -> Any:
        """Parameters of matplotlib, by name."""
        paper = {"font.family": [*SERIF], "mathtext.fontset": "stix"} if self.serif else {}
        scale = self.font / 9.0
        return {
            "font.size": self.font,
            "axes.titlesize": "medium",
            "axes.labelsize": "medium",
            "figure.titlesize": "large",
            "xtick.labelsize": "small",
            "ytick.labelsize": "small",
            "legend.fontsize": "small",
            "lines.linewidth": 1.3 * scale,
            "lines.markersize": 5.0 * scale,
            "axes.linewidth": 0.7 * scale,
            "axes.unicode_minus": True,
            "svg.hashsalt": "gradconv",  # identical files from identical data
            "svg.fonttype": "path",
            "pdf.fonttype": 42,
            **paper,
        }

    def apply(self) -> AbstractContextManager[None]:
        """Context in which figures of this style are made."""
        import matplotlib

        return matplotlib.rc_context(self.rc)


STYLES = {
    style.name: style
    for style in (
        # README, HTML page, results of a command
        Style("screen", column=5.0, full=9.0, font=9.0, serif=False),
        # text of 6.5 inches in 10 points, as in the Transactions on Machine Learning Research
        Style("one-column", column=4.2, full=6.5, font=9.0, serif=True),
        # columns of 3.5 inches, 7.16 across, as in journals of IEEE and SIAM's two-column ones
        Style("two-column", column=3.5, full=7.16, font=8.0, serif=True),
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


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render a figure as ``png``, ``pdf`` or ``svg``; the same data give the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, made within `Style.apply`.
    kind : str
        One of `KINDS`.
    """
    import matplotlib

    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    fixed: Any = {k: SCREEN.rc[k] for k in ("svg.hashsalt", "svg.fonttype", "pdf.fonttype")}
    stream = io.BytesIO()
    with matplotlib.rc_context(fixed):
        figure.savefig(stream, format=kind, dpi=160, metadata=metadata)
    return stream.getvalue()
