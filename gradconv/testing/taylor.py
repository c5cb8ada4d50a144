"""`assert_taylor`: a gradient is that of its function, by the orders of Taylor remainders."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconv.errors import InputError, check_positive, check_whole, shortened
from gradconv.rates import Rate
from gradconv.testing.drawings import step_drawing
from gradconv.testing.failures import fail
from gradconv.testing.orders import note
from gradconv.testing.probes import is_module, preserved
from gradconv.testing.taylor_blocks import (
    Array,
    Expansion,
    array_expansion,
    tensors_of,
    torch_expansion,
)
from gradconv.testing.taylor_steps import Ladder, Line, climb, fitted, verdict

TOLERANCE = 0.25
"""Default distance of an interval's ends from a whole order: tells 2 from 1.5 and from 1."""

_UNSTABLE = 1000.0  # spread of repeated values, in epsilons, that rounding does not explain


@dataclass(frozen=True)
class TaylorResult:
    """What a Taylor test found along one direction.

    Attributes
    ----------
    status : str
        "order 2" (or higher), "linear" where the remainder is zero to rounding, "flat" where the
        function does not change and the gradient is zero, both to rounding; else what is wrong.
    slope : float
        ⟨g, v⟩, from the gradient.
    quotient : float
        Derivative along v from difference quotients; nan where the function gives none.
    remainder : Rate or None
        Order of |f(x + εv) − f(x) − ε⟨g, v⟩|; None on a flat direction.
    first : Rate or None
        Order of |f(x + εv) − f(x)|; None where the slope is too small to show one.
    """

    status: str
    slope: float
    quotient: float
    remainder: Rate | None
    first: Rate | None


