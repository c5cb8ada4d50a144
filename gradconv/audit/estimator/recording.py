"""What a training step does to a module, seen through hooks: every call, and what comes back.

A step is a black box. For each call of the module it is recorded what went in, in which mode, and
by a hook on the output whether a backward pass ever reached it. In *probe* steps a known
perturbation δ, ±M in each sample and channel and constant in space, is added to the output. The
part ⟨v, δ⟩/⟨δ, δ⟩ of the cotangent v that answers to it is the slope of the loss along δ: where M
outweighs output and target it is the same for all calls but for the weight and the normalisation
of the loss, for every loss that takes differences of prediction and target, whatever the target.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradconv.audit.estimator.calls import (
    Arguments,
    Call,
    Step,
    find_input,
    first_tensor,
    replace_first,
)
from gradconv.audit.estimator.gradients import Bookkeeping, Sketcher
from gradconv.audit.estimator.keeping import Keeper
from gradconv.errors import InputError
from gradconv.nn.random_state import start_random_state

OUTWEIGH = 1e3  # size of δ over that of outputs and inputs
CHANGE_FIT = 1e-2  # residual of a change of float32 weights, whose rounding is that of the weights


class Recorder:
    """Runs steps of the user's with hooks on the module.

    Parameters
    ----------
    module : Module
        The module.
    step : callable
        Takes nothing; does one training step or returns the loss.
    keeper : Keeper
        Puts back what the step changed.
    seed : int
        Seed of the global random states that each step starts from.
    """

    def __init__(
        self, module: nn.Module, step: Callable[[], Any], keeper: Keeper, seed: int
    ) -> None:
        self.module, self.step, self.keeper, self.seed = module, step, keeper, seed
        self.device = str(next(iter(module.parameters())).device)
        self.sketcher = Sketcher(module)
        self.amplitude = 0.0
        self.carries = False  # an optimiser steps inside: .grad goes on to the next step
        self.arguments: dict[int, Arguments] = {}  # by number of the first step's call
        self._names = {id(p): name for name, p in module.named_parameters()}
        self._signs = torch.Generator().manual_seed(seed % 2**63)

    def run(self, number: int, probed: bool) -> Step:
        """Run one step and put back what it changed, but for ``.grad``.

        Raises
        ------
        InputError
            If the step raises; the call it had come to is named.
        """
        if not self.carries:
            for p in self.module.parameters():
                p.grad = None
        books = Bookkeeping(self.sketcher, self.sketcher.grads(self.module))
        self._now = Step(number, probed, books, self.module.training)
        self._pass, self._seen, self._open = 0, set[str](), True
        start_random_state(self.seed, number)
        try:
            with self._hooks():
                self._finish(self.step())
        except InputError:
            raise
        except Exception as error:  # the user's code may fail in any way
            if StopIteration in (type(error), type(error.__cause__)):  # a generator wraps it
                raise InputError(
                    "`step` must be able to run as often as `steps` says; its data ran out "
                    f"after {number} steps"
                ) from error
            raise InputError(
                f"`step` must run; in step {number}{self._where()} it raised "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        finally:
            self._now.training_after = self.module.training
            self._now.random_after = random_digests()
            self.keeper.put_state_back()
        self.carries = self.carries or self._now.optimised
        return self._now

    def _where(self) -> str:
        calls = self._now.calls
        return f", after a call with n={calls[-1].n}," if calls else ", before it called `module`,"

    def _finish(self, returned: Any) -> None:
        """Differentiate what a loss function returned, and book what is left in ``.grad``."""
        now = self._now
        if not now.books.parts and isinstance(returned, torch.Tensor) and returned.requires_grad:
            if returned.numel() != 1:
                raise InputError(
                    "`step` must call backward or return a scalar loss; it returned a tensor of "
                    f"shape {tuple(returned.shape)}"
                )
            returned.backward()
        if not now.books.waiting:
            return
        held = self.sketcher.grads(self.module)
        # weights that moved since the passes, without an optimiser of torch, used them
        if now.optimised or np.any(held):
            now.books.use(held)
        else:
            now.books.use(self.sketcher.change(self.module, self.keeper), CHANGE_FIT)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        with ExitStack() as stack:
            for handle in (
                self.module.register_forward_pre_hook(self._before_call, with_kwargs=True),
                self.module.register_forward_hook(self._after_call, with_kwargs=True),
                register_optimizer_step_pre_hook(self._before_update),
                register_optimizer_step_post_hook(self._after_update),
            ):
                stack.callback(handle.remove)
            for name, p in self.module.named_parameters():
                if p.requires_grad:
                    stack.callback(p.register_hook(self._on_parameter(name)).remove)
                    stack.callback(p.register_post_accumulate_grad_hook(self._on_grad).remove)
            yield

    def _before_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._turn_page()
        self._state = digest(_torch_state(self.device))

    def _after_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        place, x = find_input(args, kwargs)
        made = first_tensor(output)
        now = self._now
        call = Call(
            len(now.calls),
            int(x.shape[2]),
            x.detach().cpu().clone(),
            module.training,
            made is not None and made.requires_grad,
            self._state,
            self.keeper.moved() if not now.probed else 0.0,
        )
        now.calls.append(call)
        if now.number == 0:
            self.arguments[call.number] = Arguments(args, kwargs, place)
        if made is None:
            return None
        with torch.no_grad():
            call.output = float(made.detach().abs().double().square().mean() ** 0.5)
            call.finite = bool(torch.isfinite(made).all())
        call.channels = int(made.shape[1]) if made.ndim > 1 else 1
        call.places = tuple(made.shape[2:])
        if not call.differentiable:
            return None
        if not now.probed:
            made.register_hook(self._on_output(call, None))
            return None
        delta = self._delta(made)
        moved = made + delta
        moved.register_hook(self._on_output(call, delta))
        return replace_first(output, moved)

    def _delta(self, made: torch.Tensor) -> torch.Tensor:
        """±M in each sample and channel, constant in space."""
        shape = (*made.shape[:2], *(1,) * (made.ndim - 2))
        signs = 2.0 * torch.randint(0, 2, shape, generator=self._signs).double() - 1.0
        return (self.amplitude * signs).to(made).expand_as(made)

    def _on_output(self, call: Call, delta: torch.Tensor | None) -> Callable[[torch.Tensor], None]:
        def hook(v: torch.Tensor) -> None:
            if self._seen:  # parameters come last: this is another pass
                self._turn_page()
            call.reached = True
            call.finite = call.finite and bool(torch.isfinite(v).all())
            if delta is None:
                return
            dims = tuple(range(1, v.ndim))
            product = (v.detach().conj() * delta).real if v.is_complex() else v.detach() * delta
            weight = product.double().sum(dim=dims) / delta.abs().double().square().sum(dim=dims)
            known = call.slopes.get(self._pass)
            found = weight.cpu().numpy()
            call.slopes[self._pass] = found if known is None else known + found

        return hook

    def _on_parameter(self, name: str) -> Callable[[torch.Tensor], None]:
        def hook(gradient: torch.Tensor) -> None:
            if name in self._seen:
                self._turn_page()
            self._seen.add(name)
            self._now.books.add(self._pass, name, gradient)

        return hook

    def _on_grad(self, parameter: torch.Tensor) -> None:
        self._now.books.accumulated = True

    def _turn_page(self) -> None:
        """Whatever comes back from now on belongs to another backward pass."""
        if self._seen:
            self._pass += 1
            self._seen = set()

    def _before_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._owned(optimizer):
            return
        self.keeper.keep(optimizer)
        self._now.optimised = True
        self._turn_page()
        if self._now.books.waiting:
            self._now.books.use(self.sketcher.grads(self.module))

    def _after_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        # a step along perturbed gradients may leave the range of numbers
        if self._owned(optimizer) and self._now.probed:
            self.keeper.put_weights_back()

    def _owned(self, optimizer: Any) -> bool:
        return any(id(p) in self._names for g in optimizer.param_groups for p in g["params"])


def digest(state: np.ndarray | bytes) -> str:
    """Short digest of a state."""
    data = state if isinstance(state, bytes) else np.ascontiguousarray(state).tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def random_digests() -> dict[str, str]:
    """Digests of the global random states."""
    _, key, place, *_ = np.random.get_state()  # noqa: NPY002 - the user may draw from it
    return {
        "torch": digest(torch.get_rng_state().numpy()),
        "numpy": digest(str(place).encode() + np.asarray(key).tobytes()),
        "random": digest(repr(random.getstate()).encode()),
    }


def _torch_state(device: str) -> np.ndarray:
    if device.startswith("cuda"):
        return torch.cuda.get_rng_state(device).numpy()
    return torch.get_rng_state().numpy()
