"""Workers of a Dask cluster. Dask is imported only here."""

from __future__ import annotations

import logging
import platform
import socket
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, TypeVar

from gradconv.errors import InputError, shortened
from gradconv.parallel.work import call, deadly, limit_threads, pack, source

CONNECTING = 10.0
"""Seconds within which a scheduler must answer, and then have a worker."""
QUEUED, FEWEST = 2, 64
"""Tasks given to a cluster at once: for each worker that it has at first, and at least."""

Task = TypeVar("Task")
Result = TypeVar("Result")

_alone = Lock()


def _check_source(client: dict[str, str], worker: dict[str, str], address: str) -> None:
    for name in client:
        if client[name] != worker.get(name):
            raise InputError(
                f"`scheduler` must have workers of the same source and versions: {name} is "
                f"{client[name]} here; got {worker.get(name)} at {address}"
            )


def _call_on_cluster(parcel: bytes, client: dict[str, str]) -> Any:
    _check_source(client, source(), platform.node())  # it may have joined after the first check
    limit_threads()
    with _alone:
        return call(parcel)


def on_cluster(
    function: Callable[[Task], Result], tasks: Sequence[Task], address: str
) -> Iterator[tuple[int, Result]]:
    """Apply a function to tasks on a cluster, as `gradconv.parallel.compute` says."""
    if not tasks:
        return
    from distributed import KilledWorker, as_completed

    client, room = _connect(address)
    under_way: dict[Any, int] = {}
    # Dask gives up a task when several workers have died that had it, though another task that
    # they had too may have killed them: what it gives up is tried once more, alone.
    suspects: deque[int] = deque()
    given = 0
    try:
        completed = as_completed(loop=client.loop)

        def submit(index: int) -> None:
            parcel = pack(function, tasks[index])
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                future = client.submit(_call_on_cluster, parcel, source(), pure=False)
            under_way[future] = index
            completed.add(future)

        while given < len(tasks) or under_way or suspects:
            alone = bool(suspects) and not under_way
            if alone:
                submit(suspects.popleft())
            while not alone and not suspects and given < len(tasks) and len(under_way) < room:
                submit(given)
                given += 1
            future = next(completed)
            index = under_way.pop(future)
            try:
                result = _result(future, address)
            except KilledWorker:
                if alone:
                    raise InputError(deadly(tasks[index], "again and again")) from None
                suspects.append(index)
            else:
                yield index, result
    finally:
        # Where the scheduler has gone, that is said by our own error, and needs no log.
        log = logging.getLogger("distributed.client")
        log.addFilter(_nothing)
        with suppress(Exception):
            client.cancel(list(under_way))
        client.close()
        log.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _result(future: Any, address: str) -> Any:
    from distributed import CancelledError

    try:
        return future.result()
    except (CancelledError, OSError):
        if future.status == "error":  # the task's own
            raise
        raise InputError(
            f"`scheduler` must stay until the work is done; got no more answer from {address}"
        ) from None


def _await_answer(address: str) -> None:
    """Wait until somebody listens; a client that could not start would leave a thread behind."""
    from distributed.comm.addressing import get_address_host_port

    where = get_address_host_port(address)
    end = time.monotonic() + CONNECTING
    while True:
        try:
            socket.create_connection(where, CONNECTING).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def _connect(address: str) -> tuple[Any, int]:
    """Client of a cluster whose workers have this source, and how many tasks to give it at once."""
    from distributed import Client

    try:
        _await_answer(address)
        client = Client(address, timeout=CONNECTING, set_as_default=False)
    except (ValueError, OSError, OverflowError) as error:
        raise InputError(
            f"`scheduler` must be the address of a Dask scheduler that answers within "
            f"{CONNECTING:g} s, such as tcp://host:8786; got {shortened(address)} ({error})"
        ) from None
    try:
        try:
            client.wait_for_workers(1, timeout=CONNECTING)
        except TimeoutError:
            raise InputError(
                f"`scheduler` must have a worker within {CONNECTING:g} s; got none at {address}"
            ) from None
        found = client.run(source, on_error="return")
        for worker, answer in found.items():
            if isinstance(answer, Exception):
                raise InputError(
                    f"`scheduler` must have workers with this gradconv; got {worker} ({answer})"
                )
            _check_source(source(), answer, worker)
    except BaseException:
        client.close()
        raise
    return client, max(FEWEST, QUEUED * len(found))
