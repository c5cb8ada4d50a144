"""Expansion of the gap's variance in powers of h.

Three parts add up: signal with signal, signal with noise, noise with noise. At modes k of order 1
both levels see the same mode, and everything that depends on kh is expanded along rays; noise with
noise on kernels that live on the grid is a sum over all frequencies, see
`gradconv.laws.variance.cells`.

With A = conj(∂σ)(Gσ − m) and B = conj(∂σ)Gσ at a mode, T the signal's transfer, N the noise's
covariance and signs s = ±1 of the two levels, Isserlis' theorem gives for every parameter

    signal:         Σ_k P² G² [Σ_i' |Σ_a s T² A_i'|² + (Σ_a s T² A_i)²]
    signal × noise: Σ_k P Σ_ab s s T_a T_b [Σ_i' (B_a B̄_b N_ab + A_a Ā_b N_ba) + 2 B_a A_b N_ab]
    noise:          Σ_k Σ_ab s s |N_ab|² [Σ_i' B_a B̄_b + B_a B_b] / G²

(i' runs over input channels; the terms without a bar have i' = i). A signal of infinitely many
modes has aliases, uncorrelated with the mode that they meet, with covariance Q of the two levels.
They are also in the target, with its multiplier m∞ far out, so that they act like noise of
covariance G²Q with C = conj(∂σ)(Gσ − m∞) in the place of B:

    signal × alias: Σ_k P G² Σ_ab s s T_a T_b [Σ_i' (C_a C̄_b Q_ab + A_a Ā_b Q_ba) + 2 C_a A_b Q_ab]
    noise × alias: Σ_k Σ_ab s s [Σ_i' (B_a B̄_b N_ab Q_ba + C_a C̄_b Q_ab N_ba) + 2 C_a B_b Q_ab N_ba]
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from gradconv.fields import PixelLaw
from gradconv.kernels.separable import monomials
from gradconv.laws.aliases import alias_target, aliases_derived, target_growth
from gradconv.laws.densities import (
    Density,
    Keyed,
    check_channels,
    noise_density,
    signal_density,
)
from gradconv.laws.moments import lattice_moment
from gradconv.laws.symbols import formula_of
from gradconv.laws.transfers import transfer_of
from gradconv.laws.variance.cells import cell_terms
from gradconv.laws.variance.contractions import (
    Contraction,
    KernelKey,
    key_of,
)
from gradconv.laws.variance.covariances import (
    Levels,
    Part,
    Sides,
    noise_parts,
    ratio_solver,
    signal_aliases,
)
from gradconv.laws.variance.cumulant import fourth_cumulant
from gradconv.laws.variance.nodes import Nodes, Which, noise_nodes, signal_nodes
from gradconv.laws.variance.rays import Series, chopped, ray_weights, times
from gradconv.laws.variance.scalars import NOTHING, Expansion, ScalarTerm
from gradconv.problem import Problem

SIGNS = {(0, 0): 1.0, (0, 1): -1.0, (1, 0): -1.0, (1, 1): 1.0}


def variance_terms(problem: Problem) -> Expansion:
    """All terms of the variance of the gap that are known.

    Parameters
    ----------
    problem : Problem
        A periodic problem.

    Raises
    ------
    LawError
        If an assumption fails; the message names it.
    """
    formula, transfer = formula_of(problem.convolution), transfer_of(problem)
    check_channels(problem)
    key = key_of(problem, formula)
    signal, noise = signal_density(problem), noise_density(problem)
    # the values themselves: two targets given as functions may share a text
    where = (problem.setting, problem.restriction, problem.route)
    what = (problem.signal, problem.target, problem.noise.gain)
    expansion = Expansion()
    if signal is not None:
        expansion.absorb(_signal_part(Keyed((key, where, what), problem), key))
    if noise is not None:
        expansion.absorb(_noise_part(Keyed((key, where, problem.noise), problem), key))
        if signal is not None:
            parts = noise_parts(problem, transfer, noise)
            _mixed(problem, key, expansion, signal, parts)
            if not (key.grid or signal.finite) and aliases_derived(problem, transfer):
                _noise_aliases(problem, key, expansion, parts)
    expansion.merge()
    return expansion


@lru_cache(maxsize=4096)
def _signal_part(keyed: Keyed, kernel: KernelKey) -> Expansion:
    """Signal with signal, and how far anything with the signal is known."""
    problem = keyed.problem
    signal, transfer, expansion = signal_density(problem), transfer_of(problem), Expansion()
    assert signal is not None
    growth = 0.0 if signal.finite else target_growth(problem)  # refuses unbounded targets
    if not (signal.finite or transfer.cut):
        smoothing = 0 if transfer.single else max(transfer.smoothing, 0)
        lead = signal.alpha + 2 * smoothing
        if kernel.grid or not aliases_derived(problem, transfer):
            known = lead - 2 * growth
            expansion.limit(known, 0.0, "aliases of the signal are not expanded")
        else:
            expansion.limit(2 * lead, 0.0, "aliases of the signal against each other")
            if problem.setting == "coarsening":
                # how sharply the data's mesh ends the aliases, relative to their lead
                end = min(2.0, lead - 1.0) if smoothing else lead - problem.dim + 1.0
                expansion.limit(lead - end, end, "the data's mesh ends the signal's aliases")
            parts = signal_aliases(problem, transfer, signal)
            _mixed(problem, kernel, expansion, signal, parts, alias_target(problem))
    if problem.signal.random:
        _signal(problem, kernel, expansion, signal)
    return expansion


@lru_cache(maxsize=4096)
def _noise_part(keyed: Keyed, kernel: KernelKey) -> Expansion:
    """Noise with noise, whatever the signal."""
    problem = keyed.problem
    noise, transfer, expansion = noise_density(problem), transfer_of(problem), Expansion()
    assert noise is not None
    _noise(problem, kernel, expansion, noise_parts(problem, transfer, noise), noise)
    if kernel.grid:
        cell_terms(problem, kernel, transfer, noise, expansion)
    if isinstance(problem.noise, PixelLaw):
        fourth_cumulant(problem, formula_of(problem.convolution), kernel, transfer, expansion)
    return expansion


@dataclass
class _Sums:
    """Series by power of h and kind of contraction, and the size of what was added up."""

    found: dict[tuple[float, Which], tuple[Series, Series]] = field(default_factory=dict)

    def add(self, power: float, which: Which, series: Series, size: Series) -> None:
        """Add a series; `size` bounds its parts before they cancelled."""
        if (power, which) in self.found:
            before = self.found[power, which]
            series, size = before[0] + series, before[1] + size
        self.found[power, which] = (series, size)

    def totals(self) -> Iterator[tuple[float, Series, Series]]:
        """Series by power of h, where all contractions have the same weights."""
        for power in sorted({power for power, _ in self.found}):
            same = [pair for (p, _), pair in self.found.items() if p == power]
            yield power, np.sum([s for s, _ in same], axis=0), np.sum([z for _, z in same], axis=0)

    def groups(self, alike: bool) -> Iterator[tuple[float, tuple[Which, ...], Series, Series]]:
        """Series with the contractions that they belong to; those of wide kernels are shared."""
        together: dict[tuple[float, Any], list[Which]] = {}
        for (power, which), (series, _) in self.found.items():
            key = (power, series.tobytes() if alike else which)
            together.setdefault(key, []).append(which)
        for (power, _), several in together.items():
            yield power, tuple(several), *self.found[power, several[0]]


def _combine(sums: _Sums, contraction: Contraction, closed: bool, weights: list[Series]) -> None:
    """Add Σ_ab of a contraction's level pairs, each times its weight."""
    parts = contraction.closed if closed else contraction.open
    terms = [times(part[:, None], weight) for part, weight in zip(parts, weights, strict=True)]
    total, size = (np.sum(np.broadcast_arrays(*a), axis=0) for a in (terms, map(np.abs, terms)))
    sums.add(contraction.exponent, (contraction.left, contraction.right, closed), total, size)


