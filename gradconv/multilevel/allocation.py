"""How many samples each term of a multilevel estimator gets, and what each of them counts.

An allotment has N_l samples a term and a factor for each; it is unbiased if the expected sum of
factors is 1 on every level. Moments that it follows from must come from other samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradconv.errors import InputError, check_positive, check_whole, shortened, unknown_name
from gradconv.multilevel.moments import Array, Moments
from gradconv.multilevel.optimum import optimal_counts, randomised_probabilities

ROUNDINGS = ("up", "random")


@dataclass(frozen=True)
class Allotment:
    """Samples of one step.

    Parameters
    ----------
    counts : tuple of int
        Samples of each term, coarse to fine.
    factors : tuple of float
        What each sample of a term counts: 1/N for a mean.
    """

    counts: tuple[int, ...]
    factors: tuple[float, ...]


@dataclass(frozen=True)
class TermMoments:
    """What an allocation sees of the terms, control weights included.

    Parameters
    ----------
    variances : ndarray
        V_l of each term, shape ``(levels,)``.
    mean_squares : ndarray
        Squared norm of each term's mean.
    total_mean_square : float
        Squared norm of the sum of the means.
    active : ndarray
        Whether a term has any weight: terms below a control weight of 0 have none.
    """

    variances: Array
    mean_squares: Array
    total_mean_square: float
    active: Array

    @classmethod
    def weighted(cls, moments: Moments, theta: Array) -> TermMoments:
        """Moments of the terms g_l − θ_l g_{l−1}, each times the weights of the levels above.

        Parameters
        ----------
        moments : Moments
            Of the gradients, whose law on a level is taken to be the same in both roles.
        theta : ndarray
            θ_l, shape ``(levels,)``; 1 for a plain sum.
        """
        above = levels_above(theta)
        fine = moments.fine_mean_square
        coarse = np.concatenate([[0.0], fine[:-1]])
        cross = 0.5 * (fine + coarse - moments.mean_square)
        squares = above**2 * np.maximum(fine - 2.0 * theta * cross + theta**2 * coarse, 0.0)
        squares[0] = above[0] ** 2 * max(float(fine[0]), 0.0)
        spread = above**2 * moments.variance(theta)
        return cls(spread, squares, max(float(fine[-1]), 0.0), above != 0)


def levels_above(theta: Array) -> Array:
    """Product of the control weights of all finer levels, shape ``(levels,)``: 1 on the finest."""
    return np.asarray(np.append(np.cumprod(np.asarray(theta, dtype=float)[:0:-1])[::-1], 1.0))


class Allocation(ABC):
    """A rule for the samples of a step."""

    @property
    def needs_moments(self) -> bool:
        """Whether it follows from moments, which a pilot estimates."""
        return False

    @abstractmethod
    def check(self, levels: int) -> None:
        """Raise an `InputError` if it does not fit the number of levels."""

    @abstractmethod
    def allot(
        self, terms: TermMoments | None, costs: Array, generator: np.random.Generator
    ) -> Allotment:
        """Samples of the next step.

        Parameters
        ----------
        terms : TermMoments or None
            Of a pilot, where the rule needs them.
        costs : ndarray
            Cost of one sample of each term, shape ``(levels,)``.
        generator : numpy.random.Generator
            Of what is drawn at random.
        """

    @abstractmethod
    def predicted_variance(self, terms: TermMoments, costs: Array) -> float:
        """Predicted variance of a step's gradient (trace of its covariance)."""

    @abstractmethod
    def expected_cost(self, terms: TermMoments | None, costs: Array) -> float:
        """Expected cost of a step, in the unit of `costs`."""


