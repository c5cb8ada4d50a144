"""Laws of the variance and of the rms gap from the variance's terms.

The rms gap is the root of |mean gap|² + variance, expanded about the larger of the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from gradconv.errors import LawError
from gradconv.laws.law import QuantityLaw, Term, VectorTerm
from gradconv.laws.variance.scalars import Expansion, ScalarTerm, merged
from gradconv.laws.variance.terms import variance_terms
from gradconv.laws.variance.writing import FluctuationPieces
from gradconv.problem import Problem


def variance_expansion(problem: Problem) -> Expansion:
    """Terms of the variance.

    Raises
    ------
    LawError
        If none is known although the variance is not zero.
    """
    expansion = variance_terms(problem)
    if not expansion.terms and expansion.unknown is not None:
        raise LawError(f"the variance is not known from {expansion.limits()}")
    return expansion


def variance_law(
    problem: Problem, expansion: Expansion, assumptions: tuple[str, ...]
) -> QuantityLaw:
    """Law of the variance of the gap.

    Raises
    ------
    LawError
        If the leading term is not positive.
    """
    _check_positive(expansion.terms, "variance")
    terms = tuple(_term(t, t.value) for t in expansion.terms)
    pieces = FluctuationPieces(problem, tuple(expansion.terms))
    return QuantityLaw(
        "variance",
        terms,
        assumptions,
        _steps(expansion),
        pieces=pieces,
        unknown=expansion.unknown,
    )


def rms_law(
    problem: Problem,
    expansion: Expansion,
    gaps: Iterable[VectorTerm],
    assumptions: tuple[str, ...],
) -> QuantityLaw:
    """Law of the rms gap, given the variance and the terms of the mean gap.

    Raises
    ------
    LawError
        If the leading term of the mean square is not positive.
    """
    vectors = list(gaps)
    products = [
        ScalarTerm(
            one.exponent + two.exponent,
            one.fine_exponent + two.fine_exponent,
            float(np.sum(one.vector * two.vector)),
            "mean",
            "mean",
            one.logs + two.logs,
        )
        for one in vectors
        for two in vectors
        if expansion.knows(one.exponent + two.exponent, one.fine_exponent + two.fine_exponent)
    ]
    squares = merged([*expansion.terms, *products])
    _check_positive(squares, "mean square")
    steps = ("rms² = |mean gap|² + variance", *_steps(expansion))
    return QuantityLaw(
        "rms_gap",
        _root(squares),
        assumptions,
        steps,
        pieces=FluctuationPieces(problem, tuple(squares)),
        squares=tuple(_term(t, t.value) for t in squares),
        unknown=expansion.unknown,
    )


def _check_positive(terms: list[ScalarTerm], what: str) -> None:
    if terms and terms[0].value <= 0:
        raise LawError(f"the leading term of a {what} must be positive; got {terms[0].value:.3g}")


def _root(squares: list[ScalarTerm]) -> tuple[Term, ...]:
    """Root of a sum of terms, to first order in all but the leading one."""
    if not squares:
        return ()
    lead = squares[0]
    if lead.logs % 2:
        raise LawError("the leading term under a root must have an even power of log(1/h)")
    root = math.sqrt(lead.value)
    half = ScalarTerm(
        lead.exponent / 2, lead.fine_exponent / 2, root, lead.origin, "", lead.logs // 2
    )
    found = [_term(half, root)]
    for t in squares[1:]:
        if t.logs == lead.logs == 0:
            powers = (t.exponent - lead.exponent / 2, t.fine_exponent - lead.fine_exponent / 2)
            value = t.value / (2 * root)
            found.append(_term(ScalarTerm(*powers, value, t.origin, ""), value))
    return tuple(found)


def _term(t: ScalarTerm, value: float) -> Term:
    return Term(t.exponent, t.fine_exponent, t.logs, value, t.origin)


_REGIONS = {
    "inner": "modes of order 1, both levels expanded in kh",
    "cell": "all frequencies of a cell, Isserlis' sum over aliasing modes",
    "flat": "fourth cumulant of the pixels",
}


def _steps(expansion: Expansion) -> tuple[str, ...]:
    """How the terms of the variance were found, one line each."""
    found = ["variance by Isserlis' theorem: signal, signal x noise, noise x noise"]
    for t in expansion.terms:
        where = "; ".join(_REGIONS[r] for r in t.region.split(" + "))
        powers = f"h^{t.exponent:g}" + (f" h_L^{t.fine_exponent:g}" if t.fine_exponent else "")
        found.append(f"{t.origin} ({where}): {t.value:.6g} {powers}")
    if expansion.unknown is not None:
        found.append(f"not known from {expansion.limits()}")
    return tuple(found)
