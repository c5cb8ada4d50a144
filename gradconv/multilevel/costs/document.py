"""From the options of ``gradconv cost`` to its document and its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.mesh import MAX_LEVEL, check_dim, read_levels
from gradconv.multilevel.costs.model import (
    CostModel,
    cells,
    parallel_depth,
    peak_bytes,
    peak_samples,
    ratio,
    step_cells,
    step_work,
    work,
)
from gradconv.multilevel.costs.plan import (
    Plan,
    check_levels,
    check_wholes,
    full_multiscale,
    halved,
    multiscale,
    paper_counts,
    pass_size,
    progressive,
    single,
)
from gradconv.provenance import provenance
from gradconv.rate_records import number
from gradconv.terminal import whole_numbers

if TYPE_CHECKING:
    from gradconv.multilevel.costs.counting import LevelCost

SCHEMA = "gradconv.cost/1"
LEVELS = 4
Record = dict[str, Any]


@dataclass(frozen=True)
class Choices:
    """Plans to compare and the hierarchy they run on.

    Parameters
    ----------
    dim : {1, 2, 3}
        Dimension.
    counts : tuple of int
        Samples of each term a step, coarse to fine.
    steps : int
        Steps of plans without stages.
    stages : tuple of int
        Steps of each stage, coarse to fine.
    batch : int
        Samples a step of plans on one scale.
    gamma : float or None
        Order of the cost; None: `dim`.
    noise_drawn : {"finest", "level"}
        Where noise is drawn.
    microbatch : int or None
        Most samples of a pass.
    plans : tuple of str
        Names of plans, keys of `PLANS`.
    sizes : tuple of int or None
        Cells an axis of each level, coarse to fine, if the meshes are known.
    """

    dim: int
    counts: tuple[int, ...]
    steps: int
    stages: tuple[int, ...]
    batch: int
    gamma: float | None
    noise_drawn: str
    microbatch: int | None
    plans: tuple[str, ...]
    sizes: tuple[int, ...] | None

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Choices:
        """Read the options of the command line.

        Raises
        ------
        InputError
            If one breaks a rule, or two contradict each other.
        """
        check_dim(options["dim"])
        check_whole("steps", options["steps"], 1)
        listed = {
            name: None if options[name] is None else whole_numbers(name, options[name])
            for name in ("counts", "stages")
        }
        levels, powers = _levels(options["levels"])
        if levels is None:
            given = [len(values) for values in listed.values() if values is not None]
            levels = given[0] if given else LEVELS
        check_levels(levels)
        for name, values in listed.items():
            if values is not None:
                check_wholes(name, values, levels)
        counts = listed["counts"] or paper_counts(levels)
        stages = listed["stages"] or halved(options["steps"], levels)
        plans = tuple(name.strip() for name in options["plans"].split(","))
        for name in plans:
            if name not in PLANS:
                raise unknown_name("plans", name, PLANS)
        if len(set(plans)) < len(plans):
            raise InputError(f"`plans` must not repeat a name; got {options['plans']!r}")
        return cls(
            dim=options["dim"],
            counts=counts,
            steps=options["steps"],
            stages=stages,
            batch=sum(counts) if options["batch"] is None else options["batch"],
            gamma=options["gamma"],
            noise_drawn=options["noise_drawn"],
            microbatch=options["microbatch"],
            plans=plans,
            sizes=_sizes(options["size"], levels, powers),
        )

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.counts)

    def describe(self) -> Record:
        """Return the choices as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


# A further plan is one more entry.
PLANS: dict[str, Callable[[Choices], Plan]] = {
    "single": lambda c: single(c.steps, c.batch, c.levels),
    "multiscale": lambda c: multiscale(c.steps, c.counts),
    "full-multiscale": lambda c: full_multiscale(c.stages, c.counts),
    "progressive": lambda c: progressive(c.stages, c.batch),
}


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


def _levels(text: str | None) -> tuple[int | None, tuple[int, int] | None]:
    """Number of levels, and the powers of two of the coarsest and finest mesh if they are given."""
    if text is None:
        return None, None
    if _digits(text.strip()):
        return int(text), None
    a, b = read_levels(text)
    return b - a + 1, (a, b)


def _sizes(size: int | None, levels: int, powers: tuple[int, int] | None) -> tuple[int, ...] | None:
    """Cells an axis of each level, coarse to fine."""
    if powers is not None:
        if size is not None and size != 2 ** powers[1]:
            raise InputError(
                f"`size` must be that of the finest of the levels, {2 ** powers[1]}; got {size}"
            )
        return tuple(2**e for e in range(powers[0], powers[1] + 1))
    if size is None:
        return None
    check_whole("size", size, 2, 2**MAX_LEVEL)
    halvings = levels - 1
    if size % 2**halvings or size >> halvings < 2:
        raise InputError(
            f"`size` must be halved {halvings} times to whole numbers, of at least 2 cells, for "
            f"{levels} levels; got {size}"
        )
    return tuple(size >> (halvings - level) for level in range(levels))


