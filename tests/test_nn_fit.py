"""Mesh-free fits of stencils: their stated errors by another route, and what can be fitted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from gradconv.errors import InputError
from gradconv.nn.fitting.fit import StencilFit, fit_stencil
from gradconv.nn.fitting.refine import Kernels, Limits, monomial_values, refine, symbols

pytestmark = pytest.mark.filterwarnings("ignore::gradconv.nn.UnresolvedKernelWarning")

SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 8.0
LAPLACE = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
BINOMIAL = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16.0


def he(*shape: int, seed: int = 0) -> torch.Tensor:
    fan_in = math.prod(shape[1:])
    draw = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draw * math.sqrt(2.0 / fan_in)


def one(stencil: torch.Tensor) -> torch.Tensor:
    return stencil.double()[None, None]


def responses(
    weight: torch.Tensor, fit: StencilFit, mesh: tuple[int, ...], dilation: int = 1, origin: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Fourier transforms of the responses to impulses, of the stencil and the fitted layer.

    By torch's convolution with circular padding, and by the layer; shapes ``(out, in, *mesh)``.
    """
    dim, fan_in = len(mesh), weight.shape[1]
    impulses = torch.zeros(fan_in, fan_in, *mesh, dtype=torch.float64)
    for i in range(fan_in):
        impulses[(i, i, *(0,) * dim)] = 1.0
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[dim - 1]
    span = dilation * (weight.shape[-1] - 1)
    padded = functional.pad(impulses, (origin, span - origin) * dim, mode="circular")
    exact = conv(padded, weight, dilation=dilation)
    with torch.no_grad():
        fitted = fit.layer(dtype=torch.float64)(impulses)
    axes = tuple(range(-dim, 0))
    return tuple(np.fft.fftn(y.numpy().swapaxes(0, 1), axes=axes) for y in (exact, fitted))


def power(mesh: tuple[int, ...], alpha: float) -> np.ndarray:
    j = np.meshgrid(*(np.fft.fftfreq(n, 1.0 / n) for n in mesh), indexing="ij")
    return (1.0 + sum(k**2 for k in j)) ** (-alpha / 2.0)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
@pytest.mark.parametrize(
    ("mesh", "size", "dilation", "origin", "steps"),
    [
        ((15,), 3, 1, 1, 0),
        ((15,), 5, 1, 2, 5),
        ((15, 15), 3, 1, 1, 0),
        ((15, 15), 3, 1, 1, 5),
        ((15, 15), 3, 2, 2, 0),
        ((15, 15), 2, 1, 0, 0),
        ((15, 15), 4, 1, 1, 0),
        ((7, 7, 7), 3, 1, 1, 0),
    ],
)
def test_errors_are_those_of_the_layer(
    mesh: tuple[int, ...], size: int, dilation: int, origin: int, steps: int, alpha: float
) -> None:
    """On odd meshes of few modes the band of the fit is all modes: equality, not an estimate."""
    weight = he(3, 2, *(size,) * len(mesh))
    fit = fit_stencil(weight, mesh, dilation=dilation, origin=origin, spectrum=alpha, steps=steps)
    exact, fitted = responses(weight, fit, mesh, dilation, origin)
    spectrum, axes = power(mesh, alpha), tuple(range(2, 2 + len(mesh)))
    gap = (spectrum * np.abs(fitted - exact) ** 2).sum(axis=axes)
    size_of = (spectrum * np.abs(exact) ** 2).sum(axis=axes)
    np.testing.assert_allclose(fit.error.numpy(), np.sqrt(gap / size_of), rtol=1e-8)
    assert fit.relative_error == pytest.approx(math.sqrt(gap.sum() / size_of.sum()), rel=1e-8)

    def norm(operator: np.ndarray) -> float:
        matrices = np.moveaxis(operator.reshape(*operator.shape[:2], -1), -1, 0)
        largest = np.linalg.svd(matrices, compute_uv=False)[:, 0]
        return float((np.sqrt(spectrum).ravel() * largest).max())

    assert fit.operator_error == pytest.approx(norm(fitted - exact) / norm(exact), rel=1e-7)


