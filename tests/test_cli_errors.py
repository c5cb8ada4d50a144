"""Bad input: one line that names the argument, exit code 2, and nothing left behind."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import gradconv
from gradconv import cli
from gradconv.config import SweepConfig, option_names, parse_parameter, read_toml
from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.runner import run
from gradconv.sweeps import sweep

ROOT = Path(gradconv.__file__).resolve().parents[1]
TINY = ("sweep", "--levels=2:5", "--dim=1", "--replicates=2")

many = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; standard error as the operating system sees it."""

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gradconv", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return invoke


def check_line(err: str, named: str) -> None:
    """Hold an error against the contract: one line that names the argument."""
    assert err.startswith("error: "), err
    assert len(err.splitlines()) == 1, err
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert f"`{named}`" in err, err


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# Options, the argument that the error must name, and a word of the rule or of the hint.
BAD: list[tuple[str, str, str]] = [
    # unknown names, with the nearest known one
    ("--kernel=stencl", "kernel", "did you mean 'stencil'"),
    ("--signal=sobolv", "signal", "did you mean 'sobolev'"),
    ("--signal=photograph:astronut", "signal photograph", "did you mean 'astronaut'"),
    ("--target=identty", "target", "did you mean 'identity'"),
    ("--noise=pixl", "noise", "did you mean 'pixel'"),
    ("--setting=corsening", "setting", "did you mean 'coarsening'"),
    ("--restriction=averge", "restriction", "did you mean 'average'"),
    ("--boundary=periodc", "boundary", "did you mean 'periodic'"),
    ("--route=chian", "route", "did you mean 'chain'"),
    ("--kernel=", "kernel", "must be one of"),
    ("--kernel=stencil,", "kernel", "must be one of"),
    ("--noise=pixel:sgma=1", "noise", "number"),
    # even, negative and absurd stencils and cutoffs
    ("--kernel=stencil:4", "kernel", "odd"),
    ("--kernel=stencil:-3", "kernel", "got"),
    ("--kernel=stencil:0", "kernel", "got"),
    ("--kernel=stencil:3.5", "kernel", "whole number"),
    ("--kernel=stencil:3:3", "kernel", "at most 1"),
    ("--kernel=stencil:99", "kernel", "99"),
    ("--kernel=spectral:2", "kernel", "2*modes < n"),
    ("--kernel=spectral:0", "kernel", "modes"),
    ("--kernel=gaussian-derivative:9", "kernel", "order"),
    ("--kernel=gaussian-derivative:2:nan", "kernel", "finite"),
    ("--kernel=scaled-stencil:inf", "kernel", "finite"),
    ("--kernel=scaled-stencil:1e300", "kernel", "length"),
    # numbers out of range, NaN and infinity
    ("--noise=pixel:nan", "noise", "finite"),
    ("--noise=pixel:inf", "noise", "finite"),
    ("--noise=pixel:-1", "noise", "positive"),
    ("--noise=white:0", "noise", "positive"),
    ("--noise=power:nan", "noise", "finite"),
    ("--noise=power:21", "noise", "alpha"),
    ("--noise=matern", "noise", "needs nu, length"),
    ("--noise=matern:0:0.1", "noise", "nu"),
    ("--noise=matern:1:0.1:nan", "noise", "finite"),
    ("--noise=poisson:0", "noise", "peak"),
    ("--noise=salt-and-pepper:1.5", "noise", "fraction"),
    ("--noise=none:1", "noise", "no values"),
    ("--signal=sobolev:nan", "signal", "finite"),
    ("--signal=band-limited:0", "signal", "modes"),
    ("--signal=cartoon:0", "signal", "shapes"),
    ("--target=blur:0", "target", "positive"),
    ("--target=unblur:1", "target", "amplify"),
    ("--target=shift:nan", "target", "finite"),
    ("--target=shift:0.1:2", "target", "axis"),
    ("--target=derivative:7", "target", "axis"),
    ("--confidence=nan", "confidence", "number"),
    ("--confidence=0", "confidence", "between 0 and 1"),
    ("--confidence=1", "confidence", "between 0 and 1"),
    ("--confidence=x", "confidence", "number"),
    ("--memory=nan", "memory", "finite"),
    ("--memory=inf", "memory", "finite"),
    ("--memory=0", "memory", "positive"),
    ("--memory=-1", "memory", "got -1"),
    ("--memory=1e-9", "memory", "must hold one replicate"),
    ("--threads=0", "threads", "from 1 to 1024"),
    ("--replicates=1", "replicates", "from 2"),
    ("--replicates=2.5", "replicates", "whole number"),
    ("--replicates=1000000000000", "memory", "must"),
    ("--replicates=1" + 30 * "0", "memory", "must"),
    ("--seed=-1", "seed", "from 0"),
    ("--seed=x", "seed", "whole number"),
    ("--channels=0", "channels", "1 to 64"),
    ("--channels=65", "channels", "1 to 64"),
    # kernel parameters
    ("--diffusivity=-1", "diffusivity", "positive definite"),
    ("--diffusivity=0", "diffusivity", "positive definite"),
    ("--diffusivity=[[1,2],[2,1]] --dim=2", "diffusivity", "positive definite"),
    ("--diffusivity=[[1,0.5],[0,1]] --dim=2", "diffusivity", "symmetric"),
    ("--diffusivity=nan", "diffusivity", "number"),
    ("--diffusivity=1e-320", "diffusivity", "must"),
    ("--drift=1,2,3", "drift", "shape"),
    ("--drift=Infinity", "drift", "finite"),
    ("--amplitude=x", "amplitude", "number"),
    ("--amplitude=1" + 400 * "0", "amplitude", "finite"),
    ("--weights=1,2", "weights", "odd"),
    ("--weights=1,NaN,2", "weights", "finite"),
    ("--weights=[1,2", "weights", "JSON"),
    ("--weights=null", "weights", "number"),
    ("--weights=" + 20_000 * "[", "weights", "JSON"),
    # contradictory options
    ("--weights=0.1,0.2,0.3 --kernel=mfc", "weights", "needs kernel stencil"),
    ("--diffusivity=1 --kernel=stencil", "diffusivity", "needs kernel mfc"),
    ("--setting=refinement --route=direct", "route", "refinement"),
    ("--boundary=zero --restriction=spectral", "restriction", "needs boundary periodic"),
    ("--boundary=zero --kernel=spectral:1", "kernel", "needs boundary periodic"),
    ("--noise=poisson", "noise", "nowhere negative"),
    ("--signal=photograph --dim=2 --setting=refinement", "setting", "refinement"),
    ("--signal=photograph", "dim", "must be 2"),
    ("--signal=photograph --dim=2 --levels=3:10", "levels", "512"),
    ("--signal=photograph --dim=2 --channels=2", "channels", "3"),
    ("--kernel=mfc,mfc", "kernel", "repeat"),
    # dimensions and levels
    ("--dim=0", "dim", "1, 2 or 3"),
    ("--dim=4", "dim", "1, 2 or 3"),
    ("--dim=1.5", "dim", "whole number"),
    ("--dim=1,1", "dim", "repeat"),
    ("--levels=5:6", "levels", "at least 3 for a fit; got 5:6"),
    ("--levels=6:3", "levels", "increase"),
    ("--levels=5", "levels", "a:b"),
    ("--levels=a:b", "levels", "a:b"),
    ("--levels=2:5:8", "levels", "a:b"),
    ("--levels=0:5", "levels", "between 1"),
    ("--levels=2:60", "levels", "between 1"),
    ("--levels=\u00b2:5", "levels", "a:b"),
    ("--levels=2:" + 5000 * "9", "levels", "levels"),
    ("--dim=3 --levels=4:20", "memory", "GiB"),
    # device and precision
    ("--dtype=float16", "dtype", "float64 or float32"),
    ("--device=cud", "device", "torch"),
    ("--device=meta", "device", "torch"),
    ("--device=cuda:99", "device", "torch"),
    ("--device=hpu", "device", "torch"),
]


