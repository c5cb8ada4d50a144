"""What the runs of the study come to: means, spreads, differences and ratios over seeds.

Every number of the tables, figures and evidence is computed here, from ``results/*.json`` alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

from spreads import Estimate, paired, ratio, spread, welch

Record = dict[str, Any]
Runs = list[Record]
Key = tuple[str, ...]

SCORES, COSTS = ("mse", "psnr", "ssim"), ("work", "flops", "seconds")
TARGETS = (1.05, 1.2, 1.5)  # of a hot start: times the best validation MSE of the cold run
FULL, SINGLE = "full-multiscale", "single"


def read_results(folder: Path) -> dict[str, Record]:
    """Documents of all blocks that are there, by name."""
    documents = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
    return {d["block"]: d for d in documents}


# -- groups of runs -----------------------------------------------------------------------------


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


def compare(first: Runs, second: Runs) -> Record:
    """Test MSE of `first` against that of `second`, and what it says.

    The rule: better or worse where the 95 % interval of the difference of mean logarithms (Welch)
    leaves out 0. Logarithms, because errors are positive and spread in proportion to their size.
    `within`: whether the means differ by at most the seed spread (standard deviation) of `second`.
    """
    a, b = scores(first, "mse"), scores(second, "mse")
    logs = welch([math.log(v) for v in a], [math.log(v) for v in b])
    quotient = Estimate(*(math.exp(v) for v in (logs.value, logs.low, logs.high)))
    return {
        "ratio": quotient,
        "verdict": quotient.side("better", "worse", 1.0),
        "within": abs(mean(a) - mean(b)) <= spread(b).sd,
    }


def table_summary(runs: Runs) -> list[Record]:
    """The paper's table: of each setup and convolution the strategies, and full against single."""
    found = []
    for (setup, conv), group_runs in group(runs, "setup", "conv").items():
        strategies = group(group_runs, "strategy", "budget")
        rows = [_row(key, mine) for key, mine in strategies.items()]
        best = {
            name: sorted(rows, key=lambda row: row[name].mean, reverse=name != "mse")[0]
            for name in SCORES
        }
        full, single = strategies.get((FULL, "")), strategies.get((SINGLE, ""))
        cheap = next((r for (s, b), r in strategies.items() if s == SINGLE and b), None)
        enough = [r is not None and len(r) > 1 for r in (full, single, cheap)]
        found.append(
            {
                "setup": setup,
                "conv": conv,
                "rows": [
                    {**row, "best": [name for name in SCORES if row is best[name]]} for row in rows
                ],
                "degraded": group_runs[0]["degraded"],
                "equal_steps": compare(full, single) if all(enough[:2]) else None,
                "equal_work": compare(full, cheap) if enough[0] and enough[2] else None,
                "savings": savings(full, single) if all(enough[:2]) else None,
                "multiscale": _savings_of(strategies.get(("multiscale", "")), single),
                "legs": leg_speeds(full, single) if full and single else [],
            }
        )
    return found


def _row(key: Key, runs: Runs) -> Record:
    return {
        "strategy": key[0],
        "budget": key[1],
        "seeds": len(runs),
        **{name: spread(scores(runs, name)) for name in SCORES},
        **{name: spread(costs(runs, name)) for name in COSTS},
        "peak_bytes": max(run["peak_bytes"] for run in runs),
    }


def savings(cheap: Runs, dear: Runs) -> dict[str, float]:
    """Costs of `dear` over those of `cheap`, and seconds saved as a fraction of work saved."""
    found = {n: geometric_mean(costs(dear, n)) / geometric_mean(costs(cheap, n)) for n in COSTS}
    return {**found, "share": found["seconds"] / found["work"]}


def _savings_of(cheap: Runs | None, dear: Runs | None) -> dict[str, float] | None:
    return savings(cheap, dear) if cheap and dear else None


def leg_speeds(staged: Runs, single: Runs) -> list[float]:
    """Seconds that single takes for a unit of work over those of each leg, coarse to fine."""
    base = mean(costs(single, "seconds")) / mean(costs(single, "work"))
    legs = zip(*(run["legs"] for run in staged), strict=True)
    return [base * mean(g["work"] for g in leg) / mean(g["seconds"] for g in leg) for leg in legs]


