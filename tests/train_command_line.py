"""Runs ``gradconv train`` in this process, and holds its errors against the contract."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradconv import cli
from gradconv.train.loop import Loop

TINY = (
    *("--size", "16", "--levels", "3", "--width", "4", "--layers", "2", "--counts", "4,2,1"),
    *("--steps", "2", "--stages", "2,1,1", "--validation-tiles", "2", "--test-tiles", "2"),
    *("--device", "cpu", "--threads", "1"),
)
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="call")
def make_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Call:
    """Run ``gradconv train`` in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gradconv", "train", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return invoke


@pytest.fixture(name="refused")
def make_refused(call: Call, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Error line of a command that must fail before the first step, and write nothing new."""

    def step(*arguments: Any) -> None:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(Loop, "_step", step)

    def invoke(*arguments: str) -> str:
        before = sorted(Path().rglob("*"))
        code, out, err = call(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err
        assert sorted(Path().rglob("*")) == before
        return err

    return invoke
