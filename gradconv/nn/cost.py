"""What a mesh-free layer costs: modes, operations by part, and those of a stencil beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradconv.errors import InputError, check_whole
from gradconv.nn.checks import checked_mesh
from gradconv.nn.engine.pairs import degree_of, monomials
from gradconv.nn.engine.plan import AxisPlan, Plan
from gradconv.nn.engine.transform import folds
from gradconv.nn.layer import _MeshFreeConv


@dataclass(frozen=True)
class LayerCost:
    """Floating-point operations of a forward and a backward pass with all gradients.

    A product of matrices (m, k) and (k, n) counts 2mkn. Transforms are counted with the
    half-period symmetry of a periodic axis where the torch path uses it; an exponential counts as
    one operation.

    Parameters
    ----------
    modes : int
        Frequencies computed, conjugates not counted.
    all_modes : int
        Frequencies of the mesh, extended beyond walls, conjugates not counted.
    analysis, mixing, synthesis : float
        Operations of the three steps: in the forward pass each is done once, in the backward pass
        both transforms again and the mixing with its gradients.
    stencil : float
        Operations of a stencil of three points an axis with the same channels.
    spectrum_bytes : int
        What is kept for the backward pass, in the type of the weights.
    """

    modes: int
    all_modes: int
    analysis: float
    mixing: float
    synthesis: float
    stencil: float
    spectrum_bytes: int

    @property
    def total(self) -> float:
        """Operations of forward and backward pass."""
        return self.analysis + self.mixing + self.synthesis

    def __str__(self) -> str:
        """One line a part."""
        lines = [f"{self.modes} of {self.all_modes} frequencies"]
        for name in ("analysis", "mixing", "synthesis", "total", "stencil"):
            lines.append(f"{name:<10}{getattr(self, name) / 1e9:10.3f} GFLOP")
        lines.append(f"{'saved':<10}{self.spectrum_bytes / 2**20:10.3f} MiB for the backward pass")
        return "\n".join(lines)


def layer_cost(layer: _MeshFreeConv, shape: Sequence[int], batch: int = 1) -> LayerCost:
    """Count the operations of a layer with its present weights on a mesh.

    Parameters
    ----------
    layer : MeshFreeConv1d, MeshFreeConv2d or MeshFreeConv3d
        The layer; its widths decide how many frequencies there are.
    shape : sequence of int
        Points along each axis.
    batch : int
        Fields at once, at least 1.

    Returns
    -------
    LayerCost

    Raises
    ------
    InputError
        If the shape or the batch does not fit.
    """
    if not isinstance(layer, _MeshFreeConv):
        raise InputError(f"`layer` must be a MeshFreeConv; got {type(layer).__name__}")
    points = checked_mesh(shape, layer.dim)
    check_whole("batch", batch, 1)
    plan = layer.plan(points)
    fields = batch * layer.in_channels
    made = batch * layer.out_channels
    into, out = _transform(plan, "forward"), _transform(plan, "inverse")
    size = float(np.prod(points))
    pairs = layer.out_channels * layer.in_channels // layer.groups
    item = layer.drift.element_size()
    return LayerCost(
        modes=plan.modes,
        all_modes=_all_modes(plan, layer.sides(points)),
        analysis=fields * into + made * out,
        mixing=_mixing(layer, plan, batch),
        synthesis=made * out + fields * into,
        stencil=float(6 * 3**layer.dim * batch * pairs * size / np.prod(layer.stride)),
        spectrum_bytes=2 * fields * plan.modes * item,
    )


def _all_modes(plan: Plan, sides: tuple[float, ...]) -> int:
    """Frequencies of the extended mesh, with both ends |j| = n/2 of the leading axes."""
    half = [round(a.n * a.length / s) // 2 for a, s in zip(plan.axes, sides, strict=True)]
    return int(np.prod([2 * j + 1 for j in half[:-1]])) * (half[-1] + 1)


def _transform(plan: Plan, side: str) -> float:
    """Operations of one field to modes, or back."""
    total, rest = 0.0, [a.n if side == "forward" else a.out for a in plan.axes]
    for i, axis in enumerate(plan.axes):
        waves = 2 * (axis.highest + 1)
        others = float(np.prod(rest[:i] + rest[i + 1 :]))
        total += 2.0 * _length(axis, side) * waves * others
        rest[i] = waves
    return total


def _length(axis: AxisPlan, side: str) -> float:
    n = axis.n if side == "forward" else axis.out
    return n / 2 if folds(axis) else n


def _mixing(layer: _MeshFreeConv, plan: Plan, batch: int) -> float:
    """Operations on the modes, forward and backward."""
    pairs = layer.out_channels * layer.in_channels // layer.groups
    degree = degree_of(len(monomials(layer.dim, layer.derivatives)), layer.dim)
    moments = len(monomials(layer.dim, degree + 2))
    product = 8.0 * batch  # complex multiply and add, a pair
    symbol = layer.terms * (8.0 + 6.0)  # by ratios, and with its prefactor
    gradient = layer.terms * (6.0 + 2.0 * moments)
    return plan.modes * pairs * (3.0 * product + 2.0 * symbol + gradient)
