"""What runs come to: scores and costs of strategies, held against each other over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import geometric_mean, mean

from gradconv.studies.training.groups import (
    CONVS,
    COSTS,
    FULL,
    MULTISCALE,
    SCORES,
    SINGLE,
    Key,
    Record,
    Runs,
    costs,
    group,
    pair,
    scores,
)
from gradconv.studies.training.spreads import Estimate, ratio, spread, welch

REACHES = 1.05  # times the MSE of one scale at its largest budget: reached by another budget


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
        full, single, cheap = (r if r and len(r) > 1 else None for r in (full, single, cheap))
        found.append(
            {
                "setup": setup,
                "conv": conv,
                "rows": [
                    {**row, "best": [name for name in SCORES if row is best[name]]} for row in rows
                ],
                "degraded": group_runs[0]["degraded"],
                "equal_steps": compare(full, single) if full and single else None,
                "equal_work": compare(full, cheap) if full and cheap else None,
                "savings": savings(full, single) if full and single else None,
                "multiscale": _savings_of(strategies.get((MULTISCALE, "")), single),
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
        for conv in CONVS:
            full, single = (found.get((point, name, conv), []) for name in (FULL, SINGLE))
            if len(full) > 1 and len(single) > 1:
                against.setdefault(conv, []).append({"x": value(point), **compare(full, single)})
        for strategy in dict.fromkeys(key[1] for key in found):
            both = [found.get((point, strategy, conv), []) for conv in CONVS]
            for conv, mine in zip(CONVS, both, strict=True):
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
        target = REACHES * dearest["mse"].mean
        reached[conv] = {
            "target": target,
            "single": dearest,
            "least": {
                strategy: next((r for r in rows if r["mse"].mean <= target), None)
                for strategy, rows in lines.items()
            },
        }
    return {"lines": found, "reached": reached}
