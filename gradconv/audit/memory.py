"""Peak memory of one gradient: what autograd keeps, and what operations take on the way."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradconv.audit.data import Data
from gradconv.audit.experiments import BandLimit
from gradconv.audit.subject import Subject
from gradconv.audit.trace import owners

# An audit's resident memory grew by 1.3 to 2.8 times the count of one gradient, for what libraries
# take inside and allocators keep, and by 1.6 to 3.7 times that of the largest experiment, for the
# fields that probes hold besides. Measured at 256² with standard and mesh-free networks, strides,
# normalisation and pointwise layers in both precisions.
MARGIN, EXPLAINED = 3.0, 4.0

CONVOLUTION = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default


class Allocations(TorchDispatchMode):
    """Counts the bytes of tensors that are alive while it is active, each storage once.

    Parameters
    ----------
    before : nest of tensors
        What was there before and is not counted.

    Attributes
    ----------
    peak : int
        Most bytes at once, the columns of the convolution that ran among them.
    """

    def __init__(self, before: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak, self._now = 0, 0
        self._seen = weakref.WeakSet(t.untyped_storage() for t in _tensors(before))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors((args, kwargs, made)):  # arguments may come from other libraries
            storage = tensor.untyped_storage()
            if storage not in self._seen:
                self._seen.add(storage)
                self._now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self._now + _columns(func, args, made))
        return made

    def _freed(self, size: int) -> None:
        self._now -= size


def _tensors(nest: Any) -> list[torch.Tensor]:
    """Tensors of a nest that have a storage."""
    found = [t for t in tree_leaves(nest) if isinstance(t, torch.Tensor)]
    return [t for t in found if t.layout == torch.strided]


def _columns(func: Any, args: tuple[Any, ...], made: Any) -> int:
    """Bytes of the columns that a convolution unfolds its input, or its output's gradient, into.

    Torch does so inside for double precision on a CPU, where no tensor shows it; elsewhere what it
    takes differs, and is less for kernels of several cells.
    """
    if func is CONVOLUTION:
        x, weight, transposed, groups = args[0], args[1], args[6], args[8]
        cells = made.shape[2:]
    elif func is BACKWARD:
        x, weight, transposed, groups = args[1], args[2], args[7], args[9]
        cells = args[0].shape[2:]
    else:
        return 0
    window = weight.shape[2:].numel()
    if window == 1:
        return 0
    channels, cells = (weight.shape[1] * groups, x.shape[2:]) if transposed else (x.shape[1], cells)
    return int(len(x) * channels * window * cells.numel() * x.element_size())


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


def finest_step_bytes(subject: Subject, data: Data, bound: float, explain: bool = False) -> float:
    """Peak bytes of one gradient on the finest level.

    It is counted level by level, from the coarsest on, and extrapolated from where the next level
    might exceed the bound.

    Parameters
    ----------
    subject : Subject
        The module.
    data : Data
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
