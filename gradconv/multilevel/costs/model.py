"""What training plans cost, before anything runs.

A plan says how many samples meet which meshes at each step; a cost model says what one sample's
gradient costs on each mesh. Levels are numbered from the coarsest, 0, to the finest, L.

>>> from gradconv.multilevel.costs.plan import full_multiscale, multiscale, single
>>> counts = (128, 64, 32, 16)
>>> units = CostModel.work_units(levels=4, dim=2)
>>> single_scale = single(2000, sum(counts), levels=4)
>>> [work(plan, units) for plan in (single_scale, multiscale(2000, counts))]
[480000.0, 74000.0]
>>> work(full_multiscale((2000, 1000, 500, 250), counts), units)
28750.0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from gradconv.errors import InputError, shortened
from gradconv.mesh import check_dim
from gradconv.multilevel.costs.plan import (
    Plan,
    Stage,
    Term,
    check_levels,
    pass_size,
)

DRAWN = ("finest", "level")  # where noise can be drawn
STEEPEST = 16.0  # largest order of a cost that is taken


@dataclass(frozen=True)
class CostModel:
    """Cost of one sample's gradient on each level.

    Parameters
    ----------
    gradient : tuple of float
        Costs, coarse to fine, finite and not negative.
    unit : str
        Their unit.

    Raises
    ------
    InputError
        If there is no level, or a cost is negative or not finite; the level is named.
    """

    gradient: tuple[float, ...]
    unit: str = "work units"

    def __post_init__(self) -> None:
        if isinstance(self.gradient, str) or not isinstance(self.gradient, Sequence):
            raise InputError(
                f"`gradient` must hold a cost for each level; got {shortened(self.gradient)}"
            )
        if not self.gradient:
            raise InputError("`gradient` must hold the cost of at least one level; got none")
        for level, cost in enumerate(self.gradient):
            if not _is_real(cost) or not math.isfinite(cost) or cost < 0:
                raise InputError(
                    f"`gradient` costs must be finite and not negative; got {shortened(cost)} "
                    f"on level {level}"
                )
        object.__setattr__(self, "gradient", tuple(float(c) for c in self.gradient))

    @classmethod
    def work_units(cls, levels: int, dim: int, gamma: float | None = None) -> CostModel:
        """Costs 2^{−γ(L−ℓ)}: the finest level's is 1.

        Parameters
        ----------
        levels : int
            Number of levels, L + 1.
        dim : {1, 2, 3}
            Dimension.
        gamma : float, optional
            Order γ of the cost, C_ℓ ~ h_ℓ^{−γ}, between 0 and 16; default `dim`: as many
            operations as cells.
        """
        check_levels(levels)
        check_dim(dim)
        order = float(dim) if gamma is None else gamma
        if not _is_real(order) or not 0 <= order <= STEEPEST:
            raise InputError(f"`gamma` must be between 0 and {STEEPEST:g}; got {shortened(gamma)}")
        return cls(tuple(2.0 ** (-order * (levels - 1 - level)) for level in range(levels)))

    @property
    def orders(self) -> tuple[float, ...]:
        """γ between neighbours, log₂(C_ℓ / C_{ℓ−1}), signed; NaN where a cost is zero."""
        pairs = zip(self.gradient, self.gradient[1:], strict=False)
        return tuple(math.log2(f / c) if f > 0 and c > 0 else math.nan for c, f in pairs)

    @property
    def terms(self) -> np.ndarray:
        """C_ℓ + C_{ℓ−1} of one sample of each term of a multilevel step, coarse to fine."""
        return term_costs(np.asarray(self.gradient))

    def term(self, term: Term) -> float:
        """Cost of one sample of a term: C_ℓ, and C_{ℓ−1} beside it if it is a correction."""
        fine = self.gradient[term.level]
        return fine + self.gradient[term.level - 1] if term.corrects else fine


def term_costs(gradient: np.ndarray) -> np.ndarray:
    """C_ℓ + C_{ℓ−1} of one sample of each term, from those of one gradient of each level."""
    return np.asarray(gradient + np.concatenate([[0.0], gradient[:-1]]))


def step_work(stage: Stage, costs: CostModel) -> float:
    """Cost of all gradients of one step."""
    return sum(term.samples * costs.term(term) for term in stage.terms)


def work(plan: Plan, costs: CostModel) -> float:
    """Cost of all gradients of a plan, in the model's unit.

    It is the serial depth too: the time, if `costs` are seconds, of all gradients one after the
    other. The optimiser's steps and the samples are not part of it.

    Raises
    ------
    InputError
        If plan and model have different numbers of levels.
    """
    _check_match(plan, costs)
    return sum(stage.steps * step_work(stage, costs) for stage in plan.stages)


def parallel_depth(plan: Plan, costs: CostModel) -> float:
    """Cost of the critical path with a worker for every gradient.

    The gradients of a step (every sample of every term, the fine and the coarse one of a
    correction) run side by side, and a step starts when the one before it has ended. A step thus
    lasts as long as its costliest gradient, one sample on its finest level where costs grow with
    the level, and the plan as long as its steps together. What it takes to sum the gradients is
    not counted. A multilevel step is no shorter than a single-scale one on the same mesh; a plan
    whose early stages stay on coarse meshes is.
    """
    _check_match(plan, costs)
    return sum(
        stage.steps * max(max(costs.gradient[t.coarsest : t.level + 1]) for t in stage.terms)
        for stage in plan.stages
    )


def peak_samples(plan: Plan, dim: int, microbatch: int | None = None) -> float:
    """Memory of the largest single pass, in fields of one sample on the finest mesh.

    A pass takes the samples of a term, at most the cells of `microbatch` finest
    samples at once, through the forward
    and backward pass on one mesh; passes run one after the other and memory grows with the cells.
    """
    share = CostModel.work_units(plan.levels, dim).gradient
    return max(n * share[level] for level, n in _passes(plan, dim, microbatch))


def peak_bytes(
    plan: Plan,
    dim: int,
    fixed: Sequence[float],
    sample: Sequence[float],
    microbatch: int | None = None,
) -> float:
    """Memory of the largest single pass, in bytes.

    Parameters
    ----------
    plan : Plan
        The plan.
    dim : {1, 2, 3}
        Dimension.
    fixed, sample : sequence of float
        Bytes that a pass takes on each level whatever its samples are, and bytes a sample, coarse
        to fine.
    microbatch : int, optional
        Most samples of a pass on the finest mesh, and as many cells on others; default: all of a
        term.
    """
    for name, values in (("fixed", fixed), ("sample", sample)):
        if len(values) != plan.levels:
            raise InputError(
                f"`{name}` must hold a number for each of {plan.levels} levels; got {len(values)}"
            )
    return max(fixed[level] + n * sample[level] for level, n in _passes(plan, dim, microbatch))


def _passes(plan: Plan, dim: int, microbatch: int | None) -> list[tuple[int, int]]:
    """Level and samples of the largest pass of each term."""
    terms = (term for stage in plan.stages for term in stage.terms)
    found = []
    for t in terms:
        most = pass_size(microbatch, plan.levels - 1 - t.level, dim)
        found.append((t.level, min(t.samples, most or t.samples)))
    return found


@dataclass(frozen=True)
class Cells:
    """Cells that the samples of a plan take, in cells of one field on the finest mesh.

    Parameters
    ----------
    drawn : float
        Cells on which noise is drawn.
    restricted : float
        Cells that restrictions read, in steps by 2 from where the noise is drawn down to the
        coarsest mesh that the sample meets.
    """

    drawn: float
    restricted: float


def step_cells(stage: Stage, levels: int, dim: int, drawn: str = "finest") -> Cells:
    """Cells that the samples of one step take.

    Parameters
    ----------
    stage : Stage
        The steps.
    levels : int
        Levels of the hierarchy.
    dim : {1, 2, 3}
        Dimension.
    drawn : {"finest", "level"}
        Noise is drawn on the hierarchy's finest mesh and restricted for every sample of every
        term; or on the fine mesh of the term.
    """
    if drawn not in DRAWN:
        raise InputError(f"`drawn` must be one of {', '.join(DRAWN)}; got {shortened(drawn)}")
    field = CostModel.work_units(levels, dim).gradient
    made = restricted = 0.0
    for term in stage.terms:
        source = levels - 1 if drawn == "finest" else term.level
        made += term.samples * field[source]
        restricted += term.samples * sum(field[term.coarsest + 1 : source + 1])
    return Cells(made, restricted)


def cells(plan: Plan, dim: int, drawn: str = "finest") -> Cells:
    """Cells that the samples of a plan take; arguments as those of `step_cells`."""
    steps = [(stage.steps, step_cells(stage, plan.levels, dim, drawn)) for stage in plan.stages]
    return Cells(
        sum(count * step.drawn for count, step in steps),
        sum(count * step.restricted for count, step in steps),
    )


def ratio(baseline: float, cost: float) -> float:
    """How many times the baseline's cost a plan saves; NaN where it costs nothing."""
    return baseline / cost if cost > 0 else math.nan


def _check_match(plan: Plan, costs: CostModel) -> None:
    if len(costs.gradient) != plan.levels:
        raise InputError(
            f"`costs` must have the {plan.levels} levels of the plan; got {len(costs.gradient)}"
        )


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
