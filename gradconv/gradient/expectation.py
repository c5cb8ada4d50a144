"""Expected gradients without sampling, wherever the law of the data is known.

The gradient is quadratic in the data and the convolution commutes with shifts, so that its mean
needs only the mean power of each mode. Stationary fluctuations (noise, random signals) have
uncorrelated modes on the mesh they are drawn on; a restriction pushes their power down by its
|transfer|². Noise that depends on a fixed signal is independent from pixel to pixel instead, with a
variance of its own each. Deterministic signals are restricted as they are.
"""

from __future__ import annotations

import numpy as np

from gradconv.errors import InputError
from gradconv.fields import PixelLaw, RandomField
from gradconv.gradient.fourier import FourierGradient
from gradconv.gradient.inputs import InputSource
from gradconv.mesh import FourierGrid, Mesh, MeshHierarchy
from gradconv.problem import Problem


def has_expectation(problem: Problem) -> bool:
    """Whether `expected_gradients` can be computed for the problem."""
    return problem.boundary == "periodic"


def expected_gradients(
    problem: Problem, hierarchy: MeshHierarchy, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Exact mean gradient of every level.

    Parameters
    ----------
    problem : Problem
        A periodic problem.
    hierarchy : MeshHierarchy
        The levels.
    seed : int
        Seed of the run (deterministic signals do not depend on it).

    Returns
    -------
    expected : ndarray
        Shape ``(levels, out, in, p)``.
    magnitude : ndarray
        Shape ``(levels,)``: a bound on the norms of the input's and the target's part added, before
        they cancel; rounding errors of `expected` are some multiple of machine epsilon times this.

    Raises
    ------
    InputError
        If the problem is not periodic.
    """
    if not has_expectation(problem):
        raise InputError(
            f"`boundary` must be periodic for an exact expectation; got {problem.boundary}"
        )
    source = InputSource(problem, hierarchy, seed)
    covariances, crosses = _fluctuations(problem, hierarchy, source)
    members = [] if problem.signal.random else source.members
    means, sizes = [], []
    for level, mesh in enumerate(hierarchy.meshes):
        engine = FourierGradient(problem.convolution, mesh)
        spectra = [engine.grid.crop(_half(s[level])) for s in (covariances, crosses)]
        parts = []
        for signals, targets in members:
            x = problem.noise.gain * signals[level] + problem.noise.offset
            parts.append((engine.spectrum(x[None]), engine.spectrum(targets[level][None])))
        if not members:
            x = np.full((1, problem.channels, *mesh.shape), problem.noise.offset)
            parts.append((engine.spectrum(x), engine.spectrum(np.zeros_like(x))))
        each = [engine.expected(x, y, *spectra) for x, y in parts]
        zero = [engine.expected(x, 0 * y, spectra[0], 0 * spectra[1]) for x, y in parts]
        scale = problem.convolution.scale
        scaled = [[np.linalg.norm(scale * g) for g in gradients] for gradients in (each, zero)]
        means.append(np.mean(each, axis=0))
        # |input part| + |target part| <= 2 |input part| + |gradient|
        sizes.append(float(np.mean(2 * np.array(scaled[1]) + np.array(scaled[0]))))
    return np.array(means), np.array(sizes)


def scaled_expectation(
    problem: Problem, hierarchy: MeshHierarchy, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Exact mean gradient of every level in the unit of the kernel's scale, as one row a level.

    Parameters
    ----------
    problem, hierarchy, seed
        As in `expected_gradients`.

    Returns
    -------
    expected : ndarray
        Shape ``(levels, out * in * p)``.
    magnitude : ndarray
        As in `expected_gradients`.

    Raises
    ------
    InputError
        If the problem is not periodic.
    """
    expected, magnitude = expected_gradients(problem, hierarchy, seed)
    return (expected * problem.convolution.scale).reshape(len(hierarchy), -1), magnitude


def _half(spectrum: np.ndarray) -> np.ndarray:
    return spectrum[..., : spectrum.shape[-1] // 2 + 1]


def _multiplier(problem: Problem, mesh: Mesh) -> np.ndarray:
    """m(j) in full FFT order, shape ``mesh.shape``."""
    half = problem.target.on_grid(FourierGrid(mesh))
    mirrored = np.conj(half)
    for axis in range(mesh.dim - 1):
        mirrored = np.roll(np.flip(mirrored, axis), 1, axis)
    inner = mirrored[..., 1 : (mesh.n + 1) // 2][..., ::-1]
    return np.concatenate([half, inner], axis=-1)


def _fluctuations(
    problem: Problem, hierarchy: MeshHierarchy, source: InputSource
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Covariance of the input and cross-covariance with the target, one spectrum a level."""
    noise = noise_spectra(problem, hierarchy, source)
    if not isinstance(problem.signal, RandomField):
        return noise, [np.zeros(mesh.shape) for mesh in hierarchy.meshes]
    powers, crosses = signal_spectra(problem, hierarchy, problem.signal)
    gain = problem.noise.gain
    covariances = [s + gain**2 * p for s, p in zip(noise, powers, strict=True)]
    return covariances, [gain * c for c in crosses]


def noise_spectra(
    problem: Problem, hierarchy: MeshHierarchy, source: InputSource
) -> list[np.ndarray]:
    """Mean power of the noise of each channel on each level, ``(channels or 1, *mesh.shape)``."""
    if isinstance(problem.noise, PixelLaw) and not problem.signal.random:
        return _pixel_spectra(problem, problem.noise, hierarchy, source)
    refining = problem.setting == "refinement"
    spectra = []
    for mesh in hierarchy.meshes if refining else (hierarchy.finest,):
        power = problem.noise.spectrum(mesh, square=_mean_square(problem, mesh))
        spectra.append(np.array(np.broadcast_to(power, mesh.shape), dtype=float))
    if not refining:
        push = problem.restriction.spectra
        spectra = push(spectra[0], problem.dim, hierarchy.sizes, problem.route)
    return [s[None] for s in spectra]


def _mean_square(problem: Problem, mesh: Mesh) -> float:
    """Mean of u² of a random signal, which has mean zero, where its noise is drawn."""
    if not isinstance(problem.signal, RandomField) or problem.noise.gaussian:
        return 0.0
    source = problem.source_mesh(mesh)
    power = problem.signal.spectrum(source)
    if problem.setting == "refinement":
        power = problem.restriction.spectra(power, problem.dim, (mesh.n, source.n))[0]
    return float(power.sum())


def _pixel_spectra(
    problem: Problem, noise: PixelLaw, hierarchy: MeshHierarchy, source: InputSource
) -> list[np.ndarray]:
    """Independent pixels whose variance follows a fixed signal: not stationary, yet exact."""

    def variance(level: int) -> np.ndarray:
        maps = [noise.variance(s[level], s[level] ** 2) for s, _ in source.members]
        return np.asarray(np.mean(maps, axis=0))

    def flat(values: np.ndarray, mesh: Mesh) -> np.ndarray:
        mean = values.mean(axis=tuple(range(1, mesh.dim + 1)), keepdims=True)
        return np.broadcast_to(mean * mesh.h**mesh.dim, values.shape)

    meshes, finest = hierarchy.meshes, hierarchy.finest
    if problem.setting == "refinement":
        return [flat(variance(level), mesh) for level, mesh in enumerate(meshes)]
    channels = variance(len(meshes) - 1)
    push = problem.restriction.pixel_power
    coarse = [
        np.stack([push(v, mesh.dim, finest.n // mesh.n, problem.route) for v in channels])
        for mesh in meshes[:-1]
    ]
    return [*coarse, flat(channels, finest)]


def signal_spectra(
    problem: Problem, hierarchy: MeshHierarchy, signal: RandomField
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Mean power of a random signal's modes on each level, and its product with the target."""

    def down(mesh: Mesh, sizes: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        power = signal.spectrum(mesh)
        cross = power * _multiplier(problem, mesh)
        push = problem.restriction.spectra
        return tuple(push(s, problem.dim, sizes, problem.route) for s in (power, cross))

    if problem.setting == "coarsening":
        return down(hierarchy.finest, hierarchy.sizes)
    powers, crosses = [], []
    for mesh in hierarchy.meshes:
        fine = problem.source_mesh(mesh)
        power, cross = down(fine, (mesh.n, fine.n))
        powers.append(power[0])
        crosses.append(cross[0])
    return powers, crosses