def _name(case: Any) -> str | None:
    return case[:40] if isinstance(case, str) else None


@pytest.mark.parametrize(("options", "named", "rule"), BAD, ids=_name)
def test_bad_options(call: Any, here: Path, options: str, named: str, rule: str) -> None:
    code, out, err = call(*TINY, *options.split(" "), "-o", "results")
    assert (code, out) == (2, "")
    check_line(err, named)
    assert rule in err
    assert files(here) == []


def test_good_options_pass_the_same_way(call: Any, here: Path) -> None:
    # Negative control: the folder is made, and standard error stays empty.
    code, out, err = call(*TINY, "-o", "results")
    assert (code, err) == (0, "")
    assert out
    assert "results/rates.json" in files(here)


def test_the_check_of_a_line_sees_what_is_wrong() -> None:
    check_line("error: `dim` must be 1; got 2\n", "dim")
    for wrong in (
        "error: dim must be 1\n",
        "error: `dim` must\nbe 1\n",
        "`dim` must be 1\n",
        "error: `dims` must be 1\n",
        "Warning\nerror: `dim` must be 1\n",
    ):
        with pytest.raises(AssertionError):
            check_line(wrong, "dim")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("sweep", "--kernal=mfc"), "'--kernel'"),
        (("sweep", "--json=3"), "--json"),
        (("sweep", "extra"), "extra"),
        (("sweep", "--seed"), "--seed"),
        (("swep",), "'sweep'"),
        (("demo", "--levels=2:5"), "--levels"),
    ],
)
def test_unknown_options_and_commands(
    call: Any, here: Path, options: tuple[str, ...], word: str
) -> None:
    code, out, err = call(*options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert word in err
    assert files(here) == []


@pytest.mark.parametrize(
    "options",
    [
        ("--noise=pixel:1e154",),
        ("--noise=pixel:1e300",),
        ("--noise=power:-20:1e300",),
        ("--noise=matern:1:1e-300",),
        ("--noise=matern:1:1e300",),
        ("--signal=sobolev:3:1e300",),
        ("--target=blur:1e300",),
        ("--target=unblur:1e300",),
        ("--target=derivative:0:1e300",),
        ("--weights=1e300,1e300,1e300",),
        ("--amplitude=1e200",),
        ("--confidence=1e-300",),
        ("--dtype=float32", "--noise=pixel:1e150"),
        ("--dtype=float32", "--amplitude=1e30"),
    ],
    ids=" ".join,
)
def test_numbers_too_large_for_the_arithmetic(call: Any, options: tuple[str, ...]) -> None:
    # some show only in the work: then what is complete stays, but it is one line all the same
    code, out, err = call(*TINY, *options, "-o", "results")
    assert (code, out) == (2, "")
    assert err.startswith("error: `"), err[:200]
    assert len(err.splitlines()) == 1, err


# --- files -------------------------------------------------------------------------------------


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def picture(suffix: str, **options: Any) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    if suffix == "gif":
        image = image.convert("L")
    stream = io.BytesIO()
    image.save(stream, {"jpg": "JPEG", "tif": "TIFF", "ppm": "PPM"}.get(suffix, suffix), **options)
    return stream.getvalue()


def bomb() -> bytes:
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    return stream.getvalue()


SQUARE = np.zeros((64, 64))
PLAIN = npy(SQUARE)
BAD_FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty png": ("a.png", lambda: b""),
    "text as png": ("a.png", lambda: b"no image at all"),
    "truncated png": ("a.png", lambda: picture("png")[:3000]),
    "truncated jpg": ("a.jpg", lambda: picture("jpg")[:700]),
    "truncated tif": ("a.tif", lambda: picture("tif")[:3000]),
    "truncated lzw tif": ("a.tif", lambda: picture("tif", compression="tiff_lzw")[:3000]),
    "broken lzw tif": (
        "a.tif",
        lambda: (lambda b: b[:300] + b"\xff" * 200 + b[500:])(
            picture("tif", compression="tiff_lzw")
        ),
    ),
    "huge png": ("a.png", bomb),
    "small png": ("a.png", lambda: picture("png")),
    "toml": ("a.toml", lambda: b"kernel = 3"),
    "empty npy": ("a.npy", lambda: b""),
    "truncated npy": ("a.npy", lambda: PLAIN[:500]),
    "cut npy header": ("a.npy", lambda: PLAIN[:20]),
    "huge npy header": ("a.npy", lambda: PLAIN.replace(b"(64, 64), }", b"(9**9, 9), }")),
    "huge npy shape": ("a.npy", lambda: PLAIN.replace(b"(64, 64), }  ", b"(999999999, 64), }")),
    "zip as npy": ("a.npy", lambda: b"PK\x03\x04" + bytes(80)),
    "npz as npy": ("a.npy", lambda: _npz()),
    "objects": ("a.npy", lambda: npy(np.array([None, 1], dtype=object))),
    "text array": ("a.npy", lambda: npy(np.full((64, 64), "x"))),
    "complex": ("a.npy", lambda: npy(SQUARE + 1j)),
    "nan": ("a.npy", lambda: npy(np.full((64, 64), np.nan))),
    "infinity": ("a.npy", lambda: npy(np.full((64, 64), np.inf))),
    "long infinity": ("a.npy", lambda: npy(np.full((64, 64), np.longdouble("1e4000")))),
    "number": ("a.npy", lambda: npy(np.float64(1.0))),
    "no values": ("a.npy", lambda: npy(np.zeros((0, 64)))),
    "five axes": ("a.npy", lambda: npy(np.zeros((2,) * 5))),
    "too small": ("a.npy", lambda: npy(np.zeros((16, 16)))),
    "dates": ("a.npy", lambda: npy(np.zeros((64, 64), "M8[s]"))),
    "records": ("a.npy", lambda: npy(np.zeros((64, 64), [("a", float)]))),
}


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, SQUARE)
    return stream.getvalue()


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_image_files(call: Any, here: Path, kind: str) -> None:
    name, make = BAD_FILES[kind]
    (here / name).write_bytes(make())
    code, out, err = call(
        "sweep", f"--signal=image:{name}", "--dim=2", "--levels=3:6", "--replicates=2", "-o", "out"
    )
    assert (code, out) == (2, "")
    check_line(err, "levels" if "small" in kind else "signal")
    assert name in err
    assert files(here) == [name]


