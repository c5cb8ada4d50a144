"""Errors that users meet: each names the argument, the rule and what it got."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """An argument breaks a rule; the message names the argument, the rule and the value."""


class StorageError(OSError):
    """A result could not be read or written; the message names the path and what to do."""


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


class LawError(InputError):
    """No law can be derived: the message names the assumption that fails."""
