"""Progressive resizing: steps on one mesh at a time, and meshes that grow."""

from __future__ import annotations

from dataclasses import dataclass

from gradconv.multilevel.costs.plan import progressive
from gradconv.train.strategies.base import STRATEGIES, Leg, Schedule, Strategy, legs_of


@STRATEGIES.register("progressive")
@dataclass(frozen=True)
class Progressive(Strategy):
    """`stages` steps with `batch` samples on each mesh, coarse to fine.

    With a stopping rule, a stage whose loss has stalled goes on to the next mesh; the last stage
    takes all its steps.

    References
    ----------
    M. Tan and Q. V. Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, section 4
    (progressive learning; here without its growing regularisation).
    """

    def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
        """One leg a level, coarse to fine."""
        return legs_of(progressive(schedule.stages, schedule.batch), schedule.stopping)
