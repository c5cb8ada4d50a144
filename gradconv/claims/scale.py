"""Claim 4, measured: one set of parameters applied on many meshes, compared mode by mode."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradconv.claims.claim import Finding, Record
from gradconv.kernels import KERNELS, Kernel, KernelOptions

ROUNDING = 1e-12  # relative differences up to this are rounding: sums of up to 10^5 terms
FACTOR = 1.25  # law (an integral) and measurement (a sum) may differ by this
WIDTH = 1.0 / 80.0  # standard deviation of the kernel, in units of the box
SIZES = (41, 61, 81, 121, 161, 201, 241)  # odd: no mode is its own alias
REFERENCE = {1: 961, 2: 481}
BAND = 5  # largest mode of the band-limited input
BAND_SIZES = (16, 17, 32, 33, 64, 65)
BAND_REFERENCE = 128
RESOLVED, UNRESOLVED = "is resolved by the mesh", "is not resolved by the mesh"


@dataclass(frozen=True)
class Comparison:
    """Relative difference of an output to the reference mesh's, a value a mesh.

    Parameters
    ----------
    sizes : tuple of int
        Cells an axis.
    values : tuple of float
        ‖output − reference‖ / ‖reference‖ over all modes of the reference mesh.
    """

    sizes: tuple[int, ...]
    values: tuple[float, ...]


def describe() -> Record:
    """What is compared, as JSON values."""
    return {
        "width": WIDTH,
        "sizes": list(SIZES),
        "reference": {str(dim): n for dim, n in REFERENCE.items()},
        "band": BAND,
        "band_sizes": list(BAND_SIZES),
        "band_reference": BAND_REFERENCE,
        "rounding": ROUNDING,
        "factor": FACTOR,
    }


def scale_findings() -> Iterator[Finding]:
    """Compare the outputs of the same parameters on meshes of many sizes, even and odd.

    Yields
    ------
    Finding
        For each dimension: a band-limited input, and an impulse (the kernel itself) on each mesh.
        A fixed stencil is the negative control: where it passes too, nothing is decided.
    """
    for dim in (1, 2):
        control = band_comparison(KERNELS.parse("stencil").build(dim, 1, KernelOptions()))
        kernel = gaussian(dim)
        telling = min(control.values) > ROUNDING
        yield _band_finding(dim, band_comparison(kernel), control, telling)
        measured = impulse_comparison(kernel)
        for n, value in zip(measured.sizes, measured.values, strict=True):
            yield _impulse_finding(kernel, n, value, telling)


def gaussian(dim: int) -> Kernel:
    """Make a mesh-free kernel of standard deviation `WIDTH`, with the default drift."""
    return KERNELS.parse("mfc").build(dim, 1, KernelOptions(diffusivity=0.5 * WIDTH**2))


def band_comparison(kernel: Kernel) -> Comparison:
    """Apply a kernel to the same band-limited function on every mesh.

    Parameters
    ----------
    kernel : Kernel
        One channel.
    """
    rng = np.random.default_rng(0)
    side = 2 * BAND + 1
    modes = rng.standard_normal((side,) * kernel.dim) + 1j * rng.standard_normal(
        (side,) * kernel.dim
    )
    outputs = [_modes(kernel, _function(modes, n), BAND) for n in (*BAND_SIZES, BAND_REFERENCE)]
    values = tuple(_distance(o, outputs[-1]) for o in outputs[:-1])
    return Comparison(BAND_SIZES, values)


def impulse_comparison(kernel: Kernel) -> Comparison:
    """Apply a kernel to a unit mass in one cell of every mesh.

    Modes beyond a mesh's own count as zero there: the difference is what the mesh cannot hold.

    Parameters
    ----------
    kernel : Kernel
        One channel.
    """
    n = REFERENCE[kernel.dim]
    reference = _modes(kernel, _impulse(kernel.dim, n), n // 2)
    values = []
    for size in SIZES:
        missing = n // 2 - size // 2
        coarse = _modes(kernel, _impulse(kernel.dim, size), size // 2)
        values.append(_distance(np.pad(coarse, missing), reference))
    return Comparison(SIZES, tuple(values))


def impulse_law(cells: float, dim: int) -> float:
    """Law of the impulse's difference: √(1 − erf(π w/h)^d) at `cells` = w/h.

    The share of ∫|σ|² dk = ∫exp(−w²k²) dk beyond the mesh's largest frequency π/h, by axis. It
    presumes w ≪ 1, so that sums over modes are integrals.

    Parameters
    ----------
    cells : float
        Standard deviation of the kernel in cells.
    dim : int
        Dimension.
    """
    missing = math.erfc(math.pi * cells)
    return math.sqrt(-math.expm1(dim * math.log1p(-missing)))


def _function(modes: np.ndarray, n: int) -> np.ndarray:
    """Real part of a trigonometric polynomial at the vertices of a mesh."""
    dim, band = modes.ndim, modes.shape[0] // 2
    line = np.exp(2j * np.pi * np.outer(np.arange(-band, band + 1), np.arange(n)) / n)
    field = modes
    for _ in range(dim):  # each turn sums over the first axis and puts the new one last
        field = np.tensordot(field, line, axes=(0, 0))
    return np.asarray(field.real)


def _impulse(dim: int, n: int) -> np.ndarray:
    field = np.zeros((n,) * dim)
    field[(0,) * dim] = float(n) ** dim
    return field


def _modes(kernel: Kernel, field: np.ndarray, largest: int) -> np.ndarray:
    """Fourier coefficients |j| <= largest of the kernel's output, in increasing order of j."""
    import torch

    n, dim = field.shape[0], field.ndim
    theta = torch.from_numpy(np.array(kernel.theta))
    output = kernel.apply(torch.from_numpy(field)[None, None], theta, "periodic")
    spectrum = np.fft.fftshift(np.fft.fftn(output[0, 0].numpy())) / n**dim
    middle = n // 2
    kept = slice(middle - largest, middle + largest + 1)
    return np.asarray(spectrum[(kept,) * dim])


