"""The parts of a training run: optimisers, memory, scores, timing, interruption, making, loop."""

from __future__ import annotations

import math
import os
import signal
import threading
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import nn
from train_small import TINY, random_module, random_states

from gradconv.errors import InputError
from gradconv.multilevel.costs.counting import LevelCost
from gradconv.multilevel.costs.plan import Term
from gradconv.nn import UnresolvedKernelWarning
from gradconv.nn.evaluation import mean_square
from gradconv.sampling import GIB
from gradconv.train import Trainer, TrainingConfig
from gradconv.train.engine import Engine
from gradconv.train.gradient import StepGradient
from gradconv.train.interruption import Interruption
from gradconv.train.making import Data, Pairs, unresolved_kernels
from gradconv.train.memory import MARGIN, available_bytes, check_memory, largest_pass
from gradconv.train.optimisers import OPTIMISERS, SCHEDULES, make_optimiser, make_schedule
from gradconv.train.scoring import degraded_scores, score, scores
from gradconv.train.strategies import STRATEGIES, Schedule
from gradconv.train.timing import seconds_of_legs

# -- optimisers and schedules ---------------------------------------------------------------------

LR, STEPS = 0.4, 12


def after_warmup(name: str, k: int, steps: int) -> float:
    """Learning rate of step k of so many, over the full one, from its closed form."""
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * k / steps))
    if name == "linear":
        return 1 - 0.99 * k / steps
    if name == "step":
        return 0.1 ** ((k >= steps // 2) + (k >= 3 * steps // 4))
    if name == "onecycle":  # from 1/25 up over 0.3 of the way, then down to 1/25 · 1e-4, by cosines
        top = 0.3 * (steps + 1) - 1
        low, high, share = (
            (1 / 25, 1.0, k / top) if k <= top else (1.0, 4e-6, (k - top) / (steps - top))
        )
        return high + (low - high) * 0.5 * (1 + math.cos(math.pi * share))
    return 1.0


def rates(name: str, steps: int, warmup: int) -> list[float]:
    optimiser = make_optimiser("sgd", [nn.Parameter(torch.zeros(1))], LR)
    schedule = make_schedule(name, optimiser, LR, steps, warmup)
    found = []
    for _ in range(steps):
        found.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        schedule.step()
    return found


@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rates_are_those_of_the_closed_form(name: str, warmup: int) -> None:
    # one cycle starts from a 25th, to which its warm-up rises
    full = LR / 25 if name == "onecycle" else LR
    rising = [full * (1 + (warmup - 1) * k / warmup) / warmup for k in range(warmup)]
    rest = STEPS - warmup
    wanted = rising + [LR * after_warmup(name, k, rest) for k in range(rest)]
    np.testing.assert_allclose(rates(name, STEPS, warmup), wanted, rtol=1e-9, atol=1e-12)
    # the control: another schedule has other rates
    assert name == "constant" or not np.allclose(wanted[warmup:], LR)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_schedules_of_few_steps(name: str, steps: int) -> None:
    found = rates(name, steps, 0)
    assert all(0 <= rate <= LR * (1 + 1e-12) for rate in found)
    if steps > 1:
        assert len(rates(name, steps, 1)) == steps


def test_a_warm_up_needs_a_step_after_it() -> None:
    optimiser = make_optimiser("sgd", [nn.Parameter(torch.zeros(1))], LR)
    with pytest.raises(InputError, match="`warmup` must be less than the plan's 4 steps; got 4"):
        make_schedule("cosine", optimiser, LR, 4, 4)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_get_their_settings(name: str) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimiser = make_optimiser(name, [parameter], 0.25, weight_decay=0.125, momentum=0.5)
    assert type(optimiser) is OPTIMISERS[name]
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)
    assert group.get("momentum", 0) == (0.5 if name == "sgd" else 0)
    parameter.grad = torch.ones(3)
    optimiser.step()
    assert bool((parameter < 1).all())


# -- memory ---------------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(1, 40), min_size=2, max_size=4)


def level_costs_of(levels: int, seed: int) -> list[LevelCost]:
    rng = np.random.default_rng(seed)
    return [
        LevelCost(level, (4 * 2**level,) * 2, 1.0, *(float(v) for v in rng.integers(1, 1000, 2)))
        for level in range(levels)
    ]


def passes(terms: tuple[Term, ...], levels: int, microbatch: int | None, merged: bool, world: int):
    """(level, samples) of the largest passes of a step, counted one sample at a time."""
    for level in range(levels):
        parts = []
        for term in terms:
            share = math.ceil(term.samples / world)
            if level in ((term.level, term.level - 1) if term.corrects else (term.level,)):
                parts.append(share)
        groups = [sum(parts)] if merged and parts else parts
        for group in groups:
            most = group if microbatch is None else microbatch * 4 ** (levels - 1 - level)
            yield level, min(group, most)


@settings(max_examples=60)
@given(
    counts=COUNTS,
    name=st.sampled_from(["single", "multiscale", "full-multiscale", "progressive"]),
    microbatch=st.none() | st.integers(1, 50),
    merged=st.booleans(),
    world=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_the_largest_pass_is_that_of_a_count_one_by_one(
    counts: list[int], name: str, microbatch: int | None, merged: bool, world: int, seed: int
) -> None:
    levels = len(counts)
    costs = level_costs_of(levels, seed)
    legs = STRATEGIES.parse(name).legs(Schedule.of_paper(levels, counts=counts, steps=4))
    bytes_of = {
        (cost.fixed_bytes + n * cost.sample_bytes, level, n)
        for leg in legs
        for level, n in passes(leg.terms, levels, microbatch, merged, world)
        for cost in [costs[level]]
    }
    found = largest_pass(legs, costs, 2, microbatch, merged, world)
    assert found == max(bytes_of)
    free = found[0] * MARGIN * (1 + 1e-9)
    assert check_memory(legs, costs, 2, microbatch, merged, free, world) == found[0]
    with pytest.raises(InputError, match=f"{found[2]} samples on level {found[1]} take about"):
        check_memory(legs, costs, 2, microbatch, merged, free * (1 - 1e-6), world)


@settings(max_examples=60)
@given(
    counts=COUNTS,
    name=st.sampled_from(["single", "multiscale", "full-multiscale", "progressive", "multigrid"]),
    merged=st.booleans(),
    world=st.integers(1, 3),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_the_microbatch_that_is_advised_is_the_largest_that_fits(
    counts: list[int], name: str, merged: bool, world: int, share: float, seed: int
) -> None:
    levels = len(counts)
    costs = level_costs_of(levels, seed)
    legs = STRATEGIES.parse(name).legs(Schedule.of_paper(levels, counts=counts, steps=20))

    def fits(microbatch: int | None) -> str | None:
        try:
            check_memory(legs, costs, 2, microbatch, merged, free, world)
        except InputError as error:
            return str(error)
        return None

    free = share * largest_pass(legs, costs, 2, None, merged, world)[0] * MARGIN
    text = fits(None)
    assert text is not None
    if "not one sample fits" in text:
        assert fits(1) is not None
        return
    advised = int(text.split("a microbatch of ")[1].split()[0])
    assert fits(advised) is None
    assert fits(advised + 1) is not None


def test_processes_of_a_machine_share_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(available=8 * 2**30)
    monkeypatch.setattr("gradconv.train.memory.psutil.virtual_memory", lambda: free)
    device = torch.device("cpu")
    assert [available_bytes(device, None, n) / 2**30 for n in (1, 4)] == [8.0, 2.0]
    assert available_bytes(device, 3.0, 4) == 3.0 * 2**30


def test_the_bound_on_memory_counts_before_what_is_free() -> None:
    cpu = torch.device("cpu")
    assert available_bytes(cpu, 0.5) == 0.5 * GIB
    assert 0 < available_bytes(cpu, None) < 2**50


class OneOfThree(Engine):
    """A process of three."""

    place = 0

    @property
    def rank(self) -> int:
        return self.place

    @property
    def world(self) -> int:
        return 3


def test_samples_that_are_left_over_go_round() -> None:
    """Three terms of one sample each are one sample a process."""
    model = nn.Conv2d(1, 1, 3)
    sampler = Data(TrainingConfig(size=16, levels=3, data="photographs")).sampler()
    terms = tuple(Term(level, 1, corrects=False) for level in range(3))
    counts = []
    for place in range(3):
        engine = OneOfThree("cpu")
        engine.place = place
        drawn = StepGradient(model, mean_square, sampler, engine).draw(terms, 0)
        counts.append({level: sum(len(p.x) for p in ps) for level, ps in drawn.pieces.items()})
    assert counts == [{0: 1}, {1: 1}, {2: 1}]


# -- scores ---------------------------------------------------------------------------------------


def images(seed: int, count: int = 3, channels: int = 1, n: int = 16) -> torch.Tensor:
    return torch.rand(count, channels, n, n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_are_means_over_the_tiles(channels: int) -> None:
    made, meant = images(1, channels=channels), images(2, channels=channels)
    p, t = made.double().numpy(), meant.double().numpy()
    found = scores(made, meant)
    each = ((p - t) ** 2).mean(axis=(1, 2, 3))
    assert found.mse == pytest.approx(each.mean(), rel=1e-12)
    assert found.psnr == pytest.approx((10 * np.log10(1 / each)).mean(), rel=1e-12)
    similar = [
        structural_similarity(*pair, channel_axis=0, data_range=1.0, win_size=7)
        for pair in zip(t, p, strict=True)
    ]
    assert found.ssim == pytest.approx(np.mean(similar), rel=1e-9)


class Half(nn.Module):
    """Halves its input, in evaluation only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.training else 0.5 * x


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_scored_in_evaluation_and_left_in_its_mode(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = Pairs(images(1, count=5), images(2, count=5))
    model = Half().train(training)
    whole = score(model, pairs, Engine("cpu"))
    assert whole == scores(0.5 * pairs.x, pairs.y)
    assert model.training is training
    monkeypatch.setattr("gradconv.train.scoring.CELLS", 2 * 16**2)  # in parts
    batches: list[int] = []
    model.register_forward_hook(lambda module, x, y: batches.append(len(y)))
    assert score(model, pairs, Engine("cpu")) == whole
    assert batches == [2, 2, 1]


def test_a_model_that_fails_keeps_its_mode() -> None:
    model = nn.Conv2d(2, 1, 3).train()
    with pytest.raises(RuntimeError, match="channels"):
        score(model, Pairs(images(1), images(2)), Engine("cpu"))
    assert model.training


def test_degraded_images_are_scored_where_they_can_be() -> None:
    target = images(2)
    timed = torch.cat([images(1), torch.full_like(target, 0.2)], dim=1)
    assert degraded_scores(Pairs(timed, target)) == scores(images(1), target)
    assert degraded_scores(Pairs(images(1, n=8), target)) is None
    for task, there in (("superres", False), ("denoise", True), ("inpaint", True)):
        made = Data(TrainingConfig(task=task, **{k: TINY[k] for k in ("size", "levels")}))
        pairs = made.pairs("test")
        assert (degraded_scores(pairs) is not None) is there


# -- timing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["resnet", "random"])
def test_timing_leaves_everything_as_it_was(model: str) -> None:
    own = random_module() if model == "random" else model
    options = {**TINY, "layers": 3, "accumulation": 2}
    trainer = Trainer("denoise", own, "full-multiscale", **options)
    model = trainer.module
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = None if i == 0 else torch.ones_like(parameter)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = random_states()
    found = seconds_of_legs(
        model, trainer.legs, trainer.data, trainer.engine, trainer.config, repeats=1
    )
    assert len(found) == 2
    assert all(0 < seconds < 60 for seconds in found)
    assert random_states() == state
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    grads = [p.grad for p in model.parameters()]
    assert grads[0] is None
    assert all(g is not None and bool((g == 1).all()) for g in grads[1:])


def test_timing_that_fails_leaves_the_run_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer("denoise", "resnet", "multiscale", norm="batch", **TINY)
    before = {k: v.clone() for k, v in trainer.module.state_dict().items()}
    for parameter in trainer.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    state, step = random_states(), StepGradient.add

    def failing(self: StepGradient, draws: Any, count: int) -> None:
        step(self, draws, count)
        raise MemoryError("no room")

    monkeypatch.setattr(StepGradient, "add", failing)
    with pytest.raises(MemoryError, match="no room"):
        seconds_of_legs(
            trainer.module, trainer.legs, trainer.data, trainer.engine, trainer.config, repeats=1
        )
    assert random_states() == state
    for name, value in trainer.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(bool((p.grad == 1).all()) for p in trainer.module.parameters())


def test_the_first_round_is_not_timed_and_the_others_have_their_median(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = Trainer("denoise", "resnet", "full-multiscale", **TINY)
    took = iter([100.0, 100.0, 1.0, 4.0, 2.0, 6.0, 9.0, 5.0])  # two legs in turn, four rounds
    clock = [0.0]

    def add(self: StepGradient, draws: Any, count: int) -> None:
        clock[0] += next(took)

    def clip(weights: Any, most: float) -> None:
        clock[0] += next(optimised)

    monkeypatch.setattr(StepGradient, "add", add)
    optimised = iter([50.0, 0.5, 0.25, 8.0])
    with monkeypatch.context() as patch:
        patch.setattr("gradconv.train.timing.time.perf_counter", lambda: clock[0])
        patch.setattr("gradconv.train.timing.nn.utils.clip_grad_norm_", clip)
        found = seconds_of_legs(
            trainer.module, trainer.legs, trainer.data, trainer.engine, trainer.config
        )
    assert found == [2.5, 5.5]
    assert next(took, None) is None
    assert next(optimised, None) is None


def test_steps_are_timed_with_the_threads_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []

    def seconds(*_: Any) -> list[float]:
        seen.append(torch.get_num_threads())
        return [1.0]

    monkeypatch.setattr("gradconv.train.trainer.seconds_of_legs", seconds)
    threads = 2 if before == 1 else 1
    options = {**TINY, "threads": threads, "budget": "seconds:3"}
    trainer = Trainer("denoise", "resnet", "single", **options)
    assert trainer.forecast(seconds=True)["totals"]["steps"] == 3
    assert seen == [threads, threads]
    assert torch.get_num_threads() == before


# -- interruption ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(number: signal.Signals) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with Interruption() as interruption:
        assert not interruption.asked
        assert signal.getsignal(number) is not before[number]
        os.kill(os.getpid(), number)
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert {n: signal.getsignal(n) for n in before} == before


def test_another_thread_leaves_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with Interruption() as interruption:
            seen.append((signal.getsignal(signal.SIGINT), interruption.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
    assert signal.getsignal(signal.SIGINT) is before


# -- making ---------------------------------------------------------------------------------------


def test_kernels_narrower_than_a_cell_are_one_note_and_other_warnings_pass() -> None:
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as passed:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", UnresolvedKernelWarning)  # as in a run
        with unresolved_kernels(notes):
            for layer, mesh in enumerate(("16×16", "8×8", "16×16")):
                text = f"2 of 4 kernels are narrower than a cell of the mesh {mesh} ({layer}): they"
                warnings.warn(text, UnresolvedKernelWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(w.message) for w in passed] == ["something else"]
    (note,) = notes
    assert "on the meshes 8×8, 16×16: there" in note
    with unresolved_kernels(notes):
        pass
    assert len(notes) == 1
