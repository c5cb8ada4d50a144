"""Weights of a mesh-free layer: how they are stored, what they mean, how they start.

Stored weights are in units of one fixed length, so that their gradients have one unit and an
optimiser's step moves all of them alike. Physical values are in units of the domain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradconv.errors import InputError
from gradconv.nn.pairs import monomials

# A = length² (GGᵀ + FLOOR I): positive definite whatever the weights.
FLOOR = 1e-6


@dataclass(frozen=True)
class PhysicalParameters:
    """Kernels Σ_e P_e(∇) exp(∇·A_e∇ + b_e·∇), P = c + p·∇ + Σ q_ab ∂_a∂_b.

    Parameters
    ----------
    amplitude : Tensor, shape ``(out, in / groups, terms)``
        c, the integral of the term's kernel.
    derivative : Tensor, shape ``(out, in / groups, terms, P)``
        p, then q for a ≤ b; units of the domain to the order of the derivative. P = 0 without.
    diffusion : Tensor, shape ``(out, in / groups, terms, d, d)``
        A, in units of the domain squared. The kernel's covariance is 2A.
    drift : Tensor, shape ``(out, in / groups, terms, d)``
        b, in units of the domain: the output at t is centred at t + b.
    """

    amplitude: Tensor
    derivative: Tensor
    diffusion: Tensor
    drift: Tensor

    @property
    def widths(self) -> Tensor:
        """Standard deviations along the principal axes, shape ``(out, in / groups, terms, d)``."""
        return torch.sqrt(2.0 * torch.linalg.eigvalsh(self.diffusion))


def derivative_orders(dim: int, derivatives: int) -> Tensor:
    """Order of each derivative prefactor, shape ``(P,)``."""
    return torch.tensor([len(m) for m in monomials(dim, derivatives)[1:]], dtype=torch.int64)


def pack(matrices: Tensor) -> Tensor:
    """Upper triangle, row by row: ``(…, d, d)`` to ``(…, d(d+1)/2)``."""
    rows, columns = np.triu_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


def cholesky_product(factor: Tensor, dim: int) -> Tensor:
    """GGᵀ + FLOOR I from the lower triangle of G, row by row; shape ``(…, d, d)``."""
    rows, columns = np.tril_indices(dim)
    g = factor.new_zeros(*factor.shape[:-1], dim, dim)
    g[..., rows, columns] = factor
    eye = torch.eye(dim, dtype=factor.dtype, device=factor.device)
    return g @ g.transpose(-1, -2) + FLOOR * eye


def cholesky_factor(matrices: Tensor, argument: str = "diffusion") -> Tensor:
    """Inverse of `cholesky_product`, shape ``(…, d(d+1)/2)``.

    Raises
    ------
    InputError
        If a matrix is not symmetric with eigenvalues above the floor.
    """
    dim = matrices.shape[-1]
    if not torch.isfinite(matrices).all():
        raise InputError(f"`{argument}` must be finite; got NaN or infinity")
    if not torch.allclose(matrices, matrices.transpose(-1, -2), rtol=1e-6, atol=0.0):
        raise InputError(f"`{argument}` must be symmetric; got a matrix that is not")
    lowest = float(torch.linalg.eigvalsh(matrices.double()).min()) if matrices.numel() else 1.0
    if lowest <= FLOOR:
        raise InputError(
            f"`{argument}` must have eigenvalues above {FLOOR:g} of the layer's length squared; "
            f"got {lowest:.3g}"
        )
    eye = torch.eye(dim, dtype=torch.float64, device=matrices.device)
    g = torch.linalg.cholesky(matrices.double() - FLOOR * eye)
    rows, columns = np.tril_indices(dim)
    return g[..., rows, columns].to(matrices.dtype)


def initial_diffusion(
    pairs: tuple[int, ...],
    dim: int,
    widths: tuple[float, float],
    generator: torch.Generator | None,
) -> Tensor:
    """Random A whose kernels have widths log-uniform in a range, in random directions.

    Returns
    -------
    Tensor, shape ``(*pairs, d, d)``, float64
    """
    low, high = widths
    spread = torch.rand(*pairs, dim, dtype=torch.float64, generator=generator)
    variances = (low * (high / low) ** spread) ** 2
    turned = torch.randn(*pairs, dim, dim, dtype=torch.float64, generator=generator)
    axes, _ = torch.linalg.qr(turned)
    a = axes @ torch.diag_embed(variances / 2.0) @ axes.transpose(-1, -2)
    return (a + a.transpose(-1, -2)) / 2.0


def response(diffusion: Tensor, axes: tuple[int, ...], length: float) -> Tensor:
    """Variance that ∂_axes exp(∇·A∇) leaves of a unit field of correlation length `length`.

    The field has the spectrum exp(−length² k²); the integrals over k are Gaussian moments.

    Parameters
    ----------
    diffusion : Tensor, shape ``(…, d, d)``
        A.
    axes : tuple of int
        The derivatives taken, up to two.
    length : float
        Correlation length, in units of the domain.

    Returns
    -------
    Tensor, shape ``(…)``
    """
    eye = torch.eye(diffusion.shape[-1], dtype=diffusion.dtype)
    precision = 2.0 * diffusion + length**2 * eye
    kept = torch.linalg.det(precision / length**2) ** -0.5
    cov = torch.linalg.inv(precision) / 2.0
    if len(axes) == 2:
        a, b = axes
        return kept * (cov[..., a, a] * cov[..., b, b] + 2.0 * cov[..., a, b] ** 2)
    return kept * cov[..., axes[0], axes[0]] if axes else kept
