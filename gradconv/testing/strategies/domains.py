"""Meshes, hierarchies, and fields of controlled smoothness on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gradconv.errors import InputError
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.testing.strategies.values import constant, either, generators, round_numbers

Whole = int | st.SearchStrategy[int]


def dims() -> st.SearchStrategy[int]:
    """Dimensions 1, 2 and 3; shrinks to 1."""
    return st.sampled_from((1, 2, 3))


def _side(size: int, dim: int) -> int:
    """Largest n with n**dim <= size."""
    side = round(size ** (1.0 / dim))
    return side - (side**dim > size)


@st.composite
def meshes(
    draw: st.DrawFn,
    dim: Whole | None = None,
    n: Whole | None = None,
    *,
    min_n: int = 2,
    max_size: int = 4096,
    even: bool | st.SearchStrategy[bool] | None = None,
) -> Mesh:
    """Meshes of the unit box.

    Parameters
    ----------
    dim : int, optional
        Dimension; by default 1, 2 or 3.
    n : int, optional
        Cells an axis; by default any that the following allow.
    min_n : int
        Fewest cells an axis.
    max_size : int
        Most cells altogether: bounds n where n is not given.
    even : bool, optional
        Whether n is even; None for either.

    Returns
    -------
    SearchStrategy of Mesh
        Shrinks to ``Mesh(dim=1, n=2)``.

    Raises
    ------
    InputError
        When drawn from: if no mesh is allowed by the arguments, or `dim` or `n` is not one.
    """
    chosen = draw(either(dim, dims()))
    if n is not None:
        return Mesh(chosen, draw(constant(n)))
    parity = draw(constant(even))
    low, high = max(2, min_n), _side(max_size, Mesh(chosen, 2).dim)
    if parity is None:
        step = 1
    else:
        low += low % 2 != (not parity)
        step = 2
    if low > high:
        raise InputError(
            f"`max_size` must allow {low} cells an axis in dimension {chosen}; got {max_size}"
        )
    return Mesh(chosen, low + step * draw(st.integers(0, (high - low) // step)))


@st.composite
def hierarchies(
    draw: st.DrawFn,
    dim: Whole | None = None,
    coarsest: Whole | None = None,
    levels: Whole | None = None,
    *,
    min_n: int = 2,
    max_levels: int = 5,
    max_size: int = 4096,
) -> MeshHierarchy:
    """Hierarchies of meshes that halve, with odd coarsest meshes as well.

    Parameters
    ----------
    dim : int, optional
        Dimension; by default 1, 2 or 3.
    coarsest : int, optional
        Cells an axis of the coarsest mesh.
    levels : int, optional
        Number of meshes, at least 2.
    min_n : int
        Fewest cells an axis, where `coarsest` is not given.
    max_levels : int
        Most meshes, where `levels` is not given.
    max_size : int
        Most cells of the finest mesh altogether, where coarsest or levels are not given.

    Returns
    -------
    SearchStrategy of MeshHierarchy
        Shrinks to ``MeshHierarchy(dim=1, sizes=(2, 4))``.

    Raises
    ------
    InputError
        When drawn from: if no hierarchy is allowed by the arguments.
    """
    chosen = draw(either(dim, dims()))
    side = _side(max_size, Mesh(chosen, 2).dim)
    count = None if levels is None else draw(constant(levels))
    least = max(2, min_n)
    first = draw(either(coarsest, st.integers(least, max(least, side // 2 ** ((count or 2) - 1)))))
    deepest = max(2, min(max_levels, (side // max(first, 1)).bit_length()))
    count = count or draw(st.integers(2, deepest))
    if (coarsest is None or levels is None) and first * 2 ** (count - 1) > side:
        raise InputError(
            f"`max_size` must allow {first * 2 ** (count - 1)} cells an axis in dimension "
            f"{chosen}; got {max_size}"
        )
    return MeshHierarchy(chosen, tuple(first * 2**level for level in range(count)))


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves amplitude·cos(2π(j·x + phase)) on the unit box.

    Parameters
    ----------
    terms : tuple of (tuple of int, float, float)
        ``(j, amplitude, phase)`` of each wave; the phase in turns.

    Examples
    --------
    >>> wave = Waves((((1,), 1.0, 0.0),))
    >>> wave.on(Mesh(1, 4)).round(12) + 0.0
    array([ 1.,  0., -1.,  0.])
    """

    terms: tuple[tuple[tuple[int, ...], float, float], ...]

    @property
    def dim(self) -> int:
        """Dimension."""
        return len(self.terms[0][0])

    @property
    def modes(self) -> int:
        """Largest ``|j_a|``: a mesh of more than twice as many cells an axis resolves the sum."""
        return max(abs(a) for j, _, _ in self.terms for a in j)

    def on(self, mesh: Mesh, grid: str = "vertex") -> np.ndarray:
        """Values on a mesh, shape ``mesh.shape``.

        Parameters
        ----------
        mesh : Mesh
            The mesh.
        grid : {"vertex", "cell"}
            Where the values live.
        """
        points = mesh.points(grid)
        total = np.zeros(mesh.shape)
        for j, amplitude, phase in self.terms:
            turns = sum(a * x for a, x in zip(j, points, strict=True)) + phase
            total = total + amplitude * np.cos(2.0 * np.pi * turns)
        return total

    def shifted(self, distance: tuple[float, ...]) -> Waves:
        """Return x ↦ u(x + distance), distances in units of the box."""
        moved = (
            (j, amplitude, phase + sum(a * s for a, s in zip(j, distance, strict=True)))
            for j, amplitude, phase in self.terms
        )
        return Waves(tuple(moved))


