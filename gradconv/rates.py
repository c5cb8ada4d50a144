"""Signed orders of convergence: fit q(h) = C h^order with an interval, a window and a verdict.

The order keeps its sign: a negative one is divergence. The interval has a sampling part, which
resamples whole paths, and a model part: how far the order would still move if the window went
on towards fine levels, or lost the level at either end. Only the part of such a shift that
sampling does not explain counts, so that a noise-free fit has an honest width and a noisy power
law is not charged for its noise twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradconv.bootstrap import (
    Array,
    Sample,
    checked,
    floats,
    sample_from,
    studentised_distances,
    t_quantile,
)
from gradconv.errors import InputError

STALL_BAND = 0.1
"""Orders within this distance of 0 are no convergence: a level's halving gains under 7 %."""
VERDICT_CONFIDENCE = 0.999
"""Confidence behind a verdict, stricter than the interval shown, so that few are wrong."""
VERDICT_SAFETY = 1.75
"""Factor on the model term behind a verdict, lest c + h pass for convergence on its way to c."""
SETTLED = 0.01
"""Pairwise orders that differ by less than this times max(1, |order|) have settled."""
SIGNIFICANT = 0.99865
"""One-sided level (3 sigma) at which a pairwise order departs from others beyond sampling."""
MODEL_SAFETY = 1.25
"""Factor on the extrapolation to h -> 0, which is exact for a first correction of size h."""
ALGEBRAIC_LIMIT = 4.0
"""Pairwise orders must pass this, still growing as a power of 1/h, to be called exponential."""
MIN_LEVELS = 3
"""Fewest values in a fit."""

_WEIGHT_FLOOR = 0.05  # relative error added to all levels: exact ones must not rule the fit
_ROUNDING = 1e-9  # differences of orders this small are rounding
_RESOLVED = 4.0  # a norm of vectors under this many standard errors is at its sampling floor

Kind = Literal["gap", "level"]
_NAMES = {
    "gap": {"+": "converges", "0": "stalls", "-": "diverges", "none": "exact"},
    "level": {"+": "vanishes", "0": "bounded", "-": "grows", "none": "vanishes"},
}


@dataclass(frozen=True)
class Rate:
    """Fit of q(h) = C h^order, with what it rests on.

    Attributes
    ----------
    order : float
        Signed order; nan without a fit, +inf (-inf) for decay (growth) faster than any power.
    interval : tuple of float
        Confidence interval of the order, sampling and model part together; nan without a fit.
    coefficient : float
        C, in units of the values over units of h to the order.
    window : tuple of int
        First and last index into h that the fit used, inclusive; (-1, -1) without a fit.
    pairwise : ndarray, shape (L - 1,)
        Signed orders between neighbours; nan where a value is at or under its floor.
    verdict : str
        For a gap: converges, stalls, diverges, exact or undecided. For a level norm: vanishes,
        bounded, grows or undecided.
    reason : str
        Which levels were left out and why, and why this verdict.
    statistical : float
        Half-width of the interval from sampling.
    model : float
        Half-width of the interval from the model: curvature, the choice of window, rounding.
    confidence : float
        Two-sided confidence of the interval.
    """

    order: float
    interval: tuple[float, float]
    coefficient: float
    window: tuple[int, int]
    pairwise: Array
    verdict: str
    reason: str
    statistical: float
    model: float
    confidence: float


