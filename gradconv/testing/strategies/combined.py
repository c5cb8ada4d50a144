"""Problems whose choices fit together, alone and with a hierarchy to put them on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from hypothesis import strategies as st

from gradconv.errors import InputError, unknown_name
from gradconv.fields import NOISES, SIGNALS, TARGETS
from gradconv.kernels import KERNELS, Kernel, KernelOptions
from gradconv.mesh import MeshHierarchy
from gradconv.problem import REGISTERED, Problem
from gradconv.registry import Choice
from gradconv.restriction import RESTRICTIONS
from gradconv.testing.strategies.choices import boundaries, routes, settings
from gradconv.testing.strategies.domains import hierarchies
from gradconv.testing.strategies.parameters import kernel_options
from gradconv.testing.strategies.registered import choices, words
from gradconv.testing.strategies.values import calls, constant

# Choices that contradict no other one: they stand in for what is not drawn yet.
NEUTRAL: dict[str, Any] = {
    "signal": SIGNALS.parse("cartoon"),
    "target": TARGETS.parse("identity"),
    "noise": NOISES.parse("none"),
    "restriction": RESTRICTIONS.parse("average"),
    "kernel": KERNELS.parse("stencil"),
    "setting": "coarsening",
    "boundary": "periodic",
    "route": "chain",
}
DEFAULTS = {
    f.name: KernelOptions() if f.name == "options" else f.default
    for f in dataclasses.fields(Problem)
    if f.init
}
WORDS = {"setting": settings(), "boundary": boundaries(), "route": routes()}
# Those that rule out most come first, so that each has a fair share.
ORDER = (
    *("signal", "channels", "setting", "boundary", "route"),
    *("restriction", "kernel", "noise", "target"),
)


@st.composite
def placed_problems(
    draw: st.DrawFn,
    /,
    *,
    hierarchy: MeshHierarchy | st.SearchStrategy[MeshHierarchy] | None = None,
    max_channels: int = 2,
    **arguments: Any,
) -> tuple[Problem, MeshHierarchy]:
    """Problems with a hierarchy that they can be swept on.

    What is given is taken first; the rest is drawn among what the package's own rules allow
    beside it, one choice after the other, so that nothing is rejected.

    Parameters
    ----------
    hierarchy : MeshHierarchy, optional
        The levels; by default those with 4 cells an axis or more that carry the given choices.
    max_channels : int
        Most channels, where `channels` is not given.
    **arguments
        Any argument of `Problem`, as a value or a strategy: ``noise="pixel:0.5"``,
        ``kernel=kernels("stencil")``, ``channels=3``, ``dim=2``.

    Returns
    -------
    SearchStrategy of (Problem, MeshHierarchy)
        Shrinks to ``Problem('stencil:3', dim=1)`` on 4 and 8 cells.

    Raises
    ------
    InputError
        When drawn from: if the given choices contradict each other.

    Examples
    --------
    >>> from hypothesis import given
    >>> from gradconv.testing import strategies as gst
    >>> @given(gst.placed_problems(kernel="mfc", noise=gst.noises(gaussian=True)))
    ... def test_something(placed):
    ...     problem, hierarchy = placed
    """
    strange = [name for name in arguments if name not in DEFAULTS]
    if strange:
        raise unknown_name("argument", strange[0], DEFAULTS)
    given = {name: draw(constant(value)) for name, value in arguments.items()}
    place = draw(_places(given) if hierarchy is None else constant(hierarchy))
    chosen: dict[str, Any] = {"dim": place.dim, **given}
    _check(chosen, place)
    for name in ORDER:
        if name in chosen:
            continue
        fits = partial(_fits, chosen, place, name)
        if name == "channels":
            chosen[name] = draw(st.sampled_from(range(1, max_channels + 1)).filter(fits))
        elif name in WORDS:
            chosen[name] = draw(WORDS[name].filter(fits))
        else:
            check = partial(_check_one, chosen, place, name)
            chosen[name] = REGISTERED[name].parse(draw(choices(name, None, check)))
    if "options" not in chosen:
        chosen["options"] = draw(_options(chosen))
        if chosen["options"].weights is not None:  # which decide the size themselves
            chosen["kernel"] = chosen["kernel"].name
    return draw(calls(Problem, dict(_written(chosen)))), place


def _written(chosen: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arguments to write down, in the words of the command line."""
    for name, value in chosen.items():
        drawn = isinstance(value, Choice) and name in ORDER
        text = words(value) if drawn and value.name in REGISTERED[name].names else value
        plain = not value.given() if name == "options" else text == DEFAULTS[name]
        if name == "kernel" or not plain:
            yield name, text


def _places(given: Mapping[str, Any]) -> st.SearchStrategy[MeshHierarchy]:
    """Hierarchies that the given choices can be put on."""
    least: dict[int, int] = {}
    for dim in (1, 2, 3) if "dim" not in given else (given["dim"],):
        for n in (4, 8, 16, 32, 64):
            pair = MeshHierarchy(dim, (n, 2 * n))
            if dim not in least and _fits(given, pair, "dim", dim):
                least[dim] = n
    if not least:
        _check(given, MeshHierarchy(given.get("dim", 2), (64, 128)))  # raises: says what is wrong
    levels = {
        dim: hierarchies(dim, min_n=n, max_size=max(4096, (2 * n) ** dim))
        for dim, n in least.items()
    }
    chosen = st.sampled_from(sorted(levels)).flatmap(levels.__getitem__)
    return chosen.filter(lambda place: _fits(given, place, "dim", place.dim))


def _check(values: Mapping[str, Any], hierarchy: MeshHierarchy) -> None:
    """Raise the package's own error if the choices contradict each other on the hierarchy."""
    problem = Problem(**{**NEUTRAL, "dim": hierarchy.dim, **values})
    problem.check(hierarchy)
    problem.check_values(hierarchy)


def _check_one(values: Mapping[str, Any], hierarchy: MeshHierarchy, name: str, choice: Any) -> None:
    """Check with one more choice; what was checked before is remembered."""
    try:
        fault = _fault((*values.items(), (name, choice)), hierarchy)
    except TypeError:  # arrays among the options cannot be looked up
        _check({**values, name: choice}, hierarchy)
    else:
        if fault is not None:
            raise InputError(fault)


@lru_cache(maxsize=2**14)
def _fault(values: tuple[tuple[str, Any], ...], hierarchy: MeshHierarchy) -> str | None:
    try:
        _check(dict(values), hierarchy)
    except InputError as error:
        return str(error)
    return None


def _fits(values: Mapping[str, Any], hierarchy: MeshHierarchy, name: str, choice: Any) -> bool:
    try:
        _check_one(values, hierarchy, name, choice)
    except InputError:
        return False
    return True


def _options(chosen: Mapping[str, Any]) -> st.SearchStrategy[KernelOptions]:
    kernel = chosen["kernel"]
    if isinstance(kernel, Kernel):
        return st.just(KernelOptions())
    family = KERNELS.parse(kernel)
    return kernel_options(family.options, dim=chosen["dim"], channels=chosen["channels"])


def problems(**arguments: Any) -> st.SearchStrategy[Problem]:
    """Problems whose choices fit together.

    Parameters
    ----------
    **arguments
        As for `placed_problems`, which gives a hierarchy besides that the problem can be put on.

    Returns
    -------
    SearchStrategy of Problem
        Each prints as the call that makes it again. Shrinks to ``Problem('stencil:3', dim=1)``.

    Raises
    ------
    InputError
        When drawn from: if the given choices contradict each other.
    """
    return placed_problems(**arguments).map(lambda placed: placed[0])
