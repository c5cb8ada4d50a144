"""Few Fourier modes of many fields, as matrix products in torch.

All arithmetic is real. A field times cosines and sines along each of d axes gives 2^d real
blocks; a fixed matrix of 0, 1 and −1 turns them into real and imaginary parts for each choice of
signs of the leading frequencies. Synthesis is the transpose of analysis with other matrices.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gradconv.nn.plan import AxisPlan, Plan

_FOLD_FROM = 64  # shorter axes gain nothing from the half-period symmetry
_CHUNK = 2**19  # points transformed at once: 2 MiB in single precision stay in cache
_converted: WeakKeyDictionary[AxisPlan | Plan, dict[tuple[object, ...], Tensor]] = (
    WeakKeyDictionary()
)


def analyse(x: Tensor, plan: Plan) -> Tensor:
    """Spectrum on the modes kept; differentiable.

    Parameters
    ----------
    x : Tensor, shape ``(N, *n)``
        Real fields.
    plan : Plan
        The modes.

    Returns
    -------
    Tensor, shape ``(2, N, modes)``
        Real and imaginary parts.
    """
    return _linear(x, plan, "forward", True)


def synthesise(z: Tensor, plan: Plan) -> Tensor:
    """Real fields Re Σ_k Z(k) exp(ik·t) at the output points, shape ``(N, *out)``; differentiable.

    Parameters
    ----------
    z : Tensor, shape ``(2, N, modes)``
        Real and imaginary parts, already weighted for conjugates.
    plan : Plan
        The modes.
    """
    return _linear(z, plan, "inverse", False)


def analyse_output(g: Tensor, plan: Plan) -> Tensor:
    """Transpose of `synthesise`: fields at the output points to ``(2, N, modes)``."""
    return _linear(g, plan, "inverse", True)


def synthesise_input(z: Tensor, plan: Plan) -> Tensor:
    """Transpose of `analyse`: ``(2, N, modes)`` to fields at the input points."""
    return _linear(z, plan, "forward", False)


def _linear(x: Tensor, plan: Plan, side: str, to_modes: bool) -> Tensor:
    result: Tensor = _Linear.apply(x, plan, side, to_modes)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    """Fields to modes with the matrices of one side, or the transpose; each is the other's."""

    @staticmethod
    def forward(x: Tensor, plan: Plan, side: str, to_modes: bool) -> Tensor:
        size = int(np.prod([a.n if side == "forward" else a.out for a in plan.axes]))
        count = x.shape[0] if to_modes else x.shape[1]
        step = max(1, _CHUNK // size)
        chunks = [slice(i, min(i + step, count)) for i in range(0, count, step)]
        if to_modes:
            z = x.new_empty(2, count, plan.modes)
            for c in chunks:
                z[:, c] = _gather(_contract(x[c], plan, side), plan)
            return z
        y = x.new_empty(count, *((a.n if side == "forward" else a.out) for a in plan.axes))
        for c in chunks:
            _expand(_scatter(x[:, c], plan), plan, side, y[c])
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.plan, ctx.side, ctx.to_modes = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _linear(grads[0], ctx.plan, ctx.side, not ctx.to_modes), None, None, None


def constant(holder: AxisPlan | Plan, name: object, like: Tensor) -> Tensor:
    """Array `name` of a plan as a tensor of `like`'s type and device, made once."""
    kept = _converted.setdefault(holder, {})
    key = (name, like.dtype, like.device)
    if key not in kept:
        values = name(holder) if callable(name) else getattr(holder, str(name))
        array = np.ascontiguousarray(values)
        dtype = like.dtype if array.dtype.kind == "f" else torch.int64
        kept[key] = torch.from_numpy(array.copy()).to(device=like.device, dtype=dtype)
    return kept[key]


def _forward_matrix(axis: AxisPlan) -> np.ndarray:
    return np.concatenate(list(axis.forward), axis=1)  # (n, 2(J+1))


def _inverse_matrix(axis: AxisPlan) -> np.ndarray:
    return np.concatenate(list(axis.inverse), axis=1)


def _parity(axis: AxisPlan, forward: bool, odd: int) -> np.ndarray:
    """Rows of the first half period, columns of even or odd modes: they determine the rest."""
    waves = axis.forward if forward else axis.inverse
    return np.concatenate([w[: axis.n // 2, odd::2] for w in waves], axis=1)


def _forward_even(axis: AxisPlan) -> np.ndarray:
    return _parity(axis, True, 0)


def _forward_odd(axis: AxisPlan) -> np.ndarray:
    return _parity(axis, True, 1)


def _inverse_even(axis: AxisPlan) -> np.ndarray:
    return _parity(axis, False, 0)


def _inverse_odd(axis: AxisPlan) -> np.ndarray:
    return _parity(axis, False, 1)


_MATRICES = {
    "forward": (_forward_matrix, _forward_even, _forward_odd),
    "inverse": (_inverse_matrix, _inverse_even, _inverse_odd),
}


def _folds(axis: AxisPlan, leading: bool) -> bool:
    # Worth two passes over the data only along the first axis, where these are whole.
    return leading and axis.folded and axis.n >= _FOLD_FROM and axis.highest > 0


def _contract(x: Tensor, plan: Plan, side: str) -> Tensor:
    """Cosine and sine parts along every axis, shape ``(N, 2(J_1+1), 2(J_2+1), …)``."""
    whole, even, odd = _MATRICES[side]
    for a, axis in enumerate(plan.axes):
        length = x.shape[1 + a]
        rows = x.reshape(*x.shape[: 1 + a], length, -1)
        lead = rows.reshape(-1, length, rows.shape[-1])
        if _folds(axis, a == 0):
            half = length // 2
            first, second = lead[:, :half], lead[:, half:]
            parts = [
                constant(axis, even, x).T @ (first + second),
                constant(axis, odd, x).T @ (first - second),
            ]
            done = _interleave(parts, axis)
        elif lead.shape[-1] == 1:
            done = (lead[..., 0] @ constant(axis, whole, x))[..., None]
        else:
            done = constant(axis, whole, x).T @ lead
        x = done.reshape(*x.shape[: 1 + a], 2 * (axis.highest + 1), *x.shape[2 + a :])
    return x


def _interleave(parts: list[Tensor], axis: AxisPlan) -> Tensor:
    """Put even and odd modes, each (N, 2·count, rest), back in order."""
    joined = torch.cat(parts, dim=1)
    return joined.index_select(1, constant(axis, _mode_order, parts[0]))


def _mode_order(axis: AxisPlan) -> np.ndarray:
    """Where mode j's cosine and sine stand among even, then odd modes."""
    j = np.arange(axis.highest + 1)
    evens, odds = (axis.highest + 2) // 2, (axis.highest + 1) // 2
    cosine = np.where(j % 2 == 0, j // 2, 2 * evens + j // 2)
    return np.concatenate([cosine, cosine + np.where(j % 2 == 0, evens, odds)])


def _parity_order(axis: AxisPlan) -> np.ndarray:
    """Inverse of `_mode_order`."""
    return np.argsort(_mode_order(axis))


def _expand(x: Tensor, plan: Plan, side: str, y: Tensor) -> None:
    """Transpose of `_contract`, into `y`."""
    whole, even, odd = _MATRICES[side]
    for a in range(plan.dim - 1, -1, -1):
        axis = plan.axes[a]
        lead = x.reshape(int(np.prod(x.shape[: 1 + a])), x.shape[1 + a], -1)
        if _folds(axis, a == 0):
            ordered = lead.index_select(1, constant(axis, _parity_order, x))
            evens = constant(axis, even, x)
            split, half = evens.shape[1], axis.n // 2
            u = evens @ ordered[:, :split]
            v = constant(axis, odd, x) @ ordered[:, split:]
            rows = y.view(*lead.shape[:1], axis.n, -1)
            torch.add(u, v, out=rows[:, :half])
            torch.sub(u, v, out=rows[:, half:])
            return
        if lead.shape[-1] == 1:
            done = (lead[..., 0] @ constant(axis, whole, x).T)[..., None]
        else:
            done = constant(axis, whole, x) @ lead
        x = done.reshape(*x.shape[: 1 + a], done.shape[1], *x.shape[2 + a :])
    y.copy_(x)


@lru_cache(maxsize=3)
def sign_table(dim: int) -> np.ndarray:
    """Real and imaginary parts of Π(c_a − iσ_a s_a) in products of cosines and sines.

    Shape ``(signs, 2, 2^d)``: for each choice of the signs of the leading axes (the last is +),
    part, and block (cosine 0 or sine 1 along each axis, the first slowest).
    """
    table = np.zeros((2 ** (dim - 1), 2, 2**dim))
    for s, signs in enumerate(product((1, -1), repeat=dim - 1)):
        for b, sines in enumerate(product((0, 1), repeat=dim)):
            value = np.prod([(-1j * sign) ** t for sign, t in zip((*signs, 1), sines, strict=True)])
            table[s, 0, b], table[s, 1, b] = value.real, value.imag
    return table


def _blocks(x: Tensor, plan: Plan) -> Tensor:
    """``(N, 2(J_1+1), …)`` to ``(N, 2^d, (J_1+1)…)``."""
    sizes = [a.highest + 1 for a in plan.axes]
    split = x.reshape(x.shape[0], *(v for k in sizes for v in (2, k)))
    d = plan.dim
    order = [0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2)]
    return split.permute(order).reshape(x.shape[0], 2**d, -1)


def _unblocks(blocks: Tensor, plan: Plan) -> Tensor:
    sizes = [a.highest + 1 for a in plan.axes]
    d = plan.dim
    split = blocks.reshape(blocks.shape[0], *(2,) * d, *sizes)
    order = [0, *(v for a in range(d) for v in (1 + a, 1 + d + a))]
    return split.permute(order).reshape(blocks.shape[0], *(2 * k for k in sizes))


def _places(plan: Plan) -> np.ndarray:
    """Flat place of each mode kept in ``(signs, |j_1|, …, j_d)``."""
    flat = np.zeros_like(plan.kept[-1])
    for j in plan.kept[:-1]:
        flat = 2 * flat + (j < 0)
    for axis, j in zip(plan.axes, plan.kept, strict=True):
        flat = flat * (axis.highest + 1) + np.abs(j)
    return flat


def _gather(x: Tensor, plan: Plan) -> Tensor:
    blocks = _blocks(x, plan)
    table = torch.as_tensor(sign_table(plan.dim), dtype=x.dtype, device=x.device)
    parts = torch.einsum("srb,nbk->rnsk", table, blocks)
    flat = parts.reshape(2, x.shape[0], -1)
    return flat.index_select(2, constant(plan, _places, x))


def _scatter(z: Tensor, plan: Plan) -> Tensor:
    signs = 2 ** (plan.dim - 1)
    size = int(np.prod([a.highest + 1 for a in plan.axes]))
    flat = z.new_zeros(2, z.shape[1], signs * size)
    flat = flat.index_copy(2, constant(plan, _places, z), z)
    table = torch.as_tensor(sign_table(plan.dim), dtype=z.dtype, device=z.device)
    blocks = torch.einsum("srb,rnsk->nbk", table, flat.reshape(2, z.shape[1], signs, size))
    return _unblocks(blocks, plan)
