"""What belongs to the user is put back: weights, buffers, gradients, modes, optimisers."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gradconv.errors import InputError, shortened


class Keeper:
    """Copies of everything that a training step may change, and how to put it back.

    Optimisers that nobody named are kept from the moment a step first uses them.

    Parameters
    ----------
    module : Module
        Its parameters, buffers, ``.grad``, modes and ``requires_grad`` are kept.
    others : iterable
        Optimisers, schedulers and the like: whatever has ``state_dict`` and ``load_state_dict``.
    """

    def __init__(self, module: nn.Module, others: Iterable[Any] = ()) -> None:
        self.module = module
        self.values = {
            name: t.detach().clone() for name, t in (*_parameters(module), *_buffers(module))
        }
        self.gradients = {
            name: (p.grad, None if p.grad is None else p.grad.detach().clone())
            for name, p in _parameters(module)
        }
        self.trainable = {name: p.requires_grad for name, p in _parameters(module)}
        self.modes = {name: part.training for name, part in module.named_modules()}
        self.others: dict[int, tuple[Any, Any]] = {}
        for other in others:
            if not all(hasattr(other, name) for name in ("state_dict", "load_state_dict")):
                raise InputError(
                    f"`optimizer` must have state_dict and load_state_dict; got {shortened(other)}"
                )
            self.keep(other)

    def keep(self, other: Any) -> None:
        """Copy the state of an optimiser, unless it is kept already."""
        if id(other) not in self.others:
            self.others[id(other)] = (other, copy.deepcopy(other.state_dict()))

    def put_weights_back(self) -> None:
        """Give parameters and buffers their values."""
        with torch.no_grad():
            for name, t in (*_parameters(self.module), *_buffers(self.module)):
                if name in self.values and not torch.equal(t, self.values[name]):
                    t.copy_(self.values[name])

    def put_state_back(self) -> None:
        """Give weights, modes and optimisers back; gradients stay as the step left them."""
        self.put_weights_back()
        for name, part in self.module.named_modules():
            if name in self.modes:
                part.training = self.modes[name]
        for name, parameter in _parameters(self.module):
            parameter.requires_grad_(self.trainable.get(name, parameter.requires_grad))
        for other, state in self.others.values():
            other.load_state_dict(copy.deepcopy(state))

    def put_all_back(self) -> None:
        """Give everything back, gradients too."""
        self.put_state_back()
        for name, parameter in _parameters(self.module):
            tensor, values = self.gradients.get(name, (None, None))
            if tensor is not None and values is not None:
                tensor.detach().copy_(values)
            parameter.grad = tensor

    def moved(self) -> float:
        """Relative distance of the parameters from where they were."""
        with torch.no_grad():
            change = scale = 0.0
            for name, p in _parameters(self.module):
                change += float((p - self.values[name]).abs().double().square().sum())
                scale += float(self.values[name].abs().double().square().sum())
        return float((change / scale) ** 0.5) if scale else float(change**0.5)


def _parameters(module: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return module.named_parameters()


def _buffers(module: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    return ((f"buffer {name}", b) for name, b in module.named_buffers())
