"""Spectral densities of signal and noise, read off their formulas.

A density is S(j) = C h^p (κ² + |j|²)^{−α/2}, or finitely many modes.
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
    constant : sympy.Expr
        C in symbols.
    mesh_exponent : float
        p, the exponent of the mesh size on which the field is drawn.
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
    constant: Any
    mesh_exponent: float = 0.0
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


class Exponent(NamedTuple):
    """An exponent of h or h_L: number + alpha·α + dim·d + mesh·p, with α and p of a density."""

    number: float = 0.0
    alpha: float = 0.0
    dim: float = 0.0
    mesh: float = 0.0

    def plus(self, *other: float) -> Exponent:
        """Add (number, alpha, dim, mesh)."""
        padded = (*other, 0.0, 0.0, 0.0)
        return Exponent(*(a + b for a, b in zip(self, padded, strict=False)))

    def value(self, density: Density, dim: int) -> float:
        """The exponent as a number."""
        p = density.mesh_exponent
        return self.number + self.alpha * density.alpha + self.dim * dim + self.mesh * p

    def in_symbols(self, density: Density, dim: Any) -> Any:
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
    whole = constant * slope**power
    alpha = sympy.simplify(-2 * power)
    return Density(
        number(whole),
        whole,
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


def check_channels(problem: Problem) -> None:
    """Raise a `LawError` for a fixed signal of several channels, which are correlated."""
    if problem.channels > 1 and not problem.signal.random:
        raise LawError(
            "`channels` must be 1 for a law with a fixed signal (its channels are correlated); "
            f"got {problem.channels}"
        )
