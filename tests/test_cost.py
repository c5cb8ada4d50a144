"""Work units, depth, memory and cells of plans, against sums over every single gradient."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconv import InputError
from gradconv.multilevel.costs.model import (
    CostModel,
    cells,
    parallel_depth,
    peak_bytes,
    peak_samples,
    ratio,
    step_cells,
    step_work,
    work,
)
from gradconv.multilevel.costs.plan import (
    Plan,
    Stage,
    Term,
    full_multiscale,
    multiscale,
    progressive,
    single,
)

COUNTS, STAGES = (128, 64, 32, 16), (2000, 1000, 500, 250)
UNITS = CostModel.work_units(levels=4, dim=2)

dims = st.integers(1, 3)
count_lists = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def meshes_of_a_step(counts: list[int]) -> list[list[int]]:
    """Levels on which each sample of a multilevel step has a gradient taken, sample by sample."""
    found = []
    for level, samples in enumerate(counts):
        for _ in range(samples):
            found.append([level] if level == 0 else [level, level - 1])
    return found


def brute_force(stages: list[tuple[int, list[list[int]]]], finest: int, dim: int) -> dict[str, Any]:
    """Sums in exact arithmetic over each step, sample and gradient of a plan."""
    serial = parallel = at_finest = restricted_finest = at_level = restricted_level = Fraction(0)
    for steps, samples in stages:
        for _ in range(steps):
            gradients = []
            for levels in samples:
                gradients += [Fraction(1, 2 ** (dim * (finest - level))) for level in levels]
                at_finest += 1
                n = 2**finest
                while n > 2 ** min(levels):  # restrict from the finest mesh on
                    restricted_finest += Fraction(n**dim, 2 ** (finest * dim))
                    n //= 2
                n = 2 ** max(levels)
                at_level += Fraction(n**dim, 2 ** (finest * dim))
                while n > 2 ** min(levels):
                    restricted_level += Fraction(n**dim, 2 ** (finest * dim))
                    n //= 2
            serial += sum(gradients)
            parallel += max(gradients)
    return {
        "serial": serial,
        "parallel": parallel,
        "finest": (at_finest, restricted_finest),
        "level": (at_level, restricted_level),
    }


def check(plan: Plan, stages: list[tuple[int, list[list[int]]]], dim: int) -> None:
    expected = brute_force(stages, plan.levels - 1, dim)
    units = CostModel.work_units(plan.levels, dim)
    assert work(plan, units) == expected["serial"]
    assert parallel_depth(plan, units) == expected["parallel"]
    for place in ("finest", "level"):
        found = cells(plan, dim, place)
        assert (found.drawn, found.restricted) == expected[place]


def test_the_plan_of_the_paper() -> None:
    plans = [
        single(2000, sum(COUNTS), 4),
        multiscale(2000, COUNTS),
        full_multiscale(STAGES, COUNTS),
    ]
    assert [work(p, UNITS) for p in plans] == [480_000, 74_000, 28_750]
    assert step_work(plans[1].stages[0], UNITS) == 37
    stages = [s.steps * step_work(s, UNITS) for s in plans[2].stages]
    assert stages == [4000, 7000, 8500, 9250]
    assert ratio(work(plans[0], UNITS), work(plans[1], UNITS)) == 480 / 74
    # multilevel shortens no step; stages on coarse meshes do
    assert [parallel_depth(p, UNITS) for p in plans] == [2000, 2000, 468.75]
    assert [peak_samples(p, 2) for p in plans] == [240, 16, 16]
    # what the user pays in data is not saved, unless noise is drawn by level
    assert [cells(p, 2).drawn / p.steps for p in plans[:2]] == [240, 240]
    assert [cells(p, 2, "level").drawn / p.steps for p in plans[:2]] == [240, 30]


@pytest.mark.parametrize(
    "terms",
    [
        [Term(level, n, False) for level, n in enumerate(COUNTS)],  # no coarse gradients
        [Term(level, n, level > 0) for level, n in enumerate(COUNTS[::-1])],  # fine to coarse
        [Term(level, n, level > 1) for level, n in enumerate(COUNTS)],  # one forgotten
        [Term(min(level + 1, 3), n, True) for level, n in enumerate(COUNTS)],  # off by a level
    ],
    ids=["uncorrected", "reversed", "one missing", "shifted"],
)
def test_a_wrong_term_does_not_cost_what_the_paper_says(terms: list[Term]) -> None:
    """Negative control."""
    assert step_work(Stage(1, tuple(terms)), UNITS) != 37


def test_a_wrong_dimension_does_not_cost_what_the_paper_says() -> None:
    for dim in (1, 3):
        assert work(multiscale(1, COUNTS), CostModel.work_units(4, dim)) != 37


@given(count_lists, st.data(), dims)
def test_plans_cost_the_sum_over_their_gradients(
    counts: list[int], data: st.DataObject, dim: int
) -> None:
    levels, steps = len(counts), data.draw(st.integers(1, 3))
    stages = data.draw(st.lists(st.integers(1, 3), min_size=levels, max_size=levels))
    check(single(steps, sum(counts), levels), [(steps, [[levels - 1]] * sum(counts))], dim)
    check(multiscale(steps, counts), [(steps, meshes_of_a_step(counts))], dim)
    growing = [(s, meshes_of_a_step(counts[: i + 1])) for i, s in enumerate(stages)]
    check(full_multiscale(stages, counts), growing, dim)
    resized = [(s, [[i]] * n) for i, (s, n) in enumerate(zip(stages, counts, strict=True))]
    check(progressive(stages, counts), resized, dim)


@given(st.integers(1, 10**6), st.integers(1, 10**6), dims)
def test_multilevel_on_one_level_is_single_scale(steps: int, batch: int, dim: int) -> None:
    for units in (CostModel.work_units(1, dim), CostModel((3.5,), "seconds")):
        one = work(single(steps, batch, 1), units)
        assert work(multiscale(steps, [batch]), units) == one
        assert work(full_multiscale([steps], [batch]), units) == one
        assert work(progressive([steps], batch), units) == one


@given(count_lists, count_lists, st.integers(1, 50), st.integers(1, 50))
def test_work_adds_up(left: list[int], right: list[int], first: int, second: int) -> None:
    levels = min(len(left), len(right))
    left, right = left[:levels], right[:levels]
    units = CostModel.work_units(levels, 2)

    def of(steps: int, counts: list[int]) -> float:
        return work(multiscale(steps, counts), units)

    assert of(first, left) + of(second, left) == of(first + second, left)
    both = [a + b for a, b in zip(left, right, strict=True)]
    assert of(first, left) + of(first, right) == of(first, both)
    stages = full_multiscale([first] * levels, left).stages
    assert work(Plan("last", levels, stages[-1:]), units) == of(first, left)


@given(count_lists, st.floats(0, 4), st.floats(1e-6, 1e6))
def test_work_follows_the_cost_of_a_gradient(
    counts: list[int], gamma: float, factor: float
) -> None:
    levels, plan = len(counts), multiscale(7, counts)
    units = CostModel.work_units(levels, 2, gamma)
    assert units.gradient[-1] == 1
    assert units.orders == pytest.approx([gamma] * (levels - 1))
    scaled = CostModel(tuple(factor * c for c in units.gradient), "FLOP")
    for measure in (work, parallel_depth):
        assert measure(plan, scaled) == pytest.approx(factor * measure(plan, units))
    by_hand = 7 * sum(
        n * (2 ** (-gamma * (levels - 1 - i)) + (2 ** (-gamma * (levels - i)) if i else 0))
        for i, n in enumerate(counts)
    )
    assert work(plan, units) == pytest.approx(by_hand)
    if gamma == 0:  # every gradient costs the same: the terms' second gradients are lost
        assert work(plan, units) == 7 * (sum(counts) + sum(counts[1:]))


def test_depth_of_measured_costs_is_that_of_the_costliest_gradient() -> None:
    costs = CostModel((9.0, 1.0, 4.0), "seconds")  # as a small mesh may take longer
    assert parallel_depth(multiscale(3, (1, 1, 1)), costs) == 27
    assert parallel_depth(single(3, 5, 3), costs) == 12
    lone = Plan("lone", 3, (Stage(2, (Term(1, 4, True),)),))  # its coarse gradient takes longest
    assert parallel_depth(lone, costs) == 18
    assert CostModel((1.0, 0.0)).orders[0] != CostModel((1.0, 0.0)).orders[0]  # not a number
    assert CostModel((4.0, 1.0)).orders == (-2.0,)  # signed


def test_memory_is_that_of_the_largest_pass() -> None:
    plan = full_multiscale(STAGES, (1000, 64, 32, 16))
    assert peak_samples(plan, 2) == 16
    assert peak_samples(plan, 1) == 125  # the many samples of the coarsest level
    assert peak_samples(plan, 2, microbatch=8) == 8
    assert peak_samples(plan, 1, microbatch=1000) == 125
    fixed, sample = (7.0, 7.0, 7.0, 1.0), (1.0, 4.0, 16.0, 64.0)
    assert peak_bytes(plan, 2, fixed, sample) == max(1007, 7 + 256, 7 + 512, 1 + 1024)
    assert peak_bytes(plan, 2, fixed, sample, microbatch=2) == 7 + 128  # 2 · 64 cells a pass
    with pytest.raises(InputError, match="`sample` must hold a number for each of 4 levels; got 1"):
        peak_bytes(plan, 2, fixed, (1.0,))


def test_cells_of_one_step() -> None:
    stage = Stage(1, (Term(1, 3, True),))
    found = step_cells(stage, 3, 2, "finest")
    assert found.drawn == 3
    assert found.restricted == 3 * (1 + 1 / 4)  # from level 2 to 1, and to 0
    found = step_cells(stage, 3, 2, "level")
    assert (found.drawn, found.restricted) == (3 / 4, 3 / 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multiscale(10, (4, 0)), "`counts` must be whole numbers .* got 0 on level 1"),
        (lambda: multiscale(10, (4, -2)), "`counts` .* got -2 on level 1"),
        (lambda: multiscale(10, (4.5,)), r"`counts` .* got 4.5 on level 0"),
        (lambda: multiscale(10, (True,)), "`counts` .* got True"),
        (lambda: multiscale(10, ()), "`counts` must hold 1 to 27 .* got 0"),
        (lambda: multiscale(10, 5), "`counts` must hold a whole number for each level"),
        (lambda: multiscale(10, "12"), "`counts` must hold a whole number for each level"),
        (lambda: multiscale(0, (4, 2)), "`steps` must be a whole number from 1"),
        (lambda: multiscale(float("inf"), (4, 2)), "`steps` .* got inf"),
        (lambda: full_multiscale((5, 5), (4, 2, 1)), "`stages` must hold 3 .* got 2"),
        (lambda: full_multiscale((5, 0), (4, 2)), "`stages` .* got 0 on level 1"),
        (lambda: progressive((5, 5), (1, 2, 3)), "`batch` must hold 2 .* got 3"),
        (lambda: progressive((5, 5), 0), "`batch` .* got 0"),
        (lambda: single(5, 0, 2), "`batch` must be a whole number from 1"),
        (lambda: single(5, 1, 0), "`levels` must be a whole number from 1 to 27; got 0"),
        (lambda: Term(0, 1, True), "`corrects` must be False on level 0"),
        (lambda: Stage(1, ()), "`terms` of a stage must be at least one"),
        (lambda: Plan("empty", 1, ()), "`stages` of a plan must be at least one"),
        (lambda: Plan("deep", 1, single(1, 1, 2).stages), "`levels` must hold all levels"),
        (lambda: CostModel(()), "`gradient` must hold the cost of at least one level"),
        (lambda: CostModel((1.0, float("nan"))), "`gradient` costs .* got nan on level 1"),
        (lambda: CostModel((1.0, float("inf"))), "`gradient` costs .* got inf on level 1"),
        (lambda: CostModel((-1.0, 1.0)), "`gradient` costs .* got -1.0 on level 0"),
        (lambda: CostModel(3.0), "`gradient` must hold a cost for each level"),  # type: ignore[arg-type]
        (lambda: CostModel.work_units(2, 4), "`dim` must be 1, 2 or 3"),
        (lambda: CostModel.work_units(2, 2, float("nan")), "`gamma` must be .* got nan"),
        (lambda: CostModel.work_units(2, 2, -1.0), "`gamma` must be between 0 and 16; got -1"),
        (lambda: work(multiscale(1, (2, 1)), UNITS), "`costs` must have the 2 levels .* got 4"),
        (lambda: parallel_depth(multiscale(1, (2, 1)), UNITS), "`costs` must have the 2 levels"),
        (lambda: peak_samples(multiscale(1, (1,)), 2, 0), "`microbatch` must be a whole number"),
        (lambda: cells(multiscale(1, (1,)), 2, "here"), "`drawn` must be one of finest, le"),
    ],
)
def test_bad_plans_are_named(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
