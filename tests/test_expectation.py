"""Exact expectations against sums over every direction of the randomness: no sampling at all.

The gradient is quadratic in the data. For x = u + Σ_i ξ_i φ_i with independent unit ξ_i its mean is
g(u) + Σ_i [quadratic part at φ_i], whatever the restriction; the φ_i are dense columns here.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradconv.errors import InputError
from gradconv.fields import NOISES, SIGNALS, PixelLaw, RandomField
from gradconv.gradient import FourierGradient, InputSource, expected_gradients
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.problem import Problem
from gradconv.restriction import RESTRICTIONS

SIZES = {1: (8, 16, 32), 2: (4, 8), 3: (3, 6)}


def engine_gradient(problem: Problem, mesh: Mesh, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    engine = FourierGradient(problem.convolution, mesh)
    gradients = engine.gradient(engine.spectrum(x), engine.spectrum(y))
    return np.asarray(gradients)


def shaped(power: np.ndarray | float, mesh: Mesh) -> np.ndarray:
    """Directions φ_i of a stationary field with mean mode power `power`, ``(size, *shape)``."""
    unit = np.eye(mesh.size).reshape(mesh.size, *mesh.shape)
    axes = tuple(range(1, mesh.dim + 1))
    root = np.sqrt(np.broadcast_to(power, mesh.shape) * mesh.size)
    return np.fft.ifftn(np.fft.fftn(unit, axes=axes) * root, axes=axes).real


def brute_force(problem: Problem, hierarchy: MeshHierarchy) -> np.ndarray:
    """Mean gradient of every level, one direction of the randomness after the other."""
    source = InputSource(problem, hierarchy, 0)
    levels = []
    for level, mesh in enumerate(hierarchy.meshes):
        refining = problem.setting == "refinement"
        noise_mesh = mesh if refining else hierarchy.finest

        def down(x: np.ndarray, level: int = level) -> np.ndarray:
            """From the mesh that the signal is taken on to the level."""
            if problem.setting == "refinement":
                return source.restrict(x)
            return source.descend(x)[level]

        signal_mesh = problem.source_mesh(noise_mesh)
        total = np.zeros(problem.convolution.theta.shape)
        mean, square = 0.0, 0.0
        if isinstance(problem.signal, RandomField):
            fields = shaped(problem.signal.spectrum(signal_mesh), signal_mesh)[:, None]
            x = problem.noise.gain * down(fields)
            y = down(source.target_of(fields, signal_mesh))
            total = total + engine_gradient(problem, mesh, x, y).sum(0)
            seen_by_noise = down(fields) if refining else fields
            square = float(np.mean(np.sum(seen_by_noise**2, axis=0)))
            constant = np.full((1, 1, *mesh.shape), problem.noise.offset)
            total = total + engine_gradient(problem, mesh, constant, 0 * constant)[0]
        else:
            u = problem.draw_signal(signal_mesh, 0, 0)[None]
            y = down(source.target_of(u, signal_mesh))
            x = problem.noise.gain * down(u) + problem.noise.offset
            total = total + engine_gradient(problem, mesh, x, y)[0]
            seen = (down(u) if refining else u)[0]
        for channel in range(problem.channels):
            if isinstance(problem.noise, PixelLaw) and not problem.signal.random:
                # pixel by pixel, each with the variance that its own value gives
                spread = np.sqrt(problem.noise.variance(seen[channel], seen[channel] ** 2))
                fields = np.eye(noise_mesh.size).reshape(-1, *noise_mesh.shape) * spread
            else:
                fields = shaped(problem.noise.spectrum(noise_mesh, mean, square), noise_mesh)
            noise = np.zeros((len(fields), problem.channels, *noise_mesh.shape))
            noise[:, channel] = fields
            x = noise if refining else down(noise)
            total = total + engine_gradient(problem, mesh, x, np.zeros_like(x)).sum(0)
        levels.append(total)
    return np.array(levels)


@pytest.mark.parametrize("restriction", RESTRICTIONS.names)
@pytest.mark.parametrize("setting", ["coarsening", "refinement", "direct"])
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(
    ("signal", "target", "noise"),
    [
        ("sobolev:1", "shift:0.1", "power:1:0.3"),
        ("cartoon", "derivative:0", "matern:0.7:0.1"),
        ("cartoon", "identity", "salt-and-pepper:0.3"),
        ("sobolev:1", "shift:0.1", "salt-and-pepper:0.3"),
    ],
)
def test_against_every_direction(
    restriction: str, setting: str, dim: int, signal: str, target: str, noise: str
) -> None:
    route = "direct" if setting == "direct" else "chain"
    mode = "refinement" if setting == "refinement" else "coarsening"
    for kernel in ("stencil", "mfc"):
        problem = Problem(kernel, signal, target, noise, restriction, mode, dim, route=route)
        hierarchy = MeshHierarchy(dim, SIZES[dim])
        got, magnitude = expected_gradients(problem, hierarchy)
        expected = brute_force(problem, hierarchy)
        error = np.abs(got - expected).reshape(len(hierarchy), -1).max(1)
        assert np.all(error < 1e-12 * np.abs(expected).max()), (kernel, error)
        assert np.all(np.isfinite(magnitude) & (magnitude > 0))


@pytest.mark.parametrize("noise", NOISES.names)
@pytest.mark.parametrize("setting", ["coarsening", "refinement"])
def test_every_noise(noise: str, setting: str) -> None:
    spec = "matern:1:0.1" if noise == "matern" else noise
    problem = Problem("stencil", "cartoon", "identity", spec, "average", setting, 1)
    hierarchy = MeshHierarchy(1, (8, 16, 32))
    got, _ = expected_gradients(problem, hierarchy)
    assert np.abs(got - brute_force(problem, hierarchy)).max() < 1e-13
    if noise != "none":  # negative control: the noise is seen
        silent = Problem("stencil", "cartoon", "identity", "none", "average", setting, 1)
        assert np.abs(got - expected_gradients(silent, hierarchy)[0]).max() > 1e-5


@pytest.mark.parametrize("noise", ["poisson:5", "salt-and-pepper:0.3", "uniform:0.4"])
@pytest.mark.parametrize("restriction", RESTRICTIONS.names)
@pytest.mark.parametrize("setting", ["coarsening", "refinement", "direct"])
def test_noise_that_follows_the_signal(noise: str, restriction: str, setting: str) -> None:
    """Channels and pixels of unequal variance; a flat spectrum at the mean variance is seen."""
    route = "direct" if setting == "direct" else "chain"
    mode = "refinement" if setting == "refinement" else "coarsening"
    hierarchy = MeshHierarchy(2, (4, 8, 16))
    choices = ("cartoon", "identity", noise, restriction, mode, 2)
    problem = Problem("stencil", *choices, channels=2, route=route)
    got, _ = expected_gradients(problem, hierarchy)
    assert np.abs(got - brute_force(problem, hierarchy)).max() < 1e-13
    if noise != "uniform:0.4" and restriction == "injection" and mode == "coarsening":
        u = InputSource(problem, hierarchy, 0).members[0][0][-1][0]
        power = problem.noise.spectrum(hierarchy.finest, u.mean(), np.mean(u**2))
        flat = problem.restriction.spectra(np.full((16, 16), power), 2, hierarchy.sizes, route)
        exact = problem.restriction.pixel_power(problem.noise.variance(u, u**2), 2, 4, route)
        assert np.abs(exact - flat[0]).max() > 1e-3 * flat[0].max()


@pytest.mark.parametrize("signal", ["band-limited:3", "sobolev:0.5", "plane-wave:3", "cartoon"])
def test_every_signal(signal: str) -> None:
    assert signal.partition(":")[0] in SIGNALS.names
    problem = Problem("mfc", signal, "blur", "white:0.1", "full_weighting", "coarsening", 1)
    hierarchy = MeshHierarchy(1, (8, 16, 32))
    got, _ = expected_gradients(problem, hierarchy)
    assert np.abs(got - brute_force(problem, hierarchy)).max() < 1e-13


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_fluctuate_independently(channels: int) -> None:
    """Several channels against a large sample, each component within 5 standard errors."""
    problem = Problem("stencil", "sobolev:1", "shift:0.1", "pixel:0.5", dim=1, channels=channels)
    hierarchy = MeshHierarchy(1, (4, 8, 16))
    expected, _ = expected_gradients(problem, hierarchy)
    source = InputSource(problem, hierarchy, 5)
    for level, (mesh, data) in enumerate(
        zip(hierarchy.meshes, source.sample(range(4000)), strict=True)
    ):
        gradients = engine_gradient(problem, mesh, data.x, data.y)
        error = gradients.mean(0) - expected[level]
        spread = gradients.std(0) / np.sqrt(len(gradients))
        assert np.abs(error / spread).max() < 5.0


def test_members_of_a_folder_are_averaged(tmp_path: object) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        np.save(f"{tmp_path}/{i}.npy", rng.random((16, 16)))
    hierarchy = MeshHierarchy(2, (4, 8, 16))
    whole = Problem("stencil", f"image:{tmp_path}", noise="pixel:0.5", dim=2)
    got, _ = expected_gradients(whole, hierarchy)
    single = []
    for i in range(3):
        one = Problem("stencil", f"image:{tmp_path}/{i}.npy", noise="pixel:0.5", dim=2)
        single.append(expected_gradients(one, hierarchy)[0])
    assert np.abs(got - np.mean(single, axis=0)).max() < 1e-15


def test_walls_have_no_exact_expectation() -> None:
    hierarchy = MeshHierarchy.powers_of_two(1, 3, 5)
    problem = Problem("stencil", noise="pixel:0.5", dim=1, boundary="zero")
    with pytest.raises(InputError, match=r"`boundary` must be periodic .*; got zero"):
        expected_gradients(problem, hierarchy)
