"""The mesh-free convolution in compiled code, on CPU, in one and two dimensions.

Analysis, mixing and synthesis are numba kernels (`numba_transform`, `numba_mixing`), compiled at
the first use and kept on disk. Work is cut in the same way whatever the number of threads, and sums
go in a fixed order: results do not depend on it, to the bit.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gradconv.nn.engine.buffers import empty
from gradconv.nn.engine.layout import Modes, modes_of, side
from gradconv.nn.engine.plan import Plan
from gradconv.nn.engine.threads import share

if TYPE_CHECKING:
    from types import ModuleType

_MOMENT_BYTES = 2**26  # of the partial sums of parameter gradients
_CHUNKS = (4, 16)  # partial sums: at least, and at most
_LARGEST = 4096  # mode numbers up to here have exact phases in single precision


@lru_cache(maxsize=1)
def _kernels() -> tuple[ModuleType, ModuleType, ModuleType] | str:
    """The modules of kernels, or why there are none."""
    try:
        from gradconv.nn.engine import numba_exponentials, numba_mixing, numba_transform
    except Exception as error:  # a broken installation of numba raises anything
        return f"numba cannot be used: {error}"
    return numba_transform, numba_mixing, numba_exponentials


def available() -> tuple[bool, str | None]:
    """Whether compiled code can be had here, and if not, why."""
    found = _kernels()
    return (False, found) if isinstance(found, str) else (True, None)


def supports(x: Tensor, shape: tuple[int, ...], groups: int, plan: Plan) -> str | None:
    """Reason why a convolution cannot be computed here, None if it can.

    Parameters
    ----------
    x : Tensor, shape ``(B, in, *n)``
        The field.
    shape : tuple of int
        ``(out, in / groups, terms, P)``, of the coefficients.
    groups : int
        Groups of channels.
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


class _Kernels:
    """Kernels of all channel pairs as the compiled code wants them; a line is 2-D with j2 = 0."""

    def __init__(self, coefficients: Tensor, quadratic: Tensor, drift: Tensor, plan: Plan) -> None:
        _, _, exponentials = _modules()
        c, q, b = (_array(v) for v in (coefficients, quadratic, drift))
        self.dim, self.columns = plan.dim, c.shape[3]
        lengths = tuple(a.length for a in plan.axes)
        if plan.dim == 1:
            lengths = (*lengths, 1.0)
            q = np.concatenate([q, np.zeros((*q.shape[:3], 2), q.dtype)], axis=3)
            b = np.concatenate([b, np.zeros_like(b)], axis=3)
        k1, k2 = (2.0 * np.pi / v for v in lengths)
        self.scale = np.array([1.0, k1, k2, k1 * k1, k1 * k2, k2 * k2])
        self.prepared = np.empty((*c.shape[:3], exponentials.PREPARED), c.dtype)
        flaw = exponentials.prepare(
            np.ascontiguousarray(q).reshape(-1, 3),
            np.ascontiguousarray(b).reshape(-1, 2),
            *lengths,
            exponentials.rows_together(c.itemsize),
            self.prepared.reshape(-1, exponentials.PREPARED),
        )
        full = {1: 1, 2: 3, 3: 6}[self.columns] if plan.dim == 1 else self.columns
        self.coefficients = np.zeros((*c.shape[:3], full), c.dtype)
        self.coefficients[..., self._places] = c * self.scale[self._places]
        self.coefficients[..., 0] += flaw.reshape(c.shape[:3])
        self.amplitude = c[..., 0]

    @property
    def _places(self) -> list[int]:
        """Where the plan's monomials are among 1, k1, k2, k1², k1k2, k2²."""
        return [[0, 1, 3], list(range(6))][self.dim - 1][: self.columns]

    @property
    def plain(self) -> bool:
        """Whether a symbol is an amplitude times an exponential."""
        return self.coefficients.shape[2:] == (1, 1)

    def gradients(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By coefficients, quadratic and drift from the moments, ``(O, I, E, 1 or 2, 6)``."""
        one, k1, k2, k11, k12, k22 = (self.scale[i] for i in range(6))
        by = moments[..., 0, :]
        own = by * self.amplitude[..., None] if self.plain else moments[..., 1, :]
        monomials = by[..., [0, 4, 5, 1, 2, 3]] * np.array([one, k1, k2, -k11, -k12, -k22])
        quadratic = own[..., 1:4] * np.array([-k11, -2.0 * k12, -k22])
        drift = own[..., 4:6] * np.array([k1, k2])
        if self.dim == 1:
            quadratic, drift = quadratic[..., :1], drift[..., :1]
        return monomials[..., self._places], quadratic, drift


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def _modules() -> tuple[Any, Any, Any]:
    found = _kernels()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def _analyse(x: Tensor, output: bool, modes: Modes, plan: Plan, spectrum: Tensor) -> None:
    """Fields on one of the meshes to spectra, ``(B, C, 2, places)``."""
    transform, _, _ = _modules()
    flat = spectrum.numpy().reshape(-1, 2, modes.length)
    fields = _array(x).reshape(-1, *x.shape[2:])
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
    transform, _, _ = _modules()
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
        Kernels as in `gradconv.nn.engine.mixing.Parameters`, of the same type.
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
        In the order of the kernels; `modes` gives that of the plan.
    """
    _, mixing, _ = _modules()
    kernels = _Kernels(coefficients, quadratic, drift, plan)
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
    _, mixing, _ = _modules()
    kernels = _Kernels(coefficients, quadratic, drift, plan)
    x = _array(spectrum)
    dtype = kernels.prepared.dtype
    modes = modes_of(plan, x.shape[0] * x.shape[1], dtype)
    by_output = empty((*grad_y.shape[:2], 2, modes.length), grad_y)
    _analyse(grad_y.detach(), True, modes, plan, by_output)
    by_spectrum = empty(tuple(spectrum.shape) if needs[0] else (1, 1, 1, 1), spectrum)
    shape = (*kernels.prepared.shape[:3], 1 if kernels.plain else 2, mixing.MOMENTS)
    least, most = _CHUNKS
    chunks = min(max(_MOMENT_BYTES // (8 * int(np.prod(shape))), least), most, modes.blocks)
    cuts = [modes.blocks * c // chunks for c in range(chunks + 1)]
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
    if not needs[1]:
        return by_x, None, None, None, by_bias
    found = kernels.gradients(moments.sum(axis=0))
    c, q, b = (torch.from_numpy(v.astype(dtype)) for v in found)
    return by_x, c, q, b, by_bias


def modes(spectrum: Tensor, groups: int, plan: Plan) -> Tensor:
    """The spectrum of `forward` as ``(2, B · in, modes)`` in the order of the plan.

    Parameters
    ----------
    spectrum : Tensor, shape ``(B, in, 2, places)``
        From `forward`, or a gradient by it.
    groups, plan
        As in `forward`.
    """
    places = torch.from_numpy(modes_of(plan, 1, np.dtype(np.float32)).order)
    flat = spectrum.reshape(-1, 2, spectrum.shape[-1]).transpose(0, 1)
    return flat.index_select(2, places)
