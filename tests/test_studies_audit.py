"""Studies of audited modules: choices, missing packages, laws beside measurements, figures."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gradconv.audit import audit
from gradconv.cli import app
from gradconv.errors import InputError
from gradconv.figures import STYLES, Style
from gradconv.studies import KINDS, load_study, read_results, run_study, subjects
from gradconv.studies.audit_words import order_cell, sentences
from gradconv.studies.kinds import Workplace
from gradconv.studies.running import check_run
from gradconv.studies.stored import read_documents, write_part
from gradconv.studies.subjects import SUBJECTS, make_subject

STUDIES = Path(__file__).resolve().parent.parent / "studies"
KIND = KINDS["audit"]
NOISY = {"title": "noisy", "noise": "pixel:20"}
MESH_FREE = {"make": "resnet", "conv": "mfc", "blocks": 1}
CLEAN = {"title": "clean", "noise": "none"}


def choices(**changed: Any) -> dict[str, Any]:
    return {
        "levels": [16, 32, 64, 128],
        "replicates": 8,
        "signal": "band-limited:2",
        "dtype": "float32",
        "explain": False,
        "module": {"net": {"make": "resnet", "each": {"blocks": [1, 4]}}},
        "case": {"noisy": NOISY},
        "along": "blocks",
        **changed,
    }


def measured(given: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    place = Workplace(folder)
    return {name: KIND.measure(part, place) for name, part in KIND.parts(given).items()}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Shallow and deeper networks, standard and mesh-free, with noise and without."""
    each = {"conv": ["standard", "mfc"], "blocks": [1, 4]}
    given = choices(
        module={"net": {"make": "resnet", "channels": 2, "each": each}},
        case={"noisy": NOISY, "clean": CLEAN},
    )
    return measured(given, tmp_path_factory.mktemp("networks"))


# ---- choices ----


def test_every_combination_is_a_part() -> None:
    each = {"conv": ["standard", "mfc"], "blocks": [1, 16]}
    module = {"net": {"make": "resnet", "each": each}, "lone": {"make": "resnet", "blocks": 2}}
    parts = KIND.parts(choices(module=module, case={"noisy": NOISY, "clean": CLEAN}))
    nets = [f"net-{c}-{b}_{n}" for c in each["conv"] for b in (1, 16) for n in ("noisy", "clean")]
    assert list(parts) == [*nets, "lone_noisy", "lone_clean"]
    part = parts["net-mfc-16_clean"]
    assert part["module"] == {"make": "resnet", "conv": "mfc", "blocks": 16}
    assert (part["noise"], part["case"]) == ("none", "clean")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"module": {}}, "`module` must hold a table or more; got {}"),
        ({"case": {"a/b": NOISY}}, "`case` tables must have names of letters"),
        ({"case": {"a": {"noise": "none"}}}, "`title` of a case must be text; got None"),
        ({"case": {"a": {**NOISY, "levels": [8]}}}, "`choice of a case` must be one of"),
        ({"case": {"a": {**NOISY, "noise": "pixl:1"}}}, "did you mean 'pixel'"),
        ({"module": {"a": {"make": "resnett"}}}, "did you mean 'resnet'"),
        ({"module": {"a": {"make": "resnet", "block": 1}}}, "did you mean 'blocks'"),
        ({"module": {"a": {"make": "resnet", "blocks": 0}}}, "`blocks` must be a whole number"),
        ({"module": {"a": {"make": "resnet", "conv": "fft"}}}, "`conv` must be one of mfc, stand"),
        ({"module": {"a": {"make": "resnet", "widths": [1, 2]}}}, "`widths` must be left out"),
        ({"module": {"a": {**MESH_FREE, "widths": [2, 1]}}}, "`widths` must"),
        ({"module": {"a": {**MESH_FREE, "widths": 0.1}}}, "`widths` must be two numbers; got 0.1"),
        ({"module": {"a": {"make": "standard", "blocks": 1}}}, "`standard` must have no options"),
        ({"module": {"a": {"make": "resnet", "each": {"blocks": 1}}}}, "`each` must hold lists"),
        ({"module": {"a": {"make": "standard"}}}, "`along` must be an option of every module"),
        ({"levels": [16, 32, 64]}, "at least 4"),
        ({"levels": [16, 32, 64, 96]}, "must double from one mesh to the next"),
        ({"replicates": 1}, "`replicates` must be a whole number from 2"),
        ({"memory": 0}, "`memory` must be positive"),
        ({"explain": 1}, "`explain` must be true or false; got 1"),
        ({"dtype": "half"}, "`dtype` must be"),
        ({"replicate": 4}, "did you mean 'replicates'"),
    ],
)
def test_bad_choices_are_refused_before_any_work(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        KIND.parts(choices(**changed))
    assert message in str(caught.value)


# ---- packages ----


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "find_spec", lambda name: None)

    def nothing(*_: Any) -> None:
        raise AssertionError("measured before the packages were asked for")

    monkeypatch.setattr(type(KIND), "measure", nothing)


