"""Variance of multilevel gradient estimates against their cost, forecast and measured."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from typing import TYPE_CHECKING, Any

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.figures import Style
from gradconv.studies.equal_cost_figures import variance_figure
from gradconv.studies.equal_cost_words import (
    BIASED,
    NAMES,
    caption,
    forecast_table,
    ratio_table,
    sentence,
    summary,
)
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.studies.kinds.choices import names_of, positive_numbers, whole_numbers
from gradconv.tables import Table

if TYPE_CHECKING:
    from gradconv.multilevel.diagnosis.error_cost import Forecast
    from gradconv.multilevel.diagnosis.repetition import Measured
    from gradconv.train import TrainingConfig

OWN = ("case", "restriction", "steps", "counts", "budgets", "samples", "repetitions")
SET = ("strategy", "budget", "stages", "stop", "device", "processes", "nodes", "threads")
CONFIDENCE = 0.95


@KINDS.register("equal_cost")
class EqualCostStudy(StudyKind):
    """A part is a network, a restriction, and a number of training steps before.

    Tables under ``case`` are choices of ``gradconv train`` that differ from the others.
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        from gradconv.multilevel.costs.plan import check_wholes
        from gradconv.restriction import RESTRICTIONS

        for name in OWN:
            if name not in choices:
                raise InputError(f"`{name}` must be chosen; got no value")
        cases = choices["case"]
        tables = isinstance(cases, dict) and all(isinstance(c, dict) for c in cases.values())
        if not tables or not cases:
            raise InputError(f"`case` must hold tables; got {shortened(cases)}")
        budgets = positive_numbers("budgets", choices["budgets"])
        check_whole("samples", choices["samples"], 4, 10**6)
        check_whole("repetitions", choices["repetitions"], 4, 10**5)
        states = whole_numbers("steps", choices["steps"], 0, 10**6)
        restrictions = names_of("restriction", choices["restriction"], RESTRICTIONS.names)
        shared = {k: v for k, v in choices.items() if k not in OWN}
        found = {}
        for steps, (case, own), restriction in product(states, cases.items(), restrictions):
            options = {**shared, **own, "restriction": restriction, "steps": max(steps, 1)}
            _check_names(options)
            config = _config(options)
            found[f"{case}-{restriction}-{steps}"] = {
                "case": case,
                "steps": steps,
                "training": config.identity(),
                "counts": list(check_wholes("counts", choices["counts"], config.levels)),
                "budgets": budgets,
                "samples": choices["samples"],
                "repetitions": choices["repetitions"],
            }
        return found

    def origin(self, part: Record) -> Origin:
        precision = "float64" if part["training"]["precision"] == "64" else "float32"
        return Origin(part["training"]["seed"], "cpu", precision, ("lightning-fabric",))

    def measure(self, part: Record, work: Workplace) -> Record:
        from gradconv.train import Trainer
        from gradconv.train.making import unresolved_kernels

        trainer = Trainer.from_config(_config(part["training"]))
        notes: list[str] = []
        with unresolved_kernels(notes):
            if part["steps"]:
                trainer.fit()
            found = _measured(trainer, part, work)
        return {
            "case": part["case"],
            "conv": part["training"]["conv"],
            "restriction": part["training"]["restriction"],
            "steps": part["steps"],
            "meshes": list(trainer.hierarchy.sizes),
            "counts": part["counts"],
            "notes": notes,
            **found,
        }

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        found, every = [], _ordered(results)
        for steps in dict.fromkeys(r["steps"] for r in every):
            records = [r for r in every if r["steps"] == steps]
            found.append(
                StudyFigure(
                    name="new" if not steps else f"after-{steps}",
                    caption=caption(records, steps),
                    alternative=" ".join(sentence(r) for r in records),
                    drawing=variance_figure(records, style),
                )
            )
        return found

    def tables(self, results: Results) -> list[Table]:
        records = _ordered(results)
        return [ratio_table(records), forecast_table(records)]

    def summary(self, results: Results) -> list[str]:
        return summary(_ordered(results))


