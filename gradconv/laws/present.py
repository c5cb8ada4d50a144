"""Laws as records of the data contract, and as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.laws.law import Law, QuantityLaw
from gradconv.problem import QUANTITIES

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "gradconv.law/1"
Record = dict[str, Any]
LARGEST_TABLE = 128  # numbers that are written out
LONGEST = 150  # characters of a law that a table shows


def records(law: Law, fine_h: float) -> list[Record]:
    """One record a quantity; JSON values only.

    Parameters
    ----------
    law : Law
        What was derived.
    fine_h : float
        Mesh size of the data, for constants that contain it.
    """
    found = []
    for quantity in QUANTITIES:
        own = law.laws.get(quantity)
        found.append(
            {
                **law.problem.describe(),
                "quantity": quantity,
                "order": None if own is None or math.isinf(own.order) else own.order,
                "log": 0 if own is None else own.logs,
                "coefficient": None if own is None else own.coefficient(fine_h),
                "verdict": "undecided" if own is None else own.verdict,
                "expression": None if own is None else str(own.expression),
                "leading": None if own is None or not own.terms else str(own.written.parts[0]),
                "latex": None if own is None else own.latex,
                "symbols": {} if own is None else _symbols(own),
                "terms": []
                if own is None
                else [
                    {
                        "power": t.exponent,
                        "fine_power": t.fine_exponent,
                        "log": t.logs,
                        "coefficient": t.coefficient,
                        "origin": t.origin,
                    }
                    for t in own.terms
                ],
                "assumptions": [] if own is None else list(own.assumptions),
                "steps": [] if own is None else list(own.steps),
                "reason": law.missing.get(quantity, ""),
            }
        )
    return found


def _symbols(law: QuantityLaw) -> Record:
    """Value, meaning and definition of each symbol; small tables as nested lists in FFT order."""
    found: Record = {}
    for symbol, meaning in law.symbols.items():
        size = np.size(meaning.value)
        found[str(symbol)] = {
            "value": np.asarray(meaning.value).real.tolist() if size <= LARGEST_TABLE else None,
            "meaning": meaning.text,
            "definition": {str(left): str(right) for left, right in meaning.formulas},
        }
    return found


def table(found: list[Record]) -> Table:
    """Lay laws out for the terminal."""
    from rich.table import Table
    from rich.text import Text

    layout = Table(title="derived: q ~ C h^order, negative = divergence", title_justify="left")
    for name in ("kernel", "noise", "setting", "restriction", "target", "d", "quantity"):
        layout.add_column(name)
    layout.add_column("order", justify="right", no_wrap=True)
    layout.add_column("C", justify="right", no_wrap=True)
    layout.add_column("law")
    for r in found:
        order = "-" if r["order"] is None else f"{r['order']:+.4g}" + (" log" if r["log"] else "")
        constant = "-" if r["coefficient"] is None else f"{r['coefficient']:.6g}"
        text = Text(_law_text(r))  # brackets are no markup
        shown = ("kernel", "noise", "setting", "restriction", "target", "dim", "quantity")
        layout.add_row(*(str(r[name]) for name in shown), order, constant, text)
    return layout


def _law_text(record: Record) -> str:
    """The leading term if it is short; else its power, the steps have the rest."""
    if record["expression"] is None:
        return f"none: {record['reason']}"
    if record["leading"] is None:
        return str(record["expression"])
    if len(record["leading"]) <= LONGEST:
        return str(record["leading"])
    lead = record["terms"][0]
    text = f"C*h**{lead['power']:g}" + (
        f"*h_L**{lead['fine_power']:g}" if lead["fine_power"] else ""
    )
    return text + ("*log(1/h)" if lead["log"] else "") + ", C in --steps and --json"
