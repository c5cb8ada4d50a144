"""Signed weights of the sides of all terms, from the slopes of the loss in the probe steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.terms import Key, Structure, weight

ERRORS = 5.0  # standard errors, where the loss weighs every sample differently
ALIKE = 0.05  # relative difference of weights that follow one law


@dataclass(frozen=True)
class Weights:
    """Weights of the sides of all terms.

    Parameters
    ----------
    values : dict
        By (term, kind), one value a probe step.
    unit : float
        κ, the size of the finest level's weight.
    """

    values: dict[Key, dict[int, float]]
    unit: float

    def mean(self, key: Key) -> float:
        """Mean over the steps, in units of κ; NaN if never measured."""
        found = list(self.values.get(key, {}).values())
        return float(np.mean(found)) / self.unit if found and self.unit else np.nan

    def spread(self, key: Key) -> float:
        """Standard error of the mean, in units of κ."""
        return (
            standard_error(list(self.values.get(key, {}).values())) / self.unit
            if self.unit
            else np.nan
        )


def weigh(structure: Structure) -> Weights:
    """Measure the weights of all sides.

    Parameters
    ----------
    structure : Structure
        Terms with their probe steps.
    """
    steps = {s.number: s for s in structure.steps if s.probed}
    values = {
        key: {
            number: sum(weight(c, steps[number]) for c in calls)
            for number, calls in role.calls.items()
            if number in steps
        }
        for key, role in structure.roles.items()
    }
    values = {key: found for key, found in values.items() if found}
    sizes = {key: float(np.mean(np.abs(list(found.values())))) for key, found in values.items()}
    unit = sizes.get((structure.finest, "fine"), max(sizes.values(), default=0.0))
    return Weights(values, unit)


def level_sums(structure: Structure, weights: Weights) -> dict[int, tuple[float, float]]:
    """Sum of the weights on each level that a gradient came from, in units of κ, with its error."""
    totals: dict[int, dict[int, float]] = {}
    for key, values in weights.values.items():
        total = totals.setdefault(structure.roles[key].level, {})
        for step, value in values.items():
            total[step] = total.get(step, 0.0) + value
    return {
        level: (
            float(np.mean(list(total.values()))) / weights.unit,
            standard_error(list(total.values())) / weights.unit,
        )
        for level, total in totals.items()
    }


def standard_error(values: list[float]) -> float:
    """Standard error of the mean of some steps' values; 0 for a single one."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def measurable(weights: Weights) -> bool:
    """Whether each side has one sign in all steps, and not a vanishing size beside the others'."""
    if not weights.values or not np.isfinite(weights.unit) or not weights.unit:
        return False
    for values in weights.values.values():
        found = np.array(list(values.values()))
        if not np.all(np.isfinite(found)) or abs(np.sign(found).sum()) < len(found):
            return False
    return True


def scaling(
    structure: Structure, raw: dict[Key, float], weights: Weights
) -> tuple[str | None, str, dict[Key, float]]:
    """Powers of cells and samples that make all weights alike: those of a sum, or of a norm."""
    dim = structure.dim
    laws = [
        (None, "", 0.0, 0.0),
        (causes.SUM_CELLS, f"n^{dim}", float(dim), 0.0),
        (causes.SUM_BATCH, "N", 0.0, 1.0),
        (causes.SUM_BOTH, f"n^{dim} N", float(dim), 1.0),
        (causes.NORM, f"n^{dim / 2:g}", dim / 2.0, 0.0),
        (causes.NORM, f"(n^{dim} N)^0.5", dim / 2.0, 0.5),
    ]
    best: tuple[int, str | None, str, dict[Key, float]] | None = None
    for cause, law, cells, samples in laws:
        size = {}
        for key in raw:
            role = structure.roles[key]
            count = float(np.mean([role.count(s) for s in role.calls]))
            size[key] = structure.sizes[role.level] ** cells * count**samples
        scaled = {k: abs(raw[k]) / size[k] for k in raw}
        middle = float(np.median(list(scaled.values())))
        alike = sum(
            abs(v / middle - 1.0) <= max(ALIKE, ERRORS * weights.spread(k))
            for k, v in scaled.items()
        )
        if best is None or alike > best[0]:
            best = (alike, cause, law, size)
    assert best is not None
    return best[1:]
