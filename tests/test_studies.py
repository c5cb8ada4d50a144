"""Studies: every one runs, resumes and is stored as its configuration says."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from gradconv.errors import InputError
from gradconv.studies import StudyFigure, StudyKind, find_studies, load_study, run_study
from gradconv.studies.checking import complaints
from gradconv.studies.kinds import KINDS
from gradconv.studies.stored import LARGE, SCHEMA, read_documents, write_part
from gradconv.tables import Table

STUDIES = Path(__file__).resolve().parent.parent / "studies"
NAMES = find_studies(STUDIES)
CONFIGURATION = """
kind = "{kind}"
title = "Counting"
question = "How often is a part measured?"
[choices]
parts = [1, 2, 3]
scale = 1.0
[full]
scale = 2.0
"""


# A minute of processor time between them; their kinds have quicker tests of their own.
SLOW = ("depth", "multilevel")
SMOKE = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES]


@pytest.mark.parametrize("name", SMOKE)
def test_the_smoke_size_runs(name: str, tmp_path: Path) -> None:
    study = load_study(name, STUDIES)
    results = run_study(study, "smoke", tmp_path)
    assert list(results) == list(study.parts("smoke"))
    assert all(study.kind.summary(results))
    table = (tmp_path / "table.md").read_text()
    assert study.question in table
    for figure in study.kind.figures(results, style("two-column")):
        assert figure.caption.strip().endswith((".", "?"))
        assert figure.alternative.strip()
        assert (tmp_path / f"{figure.name}.png").stat().st_size > 5000
    for found in study.kind.tables(results):
        assert found.rows
        assert found.caption.strip().endswith(".")
    # what is stored is of this size and of this source
    assert {d["size"] for d in read_documents(tmp_path).values()} == {"smoke"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    run_study(study, "smoke", tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_stored_data_are_those_of_the_configuration(name: str) -> None:
    """Data, table and figures: a changed configuration or drawing has to be stored anew."""
    assert complaints(load_study(name, STUDIES)) == []


# ---- a kind whose measurements are counted ----


def style(name: str) -> Any:
    from gradconv.figures import find_style

    return find_style(name)


class Counting(StudyKind):
    name = "counting"

    def __init__(self) -> None:
        self.measured: list[int] = []
        self.stop_at: int | None = None

    def parts(self, choices: dict[str, Any]) -> dict[str, dict[str, Any]]:
        if not choices["scale"] > 0:
            raise InputError(f"`scale` must be positive; got {choices['scale']}")
        return {f"part{n}": {"n": n, "scale": choices["scale"]} for n in choices["parts"]}

    def measure(self, part: dict[str, Any], work: Any) -> dict[str, Any]:
        if part["n"] == self.stop_at:
            raise KeyboardInterrupt
        self.measured.append(part["n"])
        work.progress(1, 2)
        return {"value": part["n"] * part["scale"]}

    def figures(self, results: Any, style: Any) -> list[StudyFigure]:
        with style.apply():
            drawing = Figure(figsize=(style.column, 2.0))
            drawing.subplots().plot([r["value"] for r in results.values()])
        return [StudyFigure("values", "Values.", "Values rise.", drawing)]

    def tables(self, results: Any) -> list[Table]:
        rows = tuple((n, f"{r['value']:g}") for n, r in results.items())
        return [Table("values", "Values.", ("part", "value"), rows)]

    def summary(self, results: Any) -> list[str]:
        return [f"{len(results)} values."]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Counting, Path]:
    kind = Counting()
    monkeypatch.setitem(KINDS._kinds, "counting", kind)
    folder = tmp_path / "studies"
    (folder / "count").mkdir(parents=True)
    (folder / "count" / "configuration.toml").write_text(CONFIGURATION.format(kind="counting"))
    return kind, folder


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "count" / "configuration.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_interrupted_study_goes_on(counting: tuple[Counting, Path]) -> None:
    kind, folder = counting
    study = load_study("count", folder)
    kind.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        run_study(study, "small", study.folder)
    assert kind.measured == [1, 2]
    kind.stop_at = None
    told: list[tuple[str, float, float]] = []
    results = run_study(study, "small", study.folder, tell=lambda *words: told.append(words))
    assert kind.measured == [1, 2, 3]
    assert [r["value"] for r in results.values()] == [1.0, 2.0, 3.0]
    done = [d for _, d, _ in told]
    assert done == sorted(done)
    assert told[-1][1:] == (3, 3)
    assert ("part3", 2.5, 3) in told
    assert not (study.folder / "unfinished").exists()


def test_what_changes_is_measured_again(
    counting: tuple[Counting, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = counting
    run_study(load_study("count", folder), "small", folder / "count")
    kind.measured.clear()
    edit(folder, "[1, 2, 3]", "[1, 2, 4]")
    run_study(load_study("count", folder), "small", folder / "count")
    assert kind.measured == [4]
    assert sorted(read_documents(folder / "count")) == ["part1", "part2", "part4"]
    run_study(load_study("count", folder), "full", folder / "count")  # another size
    assert kind.measured == [4, 1, 2, 4]
    kind.measured.clear()
    monkeypatch.setattr("gradconv.studies.running.source_digest", lambda: "another source")
    run_study(load_study("count", folder), "full", folder / "count", keep=True)
    assert kind.measured == []
    run_study(load_study("count", folder), "full", folder / "count")
    assert kind.measured == [1, 2, 4]


def test_disagreement_is_seen(counting: tuple[Counting, Path]) -> None:
    """The negative controls of the test of stored data."""
    _, folder = counting
    study = load_study("count", folder)
    assert complaints(study) == ["nothing is stored"]
    run_study(study, "small", study.folder)
    for name, document in read_documents(study.folder).items():
        document["provenance"] |= {"commit": "0" * 40, "dirty": False}
        write_part(study.folder, document)
        assert name in document["part"]
    assert complaints(study) == []
    sound = shutil.copytree(study.folder, folder.parent / "sound")

    def again() -> list[str]:
        found = complaints(load_study("count", folder))
        shutil.rmtree(study.folder)
        shutil.copytree(sound, study.folder)
        return found

    edit(folder, "scale = 1.0", "scale = 1.5")
    assert [f"part part{n} is of another configuration" for n in (1, 2, 3)] == again()
    edit(folder, "[1, 2, 3]", "[1, 2, 4]")
    assert again() == ["part part4 is missing", "part part3 is none of the configuration"]
    path = study.folder / "data" / "part2.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "results": {"value": 7.0}}))
    found = ["table.md is not made of the stored data", "values.png is not drawn from the stored"]
    assert [text[: len(f)] for text, f in zip(again(), found, strict=True)] == found
    path.write_text(json.dumps({**document, "provenance": {**document["provenance"], "dirty": 1}}))
    assert again() == ["part part2 comes from a source that is no commit"]
    (study.folder / "values.png").unlink()
    assert again() == ["values.png is missing"]
    shutil.copy(study.folder / "values.png", study.folder / "older.png")
    assert again() == ["older.png is drawn by nothing"]
    assert again() == []


def test_large_parts_are_packed(tmp_path: Path) -> None:
    document = {"schema": SCHEMA, "part": "big", "place": 0, "results": {"text": "ab" * LARGE}}
    write_part(tmp_path, document)
    (path,) = (tmp_path / "data").iterdir()
    assert path.name == "big.json.gz"
    first = path.read_bytes()
    assert len(first) < LARGE / 10
    assert json.loads(gzip.decompress(first)) == document
    assert read_documents(tmp_path) == {"big": document}
    write_part(tmp_path, document)
    assert path.read_bytes() == first
    write_part(tmp_path, {**document, "results": {}})
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["big.json"]


def test_bad_input_is_named(counting: tuple[Counting, Path], tmp_path: Path) -> None:
    kind, folder = counting
    with pytest.raises(InputError, match="`study` must be one of count; got 'coumt'; did you mean"):
        load_study("coumt", folder)
    with pytest.raises(InputError, match=r"`studies` must be a folder of studies.*got .*empty"):
        find_studies(tmp_path / "empty")
    study = load_study("count", folder)
    with pytest.raises(InputError, match="`size` must be one of full, small, smoke; got 'large'"):
        study.parts("large")
    for old, new, text in (
        ("scale = 2.0", "scale = -1.0", r"configuration.toml, full: `scale` must be positive"),
        (
            'kind = "counting"',
            'kind = "countng"',
            "`kind` must be one of .*mean 'counting'",
        ),
        ('title = "Counting"', "title = 3", "`title` of .* must be text; got 3"),
        ("[choices]", "[choises]", r"key in .*did you mean 'choices'"),
        ("[choices]", "small = 3\n[choices]", "`small` of .* must be a table; got 3"),
        ("[choices]", "[choices", "must have a readable .*configuration.toml"),
    ):
        before = (folder / "count" / "configuration.toml").read_text()
        edit(folder, old, new)
        with pytest.raises(InputError, match=text):
            load_study("count", folder).parts("full")
        (folder / "count" / "configuration.toml").write_text(before)
    run_study(study, "small", study.folder)
    (study.folder / "data" / "part1.json").write_text('{"schema": "gradconv.study/1"')
    with pytest.raises(InputError, match=r"stored data must be whole.*part1\.json"):
        run_study(study, "small", study.folder)
    assert kind.measured == [1, 2, 3]
