"""From the arguments of a diagnosis to a copy of the model, its loss and its data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from gradconv.errors import InputError, shortened
from gradconv.multilevel.diagnosis.kernel_module import KernelModule
from gradconv.multilevel.evaluator import Evaluator
from gradconv.nn.evaluation import Loss, Output, first_line, pick, run_module
from gradconv.nn.fitting.probe import copied
from gradconv.nn.random_state import preserved_buffers, start_random_state
from gradconv.problem import Problem
from gradconv.samplers import ProblemSampler, Sampler
from gradconv.samplers.choices import dimension, make_data, make_hierarchy

MODES = ("train", "eval")
FACTORY_KEY = 2**20  # random streams of making, apart from those of samples


@dataclass(frozen=True)
class Subject:
    """What is diagnosed.

    Parameters
    ----------
    name : str
        The model in words.
    evaluator : Evaluator
        A copy of it, with loss and data.
    problem : Problem or None
        Built-in data, whose laws are known.
    own : bool
        Whether the model is that problem's layer.
    """

    name: str
    evaluator: Evaluator
    problem: Problem | None
    own: bool


def make_subject(
    model: Any,
    loss: str | Loss,
    data: Any,
    hierarchy: Any,
    *,
    dim: int | None,
    channels: int | None,
    choices: dict[str, Any],
    seed: int,
    device: str,
    dtype: str,
    mode: str | None,
    output: Output,
) -> Subject:
    """Copy or make the model, and make its data.

    Raises
    ------
    InputError
        If an argument breaks a rule.
    """
    if mode is not None and mode not in MODES:
        raise InputError(f"`mode` must be train, eval or None; got {shortened(mode)}")
    own = isinstance(model, Problem)
    if own:
        data, module, name = _own_data(model, data, loss, choices, channels), *_layer(model)
    else:
        module, name = _made(model, seed)
    _cast(module, getattr(torch, dtype), device)
    if mode is not None:
        module.train(mode == "train")
    if isinstance(data, Sampler):
        sampler = _given_sampler(data, hierarchy, choices, channels, dim)
    else:
        levels = make_hierarchy(hierarchy, dimension(module, data, hierarchy, dim), data)
        probe = partial(_output_channels, module, output, levels.sizes[0], getattr(torch, dtype))
        sampler = make_data(data, choices, channels, module, levels, seed, probe)
    evaluator = Evaluator(module, loss, sampler, output=output, seed=seed)
    batch_statistics = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training
    ]
    if batch_statistics:
        evaluator.note(
            f"{', '.join(batch_statistics)} normalises over the batch: the gradient of a batch is "
            "not the mean of its samples' gradients, and no variance here is that of a batch "
            "(`mode` eval takes the running statistics)"
        )
    problem = sampler.problem if isinstance(sampler, ProblemSampler) else None
    return Subject(name, evaluator, problem, own)


def _own_data(
    problem: Problem, data: Any, loss: Any, choices: dict[str, Any], channels: int | None
) -> Problem:
    given = [name for name, value in (*choices.items(), ("channels", channels)) if value]
    given += ["data"] if data is not None else []
    given += ["loss"] if loss != "mse" else []
    if given:
        raise InputError(
            f"`{given[0]}` belongs to a model of one's own; got it together with a Problem, which "
            "has its own"
        )
    return problem


def _layer(problem: Problem) -> tuple[nn.Module, str]:
    return KernelModule(problem.convolution, problem.boundary), str(problem.describe()["kernel"])


def _made(given: Any, seed: int) -> tuple[nn.Module, str]:
    """A copy of a module, or what a callable without arguments makes."""
    if isinstance(given, nn.Module):
        return copied(given, "model"), type(given).__name__
    if not callable(given):
        raise InputError(
            "`model` must be a torch.nn.Module, a callable that makes one, or a Problem; "
            f"got {shortened(given)}"
        )
    start_random_state(seed, FACTORY_KEY)
    try:
        made = given()
    except Exception as error:  # each factory has errors of its own
        raise InputError(
            "`model` must be one module for all meshes, made by a call without arguments; it "
            f"raised {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"`model` must make a torch.nn.Module; got {shortened(made)}")
    return made, getattr(given, "__qualname__", type(given).__qualname__)


def _given_sampler(
    sampler: Sampler, hierarchy: Any, choices: dict[str, Any], channels: int | None, dim: Any
) -> Sampler:
    """Refuse choices that a sampler has made already."""
    others = {"hierarchy": hierarchy, "dim": dim, "channels": channels, **choices}
    for name, value in others.items():
        if value is not None and not (name == "hierarchy" and value == sampler.hierarchy):
            raise InputError(f"`{name}` belongs to the sampler; got it together with `data`")
    return sampler


def _output_channels(
    module: nn.Module, output: Output, n: int, dtype: torch.dtype, problem: Problem
) -> int | None:
    """Channels of the prediction on the coarsest mesh, if it is a field of that mesh."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    x = torch.zeros(1, problem.channels, *(n,) * problem.dim, dtype=dtype, device=device)
    where = f"level 0 (n={n})"
    with torch.no_grad(), preserved_buffers(module):
        made = pick(run_module(module, x, where, "model"), output, where, _ignore)
    field = isinstance(made, torch.Tensor) and made.ndim == problem.dim + 2
    count = int(made.shape[1]) if field else problem.channels
    return None if count == problem.channels else count


def _ignore(text: str) -> None:
    """Take a note that is made again later."""


def _cast(module: nn.Module, real: torch.dtype, device: str) -> None:
    """Move a module to device and precision; `Module.to` would drop imaginary parts."""
    complex_ = torch.complex128 if real == torch.float64 else torch.complex64

    def kind(value: torch.Tensor) -> torch.dtype:
        if value.is_complex():
            return complex_
        return real if value.is_floating_point() else value.dtype

    for name, p in module.named_parameters():
        if isinstance(p, UninitializedParameter):
            raise InputError(
                f"`model` must have parameters with values; {name} is lazy: call the model once"
            )
        p.data = p.data.to(device, kind(p.data))
        p.grad = None
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            setattr(owner, name, buffer.to(device, kind(buffer)))
