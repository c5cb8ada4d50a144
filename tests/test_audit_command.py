"""``gradconv audit`` on the command line, and the files and documents of an audit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from audit_modules import NOISY, SMOOTH, ResNet, stencil
from click.testing import CliRunner, Result

from gradconv.audit import Audit, audit
from gradconv.audit.present import document, markdown
from gradconv.cli import app, main
from gradconv.store import write_atomically

MODULE = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 1, 1))

def summed(p, t):
    return ((p - t) ** 2).sum()

def wide(width, *, bias=True, n):
    return nn.Conv2d(width, width, 1, bias=bias)

width = 3
ready = nn.Conv1d(1, 1, 3, padding=1)
"""


RATE = {"order", "decay", "order_interval", "coefficient", "pairwise_orders", "window"}
RATE |= {"verdict", "reason", "h", "values", "stderr"}


def check_audit(found: dict[str, object]) -> None:
    """Hold a document to the schema ``gradconv.audit/1``."""
    top = {"schema", "provenance", "verdict", "rates", "levels", "aliasing", "findings", "notes"}
    assert set(found) == top
    assert found["schema"] == "gradconv.audit/1"
    rates: list[dict[str, object]] = found["rates"]  # type: ignore[assignment]
    for rate in rates:
        assert set(rate) == RATE | {"group", "kind", "type", "parameters", "quantity"}
        assert len(rate["values"]) == len(rate["h"])  # type: ignore[arg-type]
    assert set(found["aliasing"]) == RATE | {"modes", "paths"}  # type: ignore[call-overload]
    keys = {"group", "bias", "bias_stderr", "cosine", "cosine_stderr"}
    assert all(set(level) == keys for level in found["levels"])  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_networks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["audit", *words], catch_exceptions=False)


def test_table_and_files(folder: Path) -> None:
    result = run("my_networks:small", "--levels", "3:6", "--replicates", "4", "-o", "out")
    assert result.exit_code == 0
    for word in ("whole", "Conv2d", "operator aliasing", "kernel tied to the grid", "Written to"):
        assert word in result.output
    names = {p.name for p in (folder / "out").iterdir()}
    assert names == {
        "audit.json",
        "audit.nc",
        "table.md",
        *(f"figure.{k}" for k in ("png", "pdf", "svg")),
    }
    stored = json.loads((folder / "out" / "audit.json").read_text())
    assert stored["schema"] == "gradconv.audit/1"
    data = xr.load_dataset(folder / "out" / "audit.nc", engine="h5netcdf")
    rms = next(r for r in stored["rates"] if r["group"] == "whole" and r["quantity"] == "rms_gap")
    assert np.array_equal(data["rms_gap"].values[0, 1:], rms["values"])


def test_json_is_one_document(folder: Path) -> None:
    result = run("my_networks:small", "--levels", "3:6", "--replicates", "4", "--json")
    found = json.loads(result.output)
    check_audit(found)
    assert found["provenance"]["configuration"]["levels"] == [8, 16, 32, 64]


def test_a_module_and_a_loss_of_the_folder(folder: Path) -> None:
    words = ("my_networks:ready", "--noise", "none", "--signal", "plane-wave", "--levels", "4:7")
    plain = json.loads(run(*words, "--json").output)
    summed = json.loads(run(*words, "--loss", "my_networks:summed", "--json").output)
    assert plain["provenance"]["configuration"]["dim"] == 1
    orders = [d["rates"][0]["order"] for d in (plain, summed)]
    assert summed["findings"][0]["layer"] == "(loss)"
    assert orders[0] is None or orders[1] is None or orders[1] < orders[0]


def test_arguments_of_a_factory(folder: Path) -> None:
    words = ("my_networks:wide(2, bias=False)", "--levels", "3:6", "--replicates", "2", "--json")
    setup = json.loads(run(*words).output)["provenance"]["configuration"]
    assert setup["parameters"] == 4
    assert setup["module"] == "wide"


