"""What a mesh-free convolution computes on one mesh: its modes and its transforms.

A wall is an extension: the field goes on periodically, evenly, or as zero, in a box that may be
longer than the domain. Analysis and synthesis are matrices, one an axis, so that the extension,
the crop back to the domain and a restriction after the convolution are all folded into them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from gradconv.backend import NUMPY
from gradconv.errors import InputError
from gradconv.nn.engine.band import Band
from gradconv.nn.paddings import WALLS
from gradconv.restriction import RESTRICTIONS

_WIDEST = 32.0  # sides of the domain that a zero extension may have
_EXTENSION_STEP = 16  # zero extensions grow by n/16, so that few matrices are ever made


@dataclass(frozen=True, eq=False)
class AxisPlan:
    """One axis: frequencies k_j = 2πj/length, j = 0 … J, and the transforms from and to them.

    Parameters
    ----------
    n, out : int
        Points of the input, and of the output (fewer under a stride).
    length : float
        Period of the extended axis, in units of the domain.
    forward : ndarray, shape ``(2, n, J + 1)``
        Cosine and sine parts: X_j = Σ_t x_t (forward[0, t, j] − i forward[1, t, j]).
    inverse : ndarray, shape ``(2, out, J + 1)``
        e^{ik_jt} at the output points is inverse[0, t, j] + i inverse[1, t, j].
    weights : ndarray, shape ``(J + 1,)``
        1, or 1/2 for the mode |j| = n/2, which stands for both of its signs.
    folded : bool
        Whether both are the plain discrete Fourier transform on an even n, whose symmetries
        t → t + n/2 and t → n − t can be used.
    """

    n: int
    out: int
    length: float
    forward: np.ndarray
    inverse: np.ndarray
    weights: np.ndarray
    folded: bool

    @property
    def highest(self) -> int:
        """J, the highest mode."""
        return len(self.weights) - 1

    @cached_property
    def frequencies(self) -> np.ndarray:
        """k_j, shape ``(J + 1,)``."""
        return 2.0 * np.pi / self.length * np.arange(self.highest + 1)


@dataclass(frozen=True, eq=False)
class Plan:
    """The modes of a convolution on one mesh.

    All axes but the last have rows j = −J … J, the last holds 0 … J. On each row the modes
    0 … reach − 1 of the last axis are kept.

    Parameters
    ----------
    axes : tuple of AxisPlan
        The axes.
    reach : ndarray of int, shape ``(2J_1 + 1, …)``
        Modes kept on each row; shape ``()`` in one dimension.
    """

    axes: tuple[AxisPlan, ...]
    reach: np.ndarray

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Points of the output along each axis."""
        return tuple(a.out for a in self.axes)

    @cached_property
    def rows(self) -> tuple[np.ndarray, ...]:
        """Signed j of the rows of each leading axis."""
        return tuple(np.arange(-a.highest, a.highest + 1) for a in self.axes[:-1])

    @cached_property
    def kept(self) -> tuple[np.ndarray, ...]:
        """Signed mode numbers of the modes kept, an array ``(modes,)`` for each axis."""
        inside = np.arange(self.axes[-1].highest + 1) < self.reach[..., None]
        places = np.nonzero(inside)
        signed = [row[p] for row, p in zip(self.rows, places[:-1], strict=True)]
        return (*signed, places[-1])

    @property
    def modes(self) -> int:
        """How many modes are kept; conjugates are not counted."""
        return int(self.reach.sum())

    @cached_property
    def mean(self) -> int | None:
        """Place of the mode k = 0, if it is a constant at the output points."""
        if any(np.abs(a.inverse[0, :, 0] - 1.0).max() > 1e-14 for a in self.axes):
            return None
        return int(np.flatnonzero(np.all(np.stack(self.kept) == 0, axis=0))[0])

    @cached_property
    def frequencies(self) -> np.ndarray:
        """k of the modes kept, shape ``(dim, modes)``."""
        steps = [2.0 * np.pi / a.length for a in self.axes]
        return np.stack([s * j for s, j in zip(steps, self.kept, strict=True)])

    @cached_property
    def weights(self) -> np.ndarray:
        """How many modes each stands for (2 with a conjugate), Nyquist halves, ``(modes,)``."""
        return self.weights_at(*self.kept)

    def weights_at(self, *modes: np.ndarray) -> np.ndarray:
        """The same of modes by their signed numbers along each axis; 0 beyond the highest."""
        total = np.where(modes[-1] == 0, 1.0, 2.0)
        for axis, j in zip(self.axes, modes, strict=True):
            total = total * np.append(axis.weights, 0.0)[np.minimum(np.abs(j), axis.highest + 1)]
        return total


