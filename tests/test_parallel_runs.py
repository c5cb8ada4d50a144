"""Sweeps, runs and the atlas on workers: the bits of a serial run, whoever is killed."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import LocalCluster

from gradconv import runner, sampling, store
from gradconv.atlas import build, critical
from gradconv.atlas.cells import enumerate_cells
from gradconv.cli import app
from gradconv.config import SweepConfig
from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.runner import run
from gradconv.sampling import forget, plan_sampling, sample_task, sampling_tasks
from gradconv.sweeps import Sweep, sweep

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

AWAY = ("processes", "cluster")
SLOWLY_IN_PROCESSES = [pytest.param("processes", marks=pytest.mark.slow), "cluster"]
CHOICES: dict[str, Any] = {
    "dim": (1,),
    "levels": "3:6",
    "replicates": 12,
    "kernel": ("stencil", "mfc"),
    "restriction": ("average",),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    quiet = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with LocalCluster(**options, **quiet) as made:
        yield made


@pytest.fixture
def ways(cluster: LocalCluster) -> dict[str, dict[str, Any]]:
    return {"processes": {"workers": 2}, "cluster": {"scheduler": cluster.scheduler_address}}


@pytest.fixture(autouse=True)
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provenance without git, figures that cost no time, and a replicate or two a task."""
    monkeypatch.setenv("GIT_DIR", os.devnull)
    monkeypatch.setattr(runner.plots, "gap_figure", lambda records, title: repr(records))
    monkeypatch.setattr(store, "figure_bytes", lambda text, kind, style: text.encode())
    monkeypatch.setattr(sampling, "TASK_NUMBERS", 1)
    monkeypatch.setattr(sampling, "BATCH_NUMBERS", 2 * 2**6)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a serial run of `CHOICES`."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DIR", os.devnull)
        patch.setattr(runner.plots, "gap_figure", lambda records, title: repr(records))
        patch.setattr(store, "figure_bytes", lambda text, kind, style: text.encode())
        run(SweepConfig(**CHOICES), folder)
    return contents(folder)


# ---- sweeps ----

PROBLEMS = {
    "random signal": Problem("mfc", noise="pixel:0.5", dim=1),
    "refinement": Problem("stencil", noise="uniform:0.3", setting="refinement", dim=1),
    "walls": Problem("stencil", noise="white:0.1", boundary="zero", dim=1),
    "members": Problem("stencil", signal="cartoon", noise="poisson:20", dim=2),
    "nothing random": Problem("mfc", signal="cartoon", noise="none", dim=1),
}


def swept(problem: Problem, **choices: Any) -> Sweep:
    last = 6 if problem.dim == 1 else 5
    levels = MeshHierarchy.powers_of_two(problem.dim, 2 if problem.dim == 2 else 3, last)
    return sweep(problem, levels, **{"replicates": 7, **choices})


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("processes", "random signal"),
        *(("cluster", name) for name in PROBLEMS if name != "walls"),  # these import torch
        pytest.param("cluster", "walls", marks=pytest.mark.slow),
        *(pytest.param("processes", n, marks=pytest.mark.slow) for n in [*PROBLEMS][1:]),
    ],
)
def test_sweeps_have_the_bits_of_a_serial_one(how: str, name: str, ways: dict[str, Any]) -> None:
    alone, spread = swept(PROBLEMS[name]), swept(PROBLEMS[name], **ways[how])
    assert alone.data.identical(spread.data)
    assert alone.sample.gradients.tobytes() == spread.sample.gradients.tobytes()
    other = swept(PROBLEMS[name], seed=1)
    assert not other.data.identical(alone.data)


@pytest.mark.parametrize("how", AWAY)
def test_a_sweep_tells_what_is_complete_and_goes_on_from_there(
    how: str, ways: dict[str, Any]
) -> None:
    problem = PROBLEMS["random signal"]
    whole = swept(problem).sample.gradients
    kept: list[np.ndarray] = []
    told: list[int] = []
    again = swept(
        problem,
        done=whole[:3],
        checkpoint=lambda part: kept.append(part.copy()),
        progress=lambda done, _: told.append(done),
        **ways[how],
    )
    assert again.sample.gradients.tobytes() == whole.tobytes()
    assert told == sorted(set(told))
    assert (told[0], told[-1]) == (3, 7)
    assert [len(part) for part in kept] == told[1:]
    for part in kept:
        assert part.tobytes() == whole[: len(part)].tobytes()


def test_ranges_in_any_order_are_put_together() -> None:
    problem = PROBLEMS["random signal"]
    levels = MeshHierarchy.powers_of_two(1, 3, 6)
    plan = plan_sampling(
        *(problem, levels),
        **{"replicates": 6, "seed": 0, "threads": 1},
        **{"dtype": "float64", "device": "cpu", "memory": 1.0},
    )
    whole = np.random.default_rng(0).normal(size=(6, 4, 3))
    found = sampling.Gathering(problem, levels, plan, whole[:1])
    pieces = [range(3, 5), range(5, 6), range(1, 3)]
    gained = [found.add(p, whole[p.start : p.stop]) for p in pieces]
    assert gained == [False, False, True]
    assert found.complete == len(found) == 6
    np.testing.assert_array_equal(found.whole(), whole)
    found.add(range(4, 5), np.full((1, 4, 3), np.inf))
    with pytest.raises(InputError, match=r"`dtype` float64 must hold .* replicate 4"):
        found.whole()


