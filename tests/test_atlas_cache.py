"""What the atlas keeps on disk, and what it believes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradconv.atlas import build
from gradconv.atlas.cache import Cache, default_folder, source_digest


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
    for name in ("laws", "kernels", "fields", "restriction", "gradient", "atlas"):
        (tmp_path / name).mkdir()
    for name in ("mesh", "problem", "registry", "sampling", "statistics", "rates"):
        (tmp_path / f"{name}.py").write_text("")
    for name in ("regression", "bootstrap", "verdicts"):
        (tmp_path / f"{name}.py").write_text("")
    law = tmp_path / "laws" / "mean.py"
    law.write_text("x = 1\n")
    shown = tmp_path / "atlas" / "figures.py"
    shown.write_text("x = 1\n")

    def fresh() -> str:
        source_digest.cache_clear()
        found = source_digest(tmp_path)
        source_digest.cache_clear()
        return found

    first = fresh()
    shown.write_text("x = 2\n")
    assert fresh() == first  # a figure changes no result
    law.write_text("x = 2\n")
    assert fresh() != first
    assert source_digest(package) not in (first, fresh())


def test_the_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "gradconv"
