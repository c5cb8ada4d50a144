"""The band of frequencies against sums over a fine grid of them."""

import numpy as np
import pytest

from gradconv.nn.engine.band import _corner, choose_band
from gradconv.nn.engine.plan import make_plan


def kernels(dim, columns, spread, seed):
    """Thirty kernels whose widths and anisotropies differ by up to `spread`."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(30, dim, dim)))[0]
    eigenvalues = 1e-3 * spread ** random.uniform(0.0, 1.0, (30, dim))
    a = np.einsum("pij,pj,pkj->pik", axes, eigenvalues, axes)
    coefficients = random.normal(size=(30, columns)) * 10.0 ** random.uniform(-2, 0, (30, 1))
    return coefficients, a, random.normal(size=(30, dim))


def left_out(coefficients, a, metric, points):
    """Share of Σ|k|^2p |PE|² that is outside the ellipse, p = 0, 1, 2, as a relative error."""
    dim = a.shape[1]
    lowest = np.linalg.eigvalsh(a).min()
    line = np.linspace(-1.0, 1.0, points) * np.sqrt(18.0 / lowest)
    k = np.stack([g.ravel() for g in np.meshgrid(*[line] * dim, indexing="ij")], axis=1)
    pairs = [(i, j) for i in range(dim) for j in range(i, dim)]
    monomials = [np.ones(len(k)), *(1j * k.T), *(-k[:, i] * k[:, j] for i, j in pairs)]
    outside = np.einsum("ka,ab,kb->k", k, metric, k) > 1.0
    square = (k**2).sum(axis=1)
    energy = np.zeros(len(k))
    for c, matrix in zip(coefficients, a, strict=True):
        prefactor = sum(v * m for v, m in zip(c, monomials, strict=False))
        energy += np.abs(prefactor) ** 2 * np.exp(-2.0 * np.einsum("ka,ab,kb->k", k, matrix, k))
    weighed = [energy * square**p for p in range(3)]
    return np.sqrt([w[outside].sum() / w.sum() for w in weighed])


CASES = [
    (dim, degree, spread, tolerance)
    for dim in (1, 2, 3)
    for degree in (0, 1, 2)
    for spread in (2.0, 30.0)
    for tolerance in (1e-2, 1e-4)
    if dim < 3 or (degree < 2 and spread < 3.0)
]


@pytest.mark.parametrize(("dim", "degree", "spread", "tolerance"), CASES)
def test_what_is_left_out_is_within_the_tolerance(dim, degree, spread, tolerance):
    columns = [1, 1 + dim, 1 + dim + dim * (dim + 1) // 2][degree]
    coefficients, a, drift = kernels(dim, columns, spread, seed=dim + 10 * degree)
    # Derivatives of the size of the amplitude at a frequency in the middle of the band.
    coefficients[:, 1 : 1 + dim] *= 0.03
    coefficients[:, 1 + dim :] *= 0.001
    triangle = a[:, *np.triu_indices(dim)]
    band = choose_band(coefficients, triangle, drift, tolerance)
    points = {1: 4001, 2: 301, 3: 61}[dim]
    errors = left_out(coefficients, a, band.metric, points)
    assert errors.max() <= tolerance
    # Not much wider than it has to be: an ellipse of two thirds is too small, and where kernels
    # are alike one of four fifths.
    smaller = 0.8 if spread < 3.0 else 2.0 / 3.0
    assert left_out(coefficients, a, band.metric / smaller**2, points).max() > tolerance


def test_kernels_of_all_shapes_make_one_band():
    # Alike in all but direction: nothing is lost by counting them together.
    angles = np.linspace(0.0, np.pi, 16, endpoint=False)
    turn = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    a = 1e-3 * np.eye(2) + 4e-3 * turn[:, :, None] * turn[:, None, :]
    one = np.ones((16, 1))
    band = choose_band(one, a[:, *np.triu_indices(2)], np.zeros((16, 2)), 1e-3)
    np.testing.assert_allclose(band.metric, np.eye(2) * band.metric[0, 0], atol=1e-12)
    errors = left_out(one, a, band.metric, 401)
    assert 0.3e-3 < errors.max() <= 1e-3


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_mesh_inside_the_least_band_saves_the_search_and_keeps_the_same_modes(dim):
    """Given the mesh's highest frequencies, the modes are those of the full search."""
    generator = np.random.default_rng(dim)
    saved = searched = 0
    for trial in range(60):
        width = 10.0 ** generator.uniform(-3, -0.5)
        root = width * generator.normal(size=(12, dim, dim))
        a = root @ root.transpose(0, 2, 1) + 0.05 * width**2 * np.eye(dim)
        quadratic = a[:, *np.triu_indices(dim)]
        coefficients = generator.normal(size=(12, 1 + dim))
        drift = width * generator.normal(size=(12, dim))
        n = 2 ** int(generator.integers(1, 6))
        highest = (np.pi * n,) * dim
        full = choose_band(coefficients, quadratic, drift, 1e-4)
        quick = choose_band(coefficients, quadratic, drift, 1e-4, highest)
        plans = [
            make_plan((n,) * dim, (1.0,) * dim, "periodic", (1,) * dim, "average", band)
            for band in (full, quick)
        ]
        assert np.array_equal(plans[0].reach, plans[1].reach), trial
        assert quick.radius == full.radius
        if np.array_equal(quick.metric, full.metric):
            searched += 1
        else:
            saved += 1
            assert plans[0].modes == make_modes(n, dim)
    assert saved > 5
    assert searched > 5


def make_modes(n: int, dim: int) -> int:
    """All modes of a mesh of even size, as plans count them: rows −n/2 … n/2."""
    return (n + 1) ** (dim - 1) * (n // 2 + 1)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_corner_of_a_mesh_is_its_farthest_frequency(dim: int) -> None:
    generator = np.random.default_rng(dim)
    for _ in range(20):
        root = generator.normal(size=(dim, dim))
        metric, highest = root @ root.T, tuple(generator.uniform(1.0, 50.0, dim))
        lines = [np.linspace(-end, end, 21) for end in highest]
        points = np.stack(np.meshgrid(*lines, indexing="ij")).reshape(dim, -1)
        farthest = np.einsum("an,ab,bn->n", points, metric, points).max()
        assert _corner(metric, highest) == pytest.approx(farthest, rel=1e-12)
