"""The pieces of the audit of loops, each against what it should give by another route."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from estimator_loops import (
    Loop,
    average,
    full_weighting,
    half_square,
    injection,
    interpolate,
    relative,
    spectral,
)
from torch.nn import functional

from gradconv.audit.estimator.checks_cost import planned_work
from gradconv.audit.estimator.checks_law import octaves
from gradconv.audit.estimator.checks_samples import related
from gradconv.audit.estimator.gradients import combination
from gradconv.audit.estimator.keeping import Keeper
from gradconv.audit.estimator.recording import Recorder
from gradconv.audit.estimator.samples import (
    association,
    partners,
    standardized,
    unexplained,
)
from gradconv.audit.estimator.terms import structure
from gradconv.audit.estimator.weights import level_sums, scaling, weigh

RNG = np.random.default_rng(5)


# --- weights ---


def recorded(loop: Loop, steps: int = 4) -> tuple:
    recorder = Recorder(loop.module, loop.step, Keeper(loop.module), 0)
    recorder.amplitude = 1e4
    found = structure(loop.sizes, loop.dim, [recorder.run(k, k % 2 == 1) for k in range(steps)])
    return found, weigh(found)


@pytest.mark.parametrize(
    ("loss", "channels", "unit"),
    [
        (functional.mse_loss, 1, 2.0),
        (functional.mse_loss, 2, 1.0),  # the mean is over the channels too
        (half_square, 2, 1.0),
        (functional.l1_loss, 1, 1e-4),  # 1/M
    ],
)
def test_the_unit_is_the_curvature_of_the_loss(
    loss: Callable[..., torch.Tensor], channels: int, unit: float
) -> None:
    _, weights = recorded(Loop(loss=loss, channels=channels))
    assert weights.unit == pytest.approx(unit, rel=2e-3)


def test_level_sums_vanish_below_the_finest_level() -> None:
    found, weights = recorded(Loop())
    sums = level_sums(found, weights)
    assert [sums[level][0] for level in range(3)] == pytest.approx([0.0, 0.0, 1.0], abs=2e-3)
    del weights.values[(1, "coarse")]  # negative control
    assert level_sums(found, weights)[0][0] == pytest.approx(1.0, abs=2e-3)


def test_samples_that_weigh_differently_have_an_error() -> None:
    found, weights = recorded(Loop(loss=relative), steps=16)
    for level, (value, error) in level_sums(found, weights).items():
        assert abs(value - (level == 2)) < 5.0 * error + 0.02
        assert error > 0.005 or level == 2


@pytest.mark.parametrize(("cells", "samples"), [(0, 0), (2, 0), (0, 1), (2, 1), (1, 0), (1, 0.5)])
def test_the_law_of_the_weights(cells: float, samples: float) -> None:
    found, weights = recorded(Loop())
    raw = {
        key: weights.mean(key) * found.sizes[role.level] ** cells * role.count(0) ** samples
        for key, role in found.roles.items()
    }
    _, _, size = scaling(found, raw, weights)
    scaled = [abs(raw[k]) / size[k] for k in raw]
    assert max(scaled) < 1.01 * min(scaled)


def test_the_work_of_a_plan() -> None:
    found, _ = recorded(Loop())
    assert planned_work(found, (12, 6, 3)) == pytest.approx(Loop().work)


# --- gradients ---


def test_the_passes_in_what_is_used() -> None:
    a, b, c, stale = RNG.standard_normal((4, 256))
    zero = np.zeros(256)
    assert combination(a + b + c, [a, b, c], zero) == ([1.0, 1.0, 1.0], 0.0)
    assert combination(0.01 * (a + b), [a, b], zero) == ([1.0, 1.0], 0.0)  # clipped by norm
    factors, _ = combination(a + c, [a, b, c], zero)
    assert factors == pytest.approx([1.0, 0.0, 1.0])
    factors, _ = combination(a - 0.5 * b, [a, b], zero)
    assert factors == pytest.approx([1.0, -0.5])
    factors, share = combination(a + b + stale, [a, b], stale)
    assert (factors, share) == ([1.0, 1.0], 1.0)
    assert combination(a + b, [a, b], stale) == ([1.0, 1.0], 0.0)
    assert combination(np.clip(a + b, -0.5, 0.5), [a, b], zero) == (None, 0.0)
    assert combination(stale, [a, b], stale) == (None, 0.0)
    assert combination(np.full(256, np.nan), [a], zero) == (None, 0.0)


def test_passes_that_are_nearly_alike() -> None:
    """Both sides of a term have nearly one gradient."""
    a = RNG.standard_normal(256)
    b = a + 1e-3 * RNG.standard_normal(256)
    assert combination(a + b, [a, b], np.zeros(256)) == ([1.0, 1.0], 0.0)
    factors, _ = combination(a - b, [a, b], np.zeros(256))
    assert factors == pytest.approx([1.0, -1.0])


# --- samples ---

RESTRICTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "average": average,
    "injection": injection,
    "full weighting": full_weighting,
    "spectral": spectral,
    "bicubic": lambda x: interpolate(x, mode="bicubic"),
    "antialiased": lambda x: interpolate(x, mode="bilinear", antialias=True),
    "scaled": lambda x: 3.0 * average(x) + 1.0,
}


def noisy(count: int = 24, n: int = 16) -> torch.Tensor:
    return torch.from_numpy(RNG.standard_normal((count, 1, n, n))).float()


@pytest.mark.parametrize("name", RESTRICTIONS)
def test_a_restriction_is_found(name: str) -> None:
    fine = noisy()
    coarse = RESTRICTIONS[name](fine).numpy()
    assert unexplained(fine.numpy(), coarse).left < 1e-9
    # a hundredth of other noise is seen, and another sample altogether
    other = coarse + 0.01 * coarse.std() * RNG.standard_normal(coarse.shape)
    assert 1e-5 < unexplained(fine.numpy(), other).left < 1e-3
    assert unexplained(noisy().numpy(), coarse).left > 0.5


def test_the_gain_of_a_restriction() -> None:
    fine = noisy()
    assert unexplained(fine.numpy(), average(fine).numpy()).gain == pytest.approx(1.0, abs=1e-4)
    assert unexplained(fine.numpy(), 3 * average(fine).numpy()).gain == pytest.approx(3.0, abs=1e-3)


def test_partners_in_any_order_and_scale() -> None:
    fine = noisy(8)
    coarse = average(fine)[torch.randperm(8)] * 2.0 + 1.0
    down, up = partners(fine.numpy(), coarse[:5].numpy())
    assert up.all()
    assert down.sum() == 5
    down, up = partners(noisy(8).numpy(), coarse.numpy())
    assert not down.any()
    assert not up.any()


@pytest.mark.parametrize("modes", [2, 40])
def test_association_has_the_false_alarms_it_states(modes: int) -> None:
    """4.5 deviations: 3.4e-6 a test, so that two thousand tests have none (0.7 % chance)."""
    alarms = 0
    for _ in range(2000):
        rows = standardized(RNG.standard_normal((2, 24, 1, modes))[0])
        others = standardized(RNG.standard_normal((24, 1, modes)))
        alarms += related(*association(rows, others))
    assert alarms == 0


def test_association_is_found_where_it_is() -> None:
    images = RNG.standard_normal((24, 1, 20))
    a, b = (standardized(images + RNG.standard_normal(images.shape)) for _ in range(2))
    z, excess = association(a, b)
    assert related(z, excess)
    assert excess == pytest.approx(0.5, abs=0.15)  # half of the variance is common
    assert not related(*association(a, b[::-1]))


def test_octaves_hold_all_power_but_the_mean() -> None:
    x = RNG.standard_normal((3, 2, 16, 16))
    total = ((x - x.mean(axis=(2, 3), keepdims=True)) ** 2).mean(axis=(2, 3)).sum(axis=1)
    assert octaves(x).sum(axis=1) == pytest.approx(total)
    wave = np.cos(2 * np.pi * 5 * np.arange(16) / 16)[None, None, None] * np.ones((1, 1, 16, 1))
    assert np.argmax(octaves(wave)[0]) == 2  # 4 <= 5 < 8
