"""Runs that are killed, interrupted or out of space end with the bits of an undisturbed run."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradconv
from gradconv import agreement, cli, runner, store
from gradconv.config import SweepConfig
from gradconv.errors import InputError, StorageError
from gradconv.runner import run

ROOT = Path(gradconv.__file__).resolve().parents[1]
GAP_FIGURE, FIGURE_BYTES = runner.plots.gap_figure, store.figure_bytes
DERIVED = lru_cache(maxsize=8)(agreement.derive)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and fork are POSIX")

# Four cells; with the figures about three seconds of work on one core.
SWEEP = (
    *("sweep", "--dim=2", "--levels=4:7", "--replicates=40", "--noise=pixel:0.5"),
    *("--kernel=stencil,mfc", "--restriction=average,injection"),
)
SMALL: dict[str, Any] = {
    "dim": (1,),
    "levels": "3:6",
    "replicates": 12,
    "kernel": ("stencil", "mfc"),
    "restriction": ("average",),
}

# Imports once, what a run imports late too, then runs the command line in child processes that it
# kills: many kills, and nearly all of them fall into the run and not into the imports.
DRIVER = """
import json, os, random, signal, sys, time
import matplotlib.figure, xarray, h5netcdf, scipy.fft, scipy.special, scipy.stats, threadpoolctl
import dask.distributed, fontTools.subset, rich.console, rich.table, sympy
from matplotlib.backends import backend_agg, backend_pdf, backend_svg
from gradconv import cli, runner, store

plan = json.loads(sys.argv[1])
runner.SAVE_INTERVAL = plan["save_interval"]
if plan["plain_figures"]:
    runner.plots.gap_figure = lambda records, title: repr(records)
    store.figure_bytes = lambda text, kind, style: text.encode()
rng = random.Random(plan["seed"])
moment = {"count": 0}

def die_at(step, after):
    replace = os.replace
    def counted(*args, **kwargs):
        moment["count"] += 1
        if moment["count"] == step and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args, **kwargs)
        if moment["count"] == step and after:
            os.kill(os.getpid(), signal.SIGKILL)
    os.replace = counted

def child(step=None, after=False):
    pid = os.fork()
    if pid:
        return pid
    if step is not None:
        die_at(step, after)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    sys.argv = ["gradconv", *plan["arguments"]]
    try:
        cli.main()
    except SystemExit as stop:
        os._exit(stop.code or 0)
    os._exit(99)

if plan["whole"]:  # undisturbed, in this process: its children know what it has read and derived
    keep, quiet = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    sys.argv = ["gradconv", *plan["arguments"][:-1], plan["whole"]]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code
    sys.stdout.flush()
    os.dup2(keep, 1)
killed = []
for _ in range(plan["kills"]):
    pid = child()
    time.sleep(rng.uniform(0.0, plan["longest"]))
    os.kill(pid, signal.SIGKILL)
    killed.append(os.waitpid(pid, 0)[1])
for step in range(1, plan["steps"] + 1):
    for after in (False, True):
        killed.append(os.waitpid(child(step, after), 0)[1])
last = os.waitpid(child(), 0)[1]
print(json.dumps({"kills": sum(k == signal.SIGKILL for k in killed), "last": last}))
"""


def environment() -> dict[str, str]:
    # no git: a commit made between two runs would show in their provenance
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GIT_DIR": os.devnull,
    }


def launch(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradconv", *map(str, arguments)]
    options = {"capture_output": True, "text": True, "env": environment(), **options}
    return subprocess.run(command, **options)


def drive(folder: Path, *arguments: str, **plan: Any) -> dict[str, int]:
    """Kill a run again and again, then let it finish."""
    full = {
        "kills": 0,
        "steps": 0,
        "longest": 1.0,
        "seed": 0,
        "plain_figures": False,
        "save_interval": 0.05,
        "whole": "",
        **plan,
    }
    full["arguments"] = [*arguments, "-o", str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(full)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout)
    assert told["last"] == 0, done.stderr
    return told


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))


def small(**choices: Any) -> SweepConfig:
    return SweepConfig(**{**SMALL, **choices})


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of an uninterrupted run of `SWEEP`, made in this process."""
    folder = tmp_path_factory.mktemp("reference") / "out"
    complete(folder)
    return contents(folder)


