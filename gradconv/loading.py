"""What is loaded when it is asked for: names of packages, and objects named on command lines."""

from __future__ import annotations

import ast
import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gradconv.errors import InputError, shortened


def lazy(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names load on first use.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping
        The module of the package that each public name is in.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute, lambda: sorted(homes)


def load(argument: str, text: str) -> Any:
    """Import an object named ``package.module:name``, from the current folder too.

    Parameters
    ----------
    argument : str
        Named in errors.
    text : str
        ``package.module:name`` or ``package.module:name(1, key="value")`` with literal arguments;
        the name may have dots. With arguments the result is a callable that still has to be called
        (with a mesh size, if it takes one).

    Raises
    ------
    InputError
        If the text has another form, or there is no such module or name.

    Examples
    --------
    >>> load("module", "math:gcd")(12, 18)
    6
    >>> load("module", "math:gcd(12, 18)")()
    6
    """
    module, colon, rest = text.partition(":")
    name, bracket, inside = rest.partition("(")
    if not (module.strip() and colon and name.strip()):
        raise InputError(f"`{argument}` must be package.module:name; got {shortened(text)}")
    found = _imported(argument, module.strip())
    for part in name.strip().split("."):
        if not hasattr(found, part):
            raise InputError(f"`{argument}` must name what {module} has; got {shortened(name)}")
        found = getattr(found, part)
    if not bracket:
        return found
    if not callable(found):
        raise InputError(f"`{argument}` takes arguments only for a callable; got {shortened(text)}")
    args, kwargs = _arguments(argument, text, inside)
    made = functools.partial(found, *args, **kwargs)
    made.__dict__["__qualname__"] = getattr(found, "__qualname__", name.strip())
    return made


def load_loss(text: str) -> Any:
    """Import a loss; "mse" is what it says.

    Raises
    ------
    InputError
        As `load`.
    """
    return text if text == "mse" else load("loss", text)


def name_of(value: Any) -> str:
    """Name of a callable, that of its type where it has none."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _imported(argument: str, module: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except Exception as error:  # what is imported may fail in any way
        raise InputError(
            f"`{argument}` must name a module that can be imported; got {module} "
            f"({type(error).__name__}: {error})"
        ) from error


def _arguments(argument: str, text: str, inside: str) -> tuple[list[Any], dict[str, Any]]:
    """Read literal arguments: nothing of the text is run."""
    try:
        call = ast.parse(f"f({inside}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError
        args = [ast.literal_eval(a) for a in call.args]
        kwargs = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg}
        if len(kwargs) < len(call.keywords):
            raise ValueError
    except (SyntaxError, ValueError):
        raise InputError(
            f"`{argument}` arguments must be literals, as in name(1, key='value'); "
            f"got {shortened(text)}"
        ) from None
    return args, kwargs
