"""Units of the atlas (all cells of a dimension, a setting and a restriction), and exact means."""

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
    LEVELS_OF_MEANS,
    LEVELS_OF_PATHS,
    REPLICATES,
    SHALLOW,
    SIGNAL,
    Cell,
    evaluable,
    hierarchy_for,
)
from gradconv.atlas.derived import Record, law_record
from gradconv.atlas.exact import (
    Group,
    derived_parts,
    derived_spectra,
    measured_parts,
    measured_spectra,
)
from gradconv.atlas.judge import Fit, exact_values, fitted, leading_term
from gradconv.gradient import scaled_expectation
from gradconv.laws.lattice import mean_gradients
from gradconv.mesh import MeshHierarchy
from gradconv.problem import mesh_sizes
from gradconv.statistics import rounding_floor

# A Gaussian falls to NEGLIGIBLE (1e-20) at its cutoff, and to 6e-4 at this part of it; its square,
# which makes the gradient, to 4e-7.
SEEN = 0.4
EPSILON = float(np.finfo(float).eps)


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
    deep = LEVELS_OF_MEANS if cell.signal == SIGNAL and evaluable(cell.restriction) else SHALLOW
    first = LEVELS_OF_PATHS[cell.dim]
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
            "meshes": [LEVELS_OF_MEANS, LEVELS_OF_PATHS, DEEPER, SHALLOW],
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
    meshes = [LEVELS_OF_MEANS, LEVELS_OF_PATHS, DEEPER, SHALLOW]
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
        return rounding_floor(quantity, self.sizes, EPSILON)

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
    measured, sizes = scaled_expectation(problem, levels)
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


def mean_record(cell: Cell, means: Means, quantity: str, law: Record) -> Record:
    """A mean of a cell: held against the full law and its leading term, and fitted."""
    measured, derived = means.values(quantity), means.law(quantity)
    floor = means.floor(quantity)
    record: Record = {"why": ""}
    if derived is not None:
        values = exact_values(measured, derived, floor)
        record["values"] = [values.status, values.reason, plain(values.worst)]
    h = mesh_sizes(quantity, means.hierarchy.h)
    if quantity in law["laws"]:
        resolved = resolved_at(cell, h, quantity)
        judged, fit = leading_term(law["laws"][quantity], quantity, h, measured, floor, resolved)
        record["leading"] = [judged.status, judged.reason, plain(judged.worst)]
    else:
        fit, _ = fitted(h, measured, floor, quantity)
    return {**record, "fit": fit_record(fit)}


def resolved_at(cell: Cell, h: np.ndarray, quantity: str) -> np.ndarray:
    """Levels on whose meshes, the gap's coarser one included, the kernel's modes are all seen."""
    kernel = cell.problem.convolution
    coarse = h if quantity == "level_norm" else 2 * h
    seen = np.array([kernel.unresolved(float(v)) is None for v in coarse])
    cutoff = kernel.cutoff()
    if cutoff is not None and not cell.kernel.startswith("spectral"):
        seen &= 1.0 / coarse >= 2 * SEEN * cutoff
    return seen


def fit_record(fit: Fit) -> Record:
    """A fit as a record; JSON values only."""
    interval = None if fit.interval is None else list(fit.interval)
    return {**asdict(fit), "interval": interval}


def plain(value: float) -> float | None:
    """A number as JSON takes it: None if it is not finite."""
    return float(value) if np.isfinite(value) else None
