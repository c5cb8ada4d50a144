"""Work units of training plans, and operations of networks beside them, as ``gradconv cost``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.figures import Style
from gradconv.loading import load
from gradconv.multilevel.costs.document import Choices, document
from gradconv.multilevel.costs.figure import work_figure
from gradconv.multilevel.costs.present import count, operations, size, times
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.tables import Table

DEFAULTS: Record = {
    "dim": 2,
    "levels": None,
    "counts": None,
    "steps": 2000,
    "stages": None,
    "batch": None,
    "gamma": None,
    "noise_drawn": "finest",
    "microbatch": None,
    "plans": ["single", "multiscale", "full-multiscale"],
    "size": None,
}
MEASUREMENT: Record = {"loss": "mse", "channels": None, "seconds": False, "repeats": 1}
UNITS = "plans"  # the part that measures nothing
FORMULAS = (
    r"Work of a plan, over its stages $s$ of $M_s$ steps with finest level $\ell_s$: "
    r"$W = \sum_s M_s \sum_{\ell \le \ell_s} N_\ell (C_\ell + C_{\ell-1})$ with "
    r"$C_\ell = 2^{-\gamma (L - \ell)}$ and $C_{-1} = 0$; on one scale, with $N$ samples a step, "
    r"$W = \sum_s M_s N C_{\ell_s}$.",
    r"Parallel depth, with a worker for every gradient: $\sum_s M_s C_{\ell_s}$.",
)


@KINDS.register("work_units")
class WorkUnits(StudyKind):
    """Choices of ``gradconv cost``, lists as lists; `networks` names modules to be counted.

    Part ``plans`` has the work units; each network is a part of its own with its operations.
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        known = (*DEFAULTS, "networks", "seed")
        for name in choices:
            if name not in known:
                raise unknown_name("choice of work units", name, known)
        networks = choices.get("networks", {})
        if not isinstance(networks, dict) or UNITS in networks:
            raise InputError(
                f"`networks` must be a table of modules, none called {UNITS}; "
                f"got {shortened(networks)}"
            )
        seed = choices.get("seed", 0)
        check_whole("seed", seed, 0, 2**62)
        own = {name: value for name, value in choices.items() if name in DEFAULTS}
        plans = Choices.read({name: _text(name, v) for name, v in {**DEFAULTS, **own}.items()})
        for name in ("single", "multiscale"):
            if name not in plans.plans:
                raise InputError(f"`plans` must hold {name}; got {', '.join(plans.plans)}")
        if networks and plans.sizes is None:
            raise InputError("`networks` needs `size`, the cells an axis of the finest mesh")
        shared = plans.describe()
        document(plans, {**MEASUREMENT, **_place(seed)}, None)  # what can be wrong is wrong now
        found = {UNITS: {**shared, "module": None, "seed": seed}}
        for name, module in networks.items():
            if not isinstance(module, str):
                raise InputError(f"`networks` must name modules; got {shortened(module)}")
            load("networks", module)
            found[name] = {**shared, "module": module, "seed": seed}
        return found

    def origin(self, part: Record) -> Origin:
        return Origin(part["seed"], dtype="float32" if part["module"] else "float64")

    def measure(self, part: Record, work: Workplace) -> Record:
        own: Record = {k: tuple(v) if isinstance(v, list) else v for k, v in part.items()}
        module, seed = own.pop("module"), own.pop("seed")
        options = {**MEASUREMENT, "samples": "1", **_place(seed)}
        choices = Choices(**own)
        found = document(choices, options, module)
        for plan in found["plans"]:
            steps = np.cumsum([0, *(stage["steps"] for stage in plan["stages"])])
            spent = np.cumsum([0.0, *(stage["work_units"] for stage in plan["stages"])])
            plan["path"] = [list(pair) for pair in zip(steps.tolist(), spent.tolist(), strict=True)]
        gamma = choices.dim if choices.gamma is None else choices.gamma
        return {
            **{key: found[key] for key in ("plans", "levels", "notes")},
            "gamma": float(gamma),
        }

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        units = results[UNITS]
        networks = {name: r for name, r in results.items() if name != UNITS}
        counted = (
            " Right: cost of one sample's gradient on each level, counted operations of networks "
            f"against the law 2^{{−γ(L−ℓ)}} with γ = {units['gamma']:g}."
            if networks
            else ""
        )
        return [
            StudyFigure(
                name="work",
                caption=(
                    "Work units of training plans (one sample's gradient on the finest mesh is 1). "
                    "Left: spent up to a step; markers: ends of stages. Then: one multiscale step "
                    f"by level, N_ℓ (C_ℓ + C_{{ℓ−1}}).{counted}"
                ),
                alternative=" ".join(self.summary(results)),
                drawing=work_figure(units, networks, style),
            )
        ]

    def tables(self, results: Results) -> list[Table]:
        units = results[UNITS]
        networks = {name: r for name, r in results.items() if name != UNITS}
        found = [_plan_table(units), _level_table(units)]
        if networks:
            found += [_operation_table(networks), _growth_table(networks)]
        return found

    def summary(self, results: Results) -> list[str]:
        plans = results[UNITS]["plans"]
        found = [
            f"{plan['name']}: {count(plan['work_units'])} work units"
            + ("" if plan["ratio"] == 1.0 else f", a factor {plan['ratio']:.3g} under single")
            + f"; parallel depth {count(plan['parallel_depth'])}."
            for plan in plans
        ]
        for name, result in results.items():
            if name != UNITS:
                ratios = ", ".join(
                    f"{p['name']} {p['flops_ratio']:.3g}"
                    for p in result["plans"]
                    if p["name"] != "single"
                )
                found.append(f"In counted operations of the {name} network the factors: {ratios}.")
        return found