def fit_rate(
    h: ArrayLike,
    values: ArrayLike | None = None,
    *,
    paths: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    power: float = 1.0,
    stderr: ArrayLike | None = None,
    floor: ArrayLike | None = None,
    kind: Kind = "gap",
    confidence: float = 0.95,
    resamples: int = 1999,
    seed: int = 0,
) -> Rate:
    """Fit the signed order of a quantity under mesh refinement, and judge it.

    Parameters
    ----------
    h : array_like, shape (L,)
        Mesh sizes > 0, strictly decreasing (coarse to fine), L >= 3.
    values : array_like, shape (L,), optional
        Values >= 0; exact unless `stderr` is given. Exactly one of `values`, `paths` is needed.
    paths : array_like, shape (R, L) or (R, L, p), optional
        Contributions of R >= 2 sample paths, each serving all levels. Scalars >= 0 have the
        value ``(offset + mean) ** power``; vectors the debiased norm of their mean.
    offset : array_like, shape (L,), optional
        Exact part >= 0 of the mean of scalar paths.
    power : float
        Exponent > 0 for scalar paths: 0.5 for an rms, 1 for a variance.
    stderr : array_like, shape (L,), optional
        Independent standard errors >= 0 of `values`.
    floor : float or array_like, shape (L,), optional
        Rounding floor >= 0: values at or under it cannot be told from zero.
    kind : {"gap", "level"}
        What the values are, which names the verdict.
    confidence : float
        Two-sided confidence of the interval, in (0, 1).
    resamples : int
        Bootstrap resamples, >= 99.
    seed : int
        Seed of the bootstrap, >= 0; equal inputs give equal results.

    Returns
    -------
    Rate

    Raises
    ------
    InputError
        If an argument breaks a rule above.

    Notes
    -----
    Weighted least squares of log q on log h. The halves of the interval add, rather than in
    quadrature: a bias is no random error, and a sum keeps the coverage when the bias is as large
    as its bound. Level means are compared on the log scale, where they are nearly normal.

    References
    ----------
    P. J. Roache, "Quantification of uncertainty in computational fluid dynamics", Annual Review
    of Fluid Mechanics 29, 1997 (pairwise orders, extrapolation as an error bound with a factor
    of safety). P. Hall, Annals of Statistics 16, 1988 (studentised bootstrap).
    """
    sizes = _checked_h(h)
    _check_options(kind, confidence, resamples, seed)
    sample = sample_from(values, paths, offset, power, stderr, len(sizes))
    floors = np.zeros(len(sizes))
    if floor is not None:
        bounds = floats("floor", floor)
        floors = checked(
            "floor", np.full(len(sizes), bounds) if not bounds.ndim else bounds, len(sizes)
        )
    names = _NAMES[kind]
    above = sample.values > floors
    pairwise = _pairwise(sizes, sample.values, above)
    # A debiased norm clipped at 0 is not known to be 0: its standard error is infinite.
    if not np.any(above) and np.all(sample.stderr <= floors):
        reason = "every value is at or under the rounding floor"
        return _no_fit(pairwise, names["none"], reason, confidence)
    usable, dropped = _usable(sample, above)
    if usable.stop - usable.start < MIN_LEVELS:
        reason = f"{dropped}fewer than {MIN_LEVELS} neighbouring levels are left above the floor"
        return _no_fit(pairwise, "undecided", reason, confidence)
    run = _Run(sizes[usable], sample.take(usable), floors[usable])
    tail = _exponential(run, floor_follows=usable.stop < len(sizes))
    if tail:
        return _faster_than_algebraic(run, usable, pairwise, names, dropped, tail, confidence)
    start = run.settled_start()
    if start:
        dropped += f"{_levels(usable.start, usable.start + start)} left out as pre-asymptotic; "
    fit = _fit(run, start, confidence, resamples, seed)
    word, why = _judge(run, start, fit)
    return Rate(
        order=fit.order,
        interval=(fit.order - fit.below - fit.model, fit.order + fit.above + fit.model),
        coefficient=fit.coefficient,
        window=(usable.start + start, usable.stop - 1),
        pairwise=pairwise,
        verdict=names.get(word, "undecided"),
        reason=dropped + why,
        statistical=(fit.below + fit.above) / 2,
        model=fit.model,
        confidence=confidence,
    )


class _Run:
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
class _Fit:
    order: float
    extrapolated: float
    coefficient: float
    below: float
    above: float
    model: float
    strictness: float  # factor from the distances shown to those behind a verdict


def _fit(run: _Run, start: int, confidence: float, resamples: int, seed: int) -> _Fit:
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
    return _Fit(
        order=order,
        extrapolated=float(run.slope(start, curved=True) @ run.y),
        coefficient=coefficient,
        below=below,
        above=above,
        model=_model_term(run, start, functional),
        strictness=max(1.0, strict / shown),
    )


