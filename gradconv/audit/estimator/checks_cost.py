"""Do batch sizes grow with coarseness as declared, and is the work what is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.calls import Call
from gradconv.audit.estimator.causes import STEP
from gradconv.audit.estimator.terms import Structure
from gradconv.audit.findings import Finding
from gradconv.multilevel.costs.model import CostModel, step_work
from gradconv.multilevel.costs.plan import multiscale

CLAIM = 0.01  # relative difference from the claimed work that is a rounded number
ERRORS = 5.0


def batch_sizes(structure: Structure) -> dict[int, float]:
    """Samples a step of each term, coarse to fine: the median over the steps that have it."""
    return {
        term: float(np.median([role.count(s) for s in role.calls]))
        for (term, kind), role in sorted(structure.roles.items())
        if kind == "fine"
    }


def check_batches(
    structure: Structure, declared: Sequence[int] | None
) -> tuple[list[Finding], list[str]]:
    """Compare the samples of the terms with each other and with what was declared.

    Parameters
    ----------
    structure : Structure
        The terms.
    declared : sequence of int or None
        Samples of each term, coarse to fine.

    Returns
    -------
    findings, notes
        What is wrong, and what is worth knowing.
    """
    if structure.varies:
        return [], ["terms vary between steps: their batch sizes were not compared"]
    sizes = batch_sizes(structure)
    counts = list(sizes.values())
    words = ", ".join(f"{c:g}" for c in counts)
    notes = []
    varying = [
        term
        for (term, kind), role in structure.roles.items()
        if kind == "fine" and len({role.count(s) for s in role.calls}) > 1
    ]
    if varying:
        notes.append(
            f"batch sizes of terms {', '.join(map(str, sorted(varying)))} vary between steps; "
            "medians are compared"
        )
    promised = ""
    differs = False
    if declared is not None:
        promised = f", declared {', '.join(map(str, declared))}"
        differs = any(sizes.get(t, d) != d for t, d in enumerate(declared))
    if len(counts) < 2:
        return [], notes
    ratio = counts[0] / counts[-1]
    steps = [a - b for a, b in pairwise(counts)]
    if all(s == 0 for s in steps):
        cause, tail = causes.CONSTANT, "coarse terms are cheap and carry the most variance"
    elif all(s <= 0 for s in steps):
        cause, tail = causes.REVERSED, "the most expensive term has the most samples"
    elif differs:
        cause, tail = causes.UNDECLARED, "the plan is not what runs"
    elif any(s < 0 for s in steps):
        cause, tail = causes.UNORDERED, "a coarser term has fewer samples than a finer one"
    else:
        return [], notes
    return [
        Finding(
            STEP,
            cause,
            f"coarse to fine, terms take {words} samples a step{promised}: the coarsest has "
            f"{ratio:.3g} times the finest's; {tail}",
            ratio,
            "limits",
        )
    ], notes


def work(structure: Structure, calls: Sequence[Call]) -> float:
    """Work units of calls: 1 is one sample's gradient on the finest mesh."""
    finest = structure.sizes[-1]
    return float(sum(c.batch * (c.n / finest) ** structure.dim for c in calls))


def planned_work(structure: Structure, declared: Sequence[int]) -> float:
    """Work units a step of declared batch sizes, coarse to fine."""
    units = CostModel.work_units(len(declared), structure.dim)
    return step_work(multiscale(1, declared).stages[0], units)


def check_work(
    structure: Structure, claimed: float | None, declared: Sequence[int] | None
) -> tuple[list[Finding], list[str], float]:
    """Compare the work of the gradients with what is claimed.

    Returns
    -------
    findings, notes
        What is wrong, and what else the step computes.
    measured : float
        Mean work units a step.
    """
    used = [[c for c in s.calls if c.reached] for s in structure.steps]
    values = [work(structure, calls) for calls in used]
    measured = float(np.mean(values))
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
    notes = []
    if structure.watched:
        rest = work(structure, structure.watched) / len(structure.steps)
        notes.append(
            f"{len(structure.watched) / len(structure.steps):.3g} calls a step receive no gradient "
            f"and belong to no term; forward, they cover {rest:.3g} samples of the finest mesh"
        )
    if claimed is None:
        return [], notes, measured
    if declared is not None and abs(planned_work(structure, declared) - claimed) <= CLAIM * claimed:
        # the claim is that of the declared sizes: where others run, that is the finding
        actual = batch_sizes(structure)
        if any(actual.get(term) != count for term, count in enumerate(declared)):
            return [], notes, measured
    if abs(measured - claimed) <= max(CLAIM * claimed, ERRORS * error):
        return [], notes, measured
    finding = Finding(
        STEP,
        causes.WORK,
        f"a step takes {measured:.4g} work units, {measured / claimed:.2g} times the claimed "
        f"{claimed:.4g}",
        measured,
        "limits",
    )
    return [finding], notes, measured