def _place(seed: int) -> Record:
    return {"seed": seed, "device": "cpu", "dtype": "float32"}


def _text(name: str, value: Any) -> Any:
    """A list as the command line takes it."""
    if name not in ("counts", "stages", "plans") or value is None:
        return value
    if not isinstance(value, list):
        raise InputError(f"`{name}` must be a list; got {shortened(value)}")
    return ",".join(str(v) for v in value)


def _plan_table(units: Record) -> Table:
    rows = tuple(
        (
            plan["name"],
            count(plan["steps"]),
            count(plan["work_units"]),
            times(plan["ratio"]).replace("x", " ×"),
            count(plan["work_units_per_step"]),
            count(plan["parallel_depth"]),
            count(plan["peak_samples"]),
            count(plan["cells_drawn_per_step"]),
            count(plan["cells_restricted_per_step"]),
        )
        for plan in units["plans"]
    )
    notes = [*FORMULAS]
    for plan in units["plans"]:
        stages = [s["work_units"] for s in plan["stages"]]
        if len(stages) > 1:
            parts = " + ".join(count(w) for w in stages)
            notes.append(f"{plan['name']}, stage by stage: {parts} = {count(plan['work_units'])}.")
    steps = [count(level["work_units_per_step"]) for level in units["levels"]]
    multiscale = next(p for p in units["plans"] if p["name"] == "multiscale")
    notes.append(
        f"multiscale, level by level: {count(multiscale['steps'])} × ({' + '.join(steps)}) = "
        f"{count(multiscale['work_units'])}."
    )
    return Table(
        "work",
        f"Work units of training plans, γ = {units['gamma']:g}: one sample's gradient on the "
        "finest mesh is 1. Ratio: single's work over the plan's; memory: of the largest pass, in "
        "samples on the finest mesh; cells drawn and restricted: a step, in fields of the finest "
        "mesh.",
        (
            "plan",
            "steps",
            "work units",
            "ratio",
            "a step",
            "parallel depth",
            "memory",
            "drawn",
            "restricted",
        ),
        rows,
        tuple(notes),
    )


def _level_table(units: Record) -> Table:
    rows = tuple(
        (
            str(level["level"]),
            count(level["samples"]),
            *(f"{level[key]:.6g}" for key in ("gradient", "term", "work_units_per_step")),
        )
        for level in units["levels"]
    )
    return Table(
        "levels",
        "A multiscale step by level: samples, work units of a gradient, of a sample of the term "
        "(which takes the coarser gradient too), and of all samples.",
        ("level", "samples", "a gradient", "a sample", "a step"),
        rows,
    )


def _operation_table(networks: Mapping[str, Record]) -> Table:
    rows = tuple(
        (
            name,
            plan["name"],
            operations(plan["flops"]),
            times(plan["flops_ratio"]).replace("x", " ×"),
            operations(plan["flops_parallel"]),
            size(plan["peak_bytes"]),
        )
        for name, result in networks.items()
        for plan in result["plans"]
    )
    return Table(
        "operations",
        "The same plans in counted operations of networks: convolutions, products of matrices and "
        "mesh-free layers, forward and backward.",
        ("network", "plan", "operations", "ratio", "parallel", "peak memory"),
        rows,
    )


def _growth_table(networks: Mapping[str, Record]) -> Table:
    rows = tuple(
        (
            name,
            f"{level['n']}",
            operations(level["flops"]),
            "–" if level["flops_order"] is None else f"{level['flops_order']:+.2f}",
            size(level["sample_bytes"]),
        )
        for name, result in networks.items()
        for level in result["levels"]
    )
    return Table(
        "growth",
        "One sample's gradient by mesh: operations, the order at which they grow from the mesh "
        "before (γ of the cost model), and memory.",
        ("network", "cells an axis", "operations", "order", "memory"),
        rows,
    )
