"""Evidence beside the training runs: bias, variance, costs and gradients, measured here."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv.multilevel import MultilevelGradient
from gradconv.multilevel.costs.plan import Term, multiscale
from gradconv.nn.evaluation import mean_square
from gradconv.studies.training.groups import CONVS, MULTISCALE, Record
from gradconv.studies.training.runs import UNSAID, as_tuple
from gradconv.studies.training.spreads import Estimate, paired, ratio
from gradconv.train import Trainer
from gradconv.train.gradient import StepGradient
from gradconv.train.making import MOMENTS

# The paper's plan.
COUNTS, STEPS, STAGES = (128, 64, 32, 16), 2000, (2000, 1000, 500, 250)
TASKS = {
    "denoise": "denoising",
    "deblur": "deblurring",
    "inpaint": "inpainting",
    "superres": "super-resolution",
}
NETWORKS = {"unet": "UNet", "resnet": "ResNet", "espcn": "ESPCN"}
DIFFERENCE = 1e-5  # step of central differences, along unit vectors


def measurement(quantity: str, value: float | Estimate, **conditions: str) -> Record:
    """One measurement of an evidence file."""
    if isinstance(value, Estimate):
        interval = {"interval": [value.low, value.high]}
        return {"quantity": quantity, "value": value.value, **interval, "conditions": conditions}
    return {"quantity": quantity, "value": value, "conditions": conditions}


def names_of(setup: str) -> dict[str, str]:
    """Task and network of a setup, as the claims name them."""
    task, network = setup.split("-")
    return {"task": TASKS[task], "network": NETWORKS[network]}


def trainers(study: Record, **options: Any) -> Iterator[tuple[dict[str, str], Trainer]]:
    """A trainer of every setup and convolution, with the names of the two."""
    for setup, choices in study["setups"].items():
        for conv in CONVS:
            yield {**names_of(setup), "conv": conv}, trainer(study, choices, conv, **options)


def trainer(study: Record, choices: Record, conv: str, **options: Any) -> Trainer:
    """A trainer with the study's options, of which some may be changed."""
    given = {**UNSAID, **study["base"], **choices, "conv": conv, **options}
    made: Record = {k: as_tuple(v) for k, v in given.items()}
    task, network, strategy = (made.pop(k, MULTISCALE) for k in ("task", "network", "strategy"))
    return Trainer(task, network, strategy, **made)


def work_units(study: Record) -> list[Record]:
    """Work units of the paper's plans, as the trainer forecasts them."""
    choices = next(iter(study["setups"].values()))
    plan: Record = {"counts": COUNTS, "steps": STEPS, "stages": STAGES, "batch": sum(COUNTS)}
    kinds = {
        "single_scale": "single",
        "multiscale": "multiscale",
        "full_multiscale": "full-multiscale",
    }
    found = []
    for kind, strategy in kinds.items():
        one = trainer(study, choices, "standard", strategy=strategy, **plan)
        found.append(measurement(f"work_units_{kind}", one.forecast()["totals"]["work"]))
    return found


def telescoping(study: Record) -> list[Record]:
    """Sum of the terms against the finest gradient, all on the same samples, in float64."""
    found = []
    for names, one in trainers(study, precision="64", drawn="finest"):
        estimate = MultilevelGradient(
            one.module, mean_square, one.data.sampler(), one.hierarchy, [1] * len(one.hierarchy)
        )
        error = estimate.telescoping_error(study["measured"]["telescoping_samples"])
        found.append(measurement("relative_bias", error, **names, samples="shared"))
    return found


def independent_bias(study: Record) -> list[Record]:
    """Steps as training takes them against steps on the finest mesh, on samples of their own.

    The bias along the finest gradient over the norm of that gradient, whose direction and norm
    come from further samples.
    """
    setting = study["measured"]["independent"]
    found = []
    for conv in CONVS:
        choices = study["setups"][setting["setup"]]
        counts = tuple(setting["counts"])
        mesh = {"size": setting["size"], "levels": len(counts), "counts": counts}
        one = trainer(study, choices, conv, precision="64", drawn="law", stages=counts, **mesh)
        (stage,) = multiscale(1, counts).stages
        alone = (Term(len(counts) - 1, setting["batch"], False),)
        maker = StepGradient(one.module, mean_square, one.data.sampler(), one.engine)
        first = 0
        steps: list[list[np.ndarray]] = []
        for _ in range(setting["repeats"]):
            row = []
            for terms in (stage.terms, alone, alone):
                row.append(step_gradient(maker, terms, first))
                first += sum(term.samples for term in terms)
            steps.append(row)
        value = bias_along(*(np.stack(column) for column in zip(*steps, strict=True)))
        names = {**names_of(setting["setup"]), "conv": conv}
        found.append(measurement("relative_bias", value, **names, samples="independent"))
    return found


