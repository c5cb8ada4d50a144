"""Random fields to try operators on, and operators of numpy or torch behind one call."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradconv.errors import InputError, shortened

Array = NDArray[Any]
Operator = Callable[[Any], Any]


def is_module(value: object) -> bool:
    """Whether a value is a torch module, without loading torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


@dataclass(frozen=True)
class Arithmetic:
    """Library, type and device of the fields that an operator takes.

    Parameters
    ----------
    dtype : object
        A numpy dtype, or a torch dtype for tensors.
    torch : module or None
        The torch module where the operator takes tensors.
    device : object
        Device of tensors.
    """

    dtype: Any
    torch: Any = None
    device: Any = None

    @classmethod
    def of(cls, operator: object, dtype: object, device: object) -> Arithmetic:
        """Find what an operator takes: its parameters' type, else the `dtype` given, else float64.

        Raises
        ------
        InputError
            If `operator` is not callable or `dtype` is no floating or complex type.
        """
        if not callable(operator):
            raise InputError(f"`operator` must be callable; got {shortened(operator)}")
        torch: Any = sys.modules.get("torch")
        if torch is not None and (is_module(operator) or isinstance(dtype, torch.dtype)):
            tensor = _first_parameter(operator) if is_module(operator) else None
            if dtype is None:
                dtype = torch.get_default_dtype() if tensor is None else tensor.dtype
            if not isinstance(dtype, torch.dtype) or not (
                dtype.is_floating_point or dtype.is_complex
            ):
                raise InputError(
                    "`dtype` must be a floating or complex torch type for a module; "
                    f"got {shortened(dtype)}"
                )
            if device is None:
                device = torch.device("cpu") if tensor is None else tensor.device
            return cls(dtype, torch, device)
        try:
            kind = np.dtype(np.float64 if dtype is None else dtype)  # type: ignore[call-overload]
        except TypeError:
            kind = np.dtype(object)
        if kind.kind not in "fc":
            raise InputError(f"`dtype` must be a floating or complex type; got {shortened(dtype)}")
        return cls(kind)

    @property
    def complex(self) -> bool:
        """Whether fields are complex."""
        return bool(self.dtype.is_complex) if self.torch else self.dtype.kind == "c"

    @property
    def epsilon(self) -> float:
        """Machine epsilon of the type."""
        info = self.torch.finfo(self.dtype) if self.torch else np.finfo(self.dtype)
        return float(info.eps)

    def field(self, values: Array) -> Any:
        """Turn values into a field of the operator's library, type and device."""
        if self.torch:
            return self.torch.as_tensor(values).to(dtype=self.dtype, device=self.device)
        return values.astype(self.dtype)

    def values(self, field: Any, of: str = "operator") -> Array:
        """Turn a field back into a double precision array.

        Raises
        ------
        InputError
            If it is no array or tensor.
        """
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(field, torch.Tensor):
            field = field.detach().cpu().resolve_conj()
            field = field.to(torch.complex128 if field.is_complex() else torch.float64).numpy()
        if not isinstance(field, np.ndarray | np.generic) or field.dtype.kind not in "fciu":
            raise InputError(
                f"`{of}` must return one array or tensor; got {shortened(type(field).__name__)}"
            )
        return np.asarray(field, dtype=complex if field.dtype.kind == "c" else float)

    def apply(self, operator: Operator, values: Array, of: str = "operator") -> Array:
        """Apply an operator to values, without a graph."""
        if self.torch is None:
            return self.values(operator(self.field(values)), of)
        with self.torch.no_grad():
            return self.values(operator(self.field(values)), of)

    def normal(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """White noise of unit variance, complex for a complex type."""
        if not self.complex:
            return rng.standard_normal(shape)
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / math.sqrt(2.0)


def _first_parameter(module: Any) -> Any:
    lazy = sys.modules["torch"].nn.parameter.UninitializedParameter
    for parameter in [*module.parameters(), *module.buffers()]:
        if isinstance(parameter, lazy):
            raise InputError(
                "`operator` must have its parameters initialised; got a lazy module: apply it "
                "to one input first"
            )
        if parameter.is_floating_point() or parameter.is_complex():
            return parameter
    return None


@dataclass(frozen=True)
class BandLimited:
    """Real trigonometric polynomials with modes max|j| <= `modes`: the same field on any mesh.

    Parameters
    ----------
    coefficients : ndarray, shape (*leading, 2 modes + 1, ..., 2 modes + 1)
        Complex coefficients of exp(2πi j·x), x in units of the box's sides.
    dim : int
        Number of axes of space.
    """

    coefficients: Array
    dim: int

    @classmethod
    def random(
        cls, leading: tuple[int, ...], dim: int, modes: int, rng: np.random.Generator
    ) -> BandLimited:
        """Independent normal coefficients, scaled to unit variance of the field."""
        count = 2 * modes + 1
        shape = (*leading, *(count,) * dim)
        c = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        axes = tuple(range(-dim, 0))
        real = (c + np.conj(np.flip(c, axes))) / 2.0  # the field is real
        return cls(real / math.sqrt(count**dim), dim)

    def on(self, shape: tuple[int, ...], offset: float) -> Array:
        """Values at the points (i + offset) / n, shape ``(*leading, *shape)``."""
        values = self.coefficients
        modes = values.shape[-1] // 2
        j = np.arange(-modes, modes + 1)
        for n in shape:  # each step moves the first axis of space to the end
            x = (np.arange(n) + offset) / n
            values = np.tensordot(values, np.exp(2j * np.pi * np.outer(j, x)), (-self.dim, 0))
        return np.ascontiguousarray(values.real)


def coefficients(values: Array, dim: int, offset: float, modes: Sequence[int]) -> Array:
    """Fourier coefficients of the trigonometric interpolant for |j_a| <= modes[a].

    Parameters
    ----------
    values : ndarray, shape (..., *n)
        Values at the points (i + offset) / n.
    dim : int
        Number of axes of space.
    offset : float
        0 on vertices, 1/2 on cell centres.
    modes : sequence of int
        Bounds on the mode numbers; those above n/2 have coefficient zero.

    Returns
    -------
    ndarray
        Complex, shape ``(..., *(2 modes + 1))``. A Nyquist mode is shared between ±n/2.
    """
    for axis, most in zip(range(-dim, 0), modes, strict=True):
        n = values.shape[axis]
        j = np.arange(-most, most + 1)
        spectrum = np.take(np.fft.fft(values, axis=axis), j % n, axis=axis) / n
        gain = np.where(2 * np.abs(j) < n, 1.0, np.where(2 * np.abs(j) == n, 0.5, 0.0))
        phase = gain * np.exp(-2j * np.pi * j * offset / n)
        shape = [1] * values.ndim
        shape[axis] = len(j)
        values = spectrum * phase.reshape(shape)
    return values


def norm(values: Array) -> float:
    """Euclidean norm over all entries."""
    return float(np.sqrt(np.sum(np.abs(values) ** 2)))


def checked_shape(name: str, shape: object) -> tuple[int, ...]:
    """Return a shape as a tuple of positive whole numbers, or raise an `InputError`."""
    parts: tuple[Any, ...] = (shape,) if isinstance(shape, int) else ()
    if not parts and isinstance(shape, Sequence) and not isinstance(shape, str):
        parts = tuple(shape)
    whole = all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1 for n in parts
    )
    if not parts or not whole:
        raise InputError(
            f"`{name}` must be a whole number >= 1 or a tuple of them; got {shortened(shape)}"
        )
    return tuple(int(n) for n in parts)


