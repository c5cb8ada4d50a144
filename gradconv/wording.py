"""Choices and laws in the words that readers know, for figures, captions and tables."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradconv.errors import InputError
from gradconv.fields import NOISES
from gradconv.kernels import KERNELS

Record = Mapping[str, Any]

SYMBOLS = {"sigma": "σ", "alpha": "α", "nu": "ν"}  # of parameters; others go by their name
NOISE_WORDS = {"poisson": "Poisson", "matern": "Matérn", "power": "power-law"}
RESTRICTION_WORDS = {
    "average": "averaging",
    "full_weighting": "full weighting",
    "bilinear_corners": "bilinear, corners aligned",
    "spectral": "spectral truncation",
}
# Choices whose value says by itself what it is a value of.
PLAIN = {"setting": "{}", "dim": "d = {}", "boundary": "{} boundary", "channels": "{} channels"}


def kernel_words(spec: str, dim: int) -> str:
    """Name of a kernel: ``"standard 3 × 3"``, ``"mesh-free"``, else its specification.

    Parameters
    ----------
    spec : str
        As in `Problem.describe`; arguments beyond the name stay.
    dim : int
        Dimension of the domain; 0 leaves the size out: ``"standard"``.
    """
    name, _, rest = spec.partition(":")
    if name == "mfc":
        return f"mesh-free{f' ({rest})' if rest else ''}"
    if name == "stencil":
        try:
            size = getattr(KERNELS.parse(spec), "size", None)
        except InputError:  # stored by another version
            return spec
        return " ".join(["standard", " × ".join([str(size)] * dim)]).strip()
    return spec


def noise_words(spec: str) -> str:
    """Name and parameters of a noise: ``"no noise"``, ``"pixel noise, σ = 0.5"``.

    Parameters
    ----------
    spec : str
        As in `Problem.describe`.
    """
    name = spec.partition(":")[0]
    if name == "none":
        return "no noise"
    try:
        noise = NOISES.parse(spec)
    except InputError:  # stored by another version
        return f"{spec} noise"
    given: Any = noise
    values = [
        f"{SYMBOLS.get(f.name, f.name)} = {getattr(noise, f.name):g}"
        for f in dataclasses.fields(given)
    ]
    return ", ".join([f"{NOISE_WORDS.get(name, name)} noise", *values])


def choice_words(name: str, value: object) -> str:
    """A choice of `gradconv.problem.CHOICES` in words.

    Parameters
    ----------
    name : str
        The choice.
    value : str or int
        Its value, as in `Problem.describe`.
    """
    text = str(value)
    if name == "noise":
        return noise_words(text)
    if name == "restriction":
        return RESTRICTION_WORDS.get(text, text.replace("_", " "))
    words = PLAIN.get(name, f"{name} {{}}").format(text)
    return words.removesuffix("s") if words == "1 channels" else words


def problem_words(record: Record, choices: Sequence[str]) -> str:
    """Some choices of a record in words, one behind the other."""
    return ", ".join(
        kernel_words(record[c], record["dim"]) if c == "kernel" else choice_words(c, record[c])
        for c in choices
    )


def number_cell(cell: str) -> str:
    """Cell with signs of subtraction where it is a number or an interval, and a dash in a range."""
    if cell[:1] in "+-[" and any(c.isdigit() for c in cell):
        return cell.replace("-", "−")
    return re.sub(r"^(\d+)-(\d+)$", "\\1–\\2", cell)


def power_law(coefficient: float, order: float, logs: int = 0) -> str:
    """Mathematics of C·h^order·log(1/h)^logs between dollar signs, C to two digits.

    Parameters
    ----------
    coefficient : float
        C.
    order : float
        Signed order.
    logs : int
        Power of the logarithm.
    """
    power = "" if order == 0 else "h" if order == 1 else f"h^{{{order:.4g}}}"
    logarithm = "" if not logs else r"\log(1/h)" if logs == 1 else rf"\log^{{{logs}}}(1/h)"
    factors = (_two_digits(coefficient), power, logarithm)
    return "$" + r"\, ".join(f for f in factors if f) + "$"


def _two_digits(value: float) -> str:
    """Two significant digits, in powers of ten where it is very large or small."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    if -3 <= int(exponent) <= 2:
        return f"{float(f'{value:.1e}'):.{max(0, 1 - int(exponent))}f}"
    return rf"{mantissa}\times 10^{{{int(exponent)}}}"


def law_words(law: Record) -> str:
    """Law behind a rate with its formula: ``"law $0.71 h^{2}$"``; empty if there is none.

    Parameters
    ----------
    law : mapping
        Under the key ``law`` of a record.
    """
    order, agrees = law.get("order"), law.get("agrees")
    told = ", disagrees" if agrees is False else ""
    if order is not None and law.get("coefficient") is not None:
        return f"law {power_law(law['coefficient'], order, law['log'])}{told}"
    if order is not None:
        logs = " with a logarithm" if law["log"] else ""
        return f"law of order {order:+.4g}{logs}{told}".replace("-", "−")
    if law.get("decay") == "faster than algebraic":
        return f"law faster than any power{told}"
    if law.get("values") and agrees is not None:
        return "law agrees" if agrees else "law disagrees"
    return ""
