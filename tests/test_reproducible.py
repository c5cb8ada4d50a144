"""The same seed gives the same bits, however the work is cut, and memory stays under its bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import gradconv
from gradconv.cli import app
from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.sampling import BATCH_NUMBERS, GIB
from gradconv.sweeps import Sweep, check_sweep, sweep

ROOT = Path(gradconv.__file__).resolve().parents[1]

# A value of every noise; random signals carry all but Poisson counts, which need u >= 0.
NOISES = (
    "none",
    "pixel:0.5",
    "white:0.1",
    "power:1.5:0.2",
    "matern:1.5:0.1",
    "uniform:0.3",
    "salt-and-pepper:0.2",
    "poisson:20",
)


def problem(noise: str = "pixel:0.5", **choices: Any) -> Problem:
    choices.setdefault("signal", "cartoon" if noise.startswith("poisson") else "sobolev:2")
    choices.setdefault("dim", 1)
    return Problem(noise=noise, **choices)


def gradients(case: Problem, first: int = 3, last: int = 7, **choices: Any) -> np.ndarray:
    return sweep_of(case, first, last, **choices).sample.gradients


def sweep_of(case: Problem, first: int = 3, last: int = 7, **choices: Any) -> Sweep:
    choices.setdefault("replicates", 6)
    return sweep(case, MeshHierarchy.powers_of_two(case.dim, first, last), **choices)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def assert_same(a: np.ndarray, b: np.ndarray, what: str) -> None:
    assert a.shape == b.shape
    if not same_bits(a, b):
        worst = np.unravel_index(np.argmax(np.abs(a - b)), a.shape)
        pytest.fail(f"{what}: {a[worst]!r} and {b[worst]!r} at {worst}")


def smallest_memory(
    case: Problem, first: int, last: int, threads: int = 1, replicates: int = 6
) -> float:
    """Bound, in GiB, that just holds one replicate a thread, by bisection on the refusal."""
    levels = MeshHierarchy.powers_of_two(case.dim, first, last)
    rest = {"seed": 0, "dtype": "float64", "device": "cpu", "confidence": 0.95}
    low, high = 1e-9, 4.0
    while high / low > 1.001:
        middle = np.sqrt(low * high)
        try:
            check_sweep(case, levels, replicates=replicates, memory=middle, threads=threads, **rest)
        except InputError:
            low = middle
        else:
            high = middle
    return high


def test_the_comparison_sees_one_unit_in_the_last_place() -> None:
    a = np.array([1.0, 2.0])
    assert same_bits(a, a.copy())
    assert not same_bits(a, np.nextafter(a, 3.0))
    assert not same_bits(np.array([0.0]), np.array([-0.0]))


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("kernel", ["stencil", "mfc"])
@pytest.mark.parametrize("noise", ["pixel:0.5", "matern:1.5:0.1"])
def test_another_seed_gives_other_values(noise: str, kernel: str, dim: int) -> None:
    case = problem(noise, kernel=kernel, dim=dim)
    a, b = gradients(case, last=6, seed=1), gradients(case, last=6, seed=2)
    assert np.all(a != b)
    assert_same(a, gradients(case, last=6, seed=1), "the same seed again")


@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kernel", ["stencil:5", "mfc", "scaled-stencil", "gaussian-derivative"])
def test_threads_leave_the_bits(kernel: str, dtype: str, setting: str) -> None:
    case = problem(kernel=kernel, dim=2, setting=setting)
    # a bound that holds one replicate a thread: as many pieces of work as there are replicates
    alone = gradients(case, 3, 6, threads=1, dtype=dtype, replicates=7)
    memory = smallest_memory(case, 3, 6, threads=3, replicates=7)
    shared = gradients(case, 3, 6, threads=3, dtype=dtype, replicates=7, memory=memory)
    assert_same(alone, shared, "1 and 3 threads")


@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("kernel", ["stencil", "mfc", "spectral:1", "scaled-stencil"])
def test_memory_leaves_the_bits(kernel: str, dim: int, setting: str) -> None:
    case = problem(kernel=kernel, dim=dim, setting=setting)
    last = {1: 8, 2: 6, 3: 5}[dim]
    tight = smallest_memory(case, 2, last)
    alone = gradients(case, 2, last, memory=tight)
    together = gradients(case, 2, last, memory=4.0)
    assert_same(alone, together, "one at a time and all at once")


def test_the_tight_bound_cuts_the_work_and_the_loose_one_does_not() -> None:
    case = problem(dim=2)
    pieces: dict[str, list[int]] = {"tight": [], "loose": []}
    for name, memory in (("tight", smallest_memory(case, 3, 6)), ("loose", 4.0)):
        seen = pieces[name]
        gradients(case, 3, 6, memory=memory, progress=lambda done, _, s=seen: s.append(done))
    assert pieces["tight"] == [0, 1, 2, 3, 4, 5, 6]
    assert BATCH_NUMBERS > 6 * 64**2
    assert pieces["loose"] == [0, 6]


@pytest.mark.parametrize("boundary", ["zero", "reflecting"])
def test_boundaries_that_go_through_autograd_keep_the_bits(boundary: str) -> None:
    case = problem(dim=1, boundary=boundary)
    reference = gradients(case, 3, 6)
    assert_same(reference, gradients(case, 3, 6, threads=3), "1 and 3 threads")
    tight = smallest_memory(case, 3, 6)
    assert_same(reference, gradients(case, 3, 6, memory=tight), "memory")


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
@pytest.mark.parametrize("noise", NOISES)
def test_more_replicates_leave_those_there(noise: str, setting: str, dim: int) -> None:
    case = problem(noise, setting=setting, dim=dim)
    few = gradients(case, last=6, replicates=3)
    many = gradients(case, last=6, replicates=8)
    if case.deterministic:
        assert len(many) == 1
        few = many[:1]
    assert_same(few, many[: len(few)], "3 of 8 replicates")


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
@pytest.mark.parametrize("noise", NOISES)
def test_coarser_levels_leave_those_there(noise: str, setting: str, dim: int) -> None:
    case = problem(noise, setting=setting, dim=dim)
    short = gradients(case, 3, 6)
    assert_same(short, gradients(case, 1, 6)[:, 2:], "two coarser levels")


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize(
    ("signal", "noise"),
    [
        *(("cartoon" if n.startswith("poisson") else "sobolev:2", n) for n in NOISES),
        *((s, "pixel:0.5") for s in ("band-limited:3", "plane-wave:3", "cartoon")),
    ],
)
def test_finer_levels_leave_those_there_in_refinement(noise: str, signal: str, dim: int) -> None:
    case = problem(noise, signal=signal, setting="refinement", dim=dim)
    last = {1: 7, 2: 6}[dim]
    short = gradients(case, 3, last)
    assert_same(short, gradients(case, 3, last + 2)[:, :-2], "two finer levels")


def test_finer_levels_change_the_data_of_a_coarsening() -> None:
    # Negative control of the test above: there the noise lives on the finest mesh.
    case = problem(setting="coarsening")
    assert np.all(gradients(case, 2, 6) != gradients(case, 2, 8)[:, :-2])


@pytest.mark.parametrize("kernel", ["stencil", "mfc"])
def test_a_prefix_of_done_replicates_gives_the_same_whole(kernel: str) -> None:
    case = problem(kernel=kernel, dim=2)
    whole = gradients(case, 3, 6, replicates=9)
    for done in (0, 1, 5, 9, 12):
        more = gradients(case, 3, 6, replicates=12)[:done]
        resumed = gradients(case, 3, 6, replicates=9, done=more)
        assert_same(whole, resumed, f"{done} replicates done")
    wrong = whole[:4] + 1.0
    assert not same_bits(whole, gradients(case, 3, 6, replicates=9, done=wrong))


def test_float32_is_close_to_float64_and_not_the_same() -> None:
    case = problem(dim=2, kernel="mfc")
    double, single = gradients(case), gradients(case, dtype="float32")
    assert single.dtype == np.float64
    scale = np.abs(double).max()
    assert 0 < np.abs(double - single).max() < 1e-5 * scale


def test_rates_and_data_are_the_same_to_the_last_bit() -> None:
    case = problem(dim=2)
    a = sweep_of(case, threads=1, replicates=10)
    b = sweep_of(case, threads=3, replicates=10, memory=smallest_memory(case, 3, 7, 3, 10))
    for quantity, rate in a.rates.items():
        other = b.rate(quantity)
        assert (rate.order, tuple(rate.interval)) == (other.order, tuple(other.interval)), quantity
    for name in a.data:
        assert_same(a.data[name].values, b.data[name].values, str(name))


def _document(threads: int, blas: str, *options: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), blas),
    }
    command = [sys.executable, "-m", "gradconv", "sweep", "--json", f"--threads={threads}"]
    run = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def test_threads_of_the_libraries_leave_the_bits() -> None:
    options = ("--dim=2", "--levels=4:8", "--replicates=5", "--restriction=average")
    a, b = _document(1, "1", *options), _document(3, "2", *options)
    other = json.loads(CliRunner().invoke(app, ["sweep", "--json", *options, "--seed=1"]).stdout)
    assert a["rates"] == b["rates"]
    assert a["rates"] != other["rates"]
    # what it was computed with is no part of what was computed
    assert a["provenance"]["configuration_hash"] == b["provenance"]["configuration_hash"]
    assert a["provenance"]["configuration_hash"] != other["provenance"]["configuration_hash"]


PEAK = """
import json, pathlib, re, resource, sys
from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.sweeps import sweep