def step_gradient(maker: StepGradient, terms: tuple[Term, ...], first: int) -> np.ndarray:
    """One step's gradient as a vector."""
    for parameter in maker.parameters:
        parameter.grad = None
    maker.add([maker.draw(terms, first)])
    gradients = [p.grad for p in maker.parameters if p.grad is not None]
    assert len(gradients) == len(maker.parameters)
    return np.concatenate([g.numpy().ravel() for g in gradients])


def bias_along(steps: np.ndarray, finest: np.ndarray, others: np.ndarray) -> Estimate:
    """Mean of (step − finest) along the mean of `others`, over the norm of the latter.

    Parameters
    ----------
    steps, finest, others : ndarray
        Independent gradients, shape ``(repeats, parameters)``.
    """
    reference = others.mean(axis=0)
    square = float(reference @ reference)
    return paired((((steps - finest) @ reference) / square).tolist())


def variances(study: Record) -> list[Record]:
    """Variance and cost of the multilevel estimate over those of one scale, at the paper's counts.

    Both have as many samples a step; moments are of single samples, before training and after a
    short one, with a network a seed.
    """
    setting = study["measured"]["variance"]
    choices = study["setups"][setting["setup"]]
    found = []
    for conv in CONVS:
        names = {**names_of(setting["setup"]), "conv": conv}
        at: dict[str, list[tuple[float, float]]] = {"untrained": [], "trained": []}
        for seed in setting["seeds"]:
            one = trainer(
                study, choices, conv, seed=seed, strategy="full-multiscale", **setting["training"]
            )
            at["untrained"].append(_variances(one, setting["samples"]))
            one.fit()
            at["trained"].append(_variances(one, setting["samples"]))
        for state, pairs in at.items():
            value = ratio(*zip(*pairs, strict=True))
            found.append(measurement("variance_ratio", value, **names, state=state))
    return found


def _variances(one: Trainer, samples: int) -> tuple[float, float]:
    monitor = MultilevelGradient(
        one.module,
        mean_square,
        one.data.sampler(MOMENTS),
        one.hierarchy,
        COUNTS,
        seed=one.config.seed,
    )
    moments = monitor.measure(samples)
    terms = float(np.sum(moments.difference / np.array(COUNTS)))
    return terms, float(moments.fine[-1]) / sum(COUNTS)


def costs(study: Record) -> list[Record]:
    """Cost of a multilevel step over one of one scale, and of a mesh over the next coarser one."""
    found, seen = [], set()
    for names, one in trainers(study):
        if (names["network"], names["conv"]) in seen:
            continue  # the network makes the cost, not the task
        seen.add((names["network"], names["conv"]))
        flops = [cost.flops for cost in one.costs]
        for unit, level in (("FLOPs", flops), ("work units", [4.0**k for k in range(len(flops))])):
            step = sum(
                count * (level[place] + (level[place - 1] if place else 0.0))
                for place, count in enumerate(COUNTS)
            )
            value = step / (sum(COUNTS) * level[-1])
            found.append(measurement("cost_ratio", value, **names, cost=unit))
        for place in range(1, len(flops)):
            meshes = " over ".join(f"{one.hierarchy.sizes[p]}²" for p in (place, place - 1))
            value = flops[place] / flops[place - 1]
            found.append(measurement("fine_convolution_factor", value, **names, mesh=meshes))
    return found


def gradient_errors(study: Record) -> list[Record]:
    """Gradient of each mesh-free network against central differences, in float64."""
    found, seen = [], set()
    for names, one in trainers(study, precision="64"):
        if names["conv"] == "mfc" and names["network"] not in seen:
            seen.add(names["network"])
            ((x, y),) = one.data.sampler().draw(range(2), (1,))  # the second coarsest mesh
            error = gradient_error(one.module, x.double(), y.double())
            found.append(measurement("gradient_error", error, **names))
    return found


def gradient_error(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Largest error of a directional derivative over the norm of its tensor's gradient.

    Along one random direction in each of the parameters.
    """
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(mean_square(model(x), y), parameters)
    worst = 0.0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        direction /= direction.norm()
        ends = []
        with torch.no_grad():
            for step in (DIFFERENCE, -2.0 * DIFFERENCE, DIFFERENCE):
                parameter.add_(direction, alpha=step)
                ends.append(float(mean_square(model(x), y)))
        difference = (ends[0] - ends[1]) / (2.0 * DIFFERENCE)
        error = abs(difference - float((gradient * direction).sum()))
        norm = float(gradient.norm())
        worst = max(worst, error / norm if norm else math.inf if error else 0.0)
    return worst
