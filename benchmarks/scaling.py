"""Time a sweep and a small atlas on one worker and on two, and say where scaling ends.

Every run is made in a fresh process, serial and spread ones in turn. What counts are ratios of
neighbouring runs:

strong scaling  T(1) / T(2) for the same work; 2 at best
weak scaling    T(1) / T(2) for twice the work on two workers; 1 at best

The model has no free parameter. Its parts are measured one by one in processor seconds, which
other users of the machine change little, and its ratio is held against the measured one:

    T(p) = serial + start + max((work + tasks · overhead) / p, longest)

serial    what one process does alone: checks, statistics of the whole, tables, data and figures
start     of a worker: the imports of gradconv; nothing where there is one worker
work      sample paths, fits and laws of a sweep; units of the atlas: T(1) − serial
overhead  of a task for its worker: sent, received, and its result back
longest   the longest task, the law of a cell or a unit of the atlas: nobody shares it

At p = (work + tasks · overhead) / (serial + start) workers only half of the time is shared work;
beyond, most of it is not. And more than work / longest workers gain nothing. The smaller of the
two is where scaling ends. Work that grows by replicates moves the first end in proportion, and
more cells move both, until the figure's time grows with them; finer meshes make the longest task
longer too. A cluster ends elsewhere only for its overhead, which matters where tasks take less
than some ten milliseconds: sampling tasks are cut to a tenth of a second and more. What the model
leaves out: each worker fills caches of its own (lattice sums and symbols of the laws), and cores
share memory and clock.

    python -m benchmarks.scaling [--repeats N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gradconv.parallel import compute

SWEEP: dict[str, Any] = {"levels": "4:8", "replicates": 64}
ATLAS = {"kernel": ["stencil"], "dim": ["1"], "noise": ["pixel"], "target": ["identity"]}
# What is added where the work is doubled.
MORE: dict[str, dict[str, Any]] = {
    "sweep": {"noise": ("pixel:0.5", "pixel:1.0")},
    "atlas": {"setting": ["coarsening", "refinement"]},
}
LESS: dict[str, dict[str, Any]] = {
    "sweep": {"noise": ("pixel:0.5",)},
    "atlas": {"setting": ["coarsening"]},
}
TRIVIAL = 500


@dataclass(frozen=True)
class Run:
    """Seconds of one run, and processor seconds of it and its parts where it was serial."""

    total: float
    tasks: int
    processor: float
    serial: float
    longest: float


@dataclass(frozen=True)
class Overheads:
    """Processor seconds until a worker has started, and seconds of a task that does nothing."""

    start: float
    task: float
    cluster_task: float


@dataclass(frozen=True)
class Scaling:
    """What was measured of a case, in seconds and as ratios."""

    case: str
    one: float
    two: float
    processor: float
    strong: tuple[float, float, float]
    weak: tuple[float, float, float]
    serial: float
    longest: float
    tasks: int
    model: float
    half: float
    most: float


# ---- one run, in a process of its own ----


@contextmanager
def clocked(module: Any, name: str) -> Iterator[list[float]]:
    """Processor seconds of every call of a module's function."""
    honest, seconds = getattr(module, name), []

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return honest(*args, **kwargs)
        finally:
            seconds.append(time.process_time() - start)

    setattr(module, name, timed)
    try:
        yield seconds
    finally:
        setattr(module, name, honest)


def run_sweep(choices: dict[str, Any], workers: int) -> Run:
    from gradconv import runner, sampling
    from gradconv.config import SweepConfig

    config = SweepConfig(**SWEEP, **choices, workers=workers)
    cells = config.problems()
    manner = {k: v for k, v in config.sweep_arguments.items() if k != "confidence"}
    tasks = len(cells) + sum(
        len(sampling.sampling_tasks(*cell, sampling.plan_sampling(*cell, **manner)))
        for cell in cells
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        clocked(runner, "_write_results") as written,
        clocked(runner, "agreements") as laws,
    ):
        start, before = time.perf_counter(), time.process_time()
        runner.run(config, Path(folder))
        total, processor = time.perf_counter() - start, time.process_time() - before
    return Run(total, tasks, processor, sum(written), max(laws, default=0.0))


def run_atlas(choices: dict[str, Any], workers: int) -> Run:
    from gradconv.atlas import build
    from gradconv.atlas.cells import enumerate_cells, representative

    cells = enumerate_cells({**ATLAS, **choices})
    units = build.units_of(list(dict.fromkeys(map(representative, cells))))
    with clocked(build, "_work") as work:
        start, before = time.perf_counter(), time.process_time()
        build.atlas(cells, workers=workers)
        total, processor = time.perf_counter() - start, time.process_time() - before
    return Run(total, len(units), processor, processor - sum(work), max(work, default=0.0))


