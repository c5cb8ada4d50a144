"""Numbers from the formulas of a law: finite sums, lattice sums and tables, all by numpy.

Tables (indexed symbols) are arrays in the order of an FFT: index −1 is the last entry, so that
weights and covariances can be indexed by an offset of either sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from scipy import special

from gradconv.errors import LawError

Values = Mapping[Any, Any]

LARGE = 10_000  # points of a sum

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "Abs": np.abs,
    "conjugate": np.conj,
    "re": np.real,
    "im": np.imag,
    "gamma": special.gamma,
    "zeta": special.zeta,
    "erf": special.erf,
    "KroneckerDelta": lambda a, b: 1.0 * (np.abs(a - b) < 1e-9),
}


def evaluate(expression: Any, values: Values, reach: int = 0) -> complex:
    """Value of an expression.

    Parameters
    ----------
    expression : sympy.Expr
        With sums over finite ranges, or over all integers.
    values : mapping
        Numbers for symbols, arrays in FFT order for indexed symbols.
    reach : int
        Where sums over all integers end.

    Raises
    ------
    LawError
        If a symbol has no value or a function is not known.
    """
    return complex(_value(expression, dict(values), reach, 0))


def _value(part: Any, values: dict[Any, Any], reach: int, depth: int) -> Any:
    """Evaluate, with arrays of at most `depth` axes for the indices of the sums around it."""
    import sympy

    def inner(x: Any) -> Any:
        return _value(x, values, reach, depth)

    if part in values:
        return values[part]
    if part.is_Number or part.is_NumberSymbol:
        return float(part)
    if part == sympy.I:
        return 1j
    if isinstance(part, sympy.Indexed):
        if part.base not in values:
            raise LawError(f"`values` must hold a table for {part.base}; got none")
        table = np.asarray(values[part.base])
        indices = [np.asarray(inner(i)) for i in part.indices]
        return table[tuple(np.rint(np.real(i)).astype(int) for i in indices)]
    if part.is_Add:
        return reduce(np.add, [inner(a) for a in part.args])
    if part.is_Mul:
        return reduce(np.multiply, [inner(a) for a in part.args])
    if part.is_Pow:
        base, exponent = inner(part.base), inner(part.exp)
        if part.exp.is_Integer and int(part.exp) >= 0:
            return np.power(base, int(part.exp))
        return np.power(base, exponent)
    if isinstance(part, sympy.Sum):
        return _sum(part, values, reach, depth)
    if isinstance(part, sympy.Piecewise):
        (chosen, condition), (other, _) = part.args
        hole = inner(condition.lhs) == inner(condition.rhs)
        inside = hole if isinstance(condition, sympy.Eq) else ~hole
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(inside, inner(chosen), inner(other))
    name = type(part).__name__
    if name not in _FUNCTIONS:
        raise LawError(f"`expression` must be made of known functions and symbols; got {part}")
    return _FUNCTIONS[name](*(inner(a) for a in part.args))


def _sum(part: Any, values: dict[Any, Any], reach: int, depth: int) -> Any:
    """Sum over all ranges at once: one more axis, in front of those of the sums around."""
    import sympy

    variables, ranges = [], []
    for variable, low, high in part.limits:
        ends = [
            math.copysign(reach, x) if x.is_infinite else _value(x, values, reach, depth).real
            for x in (low, high)
        ]
        variables.append(variable)
        ranges.append(range(round(ends[0]), round(ends[1]) + 1))
    axes = np.meshgrid(*ranges, indexing="ij")
    points = np.stack([a.ravel() for a in axes], axis=1).astype(float)
    bound = {v: points[:, c].reshape(-1, *(1,) * depth) for c, v in enumerate(variables)}
    inside = {**values, **bound}
    if len(points) > LARGE and not part.function.has(sympy.Sum):
        summand = np.asarray(_compiled_value(part.function, inside, reach, depth + 1))
    else:
        summand = np.asarray(_value(part.function, inside, reach, depth + 1))
    if summand.ndim <= depth:
        return summand * len(points)
    return summand.sum(axis=0)


def _compiled_value(part: Any, values: dict[Any, Any], reach: int, depth: int) -> Any:
    """The same with common parts found once: for many points."""
    import sympy

    entries = {e: sympy.Dummy() for e in part.atoms(sympy.Indexed)}
    named = part.xreplace(entries)
    known = {v: _value(e, values, reach, depth) for e, v in entries.items()}
    arguments = sorted(named.free_symbols, key=str)
    missing = [a for a in arguments if a not in known and a not in values]
    if missing:
        raise LawError(f"`values` must hold a number for {missing[0]}; got none")
    function = sympy.lambdify(arguments, named, modules="numpy", cse=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # the branch of a case not taken
        return function(*(known[a] if a in known else values[a] for a in arguments))
