"""From a problem to its law: the expansion of the mean, as norms of its terms."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from gradconv.errors import LawError
from gradconv.laws.expansion import gap_terms
from gradconv.laws.lattice import evaluate, why_no_variance
from gradconv.laws.law import Law, QuantityLaw, Term, VectorTerm
from gradconv.laws.mean import mean_terms
from gradconv.problem import Problem

NOT_EXPANDED = (
    "the fluctuation's expansion in powers of h is not derived: its law is evaluated mesh by mesh"
)


def derive(problem: Problem) -> Law:
    """Derive the laws of a problem.

    Parameters
    ----------
    problem : Problem
        The problem.

    Returns
    -------
    Law
        Level norm and mean gap as terms in powers of h, with constants; every quantity at finite h
        by `Law.evaluate`. What has no law is in ``missing``, with the reason.

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
    missing = {q: NOT_EXPANDED for q in ("variance", "rms_gap")}
    why = why_no_variance(problem)
    if why:
        missing = dict.fromkeys(missing, why)
    laws: dict[str, QuantityLaw] = {}
    try:
        terms = mean_terms(problem)
    except LawError as error:
        missing.update(dict.fromkeys(("level_norm", "mean_gap"), str(error)))
    else:
        if _logarithm_of_data(problem, terms):
            missing["level_norm"] = (
                "the variance of a pixel is that of the data's own mesh, log(1/h_L): no power of "
                "h and h_L"
            )
        else:
            _add(laws, missing, problem, "level_norm", terms)
        _add(laws, missing, problem, "mean_gap", gap_terms(terms))
    return Law(problem, laws, missing, partial(evaluate, problem))


def _no_law_at_all(problem: Problem) -> str | None:
    if problem.boundary != "periodic":
        return (
            "`boundary` must be periodic for a law (a wall breaks the symmetry under shifts); "
            f"got {problem.boundary}"
        )
    if problem.restriction.name == "bilinear_corners":
        return (
            "`restriction` must act alike at every position for a law; got bilinear_corners, "
            "whose weights depend on the position: no power law"
        )
    return None


def _logarithm_of_data(problem: Problem, terms: tuple[VectorTerm, ...]) -> bool:
    injected = problem.setting == "coarsening" and problem.restriction.name == "injection"
    return injected and any(t.logs and t.power == 0 for t in terms)


def _add(
    laws: dict[str, QuantityLaw],
    missing: dict[str, str],
    problem: Problem,
    quantity: str,
    terms: tuple[VectorTerm, ...],
) -> None:
    try:
        laws[quantity] = norm_law(problem, quantity, terms)
    except LawError as error:
        missing[quantity] = str(error)


def precedence(term: VectorTerm) -> tuple[float, float, int]:
    """Sort key: the larger term first, for h_L = h/λ with λ large and h small."""
    return term.power + term.fine, -term.power, -term.logs


def norm_law(problem: Problem, quantity: str, terms: tuple[VectorTerm, ...]) -> QuantityLaw:
    """Law of the norm of a sum of vectors: its leading term, then what others add to first order.

    Raises
    ------
    LawError
        If no term is left although the gradient is not known to be exact.
    """
    import sympy

    by_power: dict[tuple[float, float, int], list[VectorTerm]] = {}
    for term in sorted(terms, key=precedence):
        by_power.setdefault((term.power, term.fine, term.logs), []).append(term)
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
        found.append(Term(power, fine, logs, coefficient, sympy.Float(coefficient, 8), origin))
    return QuantityLaw(
        quantity,
        tuple(found),
        _expression(found[:2]),
        assumptions(problem),
        steps(problem, terms),
        terms,
    )


def _tail_is_open(problem: Problem) -> bool:
    endless = problem.signal.random and problem.signal.finite_modes(problem.dim) is None
    return endless and problem.restriction.name != "spectral"


def _expression(terms: list[Term]) -> Any:
    import sympy

    h, fine = sympy.Symbol("h", positive=True), sympy.Symbol("h_L", positive=True)

    def number(x: float) -> Any:
        return sympy.nsimplify(x, rational=True, tolerance=1e-9)

    return sympy.Add(
        *[
            t.symbol * h ** number(t.power) * fine ** number(t.fine) * sympy.log(1 / h) ** t.logs
            for t in terms
        ]
    )


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


_REGIONS = {
    "inner": "inner region, k of order 1: kernel and restriction expanded in h, moments of the "
    "spectrum",
    "outer": "outer region, k of order 1/h: the spectrum's tail integrated over the frequencies "
    "of a cell",
    "flat": "flat spectrum: the covariance of restricted independent pixels in closed form",
    "alias": "aliases of the spectrum's tail at fixed k",
    "boundary": "end of the band: corrections of the trapezoidal rule",
}


def steps(problem: Problem, terms: tuple[VectorTerm, ...]) -> tuple[str, ...]:
    """How the terms were found, one line each."""
    found = ["E g = Σ_k Re[conj(∂σ)(σ P(k) − C(k))], P the input's power, C its part in the target"]
    for t in sorted(terms, key=precedence):
        powers = f"h^{t.power:g}" + (f" h_L^{t.fine:g}" if t.fine else "")
        powers += " log(1/h)" if t.logs else ""
        size = float(np.linalg.norm(t.vector))
        found.append(f"{t.origin}, {_REGIONS[t.region]}: {powers}, norm {size:.4g}")
    return tuple(found)
