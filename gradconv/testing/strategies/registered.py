"""Texts of registered choices, drawn by construction.

The registries are the source: a choice that registers itself is drawn from then on. Its numeric
fields lie in the ranges of `RANGES` or, where the table is silent, in `DEFAULT_RANGES`; values
that the class refuses are never drawn, whatever the table says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from hypothesis import strategies as st

from gradconv.errors import InputError
from gradconv.problem import REGISTERED, Problem
from gradconv.registry import LARGEST, SMALLEST, Choice, type_hints
from gradconv.testing.strategies.values import constant, round_candidates


@dataclasses.dataclass(frozen=True)
class Range:
    """Plausible values of a field; `first` is the simplest where the field has no default."""

    low: float
    high: float
    first: float | None = None


# By field, or by name and field where one word means two sizes.
RANGES = {
    "sigma": Range(0.01, 2.0),
    "white.sigma": Range(0.001, 0.5),
    "alpha": Range(-1.0, 6.0),
    "scale": Range(0.1, 10.0),
    "nu": Range(0.5, 5.0, first=1.5),
    "length": Range(0.01, 0.5, first=0.1),
    "width": Range(0.005, 0.2),
    "unblur.width": Range(0.0005, 0.02),
    "distance": Range(-0.5, 0.5),
    "fraction": Range(0.01, 1.0),
    "peak": Range(1.0, 1000.0),
    "s": Range(0.2, 6.0),
    "modes": Range(1, 12),
    "size": Range(1, 7),
    "order": Range(0, 4),
    "axis": Range(0, 2),
    "shapes": Range(1, 20),
    "layout": Range(0, 99),
}
DEFAULT_RANGES = {float: Range(0.01, 2.0), int: Range(0, 8)}
# Values of fields that hold text: a colour, a grey and an oblong photograph, which stay in memory.
TEXTS = {"title": ("astronaut", "camera", "rocket")}


def simplest_word(argument: str) -> str:
    """Name of the choice that a draw shrinks to: the default of `Problem`."""
    defaults = {f.name: f.default for f in dataclasses.fields(Problem)}
    return str(defaults[argument]).partition(":")[0]


def _fields(cls: type[Choice]) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _list_candidates(cls: Any, field: Any, extreme: bool) -> list[Any]:
    """Values to try for a field, simplest first; none for text that no table knows."""
    kind = type_hints(cls)[field.name]
    default = [] if field.default is dataclasses.MISSING else [field.default]
    if kind not in DEFAULT_RANGES:
        return default + [text for text in TEXTS.get(field.name, ()) if text not in default]
    known = DEFAULT_RANGES[kind]
    known = RANGES.get(f"{cls.name}.{field.name}", RANGES.get(field.name, known))
    if kind is int:
        return default + list(range(int(known.low), int(known.high) + 1))
    numbers = list(round_candidates(known.low, known.high, default[0] if default else known.first))
    ends = (SMALLEST, LARGEST, -LARGEST)
    return [*numbers, *ends * (len(numbers) // 6)] if extreme else numbers


# type checkers do not see that classes can be hashed
_candidates: Callable[..., list[Any]] = lru_cache(maxsize=256)(_list_candidates)


def _build(cls: type[Choice], values: Mapping[str, Any], extreme: bool) -> Choice:
    """Build a choice, other fields at their simplest."""
    full = dict(values)
    for name, field in _fields(cls).items():
        simplest = _candidates(cls, field, extreme)[:1]
        if name not in full and not simplest:
            raise InputError(f"`{cls.argument}` {cls.name} needs {name}; got none")
        full.setdefault(name, *simplest)
    return cls(**full)


def words(choice: Choice) -> str:
    """Shortest text of a choice that says its first value: ``pixel:0.5``, ``matern:1.5:0.1``."""
    fields = list(_fields(type(choice)).values())
    while len(fields) > 1 and getattr(choice, fields[-1].name) == fields[-1].default:
        fields.pop()
    texts = [choice.name]
    for field in fields:
        value = getattr(choice, field.name)
        short = f"{value:g}" if isinstance(value, float) else str(value)
        texts.append(short if isinstance(value, str) or float(short) == value else str(value))
    return ":".join(texts)


def _accept(choice: Choice) -> None:
    """Accept anything."""


@st.composite
def choices(
    draw: st.DrawFn,
    argument: str,
    name: str | st.SearchStrategy[str] | None,
    check: Callable[[Any], None] = _accept,
    extreme: bool = False,
    fields: Mapping[str, Any] | None = None,
) -> str:
    """Draw the text of a choice that passes a check, by construction.

    Names without a value that passes are passed over, and each field is drawn among the values
    that pass beside those drawn before it.
    """
    registry = REGISTERED[argument]
    given = {key: draw(constant(value)) for key, value in (fields or {}).items()}

    def passes(cls: type[Choice], values: Mapping[str, Any]) -> bool:
        try:
            check(_build(cls, values, extreme))
        except InputError:
            return False
        return True

    def possible(word: str) -> bool:
        """Whether a choice of this name passes: rules are thresholds, so the ends are tried."""
        cls = registry[word]
        tried = [given]
        for key, field in _fields(cls).items():
            if key not in given:
                candidates = _candidates(cls, field, extreme)
                ends = (min(candidates), max(candidates)) if candidates else ()
                tried += [{**given, key: end} for end in ends if end != candidates[0]]
        return any(passes(cls, values) for values in tried)

    if name is None:
        first = simplest_word(argument)
        names = sorted(registry.names, key=lambda word: (word != first, word))
        names = [word for word in names if set(given) <= set(_fields(registry[word]))]
        if not any(map(possible, names)):
            raise InputError(f"`{argument}` must have a choice with {given}; got none that fits")
        # Hypothesis counts draws: without this, names with fewer fields would be simpler
        if not given and passes(registry[first], {}) and draw(st.integers(0, 4)) == 0:
            return words(_build(registry[first], {}, extreme))
        word = draw(st.sampled_from(names).filter(possible))
    else:
        word = draw(constant(name))
        if not set(given) <= set(_fields(registry[word])):
            known = ", ".join(_fields(registry[word])) or "no values"
            raise InputError(f"`{argument}` {word} takes {known}; got {', '.join(given)}")
        if not possible(word):
            check(_build(registry[word], given, extreme))  # raises: says what is wrong
    cls = registry[word]
    values = dict(given)

    def fits(key: str, value: Any) -> bool:
        return passes(cls, {**values, key: value})

    for key, field in _fields(cls).items():
        if key not in values:
            values[key] = draw(
                st.sampled_from(_candidates(cls, field, extreme)).filter(partial(fits, key))
            )
    return words(cls(**values))