@pytest.mark.parametrize("derivatives", [0, 1, 2])
@pytest.mark.parametrize("terms", [1, 7])
@pytest.mark.parametrize("mesh", [(15,), (9, 9)])
def test_every_form_of_kernel(mesh: tuple[int, ...], terms: int, derivatives: int) -> None:
    """Also seven terms in one dimension, where the dictionary has six atoms."""
    weight = he(2, 2, *(3,) * len(mesh))
    fit = fit_stencil(weight, mesh, terms=terms, derivatives=derivatives, spectrum=0.0)
    exact, fitted = responses(weight, fit, mesh)
    measured = math.sqrt((np.abs(fitted - exact) ** 2).sum() / (np.abs(exact) ** 2).sum())
    assert fit.relative_error == pytest.approx(measured, rel=1e-8)
    fewer = fit_stencil(weight, mesh, terms=terms, derivatives=0, spectrum=0.0)
    assert fit.relative_error <= fewer.relative_error * (1 + 1e-9)


def test_another_operator_has_another_error() -> None:
    """Negative control: with the taps shifted by a cell the comparison above fails."""
    weight = he(2, 2, 3, 3)
    fit = fit_stencil(weight, (15, 15), spectrum=0.0)
    exact, fitted = responses(weight, fit, (15, 15), origin=0)
    measured = np.sqrt((np.abs(fitted - exact) ** 2).sum() / (np.abs(exact) ** 2).sum())
    assert measured > 3 * fit.relative_error


@pytest.mark.parametrize("n", [12, 64])
def test_even_meshes_are_bounded_from_above(n: int) -> None:
    """At the Nyquist mode a mesh sees a mean, and blocks of modes stand for many: a few percent."""
    weight = he(4, 4, 3, 3)
    fit = fit_stencil(weight, (n, n), spectrum=0.0)
    exact, fitted = responses(weight, fit, (n, n))
    measured = math.sqrt((np.abs(fitted - exact) ** 2).sum() / (np.abs(exact) ** 2).sum())
    assert measured < fit.relative_error * 1.02
    assert measured > fit.relative_error * 0.85


@pytest.mark.parametrize(
    ("stencil", "terms", "steps", "low", "high"),
    [
        (BINOMIAL, 1, 0, 0.005, 0.02),
        (BINOMIAL, 2, 20, 0.002, 0.01),
        (SOBEL, 1, 20, 0.04, 0.1),
        (SOBEL, 2, 0, 0.01, 0.03),
        (LAPLACE, 2, 20, 0.1, 0.2),
        (he(8, 8, 3, 3), 1, 0, 0.2, 0.35),
        (he(8, 8, 3, 3), 2, 0, 0.07, 0.15),
        (he(8, 8, 3, 3), 2, 20, 0.04, 0.1),
        (he(8, 8, 5, 5), 2, 0, 0.2, 0.4),
        (he(8, 8, 3), 2, 0, 0.003, 0.02),
    ],
)
def test_what_can_be_fitted(
    stencil: torch.Tensor, terms: int, steps: int, low: float, high: float
) -> None:
    """Relative errors on 64 points an axis for inputs like photographs."""
    weight = one(stencil) if stencil.ndim == 2 and len(stencil) == 3 else stencil
    mesh = (64,) * (weight.ndim - 2)
    fit = fit_stencil(weight, mesh, terms=terms, steps=steps)
    assert low < fit.relative_error < high


def test_rougher_inputs_are_harder() -> None:
    weight = he(4, 4, 3, 3)
    errors = [fit_stencil(weight, (64, 64), spectrum=a).relative_error for a in (0.0, 2.0, 4.0)]
    assert errors[0] > 1.3 * errors[1] > 1.3 * 1.3 * errors[2]
    fit = fit_stencil(weight, (64, 64))
    assert fit.resolvable(1.0).all()
    assert not fit.resolvable(0.01).any()
    assert 0 < int(fit.resolvable(float(fit.error.median())).sum()) < 16


def test_refinement_makes_no_pair_worse() -> None:
    weight = he(6, 6, 3, 3)
    before, after = (fit_stencil(weight, (64, 64), steps=s) for s in (0, 20))
    # the error is stated over more nodes than were fitted
    assert (after.error <= before.error * 1.02).all()
    assert after.relative_error < 0.8 * before.relative_error
    assert float(after.widths.min()) >= 0.5 - 1e-9