def _distance(values: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))


def _band_finding(dim: int, mfc: Comparison, control: Comparison, telling: bool) -> Finding:
    worst = max(mfc.values)
    grade = "undecided" if not telling else "holds" if worst <= ROUNDING else "disagrees"
    choices = {
        "the output": RESOLVED,
        "input": f"band-limited to {BAND} modes",
        "dim": str(dim),
    }
    name = f"band-limited input, dim {dim}, n = {BAND_SIZES[0]} to {BAND_SIZES[-1]}, even and odd"
    shared: Record = {"case": name, "quantity": "relative_difference", "choices": choices}
    law = {
        **shared,
        "missing": "",
        "expression": "0",
        "latex": "0",
        "value": 0.0,
        "values": [0.0] * len(mfc.sizes),
        "assumptions": ["the mesh holds every mode of the input: 2 modes < n"],
    }
    measurement = {
        **shared,
        "grade": grade,
        "text": f"{name}: largest relative difference {worst:.1e}",
        "value": worst,
        "n": list(mfc.sizes),
        "values": list(mfc.values),
        "control": {"kernel": "stencil", "values": list(control.values)},
    }
    return Finding(choices, grade, law, measurement)


def _impulse_finding(kernel: Kernel, n: int, value: float, telling: bool) -> Finding:
    dim, cells = kernel.dim, WIDTH * n
    predicted = impulse_law(cells, dim)
    resolved = predicted <= ROUNDING
    choices = {
        "the output": RESOLVED if resolved else UNRESOLVED,
        "input": "impulse",
        "dim": str(dim),
    }
    name = f"impulse, dim {dim}, kernel width {cells:.2f} cells"
    shared: Record = {"case": name, "quantity": "relative_difference", "choices": choices}
    law = {
        **shared,
        "missing": "",
        "expression": "sqrt(1 - erf(pi*w/h)**d)",
        "latex": r"\sqrt{1 - \operatorname{erf}(\pi w / h)^{d}}",
        "value": predicted,
        "cells": cells,
        "assumptions": ["the kernel is narrow against the box: w << 1"],
    }
    measurement = {
        **shared,
        "grade": grade_impulse(value, predicted, telling),
        "text": f"{name}: relative difference {value:.1e}, law {predicted:.1e}",
        "value": value,
        "cells": cells,
        "n": [n],
        "flagged": kernel.unresolved(1.0 / n) or "",
    }
    return Finding(choices, measurement["grade"], law, measurement)


def grade_impulse(value: float, predicted: float, telling: bool = True) -> str:
    """Grade of an impulse's difference with its law.

    Parameters
    ----------
    value, predicted : float
        Measured and derived relative difference.
    telling : bool
        Whether the negative control failed, as it must.
    """
    if not telling:
        return "undecided"
    if predicted <= ROUNDING and value <= ROUNDING:
        return "holds"
    floor = ROUNDING * 0.1
    if max(value, floor) > FACTOR * max(predicted, floor) or predicted > FACTOR * value:
        return "disagrees"
    return "fails"
