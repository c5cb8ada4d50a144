"""What happens inside a module: which layers are called, with what, and which is running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gradconv.audit.subject import Subject
from gradconv.nn.evaluation import ROOT


@dataclass
class Call:
    """First call of a layer on a level.

    Parameters
    ----------
    layer : str
        Dotted name.
    module : Module
        The layer.
    args, kwargs
        As it was called.
    output : Any
        What it returned.
    """

    layer: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    def fields(self, dim: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Input and output, if both are fields ``(B, C, *n)`` of the mesh."""
        made = self.output
        if not self.args or not isinstance(self.args[0], torch.Tensor):
            return None
        if not isinstance(made, torch.Tensor):
            return None
        x = self.args[0]
        sound = x.ndim == made.ndim == dim + 2 and x.is_floating_point()
        return (x, made) if sound else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Call the layer again on another input."""
        made: torch.Tensor = self.module(x, *self.args[1:], **self.kwargs)
        return made


class Whereabouts:
    """Which layer is running."""

    def __init__(self) -> None:
        self.stack: list[str] = []

    @property
    def layer(self) -> str:
        """Dotted name of the innermost layer that is running."""
        return self.stack[-1] if self.stack else ROOT

    @contextmanager
    def follow(self, module: nn.Module) -> Iterator[None]:
        """Follow the calls of a module's layers."""
        with ExitStack() as stack:
            for name, layer in module.named_modules():
                enter = layer.register_forward_pre_hook(self._enter(name or ROOT))
                stack.callback(enter.remove)
                leave = layer.register_forward_hook(self._leave, always_call=True)
                stack.callback(leave.remove)
            yield

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            self.stack.append(name)

        return enter

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.stack:
            self.stack.pop()


def trace(subject: Subject, level: int, x: torch.Tensor, *key: int) -> dict[str, Call]:
    """Run a module without gradients and keep the first call of each layer.

    Layers are the submodules that own parameters, those without submodules, and the module itself.

    Parameters
    ----------
    subject : Subject
        The module.
    level : int
        Which mesh.
    x : Tensor
        Input, shape ``(B, C, *n)``.
    *key : int
        Random state to start from.
    """
    module = subject.modules[level]
    found: dict[str, Call] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            found.setdefault(name, Call(name, layer, args, kwargs, output))

        return hook

    owning = owners(module)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for path, layer in module.named_modules():
            name = path or ROOT
            if name in owning or name == ROOT or not list(layer.children()):
                handle = layer.register_forward_hook(record(name), with_kwargs=True)
                stack.callback(handle.remove)
        subject.predict(level, x, *key)
    return found


def owners(module: nn.Module) -> list[str]:
    """Layers that own parameters directly."""
    return [
        name or ROOT
        for name, layer in module.named_modules()
        if any(True for _ in layer.parameters(recurse=False))
    ]
