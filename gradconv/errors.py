"""Errors that users meet: each names the argument, the rule and what it got."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real

MOST = 10**12  # of anything that is counted


class InputError(ValueError):
    """An argument breaks a rule; the message names the argument, the rule and the value."""


class StorageError(OSError):
    """A result could not be read or written; the message names the path and what to do."""


class RunError(RuntimeError):
    """A run had to stop; the message names why, and what is kept."""


def shortened(value: object, limit: int = 80) -> str:
    """Return the text of a value as an error shows it: one line, cut to `limit` characters."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # integers of thousands of digits, endless nesting
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def unknown_name(argument: str, got: object, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not in a registry, with the nearest known one.

    Parameters
    ----------
    argument : str
        Name of the argument at fault.
    got : object
        What the user gave.
    known : iterable of str
        The names that would have been accepted.

    Returns
    -------
    InputError
        To be raised by the caller.
    """
    names = sorted(known)
    near = get_close_matches(shortened(got).strip("'"), names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"`{argument}` must be one of {', '.join(names)}; got {shortened(got)}{hint}")


def check_whole(name: str, value: object, least: int, largest: int = MOST) -> int:
    """Return a whole number of a range, or refuse what is none.

    Raises
    ------
    InputError
        That names the argument, the range and the value.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        whole = int(value)
        if least <= whole <= largest:
            return whole
    end = str(largest) if largest < 10**6 else f"{largest:.3g}"
    raise InputError(
        f"`{name}` must be a whole number from {least} to {end}; got {shortened(value)}"
    )


def check_positive(name: str, value: object) -> float:
    """Return a positive, finite number, or refuse what is none.

    Raises
    ------
    InputError
        That names the argument and the value.
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    if real and 0 < value <= sys.float_info.max:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise InputError(f"`{name}` must be positive and finite; got {shortened(value)}")


def check_confidence(confidence: object) -> None:
    """Refuse levels of confidence that no bootstrap can reach.

    Raises
    ------
    InputError
        That names the rule and the value.
    """
    real = isinstance(confidence, Real) and not isinstance(confidence, bool)
    if not real or not 0.01 <= confidence <= 0.9999:  # type: ignore[operator]
        raise InputError(
            f"`confidence` must be a number between 0 and 1, in [0.01, 0.9999]; "
            f"got {shortened(confidence)}"
        )


def check_gib(memory: object) -> None:
    """Refuse a bound on memory, in GiB, that is not positive and finite.

    Raises
    ------
    InputError
        That names the rule and the value.
    """
    real = isinstance(memory, Real) and not isinstance(memory, bool)
    if not real or not 0 < memory < 2**30:  # type: ignore[operator]
        raise InputError(f"`memory` must be positive and finite, in GiB; got {shortened(memory)}")


class LawError(InputError):
    """No law can be derived: the message names the assumption that fails."""
