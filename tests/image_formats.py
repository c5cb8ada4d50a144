"""Writes tiny data sets in exactly the formats that their authors distribute."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR_TRAIN = [f"data_batch_{i}" for i in range(1, 6)]
CIFAR_TEST = ["test_batch"]


def photograph(seed: int, rows: int, columns: int) -> np.ndarray:
    """A smooth random colour image, shape ``(3, rows, columns)``, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (rows // 4 + 1, columns // 4 + 1, 3), np.uint8)
    large = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.moveaxis(np.asarray(large), 2, 0)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write ``(C, rows, columns)`` uint8 in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).save(path)


def python2_batch(pixels: np.ndarray, labels: list[int], title: str) -> bytes:
    """A CIFAR batch as Python 2's cPickle wrote it, protocol 2, opcode by opcode.

    `pixels` has shape ``(N, 3072)``: 1024 red, 1024 green, 1024 blue values, row by row.
    """

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    content = pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n"
    array += b"K\x00\x85" + text("b") + b"\x87R"  # _reconstruct(ndarray, (0,), "b")
    array += b"(K\x01" + number(len(pixels)) + number(3072) + b"\x86"  # its state: 1, shape,
    array += b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R"  # dtype("u1", 0, 1)
    array += b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array += b"\x89T" + struct.pack("<I", len(content)) + content + b"tb"  # C order, bytes
    made = b"\x80\x02}q\x01(" + text("batch_label") + text(title)
    made += text("labels") + b"](" + b"".join(number(v) for v in labels) + b"e"
    made += text("data") + array
    files = b"".join(text(f"image_s_{i:06d}.png") for i in range(len(labels)))
    return made + text("filenames") + b"](" + files + b"e" + b"u."


def cifar_pixels(seed: int, count: int) -> dict[str, np.ndarray]:
    """Pixels of every batch, shape ``(count, 3, 32, 32)``."""
    rng = np.random.default_rng(seed)
    shape = (count, 3, 32, 32)
    return {n: rng.integers(0, 256, shape, np.uint8) for n in CIFAR_TRAIN + CIFAR_TEST}


def write_cifar_python(folder: Path, pixels: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in pixels.items():
        labels = [i % 10 for i in range(len(images))]
        content = python2_batch(images.reshape(len(images), -1), labels, name)
        (folder / name).write_bytes(content)


def write_cifar_binary(folder: Path, pixels: dict[str, np.ndarray]) -> None:
    """A byte of label and 3072 of pixels an image."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in pixels.items():
        records = [bytes([i % 10]) + image.tobytes() for i, image in enumerate(images)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))


def write_stl10(folder: Path, images: dict[str, np.ndarray]) -> None:
    """Channel by channel, each of them column by column."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, stack in images.items():
        with (folder / name).open("wb") as file:
            for image in stack:
                for channel in image:
                    file.write(channel.tobytes(order="F"))


def write_celeba(root: Path, codes: list[int]) -> None:
    lines = []
    for i, code in enumerate(codes, 1):
        write_image(root / "img_align_celeba" / f"{i:06d}.jpg", photograph(i, 218, 178))
        lines.append(f"{i:06d}.jpg {code}\n")
    (root / "list_eval_partition.txt").write_text("".join(lines))


def write_urban100(root: Path, count: int, layout: str) -> None:
    """`layout` is "original" (HR and LR of the factors 2 and 4) or "plain"."""
    for i in range(1, count + 1):
        image = photograph(i, 48, 64)
        if layout == "plain":
            write_image(root / f"img_{i:03d}.png", image)
            continue
        for factor in (2, 4):
            stem = root / f"image_SRF_{factor}" / f"img_{i:03d}_SRF_{factor}"
            write_image(stem.with_name(stem.name + "_HR.png"), image)
            write_image(stem.with_name(stem.name + "_LR.png"), image[:, ::factor, ::factor])


def resource_file(blocks: list[bytes]) -> bytes:
    """A Qt resource file's data: each file is its length, big-endian, and its bytes."""
    made = b"qres" + struct.pack(">4I", 2, 0, 20, 0)
    return made + b"".join(struct.pack(">I", len(b)) + b for b in blocks)
