"""Time training steps of several scales against those of one, by work unit and to equal loss.

The network is a ResNet of two residual blocks, 64 channels, on noisy tiles of photographs, samples
drawn as in training.

1. *Speed of a work unit.* A step of every leg of the plans is timed in turn with one single-scale
   step, from drawing the samples to the gradient. Work units promise that a leg takes as many times
   the finest sample's seconds as it has work units; the fraction is how far that holds, above 1 if
   steps are cheaper than promised. It is taken twice: with what a step has on a mesh in one pass
   (`whole`), as training does unless told otherwise, and where both may choose the cells of a pass
   that suit them best, out of those of 4, 8 and 16 finest samples. Each fraction is the median over
   the turns of the ratio of neighbours in time; in brackets its quartiles. Beside it the same in
   operations (FLOPs), which for mesh-free layers do not fall by 4 from mesh to mesh where kernels
   are narrow.

2. *Equal final loss* (`--equal-loss`). The three strategies are trained with validations between,
   whole passes; the target is the worst of their final errors. Speed-ups are ratios of seconds and
   of work units to the first validation at or below it, and the fraction is the one over the other.

3. *Where the time goes* (`--profile`, CPU): torch's profiler on a step of the coarsest leg and on
   one of single scale in turn, medians in nanoseconds a cell by kind of operation, without drawing.

    python -m benchmarks.training [--quick] [--equal-loss | --profile] [--threads 2] [--device cpu]
                                  [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import profiler

from benchmarks.run import environment
from gradconv.multilevel.costs.model import CostModel, step_work
from gradconv.nn import UnresolvedKernelWarning
from gradconv.nn.evaluation import mean_square
from gradconv.train import TrainingConfig
from gradconv.train.curves import read_run
from gradconv.train.gradient import StepGradient
from gradconv.train.making import sampler_of, work_units
from gradconv.train.strategies import STRATEGIES
from gradconv.train.trainer import Trainer

COUNTS = (128, 64, 32, 16)
PASSES = {"whole": (None,), "best": (4, 8, 16)}
STRATEGIES_TIMED = ("multiscale", "full-multiscale")
# How the names of torch's operations end.
KINDS = {
    "convolutions": ("convolution", "convolution_backward", "_Compiled", "_CompiledBackward"),
    "copies and fills": ("copy_", "fill_", "clone", "zero_", "empty", "CopySlices"),
}


@dataclass(frozen=True)
class Speed:
    """Speed of a work unit (or of an operation) over that of single-scale training."""

    network: str
    size: int
    strategy: str
    work: tuple[float, float, float]  # lower quartile, median, upper quartile
    flops: tuple[float, float, float]
    legs: tuple[float, ...]
    passes: tuple[int | None, ...]  # samples on the finest mesh of single scale's and the legs'
    drawing: float  # fraction of the time that drawing takes
    unit: float  # seconds of a work unit of single scale


@dataclass(frozen=True)
class EqualLoss:
    """Speed-ups to an equal error over single-scale training."""

    network: str
    size: int
    seed: int
    strategy: str
    target: float
    seconds: float
    work: float
    flops: float

    @property
    def fraction(self) -> float:
        """Speed-up in seconds as a fraction of that in work units."""
        return self.seconds / self.work


@dataclass(frozen=True)
class Profile:
    """Nanoseconds of a cell by kind of operation."""

    network: str
    n: int
    samples: int
    nanoseconds: dict[str, float]


def configuration(conv: str, size: int, device: str, **more: object) -> TrainingConfig:
    return TrainingConfig(
        task="denoise:0.2", network="resnet", conv=conv, width=64, layers=4, size=size,
        device=device, **{"counts": COUNTS, **more},  # type: ignore[arg-type]
    )  # fmt: skip


class Timed:
    """Steps of one plan's leg with passes of a given size."""

    def __init__(self, trainer: Trainer, leg, microbatch: int | None) -> None:
        sampler = sampler_of(leg, trainer.data.sampler(), 0)
        self.step = StepGradient(trainer.module, mean_square, sampler, trainer.engine, microbatch)
        self.leg, self.number, self.engine = leg, 0, trainer.engine

    def __call__(self) -> tuple[float, float]:
        """Seconds in all, and of drawing."""
        self.step.module.zero_grad(set_to_none=True)
        self.engine.wait()
        start = time.perf_counter()
        data = self.step.draw(self.leg.terms, self.number)
        self.engine.wait()
        middle = time.perf_counter()
        self.step.add([data])
        self.engine.wait()
        self.number += sum(t.samples for t in self.leg.terms)
        return time.perf_counter() - start, middle - start


