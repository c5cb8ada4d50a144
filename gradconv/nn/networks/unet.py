"""A UNet whose levels are meshes, with an embedding of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gradconv.errors import InputError, shortened
from gradconv.nn.networks.blocks import (
    Maker,
    NormMaker,
    ResidualBlock,
    activation_maker,
    check_counts,
    check_input,
    check_widths,
    norm_maker,
)
from gradconv.nn.networks.factory import coarser, conv_factory, linear, make
from gradconv.nn.resample import Prolong, Restrict

_HIGHEST = 1000.0  # angular frequency; times run over an interval of order 1


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at frequencies from 1 to 1000, and two linear maps.

    Parameters
    ----------
    features : int
        Length of the embedding, even.
    generator : torch.Generator, optional
        Randomness of the weights.

    References
    ----------
    A. Vaswani et al., *Attention Is All You Need*, 2017, section 3.5.
    J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, appendix B.
    """

    frequencies: Tensor

    def __init__(self, features: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if (
            isinstance(features, bool)
            or not isinstance(features, int)
            or features < 2
            or (features % 2)
        ):
            raise InputError(
                f"`time_features` must be 0 or an even number; got {shortened(features)}"
            )
        exponents = torch.linspace(0.0, 1.0, features // 2)
        self.register_buffer("frequencies", _HIGHEST**exponents)
        # sines and cosines have power 1/2, and SiLU leaves about a third
        self.inner = linear(features, features, 2.0, generator)
        self.outer = linear(features, features, 3.0, generator)
        self.activation = nn.SiLU()

    def forward(self, t: Tensor) -> Tensor:
        """Embed times ``(B,)`` as vectors ``(B, features)``."""
        angles = t[:, None] * self.frequencies
        waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
        return self.outer(self.activation(self.inner(waves)))


class UNet(nn.Module):
    """A UNet: down by a restriction, up by a prolongation, with skips that are joined as channels.

    Restriction and prolongation are maps between meshes of `gradconv.nn.resample`, by default an
    adjoint pair; convolutions neither stride nor interpolate. Mesh-free kernels get wider with the
    cells, so that the coarse levels are what they are in a classical UNet: a longer view.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    dim : int
        1, 2 or 3.
    channels : sequence of int
        Channels of the levels, fine to coarse.
    blocks : int
        Residual blocks a level, on the way down and again on the way up.
    time_features : int
        Length of the embedding of time, even; 0 for a network without time.
    restriction : str
        A name of `gradconv.restriction`.
    prolongation : str, optional
        As in `Prolong`; by default the adjoint of the restriction.
    conv, activation, norm, padding_mode, generator
        As in `ResNet`.

    Raises
    ------
    InputError
        If an argument breaks a rule; on a call, if the input is not ``(B, in_channels, *n)`` with
        n divisible by 2^(levels − 1) and two cells at least on the coarsest mesh, or if times are
        missing or not wanted.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, *U-Net: Convolutional Networks for Biomedical Image
    Segmentation*, 2015.

    Examples
    --------
    >>> import torch
    >>> net = UNet(1, 1, channels=(8, 16), time_features=8)
    >>> net(torch.zeros(2, 1, 32, 48), torch.tensor([0.1, 0.9])).shape
    torch.Size([2, 1, 32, 48])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dim: int = 2,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        time_features: int = 0,
        restriction: str = "average",
        prolongation: str | None = None,
        conv: str | Callable[..., nn.Module] = "standard",
        activation: str | Maker = "silu",
        norm: str | NormMaker | None = None,
        padding_mode: str = "periodic",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, blocks=blocks)
        widths = check_widths("channels", channels)
        self.in_channels, self.dim = in_channels, dim
        self.divisor = 2 ** (len(widths) - 1)
        factory = conv_factory(conv, dim, padding_mode, generator)
        normed, active = norm_maker(norm, dim), activation_maker(activation)
        self.time = TimeEmbedding(time_features, generator) if time_features else None
        self.restrict = Restrict(2, restriction, padding_mode=padding_mode)
        if prolongation is None:
            self.prolong = self.restrict.adjoint()
        else:
            self.prolong = Prolong(2, prolongation, padding_mode=padding_mode)
        step = 1.0 / math.sqrt(2 * blocks * len(widths))

        def level(number: int, before: int) -> nn.ModuleList:
            here, width = coarser(factory, 2**number), widths[number]
            return nn.ModuleList(
                ResidualBlock(
                    here,
                    before if i == 0 else width,
                    width,
                    dim,
                    active,
                    normed,
                    step,
                    embedding=time_features,
                    generator=generator,
                )
                for i in range(blocks)
            )

        self.opening = make(factory, in_channels, widths[0])
        self.down = nn.ModuleList(
            level(number, widths[max(number - 1, 0)]) for number in range(len(widths))
        )
        self.up = nn.ModuleList(
            level(number, widths[number] + widths[number + 1])
            for number in reversed(range(len(widths) - 1))
        )
        self.last = nn.Sequential(normed(widths[0]), active())
        self.closing = make(factory, widths[0], out_channels)

    def forward(self, x: Tensor, t: Tensor | float | None = None) -> Tensor:
        """Map ``(B, in_channels, *n)`` and times ``(B,)`` to ``(B, out_channels, *n)``."""
        why = f" for {len(self.down)} levels that halve"
        check_input(x, self.in_channels, self.dim, self.divisor, why)
        embedded = self._embedded(x, t)
        x = self.opening(x)
        skips: list[Tensor] = []
        for number, level in enumerate(self.down):
            x = _through(level, self.restrict(x) if number else x, embedded)
            skips.append(x)
        skips.pop()
        for level in self.up:
            x = _through(level, torch.cat([self.prolong(x), skips.pop()], dim=1), embedded)
        return self.closing(self.last(x))

    def _embedded(self, x: Tensor, t: Tensor | float | None) -> Tensor | None:
        if self.time is None:
            if t is not None:
                raise InputError(
                    f"`t` must be left out without `time_features`; got {shortened(t)}"
                )
            return None
        if t is None:
            raise InputError("`t` must be given to a network with `time_features`; got None")
        kind = self.time.frequencies.dtype
        times = torch.as_tensor(t, dtype=kind, device=x.device)
        if times.ndim > 1 or times.numel() not in (1, len(x)):
            raise InputError(
                f"`t` must be a number or have shape ({len(x)},); got {tuple(times.shape)}"
            )
        return self.time(times.reshape(-1).expand(len(x)))


def _through(level: nn.Module, x: Tensor, embedded: Tensor | None) -> Tensor:
    for block in level.children():
        x = block(x, embedded)
    return x