def _add(
    expansion: Expansion,
    nodes: Nodes,
    levels: Levels,
    sums: _Sums,
    densities: tuple[Density | Sides, ...],
    signals: int,
    origin: str,
    own: tuple[float, float],
    known: float = math.inf,
) -> None:
    """Turn series into terms: Σ over the modes of each power of h."""
    for power, which, series, size in sums.groups(nodes.profiles is not None):
        weights, degrees = nodes.weights(densities, signals, which)
        base = power + own[0]
        _limits(
            expansion,
            (base, own[1]),
            (degrees, nodes.degree, known),
            series,
            size,
            weights[:degrees],
        )
        for e in range(degrees):
            values = (series[e] @ weights[e]).real
            rounding = NOTHING * (size[e] @ np.abs(weights[e]))
            _record(expansion, values, rounding, e, (base, own[1]), levels, origin)


def _limits(
    expansion: Expansion,
    own: tuple[float, float],
    known: tuple[int, int, float],
    series: Series,
    size: Series,
    weights: list[np.ndarray],
) -> None:
    """How far a sum is known: degrees with moments, degrees of the series, of the noise."""
    felt = any(np.any(w) for w in weights) and np.any(np.abs(series) > NOTHING * size)
    if not felt:
        return  # the two levels are alike to all orders
    power, fine = own
    degrees, most, aliases = known
    if degrees <= most:
        expansion.limit(power + degrees, fine, "moments of the spectrum diverge")
    expansion.limit(power + most + 1, fine, f"series are kept to degree {most}")
    if aliases < most:
        expansion.limit(power + aliases + 1, fine, "aliases are known to first order")


