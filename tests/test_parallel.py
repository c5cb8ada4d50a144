"""Tasks in worker processes and on a cluster: the same results, and nothing lost with a worker."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import parallel_tasks as tasks
import pytest
from distributed import KilledWorker, LocalCluster

import gradconv
from gradconv.errors import InputError
from gradconv.parallel import check_workers, cluster, compute, processes, work

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

ROOT = Path(gradconv.__file__).resolve().parents[1]
HOW = ("here", "processes", "cluster")
AWAY = HOW[1:]


def local_cluster(workers: int = 2, threads: int = 1) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=True,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Scheduler of a cluster of two processes."""
    with local_cluster() as made:
        yield made.scheduler_address


@pytest.fixture
def ways(address: str) -> dict[str, dict[str, Any]]:
    return {"here": {}, "processes": {"workers": 2}, "cluster": {"scheduler": address}}


# ---- results ----


@pytest.mark.parametrize("how", HOW)
def test_every_result_once_as_from_a_loop(how: str, ways: dict[str, Any]) -> None:
    values = [0.1 * i for i in range(100)]
    found = list(compute(tasks.square, values, **ways[how]))
    assert sorted(index for index, _ in found) == list(range(100))
    assert [dict(found)[i] for i in range(100)] == [v * v for v in values]
    assert list(compute(tasks.square, [], **ways[how])) == []


@pytest.mark.parametrize("how", HOW)
def test_tasks_may_follow_from_results(how: str, ways: dict[str, Any]) -> None:
    values = [3]
    for _, result in compute(tasks.square, values, **ways[how]):
        if len(values) < 4:
            values.append(result)
    assert values == [3, 9, 81, 6561]


@pytest.mark.parametrize("how", HOW)
def test_progress_adds_the_sizes_up(how: str, ways: dict[str, Any]) -> None:
    told: list[tuple[float, float]] = []
    sizes = [5.0, 1.0, 2.0]
    order = [
        index
        for index, _ in compute(
            tasks.square, [1, 2, 3], sizes=sizes, progress=lambda *t: told.append(t), **ways[how]
        )
    ]
    done = [sum(sizes[i] for i in order[:k]) for k in range(4)]
    assert told == [(d, 8.0) for d in done]
    told.clear()
    list(compute(tasks.square, [1, 2], progress=lambda *t: told.append(t), **ways[how]))
    assert told == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("how", HOW)
def test_errors_of_a_task_come_out_as_they_are(how: str, ways: dict[str, Any]) -> None:
    assert len(list(compute(tasks.refuse, [0, 1, 2], **ways[how]))) == 3
    with pytest.raises(InputError) as caught:
        list(compute(tasks.refuse, range(6), **ways[how]))
    assert str(caught.value) == "`x` must not be 3; got 3"


def test_errors_and_results_that_cannot_be_sent_are_told() -> None:
    with pytest.raises(RuntimeError, match="Stubborn in a worker: 1 and 1"):
        list(compute(tasks.stubborn, [1], workers=2))
    with pytest.raises(Exception, match="pickle") as caught:
        list(compute(tasks.unsendable, [1], workers=2))
    assert "in a worker" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("how", AWAY)
def test_what_cannot_be_pickled_is_refused(how: str, ways: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="`workers` must be 1 for what cannot be pickled; got <f"):
        list(compute(tasks.square, [1, lambda: 1], **ways[how]))
    assert [r for _, r in compute(len, [[lambda: 1]])] == [1]  # here, nothing is pickled


# ---- workers ----


TWO_THREADS = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}


def check_threads(found: Iterator[tuple[int, list[int]]]) -> None:
    counts = [count for _, each in found for count in each]
    assert len(counts) > 4
    assert set(counts) == {1}


def test_a_worker_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TWO_THREADS.items():
        monkeypatch.setenv(name, value)
    check_threads(compute(tasks.threads, range(4), workers=2))


def test_a_worker_of_many_threads_works_on_one_task(tmp_path: Path) -> None:
    with local_cluster(1, threads=4) as made:
        found = compute(tasks.at_once, [tmp_path] * 8, scheduler=made.scheduler_address)
        assert {count for _, count in found} == {1}


def test_libraries_that_are_loaded_already_are_limited_too(tmp_path: Path) -> None:
    text = """
import os
os.environ.update(OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")
from parallel_tasks import threads
before = threads(0)
from gradconv.parallel.work import limit_threads
limit_threads()
print(before, threads(0))
"""
    done = run_script(tmp_path, text)
    assert done.stdout == f"[2, {min(2, os.cpu_count() or 1)}] [1, 1]\n", done.stderr


def test_an_interrupt_is_the_parents_alone() -> None:
    assert sorted(r for _, r in compute(tasks.interrupted, range(4), workers=2)) == [0, 1, 2, 3]


