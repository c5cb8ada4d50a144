"""A law written out: norms of vectors in symbols, what the symbols mean, and the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.errors import LawError
from gradconv.laws.formulas import Meaning, NoFormulaError, Piece, Writer
from gradconv.laws.formulas_grid import GridWriter
from gradconv.laws.formulas_physical import PhysicalWriter
from gradconv.laws.numeric import evaluate
from gradconv.laws.physical import lattice_reach
from gradconv.laws.symbols import formula_of, lives_on_grid

if TYPE_CHECKING:
    from gradconv.laws.law import QuantityLaw, Term
    from gradconv.problem import Problem

SHOWN = 2  # terms of a law that are written out
LEAD = "v"  # name of the leading vector
LONG = 80  # characters of a vector that is better named


@dataclass(frozen=True)
class Written:
    """A law in symbols.

    Parameters
    ----------
    parts : tuple of sympy.Expr
        The leading term and the next one, powers of h and h_L included.
    symbols : mapping
        `Meaning` of every symbol but h and h_L.
    reason : str
        Why constants are numbers, where they are.
    """

    parts: tuple[Any, ...]
    symbols: Mapping[Any, Meaning] = field(default_factory=dict)
    reason: str = ""

    @property
    def expression(self) -> Any:
        """Sum of the terms."""
        import sympy

        return sympy.Add(*self.parts)

    @property
    def values(self) -> dict[Any, Any]:
        """Numbers of the symbols; arrays in FFT order for tables."""
        return {symbol: meaning.value for symbol, meaning in self.symbols.items()}

    @property
    def latex(self) -> str:
        """The expression in LaTeX."""
        return _latex(self.expression)

    @property
    def leading_latex(self) -> str:
        """The leading term in LaTeX."""
        return _latex(self.parts[0]) if self.parts else "0"

    def evaluate(self, h: float, fine_h: float) -> float:
        """Value of the expression at mesh sizes h and h_L."""
        import sympy

        sizes = {sympy.Symbol(n, positive=True): v for n, v in (("h", h), ("h_L", fine_h))}
        return evaluate(self.expression, {**self.values, **sizes}).real


def _latex(expression: Any) -> str:
    import sympy

    names = {sympy.Symbol("norm_theta", positive=True): r"\lVert\theta\rVert"}
    return str(sympy.latex(expression, symbol_names=names))


class Pieces:
    """The pieces of a problem's mean gradient, written when they are first asked for."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @cached_property
    def found(self) -> tuple[Writer, list[Piece]]:
        """The writer, which knows the symbols, and the pieces.

        Raises
        ------
        NoFormulaError
            If the mean gradient is known in numbers only.
        """
        grid = lives_on_grid(formula_of(self.problem.convolution))
        writer = (GridWriter if grid else PhysicalWriter)(self.problem)
        return writer, list(writer.pieces())

    def write(self, quantity: str, terms: tuple[Term, ...]) -> Written:
        """Write the law of a norm, given its terms in numbers."""
        try:
            writer, pieces = self.found
            return _Norm(writer, pieces, quantity == "mean_gap").write(terms[:SHOWN])
        except NoFormulaError as error:
            return in_numbers(terms, str(error))

    def steps(self, law: QuantityLaw) -> tuple[str, ...]:
        """How the law of a norm was derived."""
        from gradconv.laws.steps import norm_steps

        try:
            writer = self.found[0]
        except NoFormulaError:
            writer = None
        return norm_steps(law, writer)


def in_numbers(terms: tuple[Term, ...], reason: str = "") -> Written:
    """Write a law whose constants are numbers."""
    import sympy

    return Written(
        tuple(
            sympy.Float(t.coefficient, 8)
            * _powers(as_exponent(t.exponent), as_exponent(t.fine_exponent), t.logs)
            for t in terms[:SHOWN]
        ),
        reason=reason,
    )


def as_exponent(x: float) -> Any:
    """An exponent as a fraction."""
    import sympy

    return sympy.nsimplify(x, rational=True, tolerance=1e-9)