def test_tasks_cover_the_paths_once_and_are_worth_starting(monkeypatch: Any) -> None:
    monkeypatch.undo()
    problem = Problem("mfc", noise="pixel:0.5", dim=2)
    for last, size in ((4, 64), (9, 8), (11, 1)):
        levels = MeshHierarchy.powers_of_two(2, 1, last)
        plan = plan_sampling(
            *(problem, levels),
            **{"replicates": 64, "seed": 0, "threads": 1},
            **{"dtype": "float64", "device": "cpu", "memory": 4.0},
        )
        for start in (0, 5, 64):
            pieces = [task.replicates for task in sampling_tasks(problem, levels, plan, start)]
            assert [r for piece in pieces for r in piece] == list(range(start, 64))
            assert all(len(piece) <= size for piece in pieces)
            assert len(pieces) == -(-(64 - start) // size)


def test_other_images_on_a_worker_are_refused(tmp_path: Path) -> None:
    picture = tmp_path / "picture.npy"
    np.save(picture, np.random.default_rng(0).random((32, 32)))
    problem = Problem("stencil", signal=f"image:{picture}", noise="pixel:0.1", dim=2)
    levels = MeshHierarchy.powers_of_two(2, 2, 5)
    plan = plan_sampling(
        *(problem, levels),
        **{"replicates": 2, "seed": 0, "threads": 1},
        **{"dtype": "float64", "device": "cpu", "memory": 1.0},
    )
    task = sampling_tasks(problem, levels, plan)[0]
    forget()
    assert sample_task(task).shape[1:] == (4, 9)
    np.save(picture, np.random.default_rng(1).random((32, 32)))
    forget()
    with pytest.raises(InputError, match=r"`signal` image:.* must be the same images on every"):
        sample_task(task)


def test_a_problem_that_cannot_be_sent_is_refused() -> None:
    problem = Problem("stencil", noise="pixel:0.1", dim=1)
    object.__setattr__(problem, "target", lambda k: k)
    levels = MeshHierarchy.powers_of_two(1, 3, 6)
    plan = plan_sampling(
        *(PROBLEMS["random signal"], levels),
        **{"replicates": 2, "seed": 0, "threads": 1},
        **{"dtype": "float64", "device": "cpu", "memory": 1.0},
    )
    with pytest.raises(InputError, match="`problem` must be such that it can be pickled"):
        sampling_tasks(problem, levels, plan)


# ---- runs ----


def busy_workers(cluster: LocalCluster, how: str) -> list[int]:
    if how == "processes":
        return [p.pid for p in multiprocessing.active_children() if "Spawn" in type(p).__name__]
    return [nanny.pid for nanny in cluster.workers.values()]


@pytest.mark.parametrize("how", SLOWLY_IN_PROCESSES)
def test_a_run_leaves_the_files_of_a_serial_one_though_workers_are_killed(
    how: str,
    ways: dict[str, Any],
    cluster: LocalCluster,
    reference: dict[str, bytes],
    tmp_path: Path,
) -> None:
    told: list[float] = []
    killed: list[int] = []

    def kill(done: float, total: float) -> None:
        told.append(done / total)
        if len(killed) < 2 and done / total > 0.1 + 0.45 * len(killed):  # sampling, then laws
            pid = next(p for p in busy_workers(cluster, how) if p not in killed)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    run(SweepConfig(**CHOICES, **ways[how]), tmp_path / "out", progress=kill)
    assert len(killed) == 2
    assert not set(killed) & set(busy_workers(cluster, how))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert len(set(told)) > 6
    assert contents(tmp_path / "out") == reference


def test_the_comparison_sees_another_seed(reference: dict[str, bytes], tmp_path: Path) -> None:
    run(SweepConfig(**CHOICES, seed=1), tmp_path)
    other = contents(tmp_path)
    same = [name for name in reference if other.get(name) == reference[name]]
    assert same == []


@pytest.mark.parametrize("how", SLOWLY_IN_PROCESSES)
def test_an_interrupted_run_goes_on_in_another_manner(
    how: str,
    ways: dict[str, Any],
    reference: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[float] = []

    def stop(done: float, total: float) -> None:
        told.append(done / 2**6)  # paths of meshes of so many cells
        if done > 0.15 * total:
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "SAVE_INTERVAL", 1e9)
    with pytest.raises(KeyboardInterrupt):
        run(SweepConfig(**CHOICES, **ways[how]), tmp_path, progress=stop)
    parts = {n: len(np.load(tmp_path / n)) for n in contents(tmp_path) if n.startswith("parts")}
    assert 8 <= sum(parts.values()) == told[-1] < 24
    drawn: list[range] = []
    honest = sampling.LevelGradients.__call__

    def counted(self: sampling.LevelGradients, replicates: range) -> np.ndarray:
        drawn.append(replicates)
        return honest(self, replicates)

    with monkeypatch.context() as patch:
        patch.setattr(sampling.LevelGradients, "__call__", counted)
        run(SweepConfig(**CHOICES), tmp_path)
    assert sum(map(len, drawn)) == 2 * 12 - sum(parts.values())
    assert contents(tmp_path) == reference
    run(SweepConfig(**CHOICES, **ways[how]), tmp_path)
    assert contents(tmp_path) == reference


# ---- the command line ----


def test_the_command_takes_workers() -> None:
    words = "sweep --dim=1 --levels=3:6 --noise=none --kernel=mfc --restriction=injection --json"
    words = words.split()
    alone = json.loads(CliRunner().invoke(app, words).stdout)
    assert json.loads(CliRunner().invoke(app, [*words, "--workers=2"]).stdout) == alone
    assert len(alone["rates"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sweep --workers=0", "`workers` must be a whole number from 1 to 1024; got 0"),
        ("sweep --workers=x", "`workers` must be a whole number; got 'x'"),
        ("sweep --workers=2 --scheduler=a:1", "`workers` must be 1 with `scheduler`"),
        ("sweep --workers=2 --threads=2", "`threads` must be 1 with `workers`"),
        ("sweep --scheduler=", "`scheduler` must be the address"),
        ("sweep --scheduler=nowhere", "`scheduler` must be the address .* got 'nowhere'"),
        ("atlas --dim=1 --workers=0", "`workers` must be a whole number from 1 to 1024; got 0"),
        ("atlas --dim=1 --workers=2 --scheduler=a:1", "`workers` must be 1 with `scheduler`"),
        ("atlas --dim=1 --no-cache --scheduler=nowhere", "`scheduler` must be the address"),
    ],
)
def test_bad_options_are_refused(words: str, message: str) -> None:
    done = CliRunner().invoke(app, words.split())
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise done.exception


def test_manner_is_no_part_of_what_a_run_is() -> None:
    alone = SweepConfig(**CHOICES).identity()
    assert SweepConfig(**CHOICES, workers=2).identity() == alone
    assert SweepConfig(**CHOICES, scheduler="tcp://host:8786").identity() == alone
    assert SweepConfig(**CHOICES, seed=2).identity() != alone


# ---- the atlas ----

CELLS = {
    "kernel": ["stencil"],
    "noise": ["pixel"],
    "setting": ["coarsening"],
    "restriction": ["injection"],
    "target": ["identity"],
    "dim": ["1"],
}


@pytest.mark.parametrize("how", SLOWLY_IN_PROCESSES)
def test_the_atlas_on_workers_is_that_of_one_process(
    how: str, ways: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # half a standard error allowed: nearly every cell is measured again, on fresh paths
    monkeypatch.setattr(build, "simultaneous_quantile", lambda *_: 0.5)
    again: list[int] = []
    honest = build.Found

    def found(law: Any, measured: Any, fresh: Any = None) -> Any:
        again.append(fresh is not None)
        return honest(law, measured, fresh)

    monkeypatch.setattr(build, "Found", found)
    cells = enumerate_cells(CELLS)
    alone = build.atlas(cells, replicates=8)
    assert any(again)
    told: list[tuple[int, int]] = []
    spread = build.atlas(
        cells, replicates=8, cache=tmp_path, progress=lambda *t: told.append(t), **ways[how]
    )
    assert json.dumps(spread) == json.dumps(alone)
    assert told[0] == (0, 1)
    assert told[-1] == (1, 1)
    # all that was found is in the client's folder: nothing is left to derive or to measure
    monkeypatch.setattr(build, "measure_unit", None)
    monkeypatch.setattr(build, "fluctuations_of", None)
    monkeypatch.setattr("gradconv.atlas.unit._derive", None)
    assert json.dumps(build.atlas(cells, replicates=8, cache=tmp_path)) == json.dumps(alone)
    with pytest.raises(TypeError):
        build.atlas(cells, replicates=8, cache=tmp_path / "other")


def test_what_the_client_has_travels_to_the_cluster(tmp_path: Path) -> None:
    cells = enumerate_cells(CELLS)
    build.atlas(cells, replicates=8, cache=tmp_path)
    unit, other = (build.Unit(tuple(cells), replicates, 0) for replicates in (8, 9))
    for work, known, new in (
        (unit, build._known(unit, build.Cache(tmp_path)), []),
        (other, build._known(other, build.Cache(tmp_path)), ["measured"]),
        (unit, {}, ["laws", "measured"]),
    ):
        _, added = build._away((work, known))
        assert [key[0] for key, _ in added] == new


@pytest.mark.slow
@pytest.mark.parametrize("how", AWAY)
def test_critical_series_on_workers(how: str, ways: dict[str, Any]) -> None:
    alone = critical.critical_series((1,), 8)
    assert critical.critical_series((1,), 8, 0, **ways[how]) == alone
    assert critical.critical_series((1,), 8, 1, **ways[how]) != alone
