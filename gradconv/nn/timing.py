"""Clocks: works timed in turn, paired ratios of their times, and what they ran on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

PROCESSORS = Path("/proc/cpuinfo")  # Linux; elsewhere platform knows a name


class Elapsed(NamedTuple):
    """Seconds of the wall clock, and of the processor, summed over threads."""

    wall: float
    processor: float


@dataclass(frozen=True)
class PairedRatio:
    """Ratios of neighbours in time: what slows a machine for a while slows both.

    Parameters
    ----------
    median : float
        Of the pairs.
    low, high : float
        Their quartiles.
    least, most : float
        Of all pairs.
    """

    median: float
    low: float
    high: float
    least: float
    most: float

    @classmethod
    def of(cls, over: Sequence[float], under: Sequence[float]) -> PairedRatio:
        """Ratios of times that were taken in turn.

        Parameters
        ----------
        over, under : sequence of float
            As long as each other, at least 1.
        """
        values = [o / u for o, u in zip(over, under, strict=True)]
        low, high = quartiles(values)
        return cls(statistics.median(values), low, high, min(values), max(values))

    def __str__(self) -> str:
        """Median, with least and most."""
        return f"{self.median:.2f} ({self.least:.2f}–{self.most:.2f})"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile, between order statistics where they fall between two."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def elapsed(work: Callable[[], object], device: torch.device | str = "cpu") -> Elapsed:
    """Time one call.

    Parameters
    ----------
    work : callable
        Without arguments.
    device : torch.device or str
        Where it computes: a CUDA device is waited for before and after.
    """
    _wait(device)
    start, busy = time.perf_counter(), time.process_time()
    work()
    _wait(device)
    return Elapsed(time.perf_counter() - start, time.process_time() - busy)


def in_turn(
    works: Sequence[Callable[[], object]],
    repeats: int,
    device: torch.device | str = "cpu",
    *,
    warm: int = 1,
) -> list[list[Elapsed]]:
    """Time works one after the other, round by round.

    Parameters
    ----------
    works : sequence of callable
        Without arguments.
    repeats : int
        Rounds that count.
    device : torch.device or str
        Where they compute.
    warm : int
        Rounds before those, which compile and fill caches.

    Returns
    -------
    list of list of Elapsed
        Of each work, as long as `repeats`.
    """
    found: list[list[Elapsed]] = [[] for _ in works]
    for turn in range(warm + repeats):
        for work, taken in zip(works, found, strict=True):
            one = elapsed(work, device)
            if turn >= warm:
                taken.append(one)
    return found


def _wait(device: torch.device | str) -> None:
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads; 0 leaves its choice."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device | str = "cpu") -> dict[str, str | int]:
    """What a time was taken on: processor, cores, threads of torch, system, GPU."""
    device = torch.device(device)
    cuda = device.type == "cuda"
    return {
        "processor": processor_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name(device) if cuda else "none",
    }


def processor_name() -> str:
    """Name of the processor, or of its architecture where the system does not tell."""
    try:
        lines = PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return " ".join(value.split())
    return platform.processor() or platform.machine()
