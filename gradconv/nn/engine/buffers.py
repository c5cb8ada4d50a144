"""Memory of fields and spectra: in large pages, and used again when its tensor is gone.

A training step asks for the same few sizes over and over. Fresh memory costs the system as much
time as a transform takes, for pages to be found and cleared.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

_LINE = 64  # bytes of the longest vectors; data that begin on such a line are read faster
_PAGE = 2**21  # bytes of a large page
_LEAST = 2**20  # bytes worth keeping
_MOST = 2**26  # bytes kept in all

# Only steps that cannot be interrupted are taken on these: tensors end in any thread, and while
# another is asked for.
_kept: dict[int, deque[np.ndarray]] = {}


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """As `new_empty` on CPU, from memory that is kept."""
    dtype = like.detach().numpy().dtype
    need = int(np.prod(shape)) * dtype.itemsize
    if need < _LEAST:
        return like.new_empty(shape)
    # numpy asks the system for large pages from 4 MiB on, torch never does; what is asked for
    # beyond the need is not touched.
    room = max(need, 2 * _PAGE)
    try:
        whole = _kept[room].pop()
    except LookupError:
        whole = np.empty(room + _LINE, np.uint8)
    skip = -whole.ctypes.data % _LINE
    fields = whole[skip : skip + need].view(dtype).reshape(shape)
    # The tensor owns this array and no other, and drops it with its last view.
    weakref.finalize(fields, _keep, room, whole).atexit = False
    return torch.from_numpy(fields)


def kept() -> int:
    """Bytes that are kept."""
    return sum(room * len(whole) for room, whole in list(_kept.items()))


def _keep(room: int, whole: np.ndarray) -> None:
    if room > _MOST:
        return
    _kept.setdefault(room, deque()).append(whole)
    for other in list(_kept):  # the sizes seen first go first
        while kept() > _MOST:
            try:
                _kept[other].popleft()
            except IndexError:
                break