@st.composite
def waves(
    draw: st.DrawFn,
    dim: Whole | None = None,
    *,
    modes: Whole = 3,
    max_terms: int = 3,
) -> Waves:
    """Functions on the box that every fine enough mesh can ask for: few plane waves.

    Parameters
    ----------
    dim : int, optional
        Dimension; by default 1, 2 or 3.
    modes : int
        Largest wave number along an axis.
    max_terms : int
        Most waves.

    Returns
    -------
    SearchStrategy of Waves
        Shrinks to the constant 1.
    """
    chosen, band = draw(either(dim, dims())), draw(constant(modes))
    term = st.tuples(
        st.tuples(*[st.integers(-band, band)] * chosen),
        round_numbers(-2.0, 2.0, first=1.0),
        st.integers(0, 19).map(lambda twentieths: twentieths / 20),
    )
    return Waves(tuple(draw(st.lists(term, min_size=1, max_size=max_terms))))


@st.composite
def fields(
    draw: st.DrawFn,
    mesh: Mesh | st.SearchStrategy[Mesh],
    *,
    channels: Whole = 1,
    batch: Whole | None = None,
    modes: Whole | None = None,
) -> np.ndarray:
    """Arrays on a mesh: band-limited or white.

    Parameters
    ----------
    mesh : Mesh
        The mesh.
    channels : int
        Number of channels.
    batch : int, optional
        Number of fields; by default there is no axis of a batch.
    modes : int, optional
        Largest wave number along an axis of a band-limited field (values at the vertices). By
        default the field is white: unit impulses, or independent normal numbers of two decimals.

    Returns
    -------
    SearchStrategy of ndarray
        Shape ``(channels, *mesh.shape)``, or ``(batch, channels, *mesh.shape)``. Shrinks to ones
        if band-limited, else to a unit impulse in the first cell of each channel.
    """
    place = draw(constant(mesh))
    lead: tuple[int, ...] = (draw(constant(channels)),)
    if batch is not None:
        lead = (draw(constant(batch)), *lead)
    count = int(np.prod(lead))
    if modes is not None:
        band = draw(constant(modes))
        found = [draw(waves(place.dim, modes=band)).on(place) for _ in range(count)]
        return np.array(found).reshape((*lead, *place.shape))
    return draw(_impulses(place, lead) | _normals(place, lead))


@st.composite
def _impulses(draw: st.DrawFn, mesh: Mesh, lead: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(lead))
    field: np.ndarray = np.zeros((count, mesh.size))
    for row in field:
        row[draw(st.integers(0, mesh.size - 1))] = 1.0
    return field.reshape((*lead, *mesh.shape))


def _normals(mesh: Mesh, lead: tuple[int, ...]) -> st.SearchStrategy[Any]:
    def draw_normal(rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((*lead, *mesh.shape)).round(2)

    return generators(4 + int(np.prod(lead))).map(draw_normal)