def test_a_good_image_file_passes_the_same_way(call: Any, here: Path) -> None:
    for name, content in (("a.npy", PLAIN), ("a.tif", picture("tif", compression="tiff_lzw"))):
        (here / name).write_bytes(content)
        code, _, err = call(
            "sweep", f"--signal=image:{name}", "--dim=2", "--levels=2:5", "--replicates=2"
        )
        assert (code, err) == (0, "")


def test_paths_that_hold_no_image(call: Any, here: Path) -> None:
    (here / "empty").mkdir()
    os.mkfifo(here / "pipe.png")
    (here / "loop.png").symlink_to(here / "loop.png")
    for path in ("nowhere.png", "empty", "pipe.png", "loop.png", "x" * 300, "", "empty/../no"):
        code, out, err = call(*TINY, f"--signal=image:{path}", "-o", "out")
        assert (code, out) == (2, "")
        check_line(err, "signal")
    assert files(here) == ["empty", "loop.png", "pipe.png"]


BAD_TOML: dict[str, tuple[bytes, str]] = {
    "no toml": (b"kernel = ", "config"),
    "no text": (b"\xff\xfe\x00", "config"),
    "unknown key": (b"kernal = 'mfc'", "config"),
    "table": (b"[kernel]\nname = 'mfc'", "kernel"),
    "deep": (b"weights = " + 20_000 * b"[", "config"),
    "number for text": (b"kernel = 3", "kernel"),
    "text for number": (b"dim = 'two'", "dim"),
    "list of lists": (b"kernel = [['mfc']]", "kernel"),
    "empty list": (b"noise = []", "noise"),
    "truth": (b"dim = true", "dim"),
    "fraction": (b"replicates = 8.5", "replicates"),
    "replicates as text": (b"replicates = '8'", "replicates"),
    "seed as truth": (b"seed = true", "seed"),
    "threads as list": (b"threads = [1]", "threads"),
    "memory as text": (b"memory = '4'", "memory"),
    "not a number": (b"memory = nan", "memory"),
    "levels as number": (b"levels = 5", "levels"),
    "levels as list": (b"levels = [2, 5]", "levels"),
    "date": (b"drift = 2020-01-01", "drift"),
    "infinite weights": (b"weights = [1.0, inf, 1.0]", "weights"),
    "huge integer": (b"amplitude = 1" + 400 * b"0", "amplitude"),
    "huge seed": (b"seed = -1" + 400 * b"0", "seed"),
    "dtype": (b"dtype = 64", "dtype"),
    "zero byte in a path": (b'signal = "image:a\\u0000b"', "signal"),
}


