"""Meshes, hierarchies and the Fourier grid."""

from __future__ import annotations

import numpy as np
import pytest

from gradconv.errors import InputError
from gradconv.mesh import FourierGrid, Mesh, MeshHierarchy


@pytest.mark.parametrize("dim", [0, 4, 2.0, True, "2", None])
def test_dimension_is_checked(dim: object) -> None:
    with pytest.raises(InputError, match="`dim` must be 1, 2 or 3; got"):
        Mesh(dim, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 0, -3, 2.5, True])
def test_cells_are_checked(n: object) -> None:
    with pytest.raises(InputError, match="`n` must be a whole number from 2"):
        Mesh(1, n)  # type: ignore[arg-type]


def test_hierarchy_runs_from_coarse_to_fine() -> None:
    hierarchy = MeshHierarchy.powers_of_two(2, 3, 6)
    assert hierarchy.sizes == (8, 16, 32, 64)
    assert np.all(np.diff(hierarchy.h) < 0)
    assert hierarchy.finest == Mesh(2, 64)
    assert MeshHierarchy(1, (12, 24)).sizes == (12, 24)


@pytest.mark.parametrize("sizes", [(8,), (8, 24), (16, 8), ()])
def test_hierarchy_must_double(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="`levels`"):
        MeshHierarchy(1, sizes)


@pytest.mark.parametrize(("first", "last"), [(5, 5), (6, 5), (0, 4), (5, 60)])
def test_powers_of_two_are_checked(first: int, last: int) -> None:
    with pytest.raises(InputError, match="`levels`"):
        MeshHierarchy.powers_of_two(1, first, last)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [6, 7])
def test_weights_count_every_mode_once(dim: int, n: int) -> None:
    grid = FourierGrid(Mesh(dim, n))
    assert np.broadcast_to(grid.weights, grid.shape).sum() == n**dim
    x = np.random.default_rng(0).standard_normal((n,) * dim)
    power = np.abs(np.fft.rfftn(x) / n**dim) ** 2
    assert np.sum(power * grid.weights) == pytest.approx(np.mean(x**2), rel=1e-13)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("cutoff", [0, 1, 3, 4, 9, None])
def test_crop_keeps_the_low_modes(dim: int, cutoff: int | None) -> None:
    n = 8
    grid = FourierGrid(Mesh(dim, n), cutoff)
    full = FourierGrid(Mesh(dim, n))
    labels = np.zeros((*full.shape, dim))
    for a, j in enumerate(np.meshgrid(*full.modes, indexing="ij")):
        labels[..., a] = j
    kept = grid.crop(np.moveaxis(labels, -1, 0))
    expected = np.stack(np.meshgrid(*grid.modes, indexing="ij"))
    assert np.array_equal(kept, expected)
    if cutoff is not None and cutoff < n // 2:
        assert np.abs(kept).max() == cutoff


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_symbol_at_nyquist_is_the_mean_of_both_ends(dim: int) -> None:
    """A shift by half a cell: the only real operator has symbol cos(π/2) = 0 at |j| = n/2."""
    n = 6
    grid = FourierGrid(Mesh(dim, n))
    shift = 0.5 / n
    values = grid.evaluate(lambda *k: np.exp(1j * shift * sum(k)))
    raw = np.exp(1j * shift * sum(np.meshgrid(*grid.frequencies, indexing="ij")))
    at_end = np.zeros(grid.shape, dtype=bool)
    for axis in range(dim):
        index = grid.nyquist(axis)
        assert index is not None
        at_end[(slice(None),) * axis + (index,)] = True
    assert np.abs(values[at_end]).max() < 1e-15
    assert np.array_equal(values[~at_end], raw[~at_end])
    assert np.abs(raw[at_end]).min() > 0.9  # negative control: without the mean it is not zero


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_real_operator_commutes_with_the_real_transform(dim: int) -> None:
    """Applying a complex symbol in real-FFT layout equals the real part of the full transform."""
    n = 6
    mesh = Mesh(dim, n)
    x = np.random.default_rng(1).standard_normal(mesh.shape)
    slopes = np.linspace(0.7, 1.3, dim) / n

    def symbol(*k: np.ndarray) -> np.ndarray:
        return np.exp(1j * sum(s * a for s, a in zip(slopes, k, strict=True)))

    grid = FourierGrid(mesh)
    fast = np.fft.irfftn(np.fft.rfftn(x) * grid.evaluate(symbol), s=mesh.shape, axes=range(dim))
    j = np.fft.fftfreq(n, 1 / n)
    slow = np.zeros(mesh.shape, dtype=complex)
    for signs in np.ndindex(*(2,) * dim):  # both ends of every axis, averaged
        ends = [np.where(j == -n / 2, (-1) ** s * n / 2, j) for s in signs]
        k = np.meshgrid(*[2 * np.pi * e for e in ends], indexing="ij")
        slow += np.fft.ifftn(np.fft.fftn(x) * symbol(*k)) / 2**dim
    assert np.abs(slow.imag).max() < 1e-14
    assert np.abs(fast - slow.real).max() < 1e-14


def test_points_of_an_unknown_grid_are_refused() -> None:
    with pytest.raises(InputError, match="`grid` must be one of cell, vertex; got 'face'"):
        Mesh(1, 4).points("face")
