"""Whether a law goes through the data of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradconv.errors import InputError, LawError
from gradconv.laws import Law, derive
from gradconv.mesh import MeshHierarchy
from gradconv.problem import MEANS, QUANTITIES, Problem
from gradconv.sampling import GIB
from gradconv.statistics import FRESH, rounding_floor, simultaneous_quantile
from gradconv.sweeps import Sweep, sweep

EXACT = 1e-8
"""Relative difference below which a law and an exact expectation agree."""
UNRESOLVED = 1e-15
"""Variance over squared gradients below which the law is a difference of rounding errors."""

# What the full law costs, in units of one cell of one sample path (about 50 ns); measured for all
# kernels in d = 1, 2, 3. A mean is a sum over cells and parameters, a variance one over pairs of
# the 2^d + 1 modes of a class and parameters.
MEAN_WORK = 4.0
VARIANCE_WORK = 1.25
FREE = 2**24
"""Work that is always done, in the same units: a bit less than a second."""


@dataclass(frozen=True)
class Agreement:
    """A law held against a measured quantity.

    Parameters
    ----------
    order : float or None
        Derived order, infinite where the quantity is zero to all orders; None without one.
    coefficient : float or None
        Derived constant, h_L included.
    agrees : bool or None
        Whether the full law, at the mesh size of every level, goes through the data; None if it
        could not be evaluated.
    reason : str
        With the numbers, and with the levels where not all were compared.
    logs : int
        Power of log(1/h) that multiplies h^order.
    values : tuple of float
        The full law at the mesh sizes of the quantity, coarse to fine; NaN where it was not
        evaluated or is below rounding, empty where it was evaluated nowhere.
    """

    order: float | None
    coefficient: float | None
    agrees: bool | None
    reason: str
    logs: int = 0
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Extent:
    """On how many levels the full law is evaluated.

    Parameters
    ----------
    levels : mapping of str to int
        Levels by quantity, counted from the coarsest; 0: nowhere.
    reasons : mapping of str to str
        Why a quantity is not evaluated on all of them; empty where it is.
    """

    levels: Mapping[str, int]
    reasons: Mapping[str, str]


def extent(
    problem: Problem, hierarchy: MeshHierarchy, replicates: int, memory: float = 4.0
) -> Extent:
    """Levels on which the full law costs no more than a sweep, and fits in the memory.

    The finest levels are left out first, and the variance before the means. The work is counted,
    not timed: the same problem always gives the same levels.

    Parameters
    ----------
    problem : Problem
        The problem.
    hierarchy : MeshHierarchy
        The levels.
    replicates : int
        Sample paths of the sweep.
    memory : float
        Bound in GiB.
    """
    cells = [float(mesh.size) for mesh in hierarchy.meshes]
    slopes = problem.convolution.theta.size
    # two modes of a class meet in each entry; there are cells / 2^d classes
    entries = (2**problem.dim + 1) ** 2 / 2**problem.dim
    budget = FREE + replicates * problem.channels * sum(cells)
    means = _fitting(cells, MEAN_WORK * slopes, budget)
    spent = MEAN_WORK * slopes * sum(cells[:means])
    variances = _fitting(cells, VARIANCE_WORK * slopes * entries, budget - spent)
    costly = "would take longer than the sweep"
    large = f"would not fit in {memory:.3g} GiB"
    reasons = {"mean_gap": costly, "variance": costly}
    kept = {"mean_gap": means, "variance": min(means, variances)}
    for quantity in kept:
        while kept[quantity] and _bytes(problem, cells, kept[quantity], quantity) > memory * GIB:
            kept[quantity] -= 1
            reasons[quantity] = large
    levels, why = {}, {}
    for quantity in QUANTITIES:
        source = "mean_gap" if quantity in MEANS else "variance"
        count = kept[source]
        if count < 2 and quantity != "level_norm":
            count = 0  # a gap needs two levels
        levels[quantity] = count
        if count < len(cells):
            n = hierarchy.sizes[count]
            why[quantity] = f"n = {n} and finer {reasons[source]}"
    return Extent(levels, why)


def _fitting(cells: list[float], work: float, budget: float) -> int:
    """How many levels, from the coarsest, a budget pays for."""
    return int(np.searchsorted(work * np.cumsum(cells), budget, side="right"))


def _bytes(problem: Problem, cells: list[float], levels: int, quantity: str) -> float:
    """Memory of the full law on the first levels: measured peaks, with a margin."""
    finest, largest = cells[-1], cells[levels - 1]
    slopes, classes = problem.convolution.theta.size, largest / 2**problem.dim
    # spectra of the data's mesh, of which the modes of a level are the aliases
    data = finest if problem.setting == "coarsening" else largest
    if problem.setting == "refinement" and problem.signal.random:
        data *= 2**problem.dim
    total = 240.0 * data + 300.0 * sum(cells[:levels]) + 80.0 * slopes * largest
    if not problem.signal.random:  # signal and target of every level
        total += 8.0 * 5 * problem.signal.members * problem.channels * data
    if quantity == "variance":
        entries = (2**problem.dim + 1) ** 2
        total += 16.0 * (10.0 * entries * classes + 2.5 * slopes * largest)
    return total


def _same(one: Problem, other: Problem) -> bool:
    """Whether two problems are one: a description leaves out parameters of the kernel."""
    return (
        one.describe() == other.describe()
        and one.target == other.target
        and np.array_equal(one.convolution.theta, other.convolution.theta)
    )


def compare(
    law: Law,
    sweep: Sweep,
    values: Mapping[str, np.ndarray] | None = None,
    *,
    memory: float = 4.0,
) -> dict[str, Agreement]:
    """Hold a law against a sweep of the same problem.

    Exact expectations must agree to `EXACT` (and the rounding floor of the gradients). Variances
    and rms gaps are sampled: their logarithms must lie within intervals that are simultaneous over
    the levels. Those are Student's, and few paths of a gap that comes from few modes have heavier
    tails: of 300 sweeps each, right laws were refused in 0 to 1 % where the noise has many modes,
    and in 3 to 4 % where one or two modes of a random signal make the gap. `confirm` holds such a
    law against fresh paths.

    Parameters
    ----------
    law : Law
        What was derived.
    sweep : Sweep
        What was measured.
    values : mapping of str to ndarray, optional
        What ``law.evaluate(sweep.hierarchy)`` gave, NaN on levels to leave out. Default: evaluated
        on the levels of `extent`.
    memory : float
        Bound of that evaluation, in GiB.

    Returns
    -------
    dict of str to Agreement
        By quantity.

    Raises
    ------
    InputError
        If law and sweep are of different problems.
    LawError
        If the law cannot be evaluated.
    """
    if not _same(law.problem, sweep.problem):
        raise InputError("`sweep` must be of the law's problem; got another one")
    reasons: Mapping[str, str] = {}
    if values is None:
        chosen = extent(law.problem, sweep.hierarchy, sweep.sample.replicates, memory)
        values, reasons = law.evaluate(sweep.hierarchy, chosen.levels), chosen.reasons
    found = {}
    for quantity in QUANTITIES:
        order, coefficient, logs = None, None, 0
        if quantity in law.laws:
            own = law.laws[quantity]
            order, coefficient = own.order, own.coefficient(float(sweep.hierarchy.h[-1]))
            logs = own.logs
        agrees: bool | None = None
        shown: tuple[float, ...] = ()
        if quantity in values and np.any(np.isfinite(values[quantity])):
            resolved = _resolved(values[quantity], sweep, quantity)
            agrees, reason = _judge(resolved, sweep, quantity)
            shown = tuple(float(v) for v in resolved)
            lost = np.isfinite(values[quantity]) & ~np.isfinite(resolved)
            if np.any(lost):
                reason += "; on others law and data are below the law's rounding"
            if quantity in reasons:
                reason += f"; not compared: {reasons[quantity]}"
        elif quantity in values and quantity in reasons:
            reason = f"the law is not evaluated: {reasons[quantity]}"
        else:
            reason = law.missing.get(quantity, "not evaluated")
        found[quantity] = Agreement(order, coefficient, agrees, reason, logs, shown)
    return found


def agreements(measured: Sweep, *, memory: float = 4.0, threads: int = 1) -> dict[str, Agreement]:
    """Derive the law of a sweep's problem and hold it against the sweep, whatever happens.

    Where the sampled data speak against a law, fresh paths decide (`confirm`). Where there is no
    law, or no memory for it, ``agrees`` is None with the reason.

    Parameters
    ----------
    measured : Sweep
        The sweep.
    memory : float
        Bound on what the law holds at once, in GiB.
    threads : int
        Worker threads of the confirmation.

    Returns
    -------
    dict of str to Agreement
        By quantity.
    """
    from threadpoolctl import threadpool_limits

    law = None
    try:
        with threadpool_limits(limits=1, user_api="blas"):  # the same bits on every machine
            law = derive(measured.problem)
            found = compare(law, measured, memory=memory)
        return confirm(found, measured, memory=memory, threads=threads)
    except LawError as error:
        reason = str(error)
    except MemoryError:
        reason = "this machine had no memory left for the law"
    nothing = {} if law is None else compare(law, measured, {})
    return {
        q: replace(nothing.get(q, Agreement(None, None, None, "")), reason=reason)
        for q in QUANTITIES
    }


def confirm(
    found: Mapping[str, Agreement],
    measured: Sweep,
    *,
    memory: float = 4.0,
    threads: int = 1,
) -> dict[str, Agreement]:
    """Repeat a sweep with fresh paths where sampled quantities disagree with the law.

    A disagreement counts only if both sweeps see it: a right law is then refused with the square
    of its chance.

    Parameters
    ----------
    found : mapping of str to Agreement
        Of `compare`.
    measured : Sweep
        The first sweep.
    memory, threads
        As in `gradconv.sweep`.

    Returns
    -------
    dict of str to Agreement
        By quantity.
    """
    doubtful = [
        q for q, a in found.items() if a.agrees is False and np.any(measured.sample.series(q)[1])
    ]
    if not doubtful:
        return dict(found)
    again = sweep(
        measured.problem,
        measured.hierarchy,
        replicates=measured.sample.replicates,
        seed=measured.seed + FRESH,
        dtype=measured.backend.dtype,
        device=measured.backend.device,
        memory=memory,
        threads=threads,
    )
    judged = dict(found)
    for quantity in doubtful:
        first = found[quantity]
        agrees, reason = _judge(np.array(first.values), again, quantity)
        word = "not confirmed" if agrees else "confirmed"
        reason = f"{first.reason}; {word} on fresh paths: {reason}"
        judged[quantity] = replace(first, agrees=agrees, reason=reason)
    return judged


def _resolved(derived: np.ndarray, sweep: Sweep, quantity: str) -> np.ndarray:
    """The law without levels where it and the data are rounding alone: NaN there."""
    measured, errors = sweep.sample.series(quantity)
    if quantity in MEANS or not np.any(errors > 0):
        return derived
    floor = _law_floor(sweep)
    if quantity == "rms_gap":
        floor = np.sqrt(floor)
    return np.where((derived <= floor) & (measured <= floor), np.nan, derived)


def _judge(derived: np.ndarray, sweep: Sweep, quantity: str) -> tuple[bool | None, str]:
    """Whether all evaluated levels agree, and the largest difference."""
    if not np.any(np.isfinite(derived)):
        return None, "law and data are below the law's rounding"
    sample = sweep.sample
    measured, errors = sample.series(quantity)
    allowed = EXACT * np.abs(derived)
    allowed += rounding_floor(quantity, sample.magnitude, sample.epsilon_of(quantity))
    if quantity == "variance":  # stricter than `_law_floor`, below which nothing is compared
        allowed += UNRESOLVED * sample.magnitude[1:] ** 2
    sampled = bool(np.any(errors > 0))
    if sampled and quantity == "rms_gap" and sample.exact:
        # what is sampled of it is the fluctuation alone
        allowed = 2 * EXACT * derived**2 + _law_floor(sweep)
        mean, _ = sample.series("mean_gap")
        derived = derived**2 - mean**2
        measured, errors = sample.series("variance")
    known = np.isfinite(derived)
    derived, measured, errors = derived[known], measured[known], errors[known]
    allowed = allowed[known]
    close = np.abs(measured - derived) <= allowed
    where = "" if np.all(known) else f" on {len(derived)} of {len(known)} levels"
    if not sampled:
        scale = np.maximum(np.abs(derived), allowed)
        worst = float(np.max(np.abs(measured - derived) / scale))
        return bool(np.all(close)), f"largest relative difference {worst:.1e}{where}"
    away = np.where(close, 0.0, _distance(measured, derived, errors))
    quantile = simultaneous_quantile(len(derived), sample.replicates)
    text = f"largest difference {np.max(away):.1f} standard errors, {quantile:.1f} allowed{where}"
    return bool(np.all(away <= quantile)), text


def _law_floor(sweep: Sweep) -> np.ndarray:
    """What rounding leaves of the law of a variance, in which squares of gradients cancel."""
    magnitude = sweep.sample.magnitude
    return np.asarray(UNRESOLVED * (magnitude[1:] + magnitude[:-1]) ** 2)


def _distance(measured: np.ndarray, derived: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """|log(measured / derived)| in standard errors of the logarithm; infinite if one is not > 0.

    Sampled squares are skew, and the fewer they are the smaller their standard error where they
    miss the rare large ones: logarithms are far less so.
    """
    away = np.full(len(derived), math.inf)
    both = (measured > 0) & (derived > 0) & (errors > 0)
    logs = np.abs(np.log(measured[both] / derived[both]))
    away[both] = logs * measured[both] / errors[both]
    return away