@pytest.mark.parametrize("kind", BAD_TOML)
def test_bad_configuration_files(call: Any, here: Path, kind: str) -> None:
    content, named = BAD_TOML[kind]
    base = {b"levels": b"'2:5'", b"dim": b"1"}
    lines = [k + b" = " + v for k, v in base.items() if not content.startswith(k)]
    (here / "run.toml").write_bytes(b"\n".join([*lines, content]))
    code, out, err = call("sweep", "--config=run.toml", "-o", "out")
    assert (code, out) == (2, "")
    assert err.startswith("error: `")
    assert len(err.splitlines()) == 1
    assert f"`{named}" in err
    if kind == "unknown key":
        assert "did you mean 'kernel'" in err
    assert files(here) == ["run.toml"]


@pytest.mark.parametrize("path", ["nowhere.toml", ".", "x" * 300])
def test_absent_configuration_files(call: Any, here: Path, path: str) -> None:
    code, out, err = call("sweep", f"--config={path}", "-o", "out")
    assert (code, out) == (2, "")
    check_line(err, "config")
    assert files(here) == []


@pytest.mark.parametrize("path", ["file", "file/below", "x" * 300, "", "/dev/null/x", "/proc/x/y"])
def test_bad_output_folders(call: Any, here: Path, path: str) -> None:
    (here / "file").write_text("kept")
    code, out, err = call(*TINY, "-o", path)
    assert (code, out) == (2, "")
    check_line(err, "output")
    assert files(here) == ["file"]
    assert (here / "file").read_text() == "kept"


# --- real processes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--kernel=stencil:4",), "kernel"),
        (("--replicates=1",), "replicates"),
        (("--amplitude=1e200", "--kernel=mfc"), "amplitude"),
        ((b"--noise=\xff",), "noise"),
    ],
)
def test_real_processes(here: Path, options: tuple[Any, ...], named: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "gradconv", *TINY, *options], env=environment, capture_output=True
    )
    assert (done.returncode, done.stdout) == (2, b"")
    check_line(done.stderr.decode(), named)
    assert files(here) == []


# --- generated input ---------------------------------------------------------------------------

SPECS: dict[str, tuple[str, ...]] = {
    "kernel": ("stencil:3", "mfc", "spectral:1", "scaled-stencil:0.1", "gaussian-derivative:2:0.1"),
    "signal": ("sobolev:3:1", "band-limited:1", "cartoon:3:1", "plane-wave:3", "photograph:camera"),
    "target": ("identity", "blur:0.1", "unblur:0.001", "shift:0.1:0", "derivative:0:0.1"),
    "noise": (
        *("pixel:0.5", "white:0.1", "power:2:0.1", "matern:1.5:0.1:0.5", "poisson:30"),
        *("salt-and-pepper:0.1", "uniform:0.5", "none"),
    ),
    "restriction": ("average", "injection", "full_weighting", "bilinear", "spectral"),
    "setting": ("coarsening", "refinement"),
    "boundary": ("periodic", "zero", "reflecting"),
    "route": ("chain", "direct"),
    "levels": ("2:5", "3:6"),
    "dtype": ("float64", "float32"),
}
NUMBERS = (
    *("nan", "inf", "-inf", "1e999", "-1", "0", "-0.0", "1e300", "-1e300", "1e-300", "5e-324"),
    *(
        "1e16",
        "2.5",
        "3",
        "4",
        "",
        " ",
        "x",
        "1_0",
        "0x10",
        "\u0661",
        "²",
        "9" * 400,
        "1e",
        "+1",
        "--1",
    ),
)
PARTS = (*NUMBERS, ":", "::", ",", "=", "sigma=1", "axis=0", "\x00", "\n", "\u2028", "é", "'", "`")


