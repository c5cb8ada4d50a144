"""Measure how far a sweep makes the peak of a fresh process grow, against its `memory` bound.

Run as ``python -m benchmarks.memory KERNEL N THREADS GIB``, it does one sweep and prints the growth
in bytes; `memory_uses` runs it once a case, because a process's peak never falls again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gradconv
from gradconv import MeshHierarchy, Problem, sweep

GIB = 2**30


@dataclass(frozen=True)
class MemoryUse:
    """Growth of the peak, in bytes, and the bound that was set, in GiB."""

    kernel: str
    n: int
    threads: int
    bound: float
    peak: int


def memory_uses(quick: bool = False) -> list[MemoryUse]:
    uses = []
    for kernel in ("stencil",) if quick else ("stencil", "mfc"):
        for threads in (1,) if quick else (1, 2):
            for bound in (0.25, 1.0, 4.0):
                command = [sys.executable, "-m", "benchmarks.memory"]
                command += [kernel, "1024", str(threads), str(bound)]
                printed = subprocess.run(
                    command, check=True, capture_output=True, text=True, env=_environment()
                ).stdout
                uses.append(MemoryUse(kernel, 1024, threads, bound, int(printed)))
    return uses


def _environment() -> dict[str, str]:
    # the child must import what the parent did, from wherever that is
    paths = [os.path.dirname(os.path.dirname(p)) for p in (__file__, gradconv.__file__ or "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage there counts the parent that a process was forked from
        line = next(i for i in status.read_text().splitlines() if i.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def grow(kernel: str, n: int, threads: int, bound: float) -> int:
    """Sweep 64 replicates; return how far the peak grew."""
    problem = Problem(kernel, signal="cartoon", noise="pixel:0.5", setting="coarsening", dim=2)
    last = n.bit_length() - 1
    # a small sweep first, so that imports and threads do not count
    sweep(problem, MeshHierarchy.powers_of_two(2, 3, 6), replicates=2, threads=threads)
    before = peak()
    sweep(
        problem,
        MeshHierarchy.powers_of_two(2, last - 5, last),
        replicates=64,
        memory=bound,
        threads=threads,
    )
    return peak() - before


if __name__ == "__main__":
    kernel, n, threads, bound = sys.argv[1:]
    print(grow(kernel, int(n), int(threads), float(bound)))
