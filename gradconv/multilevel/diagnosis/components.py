"""Single components of the gradient: the one that fares worst, and checks of all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradconv.bootstrap import t_quantile
from gradconv.multilevel.diagnosis.level_table import ROUNDING, LevelTable, products
from gradconv.multilevel.diagnosis.sample_gradients import Array, SampleGradients

FALSE_ALARM = 0.0027  # of the checks of all components and levels together: three sigmas
DEAD = 1e-20  # of the largest variance: a component below it does not vary


@dataclass(frozen=True)
class Components:
    """What is largest over all components, level by level.

    Parameters
    ----------
    check, kurtosis : ndarray
        Largest values, shape ``(levels,)``; NaN where there is none.
    check_names, kurtosis_names : tuple of str
        The components that have them.
    limit : float
        Standard errors that a check of 1 stands for.
    worst : LevelTable
        Of the worst component, on the second half of the samples.
    ratio : float
        Multilevel cost over single-level cost for the worst component, on the first half.
    """

    check: Array
    kurtosis: Array
    check_names: tuple[str, ...]
    kurtosis_names: tuple[str, ...]
    limit: float
    worst: LevelTable
    ratio: float


class _Largest:
    """Running maximum over components, one a level."""

    def __init__(self, levels: int) -> None:
        self.values = np.full(levels, np.nan)
        self.places = np.zeros(levels, dtype=int)

    def take(self, level: int, values: Array, start: int) -> None:
        if not np.any(np.isfinite(values) | np.isposinf(values)):
            return
        place = int(np.nanargmax(values))
        if not self.values[level] >= values[place]:
            self.values[level], self.places[level] = values[place], start + place


def scan(gradients: SampleGradients, costs: Array, single: float) -> Components:
    """Go through all components.

    The check of a component is |E g_{l−1} on term l − 1 less that on term l| in standard errors,
    over a limit such that *any* of the components and levels exceeds 1 with probability 0.0027 at
    most (Bonferroni, Student's t): unlike the check of a norm it does not fade with the number of
    components.

    The worst component is the one for which multilevel gains least: with the largest
    (Σ_l √(V_l C_l))² / (V C), multilevel over single-level cost at equal variance. It weighs the
    variances of all differences as they count; the ratio of a single level's would not say what
    they cost. It is chosen on the first half of the samples and described on the second, as the
    largest of many estimates overstates itself.

    Parameters
    ----------
    gradients : SampleGradients
        Of the samples.
    costs : ndarray
        C_l of one sample of each term, shape ``(levels,)``.
    single : float
        C of one sample's gradient on the finest level.
    """
    levels, n = gradients.levels, gradients.samples
    half = slice(0, n // 2)
    tests = gradients.size * max(levels - 1, 1)
    # two samples of one law, if the sum telescopes: 2 (N − 1) degrees of freedom
    limit = t_quantile(1.0 - FALSE_ALARM / (2.0 * tests), 2.0 * (n - 1))
    checks, kurtoses = _Largest(levels), _Largest(levels)
    ratios = _Largest(1)
    top = max(
        float(np.var(gradients.read(levels - 1, piece)[0], axis=0).max())
        for piece in gradients.pieces(slice(0, gradients.size))
    )
    for piece in gradients.pieces(slice(0, gradients.size)):
        root = np.zeros(piece.stop - piece.start)
        below: tuple[Array, Array] | None = None
        for level in range(levels):
            fine, coarse = gradients.read(level, piece)
            difference = fine - coarse
            kurtoses.take(level, _kurtosis(difference), piece.start)
            mean = fine.mean(axis=0), fine.var(axis=0, ddof=1)
            if below is not None:
                other = coarse.mean(axis=0), coarse.var(axis=0, ddof=1)
                checks.take(level, _check(below, other, n, gradients.epsilon) / limit, piece.start)
            below = mean
            root += np.sqrt(np.var(difference[half], axis=0, ddof=1) * costs[level])
        spread = np.var(fine[half], axis=0, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(spread > DEAD * top, root**2 / (spread * single), np.nan)
        ratios.take(0, ratio, piece.start)
    index = int(ratios.places[0])
    columns = slice(index, index + 1)
    second = products(gradients, [columns], slice(n // 2, n))
    name = gradients.component(index)
    return Components(
        checks.values,
        kurtoses.values,
        tuple(gradients.component(int(i)) for i in checks.places),
        tuple(gradients.component(int(i)) for i in kurtoses.places),
        limit,
        LevelTable(name, "component", 1, tuple(second), gradients.epsilon),
        float(ratios.values[0]),
    )


def _kurtosis(values: Array) -> Array:
    centred = values - values.mean(axis=0)
    second = np.mean(centred**2, axis=0)
    rounding = (ROUNDING * np.finfo(float).eps * np.abs(values).max(axis=0)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(second > rounding, np.mean(centred**4, axis=0) / second**2, np.nan)


def _check(a: tuple[Array, Array], b: tuple[Array, Array], n: int, epsilon: float) -> Array:
    """|mean a − mean b| in standard errors; differences of rounding are none."""
    error = np.sqrt((a[1] + b[1]) / n)
    rounding = ROUNDING * epsilon * (np.abs(a[0]) + np.abs(b[0]))
    apart = np.abs(a[0] - b[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart > rounding, apart / np.maximum(error, rounding), 0.0)
