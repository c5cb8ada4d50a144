"""One unit of work of the atlas: all cells of a dimension, a setting and a restriction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradconv.atlas.cache import Cache
from gradconv.atlas.cells import (
    DEEPER,
    EXACT,
    REPLICATES,
    SAMPLED,
    SHALLOW,
    SIGNAL,
    Cell,
    evaluable,
    hierarchy_for,
)
from gradconv.atlas.derived import MEANS, Record, law_record, sizes_of
from gradconv.atlas.exact import (
    Group,
    derived_parts,
    derived_spectra,
    measured_parts,
    measured_spectra,
)
from gradconv.atlas.judge import deviations, exact_values, fitted, leading_term
from gradconv.atlas.sampled import draw_inputs, draw_targets, gradients
from gradconv.gradient import expected_gradients
from gradconv.laws.lattice import gap_variances, mean_gradients, why_no_variance
from gradconv.mesh import MeshHierarchy
from gradconv.statistics import ROUNDING

CANCELLING = 1e-13  # of a squared gradient: rounding in the law of a variance
# A Gaussian falls to NEGLIGIBLE (1e-20) at its cutoff, and to 6e-4 at this part of it; its square,
# which makes the gradient, to 4e-7.
SEEN = 0.4


@dataclass(frozen=True)
class Meshes:
    """Meshes of a cell; a text instead of them is the reason why there are none."""

    means: MeshHierarchy | str
    fluctuations: MeshHierarchy | str
    deeper: MeshHierarchy | str

    @classmethod
    def of(cls, cell: Cell) -> Meshes:
        """Meshes of a cell, as deep as the problem allows; the noise has no say in them."""
        plain = replace(cell, noise="none") if cell.signal == SIGNAL else cell
        return _meshes(plain)

    def describe(self) -> list[Any]:
        """JSON values."""
        every = (self.means, self.fluctuations, self.deeper)
        return [h if isinstance(h, str) else list(h.sizes) for h in every]


@lru_cache(maxsize=2**14)
def _meshes(cell: Cell) -> Meshes:
    problem = cell.problem
    deep = EXACT if cell.signal == SIGNAL and evaluable(cell.restriction) else SHALLOW
    first = SAMPLED[cell.dim]
    further = DEEPER[cell.dim] if cell.signal == SIGNAL and evaluable(cell.restriction) else first
    return Meshes(
        hierarchy_for(problem, *deep[cell.dim]),
        hierarchy_for(problem, *first),
        hierarchy_for(problem, *further),
    )


@dataclass(frozen=True)
class Unit:
    """Cells with one dimension, setting and restriction.

    Parameters
    ----------
    cells : tuple of Cell
        Each a problem of its own.
    replicates, seed : int
        Of the sampled quantities.
    """

    cells: tuple[Cell, ...]
    replicates: int = REPLICATES
    seed: int = 0

    def describe(self) -> Record:
        """What the result depends on."""
        return {
            "cells": [asdict(c) for c in self.cells],
            "meshes": [EXACT, SAMPLED, DEEPER, SHALLOW],
            "replicates": self.replicates,
            "seed": self.seed,
        }


def units_of(cells: Sequence[Cell], replicates: int = REPLICATES, seed: int = 0) -> list[Unit]:
    """Sort cells into units, the costly ones first."""
    found: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[(-cell.dim, cell.setting, cell.restriction)].append(cell)
    keys = sorted(found, key=lambda k: (k[0], k[1] != "refinement", k[2]))
    return [Unit(tuple(found[k]), replicates, seed) for k in keys]


def derive_unit(unit: Unit, cache: Cache) -> dict[Cell, Record]:
    """Laws of the cells of a unit; those of a kernel lie together on disk."""
    by_kernel: dict[str, list[Cell]] = defaultdict(list)
    for cell in unit.cells:
        by_kernel[cell.kernel].append(cell)
    found: dict[Cell, Record] = {}
    for cells in by_kernel.values():
        shelf = shelf_of(cells[0])
        stored: dict[str, Record] = cache.load(shelf) or {}
        fresh = False
        for cell in cells:
            name = name_of(cell)
            if name not in stored:
                stored[name], fresh = _derive(cell), True
            found[cell] = stored[name]
        if fresh:
            cache.save(shelf, stored)
    return found


def shelf_of(cell: Cell) -> list[Any]:
    """Description under which the law of a cell lies on disk, with its neighbours'."""
    meshes = [EXACT, SAMPLED, DEEPER, SHALLOW]
    return ["laws", cell.kernel, cell.setting, cell.restriction, cell.dim, meshes]


def name_of(cell: Cell) -> str:
    """Name of the law of a cell on its shelf."""
    return f"{cell.signal} {cell.noise} {cell.target}"


def _derive(cell: Cell) -> Record:
    meshes = Meshes.of(cell)
    for levels in (meshes.means, meshes.fluctuations, meshes.deeper):
        if isinstance(levels, str):
            return {"laws": {}, "missing": {"": levels}}
    assert isinstance(meshes.means, MeshHierarchy)
    assert isinstance(meshes.deeper, MeshHierarchy)
    return law_record(cell, meshes.means, meshes.deeper)


