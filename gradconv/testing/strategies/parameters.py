"""Parameters of convolutions: stencil weights and mesh-free parameters."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gradconv.errors import InputError
from gradconv.kernels import KernelOptions
from gradconv.kernels.mfc import MeshFree
from gradconv.mesh import Mesh
from gradconv.testing.strategies.domains import Whole, dims
from gradconv.testing.strategies.values import (
    calls,
    constant,
    either,
    generators,
    just_above,
    just_below,
    round_numbers,
)

Number = float | st.SearchStrategy[float]

# Stencils of more weights are filled from one source of randomness, others weight by weight.
FEW = 50


@st.composite
def stencils(
    draw: st.DrawFn,
    dim: Whole | None = None,
    size: Whole | None = None,
    *,
    out_channels: Whole = 1,
    in_channels: Whole = 1,
    max_abs: float = 2.0,
) -> np.ndarray:
    """Weights of standard convolutions.

    Parameters
    ----------
    dim : int, optional
        Dimension; by default 1, 2 or 3.
    size : int, optional
        Points an axis, odd; by default 3, 1, 5 or 7.
    out_channels, in_channels : int
        Number of channels.
    max_abs : float
        Largest absolute value of a weight, at least 1.

    Returns
    -------
    SearchStrategy of ndarray
        Shape ``(out_channels, in_channels, size, …, size)``: the identity stencil with a few
        weights changed, or numbers of two digits throughout. Shrinks to the identity stencil,
        [0, 1, 0] in 1-D.
    """
    chosen = draw(either(dim, dims()))
    side = draw(either(size, st.sampled_from((3, 1, 5, 7))))
    if isinstance(side, bool) or side < 1 or side % 2 == 0:
        raise InputError(f"`size` must be odd and positive; got {side!r}")
    pairs = (draw(constant(out_channels)), draw(constant(in_channels)))
    shape = (*pairs, *(side,) * chosen)
    centre = (side // 2,) * chosen
    weights: np.ndarray = np.zeros(shape)
    for channel in range(max(pairs)):
        weights[(channel % pairs[0], channel % pairs[1], *centre)] = 1.0
    if not draw(st.booleans()):
        place = st.tuples(*[st.integers(0, n - 1) for n in shape])
        change = st.tuples(place, round_numbers(-max_abs, max_abs))
        for index, value in draw(st.lists(change, max_size=3)):
            weights[index] = value
    elif weights.size <= FEW:
        for index, value in np.ndenumerate(weights):
            weights[index] = draw(round_numbers(-max_abs, max_abs, first=float(value)))
    else:
        rng = draw(generators(12))
        weights = rng.uniform(-max_abs, max_abs, shape).round(2)
    return weights


@dataclass(frozen=True)
class MFCParameters:
    """Mesh-free kernels c·exp(−kᵀAk + ib·k), one a channel pair, in numbers that can be read.

    A = R diag(width²/2) Rᵀ: the kernel is a Gaussian with these standard deviations along the
    columns of the rotation R.

    Parameters
    ----------
    amplitude : tuple
        c, shape ``(out, in)``.
    widths : tuple
        Standard deviations, shape ``(out, in, dim)``, in units of the box.
    angles : tuple
        Degrees of the rotations in the planes (0, 1), (0, 2), (1, 2), shape
        ``(out, in, dim(dim − 1)/2)``.
    drift : tuple
        b, shape ``(out, in, dim)``, in units of the box.

    Examples
    --------
    >>> heat = MFCParameters(((1.0,),), (((0.1, 0.2),),), (((90.0,),),), (((0.0, 0.0),),))
    >>> heat.diffusion[0, 0].round(12)
    array([[0.02 , 0.   ],
           [0.   , 0.005]])
    """

    amplitude: tuple[Any, ...]
    widths: tuple[Any, ...]
    angles: tuple[Any, ...]
    drift: tuple[Any, ...]

    @property
    def dim(self) -> int:
        """Dimension."""
        return len(self.widths[0][0])

    @property
    def diffusion(self) -> np.ndarray:
        """A, symmetric positive definite, shape ``(out, in, dim, dim)``, in units of box²."""
        rows = [
            [_diffusion(w, a) for w, a in zip(*row, strict=True)]
            for row in zip(self.widths, self.angles, strict=True)
        ]
        return np.array(rows)

    def options(self) -> KernelOptions:
        """Options of ``Problem("mfc", …)``, for as many output as input channels."""
        return KernelOptions(
            diffusivity=_nested(self.diffusion), drift=self.drift, amplitude=self.amplitude
        )

    def kernel(self) -> MeshFree:
        """Return the kernel."""
        return MeshFree.from_parameters(
            np.array(self.amplitude), self.diffusion, np.array(self.drift)
        )


def _nested(array: np.ndarray) -> Any:
    """Nested tuples: they compare, and they print as they are written."""
    return tuple(map(_nested, array)) if array.ndim else float(array)


def _diffusion(widths: tuple[float, ...], angles: tuple[float, ...]) -> np.ndarray:
    dim = len(widths)
    rotation = np.eye(dim)
    for (a, b), angle in zip(combinations(range(dim), 2), angles, strict=True):
        turn = np.eye(dim)
        # cos 90° is 6e-17 in floating point, and the matrix must print as it is meant
        c, s = np.round([np.cos(np.radians(angle)), np.sin(np.radians(angle))], 15)
        turn[a, a], turn[b, b], turn[a, b], turn[b, a] = c, c, -s, s
        rotation = rotation @ turn
    matrix = rotation @ np.diag(0.5 * np.square(widths)) @ rotation.T
    return 0.5 * (matrix + matrix.T)


@st.composite
def mfc_parameters(
    draw: st.DrawFn,
    dim: Whole | None = None,
    *,
    out_channels: Whole = 1,
    in_channels: Whole = 1,
    widths: tuple[float, float] = (0.005, 0.3),
    max_anisotropy: Number = 50.0,
    drift: Number | None = None,
    max_drift: float = 0.5,
    mesh: Mesh | st.SearchStrategy[Mesh] | None = None,
    resolved: bool | st.SearchStrategy[bool] | None = None,
) -> MFCParameters:
    """Parameters of mesh-free convolutions: amplitude, diffusion and drift.

    Parameters
    ----------
    dim : int, optional
        Dimension; by default that of `mesh`, or 1, 2 or 3.
    out_channels, in_channels : int
        Number of channels.
    widths : (float, float)
        Range of the kernels' standard deviations, in units of the box.
    max_anisotropy : float
        Largest ratio between the widths of one kernel, at least 1.
    drift : float, optional
        Each component of the drift; by default numbers up to `max_drift`.
    max_drift : float
        Largest component of the drift, in units of the box.
    mesh : Mesh, optional
        The mesh that `resolved` refers to.
    resolved : bool, optional
        True: no width is below a cell of `mesh`. False: that of one kernel is. None: either.

    Returns
    -------
    SearchStrategy of MFCParameters
        Shrinks to one isotropic kernel of width 0.1 (or the nearest allowed), amplitude 1 and no
        drift.

    Raises
    ------
    InputError
        When drawn from: if the range of widths is empty, or leaves none that are (un)resolved.
    """
    place, wanted = draw(constant(mesh)), draw(constant(resolved))
    chosen = place.dim if place and dim is None else draw(either(dim, dims()))
    if wanted is not None and place is None:
        raise InputError("`resolved` needs a `mesh` that it refers to; got none")
    low, high = widths
    if not 0 < low <= high:
        raise InputError(f"`widths` must be positive and increase; got {widths}")
    pairs = (draw(constant(out_channels)), draw(constant(in_channels)))
    ratio = draw(constant(max_anisotropy))
    narrow = None
    if wanted is True:
        low = max(low, just_above(place.h))
    if wanted is False:
        narrow = (draw(st.integers(0, pairs[0] - 1)), draw(st.integers(0, pairs[1] - 1)))
    if low > high or (narrow and low >= place.h):
        word = "resolved" if wanted else "unresolved"
        raise InputError(
            f"`widths` must hold {word} ones on {place}, whose cells are {place.h:g}; got {widths}"
        )

    def pair_widths(pair: tuple[int, int]) -> tuple[float, ...]:
        top = high
        if pair == narrow:
            top = max(low, min(high, just_below(place.h)))
        first = draw(round_numbers(low, top, first=min(max(0.1, low), top)))
        least, most = max(low, first / ratio), min(high, first * ratio)
        others = [st.just(first) | round_numbers(least, most, first=first)] * (chosen - 1)
        return (first, *(draw(other) for other in others))

    def every(pair_value: Any) -> tuple[Any, ...]:
        return tuple(tuple(pair_value((o, i)) for i in range(pairs[1])) for o in range(pairs[0]))

    shift = either(drift, round_numbers(-max_drift, max_drift))
    angle = st.sampled_from((0.0, 90.0, 45.0, 30.0, 60.0, 10.0, 80.0, 135.0))
    amplitude = round_numbers(-2.0, 2.0, first=1.0)
    planes = chosen * (chosen - 1) // 2
    return MFCParameters(
        amplitude=every(lambda pair: draw(amplitude)),
        widths=every(pair_widths),
        angles=every(lambda pair: tuple(draw(angle) for _ in range(planes))),
        drift=every(lambda pair: tuple(draw(shift) for _ in range(chosen))),
    )


@st.composite
def kernel_options(
    draw: st.DrawFn,
    names: tuple[str, ...],
    *,
    dim: Whole = 1,
    channels: Whole = 1,
) -> KernelOptions:
    """Parameters that a kernel family takes from options.

    Parameters
    ----------
    names : tuple of str
        The options, as ``family.options`` lists them; those it does not know keep their default.
    dim : int
        Dimension.
    channels : int
        Number of channels.

    Returns
    -------
    SearchStrategy of KernelOptions
        Nested tuples of numbers. Shrinks to no options.
    """
    chosen, count = draw(constant(dim)), draw(constant(channels))
    given: dict[str, Any] = {}
    if "weights" in names and draw(st.booleans()):
        given["weights"] = _nested(draw(stencils(chosen, out_channels=count, in_channels=count)))
    mesh_free = [name for name in ("diffusivity", "drift", "amplitude") if name in names]
    if bool(mesh_free) and draw(st.booleans()):
        drawn = draw(mfc_parameters(chosen, out_channels=count, in_channels=count))
        parameters = drawn.options()
        for name in mesh_free:
            if draw(st.booleans()):
                given[name] = getattr(parameters, name)
    return draw(calls(KernelOptions, given))
