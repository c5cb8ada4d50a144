"""Uniform meshes on the unit box, their hierarchy, and the Fourier grid of a mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from numbers import Integral
from typing import Any

import numpy as np

from gradconv.backend import NUMPY, Array, Backend
from gradconv.errors import InputError, check_whole, shortened, unknown_name

MAX_LEVEL = 26  # 2**26 cells a line: 0.5 GiB of float64, the longest line worth sweeping
OFFSETS = {"cell": 0.5, "vertex": 0.0}  # of the first point, in cells


def check_dim(dim: object) -> int:
    """Return a dimension, or refuse any other than 1, 2 and 3.

    Raises
    ------
    InputError
        That names what it got.
    """
    if isinstance(dim, bool) or not isinstance(dim, Integral) or dim not in (1, 2, 3):
        raise InputError(f"`dim` must be 1, 2 or 3; got {shortened(dim)}")
    return int(dim)


def read_levels(text: object, fit: bool = False) -> tuple[int, int]:
    """Read levels, ``"a:b"``: powers of two of the cells an axis, coarsest and finest.

    Parameters
    ----------
    text : str
        The levels.
    fit : bool
        Whether they must be enough for a fit: four meshes, three gaps.

    Raises
    ------
    InputError
        If the text has another form, or the levels break a rule.
    """
    ends = [end.strip() for end in text.split(":")] if isinstance(text, str) else []
    if len(ends) != 2 or not all(e.isascii() and e.isdigit() and len(e) < 6 for e in ends):
        raise InputError(
            f"`levels` must be a:b, powers of two of the cells an axis; got {shortened(text)}"
        )
    a, b = int(ends[0]), int(ends[1])
    if not 1 <= min(a, b) <= max(a, b) <= MAX_LEVEL:
        raise InputError(f"`levels` a:b must lie between 1 and {MAX_LEVEL}; got {a}:{b}")
    if b < a + (3 if fit else 0):
        rule = "increase by at least 3 for a fit" if fit else "not decrease"
        raise InputError(f"`levels` must {rule}; got {a}:{b}")
    return a, b


@dataclass(frozen=True)
class Mesh:
    """`n` cells an axis on the periodic unit box in `dim` dimensions.

    Parameters
    ----------
    dim : int
        1, 2 or 3.
    n : int
        Cells along each axis, at least 2.
    """

    dim: int
    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", check_dim(self.dim))
        object.__setattr__(self, "n", check_whole("n", self.n, 2))

    @property
    def h(self) -> float:
        """Mesh size, in units of the box."""
        return 1.0 / self.n

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a field on the mesh: ``(n,) * dim``."""
        return (self.n,) * self.dim

    @property
    def size(self) -> int:
        """Number of cells, ``n**dim``."""
        return self.n**self.dim

    def points(self, grid: str) -> tuple[np.ndarray, ...]:
        """Coordinates along each axis, broadcastable to `shape`, in units of the box.

        Parameters
        ----------
        grid : {"cell", "vertex"}
            Cell centres (i + 1/2)h or vertices ih.

        Raises
        ------
        InputError
            If there is no such grid.
        """
        if grid not in OFFSETS:
            raise unknown_name("grid", grid, OFFSETS)
        x = (np.arange(self.n) + OFFSETS[grid]) * self.h
        return tuple(_along(x, axis, self.dim) for axis in range(self.dim))


@dataclass(frozen=True)
class MeshHierarchy:
    """Meshes that halve: level 0 is the coarsest, the last the finest.

    Parameters
    ----------
    dim : int
        1, 2 or 3.
    sizes : tuple of int
        Cells an axis, coarse to fine; each is twice the one before.

    Examples
    --------
    >>> MeshHierarchy.powers_of_two(2, 5, 8).sizes
    (32, 64, 128, 256)
    """

    dim: int
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", check_dim(self.dim))
        if len(self.sizes) < 2:
            raise InputError(f"`levels` must hold at least 2 meshes; got {self.sizes}")
        object.__setattr__(self, "sizes", tuple(check_whole("n", n, 2) for n in self.sizes))
        for coarse, fine in zip(self.sizes, self.sizes[1:], strict=False):
            if fine != 2 * coarse:
                raise InputError(
                    f"`levels` must double from one mesh to the next; got {coarse} then {fine}"
                )

    @classmethod
    def powers_of_two(cls, dim: int, first: int, last: int) -> MeshHierarchy:
        """Levels n = 2**first … 2**last."""
        first, last = (check_whole("levels", end, 1, MAX_LEVEL) for end in (first, last))
        if last <= first:
            raise InputError(f"`levels` must increase; got {first}:{last}")
        return cls(dim, tuple(2**e for e in range(first, last + 1)))

    @property
    def meshes(self) -> tuple[Mesh, ...]:
        """The meshes, coarse to fine."""
        return tuple(Mesh(self.dim, n) for n in self.sizes)

    @property
    def finest(self) -> Mesh:
        """The mesh of the last level."""
        return Mesh(self.dim, self.sizes[-1])

    @property
    def h(self) -> np.ndarray:
        """Mesh sizes, coarse to fine, shape ``(levels,)``, in units of the box."""
        return 1.0 / np.asarray(self.sizes, dtype=float)

    def __len__(self) -> int:
        """Return the number of levels."""
        return len(self.sizes)


