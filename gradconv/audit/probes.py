"""Probes of a single layer: its response to one cell, and whether it commutes with shifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gradconv.audit.interventions import PeriodicPadding
from gradconv.audit.trace import Call


@dataclass(frozen=True)
class Response:
    """What a layer makes of one raised cell, on one mesh.

    Parameters
    ----------
    values : ndarray
        Change of the output, the raised cell's place first (FFT order), ``(B, C, *n)``.
    ratio : float
        Cells of the output for one cell of the input, along an axis.
    """

    values: np.ndarray
    ratio: float

    @property
    def spread(self) -> float:
        """Share of the response's energy outside of its largest cell."""
        power = np.sum(np.abs(self.values) ** 2, axis=(0, 1))
        total = float(power.sum())
        return float(1.0 - power.max() / total) if total else 0.0

    @property
    def width(self) -> float:
        """Standard deviation of the response about its centre, in cells of the input, an axis."""
        power = np.sum(np.abs(self.values) ** 2, axis=(0, 1))
        total = power.sum()
        if not total:
            return 0.0
        spread = 0.0
        for axis in range(power.ndim):
            m = np.fft.fftfreq(power.shape[axis], 1.0 / power.shape[axis])
            along = power.sum(axis=tuple(a for a in range(power.ndim) if a != axis)) / total
            spread += float(np.sum(along * (m - np.sum(along * m)) ** 2))
        return float(np.sqrt(max(spread, 0.0) / power.ndim) / self.ratio)


def response(call: Call, dim: int) -> Response | None:
    """Raise one cell of the layer's input by its own size, every channel by another sign.

    Padding is periodic throughout, so that walls play no part. None if the layer is no map of
    fields with whole strides.
    """
    fields = call.fields(dim)
    if fields is None:
        return None
    x, made = fields
    ratio = made.shape[2] / x.shape[2]
    strides = [n / m for n, m in zip(x.shape[2:], made.shape[2:], strict=True)]
    if len(set(strides)) > 1 or min(x.shape[2:]) < 4 or not _whole(strides[0]):
        return None
    zero = torch.zeros_like(x)
    raised = zero.clone()
    middle = tuple(n // 2 for n in x.shape[2:])
    signs = torch.tensor([1.0, -1.0], dtype=x.dtype, device=x.device).repeat(x.shape[1])
    # channels last: one place of the mesh in every sample
    torch.movedim(raised, 1, -1)[(slice(None), *middle)] = signs[: x.shape[1]]  # type: ignore[index]
    with torch.no_grad(), PeriodicPadding().around(call.module):
        change = call(raised) - call(zero)
    if change.shape != made.shape:
        return None
    values = change.detach().cpu().numpy()
    centre = [-round(m * ratio) for m in middle]
    return Response(np.roll(values, centre, axis=tuple(range(2, 2 + dim))), ratio)


def _whole(stride: float) -> bool:
    factor = max(stride, 1.0 / stride)
    return abs(factor - round(factor)) < 1e-9


def mismatch(coarse: Response, fine: Response) -> float:
    """1 − cosine between two responses, cell by cell: 0 if the kernel is tied to the grid.

    What the fine response has beyond the coarse mesh's cells counts as a difference.
    """
    a, b = coarse.values, fine.values
    if a.shape[:2] != b.shape[:2] or coarse.ratio != fine.ratio:
        return 1.0
    window = b
    for axis in range(2, a.ndim):
        m = np.fft.fftfreq(a.shape[axis], 1.0 / a.shape[axis]).round().astype(int)
        window = np.take(window, m % b.shape[axis], axis=axis)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(1.0 - np.abs(np.vdot(a, window)) / norms) if norms else 1.0


def shift_error(call: Call, dim: int) -> float | None:
    """Relative difference between shifting before and after a layer, by half of the box.

    Padding is periodic throughout, so that only what depends on the position is seen. None if the
    meshes cannot be halved, or the layer changes from call to call.
    """
    fields = call.fields(dim)
    if fields is None:
        return None
    x, made = fields
    axes = tuple(range(2, 2 + dim))
    if any(n % 2 for n in (*x.shape[2:], *made.shape[2:])):
        return None
    there = [n // 2 for n in x.shape[2:]]
    with torch.no_grad(), PeriodicPadding().around(call.module):
        plain = call(x)
        if plain.shape != made.shape:
            return None
        shifted = call(torch.roll(x, there, axes))
        if not torch.equal(plain, call(x)):
            return None  # it changes from call to call
    back = torch.roll(shifted, [-(n // 2) for n in made.shape[2:]], axes)
    scale = float(torch.linalg.vector_norm(plain))
    return float(torch.linalg.vector_norm(back - plain)) / scale if scale else None


def input_power(call: Call, dim: int) -> float | None:
    """Mean over cells of Σ_channels x² of a layer's input, its mean over space taken off."""
    fields = call.fields(dim)
    if fields is None:
        return None
    x = fields[0]
    return float(x.var(dim=tuple(range(2, x.ndim)), correction=0).sum(dim=1).mean())
