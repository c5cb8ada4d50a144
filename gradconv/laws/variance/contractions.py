"""Products of a kernel's slopes and symbols, summed over its parameters.

With X = conj(∂σ)(Gσ − m), one component for every power of h and of the target's multiplier m, the
variance of a gap needs Σ X_a X̄'_b (open) and Σ X_a X'_b at i' = i (closed), for the levels a, b.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

import numpy as np

from gradconv.kernels import Kernel, KernelFormula
from gradconv.laws.grid import scalings
from gradconv.laws.symbols import kernel_values, lives_on_grid
from gradconv.laws.variance.rays import Series, doubled, rays, taylor, times
from gradconv.problem import Problem


@dataclass(frozen=True)
class KernelKey:
    """A kernel, equal to another one of the same parameters.

    Parameters
    ----------
    digest : bytes
        Of its kind and parameters.
    grid : bool
        Whether it lives on the grid (its symbol contains h).
    scalings : tuple of float
        q where a parameter's slope scales as h^−q; zeros for kernels of a physical width.
    reach : int
        Cells that a weight is away from the centre at most.
    """

    digest: bytes
    grid: bool
    scalings: tuple[float, ...]
    reach: int
    kernel: Kernel = field(compare=False)


def key_of(problem: Problem, formula: KernelFormula) -> KernelKey:
    """Key of a problem's kernel."""
    kernel = problem.convolution
    scale = np.broadcast_to(kernel.scale, kernel.theta.shape)
    digest = f"{type(kernel).__name__} {kernel.dim} {kernel.theta.shape}".encode()
    digest += kernel.theta.tobytes() + scale.tobytes() + repr(formula.constants).encode()
    grid = lives_on_grid(formula)
    each = scalings(problem, formula) if grid else np.zeros(kernel.theta.shape[2])
    reach = 1 if formula.values is None else int(np.abs(formula.values).max(initial=1))
    return KernelKey(digest, grid, tuple(float(q) for q in each), reach, kernel)


@dataclass(frozen=True)
class Contraction:
    """Contractions of two components on the grid, as series along rays.

    Parameters
    ----------
    exponent : float
        Exponent of h.
    left, right : int
        Powers of m in X and X'.
    open, closed : tuple of ndarray
        By level pair: fine-fine, fine-coarse, coarse-fine, coarse-coarse.
    """

    exponent: float
    left: int
    right: int
    open: tuple[Series, ...]
    closed: tuple[Series, ...]


@lru_cache(maxsize=64)
def ray_contractions(key: KernelKey, gain: float, degree: int) -> tuple[Contraction, ...]:
    """Contractions of a kernel that lives on the grid.

    Parameters
    ----------
    key : KernelKey
        The kernel.
    gain : float
        G.
    degree : int
        Highest power of h.
    """
    kernel, each = key.kernel, np.array(key.scalings)
    dim, theta = kernel.dim, kernel.theta
    directions = rays(dim, degree)
    out, inner = theta.shape[:2]
    scale = np.broadcast_to(kernel.scale, theta.shape)
    slopes = taylor(lambda phi: _slopes(kernel, phi), directions, degree)
    basis = slopes / np.where(scale == 0, 1.0, scale)
    residuals = [
        (-q, 0, gain * np.einsum("...oip,oip->...oi", basis, theta * (each == q)))
        for q in sorted(set(each))
    ]
    one = np.zeros((degree + 1, len(directions), out, inner), dtype=complex)
    one[0] = -np.eye(out, inner)
    residuals.append((0.0, 1, one))
    found: dict[tuple[float, int, int], list[list[Series]]] = {}
    for q in sorted(set(each)):
        left = slopes[..., each == q].conj()
        parts = []
        for power, target, residual in residuals:
            fine = times(residual[..., None, :, None], left[..., :, None, :])
            parts.append((power - q, target, (fine, doubled(fine) * 2.0 ** (power - q))))
        for x, y in product(parts, repeat=2):
            pairs = [_contract(x[2][a], y[2][b]) for a, b in product((0, 1), repeat=2)]
            place = found.setdefault((x[0] + y[0], x[1], y[1]), [])
            place.append([series for pair in pairs for series in pair])
    return tuple(
        Contraction(
            float(power),
            before,
            after,
            tuple(np.sum([row[2 * i] for row in rows], axis=0) for i in range(4)),
            tuple(np.sum([row[2 * i + 1] for row in rows], axis=0) for i in range(4)),
        )
        for (power, before, after), rows in found.items()
    )


def _slopes(kernel: Kernel, phi: np.ndarray) -> np.ndarray:
    """Scaled slopes at phases (or modes at h = 1), parameters last: ``(…, out, in, p)``."""
    values = kernel_values(kernel, tuple(phi[..., a] for a in range(kernel.dim)), 1.0)
    return np.moveaxis(values.slopes, (0, 1, 2), (-3, -2, -1))


Profiles = dict[tuple[int, int, bool], np.ndarray]


@lru_cache(maxsize=16)
def wide_contractions(key: KernelKey, gain: float, modes: bytes) -> Profiles:
    """Contractions of a kernel of a physical width, the same on every level, at modes k.

    Returns
    -------
    dict
        By powers of m in X and X', and whether closed: one number a mode.
    """
    kernel = key.kernel
    k = np.frombuffer(modes).reshape(-1, kernel.dim)
    found: Profiles = {}
    step = max(1, 2**20 // (kernel.theta.size * kernel.theta.shape[1]))
    for start in range(0, len(k), step):
        part = k[start : start + step]
        values = kernel_values(kernel, tuple(part.T), 1.0)
        left = _slopes(kernel, part).conj()
        symbol = gain * np.moveaxis(values.symbol, -1, 0)
        components = (symbol, -np.broadcast_to(np.eye(*symbol.shape[1:]), symbol.shape))
        both = [r[..., None, :, None] * left[..., :, None, :] for r in components]
        for x, y in product((0, 1), repeat=2):
            for closed, values_at in zip(
                (False, True), _contract_at(both[x], both[y]), strict=True
            ):
                whole = found.setdefault((x, y, closed), np.zeros(len(k), dtype=complex))
                whole[start : start + step] = values_at
    return found


def _contract_at(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own = np.arange(min(left.shape[2], left.shape[3]))
    opened = np.sum(left * right.conj(), axis=(1, 2, 3, 4))
    closed = np.sum(left[:, :, own, own] * right[:, :, own, own], axis=(1, 2, 3))
    return opened, closed


def _contract(left: Series, right: Series) -> tuple[Series, Series]:
    """Series of Σ X X̄' and of Σ X X' at i' = i; arrays ``(degree, ray, out, in, in, p)``."""
    count, points = left.shape[:2]
    own = np.arange(min(left.shape[3], left.shape[4]))
    x, y = (a.reshape(count, points, -1) for a in (left, right))
    dx, dy = (a[:, :, :, own, own].reshape(count, points, -1) for a in (left, right))
    # all pairs of degrees at once: small matrices, one a ray
    whole = np.einsum("dvn,evn->dev", x, y.conj())
    diagonal = np.einsum("dvn,evn->dev", dx, dy)
    opened, closed = (np.zeros((count, points), dtype=complex) for _ in range(2))
    for d in range(count):
        opened[d:] += whole[d, : count - d]
        closed[d:] += diagonal[d, : count - d]
    return opened, closed
