"""Time a mesh-free layer in turn with a standard convolution, forward and backward pass."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from gradconv.nn.cost import layer_cost
from gradconv.nn.engine.compiled import available
from gradconv.nn.layer import MeshFreeConv2d, UnresolvedKernelWarning
from gradconv.nn.timing import PairedRatio, in_turn, quartiles

CONVOLUTION = "nn.Conv2d"
DRIFT = 0.01
WARM = 2  # rounds before the clock: compiling, caches, the allocator
ACCURATE = 1e-10  # tolerance of the layer that accuracy is held against


@dataclass(frozen=True)
class LayerTiming:
    """A layer on one mesh.

    Parameters
    ----------
    layer : str
        Its name.
    n : int
        Cells an axis.
    seconds : float
        Median time of a forward and backward pass of the batch, with all gradients.
    quartiles : tuple of float
        Of these times.
    ratio : PairedRatio
        Of its times over those of the convolution beside it.
    processor : float
        Median of the same ratio of processor time, all threads together.
    modes : int or None
        Frequencies that a mesh-free layer computes.
    operations : float or None
        As `gradconv.nn.layer_cost` counts them; None of layers that it does not know.
    """

    layer: str
    n: int
    seconds: float
    quartiles: tuple[float, float]
    ratio: PairedRatio
    processor: float
    modes: int | None
    operations: float | None


@dataclass(frozen=True)
class LayerWork:
    """What the layers have to do: fields of noise in and out, all gradients, float32.

    Parameters
    ----------
    channels : int
        Channels in and out.
    batch : int
        Fields at once.
    device : str
        ``"cpu"`` or a CUDA device.
    """

    channels: int = 32
    batch: int = 4
    device: str = "cpu"

    @property
    def paths(self) -> tuple[str, ...]:
        """Ways of computing a mesh-free layer here."""
        compiled = self.device == "cpu" and available()[0]
        return ("compiled", "torch") if compiled else ("torch",)

    def mesh_free(self, path: str, width: float) -> MeshFreeConv2d:
        """Make a layer of anisotropic Gaussians at random angles, the same for every path and mesh.

        Parameters
        ----------
        path : {"compiled", "torch"}
            How it computes.
        width : float
            Standard deviation of its kernels in units of the box: eigenvalues of A are uniform
            within a third of width²/2.
        """
        generator = torch.Generator().manual_seed(0)
        pairs = (self.channels, self.channels, 1)
        middle = width**2 / 2.0
        values = middle * (2.0 + 2.0 * torch.rand(*pairs, 2, generator=generator)) / 3.0
        angle = math.pi * torch.rand(pairs, generator=generator)
        c, s = angle.cos(), angle.sin()
        a11 = values[..., 0] * c**2 + values[..., 1] * s**2
        a22 = values[..., 0] * s**2 + values[..., 1] * c**2
        a12 = (values[..., 0] - values[..., 1]) * c * s
        bias = torch.Generator().manual_seed(1)
        layer = MeshFreeConv2d(self.channels, self.channels, path=path, generator=bias)
        layer.set_physical(
            amplitude=torch.randn(pairs, generator=generator) / math.sqrt(self.channels),
            diffusion=torch.stack([a11, a12, a12, a22], -1).reshape(*pairs, 2, 2),
            drift=DRIFT * torch.randn(*pairs, 2, generator=generator),
        )
        return layer.to(self.device)

    def convolution(self) -> nn.Module:
        """Make the 3 × 3 convolution that layers are held against."""
        return nn.Conv2d(self.channels, self.channels, 3, padding=1).to(self.device)

    def fields(self, n: int) -> tuple[Tensor, Tensor]:
        """Input, and gradient by the output; shape ``(batch, channels, n, n)``."""
        generator = torch.Generator().manual_seed(n)
        shape = (self.batch, self.channels, n, n)
        x, g = (torch.randn(shape, generator=generator) for _ in range(2))
        return x.to(self.device).requires_grad_(), g.to(self.device)

    def compare(
        self, layers: Mapping[str, nn.Module], n: int, repeats: int
    ) -> tuple[LayerTiming, ...]:
        """Time layers and the convolution in turn.

        Parameters
        ----------
        layers : mapping of str to Module
            By name.
        n : int
            Cells an axis.
        repeats : int
            Rounds.

        Returns
        -------
        tuple of LayerTiming
            Of the layers in their order, then of the convolution.
        """
        x, g = self.fields(n)
        every = {**layers, CONVOLUTION: self.convolution()}
        works = [partial(step, layer, x, g) for layer in every.values()]
        with warnings.catch_warnings():
            # a mesh coarser than the kernels is part of the comparison
            warnings.simplefilter("ignore", UnresolvedKernelWarning)
            taken = in_turn(works, repeats, self.device, warm=WARM)
        beside = taken[-1]
        found = []
        for (name, layer), times in zip(every.items(), taken, strict=True):
            wall = [t.wall for t in times]
            busy = [t.processor / b.processor for t, b in zip(times, beside, strict=True)]
            modes, operations = self.operations(layer, n)
            found.append(
                LayerTiming(
                    name,
                    n,
                    statistics.median(wall),
                    quartiles(wall),
                    PairedRatio.of(wall, [b.wall for b in beside]),
                    statistics.median(busy),
                    modes,
                    operations,
                )
            )
        return tuple(found)

    def operations(self, layer: nn.Module, n: int) -> tuple[int | None, float | None]:
        """Modes and operations of a layer on a mesh, forward and backward pass."""
        if isinstance(layer, MeshFreeConv2d):
            cost = layer_cost(layer, (n, n), self.batch)
            return cost.modes, cost.total
        if isinstance(layer, nn.Conv2d):  # three products: output, gradients of input and weights
            return None, 6.0 * layer.weight.numel() * self.batch * n**2
        return None, None

    def error(self, layer: MeshFreeConv2d, n: int) -> float:
        """Largest relative error of the output and of each gradient, on one field of the batch.

        In the Euclidean norm, against the same layer in float64 with next to all frequencies.
        """
        x, g = (v.detach()[:1] for v in self.fields(n))
        exact = MeshFreeConv2d(
            layer.in_channels,
            layer.out_channels,
            path="torch",
            tolerance=ACCURATE,
            dtype=torch.float64,
        ).to(self.device)
        exact.load_state_dict(layer.state_dict())
        results = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnresolvedKernelWarning)
            for module, dtype in ((layer, torch.float32), (exact, torch.float64)):
                leaf = x.to(dtype, copy=True).requires_grad_()
                y = step(module, leaf, g.to(dtype))
                # Linear in two of these the weights are not: each is compared by itself.
                grads = [p.grad for p in module.parameters() if p.grad is not None]
                values = [v for v in (y, leaf.grad, *grads) if v is not None and v.numel()]
                results.append([v.detach().double() for v in values])
        worst = 0.0
        for found, expected in zip(*results, strict=True):
            scale = float(expected.norm())
            worst = max(worst, float((found - expected).norm()) / scale if scale else 0.0)
        return worst


def step(layer: nn.Module, x: Tensor, g: Tensor) -> Tensor:
    """Forward and backward pass with all gradients; gives the output."""
    x.grad = None
    layer.zero_grad()
    y: Tensor = layer(x)
    y.backward(g)
    return y
