"""An audit as a JSON document, as tables, and as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradconv.audit.figure import said
from gradconv.audit.findings import finding_lines
from gradconv.problem import QUANTITIES, mesh_sizes
from gradconv.provenance import origin_line, provenance
from gradconv.rate_records import STYLES, interval_text, number, order_text, rate_record
from gradconv.store import write_atomically, write_figure
from gradconv.tables import pipes

if TYPE_CHECKING:
    from rich.table import Table

    from gradconv.audit.result import Audit

SCHEMA = "gradconv.audit/1"
COLUMNS = ("group", "type", "parameters", "rms gap", "interval", "mean gap", "interval", "verdict")
Record = dict[str, Any]


def document(audit: Audit) -> Record:
    """Everything of an audit under the schema ``gradconv.audit/1``; NaN and infinity are None."""
    return {
        "schema": SCHEMA,
        "provenance": provenance(audit.configuration, audit.seed, audit.device, audit.dtype),
        "verdict": audit.verdict,
        "rates": list(_rates(audit)),
        "levels": list(_levels(audit)),
        "aliasing": _aliasing(audit),
        "findings": [f.to_dict("layer") for f in audit.findings],
        "notes": list(audit.notes),
    }


def _rates(audit: Audit) -> Iterable[Record]:
    for group in audit.groups:
        for quantity in QUANTITIES:
            values, errors = audit.series(quantity, group.name)
            h = mesh_sizes(quantity, audit.hierarchy.h)
            yield {
                "group": group.name,
                "kind": group.kind,
                "type": group.type,
                "parameters": group.size,
                "quantity": quantity,
                "h": [float(v) for v in h],
                "values": [number(v) for v in values],
                "stderr": [number(e) for e in errors],
                **rate_record(audit.rate(quantity, group.name)),
            }


def _levels(audit: Audit) -> Iterable[Record]:
    """Yield what has no rate: bias and cosine to the finest level."""
    for group in audit.groups:
        record: Record = {"group": group.name}
        for quantity in ("bias", "cosine"):
            values, errors = audit.series(quantity, group.name)
            record[quantity] = [number(v) for v in values]
            record[f"{quantity}_stderr"] = [number(e) for e in errors]
        yield record


def _aliasing(audit: Audit) -> Record | None:
    if audit.aliasing is None:
        return None
    rate = audit.aliasing_rate
    assert rate is not None
    return {
        "modes": audit.aliasing.modes,
        "paths": len(audit.aliasing.squares),
        "h": [float(v) for v in audit.aliasing.h],
        "values": [number(v) for v in audit.aliasing.values],
        "stderr": [number(e) for e in audit.aliasing.stderr],
        **rate_record(rate),
    }


def rows(found: Record, kinds: Sequence[str]) -> list[list[str]]:
    """Cells of the table: one row a group of the given kinds, under `COLUMNS`."""
    by_group: dict[str, dict[str, Record]] = {}
    for record in found["rates"]:
        if record["kind"] in kinds:
            by_group.setdefault(record["group"], {})[record["quantity"]] = record
    cells = []
    for group, quantities in by_group.items():
        rms, mean = quantities["rms_gap"], quantities["mean_gap"]
        words = [rms["verdict"]]
        if mean["verdict"] != rms["verdict"]:
            words.append(f"mean: {mean['verdict']}")
        cells.append(
            [
                group,
                rms["type"],
                str(rms["parameters"]),
                order_text(rms),
                interval_text(rms),
                order_text(mean),
                interval_text(mean),
                ", ".join(words),
            ]
        )
    return cells


def table(found: Record, kinds: Sequence[str] = ("whole", "layer")) -> Table:
    """Lay the rates out for the terminal.

    Parameters
    ----------
    found : dict
        A document of `document`.
    kinds : sequence of {"whole", "layer", "parameter"}
        Which groups to show.
    """
    from rich.table import Table
    from rich.text import Text

    layout = Table(
        title="signed orders of the gradient's gaps: q ~ C h^order, negative = divergence",
        title_justify="left",
    )
    for i, name in enumerate(COLUMNS):
        numeric = 2 <= i <= 6
        layout.add_column(name, justify="right" if numeric else "left", no_wrap=numeric)
    for cells in rows(found, kinds):
        style = STYLES.get(cells[-1].partition(",")[0], "")
        layout.add_row(*(Text(c) for c in cells[:-1]), Text(cells[-1], style=style))
    return layout


def aliasing_line(found: Record) -> str:
    """Operator-aliasing error in one line; empty where it was not measured."""
    aliasing = found["aliasing"]
    if aliasing is None:
        return ""
    values = ", ".join(
        f"{v:.2g} (n={round(1 / h)})"
        for v, h in zip(aliasing["values"], aliasing["h"], strict=True)
    )
    order = f"order {order_text(aliasing)} {interval_text(aliasing)}, " if aliasing["order"] else ""
    return f"operator aliasing, relative: {values}; {order}{aliasing['verdict']}"


def undecided_lines(found: Record) -> list[str]:
    """Why the whole's gaps are undecided, where they are."""
    return [
        f"undecided ({r['group']}, {r['quantity'].replace('_', ' ')}): {r['reason']}"
        for r in found["rates"]
        if r["kind"] == "whole" and r["verdict"] == "undecided" and r["quantity"].endswith("gap")
    ]


def markdown(found: Record) -> str:
    """Lay an audit out as a Markdown page."""
    setup = found["provenance"]["configuration"]
    shared = ", ".join(f"{k} {v}" for k, v in setup.items() if not isinstance(v, (list, dict)))
    lines = [
        f"# Audit of {setup['module']}: its gradient {said(found['verdict'])}",
        "",
        "Gaps between the gradients of neighbouring meshes are fitted as q(h) = C h^order; a "
        "negative order is divergence.",
        "",
        f"{shared}; cells an axis {', '.join(map(str, setup['levels']))}.",
        "",
        *pipes(COLUMNS, rows(found, ("whole", "layer", "parameter"))),
    ]
    for title, entries in (
        ("Undecided", undecided_lines(found)),
        ("Findings", finding_lines(found, "layer")),
        ("Aliasing", [aliasing_line(found)] if found["aliasing"] else []),
        ("Notes", found["notes"]),
    ):
        if entries:
            lines += ["", f"{title}:", "", *(f"- {entry}" for entry in entries)]
    lines += ["", origin_line(found["provenance"]), ""]
    return "\n".join(lines)


def write(audit: Audit, folder: Path) -> None:
    """Write ``audit.json``, ``audit.nc``, ``table.md`` and the figure into a folder."""
    from gradconv.audit.figure import audit_figure

    found = document(audit)
    write_atomically(folder / "audit.json", (json.dumps(found, allow_nan=False) + "\n").encode())
    write_atomically(folder / "table.md", markdown(found).encode())
    write_atomically(folder / "audit.nc", bytes(audit.data.to_netcdf(engine="h5netcdf")))
    figure = audit_figure(found)
    write_figure(folder / "figure", figure)
