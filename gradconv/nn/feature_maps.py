"""Feature maps of networks on one image at several resolutions: data and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from gradconv.backend import NUMPY
from gradconv.errors import InputError
from gradconv.figures import SCREEN, Style, settle
from gradconv.restriction import RESTRICTIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """What networks make of one image on several meshes.

    Parameters
    ----------
    sizes : tuple of int
        Rows of the meshes, coarse to fine.
    maps : dict of str to tuple of ndarray
        For each network an array ``(channels, rows, columns)`` a mesh.
    differences : dict of str to tuple of float
        ‖map − restricted finest map‖ / ‖restricted finest map‖ over all channels, a mesh; 0 on the
        finest.
    """

    sizes: tuple[int, ...]
    maps: dict[str, tuple[np.ndarray, ...]]
    differences: dict[str, tuple[float, ...]]


def feature_maps(
    networks: Mapping[str, nn.Module],
    image: ArrayLike,
    steps: int = 2,
    *,
    layer: str = "",
    restriction: str = "average",
) -> FeatureMaps:
    """Run networks on an image and on its restrictions.

    Parameters
    ----------
    networks : mapping of str to Module
        Networks on ``(B, channels, rows, columns)``; they keep their training mode.
    image : array_like, shape ``(channels, rows, columns)``
        The image on the finest mesh; 2**steps must divide its sides.
    steps : int
        Halvings of the mesh: one map more than steps a network.
    layer : str
        Name of the submodule whose output is kept; "" keeps the network's.
    restriction : str
        Restriction of the image, and of the finest map that coarser ones are compared with.

    Returns
    -------
    FeatureMaps

    Raises
    ------
    InputError
        If the image cannot be halved so often, or a network has no such layer, or a map is not on
        the mesh of its image.
    """
    finest = np.asarray(image, dtype=np.float64)
    if finest.ndim != 3 or not np.isfinite(finest).all():
        raise InputError(
            f"`image` must be finite, of shape (channels, rows, columns); got {finest.shape}"
        )
    if steps < 0 or any(n % 2**steps or n // 2**steps < 2 for n in finest.shape[1:]):
        raise InputError(f"`steps` must leave whole meshes; got {steps} on {finest.shape[1:]}")
    rule = RESTRICTIONS.parse(restriction)

    def halved(x: np.ndarray) -> np.ndarray:
        for axis in (-2, -1):
            x = rule.restrict_axis(x, axis, 2, "periodic", NUMPY)
        return np.asarray(x)

    images = [finest]
    for _ in range(steps):
        images.insert(0, halved(images[0]))
    maps: dict[str, tuple[np.ndarray, ...]] = {}
    differences: dict[str, tuple[float, ...]] = {}
    for name, network in networks.items():
        found = [_map(network, layer, x, name) for x in images]
        target, apart = found[-1], [0.0]
        for coarse in found[-2::-1]:
            target = halved(target)
            apart.insert(0, float(np.linalg.norm(coarse - target) / np.linalg.norm(target)))
        maps[name], differences[name] = tuple(found), tuple(apart)
    return FeatureMaps(tuple(x.shape[1] for x in images), maps, differences)


def _map(network: nn.Module, layer: str, image: np.ndarray, name: str) -> np.ndarray:
    modules = dict(network.named_modules())
    if layer not in modules:
        raise InputError(f"`layer` must name a submodule of network {name!r}; got {layer!r}")
    kept: list[Tensor] = []
    handle = modules[layer].register_forward_hook(lambda _, __, out: kept.append(out))
    first = next(network.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            network(torch.from_numpy(image)[None].to(first))
    finally:
        handle.remove()
    result = kept[0][0].double().cpu().numpy()
    if result.shape[1:] != image.shape[1:]:
        raise InputError(
            f"`layer` must give a map on the mesh of its image; got {result.shape[1:]} "
            f"on {image.shape[1:]} for network {name!r}"
        )
    return np.asarray(result)


def draw_feature_maps(
    data: FeatureMaps, channels: Sequence[int] = (0,), title: str = "", style: Style = SCREEN
) -> Figure:
    """Draw a row a network and channel, a column a mesh; one colour scale a row.

    Parameters
    ----------
    data : FeatureMaps
        From `feature_maps`.
    channels : sequence of int
        Channels to draw.
    title : str
        Headline on screen.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    rows = [(name, c) for name in data.maps for c in channels]
    em = style.font / 72.0
    few = len(data.sizes) < 3
    width = style.column if few else style.full
    high, wide = next(iter(data.maps.values()))[-1].shape[1:]
    side = (width - 2.0 * em) / len(data.sizes) - 0.8 * em
    head = title if not style.paper else ""
    with style.apply():
        height = len(rows) * (side * high / wide + 2.9 * em) + (2.6 * em if head else 0.4 * em)
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
        axes = figure.subplots(len(rows), len(data.sizes), squeeze=False)
        for line, (name, channel) in zip(axes, rows, strict=True):
            finest = data.maps[name][-1][channel]
            low, most = (float(v) for v in np.quantile(finest, (0.005, 0.995)))
            for axis, values, apart in zip(
                line, data.maps[name], data.differences[name], strict=True
            ):
                axis.imshow(values[channel], cmap="cividis", vmin=low, vmax=most)
                axis.set_xticks([])
                axis.set_yticks([])
                cells = f"{values.shape[1]} × {values.shape[2]}"
                note = f"{100 * apart:.2g} % from the finest" if apart else "finest"
                axis.set_title(f"{cells}\n{note}", fontsize="small", pad=0.3 * style.font)
            label = f"{name}, channel {channel}" if len(channels) > 1 else name
            line[0].set_ylabel(label)
        if head:
            figure.suptitle(head)
        settle(figure)
    return figure
