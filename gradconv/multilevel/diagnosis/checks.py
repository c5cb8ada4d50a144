"""What a diagnosis needs of its numbers and samples, and says before or after the work."""

from __future__ import annotations

import numpy as np

from gradconv.errors import InputError
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.evaluator import Evaluator
from gradconv.samplers import Sampler

SAMPLES = 64
LEAST = 4  # samples: two in each half


def shared_samples(given: int | None, sampler: Sampler) -> int:
    """Samples a term; finite data are shared out."""
    levels = len(sampler.hierarchy)
    if sampler.available == 1:
        raise InputError(
            "`data` must have random samples; all of these are alike, and the variance is zero "
            f"on every level, from level 0 (n={sampler.hierarchy.sizes[0]}) on"
        )
    if given is not None or sampler.available is None:
        return given or SAMPLES
    count = min(SAMPLES, sampler.available // levels)
    if count < LEAST:
        raise InputError(
            f"`data` must have at least {LEAST} samples for each of {levels} levels; "
            f"got {sampler.available} in all"
        )
    return count


def check_varies(whole: LevelTable, evaluator: Evaluator) -> None:
    """Refuse gradients that do not vary, or whose variance is infinite."""
    variances = whole.variance(0)[0]
    bad = np.flatnonzero(~np.isfinite(variances))
    if len(bad):
        raise InputError(
            f"`module` must have gradients of finite variance; got {variances[bad[0]]} on "
            f"{evaluator.where(int(bad[0]))}"
        )
    sizes = np.array([p.square[0] for p in whole.products])
    still = variances <= (32.0 * whole.epsilon) ** 2 * sizes
    if still[-1]:
        level = int(np.flatnonzero(still)[0])
        raise InputError(
            "`data` must make the gradient vary from sample to sample; its variance is zero on "
            f"{evaluator.where(level)}"
        )
