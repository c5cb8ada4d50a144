"""Feature maps of networks on one image at several resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from gradconv.backend import NUMPY
from gradconv.errors import InputError
from gradconv.restriction import RESTRICTIONS


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
