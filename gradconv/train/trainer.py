"""Training: a task, a network and a strategy, from the plan to the result."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradconv.errors import InputError, shortened
from gradconv.multilevel.costs.counting import LevelCost
from gradconv.multilevel.costs.model import CostModel, step_work
from gradconv.nn import UnresolvedKernelWarning
from gradconv.nn.random_state import preserved_random_state, start_random_state
from gradconv.nn.timing import torch_threads
from gradconv.provenance import provenance
from gradconv.store import ResultFolder, write_atomically
from gradconv.train.budget import Budget, fit_to_budget
from gradconv.train.configuration import TrainingConfig
from gradconv.train.engine import Engine
from gradconv.train.forecast import forecast
from gradconv.train.gradient import merges
from gradconv.train.loop import Loop, Progress
from gradconv.train.making import (
    Data,
    costs_of,
    describe_network,
    make_network,
    unresolved_kernels,
    work_units,
)
from gradconv.train.memory import available_bytes, check_memory
from gradconv.train.result import SCHEMA, TrainingResult, as_record
from gradconv.train.scoring import degraded_scores, score
from gradconv.train.strategies import STRATEGIES, Leg, Strategy
from gradconv.train.tasks import TASKS, Task
from gradconv.train.timing import seconds_of_legs

RESULT = "result.json"


class Trainer:
    """Trains a network for a task by a strategy.

    Parameters
    ----------
    task : str or Task
        "denoise", "deblur", "inpaint", "superres", with parameters as in ``"denoise:0.2"``.
    module : str or Module
        "resnet", "unet" or "espcn"; or a module that maps ``(B, task.inputs(C), *n)`` to
        ``(B, C, *(task.factor n))`` on every level's mesh. It is trained in place.
    strategy : str or Strategy
        "single", "multiscale", "full-multiscale", "progressive", "random-crops", "multigrid".
    **options
        Fields of `TrainingConfig`: ``size=64``, ``levels=4``, ``steps=200``, …

    Raises
    ------
    InputError
        If a choice breaks a rule, data are missing or corrupt, a GPU is asked for and absent, the
        module does not run on a level, or a pass does not fit into memory.

    Examples
    --------
    >>> from gradconv.train import Trainer
    >>> trainer = Trainer(
    ...     "denoise:0.2",
    ...     "resnet",
    ...     "full-multiscale",
    ...     size=16,
    ...     levels=2,
    ...     width=4,
    ...     layers=2,
    ...     counts=(4, 2),
    ...     steps=4,
    ... )
    >>> trainer.forecast()["totals"]["work"]
    11.0
    >>> result = trainer.fit()
    >>> result.totals.steps
    6
    """

    def __init__(
        self,
        task: str | Task,
        module: str | nn.Module,
        strategy: str | Strategy = "single",
        **options: Any,
    ) -> None:
        if not isinstance(module, (str, nn.Module)):
            raise InputError(
                f"`module` must be a name or a torch.nn.Module; got {shortened(module)}"
            )
        own = None if isinstance(module, str) else module
        options["network"] = module if own is None else f"{type(own).__name__} of the caller"
        options["task"] = TASKS.parse(task).spec
        options["strategy"] = STRATEGIES.parse(strategy).spec
        self._prepare(TrainingConfig(**options), own)

    @classmethod
    def from_config(cls, config: TrainingConfig) -> Trainer:
        """Make the trainer of a configuration."""
        trainer = cls.__new__(cls)
        trainer._prepare(config, None)
        return trainer

    def _prepare(self, config: TrainingConfig, module: nn.Module | None) -> None:
        self.config = config
        self.notes: list[str] = []
        self.engine = Engine(config.device, config.precision, config.processes, config.nodes)
        made = make_network(config) if module is None else module
        self._check_processes(made)
        self.engine.launch()
        self.data = Data(config)
        self.task, self.hierarchy = config.made_task, config.hierarchy
        self.module = made.to(self.engine.device, self.engine.dtype)
        if module is not None and self.engine.world > 1:
            self._share_weights()
        self._costs: tuple[LevelCost, ...] | None = None
        self._legs: tuple[Leg, ...] | None = None

    def _check_processes(self, module: nn.Module) -> None:
        if self.engine.world > 1 and not merges(module):
            raise InputError(
                "`processes` must be 1 with batch normalisation, whose statistics would be those "
                f"of each process's own samples; got {self.engine.world}"
            )

    @torch.no_grad()
    def _share_weights(self) -> None:
        """Give every process the leading one's: each made the module of random numbers of its own.

        Named networks are those of the seed.
        """
        tensors = [*self.module.parameters(), *self.module.buffers()]
        for tensor, value in zip(
            tensors, self.engine.agreed([t.cpu() for t in tensors]), strict=True
        ):
            tensor.copy_(value)

    @property
    def costs(self) -> tuple[LevelCost, ...]:
        """Operations and memory of one sample's gradient on each level."""
        if self._costs is None:
            engine = self.engine
            sampler = self.data.sampler()
            with unresolved_kernels(self.notes):
                self._costs = costs_of(self.module, sampler, engine.device, engine.dtype)
        return self._costs

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The strategy's legs, scaled to the budget if there is one."""
        if self._legs is None:
            strategy = STRATEGIES.parse(self.config.strategy)
            legs = strategy.legs(self.config.plan_schedule)
            if self.config.budget is not None:
                budget = Budget.parse(self.config.budget)
                price = self._step_costs(legs, budget.unit)
                legs = fit_to_budget(legs, price, budget.amount)
            self._legs = legs
        return self._legs

    def _step_costs(self, legs: tuple[Leg, ...], unit: str) -> list[float]:
        """Cost of one step of each leg, in the unit of the budget."""
        if unit == "seconds":
            return list(self.engine.agreed(self._seconds(legs)))
        costs = work_units(self.hierarchy)
        if unit == "flops":
            costs = CostModel(tuple(c.flops for c in self.costs), "FLOPs")
        return [self.config.accumulation * step_work(leg.stage, costs) for leg in legs]

    def _seconds(self, legs: tuple[Leg, ...]) -> list[float]:
        """Seconds of a step of each leg, with the run's threads."""
        with torch_threads(self.config.threads):
            return seconds_of_legs(self.module, legs, self.data, self.engine, self.config)

    def forecast(self, seconds: bool = False) -> dict[str, Any]:
        """What the plan is expected to cost, as JSON values; nothing is trained.

        Beside it is what ``strategy="single"`` costs with the same choices, without a budget.

        Parameters
        ----------
        seconds : bool
            Whether a step of each leg is timed.
        """
        timed = self._seconds(self.legs) if seconds else None
        return forecast(
            self.config.strategy,
            self.legs,
            self.hierarchy,
            self.costs,
            step_seconds=timed,
            microbatch=self.config.microbatch,
            drawn="level" if self.data.sampler().level_noise else "finest",
            accumulation=self.config.accumulation,
            merged=merges(self.module),
            processes=self.engine.world,
            alone=STRATEGIES.parse("single").legs(self.config.plan_schedule)[0],
        )

    def fit(
        self, folder: Path | str | None = None, progress: Progress | None = None
    ) -> TrainingResult:
        """Train, or go on from the last checkpoint of a folder.

        Parameters
        ----------
        folder : path, optional
            Keeps configuration, checkpoints, logs and the result. An interrupted run goes on from
            there, and on a CPU ends with the bits of an uninterrupted one.
        progress : callable, optional
            Told of steps done, steps in all, and the cost so far in words.

        Raises
        ------
        InputError
            If the folder holds another configuration or a damaged checkpoint, or passes do not fit.
        RunError
            If the loss or the gradient is not finite, or memory runs out; what is kept is named.
        StorageError
            If a checkpoint cannot be written; the last good one is named.
        """
        path = None if folder is None else Path(folder)
        identity = self.config.identity()
        store = None
        if path is not None:  # images that have changed since are another run
            images = self.data.source.fingerprint()
            store = ResultFolder(path, {**identity, "images": images})
        device = str(self.engine.device)
        with (
            torch_threads(self.config.threads),
            preserved_random_state(device),
            warnings.catch_warnings(),
        ):
            start_random_state(self.config.seed)
            warnings.simplefilter("ignore", UnresolvedKernelWarning)  # there is a note of them
            loop = Loop(self.module, self.data, self.engine, self.config, path)
            peak = self._check_memory()
            if loop.restored() is None:
                loop.start(self.legs, self.costs, peak, self.notes)
            if store is not None and self.engine.leads:
                store.open()
            loop.run(progress)
            result = self._result(loop, identity)
        if path is not None and self.engine.leads:
            text = json.dumps(result.document, indent=1, allow_nan=False) + "\n"
            write_atomically(path / RESULT, text.encode())
        return result

    def _check_memory(self) -> float:
        """Refuse passes that do not fit here; a run that goes on may do so on a smaller machine."""
        engine, config = self.engine, self.config
        plan = STRATEGIES.parse(config.strategy).legs(config.plan_schedule)  # whatever the budget
        return check_memory(
            plan,
            self.costs,
            self.hierarchy.dim,
            config.microbatch,
            merges(self.module),
            available_bytes(engine.device, config.memory, engine.local),
            engine.world,
        )

    def _result(self, loop: Loop, identity: dict[str, Any]) -> TrainingResult:
        pairs = self.data.pairs("test")
        test, degraded = score(self.module, pairs, self.engine), degraded_scores(pairs)
        state = loop.state
        notes = list(loop.notes)
        document = {
            "schema": SCHEMA,
            "configuration": identity,
            **describe_network(self.module, self.config),
            "levels": list(self.hierarchy.sizes),
            "test": as_record(test),
            "test_tiles": len(pairs.y),
            "degraded": as_record(degraded),
            "totals": as_record(state.totals),
            "legs": state.finished,
            "peak_bytes": loop.peak_bytes,
            "data_fingerprint": self.data.source.fingerprint(),
            "processes": self.engine.world,
            "threads": torch.get_num_threads(),
            "notes": notes,
            "provenance": provenance(
                identity, self.config.seed, str(self.engine.device), self.config.precision
            ),
        }
        return TrainingResult(
            self.module,
            test,
            degraded,
            state.totals,
            state.finished,
            loop.peak_bytes,
            document,
            notes,
        )