def _powers(power: Any, fine: Any, logs: int) -> Any:
    import sympy

    h, fine_h = sympy.Symbol("h", positive=True), sympy.Symbol("h_L", positive=True)
    return h**power * fine_h**fine * sympy.log(1 / h) ** logs


@dataclass
class _Vector:
    """scale · component(m), with the powers that belong to it; a leading scale is positive."""

    scale: Any
    component: Any
    powers: Any


class _Norm:
    def __init__(self, writer: Writer, pieces: list[Piece], gap: bool) -> None:
        self.writer, self.pieces, self.gap = writer, pieces, gap
        self.symbols = dict(writer.symbols)

    def write(self, terms: tuple[Term, ...]) -> Written:
        """The leading term, and what the next one adds to the norm to first order."""
        vectors = [self._vector(t, name) for t, name in zip(terms, (LEAD, "w"), strict=False)]
        parts = []
        for position, vector in enumerate(vectors):
            lead = vectors[0]
            size = self._size(lead.component)
            if position:
                size = self._sum(lead.component * vector.component) / size
            parts.append(vector.scale * size * vector.powers)
        used = set().union(*(self._needed(p) for p in parts))
        symbols = {s: m for s, m in self.symbols.items() if s in used}
        return Written(tuple(parts), symbols)

    def _needed(self, expression: Any) -> set[Any]:
        """Symbols of an expression and of the definitions that it rests on."""
        import sympy

        found: set[Any] = set()
        open_ones = [expression]
        while open_ones:
            e = open_ones.pop()
            for s in (*e.free_symbols, *e.atoms(sympy.IndexedBase)):
                if s in self.symbols and s not in found:
                    found.add(s)
                    meaning = self.symbols[s]
                    open_ones += [right for _, right in meaning.formulas] + [*meaning.uses]
        return found

    def _number(self, expression: Any) -> float:
        import sympy

        used = expression.free_symbols | expression.atoms(sympy.IndexedBase)
        return evaluate(
            expression, {s: self.symbols[s].value for s in used if s in self.symbols}
        ).real

    def _vector(self, term: Term, name: str) -> _Vector:
        """Add up the pieces of a term's powers."""
        import sympy

        met = []
        for p in self.pieces:
            if (
                abs(p.exponent - term.exponent) > 1e-9
                or abs(p.fine_exponent - term.fine_exponent) > 1e-9
            ):
                continue
            if p.components is None:
                raise NoFormulaError("the mean of the noise in several channels")
            two = 2**p.exponent_in_symbols
            if p.logs == term.logs and not self.gap:
                met.append((p, 1, sympy.Integer(1)))
            elif p.logs == term.logs and abs(1 - 2**p.exponent) > 1e-12:
                met.append((p, 1, 1 - two) if p.exponent < 0 else (p, -1, two - 1))
            if self.gap and p.logs == term.logs + 1:  # log(1/2h) = log(1/h) − log 2
                met.append((p, 1, two * sympy.log(2)))
        if not met:
            raise LawError(f"`terms` must be those of the problem; got one in h^{term.exponent:g}")
        powers = {(p.exponent_in_symbols, p.fine_exponent_in_symbols) for p, _, _ in met}
        shown = (
            powers.pop()
            if len(powers) == 1
            else (as_exponent(term.exponent), as_exponent(term.fine_exponent))
        )
        sums: dict[Any, list[Any]] = {}
        for p, sign, factor in met:
            number, rest = (p.scalar * factor).as_coeff_Mul()
            components = list(p.components or ())
            own = sums.setdefault(rest, [sympy.Integer(0)] * len(components))
            for a, c in enumerate(components):
                own[a] += sign * number * c
        if len(sums) == 1:
            [(scale, components)] = sums.items()
        else:
            scale, lists = sympy.Integer(1), list(sums.items())
            components = [sum(s * own[a] for s, own in lists) for a in range(len(lists[0][1]))]
        content, component = self._in_one(name, components)
        moving = (*self.writer.index, *self.writer.pair, sympy.Indexed)
        fixed, component = component.as_independent(*moving, as_Add=False)
        scale *= content * fixed
        if name == LEAD and self._number(scale) < 0:
            scale, component = -scale, -component
        return _Vector(scale, component, _powers(*shown, term.logs))

    def _in_one(self, name: str, components: list[Any]) -> tuple[Any, Any]:
        """A number and an expression: a short formula in m, or a table that is defined."""
        import sympy

        writer, content = self.writer, sympy.Integer(1)
        if writer.index:
            component = components[0]
            if not component.has(sympy.Sum):
                content, component = sympy.factor_terms(component).as_content_primitive()
            if len(str(component)) <= LONG:
                return content, component
            components = [component]
        base = sympy.IndexedBase(name)
        first = writer.pair if writer.several else ()
        text = "vector of the gradient, "
        if writer.index:
            entry = base[(*first, *writer.index)]
            formulas: tuple[tuple[Any, Any], ...] = ((entry, components[0]),)
            text += "at the weights' places m"
        else:
            entry = base[(*first, _number_symbol())]
            formulas = tuple((base[(*first, n)], c) for n, c in enumerate(components))
            text += "a component for each of " + ", ".join(writer.kernel.parameter_names)
        known = dict(self.symbols)
        self.symbols[base] = Meaning(text, lambda: self._table(known, components), formulas)
        return content, entry

    def _table(self, known: Mapping[Any, Meaning], components: list[Any]) -> np.ndarray:
        """The values of a named vector, in FFT order: an index of −1 is the last."""
        writer, pairs = self.writer, self.writer.kernel.theta.shape[:2]
        places = self._places()
        reach = 0 if writer.grid else lattice_reach(writer.problem)
        used = set().union(*(self._needed(c) for c in components))
        values = {s: m.value for s, m in known.items() if s in used}
        shape = np.max(places, axis=0) - np.min(places, axis=0) + 1
        table = np.zeros((*pairs, *shape))
        for o, i in np.ndindex(*pairs):
            here = {**values, writer.pair[0]: float(o), writer.pair[1]: float(i)}
            for place in places:
                here.update(zip(writer.index, map(float, place), strict=False))
                component = components[0 if writer.index else place[0]]
                table[(o, i, *place)] = evaluate(component, here, reach).real
        return table if writer.several else np.asarray(table[0, 0])

    def _places(self) -> np.ndarray:
        """Offsets or numbers of the weights, shape ``(p, axes)``."""
        values = self.writer.formula.values
        if self.writer.index and values is not None:
            return np.asarray(values, dtype=int)
        return np.arange(self.writer.components)[:, None]

    def _sum(self, summand: Any) -> Any:
        """Sum over all weights."""
        import sympy

        writer = self.writer
        out, in_, count = writer.kernel.theta.shape
        limits = writer.ranges(writer.index) if writer.index else [(_number_symbol(), 0, count - 1)]
        if writer.several:
            limits += [(writer.pair[0], 0, out - 1), (writer.pair[1], 0, in_ - 1)]
        return sympy.Sum(summand, *limits)

    def _size(self, component: Any) -> Any:
        """Norm over the weights."""
        import sympy

        writer, theta = self.writer, self.writer.kernel.theta
        if writer.index and component == writer.weight(*writer.index):
            symbol = sympy.Symbol("norm_theta", positive=True)
            text = "Euclidean norm of the weights"
            self.symbols[symbol] = Meaning(text, float(np.linalg.norm(theta)))
            return symbol
        if component**2 == 1:
            symbol = sympy.Symbol("p", positive=True, integer=True)
            self.symbols[symbol] = Meaning("number of weights", float(theta.size))
            return sympy.sqrt(symbol)
        return sympy.sqrt(self._sum(component**2))


def _number_symbol() -> Any:
    import sympy

    return sympy.Symbol("n", integer=True)