@pytest.mark.parametrize("how", AWAY)
def test_workers_have_no_workers(how: str, ways: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="`workers` must be 1 within a worker; got 2"):
        list(compute(tasks.nested, [1], **ways[how]))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_no_process_is_left_behind(error: type[BaseException] | None, tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())

    def read() -> None:
        work_left = [(tmp_path, name) for name in ("one", "waits", "two", "three")]
        for _ in compute(tasks.patient, work_left, workers=2):
            assert len(multiprocessing.active_children()) == len(before) + 2
            if error is not None:
                raise error
            return

    start = time.monotonic()
    if error is None:
        read()
    else:
        with pytest.raises(error):
            read()
    assert set(multiprocessing.active_children()) == before
    assert time.monotonic() - start < 60  # the task that waits was not waited for


class Watched(Sequence):
    """Tasks that remember how far they were asked for."""

    def __init__(self, size: int) -> None:
        self.size, self.furthest = size, -1

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        self.furthest = max(self.furthest, index)
        return float(index)


@pytest.mark.parametrize("how", AWAY)
def test_few_tasks_are_under_way(
    how: str, ways: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FEWEST", 4)
    watched, ahead = Watched(60), 0
    for done, _ in enumerate(compute(tasks.square, watched, **ways[how]), 1):
        ahead = max(ahead, watched.furthest + 1 - done)
    assert watched.furthest == 59
    assert 1 <= ahead <= 4


# ---- workers that die ----


def kill_once_begun(folder: Path, name: str, killed: list[int]) -> threading.Thread:
    """Kill the process that begins a task first."""

    def kill() -> None:
        file = folder / name
        while not file.exists() or not file.read_text().endswith("\n"):
            time.sleep(0.01)
        killed.append(int(file.read_text().split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("how", AWAY)
def test_the_work_of_a_killed_worker_is_done_again(
    how: str, ways: dict[str, Any], tmp_path: Path
) -> None:
    names = ["a", "b", "waits", *"cdefgh"]
    killed: list[int] = []
    killer = kill_once_begun(tmp_path, "waits", killed)
    found = dict(compute(tasks.patient, [(tmp_path, n) for n in names], **ways[how]))
    killer.join()
    assert [found[i] for i in range(len(names))] == names
    begun = tasks.begun(tmp_path)
    assert len(begun["waits"]) == 2
    assert begun["waits"][0] == killed[0] != begun["waits"][1]
    if how == "processes":  # nothing else is: results are fetched as they come
        assert all(len(pids) == 1 for name, pids in begun.items() if name != "waits")
        # one process takes the place of the killed one
        assert len({pid for pids in begun.values() for pid in pids}) <= 3
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)


@pytest.mark.parametrize("how", ["processes", pytest.param("cluster", marks=pytest.mark.slow)])
def test_a_task_that_always_kills_its_worker_is_named(
    how: str, ways: dict[str, Any], tmp_path: Path
) -> None:
    names = ["a", "deadly", "b"]
    with pytest.raises(InputError, match=r"`workers` must outlive .*'deadly'.* ended its worker"):
        list(compute(tasks.deadly, [(tmp_path, name) for name in names], **ways[how]))
    assert len(tasks.begun(tmp_path)["deadly"]) >= processes.KILLS
    harmless = [(tmp_path, name) for name in ("a", "b")]
    assert len(list(compute(tasks.deadly, harmless, **ways[how]))) == 2


def test_what_dask_gives_up_is_tried_alone(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, asked = cluster._result, []

    def unlucky(future: Any, address: str) -> Any:
        asked.append(future)
        if len(asked) == 2:  # another task of its workers has killed them
            raise KilledWorker("key", None, 3)
        return honest(future, address)

    monkeypatch.setattr(cluster, "_result", unlucky)
    found = dict(compute(tasks.square, [1, 2, 3, 4], scheduler=address))
    assert found == {0: 1, 1: 4, 2: 9, 3: 16}
    assert len(asked) == 5


def run_script(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, str(script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


SCRIPT = """
from gradconv.parallel import compute
from parallel_tasks import square
{guard}print(sorted(compute(square, [2, 3], workers=2)))
"""


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    done = run_script(tmp_path, SCRIPT.format(guard=""))
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "`workers` must be able to start" in last
    assert "__main__" in last
    good = run_script(tmp_path, SCRIPT.format(guard='if __name__ == "__main__": '))
    assert good.stdout == "[(0, 4), (1, 9)]\n"


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    text = f"""
import os, signal
from pathlib import Path
from gradconv.parallel import compute
from parallel_tasks import patient
if __name__ == "__main__":
    folder = Path({str(tmp_path / "begun")!r})
    folder.mkdir()
    for _ in compute(patient, [(folder, name) for name in "abcd"], workers=2):
        os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_script(tmp_path, text).returncode == -signal.SIGKILL
    pids = {pid for each in tasks.begun(tmp_path / "begun").values() for pid in each}
    assert pids
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


# ---- schedulers ----


def test_a_lost_scheduler_is_told(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    file = tmp_path / "scheduler.json"

    def start(kind: str, *options: str) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{kind}"
        command = [sys.executable, "-m", module, "--scheduler-file", str(file), *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, **quiet)

    scheduler = start("scheduler", "--port", "0", "--no-dashboard")
    worker = start("worker", "--nthreads", "1", "--no-dashboard", "--no-nanny")
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        import json

        address = json.loads(file.read_text())["address"]
        found = compute(tasks.at_once, [tmp_path] * 400, scheduler=address)
        assert next(found)[1] == 1
        scheduler.kill()
        with pytest.raises(InputError, match=f"`scheduler` must stay .* {address}"):
            list(found)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    "given",
    [
        "127.0.0.1:1",
        "tcp://127.0.0.1:1",
        "nowhere",
        "http://127.0.0.1:1",
        "tcp://",
        "here:99999",
    ],
)
def test_an_address_that_nobody_answers_is_named(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECTING", 0.3)
    with pytest.raises(InputError, match=rf"^`scheduler` must be .*; got '{given}'"):
        list(compute(tasks.square, [1], scheduler=given))


def test_a_scheduler_without_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_cluster(0) as made:
        monkeypatch.setattr(cluster, "CONNECTING", 0.3)
        with pytest.raises(InputError, match="`scheduler` must have a worker within"):
            list(compute(tasks.square, [1], scheduler=made.scheduler_address))


def test_workers_of_another_source_are_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = work.source()
    assert len(honest["gradconv's source"]) == 12
    for name in ("gradconv's source", "numpy", "python"):
        monkeypatch.setattr(cluster, "source", lambda name=name: {**honest, name: "other"})
        with pytest.raises(InputError, match=f"^`scheduler` must .*: {name} is other here; got"):
            list(compute(tasks.square, [1], scheduler=address))
    monkeypatch.undo()
    # one that joins later is not there for the first check: each task looks again
    parcel = work.pack(tasks.square, 3)
    assert cluster._call_on_cluster(parcel, honest) == 9
    with pytest.raises(InputError, match="numpy is 0 here"):
        cluster._call_on_cluster(parcel, {**honest, "numpy": "0"})


def test_workers_without_gradconv_are_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "source", missing)
    with pytest.raises(InputError, match=r"`scheduler` must have workers with this gradconv; .*no"):
        list(compute(tasks.square, [1], scheduler=address))


def missing() -> None:
    """Look for a module that is not there, as does a worker that unpickles what it has not."""
    raise ModuleNotFoundError("no module named gradconv.parallel")


# ---- input ----


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0, None), "`workers` must be a whole number from 1 to 1024; got 0"),
        ((-1, None), "`workers` .* got -1"),
        ((1025, None), "`workers` .* got 1025"),
        ((1.5, None), "`workers` .* got 1.5"),
        ((True, None), "`workers` .* got True"),
        (("x", None), "`workers` .* got 'x'"),
        ((1, ""), "`scheduler` must be the address .* got ''"),
        ((1, 8786), "`scheduler` must be the address .* got 8786"),
        ((2, "a:1"), "`workers` must be 1 with `scheduler`.* got 2 and 'a:1'"),
        ((2, None, 3), "`threads` must be 1 with `workers` .* got 3"),
        ((1, "a:1", 2), "`threads` must be 1 with `workers` .* got 2"),
    ],
)
def test_bad_choices_are_refused_before_any_work(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_workers(*given)
    if len(given) == 2:
        with pytest.raises(InputError, match=message):
            compute(tasks.square, [1], workers=given[0], scheduler=given[1])


def test_good_choices_pass() -> None:
    for given in ((1, None), (1024, None), (1, "tcp://host:8786"), (1, None, 8)):
        check_workers(*given)


def test_sizes_must_be_those_of_the_tasks() -> None:
    with pytest.raises(InputError, match="`sizes` must be one for each of the 2 tasks; got 3"):
        compute(tasks.square, [1, 2], sizes=[1.0, 1.0, 1.0])


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"`scheduler` needs Dask.*gradconv\[cluster\]"):
        check_workers(1, "tcp://host:8786")
    check_workers(2, None)


def test_dask_is_imported_only_for_a_cluster(tmp_path: Path) -> None:
    text = """
import sys
import gradconv, gradconv.runner, gradconv.parallel, gradconv.atlas.build
from click.testing import CliRunner
from gradconv.cli import app
assert CliRunner().invoke(app, ["sweep", "--help"]).exit_code == 0
assert "scheduler" in CliRunner().invoke(app, ["sweep", "--help"]).output
print(sorted({"dask", "distributed", "torch"} & set(sys.modules)))
import distributed
print(sorted({"dask", "distributed"} & set(sys.modules)))
"""
    done = run_script(tmp_path, text)
    assert done.stdout == "[]\n['dask', 'distributed']\n", done.stderr


def test_the_digest_of_the_source_covers_the_package(tmp_path: Path) -> None:
    """A worker with other kernels or laws computes other bits, and must be refused."""
    import shutil

    from gradconv.parallel.work import source
    from gradconv.provenance import ROOT, source_digest

    copy = tmp_path / "gradconv"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert source()["gradconv's source"] == source_digest(copy)[:12]
    path = copy / "kernels" / "mfc.py"
    path.write_text(path.read_text() + "\n")
    assert source()["gradconv's source"] != source_digest(copy)[:12]
