"""What the atlas keeps on disk, and what it believes of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradconv.atlas import build
from gradconv.atlas.cache import WITHOUT, Cache, default_folder
from gradconv.errors import StorageError
from gradconv.provenance import source_digest


def test_values_are_kept_by_content(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "a")
    assert cache.load({"x": 1}) is None
    cache.save({"x": 1}, [1.5, None, "text"])
    assert cache.load({"x": 1}) == [1.5, None, "text"]
    assert cache.load({"x": 2}) is None
    assert Cache(tmp_path, "b").load({"x": 1}) is None  # another source
    Cache(None).save({"x": 1}, 1)
    assert Cache(None).load({"x": 1}) is None


@pytest.mark.parametrize("damage", ["truncate", "value", "swap", "empty"])
def test_damaged_values_are_not_believed(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path, "a")
    cache.save("one", [1.0, 2.0])
    cache.save("two", [3.0])
    path, other = cache.path("one"), cache.path("two")
    assert path is not None
    assert other is not None
    text = path.read_text()
    changed = {
        "truncate": text[:-7],
        "value": text.replace("2.0", "2.5"),
        "swap": other.read_text(),
        "empty": "",
    }[damage]
    assert changed != text
    path.write_text(changed)
    assert cache.load("one") is None
    assert cache.load("two") == [3.0]


def test_a_changed_derivation_makes_another_digest(tmp_path: Path) -> None:
    package = Path(build.__file__).parent.parent
    copy = tmp_path / "gradconv"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def fresh() -> str:
        return source_digest(copy, WITHOUT)

    first = fresh()
    assert first == source_digest(without=WITHOUT)
    for name, counts in (
        ("atlas/figures.py", False),  # a figure changes no result
        ("nn/layer.py", False),
        ("laws/mean.py", True),
        ("agreement.py", True),
        ("backend.py", True),
    ):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b"\n# another\n")
        assert (fresh() != first) is counts, name
        (copy / name).write_bytes(before)


def test_nothing_that_the_atlas_loads_is_left_out_of_the_digest() -> None:
    """What is imported to make a cell is hashed, but for what only tells and draws."""
    code = "import sys; import gradconv.atlas.build; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    own = {
        m.removeprefix("gradconv.").replace(".", "/") for m in loaded if m.startswith("gradconv.")
    }
    left_out = {
        name
        for name in own
        for path in WITHOUT
        if name == path.removesuffix(".py") or name.startswith(f"{path}/")
    }
    assert left_out <= {"atlas/cache", "atlas/present", "terminal"}
    assert len(own) > 50


def test_a_folder_that_cannot_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise StorageError("no space is left")

    monkeypatch.setattr("gradconv.atlas.cache.write_atomically", full)
    cache = Cache(tmp_path, "source")
    cache.save({"a": 1}, 2)
    assert cache.folder is None
    assert cache.load({"a": 1}) is None


def test_the_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "gradconv"
