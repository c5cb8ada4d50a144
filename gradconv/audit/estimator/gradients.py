"""What becomes of the gradients of a step: which backward passes enter what the optimiser uses.

Every gradient is kept as a sketch, a random linear image of 64 numbers a parameter tensor: sums of
gradients are sums of sketches, so that the weight of each backward pass in ``.grad`` follows from
least squares, without a copy of every pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from gradconv.audit.estimator.keeping import Keeper

WIDTH = 64
LEAST = 0.1  # of what was used: a pass at least must have so large a part in it
FIT = 1e-4  # relative residual below which ``.grad`` is a combination of the passes


class Sketcher:
    """The random linear map, the same for every gradient of a module.

    Parameters
    ----------
    module : Module
        Whose parameters the gradients belong to.
    """

    def __init__(self, module: nn.Module) -> None:
        self.names = [name for name, p in module.named_parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(0)
        self.signs = {
            name: torch.randint(0, 2, (p.numel(),), generator=generator, dtype=torch.int8)
            for name, p in module.named_parameters()
            if p.requires_grad
        }

    def part(self, name: str, gradient: torch.Tensor) -> np.ndarray:
        """Sketch the gradient of one parameter, shape ``(64,)``."""
        flat = gradient.detach().to_dense().cpu()
        flat = (flat.real + flat.imag if flat.is_complex() else flat).double().reshape(-1)
        flat = flat * (2.0 * self.signs[name].double() - 1.0)
        padded = torch.zeros(-(-flat.numel() // WIDTH) * WIDTH, dtype=torch.float64)
        padded[: flat.numel()] = flat
        return padded.reshape(-1, WIDTH).sum(0).numpy()

    def whole(self, parts: dict[str, np.ndarray]) -> np.ndarray:
        """Join the sketches of all parameters; what is missing is zero."""
        zero = np.zeros(WIDTH)
        return np.concatenate([parts.get(name, zero) for name in self.names])

    def grads(self, module: nn.Module) -> np.ndarray:
        """Sketch what is in ``.grad``."""
        return self.whole(
            {
                name: self.part(name, p.grad)
                for name, p in module.named_parameters()
                if p.grad is not None and name in self.signs
            }
        )

    def change(self, module: nn.Module, keeper: Keeper) -> np.ndarray:
        """Sketch by how much the parameters have gone down."""
        return self.whole(
            {
                name: self.part(name, keeper.values[name] - p.detach())
                for name, p in module.named_parameters()
                if name in self.signs
            }
        )


@dataclass
class Use:
    """What the optimiser used, or what the step left, and the passes since the last use.

    Parameters
    ----------
    passes : tuple of int
        Backward passes that could have entered.
    factors : dict of int to float or None
        Weight of each pass in what was used, the largest being 1; None if it is no combination of
        them (clipped by value, say).
    stale : float
        Weight of what was in ``.grad`` before the step.
    """

    passes: tuple[int, ...]
    factors: dict[int, float] | None
    stale: float


@dataclass
class Bookkeeping:
    """The backward passes of one step and their uses.

    Parameters
    ----------
    sketcher : Sketcher
        The linear map.
    before : ndarray
        Sketch of ``.grad`` before the step.
    """

    sketcher: Sketcher
    before: np.ndarray
    parts: list[dict[str, np.ndarray]] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    counted: int = 0  # passes that have been used
    accumulated: bool = False  # whether any of them went into ``.grad``

    def add(self, number: int, name: str, gradient: torch.Tensor) -> None:
        """Add the gradient of a parameter to a pass."""
        while len(self.parts) <= number:
            self.parts.append({})
        part = self.sketcher.part(name, gradient)
        known = self.parts[number].get(name)
        self.parts[number][name] = part if known is None else known + part

    @property
    def waiting(self) -> tuple[int, ...]:
        """Passes that no use has followed yet."""
        return tuple(range(self.counted, len(self.parts)))

    def use(self, used: np.ndarray, fit: float = FIT) -> None:
        """Find the weight of each waiting pass in a sketch of what was used.

        Parameters
        ----------
        used : ndarray
            The sketch.
        fit : float
            Relative residual up to which it is a combination of passes.
        """
        passes = self.waiting
        if not passes:
            return
        self.counted = len(self.parts)
        columns = [self.sketcher.whole(self.parts[k]) for k in passes]
        stale = self.before if not self.uses else np.zeros_like(self.before)
        factors, share = combination(used, columns, stale, fit)
        found = None if factors is None else dict(zip(passes, factors, strict=True))
        if self.accumulated and not np.any(used):
            found = dict.fromkeys(passes, 0.0)  # all of it was thrown away
        self.uses.append(Use(passes, found, share))

    @property
    def factors(self) -> dict[int, float]:
        """Weight of each pass in what was used; 1 where that is not known."""
        found: dict[int, float] = {}
        for use in self.uses:
            found |= use.factors if use.factors is not None else dict.fromkeys(use.passes, 1.0)
        return found


def combination(
    used: np.ndarray, columns: list[np.ndarray], stale: np.ndarray, fit: float = FIT
) -> tuple[list[float] | None, float]:
    """Write what was used as a combination of passes and of what was there before.

    Returns
    -------
    factors : list of float or None
        Weights of the passes, the largest of size 1; None if no combination gives what was used.
    stale : float
        Weight of what was there before, on the same scale.
    """
    scale = float(np.linalg.norm(used))
    sizes = [float(np.linalg.norm(c)) for c in columns]
    if not np.isfinite(scale + sum(sizes)) or not scale or not any(sizes):
        return None, 0.0
    with_stale = bool(np.linalg.norm(stale))
    total = np.sum(columns, axis=0)
    plain: Iterable[np.ndarray] = (total, total + stale) if with_stale else (total,)
    for number, target in enumerate(plain):  # the usual cases, however alike the passes are
        norm = float(target @ target)
        factor = float(used @ target) / norm if norm else 0.0
        if factor and np.linalg.norm(used - factor * target) <= fit * scale:
            return [1.0] * len(columns), float(number)
    matrix = np.stack([*columns, *([stale] if with_stale else [])], axis=1)
    norms = np.linalg.norm(matrix, axis=0)
    norms[norms == 0] = 1.0
    weights = np.linalg.lstsq(matrix / norms, used, rcond=1e-9)[0] / norms
    if np.linalg.norm(used - matrix @ weights) > fit * scale:
        return None, 0.0
    own = weights[: len(columns)]
    largest = float(np.max(np.abs(own)))
    # gradients that are clipped to one pattern in every step look like those of the step before
    if np.max(np.abs(own) * sizes) < LEAST * scale:
        return None, 0.0
    own = own / largest
    own[np.abs(own) < 10 * fit] = 0.0
    return [float(w) for w in own], float(weights[-1] / largest) if with_stale else 0.0
