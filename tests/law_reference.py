"""An independent reference for the laws: dense linear algebra, no Fourier transform, no sampling.

Of gradconv only plain parameters are read (θ, σ, α, …); symbols, taps, spectra and sums are written
again here. With independent variables ξ of mean zero and variance one, every level holds

    x = x₀ + X ξ,   y = y₀ + Y ξ,   g_p = h^d (D_p x)·(K x − y) = ξᵀQξ + bᵀξ + c,

dense matrices of convolution K, ∂K/∂θ_p = D_p, restriction R, and columns of X, Y for the signal's
modes and the noise. Then E g = c + tr Q and, with Q symmetric, third moments μ and excess
kurtosis κ of the ξ, Var g = 2 tr Q² + |b|² + 2 Σ μ_i b_i Q_ii + Σ κ_i Q_ii².

Real modes are Hartley's cos φ − sin φ = Re[(1+i) exp(iφ)], one ξ each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import gamma
from typing import Any

import numpy as np
from law_dense_maps import (
    box_modes,
    differences,
    end_weights,
    kernel_tables,
    parameter_scale,
    route_matrix,
    step_matrix,
)

FAULTS = ("none", "no-aliases", "restricted-twice")


# --- data -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LevelData:
    """x = x₀ + X ξ and y = y₀ + Y ξ on one level; each channel has its own copy of ξ.

    Parameters
    ----------
    x0, y0 : ndarray
        Shape ``(channels, n**d)``.
    x, y : ndarray
        Shape ``(n**d, variables)``; the columns of all levels go together.
    """

    n: int
    x0: np.ndarray
    y0: np.ndarray
    x: np.ndarray
    y: np.ndarray


def multiplier(target: Any, k: np.ndarray) -> np.ndarray:
    """Symbol of the target at k, shape ``(dim, ...)``."""
    if target.name == "identity":
        return np.ones(k.shape[1:], dtype=complex)
    if target.name == "blur":
        return np.exp(-0.5 * target.width**2 * np.sum(k**2, axis=0)).astype(complex)
    if target.name == "shift":
        return np.exp(1j * target.distance * k[target.axis])
    if target.name == "derivative":
        return 1j * target.length * k[target.axis]
    raise NotImplementedError(target.name)


def signal_power(signal: Any, square: np.ndarray, dim: int) -> np.ndarray:
    """E|û_j|² at |j|² = `square`."""
    if signal.name == "sobolev":
        return signal.scale**2 / (1.0 + square) ** (signal.s + dim / 2)
    j = box_modes(signal.modes, dim)
    count = np.sum((np.sum(j**2, axis=1) > 0) & (np.sum(j**2, axis=1) <= signal.modes**2))
    return ((square > 0) & (square <= signal.modes**2)) / count


def noise_density(noise: Any, square: np.ndarray, dim: int) -> np.ndarray:
    """S_j at |j|² = `square` for noise given by its spectrum."""
    if noise.name == "power":
        return np.where(
            square > 0, noise.scale**2 * np.maximum(square, 1.0) ** (-noise.alpha / 2), 0.0
        )
    rate = 2 * noise.nu / noise.length**2
    volume = 2**dim * np.pi ** (dim / 2) * gamma(noise.nu + dim / 2) / gamma(noise.nu)
    density = volume * rate**noise.nu * (rate + 4 * np.pi**2 * square) ** (-noise.nu - dim / 2)
    return noise.sigma**2 * density


def waves(restriction: np.ndarray, j: np.ndarray, shift: float) -> np.ndarray:
    """Restricted exp(2πi j·x) at the points of the coarse mesh, shape ``(coarse**d, modes)``."""
    n, (count, dim) = restriction.shape[1], j.shape
    values = np.ones((1, count), dtype=complex)
    for axis in range(dim):
        line = restriction @ np.exp(2j * np.pi * np.outer(np.arange(n) + shift, j[:, axis]) / n)
        values = (values[:, None, :] * line[None]).reshape(-1, count)
    return values


def power_of(matrix: np.ndarray, dim: int) -> np.ndarray:
    """Kronecker power: the same map along every axis."""
    return reduce(np.kron, [matrix] * dim)


def pixel_moments(noise: Any, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variance, third central moment and fourth cumulant of a pixel whose clean value is u."""
    if noise.name == "uniform":
        flat = np.ones_like(u)
        return noise.sigma**2 * flat, 0 * flat, -1.2 * noise.sigma**4 * flat
    p = noise.fraction
    mean = (1 - p) * u + p / 2
    central = [
        (1 - p) * (u - mean) ** m + p / 2 * (0 - mean) ** m + p / 2 * (1 - mean) ** m
        for m in (2, 3, 4)
    ]
    return central[0], central[1], central[2] - 3 * central[0] ** 2