def complete(folder: Path) -> None:
    """Run `SWEEP` in this process, figures and all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DIR", os.devnull)
        patch.setattr(runner.plots, "gap_figure", GAP_FIGURE)
        patch.setattr(store, "figure_bytes", FIGURE_BYTES)
        patch.setattr(sys, "argv", ["gradconv", *SWEEP, "-o", str(folder)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 0


@pytest.fixture(scope="module")
def small_reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of an uninterrupted run of `SMALL`, made in this process."""
    folder = tmp_path_factory.mktemp("reference") / "out"
    with pytest.MonkeyPatch.context() as patch:
        simplify(patch)
        run(small(), folder)
    return contents(folder)


def simplify(patch: pytest.MonkeyPatch) -> None:
    """For runs in this process: no git in the provenance, plain figures, a law derived once."""
    patch.setenv("GIT_DIR", os.devnull)
    patch.setattr(runner.plots, "gap_figure", lambda records, title: repr(records))
    patch.setattr(store, "figure_bytes", lambda text, kind, style: text.encode())
    patch.setattr(agreement, "derive", DERIVED)


@pytest.fixture(autouse=True)
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    simplify(monkeypatch)


def test_the_comparison_sees_one_bit(reference: dict[str, bytes]) -> None:
    names = {*reference} - {n for n in reference if n.startswith("parts")}
    assert names == {
        *("configuration.json", "rates.json", "table.md", "sweep.nc"),
        *("figure.png", "figure.pdf", "figure.svg"),
    }
    assert len(reference) == len(names) + 4  # a part a cell
    for name, content in reference.items():
        changed = {**reference, name: bytes([content[0] ^ 1]) + content[1:]}
        assert differences(reference, changed) == [name]


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_bytes(
    reference: dict[str, bytes], tmp_path: Path
) -> None:
    assert launch(*SWEEP, "-o", tmp_path / "out").returncode == 0
    assert differences(reference, contents(tmp_path / "out")) == []


def test_another_seed_gives_other_bytes(small_reference: dict[str, bytes], tmp_path: Path) -> None:
    run(small(seed=1), tmp_path)
    other = contents(tmp_path)
    assert other.keys() == small_reference.keys()
    assert differences(small_reference, other) == sorted(other)


def test_killed_at_random_moments(reference: dict[str, bytes], tmp_path: Path) -> None:
    told = drive(tmp_path / "out", *SWEEP, kills=12, longest=0.8, seed=11)
    assert told["kills"] >= 10
    assert differences(reference, contents(tmp_path / "out")) == []


def test_killed_at_every_step_of_writing(tmp_path: Path) -> None:
    options = ("--dim=1", "--levels=3:6", "--replicates=4", "--kernel=stencil")
    command = ("sweep", *options, "--restriction=average")
    # configuration, part, rates, table, data and three figures; of what is there, no part
    whole = str(tmp_path / "whole")
    told = drive(tmp_path / "out", *command, steps=8, plain_figures=True, whole=whole)
    assert told["kills"] >= 13
    assert differences(contents(tmp_path / "whole"), contents(tmp_path / "out")) == []


@pytest.mark.slow
def test_killed_processes(reference: dict[str, bytes], tmp_path: Path) -> None:
    rng = random.Random(5)
    command = [sys.executable, "-m", "gradconv", *SWEEP, "-o", str(tmp_path / "out")]
    for _ in range(3):
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.5, 2.5))
        process.kill()
        process.wait()
    assert launch(*SWEEP, "--threads=2", "-o", tmp_path / "out").returncode == 0
    assert differences(reference, contents(tmp_path / "out")) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threads", [1, 3])
