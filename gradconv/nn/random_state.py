"""What evaluations leave as it was: random state, from a given one each, and buffers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

_LARGEST = 2**32  # numpy's legacy generator takes 32 bits


@contextmanager
def preserved_random_state(device: str) -> Iterator[None]:
    """Give the global generators of torch, numpy and Python back as they were, whatever happens.

    Parameters
    ----------
    device : str
        ``"cpu"`` or a torch device, whose generator is kept as well.
    """
    python = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002 - modules draw from it
    kind = torch.device(device)
    devices = []
    if kind.type == "cuda":
        devices = [torch.cuda.current_device() if kind.index is None else kind.index]
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def preserved_buffers(module: nn.Module) -> Iterator[None]:
    """Give the buffers (running statistics and the like) their values back, whatever happens."""
    before = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in before:
                    buffer.copy_(before[name])


def start_random_state(seed: int, *key: int) -> None:
    """Start the global generators from (seed, key): call inside `preserved_random_state` only.

    Modules that draw (dropout, noise layers) take from them. All levels of a sample path start from
    one state.
    """
    state = int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])
    torch.manual_seed(state)
    random.seed(state)
    np.random.seed(state % _LARGEST)  # noqa: NPY002
