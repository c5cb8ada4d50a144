"""Kernels of a physical width: moments of the spectrum, and what aliases add to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import zeta

from gradconv.errors import LawError
from gradconv.kernels import KernelFormula
from gradconv.laws.expansion import (
    Polynomial,
    over_axes,
    pixel_covariance,
    target_factors,
    transfer_series,
)
from gradconv.laws.ingredients import ORDER, Density, Power, Transfer
from gradconv.laws.integrals import Profile, lag_integral
from gradconv.laws.law import VectorTerm
from gradconv.laws.moments import lattice_moment
from gradconv.laws.symbols import kernel_values
from gradconv.problem import Problem


class WeightPart(NamedTuple):
    """amount · Σ_k conj(∂σ)(σ − m) weight(k): one power of h in a vector.

    Parameters
    ----------
    kind : str
        spectrum (the weight multiplies S(k)), flat (the same for every mode), origin (j = 0 alone),
        or a sum over the aliases p ≠ 0 of a tail: replica (C|p/h|^{−α}), band (where the data's
        mesh ends that), axis (along one axis, what a restriction's symbol leaves of it).
    power, fine : Power
        Exponents of h and h_L.
    weight : dict
        A polynomial in k.
    amount : float
        The number in front.
    """

    kind: str
    power: Power
    fine: Power
    weight: Polynomial
    amount: float


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
    values = kernel_values(kernel, k, 1.0)
    gain = problem.noise.gain if origin == "signal" else 1.0
    residual = gain**2 * values.symbol
    if origin == "signal":
        target = np.ones(len(power), dtype=complex)
        factors = target_factors(problem)
        for factor, column in zip(factors or (), k, strict=False):
            if factor is not None:
                target = target * factor(column)
        for channel in range(residual.shape[0]):
            residual[channel, channel] = residual[channel, channel] - gain * target
    slopes = (values.slopes.conj() * residual[:, :, None]).real
    found = []
    for part in weight_parts(problem, transfer, density, origin):
        weight = sum(c * _monomial(k, mu) for mu, c in part.weight.items()) * np.ones(len(power))
        if part.kind == "spectrum":
            weight = weight * power
        if part.kind == "origin":
            weight = weight * ~np.any(k, axis=0)
        found.append(
            VectorTerm(
                part.power.value(density, dim),
                part.fine.value(density, dim),
                0,
                part.amount * (slopes @ weight),
                origin,
                _REGION.get(part.kind, "alias"),
            )
        )
    return found


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
            power, fine = Power(mesh=1.0), Power()
            if problem.setting == "coarsening":
                power, fine = fine, power
            weight = {(0,) * problem.dim: 1.0}
            yield WeightPart("origin", power, fine, weight, -density.scale)
        return
    own = Power(mesh=1.0)
    for (a, b), polynomial in transfer_series(problem, transfer, origin).items():
        yield WeightPart("spectrum", own.plus(a), Power(b), polynomial, 1.0)
    aliased = problem.setting == "coarsening" or origin == "signal"
    if aliased and not density.finite and not transfer.cut:
        yield from _physical_aliases(problem, transfer, density, origin)


def _monomial(k: tuple[np.ndarray, ...], mu: tuple[int, ...]) -> np.ndarray | float:
    # products: numpy's general power is ten times as slow
    return math.prod((a for a, e in zip(k, mu, strict=True) for _ in range(e)), start=1.0)


def _flat_spectrum(problem: Problem, transfer: Transfer, density: Density) -> Iterator[WeightPart]:
    """Restricted independent pixels at fixed k."""
    scale, dim, none = density.scale, problem.dim, (0,) * problem.dim
    own = Power(mesh=1.0)
    if problem.setting == "refinement":
        yield WeightPart("flat", own, Power(), {none: 1.0}, scale)
        return
    if transfer.cut:  # no mode below the cut is touched
        yield WeightPart("flat", Power(), own, {none: 1.0}, scale)
        return
    row = pixel_covariance(problem, transfer, density)[1]
    # an axis: Σ_lag r_lag cos(lag k h), with cos expanded; h^d in front
    line: list[tuple[float, float, int, float]] = []
    for lag in range(len(transfer.rows)):
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


def _physical_aliases(
    problem: Problem, transfer: Transfer, density: Density, origin: str
) -> Iterator[WeightPart]:
    """Power at k + 2πp/h, p ≠ 0, seen at k: leading order in h."""
    dim, alpha = problem.dim, density.alpha
    if origin == "signal":
        if alpha - dim <= 2:
            raise LawError(
                "`signal` must have Sobolev regularity s > 1 for a law with a kernel of a "
                f"physical width (its aliases count otherwise); got s = {(alpha - dim) / 2:g}"
            )
        return
    if transfer.single or transfer.smoothing < 0:
        raise LawError(
            f"`route` {problem.route} of restriction {problem.restriction.name} leaves the aliases "
            "of a power law no closed form"
        )
    none, decay = (0,) * dim, Power(alpha=1.0, mesh=1.0)
    if transfer.smoothing == 0:
        tail = Density(density.scale, density.symbol, alpha=alpha, origin=False)
        value, pole = lattice_moment(tail, none, None)
        if pole:
            raise LawError(
                f"`alpha` must differ from d under injection for a law; got alpha = d = {dim}"
            )
        yield WeightPart("replica", decay, Power(), {none: 1.0}, value.real)
        # the sum over aliases is ended by the data's own mesh
        band = density.scale * lag_integral(alpha, none, Profile("band"))
        yield WeightPart("band", Power(dim=1.0, mesh=1.0), Power(0.0, 1.0, -1.0), {none: 1.0}, band)
        return
    exponent = alpha + 2 * transfer.smoothing
    if exponent > 1:  # aliases along one axis: Σ_p |p|^{−α−2r}, and (k_a h/2π)^{2r} from T
        two_r = 2 * transfer.smoothing
        units = [tuple(two_r * (a == b) for b in range(dim)) for a in range(dim)]
        size = 2 * zeta(exponent) * density.scale / (2 * np.pi) ** two_r
        yield WeightPart("axis", decay.plus(two_r), Power(), dict.fromkeys(units, 1.0), size)
