"""What the documents say is run: README, the pages of docs/, docstrings, and stored studies."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import click
import pytest
from click.core import ParameterSource

import gradconv
from gradconv import plots
from gradconv.cli import DEMO, DEMO_TITLE, OPTIONS, app
from gradconv.config import SweepConfig, option_names
from gradconv.provenance import configuration_hash

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
}
STUDY = ROOT / "studies" / "demo"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"# (\w+\.py)\n")
API = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.rst"))}


def blocks(page: str, language: str) -> list[str]:
    """Fenced blocks of a page in a language; "" has no name."""
    return [body for name, body in FENCED.findall(PAGES[page]) if name == language]


def is_session(block: str) -> bool:
    return block.startswith(">>>")


def commands(page: str) -> Iterator[list[str]]:
    """Commands of a page, continued lines put together, without comments."""
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows: blocks that begin with their name in a comment."""
    for block in blocks(page, "python"):
        if not is_session(block):
            name = FILE.match(block)
            assert name is not None, "a Python block is a session, or begins with `# name.py`"
            (folder / name[1]).write_text(block, encoding="utf-8")


def all_commands() -> list[list[str]]:
    return [words for page in PAGES for words in commands(page) if words[0] == "gradconv"]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")])
def test_page_examples(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is one session, in a folder that has the files it shows."""
    write_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = "\n".join(block for block in blocks(page, "python") if is_session(block))
    parsed = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert parsed.examples
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(parsed)
    assert runner.summarize().failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if "\n# test_" in PAGES[p]])
def test_page_test_files(page: str, tmp_path: Path) -> None:
    """Tests that a page shows pass, and its commands on the files that it shows run."""
    write_files(page, tmp_path)
    tests = sorted(path.name for path in tmp_path.glob("test_*.py"))
    assert tests
    run = [["pytest", "-p", "no:cacheprovider", *tests]]
    shown = {path.stem for path in tmp_path.glob("*.py")}
    run += [c for c in commands(page) if any(word.split(":")[0] in shown for word in c)]
    for words in run:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_sweep_commands_are_valid() -> None:
    """Every `gradconv sweep` line of a page names an allowed problem."""
    sweeps = [words for words in all_commands() if words[1] == "sweep"]
    assert sweeps
    for command in sweeps:
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


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_commands_have_these_options(words: list[str]) -> None:
    """Every `gradconv` line of a page is taken by the command line; nothing is run."""
    name, *rest = words[1:]
    context = app.commands[name].make_context(name, rest, parent=click.Context(app))
    flags = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    options = {o: p.name for p in context.command.params for o in (*p.opts, *p.secondary_opts)}
    for flag in flags:
        source = context.get_parameter_source(str(options[flag]))
        assert source is ParameterSource.COMMANDLINE, flag


@pytest.mark.parametrize("rest", [["--kernels", "mfc"], ["--kernel"], ["stray"]])
def test_a_command_with_other_options_would_be_seen(rest: list[str]) -> None:
    with pytest.raises(click.UsageError):
        app.commands["sweep"].make_context("sweep", rest, parent=click.Context(app))


def test_commands_in_help_keep_their_lines() -> None:
    """An example in the help of a command can be pasted: it is not filled, and not over-long."""
    for name, command in app.commands.items():
        context = click.Context(command, info_name=name, max_content_width=100)
        shown = command.get_help(context).replace("\\\n", " ")
        assert "\\b" not in shown
        for line in re.findall(r"^  gradconv .*$", shown, re.M):
            assert "\\" not in line
            words = shlex.split(line)[2:]
            command.make_context(name, words, parent=click.Context(app))


def test_configurations_are_valid() -> None:
    found = [block for page in PAGES for block in blocks(page, "toml")]
    assert found
    for block in found:
        assert SweepConfig(**tomllib.loads(block)).problems()


def test_every_option_is_on_the_command_line() -> None:
    assert set(OPTIONS) == set(option_names())


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page: str) -> None:
    """A relative link leads to a file, and one to a heading to a heading."""
    prose = FENCED.sub("", PAGES[page])
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"\w+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles]
            assert heading in anchors, target


def entries(text: str) -> list[str]:
    """What the toctrees of a page list."""
    markdown = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.M | re.S)
    plain = re.findall(r"^\.\. toctree::\n((?:\s*\n|   .*\n?)*)", text, re.M)
    lines = "\n".join(markdown + plain).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith(":")]


def test_every_page_is_in_the_table_of_contents() -> None:
    """From the first page on, every page is reached once, and every entry is a page."""
    pages = {
        path.relative_to(DOCS).with_suffix("").as_posix(): path
        for path in DOCS.rglob("*")
        if path.suffix in (".md", ".rst")
    }
    reached, waiting = ["index"], ["index"]
    while waiting:
        page = waiting.pop()
        for entry in entries(pages[page].read_text(encoding="utf-8")):
            name = (Path(page).parent / entry).as_posix()
            assert name in pages, entry
            reached.append(name)
            waiting.append(name)
    assert sorted(reached) == sorted(pages)


def documented() -> dict[str, Any]:
    """Objects that have an entry in the pages on the API, by their full name there."""
    found = {}
    for text in API.values():
        module = ""
        for directive, name in re.findall(r"^\.\. ([\w:]+):: ([\w.]+)$", text, re.M):
            if directive == "currentmodule":
                module = name
            elif directive in ("autoclass", "autoexception", "autofunction", "py:data"):
                assert f"{module}.{name}" not in found
                found[f"{module}.{name}"] = getattr(importlib.import_module(module), name)
    return found


def public_modules() -> list[str]:
    """Modules with a page of their own."""
    return [
        name
        for text in API.values()
        for name in re.findall(r"^\.\. automodule:: ([\w.]+)$", text, re.M)
    ]


def test_modules_that_are_imported_have_a_page() -> None:
    """All packages that export names, but for those that are parts of others."""
    inside = {
        "gradconv.laws.variance",  # parts of `derive`
        "gradconv.nn.fitting",  # exported by gradconv.nn
        "gradconv.nn.networks",
        "gradconv.train.strategies",  # on the page of gradconv.train
        "gradconv.train.tasks",
        "gradconv.studies.kinds",  # on the page of gradconv.studies
    }
    exporting = {
        name
        for _, name, package in pkgutil.walk_packages(gradconv.__path__, "gradconv.")
        if package and getattr(importlib.import_module(name), "__all__", ())
    }
    assert exporting - inside <= set(public_modules())


def test_every_public_name_has_an_entry() -> None:
    """Names exported by a module are in its page, or are those of another module's entry."""
    known = documented()
    objects = {id(value) for value in known.values()}
    modules = [*public_modules(), "gradconv.train.tasks", "gradconv.train.strategies"]
    for module in modules:
        for name in getattr(importlib.import_module(module), "__all__", ()):
            value = getattr(importlib.import_module(module), name)
            assert f"{module}.{name}" in known or id(value) in objects, f"{module}.{name}"


def test_every_entry_has_a_docstring() -> None:
    """A class or function of the pages says what it is, and so do its public methods."""
    for name, value in documented().items():
        if not callable(value) or not hasattr(value, "__module__"):
            continue  # a registry, a tuple of names, an alias: described on the page
        assert inspect.getdoc(value), name
        if inspect.isclass(value):
            for method, member in vars(value).items():
                if inspect.isfunction(member) and not method.startswith("_"):
                    assert inspect.getdoc(getattr(value, method)), f"{name}.{method}"


def settings() -> dict[str, Any]:
    """Plain settings of the site, read without Sphinx."""
    text = (DOCS / "conf.py").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for name in ("extensions", "source_suffix", "html_theme"):
        match = re.search(rf"^{name} = (.*?)(?=^\w|\Z)", text, re.M | re.S)
        assert match is not None
        found[name] = ast.literal_eval(match[1].strip())
    return found


def test_links_out_of_the_site_are_downloads_that_it_can_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Backticks in the words of a link would end the role that the link becomes."""
    for name in ("docutils", "docutils.nodes", "sphinx", "sphinx.application"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    site = runpy.run_path(str(DOCS / "conf.py"))
    count = 0
    for page in DOCS.glob("*.md"):
        app, source = MagicMock(), [page.read_text(encoding="utf-8")]
        app.env.doc2path.return_value = str(page)
        site["offer_files"](app, page.stem, source)
        assert not site["LINK_OUT"].search(source[0])
        for text, target in re.findall(r"\{download\}`([^`]*?) <(.*?)>`", source[0]):
            assert text
            assert (DOCS / target).is_file(), target
            count += 1
        assert source[0].count("{download}") == len(
            re.findall(r"\{download\}`[^`<>]+ <[^`<>]+>`", source[0])
        )
    assert count > 3


def test_the_site_needs_what_its_extra_brings() -> None:
    """Theme and extensions of the site are in the docs extra, and its pins are exact."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]["docs"]
    names = {re.split(r"[<>=\[]", text)[0] for text in extra}
    found = settings()
    used = {found["html_theme"], *(e for e in found["extensions"] if not e.startswith("sphinx."))}
    assert {name.replace("_", "-") for name in used} | {"sphinx"} == names
    assert set(found["source_suffix"]) == {".md", ".rst"}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for name in names:
        assert re.search(rf"^{name}==", pins, re.M), name


@pytest.mark.parametrize("extra", ["docs", "compare", "dev", "testing"])
def test_pins_name_what_the_extras_bring(extra: str) -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].replace("_", "-").lower() for line in pins.splitlines()}
    names = {
        re.split(r"[<>=\[; ]", text)[0].lower()
        for text in listed["project"]["optional-dependencies"][extra]
    }
    assert names
    assert names - {"gradconv"} <= pinned


