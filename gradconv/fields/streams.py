"""Reproducible random streams and the fields drawn from them, prefix-stable under refinement.

A stream is keyed by (seed, role, replicate, channel) alone: no draw depends on how many replicates
or levels are asked for, nor on how the work is cut. Every `coupled` draw below uses the *first*
numbers of its stream for the coarse mesh, so that a finer mesh extends a sample path and never
changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

from gradconv.mesh import Mesh

ROLES = {"signal": 0, "noise": 1}
SEEDS = 256  # replicates seeded together; part of the definition of a stream
SMALL = 2**12
"""Most cells of a mesh whose tables are kept: on larger ones a draw costs more than they do."""


@dataclass(frozen=True)
class SamplePath:
    """One replicate's source of randomness.

    Parameters
    ----------
    seed : int
        Seed of the run.
    replicate : int
        Index of the sample path.
    role : {"signal", "noise"}
        Which field it feeds.
    """

    seed: int
    replicate: int
    role: str

    def generator(self, channel: int) -> np.random.Generator:
        """Return a fresh generator at the start of the channel's stream."""
        block, place = divmod(self.replicate, SEEDS)
        seeds = _seeds(self.seed, ROLES[self.role], block, channel)
        words: Any = _Words(seeds[place])  # numpy's stubs know no ISeedSequence here
        return np.random.Generator(np.random.SFC64(words))


class _Words(ISeedSequence):
    """Seeds a bit generator with words that a `SeedSequence` has already mixed."""

    def __init__(self, words: np.ndarray) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self.words


@lru_cache(maxsize=256)
def _seeds(seed: int, role: int, block: int, channel: int) -> np.ndarray:
    """Seeds of a block of replicates: one by one they cost as much as a small field."""
    sequence = np.random.SeedSequence(seed, spawn_key=(role, block, channel))
    return sequence.generate_state(3 * SEEDS, np.uint64).reshape(SEEDS, 3)


def pixel_field(rng: np.random.Generator, mesh: Mesh, coupled: bool, law: str) -> np.ndarray:
    """Draw independent values on the cells, coupled between meshes by injection.

    Parameters
    ----------
    rng : numpy.random.Generator
        At the start of its stream.
    mesh : Mesh
        The mesh.
    coupled : bool
        If true, the field on n/2 cells is every other value of the field on n.
    law : {"normal", "uniform"}
        Standard normal, or uniform on (0, 1).

    Returns
    -------
    ndarray
        Shape ``mesh.shape``.
    """
    draw = rng.standard_normal if law == "normal" else rng.random
    if not coupled:
        return draw(mesh.shape)
    sizes = _doubling(mesh.n)
    field = draw((sizes[0],) * mesh.dim)
    for n in sizes[1:]:
        fine = np.empty((n,) * mesh.dim)
        corners = list(product((0, 1), repeat=mesh.dim))
        fine[tuple(slice(c, None, 2) for c in corners[0])] = field
        for corner in corners[1:]:
            fine[tuple(slice(c, None, 2) for c in corner)] = draw(field.shape)
        field = fine
    return field


