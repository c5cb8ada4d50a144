"""What a failed assertion says: table, figure, and a snippet that repeats it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradconv.testing import (
    CheckFailed,
    assert_adjoint,
    assert_mesh_independent,
    assert_order,
    assert_taylor,
    failures,
)
from gradconv.testing.session import Session, running

H = 2.0 ** -np.arange(3, 9)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> Any:
    """Keep the files of expected failures in the test's folder."""
    with running(Session("test", lambda: tmp_path)):
        yield


def test_message_has_table_figure_and_snippet(tmp_path: Path) -> None:
    values = H**1.0
    with pytest.raises(CheckFailed) as failed:
        assert_order(H, values, 2, label="gap")
    text = str(failed.value)
    for h, value in zip(H, values, strict=True):
        row = f"{h:.6g}".ljust(10) + "  " + f"{value:.6e}"
        assert row in text
    assert "+1.000" in text
    assert "does not contain 2" in text
    figure = failed.value.figure
    assert figure is not None
    assert str(figure) in text
    assert figure.parent == tmp_path
    assert figure.read_bytes().startswith(b"\x89PNG")


def repeated(snippet: str) -> CheckFailed:
    """The failure of a snippet that runs by itself."""
    with pytest.raises(CheckFailed) as failed:
        exec(compile(snippet, "snippet", "exec"), {})
    return failed.value


@pytest.mark.parametrize("replicates", [4, 40])
def test_snippet_repeats_the_failure(replicates: int) -> None:
    """Few numbers are written out, many are kept in a file."""
    paths = H * np.random.default_rng(1).uniform(0.9, 1.1, (replicates, 6))
    with pytest.raises(CheckFailed) as failed:
        assert_order(H, paths=paths, order=2, seed=3)
    snippet = failed.value.snippet
    assert ("np.load" in snippet) == (replicates == 40)
    assert "seed=3" in snippet
    assert repeated(snippet).reason == failed.value.reason


def test_snippet_runs_in_a_process_of_its_own() -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_order(H, H, 2)
    done = subprocess.run(
        [sys.executable, "-c", failed.value.snippet], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "CheckFailed" in done.stderr
    assert failed.value.reason in done.stderr


def test_snippet_takes_nested_lists_and_tensors() -> None:
    nested = [[float(h)] * 20 for h in H]
    with pytest.raises(CheckFailed) as failed:
        assert_order(H, paths=np.transpose(nested).tolist(), order=2)
    assert "np.load" in failed.value.snippet
    assert repeated(failed.value.snippet).reason == failed.value.reason
    weight = torch.tensor([0.3, 0.4], dtype=torch.float64)
    with pytest.raises(CheckFailed) as failed:
        assert_taylor(torch.linalg.vector_norm, weight, gradient={"x": 3 * weight})
    assert repeated(failed.value.snippet).reason == failed.value.reason


def test_a_snippet_that_cannot_be_written_does_not_hide_the_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("no disk")

    monkeypatch.setattr(failures, "snippet", broken)
    with pytest.raises(CheckFailed, match="no disk") as failed:
        assert_order(H, H, 2)
    assert "does not contain 2" in str(failed.value)


def test_snippet_keeps_a_module() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(2, 1, 3, padding=1)
    with pytest.raises(CheckFailed) as failed:
        assert_mesh_independent(conv, [16, 32])
    assert "torch.load" in failed.value.snippet
    assert repeated(failed.value.snippet).reason == failed.value.reason


def test_snippet_names_what_cannot_be_imported() -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_adjoint(lambda x: 2 * x, lambda y: 3 * y, shape=4)
    assert "cannot be imported by name" in failed.value.snippet
    assert "test_testing_failures.py" in failed.value.snippet
    assert "pytest 'test'" in failed.value.snippet


def test_snippet_leaves_out_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradconv.testing.snippets._LARGEST", 100)
    with pytest.raises(CheckFailed) as failed:
        assert_order(H, paths=np.ones((30, 6)), order=2)
    assert "too large to keep" in failed.value.snippet
    with pytest.raises(CheckFailed) as failed:
        assert_mesh_independent(torch.nn.Conv1d(4, 4, 3, padding=1), [16, 32])
    assert "too large to keep" in failed.value.snippet


def test_a_figure_that_cannot_be_drawn_does_not_hide_the_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("gradconv.figures.figure_bytes", broken)
    with pytest.raises(CheckFailed, match="could not be drawn") as failed:
        assert_order(H, H, 2)
    assert failed.value.figure is None
    assert "does not contain 2" in str(failed.value)


def test_no_figure_without_failure(tmp_path: Path) -> None:
    assert_order(H, H**2, 2)
    assert not list(tmp_path.iterdir())


def test_a_failure_travels_between_processes() -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_order(H, H, 2)
    again = pickle.loads(pickle.dumps(failed.value))
    assert str(again) == str(failed.value)
    assert again.reason == failed.value.reason
    assert again.figure == failed.value.figure


def test_table_is_aligned() -> None:
    text = failures.table(("a", "bb"), [["1", "2"], ["10", "200"]])
    assert text.splitlines() == ["a    bb", "1     2", "10  200"]