choices, last, run = json.loads(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
problem = Problem(**choices)

first = 4 if problem.dim < 3 else 2

def compute(last, **options):
    levels = MeshHierarchy.powers_of_two(problem.dim, first, last)
    return sweep(problem, levels, **options)

def peak():
    # Linux hands a parent's ru_maxrss down to its children, but not its high-water mark
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

compute(first + 3, replicates=2).rates  # imports and caches: the baseline of the interpreter
if run["memory"] is None:  # as little as is accepted, read off the refusal
    try:
        compute(last, **{**run, "memory": 1e-9})
    except InputError as error:
        run["memory"] = 1.02 * float(re.search("about ([^ ]+) GiB", str(error))[1])
before = peak()
compute(last, **run).rates
print(json.dumps([peak() - before, run["memory"] * 2**30]))
"""


def peak_growth(choices: dict[str, Any], last: int, **run: Any) -> tuple[float, float]:
    """Growth of the resident peak of a sweep in a process of its own, and its bound, in bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [json.dumps(choices), str(last), json.dumps(run)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    growth, bound = json.loads(done.stdout)
    return growth, bound


def test_peak_memory_stays_under_the_bound() -> None:
    choices = {"kernel": "stencil", "signal": "cartoon", "noise": "pixel:0.5", "dim": 2}
    growth, bound = peak_growth(choices, 10, replicates=3, memory=0.25)
    # the lower end shows that the measurement sees a field of 1024 x 1024 at all
    assert 8 * 1024**2 < growth < bound == 0.25 * GIB


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("choices", "last"),
    [
        ({"dim": 2}, 10),
        ({"dim": 2, "setting": "refinement"}, 10),
        ({"dim": 2, "kernel": "mfc", "setting": "refinement", "signal": "cartoon"}, 10),
        ({"dim": 2, "kernel": "spectral:4"}, 10),
        ({"dim": 2, "kernel": "stencil:9"}, 10),
        ({"dim": 2, "kernel": "scaled-stencil", "target": "blur"}, 10),
        ({"dim": 2, "kernel": "mfc", "channels": 3}, 9),
        ({"dim": 2, "noise": "matern:1.5:0.1", "setting": "refinement"}, 10),
        ({"dim": 2, "noise": "poisson", "signal": "cartoon"}, 10),
        ({"dim": 2, "noise": "salt-and-pepper", "signal": "cartoon"}, 10),
        ({"dim": 2, "boundary": "zero"}, 9),
        ({"dim": 2, "boundary": "reflecting", "kernel": "mfc"}, 9),
        ({"dim": 3, "kernel": "mfc"}, 7),
        ({"dim": 3, "setting": "refinement", "noise": "white:0.1"}, 7),
        ({"dim": 1, "setting": "refinement"}, 20),
        ({"dim": 1, "kernel": "mfc", "signal": "cartoon"}, 20),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_peak_memory_under_the_tightest_bound(
    choices: dict[str, Any], last: int, threads: int
) -> None:
    choices = {"noise": "pixel:0.5", **choices}
    growth, bound = peak_growth(choices, last, replicates=2 * threads, memory=None, threads=threads)
    assert 2**20 < growth < bound


@pytest.mark.slow
def test_memory_counts_the_gradients_of_all_replicates() -> None:
    choices = {"kernel": "stencil:9", "noise": "pixel:0.5", "dim": 2}
    with pytest.raises(AssertionError, match="`memory`"):  # 100000 x 5 x 81 numbers: 0.3 GiB
        peak_growth(choices, 8, replicates=100_000, memory=0.1)
