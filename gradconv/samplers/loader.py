"""Samples of the finest mesh as they come out of a data loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from gradconv.errors import InputError, shortened
from gradconv.mesh import MeshHierarchy
from gradconv.restriction import Restriction
from gradconv.samplers.base import Batch, check_finite
from gradconv.samplers.restricting import RestrictedSampler


class LoaderSampler(RestrictedSampler):
    """Pairs of the finest mesh from a `torch.utils.data.DataLoader` or another iterable.

    Samples come once: a term takes the next ones, whatever the loader's batch size. Their numbers
    may start anywhere and leave some out, but not go back. An iterable that can be started again
    is, when it ends (a new epoch); an iterator that has ended has run dry.

    Parameters
    ----------
    loader : iterable
        Yields ``(input, target)`` batches, inputs of shape ``(B, C, *finest)``.
    hierarchy : MeshHierarchy
        The levels.
    restriction : str or Restriction
        Fine → coarse map of inputs, and of targets that are fields.
    route : {"chain", "direct"}
        Steps by 2, or one step from the finest mesh.

    Raises
    ------
    InputError
        If it is no iterable.
    """

    sequential = True

    def __init__(
        self,
        loader: Iterable[Any],
        hierarchy: MeshHierarchy,
        restriction: str | Restriction = "average",
        route: str = "chain",
    ) -> None:
        if not isinstance(loader, Iterable):
            raise InputError(f"`sampler` must be iterable; got {shortened(loader)}")
        self.loader, self.hierarchy = loader, hierarchy
        self.restriction, self.route = restriction, route
        self.restricting.check(hierarchy)
        self._batches: Iterator[Any] | None = None
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._next = 0
        self._drawn = 0

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Take the next samples from the loader and restrict them."""
        places = list(numbers)
        if not places or places != list(range(max(self._next, places[0]), places[-1] + 1)):
            raise InputError(
                f"`sampler` of a data loader gives its samples once and in order; asked for "
                f"{shortened(places, 40)} where {self._next} is next"
            )
        where = f"level {max(levels)} (n={self.hierarchy.sizes[max(levels)]})"
        while len(self._held) < len(places):
            self._fetch(where)
        taken, self._held = self._held[: len(places)], self._held[len(places) :]
        self._next = places[-1] + 1
        self._drawn += len(places)
        x = torch.cat([t[0] for t in taken])
        y = torch.cat([t[1] for t in taken])
        return self.restrict_pair(x, y, levels)

    def _fetch(self, where: str) -> None:
        started = self._batches is None
        if self._batches is None:
            self._batches = iter(self.loader)
        try:
            batch = next(self._batches)
        except StopIteration:
            once = iter(self.loader) is self.loader
            if started or once:
                raise InputError(
                    f"`sampler` must have new samples for every term; on {where} the loader ran "
                    f"dry after {self._drawn + len(self._held)} samples"
                ) from None
            self._batches = None
            return
        x, y = self._checked(batch)
        self._held += list(zip(x.split(1), y.split(1), strict=True))

    def _checked(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        pair = isinstance(batch, (list, tuple)) and len(batch) == 2
        if not pair or not all(isinstance(t, torch.Tensor) for t in batch):
            raise InputError(
                f"`sampler` must yield (input, target), two tensors; got {shortened(batch)}"
            )
        x, y = batch
        if tuple(x.shape[2:]) != self.hierarchy.finest.shape or len(x) != len(y) or not len(x):
            raise InputError(
                "`sampler` inputs must have shape (B, C, "
                f"{', '.join(map(str, self.hierarchy.finest.shape))}) with as many targets; got "
                f"{tuple(x.shape)} and {tuple(y.shape)}"
            )
        check_finite(x, "sampler", "the finest mesh")
        self.check_targets(x, y, "sampler")
        return x, y

    def describe(self) -> dict[str, Any]:
        """Name the loader and the restriction."""
        return {
            "data": type(self.loader).__name__,
            "restriction": self.restricting.map.spec,
            "route": self.route,
            "setting": "coarsening",
        }
