"""Kernels of a physical width: moments of the spectrum, and what aliases add to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.special import zeta

from gradconv.errors import LawError
from gradconv.kernels import KernelFormula
from gradconv.laws.expansion import pixel_covariance, target_factors, transfer_series
from gradconv.laws.ingredients import ORDER, Density, Transfer
from gradconv.laws.integrals import Profile, lag_integral
from gradconv.laws.law import VectorTerm
from gradconv.laws.moments import lattice_moment
from gradconv.laws.symbols import kernel_values
from gradconv.problem import Problem


def physical_terms(
    problem: Problem, formula: KernelFormula, transfer: Transfer, density: Density, origin: str
) -> list[VectorTerm]:
    """Moments of the spectrum against the kernel, which ends them all."""
    dim, kernel = problem.dim, problem.convolution
    if density.modes is not None and density.power is not None:
        k = tuple(2.0 * np.pi * density.modes.T)
        power = density.power
    else:
        cutoff = kernel.cutoff()
        if cutoff is None:
            raise LawError(f"`kernel` {kernel} must decay or live on the grid for a law")
        reach = math.ceil(0.85 * cutoff)  # to 1e-14 of the largest term
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

    def record(a: float, b: float, weight: np.ndarray | float, region: str) -> None:
        found.append(VectorTerm(a, b, 0, slopes @ (weight * power), origin, region))

    if density.flat:
        for a, b, weight in _flat_spectrum(problem, transfer, density, k):
            record(a, b, weight, "flat")
        return found
    own = density.mesh_power
    for (a, b), polynomial in transfer_series(problem, transfer, origin).items():
        weight = sum(c * _monomial(k, mu) for mu, c in polynomial.items())
        record(a + own, b, weight, "inner")
    aliased = problem.setting == "coarsening" or origin == "signal"
    if aliased and not density.finite and not transfer.cut:
        found += _physical_aliases(problem, transfer, density, slopes, k, origin)
    return found


def _monomial(k: tuple[np.ndarray, ...], mu: tuple[int, ...]) -> np.ndarray | float:
    return math.prod((a**e for a, e in zip(k, mu, strict=True) if e), start=1.0)


def _flat_spectrum(
    problem: Problem, transfer: Transfer, density: Density, k: tuple[np.ndarray, ...]
) -> Iterator[tuple[float, float, np.ndarray]]:
    """S_h(k)/S of restricted independent pixels at fixed k: (power of h, of h_L, weight)."""
    (h_power, fine), row = pixel_covariance(problem, transfer, density)
    if problem.setting == "refinement" or transfer.cut:
        if problem.setting == "refinement":
            yield density.mesh_power, 0.0, np.ones(len(k[0]))
        else:  # no mode below the cut is touched
            yield 0.0, density.mesh_power, np.ones(len(k[0]))
        return
    # an axis: Σ_lag r_lag cos(lag k h), with cos expanded; h^d in front
    lines: list[list[tuple[float, float, int, float]]] = [[]]
    line = lines[0]
    for lag in range(len(transfer.rows)):
        for a, b, c in row(lag):
            for m in range(ORDER // 2 + 1):
                count = 1.0 if lag == 0 else 2.0
                size = count * c * (-1.0) ** m * float(lag) ** (2 * m) / math.factorial(2 * m)
                if size:
                    line.append((a + 2 * m, b, 2 * m, size))
    for parts in product(line, repeat=problem.dim):
        if sum(part[2] for part in parts) > ORDER:
            continue
        a = sum(part[0] for part in parts) + h_power + problem.dim
        b = sum(part[1] for part in parts) + fine
        weight = _monomial(k, tuple(part[2] for part in parts))
        yield a, b, math.prod(part[3] for part in parts) * weight * np.ones(len(k[0]))


def _physical_aliases(
    problem: Problem,
    transfer: Transfer,
    density: Density,
    slopes: np.ndarray,
    k: tuple[np.ndarray, ...],
    origin: str,
) -> list[VectorTerm]:
    """Power at k + 2πp/h, p ≠ 0, seen at k: leading order in h."""
    dim, alpha, found = problem.dim, density.alpha, []
    if origin == "signal":
        if alpha - dim <= 2:
            raise LawError(
                "`signal` must have Sobolev regularity s > 1 for a law with a kernel of a "
                f"physical width (its aliases count otherwise); got s = {(alpha - dim) / 2:g}"
            )
        return []
    if transfer.single or transfer.smoothing < 0:
        raise LawError(
            f"`route` {problem.route} of restriction {problem.restriction.name} leaves the aliases "
            "of a power law no closed form"
        )
    own = density.mesh_power
    ones = np.ones(len(k[0]))
    if transfer.smoothing == 0:
        tail = Density(density.scale, density.symbol, alpha=alpha, origin=False)
        value, pole = lattice_moment(tail, (0,) * dim, None)
        if pole:
            raise LawError(
                f"`alpha` must differ from d under injection for a law; got alpha = d = {dim}"
            )
        found.append(VectorTerm(alpha + own, 0.0, 0, value.real * (slopes @ ones), origin, "alias"))
        # the sum over aliases is ended by the data's own mesh
        band = density.scale * lag_integral(alpha, (0,) * dim, Profile("band"))
        vector = band * (slopes @ ones)
        found.append(VectorTerm(dim + own, alpha - dim, 0, vector, origin, "alias"))
        return found
    exponent = alpha + 2 * transfer.smoothing
    if exponent > 1:  # aliases along one axis: Σ_p |p|^{−α−2r}, and (k_a h/2π)^{2r} from T
        weight = sum(a ** (2 * transfer.smoothing) for a in k)
        size = 2 * zeta(exponent) * density.scale / (2 * np.pi) ** (2 * transfer.smoothing)
        vector = size * (slopes @ (weight * ones))
        found.append(VectorTerm(exponent + own, 0.0, 0, vector, origin, "alias"))
    return found
