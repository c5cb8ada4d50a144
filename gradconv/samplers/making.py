"""A sampler from what a user has: a problem, tensors, a callable or a data loader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from gradconv.errors import InputError, shortened
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.samplers.base import Sampler
from gradconv.samplers.by_level import CallableSampler
from gradconv.samplers.loader import LoaderSampler
from gradconv.samplers.problem import ProblemSampler
from gradconv.samplers.tensors import TensorSampler


def as_sampler(
    given: Any,
    hierarchy: MeshHierarchy,
    *,
    restriction: Any = "average",
    route: str = "chain",
    seed: int = 0,
) -> Sampler:
    """Make a sampler, or check that the one given is of the hierarchy.

    Parameters
    ----------
    given : Sampler, Problem, (inputs, targets), callable or iterable
        A problem's data, tensors on the finest mesh (gone through in a new order each epoch),
        ``make(n, number) -> (input, target)``, or a data loader of the finest mesh.
    hierarchy : MeshHierarchy
        The levels.
    restriction, route
        Fine → coarse map of tensors and loaders.
    seed : int
        Of a problem's data and of the orders.

    Raises
    ------
    InputError
        If it is none of these, or does not fit the hierarchy.
    """
    if not isinstance(hierarchy, MeshHierarchy):
        raise InputError(f"`hierarchy` must be a MeshHierarchy; got {shortened(hierarchy)}")
    if isinstance(given, Sampler):
        if given.hierarchy != hierarchy:
            raise InputError(
                "`sampler` and `hierarchy` must have the same levels; got "
                f"{given.hierarchy.sizes} and {hierarchy.sizes}"
            )
        return given
    if isinstance(given, Problem):
        return ProblemSampler(given, hierarchy, seed)
    pair = isinstance(given, (tuple, list)) and len(given) == 2
    if pair and all(isinstance(t, torch.Tensor) for t in given):
        x, y = given
        return TensorSampler(x, y, restriction, route, hierarchy, epochs=True, seed=seed)
    if callable(given):
        return CallableSampler(given, hierarchy)
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes, torch.Tensor, tuple)):
        return LoaderSampler(given, hierarchy, restriction, route)
    raise InputError(
        "`sampler` must be a Sampler, a Problem, (inputs, targets), a callable or an iterable of "
        f"batches; got {shortened(given)}"
    )
