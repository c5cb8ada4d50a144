"""Kernels: parametrised convolutions. One file each."""

from __future__ import annotations

from gradconv.kernels import (  # noqa: F401  (importing a file registers its kernel)
    gaussian_derivative,
    mfc,
    scaled_stencil,
    spectral,
    stencil,
)
from gradconv.kernels.base import (
    KERNELS,
    Kernel,
    KernelFamily,
    KernelFormula,
    KernelOptions,
    Operator,
)

__all__ = ["KERNELS", "Kernel", "KernelFamily", "KernelFormula", "KernelOptions", "Operator"]
