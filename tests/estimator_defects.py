"""Planted defects: each changes one thing of a sound loop, and has a cause that must be named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as functional
from estimator_loops import (
    Loop,
    Net,
    dropout,
    injection,
    interpolate,
    norm_of_all,
    sgd,
    sum_over_all,
    sum_over_batch,
    sum_over_cells,
    tiles,
)
from torch import nn

from gradconv.audit.estimator import causes

Tensor = torch.Tensor


class ConstantBatches(Loop):
    """Three samples in every term, whatever is declared."""

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        x, y = super().draw(term)
        return x[:3], y[:3]


class ReversedBatches(Loop):
    """The declared sizes, read from the other end."""

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        return super().draw(len(self.sizes) - 1 - term)


class OtherBatches(Loop):
    """Growing, and not what was declared."""

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        x, y = super().draw(term)
        return (x[:8], y[:8]) if term == 0 else (x, y)


class RebuiltIterator(Loop):
    """Every step starts the data anew."""

    def step(self) -> Tensor | None:
        self.images = self.new_images()
        return super().step()


class FixedSeed(Loop):
    """Every step sets the seed of everything."""

    def step(self) -> Tensor | None:
        torch.manual_seed(0)
        self.images = self.seeded()
        return super().step()

    def seeded(self) -> Iterator[Tensor]:
        return self.make(self.sizes[-1], self.dim, int(torch.randint(1000, ())), self.channels)


class FixedNoise(Loop):
    """The noise has a generator of its own, seeded in every step; images go on."""

    def step(self) -> Tensor | None:
        self.generator = torch.Generator().manual_seed(3)
        return super().step()

    def noisy(self, clean: Tensor) -> Tensor:
        return clean + self.noise * torch.randn(clean.shape, generator=self.generator)


class FixedGlobalNoise(Loop):
    """The global seed is set in every step; images go on."""

    def step(self) -> Tensor | None:
        torch.manual_seed(0)
        return super().step()


class DirectRestriction(Loop):
    """Fine sides come from the finest mesh in one bilinear step, coarse ones by another half."""

    def on_level(self, x: Tensor, level: int) -> Tensor:
        scale = 0.5 ** (len(self.sizes) - 1 - level)
        return functional.interpolate(x, scale_factor=scale, mode="bilinear") if scale < 1 else x


class SharedSamples(Loop):
    """One set of samples; coarser terms take more of it."""

    def terms(self) -> Iterator[list[Tensor]]:
        clean = torch.stack(list(itertools.islice(self.images, max(self.batches))))
        self.pool = self.noisy(clean), clean
        return super().terms()

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        return tuple(v[: self.batches[term]] for v in self.pool)  # type: ignore[return-value]


class SharedImages(SharedSamples):
    """One set of images with noise of its own in each term."""

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        clean = self.pool[1][: self.batches[term]]
        return self.noisy(clean), clean


class Evaluation(Loop):
    """Evaluation mode, once switched on, stays."""

    def side(self, x: Tensor, y: Tensor) -> Tensor:
        self.module.eval()
        return super().side(x, y)


class LeftInEvaluation(Loop):
    """A look at validation data at the end of the step; nobody switches back."""

    def update(self) -> None:
        super().update()
        self.module.eval()
        with torch.no_grad():
            self.module(next(self.images)[None])


class PlusSign(Loop):
    def term(self, term: int) -> list[Tensor]:
        fine, *coarse = super().term(term)
        return [fine, *(-c for c in coarse)]


class Subtracted(Loop):
    """Gradients of both sides by torch.autograd.grad, subtracted by hand."""

    signs = (1.0, -1.0)

    def step(self) -> None:
        parameters = list(self.module.parameters())
        total = [torch.zeros_like(p) for p in parameters]
        for term in self.order():
            for k, loss in enumerate(self.term(term)):
                # `term` has the sign in the loss already: take it out, and put it in here
                plain = (-1.0) ** k * loss
                for t, g in zip(total, torch.autograd.grad(plain, parameters), strict=True):
                    t += self.signs[k] * g
        for p, t in zip(parameters, total, strict=True):
            p.grad = t
        self.update()


class AddedByHand(Subtracted):
    signs = (1.0, 1.0)


class NoGrad(Loop):
    def coarse(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return super().coarse(x, y)


class Detached(Loop):
    def coarse(self, x: Tensor, y: Tensor) -> Tensor:
        return super().coarse(x, y).detach()


class NoCoarse(Loop):
    def term(self, term: int) -> list[Tensor]:
        return [self.side(*(self.on_level(v, term) for v in self.draw(term)))]


class OtherSamples(Loop):
    """The coarse side draws for itself."""

    def term(self, term: int) -> list[Tensor]:
        fine = super().term(term)[:1]
        if term == 0:
            return fine
        return [*fine, -self.coarse(*(self.on_level(v, term) for v in self.draw(term)))]


class FreshNoise(Loop):
    """Both sides see one image, each with its own noise."""

    def term(self, term: int) -> list[Tensor]:
        _, clean = self.draw(term)
        fine, coarse = (self.noisy(clean) for _ in range(2))
        losses = [self.side(self.on_level(fine, term), self.on_level(clean, term))]
        if term > 0:
            below = [self.on_level(v, term - 1) for v in (coarse, clean)]
            losses.append(-self.side(*below))
        return losses


class DirectBothWays(Loop):
    """Every level comes from the finest mesh by a bilinear step of its own."""

    def term(self, term: int) -> list[Tensor]:
        data = self.draw(term)
        losses = [self.side(*(self.direct(v, term) for v in data))]
        if term > 0:
            losses.append(-self.side(*(self.direct(v, term - 1) for v in data)))
        return losses

    def direct(self, x: Tensor, level: int) -> Tensor:
        scale = 0.5 ** (len(self.sizes) - 1 - level)
        return functional.interpolate(x, scale_factor=scale, mode="bilinear") if scale < 1 else x


class ZeroedBetween(Loop):
    def term(self, term: int) -> list[Tensor]:
        self.module.zero_grad()
        return super().term(term)


class ThrownAway(Loop):
    """Nothing is left of the gradients after the step, and nothing used them."""

    def update(self) -> None:
        self.module.zero_grad()


class ZeroedByOptimizer(Loop):
    """zero_grad stands inside the loop over the terms."""

    def term(self, term: int) -> list[Tensor]:
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        return super().term(term)


class NeverZeroed(Loop):
    def step(self) -> Tensor | None:
        optimizer, self.optimizer = self.optimizer, None
        super().step()
        self.optimizer = optimizer
        assert optimizer is not None
        optimizer.step()
        return None


class UpdatedBetween(Loop):
    def after_term(self) -> None:
        self.update()
        self.module.zero_grad()


class UpdatedByHand(Loop):
    """p −= lr p.grad after each term."""

    def after_term(self) -> None:
        with torch.no_grad():
            for p in self.module.parameters():
                p -= 0.1 * p.grad
        self.module.zero_grad()


class NoiseByLevel(Loop):
    """Every term draws noise of the same σ on its own mesh."""

    def term(self, term: int) -> list[Tensor]:
        _, clean = self.draw(term)
        y = self.on_level(clean, term)
        x = self.noisy(y)
        return [self.side(x, y), *([-self.coarse(x, y)] if term else [])]


class MixedRestrictions(Loop):
    """Levels are averages, and the coarse side of a term is read from single cells."""

    def coarse(self, x: Tensor, y: Tensor) -> Tensor:
        return self.side(injection(x), injection(y))


class Normalised(Loop):
    """Fine inputs are divided by a size that the coarse ones are not divided by."""

    def term(self, term: int) -> list[Tensor]:
        x, y = (self.on_level(v, term) for v in self.draw(term))
        fine = self.side(x / 1.5, y / 1.5)
        return [fine, *([-self.coarse(x, y)] if term else [])]


class Randomised(Loop):
    """One random term a step, divided by its probability."""

    chances = (0.5, 0.3, 0.2)

    def order(self) -> list[int]:
        self.chosen = int(torch.multinomial(torch.tensor(self.chances), 1))
        return [self.chosen]

    def term(self, term: int) -> list[Tensor]:
        return [loss / self.chances[term] for loss in super().term(term)]


class RandomisedPlus(Randomised):
    def term(self, term: int) -> list[Tensor]:
        fine, *coarse = super().term(term)
        return [fine, *(-c for c in coarse)]


class NoCoarsest(Loop):
    def order(self) -> list[int]:
        return [term for term in super().order() if term != 0]


class NoMiddle(Loop):
    def order(self) -> list[int]:
        return [term for term in super().order() if term != 1]


class Averaged(Loop):
    def term(self, term: int) -> list[Tensor]:
        return [loss / len(self.sizes) for loss in super().term(term)]


class SampleWeighted(Loop):
    """Terms are weighted by their share of all samples."""

    def term(self, term: int) -> list[Tensor]:
        share = self.batches[term] / sum(self.batches)
        return [share * loss for loss in super().term(term)]


class HalfCoarse(Loop):
    def coarse(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * super().coarse(x, y)


class LowWork(Loop):
    """Claims the work of the fine sides only."""

    @property
    def work(self) -> float:
        finest = len(self.sizes) - 1
        return sum(b * 2.0 ** (-self.dim * (finest - i)) for i, b in enumerate(self.batches))


class SameMasks(Loop):
    """Dropout starts from one seed in every step."""

    def side(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(len(x))
            return super().side(x, y)


# name: (loop, the cause that must be named, options of the audit)
PLANTED: dict[str, tuple[Callable[..., Loop], str, dict[str, Any]]] = {
    "batch sizes constant": (ConstantBatches, causes.CONSTANT, {}),
    "batch sizes constant, none declared": (
        ConstantBatches,
        causes.CONSTANT,
        {"batch_sizes": None, "work": None},
    ),
    "batch sizes reversed": (ReversedBatches, causes.REVERSED, {}),
    "batch sizes not as declared": (OtherBatches, causes.UNDECLARED, {}),
    "iterator rebuilt": (RebuiltIterator, causes.REBUILT, {}),
    "iterator rebuilt, no noise": (partial(RebuiltIterator, noise=0.0), causes.REBUILT, {}),
    "iterator rebuilt, tiles": (
        partial(RebuiltIterator, data=tiles, noise=0.2),
        causes.REBUILT,
        {},
    ),
    "fixed seed": (FixedSeed, causes.SEED, {}),
    "fixed noise, own generator": (FixedNoise, causes.SEED, {}),
    "fixed noise, global generator": (FixedGlobalNoise, causes.SEED, {}),
    "fixed noise on tiles": (partial(FixedNoise, data=tiles, noise=0.3), causes.SEED, {}),
    "restriction not nested": (
        partial(DirectRestriction, restrict=partial(interpolate, mode="bilinear")),
        causes.ROUTES,
        {},
    ),
    "restriction not nested, on tiles": (
        partial(DirectRestriction, data=tiles, noise=0.2),
        causes.ROUTES,
        {},
    ),
    "every level by its own step": (DirectBothWays, causes.ROUTES, {}),
    "samples shared by all terms": (SharedSamples, causes.SHARED, {}),
    "samples shared, no noise": (partial(SharedSamples, noise=0.0), causes.SHARED, {}),
    "images shared by all terms": (SharedImages, causes.SHARED, {}),
    "evaluation mode": (lambda **k: Evaluation(module=dropout(), **k), causes.EVALUATION, {}),
    "evaluation mode, no layer minds": (Evaluation, causes.EVALUATION, {}),
    "left in evaluation mode": (LeftInEvaluation, causes.EVALUATION, {}),
    "coarse side added": (PlusSign, causes.SIGN, {}),
    "coarse side added, L1": (partial(PlusSign, loss=functional.l1_loss), causes.SIGN, {}),
    "coarse side added, pass by pass": (partial(PlusSign, backward="side"), causes.SIGN, {}),
    "coarse side added by hand": (AddedByHand, causes.SIGN, {}),
    "coarse side without gradients": (NoGrad, causes.DETACHED, {}),
    "coarse side detached": (Detached, causes.DETACHED, {}),
    "coarse side missing": (NoCoarse, causes.MISSING_COARSE, {}),
    "coarse side on other samples": (OtherSamples, causes.DIFFERENT, {}),
    "coarse side on other tiles": (partial(OtherSamples, data=tiles), causes.DIFFERENT, {}),
    "coarse side with other noise": (FreshNoise, causes.FRESH, {}),
    "coarse side with other noise, tiles": (
        partial(FreshNoise, data=tiles, noise=0.2),
        causes.FRESH,
        {},
    ),
    "coarse side with other noise, little of it": (
        partial(FreshNoise, noise=0.25),
        causes.FRESH,
        {},
    ),
    "loss summed over cells": (partial(Loop, loss=sum_over_cells), causes.SUM_CELLS, {}),
    "loss summed over the batch": (partial(Loop, loss=sum_over_batch), causes.SUM_BATCH, {}),
    "loss summed over both": (partial(Loop, loss=sum_over_all), causes.SUM_BOTH, {}),
    "loss summed, L1": (
        partial(Loop, loss=partial(functional.l1_loss, reduction="sum")),
        causes.SUM_BOTH,
        {},
    ),
    "norm for a mean": (partial(Loop, loss=norm_of_all), causes.NORM, {}),
    "zeroed between terms": (partial(ZeroedBetween, backward="term"), causes.ZEROED, {}),
    "zeroed at the end": (ThrownAway, causes.ZEROED, {}),
    "zeroed between terms, then a step": (
        partial(ZeroedByOptimizer, backward="term", optimizer=sgd),
        causes.ZEROED,
        {},
    ),
    "never zeroed": (partial(NeverZeroed, optimizer=sgd), causes.STALE, {}),
    "a step after each term": (
        partial(UpdatedBetween, backward="term", optimizer=sgd),
        causes.UPDATED,
        {},
    ),
    "a step by hand after each term": (partial(UpdatedByHand, backward="term"), causes.UPDATED, {}),
    "dropout masks by side": (
        lambda **k: Loop(module=dropout(), **k),
        causes.RANDOM_LAYERS,
        {},
    ),
    "dropout masks of every step alike": (
        lambda **k: SameMasks(module=dropout(), **k),
        causes.SEED,
        {},
    ),
    "batch norm": (
        lambda **k: Loop(module=Net(between=nn.BatchNorm2d(4)), **k),
        causes.BATCH_STATISTICS,
        {},
    ),
    "work claimed too small": (LowWork, causes.WORK, {}),
    "noise by level": (NoiseByLevel, causes.NOISE, {}),
    "noise by level, tiles": (partial(NoiseByLevel, data=tiles, noise=0.3), causes.NOISE, {}),
    "average and injection": (MixedRestrictions, causes.LAWS, {}),
    "batch sizes out of order": (
        partial(Loop, batches=(8, 3, 6)),
        causes.UNORDERED,
        {},
    ),
    "a mesh that is not used": (
        Loop,
        causes.UNUSED,
        {"hierarchy": (4, 8, 16, 32), "batch_sizes": None},
    ),
    "randomised level, coarse side added": (
        RandomisedPlus,
        causes.SIGN,
        {"work": None},
    ),
    "inputs scaled in one role": (Normalised, causes.SCALED, {}),
    "coarsest term missing": (NoCoarsest, causes.MISSING_COARSEST, {"batch_sizes": None}),
    "middle term missing": (NoMiddle, causes.MISSING_TERM, {"batch_sizes": None}),
    "terms averaged": (Averaged, causes.AVERAGED, {"loss": functional.mse_loss}),
    "terms weighted by their samples": (SampleWeighted, causes.SUM_BATCH, {}),
    "coarse side halved": (HalfCoarse, causes.WRONG_WEIGHT, {}),
}
