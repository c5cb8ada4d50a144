"""The study's numbers as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import geometric_mean, mean
from typing import Any

from spreads import CONFIDENCE, Estimate, Spread, student_factor
from summaries import (
    TARGETS,
    Factor,
    Record,
    axis_summary,
    budget_summary,
    hot_summary,
    table_summary,
    term_norms,
)

MILLI, GIGA, MEBI = 1e3, 1e-9, 2.0**-20
SETTLED = 80  # steps after which corrections are averaged
RULES = """\
Means ± sample standard deviations over the seeds; MSE in units of 10⁻³. {seeds} seeds are few: \
the interval of a mean is {student:.1f} standard errors on either side (Student's t), and "not \
told apart" is no proof of equality. Verdicts: *better* or *worse* where the {confidence:.0%} \
interval of the difference of mean log MSE (Welch) leaves out 0, without a correction for many \
comparisons. Work: one sample's gradient on the finest mesh is 1. FLOPs are counted; seconds are \
of training steps on one thread, of a machine that did other work at the same time; peak memory is \
that of the largest pass, counted."""


def rules(results: dict[str, Record]) -> str:
    """How the numbers are to be read."""
    seeds = min(
        len(document["provenance"]["configuration"]["seeds"]) for document in results.values()
    )
    factor = student_factor(seeds - 1)
    return RULES.format(seeds=seeds, student=factor, confidence=CONFIDENCE)


def markdown(results: dict[str, Record]) -> str:
    """All tables of the blocks that are there."""
    writers = {
        "table": paper_table,
        "budgets": budgets,
        "noise": noise,
        "depth": depth,
        "hot-starts": hot_starts,
        "curves": corrections,
    }
    parts = ["# Training on several scales: results", rules(results)]
    for block, write in writers.items():
        if block in results:
            parts += [write(results[block]["runs"]), _origin(results[block])]
    return "\n\n".join(parts) + "\n"


def paper_table(runs: list[Record]) -> str:
    """Every strategy, then full multiscale training against one scale."""
    found = table_summary(runs)
    lines = ["## Strategies", "", "Bold: the best of its setup and convolution."]
    for setup in dict.fromkeys(part["setup"] for part in found):
        mine = [part for part in found if part["setup"] == setup]
        lines += ["", f"### {setup}", "", _degraded(mine[0]["degraded"]), ""]
        lines += _table(
            ["conv", "strategy", "MSE", "PSNR dB", "SSIM", "work", "GFLOP", "seconds", "MiB"],
            [_strategy(part["conv"], row) for part in mine for row in part["rows"]],
        )
    lines += ["", "## Full multiscale training against one scale", ""]
    lines += [
        "Test MSE of full multiscale over that of single (geometric means), with its "
        "interval. "
        "*Equal steps* as the paper means it: N, N/2, N/4, N/8 steps from coarse to fine against N "
        "on the finest mesh. *Equal work*: single with the steps that full multiscale's work pays "
        "for. *In spread*: the means at equal steps differ by at most the standard deviation of "
        "single over its seeds.",
        "",
    ]
    heads = ["setup", "conv", "equal steps", "in spread", "verdict", "equal work", "verdict"]
    lines += _table(heads, [_against(part) for part in found if part["equal_steps"]])
    lines += [
        "",
        "## Savings",
        "",
        "Cost of single over that of multiscale and of full multiscale training at equal steps; "
        "*share*: the factor in seconds over the factor in work, 1 where the clock saves what work "
        "units promise. *Legs*: speed of each leg of full multiscale training, coarse to fine, in "
        "work units a second, that of single being 1.",
        "",
    ]
    heads = ["setup", "conv"]
    for short in ("multiscale", "full"):
        heads += [f"{short}: work", "FLOPs", "seconds", "share"]
    rows = [_savings(part) for part in found if part["savings"] and part["multiscale"]]
    lines += _table([*heads, "legs"], rows)
    return "\n".join(lines)


def _strategy(conv: str, row: Record) -> list[str]:
    units = {"mse": (MILLI, 2), "psnr": (1.0, 2), "ssim": (1.0, 3)}
    found = {name: _spread(row[name], *how) for name, how in units.items()}
    return [
        conv,
        _variant(row),
        *(f"**{text}**" if name in row["best"] else text for name, text in found.items()),
        f"{row['work'].mean:.4g}",
        f"{row['flops'].mean * GIGA:.3g}",
        _spread(row["seconds"], 1, 1),
        f"{row['peak_bytes'] * MEBI:.0f}",
    ]


def _variant(row: Record) -> str:
    return row["strategy"] + (f", {row['budget']}" if row["budget"] else "")


def _degraded(scores: dict[str, float] | None) -> str:
    if scores is None:
        return "The input is coarser than the target: it has no score of its own."
    return (
        f"The degraded input itself: MSE {scores['mse'] * MILLI:.2f}, "
        f"PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}."
    )


def _compared(one: Record) -> list[str]:
    """Ratio, whether it is within the spread, and the verdict."""
    return [_estimate(one["ratio"]), "yes" if one["within"] else "no", one["verdict"]]


def _against(part: Record) -> list[str]:
    work = part["equal_work"]
    return [
        part["setup"],
        part["conv"],
        *_compared(part["equal_steps"]),
        _estimate(work["ratio"]) if work else "–",
        work["verdict"] if work else "–",
    ]


def _savings(part: Record) -> list[str]:
    found = [part["setup"], part["conv"]]
    for saved in (part["multiscale"], part["savings"]):
        found += [f"{saved[name]:.1f}" for name in ("work", "flops", "seconds")]
        found.append(f"{saved['share']:.2f}")
    return [*found, ", ".join(f"{speed:.2f}" for speed in part["legs"])]


def budgets(runs: list[Record]) -> str:
    """Score at fixed budgets, and the least budget that reaches what one scale reaches."""
    found = budget_summary(runs)
    lines = ["## Loss at equal work", "", "denoise-resnet, test MSE by work units."]
    for conv, by_strategy in found["lines"].items():
        sizes = dict.fromkeys(row["budget"] for rows in by_strategy.values() for row in rows)
        body = []
        for strategy, rows in by_strategy.items():
            at = {row["budget"]: _spread(row["mse"], MILLI, 2) for row in rows}
            body.append([strategy, *(at.get(size, "–") for size in sizes)])
        heads = [size.removeprefix("work:") for size in sizes]
        lines += ["", f"### {conv}", "", *_table(["strategy", *heads], body)]
    for conv, reached in found["reached"].items():
        dear = reached["single"]
        lines += [
            "",
            f"{conv}: the least of these budgets whose mean MSE is at most {TARGETS[0]:g} times "
            f"that of single at its largest ({dear['work'].mean:.4g} work units, "
            f"{dear['seconds'].mean:.1f} s): "
            + "; ".join(_least(name, row, dear) for name, row in reached["least"].items())
            + ".",
        ]
    return "\n".join(lines)


def _least(strategy: str, row: Record | None, dear: Record) -> str:
    if row is None:
        return f"{strategy} none"
    ratios = [dear[name].mean / row[name].mean for name in ("work", "seconds")]
    return f"{strategy} {row['work'].mean:.4g} (× {ratios[0]:.1f} work, × {ratios[1]:.1f} seconds)"


def noise(runs: list[Record]) -> str:
    """Where each convolution wins as the noise grows."""
    found = axis_summary(runs, "task", lambda task: float(task.partition(":")[2]))
    lines = ["## Standard and mesh-free convolutions under noise", ""]
    lines.append("denoise-resnet trained and tested at each standard deviation σ of the noise.")
    return "\n".join([*lines, "", *_axis("σ", found, degraded=True)])


def depth(runs: list[Record]) -> str:
    """Standard and mesh-free networks of 2 to 18 layers."""
    found = axis_summary(runs, "layers", float)
    lines = ["## Depth", "", "denoise-resnet of so many layers, half of the table's steps."]
    return "\n".join([*lines, "", *_axis("layers", found)])


def _axis(name: str, found: Record, degraded: bool = False) -> list[str]:
    ratios = {(s, e["x"]): e for s, entries in found["ratios"].items() for e in entries}
    lines, body = found["lines"], []
    for strategy in dict.fromkeys(key[1] for key in lines):
        at = [{e["x"]: e for e in lines.get((c, strategy), [])} for c in ("standard", "mfc")]
        for x in dict.fromkeys([*at[0], *at[1]]):
            both = [column.get(x) for column in at]
            given = next(entry for entry in both if entry)["degraded"]
            one = ratios.get((strategy, x))
            body.append(
                [
                    strategy,
                    f"{x:g}",
                    *([f"{given['mse'] * MILLI:.2f}"] if degraded else []),
                    *(_spread(e["mse"], MILLI, 2) if e else "–" for e in both),
                    _estimate(one["ratio"]) if one else "–",
                    one["wins"] if one else "–",
                ]
            )
    heads = ["strategy", name, *(["input"] if degraded else []), "standard", "mfc", "mfc/standard"]
    return [
        "Ratio of MSE: geometric mean over the seeds with its interval (Student's t on the "
        "logarithms, runs paired by seed); the lower convolution wins where 1 lies outside.",
        "",
        *_table([*heads, "wins"], body),
        "",
        "Full multiscale training over one scale, as above:",
        "",
        *_table(
            ["conv", name, "full/single", "in spread", "verdict"],
            [
                [conv, f"{one['x']:g}", *_compared(one)]
                for conv, entries in found["against"].items()
                for one in entries
            ],
        ),
    ]


def hot_starts(runs: list[Record]) -> str:
    """Steps on the finest mesh and total work to a target: cold over hot."""
    found = hot_summary(runs)
    lines = [
        "## Hot starts",
        "",
        "Steps on the finest mesh until the validation MSE, measured before the first of them and "
        "every 2, is first at most 1.05, 1.2 or 1.5 times the best of the cold run of the same "
        "seed: cold start → start from so many levels below, geometric mean over the seeds of the "
        "factor, its range in brackets. Work counts everything up to there, coarse steps included. "
        "A hot start that needs no step at all counts as one step, so that its factor is a lower "
        "bound (≥); one that does not reach the target counts with all its steps, which gives an "
        "upper bound (≤). Both starts have the same cosine schedule on the finest mesh.",
        "",
    ]
    heads = [f"{quantity}, {t:g}×" for t in TARGETS for quantity in ("steps", "work")]
    rows: dict[tuple[str, str, int], list[str]] = {}
    for entry in found:
        row = rows.setdefault((entry["setup"], entry["conv"], entry["below"]), [])
        row += [_reached(entry["seeds"], "steps"), _reached(entry["seeds"], "work")]
    body = [[setup, conv, str(below), *row] for (setup, conv, below), row in rows.items()]
    return "\n".join([*lines, *_table(["setup", "conv", "levels below", *heads], body)])


def _reached(seeds: list[Record], quantity: str) -> str:
    """``42 → 12: ×3.5 [3, 4.1]``, with the bounds that there are."""
    ends = []
    for start in ("cold", "hot"):
        known = [getattr(s[start], quantity) for s in seeds if s[start] is not None]
        missed = len(seeds) - len(known)
        text = f"{mean(known):.3g}" if known else ""
        ends.append(text + (f" ({missed} of {len(seeds)} not reached)" if missed else ""))
    return f"{ends[0].strip()} → {ends[1].strip()}: {factors([s[quantity] for s in seeds])}"


def factors(found: Sequence[Factor]) -> str:
    """Geometric mean of factors with range; a bound of one is a bound of all."""
    known = [f for f in found if f.bound != "?"]
    if not known:
        return "unknown"
    bounds = {f.bound for f in known} - {""}
    sign = bounds.pop() if len(bounds) == 1 else "~" if bounds else ""
    low, high = (pick(known, key=lambda f: f.value) for pick in (min, max))
    middle = geometric_mean(f.value for f in known)
    return f"× {sign}{middle:.2g} [{low.bound}{low.value:.2g}, {high.bound}{high.value:.2g}]" + (
        "" if len(known) == len(found) else f" ({len(found) - len(known)} unknown)"
    )


def corrections(runs: list[Record]) -> str:
    """Norm of each term's mean gradient late in multiscale training."""
    lines = [
        "## Corrections while training",
        "",
        "Norm in 10⁻³ of the mean gradient of each term of multiscale training, root of the mean "
        f"square over the steps from {SETTLED} on and the seeds. The sampling error of the 8 "
        "samples of each measurement is taken off the squares; intervals are Student's t on the "
        "seeds' means. An interval that begins at 0 says that the norm is not told apart from 0.",
        "",
    ]
    rows: dict[tuple[str, str], list[str]] = {}
    heads: list[str] = []
    for entry in term_norms(runs, SETTLED):
        level, sizes, square = entry["level"], entry["sizes"], entry["square"]
        head = f"{sizes[level]}²" + (f" − {sizes[level - 1]}²" if level else "")
        heads = heads if head in heads else [*heads, head]
        rows.setdefault((entry["setup"], entry["conv"]), []).append(_root(square))
    body = [[*key, *row] for key, row in rows.items()]
    return "\n".join([*lines, *_table(["setup", "conv", *heads], body)])


def _root(square: Estimate) -> str:
    """Square roots of a number and of its ends, 0 for what is below."""
    ends = (square.value, square.low, square.high)
    value, low, high = (MILLI * math.sqrt(max(v, 0.0)) for v in ends)
    return f"{value:.2f} [{_end(low) if low else '0'}, {_end(high)}]"


# -- words --------------------------------------------------------------------------------------


def _spread(value: Spread, unit: float, digits: int) -> str:
    text = f"{value.mean * unit:.{digits}f}"
    return text if math.isnan(value.sd) else f"{text} ± {value.sd * unit:.{digits}f}"


def _estimate(value: Estimate) -> str:
    return f"{value.value:.2f} [{_end(value.low)}, {_end(value.high)}]"


def _end(value: float) -> str:
    return f"{value:.2f}" if 0.005 <= value < 100 else f"{value:.1g}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(row) + " |" for row in body]


def _origin(document: Record) -> str:
    origin: dict[str, Any] = document["provenance"]
    commit = (origin["commit"] or "none")[:12] + (" (dirty)" if origin["dirty"] else "")
    return (
        f"Commit {commit}, configuration {origin['configuration_hash'][:12]}, "
        f"{origin['device']}, torch {origin['versions']['torch']}."
    )