def white_field(rng: np.random.Generator, mesh: Mesh, coupled: bool) -> np.ndarray:
    """Draw cell means of white noise of unit intensity: variance h**-dim.

    Coupled draws refine by Haar details, so that the field on n/2 cells is the mean over the
    2**dim cells of the field on n.

    Parameters
    ----------
    rng : numpy.random.Generator
        At the start of its stream.
    mesh : Mesh
        The mesh.
    coupled : bool
        Whether coarser meshes see the same path.

    Returns
    -------
    ndarray
        Shape ``mesh.shape``.
    """
    dim = mesh.dim
    if not coupled:
        return rng.standard_normal(mesh.shape) * mesh.h ** (-dim / 2)
    sizes = _doubling(mesh.n)
    field = rng.standard_normal((sizes[0],) * dim) * sizes[0] ** (dim / 2)
    corners = list(product((0, 1), repeat=dim))
    for n in sizes[1:]:
        scale = (n // 2) ** (dim / 2)
        details = [scale * rng.standard_normal(field.shape) for _ in corners[1:]]
        fine = np.empty((n,) * dim)
        for corner in corners:
            child = field.copy()
            for wave, detail in zip(corners[1:], details, strict=True):
                sign = (-1) ** sum(c * w for c, w in zip(corner, wave, strict=True))
                child += sign * detail
            fine[tuple(slice(c, None, 2) for c in corner)] = child
        field = fine
    return field


def hermitian_modes(rng: np.random.Generator, dim: int, largest: int) -> np.ndarray:
    """Draw Gaussian Fourier coefficients of a real field, E|c_j|² = 1 for every |j|_∞ ≤ largest.

    Drawn shell by shell of |j|_∞: a larger cutoff extends the same path.

    Parameters
    ----------
    rng : numpy.random.Generator
        At the start of its stream.
    dim : int
        Dimension.
    largest : int
        Cutoff.

    Returns
    -------
    ndarray
        Complex, shape ``(2·largest+1,)*dim``, j from −largest to largest along each axis.
    """
    z = np.empty((2 * largest + 1,) * dim)
    z[(largest,) * dim] = rng.standard_normal()
    faces = _kept_faces if z.size <= SMALL else _faces
    for face in faces(largest, dim):
        block = z[face]
        block[...] = rng.standard_normal(block.shape)
    mirrored = z[(slice(None, None, -1),) * dim]
    # real iid z to Hermitian c: E|c|² = 1 and E c² = 0 off the origin, c_0 = z_0
    return 0.5 * ((z + mirrored) + 1j * (z - mirrored))


def mesh_spectrum(modes: np.ndarray, n: int, nyquist: str = "none") -> np.ndarray:
    """Lay closed-box coefficients out as the real-FFT array of a mesh.

    Parameters
    ----------
    modes : ndarray
        From `hermitian_modes`, cutoff m: n/2 at most; the modes beyond m are zero.
    n : int
        Cells an axis of the mesh.
    nyquist : {"none", "white"}
        With "white", a mode of index −n/2 is the sum of its two ends over √2, which keeps its
        power and lets meshes share the path. With "none" the cutoff must be below n/2.

    Returns
    -------
    ndarray
        Real-FFT layout, shape ``(n, …, n//2+1)``.
    """
    dim = modes.ndim
    m = modes.shape[0] // 2
    if nyquist == "white":
        for axis in range(dim):
            low, high = (np.take(modes, [i], axis=axis) for i in (0, 2 * m))
            inner = modes[(slice(None),) * axis + (slice(1, 2 * m),)]
            modes = np.concatenate([(low + high) / np.sqrt(2.0), inner], axis=axis)
    layout = _layout if n**dim <= SMALL else _layout.__wrapped__
    last, target = layout(m, n, dim, nyquist == "white")
    full = np.zeros((n,) * (dim - 1) + (n // 2 + 1,), dtype=complex)
    full[target] = modes[..., last]
    return full


@lru_cache(maxsize=64)  # a sweep asks for each of its meshes again and again
def _layout(m: int, n: int, dim: int, folded: bool) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Which columns of the modes a real-FFT array has, and where all of them go."""
    indices = np.arange(-m, m) if folded else np.arange(-m, m + 1)
    last = np.flatnonzero((indices >= 0) | (2 * indices == -n))
    columns = np.abs(indices[last])
    return last, np.ix_(*([indices % n] * (dim - 1)), columns)


def _doubling(n: int) -> list[int]:
    sizes = [n]
    while sizes[0] % 2 == 0:
        sizes.insert(0, sizes[0] // 2)
    return sizes


@lru_cache(maxsize=16)
def _kept_faces(largest: int, dim: int) -> tuple[tuple[slice, ...], ...]:
    return tuple(_faces(largest, dim))


def _faces(largest: int, dim: int) -> Iterator[tuple[slice, ...]]:
    """Disjoint faces of the cubes |j|_∞ = 1 to `largest`, as slices of an array of such modes."""
    for shell in range(1, largest + 1):
        inner = slice(largest - shell + 1, largest + shell)
        whole = slice(largest - shell, largest + shell + 1)
        for axis in range(dim):
            for end in (largest - shell, largest + shell):
                yield (
                    *(inner,) * axis,
                    slice(end, end + 1),
                    *(whole,) * (dim - axis - 1),
                )
