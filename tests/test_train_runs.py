"""Runs that are cut short, killed or spread over processes end where an undisturbed one does."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from train_small import on_two_processes

from gradconv.errors import InputError, RunError, StorageError
from gradconv.multilevel import MultilevelGradient
from gradconv.nn import ResNet
from gradconv.nn.evaluation import mean_square
from gradconv.train import Trainer
from gradconv.train.checkpoints import Checkpoints
from gradconv.train.making import MOMENTS

SMALL = {
    "size": 16,
    "levels": 3,
    "width": 4,
    "layers": 3,
    "counts": (6, 4, 2),
    "steps": 6,
    "stages": (6, 4, 3),
    "validation_tiles": 4,
    "test_tiles": 4,
    "checkpoint_every": 4,
    "threads": 1,
    "device": "cpu",
}
FLAGS = [
    part
    for name, value in SMALL.items()
    for part in (
        f"--{name.replace('_', '-')}",
        ",".join(map(str, value)) if isinstance(value, tuple) else str(value),
    )
]
STRATEGY = "full-multiscale"


def trained(folder: Path) -> tuple[int, dict[str, torch.Tensor], dict]:
    """The last checkpoint of a run."""
    found = Checkpoints(folder / "checkpoints").latest()
    assert found is not None
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log, without what a clock said."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, optimiser, random states and logs agree to the bit."""
    (step, tensors, _), (wanted_step, wanted, _) = trained(one), trained(other)
    assert step == wanted_step
    assert tensors.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(tensors[name], value), name
    for name in ("steps.csv", "levels.csv", "validation.csv"):
        assert rows(one / name) == rows(other / name), name


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gradconv", "train", "--strategy", STRATEGY, *arguments]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    Trainer("denoise:0.2", "resnet", STRATEGY, **SMALL).fit(folder)
    return folder


def test_a_run_leaves_its_files_and_its_document(undisturbed):
    document = json.loads((undisturbed / "result.json").read_text())
    assert document["schema"] == "gradconv.training/1"
    assert document["totals"]["steps"] == 13
    # 6 · 6/16 + 4 (6/16 + 4 · 5/16) + 3 (6/16 + 4 · 5/16 + 2 · 5/4), in units of the finest mesh
    # scaled by level: 1/16, 1/4, 1
    expected = 6 * 6 / 16 + 4 * (6 / 16 + 4 * 5 / 16) + 3 * (6 / 16 + 4 * 5 / 16 + 2 * 5 / 4)
    assert document["totals"]["work"] == pytest.approx(expected)
    assert [leg["steps"] for leg in document["legs"]] == [6, 4, 3]
    assert document["provenance"]["seed"] == 0
    assert len(rows(undisturbed / "steps.csv")) == 13
    assert len(rows(undisturbed / "validation.csv")) == 3


def test_training_lowers_the_error(tmp_path):
    options = {**SMALL, "steps": 120, "lr": 5e-3}
    trainer = Trainer("denoise:0.3", "resnet", "single", **options)
    result = trainer.fit()
    assert result.degraded is not None
    assert result.test.mse < 0.5 * result.degraded.mse
    assert result.test.psnr > result.degraded.psnr + 3.0


@pytest.mark.parametrize("stops", [(2,), (4, 5, 9, 12)])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, undisturbed, stops):
    for stop in stops:

        def progress(done, total, words, stop=stop):
            if done == stop:
                os.kill(os.getpid(), signal.SIGINT)

        trainer = Trainer("denoise:0.2", "resnet", STRATEGY, **SMALL)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(tmp_path / "run", progress)
        assert trained(tmp_path / "run")[0] == stop
    Trainer("denoise:0.2", "resnet", STRATEGY, **SMALL).fit(tmp_path / "run")
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_finished_run_is_not_trained_again(undisturbed):
    seen = []
    result = Trainer("denoise:0.2", "resnet", STRATEGY, **SMALL).fit(
        undisturbed, lambda *a: seen.append(a)
    )
    assert not seen
    stored = json.loads((undisturbed / "result.json").read_text())
    assert result.document["test"] == stored["test"]


def test_another_seed_is_another_run(tmp_path, undisturbed):
    Trainer("denoise:0.2", "resnet", STRATEGY, **{**SMALL, "seed": 1}).fit(tmp_path / "run")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "run", undisturbed)


