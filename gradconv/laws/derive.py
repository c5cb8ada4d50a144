"""From a problem to its law: the terms of the mean as norms, and those of the fluctuation."""

from __future__ import annotations

from functools import partial

import numpy as np

from gradconv.errors import LawError
from gradconv.laws.expansion import gap_terms
from gradconv.laws.lattice import evaluate, why_no_variance
from gradconv.laws.law import Law, QuantityLaw, Term, VectorTerm, precedence
from gradconv.laws.mean import mean_terms
from gradconv.laws.variance import rms_law, variance_expansion, variance_law
from gradconv.laws.writing import Pieces
from gradconv.problem import MEANS, Problem


def derive(problem: Problem) -> Law:
    """Derive the laws of a problem.

    Parameters
    ----------
    problem : Problem
        The problem.

    Returns
    -------
    Law
        Level norm, mean gap, variance and rms gap as terms in powers of h, with constants; each at
        finite h by `Law.evaluate`. What has no law is in ``missing``, with the reason.

    Raises
    ------
    LawError
        If nothing can be said: a box with walls, or a restriction that depends on the position.

    Examples
    --------
    >>> from gradconv import Problem, derive
    >>> problem = Problem(
    ...     "stencil", signal="band-limited:2", noise="white:1", setting="refinement", dim=1
    ... )
    >>> law = derive(problem).quantity("mean_gap")
    >>> law.order, round(law.coefficient(), 4)
    (-1.0, 0.2739)
    """
    reason = _no_law_at_all(problem)
    if reason:
        raise LawError(reason)
    missing: dict[str, str] = {}
    laws: dict[str, QuantityLaw] = {}
    gaps: tuple[VectorTerm, ...] | None = None
    pieces = Pieces(problem)
    try:
        terms = mean_terms(problem)
    except LawError as error:
        missing.update(dict.fromkeys(MEANS, str(error)))
    else:
        if _logarithm_of_data(problem, terms):
            missing["level_norm"] = (
                "the variance of a pixel is that of the data's own mesh, log(1/h_L): no power of "
                "h and h_L"
            )
        else:
            _add(laws, missing, pieces, "level_norm", terms)
        gaps = gap_terms(terms)
        _add(laws, missing, pieces, "mean_gap", gaps)
    _add_fluctuation(laws, missing, problem, gaps)
    return Law(problem, laws, missing, partial(evaluate, problem))


def _no_law_at_all(problem: Problem) -> str | None:
    if problem.boundary != "periodic":
        return (
            "`boundary` must be periodic for a law (a wall breaks the symmetry under shifts); "
            f"got {problem.boundary}"
        )
    if not problem.restriction.shift_invariant:
        return (
            "`restriction` must act alike at every position for a law; got "
            f"{problem.restriction.name}, whose weights depend on the position: no power law"
        )
    return None


def _logarithm_of_data(problem: Problem, terms: tuple[VectorTerm, ...]) -> bool:
    injected = problem.setting == "coarsening" and problem.restriction.name == "injection"
    return injected and any(t.logs and t.exponent == 0 for t in terms)


def _add(
    laws: dict[str, QuantityLaw],
    missing: dict[str, str],
    pieces: Pieces,
    quantity: str,
    terms: tuple[VectorTerm, ...],
) -> None:
    try:
        laws[quantity] = norm_law(pieces.problem, quantity, terms, pieces)
    except LawError as error:
        missing[quantity] = str(error)


def _add_fluctuation(
    laws: dict[str, QuantityLaw],
    missing: dict[str, str],
    problem: Problem,
    gaps: tuple[VectorTerm, ...] | None,
) -> None:
    """Variance and rms gap."""
    try:
        why = why_no_variance(problem)
        if why:
            raise LawError(why)
        expansion, given = variance_expansion(problem), assumptions(problem)
        laws["variance"] = variance_law(problem, expansion, given)
    except LawError as error:
        missing.update(dict.fromkeys(("variance", "rms_gap"), str(error)))
        return
    if gaps is None or "mean_gap" in missing:
        missing["rms_gap"] = missing["mean_gap"]
        return
    try:
        laws["rms_gap"] = rms_law(problem, expansion, gaps, given)
    except LawError as error:
        missing["rms_gap"] = str(error)


def norm_law(
    problem: Problem, quantity: str, terms: tuple[VectorTerm, ...], pieces: Pieces | None = None
) -> QuantityLaw:
    """Law of the norm of a sum of vectors: its leading term, then what others add to first order.

    `pieces` write it in symbols.

    Raises
    ------
    LawError
        If no term is left although the gradient is not known to be exact.
    """
    by_power: dict[tuple[float, float, int], list[VectorTerm]] = {}
    for term in sorted(terms, key=precedence):
        by_power.setdefault((term.exponent, term.fine_exponent, term.logs), []).append(term)
    grouped = [
        (
            key,
            np.sum([t.vector for t in parts], axis=0),
            " + ".join(dict.fromkeys(t.origin for t in parts)),
        )
        for key, parts in by_power.items()
    ]
    if not grouped and _tail_is_open(problem):
        raise LawError(
            f"`signal` {problem.signal.spec} has infinitely many modes, and their aliases move "
            "this gradient first, at h^(2s + d) or faster: a term that is not derived"
        )
    found: list[Term] = []
    direction = None
    for (power, fine, logs), vector, origin in grouped:
        size = float(np.linalg.norm(vector))
        if direction is None:
            direction, coefficient = vector / size, size
        else:
            coefficient = float(np.sum(direction * vector))
        if found and abs(coefficient) < 1e-12 * size:
            continue
        found.append(Term(power, fine, logs, coefficient, origin))
    return QuantityLaw(
        quantity,
        tuple(found),
        assumptions(problem),
        (),
        terms,
        pieces,
    )


def _tail_is_open(problem: Problem) -> bool:
    endless = problem.signal.random and problem.signal.finite_modes(problem.dim) is None
    return endless and not problem.restriction.band_limiting


def assumptions(problem: Problem) -> tuple[str, ...]:
    """What the law of a problem takes for granted."""
    found = ["periodic box, one linear layer, quadrature-weighted squares as loss"]
    if problem.setting == "coarsening":
        found.append("h_L ≪ h ≪ 1: the data live on a mesh that is much finer")
    else:
        found.append("h → 0")
    if problem.signal.random:
        found.append("the signal is a stationary random field of mean zero, channels independent")
    if problem.noise.name != "none":
        found.append("the noise is stationary and independent of the signal")
    return tuple(found)
