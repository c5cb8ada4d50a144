"""Images to train on: sources of photographs, split by photograph, and tiles of them."""

from __future__ import annotations

from gradconv.images import (  # noqa: F401  (importing a file registers its source)
    celeba,
    cifar10,
    corpus,
    folder,
    photographs,
    stl10,
    urban100,
)
from gradconv.images.base import CHANNELS, IMAGES, SPLITS, ImageSource, Photographs
from gradconv.images.tiles import Tiles

__all__ = ["CHANNELS", "IMAGES", "SPLITS", "ImageSource", "Photographs", "Tiles"]
