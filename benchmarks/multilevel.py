"""Time a multilevel step against a single-scale step of equal variance, and both against the model.

A network on noisy fields; costs are seconds of one sample's gradient, measured in turn with the
steps in passes of the sizes that they use. Moments from a pilot give the optimal numbers of samples
for a target variance, and the number of finest samples with that variance. Then

- the variance of both estimates is measured on repeated steps, against the target;
- steps of both are timed in turn, and the ratio of their times is held against that of the cost
  model, Σ N_l C_l, and against work units. Data are drawn beforehand: what drawing takes is
  reported beside. Other work on the machine slows single steps, so that the ratio is taken on the
  quiet part of the run: the pairs whose two times are both among the faster half of their kind.

Against seconds the ratio should lie within 10 % of the model's. Work units leave out what small
meshes cost beside their cells, and what they gain by staying in the cache.

    python -m benchmarks.multilevel [--quick] [--threads 2] [--pairs 25] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.run import environment
from gradconv import MeshHierarchy, Problem
from gradconv.multilevel import CostModel, Fixed, MultilevelGradient
from gradconv.multilevel.costs.model import term_costs
from gradconv.multilevel.costs.plan import pass_size
from gradconv.multilevel.optimum import optimal_counts
from gradconv.nn.networks import ResNet
from gradconv.nn.networks.factory import MeshFreeFactory
from gradconv.samplers import Batch, ProblemSampler, Sampler

PASS = 8  # samples of a pass at most: larger batches of fine meshes leave the cache
SINGLE = 256  # samples of the single-scale step, which set the variance
SAMPLES = 512  # drawn beforehand
BOUND = 0.10


@dataclass(frozen=True)
class Result:
    """One case; ratios are single-scale over multilevel."""

    network: str
    restriction: str
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    single: int
    target: float
    multilevel_variance: float
    single_variance: float
    ratio: float
    least: float
    most: float
    model: float
    work_units: float
    drawing: float

    @property
    def within(self) -> bool:
        """Whether the measured ratio is the model's."""
        return abs(self.ratio / self.model - 1.0) <= BOUND


class Drawn(Sampler):
    """Samples drawn once; a number is one of them at random, with replacement."""

    def __init__(self, source: Sampler, count: int) -> None:
        self.source, self.hierarchy, self.count = source, source.hierarchy, count
        self.available = None
        self.places = np.random.default_rng(0).integers(count, size=2**20)
        levels = range(len(self.hierarchy))
        parts = [source.draw([m], levels) for m in range(count)]
        self.fields = [
            tuple(torch.cat([p[level][k] for p in parts]).float() for k in (0, 1))
            for level in levels
        ]

    def draw(self, numbers, levels) -> list[Batch]:
        places = self.places[np.asarray(list(numbers)) % len(self.places)]
        return [(self.fields[v][0][places], self.fields[v][1][places]) for v in levels]

    def describe(self) -> dict[str, object]:
        return self.source.describe()


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    resolved = MeshFreeFactory(dim=2, widths=(1 / 12, 1 / 8))  # by the coarsest mesh too
    return ResNet(1, 1, channels=16, layers=3, conv=resolved if name == "mfc" else name)


def pass_sizes(counts: Sequence[int]) -> dict[tuple[int, int], int]:
    """Samples of a full pass of each side of each term: (term, level) → samples."""
    top, found = len(counts) - 1, {}
    for term, count in enumerate(counts):
        size = min(count, pass_size(PASS, top - term, 2) or count)
        for level in (term, term - 1) if term else (term,):
            found[term, level] = size
    return found


def pass_seconds(one: MultilevelGradient, level: int, size: int) -> float:
    """Seconds of a pass, forward and backward, for each of its samples."""
    (batch,) = one.sampler.draw(range(size), [level])
    start = time.perf_counter()
    one.evaluator.backward(level, batch, 1.0, 0)
    return (time.perf_counter() - start) / size


def variance(estimator: MultilevelGradient, repetitions: int) -> float:
    """Trace of the covariance of repeated estimates."""
    values = []
    for _ in range(repetitions):
        found, _ = estimator.estimate()
        values.append(torch.cat([g.reshape(-1) for g in found.values()]).double().numpy())
    return float(np.var(values, axis=0, ddof=1).sum())


def timed(one: MultilevelGradient) -> float:
    start = time.perf_counter()
    one.backward()
    return time.perf_counter() - start


