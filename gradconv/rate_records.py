"""Rates as records of the data contract, and as tables that people read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradconv.problem import CHOICES, MEANS, QUANTITIES
from gradconv.provenance import origin_line
from gradconv.tables import pipes

if TYPE_CHECKING:
    from rich.table import Table

    from gradconv.agreement import Agreement
    from gradconv.rates import Rate
    from gradconv.sweeps import Sweep

SCHEMA = "gradconv.sweep/1"
Record = dict[str, Any]


def records(sweep: Sweep, laws: Mapping[str, Agreement]) -> list[Record]:
    """One record a quantity, with the keys of the data contract; JSON values only.

    NaN and infinity (an order that no power describes) become None.

    Parameters
    ----------
    sweep : Sweep
        What was measured.
    laws : mapping of str to Agreement
        By quantity, what was derived and whether it goes through the data.
    """
    found = []
    for quantity in QUANTITIES:
        rate = sweep.rate(quantity)
        values, errors = sweep.sample.series(quantity)
        found.append(
            {
                **sweep.problem.describe(),
                "quantity": quantity,
                "h": [float(h) for h in sweep.mesh_sizes(quantity)],
                "values": [number(v) for v in values],
                "stderr": [number(e) for e in errors],
                **rate_record(rate),
                "replicates": sweep.sample.replicates,
                "exact": sweep.sample.exact and quantity in MEANS,
                "law": law_record(laws[quantity]),
                "notes": list(sweep.notes),
            }
        )
    return found


def rate_record(rate: Rate) -> Record:
    """Rate under the keys of ``gradconv sweep --json``."""
    return {
        "order": number(rate.order),
        "decay": decay(rate.order),
        "order_interval": [number(end) for end in rate.interval],
        "coefficient": number(rate.coefficient),
        "pairwise_orders": [number(q) for q in rate.pairwise],
        "window": [int(i) for i in rate.window],
        "verdict": rate.verdict,
        "reason": rate.reason,
    }


def law_record(law: Agreement) -> Record:
    """What was derived for a rate, and whether it agrees; JSON values only."""
    order = math.nan if law.order is None else law.order
    return {
        "order": number(order),
        "log": law.logs,
        "decay": decay(order),
        "coefficient": None if law.coefficient is None else number(law.coefficient),
        "agrees": law.agrees,
        "reason": law.reason,
        "values": [number(v) for v in law.values],
    }


def document(found: Sequence[Record], provenance: dict[str, Any]) -> dict[str, Any]:
    """Wrap records and provenance as the document of ``gradconv sweep --json``."""
    return {"schema": SCHEMA, "provenance": provenance, "rates": list(found)}


def decay(order: float) -> str:
    """How a finite, infinite or absent order describes the quantity."""
    if math.isfinite(order):
        return "algebraic"
    return "none" if math.isnan(order) else "faster than algebraic"


def number(value: float) -> float | None:
    """Value as JSON takes it: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def varying(found: Sequence[Record]) -> list[str]:
    """Return the choices that differ between records."""
    return [c for c in CHOICES if len({str(r[c]) for r in found}) > 1]


def constant(found: Sequence[Record]) -> str:
    """Return the choices that all records share, as one line."""
    changing = varying(found)
    shared = [c for c in CHOICES if c not in changing and found]
    return ", ".join(f"{c} {found[0][c]}" for c in shared)


def order_text(record: Record) -> str:
    """Signed order of a rate's record."""
    if record["order"] is None:
        return "any power" if record["decay"] == "faster than algebraic" else "-"
    return f"{record['order']:+.2f}"


def interval_text(record: Record) -> str:
    """Interval of an order; an end that is not bounded is written as infinite."""
    low, high = record["order_interval"]
    if low is None and high is None:
        return "-"
    ends = ("-inf" if low is None else f"{low:+.2f}", "inf" if high is None else f"{high:+.2f}")
    return f"[{ends[0]}, {ends[1]}]"


def _window(record: Record) -> str:
    first, last = record["window"]
    h = record["h"]
    if record["order"] is None or not 0 <= first <= last < len(h):
        return "-"
    return f"{round(1 / h[first])}-{round(1 / h[last])}"


def law_text(law: Record) -> str:
    """Derived order and what the full law says of the data: ``"-2 agrees"``."""
    words = []
    if law["order"] is not None:
        sign = "+" if law["order"] else ""
        words.append(f"{law['order']:{sign}.4g}" + (" log" if law["log"] else ""))
    elif law["decay"] == "faster than algebraic":
        words.append("zero" if not law["coefficient"] else "any power")
    if law["agrees"] is not None:
        words.append("agrees" if law["agrees"] else "DISAGREES")
    return " ".join(words) or "-"


