"""What both kinds of kernels share: sums of vectors by power, transfers expanded, covariances."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from gradconv.errors import LawError
from gradconv.laws.densities import Density, Exponent
from gradconv.laws.law import VectorTerm
from gradconv.laws.moments import Factor
from gradconv.laws.symbols import compiled, wave_numbers
from gradconv.laws.transfers import Transfer, flat_covariance
from gradconv.problem import Problem

Polynomial = dict[tuple[int, ...], Any]
ORDER = 4  # powers of h kept
NOTHING = 1e-13  # of the largest vector: rounding


def merge(terms: list[VectorTerm]) -> tuple[VectorTerm, ...]:
    """Add vectors of the same powers and drop those that are rounding; in no special order."""
    found: dict[tuple[float, float, int, str, str], np.ndarray] = {}
    for t in terms:
        key = (round(t.exponent, 9), round(t.fine_exponent, 9), t.logs, t.origin, t.region)
        found[key] = found.get(key, 0.0) + t.vector
    largest = max((float(np.abs(v).max()) for v in found.values()), default=0.0)
    return tuple(
        VectorTerm(float(power), float(fine), logs, vector, origin, region)
        for (power, fine, logs, origin, region), vector in found.items()
        if np.abs(vector).max() > NOTHING * largest
    )


def gap_terms(terms: tuple[VectorTerm, ...]) -> tuple[VectorTerm, ...]:
    """Terms of the gap between h and 2h: g(h) − g(2h)."""
    found = []
    for t in terms:
        shrink = 1.0 - 2.0**t.exponent
        if shrink:
            vector = shrink * t.vector
            found.append(
                VectorTerm(t.exponent, t.fine_exponent, t.logs, vector, t.origin, t.region)
            )
        if t.logs:  # log(1/2h) = log(1/h) − log 2
            vector = 2.0**t.exponent * math.log(2.0) * t.vector
            found.append(VectorTerm(t.exponent, t.fine_exponent, 0, vector, t.origin, t.region))
    return merge(found)


def transfer_series(
    problem: Problem, transfer: Transfer, origin: str
) -> dict[tuple[int, int], Polynomial]:
    """|T(k)|² as Σ h^a h_L^b times polynomials in k, a + b ≤ `ORDER`."""
    dim = problem.dim
    one = (0,) * dim
    if transfer.cut or (problem.setting == "refinement" and origin == "noise"):
        return {(0, 0): {one: 1.0}}
    logs: dict[int, dict[tuple[int, int], float]] = {}
    for i, c in enumerate(transfer.cumulants, start=1):
        e = 2 * i
        if problem.setting == "refinement":  # one step, from cells of h/2
            logs[e] = {(e, 0): c / 2.0**e}
        elif transfer.single:
            logs[e] = {(0, e): c}
        else:  # Σ over the steps of c (2^s k h_L)^{2i}
            logs[e] = {(e, 0): c / (2.0**e - 1), (0, e): -c / (2.0**e - 1)}
    found: dict[tuple[int, int], Polynomial] = {(0, 0): {one: 1.0}}

    def add(key: tuple[int, int], mu: tuple[int, ...], value: float) -> None:
        if value:
            part = found.setdefault(key, {})
            part[mu] = part.get(mu, 0.0) + value

    units = [tuple(int(a == b) for b in range(dim)) for a in range(dim)]
    for e, parts in logs.items():
        for key, value in parts.items():
            for unit in units:
                add(key, tuple(e * u for u in unit), value)
    for (key, value), (other, amount) in product(logs[2].items(), repeat=2):
        for one_axis, two_axis in product(units, repeat=2):
            mu = tuple(2 * (a + b) for a, b in zip(one_axis, two_axis, strict=True))
            add((key[0] + other[0], key[1] + other[1]), mu, 0.5 * value * amount)
    return found


def target_factors(problem: Problem) -> tuple[Factor | None, ...] | None:
    """m(k) as numeric factors an axis; None for the identity."""
    k = wave_numbers(problem.dim)
    formula = problem.target.formula(k)
    if formula is None:
        if problem.dim > 1:
            raise LawError(
                "`target` must be a product of functions of k_a for a law; got "
                f"{problem.target.spec}"
            )
        return (problem.target.multiplier,)
    if all(f == 1 for f in formula):
        return None
    return tuple(None if f == 1 else compiled((a,), f) for f, a in zip(formula, k, strict=True))


def pixel_covariance(problem: Problem, transfer: Transfer, density: Density) -> Any:
    """((powers of h, h_L) of a pixel's variance, lag → [(power of h, of h_L, coefficient)])."""
    own = density.mesh_exponent - problem.dim  # variance of a pixel is S h^{−d}
    if problem.setting == "refinement":
        return (own, 0.0), lambda lag: [(0.0, 0.0, 1.0 if lag == 0 else 0.0)]
    if transfer.cut:
        # modes of n cells, half the power at ±n/2: (n − 1/2)/n_L at lag 0, −(−1)^lag/(2 n_L) else
        def cut(lag: int) -> list[tuple[float, float, float]]:
            ends = (0.0, 1.0, -0.5 * (-1.0) ** lag)
            return [(-1.0, 1.0, 1.0), ends] if lag == 0 else [ends]

        return (0.0, own), cut
    parts = flat_covariance(transfer)

    def local(lag: int) -> list[tuple[float, float, float]]:
        return [(e, -e, rows[lag]) for e, rows in parts if lag in rows]

    return (0.0, own), local


def over_axes(exponents: tuple[float, ...]) -> Exponent:
    """Sum of an exponent over the axes: d times it where all axes have the same."""
    if len(set(exponents)) == 1:
        return Exponent(dim=exponents[0])
    return Exponent(sum(exponents))
