"""Plans scaled to a budget: so much work, so many operations, or so long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradconv.errors import MOST, InputError, check_positive, shortened, unknown_name
from gradconv.train.strategies.base import Leg

UNITS = ("work", "flops", "seconds")
ROUNDING = 1e-9  # sums of costs and shares are rounded


@dataclass(frozen=True)
class Budget:
    """What a plan may cost.

    Parameters
    ----------
    unit : {"work", "flops", "seconds"}
        Work units (one sample's gradient on the finest mesh is 1), operations, or seconds.
    amount : float
        Positive and finite.

    Raises
    ------
    InputError
        If an argument breaks a rule above.

    Examples
    --------
    >>> Budget.parse("work:28750")
    Budget(unit='work', amount=28750.0)
    """

    unit: str
    amount: float

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown_name("budget", self.unit, UNITS)
        object.__setattr__(self, "amount", check_positive("budget", self.amount))

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``work:28750``, ``flops:1e13`` or ``seconds:60``.

        Raises
        ------
        InputError
            If it is none of these.
        """
        rule = "`budget` must be work:N, flops:N or seconds:N"
        if not isinstance(text, str):
            raise InputError(f"{rule}; got {shortened(text)}")
        unit, colon, amount = (part.strip() for part in text.partition(":"))
        if unit not in UNITS:
            raise unknown_name("budget", unit, UNITS)
        try:
            number = float(amount)
        except ValueError:
            number = math.nan
        if not colon or not math.isfinite(number) or number <= 0:
            raise InputError(f"{rule} with N positive and finite; got {shortened(text)}")
        return cls(unit, number)


def fit_to_budget(
    legs: Sequence[Leg], cost_of_step: Sequence[float], budget: float
) -> tuple[Leg, ...]:
    """Scale the steps of legs so that they cost what a budget allows.

    All legs are scaled by one factor, and those that come to less than a step take one. Steps are
    rounded down; then legs, the costliest first, are rounded up as long as it fits. So every leg
    is within a step of its share, and what is left of the budget is less than a step of any leg
    that is not rounded up.

    Parameters
    ----------
    legs : sequence of Leg
        The plan.
    cost_of_step : sequence of float
        Of one step of each leg, in the budget's unit.
    budget : float
        It is not exceeded, but for rounding (1e-9 of it).

    Returns
    -------
    tuple of Leg
        The same but for their steps.

    Raises
    ------
    InputError
        If one step of every leg is above the budget, or an argument is not positive and finite.
    """
    legs = tuple(legs)
    if not legs or len(cost_of_step) != len(legs):
        raise InputError(
            f"`cost_of_step` must hold a cost for each of {len(legs)} legs, of which there is at "
            f"least one; got {len(cost_of_step)}"
        )
    costs = [check_positive("cost_of_step", cost) for cost in cost_of_step]
    room = check_positive("budget", budget) * (1 + ROUNDING)
    if sum(costs) > room:
        raise InputError(
            f"`budget` must pay for a step of each leg, {sum(costs):.6g}; got {budget:.6g}"
        )
    shares = _shares([leg.steps for leg in legs], costs, float(budget))
    if max(shares) > MOST:
        raise InputError(
            f"`budget` must not ask for more than {MOST} steps a leg; got {budget:.6g}, which is "
            f"{max(shares):.3g}"
        )
    steps = [math.floor(share) for share in shares]
    spent = math.fsum(n * cost for n, cost in zip(steps, costs, strict=True))
    for i in sorted(range(len(legs)), key=lambda i: -costs[i]):
        if steps[i] < shares[i] - ROUNDING and spent + costs[i] <= room:
            steps[i] += 1
            spent += costs[i]
    return tuple(replace(leg, steps=n) for leg, n in zip(legs, steps, strict=True))


def _shares(steps: Sequence[int], costs: Sequence[float], budget: float) -> list[float]:
    """Steps in proportion, not rounded, that cost the budget; none less than one.

    Legs that would come to less than one step take one, and the others share what is left: fewer
    steps, by which others may come to less than one.
    """
    ones: set[int] = set()
    while len(ones) < len(steps):
        left = budget - math.fsum(costs[i] for i in ones)
        rest = math.fsum(
            n * c for i, (n, c) in enumerate(zip(steps, costs, strict=True)) if i not in ones
        )
        factor = left / rest
        short = {i for i, n in enumerate(steps) if i not in ones and n * factor < 1}
        if not short:
            return [1.0 if i in ones else n * factor for i, n in enumerate(steps)]
        ones |= short
    return [1.0] * len(steps)
