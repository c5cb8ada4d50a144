"""Multilevel Monte Carlo for gradients: estimators, allocations, diagnostics and costs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradconv.multilevel.allocation import Allocation, Fixed, Optimal, Randomised
    from gradconv.multilevel.cost import CostModel
    from gradconv.multilevel.estimator import MultilevelGradient, Step
    from gradconv.multilevel.moments import Moments

# Names load on first use: the command line must not wait for torch.
_HOMES = {
    "Allocation": "allocation",
    "CostModel": "cost",
    "Fixed": "allocation",
    "Moments": "moments",
    "MultilevelGradient": "estimator",
    "Optimal": "allocation",
    "Randomised": "allocation",
    "Step": "estimator",
}

__all__ = [
    "Allocation",
    "CostModel",
    "Fixed",
    "Moments",
    "MultilevelGradient",
    "Optimal",
    "Randomised",
    "Step",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
