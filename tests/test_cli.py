"""The command line: its JSON document, tables, files, configuration files and terminal manners."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradconv
from gradconv import cli
from gradconv.config import SweepConfig, option_names

ROOT = Path(gradconv.__file__).resolve().parents[1]
TINY = ("sweep", "--dim=1", "--levels=2:6", "--replicates=3")
QUANTITIES = ("level_norm", "mean_gap", "rms_gap", "variance")
VERDICTS = {
    *("converges", "stalls", "diverges"),  # gaps
    *("vanishes", "bounded", "grows"),  # levels
    *("exact", "undecided"),
}
FILES = ["figure.pdf", "figure.png", "figure.svg", "rates.json", "sweep.nc", "table.md"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def launch(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradconv", *map(str, arguments)]
    options = {"capture_output": True, "text": True, "env": environment(), **options}
    return subprocess.run(command, **options)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process; gives (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gradconv", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return run


@pytest.fixture
def document(call: Any) -> Any:
    """Run with ``--json`` and parse all of standard output, strictly."""

    def run(*arguments: object) -> dict[str, Any]:
        code, out, err = call(*arguments, "--json")
        assert (code, err) == (0, "")
        return strict_json(out)

    return run


def strict_json(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    value: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return value


def check_record(record: dict[str, Any], levels: int) -> None:
    """Hold one record against the data contract."""
    texts = ("kernel", "signal", "target", "noise", "setting", "restriction", "boundary", "reason")
    for key in texts:
        assert isinstance(record[key], str), key
    assert isinstance(record["dim"], int)
    assert record["quantity"] in QUANTITIES
    assert record["verdict"] in VERDICTS
    length = levels - (record["quantity"] != "level_norm")
    for key in ("h", "values"):
        assert len(record[key]) == length, key
        assert all(isinstance(v, float) and math.isfinite(v) for v in record[key]), key
    assert record["h"] == sorted(record["h"], reverse=True)
    assert len(record["stderr"]) == length
    for value, error in zip(record["values"], record["stderr"], strict=True):
        # a norm that its debiasing has taken to zero has no finite error
        assert (error is None and value == 0.0) or (math.isfinite(error) and error >= 0.0)
    low, high = record["order_interval"]
    first, last = record["window"]
    assert isinstance(first, int)
    assert isinstance(last, int)
    if record["order"] is None:
        assert record["reason"]
    else:
        assert low <= record["order"] <= high
        assert 0 <= first < last < length
        assert record["coefficient"] > 0
    law = record["law"]
    keys = {"order", "log", "decay", "coefficient", "agrees", "reason", "values"}
    assert set(law) == keys
    assert law["agrees"] in (True, None), law["reason"]
    assert law["reason"]
    assert len(law["values"]) in (0, length)
    assert (law["agrees"] is None) == (not any(v is not None for v in law["values"]))
    assert law["order"] is None or math.isfinite(law["order"])
    signs = {"converges": 1, "diverges": -1, "grows": -1}
    if record["verdict"] in signs and record["order"] is not None:
        assert np.sign(record["order"]) == signs[record["verdict"]]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--noise=none",),
        ("--noise=none", "--signal=plane-wave:3", "--kernel=mfc", "--levels=3:7"),  # tiny gaps
        ("--setting=refinement", "--restriction=average"),
        ("--noise=white:0.1", "--setting=refinement", "--restriction=average"),
        ("--amplitude=0", "--kernel=mfc", "--target=blur"),
        ("--weights=0,0,0", "--kernel=stencil", "--noise=none"),
        ("--dtype=float32",),
        ("--channels=2", "--kernel=mfc"),
        ("--boundary=zero", "--restriction=average"),
    ],
    ids=" ".join,
)
def test_the_document_keeps_the_contract(document: Any, options: tuple[str, ...]) -> None:
    found = document(*TINY, *options)
    assert set(found) == {"schema", "provenance", "rates"}
    assert found["schema"] == "gradconv.sweep/1"
    assert {"commit", "configuration", "configuration_hash", "seed", "versions"} <= set(
        found["provenance"]
    )
    assert len(found["rates"]) % len(QUANTITIES) == 0
    for record in found["rates"]:
        check_record(record, levels=5)


def test_the_check_of_records_sees_a_wrong_one(document: Any) -> None:
    found = document(*TINY, "--kernel=mfc", "--restriction=injection")["rates"]
    good = next(r for r in found if r["order"] is not None)
    check_record(good, levels=5)
    for key, wrong in (
        ("values", [*good["values"][:-1], None]),
        ("values", good["values"][:-1]),
        ("quantity", "gap"),
        ("verdict", "fine"),
        ("h", good["h"][::-1]),
        ("stderr", [-1.0] * len(good["h"])),
        ("stderr", [math.nan] * len(good["h"])),
        ("order_interval", [5.0, 6.0]),
        ("window", [3, 3]),
    ):
        with pytest.raises(AssertionError):
            check_record({**good, key: wrong}, levels=5)
    with pytest.raises(AssertionError):
        strict_json('{"order": NaN}')


def test_several_values_sweep_their_product(document: Any) -> None:
    choices = {
        "kernel": ("stencil", "mfc"),
        "noise": ("none", "pixel:0.5", "white:0.1"),
        "restriction": ("average", "injection"),
    }
    flags = [f"--{name}={','.join(values)}" for name, values in choices.items()]
    records = document(*TINY, *flags)["rates"]
    cells = [tuple(r[name] for name in (*choices, "quantity")) for r in records]
    assert sorted(cells) == sorted(product(*choices.values(), QUANTITIES))
    for name in choices:  # a value alone gives what it gives in the product
        alone = [f for f in flags if not f.startswith(f"--{name}=")]
        value = choices[name][-1]
        single = document(*TINY, *alone, f"--{name}={value}")["rates"]
        assert single == [r for r in records if r[name] == value]


def test_dimensions_sweep_too(document: Any) -> None:
    records = document("sweep", "--dim=1,2", "--levels=2:5", "--replicates=2")["rates"]
    assert {r["dim"] for r in records} == {1, 2}


TOML = """
kernel = ["stencil", "mfc"]
noise = "pixel:0.25"
dim = 1
levels = "2:6"
replicates = 3
seed = 5
diffusivity = 0.002
restriction = ["average"]
"""


def test_a_configuration_file_holds_the_same_choices(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(TOML)
    flags = ("--kernel=stencil,mfc", "--noise=pixel:0.25", "--dim=1", "--levels=2:6")
    more = ("--replicates=3", "--seed=5", "--diffusivity=0.002", "--restriction=average")
    by_file, by_flags = document("sweep", f"--config={path}"), document("sweep", *flags, *more)
    assert by_file == by_flags
    # flags override the file, option by option
    overridden = document("sweep", f"--config={path}", "--seed=6", "--kernel=mfc")
    assert {r["kernel"] for r in overridden["rates"]} == {"mfc"}
    assert overridden["provenance"]["seed"] == 6
    assert overridden["provenance"]["configuration"]["noise"] == ["pixel:0.25"]
    expected = [r for r in document("sweep", *flags, *more, "--seed=6")["rates"]]
    assert overridden["rates"] == [r for r in expected if r["kernel"] == "mfc"]
    assert overridden["rates"] != [r for r in by_file["rates"] if r["kernel"] == "mfc"]


def test_every_choice_is_an_option_and_a_key() -> None:
    assert set(cli.OPTIONS) == set(option_names())
    defaults = SweepConfig()
    for name, text in cli.OPTIONS.items():
        value = getattr(defaults, name)
        if value is not None and "Default:" in text:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else f"{value}"
            assert f"Default: {shown.removesuffix('.0')}." in text, name


def test_the_table_has_a_row_a_rate(call: Any) -> None:
    code, out, err = call(*TINY, "--kernel=stencil", "--restriction=average,injection")
    assert (code, err) == (0, "")
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert sum("mean gap" in row for row in rows) == 2
    for quantity, restriction in product(QUANTITIES, ("average", "injection")):
        words = (quantity.replace("_", " "), restriction)
        assert any(all(w in row for w in words) for row in rows), words
    assert "Written to" not in out
    assert "\x1b" not in out  # no colours in a pipe


def test_the_output_folder_holds_data_table_and_figure(call: Any, tmp_path: Path) -> None:
    import xarray as xr

    folder = tmp_path / "deep" / "results"
    code, out, err = call(*TINY, "--kernel=stencil", "-o", folder, "--json")
    assert (code, err) == (0, "")
    files = sorted(p.name for p in folder.iterdir() if p.is_file())
    assert files == sorted([*FILES, "configuration.json"])
    assert not list(folder.rglob(".*"))
    printed = strict_json(out)
    assert strict_json((folder / "rates.json").read_text()) == printed
    heads = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for suffix, head in heads.items():
        assert (folder / f"figure.{suffix}").read_bytes().startswith(head)
    table = (folder / "table.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(printed["rates"])  # and a header
    with xr.open_datatree(folder / "sweep.nc", engine="h5netcdf") as tree:
        assert tree.attrs["schema"] == "gradconv.sweep/1"
        assert json.loads(tree.attrs["provenance"]) == printed["provenance"]
        cells = [tree[name] for name in sorted(tree.children)]
        assert len(cells) == 2
        for cell, restriction in zip(cells, ("average", "injection"), strict=True):
            assert cell.attrs["restriction"] == restriction
            assert dict(cell.sizes) == {"replicate": 3, "level": 5, "parameter": 3}
            for record in printed["rates"]:
                if record["restriction"] != restriction:
                    continue
                values = cell[record["quantity"]].values
                np.testing.assert_array_equal(values[-len(record["h"]) :], record["values"])
    # the same command once more finds all done and changes nothing
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert call(*TINY, "--kernel=stencil", "-o", folder, "--json")[0] == 0
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_help_and_version(call: Any) -> None:
    code, out, _ = call("--version")
    assert code == 0
    assert gradconv.__version__ in out
    code, out, _ = call("--help")
    assert code == 0
    assert "sweep" in out
    assert "demo" in out
    code, out, _ = call("sweep", "--help")
    assert code == 0
    for name in cli.OPTIONS:
        assert f"--{name}" in out


HEAVY = ("torch", "sympy", "scipy", "xarray", "matplotlib", "numpy", "skimage", "rich")


@pytest.mark.parametrize(
    "code",
    [
        "import gradconv",
        "import gradconv.cli, sys\ntry: gradconv.cli.app(['--help'])\nexcept SystemExit: pass",
        "import gradconv.cli, sys\n"
        "try: gradconv.cli.app(['sweep', '--help'])\n"
        "except SystemExit: pass",
    ],
    ids=["import", "help", "sweep help"],
)
def test_startup_imports_nothing_heavy(code: str) -> None:
    code += f"\nimport sys; print('loaded', [m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "loaded []"


def test_the_look_at_imports_sees_them() -> None:
    code = "import gradconv, sys; gradconv.sweep; print('numpy' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout == "True\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_pipes_get_results_alone(as_json: bool) -> None:
    run = launch(*TINY, *["--json"] * as_json)
    assert run.returncode == 0
    assert run.stderr == ""
    assert run.stdout.isprintable() or "\x1b" not in run.stdout
    assert run.stdout.startswith("{" if as_json else "signal ")


def test_a_terminal_gets_progress_on_standard_error() -> None:
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "gradconv", *TINY, "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=slave, env=environment(TERM="xterm", COLUMNS="80")
    )
    os.close(slave)
    shown = b""
    try:
        while block := os.read(master, 4096):
            shown += block
    except OSError:  # Linux: the other end is closed
        pass
    finally:
        os.close(master)
    assert process.stdout is not None
    with process.stdout:
        out = process.stdout.read()
    assert process.wait(60) == 0
    assert b"sweeping" in shown
    assert b"100%" in shown
    strict_json(out.decode())  # the bar does not get into the document


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "gradconv", *TINY, "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        err = process.stderr.read().decode()
    process.wait(60)
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("as_json", [True, False])
def test_a_full_standard_output_is_one_line(as_json: bool) -> None:
    with open("/dev/full", "w") as full:
        run = launch(
            *TINY, *["--json"] * as_json, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("error: ")


def test_demo(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**cli.DEMO, "levels": "3:6", "replicates": 4}
    monkeypatch.setattr(cli, "DEMO", small)
    code, out, err = call("demo", "-o", tmp_path / "demo")
    assert (code, err) == (0, "")
    assert out.count("gradient gap") == 4
    assert {p.name for p in (tmp_path / "demo").iterdir()} >= set(FILES)
