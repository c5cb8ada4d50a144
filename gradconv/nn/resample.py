"""Restriction and prolongation of feature maps, as torch modules.

`Restrict` applies a restriction of `gradconv.restriction` to feature maps, `Prolong` goes the
other way. With the inner product of a mesh, ⟨x, y⟩_h = h₁⋯h_d Σ x y, a prolongation is the adjoint
of a restriction if ⟨Rx, y⟩_H = ⟨x, Py⟩_h, that is P = f^d Rᵀ for a factor f. Three pairs are
adjoint: average and constant, full weighting and linear on vertices, spectral and spectral.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradconv.backend import Backend
from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.nn.paddings import WALLS, checked_padding
from gradconv.restriction import RESTRICTIONS, Restriction

ADJOINTS = {"average": "constant", "full_weighting": "linear_vertex", "spectral": "spectral"}


class Restrict(nn.Module):
    """Restrict feature maps to a mesh `factor` times coarser on every axis.

    Parameters
    ----------
    factor : int
        Coarsening factor, at least 1. The step is direct; it equals a chain of steps by 2 for
        restrictions that are nested (average, full weighting, injection, spectral).
    restriction : str or Restriction
        A name of `gradconv.restriction`: ``"average"``, ``"bilinear"``, ``"bilinear_corners"``,
        ``"full_weighting"``, ``"injection"`` or ``"spectral"``.
    padding_mode : {"periodic", "reflect", "zero"}
        What lies outside the box, for restrictions that reach there; torch's names ``"circular"``
        and ``"zeros"`` are understood. Spectral needs a periodic box.

    Raises
    ------
    InputError
        If an argument breaks these rules; on a call, if the input is not ``(B, C, *n)`` in 1 to 3
        dimensions or an axis is not divisible by `factor`.

    Examples
    --------
    >>> import torch
    >>> Restrict(2)(torch.tensor([[[1.0, 3.0, 5.0, 9.0]]]))
    tensor([[[2., 7.]]])
    """

    def __init__(
        self,
        factor: int = 2,
        restriction: str | Restriction = "average",
        *,
        padding_mode: str = "periodic",
    ) -> None:
        super().__init__()
        self.factor = check_whole("factor", factor, 1)
        self.restriction = RESTRICTIONS.parse(restriction)
        self.padding_mode = checked_padding(padding_mode)
        self.restriction.check_boundary(WALLS[self.padding_mode])

    def forward(self, x: Tensor) -> Tensor:
        """Restrict ``x``, shape ``(B, C, *n)``, to shape ``(B, C, *(n / factor))``."""
        dim = _checked_map(x)
        if any(n % self.factor for n in x.shape[2:]):
            raise InputError(
                f"`x` must have sizes divisible by the factor {self.factor}; "
                f"got {tuple(x.shape[2:])}"
            )
        if self.factor == 1:
            return x
        for n in x.shape[2:]:
            self.restriction.check_size(n)
        backend, boundary = _backend(x), WALLS[self.padding_mode]
        y = _in_full_precision(x) if self.restriction.name == "spectral" else x
        for axis in range(-dim, 0):
            y = self.restriction.restrict_axis(y, axis, self.factor, boundary, backend)
        return y.to(x.dtype)

    def adjoint(self) -> Prolong:
        """Return the prolongation P with ⟨Rx, y⟩_H = ⟨x, Py⟩_h.

        Raises
        ------
        InputError
            If factor^d Rᵀ is no interpolation: it would not keep constants (injection, bilinear by
            more than 2, full weighting at reflecting walls).
        """
        name = self.restriction.name
        if name == "bilinear" and self.factor == 2:
            name = "average"
        if name not in ADJOINTS:
            raise InputError(
                f"`restriction` must be one of {', '.join(ADJOINTS)} to have a prolongation as its "
                f"adjoint; got {self.restriction.spec}"
            )
        return Prolong(self.factor, ADJOINTS[name], padding_mode=self.padding_mode)

    def extra_repr(self) -> str:
        """Show the factor, the restriction and the padding."""
        return f"{self.factor}, {self.restriction.spec!r}, padding_mode={self.padding_mode!r}"


class Prolong(nn.Module):
    """Prolong feature maps to a mesh `factor` times finer on every axis.

    Parameters
    ----------
    factor : int
        Refinement factor, at least 1.
    prolongation : {"constant", "linear", "linear_vertex", "spectral"}
        ``"constant"`` copies a cell's value to its children, the adjoint of averaging, of order 1.
        ``"linear"`` interpolates between cell centres (what ``torch.nn.functional.interpolate``
        does with ``align_corners=False``), of order 2. ``"linear_vertex"`` interpolates between
        vertices, the adjoint of full weighting, of order 2. ``"spectral"`` continues the Fourier
        series, its own adjoint, exact for what the coarse mesh resolves; periodic boxes only.
    padding_mode : {"periodic", "reflect", "zero"}
        What lies outside the box. Linear interpolation on vertices has no value beyond a
        reflecting wall and refuses it.

    Raises
    ------
    InputError
        If an argument breaks these rules; on a call, if the input is not ``(B, C, *n)`` in 1 to 3
        dimensions.

    Examples
    --------
    >>> import torch
    >>> Prolong(2)(torch.tensor([[[2.0, 7.0]]]))
    tensor([[[2., 2., 7., 7.]]])
    >>> Prolong(2, "linear", padding_mode="reflect")(torch.tensor([[[2.0, 6.0]]]))
    tensor([[[2., 3., 5., 6.]]])
    """

    def __init__(
        self,
        factor: int = 2,
        prolongation: str = "constant",
        *,
        padding_mode: str = "periodic",
    ) -> None:
        super().__init__()
        self.factor = check_whole("factor", factor, 1)
        if not isinstance(prolongation, str) or prolongation not in _PROLONG_AXIS:
            raise unknown_name("prolongation", prolongation, _PROLONG_AXIS)
        self.prolongation = prolongation
        self.padding_mode = checked_padding(padding_mode)
        boundary = WALLS[self.padding_mode]
        if (prolongation == "spectral" and boundary != "periodic") or (
            prolongation == "linear_vertex" and boundary == "reflecting"
        ):
            raise InputError(f"`prolongation` {prolongation} cannot be used with {padding_mode}")

    def forward(self, x: Tensor) -> Tensor:
        """Prolong ``x``, shape ``(B, C, *n)``, to shape ``(B, C, *(factor * n))``."""
        dim = _checked_map(x)
        if self.factor == 1:
            return x
        y = _in_full_precision(x) if self.prolongation == "spectral" else x
        boundary = WALLS[self.padding_mode]
        for axis in range(-dim, 0):
            y = _PROLONG_AXIS[self.prolongation](y, axis, self.factor, boundary)
        return y.to(x.dtype)

    def adjoint(self) -> Restrict:
        """Return the restriction R with ⟨Rx, y⟩_H = ⟨x, Py⟩_h.

        Raises
        ------
        InputError
            For ``"linear"``, whose adjoint [1 3 3 1]/8 is not a registered restriction.
        """
        for restriction, prolongation in ADJOINTS.items():
            if prolongation == self.prolongation:
                return Restrict(self.factor, restriction, padding_mode=self.padding_mode)
        raise InputError(
            f"`prolongation` must be one of {', '.join(ADJOINTS.values())} to have a registered "
            f"restriction as its adjoint; got {self.prolongation}"
        )

    def extra_repr(self) -> str:
        """Show the factor, the prolongation and the padding."""
        return f"{self.factor}, {self.prolongation!r}, padding_mode={self.padding_mode!r}"


def _constant(x: Tensor, axis: int, factor: int, boundary: str) -> Tensor:
    return x.repeat_interleave(factor, dim=axis)


def _linear(x: Tensor, axis: int, factor: int, boundary: str) -> Tensor:
    """Child r of a cell sits (2r + 1 − f)/(2f) coarse cells from the cell's centre."""
    left, right = _neighbour(x, axis, -1, boundary), _neighbour(x, axis, 1, boundary)
    children = []
    for r in range(factor):
        offset = (2 * r + 1 - factor) / (2 * factor)
        other = right if offset > 0 else left
        children.append((1.0 - abs(offset)) * x + abs(offset) * other if offset else x)
    return _interleave(children, axis)


