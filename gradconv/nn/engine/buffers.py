"""Memory of fields and spectra: in large pages, and kept where it does not leave a call."""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor

_LINE = 64  # bytes of the longest vectors; data that begin on such a line are read faster
_PAGE = 2**21  # bytes of a large page
_KEPT = 2**25  # bytes of one buffer that is kept, at most

_own = threading.local()


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """As `new_empty`, in large pages.

    Fields of many channels lie on more small ones than a processor can find at once.
    """
    dtype = like.detach().numpy().dtype
    need = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(_bytes(need)[:need].view(dtype).reshape(shape))


def scratch(place: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The same for what ends with the call.

    The thread's next call gets the same memory at the same place: asking for it anew takes about
    as long as a transform.
    """
    dtype = like.detach().numpy().dtype
    need = int(np.prod(shape)) * dtype.itemsize
    if need > _KEPT:
        return empty(shape, like)
    kept: dict[int, np.ndarray] = _own.__dict__.setdefault("buffers", {})
    if place not in kept or len(kept[place]) < need:
        kept[place] = _bytes(need)
    return torch.from_numpy(kept[place][:need].view(dtype).reshape(shape))


def _bytes(need: int) -> np.ndarray:
    # numpy asks the system for large pages from 4 MiB on, torch never does; what is asked for
    # beyond the need is not touched.
    room = max(need, 2 * _PAGE) if need >= _PAGE else need
    whole = np.empty(room + _LINE, np.uint8)
    return whole[-whole.ctypes.data % _LINE :]
