"""A forecast of a training run as a table and as lines for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradconv.multilevel.costs.present import count, duration, operations, size, times

if TYPE_CHECKING:
    from rich.table import Table

Record = dict[str, Any]
COLUMNS = (
    ("work", "work units", count),
    ("flops", "FLOPs", operations),
    ("seconds", "seconds", duration),
    ("parallel_depth", "parallel depth", count),
    ("cells_drawn", "cells drawn", lambda value: f"{value:.3g}"),
    ("peak_bytes", "largest pass", size),
)


def forecast_table(document: Record) -> Table:
    """One row a leg, then all of them, single-scale training, and the ratio.

    Parameters
    ----------
    document : dict
        Of `gradconv.train.forecast.forecast`.
    """
    from rich.table import Table

    shown = [key for key, _, _ in COLUMNS if document["totals"][key] is not None]
    columns = [column for column in COLUMNS if column[0] in shown]
    layout = Table(title=f"{document['strategy']}: expected cost", title_justify="left")
    layout.add_column("leg", no_wrap=True)
    layout.add_column("a step")
    for heading in ("steps", "samples a step", "work a step"):
        layout.add_column(heading, justify="right")
    for _, heading, _ in columns:
        layout.add_column(heading, justify="right")
    dim = document["dim"]
    for place, leg in enumerate(document["legs"]):
        most = "≤ " if leg["stopping"] else ""
        layout.add_row(
            f"{place}, {_mesh(leg['n'], dim)}",
            terms_text(leg, dim),
            most + count(leg["steps"]),
            count(leg["samples_per_step"]),
            count(leg["work_per_step"]),
            *(write(leg[key]) for key, _, write in columns),
        )
    layout.add_section()
    for name, record in (("all", document["totals"]), ("single", document["single"])):
        sums = (_or_dash(record[key], write) for key, _, write in columns)
        layout.add_row(name, "", count(record["steps"]), "", "", *sums)
    ratios = document["ratio"]
    layout.add_row("ratio", "", times(ratios["steps"]), "", "", *(times(ratios[k]) for k in shown))
    return layout


def forecast_lines(document: Record) -> list[str]:
    """What the columns mean.

    Parameters
    ----------
    document : dict
        Of `gradconv.train.forecast.forecast`.
    """
    alone, legs = document["single"], document["legs"]
    finest = _mesh(document["levels"][-1], document["dim"])
    found = [
        f"work units: one sample's gradient on the finest mesh, {finest}, is 1; parallel depth: "
        "with a worker for every gradient, in work units",
        f"single: {count(alone['steps'])} steps of {count(alone['samples_per_step'])} samples on "
        f"{finest}; ratio: single over {document['strategy']}",
    ]
    if document["accumulation"] > 1:
        found.append(f"{document['accumulation']} estimates of the gradient a step")
    if any(leg["stopping"] for leg in legs):
        found.append("≤: a leg whose loss stalls ends before; the costs are those of all its steps")
    if any(leg["crops"] for leg in legs):
        found.append("crops are cut from samples of the finest mesh and resized")
    if document["totals"]["flops"] is not None:
        found.append(
            "FLOPs: convolutions, products of matrices and mesh-free layers, no pointwise "
            "operations; largest pass: beside weights and data"
        )
    return found


def terms_text(leg: Record, dim: int) -> str:
    """Write what a step computes: ``128 on 8², 64 on 16² − 8²``."""
    parts = []
    for term in leg["terms"]:
        fine = _mesh(term["n"], dim)
        minus = f" − {_mesh(term['n'] // 2, dim)}" if term["corrects"] else ""
        parts.append(f"{count(term['samples'])} on {fine}{minus}")
    if leg["crops"]:
        low, high = leg["crops"]
        parts.append(f"crops of {low:.0%}–{high:.0%}")
    return ", ".join(parts)


def _mesh(n: int, dim: int) -> str:
    return f"{n}{('', '²', '³')[dim - 1]}"


def _or_dash(value: float | None, write: Any) -> str:
    return "-" if value is None else write(value)
