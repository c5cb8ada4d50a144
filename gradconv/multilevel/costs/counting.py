"""What one gradient of a torch module costs on each level: operations, seconds and memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from gradconv.errors import InputError, check_whole
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d, layer_cost
from gradconv.nn.evaluation import (
    Loss,
    Output,
    flat_gradients,
    loss_value,
    pick,
    run_module,
    trainable,
)
from gradconv.nn.memory import Allocations
from gradconv.nn.random_state import preserved_buffers, preserved_random_state
from gradconv.nn.timing import in_turn

MESH_FREE = (MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d)
Pair = tuple[Tensor, Any]


@dataclass(frozen=True)
class LevelCost:
    """Cost of a gradient on one level.

    Parameters
    ----------
    level : int
        0 is the coarsest.
    shape : tuple of int
        Points along each axis.
    flops : float
        Operations of one sample's gradient, forward and backward pass.
    fixed_bytes, sample_bytes : float
        Peak memory of a pass: a part that does not depend on its samples, and bytes a sample.
    seconds : float or None
        Median time of one sample's gradient; None if the clock was not run.
    seconds_range : tuple of float or None
        Least and greatest time of one sample's gradient.
    """

    level: int
    shape: tuple[int, ...]
    flops: float
    fixed_bytes: float
    sample_bytes: float
    seconds: float | None = None
    seconds_range: tuple[float, float] | None = None


def level_costs(
    module: nn.Module | Sequence[nn.Module],
    loss: Loss,
    batches: Sequence[Pair],
    *,
    output: Output = None,
    repeats: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[LevelCost, ...]:
    """Count and time the gradient of a loss by the parameters of a module on each level.

    Operations are those that torch's `FlopCounterMode` counts, convolutions and products of
    matrices, two for a multiplication with its addition; the weights' gradients of grouped
    convolutions, which it counts once too often for each further group, are put right. It does
    not count pointwise operations, normalisations, pools, interpolation and Fourier transforms,
    and takes complex products for real ones. Mesh-free layers of `gradconv.nn` are left out of
    its count and counted by `gradconv.nn.layer_cost`, all gradients included, that of the input
    of a first layer too.

    Memory is that of torch's tensors that are alive at once beside weights, buffers and data, as
    `gradconv.nn.memory.Allocations` counts them; on a CUDA device what its allocator hands out.
    It is measured with the samples given and with twice as many, and the straight line through
    both gives the two parts.

    Weights, buffers, ``.grad``, modes and global random states are left as they are.

    Parameters
    ----------
    module : Module, or sequence of Module
        One for all levels, or one each, coarse to fine.
    loss : callable
        ``loss(prediction, target) -> scalar``.
    batches : sequence of (Tensor, target)
        Input ``(B, C, *n)`` and target of each level, coarse to fine; costs are divided by B.
    output : int, str, callable or None
        What of the module's output is the prediction.
    repeats : int
        Times each gradient is timed, in turn over the levels, after one that is not; 0 leaves
        the clock alone.
    note : callable
        Told of a choice that was made.

    Returns
    -------
    tuple of LevelCost

    Raises
    ------
    InputError
        If an argument breaks a rule, or the module or the loss cannot run on a level or gives a
        value or a gradient that is not finite; the level is named.
    """
    modules = _checked(module, batches, repeats)
    device = batches[0][0].device
    found, passes = [], []
    with preserved_random_state(str(device)), ExitStack() as stack:
        for module in dict.fromkeys(modules):
            stack.enter_context(preserved_buffers(module))
        for level, (module, (x, y)) in enumerate(zip(modules, batches, strict=True)):
            one = _Pass(module, loss, x, y, output)
            shape = "x".join(str(n) for n in x.shape[2:])
            one.check(f"level {level} (n={shape})", note)
            passes.append(one)
            fixed, sample = one.bytes()
            flops = one.flops() / len(x)
            found.append(LevelCost(level, tuple(x.shape[2:]), flops, fixed, sample))
        # in turn, so that a machine that is busy for a while slows all levels alike
        times = in_turn(passes, repeats, device) if repeats else [[] for _ in passes]
    return tuple(
        replace(
            cost,
            seconds=statistics.median(walls) / len(x),
            seconds_range=(min(walls) / len(x), max(walls) / len(x)),
        )
        if (walls := [t.wall for t in taken])
        else cost
        for cost, taken, (x, _) in zip(found, times, batches, strict=True)
    )


def _checked(module: Any, batches: Any, repeats: Any) -> list[nn.Module]:
    """Modules of the levels, once the arguments are seen to be sound."""
    check_whole("repeats", repeats, 0)
    if not isinstance(batches, Sequence) or not batches:
        raise InputError("`batches` must hold input and target of at least one level")
    for level, pair in enumerate(batches):
        sound = isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], Tensor)
        if not sound or pair[0].ndim < 3 or not len(pair[0]):
            raise InputError(
                "`batches` must hold (input, target) with input of shape (B, C, *n), B at least "
                f"1; got {_kind(pair)} on level {level}"
            )
    if isinstance(module, nn.Module):
        modules = [module] * len(batches)
    else:
        modules = list(module) if isinstance(module, Sequence) else []
    if len(modules) != len(batches) or not all(isinstance(m, nn.Module) for m in modules):
        raise InputError(
            f"`module` must be a torch.nn.Module, or one for each of {len(batches)} levels; "
            f"got {_kind(module)}"
        )
    for level, module in enumerate(modules):
        if not trainable(module):
            raise InputError(
                f"`module` must have a parameter that takes a gradient; got none on level {level}"
            )
    return modules


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        parts = ", ".join(_kind(v) for v in value[:4])
        return f"({parts}{', ...' if len(value) > 4 else ''})"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


@dataclass(frozen=True)
class _Pass:
    """Forward and backward pass of a batch on one mesh."""

    module: nn.Module
    loss: Loss
    x: Tensor
    y: Any
    output: Output

    def __call__(self) -> tuple[Tensor | None, ...]:
        made = pick(self.module(self.x), self.output, "", lambda text: None)
        value = self.loss(made, self.y)
        return torch.autograd.grad(value, list(trainable(self.module).values()), allow_unused=True)

    def check(self, where: str, note: Callable[[str], None]) -> None:
        """Run once; refuse what fails, with the level named."""
        made = pick(run_module(self.module, self.x, where), self.output, where, note)
        value = loss_value(self.loss, made, self.y, where)
        flat_gradients(value, trainable(self.module), where)

    def bytes(self) -> tuple[float, float]:
        """Peak memory: the part that any number of samples takes, and what each adds."""
        batch = len(self.x)
        double = _Pass(self.module, self.loss, *_doubled(self.x, self.y), self.output)
        one, two = self._peak(), double._peak()
        return float(2 * one - two), (two - one) / batch

    def _peak(self) -> int:
        if self.x.is_cuda:
            torch.cuda.synchronize(self.x.device)
            torch.cuda.reset_peak_memory_stats(self.x.device)
            before = torch.cuda.memory_allocated(self.x.device)
            self()
            torch.cuda.synchronize(self.x.device)
            return int(torch.cuda.max_memory_allocated(self.x.device)) - int(before)
        there = [*self.module.parameters(), *self.module.buffers(), self.x, self.y]
        with Allocations(there) as allocations:
            self()
        return allocations.peak

    def flops(self) -> float:
        """Operations of the pass."""
        calls: list[tuple[Any, tuple[int, ...]]] = []
        with ExitStack() as stack:
            for layer in self.module.modules():
                if isinstance(layer, MESH_FREE):
                    stack.enter_context(_unseen(layer, calls))
            with FlopCounterMode(display=False, custom_mapping=CORRECTED) as counter:
                self()
        mesh_free = sum(layer_cost(layer, n[2:], n[0]).total for layer, n in calls)
        return counter.get_total_flops() + mesh_free


def _doubled(x: Tensor, y: Any) -> Pair:
    def twice(value: Any) -> Any:
        sampled = isinstance(value, Tensor) and value.ndim and len(value) == len(x)
        return torch.cat([value, value]) if sampled else value

    return twice(x), tree_map(twice, y)


def _convolution_backward(
    grad_shape: Sequence[int],
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    wanted: Sequence[bool],
    **_rest: Any,
) -> int:
    """Operations of a convolution's gradients: by input and by weight, each as the forward pass."""
    cells = math.prod((x_shape if transposed else grad_shape)[2:])
    forward = 2 * x_shape[0] * cells * math.prod(weight_shape)
    return forward * sum(bool(w) for w in wanted[:2])


CORRECTED = {torch.ops.aten.convolution_backward: _convolution_backward}


@contextmanager
def _unseen(layer: Any, calls: list[tuple[Any, tuple[int, ...]]]) -> Iterator[None]:
    """Let zeros stand in for a layer's output and gradients, and note the inputs it was given.

    Its own operations are compiled ones, which no counter sees, or products of another size, by
    the path that was taken; and their number does not depend on the values.
    """

    def forward(x: Tensor) -> Tensor:
        calls.append((layer, tuple(x.shape)))
        n = (a // b for a, b in zip(x.shape[2:], layer.stride, strict=True))
        shape = (x.shape[0], layer.out_channels, *n)
        return _Zeros.apply(shape, x, *layer.parameters())  # type: ignore[no-untyped-call]

    own = layer.__dict__.get("forward")
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        del layer.__dict__["forward"]
        if own is not None:
            layer.__dict__["forward"] = own


class _Zeros(torch.autograd.Function):
    """Zeros of a shape, with zeros as gradients."""

    @staticmethod
    def forward(ctx: Any, shape: tuple[int, ...], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return inputs[0].new_zeros(shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        return (None, *(torch.zeros_like(t) if need else None for t, need in needed))