def test_killed_at_many_random_moments(
    reference: dict[str, bytes], tmp_path: Path, seed: int, threads: int
) -> None:
    command = (*SWEEP, f"--threads={threads}")
    longest = (0.1, 0.5, 1.5, 2.5)[seed]
    told = drive(tmp_path / "out", *command, kills=40, longest=longest, seed=seed)
    assert told["kills"] >= 15
    assert differences(reference, contents(tmp_path / "out")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uniform:0.3", "matern:1.5:0.1", "poisson"])
def test_killed_with_other_noises_and_settings(name: str, tmp_path: Path) -> None:
    command = (
        *("sweep", "--dim=1,2", "--levels=4:8", "--replicates=40", f"--noise={name}"),
        *("--signal=cartoon", "--setting=refinement,coarsening", "--kernel=mfc"),
    )
    assert launch(*command, "-o", tmp_path / "whole").returncode == 0
    drive(tmp_path / "out", *command, kills=40, longest=1.5, seed=3)
    assert differences(contents(tmp_path / "whole"), contents(tmp_path / "out")) == []


def test_interrupt_says_how_to_go_on(reference: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "gradconv", *SWEEP, "-o", str(folder)]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list((folder / "parts").glob("[!.]*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert len(err.strip().splitlines()) == 1  # after the line that holds the terminal's ^C
    assert "interrupted" in err
    assert "same command" in err
    left = contents(folder)
    assert any(name.startswith("parts/") for name in left)
    assert not [name for name in left if Path(name).name.startswith(".")]
    complete(folder)
    assert differences(reference, contents(folder)) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_within_a_cell_keeps_what_is_done(
    threads: int,
    small_reference: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(done: float, total: float) -> None:
        if done >= 0.25 * total:
            raise KeyboardInterrupt

    monkeypatch.setattr("gradconv.sampling.BATCH_NUMBERS", 1)  # a replicate at a time
    with pytest.raises(KeyboardInterrupt):
        run(small(threads=threads), tmp_path / "out", progress=stop)
    (part,) = (tmp_path / "out" / "parts").iterdir()
    kept = np.load(part)
    assert 6 <= len(kept) < 12
    whole = np.load(tmp_path / "out" / "parts" / part.name)
    np.testing.assert_array_equal(kept, whole[: len(kept)])
    run(small(), tmp_path / "out")
    assert differences(small_reference, contents(tmp_path / "out")) == []


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": truncated,
    "cut in the header": lambda content: content[:50],
    "empty": lambda content: b"",
    "random bytes": lambda content: random.Random(0).randbytes(len(content)),
    "text": lambda content: b"no array at all\n",
    "a zip": lambda content: b"PK\x03\x04" + content,
    "one byte more": lambda content: content + b"x",
    "header of another shape": lambda content: content.replace(b"(12, 4, 3)", b"(12, 3, 4)"),
    "huge header": lambda content: content.replace(b"(12, 4, 3), }", b"(12, 9**9), }"),
    "other numbers": lambda content: content.replace(b"'<f8'", b"'<i8'"),
    "pickle": lambda content: content.replace(b"'<f8'", b"'|O' "),
    "zeroed end": lambda content: content[:-64] + bytes(64),
    "flipped bit": lambda content: content[:-3] + bytes([content[-3] ^ 4]) + content[-2:],
    "not a number": lambda content: content[:-8] + np.array([np.nan]).tobytes(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_parts_are_computed_again(
    kind: str, small_reference: dict[str, bytes], tmp_path: Path
) -> None:
    name = next(
        n for n in small_reference if n.startswith("parts") and b"(12, 4, 3)" in small_reference[n]
    )
    damaged = DAMAGE[kind](small_reference[name])
    assert damaged != small_reference[name]
    (tmp_path / "parts").mkdir()
    (tmp_path / name).write_bytes(damaged)
    (tmp_path / "configuration.json").write_bytes(small_reference["configuration.json"])
    run(small(), tmp_path)
    assert differences(small_reference, contents(tmp_path)) == []


def test_whole_parts_are_used(small_reference: dict[str, bytes], tmp_path: Path) -> None:
    # Negative control of the test above: what is whole is not computed again.
    for name in small_reference:
        if name.startswith("parts") or name == "configuration.json":
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(small_reference[name])
    steps: list[float] = []
    run(small(), tmp_path, progress=lambda done, total: steps.append(done / total))
    assert steps == [0.5, 1.0]
    assert differences(small_reference, contents(tmp_path)) == []


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"replicates": 13}, "replicates"),
        ({"levels": "3:7"}, "levels"),
        ({"noise": ("pixel:0.6",)}, "noise"),
        ({"kernel": ("stencil",)}, "kernel"),
        ({"diffusivity": 0.01}, "diffusivity"),
        ({"dtype": "float32"}, "dtype"),
        ({"confidence": 0.9}, "confidence"),
    ],
)
def test_another_configuration_is_refused(
    choices: dict[str, Any], named: str, small_reference: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "parts").mkdir()
    for name, content in small_reference.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"`output` must .* differs in {named}$"):
        run(small(**choices), tmp_path)
    assert contents(tmp_path) == small_reference
    run(small(memory=1.0, threads=2), tmp_path)  # how it is computed is no other configuration
    assert contents(tmp_path) == small_reference


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "5", '"kernel"', '["kernel"]', "{}", "[" * 5000, "\udc80"]
)
def test_a_strange_configuration_file_is_refused(text: str, tmp_path: Path) -> None:
    marker = tmp_path / "configuration.json"
    marker.write_bytes(text.encode(errors="surrogateescape"))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="`output`"):
        run(small(), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["parts/0123456789abcdef.npy", "rates.json", "sweep.nc"])
def test_results_without_their_configuration_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("of some other run")
    with pytest.raises(InputError, match="`output`"):
        run(small(), tmp_path)
    assert contents(tmp_path) == {name: b"of some other run"}


