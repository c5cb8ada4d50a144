"""Code that repeats a failed assertion outside its test: numbers written out or kept in a file."""

from __future__ import annotations

import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradconv.testing.session import current_test

_INLINE = 64  # numbers that are still read in a message; more go to a file
_LARGEST = 2**26  # bytes of an array or module that is kept


class _Writer:
    """Turns arguments into text, and collects the imports and files that the text needs."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.imports: set[str] = set()
        self.folders: set[str] = set()
        self.arrays: dict[str, np.ndarray] = {}
        self.notes: list[str] = []

    def text(self, name: str, value: Any) -> str:
        """Write a value as an expression."""
        if value is None or isinstance(value, bool | int | str):
            return repr(value)
        if isinstance(value, float):
            return repr(float(value)) if math.isfinite(value) else f'float("{value}")'
        if isinstance(value, complex):
            return repr(complex(value))
        if isinstance(value, np.generic):
            return self.text(name, value.item())
        if isinstance(value, tuple | list):
            return self._sequence(name, value)
        if isinstance(value, dict):
            parts = [f"{k!r}: {self.text(f'{name}_{k}', v)}" for k, v in value.items()]
            return "{" + ", ".join(parts) + "}"
        if isinstance(value, np.ndarray):
            return self._array(name, value)
        return self._object(name, value)

    def _sequence(self, name: str, value: tuple[Any, ...] | list[Any]) -> str:
        leaves = list(_leaves(value))
        if len(leaves) > _INLINE and all(isinstance(leaf, int | float) for leaf in leaves):
            return self._array(name, np.asarray(value))
        parts = [self.text(f"{name}_{i}", v) for i, v in enumerate(value)]
        body = ", ".join(parts)
        if isinstance(value, list):
            return f"[{body}]"
        return f"({body},)" if len(parts) == 1 else f"({body})"

    def _array(self, name: str, value: np.ndarray) -> str:
        plain = value.dtype in (float, complex, int) and 0 < value.size <= _INLINE
        if plain and np.isfinite(value).all():
            return repr(value.tolist())
        if value.nbytes > _LARGEST:
            return self._missing(name, value, "is too large to keep")
        self.arrays[name] = value
        return f"stored[{name!r}]"

    def _object(self, name: str, value: Any) -> str:
        torch: Any = sys.modules.get("torch")
        if torch is not None:
            if isinstance(value, torch.dtype | torch.device):
                self.imports.add("import torch")
                return str(value) if isinstance(value, torch.dtype) else f"torch.{value!r}"
            if isinstance(value, torch.nn.Module | torch.Tensor):
                return self._saved(name, value, torch)
        if isinstance(value, np.dtype) or (
            isinstance(value, type) and issubclass(value, np.generic)
        ):
            return repr(np.dtype(value).name)
        ufunc = str(getattr(value, "__name__", "")) if isinstance(value, np.ufunc) else ""
        if ufunc and getattr(np, ufunc, None) is value:
            self.imports.add("import numpy as np")
            return f"np.{ufunc}"
        if isinstance(value, type) or inspect.isfunction(value) or inspect.isbuiltin(value):
            return self._imported(name, value)
        if is_dataclass(value) and self._reachable(type(value)):
            parts = (
                f"{f.name}={self.text(f'{name}_{f.name}', getattr(value, f.name))}"
                for f in fields(value)
                if f.init
            )
            return f"{self._imported(name, type(value))}({', '.join(parts)})"
        return self._missing(name, value)

    def _saved(self, name: str, value: Any, torch: Any) -> str:
        self.imports.add("import torch")
        module = isinstance(value, torch.nn.Module)
        parts = list(value.state_dict().values()) if module else [value]
        size = sum(t.numel() * t.element_size() for t in parts if isinstance(t, torch.Tensor))
        path = self.stem.with_name(f"{self.stem.name}-{name}.pt")
        if size > _LARGEST:
            return self._missing(name, value, "is too large to keep")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.save(value, path)
        except Exception:  # classes and hooks that pickle cannot name
            path.unlink(missing_ok=True)
            return self._missing(name, value)
        if module:
            for part in value.modules():
                self._reach(type(part))
        return f"torch.load({str(path)!r}, weights_only=False)"

    def _imported(self, name: str, value: Any) -> str:
        if not self._reachable(value):
            return self._missing(name, value)
        self._reach(value)
        self.imports.add(f"from {value.__module__} import {value.__qualname__.split('.')[0]}")
        return str(value.__qualname__)

    def _reachable(self, value: Any) -> bool:
        """Whether an import finds the object by its name."""
        home = sys.modules.get(getattr(value, "__module__", None) or "")
        found: Any = home
        for part in getattr(value, "__qualname__", "<none>").split("."):
            found = getattr(found, part, None)
        return home is not None and value.__module__ != "__main__" and found is value

    def _reach(self, value: Any) -> None:
        """Note the folder from which the object's module is imported, if it is not installed."""
        package = value.__module__.partition(".")[0]
        file = getattr(sys.modules.get(package), "__file__", None)
        if file is None or package in ("builtins", "torch", "numpy", "gradconv"):
            return
        folder = Path(file).parent
        folder = folder.parent if Path(file).name == "__init__.py" else folder
        if "site-packages" not in folder.parts and Path(os.__file__).parent != folder:
            self.folders.add(str(folder))

    def _missing(self, name: str, value: Any, why: str = "cannot be imported by name") -> str:
        what = getattr(value, "__qualname__", type(value).__qualname__)
        where = ""
        try:
            _, line = inspect.getsourcelines(value)
            where = f" of {inspect.getsourcefile(value)}:{line}"
        except (OSError, TypeError):
            pass
        self.notes.append(f"# {name}: put in {what}{where}, which {why}.")
        return "..."


