"""``gradconv cost`` on the command line: its document, its tables and its errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gradconv import InputError, cli


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["cost", *words], catch_exceptions=False)


def document(*words: str) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.output)
    return found


PLAN = {"name", "steps", "work_units", "ratio", "work_units_per_step", "serial_depth"}
PLAN |= {"parallel_depth", "peak_samples", "cells_drawn", "cells_drawn_per_step"}
PLAN |= {"cells_restricted", "cells_restricted_per_step", "peak_bytes", "stages"}
PLAN |= {f"{m}{end}" for m in ("flops", "seconds") for end in ("", "_ratio", "_parallel")}
LEVEL = {"level", "n", "samples", "gradient", "term", "work_units_per_step", "flops"}
LEVEL |= {"flops_order", "seconds", "seconds_range", "fixed_bytes", "sample_bytes"}


def test_document_of_the_paper() -> None:
    found = document()
    assert set(found) == {"schema", "plans", "levels", "notes", "provenance"}
    assert found["schema"] == "gradconv.cost/1"
    assert all(set(plan) == PLAN for plan in found["plans"])
    assert all(set(level) == LEVEL for level in found["levels"])
    by_name = {plan["name"]: plan for plan in found["plans"]}
    assert list(by_name) == ["single", "multiscale", "full-multiscale"]
    assert [p["work_units"] for p in by_name.values()] == [480_000, 74_000, 28_750]
    assert [p["ratio"] for p in by_name.values()] == [1, 480 / 74, 480_000 / 28_750]
    assert by_name["multiscale"]["work_units_per_step"] == 37
    stages = by_name["full-multiscale"]["stages"]
    assert [s["work_units"] for s in stages] == [4000, 7000, 8500, 9250]
    assert [s["samples"] for s in stages] == [128, 192, 224, 240]
    assert [level["work_units_per_step"] for level in found["levels"]] == [2, 5, 10, 20]
    assert [level["gradient"] for level in found["levels"]] == [1 / 64, 1 / 16, 1 / 4, 1]
    assert by_name["single"]["flops"] is by_name["single"]["peak_bytes"] is None
    assert document() == found  # no clock, no chance
    words = ("--counts", "128,64,32,16", "--steps", "2000", "--stages", "2000,1000,500,250")
    said = document(*words, "--levels", "4", "--batch", "240", "--dim", "2", "--gamma", "2")
    assert said["plans"] == found["plans"]


def test_table_of_the_paper() -> None:
    lines = run().output.splitlines()
    rows = {w[1]: w for w in (line.replace("│", " │ ").split() for line in lines) if len(w) > 4}
    for name, total in (("single", "480 000"), ("multiscale", "74 000"), ("full-", "28 750")):
        assert any(word.startswith(name) and total in " ".join(rows[word]) for word in rows)
    assert "4 000 + 7 000 + 8 500 + 9 250" in run().output
    assert "coarse to fine" in run().output


def test_choices_change_the_plans() -> None:
    found = document("--levels", "4:6", "--dim", "1", "--steps", "10", "--drawn", "level")
    assert [level["n"] for level in found["levels"]] == [16, 32, 64]
    assert [level["samples"] for level in found["levels"]] == [64, 32, 16]
    plans = found["plans"]
    assert plans[0]["work_units"] == 10 * 112
    assert plans[1]["work_units"] == 10 * (64 / 4 + 32 * (1 / 2 + 1 / 4) + 16 * 1.5)
    assert [s["steps"] for s in plans[2]["stages"]] == [10, 5, 3]
    assert plans[1]["cells_drawn_per_step"] == 64 / 4 + 32 / 2 + 16
    one = document("--plans", "progressive", "--stages", "4,2", "--batch", "3", "--microbatch", "2")
    assert [p["name"] for p in one["plans"]] == ["progressive"]
    assert one["plans"][0]["work_units"] == 3 * (4 / 4 + 2)
    assert one["plans"][0]["ratio"] == 2000 * 3 / 9  # single scale has `steps` steps
    assert one["plans"][0]["peak_samples"] == 2
    assert [level["n"] for level in document("--size", "48", "--levels", "3")["levels"]] == [
        12,
        24,
        48,
    ]
    assert document("--gamma", "3")["plans"] != document()["plans"]
    assert len(document("--levels", "1", "--counts", "5")["levels"]) == 1


BAD = [
    ("--counts 128,0,32,16", "`counts` must be whole numbers of at least 1, coarse to fine; got 0"),
    ("--counts 128,-64", "`counts` .* got -64 on level 1"),
    ("--counts 8,4 --levels 3", "`counts` must hold 3 whole numbers, .* coarse to fine; got 2"),
    ("--stages 8,4 --counts 4,2,1", "`stages` must hold 3 whole numbers|`counts` must hold"),
    ("--stages 8,4 --levels 2:4", "`stages` must hold 3 whole numbers"),
    (
        "--counts eight",
        "`counts` must be whole numbers with commas; got 'eight'",
    ),
    ("--counts 8,,4", "`counts` must be whole numbers with commas"),
    ("--counts 1e3,10", "`counts` must be whole numbers with commas"),
    ("--counts 99999999999999", "`counts` .* got 99999999999999"),
    ("--levels 0", "`levels` must be a whole number from 1 to 27; got 0"),
    ("--levels 99", "`levels` must be a whole number from 1 to 27; got 99"),
    ("--levels 6:4", "`levels` must not decrease; got 6:4"),
    ("--levels 4:", "`levels` must be a:b"),
    ("--levels four", "`levels` must be a:b"),
    ("--levels 4:99", "`levels` a:b must lie between 1 and 26"),
    ("--steps 0", "`steps` must be a whole number from 1"),
    ("--batch -3", "`batch` must be a whole number from 1"),
    ("--dim 4", "`dim` must be 1, 2 or 3; got 4"),
    ("--gamma nan", "`gamma` must be between 0 and 16; got nan"),
    ("--gamma inf", "`gamma` must be between 0 and 16; got inf"),
    ("--drawn coarse", "`drawn` must be one of finest, level; got 'coarse'"),
    ("--microbatch 0", "`microbatch` must be a whole number from 1"),
    ("--size 100", "`size` must be halved 3 times to whole numbers, of at least 2 cells"),
    ("--size 8", "`size` must be halved 3 times to whole numbers, of at least 2 cells"),
    ("--size 0", "`size` must be a whole number from 2"),
    ("--size 64 --levels 3:5", "`size` must be that of the finest of the levels, 32; got 64"),
    ("--plans multi-scale", "`plans` must be one of .* did you mean 'multiscale'"),
    ("--plans single,single", "`plans` must not repeat"),
    ("--seconds", "`seconds` needs `module`"),
    ("--module gradconv.nn:ResNet", "`module` needs `size`"),
    ("--module nowhere:net --size 32", "`module` must name a module that can be imported"),
    ("--module gradconv.nn:Nothing --size 32", "`module` must name what gradconv.nn has"),
    ("--module math:pi --size 32", "`module` must be a torch.nn.Module or a callable"),
    ("--module math:gcd --size 32", "`module` factory must make a torch.nn.Module; got 0"),
    (
        "--module gradconv.nn:ResNet --size 32",
        "`module` factory must be called without arguments, or with `n` or `mesh`; got one",
    ),
    ("--module torch.nn:Tanh --size 32", "`module` must have a parameter that takes a gradient"),
    ("--module nets:tied --size 64", r"`module` must run on every mesh; on level 0 \(n=8\)"),
    ("--module nets:deep --size 64", r"`module` must run on every mesh; on level 0 \(n=8\)"),
    ("--module nets:conv --size 64 --channels 2", r"level 0 \(n=8\), .* \(1, 2, 8, 8\)"),
    ("--module nets:conv --size 64 --channels 0", "`channels` must be a whole number from 1"),
    ("--module nets:conv --size 64 --samples 0", "`samples` must be counts or a whole number"),
    ("--module nets:conv --size 64 --samples few", "`samples` must be counts or a whole number"),
    ("--module nets:conv --size 64 --repeats 0", "`repeats` must be a whole number from 1"),
    ("--module nets:conv --size 64 --dtype half", "`dtype` must be float64 or float32"),
    ("--module nets:conv --size 64 --device moon", "`device` must be cpu or a device"),
    ("--module nets:conv --size 64 --loss nets:nothing", "`loss` must name what nets has"),
    ("--module nets:conv --size 64 --loss nets:three", "`loss` must be 'mse' or a callable"),
    ("--module nets:conv --size 64 --loss nets:bad", r"`loss` .* got nan on level 2 \(n=32x32\)"),
]

NETS = """
import torch
from torch import nn
torch.manual_seed(0)
conv = nn.Conv2d(1, 1, 3, padding=1)
tied = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(), nn.Linear(1024, 1))
deep = nn.Sequential(*(nn.Conv2d(1, 1, 5) for _ in range(2)))  # 8 cells shrink to none
three = 3
def bad(p, t):
    return ((p - t) ** 2).mean() * (float("nan") if p.shape[-1] == 32 else 1.0)
