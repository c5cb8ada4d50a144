"""Gaps of a few sample paths under an intervention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from gradconv.audit.effects import Effect, compare
from gradconv.audit.subject import Subject
from gradconv.errors import InputError
from gradconv.nn.evaluation import ROOT
from gradconv.samplers import Sampler

if TYPE_CHECKING:
    from gradconv.audit.measure import Tick

PATHS = 8
WINDOW = 3  # finest pairs whose slope is compared


class Acting(Protocol):
    """Something that changes what a module does while it runs."""

    def acting(self, subject: Subject, level: int, path: int) -> AbstractContextManager[Any]:
        """Act on a level of a path."""


@dataclass(frozen=True)
class Gaps:
    """Squared gaps of each parameter tensor on a few paths.

    Parameters
    ----------
    squares : dict
        By parameter name, |gap|² of each path, shape ``(paths, levels − 1)``.
    h : ndarray
        Finer mesh size of each pair.
    """

    squares: dict[str, np.ndarray]
    h: np.ndarray

    def effect(self, changed: Gaps, names: list[str], confidence: float) -> Effect:
        """Compare some tensors together with what they are under an intervention."""
        before, after = (
            np.asarray(sum(gaps.squares[name] for name in names))[:, -WINDOW:]
            for gaps in (self, changed)
        )
        return compare(before, after, self.h[-WINDOW:], confidence)


def gaps(
    subject: Subject, data: Sampler, paths: int, step: Tick, intervention: Acting
) -> Gaps | None:
    """Measure the gaps of the first paths under an intervention.

    Returns
    -------
    Gaps or None
        None if the module does not run under the intervention.
    """
    levels = len(subject.modules)
    names = list(subject.parameters)
    squares = {name: np.zeros((paths, levels - 1)) for name in names}
    order = range(levels - 1, -1, -1)  # the finest first: its statistics are held on the others
    for path in range(paths):
        pairs = data.path(path)
        gradients: dict[int, dict[str, torch.Tensor]] = {}
        try:
            for level in order:
                with intervention.acting(subject, level, path):
                    gradients[level] = subject.gradient(level, *pairs[level], path)
                if level + 1 in gradients:
                    fine = gradients.pop(level + 1)
                    for name in names:
                        gap = (fine[name] - gradients[level][name]).double()
                        squares[name][path, level] = float(torch.sum(gap**2))
        except InputError:
            return None
        step()
    return Gaps(squares, np.array([mesh.h for mesh in subject.meshes[1:]]))


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
            if not isinstance(x, torch.Tensor) or x.ndim != dim + 2 or not x.is_floating_point():
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
    spectrum = torch.fft.rfftn(x, dim=axes)
    for axis, kept in zip(axes, cells, strict=True):
        j = torch.arange(spectrum.shape[axis], device=x.device)
        j = torch.minimum(j, x.shape[axis] - j)  # |j| of a whole axis, and of the half one
        spectrum = spectrum * (2 * j < kept).reshape((-1, *(1,) * (x.ndim - axis - 1)))
    return torch.fft.irfftn(spectrum, s=x.shape[2:], dim=axes)
