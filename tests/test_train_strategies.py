"""Legs of the strategies, when they stop, and crops: against direct counts and dense maps."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.costs.plan import Term
from gradconv.samplers import CroppedSampler, LoaderSampler, NoisySampler
from gradconv.samplers.cropped import resized
from gradconv.train.configuration import TrainingConfig
from gradconv.train.forecast import forecast
from gradconv.train.strategies import (
    STRATEGIES,
    Leg,
    Schedule,
    Stopping,
    Strategy,
    plan_of,
)
from gradconv.train.tasks import TASKS

PAPER = Schedule.of_paper(4)
RULE = Stopping(20, 0.01)
HIERARCHY = MeshHierarchy(2, (8, 16, 32))


def legs(spec: str, schedule: Schedule = PAPER) -> tuple[Leg, ...]:
    return STRATEGIES.parse(spec).legs(schedule)


# -- schedules and legs ----------------------------------------------------------------------------


def test_the_schedule_of_the_paper():
    assert Schedule(4, 2, (128, 64, 32, 16), 2000, (2000, 1000, 500, 250), 240) == PAPER
    small = Schedule.of_paper(3, 1, counts=[6, 4, 2], steps=5)
    assert (small.batch, small.stages, small.counts) == (12, (5, 3, 2), (6, 4, 2))


def test_terms_of_the_multilevel_strategies():
    terms = (Term(0, 128, False), Term(1, 64, True), Term(2, 32, True), Term(3, 16, True))
    (multiscale,) = legs("multiscale")
    assert multiscale == Leg(2000, terms)
    full = legs("full-multiscale")
    assert [leg.steps for leg in full] == [2000, 1000, 500, 250]
    assert [leg.terms for leg in full] == [terms[: level + 1] for level in range(4)]


def test_terms_of_the_strategies_on_one_scale():
    assert legs("single") == (Leg(2000, (Term(3, 240, False),)),)
    found = legs("progressive")
    assert [(leg.steps, leg.terms) for leg in found] == [
        (n, (Term(level, 240, False),)) for level, n in enumerate((2000, 1000, 500, 250))
    ]
    (crops,) = legs("random-crops:0.25")
    assert crops == Leg(2000, (Term(2, 240, False),), crops=(0.25, 1.0))
    (finest,) = legs("random-crops:below=0")
    assert finest == Leg(2000, (Term(3, 240, False),), crops=(0.08, 1.0))


@pytest.mark.parametrize("cycles", [1, 2, 3])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_every_step_of_multigrid_costs_the_same(cycles, dim):
    schedule = Schedule.of_paper(3, dim, counts=(6, 4, 2), steps=101)
    found = legs(f"multigrid:{cycles}", schedule)
    assert sum(leg.steps for leg in found) == 101
    assert [leg.stage.finest for leg in found] == [0, 1, 2] * cycles
    cells = [leg.stage.samples * (4 * 2**leg.stage.finest) ** dim for leg in found]
    assert set(cells) == {12 * 16**dim}  # samples × cells
    share = 101 // (3 * cycles + 1)
    assert [leg.steps for leg in found[:-1]] == [share] * (3 * cycles - 1)
    assert found[-1].terms == (Term(2, 12, False),)
    assert found[-1].steps >= 2 * share


def test_only_stages_that_have_a_next_one_may_stop_early():
    schedule = Schedule.of_paper(4, stopping=RULE)
    for name in ("full-multiscale", "progressive"):
        assert [leg.stopping for leg in legs(name, schedule)] == [RULE] * 3 + [None]
    for name in ("single", "multiscale", "random-crops", "multigrid"):
        assert all(leg.stopping is None for leg in legs(name, schedule))


@pytest.mark.parametrize("name", STRATEGIES.names)
@pytest.mark.parametrize("levels", [2, 3, 5])
def test_every_strategy_keeps_the_contract(name, levels):
    schedule = Schedule.of_paper(levels, steps=37)
    strategy = STRATEGIES.parse(name)
    assert STRATEGIES.parse(strategy.spec) == strategy
    found = strategy.legs(schedule)
    assert found == strategy.legs(schedule)
    plan = plan_of(name, found, levels)
    assert (plan.name, plan.levels) == (name, levels)
    assert [stage.terms for stage in plan.stages] == [leg.terms for leg in found]
    assert plan.steps == sum(leg.steps for leg in found)
    sizes = tuple(4 * 2**level for level in range(levels))
    document = forecast(strategy.spec, found, MeshHierarchy(2, sizes))
    json.dumps(document, allow_nan=False)


def test_a_strategy_is_one_entry():
    @STRATEGIES.register("finest-only-now-and-then")
    @dataclasses.dataclass(frozen=True)
    class NowAndThen(Strategy):
        turns: int = 2

        def legs(self, schedule: Schedule) -> tuple[Leg, ...]:
            finest = Term(schedule.levels - 1, schedule.batch, corrects=False)
            return (Leg(1, (Term(0, 1, False),)), Leg(1, (finest,))) * self.turns

    try:
        config = TrainingConfig(strategy="finest-only-now-and-then:3", steps=2)
        assert config.strategy == "finest-only-now-and-then:3"
        found = legs(config.strategy, config.plan_schedule)
        document = forecast(config.strategy, found, config.hierarchy)
        assert document["totals"]["work"] == 3 * (1 / 64 + 240)
    finally:
        del STRATEGIES._classes["finest-only-now-and-then"]
    with pytest.raises(InputError, match="`strategy` must be one of"):
        TrainingConfig(strategy="finest-only-now-and-then:3")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule.of_paper(0), r"`levels` must be .* got 0"),
        (lambda: Schedule.of_paper(3, 4), r"`dim` must be .* got 4"),
        (lambda: Schedule.of_paper(3, counts=(1, 2)), r"`counts` must hold 3 .* got 2"),
        (lambda: Schedule.of_paper(3, stages=(1, 2, 0)), r"`stages` .* got 0 on level 2"),
        (lambda: Schedule.of_paper(3, steps=0), r"`steps` must be .* got 0"),
        (lambda: Schedule.of_paper(3, batch=0), r"`batch` must be .* got 0"),
        (lambda: Schedule.of_paper(3, stopping=3), r"`stopping` must be a Stopping; got 3"),
        (lambda: Leg(0, (Term(0, 1, False),)), r"`steps` must be .* got 0"),
        (lambda: Leg(1, ()), r"`terms` of a stage must be at least one"),
        (lambda: Leg(1, (Term(0, 1, False),), crops=(0.5, 0.2)), r"`crops` must be two .*0\.5, 0"),
        (lambda: Leg(1, (Term(0, 1, False),), crops=(0.0, 1.0)), r"`crops` must be two .*0\.0, 1"),
        (lambda: Leg(1, (Term(0, 1, False),), crops=0.5), r"`crops` must be two .* got 0\.5"),
        (lambda: Stopping(0, 0.1), r"`window` must be .* got 0"),
        (lambda: Stopping(5, 0.0), r"`tolerance` must be .* got 0\.0"),
        (lambda: Stopping(5, math.nan), r"`tolerance` must be .* got nan"),
        (lambda: STRATEGIES.parse("mutliscale"), r"did you mean 'multiscale'"),
        (lambda: STRATEGIES.parse("single:3"), r"`strategy` single takes no values"),
        (lambda: STRATEGIES.parse("multigrid:0"), r"cycles must be 1 to 1000; got 'multigrid:0'"),
        (lambda: STRATEGIES.parse("random-crops:0.9:0.2"), r"low and high must rise"),
        (lambda: STRATEGIES.parse("random-crops:nan"), r"low must be finite"),
        (lambda: legs("random-crops:below=4"), r"below must be less than the 4 levels"),
        (lambda: legs("multigrid:500"), r"`steps` of at least 2001, and got 2000"),
        (lambda: plan_of("x", (), 4), r"`stages` of a plan must be at least one"),
        (lambda: plan_of("x", legs("single"), 3), r"`levels` must hold all levels .* got 3"),
    ],
)
def test_bad_choices_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


# -- stopping --------------------------------------------------------------------------------------


def stopped_at(rule: Stopping, losses: np.ndarray) -> int | None:
    """Step at which a leg with these losses ends, asked before each step as in training."""
    for done in range(0, len(losses) + 1, rule.window):
        if rule.stalled(losses[:done].tolist()):
            return done
    return None


def stops(rate: float, noise: float, seed: int, curves: int = 200, steps: int = 1000) -> list[int]:
    """Steps at which those of some curves stop that do; they fall by `rate` · 1 % a window."""
    rng = np.random.default_rng(seed)
    curve = (1 - rate * RULE.tolerance) ** (np.arange(steps) / RULE.window)
    found = (
        stopped_at(RULE, curve * (1 + noise * rng.standard_normal(steps))) for _ in range(curves)
    )
    return [at for at in found if at is not None]


@pytest.mark.parametrize(("noise", "latest"), [(0.02, 160), (0.1, 640)])
def test_flat_losses_are_seen_through_noise(noise, latest):
    found = stops(0.0, noise, seed=1)
    assert len(found) == 200
    assert np.median(found) <= latest


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_progress_is_not_taken_for_a_stall(noise):
    # at most 3.1 % of curves were, in 1000; more than 8 % of 200 has a chance of 4e-4 at that rate
    assert len(stops(2.0, noise, seed=2)) <= 16
    # at the tolerance itself 6.2 %; more than 13 % of 200 has a chance of 2e-4
    assert len(stops(1.0, noise, seed=3)) <= 26


def test_a_rule_that_heeds_no_noise_would_stop_falsely(monkeypatch):
    monkeypatch.setattr("gradconv.train.strategies.stopping.ERRORS", 0.0)
    assert len(stops(2.0, 0.1, seed=2)) > 190


def test_losses_without_noise_stop_at_the_tolerance():
    steps = np.arange(400)
    assert stopped_at(RULE, (1 - 0.0095) ** (steps / 20)) is not None
    assert stopped_at(RULE, (1 - 0.0105) ** (steps / 20)) is None
    assert stopped_at(RULE, 1.0 + steps / 400) == 40  # rising is no progress
    assert stopped_at(RULE, np.full(400, math.nan)) is None
    assert stopped_at(RULE, -1.0 - steps / 400) is None  # a multilevel loss may be negative
    assert stopped_at(RULE, np.full(400, -1.0)) == 40
    # losses that slow down, without end: they stop once a window brings less than the tolerance
    at = stopped_at(RULE, 1 / (1 + np.arange(6000) / 20))
    assert at is not None
    assert 1000 < at < 4000


def test_stopping_sees_this_leg_only_and_whole_windows():
    flat = [1.0] * 400
    asked = [n for n in range(401) if RULE.stalled(flat[:n])]
    assert asked == list(range(40, 401, 20))
    short = Stopping(3, 0.5)  # too few to tell their noise: 24 are taken together
    assert [n for n in range(150) if short.stalled(flat[:n])] == [48, 72, 96, 120, 144]


# -- crops -----------------------------------------------------------------------------------------


def clean(channels: int = 2, n: int = 32, dim: int = 2, samples: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(samples, channels, *(n,) * dim, generator=generator).double()


def base(task: str = "denoise:0.1", **options) -> NoisySampler:
    return NoisySampler(clean(), TASKS.parse(task).corrupt, HIERARCHY, seed=4, **options)


def linear_weights(m: int, n: int) -> np.ndarray:
    """Matrix of the antialiased linear map from m cells to n, entry by entry."""
    made = np.zeros((n, m))
    width = max(m / n, 1.0)  # of the hat, in cells of the source
    for i in range(n):
        centre = (i + 0.5) * m / n
        for j in range(m):
            made[i, j] = max(0.0, 1.0 - abs(j + 0.5 - centre) / width)
        made[i] /= made[i].sum()
    return made


@pytest.mark.parametrize(("task", "factor"), [("denoise:0.1", 1), ("superres:0.1", 2)])
def test_crops_against_dense_matrices(task, factor):
    sampler = CroppedSampler(base(task), (0.1, 0.9), seed=7)
    for number in (3, 11):
        ((x, y),) = sampler.sampler.draw([number], (2,))
        (row, column), side = sampler.square(number, factor)
        for level, (found_x, found_y) in zip((0, 1), sampler.draw([number], (0, 1)), strict=True):
            n = HIERARCHY.sizes[level]
            for source, found, f in ((x, found_x, factor), (y, found_y, 1)):
                cut = source[0].numpy()[
                    :, row // f : (row + side) // f, column // f : (column + side) // f
                ]
                weights = linear_weights(side // f, n // f)
                wanted = np.einsum("ir,crs,js->cij", weights, cut, weights)
                np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize(("m", "n"), [(7, 4), (3, 8), (8, 8)])
def test_resizing_in_other_dimensions(dim, m, n):
    x = clean(2, m, dim, 2)
    weights = torch.from_numpy(linear_weights(m, n))
    wanted = x
    for axis in range(2, x.ndim):
        wanted = torch.tensordot(wanted, weights, dims=([axis], [1])).movedim(-1, axis)
    torch.testing.assert_close(resized(x, n), wanted, rtol=0, atol=1e-12)


def test_input_and_target_are_cut_by_one_square():
    # x = y if there is no noise, and a ramp stays one but for what the resizing's weights do at the
    # scale of a cell; a square that is out of place is off by a cell or more
    ramp = torch.arange(32.0).double().expand(3, 1, 32, 32).contiguous()
    sampler = CroppedSampler(
        NoisySampler(ramp, lambda u, generator: u, HIERARCHY), (0.05, 0.9), seed=1
    )
    ((x, y),) = sampler.draw(range(6), (1,))
    assert torch.equal(x, y)
    for number in range(6):
        (_, column), side = sampler.square(number)
        centres = column + (torch.arange(16) + 0.5).double() * side / 16 - 0.5
        torch.testing.assert_close(y[number, 0, 8, 4:12], centres[4:12], rtol=0, atol=0.25)


def test_a_sample_does_not_depend_on_its_company():
    sampler = CroppedSampler(base(), (0.1, 1.0), seed=2)
    together = sampler.draw([5, 0, 9, 5], (1, 0))
    for place, number in enumerate([5, 0, 9, 5]):
        alone = sampler.draw([number], (1, 0))
        for (x, y), (x1, y1) in zip(together, alone, strict=True):
            assert torch.equal(x[place : place + 1], x1)
            assert torch.equal(y[place : place + 1], y1)
    other = CroppedSampler(base(), (0.1, 1.0), seed=3)
    assert not torch.equal(sampler.draw([5], (1,))[0][1], other.draw([5], (1,))[0][1])


@pytest.mark.parametrize("factor", [1, 2])
def test_squares_lie_in_the_box_and_areas_are_even(factor):
    sampler = CroppedSampler(base(), (0.2, 0.8), seed=0)
    squares = [sampler.square(number, factor) for number in range(2000)]
    sides = np.array([side for _, side in squares])
    starts = np.array([start for start, _ in squares])
    assert not (sides % factor).any()
    assert not (starts % factor).any()
    assert starts.min() == 0
    assert (starts + sides[:, None]).max() == 32
    assert math.sqrt(0.2) * 32 - factor / 2 <= sides.min()
    assert sides.max() <= math.sqrt(0.8) * 32 + factor / 2
    # mean of an even distribution on [0.2, 0.8]; sd 0.173/sqrt(2000) = 0.0039, rounding of sides
    # adds less than 0.002
    assert np.mean((sides / 32) ** 2) == pytest.approx(0.5, abs=4 * 0.0039 + 0.002)


def test_whole_squares_on_the_finest_mesh_are_the_samples_themselves():
    inner = base()
    sampler = CroppedSampler(inner, (1.0, 1.0))
    for a, b in zip(sampler.draw([0, 3], (2,))[0], inner.draw([0, 3], (2,))[0], strict=True):
        assert torch.equal(a, b)


def test_what_a_cropped_sampler_says_of_itself():
    inner = base(drawn="level")
    sampler = CroppedSampler(inner, (0.1, 1.0))
    assert sampler.hierarchy == HIERARCHY
    assert sampler.grid == inner.grid
    assert sampler.describe()["crops"] == [0.1, 1.0]
    assert sampler.cells_drawn((0,)) == 32**2  # cut from the finest mesh, whatever `drawn` says
    assert sampler.sampler.cells_drawn((0,)) == 8**2
    assert not sampler.sequential
    loader = LoaderSampler([(clean(), clean())], HIERARCHY)
    assert CroppedSampler(loader, (0.1, 1.0)).sequential


def test_crops_refuse_what_they_cannot_cut():
    with pytest.raises(InputError, match=r"`area` must be two relative areas .* got \(0.5, 1.5\)"):
        CroppedSampler(base(), (0.5, 1.5))
    with pytest.raises(InputError, match=r"`sampler` must be a Sampler; got 3"):
        CroppedSampler(3, (0.5, 1.0))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`seed` must be .* got -1"):
        CroppedSampler(base(), (0.5, 1.0), seed=-1)

    class Labels(NoisySampler):
        def draw(self, numbers, levels):
            return [(x, torch.zeros(len(x))) for x, _ in super().draw(numbers, levels)]

    labelled = Labels(clean(), TASKS.parse("denoise:0.1").corrupt, HIERARCHY)
    with pytest.raises(
        InputError, match=r"`sampler` must give tensors on the finest mesh .*\(1,\)"
    ):
        CroppedSampler(labelled, (0.5, 1.0)).draw([0], (1,))
