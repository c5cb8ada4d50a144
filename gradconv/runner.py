"""Run a configuration: every cell, resumable, and the files that it leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv import plots, report
from gradconv.agreement import agreements
from gradconv.config import SweepConfig
from gradconv.mesh import MeshHierarchy
from gradconv.problem import Problem
from gradconv.provenance import configuration_hash, provenance
from gradconv.sampling import parameter_names
from gradconv.store import ResultFolder, write_atomically
from gradconv.sweeps import Sweep, sweep

if TYPE_CHECKING:
    import xarray as xr

SAVE_INTERVAL = 1.0  # seconds between partial results: what a kill can cost
FIGURES = ("png", "pdf", "svg")

Progress = Callable[[float, float], None]


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
    def records(self) -> list[report.Record]:
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
        Called with (work done, all work); a replicate's work is the cells of its finest mesh.

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
    meter = _Meter(cells, config.replicates, progress)
    if folder is not None:
        folder.open()
    sweeps: list[Sweep] = []
    found: list[report.Record] = []
    for index, (problem, hierarchy) in enumerate(cells):
        sweeps.append(_run_cell(config, problem, hierarchy, folder, meter.of(index)))
        manner = {name: config.manner[name] for name in ("memory", "threads")}
        found += report.records(sweeps[-1], agreements(sweeps[-1], **manner))
        if folder is not None:
            _write_rates(folder.path, found, origin)
    document = report.document(found, origin)
    if folder is not None:
        _write_results(folder.path, sweeps, document, title)
    return RunResult(tuple(sweeps), document)


class _Meter:
    """Adds the progress of the cells up."""

    def __init__(
        self,
        cells: list[tuple[Problem, MeshHierarchy]],
        replicates: int,
        progress: Progress | None,
    ) -> None:
        self._sizes = [
            float(h.finest.size) * (1 if p.deterministic else replicates) for p, h in cells
        ]
        self._progress = progress

    def of(self, index: int) -> Callable[[int, int], None]:
        before, total = sum(self._sizes[:index]), sum(self._sizes)

        def tell(done: int, replicates: int) -> None:
            if self._progress is not None:
                self._progress(before + self._sizes[index] * done / replicates, total)

        return tell


def _run_cell(
    config: SweepConfig,
    problem: Problem,
    hierarchy: MeshHierarchy,
    folder: ResultFolder | None,
    progress: Callable[[int, int], None],
) -> Sweep:
    def call(
        done: np.ndarray | None = None, checkpoint: Callable[[np.ndarray], None] | None = None
    ) -> Sweep:
        return sweep(
            problem,
            hierarchy,
            **config.manner,
            progress=progress,
            done=done,
            checkpoint=checkpoint,
        )

    if folder is None:
        return call()
    key = configuration_hash({k: str(v) for k, v in problem.describe().items()})[:16]
    shape = (len(hierarchy), len(parameter_names(problem)))
    done = folder.load_part(key, shape)
    replicates = 1 if problem.deterministic else config.replicates
    saver = _Saver(folder, key, replicates, 0 if done is None else len(done))
    try:
        return call(done, saver)
    finally:
        saver.flush()


class _Saver:
    """Keeps partial results on disk, not more often than `SAVE_INTERVAL`."""

    def __init__(self, folder: ResultFolder, key: str, replicates: int, stored: int) -> None:
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
        if self._latest is not None and len(self._latest) > self._stored:
            self._folder.save_part(self._key, self._latest)
            self._stored = len(self._latest)
            self._last_time = time.monotonic()


def _write_rates(path: Path, found: list[report.Record], origin: dict[str, Any]) -> None:
    text = json.dumps(report.document(found, origin), indent=1, allow_nan=False)
    write_atomically(path / "rates.json", f"{text}\n".encode())


def _write_results(path: Path, sweeps: list[Sweep], document: dict[str, Any], title: str) -> None:
    found, origin = document["rates"], document["provenance"]
    write_atomically(path / "table.md", report.markdown(found, origin).encode())
    tree = dataset_tree(sweeps, origin)
    write_atomically(path / "sweep.nc", bytes(tree.to_netcdf(engine="h5netcdf")))
    figure = plots.gap_figure(found, title)
    for kind in FIGURES:
        write_atomically(path / f"figure.{kind}", plots.figure_bytes(figure, kind))


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
    root = xr.Dataset(attrs={"schema": report.SCHEMA, "provenance": text})
    return xr.DataTree.from_dict({"/": root, **groups})
