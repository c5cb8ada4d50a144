"""Independent tasks in worker processes, on this machine or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from numbers import Integral
from typing import TypeVar

from gradconv.errors import InputError, check_whole, shortened
from gradconv.parallel.cluster import on_cluster
from gradconv.parallel.processes import in_processes

LARGEST = 1024

Task = TypeVar("Task")
Result = TypeVar("Result")
Progress = Callable[[float, float], None]


def check_workers(workers: int, scheduler: str | None, threads: int = 1) -> None:
    """Check how work is to be spread; nothing is started.

    Raises
    ------
    InputError
        If `workers` is no whole number in 1 to 1024, `scheduler` no text, or if more than one of
        workers, scheduler and threads are asked for.
    """
    check_whole("workers", workers, 1, LARGEST)
    if scheduler is not None and (not isinstance(scheduler, str) or not scheduler.strip()):
        raise InputError(
            "`scheduler` must be the address of a Dask scheduler, such as tcp://host:8786; "
            f"got {shortened(scheduler)}"
        )
    if scheduler is not None and workers > 1:
        raise InputError(
            "`workers` must be 1 with `scheduler`, which has workers of its own; "
            f"got {workers} and {shortened(scheduler)}"
        )
    several = isinstance(threads, Integral) and threads > 1  # of another type: refused elsewhere
    if several and (workers > 1 or scheduler is not None):
        raise InputError(
            "`threads` must be 1 with `workers` or `scheduler`: each worker is one thread; "
            f"got {threads}"
        )
    if scheduler is not None and find_spec("distributed") is None:
        raise InputError("`scheduler` needs Dask; got none: pip install gradconv[cluster]")


def compute(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
    sizes: Sequence[float] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Apply a function to every task, here, in processes, or on a Dask cluster.

    Tasks are begun in their order. A list that is lengthened while the results are read is worked
    on to its new end, so that tasks can follow from results. The work of a worker that dies is
    done again by another. A worker computes with one thread, one task at a time.

    Parameters
    ----------
    function : callable
        Of one task; defined at the top of a module that the workers can import.
    tasks : sequence
        Values that can be pickled, as must the results; none is computed twice unless its worker
        dies.
    workers : int
        Processes on this machine; 1 works in this process. A script that asks for more must start
        its work under ``if __name__ == "__main__":``, since each process reads it anew.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:8786``; not together with `workers`. Its workers
        need the same gradconv and the same versions of Python and the numerical packages.
    progress : callable, optional
        Called with (size of the tasks done, size of all).
    sizes : sequence of float, optional
        Size of each task, for `progress`; as long as `tasks`. Default: 1 each.

    Yields
    ------
    index : int
        Which task.
    result
        What the function gave, in the order in which tasks are completed.

    Raises
    ------
    InputError
        At once, if an argument breaks a rule; later, if no worker can start, a task ends its
        worker `KILLS` times, or the scheduler is lost. Errors of `function` come out as they are.
    """
    check_workers(workers, scheduler)
    if workers > 1 and multiprocessing.current_process().daemon:
        raise InputError(f"`workers` must be 1 within a worker; got {workers}")
    if sizes is not None and len(sizes) != len(tasks):
        raise InputError(
            f"`sizes` must be one for each of the {len(tasks)} tasks; got {len(sizes)}"
        )
    if scheduler is not None:
        results = on_cluster(function, tasks, scheduler.strip())
    elif workers > 1:
        results = in_processes(function, tasks, workers)
    else:
        results = _here(function, tasks)
    return results if progress is None else _told(results, tasks, progress, sizes)


def _told(
    results: Iterator[tuple[int, Result]],
    tasks: Sequence[Task],
    progress: Progress,
    sizes: Sequence[float] | None,
) -> Iterator[tuple[int, Result]]:
    def total() -> float:
        return float(len(tasks)) if sizes is None else sum(sizes)

    done = 0.0
    progress(done, total())
    for index, result in results:
        done += 1.0 if sizes is None else sizes[index]
        progress(done, total())
        yield index, result


def _here(
    function: Callable[[Task], Result], tasks: Sequence[Task]
) -> Iterator[tuple[int, Result]]:
    index = 0
    while index < len(tasks):
        yield index, function(tasks[index])
        index += 1
