"""What integrals over the frequencies of a cell need: product rules, and spectra with aliases."""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from itertools import product

import numpy as np
from scipy.special import eval_legendre, gamma

from gradconv.laws.integrals import Profile, line_transform
from gradconv.laws.moments import panels


@lru_cache(maxsize=16)
def pyramid(dim: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pyramids over the faces of the cube [−π/2, π/2]^d, one of each opposite pair.

    Returns
    -------
    phases : ndarray
        Shape ``(faces·nodes·count, dim)``; the last index runs along rays.
    faces : ndarray
        Weights of the rays, of the mean over the cube, shape ``(faces·nodes,)``.
    heights : ndarray
        Nodes along a ray, in units of its length, shape ``(count,)``.
    """
    nodes = (12 if dim < 3 else 6) + (count - 24) // 4
    x, w = np.polynomial.legendre.leggauss(nodes)  # on both halves: |φ_a| enters
    x = np.concatenate([0.5 * (x - 1.0), 0.5 * (x + 1.0)])
    w = np.concatenate([0.5 * w, 0.5 * w])
    t = 0.5 * (np.polynomial.legendre.leggauss(count)[0] + 1.0)
    ends, weights = [], []
    for axis in range(dim):
        for index in product(range(2 * nodes), repeat=dim - 1):
            others = [x[i] for i in index]
            ends.append([*others[:axis], 1.0, *others[axis:]])
            weights.append(2.0 * math.prod([w[i] for i in index], start=1.0) / 2.0**dim)
    rays = 0.5 * np.pi * np.array(ends)
    return (rays[:, None, :] * t[:, None]).reshape(-1, dim), np.array(weights), t


@lru_cache(maxsize=256)
def radial_rule(power: float, count: int) -> np.ndarray:
    """Weights of the finite part of ∫_0^1 t^power f(t) dt at the nodes of `pyramid`, f smooth."""
    if power < 0 and abs(power - round(power)) < 1e-6:
        # a pole that f does not feel: the mean of both sides
        return 0.5 * (radial_rule(power + 3e-5, count) + radial_rule(power - 3e-5, count))
    x, w = np.polynomial.legendre.leggauss(count)
    weights = np.zeros(count)
    for n in range(count):  # ∫ t^p P_n(2t − 1) dt = Γ(1 + p)² / (Γ(2 + p + n) Γ(1 + p − n))
        moment = 1.0 / (power + 1.0)
        for i in range(1, n + 1):
            moment *= (power + 1.0 - i) / (power + 1.0 + i)
        weights += (2 * n + 1) * 0.5 * moment * w * eval_legendre(n, x)
    return weights


_START = 1e-8


@lru_cache(maxsize=8)
def _scales(highest: float) -> tuple[np.ndarray, np.ndarray]:
    x, w = panels(np.linspace(math.log(_START), math.log(highest), 16))
    return np.exp(x), w


def folded(alpha: float, r: int, t: np.ndarray, low: bool) -> np.ndarray:
    """Σ_p |t + p|^{−α} Π sinc^{2r}(t_a + p_a), finite part; with or without p = 0.

    Parameters
    ----------
    t : ndarray
        Frequencies in cycles a cell, shape ``(…, dim)``; at most 1/2 in size without p = 0.
    """
    shape, dim = t.shape[:-1], t.shape[-1]
    s, w = _scales(45.0 * 16.0)
    values, index = np.unique(np.round(np.abs(t.reshape(-1, dim)), 13), return_inverse=True)
    index = index.reshape(-1, dim)
    lines = _aliased(tuple(s), r, values)
    own = np.exp(-np.multiply.outer(s, values**2)) * np.sinc(values) ** (2 * r)
    found = np.empty(len(index))
    half = 0.5 * alpha
    start = 0.0
    if r == 0:  # (π/s)^{d/2}, its finite part
        start = math.pi ** (0.5 * dim) * _START ** (half - 0.5 * dim) / (half - 0.5 * dim)
    for block in range(0, len(index), 4096):
        rows = index[block : block + 4096]
        whole = reduce(np.multiply, [lines[:, rows[:, a]] for a in range(dim)])
        total = (w * s**half) @ whole + (start if r == 0 else whole[0] * _START**half / half)
        if not low:  # below the first node: powers of s
            single = reduce(np.multiply, [own[:, rows[:, a]] for a in range(dim)])
            total = total - (w * s**half) @ single - single[0] * _START**half / half
        found[block : block + 4096] = total
    return np.asarray(found.reshape(shape) / gamma(half))


def _aliased(s: tuple[float, ...], r: int, t: np.ndarray) -> np.ndarray:
    """Σ_p e^{−s(t+p)²} sinc^{2r}(t + p), shape ``(nodes, values)``."""
    nodes = np.array(s)
    small = nodes < 1.0
    found = np.empty((len(nodes), len(t)))
    profile = Profile("sinc", 0.5, r) if r else Profile("all")
    v = tuple(np.sqrt(nodes[small]))
    lags = np.arange(r + 5)
    lines = np.array([line_transform(profile, int(lag), v) for lag in lags])
    counts = np.where(lags == 0, 1.0, 2.0)
    found[small] = lines.T @ (counts[:, None] * np.cos(2 * np.pi * np.multiply.outer(lags, t)))
    p = np.arange(-9, 10)
    shifted = t[:, None] + p
    found[~small] = np.sum(
        np.exp(-np.multiply.outer(nodes[~small], shifted**2)) * np.sinc(shifted) ** (2 * r), axis=-1
    )
    return found
