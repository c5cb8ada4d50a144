"""Arguments that may be strategies, and numbers that a failure can show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from gradconv.errors import InputError

T = TypeVar("T")

# How much larger the high end is than the low one where numbers are spread by their logarithm.
_DECADES = 20.0


def constant(given: Any) -> st.SearchStrategy[Any]:
    """Strategy of an argument that may be one: itself, or a constant."""
    return given if isinstance(given, st.SearchStrategy) else st.just(given)


def either(given: Any, otherwise: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Strategy of an argument that may be left out."""
    return otherwise if given is None else constant(given)


def calls(make: Callable[..., T], arguments: Mapping[str, Any]) -> st.SearchStrategy[T]:
    """Strategy of one value, which Hypothesis prints as the call that made it."""
    return st.builds(make, **{name: st.just(value) for name, value in arguments.items()})


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _series(low: float, high: float, mantissas: Iterable[float]) -> list[float]:
    """m·10^e in [low, high], 0 < low."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = (float(f"{m}e{e}") for e in decades for m in mantissas)
    return [v for v in found if low <= v <= high]


@lru_cache(maxsize=1024)
def round_candidates(low: float, high: float, first: float | None = None) -> tuple[float, ...]:
    """Numbers of at most two digits from `low` to `high`, the simplest first.

    Ends and numbers of one digit (1, 2, 5 times a power of ten) fill half of the list, so that a
    uniform choice from it meets them often. Where the range spans more than a factor of 20 the
    numbers are spread by their logarithm, else evenly.

    Parameters
    ----------
    low, high : float
        The range, ends included.
    first : float, optional
        The simplest number; by default the one of the series nearest to 1 or, where the range
        holds it, 0.

    Returns
    -------
    tuple of float
        With repetitions.
    """
    if low > high:
        raise InputError(f"`low` must not exceed `high`; got {low:g} and {high:g}")
    if low > 0 and high > _DECADES * low:
        coarse = _series(low, high, (1, 2, 5))
        fine = _series(low, high, [m / 10 for m in range(10, 100)])
    else:
        size = max(abs(low), abs(high))
        step = 10.0 ** (math.floor(math.log10(size)) - 1) if size else 1.0
        whole = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        fine = [_rounded(i * step) for i in whole]
        coarse = [v for v in (0.0, 10 * step, -10 * step, 5 * step, -5 * step) if low <= v <= high]
    start = first if first is not None else (0.0 if low <= 0 <= high else 1.0)

    def distance(value: float) -> float:
        if low > 0 and start > 0:
            return abs(math.log(value / start))
        return abs(value - start)

    coarse = sorted({*coarse, low, high}, key=lambda v: (distance(v), -v))
    fine = sorted(set(fine) - set(coarse), key=lambda v: (distance(v), -v))
    head = [first] if first is not None else []
    repeats = max(1, len(fine) // len(coarse))
    return (*head, *coarse * repeats, *fine)


def generators(draws: int) -> st.SearchStrategy[np.random.Generator]:
    """Sources of many numbers at once, from as many digits as told.

    Hypothesis takes what was made by fewer draws to be simpler. Noise from one seed would count
    as simpler than a few numbers that can be read; noise from many digits does not.
    """
    return st.tuples(*[st.integers(0, 9)] * draws).map(np.random.default_rng)


def just_above(value: float) -> float:
    """Smallest number of two digits above a positive one."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return _rounded((math.floor(value / step + 1e-9) + 1) * step)


def just_below(value: float) -> float:
    """Largest number of two digits below a positive one."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return _rounded((math.ceil(value / step - 1e-9) - 1) * step)


def round_numbers(low: float, high: float, first: float | None = None) -> st.SearchStrategy[float]:
    """Floats with at most two digits, such as 0.5 or 0.012, ends included.

    Parameters
    ----------
    low, high : float
        The range, ends included.
    first : float, optional
        What a failure shrinks to: by default 0 where the range holds it, else the number of one
        digit nearest to 1.

    Returns
    -------
    SearchStrategy of float
    """
    return st.sampled_from(round_candidates(low, high, first))
