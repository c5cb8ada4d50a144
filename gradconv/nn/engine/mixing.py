"""Products with the symbols of all channel pairs, mode by mode, in torch.

Modes come first and are taken in blocks that stay in cache: S is made, used and forgotten. The
backward pass makes it again; all that the forward pass leaves behind is the input's spectrum.
"""

from __future__ import annotations

import functools
from functools import cached_property

import torch
from torch import Tensor

from gradconv.nn.engine.pairs import Pair, Parameters, degree_of, monomials, powers
from gradconv.nn.engine.plan import Plan
from gradconv.nn.engine.symbols import Piece, Symbols
from gradconv.nn.engine.threads import share_operations
from gradconv.nn.engine.transform import constant


def to_modes(z: Tensor, groups: int, batch: int) -> Tensor:
    """Spectrum ``(2, B·C, modes)`` as ``(modes · groups, 2B, C/groups)``, real parts first."""
    split = z.reshape(2, batch, groups, -1, z.shape[-1])
    moved = split.permute(4, 2, 0, 1, 3).contiguous()
    return moved.reshape(z.shape[-1] * groups, 2 * batch, split.shape[3])


def from_modes(y: Tensor, groups: int, batch: int) -> Tensor:
    """Inverse of `to_modes`."""
    split = y.reshape(-1, groups, 2, batch, y.shape[-1])
    moved = split.permute(2, 3, 1, 4, 0).contiguous()
    return moved.reshape(2, batch * groups * y.shape[-1], split.shape[0])


