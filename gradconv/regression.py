"""The fit of one window: weighted least squares in log-log, its sampling part and model part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradconv.bootstrap import Array, Sample, studentised_distances, t_quantile

VERDICT_CONFIDENCE = 0.999
"""Confidence behind a verdict, stricter than the interval shown, so that few are wrong."""
SETTLED = 0.01
"""Pairwise orders that differ by less than this times max(1, |order|) have settled."""
SIGNIFICANT = 0.99865
"""One-sided level (3 sigma) at which a pairwise order departs from others beyond sampling."""
MODEL_SAFETY = 1.25
"""Factor on the extrapolation to h -> 0, which is exact for a first correction of size h."""
MIN_LEVELS = 3
"""Fewest values in a fit."""

_WEIGHT_FLOOR = 0.05  # relative error added to all levels: exact ones must not rule the fit


class LevelRun:
    """Usable levels: log-values, their covariance and weights, pairwise orders."""

    def __init__(self, h: Array, sample: Sample, floor: Array) -> None:
        self.h, self.sample = h, sample
        self.x, self.y = np.log(h), np.log(sample.values)
        self.covariance = sample.log_covariance()
        # A floor is a bound on an unknown error, treated as independent from level to level.
        self.rounding = floor / sample.values
        self.total = self.covariance + np.diag(self.rounding**2)
        variance = np.diag(self.total)
        # The median damps weights that differ only because variances are themselves estimated.
        self.weights = 1.0 / (variance + _WEIGHT_FLOOR**2 + np.median(np.diag(self.covariance)))
        self.critical = t_quantile(SIGNIFICANT, sample.dof)
        steps = np.diff(self.x)
        self.differences = np.diff(np.eye(len(h)), axis=0) / steps[:, None]  # (L-1, L)
        self.orders = self.differences @ self.y

    def noise(self, functional: Array) -> float:
        """Standard error of a linear functional of the log-values, rounding included."""
        return float(np.sqrt(max(0.0, float(functional @ self.total @ functional))))

    def slope(self, start: int, stop: int | None = None, curved: bool = False) -> Array:
        """Functional on log-values whose result is the order over levels start..stop-1.

        With `curved` the model is log C + order log h + a h: its order is the limit to which
        pairwise orders tend when the first correction is of relative size h.
        """
        stop = len(self.h) if stop is None else stop
        x = self.x[start:stop]
        columns = [np.ones_like(x), x - x.mean()]
        if curved:
            columns.append(np.exp(x - x[0]))
        root = np.sqrt(self.weights[start:stop] / self.weights[start:stop].max())
        functional = np.zeros_like(self.y)
        functional[start:stop] = np.linalg.pinv(np.stack(columns, axis=1) * root[:, None])[1] * root
        return functional

    def settled_start(self) -> int:
        """First level of the longest window whose pairwise orders agree with the finer ones."""
        start = len(self.h) - MIN_LEVELS
        while start > 0:
            finer = self.slope(start)
            departure = self.differences[start - 1] - finer
            tolerance = SETTLED * max(1.0, abs(float(finer @ self.y)))
            limit = max(tolerance, self.critical * self.noise(departure))
            if abs(float(departure @ self.y)) > limit:
                break
            start -= 1
        return start


@dataclass(frozen=True)
class WindowFit:
    """Order and coefficient of a window, with the distances that make up its interval."""

    order: float
    extrapolated: float
    coefficient: float
    below: float
    above: float
    model: float
    strictness: float  # factor from the distances shown to those behind a verdict


def fit_window(
    run: LevelRun, start: int, confidence: float, resamples: int, seed: int
) -> WindowFit:
    """Fit the levels from `start` on; the bootstrap gives the sampling part of the interval."""
    functional = run.slope(start)
    order = float(functional @ run.y)
    weights = run.weights[start:] / run.weights[start:].sum()
    coefficient = float(np.exp(weights @ (run.y[start:] - order * run.x[start:])))
    below, above = studentised_distances(
        run.sample.take(slice(start, None)), functional[start:], confidence, resamples, seed
    )
    dof = run.sample.dof
    shown = t_quantile(0.5 + confidence / 2, dof)
    strict = t_quantile(0.5 + VERDICT_CONFIDENCE / 2, dof)
    return WindowFit(
        order=order,
        extrapolated=float(run.slope(start, curved=True) @ run.y),
        coefficient=coefficient,
        below=below,
        above=above,
        model=_model_term(run, start, functional),
        strictness=max(1.0, strict / shown),
    )


def _model_term(run: LevelRun, start: int, functional: Array) -> float:
    """Half-width from the choice of window: the largest unexplained shift, plus rounding."""
    last = len(run.h)
    shifts = [functional - run.slope(start, curved=True)]
    if start > 0:
        # A level left out shows the correction at its largest, where noise hides it least.
        shifts.append(functional - run.slope(start - 1, curved=True))
    shifts += [functional - run.slope(start + 1), functional - run.slope(start, last - 1)]
    # A squared shift exceeds the true one by its sampling variance on average; with the variance
    # itself estimated, by E t^2 = dof / (dof - 2) of them.
    dof = run.sample.dof
    explained = 1.0 if np.isinf(dof) else np.sqrt(dof / (dof - 2)) if dof > 2 else np.inf
    unexplained = [_excess(run, shift, explained) for shift in shifts]
    # The finest levels alone show corrections of mixed size and sign; noise hides them so well
    # that only what exceeds 3 sigma counts.
    finest = functional - run.slope(last - MIN_LEVELS, curved=True)
    unexplained.append(_excess(run, finest, run.critical))
    return float(MODEL_SAFETY * max(unexplained) + np.abs(functional) @ run.rounding)


def _excess(run: LevelRun, shift: Array, explained: float) -> float:
    """Part of a shift of the order beyond so many standard errors, in quadrature."""
    size, noise = float(shift @ run.y), run.noise(shift)
    return float(np.sqrt(max(0.0, size**2 - (explained * noise) ** 2))) if noise else abs(size)
