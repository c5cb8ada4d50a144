"""Audit a user's multilevel gradient loop: run some of its steps, watch, and name what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.calls import Step
from gradconv.audit.estimator.checks_cost import check_batches, check_work
from gradconv.audit.estimator.checks_cost import work as work_of
from gradconv.audit.estimator.checks_gradient import check_gradients
from gradconv.audit.estimator.checks_law import check_laws
from gradconv.audit.estimator.checks_model import Experiments, check_model
from gradconv.audit.estimator.checks_samples import (
    Samples,
    check_pairs,
    check_repeats,
    check_shared,
)
from gradconv.audit.estimator.checks_weights import Loss, check_weights
from gradconv.audit.estimator.keeping import Keeper
from gradconv.audit.estimator.recording import OUTWEIGH, Recorder
from gradconv.audit.estimator.result import EstimatorAudit, Side
from gradconv.audit.estimator.terms import Structure, structure
from gradconv.audit.estimator.weights import Weights, weigh
from gradconv.audit.findings import SEVERITIES, Finding
from gradconv.errors import InputError, check_positive, check_whole, shortened
from gradconv.loading import name_of
from gradconv.mesh import MeshHierarchy
from gradconv.nn.random_state import preserved_random_state
from gradconv.parallel import Progress

STEPS = 16
LEAST_STEPS = 4
# what of the samples says nothing more once it is known that they come again
_LOST = (causes.MISSING_COARSE, causes.DETACHED, causes.MISSING_COARSEST, causes.MISSING_TERM)


def audit_estimator(
    step: Callable[..., Any],
    *,
    module: nn.Module,
    hierarchy: MeshHierarchy | Sequence[int],
    batch_sizes: Sequence[int] | None = None,
    work: float | None = None,
    steps: int = STEPS,
    loss: Loss | None = None,
    optimizer: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> EstimatorAudit:
    """Find what is wrong with a multilevel gradient loop, E g_L = E g_0 + Σ E[g_l − g_{l−1}].

    The step is a black box: it is run several times with hooks on the module. Every other step is
    a probe: a large known shift is added to each output, and the slope of the loss along it tells
    each call's signed weight. Weights, buffers, ``.grad``, modes, optimisers and the global random
    states are as before afterwards, whatever happens; iterators of the step have gone on.

    Parameters
    ----------
    step : callable
        One training step, ``step()`` or ``step(module)``. It calls backward itself (and may zero
        gradients and step an optimiser), or returns the scalar loss to be differentiated. It must
        call `module` itself, on fields of shape ``(B, C, *n)``.
    module : Module
        The module that the step trains.
    hierarchy : MeshHierarchy or sequence of int
        Cells an axis of the meshes, coarse to fine, each twice the one before.
    batch_sizes : sequence of int, optional
        Declared samples a step of each term, coarse to fine.
    work : float, optional
        Claimed work units a step. A sample's gradient on the finest mesh is 1, a term at level l
        costs 2^{-d(L−l)}(1 + 2^{-d}) a sample, the coarsest 2^{-dL}.
    steps : int
        Steps to run, at least 4. Comparisons of laws need 6 with each level; few samples a step
        need more.
    loss : callable, optional
        ``loss(prediction, target) -> scalar``, what each term's loss should be: with it a sum of
        terms is told from their mean.
    optimizer : object or sequence, optional
        Whatever else the step changes and has ``state_dict`` and ``load_state_dict``. Optimisers of
        torch that the step uses are put back without it.
    seed : int
        Every step starts from global random states of its own, drawn from this.
    progress : callable, optional
        Called with (steps done, steps).

    Returns
    -------
    EstimatorAudit
        ``.findings``, ``.sound``, ``.notes``, ``.table()`` and ``.to_dict()``.

    Raises
    ------
    InputError
        If an argument breaks a rule, the step fails or never trains the module, or a loss is not
        finite; where one level is at fault, it is named.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")
    >>> restrict = torch.nn.AvgPool1d(2)
    >>> def loss(x):
    ...     return (net(x) - x).square().mean()
    >>> def step():
    ...     fine = torch.randn(2, 1, 16)
    ...     coarsest = loss(restrict(torch.randn(8, 1, 16)))
    ...     return coarsest + loss(fine) + loss(restrict(fine))
    >>> found = audit_estimator(step, module=net, hierarchy=(8, 16))
    >>> for finding in found.findings:
    ...     print(f"{finding.where}: {finding.cause} ({finding.number:+.2f})")
    term 1 (n=16, 8): wrong sign (+1.00)
    """
    check_whole("steps", steps, LEAST_STEPS, 10**5)
    check_whole("seed", seed, 0, 2**62)
    sizes = _sizes(hierarchy)
    declared = _declared(batch_sizes, len(sizes))
    claimed = None if work is None else check_positive("work", work)
    if not isinstance(module, nn.Module):
        raise InputError(f"`module` must be a torch.nn.Module; got {shortened(module)}")
    if not any(p.requires_grad for p in module.parameters()):
        raise InputError("`module` must have a parameter that takes a gradient; it has none")
    if loss is not None and not callable(loss):
        raise InputError(f"`loss` must be callable; got {shortened(loss)}")
    run = _callable(step, module)
    others = optimizer if isinstance(optimizer, (list, tuple)) else (optimizer,)
    keeper = Keeper(module, [o for o in others if o is not None])
    parameter = next(iter(module.parameters()))
    device = str(parameter.device)
    with preserved_random_state(device):
        try:
            recorder = Recorder(module, run, keeper, seed)
            recorded = _record(recorder, sizes, steps, progress)
            dim = recorded[0].calls[0].input.ndim - 2
            if isinstance(hierarchy, MeshHierarchy) and hierarchy.dim != dim:
                raise InputError(
                    f"`hierarchy` must have the dimension of the inputs, {dim}; got {hierarchy.dim}"
                )
            found = structure(sizes, dim, recorded)
            weights = weigh(found)
            findings, notes, measured = _check(
                found, weights, recorder, declared, claimed, loss, seed
            )
        finally:
            keeper.put_all_back()
    return EstimatorAudit(
        {
            "step": name_of(step),
            "model": type(module).__qualname__,
            "levels": list(sizes),
            "dim": dim,
            "batch_sizes": None if declared is None else list(declared),
            "work": claimed,
            "steps": steps,
            "loss": None if loss is None else name_of(loss),
        },
        tuple(_sides(found, weights)),
        tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity))),
        tuple(dict.fromkeys(notes)),
        measured,
        seed,
        device,
        str(parameter.dtype).removeprefix("torch."),
    )


def _record(
    recorder: Recorder, sizes: tuple[int, ...], steps: int, progress: Progress | None
) -> list[Step]:
    """Run the steps, every other one as a probe, and refuse what cannot be judged."""
    recorded: list[Step] = []
    for number in range(steps):
        now = recorder.run(number, probed=number % 2 == 1)
        _check_step(now, sizes)
        if number == 0:
            scale = max(
                max(c.output, float(c.input.abs().double().square().mean() ** 0.5))
                for c in now.calls
            )
            recorder.amplitude = OUTWEIGH * (scale or 1.0)
        recorded.append(now)
        if progress is not None:
            progress(number + 1, steps)
    return recorded


def _check_step(now: Step, sizes: tuple[int, ...]) -> None:
    where = f"step {now.number}"
    if not now.calls:
        raise InputError(
            f"`step` must call `module` (not its forward method, nor a copy); {where} did not"
        )
    dims = {c.input.ndim for c in now.calls}
    if len(dims) > 1:
        raise InputError(f"`step` must call `module` in one dimension; {where} used {sorted(dims)}")
    for call in now.calls:
        if call.n not in sizes and call.reached:
            raise InputError(
                f"`hierarchy` must hold every mesh that gradients are taken on, {list(sizes)}; "
                f"{where} has a gradient on n={call.n}"
            )
        if not now.probed and not call.finite:
            level = f"level {sizes.index(call.n)} " if call.n in sizes else ""
            raise InputError(
                f"`step` must have finite outputs, losses and gradients; got NaN or infinity in "
                f"{where} on {level}(n={call.n})"
            )
    if not any(c.reached for c in now.calls):
        raise InputError(
            f"`step` must call backward or return a loss that depends on `module`; in {where} no "
            "gradient came back to any of its outputs"
        )


def _check(
    found: Structure,
    weights: Weights,
    recorder: Recorder,
    declared: tuple[int, ...] | None,
    claimed: float | None,
    loss: Loss | None,
    seed: int,
) -> tuple[list[Finding], list[str], float]:
    """Run all checks."""
    samples = Samples(found)
    reseeded = _reseeded(found.steps)
    findings, notes = check_weights(found, weights, loss, recorder.amplitude)
    repeats, repeated = check_repeats(samples, reseeded)
    batches = check_batches(found, declared)
    cost, cost_notes, measured = check_work(found, claimed, declared)
    gradients = check_gradients(found)
    laws: tuple[list[Finding], list[str]] = ([], [])
    if repeated:
        notes.append("samples come again: whether levels have one law was not checked")
    else:
        laws = check_laws(samples)
    experiments = Experiments(recorder.module, recorder.keeper, recorder.arguments, found, seed)
    in_mode = check_model(found, experiments)
    missing = any(f.cause in _LOST for f in findings)
    findings += [
        *gradients[0],
        *repeats,
        *check_shared(samples, repeated),
        *check_pairs(samples),
        *laws[0],
        *in_mode[0],
        *batches[0],
        *([] if missing else cost),  # a gradient that is missing costs nothing: that is known
    ]
    notes += [*gradients[1], *laws[1], *in_mode[1], *batches[1], *cost_notes]
    return findings, notes, measured


def _reseeded(steps: Sequence[Step]) -> list[str]:
    """Libraries whose random state after a step does not depend on where it started."""
    return [
        library
        for library in steps[0].random_after
        if len({s.random_after[library] for s in steps}) == 1
    ]


def _sides(found: Structure, weights: Weights) -> list[Side]:
    sides = []
    for table, gradient in ((found.roles, True), (found.detached, False)):
        for key, role in table.items():
            calls = [c for row in role.calls.values() for c in row]
            sides.append(
                Side(
                    role.term,
                    role.kind,
                    found.sizes[role.level],
                    float(np.median([role.count(s) for s in role.calls])),
                    len(calls) / len(found.steps),
                    weights.mean(key) if gradient else 0.0,
                    work_of(found, calls) / len(found.steps) if gradient else 0.0,
                    gradient,
                )
            )
    return sorted(sides, key=lambda s: (s.term, s.kind == "coarse"))


def _sizes(hierarchy: MeshHierarchy | Sequence[int]) -> tuple[int, ...]:
    if isinstance(hierarchy, MeshHierarchy):
        return hierarchy.sizes
    if isinstance(hierarchy, str) or not isinstance(hierarchy, Sequence):
        raise InputError(
            "`hierarchy` must be a MeshHierarchy or the cells an axis of each mesh; "
            f"got {shortened(hierarchy)}"
        )
    return MeshHierarchy(1, tuple(hierarchy)).sizes


def _declared(batch_sizes: Sequence[int] | None, levels: int) -> tuple[int, ...] | None:
    if batch_sizes is None:
        return None
    if isinstance(batch_sizes, str) or not isinstance(batch_sizes, Sequence):
        raise InputError(
            f"`batch_sizes` must be whole numbers, coarse to fine; got {shortened(batch_sizes)}"
        )
    if len(batch_sizes) != levels:
        raise InputError(
            f"`batch_sizes` must have one entry a level, {levels}, coarse to fine; "
            f"got {shortened(batch_sizes)}"
        )
    return tuple(check_whole("batch_sizes", size, 1, 10**9) for size in batch_sizes)


def _callable(step: Callable[..., Any], module: nn.Module) -> Callable[[], Any]:
    """Bind the module where the step takes it."""
    if not callable(step):
        raise InputError(f"`step` must be callable; got {shortened(step)}")
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):  # builtins may have none
        return step
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    named = [p.name for p in parameters if p.default is p.empty and p.kind == p.KEYWORD_ONLY]
    if len(needed) > 1 or named:
        raise InputError(
            "`step` must take nothing, or the module; it needs "
            f"{', '.join([*(p.name for p in needed), *named])}"
        )
    return (lambda: step(module)) if needed else step