@contextmanager
def preserved(*owners: object, tensors: Sequence[Any] = ()) -> Iterator[None]:
    """Give modules back as they were: weights, gradients, buffers, modes; random states too.

    Parameters
    ----------
    *owners : object
        Modules; other objects are left alone.
    tensors : sequence of Tensor
        Further tensors to give back with their gradients.
    """
    torch: Any = sys.modules.get("torch")
    modules: list[Any] = [m for m in owners if is_module(m)]
    python = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002 - read and put back, never drawn from
    state = torch.get_rng_state() if torch else None
    devices = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_available() else []
    owned = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    every = {id(t): t for t in (*owned, *tensors)}.values()
    kept = [(t, t.detach().clone(), t.grad, _copy(t.grad), t.requires_grad) for t in every]
    flags = [(part, part.training) for m in modules for part in m.modules()]
    try:
        yield
    finally:
        for tensor, values, gradient, copy, wanted in kept:
            with torch.no_grad():
                tensor.copy_(values)
                if gradient is not None:
                    gradient.copy_(copy)
            tensor.grad = gradient
            tensor.requires_grad_(wanted)
        for part, training in flags:
            part.training = training
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch:
            torch.set_rng_state(state)
            if devices:
                torch.cuda.set_rng_state_all(devices)


def _copy(gradient: Any) -> Any:
    return None if gradient is None else gradient.detach().clone()
