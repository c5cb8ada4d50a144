"""The two critical exponents of power-law noise: where derived orders cross zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np

from gradconv.atlas.cells import LEVELS_OF_MEANS
from gradconv.atlas.judge import fitted
from gradconv.atlas.unit import SEEN
from gradconv.errors import LawError
from gradconv.gradient import scaled_expectation
from gradconv.laws import derive
from gradconv.mesh import MeshHierarchy
from gradconv.parallel import compute
from gradconv.problem import Problem
from gradconv.statistics import rounding_floor
from gradconv.sweeps import sweep

Record = dict[str, Any]
Task = tuple[int, str, str, int, int, tuple[float, ...], tuple[float, ...]]
KERNELS = ("stencil", "mfc")
# A band-limited signal has no tail of its own that could hide the noise's.
BAND_LIMITED = "band-limited:1"
QUANTITIES = ("mean_gap", "variance")
SHARES = tuple(round(0.1 + 0.05 * i, 2) for i in range(30))
"""α/d of the derived orders."""
POINTS = (0.2, 0.35, 0.65, 0.8, 1.2, 1.4)
"""α/d of the measured ones."""
LEVELS_OF_PATHS = {1: (3, 9), 2: (3, 7), 3: (2, 5)}
"""Levels of the sampled variances."""


def critical_series(
    dims: tuple[int, ...],
    replicates: int,
    seed: int = 0,
    workers: int = 1,
    scheduler: str | None = None,
    *,
    shares: tuple[float, ...] = SHARES,
    points: tuple[float, ...] = POINTS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """Orders of mean gap and variance against α, derived and measured, and where they vanish.

    Parameters
    ----------
    dims : tuple of int
        Dimensions.
    replicates, seed : int
        Of the sampled variances.
    workers, scheduler
        As in `gradconv.parallel.compute`.
    shares, points : tuple of float
        α/d of the derived orders and of the measured ones.
    progress : callable, optional
        Called with (cases done, cases).
    """
    settings = ("coarsening", "refinement")
    cases = list(product(dims, settings, KERNELS))
    costly_first = sorted(cases, key=lambda case: -case[0])
    tasks = [(*case, replicates, seed, shares, points) for case in costly_first]
    found: dict[tuple[int, str, str], list[Record]] = {}
    for index, records in compute(_series, tasks, workers=workers, scheduler=scheduler):
        found[costly_first[index]] = records
        if progress is not None:
            progress(len(found), len(cases))
    return [record for case in cases for record in found[case]]


def _series(task: Task) -> list[Record]:
    from threadpoolctl import threadpool_limits

    dim, setting, kernel, replicates, seed, shares, own = task
    with threadpool_limits(limits=1):
        lines = {q: _derived(kernel, setting, dim, q, shares) for q in QUANTITIES}
        points = _measured(kernel, setting, dim, replicates, seed, own)
    return [
        {
            "kernel": kernel,
            "setting": setting,
            "dim": dim,
            "quantity": quantity,
            "alpha": alphas,
            "order": orders,
            "zeros": zeros(alphas, orders),
            "points": points[quantity],
        }
        for quantity, (alphas, orders) in lines.items()
    ]


def problem_of(kernel: str, setting: str, dim: int, alpha: float) -> Problem:
    """Power-law noise of exponent α under averaging."""
    return Problem(kernel, BAND_LIMITED, "identity", f"power:{alpha:g}:1", "average", setting, dim)


def _derived(
    kernel: str, setting: str, dim: int, quantity: str, shares: tuple[float, ...] = SHARES
) -> tuple[list[float], list[float]]:
    alphas, orders = [], []
    for share in shares:
        alpha = round(share * dim, 6)
        try:
            order = derive(problem_of(kernel, setting, dim, alpha)).quantity(quantity).order
        except LawError:
            continue
        if math.isfinite(order):
            alphas.append(alpha)
            orders.append(float(order))
    return alphas, orders


def zeros(alphas: list[float], orders: list[float]) -> list[float]:
    """Where a derived order changes sign, by linear interpolation.

    A zero counts where the orders on both sides differ in sign: an order that stays at zero, or
    touches it, is no transition.
    """
    found = []
    known = [(a, o) for a, o in zip(alphas, orders, strict=True) if abs(o) > 1e-9]
    for (a, low), (b, high) in pairwise(known):
        if low * high < 0:
            found.append(round(a + (b - a) * low / (low - high), 6))
    return found


def _measured(
    kernel: str, setting: str, dim: int, replicates: int, seed: int, shares: tuple[float, ...]
) -> dict[str, list[Record]]:
    points: dict[str, list[Record]] = {q: [] for q in QUANTITIES}
    for share in shares:
        alpha = round(share * dim, 6)
        problem = problem_of(kernel, setting, dim, alpha)
        levels = _levels(problem, *LEVELS_OF_MEANS[dim])
        if levels is not None:
            expected, sizes = scaled_expectation(problem, levels)
            floor = rounding_floor("mean_gap", sizes, float(np.finfo(float).eps))
            gaps = np.linalg.norm(np.diff(expected, axis=0), axis=1)
            fit, _ = fitted(levels.h[1:], gaps, floor, "mean_gap")
            _add(points["mean_gap"], alpha, fit.order, fit.interval)
        levels = _levels(problem, *LEVELS_OF_PATHS[dim])
        if levels is not None:
            rate = sweep(problem, levels, replicates=replicates, seed=seed).rate("variance")
            known = all(math.isfinite(v) for v in (rate.order, *rate.interval))
            _add(points["variance"], alpha, rate.order if known else None, rate.interval)
    return points


def _levels(problem: Problem, first: int, last: int) -> MeshHierarchy | None:
    """Levels that resolve the kernel; None if they are too few for a fit."""
    cutoff = problem.convolution.cutoff()
    if cutoff is not None:
        first = max(first, math.ceil(math.log2(2 * SEEN * cutoff)))
    if last - first < 3:
        return None
    return MeshHierarchy.powers_of_two(problem.dim, first, last)


def _add(
    points: list[Record], alpha: float, order: float | None, interval: tuple[float, float] | None
) -> None:
    if order is not None and interval is not None:
        points.append({"alpha": alpha, "order": order, "interval": list(interval)})
