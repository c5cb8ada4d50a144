"""What a Taylor test varies: a function, its blocks of variables, and the gradient claimed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradconv.errors import InputError, shortened
from gradconv.testing.probes import is_module

Array = NDArray[Any]


@dataclass(frozen=True)
class Block:
    """One array of variables.

    Attributes
    ----------
    name : str
        Name in messages.
    values : ndarray
        Where the function is expanded, double precision.
    gradient : ndarray
        The gradient claimed there, of the same shape; df = Re Σ conj(g) dx if complex.
    """

    name: str
    values: Array
    gradient: Array

    def direction(self, rng: np.random.Generator) -> Array:
        """Random direction of the size of the variables, so that steps are relative ones."""
        shape = self.values.shape
        v = rng.standard_normal(shape)
        if np.iscomplexobj(self.values):
            v = (v + 1j * rng.standard_normal(shape)) / math.sqrt(2.0)
        size = math.sqrt(float(np.mean(np.abs(self.values) ** 2))) if self.values.size else 0.0
        return v * (size or 1.0)


@dataclass(frozen=True)
class Expansion:
    """A scalar function around a point.

    Attributes
    ----------
    blocks : list of Block
        Its variables.
    evaluate : callable
        Takes a step for every block (None for no step); returns the value and the steps taken,
        which differ from those asked for by the rounding of the variables.
    epsilon : float
        Machine epsilon of the arithmetic.
    """

    blocks: list[Block]
    evaluate: Callable[[Sequence[Array | None]], tuple[float, list[Array | None]]]
    epsilon: float


def tensors_of(function: object, parameters: object) -> dict[str, Any]:
    """Name the tensors that a module or closure is differentiated by, or raise an `InputError`."""
    if is_module(function) and parameters is None:
        parameters = function
    if is_module(parameters):
        named = dict(parameters.named_parameters())  # type: ignore[attr-defined]
    elif isinstance(parameters, Mapping):
        named = {str(name): tensor for name, tensor in parameters.items()}
    elif isinstance(parameters, Sequence):
        named = {f"parameters[{i}]": tensor for i, tensor in enumerate(parameters)}
    else:
        raise InputError(
            "`parameters` must be a module, a mapping or a sequence of tensors; "
            f"got {shortened(parameters)}"
        )
    torch = sys.modules["torch"]
    lazy = torch.nn.parameter.UninitializedParameter
    for name, tensor in named.items():
        if isinstance(tensor, lazy):
            raise InputError(f"`parameters` must be initialised; {name} is lazy")
        if not isinstance(tensor, torch.Tensor) or not tensor.is_leaf:
            raise InputError(f"`parameters` must be leaf tensors; {name} is not")
    found = {name: t for name, t in named.items() if t.requires_grad and t.numel()}
    if not found:
        raise InputError("`parameters` must hold a tensor that requires a gradient; got none")
    return found


def torch_expansion(
    function: Callable[[], Any], tensors: dict[str, Any], gradient: object
) -> Expansion:
    """Expand a closure without arguments around the present values of `tensors`."""
    torch: Any = sys.modules["torch"]
    names, leaves = list(tensors), list(tensors.values())
    with torch.enable_grad():
        result = function()
        _check_scalar(result, torch)
        grads: list[Any]
        if gradient is None:
            if not result.requires_grad:
                raise InputError(
                    "`function` must depend on its parameters through torch; its result has no "
                    "gradient"
                )
            grads = list(torch.autograd.grad(result, leaves, allow_unused=True))
        else:
            grads = _claimed(gradient() if callable(gradient) else gradient, names)
    start = [leaf.detach().clone() for leaf in leaves]
    blocks = [
        Block(
            name,
            _double(values),
            np.zeros(tuple(values.shape))
            if g is None
            else _shaped(
                name, _double(g) if isinstance(g, torch.Tensor) else np.asarray(g), values.shape
            ),
        )
        for name, values, g in zip(names, start, grads, strict=True)
    ]

    def evaluate(steps: Sequence[Array | None]) -> tuple[float, list[Array | None]]:
        taken: list[Array | None] = []
        with torch.no_grad():
            for leaf, values, block, step in zip(leaves, start, blocks, steps, strict=True):
                leaf.copy_(values if step is None else torch.as_tensor(block.values + step))
                taken.append(None if step is None else _double(leaf) - block.values)
        with torch.enable_grad():  # a function may differentiate inside
            value = float(function().detach())
        return value, taken

    kinds = [result.dtype, *(leaf.dtype for leaf in leaves)]
    return Expansion(blocks, evaluate, max(float(torch.finfo(kind).eps) for kind in kinds))


def array_expansion(function: Callable[[Any], Any], x: object, gradient: object) -> Expansion:
    """Expand a function of one array around `x`."""
    try:
        values = np.asarray(x)
    except (TypeError, ValueError):
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "fciu" or not values.size:
        raise InputError(f"`x` must be a non-empty array of numbers; got {shortened(x)}")
    if values.dtype.kind in "iu":
        values = values.astype(float)
    if gradient is None:
        raise InputError("`gradient` must be given for a function of a numpy array; got None")
    kind = values.dtype
    point = values.astype(complex if kind.kind == "c" else float)
    claimed = gradient(values.copy()) if callable(gradient) else gradient
    block = Block("x", point, _shaped("x", np.asarray(claimed), point.shape))

    def evaluate(steps: Sequence[Array | None]) -> tuple[float, list[Array | None]]:
        step = steps[0]
        moved = values.copy() if step is None else (point + step).astype(kind)
        result = np.asarray(function(moved))
        if result.size != 1 or result.dtype.kind not in "fiu":
            raise InputError(f"`function` must return one real number; got {shortened(result)}")
        return float(result.reshape(())), [None if step is None else moved - point]

    return Expansion([block], evaluate, float(np.finfo(kind).eps))


def _check_scalar(result: Any, torch: Any) -> None:
    if not isinstance(result, torch.Tensor) or result.numel() != 1 or result.is_complex():
        what = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
        raise InputError(
            "`function` must give one real number, as a tensor (`loss` makes one of a module's "
            f"output); got {what}"
        )


def _claimed(gradient: object, names: list[str]) -> list[Any]:
    if isinstance(gradient, Mapping):
        unknown = sorted(set(gradient) - set(names))
        if unknown:
            raise InputError(f"`gradient` must name parameters; got {', '.join(unknown)}")
        return [gradient.get(name) for name in names]
    parts = list(gradient) if isinstance(gradient, Sequence) else [gradient]
    if len(parts) != len(names):
        raise InputError(
            f"`gradient` must have one entry a parameter, {len(names)}; got {len(parts)}"
        )
    return parts


def _shaped(name: str, gradient: Array, shape: Sequence[int]) -> Array:
    if gradient.shape != tuple(shape) or gradient.dtype.kind not in "fciu":
        raise InputError(
            f"`gradient` must have the shape of {name}, {tuple(shape)}; got {gradient.shape}"
        )
    return gradient.astype(complex if gradient.dtype.kind == "c" else float)


def _double(tensor: Any) -> Array:
    torch: Any = sys.modules["torch"]
    kind = torch.complex128 if tensor.is_complex() else torch.float64
    return np.array(tensor.detach().to(device="cpu", dtype=kind).resolve_conj().numpy())