# Imports once, then runs the command line in a child process an attempt: torch has done nothing
# before the fork.
DRIVER = """
import json, os, signal, sys, time
from pathlib import Path
import lightning_fabric, sympy, torch._dynamo, torch.utils.tensorboard
from gradconv import cli
from gradconv.train import checkpoints, engine, trainer

arguments, folder, waits = json.loads(sys.argv[1])

def newest():
    return max((p.name for p in Path(folder).glob("checkpoints/checkpoint*")), default="")

def child():
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = ["gradconv", "train", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        os._exit(stop.code or 0)
    os._exit(99)

killed = 0
for wait in waits:
    # from the next checkpoint on: what comes before that is nothing to kill
    seen, pid, over, deadline = newest(), child(), 0, time.monotonic() + 60
    while newest() == seen and not over:
        assert time.monotonic() < deadline
        time.sleep(0.002)
        over, status = os.waitpid(pid, os.WNOHANG)
    if not over:
        time.sleep(wait)
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    killed += status == signal.SIGKILL
    if status != signal.SIGKILL:
        break
else:
    status = os.waitpid(child(), 0)[1]
print(json.dumps([killed, status]))
"""


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    """SIGKILL at random times of steps and checkpoints, until a process gets through."""
    options = {**SMALL, "stages": (30, 20, 15)}
    undisturbed = tmp_path / "undisturbed"
    Trainer("denoise:0.2", "resnet", STRATEGY, **options).fit(undisturbed)
    folder = tmp_path / "run"
    flags = [*FLAGS, "--strategy", STRATEGY, "--task", "denoise:0.2", "-o", str(folder)]
    flags += ["--stages", "30,20,15", "--checkpoint-every", "1"]
    waits = np.random.default_rng(3).uniform(0.0, 0.25, 4)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([flags, str(folder), list(waits)])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    killed, status = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr[-3000:]
    assert killed >= 2
    assert_same_run(folder, undisturbed)


@pytest.mark.parametrize("forked", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_two_processes_make_the_run_of_one(tmp_path, forked):
    """`torchrun` with two processes on a CPU, in double precision."""
    flags = [*FLAGS, "--task", "denoise:0.2", "--precision", "64"]
    alone = tmp_path / "one"
    options = {**SMALL, "precision": "64"}
    Trainer("denoise:0.2", "resnet", STRATEGY, **options).fit(alone)
    both = tmp_path / "two"
    on_two_processes("-m", *command(*flags, "-o", str(both))[2:], forked=forked)
    (_, ours, _), (_, theirs, _) = trained(both), trained(alone)
    weights = [name for name in theirs if name.startswith("model.")]
    assert len(weights) > 3
    for name in weights:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-9)
    assert json.loads((both / "result.json").read_text())["processes"] == 2
    losses = [[float(r["loss"]) for r in rows(f / "steps.csv")] for f in (both, alone)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


# -- what stops a run ---------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path):
    options = {**SMALL, "optimiser": "sgd", "lr": 1e12, "checkpoint_every": 1}
    with pytest.raises(RunError, match=r"must be finite; got (nan|inf).*checkpoint-0+\d+") as info:
        Trainer("denoise:0.2", "resnet", "single", **options).fit(tmp_path / "run")
    step, tensors, _ = trained(tmp_path / "run")
    assert f"checkpoint-{step:08d}" in str(info.value)
    assert all(bool(torch.isfinite(t).all()) for k, t in tensors.items() if k[:6] == "model.")


@pytest.mark.parametrize("more", [{}, {"validate_every": 1, "steps": 5}])
def test_weights_that_a_last_step_ruins_are_not_kept(tmp_path, more):
    """The gradient was finite, what the step made of it is not."""
    options = {**SMALL, "optimiser": "sgd", "lr": 1e30, "steps": 1, "checkpoint_every": 9, **more}
    with pytest.raises(RunError, match=r"validation error must be finite.*no good checkpoint"):
        Trainer("denoise:0.2", "resnet", "single", **options).fit(tmp_path / "run")
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest() is None
    assert not (tmp_path / "run" / "validation.csv").exists()


def test_moments_that_are_not_finite_leave_the_word_to_the_next_step(tmp_path):
    options = {**SMALL, "optimiser": "sgd", "lr": 1e30, "moments_every": 1, "checkpoint_every": 1}
    with pytest.raises(RunError, match=r"must be finite; got .* at step 2.*checkpoint-0+1"):
        Trainer("denoise:0.2", "resnet", "single", **options).fit(tmp_path / "run")
    assert [r["variance"] for r in rows(tmp_path / "run" / "levels.csv")] == [""]


def test_inputs_that_equal_their_targets_have_no_psnr(tmp_path):
    """Boxes that cover next to nothing: most tiles are as they were."""
    from gradconv.train.present import table

    options = {**SMALL, "steps": 1, "size": 64, "validation_tiles": 2, "test_tiles": 16}
    result = Trainer("inpaint:0.01", "resnet", "single", **options).fit(tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "result.json").read_text())
    assert kept["degraded"]["psnr"] is None
    assert kept["degraded"]["mse"] > 0
    assert kept["test"]["psnr"] == result.test.psnr
    assert list(table(kept).columns[7].cells)[-1] == "–"