def test_an_image_that_changed_is_another_configuration(tmp_path: Path) -> None:
    picture = tmp_path / "picture.npy"
    choices = {"signal": (f"image:{picture}",), "dim": (2,), "replicates": 2}
    np.save(picture, np.random.default_rng(0).random((64, 64)))
    run(small(**choices), tmp_path / "out")
    before = contents(tmp_path / "out")
    np.save(picture, np.random.default_rng(1).random((64, 64)))
    with pytest.raises(InputError, match="`output`"):
        run(small(**choices), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_files_of_others_in_the_folder_stay(tmp_path: Path) -> None:
    names = (".git-credentials", ".pre-commit-config.yaml", "notes.txt", ".rates-old.json")
    for name in names:
        (tmp_path / name).write_text(name)
    run(small(), tmp_path)
    found = contents(tmp_path)
    for name in names:
        assert found.get(name) == name.encode(), name


def test_temporary_files_of_a_killed_run_go(tmp_path: Path, monkeypatch: Any) -> None:
    def killed(*_: object) -> None:
        raise SystemExit  # as by a kill: nothing below runs

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            run(small(), tmp_path)
    assert len(contents(tmp_path)) == 1
    run(small(), tmp_path)
    assert not [n for n in contents(tmp_path) if Path(n).name.startswith(".")]


def check_refusal(code: int, err: str, folder: Path) -> None:
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: `output` ")
    hidden = [n for n in contents(folder) if Path(n).name.startswith(".")]
    assert hidden == []


# configuration, a part and the rates of two cells, table, data, three figures
@pytest.mark.parametrize(
    ("step", "code"),
    [*((step, errno.ENOSPC) for step in range(1, 11)), (2, errno.EDQUOT), (7, errno.EIO)],
)
def test_no_space_at_any_write(
    step: int,
    code: int,
    small_reference: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fsync, count = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count >= step:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    arguments = [
        f"--{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in SMALL.items()
    ]
    monkeypatch.setattr(sys, "argv", ["gradconv", "sweep", *arguments, "-o", str(tmp_path)])
    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", full)
        with pytest.raises(SystemExit) as stop:
            cli.main()
    out, err = capsys.readouterr()
    assert out == ""
    check_refusal(stop.value.code, err, tmp_path)
    there = contents(tmp_path)
    assert len(there) < len(small_reference)
    for name in there:  # what is there is whole
        assert name == "rates.json" or there[name] == small_reference[name], name
    run(small(), tmp_path)
    assert differences(small_reference, contents(tmp_path)) == []


# of these files the figures alone are larger than 20 kB, and are drawn for the last two
@pytest.mark.parametrize("limit", [200, 1_000, 20_000, 60_000])
def test_files_that_may_not_grow(
    limit: int,
    small_reference: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The limit is the system's, on this process; it ignores SIGXFSZ, as Python always does."""
    resource = pytest.importorskip("resource")
    folder = tmp_path / "out"
    arguments = [
        f"--{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in SMALL.items()
    ]
    monkeypatch.setattr(sys, "argv", ["gradconv", "sweep", *arguments, "-o", str(folder)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        if limit > 10_000:
            patch.setattr(runner.plots, "gap_figure", GAP_FIGURE)
            patch.setattr(store, "figure_bytes", FIGURE_BYTES)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(SystemExit) as stop:
                cli.main()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    out, err = capsys.readouterr()
    assert out == ""
    check_refusal(stop.value.code, err, folder)
    run(small(), folder)
    assert differences(small_reference, contents(folder)) == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.md"
    store.write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space is left"):
            store.write_atomically(path, b"new")
    assert contents(tmp_path) == {"table.md": b"old"}
    store.write_atomically(path, b"new")
    assert contents(tmp_path) == {"table.md": b"new"}


def test_partial_results_are_saved_while_a_cell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    original = store.ResultFolder.save_part

    def save(self: store.ResultFolder, key: str, part: np.ndarray) -> None:
        saved.append(len(part))
        original(self, key, part)

    monkeypatch.setattr(store.ResultFolder, "save_part", save)
    monkeypatch.setattr("gradconv.sampling.BATCH_NUMBERS", 1)
    monkeypatch.setattr(runner, "SAVE_INTERVAL", 0.0)
    run(small(kernel=("stencil",)), tmp_path / "often")
    assert saved == list(range(1, 13))
    saved.clear()
    monkeypatch.setattr(runner, "SAVE_INTERVAL", 1e9)
    run(small(kernel=("stencil",)), tmp_path / "once")
    assert saved == [12]
    assert contents(tmp_path / "often") == contents(tmp_path / "once")
