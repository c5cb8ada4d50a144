"""Mesh-free kernels in place of stencils: fits, and swaps in whole networks."""

from __future__ import annotations

from gradconv.nn.fitting.fit import StencilFit, fit_stencil
from gradconv.nn.fitting.swap import to_mesh_free
from gradconv.nn.fitting.swap_report import SwapReport, SwapRow

__all__ = ["StencilFit", "SwapReport", "SwapRow", "fit_stencil", "to_mesh_free"]
