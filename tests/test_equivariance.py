"""Properties that a convolution on a mesh has, over draws of the public strategies.

Translations, the factor h^d of the loss, the semigroup of mesh-free kernels, Fourier space against
dense matrices, adjoints: each with something that lacks the property, which must fail.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gradconv import Problem
from gradconv.gradient import FourierGradient, autograd_gradients
from gradconv.kernels import KERNELS, Kernel
from gradconv.kernels.mfc import MeshFree
from gradconv.kernels.stencil import Stencil
from gradconv.mesh import FourierGrid, Mesh
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d
from gradconv.testing import CheckFailed, assert_adjoint, assert_semigroup, assert_taylor
from gradconv.testing import strategies as gst

LAYERS = (MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d)
# Symbols that do not know the mesh.
MESH_FREE = ("gaussian-derivative", "mfc", "spectral")


def apply(kernel: Kernel, x: np.ndarray, boundary: str = "periodic") -> np.ndarray:
    """Convolve fields ``(batch, in, *n)`` in real space."""
    field, theta = (torch.from_numpy(np.array(a, dtype=float)) for a in (x, kernel.theta))
    return np.asarray(kernel.apply(field, theta, boundary))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    return float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max(), 1e-300))


def fourier(kernel: Kernel, mesh: Mesh, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    engine = FourierGradient(kernel, mesh)
    return np.asarray(engine.gradient(engine.spectrum(x), engine.spectrum(y)))


def names(kernels: Any = tuple(KERNELS.names)) -> Any:
    return pytest.mark.parametrize("name", kernels)


@st.composite
def kernels_on_meshes(
    draw: st.DrawFn, name: str, min_n: int = 3, max_size: int = 10**3
) -> tuple[Kernel, Mesh]:
    """Draw a kernel of one family, with drawn parameters, and a mesh on which it has a meaning."""
    spec = draw(gst.kernels(name, **({"modes": 1} if name == "spectral" else {})))
    dim, channels = draw(gst.dims()), draw(st.integers(1, 2))
    options = draw(gst.kernel_options(KERNELS[name].options, dim=dim, channels=channels))
    if options.weights is not None:
        spec = name
    problem = Problem(spec, dim=dim, channels=channels, options=options)
    return problem.convolution, draw(gst.meshes(dim, min_n=min_n, max_size=max_size))


def fields_for(kernel: Kernel, mesh: Mesh, **options: Any) -> st.SearchStrategy[np.ndarray]:
    return gst.fields(mesh, channels=kernel.in_channels, batch=1, **options)


# Translations


def shift_error(kernel: Kernel, x: np.ndarray, cells: tuple[int, ...], boundary: str) -> float:
    axes = tuple(range(-kernel.dim, 0))
    first = apply(kernel, np.roll(x, cells, axes), boundary)
    return distance(first, np.roll(apply(kernel, x, boundary), cells, axes))


@names()
@settings(max_examples=25)
@given(data=st.data())
def test_shifts_by_whole_cells_commute(name: str, data: st.DataObject) -> None:
    kernel, mesh = data.draw(kernels_on_meshes(name))
    x = data.draw(fields_for(kernel, mesh))
    cells = tuple(data.draw(st.integers(0, mesh.n - 1)) for _ in range(mesh.dim))
    axes = tuple(range(-mesh.dim, 0))
    moved, y = apply(kernel, np.roll(x, cells, axes)), apply(kernel, x)
    size = np.abs(kernel.symbol(FourierGrid(mesh))).max() * np.abs(x).sum()
    assert np.abs(moved - np.roll(y, cells, axes)).max() <= 1e-13 * size


@names(("stencil", "mfc", "scaled-stencil"))
@pytest.mark.parametrize("boundary", ["zero", "reflecting"])
def test_walls_break_shifts(name: str, boundary: str) -> None:
    """Negative control: half a box further the wall is elsewhere."""
    kernel, mesh = Problem(name, dim=2).convolution, Mesh(2, 8)
    x = np.random.default_rng(0).standard_normal((1, 1, *mesh.shape))
    assert shift_error(kernel, x, (4, 0), "periodic") < 1e-13
    assert shift_error(kernel, x, (4, 0), boundary) > 1e-2


def fraction_error(kernel: Kernel, wave: gst.Waves, mesh: Mesh, shift: tuple[float, ...]) -> float:
    """K of the shifted function against the shift, by interpolation, of K of the function."""
    first = apply(kernel, wave.shifted(shift).on(mesh)[None, None])
    modes = np.fft.fftn(apply(kernel, wave.on(mesh)[None, None])[0, 0])
    k = np.meshgrid(*[2 * np.pi * np.fft.fftfreq(mesh.n, mesh.h)] * mesh.dim, indexing="ij")
    phase = np.exp(1j * sum(a * s for a, s in zip(k, shift, strict=True)))
    return float(np.abs(first[0, 0] - np.fft.ifftn(modes * phase).real).max())


@names()
@settings(max_examples=20)
@given(data=st.data())
def test_shifts_by_fractions_of_a_cell_commute_on_resolved_fields(
    name: str, data: st.DataObject
) -> None:
    wave = data.draw(gst.waves(modes=2))
    mesh = data.draw(gst.meshes(wave.dim, min_n=5, max_size=10**3))
    spec = data.draw(gst.kernels(name, mesh=mesh))
    kernel = Problem(spec, dim=mesh.dim).convolution
    shift = tuple(data.draw(gst.round_numbers(-0.5, 0.5)) for _ in range(mesh.dim))
    size = sum(abs(amplitude) for _, amplitude, _ in wave.terms)
    assert fraction_error(kernel, wave, mesh, shift) < 1e-11 * max(1.0, size)


def test_aliases_break_shifts_by_fractions() -> None:
    """Negative control: a wave beyond the Nyquist mode is another one on the mesh."""
    kernel, mesh = Problem("mfc", dim=1).convolution, Mesh(1, 8)
    resolved, aliased = (gst.Waves((((j,), 1.0, 0.0),)) for j in (1, 7))
    assert fraction_error(kernel, resolved, mesh, (0.3 * mesh.h,)) < 1e-14
    assert fraction_error(kernel, aliased, mesh, (0.3 * mesh.h,)) > 0.1


# One operator on all meshes


def response(kernel: Kernel, wave: gst.Waves, mesh: Mesh) -> np.ndarray:
    """K u at the vertices of the mesh."""
    return apply(kernel, wave.on(mesh)[None, None])[0, 0]


@settings(max_examples=60)
@given(gst.mfc_parameters(), st.data())
def test_mesh_free_kernels_act_as_their_formula_says(
    parameters: gst.MFCParameters, data: st.DataObject
) -> None:
    """A wave cos(k·x + p) becomes |σ| cos(k·x + p + arg σ), whatever the mesh: no transform."""
    wave = data.draw(gst.waves(parameters.dim, modes=2))
    mesh = data.draw(gst.meshes(parameters.dim, min_n=5, max_size=10**3))
    expected = np.zeros(mesh.shape)
    for j, amplitude, phase in wave.terms:
        k = 2 * np.pi * np.array(j)
        damped = np.exp(-k @ parameters.diffusion[0, 0] @ k) * parameters.amplitude[0][0]
        turned = phase + k @ np.array(parameters.drift[0][0]) / (2 * np.pi)
        expected = expected + gst.Waves(((j, amplitude * damped, turned),)).on(mesh)
    found = response(parameters.kernel(), wave, mesh)
    assert np.abs(found - expected).max() < 1e-12 * (1 + np.abs(expected).max())


@names(MESH_FREE)
@settings(max_examples=20)
@given(data=st.data())
def test_mesh_free_kernels_are_one_operator(name: str, data: st.DataObject) -> None:
    wave = data.draw(gst.waves(modes=2))
    coarse = data.draw(gst.meshes(wave.dim, min_n=5, max_size=500))
    fine = Mesh(coarse.dim, 2 * coarse.n)
    kernel = Problem(data.draw(gst.kernels(name, mesh=coarse)), dim=wave.dim).convolution
    shared = response(kernel, wave, fine)[(slice(None, None, 2),) * wave.dim]
    assert np.abs(response(kernel, wave, coarse) - shared).max() < 1e-12 * (
        1 + np.abs(shared).max()
    )


@names(sorted(set(KERNELS.names) - set(MESH_FREE)))
def test_stencils_are_another_operator_on_each_mesh(name: str) -> None:
    """Negative control."""
    kernel, wave = Problem(name, dim=1).convolution, gst.Waves((((2,), 1.0, 0.1),))
    shared = response(kernel, wave, Mesh(1, 16))[::2]
    assert np.abs(response(kernel, wave, Mesh(1, 8)) - shared).max() > 0.01


# The factor h^d


@names(MESH_FREE)
@settings(max_examples=15)
@given(data=st.data())
def test_gradients_of_the_mean_do_not_depend_on_the_mesh(name: str, data: st.DataObject) -> None:
    """Resolved data: the gradient of ½ h^d Σ r² is that of ½ ∫ r², and of ½ Σ r² grows by 2^d."""
    wave, target = (data.draw(gst.waves(2, modes=1)) for _ in range(2))
    coarse = data.draw(gst.meshes(2, min_n=5, max_size=200))
    kernel = Problem(data.draw(gst.kernels(name, mesh=coarse)), dim=2).convolution
    means, sums = [], []
    for mesh in (coarse, Mesh(2, 2 * coarse.n)):
        x, y = (u.on(mesh)[None, None] for u in (wave, target))
        for gradient in (fourier(kernel, mesh, x, y), autograd_gradients(kernel, mesh, x, y)):
            means.append(gradient)
            sums.append(gradient * mesh.size)
    size = np.abs(means).max()
    assume(size > 1e-6)
    assert max(np.abs(m - means[0]).max() for m in means) < 1e-9 * size
    # negative control: sums are apart by the number of cells of each
    ratio = np.abs(sums[2]).max() / np.abs(sums[0]).max()
    assert ratio == pytest.approx(4.0, rel=1e-6)


# The semigroup


def family(parameters: gst.MFCParameters, mesh: Mesh, power: float = 1.0) -> Any:
    """K(t) = exp(t (∇·A∇ + b·∇)); with a power other than 1 of t, no semigroup."""

    def at(time: float) -> Any:
        def convolve(x: np.ndarray) -> np.ndarray:
            if time == 0:
                return x
            a, b = parameters.diffusion * time**power, np.array(parameters.drift) * time
            kernel = MeshFree.from_parameters(np.ones((1, 1)), a, b)
            return apply(kernel, x[None, None])[0, 0]

        return convolve

    return at


@settings(max_examples=15)
@given(gst.mfc_parameters(widths=(0.01, 0.1)), gst.round_numbers(0.1, 2.0), st.data())
def test_mesh_free_kernels_are_a_semigroup(
    parameters: gst.MFCParameters, time: float, data: st.DataObject
) -> None:
    mesh = data.draw(gst.meshes(parameters.dim, min_n=5, max_size=500))
    shape = {"shape": mesh.shape, "dim": mesh.dim, "modes": 1, "tolerance": 1e-11}
    assert_semigroup(family(parameters, mesh), time, 0.5, **shape)


@pytest.mark.parametrize("dim", [1, 2])
def test_widths_do_not_add_up(dim: int) -> None:
    """Negative control: with A growing as t² it is the widths that add up, and no semigroup."""
    widths = (((0.2,) * dim,),)
    parameters = gst.MFCParameters(((1.0,),), widths, (((0.0,) * (dim - 1),),), (((0.1,) * dim,),))
    mesh = Mesh(dim, 9)
    shape = {"shape": mesh.shape, "dim": dim, "modes": 1}
    assert_semigroup(family(parameters, mesh), 1.0, 0.5, **shape)
    with pytest.raises(CheckFailed, match="K\\(s\\) K\\(t\\)"):
        assert_semigroup(family(parameters, mesh, 2.0), 1.0, 0.5, **shape)


# Dense matrices


def matrix(image: np.ndarray) -> np.ndarray:
    """Circulant matrix ``(out·N, in·N)`` from responses ``(out, in, *n)`` to a unit impulse."""
    out, in_, n, *rest = image.shape
    cells = np.array(list(product(range(n), repeat=1 + len(rest))))
    lags = (cells[:, None] - cells[None]) % n  # (N, N, d)
    dense = image[(slice(None), slice(None), *np.moveaxis(lags, -1, 0))]
    return np.swapaxes(dense, 1, 2).reshape(out * len(cells), in_ * len(cells))


def images(kernel: Kernel, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Responses to a unit impulse of K, ``(out, in, *n)``, and of ∂K/∂θ, ``(…, *θ)``."""
    theta = torch.from_numpy(np.array(kernel.theta, dtype=float))
    impulse = torch.zeros((kernel.in_channels, kernel.in_channels, *mesh.shape)).double()
    for channel in range(kernel.in_channels):
        impulse[(channel, channel, *(0,) * mesh.dim)] = 1.0

    def act(parameters: torch.Tensor) -> torch.Tensor:
        return kernel.apply(impulse, parameters, "periodic").transpose(0, 1)

    slopes = torch.autograd.functional.jacobian(act, theta)
    return act(theta).numpy(), slopes.numpy()


def dense_gradient(
    kernel: Kernel, mesh: Mesh, x: np.ndarray, y: np.ndarray, transposed: bool = False
) -> np.ndarray:
    """h^d ⟨∂_jK x, K x − y⟩ with matrices: no Fourier transform of the data."""
    image, slopes = images(kernel, mesh)
    residual = matrix(image) @ x.ravel() - y.ravel()
    found = np.zeros(kernel.theta.shape)
    for index in np.ndindex(*kernel.theta.shape):
        slope = matrix(slopes[(..., *index)])
        found[index] = (
            mesh.h**mesh.dim * residual @ ((slope.T if transposed else slope) @ x.ravel())
        )
    return found


@names()
@settings(max_examples=12)
@given(data=st.data())
def test_fourier_gradients_equal_dense_ones(name: str, data: st.DataObject) -> None:
    kernel, mesh = data.draw(kernels_on_meshes(name, max_size=30))
    x, y = (data.draw(fields_for(kernel, mesh)) for _ in range(2))
    expected = dense_gradient(kernel, mesh, x, y)
    found = fourier(kernel, mesh, x, y)[0]
    assert np.abs(found - expected).max() < 1e-11 * (1.0 + np.abs(expected).max())


@names()
def test_dense_gradients_tell_a_transposed_kernel(name: str) -> None:
    """Negative control."""
    spec = "spectral:2" if name == "spectral" else name
    kernel, mesh = Problem(spec, dim=1).convolution, Mesh(1, 9)
    x, y = np.random.default_rng(0).standard_normal((2, 1, 1, 9))
    found, dense, wrong = (
        kernel.scale * gradient  # one unit for all components
        for gradient in (
            fourier(kernel, mesh, x, y)[0],
            dense_gradient(kernel, mesh, x, y),
            dense_gradient(kernel, mesh, x, y, transposed=True),
        )
    )
    assert distance(found, dense) < 1e-12
    assert distance(found, wrong) > 1e-2


# Adjoints


def adjoint_of(kernel: Kernel) -> Kernel:
    """K*, whose symbol is the conjugate transpose: weights mirrored, or the drift reversed."""
    swapped = np.swapaxes(kernel.theta, 0, 1)
    if isinstance(kernel, Stencil):
        return Stencil(kernel.dim, np.array(swapped[..., ::-1]))
    theta = np.array(swapped)
    theta[..., -kernel.dim :] *= -1.0
    return MeshFree(kernel.dim, theta)


@names(("stencil", "mfc"))
@settings(max_examples=20)
@given(data=st.data())
def test_adjoints_are_mirrored_kernels(name: str, data: st.DataObject) -> None:
    kernel, mesh = data.draw(kernels_on_meshes(name, max_size=500))
    assume(np.abs(apply(kernel, np.ones((1, kernel.in_channels, *mesh.shape)))).max() > 1e-9)
    adjoint = adjoint_of(kernel)
    assert_adjoint(
        lambda x: apply(kernel, x),
        lambda y: apply(adjoint, y),
        shape=(1, kernel.in_channels, *mesh.shape),
        tolerance=1e-11,
    )


@names(("stencil", "mfc"))
def test_a_kernel_is_not_its_own_adjoint(name: str) -> None:
    """Negative control: the default kernels are not symmetric."""
    kernel = Problem(name, dim=2).convolution
    with pytest.raises(CheckFailed, match="inner products differ"):
        assert_adjoint(lambda x: apply(kernel, x), lambda y: apply(kernel, y), shape=(1, 1, 16, 16))


# Layers


def layer_of(parameters: gst.MFCParameters) -> torch.nn.Module:
    """Mesh-free layer with these kernels."""
    amplitude = np.array(parameters.amplitude)
    make = LAYERS[parameters.dim - 1]
    layer = make(*amplitude.shape[::-1], bias=False, path="torch", dtype=torch.float64)
    layer.set_physical(
        amplitude=amplitude[..., None],
        diffusion=parameters.diffusion[:, :, None],
        drift=np.array(parameters.drift)[:, :, None],
    )
    return layer


@settings(max_examples=25)
@given(st.data())
def test_layers_are_the_kernels_of_the_sweep(data: st.DataObject) -> None:
    """The layer on a mesh against the kernel that sweeps use; it commutes with shifts too."""
    mesh = data.draw(gst.meshes(min_n=3, max_size=500))
    channels = data.draw(st.integers(1, 2))
    parameters = data.draw(
        gst.mfc_parameters(
            mesh=mesh,
            resolved=True,
            widths=(0.02, 0.6),
            in_channels=channels,
            out_channels=channels,
        )
    )
    kernel, layer = parameters.kernel(), layer_of(parameters)
    x = data.draw(fields_for(kernel, mesh))
    found = layer(torch.from_numpy(x)).detach().numpy()
    assert np.abs(found - apply(kernel, x)).max() < 1e-11
    cells = tuple(data.draw(st.integers(0, mesh.n - 1)) for _ in range(mesh.dim))
    axes = tuple(range(-mesh.dim, 0))
    moved = layer(torch.from_numpy(np.roll(x, cells, axes))).detach().numpy()
    assert np.abs(moved - np.roll(found, cells, axes)).max() < 1e-11