def _model_term(run: _Run, start: int, functional: Array) -> float:
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


def _excess(run: _Run, shift: Array, explained: float) -> float:
    """Part of a shift of the order beyond so many standard errors, in quadrature."""
    size, noise = float(shift @ run.y), run.noise(shift)
    return float(np.sqrt(max(0.0, size**2 - (explained * noise) ** 2))) if noise else abs(size)


def _judge(run: _Run, start: int, fit: _Fit) -> tuple[str, str]:
    low = fit.order - fit.strictness * fit.below - VERDICT_SAFETY * fit.model
    high = fit.order + fit.strictness * fit.above + VERDICT_SAFETY * fit.model
    span = f"order {fit.order:.3g} with strict interval [{low:.3g}, {high:.3g}]"
    if _oscillates(run, fit.order):
        return "undecided", "pairwise orders alternate (oscillation), so there is no power law"
    if _drifts(run, start, fit.order):
        return "undecided", "no power law: pairwise orders move away from it ever faster"
    if low > -STALL_BAND and high < STALL_BAND:
        return "0", f"{span} lies within {STALL_BAND} of 0"
    if _levels_off(run, fit):
        return "0", f"pairwise orders fall to {fit.extrapolated:.2g}, within {STALL_BAND} of 0"
    if low > 0:
        return "+", f"{span} lies above 0"
    if high < 0:
        return "-", f"{span} lies below 0"
    return "undecided", f"interval too wide: {span} contains 0"


def _oscillates(run: _Run, order: float) -> bool:
    """Whether pairwise orders alternate, beyond noise, by as much as the order itself."""
    swings = np.diff(run.differences, axis=0)
    size = swings @ run.y
    limit = np.array([run.critical * run.noise(row) for row in swings])
    large = np.abs(size) > np.maximum(limit, max(STALL_BAND, abs(order)))
    if len(size) == 1:  # two orders: only opposite signs are worth the name
        first, second = run.orders
        return bool(large[0] and min(abs(first), abs(second)) > STALL_BAND and first * second < 0)
    alternating = size[-1] * size[-2] < 0
    return bool(alternating and large[-1] and large[-2])


def _drifts(run: _Run, start: int, order: float) -> bool:
    """Whether pairwise orders lose magnitude ever faster, so that finer levels may flip them."""
    swings = np.diff(run.differences, axis=0)
    if len(swings) < 2:
        return False
    previous, last = (swings @ run.y)[-2:]
    limit = max(2 * SETTLED * max(1.0, abs(order)), run.critical * run.noise(swings[-1]))
    return bool(
        last * order < 0
        and previous * last > -_ROUNDING
        and abs(last) > max(limit, 1.1 * abs(previous))
    )


def _levels_off(run: _Run, fit: _Fit) -> bool:
    """Whether pairwise orders shrink towards 0, as those of a quantity with a limit do."""
    first, last = run.orders[-2:]
    if first * last < -_ROUNDING or abs(last) >= abs(first):
        return False
    finest = t_quantile(0.5 + VERDICT_CONFIDENCE / 2, run.sample.dof) * run.noise(
        run.differences[-1]
    )
    return abs(last) + finest < STALL_BAND and abs(fit.extrapolated) + finest < STALL_BAND


def _exponential(run: _Run, floor_follows: bool) -> int:
    """Sign of the order if pairwise orders grow as a power of 1/h, as for exp(-c/h); else 0."""
    orders, swings = run.orders, np.diff(run.differences, axis=0)
    growth = swings @ run.y
    sign = int(np.sign(orders[-1]))
    if abs(orders[-1]) < ALGEBRAIC_LIMIT or growth[-1] * sign <= run.critical * run.noise(
        swings[-1]
    ):
        return 0
    # exp(-c/h) doubles on halving; 0.7 leaves room for a power of h in front of it.
    needed = np.exp(-0.7 * np.diff(run.x))[1:]
    if len(growth) > 1:
        steady = (
            growth[-2] * sign > SETTLED
            and orders[-1] / orders[-2] > 1.2
            and growth[-1] * sign >= needed[-1] * growth[-2] * sign
        )
        return sign if steady else 0
    doubling = orders[0] * sign > 0 and orders[1] * sign >= needed[-1] * orders[0] * sign
    # Three levels alone may be the onset of a high algebraic order.
    certain = floor_follows or abs(orders[-1]) > 1.5 * ALGEBRAIC_LIMIT
    return sign if doubling and certain else 0