def _linear_vertex(x: Tensor, axis: int, factor: int, boundary: str) -> Tensor:
    right = _neighbour(x, axis, 1, boundary)
    children = [x, *((1.0 - r / factor) * x + (r / factor) * right for r in range(1, factor))]
    return _interleave(children, axis)


def _spectral(x: Tensor, axis: int, factor: int, boundary: str) -> Tensor:
    """Keep the Fourier coefficients; a Nyquist mode is shared between its two ends."""
    n = x.shape[axis]
    spectrum = torch.fft.rfft(x, dim=axis, norm="forward")
    if n % 2 == 0:
        share = torch.ones(n // 2 + 1, dtype=x.dtype, device=x.device)
        share[-1] = 0.5
        spectrum = spectrum * share.reshape(-1, *(1,) * (-axis - 1))
    return torch.fft.irfft(spectrum, n=factor * n, dim=axis, norm="forward")


_PROLONG_AXIS: dict[str, Callable[[Tensor, int, int, str], Tensor]] = {
    "constant": _constant,
    "linear": _linear,
    "linear_vertex": _linear_vertex,
    "spectral": _spectral,
}


def _neighbour(x: Tensor, axis: int, step: int, boundary: str) -> Tensor:
    n = x.shape[axis]
    body = x.narrow(axis, max(step, 0), n - 1)
    if boundary == "periodic":
        edge = x.narrow(axis, 0 if step > 0 else n - 1, 1)
    else:  # reflecting is even about the box's faces: x[-1] = x[0]
        edge = x.narrow(axis, n - 1 if step > 0 else 0, 1)
        edge = torch.zeros_like(edge) if boundary == "zero" else edge
    return torch.cat([body, edge] if step > 0 else [edge, body], dim=axis)


def _interleave(children: list[Tensor], axis: int) -> Tensor:
    axis += children[0].ndim
    return torch.stack(children, dim=axis + 1).flatten(axis, axis + 1)


_BACKENDS: dict[tuple[str, str], Backend] = {}  # building one tries the device


def _backend(x: Tensor) -> Backend:
    key = (str(x.device), "float64" if x.dtype == torch.float64 else "float32")
    if key not in _BACKENDS:
        _BACKENDS[key] = Backend(device=key[0], dtype=key[1], library="torch")
    return _BACKENDS[key]


def _in_full_precision(x: Tensor) -> Tensor:
    """FFTs of half precision exist on few devices and few sizes."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _checked_map(x: Tensor) -> int:
    if not isinstance(x, Tensor) or x.ndim not in (3, 4, 5) or not x.is_floating_point():
        shape = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else shortened(x)
        raise InputError(
            f"`x` must be a real floating-point tensor (B, C, *n) in 1 to 3 dimensions; got {shape}"
        )
    return x.ndim - 2