@st.composite
def mutated(draw: st.DrawFn, texts: tuple[str, ...]) -> str:
    """A valid text with a few edits."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 3))):
        fields = text.split(":")
        place = draw(st.integers(0, len(fields) - 1))
        kind = draw(st.sampled_from(("field", "insert", "delete", "append", "swap")))
        if kind == "field":
            fields[place] = draw(st.sampled_from(PARTS))
            text = ":".join(fields)
        elif kind == "append":
            text += ":" + draw(st.sampled_from(PARTS))
        else:
            i = draw(st.integers(0, len(text)))
            j = min(len(text), i + draw(st.integers(0, 2)))
            new = draw(st.sampled_from(PARTS)) if kind == "insert" else ""
            if kind == "swap":
                new = text[i:j][::-1]
            text = text[:i] + new + text[j:]
    return text


def assert_accepted_or_named(make: Callable[[], object], named: set[str] | None = None) -> bool:
    """Whether a call is accepted; if not, its error must be an `InputError` of one line."""
    try:
        make()
    except InputError as error:
        line = " ".join(str(error).split())
        assert "`" in line, line
        assert len(line.splitlines()) == 1
        if named is not None:
            assert any(f"`{name}" in line for name in named), (named, line)
        return False
    return True


def config(**choices: Any) -> SweepConfig:
    base: dict[str, Any] = {"kernel": ("stencil",), "dim": (1,), "levels": "3:6", "replicates": 2}
    return SweepConfig(**{**base, **choices})


@many
@given(data=st.data())
def test_mutated_texts(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SPECS)))
    text = data.draw(mutated(SPECS[name]))
    dim = data.draw(st.sampled_from((1, 2)))
    value = text if name in ("levels", "dtype") else (text,)
    assert_accepted_or_named(lambda: config(**{"dim": (dim,), name: value}).problems())


@many
@given(data=st.data())
def test_mutated_texts_on_the_command_line(
    data: st.DataObject, call: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Figures cost more than all the rest.
    monkeypatch.setattr("gradconv.runner.write_figure", lambda *_: None)
    monkeypatch.setattr("gradconv.plots.gap_figure", lambda *_: None)
    name = data.draw(st.sampled_from(("kernel", "noise", "target", "levels", "boundary")))
    text = data.draw(mutated(SPECS[name])).replace("\x00", "")
    if name == "levels" and text.strip() not in SPECS["levels"]:
        text = text.replace("9", "5")  # a valid range must stay small
    code, out, err = call(
        *TINY, "--kernel=stencil", "--restriction=average", f"--{name}={text}", "-o", "out"
    )
    if code == 0:
        assert err == ""
        for path in sorted((here / "out").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (here / "out").rmdir()
        return
    assert (code, out) == (2, "")
    assert err.startswith("error: `"), err
    assert len(err.splitlines()) == 1, err
    assert files(here) == []


@many
@given(st.sampled_from(("weights", "diffusivity", "drift", "amplitude")), st.data())
def test_mutated_parameters(name: str, data: st.DataObject) -> None:
    texts = ("0.1,0.2,0.3", "[0.1,0.2,0.3]", "0.5", "[[0.01,0],[0,0.01]]", "-1", "1e-3")
    text = data.draw(mutated(texts))
    kernel = "stencil" if name == "weights" else "mfc"

    def make() -> None:
        config(kernel=(kernel,), **{name: parse_parameter(name, text)}).problems()

    assert_accepted_or_named(make, {name})


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from((10**400, -(10**400), math.nan, math.inf, -math.inf, 1e300, 5e-324, 0.0)),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.lists(st.one_of(st.integers(-3, 3), st.floats(), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@many
@given(st.sampled_from(option_names()), VALUES)
def test_values_of_any_type(name: str, value: Any) -> None:
    kernel = ("stencil",) if name == "weights" else ("mfc",)
    choices = {"kernel": kernel, name: value}
    # what no memory holds is refused by name of the memory
    assert_accepted_or_named(lambda: config(**choices).problems(), {name, "memory", "levels"})


@many
@given(
    st.sampled_from(("replicates", "seed", "threads", "memory", "confidence", "dtype", "device")),
    VALUES,
)
def test_bad_values_in_python(name: str, value: Any) -> None:
    good = {"replicates": 2, "seed": 0, "threads": 1, "memory": 1e8, "confidence": 0.9}
    problem, levels = Problem("stencil", dim=1), MeshHierarchy.powers_of_two(1, 2, 5)
    if name in ("replicates", "threads") and isinstance(value, int):
        value = min(value, 50)
    assert_accepted_or_named(
        lambda: sweep(problem, levels, **{**good, name: value}), {name, "memory"}
    )


@many
@given(st.sampled_from(("kernel", "signal", "target", "noise", "restriction", "dim")), VALUES)
def test_bad_choices_in_python(name: str, value: Any) -> None:
    assert_accepted_or_named(lambda: Problem(**{"dim": 1, name: value}))


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file truncated, overwritten in places, or replaced."""

    def overwrite(edits: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content)
        for place, value in edits:
            changed[place] = value
        return bytes(changed)

    head, anywhere = min(len(content), 160) - 1, len(content) - 1
    places = st.one_of(st.integers(0, head), st.integers(0, anywhere))
    return st.one_of(
        st.integers(0, anywhere).map(lambda n: content[:n]),
        st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6).map(overwrite),
        st.binary(max_size=200),
        st.binary(max_size=40).map(lambda b: content[:10] + b),
    )


