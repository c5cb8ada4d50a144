"""Vectors of kernels of a physical width, in symbols: sums over the modes of the box."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradconv.laws.aliases import WeightPart, alias_target, replica_sum, side_factor
from gradconv.laws.densities import Density, Exponent, signal_density
from gradconv.laws.formulas import NoFormulaError, Piece, Writer, rational
from gradconv.laws.integrals import Profile, lag_integral
from gradconv.laws.mellin import lag_formula
from gradconv.laws.physical import lattice_reach, weight_parts


class PhysicalWriter(Writer):
    """Writes the pieces of a kernel of a physical width."""

    # ---- kernels of a physical width: lattice sums ----

    def pieces_of(self, density: Density, origin: str) -> Iterator[Piece]:
        """Sums over the modes j of the box."""
        import sympy

        j = sympy.symbols(f"j1:{self.problem.dim + 1}", integer=True)
        at = {k: 2 * sympy.pi * x for k, x in zip(self.k, j, strict=True)}
        target = self._target(j, at) if origin == "signal" else 0
        products = self._products(origin, at, target)
        spectrum, folded = None, None
        sides: dict[Exponent, Any] = {}
        for part in weight_parts(self.problem, self.transfer, density, origin):
            base = [sympy.Abs(at[k]) if part.absolute else at[k] for k in self.k]
            weight = sum(
                rational(c) * sympy.prod([x**e for x, e in zip(base, mu, strict=True)])
                for mu, c in part.weight.items()
            )
            if part.kind == "spectrum":
                if spectrum is None:
                    spectrum = self._spectrum(density, origin, j)
                scalar, own = spectrum
                weight = weight * own
            elif part.kind == "origin":
                scalar = -density.constant
            else:
                scalar = self._alias_constant(density, part, origin)
            own_products = products
            if origin == "signal" and part.kind not in ("spectrum", "flat", "origin"):
                if folded is None:
                    beyond = sympy.nsimplify(alias_target(self.problem))
                    folded = self._products(origin, at, beyond)
                own_products = folded
            if part.axes is not None:
                weight = weight * self._sets_of_axes(j, *part.axes)
                if not self.index:  # one sum over the modes for all sets of axes
                    weight = weight * scalar / density.constant
                    sides[part.exponent] = sides.get(part.exponent, 0) + weight
                    continue
            if part.kind == "origin":
                components = _origin(products, j)
            else:
                components = tuple(_collapse(weight * p, j) for p in own_products)
            vector = tuple(s * c for s, c in zip(self.scales(), components, strict=True))
            yield self.piece(density, part.exponent, part.fine_exponent, 0, scalar, vector)
        for power, weight in sides.items():
            components = tuple(_collapse(weight * p, j) for p in folded or ())
            vector = tuple(s * c for s, c in zip(self.scales(), components, strict=True))
            yield self.piece(density, power, Exponent(), 0, density.constant, vector)

    def at_origin(self) -> tuple[Any, ...]:
        """The term j = 0."""
        import sympy

        j = sympy.symbols(f"j1:{self.problem.dim + 1}", integer=True)
        at = {k: 2 * sympy.pi * x for k, x in zip(self.k, j, strict=True)}
        components = _origin(self._products("noise", at, 0), j)
        return tuple(s * c for s, c in zip(self.scales(), components, strict=True))

    def _products(self, origin: str, at: dict[Any, Any], target: Any) -> list[Any]:
        """conj(∂σ)(σ − target) at k = 2πj, a component each."""
        import sympy

        formula, gain = self.formula, self.gain(origin)
        slopes = [s.subs(at) for s in formula.slopes]
        if formula.symbol is not None:
            symbol = formula.symbol.subs(at)
            names = {}
            for position, p in enumerate(formula.parameters):
                text = f"kernel parameter {self.kernel.parameter_names[position]}"
                names[p] = self.of_pair(str(p), text, self.kernel.theta[..., position])
            symbol = symbol.subs(names)
            slopes = [s.subs(names) for s in slopes]
        elif self.index:
            n = sympy.symbols(f"n1:{self.problem.dim + 1}", integer=True)
            renamed = slopes[0].subs(dict(zip(self.index, n, strict=True)))
            symbol = _collapse(self.weight(*n) * _integers(renamed), n)
        else:
            symbol = sum(self.weight(a) * s for a, s in enumerate(slopes))
        for constant, value in formula.constants.items():
            self.define(constant, "constant of the kernel", value)
        residual = gain**2 * symbol
        if origin == "signal":
            residual -= gain * self.own() * target
        products = [sympy.conjugate(_integers(s)) * residual for s in slopes]
        return products if self.index else [sympy.powsimp(sympy.expand(p)) for p in products]

    def _target(self, j: Any, at: dict[Any, Any]) -> Any:
        import sympy

        factors = self.problem.target.formula(self.k)
        if factors is not None:
            return sympy.nsimplify(sympy.prod([sympy.sympify(f).subs(at) for f in factors]))
        reach = max(lattice_reach(self.problem), self._finite_reach())
        modes = np.fft.ifftshift(np.arange(-reach, reach + 1))
        values = self.problem.target.multiplier(2 * np.pi * modes)
        return self.define(sympy.IndexedBase("m"), "the target's multiplier at mode j", values)[j]

    def _finite_reach(self) -> int:
        signal = signal_density(self.problem)
        modes = None if signal is None else signal.modes
        return 0 if modes is None else int(np.abs(modes).max())

    def _spectrum(self, density: Density, origin: str, j: Any) -> tuple[Any, Any]:
        """S(k) at k = 2πj as a factor and what depends on j."""
        import sympy

        if density.modes is not None and density.power is not None:
            reach = max(self._finite_reach(), self._mode_reach())
            table = np.zeros((2 * reach + 1,) * len(j))
            table[tuple(density.modes.T)] = density.power
            base = sympy.IndexedBase("P")
            return sympy.Integer(1), self.define(base, f"power of the {origin}'s mode j", table)[j]
        square = sum(x**2 for x in j)
        body = (density.shift_symbol + square) ** (-density.alpha_symbol / 2)
        if not density.origin:
            body = sympy.Piecewise((body, sympy.Ne(square, 0)), (0, True))
        return density.constant, body

    def _mode_reach(self) -> int:
        if self.index:
            assert self.formula.values is not None
            return int(np.abs(self.formula.values).max())
        return lattice_reach(self.problem)

    def _alias_constant(self, density: Density, part: WeightPart, origin: str) -> Any:
        """Factor of a flat spectrum, or of a tail's aliases."""
        import sympy

        alpha, kind, two_r = density.alpha_symbol, part.kind, 2 * self.transfer.smoothing
        if kind == "flat":
            return density.constant
        if kind == "axis":
            return 2 * sympy.zeta(alpha + two_r) * density.constant / (2 * sympy.pi) ** two_r
        if part.axes is not None:
            m = sympy.Integer(part.axes[0])
            factor = side_factor(kind, alpha, density.shift_symbol, m, 2 * sympy.pi)
            return density.constant * factor / sympy.Integer(4) ** two_r
        own = "" if origin == "noise" else "_u"
        if kind == "band":
            return density.constant * self._band("B" + own, alpha, density.alpha)
        if kind == "replica":
            return density.constant * self._replicas("Z" + own, alpha, density.alpha)
        lift = -alpha * density.shift_symbol / 2
        if kind == "raised band":
            return density.constant * lift * self._band("B_2" + own, alpha + 2, density.alpha + 2)
        if kind == "curved":
            lift = alpha * (alpha + 2 - self.dimension()) / (8 * sympy.pi**2 * self.dimension())
        return density.constant * lift * self._replicas("Z_2" + own, alpha + 2, density.alpha + 2)

    def _band(self, name: str, symbol: Any, alpha: float) -> Any:
        """Integral of the tail over the data's modes."""
        table = self.table(
            name,
            f"finite part of the integral of |t|^-({symbol}) over |t_a| < 1/2",
            lambda lag: lag_integral(alpha, lag, Profile("band")),
            lambda lag: lag_formula(symbol, self.dim, lag, Profile("band"), alpha),
            (*symbol.free_symbols, self.dimension()),
        )
        return table((0,) * self.problem.dim)

    def _replicas(self, name: str, symbol: Any, alpha: float) -> Any:
        """Sum of the tail over all replicas."""
        import sympy

        value = replica_sum(alpha, self.problem.dim)
        text = f"finite part of the sum of |j|^-({symbol}) over j other than 0 (Epstein's zeta)"
        return self.define(sympy.Symbol(name, real=True), text, value)

    def _sets_of_axes(self, j: Any, size: int, given: int) -> Any:
        """C(N − given, size − given), N the number of axes with j_a ≠ 0."""
        import sympy

        if size == given:
            return sympy.Integer(1)
        reach = max(self._finite_reach(), self._mode_reach())
        shape = (2 * reach + 1,) * self.problem.dim
        places = np.array(list(np.ndindex(*shape)))
        table = np.count_nonzero(places, axis=1).astype(float).reshape(shape)
        text = "number of components of j that are not 0"
        count = self.define(sympy.IndexedBase("N"), text, table)[j] - given
        left = size - given
        return sympy.prod([count - i for i in range(left)]) / sympy.factorial(left)


