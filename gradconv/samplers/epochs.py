"""Finite data sets without end: each epoch goes through all samples in an order of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def shuffled(numbers: Sequence[int], size: int, seed: int) -> list[int]:
    """Places in a data set of samples that are numbered without end.

    Parameters
    ----------
    numbers : sequence of int
        Numbers of the samples.
    size : int
        Samples of the data set.
    seed : int
        Seed of the orders.

    Returns
    -------
    list of int
        Number m is the (m mod size)-th sample of epoch m // size; every epoch has all samples.
    """
    return [int(_order(size, seed, m // size)[m % size]) for m in numbers]


@lru_cache(maxsize=8)
def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)