def make_plan(
    shape: tuple[int, ...],
    extent: tuple[float, ...],
    padding: str,
    stride: tuple[int, ...],
    restriction: str,
    band: Band,
) -> Plan:
    """Choose the modes of a band on a mesh.

    Parameters
    ----------
    shape : tuple of int
        Points along each axis.
    extent : tuple of float
        Sides of the domain.
    padding : {"periodic", "reflect", "zero"}
        How the field goes on outside the domain.
    stride : tuple of int
        Factor of the restriction after the convolution, an axis.
    restriction : str
        Its name in `gradconv.restriction.RESTRICTIONS`.
    band : Band
        The frequencies that matter.
    """
    cells = [
        extended(n, padding, band.radius / side) for n, side in zip(shape, extent, strict=True)
    ]
    lengths = [side * c / n for n, side, c in zip(shape, extent, cells, strict=True)]
    band = band.widened(tuple(2.0 * np.pi / length for length in lengths))
    axes = []
    for a, (n, side) in enumerate(zip(shape, extent, strict=True)):
        highest = min(cells[a] // 2, int(band.reach(a) * lengths[a] / (2.0 * np.pi)))
        axes.append(_axis(n, cells[a], side, padding, stride[a], restriction, highest))
    reach = _reach(tuple(axes), band)
    return _plan(tuple(axes), reach.shape, reach.tobytes())


@lru_cache(maxsize=16)
def _plan(axes: tuple[AxisPlan, ...], shape: tuple[int, ...], reach: bytes) -> Plan:
    """One plan for all calls with the same modes: what is derived from it is made once."""
    return Plan(axes, np.frombuffer(reach, dtype=np.int64).reshape(shape))


def extended(n: int, padding: str, radius: float) -> int:
    """Cells of the extended axis; `radius` is that of the kernels, in sides of the domain."""
    if padding == "periodic":
        return n
    if padding == "reflect":
        return 2 * n
    if radius > _WIDEST:
        raise InputError(
            f"`drift` and `diffusion` must keep kernels within {_WIDEST:g} sides of the domain "
            f"where walls are zero; got kernels that reach {radius:.3g}"
        )
    step = max(1, n // _EXTENSION_STEP)
    margin = step * int(np.ceil(n * radius / step))
    return n + max(1, margin)


def _reach(axes: tuple[AxisPlan, ...], band: Band) -> np.ndarray:
    """Modes of the last axis inside the band on each row of the others."""
    rows = [2.0 * np.pi / a.length * np.arange(-a.highest, a.highest + 1) for a in axes[:-1]]
    grids = list(np.meshgrid(*rows, indexing="ij"))
    last = axes[-1]
    ends = band.last_axis(grids) * last.length / (2.0 * np.pi)
    reach = np.floor(np.nan_to_num(ends, nan=-1.0)).astype(np.int64) + 1
    return np.clip(reach, 0, last.highest + 1)


@lru_cache(maxsize=128)
def _axis(
    n: int, cells: int, side: float, padding: str, stride: int, restriction: str, highest: int
) -> AxisPlan:
    j = np.arange(highest + 1)
    # Even extension is about the faces of the domain, so that its points are cell centres.
    t = np.arange(n) + (0.5 if padding == "reflect" else 0.0)
    # Reduced before the cosine, so that the phase is exact on long axes.
    phase = 2.0 * np.pi / cells * np.mod(np.outer(t, j), cells)
    waves = np.stack([np.cos(phase), np.sin(phase)])
    forward = waves / cells
    if padding == "reflect":
        forward = np.stack([2.0 * forward[0], np.zeros_like(forward[1])])
    weights = np.where(2 * j == cells, 0.5, 1.0)
    inverse = waves
    if stride > 1:
        restrict = restriction_matrix(n, stride, restriction, padding)
        inverse = restrict @ waves
    folded = padding == "periodic" and stride == 1 and n % 2 == 0
    for array in (forward, inverse, weights):
        array.setflags(write=False)
    return AxisPlan(n, inverse.shape[1], side * cells / n, forward, inverse, weights, folded)


@lru_cache(maxsize=64)
def restriction_matrix(n: int, factor: int, restriction: str, padding: str) -> np.ndarray:
    """Matrix of a restriction along one axis, shape ``(n/factor, n)``.

    Raises
    ------
    InputError
        If the factor does not divide the mesh.
    """
    if n % factor:
        raise InputError(
            f"`stride` must divide the mesh; got {factor} on {n} points "
            "(a restriction halves cells: pad, crop or choose the mesh so that it divides)"
        )
    rule = RESTRICTIONS.parse(restriction)
    rule.check_boundary(WALLS[padding])
    rows: Callable[..., np.ndarray] = rule.restrict_axis
    return np.ascontiguousarray(rows(np.eye(n), -1, factor, WALLS[padding], NUMPY).T)
