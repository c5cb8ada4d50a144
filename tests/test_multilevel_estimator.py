"""The multilevel estimator: it telescopes, is unbiased, and varies as predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from multilevel_data import LINE, SQUARE, Noise, flat, noisy, stencil, waves
from torch import nn

from gradconv import MeshHierarchy, Problem
from gradconv.multilevel import Fixed, MultilevelGradient, Optimal, Randomised
from gradconv.nn import MeshFreeConv1d
from gradconv.nn.networks import ResNet
from gradconv.samplers import CallableSampler, NoisySampler, ProblemSampler, TensorSampler

COUNTS = (16, 8, 4, 2)


def estimates(estimator: MultilevelGradient, repetitions: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients, shape ``(repetitions, p)``, and the work of each."""
    found = [estimator.estimate() for _ in range(repetitions)]
    return np.array([flat(g) for g, _ in found]), np.array([s.work for _, s in found])


def finest_mean(model: nn.Module, samples: int, **choices: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean finest gradient and its standard error, by autograd alone on samples of their own."""
    sampler = noisy(seed=991, **choices)
    found = []
    for number in range(samples):
        ((x, y),) = sampler.draw([number], [len(sampler.hierarchy) - 1])
        loss = 0.5 * (model(x) - y).square().sum(1).mean()
        found.append(flat(dict(enumerate(torch.autograd.grad(loss, list(model.parameters()))))))
    values = np.array(found)
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(samples)


@pytest.fixture(scope="module")
def finest_of_three() -> tuple[np.ndarray, np.ndarray]:
    """The mean that every allocation must have, of three channels."""
    return finest_mean(stencil(channels=3), 2000, channels=3, sigma=0.3)


# Telescoping


# it telescopes whether or not kernels are resolved on the coarsest mesh
@pytest.mark.filterwarnings("ignore::gradconv.nn.layer.UnresolvedKernelWarning")
@pytest.mark.parametrize("conv", ["standard", "mfc"])
@pytest.mark.parametrize("restriction", ["average", "injection", "full_weighting"])
def test_shared_samples_telescope(conv: str, restriction: str) -> None:
    torch.manual_seed(0)
    model = ResNet(1, 1, channels=4, layers=2, conv=conv).double()
    data = noisy(SQUARE, restriction=restriction)
    estimator = MultilevelGradient(model, "mse", data, SQUARE, (3, 2, 1))
    assert estimator.telescoping_error() < 1e-12


def test_weighted_sums_telescope() -> None:
    control = (7.0, 0.4, 1.3, 0.8)  # the first plays no part
    estimator = MultilevelGradient(stencil(), "mse", noisy(), LINE, COUNTS, control=control)
    assert estimator.telescoping_error() < 1e-12


def test_noise_by_level_does_not_telescope_path_by_path() -> None:
    estimator = MultilevelGradient(stencil(), "mse", noisy(drawn="level"), LINE, COUNTS)
    assert estimator.telescoping_error() > 1e-3


def test_direct_route_shares_a_level_in_both_roles() -> None:
    # one bilinear step by 4 is not two by 2, but both roles of a level see the same data
    hierarchy = MeshHierarchy.powers_of_two(1, 3, 6)
    for route in ("chain", "direct"):
        data = noisy(hierarchy, restriction="bilinear", route=route)
        estimator = MultilevelGradient(stencil(), "mse", data, hierarchy, COUNTS)
        assert estimator.telescoping_error() < 1e-12


def test_a_sum_over_levels_by_hand() -> None:
    model, data = stencil(), noisy()
    estimator = MultilevelGradient(model, "mse", data, LINE, COUNTS)
    found, step = estimator.estimate()
    expected, number, loss = 0.0, 0, 0.0
    for level, count in enumerate(COUNTS):
        numbers = range(number, number + count)
        number += count
        for at, sign in ((level, 1.0), (level - 1, -1.0)):
            if at < 0:
                continue
            for m in numbers:
                x, y = data.draw([m], [level, at])[1]
                value = 0.5 * (model(x) - y).square().sum(1).mean()
                gradient = torch.autograd.grad(value, list(model.parameters()))
                expected = expected + sign * flat(dict(enumerate(gradient))) / count
                loss += sign * float(value.detach()) / count
    np.testing.assert_allclose(flat(found), expected, rtol=1e-12, atol=1e-14)
    assert step.loss == pytest.approx(loss, rel=1e-12)


# Bias


SLOW = pytest.mark.slow
ALLOCATIONS = [
    (Fixed((6, 4, 2, 1)), None),
    pytest.param(Fixed((6, 4, 2, 1)), "optimal", marks=SLOW),
    pytest.param(Fixed((6, 4, 2, 1)), (1.0, 0.7, 0.5, 0.6), marks=SLOW),
    (Optimal(budget=4.0), None),
    pytest.param(Optimal(budget=4.0), "optimal", marks=SLOW),
    pytest.param(Optimal(budget=0.8), None, marks=SLOW),  # a term without a sample at times
    pytest.param(Optimal(variance=0.05), None, marks=SLOW),
    (Randomised(4), (1.0, 0.7, 0.5, 0.6)),
    pytest.param(Randomised(4), None, marks=SLOW),
    pytest.param(Randomised(3, (0.4, 0.3, 0.2, 0.1)), "optimal", marks=SLOW),
]


@pytest.mark.parametrize(("allocation", "control"), ALLOCATIONS, ids=str)
def test_unbiased_with_the_variance_predicted(
    allocation: Any, control: Any, finest_of_three: tuple[np.ndarray, np.ndarray]
) -> None:
    """Predicted from 300 samples to 3 %, measured to 2 %: 10 % are 3 standard errors of both."""
    model = stencil(channels=3)  # 30 components: variances of traces have small errors
    estimator = MultilevelGradient(
        model,
        "mse",
        noisy(channels=3, sigma=0.3),
        LINE,
        allocation,
        control=control,
        pilot=300,
        overhead=0.0,
        seed=3,
    )
    if not estimator.pilots.needed:
        estimator.pilots.moments = estimator.measure(300)
    repetitions = 400
    values, work = estimates(estimator, repetitions)
    mean, error = finest_of_three
    spread = np.sqrt(values.var(0, ddof=1) / repetitions + error**2)
    assert np.all(np.abs(values.mean(0) - mean) < 4.0 * spread)  # 4 standard errors
    measured = values.var(0, ddof=1).sum()
    predicted = estimator.predicted_variance()
    assert measured == pytest.approx(predicted, rel=0.1)
    estimator.pilots.allocation = Fixed((3, 2, 1, 1))  # another plan's prediction must not fit
    assert measured != pytest.approx(estimator.predicted_variance(), rel=0.1)
    expected = allocation.expected_cost(estimator.pilots.terms, estimator.pilots.term_costs)
    assert abs(work.mean() - expected) <= 4.0 * work.std(ddof=1) / np.sqrt(repetitions) + 1e-9


def test_noise_drawn_by_level_is_biased_unless_its_law_is_kept() -> None:
    model = stencil()

    def deviation(**choices: Any) -> float:
        """Largest bias in standard errors, against the finest mesh's own mean."""
        data = noisy(sigma=0.8, drawn="level", seed=5, **choices)
        estimator = MultilevelGradient(model, "mse", data, LINE, COUNTS)
        values, _ = estimates(estimator, 120)
        mean, error = finest_mean(model, 600, sigma=0.8, **choices)
        spread = np.sqrt(values.var(0, ddof=1) / len(values) + error**2)
        return float(np.max(np.abs(values.mean(0) - mean) / spread))

    assert deviation(restriction="injection") < 4.0
    assert deviation(restriction="average") > 6.0
    # white noise keeps its law under averaging
    sampler = noisy(sigma=0.1, drawn="level", white=True, seed=5)
    estimator = MultilevelGradient(model, "mse", sampler, LINE, COUNTS)
    values, _ = estimates(estimator, 120)
    mean, error = finest_mean(model, 600, sigma=0.1, white=True)
    spread = np.sqrt(values.var(0, ddof=1) / len(values) + error**2)
    assert np.all(np.abs(values.mean(0) - mean) < 4.0 * spread)


def test_against_the_exact_expectation() -> None:
    """A kernel's expected gradient is known in Fourier space; torch plays no part in it."""
    from gradconv.gradient import expected_gradients

    problem = Problem("stencil", signal="band-limited:2", noise="pixel:0.5", dim=1)
    hierarchy = MeshHierarchy.powers_of_two(1, 4, 7)
    theta = np.asarray(problem.convolution.theta)[0, 0]
    conv = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(theta)[None, None])
    estimator = MultilevelGradient(conv, "mse", problem, hierarchy, (32, 16, 8, 4))
    values, _ = estimates(estimator, 60)
    exact = expected_gradients(problem, hierarchy, 0)[0][-1].reshape(-1)
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(0) - exact) < 4.0 * error)


