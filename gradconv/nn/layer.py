"""Mesh-free convolution layers: the same weights are the same operator on any mesh."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.nn import parameters
from gradconv.nn.checks import (
    check_counts,
    checked_derivatives,
    checked_mesh,
    checked_sides,
    checked_tolerance,
    checked_widths,
    per_axis,
    present,
    shaped,
    usual_sides,
)
from gradconv.nn.engine.opaque import traced
from gradconv.nn.engine.operator import PATHS, Settings, mesh_free, plan_for
from gradconv.nn.engine.pairs import Parameters, monomials
from gradconv.nn.engine.plan import Plan
from gradconv.nn.paddings import WALLS, checked_padding
from gradconv.nn.parameters import PhysicalParameters
from gradconv.restriction import RESTRICTIONS

_WARNED = -1  # in place of a version: a mesh that was warned of
# Of the truncation alone; with rounding 1e-4 is kept in single precision.
_TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-13}


class UnresolvedKernelWarning(UserWarning):
    """A kernel is narrower than a cell of the mesh it is used on."""


class _MeshFreeConv(nn.Module):
    """Convolution with kernels Σ_e P_e(∇) exp(∇·A_e∇ + b_e·∇), one set a channel pair.

    The symbol is Σ_e [c + i p·k − Σ q_ab k_a k_b] exp(−kᵀAk + ib·k): a Gaussian of covariance 2A
    and integral c, moved by −b, and its derivatives. All are in units of the domain, so that the
    same weights are the same operator on every mesh, of any size, odd ones too.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels.
    stride : int or tuple of int
        Factor by which a restriction coarsens the output; it must divide the mesh.
    groups : int
        Groups of channels that do not see each other.
    bias : bool
        Whether a constant is added to each channel.
    padding_mode : {"periodic", "reflect", "zero"}
        How the field goes on outside the domain: periodically, evenly about its faces, or as
        zero. torch's names "circular" and "zeros" are taken too.
    widths : tuple of float
        Range of the standard deviations √(2 eig A) at the start, in units of the domain.
    terms : int
        Exponentials a channel pair.
    derivatives : {0, 1, 2}
        Highest derivative in the prefactors.
    zero_mean : bool
        Whether c is fixed at zero, so that kernels have no mean; needs derivatives.
    restriction : str
        Restriction of a stride: average, injection, full_weighting, …
    extent : float or sequence of float, optional
        Sides of the domain. By default cells are cubes and the shortest side is 1.
    tolerance : float, optional
        Relative error of output and gradients that leaving out frequencies may cause, in the
        Euclidean norm for white input. Default 1e-4 in float32, 1e-13 in float64.
    path : {"auto", "torch", "compiled"}
        Which code computes it; "auto" takes the compiled one where it can.
    generator : torch.Generator, optional
        Randomness of the initial weights; by default torch's own.
    device, dtype
        Of the weights: float32 or float64.

    Attributes
    ----------
    amplitude : Parameter, shape ``(out, in / groups, terms)``
        c.
    derivative : Parameter, shape ``(out, in / groups, terms, P)``
        p and q over powers of `length`; None without derivatives.
    diffusion : Parameter, shape ``(out, in / groups, terms, d(d+1)/2)``
        Lower triangle of G, row by row, with A = length² (GGᵀ + 1e-6 (1 + |G|²) I).
    drift : Parameter, shape ``(out, in / groups, terms, d)``
        b / length.
    length : float
        Unit of the weights: the geometric mean of `widths` over √2, fixed.

    Raises
    ------
    InputError
        If an argument breaks a rule; in `forward`, if the input does not fit.

    Warns
    -----
    UnresolvedKernelWarning
        Once a mesh, if a kernel is narrower than a cell.

    Notes
    -----
    Input is batched. Where the narrow axis of a kernel is less than about a hundredth of the wide
    one, single precision keeps fewer than four digits. `torch.func` transforms are not supported;
    derivatives of any order are, but under `torch.compile` only the first. The state holds
    weights and their unit; `extent`, `padding_mode` and the like are those of the new layer.

    References
    ----------
    *Multiscale Training of Convolutional Neural Networks*, arXiv 2501.12739 (mesh-free
    convolutions).
    """

    dim: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "periodic",
        widths: tuple[float, float] = (1 / 64, 1 / 32),
        terms: int = 1,
        derivatives: int = 0,
        zero_mean: bool = False,
        restriction: str = "average",
        extent: float | Sequence[float] | None = None,
        tolerance: float | None = None,
        path: str = "auto",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_counts(in_channels, out_channels, groups, terms)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.terms = terms
        self.stride = per_axis("stride", stride, self.dim)
        self.padding_mode = checked_padding(padding_mode)
        self.restriction = RESTRICTIONS.parse(restriction).spec
        RESTRICTIONS.parse(restriction).check_boundary(WALLS[self.padding_mode])
        self.extent = None if extent is None else checked_sides(extent, self.dim)
        self.widths = checked_widths(widths)
        self.derivatives = checked_derivatives(derivatives, zero_mean)
        self.tolerance = checked_tolerance(tolerance)
        if path not in PATHS:
            raise unknown_name("path", path, PATHS)
        self.path = path
        kind = dtype or torch.get_default_dtype()
        if kind not in _TOLERANCES:
            raise InputError(f"`dtype` must be float32 or float64; got {kind!r}")
        options: dict[str, Any] = {"device": device, "dtype": kind}
        pairs = (out_channels, in_channels // groups, terms)
        extra = len(monomials(self.dim, derivatives)) - 1
        self.amplitude = None if zero_mean else nn.Parameter(torch.empty(*pairs, **options))
        self.derivative = nn.Parameter(torch.empty(*pairs, extra, **options)) if extra else None
        triangle = self.dim * (self.dim + 1) // 2
        self.diffusion = nn.Parameter(torch.empty(*pairs, triangle, **options))
        self.drift = nn.Parameter(torch.empty(*pairs, self.dim, **options))
        self.bias = nn.Parameter(torch.empty(out_channels, **options)) if bias else None
        # In the state: weights mean nothing without their unit.
        length = math.sqrt(self.widths[0] * self.widths[1] / 2.0)
        self.register_buffer("length", torch.tensor(length, **options))
        orders = parameters.derivative_orders(self.dim, derivatives).to(**options)
        self.register_buffer("_orders", orders, persistent=False)
        self._told: dict[tuple[int, ...], int] = {}  # weights for which a mesh was looked at
        self.reset_parameters(generator)

    length: Tensor
    _orders: Tensor

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights.

        Widths are log-uniform in `widths` in random directions, drifts normal with one width, and
        amplitudes normal with variance 1 / (in / groups · terms): fields that are smooth over the
        kernels, as all are after a first layer, keep their variance. Derivative terms add a
        fifth of that for a field of correlation length `widths[1]`, or all with `zero_mean`.
        """
        if self.drift.is_meta:
            return
        pairs = tuple(self.diffusion.shape[:3])
        fan_in = pairs[1] * pairs[2]
        a = parameters.initial_diffusion(pairs, self.dim, self.widths, generator)
        unit = float(self.length)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        with torch.no_grad():
            self.diffusion.copy_(parameters.cholesky_factor(a / unit**2))
            self.drift.copy_(math.sqrt(2.0) * normal(*pairs, self.dim))
            if self.amplitude is not None:
                self.amplitude.copy_(normal(*pairs) / math.sqrt(fan_in))
            if self.derivative is not None:
                names = monomials(self.dim, self.derivatives)[1:]
                share = (0.2 if self.amplitude is not None else 1.0) / (fan_in * len(names))
                for j, axes in enumerate(names):
                    left = parameters.response(a, axes, self.widths[1])
                    spread = torch.sqrt(share / left) / unit ** len(axes)
                    self.derivative[..., j].copy_(spread * normal(*pairs))
            if self.bias is not None:
                bound = 1.0 / math.sqrt(fan_in)
                draw = torch.rand(self.out_channels, dtype=torch.float64, generator=generator)
                self.bias.copy_(bound * (2.0 * draw - 1.0))

    def physical(self) -> PhysicalParameters:
        """Return the kernels in units of the domain, differentiable in the weights."""
        p = self.kernels()
        amplitude, derivative = p.coefficients[..., 0], p.coefficients[..., 1:]
        return PhysicalParameters(
            amplitude, derivative, parameters.unpack(p.quadratic, self.dim), p.drift
        )

    @torch.no_grad()
    def set_physical(
        self,
        *,
        amplitude: Any = None,
        derivative: Any = None,
        diffusion: Any = None,
        drift: Any = None,
    ) -> None:
        """Set weights from values in units of the domain; what is not given stays.

        Parameters
        ----------
        amplitude, derivative, diffusion, drift : array_like, optional
            Broadcastable to the shapes of `PhysicalParameters`.

        Raises
        ------
        InputError
            If a shape does not fit, a value is not finite, A is not positive definite, or the
            layer has no such weights. No weight is changed then.
        """
        unit = float(self.length)
        new: dict[str, tuple[Tensor, Tensor]] = {}
        pairs = tuple(self.drift.shape[:3])
        if amplitude is not None:
            weight = present("amplitude", self.amplitude)
            new["amplitude"] = (weight, shaped("amplitude", amplitude, pairs))
        if derivative is not None:
            weight = present("derivative", self.derivative)
            values = shaped("derivative", derivative, tuple(weight.shape))
            new["derivative"] = (weight, values / unit ** self._orders.cpu().double())
        if diffusion is not None:
            a = shaped("diffusion", diffusion, (*pairs, self.dim, self.dim))
            new["diffusion"] = (self.diffusion, parameters.cholesky_factor(a / unit**2))
        if drift is not None:
            new["drift"] = (self.drift, shaped("drift", drift, tuple(self.drift.shape)) / unit)
        for name, (weight, values) in new.items():
            if not torch.isfinite(values.to(weight.dtype)).all():
                raise InputError(f"`{name}` must be finite in {weight.dtype}; got an overflow")
        for weight, values in new.values():
            weight.copy_(values)

    def forward(self, x: Tensor) -> Tensor:  # (B, in, *n) -> (B, out, *n / stride)
        """Convolve.

        Parameters
        ----------
        x : Tensor, shape ``(B, in, *n)``
            Fields on a mesh, of the weights' type (or a shorter one under autocast).

        Returns
        -------
        Tensor, shape ``(B, out, *n / stride)``
        """
        self._check_input(x)
        kind = self.drift.dtype
        lower = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            p, settings = self.kernels(), self.settings(tuple(x.shape[2:]))
            compiling = torch.compiler.is_compiling()
            if not compiling:
                self._warn_unresolved(tuple(x.shape[2:]), p.quadratic.detach())
            kernels = (p.coefficients, p.quadratic, p.drift)
            # Transforms of half precision would lose the tolerance: they run in the weights' type.
            if compiling:
                y = traced(x.to(kind), *kernels, settings)
                if self.bias is not None:
                    y = y + self.bias.reshape(-1, *(1,) * self.dim)
            else:
                y = mesh_free(x.to(kind), *kernels, settings, self.bias)
        return y.to(torch.get_autocast_dtype(x.device.type)) if lower else y

    def settings(self, shape: tuple[int, ...]) -> Settings:
        """Everything but field and kernels, on a mesh of this shape."""
        tolerance = self.tolerance or _TOLERANCES[self.drift.dtype]
        return Settings(
            groups=self.groups,
            extent=self.sides(shape),
            padding=self.padding_mode,
            stride=self.stride,
            restriction=self.restriction,
            tolerance=tolerance,
            path=self.path,
        )

    def sides(self, shape: tuple[int, ...]) -> tuple[float, ...]:
        """Sides of the domain on a mesh of this shape."""
        if self.extent is not None:
            return self.extent
        return usual_sides(shape)

    def plan(self, shape: Sequence[int]) -> Plan:
        """Modes that the layer computes on a mesh of this shape."""
        shape = checked_mesh(shape, self.dim)
        return plan_for(shape, self.kernels(), self.settings(shape))

    def unresolved(self, shape: Sequence[int]) -> Tensor:
        """Which kernels are narrower than a cell of a mesh, shape ``(out, in / groups, terms)``."""
        mesh = checked_mesh(shape, self.dim)
        with torch.no_grad():
            return parameters.narrowest(self.kernels().quadratic, self.dim) < self._cell(mesh)

    def _cell(self, mesh: tuple[int, ...]) -> float:
        """Longest side of a cell."""
        return max(s / n for s, n in zip(self.sides(mesh), mesh, strict=True))

    def keep_quiet(self, shape: Sequence[int]) -> None:
        """Give no warning of unresolved kernels on a mesh."""
        self._told[checked_mesh(shape, self.dim)] = _WARNED

    def extra_repr(self) -> str:
        """Arguments that matter."""
        text = f"{self.in_channels}, {self.out_channels}, widths=({self.widths[0]:.4g}, "
        text += f"{self.widths[1]:.4g}), padding_mode={self.padding_mode!r}"
        for name, plain in (("terms", 1), ("derivatives", 0), ("groups", 1)):
            if getattr(self, name) != plain:
                text += f", {name}={getattr(self, name)}"
        if any(s > 1 for s in self.stride):
            text += f", stride={self.stride}, restriction={self.restriction!r}"
        if self.amplitude is None:
            text += ", zero_mean=True"
        return text + ("" if self.bias is not None else ", bias=False")

    def kernels(self) -> Parameters:
        """Return the kernels in the layout of the operation, differentiable in the weights."""
        unit = self.length
        if self.amplitude is not None:
            coefficients = self.amplitude[..., None]
        else:
            coefficients = torch.zeros_like(self.drift[..., :1])
        if self.derivative is not None:
            derivative = self.derivative * unit**self._orders
            coefficients = torch.cat([coefficients, derivative], dim=-1)
        quadratic = unit**2 * parameters.cholesky_product(self.diffusion, self.dim)
        return Parameters(coefficients, quadratic, unit * self.drift, self.groups)

    def _warn_unresolved(self, shape: tuple[int, ...], quadratic: Tensor) -> None:
        # Tensors made in inference mode count no versions: they are looked at once.
        version = 0 if self.diffusion.is_inference() else self.diffusion._version
        if self._told.get(shape) in (version, _WARNED):
            return
        self._told[shape] = version
        widths = parameters.narrowest(quadratic, self.dim)
        narrow = widths < self._cell(shape)
        if narrow.any():
            self._told[shape] = _WARNED
            least = float(widths.min())
            cells = "×".join(str(n) for n in shape)
            warnings.warn(
                f"{int(narrow.sum())} of {narrow.numel()} kernels of {type(self).__name__} are "
                f"narrower than a cell of the mesh {cells} (narrowest {least:.3g}): they are not "
                "resolved there, and the layer is not the same operator as on finer meshes",
                UnresolvedKernelWarning,
                stacklevel=3,
            )

    def _check_input(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise InputError(f"`x` must be a tensor; got {shortened(type(x).__name__)}")
        if x.ndim != self.dim + 2:
            raise InputError(
                f"`x` must have shape (batch, channels, {self.dim} axes); got {tuple(x.shape)}"
            )
        if x.shape[1] != self.in_channels:
            raise InputError(f"`x` must have {self.in_channels} channels; got {x.shape[1]}")
        if min(x.shape[2:]) < 2:
            raise InputError(
                f"`x` must have at least 2 points along each axis; got {tuple(x.shape[2:])}"
            )
        if x.device != self.drift.device:
            raise InputError(
                f"`x` and the weights must be on one device; got {x.device} and {self.drift.device}"
            )
        if self.drift.dtype not in _TOLERANCES:
            raise InputError(
                "`dtype` of the weights must be float32 or float64 (autocast takes shorter input); "
                f"got {self.drift.dtype}"
            )
        same = x.dtype == self.drift.dtype
        if not same and not (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
            raise InputError(
                f"`x` must have the weights' type {self.drift.dtype} (outside autocast); "
                f"got {x.dtype}"
            )
        for n, factor in zip(x.shape[2:], self.stride, strict=True):
            if n % factor:
                raise InputError(
                    f"`stride` must divide the mesh; got {factor} on {n} points "
                    "(pad, crop or choose the mesh so that its cells can be joined)"
                )


class MeshFreeConv1d(_MeshFreeConv):
    """Mesh-free convolution of fields ``(B, in, n)``."""

    __doc__ += (_MeshFreeConv.__doc__ or "").partition("\n")[2]
    dim = 1


class MeshFreeConv2d(_MeshFreeConv):
    """Mesh-free convolution of fields ``(B, in, n1, n2)``."""

    __doc__ += (_MeshFreeConv.__doc__ or "").partition("\n")[2]
    dim = 2


class MeshFreeConv3d(_MeshFreeConv):
    """Mesh-free convolution of fields ``(B, in, n1, n2, n3)``."""

    __doc__ += (_MeshFreeConv.__doc__ or "").partition("\n")[2]
    dim = 3
