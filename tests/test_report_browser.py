"""The page in a real browser: it works by mouse and by keys, in both themes, at both widths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import page_in_browser as checks
import pytest
from browser import Browser, open_browser
from page_in_browser import HEIGHT, WIDTHS
from report_checks import faults, read
from report_studies import KERNELS, MISSING, Stored, cells, entries, write_studies

from gradconv.report.matrix import noise_row
from gradconv.report.page import page
from gradconv.studies import find_studies
from gradconv.studies.kinds import KINDS
from gradconv.studies.stored import read_documents

pytestmark = pytest.mark.browser

STUDIES = Path(__file__).resolve().parent.parent / "studies"
KIND = "stored-for-browser"
SOME = 7  # cells of a large atlas that are looked at, for each quantity


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A page of small studies, in which every record of the atlas differs from all others."""
    KINDS.register(KIND)(Stored)
    folder = tmp_path_factory.mktemp("small")
    path = folder / "report.html"
    path.write_text(page(write_studies(folder / "studies", KIND)), encoding="utf-8")
    yield path
    del KINDS._kinds[KIND]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the stored studies."""
    path = tmp_path_factory.mktemp("whole") / "report.html"
    path.write_text(page(STUDIES), encoding="utf-8")
    return path


@pytest.fixture(params=["small", "whole"])
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def plain(browser: Browser) -> None:
    browser.prefer("light")
    browser.resize(1440, HEIGHT)


def start(browser: Browser, page: Path) -> None:
    """Open a page as if for the first time, with an empty console."""
    browser.go(page)
    browser.run("try { localStorage.clear() } catch {}")
    browser.go(page)
    deadline = time.monotonic() + 20.0
    while not browser.run("return !document.getElementById('atlas-view')?.hidden"):
        assert time.monotonic() < deadline, "the atlas does not appear"
        time.sleep(0.02)


@pytest.fixture
def broken(small: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a page with something else in the place of something."""

    def make(old: str, new: str) -> Path:
        text = small.read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "broken.html"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return make


# ---- loading ----