def test_units() -> None:
    weight = he(2, 2, 3, 3)
    plain = fit_stencil(weight, (16, 32), steps=3)
    assert plain.cells == (1 / 16, 1 / 16)
    large = fit_stencil(weight * 5.0, (16, 32), extent=(10.0, 20.0), steps=3, spectrum=scaled)
    torch.testing.assert_close(large.amplitude, 5.0 * plain.amplitude)
    torch.testing.assert_close(large.derivative[..., :2], 50.0 * plain.derivative[..., :2])
    torch.testing.assert_close(large.derivative[..., 2:], 500.0 * plain.derivative[..., 2:])
    torch.testing.assert_close(large.diffusion, 100.0 * plain.diffusion)
    torch.testing.assert_close(large.drift, 10.0 * plain.drift)
    torch.testing.assert_close(large.widths, plain.widths)


def scaled(j: torch.Tensor) -> torch.Tensor:
    """Photographs in a box ten times as large."""
    return 1.0 / (1.0 + 100.0 * j.square().sum(dim=1))


def test_zero_weights_are_fitted_by_zero() -> None:
    weight = he(2, 2, 3, 3)
    weight[0, 1] = 0.0
    fit = fit_stencil(weight, (16, 16), steps=2)
    assert float(fit.error[0, 1]) == 0.0
    assert float(fit.amplitude[0, 1].abs().max()) == 0.0
    nothing = fit_stencil(torch.zeros(2, 2, 3, 3), (16, 16))
    assert nothing.relative_error == nothing.operator_error == 0.0


def test_groups_have_their_own_operator_norm() -> None:
    weight = he(4, 2, 3, 3)
    grouped = fit_stencil(weight, (15, 15), groups=2)
    halves = [fit_stencil(weight[i : i + 2], (15, 15)) for i in (0, 2)]
    joined = fit_stencil(weight, (15, 15))
    assert grouped.relative_error == pytest.approx(joined.relative_error)
    assert grouped.operator_error != pytest.approx(joined.operator_error, rel=1e-3)
    assert grouped.operator_error <= max(f.operator_error for f in halves) * (1 + 1e-9)
    layer = grouped.layer(groups=2, bias=torch.arange(4.0))
    assert layer.in_channels == 4
    assert layer.bias is not None
    assert layer.bias.tolist() == [0, 1, 2, 3]


def test_the_fitted_layer_is_one_operator_on_all_meshes() -> None:
    weight = he(2, 2, 3, 3)
    layer = fit_stencil(weight, (32, 32)).layer(dtype=torch.float64)

    def field(n: int) -> torch.Tensor:
        x = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
        a = torch.cos(3 * x[:, None] - 5 * x + 0.3)
        return torch.stack([a, torch.sin(4 * x[:, None] + x)])[None]

    with torch.no_grad():
        coarse, fine = layer(field(32)), layer(field(64))
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)
    # control: the stencil is another operator on every mesh
    padded = [functional.pad(field(n), (1, 1, 1, 1), mode="circular") for n in (32, 64)]
    coarse, fine = (functional.conv2d(x, weight) for x in padded)
    assert float((fine[..., ::2, ::2] - coarse).norm() / coarse.norm()) > 0.1


def _problem(
    dim: int = 2, nodes: int = 60
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Kernels, Limits]:
    g = torch.Generator().manual_seed(1)
    theta = torch.rand(nodes, dim, generator=g, dtype=torch.float64) * 4.0 - 2.0
    truth = Kernels(
        torch.randn(5, 2, 1 + dim, generator=g, dtype=torch.float64),
        torch.randn(5, 2, dim, dim, generator=g, dtype=torch.float64).tril() * 0.4,
        torch.randn(5, 2, dim, generator=g, dtype=torch.float64) * 0.5,
    )
    limits = Limits(0.1, 10.0, torch.zeros(dim).double(), torch.full((dim,), 1.5).double())
    return theta, torch.ones(nodes).double() / nodes, monomial_values(theta, 1), truth, limits


