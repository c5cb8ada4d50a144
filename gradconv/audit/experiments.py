"""Gaps of a few sample paths, as they are or under an intervention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from gradconv.audit.data import Data
from gradconv.audit.measure import Step
from gradconv.audit.subject import ROOT, Subject
from gradconv.errors import InputError

PATHS = 4
WINDOW = 3  # finest pairs whose slope is compared


class Acting(Protocol):
    """Something that changes what a module does while it runs."""

    def acting(self, subject: Subject, level: int, path: int) -> AbstractContextManager[Any]:
        """Act on a level of a path."""


@dataclass(frozen=True)
class Gaps:
    """Rms gaps of each parameter tensor over a few paths.

    Parameters
    ----------
    squares : dict
        By parameter name, mean over paths of |gap|², shape ``(levels − 1,)``.
    h : ndarray
        Finer mesh size of each pair.
    """

    squares: dict[str, np.ndarray]
    h: np.ndarray

    def rms(self, names: list[str]) -> np.ndarray:
        """Rms gap of some tensors together, shape ``(levels − 1,)``."""
        return np.asarray(np.sqrt(sum(self.squares[name] for name in names)))

    def order(self, names: list[str]) -> float:
        """Slope over the finest pairs, without an interval: for comparisons on the same paths."""
        values = self.rms(names)[-WINDOW:]
        if np.any(values <= 0):
            return np.inf
        return float(np.polyfit(np.log(self.h[-WINDOW:]), np.log(values), 1)[0])


def gaps(
    subject: Subject, data: Data, paths: int, step: Step, intervention: Acting | None = None
) -> Gaps | None:
    """Measure rms gaps over the first paths, under an intervention if one is given.

    Returns
    -------
    Gaps or None
        None if the module does not run under the intervention.
    """
    levels = len(subject.modules)
    names = list(subject.parameters)
    totals = {name: np.zeros(levels - 1) for name in names}
    order = range(levels - 1, -1, -1)  # the finest first: its statistics are held on the others
    for path in range(paths):
        pairs = data.path(path)
        gradients: dict[int, dict[str, torch.Tensor]] = {}
        try:
            for level in order:
                acting = intervention.acting(subject, level, path) if intervention else ExitStack()
                with acting:
                    gradients[level] = subject.gradient(level, *pairs[level], path)
                if level + 1 in gradients:
                    fine = gradients.pop(level + 1)
                    for name in names:
                        gap = (fine[name] - gradients[level][name]).double()
                        totals[name][level] += float(torch.sum(gap**2))
        except InputError:
            if intervention is None:
                raise
            return None
        step()
    h = np.array([mesh.h for mesh in subject.meshes[1:]])
    return Gaps({name: total / paths for name, total in totals.items()}, h)


class BandLimit:
    """The module, and layers in it, see only what the coarsest mesh resolves of their inputs.

    Parameters
    ----------
    layers : set of str
        Which layers.
    coarsest : int
        Cells an axis of the coarsest mesh.
    """

    words = "with inputs filtered to what the coarsest mesh resolves"

    def __init__(self, layers: set[str], coarsest: int) -> None:
        self.layers, self.coarsest = layers | {ROOT}, coarsest

    @contextmanager
    def acting(self, subject: Subject, level: int, path: int) -> Iterator[None]:
        """Filter the inputs while the module runs."""
        n, dim = subject.meshes[level].n, subject.meshes[level].dim

        def limit(module: torch.nn.Module, args: tuple[Any, ...]) -> Any:
            x = args[0] if args else None
            if not isinstance(x, torch.Tensor) or x.ndim != dim + 2:
                return None
            # a layer behind a stride sees a mesh coarser by the same factor on every level
            cells = [max(2, self.coarsest * m // n) for m in x.shape[2:]]
            return (_low_pass(x, cells), *args[1:])

        with ExitStack() as stack:
            for name, module in subject.modules[level].named_modules():
                if (name or ROOT) in self.layers:
                    stack.callback(module.register_forward_pre_hook(limit).remove)
            yield


def _low_pass(x: torch.Tensor, cells: list[int]) -> torch.Tensor:
    """Keep |j| < cells/2 along each axis."""
    axes = tuple(range(2, x.ndim))
    spectrum = torch.fft.fftn(x, dim=axes)
    for axis, kept in zip(axes, cells, strict=True):
        j = torch.fft.fftfreq(x.shape[axis], 1.0 / x.shape[axis], device=x.device)
        keep = (2 * j.round().abs() < kept).reshape((-1, *(1,) * (x.ndim - axis - 1)))
        spectrum = spectrum * keep
    return torch.fft.ifftn(spectrum, dim=axes).real.to(x.dtype)
