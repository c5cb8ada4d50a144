"""What the derivation knows of a problem: spectral densities and transfers, read off formulas.

A density is S(j) = C h^p (κ² + |j|²)^{−α/2}, or finitely many modes. A transfer is known by the
cumulants of log |T₂(θ)|², T₂ the symbol of one restriction step; a chain of steps adds them up.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gradconv.errors import LawError
from gradconv.fields import PixelLaw, RandomField
from gradconv.problem import Problem
from gradconv.restriction import LocalRestriction

ORDER = 4  # powers of h kept in expansions


@dataclass(frozen=True)
class Keyed:
    """A problem, told from others by what a part depends on and nothing else."""

    key: Hashable
    problem: Problem = field(compare=False, repr=False)


@dataclass(frozen=True)
class Density:
    """Mean power of the modes of a stationary field.

    Parameters
    ----------
    scale : float
        C.
    symbol : sympy.Expr
        C in symbols.
    mesh_power : float
        p, the power of the mesh size on which the field is drawn.
    shift : float
        κ².
    alpha : float
        Decay of the spectrum: 0 is flat.
    alpha_symbol : sympy.Expr
        The same in symbols.
    origin : bool
        Whether j = 0 has its share.
    modes, power : ndarray, optional
        A finite field: modes j, shape ``(modes, dim)``, and their power.
    values : tuple of (sympy.Symbol, float)
        Values of the symbols.
    mesh_symbol, shift_symbol : sympy.Expr
        p and κ² in symbols.
    """

    scale: float
    symbol: Any
    mesh_power: float = 0.0
    shift: float = 0.0
    alpha: float = 0.0
    alpha_symbol: Any = 0
    origin: bool = True
    modes: np.ndarray | None = None
    power: np.ndarray | None = None
    values: tuple[tuple[Any, float], ...] = ()
    mesh_symbol: Any = 0
    shift_symbol: Any = 0

    @property
    def finite(self) -> bool:
        """Whether there are finitely many modes."""
        return self.modes is not None

    @property
    def flat(self) -> bool:
        """Whether every mode has the same power."""
        return not self.finite and self.alpha == 0

    def at(self, squares: np.ndarray) -> np.ndarray:
        """S at |j|², without the power of the mesh size."""
        base = np.asarray(squares, dtype=float) + self.shift
        with np.errstate(divide="ignore"):
            values = self.scale * base ** (-0.5 * self.alpha)
        if not self.origin:
            values = np.where(np.asarray(squares) == 0, 0.0, values)
        return np.asarray(values)


class Power(NamedTuple):
    """An exponent of h or h_L: number + alpha·α + dim·d + mesh·p, with α and p of a density."""

    number: float = 0.0
    alpha: float = 0.0
    dim: float = 0.0
    mesh: float = 0.0

    def plus(self, *other: float) -> Power:
        """Add (number, alpha, dim, mesh)."""
        padded = (*other, 0.0, 0.0, 0.0)
        return Power(*(a + b for a, b in zip(self, padded, strict=False)))

    def value(self, density: Density, dim: int) -> float:
        """The exponent as a number."""
        p = density.mesh_power
        return self.number + self.alpha * density.alpha + self.dim * dim + self.mesh * p

    def symbol(self, density: Density, dim: Any) -> Any:
        """The exponent in the symbols of the density and `dim`."""
        number, alpha, axes, mesh = map(simplest_number, self)
        return number + alpha * density.alpha_symbol + axes * dim + mesh * density.mesh_symbol


@lru_cache(maxsize=4096)  # a law has few different exponents, in thousands of pieces
def simplest_number(x: float) -> Any:
    """A double as the rational or the constant that it is meant to be."""
    import sympy

    return sympy.nsimplify(x)


def read_density(expression: Any, values: dict[Any, float], square: Any, h: Any) -> Density:
    """Recognise C h^p (κ² + |j|²)^{−α/2} in a formula.

    Raises
    ------
    LawError
        If the formula is of another form.
    """
    return _read_density(expression, tuple(values.items()), square, h)


@lru_cache(maxsize=256)
def _read_density(
    expression: Any, known: tuple[tuple[Any, float], ...], square: Any, h: Any
) -> Density:
    import sympy

    values = dict(known)

    def number(part: Any) -> float:
        return float(sympy.sympify(part).subs(values).evalf())

    fixed, varying = sympy.sympify(expression).as_independent(square, as_Add=False)
    exponent = sympy.simplify(h * sympy.diff(fixed, h) / fixed) if fixed != 0 else sympy.Integer(0)
    constant = fixed.subs(h, 1)
    if varying == 1:
        return Density(
            number(constant),
            constant,
            number(exponent),
            values=tuple(values.items()),
            mesh_symbol=exponent,
        )
    base, power = varying.as_base_exp()
    linear = sympy.Poly(base, square) if base.is_polynomial(square) else None
    if linear is None or linear.degree() != 1 or power.has(square) or exponent.has(square):
        raise LawError(
            "`spectral density` must be C h^p (κ² + |j|²)^(−α/2) for a law; got "
            f"{sympy.sstr(expression)}"
        )
    slope, shift = linear.all_coeffs()
    symbol = constant * slope**power
    alpha = sympy.simplify(-2 * power)
    return Density(
        number(symbol),
        symbol,
        number(exponent),
        number(shift / slope),
        number(alpha),
        alpha,
        origin=shift != 0,
        values=tuple(values.items()),
        mesh_symbol=exponent,
        shift_symbol=sympy.simplify(shift / slope),
    )


def noise_density(problem: Problem) -> Density | None:
    """Density of the noise on the mesh it is drawn on; None without noise.

    Raises
    ------
    LawError
        If the noise has no spectral density.
    """
    import sympy

    square, h = sympy.Symbol("J", positive=True), sympy.Symbol("h", positive=True)
    noise = problem.noise
    found = noise.formula(square, h, sympy.Integer(problem.dim))
    if found is None:
        if isinstance(noise, PixelLaw):
            if not problem.signal.random:
                raise LawError(
                    f"`noise` {noise.spec} on a fixed signal has a variance of its own at every "
                    "pixel: its modes are correlated and no spectral density exists"
                )
            return _pixel_density(problem, noise)
        raise LawError(
            f"`noise` must give its spectral density as a formula for a law; got {noise.spec}"
        )
    expression, values = found
    if expression == 0:
        return None
    density = read_density(expression, values, square, h)
    return density


def _pixel_density(problem: Problem, noise: PixelLaw) -> Density:
    """Signal-dependent pixels on a random signal: flat, with the mean variance v."""
    import sympy

    if problem.setting == "refinement":
        raise LawError(
            f"`noise` {noise.spec} in the refinement setting has a variance that follows what "
            "each mesh sees of the signal: no density in powers of h"
        )
    value = float(noise.variance(0.0, _mean_square(problem)))
    v = sympy.Symbol("v", positive=True)
    return Density(value, v, float(problem.dim), values=((v, value),))


def _mean_square(problem: Problem) -> float:
    from gradconv.laws.moments import lattice_moment

    density = signal_density(problem)
    assert density is not None
    return lattice_moment(density, (0,) * problem.dim, None)[0].real


def signal_density(problem: Problem) -> Density | None:
    """Density of the signal, random or of finitely many modes.

    Raises
    ------
    LawError
        If its spectrum is not known in advance.
    """
    import sympy

    signal, dim = problem.signal, problem.dim
    finite = signal.finite_modes(dim)
    if finite is not None:
        modes, power = finite
        return Density(1.0, sympy.Integer(1), modes=modes, power=power)
    found = None
    square, h = sympy.Symbol("J", positive=True), sympy.Symbol("h", positive=True)
    if isinstance(signal, RandomField):
        found = signal.formula(square, sympy.Integer(dim))
    if found is None:
        raise LawError(
            f"`signal` must have a spectrum that is known as a formula for a law; got "
            f"{signal.spec} (its law is evaluated with the measured spectrum instead)"
        )
    return read_density(found[0], found[1], square, h)


@dataclass(frozen=True)
class Transfer:
    """What the restriction does to the power of a mode.

    Parameters
    ----------
    cumulants : tuple of float
        c₂, c₄ of log |T₂(θ)|² = c₂θ² + c₄θ⁴ + …, an axis.
    rows : tuple of float
        Autocorrelation of the taps of one step at lags 0, 1, …: cov of neighbouring outputs.
    smoothing : int
        r where |T₂| = |cos(θ/2)|^r, so that infinitely many steps make sinc^r; −1 if it is not.
    cut : bool
        Whether modes beyond the coarse mesh are cut (the spectral restriction).
    single : bool
        Whether a level is reached by one step whose taps do not depend on the factor.
    """

    cumulants: tuple[float, float]
    rows: tuple[float, ...]
    smoothing: int
    cut: bool = False
    single: bool = False


def transfer_of(problem: Problem) -> Transfer:
    """Transfer of a problem's restriction.

    Raises
    ------
    LawError
        If it depends on the position, or its direct step is no fixed symbol.
    """
    restriction = problem.restriction
    if restriction.band_limiting:
        return Transfer((0.0, 0.0), (1.0,), 0, cut=True)
    if not isinstance(restriction, LocalRestriction):
        raise LawError(
            f"`restriction` must act alike at every position for a law; got {restriction.name}, "
            "whose weights depend on the position: no power law"
        )
    single = problem.route == "direct" and not restriction.nested
    taps = restriction.taps(4 if single else 2)
    if single:
        other = restriction.taps(8)
        gap = {o: w for o, w in zip(*other, strict=True)}
        shift = other[0][0] - taps[0][0]
        if gap != {o + shift: w for o, w in zip(*taps, strict=True)}:
            raise LawError(
                f"`route` direct needs a restriction with taps independent of the factor for a "
                f"law; got {restriction.name}"
            )
    return _read_taps(taps, single)


@lru_cache(maxsize=64)
def _read_taps(taps: tuple[tuple[int, ...], tuple[float, ...]], single: bool) -> Transfer:
    import sympy

    weights = {o: simplest_number(w) for o, w in zip(*taps, strict=True)}
    if sum(weights.values()) != 1:
        raise LawError(
            f"`restriction` must keep constants for a law; its weights sum to "
            f"{sum(weights.values())}"
        )
    theta = sympy.Symbol("theta", real=True)
    lags: dict[int, Any] = {}
    for a, w in weights.items():
        for b, v in weights.items():
            lags[a - b] = lags.get(a - b, 0) + w * v
    power = sum(w * sympy.cos(theta * lag) for lag, w in lags.items())
    series = sympy.series(sympy.log(power), theta, 0, 6).removeO()
    cumulants = (float(series.coeff(theta, 2)), float(series.coeff(theta, 4)))
    smoothing = -1
    for r in range(5):
        half = ((1 + sympy.cos(theta)) / 2) ** r  # cos²ʳ(θ/2)
        if sympy.simplify(sympy.expand_trig(sympy.expand(power - half))) == 0:
            smoothing = r
            break
    widest = max(lags)
    rows = tuple(float(lags.get(lag, 0)) for lag in range(widest + 1))
    return Transfer(cumulants, rows, smoothing, single=single)


def flat_covariance(transfer: Transfer) -> list[tuple[float, dict[int, float]]]:
    """Covariance, an axis, of what f-fold restriction leaves of unit independent pixels.

    One step maps lags r_l to Σ_o a_o r_{2l+o}, a the taps' autocorrelation: a small matrix M, so
    that log₂ f steps are M^{log₂ f}. Its eigenvalues λ give the powers f^{log₂ λ}.

    Returns
    -------
    list of (exponent, {lag: coefficient})
        r_lag(f) = Σ coefficient · f^exponent, for lags ≥ 0.
    """
    import sympy

    autocorrelation = {0: simplest_number(transfer.rows[0])}
    for lag, value in enumerate(transfer.rows[1:], start=1):
        autocorrelation[lag] = autocorrelation[-lag] = simplest_number(value)
    if transfer.single:  # one step, whatever f: the lags beyond the taps' reach are empty
        return [(0.0, {0: float(autocorrelation[0])})]
    reach = len(transfer.rows) - 1
    size = max(1, reach)
    matrix = sympy.zeros(size, size)
    for lag in range(size):
        for offset, value in autocorrelation.items():
            source = abs(2 * lag + offset)
            if source < size:
                matrix[lag, source] += value
    basis, diagonal = matrix.diagonalize()
    start = basis.inv() * sympy.Matrix([1] + [0] * (size - 1))
    found: dict[Any, dict[int, float]] = {}
    for index in range(size):
        eigenvalue = diagonal[index, index]
        if eigenvalue == 0 or start[index] == 0:
            continue
        exponent = sympy.log(eigenvalue, 2)
        part = found.setdefault(exponent, {})
        for lag in range(size):
            value = float(basis[lag, index] * start[index])
            if value:
                part[lag] = part.get(lag, 0.0) + value
    return sorted(((float(e), p) for e, p in found.items()), key=lambda item: -item[0])


def check_channels(problem: Problem) -> None:
    """Raise a `LawError` for a fixed signal of several channels, which are correlated."""
    if problem.channels > 1 and not problem.signal.random:
        raise LawError(
            "`channels` must be 1 for a law with a fixed signal (its channels are correlated); "
            f"got {problem.channels}"
        )