def test_a_run_goes_on_only_where_its_passes_fit(tmp_path, undisturbed):
    for memory in (1e-6, 1.0):
        trainer = Trainer("denoise:0.2", "resnet", STRATEGY, **{**SMALL, "memory": memory})
        if memory < 1.0:
            with pytest.raises(InputError, match="`microbatch` must let every pass fit"):
                trainer.fit(undisturbed)
        else:
            assert trainer.fit(undisturbed).totals.steps == 13


def test_without_a_folder_it_says_that_nothing_was_kept():
    options = {**SMALL, "optimiser": "sgd", "lr": 1e12}
    with pytest.raises(RunError, match="no checkpoint was written"):
        Trainer("denoise:0.2", "resnet", "single", **options).fit()


def test_a_folder_of_another_configuration_is_refused(undisturbed):
    with pytest.raises(InputError, match="differs in lr"):
        Trainer("denoise:0.2", "resnet", STRATEGY, **{**SMALL, "lr": 0.5}).fit(undisturbed)


def test_how_it_is_computed_may_change(tmp_path, undisturbed):
    options = {**SMALL, "checkpoint_every": 1, "prefetch": True, "memory": 1.0}
    Trainer("denoise:0.2", "resnet", STRATEGY, **options).fit(tmp_path / "run")
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_full_disk_stops_with_the_last_good_checkpoint(tmp_path):
    """Files of this process may grow to so many bytes only, from the second checkpoint on."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def progress(done, total, words):
        if done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))

    trainer = Trainer("denoise:0.2", "resnet", STRATEGY, **{**SMALL, "checkpoint_every": 2})
    try:
        with pytest.raises(StorageError, match="checkpoint-00000002"):
            trainer.fit(tmp_path / "run", progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert trained(tmp_path / "run")[0] == 2


def test_memory_that_is_not_there_is_named_with_the_batch_that_fits():
    options = {**SMALL, "size": 64, "counts": (64, 32, 16), "memory": 0.002}
    with pytest.raises(InputError, match=r"a microbatch of (\d+) would fit") as info:
        Trainer("denoise:0.2", "resnet", "multiscale", **options).fit()
    fits = int(str(info.value).split("microbatch of ")[1].split()[0])
    assert fits >= 1
    options["steps"] = 1
    Trainer("denoise:0.2", "resnet", "multiscale", **options, microbatch=fits).fit()
    with pytest.raises(InputError, match="microbatch"):
        Trainer("denoise:0.2", "resnet", "multiscale", **options, microbatch=fits + 1).fit()


def test_a_module_of_ones_own_is_trained_in_place():
    model = ResNet(1, 1, channels=4, layers=3)
    before = [p.detach().clone() for p in model.parameters()]
    result = Trainer("denoise:0.2", model, "multiscale", **SMALL).fit()
    assert result.module is model
    changed = [
        not torch.equal(p.detach(), q) for p, q in zip(model.parameters(), before, strict=True)
    ]
    assert all(changed)


def test_measuring_moments_changes_nothing_else(tmp_path, undisturbed):
    options = {**SMALL, "moments_every": 2, "moments_samples": 4}
    Trainer("denoise:0.2", "resnet", STRATEGY, **options).fit(tmp_path / "run")
    (_, ours, _), (_, theirs, _) = trained(tmp_path / "run"), trained(undisturbed)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    measured = [r for r in rows(tmp_path / "run" / "levels.csv") if r["variance"]]
    assert {int(r["step"]) for r in measured} == {2, 4, 6, 8, 10, 12}
    assert all(float(r["variance"]) > 0 for r in measured)


@pytest.mark.parametrize("strategy", ["single", "multiscale", "random-crops"])
def test_moments_are_those_of_the_terms(tmp_path, strategy):
    """A term that corrects nothing has the moments of its gradient, not of a correction."""
    options = {**SMALL, "steps": 2, "moments_every": 2, "moments_samples": 4, "lr": 1e-12}
    trainer = Trainer("denoise:0.2", "resnet", strategy, **options, optimiser="sgd")
    trainer.fit(tmp_path / "run")
    levels = len(trainer.hierarchy)
    monitor = MultilevelGradient(
        trainer.module, mean_square, trainer.data.sampler(MOMENTS), trainer.hierarchy, [1] * levels
    )
    monitor.load_state_dict({**monitor.state_dict(), "next": 2 * levels * 4})
    found = monitor.measure(4)
    measured = [r for r in rows(tmp_path / "run" / "levels.csv") if r["step"] == "2"]
    if strategy == "random-crops":
        assert [(r["norm"], r["variance"]) for r in measured] == [("", "")] * len(measured)
        return
    corrects = strategy == "multiscale"
    variance = found.difference if corrects else found.fine
    square = found.mean_square if corrects else found.fine_mean_square
    assert len(measured) == (levels if corrects else 1)
    for row in measured:
        at = int(row["level"])
        assert float(row["variance"]) == pytest.approx(variance[at], rel=1e-4)
        norm = float(row["norm"])
        assert norm * abs(norm) == pytest.approx(square[at], rel=1e-3, abs=1e-4 * variance[at])
    assert not np.allclose(found.fine, found.difference, rtol=0.05)  # the two can be told apart


@pytest.mark.parametrize("schedule", ["cosine", "linear", "onecycle", "step"])
def test_a_schedule_that_restarts_begins_anew_with_each_leg(tmp_path, schedule):
    options = {**SMALL, "schedule": schedule, "restarts": True, "warmup": 1}
    for stop in (5, 8):

        def progress(done, total, words, stop=stop):
            if done == stop:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            Trainer("denoise:0.2", "resnet", STRATEGY, **options).fit(tmp_path / "run", progress)
    Trainer("denoise:0.2", "resnet", STRATEGY, **options).fit(tmp_path / "run")
    Trainer("denoise:0.2", "resnet", STRATEGY, **options).fit(tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    found = {}
    for row in rows(tmp_path / "run" / "steps.csv"):
        found.setdefault(row["leg"], []).append(float(row["lr"]))
    assert [len(rates) for rates in found.values()] == [6, 4, 3]
    assert len({rates[0] for rates in found.values()}) == 1
    once = {**options, "restarts": False}
    Trainer("denoise:0.2", "resnet", STRATEGY, **once).fit(tmp_path / "once")
    rates = [float(row["lr"]) for row in rows(tmp_path / "once" / "steps.csv")]
    assert rates != [rate for leg in found.values() for rate in leg]


def test_images_that_have_changed_since_are_another_run(tmp_path):
    from PIL import Image

    generator, images = np.random.default_rng(0), tmp_path / "images"
    images.mkdir()

    def paint(name: str) -> None:
        pixels = generator.integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{name}.png")

    for number in range(8):
        paint(str(number))
    options = {**SMALL, "data": f"folder:{images}", "steps": 2}
    Trainer("denoise:0.2", "resnet", "single", **options).fit(tmp_path / "run")
    Trainer("denoise:0.2", "resnet", "single", **options).fit(tmp_path / "run")
    paint("3")
    with pytest.raises(InputError, match="differs in images"):
        Trainer("denoise:0.2", "resnet", "single", **options).fit(tmp_path / "run")
