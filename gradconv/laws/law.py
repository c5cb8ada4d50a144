"""What a derivation gives: a law for each quantity, as sums of powers of h.

A law's terms are C h^p h_L^q log(1/h)^r. In the refinement setting q = 0. In the coarsening setting
h_L is the mesh size of the finest mesh, which holds the data, and terms are ordered as they are for
h_L ≪ h ≪ 1, next to the finest mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradconv.errors import InputError, LawError
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Term:
    """One term C h^power h_L^fine log(1/h)^logs.

    Parameters
    ----------
    power : float
        Exponent of h.
    fine : float
        Exponent of h_L, the mesh size of the data (0 in the refinement setting).
    logs : int
        Exponent of log(1/h): 0 or 1.
    coefficient : float
        C; positive for the leading term of a norm, signed for a correction.
    symbol : sympy.Expr
        C as a sympy number.
    origin : str
        What it comes from: signal, noise, signal x noise.
    """

    power: float
    fine: float
    logs: int
    coefficient: float
    symbol: sympy.Expr
    origin: str

    def at(self, h: np.ndarray, fine_h: float) -> np.ndarray:
        """Value of the term at mesh sizes h when the data live on meshes of size `fine_h`."""
        return np.asarray(
            self.coefficient * h**self.power * fine_h**self.fine * np.log(1.0 / h) ** self.logs
        )


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
    expression : sympy.Expr
        The leading term and the next one, in h and h_L.
    assumptions : tuple of str
        Under which the law holds.
    steps : tuple of str
        How it was derived, each one line.
    """

    quantity: str
    terms: tuple[Term, ...]
    expression: sympy.Expr
    assumptions: tuple[str, ...]
    steps: tuple[str, ...]

    @property
    def order(self) -> float:
        """Signed leading exponent of h; infinite where no power is left (zero to all orders)."""
        return self.terms[0].power if self.terms else float("inf")

    @property
    def logs(self) -> int:
        """Power of log(1/h) in the leading term."""
        return self.terms[0].logs if self.terms else 0

    def coefficient(self, fine_h: float | None = None) -> float:
        """C of the leading term C h^order, h_L^q included; 0 without terms.

        Parameters
        ----------
        fine_h : float, optional
            Mesh size of the data; needed where the constant contains it.
        """
        if not self.terms:
            return 0.0
        lead = self.terms[0]
        if lead.fine == 0:
            return lead.coefficient
        if fine_h is None:
            raise InputError(
                f"`fine_h` must be given: the constant of the {self.quantity} contains the mesh "
                "size of the data; got None"
            )
        return float(lead.coefficient * fine_h**lead.fine)

    def asymptote(self, h: np.ndarray, fine_h: float) -> np.ndarray:
        """Sum of all terms at mesh sizes h, shape as `h`."""
        h = np.asarray(h, dtype=float)
        total = np.zeros_like(h)
        for term in self.terms:
            total = total + term.at(h, fine_h)
        return total

    @property
    def verdict(self) -> str:
        """The word that the order deserves, as in `gradconv.rates.Rate.verdict`."""
        gap = self.quantity != "level_norm"
        if not self.terms:
            return "exact" if gap else "vanishes"
        if self.order == 0:
            return ("stalls" if gap else "bounded") if not self.logs else "grows"
        if self.order > 0:
            return "converges" if gap else "vanishes"
        return "diverges" if gap else "grows"

    @property
    def latex(self) -> str:
        """The expression in LaTeX."""
        import sympy

        return str(sympy.latex(self.expression))


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
    """

    problem: Problem
    laws: Mapping[str, QuantityLaw]
    missing: Mapping[str, str] = field(default_factory=dict)
    evaluator: Callable[[MeshHierarchy], dict[str, np.ndarray]] | None = None

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

    def evaluate(self, hierarchy: MeshHierarchy) -> dict[str, np.ndarray]:
        """The full law at finite h: no expansion, no sampling.

        Parameters
        ----------
        hierarchy : MeshHierarchy
            The levels.

        Returns
        -------
        dict of str to ndarray
            By quantity: one value a level for the level norm, one a pair of levels for gaps.
            Quantities that cannot be evaluated are absent.
        """
        self.problem.check(hierarchy)
        return {} if self.evaluator is None else self.evaluator(hierarchy)
