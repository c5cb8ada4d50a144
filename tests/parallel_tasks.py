"""Tasks that the tests of `gradconv.parallel` send to workers, and what they tell of themselves."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from gradconv.errors import InputError


def square(x: float) -> float:
    return x * x


def begun(folder: Path) -> dict[str, list[int]]:
    """Processes in which each task was begun, in order."""
    return {f.name: [int(line) for line in f.read_text().split()] for f in folder.iterdir()}


def _begin(folder: Path, name: str) -> int:
    """Note that a task was begun; how often before."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len((folder / name).read_text().split()) - 1


def patient(task: tuple[Path, str]) -> str:
    """Wait to be killed the first time, if that is the name."""
    folder, name = task
    if _begin(folder, name) == 0 and name == "waits":
        time.sleep(120)
    return name


def deadly(task: tuple[Path, str]) -> str:
    folder, name = task
    _begin(folder, name)
    if name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def refuse(x: int) -> int:
    if x == 3:
        raise InputError("`x` must not be 3; got 3")
    return x


class Stubborn(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def stubborn(x: int) -> int:
    raise Stubborn(x, x)


def unsendable(x: int) -> object:
    return lambda: x


def threads(_: int) -> list[int]:
    """Threads of each numerical library, and of one that asks the environment."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    return [int(os.environ["OMP_NUM_THREADS"]), *(p["num_threads"] for p in threadpool_info())]


def interrupted(x: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    return x


def nested(x: int) -> int:
    from gradconv.parallel import compute

    return sum(r for _, r in compute(square, [x, x], workers=2))


def at_once(folder: Path) -> int:
    """Most tasks that this process works on at the same time."""
    own = folder / f"{os.getpid()}-{time.monotonic_ns()}"
    own.touch()
    time.sleep(0.05)
    count = len(list(folder.glob(f"{os.getpid()}-*")))
    own.unlink()
    return count
