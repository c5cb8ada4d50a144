"""Time the making of training samples against drawing noise on the finest mesh and nothing else.

Tiles of the embedded photographs, corrupted by each task and restricted to four levels as training
does it (drawn in law: white noise on the level itself, else on the finest mesh), or with all noise
on the finest mesh; one thread, float32, one channel. The peer is one ``torch.randn`` of the finest
cells, the least that noise on the finest mesh takes. Both are timed in turn; the ratio is the
median over the turns, in brackets its quartiles.

    python -m benchmarks.samples [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.run import environment
from gradconv import MeshHierarchy
from gradconv.images import IMAGES, Tiles
from gradconv.nn.timing import elapsed
from gradconv.samplers import NoisySampler
from gradconv.train import TASKS

SPECS = ("denoise:0.2", "denoise:0.1:0.4", "deblur", "inpaint", "superres")
SAMPLES = 128


def case(
    spec: str, size: int, levels: tuple[int, ...], drawn: str, turns: int
) -> dict[str, object]:
    """One task on one mesh; samples of the levels asked for."""
    tiles = Tiles(IMAGES.parse("photographs").open("train", 1), size)
    hierarchy = MeshHierarchy(2, tuple(size // 2**j for j in (3, 2, 1, 0)))
    task = TASKS.parse(spec)
    sampler = NoisySampler(tiles, task.corrupt, hierarchy, drawn, restricted=task.restricted)
    cells = (SAMPLES, 1, size, size)
    made, bare, cut = [], [], []
    for turn in range(turns + 2):
        numbers = range(turn * SAMPLES, (turn + 1) * SAMPLES)
        row = (
            elapsed(lambda numbers=numbers: sampler.draw(numbers, levels)).wall,
            elapsed(lambda: torch.randn(cells)).wall,
            elapsed(lambda numbers=numbers: [tiles(m) for m in numbers]).wall,
        )
        if turn >= 2:
            for values, value in zip((made, bare, cut), row, strict=True):
                values.append(value)
    ratios = np.array(made) / np.array(bare)
    return {
        "task": spec,
        "size": size,
        "levels": list(levels),
        "drawn": drawn,
        "ratio": [float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75))],
        "samples_per_second": SAMPLES / statistics.median(made),
        "tiles_per_second": SAMPLES / statistics.median(cut),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    turns = 3 if arguments.quick else arguments.turns
    sizes = (16,) if arguments.quick else (64, 128)
    found = [
        case(spec, size, levels, drawn, turns)
        for size in sizes
        for spec in SPECS
        for levels in ((0,), (3, 2))
        for drawn in ("law", "finest")
    ]
    table = Table(title="Making samples over drawing their noise")
    for name in ("task", "mesh", "levels", "drawn", "ratio", "samples a second", "of these tiles"):
        table.add_column(name, justify="right")
    for one in found:
        low, middle, high = one["ratio"]
        table.add_row(
            str(one["task"]),
            f"{one['size']}²",
            ", ".join(map(str, one["levels"])),
            str(one["drawn"]),
            f"{middle:.1f} ({low:.1f}–{high:.1f})",
            f"{one['samples_per_second']:.3g}",
            f"{one['tiles_per_second']:.3g}",
        )
    Console().print(table)
    if arguments.json:
        document = {"environment": {**environment(), "dtype": "float32"}, "results": found}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
