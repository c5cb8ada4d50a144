"""Models and data whose diagnosis is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv import MeshHierarchy, Problem
from gradconv.multilevel.diagnosis.diagnosing import diagnose
from gradconv.multilevel.diagnosis.result import Diagnosis
from gradconv.samplers import CallableSampler

SIZES = (4, 8, 16, 32, 64)
FINE = (128, 256, 512, 1024, 2048, 4096)
LEVELS = MeshHierarchy(1, SIZES)
PROBLEM = Problem("stencil", signal="band-limited:2", noise="pixel:0.5", dim=1)


class Scalar(nn.Module):
    """One parameter that multiplies the input; its gradient under `linear` is the input's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.theta * x


def linear(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return prediction.mean()


class Known:
    """Inputs whose mean is 2 + Z + h^α + h^(β/2) W: gap (2^α − 1) h^α, V_l = (2^(β/2) − 1)² h^β."""

    def __init__(self, alpha: float = 1.0, beta: float = 2.0) -> None:
        self.alpha, self.beta = alpha, beta

    def __call__(self, n: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        z, w = np.random.default_rng(number).standard_normal(2)
        value = 2.0 + z + n**-self.alpha + n ** (-self.beta / 2) * w
        x = torch.full((1, 1, n), float(value), dtype=torch.float64)
        return x, torch.zeros(1, 1, n, dtype=torch.float64)


def known(**choices: Any) -> Diagnosis:
    options = {"samples": 256, "repetitions": 0, **choices}
    data = CallableSampler(Known(), LEVELS)
    return diagnose(Scalar(), loss=linear, data=data, **options)
