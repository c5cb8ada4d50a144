"""``gradconv train``: its help, its plan and its run."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from train_command_line import TINY, Call, make_call  # noqa: F401  (fixtures)

from gradconv import cli
from gradconv.errors import InputError
from gradconv.images import IMAGES
from gradconv.train import STRATEGIES, TASKS, TrainingConfig
from gradconv.train.command import HELP, read_choice
from gradconv.train.networks import CONVOLUTIONS, NETWORKS
from gradconv.train.optimisers import OPTIMISERS, SCHEDULES

# -- help -----------------------------------------------------------------------------------------


def test_every_choice_has_an_option_and_no_option_is_without_one() -> None:
    assert list(HELP) == [f.name for f in dataclasses.fields(TrainingConfig)]


@pytest.mark.parametrize("field", dataclasses.fields(TrainingConfig), ids=lambda f: f.name)
def test_the_help_states_the_default(field: dataclasses.Field[Any]) -> None:
    stated = HELP[field.name].partition("Default: ")[2]
    if field.default is None:
        # what stands in for it, in words; a value would be another default
        assert not re.fullmatch(r"[-+\d.e]+\.|true\.|false\.|none\.", stated)
        return
    value = field.default
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = f"{value:g}" if isinstance(value, float) else text
    assert stated.startswith(text)
    assert re.fullmatch(r"\.|: never\.", stated[len(text) :])


def placeholder(cls: type[Any], name: str) -> str:
    """``name[:A[:B]]``, optional where there is a default."""
    made = ""
    for field in reversed(dataclasses.fields(cls)):
        needed = field.default is dataclasses.MISSING
        made = f":{field.name.upper()}{made}" if needed else f"[:{field.name.upper()}{made}]"
    return name + made


@pytest.mark.parametrize(
    ("choice", "registry"), [("task", TASKS), ("strategy", STRATEGIES), ("data", IMAGES)]
)
def test_the_help_names_all_that_is_registered(choice: str, registry: Any) -> None:
    named = HELP[choice].partition(". Default")[0].split(", ")
    assert sorted(named) == sorted(placeholder(registry[n], n) for n in registry.names)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("network", NETWORKS),
        ("conv", CONVOLUTIONS),
        ("optimiser", OPTIMISERS),
        ("schedule", SCHEDULES),
        ("norm", ("group", "instance", "batch")),
        ("padding", ("periodic", "reflect", "zero")),
        ("route", ("chain", "direct")),
        ("precision", ("32", "bf16", "64")),
        ("device", ("auto", "cpu", "cuda")),
    ],
)
def test_the_help_names_all_that_is_known(choice: str, names: Any) -> None:
    sentence = re.sub(r" \(.*?\)| normalisation", "", HELP[choice].partition(".")[0])
    assert sorted(re.split(r", | or ", sentence)) == sorted(names)


def test_help_at_the_terminal() -> None:
    shown = CliRunner().invoke(cli.app, ["train", "--help"], catch_exceptions=False)
    assert shown.exit_code == 0
    text = " ".join(shown.output.split())
    for name, sentence in HELP.items():
        assert f"--{name.replace('_', '-')} TEXT" in text
        assert sentence in text


# -- text to values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "12", 12),
        ("lr", "1e-3", 1e-3),
        ("restarts", " True", True),
        ("prefetch", "false", False),
        ("counts", "4, 2,1", (4, 2, 1)),
        ("stop", "20,0.01", (20, 0.01)),
        ("mesh_free_widths", "0.01,0.02", (0.01, 0.02)),
        ("task", "denoise:0.2", "denoise:0.2"),
        ("precision", "32", "32"),
        ("memory", "2", 2.0),
    ],
)
def test_text_becomes_a_value_of_its_kind(name: str, text: str, value: Any) -> None:
    found = read_choice(name, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("steps", "x", "a whole number"),
        ("steps", "1.5", "a whole number"),
        ("steps", "", "a whole number"),
        ("lr", "fast", "a number"),
        ("prefetch", "yes", "true or false"),
        ("counts", "4,,1", "Samples of each term"),
        ("stop", "20", "WINDOW,TOLERANCE"),
        ("mesh_free_widths", "1,2,3", "LEAST,MOST"),
    ],
)
def test_text_of_another_kind(name: str, text: str, rule: str) -> None:
    with pytest.raises(InputError, match=f"^`{name}` must be {rule}.*; got '{text}'$"):
        read_choice(name, text)


# -- the plan -------------------------------------------------------------------------------------

PAPER = ("--size", "16", "--levels", "4", "--width", "4", "--layers", "2", "--device", "cpu")
PAPER += ("--counts", "128,64,32,16", "--steps", "2000", "--stages", "2000,1000,500,250")


@pytest.mark.parametrize(
    ("strategy", "work"), [("single", 480_000), ("multiscale", 74_000), ("full-multiscale", 28_750)]
)
def test_the_papers_plan(call: Call, strategy: str, work: float) -> None:
    code, out, err = call(*PAPER, "--strategy", strategy, "--dry-run", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "gradconv.plan/1"
    assert document["totals"]["work"] == work
    assert document["totals"]["steps"] == (3750 if strategy == "full-multiscale" else 2000)
    assert document["totals"]["flops"] > 0
    assert document["totals"]["seconds"] is None
    assert not list(Path().rglob("*"))


def test_the_plan_as_a_table_with_seconds(call: Call) -> None:
    code, out, err = call(*PAPER, "--strategy", "full-multiscale", "--dry-run")
    assert (code, err) == (0, "")
    assert "28 750" in out
    assert "seconds" not in out
    code, out, err = call(*TINY, "--strategy", "full-multiscale", "--dry-run", "--time", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    legs = document["legs"]
    assert all(leg["seconds_per_step"] > 0 for leg in legs)
    wanted = sum(leg["steps"] * leg["seconds_per_step"] for leg in legs)
    assert document["totals"]["seconds"] == pytest.approx(wanted)


def test_accumulation_and_a_budget_change_the_plan(call: Call) -> None:
    words = (*PAPER, "--strategy", "full-multiscale", "--dry-run", "--json")
    _, out, _ = call(*words, "--accumulation", "2")
    assert json.loads(out)["totals"]["work"] == 2 * 28_750
    for accumulation in ("1", "2"):
        _, out, _ = call(*words, "--budget", "work:14375", "--accumulation", accumulation)
        found = json.loads(out)["totals"]["work"]
        # whole steps, of which the costliest has 37 work units
        assert 14_375 - 37 * int(accumulation) <= found <= 14_375


def test_batch_normalisation_is_a_pass_a_term_in_the_plan(call: Call) -> None:
    words = (*PAPER, "--layers", "3", "--counts", "1,1,64,16", "--strategy", "multiscale")
    peaks = {}
    for norm in ("group", "batch"):
        _, out, _ = call(*words, "--dry-run", "--json", "--norm", norm)
        peaks[norm] = json.loads(out)["totals"]["peak_bytes"]
    # 64 + 16 samples on the second finest mesh, against 16 on the finest: 80 · 4^-1 to 16
    assert peaks["batch"] == pytest.approx(0.8 * peaks["group"], rel=0.05)


# -- a run ----------------------------------------------------------------------------------------


def test_a_run_leaves_its_files_and_a_second_one_reads_them(call: Call) -> None:
    words = (*TINY, "--strategy", "full-multiscale", "-o", "run")
    code, out, _ = call(*words, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["schema"] == "gradconv.training/1"
    assert document["totals"]["steps"] == 4
    stored = json.loads(Path("run/result.json").read_text())
    assert stored == document
    code, out, _ = call(*words)
    assert code == 0
    there = {p.name for p in Path("run").iterdir()}
    named = re.search(r"Written to run: (.*)$", " ".join(out.split()))
    assert named is not None
    for name in (
        named[1].replace("curves.png/pdf/svg", "curves.png, curves.pdf, curves.svg").split(", ")
    ):
        assert name.rstrip("/") in there
    assert f"{document['test']['psnr']:.2f}" in out
    for text in ("denoise:0.1:0.0, resnet", "16²", "test", "input"):
        assert text in out


def test_a_file_of_choices_gives_way_to_flags(call: Call) -> None:
    Path("run.toml").write_text('size = 32\nlevels = 3\ntask = "deblur"\ncounts = [4, 2, 1]\n')
    words = ("--config", "run.toml", "--width", "4", "--device", "cpu", "--dry-run", "--json")
    _, out, _ = call(*words)
    assert json.loads(out)["levels"] == [8, 16, 32]
    _, out, _ = call(*words, "--size", "16")
    assert json.loads(out)["levels"] == [4, 8, 16]
