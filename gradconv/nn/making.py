"""A user's module: copied, or made for each mesh, cast, and what its layers say of its channels."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from gradconv.errors import InputError, shortened
from gradconv.mesh import Mesh
from gradconv.nn.evaluation import first_line, precision
from gradconv.nn.random_state import start_random_state
from gradconv.problem import Problem

MODES = ("train", "eval")
FACTORY_KEY = 2**20  # random streams of making, apart from those of sample paths


def copied(module: nn.Module) -> nn.Module:
    """Copy a module, also one that holds results of its last run.

    Raises
    ------
    InputError
        If ``copy.deepcopy`` cannot.
    """
    # Spectral norm and pruning keep a computed weight beside the parameter, and torch refuses to
    # copy it; it is made anew in every run.
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for owner in module.modules()
        for value in vars(owner).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise InputError(
            f"`module` must be copyable, so that it is left as it is; copy.deepcopy raised "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


def made(factory: Callable[..., Any], seed: int, *args: Any, **kwargs: Any) -> nn.Module:
    """Make a module; a seed gives the same weights on every mesh and in every run.

    Call inside `preserved_random_state` only.

    Raises
    ------
    InputError
        If the factory fails or makes anything else.
    """
    start_random_state(seed, FACTORY_KEY)
    try:
        module = factory(*args, **kwargs)
    except Exception as error:  # each factory has errors of its own
        shown = ", ".join([*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
        raise InputError(
            f"`module` factory must make a module; called with ({shown}) it raised "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"`module` factory must make a torch.nn.Module; got {shortened(module)}")
    return module


def made_for_meshes(
    factory: Callable[..., Any], meshes: Sequence[Mesh], seed: int
) -> list[nn.Module]:
    """Make a module for each mesh, or one for all if the factory takes neither ``n`` nor ``mesh``.

    Parameters
    ----------
    factory : callable
        Takes ``n`` (cells an axis) or ``mesh`` by that name, n by position, or nothing.
    meshes : sequence of Mesh
        The levels.
    seed : int
        Of the weights.

    Raises
    ------
    InputError
        If it cannot be called, needs other arguments, fails, or makes anything else.
    """
    if not callable(factory):
        raise InputError(
            f"`module` must be a torch.nn.Module or a callable that makes one; "
            f"got {shortened(factory)}"
        )
    style = _style(factory)
    if style == "none":
        return [made(factory, seed)] * len(meshes)
    if style == "position":
        return [made(factory, seed, mesh.n) for mesh in meshes]
    return [made(factory, seed, **{style: mesh if style == "mesh" else mesh.n}) for mesh in meshes]


def _style(factory: Callable[..., Any]) -> str:
    """How a factory wants to be called: with ``n`` or ``mesh`` by name, n by position, bare."""
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
            return "none" if p.kind == kinds.POSITIONAL_ONLY else p.name
    if not required:
        return "none"
    if len(required) == 1 and required[0].kind != kinds.KEYWORD_ONLY:
        return "position"
    raise InputError(
        "`module` factory must be called without arguments, or with `n` or `mesh`; "
        f"got one that needs {', '.join(p.name for p in required)}"
    )


def cast(module: nn.Module, device: str, real: torch.dtype) -> None:
    """Move a module to device and precision; `Module.to` would drop imaginary parts."""
    for owner in module.modules():
        if any(isinstance(p, UninitializedParameter) for p in owner.parameters(recurse=False)):
            owner.to(device, real)  # they have no data yet to be moved
    for p in module.parameters():
        if isinstance(p, UninitializedParameter):
            continue
        p.data = p.data.to(device, precision(p.data, real))
        p.grad = None
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            moved = buffer.to(device, precision(buffer, real))
            if moved is not buffer:
                setattr(owner, name, moved)


def set_mode(module: nn.Module, mode: str | None) -> None:
    """Put a module into training or evaluation mode; None leaves it as it is.

    Raises
    ------
    InputError
        If there is no such mode.
    """
    if mode is not None and mode not in MODES:
        raise InputError(f"`mode` must be train, eval or None; got {shortened(mode)}")
    if mode is not None:
        module.train(mode == "train")


def first_channels(module: nn.Module) -> int | None:
    """Input channels of the first layer that tells."""
    for layer in module.modules():
        channels = getattr(layer, "in_channels", None)
        if isinstance(channels, int) and channels > 0:
            return channels
    return None


def output_channels(predict: Callable[[Tensor], Any], problem: Problem, mesh: Mesh) -> int | None:
    """Channels of a prediction, if it is a field with others than the problem's data.

    Parameters
    ----------
    predict : callable
        Takes an input ``(1, C, *n)`` in float64.
    problem : Problem
        The data.
    mesh : Mesh
        Where it is run.
    """
    with torch.no_grad():
        found = predict(torch.zeros(1, problem.channels, *mesh.shape, dtype=torch.float64))
    field = isinstance(found, Tensor) and found.ndim == problem.dim + 2
    count = int(found.shape[1]) if field else problem.channels
    return None if count == problem.channels else count