@dataclass
class Means:
    """Exact means of a cell on a hierarchy, measured and derived.

    Parameters
    ----------
    hierarchy : MeshHierarchy
        The levels.
    measured : ndarray
        Mean gradients, shape ``(levels, p)``.
    derived : ndarray or None
        The same by the full law; None where it does not know the restriction.
    sizes : ndarray
        Size of the terms that cancel, ``(levels,)``.
    """

    hierarchy: MeshHierarchy
    measured: np.ndarray
    derived: np.ndarray | None
    sizes: np.ndarray

    def floor(self, quantity: str) -> np.ndarray:
        """What rounding leaves of a quantity."""
        floor = ROUNDING * np.finfo(float).eps * self.sizes
        return floor if quantity == "level_norm" else floor[1:] + floor[:-1]

    def values(self, quantity: str) -> np.ndarray:
        """Measured values of a quantity."""
        return _norms(self.measured, quantity)

    def law(self, quantity: str) -> np.ndarray | None:
        """Values of a quantity by the full law."""
        return None if self.derived is None else _norms(self.derived, quantity)


def _norms(gradients: np.ndarray, quantity: str) -> np.ndarray:
    vectors = gradients if quantity == "level_norm" else np.diff(gradients, axis=0)
    return np.asarray(np.linalg.norm(vectors, axis=1))


def means_of(cells: Sequence[Cell], which: str) -> Iterator[tuple[Cell, Means]]:
    """Exact means of the cells of a unit.

    Parameters
    ----------
    cells : sequence of Cell
        With one dimension, setting and restriction.
    which : {"means", "fluctuations"}
        On which meshes.
    """
    by_data: dict[Any, list[tuple[Cell, MeshHierarchy]]] = defaultdict(list)
    for cell in cells:
        levels = getattr(Meshes.of(cell), which)
        if isinstance(levels, str):
            continue
        if cell.signal == SIGNAL:
            by_data[levels.sizes[-1]].append((cell, levels))
        else:
            yield cell, _fixed_signal(cell, levels)
    for members in by_data.values():
        yield from _shared_signal(members)


def _fixed_signal(cell: Cell, levels: MeshHierarchy) -> Means:
    problem = cell.problem
    expected, sizes = expected_gradients(problem, levels)
    measured = (expected * problem.convolution.scale).reshape(len(levels), -1)
    derived = None
    if evaluable(cell.restriction):
        derived = mean_gradients(problem, levels).reshape(len(levels), -1)
    return Means(levels, measured, derived, sizes)


def group_of(cells: Sequence[Cell]) -> Group:
    """Data that cells share."""
    first = cells[0]
    noises = tuple(dict.fromkeys(c.noise for c in cells))
    targets = tuple(dict.fromkeys(c.target for c in cells))
    return Group(first.signal, first.setting, first.restriction, first.dim, noises, targets)


def _shared_signal(
    members: Sequence[tuple[Cell, MeshHierarchy]],
) -> Iterator[tuple[Cell, Means]]:
    """Cells whose data lie on one finest mesh: spectra once, then each kernel's parts."""
    group = group_of([cell for cell, _ in members])
    longest = max((levels for _, levels in members), key=len)
    spectra = [measured_spectra(group, longest)]
    if evaluable(group.restriction):
        spectra.append(derived_spectra(group, longest))
    by_kernel: dict[tuple[str, MeshHierarchy], list[Cell]] = defaultdict(list)
    for cell, levels in members:
        by_kernel[(cell.kernel, levels)].append(cell)
    for (kernel, levels), cells in by_kernel.items():
        cut = len(longest) - len(levels)
        own = [[{k: v[cut:] for k, v in part.items()} for part in pair] for pair in spectra]
        measured = measured_parts(kernel, levels, *own[0])
        law = derived_parts(kernel, levels, *own[1]) if len(own) > 1 else None
        for cell in cells:
            gradient, sizes = measured.mean(cell.noise, cell.target)
            derived = None if law is None else law.mean(cell.noise, cell.target)[0]
            yield cell, Means(levels, gradient, derived, sizes)


def measure_unit(unit: Unit, laws: dict[Cell, Record]) -> list[Record]:
    """Measure every cell of a unit and hold it against its law.

    Returns
    -------
    list of dict
        One a cell, in the order of the unit: by quantity, what was found.
    """
    found: dict[Cell, Record] = {cell: {} for cell in unit.cells}
    for cell, means in means_of(unit.cells, "means"):
        for quantity in MEANS:
            found[cell][quantity] = _mean_record(cell, means, quantity, laws[cell])
    for cell, records in fluctuations_of(unit, laws):
        found[cell] |= records
    return [found[cell] for cell in unit.cells]