def grows(n):
    return nn.Conv2d(1, n, 1)
def meshed(*, mesh):
    return nn.Conv2d(1, mesh.n, 1)
def counted(cells):
    return nn.Conv2d(1, cells, 1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    return tmp_path


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_is_named(folder: Path, words: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(*words.split())


def test_an_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gradconv", "cost", "--counts", "4,0"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    out, err = capfd.readouterr()
    assert not out
    assert err.startswith("error: `counts`")
    assert len(err.splitlines()) == 1


def test_a_module_beside_the_work_units(folder: Path) -> None:
    words = ("--module", "nets:conv", "--levels", "4:6", "--dim", "2", "--counts", "4,2,1")
    found = document(*words)
    forward = 2 * 9 * 64**2  # one channel: products of 9 weights; as many for their gradient
    assert [level["flops"] for level in found["levels"]] == [2 * forward / 4**i for i in (2, 1, 0)]
    assert [level["flops_order"] for level in found["levels"]] == [None, 2.0, 2.0]
    assert [level["seconds"] for level in found["levels"]] == [None] * 3
    for plan in found["plans"]:
        assert plan["flops"] == plan["work_units"] * 2 * forward
        assert plan["flops_ratio"] == pytest.approx(plan["ratio"], rel=1e-12)
        assert plan["seconds"] is plan["seconds_ratio"] is None
        assert plan["flops_parallel"] == plan["parallel_depth"] * 2 * forward
    last = found["levels"][-1]
    single_scale = found["plans"][0]
    assert single_scale["peak_bytes"] == last["fixed_bytes"] + 7 * last["sample_bytes"]
    assert last["sample_bytes"] > 4 * 64**2 * 4
    timed = document(*words, "--seconds", "--repeats", "2", "--samples", "counts", "--seed", "3")
    assert all(p["seconds"] > 0 and p["seconds_parallel"] > 0 for p in timed["plans"])
    for level in timed["levels"]:
        least, most = level["seconds_range"]
        assert 0 < least <= level["seconds"] <= most
    assert [level["flops"] for level in timed["levels"]] == [lv["flops"] for lv in found["levels"]]
    few = document(*words, "--samples", "counts", "--microbatch", "2")
    assert few["plans"][0]["peak_bytes"] == pytest.approx(
        last["fixed_bytes"] + 2 * last["sample_bytes"], rel=1e-3
    )
    shown = run(*words, "--seconds").output
    for word in ("FLOP", "KiB", " s", "plans, from measured gradients", "order"):
        assert word in shown


def test_samples_of_a_measured_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def loss(p: Any, t: Any) -> Any:
        seen.append(len(p))
        return ((p - t) ** 2).mean()

    import nets  # type: ignore[import-not-found]

    monkeypatch.setattr(nets, "loss", loss, raising=False)
    words = ("--module", "nets:conv", "--levels", "3:5", "--counts", "5,3,2", "--loss", "nets:loss")
    for options, sizes in (
        ((), {1}),
        (("--samples", "4"), {4}),
        (("--samples", "counts"), {5, 3, 2}),
        (("--samples", "counts", "--microbatch", "1"), {5, 3, 1}),
    ):
        seen.clear()
        document(*words, *options)
        assert set(seen) == sizes | {2 * n for n in sizes}  # memory is measured with twice as many


@pytest.mark.parametrize("name", ["grows", "meshed", "counted"])
def test_a_factory_may_take_the_mesh(folder: Path, name: str) -> None:
    found = document("--module", f"nets:{name}", "--levels", "3:5")
    # n channels on n cells an axis: the weights' gradient and the forward pass
    assert [lv["flops"] for lv in found["levels"]] == [2 * 2 * n * n**2 for n in (8, 16, 32)]
    assert found["levels"][-1]["flops_order"] == 3.0


def test_mesh_free_modules_are_named_in_notes_where_kernels_are_not_resolved(folder: Path) -> None:
    name = "gradconv.nn:MeshFreeConv2d(1, 1, widths=(0.05, 0.06), path='torch')"
    found = document("--module", name, "--levels", "3:5")
    assert found["levels"][-1]["flops"] > 0
    assert any("narrower than a cell of the mesh 8×8" in note for note in found["notes"])
    assert not any("32×32" in note for note in found["notes"])
