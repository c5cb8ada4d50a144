"""Measuring a module that was named on the command line, on the meshes of a plan."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gradconv.backend import Backend
from gradconv.errors import InputError, check_whole, shortened
from gradconv.loading import load
from gradconv.mesh import Mesh
from gradconv.multilevel.costs.counting import LevelCost, Pair, level_costs
from gradconv.nn.evaluation import first_line, mean_square, pick, run_module
from gradconv.nn.random_state import preserved_random_state, start_random_state

WEIGHTS_KEY, DATA_KEY = 0, 1  # random streams


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
    loss = mean_square if options["loss"] == "mse" else load("loss", options["loss"])
    if not callable(loss):
        raise InputError(f"`loss` must be 'mse' or a callable; got {shortened(loss)}")
    notes: list[str] = []
    with (
        preserved_random_state(options["device"]),
        warnings.catch_warnings(record=True) as heard,
    ):
        warnings.simplefilter("always")
        modules = _modules(given, [Mesh(dim, n) for n in sizes], options)
        channels = options["channels"] or _channels(modules[-1])
        shapes = [(b, channels, *(n,) * dim) for b, n in zip(samples, sizes, strict=True)]
        batches = _batches(modules, shapes, options)
        repeats = options["repeats"] if options["seconds"] else 0
        found = level_costs(
            modules, loss, batches, repeats=repeats, note=notes.append, argument="module"
        )
    notes += [" ".join(str(w.message).split()) for w in heard]
    return found, list(dict.fromkeys(notes))


def _modules(given: Any, meshes: list[Mesh], options: Mapping[str, Any]) -> list[nn.Module]:
    """One module a level, in the precision and on the device that were asked for."""
    if isinstance(given, nn.Module):
        modules = [given] * len(meshes)
    elif not callable(given):
        raise InputError(
            f"`module` must be a torch.nn.Module or a callable that makes one; "
            f"got {shortened(given)}"
        )
    else:
        wanted = _wanted(given)
        if wanted is None:
            modules = [_make(given, options["seed"])] * len(meshes)
        else:
            values = [m if wanted == "mesh" else m.n for m in meshes]
            modules = [_make(given, options["seed"], **{wanted: v}) for v in values]
    for module in dict.fromkeys(modules):
        module.double() if options["dtype"] == "float64" else module.float()
        module.to(options["device"])
    return modules


def _wanted(factory: Any) -> str | None:
    """Whether a factory takes the cells an axis, or the mesh, by name."""
    try:
        names = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return None
    return next((name for name in ("n", "mesh") if name in names), None)


def _make(factory: Any, seed: int, **kwargs: Any) -> nn.Module:
    start_random_state(seed, WEIGHTS_KEY)
    try:
        made = factory(**kwargs)
    except Exception as error:  # each factory has errors of its own
        raise InputError(
            f"`module` factory must make a module; it raised {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"`module` factory must make a torch.nn.Module; got {shortened(made)}")
    return made


def _channels(module: nn.Module) -> int:
    """Input channels of the first layer that tells, else 1."""
    for layer in module.modules():
        channels = getattr(layer, "in_channels", None)
        if isinstance(channels, int) and channels > 0:
            return channels
    return 1


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
