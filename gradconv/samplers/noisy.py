"""Clean samples, a task operator and noise: drawn once on the finest mesh, or level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.mesh import MeshHierarchy
from gradconv.restriction import Restriction
from gradconv.samplers.base import Batch, Sampler, check_finite
from gradconv.samplers.descent import Descent
from gradconv.samplers.epochs import shuffled

DRAWN = ("finest", "level")
Corrupt = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class NoisySampler(Sampler):
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
        generator, and operators must be in physical units (the box has side 1).
    hierarchy : MeshHierarchy
        The levels.
    drawn : {"finest", "level"}
        Where it is applied. ``"finest"``: once on the finest mesh, and the result is restricted.
        The data of a level have one law, so that the sum over levels estimates the finest
        gradient, whatever the noise; but every sample of every term costs a draw and a restriction
        on the finest mesh. ``"level"``: on the finer mesh of each term, from where the coarse one
        is restricted. That costs a term's own cells only; the sum estimates the finest gradient
        only if restricting a level's noise gives the noise of the next one (white noise, whose
        standard deviation grows as h^{-d/2}, under averaging; independent pixels of one standard
        deviation under injection), and otherwise is biased: `diagnose` measures by how much.
    restriction : str or Restriction
        Fine → coarse map of clean samples and inputs.
    route : {"chain", "direct"}
        Steps by 2, or one step from the finest mesh.
    seed : int
        Seed of orders and noise.

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

    def __post_init__(self) -> None:
        if self.drawn not in DRAWN:
            raise unknown_name("drawn", self.drawn, DRAWN)
        if not callable(self.corrupt):
            raise InputError(f"`corrupt` must be a callable; got {shortened(self.corrupt)}")
        self.descent.check(self.hierarchy)
        object.__setattr__(self, "level_noise", self.drawn == "level")
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

    @cached_property
    def descent(self) -> Descent:
        """Restriction and route."""
        return Descent(self.restriction, self.route)

    def draw(self, numbers: Sequence[int], levels: Sequence[int]) -> list[Batch]:
        """Corrupt on the finest mesh or on the finest of `levels`, and restrict."""
        top, finest = max(levels), len(self.hierarchy) - 1
        clean = torch.stack(self._clean(numbers))
        targets = self.descent.to_levels(clean, self.hierarchy, finest, sorted({*levels, top}))
        by_level = dict(zip(sorted({*levels, top}), targets, strict=True))
        start = finest if self.drawn == "finest" else top
        source = clean if start == finest else by_level[top]
        noisy = [
            self._corrupted(u, m, start) for u, m in zip(source.split(1), numbers, strict=True)
        ]
        inputs = self.descent.to_levels(torch.cat(noisy), self.hierarchy, start, levels)
        return [(x, by_level[level]) for x, level in zip(inputs, levels, strict=True)]

    def _clean(self, numbers: Sequence[int]) -> list[torch.Tensor]:
        if isinstance(self.clean, torch.Tensor):
            return [self.clean[i] for i in shuffled(numbers, len(self.clean), self.seed)]
        found = [self.clean(m) for m in numbers]
        for u in found:
            if not isinstance(u, torch.Tensor) or tuple(u.shape[1:]) != self.hierarchy.finest.shape:
                got = tuple(u.shape) if isinstance(u, torch.Tensor) else shortened(u)
                raise InputError(
                    "`clean` must return a tensor of shape (C, "
                    f"{', '.join(map(str, self.hierarchy.finest.shape))}); got {got}"
                )
            check_finite(u, "clean", "the finest mesh")
        return found

    def _corrupted(self, clean: torch.Tensor, number: int, level: int) -> torch.Tensor:
        state = np.random.SeedSequence(self.seed, spawn_key=(number, level))
        generator = torch.Generator(device=clean.device)
        generator.manual_seed(int(state.generate_state(1, np.uint64)[0]))
        made = self.corrupt(clean, generator)
        where = f"level {level} (n={self.hierarchy.sizes[level]})"
        if not isinstance(made, torch.Tensor) or made.shape[2:] != clean.shape[2:]:
            got = tuple(made.shape) if isinstance(made, torch.Tensor) else shortened(made)
            raise InputError(
                f"`corrupt` must return a field of its argument's mesh; on {where}, given "
                f"{tuple(clean.shape)}, it returned {got}"
            )
        check_finite(made, "corrupt", where)
        return made

    def describe(self) -> dict[str, Any]:
        """Return shapes, where noise is drawn, and the restriction."""
        held = isinstance(self.clean, torch.Tensor)
        name = getattr(self.corrupt, "__qualname__", type(self.corrupt).__qualname__)
        return {
            "data": "clean samples" if held else "clean samples from a callable",
            "corrupt": name,
            "drawn": self.drawn,
            "restriction": self.descent.map.spec,
            "route": self.route,
            "setting": "coarsening" if self.drawn == "finest" else "noise drawn by level",
        }

    @property
    def grid(self) -> str:
        """The restriction's grid."""
        return self.descent.map.grid