@settings(max_examples=15)
@given(gst.mfc_parameters(2, widths=(0.2, 0.5), max_drift=0.2), gst.waves(2, modes=2))
def test_layers_have_the_gradient_of_the_sweep(
    parameters: gst.MFCParameters, wave: gst.Waves
) -> None:
    mesh = Mesh(2, 7)
    layer, x = layer_of(parameters), wave.on(mesh)[None, None]
    (0.5 * layer(torch.from_numpy(x)).square().mean()).backward()
    expected = fourier(parameters.kernel(), mesh, x, 0 * x)[0, 0, 0]
    assert abs(float(layer.amplitude.grad) - expected[0]) < 1e-10 * (1 + abs(expected[0]))
    drift = layer.drift.grad.ravel().numpy() / float(layer.length)
    assert np.abs(drift - expected[-2:]).max() < 1e-10 * (1 + np.abs(expected).max())


@pytest.mark.parametrize(("dims", "count", "layers"), [((1, 2), 6, 2), ((3,), 1, 1)])
def test_gradients_of_networks_pass_the_taylor_test(
    dims: tuple[int, ...], count: int, layers: int
) -> None:
    choices = {"activation": "tanh", "mesh_free": True, "norm": "none", "max_layers": layers}

    @settings(max_examples=count)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        dim = data.draw(st.sampled_from(dims))
        module = data.draw(gst.modules(dim=dim, **choices))
        x = data.draw(gst.fields(Mesh(dim, 8), batch=1, modes=2))
        assume(np.ptp(x) > 0.1)
        assert_taylor(module, data=torch.from_numpy(x), each=False)

    check()