def test_the_page_is_sound_and_silent(browser: Browser, path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []
    checks.console(browser)
    checks.requests(browser)
    start(browser, path)
    browser.run("scrollTo(0, document.body.scrollHeight)")
    assert checks.console(browser) == []
    assert checks.requests(browser) == []
    assert checks.lost_pictures(browser) == []
    assert browser.run("return document.images.length") == len(
        read(path.read_text(encoding="utf-8")).all("img")
    )


def test_the_whole_page_has_every_stored_figure(whole: Path) -> None:
    tree = read(whole.read_text(encoding="utf-8"))
    ids = {e.attributes["id"] for e in tree.all("figure")}
    for name in find_studies(STUDIES):
        stored = (STUDIES / name).glob("*.png") if read_documents(STUDIES / name) else ()
        assert {f"figure-{name}-{p.stem}" for p in stored} <= ids


def test_a_broken_script_is_heard(browser: Browser, broken: Any) -> None:
    checks.console(browser)
    browser.go(broken("activate(0, 0);", "activate(0, 0;"))
    assert any("SyntaxError" in text for text in checks.console(browser))
    browser.go(broken("activate(0, 0);", "activate(0, 0); nothing.of(that);"))
    browser.run("return 0")
    found = checks.console(browser)
    assert any("nothing is not defined" in text for text in found), found


def test_a_lost_picture_and_a_request_are_seen(browser: Browser, broken: Any) -> None:
    start(browser, broken('src="data:image/png;base64,iVBOR', 'src="data:image/png;base64,AAAAA'))
    assert len(checks.lost_pictures(browser)) == browser.run("return document.images.length")
    checks.requests(browser)
    start(browser, broken("<footer", '<img src="other.png" alt="Another"><footer'))
    assert {name.rpartition("/")[2] for name in checks.requests(browser)} == {"other.png"}


# ---- layout and colours ----


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_view(browser: Browser, path: Path, width: int) -> None:
    browser.resize(width, HEIGHT)
    start(browser, path)
    assert checks.overflow(browser) == []
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert checks.overflow(browser) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_too_wide_is_seen(browser: Browser, broken: Any, width: int) -> None:
    browser.resize(width, HEIGHT)
    start(browser, broken("<footer", '<p style="width: 1600px">wide</p><footer'))
    (found,) = checks.overflow(browser)
    assert found.endswith(f"in a view of {width}")


PAPER = "return getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(251, 250, 247)", "rgb(18, 22, 28)"
PRESSED = "return document.getElementById('theme').getAttribute('aria-pressed')"
CLICK = "document.getElementById('theme').click()"


def test_the_theme_follows_the_system_and_the_toggle(browser: Browser, small: Path) -> None:
    start(browser, small)
    assert (browser.run(PAPER), browser.run(PRESSED)) == (LIGHT, "false")
    browser.prefer("dark")
    assert (browser.run(PAPER), browser.run(PRESSED)) == (DARK, "true")
    browser.run(CLICK)
    assert (browser.run(PAPER), browser.run(PRESSED)) == (LIGHT, "false")
    browser.run(CLICK)
    browser.prefer("light")
    assert (browser.run(PAPER), browser.run(PRESSED)) == (DARK, "true")
    browser.go(small)  # the choice is kept
    assert (browser.run(PAPER), browser.run(PRESSED)) == (DARK, "true")
    plate = "return getComputedStyle(document.querySelector('.plate')).backgroundColor"
    assert browser.run(plate) == "rgb(255, 255, 255)"  # figures are drawn for white


def test_a_toggle_that_does_nothing_is_seen(browser: Browser, broken: Any) -> None:
    start(browser, broken('root.dataset.theme = dark() ? "light" : "dark";', ""))
    browser.run(CLICK)
    assert browser.run(PAPER) == LIGHT


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser: Browser, path: Path, scheme: str) -> None:
    browser.prefer(scheme)
    start(browser, path)
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert checks.contrast(browser) == []


def test_pale_text_is_seen(browser: Browser, broken: Any) -> None:
    start(browser, broken(".lead {", ".lead { color: #888888;"))
    assert any('class="lead"' in found for found in checks.contrast(browser))


def test_nothing_moves_for_those_who_want_that(browser: Browser, small: Path) -> None:
    behaviour = "return getComputedStyle(document.documentElement).scrollBehavior"
    start(browser, small)
    assert browser.run(behaviour) == "smooth"
    browser.prefer("light", motion="reduce")
    assert browser.run(behaviour) == "auto"


# ---- access ----


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_can_be_reached_and_has_a_name(browser: Browser, path: Path, width: int) -> None:
    browser.resize(width, HEIGHT)
    start(browser, path)
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert checks.accessible(browser) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('<label for="atlas-target">Target</label>', "", "no name: <select"),
        ('class="skip"', 'class="skip" tabindex="3"', "order of Tab is changed"),
        ('class="box" tabindex="0"', 'class="box"', "scrolls, but not by keys"),
        ('aria-describedby", "atlas-cell")', 'aria-describedby", "x")', "x is missing"),
    ],
)
def test_what_cannot_be_reached_is_seen(
    browser: Browser, broken: Any, old: str, new: str, found: str
) -> None:
    browser.resize(390, HEIGHT)
    start(browser, broken(old, new))
    if "atlas-target" in old:
        browser.run("document.getElementById('atlas-target').replaceChildren()")
    assert any(found in text for text in checks.accessible(browser))


def test_the_first_tab_leads_past_the_contents(browser: Browser, small: Path) -> None:
    start(browser, small)
    browser.press("tab")
    shown = "const e = document.activeElement; return [e.className, e.getBoundingClientRect().x]"
    name, x = browser.run(shown)
    assert name == "skip"
    assert x >= 0
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run(outline) == "solid"
    browser.press("enter")
    assert browser.run("return document.activeElement.id") == "content"


