"""Diagnose multilevel gradient estimation: level table, orders, complexity, warnings, laws.

>>> from gradconv import Problem
>>> from gradconv.multilevel import diagnose
>>> problem = Problem("stencil", noise="pixel:0.5", dim=1)
>>> found = diagnose(problem, hierarchy=(32, 64, 128, 256, 512), repetitions=0)
>>> found.complexity.cases, "difference grows" in [c.kind for c in found.cautions]
(('<',), True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from gradconv.backend import Backend
from gradconv.errors import InputError, check_confidence, check_gib, check_whole, unknown_name
from gradconv.loading import name_of
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.diagnosis.cautions import cautions
from gradconv.multilevel.diagnosis.checks import (
    LEAST,
    check_varies,
    shared_samples,
)
from gradconv.multilevel.diagnosis.complexity import complexity
from gradconv.multilevel.diagnosis.components import scan
from gradconv.multilevel.diagnosis.derived_orders import DerivedOrder, derived_orders
from gradconv.multilevel.diagnosis.error_cost import (
    Errors,
    Forecast,
    check_epsilons,
    errors_for,
    forecasts,
)
from gradconv.multilevel.diagnosis.level_table import LevelTable, tables
from gradconv.multilevel.diagnosis.repetition import Measured, Reference, repeat
from gradconv.multilevel.diagnosis.result import Diagnosis
from gradconv.multilevel.diagnosis.sample_gradients import SampleGradients, collect
from gradconv.multilevel.diagnosis.subject import Subject, make_subject
from gradconv.multilevel.diagnosis.term_costs import UNITS, Costs, chosen_costs, measure_costs
from gradconv.multilevel.diagnosis.term_orders import orders_of
from gradconv.multilevel.evaluator import Evaluator
from gradconv.nn.evaluation import WHOLE, Loss, Output
from gradconv.nn.random_state import preserved_random_state
from gradconv.parallel import Progress, check_workers
from gradconv.sampling import GIB

REPETITIONS = 16
EFFORT = 6.0  # cost and number of samples of repetitions over those of the diagnosis itself


def diagnose(
    module: nn.Module | Callable[[], nn.Module] | Any,
    *,
    loss: str | Loss = "mse",
    data: Any = None,
    hierarchy: MeshHierarchy | Sequence[int] | None = None,
    dim: int | None = None,
    channels: int | None = None,
    signal: Any = None,
    target: Any = None,
    noise: Any = None,
    setting: str | None = None,
    restriction: Any = None,
    route: str | None = None,
    samples: int | None = None,
    epsilons: Sequence[float] | None = None,
    repetitions: int = REPETITIONS,
    cost: str = "work",
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float64",
    mode: str | None = None,
    output: Output = None,
    memory: float = 4.0,
    confidence: float = 0.95,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Measure what a multilevel estimate of a module's gradient rests on, and what it would cost.

    Gradients of single samples are taken on both levels of every term, of N samples a term that no
    other term sees. The module is copied and left as it is; so are the global random states.

    Parameters
    ----------
    module : Module, callable or Problem
        Takes inputs of shape ``(B, C, *n)`` on every mesh. A callable without arguments makes it.
        A `gradconv.Problem`: its single layer, in scaled parameters, on its own data.
    loss : "mse" or callable
        ``loss(prediction, target) -> scalar``, a mean over the batch.
    data : None, Sampler, Problem, (inputs, targets) or callable
        None: built-in data from the choices below. Any `gradconv.samplers.Sampler` as it is; the
        others as `gradconv.audit.audit` takes them.
    hierarchy : MeshHierarchy or sequence of int
        The levels, each of twice the cells; a sampler has its own.
    dim, channels, signal, target, noise, setting, restriction, route
        Choices of the built-in data, as in `gradconv.audit.audit`.
    samples : int
        Samples a term, N, at least 4; default 64, or what finite data have for all terms.
    epsilons : sequence of float
        Root mean square errors to forecast the cost of, relative to the norm of the finest mean
        gradient (to the standard deviation of a sample's gradient where the mean is not
        resolved). Default: those that 8, 32 and 128 samples of the finest level leave.
    repetitions : int
        Estimates by which each forecast is checked, on fresh samples; 0 for none. Of the errors
        chosen by default only those are repeated that take at most 6 times the samples and the
        cost of the diagnosis itself; given ones all are.
    cost : {"work", "flops", "seconds"}
        Cost that γ, sample numbers and forecasts are for.
    seed : int
        Seed of built-in data, of weights that a callable draws, and of stochastic models.
    device : str
        ``"cpu"`` or a torch device.
    dtype : {"float64", "float32"}
        Precision.
    mode : {None, "train", "eval"}
        Mode of the module; None: as it is.
    output : None, int, str or callable
        What of the module's output is the prediction.
    memory : float
        GiB of gradients held in memory; more are kept in a nameless temporary file.
    confidence : float
        Level of the intervals.
    workers : int
        Processes; the bits do not depend on them.
    scheduler : str, optional
        Address of a Dask scheduler.
    progress : callable, optional
        Called with (done, total), first for the samples, then for the repetitions.

    Returns
    -------
    Diagnosis
        ``.moments``, ``.rates``, ``.complexity``, ``.cautions``, ``.table()``, ``.to_dict()``,
        ``.save(folder)``.

    Raises
    ------
    InputError
        If an argument breaks a rule, samples run dry, or module, loss or gradient fail on a level,
        which is named.
    """
    Backend(device, dtype)
    check_confidence(confidence)
    check_workers(workers, scheduler)
    check_epsilons(epsilons)
    check_whole("seed", seed, 0, 2**62)
    if samples is not None:
        check_whole("samples", samples, LEAST, 10**7)
    if repetitions != 0:
        check_whole("repetitions", repetitions, 2, 10**5)
    if cost not in UNITS:
        raise unknown_name("cost", cost, UNITS)
    check_gib(memory)
    choices = {
        "signal": signal,
        "target": target,
        "noise": noise,
        "setting": setting,
        "restriction": restriction,
        "route": route,
    }
    with preserved_random_state(device):
        subject = make_subject(
            module,
            loss,
            data,
            hierarchy,
            dim=dim,
            channels=channels,
            choices=choices,
            seed=seed,
            device=device,
            dtype=dtype,
            mode=mode,
            output=output,
        )
        evaluator = subject.evaluator
        count = shared_samples(samples, evaluator.sampler)
        measured_costs = measure_costs(evaluator)
        costs = chosen_costs(measured_costs, cost)
        first = 1 if evaluator.sampler.sequential else 0  # the costs took a loader's first sample
        gradients = collect(
            evaluator,
            count,
            start=first,
            memory=memory * GIB,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
        found = tables(gradients)
        check_varies(found[0], evaluator)
        errors = errors_for(found[0], epsilons)
        plan = _forecasts(found[0], errors, costs, evaluator)
        chosen = _repeated(plan, epsilons, repetitions, costs, count, evaluator)
        repeated: dict[Forecast, Measured] = {}
        if chosen:
            repeated = repeat(
                evaluator,
                chosen,
                Reference.of(_finest_mean(gradients), found[0]),
                costs.single,
                UNITS[cost],
                repetitions=repetitions,
                start=first + count * len(evaluator.sampler.hierarchy),
                confidence=confidence,
                workers=workers,
                scheduler=scheduler,
                progress=progress,
            )
    configuration = {
        "model": subject.name,
        "parameters": gradients.size,
        "levels": list(evaluator.sampler.hierarchy.sizes),
        "dim": evaluator.sampler.hierarchy.dim,
        "loss": name_of(evaluator.loss),
        "mode": "train" if evaluator.module.training else "eval",
        "samples": count,
        "repetitions": repetitions,
        "cost": cost,
        "seed": seed,
        "confidence": confidence,
        **evaluator.sampler.describe(),
    }
    return _judge(
        configuration,
        subject,
        gradients,
        found,
        measured_costs,
        costs,
        errors,
        plan,
        repeated,
        (seed, device, dtype, confidence),
    )


def _judge(
    configuration: dict[str, Any],
    subject: Subject,
    gradients: SampleGradients,
    found: tuple[LevelTable, ...],
    all_costs: dict[str, Costs],
    costs: Costs,
    errors: Errors,
    plan: tuple[Forecast, ...],
    repeated: dict[Forecast, Measured],
    run: tuple[int, str, str, float],
) -> Diagnosis:
    """Orders, complexity, laws and warnings from what was measured."""
    seed, device, dtype, confidence = run
    hierarchy = subject.evaluator.sampler.hierarchy
    components = scan(gradients, costs.terms, float(costs.single[-1]))
    orders = {
        table.name: orders_of(table, hierarchy.h, confidence)
        for table in (*found, components.worst)
    }
    gammas = {unit: c.gamma(hierarchy.h, confidence) for unit, c in all_costs.items()}
    whole, gamma = orders[WHOLE], gammas[costs.unit]
    case = complexity(whole.alpha, whole.beta, gamma, found[0].moments, costs.terms, costs.single)
    laws: tuple[DerivedOrder, ...] = ()
    if subject.problem is not None:
        laws = derived_orders(subject.problem, subject.own, hierarchy, found[0], whole)
    return Diagnosis(
        configuration,
        hierarchy,
        found,
        components,
        all_costs,
        costs.unit,
        orders,
        gammas,
        case,
        errors,
        plan,
        repeated,
        laws,
        cautions(
            hierarchy,
            found,
            components,
            orders,
            gamma,
            case,
            repeated,
            configuration.get("setting") == "coarsening",
        ),
        tuple(subject.evaluator.notes),
        seed,
        device,
        dtype,
        confidence,
    )


def _forecasts(
    whole: LevelTable, errors: Errors, costs: Costs, evaluator: Evaluator
) -> tuple[Forecast, ...]:
    try:
        return forecasts(whole, errors, costs.terms, costs.single)
    except InputError as error:  # a variance of zero: everything else can still be said
        evaluator.note(f"no forecast of costs: {error}")
        return ()


def _repeated(
    plan: tuple[Forecast, ...],
    epsilons: Sequence[float] | None,
    repetitions: int,
    costs: Costs,
    samples: int,
    evaluator: Evaluator,
) -> tuple[Forecast, ...]:
    """Forecasts to check by repetitions: all that were asked for, else what is cheap."""
    if not repetitions or not plan:
        return ()
    sampler = evaluator.sampler
    if sampler.sequential:
        evaluator.note("forecasts were not checked: a data loader gives no sample twice")
        return ()
    bound = EFFORT * samples * float(costs.terms.sum())
    taken = samples * len(sampler.hierarchy)
    most = (1.0 + EFFORT) * taken
    chosen: list[Forecast] = []
    for epsilon in dict.fromkeys(f.epsilon for f in plan):
        group = [f for f in plan if f.epsilon == epsilon]
        taken += repetitions * sum(f.samples for f in group)
        if sampler.available is not None and taken > sampler.available:
            evaluator.note(
                f"forecasts below ε = {epsilon:.2g} were not checked: the samples do not reach"
                if chosen
                else "forecasts were not checked: the samples do not reach"
            )
            break
        cost = repetitions * sum(f.cost for f in chosen + group)
        if epsilons is None and (cost > bound or taken > most):
            if not chosen:
                evaluator.note(
                    f"forecasts were not checked: that would take more than {EFFORT:g} times the "
                    "samples or the cost of the diagnosis; those of `epsilons` that are given are"
                )
            break
        chosen += group
    return tuple(chosen)


def _finest_mean(gradients: SampleGradients) -> np.ndarray:
    finest = gradients.fine[-1]
    parts = [
        np.asarray(finest[:, piece], dtype=float).mean(axis=0)
        for piece in gradients.pieces(slice(0, gradients.size))
    ]
    return np.concatenate(parts)