def mix(x: Tensor, p: Parameters, plan: Plan) -> Tensor:
    """w Σ_i S_oi X_i on every mode; differentiable.

    Parameters
    ----------
    x : Tensor, shape ``(modes · groups, 2B, in / groups)``
        Spectrum of the input, modes first.
    p : Parameters
        The kernels.
    plan : Plan
        The modes.

    Returns
    -------
    Tensor, shape ``(modes · groups, 2B, out / groups)``
        Spectrum of the output, weighted for conjugates.
    """
    symbols = Symbols(p, plan, x)
    pieces = symbols.pieces()
    parts: list[Tensor] = [x] * len(pieces)

    def work(begin: int, end: int) -> None:
        for n in range(begin, end):
            rows = _rows(pieces[n].cut, p)
            parts[n] = _product(x[rows], symbols.matrices(pieces[n]))

    share_operations(work, len(pieces), x)
    if not pieces:
        return x.new_zeros(0, x.shape[1], len(p.drift) // p.groups)
    return _in_order(pieces, parts)


def mix_backward(
    g: Tensor, x: Tensor, p: Parameters, plan: Plan, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Parameters | None]:
    """Gradients of Σ ⟨g, mix(x)⟩ by the spectrum and by the kernels.

    Parameters
    ----------
    g : Tensor, shape ``(modes · groups, 2B, out / groups)``
        Gradient by the output's spectrum.
    x, p, plan
        As in `mix`.
    needs : tuple of bool
        Whether the gradient by the spectrum, and by the kernels, is wanted.

    Returns
    -------
    tuple
        Shape of `x`, and the shapes of `p`; None where not wanted.
    """
    symbols, monomial = Symbols(p, plan, x), constant(plan, powers, x)
    dim, degree = plan.dim, degree_of(p.coefficients.shape[3], plan.dim)
    pieces = symbols.pieces()
    parts: list[Tensor] = [x] * len(pieces)
    moments = [_Moments(dim, degree, len(pieces), x) for _ in range(p.terms)]

    def work(begin: int, end: int) -> None:
        for n in range(begin, end):
            piece = pieces[n]
            rows, exponentials = _rows(piece.cut, p), symbols.exponentials(piece)
            if needs[0]:
                parts[n] = _adjoint(g[rows], symbols.matrices(piece, exponentials))
            if needs[1]:
                correlation = _correlation(x[rows], g[rows])
                for moment, e in zip(moments, exponentials, strict=True):
                    moment.put(n, e, correlation, monomial[:, piece.cut])

    share_operations(work, len(pieces), x)
    by_spectrum = None
    if needs[0]:
        by_spectrum = _in_order(pieces, parts) if pieces else torch.zeros_like(x)
    return by_spectrum, _by_kernels(moments, p) if needs[1] else None


def _in_order(pieces: list[Piece], parts: list[Tensor]) -> Tensor:
    """Join what was found for each piece of the modes."""
    order = sorted(range(len(pieces)), key=lambda n: pieces[n].cut.start)
    return torch.cat([parts[n] for n in order])


def _rows(cut: slice, p: Parameters) -> slice:
    return slice(cut.start * p.groups, cut.stop * p.groups)


def _product(x: Tensor, s: Pair) -> Tensor:
    """Σ_i S_oi X_i, ``(rows, 2B, out)``; in real products, two are faster than a complex one."""
    half = x.shape[1] // 2
    by_real, by_imaginary = x @ s[0], x @ s[1]
    real = by_real[:, :half] - by_imaginary[:, half:]
    return torch.cat([real, by_real[:, half:] + by_imaginary[:, :half]], dim=1)


def _adjoint(g: Tensor, s: Pair) -> Tensor:
    """Σ_o conj(S_oi) G_o, ``(rows, 2B, in)``."""
    half = g.shape[1] // 2
    by_real, by_imaginary = g @ s[0].transpose(1, 2), g @ s[1].transpose(1, 2)
    real = by_real[:, :half] + by_imaginary[:, half:]
    return torch.cat([real, by_real[:, half:] - by_imaginary[:, :half]], dim=1)


def _correlation(x: Tensor, g: Tensor) -> Pair:
    """Σ_b G_o conj(X_i), each part ``(rows, in, out)``."""
    half = g.shape[1] // 2
    turned = torch.cat([g[:, half:], -g[:, :half]], dim=1)
    sides = x.transpose(1, 2)
    return sides @ g, sides @ turned


class _Moments:
    """Σ_k k^m conj(E) M for the monomials that the gradients need."""

    def __init__(self, dim: int, degree: int, pieces: int, like: Tensor) -> None:
        self.names = monomials(dim, degree + 2)
        self.even = torch.tensor([[len(m) % 2 == 0] for m in self.names], device=like.device)
        self.parts: list[Tensor] = [like] * pieces

    def put(self, n: int, e: Pair, correlation: Pair, powers: Tensor) -> None:
        """Find those of a piece: even monomials weigh the real part, odd ones the imaginary."""
        mr, mi = (v.reshape(e[0].shape) for v in correlation)
        real = torch.addcmul(e[0] * mr, e[1], mi)
        imaginary = torch.addcmul(e[0] * mi, e[1], mr, value=-1.0)
        p = powers[: len(self.names)]
        self.parts[n] = torch.where(self.even, p @ real, p @ imaginary)

    @cached_property
    def total(self) -> Tensor:
        """Sum over the pieces, in their order."""
        return functools.reduce(torch.add, self.parts)

    def weighed(
        self,
        c: Tensor,
        names: list[tuple[int, ...]],
        more: tuple[int, ...],
        signs: tuple[float, ...],
    ) -> Tensor:
        """Σ_m ± c_m times the moment of k^m and the axes `more`, shape ``(lanes,)``."""
        parts = [signs[len(m)] * c[j] * self[m + more] for j, m in enumerate(names)]
        return torch.stack(parts).sum(dim=0)

    def __getitem__(self, axes: tuple[int, ...]) -> Tensor:
        return self.total[self.names.index(tuple(sorted(axes)))]


def _by_kernels(moments: list[_Moments], p: Parameters) -> Parameters:
    """Gradients by coefficients, A and b from the moments; all are polynomials in k."""
    if not moments[0].parts:
        zeros = [torch.zeros_like(v) for v in (p.coefficients, p.quadratic, p.drift)]
        return Parameters(zeros[0], zeros[1], zeros[2], p.groups)
    dim = p.drift.shape[3]
    names = monomials(dim, degree_of(p.coefficients.shape[3], dim))
    entries = [(r, s) for r in range(dim) for s in range(r, dim)]
    by = []
    for term, moment in enumerate(moments):
        c = p.lanes(p.coefficients, term)
        coefficients = torch.stack([_SIGNS[len(m)] * moment[m] for m in names])

        quadratic = torch.stack(
            [
                (-1.0 if r == s else -2.0) * moment.weighed(c, names, (r, s), _SIGNS)
                for r, s in entries
            ]
        )
        # Re conj(ik_a P E) M: a factor i more turns the pattern of signs by one.
        drift = torch.stack([moment.weighed(c, names, (a,), _TURNED) for a in range(dim)])
        by.append([p.unlanes(v) for v in (coefficients, quadratic, drift)])
    joined = [torch.stack(v, dim=2) for v in zip(*by, strict=True)]
    return Parameters(joined[0], joined[1], joined[2], p.groups)


# Re[conj(i^n) z] is Re z, Im z, −Re z, −Im z: the sign for n = 0, 1, 2, and for n + 1.
_SIGNS = (1.0, 1.0, -1.0)
_TURNED = (1.0, -1.0, -1.0)
