"""The mesh-free convolution in compiled code, on CPU, in one and two dimensions.

Analysis, mixing and synthesis are numba kernels (`numba_transform`, `numba_mixing`), compiled at
the first use and kept on disk. Work is cut in the same way whatever the number of threads, and sums
go in a fixed order: results do not depend on it, to the bit.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradconv.nn.engine.buffers import empty
from gradconv.nn.engine.layout import Kernels, Modes, array_of, modes_of, padded, side, table_of
from gradconv.nn.engine.plan import Plan
from gradconv.nn.engine.threads import share

_MOMENT_BYTES = 2**26  # of the partial sums of parameter gradients
_CHUNKS = (4, 16)  # partial sums: at least, and at most
# Where `numba_batched` is faster, found by forward and backward passes of both ways in turn, on one
# thread, of 8² to 64² points, 8 to 192 samples and 16 to 64 channels: on up to _SMALL points, from
# _FEW samples and channels on, and with a sample times channel, up to _WIDE of them, a point. In
# double precision, with vectors of half the length, a point counts twice.
_SMALL, _FEW, _WIDE = 32**2, 16, 32
_WASTE = 1.5  # by which padding may multiply the channel pairs
# On the smallest meshes from _MANY samples on, more: layers from or to a few channels, as a network
# begins and ends with, took 0.4 to 0.9 of the time of the rows at 4² and 8², and 0.9 to 1.2 at 16².
_TINY, _MANY = 8**2, 32
_LARGEST = 4096  # mode numbers up to here have exact phases in single precision


class _Kernels(NamedTuple):
    """Modules of numba kernels."""

    transform: Any
    mixing: Any
    batched: Any


@lru_cache(maxsize=1)
def _found() -> _Kernels | str:
    """The modules of kernels, or why there are none."""
    try:
        from gradconv.nn.engine import numba_batched, numba_mixing, numba_transform
    except Exception as error:  # a broken installation of numba raises anything
        return f"numba cannot be used: {error}"
    return _Kernels(numba_transform, numba_mixing, numba_batched)


def available() -> tuple[bool, str | None]:
    """Whether compiled code can be had here, and if not, why."""
    found = _found()
    return (False, found) if isinstance(found, str) else (True, None)


def supports(x: Tensor, shape: tuple[int, ...], plan: Plan) -> str | None:
    """Reason why a convolution cannot be computed here, None if it can.

    Parameters
    ----------
    x : Tensor, shape ``(B, in, *n)``
        The field.
    shape : tuple of int
        ``(out, in / groups, terms, P)``, of the coefficients.
    plan : Plan
        The modes.
    """
    if plan.dim > 2:
        return "compiled code has one and two dimensions"
    if x.device.type != "cpu":
        return f"compiled code runs on CPU; got {x.device.type}"
    if x.dtype not in (torch.float32, torch.float64):
        return f"compiled code has float32 and float64; got {str(x.dtype).removeprefix('torch.')}"
    if not (x.numel() and all(shape) and plan.modes):
        return "nothing to compute"
    if sum(a.highest for a in plan.axes) > _LARGEST:
        return f"more than {_LARGEST} modes along the axes"
    return available()[1]


def _kernels() -> _Kernels:
    found = _found()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def _analyse(x: Tensor, output: bool, modes: Modes, plan: Plan, spectrum: Tensor) -> None:
    """Fields on one of the meshes to spectra, ``(B, C, 2, places)``."""
    transform = _kernels().transform
    flat = spectrum.numpy().reshape(-1, 2, modes.length)
    fields = array_of(x).reshape(-1, *x.shape[2:])
    sides = [side(a, output, fields.dtype) for a in plan.axes]
    sizes, matrices = [s.sizes for s in sides], [s.analysis for s in sides]
    if plan.dim == 1:
        work = partial(transform.analyse_rows, fields, *sizes, *matrices, int(plan.reach), flat)
    else:
        work = partial(
            transform.analyse, fields, *sizes, *matrices, modes.places, modes.empty, flat
        )
    share(work, len(fields))


def _synthesise(spectrum: Tensor, output: bool, modes: Modes, plan: Plan) -> Tensor:
    """Spectra, weighted by how many modes each stands for, to fields on one of the meshes."""
    transform = _kernels().transform
    sizes_of = [a.out if output else a.n for a in plan.axes]
    y = empty((*spectrum.shape[:2], *sizes_of), spectrum)
    fields = y.numpy().reshape(-1, *sizes_of)
    flat = spectrum.numpy().reshape(-1, 2, modes.length)
    sides = [side(a, output, fields.dtype) for a in plan.axes]
    sizes, matrices = [s.sizes for s in sides], [s.synthesis for s in sides]
    if plan.dim == 1:
        work = partial(
            transform.synthesise_rows,
            flat, modes.weights[0], *sizes, *matrices, int(plan.reach), fields,
        )  # fmt: skip
    else:
        work = partial(
            transform.synthesise, flat, modes.weights[0], *sizes, *matrices, modes.places, fields
        )
    share(work, len(fields))
    return y


def forward(
    x: Tensor,
    coefficients: Tensor,
    quadratic: Tensor,
    drift: Tensor,
    groups: int,
    plan: Plan,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve, and give the input's spectrum for the backward pass.

    Parameters
    ----------
    x : Tensor, shape ``(B, in, *n)``
        Fields, of a type and size that `supports` accepts.
    coefficients, quadratic, drift : Tensor
        Kernels as in `gradconv.nn.engine.pairs.Parameters`, of the same type.
    groups : int
        Groups of channels.
    plan : Plan
        The modes.
    bias : Tensor, shape ``(out,)``, optional
        Added to the output; through its mean mode, which saves a pass over the fields.

    Returns
    -------
    y : Tensor, shape ``(B, out, *out_shape)``
    spectrum : Tensor, shape ``(B, in, 2, places)``
        In the order of the kernels; `modes` gives that of the plan. Where `batches` says so,
        ``(modes, B, groups, 2, in / groups)``.
    """
    mixing = _kernels().mixing
    kernels = Kernels(coefficients, quadratic, drift, plan)
    if batches(x, coefficients.shape, groups, plan):
        return _forward_batched(x, kernels, groups, plan, bias)
    dtype = kernels.prepared.dtype
    modes = modes_of(plan, x.shape[0] * x.shape[1], dtype)
    spectrum = empty((*x.shape[:2], 2, modes.length), x)
    _analyse(x.detach(), False, modes, plan, spectrum)
    mixed = empty((x.shape[0], coefficients.shape[0], 2, modes.length), x)
    work = partial(
        mixing.mix, spectrum.numpy(), kernels.prepared, kernels.coefficients, groups,
        *modes.numbers, modes.cuts, plan.dim == 2, mixed.numpy(),
    )  # fmt: skip
    share(work, modes.blocks)
    if bias is not None and modes.mean is not None:
        mixed[:, :, 0, modes.mean] += bias.detach()
    y = _synthesise(mixed, True, modes, plan)
    if bias is not None and modes.mean is None:
        y += bias.detach().reshape(-1, *(1,) * plan.dim)
    return y, spectrum


