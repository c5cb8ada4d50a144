"""Integrals of `gradconv.laws.mellin` in numbers, by tanh-sinh quadrature to many digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DIGITS = 90  # to work with: powers that are taken off cancel to many digits


def integrate(expression: Any, values: dict[Any, float]) -> float:
    """Evaluate an expression with the integrals of this module, by tanh-sinh quadrature.

    Parameters
    ----------
    expression : sympy.Expr
        With `Integral`s over u.
    values : dict
        Numbers for its symbols.
    """
    import sympy

    exact = {s: sympy.Float(v, DIGITS) for s, v in values.items()}
    found = {}
    for integral in expression.atoms(sympy.Integral):
        u, low, high = integral.limits[0]
        function = sympy.lambdify(u, integral.function.subs(exact), modules="mpmath")
        total = sympy.Float(0, DIGITS)
        if low == 0:
            total += sympy.Float(_quadrature(function, 1))
        if high == sympy.oo:
            total += sympy.Float(_quadrature(function, -1))
        found[integral] = total
    return float(expression.subs(found).subs(exact).evalf(DIGITS))


def _quadrature(function: Callable[[Any], Any], side: int) -> Any:
    """∫_0^1 (side 1) or ∫_1^∞ (side −1), in the variable that takes off the power at the end."""
    import mpmath  # type: ignore[import-untyped]

    def f(u: Any) -> Any:
        with mpmath.workdps(DIGITS):
            return mpmath.re(function(u))

    with mpmath.workdps(22):
        ten = mpmath.mpf(10)
        end = ten ** (-16 if side == 1 else 14)
        near, far = abs(f(end * ten**side)), abs(f(end))
        last = mpmath.mpf(0)
        if far < ten**-6 * near or near < ten**-40:  # nothing is left beyond some u
            power, last = mpmath.mpf(1), mpmath.mpf(0.1)
            while last > ten**-9 and abs(f(last**side)) > ten**-35:
                last /= 4
        else:  # f ~ u^(side·power − 1)
            power = mpmath.log10(near / far) + side
        beyond = f(end) * end ** (1 - side * power) / power  # the power itself

        def substituted(v: Any) -> Any:
            u = v ** (side / power)
            if last == 0 and (u - end) * side < 0:
                return beyond
            return f(u) * u / (power * v)

        return mpmath.quad(substituted, [last, (last + 1) / 2, 1])
