"""Expansion of the mean gradient in powers of h: vectors, one for each power.

The mean gradient is Σ_k Re[conj(∂σ)(σ P(k) − δ C(k))]. Two regions of k matter (the method of
regions). *Inner*, k of order 1: everything that depends on kh is expanded, and what is left are
moments of the spectrum. *Outer*, k of order 1/h, for kernels that live on the grid: the spectrum is
replaced by its power-law tail, and what is left are integrals over the frequencies of a cell. Where
an inner moment diverges like a logarithm, the two together leave log(1/h).
"""

from __future__ import annotations

import numpy as np

from gradconv.errors import LawError
from gradconv.laws.expansion import merge
from gradconv.laws.grid import grid_terms
from gradconv.laws.ingredients import noise_density, signal_density, transfer_of
from gradconv.laws.law import VectorTerm
from gradconv.laws.physical import physical_terms
from gradconv.laws.symbols import formula_of, kernel_values, mesh_size
from gradconv.problem import Problem


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
    formula, transfer = formula_of(problem.convolution), transfer_of(problem)
    grid = any(s.has(mesh_size()) for s in formula.slopes)
    signal, noise = signal_density(problem), noise_density(problem)
    if problem.channels > 1 and not problem.signal.random:
        raise LawError(
            "`channels` must be 1 for a law with a fixed signal (its channels are correlated); "
            f"got {problem.channels}"
        )
    terms: list[VectorTerm] = []
    expand = grid_terms if grid else physical_terms
    if signal is not None:
        terms += expand(problem, formula, transfer, signal, "signal")
    if noise is not None:
        terms += expand(problem, formula, transfer, noise, "noise")
    if problem.noise.offset:
        terms.append(_offset(problem))
    if signal is not None and not (grid or signal.finite or transfer.cut):
        # the signal's own aliases, h^(2s + d + 2r), are not expanded: nothing beyond them is known
        known = signal.alpha + 2 * transfer.smoothing
        terms = [t for t in terms if t.power + t.fine < known]
    return merge(terms)


def _offset(problem: Problem) -> VectorTerm:
    """A constant input: the mode k = 0 alone, all channels alike."""
    values = kernel_values(problem.convolution, tuple(np.zeros(1) for _ in range(problem.dim)), 1.0)
    total = values.symbol[..., 0].sum(axis=1)
    vector = np.real(np.conj(values.slopes[..., 0]) * total[:, None, None])
    return VectorTerm(0.0, 0.0, 0, problem.noise.offset**2 * vector, "noise", "inner")
