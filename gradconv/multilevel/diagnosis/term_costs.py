"""What one sample of each term costs: work units, operations and seconds, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradconv.errors import InputError
from gradconv.multilevel.costs.counting import level_costs
from gradconv.multilevel.costs.model import term_costs
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.diagnosis.term_orders import cost_order
from gradconv.multilevel.evaluator import Evaluator
from gradconv.nn.timing import torch_threads
from gradconv.rates import Rate

UNITS = {"work": "work units", "flops": "operations", "seconds": "seconds"}
REPEATS = 5
RANGE_OF_MEDIAN = 0.54  # standard error of the median of 5 over its range, Gaussian


@dataclass(frozen=True)
class Costs:
    """Cost of one sample's gradient on each level, in one unit.

    Parameters
    ----------
    unit : {"work", "flops", "seconds"}
        Work units: a gradient on the finest mesh is 1, and cost is proportional to the cells.
    single : ndarray
        Of the fine gradient of each level, coarse to fine.
    errors : ndarray
        Standard errors of `single`.
    """

    unit: str
    single: Array
    errors: Array

    @property
    def terms(self) -> Array:
        """C_l of one sample of term l: its fine and its coarse gradient."""
        return term_costs(self.single)

    @property
    def term_errors(self) -> Array:
        """Standard errors of `terms`."""
        return np.hypot(self.errors, np.concatenate([[0.0], self.errors[:-1]]))

    def gamma(self, h: Array, confidence: float) -> Rate:
        """γ of the terms' costs, C_l ~ h^{−γ}."""
        return cost_order(h, self.terms, self.term_errors, confidence)


def measure_costs(evaluator: Evaluator) -> dict[str, Costs]:
    """Costs in every unit that there is: operations are absent where torch counts none.

    Raises
    ------
    InputError
        If module or loss cannot run on a level, which is named.
    """
    hierarchy = evaluator.sampler.hierarchy
    cells = np.array([mesh.size for mesh in hierarchy.meshes], dtype=float)
    exact = np.zeros(len(cells))
    found = {"work": Costs("work", cells / cells[-1], exact)}
    drawn = evaluator.sampler.draw([0], range(len(cells)))
    batches = [(evaluator.place(x), evaluator.place(y)) for x, y in drawn]
    with torch_threads(1):
        measured = level_costs(
            evaluator.module,
            evaluator.loss,
            batches,
            output=evaluator.output,
            repeats=REPEATS,
            note=evaluator.note,
        )
    flops = np.array([m.flops for m in measured])
    if np.all(flops > 0):
        found["flops"] = Costs("flops", flops, exact)
    seconds = np.array([m.seconds for m in measured], dtype=float)
    ranges = np.array([m.seconds_range for m in measured], dtype=float)
    errors = RANGE_OF_MEDIAN * (ranges[:, 1] - ranges[:, 0]) / np.sqrt(REPEATS)
    found["seconds"] = Costs("seconds", seconds, errors)
    return found


def chosen_costs(found: dict[str, Costs], unit: str) -> Costs:
    """Costs in the unit asked for.

    Raises
    ------
    InputError
        If torch counts no operations of the module on some level.
    """
    if unit not in found:
        raise InputError(
            "`cost` flops needs operations that torch counts (convolutions and matrix products) "
            "on every level; it counted none"
        )
    return found[unit]
