"""`assert_semigroup`: K(s) K(t) = K(s + t) on random fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradconv.errors import InputError, check_positive, check_whole, shortened
from gradconv.testing.drawings import error_drawing
from gradconv.testing.failures import fail
from gradconv.testing.probes import (
    Arithmetic,
    Array,
    BandLimited,
    Operator,
    checked_shape,
    norm,
    preserved,
)

MARGIN = 1000.0
"""Default tolerance in units of the machine epsilon: three operators may round."""


def assert_semigroup(
    family: Callable[[float], Operator],
    s: float,
    t: float,
    *,
    shape: int | tuple[int, ...],
    dim: int | None = None,
    modes: int | None = None,
    identity: bool = True,
    dtype: Any = None,
    device: Any = None,
    tolerance: float | None = None,
    samples: int = 2,
    seed: int = 0,
) -> float:
    """Assert that K(s) K(t) = K(t) K(s) = K(s + t), and K(0) = 1, on random fields.

    Parameters
    ----------
    family : callable
        Takes a time and returns the operator K(time), a callable or torch module.
    s, t : float
        Finite times > 0.
    shape : int or tuple of int
        Shape of a field; with batch and channels, ``(B, C, *n)``, for torch layers.
    dim : int, optional
        How many trailing axes are space, for `modes`; default: two axes fewer than a shape of
        three or more, else all.
    modes : int, optional
        Fields are band-limited to max|j| <= `modes` on periodic vertices; default: white noise.
        An operator with a drift is no semigroup at the Nyquist frequency of an even mesh, where a
        real operator keeps the cosine of the phase only: choose ``modes < n / 2``.
    identity : bool
        Whether K(0) = 1 is part of the claim.
    dtype : dtype or torch.dtype, optional
        Type of the fields; default: that of the parameters if K(s) is a module, else float64.
    device : torch.device or str, optional
        Device of tensors; default: that of the module.
    tolerance : float, optional
        Largest ‖K(s)K(t)x − K(s+t)x‖ / ‖K(s+t)x‖ > 0; default 1000 machine epsilons.
    samples : int
        Random fields, >= 1.
    seed : int
        Seed >= 0 of the fields.

    Returns
    -------
    float
        The largest relative error.

    Raises
    ------
    CheckFailed
        If the assertion does not hold, or K(s + t) damps every field to rounding, so that nothing
        is asserted; an `AssertionError`.
    InputError
        If an argument breaks a rule.

    Notes
    -----
    No chance is in it but the seed of the fields: a family that breaks the law on some mode does
    so with probability 1 on white noise, by its share of what K(s + t) leaves of the field.

    Examples
    --------
    >>> import numpy as np
    >>> decay = np.arange(8.0)
    >>> assert_semigroup(lambda t: lambda x: np.exp(-t * decay) * x, 0.3, 0.2, shape=8) < 1e-13
    True
    """
    __tracebackhide__ = True
    given = dict(locals())
    for name, time in (("s", s), ("t", t)):
        number = isinstance(time, int | float) and not isinstance(time, bool)
        if not number or not 0 < time < math.inf:
            raise InputError(f"`{name}` must be a finite time > 0; got {shortened(time)}")
    if not callable(family):
        raise InputError(f"`family` must be callable; got {shortened(family)}")
    sizes = checked_shape("shape", shape)
    check_whole("samples", samples, 1)
    check_whole("seed", seed, 0, 2**62)
    space = _space(dim, sizes)
    _check_modes(modes, sizes[len(sizes) - space :])
    operators = {time: family(time) for time in (s, t, s + t, *((0.0,) if identity else ()))}
    for time, operator in operators.items():
        if not callable(operator):
            raise InputError(
                f"`family` must return operators; got {shortened(operator)} at {time:g}"
            )
    arithmetic = Arithmetic.of(operators[s], dtype, device)
    bound = (
        MARGIN * arithmetic.epsilon if tolerance is None else check_positive("tolerance", tolerance)
    )
    rng = np.random.default_rng(seed)
    rows, trouble = [], ""
    found: dict[str, list[float]] = {}
    with preserved(*operators.values()):
        for sample in range(samples):
            x = _field(arithmetic, sizes, space, modes, rng)
            errors, damping, why = _errors(arithmetic, operators, s, t, x, bound)
            rows.append([str(sample), f"{damping:.3e}", *(f"{e:.3e}" for e in errors.values())])
            trouble = trouble or why
            for name, error in errors.items():
                found.setdefault(name, []).append(error)
    every = [error for errors in found.values() for error in errors]
    worst = max(every) if np.isfinite(every).all() else math.nan
    if trouble:
        fail(
            assert_semigroup,
            f"K(s) K(t) = K(s + t) at s = {s:g}, t = {t:g}",
            trouble,
            {"measured": f"relative error {worst:.3g}, {bound:.3g} allowed"},
            ("sample", "‖K(s+t)x‖ / ‖x‖", *found),
            rows,
            given,
            error_drawing(range(samples), found, bound, "sample"),
        )
    return worst


def _errors(
    arithmetic: Arithmetic,
    operators: dict[float, Operator],
    s: float,
    t: float,
    x: Array,
    bound: float,
) -> tuple[dict[str, float], float, str]:
    """Relative errors of the laws by name, what K(s + t) leaves of the field, what is wrong."""

    def apply(time: float, field: Array) -> Array:
        result = arithmetic.apply(operators[time], field, "family")
        if result.shape != x.shape:
            raise InputError(
                f"`family` must keep the shape of a field, {x.shape}; got {result.shape}"
            )
        return result

    whole = apply(s + t, x)
    size = norm(whole)
    damping = size / norm(x)
    pairs = {"K(s)K(t)": (apply(s, apply(t, x)), whole), "K(t)K(s)": (apply(t, apply(s, x)), whole)}
    if 0.0 in operators:
        pairs["K(0)"] = (apply(0.0, x), x)
    errors = {
        name: norm(left - right) / norm(right) if norm(right) > 0 else math.nan
        for name, (left, right) in pairs.items()
    }
    if not all(np.isfinite(part).all() for pair in pairs.values() for part in pair):
        return errors, damping, "K gives values that are not finite"
    if norm(apply(s + t, x) - whole) > bound * size:
        return errors, damping, "K is random: it gives two results for one input"
    if not damping > bound * arithmetic.epsilon:
        return errors, damping, "K(s + t) damps the field to rounding: nothing is asserted"
    for name, error in errors.items():
        if not error <= bound:
            claim = "the identity" if name == "K(0)" else "K(s + t)"
            return errors, damping, f"{name} is not {claim}: relative error {error:.3g}"
    return errors, damping, ""


def _space(dim: object, sizes: tuple[int, ...]) -> int:
    if dim is None:
        return len(sizes) - 2 if len(sizes) > 2 else len(sizes)
    if check_whole("dim", dim, 1) > len(sizes):
        raise InputError(f"`dim` must be at most the axes of `shape`, {len(sizes)}; got {dim}")
    return int(dim)  # type: ignore[call-overload]


def _check_modes(modes: object, sizes: tuple[int, ...]) -> None:
    if modes is not None and 2 * check_whole("modes", modes, 0) >= min(sizes):
        raise InputError(f"`modes` must be below n / 2, {min(sizes) / 2:g}; got {modes}")


def _field(
    arithmetic: Arithmetic,
    sizes: tuple[int, ...],
    dim: int,
    modes: int | None,
    rng: np.random.Generator,
) -> Array:
    if modes is None:
        return arithmetic.normal(sizes, rng)
    cut = len(sizes) - dim
    fields = [
        BandLimited.random(sizes[:cut], dim, modes, rng).on(sizes[cut:], 0.0)
        for _ in range(1 + arithmetic.complex)
    ]
    return fields[0] + 1j * fields[1] if arithmetic.complex else fields[0]
