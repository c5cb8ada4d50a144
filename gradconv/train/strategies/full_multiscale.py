"""Full multiscale training: coarse to fine, each level started from the weights of the last."""

from __future__ import annotations

from dataclasses import dataclass

from gradconv.multilevel.costs.plan import full_multiscale
from gradconv.train.strategies.base import STRATEGIES, Leg, Schedule, Strategy, legs_of


@STRATEGIES.register("full-multiscale")
@dataclass(frozen=True)
class FullMultiscale(Strategy):
    """`stages` steps of multiscale training on the levels 0 … ℓ, for ℓ = 0 … L.

    With a stopping rule, a stage whose loss has stalled goes on to the next level; the last stage
    takes all its steps.

    References
    ----------
    "Multiscale Training of Convolutional Neural Networks", arXiv 2501.12739.
    """

    def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
        """One leg a level, coarse to fine."""
        return legs_of(full_multiscale(schedule.stages, schedule.counts), schedule.stopping)