def document(choices: Choices, options: Mapping[str, Any], module: str | None) -> Record:
    """Cost of every plan and of every level; a module's gradients are measured.

    Parameters
    ----------
    choices : Choices
        The plans.
    options : mapping
        Options of the command line: loss, channels, seconds, repeats, samples, device, dtype and
        seed of the measurement.
    module : str or None
        ``MODULE:NAME``; None measures nothing.

    Returns
    -------
    dict
        The document ``gradconv.cost/1``; JSON values only.
    """
    units = CostModel.work_units(choices.levels, choices.dim, choices.gamma)
    plans = [PLANS[name](choices) for name in choices.plans]
    baseline = PLANS["single"](choices)
    for plan in (baseline, *plans):  # all that can be wrong is wrong before anything is measured
        cells(plan, choices.dim, choices.noise_drawn)
        peak_samples(plan, choices.dim, choices.microbatch)
    measured: tuple[LevelCost, ...] = ()
    notes: list[str] = []
    if module is not None:
        if choices.sizes is None:
            raise InputError("`module` needs `size`, the cells an axis of the finest mesh")
        from gradconv.multilevel.costs.module import measure

        samples = _samples(options["samples"], choices)
        measured, notes = measure(module, choices.sizes, choices.dim, samples, options)
    elif options["seconds"]:
        raise InputError("`seconds` needs `module`, whose gradients are timed")
    configuration = {**choices.describe(), "module": module}
    if module is not None:
        names = ("loss", "channels", "seconds", "repeats", "samples")
        configuration |= {name: options[name] for name in names}
    return {
        "schema": SCHEMA,
        "plans": [_plan(plan, baseline, units, choices, measured) for plan in plans],
        "levels": _level_records(choices, units, measured),
        "notes": notes,
        "provenance": provenance(
            configuration, options["seed"], options["device"], options["dtype"]
        ),
    }


def _samples(text: str, choices: Choices) -> tuple[int, ...]:
    """Samples of a measured pass on each level."""
    if text.strip() == "counts":
        below = range(choices.levels - 1, -1, -1)
        most = [pass_size(choices.microbatch, b, choices.dim) for b in below]
        return tuple(min(n, m or n) for n, m in zip(choices.counts, most, strict=True))
    if not _digits(text.strip()) or int(text) < 1:
        raise InputError(
            f"`samples` must be counts or a whole number of at least 1; got {shortened(text)}"
        )
    return (int(text),) * choices.levels


def _plan(
    plan: Plan,
    baseline: Plan,
    units: CostModel,
    choices: Choices,
    measured: tuple[LevelCost, ...],
) -> Record:
    total, taken = work(plan, units), cells(plan, choices.dim, choices.noise_drawn)
    stages = [
        {
            "finest_level": stage.finest,
            "steps": stage.steps,
            "samples": stage.samples,
            "work_units_per_step": step_work(stage, units),
            "work_units": stage.steps * step_work(stage, units),
            "cells_drawn_per_step": step_cells(
                stage, plan.levels, choices.dim, choices.noise_drawn
            ).drawn,
        }
        for stage in plan.stages
    ]
    return {
        "name": plan.name,
        "steps": plan.steps,
        "work_units": total,
        "ratio": number(ratio(work(baseline, units), total)),
        "work_units_per_step": total / plan.steps,
        "serial_depth": total,
        "parallel_depth": parallel_depth(plan, units),
        "peak_samples": peak_samples(plan, choices.dim, choices.microbatch),
        "cells_drawn": taken.drawn,
        "cells_drawn_per_step": taken.drawn / plan.steps,
        "cells_restricted": taken.restricted,
        "cells_restricted_per_step": taken.restricted / plan.steps,
        **_measured_costs(plan, baseline, choices, measured),
        "stages": stages,
    }


def _measured_costs(
    plan: Plan, baseline: Plan, choices: Choices, measured: tuple[LevelCost, ...]
) -> Record:
    """What the measured costs of gradients make of a plan; None where nothing was measured."""
    found: Record = {}
    for name in ("flops", "seconds"):
        values = [getattr(level, name) for level in measured]
        known = bool(values) and None not in values
        costs = CostModel(tuple(values), name) if known else None
        total = None if costs is None else work(plan, costs)
        found[name] = total
        found[f"{name}_ratio"] = (
            None if costs is None else number(ratio(work(baseline, costs), work(plan, costs)))
        )
        found[f"{name}_parallel"] = None if costs is None else parallel_depth(plan, costs)
    fixed, sample = ([getattr(c, k) for c in measured] for k in ("fixed_bytes", "sample_bytes"))
    found["peak_bytes"] = (
        peak_bytes(plan, choices.dim, fixed, sample, choices.microbatch) if measured else None
    )
    return found


def _level_records(
    choices: Choices, units: CostModel, measured: tuple[LevelCost, ...]
) -> list[Record]:
    terms = PLANS["multiscale"](choices).stages[0].terms
    flops = CostModel(tuple(c.flops for c in measured), "FLOP") if measured else None
    records = []
    for level, term in enumerate(terms):
        cost = measured[level] if measured else None
        least, most = (cost.seconds_range or (None, None)) if cost else (None, None)
        order = flops.orders[level - 1] if flops and level else math.nan
        records.append(
            {
                "level": level,
                "n": choices.sizes[level] if choices.sizes else None,
                "samples": term.samples,
                "gradient": units.gradient[level],
                "term": units.term(term),
                "work_units_per_step": term.samples * units.term(term),
                "flops": cost.flops if cost else None,
                "flops_order": number(order),
                "seconds": cost.seconds if cost else None,
                "seconds_range": [least, most],
                "fixed_bytes": cost.fixed_bytes if cost else None,
                "sample_bytes": cost.sample_bytes if cost else None,
            }
        )
    return records
