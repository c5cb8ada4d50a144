"""Write tables and figures of stored runs: ``python studies/training/report.py [RESULTS [TO]]``.

Reads ``results/*.json`` alone; trains nothing.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from figures import FIGURES
from PIL import Image
from summaries import read_results
from tables import markdown

from gradconv.figures import figure_bytes
from gradconv.store import write_atomically

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write table.md, and the figures of the blocks that are there."""
    given = [Path(argument) for argument in sys.argv[1:]]
    results = read_results(given[0] if given else HERE / "results")
    folder = given[1] if len(given) > 1 else HERE
    write_atomically(folder / "table.md", markdown(results).encode())
    for name, (needed, optional, draw) in FIGURES.items():
        if all(block in results for block in needed):
            blocks = [*needed, *(block for block in optional if block in results)]
            figure = draw(*(results[block]["runs"] for block in blocks))
            write_atomically(folder / f"{name}.svg", figure_bytes(figure, "svg"))
            write_atomically(folder / f"{name}.png", with_palette(figure_bytes(figure, "png")))


def with_palette(picture: bytes) -> bytes:
    """A PNG in 128 colours, enough for lines and bands, of a third of the size."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(128).save(stream, "png", optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    main()
