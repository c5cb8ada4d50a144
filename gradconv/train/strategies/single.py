"""Training on the finest mesh alone."""

from __future__ import annotations

from dataclasses import dataclass

from gradconv.multilevel.costs.plan import single
from gradconv.train.strategies.base import STRATEGIES, Leg, Schedule, Strategy, legs_of


@STRATEGIES.register("single")
@dataclass(frozen=True)
class Single(Strategy):
    """`steps` steps with `batch` samples on the finest mesh."""

    def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
        """One leg."""
        return legs_of(single(schedule.steps, schedule.batch, schedule.levels))
