"""Second moments of the terms: what allocations, weights and predictions follow from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradconv.errors import InputError, shortened

Array = np.ndarray


@dataclass(frozen=True)
class Moments:
    """Moments of the gradients of single samples, level by level, coarse to fine.

    A variance of a gradient is the trace of its covariance matrix. On level 0 there is no coarse
    gradient: `coarse`, `cross` are 0 and the difference is the gradient itself.

    Parameters
    ----------
    fine : ndarray
        Variance of g_l, shape ``(levels,)``.
    coarse : ndarray
        Variance of g_{l−1} on the samples of term l.
    cross : ndarray
        Trace of the covariance of g_l and g_{l−1}.
    mean_square : ndarray
        Squared norm of the mean difference, sampling error taken off (may be negative).
    samples : int
        Samples a level that they were estimated from.
    fine_mean_square : ndarray
        Squared norm of the mean of g_l, sampling error taken off.
    """

    fine: Array
    coarse: Array
    cross: Array
    mean_square: Array
    samples: int
    fine_mean_square: Array

    def __post_init__(self) -> None:
        for name in ("fine", "coarse", "cross", "mean_square", "fine_mean_square"):
            value = np.asarray(getattr(self, name), dtype=float)
            object.__setattr__(self, name, value)
            if value.ndim != 1 or value.shape != np.shape(self.fine) or not len(value):
                raise InputError(f"`moments` {name} must have one value a level; got {value.shape}")
            if not np.all(np.isfinite(value)):
                level = int(np.flatnonzero(~np.isfinite(value))[0])
                raise InputError(
                    f"`moments` {name} must be finite; got {value[level]} on level {level}"
                )
            if name in ("fine", "coarse") and np.any(value < 0):
                level = int(np.flatnonzero(value < 0)[0])
                raise InputError(
                    f"`moments` {name} must be a variance >= 0; got {value[level]:.3g} on level "
                    f"{level}"
                )

    def __len__(self) -> int:
        """Return the number of levels."""
        return len(self.fine)

    @property
    def difference(self) -> Array:
        """V_l, variance of g_l − g_{l−1} (of g_0 on level 0), shape ``(levels,)``."""
        return self.variance(np.ones(len(self)))

    def variance(self, weights: Array) -> Array:
        """Variance of g_l − θ_l g_{l−1}, shape ``(levels,)``; the weight of level 0 has no part."""
        theta = np.asarray(weights, dtype=float)
        value = self.fine - 2.0 * theta * self.cross + theta**2 * self.coarse
        # exactly zero for identical gradients; rounding may leave a little below
        return np.maximum(value, 0.0)

    def to_dict(self) -> dict[str, list[float] | int]:
        """Return the fields as JSON values; `Moments(**fields)` makes them again."""
        return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in vars(self).items()}


class MomentSums:
    """Running moments of one term's fine and coarse gradients, by Welford's updates."""

    def __init__(self) -> None:
        self.count = 0
        self._means: list[Array] = []
        self._squares = np.zeros(3)  # fine, coarse, cross

    def add(self, fine: Array, coarse: Array | None) -> None:
        """Take in the gradients of one sample, flat vectors."""
        second = np.zeros_like(fine) if coarse is None else coarse
        if not self.count:
            self._means = [np.zeros_like(fine, dtype=float) for _ in range(2)]
        self.count += 1
        before = [vector - mean for vector, mean in zip((fine, second), self._means, strict=True)]
        for step, mean in zip(before, self._means, strict=True):
            mean += step / self.count
        after = [vector - mean for vector, mean in zip((fine, second), self._means, strict=True)]
        self._squares += [
            float(before[0] @ after[0]),
            float(before[1] @ after[1]),
            float(before[0] @ after[1]),
        ]

    @property
    def variances(self) -> tuple[float, float, float]:
        """Variance of fine and coarse, and their covariance (traces)."""
        fine, coarse, cross = self._squares / (self.count - 1)
        return float(fine), float(coarse), float(cross)

    @property
    def mean_squares(self) -> tuple[float, float]:
        """Debiased squared norms of the mean difference and of the fine mean."""
        fine, coarse, cross = self.variances
        gap = self._means[0] - self._means[1]
        error = max(fine - 2.0 * cross + coarse, 0.0) / self.count
        return (
            float(gap @ gap) - error,
            float(self._means[0] @ self._means[0]) - fine / self.count,
        )


def moments_of(sums: list[MomentSums]) -> Moments:
    """Moments of all levels, coarse to fine.

    Raises
    ------
    InputError
        If a level has fewer than two samples, or its moments are not finite.
    """
    for level, s in enumerate(sums):
        if s.count < 2:
            raise InputError(
                f"`pilot` must be at least 2 samples a level; got {shortened(s.count)} on level "
                f"{level}"
            )
    fine, coarse, cross = (np.array(v) for v in zip(*(s.variances for s in sums), strict=True))
    gaps, means = (np.array(v) for v in zip(*(s.mean_squares for s in sums), strict=True))
    return Moments(fine, coarse, cross, gaps, min(s.count for s in sums), means)
