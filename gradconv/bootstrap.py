"""Sampling error of level values: estimates, log-covariances, studentised intervals.

One sample path serves all levels, so the levels of a sweep are correlated. Everything here keeps
that correlation: covariances come from the influence of whole paths on the log-values, and the
bootstrap resamples whole paths, never levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from gradconv.errors import InputError

Array = NDArray[np.float64]

SMALL_SAMPLE = 8
"""Below this many paths a resample often repeats one path; Student's t replaces the bootstrap."""

_CHUNK = 1_000_000  # resamples x paths held at once: bounds the memory at large path counts
_CLIP = 0.05  # least debiased square in a resample, as a fraction of the plain square


@dataclass(frozen=True)
class Sample:
    """Values at the levels of a sweep and what is known of their sampling error.

    Parameters
    ----------
    values : ndarray, shape (L,)
        Estimated quantity at each level, >= 0.
    stderr : ndarray, shape (L,)
        Standard error of each value; 0 for exact values.
    paths : ndarray, shape (R, L, p), optional
        Contributions of the sample paths; absent for exact values or given standard errors.
    offset : ndarray, shape (L,)
        Exact part added to the mean of scalar paths.
    power : float
        Exponent applied to offset plus mean of scalar paths.
    vector : bool
        Whether a value is the debiased norm of the mean path rather than a power of its mean.
    """

    values: Array
    stderr: Array
    paths: Array | None = None
    offset: Array | None = None
    power: float = 1.0
    vector: bool = False

    @property
    def dof(self) -> float:
        """Degrees of freedom behind the standard errors (inf where they are given or zero)."""
        return np.inf if self.paths is None else float(self.paths.shape[0] - 1)

    def take(self, levels: slice) -> Sample:
        """Restrict the sample to a run of levels."""
        paths = None if self.paths is None else self.paths[:, levels]
        offset = None if self.offset is None else self.offset[levels]
        values, stderr = self.values[levels], self.stderr[levels]
        return Sample(values, stderr, paths, offset, self.power, self.vector)

    def log_covariance(self) -> Array:
        """Covariance of the log-values between levels, shape (L, L); values must be > 0."""
        if self.paths is None:
            return np.diag((self.stderr / self.values) ** 2)
        centred, mean = _centred(self.paths)
        influence = np.einsum("rlp,lp->rl", centred, self._gradient(mean[None], self._square())[0])
        count = self.paths.shape[0]
        return np.asarray(influence.T @ influence / (count * (count - 1.0)))

    def _square(self) -> Array:
        """Offset plus mean (scalar paths) or debiased square norm (vector paths), shape (1, L)."""
        exponent = 2.0 if self.vector else 1.0 / self.power
        return np.asarray(self.values[None, :] ** exponent)

    def _gradient(self, mean: Array, base: Array) -> Array:
        """Derivative of the log-values with respect to the path means, shape (B, L, p)."""
        scale = mean if self.vector else np.full_like(mean, self.power)
        return np.asarray(scale / base[..., None])


def sample_from(
    values: ArrayLike | None,
    paths: ArrayLike | None,
    offset: ArrayLike | None,
    power: float,
    stderr: ArrayLike | None,
    levels: int,
) -> Sample:
    """Check the one source of values and turn it into a `Sample`.

    Parameters
    ----------
    values, paths, offset, power, stderr
        As in `gradconv.rates.fit_rate`.
    levels : int
        Number of levels L that the source must have.

    Returns
    -------
    Sample

    Raises
    ------
    InputError
        If both or neither of `values` and `paths` are given, or either breaks a rule.
    """
    if (values is None) == (paths is None):
        got = "neither" if values is None else "both"
        raise InputError(f"`values` or `paths`: exactly one must be given; got {got}")
    if values is not None:
        if offset is not None or power != 1.0:
            raise InputError("`offset` and `power` go with `paths` only; got them with `values`")
        exact = checked("values", values, levels)
        errors = np.zeros(levels) if stderr is None else checked("stderr", stderr, levels)
        return Sample(exact, errors)
    if stderr is not None:
        raise InputError("`stderr` goes with `values` only; got it with `paths`")
    assert paths is not None
    contributions, shift, vector = _checked_paths(paths, offset, power)
    if contributions.shape[1] != levels:
        raise InputError(
            f"`paths` must have one column a level, {levels}; got {contributions.shape[1]}"
        )
    mean, errors = _estimate(contributions, shift, power, vector)
    return Sample(mean, errors, contributions, shift, power, vector)


