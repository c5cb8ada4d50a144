"""Kernels, targets and transfers on all modes of a mesh, evaluated from their formulas in sympy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gradconv.errors import LawError
from gradconv.kernels import Kernel, KernelFormula
from gradconv.problem import Problem

TWO_PI = 2.0 * np.pi


@lru_cache(maxsize=8)
def wave_numbers(dim: int) -> Any:
    """Symbols k_1, …, k_dim of the frequencies in radians per box."""
    import sympy

    return sympy.symbols(f"k1:{dim + 1}", real=True)


def mesh_size() -> Any:
    """Symbol h of the mesh size."""
    import sympy

    return sympy.Symbol("h", positive=True)


def formula_of(kernel: Kernel) -> KernelFormula:
    """Formula of a kernel.

    Raises
    ------
    LawError
        If the kernel gives none.
    """
    if type(kernel).__hash__ is object.__hash__:  # told apart by identity
        return _formula_of(kernel)
    return _formula_of.__wrapped__(kernel)


@lru_cache(maxsize=64)  # every level of every quantity asks
def _formula_of(kernel: Kernel) -> KernelFormula:
    formula = kernel.formula(wave_numbers(kernel.dim), mesh_size())
    if formula is None:
        raise LawError(
            f"`kernel` must give its symbol as a formula for a law; got {type(kernel).__name__}"
        )
    return formula


def lives_on_grid(formula: KernelFormula) -> bool:
    """Whether a kernel's width is a number of cells, and not a length."""
    return any(slope.has(mesh_size()) for slope in formula.slopes)


@dataclass(frozen=True)
class KernelValues:
    """A kernel on modes: what a sum over frequencies needs.

    Parameters
    ----------
    symbol : ndarray
        σ, shape ``(out, in, *modes)``.
    slopes : ndarray
        ∂σ/∂θ times the kernel's scale, shape ``(out, in, p, *modes)``.
    """

    symbol: np.ndarray
    slopes: np.ndarray


def kernel_values(kernel: Kernel, k: tuple[np.ndarray, ...], h: float) -> KernelValues:
    """Evaluate symbol and scaled slopes at frequencies k, which broadcast to the shape of modes."""
    slopes, symbol = _evaluator(formula_of(kernel), kernel)
    shape = np.broadcast_shapes(*(a.shape for a in k))
    theta = kernel.theta
    scale = np.broadcast_to(kernel.scale, theta.shape)
    tail = (1,) * len(shape)
    if symbol is None:
        basis = slopes(k, h, shape)
        values = np.tensordot(theta, basis, axes=(2, 0))
        return KernelValues(values, scale.reshape(*theta.shape, *tail) * basis)
    pairs = [slopes(k, h, shape, theta[o, i]) for o, i in np.ndindex(*theta.shape[:2])]
    values = np.array([symbol(k, h, shape, theta[o, i]) for o, i in np.ndindex(*theta.shape[:2])])
    stacked = np.array(pairs).reshape(*theta.shape, *shape)
    symbols = values.reshape(*theta.shape[:2], *shape)
    return KernelValues(symbols, scale.reshape(*theta.shape, *tail) * stacked)


def _evaluator(formula: KernelFormula, kernel: Kernel) -> tuple[Any, Any]:
    import sympy

    k, h = wave_numbers(kernel.dim), mesh_size()
    constants = tuple(formula.constants)
    fixed = tuple(formula.constants.values())
    arguments = (*k, h, *constants, *formula.parameters, *formula.index)
    functions = [compiled(arguments, s) for s in formula.slopes]

    def slopes(
        ks: tuple[np.ndarray, ...], size: float, shape: tuple[int, ...], theta: Any = ()
    ) -> np.ndarray:
        if formula.index:
            assert formula.values is not None
            columns = [c.reshape(-1, *(1,) * len(shape)) for c in formula.values.T]
            value = functions[0](*ks, size, *fixed, *columns)
            return np.broadcast_to(value, (len(formula.values), *shape)).astype(complex)
        values = [f(*ks, size, *fixed, *theta) for f in functions]
        return np.array([np.broadcast_to(v, shape) for v in values], dtype=complex)

    if formula.symbol is None:
        return slopes, None
    whole = compiled(arguments, sympy.sympify(formula.symbol))

    def symbol(
        ks: tuple[np.ndarray, ...], size: float, shape: tuple[int, ...], theta: Any
    ) -> np.ndarray:
        return np.broadcast_to(whole(*ks, size, *fixed, *theta), shape).astype(complex)

    return slopes, symbol


@lru_cache(maxsize=4096)
def compiled(arguments: tuple[Any, ...], expression: Any) -> Callable[..., Any]:
    """Turn an expression into a numpy function, once."""
    import sympy

    def delta(a: Any, b: Any) -> Any:
        return 1.0 * (np.abs(a - b) < 1e-6)

    named = sympy.sympify(expression).replace(sympy.KroneckerDelta, sympy.Function("meets"))
    modules = [{"meets": delta}, "numpy"]
    return sympy.lambdify(arguments, named, modules=modules)


def closed_box(n: int, dim: int) -> tuple[np.ndarray, ...]:
    """Frequencies 2πj with −n/2 ≤ j_a ≤ n/2, both ends included; broadcastable."""
    j = np.arange(-(n // 2), n // 2 + 1)
    return tuple(
        (TWO_PI * j).reshape([-1 if a == b else 1 for b in range(dim)]) for a in range(dim)
    )


def on_mesh(values: np.ndarray, n: int, dim: int) -> np.ndarray:
    """From the closed box to the n modes an axis of a mesh, in FFT order.

    At j_a = −n/2 a mesh cannot tell the two ends apart: a real operator takes their mean.
    """
    for axis in range(-dim, 0):
        if n % 2 == 0:
            ends = 0.5 * (np.take(values, [0], axis) + np.take(values, [n], axis))
            inner = np.take(values, range(1, n), axis)
            values = np.concatenate([ends, inner], axis)
        values = np.roll(values, -(n // 2), axis)
    return values


def target_values(problem: Problem, n: int) -> np.ndarray:
    """m(k) on the modes of a mesh, FFT order."""
    k = closed_box(n, problem.dim)
    shape = (k[0].shape[0],) * problem.dim
    formula = problem.target.formula(wave_numbers(problem.dim))
    if formula is None:
        values: np.ndarray = np.broadcast_to(problem.target.multiplier(*k), shape)
    else:
        values = np.ones(shape, dtype=complex)
        for symbol, factor, column in zip(wave_numbers(problem.dim), formula, k, strict=True):
            values = values * compiled((symbol,), factor)(column)
    return on_mesh(np.asarray(values, dtype=complex), n, problem.dim)


def taps_transfer(taps: tuple[tuple[int, ...], tuple[float, ...]], theta: np.ndarray) -> np.ndarray:
    """Σ w exp(iθo): what one axis of a local restriction does to a mode of phase θ = k h_fine.

    The restriction's own `symbol` makes the measured means, with which laws share no code.
    """
    return sum(
        (w * np.exp(1j * theta * o) for o, w in zip(*taps, strict=True)), start=np.zeros_like(theta)
    )
