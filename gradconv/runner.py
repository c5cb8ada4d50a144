"""Run a configuration: every cell, resumable, and the files that it leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv import plots, rate_records
from gradconv.agreement import agreements
from gradconv.config import SweepConfig
from gradconv.mesh import MeshHierarchy
from gradconv.parallel import compute
from gradconv.problem import Problem
from gradconv.provenance import configuration_hash, provenance
from gradconv.sampling import (
    Gathering,
    SamplingPlan,
    SamplingTask,
    forget,
    parameter_names,
    plan_sampling,
    sample_task,
    sampling_tasks,
)
from gradconv.store import ResultFolder, write_atomically, write_figure
from gradconv.sweeps import Sweep, sweep, sweep_from

if TYPE_CHECKING:
    import xarray as xr

SAVE_INTERVAL = 1.0  # seconds between partial results: what a kill can cost

Progress = Callable[[float, float], None]
Cells = list[tuple[Problem, MeshHierarchy]]
Judged = Iterator[tuple[int, Sweep, list[rate_records.Record]]]
"""Which cell, its sweep, and its rates held against their laws."""


@dataclass(frozen=True)
class RunResult:
    """What a run gives.

    Parameters
    ----------
    sweeps : tuple of Sweep
        One a cell of the product.
    document : dict
        The JSON document.
    """

    sweeps: tuple[Sweep, ...]
    document: dict[str, Any]

    @property
    def records(self) -> list[rate_records.Record]:
        """The records of all rates."""
        return list(self.document["rates"])


def run(
    config: SweepConfig,
    output: Path | None = None,
    title: str = "",
    progress: Progress | None = None,
) -> RunResult:
    """Run every cell of a configuration.

    Parameters
    ----------
    config : SweepConfig
        The configuration.
    output : Path, optional
        Folder for the results. Partial results are kept there, so that the same call after an
        interruption goes on and ends with the same bits.
    title : str
        Headline of the figure.
    progress : callable, optional
        Called with (work done, all work); a replicate's work is the cells of its finest mesh. On
        workers laws are counted too, as much as the paths of their cell.

    Returns
    -------
    RunResult
        All sweeps and the JSON document.

    Raises
    ------
    InputError
        Before any work, if the configuration breaks a rule.
    StorageError
        If results cannot be written; those already there stay.
    """
    cells = config.problems()
    identity = config.identity()
    folder = ResultFolder(output, identity) if output is not None else None
    origin = provenance(identity, config.seed, config.device, config.dtype)
    if folder is not None:
        folder.open()
    spread = config.workers > 1 or config.scheduler is not None
    judged = _by_workers if spread else _one_by_one
    sweeps: dict[int, Sweep] = {}
    records: dict[int, list[rate_records.Record]] = {}
    found: list[rate_records.Record] = []
    for index, swept, own in judged(config, cells, folder, progress):
        sweeps[index], records[index] = swept, own
        found = [record for cell in sorted(records) for record in records[cell]]
        if folder is not None:
            _write_rates(folder.path, found, origin)
    document = rate_records.document(found, origin)
    ordered = [sweeps[index] for index in range(len(cells))]
    if folder is not None:
        _write_results(folder.path, ordered, document, title)
    return RunResult(tuple(ordered), document)


def _one_by_one(
    config: SweepConfig, cells: Cells, folder: ResultFolder | None, progress: Progress | None
) -> Judged:
    """Cells in their order, in this process."""
    sizes = _sizes(cells, config.replicates)
    for index, (problem, hierarchy) in enumerate(cells):

        def tell(done: int, replicates: int, index: int = index) -> None:
            if progress is not None:
                progress(sum(sizes[:index]) + sizes[index] * done / replicates, sum(sizes))

        done, saver = _stored(config, problem, hierarchy, folder)
        try:
            swept = sweep(
                problem,
                hierarchy,
                **config.sweep_arguments,
                progress=tell,
                done=done,
                checkpoint=saver,
            )
        finally:
            saver.flush()
        laws = agreements(swept, memory=config.memory, threads=config.threads)
        yield index, swept, rate_records.records(swept, laws)


def _sizes(cells: Cells, replicates: int) -> list[float]:
    return [float(h.finest.size) * (1 if p.deterministic else replicates) for p, h in cells]


def _stored(
    config: SweepConfig, problem: Problem, hierarchy: MeshHierarchy, folder: ResultFolder | None
) -> tuple[np.ndarray | None, _Saver]:
    """What an earlier run left of a cell, and where to keep more."""
    key = configuration_hash({k: str(v) for k, v in problem.describe().items()})[:16]
    shape = (len(hierarchy), len(parameter_names(problem)))
    done = None if folder is None else folder.load_part(key, shape)
    replicates = 1 if problem.deterministic else config.replicates
    return done, _Saver(folder, key, replicates, 0 if done is None else len(done))


@dataclass(frozen=True)
class _LawTask:
    """A cell whose sample paths are all there: fit its rates and hold them against its law."""

    problem: Problem
    hierarchy: MeshHierarchy
    plan: SamplingPlan
    gradients: np.ndarray = field(repr=False)
    confidence: float
    memory: float


def _work(task: SamplingTask | _LawTask) -> Any:
    if isinstance(task, SamplingTask):
        return sample_task(task)
    forget()
    swept = sweep_from(task.gradients, task.problem, task.hierarchy, task.plan, task.confidence)
    return swept, rate_records.records(swept, agreements(swept, memory=task.memory))


def _by_workers(
    config: SweepConfig, cells: Cells, folder: ResultFolder | None, progress: Progress | None
) -> Judged:
    """Cells as they are completed by workers that share all of them."""
    sampling = {k: v for k, v in config.sweep_arguments.items() if k != "confidence"}
    plans = [plan_sampling(*cell, **sampling) for cell in cells]
    tasks: list[SamplingTask | _LawTask] = []
    owners: list[int] = []
    gathered: list[Gathering] = []
    savers: list[_Saver] = []

    def judge(index: int) -> None:
        gradients, rest = (
            gathered[index].whole(),
            (config.confidence, config.memory),
        )
        tasks.append(_LawTask(*cells[index], plans[index], gradients, *rest))
        owners.append(index)

    for index, (problem, hierarchy) in enumerate(cells):
        done, saver = _stored(config, problem, hierarchy, folder)
        savers.append(saver)
        gathered.append(Gathering(problem, hierarchy, plans[index], done))
        pieces = sampling_tasks(problem, hierarchy, plans[index], gathered[index].complete)
        tasks += pieces
        owners += [index] * len(pieces)
        if not pieces:
            judge(index)
    results = compute(_work, tasks, workers=config.workers, scheduler=config.scheduler)
    sizes = _sizes(cells, config.replicates)
    judged: set[int] = set()

    def tell() -> None:
        if progress is not None:  # a law takes about as long as its sweep
            sampled = [s * g.complete / len(g) for s, g in zip(sizes, gathered, strict=True)]
            progress(sum(sampled) + sum(sizes[i] for i in judged), 2 * sum(sizes))

    try:
        tell()
        for number, result in results:
            index, task = owners[number], tasks[number]
            if not isinstance(task, SamplingTask):
                judged.add(index)
                yield index, *result
            elif gathered[index].add(task.replicates, result):
                savers[index](gathered[index].first)
                if gathered[index].complete == len(gathered[index]):
                    judge(index)
            tell()
    finally:
        for saver in savers:
            saver.flush()


class _Saver:
    """Keeps partial results on disk, not more often than `SAVE_INTERVAL`."""

    def __init__(self, folder: ResultFolder | None, key: str, replicates: int, stored: int) -> None:
        self._folder, self._key, self._replicates = folder, key, replicates
        self._stored = stored
        self._latest: np.ndarray | None = None
        self._last_time = time.monotonic()

    def __call__(self, part: np.ndarray) -> None:
        self._latest = part
        late = time.monotonic() - self._last_time >= SAVE_INTERVAL
        if late or len(part) == self._replicates:
            self.flush()

    def flush(self) -> None:
        if self._folder is None or self._latest is None:
            return
        if len(self._latest) > self._stored:
            self._folder.save_part(self._key, self._latest)
            self._stored = len(self._latest)
            self._last_time = time.monotonic()


def _write_rates(path: Path, found: list[rate_records.Record], origin: dict[str, Any]) -> None:
    text = json.dumps(rate_records.document(found, origin), indent=1, allow_nan=False)
    write_atomically(path / "rates.json", f"{text}\n".encode())


def _write_results(path: Path, sweeps: list[Sweep], document: dict[str, Any], title: str) -> None:
    found, origin = document["rates"], document["provenance"]
    write_atomically(path / "table.md", rate_records.markdown(found, origin).encode())
    tree = dataset_tree(sweeps, origin)
    write_atomically(path / "sweep.nc", bytes(tree.to_netcdf(engine="h5netcdf")))
    write_figure(path / "figure", plots.gap_figure(found, title))


def dataset_tree(sweeps: list[Sweep], origin: dict[str, Any]) -> xr.DataTree:
    """All results as one labelled tree: a group a cell, named cell_000 and on.

    Parameters
    ----------
    sweeps : list of Sweep
        The cells.
    origin : dict
        Provenance, stored as JSON text in the attributes of the root.
    """
    import xarray as xr

    groups = {f"/cell_{i:03d}": s.data for i, s in enumerate(sweeps)}
    text = json.dumps(origin, sort_keys=True)
    root = xr.Dataset(attrs={"schema": rate_records.SCHEMA, "provenance": text})
    return xr.DataTree.from_dict({"/": root, **groups})
