"""The steps of a training run, and all that they depend on, kept so that they can go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradconv.errors import InputError, RunError, StorageError
from gradconv.multilevel.costs.counting import LevelCost
from gradconv.multilevel.costs.model import CostModel, step_work
from gradconv.multilevel.costs.plan import Term
from gradconv.nn.evaluation import mean_square
from gradconv.provenance import configuration_hash
from gradconv.train.checkpoints import Checkpoints, check_configuration
from gradconv.train.configuration import TrainingConfig
from gradconv.train.engine import Engine
from gradconv.train.gradient import Ahead, StepGradient, StepLosses
from gradconv.train.interruption import Interruption
from gradconv.train.making import Data, sampler_of, work_units
from gradconv.train.optimisers import make_optimiser, make_schedule
from gradconv.train.recording import Recorder
from gradconv.train.result import Totals
from gradconv.train.states import (
    flatten_state,
    load_optimiser,
    random_states,
    restore_random_states,
    unflatten_state,
)
from gradconv.train.strategies import STRATEGIES, Leg

Progress = Callable[[float, float, str], None]


@dataclass
class LoopState:
    """Where a run is.

    Parameters
    ----------
    totals : Totals
        What it has taken.
    leg, in_leg : int
        Leg, and steps of it that are done.
    following : int
        Number of the next sample.
    losses : list of float
        Training losses of this leg.
    begun : Totals
        What the run had taken when the leg began.
    finished : list of dict
        Of each leg that is done: what it took and came to.
    """

    totals: Totals = field(default_factory=Totals)
    leg: int = 0
    in_leg: int = 0
    following: int = 0
    losses: list[float] = field(default_factory=list)
    begun: Totals = field(default_factory=Totals)
    finished: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, record: dict[str, Any]) -> LoopState:
        """Make it again from what `asdict` gave."""
        totals, begun = Totals(**record["totals"]), Totals(**record["begun"])
        return cls(**{**record, "totals": totals, "begun": begun})


class Loop:
    """Runs the legs of a plan, one step after the other.

    Parameters
    ----------
    module : Module
        On its device.
    data, engine, config
        Of the run.
    folder : Path or None
        Where checkpoints and logs go.
    """

    def __init__(
        self,
        module: nn.Module,
        data: Data,
        engine: Engine,
        config: TrainingConfig,
        folder: Path | None,
    ) -> None:
        self.module, self.data, self.engine, self.config = module, data, engine, config
        self.state = LoopState()
        self._kept_notes: list[str] = []
        self.legs: tuple[Leg, ...] = ()
        self.flops: tuple[float, ...] = ()
        self.peak_bytes = 0.0
        self._base = data.sampler()
        self._checkpoints = None if folder is None else Checkpoints(folder / "checkpoints")
        self._recorder = Recorder(module, data, engine, folder)
        self.optimiser = make_optimiser(
            config.optimiser,
            [p for p in module.parameters() if p.requires_grad],
            config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )

    @property
    def notes(self) -> list[str]:
        """What the reader has to know."""
        own = [] if self._checkpoints is None else self._checkpoints.notes
        return [*self._kept_notes, *own, *self._recorder.notes]

    def start(
        self,
        legs: Sequence[Leg],
        costs: Sequence[LevelCost],
        peak_bytes: float,
        notes: Sequence[str] = (),
    ) -> None:
        """Begin a plan.

        Parameters
        ----------
        legs : sequence of Leg
            The plan.
        costs : sequence of LevelCost
            Of one sample's gradient on each level.
        peak_bytes : float
            Memory of the largest pass.
        notes : sequence of str
            What the reader has to know, kept with the run.
        """
        self._kept_notes = list(notes)
        self.legs, self.peak_bytes = tuple(legs), peak_bytes
        self.flops = tuple(c.flops for c in costs)
        shortest = min(leg.steps for leg in self.legs)
        if self.config.restarts and self.config.warmup >= shortest:
            raise InputError(
                f"`warmup` must be less than the {shortest} steps of the shortest leg, since it "
                f"begins anew with each (`restarts`); got {self.config.warmup}"
            )
        self._make_schedule()
        if self._recorder.log is not None:
            self._recorder.log.rewind(0)

    def _make_schedule(self) -> None:
        config = self.config
        here = min(self.state.leg, len(self.legs) - 1)  # a run that is over stays at its last leg
        legs = (self.legs[here],) if config.restarts else self.legs
        steps = sum(leg.steps for leg in legs)
        for group in self.optimiser.param_groups:
            group.pop("initial_lr", None)  # of the schedule of the leg before
            group["lr"] = config.lr
        self.schedule = make_schedule(
            config.schedule, self.optimiser, config.lr, steps, config.warmup
        )

    # -- keeping and going on -------------------------------------------------------------------

    def restored(self) -> int | None:
        """Go back to the last checkpoint; gives its step, or None if there is none.

        Raises
        ------
        InputError
            If it is of another configuration, or all there are are damaged.
        """
        if self._checkpoints is None:
            return None
        found = self._checkpoints.latest()
        if found is None:
            return None
        step, tensors, state = found
        check_configuration(state, self.config.identity())
        plan = STRATEGIES.parse(self.config.strategy).legs(self.config.plan_schedule)
        self.legs = tuple(
            replace(leg, steps=n) for leg, n in zip(plan, state["steps_of_legs"], strict=True)
        )
        self.flops, self.peak_bytes = tuple(state["flops"]), state["peak_bytes"]
        self._kept_notes = state["notes"]
        self._load_weights(_part(tensors, "model."))
        self.state = LoopState.of(state["loop"])
        self._make_schedule()
        load_optimiser(
            self.optimiser, unflatten_state(_part(tensors, "optimiser."), state["optimiser"])
        )
        self.schedule.load_state_dict(
            unflatten_state(_part(tensors, "schedule."), state["schedule"])
        )
        restore_random_states(_part(tensors, "random."), state["random"])
        if self._recorder.log is not None:
            self._recorder.log.rewind(step)
        return step

    def _load_weights(self, tensors: dict[str, Tensor]) -> None:
        try:
            self.module.load_state_dict(tensors)
        except RuntimeError as error:  # a caller's own module, of which the configuration is a name
            first = " ".join(str(error).splitlines()[1:2]).strip()
            raise InputError(
                f"`module` must be that of the checkpoint; got {self.config.network}: {first}"
            ) from None

    def save(self) -> None:
        """Write a checkpoint."""
        if self._checkpoints is None or not self.engine.leads:
            return
        tensors: dict[str, Tensor] = {
            f"model.{name}": t for name, t in self.module.state_dict().items()
        }
        state: dict[str, Any] = {
            "configuration": self.config.identity(),
            "configuration_hash": configuration_hash(self.config.identity()),
            "steps_of_legs": [leg.steps for leg in self.legs],
            "flops": list(self.flops),
            "peak_bytes": self.peak_bytes,
            "notes": self._kept_notes,
            "loop": asdict(self.state),
        }
        for name, value in (
            ("optimiser", flatten_state(self.optimiser.state_dict())),
            ("schedule", flatten_state(self.schedule.state_dict())),
            ("random", random_states()),
        ):
            tensors |= {f"{name}.{key}": t for key, t in value[0].items()}
            state[name] = value[1]
        if self._recorder.log is not None:
            self._recorder.log.flush()
        self._checkpoints.save(self.state.totals.steps, tensors, state)

    # -- the steps ------------------------------------------------------------------------------

    def run(self, progress: Progress | None = None) -> None:
        """Take all steps that are left.

        Parameters
        ----------
        progress : callable, optional
            Told of steps done, steps in all and the cost so far.

        Raises
        ------
        RunError
            If the loss or the gradient is not finite, or memory runs out.
        KeyboardInterrupt
            If a stop was asked for; a checkpoint has been written.
        """
        with Interruption() as interruption, self._telling_what_is_kept():
            try:
                while self.state.leg < len(self.legs):
                    self._run_leg(self.legs[self.state.leg], interruption, progress)
            finally:
                if self._recorder.log is not None:
                    self._recorder.log.close()

    def _run_leg(self, leg: Leg, interruption: Interruption, progress: Progress | None) -> None:
        ahead = Ahead(self._gradient(leg), self._prefetches)
        try:
            for _ in self._steps(leg, ahead, progress):
                # one that left alone would let the others wait for it in their next sum
                if self.engine.any(interruption.asked):
                    self.save()
                    raise KeyboardInterrupt
        finally:
            ahead.close()
        self._finish_leg(leg)

    @property
    def _prefetches(self) -> bool:
        if self.config.prefetch is None:
            return self.engine.device.type == "cuda"
        return self.config.prefetch

    def _gradient(self, leg: Leg) -> StepGradient:
        sampler = sampler_of(leg, self._base, self.config.seed)
        return StepGradient(self.module, mean_square, sampler, self.engine, self.config.microbatch)

    def _steps(self, leg: Leg, ahead: Ahead, progress: Progress | None) -> Iterator[None]:
        state, config = self.state, self.config
        units = work_units(self.data.config.hierarchy)
        work, flops = (
            config.accumulation * step_work(leg.stage, costs)
            for costs in (units, CostModel(self.flops, "FLOPs"))
        )
        samples = sum(term.samples for term in leg.terms)
        total = sum(one.steps for one in self.legs)
        before = sum(one.steps for one in self.legs[: state.leg])
        while state.in_leg < leg.steps and not self._stalled(leg):
            start = time.perf_counter()
            losses, norm, lr = self._step(leg, ahead, samples)
            state.totals.seconds += time.perf_counter() - start
            state.totals.steps += 1
            state.totals.samples += samples * config.accumulation
            state.totals.work += work
            state.totals.flops += flops
            state.in_leg += 1
            if leg.stopping is not None:
                state.losses.append(losses.loss)
            self._recorder.step(leg, state.leg, state.totals, losses, norm, lr)
            due = state.in_leg < leg.steps and self._recorder.validation_due(state.totals)
            if due and not self._stalled(leg):  # the end of a leg has a validation of its own
                self._recorder.validate(state.leg, state.totals)
            if progress is not None:
                progress(before + state.in_leg, total, self._cost_so_far(losses.loss))
            if state.totals.steps % config.checkpoint_every == 0:
                self.save()
            yield

    def _stalled(self, leg: Leg) -> bool:
        return leg.stopping is not None and leg.stopping.stalled(self.state.losses)

    def _step(self, leg: Leg, ahead: Ahead, samples: int) -> tuple[StepLosses, float, float]:
        """One step of the optimiser; gives its losses, the gradient's norm, the learning rate."""
        config, state = self.config, self.state
        self.module.train()
        self.optimiser.zero_grad(set_to_none=True)
        lr = float(self.optimiser.param_groups[0]["lr"])
        last = state.in_leg + 1 == leg.steps
        losses = ahead.gradient.add(
            self._draws(leg.terms, ahead, samples, last), config.accumulation
        )
        norm = float(
            nn.utils.clip_grad_norm_(
                ahead.gradient.parameters, math.inf if config.clip is None else config.clip
            )
        )
        for name, value in (("loss", losses.loss), ("gradient", norm)):
            if not math.isfinite(value):
                raise RunError(
                    f"the {name} must be finite; got {value} at step {state.totals.steps + 1} on "
                    f"level {leg.stage.finest} (a smaller `lr` or a `clip` may help)"
                )
        self.optimiser.step()
        self.schedule.step()
        return losses, norm, lr

    def _draws(
        self, terms: tuple[Term, ...], ahead: Ahead, samples: int, last: bool
    ) -> Iterator[Any]:
        for turn in range(self.config.accumulation):
            first = self.state.following
            self.state.following += samples
            ends = last and turn + 1 == self.config.accumulation
            yield ahead.take(terms, first, None if ends else (terms, first + samples))

    def _finish_leg(self, leg: Leg) -> None:
        """Validate, write down what the leg came to, and turn to the next."""
        state = self.state
        scores = self._recorder.validate(state.leg, state.totals)
        taken = {
            name: value - asdict(state.begun)[name] for name, value in asdict(state.totals).items()
        }
        state.finished.append(
            {"leg": state.leg, "finest": leg.stage.finest, **taken, "validation": scores}
        )
        state.leg, state.in_leg, state.losses = state.leg + 1, 0, []
        state.begun = replace(state.totals)
        if self.config.restarts and state.leg < len(self.legs):
            self._make_schedule()
        self.save()

    def _cost_so_far(self, loss: float) -> str:
        totals, name = self.state.totals, self.legs[self.state.leg].stage.finest
        cells = self.data.config.hierarchy.sizes[name]
        return f"{cells}²  loss {loss:.3g}  {totals.work:.4g} work units"

    @contextmanager
    def _telling_what_is_kept(self) -> Iterator[None]:
        try:
            yield
        except RunError as error:
            raise RunError(f"{error}; {self._kept()}") from error
        except StorageError as error:
            raise StorageError(f"{error}; {self._kept()}") from error
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            text = str(error)
            scarce = any(words in text.lower() for words in ("out of memory", "allocate memory"))
            if isinstance(error, RuntimeError) and not scarce:
                raise
            first = (text.splitlines() or ["out of memory"])[0][:160]
            raise RunError(
                f"`microbatch` must let every pass fit into memory (with another one the run "
                f"begins anew); {first}; {self._kept()}"
            ) from error

    def _kept(self) -> str:
        return (
            "no checkpoint was written" if self._checkpoints is None else self._checkpoints.kept()
        )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
