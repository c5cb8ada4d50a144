"""``gradconv audit --estimator`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradconv import InputError
from gradconv.cli import app

LOOPS = """
import torch
from torch import nn
from gradconv.audit import EstimatorLoop

def loop(sign=-1.0, **declared):
    torch.manual_seed(0)
    module = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    pool = nn.AvgPool2d(2)

    def loss(x):
        return (module(x) - x).square().mean()

    def step():
        fine = torch.randn(2, 1, 16, 16)
        return loss(pool(torch.randn(4, 1, 16, 16))) + loss(fine) + sign * loss(pool(fine))

    return step, module, declared

def sound():
    return loop()[:2]

def added():
    return loop(1.0)[:2]

def declared():
    step, module, _ = loop()
    return EstimatorLoop(step, module, hierarchy=(8, 16), batch_sizes=(4, 2), work=3.5)

def broken():
    raise RuntimeError("no data")

def mse(p, t):
    return (p - t).square().mean()

nothing = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_loops.py").write_text(LOOPS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["audit", "--estimator", *words], catch_exceptions=False)


def test_the_table(folder: Path) -> None:
    result = run("my_loops:sound", "--levels", "3:4", "--steps", "6")
    assert result.exit_code == 0
    for word in ("terms of the estimator", "+1.000", "-1.000", "sound: no defect found in 6 steps"):
        assert word in result.output


def test_findings_and_the_exit_code(folder: Path) -> None:
    words = ("my_loops:added", "--levels", "8,16")
    plain, failing = run(*words), run(*words, "--fail-on-findings")
    assert (plain.exit_code, failing.exit_code) == (0, 1)
    assert "breaks: term 1 (n=16, 8): wrong sign" in plain.output
    assert run("my_loops:declared", "--fail-on-findings").exit_code == 0


def test_json_and_what_is_declared(folder: Path) -> None:
    found = json.loads(run("my_loops:declared", "--json").output)
    assert found["schema"] == "gradconv.estimator-audit/1"
    assert found["sound"]
    assert found["work"] == 3.5
    setup = found["provenance"]["configuration"]
    assert (setup["levels"], setup["batch_sizes"], setup["work"]) == ([8, 16], [4, 2], 3.5)


def test_flags_come_before_the_declaration(folder: Path) -> None:
    words = ("--batch-sizes", "8,2", "--work", "9", "--steps", "4", "--loss", "my_loops:mse")
    found = json.loads(run("my_loops:declared", *words, "--json").output)
    setup = found["provenance"]["configuration"]
    assert (setup["batch_sizes"], setup["work"], setup["steps"]) == ([8, 2], 9.0, 4)
    assert setup["loss"] == "mse"
    causes = {f["cause"] for f in found["findings"]}
    assert causes == {"batch sizes not as declared", "work not as claimed"}


REFUSED = [
    (("my_loops:sound",), r"`hierarchy` must be given"),
    (("my_loops:sound", "--levels", "4:3"), r"`levels` must not decrease; got 4:3"),
    (
        ("my_loops:sound", "--levels", "a,b"),
        r"`levels` must be whole numbers with commas; got 'a,b",
    ),
    (("my_loops:sound", "--levels", "8,16", "--batch-sizes", "x"), r"`batch-sizes` must be whole"),
    (
        ("my_loops:nothing", "--levels", "8,16"),
        r"`estimator` must be or make \(step, module\).*got 3",
    ),
    (("my_loops:broken", "--levels", "8,16"), r"`estimator` factory.*RuntimeError: no data"),
    (("my_loops:declared", "--noise", "none"), r"`noise` is no option with --estimator"),
    (("my_loops:declared", "-o", "out"), r"`output` is no option with --estimator"),
    (("nowhere:x",), r"`estimator` must name a module that can be imported"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda v: None)
def test_refused(folder: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(*words)


def test_its_options_belong_to_it() -> None:
    with pytest.raises(InputError, match=r"`work` belongs to --estimator; got --work"):
        CliRunner().invoke(app, ["audit", "torch.nn:Tanh", "--work", "3"], catch_exceptions=False)
