"""What is said of variances at equal cost: captions, sentences and tables of the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradconv.tables import Table

Record = dict[str, Any]
BIASED = 4.0  # standard errors of a squared bias: of a scalar, χ² of 1, a false alarm in 100
NAMES = {
    "single": "one scale",
    "optimal": "optimal numbers",
    "fixed": "given numbers",
    "randomised": "randomised",
}
MEAN, SAMPLE = "‖E g‖²", "V$_L$"
RELATIVE = {
    MEAN: "the squared norm of its mean",
    SAMPLE: "that of a single sample (not every mean is resolved)",
}


def relative(records: Sequence[Record]) -> str:
    """What variances are drawn relative to: one for all panels, known in each."""
    return MEAN if all(r["mean_resolved"] for r in records) else SAMPLE


def caption(records: Sequence[Record], steps: int) -> str:
    """Say what the figure of networks after some training steps shows."""
    meshes, by = records[0]["meshes"], relative(records)
    state = f"after {steps} training steps" if steps else "at their start"
    return (
        f"Variance of gradient estimates on {meshes[-1]}² relative to {RELATIVE[by]} "
        f"against their cost, for networks {state}, on {len(meshes)} "
        f"levels from {meshes[0]}² on. Points: measured, with 95 % intervals, side by side; lines: "
        "forecasts K/W from moments of other samples, K = V_L C_L on one scale, (Σ √(V_l C_l))² "
        "with optimal numbers, Σ V_l/n_l Σ n_l C_l with given ones, "
        f"n = {' : '.join(str(n) for n in records[0]['counts'])} from coarse to fine, "
        "(Σ E‖d_l‖²/p_l − ‖E g‖²) Σ p_l C_l randomised."
    )


def sentence(record: Record) -> str:
    """Say what a part came to."""
    state = f"after {record['steps']} steps" if record["steps"] else "new"
    parts = [
        f"{NAMES[name]} {_interval(ratio['work'])} ({ratio['work']['verdict']})"
        for name, ratio in record["ratios"].items()
    ]
    return (
        f"{record['case']} ({state}), {record['restriction']}: variance at equal cost over that "
        f"of one scale: {', '.join(parts)}."
    )


def summary(records: Sequence[Record]) -> list[str]:
    """A sentence a part, and how often forecast and measurement agree."""
    every = [e for r in records for own in r["estimates"].values() for e in own]
    agreeing = sum(e["agrees"] for e in every)
    biased = sum(e["biased"] for e in every)
    return [
        *(sentence(r) for r in records),
        f"Forecast Σ V_l/N_l and measurement agree within 95 % intervals in {agreeing} of "
        f"{len(every)} estimates; a bias shows in {biased}.",
    ]


def ratio_table(records: Sequence[Record]) -> Table:
    """Variance × cost of each estimator over that of one scale, forecast and measured."""
    return Table(
        name="ratios",
        caption=(
            "Variance × cost of each estimator over that of one scale: forecast before "
            f"numbers are rounded; measured at {_budgets(records)} finest gradients; their "
            "geometric mean with its 95 % interval, in work units and in operations."
        ),
        header=(
            *("network", "restriction", "steps", "estimator", "forecast"),
            *("measured", "mean", "verdict", "in operations", "verdict "),
        ),
        rows=tuple(
            (
                *(r["case"], r["restriction"], str(r["steps"]), NAMES[name]),
                f"{r['products'][name] / r['products']['single']:.3g}",
                ", ".join(f"{v:.3g}" for v in ratio["each"]),
                _interval(ratio["work"]),
                f"**{ratio['work']['verdict']}**",
                _interval(ratio["operations"]),
                f"**{ratio['operations']['verdict']}**",
            )
            for r in records
            for name, ratio in r["ratios"].items()
        ),
    )


def forecast_table(records: Sequence[Record]) -> Table:
    """Forecasts against measurements: variance, and error over variance."""
    return Table(
        name="forecasts",
        caption=(
            f"Forecast against measurement at {_budgets(records)} finest gradients: measured over "
            "predicted variance (* where 1 lies outside its 95 % interval), and mean "
            "square error over variance, 1 without bias (* where the squared bias is "
            f"beyond {BIASED:g} standard errors)."
        ),
        header=(
            *("network", "restriction", "steps", "estimator"),
            *("samples, coarse to fine", "variance", "error"),
        ),
        rows=tuple(
            (
                *(r["case"], r["restriction"], str(r["steps"]), NAMES[name]),
                "; ".join(_samples(e) for e in estimates),
                ", ".join(_star(e["ratio"], not e["agrees"]) for e in estimates),
                ", ".join(_star(e["error"] / e["variance"], e["biased"]) for e in estimates),
            )
            for r in records
            for name, estimates in r["estimates"].items()
        ),
    )


def _budgets(records: Sequence[Record]) -> str:
    return ", ".join(f"{e['budget']:g}" for e in records[0]["estimates"]["single"])


def _interval(ratio: Record) -> str:
    return f"{ratio['value']:.3g} [{ratio['low']:.3g}, {ratio['high']:.3g}]"


def _samples(estimate: Record) -> str:
    if estimate["counts"] is None:
        return f"{estimate['draws']} draws"
    return " ".join(str(n) for n in estimate["counts"])


def _star(value: float, marked: bool) -> str:
    return f"{value:.2f}{'*' if marked else ''}"
