"""The atlas from its units: derived and measured in processes, kept on disk, judged together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradconv.atlas.cache import Cache, Carried, digest
from gradconv.atlas.cells import REPLICATES, SIGNAL, Cell, representative
from gradconv.atlas.derived import Record
from gradconv.atlas.fluctuations import fluctuations_of
from gradconv.atlas.judge import AGREES, DISAGREES, EXPLAINED, sampled_values
from gradconv.atlas.unit import (
    Unit,
    derive_unit,
    mean_record,
    means_of,
    name_of,
    shelf_of,
    units_of,
)
from gradconv.parallel import check_workers, compute
from gradconv.problem import MEANS, QUANTITIES
from gradconv.provenance import provenance
from gradconv.statistics import FRESH, simultaneous_quantile

SCHEMA = "gradconv.atlas/1"
DIGITS = 7
Progress = Callable[[int, int], None]
Result = tuple[list[Record], list[Record]]


@dataclass(frozen=True)
class Found:
    """What is known of one problem: its laws, and what was measured."""

    law: Record
    measured: Record
    fresh: Record | None = None


def atlas(
    cells: Sequence[Cell],
    *,
    cache: Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
    progress: Progress | None = None,
) -> Record:
    """Derive and measure cells, and judge each.

    Parameters
    ----------
    cells : sequence of Cell
        The cells; those that are the same problem are worked on once.
    cache : Path, optional
        Folder for laws and measurements; an interrupted run goes on from there.
    workers : int
        Processes on this machine; see `gradconv.parallel.compute`.
    scheduler : str, optional
        Address of a Dask scheduler. Its workers need not see the folder of `cache`.
    seed, replicates : int
        Of the sampled quantities.
    progress : callable, optional
        Called with (problems done, problems).

    Returns
    -------
    dict
        The atlas's document.
    """
    check_workers(workers, scheduler)
    distinct = list(dict.fromkeys(representative(c) for c in cells))
    units = units_of(distinct, replicates, seed)
    done = 0
    found: dict[Cell, Found] = {}
    if progress is not None:
        progress(done, len(distinct))
    for unit, (laws, records) in _results(units, cache, workers, scheduler):
        for cell, law, record in zip(unit.cells, laws, records, strict=True):
            found[cell] = Found(law, record)
        done += len(unit.cells)
        if progress is not None:
            progress(done, len(distinct))
    quantile = simultaneous_quantile(_comparisons(found.values()), replicates)
    _confirm(found, units, quantile, Cache(cache), workers, scheduler)
    configuration = {
        "cells": digest([c.describe() for c in cells]),
        "count": len(cells),
        "replicates": replicates,
    }
    origin = provenance(configuration, seed, "cpu", "float64")
    rows = [_row(cell, found[representative(cell)], quantile) for cell in cells]
    return {
        "schema": SCHEMA,
        "provenance": {**origin, "source": Cache(None).source},
        "signal": SIGNAL,
        "problems": len(distinct),
        "quantile": _short(quantile),
        "cells": rows,
    }


def _results(
    units: Sequence[Unit], cache: Path | None, workers: int, scheduler: str | None
) -> Iterator[tuple[Unit, Result]]:
    if scheduler is None:
        results = compute(_beside, [(unit, cache) for unit in units], workers=workers)
        for index, result in results:
            yield units[index], result
        return
    kept = Cache(cache)
    tasks = [(unit, _known(unit, kept)) for unit in units]
    for index, (result, added) in compute(_away, tasks, scheduler=scheduler):
        for description, value in added:
            kept.save(description, value)
        yield units[index], result


def _beside(task: tuple[Unit, Path | None]) -> Result:
    unit, folder = task
    return _work(unit, Cache(folder))


def _away(task: tuple[Unit, dict[str, Any]]) -> tuple[Result, list[tuple[Any, Any]]]:
    unit, known = task
    cache = Carried(known)
    return _work(unit, cache), cache.added


def _known(unit: Unit, cache: Cache) -> dict[str, Any]:
    """What the cache has for a unit, by digest."""
    shelves = {digest(shelf): shelf for shelf in map(shelf_of, unit.cells)}
    found = {name: cache.load(shelf) or {} for name, shelf in shelves.items()}
    if all(name_of(cell) in found[digest(shelf_of(cell))] for cell in unit.cells):
        laws = derive_unit(unit, Carried(found))
        key = _measured(unit, [laws[cell] for cell in unit.cells])
        found[digest(key)] = cache.load(key)
    return found


def _measured(unit: Unit, laws: list[Record]) -> list[Any]:
    return ["measured", unit.describe(), digest(laws)]


def _work(unit: Unit, cache: Cache) -> Result:
    """Laws and measurements of a unit, from the cache where they are there."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        laws = derive_unit(unit, cache)
        ordered = [laws[cell] for cell in unit.cells]
        key = _measured(unit, ordered)
        records = cache.load(key)
        if records is None:
            records = measure_unit(unit, laws)
            cache.save(key, records)
    return ordered, records


def measure_unit(unit: Unit, laws: dict[Cell, Record]) -> list[Record]:
    """Measure every cell of a unit and hold it against its law.

    Returns
    -------
    list of dict
        One a cell, in the order of the unit: by quantity, what was found.
    """
    found: dict[Cell, Record] = {cell: {} for cell in unit.cells}
    for cell, means in means_of(unit.cells, "means"):
        for quantity in MEANS:
            found[cell][quantity] = mean_record(cell, means, quantity, laws[cell])
    for cell, records in fluctuations_of(unit, laws):
        found[cell] |= records
    return [found[cell] for cell in unit.cells]


