"""The stored study of training: numbers by hand, planted losses, and a table that is its own."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradconv.claims.evidence import evidence_document, read_folder
from gradconv.claims.paper import CLAIMS
from gradconv.errors import InputError
from gradconv.figures import figure_bytes
from gradconv.provenance import configuration_hash, provenance
from gradconv.studies import KINDS, load_study, read_results
from gradconv.studies.kinds import Workplace
from gradconv.studies.running import markdown
from gradconv.studies.stored import read_documents
from gradconv.studies.training import (
    cells,
    comparing,
    curves,
    evidence,
    figures,
    hot_starts,
    measured,
    spreads,
    tables,
)
from gradconv.studies.training import runs as making
from gradconv.tables import Table

STUDIES = Path(__file__).resolve().parent.parent / "studies"
STUDY = STUDIES / "training"
Run = dict[str, Any]


def text_of(found: list[Table]) -> str:
    return "\n".join(table.markdown() for table in found)


# ---- runs made by hand ----

WORK = {"single": 4800.0, "multiscale": 740.0, "full-multiscale": 287.5}


def run(
    strategy: str, seed: int, mse: float, conv: str = "standard", budget: str = "", **more: Any
) -> Run:
    work = 280.0 if budget else WORK[strategy]
    return {
        "setup": "denoise-resnet",
        "strategy": strategy,
        **({"budget": budget} if budget else {}),
        "conv": conv,
        "seed": seed,
        "test": {"mse": mse, "psnr": -10 * math.log10(mse), "ssim": 0.5},
        "degraded": {"mse": 0.04, "psnr": 14.0, "ssim": 0.13},
        "totals": {"work": work, "flops": 1e8 * work, "seconds": 0.01 * work},
        "legs": [leg(160, work)],
        "peak_bytes": 2.0**20,
        "sizes": [8, 16, 32, 64],
        "curves": {},
        **more,
    }


def leg(steps: int, work: float, mse: float = 0.01) -> Run:
    cost = {"work": work, "flops": 1e8 * work, "seconds": 0.01 * work}
    return {"steps": steps, **cost, "validation": {"mse": mse}}


def group_of(strategy: str, errors: tuple[float, ...], **more: Any) -> list[Run]:
    return [run(strategy, seed, mse, **more) for seed, mse in enumerate(errors)]


SINGLES = (0.0040, 0.0042, 0.0044)


def table_runs(full: tuple[float, ...], conv: str = "standard") -> list[Run]:
    return [
        *group_of("single", SINGLES, conv=conv),
        *group_of("multiscale", (0.0041, 0.0042, 0.0043), conv=conv),
        *group_of("full-multiscale", full, conv=conv),
        *group_of("single", (0.02, 0.03, 0.06), conv=conv, budget="work:287.5"),
    ]


def started(seed: int, before: list[Run], rows: list[tuple[int, float]], every: float) -> Run:
    """A run whose last leg validated as `rows` say: (step of the leg, MSE)."""
    steps, work = sum(b["steps"] for b in before), sum(b["work"] for b in before)
    table = [
        [str(v) for v in (steps + n, len(before), work + every * n, 0, n, mse, 20, 0.5)]
        for n, mse in rows
    ]
    head = ["step", "leg", "work", "flops", "seconds", "mse", "psnr", "ssim"]
    last = leg(rows[-1][0], every * rows[-1][0], rows[-1][1])
    name = "full-multiscale" if before else "multiscale"
    curves = {"validation": [head, *table]}
    return run(name, seed, 0.004, legs=[*before, last], curves=curves)


COLD = [(2, 0.1), (20, 0.02), (40, 0.0045), (60, 0.004)]


# ---- numbers over seeds ----


def test_numbers_over_seeds_are_those_of_the_textbook() -> None:
    s = spreads
    assert s.spread([1.0, 2.0, 6.0]) == s.Spread(3.0, math.sqrt(7.0), 3)
    # Student's t of 2 degrees of freedom at 97.5 %: 4.302653
    found = s.paired([1.0, 2.0, 6.0])
    assert found.value == 3.0
    assert found.high - 3.0 == pytest.approx(4.302653 * math.sqrt(7.0 / 3.0), rel=1e-6)
    # equal variances and counts: Welch's degrees of freedom are 2 (n − 1) = 4; t = 2.776445
    found = s.welch([1.0, 2.0, 3.0], [5.0, 6.0, 7.0])
    assert found.value == -4.0
    assert found.high + 4.0 == pytest.approx(2.776445 * math.sqrt(2.0 / 3.0), rel=1e-6)
    # variances 1 and 0: all of the error is that of the first, whose degrees of freedom are 2
    found = s.welch([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])
    assert found.high + 3.0 == pytest.approx(4.302653 / math.sqrt(3.0), rel=1e-6)
    found = s.ratio([2.0, 8.0], [1.0, 1.0])
    assert found.value == pytest.approx(4.0)
    # logarithms ln 2, ln 8: standard error ln 2; t of 1 degree of freedom: 12.7062
    assert math.log(found.high / 4.0) == pytest.approx(12.7062 * math.log(2.0), rel=1e-5)


def test_intervals_cover_as_often_as_they_say() -> None:
    """400 groups of three seeds: 95 % ± 4 standard deviations of a binomial share."""
    generator = np.random.default_rng(0)
    draws = generator.normal(1.0, 0.3, (400, 3)).tolist()
    found = [spreads.paired(values) for values in draws]
    share = np.mean([e.low <= 1.0 <= e.high for e in found])
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


# ---- the paper's table ----


def test_a_planted_loss_is_found() -> None:
    s = comparing
    (same,) = s.table_summary(table_runs((0.0041, 0.0042, 0.0043)))
    assert same["equal_steps"]["verdict"] == "not told apart"
    assert same["equal_steps"]["within"]
    (worse,) = s.table_summary(table_runs((0.0060, 0.0062, 0.0064)))
    assert worse["equal_steps"]["verdict"] == "worse"
    assert not worse["equal_steps"]["within"]
    change = (0.0060 * 0.0062 * 0.0064 / math.prod(SINGLES)) ** (1 / 3)
    assert worse["equal_steps"]["ratio"].value == pytest.approx(change)
    (better,) = s.table_summary(table_runs((0.0030, 0.0031, 0.0032)))
    assert better["equal_steps"]["verdict"] == "better"
    assert better["equal_work"]["verdict"] == "better"
    best = [row["strategy"] for row in better["rows"] if "mse" in row["best"]]
    assert best == ["full-multiscale"]
    assert better["savings"]["work"] == pytest.approx(4800 / 287.5)
    assert better["savings"]["share"] == pytest.approx(1.0)


def test_slow_legs_are_seen() -> None:
    """A leg of which a unit of work takes four times as long has a quarter of the speed."""
    runs = table_runs((0.004, 0.004, 0.0041))
    for one in runs:
        if one["strategy"] == "full-multiscale":
            slow = {**leg(160, 100.0), "seconds": 4.0}
            one["legs"] = [slow, leg(20, 187.5)]
    (found,) = comparing.table_summary(runs)
    assert found["legs"] == pytest.approx([0.25, 1.0])


def test_each_convolution_wins_where_it_should() -> None:
    runs = []
    for task, factor in (("denoise:0.05", 2.0), ("denoise:0.8", 0.5), ("denoise:0.2", 1.0)):
        runs += group_of("single", SINGLES, task=task)
        errors = [factor * e * (1.0 + 0.01 * i) for i, e in enumerate(SINGLES)]
        runs += group_of("single", tuple(errors), conv="mfc", task=task)
    found = comparing.axis_summary(runs, "task", lambda t: float(t.split(":")[1]))
    wins = {entry["x"]: entry["wins"] for entry in found["ratios"]["single"]}
    assert wins == {0.05: "standard", 0.8: "mfc", 0.2: "not told apart"}


def test_a_planted_loss_along_an_axis_is_found() -> None:
    runs = []
    for layers, full in ((2, 1.01), (4, 1.5), (8, 0.6)):
        runs += group_of("single", SINGLES, layers=layers)
        errors = [full * e * (1.0 + 0.01 * i) for i, e in enumerate(SINGLES)]
        runs += group_of("full-multiscale", tuple(errors), layers=layers)
    found = comparing.axis_summary(runs, "layers", float)["against"]
    assert list(found) == ["standard"]
    verdicts = {one["x"]: (one["verdict"], one["within"]) for one in found["standard"]}
    assert verdicts == {2: ("not told apart", True), 4: ("worse", False), 8: ("better", False)}
    ratio = found["standard"][1]["ratio"].value  # geometric means: 1.5 (1 · 1.01 · 1.02)^(1/3)
    assert ratio == pytest.approx(1.5 * (1.01 * 1.02) ** (1 / 3))
    assert "| standard | 4 | 1.51 [" in text_of(tables.depth(runs))


def test_the_least_budget_that_reaches_single() -> None:
    runs = []
    for work, single, full in ((150, 0.05, 0.01), (300, 0.02, 0.0045), (600, 0.0045, 0.004)):
        for strategy, mse in (("single", single), ("full-multiscale", full)):
            cost = {"work": float(work), "flops": 1e8 * work, "seconds": 0.01 * work}
            errors = (mse, mse * 1.01, mse * 0.99)
            runs += group_of(strategy, errors, budget=f"work:{work}", totals=cost)
    found = comparing.budget_summary(runs)["reached"]["standard"]
    assert found["least"]["full-multiscale"]["work"].mean == 300
    for one in runs:
        if one["strategy"] == "full-multiscale":
            one["test"]["mse"] *= 2
    found = comparing.budget_summary(runs)["reached"]["standard"]
    assert found["least"]["full-multiscale"] is None
    assert "full-multiscale none" in text_of(tables.budgets(runs))


# ---- hot starts ----


def test_steps_to_a_target_by_hand() -> None:
    s = hot_starts
    cold = started(0, [], COLD, every=4.625)
    before = [leg(40, 10.0, mse=0.03)]
    hot = started(0, before, [(2, 0.01), (10, 0.00415), (60, 0.004)], every=3.5)
    assert s.reach(cold, 0.0045) == s.Reached(40.0, 185.0, 40.0)
    assert s.reach(hot, 0.00419) == s.Reached(10.0, 45.0, 10.0)
    rows = {row["target"]: row["seeds"][0] for row in s.hot_summary([cold, hot], (1.05, 1.2))}
    assert rows[1.05]["steps"] == s.Factor(60 / 10, "")
    assert rows[1.05]["work"] == s.Factor(60 * 4.625 / 45.0, "")
    assert rows[1.2]["steps"] == s.Factor(40 / 10, "")  # 0.0048: cold in 40, hot in 10


def test_what_was_not_reached_is_a_bound() -> None:
    s, before = hot_starts, [leg(40, 10.0, mse=0.03)]
    cold = started(0, [], COLD, every=4.0)
    never = started(0, before, [(2, 0.02), (50, 0.01)], every=4.0)
    (row,) = s.hot_summary([cold, never], (1.05,))
    assert row["seeds"][0]["hot"] is None
    assert row["seeds"][0]["steps"] == s.Factor(60 / 50, "≤")
    assert row["seeds"][0]["work"] == s.Factor(240 / 210, "≤")
    text = text_of(tables.hot_starts([cold, never]))
    assert "(1 of 1 not reached)" in text
    assert "≤1.2" in text
    # the coarse levels alone reach it: no step on the finest mesh, a lower bound
    at_once = started(0, [leg(40, 10.0, mse=0.0041)], [(2, 0.0041), (60, 0.004)], every=4.0)
    (row,) = s.hot_summary([cold, at_once], (1.05,))
    assert row["seeds"][0]["hot"] == s.Reached(0, 10.0, 0.1)
    assert row["seeds"][0]["steps"] == s.Factor(60.0, "≥")
    # negative control: without what the coarse legs left, the first step counts
    blind = copy.deepcopy(at_once)
    blind["legs"][0]["validation"]["mse"] = 1.0
    (row,) = s.hot_summary([cold, blind], (1.05,))
    assert row["seeds"][0]["steps"] == s.Factor(30.0, "")


def test_factors_of_unknown_and_bounded_seeds() -> None:
    factor, words = hot_starts.Factor, cells.factors
    assert words([factor(2.0, ""), factor(8.0, "")]) == "× 4 [2, 8]"
    assert words([factor(2.0, ""), factor(8.0, "≥")]) == "× ≥4 [2, ≥8]"
    assert words([factor(2.0, "≤"), factor(8.0, "≥")]) == "× ~4 [≤2, ≥8]"
    assert words([factor(2.0, ""), factor(math.nan, "?")]) == "× 2 [2, 2] (1 unknown)"
    assert words([factor(math.nan, "?")]) == "unknown"
    assert hot_starts.step_factor(None, None, (60, 60)).bound == "?"


LEVELS = ["step", "level", "samples", "fine_loss", "coarse_loss", "norm", "variance"]


def measured_levels(norms: list[list[float]]) -> list[Run]:
    """Runs of multiscale training with norms of the terms of two levels at steps 80, 160, …"""
    return [
        run(
            "multiscale",
            seed,
            0.004,
            sizes=[8, 16],
            curves={
                "levels": [
                    LEVELS,
                    *(
                        [str(80 * (i // 2 + 1)), str(i % 2), "8", "1", "", str(v), str(v * v + 1)]
                        for i, v in enumerate(mine)
                    ),
                ]
            },
        )
        for seed, mine in enumerate(norms)
    ]


def test_norms_are_averaged_as_signed_squares() -> None:
    runs = measured_levels([[2.0, -1.0, 3.0, 1.0], [4.0, 0.5, 5.0, -2.0]])
    lines = curves.moments(runs, "norm")
    assert lines[0] == [(80.0, math.sqrt(10.0)), (160.0, math.sqrt(17.0))]
    assert all(math.isnan(value) for _, value in lines[1])  # −1 + 1/4 and 1 − 4 are below 0
    assert curves.moments(runs, "variance")[0] == [(80.0, 11.0), (160.0, 18.0)]


def test_a_norm_that_is_none_is_not_told_apart_from_none() -> None:
    runs = measured_levels([[2.0, -1.0, 3.0, 1.0], [2.1, 0.5, 3.0, -0.2], [2.0, 1.0, 3.1, -0.9]])
    found = {one["level"]: one["square"] for one in curves.term_norms(runs, 160)}
    assert found[0].value == pytest.approx((9.0 + 9.0 + 9.61) / 3)
    assert found[0].low > 0
    assert found[1].value == pytest.approx((1.0 - 0.04 - 0.81) / 3)
    assert found[1].low < 0 < found[1].high
    late = curves.term_norms(runs, 80)[0]["square"]
    assert late.value == pytest.approx((13.0 + 13.41 + 13.61) / 6)
    text = text_of(tables.corrections(runs))
    root = 1e3 * math.sqrt((13.0 + 13.41 + 13.61) / 6)
    assert f"| denoise-resnet | standard | {root:.2f} [" in text
    assert " [0, " in text  # of the other term


# ---- evidence ----


def grades(claim: str, found: list[Run]) -> list[tuple[str, str]]:
    origin = {**provenance({}, 0, "cpu", "float32"), "commit": "0" * 40, "dirty": False}
    (named,) = (c for c in CLAIMS if c.id == claim)
    outcomes = evidence_document(named, found, origin)["criteria"]
    return [(o["quantity"], o["outcome"]) for o in outcomes]


def test_evidence_of_the_table() -> None:
    runs = table_runs((0.00401, 0.00421, 0.00441)) + table_runs((0.006, 0.0063, 0.0066), "mfc")
    found = evidence.cost_reduction(runs)
    losses = [
        m for m in found if m["quantity"] == "score_loss" and m["conditions"]["conv"] == "mfc"
    ]
    assert losses[0]["value"] == pytest.approx(0.5)
    assert losses[0]["conditions"]["score"] == "MSE"
    assert found[0]["conditions"] == {
        "task": "denoising",
        "network": "ResNet",
        "conv": "standard",
        "cost": "work units",
    }
    assert grades("cost-reduction", found) == [
        *[("cost_reduction", "sharper")] * 3,
        *[("score_loss", "holds")] * 2,
        *[("cost_reduction", "sharper")] * 3,
        ("score_loss", "fails"),
        ("score_loss", "holds"),
    ]
    assert grades("mfc-speed-up", evidence.mfc_speed_up(runs))[-2:] == [
        ("score_loss", "fails"),
        ("score_loss", "holds"),
    ]
    (mse, _) = evidence.mfc_in_cnn(runs)
    assert mse["value"] == pytest.approx(0.0)  # both have the same single-scale errors


def test_evidence_of_low_noise_and_hot_starts() -> None:
    runs = [{**one, "task": "denoise:0.05"} for one in table_runs((0.0041, 0.0043, 0.0045))]
    found = evidence.standard_multiscale(runs)
    assert found[0]["value"] == pytest.approx(4800 / 287.5)
    assert evidence.standard_multiscale([{**one, "task": "denoise:0.4"} for one in runs]) == []
    rows = [(2, 0.02), (6, 0.0041), (60, 0.004)]
    pairs = [
        one
        for seed in (0, 1, 2)
        for one in (started(seed, [], COLD, 4.0), started(seed, [leg(40, 10.0, 0.03)], rows, 4.0))
    ]
    found = evidence.hot_start(pairs)
    assert [m["value"] for m in found] == pytest.approx([60 / 6, 40 / 6, 40 / 6])
    # all seeds alike, but the validations are 2, 6, 60 and 2, 20, 40, 60: met at 41 … 60 and 3 … 6
    assert found[0]["interval"] == pytest.approx([41 / 6, 60 / 3])
    outcomes = [grade for _, grade in grades("hot-start", found)]
    assert outcomes == ["holds", "undecided", "undecided"]  # 5 lies in the other two intervals


def test_a_biased_step_is_seen() -> None:
    generator = np.random.default_rng(0)
    finest, others, steps = (1.0 + 0.2 * generator.normal(size=(100, 5)) for _ in range(3))
    fair = measured.bias_along(steps, finest, others)
    assert fair.low < 0.0 < fair.high
    biased = measured.bias_along(1.2 * steps, finest, others)
    assert biased.low > 0.0
    assert biased.value == pytest.approx(0.2, abs=0.05)


def test_a_wrong_gradient_is_seen() -> None:
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = torch.nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)
    assert measured.gradient_error(layer, x, x) < 1e-8

    class Wrong(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            made = self.layer(value)
            return made + 0.01 * (made.detach() - made) if made.requires_grad else made

    assert measured.gradient_error(Wrong(), x, x) > 1e-4


# ---- tables, figures and the kind ----


def test_tables_and_figures_of_made_runs() -> None:
    runs = table_runs((0.0060, 0.0062, 0.0064)) + table_runs((0.0041, 0.0042, 0.0043), "mfc")
    noisy = [{**one, "task": f"denoise:{s}"} for one in runs for s in (0.1, 0.2)]
    results = {
        "table": {"runs": runs},
        "noise": {"runs": [one for one in noisy if not one.get("budget")]},
    }
    kind = KINDS["training"]
    text = text_of(kind.tables(results))
    assert "| standard | single | **4.20 ± 0.20** |" in text
    assert "| denoise-resnet | standard | 1.48 [" in text
    assert "4.3 standard errors" in text
    said = " ".join(kind.summary(results))
    assert "1.00 to 1.48 times the test MSE" in said
    assert "better beyond doubt in 0, worse in 1" in said
    runs = results["noise"]["runs"]
    picture = figure_bytes(figures.convolutions(runs), "png")
    assert picture == figure_bytes(figures.convolutions(runs), "png")
    other = [{**one, "test": {**one["test"], "mse": 2.0 * one["test"]["mse"]}} for one in runs]
    assert picture != figure_bytes(figures.convolutions(other), "png")


SMALLEST: Run = {
    "seeds": [0, 1],
    "base": {"size": 16, "levels": 2, "counts": [4, 2], "steps": 2, "stages": [2, 1], "threads": 1}
    | {"validation_tiles": 2, "test_tiles": 2, "device": "cpu"},
    "setups": {"denoise-resnet": {"task": "denoise:0.2", "width": 4, "layers": 2}},
    "block": {
        "one": {
            "setups": "all",
            "variants": [{"strategy": "single"}],
            "axes": {"conv": ["standard"]},
        }
    },
}


def changed(**changes: Any) -> Run:
    """The smallest choices with others in their place: ``block__one__setups=...``."""
    choices = copy.deepcopy(SMALLEST)
    for path, value in changes.items():
        *way, last = path.split("__")
        target = choices
        for step in way:
            target = target[step]
        target[last] = value
    return choices


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (changed(seed=[0]), r"choice of a training study.*did you mean 'seeds'"),
        (changed(seeds=3), r"`seeds` must be a list with entries; got 3"),
        (changed(seeds=[-1]), r"`block.one`, denoise-resnet, single, standard, seed -1: `seed`"),
        (changed(seeds=[0, 0]), r"must not have a run twice; got .*seed 0 again"),
        (changed(setups={}), r"`setups` must have entries"),
        (changed(block={}), r"`block` must have entries"),
        (changed(setups__x=1), r"`setups.x` must be a table; got 1"),
        (changed(block__one__setups=["denoise-unet"]), r"block.one.setups.*mean 'denoise-resnet'"),
        (changed(block__one__variant=[]), r"key of block.one.*did you mean 'variants'"),
        (changed(block__one__variants=[]), r"`block.one.variants` must be a list of tables"),
        (changed(block__one__axes={"conv": "mfc"}), r"axes.conv` must be a list with entries"),
        (changed(block__one__axes={"conv": ["mcf"]}), r"`block.one`.*did you mean 'mfc'"),
        (changed(base__stepz=3), r"option.*did you mean 'steps'"),
    ],
)
def test_bad_choices_are_refused_before_training(choices: Run, message: str) -> None:
    KINDS["training"].parts(SMALLEST)  # sound before the change
    with pytest.raises(InputError, match=message):
        KINDS["training"].parts(choices)


def test_an_interrupted_block_goes_on_run_by_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradconv.train.trainer import Trainer

    kind = KINDS["training"]
    (part,) = kind.parts(SMALLEST).values()
    trained: list[int] = []
    fit = Trainer.fit

    def counted(self: Trainer, *given: Any) -> Any:
        if len(trained) == stop:
            raise KeyboardInterrupt
        trained.append(self.config.seed)
        return fit(self, *given)

    monkeypatch.setattr(Trainer, "fit", counted)
    stop = 1
    with pytest.raises(KeyboardInterrupt):
        kind.measure(part, Workplace(tmp_path))
    stop = 9
    told: list[tuple[float, ...]] = []
    found = kind.measure(part, Workplace(tmp_path, progress=lambda *words: told.append(words)))
    assert trained == [0, 1]
    assert [one["seed"] for one in found["runs"]] == [0, 1]
    assert told[-1][:2] == (2, 2)
    monkeypatch.setattr("gradconv.studies.kinds.training.source_digest", lambda: "another source")
    kind.measure(part, Workplace(tmp_path))
    assert trained == [0, 1, 0, 1]


# ---- what is stored ----


def test_results_are_of_the_study() -> None:
    stored = read_documents(STUDY)
    assert stored, "the study has no results"
    for name, document in stored.items():
        origin, kept = document["provenance"], document["results"]["runs"]
        assert document["part"] == name
        assert origin["configuration_hash"] == configuration_hash(origin["configuration"])
        seeds = origin["configuration"]["seeds"]
        assert [r["seed"] for r in kept] == seeds * (len(kept) // len(seeds))
        for one in kept:
            assert all(math.isfinite(v) for v in one["test"].values())
            assert one["totals"]["work"] == pytest.approx(sum(leg["work"] for leg in one["legs"]))


def test_results_are_those_of_the_configuration() -> None:
    """Each stored run is the one that the configuration asks for, whatever defaults have become."""
    parts, stored = load_study("training", STUDIES).parts("full"), read_results(STUDY)
    assert list(parts) == list(stored)

    def differing(part: Run, kept: list[Run]) -> int:
        wanted = [making.config_of(one).identity() for one in making.runs_of(part)]
        pairs = zip(wanted, kept, strict=True)
        return sum(configuration_hash(w) != s["configuration_hash"] for w, s in pairs)

    for name, part in parts.items():
        kept = stored[name]["runs"]
        assert not differing(part, kept), name
        assert differing({**part, "base": {**part["base"], "lr": 6e-3}}, kept)  # the control


def test_the_table_is_made_of_the_results() -> None:
    study = load_study("training", STUDIES)
    written = (STUDY / "table.md").read_text(encoding="utf-8")
    results = read_results(STUDY)
    assert markdown(study, results) == written
    for stored in results.values():  # negative control: one run of each block is another
        one = stored["runs"][0]
        one["test"]["mse"] *= 1.5
        for row in one["curves"].get("validation", [])[1:]:
            row[5] = str(2.0 * float(row[5]))
    assert markdown(study, results) != written


def test_evidence_is_made_of_the_results() -> None:
    """Stored evidence, as the ledger reads it, is what the stored runs come to."""
    kept = read_folder(STUDIES / "claims" / "data", CLAIMS)
    assert set(kept) == {claim.id for claim in CLAIMS if not claim.live}
    assert not any(one.provenance["dirty"] for one in kept.values())
    results = read_results(STUDY)
    table, noise, hot = (results[b]["runs"] for b in ("table", "noise", "hot-starts"))
    anew = {
        "cost-reduction": (evidence.cost_reduction, table),
        "mfc-speed-up": (evidence.mfc_speed_up, table),
        "standard-multiscale": (evidence.standard_multiscale, noise),
        "hot-start": (evidence.hot_start, hot),
    }
    for claim, (measure, runs) in anew.items():
        found = {json.dumps(m, sort_keys=True) for m in measure(runs)}
        assert found == {json.dumps(m, sort_keys=True) for m in kept[claim].measurements}, claim
        other = copy.deepcopy(runs)  # the control: another run gives other evidence
        for one in other:
            one["test"]["mse"] *= 1.0 + 0.1 * one["seed"]
            one["legs"] = one["legs"][1:] or one["legs"]
        assert found != {json.dumps(m, sort_keys=True) for m in measure(other)}, claim


def test_small_enough_to_be_kept() -> None:
    assert all(path.stat().st_size < 400_000 for path in STUDY.glob("*.png"))
    assert sum(path.stat().st_size for path in (STUDY / "data").iterdir()) < 2_000_000
