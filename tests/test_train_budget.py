"""Budgets and forecasts, against sums over every step, sample and gradient."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.costs.counting import LevelCost
from gradconv.multilevel.costs.model import CostModel, peak_bytes, step_work, work
from gradconv.multilevel.costs.plan import Term
from gradconv.terminal import make_console
from gradconv.train.budget import Budget, fit_to_budget
from gradconv.train.forecast import forecast
from gradconv.train.forecast_present import forecast_lines, forecast_table, terms_text
from gradconv.train.strategies import STRATEGIES, Leg, Schedule, Stopping, plan_of

PAPER = Schedule.of_paper(4)
MESHES = MeshHierarchy(2, (8, 16, 32, 64))
UNITS = CostModel.work_units(4, 2)
COSTS = tuple(
    LevelCost(
        level,
        (n, n),
        flops=1000.0 * n**2 + 7 * n,
        fixed_bytes=5e4,
        sample_bytes=300.0 * n**2,
        seconds=1e-6 * n**2 + 1e-5,
    )
    for level, n in enumerate(MESHES.sizes)
)


def paper(name: str, schedule: Schedule = PAPER) -> tuple[Leg, ...]:
    return STRATEGIES.parse(name).legs(schedule)


# -- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("work:28750", "work", 28750.0),
        ("flops:1e13", "flops", 1e13),
        (" seconds : .5 ", "seconds", 0.5),
    ],
)
def test_budgets_are_read(text, unit, amount):
    assert Budget.parse(text) == Budget(unit, amount)


@pytest.mark.parametrize(
    "text",
    [
        "work",
        "work:",
        "work:-1",
        "work:0",
        "flops:nan",
        "seconds:inf",
        "hours:3",
        "",
        3,
        "work:1:2",
    ],
)
def test_other_budgets_are_refused(text):
    with pytest.raises(InputError, match=r"`budget` must be"):
        Budget.parse(text)


@pytest.mark.parametrize("value", [True, "3", None, -1.0, math.inf])
def test_amounts_must_be_positive(value):
    with pytest.raises(InputError, match=r"`budget` must be positive and finite; got"):
        Budget("work", value)


@given(data=st.data(), fractional=st.booleans())
def test_fitting_keeps_to_the_budget_and_the_proportions(data, fractional):
    steps = data.draw(st.lists(st.integers(1, 3000), min_size=1, max_size=8))
    cost = st.floats(1e-6, 1e6) if fractional else st.integers(1, 300)
    costs = data.draw(st.lists(cost, min_size=len(steps), max_size=len(steps)))
    least, most = math.fsum(costs), 3 * math.fsum(n * c for n, c in zip(steps, costs, strict=True))
    budget = data.draw(st.floats(least, max(least, most)))
    legs = [Leg(n, (Term(0, 1, False),)) for n in steps]
    found = [leg.steps for leg in fit_to_budget(legs, costs, budget)]
    spent = sum(Fraction(n) * Fraction(c) for n, c in zip(found, costs, strict=True))
    slack = Fraction(budget) / 10**8
    assert min(found) >= 1
    assert spent <= Fraction(budget) + slack
    # one factor makes all steps, but for legs of one step and for less than a step each: the
    # factors that explain the steps of a leg are an interval, and the intervals must meet
    free = [(m, n) for m, n in zip(found, steps, strict=True) if m > 1]
    low = max((Fraction(m - 1, n) for m, n in free), default=Fraction(0))
    high = min((Fraction(m + 1, n) for m, n in zip(found, steps, strict=True)))
    assert low <= high * (1 + Fraction(1, 10**8))
    # what is left is less than a step of some leg, and of the cheapest that was rounded down
    factor = high_factor(found, steps, costs, budget)
    down = [c for m, n, c in zip(found, steps, costs, strict=True) if m < n * factor * (1 - 1e-8)]
    if down:
        assert Fraction(budget) - spent < Fraction(min(down)) + slack
    else:
        assert Fraction(budget) - spent <= slack


def high_factor(found: list[int], steps: list[int], costs: list[float], budget: float) -> float:
    """Factor at which max(1, factor · steps) cost the budget, by bisection."""
    low, high = 0.0, budget / min(n * c for n, c in zip(steps, costs, strict=True)) + 1
    for _ in range(200):
        middle = (low + high) / 2
        cost = math.fsum(max(1.0, n * middle) * c for n, c in zip(steps, costs, strict=True))
        low, high = (middle, high) if cost <= budget else (low, middle)
    return low


@pytest.mark.parametrize("name", STRATEGIES.names)
@pytest.mark.parametrize("factor", [Fraction(1, 3), Fraction(1), Fraction(7, 2)])
def test_plans_at_their_own_cost_and_at_multiples(name, factor):
    legs = paper(name)
    costs = [step_work(leg.stage, UNITS) for leg in legs]
    total = work(plan_of(name, legs, 4), UNITS)
    found = fit_to_budget(legs, costs, float(total * factor))
    for leg, scaled in zip(legs, found, strict=True):
        assert abs(scaled.steps - leg.steps * factor) < 1
        assert (scaled.terms, scaled.crops, scaled.stopping) == (
            leg.terms,
            leg.crops,
            leg.stopping,
        )
    if factor == 1:
        assert found == legs
    assert 0 <= total * factor - work(plan_of(name, found, 4), UNITS) < max(costs)


def test_strategies_at_one_budget_cost_the_same():
    for name in STRATEGIES.names:
        legs = paper(name)
        costs = [step_work(leg.stage, UNITS) for leg in legs]
        spent = work(plan_of(name, fit_to_budget(legs, costs, 28750), 4), UNITS)
        assert 28750 - max(costs) < spent <= 28750


def test_rounded_costs_do_not_lose_a_step():
    legs = [Leg(3, (Term(0, 1, False),))]
    assert 3 * 0.1 > 0.3
    assert fit_to_budget(legs, [0.1], 0.3)[0].steps == 3


def test_the_costliest_leg_is_rounded_up_first():
    legs = [Leg(19, (Term(0, 1, False),))] * 2
    # shares of 1.9 steps each: 17.1 are left beside a step of each, which is one step more
    assert [leg.steps for leg in fit_to_budget(legs, [9.0, 10.0], 36.1)] == [1, 2]


def test_legs_of_less_than_a_step_take_one():
    legs = [Leg(n, (Term(0, 1, False),)) for n in (1000, 10, 1)]
    assert [leg.steps for leg in fit_to_budget(legs, [1.0, 5.0, 7.0], 62.0)] == [50, 1, 1]
    with pytest.raises(InputError, match=r"`budget` must pay for a step of each leg, 13; got 12.9"):
        fit_to_budget(legs, [1.0, 5.0, 7.0], 12.9)


@pytest.mark.parametrize(
    ("costs", "budget", "message"),
    [
        ([1.0], 9.0, r"`cost_of_step` must hold a cost for each of 2 legs.* got 1"),
        ([1.0, 0.0], 9.0, r"`cost_of_step` must be positive and finite; got 0.0"),
        ([1.0, math.nan], 9.0, r"`cost_of_step` must be positive and finite; got nan"),
        ([1.0, 1.0], math.inf, r"`budget` must be positive and finite; got inf"),
        ([1.0, 1.0], 1e15, r"`budget` must not ask for more than 1000000000000 steps"),
    ],
)
def test_costs_must_be_sound(costs, budget, message):
    with pytest.raises(InputError, match=message):
        fit_to_budget([Leg(1, (Term(0, 1, False),))] * 2, costs, budget)


# -- forecasts -------------------------------------------------------------------------------------


def test_the_numbers_of_the_paper():
    found = {
        name: forecast(name, paper(name), MESHES, COSTS, alone=paper("single")[0])
        for name in ("single", "multiscale", "full-multiscale")
    }
    assert [d["totals"]["work"] for d in found.values()] == [480_000, 74_000, 28_750]
    assert [d["totals"]["parallel_depth"] for d in found.values()] == [2000, 2000, 468.75]
    full = found["full-multiscale"]
    assert [leg["work"] for leg in full["legs"]] == [4000, 7000, 8500, 9250]
    assert full["single"]["work"] == 480_000
    assert full["ratio"]["work"] == pytest.approx(480_000 / 28_750)
    equal = forecast("full-multiscale", paper("full-multiscale"), MESHES, COSTS)
    assert (equal["single"]["steps"], equal["single"]["work"]) == (250, 60_000)


def recount(
    legs: tuple[Leg, ...], drawn: str, accumulation: int, microbatch: int | None, processes: int
) -> dict:
    """Costs of a plan, one step, sample and gradient at a time; peak of the busiest process."""
    work = depth = Fraction(0)
    flops = seconds = 0.0
    samples = cells = 0
    peak = 0.0
    for leg in legs:
        for _ in range(leg.steps):
            longest = Fraction(0)
            for _ in range(accumulation):
                waiting = [0] * 4
                for term in leg.terms:
                    for number in range(term.samples):
                        samples += 1
                        whole = drawn == "finest" or leg.crops is not None
                        cells += (64 if whole else 8 * 2**term.level) ** 2
                        for level in (term.level, term.level - 1)[: 1 + term.corrects]:
                            unit = Fraction(1, 4 ** (3 - level))
                            work, longest = work + unit, max(longest, unit)
                            flops += COSTS[level].flops
                            seconds += COSTS[level].seconds
                            waiting[level] += number % processes == 0
                for level, n in enumerate(waiting):
                    at_once = min(n, microbatch * 4 ** (3 - level)) if microbatch else n
                    taken = COSTS[level].fixed_bytes + at_once * COSTS[level].sample_bytes
                    peak = max(peak, taken if n else 0.0)
            depth += longest
    return {
        "steps": sum(leg.steps for leg in legs),
        "samples": samples,
        "work": float(work),
        "flops": flops,
        "seconds": seconds,
        "cells_drawn": cells,
        "parallel_depth": float(depth),
        "peak_bytes": peak,
    }


@pytest.mark.parametrize("name", STRATEGIES.names)
@pytest.mark.parametrize(
    ("drawn", "accumulation", "microbatch", "processes"),
    [("finest", 1, None, 1), ("level", 3, 2, 1), ("level", 1, None, 4)],
)
def test_totals_against_a_count_of_every_gradient(name, drawn, accumulation, microbatch, processes):
    options = (drawn, accumulation, microbatch, processes)
    schedule = Schedule.of_paper(4, counts=(9, 5, 3, 2), steps=13, stages=(6, 5, 3, 2))
    legs = paper(name if name != "multigrid" else "multigrid:1", schedule)
    found = forecast(
        name,
        legs,
        MESHES,
        COSTS,
        drawn=drawn,
        accumulation=accumulation,
        microbatch=microbatch,
        processes=processes,
    )
    expected = recount(legs, *options)
    assert found["totals"] == pytest.approx(expected, rel=1e-12)
    finest = max(leg.stage.finest for leg in legs)
    steps = sum(leg.steps for leg in legs if leg.stage.finest == finest)
    alone = recount((Leg(steps, (Term(3, 19, False),)),), *options)
    per_step = found["single"].pop("samples_per_step")
    assert per_step == 19 * accumulation
    assert found["single"] == pytest.approx(alone, rel=1e-12)
    assert found["ratio"] == pytest.approx({k: alone[k] / expected[k] for k in alone}, rel=1e-12)
    for leg, record in zip(legs, found["legs"], strict=True):
        one = recount((leg,), *options)
        assert {k: record[k] for k in one} == pytest.approx(one, rel=1e-12)
        for key in ("samples", "work", "flops", "seconds", "cells_drawn"):
            assert record[f"{key}_per_step"] == pytest.approx(one[key] / leg.steps, rel=1e-12)


@pytest.mark.parametrize("microbatch", [None, 3])
def test_passes_that_are_not_merged_are_those_of_the_cost_model(microbatch):
    legs = paper("full-multiscale")
    found = forecast("f", legs, MESHES, COSTS, microbatch=microbatch, merged=False)
    fixed, sample = ([getattr(c, k) for c in COSTS] for k in ("fixed_bytes", "sample_bytes"))
    fine = peak_bytes(plan_of("f", legs, 4), 2, fixed, sample, microbatch)
    assert found["totals"]["peak_bytes"] == fine
    # 40 samples of one term and 1 of the next meet on level 2, with most cells
    legs = paper("multiscale", Schedule.of_paper(4, counts=(100, 60, 40, 1)))
    for merged, samples in ((False, 40), (True, 41)):
        most = min(samples, 4 * microbatch) if microbatch else samples
        found = forecast("m", legs, MESHES, COSTS, microbatch=microbatch, merged=merged)
        assert found["totals"]["peak_bytes"] == 5e4 + most * 300.0 * 32**2


def test_measured_steps_take_the_place_of_measured_gradients():
    legs = paper("full-multiscale")
    found = forecast("f", legs, MESHES, step_seconds=[1.0, 2.0, 3.0, 4.0], accumulation=2)
    assert found["totals"]["seconds"] == 2000 + 2000 + 1500 + 1000
    assert found["single"]["seconds"] is None
    assert found["ratio"]["seconds"] is None
    assert found["totals"]["flops"] is None
    assert found["totals"]["peak_bytes"] is None


def shown(document: dict) -> str:
    console = make_console()
    with console.capture() as captured:
        console.print(forecast_table(document))
    return captured.get()


def test_the_table_and_its_lines():
    schedule = Schedule.of_paper(4, stopping=Stopping(20, 0.01))
    document = forecast("full-multiscale", paper("full-multiscale", schedule), MESHES, COSTS)
    document = json.loads(json.dumps(document, allow_nan=False))
    text = shown(document)
    for part in ("≤ 2 000", "28 750", "128 on 8², 64", "60 000", "2.087x", "FLOP"):
        assert part in text
    assert text.count("≤") == 3
    assert terms_text(document["legs"][1], 2) == "128 on 8², 64 on 16² − 8²"
    lines = "\n".join(forecast_lines(document))
    assert "single: 250 steps of 240 samples on 64²" in lines
    assert "a leg whose loss stalls" in lines
    crops = forecast("random-crops", paper("random-crops"), MESHES)
    assert "crops of 8%–100%" in shown(crops)
    assert "FLOPs" not in shown(crops)
    assert "largest pass" not in "\n".join(forecast_lines(crops))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"costs": COSTS[:3]}, r"`costs` must hold one for each of 4 levels; got 3"),
        ({"step_seconds": [1.0]}, r"`step_seconds` must hold one for each of 4 legs; got 1"),
        ({"step_seconds": [1.0, 1.0, 1.0, -1.0]}, r"`step_seconds` must be positive .* got -1"),
        ({"drawn": "fine"}, r"`drawn` must be one of finest, level; got 'fine'"),
        ({"accumulation": 0}, r"`accumulation` must be .* got 0"),
        ({"processes": 0}, r"`processes` must be .* got 0"),
        ({"microbatch": 0, "costs": COSTS}, r"`microbatch` must be .* got 0"),
    ],
)
def test_bad_options_of_a_forecast_are_named(options, message):
    with pytest.raises(InputError, match=message):
        forecast("full-multiscale", paper("full-multiscale"), MESHES, **options)


def test_legs_must_be_on_the_hierarchy():
    with pytest.raises(InputError, match=r"`levels` must hold all levels of the stages; got 3"):
        forecast("single", paper("single"), MeshHierarchy(2, (8, 16, 32)))
