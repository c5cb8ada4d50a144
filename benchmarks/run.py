"""Time the sampled sweep against the FFTs that it cannot do without.

For every mesh and kernel three things are timed in turn, on one thread, and repeated:

a. the sampled part of a sweep: draw the noise of every replicate, restrict the input to every
   level, and compute the gradient of every level (set-up, done once a sweep, is shown apart);
b. nothing but ``scipy.fft.rfftn`` of the same arrays, a batch at a time or a replicate at a time,
   whichever is faster;
c. a loop of torch's automatic differentiation over the same arrays, replicate by replicate and
   level by level (drawing and restricting them is not counted: the ratio errs in its favour).

What counts is a/b, which should be at most 3, and c/a. Absolute times depend on the machine and on
what else it does; a ratio of two neighbouring measurements does so much less.

    python -m benchmarks.run [--quick] [--only 2:256,3:64] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.fft
import torch
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import gradconv
from benchmarks.memory import MemoryUse, memory_uses
from gradconv import MeshHierarchy, Problem
from gradconv.gradient import InputSource, LevelInputs, autograd_gradients
from gradconv.nn.timing import PairedRatio, elapsed, processor_name
from gradconv.sampling import GIB, LevelGradients, plan_sampling

BOUND = 3.0  # what a/b should not exceed
LEVELS, COARSEST = 6, 8
KERNELS = ("stencil", "mfc")
MESHES = {
    1: [2**e for e in range(12, 23)],
    2: [2**e for e in range(6, 13)],
    3: [2**e for e in range(5, 9)],
}
QUICK = {1: [2**12, 2**16], 2: [64, 256, 1024], 3: [32, 64]}
# Cells whose gradients one measurement covers, and where the loop of autograd stops.
WORK, LOOP_WORK, LOOP_LARGEST = 2**22, 2**19, 2**22


@dataclass(frozen=True)
class Timing:
    """Results on one mesh; times are seconds for one replicate on all levels."""

    kernel: str
    dim: int
    n: int
    levels: int
    batch: int
    replicates: int
    setup: float
    sweep: float
    ffts: float
    sweep_over_ffts: PairedRatio
    loop_over_sweep: PairedRatio | None

    @property
    def within(self) -> bool:
        return self.sweep_over_ffts.median <= BOUND


def hierarchy(dim: int, n: int) -> MeshHierarchy:
    """Up to 6 levels, none coarser than 8 cells an axis."""
    sizes = [n]
    while len(sizes) < LEVELS and sizes[0] > COARSEST:
        sizes.insert(0, sizes[0] // 2)
    return MeshHierarchy(dim, tuple(sizes))


def measure(kernel: str, dim: int, n: int, repeats: int, autograd: bool = True) -> Timing:
    """Time one kernel on one mesh."""
    problem = Problem(kernel, signal="cartoon", noise="pixel:0.5", setting="coarsening", dim=dim)
    levels = hierarchy(dim, n)
    plan = plan_sampling(
        problem,
        levels,
        replicates=2,
        seed=0,
        dtype="float64",
        device="cpu",
        memory=16.0,
        threads=1,
    )
    batch = plan.batch
    replicates = batch * max(1, WORK // (batch * n**dim))

    start = time.perf_counter()
    source = InputSource(problem, levels, 0)
    compute = LevelGradients(problem, source, plan.backend)
    setup = time.perf_counter() - start
    inputs = source.sample(range(batch))
    axes = tuple(range(-dim, 0))

    def sample() -> None:
        for first in range(0, replicates, batch):
            compute(range(first, first + batch))

    def batched() -> None:
        for _ in range(replicates // batch):
            for data in inputs:
                scipy.fft.rfftn(data.x, axes=axes, workers=1)

    def looped() -> None:
        for _ in range(replicates // batch):
            for data in inputs:
                for x in data.x[:, 0]:
                    scipy.fft.rfftn(x, workers=1)

    sample()  # warm caches, allocator and plans
    bare = min((batched, looped), key=lambda work: min(elapsed(work).wall for _ in range(3)))
    pairs = [(elapsed(sample).wall, elapsed(bare).wall) for _ in range(repeats)]
    sweep, ffts = ([t / replicates for t in times] for times in zip(*pairs, strict=True))
    loop_over_sweep = None
    if autograd and n**dim <= LOOP_LARGEST:
        loop_over_sweep = _loop(problem, levels, inputs, sample, replicates, repeats)
    return Timing(
        kernel,
        dim,
        n,
        len(levels),
        batch,
        replicates,
        setup,
        statistics.median(sweep),
        statistics.median(ffts),
        PairedRatio.of(sweep, ffts),
        loop_over_sweep,
    )


def _loop(
    problem: Problem,
    levels: MeshHierarchy,
    inputs: list[LevelInputs],
    sample: Callable[[], None],
    replicates: int,
    repeats: int,
) -> PairedRatio:
    """Autograd over the sweep; the loop takes so long that a few replicates must do."""
    few = max(1, min(len(inputs[-1].x), LOOP_WORK // levels.finest.size))

    def loop() -> None:
        for mesh, data in zip(levels.meshes, inputs, strict=True):
            autograd_gradients(problem.convolution, mesh, data.x[:few], data.y)

    if levels.finest.size <= LOOP_WORK:
        loop()
    pairs = [
        (elapsed(loop).wall / few, elapsed(sample).wall / replicates)
        for _ in range(repeats if levels.finest.size <= LOOP_WORK else 1)
    ]
    return PairedRatio.of(*([*times] for times in zip(*pairs, strict=True)))


def environment() -> dict[str, str]:
    return {
        "gradconv": f"{gradconv.__version__} in {Path(gradconv.__file__ or '').parent}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
        "cores": str(os.cpu_count()),
        "processor": processor_name(),
        "machine": f"{platform.system()} {platform.machine()}",
        "dtype": "float64",
        "threads": "1",
    }


def time_table(timings: list[Timing]) -> Table:
    table = Table(title="Sampled sweep, bare FFTs of the same arrays, and a loop of autograd")
    for column in (
        "mesh",
        "kernel",
        "levels",
        "batch",
        "set-up [ms]",
        "sweep [ms/replicate]",
        "sweep / FFTs",
        "autograd / sweep",
    ):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for t in timings:
        table.add_row(
            f"{t.n}" + ("" if t.dim == 1 else "²" if t.dim == 2 else "³"),
            t.kernel,
            str(t.levels),
            str(t.batch),
            f"{1e3 * t.setup:.1f}",
            f"{1e3 * t.sweep:.3g}",
            str(t.sweep_over_ffts),
            str(t.loop_over_sweep or "not run"),
            style=None if t.within else "bold",
        )
    return table


def memory_table(uses: list[MemoryUse]) -> Table:
    table = Table(title="Memory of a sweep: growth of a fresh process's peak")
    for column in ("mesh", "kernel", "threads", "bound [GiB]", "peak [GiB]", "peak / bound"):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for u in uses:
        peak = u.peak / GIB
        table.add_row(
            f"{u.n}²",
            u.kernel,
            str(u.threads),
            f"{u.bound:g}",
            f"{peak:.3f}",
            f"{peak / u.bound:.2f}",
            style=None if peak <= u.bound else "bold",
        )
    return table


def verdict(timings: list[Timing]) -> str:
    above = [
        f"{t.kernel} {t.n}^{t.dim} ({t.sweep_over_ffts.median:.2f})"
        for t in timings
        if not t.within
    ]
    if not above:
        return f"The sampled sweep takes at most {BOUND:g} times the bare FFTs at every size."
    return f"Above {BOUND:g} times the bare FFTs: {', '.join(above)}."


def cases(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    if arguments.only:
        pairs = (case.split(":") for case in arguments.only.split(","))
        return [(int(dim), int(n)) for dim, n in pairs]
    meshes = QUICK if arguments.quick else MESHES
    return [(dim, n) for dim in (2, 1, 3) for n in meshes[dim]]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="a few small meshes")
    parser.add_argument("--only", metavar="DIM:N,…", help="these meshes, and no memory")
    parser.add_argument("--kernels", default=",".join(KERNELS), help="default: %(default)s")
    parser.add_argument(
        "--no-autograd", action="store_false", dest="autograd", help="leave out the loop"
    )
    parser.add_argument("--repeats", type=int, help="paired measurements, default 7, quick 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    arguments = parser.parse_args(argv)
    repeats = arguments.repeats or (5 if arguments.quick else 7)
    console = Console(width=None if os.isatty(1) else 110)
    settings = environment()
    console.print(", ".join(f"{name} {value}" for name, value in settings.items()))
    torch.set_num_threads(1)
    timings = []
    with threadpool_limits(limits=1), console.status("…") as status:
        for dim, n in cases(arguments):
            for kernel in arguments.kernels.split(","):
                status.update(f"{kernel} {n}^{dim}")
                timings.append(measure(kernel, dim, n, repeats, arguments.autograd))
    console.print(time_table(timings))
    console.print("Median (least–most) of paired repeats.", verdict(timings))
    uses = [] if arguments.only else memory_uses(arguments.quick)
    if uses:
        console.print(memory_table(uses))
    if arguments.json:
        results: dict[str, Any] = {
            "environment": settings,
            "bound": BOUND,
            "timings": [asdict(t) for t in timings],
            "memory": [asdict(u) for u in uses],
        }
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