def _faster_than_algebraic(
    run: _Run,
    usable: slice,
    pairwise: Array,
    names: dict[str, str],
    dropped: str,
    sign: int,
    confidence: float,
) -> Rate:
    finest = float(run.orders[-1])
    word = "decays" if sign > 0 else "grows"
    return Rate(
        order=sign * np.inf,
        interval=(finest, np.inf) if sign > 0 else (-np.inf, finest),
        coefficient=np.nan,
        window=(usable.start, usable.stop - 1),
        pairwise=pairwise,
        verdict=names["+" if sign > 0 else "-"],
        reason=f"{dropped}{word} faster than any power of h: pairwise orders reach {finest:.3g}"
        " and still grow as a power of 1/h",
        statistical=np.nan,
        model=np.nan,
        confidence=confidence,
    )


def _usable(sample: Sample, above: NDArray[np.bool_]) -> tuple[slice, str]:
    """Find the coarsest run of at least 3 neighbouring levels above both floors."""
    resolved = above.copy()
    if sample.vector or sample.paths is None:
        resolved &= sample.values >= _RESOLVED * np.where(
            np.isfinite(sample.stderr), sample.stderr, 0
        )
        resolved &= np.isfinite(sample.stderr)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], resolved.astype(int), [0]))))
    runs = [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    # Coarsest first: past a floor, finer values above it are chance.
    long = [run for run in runs if run.stop - run.start >= MIN_LEVELS]
    usable = long[0] if long else (runs[0] if runs else slice(0, 0))
    text = ""
    for first, stop in ((0, usable.start), (usable.stop, len(above))):
        if first < stop:
            hidden = above[first:stop] | np.isinf(sample.stderr[first:stop])
            why = "sampling" if np.all(hidden) else "rounding"
            text += f"{_levels(first, stop)} left out at or past the {why} floor; "
    return usable, text


def _levels(first: int, stop: int) -> str:
    return f"level {first}" if stop - first == 1 else f"levels {first} to {stop - 1}"


def _pairwise(h: Array, values: Array, above: NDArray[np.bool_]) -> Array:
    logs = np.full(len(h), np.nan)
    logs[above] = np.log(values[above])
    return np.asarray(np.diff(logs) / np.diff(np.log(h)))


def _no_fit(pairwise: Array, verdict: str, reason: str, confidence: float) -> Rate:
    nan = np.nan
    return Rate(nan, (nan, nan), nan, (-1, -1), pairwise, verdict, reason, nan, nan, confidence)


def _checked_h(h: ArrayLike) -> Array:
    sizes = floats("h", h)
    if sizes.ndim != 1 or len(sizes) < MIN_LEVELS:
        raise InputError(f"`h` must have at least {MIN_LEVELS} levels; got shape {sizes.shape}")
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise InputError(f"`h` must be finite and > 0; got {sizes.tolist()}")
    if not np.all(np.diff(sizes) < 0):
        raise InputError(f"`h` must decrease strictly, coarse to fine; got {sizes.tolist()}")
    return sizes


def _check_options(kind: str, confidence: float, resamples: int, seed: int) -> None:
    if kind not in _NAMES:
        raise InputError(f"`kind` must be one of gap, level; got {kind!r}")
    if not 0 < confidence < 1:
        raise InputError(f"`confidence` must lie in (0, 1); got {confidence!r}")
    if resamples < 99:
        raise InputError(f"`resamples` must be at least 99; got {resamples!r}")
    if seed < 0:
        raise InputError(f"`seed` must be >= 0; got {seed!r}")
