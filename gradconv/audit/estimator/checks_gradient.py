"""Do the gradients of all terms reach the optimiser, and at the same weights."""

from __future__ import annotations

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.calls import Step
from gradconv.audit.estimator.causes import STEP
from gradconv.audit.estimator.terms import Structure
from gradconv.audit.findings import Finding

MOVED = 1e-9  # relative change of the weights that is not rounding
KEPT = 1e-2


def check_gradients(structure: Structure) -> tuple[list[Finding], list[str]]:
    """Check the way of the gradients through a step.

    Returns
    -------
    findings, notes
        What is wrong, and what could not be checked.
    """
    updated = _updated(structure)
    if updated:
        return updated, []
    found = [*_zeroed(structure), *_stale(structure)]
    uses = [use for step in structure.steps for use in step.books.uses]
    notes = []
    if uses and all(use.factors is None for use in uses):
        notes.append(
            "what is used is no combination of the backward passes (clipped by value?): whether "
            "all terms enter alike was not checked"
        )
    return found, notes


def _updated(structure: Structure) -> list[Finding]:
    """Weights that differ between the gradients of one step."""
    largest = 0.0
    for step in structure.steps:
        moved = [c.moved for c in step.calls if c.reached]
        if not step.probed and moved:
            largest = max(largest, max(moved) - min(moved))
    if largest <= MOVED:
        return []
    return [
        Finding(
            STEP,
            causes.UPDATED,
            f"the weights change by {largest:.2g} of their norm between the gradients of one "
            "step, so that the differences are not taken at one point",
            largest,
            "breaks",
        )
    ]


def _zeroed(structure: Structure) -> list[Finding]:
    """Backward passes that have no part in what was used."""
    lost: dict[str, int] = {}
    for step in structure.steps:
        for use in step.books.uses:
            for number, factor in (use.factors or {}).items():
                if factor == 0.0:
                    for name in _names(structure, step, number):
                        lost[name] = lost.get(name, 0) + 1
    if not lost:
        return []
    steps = len(structure.steps)
    return [
        Finding(
            ", ".join(sorted(lost)),
            causes.ZEROED,
            f"its gradient has weight 0 in what the step leaves or its optimiser uses, in "
            f"{max(lost.values())} of {steps} steps: it is zeroed before the next term adds to it",
            0.0,
            "breaks",
        )
    ]


def _names(structure: Structure, step: Step, number: int) -> list[str]:
    """Terms that a backward pass belongs to."""
    if not step.probed:
        return []
    inside = {id(c) for c in step.calls if number in c.slopes}
    return sorted(
        {
            structure.name(role.term)
            for role in structure.roles.values()
            if any(id(c) in inside for c in role.calls.get(step.number, ()))
        }
    )


def _stale(structure: Structure) -> list[Finding]:
    """Gradients of the step before that are used once more."""
    shares = [
        use.stale
        for step in structure.steps
        if step.optimised
        for use in step.books.uses[:1]
        if abs(use.stale) > KEPT
    ]
    if not shares:
        return []
    return [
        Finding(
            STEP,
            causes.STALE,
            f"what the step before left in .grad enters with weight {shares[0]:.3g}: it is never "
            "zeroed",
            shares[0],
            "breaks",
        )
    ]
