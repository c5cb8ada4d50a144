"""The kernels of all channel pairs as tensors, and the polynomials in k that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from torch import Tensor

from gradconv.nn.engine.plan import Plan

Pair = tuple[Tensor, Tensor]  # real and imaginary parts


@dataclass(frozen=True)
class Parameters:
    """Kernels in physical units, as tensors.

    Parameters
    ----------
    coefficients : Tensor, shape ``(out, in / groups, terms, P)``
        Of 1, ik_a, (ik_a)(ik_b).
    quadratic : Tensor, shape ``(out, in / groups, terms, d(d+1)/2)``
        Upper triangle of A, row by row.
    drift : Tensor, shape ``(out, in / groups, terms, d)``
        b.
    groups : int
        Groups of channels.
    """

    coefficients: Tensor
    quadratic: Tensor
    drift: Tensor
    groups: int

    @property
    def terms(self) -> int:
        """Exponentials a channel pair."""
        return int(self.drift.shape[2])

    def lanes(self, values: Tensor, term: int) -> Tensor:
        """One term's values, shape ``(columns, groups · in · out)``: the layout of S."""
        out, in_ = values.shape[:2]
        v = values[:, :, term].reshape(self.groups, out // self.groups, in_, -1)
        return v.permute(3, 0, 2, 1).reshape(values.shape[-1], -1)

    def unlanes(self, values: Tensor) -> Tensor:
        """Inverse of `lanes`: ``(columns, lanes)`` to ``(out, in, columns)``."""
        out, in_ = self.drift.shape[:2]
        v = values.reshape(-1, self.groups, in_, out // self.groups)
        return v.permute(1, 3, 2, 0).reshape(out, in_, -1)


def monomials(dim: int, degree: int) -> list[tuple[int, ...]]:
    """List the axes of each monomial up to a degree: (), (0,), (1,), (0, 0), (0, 1), (1, 1)."""
    return [m for n in range(degree + 1) for m in combinations_with_replacement(range(dim), n)]


def degree_of(columns: int, dim: int) -> int:
    """Degree of a prefactor with so many coefficients."""
    return next(n for n in range(3) if len(monomials(dim, n)) == columns)


def powers(plan: Plan) -> np.ndarray:
    """Real monomials k^m up to degree 4 of the modes kept, shape ``(monomials, modes)``."""
    k = plan.frequencies
    names = monomials(plan.dim, 4)
    return np.stack([np.prod(k[list(m)], axis=0) if m else np.ones(k.shape[1]) for m in names])


def squares(plan: Plan) -> np.ndarray:
    """Factors of the entries of A in log E, and log w, shape ``(modes, d(d+1)/2 + 1)``."""
    k = plan.frequencies
    rows, columns = np.triu_indices(plan.dim)
    factors = np.where(rows == columns, -1.0, -2.0)[:, None] * k[rows] * k[columns]
    return np.concatenate([factors, np.log(plan.weights)[None]]).T


def products(plan: Plan) -> np.ndarray:
    """k_a k_b, shape ``(modes, d(d+1)/2)``."""
    k = plan.frequencies
    rows, columns = np.triu_indices(plan.dim)
    return (k[rows] * k[columns]).T


def frequencies(plan: Plan) -> np.ndarray:
    """K of the modes kept, shape ``(modes, d)``."""
    return plan.frequencies.T
