"""Every source in its original format: read back equal, split by photograph, refused by name."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import image_formats as formats
import numpy as np
import pytest

from gradconv import InputError
from gradconv.images import IMAGES, SPLITS, ImageSource, Tiles, celeba, cifar10, stl10, urban100
from gradconv.images.base import luma

BATCH = 20
STL = {"train_X.bin": 20, "test_X.bin": 5, "unlabeled_X.bin": 7}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The formats are exact but for how many images there are."""
    monkeypatch.setattr(cifar10, "IN_BATCH", BATCH)
    monkeypatch.setattr(stl10, "IMAGES_IN", STL)
    monkeypatch.setattr(urban100, "COUNT", 12)


def _stl_pixels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {n: rng.integers(0, 256, (count, 3, 96, 96), np.uint8) for n, count in STL.items()}


def _folder(root: Path) -> None:
    for i in range(24):
        formats.write_image(root / ("a" if i % 2 else "b/c") / f"{i}.png", _photo(i))
    formats.write_image(root / "grey.png", _photo(99)[:1])


def _photo(seed: int) -> np.ndarray:
    return formats.photograph(seed, 40 + seed % 9, 48)


WRITERS: dict[str, Callable[[Path], None]] = {
    "photographs": lambda root: None,
    "folder": _folder,
    "cifar10 python": lambda root: formats.write_cifar_python(
        root / "cifar-10-batches-py", formats.cifar_pixels(0, BATCH)
    ),
    "cifar10 binary": lambda root: formats.write_cifar_binary(
        root / "cifar-10-batches-bin", formats.cifar_pixels(0, BATCH)
    ),
    "stl10": lambda root: formats.write_stl10(root / "stl10_binary", _stl_pixels()),
    "celeba": lambda root: formats.write_celeba(root, [0, 1, 2, 0, 0, 2]),
    "urban100 original": lambda root: formats.write_urban100(root, 12, "original"),
    "urban100 plain": lambda root: formats.write_urban100(root, 12, "plain"),
}


