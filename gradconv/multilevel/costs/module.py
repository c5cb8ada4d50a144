"""Measuring a module that was named on the command line, on the meshes of a plan."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gradconv.backend import Backend
from gradconv.errors import check_whole
from gradconv.loading import load, load_loss
from gradconv.mesh import Mesh
from gradconv.multilevel.costs.counting import LevelCost, Pair, level_costs
from gradconv.nn.evaluation import as_loss, pick, run_module
from gradconv.nn.making import cast, first_channels, made_for_meshes
from gradconv.nn.random_state import preserved_random_state, start_random_state

DATA_KEY = 1  # random stream of the batches


def measure(
    name: str,
    sizes: tuple[int, ...],
    dim: int,
    samples: tuple[int, ...],
    options: Mapping[str, Any],
) -> tuple[tuple[LevelCost, ...], list[str]]:
    """Cost of a module's gradient on each level, for white noise as input and target.

    Parameters
    ----------
    name : str
        ``package.module:name`` of a torch module, or of what makes one (for each mesh, if it
        takes ``n`` or ``mesh``).
    sizes : tuple of int
        Cells an axis, coarse to fine.
    dim : {1, 2, 3}
        Dimension.
    samples : tuple of int
        Samples of a pass on each level.
    options : mapping
        Loss, channels, seconds, repeats, device, dtype and seed.

    Returns
    -------
    tuple of LevelCost
        Coarse to fine.
    list of str
        What was warned of, and which choices were made.
    """
    check_whole("repeats", options["repeats"], 1, 10**6)
    if options["channels"] is not None:
        check_whole("channels", options["channels"], 1, 10**6)
    Backend(options["device"], options["dtype"])
    given = load("module", name)
    loss = as_loss(load_loss(options["loss"]))
    notes: list[str] = []
    with (
        preserved_random_state(options["device"]),
        warnings.catch_warnings(record=True) as heard,
    ):
        warnings.simplefilter("always")
        modules = _modules(given, [Mesh(dim, n) for n in sizes], options)
        channels = options["channels"] or first_channels(modules[-1]) or 1
        shapes = [(b, channels, *(n,) * dim) for b, n in zip(samples, sizes, strict=True)]
        batches = _batches(modules, shapes, options)
        repeats = options["repeats"] if options["seconds"] else 0
        found = level_costs(modules, loss, batches, repeats=repeats, note=notes.append)
    notes += [" ".join(str(w.message).split()) for w in heard]
    return found, list(dict.fromkeys(notes))


def _modules(given: Any, meshes: list[Mesh], options: Mapping[str, Any]) -> list[nn.Module]:
    """One module a level, in the precision and on the device that were asked for."""
    if isinstance(given, nn.Module):
        modules = [given] * len(meshes)
    else:
        modules = made_for_meshes(given, meshes, options["seed"])
    for module in dict.fromkeys(modules):
        cast(module, options["device"], getattr(torch, options["dtype"]))
    return modules


def _batches(
    modules: list[nn.Module],
    shapes: list[tuple[int, ...]],
    options: Mapping[str, Any],
) -> list[Pair]:
    """White noise as input, and as target in the shape of the prediction."""
    start_random_state(options["seed"], DATA_KEY)
    kind = {"dtype": getattr(torch, options["dtype"]), "device": options["device"]}
    batches: list[Pair] = []
    for level, (module, shape) in enumerate(zip(modules, shapes, strict=True)):
        x = torch.randn(shape, **kind)
        where = f"level {level} (n={shape[-1]})"
        with torch.no_grad():
            made = pick(run_module(module, x, where), None, where, lambda text: None)
        batches.append((x, torch.randn(made.shape, dtype=made.dtype, device=made.device)))
    return batches
