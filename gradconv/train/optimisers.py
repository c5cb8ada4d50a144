"""Optimisers and schedules of the learning rate, from torch, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from gradconv.errors import InputError, unknown_name

OPTIMISERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "nadam": torch.optim.NAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
Scheduler = lr_scheduler.LRScheduler
SCHEDULES: dict[str, Callable[[Optimizer, float, int], Scheduler]] = {
    "constant": lambda o, lr, steps: lr_scheduler.ConstantLR(o, factor=1.0, total_iters=1),
    "cosine": lambda o, lr, steps: lr_scheduler.CosineAnnealingLR(o, T_max=max(steps, 1)),
    "linear": lambda o, lr, steps: lr_scheduler.LinearLR(
        o, start_factor=1.0, end_factor=0.01, total_iters=max(steps, 1)
    ),
    "onecycle": lambda o, lr, steps: lr_scheduler.OneCycleLR(
        o, max_lr=lr, total_steps=max(steps, 1) + 1, cycle_momentum=False
    ),
    "step": lambda o, lr, steps: lr_scheduler.MultiStepLR(
        o, milestones=sorted({max(1, steps // 2), max(1, 3 * steps // 4)}), gamma=0.1
    ),
}


def check_optimiser(optimiser: str, schedule: str) -> None:
    """Refuse unknown names.

    Raises
    ------
    InputError
        With the nearest known one.
    """
    if not isinstance(optimiser, str) or optimiser not in OPTIMISERS:
        raise unknown_name("optimiser", optimiser, OPTIMISERS)
    if not isinstance(schedule, str) or schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)


def make_optimiser(
    name: str,
    parameters: Iterable[nn.Parameter],
    lr: float,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> Optimizer:
    """Make an optimiser of torch with its defaults.

    Parameters
    ----------
    name : str
        Of `OPTIMISERS`.
    parameters : iterable of Parameter
        What it changes.
    lr, weight_decay, momentum : float
        Its settings; momentum is of "sgd".
    """
    options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    if name == "sgd":
        options["momentum"] = momentum
    return OPTIMISERS[name](parameters, **options)


def make_schedule(
    name: str, optimiser: Optimizer, lr: float, steps: int, warmup: int = 0
) -> Scheduler:
    """Make a schedule of the learning rate over a number of steps, after a linear warm-up.

    Parameters
    ----------
    name : str
        "constant"; "cosine" to 0; "linear" to a hundredth; "onecycle" up to `lr` and down; "step"
        by ten at half and at three quarters.
    optimiser : Optimizer
        The optimiser.
    lr : float
        Its learning rate.
    steps, warmup : int
        Steps in all, and those of the warm-up among them, over which the rate rises to where the
        schedule starts ("onecycle": at a 25th of `lr`).

    Raises
    ------
    InputError
        If the warm-up takes all steps.
    """
    if not warmup:
        return SCHEDULES[name](optimiser, lr, steps)
    if warmup >= steps:
        raise InputError(f"`warmup` must be less than the plan's {steps} steps; got {warmup}")
    rising = lr_scheduler.LinearLR(optimiser, start_factor=1.0 / warmup, total_iters=warmup)
    after = SCHEDULES[name](optimiser, lr, steps - warmup)
    return lr_scheduler.SequentialLR(optimiser, [rising, after], milestones=[warmup])
