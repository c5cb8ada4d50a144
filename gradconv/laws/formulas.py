"""The vectors of a law in symbols: weights, diffusion, drift, moments, densities, d.

A term of the mean gradient is found twice, from the same parts: as numbers in
`gradconv.laws.grid` and `gradconv.laws.physical`, and here as sympy expressions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from gradconv.errors import LawError
from gradconv.laws.densities import (
    Density,
    Exponent,
    noise_density,
    read_density,
    signal_density,
)
from gradconv.laws.integrals import Lags
from gradconv.laws.symbols import formula_of, lives_on_grid, mesh_size, wave_numbers
from gradconv.laws.transfers import transfer_of
from gradconv.problem import Problem


class NoFormulaError(LawError):
    """A vector that is known in numbers only."""


@dataclass(frozen=True)
class Meaning:
    """What a symbol stands for.

    Parameters
    ----------
    text : str
        In words.
    number : float or ndarray or callable
        A number; a table in FFT order for an indexed symbol; or what finds it, if that takes time.
    formulas : tuple of (sympy.Expr, sympy.Expr)
        Left and right sides of its definition; several for the entries of a table.
    entries : callable, optional
        Writes more formulas, where that takes time.
    uses : tuple of sympy.Symbol
        The symbols in those.
    """

    text: str
    number: Any
    formulas: tuple[tuple[Any, Any], ...] = ()
    entries: Callable[[], tuple[tuple[Any, Any], ...]] | None = None
    uses: tuple[Any, ...] = ()

    @cached_property
    def value(self) -> Any:
        """The number or table."""
        return self.number() if callable(self.number) else self.number

    @property
    def definitions(self) -> tuple[tuple[Any, Any], ...]:
        """All formulas, those of `entries` written now."""
        return self.formulas + (() if self.entries is None else self.entries())


class Piece(NamedTuple):
    """scalar · components · h^p h_L^q log(1/h)^r, exponents in numbers and in symbols.

    No components: known in numbers only.
    """

    exponent: float
    fine_exponent: float
    logs: int
    exponent_in_symbols: Any
    fine_exponent_in_symbols: Any
    scalar: Any
    components: tuple[Any, ...] | None


@lru_cache(maxsize=4096)
def rational(x: float) -> Any:
    """A double as the fraction that it is meant to be, if it is one."""
    import sympy

    found = Fraction(x).limit_denominator(10**6)
    close = abs(float(found) - x) <= 4e-16 * abs(x)
    return sympy.Rational(found.numerator, found.denominator) if close else sympy.Float(x, 17)


class Writer(ABC):
    """Writes the pieces of a problem's mean gradient and keeps what its symbols mean.

    Attributes
    ----------
    components : int
        How many expressions a vector has: one in the index m of the weight, or one a parameter.
    symbols : dict
        `Meaning` by symbol.
    """

    def __init__(self, problem: Problem) -> None:
        import sympy

        self.problem, self.kernel = problem, problem.convolution
        self.formula, self.transfer = formula_of(self.kernel), transfer_of(problem)
        self.symbols: dict[Any, Meaning] = {}
        self.dim = sympy.Symbol("d", positive=True, integer=True)
        self.k, self.h = wave_numbers(problem.dim), mesh_size()
        self.grid = lives_on_grid(self.formula)
        self.index = self.formula.index
        self.several = self.kernel.out_channels > 1 or self.kernel.in_channels > 1
        self.pair = sympy.symbols("o i", integer=True)
        self.components = 1 if self.index else len(self.formula.slopes)
        self.weight_table = self._weights()

    # ---- symbols and what they mean ----

    def define(self, symbol: Any, text: str, value: Any, *formulas: tuple[Any, Any]) -> Any:
        """Keep what a symbol means; the symbol again."""
        self.symbols.setdefault(symbol, Meaning(text, value, tuple(formulas)))
        return symbol

    def dimension(self) -> Any:
        """d."""
        return self.define(self.dim, "dimension", float(self.problem.dim))

    def of_pair(self, name: str, text: str, values: np.ndarray) -> Any:
        """A number for each pair of channels, shape ``(out, in)``: a symbol where there is one."""
        import sympy

        if self.several:
            return self.define(sympy.IndexedBase(name), text, values)[self.pair]
        return self.define(sympy.Symbol(name, real=True), text, float(values[0, 0]))

    def _weights(self) -> Any:
        import sympy

        theta = self.kernel.theta
        if self.index:
            assert self.formula.values is not None
            offsets = np.asarray(self.formula.values, dtype=int)
            side = int(np.abs(offsets).max()) * 4 + 1  # so that differences of offsets fit
            table = np.zeros((*theta.shape[:2], *(side,) * self.problem.dim))
            for position, offset in enumerate(offsets):
                table[(..., *offset)] = theta[..., position]
            text = "weight at offset m, in cells" if self.grid else "weight of mode m"
        else:
            table, text = theta, "parameter " + ", ".join(self.kernel.parameter_names)
        value = table if self.several else table[0, 0]
        self._theta = sympy.IndexedBase("theta")
        return Meaning(text, value)

    def weight(self, *index: Any) -> Any:
        """θ at an offset, or the parameter of a number."""
        self.symbols.setdefault(self._theta, self.weight_table)
        return self._theta[(*self.pair, *index)] if self.several else self._theta[index]

    def ranges(self, variables: tuple[Any, ...]) -> list[tuple[Any, int, int]]:
        """Limits of sums over the offsets of the weights."""
        assert self.formula.values is not None
        reach = int(np.abs(self.formula.values).max())
        return [(v, -reach, reach) for v in variables]

    def own(self) -> Any:
        """1 for the pairs of a channel with itself, which have a target."""
        import sympy

        return sympy.KroneckerDelta(*self.pair) if self.several else sympy.Integer(1)

    def density(self, origin: str) -> Density | None:
        """Density of the signal or noise with its constants in symbols, d among them."""
        import sympy

        numeric = (signal_density if origin == "signal" else noise_density)(self.problem)
        if numeric is None or numeric.finite:
            return numeric
        square, h = sympy.Symbol("J", positive=True), sympy.Symbol("h", positive=True)
        if origin == "signal":
            found = self.problem.signal.formula(square, self.dim)
        else:
            found = self.problem.noise.formula(square, h, self.dim)
        if found is None:  # pixels whose variance follows the signal
            v = self.define(
                numeric.constant, "mean variance of a pixel of the noise", numeric.scale
            )
            return Density(numeric.scale, v, numeric.mesh_exponent, mesh_symbol=self.dimension())
        values = {**found[1], self.dim: float(self.problem.dim)}
        density = read_density(found[0], values, square, h)
        for symbol, value in found[1].items():
            text = f"parameter of the {origin}: S(k) = {found[0]}, J = |k|²/4π²"
            self.define(symbol, text, value)
        self.dimension()
        return density

    # ---- pieces ----

    def pieces(self) -> Iterator[Piece]:
        """All pieces of the mean gradient."""
        for origin in ("signal", "noise"):
            density = self.density(origin)
            if density is None:
                continue
            yield from self.pieces_of(density, origin)
        if self.problem.noise.offset:
            yield self._offset()

    @abstractmethod
    def pieces_of(self, density: Density, origin: str) -> Iterator[Piece]:
        """Pieces of the signal's or the noise's part."""

    @abstractmethod
    def at_origin(self) -> tuple[Any, ...]:
        """conj(∂σ)σ at k = 0, a component each."""

    def _offset(self) -> Piece:
        """The mean of the noise: the mode k = 0 alone."""
        import sympy

        none, symbol = sympy.Integer(0), sympy.Symbol("mu", real=True)
        self.define(symbol, "mean of the noise", self.problem.noise.offset)
        components = None if self.several else self.at_origin()
        return Piece(0.0, 0.0, 0, none, none, symbol**2, components)

    def piece(
        self,
        density: Density,
        power: Exponent,
        fine: Exponent,
        logs: int,
        scalar: Any,
        components: tuple[Any, ...],
    ) -> Piece:
        """A piece with exponents that are given in terms of a density."""
        dim = self.problem.dim
        return Piece(
            power.value(density, dim),
            fine.value(density, dim),
            logs,
            power.in_symbols(density, self.dim),
            fine.in_symbols(density, self.dim),
            scalar,
            components,
        )

    def gain(self, origin: str) -> Any:
        """What the noise leaves of the signal."""
        import sympy

        gain = self.problem.noise.gain
        if origin != "signal" or gain == 1:
            return sympy.Integer(1)
        symbol = sympy.Symbol("g", positive=True)
        return self.define(symbol, "share of the signal that the noise leaves", gain)

    def scales(self) -> tuple[Any, ...]:
        """Factors that give all components one unit."""
        import sympy

        scale = np.broadcast_to(self.kernel.scale, self.kernel.theta.shape)
        if np.all(scale == 1):
            return (sympy.Integer(1),) * self.components
        base = sympy.IndexedBase("lambda")
        text = "factors that give all components of the gradient one unit"
        self.define(base, text, scale if self.several else scale[0, 0])
        first = self.pair if self.several else ()
        return tuple(base[(*first, j)] for j in range(self.components))

    def lag_reach(self) -> int:
        """Largest lag, in cells, that a slope and the symbol can be apart."""
        if not self.index:
            return 2
        assert self.formula.values is not None
        return 2 * int(np.abs(self.formula.values).max())

    def table(
        self,
        name: str,
        text: str,
        number: Callable[[Lags], float],
        formula: Callable[[Lags], Any] | None,
        uses: tuple[Any, ...] = (),
    ) -> Callable[[Any], Any]:
        """A table over the lags, with its numbers and, where it has one, its formula."""
        import sympy

        base, reach, dim = sympy.IndexedBase(name), self.lag_reach(), self.problem.dim
        if base not in self.symbols:
            side = 2 * reach + 1
            values = np.zeros((side,) * dim)
            lags = {}
            for place in np.ndindex(*values.shape):
                lag = tuple(sorted(x if x <= reach else side - x for x in place))
                values[place] = number(lag)
                lags[lag] = base[lag]

            def entries() -> tuple[tuple[Any, Any], ...]:
                assert formula is not None
                return tuple((entry, formula(lag)) for lag, entry in lags.items())

            lazily = None if formula is None else entries
            self.symbols[base] = Meaning(text, values, entries=lazily, uses=uses)
        return lambda lag: base[tuple(lag)]
