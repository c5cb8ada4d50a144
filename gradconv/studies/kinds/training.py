"""Training runs on one scale and on several: scores against costs, over seeds."""

from __future__ import annotations

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.figures import Style
from gradconv.parallel import compute
from gradconv.provenance import source_digest
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.tables import Table

KEYS = ("base", "setups", "seeds", "block")


@KINDS.register("training")
class TrainingStudy(StudyKind):
    """Every table under ``block`` is a part: what is trained, for each of the ``seeds``.

    ``base`` has the options of all runs, as ``gradconv train`` takes them, ``setups`` those of a
    task with its network, by name. A block has the ``setups`` that it trains ("all" or names), a
    list of ``variants``, and lists of values under ``axes``, which make a product; options of its
    own are under ``base``. A part that is interrupted goes on run by run.
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        from gradconv.studies.training.runs import part_of

        for key in choices:
            if key not in KEYS:
                raise unknown_name("choice of a training study", key, KEYS)
        shared = {"base": choices.get("base", {}), "setups": choices.get("setups", {})}
        blocks = choices.get("block", {})
        for name, table in (*shared.items(), ("block", blocks)):
            if not isinstance(table, dict):
                raise InputError(f"`{name}` must be a table; got {shortened(table)}")
        for name in ("setups", "block"):
            if not choices.get(name):
                raise InputError(f"`{name}` must have entries; got none")
        for name, setup in shared["setups"].items():
            if not isinstance(setup, dict):
                raise InputError(f"`setups.{name}` must be a table; got {shortened(setup)}")
        seeds = choices.get("seeds")
        if not isinstance(seeds, list) or not seeds:
            raise InputError(f"`seeds` must be a list with entries; got {shortened(seeds)}")
        shared["seeds"] = seeds
        return {name: part_of(name, block, shared) for name, block in blocks.items()}

    def origin(self, part: Record) -> Origin:
        options = {**part["base"], **part["block"].get("base", {})}
        return Origin(part["seeds"][0], str(options.get("device", "cpu")), "float32")

    def measure(self, part: Record, work: Workplace) -> Record:
        from gradconv.studies.training.runs import runs_of, train

        kept = str(work.folder / source_digest()[:12])  # runs of another source are others
        runs = [{**run, "folder": kept} for run in runs_of(part)]
        found: list[Record] = [{}] * len(runs)
        results = compute(train, runs, workers=work.workers, progress=work.progress)
        for index, one in results:
            found[index] = one
        return {"runs": found}

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        from gradconv.studies.training.captions import alternative, caption
        from gradconv.studies.training.figures import drawings

        return [
            StudyFigure(name, caption(name, results), alternative(name, results), drawing)
            for name, drawing in drawings(results, style).items()
        ]

    def tables(self, results: Results) -> list[Table]:
        from gradconv.studies.training.tables import all_tables

        return all_tables(results)

    def summary(self, results: Results) -> list[str]:
        from gradconv.studies.training.sentences import sentences

        return sentences(results)
