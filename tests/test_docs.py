"""What the documents say is run: README, docstrings, and the stored study of the demonstration."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

import gradconv
from gradconv import plots
from gradconv.cli import DEMO, DEMO_TITLE, OPTIONS
from gradconv.config import SweepConfig, option_names
from gradconv.provenance import configuration_hash

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
STUDY = ROOT / "studies" / "demo"


def test_readme_examples() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    text = "\n".join(blocks)
    parsed = doctest.DocTestParser().get_doctest(text, {}, "README", "README.md", 0)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(parsed)
    assert runner.summarize().failed == 0


def test_readme_commands_are_valid() -> None:
    """Every `gradconv sweep` line of the README names an allowed problem."""
    text = README.replace("\\\n", " ")
    commands = [shlex.split(line) for line in re.findall(r"^gradconv sweep .*$", text, re.M)]
    assert commands
    for command in commands:
        values = dict(zip(command[2::2], command[3::2], strict=True))
        values.pop("-o", None)
        flags: dict[str, object] = {}
        for flag, value in values.items():
            name = flag.removeprefix("--")
            assert name in OPTIONS
            flags[name] = value if name == "levels" else tuple(value.split(","))
        if "dim" in flags:
            flags["dim"] = tuple(int(d) for d in flags["dim"])  # type: ignore[attr-defined]
        assert SweepConfig(**flags).problems()  # type: ignore[arg-type]


def test_readme_configuration_is_valid() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        assert SweepConfig(**tomllib.loads(block)).problems()


def test_every_option_is_on_the_command_line() -> None:
    assert set(OPTIONS) == set(option_names())


@pytest.mark.parametrize(
    "module", [m.name for m in pkgutil.walk_packages(gradconv.__path__, "gradconv.")]
)
def test_docstring_examples(module: str) -> None:
    if module == "gradconv.__main__":
        return
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0


def test_package_docstring_example() -> None:
    result = doctest.testmod(gradconv)
    assert (result.failed, result.attempted > 0) == (0, True)


def test_study_holds_what_the_demonstration_computes() -> None:
    """Configuration and stored data of the front page agree, and so do its numbers."""
    stored = json.loads((STUDY / "rates.json").read_text())
    configuration = SweepConfig(**DEMO).identity()
    provenance = stored["provenance"]
    assert provenance["configuration"] == json.loads(json.dumps(configuration))
    assert provenance["configuration_hash"] == configuration_hash(configuration)
    assert provenance["commit"]
    assert provenance["dirty"] is False
    for r in stored["rates"]:
        if r["quantity"] == "mean_gap":
            low, high = r["order_interval"]
            text = f"**{r['verdict']}**, order {r['order']:+.2f} [{low:+.2f}, {high:+.2f}]"
            assert text.replace("-", "−") in README


def test_study_figure_is_drawn_from_its_data() -> None:
    """Every stored gap is a point of the figure."""
    stored = json.loads((STUDY / "rates.json").read_text())
    figure = plots.gap_figure(stored["rates"], DEMO_TITLE)
    drawn = [tuple(line.get_ydata()) for axis in figure.axes for line in axis.get_lines()]
    for r in stored["rates"]:
        if r["quantity"] in ("mean_gap", "rms_gap"):
            assert tuple(r["values"]) in drawn
    for name in ("figure.png", "figure.svg"):
        assert (STUDY / name).stat().st_size > 10_000


def test_stored_diagnosis_is_that_of_the_readme() -> None:
    """Its numbers are quoted, its picture is shown, and its command has its choices."""
    from gradconv.studies import load_study
    from gradconv.studies.stored import read_documents

    study = load_study("multilevel", ROOT / "studies")
    stored = read_documents(study.folder)["stencil"]
    assert stored["provenance"]["dirty"] is False
    assert stored["size"] == "full"
    found = stored["results"]
    text = beta_text(found)
    assert text in README
    assert beta_text({"groups": [{"beta": {"order": 2.0, "order_interval": [1, 3]}}]}) not in README
    assert "studies/multilevel/stencil.png" in README
    command = "gradconv multilevel --kernel stencil --noise pixel:0.5 --dim 1 --levels 5:10"
    assert command in README
    choices = found["configuration"]
    shown = {"model": "stencil", "noise": "pixel:0.5", "dim": 1}
    assert {k: choices[k] for k in shown} == shown
    assert choices["levels"] == [2**n for n in range(5, 11)]


def beta_text(found: dict[str, Any]) -> str:
    """How the README quotes β."""
    beta = found["groups"][0]["beta"]
    low, high = beta["order_interval"]
    return f"β = {beta['order']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
