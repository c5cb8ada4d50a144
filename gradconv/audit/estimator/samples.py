"""What two sets of samples have to do with each other: the same, restricted, related, unrelated.

All of it by content. A coarse input is *the restriction* of a fine one if a registered restriction,
or a linear map of a few neighbouring cells fitted by least squares, gives it to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
import torch

from gradconv.errors import InputError
from gradconv.restriction import RESTRICTIONS

MATCH = 1e-4  # relative distance of fingerprints below which two fields are the same
SAME = 0.99  # share of samples that must match
DIRECTIONS = 24
BLOCKS = 16  # cells an axis that images are compared on
LARGEST_Z = 1e6
FLOOR = 1e-6  # of the total power: octaves below it are not looked at


def number_array(x: torch.Tensor) -> np.ndarray:
    """Field as a numpy array of at least single precision."""
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj()).movedim(-1, 1).flatten(1, 2)
    return (x if x.dtype == torch.float64 else x.float()).numpy()


def standardized(x: np.ndarray) -> np.ndarray:
    """Take each channel's mean over space off and divide by its norm, shape ``(N, D)``."""
    flat = x.reshape(*x.shape[:2], -1).astype(float)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    norm = np.linalg.norm(flat, axis=-1, keepdims=True)
    flat = np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 0)
    return flat.reshape(len(x), -1) / np.sqrt(x.shape[1])


def fingerprints(x: np.ndarray) -> np.ndarray:
    """Random projections of standardized fields, shape ``(N, 24)``: the same if they are."""
    flat = standardized(x)
    directions = np.random.default_rng(flat.shape[1]).standard_normal((flat.shape[1], DIRECTIONS))
    return flat @ directions / np.sqrt(DIRECTIONS)


def equal_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which fingerprints of two sets are equal, shape ``(N_a, N_b)``."""
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T
    # differences of large numbers: what looks close is looked at again
    near = np.argwhere(square < 1e-6)
    equal = np.zeros(square.shape, dtype=bool)
    for i, j in near:
        equal[i, j] = np.linalg.norm(a[i] - b[j]) < MATCH
    return equal


def restrictions(fine: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Fine fields on a coarse mesh by every registered restriction, and some others in use."""
    dim = len(shape)
    factor = fine.shape[2] // shape[0]
    steps: list[Callable[[np.ndarray], np.ndarray]] = []
    for name in RESTRICTIONS.names:
        choice = RESTRICTIONS[name]()
        boundaries = choice.boundaries if name == "full_weighting" else choice.boundaries[:1]
        for boundary in boundaries:
            direct = partial(choice.restrict, dim=dim, factor=factor, boundary=boundary)
            chain = partial(_chained, partial(choice.restrict, dim=dim, boundary=boundary), factor)
            steps += [chain, direct] if factor > 2 and not choice.nested else [direct]
    steps += [partial(_strided, factor), partial(_largest, factor)]
    for step in steps:
        try:
            made = step(fine)
        except InputError:  # not for this mesh
            continue
        if made.shape[2:] == shape:
            yield made


def _chained(step: Callable[[np.ndarray], np.ndarray], factor: int, x: np.ndarray) -> np.ndarray:
    for _ in range(factor.bit_length() - 1):
        x = step(x)
    return x


def _strided(factor: int, x: np.ndarray) -> np.ndarray:
    cut: tuple[Any, ...] = (slice(factor - 1, None, factor),) * (x.ndim - 2)
    return np.asarray(x[(..., *cut)])


