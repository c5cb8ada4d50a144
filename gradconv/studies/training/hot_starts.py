"""Steps and work to a target on the finest mesh, from cold and from hot starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, mean
from typing import Any

from gradconv.studies.training.groups import COSTS, Record, Runs, group, pair, table_of
from gradconv.studies.training.spreads import Estimate, ratio

TARGETS = (1.05, 1.2, 1.5)  # times the best validation MSE of the cold run


@dataclass(frozen=True)
class Reached:
    """Where a run first measured an MSE at or below a target."""

    steps: float  # on the finest mesh
    work: float  # in all, coarse steps included
    seconds: float


@dataclass(frozen=True)
class Factor:
    """Cold over hot; `bound` is "" for a number, else "≥" or "≤", or "?" where nothing is known."""

    value: float
    bound: str


def final_leg(run: Mapping[str, Any]) -> list[dict[str, float]]:
    """Validations from the moment the finest mesh is reached; `step` counts from there."""
    before = run["legs"][:-1]
    start = sum(leg["steps"] for leg in before)
    rows = [row for row in table_of(run, "validation") if row["step"] > start]
    if before:  # what the coarser legs leave is where this one begins
        given = {name: sum(leg[name] for leg in before) for name in COSTS}
        rows.insert(0, {"step": start, **given, "mse": before[-1]["validation"]["mse"]})
    return [{**row, "step": row["step"] - start} for row in rows]


def reach(run: Mapping[str, Any], target: float) -> Reached | None:
    """First validation on the finest mesh at or below the target; None if there is none."""
    row = next((row for row in final_leg(run) if row["mse"] <= target), None)
    return None if row is None else Reached(row["step"], row["work"], row["seconds"])


def step_factor(cold: Reached | None, hot: Reached | None, taken: tuple[float, float]) -> Factor:
    """Steps of a cold start over those of a hot one.

    Parameters
    ----------
    cold, hot : Reached or None
        None where the target was not reached.
    taken : tuple of float
        Steps that each run took: a run that did not reach the target needs more than these.
    """
    if cold is None and hot is None:
        return Factor(math.nan, "?")
    if hot is None:
        assert cold is not None
        return Factor(cold.steps / taken[1], "≤")
    if cold is None or hot.steps == 0:  # no step at all is less than one
        return Factor((taken[0] if cold is None else cold.steps) / max(hot.steps, 1.0), "≥")
    return Factor(cold.steps / hot.steps, "")


def fine_iteration_factor(seeds: Sequence[Record]) -> tuple[Estimate, str]:
    """Geometric mean of the factors in steps with its interval, and which bound it is, if any.

    The interval takes in what the validations leave open: a target that was met at step s may
    have been met at any step since the validation before. Seeds of which nothing is known are
    left out.
    """
    known = [seed for seed in seeds if seed["steps"].bound != "?"]
    values = [seed["steps"].value for seed in known]
    found = ratio(values, [1.0] * len(values))
    least = geometric_mean(seed["open"][0] * seed["steps"].value for seed in known)
    most = geometric_mean(seed["open"][1] * seed["steps"].value for seed in known)
    bounds = "".join(sorted({seed["steps"].bound for seed in known}))
    return Estimate(found.value, min(found.low, least), max(found.high, most)), bounds


def hot_summary(runs: Runs, targets: Sequence[float] = TARGETS) -> list[Record]:
    """Steps on the finest mesh to a target, from cold and from levels below; one row a start."""
    found = []
    for (setup, conv), mine in group(runs, "setup", "conv").items():
        cold = [r for r in mine if len(r["legs"]) == 1]
        hot = [r for r in mine if len(r["legs"]) > 1]
        for below, started in sorted(_by_levels_below(hot).items()):
            for factor in targets:
                seeds = [_seed(a, b, factor) for a, b in zip(*pair(cold, started), strict=True)]
                if seeds:
                    found.append(
                        {"setup": setup, "conv": conv, "below": below, "target": factor}
                        | {"seeds": seeds}
                    )
    return found


def _by_levels_below(runs: Runs) -> dict[int, Runs]:
    found: dict[int, Runs] = {}
    for run in runs:
        found.setdefault(len(run["legs"]) - 1, []).append(run)
    return found


def _seed(cold: Record, hot: Record, factor: float) -> Record:
    rows = [final_leg(cold), final_leg(hot)]
    target = factor * min(row["mse"] for row in rows[0])
    reached = reach(cold, target), reach(hot, target)
    steps = step_factor(*reached, (rows[0][-1]["step"], rows[1][-1]["step"]))
    return {
        "seed": cold["seed"],
        "target": target,
        "cold": reached[0],
        "hot": reached[1],
        "taken": [r[-1]["step"] for r in rows],
        "steps": steps,
        "open": (
            1.0 / _late(reached[0], rows[0]),
            _late(reached[1], rows[1]),
        ),
        "work": _work_factor(*reached, rows[0][-1]["work"], rows[1][-1]["work"]),
    }


def _late(found: Reached | None, rows: list[dict[str, float]]) -> float:
    """Step at which a target was seen to be met over the first at which it may have been."""
    if found is None or found.steps <= 1.0:
        return 1.0
    before = max((row["step"] for row in rows if row["step"] < found.steps), default=0.0)
    return found.steps / (before + 1.0)


def _work_factor(
    cold: Reached | None, hot: Reached | None, spent_cold: float, spent_hot: float
) -> Factor:
    if cold is None and hot is None:
        return Factor(math.nan, "?")
    a = spent_cold if cold is None else cold.work
    b = spent_hot if hot is None else hot.work
    return Factor(a / b, "≤" if hot is None else "≥" if cold is None else "")


def start_curve(runs: Runs) -> list[tuple[float, float, float, float]]:
    """(steps on the finest mesh, mean MSE, least, greatest) of validations since its first step."""
    found = []
    for rows in zip(*(final_leg(run) for run in runs), strict=False):
        errors = [row["mse"] for row in rows]
        found.append((rows[0]["step"], mean(errors), min(errors), max(errors)))
    return found
