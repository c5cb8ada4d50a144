"""Restriction and prolongation as modules: against the registry, torch, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from gradconv.errors import InputError
from gradconv.nn.resample import ADJOINTS, Prolong, Restrict
from gradconv.restriction import RESTRICTIONS

SIZES = {1: (24,), 2: (12, 24), 3: (12, 6, 24)}
WALLS = {"periodic": "periodic", "reflect": "reflecting", "zero": "zero"}


def field(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(module: torch.nn.Module, n: int) -> np.ndarray:
    """Matrix of a linear module in one dimension, column by column."""
    return module(torch.eye(n, dtype=torch.float64)[:, None])[:, 0].numpy().T


def inner(x: torch.Tensor, y: torch.Tensor) -> float:
    """⟨x, y⟩_h on the unit box: the mean over the cells, summed over batch and channels."""
    cells = x[0, 0].numel()
    return float((x * y).sum()) / cells


@pytest.mark.parametrize("name", RESTRICTIONS.names)
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("padding", WALLS)
def test_restrict_is_the_registered_restriction(name: str, factor: int, padding: str) -> None:
    restriction = RESTRICTIONS.parse(name)
    padding = padding if WALLS[padding] in restriction.boundaries else "periodic"
    x = field(2, 3, 12, 12)
    expected = restriction.restrict(x.numpy(), 2, factor, WALLS[padding])
    got = Restrict(factor, name, padding_mode=padding)(x)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("dim", SIZES)
def test_average_is_pooling_on_any_box(dim: int) -> None:
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[dim - 1]
    x = field(2, 3, *SIZES[dim])
    torch.testing.assert_close(Restrict(3)(x), pool(x, 3))


@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("restriction", ADJOINTS)
@pytest.mark.parametrize("padding", ["periodic", "zero"])
def test_pairs_are_adjoint(dim: int, factor: int, restriction: str, padding: str) -> None:
    padding = "periodic" if restriction == "spectral" else padding  # the only box it knows
    restrict = Restrict(factor, restriction, padding_mode=padding)
    prolong = restrict.adjoint()
    assert prolong.adjoint().restriction == restrict.restriction
    x = field(2, 3, *SIZES[dim])
    y = field(*restrict(x).shape, seed=1)
    assert inner(restrict(x), y) == pytest.approx(inner(x, prolong(y)), rel=1e-12)


@pytest.mark.parametrize("restriction", ["average", "full_weighting"])
def test_wrong_pairs_are_not_adjoint(restriction: str) -> None:
    """Negative control: the check above tells a prolongation from another one."""
    x = field(2, 3, 12, 24)
    restrict = Restrict(2, restriction)
    y = field(*restrict(x).shape, seed=1)
    for other in ("linear", *ADJOINTS.values()):
        if other != ADJOINTS[restriction]:
            apart = abs(inner(restrict(x), y) - inner(x, Prolong(2, other)(y)))
            assert apart > 1e-3 * abs(inner(restrict(x), y))


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("restriction", ADJOINTS)
def test_prolongation_is_the_scaled_transpose(n: int, factor: int, restriction: str) -> None:
    restrict = Restrict(factor, restriction)
    np.testing.assert_allclose(
        dense(restrict.adjoint(), n), factor * dense(restrict, n * factor).T, atol=1e-14
    )


@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_linear_is_what_torch_interpolates(dim: int, factor: int) -> None:
    mode = ("linear", "bilinear", "trilinear")[dim - 1]
    x = field(2, 3, *(n // 3 for n in SIZES[dim]))
    expected = functional.interpolate(x, scale_factor=factor, mode=mode, align_corners=False)
    torch.testing.assert_close(Prolong(factor, "linear", padding_mode="reflect")(x), expected)


@pytest.mark.parametrize(
    ("prolongation", "grid", "order"),
    [("constant", 0.5, 1), ("linear", 0.5, 2), ("linear_vertex", 0.0, 2)],
)
def test_prolongations_have_their_order(prolongation: str, grid: float, order: int) -> None:
    def error(n: int) -> float:
        coarse = torch.sin(2 * torch.pi * (torch.arange(n, dtype=torch.float64) + grid) / n + 0.3)
        m = 2 * n
        fine = torch.sin(2 * torch.pi * (torch.arange(m, dtype=torch.float64) + grid) / m + 0.3)
        return float((Prolong(2, prolongation)(coarse[None, None]) - fine).abs().max())

    assert np.log2(error(64) / error(128)) == pytest.approx(order, abs=0.05)
    # control: values of the other grid are off by a quarter of a cell, order 1
    if order == 2:
        grid = 0.5 - grid
        assert np.log2(error(64) / error(128)) == pytest.approx(1, abs=0.1)


def test_spectral_prolongation_is_exact_for_what_is_resolved() -> None:
    def signal(n: int) -> torch.Tensor:
        x = torch.arange(n, dtype=torch.float64) / n
        return (torch.sin(2 * torch.pi * 3 * x) + torch.cos(2 * torch.pi * x))[None, None]

    torch.testing.assert_close(Prolong(3, "spectral")(signal(8)), signal(24))
    # at the Nyquist mode the even one of the two candidates
    nyquist = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]], dtype=torch.float64)
    fine = torch.cos(2 * torch.pi * 2 * torch.arange(8, dtype=torch.float64) / 8)
    torch.testing.assert_close(Prolong(2, "spectral")(nyquist)[0, 0], fine)


@pytest.mark.parametrize("prolongation", ["constant", "linear", "linear_vertex", "spectral"])
def test_constants_are_kept_and_restriction_undoes_prolongation(prolongation: str) -> None:
    ones = torch.ones(1, 1, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(Prolong(2, prolongation)(ones), torch.ones(1, 1, 16, 12).double())
    x = field(1, 2, 8, 7)
    back = {"constant": "average", "spectral": "spectral", "linear_vertex": "injection"}
    if prolongation in back and prolongation != "spectral":
        torch.testing.assert_close(Restrict(2, back[prolongation])(Prolong(2, prolongation)(x)), x)
    if prolongation == "spectral":  # odd sizes have no Nyquist mode to lose
        y = field(1, 2, 9, 7)
        torch.testing.assert_close(Restrict(2, "spectral")(Prolong(2, "spectral")(y)), y)


@pytest.mark.parametrize("module", [Restrict(2), Restrict(2, "spectral"), Prolong(2, "spectral")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_kept(module: torch.nn.Module, dtype: torch.dtype) -> None:
    x = field(1, 2, 8, 8)
    got = module(x.to(dtype))
    assert got.dtype == dtype
    accuracy = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got.double(), module(x), atol=accuracy, rtol=accuracy)


@pytest.mark.parametrize(
    "module",
    [Restrict(2, "full_weighting"), Prolong(2), Prolong(3, "linear"), Prolong(2, "spectral")],
)
def test_gradients(module: torch.nn.Module) -> None:
    x = field(1, 1, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))


@pytest.mark.parametrize("module", [Restrict(2, "full_weighting"), Prolong(3, "linear")])
def test_compiles_without_a_break(module: torch.nn.Module) -> None:
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    x = field(1, 2, 8, 12)
    torch.testing.assert_close(compiled(x), module(x))


def test_factor_one_changes_nothing() -> None:
    x = field(1, 1, 5)
    assert Restrict(1)(x) is x
    assert Prolong(1)(x) is x


def test_bad_input_names_the_argument() -> None:
    with pytest.raises(InputError, match=r"`x` must have sizes divisible by the factor 2; got \(9"):
        Restrict(2)(field(1, 1, 9, 8))
    with pytest.raises(InputError, match="`x` must be a real floating-point tensor"):
        Restrict(2)(torch.zeros(8, 8))
    with pytest.raises(InputError, match="int64"):
        Prolong(2)(torch.zeros(1, 1, 8, dtype=torch.int64))
    with pytest.raises(InputError, match="complex"):
        Prolong(2)(torch.zeros(1, 1, 8, dtype=torch.complex64))
    for factor in (0, -2, 1.5, True, "2"):
        with pytest.raises(InputError, match="`factor`"):
            Restrict(factor)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="`factor`"):
            Prolong(factor)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'average'"):
        Restrict(2, "averge")
    with pytest.raises(InputError, match="did you mean 'linear'"):
        Prolong(2, "linea")
    with pytest.raises(InputError, match="`padding_mode`"):
        Restrict(2, padding_mode="replicated")
    with pytest.raises(InputError, match="spectral needs boundary periodic"):
        Restrict(2, "spectral", padding_mode="reflect")
    with pytest.raises(InputError, match="spectral"):
        Prolong(2, "spectral", padding_mode="zero")
    with pytest.raises(InputError, match="linear_vertex"):
        Prolong(2, "linear_vertex", padding_mode="reflect")
    with pytest.raises(InputError, match="adjoint"):
        Restrict(2, "injection").adjoint()
    with pytest.raises(InputError, match="adjoint"):
        Prolong(2, "linear").adjoint()
