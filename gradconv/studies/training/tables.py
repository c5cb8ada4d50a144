"""The study's numbers as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from gradconv.studies.training.cells import MILLI, estimate, factors, root, spread_text
from gradconv.studies.training.comparing import (
    REACHES,
    axis_summary,
    budget_summary,
    table_summary,
)
from gradconv.studies.training.curves import settled, term_norms
from gradconv.studies.training.groups import CONVS, MULTISCALE, Record, Runs, table_of
from gradconv.studies.training.hot_starts import hot_summary
from gradconv.studies.training.spreads import CONFIDENCE, student_factor
from gradconv.tables import Table

GIGA, MEBI = 1e-9, 2.0**-20
COST_HEADS = ("work", "GFLOP", "seconds", "MiB")
COMPARED = ("in spread", "verdict")
SPREADS = "Means ± sample standard deviations over {seeds} seeds; MSE in units of 10⁻³."
FEW = (
    "{seeds} seeds are few: the interval of a mean is {student:.1f} standard errors on either side "
    "(Student's t), and “not told apart” is no proof of equality."
)
COSTS = (
    "Work: one sample's gradient on the finest mesh is 1. FLOPs are counted. Seconds are of "
    "training steps, measured on a machine that did other work at the same time. Memory is that of "
    "the largest pass, counted."
)
VERDICT = (
    f"Better or worse: the {CONFIDENCE:.0%} interval of the difference of mean log MSE (Welch) "
    "leaves out 0, without a correction for many comparisons."
)
IN_SPREAD = (
    "In spread: the means differ by at most the standard deviation of one scale over its seeds."
)


def all_tables(results: Mapping[str, Record]) -> list[Table]:
    """Tables of all blocks that are there.

    Parameters
    ----------
    results : mapping of str to dict
        By block, its ``runs``.
    """
    writers: dict[str, Callable[[Runs], list[Table]]] = {
        "table": strategies,
        "budgets": budgets,
        "noise": noise,
        "depth": depth,
        "hot-starts": hot_starts,
        "curves": corrections,
    }
    known = [block for block in writers if block in results]
    return [table for block in known for table in writers[block](results[block]["runs"])]


def _few(runs: Runs) -> str:
    seeds = len({run["seed"] for run in runs})
    if seeds < 2:
        return "One seed has no spread and no interval."
    return FEW.format(seeds=seeds, student=student_factor(seeds - 1))


def _spreads(runs: Runs) -> str:
    return SPREADS.format(seeds=len({run["seed"] for run in runs}))


# -- strategies ---------------------------------------------------------------------------------


def strategies(runs: Runs) -> list[Table]:
    """Every strategy of each setup, full multiscale training against one scale, and savings."""
    found = table_summary(runs)
    made = []
    for setup in dict.fromkeys(part["setup"] for part in found):
        mine = [part for part in found if part["setup"] == setup]
        made.append(
            Table(
                name=f"strategies-{setup}",
                caption=(
                    f"Test scores and costs of every strategy, {setup}. {_spreads(runs)} Bold: the "
                    f"best of its convolution. {_degraded(mine[0]['degraded'])}"
                ),
                header=("conv", "strategy", "MSE", "PSNR dB", "SSIM", *COST_HEADS),
                rows=tuple(_strategy(part["conv"], row) for part in mine for row in part["rows"]),
                notes=(COSTS,),
            )
        )
    return [*made, *_against(found, _few(runs)), *_savings(found)]


def _strategy(conv: str, row: Record) -> tuple[str, ...]:
    units = {"mse": (MILLI, 2), "psnr": (1.0, 2), "ssim": (1.0, 3)}
    found = {name: spread_text(row[name], *how) for name, how in units.items()}
    return (
        conv,
        row["strategy"] + (f", {row['budget']}" if row["budget"] else ""),
        *(f"**{text}**" if name in row["best"] else text for name, text in found.items()),
        f"{row['work'].mean:.4g}",
        f"{row['flops'].mean * GIGA:.3g}",
        spread_text(row["seconds"], 1, 1),
        f"{row['peak_bytes'] * MEBI:.0f}",
    )


def _degraded(scores: dict[str, float] | None) -> str:
    if scores is None:
        return "The input is coarser than the target: it has no score of its own."
    return (
        f"The degraded input itself: MSE {scores['mse'] * MILLI:.2f}, "
        f"PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}."
    )


def _against(found: Sequence[Record], few: str) -> list[Table]:
    rows = []
    for part in found:
        if part["equal_steps"]:
            work = part["equal_work"]
            rows.append(
                (
                    part["setup"],
                    part["conv"],
                    *_compared(part["equal_steps"]),
                    estimate(work["ratio"]) if work else "–",
                    work["verdict"] if work else "–",
                )
            )
    if not rows:
        return []
    return [
        Table(
            name="full-against-single",
            caption=(
                "Test MSE of full multiscale training over that of one scale (geometric means) "
                "with its interval. Equal steps, as the paper means it: N, N/2, N/4, N/8 steps "
                "from coarse to fine against N on the finest mesh. Equal work: one scale with the "
                f"steps that full multiscale training's work pays for. {IN_SPREAD}"
            ),
            header=("setup", "conv", "equal steps", *COMPARED, "equal work", "verdict"),
            rows=tuple(rows),
            notes=(VERDICT, few),
        )
    ]


def _compared(one: Record) -> tuple[str, str, str]:
    """Ratio, whether it is within the spread, and the verdict."""
    return estimate(one["ratio"]), "yes" if one["within"] else "no", one["verdict"]


def _savings(found: Sequence[Record]) -> list[Table]:
    rows = []
    for part in found:
        if part["savings"] and part["multiscale"]:
            cells = [part["setup"], part["conv"]]
            for saved in (part["multiscale"], part["savings"]):
                cells += [f"{saved[name]:.1f}" for name in ("work", "flops", "seconds")]
                cells.append(f"{saved['share']:.2f}")
            rows.append((*cells, ", ".join(f"{speed:.2f}" for speed in part["legs"])))
    if not rows:
        return []
    heads = ["setup", "conv"]
    for short in ("multiscale", "full"):
        heads += [f"{short}: work", "FLOPs", "seconds", "share"]
    return [
        Table(
            name="savings",
            caption=(
                "Cost of one scale over that of multiscale and of full multiscale training at "
                "equal steps; share: the factor in seconds over the factor in work, 1 where the "
                "clock saves what work units promise. Legs: speed of each leg of full multiscale "
                "training, coarse to fine, in work units a second, that of one scale being 1."
            ),
            header=(*heads, "legs"),
            rows=tuple(rows),
        )
    ]


# -- budgets, noise, depth ----------------------------------------------------------------------


def budgets(runs: Runs) -> list[Table]:
    """Score at fixed budgets, and the least budget that reaches what one scale reaches."""
    found = budget_summary(runs)
    setups = ", ".join(dict.fromkeys(run["setup"] for run in runs))
    made = []
    for conv, by_strategy in found["lines"].items():
        sizes = dict.fromkeys(row["budget"] for rows in by_strategy.values() for row in rows)
        body = []
        for strategy, rows in by_strategy.items():
            at = {row["budget"]: spread_text(row["mse"], MILLI, 2) for row in rows}
            body.append((strategy, *(at.get(size, "–") for size in sizes)))
        reached = found["reached"].get(conv)
        made.append(
            Table(
                name=f"budgets-{conv}",
                caption=(
                    f"Test MSE by work units, {setups}, {conv} convolutions. {_spreads(runs)}"
                ),
                header=("strategy", *(size.removeprefix("work:") for size in sizes)),
                rows=tuple(body),
                notes=(_reached_budget(reached),) if reached else (),
            )
        )
    return made


def _reached_budget(reached: Record) -> str:
    dear = reached["single"]
    return (
        f"The least of these budgets whose mean MSE is at most {REACHES:g} times that of one scale "
        f"at its largest ({dear['work'].mean:.4g} work units, {dear['seconds'].mean:.1f} s): "
        + "; ".join(_least(name, row, dear) for name, row in reached["least"].items())
        + "."
    )


def _least(strategy: str, row: Record | None, dear: Record) -> str:
    if row is None:
        return f"{strategy} none"
    ratios = [dear[name].mean / row[name].mean for name in ("work", "seconds")]
    return f"{strategy} {row['work'].mean:.4g} (× {ratios[0]:.1f} work, × {ratios[1]:.1f} seconds)"


def noise(runs: Runs) -> list[Table]:
    """Where each convolution wins as the noise grows."""
    found = axis_summary(runs, "task", noise_of)
    return _axis("noise", "σ", "at each standard deviation σ of the noise", runs, found, True)


def noise_of(task: str) -> float:
    """Standard deviation of the noise of a task."""
    return float(task.split(":")[1])


def depth(runs: Runs) -> list[Table]:
    """Standard and mesh-free networks of few and of many layers."""
    found = axis_summary(runs, "layers", float)
    return _axis("depth", "layers", "by the number of layers", runs, found, False)


def _axis(
    name: str, axis: str, along: str, runs: Runs, found: Record, degraded: bool
) -> list[Table]:
    ratios = {(s, e["x"]): e for s, entries in found["ratios"].items() for e in entries}
    lines, body = found["lines"], []
    for strategy in dict.fromkeys(key[1] for key in lines):
        at = [{e["x"]: e for e in lines.get((c, strategy), [])} for c in CONVS]
        for x in dict.fromkeys([*at[0], *at[1]]):
            both = [column.get(x) for column in at]
            given = next(entry for entry in both if entry)["degraded"]
            one = ratios.get((strategy, x))
            body.append(
                (
                    strategy,
                    f"{x:g}",
                    *([f"{given['mse'] * MILLI:.2f}"] if degraded else []),
                    *(spread_text(e["mse"], MILLI, 2) if e else "–" for e in both),
                    estimate(one["ratio"]) if one else "–",
                    one["wins"] if one else "–",
                )
            )
    setups = ", ".join(dict.fromkeys(run["setup"] for run in runs))
    heads = ("strategy", axis, *(["input"] if degraded else []), *CONVS, "mfc/standard", "wins")
    made = [
        Table(
            name=name,
            caption=(
                f"Test MSE of standard and mesh-free convolutions {along}, {setups}. "
                f"{_spreads(runs)} Ratio: geometric mean over the seeds with its interval "
                "(Student's t on the logarithms, runs paired by seed); the lower convolution wins "
                "where 1 lies outside."
            ),
            header=heads,
            rows=tuple(body),
            notes=(_few(runs),),
        )
    ]
    against = tuple(
        (conv, f"{one['x']:g}", *_compared(one))
        for conv, entries in found["against"].items()
        for one in entries
    )
    if against:
        made.append(
            Table(
                name=f"{name}-full-against-single",
                caption=(
                    f"Test MSE of full multiscale training over that of one scale {along}, "
                    f"{setups}, with its interval. {IN_SPREAD}"
                ),
                header=("conv", axis, "full/single", *COMPARED),
                rows=against,
                notes=(VERDICT,),
            )
        )
    return made


# -- hot starts, corrections --------------------------------------------------------------------


def hot_starts(runs: Runs) -> list[Table]:
    """Steps on the finest mesh and total work to a target: cold over hot; a table a setup."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for entry in hot_summary(runs):
        rows.setdefault(entry["setup"], []).append(
            (
                entry["conv"],
                str(entry["below"]),
                f"{entry['target']:g} ×",
                _reached(entry["seeds"], "steps"),
                _reached(entry["seeds"], "work"),
            )
        )
    return [
        Table(
            name=f"hot-starts-{setup}",
            caption=(
                f"Steps on the finest mesh, and work, to a target, {setup}: cold start → start "
                "from so many levels below, geometric mean over the seeds of the factor, its range "
                "in brackets. Target: a multiple of the best validation MSE of the cold run of the "
                "same seed. Work counts everything up to there, coarse steps included."
            ),
            header=("conv", "levels below", "target", "steps", "work"),
            rows=tuple(mine),
            notes=(
                "A hot start that needs no step at all counts as one step, so that its factor is a "
                "lower bound (≥); one that does not reach the target counts with all its steps, "
                "which gives an upper bound (≤). Both starts have the same cosine schedule on the "
                "finest mesh.",
            ),
        )
        for setup, mine in rows.items()
    ]


