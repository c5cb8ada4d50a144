"""Audit any torch module: gradients by level, layer and parameter, their orders, and the causes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv.audit.aliasing import PATHS as ALIASING_PATHS
from gradconv.audit.aliasing import Aliasing, aliasing
from gradconv.audit.explaining import explain_steps, find
from gradconv.audit.findings import Finding
from gradconv.audit.making import build, complete, output_channels
from gradconv.audit.measure import Gradients, joined, measure, plan
from gradconv.audit.result import Audit, Group
from gradconv.audit.subject import Subject
from gradconv.backend import Backend
from gradconv.errors import InputError, check_confidence, check_gib, check_whole
from gradconv.loading import name_of
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.choices import check_sample_fits, dimension, make_data, make_hierarchy
from gradconv.nn.evaluation import ROOT, WHOLE, Loss, Output, by_layer
from gradconv.nn.random_state import preserved_random_state
from gradconv.parallel import Progress
from gradconv.samplers import Sampler, TensorSampler
from gradconv.sampling import GIB
from gradconv.statistics import GradientSample

REPLICATES = 16
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def audit(
    module: nn.Module | Callable[..., nn.Module],
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
    replicates: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float64",
    mode: str | None = None,
    output: Output = None,
    memory: float = 4.0,
    confidence: float = 0.95,
    explain: bool = True,
    progress: Progress | None = None,
) -> Audit:
    """Measure the gradients of a module on every mesh of a hierarchy, and judge them.

    The module is copied: its weights, buffers, ``.grad``, modes and the global random states are
    left as they are, also when the audit is interrupted. Every evaluation starts from the same
    buffers, and all levels of a sample path from the same random state, so that stochastic
    modules (dropout) see one path too.

    Parameters
    ----------
    module : Module or callable
        Used as it is on every mesh. A callable without arguments makes the module once; one that
        takes ``n`` (cells an axis) or ``mesh`` makes it for each mesh, and every mesh gets the
        finest one's parameters. Inputs have shape ``(B, C, *n)``.
    loss : "mse" or callable
        ``loss(prediction, target) -> scalar``. "mse" is ½ Σ_channels |p − y|², averaged over cells
        and batch.
    data : None, Problem, (inputs, targets) or callable
        None: built-in data from the choices below. A `Problem`: its data; its kernel plays no part.
        Two tensors of shape ``(B, C, *finest)``: sample b is path b, restricted to the other meshes
        (targets of another number of axes serve all meshes as they are). A callable
        ``data(n, replicate) -> (input, target)``.
    hierarchy : MeshHierarchy or sequence of int
        The meshes, at least 4, each of twice the cells. Default: 16 to 256 cells an axis in 1-D,
        8 to 128 in 2-D, 4 to 32 in 3-D.
    dim : {1, 2, 3}
        Dimension; default: that of the first convolution, else 2.
    channels : int
        Channels of the built-in data; default: those the first layer with channels takes, else 1.
    signal, target, noise, setting, restriction, route
        Choices of the built-in data, as in `gradconv.Problem`; by default ``"sobolev:3"``,
        ``"identity"``, ``"pixel:0.5"``, ``"coarsening"``, ``"average"`` and ``"chain"``. The last
        two also restrict given tensors.
    replicates : int
        Sample paths, at least 2; default 16, or all given samples if they are fewer. Data and
        module without randomness have one.
    seed : int
        Seed of the data (the paths of `gradconv.sweep`), of weights that a factory draws, and of
        stochastic modules.
    device : str
        ``"cpu"`` or a torch device.
    dtype : {"float64", "float32"}
        Precision of module and data.
    mode : {None, "train", "eval"}
        Mode of the module; None: as it is.
    output : None, int, str or callable
        What of the module's output is the prediction: a key or index of it, or a function of it.
        By default the first entry of a tuple or dictionary, with a note.
    memory : float
        Bound in GiB on what the audit holds at once beyond the module given: its copy, gradients,
        results, and what one gradient takes, by a count of torch's tensors with a margin for what
        its functions use inside. Gradients that do not fit are computed in several passes.
    confidence : float
        Level of the intervals.
    explain : bool
        Whether to look for the causes: costs some further gradients a cause.
    progress : callable, optional
        Called with (steps done, steps); the latter may grow.

    Returns
    -------
    Audit
        ``.rate(quantity, group)``, ``.findings``, ``.aliasing``, ``.data``, ``.table()``,
        ``.to_dict()`` and ``.save(folder)``.

    Raises
    ------
    InputError
        If an argument breaks a rule, or the module cannot be audited; where one level is at fault,
        it is named.

    Examples
    --------
    >>> import torch
    >>> conv = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    >>> found = audit(conv, signal="band-limited:2", noise="none", hierarchy=(32, 64, 128, 256))
    >>> found.rate("mean_gap").verdict
    'converges'
    """
    Backend(device, dtype)
    check_confidence(confidence)
    check_whole("seed", seed, 0, 2**62)
    if replicates is not None:
        check_whole("replicates", replicates, 2, 10**6)
    check_gib(memory)
    with preserved_random_state(device), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        levels = make_hierarchy(hierarchy, dimension(module, data, hierarchy, dim), data)
        check_sample_fits(levels, channels or 1, memory)
        subject = build(
            module,
            levels,
            loss=loss,
            output=output,
            mode=mode,
            seed=seed,
            device=device,
            dtype=dtype,
        )
        choices = {
            "signal": signal,
            "target": target,
            "noise": noise,
            "setting": setting,
            "restriction": restriction,
            "route": route,
        }
        source = make_data(
            data,
            choices,
            channels,
            subject.reference,
            levels,
            seed,
            partial(output_channels, subject),
        )
        result = _audit(
            subject, source, replicates, seed, device, dtype, memory, confidence, explain, progress
        )
    return replace(result, notes=(*result.notes, *_heard(heard)))


def _heard(warned: list[warnings.WarningMessage]) -> list[str]:
    """Warnings of the module as notes, one for all that differ in numbers only."""
    kinds: dict[str, list[str]] = {}
    for w in warned:
        text = f"{w.category.__name__}: {' '.join(str(w.message).split())}"
        alike = kinds.setdefault(NUMBER.sub("#", text), [])
        if text not in alike:
            alike.append(text)
    return [
        texts[0] + (f" (and {len(texts) - 1} like it)" if len(texts) > 1 else "")
        for texts in kinds.values()
    ]


class _Steps:
    """Counts steps for the caller's callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.done, self.total = progress, 0, total

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, max(self.total, self.done))


