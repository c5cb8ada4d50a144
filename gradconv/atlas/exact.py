"""Mean gradients of many cells at once: the parts of signal, noise and target add.

The mean gradient is linear in the power of the input's modes and in their product with the target.
For one kernel it is therefore enough to know it for the signal, for each noise and for each target
by itself. Measured parts go through the gradient that a sweep takes (`gradconv.gradient`), derived
parts through the sums over modes of the full law (`gradconv.laws`); they share the spectrum that
the signal states, but no code. (Nor do the means of a fixed signal, in `gradconv.atlas.unit`, but
for noise that follows it from pixel to pixel: see `gradconv.laws.lattice`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gradconv.fields import NOISES, Noise, RandomField
from gradconv.gradient import FourierGradient, InputSource
from gradconv.gradient.expectation import noise_spectra, signal_spectra
from gradconv.laws.lattice import on_level
from gradconv.laws.pairs import level_pairs
from gradconv.laws.symbols import TWO_PI, kernel_values
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem

Spectra = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class Group:
    """Cells that share everything but kernel, noise and target.

    Parameters
    ----------
    signal, setting, restriction, dim
        As in `Problem`; the signal is a random field.
    noises, targets : tuple of str
        Those of the cells.
    """

    signal: str
    setting: str
    restriction: str
    dim: int
    noises: tuple[str, ...]
    targets: tuple[str, ...]

    def problem(self, noise: str = "none", target: str = "identity") -> Problem:
        """A problem of the group; its kernel is of no account."""
        return Problem(
            "stencil", self.signal, target, noise, self.restriction, self.setting, self.dim
        )


@dataclass(frozen=True)
class Parts:
    """What signal, noises and targets add to the scaled mean gradient of a kernel.

    Parameters
    ----------
    signal, constant : ndarray
        Part of the signal's power, and of a constant input 1; shape ``(levels, p)``.
    noise, target : dict of str to ndarray
        Part of each noise's power, and of each target's product with the signal.
    """

    signal: np.ndarray
    constant: np.ndarray
    noise: dict[str, np.ndarray]
    target: dict[str, np.ndarray]

    def mean(self, noise: str, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean gradient, shape ``(levels, p)``, and size of the terms that cancel in it."""
        law: Noise = NOISES.parse(noise)
        own = law.gain**2 * self.signal + self.noise[noise] + law.offset**2 * self.constant
        gradient = own - law.gain * self.target[target]
        sizes = 2 * np.linalg.norm(own, axis=1) + np.linalg.norm(gradient, axis=1)
        return gradient, sizes


def measured_spectra(group: Group, hierarchy: MeshHierarchy) -> tuple[Spectra, Spectra]:
    """Power of the modes of each level (signal under ``""``), and products with the targets."""
    powers: Spectra = {}
    crosses: Spectra = {}
    for noise in group.noises:
        problem = group.problem(noise)
        found = noise_spectra(problem, hierarchy, InputSource(problem, hierarchy, 0))
        powers[noise] = [s[0] for s in found]
    for target in group.targets:
        problem = group.problem(target=target)
        assert isinstance(problem.signal, RandomField)
        powers[""], crosses[target] = signal_spectra(problem, hierarchy, problem.signal)
    return powers, crosses


def derived_spectra(group: Group, hierarchy: MeshHierarchy) -> tuple[Spectra, Spectra]:
    """The same from the moments that the laws are evaluated with."""
    powers: Spectra = {}
    crosses: Spectra = {}
    for noise in group.noises:
        pairs = level_pairs(group.problem(noise), hierarchy)
        powers[noise] = [pairs[0].coarse_noise[0], *(p.fine_noise[0] for p in pairs)]
    for target in group.targets:
        pairs = level_pairs(group.problem(target=target), hierarchy)
        assert pairs[0].signal is not None
        powers[""] = [pairs[0].signal.coarse, *(p.signal.fine for p in pairs if p.signal)]
        crosses[target] = [pairs[0].coarse_cross, *(p.fine_cross for p in pairs)]
    return powers, crosses


