"""What a fit of a stencil needs besides its weights: taps, mesh, band of frequencies, spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from gradconv.errors import InputError, shortened
from gradconv.nn.checks import usual_sides
from gradconv.nn.fitting.refine import Limits

Spectrum = float | Callable[[Tensor], Tensor]

MOST_SMOOTH = 16.0  # the power of the highest modes then still counts in double precision
FIT_GRADING, CHECK_GRADING = 0.5, 0.2  # blocks of modes, over their frequency


@dataclass(frozen=True)
class StencilSpace:
    """Where the taps are and what counts: everything that a fit needs but the weights."""

    mesh: tuple[int, ...]
    extent: tuple[float, ...]
    size: tuple[int, ...]
    dilation: tuple[int, ...]
    origin: tuple[int, ...]
    spectrum: Spectrum
    narrowest: float

    @property
    def cells(self) -> tuple[float, ...]:
        """Sides of a cell."""
        return tuple(side / n for side, n in zip(self.extent, self.mesh, strict=True))

    @property
    def offsets(self) -> Tensor:
        """Offsets of the taps in cells, shape ``(taps, d)``."""
        axes = [
            [i * step - before for i in range(n)]
            for n, step, before in zip(self.size, self.dilation, self.origin, strict=True)
        ]
        return torch.tensor(list(product(*axes)), dtype=torch.float64)

    @property
    def limits(self) -> Limits:
        """How narrow, wide and far off a kernel may be: within the stencil's span."""
        offsets = self.offsets
        span = offsets.amax(dim=0) - offsets.amin(dim=0) + 1.0
        return Limits(
            lowest=self.narrowest**2 / 2.0,
            highest=max(float((span**2).sum()), 2.0 * self.narrowest**2),
            centre=(offsets.amax(dim=0) + offsets.amin(dim=0)) / 2.0,
            reach=span / 2.0,
        )

    def stencil(self, theta: Tensor) -> Tensor:
        """exp(iθ·m) for every tap, shape ``(K, taps)``."""
        return torch.exp(1j * (theta @ self.offsets.T))

    def band(self, grading: float) -> tuple[Tensor, Tensor, Tensor]:
        """θ = k h, shape ``(K, d)``, its share of the power (sum 1) and S, shapes ``(K,)``.

        Neighbouring modes of high frequency are one node with their number as weight: symbols are
        smooth in θ, and the spectrum falls slowly there.
        """
        dim = len(self.mesh)
        axes = [_blocks(n, grading if dim < 3 else FIT_GRADING) for n in self.mesh]
        j = torch.cartesian_prod(*(a[0] for a in axes)).reshape(-1, dim)
        count = torch.cartesian_prod(*(a[1] for a in axes)).reshape(-1, dim).prod(dim=1)
        sign = torch.zeros(len(j), dtype=torch.float64)
        for a in range(dim):
            sign = torch.where(sign == 0, torch.sign(j[:, a]), sign)
        count = torch.where(sign == 0, count / 2.0, count)[sign >= 0]  # one of a conjugate pair
        j = j[sign >= 0]
        n, side = (torch.tensor(v, dtype=torch.float64) for v in (self.mesh, self.extent))
        density = _power(self.spectrum, j / side)
        return 2.0 * math.pi * j / n, count * density / (count @ density), density


def _blocks(n: int, grading: float) -> tuple[Tensor, Tensor]:
    """Centres of blocks of modes −n/2 … n/2 and the number of modes in each."""
    last, centres, counts = (n - 1) // 2, [0.0], [1.0]
    first = 1
    while first <= last:
        end = min(first + max(1, int(first * grading)) - 1, last)
        centres.append((first + end) / 2.0)
        counts.append(end - first + 1.0)
        first = end + 1
    if n % 2 == 0:  # a mesh sees the mean of the two ends, whose error is at most theirs
        centres.append(n / 2.0)
        counts.append(0.5)
    half, number = (torch.tensor(v, dtype=torch.float64) for v in (centres, counts))
    return torch.cat([-half[1:].flip(0), half]), torch.cat([number[1:].flip(0), number])