def test_refinement_finds_known_kernels() -> None:
    theta, weight, mono, truth, limits = _problem()
    target = symbols(theta, mono, truth, limits)
    g = torch.Generator().manual_seed(2)

    def near(x: torch.Tensor) -> torch.Tensor:
        return x + 0.02 * torch.randn(x.shape, generator=g, dtype=torch.float64)

    start = Kernels(near(truth.coefficients), near(truth.factor).tril(), near(truth.drift))

    def error(kernels: Kernels) -> torch.Tensor:
        return (symbols(theta, mono, kernels, limits) - target).abs().amax(dim=1)

    found = refine(theta, weight, mono, target, start, limits, 50)
    assert (error(start) > 1e-3).all()
    assert (error(found) <= error(start)).all()
    assert int((error(found) < 1e-8).sum()) >= 4  # one of the five goes to another minimum


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_normal_equations_are_those_of_autograd(dim: int) -> None:
    from gradconv.nn.fitting.refine import _moved, _normal_equations

    theta, weight, mono, kernels, limits = _problem(dim, nodes=20)
    target, kernels = symbols(theta, mono, kernels, limits)[1:2], kernels[:1]
    normal, slope = _normal_equations(theta, weight, mono, target, kernels, limits)

    def residual(step: torch.Tensor) -> torch.Tensor:
        gap = symbols(theta, mono, _moved(kernels, step), limits) - target
        return torch.view_as_real(gap * weight.sqrt()).flatten(1)

    zero = torch.zeros_like(slope)
    jacobian = torch.autograd.functional.jacobian(residual, zero)
    assert isinstance(jacobian, torch.Tensor)
    own = jacobian[0, :, 0]
    torch.testing.assert_close(own.T @ own, normal[0])
    torch.testing.assert_close(own.T @ residual(zero)[0], slope[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: fit_stencil(w[0], (16, 16)), "`mesh` must be 1 whole numbers"),
        (lambda w: fit_stencil(w[0, 0], (16, 16)), "`weight` must have shape"),
        (lambda w: fit_stencil(w.long(), (16, 16)), "`weight` must be real and finite"),
        (lambda w: fit_stencil(w * torch.nan, (16, 16)), "`weight` must be real and finite"),
        (lambda w: fit_stencil(w.numpy(), (16, 16)), "`weight` must have shape"),
        (lambda w: fit_stencil(w, (16,)), "`mesh` must be 2 whole numbers"),
        (lambda w: fit_stencil(w, (16.0, 16)), "`mesh` must be 2 whole numbers"),
        (lambda w: fit_stencil(w, (4, 16), dilation=2), r"`mesh` must not be smaller.*\(5, 5\)"),
        (lambda w: fit_stencil(w, (16, 16), extent=(1.0, 0.0)), "`extent` must be 2 positive"),
        (lambda w: fit_stencil(w, (16, 16), extent=2.0), "`extent` must be 2 positive"),
        (lambda w: fit_stencil(w, (16, 16), dilation=0), "`dilation`"),
        (lambda w: fit_stencil(w, (16, 16), origin=3), "`origin` must lie within"),
        (lambda w: fit_stencil(w, (16, 16), spectrum=-1.0), "`spectrum` must be an exponent"),
        (lambda w: fit_stencil(w, (16, 16), spectrum="pink"), "`spectrum` must be an exponent"),
        (lambda w: fit_stencil(w, (16, 16), spectrum=lambda j: -j[:, 0]), "`spectrum` must ret"),
        (lambda w: fit_stencil(w, (16, 16), spectrum=lambda j: j), "`spectrum` must return"),
        (lambda w: fit_stencil(w, (16, 16), terms=0), "`terms`"),
        (lambda w: fit_stencil(w, (16, 16), derivatives=3), "`derivatives` must be 0, 1 or 2"),
        (lambda w: fit_stencil(w, (16, 16), narrowest=0.0), "`narrowest`"),
        (lambda w: fit_stencil(w, (16, 16), steps=-1), "`steps`"),
        (lambda w: fit_stencil(w, (16, 16), groups=3), "`groups` must divide"),
    ],
)
def test_bad_input(call: Callable[[torch.Tensor], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(he(2, 2, 3, 3))
