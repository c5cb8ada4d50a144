"""Bad input to an audit of a loop: named, with the level it happened on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from estimator_loops import Loop, Net
from torch import nn

from gradconv import InputError, MeshHierarchy
from gradconv.audit import audit_estimator


class NaNOn(Net):
    """Not finite on one mesh."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / (0.0 if x.shape[-1] == self.n else 1.0)


class NaNLoss(Loop):
    """The loss, not the output, is infinite on one mesh."""

    def side(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = super().side(x, y)
        return value * float("inf") if x.shape[-1] == 16 else value


class RunsDry(Loop):
    def new_images(self) -> Iterator[torch.Tensor]:
        return itertools.islice(super().new_images(), 50)

    def draw(self, term: int) -> tuple[torch.Tensor, torch.Tensor]:
        clean = torch.stack([next(self.images) for _ in range(self.batches[term])])
        return self.noisy(clean), clean


class OddMesh(Loop):
    def term(self, term: int) -> list[torch.Tensor]:
        x = torch.randn(2, 1, 12, 12)
        return [*super().term(term), self.side(x, x)]


class OnFlat(Loop):
    def step(self) -> torch.Tensor:
        return self.module(torch.randn(3, 5)).sum()


class Forward(Loop):
    """Goes around the hooks."""

    def side(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.module.forward(x), y)


class Unreduced(Loop):
    def step(self) -> torch.Tensor:
        x = torch.randn(2, 1, 8, 8)
        return self.module(x) - x


class NoBackward(Loop):
    def step(self) -> None:
        for _ in self.terms():
            pass


def frozen() -> Loop:
    return Loop(module=Net().requires_grad_(False))


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (Loop, {"hierarchy": (8, 16, 24)}, r"`levels` must double.*16 then 24"),
    (Loop, {"hierarchy": (32, 16, 8)}, r"`levels` must double"),
    (Loop, {"hierarchy": (8,)}, r"`levels` must hold at least 2 meshes"),
    (Loop, {"hierarchy": "8:32"}, r"`hierarchy` must be a MeshHierarchy or the cells"),
    (
        Loop,
        {"hierarchy": MeshHierarchy(1, (8, 16, 32))},
        r"`hierarchy` must have the dimension.*2; got 1",
    ),
    (Loop, {"hierarchy": (8, 16)}, r"`hierarchy` must hold every mesh.*gradient on n=32"),
    (OddMesh, {}, r"`hierarchy` must hold every mesh.*gradient on n=12"),
    (Loop, {"batch_sizes": (4, 2)}, r"`batch_sizes` must have one entry a level, 3"),
    (Loop, {"batch_sizes": (4, 2, 0)}, r"`batch_sizes` must be a whole number from 1"),
    (Loop, {"batch_sizes": "4,2,1"}, r"`batch_sizes` must be whole numbers"),
    (Loop, {"work": -1}, r"`work` must be positive and finite; got -1"),
    (Loop, {"work": float("nan")}, r"`work` must be positive and finite"),
    (Loop, {"steps": 3}, r"`steps` must be a whole number from 4"),
    (Loop, {"seed": -1}, r"`seed` must be a whole number from 0"),
    (Loop, {"module": 3}, r"`module` must be a torch.nn.Module; got 3"),
    (Loop, {"step": 3}, r"`step` must be callable; got 3"),
    (Loop, {"step": lambda a, b: None}, r"`step` must take nothing, or the module; it needs a, b"),
    (Loop, {"loss": "mse"}, r"`loss` must be callable; got 'mse'"),
    (Loop, {"loss": lambda p: p}, r"`loss` must take a prediction and a target.*TypeError"),
    (Loop, {"optimizer": 3}, r"`optimizer` must have state_dict and load_state_dict; got 3"),
    (Loop, {"step": lambda: None}, r"`step` must call `module`.*step 0 did not"),
    (Loop, {"module": Net()}, r"`step` must call `module`"),
    (Forward, {}, r"`step` must call `module` \(not its forward method"),
    (NoBackward, {}, r"`step` must call backward or return a loss.*in step 0"),
    (Unreduced, {}, r"`step` must call backward or return a scalar loss.*\(2, 1, 8, 8\)"),
    (frozen, {}, r"`module` must have a parameter that takes a gradient"),
    (
        lambda: OnFlat(module=nn.Linear(5, 1)),
        {},
        r"fields of shape \(B, C, \*n\); got \[\(3, 5\)\]",
    ),
    (lambda: Loop(module=NaNOn(16)), {}, r"`step` must have finite.*step 0 on level 1 \(n=16\)"),
    (NaNLoss, {}, r"`step` must have finite outputs.*step 0 on level 1 \(n=16\)"),
    (RunsDry, {}, r"`step` must be able to run as often as `steps` says; its data ran out after 2"),
]


@pytest.mark.parametrize(("make", "choices", "message"), REFUSED, ids=lambda v: None)
def test_refused(make: Any, choices: dict[str, Any], message: str) -> None:
    loop = make()
    chosen = {"step": loop.step, "module": loop.module, "hierarchy": loop.sizes, **choices}
    step = chosen.pop("step")
    with pytest.raises(InputError, match=message):
        audit_estimator(step, **chosen)


def test_a_loop_in_the_place_of_the_refused_ones_passes() -> None:
    loop = Loop()
    levels = MeshHierarchy(2, loop.sizes)
    assert audit_estimator(loop.step, module=loop.module, hierarchy=levels, steps=4).sound
