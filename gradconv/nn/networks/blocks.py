"""Parts that the networks share: activations, normalisations, residual blocks, checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.nn.networks.factory import ConvFactory, amplify, linear, make, pointwise
from gradconv.nn.resample import Restrict

Maker = Callable[[], nn.Module]
NormMaker = Callable[[int], nn.Module]

# Smooth ones first: the gradient's expansion in h needs derivatives of the activation.
ACTIVATIONS: dict[str, Maker] = {
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
}
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def activation_maker(activation: str | Maker) -> Maker:
    """Return what makes the activation of a name; a callable without arguments is taken as it is.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise unknown_name("activation", activation, ACTIVATIONS)
        return ACTIVATIONS[activation]
    if not callable(activation):
        raise InputError(f"`activation` must be a name or callable; got {shortened(activation)}")
    return activation


def gain_of(activation: Maker) -> float:
    """1 / E[φ(z)²]^{1/2} for standard normal z: weights times this undo what φ does to variance."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    with torch.no_grad():
        values = activation().double()(torch.from_numpy(nodes)).numpy()
    return 1.0 / math.sqrt(float(weights @ values**2) / math.sqrt(2.0 * math.pi))


def norm_maker(norm: str | NormMaker | None, dim: int) -> NormMaker:
    """Return what makes a normalisation of so many channels.

    Parameters
    ----------
    norm : {None, "group", "instance", "batch"} or callable
        None makes the identity. Group and instance normalisation divide by means over the domain,
        which are quadratures: they converge with the mesh, to a limit that holds what variance of
        the noise the mesh keeps. Batch normalisation averages over the batch besides, so that its
        statistics are random, and those stored belong to the mesh they were gathered on.
    dim : int
        1, 2 or 3.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    makers: dict[str | None, NormMaker] = {
        None: lambda channels: nn.Identity(),
        "group": lambda channels: nn.GroupNorm(math.gcd(channels, 8), channels),
        "instance": lambda channels: nn.GroupNorm(channels, channels),
        "batch": lambda channels: _BATCH[dim - 1](channels),
    }
    if norm is None or isinstance(norm, str):
        if norm not in makers:
            raise unknown_name("norm", norm, [str(name) for name in makers])
        return makers[norm]
    if not callable(norm):
        raise InputError(f"`norm` must be a name, None or callable; got {shortened(norm)}")
    return norm


class ResidualBlock(nn.Module):
    """x ↦ Sx + step · K₂ φ(N₂(K₁ φ(N₁ x) + e)), the residual block with activations first.

    S is the identity, or where the channels or the mesh change a restriction and a pointwise
    convolution; e is a shift by an embedding, if there is one.

    Parameters
    ----------
    conv : ConvFactory
        Of K₁ and K₂, on the mesh of the block's output.
    in_channels, out_channels, dim : int
        Channels and dimension.
    activation, norm : callable
        Of φ and of N₁ and N₂.
    step : float
        Factor of the branch.
    first : ConvFactory, optional
        Of K₁, where it works on another mesh.
    down : Restrict, optional
        Restriction of the shortcut; K₁ strides by its factor.
    embedding : int
        Length of the vectors e is made from; 0 for none.
    generator : torch.Generator, optional
        Randomness of the pointwise weights.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, *Identity Mappings in Deep Residual Networks*, 2016.
    """

    def __init__(
        self,
        conv: ConvFactory,
        in_channels: int,
        out_channels: int,
        dim: int,
        activation: Maker,
        norm: NormMaker,
        step: float,
        *,
        first: ConvFactory | None = None,
        down: Restrict | None = None,
        embedding: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.step = step
        gain = gain_of(activation)
        stride = 1 if down is None else down.factor
        opening = make(first or conv, in_channels, out_channels, stride=stride)
        self.norm1, self.norm2 = norm(in_channels), norm(out_channels)
        self.activation1, self.activation2 = activation(), activation()
        self.conv1 = amplify(opening, gain)
        self.conv2 = amplify(make(conv, out_channels, out_channels), gain)
        shortcut: list[nn.Module] = [] if down is None else [down]
        if in_channels != out_channels:
            shortcut.append(pointwise(dim, in_channels, out_channels, generator))
        self.shortcut = nn.Sequential(*shortcut)
        self.shift = linear(embedding, out_channels, 1.0, generator) if embedding else None

    def forward(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        """Map ``(B, in, *n)`` to ``(B, out, *(n / stride))``; `embedded` is ``(B, embedding)``."""
        y = self.conv1(self.activation1(self.norm1(x)))
        if self.shift is not None and embedded is not None:
            shift = self.shift(embedded)
            y = y + shift.reshape(*shift.shape, *(1,) * (y.ndim - 2))
        y = self.conv2(self.activation2(self.norm2(y)))
        return self.shortcut(x) + self.step * y


def check_input(x: Tensor, channels: int, dim: int, divisor: int = 1, why: str = "") -> None:
    """Raise an `InputError` unless ``x`` is ``(B, channels, *n)`` with n divisible by `divisor`.

    Parameters
    ----------
    x : Tensor
        Input of a network.
    channels, dim : int
        Channels and dimension it must have.
    divisor : int
        What its sizes must be divisible by.
    why : str
        Where the divisor comes from, for the message.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"`x` must be a tensor; got {shortened(x)}")
    shape = tuple(x.shape)
    if x.ndim != dim + 2 or x.shape[1] != channels:
        raise InputError(
            f"`x` must have shape (batch, {channels}, {dim} axes of space); got {shape}"
        )
    if any(n % divisor or n < 2 * divisor for n in shape[2:]):
        raise InputError(
            f"`x` must have sizes divisible by {divisor}, and at least {2 * divisor}{why}; "
            f"got {shape[2:]}"
        )


def check_counts(**counts: object) -> None:
    """Raise an `InputError` unless every argument is a whole number of at least 1."""
    for name, value in counts.items():
        check_whole(name, value, 1)


def check_widths(name: str, values: object, least: int = 1) -> tuple[int, ...]:
    """Return at least so many whole numbers as a tuple, or raise an `InputError`."""
    sound = isinstance(values, Sequence) and not isinstance(values, str) and len(values) >= least
    numbers = tuple(values) if sound and isinstance(values, Sequence) else ()
    if not numbers or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in numbers):
        raise InputError(
            f"`{name}` must be a sequence of {least} or more whole numbers of at least 1; "
            f"got {shortened(values)}"
        )
    return numbers
