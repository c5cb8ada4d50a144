"""What the aliases of a spectrum's tail add at a fixed mode, one power of h after another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.special import zeta

from gradconv.errors import LawError
from gradconv.laws.densities import Density, Exponent
from gradconv.laws.expansion import Polynomial, target_factors
from gradconv.laws.integrals import Profile, lag_integral
from gradconv.laws.moments import lattice_moment
from gradconv.laws.transfers import Transfer
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
    exponent, fine_exponent : Exponent
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
    exponent: Exponent
    fine_exponent: Exponent
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


def _monomial(k: tuple[np.ndarray, ...], mu: tuple[int, ...]) -> np.ndarray | float:
    # products: numpy's general power is ten times as slow
    return math.prod((a for a, e in zip(k, mu, strict=True) for _ in range(e)), start=1.0)


def sets_of_axes(modes: np.ndarray, size: int, given: int) -> np.ndarray:
    """C(N − given, size − given), N the number of nonzero components: ``(modes, dim)`` to counts.

    The sets of `size` axes along which a mode of a mesh of twice the cells has an alias; an axis
    with j_a = 0 has none, because its image is the Nyquist mode.
    """
    axes = np.arange(modes.shape[1] + 1)
    table = [float(math.comb(max(n - given, 0), size - given)) * (n >= given) for n in axes]
    return np.asarray(np.array(table)[np.count_nonzero(modes, axis=1)])


def check_aliases(problem: Problem, transfer: Transfer) -> None:
    """Raise a `LawError` where the aliases of a power law have no closed form."""
    if transfer.single or transfer.smoothing < 0:
        raise LawError(
            f"`route` {problem.route} of restriction {problem.restriction.name} leaves the aliases "
            "of a power law no closed form"
        )


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
    """Exponent of h (and h_L together) from which on a signal's aliases are not known.

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
    """Exponent of |k| with which the target's multiplier grows; 0 if it is bounded.

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


def signal_aliases(problem: Problem, transfer: Transfer, density: Density) -> Iterator[WeightPart]:
    """Power of a signal's tail at k + 2πp/h, p ≠ 0, seen at k: the first orders in h."""
    dim, alpha, scale = problem.dim, density.alpha, density.scale
    none, decay, two_r = (0,) * dim, Exponent(alpha=1.0, mesh=1.0), 2 * transfer.smoothing

    if problem.setting == "refinement":
        yield from side_parts(problem, transfer, density)
        return
    yield from power_law_aliases(problem, transfer, density)
    if two_r:
        return
    # |p + κ|^{−α} to second order: on average over the directions of p its Laplacian
    further = replica_sum(alpha + 2, dim)
    bend = scale * alpha * (alpha + 2 - dim) / (8 * np.pi**2 * dim) * further
    yield WeightPart("curved", decay.plus(2), Exponent(), _powers(dim, 2), bend)
    if density.shift:
        lift = -0.5 * alpha * density.shift * scale
        size = lift * further
        yield WeightPart("raised", decay.plus(2), Exponent(), {none: 1.0}, size)
        power, fine = Exponent(dim=1.0, mesh=1.0), Exponent(2.0, 1.0, -1.0)
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
    first = Exponent(alpha=1.0, mesh=1.0).plus(two_r)

    def part(
        kind: str, order: int, weight: Polynomial, m: int, given: int, absolute: bool = False
    ) -> WeightPart:
        factor = side_factor(kind, density.alpha, density.shift, m, 2 * math.pi)
        size = density.scale * factor / 4.0**two_r
        return WeightPart(kind, first.plus(order), Exponent(), weight, size, absolute, (m, given))

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


def power_law_aliases(
    problem: Problem, transfer: Transfer, density: Density
) -> Iterator[WeightPart]:
    """Power at k + 2πp/h, p ≠ 0, seen at k: leading order in h, coarsening."""
    dim, alpha = problem.dim, density.alpha
    check_aliases(problem, transfer)
    none, decay = (0,) * dim, Exponent(alpha=1.0, mesh=1.0)
    if transfer.smoothing == 0:
        value = density.scale * replica_sum(alpha, dim)
        yield WeightPart("replica", decay, Exponent(), {none: 1.0}, value)
        # the sum over aliases is ended by the data's own mesh
        band = density.scale * lag_integral(alpha, none, Profile("band"))
        yield WeightPart(
            "band", Exponent(dim=1.0, mesh=1.0), Exponent(0.0, 1.0, -1.0), {none: 1.0}, band
        )
        return
    exponent = alpha + 2 * transfer.smoothing
    if exponent > 1:  # aliases along one axis: Σ_p |p|^{−α−2r}, and (k_a h/2π)^{2r} from T
        two_r = 2 * transfer.smoothing
        units = [tuple(two_r * (a == b) for b in range(dim)) for a in range(dim)]
        size = 2 * zeta(exponent) * density.scale / (2 * np.pi) ** two_r
        yield WeightPart("axis", decay.plus(two_r), Exponent(), dict.fromkeys(units, 1.0), size)