def _along(values: np.ndarray, axis: int, dim: int) -> np.ndarray:
    return values.reshape(tuple(-1 if a == axis else 1 for a in range(dim)))


@dataclass(frozen=True)
class FourierGrid:
    """The modes of a mesh in the layout of a real FFT, cropped at will.

    Frequencies are k = 2πj / length. All axes but the last hold j in FFT order (0, 1, …, −1); the
    last holds j ≥ 0 only, and `weights` counts the conjugate half.

    Parameters
    ----------
    mesh : Mesh
        The mesh.
    cutoff : int or None
        Keep max|j| ≤ cutoff; None, or a cutoff of n/2 or more, keeps every mode.
    length : float
        Side of the periodic box: 1, or 2 for a doubled (extended) domain.
    """

    mesh: Mesh
    cutoff: int | None = None
    length: float = 1.0

    @property
    def cropped(self) -> bool:
        """Whether modes are left out."""
        return self.cutoff is not None and self.cutoff < (self.mesh.n + 1) // 2

    @property
    def h(self) -> float:
        """Mesh size of the grid, ``length / n``."""
        return self.length / self.mesh.n

    @cached_property
    def modes(self) -> tuple[np.ndarray, ...]:
        """Integer j along each axis, shapes ``(modes on the axis,)``."""
        n = self.mesh.n
        full = np.fft.fftfreq(n, 1.0 / n).round().astype(int)
        half = np.arange(n // 2 + 1)
        if self.cutoff is not None and self.cropped:
            full = full[np.abs(full) <= self.cutoff]
            half = half[half <= self.cutoff]
        return (full,) * (self.mesh.dim - 1) + (half,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of modes along each axis."""
        return tuple(len(j) for j in self.modes)

    @property
    def frequencies(self) -> tuple[np.ndarray, ...]:
        """k = 2πj/length along each axis, shapes ``(modes on the axis,)``."""
        return tuple(2.0 * np.pi / self.length * j for j in self.modes)

    @property
    def weights(self) -> np.ndarray:
        """How many modes each entry of the last axis stands for: 1 or 2."""
        j = self.modes[-1]
        return np.where((j == 0) | (2 * j == self.mesh.n), 1.0, 2.0)

    def nyquist(self, axis: int) -> int | None:
        """Index of the mode |j| = n/2 along `axis`, or None."""
        where = np.flatnonzero(2 * np.abs(self.modes[axis]) == self.mesh.n)
        return int(where[0]) if len(where) else None

    def crop(self, spectrum: Array, backend: Backend = NUMPY) -> Array:
        """Restrict a full real-FFT array, shape ``(..., *full)``, to the modes kept."""
        if not self.cropped:
            return spectrum
        m = int(self.cutoff or 0)
        spectrum = spectrum[..., : m + 1]
        for axis in range(-self.mesh.dim, -1):
            rest = (slice(None),) * (-axis - 1)
            parts = [spectrum[(..., slice(0, m + 1), *rest)]]
            if m:
                parts.append(spectrum[(..., slice(self.mesh.n - m, None), *rest)])
            spectrum = backend.concatenate(parts, axis)
        return spectrum

    def evaluate(self, function: Callable[..., Array], convert: Any = None) -> Array:
        """Evaluate a symbol on the grid, as a real operator on the mesh must be.

        At j_a = −n/2 a mesh cannot tell ±n/2 apart, so that a complex symbol is no real operator
        there: the value is the mean of those at ±n/2, over every axis at once.

        Parameters
        ----------
        function : callable
            Takes `dim` arrays k_a that broadcast against each other; returns ``(..., *shape)``.
        convert : callable, optional
            Applied to each k_a first (e.g. to make torch tensors).

        Returns
        -------
        array
            Shape ``(..., *shape)``.
        """
        dim = self.mesh.dim
        convert = convert or (lambda k: k)
        ks = [_along(k, a, dim) for a, k in enumerate(self.frequencies)]
        values = function(*(convert(k) for k in ks))
        ends = {a: i for a in range(dim) if (i := self.nyquist(a)) is not None}
        if not ends:
            return values
        values = values.clone() if hasattr(values, "clone") else np.array(values)
        for count in range(1, len(ends) + 1):
            for axes in combinations(ends, count):
                values[self._plane(axes, ends)] = self._mean_over_signs(
                    function, convert, ks, axes, ends
                )
        return values

    def _plane(self, axes: Sequence[int], ends: dict[int, int]) -> tuple[Any, ...]:
        dim = self.mesh.dim
        cut = [slice(ends[a], ends[a] + 1) if a in axes else slice(None) for a in range(dim)]
        return (..., *cut)

    def _mean_over_signs(
        self,
        function: Callable[..., Array],
        convert: Callable[[np.ndarray], Array],
        ks: list[np.ndarray],
        axes: Sequence[int],
        ends: dict[int, int],
    ) -> Array:
        total: Any = 0.0
        for signs in product((1.0, -1.0), repeat=len(axes)):
            flipped = list(ks)
            for axis, sign in zip(axes, signs, strict=True):
                plane = np.take(ks[axis], [ends[axis]], axis=axis)
                flipped[axis] = sign * np.abs(plane)
            total = total + function(*(convert(k) for k in flipped))
        return total / 2.0 ** len(axes)
