"""Diagnoses of multilevel gradients: level tables, α, β, γ, checks, and what an error costs."""

from __future__ import annotations

from gradconv.backend import Backend
from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.figures import Style
from gradconv.images import IMAGES, Tiles
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.choices import CHOICES as DATA
from gradconv.multilevel.choices import make_hierarchy
from gradconv.multilevel.diagnosis.diagnosing import diagnose
from gradconv.multilevel.diagnosis.error_cost import check_epsilons
from gradconv.multilevel.diagnosis.figure import diagnosis_figure
from gradconv.multilevel.diagnosis.term_costs import UNITS
from gradconv.problem import Problem
from gradconv.samplers import NoisySampler, ProblemSampler, Sampler
from gradconv.studies.diagnosis_figures import comparison_figure
from gradconv.studies.diagnosis_words import (
    as_document,
    caption_of,
    comparison_caption,
    sentences,
    tables_of,
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
from gradconv.studies.subjects import make_subject
from gradconv.tables import Table
from gradconv.train.making import unresolved_kernels
from gradconv.train.tasks import TASKS

DEFAULTS: Record = {
    "dim": 2,
    "levels": [16, 32, 64, 128],
    "samples": 64,
    "repetitions": 16,
    "cost": "work",
    "seed": 0,
    "device": "cpu",
    "dtype": "float64",
}
PHOTOGRAPHS: Record = {
    "images": "photographs",
    "task": "denoise:0.1",
    "restriction": "average",
    "route": "chain",
}
OWN = ("title", "kernel", "module", "epsilons")


@KINDS.register("diagnosis")
class DiagnosisStudy(StudyKind):
    """Every table under ``case`` is a part.

    It has a ``title`` and either a ``kernel``, a single layer on the built-in data of its choices,
    or a ``module``: ``make``, a name of `gradconv.studies.subjects.SUBJECTS`, and its options, on
    tiles of ``images`` with the corruption of a ``task``.
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        cases = choices.get("case")
        tables = isinstance(cases, dict) and all(isinstance(c, dict) for c in cases.values())
        if not tables or not cases:
            raise InputError(f"`case` must hold a table or more; got {shortened(cases)}")
        shared = {k: v for k, v in choices.items() if k != "case"}
        return {name: _part({**shared, **own}) for name, own in cases.items()}

    def require(self, part: Record) -> None:
        if "module" in part:
            make_subject(part["module"]).require()

    def origin(self, part: Record) -> Origin:
        packages = make_subject(part["module"]).packages if "module" in part else ()
        return Origin(part["seed"], part["device"], part["dtype"], packages)

    def measure(self, part: Record, work: Workplace) -> Record:
        options = {k: part[k] for k in DEFAULTS if k not in ("levels", "dim")}
        hierarchy = MeshHierarchy(part["dim"], tuple(part["levels"]))
        subject = make_subject(part["module"]) if "module" in part else None
        notes: list[str] = []
        with unresolved_kernels(notes):
            found = diagnose(
                subject.factory if subject else _problem(part),
                data=_sampler(part, hierarchy) if subject else None,
                hierarchy=hierarchy,
                epsilons=part["epsilons"],
                workers=work.workers,
                progress=work.progress,
                **options,
            ).to_dict()
        origin = found.pop("provenance")  # that of the part says more
        return {
            **found,
            "title": part["title"],
            "configuration": origin["configuration"],
            "choices": {k: v for k, v in part.items() if k not in OWN},
            "notes": [*found["notes"], *notes],
        }

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        found = []
        for name, result in results.items():
            drawing = diagnosis_figure(as_document(result), result["title"], style)
            caption = caption_of(result)
            found.append(StudyFigure(name, caption, " ".join(sentences(result)), drawing))
        alike = _alike(results)
        if len(alike) > 1:
            caption = comparison_caption(alike)
            told = " ".join(s for r in alike for s in sentences(r))
            drawing = comparison_figure(alike, style)
            found.append(StudyFigure("comparison", caption, told, drawing))
        return found

    def tables(self, results: Results) -> list[Table]:
        return [table for name, r in results.items() for table in tables_of(name, r)]

    def summary(self, results: Results) -> list[str]:
        return [sentence for r in results.values() for sentence in sentences(r)]


def _alike(results: Results) -> list[Record]:
    """Diagnoses of modules on the meshes and photographs of the first one."""
    found = [r for r in results.values() if "images" in r["choices"]]
    same = ("levels", "images", "task", "restriction", "samples")
    return [r for r in found if all(r["choices"][k] == found[0]["choices"][k] for k in same)]


def _part(given: Record) -> Record:
    """Configuration of one diagnosis, checked."""
    if ("kernel" in given) == ("module" in given):
        got = "both" if "kernel" in given else "neither"
        raise InputError(f"`kernel` or `module`: exactly one must be given; got {got}")
    data = DATA if "kernel" in given else PHOTOGRAPHS
    for name in given:
        if name not in (*OWN, *DEFAULTS, *data):
            raise unknown_name("choice of a diagnosis", name, (*OWN, *DEFAULTS, *data))
    if not isinstance(given.get("title"), str):
        raise InputError(f"`title` of a case must be text; got {shortened(given.get('title'))}")
    part: Record = {**DEFAULTS, "epsilons": None, **data, **given}
    check_whole("samples", part["samples"], 4, 10**7)
    if part["repetitions"] != 0:
        check_whole("repetitions", part["repetitions"], 2, 10**5)
    check_whole("seed", part["seed"], 0, 2**62)
    check_epsilons(part["epsilons"])
    if part["cost"] not in UNITS:
        raise unknown_name("cost", part["cost"], UNITS)
    if part["device"] == "cpu":  # another one is checked where it is
        Backend(part["device"], part["dtype"])
    hierarchy = make_hierarchy(part["levels"], part["dim"], None)
    if "kernel" in part:
        ProblemSampler(_problem(part), hierarchy, part["seed"])
    else:
        if not isinstance(part["module"], dict):
            raise InputError(f"`module` must be a table; got {shortened(part['module'])}")
        make_subject(part["module"])
        _sampler(part, hierarchy)
        part["fingerprint"] = IMAGES.parse(part["images"]).fingerprint()
    return part


def _problem(part: Record) -> Problem:
    return Problem(part["kernel"], dim=part["dim"], **{k: part[k] for k in DATA})


def _sampler(part: Record, hierarchy: MeshHierarchy) -> Sampler:
    """Tiles of photographs with a task's corruption, drawn on the finest mesh."""
    task = TASKS.parse(part["task"])
    photographs = IMAGES.parse(part["images"]).open("train", 1)
    return NoisySampler(
        Tiles(photographs, hierarchy.sizes[-1], seed=part["seed"]),
        task.corrupt,
        hierarchy,
        restriction=part["restriction"],
        route=part["route"],
        seed=part["seed"],
    )
