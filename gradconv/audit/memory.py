"""Peak memory of one gradient: what autograd keeps, and what operations take on the way."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from gradconv.audit.experiments import BandLimit
from gradconv.audit.subject import Subject
from gradconv.audit.trace import owners
from gradconv.nn.memory import Allocations
from gradconv.samplers import Sampler

# An audit's resident memory grew by 1.3 to 2.8 times the count of one gradient, for what libraries
# take inside and allocators keep, and by 1.6 to 3.7 times that of the largest experiment, for the
# fields that probes hold besides. Measured at 256² with standard and mesh-free networks, strides,
# normalisation and pointwise layers in both precisions.
MARGIN, EXPLAINED = 3.0, 4.0


def step_bytes(subject: Subject, level: int, x: torch.Tensor, y: Any, explain: bool = False) -> int:
    """Peak bytes of one gradient on a level; parameters, buffers and the data left out.

    Parameters
    ----------
    subject : Subject
        The module.
    level : int
        0 is the coarsest.
    x, y
        Input, shape ``(B, C, *n)``, and target.
    explain : bool
        Whether the gradient is that of the experiment that takes most: all inputs filtered.
    """
    module = subject.modules[level]
    before = (list(module.parameters()), list(module.buffers()), x, y)
    filtered = BandLimit(set(owners(module)), subject.meshes[0].n)
    acting = filtered.acting(subject, level, 0) if explain else nullcontext()
    with acting, Allocations(before) as allocations:
        subject.gradient(level, x, y, 0)
    return allocations.peak


def finest_step_bytes(
    subject: Subject, data: Sampler, bound: float, explain: bool = False
) -> float:
    """Peak bytes of one gradient on the finest level.

    It is counted level by level, from the coarsest on, and extrapolated from where the next level
    might exceed the bound.

    Parameters
    ----------
    subject : Subject
        The module.
    data : Sampler
        Its inputs and targets.
    bound : float
        Bytes that no step should take.
    explain : bool
        As in `step_bytes`.
    """
    growth = 2.0**data.hierarchy.dim
    peaks: list[int] = []
    for level, (x, y) in enumerate(data.path(0)):
        if level >= 2 and peaks[-1] * growth > bound:
            break
        peaks.append(step_bytes(subject, level, x, y, explain))
        if level:
            growth = max(2.0**data.hierarchy.dim, peaks[-1] / peaks[-2])
    return float(peaks[-1] * growth ** (len(subject.meshes) - len(peaks)))