def test_failing_on_divergence(folder: Path) -> None:
    words = (
        "my_networks:small",
        "--noise",
        "none",
        "--signal",
        "band-limited:2",
        "--levels",
        "3:6",
    )
    assert run(*words, "--fail-on-divergence").exit_code == 0
    summed = run(*words, "--loss", "my_networks:summed", "--fail-on-divergence")
    assert summed.exit_code == 1
    assert run(*words, "--loss", "my_networks:summed").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("my_networks",), "`module` must be package.module:name"),
        (("nowhere_at_all:net",), "`module` must name a module that can be imported"),
        (("my_networks:nothing",), "`module` must name what my_networks has; got 'nothing'"),
        (("my_networks:small(print())",), "arguments must be literals"),
        (("my_networks:small(*[1])",), "arguments must be literals"),
        (("my_networks:MODULE",), "`module` must name what my_networks has"),
        (("my_networks:width(1)",), "`module` takes arguments only for a callable"),
        (("my_networks:small(3)",), "it raised TypeError: small() takes 0"),
        (("my_networks:small", "--loss", "nothing"), "`loss` must be package.module:name"),
        (("my_networks:small", "--levels", "3:4"), "`levels` must increase by at least 3"),
        (("my_networks:small", "--noise", "pixl"), "did you mean 'pixel'"),
        (("my_networks:small", "-o", "my_networks.py"), "`output` must be a folder"),
        (("my_networks:small", "--dtype", "float16"), "`dtype` must be"),
    ],
)
def test_errors_are_one_line(
    folder: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["gradconv", "audit", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.fixture(scope="module")
def noisy() -> Audit:
    torch.manual_seed(0)
    return audit(ResNet(stencil), **NOISY, replicates=4)


def test_document_holds_everything(noisy: Audit) -> None:
    found = document(noisy)
    check_audit(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(found["rates"]) == 4 * len(noisy.groups)
    assert found["verdict"] == "diverges"
    origin = found["provenance"]
    assert origin["configuration"]["module"] == "ResNet"
    assert origin["configuration_hash"]
    again = audit(stencil(1, 1), **SMOOTH, explain=False)
    assert document(again)["provenance"]["configuration_hash"] != origin["configuration_hash"]


def test_markdown_names_layers_and_findings(noisy: Audit) -> None:
    text = markdown(document(noisy))
    assert text.startswith("# Audit of ResNet: its gradient diverges")
    for name in ("| whole |", "| first |", "| first.weight |", "breaks: first: kernel tied"):
        assert name in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(noisy.groups)
    assert len({row.count("|") for row in rows}) == 1


def test_table_has_a_row_a_group(noisy: Audit) -> None:
    assert noisy.table().row_count == 1 + len(noisy.layers())
    assert noisy.table(("parameter",)).row_count == sum(g.kind == "parameter" for g in noisy.groups)


def test_figure_draws_what_is_stored(noisy: Audit) -> None:
    from gradconv.audit.figure import audit_figure

    found = document(noisy)
    figure = audit_figure(found)
    assert len(figure.axes) == 3
    rms = next(r for r in found["rates"] if r["group"] == "whole" and r["quantity"] == "rms_gap")
    drawn = [tuple(line.get_ydata()) for line in figure.axes[0].get_lines()]
    assert tuple(rms["values"]) in drawn
    texts = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert any(t.startswith("whole: diverges") for t in texts)
    found["aliasing"] = None
    assert len(audit_figure(found).axes) == 2


def test_a_figure_without_any_gap_can_be_drawn() -> None:
    from gradconv.audit.figure import audit_figure
    from gradconv.figures import figure_bytes

    class Idle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 0 * self.weight

    found = document(audit(Idle(), **SMOOTH, explain=False))
    assert found["verdict"] == "exact"
    assert figure_bytes(audit_figure(found), "png")


def test_saving_where_a_file_is(tmp_path: Path, noisy: Audit) -> None:
    from gradconv import InputError

    write_atomically(tmp_path / "taken", b"")
    with pytest.raises(InputError, match="`folder` must be a folder"):
        noisy.save(tmp_path / "taken")