def modules() -> list[str]:
    return [m.name for m in pkgutil.walk_packages(gradconv.__path__, "gradconv.")]


@pytest.mark.parametrize("module", modules())
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
    stored = json.loads((STUDY / "data" / "sweep.json").read_text())
    configuration = SweepConfig(**DEMO).identity()
    provenance = stored["provenance"]
    assert provenance["configuration"] == json.loads(json.dumps(configuration))
    assert provenance["configuration_hash"] == configuration_hash(configuration)
    assert provenance["commit"]
    assert provenance["dirty"] is False
    for r in stored["results"]["rates"]:
        if r["quantity"] == "mean_gap":
            low, high = r["order_interval"]
            text = f"**{r['verdict']}**, order {r['order']:+.2f} [{low:+.2f}, {high:+.2f}]"
            assert text.replace("-", "−") in README


def test_study_figure_is_drawn_from_its_data() -> None:
    """Every stored gap is a point of the figure."""
    found = json.loads((STUDY / "data" / "sweep.json").read_text())["results"]["rates"]
    figure = plots.gap_figure(found, DEMO_TITLE)
    drawn = [tuple(line.get_ydata()) for axis in figure.axes for line in axis.get_lines()]
    for r in found:
        if r["quantity"] in ("mean_gap", "rms_gap"):
            assert tuple(r["values"]) in drawn