def _ordered(results: Results) -> list[Record]:
    """Parts by steps, standard convolutions first."""

    def place(record: Record) -> tuple[Any, ...]:
        standard = record["conv"] == "standard"
        return record["steps"], not standard, record["case"], record["restriction"]

    return sorted(results.values(), key=place)


def _config(options: Record) -> TrainingConfig:
    """Configuration of a trainer on one scale, on one thread."""
    from gradconv.train import TrainingConfig

    made: Record = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    made.update(strategy="single", device="cpu", threads=1)
    return TrainingConfig(**made)


def _check_names(options: Record) -> None:
    """Refuse choices that no trainer has, and those that the study makes itself."""
    from gradconv.train import TrainingConfig

    known = [f.name for f in fields(TrainingConfig) if f.name not in SET]
    for name in options:
        if name not in known:
            raise unknown_name("choice", name, [*OWN, *known])


def _measured(trainer: Any, part: Record, work: Workplace) -> Record:
    """Moments, forecasts and repeated estimates as JSON values, relative to the squared scale."""
    from gradconv.multilevel.diagnosis.equal_cost import measure_equal_cost
    from gradconv.multilevel.diagnosis.error_cost import NORM
    from gradconv.multilevel.evaluator import Evaluator
    from gradconv.nn.evaluation import mean_square
    from gradconv.train.making import MOMENTS, work_units

    sampler = trainer.data.sampler(MOMENTS)
    units = work_units(trainer.hierarchy).gradient
    flops = [c.flops / trainer.costs[-1].flops for c in trainer.costs]
    found = measure_equal_cost(
        Evaluator(trainer.module, mean_square, sampler, seed=trainer.config.seed),
        units,
        budgets=part["budgets"],
        counts=part["counts"],
        samples=part["samples"],
        repetitions=part["repetitions"],
        confidence=CONFIDENCE,
        workers=work.workers,
        progress=work.progress,
    )
    return {
        "mean_resolved": found.errors.relative_to == NORM,
        "scale": found.errors.scale,
        "moments": found.prices.moments.to_dict(),
        "costs": {"work units": list(units), "operations": flops},
        "products": found.products,
        "estimates": {
            name: [
                _estimate(budget, forecast, found.measured[forecast], found.errors.scale)
                for budget, forecast in zip(part["budgets"], found.forecasts[name], strict=True)
            ]
            for name in NAMES
        },
        "ratios": {
            name: {
                "each": [found.ratio(name, [i]).value for i in range(len(part["budgets"]))],
                "work": _with_verdict(found.ratio(name)),
                "operations": _with_verdict(found.ratio(name, costs=flops)),
            }
            for name in list(NAMES)[1:]
        },
    }


def _with_verdict(ratio: Any) -> Record:
    return {**vars(ratio), "verdict": ratio.verdict}


def _estimate(budget: float, forecast: Forecast, measured: Measured, scale: float) -> Record:
    low, high = measured.ratio_interval
    return {
        "budget": budget,
        "counts": None if forecast.counts is None else list(forecast.counts),
        "draws": forecast.draws,
        "cost": forecast.cost,
        "mean_cost": measured.cost,
        "forecast": forecast.variance / scale**2,
        "forecast_stderr": forecast.stderr / scale**2,
        "variance": measured.variance / scale**2,
        "variance_interval": [v / scale**2 for v in measured.variance_interval],
        "ratio": measured.ratio,
        "ratio_interval": [low, high],
        "agrees": bool(low <= 1.0 <= high),
        "error": measured.error / scale**2,
        "error_stderr": measured.error_stderr / scale**2,
        "squared_bias": measured.bias / scale**2,
        "squared_bias_stderr": measured.bias_stderr / scale**2,
        "biased": bool(measured.bias > BIASED * measured.bias_stderr),
    }
