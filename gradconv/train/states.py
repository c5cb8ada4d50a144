"""States of optimisers, schedules and generators as tensors and JSON, exact and without pickle."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from gradconv.errors import InputError, shortened

Json = Any
TAG = "!"  # key of an object that stands for what JSON does not have
DEEPEST = 64  # nesting; states of torch have less than ten


def flatten_state(state: Any) -> tuple[dict[str, Tensor], Json]:
    """Take a state apart: its tensors by name, and everything else as JSON.

    Dictionaries with keys of any such kind, lists, tuples, counters, strings, whole numbers,
    booleans, None, floats (not finite ones too), NumPy scalars and tensors come back from
    `unflatten_state` as they were, of the same type and with the same bits.

    Parameters
    ----------
    state : object
        As ``state_dict()`` of an optimiser or of a schedule gives it.

    Returns
    -------
    tensors : dict of Tensor
        Named by their place, as ``state/0/exp_avg``.
    described : JSON
        What `unflatten_state` needs besides; strict JSON, without NaN.

    Raises
    ------
    InputError
        If something in it can not be written; the message names its place.
    """
    tensors: dict[str, Tensor] = {}

    def keep(tensor: Tensor, place: str) -> Json:
        name = place or "state"
        while name in tensors:  # keys 0 and "0" have the same name
            name += "'"
        tensors[name] = tensor
        return {TAG: "tensor", "name": name}

    return tensors, _encode(state, "", keep)


def unflatten_state(tensors: dict[str, Tensor], described: Json) -> Any:
    """Put a state together again that `flatten_state` took apart.

    Parameters
    ----------
    tensors : dict of Tensor
        At least those of the state.
    described : JSON
        The second part.

    Raises
    ------
    InputError
        If a tensor is missing, or the description is none.
    """

    def found(name: str) -> Tensor:
        if name not in tensors:
            raise InputError(f"`tensors` must hold all tensors of the state; {name!r} is missing")
        return tensors[name]

    try:
        return _decode(described, found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"`described` must be a state as flatten_state writes it; got {shortened(described)}"
        ) from None


def encode(value: Any, name: str) -> Json:
    """Write a value without tensors as strict JSON; see `flatten_state`.

    Parameters
    ----------
    value : object
        Any nesting of dictionaries, lists, tuples, strings, numbers, booleans and None.
    name : str
        What it is called in an error.

    Raises
    ------
    InputError
        If something in it can not be written; the message names its place.
    """

    def refuse(tensor: Tensor, place: str) -> Json:
        raise InputError(f"`{place}` must be a tensor among the tensors; got one in the state")

    return _encode(value, name, refuse)


def decode(described: Json) -> Any:
    """Read what `encode` wrote."""
    return unflatten_state({}, described)


def _encode(value: Any, place: str, keep: Callable[[Tensor, str], Json], depth: int = 0) -> Json:
    if depth > DEEPEST:
        raise InputError(f"`{place[:80]}` must be nested at most {DEEPEST} deep")
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
    if isinstance(value, Tensor):
        return keep(value, place)

    def inside(child: Any, key: object) -> Json:
        return _encode(child, f"{place}/{key}" if place else str(key), keep, depth + 1)

    if kind is list:
        return [inside(child, i) for i, child in enumerate(value)]
    if kind is tuple:
        return {TAG: "tuple", "items": [inside(child, i) for i, child in enumerate(value)]}
    if kind in (dict, Counter) or isinstance(value, dict):
        items = list(value.items())
        if kind is not Counter and TAG not in value and all(type(k) is str for k, _ in items):
            return {k: inside(child, k) for k, child in items}
        tag = "counter" if kind is Counter else "dict"
        return {TAG: tag, "items": [[inside(k, "key"), inside(c, k)] for k, c in items]}
    if isinstance(value, np.generic) and type(value.item()) in (bool, int, float):
        return {TAG: "numpy", "dtype": value.dtype.name, "value": inside(value.item(), "value")}
    raise InputError(
        f"`{place}` must be made of numbers, strings, lists, tuples, dictionaries and tensors "
        f"to be kept; got {shortened(value)}"
    )


def _decode(described: Json, found: Callable[[str], Tensor]) -> Any:
    if isinstance(described, list):
        return [_decode(child, found) for child in described]
    if not isinstance(described, dict):
        return described
    if TAG not in described:
        return {k: _decode(child, found) for k, child in described.items()}
    match described[TAG]:
        case "float":
            return float(described["value"])
        case "tensor":
            return found(described["name"])
        case "tuple":
            return tuple(_decode(child, found) for child in described["items"])
        case "dict":
            return {_decode(k, found): _decode(c, found) for k, c in described["items"]}
        case "counter":
            return Counter({_decode(k, found): _decode(c, found) for k, c in described["items"]})
        case "numpy":
            return np.dtype(described["dtype"]).type(_decode(described["value"], found))
    raise ValueError(described[TAG])


def load_optimiser(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser a state with the precision that it was saved in.

    ``load_state_dict`` of torch casts all it finds to the type of the parameter, as a product of
    NAdam that is kept in single precision: the steps that follow would have other bits.

    Parameters
    ----------
    optimiser : Optimizer
        Of parameters as those of the state.
    state : dict
        As ``state_dict()`` gave it.

    Raises
    ------
    InputError
        If the state is of other parameters or of another optimiser.
    """
    try:
        optimiser.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise InputError(f"`state` must be of the same optimiser; {error}") from None
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, value in state["state"].get(number, {}).items():
            there = optimiser.state[parameter][name]
            if isinstance(value, Tensor) and there.dtype != value.dtype:
                optimiser.state[parameter][name] = value.clone().to(there.device)


def random_states() -> tuple[dict[str, Tensor], Json]:
    """States of the global generators of torch, NumPy and Python, taken apart.

    Those of CUDA are among them once this process has used CUDA.

    Returns
    -------
    tuple
        Tensors and JSON, as of `flatten_state`.
    """
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    kind, keys, *rest = state
    # asking wakes CUDA up, which costs memory and time where nobody uses it
    awake = torch.cuda.is_available() and torch.cuda.is_initialized()
    return flatten_state(
        {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if awake else [],
            "numpy": [str(kind), torch.from_numpy(np.array(keys, dtype=np.int64)), *rest],
            "python": random.getstate(),
        }
    )


def restore_random_states(tensors: dict[str, Tensor], described: Json) -> None:
    """Set the global generators to states that `random_states` gave.

    States of CUDA devices that are not here are left out.

    Parameters
    ----------
    tensors, described : dict of Tensor, JSON
        The two parts.

    Raises
    ------
    InputError
        If they are no such states; no generator is changed then but those before it.
    """
    state = unflatten_state(tensors, described)
    try:
        kind, keys, *rest = state["numpy"]
        torch.set_rng_state(state["torch"])
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        random.setstate(state["python"])
        for device, one in enumerate(state["cuda"]):
            if torch.cuda.is_available() and device < torch.cuda.device_count():
                torch.cuda.set_rng_state(one, device)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(f"`described` must be states of generators; {error}") from None