def _origin(products: list[Any], j: Any) -> tuple[Any, ...]:
    import sympy

    return tuple(sympy.simplify(p.subs(dict.fromkeys(j, 0))) for p in products)


def _integers(expression: Any) -> Any:
    """δ(2πj, 2πm) as δ(j, m)."""
    import sympy

    two_pi = 2 * sympy.pi
    return expression.replace(
        sympy.KroneckerDelta, lambda a, b: sympy.KroneckerDelta(a / two_pi, b / two_pi)
    )


def _collapse(summand: Any, variables: Any) -> Any:
    """Σ of a summand over all integers: in closed form where it holds a δ for each variable."""
    import sympy

    if not summand.has(sympy.KroneckerDelta) or not any(
        set(variables) & d.free_symbols for d in summand.atoms(sympy.KroneckerDelta)
    ):
        return sympy.Sum(summand, *((v, -sympy.oo, sympy.oo) for v in variables))
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(summand)):
        for v in variables:
            met = [d for d in term.atoms(sympy.KroneckerDelta) if v in d.free_symbols]
            if not met:
                raise NoFormulaError("a sum over modes does not end")
            place = sympy.solve(met[0].args[0] - met[0].args[1], v)[0]
            term = (term / met[0]).subs(v, place)
        total += term

    def even(base: Any, *place: Any) -> Any:  # the power of mode −j is that of j
        turned = [-x for x in place] if place[0].could_extract_minus_sign() else place
        return base[tuple(turned)]

    power = sympy.IndexedBase("P")
    entries = [x for x in total.atoms(sympy.Indexed) if x.base == power]
    total = total.subs({x: even(*x.args) for x in entries})
    phases = {e: e.rewrite(sympy.cos) for e in total.atoms(sympy.exp) if e.has(sympy.I)}
    return sympy.expand(total.subs(phases))
