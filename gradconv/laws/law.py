"""What a derivation gives: a law for each quantity, as sums of powers of h.

A law's terms are C h^p h_L^q log(1/h)^r. In the refinement setting q = 0. In the coarsening setting
h_L is the mesh size of the finest mesh, which holds the data, and terms are ordered as they are for
h_L ≪ h ≪ 1, next to the finest mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradconv.errors import InputError, LawError
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem

if TYPE_CHECKING:
    import sympy

    from gradconv.laws.formulas import Meaning
    from gradconv.laws.writing import Written


@dataclass(frozen=True)
class Term:
    """One term C h^exponent h_L^fine_exponent log(1/h)^logs.

    Parameters
    ----------
    exponent : float
        Exponent of h.
    fine_exponent : float
        Exponent of h_L, the mesh size of the data (0 in the refinement setting).
    logs : int
        Exponent of log(1/h): 0 or 1, in the square of an rms gap up to 2.
    coefficient : float
        C; positive for the leading term of a norm, signed for a correction.
    origin : str
        What it comes from: signal, noise, signal x noise.
    """

    exponent: float
    fine_exponent: float
    logs: int
    coefficient: float
    origin: str


@dataclass(frozen=True)
class VectorTerm:
    """v h^exponent h_L^fine_exponent log(1/h)^logs in the mean gradient.

    Parameters
    ----------
    exponent, fine_exponent : float
        Exponents of h and of the mesh size h_L of the data.
    logs : int
        0 or 1.
    vector : ndarray
        v, scaled gradient, shape ``(out, in, p)``.
    origin : str
        signal or noise.
    region : str
        How it was found: inner (a moment of the spectrum), outer (an integral over the
        frequencies of a cell), flat (a covariance in closed form), alias, boundary.
    """

    exponent: float
    fine_exponent: float
    logs: int
    vector: np.ndarray
    origin: str
    region: str


def precedence(term: VectorTerm) -> tuple[float, float, int]:
    """Sort key: the larger term first, for h_L = h/λ with λ large and h small."""
    return term.exponent + term.fine_exponent, -term.exponent, -term.logs


class Writes(Protocol):
    """What writes a law in symbols."""

    def write(self, quantity: str, terms: tuple[Term, ...]) -> Written:
        """Write the leading term and the next one."""

    def steps(self, law: QuantityLaw) -> tuple[str, ...]:
        """Say how they were derived."""


@dataclass(frozen=True)
class QuantityLaw:
    """The law of one quantity.

    Parameters
    ----------
    quantity : {"level_norm", "mean_gap", "variance", "rms_gap"}
        What it is the law of; gaps are taken between h and 2h.
    terms : tuple of Term
        The leading term, then corrections. Empty where the quantity is exactly zero, or smaller
        than any power of h.
    assumptions : tuple of str
        Under which the law holds.
    notes : tuple of str
        How it was derived, each one line, where `pieces` do not say it.
    vectors : tuple of VectorTerm
        The terms of the gradient (or its gap) that the quantity is the norm of.
    pieces : Writes, optional
        The constants in symbols, written when they are asked for.
    squares : tuple of Term
        Terms of the square of an rms gap, which `terms` expand the root of.
    unknown : tuple of float, optional
        Powers of h and h_L from which on terms are not known, where that is earlier than `terms`
        end by themselves; of the square for an rms gap.
    """

    quantity: str
    terms: tuple[Term, ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    vectors: tuple[VectorTerm, ...] = ()
    pieces: Writes | None = None
    squares: tuple[Term, ...] = ()
    unknown: tuple[float, float] | None = None

    @cached_property
    def written(self) -> Written:
        """The law in symbols, with what they mean."""
        from gradconv.laws.writing import in_numbers

        if self.pieces is not None:
            return self.pieces.write(self.quantity, self.terms)
        return in_numbers(self.terms)

    @property
    def expression(self) -> sympy.Expr:
        """The leading term and the next one, in h, h_L and `symbols`."""
        return self.written.expression

    @property
    def symbols(self) -> Mapping[Any, Meaning]:
        """What the symbols of the expression mean: text, value, definition."""
        return self.written.symbols

    @property
    def values(self) -> dict[Any, Any]:
        """Values of the symbols: numbers, and arrays in FFT order for indexed ones."""
        return self.written.values

    @property
    def steps(self) -> tuple[str, ...]:
        """How the law was derived, each one line."""
        told = () if self.pieces is None else self.pieces.steps(self)
        return (*self.notes, *told)

    def evaluate_expression(self, h: float, fine_h: float) -> float:
        """Evaluate the expression with the values of its symbols.

        Parameters
        ----------
        h, fine_h : float
            Mesh sizes h and h_L.
        """
        return self.written.evaluate(h, fine_h)

    @property
    def order(self) -> float:
        """Signed leading exponent of h; infinite where no power is left (zero to all orders)."""
        return self.terms[0].exponent if self.terms else float("inf")

    @property
    def logs(self) -> int:
        """Exponent of log(1/h) in the leading term."""
        return self.terms[0].logs if self.terms else 0

    def coefficient(self, fine_h: float | None = None) -> float:
        """C of the leading term C h^order, h_L^q included; 0 without terms.

        Parameters
        ----------
        fine_h : float, optional
            Mesh size of the data; needed where the constant contains it.

        Raises
        ------
        InputError
            If it is needed and missing.
        """
        if not self.terms:
            return 0.0
        lead = self.terms[0]
        if lead.fine_exponent == 0:
            return lead.coefficient
        if fine_h is None:
            raise InputError(
                f"`fine_h` must be given: the constant of the {self.quantity} contains the mesh "
                "size of the data; got None"
            )
        return float(lead.coefficient * fine_h**lead.fine_exponent)

    def asymptote(self, h: np.ndarray, fine_h: float) -> np.ndarray:
        """All terms together at mesh sizes h, shape as `h`: for a norm that of the vectors' sum."""
        h = np.asarray(h, dtype=float)
        if not self.vectors:
            scalars = (
                t.coefficient * h**t.exponent * fine_h**t.fine_exponent * np.log(1.0 / h) ** t.logs
                for t in self.squares or self.terms
            )
            total = np.asarray(sum(scalars, start=np.zeros_like(h)))
            return np.sqrt(total) if self.squares else total
        total = sum(
            np.multiply.outer(
                h**t.exponent * fine_h**t.fine_exponent * np.log(1.0 / h) ** t.logs,
                t.vector.ravel(),
            )
            for t in self.vectors
        )
        return np.asarray(np.linalg.norm(total, axis=-1))

    @property
    def verdict(self) -> str:
        """The word that the order deserves, as in `gradconv.rates.Rate.verdict`."""
        gap = self.quantity != "level_norm"
        if not self.terms:
            return "exact" if gap else "vanishes"
        if self.order == 0:
            if self.logs:
                return "diverges" if gap else "grows"
            return "stalls" if gap else "bounded"
        if self.order > 0:
            return "converges" if gap else "vanishes"
        return "diverges" if gap else "grows"

    @property
    def latex(self) -> str:
        """The expression in LaTeX."""
        return self.written.latex