@pytest.mark.usefixtures("without_packages")
def test_a_missing_package_is_named_before_any_work(tmp_path: Path) -> None:
    study = load_study("public-layers", STUDIES)
    assert len(study.parts("full")) == 33  # stored data can be checked without the packages
    with pytest.raises(InputError) as caught:
        run_study(study, "full", tmp_path)
    text = str(caught.value)
    assert "part spectral_average" in text
    assert "package neuraloperator, which is not installed: pip install gradconv[compare]" in text
    assert not list(tmp_path.iterdir())
    names = ["study", "depth", "public-layers", "--size", "full", "--studies", str(STUDIES)]
    ran = CliRunner().invoke(app, [*names, "-o", str(tmp_path / "out")])
    assert isinstance(ran.exception, InputError)
    assert "gradconv[compare]" in str(ran.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_packages")
def test_stored_parts_need_no_package(tmp_path: Path) -> None:
    study = load_study("public-layers", STUDIES)
    hashes = study.hashes("full")
    for place, (name, digest) in enumerate(hashes.items()):
        origin = {"configuration_hash": digest, "source": "another"}
        document = {"schema": "gradconv.study/1", "part": name, "place": place, "size": "full"}
        write_part(tmp_path, {**document, "provenance": origin, "results": {}})
    assert check_run(study, "full", tmp_path, keep=True) == []
    with pytest.raises(InputError, match=r"gradconv\[compare\]"):  # of another source: to be run
        check_run(study, "full", tmp_path)


def test_the_smoke_size_needs_none() -> None:
    for name in ("public-layers", "depth"):
        for part in load_study(name, STUDIES).parts("smoke").values():
            assert make_subject(part["module"]).packages == ()


def installed(name: str) -> bool:
    packages = make_subject({"make": name}).packages
    return all(find_spec(subjects.PACKAGES[package]) is not None for package in packages)


# Those of the extra `compare` too, where it is installed.
@pytest.mark.parametrize("name", [n for n in SUBJECTS if n != "resnet" and installed(n)])
def test_every_published_layer_can_be_audited(name: str) -> None:
    subject = make_subject({"make": name})
    found = audit(
        subject.factory,
        dim=2,
        hierarchy=(16, 32, 64, 128),
        noise="none",
        signal="plane-wave:3",
        dtype="float32",
        replicates=2,
        explain=False,
    )
    assert np.all(np.isfinite(found.series("rms_gap")[0]))


# ---- what is measured ----


def test_a_part_is_the_audit_of_its_choices(tmp_path: Path) -> None:
    given = choices(module={"conv": {"make": "standard"}}, along=None, seed=3)
    (found,) = measured(given, tmp_path).values()
    options = {k: given[k] for k in ("replicates", "signal", "dtype", "explain")}
    subject = make_subject({"make": "standard"})
    data = {"dim": 2, "hierarchy": given["levels"], "noise": NOISY["noise"], **options}
    same = audit(subject.factory, seed=3, **data)
    for quantity in ("rms_gap", "mean_gap"):
        assert found["rates"][quantity]["values"] == same.series(quantity)[0].tolist()
        assert found["rates"][quantity]["order"] == same.rate(quantity).order
    assert found["verdict"] == same.verdict
    other = audit(subject.factory, seed=4, **data)  # negative control
    assert found["rates"]["rms_gap"]["values"] != other.series("rms_gap")[0].tolist()


def test_depth_leaves_the_order_of_the_divergence(networks: dict[str, dict[str, Any]]) -> None:
    """Two-sided, against the law of a single layer; its negative control is the sign."""
    for blocks in (1, 4):
        found = networks[f"net-standard-{blocks}_noisy"]
        law = found["law"]["rms_gap"]
        assert law == pytest.approx(-2.0, abs=0.02)
        low, high = found["rates"]["rms_gap"]["order_interval"]
        assert low <= law <= high < 0
        assert not low <= -law <= high
        assert found["rates"]["rms_gap"]["verdict"] == "diverges"
        clean = networks[f"net-mfc-{blocks}_clean"]
        low, high = clean["rates"]["rms_gap"]["order_interval"]
        assert 0 < low <= clean["law"]["rms_gap"] + 0.1
        assert clean["rates"]["rms_gap"]["order"] == pytest.approx(2.0, abs=0.1)
        assert clean["verdict"] == "converges"


def test_modules_that_are_no_kernel_have_no_law(tmp_path: Path) -> None:
    """And a law that is no power on coarse meshes has no order to compare with."""
    none = {"rms_gap": None, "mean_gap": None}
    (part,) = KIND.parts(choices(module={"fno": {"make": "fno"}}, along=None)).values()
    assert audit_law(part) == none
    coarse = choices(
        module={"conv": {"make": "standard"}},
        along=None,
        case={"clean": {**CLEAN, "signal": "plane-wave:3"}},
        levels=[8, 16, 32, 64],
    )
    (part,) = KIND.parts(coarse).values()
    assert None in audit_law(part).values()


def audit_law(part: dict[str, Any]) -> dict[str, Any]:
    from gradconv.studies.kinds import audit as kind

    return kind._law(make_subject(part["module"]).kernel, part)


# ---- what is said and drawn ----


def test_sentences_follow_the_intervals(networks: dict[str, dict[str, Any]]) -> None:
    records = [r for n, r in networks.items() if n.startswith("net-standard")]
    noisy, clean = sentences(records)
    rate = records[0]["rates"]["rms_gap"]
    assert noisy.startswith("standard ResNet, noisy: order of the rms gap ")
    assert f"{order_cell(rate)} (diverges) at blocks 1" in noisy
    assert "lie in all 2 intervals: no change is seen" in noisy
    assert "law of a single layer −2.00" in noisy
    assert "clean" in clean
    changed = copy.deepcopy(records)  # negative control
    changed[2]["rates"]["rms_gap"]["order_interval"] = [1.0, 1.5]
    assert "no order lies in all 2 intervals: it changes" in sentences(changed)[0]


def test_verdicts_are_counted_by_case(networks: dict[str, dict[str, Any]]) -> None:
    records = [{**r, "along": None} for r in list(networks.values())[:3]]
    records[1]["module"], records[1]["case"] = "another", records[0]["case"]
    records[1]["verdict"] = "undecided"
    (first, *_) = sentences(records)
    assert "the gap diverges for 2 of 3 (" in first
    assert "is undecided for 1 of 3 (another)" in first


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda s: s.name)
def test_figures_draw_orders_and_gaps(networks: dict[str, dict[str, Any]], style: Style) -> None:
    orders, gaps = KIND.figures(networks, style)
    assert orders.drawing.get_size_inches()[0] == style.full
    drawn = [line.get_ydata() for axis in orders.drawing.axes for line in axis.get_lines()]
    for record in networks.values():
        order = record["rates"]["rms_gap"]["order"]
        assert any(len(y) == 1 and y[0] == order for y in drawn)
        values = record["rates"]["rms_gap"]["values"]
        points = [line.get_ydata() for axis in gaps.drawing.axes for line in axis.get_lines()]
        assert any(list(y) == values for y in points)
    assert "law derived for a single linear layer" in orders.caption
    changed = copy.deepcopy(networks)  # negative control: drawn from the results alone
    changed["net-standard-1_noisy"]["rates"]["rms_gap"] |= {
        "order": -1.2345,
        "order_interval": [-1.3, -1.2],
    }
    (again, _) = KIND.figures(changed, style)
    drawn = [list(line.get_ydata()) for axis in again.drawing.axes for line in axis.get_lines()]
    assert [-1.2345] in drawn