def _comparisons(found: Any) -> int:
    return sum(
        len(f.measured.get(q, {}).get("deviations", ()))
        for f in found
        for q in ("variance", "rms_gap")
    )


def _worst(record: Record) -> float:
    return max(
        (abs(v) for q in ("variance", "rms_gap") for v in record.get(q, {}).get("deviations", ())),
        default=0.0,
    )


def _confirm(
    found: dict[Cell, Found],
    units: Sequence[Unit],
    quantile: float,
    cache: Cache,
    workers: int,
    scheduler: str | None,
) -> None:
    """Measure what disagrees once more, on fresh paths."""
    tasks, keys = [], []
    known: list[tuple[Unit, list[Record]]] = []
    for unit in units:
        doubtful = tuple(c for c in unit.cells if _worst(found[c].measured) > quantile)
        if not doubtful:
            continue
        again = Unit(doubtful, unit.replicates, unit.seed + FRESH)
        laws = {cell: found[cell].law for cell in doubtful}
        key = ["confirmed", again.describe(), digest(list(laws.values()))]
        stored = cache.load(key)
        if stored is None:
            tasks.append((again, laws))
            keys.append(key)
        else:
            known.append((again, stored))
    for index, fresh in compute(_fresh, tasks, workers=workers, scheduler=scheduler):
        cache.save(keys[index], fresh)
        known.append((tasks[index][0], fresh))
    for unit, records in known:
        for cell, record in zip(unit.cells, records, strict=True):
            found[cell] = Found(found[cell].law, found[cell].measured, record)


def _fresh(task: tuple[Unit, dict[Cell, Record]]) -> list[Record]:
    from threadpoolctl import threadpool_limits

    unit, laws = task
    with threadpool_limits(limits=1):
        fresh = dict(fluctuations_of(unit, laws))
    return [fresh[cell] for cell in unit.cells]


def _row(cell: Cell, found: Found, quantile: float) -> Record:
    quantities = {q: _quantity(q, found, quantile) for q in QUANTITIES}
    merged = representative(cell)
    states = [r["status"] for r in quantities.values()]
    status = DISAGREES if DISAGREES in states else EXPLAINED if EXPLAINED in states else AGREES
    same = merged.restriction if merged != cell else None
    return {**cell.describe(), "same_as": same, "status": status, "quantities": quantities}


def _quantity(quantity: str, found: Found, quantile: float) -> Record:
    """Record of one quantity of a cell: derived, measured, and whether they agree."""
    law = found.law["laws"].get(quantity)
    measured = found.measured.get(quantity)
    row: Record = {"status": EXPLAINED, "reason": _general(_missing(found.law, quantity))}
    if law is not None:
        keys = ("order", "log", "coefficient", "verdict")
        row["derived"] = {k: _short(law[k]) for k in keys}
    if "failed" in found.law:
        reason = f"the derivation broke down: {found.law['failed']}"
        row = {**row, "status": DISAGREES, "reason": reason}
    if measured is None:
        return row
    row["measured"] = {k: _short(v) for k, v in measured["fit"].items()}
    values = _values(quantity, found, quantile)
    if values is not None:
        row["values"] = {"status": values[0], "worst": _short(values[2])}
    leading = measured.get("leading")
    if leading is not None:
        row["leading"] = {"status": leading[0], "worst": _short(leading[2])}
    for judged in (values, leading):
        if judged is not None and judged[0] == DISAGREES:
            return {**row, "status": DISAGREES, "reason": judged[1]}
    if law is None:
        return row
    if values is None:
        return {**row, "reason": _general(measured["why"])}
    if leading is None:
        return {**row, "reason": "fewer than three gaps are measured"}
    note = values[1] if values[1] else ""
    return {**row, "status": leading[0], "reason": _general(leading[1]) or note}


def _values(quantity: str, found: Found, quantile: float) -> list[Any] | None:
    """Status, reason and size of the comparison with the full law; None without one."""
    record = found.measured[quantity]
    if quantity in MEANS:
        return record.get("values")
    if "deviations" not in record:
        return None
    first = sampled_values(record["deviations"], quantile)
    if first.status == AGREES or found.fresh is None:
        return [first.status, first.reason, first.worst]
    second = sampled_values(found.fresh[quantity]["deviations"], quantile)
    if second.status == AGREES:
        return [
            AGREES,
            f"on fresh paths; on the first {first.worst:.1f} standard errors",
            second.worst,
        ]
    return [DISAGREES, f"{first.reason}; fresh paths: {second.worst:.3g}", second.worst]


def _missing(law: Record, quantity: str) -> str:
    missing = law["missing"]
    return str(missing.get(quantity) or missing.get("") or "no law")


def _general(reason: str) -> str:
    """A reason without the numbers of its cell, so that cells with the same reason meet."""
    text = re.split(r"; got |: width at most", reason)[0]
    text = re.sub(r"(order|from) h\^-?[\d.]+( h_L\^-?[\d.]+)?", r"\1 some power of h", text)
    text = re.sub(r"^`signal` \S+ has", "`signal` has", text)
    text = re.sub(r"`(target|noise|restriction)` ([a-z_-]+):\S+", r"`\1` \2", text)
    return re.sub(r" = \d\b", "", text)


def _short(value: Any) -> Any:
    """Numbers to `DIGITS` significant digits; what is not finite as None."""
    if isinstance(value, (list, tuple)):
        return [_short(v) for v in value]
    if isinstance(value, float):
        short = float(f"{value:.{DIGITS}g}")
        return short if abs(short) < float("inf") else None
    return value
