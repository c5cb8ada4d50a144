"""Clean samples, a task operator and noise: drawn once on the finest mesh, or level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.loading import name_of
from gradconv.mesh import MeshHierarchy
from gradconv.restriction import Restriction
from gradconv.samplers.base import Batch, check_finite
from gradconv.samplers.epochs import shuffled
from gradconv.samplers.restricting import RestrictedSampler
from gradconv.samplers.streams import stream_seed

DRAWN = ("finest", "level", "law")
Corrupt = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Restricted = Callable[[Restriction, int, int], Corrupt | None]

# Cells that are corrupted and restricted at a time: their fields stay in the cache.
BLOCK = 2**18


@dataclass(frozen=True)
class NoisySampler(RestrictedSampler):
    """Pairs (corrupted, clean) for denoising, deblurring and the like.

    Parameters
    ----------
    clean : Tensor or callable
        Clean samples on the finest mesh, shape ``(N, C, *finest)``, gone through in a new order
        each epoch; or ``clean(number) -> Tensor`` of shape ``(C, *finest)``, one a number, which
        must repeat itself.
    corrupt : callable
        ``corrupt(clean, generator) -> input``: the task operator and the noise on whichever mesh
        it is given, one sample of shape ``(1, C, *n)``; all random numbers must come from the
        generator, and operators must be in physical units (the box has side 1). The input's mesh
        is the sample's, or coarser by one whole factor, the same on every mesh
        (super-resolution); it must divide the cells of the coarsest level.
    hierarchy : MeshHierarchy
        The levels.
    drawn : {"finest", "level", "law"}
        Where it is applied. ``"finest"``: once on the finest mesh, and the result is restricted.
        The data of a level have one law, so that the sum over levels estimates the finest
        gradient, whatever the noise; but every sample of every term costs a draw and a restriction
        on the finest mesh. ``"level"``: on the finer mesh of each term, from where the coarse one
        is restricted. That costs a term's own cells only; the sum estimates the finest gradient
        only if restricting a level's noise gives the noise of the next one (white noise, whose
        standard deviation grows as h^{-d/2}, under averaging; independent pixels of one standard
        deviation under injection), and otherwise is biased: `diagnose` measures by how much.
        ``"law"``: the data of a level have the law of ``"finest"`` at the cost of ``"level"``, if
        `restricted` knows how; else it is ``"finest"``.
    restriction : str or Restriction
        Fine → coarse map of clean samples and inputs.
    route : {"chain", "direct"}
        Steps by 2, or one step from the finest mesh.
    seed : int
        Seed of orders and noise.
    restricted : callable, optional
        ``restricted(restriction, ratio, dim)``, for ``"law"``: a corruption which makes, of a
        restricted clean sample, what has the law of the restriction by `ratio` of a corrupted one;
        None if there is none. White noise has one: under averaging its standard deviation falls
        by ratio^{−d/2}.

    Raises
    ------
    InputError
        If an argument breaks a rule above.
    """

    clean: torch.Tensor | Callable[[int], torch.Tensor]
    corrupt: Corrupt
    hierarchy: MeshHierarchy
    drawn: str = "finest"
    restriction: str | Restriction = "average"
    route: str = "chain"
    seed: int = 0
    restricted: Restricted | None = None

    def __post_init__(self) -> None:
        if self.drawn not in DRAWN:
            raise unknown_name("drawn", self.drawn, DRAWN)
        if not callable(self.corrupt):
            raise InputError(f"`corrupt` must be a callable; got {shortened(self.corrupt)}")
        self.restricting.check(self.hierarchy)
        if self.restricted is not None and not callable(self.restricted):
            raise InputError(
                f"`restricted` must be a callable or None; got {shortened(self.restricted)}"
            )
        by_law = self.drawn == "law" and self._coarser(2) is not None
        object.__setattr__(self, "level_noise", self.drawn == "level" or by_law)
        if isinstance(self.clean, torch.Tensor):
            shape, finest = tuple(self.clean.shape), self.hierarchy.finest
            if len(shape) != finest.dim + 2 or shape[2:] != finest.shape or not shape[0]:
                raise InputError(
                    f"`clean` must have shape (N, C, {', '.join(map(str, finest.shape))}) with at "
                    f"least one sample; got {shape}"
                )
            check_finite(self.clean, "clean", "the finest mesh")
        elif not callable(self.clean):
            raise InputError(f"`clean` must be a tensor or a callable; got {shortened(self.clean)}")

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Corrupt on the finest mesh or on the finest of `levels`, and restrict."""
        size = max(1, BLOCK // self.hierarchy.finest.size)
        starts = range(0, max(len(numbers), 1), size)
        blocks = [self._block(numbers[start : start + size], levels) for start in starts]
        if len(blocks) == 1:
            return blocks[0]
        return [
            (torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs]))
            for pairs in zip(*blocks, strict=True)
        ]

    def _block(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        top, finest = max(levels), len(self.hierarchy) - 1
        clean = self._clean(numbers)
        by_level = dict(zip(levels, self.to_levels(clean, levels), strict=True))
        start = top if self.level_noise else finest
        source = clean if start == finest else by_level[top]
        corrupt = self.corrupt
        if self.drawn == "law" and start < finest:
            corrupt = self._coarser(2 ** (finest - start)) or corrupt
        noisy = self._corrupted(source, numbers, start, corrupt)
        inputs = self.restricting.to_levels(noisy, self.hierarchy, start, levels)
        return [(x, by_level[level]) for x, level in zip(inputs, levels, strict=True)]

    def _coarser(self, ratio: int) -> Corrupt | None:
        """Corruption of samples that were restricted by a ratio, in law."""
        if self.restricted is None:
            return None
        return self.restricted(self.restricting.map, ratio, self.hierarchy.dim)

    def _clean(self, numbers: Sequence[int]) -> torch.Tensor:
        if isinstance(self.clean, torch.Tensor):
            return self.clean[shuffled(numbers, len(self.clean), self.seed)]
        found = [self.clean(m) for m in numbers]
        shape = self.hierarchy.finest.shape
        for u in found:
            if not isinstance(u, torch.Tensor) or u.shape[1:] != shape:
                got = tuple(u.shape) if isinstance(u, torch.Tensor) else shortened(u)
                raise InputError(
                    f"`clean` must return a tensor of shape (C, {', '.join(map(str, shape))}); "
                    f"got {got}"
                )
        clean = torch.stack(found)
        _check_finite(clean, "clean", "the finest mesh")
        return clean

    def _corrupted(
        self, clean: torch.Tensor, numbers: Sequence[int], level: int, corrupt: Corrupt
    ) -> torch.Tensor:  # shape: (B, C, *(n / factor))
        where = f"level {level} (n={self.hierarchy.sizes[level]})"
        generator = torch.Generator(device=clean.device)
        made = []
        for u, number in zip(clean.split(1), numbers, strict=True):
            generator.manual_seed(stream_seed(self.seed, number, level))
            made.append(corrupt(u, generator))
        self._check_meshes(made, clean, where)
        noisy = torch.cat(made)
        _check_finite(noisy, "corrupt", where)
        return noisy

    def _check_meshes(self, made: list[Any], clean: torch.Tensor, where: str) -> None:
        """Refuse what is not on the samples' mesh, or on one coarser by the factor seen before."""
        n, coarsest = clean.shape[2], self.hierarchy.sizes[0]
        given, first, before = (1, *clean.shape[1:]), made[0], self.__dict__.get("_factor")
        cells = first.shape[2] if isinstance(first, torch.Tensor) and first.ndim > 2 else n
        factor = max(n // max(cells, 1), 1) if before is None else before
        mesh = (1, *(m // factor for m in given[2:]))
        for field in made:
            shape = tuple(field.shape) if isinstance(field, torch.Tensor) else ()
            if (*shape[:1], *shape[2:]) != mesh or n % factor or coarsest % factor:
                seen = "" if before is None else f", {before} as before,"
                raise InputError(
                    "`corrupt` must return a field of its argument's mesh, or of one coarser by a "
                    f"whole factor{seen} that divides the {coarsest} cells of level 0; on {where}, "
                    f"given {given}, it returned {shape or shortened(field)}"
                )
        self.__dict__["_factor"] = factor

    def describe(self) -> dict[str, Any]:
        """Return shapes, where noise is drawn, and the restriction."""
        held = isinstance(self.clean, torch.Tensor)
        name = name_of(self.corrupt)
        return {
            "data": "clean samples" if held else "clean samples from a callable",
            "corrupt": name,
            "drawn": self.drawn,
            "restriction": self.restricting.map.spec,
            "route": self.route,
            "setting": "noise drawn by level" if self.drawn == "level" else "coarsening",
        }


def _check_finite(x: torch.Tensor, what: str, where: str) -> None:
    """Refuse NaN and infinity: a finite sum has none, and takes one pass instead of several."""
    if not bool(torch.isfinite(x.sum())):
        check_finite(x, what, where)
