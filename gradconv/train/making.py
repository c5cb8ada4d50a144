"""From the choices of a run to its parts: data, network, legs, costs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradconv.errors import InputError
from gradconv.images import IMAGES, Tiles
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.costs.counting import LevelCost, level_costs
from gradconv.multilevel.costs.model import CostModel
from gradconv.nn import UnresolvedKernelWarning
from gradconv.nn.evaluation import mean_square
from gradconv.samplers import CroppedSampler, NoisySampler, Sampler
from gradconv.train.configuration import TrainingConfig
from gradconv.train.networks import MESH_FREE_WIDTHS, build_network
from gradconv.train.strategies import Leg

# Seeds of parts that must not share random numbers, relative to the run's.
VALIDATION, TEST, MOMENTS, TIMING = 1, 2, 3, 4
_SPACING = 8


@dataclass(frozen=True)
class Pairs:
    """Fixed pairs on the finest mesh, to measure errors on.

    Parameters
    ----------
    x, y : Tensor
        Inputs ``(N, C, *n)`` and targets.
    """

    x: Tensor
    y: Tensor


def stream(seed: int, part: int) -> int:
    """Seed of a part of a run."""
    return _SPACING * seed + part


class Data:
    """The samples of a run: training without end, fixed pairs for validation and test.

    Parameters
    ----------
    config : TrainingConfig
        The choices.

    Raises
    ------
    InputError
        If the data are missing, corrupt or smaller than the finest mesh.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config, self.task = config, config.made_task
        self.source = IMAGES.parse(config.data)
        self._photographs = {
            split: self.source.open(split, config.channels)
            for split in ("train", "validation", "test")
        }
        # what is held out is the same for all seeds, so that their errors can be compared
        self._held = {
            split: Tiles(self._photographs[split], config.size, augment=False)
            for split in ("validation", "test")
        }
        for split, tiles in self._held.items():
            if not len(tiles):
                raise InputError(f"`data` must have tiles of {config.size} cells to {split} with")

    def sampler(self, part: int = 0) -> NoisySampler:
        """Samples of training, or others that are as good, for a part of the run of its own."""
        config, seed = self.config, stream(self.config.seed, part)
        return NoisySampler(
            Tiles(self._photographs["train"], config.size, seed=seed),
            self.task.corrupt,
            config.hierarchy,
            drawn=config.drawn,
            restriction=config.restriction,
            route=config.route,
            seed=seed,
            restricted=self.task.restricted,
        )

    def pairs(self, split: str) -> Pairs:
        """Fixed pairs on the finest mesh, the same in every run of the task."""
        config = self.config
        most = config.validation_tiles if split == "validation" else config.test_tiles
        clean = self._held[split].fixed(most)
        hierarchy = config.hierarchy
        part = VALIDATION if split == "validation" else TEST
        held = NoisySampler(_Held(clean), self.task.corrupt, hierarchy, seed=part)
        ((x, y),) = held.draw(range(len(clean)), (len(hierarchy) - 1,))
        return Pairs(x, y)


@dataclass(frozen=True)
class _Held:
    """Fixed tiles by number, in order."""

    clean: Tensor

    def __call__(self, number: int) -> Tensor:
        return self.clean[number]


def make_network(config: TrainingConfig) -> nn.Module:
    """Make the network of a run, with the weights of its seed."""
    return build_network(
        config.network,
        config.made_task,
        config.channels,
        conv=config.conv,
        width=config.width,
        layers=config.layers,
        mesh_free_widths=config.mesh_free_widths,
        padding_mode=config.padding,
        norm=config.norm,
        seed=config.seed,
    )


def sampler_of(leg: Leg, sampler: Sampler, seed: int) -> Sampler:
    """The samples of a leg: cut and resized where it asks for that."""
    return sampler if leg.crops is None else CroppedSampler(sampler, leg.crops, seed)


def costs_of(
    module: nn.Module, sampler: Sampler, device: torch.device, dtype: torch.dtype
) -> tuple[LevelCost, ...]:
    """Operations and memory of one sample's gradient on each level.

    Raises
    ------
    InputError
        If the module cannot run on a level, or its loss or a gradient is not finite there.
    """
    levels = range(len(sampler.hierarchy))
    batches = [
        (x.to(device, dtype), y.to(device, dtype)) for x, y in sampler.draw(range(2), levels)
    ]
    return level_costs(module, mean_square, batches)


@contextmanager
def unresolved_kernels(notes: list[str]) -> Iterator[None]:
    """Turn warnings of kernels narrower than a cell into one note: on coarse levels they are usual.

    Parameters
    ----------
    notes : list of str
        Gets the note.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnresolvedKernelWarning)  # whatever the caller does of them
        yield
    meshes = set()
    for one in caught:
        if issubclass(one.category, UnresolvedKernelWarning):
            meshes.update(re.findall(r"mesh (\d[\d×]*)", str(one.message)))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if meshes:
        order = sorted(meshes, key=lambda text: int(text.partition("×")[0]))
        notes.append(
            f"mesh-free kernels are narrower than a cell on the meshes {', '.join(order)}: there "
            "the network is not the same operator as on finer ones (wider ones: mesh_free_widths)"
        )


def work_units(hierarchy: MeshHierarchy) -> CostModel:
    """One sample's gradient on the finest mesh is 1."""
    return CostModel.work_units(len(hierarchy), hierarchy.dim)


def describe_network(module: nn.Module, config: TrainingConfig) -> dict[str, Any]:
    """Name, parameters and, of mesh-free kernels, what they start from."""
    found: dict[str, Any] = {
        "network": config.network,
        "conv": config.conv,
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
    }
    if config.conv == "mfc":
        found["mesh_free_widths"] = list(config.mesh_free_widths or MESH_FREE_WIDTHS)
    return found
