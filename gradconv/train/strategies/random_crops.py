"""Random resized crops: squares of any size, all brought to one mesh."""

from __future__ import annotations

from dataclasses import dataclass

from gradconv.multilevel.costs.plan import Term
from gradconv.train.strategies.base import STRATEGIES, Leg, Schedule, Strategy


@STRATEGIES.register("random-crops")
@dataclass(frozen=True)
class RandomCrops(Strategy):
    """`steps` steps with `batch` squares, cut from the finest samples and resized to one mesh.

    The areas are those of Szegedy et al. and the defaults of torchvision's ``RandomResizedCrop``,
    8 to 100 % of the image; the shape stays square, as the cells do. The mesh is one level below
    the finest, so that a step costs 2^-d of one on single scale: train small, test large, as is
    usual with such crops. What the loss sees is then another problem than that of the test, for
    noise and blur are resized with the image; that is the baseline, not an oversight.

    Parameters
    ----------
    low, high : float
        Range of the relative areas, in (0, 1], evenly distributed.
    below : int
        Levels between the mesh of the crops and the finest; 0 is the finest.

    References
    ----------
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6 (areas);
    H. Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019 (mesh).
    """

    low: float = 0.08
    high: float = 1.0
    below: int = 1

    def __post_init__(self) -> None:
        self.require_finite()
        self.require(0 < self.low <= self.high <= 1, "low and high must rise within (0, 1]")
        self.require(self.below >= 0, "below must not be negative")

    def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
        """One leg."""
        level = schedule.levels - 1 - self.below
        self.require(level >= 0, f"below must be less than the {schedule.levels} levels")
        terms = (Term(level, schedule.batch, corrects=False),)
        return (Leg(schedule.steps, terms, crops=(self.low, self.high)),)