def test_the_moments_of_a_stencil_under_pure_noise() -> None:
    """Moments against sums written out for one weight and white pixels (a chi-squared law)."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c * x

    clean = torch.zeros(1, 1, 32, dtype=torch.float64)
    data = NoisySampler(clean, Noise(1.0), LINE)
    estimator = MultilevelGradient(Scale(), "mse", data, LINE, COUNTS)
    moments = estimator.measure(1000)
    # g_l = c s_l² mean χ²: pixels of level l have variance s² = n_l / n_L, so g_l has mean c s²
    # and variance c² s⁴ 2/n_l; the coarse pixel is the mean of two fine ones
    s2 = np.array(LINE.sizes) / 32.0
    fine = 2.25 * s2**2 * 2.0 / np.array(LINE.sizes)
    np.testing.assert_allclose(moments.fine, fine, rtol=0.15)
    np.testing.assert_allclose(moments.fine_mean_square, 2.25 * s2**2, rtol=0.08)
    # cov(x², ((x+y)/2)²) summed over both fine pixels: 2 · 2 s⁴/4 a coarse pixel
    cross = 2.25 * (s2[1:] ** 2) / np.array(LINE.sizes)[1:]
    np.testing.assert_allclose(moments.cross[1:], cross, rtol=0.15)


# What the user's objects see


def test_gradients_are_added_up() -> None:
    model = stencil()
    first = MultilevelGradient(model, "mse", noisy(), LINE, COUNTS)
    second = MultilevelGradient(model, "mse", noisy(), LINE, COUNTS)
    expected, _ = second.estimate()
    assert all(p.grad is None for p in model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    kept = [p.grad for p in model.parameters()]
    first.backward()
    for p, old, new in zip(model.parameters(), kept, expected.values(), strict=True):
        assert p.grad is old  # in place, as torch does
        torch.testing.assert_close(p.grad, 1.0 + new)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_passes_of_any_size_give_the_same(size: int) -> None:
    model = stencil()
    whole, _ = MultilevelGradient(model, "mse", noisy(), LINE, COUNTS).estimate()
    small, _ = MultilevelGradient(model, "mse", noisy(), LINE, COUNTS, microbatch=size).estimate()
    np.testing.assert_allclose(flat(small), flat(whole), rtol=1e-11)


def test_terms_and_steps_take_new_samples() -> None:
    seen: list[int] = []

    class Watched(TensorSampler):
        def draw(self, numbers: Any, levels: Any) -> Any:
            seen.extend(numbers)
            return super().draw(numbers, levels)

    clean = waves(LINE, 8)
    data = Watched(clean, clean, "average", "chain", LINE, epochs=True)
    estimator = MultilevelGradient(stencil(), "mse", data, LINE, COUNTS)
    estimator.backward()
    estimator.backward()
    assert seen == list(range(2 * sum(COUNTS)))


# four cells an axis resolve no kernel that a network would have
@pytest.mark.filterwarnings("ignore::gradconv.nn.layer.UnresolvedKernelWarning")
def test_any_optimiser_trains() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(MeshFreeConv1d(1, 4, widths=(0.3, 0.4)), nn.Tanh(), nn.Conv1d(4, 1, 1))
    model = model.double()
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop):
        optimiser = kind(model.parameters(), lr=0.01)
        estimator = MultilevelGradient(model, "mse", noisy(sigma=0.2), LINE, COUNTS)
        losses = []
        for _ in range(25):
            optimiser.zero_grad()
            losses.append(estimator.backward().loss)
            optimiser.step()
        assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_largest_pass_bounds_the_memory() -> None:
    from gradconv.nn.memory import Allocations

    hierarchy = MeshHierarchy.powers_of_two(1, 6, 9)
    model = nn.Sequential(nn.Conv1d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv1d(8, 1, 3, padding=1))
    data = noisy(hierarchy)

    def peak(counts: tuple[int, ...]) -> int:
        model.zero_grad()
        estimator = MultilevelGradient(model, "mse", data, hierarchy, counts)
        with Allocations((list(model.parameters()), data.clean)) as allocations:
            estimator.backward()
        return allocations.peak

    # each term alone takes about as much as the finest: 128·64 = 64·128 = … cells
    largest = max(
        peak(tuple(n if i == j else 1 for j in range(4))) for i, n in enumerate((128, 64, 32, 16))
    )
    assert peak((128, 64, 32, 16)) < 1.15 * largest


def test_dropout_sees_one_mask_a_term_and_leaves_the_generators() -> None:
    """Masks differ between terms and are the same in both passes of one."""
    masks: list[float] = []

    class Drop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            masks.append(float(torch.rand(())))
            return self.c * x

    torch.manual_seed(5)
    before = torch.get_rng_state()
    estimator = MultilevelGradient(Drop(), "mse", noisy(), LINE, COUNTS)
    estimator.backward()
    assert torch.equal(before, torch.get_rng_state())
    assert masks[1::2] == masks[2::2]
    assert len({masks[0], masks[1], masks[3], masks[5]}) == 4


def test_buffers_keep_what_the_finest_level_makes_of_them() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1), stencil()).double()
    fine_only = nn.Sequential(nn.BatchNorm1d(1), stencil()).double()
    data = noisy()
    MultilevelGradient(model, "mse", data, LINE, COUNTS).backward()
    ((x, _),) = data.draw(range(sum(COUNTS[:-1]), sum(COUNTS)), [3])
    fine_only(x)
    torch.testing.assert_close(model[0].running_mean, fine_only[0].running_mean)
    torch.testing.assert_close(model[0].running_var, fine_only[0].running_var)
    assert int(model[0].num_batches_tracked) == 1


def test_going_on_from_a_state() -> None:
    def made() -> MultilevelGradient:
        return MultilevelGradient(
            stencil(), "mse", noisy(), LINE, Optimal(budget=3.0), control="optimal", pilot=6
        )

    whole = made()
    expected = [flat(whole.estimate()[0]) for _ in range(5)]
    first = made()
    for _ in range(2):
        first.estimate()
    second = made()
    second.load_state_dict(first.state_dict())
    for values in expected[2:]:
        np.testing.assert_array_equal(flat(second.estimate()[0]), values)


def test_pilots_cost_what_was_stated() -> None:
    estimator = MultilevelGradient(
        stencil(), "mse", noisy(), LINE, Optimal(budget=8.0), pilot=4, overhead=0.25, seed=1
    )
    steps = [estimator.estimate()[1] for _ in range(60)]
    pilots = [i for i, s in enumerate(steps) if s.pilot_work]
    assert len(pilots) > 2  # estimated again along the way
    # each pilot is paid for by the steps up to the next one
    paid = sum(s.work for s in steps[: pilots[-1]])
    spent = sum(s.pilot_work for s in steps[: pilots[-1]])
    assert spent <= 0.25 * paid * 1.1
    assert estimator.pilots.work == pytest.approx(4 * (1 + 0.5 + 0.25 + 0.125 + 0.875))


def test_a_callable_and_a_problem_are_samplers() -> None:
    problem = Problem("stencil", signal="band-limited:2", noise="pixel:0.5", dim=1)
    levels = MeshHierarchy.powers_of_two(1, 3, 6)
    reference = ProblemSampler(problem, levels, 0)

    def make(n: int, number: int) -> Any:
        return reference.path(number)[levels.sizes.index(n)]

    found = [
        flat(MultilevelGradient(stencil(), "mse", data, levels, COUNTS).estimate()[0])
        for data in (problem, make, reference, CallableSampler(make, levels))
    ]
    for values in found[1:]:
        np.testing.assert_allclose(values, found[0], rtol=1e-12)
