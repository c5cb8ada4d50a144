"""Threads for kernels that run without the interpreter's lock.

As many as torch uses. numba has pools of its own, but the one that every installation has aborts
the process when two threads enter it at once, as a forward and a backward pass may.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Lock

import torch

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = Lock()
# A forked process has none of the threads.
os.register_at_fork(after_in_child=_pools.clear)

_SHARES = 4  # of each thread, so that a slow one does not hold up the rest


def share(work: Callable[[int, int], object], count: int) -> None:
    """Call work(begin, end) on ranges that cover 0 … count − 1, each once.

    What is computed may not depend on how the ranges are cut.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        if count:
            work(0, count)
        return
    parts = min(count, threads * _SHARES)
    cuts = [count * p // parts for p in range(parts + 1)]
    ranges = iter(list(pairwise(cuts)))

    def take() -> None:
        # `next` on a list's iterator is one step under the interpreter's lock.
        for begin, end in ranges:
            work(begin, end)

    helpers = [_pool(threads - 1).submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        for helper in helpers:
            if not helper.cancel():  # not started: its share is done already
                helper.result()


def _pool(workers: int) -> ThreadPoolExecutor:
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="gradconv")
        return _pools[workers]
