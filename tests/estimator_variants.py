"""Sound variants of a multilevel loop, on which the audit must raise no alarm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as functional
from estimator_defects import NoiseByLevel, Randomised, Subtracted
from estimator_loops import (
    Buffered,
    Loop,
    Net,
    Wrapped,
    adam,
    average,
    charbonnier,
    dropout,
    fields,
    full_weighting,
    half_square,
    in_order,
    injection,
    interpolate,
    mesh_free,
    relative,
    sgd,
    shuffled,
    spectral,
    tiles,
)
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Tensor = torch.Tensor


class Weighted(Loop):
    """Control-variate weights: term l is (g_l − θ_l g_{l−1}) Π_{m>l} θ_m."""

    thetas = (0.0, 0.8, 0.9)

    def term(self, term: int) -> list[Tensor]:
        losses = super().term(term)
        factor = 1.0
        for theta in self.thetas[term + 1 :]:
            factor *= theta
        return [factor * losses[0], *(factor * self.thetas[term] * v for v in losses[1:])]


class Microbatches(Loop):
    """Each side in pieces of three samples."""

    def side(self, x: Tensor, y: Tensor) -> Tensor:
        pieces = zip(x.split(3), y.split(3), strict=True)
        return sum(len(p) / len(x) * super(Microbatches, self).side(p, q) for p, q in pieces)


class FineSidesFirst(Loop):
    """All fine sides, then all coarse ones."""

    def terms(self) -> Iterator[list[Tensor]]:
        drawn = {t: [self.on_level(v, t) for v in self.draw(t)] for t in self.order()}
        for data in drawn.values():
            yield [self.side(*data)]
        for term, data in drawn.items():
            if term:
                yield [-self.coarse(*data)]


class CoarseFirst(Loop):
    """The coarse side of a term before its fine side."""

    def term(self, term: int) -> list[Tensor]:
        data = [self.on_level(v, term) for v in self.draw(term)]
        first = [-self.coarse(*data)] if term else []
        return [*first, self.side(*data)]


class Antithetic(Loop):
    """Every image twice, with noise of either sign."""

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        count = self.batches[term] // 2
        clean = torch.stack(list(itertools.islice(self.images, count)))
        noise = self.noise * torch.randn(clean.shape)
        return torch.cat([clean + noise, clean - noise]), torch.cat([clean, clean])


class Clipped(Loop):
    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.module.parameters(), 0.01)
        super().update()


class ClippedByValue(Loop):
    def update(self) -> None:
        nn.utils.clip_grad_value_(self.module.parameters(), 0.01)
        super().update()


class ByHand(Loop):
    """p −= lr p.grad at the end of the step."""

    def update(self) -> None:
        with torch.no_grad():
            for p in self.module.parameters():
                p -= 0.1 * p.grad
        self.module.zero_grad()


class Watched(Loop):
    """Looks at validation data in evaluation mode, and switches back."""

    def update(self) -> None:
        super().update()
        self.module.eval()
        with torch.no_grad():
            self.module(next(self.images)[None])
        self.module.train()


class SharedMasks(Loop):
    """Both sides of a term drop the same channels; every term and step drops others."""

    def term(self, term: int) -> list[Tensor]:
        self.mask = int(torch.randint(2**31, ()))
        return super().term(term)

    def side(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(self.mask)
            return super().side(x, y)


class OwnSets(Loop):
    """A shuffled loader of its own for each term, over one data set."""

    def new_images(self) -> Iterator[Tensor]:
        stack = torch.stack(list(itertools.islice(tiles(self.sizes[-1], 2, 0), 40)))
        self.loaders = []
        for term, count in enumerate(self.batches):
            generator = torch.Generator().manual_seed(self.seed + 100 * term)
            loader = DataLoader(
                TensorDataset(stack), count, shuffle=True, drop_last=True, generator=generator
            )
            self.loaders.append(self.endless(loader))
        return iter(())

    def endless(self, loader: DataLoader[Any]) -> Iterator[Tensor]:
        while True:
            for (x,) in loader:
                yield x

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        clean = next(self.loaders[term])
        return self.noisy(clean), clean


class SampledOnEachMesh(Loop):
    """Images are read on each mesh, their noise is averaged: one path, and no restriction."""

    def term(self, term: int) -> list[Tensor]:
        noisy, clean = self.draw(term)
        noise = noisy - clean
        losses = []
        for level in range(term, max(term - 2, -1), -1):
            u, e = clean, noise
            for _ in range(len(self.sizes) - 1 - level):
                u, e = injection(u), average(e)
            losses.append((-1.0) ** (term - level) * self.side(u + e, u))
        return losses


class Blurred(Loop):
    """Deblurring: the input is a blurred image with noise."""

    def noisy(self, clean: Tensor) -> Tensor:
        blurred = clean
        for axis in range(2, clean.ndim):
            blurred = (torch.roll(blurred, 1, axis) + blurred + torch.roll(blurred, -1, axis)) / 3
        return super().noisy(blurred)


class NoiseLevels(Loop):
    """Every sample has a noise level of its own, as in diffusion."""

    def noisy(self, clean: Tensor) -> Tensor:
        share = torch.rand(len(clean), *(1,) * (clean.ndim - 1))
        return (1.0 - share).sqrt() * clean + share.sqrt() * torch.randn(clean.shape)


class SaltAndPepper(Loop):
    def noisy(self, clean: Tensor) -> Tensor:
        draws = torch.rand(clean.shape)
        return torch.where(draws < 0.05, -2.0, torch.where(draws > 0.95, 2.0, clean))


class Coordinates(Loop):
    """A channel of coordinates beside the image."""

    def side(self, x: Tensor, y: Tensor) -> Tensor:
        n = x.shape[-1]
        grid = ((torch.arange(n) + 0.5) / n).expand(len(x), 1, *x.shape[2:])
        return self.loss(self.module(torch.cat([x, grid], 1))[:, :1], y)


class ByLevel(Loop):
    """Noise drawn by level with the variance that averaging would leave."""

    def term(self, term: int) -> list[Tensor]:
        _, clean = self.draw(term)
        y = self.on_level(clean, term)
        scale = 2.0 ** (-self.dim / 2 * (len(self.sizes) - 1 - term))
        x = y + self.noise * scale * torch.randn(y.shape)
        return [self.side(x, y), *([-self.coarse(x, y)] if term else [])]


class Named(Loop):
    """Calls the module by keyword and takes its prediction out of what it returns."""

    def side(self, x: Tensor, y: Tensor) -> Tensor:
        made = self.module(x=x)
        return self.loss(made["prediction"] if isinstance(made, dict) else made[0], y)


def smooth_l1(p: Tensor, y: Tensor) -> Tensor:
    return functional.smooth_l1_loss(p, y, beta=0.1)


def by_channel(p: Tensor, y: Tensor) -> Tensor:
    return (p - y).square().flatten(2).mean(2).sum(1).mean()


LINE: dict[str, Any] = {"dim": 1, "sizes": (16, 32, 64), "batches": (16, 8, 4)}
SOUND: dict[str, Callable[..., Loop]] = {
    "average": Loop,
    "injection": partial(Loop, restrict=injection),
    "full weighting": partial(Loop, restrict=full_weighting),
    "spectral": partial(Loop, restrict=spectral),
    "bilinear": partial(Loop, restrict=partial(interpolate, mode="bilinear")),
    "bicubic": partial(Loop, restrict=partial(interpolate, mode="bicubic")),
    "bilinear, antialiased": partial(
        Loop, restrict=partial(interpolate, mode="bilinear", antialias=True)
    ),
    "nearest": partial(Loop, restrict=partial(interpolate, mode="nearest")),
    "corners": partial(
        Loop,
        restrict=partial(interpolate, mode="bilinear", align_corners=True),
        sizes=(8, 16),
        batches=(8, 3),
    ),
    "1-D": partial(Loop, **LINE),
    "1-D, injection": partial(Loop, **LINE, restrict=injection),
    "1-D, full weighting": partial(Loop, **LINE, restrict=full_weighting),
    "1-D, spectral": partial(Loop, **LINE, restrict=spectral),
    "1-D, linear": partial(Loop, **LINE, restrict=partial(interpolate, mode="linear")),
    "1-D, five levels": partial(Loop, dim=1, sizes=(8, 16, 32, 64, 128), batches=(32, 16, 8, 4, 2)),
    "3-D": partial(Loop, dim=3, sizes=(4, 8), batches=(6, 2)),
    "two levels": partial(Loop, sizes=(16, 32), batches=(8, 4)),
    "four levels": partial(Loop, sizes=(8, 16, 32, 64), batches=(16, 8, 4, 2)),
    "few samples": partial(Loop, batches=(3, 2, 1)),
    "many samples": partial(Loop, batches=(48, 24, 12)),
    "no noise": partial(Loop, noise=0.0),
    "much noise": partial(Loop, noise=5.0),
    "little noise": partial(Loop, noise=0.02),
    "no noise, injection": partial(Loop, noise=0.0, restrict=injection),
    "much noise, injection": partial(Loop, noise=5.0, restrict=injection),
    "tiles": partial(Loop, data=tiles, noise=0.1),
    "tiles, no noise": partial(Loop, data=tiles, noise=0.0),
    "tiles, injection": partial(Loop, data=tiles, noise=0.1, restrict=injection),
    "tiles in 1-D": partial(Loop, **LINE, data=tiles, noise=0.1),
    "a shuffled loader": partial(Loop, data=shuffled, noise=0.1),
    "a shuffled loader, no noise": partial(Loop, data=shuffled, noise=0.0),
    "a loader in order": partial(Loop, data=in_order),
    "loaders by term": partial(OwnSets, noise=0.1),
    "loaders by term, no noise": partial(OwnSets, noise=0.0),
    "noise levels of diffusion": NoiseLevels,
    "salt and pepper": SaltAndPepper,
    "deblurring": Blurred,
    "one path, no restriction": partial(SampledOnEachMesh, data=partial(fields, modes=3)),
    "antithetic noise": partial(Antithetic, batches=(12, 8, 4)),
    "noise by level, white": ByLevel,
    "noise by level, white, 1-D": partial(ByLevel, **LINE),
    "pixel noise by level under injection": partial(NoiseByLevel, restrict=injection),
    "half mean square": partial(Loop, loss=half_square),
    "sum over channels": partial(Loop, loss=by_channel, channels=2),
    "L1": partial(Loop, loss=functional.l1_loss),
    "Huber": partial(Loop, loss=functional.huber_loss),
    "smooth L1": partial(Loop, loss=smooth_l1),
    "Charbonnier": partial(Loop, loss=charbonnier),
    "relative": partial(Loop, loss=relative),
    "relative, tiles": partial(Loop, loss=relative, data=tiles, noise=0.1),
    "a pass a term": partial(Loop, backward="term"),
    "a pass a side": partial(Loop, backward="side"),
    "a loss function": partial(Loop, backward="return"),
    "coarsest first": partial(Loop, finest_first=False),
    "fine sides first": FineSidesFirst,
    "fine sides first, a pass each": partial(FineSidesFirst, backward="term"),
    "coarse before fine": CoarseFirst,
    "microbatches": Microbatches,
    "microbatches, a pass a term": partial(Microbatches, backward="term"),
    "SGD": partial(Loop, optimizer=sgd),
    "SGD, a pass a term": partial(Loop, optimizer=sgd, backward="term"),
    "Adam": partial(Loop, optimizer=adam),
    "Adam, a pass a side": partial(Loop, optimizer=adam, backward="side"),
    "by hand": ByHand,
    "subtracted by hand": Subtracted,
    "clipped": partial(Clipped, optimizer=sgd, backward="term"),
    "clipped by value": partial(ClippedByValue, optimizer=sgd, backward="term"),
    "mesh-free": lambda **k: Loop(module=mesh_free(), **k),
    "mesh-free, 1-D": lambda **k: Loop(module=mesh_free(1), **LINE, **k),
    "group norm": lambda **k: Loop(module=Net(between=nn.GroupNorm(2, 4)), **k),
    "instance norm": lambda **k: Loop(module=Net(between=nn.InstanceNorm2d(4)), **k),
    "batch norm in evaluation of its own": lambda **k: Loop(module=Net(between=FrozenNorm(4)), **k),
    "buffers": lambda **k: Loop(module=Buffered(), **k),
    "float64": lambda **k: Double(module=Net().double(), **k),
    "a tuple": lambda **k: Named(module=Wrapped(tuple), **k),
    "a dictionary": lambda **k: Named(module=Wrapped(dict), **k),
    "coordinates": lambda **k: Coordinates(module=Net(channels=2), **k),
    "shared dropout masks": lambda **k: SharedMasks(module=dropout(), **k),
    "validation in between": lambda **k: Watched(module=dropout_free(), **k),
    "control-variate weights": Weighted,
    "control-variate weights, a pass a term": partial(Weighted, backward="term"),
    "randomised level": Randomised,
    "two channels": partial(Loop, channels=2),
}


class FrozenNorm(nn.BatchNorm2d):
    """Running statistics only, in any mode."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, self.running_mean, self.running_var, training=False)


class Double(Loop):
    """The same in double precision."""

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        x, y = super().draw(term)
        return x.double(), y.double()


def dropout_free() -> nn.Module:
    return Net(between=nn.GroupNorm(2, 4))
