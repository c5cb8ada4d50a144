"""The laws of cells as plain records: what is stored, judged and drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradconv.atlas.cells import Cell
from gradconv.errors import LawError
from gradconv.laws import QuantityLaw, derive
from gradconv.mesh import MeshHierarchy
from gradconv.problem import MEANS, QUANTITIES, mesh_sizes

Record = dict[str, Any]
UNBOUNDED = 1e9  # a share that says nothing, as a JSON number
LAST = 2.0  # orders of h that count as the last ones
KEPT = 4  # terms of a law that are stored


def law_record(cell: Cell, means: MeshHierarchy, fluctuations: MeshHierarchy) -> Record:
    """Derive the laws of a cell.

    Parameters
    ----------
    cell : Cell
        The cell.
    means, fluctuations : MeshHierarchy
        Meshes on which the sums of the laws' terms are wanted.

    Returns
    -------
    dict
        ``laws`` by quantity (order, log, coefficient, verdict, terms, the sum of all terms at the
        mesh sizes, and a bound on the share that is left out), ``missing`` with the reasons, and
        ``failed`` where the derivation itself broke down.
    """
    try:
        law = derive(cell.problem)
    except LawError as error:
        return {"laws": {}, "missing": dict.fromkeys(QUANTITIES, str(error))}
    except ArithmeticError as error:  # a defect: shown as a disagreement, not as the end of a run
        return {"laws": {}, "missing": {}, "failed": f"{type(error).__name__}: {error}"}
    found = {}
    for quantity in QUANTITIES:
        if quantity in law.laws:
            levels = means if quantity in MEANS else fluctuations
            coarsening = cell.setting == "coarsening"
            found[quantity] = _quantity(law.laws[quantity], levels, coarsening)
    return {"laws": found, "missing": {q: t for q, t in law.missing.items() if q in QUANTITIES}}


def _quantity(own: QuantityLaw, hierarchy: MeshHierarchy, coarsening: bool) -> Record:
    h, fine = mesh_sizes(own.quantity, hierarchy.h), float(hierarchy.h[-1])
    return {
        "order": None if math.isinf(own.order) else own.order,
        "log": own.logs,
        "coefficient": own.coefficient(fine),
        "verdict": own.verdict,
        "terms": [
            [t.exponent, t.fine_exponent, t.logs, t.coefficient, t.origin] for t in own.terms[:KEPT]
        ],
        "sum": [float(v) for v in total(own, h, fine)],
        "neglected": [min(float(v), UNBOUNDED) for v in neglected(own, h, fine, coarsening)],
        "unknown": first_unknown(own),
        "data": fine if coarsening else None,
    }


def first_unknown(own: QuantityLaw) -> list[float] | None:
    """Powers of h and h_L of the first unknown term relative to the leading one."""
    if own.unknown is None or not own.terms:
        return None
    lead = own.squares[0] if own.squares else own.terms[0]
    return [own.unknown[0] - lead.exponent, own.unknown[1] - lead.fine_exponent]


def neglected(own: QuantityLaw, h: np.ndarray, fine: float, coarsening: bool) -> np.ndarray:
    """Bound on the share of a law that its expansion leaves out, at every mesh size.

    What lies beyond the last orders is taken to be no larger than they are, term by term. In
    the coarsening setting, integrals over the frequencies of a cell are those of infinitely many
    restriction steps: the data end at frequencies of order 1/h_L, which takes away a share of
    h_L/h or less.
    """
    parts: Any = own.vectors or own.terms
    if not parts:
        return np.zeros_like(h)
    whole = np.maximum(total(own, h, fine), np.finfo(float).tiny)
    degrees = np.array([t.exponent + t.fine_exponent for t in parts])
    share = np.zeros_like(h)
    for t, degree in zip(parts, degrees, strict=True):
        size = float(np.linalg.norm(t.vector)) if own.vectors else abs(t.coefficient)
        size = size * h**t.exponent * fine**t.fine_exponent * np.log(1 / h) ** t.logs / whole
        if degree > degrees.max() - LAST and degree > degrees.min() + 0.5:
            share = share + size
        if coarsening and _far(t):
            share = share + size * fine / h
    if coarsening:  # nothing restricts the data's own mesh
        share = np.where(h < 1.5 * fine, np.inf, share)
    return np.asarray(share)


def _far(term: Any) -> bool:
    """Whether a term takes h_L/h to be zero."""
    if getattr(term, "region", "") in ("outer", "alias", "boundary"):
        return True
    return bool(term.origin == "noise" and term.exponent == 0 and term.fine_exponent == 0)


def total(own: QuantityLaw, h: np.ndarray, fine: float) -> np.ndarray:
    """Sum of all terms of a law at mesh sizes h."""
    if own.vectors:
        return own.asymptote(h, fine)
    found = np.zeros_like(h)
    for t in own.terms:
        found = (
            found + t.coefficient * h**t.exponent * fine**t.fine_exponent * np.log(1 / h) ** t.logs
        )
    return np.abs(found)
