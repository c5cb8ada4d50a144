"""What the legs of a training run are expected to cost, beside training on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradconv.errors import InputError, check_positive, check_whole, unknown_name
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.costs.counting import LevelCost
from gradconv.multilevel.costs.model import (
    DRAWN,
    CostModel,
    parallel_depth,
    ratio,
    step_cells,
    step_work,
)
from gradconv.multilevel.costs.plan import Plan, single
from gradconv.rate_records import number
from gradconv.train.memory import largest_pass
from gradconv.train.strategies.base import Leg, plan_of

SCHEMA = "gradconv.plan/1"
SUMS = ("steps", "samples", "work", "flops", "seconds", "cells_drawn", "parallel_depth")
Record = dict[str, Any]


def forecast(
    name: str,
    legs: Sequence[Leg],
    hierarchy: MeshHierarchy,
    costs: Sequence[LevelCost] | None = None,
    *,
    step_seconds: Sequence[float] | None = None,
    microbatch: int | None = None,
    drawn: str = "finest",
    accumulation: int = 1,
    merged: bool = True,
    processes: int = 1,
    alone: Leg | None = None,
) -> Record:
    """Expected cost of each leg, of all, and of single-scale training.

    Legs that may end early are taken to run to their end.

    Parameters
    ----------
    name : str
        Of the strategy.
    legs : sequence of Leg
        The plan.
    hierarchy : MeshHierarchy
        Meshes of the targets.
    costs : sequence of LevelCost, optional
        Of one sample's gradient on each level, coarse to fine; without them there are work units
        and cells only, and with seconds in them every leg has its seconds.
    step_seconds : sequence of float, optional
        Measured seconds of a step of each leg, `accumulation` included, in place of those.
    microbatch : int, optional
        Samples of a pass at most on the finest mesh, and as many cells on others.
    drawn : {"finest", "level"}
        Where noise is drawn. Crops are cut from the finest mesh in any case.
    accumulation : int
        Estimates of the gradient a step.
    merged : bool
        Whether all parts of a step on one mesh are one pass, as in training without batch
        normalisation; else each term's parts are.
    processes : int
        Processes that share the samples of a term; ``peak_bytes`` is that of one.
    alone : Leg, optional
        Single-scale training to compare with; default as many steps and samples a step as the
        strategy takes on the finest mesh that it uses.

    Returns
    -------
    dict
        The document ``gradconv.plan/1``, JSON values only: ``legs``, their ``totals``, ``single``
        with the keys of ``totals``, and ``ratio``, single over strategy. What is not known is
        None. ``parallel_depth`` is in work units; ``cells_drawn`` in cells.

    Raises
    ------
    InputError
        If an argument breaks a rule above.
    """
    levels = len(hierarchy)
    plan_of(name, legs, levels)
    check_whole("accumulation", accumulation, 1)
    check_whole("processes", processes, 1)
    if drawn not in DRAWN:
        raise unknown_name("drawn", drawn, DRAWN)
    if costs is not None and len(costs) != levels:
        raise InputError(f"`costs` must hold one for each of {levels} levels; got {len(costs)}")
    if step_seconds is not None:
        if len(step_seconds) != len(legs):
            raise InputError(
                f"`step_seconds` must hold one for each of {len(legs)} legs; got "
                f"{len(step_seconds)}"
            )
        step_seconds = [check_positive("step_seconds", seconds) for seconds in step_seconds]
    if alone is None:
        finest = max(leg.stage.finest for leg in legs)
        there = [leg for leg in legs if leg.stage.finest == finest]
        plan = single(sum(leg.steps for leg in there), there[-1].stage.samples, levels)
        alone = Leg(plan.steps, plan.stages[0].terms)
    counter = _Counter(hierarchy, costs, microbatch, drawn, accumulation, merged, processes)
    records = [
        counter.leg(leg, None if step_seconds is None else step_seconds[i])
        for i, leg in enumerate(legs)
    ]
    totals = _totals(records)
    single_scale = _totals([counter.leg(alone, None)])
    return {
        "schema": SCHEMA,
        "strategy": name,
        "dim": hierarchy.dim,
        "levels": list(hierarchy.sizes),
        "microbatch": microbatch,
        "noise_drawn": drawn,
        "accumulation": accumulation,
        "processes": processes,
        "legs": records,
        "totals": totals,
        "single": {**single_scale, "samples_per_step": accumulation * alone.stage.samples},
        "ratio": {key: _ratio(single_scale[key], totals[key]) for key in totals},
    }


class _Counter:
    """Counts what one leg takes."""

    def __init__(
        self,
        hierarchy: MeshHierarchy,
        costs: Sequence[LevelCost] | None,
        microbatch: int | None,
        drawn: str,
        accumulation: int,
        merged: bool,
        processes: int,
    ) -> None:
        self.hierarchy, self.costs, self.microbatch = hierarchy, costs, microbatch
        self.drawn, self.accumulation, self.merged = drawn, accumulation, merged
        self.processes = processes
        self.units = CostModel.work_units(len(hierarchy), hierarchy.dim)

    def leg(self, leg: Leg, step_seconds: float | None) -> Record:
        """Record of a leg."""
        repeats, stage, hierarchy = self.accumulation, leg.stage, self.hierarchy
        levels, sizes = len(hierarchy), hierarchy.sizes
        drawn = "finest" if leg.crops else self.drawn
        cells = step_cells(stage, levels, hierarchy.dim, drawn).drawn * hierarchy.finest.size
        step: Record = {
            "samples": repeats * stage.samples,
            "work": repeats * step_work(stage, self.units),
            "flops": self._measured(leg, "flops"),
            "seconds": self._measured(leg, "seconds") if step_seconds is None else step_seconds,
            "cells_drawn": repeats * round(cells),
        }
        return {
            "finest_level": stage.finest,
            "n": sizes[stage.finest],
            "steps": leg.steps,
            "terms": [
                {
                    "level": term.level,
                    "n": sizes[term.level],
                    "samples": term.samples,
                    "corrects": term.corrects,
                }
                for term in leg.terms
            ],
            "crops": None if leg.crops is None else list(leg.crops),
            "stopping": None
            if leg.stopping is None
            else {"window": leg.stopping.window, "tolerance": leg.stopping.tolerance},
            **{f"{key}_per_step": value for key, value in step.items()},
            **{k: None if value is None else leg.steps * value for k, value in step.items()},
            # a step's estimates do not wait for each other: `accumulation` adds nothing
            "parallel_depth": parallel_depth(Plan("leg", levels, (stage,)), self.units),
            "peak_bytes": self._peak(leg),
        }

    def _measured(self, leg: Leg, name: str) -> float | None:
        """Cost of a step by the measured costs of gradients."""
        values = [getattr(cost, name) for cost in self.costs or ()]
        if not values or None in values:
            return None
        return self.accumulation * step_work(leg.stage, CostModel(tuple(values), name))

    def _peak(self, leg: Leg) -> float | None:
        if self.costs is None:
            return None
        dim, merged = self.hierarchy.dim, self.merged
        return largest_pass((leg,), self.costs, dim, self.microbatch, merged, self.processes)[0]


def _totals(records: Sequence[Record]) -> Record:
    found: Record = {}
    for key in SUMS:
        values = [record[key] for record in records]
        found[key] = None if None in values else sum(values)
    peaks = [record["peak_bytes"] for record in records]
    return {**found, "peak_bytes": None if None in peaks else max(peaks)}


def _ratio(alone: float | None, total: float | None) -> float | None:
    return None if alone is None or total is None else number(ratio(alone, total))
