"""What a diagnosis warns of: in words, each with its number and what it means."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.diagnosis.complexity import Complexity, interval
from gradconv.multilevel.diagnosis.components import FALSE_ALARM, Components
from gradconv.multilevel.diagnosis.error_cost import Forecast
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.repetition import Measured
from gradconv.multilevel.diagnosis.sample_gradients import Array
from gradconv.multilevel.diagnosis.term_orders import TermOrders
from gradconv.nn.evaluation import WHOLE
from gradconv.rates import Rate

TRUSTED = 0.3  # relative error of a variance beyond which it is not to be trusted
FEW = 16  # samples
RESOLVED = 4.0  # standard errors


@dataclass(frozen=True)
class Caution:
    """One warning.

    Parameters
    ----------
    kind : str
        What is wrong, in few words.
    group : str
        ``"whole"``, a layer or a component.
    level : int or None
        Where, if on one level.
    value, limit : float or None
        The number that shows it, and what it should not pass.
    sentence : str
        All of it in words.
    """

    kind: str
    group: str
    level: int | None
    value: float | None
    limit: float | None
    sentence: str


def cautions(
    hierarchy: MeshHierarchy,
    tables: tuple[LevelTable, ...],
    components: Components,
    orders: dict[str, TermOrders],
    gamma: Rate,
    complexity: Complexity,
    measured: dict[Forecast, Measured],
    coarsening: bool,
) -> tuple[Caution, ...]:
    """Everything there is to warn of, gravest first.

    In the coarsening setting orders are slopes between the levels of one data mesh: they do not
    say what happens on finer ones, as constants contain its mesh size.
    """
    whole = tables[0]
    sizes = hierarchy.sizes
    return (
        *_telescoping(sizes, tables, components),
        *_missed(measured),
        *_variance_errors(sizes, tables),
        *_growth(orders[WHOLE], gamma, complexity, coarsening),
        *_levels(sizes, whole, complexity),
        *_samples(sizes, whole, orders[WHOLE]),
    )


def _where(sizes: tuple[int, ...], level: int) -> str:
    return f"level {level} (n={sizes[level]})"


def _worst(
    tables: tuple[LevelTable, ...], values: list[Array], limit: float
) -> Iterator[tuple[LevelTable, str]]:
    """The whole, and the worst layer with the number of others, where a value passes a limit."""
    above = [
        (float(np.nanmax(v)), t) for t, v in zip(tables, values, strict=True) if np.any(v > limit)
    ]
    for kind in ("whole", "layer"):
        found = sorted(((v, t) for v, t in above if t.kind == kind), key=lambda pair: -pair[0])
        if found:
            more = len(found) - 1
            others = f" (and in {more} other layer{'s' if more > 1 else ''})" if more else ""
            yield found[0][1], others


def _telescoping(
    sizes: tuple[int, ...], tables: tuple[LevelTable, ...], components: Components
) -> Iterator[Caution]:
    meaning = (
        "the sum over levels does not telescope: the gradient of the coarser level has one mean "
        "as the fine and another as the coarse of a term (other data, noise or randomness), and "
        "the sum estimates something else than the finest gradient"
    )
    for table, others in _worst(tables, [t.check for t in tables], 1.0):
        check = table.check
        level = int(np.nanargmax(check))
        yield Caution(
            "check above 1",
            table.name,
            level,
            float(check[level]),
            1.0,
            f"consistency check {check[level]:.3g} on {_where(sizes, level)}{others}: {meaning}",
        )
    if np.any(components.check > 1):
        level = int(np.nanargmax(components.check))
        value, name = float(components.check[level]), components.check_names[level]
        yield Caution(
            "check above 1",
            name,
            level,
            value,
            1.0,
            f"consistency check {value:.3g} on {_where(sizes, level)}, "
            f"{value * components.limit:.3g} standard errors (false alarms of all components "
            f"together: {FALSE_ALARM:.2g}): {meaning}",
        )


def _missed(measured: dict[Forecast, Measured]) -> Iterator[Caution]:
    """Forecasts that repetitions contradict."""
    for forecast, found in measured.items():
        low, high = found.ratio_interval
        if low <= 1.0 <= high:
            continue
        yield Caution(
            "forecast missed",
            WHOLE,
            None,
            found.ratio,
            1.0,
            f"the {forecast.estimator} estimator at ε = {forecast.epsilon:.3g} has "
            f"{found.ratio:.3g} [{low:.3g}, {high:.3g}] times the variance forecast: the moments "
            "are of too few samples for their tails, or the gradient of a batch is not the mean "
            "of its samples' gradients",
        )


def _variance_errors(sizes: tuple[int, ...], tables: tuple[LevelTable, ...]) -> Iterator[Caution]:
    """Kurtosis: the variance of a variance."""
    n = tables[0].samples
    limit = 1.0 + n * TRUSTED**2
    for table, others in _worst(tables, [t.kurtosis for t in tables], limit):
        kurtosis = table.kurtosis
        level = int(np.nanargmax(kurtosis))
        value = float(kurtosis[level])
        error = math.sqrt((value - 1.0) / n)
        yield Caution(
            "kurtosis too large",
            table.name,
            level,
            value,
            limit,
            f"kurtosis of the difference {value:.3g} on {_where(sizes, level)}{others}, above "
            f"{limit:.3g}: with {n} samples the variance is known to {100 * error:.0f}% only "
            "(a few samples make it), and so are β and sample numbers; "
            f"about {math.ceil((value - 1.0) / TRUSTED**2)} samples or more would give "
            f"{100 * TRUSTED:.0f}% (N samples cannot show a kurtosis above N)",
        )
    fine, errors = tables[0].variance(0)
    relative = np.divide(errors, fine, out=np.zeros_like(fine), where=fine > 0)
    if np.any(relative > TRUSTED):
        level = int(np.argmax(relative))
        yield Caution(
            "variance of the fine gradient not known",
            WHOLE,
            level,
            float(relative[level]),
            TRUSTED,
            f"the variance of the fine gradient is known to {100 * relative[level]:.0f}% only on "
            f"{_where(sizes, level)}: tails this heavy may be missed on other levels, and "
            "forecasts err by as much",
        )


def _growth(
    orders: TermOrders, gamma: Rate, found: Complexity, coarsening: bool
) -> Iterator[Caution]:
    beta = orders.beta
    share = found.fixed / found.single
    fixed = f"on the finest mesh given multilevel costs {share:.3g} of the single level"
    if beta.interval[1] < 0:
        yield Caution(
            "difference grows",
            WHOLE,
            None,
            beta.order,
            0.0,
            f"β {interval(beta)} is negative: the difference varies more on finer levels, and "
            "finer terms need more samples at a higher cost; "
            + (
                "of one data mesh, that is: on a finer one all terms have other constants"
                if coarsening
                else "as the finest mesh is refined, multilevel loses what it gains"
            )
            + f"; {fixed}",
        )
    if found.cases == ("<",):
        yield Caution(
            "beta below gamma",
            WHOLE,
            None,
            beta.order,
            gamma.order,
            f"β {interval(beta)} is below γ {interval(gamma)}: of the corrections, the finest "
            "takes most of the cost"
            + (
                ""
                if coarsening
                else ", which at a fixed sampling error grows like h_L^-(γ − β) as the finest "
                "mesh is refined, and in all like ε^(-2 - (γ - β)/α)"
            )
            + f"; {fixed}",
        )
    if found.fixed >= found.single:
        yield Caution(
            "multilevel loses",
            WHOLE,
            None,
            found.fixed / found.single,
            1.0,
            f"variance × cost is {found.fixed / found.single:.3g} times that of the single finest "
            "level: these levels cost more than they save",
        )


def _levels(sizes: tuple[int, ...], whole: LevelTable, found: Complexity) -> Iterator[Caution]:
    fine, fine_errors = whole.variance(0)
    difference, errors = whole.variance(2)
    for level in range(1, len(whole)):
        if difference[level] - fine[level] > 2.0 * math.hypot(errors[level], fine_errors[level]):
            ratio = float(difference[level] / fine[level])
            yield Caution(
                "difference above fine",
                WHOLE,
                level,
                ratio,
                1.0,
                f"the difference varies {ratio:.3g} times as much as the fine gradient on "
                f"{_where(sizes, level)}: the coarser level is no control variate for it; the "
                "levels below it are better left out (or given a smaller weight)",
            )
    if found.start and found.best < 0.95 * found.fixed:
        yield Caution(
            "coarse levels not worth their cost",
            WHOLE,
            found.start,
            found.fixed / found.best,
            1.0,
            f"with {_where(sizes, found.start)} as the coarsest level variance × cost is "
            f"{found.fixed / found.best:.3g} times less",
        )
    for level in np.flatnonzero(difference <= 0).tolist():
        yield Caution(
            "no variance",
            WHOLE,
            level,
            0.0,
            None,
            f"the difference does not vary on {_where(sizes, level)}: its samples are all "
            "alike, one is enough, and optimal numbers do not follow from it",
        )


def _samples(sizes: tuple[int, ...], whole: LevelTable, orders: TermOrders) -> Iterator[Caution]:
    n = whole.samples
    if n < FEW:
        yield Caution(
            "few samples",
            WHOLE,
            None,
            float(n),
            float(FEW),
            f"{n} samples a level are few: variances of Gaussian scalars are known to "
            f"{100 * math.sqrt(2.0 / n):.0f}%, and the intervals rest on their own guess of it",
        )
    gaps, errors = whole.mean(2)
    hidden = [level for level in range(1, len(whole)) if not gaps[level] > RESOLVED * errors[level]]
    if hidden:
        named = ", ".join(f"n={sizes[level]}" for level in hidden)
        size = _floor_size(whole, hidden)
        yield Caution(
            "mean gap at its sampling floor",
            WHOLE,
            hidden[0],
            float(gaps[hidden[0]]),
            float(RESOLVED * errors[hidden[0]]) if np.isfinite(errors[hidden[0]]) else None,
            f"the mean gap cannot be told from zero on {len(hidden)} of {len(whole) - 1} levels "
            f"({named}): {n} samples leave an error of its own size{size}",
        )
    if math.isnan(orders.alpha.order):
        yield Caution(
            "alpha not known",
            WHOLE,
            None,
            None,
            None,
            f"α is not known ({orders.alpha.reason}): nothing is said of the bias, nor of how "
            "ε and the finest mesh go together",
        )


def _floor_size(whole: LevelTable, hidden: list[int]) -> str:
    """Size of the error of a mean."""
    variances = whole.variance(2)[0]
    level = hidden[0]
    bound = math.sqrt(variances[level] / whole.samples)
    return f" (about {bound:.2g} on level {level})" if bound > 0 else ""