@dataclass(frozen=True)
class Fixed(Allocation):
    """The same numbers at every step.

    Parameters
    ----------
    counts : sequence of int
        Samples of each term, at least 1, coarse to fine: the paper's are (128, 64, 32, 16).

    Raises
    ------
    InputError
        If a number is not whole or below 1; the level is named.
    """

    counts: Sequence[int]

    def __post_init__(self) -> None:
        if isinstance(self.counts, str) or not isinstance(self.counts, Sequence):
            raise InputError(
                f"`allocation` counts must be whole numbers, coarse to fine; "
                f"got {shortened(self.counts)}"
            )
        for level, count in enumerate(self.counts):
            whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
            if not whole or count < 1:
                raise InputError(
                    f"`allocation` must give every term at least 1 sample; got {shortened(count)} "
                    f"on level {level}"
                )
        object.__setattr__(self, "counts", tuple(int(n) for n in self.counts))

    def check(self, levels: int) -> None:
        """One number a level."""
        if len(self.counts) != levels:
            raise InputError(
                f"`allocation` must have one number a level, {levels}, coarse to fine; "
                f"got {tuple(self.counts)}"
            )

    def allot(
        self, terms: TermMoments | None, costs: Array, generator: np.random.Generator
    ) -> Allotment:
        """Means over the numbers given."""
        return Allotment(tuple(self.counts), tuple(1.0 / n for n in self.counts))

    def predicted_variance(self, terms: TermMoments, costs: Array) -> float:
        """Σ V_l/N_l."""
        return float(np.sum(terms.variances / np.asarray(self.counts)))

    def expected_cost(self, terms: TermMoments | None, costs: Array) -> float:
        """Σ N_l C_l over the terms that have any weight."""
        return float(np.sum(np.asarray(self.counts) * costs * _active(terms)))