def fresh(case: str, size: int, workers: int) -> Run:
    """A run in a process of its own."""
    words = ["--one", f"{case}:{size}:{workers}"]
    command = [sys.executable, "-m", "benchmarks.scaling", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Run(**json.loads(done.stdout))


def one(text: str) -> Run:
    case, size, workers = text.split(":")
    choices = (MORE if size == "2" else LESS)[case]
    return {"sweep": run_sweep, "atlas": run_atlas}[case](choices, int(workers))


# ---- overheads ----


def imported(_: int) -> None:
    import gradconv.atlas.build
    import gradconv.runner  # noqa: F401


def nothing(_: int) -> None:
    """Do nothing, so that its time is the overhead."""


def processor_seconds_of_a_worker() -> float:
    """Of one that starts, imports gradconv and ends."""
    before = os.times()
    list(compute(imported, [0, 1], workers=2))
    after = os.times()
    spent = after.children_user + after.children_system
    return (spent - before.children_user - before.children_system) / 2


def per_task(**how: Any) -> float:
    """Seconds between the results of tasks that do nothing, on two workers."""
    results = compute(nothing, range(TRIVIAL), **how)
    next(results)
    start = time.perf_counter()
    count = sum(1 for _ in results)
    return (time.perf_counter() - start) / count


def overheads(repeats: int) -> Overheads:
    from distributed import LocalCluster

    start = [processor_seconds_of_a_worker() for _ in range(repeats)]
    task = [per_task(workers=2) for _ in range(repeats)]
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        where = cluster.scheduler_address
        away = [per_task(scheduler=where) for _ in range(repeats)]
    return Overheads(*map(statistics.median, (start, task, away)))


# ---- ratios and the model ----


def spread(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of paired ratios."""
    values = [o / u for o, u in zip(over, under, strict=True)]
    return statistics.median(values), min(values), max(values)


def measure(case: str, repeats: int, cost: Overheads) -> Scaling:
    small, one_worker, two_workers = [], [], []
    for _ in range(repeats):
        small.append(fresh(case, 1, 1))
        one_worker.append(fresh(case, 2, 1))
        two_workers.append(fresh(case, 2, 2))
    both = [r.total for r in two_workers]
    alone = [r.total for r in one_worker]
    processor, serial, longest = (
        statistics.median(getattr(r, name) for r in one_worker)
        for name in ("processor", "serial", "longest")
    )
    tasks = one_worker[0].tasks
    shared = processor - serial + 2 * tasks * cost.task  # the overhead is that of two workers
    two = serial + cost.start + max(shared / 2, longest)
    return Scaling(
        case,
        statistics.median(alone),
        statistics.median(both),
        processor,
        spread(alone, both),
        spread([r.total for r in small], both),
        serial,
        longest,
        tasks,
        processor / two,
        shared / (serial + cost.start),
        shared / longest,
    )


def table(found: list[Scaling]) -> Table:
    made = Table(title="One worker and two, seconds and ratios: median (least–most)")
    for column in (
        "case",
        "tasks",
        "T(1)",
        "T(2)",
        "processor",
        "serial",
        "longest",
        "strong",
        "by the model",
        "weak",
        "half shared to",
        "nothing beyond",
    ):
        made.add_column(column, justify="right" if column != "case" else "left")
    for s in found:
        made.add_row(
            s.case,
            str(s.tasks),
            *(f"{v:.2f}" for v in (s.one, s.two, s.processor, s.serial, s.longest)),
            f"{s.strong[0]:.2f} ({s.strong[1]:.2f}–{s.strong[2]:.2f})",
            f"{s.model:.2f}",
            f"{s.weak[0]:.2f} ({s.weak[1]:.2f}–{s.weak[2]:.2f})",
            *(f"{v:.1f} workers" for v in (s.half, s.most)),
        )
    return made


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(asdict(one(arguments.one))))
        return 0
    console = Console(width=None if os.isatty(1) else 150)
    with console.status("…"):
        cost = overheads(arguments.repeats)
        found = [measure(case, arguments.repeats, cost) for case in ("sweep", "atlas")]
    load = os.getloadavg()[0]
    console.print(f"{os.cpu_count()} cores, load {load:.1f} at the end")
    console.print(
        f"A worker takes {cost.start:.2f} processor seconds to start and import gradconv. A task "
        f"that does nothing takes {1e3 * cost.task:.2f} ms on two of them, and "
        f"{1e3 * cost.cluster_task:.2f} ms on a Dask cluster of this machine."
    )
    console.print(table(found))
    if arguments.json:
        results = {"overheads": asdict(cost), "cases": [asdict(s) for s in found]}
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
