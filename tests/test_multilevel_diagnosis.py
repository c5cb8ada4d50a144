"""Diagnoses from end to end: known answers, laws, negative controls, bad input, files."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diagnosis_toys import FINE, LEVELS, PROBLEM, SIZES, Known, Scalar, known, linear
from distributed import LocalCluster
from multilevel_data import LINE, noisy, stencil
from torch import nn

from gradconv import MeshHierarchy, Problem, derive, sweep
from gradconv.errors import InputError
from gradconv.gradient import expected_gradients
from gradconv.multilevel.allocation import Optimal
from gradconv.multilevel.diagnosis.cautions import cautions
from gradconv.multilevel.diagnosis.derived_orders import derived_orders
from gradconv.multilevel.diagnosis.diagnosing import diagnose
from gradconv.multilevel.diagnosis.kernel_module import KernelModule
from gradconv.multilevel.diagnosis.repetition import Reference, repeat
from gradconv.multilevel.diagnosis.result import Diagnosis
from gradconv.multilevel.diagnosis.sample_gradients import collect
from gradconv.multilevel.diagnosis.term_orders import TermOrders
from gradconv.multilevel.estimator import MultilevelGradient
from gradconv.multilevel.evaluator import Evaluator
from gradconv.samplers import CallableSampler, ProblemSampler


@pytest.fixture(scope="module")
def stencil_diagnosis() -> Diagnosis:
    return diagnose(PROBLEM, hierarchy=(16, 32, 64, 128), samples=200, repetitions=0)


@pytest.mark.parametrize(("kernel", "dim"), [("stencil", 1), ("mfc", 1), ("stencil", 2)])
def test_gradients_are_those_of_the_sweep(kernel: str, dim: int) -> None:
    problem = Problem(kernel, signal="band-limited:2", noise="pixel:0.5", dim=dim)
    hierarchy = MeshHierarchy.powers_of_two(dim, 3, 6)
    reference = sweep(problem, hierarchy, replicates=16, seed=3).sample.gradients
    module = KernelModule(problem.convolution, problem.boundary)
    evaluator = Evaluator(module, "mse", ProblemSampler(problem, hierarchy, 3))
    found = collect(evaluator, 4, memory=1e9)
    for level in range(len(hierarchy)):
        numbers = slice(4 * level, 4 * level + 4)
        scale = np.abs(reference[numbers, level]).max()
        np.testing.assert_allclose(found.fine[level], reference[numbers, level], atol=1e-10 * scale)
        coarse = found.coarse[level]
        if level:
            np.testing.assert_allclose(coarse, reference[numbers, level - 1], atol=1e-10 * scale)


def test_law_is_met_and_another_is_not(stencil_diagnosis: Diagnosis) -> None:
    """Variances, mean gaps and means within 4 standard errors of laws and exact expectation."""
    for law in stencil_diagnosis.laws:
        assert law.own
        assert not law.missing
        assert np.all(np.abs(law.errors) < 4), (law.symbol, law.errors)
    exact, _ = expected_gradients(PROBLEM, stencil_diagnosis.hierarchy, 0)
    norms = np.linalg.norm(exact.reshape(4, -1), axis=1)  # a stencil's scale is 1
    mean, error = stencil_diagnosis.whole.mean(0)
    assert np.all(np.abs(mean - norms) < 4 * error)
    louder = Problem("stencil", signal="band-limited:2", noise="pixel:1", dim=1)
    wrong = derive(louder).evaluate(stencil_diagnosis.hierarchy)["variance"]
    variance, spread = stencil_diagnosis.whole.variance(2)
    assert np.any(np.abs(variance[1:] - wrong) > 4 * spread[1:])


def test_each_law_is_held_against_its_own_order(stencil_diagnosis: Diagnosis) -> None:
    rate = stencil_diagnosis.rates["whole"].alpha
    near, far = replace(rate, interval=(-1.1, -0.9)), replace(rate, interval=(4.9, 5.1))
    for alpha, beta in ((near, far), (far, near)):
        laws = derived_orders(
            PROBLEM,
            True,
            stencil_diagnosis.hierarchy,
            stencil_diagnosis.whole,
            TermOrders(alpha, beta),
        )
        assert [law.symbol for law in laws] == ["alpha", "beta"]
        assert [law.within for law in laws] == [alpha is near, beta is near]


def test_stencil_in_words(stencil_diagnosis: Diagnosis) -> None:
    """On a problem whose variance grows towards the fine end, the case is β < γ."""
    found = diagnose(PROBLEM, hierarchy=MeshHierarchy(1, FINE), samples=128, repetitions=0)
    assert found.complexity.cases == ("<",)
    assert found.rates["whole"].beta.interval[1] < 0
    assert found.laws[1].symbol == "beta"
    assert found.laws[1].order == -1.0
    assert found.laws[1].within
    assert found.laws[1].fine == 2.0
    kinds = {w.kind: w for w in found.cautions}
    assert {"difference grows", "beta below gamma"} <= set(kinds)
    assert "check above 1" not in kinds
    assert "the finest takes most of the cost" in kinds["beta below gamma"].sentence
    # on the data mesh given multilevel wins all the same, and the words must not deny it
    assert found.complexity.fixed < 0.1 * found.complexity.single
    assert "of one data mesh" in kinds["difference grows"].sentence
    assert len(found.tables) == 1  # a single layer is the whole


def test_words_of_refinement() -> None:
    """In the refinement setting the orders do say how the cost grows."""
    problem = Problem(
        "stencil", signal="band-limited:2", noise="white:0.5", setting="refinement", dim=1
    )
    found = diagnose(problem, hierarchy=MeshHierarchy(1, FINE), samples=64, repetitions=0)
    kinds = {w.kind: w for w in found.cautions}
    assert "loses what it gains" in kinds["difference grows"].sentence
    assert "ε^(-2 - (γ - β)/α)" in kinds["beta below gamma"].sentence
    assert all(np.all(np.abs(law.errors) < 4.5) for law in found.laws)


def test_known_orders_and_numbers() -> None:
    found = known()
    orders = found.rates["whole"]
    assert orders.beta.interval[0] <= 2.0 <= orders.beta.interval[1]
    assert orders.alpha.interval[0] <= 1.0 <= orders.alpha.interval[1]
    assert found.complexity.cases == (">",)
    assert found.complexity.bias == "holds"
    assert found.gamma.order == pytest.approx(1.0)
    h = LEVELS.h
    variance, error = found.whole.variance(2)
    assert np.all(np.abs(variance - h**2)[1:] < 4 * error[1:])  # (2 − 1)² h²
    moments = found.moments
    assert moments.samples == 256
    assert moments.fine_mean_square[-1] == pytest.approx(4.0, rel=0.2)
    assert np.all(np.abs(found.whole.kurtosis - 3.0) < 1.5)
    assert not found.forecasts or found.errors.relative_to.startswith("norm")


def test_moments_serve_an_allocation() -> None:
    """An estimator that takes the moments needs no pilot and has the numbers of the forecast."""
    found = known(epsilons=(0.1,))
    forecast = next(f for f in found.forecasts if f.estimator == "multilevel")
    estimator = MultilevelGradient(
        Scalar(),
        linear,
        CallableSampler(Known(), LEVELS),
        LEVELS,
        Optimal(variance=forecast.target),
        moments=found.moments,
    )
    _, step = estimator.estimate()
    assert step.pilot_work == 0.0
    assert step.allotment.counts == forecast.counts
    assert step.work == pytest.approx(forecast.cost)
    assert estimator.predicted_variance() == pytest.approx(forecast.variance)


def test_forecasts_hold_on_repetition() -> None:
    """Measured variance, error and cost of 40 repetitions; false alarms about 0.05 each, fixed."""
    found = known(epsilons=(0.1,), repetitions=40)
    assert len(found.measured) == 3
    for forecast, measured in found.measured.items():
        low, high = measured.ratio_interval
        assert low <= 1.0 <= high, (forecast.estimator, measured)
        assert abs(measured.error - measured.variance) < 4 * measured.error_stderr
        tolerance = 0.1 if forecast.estimator == "randomised" else 1e-12
        assert measured.cost == pytest.approx(forecast.cost, rel=tolerance)
    costs = {f.estimator: f.cost for f in found.forecasts}
    assert costs["multilevel"] < 0.35 * costs["single"]


def test_no_sample_is_seen_by_two_terms_or_repetitions() -> None:
    class Recorder(Known):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[tuple[int, int]] = []

        def __call__(self, n: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            self.calls.append((n, number))
            return super().__call__(n, number)

    seen = Recorder()
    data = CallableSampler(seen, LEVELS)
    found = diagnose(Scalar(), loss=linear, data=data, samples=8, epsilons=(0.5,), repetitions=2)
    calls = seen.calls[len(SIZES) :]  # the first sample on every level, for the costs
    assert len(calls) == len(set(calls))
    for term, n in enumerate(SIZES):
        numbers = set(range(8 * term, 8 * term + 8))
        drawn = {m for m, number in calls if number in numbers}
        assert drawn == {n, SIZES[max(term - 1, 0)]}
    fresh = {number for _, number in calls if number >= 8 * len(SIZES)}
    assert len(fresh) == 2 * sum(f.samples for f in found.forecasts)


def test_wrong_forecasts_are_seen() -> None:
    """Repetitions on data of another variance than the forecasts': the ratio's interval tells."""

    class Louder(Known):
        def __call__(self, n: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = super().__call__(n, number)
            return 2.0 * x, y

    found = known(epsilons=(0.1,))
    evaluator = Evaluator(Scalar(), linear, CallableSampler(Louder(), LEVELS))
    single = found.costs["work"].single
    chosen = found.forecasts[:2]
    measured = repeat(
        evaluator,
        chosen,
        Reference.of(np.array([2.0]), found.whole),
        single,
        "work units",
        repetitions=24,
        start=0,
        confidence=0.95,
    )
    warned = cautions(
        LEVELS,
        found.tables,
        found.components,
        found.rates,
        found.gammas["work"],
        found.complexity,
        measured,
        coarsening=False,
    )
    assert [w.kind for w in warned].count("forecast missed") == len(chosen)
    for forecast in chosen:
        assert measured[forecast].ratio_interval[0] > 1.0
        assert measured[forecast].error - measured[forecast].variance > 1.0  # bias² is 4
        assert measured[forecast].bias > 4.0 * measured[forecast].bias_stderr


@pytest.mark.parametrize("drawn", ["finest", "level"])
def test_noise_that_keeps_its_law_telescopes(drawn: str) -> None:
    data = noisy(LINE, 0.5 if drawn == "finest" else 0.2, drawn=drawn, white=drawn == "level")
    found = diagnose(stencil(), data=data, samples=64, repetitions=0)
    assert "check above 1" not in {w.kind for w in found.cautions}


def test_noise_of_another_law_by_level_does_not_telescope() -> None:
    """Pixels of one σ on every mesh, averaged: half the variance as the coarse of a term."""
    data = noisy(LINE, 1.0, drawn="level")
    found = diagnose(stencil(), data=data, samples=200, repetitions=0)
    warned = [w for w in found.cautions if w.kind == "check above 1"]
    assert warned
    assert warned[0].value is not None
    assert warned[0].value > 1
    assert "does not telescope" in warned[0].sentence
    assert warned[0].level is not None


def test_levels_that_know_nothing_of_each_other_are_left_out() -> None:
    def uncoupled(n: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        z = 2.0 + np.random.default_rng([number, n]).standard_normal()
        x = torch.full((1, 1, n), float(z), dtype=torch.float64)
        return x, torch.zeros_like(x)

    data = CallableSampler(uncoupled, LEVELS)
    found = diagnose(Scalar(), loss=linear, data=data, samples=128, repetitions=0)
    kinds = {w.kind for w in found.cautions}
    assert {"difference above fine", "multilevel loses"} <= kinds
    assert found.complexity.start == len(SIZES) - 1


def test_heavy_tails_are_warned_of() -> None:
    def heavy(n: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        z, w = np.random.default_rng(number).standard_t(1.5, 2)
        x = torch.full((1, 1, n), float(z + w / n), dtype=torch.float64)
        return x, torch.zeros_like(x)

    data = CallableSampler(heavy, LEVELS)
    found = diagnose(Scalar(), loss=linear, data=data, samples=64, repetitions=0)
    warned = [w for w in found.cautions if w.kind == "kurtosis too large"]
    assert warned
    assert warned[0].value is not None
    assert warned[0].value > warned[0].limit
    assert "kurtosis too large" not in {w.kind for w in known().cautions}


def test_layers_and_worst_component_have_names() -> None:
    model = nn.Sequential(stencil(seed=1), nn.Tanh(), stencil(seed=2))
    found = diagnose(model, data=noisy(LINE), samples=16, repetitions=0)
    assert [t.name for t in found.tables] == ["whole", "0", "2"]
    worst = found.components.worst.name
    assert worst in found.rates
    assert worst.partition(".")[0] in ("0", "2")
    assert worst.endswith("]")
    assert found.components.worst.samples == 8


def test_model_and_random_state_are_left_alone() -> None:
    model = nn.Sequential(stencil(), nn.BatchNorm1d(1).double(), nn.Dropout(0.5))
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = diagnose(model, data=noisy(LINE), samples=8, epsilons=(1.0,), repetitions=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert torch.equal(state, torch.get_rng_state())
    assert any("normalises over the batch" in note for note in found.notes)


def without_seconds(found: Diagnosis) -> dict[str, Any]:
    document = found.to_dict()
    document["costs"] = [c for c in document["costs"] if c["unit"] != "seconds"]
    return document


def test_results_repeat_and_do_not_depend_on_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    first = without_seconds(known(samples=40))
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        on_disk = known(samples=40, memory=1e-9)
        assert not list(Path(folder).iterdir())
    assert without_seconds(on_disk) == first
    other = without_seconds(known(samples=41))
    assert other["groups"] != first["groups"]


def test_memory_that_no_disk_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Full())
    with pytest.raises(InputError, match="`memory` must hold the gradients"):
        known(samples=40, memory=1e-9)


@pytest.mark.slow
def test_workers_change_no_bit() -> None:
    options = {"hierarchy": (16, 32, 64, 128), "samples": 12, "epsilons": (0.5,), "repetitions": 3}
    one = without_seconds(diagnose(PROBLEM, **options))
    two = without_seconds(diagnose(PROBLEM, workers=2, **options))
    assert one == two
    assert one["errors"]["forecasts"][0]["measured"] is not None


def test_a_cluster_changes_no_bit_though_a_worker_is_killed() -> None:
    options = {"hierarchy": (16, 32, 64, 128), "samples": 24, "epsilons": (0.5,), "repetitions": 3}
    one = without_seconds(diagnose(PROBLEM, **options))
    killed: list[int] = []
    quiet = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **quiet) as cluster:

        def kill(done: float, total: float) -> None:
            if not killed and 0 < done < total:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        address = cluster.scheduler_address
        two = without_seconds(diagnose(PROBLEM, scheduler=address, progress=kill, **options))
        assert killed
        assert killed[0] not in [nanny.pid for nanny in cluster.workers.values()]
    assert one == two
