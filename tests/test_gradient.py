"""The exact Fourier gradient against torch autograd and against loops over cells."""

from __future__ import annotations

import numpy as np
import pytest

from gradconv.backend import Backend
from gradconv.errors import InputError
from gradconv.gradient import FourierGradient, InputSource, autograd_gradients
from gradconv.kernels import KERNELS
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.problem import Problem
from gradconv.restriction import RESTRICTIONS

SPECS = [f"{name}:2" if name == "spectral" else name for name in KERNELS.names]
HIERARCHIES = {1: (7, 14, 28), 2: (6, 12), 3: (5, 10)}  # odd coarse sizes as well


def fourier(problem: Problem, mesh: Mesh, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    engine = FourierGradient(problem.convolution, mesh)
    return np.asarray(engine.gradient(engine.spectrum(x), engine.spectrum(y)))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("target", ["identity", "shift:0.07", "derivative:0", "blur"])
def test_fourier_equals_autograd(spec: str, dim: int, channels: int, target: str) -> None:
    problem = Problem(spec, "sobolev:1", target, "pixel:0.3", dim=dim, channels=channels)
    source = InputSource(problem, MeshHierarchy(dim, HIERARCHIES[dim]), seed=3)
    for mesh, level in zip(source.hierarchy.meshes, source.sample([0, 1]), strict=True):
        got = fourier(problem, mesh, level.x, level.y)
        expected = autograd_gradients(problem.convolution, mesh, level.x, level.y)
        worst = np.abs(got - expected).max() / np.abs(expected).max()
        assert worst < 1e-10, f"{mesh}: relative error {worst:.1e}"


@pytest.mark.parametrize("name", RESTRICTIONS.names)
@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
def test_fourier_equals_autograd_for_every_restriction(name: str, setting: str) -> None:
    problem = Problem("mfc", "cartoon", "shift:0.1", "pixel:0.3", name, setting, 2)
    source = InputSource(problem, MeshHierarchy(2, (8, 16, 32)), seed=1)
    for mesh, level in zip(source.hierarchy.meshes, source.sample([4]), strict=True):
        got = fourier(problem, mesh, level.x, level.y)
        expected = autograd_gradients(problem.convolution, mesh, level.x, level.y)
        assert np.abs(got - expected).max() < 1e-10 * np.abs(expected).max()


def test_stencil_gradient_against_loops() -> None:
    """From the definition, without any transform: g_m = h² Σ_x r(x) u(x + m h)."""
    n = 8
    problem = Problem("stencil", dim=2)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1, 1, n, n))
    weights = problem.convolution.theta.reshape(3, 3)
    out = np.zeros((n, n))
    for a in range(3):
        for b in range(3):
            out += weights[a, b] * np.roll(x[0, 0], (1 - a, 1 - b), (0, 1))
    residual = out - y[0, 0]
    expected = [
        np.mean(residual * np.roll(x[0, 0], (1 - a, 1 - b), (0, 1)))
        for a in range(3)
        for b in range(3)
    ]
    got = fourier(problem, Mesh(2, n), x, y)[0, 0, 0]
    assert np.abs(got - expected).max() < 1e-15
    sums = np.array(expected) * n * n  # negative control: a sum instead of a mean is far off
    assert np.abs(got - sums).max() > 0.1


@pytest.mark.parametrize("spec", SPECS)
def test_one_target_serves_all_replicates(spec: str) -> None:
    problem = Problem(spec, dim=1)
    mesh = Mesh(1, 16)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((3, 1, 16)), rng.standard_normal((1, 1, 16))
    together = fourier(problem, mesh, x, y)
    alone = np.concatenate([fourier(problem, mesh, x[i : i + 1], y) for i in range(3)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_torch_backend(spec: str, dtype: str, tolerance: float) -> None:
    problem = Problem(spec, dim=2)
    mesh = Mesh(2, 32)
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 2, 1, 32, 32))
    expected = fourier(problem, mesh, x, y)
    for library in ("numpy", "torch"):
        backend = Backend(dtype=dtype, library=library)
        engine = FourierGradient(problem.convolution, mesh, backend)
        modes = [engine.spectrum(backend.array(v)) for v in (x, y)]
        got = backend.numpy(engine.gradient(*modes))
        assert np.abs(got - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.gpu
@pytest.mark.parametrize("spec", SPECS)
def test_gpu_agrees(spec: str) -> None:
    problem = Problem(spec, dim=2)
    mesh = Mesh(2, 64)
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 2, 1, 64, 64))
    backend = Backend(device="cuda")
    engine = FourierGradient(problem.convolution, mesh, backend)
    got = backend.numpy(engine.gradient(*[engine.spectrum(backend.array(v)) for v in (x, y)]))
    expected = fourier(problem, mesh, x, y)
    assert np.abs(got - expected).max() < 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("boundary", ["zero", "reflecting"])
def test_walls_against_loops(boundary: str) -> None:
    n = 6
    problem = Problem("stencil", dim=1, boundary=boundary)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1, 1, n))
    mode = "constant" if boundary == "zero" else "symmetric"
    padded = np.pad(x[0, 0], 1, mode=mode)
    shifted = np.stack([padded[m : m + n] for m in range(3)])
    residual = problem.convolution.theta[0, 0] @ shifted - y[0, 0]
    expected = shifted @ residual / n
    got = autograd_gradients(problem.convolution, Mesh(1, n), x, y, boundary)[0, 0, 0]
    assert np.abs(got - expected).max() < 1e-15


def test_libraries_are_named() -> None:
    with pytest.raises(InputError, match="`library` must be one of auto, numpy, torch; got"):
        Backend(library="tourch")
