"""From the arguments of a diagnosis to a copy of the module, its loss and its data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from gradconv.errors import InputError, shortened
from gradconv.loading import name_of
from gradconv.mesh import Mesh
from gradconv.multilevel.choices import dimension, make_data, make_hierarchy
from gradconv.multilevel.diagnosis.kernel_module import KernelModule
from gradconv.multilevel.evaluator import Evaluator
from gradconv.nn import making
from gradconv.nn.evaluation import Loss, Output, pick, placed, run_module
from gradconv.nn.making import cast, copied, made, set_mode
from gradconv.nn.random_state import preserved_buffers
from gradconv.problem import Problem
from gradconv.samplers import ProblemSampler, Sampler


@dataclass(frozen=True)
class Subject:
    """What is diagnosed.

    Parameters
    ----------
    name : str
        The module in words.
    evaluator : Evaluator
        A copy of it, with loss and data.
    problem : Problem or None
        Built-in data, whose laws are known.
    own : bool
        Whether the module is that problem's layer.
    """

    name: str
    evaluator: Evaluator
    problem: Problem | None
    own: bool


def make_subject(
    given: Any,
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
    """Copy or make the module, and make its data.

    Raises
    ------
    InputError
        If an argument breaks a rule.
    """
    own = isinstance(given, Problem)
    if own:
        data, module, name = _own_data(given, data, loss, choices, channels), *_layer(given)
    else:
        module, name = _module(given, seed)
    for parameter, value in module.named_parameters():
        if isinstance(value, UninitializedParameter):
            raise InputError(
                f"`module` must have parameters with values; {parameter} is lazy: call it once"
            )
    cast(module, device, getattr(torch, dtype))
    set_mode(module, mode)
    if isinstance(data, Sampler):
        sampler = _given_sampler(data, hierarchy, choices, channels, dim)
    else:
        levels = make_hierarchy(hierarchy, dimension(module, data, hierarchy, dim), data)
        probe = partial(_output_channels, module, output, levels.meshes[0], device, dtype)
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
            f"`{given[0]}` belongs to a module of one's own; got it together with a Problem, which "
            "has its own"
        )
    return problem


def _layer(problem: Problem) -> tuple[nn.Module, str]:
    return KernelModule(problem.convolution, problem.boundary), str(problem.describe()["kernel"])


def _module(given: Any, seed: int) -> tuple[nn.Module, str]:
    """A copy of a module, or what a callable without arguments makes."""
    if isinstance(given, nn.Module):
        return copied(given), type(given).__name__
    if not callable(given):
        raise InputError(
            "`module` must be a torch.nn.Module, a callable that makes one, or a Problem; "
            f"got {shortened(given)}"
        )
    return made(given, seed), name_of(given)


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
    module: nn.Module, output: Output, mesh: Mesh, device: str, dtype: str, problem: Problem
) -> int | None:
    where = f"level 0 (n={mesh.n})"

    def predict(x: torch.Tensor) -> Any:
        x = placed(x, device, getattr(torch, dtype))
        return pick(run_module(module, x, where), output, where, _ignore)

    with preserved_buffers(module):
        return making.output_channels(predict, problem, mesh)


def _ignore(text: str) -> None:
    """Take a note that is made again later."""