def backward(
    grad_y: Tensor,
    spectrum: Tensor,
    coefficients: Tensor,
    quadratic: Tensor,
    drift: Tensor,
    groups: int,
    plan: Plan,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Gradients by input, coefficients, quadratic, drift and bias.

    Parameters
    ----------
    grad_y : Tensor, shape ``(B, out, *out_shape)``
        Gradient by the output.
    spectrum : Tensor
        From `forward`.
    coefficients, quadratic, drift, groups, plan
        As in `forward`.
    needs : tuple of bool
        Whether the gradient by the input, those by the kernels, and that by the bias are wanted;
        the others are None.
    """
    mixing = _kernels().mixing
    kernels = Kernels(coefficients, quadratic, drift, plan)
    if spectrum.ndim == 5:
        return _backward_batched(grad_y, spectrum, kernels, groups, plan, needs)
    x = array_of(spectrum)
    dtype = kernels.prepared.dtype
    modes = modes_of(plan, x.shape[0] * x.shape[1], dtype)
    by_output = empty((*grad_y.shape[:2], 2, modes.length), grad_y)
    _analyse(grad_y.detach(), True, modes, plan, by_output)
    by_spectrum = empty(tuple(spectrum.shape) if needs[0] else (1, 1, 1, 1), spectrum)
    shape = (*kernels.prepared.shape[:3], 1 if kernels.plain else 2, mixing.MOMENTS)
    cuts = _chunks(shape, modes.blocks)
    chunks = len(cuts) - 1
    moments = np.zeros((chunks, *shape))

    def work(begin: int, end: int) -> None:
        for chunk in range(begin, end):
            mixing.mix_adjoint(
                by_output.numpy(), x, kernels.prepared, kernels.coefficients, groups,
                *modes.numbers, modes.weights, modes.cuts, plan.dim == 2, *needs[:2],
                by_spectrum.numpy(), moments[chunk], cuts[chunk], cuts[chunk + 1],
            )  # fmt: skip

    share(work, chunks)
    by_x = _synthesise(by_spectrum, False, modes, plan) if needs[0] else None
    by_bias = None
    if needs[2] and modes.mean is not None:
        by_bias = by_output[:, :, 0, modes.mean].sum(dim=0)
    elif needs[2]:
        by_bias = grad_y.detach().sum(dim=(0, *range(2, grad_y.ndim)))
    by_kernels = kernels.gradients(moments.sum(axis=0)) if needs[1] else (None,) * 3
    return by_x, *by_kernels, by_bias


def _chunks(shape: tuple[int, ...], blocks: int) -> list[int]:
    """Ends of runs of blocks with partial sums, in double precision, of their own."""
    least, most = _CHUNKS
    chunks = min(max(_MOMENT_BYTES // (8 * int(np.prod(shape))), least), most, blocks)
    return [blocks * c // chunks for c in range(chunks + 1)]


def batches(x: Tensor, shape: tuple[int, ...], groups: int, plan: Plan) -> bool:
    """Whether `numba_batched` computes this: where there are many samples on a small mesh.

    Parameters
    ----------
    x, shape, groups, plan
        As in `supports`.
    """
    channels = (shape[0] // groups, shape[1])
    batch = x.shape[0]
    points = int(np.prod([a.n for a in plan.axes])) * x.element_size() // 4
    if plan.dim != 2 or max(channels) < _FEW:
        return False
    if points <= _TINY and batch >= _MANY:
        return True
    waste = np.prod([padded(c) / c for c in channels])
    return bool(
        points <= _SMALL
        and batch >= _FEW
        and batch * min(*channels, _WIDE) >= points
        and min(channels) >= _FEW
        and waste <= _WASTE
    )


def _plane(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A line is a plane of one column."""
    return (*shape, 1)[:2]


def _analyse_batched(x: Tensor, groups: int, output: bool, plan: Plan) -> Tensor:
    """Fields on one of the meshes to ``(modes, B, groups, 2, channels / groups, padded)``."""
    table = table_of(plan, array_of(x).dtype)
    fields = array_of(x).reshape(len(x), groups, x.shape[1] // groups, *_plane(x.shape[2:]))
    spectrum = empty((plan.modes, len(x), groups, 2, padded(fields.shape[2])), x)
    waves = table.analysis[output]
    work = partial(_kernels().batched.analyse, fields, *waves, *table.numbers, spectrum.numpy())
    share(work, len(x))
    return spectrum


def _synthesise_batched(spectrum: Tensor, channels: int, output: bool, plan: Plan) -> Tensor:
    """Such spectra to fields of as many channels."""
    table = table_of(plan, spectrum.numpy().dtype)
    batch, groups = spectrum.shape[1:3]
    sizes = tuple(a.out if output else a.n for a in plan.axes)
    y = empty((batch, channels, *sizes), spectrum)
    fields = y.numpy().reshape(batch, groups, channels // groups, *_plane(sizes))
    waves = table.synthesis[output]
    share(
        partial(
            _kernels().batched.synthesise,
            spectrum.numpy(), table.weights, *waves, *table.numbers, fields,
        ),
        batch,
    )  # fmt: skip
    return y


def _forward_batched(
    x: Tensor, kernels: Kernels, groups: int, plan: Plan, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    outs, ins = kernels.prepared.shape[:2]
    table = table_of(plan, kernels.prepared.dtype)
    spectrum = _analyse_batched(x.detach(), groups, False, plan)
    mixed = empty((*spectrum.shape[:4], padded(outs // groups)), x)
    numbers = table.numbers.astype(kernels.prepared.dtype)
    work = partial(
        _kernels().batched.mix, spectrum.numpy(), *kernels.by_rows(groups, False), *numbers,
        mixed.numpy(),
    )  # fmt: skip
    share(work, plan.modes)
    if bias is not None and plan.mean is not None:
        mixed[plan.mean, :, :, 0, : outs // groups] += bias.detach().reshape(groups, -1)
    y = _synthesise_batched(mixed, outs, True, plan)
    if bias is not None and plan.mean is None:
        y += bias.detach().reshape(-1, *(1,) * plan.dim)
    return y, spectrum[..., :ins]


def _backward_batched(
    grad_y: Tensor,
    spectrum: Tensor,
    kernels: Kernels,
    groups: int,
    plan: Plan,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    outs, ins = kernels.prepared.shape[:2]
    dtype = kernels.prepared.dtype
    table = table_of(plan, dtype)
    room = padded(ins) - ins
    x = array_of(torch.nn.functional.pad(spectrum, (0, room)) if room else spectrum)
    by_output = _analyse_batched(grad_y.detach(), groups, True, plan)
    by_spectrum = empty(tuple(x.shape) if needs[0] else (1,) * 5, spectrum)
    prepared, coefficients = kernels.by_rows(groups, True)
    kinds = _kernels().mixing.MOMENTS * (1 if kernels.plain else 2)
    shape = (kinds, *prepared.shape[1:])
    cuts = _chunks(shape, plan.modes)
    moments = np.zeros((len(cuts) - 1, *shape))
    numbers = table.numbers.astype(dtype)

    def work(begin: int, end: int) -> None:
        for chunk in range(begin, end):
            _kernels().batched.mix_adjoint(
                by_output.numpy(), x, prepared, coefficients, *numbers, table.weights,
                *needs[:2], by_spectrum.numpy(), moments[chunk], cuts[chunk], cuts[chunk + 1],
            )  # fmt: skip

    share(work, len(moments))
    by_x = _synthesise_batched(by_spectrum, ins * groups, False, plan) if needs[0] else None
    by_bias = None
    if needs[2] and plan.mean is not None:
        by_bias = by_output[plan.mean, :, :, 0, : outs // groups].sum(dim=0).reshape(-1)
    elif needs[2]:
        by_bias = grad_y.detach().sum(dim=(0, *range(2, grad_y.ndim)))
    if not needs[1]:
        return by_x, None, None, None, by_bias
    # (kinds, groups, E, O, I) to (O, I, E, 1 or 2, 6)
    total = moments.sum(axis=0)[..., : outs // groups, :ins].transpose(1, 3, 4, 2, 0)
    total = total.reshape(outs, ins, total.shape[3], -1, _kernels().mixing.MOMENTS)
    return by_x, *kernels.gradients(total), by_bias


def modes(spectrum: Tensor, plan: Plan) -> Tensor:
    """The spectrum of `forward` as ``(2, B · in, modes)`` in the order of the plan.

    Parameters
    ----------
    spectrum : Tensor
        From `forward`, or a gradient by it.
    plan : Plan
        The modes.
    """
    if spectrum.ndim == 5:
        return spectrum.permute(3, 1, 2, 4, 0).reshape(2, -1, plan.modes)
    places = torch.from_numpy(modes_of(plan, 1, np.dtype(np.float32)).order)
    flat = spectrum.reshape(-1, 2, spectrum.shape[-1]).transpose(0, 1)
    return flat.index_select(2, places)
