"""Seconds of a step of each leg, measured before training."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import torch
from torch import nn

from gradconv.nn.evaluation import mean_square
from gradconv.nn.random_state import preserved_buffers, preserved_random_state
from gradconv.train.configuration import TrainingConfig
from gradconv.train.engine import Engine
from gradconv.train.gradient import StepGradient
from gradconv.train.making import TIMING, Data, sampler_of
from gradconv.train.optimisers import make_optimiser
from gradconv.train.strategies import Leg

REPEATS = 3


def seconds_of_legs(
    module: nn.Module,
    legs: Sequence[Leg],
    data: Data,
    engine: Engine,
    config: TrainingConfig,
    repeats: int = REPEATS,
) -> list[float]:
    """Median seconds of a step: samples, gradients, optimiser; legs in turn after a first round.

    Weights, buffers, ``.grad`` and random states are as before: the optimiser moves a copy.

    Parameters
    ----------
    module : Module
        The network.
    legs : sequence of Leg
        The plan.
    data, engine, config
        Of the run; the samples are others than those of training.
    repeats : int
        Times each leg's step is timed.
    """
    found: list[list[float]] = [[] for _ in legs]
    base = data.sampler(TIMING)
    before = {p: p.grad for p in module.parameters()}
    steps = [
        StepGradient(
            module, mean_square, sampler_of(leg, base, config.seed), engine, config.microbatch
        )
        for leg in legs
    ]
    number = 0
    module.zero_grad(set_to_none=True)  # gradients add up in place
    try:
        with preserved_random_state(str(engine.device)), preserved_buffers(module):
            for turn in range(repeats + 1):
                for leg, step, taken in zip(legs, steps, found, strict=True):
                    engine.wait()
                    start = time.perf_counter()
                    drawn = []
                    for _ in range(config.accumulation):
                        drawn.append(step.draw(leg.terms, number))
                        number += sum(t.samples for t in leg.terms)
                    step.add(drawn, config.accumulation)
                    engine.wait()
                    if turn:
                        taken.append(time.perf_counter() - start)
    finally:
        for parameter, grad in before.items():
            parameter.grad = grad
    optimiser = _optimiser_seconds(module, engine, config, repeats)
    return [statistics.median(taken) + optimiser for taken in found]


def _optimiser_seconds(
    module: nn.Module, engine: Engine, config: TrainingConfig, repeats: int
) -> float:
    """Median seconds of an optimiser's step, the norm of the gradient included."""
    weights = [nn.Parameter(p.detach().clone()) for p in module.parameters() if p.requires_grad]
    optimiser = make_optimiser(
        config.optimiser,
        weights,
        config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
    taken = []
    for _ in range(repeats + 1):
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        engine.wait()
        start = time.perf_counter()
        nn.utils.clip_grad_norm_(weights, math.inf if config.clip is None else config.clip)
        optimiser.step()
        engine.wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])