def quiet(values: Sequence[float]) -> float:
    """Median of the faster half."""
    return statistics.median(sorted(values)[: len(values) // 2 + 1])


def measure(name: str, restriction: str, sizes: tuple[int, int], pairs: int, pilot: int) -> Result:
    hierarchy = MeshHierarchy.powers_of_two(2, *sizes)
    problem = Problem("stencil", noise="pixel:0.3", restriction=restriction)
    source = ProblemSampler(problem, hierarchy, 0)
    model, levels = network(name), len(hierarchy)
    data = Drawn(source, SAMPLES)

    def estimator(counts: Sequence[int], control: Sequence[float] | None) -> MultilevelGradient:
        return MultilevelGradient(
            model, "mse", data, hierarchy, Fixed(counts), control=control, microbatch=PASS
        )

    first = estimator([1] * levels, None)
    moments = first.measure(pilot)
    target = float(moments.fine[-1]) / SINGLE
    alone = [PASS * 4 ** (levels - 1 - level) for level in range(levels)]
    rough = [
        quiet([pass_seconds(first, level, size) for _ in range(5)])
        for level, size in enumerate(alone)
    ]
    wanted = optimal_counts(moments.difference, term_costs(np.asarray(rough)), variance=target)
    counts = [int(n) for n in np.maximum(np.ceil(wanted), 1)]
    several = estimator(counts, None)
    # a weight of 0 on the finest level's coarse gradient leaves the finest level alone
    single = estimator([1] * (levels - 1) + [SINGLE], [0.0] * levels)
    spread = variance(several, 2 * pairs), variance(single, 2 * pairs)
    sizes_of = pass_sizes(counts)
    steps: list[tuple[float, float]] = []
    passes: dict[tuple[int, int], list[float]] = {key: [] for key in sizes_of}
    finest: list[float] = []
    for _ in range(pairs):
        # in turn, so that a slow stretch of the machine meets all of them
        steps.append((timed(single), timed(several)))
        finest.append(pass_seconds(single, levels - 1, PASS))
        for (term, level), size in sizes_of.items():
            passes[term, level].append(pass_seconds(several, level, size))
    middle = [statistics.median(v) for v in zip(*steps, strict=True)]
    found = [a / b for a, b in steps if a <= middle[0] and b <= middle[1]]
    price = sum(counts[term] * quiet(values) for (term, _), values in passes.items())
    units = CostModel.work_units(levels, 2).terms
    start = time.perf_counter()
    source.draw(range(PASS), [levels - 1])
    drawing = (time.perf_counter() - start) / PASS / quiet(finest)
    return Result(
        network=name,
        restriction=restriction,
        sizes=hierarchy.sizes,
        counts=tuple(counts),
        single=SINGLE,
        target=target,
        multilevel_variance=spread[0],
        single_variance=spread[1],
        ratio=statistics.median(found),
        least=min(found),
        most=max(found),
        model=SINGLE * quiet(finest) / price,
        work_units=float(SINGLE / np.sum(np.asarray(counts) * units)),
        drawing=drawing,
    )


def table(results: list[Result]) -> Table:
    made = Table(title="Single-scale step over multilevel step of equal variance")
    for column in (
        "network",
        "restriction",
        "meshes",
        "N, coarse to fine",
        "variance / target: multilevel, single",
        "seconds, measured",
        "cost model",
        "measured / model",
        "work units",
        "a draw / a finest gradient",
    ):
        made.add_column(column, justify="right")
    for r in results:
        made.add_row(
            r.network,
            r.restriction,
            f"{r.sizes[0]}–{r.sizes[-1]}",
            ", ".join(map(str, r.counts)) + f" | {r.single}",
            f"{r.multilevel_variance / r.target:.2f}, {r.single_variance / r.target:.2f}",
            f"{r.ratio:.2f} ({r.least:.2f}–{r.most:.2f})",
            f"{r.model:.2f}",
            f"{r.ratio / r.model:.2f}{'' if r.within else ' *'}",
            f"{r.work_units:.2f}",
            f"{r.drawing:.2f}",
        )
    return made


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    cases = [("standard", "average", (4, 6)), ("mfc", "average", (4, 6))]
    cases += [] if arguments.quick else [("mfc", "average", (4, 7))]
    pilot = 64 if arguments.quick else 2 * SAMPLES
    results = [measure(*case, arguments.pairs, pilot) for case in cases]
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table(results))
    outside = [r for r in results if not r.within]
    console.print(
        f"{len(results) - len(outside)} of {len(results)} within {BOUND:.0%} of the cost model"
    )
    if arguments.json is not None:
        document = {"environment": environment(), "results": [asdict(r) for r in results]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