def axis_summary(runs: Runs, axis: str, value: Callable[[str], float]) -> Record:
    """MSE of each convolution and strategy along an axis, and what the two ratios come to.

    ``ratios``, by strategy: mfc over standard, with interval; ``against``, by convolution: full
    multiscale training over one scale, as `compare` gives it.
    """
    found = group(runs, axis, "strategy", "conv")
    points = list(dict.fromkeys(key[0] for key in found))
    lines: dict[tuple[str, str], list[Record]] = {}
    ratios: dict[str, list[Record]] = {}
    against: dict[str, list[Record]] = {}
    for point in points:
        for conv in ("standard", "mfc"):
            full, single = (found.get((point, name, conv), []) for name in (FULL, SINGLE))
            if len(full) > 1 and len(single) > 1:
                against.setdefault(conv, []).append({"x": value(point), **compare(full, single)})
        for strategy in dict.fromkeys(key[1] for key in found):
            both = [found.get((point, strategy, conv), []) for conv in ("standard", "mfc")]
            for conv, mine in zip(("standard", "mfc"), both, strict=True):
                if mine:
                    entry = {"x": value(point), **_row((strategy, ""), mine)}
                    entry["degraded"] = mine[0]["degraded"]
                    lines.setdefault((conv, strategy), []).append(entry)
            mfc, standard = pair(both[1], both[0])
            if len(mfc) > 1:
                one = ratio(scores(mfc, "mse"), scores(standard, "mse"))
                ratios.setdefault(strategy, []).append(
                    {"x": value(point), "ratio": one, "wins": one.side("mfc", "standard", 1.0)}
                )
    return {"lines": lines, "ratios": ratios, "against": against}


def budget_summary(runs: Runs) -> Record:
    """Score against cost: a line a strategy, and the least budget that reaches single's best."""
    found: Record = {}
    for (conv, strategy), mine in group(runs, "conv", "strategy").items():
        rows = [_row((strategy, key[0]), r) for key, r in group(mine, "budget").items()]
        found.setdefault(conv, {})[strategy] = sorted(rows, key=lambda r: r["work"].mean)
    reached: Record = {}
    for conv, lines in found.items():
        if SINGLE not in lines:
            continue
        dearest = lines[SINGLE][-1]
        target = TARGETS[0] * dearest["mse"].mean
        reached[conv] = {
            "target": target,
            "single": dearest,
            "least": {
                strategy: next((r for r in rows if r["mse"].mean <= target), None)
                for strategy, rows in lines.items()
            },
        }
    return {"lines": found, "reached": reached}


# -- hot starts ---------------------------------------------------------------------------------


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


def table_of(run: Mapping[str, Any], name: str) -> list[dict[str, float]]:
    """Rows of a log; NaN where nothing was measured."""
    head, *rows = run["curves"][name]
    return [
        {c: float(v) if v != "" else math.nan for c, v in zip(head, row, strict=True)}
        for row in rows
    ]


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
    reached = [reach(run, target) for run in (cold, hot)]
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


# -- curves -------------------------------------------------------------------------------------


def curve(runs: Runs, cost: str) -> list[tuple[float, float, float, float]]:
    """(cost, mean MSE, least, greatest) of the validations that all seeds made."""
    tables = [table_of(run, "validation") for run in runs]
    found = []
    for rows in zip(*tables, strict=False):
        errors = [row["mse"] for row in rows]
        found.append((mean(r[cost] for r in rows), mean(errors), min(errors), max(errors)))
    return found


def start_curve(runs: Runs) -> list[tuple[float, float, float, float]]:
    """(steps on the finest mesh, mean MSE, least, greatest) of validations since its first step."""
    found = []
    for rows in zip(*(final_leg(run) for run in runs), strict=False):
        errors = [row["mse"] for row in rows]
        found.append((rows[0]["step"], mean(errors), min(errors), max(errors)))
    return found


def moments(runs: Runs, quantity: str) -> dict[int, list[tuple[float, float]]]:
    """(step, mean over seeds) of a term's gradient norm or variance, by level.

    Norms are averaged as squares, whose sampling error was taken off, with their signs: to leave
    out those below 0 would be a bias where a norm is small. NaN where the mean is below 0.
    """
    found: dict[tuple[int, float], list[float]] = {}
    for run in runs:
        for row in table_of(run, "levels"):
            found.setdefault((int(row["level"]), row["step"]), []).append(row[quantity])
    lines: dict[int, list[tuple[float, float]]] = {}
    for (level, step), values in sorted(found.items()):
        if quantity == "norm":
            square = mean(squares(values))
            value = math.sqrt(square) if square > 0 else math.nan
        else:
            value = mean(values)
        lines.setdefault(level, []).append((step, value))
    return lines


def squares(norms: Sequence[float]) -> list[float]:
    """Unbiased squares, some negative, of the norms that a log holds."""
    return [math.copysign(v * v, v) for v in norms]


def term_norms(runs: Runs, since: int) -> list[Record]:
    """Norm of the mean of each term of multiscale training, over steps and seeds; a row a term.

    ``square`` is the mean square with its interval: Student's t on the seeds' means, since the
    steps of a run are not independent.
    """
    mine = [run for run in runs if run["strategy"] == "multiscale"]
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