def _largest(factor: int, x: np.ndarray) -> np.ndarray:
    shape = [*x.shape[:2]]
    for n in x.shape[2:]:
        shape += [n // factor, factor]
    return x.reshape(shape).max(axis=tuple(range(3, len(shape), 2)))


def partners(fine: np.ndarray, coarse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find which fine samples have a restriction among the coarse ones, and the reverse.

    Returns
    -------
    down, up : ndarray
        Truth values, one a fine and one a coarse sample.
    """
    down, up = np.zeros(len(fine), dtype=bool), np.zeros(len(coarse), dtype=bool)
    prints = fingerprints(coarse)
    for made in restrictions(fine, coarse.shape[2:]):
        equal = equal_pairs(fingerprints(made), prints)
        down |= equal.any(axis=1)
        up |= equal.any(axis=0)
        if down.all() or up.all():
            break
    return down, up


@dataclass(frozen=True)
class MapFit:
    """What the best linear map from fine to coarse fields leaves; NaN for too few samples.

    Parameters
    ----------
    left : float
        Part of the coarse fields' variance that it leaves, 0 for a restriction.
    octave : float
        The largest such part in an octave of frequency: 1 where noise is another.
    gain : float
        What the map makes of a constant.
    """

    left: float
    octave: float
    gain: float


def unexplained(fine: np.ndarray, coarse: np.ndarray) -> MapFit:
    """Fit the coarse fields as a linear map of the fine ones, sample i to sample i.

    Two kinds of maps are tried: any weights of neighbouring cells, away from walls, and any
    periodic map at all, whose coarse modes are sums over the fine modes that alias to them.
    """
    dim = coarse.ndim - 2
    if fine.shape[2] != 2 * coarse.shape[2] or len(fine) != len(coarse):
        return MapFit(np.nan, np.nan, np.nan)
    periodic, octave = _unaliased(fine, coarse)
    left = total = 0.0
    gains = []
    for channel in range(min(fine.shape[1], coarse.shape[1])):
        for reach in (3, 2) if dim < 3 else (1,):
            rows = _neighbourhoods(fine[:, channel], coarse[:, channel], reach)
            if rows is not None:
                break
        else:
            return MapFit(periodic, octave, np.nan)
        matrix, values = rows
        weights = np.linalg.lstsq(matrix, values, rcond=1e-10)[0]
        left += float(np.sum((values - matrix @ weights) ** 2))
        total += float(np.sum((values - values.mean()) ** 2))
        gains.append(float(weights[:-1].sum()))
    local = left / total if total else 0.0
    return MapFit(float(np.nanmin([local, periodic])), octave, float(np.mean(gains)))


def _unaliased(fine: np.ndarray, coarse: np.ndarray) -> tuple[float, float]:
    """Part of the coarse variance, and of an octave's, that no periodic map by 2 leaves."""
    dim = coarse.ndim - 2
    aliases = 2**dim
    if len(fine) < 3 * aliases or fine.shape[1] != coarse.shape[1]:
        return np.nan, np.nan
    axes = tuple(range(2, 2 + dim))
    split = [*fine.shape[:2]]
    for n in coarse.shape[2:]:
        split += [2, n]
    modes = np.fft.fftn(fine.astype(float), axes=axes).reshape(split)
    order = (1, *range(3, 3 + 2 * dim, 2), 0, *range(2, 2 + 2 * dim, 2))
    columns = modes.transpose(order).reshape(-1, len(fine), aliases)
    values = np.moveaxis(np.fft.fftn(coarse.astype(float), axes=axes), 0, -1)
    values = values.reshape(-1, len(fine), 1)
    basis = np.linalg.qr(columns)[0]
    rest = values - basis @ (basis.conj().swapaxes(1, 2) @ values)
    powers = []
    for part in (rest, values):
        part = part - part.mean(axis=1, keepdims=True) * (part is values)
        powers.append((np.abs(part) ** 2).sum(axis=(1, 2)).reshape(-1, *coarse.shape[2:]).sum(0))
    total = float(powers[1].sum())
    if not total:
        return 0.0, 0.0
    bands = octave_index(coarse.shape[2:])
    by_octave = [[p[bands == k].sum() for k in range(int(bands.max()) + 1)] for p in powers]
    shares = [a / b for a, b in zip(*by_octave, strict=True) if b > FLOOR * total]
    return float(powers[0].sum()) / total, float(max(shares, default=0.0))


def octave_index(shape: tuple[int, ...]) -> np.ndarray:
    """Octave of |j| of each mode, in FFT order: 0 is |j| < 2, −1 the mean."""
    grids = np.meshgrid(*[np.fft.fftfreq(n, 1.0 / n) for n in shape], indexing="ij", sparse=True)
    radius = np.sqrt(np.asarray(sum(g**2 for g in grids)))
    octave = np.floor(np.log2(np.maximum(radius, 0.5))).astype(int)
    return np.minimum(octave, max(int(np.log2(min(shape) // 2)) - 1, 0))


def _neighbourhoods(
    fine: np.ndarray, coarse: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of the fit: fine cells −reach … reach + 1 about each inner coarse cell, and a 1."""
    dim = coarse.ndim - 1
    margin = (reach + 2) // 2
    taps = list(product(range(-reach, reach + 2), repeat=dim))
    inner = [n - 2 * margin for n in coarse.shape[1:]]
    if min(inner) < 1 or len(coarse) * prod(inner) < 4 * len(taps):
        return None
    columns = []
    for tap in taps:
        cut = [
            slice(2 * margin + o, 2 * margin + o + 2 * m, 2)
            for o, m in zip(tap, inner, strict=True)
        ]
        columns.append(fine[(slice(None), *cut)].reshape(-1))
    values = coarse[(slice(None), *(slice(margin, margin + m) for m in inner))].reshape(-1)
    every = max(1, len(values) // (40 * len(taps) + 2000))
    matrix = np.stack([c[::every] for c in (*columns, np.ones_like(values))], axis=1)
    return matrix.astype(float), values[::every].astype(float)


def images(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Means over blocks, shape ``(N, C, *shape)``: what noise hardly reaches."""
    split = [*x.shape[:2]]
    for n, m in zip(x.shape[2:], shape, strict=True):
        split += [m, n // m]
    return x.reshape(split).mean(axis=tuple(range(3, len(split), 2)))


def image_shape(coarsest: tuple[int, ...]) -> tuple[int, ...]:
    """Mesh that images are compared on: the coarsest, or one of at most 16 cells below it."""
    shape = list(coarsest)
    for axis, n in enumerate(shape):
        while n > BLOCKS and n % 2 == 0:
            n //= 2
        shape[axis] = n
    return tuple(shape)


def details(x: np.ndarray) -> np.ndarray:
    """What a field is beyond the mean of its neighbours: mostly its noise."""
    smooth = x
    for axis in range(2, x.ndim):
        smooth = (np.roll(smooth, 1, axis) + 2.0 * smooth + np.roll(smooth, -1, axis)) / 4.0
    return x - smooth


def association(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Whether row i of one set goes with row i of another, more than with the other rows.

    Parameters
    ----------
    a, b : ndarray
        Rows of norm 1 or 0, shape ``(N, D)``.

    Returns
    -------
    z : float
        Sum of ⟨a_i, b_i⟩ in standard deviations of its permutation law; 0 if that has no width.
    excess : float
        Mean of ⟨a_i, b_i⟩ over that of ⟨a_i, b_j⟩, as a share of what is possible.

    References
    ----------
    W. Hoeffding, "A combinatorial central limit theorem", Ann. Math. Stat. 22 (1951), eq. (2).
    """
    n = len(a)
    if n < 3:
        return 0.0, 0.0
    products = a @ b.T
    mean = float(products.mean())
    diagonal = float(np.trace(products)) / n
    centred = products - products.mean(0, keepdims=True) - products.mean(1, keepdims=True) + mean
    variance = float((centred**2).sum()) / (n - 1)
    off = (mean * n - diagonal) / (n - 1)
    excess = (diagonal - off) / (1.0 - off) if off < 1.0 - 1e-9 else 0.0
    if variance <= 1e-18 * n:
        return 0.0, excess
    return min((diagonal - mean) * n / variance**0.5, LARGEST_Z), excess
