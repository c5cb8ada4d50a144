"""What goes to a worker and what it needs to know, wherever it runs."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gradconv.errors import InputError, shortened
from gradconv.provenance import source_digest, versions

LIBRARIES = ("OMP", "OPENBLAS", "MKL", "NUMBA")


def pack(function: Callable[[Any], Any], task: Any) -> bytes:
    """Make of a function and its task what can be sent; refuse what cannot."""
    try:
        return pickle.dumps((function, task))
    except Exception as error:  # whatever the task's own types raise
        raise InputError(
            f"`workers` must be 1 for what cannot be pickled; got {shortened(task)} ({error})"
        ) from None


def call(parcel: bytes) -> Any:
    """Apply a function that was sent to its task."""
    function, task = pickle.loads(parcel)
    return function(task)


@lru_cache(maxsize=1)
def limit_threads() -> None:
    """Let numerical libraries use one thread in this process, from now on.

    More would compete with the other workers, and sums over several threads may round otherwise.
    """
    from threadpoolctl import threadpool_limits

    for name in LIBRARIES:  # for those that are loaded later
        os.environ[f"{name}_NUM_THREADS"] = "1"
    threadpool_limits(limits=1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@lru_cache(maxsize=1)
def source() -> dict[str, str]:
    """Versions of gradconv and of what it computes with, and a digest of its source files."""
    return {**versions(), "gradconv's source": source_digest()[:12]}


def deadly(task: object, times: str, code: int | None = None) -> str:
    """Text of the error for a task that ends every worker it is given to."""
    last = "" if code is None else f" (last exit code {code})"
    return (
        f"`workers` must outlive their tasks: {shortened(task, 200)} ended its worker "
        f"{times}{last}; is there memory for it?"
    )
