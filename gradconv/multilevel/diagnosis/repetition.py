"""Variance, error and cost of estimators from repetitions on fresh samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.special import chdtri

from gradconv.bootstrap import t_quantile
from gradconv.multilevel.allocation import Allocation, Fixed, Randomised
from gradconv.multilevel.costs.model import CostModel
from gradconv.multilevel.diagnosis.error_cost import Forecast
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.estimator import MultilevelGradient
from gradconv.multilevel.evaluator import Evaluator
from gradconv.nn.timing import torch_threads
from gradconv.parallel import Progress, compute

PASS = 32  # samples of a pass at most


@dataclass(frozen=True, eq=False)
class Reference:
    """A mean gradient on the finest level that errors are measured against.

    Parameters
    ----------
    mean : ndarray
        Shape ``(P,)``.
    error : float
        Its own squared sampling error, tr Σ of its covariance.
    spread : float
        tr Σ² of that covariance.
    """

    mean: Array
    error: float
    spread: float

    @classmethod
    def of(cls, mean: Array, whole: LevelTable, samples: int | None = None) -> Reference:
        """Reference from a mean over samples.

        Parameters
        ----------
        mean : ndarray
            Mean gradient on the finest level.
        whole : LevelTable
            Moments of single samples.
        samples : int, optional
            Samples of the mean; by default those of the table.
        """
        finest = whole.products[-1]
        count, variance = samples or finest.samples, float(finest.variances[0])
        spread = _square_trace(variance, float(finest.gram_squares[0]), finest.samples)
        return cls(mean, variance / count, spread / count**2)


@dataclass(frozen=True)
class Measured:
    """What repetitions of an estimator gave.

    Parameters
    ----------
    repetitions : int
        Independent estimates.
    cost : float
        Mean cost of an estimate, from the samples that it took.
    variance : float
        Variance of an estimate (trace of the covariance).
    variance_interval : tuple of float
        Its confidence interval.
    error : float
        Mean squared error against the reference, whose own sampling error is taken off; may be
        negative.
    error_stderr : float
        Its standard error.
    bias : float
        Squared bias against the reference, sampling errors taken off: error less variance, signed.
    bias_stderr : float
        Its standard error where there is no bias.
    ratio : float
        Measured over predicted variance.
    ratio_interval : tuple of float
        Its confidence interval, the error of the prediction included, as far as its own samples
        show it: of heavy tails they may not.
    """

    repetitions: int
    cost: float
    variance: float
    variance_interval: tuple[float, float]
    error: float
    error_stderr: float
    bias: float
    bias_stderr: float
    ratio: float
    ratio_interval: tuple[float, float]


@dataclass(frozen=True)
class _Task:
    """One repetition: which forecast, which repetition, and the first number of its samples."""

    forecast: int
    repetition: int
    start: int


@dataclass(frozen=True)
class _Setting:
    evaluator: Evaluator
    forecasts: tuple[Forecast, ...]
    single: tuple[float, ...]
    unit: str


def repeat(
    evaluator: Evaluator,
    chosen: tuple[Forecast, ...],
    reference: Reference,
    single: Array,
    unit: str,
    *,
    repetitions: int,
    start: int,
    confidence: float,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> dict[Forecast, Measured]:
    """Repeat estimators on fresh samples and measure variance, error and cost.

    Parameters
    ----------
    evaluator : Evaluator
        Model, loss and data.
    chosen : tuple of Forecast
        What to repeat.
    reference : Reference
        Mean gradient on the finest level, of other samples.
    single : ndarray
        Cost of one fine gradient on each level.
    unit : str
        Of the costs.
    repetitions : int
        Estimates of each, at least 2.
    start : int
        Number of the first sample.
    confidence : float
        Level of the intervals.
    workers, scheduler, progress
        As `gradconv.parallel.compute` takes them.

    Raises
    ------
    InputError
        If samples run dry or a level cannot be computed.
    """
    tasks = []
    for index, forecast in enumerate(chosen):
        for repetition in range(repetitions):
            tasks.append(_Task(index, repetition, start))
            start += forecast.samples
    evaluator.sampler.check_available([start - 1], [evaluator.finest])
    setting = _Setting(evaluator, chosen, tuple(float(c) for c in single), unit)
    held: dict[int, list[tuple[int, Array, float]]] = {}
    found: dict[Forecast, Measured] = {}
    results = compute(
        partial(_repetition, setting),
        tasks,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
        sizes=[chosen[t.forecast].cost for t in tasks],
    )
    for index, (vector, cost) in results:
        task = tasks[index]
        rows = held.setdefault(task.forecast, [])
        rows.append((task.repetition, vector, cost))
        if len(rows) == repetitions:
            del held[task.forecast]
            rows.sort(key=lambda row: row[0])  # workers end in any order: sums must not
            vectors = np.array([row[1] for row in rows], dtype=float)
            costs = np.array([row[2] for row in rows])
            forecast = chosen[task.forecast]
            found[forecast] = _measured(forecast, vectors, costs, reference, confidence)
    return found


def measure_reference(
    evaluator: Evaluator,
    alone: Forecast,
    whole: LevelTable,
    *,
    repetitions: int,
    start: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> Reference:
    """Mean gradient on the finest level from more samples than a diagnosis takes.

    Parameters
    ----------
    evaluator : Evaluator
        Model, loss and data.
    alone : Forecast
        Of the finest level alone: its samples are taken at a time.
    whole : LevelTable
        Moments of single samples.
    repetitions : int
        Times that those are taken.
    start : int
        Number of the first sample.
    workers, progress
        As `gradconv.parallel.compute` takes them.
    """
    tasks = [_Task(0, r, start + r * alone.samples) for r in range(repetitions)]
    evaluator.sampler.check_available([start + repetitions * alone.samples - 1], [evaluator.finest])
    setting = _Setting(evaluator, (alone,), (0.0,) * (evaluator.finest + 1), "")
    rows = compute(partial(_repetition, setting), tasks, workers=workers, progress=progress)
    # workers end in any order: sums must not
    vectors = [vector for _, (vector, _) in sorted(rows, key=lambda row: row[0])]
    mean = np.mean(vectors, axis=0)
    return Reference.of(mean, whole, repetitions * alone.samples)


def _repetition(setting: _Setting, task: _Task) -> tuple[Array, float]:
    """One estimate as a flat vector, and its cost."""
    evaluator, forecast = setting.evaluator, setting.forecasts[task.forecast]
    control: list[float] | None = None
    allocation: Allocation
    if forecast.counts is None:
        assert forecast.draws is not None
        allocation = Randomised(forecast.draws, forecast.probabilities)
    else:
        allocation = Fixed(tuple(max(n, 1) for n in forecast.counts))
        if forecast.estimator == "single":
            control = [0.0] * len(forecast.counts)  # leaves all coarser levels out
    estimator = MultilevelGradient(
        evaluator.module,
        evaluator.loss,
        evaluator.sampler,
        evaluator.sampler.hierarchy,
        allocation,
        control=control,
        costs=CostModel(setting.single, setting.unit),
        microbatch=PASS,
        output=evaluator.output,
        seed=evaluator.seed,
    )
    state = {**estimator.state_dict(), "steps": task.repetition, "next": task.start}
    estimator.load_state_dict(state)
    with torch_threads(1):
        gradient, step = estimator.estimate()
    parts = [torch.view_as_real(g) if g.is_complex() else g for g in gradient.values()]
    flat = torch.cat([p.detach().reshape(-1).double().cpu() for p in parts])
    return flat.numpy(), step.work


def _measured(
    forecast: Forecast,
    vectors: Array,
    costs: Array,
    reference: Reference,
    confidence: float,
) -> Measured:
    count = len(vectors)
    centred = vectors - vectors.mean(axis=0)
    gram = centred @ centred.T
    variance = float(np.trace(gram)) / (count - 1)
    interval = variance_interval(gram, confidence)
    distances = np.sum((vectors - reference.mean) ** 2, axis=1)
    # reference and repetitions err independently: their squares, and the products of the two
    error = np.var(distances, ddof=1) / count + 2.0 * reference.spread
    error += 4.0 * variance * reference.error / count
    bias = float(np.sum((vectors.mean(axis=0) - reference.mean) ** 2))
    bias -= variance / count + reference.error
    # of the sum of two covariances; tr ΣΣ' is at most the root of tr Σ² tr Σ'²
    own = np.sqrt(_square_trace(variance, float(np.sum(gram**2)), count)) / count
    ratio = variance / forecast.variance
    tail = t_quantile(0.5 + confidence / 2, np.inf)
    model = tail * forecast.stderr / forecast.variance
    below, above = (abs(np.log(end / variance)) if variance else 0.0 for end in interval)
    return Measured(
        count,
        float(costs.mean()),
        variance,
        interval,
        float(distances.mean()) - reference.error,
        float(np.sqrt(error)),
        bias,
        float(np.sqrt(2.0) * (own + np.sqrt(reference.spread))),
        ratio,
        (
            float(ratio * np.exp(-np.hypot(below, model))),
            float(ratio * np.exp(np.hypot(above, model))),
        ),
    )


def _square_trace(trace: float, squares: float, count: int) -> float:
    """Estimate tr Σ² of Gaussian vectors without bias.

    Parameters
    ----------
    trace : float
        tr Σ, estimated.
    squares : float
        Sum of squares of the Gram matrix of the centred vectors.
    count : int
        Number of vectors.
    """
    n = count - 1
    square = squares / n**2
    if n < 2:
        return trace**2
    return max(n**2 / ((n + 2.0) * (n - 1.0)) * (square - trace**2 / n), 0.0)


def variance_interval(gram: Array, confidence: float) -> tuple[float, float]:
    """Interval of tr Σ of nearly Gaussian vectors, from the Gram matrix of the centred ones.

    The sum of squares is taken as a multiple of χ² with as many degrees of freedom as have its
    mean and variance, (n − 1) (tr Σ)²/tr Σ²: n − 1 for a scalar, more for a vector.

    References
    ----------
    F. E. Satterthwaite, "An approximate distribution of estimates of variance components",
    Biometrics Bulletin 2, 1946.
    """
    n = len(gram) - 1
    trace = float(np.trace(gram)) / n
    square = _square_trace(trace, float(np.sum(gram**2)), n + 1)
    # the ratio of the two estimates exceeds that of the truths by 1 + 2/n for a scalar
    dof = n * max(1.0, trace**2 / square * n / (n + 2.0)) if square > 0 else float(n)
    tail = (1.0 - confidence) / 2
    return trace * dof / float(chdtri(dof, tail)), trace * dof / float(chdtri(dof, 1.0 - tail))
