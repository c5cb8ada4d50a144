"""Folders of images: the split by name, damaged files, and what is kept in memory."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import image_formats as formats
import numpy as np
import pytest
from PIL import Image

from gradconv import InputError
from gradconv.images import IMAGES, SPLITS
from gradconv.images.base import split_by_name
from gradconv.images.files import FilePhotographs, check_header, decode


def _names(count: int) -> list[str]:
    return [f"holiday/{i:04d}.jpg" for i in range(count)]


@pytest.mark.parametrize("count", [3, 4, 5, 10, 100, 3000])
def test_names_are_split_once_and_no_split_is_empty(count: int) -> None:
    names = _names(count)
    found = split_by_name(names)
    assert sorted(n for split in SPLITS for n in found[split]) == names
    assert all(found[split] for split in SPLITS)
    if count == 3000:  # binomial, five standard deviations
        shares = [len(found[split]) / count for split in SPLITS]
        for share, p in zip(shares, (0.8, 0.1, 0.1), strict=True):
            assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / count)


def test_new_names_move_no_old_one() -> None:
    names = _names(200)
    old = split_by_name(names)
    new = split_by_name([*(f"more/{i}.png" for i in range(100)), *reversed(names)])
    for split in SPLITS:
        assert set(old[split]) == set(new[split]) & set(names)
    # the control: a split by place in the list moves some
    by_place = {n: i * 10 // len(names) for i, n in enumerate(names)}
    longer = [*(f"a/{i}.png" for i in range(100)), *names]
    assert any(by_place[n] != i * 10 // len(longer) for i, n in enumerate(longer) if n in by_place)


def _folder(root: Path, count: int = 30) -> None:
    for i in range(count):
        formats.write_image(root / f"{i % 3}" / f"{i}.png", formats.photograph(i, 32, 40))


def _train_file(root: Path) -> Path:
    """A file of the training split."""
    return root / IMAGES.parse(f"folder:{root}").open("train", 3).title(0)


def test_a_folder_is_read_with_the_folders_in_it(tmp_path: Path) -> None:
    _folder(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    formats.write_image(tmp_path / ".hidden" / "x.png", formats.photograph(0, 32, 40))
    source = IMAGES.parse(f"folder:{tmp_path}")
    seen = 0
    for split in SPLITS:
        found = source.open(split, 3)
        titles = [found.title(i) for i in range(len(found))]
        assert titles == sorted(titles)
        for i, title in enumerate(titles):
            assert np.array_equal(found[i], formats.photograph(int(Path(title).stem), 32, 40))
        seen += len(found)
    assert seen == 30


def test_grey_images_are_left_out_in_colour(tmp_path: Path) -> None:
    _folder(tmp_path)
    file = _train_file(tmp_path)
    formats.write_image(file, formats.photograph(1, 32, 40)[:1])
    source = IMAGES.parse(f"folder:{tmp_path}")
    assert len(source.open("train", 1)) == len(source.open("train", 3)) + 1


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    _folder(tmp_path, 2)
    with pytest.raises(InputError, match=r"must hold 3 images at least.* got 2 in"):
        IMAGES.parse(f"folder:{tmp_path}").open("train", 1)
    with pytest.raises(InputError, match="the folder must exist"):
        IMAGES.parse(f"folder:{tmp_path / 'no'}").open("train", 1)
    _folder(tmp_path, 3)
    assert [len(IMAGES.parse(f"folder:{tmp_path}").open(s, 1)) for s in SPLITS] == [1, 1, 1]


def _encoded(layout: str) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(np.moveaxis(formats.photograph(5, 60, 80), 0, 2))
    picture.save(stream, layout)
    return stream.getvalue()


FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}


@pytest.mark.parametrize("layout", [*FORMATS, "TIFF", "PPM"])
def test_whole_files_pass_and_truncated_ones_are_refused(layout: str, tmp_path: Path) -> None:
    content = _encoded(layout)
    file = tmp_path / f"x{FORMATS.get(layout, '.' + layout.lower())}"
    file.write_bytes(content)
    assert check_header(file, "folder") == ((60, 80), True)
    for kept in (0, 7, len(content) // 2, int(len(content) * 0.9)):
        file.write_bytes(content[:kept])
        with pytest.raises(InputError, match=f"whole, readable image; got .*{file.name}"):
            check_header(file, "folder")


@pytest.mark.parametrize("layout", ["PNG", "JPEG"])
def test_what_comes_after_the_end_does_no_harm(layout: str, tmp_path: Path) -> None:
    file = tmp_path / f"x{FORMATS[layout]}"
    file.write_bytes(_encoded(layout) + b"appended by a telephone" * 100)
    assert check_header(file, "folder") == ((60, 80), True)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 99])
def test_damaged_files_stop_before_training_by_name(content: bytes, tmp_path: Path) -> None:
    _folder(tmp_path)
    source = IMAGES.parse(f"folder:{tmp_path}")
    file = _train_file(tmp_path)
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"`data` folder.*whole, readable image; got {file}"):
        source.open("train", 1)


def test_damage_inside_is_found_when_decoded(tmp_path: Path) -> None:
    _folder(tmp_path)
    file = _train_file(tmp_path)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = bytes(20)
    file.write_bytes(content)
    found = IMAGES.parse(f"folder:{tmp_path}").open("train", 3)
    with pytest.raises(InputError, match=f"readable image; got {file}"):
        found[0]


def test_a_file_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    _folder(tmp_path)
    found = IMAGES.parse(f"folder:{tmp_path}").open("train", 3)
    formats.write_image(tmp_path / found.title(0), formats.photograph(1, 16, 16))
    with pytest.raises(InputError, match="has changed since it was checked"):
        found[0]


def test_deep_images_keep_their_depth(tmp_path: Path) -> None:
    values = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 300
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = decode(tmp_path / "deep.png", "folder")
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0], values / 65535, rtol=1e-6)


def test_decoded_images_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    files = []
    for i in range(5):
        formats.write_image(tmp_path / f"{i}.png", formats.photograph(i, 32, 40))
        files.append((tmp_path / f"{i}.png", (32, 40)))
    one = 3 * 32 * 40
    few = FilePhotographs("folder", "train", tmp_path, files, 3, cache=2 * one)
    for i in (0, 1, 2, 3, 4, 3, 0):
        assert np.array_equal(few[i], formats.photograph(i, 32, 40))
        assert few.kept_bytes == sum(image.nbytes for image in few._kept.values()) <= 2 * one
    assert list(few._kept) == [3, 0]  # 3 was used after 4
    assert few[3] is few[3]
    all_kept = FilePhotographs("folder", "train", tmp_path, files, 3)
    for i in range(5):
        all_kept[i]
    assert all_kept.kept_bytes == 5 * one  # the control: a large bound keeps them all
    none = FilePhotographs("folder", "train", tmp_path, files, 3, cache=1)
    assert none[1].shape == (3, 32, 40)
    assert none.kept_bytes == 0
    assert len(copy.deepcopy(few)) == 5  # what holds it can be copied to other processes


@pytest.mark.parametrize("index", [-1, 5])
def test_indices_are_those_of_a_sequence(index: int, tmp_path: Path) -> None:
    _folder(tmp_path)
    found = IMAGES.parse(f"folder:{tmp_path}").open("validation", 3)
    if index < 0:
        assert np.array_equal(found[-1], found[len(found) - 1])
    else:
        with pytest.raises(IndexError):
            found[len(found)]


def _edited(content: bytes) -> bytes:
    return content[:-30] + bytes(30)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda f: None, True),
        (lambda f: f.write_bytes(_edited(f.read_bytes())), False),
        (lambda f: f.unlink(), False),
        (lambda f: f.rename(f.with_name("renamed.png")), False),
        (lambda f: formats.write_image(f.with_name("new.png"), formats.photograph(1, 9, 9)), False),
    ],
)
def test_the_fingerprint_follows_the_files(change: Any, same: bool, tmp_path: Path) -> None:
    _folder(tmp_path / "x")
    source = IMAGES.parse(f"folder:{tmp_path / 'x'}")
    before = source.fingerprint()
    change(_train_file(tmp_path / "x"))
    (tmp_path / "x").rename(tmp_path / "y")  # the place plays no part
    assert (IMAGES.parse(f"folder:{tmp_path / 'y'}").fingerprint() == before) == same
