"""Time the laws and the atlas against what they replace.

Three ratios, each of two measurements taken in turn in one process, on one thread:

a. deriving the laws of the mean of many cells over sampling them: a sweep of the same cells;
b. the same laws again over deriving them: what keeping the parts saves;
c. exact means of many cells one at a time over all at once, as the atlas takes them.

    python -m benchmarks.laws [--dim D] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.run import environment
from gradconv import MeshHierarchy, Problem, sweep
from gradconv.atlas.exact import Group, measured_parts, measured_spectra
from gradconv.errors import LawError
from gradconv.gradient import expected_gradients
from gradconv.laws import mean
from gradconv.laws.mean import mean_terms
from gradconv.nn.timing import elapsed

KERNELS = ("stencil", "mfc")
NOISES = ("none", "pixel", "white", "power:0.7", "matern:1.5:0.1")
TARGETS = ("identity", "blur", "shift")
LEVELS = {1: (4, 10), 2: (4, 7), 3: (2, 5)}


def problems(dim: int) -> list[Problem]:
    """Cells that share their data in many ways, as those of the atlas do."""
    return [
        Problem(kernel, "sobolev:3", target, noise, "average", "coarsening", dim)
        for kernel in KERNELS
        for noise in NOISES
        for target in TARGETS
    ]


def derive_all(cells: Sequence[Problem]) -> None:
    for problem in cells:
        try:
            mean_terms(problem)
        except LawError:
            continue


def forget() -> None:
    """Empty what the parts of the mean are kept in."""
    mean._part.cache_clear()


def batched(dim: int, levels: MeshHierarchy) -> None:
    group = Group("sobolev:3", "coarsening", "average", dim, NOISES, TARGETS)
    spectra = measured_spectra(group, levels)
    for kernel in KERNELS:
        measured_parts(kernel, levels, *spectra)


def measure(dim: int) -> dict[str, Any]:
    """Times and ratios in one dimension."""
    cells = problems(dim)
    levels = MeshHierarchy.powers_of_two(dim, *LEVELS[dim])
    derive_all(cells)  # formulas are compiled once a process
    times: dict[str, list[float]] = {}
    for _ in range(3):
        forget()
        for name, work in (
            ("derive", lambda: derive_all(cells)),
            ("derive again", lambda: derive_all(cells)),
            ("sweep", lambda: [sweep(p, levels, replicates=16) for p in cells]),
            ("means one by one", lambda: [expected_gradients(p, levels) for p in cells]),
            ("means at once", lambda: batched(dim, levels)),
        ):
            times.setdefault(name, []).append(elapsed(work).wall)
    median = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "dim": dim,
        "cells": len(cells),
        "seconds": median,
        "derive / sweep": median["derive"] / median["sweep"],
        "again / derive": median["derive again"] / median["derive"],
        "one by one / at once": median["means one by one"] / median["means at once"],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laws", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dim", type=int, choices=(1, 2, 3), help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    arguments = parser.parse_args(argv)
    dims = (arguments.dim,) if arguments.dim else (1, 2, 3)
    with threadpool_limits(limits=1):
        found = [measure(dim) for dim in dims]
    ratios = [name for name in found[0] if "/" in name]
    layout = Table(title="Laws of the mean, and exact means of many cells at once")
    for name in ("d", "cells", "derive [s]", *ratios):
        layout.add_column(name, justify="right")
    for one in found:
        shown = [f"{one[name]:.3g}" for name in ratios]
        layout.add_row(
            str(one["dim"]), str(one["cells"]), f"{one['seconds']['derive']:.2f}", *shown
        )
    Console(width=110).print(layout)
    if arguments.json:
        results = {"environment": environment(), "timings": found}
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
