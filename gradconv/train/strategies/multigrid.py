"""A multigrid schedule: cycles through the meshes, with larger batches on coarser ones."""

from __future__ import annotations

from dataclasses import dataclass

from gradconv.multilevel.costs.plan import Term
from gradconv.train.strategies.base import STRATEGIES, Leg, Schedule, Strategy

MOST = 1000


@STRATEGIES.register("multigrid")
@dataclass(frozen=True)
class Multigrid(Strategy):
    """`cycles` times through the meshes, coarse to fine, each with as many steps.

    A mesh c levels below the finest has batch · 2^{dc} samples a step, so that every step costs
    the same and is as large in memory: that of single-scale training, and `steps` of them cost the
    same in all, on more samples. The steps are shared evenly; the last time on the finest mesh
    takes two shares and what does not divide, to end with plain training. (Wu et al. vary the
    mesh within a cycle too, the short cycle, and count epochs, with fewer steps than the plain
    run; here a budget does that.)

    Parameters
    ----------
    cycles : int
        Number of cycles, 1 to 1000.

    References
    ----------
    C.-Y. Wu, R. Girshick, K. He, C. Feichtenhofer and P. Krähenbühl, "A Multigrid Method for
    Efficiently Training Video Models", CVPR 2020 (the long cycle).
    """

    cycles: int = 2

    def __post_init__(self) -> None:
        self.require(1 <= self.cycles <= MOST, f"cycles must be 1 to {MOST}")

    def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
        """`cycles` legs a level."""
        meshes = self.cycles * schedule.levels
        share = schedule.steps // (meshes + 1)
        self.require(
            share > 0, f"cycles need `steps` of at least {meshes + 1}, and got {schedule.steps}"
        )
        found = []
        for turn in range(meshes):
            level = turn % schedule.levels
            samples = schedule.batch * 2 ** (schedule.dim * (schedule.levels - 1 - level))
            steps = share if turn + 1 < meshes else schedule.steps - share * turn
            found.append(Leg(steps, (Term(level, samples, corrects=False),)))
        return tuple(found)
