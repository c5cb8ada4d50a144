"""What happens through training: validation errors, and norm and variance of each term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from gradconv.studies.training.groups import MULTISCALE, Record, Runs, group, table_of
from gradconv.studies.training.spreads import paired


def curve(runs: Runs, cost: str) -> list[tuple[float, float, float, float]]:
    """(cost, mean MSE, least, greatest) of the validations that all seeds made."""
    tables = [table_of(run, "validation") for run in runs]
    found = []
    for rows in zip(*tables, strict=False):
        errors = [row["mse"] for row in rows]
        found.append((mean(r[cost] for r in rows), mean(errors), min(errors), max(errors)))
    return found


def moments(runs: Runs, quantity: str) -> dict[int, list[tuple[float, float]]]:
    """(step, mean over seeds) of a term's gradient norm or variance, by level.

    Norms are averaged as squares, whose sampling error was taken off, with their signs: to leave
    out those below 0 would be a bias where a norm is small. NaN where the mean is below 0.
    """
    lines: dict[int, list[tuple[float, float]]] = {}
    for (level, step), values in _by_level(runs, quantity):
        if quantity == "norm":
            square = mean(squares(values))
            value = math.sqrt(square) if square > 0 else math.nan
        else:
            value = mean(values)
        lines.setdefault(level, []).append((step, value))
    return lines


def extremes(runs: Runs, quantity: str) -> dict[int, list[tuple[float, float, float]]]:
    """(step, least, greatest over seeds) of what `moments` averages; norms below 0 count as 0."""
    lines: dict[int, list[tuple[float, float, float]]] = {}
    for (level, step), values in _by_level(runs, quantity):
        ends = (step, max(min(values), 0.0), max(max(values), 0.0))
        lines.setdefault(level, []).append(ends)
    return lines


def _by_level(runs: Runs, quantity: str) -> list[tuple[tuple[int, float], list[float]]]:
    """Values of all seeds by level and step."""
    found: dict[tuple[int, float], list[float]] = {}
    for run in runs:
        for row in table_of(run, "levels"):
            found.setdefault((int(row["level"]), row["step"]), []).append(row[quantity])
    return sorted(found.items())


def squares(norms: Sequence[float]) -> list[float]:
    """Unbiased squares, some negative, of the norms that a log holds."""
    return [math.copysign(v * v, v) for v in norms]


def term_norms(runs: Runs, since: int) -> list[Record]:
    """Norm of the mean of each term of multiscale training, over steps and seeds; a row a term.

    ``square`` is the mean square with its interval: Student's t on the seeds' means, since the
    steps of a run are not independent.
    """
    mine = [run for run in runs if run["strategy"] == MULTISCALE]
    found = []
    for (setup, conv), same in group(mine, "setup", "conv").items():
        for level in range(len(same[0]["sizes"])):
            means = [mean(squares(_norms(run, level, since))) for run in same]
            found.append(
                {"setup": setup, "conv": conv, "level": level, "sizes": same[0]["sizes"]}
                | {"square": paired(means)}
            )
    return found


def _norms(run: Mapping[str, Any], level: int, since: int) -> list[float]:
    rows = table_of(run, "levels")
    return [row["norm"] for row in rows if row["level"] == level and row["step"] >= since]


def settled(runs: Runs) -> int:
    """Step from which on corrections are averaged: the middle of a run."""
    return int(sum(leg["steps"] for leg in runs[0]["legs"])) // 2
