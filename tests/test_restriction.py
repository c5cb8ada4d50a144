"""Every restriction against a dense matrix, torch, and what it states of itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from gradconv.backend import Backend
from gradconv.errors import InputError
from gradconv.restriction import RESTRICTIONS, LocalRestriction

NAMES = RESTRICTIONS.names
TORCH = Backend(library="torch")


def dense(name: str, n: int, factor: int, boundary: str = "periodic") -> np.ndarray:
    """Matrix of one axis from the definition, by loops; shape ``(n/factor, n)``."""
    m = n // factor
    matrix = np.zeros((m, n))
    if name == "spectral":
        for j in range(-(m // 2), m // 2 + 1):
            weight = 0.5 if 2 * abs(j) == m else 1.0
            coarse = np.exp(2j * np.pi * j * np.arange(m) / m)
            fine = np.exp(-2j * np.pi * j * np.arange(n) / n) / n
            matrix += weight * np.outer(coarse, fine).real
        return matrix
    for i in range(m):
        if name == "injection":
            taps = {i * factor: 1.0}
        elif name == "average":
            taps = {i * factor + r: 1 / factor for r in range(factor)}
        elif name == "full_weighting":
            hat = range(1 - factor, factor)
            taps = {i * factor + r: (factor - abs(r)) / factor**2 for r in hat}
        elif name == "bilinear":
            centre = (i + 0.5) * factor - 0.5
            left = int(np.floor(centre))
            taps = {left: 1 - (centre - left), left + 1: centre - left}
        else:
            position = i * (n - 1) / (m - 1)
            left = min(int(position), n - 2)
            taps = {left: 1 - (position - left), left + 1: position - left}
        for column, weight in taps.items():
            if 0 <= column < n:
                matrix[i, column] += weight
            elif boundary == "periodic":
                matrix[i, column % n] += weight
            elif boundary == "reflecting":
                matrix[i, -1 - column if column < 0 else 2 * n - 1 - column] += weight
    return matrix


def apply_dense(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    for axis in range(x.ndim):
        x = np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)
    return x


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("factor", [2, 4])
def test_against_dense_matrix(name: str, dim: int, factor: int) -> None:
    restriction = RESTRICTIONS.parse(name)
    x = np.random.default_rng(0).standard_normal((8,) * dim)
    for boundary in restriction.boundaries:
        expected = apply_dense(dense(name, 8, factor, boundary), x)
        got = restriction.restrict(x[None], dim, factor, boundary)[0]
        assert np.abs(got - expected).max() < 1e-14, boundary
        other = restriction.restrict(torch.from_numpy(x)[None], dim, factor, boundary, TORCH)
        assert np.abs(other.numpy()[0] - expected).max() < 1e-14, boundary


def test_boundaries_differ_where_taps_leave_the_box() -> None:
    x = np.arange(1.0, 9.0)
    restriction = RESTRICTIONS.parse("full_weighting")
    results = {b: restriction.restrict(x, 1, 2, b)[0] for b in restriction.boundaries}
    assert results == {"periodic": 3.0, "zero": 1.0, "reflecting": 1.25}


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_bilinear_is_torch_interpolate(corners: bool, factor: int, dim: int) -> None:
    mode = ("linear", "bilinear", "trilinear")[dim - 1]
    x = torch.randn((2, 3, *(16,) * dim), dtype=torch.float64, generator=torch.manual_seed(0))
    expected = functional.interpolate(
        x, size=(16 // factor,) * dim, mode=mode, align_corners=corners
    )
    name = "bilinear_corners" if corners else "bilinear"
    got = RESTRICTIONS.parse(name).restrict(x.numpy(), dim, factor)
    assert np.abs(got - expected.numpy()).max() < 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_stated_nestedness(name: str) -> None:
    restriction = RESTRICTIONS.parse(name)
    x = np.random.default_rng(1).standard_normal((1, 32, 32))
    chain = restriction.restrict(restriction.restrict(x, 2), 2)
    direct = restriction.restrict(x, 2, 4)
    same = np.abs(chain - direct).max() < 1e-13
    assert same == restriction.nested


def test_bilinear_in_one_step_leaves_the_noise_of_one_halving() -> None:
    """The trap: std 0.50 of white noise after one step by 1/4, against 0.25 after two by 1/2."""
    bilinear = RESTRICTIONS.parse("bilinear")
    direct = bilinear.white_noise_variance(64, 4) ** (2 / 2)
    chain = bilinear.white_noise_variance(64, 2) ** 2
    assert np.sqrt(direct**2) == pytest.approx(0.5)
    assert np.sqrt(chain**2) == pytest.approx(0.25)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2, 4])
def test_stated_effect_on_white_noise(name: str, factor: int) -> None:
    """Variance against R Rᵀ of the dense map: exact, not sampled."""
    n = 32
    restriction = RESTRICTIONS.parse(name)
    covariance = dense(name, n, factor) @ dense(name, n, factor).T
    variance = np.mean(np.diag(covariance))
    assert restriction.white_noise_variance(n, factor) == pytest.approx(variance, rel=1e-12)


def test_known_values() -> None:
    parse = RESTRICTIONS.parse
    assert parse("injection").white_noise_variance(64) == 1.0
    assert parse("average").white_noise_variance(64) == 0.5
    assert parse("full_weighting").white_noise_variance(64) == 3 / 8
    assert parse("spectral").white_noise_variance(64) == pytest.approx((32 - 0.5) / 64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("n", [16, 24])
def test_power_transfer_is_the_squared_dense_transfer(name: str, factor: int, n: int) -> None:
    restriction = RESTRICTIONS.parse(name)
    m = n // factor
    forward = np.exp(-2j * np.pi * np.outer(np.arange(m), np.arange(m)) / m) / m
    inverse = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    transfer = np.abs(forward @ dense(name, n, factor) @ inverse) ** 2
    spectrum = np.random.default_rng(2).random((3, n))
    got = restriction.power_transfer(spectrum, 1, n, factor)
    assert np.abs(got - spectrum @ transfer.T).max() < 1e-13


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("route", ["chain", "direct"])
def test_spectra_of_a_chain(name: str, route: str) -> None:
    """Mean power on every level against the product of dense maps."""
    restriction = RESTRICTIONS.parse(name)
    spectrum = np.random.default_rng(3).random((16, 16))
    got = restriction.spectra(spectrum, 2, (4, 8, 16), route)
    inverse = np.fft.ifft(np.eye(16), axis=0) * 16
    for level, m in enumerate((4, 8)):
        if route == "direct":
            matrix = dense(name, 16, 16 // m)
        else:
            matrix = dense(name, 16, 2)
            if m == 4:
                matrix = dense(name, 8, 2) @ matrix
        transfer = np.abs(np.fft.fft(matrix @ inverse, axis=0) / m) ** 2
        expected = transfer @ spectrum @ transfer.T
        assert np.abs(got[level] - expected).max() < 1e-13
    assert np.array_equal(got[2], spectrum)


@pytest.mark.parametrize("name", NAMES)
def test_constants_are_kept(name: str) -> None:
    kept = RESTRICTIONS.parse(name).restrict(np.full((1, 16, 16), 3.0), 2)
    assert np.abs(kept - 3.0).max() < 1e-14


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("spectral", "bilinear_corners")])
def test_symbol_is_the_response_to_a_wave(name: str) -> None:
    restriction = RESTRICTIONS.parse(name)
    assert isinstance(restriction, LocalRestriction)
    n, j = 32, 5
    wave = np.exp(2j * np.pi * j * np.arange(n) / n)
    got = restriction.restrict(wave.real, 1) + 1j * restriction.restrict(wave.imag, 1)
    expected = restriction.symbol(np.array(2 * np.pi * j / n)) * wave[::2]
    assert np.abs(got - expected).max() < 1e-14


def test_spectral_needs_a_periodic_box() -> None:
    with pytest.raises(InputError, match="`restriction` spectral needs boundary periodic; got"):
        RESTRICTIONS.parse("spectral").restrict(np.zeros((1, 8)), 1, 2, "zero")


def test_factor_must_divide() -> None:
    with pytest.raises(InputError, match="`factor` must divide the cells an axis, 6; got 4"):
        RESTRICTIONS.parse("average").restrict(np.zeros((1, 6)), 1, 4)
