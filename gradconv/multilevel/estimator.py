"""The multilevel estimate of a gradient: E g_L = E g_0 + Σ E[g_l − g_{l−1}].

Terms are independent, the two gradients of a term see the same samples, and gradients are added up
one pass at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv.errors import InputError, check_whole, shortened
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.allocation import Allocation, Allotment, Fixed, levels_above
from gradconv.multilevel.costs.model import CostModel
from gradconv.multilevel.costs.plan import pass_size
from gradconv.multilevel.evaluator import Evaluator, split
from gradconv.multilevel.moments import Moments, MomentSums, moments_of
from gradconv.multilevel.pilots import Pilots
from gradconv.multilevel.repeats import Repeats
from gradconv.nn.evaluation import Loss, Output
from gradconv.samplers import as_sampler


@dataclass(frozen=True)
class Step:
    """What one estimate was made of.

    Parameters
    ----------
    loss : float
        The estimate of the finest level's loss, by the same sum.
    fine, coarse : tuple of float
        Mean loss of each term's fine and coarse pass; NaN where there was none.
    allotment : Allotment
        Samples of each term.
    work : float
        Cost in the unit of the cost model (work units: one sample's gradient on the finest mesh is
        1), the pilot of this step not among it.
    pilot_work : float
        Cost of the pilot before this step; 0 where there was none.
    cells : int
        Cells on which samples were drawn before they were restricted.
    """

    loss: float
    fine: tuple[float, ...]
    coarse: tuple[float, ...]
    allotment: Allotment
    work: float
    pilot_work: float
    cells: int


class MultilevelGradient:
    """Multilevel Monte Carlo estimates of the gradient on the finest mesh.

    Parameters
    ----------
    module : Module
        Takes inputs of shape ``(B, C, *n)`` on every mesh; used as it is, in its mode.
    loss : "mse" or callable
        ``loss(prediction, target) -> scalar``, a mean over the batch. "mse" is ½ Σ_channels
        |p − y|², averaged over cells and batch.
    sampler : Sampler, Problem, (inputs, targets), callable or iterable
        The data; see `gradconv.samplers`. Whether noise is drawn once on the finest mesh and
        restricted, or by level, is the sampler's.
    hierarchy : MeshHierarchy
        The levels.
    allocation : Allocation or sequence of int
        Samples of each term: `Fixed`, `Optimal`, `Randomised`, or numbers coarse to fine.
    restriction, route
        Fine → coarse map of given tensors and loaders.
    control : None, "optimal" or sequence of float
        Weights θ_l of the coarse gradients: the sum is E[g_L − θ_L g_{L−1}] + θ_L (E[g_{L−1} −
        …]), unbiased for any weights. None is θ = 1, the plain sum; "optimal" takes those that
        make variance × cost least on the pilot; a sequence has one value a level, coarse to fine,
        of which the first plays no part.
    costs : CostModel, optional
        Cost of one sample's gradient on each level; by default work units, γ = dim.
    moments : Moments, optional
        Of a diagnosis; saves the first pilot.
    pilot : int
        Samples a term of a pilot, where the allocation or `control` needs moments. They are used
        for the moments only, which keeps the estimate unbiased.
    overhead : float
        Pilots are repeated after so many steps that they cost at most this fraction of the steps.
        0 keeps the first one's moments.
    microbatch : int, optional
        Samples of a pass at most on the finest mesh, and as many cells on coarser ones: bounds the
        memory, which is that of the largest pass.
    output : int, str, callable or None
        What of the module's output is the prediction.
    seed : int
        Of data made here, of random rounding, and of stochastic models.

    Raises
    ------
    InputError
        If an argument breaks a rule above.

    Notes
    -----
    Samples are numbered, and every term of every step takes the next numbers: terms and steps are
    independent, and nothing repeats but a finite data set in its epochs. Training runs add up the
    plain sum with fixed numbers in fewer passes (`gradconv.train.gradient.StepGradient`).

    References
    ----------
    M. B. Giles, "Multilevel Monte Carlo methods", Acta Numerica 24, 2015.

    Examples
    --------
    >>> import torch
    >>> from gradconv import MeshHierarchy, Problem
    >>> from gradconv.multilevel import MultilevelGradient
    >>> levels = MeshHierarchy.powers_of_two(1, 3, 6)
    >>> data = Problem("stencil", noise="pixel:0.5", dim=1)
    >>> module = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", dtype=torch.float64)
    >>> estimate = MultilevelGradient(module, "mse", data, levels, (128, 64, 32, 16))
    >>> optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    >>> optimiser.zero_grad()
    >>> step = estimate.backward()
    >>> optimiser.step()
    >>> step.work
    88.0
    """

    def __init__(
        self,
        module: nn.Module,
        loss: str | Loss,
        sampler: Any,
        hierarchy: MeshHierarchy,
        allocation: Allocation | Sequence[int],
        *,
        restriction: Any = "average",
        route: str = "chain",
        control: str | Sequence[float] | None = None,
        costs: CostModel | None = None,
        moments: Moments | None = None,
        pilot: int = 16,
        overhead: float = 0.05,
        microbatch: int | None = None,
        output: Output = None,
        seed: int = 0,
    ) -> None:
        self.sampler = as_sampler(
            sampler, hierarchy, restriction=restriction, route=route, seed=seed
        )
        self.evaluator = Evaluator(module, loss, self.sampler, output=output, seed=seed)
        self.hierarchy, self.seed = hierarchy, seed
        levels = len(hierarchy)
        if not isinstance(allocation, Allocation):
            allocation = Fixed(allocation)
        allocation.check(levels)
        if costs is not None and not isinstance(costs, CostModel):
            raise InputError(f"`costs` must be a CostModel; got {shortened(costs)}")
        costs = costs or CostModel.work_units(levels, hierarchy.dim)
        if len(costs.gradient) != levels:
            raise InputError(
                f"`costs` must have one value a level, {levels}; got {len(costs.gradient)}"
            )
        if microbatch is not None:
            check_whole("microbatch", microbatch, 1)
        self.microbatch = microbatch
        self.pilots = Pilots(allocation, costs, control, pilot, overhead)
        self.steps = 0
        self._next = 0  # the next sample that nothing has seen
        self._repeats = Repeats(self.sampler)
        if moments is not None:
            if len(moments) != levels:
                raise InputError(
                    f"`moments` must have one value a level, {levels}; got {len(moments)}"
                )
            self.pilots.take(moments, self.steps)

    def backward(self) -> Step:
        """Add an estimate of the gradient to ``.grad`` of the module's parameters.

        Returns
        -------
        Step

        Raises
        ------
        InputError
            If a pass fails, the samples run out or a gradient is not finite; ``.grad`` is as it
            was.
        """
        with self._apart() as before:
            step = self._estimate()
        for parameter, grad in before.items():
            if grad is not None:
                parameter.grad = grad if parameter.grad is None else grad.add_(parameter.grad)
        return step

    def estimate(self) -> tuple[dict[str, torch.Tensor], Step]:
        """Estimate the gradient without touching ``.grad``.

        Returns
        -------
        gradient : dict
            By parameter name, each of the parameter's shape.
        step : Step
        """
        with self._apart() as before:
            step = self._estimate()
        found = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in self.evaluator.parameters.items()
        }
        for parameter, grad in before.items():
            parameter.grad = grad
        return found, step

    @contextmanager
    def _apart(self) -> Iterator[dict[nn.Parameter, torch.Tensor | None]]:
        """Start from empty gradients; put the old ones back if anything fails."""
        before = {p: p.grad for p in self.evaluator.parameters.values()}
        for parameter in before:
            parameter.grad = None
        try:
            yield before
        except BaseException:
            for parameter, grad in before.items():
                parameter.grad = grad
            raise

    def _estimate(self) -> Step:
        pilots, pilot_work = self.pilots, 0.0
        if pilots.due(self.steps):
            pilots.take(self.measure(pilots.samples), self.steps)
            pilot_work = pilots.work
        generator = np.random.default_rng([self.seed, self.steps])
        allotment = pilots.allocation.allot(pilots.terms, pilots.term_costs, generator)
        above = levels_above(pilots.control.theta)
        loss, losses, cells = 0.0, np.full((2, len(self.hierarchy)), np.nan), 0
        for level, (count, factor) in enumerate(
            zip(allotment.counts, allotment.factors, strict=True)
        ):
            if not count or above[level] == 0:
                continue
            # sums of two samples' gradients: the parts of a term, each a mean over its passes
            theta = float(pilots.control.theta[level])
            parts = self._term(level, self._numbers(count), factor * above[level], theta)
            losses[:, level] = parts
            gap = parts[0] - (theta * parts[1] if theta else 0.0)
            loss += count * factor * above[level] * gap
            cells += count * self.sampler.cells_drawn(self._levels(level, theta))
        self._check_finite()
        self._repeats.finish()
        self.steps += 1
        work = float(np.sum(np.asarray(allotment.counts) * pilots.term_costs * (above != 0)))
        fine, coarse = (tuple(float(v) for v in row) for row in losses)
        return Step(float(loss), fine, coarse, allotment, work, pilot_work, cells)

    def _term(self, level: int, numbers: range, factor: float, theta: float) -> tuple[float, float]:
        """Add a term's gradients; gives its mean losses."""
        total = np.zeros(2)
        levels = self._levels(level, theta)
        most = pass_size(self.microbatch, len(self.hierarchy) - 1 - level, self.hierarchy.dim)
        for part in split(numbers, most):
            batches = self.sampler.draw(part, levels)
            self._repeats.see(level, [x for x, _ in batches])
            for role, (at, batch) in enumerate(zip(levels, batches, strict=True)):
                weight = len(part) * factor * (1.0 if role == 0 else -theta)
                value = self.evaluator.backward(at, batch, weight, part.start)
                total[role] += value * len(part) / len(numbers)
        return float(total[0]), float(total[1]) if len(levels) > 1 else float("nan")

    def _check_finite(self) -> None:
        for name, parameter in self.evaluator.parameters.items():
            if parameter.grad is None:
                continue
            if not bool(torch.isfinite(parameter.grad.to_dense()).all()):
                raise InputError(
                    f"`module` must have finite gradients; got NaN or infinity for {name}"
                )

    @staticmethod
    def _levels(level: int, theta: float) -> tuple[int, ...]:
        return (level, level - 1) if level and theta else (level,)

    def _numbers(self, count: int) -> range:
        """Take the next samples."""
        numbers = range(self._next, self._next + count)
        self._next = numbers.stop
        return numbers

    def measure(self, samples: int) -> Moments:
        """Moments of the terms from new samples; neither ``.grad`` nor the module changes.

        Parameters
        ----------
        samples : int
            Samples of each term, at least 2.

        Raises
        ------
        InputError
            If a pass fails or the samples run out, with the level.
        """
        check_whole("samples", samples, 2)
        sums = [MomentSums() for _ in self.hierarchy.sizes]
        for level, found in enumerate(sums):
            for number in self._numbers(samples):
                levels = (level, level - 1) if level else (level,)
                batches = self.sampler.draw([number], levels)
                vectors = [
                    self._vector(at, batch, number)
                    for at, batch in zip(levels, batches, strict=True)
                ]
                found.add(vectors[0], vectors[1] if level else None)
        return moments_of(sums)

    def _vector(self, level: int, batch: Any, key: int) -> np.ndarray:
        found = self.evaluator.gradient(level, batch, key)
        return np.asarray(torch.cat(list(found.values())).double().cpu().numpy())

    def predicted_variance(self) -> float:
        """Variance of an estimate (trace of its covariance), from the moments at hand.

        Raises
        ------
        InputError
            If there are no moments: `moments` was not given and no pilot has run.
        """
        return self.pilots.predicted_variance()

    def telescoping_error(self, samples: int = 4) -> float:
        """How far the sum over levels is from the finest gradient, if all terms share samples.

        Rounding, if a level's data are the same as the fine and as the coarse of a term. It is
        not, where noise is drawn by level: there only expectations can telescope.

        Parameters
        ----------
        samples : int
            Samples that all terms share.

        Returns
        -------
        float
            Norm of the difference over the norm of the finest gradient.
        """
        check_whole("samples", samples, 1)
        if self.sampler.sequential:
            raise InputError(
                "`sampler` must give a sample again for terms to share it; got one that is "
                "sequential"
            )
        numbers = self._numbers(samples)
        theta = self.pilots.control.theta
        above = levels_above(theta)
        total: Any = 0.0
        for level in range(len(self.hierarchy)):
            levels = self._levels(level, float(theta[level]))
            batches = self.sampler.draw(numbers, levels)
            for role, (at, batch) in enumerate(zip(levels, batches, strict=True)):
                weight = above[level] * (1.0 if role == 0 else -theta[level])
                total = total + weight * self._vector(at, batch, numbers.start)
        finest = len(self.hierarchy) - 1
        (batch,) = self.sampler.draw(numbers, (finest,))
        reference = self._vector(finest, batch, numbers.start)
        return float(np.linalg.norm(total - reference) / np.linalg.norm(reference))

    def state_dict(self) -> dict[str, Any]:
        """Everything that later estimates depend on beside the module, as plain values."""
        return {"steps": self.steps, "next": self._next, **self.pilots.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next estimates are those that would have come.

        A data loader cannot be set back; its samples go on from where it is.
        """
        try:
            steps, following = int(state["steps"]), int(state["next"])
            self.pilots.load_state_dict(state)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"`state` must be what state_dict gave; got {shortened(state)}"
            ) from error
        self.steps, self._next = steps, following
