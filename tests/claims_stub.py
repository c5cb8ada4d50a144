"""Stand-ins for derivations, and pieces that the tests of the claims share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradconv import Agreement
from gradconv.claims import orders as orders_module
from gradconv.claims.claim import Claim
from gradconv.claims.paper import CLAIMS
from gradconv.errors import LawError
from gradconv.problem import Problem

BY_ID = {c.id: c for c in CLAIMS}


def one_dimensional(name: str) -> Claim:
    claim = BY_ID[name]
    return replace(claim, cases=tuple(c for c in claim.cases if c.problem["dim"] == 1))


def reference_order(problem: Problem, quantity: str) -> float:
    """The orders of the theory for the cases of the ledger (see test_reference_orders.py)."""
    d, rms = problem.dim, quantity == "rms_gap"
    average = problem.restriction.name == "average"
    if problem.kernel.name == "mfc":
        return (1.0 if rms else 2.0) if average else (d / 2 if rms else float(d))
    noise = problem.noise
    if noise.name == "none":
        return 1.0 if problem.target.name == "shift" else 2.0
    if noise.name == "power":
        return min(2.0, noise.alpha - d)
    if noise.name == "white" or average:
        return -float(d)
    return d / 2 if rms else 2.0


class StubLaw:
    def __init__(self, problem: Problem, sign: float, missing: str) -> None:
        self.problem, self.sign, self.missing = problem, sign, missing

    def quantity(self, name: str) -> Any:
        if self.missing:
            raise LawError(self.missing)
        order = self.sign * reference_order(self.problem, name)
        return SimpleNamespace(
            order=order,
            expression=f"h**{order:g}",
            latex=f"h^{{{order:g}}}",
            assumptions=("periodic",),
            verdict="converges" if order > 0 else "diverges",
        )

    def evaluate(self, hierarchy: Any, levels: Any) -> dict[str, np.ndarray]:
        return {}


def stub_laws(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put stand-ins in the place of the derivations."""

    def put(sign: float = 1.0, missing: str = "", agrees: bool | None = True) -> None:
        def compare(law: StubLaw, sweep: Any, values: Any = None) -> dict[str, Agreement]:
            return {
                q: Agreement(
                    None if missing else law.quantity(q).order, 1.0, agrees, "constants differ"
                )
                for q in ("mean_gap", "rms_gap")
            }

        monkeypatch.setattr(orders_module, "derive", lambda p: StubLaw(p, sign, missing))
        monkeypatch.setattr(orders_module, "compare", compare)
        monkeypatch.setattr(orders_module, "confirm", lambda found, sweep: found)

    return put