def speeds(
    conv: str, size: int, device: str, turns: int, passes: tuple[int | None, ...]
) -> list[Speed]:
    """Time the legs of both plans in turn with single-scale steps."""
    trainer = Trainer.from_config(configuration(conv, size, device))
    schedule = trainer.config.plan_schedule
    units, flops = work_units(trainer.hierarchy), CostModel(tuple(c.flops for c in trainer.costs))
    # a single-scale step of as many samples as the finest term: its time is proportional to them
    (alone,) = STRATEGIES.parse("single").legs(type(schedule)(**{**vars(schedule), "batch": 16}))
    legs = STRATEGIES.parse("full-multiscale").legs(schedule)
    single = _best(trainer, alone, passes)
    timed = [_best(trainer, leg, passes) for leg in legs]
    rows = []
    for _ in range(turns):
        before = single()[0]
        for place, one in enumerate(timed):
            seconds, drawing = one()
            after = single()[0]
            rows.append((place, 0.5 * (before + after), seconds, drawing))
            before = after
    found = []
    for name in STRATEGIES_TIMED:
        weights = [leg.steps for leg in legs] if name == "full-multiscale" else [0, 0, 0, 1]
        by_turn = {"work": [], "flops": []}
        shares = []
        for turn in range(turns):
            part = rows[turn * len(legs) : (turn + 1) * len(legs)]
            for key, costs in (("work", units), ("flops", flops)):
                one = step_work(alone.stage, costs)
                expected = sum(
                    w * step_work(leg.stage, costs) / one * p[1]
                    for w, leg, p in zip(weights, legs, part, strict=True)
                )
                taken = sum(w * p[2] for w, p in zip(weights, part, strict=True))
                by_turn[key].append(expected / taken)
            shares.append(
                sum(w * p[3] for w, p in zip(weights, part, strict=True))
                / sum(w * p[2] for w, p in zip(weights, part, strict=True))
            )
        each = [
            statistics.median(
                step_work(leg.stage, units) / step_work(alone.stage, units) * p[1] / p[2]
                for p in rows
                if p[0] == place
            )
            for place, leg in enumerate(legs)
        ]
        found.append(
            Speed(
                conv, size, name, _quartiles(by_turn["work"]), _quartiles(by_turn["flops"]),
                tuple(each), (single.step.microbatch, *(t.step.microbatch for t in timed)),
                statistics.median(shares),
                statistics.median(p[1] for p in rows) / step_work(alone.stage, units),
            )
        )  # fmt: skip
    return found


