"""Threads for pieces of work that run without the interpreter's lock.

They are torch's own, where its OpenMP library can be called: after an operation these wait in a
loop for some milliseconds, and would hold up any other threads on the same cores. Elsewhere it is a
pool of as many. numba has pools too, but the one that every installation has aborts the process
when two threads enter it at once, as a forward and a backward pass may.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

_SHARES = 4  # of each thread, so that a slow one does not hold up the rest

_home = os.getpid()
_pools: dict[int, ThreadPoolExecutor] = {}
_lock = Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)
_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def share(work: Callable[[int, int], object], count: int) -> None:
    """Call work(begin, end) on ranges that cover 0 … count − 1, each once.

    On as many threads as torch uses. What is computed may not depend on how the ranges are cut.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        if count:
            work(0, count)
        return
    parts = min(count, threads * _SHARES)
    cuts = [count * p // parts for p in range(parts + 1)]
    ranges = list(pairwise(cuts))
    # Each thread has a run of them, and then takes from the ends of others': two threads that begin
    # in one page of fresh memory would both make it.
    bounds = [parts * t // threads for t in range(threads + 1)]
    runs = [deque(ranges[a:b]) for a, b in pairwise(bounds)]
    numbers = itertools.count()

    def take() -> None:
        _work_off(work, runs[next(numbers)].popleft)
        for run in runs:
            _work_off(work, run.pop)

    parallel = _openmp()
    if parallel is None:
        _by_pool(take, threads)
    else:
        _by_openmp(parallel, take, threads)


def share_operations(work: Callable[[int, int], object], count: int, like: Tensor) -> None:
    """The same for work made of torch operations without derivatives, on tensors like this one.

    Inside the work each operation takes one thread: pieces that stay in a core's cache are faster
    than operations on all cores, which wait for one another at every end. On other devices, where
    torch's threads cannot be had, and where operations are being recorded, the work is not shared.
    """
    recorded = torch._C._len_torch_dispatch_stack() or torch.is_grad_enabled()
    if recorded or like.device.type != "cpu" or _openmp() is None:
        work(0, count)
        return
    inference = torch.is_inference_mode_enabled()

    def quiet(begin: int, end: int) -> None:
        # Modes belong to a thread.
        with torch.inference_mode(inference), torch.no_grad():
            work(begin, end)

    share(quiet, count)


def _work_off(work: Callable[[int, int], object], following: Callable[[], tuple[int, int]]) -> None:
    while True:
        try:
            begin, end = following()
        except IndexError:
            return
        work(begin, end)


def _openmp() -> Callable[..., None] | None:
    # A forked process has none of the threads, and OpenMP does not know it.
    return _parallel() if os.getpid() == _home else None


@lru_cache(maxsize=1)
def _parallel() -> Callable[..., None] | None:
    """GOMP_parallel of the OpenMP library that torch brings along, if it does."""
    if sys.platform != "linux":
        return None
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            found = ctypes.CDLL(str(path)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        found.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        found.restype = None
        return found
    return None


def _by_openmp(parallel: Callable[..., None], take: Callable[[], None], threads: int) -> None:
    raised: list[BaseException] = []

    def body(_: object) -> None:
        try:
            take()
        except BaseException as error:  # C has no way to pass it on
            raised.append(error)

    parallel(_BODY(body), None, threads, 0)
    if raised:
        raise raised[0]


def _by_pool(take: Callable[[], None], threads: int) -> None:
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
