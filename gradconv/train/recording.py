"""What a run writes down as it goes: steps, terms, their moments, validations."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from torch import nn

from gradconv.errors import InputError, RunError
from gradconv.multilevel import MultilevelGradient
from gradconv.multilevel.moments import Moments
from gradconv.nn.evaluation import mean_square
from gradconv.train.engine import Engine
from gradconv.train.gradient import StepLosses
from gradconv.train.logs import RunLog
from gradconv.train.making import MOMENTS, Data, Pairs
from gradconv.train.result import Scores, Totals, as_record
from gradconv.train.scoring import score
from gradconv.train.strategies import Leg


class Recorder:
    """Rows of a run's logs, and what has to be measured for them.

    Nothing that it measures changes the run: samples of its own, buffers and gradients kept.

    Parameters
    ----------
    module : Module
        The network.
    data, engine
        Of the run.
    folder : Path or None
        Where the logs go; the leading process writes them.
    """

    def __init__(self, module: nn.Module, data: Data, engine: Engine, folder: Path | None) -> None:
        self.module, self.data, self.engine, self.config = module, data, engine, data.config
        self.log = RunLog(folder) if folder is not None and engine.leads else None

    @property
    def notes(self) -> list[str]:
        """What the reader has to know."""
        return [] if self.log is None else self.log.notes

    def step(
        self, leg: Leg, number: int, totals: Totals, losses: StepLosses, norm: float, lr: float
    ) -> None:
        """Write a step and its terms, if that is due.

        Parameters
        ----------
        leg : Leg
            Its leg.
        number : int
            Number of the leg.
        totals : Totals
            What the run has taken, this step included.
        losses : StepLosses
            Of its passes.
        norm, lr : float
            Of its gradient, and its learning rate.
        """
        measures = self._due(self.config.moments_every, totals)
        wanted = measures or totals.steps == 1 or self._due(self.config.log_every, totals)
        if self.log is None or not wanted:
            return
        self.log.step(
            step=totals.steps,
            leg=number,
            loss=losses.loss,
            lr=lr,
            gradient_norm=norm,
            work=totals.work,
            flops=totals.flops,
            seconds=totals.seconds,
            samples=totals.samples,
        )
        # of crops there are no moments: samples of their own are whole images
        found = self._moments(totals) if measures and leg.crops is None else None
        for place, term in enumerate(leg.terms):
            square, variance = None, None
            if found is not None and term.corrects:
                square, variance = found.mean_square[term.level], found.difference[term.level]
            elif found is not None:
                square, variance = found.fine_mean_square[term.level], found.fine[term.level]
            self.log.level(
                step=totals.steps,
                level=term.level,
                samples=term.samples,
                fine_loss=losses.fine[place],
                coarse_loss=losses.coarse[place] if term.corrects else None,
                norm=None if square is None else math.copysign(math.sqrt(abs(square)), square),
                variance=None if variance is None else float(variance),
            )

    def validation_due(self, totals: Totals) -> bool:
        """Whether a validation is due after this step."""
        return self._due(self.config.validate_every, totals)

    def validate(self, number: int, totals: Totals) -> dict[str, float] | None:
        """Measure and write the errors on the validation pairs; every process gets them.

        Raises
        ------
        RunError
            If they are not finite, on every process.
        """
        found = asdict(score(self.module, self._pairs, self.engine)) if self.engine.leads else None
        self.engine.wait()
        scores = Scores(**self.engine.agreed(found))
        if not math.isfinite(scores.mse):
            raise RunError(
                f"the validation error must be finite; got {scores.mse} after step {totals.steps} "
                "(a smaller `lr` or a `clip` may help)"
            )
        record = as_record(scores)
        if self.log is not None and record is not None:
            self.log.validation(
                step=totals.steps,
                leg=number,
                work=totals.work,
                flops=totals.flops,
                seconds=totals.seconds,
                **record,
            )
        return record

    @staticmethod
    def _due(every: int, totals: Totals) -> bool:
        return bool(every) and totals.steps % every == 0

    @cached_property
    def _pairs(self) -> Pairs:
        return self.data.pairs("validation")

    @cached_property
    def _monitor(self) -> MultilevelGradient:
        hierarchy = self.config.hierarchy
        return MultilevelGradient(
            self.module,
            mean_square,
            self.data.sampler(MOMENTS),
            hierarchy,
            [1] * len(hierarchy),
            seed=self.config.seed,
        )

    def _moments(self, totals: Totals) -> Moments | None:
        """Moments of each level's gradients, from samples of their own; None if not finite."""
        samples = self.config.moments_samples
        start = totals.steps * len(self.config.hierarchy) * samples
        self._monitor.load_state_dict({**self._monitor.state_dict(), "next": start})
        with self.engine.autocast():
            try:
                return self._monitor.measure(samples)
            except InputError:  # a loss or gradient that is not finite: the next step will say so
                return None