def _mean_record(cell: Cell, means: Means, quantity: str, law: Record) -> Record:
    measured, derived = means.values(quantity), means.law(quantity)
    floor = means.floor(quantity)
    record: Record = {"why": ""}
    if derived is not None:
        values = exact_values(measured, derived, floor)
        record["values"] = [values.status, values.reason, _plain(values.worst)]
    h = sizes_of(quantity, means.hierarchy)
    if quantity in law["laws"]:
        resolved = resolved_at(cell, h, quantity)
        judged, fit = leading_term(law["laws"][quantity], quantity, h, measured, floor, resolved)
        record["leading"] = [judged.status, judged.reason, _plain(judged.worst)]
    else:
        fit, _ = fitted(h, measured, floor, quantity)
    return {**record, "fit": _fit_record(fit)}


def resolved_at(cell: Cell, h: np.ndarray, quantity: str) -> np.ndarray:
    """Levels on whose meshes, the gap's coarser one included, the kernel's modes are all seen."""
    kernel = cell.problem.convolution
    coarse = h if quantity == "level_norm" else 2 * h
    seen = np.array([kernel.unresolved(float(v)) is None for v in coarse])
    cutoff = kernel.cutoff()
    if cutoff is not None and not cell.kernel.startswith("spectral"):
        seen &= 1.0 / coarse >= 2 * SEEN * cutoff
    return seen


def _fit_record(fit: Any) -> Record:
    interval = None if fit.interval is None else list(fit.interval)
    return {**asdict(fit), "interval": interval}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def fluctuations_of(
    unit: Unit, laws: dict[Cell, Record], seed: int | None = None
) -> Iterator[tuple[Cell, Record]]:
    """Variance and rms gap of the cells of a unit: sampled, and held against the full law.

    Parameters
    ----------
    unit : Unit
        The cells.
    laws : dict
        Their laws.
    seed : int, optional
        Another seed than the unit's.
    """
    seed = unit.seed if seed is None else seed
    exact = dict(means_of(unit.cells, "fluctuations"))
    by_data: dict[Any, list[Cell]] = defaultdict(list)
    for cell, means in exact.items():
        by_data[(cell.signal, means.hierarchy.sizes[-1])].append(cell)
    for cells in by_data.values():
        group = group_of(cells)
        longest = max((exact[c].hierarchy for c in cells), key=len)
        targets = {t: draw_targets(group, t, longest, unit.replicates, seed) for t in group.targets}
        for noise in group.noises:
            inputs = draw_inputs(group, noise, longest, unit.replicates, seed)
            own = [c for c in cells if c.noise == noise]
            for kernel in dict.fromkeys(c.kernel for c in own):
                members = [c for c in own if c.kernel == kernel]
                levels = exact[members[0]].hierarchy
                wanted = {c.target: targets[c.target] for c in members}
                sample = gradients(kernel, levels, inputs, wanted)
                for cell in members:
                    yield cell, _fluctuation(cell, exact[cell], sample[cell.target], laws[cell])


def _fluctuation(cell: Cell, means: Means, sample: np.ndarray, law: Record) -> Record:
    gaps = np.diff(sample, axis=1) - np.diff(means.measured, axis=0)
    paths = np.sum(gaps**2, axis=-1)
    floor = means.floor("mean_gap") ** 2
    paths[paths <= floor * np.ones_like(paths)] = 0.0
    measured, derived = means.values("mean_gap"), means.law("mean_gap")
    h = means.hierarchy.h[1:]
    why = why_no_variance(cell.problem)
    variance = None if why else gap_variances(cell.problem, means.hierarchy)
    # terms of size |gradient|² cancel in the law of a variance
    law_floor = CANCELLING * (means.sizes[1:] + means.sizes[:-1]) ** 2
    deep = None if variance is None or derived is None else _deeper(cell, means, variance)
    found: Record = {}
    for quantity, offset, power in (("variance", 0.0 * h, 1.0), ("rms_gap", measured**2, 0.5)):
        record: Record = {"why": why or ""}
        if variance is not None and derived is not None:
            square = variance + (derived**2 if quantity == "rms_gap" else 0.0)
            record["deviations"] = [
                _bounded(v) for v in deviations(paths, offset, square, floor + law_floor)
            ]
        if deep is not None and quantity in law["laws"] and len(deep.h) >= 3:
            judged, fit = leading_term(
                law["laws"][quantity],
                quantity,
                deep.h,
                (deep.variance + (deep.gap**2 if quantity == "rms_gap" else 0.0)) ** power,
                deep.floor**power,
                resolved_at(cell, deep.h, quantity),
            )
            record["leading"] = [judged.status, judged.reason, _plain(judged.worst)]
            record["fit"] = _fit_record(fit)
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
    floor = (ROUNDING * np.finfo(float).eps) ** 2 * sizes**2 + CANCELLING * sizes**2
    gap = np.linalg.norm(np.diff(gradients, axis=0), axis=1)
    return _Deep(levels.h[1:], gap, variance, (floor[1:] + floor[:-1]) * 2.0)


def _bounded(value: float) -> float:
    return float(np.clip(value, -1e9, 1e9))


def _slope_record(
    h: np.ndarray, values: np.ndarray, paths: np.ndarray, offset: np.ndarray, power: float
) -> Record:
    """Order between the coarsest and the finest gap, with its standard error from the paths."""
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
