"""Weights of a mesh-free layer: how they are stored, what they mean, how they start.

Stored weights are in units of one fixed length, so that their gradients have one unit and an
optimiser's step moves all of them alike. Physical values are in units of the domain.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradconv.errors import InputError
from gradconv.nn.engine.pairs import monomials

# A = length² (GGᵀ + FLOOR (1 + |G|²) I): positive definite whatever the weights, in single
# precision too, where GGᵀ alone may not be.
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


def unpack(triangle: Tensor, dim: int) -> Tensor:
    """Symmetric matrices from upper triangles, row by row: ``(…, d(d+1)/2)`` to ``(…, d, d)``."""
    rows, columns = np.triu_indices(dim)
    place = np.empty((dim, dim), np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return triangle[..., place]


def cholesky_product(factor: Tensor, dim: int) -> Tensor:
    """GGᵀ + FLOOR (1 + |G|²) I, from G's lower triangle to the upper triangle, row by row.

    Shape ``(…, d(d+1)/2)``, as the argument's.
    """
    g = factor.unbind(-1)  # entry by entry: products of many small matrices are slow

    def row(a: int) -> tuple[Tensor, ...]:
        return g[a * (a + 1) // 2 : (a + 1) * (a + 2) // 2]

    def entry(a: int, b: int) -> Tensor:
        terms = [x * y for x, y in zip(row(a), row(b), strict=False)]
        return functools.reduce(torch.add, terms)

    entries = {(a, b): entry(a, b) for a in range(dim) for b in range(a, dim)}
    trace = functools.reduce(torch.add, [entries[a, a] for a in range(dim)])
    floor = FLOOR * (1.0 + trace)
    return torch.stack([v + floor if a == b else v for (a, b), v in entries.items()], dim=-1)


def cholesky_factor(matrices: Tensor, argument: str = "diffusion") -> Tensor:
    """Lower triangle of G, row by row, from matrices GGᵀ + FLOOR (1 + |G|²) I.

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
    doubles = matrices.double()
    trace = doubles.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    floor = FLOOR * (1.0 + trace) / (1.0 + FLOOR * dim)  # FLOOR (1 + |G|²)
    eye = torch.eye(dim, dtype=torch.float64, device=matrices.device)
    rest = doubles - floor[..., None, None] * eye
    lowest = float(torch.linalg.eigvalsh(rest).min()) if matrices.numel() else 1.0
    if lowest <= 0.0:
        raise InputError(
            f"`{argument}` must have eigenvalues above {FLOOR:g} (1 + trace), in units of the "
            f"layer's length squared; got one {-lowest:.3g} below"
        )
    rows, columns = np.tril_indices(dim)
    return torch.linalg.cholesky(rest)[..., rows, columns].to(matrices.dtype)


def narrowest(triangle: Tensor, dim: int) -> Tensor:
    """Standard deviation along the narrowest axis of kernels, from the upper triangle of A."""
    if dim == 2:
        a, b, c = triangle.unbind(-1)
        largest = (a + c) / 2.0 + torch.hypot((a - c) / 2.0, b)
        # The determinant over the larger root: the difference would cancel.
        return torch.sqrt(2.0 * (a * c - b * b).clamp_min(0.0) / largest)
    lowest = torch.linalg.eigvalsh(unpack(triangle, dim))[..., 0]
    return torch.sqrt(2.0 * lowest.clamp_min(0.0))


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