def _audit(
    subject: Subject,
    source: Sampler,
    replicates: int | None,
    seed: int,
    device: str,
    dtype: str,
    memory: float,
    confidence: float,
    explain: bool,
    progress: Progress | None,
) -> Audit:
    x = source.path(0)[0][0]
    complete(subject, x)
    stochastic = _stochastic(subject, source)
    paths = _replicates(replicates, source, stochastic)
    scheme = plan(subject, source, paths, memory * GIB, explain)
    if scheme.passes > 1:
        subject.note(f"gradients were computed {scheme.passes} times to stay within `memory`")
    total = scheme.passes * paths + ALIASING_PATHS + (explain_steps() if explain else 0)
    step = _Steps(progress, total)
    measured = measure(subject, source, scheme, step)
    groups, samples = _grouped(subject, measured)
    found = _aliasing(subject, source, x, seed, step)
    result = Audit(
        {
            "module": subject.name,
            "parameters": groups[0].size,
            "levels": list(source.hierarchy.sizes),
            "dim": source.hierarchy.dim,
            "loss": name_of(subject.loss),
            "mode": "train" if subject.reference.training else "eval",
            "replicates": paths,
            "seed": seed,
            "confidence": confidence,
            **source.describe(),
        },
        source.hierarchy,
        groups,
        samples,
        found,
        (),
        (),
        seed,
        device,
        dtype,
        confidence,
    )
    findings: tuple[Finding, ...] = ()
    if explain:
        findings = find(subject, source, result, stochastic, step)
    if step.progress is not None:
        step.progress(step.done, step.done)
    return replace(result, findings=findings, notes=tuple(subject.notes))