def _best(trainer: Trainer, leg, passes: tuple[int | None, ...]) -> Timed:
    """The size of passes with which a leg is fastest, of three tries each."""
    tries = [Timed(trainer, leg, most) for most in passes]
    taken = {one: [] for one in tries}
    for turn in range(4):
        for one in tries:
            seconds = one()[0]
            if turn:
                taken[one].append(seconds)
    return min(tries, key=lambda one: statistics.median(taken[one]))


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def equal_loss(conv: str, size: int, device: str, seed: int, steps: int) -> list[EqualLoss]:
    """Train by the three strategies and compare what they take to the same error."""
    stages = tuple(max(2, steps // 2**level) for level in range(4))
    curves = {}
    for strategy in ("single", *STRATEGIES_TIMED):
        config = configuration(
            conv, size, device, counts=(32, 16, 8, 4), strategy=strategy, steps=steps,
            stages=stages, seed=seed, lr=3e-3, schedule="cosine", restarts=True,
            validate_every=2, validation_tiles=28, test_tiles=4,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            Trainer.from_config(config).fit(folder)
            curves[strategy] = read_run(Path(folder)).validation
    target = max(float(c["mse"][-1]) for c in curves.values())
    first = {
        name: {
            key: float(c[key][int(np.argmax(np.asarray(c["mse"]) <= target))])
            for key in ("seconds", "work", "flops")
        }
        for name, c in curves.items()
    }
    return [
        EqualLoss(
            conv, size, seed, name, target,
            *(first["single"][key] / first[name][key] for key in ("seconds", "work", "flops")),
        )
        for name in STRATEGIES_TIMED
    ]  # fmt: skip


def profile(conv: str, size: int, turns: int) -> list[Profile]:
    """Time of a cell on the coarsest mesh and of one scale's, by kind, in turn; medians."""
    trainer = Trainer.from_config(configuration(conv, size, "cpu"))
    schedule = trainer.config.plan_schedule
    (alone,) = STRATEGIES.parse("single").legs(type(schedule)(**{**vars(schedule), "batch": 16}))
    legs = (STRATEGIES.parse("full-multiscale").legs(schedule)[0], alone)
    steps = [Timed(trainer, leg, None) for leg in legs]
    drawn = [one.step.draw(one.leg.terms, 0) for one in steps]
    rows: list[list[dict[str, float]]] = [[], []]
    for turn in range(turns + 2):
        for one, data, mine in zip(steps, drawn, rows, strict=True):
            with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as events:
                one.step.add([data])
            if turn >= 2:
                mine.append(_by_kind(events))
    found = []
    for leg, mine in zip(legs, rows, strict=True):
        (term,) = leg.terms
        n = trainer.hierarchy.sizes[term.level]
        cells = term.samples * n * n
        middle = {kind: statistics.median(row[kind] for row in mine) for kind in mine[0]}
        found.append(Profile(conv, n, term.samples, {k: v / cells for k, v in middle.items()}))
    return found


def _by_kind(events: profiler.profile) -> dict[str, float]:
    """Nanoseconds of each kind of operation."""
    found = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in events.key_averages():
        kind = next((k for k, ends in KINDS.items() if event.key.endswith(ends)), "other")
        found[kind] += 1e3 * event.self_cpu_time_total
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--equal-loss", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--sizes", default="64,128")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", UnresolvedKernelWarning)  # as on coarse levels
    sizes = (16,) if arguments.quick else tuple(int(n) for n in arguments.sizes.split(","))
    turns = 2 if arguments.quick else arguments.turns
    console, found = Console(), []
    console.width = max(console.width, 150)  # a row a line
    if arguments.equal_loss:
        steps = 8 if arguments.quick else arguments.steps
        for conv in ("standard", "mfc"):
            for seed in range(1 if arguments.quick else 3):
                found += equal_loss(conv, sizes[0], arguments.device, seed, steps)
        console.print(_equal_table(found))
    elif arguments.profile:
        for conv in ("standard", "mfc"):
            found += profile(conv, sizes[0], 2 if arguments.quick else 20)
        console.print(_profile_table(found))
    else:
        for size in sizes:
            for conv in ("standard", "mfc"):
                for passes in PASSES.values():
                    found += speeds(conv, size, arguments.device, turns, passes)
        console.print(_speed_table(found))
    if arguments.json:
        document = {
            "environment": {
                **environment(),
                "dtype": "float32",
                "threads": str(arguments.threads),
                "device": arguments.device,
            },
            "results": [asdict(one) for one in found],
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def _speed_table(found: list[Speed]) -> Table:
    table = Table(title="Speed over single-scale training")
    for name in (
        "network", "mesh", "strategy", "of a work unit", "of an operation", "legs, by work unit",
        "drawing", "passes", "ms a unit, single",
    ):  # fmt: skip
        table.add_column(name)
    for one in found:
        table.add_row(
            one.network, f"{one.size}²", one.strategy,
            *(f"{q[1]:.2f} ({q[0]:.2f}–{q[2]:.2f})" for q in (one.work, one.flops)),
            ", ".join(f"{v:.2f}" for v in one.legs), f"{one.drawing:.0%}",
            "whole" if one.passes[0] is None else ", ".join(map(str, one.passes)),
            f"{1e3 * one.unit:.1f}",
        )  # fmt: skip
    return table


def _equal_table(found: list[EqualLoss]) -> Table:
    table = Table(title="Speed-up over single-scale training to the same error")
    for name in (
        "network", "mesh", "seed", "strategy", "target MSE", "seconds", "work units", "FLOPs",
        "seconds / work units",
    ):  # fmt: skip
        table.add_column(name)
    for one in found:
        table.add_row(
            one.network, f"{one.size}²", str(one.seed), one.strategy, f"{one.target:.2e}",
            f"{one.seconds:.1f}", f"{one.work:.1f}", f"{one.flops:.1f}", f"{one.fraction:.2f}",
        )  # fmt: skip
    return table


def _profile_table(found: list[Profile]) -> Table:
    table = Table(title="Nanoseconds of a cell by kind of operation")
    for name in ("network", "mesh", "samples", *KINDS, "other", "all"):
        table.add_column(name, justify="right")
    for one in found:
        values = [*one.nanoseconds.values(), sum(one.nanoseconds.values())]
        table.add_row(one.network, f"{one.n}²", str(one.samples), *(f"{v:.0f}" for v in values))
    return table


if __name__ == "__main__":
    main()
