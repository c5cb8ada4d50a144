"""The photographs that come with scikit-image: no download, a fixed split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gradconv.fields.photograph import EMBEDDED, Photograph
from gradconv.images.arrays import ArrayPhotographs
from gradconv.images.base import IMAGES, ImageSource, Photographs

# Eight photographs are too few for a draw. Validation and test are scenes with edges, texture and
# blur, in colour, and camera besides, the picture most results are shown on. Of the sources in
# colour (astronaut, chelsea, coffee, rocket) each split has one at least, and the pure textures
# train: scores on brick or gravel would say little about photographs.
SPLIT = {
    "train": ("astronaut", "brick", "grass", "gravel", "rocket"),
    "validation": ("chelsea",),
    "test": ("camera", "coffee"),
}


@IMAGES.register("photographs")
@dataclass(frozen=True)
class EmbeddedPhotographs(ImageSource):
    """Eight photographs of scikit-image, CC0 or public domain, 300 to 640 pixels a side."""

    def _opened(self, split: str, channels: int) -> Photographs:
        images = {title: _pixels(title) for title in SPLIT[split]}
        if channels == 3:
            images = {t: image for t, image in images.items() if image.shape[0] == 3}
        return ArrayPhotographs(self.spec, split, images, channels)

    def fingerprint(self) -> str:
        """SHA-256 over split and pixels."""
        digest = hashlib.sha256(repr(SPLIT).encode())
        for title in EMBEDDED:
            image = _pixels(title)
            digest.update(repr((title, image.shape)).encode())
            digest.update(image.tobytes())
        return digest.hexdigest()


@lru_cache(maxsize=len(EMBEDDED))  # a run opens each several times; all of them are 5 MB
def _pixels(title: str) -> np.ndarray:
    """The 8-bit image that the signal of the same name scales to [0, 1]; it is shared."""
    (image,) = Photograph(title).images()
    pixels = np.rint(image * 255).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels
