"""Studies that need a device: refused where it is missing, but at the smallest size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from gradconv.errors import InputError
from gradconv.studies import load_study, run_study
from gradconv.studies.checking import complaints
from gradconv.studies.command import study_command

CONFIGURATION = """
kind = "training"
title = "Small"
question = "Does it run?"
needs = "cuda"
[choices]
seeds = [0]
[choices.base]
size = 16
levels = 2
counts = [2, 1]
steps = 1
stages = [1, 1]
validation_tiles = 1
test_tiles = 1
threads = 1
device = "cuda"
[choices.setups.denoise-resnet]
task = "denoise:0.2"
width = 2
layers = 2
[choices.block.table]
setups = "all"
variants = [{ strategy = "single" }]
[smoke.base]
size = 16
levels = 2
steps = 1
validation_tiles = 1
test_tiles = 1
threads = 1
device = "cpu"
"""


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that needs a GPU, on a machine without."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = tmp_path / "studies"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "configuration.toml").write_text(CONFIGURATION)
    return folder


def test_a_missing_device_is_named_before_any_work(studies: Path) -> None:
    study = load_study("tiny", studies)
    assert study.hashes("full")  # can be compared all the same
    target = studies.parent / "out"
    with pytest.raises(InputError, match=r"got tiny, which needs a cuda device at the size small"):
        run_study(study, "small", target)
    assert not target.exists()
    assert complaints(study) == []  # not run yet, and not for want of care


def test_the_smoke_size_runs_without_it(studies: Path, tmp_path: Path) -> None:
    results = run_study(load_study("tiny", studies), "smoke", tmp_path / "out")
    assert len(results["table"]["runs"]) == 1


def test_all_studies_run_but_those_without_device(studies: Path, tmp_path: Path) -> None:
    arguments = ["--studies", str(studies), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(study_command, ["--all", *arguments])
    assert result.exit_code == 0, result.exception
    assert "Small: left out, it needs a cuda device" in result.output
    named = CliRunner().invoke(study_command, ["tiny", *arguments])
    assert isinstance(named.exception, InputError)


def test_a_device_that_is_there_is_no_obstacle(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    load_study("tiny", studies).check_device("full")


def test_unknown_devices_are_refused(studies: Path) -> None:
    path = studies / "tiny" / "configuration.toml"
    path.write_text(CONFIGURATION.replace('needs = "cuda"', 'needs = "cdua"'))
    with pytest.raises(InputError, match=r"needs of .*did you mean 'cuda'"):
        load_study("tiny", studies)
    path.write_text(CONFIGURATION.replace("needs =", "neads ="))
    with pytest.raises(InputError, match=r"did you mean 'needs'"):
        load_study("tiny", studies)