class Reference:
    """Exact quantities of a problem on meshes of the given sizes.

    Parameters
    ----------
    problem : Problem
        A periodic problem; only its plain parameters are read.
    sizes : sequence of int
        Cells an axis, coarse to fine.
    fault : {"none", "no-aliases", "restricted-twice"}
        A mistake to make on purpose, for negative controls.
    """

    def __init__(self, problem: Any, sizes: tuple[int, ...], fault: str = "none") -> None:
        assert fault in FAULTS
        assert problem.boundary == "periodic"
        self.problem, self.sizes, self.fault, self.dim = problem, sizes, fault, problem.dim
        self.refining = problem.setting == "refinement"
        noise = problem.noise
        self.spectral_noise = noise.name in ("power", "matern")
        self.gain = 1 - noise.fraction if noise.name == "salt-and-pepper" else 1.0
        self.offset = noise.fraction / 2 if noise.name == "salt-and-pepper" else 0.0
        self.shift = 0.5 if problem.restriction.name in ("average", "bilinear") else 0.0
        self.third = self.fourth = np.zeros(0)
        self.levels = [self._level(n) for n in sizes]

    def _signal(self, n: int) -> tuple[np.ndarray, ...]:
        """Columns and fixed part of the clean signal and target on a level."""
        p, dim, finest = self.problem, self.dim, self.sizes[-1]
        source = 2 * n if self.refining else finest
        restriction = route_matrix(p, source, n, self.fault)
        if p.signal.name == "plane-wave":
            j = np.array([[p.signal.modes - a for a in range(dim)]])
            wave = waves(restriction, j, self.shift)[:, 0]
            factor = multiplier(p.target, 2 * np.pi * j.T)[0]
            tones = [np.sqrt(2) * np.exp(1j * (0.7 + c)) for c in range(p.channels)]
            u0 = np.array([(t * wave).real for t in tones])
            y0 = np.array([(t * factor * wave).real for t in tones])
            none = np.zeros((n**dim, 0))
            return none, none, u0, y0
        widest = (2 * finest - 1) // 2 if self.refining else (finest - 1) // 2
        if p.signal.name == "band-limited":
            widest = p.signal.modes
        j = box_modes(widest, dim)
        square = np.sum(j**2, axis=1)
        power = signal_power(p.signal, square, dim) * (2 * np.max(np.abs(j), axis=1) < source)
        turned = np.sqrt(power) * (1 + 1j) * waves(restriction, j, self.shift)
        u, y = turned.real, (multiplier(p.target, 2 * np.pi * j.T) * turned).real
        zero = np.zeros((p.channels, n**dim))
        return u, y, zero, zero

    def _noise(self, n: int, seen: np.ndarray, random: float) -> np.ndarray:
        """Columns of the noise on a level; `seen` is the fixed signal where the noise is drawn."""
        p, dim, finest = self.problem, self.dim, self.sizes[-1]
        name = p.noise.name
        drawn = n if self.refining else finest  # the mesh that the noise has the law of
        if name == "none":
            return np.zeros((n**dim, 0))
        if self.spectral_noise:
            j = box_modes(finest // 2, dim)
            density = noise_density(p.noise, np.sum(j**2, axis=1), dim)
            share = end_weights(j, drawn, 0.5) * (2 * np.max(np.abs(j), axis=1) <= drawn)
            return (
                np.sqrt(density * share)
                * (1 + 1j)
                * waves(route_matrix(p, drawn, n, self.fault), j, 0.0)
            ).real
        if self.refining:
            coupling = step_matrix(
                "average" if name == "white" else "injection", finest, finest // n
            )
        else:
            coupling = route_matrix(p, finest, n, self.fault)
        matrix = power_of(coupling, dim)
        if name in ("pixel", "white"):
            return p.noise.sigma * matrix * (finest ** (dim / 2) if name == "white" else 1.0)
        if p.signal.name != "plane-wave":
            # on average over the signal, a pixel's variance is linear in u² (its mean is zero)
            variance, _, fourth = pixel_moments(p.noise, np.zeros(1))
            slope = pixel_moments(p.noise, np.ones(1))[0] + pixel_moments(p.noise, -np.ones(1))[0]
            variance = variance + (0.5 * slope - variance) * random
            self.fourth = np.full(finest**dim, fourth[0] / variance[0] ** 2)
            self.third = 0 * self.fourth
            return np.sqrt(variance) * matrix
        assert len(seen) == 1 or name == "uniform"  # one ξ law for every channel
        variance, third, fourth = pixel_moments(p.noise, seen[0])
        if not self.refining:
            self.third, self.fourth = third / variance**1.5, fourth / variance**2
            return matrix * np.sqrt(variance)
        self.fourth = np.full(finest**dim, -1.2 if name == "uniform" else np.nan)
        self.third = 0 * self.fourth if name == "uniform" else self.fourth
        return np.sqrt(variance)[:, None] * matrix

    def _level(self, n: int) -> LevelData:
        u, y, u0, y0 = self._signal(n)
        at = n if self.refining else self.sizes[-1]
        seen_u, _, seen, _ = (u, y, u0, y0) if at == n else self._signal(at)
        mean_square = float(np.mean(np.sum(seen_u**2, axis=1)))
        eta = self._noise(n, seen, mean_square)
        x = np.hstack([self.gain * u, eta])
        return LevelData(n, self.gain * u0 + self.offset, y0, x, np.hstack([y, np.zeros_like(eta)]))

    # --- gradients ----------------------------------------------------------------------

    def mean_gradients(self) -> np.ndarray:
        """E g of every level, shape ``(levels, out, in, p)``: covariance matrices, then traces."""
        kernel, found = self.problem.convolution, []
        for data in self.levels:
            table, slopes = kernel_tables(kernel, data.n)
            where = differences(data.n, self.dim)
            k = table[:, :, where]
            xx, yx = data.x @ data.x.T, data.y @ data.x.T
            gradient = np.zeros(np.shape(kernel.theta))
            for o, i in np.ndindex(*gradient.shape[:2]):
                moment = k[o, i] @ xx - (yx if o == i else 0.0)  # E of (Kx' − y')x'ᵀ
                residual = np.einsum("ixy,iy->x", k[o], data.x0) - data.y0[o]
                moment = moment + np.outer(residual, data.x0[i])
                gradient[o, i] = [np.sum(d[where] * moment) for d in slopes[o, i]]
            found.append(gradient / data.n**self.dim)
        return np.array(found)

    def scaled_means(self) -> np.ndarray:
        """Mean gradients in the units of the norm, shape ``(levels, parameters)``."""
        means = self.mean_gradients() * parameter_scale(self.problem.convolution)
        return means.reshape(len(means), -1)

    def _forms(self, data: LevelData, o: int, i: int, p: int, tables: Any) -> tuple[Any, Any]:
        """Q and b of one component on one level, ξ of all channels in a row."""
        k, slopes, where = tables
        channels, variables = self.problem.channels, data.x.shape[1]
        d = slopes[o, i, p][where] / data.n**self.dim
        left = np.zeros((data.n**self.dim, channels, variables))
        left[:, i] = d @ data.x
        right = np.stack([m @ data.x for m in k[o]], axis=1)
        right[:, o] -= data.y
        left, right = (a.reshape(data.n**self.dim, -1) for a in (left, right))
        residual = np.einsum("ixy,iy->x", k[o], data.x0) - data.y0[o]
        return left.T @ right, left.T @ residual + right.T @ (d @ data.x0[i])

    def gap_variances(self) -> np.ndarray:
        """E|gap|² − |E gap|² of each pair of levels, scaled, shape ``(levels − 1,)``."""
        kernel = self.problem.convolution
        scale = np.broadcast_to(parameter_scale(kernel), np.shape(kernel.theta))
        third, fourth = (
            np.tile(np.pad(m, (self.levels[0].x.shape[1] - len(m), 0)), self.problem.channels)
            for m in (self.third, self.fourth)
        )
        tables = []
        for data in self.levels:
            table, slopes = kernel_tables(kernel, data.n)
            where = differences(data.n, self.dim)
            tables.append((table[:, :, where], slopes, where))
        total = np.zeros(len(self.levels) - 1)
        for o, i, p in np.ndindex(*scale.shape):
            forms = [
                self._forms(data, o, i, p, t) for data, t in zip(self.levels, tables, strict=True)
            ]
            for gap, (coarse, fine) in enumerate(pairwise(forms)):
                q, b = fine[0] - coarse[0], fine[1] - coarse[1]
                q = 0.5 * (q + q.T)
                own = np.diag(q)
                variance = 2 * np.sum(q * q) + b @ b + 2 * np.sum(third * b * own)
                variance += np.sum(fourth * own * own)
                total[gap] += scale[o, i, p] ** 2 * variance
        return total

    def quantities(self, *names: str) -> dict[str, np.ndarray]:
        """Level norm, mean gap and, if asked for, variance and rms gap, as a law gives them."""
        means = self.scaled_means()
        found = {
            "level_norm": np.linalg.norm(means, axis=1),
            "mean_gap": np.linalg.norm(np.diff(means, axis=0), axis=1),
        }
        if {"variance", "rms_gap"} & set(names):
            found["variance"] = self.gap_variances()
            found["rms_gap"] = np.sqrt(found["mean_gap"] ** 2 + found["variance"])
        return {name: found[name] for name in (names or found)}
