"""The module under audit on each mesh: its prediction, its loss and one gradient of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gradconv.mesh import Mesh
from gradconv.nn.evaluation import (
    Loss,
    Output,
    flat_gradients,
    loss_value,
    pick,
    placed,
    run_module,
    trainable,
)
from gradconv.nn.random_state import start_random_state


@dataclass
class Subject:
    """Copies of a module, one a level or one for all, with the state that evaluations start from.

    Parameters
    ----------
    name : str
        What was given, in words.
    modules : list of Module
        One a level, coarse to fine; the same object where one serves all.
    meshes : tuple of Mesh
        The levels.
    loss : callable
        ``loss(prediction, target) -> scalar``.
    output : int, str, callable or None
        What of the output is the prediction.
    seed : int
        Seed of the random state that evaluations start from.
    device : str
        ``"cpu"`` or a torch device.
    dtype : torch.dtype
        Precision of the modules and their inputs.
    notes : list of str
        Choices that were made, each once.
    """

    name: str
    modules: list[nn.Module]
    meshes: tuple[Mesh, ...]
    loss: Loss
    output: Output
    seed: int
    device: str
    dtype: torch.dtype
    notes: list[str] = field(default_factory=list)
    _buffers: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def keep_buffers(self) -> None:
        """Remember the buffers: running statistics and the like."""
        self._buffers = [
            {name: b.detach().clone() for name, b in module.named_buffers()}
            for module in self.modules
        ]

    @property
    def reference(self) -> nn.Module:
        """The module of the finest level."""
        return self.modules[-1]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the finest level's module that take a gradient, by name."""
        return trainable(self.reference)

    def place(self, value: Any) -> Any:
        """Move a tensor (or a nest of them) to the device, reals in the audit's precision."""
        return placed(value, self.device, self.dtype)

    def reset(self, level: int, *key: int) -> None:
        """Give buffers and random state their values at the start of an evaluation."""
        start_random_state(self.seed, *key)
        if self._buffers and self._buffers[level]:
            with torch.no_grad():
                for name, buffer in self.modules[level].named_buffers():
                    if name in self._buffers[level]:
                        buffer.copy_(self._buffers[level][name])

    def predict(self, level: int, x: torch.Tensor, *key: int) -> Any:
        """Output on a level, the prediction picked out of it.

        Parameters
        ----------
        level : int
            0 is the coarsest.
        x : Tensor
            Input, shape ``(B, C, *n)``.
        *key : int
            Which random state a stochastic module starts from.

        Raises
        ------
        InputError
            If the module cannot run there; the level is named.
        """
        self.reset(level, *key)
        x = self.place(x)
        made = run_module(self.modules[level], x, self.where(level))
        return pick(made, self.output, self.where(level), self.note)

    def value(self, level: int, x: torch.Tensor, y: Any, *key: int) -> torch.Tensor:
        """Loss on a level.

        Raises
        ------
        InputError
            If the module or the loss cannot run there, or the loss is no finite scalar.
        """
        prediction = self.predict(level, x, *key)
        return loss_value(self.loss, prediction, self.place(y), self.where(level))

    def gradient(self, level: int, x: torch.Tensor, y: Any, *key: int) -> dict[str, torch.Tensor]:
        """Gradient of the loss by each parameter, as flat real vectors; no ``.grad`` is touched.

        Returns
        -------
        dict
            By name; complex parameters give real and imaginary parts in turn. A parameter that the
            loss does not depend on has zeros.
        """
        loss = self.value(level, x, y, *key)
        return flat_gradients(loss, trainable(self.modules[level]), self.where(level))

    def where(self, level: int) -> str:
        """Name a level in a message."""
        return f"level {level} (n={self.meshes[level].n})"

    def note(self, text: str) -> None:
        """Add to the notes once."""
        if text not in self.notes:
            self.notes.append(text)
