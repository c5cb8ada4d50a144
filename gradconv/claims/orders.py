"""Claims about orders, measured: sweeps of chosen problems, held against the derived law."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gradconv.agreement import Agreement, compare, confirm, extent
from gradconv.claims.claim import LAYER, Bound, Case, Claim, Finding, Record
from gradconv.errors import LawError
from gradconv.kernels import KernelOptions
from gradconv.laws import Law, derive
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.rate_records import law_record, number, rate_record
from gradconv.rates import Rate
from gradconv.sweeps import Sweep, sweep

SEED = 0
# A fit of exact values on a finite window may miss the limit by more than its own interval: the
# cases are chosen such that it stays below this.
SLACK = 0.05
COVARIANCE = "the noise's covariance over the stencil"


@dataclass(frozen=True)
class Derived:
    """What the derivation says of one quantity of a case.

    Parameters
    ----------
    record : dict
        The law's record.
    order : float or None
        Signed order; None without a law.
    agrees : bool or None
        Whether the package's own comparison finds law and sweep to agree; None if it cannot tell.
    reason : str
        Why.
    """

    record: Record
    order: float | None
    agrees: bool | None
    reason: str


def order_findings(claim: Claim) -> Iterator[Finding]:
    """Sweep every case of a claim and hold it against its law.

    Parameters
    ----------
    claim : Claim
        A claim with a bound and cases.

    Yields
    ------
    Finding
        One a case and quantity.
    """
    assert claim.bound is not None
    for case in claim.cases:
        problem = Problem(**case.problem)
        hierarchy = MeshHierarchy.powers_of_two(problem.dim, *case.levels)
        result = sweep(problem, hierarchy, replicates=case.replicates, seed=SEED)
        law, agreements, why = _derivation(result, case.quantities)
        for quantity in case.quantities:
            derived = _derived(law, agreements, why, quantity)
            yield _finding(claim.bound, case, result, quantity, derived)


def _derivation(
    result: Sweep, quantities: Sequence[str]
) -> tuple[Law | None, Mapping[str, Agreement], str]:
    """Law of a sweep's problem, how the judged quantities agree, and why there is no law."""
    try:
        law = derive(result.problem)
    except LawError as error:
        return None, {}, str(error)
    affordable = extent(result.problem, result.hierarchy, result.sample.replicates).levels
    values = law.evaluate(result.hierarchy, {q: affordable[q] for q in quantities})
    return law, confirm(compare(law, result, values), result), ""


def _derived(
    law: Law | None, agreements: Mapping[str, Agreement], why: str, quantity: str
) -> Derived:
    if law is None:
        return Derived({"missing": why}, None, None, why)
    try:
        found = law.quantity(quantity)
    except LawError as error:
        return Derived({"missing": str(error)}, None, None, str(error))
    agreement = agreements[quantity]
    record = {
        "missing": "",
        **law_record(agreement),
        "expression": str(found.expression),
        "latex": found.latex,
        "verdict": found.verdict,
        "assumptions": list(found.assumptions),
    }
    return Derived(record, found.order, agreement.agrees, agreement.reason)


def _finding(bound: Bound, case: Case, result: Sweep, quantity: str, derived: Derived) -> Finding:
    rate = result.rate(quantity)
    values, errors = result.sample.series(quantity)
    choices = choices_of(result.problem, quantity)
    given = {k: v for k, v in case.problem.items() if k != "kernel"}
    name = ", ".join(f"{k} {v}" for k, v in given.items()) + f", {quantity.replace('_', ' ')}"
    grade, reason = grade_order(bound, rate, derived)
    shared: Record = {"case": name, "quantity": quantity, "choices": dict(choices)}
    h = [float(v) for v in result.mesh_sizes(quantity)]
    measurement = {
        **shared,
        "grade": grade,
        "text": f"{name}: {measured_text(rate)}, {reason}",
        "h": h,
        "values": [number(v) for v in values],
        "stderr": [number(e) for e in errors],
        **rate_record(rate),
        "agrees": derived.agrees,
        "replicates": result.sample.replicates,
    }
    law = {**shared, "h": h, **derived.record}
    return Finding(choices, grade, law, measurement)


