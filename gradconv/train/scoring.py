"""Errors of a network on fixed pairs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from gradconv.train import metrics
from gradconv.train.engine import Engine
from gradconv.train.making import Pairs
from gradconv.train.result import Scores

CELLS = 2**18  # of a pass without gradients


def score(module: nn.Module, pairs: Pairs, engine: Engine) -> Scores:
    """Mean errors over fixed pairs; the module's mode is as before afterwards.

    Parameters
    ----------
    module : Module
        The network.
    pairs : Pairs
        Inputs and targets.
    engine : Engine
        Where and how precisely.
    """
    training = module.training
    module.eval()
    made = []
    at_once = max(1, CELLS // math.prod(pairs.y.shape[2:]))
    try:
        with torch.no_grad(), engine.autocast():
            for x in pairs.x.split(at_once):
                made.append(module(x.to(engine.device, engine.dtype)).float().cpu())
    finally:
        module.train(training)
    return scores(torch.cat(made), pairs.y)


def degraded_scores(pairs: Pairs) -> Scores | None:
    """Errors of the inputs themselves, where they are images on the mesh of the targets."""
    channels = pairs.y.shape[1]
    if pairs.x.shape[2:] != pairs.y.shape[2:] or pairs.x.shape[1] < channels:
        return None
    return scores(pairs.x[:, :channels], pairs.y)


def scores(prediction: Tensor, target: Tensor) -> Scores:
    """Mean errors of predictions, shape ``(N, C, *n)``; the PSNR is that of the mean over tiles."""
    made, meant = prediction.double().numpy(), target.double().numpy()
    return Scores(
        *(float(np.mean(found(made, meant))) for found in (metrics.mse, metrics.psnr, metrics.ssim))
    )
