"""Making the subject of an audit: copies of a module, or what a factory makes for each mesh."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from gradconv.audit.subject import Subject
from gradconv.errors import InputError
from gradconv.loading import name_of
from gradconv.mesh import MeshHierarchy
from gradconv.nn import making
from gradconv.nn.evaluation import Loss, Output, as_loss
from gradconv.nn.making import FACTORY_KEY, cast, copied, made_for_meshes, set_mode
from gradconv.problem import Problem


def build(
    given: Any,
    hierarchy: MeshHierarchy,
    *,
    loss: str | Loss,
    output: Output,
    mode: str | None,
    seed: int,
    device: str,
    dtype: str,
) -> Subject:
    """Copy a module, or make one a mesh, in the audit's precision; what was given stays as it is.

    Raises
    ------
    InputError
        If it is no module and makes none, cannot be copied, has no parameter to audit, or has
        parameters that change with the mesh.
    """
    criterion = as_loss(loss)
    if isinstance(given, nn.Module):
        modules = [copied(given)] * len(hierarchy)
        name = type(given).__name__
    else:
        modules = made_for_meshes(given, hierarchy.meshes, seed)
        name = name_of(given)
    subject = Subject(
        name,
        modules,
        hierarchy.meshes,
        criterion,
        output,
        seed,
        device,
        getattr(torch, dtype),
    )
    for module in _distinct(modules):
        cast(module, device, subject.dtype)
        set_mode(module, mode)
    if mode is None and not subject.reference.training:
        subject.note("the module is in evaluation mode and is audited in it")
    return subject


def complete(subject: Subject, x: torch.Tensor) -> None:
    """Initialise lazy parameters from the coarsest input, then check and join the parameters.

    Raises
    ------
    InputError
        If there is nothing to audit, a weight is not finite, or shapes differ between meshes.
    """
    initialise(subject, x)
    parameters = subject.parameters
    if not parameters:
        frozen = any(True for _ in subject.reference.parameters())
        why = "all of its parameters have requires_grad=False" if frozen else "it has none"
        raise InputError(f"`module` must have a parameter that takes a gradient; {why}")
    for name, parameter in subject.reference.named_parameters():
        if not bool(torch.isfinite(parameter.detach()).all()):
            raise InputError(f"`module` weights must be finite; got NaN or infinity in {name}")
        if not parameter.requires_grad:
            subject.note(f"{name} takes no gradient (requires_grad=False) and is left out")
    _join(subject)
    subject.keep_buffers()


def initialise(subject: Subject, x: torch.Tensor) -> None:
    """Let lazy parameters take their shapes from an input of the coarsest mesh."""
    lazy = [
        name
        for module in _distinct(subject.modules)
        for name, p in module.named_parameters()
        if isinstance(p, UninitializedParameter)
    ]
    if not lazy:
        return
    for level, module in enumerate(subject.modules):
        if any(isinstance(p, UninitializedParameter) for p in module.parameters()):
            with torch.no_grad():
                subject.predict(level, x, FACTORY_KEY)
            cast(module, subject.device, subject.dtype)
    subject.note(
        f"lazy parameters ({', '.join(dict.fromkeys(lazy))}) were initialised in the copy "
        "by the seed; those of the module itself are untouched"
    )


def output_channels(subject: Subject, problem: Problem) -> int | None:
    """Channels of the module's output on the coarsest mesh, if it is a field of that mesh."""

    def predict(x: torch.Tensor) -> Any:
        initialise(subject, x)
        return subject.predict(0, x, 0)

    count = making.output_channels(predict, problem, subject.meshes[0])
    if count is not None:
        subject.note(
            f"the output has {count} channels, the input {problem.channels}: the target repeats "
            "the signal's channels in turn"
        )
    return count


def _join(subject: Subject) -> None:
    """Give the modules of all meshes the finest one's parameters."""
    reference = dict(subject.reference.named_parameters())
    for level, module in enumerate(subject.modules[:-1]):
        if module is subject.reference:
            continue
        there = dict(module.named_parameters())
        for name in reference.keys() | there.keys():
            shapes = [tuple(p[name].shape) if name in p else None for p in (there, reference)]
            if shapes[0] != shapes[1]:
                raise InputError(
                    f"`module` must have the same parameters on every mesh; {name} has shape "
                    f"{shapes[0]} on {subject.where(level)} and {shapes[1]} on "
                    f"{subject.where(len(subject.modules) - 1)}: it is tied to the mesh, and its "
                    "gradients cannot be compared"
                )
        buffers = dict(subject.reference.named_buffers())
        with torch.no_grad():
            for name, parameter in there.items():
                parameter.copy_(reference[name])
            for name, buffer in module.named_buffers():
                if name in buffers and buffers[name].shape == buffer.shape and _learnt(name):
                    buffer.copy_(buffers[name])


def _learnt(buffer: str) -> bool:
    # other buffers may hold what belongs to the mesh, such as coordinates
    return buffer.rpartition(".")[2].startswith("running_")


def _distinct(modules: list[nn.Module]) -> list[nn.Module]:
    return list(dict.fromkeys(modules))
