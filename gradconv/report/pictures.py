"""Figures as pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace

from gradconv.figures import SCREEN, figure_bytes
from gradconv.studies import Study, StudyFigure

STYLE = replace(SCREEN, name="page", paper=True)  # headings and captions are those of the page
PIXELS = 96.0  # of CSS, an inch
COLOURS = 128  # with antialiased edges; a palette makes a picture a third as large


@dataclass(frozen=True)
class Picture:
    """A figure with its text, ready for the page.

    Parameters
    ----------
    id : str
        Of its element.
    source : str
        The PNG as a data URI. As SVG the same figures are two to three times as large.
    width, height : int
        In pixels of CSS.
    caption, alternative : str
        What stands under it, and what is said to those who do not see it.
    """

    id: str
    source: str
    width: int
    height: int
    caption: str
    alternative: str


def drawn(study: Study, figure: StudyFigure) -> bytes:
    """Draw a figure as PNG."""
    return figure_bytes(figure.drawing, "png", STYLE)


def picture(study: Study, figure: StudyFigure, content: bytes) -> Picture:
    """Put a PNG into a data URI, with a palette.

    Parameters
    ----------
    study : Study
        Whose figure it is.
    figure : StudyFigure
        The figure.
    content : bytes
        Its PNG.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    small = image.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    small.save(stream, "png", optimize=True)
    scale = PIXELS / STYLE.dpi
    return Picture(
        id=f"figure-{study.name}-{figure.name}",
        source="data:image/png;base64," + base64.b64encode(stream.getvalue()).decode(),
        width=round(image.width * scale),
        height=round(image.height * scale),
        caption=figure.caption,
        alternative=figure.alternative,
    )