def _stochastic(subject: Subject, source: Sampler) -> bool:
    """Whether the module draws random numbers; refuse one that does not repeat itself.

    Raises
    ------
    InputError
        If two gradients from the same input and random state differ beyond rounding.
    """
    x, y = source.path(0)[0]
    first, again, other = (subject.gradient(0, x, y, key) for key in (0, 0, 1))
    # sums on a device may be taken in another order each time: that is rounding
    tolerance = 1e4 * torch.finfo(subject.dtype).eps
    if _apart(first, again) > tolerance:
        raise InputError(
            "`module` must repeat itself from the same input, buffers and random state of torch, "
            f"numpy and Python; two gradients on {subject.where(0)} differ by "
            f"{_apart(first, again):.1e}"
        )
    if _apart(first, other) <= tolerance:
        return False
    subject.note(
        "the module is stochastic: all levels of a sample path start from one random state, "
        "each path from another"
    )
    return True


def _apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Relative difference of two gradients."""
    square = sum(float(torch.sum((a[n] - b[n]).double() ** 2)) for n in a)
    scale = sum(float(torch.sum(a[n].double() ** 2)) for n in a)
    return float(np.sqrt(square / scale)) if scale else float(np.sqrt(square))


def _replicates(given: int | None, source: Sampler, stochastic: bool) -> int:
    available = source.available
    if isinstance(source, TensorSampler):
        assert available is not None
        if given is not None and given > available:
            raise InputError(f"`replicates` must be at most the samples, {available}; got {given}")
        return min(given or REPLICATES, available)
    if available == 1 and not stochastic:
        return 1
    return given or REPLICATES


def _grouped(
    subject: Subject, measured: Gradients
) -> tuple[tuple[Group, ...], dict[str, GradientSample]]:
    """Join the tensors' gradients to those of layers and of the whole."""
    parameters = subject.parameters
    epsilon = float(torch.finfo(subject.dtype).eps)

    def sample(names: list[str]) -> GradientSample:
        gradients = joined([measured.paths[name] for name in names])
        squares = sum(measured.magnitude[name] ** 2 for name in names)
        return GradientSample(gradients, None, np.sqrt(squares), epsilon)

    def size(names: list[str]) -> int:
        return sum(parameters[name].numel() for name in names)

    everything = list(parameters)
    groups = [Group(WHOLE, "whole", size(everything), subject.name)]
    samples = {WHOLE: sample(everything)}
    modules = dict(subject.reference.named_modules())
    for layer, names in by_layer(parameters).items():
        owner = modules["" if layer == ROOT else layer]
        groups.append(Group(layer, "layer", size(names), type(owner).__name__))
        samples[layer] = sample(names)
    for name in everything:
        shape = "×".join(map(str, parameters[name].shape)) or "scalar"
        groups.append(Group(name, "parameter", size([name]), shape))
        samples[name] = sample([name])
    return tuple(groups), samples


def _aliasing(
    subject: Subject, source: Sampler, x: torch.Tensor, seed: int, step: _Steps
) -> Aliasing | None:
    field = x.ndim == source.hierarchy.dim + 2 and x.is_floating_point()
    if not field:
        subject.note("no aliasing error: inputs are no fields (B, C, *n)")
        return None
    try:
        return aliasing(subject, int(x.shape[1]), source.grid, seed, step)
    except InputError as error:
        subject.note(f"no aliasing error: {error}")
        return None
