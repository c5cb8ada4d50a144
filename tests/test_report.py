"""The page of all stored studies, read as text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from report_checks import Element, atlas_data, faults, read
from report_studies import QUANTITIES, Stored, cells, entries, write_studies

from gradconv.cli import app
from gradconv.errors import InputError
from gradconv.report.matrix import digits, noise_row, order_digits, packed
from gradconv.report.page import page
from gradconv.report.writing import mathematics, prose
from gradconv.studies import Study, StudyFigure, find_studies, load_study
from gradconv.studies.kinds import KINDS
from gradconv.studies.stored import read_documents

STUDIES = Path(__file__).resolve().parent.parent / "studies"
KIND = "stored-for-report"


@pytest.fixture(scope="module")
def kind() -> Iterator[str]:
    KINDS.register(KIND)(Stored)
    yield KIND
    del KINDS._kinds[KIND]


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_studies(tmp_path_factory.mktemp("report") / "studies", kind)


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return page(folder)


@pytest.fixture(scope="module")
def tree(text: str) -> Element:
    return read(text)


# ---- the page as a document ----


def test_the_page_is_sound(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('id="verdicts"', 'id="claims"', "id claims twice"),
        ('href="#provenance"', 'href="#origins"', "#origins leads nowhere"),
        ('alt="The gap of figure', 'title="The gap of figure', "without alternative text"),
        ("<main ", '<script src="https://example.org/x.js"></script><main ', "outside the page"),
        ("<style>", "<style>@import url(x.css);", "style loads"),
        ('<th scope="col"', "<th", "without scope"),
        ("<h2 ", "<h4 ", "closes <h4>"),
        ("</article>", "", "closes <article>"),
        ('<html lang="en">', "<html>", "no language"),
        ('<nav class="contents" aria-label="Contents">', "<nav>", "<nav> without a name"),
        ('<dl class="orders">', '<dl class="orders" tabindex="0">', "has no name"),
        ('<dl class="orders">', '<dl class="orders" onclick="x()">', "script in an attribute"),
        ('<h2 id="reading">How to read an order</h2>', "<h4>How</h4>", "level 4 after 1"),
        ("<!DOCTYPE html>", "", "no doctype"),
        ("</footer>", "</footer>" + " " * 5_000_000, " bytes"),
        ('class="foot"', 'class="foot" aria-labelledby="foot"', "aria-labelledby foot is missing"),
    ],
)
def test_a_broken_page_is_seen(text: str, old: str, new: str, fault: str) -> None:
    assert old in text
    assert any(fault in found for found in faults(text.replace(old, new, 1)))


def test_texts_are_escaped(text: str, tree: Element) -> None:
    assert not tree.all("b")
    assert "<b> is no tag & order −2 at h−d." in tree.by_id("central").text
    assert "<this>" not in text


# ---- what is on it ----


def test_every_claim_is_there_with_its_verdict_law_and_cases(tree: Element) -> None:
    cards = [card.text for card in tree.by_id("verdicts").all("li") if "card" in _classes(card)]
    assert len(cards) == len(entries()) == 12
    for card, entry in zip(cards, entries(), strict=True):
        assert card.startswith(f"{entry['number']} {entry['verdict']} {entry['title']}")
        assert entry["condition"] in card
        article = tree.by_id(f"claim-{entry['id']}")
        (badge,) = (e for e in article.all("span") if "badge" in _classes(e))
        assert badge.text == entry["verdict"]
        for part in (entry["title"], entry["statement"], entry["condition"], *entry["notes"]):
            assert _written(part) in article.text
        assert f"{entry['source']['version']}: {entry['source']['place']}" in article.text
        assert f"gradconv claims --only {entry['id']}" in article.text
        assert "Commit " in article.text
        (image,) = article.all("img")
        assert image.attributes["alt"] == f"The gap of {entry['id']} falls with order +2.00."
        rows = [[c.text for c in row.children] for row in article.all("tr")][1:]
        assert [(row[0], row[3]) for row in rows] == [
            (m["case"], m["grade"]) for m in entry["measurement"]
        ]
        for row, law in zip(rows, entry["law"], strict=bool(rows)):
            if "statement" in law:
                assert row[1:3] == [law["statement"], "0.01"]
            else:
                assert row[1:3] == ["3.5 h2", "order −1.99 [−2.01, −1.97] (diverges)"]


def _classes(element: Element) -> list[str]:
    return element.attributes.get("class", "").split()


def _written(text: str) -> str:
    """Text as `read` finds it in the page."""
    return read(str(prose(text))).text


def test_every_study_is_there(folder: Path, tree: Element) -> None:
    images = {e.attributes["alt"] for e in tree.all("img")}
    figures = {f.attributes["id"]: f for f in tree.all("figure")}
    for name in find_studies(folder):
        study = load_study(name, folder)
        results = {n: d["results"] for n, d in read_documents(study.folder).items()}
        assert f"gradconv study {name} --size" in tree.text
        for figure in study.kind.figures(results, _style()):
            assert figure.alternative in images
            shown = figures[f"figure-{name}-{figure.name}"]
            assert shown.all("figcaption")[0].text.startswith(f"Gap of {figure.name}, with its law")
            assert shown.all("msubsup")
        if name == "claims":
            continue
        for table in study.kind.tables(results):
            box = next(
                e
                for e in tree.all("caption")
                if e.attributes["id"] == f"table-{name}-{table.name}-caption"
            )
            assert box.text == table.caption
            (found,) = (t for t in tree.all("table") if box in t.children)
            rows = [[c.text for c in row.children] for row in found.all("tr")]
            assert rows == [
                list(table.header),
                *[[c.strip("*") for c in row] for row in table.rows],
            ]
        if results:
            for sentence in study.kind.summary(results):
                assert _written(sentence) in tree.text
    waiting = tree.by_id("study-waiting")
    assert "has not been run yet" in waiting.text
    assert "gradconv study waiting --size full --store" in waiting.text


def _style() -> Any:
    from gradconv.figures import SCREEN

    return SCREEN


def test_pictures_have_the_size_they_are_drawn_at(tree: Element) -> None:
    image = next(e for e in tree.by_id("central").all("img"))
    assert image.attributes["src"].startswith("data:image/png;base64,")
    assert int(image.attributes["width"]) == round(5.0 * 96)
    assert int(image.attributes["height"]) == round(1.5 * 96)


def test_provenance_of_every_part_is_there(folder: Path, tree: Element) -> None:
    for name in find_studies(folder):
        documents = read_documents(folder / name)
        if not documents:
            continue
        rows = [[c.text for c in r.children] for r in tree.by_id(f"origin-{name}").all("tr")][1:]
        assert [row[0] for row in rows] == list(documents)
        for row, document in zip(rows, documents.values(), strict=True):
            own = document["provenance"]
            differs = {False: "no", True: "yes", None: "unknown"}[own["dirty"]]
            assert row[1:7] == [
                own["commit"][:12],
                differs,
                own["configuration_hash"][:12],
                str(own["seed"]),
                own["device"],
                own["dtype"],
            ]
            versions = tree.by_id(f"versions-{row[7].removeprefix('set ')}").text
            assert versions == f"python 3.11.7, numpy {own['versions']['numpy']}"


def test_what_is_missing_is_said(kind: str, tmp_path: Path) -> None:
    found = read(page(write_studies(tmp_path / "few", kind, ["wide"])))
    for section, name in (("verdicts", "claims"), ("central", "gap"), ("atlas", "atlas")):
        assert f"This folder of studies has no study {name}." in found.by_id(section).text
    folder = write_studies(tmp_path / "all", kind)
    for path in folder.glob("*/data/*"):
        path.unlink()
    text = page(folder)
    assert faults(text) == []
    found = read(text)
    for section in ("verdicts", "central", "claims", "atlas"):
        assert "has not been run yet" in found.by_id(section).text
    assert not found.all("img")


# ---- the atlas ----


def test_the_atlas_holds_every_cell(text: str) -> None:
    data = atlas_data(text)
    assert_holds(data, cells())


def assert_holds(data: dict[str, Any], wanted: list[dict[str, Any]]) -> None:
    """Every cell, with law and measurement of every quantity, is in the page's data."""
    choices, texts = data["choices"], data["texts"]
    found = {}
    for row in data["cells"]:
        key = tuple(choices[name][row[place]] for place, name in enumerate(choices))
        found[key] = row
    assert len(found) == len(data["cells"]) == len(wanted)
    for cell in wanted:
        row = found[tuple(cell[name] for name in choices)]
        assert data["kernels"][row[6]] == cell["kernel"].partition(":")[0]
        assert data["noises"][row[7]] == noise_row(cell)
        for place, quantity in enumerate(QUANTITIES):
            own, record = cell["quantities"][quantity], data["records"][row[8 + place]]
            assert texts["status"][record[0]] == own["status"]
            assert texts["reason"][record[1]] == own["reason"]
            derived, measured = own.get("derived"), own["measured"]
            if derived is None:
                assert record[2:6] == [None] * 4
            else:
                assert record[2:5] == [
                    order_digits(derived["order"]),
                    derived["log"],
                    digits(derived["coefficient"]),
                ]
                assert texts["verdict"][record[5]] == derived["verdict"]
            ends = measured["interval"] or (None, None)
            assert record[6:10] == [
                order_digits(measured["order"]),
                *(order_digits(end) for end in ends),
                digits(measured["coefficient"]),
            ]
            assert texts["verdict"][record[10]] == measured["verdict"]
            assert texts["method"][record[11]] == measured["method"]


