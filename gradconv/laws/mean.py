"""Expansion of the mean gradient in powers of h: vectors, one for each power.

The mean gradient is Σ_k Re[conj(∂σ)(σ P(k) − δ C(k))]. Two regions of k matter (the method of
regions). *Inner*, k of order 1: everything that depends on kh is expanded, and what is left are
moments of the spectrum. *Outer*, k of order 1/h, for kernels that live on the grid: the spectrum is
replaced by its power-law tail, and what is left are integrals over the frequencies of a cell. Where
an inner moment diverges like a logarithm, the two together leave log(1/h).

The signal's part and the noise's part add. Each is kept, by exactly what it depends on: the
signal's does not know the noise but for its gain, the noise's knows neither target nor signal but
for its density.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradconv.laws.aliases import aliases_known
from gradconv.laws.densities import (
    Density,
    Keyed,
    check_channels,
    noise_density,
    signal_density,
)
from gradconv.laws.expansion import merge
from gradconv.laws.grid import grid_terms
from gradconv.laws.law import VectorTerm
from gradconv.laws.physical import physical_terms
from gradconv.laws.symbols import formula_of, kernel_values, lives_on_grid
from gradconv.laws.transfers import transfer_of
from gradconv.problem import Problem

KEPT = 4096  # parts in memory


def mean_terms(problem: Problem) -> tuple[VectorTerm, ...]:
    """All terms of the mean gradient up to relative order `ORDER`.

    Parameters
    ----------
    problem : Problem
        A periodic problem.

    Raises
    ------
    LawError
        If an assumption fails; the message names it.
    """
    grid, transfer = _lives_on_grid(_kernel(problem)), transfer_of(problem)
    signal, noise = _density(problem, "signal"), _density(problem, "noise")
    check_channels(problem)
    shared = (_kernel(problem).key, problem.setting, problem.restriction, problem.route)
    terms: list[VectorTerm] = []
    if signal is not None:
        key = (*shared, problem.signal, problem.target, problem.noise.gain)
        terms += _part(Keyed(key, problem), "signal")
    if noise is not None:
        terms += _part(Keyed((*shared, noise), problem), "noise")
    if problem.noise.offset:
        terms.append(_offset(problem))
    if signal is not None and not (grid or signal.finite or transfer.cut):
        # of the signal's own aliases the first orders are expanded, or none
        known = aliases_known(problem, transfer, signal)
        terms = [t for t in terms if t.exponent + t.fine_exponent < known]
    return merge(terms)


def _kernel(problem: Problem) -> Keyed:
    given = ((o, np.asarray(getattr(problem.options, o))) for o in problem.options.given())
    values = tuple((o, v.shape, v.astype(float).tobytes()) for o, v in given)
    return Keyed((problem.kernel, values, problem.dim, problem.channels), problem)


@lru_cache(maxsize=KEPT)
def _lives_on_grid(kernel: Keyed) -> bool:
    return lives_on_grid(formula_of(kernel.problem.convolution))


def _density(problem: Problem, origin: str) -> Density | None:
    own = (problem.signal, problem.dim)
    if origin == "noise":
        return _noise_density(Keyed((*own, problem.noise, problem.setting), problem))
    return _signal_density(Keyed(own, problem))


@lru_cache(maxsize=KEPT)
def _signal_density(keyed: Keyed) -> Density | None:
    return signal_density(keyed.problem)


@lru_cache(maxsize=KEPT)
def _noise_density(keyed: Keyed) -> Density | None:
    return noise_density(keyed.problem)


@lru_cache(maxsize=KEPT)
def _part(keyed: Keyed, origin: str) -> tuple[VectorTerm, ...]:
    """What the signal or the noise adds to the mean gradient."""
    problem = keyed.problem
    density = _density(problem, origin)
    assert density is not None
    formula, transfer = formula_of(problem.convolution), transfer_of(problem)
    expand = grid_terms if _lives_on_grid(_kernel(problem)) else physical_terms
    return tuple(expand(problem, formula, transfer, density, origin))


def _offset(problem: Problem) -> VectorTerm:
    """A constant input: the mode k = 0 alone, all channels alike."""
    values = kernel_values(problem.convolution, tuple(np.zeros(1) for _ in range(problem.dim)), 1.0)
    total = values.symbol[..., 0].sum(axis=1)
    vector = np.real(np.conj(values.slopes[..., 0]) * total[:, None, None])
    return VectorTerm(0.0, 0.0, 0, problem.noise.offset**2 * vector, "noise", "inner")
