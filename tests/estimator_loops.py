"""Multilevel training loops for the audit of estimators: a sound one, its variants, its defects.

`Loop` is a sound loop in plain code; a planted defect is a subclass that changes one method.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradconv.fields.photograph import Photograph
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d

Tensor = torch.Tensor


# --- data: iterators of noise-free images on the finest mesh, each with a generator of its own ---


def fields(
    n: int, dim: int, seed: int, channels: int = 1, modes: int | None = None
) -> Iterator[Tensor]:
    """Random fields of spectrum (1 + |j|²)^−2, cut beyond `modes`; shape ``(C, *n)`` each."""
    generator = torch.Generator().manual_seed(seed)
    j = torch.fft.fftfreq(n, 1.0 / n)
    square = sum(g**2 for g in torch.meshgrid(*[j] * dim, indexing="ij"))
    gain = n ** (dim / 2) / (1.0 + square)
    if modes is not None:
        gain = gain * (square <= modes**2)
    axes = tuple(range(-dim, 0))
    while True:
        white = torch.randn(channels, *(n,) * dim, generator=generator)
        yield torch.fft.ifftn(torch.fft.fftn(white, dim=axes) * gain, dim=axes).real


def photograph(title: str = "astronaut") -> Tensor:
    """Embedded photograph of 512 × 512, shape ``(512, 512)``."""
    (image,) = Photograph(title).images()
    return torch.from_numpy(image.mean(axis=0)).float()


def tiles(n: int, dim: int, seed: int, channels: int = 1) -> Iterator[Tensor]:
    """Tiles of a photograph at random places, as they are."""
    image = photograph()
    generator = torch.Generator().manual_seed(seed)
    while True:
        row, column = torch.randint(0, 512 - n, (2,), generator=generator).tolist()
        tile = image[row : row + n, column : column + n]
        yield (tile if dim == 2 else tile[0])[None].repeat(channels, *(1,) * dim)


def shuffled(n: int, dim: int, seed: int, channels: int = 1) -> Iterator[Tensor]:
    """A shuffled loader over 48 tiles, epoch after epoch."""
    stack = torch.stack(list(itertools.islice(tiles(n, dim, seed, channels), 48)))
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(stack), batch_size=1, shuffle=True, generator=generator)
    while True:
        for (x,) in loader:
            yield x[0]


def in_order(n: int, dim: int, seed: int, channels: int = 1) -> Iterator[Tensor]:
    """A loader over 150 fields that is not shuffled, epoch after epoch."""
    stack = list(itertools.islice(fields(n, dim, seed, channels), 150))
    return itertools.cycle(stack)


# --- models ---


class Net(nn.Module):
    """Two convolutions with a layer between them, periodic."""

    def __init__(self, dim: int = 2, channels: int = 1, between: nn.Module | None = None) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dim - 1]
        options: Any = {"padding": 1, "padding_mode": "circular"}
        self.first = conv(channels, 4, 3, **options)
        self.between = between if between is not None else nn.Identity()
        self.last = conv(4, channels, 3, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.between(self.first(x))))


class Buffered(Net):
    """Counts its calls in a buffer."""

    def __init__(self, dim: int = 2) -> None:
        super().__init__(dim)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Wrapped(Net):
    """Returns its output in a tuple or a dictionary, and takes its input by name."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, *, x: Tensor) -> Any:
        y = super().forward(x)
        return {"prediction": y} if self.kind is dict else (y, None)


def mesh_free(dim: int = 2) -> nn.Module:
    """A mesh-free layer, tanh and a pointwise one."""
    made: Any = (MeshFreeConv1d, MeshFreeConv2d)[dim - 1]
    last = (nn.Conv1d, nn.Conv2d)[dim - 1]
    return nn.Sequential(made(1, 3, widths=(1 / 6, 1 / 4), path="torch"), nn.Tanh(), last(3, 1, 1))


# --- restrictions by 2 and losses ---


def average(x: Tensor) -> Tensor:
    pools = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
    return pools[x.ndim - 3](x, 2)


def injection(x: Tensor) -> Tensor:
    return x[(..., *(slice(None, None, 2),) * (x.ndim - 2))]


def interpolate(x: Tensor, **options: Any) -> Tensor:
    return functional.interpolate(x, scale_factor=0.5, **options)


