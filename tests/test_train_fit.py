"""Runs of the trainer: every strategy, network and task, and what a run may not change."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from train_small import TINY, fitted, random_module, random_states, weights

from gradconv.errors import InputError, RunError, StorageError
from gradconv.nn import ResNet
from gradconv.train import Trainer, TrainingConfig
from gradconv.train.engine import Engine
from gradconv.train.logs import RunLog
from gradconv.train.loop import Loop
from gradconv.train.making import Data
from gradconv.train.present import lines, table
from gradconv.train.scoring import degraded_scores, score
from gradconv.train.strategies import STRATEGIES

RUNS = [
    *((t, n) for t in ("denoise:0.1:0.3", "deblur", "inpaint") for n in ("resnet", "unet")),
    *(("superres", n) for n in ("resnet", "unet", "espcn")),
]


@pytest.mark.parametrize(
    ("task", "network", "strategy", "conv"),
    [
        *((t, n, s, "standard") for t, n in RUNS for s in STRATEGIES.names if n != "unet"),
        *((t, n, s, "standard") for t, n in RUNS for s in ("single", "multiscale") if n == "unet"),
        *((t, n, "full-multiscale", "mfc") for t, n in RUNS),
        *(("denoise", "resnet", s, "mfc") for s in STRATEGIES.names),
    ],
)
def test_every_strategy_trains_every_network_for_every_task(
    task: str, network: str, strategy: str, conv: str
) -> None:
    steps = 5 if strategy == "multigrid" else 1
    options = {**TINY, "counts": (2, 1), "steps": steps, "stages": (1, 1), "conv": conv}
    if conv == "mfc":
        options["mesh_free_widths"] = (0.25, 0.3)
    trainer = Trainer(task, network, strategy, **options)
    before = weights(trainer).clone()
    result = trainer.fit()
    legs = trainer.legs
    assert result.totals.steps == sum(leg.steps for leg in legs)
    assert result.totals.work == pytest.approx(trainer.forecast()["totals"]["work"])
    assert result.totals.flops == pytest.approx(trainer.forecast()["totals"]["flops"])
    assert math.isfinite(result.test.mse)
    assert not torch.equal(weights(trainer), before)
    assert (result.degraded is None) is (task == "superres")
    document = json.loads(json.dumps(result.document, allow_nan=False))
    assert document == result.document
    assert table(document).row_count == len(legs) + 1 + (result.degraded is not None)
    assert "2 test tiles" in lines(document)[0]


def test_scores_of_a_result_are_those_of_its_weights() -> None:
    trainer = Trainer("denoise:0.3", "resnet", "full-multiscale", **TINY)
    result = trainer.fit()
    pairs = {split: trainer.data.pairs(split) for split in ("validation", "test")}
    found = {split: score(result.module, p, Engine("cpu")) for split, p in pairs.items()}
    assert result.test == found["test"] != found["validation"]
    assert result.legs[-1]["validation"] == dataclasses.asdict(found["validation"])
    assert result.degraded == degraded_scores(pairs["test"])
    assert result.document["test"] == dataclasses.asdict(found["test"])
    rows = [list(column.cells) for column in table(result.document).columns]
    texts = dict(zip(("name", "mesh", "steps", "work"), rows, strict=False))
    assert texts["name"] == ["0", "1", "all", ""]
    assert texts["steps"] == ["2", "1", "3", ""]
    assert texts["work"] == ["2", "3.5", "5.5", ""]


def stopped(folder: Path, model: nn.Module, at: int) -> None:
    """A run that is interrupted after a step."""

    def progress(done: float, total: float, words: str) -> None:
        if done == at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Trainer("denoise", model, "full-multiscale", **TINY).fit(folder, progress)


@pytest.mark.parametrize("at", [1, 2])
def test_a_module_that_draws_goes_on_with_the_same_draws(tmp_path: Path, at: int) -> None:
    whole = Trainer("denoise", random_module(), "full-multiscale", **TINY)
    whole.fit()
    stopped(tmp_path / "run", random_module(), at)
    torch.manual_seed(99)
    rest = Trainer("denoise", random_module(), "full-multiscale", **TINY)
    rest.fit(tmp_path / "run")
    assert torch.equal(weights(rest), weights(whole))
    for name, value in whole.module.state_dict().items():
        assert torch.equal(rest.module.state_dict()[name], value), name
    other = Trainer("denoise", random_module(), "full-multiscale", **{**TINY, "seed": 1})
    other.fit()
    assert not torch.equal(weights(other), weights(whole))


def test_a_checkpoint_of_another_module_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path / "run", random_module(), 1)
    other = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1))
    with pytest.raises(InputError, match=r"`module` must be that of the checkpoint; got Seq") as e:
        Trainer("denoise", other, "full-multiscale", **TINY).fit(tmp_path / "run")
    assert len(str(e.value).splitlines()) == 1


def test_a_module_in_evaluation_is_trained_in_training() -> None:
    model = random_module().eval()
    Trainer("denoise", model, "single", **TINY).fit()
    assert int(model[1].num_batches_tracked) == 2


def test_accumulated_estimates_are_a_larger_batch() -> None:
    """Single scale: two estimates of two samples and one of four, of the same numbers."""
    options = {"precision": "64", "optimiser": "sgd", "momentum": 0.0, "steps": 3}
    twice = fitted("single", batch=2, accumulation=2, **options)
    once = fitted("single", batch=4, **options)
    torch.testing.assert_close(weights(twice), weights(once), rtol=1e-10, atol=1e-12)
    for made in (twice, once):
        totals, planned = made.fit().document["totals"], made.forecast()["totals"]
        assert (totals["steps"], totals["samples"], totals["work"]) == (3, 12, 12)
        assert [totals[k] for k in ("samples", "work", "flops")] == [
            planned[k] for k in ("samples", "work", "flops")
        ]
    other = fitted("single", batch=2, **options)
    assert float((weights(other) - weights(once)).norm()) > 1e-8


def moved(**options: Any) -> float:
    """Length of one step of plain descent at rate 1."""
    trainer = Trainer(
        "denoise",
        "resnet",
        "single",
        **{**TINY, "steps": 1, "optimiser": "sgd", "momentum": 0.0, "lr": 1.0, **options},
    )
    before = weights(trainer).clone()
    trainer.fit()
    return float((weights(trainer) - before).norm())


def test_the_gradient_is_cut_to_its_bound() -> None:
    free = moved()
    assert free > 1e-3
    assert moved(clip=0.5 * free) == pytest.approx(0.5 * free, rel=1e-4)
    assert moved(clip=2 * free) == pytest.approx(free, rel=1e-6)


def test_a_prefetch_changes_nothing() -> None:
    options = {"stop": (1, 0.9), "accumulation": 2, "steps": 4, "stages": (4, 3)}
    plain, ahead = (fitted("full-multiscale", prefetch=p, **options) for p in (False, True))
    assert torch.equal(weights(plain), weights(ahead))


def test_bf16_trains_weights_of_single_precision() -> None:
    seen = []
    trainer = Trainer("denoise", "resnet", "multiscale", **TINY, precision="bf16")
    trainer.module.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    before = weights(trainer).clone()
    trainer.fit()
    assert {p.dtype for p in trainer.module.parameters()} == {torch.float32}
    assert torch.bfloat16 in seen
    assert not torch.equal(weights(trainer), before)
    single = fitted("multiscale")
    difference = (weights(trainer) - weights(single)).norm() / (weights(single) - before).norm()
    assert 0 < float(difference) < 0.5


@pytest.mark.parametrize("precision", ["32", "64"])
def test_weights_have_the_precision_of_the_run(precision: str) -> None:
    wanted = torch.float64 if precision == "64" else torch.float32
    assert {p.dtype for p in fitted(precision=precision).module.parameters()} == {wanted}


def test_batch_normalisation_trains_and_keeps_statistics() -> None:
    trainer = fitted(norm="batch", layers=3)
    buffers = dict(trainer.module.named_buffers())
    (counted,) = (b for name, b in buffers.items() if name.endswith("num_batches_tracked"))
    assert int(counted) == 2  # the finest mesh of two steps


class Wrong(nn.Module):
    """Gives another shape than the target's."""

    def __init__(self, crop: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1 if crop else 2, 3, padding=0 if crop else 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


@pytest.mark.parametrize("crop", [True, False])
def test_a_module_of_another_shape_is_refused(crop: bool) -> None:
    trainer = Trainer("denoise", Wrong(crop), "single", **TINY)
    with pytest.raises(InputError, match=r"output of the target's shape .*got \(2, "):
        trainer.fit()


class Large(nn.Module):
    """Runs on meshes of 16 cells only."""

    def __init__(self) -> None:
        super().__init__()
        self.own = ResNet(1, 1, channels=4, layers=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] < 16:
            raise RuntimeError("too small")
        return self.own(x)


def test_a_module_that_does_not_run_on_a_level_is_refused() -> None:
    with pytest.raises(InputError, match=r"level 0.*too small"):
        Trainer("denoise", Large(), "multiscale", **TINY).fit()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((5, "resnet"), "task"), (("denoise", 5), "module"), (("denoise", "resnet", 5), "strategy")],
)
def test_a_trainer_of_something_else(arguments: tuple[Any, ...], name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` must be .*got 5"):
        Trainer(*arguments, **TINY)


def test_values_do_for_words() -> None:
    from gradconv.train import TASKS

    made = Trainer(TASKS.parse("denoise:0.3"), "resnet", STRATEGIES.parse("multigrid:1"), **TINY)
    assert (made.config.task, made.config.strategy) == ("denoise:0.3:0.0", "multigrid:1")


def test_a_callers_random_numbers_and_threads_are_as_before() -> None:
    state, before = random_states(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        used = fitted(threads=2).fit().document["threads"]
        found = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert (used, found) == (2, 3)
    assert random_states() == state


def test_rows_of_moments_are_written_between_those_of_the_logs(tmp_path: Path) -> None:
    options = {**TINY, "steps": 6, "log_every": 4, "moments_every": 3, "moments_samples": 2}
    Trainer("denoise", "resnet", "multiscale", **options).fit(tmp_path)
    with (tmp_path / "levels.csv").open(newline="") as file:
        found = [(int(r["step"]), r["variance"] != "") for r in csv.DictReader(file)]
    assert found == [(s, s % 3 == 0) for s in (1, 3, 4, 6) for _ in range(2)]


def test_validation_between_and_at_the_end_of_legs(tmp_path: Path) -> None:
    options = {**TINY, "steps": 4, "stages": (4, 3), "validate_every": 2}
    Trainer("denoise", "resnet", "full-multiscale", **options).fit(tmp_path)
    with (tmp_path / "validation.csv").open(newline="") as file:
        assert [int(r["step"]) for r in csv.DictReader(file)] == [2, 4, 6, 7]


def test_a_stopping_rule_ends_a_leg_and_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradconv.train.strategies import Stopping

    monkeypatch.setattr(Stopping, "stalled", lambda self, losses: len(losses) >= 3)
    plan = {"levels": 3, "counts": (4, 2, 1), "steps": 9, "stages": (9, 7, 5), "stop": (2, 0.1)}
    result = Trainer("denoise", "resnet", "full-multiscale", **{**TINY, **plan}).fit()
    assert [leg["steps"] for leg in result.legs] == [3, 3, 5]


def test_a_leg_that_stalls_is_validated_once_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradconv.train.strategies import Stopping

    monkeypatch.setattr(Stopping, "stalled", lambda self, losses: len(losses) >= 3)
    plan = {"counts": (2, 1), "steps": 9, "stages": (9, 4), "stop": (2, 0.1), "validate_every": 1}
    Trainer("denoise", "resnet", "full-multiscale", **{**TINY, **plan}).fit(tmp_path)
    with (tmp_path / "validation.csv").open(newline="") as file:
        assert [int(r["step"]) for r in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_log_that_cannot_be_written_names_the_checkpoint_whatever_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunLog, **row: float) -> None:
        if row["step"] == 2:
            raise StorageError(f"`{self.folder / 'steps.csv'}` cannot be written: no space")

    monkeypatch.setattr(RunLog, "step", full)
    made = Trainer("denoise", "resnet", "single", **TINY, checkpoint_every=1)
    with pytest.raises(StorageError, match=r"no space; the last good checkpoint is .*00000001"):
        made.fit(tmp_path / "checkpointed")


def test_the_processes_of_a_run_count_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Trainer("denoise", "resnet", "single", **TINY)
    peak = made.forecast()["totals"]["peak_bytes"]
    asked = []

    def free(device: torch.device, memory: float | None, processes: int) -> float:
        asked.append(processes)
        return 1e12

    monkeypatch.setattr("gradconv.train.trainer.available_bytes", free)
    made.engine.local = 3
    made.fit()
    assert asked == [3]
    monkeypatch.setattr(Engine, "world", property(lambda self: 2))
    shared = made.forecast()
    assert shared["processes"] == 2
    assert shared["totals"]["peak_bytes"] < peak


def test_memory_that_runs_out_in_a_step_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop._step

    def failing(self: Loop, *arguments: Any) -> Any:
        if self.state.totals.steps == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore")
        return step(self, *arguments)

    monkeypatch.setattr(Loop, "_step", failing)
    made = Trainer("denoise", "resnet", "single", **TINY, checkpoint_every=1)
    wanted = r"`microbatch` must let every pass fit.*allocate memory; the last good .*00000001"
    with pytest.raises(RunError, match=wanted):
        made.fit(tmp_path / "run")

    def otherwise(self: Loop, *arguments: Any) -> Any:
        raise RuntimeError("an illegal memory access in the module")  # which no batch mends

    monkeypatch.setattr(Loop, "_step", otherwise)
    with pytest.raises(RuntimeError, match=r"^an illegal memory access in the module$"):
        Trainer("denoise", "resnet", "single", **TINY).fit()


def test_a_run_tells_of_narrow_kernels_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Trainer("denoise", "resnet", "multiscale", **TINY, conv="mfc").fit()
        wide = Trainer(
            "denoise", "resnet", "multiscale", **TINY, conv="mfc", mesh_free_widths=(0.25, 0.3)
        ).fit()
    assert sum("narrower than a cell" in n and "8×8, 16×16" in n for n in result.notes) == 1
    assert wide.notes == []
    assert wide.document["mesh_free_widths"] == [0.25, 0.3]


def test_held_out_pairs_are_those_of_every_seed_and_training_is_not() -> None:
    options = {"size": 16, "levels": 2, "task": "denoise:0.1:0.3"}
    data = [Data(TrainingConfig(**options, seed=seed)) for seed in (0, 1)]
    for split in ("validation", "test"):
        one, other = (d.pairs(split) for d in data)
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.y, other.y)
    validation, test = (data[0].pairs(split) for split in ("validation", "test"))
    assert not torch.equal(validation.y[0], test.y[0])
    assert len(validation.y) == 64
    drawn = [d.sampler().draw([0, 1], [1])[0][1] for d in data]
    assert not torch.equal(*drawn)
    noise = [x[:, :1] - y for d in data for x, y in d.sampler().draw([0], [1])]
    assert float(abs(torch.corrcoef(torch.stack(noise).reshape(2, -1))[0, 1])) < 0.3
    # a part of its own has samples of its own
    assert not torch.equal(drawn[0], data[0].sampler(4).draw([0, 1], [1])[0][1])
    assert torch.equal(drawn[0], data[0].sampler().draw([0, 1], [1])[0][1])
