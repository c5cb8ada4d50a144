"""What a study's choices may be: checks that kinds share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from gradconv.errors import InputError, check_whole, shortened, unknown_name

LARGEST = 1e9


def complete(choices: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse choices of other names, and missing ones.

    Raises
    ------
    InputError
        That names the choice.
    """
    names = list(known)
    for name in choices:
        if name not in names:
            raise unknown_name("choice", name, names)
    for name in names:
        if name not in choices:
            raise InputError(f"`{name}` must be chosen; got no value")


def whole_numbers(name: str, given: object, least: int, largest: int) -> list[int]:
    """Whole numbers of a range that rise.

    Raises
    ------
    InputError
        That names the choice, the rule and the value.
    """
    values = _listed(name, given)
    for value in values:
        check_whole(name, value, least, largest)
    _rising(name, values)
    return values


def positive_numbers(name: str, given: object) -> list[float]:
    """Positive numbers that rise.

    Raises
    ------
    InputError
        That names the choice, the rule and the value.
    """
    values = [positive_number(name, value) for value in _listed(name, given)]
    _rising(name, values)
    return values


def positive_number(name: str, given: object) -> float:
    """Positive, finite number.

    Raises
    ------
    InputError
        That names the choice, the rule and the value.
    """
    real = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not real or not math.isfinite(given) or not 0 < given <= LARGEST:  # type: ignore[arg-type,operator]
        raise InputError(f"`{name}` must be positive and finite; got {shortened(given)}")
    return float(given)  # type: ignore[arg-type]


def names_of(name: str, given: object, known: Iterable[str]) -> list[str]:
    """Names out of those known, none twice.

    Raises
    ------
    InputError
        That names the choice, the rule and the value.
    """
    values = _listed(name, given)
    for value in values:
        if not isinstance(value, str) or value not in list(known):
            raise unknown_name(name, value, known)
    if len(set(values)) < len(values):
        raise InputError(f"`{name}` must not repeat a value; got {shortened(given)}")
    return values


def _listed(name: str, given: object) -> list[Any]:
    if not isinstance(given, (list, tuple)) or not given:
        raise InputError(f"`{name}` must be a list of at least one value; got {shortened(given)}")
    return list(given)


def _rising(name: str, values: list[Any]) -> None:
    if any(b <= a for a, b in pairwise(values)):
        raise InputError(f"`{name}` must rise; got {shortened(values)}")
