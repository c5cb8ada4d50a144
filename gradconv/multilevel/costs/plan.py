"""Training plans: how many samples meet which meshes at each step.

Levels are numbered from the coarsest, 0, to the finest, L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

from gradconv.errors import MOST, InputError, check_whole, shortened
from gradconv.mesh import MAX_LEVEL


@dataclass(frozen=True)
class Term:
    """Samples whose gradients are taken on one level, or on two.

    Parameters
    ----------
    level : int
        Fine level ℓ.
    samples : int
        Samples, N_ℓ.
    corrects : bool
        Whether each sample's gradient on level ℓ − 1 is taken too, and subtracted.
    """

    level: int
    samples: int
    corrects: bool

    def __post_init__(self) -> None:
        check_whole("level", self.level, 0, MAX_LEVEL)
        check_whole("samples", self.samples, 1)
        if self.corrects and self.level == 0:
            raise InputError("`corrects` must be False on level 0, which has no coarser one")

    @property
    def coarsest(self) -> int:
        """Coarsest level that it computes on."""
        return self.level - 1 if self.corrects else self.level


@dataclass(frozen=True)
class Stage:
    """Steps that are all alike.

    Parameters
    ----------
    steps : int
        Steps.
    terms : tuple of Term
        What one step computes.
    """

    steps: int
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1)
        if not self.terms:
            raise InputError("`terms` of a stage must be at least one; got none")

    @property
    def finest(self) -> int:
        """Finest level of a step."""
        return max(term.level for term in self.terms)

    @property
    def samples(self) -> int:
        """Samples drawn a step."""
        return sum(term.samples for term in self.terms)


@dataclass(frozen=True)
class Plan:
    """Stages, one after the other.

    Parameters
    ----------
    name : str
        Name in tables.
    levels : int
        Levels of the hierarchy, L + 1; the work unit and the noise may belong to a finer mesh than
        any that a stage computes on.
    stages : tuple of Stage
        In the order in which they run.
    """

    name: str
    levels: int
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        check_levels(self.levels)
        if not self.stages:
            raise InputError("`stages` of a plan must be at least one; got none")
        finest = max(stage.finest for stage in self.stages)
        if finest >= self.levels:
            raise InputError(
                f"`levels` must hold all levels of the stages; got {self.levels}, and a stage "
                f"on level {finest}"
            )

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def paper_counts(levels: int) -> tuple[int, ...]:
    """Samples of the paper's multilevel step, coarse to fine: 16 on the finest level, doubling.

    References
    ----------
    "Multiscale Training of Convolutional Neural Networks", arXiv 2501.12739.
    """
    check_levels(levels)
    return tuple(16 << (levels - 1 - level) for level in range(levels))


def halved(steps: int, levels: int) -> tuple[int, ...]:
    """Steps of the paper's stages: all on the coarsest level, half (rounded up) on each finer."""
    check_whole("steps", steps, 1)
    return tuple(-(-steps // 2**level) for level in range(levels))


def single(steps: int, batch: int, levels: int) -> Plan:
    """All samples on the finest mesh: `batch` of them a step."""
    check_levels(levels)
    check_whole("batch", batch, 1)
    return Plan("single", levels, (Stage(steps, (Term(levels - 1, batch, False),)),))


def multiscale(steps: int, counts: Sequence[int]) -> Plan:
    """Every step is a multilevel estimate of the finest gradient.

    Parameters
    ----------
    steps : int
        Steps.
    counts : sequence of int
        Samples N_0 … N_L of the terms, coarse to fine.
    """
    counts = check_wholes("counts", counts)
    return Plan("multiscale", len(counts), (Stage(steps, _telescope(counts)),))


def full_multiscale(stages: Sequence[int], counts: Sequence[int]) -> Plan:
    """Train from coarse to fine: stage ℓ is multiscale training on the levels 0 … ℓ.

    Parameters
    ----------
    stages : sequence of int
        Steps of each stage, coarse to fine.
    counts : sequence of int
        Samples N_0 … N_L, coarse to fine; a stage uses those of its levels.
    """
    counts = check_wholes("counts", counts)
    steps = check_wholes("stages", stages, len(counts))
    found = (Stage(s, _telescope(counts[: level + 1])) for level, s in enumerate(steps))
    return Plan("full-multiscale", len(counts), tuple(found))


def progressive(stages: Sequence[int], batch: int | Sequence[int]) -> Plan:
    """Progressive resizing: single-scale steps on meshes that grow.

    Parameters
    ----------
    stages : sequence of int
        Steps on each mesh, coarse to fine.
    batch : int or sequence of int
        Samples a step, the same for all meshes or one number each, coarse to fine.
    """
    steps = check_wholes("stages", stages)
    each = (batch,) * len(steps) if isinstance(batch, Integral) else batch
    batches = check_wholes("batch", each, len(steps))
    found = (
        Stage(s, (Term(level, b, False),))
        for level, (s, b) in enumerate(zip(steps, batches, strict=True))
    )
    return Plan("progressive", len(steps), tuple(found))


def _telescope(counts: Sequence[int]) -> tuple[Term, ...]:
    return tuple(Term(level, n, corrects=level > 0) for level, n in enumerate(counts))


def pass_size(microbatch: int | None, below: int, dim: int) -> int | None:
    """Most samples of a pass on the mesh `below` levels under the finest; None: no bound.

    A pass has at most the cells of `microbatch` samples of the finest mesh, so that coarse passes,
    which are small, are not cut into smaller ones.
    """
    if microbatch is None:
        return None
    check_whole("microbatch", microbatch, 1)
    return int(microbatch) * 2 ** (dim * below)


def check_levels(levels: object) -> None:
    """Refuse a number of levels that no hierarchy has."""
    check_whole("levels", levels, 1, MAX_LEVEL + 1)


def check_wholes(argument: str, values: object, length: int | None = None) -> tuple[int, ...]:
    """Check positive whole numbers, one a level, coarse to fine."""
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise InputError(
            f"`{argument}` must hold a whole number for each level, coarse to fine; "
            f"got {shortened(values)}"
        )
    found = tuple(values)
    if not 1 <= len(found) <= MAX_LEVEL + 1 or (length is not None and len(found) != length):
        rule = f"{length}" if length is not None else f"1 to {MAX_LEVEL + 1}"
        raise InputError(
            f"`{argument}` must hold {rule} whole numbers, one for each level from coarse to "
            f"fine; got {len(found)}: {shortened(found)}"
        )
    for level, value in enumerate(found):
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or not 1 <= value <= MOST:
            raise InputError(
                f"`{argument}` must be whole numbers of at least 1, coarse to fine; "
                f"got {shortened(value)} on level {level}"
            )
    return tuple(int(v) for v in found)
