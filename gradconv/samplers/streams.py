"""Seeds of the random numbers of samples: no two samples of a run have one stream."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_WORD = 2**32 - 1


def stream_seed(seed: int, number: int, level: int) -> int:
    """Seed of the random numbers of a sample that is drawn on a level.

    torch seeds its generator on the CPU with the lowest 32 bits only, of which a quarter of a
    million hashes would share some. So they are a permutation of the number's own: no two of 2^32
    samples in a row have one stream.

    Parameters
    ----------
    seed, number, level : int
        Not negative.

    Returns
    -------
    int
        64 bits.
    """
    number = int(number)  # the products below overflow in fixed width
    first, second, high = _keys(seed, level, number >> 32)
    return high << 32 | _permuted(_permuted(number & _WORD ^ first) ^ second)


@lru_cache(maxsize=256)
def _keys(seed: int, level: int, block: int) -> tuple[int, int, int]:
    words = np.random.SeedSequence(seed, spawn_key=(level, block)).generate_state(3)
    return int(words[0]), int(words[1]), int(words[2])


def _permuted(x: int) -> int:
    """Mix 32 bits, each step invertible: shifts, and products with odd numbers modulo 2^32."""
    x = (x ^ x >> 16) * 0x85EBCA6B & _WORD
    x = (x ^ x >> 13) * 0xC2B2AE35 & _WORD
    return x ^ x >> 16