# ---- the atlas ----


def spread(stored: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return stored[:: max(1, len(stored) // count)]


WORDS = {
    "level_norm": "level norm",
    "mean_gap": "mean gap",
    "variance": "variance",
    "rms_gap": "rms gap",
}


def hover_all(browser: Browser, stored: list[dict[str, Any]]) -> list[str]:
    """Hover over cells; what is said that should not be."""
    wrong = []
    for target in dict.fromkeys(cell["target"] for cell in stored):
        for quantity, word in WORDS.items():
            checks.choose(browser, target, word)
            for cell in stored:
                if cell["target"] != target:
                    continue
                element = checks.square(browser, cell, noise_row(cell))
                checks.hover(browser, element)
                said, wanted = checks.panel(browser), checks.expected(cell, quantity)
                assert said["Law"]
                said["Measured"] = said["Measured"].partition(" (")[0]
                wrong += [
                    f"{said['which']}: {said[k]!r}, not {wanted[k]!r}"
                    for k in wanted
                    if said[k] != wanted[k]
                ]
                for name in ("kernel", "noise", "setting", "restriction", "target", "dim"):
                    assert f"--{name} {cell[name]}" in said["command"]
    return wrong


def test_hovering_says_what_is_stored(browser: Browser, small: Path) -> None:
    start(browser, small)
    assert hover_all(browser, cells()[::3]) == []


def test_hovering_says_what_is_stored_of_the_whole(browser: Browser, whole: Path) -> None:
    start(browser, whole)
    stored = read_documents(STUDIES / "atlas")["atlas"]["results"]["cells"]
    shown = browser.run("return document.querySelectorAll('#atlas-matrix td.sign').length")
    targets = {cell["target"] for cell in stored}
    assert shown * len(targets) >= len(stored)
    assert hover_all(browser, spread(stored, SOME)) == []


def test_a_wrong_word_in_the_atlas_is_seen(browser: Browser, broken: Any) -> None:
    start(browser, broken("signed(own.low)", "signed(own.high)"))
    assert hover_all(browser, cells()[:4])


FOCUSED = """
const e = document.activeElement;
const stops = document.querySelectorAll("#atlas-matrix [tabindex='0']").length;
const said = ["aria-describedby", "aria-label"].map((name) => e.getAttribute(name));
return [e.dataset.line, e.dataset.column, ...said, stops];
"""


def test_keys_go_through_the_atlas(browser: Browser, small: Path) -> None:
    start(browser, small)
    checks.choose(browser, "identity", "mean gap")
    browser.run("document.getElementById('atlas-quantity').focus()")
    browser.press("tab")
    assert browser.run(FOCUSED)[:3] == ["0", "0", "atlas-cell"]
    rows = [(k, n) for k in KERNELS for n in ("none", "white", "power, α = 3d/2")]
    columns = [
        (s, d, r)
        for s in ("coarsening", "refinement")
        for d in (1, 2)
        for r in ("average", "full_weighting")
    ]
    line, column = 0, 0
    moves = ["right", "down", "down", "right", "end", "down", "left", "home", "page down", "up"]
    steps = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
    for move in [*moves, "up", "up", "up", "left"]:
        browser.press(move)
        if move in steps:
            line = min(max(line + steps[move][0], 0), len(rows) - 1)
            column = min(max(column + steps[move][1], 0), len(columns) - 1)
        elif move == "page down":
            line = min(line + 3, len(rows) - 1)
        else:
            column = 0 if move == "home" else len(columns) - 1
        at, across, described, label, stops = browser.run(FOCUSED)
        assert (at, across, described, stops) == (str(line), str(column), "atlas-cell", 1)
        (kernel, noise), (setting, dim, restriction) = rows[line], columns[column]
        said = checks.panel(browser)
        found = [
            c
            for c in cells()
            if (c["kernel"], noise_row(c), c["setting"], c["restriction"], c["dim"], c["target"])
            == (kernel, noise, setting, restriction, dim, "identity")
        ]
        if (kernel, noise) == MISSING:
            assert (found, label) == ([], "not in the atlas")
            continue
        wanted = checks.expected(found[0], "mean_gap")
        assert {
            k: said[k].partition(" (a fit")[0].partition(" (the slope")[0] for k in wanted
        } == wanted
        own = found[0]["quantities"]["mean_gap"]
        assert label.startswith((own.get("derived") or own["measured"])["verdict"])


def test_keys_that_do_nothing_are_seen(browser: Browser, broken: Any) -> None:
    start(browser, broken('table.addEventListener("keydown"', 'table.addEventListener("keydwn"'))
    browser.run("document.querySelector('#atlas-matrix [tabindex=\"0\"]').focus()")
    browser.press("right")
    assert browser.run(FOCUSED)[:2] == ["0", "0"]


def test_a_focused_cell_is_neither_hidden_nor_unmarked(browser: Browser, whole: Path) -> None:
    browser.resize(390, 844)
    start(browser, whole)
    browser.run("document.documentElement.style.scrollBehavior = 'auto'")
    browser.run("document.querySelector('#atlas-matrix [tabindex=\"0\"]').focus()")
    seen = """
    const e = document.activeElement, r = e.getBoundingClientRect();
    const top = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
    return [top === e, getComputedStyle(e, "::after").borderStyle];
    """
    for _ in range(3):
        for key in ("down", "down", "down", "right", "right", "page down"):
            browser.press(key)
            assert browser.run(seen) == [True, "solid"]


def test_the_atlas_is_a_grid_to_a_screen_reader(browser: Browser, small: Path) -> None:
    start(browser, small)
    nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            role = node["role"]["value"]
            roles.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    (grid,) = roles["grid"]
    assert grid.startswith("Verdict on the mean gap, target identity")
    assert len(roles["gridcell"]) == 2 * 3 * 2 * 2 * 2 + 1  # and the empty corner
    assert {"converges, derived", "stalls, measured only", "not in the atlas"} & set(
        roles["gridcell"]
    )
    assert {"coarsening", "d = 2", "full weighting"} <= set(roles["columnheader"])
    assert {"stencil", "none", "power, α = 3d/2"} <= set(roles["rowheader"])


# ---- print ----


def heading(entry: dict[str, Any]) -> str:
    """Heading of a claim, as `titles` gives it."""
    return f"{entry['number']}{entry['title']}".replace(" ", "")


def test_print_holds_every_claim_opened(browser: Browser, small: Path) -> None:
    browser.prefer("dark")
    start(browser, small)
    pdf = checks.printed(browser)
    assert pdf.startswith(b"%PDF")
    found = checks.titles(pdf)
    for entry in entries():
        assert heading(entry) in found
    assert browser.run("return document.querySelector('details[open]')") is None  # closed again
    browser.devtools("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    hidden = browser.run(
        "return [...document.querySelectorAll('.claim, .claim tr, figure')]"
        ".filter((e) => !e.checkVisibility()).length"
    )
    assert hidden == 0
    assert browser.run("return document.querySelector('.contents').checkVisibility()") is False
    assert browser.run(PAPER) == "rgb(255, 255, 255)"


def test_the_whole_prints(browser: Browser, whole: Path) -> None:
    start(browser, whole)
    found = checks.titles(checks.printed(browser))
    for document in read_documents(STUDIES / "claims").values():
        entry = document["results"]["entry"]
        assert heading(entry) in found
    assert "Provenance" in found


def test_a_claim_that_is_not_printed_is_seen(browser: Browser, broken: Any) -> None:
    start(browser, broken("@media print {", "@media print { #claim-work-units { display: none; }"))
    found = checks.titles(checks.printed(browser))
    entry = next(e for e in entries() if e["id"] == "work-units")
    assert heading(entry) not in found
    assert sum(t[:1].isdigit() for t in found) == len(entries()) - 1