def _power(spectrum: Spectrum, j: Tensor) -> Tensor:
    if not callable(spectrum):
        return (1.0 + j.square().sum(dim=1)) ** (-float(spectrum) / 2.0)
    power = torch.as_tensor(spectrum(j), dtype=torch.float64)
    if power.shape != j.shape[:1] or not (power >= 0).all() or not 0 < power.sum() < math.inf:
        raise InputError(
            f"`spectrum` must return finite values of at least 0, not all 0, of shape "
            f"{tuple(j.shape[:1])}; got {shortened(power)}"
        )
    return power


def stencil_space(
    weight: Tensor,
    mesh: Sequence[int],
    extent: Sequence[float] | None,
    dilation: int | Sequence[int],
    origin: int | Sequence[int] | None,
    spectrum: Spectrum,
    narrowest: float,
) -> StencilSpace:
    """Check the arguments of `gradconv.nn.fitting.fit.fit_stencil` and put them together.

    Returns
    -------
    StencilSpace
        With everything given explicitly.

    Raises
    ------
    InputError
        If an argument breaks a rule.
    """
    if not isinstance(weight, Tensor) or weight.ndim not in (3, 4, 5) or 0 in weight.shape:
        got = tuple(weight.shape) if isinstance(weight, Tensor) else shortened(weight)
        raise InputError(
            f"`weight` must have shape (out, in / groups, *size), d = 1 to 3; got {got}"
        )
    if not weight.is_floating_point() or not torch.isfinite(weight).all():
        raise InputError(f"`weight` must be real and finite; got {shortened(weight)}")
    size = tuple(weight.shape[2:])
    dim = len(size)
    dilation = whole_numbers("dilation", dilation, dim, least=1)
    span = tuple((n - 1) * step + 1 for n, step in zip(size, dilation, strict=True))
    if origin is None:
        origin = tuple((n - 1) // 2 for n in span)
    origin = whole_numbers("origin", origin, dim, least=0)
    if any(o >= n for o, n in zip(origin, span, strict=True)):
        raise InputError(f"`origin` must lie within the stencil, {span} cells; got {origin}")
    mesh = whole_numbers("mesh", mesh, dim, least=3)
    if any(n < s for n, s in zip(mesh, span, strict=True)):
        raise InputError(f"`mesh` must not be smaller than the stencil, {span} cells; got {mesh}")
    sides = _sides(extent, mesh)
    if not callable(spectrum) and not (
        isinstance(spectrum, (int, float)) and 0 <= spectrum <= MOST_SMOOTH
    ):
        raise InputError(
            f"`spectrum` must be an exponent from 0 to {MOST_SMOOTH:g} or a function; "
            f"got {shortened(spectrum)}"
        )
    if (
        isinstance(narrowest, bool)
        or not isinstance(narrowest, (int, float))
        or not (0.1 <= narrowest <= 100)
    ):
        raise InputError(f"`narrowest` must be 0.1 to 100 cells; got {shortened(narrowest)}")
    return StencilSpace(mesh, sides, size, dilation, origin, spectrum, float(narrowest))


def _sides(extent: object, mesh: tuple[int, ...]) -> tuple[float, ...]:
    if extent is None:
        return usual_sides(mesh)
    sides = tuple(extent) if isinstance(extent, Sequence) else ()
    numbers = all(isinstance(s, (int, float)) and math.isfinite(s) and s > 0 for s in sides)
    if len(sides) != len(mesh) or not numbers:
        raise InputError(f"`extent` must be {len(mesh)} positive lengths; got {shortened(extent)}")
    return tuple(float(s) for s in sides)


def whole_numbers(argument: str, value: object, dim: int, least: int) -> tuple[int, ...]:
    """Return one whole number an axis, or raise an `InputError`.

    Parameters
    ----------
    argument : str
        Name for the error.
    value : object
        A number for all axes, or a sequence of one an axis.
    dim : int
        Number of axes.
    least : int
        Smallest number allowed.
    """
    values: tuple[Any, ...] = tuple(value) if isinstance(value, Sequence) else (value,) * dim
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values)
    if not whole or len(values) != dim or isinstance(value, str):
        raise InputError(
            f"`{argument}` must be {dim} whole numbers of at least {least}; got {shortened(value)}"
        )
    return values
