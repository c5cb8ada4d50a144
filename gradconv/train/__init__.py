"""Training runs: tasks, networks, strategies and the trainer that brings them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradconv.loading import lazy

if TYPE_CHECKING:
    from gradconv.train.configuration import TrainingConfig
    from gradconv.train.strategies import STRATEGIES
    from gradconv.train.tasks import TASKS
    from gradconv.train.trainer import Trainer

# Names load on first use: the command line must not wait for torch.
_HOMES = {
    "STRATEGIES": "strategies",
    "TASKS": "tasks",
    "Trainer": "trainer",
    "TrainingConfig": "configuration",
}

__all__ = ["STRATEGIES", "TASKS", "Trainer", "TrainingConfig"]

__getattr__, __dir__ = lazy(__name__, _HOMES)
