"""A multilevel loop with what it declares, as the command line takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from gradconv.mesh import MeshHierarchy


@dataclass(frozen=True)
class EstimatorLoop:
    """What a factory for ``gradconv audit --estimator`` returns.

    Parameters
    ----------
    step : callable
        One training step, as in `gradconv.audit.audit_estimator`.
    module : Module
        The module that it trains.
    hierarchy, batch_sizes, work, loss, optimizer
        As there; flags of the command line come before them.
    """

    step: Callable[..., Any]
    module: nn.Module
    hierarchy: MeshHierarchy | Sequence[int] | None = None
    batch_sizes: Sequence[int] | None = None
    work: float | None = None
    loss: Callable[..., Any] | None = None
    optimizer: Any = None
