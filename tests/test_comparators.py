"""The stored study of published layers: complete, of its configuration, and its table its own."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gradconv.provenance import configuration_hash

STUDY = Path(__file__).resolve().parent.parent / "studies" / "comparators"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The study's script; it imports the comparators only when it makes them."""
    monkeypatch.syspath_prepend(str(STUDY))
    spec = importlib.util.spec_from_file_location("comparators_run", STUDY / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("layers", None)


@pytest.fixture
def stored() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((STUDY / "results.json").read_text(encoding="utf-8"))
    return document


def test_every_layer_and_case_is_there(study: ModuleType, stored: dict[str, Any]) -> None:
    setup = tomllib.loads((STUDY / "configuration.toml").read_text(encoding="utf-8"))
    cases = [case["name"] for case in setup["case"]]
    found = [(a["layer"], a["case"]) for a in stored["audits"]]
    assert found == [(layer, case) for layer in study.LAYERS for case in cases]
    assert stored["provenance"]["configuration"] == setup
    assert stored["provenance"]["configuration_hash"] == configuration_hash(setup)


def test_the_table_is_made_of_the_results(study: ModuleType, stored: dict[str, Any]) -> None:
    assert study.markdown(stored) == (STUDY / "table.md").read_text(encoding="utf-8")
    stored["audits"][0]["verdict"] = "undecided"  # negative control
    assert study.markdown(stored) != (STUDY / "table.md").read_text(encoding="utf-8")


def test_the_references_are_as_the_theory_says(stored: dict[str, Any]) -> None:
    """Standard and mesh-free convolutions are in the same table as what they are compared with."""
    orders = {}
    for audited in stored["audits"]:
        rate = next(r for r in audited["rates"] if r["quantity"] == "rms_gap")
        orders[audited["layer"], audited["case"]] = rate["order_interval"]
    low, high = orders["3×3 convolution", "pixel noise, average"]
    assert low <= -2 <= high < 0
    low, high = orders["mesh-free convolution", "no noise, average"]
    assert 0 < low <= 2 <= high


def test_small_enough_to_be_kept() -> None:
    assert sum(path.stat().st_size for path in STUDY.glob("*.*")) < 200_000
