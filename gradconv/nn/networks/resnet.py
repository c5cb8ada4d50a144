"""Residual networks: on one mesh, and in stages on coarser and coarser ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gradconv.errors import InputError, check_whole, shortened
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
from gradconv.nn.resample import Restrict


class ResNet(nn.Module):
    """x₀ = K_o x, x_{l+1} = x_l + step · φ(N K_l x_l), y = K_c x_L: a residual network on one mesh.

    It is a time stepper of an ordinary differential equation in feature space, whose depth can grow
    without its output growing.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    dim : int
        1, 2 or 3.
    channels : int
        Channels in between.
    layers : int
        Convolutions in all, opening and closing one among them; at least 2.
    conv : {"standard", "mfc"} or callable
        What makes the convolutions: 3×3 stencils, mesh-free ones, or a callable
        ``conv(in_channels, out_channels, *, stride=1, groups=1, bias=True)`` that returns a
        module, such as `MeshFreeFactory` with widths of your own.
    activation : str or callable
        Smooth by default ("silu"; also "tanh", "gelu", "softplus"): with "relu" the gradient has no
        expansion in the mesh size.
    norm : {None, "group", "instance", "batch"} or callable
        See `gradconv.nn.networks.blocks.norm_maker`; none by default.
    step : float, optional
        Default 1 / (layers − 2): the whole network is then one unit of time.
    padding_mode : {"periodic", "reflect", "zero"}
        What lies outside the domain.
    generator : torch.Generator, optional
        Randomness of the weights; by default torch's own.

    Raises
    ------
    InputError
        If an argument breaks a rule; on a call, if the input is not ``(B, in_channels, *n)``.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, 2016.
    E. Haber, L. Ruthotto, *Stable Architectures for Deep Neural Networks*, 2017, eq. (1.1).

    Examples
    --------
    >>> import torch
    >>> ResNet(3, 1, layers=4, conv="mfc")(torch.zeros(2, 3, 64, 96)).shape
    torch.Size([2, 1, 64, 96])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dim: int = 2,
        channels: int = 32,
        layers: int = 3,
        conv: str | Callable[..., nn.Module] = "standard",
        activation: str | Maker = "silu",
        norm: str | NormMaker | None = None,
        step: float | None = None,
        padding_mode: str = "periodic",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, channels=channels)
        check_whole("layers", layers, 2)
        self.in_channels, self.dim = in_channels, dim
        self.step = _checked_step(1.0 / max(layers - 2, 1) if step is None else step)
        factory = conv_factory(conv, dim, padding_mode, generator)
        normed, active = norm_maker(norm, dim), activation_maker(activation)
        self.opening = make(factory, in_channels, channels)
        self.hidden = nn.ModuleList(
            nn.Sequential(make(factory, channels, channels), normed(channels), active())
            for _ in range(layers - 2)
        )
        self.closing = make(factory, channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, *n)`` to ``(B, out_channels, *n)``."""
        check_input(x, self.in_channels, self.dim)
        x = self.opening(x)
        for layer in self.hidden:
            x = x + self.step * layer(x)
        return self.closing(x)


class StagedResNet(nn.Module):
    """A residual network in stages; each but the first halves the mesh and widens the channels.

    With the defaults it has the layout of ResNet-18 for small images: an opening convolution, four
    stages of two blocks of two convolutions, the mean over the domain, a linear map. Blocks have
    their activations first and are scaled by the root of their number, which keeps the variance at
    the start without normalisation. There is no max-pooling: the maximum over cells depends on
    their size. The first convolution of a stage strides, standard ones with a stencil that skips
    every other point, mesh-free ones by their restriction; shortcuts restrict.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input, and numbers that come out.
    dim : int
        1, 2 or 3.
    channels : sequence of int
        Channels of the stages.
    blocks : sequence of int
        Residual blocks of the stages.
    mean : bool
        Whether the output is one vector, the linear map of the features' mean over the domain (a
        quadrature, on any mesh alike), or a field on the coarsest mesh.
    restriction : str
        Restriction of the shortcuts, a name of `gradconv.restriction`.
    conv, activation, norm, padding_mode, generator
        As in `ResNet`. Kernels of ``"mfc"`` become as much wider as the cells do.

    Raises
    ------
    InputError
        If an argument breaks a rule; on a call, if the input is not ``(B, in_channels, *n)`` with
        n divisible by 2^(stages − 1) and two cells at least on the coarsest mesh.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, 2016, table 1.

    Examples
    --------
    >>> import torch
    >>> net = StagedResNet(3, 10, channels=(8, 16), blocks=(1, 1))
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dim: int = 2,
        channels: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (2, 2, 2, 2),
        mean: bool = True,
        restriction: str = "average",
        conv: str | Callable[..., nn.Module] = "standard",
        activation: str | Maker = "silu",
        norm: str | NormMaker | None = None,
        padding_mode: str = "periodic",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels)
        widths, counts = check_widths("channels", channels), check_widths("blocks", blocks)
        if len(widths) != len(counts):
            raise InputError(
                f"`blocks` must have one number a stage, {len(widths)}; got {len(counts)}"
            )
        self.in_channels, self.dim, self.mean = in_channels, dim, mean
        self.divisor = 2 ** (len(widths) - 1)
        factory = conv_factory(conv, dim, padding_mode, generator)
        normed, active = norm_maker(norm, dim), activation_maker(activation)
        step = 1.0 / math.sqrt(sum(counts))
        self.opening = make(factory, in_channels, widths[0])
        body: list[nn.Module] = []
        before = widths[0]
        for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
            here = coarser(factory, 2**stage)
            for i in range(count):
                enters = stage > 0 and i == 0
                down = Restrict(2, restriction, padding_mode=padding_mode) if enters else None
                body.append(
                    ResidualBlock(
                        here,
                        before,
                        width,
                        dim,
                        active,
                        normed,
                        step,
                        # the striding convolution works on the finer mesh
                        first=coarser(factory, 2 ** (stage - 1)) if enters else None,
                        down=down,
                        generator=generator,
                    )
                )
                before = width
        self.body = nn.Sequential(*body)
        self.last = nn.Sequential(normed(before), active())
        self.head = linear(before, out_channels, 1.0, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, *n)`` to ``(B, out_channels)``, or to a field without `mean`."""
        check_input(
            x, self.in_channels, self.dim, self.divisor, " for the stages to halve the mesh"
        )
        x = self.last(self.body(self.opening(x)))
        if self.mean:
            return self.head(x.flatten(2).mean(dim=2))
        return self.head(x.movedim(1, -1)).movedim(-1, 1)


def _checked_step(step: float) -> float:
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not 0 < step < math.inf:
        raise InputError(f"`step` must be a positive number; got {shortened(step)}")
    return float(step)