@pytest.fixture(params=WRITERS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSource:
    return _written(request.param, tmp_path)


def _written(kind: str, root: Path) -> ImageSource:
    WRITERS[kind](root)
    name = kind.split()[0]
    return IMAGES.parse(name if name == "photographs" else f"{name}:{root}")


def test_every_source_is_tested_here() -> None:
    assert {kind.split()[0] for kind in WRITERS} | {"corpus"} == set(IMAGES.names)


def test_no_photograph_is_in_two_splits(source: ImageSource) -> None:
    titles, pixels = [], []
    for split in SPLITS:
        found = source.open(split, 3)
        assert (found.split, found.channels, found.name) == (split, 3, source.spec)
        for i in range(len(found)):
            image = found[i]
            assert image.shape == (3, *found.sizes[i])
            assert image.dtype == np.uint8
            titles.append(found.title(i))
            pixels.append(image.tobytes())
    # pixels of fixtures are all different, so this finds one photograph under two titles, too
    assert len(set(titles)) == len(titles)
    assert len(set(pixels)) == len(pixels)


def test_tiles_of_a_split_come_from_its_photographs(source: ImageSource) -> None:
    size = int(min(source.open(split, 3).sizes.min() for split in SPLITS)) // 2
    kept: dict[str, set[bytes]] = {}
    for split in SPLITS:
        photographs = source.open(split, 3)
        tiles = Tiles(photographs, size, seed=1, augment=False)
        windows = {
            np.ascontiguousarray(photographs[i][:, r, c : c + size]).tobytes()
            for i in range(len(photographs))
            for r in range(photographs.sizes[i, 0] - size + 1)
            for c in range(photographs.sizes[i, 1] - size + 1)
        }
        kept[split] = windows
        for number in range(30):
            top = np.rint(tiles(number)[:, 0].numpy() * 255).astype(np.uint8)
            assert top.tobytes() in windows
            others = [kept[other] for other in kept if other != split]
            assert not any(top.tobytes() in other for other in others)


def test_luma_is_that_of_the_colour_image(source: ImageSource) -> None:
    colour, grey = source.open("train", 3), source.open("train", 1)
    titles = {grey.title(i): i for i in range(len(grey))}
    for i in range(min(4, len(colour))):
        image = grey[titles[colour.title(i)]]
        exact = np.tensordot([0.299, 0.587, 0.114], colour[i].astype(float), axes=1)
        assert image.shape == (1, *exact.shape)
        assert float(np.abs(image[0] - exact).max()) <= 0.5 + 1e-4


def test_opening_twice_gives_the_same(source: ImageSource) -> None:
    first, again = source.open("train", 1), IMAGES.parse(source.spec).open("train", 1)
    assert [first.title(i) for i in range(len(first))] == [
        again.title(i) for i in range(len(again))
    ]
    assert source.fingerprint() == IMAGES.parse(source.spec).fingerprint()
    assert len(source.fingerprint()) == 64


def test_bad_splits_and_channels_are_refused(source: ImageSource) -> None:
    with pytest.raises(InputError, match="split"):
        source.open("training", 1)
    with pytest.raises(InputError, match=r"`channels` must be 1 \(luma\) or 3 \(colour\); got 2"):
        source.open("train", 2)


def test_embedded_colour_photographs_are_four() -> None:
    source = IMAGES.parse("photographs")
    counts = {split: [len(source.open(split, c)) for c in (1, 3)] for split in SPLITS}
    assert counts == {"train": [5, 2], "validation": [1, 1], "test": [2, 1]}


def test_the_embedded_pixels_are_those_of_scikit_image() -> None:
    from skimage import data

    test = IMAGES.parse("photographs").open("test", 1)
    assert np.array_equal(test[0][0], data.camera())
    colour = IMAGES.parse("photographs").open("test", 3)
    assert np.array_equal(colour[0], np.moveaxis(data.coffee(), 2, 0))


# ---- CIFAR-10 ----


@pytest.mark.parametrize("layout", ["python", "binary"])
@pytest.mark.parametrize("inside", [True, False])
def test_cifar_is_read_back_equal(layout: str, inside: bool, tmp_path: Path) -> None:
    source = _written(f"cifar10 {layout}", tmp_path)
    if inside:
        source = IMAGES.parse(f"cifar10:{next(tmp_path.iterdir())}")
    pixels = formats.cifar_pixels(0, BATCH)
    together = np.concatenate([pixels[n] for n in formats.CIFAR_TRAIN])
    tenth = np.arange(len(together)) % 10 == 9
    expected = {"train": together[~tenth], "validation": together[tenth]}
    expected["test"] = pixels["test_batch"]
    for split, images in expected.items():
        found = source.open(split, 3)
        assert np.array_equal(np.stack([found[i] for i in range(len(found))]), images)


def test_both_cifar_layouts_give_the_same_photographs(tmp_path: Path) -> None:
    python = _written("cifar10 python", tmp_path / "p").open("validation", 1)
    binary = _written("cifar10 binary", tmp_path / "b").open("validation", 1)
    assert all(np.array_equal(python[i], binary[i]) for i in range(len(python)))


def test_the_written_batch_is_a_pickle_of_python_2() -> None:
    """Holds the writer of these tests against the ordinary reader, on bytes made here."""
    pixels = formats.cifar_pixels(0, 3)["test_batch"].reshape(3, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy moved the module that Python 2 named
        read = pickle.loads(formats.python2_batch(pixels, [1, 2, 3], "t"), encoding="bytes")
    assert np.array_equal(read[b"data"], pixels)
    assert read[b"labels"] == [1, 2, 3]


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_a_malicious_batch_is_refused_and_not_run(tmp_path: Path) -> None:
    source = _written("cifar10 python", tmp_path)
    marker = tmp_path / "marker"
    content = pickle.dumps({"data": _Evil(marker), "labels": []}, protocol=2)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match=r"test_batch must be an original batch .*mkdir"):
        source.open("test", 3)
    assert not marker.exists()
    pickle.loads(content)  # the control: a bare pickle runs it
    assert marker.exists()


def _spoilt(content: bytes) -> dict[str, bytes]:
    return {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "other type": content.replace(b"U\x02u1", b"U\x02O8"),
        "fewer labels": content.replace(b"K\x00K\x01K\x02K\x03", b"K\x00K\x01K\x02", 1),
        "label beyond 9": content.replace(b"K\x08K\x09", b"K\x08K\x0a", 1),
        "other shape": content.replace(b"M\x00\x0c", b"M\x00\x06"),
        "no dictionary": b"\x80\x02].",
        "ndarray called": b"\x80\x02cnumpy\nndarray\nK\x05\x85R.",
        "copyreg": b"\x80\x02ccopyreg\n_reconstructor\n.",
    }


@pytest.mark.parametrize("defect", list(_spoilt(b"")))
def test_damaged_python_batches_are_refused_by_name(defect: str, tmp_path: Path) -> None:
    source = _written("cifar10 python", tmp_path)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    spoilt = _spoilt(file.read_bytes())[defect]
    assert spoilt != file.read_bytes()
    file.write_bytes(spoilt)
    with pytest.raises(InputError, match="data_batch_3 must be an original batch of 20 images"):
        source.open("train", 3)
    source.open("test", 3)  # the control: the other batches are sound


def test_damaged_binary_batches_are_refused_by_name(tmp_path: Path) -> None:
    source = _written("cifar10 binary", tmp_path)
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    content = file.read_bytes()
    for spoilt in (content[:-1], content[:-3073], content + bytes(3073), b""):
        file.write_bytes(spoilt)
        with pytest.raises(InputError, match=rf"data_batch_2.bin must have 61460 .*{len(spoilt)}$"):
            source.open("train", 3)
    file.write_bytes(bytes([11]) + content[1:])
    with pytest.raises(InputError, match=r"data_batch_2.bin must be .*got label 11"):
        source.open("train", 3)


def test_cifar_of_the_full_size_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "IN_BATCH", 10_000)
    for name in formats.CIFAR_TRAIN + formats.CIFAR_TEST:
        with (tmp_path / f"{name}.bin").open("wb") as file:
            file.truncate(30_730_000)  # the size of the original files; zeros take no space
    source = IMAGES.parse(f"cifar10:{tmp_path}")
    assert [len(source.open(split, 3)) for split in SPLITS] == [45_000, 5_000, 10_000]


