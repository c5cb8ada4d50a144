"""Kernels of a physical width: moments of the spectrum, and what aliases add to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.special import zeta

from gradconv.errors import LawError
from gradconv.kernels import Kernel, KernelFormula
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
from gradconv.laws.symbols import KernelValues, kernel_values
from gradconv.problem import Problem


class WeightPart(NamedTuple):
    """amount · Σ_k conj(∂σ)(σ − m) weight(k): one power of h in a vector.

    Parameters
    ----------
    kind : str
        spectrum (the weight multiplies S(k)), flat (the same for every mode), origin (j = 0 alone),
        or a sum over the aliases p ≠ 0 of a tail: replica (C|p/h|^{−α}), curved and raised (what
        k and κ² change in that), band (where the data's mesh ends that), axis (along one axis,
        what a restriction's symbol leaves of it), side … (where the source has twice the cells,
        see `side_factor`).
    power, fine : Power
        Exponents of h and h_L.
    weight : dict
        A polynomial in k.
    amount : float
        The number in front.
    absolute : bool
        Whether the weight is a polynomial in |k_a| instead.
    axes : (int, int), optional
        (m, b): times the number C(N − b, m − b) of sets of m axes among the N with j_a ≠ 0 that
        hold b given ones.
    """

    kind: str
    power: Power
    fine: Power
    weight: Polynomial
    amount: float
    absolute: bool = False
    axes: tuple[int, int] | None = None

    def at(self, k: tuple[np.ndarray, ...]) -> np.ndarray:
        """The weight at modes k, one array an axis."""
        base = tuple(np.abs(a) for a in k) if self.absolute else k
        weight = np.asarray(sum(c * _monomial(base, mu) for mu, c in self.weight.items()))
        weight = weight * np.ones(len(k[0]))
        if self.axes is not None:
            weight = weight * sets_of_axes(np.stack(k, axis=1), *self.axes)
        return weight


_REGION = {"spectrum": "inner", "flat": "flat", "origin": "flat"}


def sets_of_axes(modes: np.ndarray, size: int, given: int) -> np.ndarray:
    """C(N − given, size − given), N the number of nonzero components: ``(modes, dim)`` to counts.

    The sets of `size` axes along which a mode of a mesh of twice the cells has an alias; an axis
    with j_a = 0 has none, because its image is the Nyquist mode.
    """
    axes = np.arange(modes.shape[1] + 1)
    table = [float(math.comb(max(n - given, 0), size - given)) * (n >= given) for n in axes]
    return np.asarray(np.array(table)[np.count_nonzero(modes, axis=1)])


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
                part.power.value(density, dim),
                part.fine.value(density, dim),
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
    if not aliased or density.finite or transfer.cut:
        return
    if origin == "noise":
        yield from _physical_aliases(problem, transfer, density)
    elif aliases_derived(problem, transfer):
        # where the restriction is expanded, nothing beyond that order is told
        end = math.inf if not any(transfer.cumulants) else ORDER + 2
        for part in _signal_aliases(problem, transfer, density):
            if part.power.value(density, problem.dim) + part.fine.value(density, problem.dim) < end:
                yield part


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


def alias_target(problem: Problem) -> float | None:
    """The target's multiplier far beyond the mesh: 1 for the identity, 0 if it falls off.

    None where it has no such limit (a shift oscillates, a derivative grows), or where it falls
    off along some axes or like a power.
    """
    factors = target_factors(problem)
    if factors is None:
        return 1.0
    far = 2 * np.pi * np.array([-(2.0**40), 2.0**40])
    for factor in factors:
        if factor is None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.all(np.abs(factor(far)) < np.abs(far) ** -20.0):
                return None
    return 0.0


def aliases_derived(problem: Problem, transfer: Transfer) -> bool:
    """Whether the aliases of a signal of infinitely many modes are expanded."""
    if transfer.cut or transfer.smoothing < 0:
        return False
    return not transfer.single and alias_target(problem) is not None


def aliases_known(problem: Problem, transfer: Transfer, density: Density) -> float:
    """Power of h (and h_L together) from which on a signal's aliases are not known.

    Raises
    ------
    LawError
        If the target amplifies them faster than any power.
    """
    refining = problem.setting == "refinement"
    # one step of fixed taps from a fine mesh leaves the aliases as they are
    smoothing = 0 if transfer.single else max(transfer.smoothing, 0)
    lead = density.alpha + 2 * smoothing
    if aliases_derived(problem, transfer):
        if smoothing:
            return lead + 2
        return lead + (3 if refining else 4)
    growth = target_growth(problem)  # one-sided images of a target that grows do not cancel
    return lead - (growth if refining else 0.0)


def target_growth(problem: Problem) -> float:
    """Power of |k| with which the target's multiplier grows; 0 if it is bounded.

    Raises
    ------
    LawError
        If it grows faster than any power.
    """
    growth = 0.0
    for factor in target_factors(problem) or ():
        if factor is not None:
            far = 2 * np.pi * np.array([2.0**12, 2.0**13])
            with np.errstate(over="ignore"):
                first, last = np.abs(np.asarray(factor(far)) * np.ones(2))
            if not np.isfinite(last) or last > 100 * max(first, 1.0):
                raise LawError(
                    "`target` must have a bounded multiplier (or one that grows like a power) for "
                    f"a law with a signal of infinitely many modes; got {problem.target.spec}"
                )
            if first > 0:
                growth += max(0.0, round(math.log2(last / first), 3))
    return growth


def _signal_aliases(problem: Problem, transfer: Transfer, density: Density) -> Iterator[WeightPart]:
    """Power of a signal's tail at k + 2πp/h, p ≠ 0, seen at k: the first orders in h."""
    dim, alpha, scale = problem.dim, density.alpha, density.scale
    none, decay, two_r = (0,) * dim, Power(alpha=1.0, mesh=1.0), 2 * transfer.smoothing

    if problem.setting == "refinement":
        yield from side_parts(problem, transfer, density)
        return
    yield from _physical_aliases(problem, transfer, density)
    if two_r:
        return
    # |p + κ|^{−α} to second order: on average over the directions of p its Laplacian
    further = replica_sum(alpha + 2, dim)
    bend = scale * alpha * (alpha + 2 - dim) / (8 * np.pi**2 * dim) * further
    yield WeightPart("curved", decay.plus(2), Power(), _powers(dim, 2), bend)
    if density.shift:
        lift = -0.5 * alpha * density.shift * scale
        size = lift * further
        yield WeightPart("raised", decay.plus(2), Power(), {none: 1.0}, size)
        power, fine = Power(dim=1.0, mesh=1.0), Power(2.0, 1.0, -1.0)
        size = lift * lag_integral(alpha + 2, none, Profile("band"))
        yield WeightPart("raised band", power, fine, {none: 1.0}, size)


