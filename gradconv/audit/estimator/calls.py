"""Calls of the module and the steps they belong to, as they are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv.audit.estimator.gradients import Bookkeeping
from gradconv.errors import InputError, shortened


@dataclass(eq=False)
class Call:
    """One call of the module.

    Parameters
    ----------
    number : int
        Its place in the step.
    n : int
        Cells along the first axis of the input.
    input : Tensor
        Copy of the input on the CPU, shape ``(B, C, *n)``.
    training : bool
        Mode of the module.
    differentiable : bool
        Whether the output was connected to the parameters.
    random_state : str
        Digest of torch's random state when the call began.
    moved : float
        Relative change of the parameters since the step began.
    output : float
        Root mean square of the output.
    finite : bool
        Whether output and cotangent were finite.
    reached : bool
        Whether a backward pass came back to the output.
    places : tuple of int
        Shape of the output beyond samples and channels.
    channels : int
        Channels of the output.
    slopes : dict of int to ndarray
        Slope of the loss along δ of each sample, by backward pass; probe steps only.
    """

    number: int
    n: int
    input: torch.Tensor
    training: bool
    differentiable: bool
    random_state: str
    moved: float
    output: float = 0.0
    finite: bool = True
    reached: bool = False
    places: tuple[int, ...] = ()
    channels: int = 1
    slopes: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def cells(self) -> int:
        """Places of the output a sample and channel."""
        return int(np.prod(self.places))

    @property
    def batch(self) -> int:
        """Number of samples."""
        return int(self.input.shape[0])


@dataclass(eq=False)
class Step:
    """One training step.

    Parameters
    ----------
    number : int
        Which one.
    probed : bool
        Whether outputs were perturbed.
    calls : list of Call
        In order.
    books : Bookkeeping
        Backward passes and what used them.
    training_before, training_after : bool
        Mode of the module before and after the step.
    random_after : dict of str to str
        Digests of the global random states after the step, by library.
    optimised : bool
        Whether an optimiser stepped.
    """

    number: int
    probed: bool
    books: Bookkeeping
    training_before: bool
    calls: list[Call] = field(default_factory=list)
    training_after: bool = True
    random_after: dict[str, str] = field(default_factory=dict)
    optimised: bool = False


@dataclass(frozen=True)
class Arguments:
    """Arguments of one call, to make it again: ``module(*args, **kwargs)`` with another input."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | str

    def call(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
        """Call the module with `x` in place of the input."""
        args, kwargs = list(self.args), dict(self.kwargs)
        if isinstance(self.place, int):
            args[self.place] = x
        else:
            kwargs[self.place] = x
        return first_tensor(module(*args, **kwargs))


def find_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int | str, torch.Tensor]:
    """Find the first argument that is a field, ``(B, C, *n)``.

    Raises
    ------
    InputError
        If there is none.
    """
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in places:
        if isinstance(value, torch.Tensor) and value.ndim >= 3 and value.is_floating_point():
            return place, value
    shapes = [tuple(v.shape) if isinstance(v, torch.Tensor) else shortened(v) for _, v in places]
    raise InputError(f"`module` must be called on fields of shape (B, C, *n); got {shapes}")


def first_tensor(output: Any) -> torch.Tensor | None:
    """Prediction within an output: the first tensor of numbers in it."""
    if isinstance(output, torch.Tensor):
        return output if output.is_floating_point() or output.is_complex() else None
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(parts, (list, tuple)) or isinstance(output, Mapping):
        for part in parts:
            if isinstance(part, torch.Tensor) and (part.is_floating_point() or part.is_complex()):
                return part
    return None


def replace_first(output: Any, new: torch.Tensor) -> Any:
    """Put another tensor where `first_tensor` looks."""
    old = first_tensor(output)
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed = {k: new if v is old else v for k, v in output.items()}
        return changed if type(output) is dict else type(output)(**changed)
    parts = [new if part is old else part for part in output]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
