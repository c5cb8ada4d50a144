"""Variance and rms gap of the cells of a unit: sampled, and held against their laws."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconv.atlas.cells import Cell
from gradconv.atlas.derived import Record
from gradconv.atlas.judge import deviations, leading_term
from gradconv.atlas.sampled import draw_inputs, draw_targets, gradients
from gradconv.atlas.unit import (
    EPSILON,
    Means,
    Meshes,
    Unit,
    fit_record,
    group_of,
    means_of,
    plain,
    resolved_at,
)
from gradconv.laws.lattice import gap_variances, mean_gradients, why_no_variance
from gradconv.mesh import MeshHierarchy
from gradconv.statistics import GradientSample

CANCELLING = 1e-13  # of a squared gradient: rounding in the law of a variance


def fluctuations_of(unit: Unit, laws: dict[Cell, Record]) -> Iterator[tuple[Cell, Record]]:
    """Variance and rms gap of the cells of a unit: sampled, and held against the full law.

    Parameters
    ----------
    unit : Unit
        The cells.
    laws : dict
        Their laws.
    """
    exact = dict(means_of(unit.cells, "fluctuations"))
    by_data: dict[Any, list[Cell]] = defaultdict(list)
    for cell, means in exact.items():
        by_data[(cell.signal, means.hierarchy.sizes[-1])].append(cell)
    for cells in by_data.values():
        group = group_of(cells)
        longest = max((exact[c].hierarchy for c in cells), key=len)
        targets = {
            t: draw_targets(group, t, longest, unit.replicates, unit.seed) for t in group.targets
        }
        for noise in group.noises:
            inputs = draw_inputs(group, noise, longest, unit.replicates, unit.seed)
            own = [c for c in cells if c.noise == noise]
            for kernel in dict.fromkeys(c.kernel for c in own):
                members = [c for c in own if c.kernel == kernel]
                levels = exact[members[0]].hierarchy
                wanted = {c.target: targets[c.target] for c in members}
                sample = gradients(kernel, levels, inputs, wanted)
                for cell in members:
                    yield cell, _fluctuation(cell, exact[cell], sample[cell.target], laws[cell])


def _fluctuation(cell: Cell, means: Means, sample: np.ndarray, law: Record) -> Record:
    paths = GradientSample(sample, means.measured, means.sizes, EPSILON).deviations
    measured, derived = means.values("mean_gap"), means.law("mean_gap")
    h = means.hierarchy.h[1:]
    why = why_no_variance(cell.problem)
    variance = None if why else gap_variances(cell.problem, means.hierarchy)
    # terms of size |gradient|² cancel in the law of a variance
    floor = means.floor("variance") + CANCELLING * (means.sizes[1:] + means.sizes[:-1]) ** 2
    deep = None if variance is None or derived is None else _deeper(cell, means, variance)
    found: Record = {}
    for quantity, offset, power in (("variance", 0.0 * h, 1.0), ("rms_gap", measured**2, 0.5)):
        record: Record = {"why": why or ""}
        if variance is not None and derived is not None:
            square = variance + (derived**2 if quantity == "rms_gap" else 0.0)
            record["deviations"] = [_bounded(v) for v in deviations(paths, offset, square, floor)]
        if deep is not None and quantity in law["laws"] and len(deep.h) >= 3:
            judged, fit = leading_term(
                law["laws"][quantity],
                quantity,
                deep.h,
                (deep.variance + (deep.gap**2 if quantity == "rms_gap" else 0.0)) ** power,
                deep.floor**power,
                resolved_at(cell, deep.h, quantity),
            )
            record["leading"] = [judged.status, judged.reason, plain(judged.worst)]
            record["fit"] = fit_record(fit)
        values = (paths.mean(axis=0) + offset) ** power
        record.setdefault("fit", _slope_record(h, values, paths, offset, power))
        found[quantity] = record
    return found


@dataclass
class _Deep:
    """The full law of the gap on the meshes where leading terms are looked for."""

    h: np.ndarray
    gap: np.ndarray
    variance: np.ndarray
    floor: np.ndarray


def _deeper(cell: Cell, means: Means, variance: np.ndarray) -> _Deep:
    levels = Meshes.of(cell).deeper
    assert isinstance(levels, MeshHierarchy)
    assert means.derived is not None
    gradients = means.derived
    if levels.sizes != means.hierarchy.sizes:
        gradients = mean_gradients(cell.problem, levels).reshape(len(levels), -1)
        variance = gap_variances(cell.problem, levels)
    # what cancels is of the size of the coarse levels' terms, or of the gradient
    sizes = np.maximum(np.linalg.norm(gradients, axis=1), float(np.max(means.sizes)))
    floor = CANCELLING * sizes**2
    gap = np.linalg.norm(np.diff(gradients, axis=0), axis=1)
    return _Deep(levels.h[1:], gap, variance, (floor[1:] + floor[:-1]) * 2.0)


def _bounded(value: float) -> float:
    return float(np.clip(value, -1e9, 1e9))


def _slope_record(
    h: np.ndarray, values: np.ndarray, paths: np.ndarray, offset: np.ndarray, power: float
) -> Record:
    """Order between the coarsest and the finest gap, where a law is not held against its term.

    It is a slope over the sampled meshes, few and none of them known to be asymptotic, and no fit
    of `gradconv.fit_rate`: the interval is ±1.96 standard errors over the paths, without a model
    term, and the verdict its sign; nothing is said to stall.
    """
    ends = values[[0, -1]]
    if len(h) < 2 or np.any(ends <= 0):
        verdict = "exact" if np.all(values <= 0) else "undecided"
        return {
            "order": None,
            "coefficient": None,
            "interval": None,
            "verdict": verdict,
            "method": "sample",
        }
    squares = paths[:, [0, -1]] + offset[[0, -1]]
    relative = squares / squares.mean(axis=0)
    across = np.log(h[0] / h[-1])
    error = power * float(np.std(relative[:, 0] - relative[:, 1], ddof=1))
    error *= 1.96 / np.sqrt(len(paths)) / across
    order = float(np.log(ends[0] / ends[1]) / across)
    interval = (order - error, order + error)
    word = "converges" if interval[0] > 0 else "diverges" if interval[1] < 0 else "undecided"
    return {
        "order": order,
        "coefficient": float(ends[1] / h[-1] ** order),
        "interval": list(interval),
        "verdict": word,
        "method": "sample",
    }