def _leaves(value: Any) -> Iterator[Any]:
    for part in value if isinstance(value, tuple | list) else ():
        yield from _leaves(part) if isinstance(part, tuple | list) else (part,)


def snippet(check: Callable[..., Any], arguments: Mapping[str, Any], stem: Path) -> str:
    """Write the call of `check` as code that runs by itself.

    Arguments that equal their default are left out; large arrays and modules are kept in files
    beside the figure. What has no importable name is named in a comment, with the command that
    runs the test again.

    Parameters
    ----------
    check : callable
        The assertion, found in ``gradconv.testing``.
    arguments : mapping of str to object
        Its arguments by name.
    stem : pathlib.Path
        Path without suffix of the files.

    Returns
    -------
    str
        Lines of Python.
    """
    writer = _Writer(stem)
    parts = []
    for name, parameter in inspect.signature(check).parameters.items():
        if name not in arguments:
            continue
        value = arguments[name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            parts += [f"{k}={writer.text(k, v)}" for k, v in value.items()]
            continue
        default = parameter.default
        if value is default or (isinstance(value, bool | int | float | str) and value == default):
            continue
        keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY or default is not parameter.empty
        parts.append(f"{name}={writer.text(name, value)}" if keyword else writer.text(name, value))
    head = []
    if writer.folders:
        head += ["import sys", f"sys.path[:0] = {sorted(writer.folders)!r}"]
    if writer.arrays:
        writer.imports.add("import numpy as np")
    name = check.__name__
    head += [*sorted(writer.imports), f"from gradconv.testing import {name}", ""]
    if writer.arrays:
        path = stem.with_name(stem.name + ".npz")
        try:
            np.savez_compressed(path, **writer.arrays)  # type: ignore[arg-type]
            head += [f"with np.load({str(path)!r}) as file:", "    stored = dict(file)"]
        except OSError as error:
            writer.notes.append(f"# the arrays could not be written: {error}")
    test = current_test()
    if writer.notes and test:
        writer.notes.append(f"# Or run the test again: pytest {test!r}")
    call = f"{name}({', '.join(parts)})"
    if len(call) > 90:
        call = f"{name}(\n    " + ",\n    ".join(parts) + ",\n)"
    return "\n".join([*head, *writer.notes, call])