def grade_order(bound: Bound, rate: Rate, derived: Derived) -> tuple[str, str]:
    """Grade of a measured order with its law, and the reason.

    A law counts only where the measurement bears it out: the word of the verdict is the same, the
    interval contains the law's order, and the package's own comparison does not object. Without
    a law the measured interval alone decides.

    Parameters
    ----------
    bound : Bound
        What is claimed.
    rate : Rate
        What was measured.
    derived : Derived
        What was derived.

    Returns
    -------
    grade, reason : str
    """
    if rate.verdict == "undecided":
        return "undecided", f"the fit is undecided ({rate.reason})"
    exact = rate.verdict == "exact" or rate.order == math.inf
    low, high = (math.inf, math.inf) if exact else rate.interval
    if derived.order is None:
        grade = bound.grade_interval(low, high, SLACK)
        return grade, "no law to hold it against"
    word = derived.record["verdict"]
    if word != rate.verdict and not (exact and derived.order == math.inf):
        return "disagrees", f"the law says {word}, the sweep {rate.verdict}"
    if not (low - SLACK <= derived.order <= high + SLACK):
        return "disagrees", f"the law's order {derived.order:+.2f} lies outside the interval"
    if derived.agrees is False:
        return "disagrees", derived.reason
    return bound.grade(derived.order), f"the law's order is {derived.order:+.2f}"


def choices_of(problem: Problem, quantity: str) -> dict[str, str]:
    """What tells a case from the others of its claim, as short words."""
    choices = {}
    if problem.kernel.name == "stencil" and problem.noise.name != "none":
        choices[COVARIANCE] = noise_limit(
            problem.noise.spec, problem.restriction.name, problem.setting, problem.dim
        )
    noise = f"{problem.noise.name} noise"
    if problem.noise.name == "power":
        noise = f"power-law noise (α {'<' if problem.noise.alpha < problem.dim else '>'} d)"
    choices |= {
        "target": problem.target.name,
        "quantity": quantity.replace("_", " "),
        "noise": noise,
        "restriction": problem.restriction.name,
        "setting": problem.setting,
        "dim": str(problem.dim),
        "model": LAYER,
    }
    return choices


@lru_cache(maxsize=64)
def noise_limit(noise: str, restriction: str, setting: str, dim: int) -> str:
    """Whether the noise's covariance over the points of a stencil settles under refinement.

    With the unit stencil and the identity as target the residual is the noise itself, so that the
    exact mean gradient of the weights is that covariance, E η(x + m h) η(x).

    Parameters
    ----------
    noise, restriction, setting : str
        Choices of the problem.
    dim : int
        Dimension.

    Returns
    -------
    str
        ``"has a limit"``, ``"has no limit"`` or ``"undecided"``.
    """
    unit = np.zeros((3,) * dim)
    unit[(1,) * dim] = 1.0
    problem = Problem(
        "stencil",
        "plane-wave:3",
        "identity",
        noise,
        restriction,
        setting,
        dim,
        options=KernelOptions(weights=unit),
    )
    first, last = {1: (6, 12), 2: (5, 9), 3: (3, 7)}[dim]
    hierarchy = MeshHierarchy.powers_of_two(dim, first, last)
    verdict = sweep(problem, hierarchy, replicates=2, seed=SEED).rate("mean_gap").verdict
    if verdict in ("converges", "exact"):
        return "has a limit"
    return "has no limit" if verdict in ("diverges", "stalls") else "undecided"


def measured_text(rate: Rate) -> str:
    """Measured order with its interval and verdict."""
    if rate.verdict == "exact":
        return "zero to rounding (exact)"
    if not math.isfinite(rate.order):
        return f"no power of h ({rate.verdict})"
    low, high = rate.interval
    return f"order {rate.order:+.2f} [{low:+.2f}, {high:+.2f}] ({rate.verdict})"
