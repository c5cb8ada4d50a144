"""Few Fourier modes of many fields, as matrix products in torch.

All arithmetic is real. A field times cosines and sines along each of d axes gives 2^d real
blocks; a fixed matrix of 0, 1 and −1 turns them into real and imaginary parts for each choice of
signs of the leading frequencies. Synthesis is the transpose of analysis with other matrices.
"""

from __future__ import annotations

from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gradconv.nn.engine.buffers import empty
from gradconv.nn.engine.plan import AxisPlan, Plan
from gradconv.nn.engine.threads import share_operations

_FOLD_FROM = 64  # shorter axes gain nothing from the half-period symmetry
# Points transformed at once: 2 MiB in single precision stay in cache; a GPU wants more.
_CHUNK, _CHUNK_GPU = 2**19, 2**27
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
        chunk = _CHUNK if x.device.type == "cpu" else _CHUNK_GPU
        step = max(1, chunk // size)
        chunks = [slice(i, min(i + step, count)) for i in range(0, count, step)]
        if to_modes:
            z = _fresh((2, count, plan.modes), x)

            def analyse(begin: int, end: int) -> None:
                for c in chunks[begin:end]:
                    _gather(_contract(x[c], plan, side), plan, z[:, c])

            share_operations(analyse, len(chunks), x)
            return z
        y = _fresh((count, *((a.n if side == "forward" else a.out) for a in plan.axes)), x)

        def synthesise(begin: int, end: int) -> None:
            for c in chunks[begin:end]:
                _expand(_scatter(x[:, c], plan), plan, side, y[c])

        share_operations(synthesise, len(chunks), x)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.plan, ctx.side, ctx.to_modes = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _linear(grads[0], ctx.plan, ctx.side, not ctx.to_modes), None, None, None


def _fresh(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return empty(shape, like) if like.device.type == "cpu" else like.new_empty(shape)


def constant(holder: AxisPlan | Plan, name: object, like: Tensor) -> Tensor:
    """Array `name` of a plan as a tensor of `like`'s type and device, made once."""
    kept = _converted.setdefault(holder, {})
    key = (name, like.dtype, like.device)
    if key not in kept:
        values = name(holder) if callable(name) else getattr(holder, str(name))
        array = np.array(values)  # a copy of its own
        dtype = like.dtype if array.dtype.kind == "f" else torch.int64
        with torch.inference_mode(False):  # it will serve calls that are differentiated
            kept[key] = torch.from_numpy(array).to(device=like.device, dtype=dtype)
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


def folds(axis: AxisPlan) -> bool:
    """Whether the half-period symmetry of an axis is used."""
    return axis.folded and axis.n >= _FOLD_FROM and axis.highest > 0


def _contract(x: Tensor, plan: Plan, side: str) -> Tensor:
    """Cosine and sine parts along every axis, ``(N, waves_1, …)`` in the order of `_waves`."""
    whole, even, odd = _MATRICES[side]
    for a, axis in enumerate(plan.axes):
        shape, half = x.shape, x.shape[1 + a] // 2
        lead = x.reshape(int(np.prod(shape[: 1 + a])), shape[1 + a], -1)
        if folds(axis):
            first, second = lead[:, :half], lead[:, half:]
            parts = [(first + second, even), (first - second, odd)]
        else:
            parts = [(lead, whole)]
        done = [_times(constant(axis, matrix, x).T, part) for part, matrix in parts]
        x = torch.cat(done, dim=1) if len(done) > 1 else done[0]
        x = x.reshape(*shape[: 1 + a], 2 * (axis.highest + 1), *shape[2 + a :])
    return x


def _expand(x: Tensor, plan: Plan, side: str, y: Tensor) -> None:
    """Transpose of `_contract`, into `y`."""
    whole, even, odd = _MATRICES[side]
    for a in range(plan.dim - 1, -1, -1):
        axis, shape = plan.axes[a], x.shape
        lead = x.reshape(int(np.prod(shape[: 1 + a])), shape[1 + a], -1)
        if folds(axis):
            evens, half = constant(axis, even, x), axis.n // 2
            split = evens.shape[1]
            u, v = _times(evens, lead[:, :split]), _times(constant(axis, odd, x), lead[:, split:])
            size = (lead.shape[0], axis.n, lead.shape[2])
            rows = y.view(size) if a == 0 else x.new_empty(size)
            torch.add(u, v, out=rows[:, :half])
            torch.sub(u, v, out=rows[:, half:])
            x = rows
        else:
            x = _times(constant(axis, whole, x), lead)
        x = x.reshape(*shape[: 1 + a], -1, *shape[2 + a :])
    if x.data_ptr() != y.data_ptr():
        y.copy_(x)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """Product along the middle axis of three; many columns of one entry are rows of one matrix."""
    return (x[..., 0] @ matrix.T)[..., None] if x.shape[-1] == 1 else matrix @ x


def _waves(axis: AxisPlan) -> np.ndarray:
    """Places of mode j's cosine and sine along a contracted axis, shape ``(2, J + 1)``.

    Cosines, then sines; with a folded axis those of even modes, then those of odd ones.
    """
    j = np.arange(axis.highest + 1)
    if not folds(axis):
        return np.stack([j, j + len(j)])
    evens, odds = (axis.highest + 2) // 2, (axis.highest + 1) // 2
    cosine = np.where(j % 2 == 0, j // 2, 2 * evens + j // 2)
    return np.stack([cosine, cosine + np.where(j % 2 == 0, evens, odds)])


def _sines(dim: int) -> np.ndarray:
    """Which axes are sines in each of the 2^d blocks, shape ``(2^d, d)``."""
    return np.array(list(product((0, 1), repeat=dim)))


def _parts(dim: int) -> list[int]:
    """Part that each block belongs to: 0 for real, 1 for imaginary."""
    return [int(s) % 2 for s in _sines(dim).sum(axis=1)]


def _sources(plan: Plan) -> np.ndarray:
    """Flat place of each block of each mode kept, shape ``(2^d · modes,)``."""
    flat = np.zeros((2**plan.dim, plan.modes), dtype=np.int64)
    for a, axis in enumerate(plan.axes):
        places = _waves(axis)
        chosen = places[_sines(plan.dim)[:, a][:, None], np.abs(plan.kept[a])[None]]
        flat = flat * (2 * (axis.highest + 1)) + chosen
    return flat.reshape(-1)


def _factors(plan: Plan) -> np.ndarray:
    """Sign of each block in Π(cos_a − iσ_a sin_a), less the power of i, ``(2^d, modes)``.

    (−i)^s of s sines is 1, −i, −1, i: real for even s, imaginary for odd.
    """
    sines = _sines(plan.dim)
    sign = np.where(np.isin(sines.sum(axis=1), (1, 2)), -1.0, 1.0)[:, None]
    for a, j in enumerate(plan.kept):
        sign = sign * np.where((sines[:, a][:, None] == 1) & (j < 0), -1.0, 1.0)
    return sign


def _targets(plan: Plan) -> np.ndarray:
    """Which part of which mode goes into each contracted entry, ``(2^(d−1), entries)``.

    A row belongs to one choice of signs of the leading frequencies. Places count the modes of the
    real parts with a zero after them, then those of the imaginary parts.
    """
    entries = int(np.prod([2 * (a.highest + 1) for a in plan.axes]))
    table = np.full((2 ** (plan.dim - 1), entries), plan.modes, dtype=np.int64)
    for block, part in zip(_sources(plan).reshape(2**plan.dim, -1), _parts(plan.dim), strict=True):
        table[_signs(plan), block] = part * (plan.modes + 1) + np.arange(plan.modes)
    return table


def _target_factors(plan: Plan) -> np.ndarray:
    """Sign with which it goes there, ``(2^(d−1), entries)``."""
    entries = int(np.prod([2 * (a.highest + 1) for a in plan.axes]))
    table = np.zeros((2 ** (plan.dim - 1), entries))
    blocks = _sources(plan).reshape(2**plan.dim, -1)
    for block, factor in zip(blocks, _factors(plan), strict=True):
        table[_signs(plan), block] = factor
    return table


def _signs(plan: Plan) -> np.ndarray:
    """Number of the choice of signs of each mode kept."""
    number = np.zeros(plan.modes, dtype=np.int64)
    for j in plan.kept[:-1]:
        number = 2 * number + (j < 0)
    return number


def _gather(x: Tensor, plan: Plan, z: Tensor) -> None:
    """Real and imaginary parts of the modes kept, into `z`, shape ``(2, N, modes)``."""
    blocks = x.reshape(x.shape[0], -1).index_select(1, constant(plan, _sources, x))
    blocks = blocks.view(x.shape[0], 2**plan.dim, -1)
    factors = constant(plan, _factors, x)
    begun = [False, False]
    for b, part in enumerate(_parts(plan.dim)):
        if begun[part]:
            z[part].addcmul_(blocks[:, b], factors[b])
        else:
            torch.mul(blocks[:, b], factors[b], out=z[part])
        begun[part] = True


def _scatter(z: Tensor, plan: Plan) -> Tensor:
    """Transpose of `_gather`, shape ``(N, waves_1, waves_2, …)``."""
    padded = z.new_zeros(z.shape[1], 2, plan.modes + 1)
    padded[:, :, :-1] = z.transpose(0, 1)
    flat = padded.view(z.shape[1], -1)
    targets, factors = constant(plan, _targets, z), constant(plan, _target_factors, z)
    total = flat.index_select(1, targets[0]).mul_(factors[0])
    for target, factor in zip(targets[1:], factors[1:], strict=True):
        total.addcmul_(flat.index_select(1, target), factor)
    return total.view(z.shape[1], *(2 * (a.highest + 1) for a in plan.axes))
