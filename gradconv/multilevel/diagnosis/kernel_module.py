"""The single layer of a `Problem` as a torch module, so that it can be diagnosed like any other."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gradconv.kernels import Kernel


class KernelModule(nn.Module):
    """A kernel with its parameters in units of its scale.

    With θ = scale × `theta`, the gradient by `theta` is the scaled gradient of `gradconv.sweep`,
    whose components have one unit, and laws hold for it as they stand.

    Parameters
    ----------
    kernel : Kernel
        The convolution.
    boundary : {"periodic", "zero", "reflecting"}
        What lies outside the box.
    """

    scale: torch.Tensor

    def __init__(self, kernel: Kernel, boundary: str = "periodic") -> None:
        super().__init__()
        self.kernel, self.boundary, self.dim = kernel, boundary, kernel.dim
        self.in_channels = kernel.in_channels
        scale = np.broadcast_to(kernel.scale, kernel.theta.shape)
        self.register_buffer("scale", torch.from_numpy(np.array(scale, dtype=float)))
        theta = np.array(kernel.theta / scale, dtype=float)
        self.theta = nn.Parameter(torch.from_numpy(theta))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, in, *n) -> (B, out, *n)
        """Convolve on the mesh of the input."""
        made = self.kernel.apply(x, self.theta * self.scale, self.boundary)
        return torch.as_tensor(made)
