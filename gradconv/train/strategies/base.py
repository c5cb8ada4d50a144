"""What every strategy states, and the legs that it makes of a schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gradconv.errors import InputError, check_whole, shortened
from gradconv.mesh import check_dim
from gradconv.multilevel.costs.plan import (
    Plan,
    Stage,
    Term,
    check_levels,
    check_wholes,
    halved,
    paper_counts,
)
from gradconv.registry import Choice, Registry
from gradconv.samplers.cropped import check_crops
from gradconv.train.strategies.stopping import Stopping

STRATEGIES: Registry[Strategy] = Registry("strategy")

STEPS = 2000


@dataclass(frozen=True)
class Leg:
    """A stage of a run: its steps, with what cuts their samples and what ends them early.

    Parameters
    ----------
    steps : int
        Steps; at most so many if there is a `stopping`.
    terms : tuple of Term
        What one step computes.
    crops : tuple of float, optional
        Least and greatest relative area of squares that are cut at random from every sample and
        resized, in (0, 1]; None: whole samples.
    stopping : Stopping, optional
        When to end before all steps are taken.

    Raises
    ------
    InputError
        If an argument breaks a rule above.
    """

    steps: int
    terms: tuple[Term, ...]
    crops: tuple[float, float] | None = None
    stopping: Stopping | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))
        _ = self.stage
        if self.crops is not None:
            check_crops("crops", self.crops)

    @cached_property
    def stage(self) -> Stage:
        """Steps and terms, as costs are counted."""
        return Stage(self.steps, self.terms)


@dataclass(frozen=True)
class Schedule:
    """Numbers that strategies make their legs of; each takes those that it needs.

    Parameters
    ----------
    levels : int
        Levels of the hierarchy, L + 1.
    dim : {1, 2, 3}
        Dimension.
    counts : tuple of int
        Samples N_0 … N_L of the terms of a multilevel step, coarse to fine.
    steps : int
        Steps of a strategy without stages.
    stages : tuple of int
        Steps of each stage, coarse to fine.
    batch : int
        Samples of a step on one scale.
    stopping : Stopping, optional
        When a stage goes on to the next one before its steps are taken.

    Raises
    ------
    InputError
        If an argument breaks a rule above.
    """

    levels: int
    dim: int
    counts: tuple[int, ...]
    steps: int
    stages: tuple[int, ...]
    batch: int
    stopping: Stopping | None = None

    def __post_init__(self) -> None:
        check_levels(self.levels)
        check_dim(self.dim)
        check_whole("steps", self.steps, 1)
        check_whole("batch", self.batch, 1)
        for name in ("counts", "stages"):
            object.__setattr__(self, name, check_wholes(name, getattr(self, name), self.levels))
        if self.stopping is not None and not isinstance(self.stopping, Stopping):
            raise InputError(f"`stopping` must be a Stopping; got {shortened(self.stopping)}")

    @classmethod
    def of_paper(
        cls,
        levels: int,
        dim: int = 2,
        *,
        counts: Sequence[int] | None = None,
        steps: int = STEPS,
        stages: Sequence[int] | None = None,
        batch: int | None = None,
        stopping: Stopping | None = None,
    ) -> Schedule:
        """Fill in what is not given as the paper does.

        Parameters
        ----------
        levels, dim
            As above.
        counts : sequence of int, optional
            Default: 16 on the finest level, twice as many on each coarser one.
        steps : int
            Default: 2000.
        stages : sequence of int, optional
            Default: `steps` on the coarsest level, half as many (rounded up) on each finer one.
        batch : int, optional
            Default: the sum of `counts`.
        stopping : Stopping, optional
            Default: stages take all their steps.

        References
        ----------
        "Multiscale Training of Convolutional Neural Networks", arXiv 2501.12739.

        Examples
        --------
        >>> schedule = Schedule.of_paper(4)
        >>> schedule.counts, schedule.stages, schedule.batch
        ((128, 64, 32, 16), (2000, 1000, 500, 250), 240)
        """
        check_levels(levels)
        check_whole("steps", steps, 1)
        taken = check_wholes("counts", paper_counts(levels) if counts is None else counts, levels)
        return cls(
            levels,
            dim,
            taken,
            steps,
            check_wholes("stages", halved(steps, levels) if stages is None else stages, levels),
            sum(taken) if batch is None else batch,
            stopping,
        )


class Strategy(Choice, ABC):
    """A way to train: what its steps compute, from the first to the last."""

    @abstractmethod
    def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
        """Legs in the order in which they run.

        Raises
        ------
        InputError
            If the strategy cannot do with the schedule.
        """


def legs_of(plan: Plan, stopping: Stopping | None = None) -> tuple[Leg, ...]:
    """Legs of a plan's stages; all but the last, which has none to go on to, may end early."""
    found = [Leg(stage.steps, stage.terms, stopping=stopping) for stage in plan.stages]
    return (*found[:-1], replace(found[-1], stopping=None))


def plan_of(name: str, legs: Sequence[Leg], levels: int) -> Plan:
    """Plan whose costs are those of the legs, if none ends early.

    Parameters
    ----------
    name : str
        Its name in tables.
    legs : sequence of Leg
        The legs.
    levels : int
        Levels of the hierarchy.

    Raises
    ------
    InputError
        If there is no leg, or one is on a level that the hierarchy does not have.
    """
    return Plan(name, levels, tuple(leg.stage for leg in legs))
