"""What every restriction (fine → coarse map) states and can do.

A restriction by a factor f acts axis by axis. A *local* one is a few taps: the coarse value I is
Σ_t w_t x[fI + o_t]. From the taps follow its symbol, its action on arrays, and what it makes of
noise. The steps from level to level are by 2; a route ("chain" or "direct") says whether a level
far below the finest is reached by such steps or by one direct step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from gradconv.backend import NUMPY, Array, Backend
from gradconv.errors import InputError
from gradconv.registry import Choice, Registry

RESTRICTIONS: Registry[Restriction] = Registry("restriction")
ROUTES = ("chain", "direct")
BOUNDARIES = ("periodic", "zero", "reflecting")


class Restriction(Choice):
    """A separable linear map from a mesh to one `factor` times coarser.

    Attributes
    ----------
    grid : {"cell", "vertex"}
        Where the values live for the map to keep the grid in place.
    nested : bool
        Whether s chained steps by 2 equal the direct step by 2**s.
    boundaries : tuple of str
        The boundaries it can be used with.
    shift_invariant : bool
        Whether it acts alike at every position of the coarse mesh.
    band_limiting : bool
        Whether it keeps the modes of the coarse mesh and lets none alias.
    """

    grid: ClassVar[str]
    nested: ClassVar[bool]
    boundaries: ClassVar[tuple[str, ...]] = BOUNDARIES
    shift_invariant: ClassVar[bool] = True
    band_limiting: ClassVar[bool] = False

    @abstractmethod
    def restrict_axis(
        self, x: Array, axis: int, factor: int, boundary: str, backend: Backend
    ) -> Array:
        """Restrict along one (negative) axis."""

    @abstractmethod
    def white_noise_variance(self, n: int, factor: int = 2) -> float:
        """Variance left, an axis, of unit white noise on n cells (periodic).

        Parameters
        ----------
        n : int
            Cells of the fine mesh.
        factor : int
            Coarsening factor.
        """

    @abstractmethod
    def power_transfer(
        self, spectrum: np.ndarray, axis: int, n: int, factor: int = 2
    ) -> np.ndarray:
        """Push a power (or cross-) spectrum of uncorrelated modes down one axis.

        Parameters
        ----------
        spectrum : ndarray
            In full FFT order along `axis` with n entries.
        axis : int
            Axis of `spectrum`.
        n : int
            Cells of the fine mesh.
        factor : int
            Coarsening factor.

        Returns
        -------
        ndarray
            n/factor entries along `axis`: entry j is Σ_k |T(j, k)|² spectrum(k).
        """

    def spectra(
        self, spectrum: np.ndarray, dim: int, sizes: Sequence[int], route: str = "chain"
    ) -> list[np.ndarray]:
        """Mean power of each level's modes when the finest holds uncorrelated modes.

        Parameters
        ----------
        spectrum : ndarray
            Power (or cross-) spectrum on the finest mesh, full FFT order over the last `dim` axes.
        dim : int
            Dimension.
        sizes : sequence of int
            Cells an axis of the levels, coarse to fine.
        route : {"chain", "direct"}
            Chained steps by 2, or one step from the finest mesh to each level.

        Returns
        -------
        list of ndarray
            One spectrum a level, coarse to fine.
        """
        levels = [spectrum]
        for coarse in reversed(sizes[:-1]):
            source = levels[-1] if route == "chain" else spectrum
            n = source.shape[-1]
            for axis in range(-dim, 0):
                source = self.power_transfer(source, axis, n, n // coarse)
            levels.append(source)
        return levels[::-1]

    @abstractmethod
    def pixel_power(self, variance: np.ndarray, dim: int, factor: int, route: str) -> np.ndarray:
        """Mean power of the modes of a level below a mesh with independent pixels.

        Unlike stationary noise, pixels of unequal variance have correlated modes: the aliases do
        not add up, and which pixels a restriction reads matters.

        Parameters
        ----------
        variance : ndarray
            Variance of each pixel of the finest mesh, shape ``(n,)*dim``.
        dim : int
            Dimension.
        factor : int
            Coarsening factor from the finest mesh, a power of two.
        route : {"chain", "direct"}
            How the level is reached.

        Returns
        -------
        ndarray
            Full FFT order, shape ``(n/factor,)*dim``.
        """

    def restrict(
        self,
        x: Array,
        dim: int,
        factor: int = 2,
        boundary: str = "periodic",
        backend: Backend = NUMPY,
    ) -> Array:
        """Restrict the last `dim` axes of `x` by `factor`.

        Parameters
        ----------
        x : array
            Shape ``(..., n, …, n)``.
        dim : int
            How many trailing axes are space.
        factor : int
            Coarsening factor; a direct step by 4 is another map than two by 2 unless `nested`.
        boundary : {"periodic", "zero", "reflecting"}
            What lies outside the box.
        backend : Backend
            Library of `x`.

        Returns
        -------
        array
            Shape ``(..., n/factor, …, n/factor)``.

        Raises
        ------
        InputError
            If the factor does not divide n, or the boundary is none of the restriction's.
        """
        self.check_boundary(boundary)
        n = x.shape[-1]
        if n % factor:
            raise InputError(f"`factor` must divide the cells an axis, {n}; got {factor}")
        # the last axis last: its strided sums are slow, and then the field is small
        for axis in range(-dim, 0):
            x = self.restrict_axis(x, axis, factor, boundary, backend)
        return x

    def check_size(self, n: int) -> None:
        """Raise an `InputError` if the restriction cannot work on n cells an axis."""

    def check_boundary(self, boundary: str) -> None:
        """Raise an `InputError` if the restriction cannot be used with `boundary`."""
        if boundary not in self.boundaries:
            raise InputError(
                f"`restriction` {self.name} needs boundary {' or '.join(self.boundaries)}; "
                f"got {boundary}"
            )


class LocalRestriction(Restriction):
    """A restriction given by its taps."""

    @abstractmethod
    def taps(self, factor: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Offsets o_t and weights w_t of the direct step by `factor`."""

    def pixel_power(self, variance: np.ndarray, dim: int, factor: int, route: str) -> np.ndarray:
        """Sum v(x) over the pixels that coarse points at each lag share, then over the lags."""
        n = variance.shape[-1]
        coarse = n // factor
        shared = _shared_pixels(self.route_taps(factor, route), factor)
        folded = variance.reshape((coarse, factor) * dim).sum(axis=tuple(range(0, 2 * dim, 2)))
        theta = 2.0 * np.pi * np.fft.fftfreq(coarse)
        # one axis after the other: remainders of the position become modes
        table = np.sum(
            [np.multiply.outer(np.exp(1j * theta * lag), w) for lag, w in shared.items()], axis=0
        )
        power = folded.astype(complex)
        for axis in range(dim):
            power = np.moveaxis(np.tensordot(table, power, axes=(1, axis)), 0, axis)
        return np.asarray(power.real / float(coarse) ** (2 * dim))

    def route_taps(self, factor: int, route: str) -> dict[int, float]:
        """Weights by offset of the way down by `factor`, a power of two, along a route."""
        if factor > 1 and (route == "direct" or self.nested):
            return dict(zip(*self.taps(factor), strict=True))
        chain = {0: 1.0}
        for _ in range(factor.bit_length() - 1):
            longer: dict[int, float] = {}
            for a, weight in chain.items():
                for b, inner in zip(*self.taps(2), strict=True):
                    longer[2 * a + b] = longer.get(2 * a + b, 0.0) + weight * inner
            chain = longer
        return chain

    def symbol(self, theta: np.ndarray, factor: int = 2) -> np.ndarray:
        """Transfer function Σ_t w_t exp(iθ o_t) at θ = k h_fine, before aliasing."""
        offsets, weights = self.taps(factor)
        theta = np.asarray(theta)
        return np.sum(
            [w * np.exp(1j * theta * o) for o, w in zip(offsets, weights, strict=True)], axis=0
        )

    def restrict_axis(
        self, x: Array, axis: int, factor: int, boundary: str, backend: Backend
    ) -> Array:
        """Sum the taps, each a strided view of `x`."""
        offsets, weights = self.taps(factor)
        common = weights[0] if len(set(weights)) == 1 else 1.0
        total: Array = None
        for offset, weight in zip(offsets, weights, strict=True):
            blocks, remainder = divmod(offset, factor)
            term = _stride(x, axis, remainder, factor)
            if blocks:
                term = _shift(
                    term,
                    _stride_edge(x, axis, blocks, factor, remainder, boundary),
                    axis,
                    blocks,
                    backend,
                )
            term = term if weight == common else weight * term
            total = term if total is None else total + term
        return total if common == 1.0 else common * total

    def white_noise_variance(self, n: int, factor: int = 2) -> float:
        """Σ w²."""
        return float(np.sum(np.square(self.taps(factor)[1])))

    def power_transfer(
        self, spectrum: np.ndarray, axis: int, n: int, factor: int = 2
    ) -> np.ndarray:
        """Weigh by |symbol|² and sum the `factor` aliases of each coarse mode."""
        theta = 2.0 * np.pi * np.fft.fftfreq(n)
        gain = np.abs(self.symbol(theta, factor)) ** 2
        shape = [1] * spectrum.ndim
        shape[axis] = n
        weighted = spectrum * gain.reshape(shape)
        folded = list(spectrum.shape)
        axis %= spectrum.ndim
        folded[axis : axis + 1] = [factor, n // factor]
        return weighted.reshape(folded).sum(axis=axis)


def _shared_pixels(taps: dict[int, float], factor: int) -> dict[int, np.ndarray]:
    """For each lag of coarse points, the products of their weights by position modulo `factor`."""
    shared: dict[int, np.ndarray] = {}
    for a, weight in taps.items():
        for b, other in taps.items():
            lag, apart = divmod(a - b, factor)
            if apart == 0:
                weights = shared.setdefault(lag, np.zeros(factor))
                weights[a % factor] += weight * other
    return shared


def _cut(axis: int, piece: slice) -> tuple[object, ...]:
    return (..., piece, *(slice(None),) * (-axis - 1))


def _stride(x: Array, axis: int, start: int, factor: int) -> Array:
    return x[_cut(axis, slice(start, None, factor))]


def _stride_edge(
    x: Array, axis: int, blocks: int, factor: int, remainder: int, boundary: str
) -> Array:
    """Values that a tap reaches outside the box, in coarse order (one block each)."""
    n = x.shape[axis]
    outside = [
        (i if blocks < 0 else n // factor + i) * factor + remainder
        for i in (range(blocks, 0) if blocks < 0 else range(blocks))
    ]
    if boundary == "reflecting":  # even about the box's faces: x[-1] = x[0]
        inside = [(-1 - i) if i < 0 else (2 * n - 1 - i) for i in outside]
    else:
        inside = [i % n for i in outside]
    edge = x[(..., inside, *(slice(None),) * (-axis - 1))]
    return 0.0 * edge if boundary == "zero" else edge


def _shift(term: Array, edge: Array, axis: int, blocks: int, backend: Backend) -> Array:
    if blocks < 0:
        parts = [edge, term[_cut(axis, slice(None, blocks))]]
    else:
        parts = [term[_cut(axis, slice(blocks, None))], edge]
    return backend.concatenate(parts, axis)