def test_stored_diagnosis_is_that_of_its_page() -> None:
    """Its numbers are quoted, its picture is shown, and its command has its choices."""
    from gradconv.studies import load_study
    from gradconv.studies.stored import read_documents

    study = load_study("multilevel", ROOT / "studies")
    stored = read_documents(study.folder)["stencil"]
    assert stored["provenance"]["dirty"] is False
    assert stored["size"] == "full"
    found = stored["results"]
    text = beta_text(found)
    page = PAGES["docs/multilevel.md"]
    assert text in page
    assert beta_text({"groups": [{"beta": {"order": 2.0, "order_interval": [1, 3]}}]}) not in page
    assert "studies/multilevel/stencil.png" in page
    command = "gradconv multilevel --kernel stencil --noise pixel:0.5 --dim 1 --levels 5:10"
    assert command in page
    choices = found["configuration"]
    shown = {"model": "stencil", "noise": "pixel:0.5", "dim": 1}
    assert {k: choices[k] for k in shown} == shown
    assert choices["levels"] == [2**n for n in range(5, 11)]


def beta_text(found: dict[str, Any]) -> str:
    """How the page of diagnoses quotes β."""
    beta = found["groups"][0]["beta"]
    low, high = beta["order_interval"]
    return f"β = {beta['order']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