def _record(
    expansion: Expansion,
    values: np.ndarray,
    rounding: np.ndarray,
    degree: int,
    own: tuple[float, float],
    levels: Levels,
    origin: str,
) -> None:
    """Terms h^(p + degree − 2i) h_L^(q + 2i) of values at the ratios λ²."""
    steps = 1 if len(levels.ratios) == 1 else degree // 2 + 1
    solver = ratio_solver(len(levels.ratios), steps)
    spread = np.broadcast_to(rounding, levels.ratios.shape)
    row = np.broadcast_to(values, levels.ratios.shape)
    for step in range(steps):
        value, floor = float(solver[step] @ row), float(np.abs(solver[step]) @ spread)
        if abs(value) > floor:
            powers = (own[0] + degree - 2 * step, own[1] + 2 * step)
            expansion.terms.append(ScalarTerm(*powers, value, origin, "inner"))


def _signal(problem: Problem, key: KernelKey, expansion: Expansion, signal: Density) -> None:
    nodes = signal_nodes(problem, key)
    levels = Levels(problem, transfer_of(problem), nodes.rays, nodes.degree)
    gains = [times(t, t) for t in levels.transfers()]
    gain = problem.noise.gain**2
    weights = [chopped(sign * gain * times(gains[a], gains[b])) for (a, b), sign in SIGNS.items()]
    sums = _Sums()
    for c in nodes.contractions(key, problem.noise.gain):
        _combine(sums, c, False, weights)
        _combine(sums, c, True, weights)
    own = (2 * signal.mesh_exponent, 0.0)
    _add(expansion, nodes, levels, sums, (signal, signal), 2, "signal", own)


def _mixed(
    problem: Problem,
    key: KernelKey,
    expansion: Expansion,
    signal: Density,
    parts: list[Part],
    beyond: float | None = None,
) -> None:
    """Signal with noise; or with its own aliases, given the target's multiplier far out."""
    nodes = signal_nodes(problem, key)
    levels = Levels(problem, transfer_of(problem), nodes.rays, nodes.degree)
    gains = levels.transfers()
    size = 1.0 if beyond is None else problem.noise.gain**2
    origin = "signal x noise" if beyond is None else "signal"
    for part in parts:
        noise = _by_levels(levels, part)
        straight, turned = [], []
        for (a, b), sign in SIGNS.items():
            both = size * sign * times(gains[a], gains[b])
            straight.append(chopped(times(both, noise[a, b])))
            turned.append(chopped(times(both, noise[b, a])))
        sums = _Sums()
        for c in nodes.contractions(key, problem.noise.gain):
            _combine(sums, c, False, turned)
            # a multiplier of 1 far out is the identity: aliases are in the target like the signal
            if beyond or not c.left:
                if beyond or not c.right:
                    _combine(sums, c, False, straight)
                _combine(sums, c, True, [2.0 * w for w in straight])
        densities = (signal,) if part.density is None else (signal, part.density)
        own = (part.exponent, part.fine_exponent)
        _add(expansion, nodes, levels, sums, densities, 1, origin, own, part.known)


def _by_levels(levels: Levels, part: Part) -> dict[tuple[int, int], Series]:
    fine, mixed, coarse = levels.noise(part)
    return {(0, 0): fine, (1, 0): mixed, (0, 1): mixed.conj(), (1, 1): coarse}


