"""Super-resolution: features on the coarse mesh, the image on the fine one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from gradconv.errors import InputError, unknown_name
from gradconv.nn.networks.blocks import (
    Maker,
    activation_maker,
    check_counts,
    check_input,
    check_widths,
    gain_of,
)
from gradconv.nn.networks.factory import StandardFactory, amplify, conv_factory, make
from gradconv.nn.resample import Prolong

UPSAMPLINGS = ("auto", "pixel_shuffle", "prolongation")


class PixelShuffle(nn.Module):
    """Interleave factor^d channels of a cell as its children, in 1, 2 or 3 dimensions.

    Parameters
    ----------
    factor : int
        Refinement factor.

    References
    ----------
    W. Shi et al., *Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
    Convolutional Neural Network*, 2016, eq. (4).
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        check_counts(factor=factor)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C factor^d, *n)`` to ``(B, C, *(factor n))``."""
        dim, f = x.ndim - 2, self.factor
        if x.shape[1] % f**dim:
            raise InputError(
                f"`x` must have channels divisible by {f}^{dim} = {f**dim}; got {x.shape[1]}"
            )
        split = x.unflatten(1, (-1, *(f,) * dim))  # (B, C, f, …, f, *n)
        order = [axis for a in range(dim) for axis in (2 + dim + a, 2 + a)]
        sizes = [f * n for n in x.shape[2:]]
        return split.permute(0, 1, *order).reshape(*split.shape[:2], *sizes)


class ESPCN(nn.Module):
    """Super-resolution with an efficient sub-pixel convolution, or its mesh-consistent counterpart.

    Pixel shuffling gives each of a cell's children a channel of its own. Nothing ties these
    channels to each other, and kernels in physical units cannot know that their outputs stand a
    fraction of a cell apart: unless they happen to agree, the output oscillates from cell to cell
    on every mesh, and has no limit. So mesh-free networks end otherwise: the features are prolonged
    to the fine mesh by linear interpolation, and a last convolution there makes the image. It costs
    that convolution factor^d times the points.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    factor : int
        Refinement factor, at least 1.
    dim : int
        1, 2 or 3.
    channels : sequence of int
        Channels of the layers before the last.
    upsampling : {"auto", "pixel_shuffle", "prolongation"}
        "auto" shuffles pixels with standard convolutions and prolongs with all others.
    activation : str or callable
        As in `ResNet`; "tanh" by default, as in the reference.
    conv, padding_mode, generator
        As in `ResNet`; the first standard convolution is 5×5, as in the reference.

    Raises
    ------
    InputError
        If an argument breaks a rule; on a call, if the input is not ``(B, in_channels, *n)``.

    References
    ----------
    W. Shi et al., *Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
    Convolutional Neural Network*, 2016, section 3.

    Examples
    --------
    >>> import torch
    >>> ESPCN(1, 1, factor=3)(torch.zeros(2, 1, 16, 24)).shape
    torch.Size([2, 1, 48, 72])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        factor: int = 2,
        dim: int = 2,
        channels: Sequence[int] = (64, 32),
        upsampling: str = "auto",
        conv: str | Callable[..., nn.Module] = "standard",
        activation: str | Maker = "tanh",
        padding_mode: str = "periodic",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, factor=factor)
        widths = check_widths("channels", channels)
        if upsampling not in UPSAMPLINGS:
            raise unknown_name("upsampling", upsampling, UPSAMPLINGS)
        self.in_channels, self.dim, self.factor = in_channels, dim, factor
        factory = conv_factory(conv, dim, padding_mode, generator)
        standard = isinstance(factory, StandardFactory)
        if upsampling == "auto":
            upsampling = "pixel_shuffle" if standard else "prolongation"
        opening = factory
        if isinstance(factory, StandardFactory) and isinstance(conv, str):
            opening = replace(factory, kernel_size=5)
        active = activation_maker(activation)
        gain = gain_of(active)
        features: list[nn.Module] = [make(opening, in_channels, widths[0]), active()]
        for before, after in pairwise(widths):
            features += [amplify(make(factory, before, after), gain), active()]
        self.features = nn.Sequential(*features)
        self.upsample: nn.Module
        if upsampling == "pixel_shuffle":
            last = make(factory, widths[-1], out_channels * factor**dim)
            self.upsample = nn.Sequential(amplify(last, gain), PixelShuffle(factor))
        else:
            last = make(factory, widths[-1], out_channels)
            finer = Prolong(factor, "linear", padding_mode=padding_mode)
            self.upsample = nn.Sequential(finer, amplify(last, gain))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, *n)`` to ``(B, out_channels, *(factor n))``."""
        check_input(x, self.in_channels, self.dim)
        return self.upsample(self.features(x))
