"""Named, parametrised choices: the words of the command line and their constructors.

A signal, target, noise or restriction is a frozen dataclass that registers itself under its
name. ``parse("pixel:0.5")`` builds it and ``choice.spec`` gives the canonical text back, so that
the command line, the configuration file, the stored data and the tests share one vocabulary.
"""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

from gradconv.errors import InputError, unknown_name

T = TypeVar("T", bound="Choice")

# Sizes that the arithmetic carries through squares and products in any precision.
SMALLEST, LARGEST = 1e-9, 1e6


class Choice(ABC):
    """Base of all registered choices; subclasses are frozen dataclasses."""

    name: ClassVar[str]
    argument: ClassVar[str]

    @property
    def spec(self) -> str:
        """Canonical text, e.g. ``"matern:1.5:0.1:1.0"``; parsing it gives an equal value."""
        values = [getattr(self, f.name) for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return ":".join([self.name, *(str(v) for v in values)])

    def require(self, rule: bool, text: str) -> None:
        """Raise an `InputError` that names the argument, the rule and what it got."""
        if not rule:
            raise InputError(f"`{self.argument}` {self.name}: {text}; got {self.spec!r}")

    def require_finite(self) -> None:
        """Refuse NaN, infinity and sizes that overflow, in any numeric field."""
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, float):
                sound = value == 0 or SMALLEST <= abs(value) <= LARGEST  # false for NaN
                rule = f"must be finite, and zero or of size {SMALLEST:g} to {LARGEST:g}"
                self.require(sound, f"{f.name} {rule}")


class Registry(Generic[T]):
    """Name → constructor for one kind of choice.

    Parameters
    ----------
    argument : str
        The option that the choices belong to, named in every error.
    """

    def __init__(self, argument: str) -> None:
        self.argument = argument
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that enters a dataclass under `name`."""

        def enter(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise InputError(f"`{self.argument}` {name} must be registered once; got {cls!r}")
            cls.name = name
            cls.argument = self.argument
            self._classes[name] = cls
            return cls

        return enter

    @property
    def names(self) -> list[str]:
        """Registered names in alphabetical order."""
        return sorted(self._classes)

    def __getitem__(self, name: str) -> type[T]:
        """Class registered under `name`."""
        if name not in self._classes:
            raise unknown_name(self.argument, name, self._classes)
        return self._classes[name]

    def parse(self, text: str | T) -> T:
        """Build a choice from ``name``, ``name:value:value`` or ``name:key=value``.

        Parameters
        ----------
        text : str or Choice
            The text; a value that is a `Choice` already is returned as it is.

        Returns
        -------
        Choice
            The validated value.

        Raises
        ------
        InputError
            If the name or a key is unknown, or a value has the wrong type or range.
        """
        if isinstance(text, Choice):
            return text
        if not isinstance(text, str):
            raise InputError(f"`{self.argument}` must be text like 'name:value'; got {text!r}")
        name, _, rest = text.strip().partition(":")
        cls = self[name]
        return cls(**_arguments(cls, self.argument, name, rest))


# Annotations are text, which takes long to evaluate; type checkers do not see that classes can be
# hashed.
type_hints: Callable[..., dict[str, Any]] = lru_cache(maxsize=256)(get_type_hints)


def _arguments(cls: type[Any], argument: str, name: str, rest: str) -> dict[str, Any]:
    fields = dataclasses.fields(cls)
    hints = type_hints(cls)
    keys = [f.name for f in fields]
    if len(keys) == 1 and hints[keys[0]] is str:  # a path may hold colons and equals signs
        parts = [rest] if rest else []
    else:
        parts = rest.split(":") if rest else []
    if len(parts) > len(keys):
        takes = f"at most {len(keys)} values ({', '.join(keys)})" if keys else "no values"
        raise InputError(f"`{argument}` {name} takes {takes}; got {name}:{rest}")
    given: dict[str, Any] = {}
    for position, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not (equals and key in keys and hints[keys[0]] is not str):
            key, value = keys[position], part
        if key in given:
            raise InputError(f"`{argument}` {name} takes {key} once; got {name}:{rest}")
        given[key] = _convert(value, hints[key], argument, name, key)
    missing = [
        f.name
        for f in fields
        if f.name not in given
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"`{argument}` {name} needs {', '.join(missing)}; got {name}:{rest}")
    return given


def _convert(text: str, kind: Any, argument: str, name: str, key: str) -> Any:
    if kind in (int, float):
        try:
            return kind(text)
        except (ValueError, OverflowError):
            wanted = "a whole number" if kind is int else "a number"
            raise InputError(f"`{argument}` {name}: {key} must be {wanted}; got {text!r}") from None
    return text
