"""Parameter gradients: exact in Fourier space, by autograd, and in expectation."""

from __future__ import annotations

from gradconv.gradient.autograd import autograd_gradients
from gradconv.gradient.expectation import (
    expected_gradients,
    has_expectation,
    scaled_expectation,
)
from gradconv.gradient.fourier import FourierGradient
from gradconv.gradient.inputs import InputSource, LevelInputs

__all__ = [
    "FourierGradient",
    "InputSource",
    "LevelInputs",
    "autograd_gradients",
    "expected_gradients",
    "has_expectation",
    "scaled_expectation",
]
