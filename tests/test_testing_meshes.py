"""`assert_mesh_independent`: the same operator on every mesh, and those that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradconv.errors import InputError
from gradconv.testing import CheckFailed, assert_mesh_independent, failures
from gradconv.testing.probes import BandLimited, coefficients, preserved


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_figure", lambda *_: "not drawn")


GENERATOR = np.random.default_rng(0)


def heat(u: Any) -> np.ndarray:
    """exp(0.003 Laplacian) on the unit box with the mesh of `u`; over its last two axes."""
    ks = [2 * np.pi * np.fft.fftfreq(n, 1 / n) for n in u.shape[-2:]]
    square = np.add.outer(ks[0] ** 2, ks[1] ** 2)
    return np.fft.ifft2(np.exp(-0.003 * square) * np.fft.fft2(u)).real


def forward_difference(u: np.ndarray) -> np.ndarray:
    return (np.roll(u, -1, -1) - u) * u.shape[-1]


def central_difference(u: np.ndarray) -> np.ndarray:
    return (np.roll(u, -1, -1) - np.roll(u, 1, -1)) * (u.shape[-1] / 2)


@pytest.mark.parametrize("grid", ["cell", "vertex"])
def test_any_meshes(grid: Any) -> None:
    """Odd, even, not nested, not square: the interpolants of a true operator agree."""
    meshes = [(7, 12), (9, 15), (21, 16), (22, 40)]
    assert assert_mesh_independent(heat, meshes, grid=grid) < 1e-13
    assert assert_mesh_independent(heat, [16, 32], dim=2, grid=grid, channels=2, batch=3) < 1e-13


@pytest.mark.parametrize(
    ("operator", "meshes"),
    [
        (lambda u: np.roll(u, 1, -1), [16, 32]),  # a shift by a cell is another on each mesh
        (lambda u: u * u.shape[-1], [16, 32]),
        (lambda u: np.cumsum(u, -1), [16, 32]),  # a sum where an integral belongs
        (forward_difference, [64, 128]),
        (lambda u: heat(u) * (1 + 1e-9 * u.shape[-1]), [(16, 16), (32, 32)]),
    ],
)
def test_fails_on_what_depends_on_the_mesh(operator: Any, meshes: Any) -> None:
    with pytest.raises(CheckFailed, match="results differ by"):
        assert_mesh_independent(operator, meshes)


@pytest.mark.parametrize(
    ("operator", "why"),
    [
        (lambda u: 0 * u, "zero on the finest mesh"),
        (lambda u: u / 0, "not finite"),
        (lambda u: u + GENERATOR.standard_normal(u.shape), "random"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_fails_where_nothing_is_shown(operator: Any, why: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_mesh_independent(operator, [16, 32])
    assert why in failed.value.reason


@pytest.mark.parametrize(("operator", "order"), [(forward_difference, 1), (central_difference, 2)])
def test_order_of_the_differences(operator: Any, order: float) -> None:
    meshes = [64, 128, 256, 512, 1024]
    assert_mesh_independent(operator, meshes, order=order)
    for wrong in (3 - order, -order):
        with pytest.raises(CheckFailed, match="assert_mesh_independent"):
            assert_mesh_independent(operator, meshes, order=wrong)


def test_shared_points_and_walls() -> None:
    """A trapezoidal integral from the wall: no periodic field, no periodic result."""

    def integral(u: np.ndarray) -> np.ndarray:
        sums = np.cumsum(u) - 0.5 * (u + u[0])
        return sums / len(u)

    meshes = [32, 64, 128, 256, 512]
    arguments: dict[str, Any] = {"field": np.exp, "grid": "vertex", "compare": "points"}
    assert_mesh_independent(integral, meshes, order=2, **arguments)
    with pytest.raises(CheckFailed):
        assert_mesh_independent(lambda u: np.cumsum(u) / len(u), meshes, order=2, **arguments)
    assert_mesh_independent(np.sin, [5, 15, 45], field=np.exp, compare="points")


def test_modules_and_what_is_left_of_them() -> None:
    torch.manual_seed(0)
    point = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Tanh(), torch.nn.Conv2d(4, 2, 1))
    assert_mesh_independent(point, [32, 64], modes=1, tolerance=1e-4)
    circular = torch.nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular")
    with pytest.raises(CheckFailed, match="results differ"):
        assert_mesh_independent(circular, [32, 64], tolerance=1e-4)
    # to first order a 3 x 3 stencil is the sum of its weights
    assert_mesh_independent(circular.double(), [2**k for k in range(6, 11)], order=1)
    norm = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 1), torch.nn.BatchNorm1d(2))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    state = torch.get_rng_state()
    assert_mesh_independent(norm, [16, 32], tolerance=1e-4)
    assert norm.training
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_strided_modules_are_compared_as_interpolants() -> None:
    """Means of 2 x 2 cells live on cells; strided reading lives on vertices."""
    pool, pick = torch.nn.AvgPool1d(2), torch.nn.MaxPool1d(1, stride=2)
    common: dict[str, Any] = {"channels": 1, "dtype": torch.float64}
    assert_mesh_independent(pick, [16, 24, 48], grid="vertex", **common)
    with pytest.raises(CheckFailed):
        assert_mesh_independent(pick, [16, 24, 48], grid="cell", **common)
    assert_mesh_independent(pool, [2**k for k in range(5, 10)], grid="cell", order=2, **common)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": 1}, "`operator` must be callable"),
        ({"operator": lambda u: u.sum()}, "must return a field over 1 axes"),
        ({"meshes": [16]}, "`meshes` must hold at least 2"),
        ({"meshes": [16, 32, 64], "order": 2}, "`meshes` must hold at least 4"),
        ({"meshes": [32, 16]}, "`meshes` must be refined"),
        ({"meshes": [16, (32, 32)]}, "`meshes` must have one dimension"),
        ({"meshes": "16,32"}, "`meshes` must be a sequence"),
        ({"meshes": [0, 16]}, "`meshes` must be a whole number"),
        ({"modes": 8}, "`modes` must be below"),
        ({"dim": 4}, "`dim` must be 1, 2 or 3"),
        ({"dim": 0}, "`dim` must be 1, 2 or 3"),
        ({"grid": "edge"}, "`grid` must be"),
        ({"compare": "eye"}, "`compare` must be"),
        ({"compare": "points"}, "odd multiples"),
        ({"field": 3}, "`field` must be callable"),
        ({"field": lambda x, y: x}, "`field` must take 1 coordinates"),
        ({"operator": torch.nn.Tanh()}, "`channels` must be given"),
        ({"operator": torch.nn.LazyConv1d(2, 3)}, "must have its parameters initialised"),
        ({"operator": torch.nn.Tanh(), "dtype": float, "channels": 1}, "`dtype` must be a"),
        ({"operator": lambda u: u.reshape(-1, 4)}, "same batch and channels"),
        ({"tolerance": 0}, "`tolerance` must be"),
        ({"order": 2, "meshes": [8, 16, 32, 64], "tolerance": 0}, "`tolerance` must be"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        assert_mesh_independent(**{"operator": lambda u: u, "meshes": [16, 32], **change})


# The probes.


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_field_has_one_set_of_coefficients_on_every_mesh(offset: float) -> None:
    field = BandLimited.random((2,), 2, 3, np.random.default_rng(0))
    for shape in ((7, 8), (16, 9)):
        found = coefficients(field.on(shape, offset), 2, offset, (3, 3))
        assert np.allclose(found, field.coefficients, atol=1e-14)


def test_a_field_has_unit_variance() -> None:
    fields = BandLimited.random((4000,), 1, 2, np.random.default_rng(0)).on((16,), 0.5)
    assert np.mean(fields**2) == pytest.approx(1.0, abs=0.05)  # standard error 0.01


def test_preserved_gives_back_gradients_modes_and_random_states() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    net[0].weight.grad = torch.ones(2, 2)
    kept, legacy = net[0].weight.grad, np.random.get_state()[1].copy()  # noqa: NPY002
    state, weights = torch.get_rng_state(), net[0].weight.detach().clone()

    def spoil() -> None:
        net.eval()
        net.zero_grad()
        net[1].running_mean.add_(1)
        np.random.rand()  # noqa: NPY002
        with torch.no_grad():
            net[0].weight.add_(torch.rand(2, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), preserved(net):
        spoil()
    assert net.training
    assert net[0].weight.grad is kept
    assert torch.equal(kept, torch.ones(2, 2))
    assert net[0].bias.grad is None
    assert torch.equal(net[0].weight, weights)
    assert not net[1].running_mean.any()
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(legacy, np.random.get_state()[1])  # noqa: NPY002
