"""Workers that are processes of this machine.

They are kept by hand and not by `concurrent.futures.ProcessPoolExecutor`: that gives up all its
workers when one of them dies, and does not know which task killed it.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from gradconv.errors import InputError
from gradconv.parallel.work import call, deadly, limit_threads, pack

KILLS = 3
"""Workers that a task may take with it before it is given up."""
LEAVING = 5.0
"""Seconds within which a process that is told to end must do so."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def _serve(connection: Connection) -> None:
    """Work on what comes in until nobody is there to send more."""
    # The parent is told of an interrupt and ends its workers, in a way that lets them clean up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    limit_threads()
    try:
        with suppress(EOFError, ConnectionError):
            connection.send(None)
            while True:
                connection.send_bytes(_answer(connection.recv_bytes()))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving, and cleans up once


def _answer(parcel: bytes) -> bytes:
    try:
        return pickle.dumps((True, call(parcel)))
    except Exception as error:
        lines = "".join(traceback.format_exception(error)[1:])
        error.add_note(f"in a worker:\n{lines}")
        with suppress(Exception):  # an error of a user's code may not survive the way
            answer = pickle.dumps((False, error))
            pickle.loads(answer)
            return answer
        name = type(error).__name__
        return pickle.dumps((False, RuntimeError(f"{name} in a worker: {error}\n{lines}")))


class _Worker:
    """A process, and the task that it works on."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _interrupts_held_back():
            self.process.start()
        theirs.close()  # the worker's end is its alone, so that its death ends the connection
        self.ready = False
        self.task: int | None = None


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    # A process inherits this, and so is deaf to the terminal before it can say so itself.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dismiss(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join(LEAVING)
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()


class _Crew:
    """The workers of a run, what they work on, and what their dead left undone."""

    def __init__(self, function: Callable[[Any], Any], tasks: Sequence[Any], largest: int) -> None:
        self.function, self.tasks, self.largest = function, tasks, largest
        self.workers: list[_Worker] = []
        self.begun = 0
        self.lost: deque[int] = deque()
        self.kills: Counter[int] = Counter()
        self.stillborn = 0

    def hand_out(self) -> bool:
        """Give tasks to the workers that are free; whether any task is left or under way."""
        for worker in self.workers:
            if worker.ready and worker.task is None and (self.lost or self.begun < len(self.tasks)):
                self._give(worker)
        left = len(self.lost) + len(self.tasks) - self.begun
        starting = sum(not w.ready for w in self.workers)
        for _ in range(min(left - starting, self.largest - len(self.workers))):
            self.workers.append(_Worker())
        return left > 0 or any(w.task is not None for w in self.workers)

    def _give(self, worker: _Worker) -> None:
        if self.lost:
            worker.task = self.lost.popleft()
        else:
            worker.task = self.begun
            self.begun += 1
        parcel = pack(self.function, self.tasks[worker.task])
        with suppress(OSError):  # it has died, which `collect` will find
            worker.connection.send_bytes(parcel)

    def collect(self) -> list[tuple[int, bool, Any]]:
        """Wait for answers: task, whether it went well, and result or error."""
        ready = wait([w.connection for w in self.workers])
        answers = []
        for worker in [w for w in self.workers if w.connection in ready]:
            try:
                answer = worker.connection.recv_bytes()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if worker.task is None:
                worker.ready, self.stillborn = True, 0
                continue
            answers.append((worker.task, *pickle.loads(answer)))
            worker.task = None
        return answers

    def _bury(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        _dismiss([worker])
        code = worker.process.exitcode
        if not worker.ready:
            self.stillborn += 1
            if self.stillborn == KILLS:
                raise InputError(
                    f"`workers` must be able to start; got {KILLS} that ended at once (exit code "
                    f'{code}). A script starts its work under `if __name__ == "__main__":`'
                )
        elif worker.task is not None:
            self.kills[worker.task] += 1
            if self.kills[worker.task] == KILLS:
                raise InputError(deadly(self.tasks[worker.task], f"{KILLS} times", code))
            self.lost.append(worker.task)


def in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Iterator[tuple[int, Result]]:
    """Apply a function to tasks in so many processes, as `gradconv.parallel.compute` says."""
    crew = _Crew(function, tasks, workers)
    answers: list[tuple[int, bool, Any]] = []
    try:
        while crew.hand_out() or answers:  # nobody waits for the reader of the results
            for index, well, value in sorted(answers, key=lambda a: not a[1]):
                if not well:
                    raise value
                yield index, value
            answers = [] if answers else crew.collect()
    finally:
        _dismiss(crew.workers)
