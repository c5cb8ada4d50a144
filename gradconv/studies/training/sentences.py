"""What the runs say, in sentences whose numbers are computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import geometric_mean

from gradconv.studies.training.cells import MILLI, estimate, roots
from gradconv.studies.training.comparing import (
    REACHES,
    axis_summary,
    budget_summary,
    table_summary,
)
from gradconv.studies.training.curves import settled, term_norms
from gradconv.studies.training.groups import (
    CONVS,
    FULL,
    MULTISCALE,
    SINGLE,
    Record,
    Runs,
    group,
)
from gradconv.studies.training.hot_starts import hot_summary
from gradconv.studies.training.tables import noise_of, term_name

NAMES = {"standard": "standard", "mfc": "mesh-free"}
STRATEGY_NAMES = {SINGLE: "one scale", FULL: "full multiscale training"}


def sentences(results: Mapping[str, Record]) -> list[str]:
    """Sentences of all blocks that are there.

    Parameters
    ----------
    results : mapping of str to dict
        By block, its ``runs``.
    """
    known = [block for block in WRITERS if block in results]
    return [line for block in known for line in WRITERS[block](results[block]["runs"])]


def strategies(runs: Runs) -> list[str]:
    """Accuracy and savings of full multiscale training against one scale at equal steps."""
    parts = [part for part in table_summary(runs) if part["equal_steps"]]
    if not parts:
        return [f"{len(runs)} runs were trained."]
    verdicts = [part["equal_steps"]["verdict"] for part in parts]
    fine = sum(
        part["equal_steps"]["within"] or part["equal_steps"]["ratio"].value < 1.0 for part in parts
    )
    saved = {name: [part["savings"][name] for part in parts] for name in ("work", "seconds")}
    lines = [
        f"At {_range(saved['work'], '.1f')} times less work, full multiscale training has "
        f"{_range((part['equal_steps']['ratio'].value for part in parts), '.2f')} times the test "
        f"MSE of one scale: within the seeds' spread or below it in {fine} of {len(parts)} pairs "
        f"of setup and convolution, better beyond doubt in {verdicts.count('better')}, worse in "
        f"{verdicts.count('worse')}.",
    ]
    for conv in CONVS:
        seconds = [p["savings"]["seconds"] for p in parts if p["conv"] == conv]
        if seconds:
            lines.append(
                f"On the clock it is {_range(seconds, '.1f')} times as fast, {NAMES[conv]} "
                "convolutions."
            )
    equal = [part["equal_work"]["ratio"].value for part in parts if part["equal_work"]]
    if equal:
        lines.append(f"At equal work it has {_range(equal, '.2g')} times the MSE of one scale.")
    return lines


def budgets(runs: Runs) -> list[str]:
    """Which strategy has the lowest mean MSE at equal budgets, and what is saved."""
    found = budget_summary(runs)
    lines = []
    for conv, by_strategy in found["lines"].items():
        at: dict[str, dict[str, float]] = {}
        for strategy, rows in by_strategy.items():
            for row in rows:
                at.setdefault(row["budget"], {})[strategy] = row["mse"].mean
        best = [min(means, key=lambda name: means[name]) for means in at.values()]
        counts = {name: best.count(name) for name in dict.fromkeys(best)}
        text = " and ".join(f"{name} in {count}" for name, count in counts.items())
        lines.append(
            f"At {len(at)} equal budgets of work, {NAMES[conv]} convolutions, the lowest mean test "
            f"MSE is that of {text}."
        )
        reached = found["reached"].get(conv)
        row = reached["least"].get(FULL) if reached else None
        if reached and row:
            dear = reached["single"]
            lines.append(
                f"Full multiscale training comes within {100 * (REACHES - 1):.0f} % of what one "
                f"scale reaches with {dear['work'].mean:.4g} work units with "
                f"{row['work'].mean:.4g}, {dear['seconds'].mean / row['seconds'].mean:.1f} times "
                "as fast on the clock."
            )
    return lines


def noise(runs: Runs) -> list[str]:
    """Ratio of the convolutions' errors along the noise."""
    found = axis_summary(runs, "task", noise_of)["ratios"]
    return [
        f"MSE of mesh-free over standard convolutions, {STRATEGY_NAMES.get(strategy, strategy)}: "
        + ", ".join(f"{estimate(e['ratio'])} at σ = {e['x']:g}" for e in entries)
        + "."
        for strategy, entries in found.items()
    ]