def test_rows_of_modules_and_an_order_that_is_missing(
    networks: dict[str, dict[str, Any]],
) -> None:
    records = {n: {**copy.deepcopy(r), "along": None} for n, r in networks.items()}
    for name, record in records.items():
        record["module"] = name
    record = records["net-standard-1_noisy"]
    record["rates"]["rms_gap"] |= {"order": None, "verdict": "undecided"}
    orders, gaps = KIND.figures(records, STYLES["screen"])
    (axis,) = orders.drawing.axes
    assert len(axis.get_yticks()) == len(records)
    assert len(gaps.drawing.axes) >= len(records)
    (table,) = KIND.tables(records)
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells["rms gap"] == "undecided"
    assert cells["law of a layer"].startswith("−2.0")
    assert "aliasing" in cells
    assert "reasons" not in cells  # nothing was explained


def test_findings_stand_under_the_table(tmp_path: Path) -> None:
    given = choices(module={"conv": {"make": "standard"}}, along=None, explain=True)
    found = measured(given, tmp_path)
    (table,) = KIND.tables(found)
    reasons = table.rows[0][table.header.index("reasons")]
    assert reasons == "kernel tied to the grid"
    assert any("breaks: (module): kernel tied to the grid: its response" in n for n in table.notes)


# ---- what is stored ----


def test_the_stored_references_are_as_the_theory_says() -> None:
    """Standard and mesh-free convolutions stand beside what they are compared with."""
    found = read_results(STUDIES / "public-layers")
    low, high = found["standard_average"]["rates"]["rms_gap"]["order_interval"]
    assert low <= -2 <= high < 0
    low, high = found["mesh-free_no-noise"]["rates"]["rms_gap"]["order_interval"]
    assert 0 < low <= 2 <= high
    versions = read_documents(STUDIES / "public-layers")["fno_average"]["provenance"]["versions"]
    assert versions["neuraloperator"] != "absent"


def test_stored_depth_leaves_the_orders() -> None:
    found = read_results(STUDIES / "depth")
    depths = sorted({int(name.split("_")[0].split("-")[2]) for name in found})
    assert depths[0] == 1
    assert depths[-1] == 16
    for blocks in depths:
        low, high = found[f"resnet-standard-{blocks}_noise"]["rates"]["rms_gap"]["order_interval"]
        assert low <= -2 <= high < 0
        low, high = found[f"resnet-mfc-{blocks}_no-noise"]["rates"]["rms_gap"]["order_interval"]
        assert 0 < low <= 2 <= high
