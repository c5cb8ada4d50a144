"""Dense maps written from first principles: modes, restrictions, convolutions, norms.

For `law_reference`. Of gradconv only plain parameters are read. A multiplier on a mesh of n cells
is a sum over the closed box |j_a| ≤ n/2 with both ends at half weight: the mean of its values at
±n/2.
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from typing import Any

import numpy as np

# --- modes and restrictions -----------------------------------------------------------------


def box_modes(largest: int, dim: int) -> np.ndarray:
    """Integer points |j|_∞ ≤ largest, shape ``(count, dim)``."""
    return np.array(list(product(range(-largest, largest + 1), repeat=dim)))


def end_weights(j: np.ndarray, n: int, weight: float) -> np.ndarray:
    """Product over axes of `weight` where |j_a| = n/2 and one elsewhere."""
    return np.prod(np.where(2 * np.abs(j) == n, weight, 1.0), axis=1)


def step_matrix(name: str, n: int, factor: int, fault: str = "none") -> np.ndarray:
    """Dense restriction of one periodic axis by one step, shape ``(n/factor, n)``."""
    coarse = n // factor
    matrix = np.zeros((coarse, n))
    if name == "spectral":
        j = np.arange(-(coarse // 2), coarse // 2 + 1)
        weight = np.where(2 * np.abs(j) == coarse, 0.5, 1.0)
        apart = np.arange(coarse)[:, None] / coarse - np.arange(n)[None, :] / n
        matrix = np.tensordot(weight, np.cos(2 * np.pi * np.multiply.outer(j, apart)), 1) / n
    else:
        for offset, weight in stencil_of_restriction(name, factor).items():
            for row in range(coarse):
                matrix[row, (factor * row + offset) % n] += weight
    if fault == "no-aliases":
        # leave out every mode that the coarse mesh cannot hold
        apart = np.arange(n)[:, None] - np.arange(n)[None, :]
        j = np.arange(-((coarse - 1) // 2), (coarse - 1) // 2 + 1)
        keep = np.cos(2 * np.pi * np.multiply.outer(apart, j) / n).sum(-1) / n
        matrix = matrix @ keep
    if fault == "restricted-twice":
        again = np.zeros((n, n))
        for offset, weight in stencil_of_restriction(name, factor).items():
            again[np.arange(n), (np.arange(n) + offset) % n] += weight
        matrix = matrix @ again
    return matrix


def stencil_of_restriction(name: str, factor: int) -> dict[int, float]:
    """Weight of each fine point, by offset from the coarse one."""
    if name == "injection":
        return {0: 1.0}
    if name == "average":
        return dict.fromkeys(range(factor), 1.0 / factor)
    if name == "bilinear":
        return {factor // 2 - 1: 0.5, factor // 2: 0.5}
    if name == "full_weighting":
        return {o: (factor - abs(o)) / factor**2 for o in range(1 - factor, factor)}
    raise NotImplementedError(name)


def route_matrix(problem: Any, n: int, coarse: int, fault: str = "none") -> np.ndarray:
    """Dense restriction of one axis from n to `coarse` cells by the problem's route."""
    name = problem.restriction.name
    if n == coarse:
        return np.eye(n)
    if problem.route == "direct":
        return step_matrix(name, n, n // coarse, fault)
    matrix = np.eye(n)
    while n > coarse:
        matrix = step_matrix(name, n, 2, fault) @ matrix
        n //= 2
    return matrix


# --- kernels --------------------------------------------------------------------------------


def multi_indices(dim: int, order: int) -> list[tuple[int, ...]]:
    """Multi-indices of total order up to `order`: low orders first, then the first axis."""
    every = [a for a in product(range(order + 1), repeat=dim) if sum(a) <= order]
    return sorted(every, key=lambda a: (sum(a), [-v for v in a]))


def closed_box_table(symbol: Any, n: int, dim: int) -> np.ndarray:
    """Values on the mesh of the kernel with a given symbol, last axis flat: ``(..., n**dim)``."""
    j = box_modes(n // 2, dim)
    weight = end_weights(j, n, 0.5) / n**dim
    at = np.array(list(product(range(n), repeat=dim)))
    waves = np.exp(2j * np.pi * (j @ at.T) / n)
    return ((symbol(2 * np.pi * j.T) * weight) @ waves).real


def outer(lines: list[np.ndarray]) -> np.ndarray:
    """Flat product of one line an axis."""
    return reduce(np.multiply.outer, lines).ravel()


def kernel_tables(kernel: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """κ(r) of K and of each ∂K/∂θ: shapes ``(out, in, n**d)`` and ``(out, in, p, n**d)``.

    (Ku)(x) = Σ_y κ(x − y) u(y).
    """
    dim, theta, h = kernel.dim, np.asarray(kernel.theta), 1.0 / n
    kind = type(kernel).__name__
    if kind == "MeshFree":
        return mesh_free_tables(theta, dim, n)
    if kind == "SpectralKernel":
        side = round(theta.shape[2] ** (1 / dim))
        j = box_modes(side // 2, dim)
        at = np.array(list(product(range(n), repeat=dim)))
        phase = 2 * np.pi * (j @ at.T) / n
        basis = (np.cos(phase) - np.sin(phase)) / n**dim
    elif kind == "Stencil":
        side = round(theta.shape[2] ** (1 / dim))
        lines = np.zeros((side, n))
        for place in range(side):
            lines[place, (side // 2 - place) % n] += 1.0  # y = x + m is r = -m
        basis = np.array([outer([lines[i] for i in a]) for a in product(range(side), repeat=dim)])
    elif kind == "ScaledStencil":
        lines = np.zeros((3, n))
        lines[0, 0] = 1.0
        for place, first, second in ((-1, 1.0, 1.0), (0, 0.0, -2.0), (1, -1.0, 1.0)):
            lines[1, place] += first / (2 * h)
            lines[2, place] += second / h**2
        basis = np.array([outer([lines[i] for i in a]) for a in multi_indices(dim, 2)])
    elif kind == "GaussianDerivative":
        width, order = kernel.width, kernel.order
        lines = closed_box_table(
            lambda k: np.array(
                [
                    (1j * width * k[0]) ** m * np.exp(-((width * k[0]) ** 2) / 2)
                    for m in range(order + 1)
                ]
            ),
            n,
            1,
        )
        basis = np.array([outer([lines[i] for i in a]) for a in multi_indices(dim, order)])
    else:
        raise NotImplementedError(kind)
    return theta @ basis, np.broadcast_to(basis, (*theta.shape[:2], *basis.shape))


def mesh_free_tables(theta: np.ndarray, dim: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables of c exp(−kᵀAk + i b·k) and its derivatives by c, A (upper triangle) and b."""
    pairs = [(a, b) for a in range(dim) for b in range(a, dim)]
    tables = np.zeros((*theta.shape[:2], theta.shape[2] + 1, n**dim))
    for pair in np.ndindex(*theta.shape[:2]):
        c, *entries = theta[pair]
        matrix = np.zeros((dim, dim))
        for (a, b), value in zip(pairs, entries, strict=False):
            matrix[a, b] = matrix[b, a] = value
        drift = np.array(entries[len(pairs) :])

        def symbols(
            k: np.ndarray, c: float = c, matrix: np.ndarray = matrix, drift: np.ndarray = drift
        ) -> np.ndarray:
            heat = np.exp(-np.einsum("aj,ab,bj->j", k, matrix, k) + 1j * drift @ k)
            by_a = [-(1 if a == b else 2) * k[a] * k[b] * c * heat for a, b in pairs]
            return np.array([c * heat, heat, *by_a, *(1j * a * c * heat for a in k)])

        tables[pair] = closed_box_table(symbols, n, dim)
    return tables[:, :, 0], tables[:, :, 1:]


def parameter_scale(kernel: Any) -> np.ndarray:
    """Factors of the norm, broadcastable to θ."""
    kind, dim, theta = type(kernel).__name__, kernel.dim, np.asarray(kernel.theta)
    if kind == "ScaledStencil":
        return np.array([kernel.length ** sum(a) for a in multi_indices(dim, 2)])
    if kind != "MeshFree":
        return np.ones(1)
    pairs = [(a, b) for a in range(dim) for b in range(a, dim)]
    trace = sum(theta[..., 1 + i] for i, (a, b) in enumerate(pairs) if a == b)
    square = np.asarray(trace) / dim
    parts = [np.ones_like(square)]
    parts += [square * (1.0 if a == b else 2**-0.5) for a, b in pairs]
    parts += [np.sqrt(square)] * dim
    return np.stack(parts, axis=-1)


def differences(n: int, dim: int) -> np.ndarray:
    """Flat index of x − y on the periodic mesh, shape ``(n**d, n**d)``."""
    at = np.array(list(product(range(n), repeat=dim)))
    apart = (at[:, None, :] - at[None, :, :]) % n
    return apart @ n ** np.arange(dim)[::-1]
