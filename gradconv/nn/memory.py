"""Bytes of torch's tensors that are alive at once: what autograd keeps, and operations take."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
