"""Draws of strategies outside of property tests: always the same ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

Corners = dict[str, Callable[[Any], bool]]


def sample(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """First draws of a strategy; always the same ones."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


class _Reached(Exception):
    """All corners are."""


def missing(strategy: st.SearchStrategy[Any], corners: Corners, count: int) -> list[str]:
    """Return the corners that `count` draws do not reach; with the last corner they end."""
    left = dict(corners)

    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        for label in [label for label, reached in left.items() if reached(value)]:
            del left[label]
        if not left:
            raise _Reached

    with suppress(_Reached):
        collect()
    return list(left)


def simplest(strategy: st.SearchStrategy[Any], condition: Any = lambda value: True) -> Any:
    return find(strategy, condition, settings=settings(database=None, max_examples=1000))