def _reached(seeds: list[Record], quantity: str) -> str:
    """``42 → 12: ×3.5 [3, 4.1]``, with the bounds that there are."""
    ends = []
    for start in ("cold", "hot"):
        known = [getattr(s[start], quantity) for s in seeds if s[start] is not None]
        missed = len(seeds) - len(known)
        text = f"{mean(known):.3g}" if known else ""
        ends.append(text + (f" ({missed} of {len(seeds)} not reached)" if missed else ""))
    return f"{ends[0].strip()} → {ends[1].strip()}: {factors([s[quantity] for s in seeds])}"


def corrections(runs: Runs) -> list[Table]:
    """Norm of each term's mean gradient late in multiscale training."""
    mine = [run for run in runs if run["strategy"] == MULTISCALE]
    if not mine:
        return []
    since = settled(mine)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for entry in term_norms(runs, since):
        own = rows.setdefault((entry["setup"], entry["conv"]), {})
        own[term_name(entry["level"], entry["sizes"])] = root(entry["square"])
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    samples = table_of(mine[0], "levels")[0]["samples"]
    return [
        Table(
            name="corrections",
            caption=(
                "Norm in 10⁻³ of the mean gradient of each term of multiscale training, root of "
                f"the mean square over the steps from {since} on and the seeds. The sampling error "
                f"of the {samples:g} samples of each measurement is taken off the squares; "
                "intervals are Student's t on the seeds' means. An interval that begins at 0 says "
                "that the norm is not told apart from 0."
            ),
            header=("setup", "conv", *heads),
            rows=tuple((*key, *(row.get(h, "–") for h in heads)) for key, row in rows.items()),
            notes=(_few(mine),),
        )
    ]


def term_name(level: int, sizes: Sequence[int]) -> str:
    """Meshes of a term: ``16² − 8²``."""
    return f"{sizes[level]}²" + (f" − {sizes[level - 1]}²" if level else "")
