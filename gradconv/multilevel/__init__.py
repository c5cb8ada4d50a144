"""Multilevel Monte Carlo for gradients: estimators, allocations, diagnostics and costs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradconv.multilevel.allocation import Allocation, Fixed, Optimal, Randomised
    from gradconv.multilevel.costs.model import CostModel
    from gradconv.multilevel.diagnosis.diagnosing import diagnose
    from gradconv.multilevel.diagnosis.result import Diagnosis
    from gradconv.multilevel.estimator import MultilevelGradient, Step
    from gradconv.multilevel.moments import Moments

# Names load on first use: the command line must not wait for torch.
_HOMES = {
    "Allocation": "allocation",
    "CostModel": "costs.model",
    "Diagnosis": "diagnosis.result",
    "Fixed": "allocation",
    "Moments": "moments",
    "MultilevelGradient": "estimator",
    "Optimal": "allocation",
    "Randomised": "allocation",
    "Step": "estimator",
    "diagnose": "diagnosis.diagnosing",
}

__all__ = [
    "Allocation",
    "CostModel",
    "Diagnosis",
    "Fixed",
    "Moments",
    "MultilevelGradient",
    "Optimal",
    "Randomised",
    "Step",
    "diagnose",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
