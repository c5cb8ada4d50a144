"""Convolutions that a network is made of: standard, mesh-free, or what the user hands in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.mesh import check_dim
from gradconv.nn.layer import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d
from gradconv.nn.paddings import TORCH, checked_padding

_STANDARD = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MESH_FREE = (MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d)


@runtime_checkable
class ConvFactory(Protocol):
    """Anything that makes a convolution; a class or a function with these arguments will do."""

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> nn.Module:
        """Make a module that maps ``(B, in, *n)`` to ``(B, out, *(n / stride))``."""


@dataclass(frozen=True)
class StandardFactory:
    """Makes convolutions with a stencil of fixed size in cells.

    Weights are normal with variance 1 / fan-in, biases zero.

    Parameters
    ----------
    dim : int
        1, 2 or 3.
    kernel_size : int
        Odd.
    padding_mode : {"periodic", "reflect", "zero"}
        What lies outside the domain.
    generator : torch.Generator, optional
        Randomness of the weights; by default torch's own.
    """

    dim: int = 2
    kernel_size: int = 3
    padding_mode: str = "periodic"
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        check_dim(self.dim)
        object.__setattr__(self, "padding_mode", checked_padding(self.padding_mode))
        if (
            not isinstance(self.kernel_size, int)
            or self.kernel_size < 1
            or not self.kernel_size % 2
        ):
            raise InputError(
                f"`kernel_size` must be an odd number; got {shortened(self.kernel_size)}"
            )

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> nn.Module:
        """Make a convolution."""
        conv = nn.utils.skip_init(
            _STANDARD[self.dim - 1],
            in_channels,
            out_channels,
            self.kernel_size,
            stride=stride,
            padding=self.kernel_size // 2,
            groups=groups,
            bias=bias,
            padding_mode=TORCH[self.padding_mode],
        )
        fan_in = conv.weight[0].numel()
        nn.init.normal_(conv.weight, std=1.0 / math.sqrt(fan_in), generator=self.generator)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        return conv


@dataclass(frozen=True)
class MeshFreeFactory:
    """Makes mesh-free convolutions, all with kernels of one range of widths.

    Parameters
    ----------
    dim : int
        1, 2 or 3.
    widths : tuple of float
        Range of the standard deviations at the start, in units of the domain.
    terms, derivatives, zero_mean, padding_mode, restriction, tolerance, path
        As in `MeshFreeConv2d`.
    generator : torch.Generator, optional
        Randomness of the weights; by default torch's own.
    """

    dim: int = 2
    widths: tuple[float, float] = (1 / 64, 1 / 32)
    terms: int = 1
    derivatives: int = 2
    zero_mean: bool = False
    padding_mode: str = "periodic"
    restriction: str = "average"
    tolerance: float | None = None
    path: str = "auto"
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        check_dim(self.dim)
        # the layer refuses what is wrong; the user's generator is not drawn from for it
        self._layer(1, 1, 1, 1, True, torch.Generator())

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> nn.Module:
        """Make a convolution."""
        return self._layer(in_channels, out_channels, stride, groups, bias, self.generator)

    def _layer(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        groups: int,
        bias: bool,
        generator: torch.Generator | None,
    ) -> nn.Module:
        return _MESH_FREE[self.dim - 1](
            in_channels,
            out_channels,
            stride=stride,
            groups=groups,
            bias=bias,
            padding_mode=self.padding_mode,
            widths=self.widths,
            terms=self.terms,
            derivatives=self.derivatives,
            zero_mean=self.zero_mean,
            restriction=self.restriction,
            tolerance=self.tolerance,
            path=self.path,
            generator=generator,
        )

    def coarser(self, factor: float) -> MeshFreeFactory:
        """Return the factory for a mesh of cells `factor` times larger, with kernels as much wider.

        A network that coarsens its mesh looks further on coarse levels, and kernels narrower than
        a cell would not be resolved there.
        """
        return replace(self, widths=(self.widths[0] * factor, self.widths[1] * factor))


def conv_factory(
    conv: str | Callable[..., nn.Module],
    dim: int,
    padding_mode: str = "periodic",
    generator: torch.Generator | None = None,
) -> ConvFactory:
    """Return the factory that a name stands for; a callable is taken as it is.

    Parameters
    ----------
    conv : {"standard", "mfc"} or callable
        `StandardFactory` or `MeshFreeFactory` with their defaults, or a callable like
        `ConvFactory`.
    dim : int
        1, 2 or 3.
    padding_mode : {"periodic", "reflect", "zero"}
        What lies outside the domain; for the names.
    generator : torch.Generator, optional
        Randomness of the weights; for the names.

    Raises
    ------
    InputError
        If `conv` is no such name and cannot be called, or another argument breaks a rule.
    """
    check_dim(dim)
    if isinstance(conv, str):
        if conv == "standard":
            return StandardFactory(dim, padding_mode=padding_mode, generator=generator)
        if conv == "mfc":
            return MeshFreeFactory(dim, padding_mode=padding_mode, generator=generator)
        raise unknown_name("conv", conv, ("standard", "mfc"))
    if not callable(conv):
        raise InputError(f"`conv` must be 'standard', 'mfc' or callable; got {shortened(conv)}")
    if getattr(conv, "dim", dim) != dim:
        raise InputError(f"`conv` must make convolutions in {dim} dimensions; got {conv!r}")
    return conv


def coarser(conv: ConvFactory, factor: float) -> ConvFactory:
    """Return the factory for cells `factor` times larger: its own `coarser`, or itself."""
    change: Any = getattr(conv, "coarser", None)
    return conv if change is None else change(factor)


def make(conv: ConvFactory, in_channels: int, out_channels: int, **options: Any) -> nn.Module:
    """Make a convolution and see that it is a module.

    Raises
    ------
    InputError
        If the factory returns something else.
    """
    made = conv(in_channels, out_channels, **options)
    if not isinstance(made, nn.Module):
        raise InputError(f"`conv` must return a torch.nn.Module; got {shortened(made)}")
    return made


def pointwise(
    dim: int, in_channels: int, out_channels: int, generator: torch.Generator | None = None
) -> nn.Module:
    """Make a convolution of kernel size 1, which acts point by point on any mesh alike."""
    return StandardFactory(dim, kernel_size=1, generator=generator)(in_channels, out_channels)


def linear(
    in_features: int, out_features: int, power: float, generator: torch.Generator | None
) -> nn.Linear:
    """Make a linear map with normal weights of variance power / in and biases zero."""
    made = nn.utils.skip_init(nn.Linear, in_features, out_features)
    nn.init.normal_(made.weight, std=math.sqrt(power / in_features), generator=generator)
    nn.init.zeros_(made.bias)
    return made


def amplify(module: nn.Module, gain: float) -> nn.Module:
    """Multiply the weights of a convolution that is standard or mesh-free; return it."""
    names = {_STANDARD: ("weight",), _MESH_FREE: ("amplitude", "derivative")}
    with torch.no_grad():
        for kinds, weights in names.items():
            for name in weights if isinstance(module, kinds) else ():
                weight = getattr(module, name)
                if weight is not None:
                    weight.mul_(gain)
    return module