@dataclass(frozen=True)
class Law:
    """The laws of a problem.

    Parameters
    ----------
    problem : Problem
        The problem.
    laws : mapping of str to QuantityLaw
        By quantity.
    missing : mapping of str to str
        Quantities without a law in powers of h, and why.
    evaluator : callable, optional
        Takes a hierarchy and levels as `evaluate` does, and gives the full law.
    """

    problem: Problem
    laws: Mapping[str, QuantityLaw]
    missing: Mapping[str, str] = field(default_factory=dict)
    evaluator: Callable[[MeshHierarchy, Mapping[str, int] | None], dict[str, np.ndarray]] | None = (
        None
    )

    def quantity(self, name: str) -> QuantityLaw:
        """Law of a quantity.

        Raises
        ------
        LawError
            If it has none, with the reason.
        """
        if name in self.laws:
            return self.laws[name]
        raise LawError(self.missing.get(name, f"`quantity` {name} has no law"))

    def evaluate(
        self, hierarchy: MeshHierarchy, levels: Mapping[str, int] | None = None
    ) -> dict[str, np.ndarray]:
        """The full law at finite h: no expansion, no sampling.

        Parameters
        ----------
        hierarchy : MeshHierarchy
            The levels.
        levels : mapping of str to int, optional
            On how many levels, counted from the coarsest, to evaluate a quantity; it is NaN on
            finer ones, and what is not named is left out. Default: everything on all levels.

        Returns
        -------
        dict of str to ndarray
            By quantity: one value a level for the level norm, one a pair of levels for gaps.
            Quantities that cannot be evaluated are absent.
        """
        self.problem.check(hierarchy)
        return {} if self.evaluator is None else self.evaluator(hierarchy, levels)
