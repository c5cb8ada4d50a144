"""Multiscale training: every step takes a multilevel estimate of the finest gradient."""

from __future__ import annotations

from dataclasses import dataclass

from gradconv.multilevel.costs.plan import multiscale
from gradconv.train.strategies.base import STRATEGIES, Leg, Schedule, Strategy, legs_of


@STRATEGIES.register("multiscale")
@dataclass(frozen=True)
class Multiscale(Strategy):
    """`steps` steps with the gradient E g_0 + Σ E[g_ℓ − g_{ℓ−1}], `counts` samples a term.

    References
    ----------
    "Multiscale Training of Convolutional Neural Networks", arXiv 2501.12739.
    """

    def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
        """One leg."""
        return legs_of(multiscale(schedule.steps, schedule.counts))
