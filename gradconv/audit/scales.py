"""Causes seen without an experiment: scales of loss and data, sizes, positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from gradconv.audit.evidence import Evidence
from gradconv.audit.findings import Finding
from gradconv.audit.habits import NOT_NESTED
from gradconv.nn.evaluation import ROOT
from gradconv.samplers import ProblemSampler, TensorSampler

LOSS, DATA = "(loss)", "(data)"
SUM = "sum instead of mean in the loss"
SCALED = "loss scales with the mesh"
STRIDE = "stride on odd sizes"
UNPADDED = "cells lost at the walls"
POSITION = "depends on the position"
TOLERANCE = 0.25  # in the order of a loss of smooth functions


def loss_scale(evidence: Evidence) -> list[Finding]:
    """Call the loss on the same smooth functions on the two finest meshes."""
    subject, dim = evidence.subject, evidence.data.hierarchy.dim
    last = len(subject.modules) - 1
    values = []
    for level in (last - 1, last):
        x, y = evidence.data.path(0)[level]
        with torch.no_grad():
            made = subject.predict(level, x, 0)
            fields = [_smooth(made, dim, 1.0), _smooth(subject.place(y), dim, 2.0)]
            if any(f is None for f in fields):
                return []
            try:
                values.append(float(subject.loss(*fields)))
            except Exception:  # a loss may take only what it knows
                return []
    if not all(math.isfinite(v) and v > 0 for v in values):
        return []
    order = math.log2(values[0] / values[1])
    if abs(order) < TOLERANCE:
        return []
    cause = SUM if abs(order + dim) < TOLERANCE else SCALED
    sentence = (
        f"the loss of the same two functions is {values[0]:.3g} on n={evidence.n(-2)} and "
        f"{values[1]:.3g} on n={evidence.n(-1)}: it scales as h^{order:+.2f}, and every gradient "
        "with it"
    )
    harm = evidence.verdict(LOSS) not in ("converges", "exact")
    return [Finding(LOSS, cause, sentence, order, "breaks" if harm else "limits")]


def _smooth(like: Any, dim: int, phase: float) -> torch.Tensor | None:
    """Smooth function on the mesh of a field, of the same shape; None for what is no field."""
    if not isinstance(like, torch.Tensor) or like.ndim != dim + 2 or not like.is_floating_point():
        return None
    total = torch.zeros_like(like)
    phases = torch.arange(like.shape[1], device=like.device).to(like.dtype)
    phases = phases.reshape((1, -1, *(1,) * dim)) + phase
    for axis, n in enumerate(like.shape[2:]):
        x = (torch.arange(n, device=like.device).to(like.dtype) + 0.5) / n
        x = x.reshape((-1, *(1,) * (dim - axis - 1)))
        total = total + torch.cos(2 * math.pi * x + phases * (1 + axis))
    return total


def data_route(evidence: Evidence) -> list[Finding]:
    """Compare what a direct step and steps by 2 leave of white noise."""
    data = evidence.data
    if isinstance(data, ProblemSampler):
        restriction, route = data.problem.restriction, data.problem.route
    elif isinstance(data, TensorSampler):
        restriction, route = data.restricting.map, data.route
    else:
        return []
    if route != "direct" or restriction.nested:
        return []
    n = evidence.n(-1)
    direct = math.sqrt(restriction.white_noise_variance(n, 4))
    steps = math.sqrt(
        restriction.white_noise_variance(n, 2) * restriction.white_noise_variance(n // 2, 2)
    )
    sentence = (
        f"one step by 4 of {restriction.name} leaves {direct:.3g} of white noise an axis, steps by "
        f"2 about {steps:.3g}: the levels do not see one restriction"
    )
    harm = evidence.verdict(DATA) not in ("converges", "exact")
    return [Finding(DATA, NOT_NESTED, sentence, direct / steps, "suspect" if harm else "latent")]


def sizes(evidence: Evidence) -> list[Finding]:
    """Compare how many cells a layer makes of one, on every level."""
    found = []
    levels = len(evidence.subject.modules)
    for layer, seen in evidence.sizes.items():
        if layer == ROOT or len(seen) != levels:
            continue
        ins = np.array([s[0][0] for s in seen], dtype=float)
        outs = np.array([s[1][0] for s in seen], dtype=float)
        ratios = outs / ins
        apart = float(np.max(np.abs(ratios / ratios[-1] - 1.0)))
        if apart < 1e-9 or len(set(outs)) == 1:
            continue
        lost = ins - outs
        cause = UNPADDED if len(set(lost)) == 1 and lost[0] > 0 else STRIDE
        pairs = ", ".join(f"{int(a)} to {int(b)}" for a, b in zip(ins, outs, strict=True))
        sentence = (
            f"it maps {pairs} cells an axis: its mesh size is no fixed multiple of the input's, "
            f"apart by up to {apart:.2g}"
        )
        words = {"converges": "latent", "exact": "latent", "undecided": "suspect"}
        found.append(
            Finding(layer, cause, sentence, apart, words.get(evidence.verdict(layer), "suspect"))
        )
    return found


def positions(evidence: Evidence) -> list[Finding]:
    """Compare a layer on an input shifted by half of the box with its shifted output."""
    tolerance = math.sqrt(torch.finfo(evidence.subject.dtype).eps)
    off = {layer: e for layer, e in evidence.shifts.items() if e > tolerance}
    meshes = [s[1] for s in evidence.sizes.values() if len(s) > 1]
    odd = any(n % 2 for ends in meshes for mesh in ends for n in mesh)
    if odd or evidence.stochastic or any(layer != ROOT for layer in off):
        off.pop(ROOT, None)  # the whole depends on the position because of something else
    found = []
    for layer, error in off.items():
        sentence = (
            f"shifting its input by half of the box changes its output by {error:.2g} of its norm, "
            f"beyond the shift, with periodic padding on n={evidence.n(1)}"
        )
        words = {"converges": "latent", "exact": "latent"}
        severity = words.get(evidence.verdict(layer), "suspect")
        found.append(Finding(layer, POSITION, sentence, error, severity))
    return found
