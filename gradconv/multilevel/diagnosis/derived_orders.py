"""The derived laws beside the measured orders: of this very layer, or of a single layer as context.

A law of the variance is that of a problem's scaled gradient: it is held against a diagnosis only
where the module is that problem's single layer. For others, laws of a standard and a mesh-free
single layer on the same data say what the data alone do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradconv.errors import InputError, LawError
from gradconv.laws import derive
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.diagnosis.term_orders import TermOrders
from gradconv.problem import Problem
from gradconv.rates import Rate

CONTEXT = {"stencil": "a single standard layer", "mfc": "a single mesh-free layer"}
QUANTITIES = {"alpha": "mean_gap", "beta": "variance"}


@dataclass(frozen=True)
class DerivedOrder:
    """A derived law of a term's quantity.

    Parameters
    ----------
    of : str
        Whose law, in words.
    own : bool
        Whether it is that of the module itself, so that the two must agree.
    symbol : {"alpha", "beta"}
        α: mean gap; β: variance of the difference.
    order : float
        Derived leading exponent of h; NaN without a law.
    fine : float
        Exponent of the data's mesh size h_L that goes with it in the coarsening setting: as the
        finest mesh is refined, the finest term behaves as h_L^(order + fine).
    log : bool
        Whether a logarithm goes with it.
    within : bool or None
        Whether the measured interval contains it; None for context, or where either is missing.
    values : ndarray
        The full law at each level ≥ 1, no expansion; empty where it was not evaluated.
    errors : ndarray
        (measured − law)/standard error at each level ≥ 1; empty likewise.
    missing : str
        Why there is no law of the order; empty if there is one.
    """

    of: str
    own: bool
    symbol: str
    order: float
    fine: float
    log: bool
    within: bool | None
    values: Array
    errors: Array
    missing: str


def derived_orders(
    problem: Problem, own: bool, hierarchy: MeshHierarchy, whole: LevelTable, orders: TermOrders
) -> tuple[DerivedOrder, ...]:
    """Derive α and β for a problem's data.

    Parameters
    ----------
    problem : Problem
        The data; its kernel is the module if `own`.
    own : bool
        Whether the module is the problem's layer, in scaled parameters.
    hierarchy : MeshHierarchy
        The levels.
    whole : LevelTable
        What was measured.
    orders : TermOrders
        Its orders.
    """
    if own:
        name = type(problem.kernel).__name__
        label = str(problem.describe()["kernel"]) or name
        return _laws(f"this layer ({label})", problem, hierarchy, whole, orders)
    found: list[DerivedOrder] = []
    for kernel, words in CONTEXT.items():
        try:
            other = replace(problem, kernel=kernel)
            found += _laws(words, other, None, whole, orders)
        except InputError as error:
            found += [_none(words, symbol, str(error), False) for symbol in QUANTITIES]
    return tuple(found)


def _laws(
    of: str,
    problem: Problem,
    hierarchy: MeshHierarchy | None,
    whole: LevelTable,
    orders: TermOrders,
) -> tuple[DerivedOrder, ...]:
    """Laws of α and β; values, where a hierarchy is given, for the module's own."""
    own = hierarchy is not None
    try:
        law = derive(problem)
    except LawError as error:
        return tuple(_none(of, symbol, str(error), own) for symbol in QUANTITIES)
    values = {} if hierarchy is None else law.evaluate(hierarchy)
    rates = {"alpha": orders.alpha, "beta": orders.beta}
    measured = {"alpha": whole.mean(2), "beta": whole.variance(2)}
    found = []
    for symbol, quantity in QUANTITIES.items():
        at = np.asarray(values.get(quantity, ()), dtype=float)
        errors = np.empty(0)
        if len(at):
            value, spread = (v[1:] for v in measured[symbol])
            known = np.isfinite(spread) & (spread > 0)
            errors = np.where(known, (value - at) / np.where(known, spread, 1.0), np.nan)
        if quantity in law.laws:
            one = law.quantity(quantity)
            within = _within(one.order, rates[symbol]) if own and not one.logs else None
            found.append(
                DerivedOrder(
                    of,
                    own,
                    symbol,
                    one.order,
                    one.terms[0].fine_exponent if one.terms else 0.0,
                    bool(one.logs),
                    within,
                    at,
                    errors,
                    "",
                )
            )
        else:
            missing = law.missing.get(quantity, "no law")
            found.append(replace(_none(of, symbol, missing, own), values=at, errors=errors))
    return tuple(found)


def _none(of: str, symbol: str, missing: str, own: bool) -> DerivedOrder:
    empty = np.empty(0)
    nan = float("nan")
    return DerivedOrder(of, own, symbol, nan, 0.0, False, None, empty, empty, missing)


def _within(order: float, rate: Rate) -> bool | None:
    low, high = rate.interval
    return None if np.isnan(low) or np.isnan(high) else bool(low <= order <= high)
