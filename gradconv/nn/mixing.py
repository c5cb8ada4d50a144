"""Products with the symbols of all channel pairs, mode by mode, in torch.

Modes come first and are taken in blocks that stay in cache: S is made, used and forgotten. The
backward pass makes it again; all that the forward pass leaves behind is the input's spectrum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor

from gradconv.nn.plan import Plan
from gradconv.nn.transform import constant

Pair = tuple[Tensor, Tensor]  # real and imaginary parts
_BLOCK = 2**17  # entries of S at once: half a MiB in single precision


@dataclass(frozen=True)
class Parameters:
    """Kernels in physical units, as tensors.

    Parameters
    ----------
    coefficients : Tensor, shape ``(out, in / groups, terms, P)``
        Of 1, ik_a, (ik_a)(ik_b).
    quadratic : Tensor, shape ``(out, in / groups, terms, d(d+1)/2)``
        Upper triangle of A, row by row.
    drift : Tensor, shape ``(out, in / groups, terms, d)``
        b.
    groups : int
        Groups of channels.
    """

    coefficients: Tensor
    quadratic: Tensor
    drift: Tensor
    groups: int

    @property
    def terms(self) -> int:
        """Exponentials a channel pair."""
        return int(self.drift.shape[2])

    def lanes(self, values: Tensor, term: int) -> Tensor:
        """One term's values, shape ``(columns, groups · in · out)``: the layout of S."""
        out, in_ = values.shape[:2]
        v = values[:, :, term].reshape(self.groups, out // self.groups, in_, -1)
        return v.permute(3, 0, 2, 1).reshape(values.shape[-1], -1)

    def unlanes(self, values: Tensor) -> Tensor:
        """Inverse of `lanes`: ``(columns, lanes)`` to ``(out, in, columns)``."""
        out, in_ = self.drift.shape[:2]
        v = values.reshape(-1, self.groups, in_, out // self.groups)
        return v.permute(1, 3, 2, 0).reshape(out, in_, -1)


def monomials(dim: int, degree: int) -> list[tuple[int, ...]]:
    """List the axes of each monomial up to a degree: (), (0,), (1,), (0, 0), (0, 1), (1, 1)."""
    return [m for n in range(degree + 1) for m in combinations_with_replacement(range(dim), n)]


def degree_of(columns: int, dim: int) -> int:
    """Degree of a prefactor with so many coefficients."""
    return next(n for n in range(3) if len(monomials(dim, n)) == columns)


def _powers(plan: Plan) -> np.ndarray:
    """Real monomials k^m up to degree 4 of the modes kept, shape ``(monomials, modes)``."""
    k = plan.frequencies
    names = monomials(plan.dim, 4)
    return np.stack([np.prod(k[list(m)], axis=0) if m else np.ones(k.shape[1]) for m in names])


def _squares(plan: Plan) -> np.ndarray:
    """Factors of the entries of A in log E, and log w, shape ``(modes, d(d+1)/2 + 1)``."""
    k = plan.frequencies
    rows, columns = np.triu_indices(plan.dim)
    factors = np.where(rows == columns, -1.0, -2.0)[:, None] * k[rows] * k[columns]
    return np.concatenate([factors, np.log(plan.weights)[None]]).T


def _products(plan: Plan) -> np.ndarray:
    """k_a k_b, shape ``(modes, d(d+1)/2)``."""
    k = plan.frequencies
    rows, columns = np.triu_indices(plan.dim)
    return (k[rows] * k[columns]).T


def _frequencies(plan: Plan) -> np.ndarray:
    return plan.frequencies.T


def _blocks(plan: Plan, lanes: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(lanes, 1))
    for start in range(0, plan.modes, step):
        yield slice(start, min(start + step, plan.modes))


class Symbols:
    """w S on blocks of modes; differentiable in the kernels."""

    def __init__(self, p: Parameters, plan: Plan, like: Tensor) -> None:
        self.squares = constant(plan, _squares, like)
        self.k = constant(plan, _frequencies, like)
        self.products = constant(plan, _products, like)
        ones = torch.ones_like(p.lanes(p.drift, 0)[:1])
        terms = range(p.terms)
        # The weights ride along in the exponent.
        self.quadratic = [torch.cat([p.lanes(p.quadratic, t), ones]) for t in terms]
        self.drift = [p.lanes(p.drift, t) for t in terms]
        self.coefficients = [p.lanes(p.coefficients, t) for t in terms]
        self.matrix = (-1, p.drift.shape[1], p.drift.shape[0] // p.groups)

    def exponentials(self, cut: slice) -> list[Pair]:
        """w exp(−kᵀAk + ib·k) of each term, parts ``(modes, lanes)``."""
        found = []
        for quadratic, drift in zip(self.quadratic, self.drift, strict=True):
            size = torch.exp(self.squares[cut] @ quadratic)
            phase = self.k[cut] @ drift
            found.append((size * torch.cos(phase), size * torch.sin(phase)))
        return found

    def matrices(self, exponentials: list[Pair], cut: slice) -> Pair:
        """w S as one matrix a mode and group, parts ``(modes · groups, in, out)``."""
        total: Pair | None = None
        for (real, imaginary), c in zip(exponentials, self.coefficients, strict=True):
            even, odd = self._prefactor(c, cut)
            part = (even * real, even * imaginary)
            if odd is not None:
                part = (part[0] - odd * imaginary, part[1] + odd * real)
            total = part if total is None else (total[0] + part[0], total[1] + part[1])
        assert total is not None
        return total[0].reshape(self.matrix), total[1].reshape(self.matrix)

    def _prefactor(self, c: Tensor, cut: slice) -> tuple[Tensor, Tensor | None]:
        """P(k), real and imaginary parts; None for zero."""
        dim = self.k.shape[1]
        even, odd = c[:1], None
        if len(c) > 1:
            odd = self.k[cut] @ c[1 : 1 + dim]
        if len(c) > 1 + dim:
            even = even - self.products[cut] @ c[1 + dim :]
        return even, odd


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
    symbols, done = Symbols(p, plan, x), []
    for cut in _blocks(plan, _lanes(p)):
        s = symbols.matrices(symbols.exponentials(cut), cut)
        done.append(_product(x[_rows(cut, p)], s))
    return torch.cat(done) if done else x.new_zeros(0, x.shape[1], p.drift.shape[0] // p.groups)


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
    symbols, powers = Symbols(p, plan, x), constant(plan, _powers, x)
    dim, degree = plan.dim, degree_of(p.coefficients.shape[3], plan.dim)
    spectrum, moments = [], [_Moments(dim, degree, x) for _ in range(p.terms)]
    for cut in _blocks(plan, _lanes(p)):
        rows, exponentials = _rows(cut, p), symbols.exponentials(cut)
        if needs[0]:
            spectrum.append(_adjoint(g[rows], symbols.matrices(exponentials, cut)))
        if needs[1]:
            correlation = _correlation(x[rows], g[rows])
            for moment, e in zip(moments, exponentials, strict=True):
                moment.add(e, correlation, powers[:, cut])
    by_spectrum = None
    if needs[0]:
        by_spectrum = torch.cat(spectrum) if spectrum else torch.zeros_like(x)
    return by_spectrum, _by_kernels(moments, p, x) if needs[1] else None


def _lanes(p: Parameters) -> int:
    return int(p.drift.shape[0] * p.drift.shape[1])


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

    def __init__(self, dim: int, degree: int, like: Tensor) -> None:
        self.names = monomials(dim, degree + 2)
        self.even = torch.tensor([[len(m) % 2 == 0] for m in self.names], device=like.device)
        self.total: Tensor | None = None

    def add(self, e: Pair, correlation: Pair, powers: Tensor) -> None:
        """Add a block of modes: even monomials weigh the real part, odd ones the imaginary."""
        mr, mi = (v.reshape(e[0].shape) for v in correlation)
        real = torch.addcmul(e[0] * mr, e[1], mi)
        imaginary = torch.addcmul(e[0] * mi, e[1], mr, value=-1.0)
        p = powers[: len(self.names)]
        part = torch.where(self.even, p @ real, p @ imaginary)
        self.total = part if self.total is None else self.total + part

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
        assert self.total is not None
        return self.total[self.names.index(tuple(sorted(axes)))]


def _by_kernels(moments: list[_Moments], p: Parameters, x: Tensor) -> Parameters:
    """Gradients by coefficients, A and b from the moments; all are polynomials in k."""
    if moments[0].total is None:
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
