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
SECOND_ORDER = 2.0
"""Log-correction left out of a curved fit, in squares of the fitted one: log(1 + z) leaves 1/2."""
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
        self._curved: dict[int, tuple[Array, Array]] = {}

    def noise(self, functional: Array) -> float:
        """Standard error of a linear functional of the log-values, rounding included."""
        return float(np.sqrt(max(0.0, float(functional @ self.total @ functional))))

    def slope(self, start: int, stop: int | None = None) -> Array:
        """Functional on log-values whose result is the order over levels start..stop-1."""
        levels = slice(start, len(self.h) if stop is None else stop)
        x = self.x[levels]
        return self._functionals(levels, np.ones_like(x), x - x.mean())[1]

    def curved(self, start: int) -> tuple[Array, Array]:
        """Functionals on log-values of the fit log C + order log h + b h / h[start] from `start`.

        The first gives the order, the limit to which pairwise orders tend when the first
        correction is of relative size h; the second gives b, that correction at `start`.
        """
        if start not in self._curved:
            levels = slice(start, len(self.h))
            x = self.x[levels]
            rows = self._functionals(levels, np.ones_like(x), x - x.mean(), np.exp(x - x[0]))
            self._curved[start] = rows[1], rows[2]
        return self._curved[start]

    def _functionals(self, levels: slice, *columns: Array) -> Array:
        root = np.sqrt(self.weights[levels] / self.weights[levels].max())
        rows = np.zeros((len(columns), len(self.y)))
        rows[:, levels] = np.linalg.pinv(np.stack(columns, axis=1) * root[:, None]) * root
        return rows

    def neglected(self, start: int) -> float:
        """Bound on the bias of a curved order, by what follows its first correction."""
        order, bend = self.curved(start)
        square = (float(bend @ self.y) * np.exp(self.x - self.x[start])) ** 2
        return float(SECOND_ORDER * abs(order @ square))

    def curved_start(self, quantile: float) -> int:
        """First level of the curved fit that has the shortest interval."""

        def width(start: int) -> float:
            return quantile * self.noise(self.curved(start)[0]) + self.neglected(start)

        return min(range(len(self.h) - MIN_LEVELS + 1), key=width)

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
    """Order and coefficient of a window, with what makes up its interval."""

    order: float
    extrapolated: float  # order of the curved fit of the same window
    coefficient: float
    sampling: tuple[float, float]
    model: float
    curved_order: float  # of the window on which its interval is shortest
    curved_sampling: tuple[float, float]
    neglected: float
    strictness: float  # factor from the distances shown to those behind a verdict

    def interval(self, strictness: float = 1.0, safety: float = 1.0) -> tuple[float, float]:
        """Hull of the straight and the curved interval, sampling and model parts scaled."""
        straight, curved = safety * self.model, safety * self.neglected
        return (
            min(
                self.order - strictness * self.sampling[0] - straight,
                self.curved_order - strictness * self.curved_sampling[0] - curved,
            ),
            max(
                self.order + strictness * self.sampling[1] + straight,
                self.curved_order + strictness * self.curved_sampling[1] + curved,
            ),
        )


def fit_window(
    run: LevelRun, start: int, confidence: float, resamples: int, seed: int
) -> WindowFit:
    """Fit the levels from `start` on; the bootstrap gives the sampling part of the interval."""
    functional = run.slope(start)
    order = float(functional @ run.y)
    weights = run.weights[start:] / run.weights[start:].sum()
    coefficient = float(np.exp(weights @ (run.y[start:] - order * run.x[start:])))
    dof = run.sample.dof
    shown = t_quantile(0.5 + confidence / 2, dof)
    strict = t_quantile(0.5 + VERDICT_CONFIDENCE / 2, dof)
    bent = run.curved_start(shown)
    curved = run.curved(bent)[0]

    def distances(row: Array, first: int) -> tuple[float, float]:
        levels = slice(first, None)
        return studentised_distances(
            run.sample.take(levels), row[levels], confidence, resamples, seed
        )

    return WindowFit(
        order=order,
        extrapolated=float(run.curved(start)[0] @ run.y),
        coefficient=coefficient,
        sampling=distances(functional, start),
        model=_model_term(run, start, functional),
        curved_order=float(curved @ run.y),
        curved_sampling=distances(curved, bent),
        neglected=run.neglected(bent),
        strictness=max(1.0, strict / shown),
    )


def _model_term(run: LevelRun, start: int, functional: Array) -> float:
    """Half-width from the choice of window: the largest significant shift, plus rounding."""
    last = len(run.h)
    others = [run.curved(start)[0], run.slope(start + 1), run.slope(start, last - 1)]
    # The finest levels alone show corrections of mixed size and sign.
    others.append(run.curved(last - MIN_LEVELS)[0])
    if start > 0:
        # A level left out shows the correction at its largest, where noise hides it least.
        others.append(run.curved(start - 1)[0])
    unexplained = max(_excess(run, functional - other) for other in others)
    return float(MODEL_SAFETY * unexplained + np.abs(functional) @ run.rounding)


def _excess(run: LevelRun, shift: Array) -> float:
    """Part of a shift of the order beyond 3 sigma, in quadrature."""
    size, noise = float(shift @ run.y), run.noise(shift)
    return float(np.sqrt(max(0.0, size**2 - (run.critical * noise) ** 2))) if noise else abs(size)
