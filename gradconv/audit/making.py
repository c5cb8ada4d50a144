"""Making the subject of an audit: copies of a module, or what a factory makes for each mesh."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from gradconv.audit.subject import (
    FACTORY_KEY,
    MODES,
    Subject,
    convert,
)
from gradconv.errors import InputError, shortened
from gradconv.mesh import MeshHierarchy
from gradconv.nn.evaluation import Loss, Output, first_line, mean_square
from gradconv.nn.fitting.probe import copied
from gradconv.nn.random_state import start_random_state
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
    if loss != "mse" and not callable(loss):
        raise InputError(f"`loss` must be 'mse' or a callable; got {shortened(loss)}")
    if mode is not None and mode not in MODES:
        raise InputError(f"`mode` must be train, eval or None; got {shortened(mode)}")
    if isinstance(given, nn.Module):
        modules = [_copied(given)] * len(hierarchy)
        name = type(given).__name__
    elif callable(given):
        modules = _made(given, hierarchy, seed)
        name = getattr(given, "__qualname__", type(given).__qualname__)
    else:
        raise InputError(
            f"`module` must be a torch.nn.Module or a callable that makes one; "
            f"got {shortened(given)}"
        )
    subject = Subject(
        name,
        modules,
        hierarchy.meshes,
        mean_square if isinstance(loss, str) else loss,
        output,
        seed,
        device,
        getattr(torch, dtype),
    )
    for module in _distinct(modules):
        _cast(module, subject)
        if mode is not None:
            module.train(mode == "train")
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
            _cast(module, subject)
    subject.note(
        f"lazy parameters ({', '.join(dict.fromkeys(lazy))}) were initialised in the copy "
        "by the seed; those of the module itself are untouched"
    )


def output_channels(subject: Subject, problem: Problem) -> int | None:
    """Channels of the module's output on the coarsest mesh, if it is a field of that mesh."""
    x = torch.zeros(1, problem.channels, *subject.meshes[0].shape, dtype=torch.float64)
    initialise(subject, x)
    with torch.no_grad():
        made = subject.predict(0, x, 0)
    field = isinstance(made, torch.Tensor) and made.ndim == problem.dim + 2
    count = int(made.shape[1]) if field else problem.channels
    if count == problem.channels:
        return None
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


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copied(module, "module")
    except InputError as error:
        raise InputError(f"{error} (a factory that makes the module does as well)") from error


def _made(factory: Callable[..., Any], hierarchy: MeshHierarchy, seed: int) -> list[nn.Module]:
    style = _style(factory)
    if style == "none":
        return [_call(factory, seed)] * len(hierarchy)
    keyword = style.startswith("keyword ")
    modules = []
    for mesh in hierarchy.meshes:
        name = style.removeprefix("keyword ")
        value: Any = mesh if name == "mesh" else mesh.n
        modules.append(
            _call(factory, seed, **{name: value}) if keyword else _call(factory, seed, value)
        )
    return modules


def _style(factory: Callable[..., Any]) -> str:
    """How a factory wants to be called: with ``n`` or ``mesh`` by keyword, n by position, bare."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return "none"
    kinds = inspect.Parameter
    accepted = [
        p
        for p in signature.parameters.values()
        if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    required = [p for p in accepted if p.default is kinds.empty]
    for p in accepted:
        if p.name in ("n", "mesh") and all(r.name == p.name for r in required):
            return "none" if p.kind == kinds.POSITIONAL_ONLY else f"keyword {p.name}"
    if not required:
        return "none"
    if len(required) == 1 and required[0].kind != kinds.KEYWORD_ONLY:
        return "position"
    raise InputError(
        "`module` factory must be called without arguments, or with `n` or `mesh`; "
        f"got one that needs {', '.join(p.name for p in required)}"
    )


def _call(factory: Callable[..., Any], seed: int, *args: Any, **kwargs: Any) -> nn.Module:
    start_random_state(seed, FACTORY_KEY)  # the same weights on every mesh, and in every run
    try:
        made = factory(*args, **kwargs)
    except Exception as error:  # each factory has errors of its own
        shown = ", ".join([*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
        raise InputError(
            f"`module` factory must make a module; called with ({shown}) it raised "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"`module` factory must make a torch.nn.Module; got {shortened(made)}")
    return made


def _cast(module: nn.Module, subject: Subject) -> None:
    """Move a module to the device and precision; `Module.to` would drop imaginary parts."""
    kinds = (subject.dtype, subject.complex_dtype)
    for owner in module.modules():
        if any(isinstance(p, UninitializedParameter) for p in owner.parameters(recurse=False)):
            owner.to(subject.device, subject.dtype)  # they have no data yet to be moved
    for p in module.parameters():
        if isinstance(p, UninitializedParameter):
            continue
        p.data = p.data.to(subject.device, convert(p.data, *kinds))
        p.grad = None
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            moved = buffer.to(subject.device, convert(buffer, *kinds))
            if moved is not buffer:
                setattr(owner, name, moved)
