"""Whether the passes of a plan fit into memory, before training starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psutil
import torch

from gradconv.errors import InputError
from gradconv.multilevel.costs.counting import LevelCost
from gradconv.multilevel.costs.plan import pass_size
from gradconv.sampling import GIB
from gradconv.train.strategies import Leg

# Resident memory of a pass over what its tensors count, for what libraries take inside.
MARGIN = 1.3


def largest_pass(
    legs: Sequence[Leg],
    costs: Sequence[LevelCost],
    dim: int,
    microbatch: int | None,
    merged: bool,
    world: int = 1,
) -> tuple[float, int, int]:
    """Bytes, level and samples of the pass that takes most.

    Parameters
    ----------
    legs : sequence of Leg
        The plan.
    costs : sequence of LevelCost
        Memory of a pass on each level.
    dim : int
        Dimension.
    microbatch : int or None
        Samples of a pass on the finest mesh.
    merged : bool
        Whether all parts of a step on one mesh are one pass.
    world : int
        Processes that share the samples of a term.
    """
    found = (0.0, 0, 0)
    for samples in _samples(legs, len(costs), merged, world):
        for level, (count, cost) in enumerate(zip(samples, costs, strict=True)):
            most = pass_size(microbatch, len(costs) - 1 - level, dim)
            at_once = min(count, most) if most else count
            if at_once:
                taken = cost.fixed_bytes + at_once * cost.sample_bytes
                found = max(found, (taken, level, at_once))
    return found


def _samples(legs: Sequence[Leg], levels: int, merged: bool, world: int) -> Iterator[list[int]]:
    """Samples that may be in one pass on each level, leg by leg, if no microbatch bounds it."""
    for leg in legs:
        samples = [0] * levels
        for term in leg.terms:
            count = -(-term.samples // world)
            for level in range(term.coarsest, term.level + 1):
                samples[level] = samples[level] + count if merged else max(samples[level], count)
        yield samples


def available_bytes(device: torch.device, memory: float | None, processes: int = 1) -> float:
    """Bytes that a pass may take: the bound in GiB, or this process's part of what is free.

    Parameters
    ----------
    device : torch.device
        Where it is computed.
    memory : float or None
        The bound.
    processes : int
        Processes of this machine, which share its memory, but have a GPU each.
    """
    if memory is not None:
        return memory * GIB
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available) / processes


def check_memory(
    legs: Sequence[Leg],
    costs: Sequence[LevelCost],
    dim: int,
    microbatch: int | None,
    merged: bool,
    free: float,
    world: int = 1,
) -> float:
    """Refuse passes that do not fit; gives the bytes of the largest.

    Raises
    ------
    InputError
        That names the largest `microbatch` that fits.
    """
    taken, level, samples = largest_pass(legs, costs, dim, microbatch, merged, world)
    if MARGIN * taken > free:
        raise InputError(
            f"`microbatch` must let every pass fit into memory: {samples} samples on level {level} "
            f"take about {MARGIN * taken / GIB:.3g} GiB and {free / GIB:.3g} GiB are free; "
            f"{_advice(legs, costs, dim, merged, free, world)}"
        )
    return taken


def _advice(
    legs: Sequence[Leg],
    costs: Sequence[LevelCost],
    dim: int,
    merged: bool,
    free: float,
    world: int,
) -> str:
    """Name the largest microbatch that fits on every level."""
    fits = []
    for samples in _samples(legs, len(costs), merged, world):
        for level, (count, cost) in enumerate(zip(samples, costs, strict=True)):
            room = (free / MARGIN - cost.fixed_bytes) / max(cost.sample_bytes, 1.0)
            if count > room:  # where all samples fit, no microbatch is too large
                fits.append(int(room // 2 ** (dim * (len(costs) - 1 - level))))
    most = min(fits)
    if most < 1:
        return "not one sample fits: take a smaller `size` or network"
    return f"a microbatch of {most} would fit"
