"""Training strategies: which samples meet which meshes at each step. One file each."""

from __future__ import annotations

from gradconv.train.strategies import (  # noqa: F401  (importing a file registers its strategy)
    full_multiscale,
    multigrid,
    multiscale,
    progressive,
    random_crops,
    single,
)
from gradconv.train.strategies.base import STRATEGIES, Leg, Schedule, Strategy, plan_of
from gradconv.train.strategies.stopping import Stopping

__all__ = ["STRATEGIES", "Leg", "Schedule", "Stopping", "Strategy", "plan_of"]
