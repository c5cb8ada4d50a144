"""`assert_gradient_converges`: the gradient of a module survives mesh refinement."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradconv.errors import InputError, check_positive, unknown_name
from gradconv.rates import Rate
from gradconv.testing.drawings import order_drawing
from gradconv.testing.failures import fail
from gradconv.testing.orders import (
    checked_order,
    level_rows,
    note,
    objection,
    rate_facts,
)

if TYPE_CHECKING:
    from gradconv.audit import Audit

TOLERANCE = 1.0
"""Default distance of an interval's ends from the order: few noisy levels have wide intervals."""
QUANTITIES = ("mean_gap", "rms_gap", "variance")


def assert_gradient_converges(
    module: Any,
    order: float | None = None,
    *,
    quantity: str = "rms_gap",
    group: str = "whole",
    tolerance: float = TOLERANCE,
    **options: Any,
) -> Audit:
    """Assert that the gradient of a module's loss converges as the mesh is refined.

    The module is audited on the meshes of a hierarchy, by default on noisy data; the gap between
    the gradients of neighbouring levels must have the verdict `converges` (or be zero to
    rounding) and, if an order is given, that order. Nothing of the module is changed.

    Parameters
    ----------
    module : torch.nn.Module or callable
        As `gradconv.audit.audit` takes it: a module, or what makes one (for every mesh, if it takes
        ``n`` or ``mesh``).
    order : float, optional
        Order > 0 of the gap, which must lie in the interval; ``math.inf`` for a gap that is zero
        to rounding or falls faster than any power of h.
    quantity : {"rms_gap", "mean_gap", "variance"}
        What must converge: gaps of gradients on shared sample paths, of their mean, or the
        variance.
    group : str
        The whole module, or the name of one layer or parameter.
    tolerance : float
        Largest distance > 0 of either end of the interval from `order`.
    **options
        Further arguments of `gradconv.audit.audit`: `hierarchy`, `loss`, `data`, `noise`, `signal`,
        `target`, `restriction`, `setting`, `replicates`, `seed`, `dtype`, and so on.

    Returns
    -------
    Audit
        The audit, with every layer's and parameter's rates.

    Raises
    ------
    CheckFailed
        If the assertion does not hold; an `AssertionError` whose message names the layers that
        break convergence and why.
    InputError
        If an argument breaks a rule.

    Notes
    -----
    False alarms: the seed decides the data, so that a test gives one answer every time. Over
    seeds, a true order falls outside its interval with a probability of about 0.05 at most (see
    `gradconv.fit_rate`); more often, few paths on few levels leave the verdict undecided, which
    fails. Under pixel noise and averaging, a Gaussian filter with its width as its one parameter
    (order 1, 6 levels, 64 paths) passed for 53 of 60 seeds, was undecided for 6 and outside its
    interval for 1. A standard convolution under the same noise (5 levels, 16 or 64 paths) diverged
    for 80 of 80 seeds. More `replicates` and a longer `hierarchy` decide more.
    """
    __tracebackhide__ = True
    given = dict(locals())
    if quantity not in QUANTITIES:
        raise unknown_name("quantity", quantity, QUANTITIES)
    check_positive("tolerance", tolerance)
    wanted = None if order is None else checked_order(order)
    if wanted is not None and not wanted > 0:
        raise InputError(
            f"`order` must be > 0 for a gradient that converges (`assert_order` takes any); "
            f"got {order}"
        )
    from gradconv.audit import audit

    # the causes cost further gradients, and only a failure tells them
    found = audit(module, **{"explain": False, **options})
    rate = found.rate(quantity, group)
    reason = _objection(rate, wanted, tolerance)
    label = f"{quantity.replace('_', ' ')} of {'the gradient' if group == 'whole' else group}"
    note(rate, label, wanted, not reason)
    if reason:
        if not options.get("explain"):
            found = audit(module, **{**options, "explain": True})
        h, values = found.hierarchy.h[1:], found.series(quantity, group)[0]
        claim = f"the {label} converges" + ("" if wanted is None else f" at order {wanted:g}")
        fail(
            assert_gradient_converges,
            claim,
            reason,
            {**rate_facts(rate), **_causes(found, quantity)},
            ("h", label, "order to the next", "fit"),
            level_rows(h, values, rate),
            given,
            order_drawing(h, values, rate, wanted, label),
        )
    return found


def _objection(rate: Rate, order: float | None, tolerance: float) -> str:
    if order is not None:
        return objection(rate, order, tolerance)
    if rate.verdict in ("converges", "exact"):
        return ""
    measured = "" if math.isnan(rate.order) else f", order {rate.order:+.3g}"
    return f"the verdict is {rate.verdict}{measured}"


def _causes(found: Audit, quantity: str) -> dict[str, str]:
    """Lines of the message on the layers: what breaks convergence, and each one's verdict."""
    causes = {}
    if found.findings:
        causes["causes"] = "\n              ".join(
            f"{f.where}: {f.cause} ({f.sentence})" for f in found.findings
        )
    layers = []
    for layer in found.layers():
        rate = found.rate(quantity, layer.name)
        measured = "" if math.isnan(rate.order) else f" {rate.order:+.2f}"
        layers.append(f"{layer.name} ({layer.type}) {rate.verdict}{measured}")
    if layers:
        causes["layers"] = "; ".join(layers)
    if found.notes:
        causes["notes"] = "; ".join(found.notes)
    return causes
