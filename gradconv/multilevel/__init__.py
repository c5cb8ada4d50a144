"""Multilevel Monte Carlo for gradients: estimators, allocations, diagnostics and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradconv.loading import lazy

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

__getattr__, __dir__ = lazy(__name__, _HOMES)
