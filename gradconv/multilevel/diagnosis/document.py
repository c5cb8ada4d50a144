"""A diagnosis as a JSON document of the schema ``gradconv.multilevel/1``, and as files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.multilevel.diagnosis.components import FALSE_ALARM
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.term_costs import UNITS, Costs
from gradconv.multilevel.optimum import optimal_counts
from gradconv.provenance import provenance
from gradconv.rate_records import decay, number, rate_record
from gradconv.store import write_atomically

if TYPE_CHECKING:
    from gradconv.multilevel.diagnosis.result import Diagnosis

SCHEMA = "gradconv.multilevel/1"
ROLES = ("fine", "coarse", "difference")
Record = dict[str, Any]


def document(found: Diagnosis) -> Record:
    """Everything of a diagnosis; NaN and infinity are None, lists go from coarse to fine."""
    groups = [_group(found, table) for table in (*found.tables, found.components.worst)]
    origin = provenance(found.configuration, found.seed, found.device, found.dtype)
    return {
        "schema": SCHEMA,
        "provenance": origin,
        "levels": [
            {"level": i, "n": n, "h": float(h)}
            for i, (n, h) in enumerate(zip(found.hierarchy.sizes, found.hierarchy.h, strict=True))
        ],
        "groups": groups,
        "components": _components(found),
        "costs": [_cost(found, costs) for costs in found.costs.values()],
        "unit": found.unit,
        "complexity": _complexity(found),
        "errors": _errors(found),
        "laws": [_law(law) for law in found.laws],
        "warnings": [_caution(vars(w)) for w in found.warnings],
        "notes": list(found.notes),
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [number(float(v)) for v in values]


def _group(found: Diagnosis, table: LevelTable) -> Record:
    record: Record = {
        "group": table.name,
        "kind": table.kind,
        "parameters": table.size,
        "samples": table.samples,
    }
    for which, role in enumerate(ROLES):
        for quantity, (values, errors) in (
            ("mean", table.mean(which)),
            ("variance", table.variance(which)),
        ):
            if role == "coarse":
                values, errors = values.copy(), errors.copy()
                values[0] = errors[0] = np.nan
            record[f"{role}_{quantity}"] = _numbers(values)
            record[f"{role}_{quantity}_stderr"] = _numbers(errors)
    record["kurtosis"] = _numbers(table.kurtosis)
    record["check"] = _numbers(table.check)
    orders = found.rates[table.name]
    record["alpha"] = rate_record(orders.alpha)
    record["beta"] = rate_record(orders.beta)
    return record


def _components(found: Diagnosis) -> Record:
    c = found.components
    return {
        "check": _numbers(c.check),
        "check_names": list(c.check_names),
        "check_limit_stderrs": c.limit,
        "check_false_alarm": FALSE_ALARM,
        "kurtosis": _numbers(c.kurtosis),
        "kurtosis_names": list(c.kurtosis_names),
        "worst": c.worst.name,
        "worst_cost_ratio": number(c.ratio),
    }


def _cost(found: Diagnosis, costs: Costs) -> Record:
    gamma = found.gammas[costs.unit]
    return {
        "unit": costs.unit,
        "name": UNITS[costs.unit],
        "single": _numbers(costs.single),
        "single_stderr": _numbers(costs.errors),
        "term": _numbers(costs.terms),
        "gamma": rate_record(gamma),
    }


def _complexity(found: Diagnosis) -> Record:
    c = found.complexity
    return {
        "cases": list(c.cases),
        "decided": len(c.cases) == 1,
        "bias_condition": c.bias,
        "exponent_interval": _numbers(c.exponent),
        "sentence": c.sentence,
        "fixed_finest_mesh": {
            "multilevel": number(c.fixed),
            "single": number(c.single),
            "ratio": number(c.fixed / c.single),
            "coarsest_level_worth_having": c.start,
            "ratio_from_there": number(c.best / c.single),
        },
    }


def _errors(found: Diagnosis) -> Record:
    costs = found.costs[found.unit]
    rows = []
    for f in found.forecasts:
        row: Record = {
            "estimator": f.estimator,
            "epsilon": f.epsilon,
            "target_variance": f.target,
            "counts": None if f.counts is None else list(f.counts),
            "draws": f.draws,
            "probabilities": None if f.probabilities is None else list(f.probabilities),
            "cost": f.cost,
            "variance": f.variance,
            "variance_stderr": f.stderr,
            "measured": None,
        }
        if f in found.measured:
            m = found.measured[f]
            row["measured"] = {
                "repetitions": m.repetitions,
                "cost": m.cost,
                "variance": m.variance,
                "variance_interval": _numbers(m.variance_interval),
                "mean_squared_error": m.error,
                "mean_squared_error_stderr": m.error_stderr,
                "ratio": number(m.ratio),
                "ratio_interval": _numbers(m.ratio_interval),
            }
        rows.append(row)
    numbers = []
    if found.forecasts:
        for epsilon in found.errors.epsilons:
            target = (epsilon * found.errors.scale) ** 2
            n = optimal_counts(found.moments.difference, costs.terms, variance=target)
            numbers.append({"epsilon": epsilon, "counts": _numbers(n)})
    return {
        "relative_to": found.errors.relative_to,
        "scale": found.errors.scale,
        "unit": UNITS[found.unit],
        "forecasts": rows,
        "optimal_numbers": numbers,
    }


def _law(law: Any) -> Record:
    return {
        "of": law.of,
        "own": law.own,
        "symbol": law.symbol,
        "order": number(law.order),
        "fine_order": number(law.fine),
        "decay": decay(law.order),
        "log": law.log,
        "within_interval": law.within,
        "values": _numbers(law.values),
        "standard_errors": _numbers(law.errors),
        "missing": law.missing,
    }


def _caution(fields: Record) -> Record:
    return {k: number(v) if isinstance(v, float) else v for k, v in fields.items()}


def write(found: Diagnosis, folder: Path) -> None:
    """Write ``multilevel.json``, ``table.md`` and the figure into a folder."""
    from gradconv.figures import KINDS, figure_bytes
    from gradconv.multilevel.diagnosis.figure import diagnosis_figure
    from gradconv.multilevel.diagnosis.present import markdown

    made = document(found)
    content = json.dumps(made, allow_nan=False) + "\n"
    write_atomically(folder / "multilevel.json", content.encode())
    write_atomically(folder / "table.md", markdown(made).encode())
    figure = diagnosis_figure(made)
    for kind in KINDS:
        write_atomically(folder / f"figure.{kind}", figure_bytes(figure, kind))
