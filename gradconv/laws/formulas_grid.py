"""Vectors of kernels that live on the grid, in symbols: moments, covariances, cell integrals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradconv.laws.densities import Density, Exponent
from gradconv.laws.expansion import pixel_covariance, target_factors, transfer_series
from gradconv.laws.formulas import NoFormulaError, Piece, Writer, rational
from gradconv.laws.grid import (
    LagPart,
    expanded_slopes,
    far_end,
    flat_parts,
    inner_parts,
    lags_told_apart,
    only_origin,
    outer_parts,
    outer_profile,
    scalings,
    slope_series,
)
from gradconv.laws.integrals import Lags, Profile, face_integral, lag_integral
from gradconv.laws.mellin import face_formula, lag_formula
from gradconv.laws.moments import lattice_moment
from gradconv.laws.symbols import formula_of, kernel_values, mesh_size, wave_numbers
from gradconv.problem import Problem


class GridWriter(Writer):
    """Writes the pieces of a kernel that lives on the grid."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._slopes: dict[tuple[float, Lags], tuple[Any, ...]] = {}
        self._coefficients: dict[tuple[float, Lags], Any] = {}

    def pieces_of(self, density: Density, origin: str) -> Iterator[Piece]:
        """Moments of the spectrum, and covariances of neighbouring pixels."""
        problem, formula, transfer = self.problem, self.formula, self.transfer
        if density.flat:
            yield from self._lag_pieces(
                density, origin, flat_parts(problem, formula, transfer, density)
            )
            if not density.origin:
                zero = only_origin(problem, density)
                for piece in self._inner_pieces(zero, origin, density):
                    if piece.exponent == piece.fine_exponent == 0:
                        yield piece
            return
        yield from self._inner_pieces(density, origin, density)
        if not density.finite:
            parts = outer_parts(problem, formula, transfer, density, origin)
            yield from self._lag_pieces(density, origin, parts)

    def at_origin(self) -> tuple[Any, ...]:
        """The first terms of the expansions."""
        import sympy

        none = (0,) * self.problem.dim
        symbol = self._symbol_coefficient(0, none)
        pairs = zip(self.scales(), self._series(0, none), strict=True)
        return tuple(s * sympy.conjugate(c) * symbol for s, c in pairs)

    # ---- inner region: moments ----

    def _inner_pieces(self, density: Density, origin: str, whole: Density) -> Iterator[Piece]:
        import sympy

        slopes = expanded_slopes(self.problem, self.formula)
        gains = transfer_series(self.problem, self.transfer, origin)
        factors = target_factors(self.problem) if origin == "signal" else None
        gain, scale = self.gain(origin), self.scales()
        for part in inner_parts(gains, slopes, origin == "signal"):
            left, right = self._series(*part.slope), self.own()
            weighted = factors if part.symbol is None else None
            if part.symbol is not None:
                right = self._symbol_coefficient(*part.symbol)
            moment, pole = self._moment(density, origin, part.total, weighted)
            sign = -gain if part.symbol is None else gain**2
            turn = sympy.I if sum(part.total) % 2 else sympy.Integer(1)
            components = tuple(
                s * sympy.expand(sympy.conjugate(c) * right * turn * rational(part.weight))
                for s, c in zip(scale, left, strict=True)
            )
            if not any(components):
                continue
            power, fine = Exponent(part.exponent, mesh=1.0), Exponent(part.fine_exponent)
            if moment != 0:
                yield self.piece(whole, power, fine, 0, sign * moment, components)
            if pole != 0:
                yield self.piece(whole, power, fine, 1, sign * pole, components)

    def _series(self, power: int, mu: Lags) -> tuple[Any, ...]:
        """Coefficient of h^power k^mu in each slope."""
        import sympy

        if (power, mu) not in self._slopes:
            found = []
            for slope in self.formula.slopes:
                terms = slope_series(slope, self.k, self.h)
                same = (c for p, nu, c in terms if (p, nu) == (power, mu))
                found.append(sum(same, sympy.Integer(0)))
            self._slopes[power, mu] = tuple(found)
        return self._slopes[power, mu]

    def _symbol_coefficient(self, power: int, mu: Lags) -> Any:
        """Coefficient of h^power k^mu in σ: moments of a stencil's weights, or parameters."""
        if (power, mu) not in self._coefficients:
            self._coefficients[power, mu] = self._sum_of_weights(power, mu)
        return self._coefficients[power, mu]

    def _sum_of_weights(self, power: int, mu: Lags) -> Any:
        import sympy

        coefficients = self._series(power, mu)
        if not self.index:
            return sum(c * self.weight(j) for j, c in enumerate(coefficients))
        assert self.formula.values is not None
        total = sympy.Integer(0)
        for exponents, c in sympy.Poly(coefficients[0], *self.index).terms():
            name = "s_" + "".join(map(str, exponents))
            powers = np.prod(self.formula.values.astype(float) ** np.array(exponents), axis=1)
            pairs = zip(self.index, exponents, strict=True)
            product = " ".join(f"{m}^{e}" if e > 1 else str(m) for m, e in pairs if e)
            text = f"moment of the weights, sum over m of theta[m] {product}".rstrip()
            total += c * self.of_pair(name, text, self.kernel.theta @ powers)
        return total

    def _moment(self, density: Density, origin: str, mu: Lags, factors: Any) -> tuple[Any, Any]:
        """Symbols of a moment of the spectrum and of its logarithm's coefficient."""
        import sympy

        value, pole = lattice_moment(density, mu, factors)
        single = value.imag if sum(mu) % 2 else value.real
        if value == 0 and pole == 0:
            return sympy.Integer(0), sympy.Integer(0)
        if density.modes is not None and not np.any(density.modes):
            return -density.constant, sympy.Integer(0)
        if self._symmetric(origin, factors is not None):
            mu = tuple(sorted(mu, reverse=True))
        letter = "N" if origin == "noise" else ("C" if factors is not None else "M")
        symbol = sympy.Symbol(f"{letter}_{''.join(map(str, mu))}", real=True)
        power = " ".join(f"k{a + 1}^{e}" if e > 1 else f"k{a + 1}" for a, e in enumerate(mu) if e)
        part = "" if factors is None else (" Im m(k)" if sum(mu) % 2 else " Re m(k)")
        text = f"spectral moment of the {origin}, sum over k of S(k) {power}".rstrip() + part
        if not density.finite and density.alpha <= len(mu) + sum(mu):
            text += ", its finite part"
        moment = self.define(symbol, text, single) if abs(single) > 0 else sympy.Integer(0)
        return moment, self._pole(density, mu) if pole else sympy.Integer(0)

    def _pole(self, density: Density, mu: Lags) -> Any:
        """2 C (2π)^|μ| π^{d/2} Π (μ_a − 1)!! 2^{−|μ|/2} (−κ²)^i / (i! Γ(α/2)), α = d + |μ| − 2i."""
        import sympy

        i = round((len(mu) + sum(mu) - density.alpha) / 2)
        size = sympy.prod([sympy.factorial2(max(e - 1, 0)) for e in mu])
        size *= (2 * sympy.pi) ** sum(mu) / sympy.Integer(2) ** (sum(mu) // 2)
        size *= (-density.shift_symbol) ** i / sympy.factorial(i)
        whole = sympy.pi ** (self.dimension() / 2) / sympy.gamma(density.alpha_symbol / 2)
        return 2 * density.constant * size * whole

    def _symmetric(self, origin: str, weighted: bool) -> bool:
        """Whether the axes can be exchanged."""
        import sympy

        if origin == "signal" and not self.problem.signal.random:
            return False
        if not weighted:
            return True
        factors = self.problem.target.formula(self.k)
        one = self.k[0]
        return factors is not None and all(
            sympy.sympify(f).subs(a, one) == sympy.sympify(factors[0])
            for f, a in zip(factors, self.k, strict=True)
        )

    # ---- lags: flat spectra and the outer region ----

    def _lag_pieces(
        self, density: Density, origin: str, parts: Iterator[LagPart]
    ) -> Iterator[Piece]:
        import sympy

        seen: dict[Any, LagPart] = {}
        for part in parts:
            key = (part.kind, part.step, part.exponent, part.fine_exponent, part.logs, part.slopes)
            seen.setdefault((*key, part.target, part.choices), part)
        profile = None
        if not density.flat:
            profile = outer_profile(self.problem, self.transfer, origin)
        gain, scale = self.gain(origin), self.scales()
        for part in seen.values():
            sign = -gain if part.target else gain**2
            scalar, table, only_zero = self._lag_constant(density, part, profile, origin)
            if self.index:
                components = [self._stencil_lags(part, table, only_zero)]
            else:
                components = self._parameter_lags(part, table, only_zero)
            vector = tuple(s * c for s, c in zip(scale, components, strict=True))
            yield self.piece(
                density,
                part.exponent,
                part.fine_exponent,
                part.logs,
                sympy.sympify(sign * scalar),
                vector,
            )

    def _stencil_lags(self, part: LagPart, table: Any, only_zero: bool) -> Any:
        """Σ_n K(n − m) θ_n; K(m) where the target takes the place of σ."""
        import sympy

        m = self.index
        phase = sum(a * b for a, b in zip(self.k, m, strict=True))
        if sympy.simplify(self.formula.slopes[0] - sympy.exp(sympy.I * self.h * phase)) != 0:
            raise NoFormulaError("only weights on grid points have their covariances in symbols")
        if part.target:
            if only_zero:
                return self.own() * sympy.prod([sympy.KroneckerDelta(a, 0) for a in m])
            return self.own() * table(m)
        if only_zero:
            return self.weight(*m)
        n = sympy.symbols(f"n1:{self.problem.dim + 1}", integer=True)
        apart = tuple(b - a for a, b in zip(m, n, strict=True))
        return sympy.Sum(table(apart) * self.weight(*n), *self.ranges(n))

    def _parameter_lags(self, part: LagPart, table: Any, only_zero: bool) -> list[Any]:
        """Σ_δ K(δ) A_δ a parameter, A_δ linear in the parameters."""
        import sympy

        q = scalings(self.problem, self.formula)
        products = _lag_products(self.problem, part.target)
        total = [sympy.Integer(0)] * self.components
        for lag, matrix in products:
            if only_zero and any(lag):
                continue
            size = sympy.Integer(1) if only_zero else table(lag)
            for j, n in np.argwhere(np.abs(matrix) > 1e-13):
                other = 0.0 if part.target else q[n]
                if abs(q[j] + other + part.slopes) < 1e-9:
                    right = self.own() if part.target else self.weight(int(n))
                    total[j] += rational(float(matrix[j, n])) * size * right
        return total

    def _lag_constant(
        self, density: Density, part: LagPart, profile: Profile | None, origin: str
    ) -> tuple[Any, Any, bool]:
        """(factor, table of the lag, whether lag 0 alone counts) of a part."""
        import sympy

        dim, i = self.problem.dim, part.step
        if part.kind == "flat":
            return self._flat_constant(density, part)
        assert profile is not None
        alpha, tail = density.alpha_symbol + 2 * i, density.alpha + 2 * i
        ratio = density.constant * (-density.shift_symbol) ** i / sympy.factorial(i)
        ratio *= sympy.prod([density.alpha_symbol / 2 + n for n in range(i)])
        mark = (f"{i}" if i else "") + ("_u" if origin == "signal" else "")
        uses = (*density.alpha_symbol.free_symbols, self.dimension())
        if part.kind in ("outer", "band"):
            chosen = profile if part.kind == "outer" else Profile("band")
            name = f"I{mark}" if part.kind == "outer" else f"B{mark}"
            table = self.table(
                name,
                f"finite part of the integral of |t|^(-{alpha}) cos(2 pi delta.t) over the "
                f"frequencies of a cell ({_profile_text(chosen)})",
                lambda lag: lag_integral(tail, lag, chosen),
                lambda lag: lag_formula(alpha, self.dim, lag, chosen, tail),
                uses,
            )
            if part.kind == "outer":
                return ratio, table, False
            return ratio * table((0,) * dim), None, True
        if part.kind in ("kink", "nyquist"):
            more = 2 if part.kind == "kink" else 0
            table = self.table(
                f"{'F' if more else 'E'}{mark}",
                f"integral of |t|^(-{alpha + more}) cos(2 pi delta.t) over the faces of the cell "
                "|t_a| < 1/2, each with its sign cos(pi delta_a)",
                lambda lag: face_integral(tail + more, lag, Profile("band")),
                lambda lag: face_formula(alpha + more, self.dim, lag),
                uses,
            )
            factor = -alpha / 12 if more else -sympy.Rational(1, 2)
            return ratio * factor, table, False
        if part.kind == "pole":
            whole = sympy.pi ** (self.dimension() / 2) / sympy.gamma(alpha / 2)
            return -2 * ratio * whole, None, True
        table = self.table(
            f"D{mark}",
            "what the end of the data's band adds at a lag along one axis, over (h_L/h)^2",
            lambda lag: far_end(tail, lag) if sum(map(bool, lag)) == 1 else 0.0,
            None,
        )
        return ratio, table, False

    def _flat_constant(self, density: Density, part: LagPart) -> tuple[Any, Any, bool]:
        """C Π_a r(δ_a), the covariance of restricted independent pixels."""
        import sympy

        _, row = pixel_covariance(self.problem, self.transfer, density)
        reach = self.lag_reach()
        rows = []
        for a, b in part.choices:
            line = [sum(c for x, y, c in row(lag) if (x, y) == (a, b)) for lag in range(reach + 1)]
            rows.append((a, line))
        if not any(any(line[1:]) for _, line in rows):
            return density.constant * sympy.prod([rational(x[1][0]) for x in rows]), None, True
        bases = []
        for a, line in rows:
            base = sympy.IndexedBase(f"r_{a:g}".replace("-", "").replace(".", "p"))
            text = f"covariance of restricted pixels an axis, at a lag in cells: factor of h^{a:g}"
            bases.append(self.define(base, text, np.array([*line, *line[:0:-1]])))
        return (
            density.constant,
            lambda lag: sympy.prod([base[x] for base, x in zip(bases, lag, strict=True)]),
            False,
        )


def _profile_text(profile: Profile) -> str:
    if profile.kind == "sinc":
        return f"all t, weighed by sinc(pi t_a)^{2 * profile.smoothing} an axis"
    if profile.kind == "all":
        return "all t"
    weight = f", weighed by cos(pi t_a/2)^{2 * profile.smoothing} an axis"
    return f"|t_a| < {profile.width:g}" + (weight if profile.smoothing else "")


def _lag_products(problem: Problem, target: bool) -> list[tuple[Lags, np.ndarray]]:
    """Re[conj(b_j) b_n] at k = φ/h, h = 1, as Σ_δ B_jn(δ) cos(δ·φ); b_n = 1 for the target."""
    kernel, dim = problem.convolution, problem.dim
    n = lags_told_apart(formula_of(kernel))
    phi = 2.0 * np.pi * np.fft.fftfreq(n)
    values = kernel_values(
        kernel, tuple(np.meshgrid(*[phi] * dim, indexing="ij", sparse=True)), 1.0
    )
    scale = np.broadcast_to(kernel.scale, kernel.theta.shape)[0, 0]
    basis = values.slopes[0, 0] / scale.reshape(-1, *(1,) * dim)
    others = np.ones((1, *(n,) * dim)) if target else basis
    mixed = np.einsum("j...,n...->jn...", basis.conj(), others).real
    lags = np.fft.fftn(mixed, axes=tuple(range(-dim, 0)), norm="forward").real
    found = []
    for index in np.argwhere(np.abs(lags).max(axis=(0, 1)) > 1e-13):
        lag = tuple(int(i) if i <= n // 2 else int(i) - n for i in index)
        found.append((lag, lags[(..., *index)]))
    return found


def expand_series(problem: Problem, order: int = 2) -> list[str]:
    """The slopes of a kernel that lives on the grid, expanded in h, as text."""
    import sympy

    formula, k, h = formula_of(problem.convolution), wave_numbers(problem.dim), mesh_size()
    found = []
    for name, slope in zip(_names(problem, formula), formula.slopes, strict=False):
        terms = [
            c * h**p * sympy.prod([a**e for a, e in zip(k, mu, strict=True)])
            for p, mu, c in slope_series(slope, k, h)
            if p <= order
        ]
        found.append(f"{name} = {sympy.Add(*terms)} + O(h^{order + 1})")
    return found


def _names(problem: Problem, formula: Any) -> list[str]:
    if formula.index:
        return ["dsigma/dtheta[m]"]
    return [f"dsigma/d{name}" for name in problem.convolution.parameter_names]
