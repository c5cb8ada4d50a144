"""CelebA, aligned and cropped, with its official split.

References
----------
Liu, Luo, Wang, Tang, Deep Learning Face Attributes in the Wild, ICCV 2015. Layout:
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gradconv.errors import InputError, shortened
from gradconv.images.base import IMAGES, SPLITS, ImageSource, Photographs, fingerprint_files
from gradconv.images.files import FilePhotographs, check_header
from gradconv.images.originals import missing

PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
SIZE = (218, 178)  # rows, columns
PARTITION = "list_eval_partition.txt"


@IMAGES.register("celeba")
@dataclass(frozen=True)
class Celeba(ImageSource):
    """Colour photographs of 178 × 218, decoded when asked for.

    Parameters
    ----------
    path : str
        Folder with ``img_align_celeba`` (``000001.jpg`` …) and ``list_eval_partition.txt``, which
        may be in ``Eval``.
    """

    path: str

    def _opened(self, split: str, channels: int) -> Photographs:
        folder, partition = self._found()
        number = SPLITS.index(split)  # the official codes are 0, 1, 2 in this order
        names = [name for name, code in _partition(partition) if code == number]
        there = {entry.name for entry in os.scandir(folder)}
        files = []
        for name in names:
            if name not in there:
                raise missing("celeba", f"{name}, which {PARTITION} lists", PAGE, folder)
            size, colour = check_header(folder / name, self.spec)
            if size != SIZE or not colour:
                raise InputError(
                    f"`data` celeba: images must be aligned ones in colour, {SIZE[1]} × {SIZE[0]}; "
                    f"got {folder / name} of {size[1]} × {size[0]}"
                )
            files.append((folder / name, size))
        return FilePhotographs(self.spec, split, folder, files, channels)

    def fingerprint(self) -> str:
        """SHA-256 over the partition and over name, size and both ends of what it lists."""
        folder, partition = self._found()
        files = [folder / name for name, _ in _partition(partition)]
        for file in files:
            if not file.is_file():
                raise missing("celeba", f"{file.name}, which {PARTITION} lists", PAGE, folder)
        return fingerprint_files(Path(self.path), [partition, *files])

    def _found(self) -> tuple[Path, Path]:
        root = Path(self.path)
        folder = root / "img_align_celeba"
        if (folder / "img_align_celeba").is_dir():  # some archives hold the folder in itself
            folder = folder / "img_align_celeba"
        for partition in (root / PARTITION, root / "Eval" / PARTITION):
            if folder.is_dir() and partition.is_file():
                return folder, partition
        needs = f"img_align_celeba (000001.jpg and so on) and {PARTITION}"
        raise missing("celeba", needs, PAGE, root)


def _partition(path: Path) -> list[tuple[str, int]]:
    """Name and code of every line ``000001.jpg 0``."""
    found: dict[str, int] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line, text in enumerate(lines, 1):
        words = text.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2") or Path(words[0]).name != words[0]:
            raise InputError(
                f"`data` celeba: every line of {path} must be like '000001.jpg 0' with 0, 1 or 2; "
                f"got {shortened(text)} in line {line}"
            )
        if words[0] in found:
            raise InputError(
                f"`data` celeba: {path} must list an image once; got {words[0]} again, line {line}"
            )
        found[words[0]] = int(words[1])
    return list(found.items())
