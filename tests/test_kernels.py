"""One contract for every kernel: symbol, derivative, pullback and real-space action agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradconv.backend import Backend
from gradconv.errors import InputError
from gradconv.kernels import KERNELS, Kernel, KernelOptions
from gradconv.kernels.base import NEGLIGIBLE
from gradconv.kernels.mfc import MeshFree
from gradconv.kernels.stencil import Stencil
from gradconv.mesh import FourierGrid, Mesh

SPECS = [
    "stencil",
    "stencil:1",
    "stencil:5",
    "mfc",
    "scaled-stencil",
    "spectral:2",
    "gaussian-derivative",
    "gaussian-derivative:3:0.08",
]
SIZES = {1: 12, 2: 8, 3: 6}


def build(spec: str, dim: int, channels: int = 1, **options: object) -> Kernel:
    return KERNELS.parse(spec).build(dim, channels, KernelOptions(**options))


def test_every_family_is_covered() -> None:
    assert {s.partition(":")[0] for s in SPECS} == set(KERNELS.names)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_operator_contract(spec: str, dim: int, channels: int) -> None:
    """Symbol, names, scale; pullback against finite differences of the symbol."""
    kernel = build(spec, dim, channels)
    p = kernel.theta.shape[2]
    assert kernel.theta.shape == (channels, channels, p)
    assert len(kernel.parameter_names) == len(set(kernel.parameter_names)) == p
    assert np.broadcast_shapes(kernel.scale.shape, kernel.theta.shape) == kernel.theta.shape
    grid = FourierGrid(Mesh(dim, SIZES[dim]))
    operator = kernel.operator(grid)
    assert operator.symbol.shape == (channels, channels, *grid.shape)
    assert np.abs(operator.symbol - kernel.symbol(grid)).max() < 1e-13

    rng = np.random.default_rng(0)
    shape = (3, channels, channels, *grid.shape)
    q = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    got = operator.pullback(q)
    assert got.shape == (3, channels, channels, p)
    expected = np.empty_like(got)
    for j in range(p):
        step = 1e-5 * max(1e-2, float(np.abs(kernel.theta[..., j]).max()))
        ends = []
        for sign in (1, -1):
            theta = kernel.theta.copy()
            theta[..., j] += sign * step
            ends.append(kernel.symbol(grid, theta))
        slope = (ends[0] - ends[1]) / (2 * step)
        terms = np.conj(slope) * q * grid.weights
        expected[..., j] = terms.reshape(*terms.shape[:3], -1).sum(-1).real
    assert np.abs(got - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_symbol_is_what_the_kernel_does_to_a_field(spec: str, dim: int) -> None:
    """Real-space action of torch against the symbol applied by numpy."""
    kernel = build(spec, dim, 2)
    n = SIZES[dim]
    x = np.random.default_rng(1).standard_normal((1, 2, *(n,) * dim))
    got = kernel.apply(torch.from_numpy(x), torch.from_numpy(np.array(kernel.theta)), "periodic")
    axes = tuple(range(-dim, 0))
    symbol = kernel.symbol(FourierGrid(Mesh(dim, n)))
    modes = np.einsum("oi...,bi...->bo...", symbol, np.fft.rfftn(x, axes=axes))
    expected = np.fft.irfftn(modes, s=(n,) * dim, axes=axes)
    assert np.abs(got.numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("boundary", ["periodic", "zero", "reflecting"])
def test_stencil_is_torch_convolution(dim: int, boundary: str) -> None:
    n = 6
    kernel = build("stencil:5", dim, 2)
    x = torch.randn((2, 2, *(n,) * dim), dtype=torch.float64, generator=torch.manual_seed(0))
    got = kernel.apply(x, torch.from_numpy(np.array(kernel.theta)), boundary)
    padded = x.numpy()
    mode = {"periodic": "wrap", "zero": "constant", "reflecting": "symmetric"}[boundary]
    padded = np.pad(padded, [(0, 0), (0, 0), *[(2, 2)] * dim], mode=mode)  # type: ignore[call-overload]
    layer = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dim - 1](2, 2, 5, bias=False)
    layer = layer.double()
    weights = np.array(kernel.theta).reshape(2, 2, *(5,) * dim)
    layer.weight.data = torch.from_numpy(weights)
    expected = layer(torch.from_numpy(padded))
    assert torch.allclose(got, expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("spec", ["mfc", "gaussian-derivative", "scaled-stencil"])
@pytest.mark.parametrize("boundary", ["zero", "reflecting"])
def test_boxes_with_walls_are_extended(spec: str, boundary: str) -> None:
    """A symmetric field on a periodic box of twice the size gives the same values inside."""
    n, dim = 8, 2
    kernel = build(spec, dim)
    x = np.random.default_rng(2).standard_normal((n, n))
    got = kernel.apply(
        torch.from_numpy(x)[None, None], torch.from_numpy(np.array(kernel.theta)), boundary
    )
    big = np.zeros((2 * n, 2 * n))
    big[:n, :n] = x
    if boundary == "reflecting":
        big[n:, :n], big[:n, n:], big[n:, n:] = x[::-1], x[:, ::-1], x[::-1, ::-1]
    symbol = kernel.symbol(FourierGrid(Mesh(2, 2 * n), length=2.0))[0, 0]
    expected = np.fft.irfft2(np.fft.rfft2(big) * symbol, s=big.shape)[:n, :n]
    assert np.abs(got.numpy()[0, 0] - expected).max() < 1e-12


@pytest.mark.parametrize("spec", [s for s in SPECS if build(s, 1).cutoff() is not None])
@pytest.mark.parametrize("dim", [1, 2])
def test_modes_beyond_the_cutoff_are_negligible(spec: str, dim: int) -> None:
    kernel = build(spec, dim)
    cutoff = kernel.cutoff()
    assert cutoff is not None
    mesh = Mesh(dim, 4 * cutoff)
    whole = kernel.operator(FourierGrid(mesh))
    outside = np.zeros(whole.symbol.shape, dtype=bool)
    for axis, j in enumerate(FourierGrid(mesh).modes):
        shape = [1] * dim
        shape[axis] = -1
        outside |= (np.abs(j) > cutoff).reshape(shape)
    q = np.where(outside, 1.0 + 1.0j, 0.0)
    largest = np.abs(whole.pullback(np.ones_like(whole.symbol)) * kernel.scale).max()
    assert np.abs(whole.pullback(q) * kernel.scale).max() < 100 * NEGLIGIBLE * largest * q.size
    inside = np.where(outside, 0.0, 1.0 + 1.0j)
    assert np.abs(whole.pullback(inside) * kernel.scale).max() > 1e-3  # negative control


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_mesh_free_symbol_is_the_quadratic_form(dim: int) -> None:
    """c exp(−kᵀAk + i b·k) written out mode by mode, with the full matrix A."""
    kernel = build("mfc", dim)
    assert isinstance(kernel, MeshFree)
    a, c, b = kernel.diffusion[0, 0], kernel.theta[0, 0, 0], kernel.theta[0, 0, -dim:]
    assert dim == 1 or np.all(a[~np.eye(dim, dtype=bool)] != 0)
    grid = FourierGrid(Mesh(dim, 12), cutoff=5)
    symbol = kernel.symbol(grid)[0, 0]
    for index in np.ndindex(*grid.shape):
        k = np.array([f[i] for f, i in zip(grid.frequencies, index, strict=True)])
        assert symbol[index] == pytest.approx(c * np.exp(-k @ a @ k + 1j * b @ k), rel=1e-12)


def test_mesh_free_kernels_form_a_semigroup() -> None:
    """exp(L) applied twice is exp(2L): symbols multiply where A and b double."""
    grid = FourierGrid(Mesh(2, 32))
    a, b = np.array([[2e-3, 5e-4], [5e-4, 1e-3]]), np.array([0.01, -0.02])
    one = MeshFree.from_parameters(np.ones((1, 1)), a[None, None], b[None, None])
    two = MeshFree.from_parameters(np.ones((1, 1)), 2 * a[None, None], 2 * b[None, None])
    inner = (slice(None), slice(None), slice(0, 12), slice(0, 12))  # off the Nyquist planes
    assert np.abs(one.symbol(grid)[inner] ** 2 - two.symbol(grid)[inner]).max() < 1e-14


def test_mesh_free_symbol_is_a_gaussian_in_space() -> None:
    """Without drift the kernel is the heat kernel of variance 2A."""
    n, a = 128, 1.2e-3
    kernel = build("mfc", 1, diffusivity=a, drift=0.0, amplitude=1.0)
    symbol = kernel.symbol(FourierGrid(Mesh(1, n)))[0, 0]
    image = np.fft.irfft(symbol, n) * n
    x = np.fft.fftfreq(n)
    heat = np.exp(-(x**2) / (4 * a)) / np.sqrt(4 * np.pi * a)
    assert np.abs(image - heat).max() < 1e-12


def test_mesh_free_norm_is_frobenius_over_the_symmetric_matrix() -> None:
    """Scaled derivative by the off-diagonal entry against the two matrix elements that it moves."""
    kernel = build("mfc", 2)
    square = np.trace(kernel.diffusion[0, 0]) / 2  # type: ignore[attr-defined]
    names = kernel.parameter_names
    scale = dict(zip(names, kernel.scale[0, 0], strict=True))
    assert scale["c"] == 1.0
    assert scale["A[0,0]"] == pytest.approx(square)
    assert scale["b[1]"] == pytest.approx(np.sqrt(square))
    # with G symmetric, ∂/∂a01 = 2 G01, and G01 counts twice: (2 G01 s)² = λ⁴ 2 G01²
    assert (2 * scale["A[0,1]"]) ** 2 == pytest.approx(2 * square**2)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_scaled_stencil_is_made_of_difference_quotients(dim: int) -> None:
    """Central first and second differences by shifting arrays, without any symbol."""
    n = 8
    h = 1.0 / n
    kernel = build("scaled-stencil", dim)
    u = np.random.default_rng(4).standard_normal((n,) * dim)

    def difference(values: np.ndarray, axis: int, order: int) -> np.ndarray:
        ahead, behind = np.roll(values, -1, axis), np.roll(values, 1, axis)
        if order == 1:
            return (ahead - behind) / (2 * h)
        return (ahead - 2 * values + behind) / h**2 if order == 2 else values

    expected = np.zeros_like(u)
    for weight, orders in zip(kernel.theta[0, 0], kernel.indices, strict=True):  # type: ignore[attr-defined]
        term = u
        for axis, order in enumerate(orders):
            term = difference(term, axis, order)
        expected += weight * term
    symbol = kernel.symbol(FourierGrid(Mesh(dim, n)))[0, 0]
    got = np.fft.irfftn(np.fft.rfftn(u) * symbol, s=u.shape, axes=range(dim))
    assert np.abs(got - expected).max() < 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_gaussian_derivatives_of_a_wave(order: int) -> None:
    """width^m d^m/dx^m of a blurred cosine, in closed form: m turns of a quarter period."""
    n, j, width = 32, 3, 0.08
    kernel = build(f"gaussian-derivative:3:{width}", 1)
    theta = np.zeros((1, 1, 4))
    theta[0, 0, order] = 1.0
    x, k = np.arange(n) / n, 2 * np.pi * j
    symbol = kernel.symbol(FourierGrid(Mesh(1, n)), theta)[0, 0]
    got = np.fft.irfft(np.fft.rfft(np.cos(k * x)) * symbol, n)
    turned = np.cos(k * x + order * np.pi / 2)
    expected = (width * k) ** order * np.exp(-0.5 * (width * k) ** 2) * turned
    assert np.abs(got - expected).max() < 1e-13


def test_unresolved_kernels_say_so() -> None:
    narrow = build("mfc", 1, diffusivity=1e-6)
    assert "below the cell size" in str(narrow.unresolved(1 / 64))
    assert narrow.unresolved(1 / 1024) is None


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("stencil:4", {}, "`kernel` stencil: size must be odd; got 'stencil:4'"),
        ("stencil", {"weights": [1, 2, 3, 4]}, "`weights` must have an odd number of points"),
        ("stencil", {"weights": [1, float("nan"), 1]}, "`weights` must be finite"),
        ("stencil", {"weights": "abc"}, "`weights` must hold finite numbers"),
        ("mfc", {"diffusivity": -1.0}, "`diffusivity` must be positive definite; got smallest"),
        ("mfc", {"diffusivity": 0.0}, "`diffusivity` must be positive definite"),
        ("mfc", {"diffusivity": float("inf")}, "`diffusivity` must be finite"),
        ("mfc", {"drift": [1.0, 2.0, 3.0]}, "`drift` must broadcast to shape"),
        ("mfc:3", {}, "`kernel` mfc takes no values"),
        ("spectral:0", {}, "`kernel` spectral: modes must lie in 1 to 32"),
        ("gaussian-derivative:2:-1", {}, "width must lie in"),
        ("gaussian-derivative:x", {}, "order must be a whole number; got 'x'"),
        ("stencl", {}, "did you mean 'stencil'"),
    ],
)
def test_bad_kernels_are_refused(spec: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(spec, 1, **options)
    assert message in str(caught.value)


def test_indefinite_and_asymmetric_diffusion_are_refused() -> None:
    with pytest.raises(InputError, match="positive definite"):
        build("mfc", 2, diffusivity=[[1e-3, 2e-3], [2e-3, 1e-3]])
    with pytest.raises(InputError, match="symmetric"):
        build("mfc", 2, diffusivity=[[1e-3, 2e-4], [1e-4, 1e-3]])


def test_given_weights_reach_the_kernel() -> None:
    flat = build("stencil", 2, weights=list(range(9)))
    assert np.array_equal(flat.theta[0, 0], np.arange(9.0))
    pairs = np.random.default_rng(0).standard_normal((2, 2, 3))
    assert np.array_equal(build("stencil", 1, 2, weights=pairs).theta, pairs)
    assert isinstance(flat, Stencil)


@pytest.mark.parametrize("spec", SPECS)
def test_torch_backend_agrees(spec: str) -> None:
    kernel = build(spec, 2, 2)
    grid = FourierGrid(Mesh(2, 8), kernel.cutoff())
    backend = Backend(library="torch")
    q = np.random.default_rng(3).standard_normal((2, 2, 2, *grid.shape)) * (1 + 0.5j)
    expected = kernel.operator(grid).pullback(q)
    got = kernel.operator(grid, backend).pullback(backend.array(q))
    assert np.abs(backend.numpy(got) - expected).max() < 1e-12 * np.abs(expected).max()
