"""The main job: gradients of a problem on every level of a hierarchy, and their rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.backend import Backend
from gradconv.errors import check_confidence, unknown_name
from gradconv.gradient import has_expectation, scaled_expectation
from gradconv.mesh import MeshHierarchy
from gradconv.parallel import check_workers
from gradconv.problem import QUANTITIES, Problem, mesh_sizes
from gradconv.rates import Rate
from gradconv.sampling import (
    Checkpoint,
    Progress,
    SamplingPlan,
    parameter_names,
    plan_sampling,
    sample_gradients,
)
from gradconv.statistics import (
    DISAGREEMENT,
    GradientSample,
    check_levels,
)

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Sweep:
    """Gradients of one problem over a hierarchy and what follows from them.

    Parameters
    ----------
    problem : Problem
        The problem.
    hierarchy : MeshHierarchy
        The levels.
    seed : int
        Seed of all streams.
    backend : Backend
        Device and precision of the sampled gradients.
    sample : GradientSample
        The scaled gradients.
    confidence : float
        Level of the intervals.
    notes : tuple of str
        What is worth knowing before the results are read, each one line.
    """

    problem: Problem
    hierarchy: MeshHierarchy
    seed: int
    backend: Backend
    sample: GradientSample
    confidence: float = 0.95
    notes: tuple[str, ...] = field(default=())

    def rate(self, quantity: str) -> Rate:
        """Signed order, interval, window and verdict of a quantity.

        Parameters
        ----------
        quantity : {"level_norm", "mean_gap", "rms_gap", "variance"}
            What to fit.

        Raises
        ------
        InputError
            If there is no such quantity.
        """
        if quantity not in QUANTITIES:
            raise unknown_name("quantity", quantity, QUANTITIES)
        return self.rates[quantity]

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """The rate of every quantity."""
        h = self.hierarchy.h
        return {q: self.sample.rate(h, q, self.confidence, self.seed) for q in QUANTITIES}

    def mesh_sizes(self, quantity: str) -> np.ndarray:
        """Mesh size of each value of a quantity: gaps belong to the finer of their two levels."""
        return mesh_sizes(quantity, self.hierarchy.h)

    @cached_property
    def data(self) -> xr.Dataset:
        """Labelled results: gradients of each path and the quantities with standard errors.

        Dimensions ``replicate``, ``level`` and ``parameter``; gaps of level 0 are NaN.
        """
        import xarray as xr

        unit = {"units": "loss per scaled parameter"}
        levels = len(self.hierarchy)
        variables: dict[str, Any] = {
            "gradient": (
                ("replicate", "level", "parameter"),
                self.sample.gradients,
                {"long_name": "scaled parameter gradient of each sample path", **unit},
            ),
        }
        if self.sample.expected is not None:
            variables["expected_gradient"] = (
                ("level", "parameter"),
                self.sample.expected,
                {"long_name": "exact mean of the gradient", **unit},
            )
        series = {q: self.sample.series(q) for q in QUANTITIES}
        series["cosine"] = self.sample.cosine()
        for name, (values, errors) in series.items():
            pad = (levels - len(values), 0)
            units = {"variance": "(loss per scaled parameter)^2", "cosine": "1"}
            label = {"long_name": LONG_NAMES[name], "units": units.get(name, unit["units"])}
            for suffix, array in (("", values), ("_stderr", errors)):
                padded = np.pad(np.asarray(array, dtype=float), pad, constant_values=np.nan)
                attributes = dict(label)
                if suffix:
                    attributes["long_name"] = f"standard error of {label['long_name']}"
                variables[name + suffix] = ("level", padded, attributes)
        return xr.Dataset(
            variables,
            coords={
                "level": ("level", np.arange(levels), {"long_name": "level, 0 is the coarsest"}),
                "h": ("level", self.hierarchy.h, {"long_name": "mesh size", "units": "box"}),
                "n": ("level", np.array(self.hierarchy.sizes), {"long_name": "cells an axis"}),
                "replicate": ("replicate", np.arange(self.sample.replicates)),
                "parameter": ("parameter", parameter_names(self.problem)),
            },
            attrs={
                **self.problem.describe(),
                "seed": self.seed,
                "dtype": self.backend.dtype,
                "device": self.backend.device,
                "notes": "; ".join(self.notes),
            },
        )


LONG_NAMES = {
    "level_norm": "norm of the mean gradient",
    "mean_gap": "norm of the mean gap between a level and the next coarser one",
    "rms_gap": "root mean square gap between a level and the next coarser one",
    "variance": "variance of the gap",
    "cosine": "cosine of the mean gradient to the finest level's",
}


def sweep(
    problem: Problem,
    hierarchy: MeshHierarchy,
    *,
    replicates: int = 64,
    seed: int = 0,
    dtype: str = "float64",
    device: str = "cpu",
    memory: float = 4.0,
    threads: int = 1,
    workers: int = 1,
    scheduler: str | None = None,
    confidence: float = 0.95,
    progress: Progress | None = None,
    done: np.ndarray | None = None,
    checkpoint: Checkpoint | None = None,
) -> Sweep:
    """Sweep a problem over the levels of a hierarchy.

    Parameters
    ----------
    problem : Problem
        The problem.
    hierarchy : MeshHierarchy
        At least 4 levels.
    replicates : int
        Sample paths, at least 2 (a deterministic problem has just one).
    seed : int
        Not negative. The same seed gives the same bits on the CPU for any `memory`, `threads`,
        `workers` and `scheduler`; more replicates or coarser levels leave those already there
        unchanged, and so do finer levels in the refinement setting.
    dtype : {"float64", "float32"}
        Precision of the sampled gradients; expectations are always float64.
    device : str
        ``"cpu"`` or a torch device.
    memory : float
        Bound on what the sweep, or each of its workers, holds at once, in GiB.
    threads : int
        Worker threads.
    workers : int
        Processes on this machine that share the sample paths; see `gradconv.parallel.compute`.
    scheduler : str, optional
        Address of a Dask scheduler whose workers share the sample paths.
    confidence : float
        Level of the intervals.
    progress : callable, optional
        Called with (replicates done, replicates).
    done : ndarray, optional
        Gradients of the first replicates from an earlier, interrupted call.
    checkpoint : callable, optional
        Called with the gradients of the first replicates each time more of them are done.

    Returns
    -------
    Sweep
        The results; ``.data`` is an `xarray.Dataset`, ``.rate(quantity)`` a `Rate`.

    Raises
    ------
    InputError
        Before any work, if an argument breaks a rule; later, if workers cannot be had or kept.

    Examples
    --------
    >>> from gradconv import MeshHierarchy, Problem, sweep
    >>> problem = Problem(
    ...     "stencil", signal="band-limited:3", noise="white:0.1", setting="refinement", dim=1
    ... )
    >>> result = sweep(problem, MeshHierarchy.powers_of_two(1, 6, 11), replicates=8)
    >>> rate = result.rate("mean_gap")
    >>> f"{rate.order:.2f} {rate.verdict}"
    '-1.00 diverges'
    """
    check_workers(workers, scheduler, threads)
    plan = check_sweep(
        problem,
        hierarchy,
        replicates=replicates,
        seed=seed,
        dtype=dtype,
        device=device,
        memory=memory,
        threads=threads,
        confidence=confidence,
    )
    with _single_threaded_blas():
        gradients = sample_gradients(
            problem,
            hierarchy,
            plan,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
            done=done,
            checkpoint=checkpoint,
        )
    return sweep_from(gradients, problem, hierarchy, plan, confidence)


def sweep_from(
    gradients: np.ndarray,
    problem: Problem,
    hierarchy: MeshHierarchy,
    plan: SamplingPlan,
    confidence: float,
) -> Sweep:
    """Make a sweep of the gradients of all its sample paths.

    Parameters
    ----------
    gradients : ndarray
        Shape ``(replicates, levels, parameters)``.
    problem, hierarchy, plan, confidence
        As they were sampled.
    """
    with _single_threaded_blas():
        expected, magnitude = _expectation(problem, hierarchy, plan.seed, gradients)
    epsilon = plan.backend.epsilon
    sample = GradientSample(gradients, expected, magnitude, float(epsilon))
    notes = _notes(problem, hierarchy, sample)
    return Sweep(problem, hierarchy, plan.seed, plan.backend, sample, confidence, notes)


def check_sweep(
    problem: Problem,
    hierarchy: MeshHierarchy,
    *,
    replicates: int,
    seed: int,
    dtype: str,
    device: str,
    memory: float,
    threads: int,
    confidence: float,
) -> SamplingPlan:
    """Check all arguments of `sweep` before any work, and plan its batches.

    Raises
    ------
    InputError
        If an argument breaks a rule.
    """
    check_confidence(confidence)
    check_levels(len(hierarchy))
    problem.check(hierarchy)
    plan = plan_sampling(
        problem,
        hierarchy,
        replicates=replicates,
        seed=seed,
        dtype=dtype,
        device=device,
        memory=memory,
        threads=threads,
    )
    problem.check_values(hierarchy)  # draws the signal: only once it is known to fit
    return plan


def _single_threaded_blas() -> Any:
    # a threaded matrix product may sum in another order: the bits would depend on the machine
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _expectation(
    problem: Problem, hierarchy: MeshHierarchy, seed: int, gradients: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    if has_expectation(problem):
        return scaled_expectation(problem, hierarchy, seed)
    # no bound on the terms without the expectation: the largest gradient stands in for it
    return None, np.linalg.norm(gradients, axis=-1).max(axis=0)


def _notes(problem: Problem, hierarchy: MeshHierarchy, sample: GradientSample) -> tuple[str, ...]:
    notes = []
    coarse = [n for n in hierarchy.sizes if problem.convolution.unresolved(1.0 / n)]
    if coarse:
        why = problem.convolution.unresolved(1.0 / coarse[0])
        notes.append(f"not resolved up to n={coarse[-1]}: {why}")
    if not problem.restriction.shift_invariant:
        name = problem.restriction.name
        notes.append(f"{name} depends on the position: no power law is to be expected")
    if problem.setting == "coarsening" and not problem.signal.refinable:
        notes.append("an image has no limit h -> 0: orders are slopes over its own levels")
    if problem.deterministic:
        notes.append("nothing is random: one path serves, and the variance is zero")
    chance = sample.disagreement()
    if chance < DISAGREEMENT:
        notes.append(f"sampled and exact mean gradients disagree (p = {chance:.1e})")
    return tuple(notes)
