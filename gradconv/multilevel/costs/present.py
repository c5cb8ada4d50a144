"""The document of ``gradconv cost`` as tables that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def plan_table(document: dict[str, Any]) -> Table:
    """Work units, depth, memory and cells, one row a plan."""
    header = ["plan", "steps", "work units", "ratio", "a step", "parallel depth", "memory"]
    header += ["cells drawn", "restricted"]
    rows = [
        [
            plan["name"],
            count(plan["steps"]),
            count(plan["work_units"]),
            times(plan["ratio"]),
            count(plan["work_units_per_step"]),
            count(plan["parallel_depth"]),
            count(plan["peak_samples"]),
            count(plan["cells_drawn_per_step"]),
            count(plan["cells_restricted_per_step"]),
        ]
        for plan in document["plans"]
    ]
    return _table("plans", header, rows)


def measured_table(document: dict[str, Any]) -> Table | None:
    """Operations, seconds and bytes by the measured costs of gradients, one row a plan."""
    measured = _measured(document)
    if not measured:
        return None
    header = ["plan"]
    for name in measured:
        header += [name, "ratio", "parallel"]
    rows = []
    for plan in document["plans"]:
        cells = [plan["name"]]
        for name in measured:
            write = operations if name == "flops" else duration
            ratio, parallel = plan[f"{name}_ratio"], plan[f"{name}_parallel"]
            cells += [write(plan[name]), times(ratio), write(parallel)]
        rows.append([*cells, size(plan["peak_bytes"])])
    return _table("plans, from measured gradients", [*header, "peak memory"], rows)


def level_table(document: dict[str, Any]) -> Table:
    """One row a level, coarse to fine."""
    rows = []
    measured = _measured(document)
    header = ["level", "n", "samples", "a gradient", "a term's sample", "a step"]
    header += ["flops", "order"] if measured else []
    header += ["seconds (least-most)"] if "seconds" in measured else []
    header += ["memory a sample", "beside"] if measured else []
    for level in document["levels"]:
        cells = [
            str(level["level"]),
            "-" if level["n"] is None else str(level["n"]),
            count(level["samples"]),
            *(f"{level[k]:.6g}" for k in ("gradient", "term", "work_units_per_step")),
        ]
        if measured:
            order = level["flops_order"]
            cells += [operations(level["flops"]), "-" if order is None else f"{order:+.2f}"]
        if "seconds" in measured:
            ends = "-".join(duration(end) for end in level["seconds_range"])
            cells.append(f"{duration(level['seconds'])} ({ends})")
        if measured:
            cells += [size(level["sample_bytes"]), size(level["fixed_bytes"])]
        rows.append(cells)
    return _table("levels, coarse to fine", header, rows)


def lines(document: dict[str, Any]) -> list[str]:
    """What the columns mean, the stages, and notes."""
    setup = document["provenance"]["configuration"]
    gamma = setup["dim"] if setup["gamma"] is None else setup["gamma"]
    place = "the finest mesh" if setup["noise_drawn"] == "finest" else "the term's fine mesh"
    found = [
        f"work units: one sample's gradient on the finest mesh is 1, on level l "
        f"2^(-{gamma:g}(L-l)); all gradients one after the other",
        "parallel depth: with a worker for every gradient; memory: of the largest pass, in samples "
        "on the finest mesh",
        f"cells: a step's, in fields of the finest mesh; noise is drawn on {place}",
    ]
    for plan in document["plans"]:
        if len(plan["stages"]) > 1:
            parts = " + ".join(count(stage["work_units"]) for stage in plan["stages"])
            found.append(f"{plan['name']}, stage by stage: {parts}")
    if _measured(document):
        found.append(
            "flops: convolutions, products of matrices and mesh-free layers, no pointwise "
            "operations; memory: beside weights and data"
        )
    return found + [f"note: {text}" for text in document["notes"]]


def _measured(document: dict[str, Any]) -> list[str]:
    levels = document["levels"]
    return [name for name in ("flops", "seconds") if levels[-1][name] is not None]


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    layout = Table(title=title, title_justify="left")
    for i, name in enumerate(header):
        layout.add_column(name, justify="right" if i else "left", no_wrap=not i)
    for cells in rows:
        layout.add_row(*cells)
    return layout


def count(value: float) -> str:
    """Write a number in full where it is whole, with spaces between thousands."""
    if value == round(value) and value < 1e15:
        return f"{round(value):,}".replace(",", " ")
    return f"{value:.4g}" if value < 1000 else f"{value:,.2f}".replace(",", " ")


def times(value: float | None) -> str:
    """Write a ratio."""
    return "-" if value is None else f"{value:.4g}x"


def operations(value: float) -> str:
    """Write operations with a prefix: 2.5 GFLOP."""
    return _scaled(value, 1000.0, [f"{p}FLOP" for p in PREFIXES])


def size(value: float) -> str:
    """Write bytes with a binary prefix: 1.5 MiB."""
    return _scaled(value, 1024.0, BINARY)


def duration(value: float) -> str:
    """Write seconds, minutes or hours."""
    if value < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 7200 else f"{value / 3600:.3g} h"


def _scaled(value: float, step: float, units: Sequence[str]) -> str:
    for unit in units:
        if abs(value) < step or unit == units[-1]:
            break
        value /= step
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