def assert_taylor(
    function: Any,
    x: Any = None,
    *,
    data: Any = None,
    loss: Callable[[Any], Any] | None = None,
    parameters: Any = None,
    gradient: Any = None,
    each: bool = True,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> dict[str, TaylorResult]:
    """Assert that a gradient is right: |f(x + εv) − f(x) − ε⟨g, v⟩| falls at order 2.

    The gradient is taken here, by torch, and everything is given back as it was: parameters,
    their ``.grad``, buffers, modes and random states. Steps ε halve from 1, in units of the size of
    the variables. The window of steps is found by rule: below, it ends where the remainder meets
    the rounding of f (measured, and at least its machine epsilon); above, where higher terms bend
    the order (as in `gradconv.fit_rate`).

    Parameters
    ----------
    function : torch.nn.Module or callable
        A module, differentiated by its parameters; a closure without arguments that returns a
        scalar tensor, differentiated by `parameters`; or a function of `x`.
    x : tensor or array_like, optional
        Where a function of one argument is expanded. For an array, `gradient` is needed.
    data : tensor or tuple of tensors, optional
        Input of a module.
    loss : callable, optional
        Takes the module's output, returns a scalar tensor; default: half the mean square.
    parameters : module, mapping or sequence of tensors, optional
        Leaf tensors that a closure, or part of a module, is differentiated by.
    gradient : optional
        The gradient to test in place of torch's: an array or tensor for `x`, or a sequence (None
        for zero) or mapping by name for parameters, or a callable that returns it (and takes `x`
        for an array).
    each : bool
        Whether every parameter tensor has a test of its own, which names the wrong one and finds
        errors that a large neighbour would hide; otherwise one direction over all of them. A test
        evaluates the function about 50 times.
    tolerance : float
        Largest distance > 0 of the interval's ends from the order.
    seed : int
        Seed >= 0 of the directions.

    Returns
    -------
    dict of str to TaylorResult
        By name of the variables.

    Raises
    ------
    CheckFailed
        If a gradient is wrong, or the test cannot tell: the function is random, not smooth, not
        finite, or flat along every direction; an `AssertionError`.
    InputError
        If an argument breaks a rule.

    Notes
    -----
    A remainder of a higher whole order (no second derivative along v) and one that is zero to
    rounding (a linear function) pass too. Where ⟨g, v⟩ shows above rounding, |f(x + εv) − f(x)|
    must fall at order 1.

    An error of the directional derivative shows if its square is well above the rounding of f,
    both relative to the function: about 1e-6 in double precision, 1e-2 in single. v is a random
    normal direction, along which an error e of the gradient has the size |⟨e, v⟩|: less than 1 %
    of its expected size for 0.8 % of the seeds. Nothing else is left to chance.

    On random networks of two convolutions (tanh, GELU, SiLU, ReLU; a third with batch
    normalisation) in double precision, all of 200 right gradients passed and all of 400 with one
    tensor scaled by 1.01 or 1.0001 failed. Single precision leaves too few steps between rounding
    and higher terms: 40 of 100 right gradients failed there (24 of the 25 with ReLU), nearly all
    as undecided, and 17 of 100 scaled by 1.01 passed. Test ``copy.deepcopy(module).double()``.

    References
    ----------
    J. J. Moré, S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific Computing
    33, 2011 (the noise of f from a table of differences).

    Examples
    --------
    >>> import numpy as np
    >>> result = assert_taylor(lambda x: np.sum(np.sin(x)), [0.3, 1.0], gradient=np.cos)
    >>> result["x"].status
    'order 2'
    """
    __tracebackhide__ = True
    given = dict(locals())
    check_positive("tolerance", tolerance)
    check_whole("seed", seed, 0, 2**62)
    _check_function(function, x, data, loss)
    owners, tensors = _owners(function, x, parameters)
    with preserved(*owners, tensors=list(tensors.values())):
        expansion = _expansion(function, x, data, loss, tensors, gradient)
        results, lines, trouble = _run(expansion, each, tolerance, seed)
    for name, result in results.items():
        if result.remainder is not None:
            note(result.remainder, f"Taylor remainder along {name}", 2.0, name not in trouble)
    if trouble:
        name = next(iter(trouble))
        _fail(given, name, trouble, results, lines)
    if all(result.status == "flat" for result in results.values()):
        _fail(
            given,
            next(iter(results)),
            dict.fromkeys(results, "flat: f does not change beyond rounding, nothing is asserted"),
            results,
            lines,
        )
    return results


def _check_function(function: object, x: object, data: object, loss: object) -> None:
    if not callable(function):
        raise InputError(f"`function` must be callable; got {shortened(function)}")
    if is_module(function) and data is None:
        raise InputError("`data` must be given for a module: the input that it is tested on")
    if not is_module(function) and (data is not None or loss is not None):
        raise InputError("`data` and `loss` go with a module; got them with a function")
    if is_module(function) and x is not None:
        raise InputError("`x` goes with a function of one argument; a module takes `data`")


def _owners(function: object, x: Any, parameters: object) -> tuple[list[object], dict[str, Any]]:
    """Modules to preserve and tensors to vary by name; no tensors for an array `x`."""
    torch: Any = sys.modules.get("torch")
    if x is not None:
        if parameters is not None:
            raise InputError("`parameters` go with a module or closure; got them with `x`")
        tensor = torch is not None and isinstance(x, torch.Tensor)
        return [function], {"x": x.detach().clone().requires_grad_()} if tensor else {}
    if torch is None or (parameters is None and not is_module(function)):
        raise InputError("`x` or `parameters` must be given for a function that is no module")
    return [function, parameters], tensors_of(function, parameters)


def _expansion(
    function: Any,
    x: Any,
    data: Any,
    loss: Callable[[Any], Any] | None,
    tensors: dict[str, Any],
    gradient: Any,
) -> Expansion:
    if x is not None and not tensors:
        return array_expansion(function, x, gradient)
    if x is not None:
        leaf = tensors["x"]
        return torch_expansion(lambda: function(leaf), tensors, gradient)
    if not is_module(function):
        return torch_expansion(function, tensors, gradient)
    inputs = data if isinstance(data, tuple) else (data,)
    reduce = loss or _half_mean_square
    return torch_expansion(lambda: reduce(function(*inputs)), tensors, gradient)


def _half_mean_square(output: Any) -> Any:
    torch: Any = sys.modules["torch"]
    if not isinstance(output, torch.Tensor):
        raise InputError(
            "`loss` must be given for a module that does not return one tensor; got "
            f"{type(output).__name__}"
        )
    return 0.5 * output.abs().square().mean()


def _run(
    expansion: Expansion, each: bool, tolerance: float, seed: int
) -> tuple[dict[str, TaylorResult], dict[str, Line], dict[str, str]]:
    """Test every direction; results and steps by name, and what is wrong by name."""
    rng = np.random.default_rng(seed)
    blocks = expansion.blocks
    directions: dict[str, list[Array | None]] = {}
    if each:
        for i, block in enumerate(blocks):
            alone: list[Array | None] = [None] * len(blocks)
            alone[i] = block.direction(rng)
            directions[block.name] = alone
    else:
        directions["all parameters"] = [block.direction(rng) for block in blocks]
    results: dict[str, TaylorResult] = {}
    lines: dict[str, Line] = {}
    trouble: dict[str, str] = {}
    for name, direction in directions.items():
        ladder = Ladder(expansion, direction)
        why = _unusable(expansion, ladder, blocks)
        if why:
            results[name] = TaylorResult(why, ladder.slope, math.nan, None, None)
            return results, lines, {name: why}  # no direction would fare better
        line = climb(ladder)
        remainder, first = fitted(line)
        status, wrong = verdict(ladder, line, remainder, first, tolerance)
        flat = status == "flat"
        results[name] = TaylorResult(
            status, ladder.slope, ladder.quotient(line)[0], None if flat else remainder, first
        )
        lines[name] = line
        if wrong:
            trouble[name] = wrong
    return results, lines, trouble


def _unusable(expansion: Expansion, ladder: Ladder, blocks: Sequence[Any]) -> str:
    """Say why a function cannot be expanded at all, or return an empty text."""
    if not math.isfinite(ladder.start):
        return f"f(x) is {ladder.start}"
    bad = [block.name for block in blocks if not np.isfinite(block.gradient).all()]
    if bad:
        return f"the gradient by {', '.join(bad)} is not finite"
    values = [ladder.value(0.0)[0] for _ in range(3)]
    spread = max(values) - min(values)
    if spread > _UNSTABLE * expansion.epsilon * max(abs(v) for v in values):
        return (
            f"the function is random: f(x) took values from {min(values):.6g} to "
            f"{max(values):.6g} at one x (dropout, noise drawn inside?); fix its seed or use "
            "evaluation mode"
        )
    ladder.noise = max(ladder.noise, spread)
    return ""


def _fail(
    given: dict[str, Any],
    name: str,
    trouble: dict[str, str],
    results: dict[str, TaylorResult],
    lines: dict[str, Line],
) -> None:
    __tracebackhide__ = True
    result, line = results[name], lines.get(name)
    facts = {
        "slope": f"⟨g, v⟩ = {result.slope:.8g} along {name}; by difference quotients "
        f"{result.quotient:.8g}"
    }
    if len(trouble) > 1:
        facts["also"] = "; ".join(f"{n}: {w}" for n, w in list(trouble.items())[1:6])
    held = [f"{n} ({r.status})" for n, r in results.items() if n not in trouble]
    if held:
        facts["held"] = ", ".join(held[:12]) + (" …" if len(held) > 12 else "")
    rate, rows, draw = result.remainder, [], None
    if line is not None:
        rows = line.rows(rate)
        label = "|f(x + εv) − f(x) − ε⟨g, v⟩|"
        draw = step_drawing(line.steps, np.abs(line.remainder), line.floor, rate, label)
    if rate is not None:
        facts["because"] = rate.reason
    fail(
        assert_taylor,
        f"the gradient along {name}, by Taylor remainders of order 2",
        trouble[name],
        facts,
        ("ε", "|f(x+εv)−f(x)|", "order", "|…−ε⟨g,v⟩|", "order", "rounding", "fit"),
        rows,
        given,
        draw,
    )
