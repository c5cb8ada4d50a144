"""Rules for the arguments of mesh-free layers; each error names the argument, rule and value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradconv.errors import InputError, check_whole, shortened


def check_counts(in_channels: int, out_channels: int, groups: int, terms: int) -> None:
    """Refuse channels and groups that do not fit."""
    for name, value in (
        ("in_channels", in_channels),
        ("out_channels", out_channels),
        ("groups", groups),
        ("terms", terms),
    ):
        check_whole(name, value, 1)
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if value % groups:
            raise InputError(f"`groups` must divide `{name}`; got {groups} and {value}")


def per_axis(name: str, value: int | Sequence[int], dim: int) -> tuple[int, ...]:
    """One whole number an axis."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dim
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in values)
    if not whole or len(values) != dim:
        raise InputError(f"`{name}` must be {dim} whole numbers of at least 1; got {value!r}")
    return values


def checked_mesh(shape: Sequence[int], dim: int) -> tuple[int, ...]:
    """Points along each axis of a mesh."""
    values = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    if len(values) != dim or not all(_is_number(n) and int(n) == n and n >= 2 for n in values):
        raise InputError(f"`shape` must be {dim} sizes of at least 2; got {shape!r}")
    return tuple(int(n) for n in values)


def usual_sides(mesh: Sequence[int]) -> tuple[float, ...]:
    """Sides of the domain where none are given: square cells, the shortest side is 1."""
    return tuple(n / min(mesh) for n in mesh)


def checked_sides(extent: float | Sequence[float], dim: int) -> tuple[float, ...]:
    """Sides of a domain."""
    sides = tuple(extent) if isinstance(extent, Sequence) else (extent,) * dim
    if len(sides) != dim or not all(_is_number(s) and s > 0 for s in sides):
        raise InputError(f"`extent` must be {dim} positive lengths; got {extent!r}")
    return tuple(float(s) for s in sides)


def checked_widths(widths: tuple[float, float]) -> tuple[float, float]:
    """Range of widths."""
    sound = isinstance(widths, Sequence) and len(widths) == 2 and all(map(_is_number, widths))
    if not sound or not 1e-6 <= widths[0] <= widths[1] <= 1e3:
        raise InputError(
            f"`widths` must be a range (low, high) with 1e-6 <= low <= high <= 1000; got {widths!r}"
        )
    return float(widths[0]), float(widths[1])


def _is_number(value: object) -> bool:
    real = isinstance(value, (int, float, np.integer, np.floating))
    return real and not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]


def checked_derivatives(derivatives: int, zero_mean: bool) -> int:
    """Highest derivative of the prefactors."""
    if derivatives not in (0, 1, 2) or isinstance(derivatives, bool):
        raise InputError(f"`derivatives` must be 0, 1 or 2; got {derivatives!r}")
    if zero_mean and derivatives == 0:
        raise InputError("`zero_mean` needs derivatives of at least 1; got 0")
    return derivatives


def checked_tolerance(tolerance: float | None) -> float | None:
    """Tolerance of the truncation, or None."""
    if tolerance is not None and not (_is_number(tolerance) and 1e-15 <= tolerance <= 0.1):
        raise InputError(f"`tolerance` must lie in 1e-15 to 0.1; got {tolerance!r}")
    return tolerance


def present(name: str, weight: Tensor | None) -> Tensor:
    """Return the weight, if the layer has it."""
    if weight is None:
        raise InputError(f"`{name}` is not a weight of this layer; got a value for it")
    return weight


def shaped(name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    """Finite values of a shape, in double precision."""
    if not isinstance(values, Tensor):
        try:
            values = torch.from_numpy(np.asarray(values, dtype=np.float64))
        except (TypeError, ValueError):
            raise InputError(f"`{name}` must be real numbers; got {shortened(values)}") from None
    if values.is_complex():
        raise InputError(f"`{name}` must be real numbers; got {values.dtype}")
    array = values.detach().to(device="cpu", dtype=torch.float64)
    try:
        array = array.broadcast_to(shape)
    except RuntimeError:
        raise InputError(
            f"`{name}` must broadcast to shape {shape}; got {tuple(array.shape)}"
        ) from None
    if not torch.isfinite(array).all():
        raise InputError(f"`{name}` must be finite; got NaN or infinity")
    return array