def estimate(
    paths: ArrayLike, offset: ArrayLike | None = None, power: float = 1.0
) -> tuple[Array, Array]:
    """Estimate the values of a quantity and their standard errors from sample paths.

    Parameters
    ----------
    paths : array_like, shape (R, L) or (R, L, p)
        Scalar contributions >= 0, for which a value is ``(offset + mean over paths) ** power``;
        or vectors, for which it is the norm of the mean path, debiased: the square norm less
        its sampling variance (trace of the covariance over R), clipped at 0.
    offset : array_like, shape (L,), optional
        Exact part >= 0 of the mean, without sampling error; scalar paths only.
    power : float
        Exponent > 0; ``0.5`` turns a mean square into an rms. Scalar paths only.

    Returns
    -------
    values : ndarray, shape (L,)
    stderr : ndarray, shape (L,)
        Delta-method standard errors. For vectors they include the second-order term of a square
        norm and are infinite where the debiased square is clipped.

    Raises
    ------
    InputError
        If an argument breaks a rule above, or fewer than 2 paths are given.
    """
    contributions, shift, vector = _checked_paths(paths, offset, power)
    return _estimate(contributions, shift, power, vector)


def studentised_distances(
    sample: Sample, functional: Array, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Distances from a linear functional of the log-values to its confidence limits.

    The bootstrap distribution of the studentised error, each resample divided by its own
    influence-function standard error, gives the quantiles; where Student's t is wider, it is
    taken instead, since bootstrap tails themselves are uncertain at small path counts.

    Parameters
    ----------
    sample : Sample
        Levels of the window only; all values > 0.
    functional : ndarray, shape (L,)
        Fixed coefficients, held in every resample.
    confidence : float
        Two-sided level in (0, 1).
    resamples : int
        Bootstrap resamples.
    seed : int
        Seed of the resampling.

    Returns
    -------
    below, above : float
        Distances to the lower and the upper limit, >= 0.

    References
    ----------
    P. Hall, "Theoretical comparison of bootstrap confidence intervals", Annals of Statistics 16,
    1988, section 2 (percentile-t). B. Efron and R. Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 12.
    """
    error = float(np.sqrt(max(0.0, float(functional @ sample.log_covariance() @ functional))))
    critical = t_quantile(0.5 + confidence / 2, sample.dof)
    # Paths proportional to each other have a slope without error, up to rounding.
    if error < 1e-12:
        return 0.0, 0.0
    if sample.paths is None or sample.paths.shape[0] < SMALL_SAMPLE:
        return critical * error, critical * error
    roots = _studentised_roots(sample, functional, resamples, seed)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(roots, tails, method="weibull")
    return max(critical, float(high)) * error, max(critical, -float(low)) * error


def t_quantile(probability: float, dof: float) -> float:
    """Quantile of Student's t; of the normal distribution where `dof` is infinite."""
    return float(stdtrit(min(dof, 1e9), probability))


def _studentised_roots(sample: Sample, functional: Array, resamples: int, seed: int) -> Array:
    assert sample.paths is not None
    centred, mean = _centred(sample.paths)
    count, levels, size = sample.paths.shape
    flat = centred.reshape(count, levels * size)
    square = np.einsum("rlp,rlp->rl", centred, centred)
    # In the bootstrap world the sample is the population: the truth is the plain norm of its
    # mean, which the debiased norm of a resample estimates.
    truth = np.einsum("lp,lp->l", mean, mean) if sample.vector else sample._square()[0]
    exponent = 0.5 if sample.vector else sample.power
    roots = []
    for weights in _path_weights(count, resamples, seed):
        shift = weights @ flat / count  # (b, L p)
        means = mean + shift.reshape(-1, levels, size)
        if sample.vector:
            plain = np.einsum("blp,blp->bl", means, means)
            spread = weights @ square / count - np.einsum(
                "blp,blp->bl", shift.reshape(means.shape), shift.reshape(means.shape)
            )
            base = np.maximum(plain - spread / (count - 1.0), _CLIP * plain)
        else:
            base = sample.offset + means[..., 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            change = exponent * np.log(base / truth) @ functional
            gradient = sample._gradient(means, base) * functional[:, None]
            projected = gradient.reshape(-1, levels * size) @ flat.T  # (b, R)
            first = np.einsum("br,br->b", weights, projected) / count
            second = np.einsum("br,br,br->b", weights, projected, projected) / count
            error = np.sqrt(np.maximum(0.0, second - first**2) / (count - 1.0))
            roots.append(change / error)
    joined = np.concatenate(roots)
    # A resample without spread (one path repeated, or zeros only) says nothing of the error.
    return np.asarray(joined[np.isfinite(joined)])


def _path_weights(count: int, resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each path is drawn, (b, R) at a time, B resamples in all."""
    rows = max(1, _CHUNK // count)
    for chunk, start in enumerate(range(0, resamples, rows)):
        yield _weights_chunk(count, min(rows, resamples - start), seed, chunk)


@lru_cache(maxsize=8)
def _weights_chunk(count: int, rows: int, seed: int, chunk: int) -> Array:
    # Cached because a sweep fits many quantities on the same number of paths; the draw depends
    # on the key alone.
    drawn = np.random.default_rng([seed, chunk]).integers(count, size=(rows, count))
    drawn += count * np.arange(rows)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(float)
    weights.flags.writeable = False
    return weights


def _centred(paths: Array) -> tuple[Array, Array]:
    mean = paths.mean(axis=0)
    return paths - mean, mean


def _estimate(paths: Array, offset: Array, power: float, vector: bool) -> tuple[Array, Array]:
    centred, mean = _centred(paths)
    count = paths.shape[0]
    if not vector:
        base = offset + mean[:, 0]
        error = np.sqrt(np.sum(centred[..., 0] ** 2, axis=0) / (count * (count - 1.0)))
        with np.errstate(divide="ignore", invalid="ignore"):
            values = base**power
            stderr = np.where(base > 0, power * values / base * error, 0.0)
        return values, stderr
    covariance = np.einsum("rlp,rlq->lpq", centred, centred) / (count - 1.0)
    plain = np.einsum("lp,lp->l", mean, mean)
    debiased = np.maximum(0.0, plain - np.trace(covariance, axis1=1, axis2=2) / count)
    first = 4.0 * np.einsum("lp,lpq,lq->l", mean, covariance, mean) / count
    # The Gaussian second-order term keeps a level without a mean from looking certain.
    second = 2.0 * np.einsum("lpq,lpq->l", covariance, covariance) / count**2
    norm = np.sqrt(debiased)
    spread = np.sqrt(first + second)
    with np.errstate(divide="ignore", invalid="ignore"):
        stderr = np.where(spread > 0, spread / (2.0 * norm), 0.0)
    return norm, stderr


def _checked_paths(
    paths: ArrayLike, offset: ArrayLike | None, power: float
) -> tuple[Array, Array, bool]:
    array = floats("paths", paths)
    if array.ndim not in (2, 3) or 0 in array.shape[1:]:
        raise InputError(f"`paths` must have shape (R, L) or (R, L, p); got {array.shape}")
    if array.shape[0] < 2:
        raise InputError(f"`paths` must hold at least 2 sample paths; got {array.shape[0]}")
    vector = array.ndim == 3
    if not np.all(np.isfinite(array)):
        raise InputError(f"`paths` must be finite; got {_first(array, ~np.isfinite(array))}")
    if vector and (offset is not None or power != 1.0):
        raise InputError("`offset` and `power` go with (R, L) `paths` only; got (R, L, p) `paths`")
    if not vector and np.any(array < 0):
        raise InputError(f"`paths` of scalars must be >= 0; got {_first(array, array < 0)}")
    if not (np.isfinite(power) and power > 0):
        raise InputError(f"`power` must be finite and > 0; got {power!r}")
    levels = array.shape[1]
    shift = np.zeros(levels) if offset is None else checked("offset", offset, levels)
    return (array if vector else array[..., None]), shift, vector


def checked(name: str, given: ArrayLike, levels: int) -> Array:
    """Return finite values >= 0, one a level, or raise `InputError`."""
    array = floats(name, given)
    if array.shape != (levels,):
        raise InputError(f"`{name}` must have shape ({levels},), one a level; got {array.shape}")
    bad = ~(np.isfinite(array) & (array >= 0))
    if np.any(bad):
        raise InputError(f"`{name}` must be finite and >= 0; got {_first(array, bad)}")
    return array


def floats(name: str, given: ArrayLike) -> Array:
    """Return a fresh float64 array, or raise `InputError`; complex numbers are refused."""
    if np.iscomplexobj(given):
        raise InputError(f"`{name}` must be an array of real numbers; got complex ones")
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{name}` must be an array of real numbers; got {given!r}") from error


def _first(array: Array, bad: NDArray[np.bool_]) -> str:
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{array[index]} at index {index if len(index) > 1 else index[0]}"
