"""An audit of an estimator as a JSON document and as lines for the terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gradconv.provenance import provenance
from gradconv.rate_records import number

if TYPE_CHECKING:
    from rich.table import Table

    from gradconv.audit.estimator.result import EstimatorAudit

SCHEMA = "gradconv.estimator-audit/1"
COLUMNS = ("term", "side", "n", "samples a step", "calls a step", "weight", "work units")
Record = dict[str, Any]


def document(audit: EstimatorAudit) -> Record:
    """Everything of an audit under the schema ``gradconv.estimator-audit/1``; NaN is None."""
    return {
        "schema": SCHEMA,
        "provenance": provenance(audit.configuration, audit.seed, audit.device, audit.dtype),
        "sound": audit.sound,
        "work": number(audit.work),
        "terms": [{**asdict(s), "weight": number(s.weight)} for s in audit.sides],
        "findings": [f.to_dict("term") for f in audit.findings],
        "notes": list(audit.notes),
    }


def table(found: Record) -> Table:
    """Lay the terms of a document out for the terminal."""
    from rich.table import Table
    from rich.text import Text

    layout = Table(
        title="terms of the estimator; weight: its part in the gradient, the finest level's is 1",
        title_justify="left",
    )
    for i, name in enumerate(COLUMNS):
        layout.add_column(name, justify="left" if i == 1 else "right", no_wrap=True)
    for side in found["terms"]:
        weight = "-" if side["weight"] is None else f"{side['weight']:+.3f}"
        cells = (
            str(side["term"]),
            side["kind"] + ("" if side["gradient"] else " (no gradient)"),
            str(side["n"]),
            f"{side['samples']:g}",
            f"{side['calls']:.3g}",
            weight,
            f"{side['work']:.4g}",
        )
        layout.add_row(*(Text(c) for c in cells))
    return layout


def verdict_line(found: Record) -> str:
    """Say in one line whether the loop is sound."""
    grave = [f for f in found["findings"] if f["severity"] != "note"]
    work = f"{found['work']:.4g} work units a step"
    if not grave:
        steps = found["provenance"]["configuration"]["steps"]
        return f"sound: no defect found in {steps} steps, {work}"
    causes = ", ".join(dict.fromkeys(f["cause"] for f in grave))
    return f"not sound: {causes}; {work}"