FILES = {
    "npy": PLAIN,
    "png": picture("png"),
    "jpg": picture("jpg"),
    "tif": picture("tif"),
    "webp": picture("webp"),
    "bmp": picture("bmp"),
    "gif": picture("gif"),
    "ppm": picture("ppm"),
}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("images")

    def paths() -> Iterator[Path]:
        count = 0
        while True:
            count += 1
            yield folder / f"image{count}"

    return paths()  # type: ignore[return-value]


@many
@given(suffix=st.sampled_from(sorted(FILES)), data=st.data())
def test_damaged_images(suffix: str, data: st.DataObject, numbered: Iterator[Path]) -> None:
    path = next(numbered).with_suffix(f".{suffix}")
    path.write_bytes(data.draw(damaged(FILES[suffix])))
    choices = {"signal": (f"image:{path}",), "dim": (2,), "levels": "2:5"}
    assert_accepted_or_named(
        lambda: config(**choices).problems(), {"signal", "dim", "levels", "channels"}
    )


TOML_LINES = (
    *("kernel = ['stencil', 'mfc']", "noise = 'pixel:0.5'", "dim = 1", "levels = '2:5'"),
    *("replicates = 3", "seed = 5", "memory = 0.5", "weights = [0.1, 0.2, 0.3]"),
    *("diffusivity = 0.01", "confidence = 0.9", "boundary = 'periodic'"),
)
TOML_PARTS = (*"[]{}='\"#\n,.-+", "nan", "inf", "true", "1e9", "2020-01-01", "dim", "\ud7ff", "[a]")


@many
@given(lines=st.lists(st.sampled_from(TOML_LINES), max_size=6), data=st.data())
def test_mutated_configuration_files(
    lines: list[str], data: st.DataObject, numbered: Iterator[Path]
) -> None:
    text = "\n".join(lines)
    for _ in range(data.draw(st.integers(0, 3))):
        i = data.draw(st.integers(0, len(text)))
        j = min(len(text), i + data.draw(st.integers(0, 3)))
        text = text[:i] + data.draw(st.sampled_from(TOML_PARTS)) + text[j:]
    path = next(numbered).with_suffix(".toml")
    path.write_text(text)
    assert_accepted_or_named(lambda: SweepConfig(**read_toml(path)).problems())


@many
@given(st.binary(max_size=60))
def test_random_configuration_files(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.toml"
        path.write_bytes(content)
        assert_accepted_or_named(lambda: read_toml(path), {"config"})


def test_generated_input_is_neither_all_bad_nor_all_good() -> None:
    # Negative control: otherwise the properties above would hold of nothing.
    seen = {True: 0, False: 0}

    @settings(many, max_examples=200, database=None)
    @given(mutated(SPECS["noise"]))
    def count(text: str) -> None:
        seen[assert_accepted_or_named(lambda: config(noise=(text,)).problems())] += 1

    count()
    assert min(seen.values()) > 10


def test_errors_before_work_make_no_folder_in_python(tmp_path: Path) -> None:
    for choices in ({"replicates": 1}, {"memory": 1e-9}, {"dtype": "x"}, {"threads": 0}):
        with pytest.raises(InputError, match=f"`{next(iter(choices))}`"):
            run(config(**choices), tmp_path / "out")
        assert not (tmp_path / "out").exists()
