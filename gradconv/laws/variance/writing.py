"""The laws of variance and rms gap in symbols: powers of the noise and of the signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradconv.laws.densities import Density, noise_density, signal_density
from gradconv.laws.formulas import Meaning
from gradconv.laws.variance.scalars import ScalarTerm
from gradconv.laws.writing import SHOWN, Written, as_exponent
from gradconv.problem import Problem

if TYPE_CHECKING:
    from gradconv.laws.law import QuantityLaw, Term

# origin: name of its constant, powers of the noise's and the signal's scale, what it is
_SHARES = {
    "noise": ("nn", 2, 0, "Wick products of noise with noise, a unit of its spectral density"),
    "signal x noise": ("sn", 1, 1, "Wick products of signal with noise, a unit of both densities"),
    "signal": ("ss", 0, 2, "Wick products of signal with signal, a unit of its spectral density"),
    "mean": ("mm", 0, 0, "inner products of terms of the mean gap, see its law"),
}


_OWNERS = ("noise", "signal")


class FluctuationPieces:
    """The shares of a problem's variance or mean square, written when they are asked for."""

    def __init__(self, problem: Problem, terms: tuple[ScalarTerm, ...]) -> None:
        self._problem, self._terms = problem, terms

    def write(self, quantity: str, terms: tuple[Term, ...]) -> Written:
        """Write the leading term and the next one; that of an rms gap as a root."""
        import sympy

        symbols: dict[Any, Meaning] = {}
        noise, signal = noise_density(self._problem), signal_density(self._problem)
        chosen = list(self._terms[:SHOWN])
        if quantity == "rms_gap":  # logarithms are not expanded
            chosen = list(self._terms[:1])
            chosen += [t for t in self._terms[1:] if t.logs == chosen[0].logs == 0][: SHOWN - 1]
        parts = [
            self._written(t, letter, (noise, signal), symbols)
            for t, letter in zip(chosen, "KJ", strict=False)
        ]
        if quantity == "rms_gap" and parts:
            root = sympy.sqrt(parts[0])
            parts = [root, *(p / (2 * root) for p in parts[1:])]
        return Written(tuple(sympy.powsimp(sympy.expand_power_base(p)) for p in parts), symbols)

    def _written(
        self,
        term: ScalarTerm,
        letter: str,
        densities: tuple[Density | None, Density | None],
        symbols: dict[Any, Meaning],
    ) -> Any:
        import sympy

        h, fine = (sympy.Symbol(name, positive=True) for name in ("h", "h_L"))
        total = sympy.Integer(0)
        for origin, value in term.shares or ((term.origin, term.value),):
            tag, *powers, text = _SHARES[origin]
            scale, number = sympy.Integer(1), 1.0
            for density, power, owner in zip(densities, powers, _OWNERS, strict=True):
                if density is not None and power:
                    scale = scale * _scale(density, owner, symbols) ** power
                    number *= density.scale**power
            constant = sympy.Symbol(f"{letter}_{tag}", real=True)
            symbols[constant] = Meaning(text, value / number)
            total = total + constant * scale
        logs = sympy.log(1 / h) ** term.logs
        return (
            total * h ** as_exponent(term.exponent) * fine ** as_exponent(term.fine_exponent) * logs
        )

    def steps(self, law: QuantityLaw) -> tuple[str, ...]:
        """Nothing beyond the law's own notes."""
        return ()


def _scale(density: Density, owner: str, symbols: dict[Any, Meaning]) -> Any:
    """Constant of a spectral density: its formula, or a name if that is long."""
    import sympy

    if sympy.count_ops(density.constant) > 3:
        name = sympy.Symbol(f"S_{owner}", positive=True)
        text = f"constant of the {owner}'s spectral density, S |j|^(-alpha) at large j"
        symbols[name] = Meaning(text, density.scale, ((name, density.constant),))
        return name
    for symbol, known in density.values:
        if sympy.sympify(density.constant).has(symbol):
            symbols[symbol] = Meaning(f"parameter of the {owner}", known)
    return density.constant
