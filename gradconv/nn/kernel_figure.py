"""What each parameter does to a mesh-free kernel: values in closed form, and their figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradconv.errors import InputError
from gradconv.figures import COLOURS, SCREEN, Style
from gradconv.nn.engine.pairs import monomials
from gradconv.nn.layer import _MeshFreeConv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray
REACH = 4.5  # half side of a panel, in standard deviations of the layer's own kernel


@dataclass(frozen=True, eq=False)
class GaussianKernel:
    """One kernel P(∇) exp(∇·A∇ + b·∇) in units of the domain.

    Parameters
    ----------
    coefficients : ndarray, shape ``(P,)``
        Of 1, ∂_a, ∂_a∂_b (a ≤ b), as many as there are.
    diffusion : ndarray, shape ``(d, d)``
        A.
    drift : ndarray, shape ``(d,)``
        b.
    """

    coefficients: Array
    diffusion: Array
    drift: Array

    def values(self, *points: Array) -> Array:
        """GaussianKernel κ(s), with output(t) = ∫ κ(s) input(t − s) ds.

        Parameters
        ----------
        *points : ndarray
            Coordinates s_a, which broadcast against each other.

        Returns
        -------
        ndarray
            κ at the points, in units of 1 / domain^d.
        """
        dim = len(self.drift)
        r = np.stack(np.broadcast_arrays(*points), axis=-1) + self.drift
        half = np.linalg.inv(2.0 * self.diffusion)
        slope = -r @ half  # ∇ log of the Gaussian
        gauss = np.exp(0.5 * np.sum(r * slope, axis=-1))
        gauss = gauss / np.sqrt((4.0 * np.pi) ** dim * np.linalg.det(self.diffusion))
        total = np.zeros_like(gauss)
        for c, axes in zip(self.coefficients, self._derivatives(), strict=True):
            factor: Array | float = 1.0
            if len(axes) == 1:
                factor = slope[..., axes[0]]
            elif len(axes) == 2:
                factor = slope[..., axes[0]] * slope[..., axes[1]] - half[axes[0], axes[1]]
            total = total + c * factor * gauss
        return np.asarray(total)

    def moments(self) -> tuple[float, Array, Array]:
        """∫κ, ∫ s κ and ∫ s sᵀ κ in closed form, shapes ``()``, ``(d,)`` and ``(d, d)``."""
        dim = len(self.drift)
        # those of the Gaussian; a derivative in front goes over to s, with the opposite sign
        centre, spread = -self.drift, 2.0 * self.diffusion + np.outer(self.drift, self.drift)
        mass, first, second = 0.0, np.zeros(dim), np.zeros((dim, dim))
        unit = np.eye(dim)
        for c, axes in zip(self.coefficients, self._derivatives(), strict=True):
            if not axes:
                mass, first, second = mass + c, first + c * centre, second + c * spread
                continue
            e = [unit[a] for a in axes]
            if len(e) == 1:
                first = first - c * e[0]
                pair, sign = (e[0], centre), -1.0
            else:
                pair, sign = (e[0], e[1]), 1.0
            second = second + sign * c * (np.outer(*pair) + np.outer(*pair).T)
        return float(mass), first, second

    def _derivatives(self) -> list[tuple[int, ...]]:
        dim, count = len(self.drift), len(self.coefficients)
        return list(monomials(dim, 0 if count == 1 else 1 if count <= 1 + dim else 2))


@dataclass(frozen=True, eq=False)
class KernelFamily:
    """Kernels of the figure: a row a parameter, in it a kernel for each value.

    Parameters
    ----------
    width : float
        Standard deviation of the layer's own kernel, its geometric mean over the axes.
    rows : tuple of (title, tuple of (label, kernels))
        Kernels that are summed, each `GaussianKernel`.
    """

    width: float
    rows: tuple[tuple[str, tuple[tuple[str, tuple[GaussianKernel, ...]], ...]], ...]


@dataclass(frozen=True, eq=False)
class KernelSheet:
    """Data of the figure: a row a parameter, a panel a value of it.

    Parameters
    ----------
    reach : float
        Half side of the panels, in units of the domain.
    rows : tuple of (title, tuple of (label, values))
        Values have shape ``(points,)`` in one dimension, else ``(points, points)``: a slice
        through the origin, the first axis down.
    """

    reach: float
    rows: tuple[tuple[str, tuple[tuple[str, Array], ...]], ...]


def layer_kernels(
    layer: _MeshFreeConv, out_channel: int = 0, in_channel: int = 0
) -> list[GaussianKernel]:
    """Kernels of one channel pair, a term each.

    Parameters
    ----------
    layer : MeshFreeConv1d, MeshFreeConv2d or MeshFreeConv3d
        The layer.
    out_channel, in_channel : int
        The pair; `in_channel` counts within the output's group.

    Raises
    ------
    InputError
        If there is no such pair, or `layer` is no mesh-free convolution.
    """
    if not isinstance(layer, _MeshFreeConv):
        raise InputError(f"`layer` must be a MeshFreeConv; got {type(layer).__name__}")
    out, in_ = layer.drift.shape[:2]
    for name, value, count in (("out_channel", out_channel, out), ("in_channel", in_channel, in_)):
        if not 0 <= value < count:
            raise InputError(f"`{name}` must lie in 0 to {count - 1}; got {value}")
    p = layer.physical()
    found = []
    for e in range(layer.terms):
        place = (out_channel, in_channel, e)
        c, rest, a, b = (
            v[place].detach().cpu().double().numpy()
            for v in (p.amplitude, p.derivative, p.diffusion, p.drift)
        )
        found.append(GaussianKernel(np.concatenate([c[None], rest]), a, b))
    return found


def kernel_family(layer: _MeshFreeConv, out_channel: int = 0, in_channel: int = 0) -> KernelFamily:
    """Vary diffusion, anisotropy, direction, drift and derivatives about a layer's kernel.

    Parameters
    ----------
    layer, out_channel, in_channel
        As in `layer_kernels`; the width of the pair's first term is that of the others.

    Returns
    -------
    KernelFamily
        First the layer's own kernel of this pair, all terms together, and its terms.
    """
    kernels = layer_kernels(layer, out_channel, in_channel)
    dim = layer.dim
    width = float(np.exp(0.5 * np.log(2.0 * np.linalg.eigvalsh(kernels[0].diffusion)).mean()))
    own = [("all terms", tuple(kernels))]
    if layer.terms > 1:
        own += [(f"term {e + 1}", (k,)) for e, k in enumerate(kernels[:4])]
    plain = GaussianKernel(np.ones(1), 0.5 * width**2 * np.eye(dim), np.zeros(dim))
    varied = [("diffusion A", _scaled(plain))]
    if dim > 1:
        varied += [("anisotropy of A", _stretched(plain)), ("direction of A", _turned(plain))]
    varied += [("drift b", _drifted(plain, width)), ("derivative", _differentiated(plain))]
    rows = [(title, tuple((label, (kernel,)) for label, kernel in row)) for title, row in varied]
    return KernelFamily(width, (("this layer's kernel", tuple(own)), *rows))


def kernel_sheet(
    layer: _MeshFreeConv, out_channel: int = 0, in_channel: int = 0, points: int = 81
) -> KernelSheet:
    """Values of a `kernel_family` on panels.

    Parameters
    ----------
    layer, out_channel, in_channel
        As in `kernel_family`.
    points : int
        Points a side of each panel.
    """
    family = kernel_family(layer, out_channel, in_channel)
    reach = REACH * family.width
    s = np.linspace(-reach, reach, points)
    dim = layer.dim
    grid = [s] if dim == 1 else [*np.meshgrid(s, s, indexing="ij"), *[np.zeros(1)] * (dim - 2)]
    return KernelSheet(
        reach,
        tuple(
            (title, tuple((t, sum((k.values(*grid) for k in ks), np.zeros(1))) for t, ks in row))
            for title, row in family.rows
        ),
    )


Row = Sequence[tuple[str, GaussianKernel]]


def _scaled(k: GaussianKernel) -> Row:
    factors = {"A / 4": 0.25, "A / 2": 0.5, "A": 1.0, "2 A": 2.0}
    return [
        (t, GaussianKernel(k.coefficients, f * k.diffusion, k.drift)) for t, f in factors.items()
    ]


def _ellipse(k: GaussianKernel, ratio: float, angle: float) -> GaussianKernel:
    """Widths in a ratio, of the same product, the long axis turned from the first axis."""
    dim = len(k.drift)
    stretch = np.eye(dim)
    stretch[0, 0], stretch[1, 1] = ratio, 1.0 / ratio
    turn = np.eye(dim)
    c, s = np.cos(angle), np.sin(angle)
    turn[:2, :2] = [[c, -s], [s, c]]
    return GaussianKernel(k.coefficients, turn @ (stretch * k.diffusion) @ turn.T, k.drift)


def _stretched(k: GaussianKernel) -> Row:
    ratios = (1.0, 1.5, 2.5, 4.0)
    return [(f"widths 1 : {r:g}", _ellipse(k, r, 0.0)) for r in ratios]


def _turned(k: GaussianKernel) -> Row:
    angles = (0, 30, 60, 90)
    return [(f"{a}°", _ellipse(k, 2.5, np.radians(a))) for a in angles]


def _drifted(k: GaussianKernel, width: float) -> Row:
    dim = len(k.drift)
    first, last = np.eye(dim)[0], np.eye(dim)[-1]
    moves = {"b = 0": 0.0 * first, "1 width": first, "2 widths": 2.0 * first}
    if dim > 1:
        moves["oblique"] = -1.5 * first + 1.5 * last
    else:
        moves["−2 widths"] = -2.0 * first
    return [(t, GaussianKernel(k.coefficients, k.diffusion, width * m)) for t, m in moves.items()]


def _differentiated(k: GaussianKernel) -> Row:
    dim = len(k.drift)
    names = monomials(dim, 2)

    def with_terms(*axes: tuple[int, ...]) -> GaussianKernel:
        c = np.array([1.0 if m in axes else 0.0 for m in names])
        return GaussianKernel(c, k.diffusion, k.drift)

    row = [("∂₁", with_terms((0,)))]
    if dim > 1:
        row += [("∂₂", with_terms((1,))), ("∂₁∂₂", with_terms((0, 1)))]
        return [*row, ("∂₁² + ∂₂²", with_terms((0, 0), (1, 1)))]
    return [("none", k), *row, ("∂₁²", with_terms((0, 0)))]


def kernel_image(
    layer: _MeshFreeConv,
    out_channel: int = 0,
    in_channel: int = 0,
    points: int = 81,
    style: Style = SCREEN,
) -> Figure:
    """Figure of what each parameter does to a kernel: the layer's own first, then one a row.

    Parameters
    ----------
    layer, out_channel, in_channel, points
        As in `kernel_sheet`.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.

    Examples
    --------
    >>> from gradconv.nn import MeshFreeConv2d, kernel_image
    >>> figure = kernel_image(MeshFreeConv2d(1, 1, derivatives=1))
    >>> len(figure.axes)
    21
    """
    return draw_sheet(kernel_sheet(layer, out_channel, in_channel, points), style)


def draw_sheet(sheet: KernelSheet, style: Style = SCREEN) -> Figure:
    """Draw the panels; each has a colour scale of its own, centred at zero.

    Lines at a quarter of the largest value, dashed where it is negative, tell the signs in grey.
    """
    from matplotlib.figure import Figure

    columns, rows = max(len(row) for _, row in sheet.rows), len(sheet.rows)
    flat = sheet.rows[0][1][0][1].ndim == 1
    side = (style.column - 0.5) / columns
    height = rows * ((0.75 if flat else 1.0) * side + 0.021 * style.font) + 0.5
    with style.apply():
        figure = Figure(figsize=(style.column, height))
        figure.set_layout_engine("constrained", w_pad=0.015, h_pad=0.015)
        grid = figure.add_gridspec(rows, columns)
        for i, (title, row) in enumerate(sheet.rows):
            for j, (label, values) in enumerate(row):
                axis = figure.add_subplot(grid[i, j])
                _draw_panel(axis, values, sheet.reach)
                axis.set_title(label, fontsize="x-small", pad=2.0)
                if j == 0:
                    axis.set_ylabel(title, fontsize="x-small")
                if i == rows - 1:
                    end = float(f"{0.6 * sheet.reach:.1g}")
                    axis.set_xticks([-end, 0.0, end], [f"−{end:g}", "0", f"{end:g}"])
                    axis.tick_params(labelsize="x-small")
        along = "s₁" if flat else "s₂ across, s₁ down"
        figure.supxlabel(f"offset {along}, in units of the domain", fontsize="small")
    return figure


def _draw_panel(axis: Axes, values: Array, reach: float) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    s = np.linspace(-reach, reach, len(values))
    if values.ndim == 1:
        axis.axhline(0.0, color="0.75", linewidth=0.6)
        axis.plot(s, values, color=COLOURS[0], linewidth=1.2)
        return
    limit = float(np.abs(values).max()) or 1.0
    edge = reach * len(s) / (len(s) - 1)  # values stand in the middle of their cells
    axis.imshow(
        values,
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        extent=(-edge, edge, edge, -edge),
    )
    lines = [v for v in (-0.25 * limit, 0.25 * limit) if values.min() < v < values.max()]
    styles = ["--" if v < 0 else "-" for v in lines]
    axis.contour(s, s, values, lines, colors="0.15", linewidths=0.5, linestyles=styles)
