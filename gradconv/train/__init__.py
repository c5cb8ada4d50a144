"""Training runs: tasks, networks, strategies and the trainer that brings them together."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
