"""Small torch networks, each made by a call that can be pasted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from gradconv.errors import InputError, unknown_name
from gradconv.testing.strategies.domains import Whole, dims
from gradconv.testing.strategies.values import calls, constant, either

if TYPE_CHECKING:
    from torch import Generator, nn

LAYERS = ("conv:3", "mesh-free", "pointwise", "conv:1", "conv:5", "mesh-free:1", "mesh-free:2")
MESH_FREE_LAYERS = tuple(word for word in LAYERS if not word.startswith("conv"))
PADDINGS = ("periodic", "zero")
NORMS = ("none", "group", "batch")
ACTIVATIONS = ("none", "tanh", "relu", "silu")


def network(
    layers: Sequence[str] = ("conv:3",),
    *,
    dim: int = 2,
    in_channels: int = 1,
    hidden_channels: int = 2,
    out_channels: int = 1,
    activation: str = "none",
    norm: str = "none",
    padding: str = "periodic",
    bias: bool = True,
    widths: tuple[float, float] = (1 / 8, 1 / 4),
    seed: int = 0,
    dtype: Any = None,
) -> nn.Sequential:
    """Make a network on fields of shape ``(B, in_channels, *n)`` that keeps the mesh.

    Norm and activation follow each layer but the last. The global random state is left alone.

    Parameters
    ----------
    layers : sequence of str
        ``"conv:SIZE"``, a standard convolution; ``"mesh-free[:DERIVATIVES]"``; ``"pointwise"``.
    dim : int
        1, 2 or 3.
    in_channels, hidden_channels, out_channels : int
        Channels of the input, between layers, and of the output.
    activation : {"none", "tanh", "relu", "silu"}
        Activation.
    norm : {"none", "group", "batch"}
        ``GroupNorm`` with one group, or ``BatchNorm``, which learns statistics of its batches.
    padding : {"periodic", "zero"}
        What convolutions see outside the box.
    bias : bool
        Whether layers have one.
    widths : (float, float)
        Range of the standard deviations of mesh-free kernels, in units of the box. Meshes with
        cells wider than the first do not resolve them, and say so by a warning.
    seed : int
        Seed of the weights.
    dtype : torch.dtype, optional
        float64 by default.

    Returns
    -------
    torch.nn.Sequential

    Raises
    ------
    InputError
        If there are no layers, or a word is not known.
    """
    import torch

    if not layers:
        raise InputError("`layers` must name at least one layer; got none")
    for argument, word, known in (
        ("padding", padding, PADDINGS),
        ("norm", norm, NORMS),
        ("activation", activation, ACTIVATIONS),
    ):
        if word not in known:
            raise unknown_name(argument, word, known)
    kind = torch.float64 if dtype is None else dtype
    generator = torch.Generator().manual_seed(seed)
    channels = [in_channels, *[hidden_channels] * (len(layers) - 1), out_channels]
    parts: list[nn.Module] = []
    for index, word in enumerate(layers):
        pair = (channels[index], channels[index + 1])
        common = {"bias": bias, "dtype": kind}
        parts.append(_layer(word, dim, pair, padding, widths, generator, common))
        if index + 1 < len(layers):
            parts += _between(dim, pair[1], norm, activation, kind)
    return torch.nn.Sequential(*parts)


def _layer(
    word: str,
    dim: int,
    pair: tuple[int, int],
    padding: str,
    widths: tuple[float, float],
    generator: Generator,
    common: dict[str, Any],
) -> nn.Module:
    import torch
    from torch import nn

    from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d

    name, _, number = word.partition(":")
    if name == "mesh-free":
        layer = (MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d)[dim - 1]
        derivatives = int(number) if number else 0
        return layer(
            *pair,
            padding_mode=padding,
            widths=widths,
            derivatives=derivatives,
            generator=generator,
            **common,
        )
    size = 1 if name == "pointwise" else int(number) if number.isdigit() else 0
    if name not in ("conv", "pointwise") or size % 2 == 0:
        raise unknown_name("layers", word, LAYERS)
    standard = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dim - 1]
    mode = "circular" if padding == "periodic" else "zeros"
    # torch would draw the first weights from the global random state
    conv = nn.utils.skip_init(standard, *pair, size, padding=size // 2, padding_mode=mode, **common)
    with torch.no_grad():
        for weight in conv.parameters():
            scale = (pair[0] * size**dim) ** -0.5
            weight.copy_(scale * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return conv


def _between(dim: int, channels: int, norm: str, activation: str, kind: Any) -> list[nn.Module]:
    from torch import nn

    batch = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dim - 1]
    parts: list[nn.Module] = []
    if norm == "group":
        parts.append(nn.GroupNorm(1, channels, dtype=kind))
    if norm == "batch":
        parts.append(batch(channels, dtype=kind))
    functions = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}
    return [*parts, functions[activation]()] if activation != "none" else parts


@st.composite
def modules(
    draw: st.DrawFn,
    dim: Whole | None = None,
    *,
    mesh_free: bool | st.SearchStrategy[bool] | None = None,
    layers: Sequence[str] | st.SearchStrategy[Sequence[str]] | None = None,
    max_layers: int = 3,
    in_channels: Whole = 1,
    out_channels: Whole = 1,
    max_hidden: int = 3,
    activation: str | st.SearchStrategy[str] | None = None,
    norm: str | st.SearchStrategy[str] | None = None,
    padding: str | st.SearchStrategy[str] | None = None,
    bias: bool | st.SearchStrategy[bool] | None = None,
    widths: tuple[float, float] = (1 / 8, 1 / 4),
    dtype: Any = None,
) -> nn.Sequential:
    """Small torch networks on fields of shape ``(B, in_channels, *n)`` that keep the mesh.

    Parameters
    ----------
    dim : int, optional
        Dimension; by default 1, 2 or 3.
    mesh_free : bool, optional
        True: mesh-free and pointwise layers only, at least one of them mesh-free. False: no
        mesh-free layer, and at least one stencil of more than one point. None: anything.
    layers : sequence of str, optional
        The layers, as `network` takes them; `mesh_free` must then be None.
    max_layers, max_hidden : int
        Most layers, and most channels between them.
    in_channels, out_channels : int
        Channels of input and output.
    activation, norm, padding, bias : optional
        As for `network`; by default any, zero padding included.
    widths : (float, float)
        Range of the standard deviations of mesh-free kernels, in units of the box. The default is
        resolved by meshes of 8 cells an axis or more.
    dtype : torch.dtype, optional
        float64 by default.

    Returns
    -------
    SearchStrategy of torch.nn.Sequential
        Failures print the call of `network` that makes it. Shrinks to one 3-point convolution on
        a periodic box (a mesh-free one with ``mesh_free=True``).

    Raises
    ------
    InputError
        When drawn from: if an argument is not one of `network`, or arguments contradict each other.
    """
    chosen, kind = draw(either(dim, dims())), draw(constant(mesh_free))
    if layers is not None and kind is not None:
        raise InputError(f"`mesh_free` must be None where `layers` are given; got {kind}")
    stack = draw(either(layers, _stacks(kind, max_layers)))
    arguments = {
        "dim": chosen,
        "in_channels": draw(constant(in_channels)),
        "hidden_channels": draw(st.integers(1, max_hidden)),
        "out_channels": draw(constant(out_channels)),
        "activation": draw(either(activation, st.sampled_from(ACTIVATIONS))),
        "norm": draw(either(norm, st.sampled_from(NORMS))),
        "padding": draw(either(padding, st.sampled_from(PADDINGS))),
        "bias": draw(either(bias, st.booleans())),
        "widths": widths,
        "seed": draw(st.integers(0, 999)),
        "dtype": dtype,
    }
    written = {name: value for name, value in arguments.items() if value is not None}
    return draw(calls(network, {"layers": tuple(stack), **written}))


@st.composite
def _stacks(draw: st.DrawFn, mesh_free: bool | None, longest: int) -> tuple[str, ...]:
    """Layers, of which one makes the network what it is asked to be."""
    if mesh_free:
        needed, allowed = MESH_FREE_LAYERS, MESH_FREE_LAYERS
        needed = tuple(word for word in needed if word.startswith("mesh-free"))
    elif mesh_free is None:
        needed, allowed = LAYERS, LAYERS
    else:
        allowed = tuple(word for word in LAYERS if not word.startswith("mesh-free"))
        needed = ("conv:3", "conv:5")
    stack = [draw(st.sampled_from(needed))]
    for word in draw(st.lists(st.sampled_from(allowed), max_size=longest - 1)):
        stack.insert(draw(st.integers(0, len(stack))), word)
    return tuple(stack)
