"""Variance of multilevel gradient estimates against their cost, forecast and measured."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from typing import TYPE_CHECKING, Any

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.figures import COLOURS, MARKERS, Style
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradconv.multilevel.diagnosis.error_cost import Forecast
    from gradconv.multilevel.diagnosis.repetition import Measured
    from gradconv.train import TrainingConfig

OWN = ("case", "restriction", "steps", "counts", "budgets", "samples", "repetitions")
SET = ("strategy", "budget", "stages", "stop", "device", "processes", "nodes", "threads")
CONFIDENCE = 0.95
BIASED = 4.0  # standard errors of a squared bias: of a scalar, χ² of 1, a false alarm in 100
NAMES = {
    "single": "one scale",
    "optimal": "optimal numbers",
    "fixed": "given numbers",
    "randomised": "randomised",
}
ASIDE = 1.03
MEAN, SAMPLE = "‖E g‖²", "V$_L$"
RELATIVE = {
    MEAN: "the squared norm of its mean",
    SAMPLE: "that of a single sample (not every mean is resolved)",
}
LINES = ((0, (5.0, 2.0)), "-", (0, (3.0, 1.5, 1.0, 1.5)), (0, (1.0, 1.5)))
LOOKS: Any = dict(zip(NAMES, zip(COLOURS, MARKERS, LINES, strict=False), strict=False))


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
        from matplotlib.figure import Figure

        found, every = [], _ordered(results)
        for steps in dict.fromkeys(r["steps"] for r in every):
            records = [r for r in every if r["steps"] == steps]
            cases = list(dict.fromkeys(r["case"] for r in records))
            rows = list(dict.fromkeys(r["restriction"] for r in records))
            width = style.column if len(cases) == 1 else style.full
            height = (0.85 * width / max(len(cases), 2.6)) * len(rows) + 0.6
            with style.apply():
                figure = Figure(figsize=(width, height), layout="constrained")
                axes = figure.subplots(
                    len(rows), len(cases), squeeze=False, sharex="all", sharey="all"
                )
                for record in records:
                    place = rows.index(record["restriction"]), cases.index(record["case"])
                    _draw(axes[place], record, _relative(records))
                    axes[place].set_title(f"{record['case']}, {record['restriction']}")
                for axis in axes[-1]:
                    axis.set_xlabel("cost [finest gradients]")
                for axis in axes[:, 0]:
                    axis.set_ylabel(f"variance / {_relative(records)}")
                _legend(figure)
            found.append(
                StudyFigure(
                    name="new" if not steps else f"after-{steps}",
                    caption=_caption(records, steps),
                    alternative=" ".join(_sentence(r) for r in records),
                    drawing=figure,
                )
            )
        return found

    def tables(self, results: Results) -> list[Table]:
        records = _ordered(results)
        budgets = ", ".join(f"{e['budget']:g}" for e in records[0]["estimates"]["single"])
        return [
            Table(
                name="ratios",
                caption=(
                    "Variance × cost of each estimator over that of one scale: forecast before "
                    f"numbers are rounded; measured at {budgets} finest gradients; their geometric "
                    "mean with its 95 % interval, in work units and in operations."
                ),
                header=(
                    *("network", "restriction", "steps", "estimator", "forecast"),
                    *("measured", "mean", "verdict", "in operations", "verdict "),
                ),
                rows=tuple(
                    (
                        *(r["case"], r["restriction"], str(r["steps"]), NAMES[name]),
                        f"{r['products'][name] / r['products']['single']:.3g}",
                        ", ".join(f"{v:.3g}" for v in ratio["each"]),
                        _interval(ratio["work"]),
                        f"**{ratio['work']['verdict']}**",
                        _interval(ratio["operations"]),
                        f"**{ratio['operations']['verdict']}**",
                    )
                    for r in records
                    for name, ratio in r["ratios"].items()
                ),
            ),
            Table(
                name="forecasts",
                caption=(
                    f"Forecast against measurement at {budgets} finest gradients: measured over "
                    "predicted variance (* where 1 lies outside its 95 % interval), and mean "
                    "square error over variance, 1 without bias (* where the squared bias is "
                    f"beyond {BIASED:g} standard errors)."
                ),
                header=(
                    *("network", "restriction", "steps", "estimator"),
                    *("samples, coarse to fine", "variance", "error"),
                ),
                rows=tuple(
                    (
                        *(r["case"], r["restriction"], str(r["steps"]), NAMES[name]),
                        "; ".join(_samples(e) for e in estimates),
                        ", ".join(_star(e["ratio"], not e["agrees"]) for e in estimates),
                        ", ".join(
                            _star(e["error"] / e["variance"], e["biased"]) for e in estimates
                        ),
                    )
                    for r in records
                    for name, estimates in r["estimates"].items()
                ),
            ),
        ]

    def summary(self, results: Results) -> list[str]:
        records = _ordered(results)
        every = [e for r in records for own in r["estimates"].values() for e in own]
        agreeing = sum(e["agrees"] for e in every)
        biased = sum(e["biased"] for e in every)
        return [
            *(_sentence(r) for r in records),
            f"Forecast Σ V_l/N_l and measurement agree within 95 % intervals in {agreeing} of "
            f"{len(every)} estimates; a bias shows in {biased}.",
        ]


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
        Evaluator(trainer.model, mean_square, sampler, seed=trainer.config.seed),
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


def _relative(records: list[Record]) -> str:
    """What variances are drawn relative to: one for all panels, known in each."""
    return MEAN if all(r["mean_resolved"] for r in records) else SAMPLE


def _caption(records: list[Record], steps: int) -> str:
    meshes, by = records[0]["meshes"], _relative(records)
    state = f"after {steps} training steps" if steps else "at their start"
    return (
        f"Variance of gradient estimates on {meshes[-1]}² relative to {RELATIVE[by]} "
        f"against their cost, for networks {state}, on {len(meshes)} "
        f"levels from {meshes[0]}² on. Points: measured, with 95 % intervals, side by side; lines: "
        "forecasts K/W from moments of other samples, K = V_L C_L on one scale, (Σ √(V_l C_l))² "
        "with optimal numbers, Σ V_l/n_l Σ n_l C_l with given ones, "
        f"n = {' : '.join(str(n) for n in records[0]['counts'])} from coarse to fine, "
        "(Σ E‖d_l‖²/p_l − ‖E g‖²) Σ p_l C_l randomised."
    )


def _sentence(record: Record) -> str:
    state = f"after {record['steps']} steps" if record["steps"] else "new"
    parts = [
        f"{NAMES[name]} {_interval(ratio['work'])} ({ratio['work']['verdict']})"
        for name, ratio in record["ratios"].items()
    ]
    return (
        f"{record['case']} ({state}), {record['restriction']}: variance at equal cost over that "
        f"of one scale: {', '.join(parts)}."
    )


def _interval(ratio: Record) -> str:
    return f"{ratio['value']:.3g} [{ratio['low']:.3g}, {ratio['high']:.3g}]"


def _samples(estimate: Record) -> str:
    if estimate["counts"] is None:
        return f"{estimate['draws']} draws"
    return " ".join(str(n) for n in estimate["counts"])


def _star(value: float, marked: bool) -> str:
    return f"{value:.2f}{'*' if marked else ''}"


def _draw(axis: Axes, record: Record, by: str) -> None:
    squared = record["scale"] ** 2  # of the stored numbers; K of one scale is a sample's variance
    unit = 1.0 if by == MEAN else record["products"]["single"] / squared
    for place, (name, estimates) in enumerate(record["estimates"].items()):
        colour, marker, line = LOOKS[name]
        aside = ASIDE ** (place - 0.5 * (len(LOOKS) - 1))  # intervals beside each other
        ends: Any = [
            [abs(e["variance_interval"][side] - e["variance"]) / unit for e in estimates]
            for side in (0, 1)
        ]
        budgets = [e["budget"] for e in estimates]
        law = [record["products"][name] / (w * unit * squared) for w in budgets]
        axis.plot(budgets, law, color=colour, linestyle=line)
        axis.errorbar(
            [aside * e["cost"] for e in estimates],
            [e["variance"] / unit for e in estimates],
            yerr=ends,
            color=colour,
            marker=marker,
            linestyle="none",
            capsize=1.5,
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(budgets, [f"{w:g}" for w in budgets])
    axis.minorticks_off()


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=line, label=NAMES[name])
        for name, (colour, marker, line) in LOOKS.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        handlelength=3.5,
        title="lines: forecast K/W; points: measured, with 95 % intervals",
        title_fontsize="small",
    )