def full_weighting(x: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        x = (torch.roll(x, 1, axis) + 2.0 * x + torch.roll(x, -1, axis)) / 4.0
    return injection(x)


def spectral(x: Tensor) -> Tensor:
    n, axes = x.shape[-1] // 2, tuple(range(2, x.ndim))
    modes = torch.fft.fftn(x, dim=axes, norm="forward")
    j = torch.fft.fftfreq(2 * n, 1.0 / (2 * n)).round()
    kept = torch.arange(2 * n)[(j >= -n // 2) & (j < n // 2)]
    for axis in axes:
        modes = modes.index_select(axis, kept)
        modes = modes.index_fill(axis, torch.tensor([n // 2]), 0.0)
    return torch.fft.ifftn(modes, dim=axes, norm="forward").real


def half_square(p: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (p - y).square().sum(1).mean()


def relative(p: Tensor, y: Tensor) -> Tensor:
    dims = tuple(range(1, p.ndim))
    return ((p - y).square().mean(dims) / (y.square().mean(dims) + 0.1)).mean()


def charbonnier(p: Tensor, y: Tensor) -> Tensor:
    return ((p - y).square() + 1e-3).sqrt().mean()


# --- the loop ---


class Loop:
    """E g_L = E g_0 + Σ E[g_l − g_{l−1}] with N_l samples a term, noise drawn on the finest mesh.

    Parameters
    ----------
    dim : int
        Dimension.
    sizes, batches : tuple of int
        Cells an axis and samples a term, coarse to fine.
    data : callable
        Makes an iterator of images on the finest mesh.
    noise : float
        Standard deviation of pixel noise on the finest mesh.
    restrict : callable
        Fine → coarse, by 2.
    loss : callable
        ``loss(prediction, target)``.
    module : Module or None
        Default: `Net`.
    optimizer : callable or None
        Makes an optimiser of the parameters; None leaves the gradients in ``.grad``.
    backward : {"one", "term", "side", "return"}
        One backward pass a step, a term, a side of a term, or none (the loss is returned).
    finest_first : bool
        Order of the terms.
    seed : int
        Seed of data, weights and noise.
    """

    def __init__(
        self,
        dim: int = 2,
        sizes: tuple[int, ...] = (8, 16, 32),
        batches: tuple[int, ...] = (12, 6, 3),
        data: Callable[..., Iterator[Tensor]] = fields,
        noise: float = 0.5,
        restrict: Callable[[Tensor], Tensor] = average,
        loss: Callable[[Tensor, Tensor], Tensor] = functional.mse_loss,
        module: nn.Module | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        backward: str = "one",
        finest_first: bool = True,
        channels: int = 1,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.dim, self.sizes, self.batches, self.noise = dim, sizes, batches, noise
        self.restrict, self.loss, self.backward = restrict, loss, backward
        self.module = module if module is not None else Net(dim, channels)
        self.optimizer = None if optimizer is None else optimizer(self.module.parameters())
        self.finest_first, self.channels, self.seed = finest_first, channels, seed
        self.make = data
        self.images = self.new_images()

    def new_images(self) -> Iterator[Tensor]:
        return self.make(self.sizes[-1], self.dim, self.seed, self.channels)

    @property
    def work(self) -> float:
        """Work units of the plan."""
        finest, d = len(self.sizes) - 1, self.dim
        return sum(
            count * 2.0 ** (-d * (finest - level)) * (1.0 + (2.0**-d if level else 0.0))
            for level, count in enumerate(self.batches)
        )

    def order(self) -> list[int]:
        levels = list(range(len(self.sizes)))
        return levels[::-1] if self.finest_first else levels

    def draw(self, term: int) -> tuple[Tensor, Tensor]:
        """Noisy inputs and targets of a term, on the finest mesh."""
        clean = torch.stack(list(itertools.islice(self.images, self.batches[term])))
        return self.noisy(clean), clean

    def noisy(self, clean: Tensor) -> Tensor:
        return clean + self.noise * torch.randn(clean.shape)

    def on_level(self, x: Tensor, level: int) -> Tensor:
        """Restrict from the finest mesh."""
        for _ in range(len(self.sizes) - 1 - level):
            x = self.restrict(x)
        return x

    def side(self, x: Tensor, y: Tensor) -> Tensor:
        """Loss on one mesh."""
        return self.loss(self.module(x), y)

    def coarse(self, x: Tensor, y: Tensor) -> Tensor:
        """Loss of the coarse side, from the fine one's data."""
        return self.side(self.restrict(x), self.restrict(y))

    def term(self, term: int) -> list[Tensor]:
        """Signed losses of a term."""
        x, y = (self.on_level(v, term) for v in self.draw(term))
        if term == 0:
            return [self.side(x, y)]
        return [self.side(x, y), -self.coarse(x, y)]

    def terms(self) -> Iterator[list[Tensor]]:
        for term in self.order():
            yield self.term(term)

    def step(self) -> Tensor | None:
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        total = torch.zeros(())
        for losses in self.terms():
            if self.backward == "side":
                for loss in losses:
                    loss.backward()
            elif self.backward == "term":
                torch.stack(losses).sum().backward()
                self.after_term()
            else:
                total = total + torch.stack(losses).sum()
        if self.backward == "return":
            return total
        if self.backward == "one":
            total.backward()
        self.update()
        return None

    def after_term(self) -> None:
        """Nothing: gradients add up in ``.grad``."""

    def update(self) -> None:
        if self.optimizer is not None:
            self.optimizer.step()


# --- optimisers and losses ---


def sum_over_cells(p: Tensor, y: Tensor) -> Tensor:
    return (p - y).square().sum(dim=tuple(range(1, p.ndim))).mean()


def sum_over_batch(p: Tensor, y: Tensor) -> Tensor:
    return (p - y).square().flatten(1).mean(1).sum()


def sum_over_all(p: Tensor, y: Tensor) -> Tensor:
    return (p - y).square().sum()


def norm_of_all(p: Tensor, y: Tensor) -> Tensor:
    return (p - y).norm()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters)


def dropout() -> nn.Module:
    return Net(between=nn.Dropout2d(0.3))
