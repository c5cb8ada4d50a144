"""One step's gradient: passes over the samples of its terms, one mesh after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradconv.multilevel.costs.plan import Term, pass_size
from gradconv.multilevel.evaluator import split
from gradconv.nn.evaluation import Loss
from gradconv.nn.random_state import preserved_buffers
from gradconv.samplers import Sampler
from gradconv.train.engine import Engine


@dataclass(frozen=True)
class Piece:
    """Samples of one term on one of its meshes.

    Parameters
    ----------
    term : int
        Place of the term in the step.
    coarse : bool
        Whether it is the coarse mesh of a correction, whose gradient is subtracted.
    x, y : Tensor
        Input and target, shapes ``(B, C, *n)``.
    """

    term: int
    coarse: bool
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class StepData:
    """All samples of a step that this process works on: pieces by level, coarse to fine."""

    terms: tuple[Term, ...]
    pieces: dict[int, list[Piece]]


@dataclass(frozen=True)
class StepLosses:
    """What a step's passes came to.

    Parameters
    ----------
    loss : float
        Estimate of the loss on the finest mesh of the step.
    fine, coarse : tuple of float
        Mean loss of each term on its fine and on its coarse mesh; 0 where there is none.
    """

    loss: float
    fine: tuple[float, ...]
    coarse: tuple[float, ...]


def merges(module: nn.Module) -> bool:
    """Whether parts of a step on one mesh may be one pass: not if outputs depend on the batch."""
    return not any(isinstance(m, _BatchNorm) for m in module.modules())


class StepGradient:
    """Adds up the gradient of a step, E g_L = E g_0 + Σ E[g_l − g_{l−1}], in few passes.

    What a step computes on one mesh, the fine part of one term and the coarse part of the next, is
    one pass: small passes cost more a sample. With batch normalisation, whose output depends on
    the batch, each part is a pass of its own, and running statistics are those of the finest mesh.
    The numbers are those of `gradconv.multilevel.MultilevelGradient`, which takes the two gradients
    of a term in passes of their own, weighs them, and allocates samples.

    Parameters
    ----------
    module : Module
        Takes ``(B, C, *n)``.
    loss : callable
        ``loss(prediction, target) -> scalar``, a mean over the batch.
    sampler : Sampler
        The data.
    engine : Engine
        Device, precision and processes.
    microbatch : int, optional
        Samples of a pass on the finest mesh of the sampler, and as many cells on others.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        sampler: Sampler,
        engine: Engine,
        microbatch: int | None = None,
    ) -> None:
        self.module, self.loss, self.sampler, self.engine = module, loss, sampler, engine
        self.microbatch = microbatch
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.merges = merges(module)

    def draw(self, terms: Sequence[Term], first: int) -> StepData:
        """Draw this process's samples of a step, on the device.

        Parameters
        ----------
        terms : sequence of Term
            The step.
        first : int
            Number of its first sample.
        """
        pieces: dict[int, list[Piece]] = {}
        spare = 0
        for place, term in enumerate(terms):
            own = self.engine.share(term.samples, spare)
            spare += term.samples % self.engine.world
            levels = (term.level, term.level - 1) if term.corrects else (term.level,)
            numbers = range(first + own.start, first + own.stop)
            first += term.samples
            if not numbers:
                continue
            for level, (x, y) in zip(levels, self.sampler.draw(numbers, levels), strict=True):
                piece = Piece(place, level != term.level, self._placed(x), self._placed(y))
                pieces.setdefault(level, []).append(piece)
        return StepData(tuple(terms), dict(sorted(pieces.items())))

    def _placed(self, x: Tensor) -> Tensor:
        x = x.to(self.engine.dtype)
        if self.engine.device.type == "cuda":
            return x.pin_memory().to(self.engine.device, non_blocking=True)
        return x

    def add(self, draws: Iterable[StepData], count: int = 1) -> StepLosses:
        """Add a step's gradient to ``.grad``: that of all processes' samples.

        Parameters
        ----------
        draws : iterable of StepData
            Of `draw`, with the same terms; the gradient is their mean.
        count : int
            How many there are.
        """
        losses = torch.zeros(0)
        terms: tuple[Term, ...] = ()
        for data in draws:
            if not terms:
                terms = data.terms
                losses = torch.zeros(2, len(terms), dtype=torch.float64, device=self.engine.device)
            finest = max(term.level for term in terms)
            for level, pieces in data.pieces.items():
                for part in self._passes(level, pieces):
                    keep = self.merges or (level == finest and not part[0].coarse)
                    self._pass(part, terms, 1.0 / count, losses, keep)
        summed = self.engine.add_up(self.parameters, losses.reshape(-1)) / count
        fine, coarse = summed.reshape(2, -1).tolist()  # the one wait for the device a step
        return StepLosses(sum(fine) - sum(coarse), tuple(fine), tuple(coarse))

    def _passes(self, level: int, pieces: list[Piece]) -> list[list[Piece]]:
        """Group pieces of a level into passes of at most as many cells as is allowed."""
        hierarchy = self.sampler.hierarchy
        most = pass_size(self.microbatch, len(hierarchy) - 1 - level, hierarchy.dim)
        found: list[list[Piece]] = []
        room = 0
        for piece in pieces:
            for part in split(range(len(piece.x)), most):
                rows = slice(part.start, part.stop)
                cut = Piece(piece.term, piece.coarse, piece.x[rows], piece.y[rows])
                if found and self.merges and (most is None or len(part) <= room):
                    found[-1].append(cut)
                    room -= len(part)
                else:
                    found.append([cut])
                    room = (most or 0) - len(part)
        return found

    def _pass(
        self,
        pieces: list[Piece],
        terms: tuple[Term, ...],
        factor: float,
        losses: Tensor,
        keep: bool,
    ) -> None:
        with nullcontext() if keep else preserved_buffers(self.module):
            with self.engine.autocast():
                x = pieces[0].x if len(pieces) == 1 else torch.cat([p.x for p in pieces])
                made = self.module(x).to(self.engine.dtype)
            total: Any = 0.0
            parts = made.split([len(p.x) for p in pieces])
            for piece, prediction in zip(pieces, parts, strict=True):
                value = self.loss(prediction, piece.y)
                share = len(piece.x) / terms[piece.term].samples
                total = total + (-share if piece.coarse else share) * factor * value
                losses[int(piece.coarse), piece.term] += share * value.detach()
            total.backward()


class Ahead:
    """Draws the samples of the next step while the gradient of this one is computed.

    Parameters
    ----------
    gradient : StepGradient
        Draws.
    active : bool
        If False, samples are drawn when they are asked for.
    """

    def __init__(self, gradient: StepGradient, active: bool) -> None:
        self.gradient = gradient
        self._pool = ThreadPoolExecutor(1, "gradconv-samples") if active else None
        self._waiting: tuple[tuple[Term, ...], int, Future[StepData]] | None = None

    def take(
        self, terms: tuple[Term, ...], first: int, then: tuple[tuple[Term, ...], int] | None
    ) -> StepData:
        """Samples of a step; those of step `then` are begun."""
        if self._pool is None:
            return self.gradient.draw(terms, first)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting[:2] == (terms, first):
            data = waiting[2].result()
        else:  # the first step, or the next one turned out to be another
            data = self.gradient.draw(terms, first)
        if then is not None:
            self._waiting = (*then, self._pool.submit(self.gradient.draw, *then))
        return data

    def close(self) -> None:
        """Wait for what is being drawn."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
