"""A module's prediction and loss on one mesh, with errors that name what failed and where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from gradconv.errors import InputError, shortened

Loss = Callable[[Any, Any], torch.Tensor]
Output = int | str | Callable[[Any], Any] | None
WHOLE = "whole"  # the gradient by all parameters
ROOT = "(module)"  # the layer that the module itself is, if it owns parameters directly


def mean_square(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """½ Σ_channels |p − y|², averaged over cells and batch: the loss of `gradconv.Problem`.

    Parameters
    ----------
    prediction, target : Tensor
        Shape ``(B, C, *n)``.

    Returns
    -------
    Tensor
        Scalar. A mean over the channels too would divide it by C on every mesh alike.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if prediction.shape != target.shape:
        raise InputError(
            f"`loss` mse needs an output of the target's shape {tuple(target.shape)}; "
            f"got {tuple(prediction.shape)}"
        )
    square = (prediction - target).abs().square()
    return 0.5 * square.sum(dim=1).mean()


def as_loss(loss: str | Loss) -> Loss:
    """Return the loss that "mse" stands for, or the callable that was given.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(loss, str) and loss == "mse":
        return mean_square
    if not callable(loss):
        raise InputError(f"`loss` must be 'mse' or a callable; got {shortened(loss)}")
    return loss


def precision(value: torch.Tensor, real: torch.dtype) -> torch.dtype:
    """Type of a tensor where reals are `real`: integers and truth values keep theirs."""
    if value.is_complex():
        return real.to_complex()
    return real if value.is_floating_point() else value.dtype


def placed(value: Any, device: str | torch.device, real: torch.dtype) -> Any:
    """Move a tensor (or a nest of them) to a device, in the precision of `real`."""
    if isinstance(value, torch.Tensor):
        return value.to(device, precision(value, real))
    if isinstance(value, (list, tuple)):
        return type(value)(placed(v, device, real) for v in value)
    return value


def run_module(module: nn.Module, x: torch.Tensor, where: str) -> Any:
    """Call a module on a mesh.

    Parameters
    ----------
    module : Module
        The module.
    x : Tensor
        Input, shape ``(B, C, *n)``.
    where : str
        The level, as an error names it.

    Raises
    ------
    InputError
        If it cannot run there.
    """
    try:
        return module(x)
    except InputError:
        raise
    except Exception as error:  # each module has errors of its own
        raise InputError(
            f"`module` must run on every mesh; on {where}, with input of shape "
            f"{tuple(x.shape)}, it raised {type(error).__name__}: {first_line(error)}"
        ) from error


def pick(made: Any, output: Output, where: str, note: Callable[[str], None]) -> Any:
    """Pick the prediction out of what a module returned.

    Parameters
    ----------
    made : Any
        What it returned.
    output : int, str, callable or None
        Key, index or function; None takes a tensor, or the first entry of a tuple or dictionary.
    where : str
        The level, as an error names it.
    note : callable
        Told of a choice that was made.

    Raises
    ------
    InputError
        If there is no such part.
    """
    if callable(output):
        return output(made)
    try:
        if output is not None:
            return made[output]
    except (KeyError, IndexError, TypeError):
        raise InputError(
            f"`output` must pick a part of what the module returns; got {output!r} "
            f"for {_kind(made)} on {where}"
        ) from None
    if isinstance(made, torch.Tensor):
        return made
    parts = list(made.values()) if isinstance(made, Mapping) else made
    if isinstance(parts, (list, tuple)) and parts and isinstance(parts[0], torch.Tensor):
        note(f"the module returns {_kind(made)}: its first entry is the prediction")
        return parts[0]
    raise InputError(
        f"`output` must pick a tensor out of what the module returns; "
        f"got none for {_kind(made)} on {where}"
    )


def loss_value(loss: Loss, prediction: Any, target: Any, where: str) -> torch.Tensor:
    """Loss on a mesh: a finite real scalar that depends on the prediction.

    Raises
    ------
    InputError
        If the loss cannot run there, or gives anything else.
    """
    try:
        value = loss(prediction, target)
    except InputError as error:
        raise InputError(
            f"{error} on {where} (a module of another task needs `loss` or `data`)"
        ) from None
    except Exception as error:  # each loss has errors of its own
        raise InputError(
            f"`loss` must take the prediction and the target; on {where} it raised "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else shortened(value)
        raise InputError(f"`loss` must return a scalar tensor; got {shape}")
    if value.is_complex() or not bool(torch.isfinite(value)):
        raise InputError(f"`loss` must be finite and real; got {value.item()} on {where}")
    return value


def require_differentiable(value: torch.Tensor, where: str) -> None:
    """Refuse a loss that autograd cannot follow to the parameters.

    Raises
    ------
    InputError
        If it is detached.
    """
    if not value.requires_grad:
        raise InputError(
            f"`loss` must depend on the parameters through torch; on {where} it "
            "is detached from them"
        )


def flat_gradients(
    value: torch.Tensor, parameters: dict[str, nn.Parameter], where: str
) -> dict[str, torch.Tensor]:
    """Gradient of a loss by each parameter, as flat real vectors; no ``.grad`` is touched.

    Parameters
    ----------
    value : Tensor
        Scalar loss.
    parameters : dict
        By name.
    where : str
        The level, as an error names it.

    Returns
    -------
    dict
        By name; complex parameters give real and imaginary parts in turn. A parameter that the
        loss does not depend on has zeros.

    Raises
    ------
    InputError
        If the loss is detached, or a gradient is not finite.
    """
    require_differentiable(value, where)
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    flat = {}
    for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
        if gradient is None:
            gradient = torch.zeros_like(parameter)
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient)
        flat[name] = gradient.detach().to_dense().reshape(-1)
        if not bool(torch.isfinite(flat[name]).all()):
            raise InputError(
                f"`module` must have finite gradients; got NaN or infinity for {name} on {where}"
            )
    return flat


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that take a gradient, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def by_layer(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of parameters by the layer that owns them, in order."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(name.rpartition(".")[0] or ROOT, []).append(name)
    return layers


def first_line(error: Exception) -> str:
    """First line of an error's message, cut to 200 characters."""
    return " ".join((str(error).splitlines() or ["no message"])[0].split())[:200]


def _kind(made: Any) -> str:
    name = type(made).__name__
    if isinstance(made, Mapping):
        return f"a {name} of {', '.join(map(str, list(made)[:6]))}"
    return f"a {name} of {len(made)} entries" if isinstance(made, (list, tuple)) else f"a {name}"