def measured_parts(
    kernel: str, hierarchy: MeshHierarchy, powers: Spectra, crosses: Spectra
) -> Parts:
    """Parts of one kernel by the gradient's own operators, spectra of `measured_spectra`."""
    own = with_kernel(kernel, hierarchy.dim).convolution
    scale = np.broadcast_to(own.scale, own.theta.shape)[0, 0]

    def levels(spectra: Spectra) -> Callable[[int], np.ndarray]:
        return lambda level: np.stack([s[level] for s in spectra.values()])

    power_at, cross_at = levels(powers), levels(crosses)
    rows, products, constants = [], [], []
    for level, mesh in enumerate(hierarchy.meshes):
        engine = FourierGradient(own, mesh)
        half = mesh.n // 2 + 1

        def pulled(q: np.ndarray, engine: FourierGradient = engine) -> np.ndarray:
            return np.asarray(engine.operator.pullback(q[:, None, None]))[:, 0, 0] * scale

        symbol = engine.operator.symbol[0, 0]
        rows.append(pulled(symbol * engine.grid.crop(power_at(level)[..., :half])))
        products.append(pulled(0j + engine.grid.crop(cross_at(level)[..., :half])))
        one = engine.spectrum(np.ones((1, 1, *mesh.shape)))
        constants.append(engine.gradient(one, 0 * one)[0, 0, 0] * scale)
    return _parts(powers, crosses, rows, products, constants)


def derived_parts(
    kernel: str, hierarchy: MeshHierarchy, powers: Spectra, crosses: Spectra
) -> Parts:
    """Parts of one kernel by sums over all modes of its formula, spectra of `derived_spectra`."""
    rows, products, constants = [], [], []
    for level, n in enumerate(hierarchy.sizes):
        own, plain, modes, origin = _weights(kernel, hierarchy.dim, n)
        power = np.stack([s[level][modes].ravel() for s in powers.values()])
        cross = np.stack([s[level][modes].ravel() for s in crosses.values()])
        rows.append(power @ own.T)
        products.append((cross @ plain.conj().T).real)
        constants.append(own[:, origin])
    return _parts(powers, crosses, rows, products, constants)


@lru_cache(maxsize=64)
def _weights(kernel: str, dim: int, n: int) -> tuple[np.ndarray, np.ndarray, Any, int]:
    """Re[conj(∂σ)σ] and ∂σ on the modes that matter, where these are, and where j = 0 is."""
    problem = with_kernel(kernel, dim)
    cutoff = problem.convolution.cutoff()
    modes: Any = (...,)
    if cutoff is not None and 2 * cutoff < n:
        j = np.arange(-cutoff, cutoff + 1)
        lines = [[-1 if a == b else 1 for b in range(dim)] for a in range(dim)]
        k = tuple((TWO_PI * j).reshape(line) for line in lines)
        values = kernel_values(problem.convolution, k, 1.0 / n)
        modes, origin = np.ix_(*[j % n] * dim), (len(j) ** dim) // 2
    else:
        values, origin = on_level(problem, n), 0
    plain = values.slopes[0, 0].reshape(values.slopes.shape[2], -1)
    return (plain.conj() * values.symbol[0, 0].ravel()).real, plain, modes, origin


def _parts(
    powers: Spectra,
    crosses: Spectra,
    rows: Sequence[np.ndarray],
    products: Sequence[np.ndarray],
    constants: Sequence[np.ndarray],
) -> Parts:
    by_power = dict(zip(powers, np.stack(rows, axis=1), strict=True))
    by_target = dict(zip(crosses, np.stack(products, axis=1), strict=True))
    return Parts(by_power.pop(""), np.array(constants), by_power, by_target)


@lru_cache(maxsize=256)
def with_kernel(kernel: str, dim: int) -> Problem:
    """A problem with the kernel, which carries its built convolution."""
    return Problem(kernel, dim=dim)
