"""Stored runs: groups of them by their choices, and what one of them holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Record = dict[str, Any]
Runs = list[Record]
Key = tuple[str, ...]

SCORES, COSTS = ("mse", "psnr", "ssim"), ("work", "flops", "seconds")
FULL, MULTISCALE, SINGLE = "full-multiscale", "multiscale", "single"
CONVS = ("standard", "mfc")


def group(runs: Runs, *names: str) -> dict[Key, Runs]:
    """Runs by some of their choices (empty where a run has no such choice), in seeds' order."""
    found: dict[Key, Runs] = {}
    for run in sorted(runs, key=lambda r: r["seed"]):
        found.setdefault(tuple(str(run.get(name, "")) for name in names), []).append(run)
    order = {tuple(str(r.get(n, "")) for n in names): i for i, r in reversed([*enumerate(runs)])}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def scores(runs: Runs, name: str) -> list[float]:
    """Test scores, one a seed."""
    return [run["test"][name] for run in runs]


def costs(runs: Runs, name: str) -> list[float]:
    """Totals, one a seed."""
    return [run["totals"][name] for run in runs]


def pair(first: Runs, second: Runs) -> tuple[Runs, Runs]:
    """Those runs whose seeds are in both groups."""
    by_seed = {run["seed"]: run for run in second}
    both = [(run, by_seed[run["seed"]]) for run in first if run["seed"] in by_seed]
    return [a for a, _ in both], [b for _, b in both]


def table_of(run: Mapping[str, Any], name: str) -> list[dict[str, float]]:
    """Rows of a log; NaN where nothing was measured."""
    head, *rows = run["curves"][name]
    return [
        {c: float(v) if v != "" else math.nan for c, v in zip(head, row, strict=True)}
        for row in rows
    ]