def _noise_aliases(
    problem: Problem, key: KernelKey, expansion: Expansion, parts: list[Part]
) -> None:
    """Noise with the aliases of the signal."""
    signal, transfer, beyond = signal_density(problem), transfer_of(problem), alias_target(problem)
    assert signal is not None
    nodes = signal_nodes(problem, key)
    levels = Levels(problem, transfer, nodes.rays, nodes.degree)
    aliases = signal_aliases(problem, transfer, signal)
    for noise_part, alias_part in product(parts, aliases):
        noise, alias = _by_levels(levels, noise_part), _by_levels(levels, alias_part)
        weights = [
            chopped(sign * times(noise[a, b], alias[b, a])) for (a, b), sign in SIGNS.items()
        ]
        turned = [chopped(sign * times(noise[b, a], alias[a, b])) for (a, b), sign in SIGNS.items()]
        sums = _Sums()
        for c in nodes.contractions(key, problem.noise.gain):
            if not (c.left or c.right):
                _combine(sums, c, False, weights)
            if beyond or not (c.left or c.right):
                _combine(sums, c, False, turned)
            if not c.right and (beyond or not c.left):
                _combine(sums, c, True, [2.0 * w for w in turned])
        densities = tuple(p.density for p in (noise_part, alias_part) if p.density is not None)
        own = (
            noise_part.exponent + alias_part.exponent,
            noise_part.fine_exponent + alias_part.fine_exponent,
        )
        known = min(noise_part.known, alias_part.known)
        _add(expansion, nodes, levels, sums, densities, 0, "signal x noise", own, known)


def _noise(
    problem: Problem, key: KernelKey, expansion: Expansion, parts: list[Part], noise: Density
) -> None:
    """Noise with noise at modes of order 1."""
    if key.grid and noise.flat:
        return  # smooth at every frequency: nothing is left of a sum over all of them
    nodes = noise_nodes(problem, key)
    levels = Levels(problem, transfer_of(problem), nodes.rays, nodes.degree)
    contractions = nodes.contractions(key, 1.0)
    for one, two in product(parts, repeat=2):
        densities = tuple(p.density for p in (one, two) if isinstance(p.density, Density))
        if key.grid and not densities:
            continue
        sums = _Sums()
        first, second = levels.noise(one), levels.noise(two)
        weights = [
            chopped(sign * times(first[a + b], second[a + b].conj()))
            for (a, b), sign in SIGNS.items()
        ]
        for c in contractions:
            if not (c.left or c.right):
                _combine(sums, c, False, weights)
                _combine(sums, c, True, weights)
        own = (one.exponent + two.exponent, one.fine_exponent + two.fine_exponent)
        known = min(one.known, two.known)
        if key.grid:
            _add_divergent(expansion, nodes, levels, sums, densities, own, known)
        else:
            _add(expansion, nodes, levels, sums, densities, 0, "noise", own, known)


def _add_divergent(
    expansion: Expansion,
    nodes: Nodes,
    levels: Levels,
    sums: _Sums,
    densities: tuple[Density, ...],
    own: tuple[float, float],
    known: float,
) -> None:
    """As `_add`, with finite parts of sums that diverge: the rest is in the cell's integral."""
    shift, alpha, origin = densities[0].shift, densities[0].alpha, densities[0].origin
    scale = math.prod(d.scale for d in densities)
    weights, poles = _finite_parts(nodes.dim, nodes.degree, shift, alpha * len(densities), origin)
    for power, series, size in sums.totals():
        base = power + own[0]
        _limits(
            expansion,
            (base, own[1]),
            (nodes.degree + 1, nodes.degree, known),
            series,
            size,
            weights,
        )
        for e in range(0, nodes.degree + 1, 2):
            rounding = NOTHING * (size[e] @ np.abs(weights[e]))
            felt = np.abs(series[e] @ poles[e]) > 1e-9 * (size[e] @ np.abs(poles[e]))
            if np.any(felt):
                expansion.limit(base + e, own[1], "a logarithm of the fluctuation is not derived")
            values = scale * (series[e] @ weights[e]).real
            _record(expansion, values, scale * rounding, e, (base, own[1]), levels, "noise")


@lru_cache(maxsize=128)
def _finite_parts(
    dim: int, degree: int, shift: float, alpha: float, origin: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights of the rays for finite parts, and for logarithms, by degree."""
    density = Density(1.0, 1, shift=shift, alpha=alpha, origin=origin)
    weights, poles = [], []
    for e in range(degree + 1):
        found = [lattice_moment(density, mu, None) for mu in monomials(dim, e)]
        weights.append(ray_weights(dim, e, degree, np.array([v for v, _ in found])))
        poles.append(ray_weights(dim, e, degree, np.array([p for _, p in found])))
    return weights, poles
