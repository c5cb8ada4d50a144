"""The corpus: its manifest is checked file by file, and its preparation against checksums."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import image_formats as formats
import numpy as np
import pytest
from PIL import Image

from gradconv import InputError
from gradconv.images import IMAGES, SPLITS
from gradconv.images.base import split_by_name

SCRIPT = Path(__file__).resolve().parent.parent / "studies" / "corpus" / "prepare.py"


@pytest.fixture
def prepare() -> Any:
    spec = importlib.util.spec_from_file_location("corpus_prepare", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus_prepare"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["corpus_prepare"]


def _encoded(seed: int, layout: str, rows: int = 300, columns: int = 280) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(np.moveaxis(formats.photograph(seed, rows, columns), 0, 2))
    picture.save(stream, layout)
    return stream.getvalue()


RESOURCES = "usr/share/gcompris-qt/rcc"
WALLPAPERS = ("Path", "OneStandsOut", "ColorfulCups", "EveningGlow", "FallenLeaf", "ColdRipple")
WALLPAPERS += ("BytheWater", "Kite", "summer_1am", "DarkestHour", "Grey")


def _packages(root: Path) -> Path:
    """Folder with four Debian packages, each with a few photographs where the real one has them."""
    trees: dict[str, dict[str, bytes]] = {
        "gcompris-qt-data": {
            f"{RESOURCES}/explore_monuments.rcc": formats.resource_file(
                [_encoded(0, "WEBP"), b"{}", _encoded(1, "WEBP", 64, 64), _encoded(2, "WEBP")]
            ),
            f"{RESOURCES}/erase.rcc": formats.resource_file([_encoded(0, "WEBP")]),
            f"{RESOURCES}/explore_world_animals.rcc": formats.resource_file([_encoded(4, "WEBP")]),
            f"{RESOURCES}/explore_farm_animals.rcc": formats.resource_file([_encoded(5, "WEBP")]),
        },
        "lomiri-wallpapers-16.04": {"usr/share/backgrounds/Hill_by_X.jpg": _encoded(6, "JPEG")},
        "mate-backgrounds": {
            "usr/share/backgrounds/mate/nature/Dune.jpg": _encoded(7, "JPEG", 301, 281),
            "usr/share/backgrounds/mate/abstract/No.jpg": _encoded(8, "JPEG"),
        },
        "plasma-workspace-wallpapers": {},
    }
    for i, name in enumerate(WALLPAPERS):
        file = f"usr/share/wallpapers/{name}/contents/images/2560x1600.jpg"
        trees["plasma-workspace-wallpapers"][file] = _encoded(20 + i, "JPEG")
    copyright_text = "Files: *\nLicense: GPL-2+\n\nFiles: 16.04/Hill_by_X.jpg\nLicense: CC0-1.0\n"
    made = root / "debs"
    made.mkdir(parents=True)
    for name, tree in trees.items():
        tree[f"usr/share/doc/{name}/copyright"] = copyright_text.encode()
        tree["DEBIAN/control"] = (
            f"Package: {name}\nVersion: 1.0\nArchitecture: all\n"
            "Maintainer: nobody <nobody@example.org>\nDescription: a test\n"
        ).encode()
        for file, content in tree.items():
            path = root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        run = ["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(root / name), str(made)]
        subprocess.run(run, check=True, capture_output=True)
    return made


needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="packages are made and unpacked by dpkg-deb"
)


@needs_dpkg
def test_the_corpus_is_made_checked_and_opened(
    prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    debs, corpus = _packages(tmp_path / "packages"), tmp_path / "corpus"
    monkeypatch.setattr(prepare, "CHECKSUMS", tmp_path / "checksums.json")
    assert prepare.main([str(corpus), "--debs", str(debs), "--record"]) == 0
    # three of the resources (one is small, one is there twice), lomiri, mate and eleven wallpapers
    assert "17 photographs" in capsys.readouterr().out
    manifest = json.loads((corpus / "manifest.json").read_text())
    entries = {e["original"]: e for e in manifest["photographs"]}
    assert entries["lomiri-wallpapers-16.04/Hill_by_X"]["licence"] == "CC0-1.0"
    assert entries["mate-backgrounds/Dune"]["licence"] == "GPL-2+"
    assert split_by_name(sorted(entries)) == {
        split: sorted(n for n, e in entries.items() if e["split"] == split) for split in SPLITS
    }
    # pixels, by another route: means over squares in floating point
    entry = entries["mate-backgrounds/Dune"]
    with Image.open(io.BytesIO(_encoded(7, "JPEG", 301, 281))) as image:
        values = np.asarray(image, dtype=float)[:300, :280]
    means = values.reshape(150, 2, 140, 2, 3).mean(axis=(1, 3))
    with Image.open(corpus / entry["file"]) as image:
        pixels = np.asarray(image)
    assert np.abs(pixels - means).max() <= 0.5
    assert entry["pixels_sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    source = IMAGES.parse(f"corpus:{corpus}")
    titles = [p.title(i) for p in (source.open(s, 3) for s in SPLITS) for i in range(len(p))]
    assert sorted(titles) == sorted(e["file"] for e in entries.values())
    fingerprint = source.fingerprint()
    # again: it is there; with a file gone it is made again, and is the same
    assert prepare.main([str(corpus), "--debs", str(tmp_path)]) == 0
    assert "complete" in capsys.readouterr().out
    (corpus / entry["file"]).unlink()
    assert prepare.main([str(corpus), "--debs", str(debs)]) == 0
    assert source.fingerprint() == fingerprint
    # other pixels, other bytes or another package than the checksums describe are refused
    sums = json.loads((tmp_path / "checksums.json").read_text())
    name = "mate-backgrounds/Dune"
    for key, said in (
        ("pixels_sha256", "decoders differ"),
        ("source_sha256", "must have the byte"),
    ):
        spoilt = json.loads(json.dumps(sums))
        spoilt["photographs"][name][key] = "0" * 64
        (tmp_path / "checksums.json").write_text(json.dumps(spoilt))
        assert prepare.main([str(corpus), "--debs", str(debs)]) == 2
        error = capsys.readouterr().err
        assert name in error
        assert said in error
        with pytest.raises(InputError, match="make corpus"):  # half made is not made
            source.open("train", 1)
    spoilt = json.loads(json.dumps(sums))
    spoilt["packages"]["mate-backgrounds"]["version"] = "2.0"
    (tmp_path / "checksums.json").write_text(json.dumps(spoilt))
    assert prepare.main([str(corpus), "--debs", str(debs)]) == 2
    assert "must be version 2.0" in capsys.readouterr().err


def test_missing_tools_and_packages_are_named(
    prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if shutil.which("dpkg-deb"):
        assert prepare.main([str(tmp_path / "corpus"), "--debs", str(tmp_path)]) == 2
        assert "`--debs` must hold the package gcompris-qt-data=" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prepare.main([str(tmp_path / "corpus")]) == 2
    error = capsys.readouterr().err
    assert "needs `apt-get`, which is not here" in error
    assert error.count("\n") == 1


def test_blocks_are_found_where_both_lengths_agree(prepare: Any) -> None:
    blocks = [_encoded(i, "WEBP", 40, 40) for i in range(3)]
    file = formats.resource_file([blocks[0], b"RIFF....WEBP", blocks[1], b"text", blocks[2]])
    assert prepare.webp_blocks(file) == blocks
    assert prepare.webp_blocks(b"".join(blocks)) == []  # no lengths of a resource file before them
    assert prepare.webp_blocks(b"") == []


def test_the_stored_checksums_are_those_of_the_packages_named(prepare: Any) -> None:
    sums = json.loads(prepare.CHECKSUMS.read_text())
    assert set(sums["packages"]) == set(prepare.PACKAGES)
    counts = {p: sum(n.startswith(f"{p}/") for n in sums["photographs"]) for p in prepare.PACKAGES}
    assert counts == {
        "gcompris-qt-data": 106,
        "lomiri-wallpapers-16.04": 15,
        "mate-backgrounds": 12,
        "plasma-workspace-wallpapers": 11,
    }
    every = [e[k] for e in sums["photographs"].values() for k in ("source_sha256", "pixels_sha256")]
    assert len(set(every)) == 2 * 144


# ---- a corpus that is there ----


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    entries = []
    for i in range(9):
        file = tmp_path / f"{i}.png"
        image = formats.photograph(i, 40, 48)
        formats.write_image(file, image)
        entries.append(
            {
                "file": file.name,
                "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "pixels_sha256": hashlib.sha256(np.moveaxis(image, 0, 2).tobytes()).hexdigest(),
                "rows": 40,
                "columns": 48,
                "split": SPLITS[i % 3],
            }
        )
    (tmp_path / "manifest.json").write_text(json.dumps({"photographs": entries}))
    return tmp_path


def test_a_corpus_is_split_as_its_manifest_says(corpus: Path) -> None:
    source = IMAGES.parse(f"corpus:{corpus}")
    for k, split in enumerate(SPLITS):
        found = source.open(split, 3)
        assert [found.title(i) for i in range(len(found))] == [
            f"{i}.png" for i in (k, k + 3, k + 6)
        ]
        assert np.array_equal(found[1], formats.photograph(k + 3, 40, 48))


def test_a_missing_corpus_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`make corpus` makes .*manifest.json is missing"):
        IMAGES.parse(f"corpus:{tmp_path}").open("train", 1)
    assert IMAGES.parse("corpus").spec == "corpus:corpus"


def _spoil(corpus: Path, change: Any) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    change(manifest["photographs"][0])
    (corpus / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: (c / "0.png").unlink(), "0.png must be there"),
        (lambda c: shutil.copy(c / "1.png", c / "0.png"), "0.png must be the file that manifest"),
        (lambda c: _spoil(c, lambda e: e.update(rows=41)), "0.png must have 41 × 48 pixels"),
        (lambda c: _spoil(c, lambda e: e.update(split="all")), "must describe each photograph"),
        (lambda c: _spoil(c, lambda e: e.update(file="../0.png")), "must describe each"),
        (lambda c: _spoil(c, lambda e: e.pop("file_sha256")), "must describe each photograph"),
        (lambda c: (c / "manifest.json").write_text("{"), "must be a manifest"),
        (lambda c: (c / "manifest.json").write_text("[]"), "must be a manifest"),
        (lambda c: (c / "manifest.json").write_text('{"photographs": 3}'), "must describe each"),
    ],
)
def test_a_corpus_that_differs_from_its_manifest_is_refused(
    corpus: Path, spoil: Any, said: str
) -> None:
    source = IMAGES.parse(f"corpus:{corpus}")
    source.open("train", 1)  # the control
    spoil(corpus)
    with pytest.raises(InputError, match=said):
        source.open("train", 1)


def test_the_fingerprint_of_a_corpus_is_that_of_its_pixels_and_split(corpus: Path) -> None:
    source = IMAGES.parse(f"corpus:{corpus}")
    before = source.fingerprint()
    _spoil(corpus, lambda e: e.update(file_sha256="0"))  # another encoder of the same pixels
    assert source.fingerprint() == before
    _spoil(corpus, lambda e: e.update(split="test"))
    moved = source.fingerprint()
    _spoil(corpus, lambda e: e.update(pixels_sha256="0"))
    assert len({before, moved, source.fingerprint()}) == 3