# ---- STL-10 ----


@pytest.mark.parametrize("unlabeled", [True, False])
def test_stl10_is_read_back_equal(unlabeled: bool, tmp_path: Path) -> None:
    source = _written("stl10", tmp_path)
    pixels = _stl_pixels()
    tenth = np.arange(20) % 10 == 9
    expected = {"validation": pixels["train_X.bin"][tenth], "test": pixels["test_X.bin"]}
    expected["train"] = pixels["train_X.bin"][~tenth]
    if unlabeled:
        expected["train"] = np.concatenate([expected["train"], pixels["unlabeled_X.bin"]])
    else:
        (tmp_path / "stl10_binary" / "unlabeled_X.bin").unlink()
    for split, images in expected.items():
        found = source.open(split, 3)
        assert np.array_equal(np.stack([found[i] for i in range(len(found))]), images)


@pytest.mark.parametrize("name", list(STL))
def test_truncated_stl10_is_refused_by_name(name: str, tmp_path: Path) -> None:
    source = _written("stl10", tmp_path)
    file = tmp_path / "stl10_binary" / name
    file.write_bytes(file.read_bytes()[:-27648])  # one image short
    split = "test" if name.startswith("test") else "train"
    with pytest.raises(InputError, match=f"{name} must have {STL[name] * 27648} bytes"):
        source.open(split, 3)


# ---- CelebA ----