def depth(runs: Runs) -> list[str]:
    """Ratio of the convolutions' errors, and of full multiscale training, along depth."""
    found = axis_summary(runs, "layers", float)
    named = {
        f"MSE of mesh-free over standard convolutions, {STRATEGY_NAMES.get(strategy, strategy)}": e
        for strategy, e in found["ratios"].items()
    } | {
        f"MSE of full multiscale training over that of one scale, {NAMES[conv]} convolutions": e
        for conv, e in found["against"].items()
    }
    lines = []
    for what, entries in named.items():
        layers = ", ".join(f"{e['x']:g}" for e in entries)
        apart = [f"{e['x']:g}" for e in entries if not e["ratio"].low < 1.0 < e["ratio"].high]
        lines.append(
            f"{what}: {_range((e['ratio'].value for e in entries), '.2f')} at {layers} layers, "
            f"told apart from 1 at {', '.join(apart) or 'none'} of them."
        )
    return lines


def hot_starts(runs: Runs) -> list[str]:
    """Factors in fine steps and in work to the strictest target, by levels below."""
    summary = hot_summary(runs)
    target = min((entry["target"] for entry in summary), default=0.0)
    lines = []
    for conv in CONVS:
        factors: dict[str, dict[int, list[float]]] = {"steps": {}, "work": {}}
        for entry in summary:
            for name, by_start in factors.items():
                known = [s[name].value for s in entry["seeds"] if s[name].bound != "?"]
                if known and entry["target"] == target and entry["conv"] == conv:
                    by_start.setdefault(entry["below"], []).append(geometric_mean(known))
        if factors["steps"]:
            below = ", ".join(map(str, factors["steps"]))
            steps, work = (
                ", ".join(_range(values, ".2g") for values in by_start.values())
                for by_start in factors.values()
            )
            lines.append(
                f"To {target:g} times the best MSE of a cold start, {NAMES[conv]} networks that "
                f"start {below} levels below need {steps} times fewer steps on the finest mesh, "
                f"and {work} times less work in all (range over setups; a bound counts as a "
                "number)."
            )
    return lines


def curves(runs: Runs) -> list[str]:
    """Errors at the end of the curves."""
    lines = []
    for (setup, conv), mine in group(runs, "setup", "conv").items():
        ends = {
            name: geometric_mean(run["test"]["mse"] for run in same)
            for (name,), same in group(mine, "strategy").items()
        }
        text = ", ".join(f"{name} {MILLI * value:.2f}" for name, value in ends.items())
        lines.append(f"Test MSE in 10⁻³ at the end, {setup}, {NAMES[conv]}: {text}.")
    return lines


def corrections(runs: Runs) -> list[str]:
    """Norms of the mean corrections late in training, coarse to fine."""
    mine = [run for run in runs if run["strategy"] == MULTISCALE]
    if not mine:
        return []
    rows: dict[tuple[str, str], list[str]] = {}
    for entry in term_norms(runs, settled(mine)):
        if entry["level"]:
            value, low, high = (MILLI * v for v in roots(entry["square"]))
            text = (
                f"{value:.2g} [{low:.2g}, {high:.2g}] ({term_name(entry['level'], entry['sizes'])})"
            )
            rows.setdefault((entry["setup"], entry["conv"]), []).append(text)
    return [
        f"Norm in 10⁻³ of the mean correction late in training, {setup}, {NAMES[conv]}: "
        f"{', '.join(texts)}."
        for (setup, conv), texts in rows.items()
    ]


def _range(values: Iterable[float], form: str) -> str:
    found = list(values)
    low, high = (format(pick(found), form) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


WRITERS: dict[str, Callable[[Runs], list[str]]] = {
    "table": strategies,
    "budgets": budgets,
    "noise": noise,
    "depth": depth,
    "hot-starts": hot_starts,
    "curves": corrections,
}
