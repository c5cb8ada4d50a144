"""STL-10 in its original binary layout.

References
----------
Coates, Lee, Ng, An Analysis of Single Layer Networks in Unsupervised Feature Learning, AISTATS
2011. Layout: https://cs.stanford.edu/~acoates/stl10/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradconv.images.arrays import StackPhotographs, held_back
from gradconv.images.base import IMAGES, ImageSource, Photographs, fingerprint_files
from gradconv.images.originals import map_bytes, missing

PAGE = "https://cs.stanford.edu/~acoates/stl10/"
SIDE = 96
IMAGES_IN = {"train_X.bin": 5000, "test_X.bin": 8000, "unlabeled_X.bin": 100_000}


@IMAGES.register("stl10")
@dataclass(frozen=True)
class Stl10(ImageSource):
    """Colour images of 96 × 96, mapped from the files.

    Validation is each tenth image of ``train_X.bin``; training is the rest of it, and all of
    ``unlabeled_X.bin`` if that is there. Test is ``test_X.bin``.

    Parameters
    ----------
    path : str
        ``stl10_binary``, or the folder that it is in.
    """

    path: str

    def _opened(self, split: str, channels: int) -> Photographs:
        folder = self._folder()
        names = ["test_X.bin"] if split == "test" else ["train_X.bin"]
        if split == "train" and (folder / "unlabeled_X.bin").is_file():
            names.append("unlabeled_X.bin")
        stacks = []
        for name in names:
            records = map_bytes("stl10", folder / name, 3 * SIDE * SIDE, IMAGES_IN[name])
            # a channel is stored column by column
            pixels = records.reshape(-1, 3, SIDE, SIDE).swapaxes(2, 3)
            count = len(pixels)
            whole = name != "train_X.bin"
            stacks.append((name, pixels, np.arange(count) if whole else held_back(count, split)))
        return StackPhotographs(self.spec, split, stacks, channels)

    def fingerprint(self) -> str:
        """SHA-256 over name, size and both ends of the files."""
        folder = self._folder()
        return fingerprint_files(folder, [f for n in IMAGES_IN if (f := folder / n).is_file()])

    def _folder(self) -> Path:
        root = Path(self.path)
        for folder in (root, root / "stl10_binary"):
            if all((folder / name).is_file() for name in ("train_X.bin", "test_X.bin")):
                return folder
        needs = "train_X.bin and test_X.bin of stl10_binary (and unlabeled_X.bin, if wanted)"
        raise missing("stl10", needs, PAGE, root)
