"""Kernels of a physical width: moments of the spectrum, and what its aliases add to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from gradconv.errors import LawError
from gradconv.kernels import Kernel, KernelFormula
from gradconv.laws.aliases import (
    WeightPart,
    alias_target,
    aliases_derived,
    power_law_aliases,
    signal_aliases,
)
from gradconv.laws.densities import Density, Exponent
from gradconv.laws.expansion import (
    ORDER,
    over_axes,
    pixel_covariance,
    target_factors,
    transfer_series,
)
from gradconv.laws.law import VectorTerm
from gradconv.laws.symbols import KernelValues, kernel_values
from gradconv.laws.transfers import Transfer
from gradconv.problem import Problem

_REGION = {"spectrum": "inner", "flat": "flat", "origin": "flat"}


def physical_terms(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    """Moments of the spectrum against the kernel, which ends them all."""
    dim, kernel = problem.dim, problem.convolution
    if density.modes is not None and density.power is not None:
        k = tuple(2.0 * np.pi * density.modes.T)
        power = density.power
    else:
        reach = lattice_reach(problem)
        j = np.arange(-reach, reach + 1)
        mesh = np.meshgrid(*[j] * dim, indexing="ij")
        columns = [x.ravel() for x in mesh]
        power = density.at(np.sum([x * x for x in columns], axis=0))
        k = tuple(2.0 * np.pi * x for x in columns)
    values = _values_at(kernel, formula, k)
    gain = problem.noise.gain if origin == "signal" else 1.0
    target = np.zeros(len(power), dtype=complex)
    beyond: float | None = 0.0
    if origin == "signal":
        beyond = alias_target(problem)
        target = np.ones(len(power), dtype=complex)
        for factor, column in zip(target_factors(problem) or (), k, strict=False):
            if factor is not None:
                target = target * factor(column)

    def integrand(wanted: Any) -> np.ndarray:
        residual = gain**2 * values.symbol
        for channel in range(residual.shape[0]):
            residual[channel, channel] = residual[channel, channel] - gain * wanted
        return np.asarray((values.slopes.conj() * residual[:, :, None]).real)

    inner, aliased = integrand(target), None
    found = []
    for part in weight_parts(problem, transfer, density, origin):
        slopes = inner
        if part.kind not in _REGION:  # aliases come with the target's multiplier far out
            aliased = integrand(beyond) if aliased is None else aliased
            slopes = aliased
        weight = part.at(k)
        if part.kind == "spectrum":
            weight = weight * power
        if part.kind == "origin":
            weight = weight * ~np.any(k, axis=0)
        found.append(
            VectorTerm(
                part.exponent.value(density, dim),
                part.fine_exponent.value(density, dim),
                0,
                part.amount * (slopes @ weight),
                origin,
                _REGION.get(part.kind, "alias"),
            )
        )
    return found


_LAST: dict[bytes, KernelValues] = {}


def _values_at(kernel: Kernel, formula: KernelFormula, k: tuple[np.ndarray, ...]) -> KernelValues:
    """Kernel at modes; the last ones are kept, since all fields meet the same kernel there."""
    digest = f"{type(kernel).__name__} {kernel.theta.shape} {formula.constants}".encode()
    scale = np.broadcast_to(kernel.scale, kernel.theta.shape)
    digest += b"".join(a.tobytes() for a in (kernel.theta, scale, *k))
    if digest not in _LAST:
        while len(_LAST) >= 2:
            _LAST.pop(next(iter(_LAST)))
        _LAST[digest] = kernel_values(kernel, k, 1.0)
    return _LAST[digest]


def lattice_reach(problem: Problem) -> int:
    """Largest |j|_∞ that a sum against the kernel needs, to 1e-14 of its largest term.

    Raises
    ------
    LawError
        If the kernel does not decay.
    """
    cutoff = problem.convolution.cutoff()
    if cutoff is None:
        raise LawError(f"`kernel` {problem.convolution} must decay or live on the grid for a law")
    return math.ceil(0.85 * cutoff)


def weight_parts(
    problem: Problem, transfer: Transfer, density: Density, origin: str
) -> Iterator[WeightPart]:
    """What restriction and aliases leave of a density at fixed k, one power of h after another."""
    if density.flat:
        yield from _flat_spectrum(problem, transfer, density)
        if not density.origin:
            power, fine = Exponent(mesh=1.0), Exponent()
            if problem.setting == "coarsening":
                power, fine = fine, power
            weight = {(0,) * problem.dim: 1.0}
            yield WeightPart("origin", power, fine, weight, -density.scale)
        return
    own = Exponent(mesh=1.0)
    for (a, b), polynomial in transfer_series(problem, transfer, origin).items():
        yield WeightPart("spectrum", own.plus(a), Exponent(b), polynomial, 1.0)
    aliased = problem.setting == "coarsening" or origin == "signal"
    if not aliased or density.finite or transfer.cut:
        return
    if origin == "noise":
        yield from power_law_aliases(problem, transfer, density)
    elif aliases_derived(problem, transfer):
        # where the restriction is expanded, nothing beyond that order is told
        end = math.inf if not any(transfer.cumulants) else ORDER + 2
        for part in signal_aliases(problem, transfer, density):
            if (
                part.exponent.value(density, problem.dim)
                + part.fine_exponent.value(density, problem.dim)
                < end
            ):
                yield part


def _flat_spectrum(problem: Problem, transfer: Transfer, density: Density) -> Iterator[WeightPart]:
    """Restricted independent pixels at fixed k."""
    scale, dim, none = density.scale, problem.dim, (0,) * problem.dim
    own = Exponent(mesh=1.0)
    if problem.setting == "refinement":
        yield WeightPart("flat", own, Exponent(), {none: 1.0}, scale)
        return
    if transfer.cut:  # no mode below the cut is touched
        yield WeightPart("flat", Exponent(), own, {none: 1.0}, scale)
        return
    row = pixel_covariance(problem, transfer, density)[1]
    # an axis: Σ_lag r_lag cos(lag k h), with cos expanded; h^d in front
    line: list[tuple[float, float, int, float]] = []
    for lag in range(len(transfer.autocorrelation)):
        for a, b, c in row(lag):
            for m in range(ORDER // 2 + 1):
                count = 1.0 if lag == 0 else 2.0
                size = count * c * (-1.0) ** m * float(lag) ** (2 * m) / math.factorial(2 * m)
                if size:
                    line.append((a, b, 2 * m, size))
    for parts in product(line, repeat=dim):
        mu = tuple(part[2] for part in parts)
        if sum(mu) > ORDER:
            continue
        h, fine = (over_axes(tuple(part[side] for part in parts)) for side in (0, 1))
        size = math.prod(part[3] for part in parts)
        power = h.plus(sum(mu), 0.0, 1.0)
        yield WeightPart("flat", power, fine.plus(0.0, 0.0, -1.0, 1.0), {mu: size}, scale)
