"""The gradient by torch's automatic differentiation: any boundary, an independent second opinion.

Stencils convolve grid point by grid point, other kernels through their symbol on an extended box;
the derivative by θ is torch's, not ours.
"""

from __future__ import annotations

import numpy as np

from gradconv.backend import Backend
from gradconv.kernels import Kernel
from gradconv.mesh import Mesh


def autograd_gradients(
    kernel: Kernel,
    mesh: Mesh,
    x: np.ndarray,
    y: np.ndarray,
    boundary: str = "periodic",
    device: str = "cpu",
    dtype: str = "float64",
) -> np.ndarray:
    """Gradient of ½ h^d Σ |K x − y|² by θ, one replicate after the other.

    Parameters
    ----------
    kernel : Kernel
        The convolution.
    mesh : Mesh
        The mesh.
    x : ndarray
        Shape ``(replicates, in, *mesh.shape)``.
    y : ndarray
        Shape ``(replicates or 1, out, *mesh.shape)``.
    boundary : {"periodic", "zero", "reflecting"}
        What lies outside the box.
    device, dtype : str
        Where and how precisely to compute.

    Returns
    -------
    ndarray
        Shape ``(replicates, out, in, p)``.
    """
    import torch

    backend = Backend(device, dtype, "torch")
    weight = mesh.h**mesh.dim
    gradients = []
    for r in range(len(x)):
        theta = backend.array(kernel.theta).clone().requires_grad_(True)
        field, target = backend.array(x[r : r + 1]), backend.array(y[r % len(y)][None])
        residual = kernel.apply(field, theta, boundary) - target
        loss = 0.5 * weight * torch.sum(residual * residual)
        (gradient,) = torch.autograd.grad(loss, theta)
        gradients.append(backend.numpy(gradient))
    return np.array(gradients, dtype=float)