def test_celeba_has_its_official_split(tmp_path: Path) -> None:
    source = _written("celeba", tmp_path)
    titles = {}
    for split in SPLITS:
        found = source.open(split, 3)
        titles[split] = [found.title(i) for i in range(len(found))]
    assert titles == {
        "train": ["000001.jpg", "000004.jpg", "000005.jpg"],
        "validation": ["000002.jpg"],
        "test": ["000003.jpg", "000006.jpg"],
    }
    first = source.open("train", 3)[0].astype(float)
    assert np.abs(first - formats.photograph(1, 218, 178)).mean() < 12  # JPEG loses some
    assert np.abs(first - formats.photograph(4, 218, 178)).mean() > 40


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "img_align_celeba/000004.jpg").unlink(), "000004.jpg, which"),
        (
            lambda root: formats.write_image(
                root / "img_align_celeba/000004.jpg", formats.photograph(1, 64, 64)
            ),
            r"178 × 218; got .*000004.jpg of 64 × 64",
        ),
        (
            lambda root: (root / "list_eval_partition.txt").write_text("000001.jpg 3\n"),
            r"'000001.jpg 3' in line 1",
        ),
        (
            lambda root: (root / "list_eval_partition.txt").write_text("../000001.jpg 0\n"),
            "in line 1",
        ),
        (
            lambda root: (root / "list_eval_partition.txt").write_text("a.jpg 0\na.jpg 1\n"),
            "must list an image once; got a.jpg again, line 2",
        ),
        (lambda root: (root / "list_eval_partition.txt").unlink(), celeba.PAGE),
    ],
)
def test_damaged_celeba_is_refused_by_name(
    spoil: Callable[[Path], Any], said: str, tmp_path: Path
) -> None:
    source = _written("celeba", tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=said):
        source.open("train", 3)


# ---- Urban100 ----


def test_urban100_splits_alike_in_every_layout(tmp_path: Path) -> None:
    original = _written("urban100 original", tmp_path / "o")
    plain = _written("urban100 plain", tmp_path / "p")
    inner = IMAGES.parse(f"urban100:{tmp_path / 'o' / 'image_SRF_4'}")
    for split in SPLITS:
        a, b, c = (s.open(split, 3) for s in (original, plain, inner))
        assert len(a) == len(b) == len(c)
        for i in range(len(a)):
            number = int(a.title(i)[4:7])
            assert np.array_equal(a[i], formats.photograph(number, 48, 64))
            assert np.array_equal(a[i], b[i])
            assert np.array_equal(a[i], c[i])


def test_an_incomplete_urban100_is_refused_by_name(tmp_path: Path) -> None:
    source = _written("urban100 original", tmp_path)
    for factor in (2, 4):
        (tmp_path / f"image_SRF_{factor}" / f"img_007_SRF_{factor}_HR.png").unlink()
    with pytest.raises(InputError, match=r"img_007_SRF_2_HR\.png too, one of 12"):
        source.open("train", 1)


@pytest.mark.parametrize("name", ["cifar10", "stl10", "celeba", "urban100"])
def test_missing_data_say_what_is_expected_and_where_it_is_had(name: str, tmp_path: Path) -> None:
    page = {"cifar10": cifar10, "stl10": stl10, "celeba": celeba, "urban100": urban100}[name].PAGE
    for path, state in ((tmp_path, "incomplete"), (tmp_path / "no", "does not exist")):
        source = IMAGES.parse(f"{name}:{path}")
        for action in (lambda s=source: s.open("train", 1), source.fingerprint):
            with pytest.raises(InputError, match=f"`data` {name} must name a folder") as caught:
                action()
            assert page in str(caught.value)
            assert state in str(caught.value)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=f"`data` {name} needs path"):
        IMAGES.parse(name)


def test_luma_of_deep_images_stays_in_range() -> None:
    assert float(luma(np.ones((3, 4, 4), np.float32)).max()) == 1.0
    assert np.array_equal(luma(np.full((3, 2, 2), 255, np.uint8)), np.full((1, 2, 2), 255))
