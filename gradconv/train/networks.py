"""The networks of training runs, by name, fitted to a task's input and output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.nn import ESPCN, MeshFreeFactory, Prolong, ResNet, UNet
from gradconv.nn.networks import ConvFactory, StandardFactory
from gradconv.train.tasks import Task

NETWORKS = ("resnet", "unet", "espcn")
CONVOLUTIONS = ("standard", "mfc")
MESH_FREE_WIDTHS = (1 / 64, 1 / 32)
WIDTHS = {"resnet": 32, "unet": 32, "espcn": 32}
LAYERS = {"resnet": 3, "unet": 3, "espcn": 3}
_FEWEST_LAYERS = {"resnet": 2, "unet": 1, "espcn": 2}
_MOST = 4096


def build_network(
    name: str,
    task: Task,
    channels: int,
    *,
    conv: str = "standard",
    width: int | None = None,
    layers: int | None = None,
    mesh_free_widths: tuple[float, float] | None = None,
    padding_mode: str = "periodic",
    norm: str | None = None,
    seed: int = 0,
) -> nn.Module:
    """Make a network that takes what a task makes of images, and gives images.

    Parameters
    ----------
    name : {"resnet", "unet", "espcn"}
        The network. ESPCN is for tasks of factor 2; the others prolong such inputs by linear
        interpolation first.
    task : Task
        The task.
    channels : int
        Channels of the images.
    conv : {"standard", "mfc"}
        3×3 stencils (ESPCN: 5×5 first), or mesh-free convolutions.
    width : int, optional
        Channels, default 32: of every hidden layer of a ResNet; of a UNet's finest level, doubling
        from level to level; of ESPCN's layers but the first, which has twice as many.
    layers : int, optional
        Convolutions in all (ResNet, ESPCN; at least 2), or levels of the UNet; default 3.
    mesh_free_widths : tuple of float, optional
        Range of the standard deviations of mesh-free kernels at the start, in units of the box;
        default 1/64 to 1/32.
    padding_mode : {"periodic", "reflect", "zero"}
        What lies outside the box.
    norm : {None, "group", "instance", "batch"}
        Normalisation; ESPCN has none.
    seed : int
        Of the weights: the same seed gives the same weights.

    Returns
    -------
    Module
        Maps ``(B, task.inputs(channels), *m)`` to ``(B, channels, *(task.factor m))`` in two
        dimensions. A UNet takes the noise level of a task that is `timed` as its time; other
        networks take it as a channel.

    Raises
    ------
    InputError
        If an argument breaks a rule.
    """
    layers = _checked(name, task, layers)
    check_whole("channels", channels, 1, _MOST)
    width = WIDTHS[name] if width is None else width
    check_whole("width", width, 1, _MOST)
    check_whole("seed", seed, 0, 2**63 - 1)
    generator = torch.Generator().manual_seed(seed)
    made = _convolutions(conv, mesh_free_widths, padding_mode, generator)
    inputs = task.inputs(channels)
    if name == "espcn":
        if norm is not None:
            raise InputError(f"`norm` must be left out for espcn; got {shortened(norm)}")
        return ESPCN(
            inputs,
            channels,
            factor=task.factor,
            channels=(2 * width, *(width,) * (layers - 2)),
            conv="standard" if conv == "standard" else made,
            padding_mode=padding_mode,
            generator=generator,
        )
    network: nn.Module
    if name == "resnet":
        network = ResNet(
            inputs,
            channels,
            channels=width,
            layers=layers,
            conv=made,
            norm=norm,
            padding_mode=padding_mode,
            generator=generator,
        )
    else:
        unet = UNet(
            inputs - task.timed,
            channels,
            channels=[width * 2**level for level in range(layers)],
            time_features=2 * width if task.timed else 0,
            conv=made,
            norm=norm,
            padding_mode=padding_mode,
            generator=generator,
        )
        network = TimedNetwork(unet) if task.timed else unet
    if task.factor == 1:
        return network
    return nn.Sequential(Prolong(task.factor, "linear", padding_mode=padding_mode), network)


class TimedNetwork(nn.Module):
    """Takes the mean over the box of the last channel as the time of a network with one.

    Parameters
    ----------
    network : Module
        Called as ``network(x, t)`` with x of shape ``(B, C, *n)`` and t of shape ``(B,)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C + 1, *n)`` to what the network makes of ``(B, C, *n)`` and times ``(B,)``."""
        return self.network(x[:, :-1], x[:, -1].flatten(1).mean(dim=1))


def size_divisor(name: str, task: Task, layers: int | None = None) -> int:
    """Return what the sizes of a network's targets must be divisible by.

    Raises
    ------
    InputError
        If the network is unknown, not for the task, or its depth out of range.
    """
    layers = _checked(name, task, layers)
    # inputs are prolonged before they enter a UNet, so that its meshes halve those of the target
    halved = 2 ** (layers - 1) if name == "unet" else 1
    return max(halved, task.factor)


def check_sizes(name: str, task: Task, layers: int | None, sizes: Sequence[int]) -> None:
    """Refuse target meshes that a network cannot run on.

    Parameters
    ----------
    name, task, layers
        As in `build_network`.
    sizes : sequence of int
        Cells an axis of the levels' targets, coarse to fine.

    Raises
    ------
    InputError
        That names the level, its mesh and the divisor.
    """
    divisor = size_divisor(name, task, layers)
    for level, n in enumerate(sizes):
        if n % divisor or n < 2 * divisor:
            raise InputError(
                f"`levels` must be meshes that the network runs on: {name} with task {task.name} "
                f"needs cells an axis divisible by {divisor}, and at least {2 * divisor}; "
                f"got n={n} on level {level}"
            )


def _checked(name: str, task: Task, layers: int | None) -> int:
    """Depth of a network that is there and fits the task."""
    if not isinstance(name, str) or name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    if not isinstance(task, Task):
        raise InputError(f"`task` must be a Task; got {shortened(task)}")
    if name == "espcn" and task.factor == 1:
        raise InputError(
            "`network` espcn refines the mesh: it needs a task whose targets are finer than its "
            f"inputs, such as superres; got task {task.spec}"
        )
    layers = LAYERS[name] if layers is None else layers
    check_whole("layers", layers, _FEWEST_LAYERS[name], 12 if name == "unet" else _MOST)
    return layers


def _convolutions(
    conv: str,
    widths: tuple[float, float] | None,
    padding_mode: str,
    generator: torch.Generator,
) -> ConvFactory:
    if not isinstance(conv, str) or conv not in CONVOLUTIONS:
        raise unknown_name("conv", conv, CONVOLUTIONS)
    if conv == "mfc":
        return MeshFreeFactory(
            widths=MESH_FREE_WIDTHS if widths is None else widths,
            padding_mode=padding_mode,
            generator=generator,
        )
    if widths is not None:
        raise InputError(
            f"`mesh_free_widths` must be left out for conv standard; got {shortened(widths)}"
        )
    return StandardFactory(padding_mode=padding_mode, generator=generator)
