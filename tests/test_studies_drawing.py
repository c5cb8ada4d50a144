"""Figures and tables of stored studies for a paper: files, captions, LaTeX."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from gradconv.cli import app
from gradconv.errors import InputError
from gradconv.figures import KINDS, TALLEST, find_style
from gradconv.latex import plain, tex
from gradconv.studies import find_studies, load_study, run_study
from gradconv.studies.drawing import draw_studies
from gradconv.studies.kinds.sweep import SweepStudy
from gradconv.studies.stored import read_documents
from gradconv.tables import Table

STUDIES = Path(__file__).resolve().parent.parent / "studies"
CONFIGURATION = """
kind = "sweep"
title = "Noise & order"
question = "Does the order depend on the noise?"
[choices]
dim = [1]
levels = "3:7"
replicates = 4
noise = ["none", "pixel:20"]
restriction = ["average"]
"""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies, the second without data."""
    folder = tmp_path_factory.mktemp("studies")
    for name in ("noise", "later"):
        (folder / name).mkdir()
        (folder / name / "configuration.toml").write_text(CONFIGURATION)
    run_study(load_study("noise", folder), "small", folder / "noise")
    return folder


# ---- LaTeX without TeX ----


def wrong(text: str) -> list[str]:
    """What TeX, or its fonts, would stumble over."""
    found = [f"non-ASCII {c!r}" for c in sorted({c for c in text if not c.isascii()})]
    bare = re.sub(r"(?m)^%.*$", "", text)  # comments
    bare = re.sub(r"\\[\\%&$#_{}]", "", bare)  # escaped
    bare = re.sub(r"\\(left|right)\b\\?[.()\[\]{}|]", "", bare)
    depth = 0
    for c in bare:
        depth += (c == "{") - (c == "}")
        if depth < 0:
            found.append("brace closed and not opened")
            break
    if depth > 0:
        found.append("brace opened and not closed")
    marks = re.findall(r"\\[()]", bare)
    if marks != [r"\(", r"\)"] * (len(marks) // 2):
        found.append("mathematics not closed")
    words = re.sub(r"\\\(.*?\\\)", "", bare, flags=re.DOTALL)
    words = re.sub(r"(?<=[}lcr])>(?=\{)", "", words)  # of a column's specification
    rows = re.sub(
        r"(?s)\\begin\{(tabular|longtable)\}.*?\\end\{\1\}",
        lambda m: m[0].replace("&", ""),
        words,
    )
    found += [f"{c!r} is not escaped" for c in "%&$#~^_<>|" if c in _without_labels(rows)]
    begun, ended = (re.findall(rf"\\{word}{{(.*?)}}", bare) for word in ("begin", "end"))
    if sorted(begun) != sorted(ended):
        found.append("environment not closed")
    return found


def _without_labels(text: str) -> str:
    """Names of files and labels may hold what text may not; ~ is a space that does not break."""
    text = re.sub(r"\\(label|includegraphics(\[.*?\])?)\{[^}]*\}", "", text)
    return text.replace("~", "") if "\\textasciitilde" not in text else text


SIGNS = (
    r"a_b & 50 % of #1 {x} ~ ^ < > | \ $5 – — “q” … ± × · → ≈ ∝ ∞ ∇ ∂ ‖ ∥ ∣ ≤ ≥ ≠ √ ½ ° ′ ℓ "
    "αβγδεζηθικλμνξπρστυφχψω ΓΔΘΛΞΠΣΦΨΩ Matérn naïve Åh 10⁻⁵ h₀ nᵈ xₗ h^order h^-2 h^−2"
).replace("Å", "A")


def test_every_sign_is_escaped_or_mapped() -> None:
    assert wrong(tex(SIGNS)) == []
    assert tex("10⁻⁵ at **5 %** of h^-2") == r"10\(^{-5}\) at \textbf{5 \%} of \(h^{-2}\)"
    assert tex(r"as $h^{-d}\sigma^2$, not $5") == r"as \(h^{-d}\sigma^2\), not \$5"
    assert tex("Matérn") == r"Mat\'{e}rn"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5 %", "'%' is not escaped"),
        ("a_b", "'_' is not escaped"),
        ("a & b", "'&' is not escaped"),
        ("a > b", "'>' is not escaped"),
        (r"\begin{longtable}{l>{\it}l}a > b & c\end{longtable} & d", "'&' is not escaped"),
        (r"\begin{longtable}{l>{\it}l}a > b & c\end{longtable}", "'>' is not escaped"),
        (r"\textbf{a", "brace opened and not closed"),
        (r"a}", "brace closed and not opened"),
        (r"\(a", "mathematics not closed"),
        (r"\begin{table}", "environment not closed"),
        ("∰", "non-ASCII '∰'"),
    ],
)
def test_what_tex_would_stumble_over_is_seen(text: str, complaint: str) -> None:
    assert complaint in wrong(text)


def test_an_unmapped_sign_stays_and_is_seen() -> None:
    assert wrong(tex("a ∰ b")) == ["non-ASCII '∰'"]


def test_mathematics_reads_as_unicode() -> None:
    formula = r"$h^{- d} h_{L}^{d} \lVert\theta\rVert \sigma^{2} \left(1 - 2^{- d}\right)$"
    assert plain(f"as {formula}.") == "as h⁻ᵈ h_Lᵈ ‖θ‖σ² (1 − 2⁻ᵈ)."
    assert plain(r"$\frac{\sqrt{K} h^{2}}{2}$, $5") == "(√(K) h²)/(2), $5"
    assert plain("no dollar") == "no dollar"


