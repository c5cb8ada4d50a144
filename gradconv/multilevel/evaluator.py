"""One pass of a module: its loss or gradient on one level, with errors that name the level."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv.errors import InputError, shortened
from gradconv.nn.evaluation import (
    Loss,
    Output,
    as_loss,
    flat_gradients,
    loss_value,
    pick,
    placed,
    require_differentiable,
    run_module,
    trainable,
)
from gradconv.nn.random_state import (
    preserved_buffers,
    preserved_random_state,
    start_random_state,
)
from gradconv.samplers import Batch, Sampler

# Relative difference at which a loss of a batch given twice is no longer that of the batch: far
# above rounding in half precision, far below the factor 2 of a sum.
TWICE = 0.05


class Evaluator:
    """A module with its loss on the levels of a sampler.

    It is used as it is, in its mode. A module that draws random numbers starts both passes of
    a term from one random state; the caller's global generators are left as they were. Buffers
    (running statistics) keep only what the finest level's passes make of them.

    Parameters
    ----------
    module : Module
        Takes inputs of shape ``(B, C, *n)`` on every mesh.
    loss : "mse" or callable
        ``loss(prediction, target) -> scalar``, a mean over the batch.
    sampler : Sampler
        The data.
    output : int, str, callable or None
        What of the module's output is the prediction.
    seed : int
        Seed of the random state of a stochastic module.

    Raises
    ------
    InputError
        If an argument is of another kind, or the module has nothing to train.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: str | Loss,
        sampler: Sampler,
        *,
        output: Output = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"`module` must be a torch.nn.Module; got {shortened(module)}")
        self.module, self.sampler, self.output, self.seed = module, sampler, output, seed
        self.loss = as_loss(loss)
        self.parameters = trainable(module)
        if not self.parameters:
            raise InputError("`module` must have a parameter that takes a gradient; it has none")
        reference = next(iter(self.parameters.values()))
        self.device, self.dtype = reference.device, reference.dtype
        if self.dtype.is_complex:
            self.dtype = torch.empty(0, dtype=self.dtype).real.dtype
        self.notes: list[str] = []
        self._is_mean = False
        self._draws: dict[bool, bool] = {}  # by mode: whether the module draws random numbers

    @property
    def finest(self) -> int:
        """Number of the finest level."""
        return len(self.sampler.hierarchy) - 1

    def where(self, level: int) -> str:
        """Name a level in a message."""
        return f"level {level} (n={self.sampler.hierarchy.sizes[level]})"

    def note(self, text: str) -> None:
        """Add to the notes once."""
        if text not in self.notes:
            self.notes.append(text)

    def place(self, value: Any) -> Any:
        """Move a tensor (or a nest of them) to the module's device, reals in its precision."""
        return placed(value, self.device, self.dtype)

    def backward(self, level: int, batch: Batch, weight: float, key: int) -> float:
        """Add the gradient of weight × loss to ``.grad``.

        Parameters
        ----------
        level : int
            Level of the batch.
        batch : (input, target)
            The samples.
        weight : float
            Factor of the loss, negative for the coarse part of a term.
        key : int
            Random state that a stochastic module starts from: that of the term.

        Returns
        -------
        float
            The loss.

        Raises
        ------
        InputError
            If the module or its loss cannot run there, or the loss is not finite; the level is
            named.
        """
        with self._pass(level, batch, key, keep=True) as value:
            (weight * value).backward()
            return float(value.detach())

    def gradient(self, level: int, batch: Batch, key: int) -> dict[str, torch.Tensor]:
        """Gradient by each parameter, as flat real vectors; no ``.grad`` and no buffer changes."""
        with self._pass(level, batch, key, keep=False) as value:
            return flat_gradients(value, self.parameters, self.where(level))

    @contextmanager
    def _pass(self, level: int, batch: Batch, key: int, keep: bool) -> Iterator[torch.Tensor]:
        x, y = (self.place(part) for part in batch)
        moves = keep and level == self.finest
        with nullcontext() if moves else preserved_buffers(self.module), self._random_state(key):
            made = run_module(self.module, x, self.where(level))
            prediction = pick(made, self.output, self.where(level), self.note)
            value = loss_value(self.loss, prediction, y, self.where(level))
            require_differentiable(value, self.where(level))
            if not self._is_mean:
                self._check_mean(value, prediction, y, level)
            yield value

    @contextmanager
    def _random_state(self, key: int) -> Iterator[None]:
        """Start from the term's random state and put the caller's back, if the module draws."""
        if self._draws.get(self.module.training) is False:
            yield
            return
        with preserved_random_state(str(self.device)):
            start_random_state(self.seed, key)
            before = _generators(self.device)
            yield
            drawn = _generators(self.device) != before
            self._draws[self.module.training] = drawn or self._draws.get(
                self.module.training, False
            )

    def _check_mean(
        self, value: torch.Tensor, prediction: torch.Tensor, target: Any, level: int
    ) -> None:
        """Refuse a loss that is a sum over the batch: terms of other sizes would not cancel."""
        if not isinstance(target, torch.Tensor) or not prediction.ndim or not target.ndim:
            self._is_mean = True
            return
        once = float(value.detach())
        with torch.no_grad():
            both = torch.cat([prediction, prediction]), torch.cat([target, target])
            twice = float(loss_value(self.loss, *both, self.where(level)))
        if abs(twice - once) > TWICE * abs(once):
            raise InputError(
                "`loss` must be a mean over the batch, so that terms of different sizes cancel; "
                f"a batch given twice has {twice / once:.3g} times the loss"
            )
        self._is_mean = True


def _generators(device: torch.device) -> tuple[Any, ...]:
    """States of the global generators, to be compared."""
    states = [torch.get_rng_state().numpy().tobytes(), random.getstate()]
    legacy = np.random.get_state()  # noqa: NPY002 - models draw from it
    states.append((legacy[1].tobytes(), *legacy[2:]))  # type: ignore[index]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def split(numbers: range, size: int | None) -> Iterator[range]:
    """Cut sample numbers into passes of at most `size`."""
    step = size or max(1, len(numbers))
    for start in range(numbers.start, numbers.stop, step):
        yield range(start, min(start + step, numbers.stop))
