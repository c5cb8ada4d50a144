"""`assert_mesh_independent`: an operator does the same to one field on every mesh."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from gradconv.errors import InputError, check_positive, check_whole, shortened
from gradconv.mesh import check_dim
from gradconv.rates import fit_rate
from gradconv.testing.drawings import error_drawing, order_drawing
from gradconv.testing.failures import fail
from gradconv.testing.orders import (
    TOLERANCE,
    checked_order,
    level_rows,
    note,
    objection,
    rate_facts,
)
from gradconv.testing.probes import (
    Arithmetic,
    Array,
    BandLimited,
    Operator,
    checked_shape,
    coefficients,
    is_module,
    norm,
    preserved,
)

MARGIN = 1000.0
"""Default tolerance in units of the machine epsilon."""

Comparison = Literal["interpolant", "points"]


def assert_mesh_independent(
    operator: Operator,
    meshes: Sequence[int | tuple[int, ...]],
    *,
    dim: int | None = None,
    order: float | None = None,
    tolerance: float | None = None,
    modes: int = 3,
    field: Callable[..., Any] | None = None,
    grid: Literal["cell", "vertex"] = "cell",
    compare: Comparison = "interpolant",
    channels: int | None = None,
    batch: int = 1,
    dtype: Any = None,
    device: Any = None,
    seed: int = 0,
) -> float:
    """Assert that an operator does the same to one smooth field on every mesh.

    A random band-limited field is sampled on each mesh, exactly, and the operator applied to it.
    The results must agree to `tolerance`, or, where `order` is given, the differences between
    neighbouring meshes must fall at that order.

    Parameters
    ----------
    operator : callable or torch.nn.Module
        Takes a field on any of the meshes. A module (or a callable with a torch `dtype`) gets a
        tensor of shape ``(batch, channels, *n)``; any other callable an array of shape ``n``, or
        ``(batch, channels, *n)`` if `channels` is given.
    meshes : sequence of int or tuple of int
        Cells an axis of two or more meshes of one domain, coarse to fine; not necessarily nested.
        With `order`, four or more.
    dim : int, optional
        Dimension of space, 1 to 3, for meshes given as whole numbers; default: that of the first
        convolution of a module, else 1.
    order : float, optional
        Signed order of the difference between neighbouring meshes, against the finer of their two
        mesh sizes, to be shown as in `assert_order`.
    tolerance : float, optional
        Without `order`: largest relative difference > 0 to the finest mesh; default 1000 machine
        epsilons. With it: largest distance of the interval's ends from the order; default 0.5.
    modes : int
        Modes max|j| >= 0 of the random field, below n / 2 on every mesh.
    field : callable, optional
        A field of your own, for walls that a periodic one does not fit: takes the coordinates, one
        array an axis, in units of the sides of the box, and returns values that broadcast.
    grid : {"cell", "vertex"}
        Where input and output live: (i + 1/2)/n or i/n.
    compare : {"interpolant", "points"}
        Root mean square of the difference of the trigonometric interpolants, for periodic
        operators, on any meshes and also after a stride; or of the differences at the points that
        each mesh shares with the finest, for which sizes must be multiples (odd ones on cells).
    channels : int, optional
        Channels of the input; default: those of the first convolution of a module.
    batch : int
        Independent fields, >= 1.
    dtype : dtype or torch.dtype, optional
        Type of the fields; default: that of a module's parameters, else numpy's float64.
    device : torch.device or str, optional
        Device of tensors; default: that of the module.
    seed : int
        Seed >= 0 of the field.

    Returns
    -------
    float
        The largest relative difference to the finest mesh.

    Raises
    ------
    CheckFailed
        If the assertion does not hold, the results are zero or not finite, or the operator is
        random; an `AssertionError`.
    InputError
        If an argument breaks a rule.

    Notes
    -----
    No chance is in it but the seed of the field. An operator with weights on grid points (a
    standard convolution) tends to another one as the mesh is refined, the sum of its weights times
    the field: the differences fall at order 1 or 2, and far above rounding. A non-linear operator
    makes aliases; their size falls with the order of its smoothness, which `order` can state.

    Examples
    --------
    >>> import numpy as np
    >>> def heat(u):
    ...     k = 2 * np.pi * np.fft.rfftfreq(len(u), 1 / len(u))
    ...     return np.fft.irfft(np.exp(-0.01 * k**2) * np.fft.rfft(u), len(u))
    >>> assert_mesh_independent(heat, [16, 21, 64]) < 1e-13
    True
    """
    __tracebackhide__ = True
    given = dict(locals())
    arithmetic = Arithmetic.of(operator, dtype, device)
    shapes = _checked_meshes(meshes, _module_dim(operator) if dim is None else dim, order)
    _check_choices(grid, compare)
    check_whole("seed", seed, 0, 2**62)
    check_whole("batch", batch, 1)
    wanted = None if order is None else checked_order(order)
    if wanted is None:
        bound = (
            MARGIN * arithmetic.epsilon
            if tolerance is None
            else check_positive("tolerance", tolerance)
        )
    else:
        bound = TOLERANCE if tolerance is None else check_positive("tolerance", tolerance)
    source = _Source(
        _leading(operator, arithmetic, channels, batch),
        len(shapes[0]),
        0.5 if grid == "cell" else 0.0,
        _checked_field(field, modes, shapes),
        modes,
        seed,
    )
    with preserved(operator):
        results = [_applied(arithmetic, operator, source, shape) for shape in shapes]
        again = _applied(arithmetic, operator, source, shapes[0])
    size, to_finest, gaps = _differences(results, source, compare)
    relative = [d / size if size > 0 else math.nan for d in to_finest]
    h = np.array([1.0 / min(shape) for shape in shapes])
    trouble = _unusable(results, again, arithmetic.epsilon)
    if wanted is not None and not trouble:
        floor = MARGIN * arithmetic.epsilon * size
        _judge_order(h[1:], np.asarray(gaps), floor, wanted, bound, given)
    elif trouble or not max(relative) <= bound:
        fail(
            assert_mesh_independent,
            f"one result on {len(shapes)} meshes, to {bound:g}",
            trouble or f"results differ by {max(relative):.3g}, {bound:.3g} allowed",
            {},
            ("mesh", "rms of the result", "relative difference to the finest"),
            [
                ["×".join(map(str, shape)), f"{_rms(result):.6e}", f"{difference:.3e}"]
                for shape, result, difference in zip(shapes, results, [*relative, 0.0], strict=True)
            ],
            given,
            error_drawing(h[:-1].tolist(), {"to the finest": relative}, bound, "mesh size h"),
        )
    return max(relative)


def _unusable(results: list[Array], again: Array, epsilon: float) -> str:
    """Say why results show nothing, or return an empty text."""
    if not all(np.isfinite(result).all() for result in results):
        return "the operator gives values that are not finite"
    if not results[-1].any():
        return "the operator gives zero on the finest mesh: nothing is asserted"
    if norm(again - results[0]) > MARGIN * epsilon * norm(results[0]):
        return "the operator is random: it gives two results for one field"
    return ""


def _judge_order(
    h: np.ndarray,
    gaps: np.ndarray,
    floor: float,
    order: float,
    tolerance: float,
    given: dict[str, Any],
) -> None:
    """Fail unless differences between neighbouring meshes fall at an order."""
    __tracebackhide__ = True
    rate = fit_rate(h, gaps, floor=floor)
    trouble = objection(rate, order, tolerance)
    label = "difference to the next coarser"
    note(rate, "difference between meshes", order, not trouble)
    if trouble:
        fail(
            assert_mesh_independent,
            f"results that converge at order {order:g} on {len(h) + 1} meshes",
            trouble,
            rate_facts(rate),
            ("h", label, "order to the next", "fit"),
            level_rows(h, gaps, rate),
            given,
            order_drawing(h, gaps, rate, order, label),
        )


def _rms(values: Array) -> float:
    return norm(values) / math.sqrt(max(values.size, 1))


@dataclass(frozen=True)
class _Source:
    """The field that every mesh samples."""

    leading: tuple[int, ...]
    dim: int
    offset: float
    function: Callable[..., Any] | None
    modes: int
    seed: int

    def on(self, shape: tuple[int, ...]) -> Array:
        if self.function is None:
            rng = np.random.default_rng(self.seed)
            drawn = BandLimited.random(self.leading, self.dim, self.modes, rng)
            return drawn.on(shape, self.offset)
        axes = np.meshgrid(
            *((np.arange(n) + self.offset) / n for n in shape), indexing="ij", sparse=True
        )
        try:
            values = np.asarray(self.function(*axes), dtype=float)
            return np.broadcast_to(values, (*self.leading, *shape)).copy()
        except (TypeError, ValueError) as error:
            raise InputError(
                f"`field` must take {self.dim} coordinates and return values that broadcast to "
                f"{(*self.leading, *shape)}; got {error}"
            ) from None


def _applied(
    arithmetic: Arithmetic, operator: Operator, source: _Source, shape: tuple[int, ...]
) -> Array:
    result = arithmetic.apply(operator, source.on(shape))
    if result.ndim < source.dim:
        raise InputError(
            f"`operator` must return a field over {source.dim} axes of space; got {result.shape}"
        )
    return result


def _differences(
    results: list[Array], source: _Source, compare: Comparison
) -> tuple[float, list[float], list[float]]:
    """Size of the finest result, differences to it, and differences between neighbours."""
    pair = _interpolant_difference if compare == "interpolant" else _point_difference
    finest = results[-1]
    to_finest = [pair(result, finest, source) for result in results[:-1]]
    gaps = [pair(a, b, source) for a, b in pairwise(results)]
    return _rms(finest), to_finest, gaps


def _interpolant_difference(coarse: Array, fine: Array, source: _Source) -> float:
    dim = source.dim
    modes = [max(n, m) // 2 for n, m in zip(coarse.shape[-dim:], fine.shape[-dim:], strict=True)]
    a, b = (coefficients(part, dim, source.offset, modes) for part in (coarse, fine))
    _check_channels(a, b, dim)
    return norm(a - b) / math.sqrt(max(math.prod(a.shape[:-dim]), 1))


def _point_difference(coarse: Array, fine: Array, source: _Source) -> float:
    _check_channels(coarse, fine, source.dim)
    for axis in range(-source.dim, 0):
        ratio, rest = divmod(fine.shape[axis], coarse.shape[axis])
        if rest or (source.offset and ratio % 2 == 0):
            rule = "odd multiples (cells)" if source.offset else "multiples (vertices)"
            raise InputError(
                f"`meshes` must be {rule} of each other to share points; got "
                f"{coarse.shape[axis]} and {fine.shape[axis]}"
            )
        start = ratio // 2 if source.offset else 0
        fine = np.take(fine, np.arange(start, fine.shape[axis], ratio), axis)
    return _rms(coarse - fine)


def _check_channels(a: Array, b: Array, dim: int) -> None:
    if a.shape[:-dim] != b.shape[:-dim]:
        raise InputError(
            "`operator` must return the same batch and channels on every mesh; got "
            f"{a.shape[:-dim]} and {b.shape[:-dim]}"
        )


def _module_dim(operator: object) -> int:
    """Dimension of the first convolution of a module; 1 where there is none."""
    if is_module(operator):
        for part in operator.modules():  # type: ignore[attr-defined]
            end = type(part).__name__[-2:]
            if hasattr(part, "in_channels") and end in ("1d", "2d", "3d"):
                return int(end[0])
    return 1


def _leading(
    operator: object, arithmetic: Arithmetic, channels: int | None, batch: int
) -> tuple[int, ...]:
    if channels is not None:
        return (batch, check_whole("channels", channels, 1))
    if is_module(operator):
        for part in operator.modules():  # type: ignore[attr-defined]
            if isinstance(getattr(part, "in_channels", None), int):
                return (batch, part.in_channels)
    if arithmetic.torch:
        raise InputError(
            "`channels` must be given for an operator on tensors without a layer that has "
            "`in_channels`; got None"
        )
    return ()


def _checked_meshes(meshes: object, dim: int, order: float | None) -> list[tuple[int, ...]]:
    if isinstance(meshes, str) or not isinstance(meshes, Sequence):
        raise InputError(f"`meshes` must be a sequence of sizes; got {shortened(meshes)}")
    check_dim(dim)
    shapes = [(n,) * dim if isinstance(n, int) and not isinstance(n, bool) else n for n in meshes]
    found = [checked_shape("meshes", shape) for shape in shapes]
    least = 2 if order is None else 4
    if len(found) < least:
        raise InputError(
            f"`meshes` must hold at least {least} meshes"
            f"{'' if order is None else ' for an order'}; got {len(found)}"
        )
    if len({len(shape) for shape in found}) > 1 or len(found[0]) > 3:
        raise InputError(f"`meshes` must have one dimension, 1 to 3; got {shortened(meshes)}")
    if any(
        any(b <= a for a, b in zip(coarse, fine, strict=True)) for coarse, fine in pairwise(found)
    ):
        raise InputError(f"`meshes` must be refined from one to the next; got {shortened(meshes)}")
    return found


def _checked_field(
    field: object, modes: int, shapes: list[tuple[int, ...]]
) -> Callable[..., Any] | None:
    if field is not None:
        if not callable(field):
            raise InputError(f"`field` must be callable; got {shortened(field)}")
        return field
    smallest = min(min(shape) for shape in shapes)
    if 2 * check_whole("modes", modes, 0) >= smallest:
        raise InputError(
            f"`modes` must be below n / 2 on every mesh, {smallest / 2:g}; got {modes}"
        )
    return None


def _check_choices(grid: object, compare: object) -> None:
    if grid not in ("cell", "vertex"):
        raise InputError(f"`grid` must be cell or vertex; got {shortened(grid)}")
    if compare not in ("interpolant", "points"):
        raise InputError(f"`compare` must be interpolant or points; got {shortened(compare)}")
