"""Pilots: moments of the terms, measured when that is due, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradconv.errors import InputError, check_whole, shortened
from gradconv.multilevel.allocation import Allocation, TermMoments
from gradconv.multilevel.costs.model import CostModel
from gradconv.multilevel.moments import Moments
from gradconv.multilevel.optimum import ControlWeights, control_weights, given_weights

NEVER = 2**62  # steps


class Pilots:
    """What an estimator knows of its terms, and when it is to be measured anew.

    Parameters
    ----------
    allocation : Allocation
        Samples of each term.
    costs : CostModel
        Cost of one sample's gradient on each level.
    control : None, "optimal" or sequence of float
        Weights of the coarse gradients, as in `MultilevelGradient`.
    samples : int
        Samples a term of a pilot.
    overhead : float
        Fraction of the steps' cost that pilots may take; 0 keeps the first one's moments.

    Attributes
    ----------
    moments : Moments or None
        Those at hand.
    control : ControlWeights
        The weights in use.

    Raises
    ------
    InputError
        If an argument breaks a rule above.
    """

    def __init__(
        self,
        allocation: Allocation,
        costs: CostModel,
        control: str | Sequence[float] | None,
        samples: int,
        overhead: float,
    ) -> None:
        check_whole("pilot", samples, 2)
        if isinstance(overhead, bool) or not isinstance(overhead, (int, float)) or overhead < 0:
            raise InputError(f"`overhead` must be a fraction >= 0; got {shortened(overhead)}")
        self.allocation, self.costs = allocation, costs
        self.samples, self.overhead = samples, float(overhead)
        self._adapts = control == "optimal"
        self.control = given_weights(None if self._adapts else control, len(costs.gradient))
        self.moments: Moments | None = None
        self._due = 0  # the step before which a pilot is due

    @property
    def needed(self) -> bool:
        """Whether the allocation or the weights need moments."""
        return self.allocation.needs_moments or self._adapts

    @property
    def terms(self) -> TermMoments | None:
        """Moments of the terms with the weights in use, if there are moments."""
        if self.moments is None:
            return None
        return TermMoments.weighted(self.moments, self.control.theta)

    @property
    def term_costs(self) -> np.ndarray:
        """C_l of one sample of each term: fine gradient, and coarse one unless its weight is 0."""
        gradient = np.asarray(self.costs.gradient)
        coarse = np.concatenate([[0.0], gradient[:-1]])
        return np.asarray(gradient + coarse * (self.control.theta != 0))

    @property
    def work(self) -> float:
        """Cost of one pilot."""
        return float(self.samples * self.costs.terms.sum())

    @property
    def interval(self) -> int:
        """Steps between pilots that keep their cost at most `overhead` of the steps'; 0: never."""
        if not self.needed or not self.overhead:
            return 0
        work = self.allocation.expected_cost(self.terms, self.term_costs)
        return max(1, int(np.ceil(self.work / (self.overhead * work))))

    def due(self, step: int) -> bool:
        """Whether moments are to be measured before a step."""
        return self.needed and step >= self._due

    def take(self, moments: Moments, step: int) -> None:
        """Use moments from a step on: weights are found from them, and the next pilot is set."""
        self.moments = moments
        if self._adapts:
            self.control = control_weights(
                moments, self.costs.terms, np.asarray(self.costs.gradient)
            )
        interval = self.interval
        self._due = step + interval if interval else NEVER

    def predicted_variance(self) -> float:
        """Variance of an estimate (trace of its covariance), from the moments at hand.

        Raises
        ------
        InputError
            If there are no moments.
        """
        terms = self.terms
        if terms is None:
            raise InputError("`moments` must be given or measured by a pilot first; got none")
        return self.allocation.predicted_variance(terms, self.term_costs)

    def state_dict(self) -> dict[str, Any]:
        """Moments, weights and when the next pilot is due, as plain values."""
        return {
            "due": self._due,
            "moments": None if self.moments is None else self.moments.to_dict(),
            "theta": self.control.theta.tolist(),
            "gain": self.control.gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises
        ------
        InputError
            If it is of another number of levels.
        KeyError, TypeError
            If it is nothing that `state_dict` gave.
        """
        moments = None if state["moments"] is None else Moments(**state["moments"])
        control = ControlWeights(np.asarray(state["theta"], dtype=float), float(state["gain"]))
        due, levels = int(state["due"]), len(self.costs.gradient)
        if control.theta.shape != (levels,):
            raise InputError(f"`state` must be of {levels} levels; got {len(control.theta)}")
        self.moments, self.control, self._due = moments, control, due
