"""Nonlinear least squares for the mesh-free kernels of many channel pairs at once.

Everything here is in units of cells: θ = k h, diffusion in cells squared, drift in cells. Each
pair has its own kernel Σ_e P_e(θ) exp(−θᵀA_eθ + i b_e·θ), with A_e = lowest I + L_e L_eᵀ, which
keeps a kernel from becoming narrower than allowed, and b_e = centre + reach tanh β_e, which keeps
it near the stencil.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

CHUNK_BYTES = 1 << 27  # of Jacobians held at once


@dataclass(frozen=True)
class Limits:
    """How narrow, how wide and how far off a kernel may be, in cells.

    Attributes
    ----------
    lowest, highest : float
        Smallest eigenvalue and largest trace that A may have.
    centre : Tensor
        Middle of the stencil, shape ``(d,)``.
    reach : Tensor
        Half the stencil's length along each axis, shape ``(d,)``.
    """

    lowest: float
    highest: float
    centre: Tensor
    reach: Tensor


@dataclass(frozen=True)
class Kernels:
    """Kernels of p pairs with E terms in d dimensions.

    Attributes
    ----------
    coefficients : Tensor
        Of the monomials 1, iθ_a, (iθ_a)(iθ_b), a ≤ b, shape ``(p, E, M)``.
    factor : Tensor
        L, lower triangular, shape ``(p, E, d, d)``.
    drift : Tensor
        β, shape ``(p, E, d)``.
    """

    coefficients: Tensor
    factor: Tensor
    drift: Tensor

    def diffusion(self, limits: Limits) -> Tensor:
        """A, shape ``(p, E, d, d)``."""
        eye = torch.eye(self.factor.shape[-1], dtype=self.factor.dtype)
        return limits.lowest * eye + self.factor @ self.factor.mT

    def shift(self, limits: Limits) -> Tensor:
        """b, shape ``(p, E, d)``."""
        return limits.centre + limits.reach * torch.tanh(self.drift)

    def __getitem__(self, pairs: Tensor | slice) -> Kernels:
        """Return the kernels of some pairs."""
        return Kernels(self.coefficients[pairs], self.factor[pairs], self.drift[pairs])


def monomial_values(theta: Tensor, derivatives: int) -> Tensor:
    """1, iθ_a, (iθ_a)(iθ_b) with a ≤ b row by row, up to the given order; shape ``(K, M)``."""
    dim = theta.shape[-1]
    columns = [torch.ones_like(theta[:, 0]) + 0j]
    if derivatives >= 1:
        columns += [1j * theta[:, a] for a in range(dim)]
    if derivatives >= 2:
        columns += [-theta[:, a] * theta[:, b] + 0j for a in range(dim) for b in range(a, dim)]
    return torch.stack(columns, dim=-1)


def exponentials(theta: Tensor, diffusion: Tensor, drift: Tensor) -> Tensor:
    """exp(−θᵀAθ + i b·θ), shape ``(..., K)`` for A ``(..., d, d)`` and b ``(..., d)``."""
    decay = torch.einsum("ka,...ab,kb->...k", theta, diffusion, theta)
    return torch.exp(torch.complex(-decay, drift @ theta.T))


def symbols(theta: Tensor, mono: Tensor, kernels: Kernels, limits: Limits) -> Tensor:
    """Evaluate Σ_e P_e exp(…), shape ``(p, K)``."""
    waves = exponentials(theta, kernels.diffusion(limits), kernels.shift(limits))
    return ((kernels.coefficients + 0j) @ mono.T * waves).sum(dim=1)


def refine(
    theta: Tensor,
    weight: Tensor,
    mono: Tensor,
    target: Tensor,
    start: Kernels,
    limits: Limits,
    steps: int,
) -> Kernels:
    """Levenberg and Marquardt's method for every pair by itself, all of them in step.

    Parameters
    ----------
    theta : Tensor
        Frequencies, shape ``(K, d)``, one of each conjugate pair.
    weight : Tensor
        Weight of each, shape ``(K,)``.
    mono : Tensor
        `monomial_values` at theta.
    target : Tensor
        Symbols to fit, complex, shape ``(p, K)``, of size about 1.
    start : Kernels
        Where to start from; no pair ends worse than it started.
    limits : Limits
        Bounds on the kernels.
    steps : int
        Number of steps.

    Returns
    -------
    Kernels
        The kernels of all pairs.
    """
    _, terms, count = start.coefficients.shape
    dim = theta.shape[-1]
    unknowns = terms * (count + dim * (dim + 1) // 2 + dim)
    chunk = max(1, CHUNK_BYTES // (16 * unknowns * len(theta)))
    parts = [
        _refine_chunk(
            theta, weight, mono, target[i : i + chunk], start[i : i + chunk], limits, steps
        )
        for i in range(0, len(target), chunk)
    ]
    return Kernels(
        torch.cat([p.coefficients for p in parts]),
        torch.cat([p.factor for p in parts]),
        torch.cat([p.drift for p in parts]),
    )


def _refine_chunk(
    theta: Tensor,
    weight: Tensor,
    mono: Tensor,
    target: Tensor,
    start: Kernels,
    limits: Limits,
    steps: int,
) -> Kernels:
    def cost(kernels: Kernels) -> Tensor:
        gap = symbols(theta, mono, kernels, limits) - target
        return (weight * (gap.real**2 + gap.imag**2)).sum(dim=-1)

    best, lowest_cost = start, cost(start)
    damping = torch.full_like(lowest_cost, 1e-2)
    for _ in range(steps):
        normal, slope = _normal_equations(theta, weight, mono, target, best, limits)
        diagonal = torch.diagonal(normal, dim1=-2, dim2=-1)
        # the floor keeps directions that do nothing (a term of amplitude zero) solvable
        floor = 1e-9 * diagonal.amax(dim=-1, keepdim=True) + 1e-30
        lifted = normal + torch.diag_embed(damping[:, None] * diagonal + floor)
        step = torch.linalg.solve(lifted, -slope)
        trial = _moved(best, step)
        trial_cost = cost(trial)
        inside = trial.factor.square().sum(dim=(-2, -1)).amax(dim=-1) <= limits.highest
        better = (trial_cost < lowest_cost) & inside
        best = _choose(better, trial, best)
        lowest_cost = torch.where(better, trial_cost, lowest_cost)
        damping = torch.where(better, damping / 3.0, damping * 4.0).clamp(1e-9, 1e9)
    return best


def _normal_equations(
    theta: Tensor, weight: Tensor, mono: Tensor, target: Tensor, kernels: Kernels, limits: Limits
) -> tuple[Tensor, Tensor]:
    """Gauss–Newton matrix ``(p, N, N)`` and gradient ``(p, N)`` of half the cost."""
    pairs = len(kernels.coefficients)
    dim = theta.shape[-1]
    waves = exponentials(theta, kernels.diffusion(limits), kernels.shift(limits))
    terms_value = (kernels.coefficients + 0j) @ mono.T * waves  # (p, E, K)
    rows, columns = torch.tril_indices(dim, dim)
    inner = torch.einsum("ka,peab->pekb", theta, kernels.factor)  # θᵀL
    by_factor = -2.0 * theta[:, rows] * inner[..., columns] * terms_value[..., None]
    speed = limits.reach * (1.0 - torch.tanh(kernels.drift) ** 2)
    by_drift = 1j * theta * speed[:, :, None, :] * terms_value[..., None]
    by_coefficient = mono * waves[..., None]
    jacobian = torch.cat([by_coefficient, by_factor, by_drift], dim=-1)  # (p, E, K, N/E)
    jacobian = jacobian.transpose(1, 2).reshape(pairs, len(theta), -1)
    root = weight.sqrt()
    stacked = torch.view_as_real(jacobian * root[:, None]).transpose(-1, -2).flatten(1, 2)
    gap = torch.view_as_real((terms_value.sum(dim=1) - target) * root).flatten(1)
    return stacked.mT @ stacked, (stacked.mT @ gap[..., None])[..., 0]


def _moved(kernels: Kernels, step: Tensor) -> Kernels:
    terms, count = kernels.coefficients.shape[1:]
    dim = kernels.drift.shape[-1]
    rows, columns = torch.tril_indices(dim, dim)
    step = step.reshape(len(step), terms, -1)
    by_coefficient, by_factor, by_drift = step.split([count, len(rows), dim], dim=-1)
    factor = kernels.factor.clone()
    factor[..., rows, columns] += by_factor
    return Kernels(kernels.coefficients + by_coefficient, factor, kernels.drift + by_drift)


def _choose(first: Tensor, a: Kernels, b: Kernels) -> Kernels:
    return replace(
        b,
        coefficients=torch.where(first[:, None, None], a.coefficients, b.coefficients),
        factor=torch.where(first[:, None, None, None], a.factor, b.factor),
        drift=torch.where(first[:, None, None], a.drift, b.drift),
    )
