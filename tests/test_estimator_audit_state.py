"""An audit of a loop leaves nothing of the user's changed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from estimator_defects import LeftInEvaluation, UpdatedByHand
from estimator_loops import Buffered, Loop, Net, adam, sgd
from torch import nn

from gradconv import InputError
from gradconv.audit import audit_estimator


def snapshot(loop: Loop) -> dict[str, Any]:
    """Everything that belongs to the user."""
    return {
        "weights": {k: v.clone() for k, v in loop.module.state_dict().items()},
        "grads": {
            k: None if p.grad is None else (id(p.grad), p.grad.clone())
            for k, p in loop.module.named_parameters()
        },
        "trains": {k: p.requires_grad for k, p in loop.module.named_parameters()},
        "modes": {k: m.training for k, m in loop.module.named_modules()},
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in loop.module.modules()
        ],
        "optimizer": None if loop.optimizer is None else copy.deepcopy(loop.optimizer.state_dict()),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002
        "random": random.getstate(),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def audited(loop: Loop, **options: Any) -> Any:
    return audit_estimator(loop.step, module=loop.module, hierarchy=loop.sizes, steps=4, **options)


LOOPS: dict[str, Callable[[], Loop]] = {
    "plain": Loop,
    "Adam": lambda: Loop(optimizer=adam),
    "SGD with momentum, a pass a term": lambda: Loop(optimizer=sgd, backward="term"),
    "by hand": lambda: UpdatedByHand(backward="term"),
    "buffers": lambda: Loop(module=Buffered()),
    "batch norm": lambda: Loop(module=Net(between=nn.BatchNorm2d(4)), optimizer=sgd),
    "leaves evaluation mode": LeftInEvaluation,
    "a loss function": lambda: Loop(backward="return"),
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", LOOPS)
def test_nothing_changes(name: str, trained: bool) -> None:
    loop = LOOPS[name]()
    if trained:  # gradients and an optimiser's state are there already
        loop.step()
    before = snapshot(loop)
    audited(loop)
    assert same(before, snapshot(loop))


def test_the_snapshot_sees_a_step() -> None:
    """Negative control: a step that is not audited changes it."""
    loop = Loop(optimizer=adam)
    before = snapshot(loop)
    loop.step()
    after = snapshot(loop)
    for key in ("weights", "grads", "optimizer", "torch"):
        assert not same(before[key], after[key])


class Fails(Loop):
    """Raises in its third step, on the middle mesh, with everything changed."""

    count = 0
    error: Exception = ValueError("no such thing")

    def side(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = super().side(x, y)
        self.count += 1
        if self.count > 12:
            self.module.eval()
            with torch.no_grad():
                for p in self.module.parameters():
                    p.add_(1.0)
            raise self.error
        return value


def test_nothing_changes_when_the_step_raises() -> None:
    loop = Fails(optimizer=adam)
    before = snapshot(loop)
    with pytest.raises(InputError, match=r"`step` must run; in step 2, after .* ValueError: no"):
        audited(loop)
    assert same(before, snapshot(loop))


def test_an_interrupt_goes_through_and_leaves_all_as_it_was() -> None:
    loop = Fails(optimizer=adam)
    loop.error = KeyboardInterrupt()  # type: ignore[assignment]
    before = snapshot(loop)
    with pytest.raises(KeyboardInterrupt):
        audited(loop)
    assert same(before, snapshot(loop))


class Scheduled(Loop):
    def update(self) -> None:
        super().update()
        self.scheduler.step()


def test_a_scheduler_is_put_back_if_it_is_named() -> None:
    loop = Scheduled(optimizer=sgd)
    loop.scheduler = torch.optim.lr_scheduler.StepLR(loop.optimizer, 2, 0.1)
    before = copy.deepcopy(loop.scheduler.state_dict())
    audited(loop)
    assert loop.scheduler.state_dict() != before
    loop.scheduler.load_state_dict(before)
    audited(loop, optimizer=[loop.optimizer, loop.scheduler])
    assert loop.scheduler.state_dict() == before
