"""Fits of stencils by fixed exponentials: one projection a set of them, each pair its best set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, product

import torch
from torch import Tensor

from gradconv.nn.fitting.refine import Kernels, exponentials, monomial_values
from gradconv.nn.fitting.stencil_space import FIT_GRADING, StencilSpace

# Smaller singular values are not used: it costs little accuracy and keeps the coefficients of
# neighbouring exponentials from growing large and cancelling.
CONDITION = 3e-3


@lru_cache(maxsize=8)
def dictionary(space: StencilSpace) -> tuple[Tensor, Tensor]:
    """Atoms: widths (all axes alike) and drifts in cells, shapes ``(N,)`` and ``(N, d)``."""
    limits = space.limits
    spots = torch.tensor(list(product((0.0, -0.4, 0.4), repeat=len(space.mesh))))
    drifts = limits.centre + limits.reach * spots.double()
    small = 1.2 * space.narrowest
    widths = [small, max(1.5 * small, 0.3 * float(max(space.size)))]
    return (
        torch.tensor(widths, dtype=torch.float64).repeat_interleave(len(drifts)),
        drifts.repeat(len(widths), 1),
    )


@lru_cache(maxsize=8)
def _inner_products(space: StencilSpace, derivatives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Products over the band of atoms with atoms, atoms with taps, and taps with taps.

    Shapes ``(N M, N M)``, ``(N M, taps)`` and ``(taps, taps)``, M prefactors an atom.
    """
    theta, power, _ = space.band(FIT_GRADING)
    widths, drifts = dictionary(space)
    eye = torch.eye(len(space.mesh), dtype=torch.float64)
    waves = exponentials(theta, widths[:, None, None] ** 2 / 2.0 * eye, drifts)  # (N, K)
    atoms = waves.T[..., None] * monomial_values(theta, derivatives)[:, None]
    columns = atoms.flatten(1) * power.sqrt()[:, None]
    taps = space.stencil(theta) * power.sqrt()[:, None]
    return (columns.mH @ columns).real, (columns.mH @ taps).real, (taps.mH @ taps).real


def _projections(
    space: StencilSpace, derivatives: int, sets: Sequence[tuple[int, ...]]
) -> tuple[Tensor, Tensor]:
    """Maps from the taps to the coefficients of each set, and the squared errors as forms.

    Shapes ``(S, E M, taps)`` and ``(S, taps, taps)``.
    """
    gram, cross, square = _inner_products(space, derivatives)
    count = len(gram) // len(dictionary(space)[0])
    columns = (torch.tensor(sets)[..., None] * count + torch.arange(count)).flatten(1)
    values, vectors = torch.linalg.eigh(gram[columns[:, :, None], columns[:, None, :]])
    kept = values > CONDITION**2 * values[:, -1:]
    inverse = torch.where(kept, 1.0 / torch.where(kept, values, 1.0), 0.0)
    right = cross[columns]
    solved = vectors @ (inverse[..., None] * (vectors.mT @ right))
    return solved, square - right.mT @ solved


def best_of_dictionary(space: StencilSpace, w: Tensor, terms: int, derivatives: int) -> Kernels:
    """Best set of one or two atoms for each pair, and then the best one more until all are had.

    Parameters
    ----------
    space : StencilSpace
        Taps, mesh and band.
    w : Tensor
        Weights, shape ``(p, taps)``.
    terms, derivatives : int
        Exponentials a pair, and order of their prefactors.

    Returns
    -------
    Kernels
        Of the p pairs.
    """
    widths, drifts = dictionary(space)
    groups: dict[tuple[int, ...], Tensor] = {(): torch.arange(len(w))}
    for count in [min(terms, 2), *range(3, terms + 1)]:
        chosen: dict[tuple[int, ...], list[Tensor]] = {}
        for group, members in groups.items():
            sets = _extensions(len(widths), group, count)
            best = _best_sets(space, derivatives, w[members], sets)
            for index in best.unique().tolist():
                chosen.setdefault(tuple(sorted(sets[index])), []).append(members[best == index])
        groups = {picked: torch.cat(parts) for picked, parts in chosen.items()}
    dim = len(space.mesh)
    prefactors = monomial_values(torch.zeros(1, dim), derivatives).shape[1]
    coefficients = w.new_zeros(len(w), terms, prefactors)
    factor = w.new_zeros(len(w), terms, dim, dim)
    drift = w.new_zeros(len(w), terms, dim)
    for picked, members in groups.items():
        solved = _projections(space, derivatives, [picked])[0][0]
        coefficients[members] = (w[members] @ solved.T).unflatten(1, (terms, prefactors))
        excess = torch.sqrt(widths[list(picked)] ** 2 / 2.0 - space.limits.lowest)
        factor[members] = excess[:, None, None] * torch.eye(dim, dtype=w.dtype)
        away = (drifts[list(picked)] - space.limits.centre) / space.limits.reach
        drift[members] = torch.atanh(away)
    return Kernels(coefficients, factor, drift)


def _extensions(atoms: int, group: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Sets of `count` atoms that hold a group.

    Where there are too few atoms the last one is taken again: a share of its coefficients.
    """
    others = [i for i in range(atoms) if i not in group]
    sets = [(*group, *more) for more in combinations(others, count - len(group))]
    return sets or [(*group, *group[-1:] * (count - len(group)))]


def _best_sets(
    space: StencilSpace, derivatives: int, w: Tensor, sets: list[tuple[int, ...]]
) -> Tensor:
    """Index of the set with the least error for each pair."""
    least, index = w.new_full((len(w),), math.inf), torch.zeros(len(w), dtype=torch.int64)
    for i, form in enumerate(_projections(space, derivatives, sets)[1]):
        square = ((w @ form) * w).sum(dim=1)
        index[square < least] = i
        least = torch.minimum(square, least)
    return index