def _powers(dim: int, size: int) -> Polynomial:
    """Σ_a k_a^size."""
    return {tuple(size * (a == b) for b in range(dim)): 1.0 for a in range(dim)}


def side_parts(problem: Problem, transfer: Transfer, density: Density) -> Iterator[WeightPart]:
    """Aliases on a mesh whose source has twice the cells: p_a is 0 or −sign(j_a).

    With κ = kh/2π and a set of m folded axes, |k h/2π + p|² = m − 2 Σ|κ_a| + |κ|²; a symbol
    cos^r leaves (k_a h/4)^{2r} of the power along each of them.
    """
    dim, two_r, none = problem.dim, 2 * transfer.smoothing, (0,) * problem.dim
    first = Power(alpha=1.0, mesh=1.0).plus(two_r)

    def part(
        kind: str, order: int, weight: Polynomial, m: int, given: int, absolute: bool = False
    ) -> WeightPart:
        factor = side_factor(kind, density.alpha, density.shift, m, 2 * math.pi)
        size = density.scale * factor / 4.0**two_r
        return WeightPart(kind, first.plus(order), Power(), weight, size, absolute, (m, given))

    if two_r:  # along one axis: all others leave a higher power of h
        yield part("side", 0, _powers(dim, two_r), 1, 1)
        yield part("side slope", 1, _powers(dim, two_r + 1), 1, 1, True)
        return
    pairs = {tuple(int(c in (a, b)) for c in range(dim)): 2.0 for b in range(dim) for a in range(b)}
    for m in range(1, dim + 1):
        yield part("side", 0, {none: 1.0}, m, 0)
        yield part("side slope", 1, _powers(dim, 1), m, 1, True)
        yield part("side square", 2, _powers(dim, 2), m, 0)
        if density.shift:
            yield part("side shift", 2, {none: 1.0}, m, 0)
        yield part("side bend", 2, _powers(dim, 2), m, 1)
        if m > 1:
            yield part("side bend", 2, pairs, m, 2, True)


def side_factor(kind: str, alpha: Any, shift: Any, m: Any, two_pi: Any) -> Any:
    """Coefficients of (m − 2y + z² + κ²h²)^{−α/2} by powers of h, in numbers or in symbols."""
    factors = {
        "side": 1,
        "side slope": alpha / (m * two_pi),
        "side square": -alpha / (2 * m * two_pi**2),
        "side shift": -alpha * shift / (2 * m),
        "side bend": alpha * (alpha + 2) / (2 * m**2 * two_pi**2),
    }
    return factors[kind] * m ** (-alpha / 2)


def replica_sum(alpha: float, dim: int) -> float:
    """Finite part of Σ |p|^{−α} over p ≠ 0.

    Raises
    ------
    LawError
        If it is a logarithm, α = d.
    """
    tail = Density(1.0, 1, alpha=alpha, origin=False)
    value, pole = lattice_moment(tail, (0,) * dim, None)
    if pole:
        raise LawError(
            f"`alpha` must differ from d under injection for a law; got alpha = d = {dim}"
        )
    return value.real


def _physical_aliases(
    problem: Problem, transfer: Transfer, density: Density
) -> Iterator[WeightPart]:
    """Power at k + 2πp/h, p ≠ 0, seen at k: leading order in h, coarsening."""
    dim, alpha = problem.dim, density.alpha
    if transfer.single or transfer.smoothing < 0:
        raise LawError(
            f"`route` {problem.route} of restriction {problem.restriction.name} leaves the aliases "
            "of a power law no closed form"
        )
    none, decay = (0,) * dim, Power(alpha=1.0, mesh=1.0)
    if transfer.smoothing == 0:
        value = density.scale * replica_sum(alpha, dim)
        yield WeightPart("replica", decay, Power(), {none: 1.0}, value)
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