def test_a_lost_or_changed_cell_is_seen(text: str) -> None:
    data = atlas_data(text)
    with pytest.raises(AssertionError):
        assert_holds({**data, "cells": data["cells"][1:]}, cells())
    data["records"][7][6] = 17.0
    with pytest.raises(AssertionError):
        assert_holds(data, cells())


def test_numbers_are_short_and_near() -> None:
    assert [order_digits(v) for v in (2.0, -1.996, 0.123, 1234.56, None)] == [
        2,
        -2,
        0.12,
        1230,
        None,
    ]
    assert [digits(v) for v in (0.0, 3.14159, 1.23456e-7, 2.5e7)] == [0, 3.14, 1.23e-7, 2.5e7]
    exact = packed(cells())
    assert len(exact["records"]) <= 4 * len(cells())


# ---- writing ----


def test_formulas_become_mathml() -> None:
    found = mathematics(r"\frac{\sigma_w^2 h_L^{d}}{\sqrt{2 \pi}} \left(1 - 2^{-d}\right)")
    assert str(found) == (
        "<math><mrow><mfrac><mrow><msubsup><mi>σ</mi><mi>w</mi><mn>2</mn></msubsup>"
        "<msubsup><mi>h</mi><mi>L</mi><mrow><mi>d</mi></mrow></msubsup></mrow>"
        "<mrow><msqrt><mrow><mn>2</mn><mi>π</mi></mrow></msqrt></mrow></mfrac>"
        "<mrow><mo>(</mo><mn>1</mn><mo>−</mo><msup><mn>2</mn><mrow><mo>−</mo><mi>d</mi></mrow>"
        "</msup><mo>)</mo></mrow></mrow></math>"
    )
    assert str(mathematics(r"a + b")).count("<math>") == 2  # a line may break between terms
    summed = str(mathematics(r"\sum_{n=0}^{2} v_{n}"))
    assert "<munderover><mo>∑</mo>" in summed
    assert "&lt;" in str(mathematics("a < b"))
    assert "<mroot>" in str(mathematics(r"\sqrt[3]{x}"))
    for odd in (r"\frac{1", "x^", r"\left(", "}", r"\unknown{y}", ")", ""):
        assert read(str(mathematics(odd))).all("math")  # whatever comes, tags are closed


def test_sentences_become_html() -> None:
    assert str(prose("gap ~ h^-d/2, **−2** for `a<b` & 5 $")) == (
        "gap ~ <i>h</i><sup>−d/2</sup>, <strong>−2</strong> for <code>a&lt;b</code> &amp; 5 $"
    )
    assert str(prose("at h^0.5. Then")) == "at <i>h</i><sup>0.5</sup>. Then"
    assert "<math>" in str(prose(r"law $\alpha$ <i>"))
    assert "&lt;i&gt;" in str(prose(r"law $\alpha$ <i>"))


# ---- the command ----


def test_the_command_writes_one_file(folder: Path, tmp_path: Path, text: str) -> None:
    output = tmp_path / "new" / "report.html"
    found = CliRunner().invoke(app, ["report", "-o", str(output), "--studies", str(folder)])
    assert found.exit_code == 0, found.output
    assert output.read_text(encoding="utf-8") == text  # the same data give the same page
    assert [p.name for p in output.parent.iterdir()] == ["report.html"]
    assert str(output) in found.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "."], "`output` must name a file; got '.'"),
        (["-o", ""], "`output` must name a file; got ''"),
        (["--studies", "nowhere"], "`studies` must be a folder of studies"),
    ],
)
def test_bad_input_is_named(arguments: list[str], words: str) -> None:
    found = CliRunner().invoke(app, ["report", *arguments])
    assert isinstance(found.exception, InputError)
    assert words in str(found.exception)


# ---- the real studies ----


@pytest.mark.slow
def test_the_stored_studies_make_a_sound_page() -> None:
    """Figures are not drawn again but taken from the studies' folders, where there are data."""

    def stored(study: Study, figure: StudyFigure) -> bytes:
        return (study.folder / f"{figure.name}.png").read_bytes()

    text = page(STUDIES, draw=stored)
    assert faults(text) == []
    tree = read(text)
    ids = {e.attributes.get("id", "") for e in tree.all()}
    for name in find_studies(STUDIES):
        folder = STUDIES / name
        documents = read_documents(folder)
        assert f"gradconv study {name} --size" in tree.text
        for picture in folder.glob("*.png") if documents else ():
            assert f"figure-{name}-{picture.stem}" in ids
        if name == "atlas" and documents:
            assert_holds(atlas_data(text), documents["atlas"]["results"]["cells"])
        if name == "claims":
            for document in documents.values():
                entry = document["results"]["entry"]
                article = tree.by_id(f"claim-{entry['id']}").text
                assert entry["verdict"] in article
                assert html.unescape(_written(entry["statement"])) in article
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
