"""Diagnoses: bad input, finite data, documents, files and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diagnosis_toys import LEVELS, PROBLEM, Known, Scalar, linear
from multilevel_data import LINE, stencil, waves
from torch import nn

from gradconv import Problem
from gradconv.cli import app
from gradconv.errors import InputError
from gradconv.multilevel.diagnosis.diagnosing import diagnose
from gradconv.multilevel.diagnosis.figure import diagnosis_figure
from gradconv.multilevel.diagnosis.result import Diagnosis
from gradconv.samplers import CallableSampler, LoaderSampler, TensorSampler


@pytest.fixture(scope="module")
def stencil_diagnosis() -> Diagnosis:
    return diagnose(PROBLEM, hierarchy=(16, 32, 64, 128), samples=16, repetitions=0)


class Picky(nn.Module):
    """Fails, or gives infinity, on one mesh."""

    def __init__(self, n: int, how: str) -> None:
        super().__init__()
        self.inner, self.n, self.how = Scalar(), n, how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x)
        if x.shape[-1] != self.n:
            return made
        if self.how == "raise":
            raise RuntimeError("no such mesh")
        return made * float("inf") if self.how == "infinite" else made[..., :-1]


@pytest.mark.parametrize(
    ("how", "message"),
    [("raise", "no such mesh"), ("infinite", "`loss` must be finite"), ("shape", "mse")],
)
def test_a_level_that_fails_is_named(how: str, message: str) -> None:
    data = CallableSampler(Known(), LEVELS)
    with pytest.raises(InputError, match=message) as error:
        diagnose(Picky(16, how), data=data, samples=8)
    assert "level 2 (n=16)" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 3}, "`samples` must be a whole number from 4"),
        ({"epsilons": (0.1, -1.0)}, "`epsilons` must be positive"),
        ({"repetitions": 1}, "`repetitions` must be a whole number from 2"),
        ({"cost": "money"}, "`cost` must be one of"),
        ({"memory": 0}, "`memory` must be positive"),
        ({"hierarchy": (4, 8, 12, 24)}, "`levels` must double"),
        ({"hierarchy": (4, 8, 16)}, "at least 4 meshes"),
        ({"confidence": 1.5}, "`confidence`"),
        ({"workers": 0}, "`workers`"),
        ({"mode": "test"}, "`mode` must be train"),
        ({"noise": "pixel:1"}, "`noise` belongs to a module of one's own"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        diagnose(PROBLEM, **{"hierarchy": (16, 32, 64, 128), **options})


def test_samples_that_run_dry_are_named_with_their_level() -> None:
    fields = waves(LINE, 12)
    data = TensorSampler(fields, fields, "average", "chain", LINE)
    with pytest.raises(InputError, match="level 2") as error:
        diagnose(stencil(), data=data, samples=5)
    assert "ran dry" in str(error.value)
    random = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 1, 32)))
    found = diagnose(stencil(), data=(random, 2.0 * random), hierarchy=LINE)
    assert found.whole.samples == 4
    assert any("samples do not reach" in note for note in found.notes)


def test_gradients_that_do_not_vary_are_refused() -> None:
    quiet = Problem("stencil", signal="band-limited:2", noise="none", dim=1)
    if quiet.deterministic:
        with pytest.raises(InputError, match="level 0"):
            diagnose(quiet, hierarchy=(16, 32, 64, 128))
    data = CallableSampler(lambda n, number: Known()(n, 0), LEVELS)
    with pytest.raises(InputError, match="its variance is zero on level 0"):
        diagnose(Scalar(), loss=linear, data=data, samples=8)


def test_a_difference_without_variance_is_warned_of() -> None:
    class Flat(Known):
        def __call__(self, n: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = super().__call__(max(n, 16), number)
            return x[..., :n], y[..., :n]

    data = CallableSampler(Flat(), LEVELS)
    found = diagnose(Scalar(), loss=linear, data=data, samples=16)
    warned = [w.level for w in found.cautions if w.kind == "no variance"]
    assert warned == [1, 2]
    assert not found.forecasts
    assert any("no forecast" in note for note in found.notes)
    assert len(diagnosis_figure(found.to_dict()).axes) == 6


class Stream:
    """A loader that starts again."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(40):
            x = torch.randn(3, 1, LINE.sizes[-1], generator=generator, dtype=torch.float64)
            yield x, 0.5 * x


def test_loaders_are_gone_through_in_order() -> None:
    found = diagnose(stencil(), data=LoaderSampler(Stream(), LINE), samples=8)
    assert found.whole.samples == 8
    assert not found.measured
    with pytest.raises(InputError, match="`workers` must be 1 for a data loader"):
        diagnose(stencil(), data=LoaderSampler(Stream(), LINE), samples=8, workers=2)


def test_context_of_a_network_is_named_so() -> None:
    problem = Problem("stencil", noise="pixel:0.5", dim=1)
    found = diagnose(stencil(), data=problem, hierarchy=(16, 32, 64, 128), samples=8, repetitions=0)
    assert [law.own for law in found.laws] == [False] * 4
    assert all(law.within is None and not len(law.values) for law in found.laws)
    words = [law.of for law in found.laws]
    assert words[0] == "a single standard layer"
    assert words[2] == "a single mesh-free layer"


def test_document_is_json_and_the_figure_needs_nothing_else(
    stencil_diagnosis: Diagnosis, tmp_path: Path
) -> None:
    document = stencil_diagnosis.to_dict()
    assert document["schema"] == "gradconv.multilevel/1"
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    figure = diagnosis_figure(again)
    assert len(figure.axes) == 6
    drawn = [line.get_ydata() for line in figure.axes[0].get_lines()]
    law = document["laws"][1]["values"]
    assert any(len(y) == len(law) and np.allclose(y, law) for y in drawn)
    stencil_diagnosis.save(tmp_path)
    names = {"multilevel.json", "table.md", "figure.png", "figure.pdf", "figure.svg"}
    assert {p.name for p in tmp_path.iterdir()} == names
    text = (tmp_path / "table.md").read_text()
    assert "Warnings" in text or not document["warnings"]
    with pytest.raises(InputError, match="must be a folder"):
        stencil_diagnosis.save(tmp_path / "table.md")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["multilevel", *arguments])


def test_command_line() -> None:
    words = ("--kernel", "stencil", "--dim", "1", "--levels", "3:6", "--samples", "8")
    result = run(*words, "--epsilon", "1,0.5", "--repetitions", "2", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.output)
    assert [level["n"] for level in document["levels"]] == [8, 16, 32, 64]
    assert document["provenance"]["configuration"]["noise"] == "pixel:0.5"
    assert {f["epsilon"] for f in document["errors"]["forecasts"]} == {1.0, 0.5}
    assert all(f["measured"] for f in document["errors"]["forecasts"])
    shown = run("torch.nn:Conv1d(1, 1, 3, padding=1)", *words[2:], "--repetitions", "0")
    assert shown.exit_code == 0, shown.output
    assert "signed orders" in shown.output
    assert "whatever the orders" in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "exactly one must be given; got neither"),
        (("torch.nn:Conv1d(1, 1, 3)", "--kernel", "mfc"), "got both"),
        (("--kernel", "stencil", "--epsilon", "a"), "`epsilon` must be numbers"),
        (("torch.nn:Linear",), "`module` factory must make a module; called with"),
    ],
)
def test_bad_command_lines_are_named(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