@pytest.mark.parametrize("name", find_studies(STUDIES))
def test_stored_captions_and_tables_are_sound_latex(name: str) -> None:
    study = load_study(name, STUDIES)
    results = {part: d["results"] for part, d in read_documents(study.folder).items()}
    assert wrong(tex(f"{study.title} {study.question}")) == []
    if not results:
        return  # said by the test of what is stored
    for table in study.kind.tables(results):
        assert wrong(table.latex()) == []
    for figure in study.kind.figures(results, find_style("one-column")):
        assert wrong(tex(figure.caption)) == []
        assert figure.drawing.get_figheight() <= TALLEST


def test_a_long_table_is_sound_latex() -> None:
    rows = (("x & y", "a\nb > c"), (SIGNS, "‖"))
    text = Table("t", SIGNS, ("a_b", "%"), rows, (SIGNS,), widths=(0.0, 0.5)).latex()
    assert wrong(text) == []
    assert r"a \newline b" in text
    assert wrong(text.replace(r"\(>\)", ">")) == ["'>' is not escaped"]


def test_a_table_is_sound_latex() -> None:
    table = Table("t", SIGNS, ("a_b", "%"), (("x & y", "**h^2**"), (SIGNS, "‖")), (SIGNS,))
    assert wrong(table.latex("table*")) == []
    assert table.latex("table*").count("table*") == 2
    assert wrong(table.latex().replace(r"\&", "%")) == ["'%' is not escaped"]  # control


# ---- the folder ----


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("style", ["screen", "one-column", "two-column"])
def test_everything_is_drawn_the_same_way_again(studies: Path, tmp_path: Path, style: str) -> None:
    found = [load_study(name, studies) for name in find_studies(studies)]
    told: list[tuple[str, float, float]] = []
    left_out = draw_studies(
        found, find_style(style), tmp_path / "a", lambda *words: told.append(words)
    )
    assert left_out == ["later"]
    assert told == [("noise", 0, 1), ("captions", 1, 1)]
    first = read(tmp_path / "a")
    names = {f"noise-figure.{kind}" for kind in KINDS}
    assert set(first) == {*names, "noise-orders.tex", "figures.tex", "README.md"}
    draw_studies(found, find_style(style), tmp_path / "b")
    assert read(tmp_path / "b") == first
    figures, table = first["figures.tex"].decode(), first["noise-orders.tex"].decode()
    assert wrong(figures) == []
    assert wrong(table) == []
    width = find_style(style).full
    assert rf"\includegraphics[width={width:.4g}in]{{noise-figure.pdf}}" in figures
    star = "*" if style == "two-column" else ""
    assert rf"\begin{{figure{star}}}[t]" in figures
    assert rf"\begin{{table{star}}}" in table
    assert r"\label{fig:noise-figure}" in figures
    assert r"\label{tab:noise-orders}" in table


def test_the_caption_has_the_law_in_symbols(studies: Path, tmp_path: Path) -> None:
    draw_studies([load_study("noise", studies)], find_style("one-column"), tmp_path)
    caption = (tmp_path / "figures.tex").read_text()
    assert r"\lVert\theta\rVert \sigma^{2}" in caption
    assert r"\(h_L\) the finest mesh size" in caption
    page = (tmp_path / "README.md").read_text()
    assert "h⁻ᵈ h_Lᵈ ‖θ‖σ² (1 − 2⁻ᵈ)" in page
    document = read_documents(studies / "noise")["sweep"]["provenance"]
    assert document["configuration_hash"][:12] in page
    assert "`gradconv study noise --size small --store`" in page
    for record in read_documents(studies / "noise")["sweep"]["results"]["rates"]:
        if record["quantity"] == "mean_gap":
            low, high = record["order_interval"]
            assert f"{record['order']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−") in page


def test_a_law_with_symbols_that_nobody_explains_stays_out_of_the_caption(studies: Path) -> None:
    """Numbers of such a law are in the figure; the caption would be no help."""
    records = read_documents(studies / "noise")["sweep"]["results"]["rates"]
    kind = SweepStudy()
    style = find_style("screen")

    def caption() -> str:
        return kind.figures({"sweep": {"rates": records}}, style)[0].caption

    assert "Leading term" in caption()
    for r in records:
        r["law"]["formula"] = r"M_{20} h^{2}"
    assert "Leading term" not in caption()
    for r in records:
        r["law"]["formula"] = None
    assert "Leading term" not in caption()


def test_figures_of_one_name_are_refused(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = SweepStudy.figures
    monkeypatch.setattr(SweepStudy, "figures", lambda *args: draw(*args) * 2)
    with pytest.raises(InputError, match="figures and tables must have names of their own"):
        draw_studies([load_study("noise", studies)], find_style("screen"), tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pictures: the command line is tested, not the drawing."""
    monkeypatch.setattr("gradconv.studies.kinds.sweep.gap_figure", lambda *a, **k: Figure())


@pytest.mark.usefixtures("quick")
def test_the_command(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> object:
        return CliRunner().invoke(app, ["figures", "--studies", str(studies), *words])

    result = call("--style", "two-column")
    assert result.exit_code == 0  # type: ignore[attr-defined]
    text = result.output  # type: ignore[attr-defined]
    assert "later: left out, nothing is stored" in text
    assert "build/figures/two-column" in text
    assert (tmp_path / "build/figures/two-column/noise-figure.pdf").exists()
    result = call("noise", "noise", "-o", "mine")
    assert "left out" not in result.output  # type: ignore[attr-defined]
    assert (tmp_path / "mine" / "noise-figure.svg").exists()
    for words, text in (
        (("--style", "two-colum"), "did you mean 'two-column'"),
        (("nois",), "did you mean 'noise'"),
        (("later",), "`studies` must have stored data to be drawn; got later"),
    ):
        error = call(*words).exception  # type: ignore[attr-defined]
        assert isinstance(error, InputError)
        assert text in str(error)
    shutil.rmtree(tmp_path / "mine")
