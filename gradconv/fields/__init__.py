"""Signals, their targets and their noise. A new one is an entry in the file of its kind."""

from __future__ import annotations

from gradconv.fields import photograph  # noqa: F401  (importing the file registers its signals)
from gradconv.fields.noise import NOISES, Noise
from gradconv.fields.pixel_laws import PixelLaw
from gradconv.fields.signal import SIGNALS, RandomField, Signal
from gradconv.fields.streams import SamplePath
from gradconv.fields.target import TARGETS, Multiplier, Target

__all__ = [
    "NOISES",
    "SIGNALS",
    "TARGETS",
    "Multiplier",
    "Noise",
    "PixelLaw",
    "RandomField",
    "SamplePath",
    "Signal",
    "Target",
]