COLUMNS = ("quantity", "order", "interval", "n of the fit", "law", "verdict")


def rows(found: Iterable[Record], choices: Sequence[str]) -> list[list[str]]:
    """Table cells of each record: the given choices, then `COLUMNS`."""
    return [
        [
            *(str(r[c]) for c in choices),
            r["quantity"].replace("_", " "),
            order_text(r),
            interval_text(r),
            _window(r),
            law_text(r["law"]),
            r["verdict"],
        ]
        for r in found
    ]


STYLES = {
    "converges": "green",
    "vanishes": "green",
    "exact": "green",
    "diverges": "bold red",
    "grows": "red",
    "stalls": "yellow",
    "undecided": "dim",
}


def table(found: Sequence[Record], quantities: Sequence[str] = QUANTITIES) -> Table:
    """Lay the records out for the terminal."""
    from rich.table import Table
    from rich.text import Text

    shown = [r for r in found if r["quantity"] in quantities]
    choices = varying(shown) or ["kernel"]
    layout = Table(
        title="signed orders: q ~ C h^order, negative = divergence; law: derived, not fitted",
        title_justify="left",
    )
    for name in (*choices, *COLUMNS):
        numeric = name in ("order", "interval", "n of the fit")
        narrow = numeric or name == "law"
        layout.add_column(name, justify="right" if numeric else "left", no_wrap=narrow)
    previous: list[str] | None = None
    for cells in rows(shown, choices):
        if previous is not None and previous != cells[: len(choices)]:
            layout.add_section()
        previous = cells[: len(choices)]
        verdict = Text(cells[-1], style=STYLES.get(cells[-1], ""))
        law = Text(cells[-2], style="bold red" if "DISAGREES" in cells[-2] else "")
        layout.add_row(*cells[:-2], law, verdict)
    return layout


def markdown(found: Sequence[Record], provenance: dict[str, Any]) -> str:
    """Lay the records out as a Markdown page with reasons, notes and provenance."""
    choices = varying(found) or ["kernel"]
    header = [*choices, *COLUMNS, "reason"]
    lines = [
        "# Signed orders of the gradient under mesh refinement",
        "",
        "Each quantity is fitted as q(h) = C h^order; a negative order is divergence. Law: the "
        "derived order, and whether the full law, at the mesh size of every level, goes through "
        "the data.",
        f"Shared by all rows: {constant(found)}.",
        "",
        *pipes(
            header,
            (
                [*cells, record["reason"]]
                for record, cells in zip(found, rows(found, choices), strict=True)
            ),
        ),
    ]
    notes = sorted({note for r in found for note in r["notes"]})
    if notes:
        lines += ["", "Notes:", "", *(f"- {note}" for note in notes)]
    laws = _law_reasons(found, choices)
    if laws:
        lines += ["", "Laws:", "", *(f"- {line}" for line in laws)]
    lines += ["", origin_line(provenance), ""]
    return "\n".join(lines)


def _law_reasons(found: Iterable[Record], choices: Sequence[str], known: bool = True) -> list[str]:
    """Why laws disagree or are not held against all levels; rates with one reason share a line."""
    grouped: dict[str, list[str]] = {}
    for r in found:
        law = r["law"]
        complete = law["agrees"] is True and None not in law["values"]
        if complete or not (known or law["agrees"] is False):
            continue
        label = " ".join([*(str(r[c]) for c in choices), r["quantity"].replace("_", " ")])
        word = {True: "in part", False: "disagrees", None: "not compared"}[law["agrees"]]
        grouped.setdefault(f"{word}: {law['reason']}", []).append(label)
    return [f"{reason} ({', '.join(labels)})" for reason, labels in grouped.items()]


def footnotes(found: Sequence[Record], quantities: Sequence[str] = QUANTITIES) -> list[str]:
    """Why records are undecided, and what else is worth a note."""
    choices = varying(found) or ["kernel"]
    lines = []
    for r in found:
        if r["verdict"] == "undecided" and r["quantity"] in quantities:
            label = ", ".join([*(str(r[c]) for c in choices), r["quantity"].replace("_", " ")])
            lines.append(f"undecided ({label}): {r['reason']}")
    shown = [r for r in found if r["quantity"] in quantities]
    lines += [f"law {line}" for line in _law_reasons(shown, choices, known=False)]
    notes: dict[str, list[str]] = {}
    for r in found:
        for note in r["notes"]:
            kernels = notes.setdefault(note, [])
            if r["kernel"] not in kernels:
                kernels.append(r["kernel"])
    lines += [f"note ({', '.join(kernels)}): {note}" for note, kernels in notes.items()]
    return lines