@dataclass(frozen=True)
class Optimal(Allocation):
    """N_l ∝ (V_l/C_l)^{1/2}, for a variance or for a budget a step.

    Numbers are rounded without bias. "up" takes the next whole number: any numbers that do not
    depend on the step's own samples leave the mean of a term unbiased. "random" takes one of the
    two whole numbers next to N_l such that the expected number is N_l, which keeps a budget on
    average; below 1, a term has a sample with probability N_l, which then counts 1/N_l.

    Parameters
    ----------
    variance : float, optional
        Target variance of a step's gradient. Exactly one of the two is given.
    budget : float, optional
        Cost of a step, in the unit of the costs.
    rounding : {"up", "random"}, optional
        By default "up" for a variance and "random" for a budget.

    Raises
    ------
    InputError
        If a rule above is broken.
    """

    variance: float | None = None
    budget: float | None = None
    rounding: str | None = None

    def __post_init__(self) -> None:
        if (self.variance is None) == (self.budget is None):
            got = "neither" if self.budget is None else "both"
            raise InputError(f"`variance` or `budget`: exactly one must be given; got {got}")
        for name in ("variance", "budget"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.rounding is None:
            object.__setattr__(self, "rounding", "random" if self.budget is not None else "up")
        if self.rounding not in ROUNDINGS:
            raise unknown_name("rounding", self.rounding, ROUNDINGS)

    @property
    def needs_moments(self) -> bool:
        """Always."""
        return True

    def check(self, levels: int) -> None:
        """Any number of levels will do."""

    def numbers(self, terms: TermMoments | None, costs: Array) -> Array:
        """N_l before they are rounded, shape ``(levels,)``."""
        assert terms is not None
        found = np.zeros(len(costs))
        found[terms.active] = optimal_counts(
            terms.variances[terms.active],
            costs[terms.active],
            variance=self.variance,
            budget=self.budget,
        )
        return found

    def allot(
        self, terms: TermMoments | None, costs: Array, generator: np.random.Generator
    ) -> Allotment:
        """Round the optimal numbers."""
        wanted = self.numbers(terms, costs)
        if self.rounding == "up":
            counts = np.ceil(wanted).astype(int)
            return Allotment(tuple(int(n) for n in counts), tuple(_inverse(counts)))
        below = np.floor(wanted)
        counts = (below + (generator.random(len(wanted)) < wanted - below)).astype(int)
        factors = np.where(wanted < 1, _inverse(wanted), _inverse(counts))
        return Allotment(tuple(int(n) for n in counts), tuple(float(f) for f in factors))

    def predicted_variance(self, terms: TermMoments, costs: Array) -> float:
        """Σ V_l E[1/N_l]; a term below one sample adds what its absence makes."""
        wanted = self.numbers(terms, costs)
        if self.rounding == "up":
            return float(np.sum(terms.variances * _inverse(np.ceil(wanted))))
        below = np.floor(wanted)
        rest = wanted - below
        mean_inverse = (1.0 - rest) * _inverse(below) + rest / (below + 1.0)
        seldom = (wanted < 1) & terms.active
        inverse = np.where(seldom, _inverse(wanted), mean_inverse)
        absent = np.where(seldom, (_inverse(wanted) - 1.0) * terms.mean_squares, 0.0)
        return float(np.sum(terms.variances * inverse + absent))

    def expected_cost(self, terms: TermMoments | None, costs: Array) -> float:
        """Σ E[N_l] C_l."""
        wanted = self.numbers(terms, costs)
        return float(np.sum((np.ceil(wanted) if self.rounding == "up" else wanted) * costs))


def _active(terms: TermMoments | None) -> Array | float:
    """1 where a term has any weight, 0 where none; 1 for all if nothing is known."""
    return 1.0 if terms is None else np.asarray(terms.active, dtype=float)


def _inverse(numbers: Array) -> Array:
    """1/N, and 0 where there are no samples."""
    return np.asarray(np.divide(1.0, numbers, out=np.zeros(len(numbers)), where=numbers > 0))


@dataclass(frozen=True)
class Randomised(Allocation):
    """Single-term estimates: each draw takes one level at random and divides by its probability.

    Parameters
    ----------
    draws : int
        Independent draws a step, at least 1.
    probabilities : sequence of float, optional
        Of each level, > 0, adding up to 1; by default ∝ (E‖d_l‖²/C_l)^{1/2}, from a pilot.

    Raises
    ------
    InputError
        If a rule above is broken.

    References
    ----------
    C. Rhee, P. W. Glynn, "Unbiased estimation with square root convergence for SDE models",
    Operations Research 63, 2015 (the single-term estimator).
    """

    draws: int
    probabilities: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_whole("draws", self.draws, 1)
        if self.probabilities is None:
            return
        try:
            p = np.asarray(self.probabilities, dtype=float)
        except (TypeError, ValueError):
            p = np.empty((0, 0))
        if p.ndim != 1 or not np.all(p > 0) or abs(float(np.sum(p)) - 1.0) > 1e-9:
            raise InputError(
                "`probabilities` must be > 0 on every level and add up to 1; "
                f"got {shortened(self.probabilities)}"
            )
        object.__setattr__(self, "probabilities", tuple(float(v) for v in p))

    @property
    def needs_moments(self) -> bool:
        """Unless the probabilities are given."""
        return self.probabilities is None

    def check(self, levels: int) -> None:
        """One probability a level."""
        if self.probabilities is not None and len(self.probabilities) != levels:
            raise InputError(
                f"`probabilities` must have one value a level, {levels}; "
                f"got {len(self.probabilities)}"
            )

    def chances(self, terms: TermMoments | None, costs: Array) -> Array:
        """p_l, shape ``(levels,)``."""
        if self.probabilities is not None:
            return np.asarray(self.probabilities)
        assert terms is not None
        found = np.zeros(len(costs))
        second = terms.variances + terms.mean_squares
        found[terms.active] = randomised_probabilities(second[terms.active], costs[terms.active])
        return found

    def allot(
        self, terms: TermMoments | None, costs: Array, generator: np.random.Generator
    ) -> Allotment:
        """How often each level was drawn."""
        p = self.chances(terms, costs)
        counts = generator.multinomial(self.draws, p / p.sum())
        factors = _inverse(self.draws * p)
        return Allotment(tuple(int(n) for n in counts), tuple(float(f) for f in factors))

    def predicted_variance(self, terms: TermMoments, costs: Array) -> float:
        """(Σ E‖d_l‖²/p_l − ‖E g_L‖²) a draw."""
        p = self.chances(terms, costs)
        second = np.sum((terms.variances + terms.mean_squares) * _inverse(p))
        return float(second - terms.total_mean_square) / self.draws

    def expected_cost(self, terms: TermMoments | None, costs: Array) -> float:
        """Expected cost of the draws."""
        return float(self.draws * np.sum(self.chances(terms, costs) * costs * _active(terms)))
