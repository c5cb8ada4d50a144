"""Errors that users meet: each names the argument, the rule and what it got."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral


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


def check_number(name: str, value: object, least: int, largest: int) -> None:
    """Refuse what is no whole number of a range.

    Raises
    ------
    InputError
        That names the argument, the range and the value.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not least <= int(value) <= largest:  # type: ignore[call-overload]
        raise InputError(
            f"`{name}` must be a whole number from {least} to {largest:.3g}; got {shortened(value)}"
        )


def check_gib(memory: object) -> None:
    """Refuse a bound on memory, in GiB, that is not positive and finite.

    Raises
    ------
    InputError
        That names the rule and the value.
    """
    real = isinstance(memory, (int, float)) and not isinstance(memory, bool)
    if not real or not 0 < memory < 2**30:  # type: ignore[operator]
        raise InputError(f"`memory` must be positive and finite, in GiB; got {shortened(memory)}")


class LawError(InputError):
    """No law can be derived: the message names the assumption that fails."""
