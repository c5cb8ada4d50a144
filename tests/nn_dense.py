"""Mesh-free convolution by the full complex FFT of an extended field: shares no code."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np
import torch
from torch import Tensor

from gradconv.backend import NUMPY
from gradconv.nn import PhysicalParameters
from gradconv.restriction import RESTRICTIONS

WALLS = {"periodic": "periodic", "reflect": "reflecting", "zero": "zero"}


def symbol(p: PhysicalParameters, shape: tuple[int, ...], sides: tuple[float, ...]) -> Tensor:
    """S on every mode of a periodic box, shape ``(out, in, *shape)``; at n/2 the mean of signs."""
    d = len(shape)
    j = [np.fft.fftfreq(n, 1 / n).round() for n in shape]
    total: Tensor | float = 0.0
    for signs in product((1, -1), repeat=d):
        axes = [
            2 * np.pi / side * np.where(2 * abs(m) == n, sign * abs(m), m)
            for m, n, side, sign in zip(j, shape, sides, signs, strict=True)
        ]
        k = torch.tensor(np.stack(np.meshgrid(*axes, indexing="ij")))
        exponent = -torch.einsum("oieab,a...,b...->oie...", p.diffusion, k, k)
        wave = torch.exp(exponent + 1j * torch.einsum("oiea,a...->oie...", p.drift, k))
        wave = wave * _prefactor(p, k)
        total = total + wave.sum(dim=2) / 2**d
    return total


def _prefactor(p: PhysicalParameters, k: Tensor) -> Tensor:
    d = k.shape[0]
    ones = (1,) * d
    total = p.amplitude.reshape(*p.amplitude.shape, *ones) + 0j
    names = [m for n in (1, 2) for m in combinations_with_replacement(range(d), n)]
    for j in range(p.derivative.shape[-1]):
        c = p.derivative[..., j]
        wave = torch.ones_like(k[0]) + 0j
        for a in names[j]:
            wave = wave * 1j * k[a]
        total = total + c.reshape(*c.shape, *ones) * wave
    return total


def extend(x: Tensor, padding: str, margin: int) -> Tensor:
    """The field beyond the domain, on the far side only; periodic from there."""
    for axis in range(2, x.ndim):
        if padding == "reflect":
            x = torch.cat([x, x.flip(axis)], dim=axis)
        elif padding == "zero":
            shape = list(x.shape)
            shape[axis] = margin
            x = torch.cat([x, x.new_zeros(shape)], dim=axis)
    return x


def convolve(
    x: Tensor,
    p: PhysicalParameters,
    sides: tuple[float, ...],
    groups: int = 1,
    padding: str = "periodic",
    margin: int = 0,
    stride: int = 1,
    restriction: str = "average",
) -> Tensor:
    """Convolve ``(B, in, *n)`` with all frequencies; differentiable."""
    d, n = x.ndim - 2, x.shape[2:]
    wide = extend(x, padding, margin)
    box = tuple(s * w / m for s, w, m in zip(sides, wide.shape[2:], n, strict=True))
    s = symbol(p, tuple(wide.shape[2:]), box)
    spectrum = torch.fft.fftn(wide, dim=tuple(range(2, 2 + d)))
    out, in_ = s.shape[0] // groups, s.shape[1]
    parts = [
        torch.einsum(
            "oi...,bi...->bo...",
            s[g * out : (g + 1) * out],
            spectrum[:, g * in_ : (g + 1) * in_],
        )
        for g in range(groups)
    ]
    y = torch.fft.ifftn(torch.cat(parts, dim=1), dim=tuple(range(2, 2 + d))).real
    y = y[(..., *(slice(m) for m in n))]
    if stride > 1:
        rule = RESTRICTIONS.parse(restriction)
        for axis in range(d):
            m = y.shape[2 + axis]
            rows = rule.restrict_axis(np.eye(m), -1, stride, WALLS[padding], NUMPY).T
            y = torch.tensordot(y, torch.tensor(rows.copy()), dims=([2 + axis], [1]))
            y = y.movedim(-1, 2 + axis)
    return y
