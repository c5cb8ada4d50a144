"""Which mesh each convolution of a network works on, found by running it once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from gradconv.errors import InputError, shortened
from gradconv.nn.making import copied, first_channels


def meshes_of(
    module: nn.Module, mesh: tuple[int, ...], inputs: Tensor | tuple[object, ...] | None
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Run a copy of a network in evaluation mode and note what its convolutions are given.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed, nor is the state of torch's random numbers.
    mesh : tuple of int
        Points an axis of the input.
    inputs : Tensor, tuple or None
        Arguments of ``forward``; None for zeros ``(1, channels, *mesh)``.

    Returns
    -------
    dict
        Names of the convolutions that were reached, with the different meshes in order; a module
        with several names is listed under each.

    Raises
    ------
    InputError
        If the network cannot be copied or run, or no input lives on the mesh.
    """
    network = copied(module)  # lazy modules and statistics change when run
    seen: dict[int, dict[tuple[int, ...], None]] = {}

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, Tensor) and isinstance(layer, _ConvNd):
            dim = len(layer.kernel_size)
            seen.setdefault(id(layer), {})[tuple(x.shape[-dim:])] = None

    for layer in network.modules():
        if isinstance(layer, _ConvNd):
            layer.register_forward_pre_hook(note, with_kwargs=True)
    names = list(network.named_modules(remove_duplicate=False))
    given = _default_inputs(network, mesh) if inputs is None else inputs
    args = given if isinstance(given, tuple) else (given,)
    if not any(isinstance(a, Tensor) and tuple(a.shape[-len(mesh) :]) == mesh for a in args):
        raise InputError(
            f"`inputs` must hold a tensor whose last axes are the mesh {mesh}; "
            f"got {', '.join(_shape(a) for a in args)}"
        )
    devices = sorted({p.device.index or 0 for p in network.parameters() if p.device.type == "cuda"})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            network.eval()(*args)
    except InputError:
        raise
    except Exception as error:
        shapes = ", ".join(_shape(a) for a in args)
        raise InputError(
            f"`inputs` must be what the module can be run on; got {shapes} and "
            f"{type(error).__name__}: {shortened(str(error))}"
        ) from error
    return {name: tuple(seen[id(layer)]) for name, layer in names if id(layer) in seen}


def _default_inputs(module: nn.Module, mesh: tuple[int, ...]) -> Tensor:
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.zeros(1, first_channels(module) or 1, *mesh, dtype=like.dtype, device=like.device)


def _shape(value: object) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shortened(value)
    )
