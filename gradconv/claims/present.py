"""The ledger as tables that people read: terminal, Markdown, LaTeX. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradconv.claims.claim import Record
from gradconv.claims.rules import label, separate
from gradconv.provenance import origin_line
from gradconv.tables import Table

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable

STYLES = {
    "reproduced": "green",
    "sharpened": "bold green",
    "holds only if": "yellow",
    "not reproduced": "bold red",
    "not yet measured": "dim",
}
HEADER = ("#", "claim", "law", "measured", "verdict")
NONE = "–"
UNDECIDED_SHOWN = 3  # cases of a claim at the terminal; tables in files have all


def law_lines(claim: Record) -> list[str]:
    """Say in a few lines what the law is, or what is required of stored evidence.

    Parameters
    ----------
    claim : dict
        A claim of the ledger's document.
    """
    laws = claim["law"]
    orders = [r for r in laws if "order" in r]
    lines = [f"{where}: h^{formula}" for where, formula, _ in _groups(orders)] if orders else []
    expressions = {r["expression"]: r for r in laws if "expression" in r and "order" not in r}
    for text, record in expressions.items():
        same = [r["choices"] for r in laws if r.get("expression") == text]
        other = [r["choices"] for r in laws if r.get("expression") != text]
        where = separate(same, other) if other else ""
        lines.append(f"{where or record['case']}: {_power(text)}")
    lines += list(dict.fromkeys(r["statement"] for r in laws if "statement" in r))
    without = sum(1 for r in laws if r.get("missing"))
    if without:
        lines.append(f"none derived for {without} of {len(laws)} cases")
    return lines or [NONE]


def measured_lines(claim: Record) -> list[str]:
    """Say in a few lines what was measured.

    Parameters
    ----------
    claim : dict
        A claim of the ledger's document.
    """
    measured = claim["measurement"]
    lines = []
    orders = [m for m in measured if m.get("order") is not None and "value" not in m]
    for where, _, ranges in _groups(orders) if orders else ():
        lines.append(f"{where}: {ranges}")
    for grade, text in (("holds", "at most"), ("fails", "up to")):
        found = [m["value"] for m in measured if "cells" in m and m["grade"] == grade]
        if found:
            word = "resolved" if grade == "holds" else "not resolved"
            lines.append(f"impulse, {word}: difference {text} {max(found):.1e}")
    values: dict[str, list[Record]] = {}
    for m in measured:
        if "value" in m and "cells" not in m:
            values.setdefault(m["quantity"], []).append(m)
    for quantity, found in values.items():
        lines += [m["text"] for m in found] if len(found) <= 2 else [_range(quantity, found)]
    return lines or [NONE]


def _range(quantity: str, found: Sequence[Record]) -> str:
    """Range of many stored values, and how many of them say what of the claim."""
    grades = [m["grade"] for m in found]
    counts = ", ".join(f"{grades.count(g)} {g}" for g in dict.fromkeys(grades))
    low, high = min(m["value"] for m in found), max(m["value"] for m in found)
    name = quantity.replace("_", " ")
    return f"{name}: {low:.4g} to {high:.4g} in {len(found)} cases ({counts})"


def _groups(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Rows of equal orders: where they are, the order as a formula in d, and its range by d."""
    rows: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for record in records:
        if record["order"] is None:
            continue
        rest = tuple((k, v) for k, v in record["choices"].items() if k not in ("dim", "model"))
        rows.setdefault(rest, {})[record["choices"].get("dim", "")] = record["order"]
    groups: dict[tuple[tuple[str, float], ...], list[tuple[tuple[str, str], ...]]] = {}
    for rest, orders in rows.items():
        key = tuple((dim, _near(order)) for dim, order in sorted(orders.items()))
        groups.setdefault(key, []).append(rest)
    found = []
    for key, members in groups.items():
        inside = [dict(m) for m in members]
        outside = [dict(m) for m in rows if m not in members]
        where = separate(inside, outside) if outside else "everywhere"
        if where is None:
            where = "; ".join(label(c) for c in inside)
        ranges = []
        for dim, _ in key:
            values = sorted(rows[m][dim] for m in members)
            low, high = f"{values[0]:+.2f}", f"{values[-1]:+.2f}"
            ranges.append(
                (f"d = {dim}: " if dim else "") + (low if low == high else f"{low} to {high}")
            )
        found.append((where, formula(dict(key)), ", ".join(ranges)))
    return found


def _near(order: float) -> float:
    """Nearest half, where an order is within the scatter of the fits of it."""
    half = round(2.0 * order) / 2.0
    return half if abs(order - half) <= 0.15 else round(order, 2)


def formula(orders: Mapping[str, float]) -> str:
    """Write orders by dimension as one expression: ``"2"``, ``"-d"``, ``"d/2"``.

    Parameters
    ----------
    orders : mapping of str to float
        Order by dimension.
    """
    values = set(orders.values())
    if len(values) == 1:
        return f"{values.pop():g}"
    slopes = {order / float(dim) for dim, order in orders.items() if dim}
    known = {1.0: "d", -1.0: "-d", 0.5: "d/2", -0.5: "-d/2"}
    if len(slopes) == 1 and (slope := slopes.pop()) in known:
        return known[slope]
    return ", ".join(f"{order:g} (d = {dim})" for dim, order in orders.items())


def verdict_text(claim: Record) -> str:
    """Verdict with its condition, as one line."""
    if not claim["condition"]:
        return str(claim["verdict"])
    sign = " " if claim["verdict"] == "holds only if" else ": "
    return f"{claim['verdict']}{sign}{claim['condition']}"


def table(document: Record) -> TerminalTable:
    """Lay the ledger out for the terminal."""
    from rich.table import Table as TerminalTable
    from rich.text import Text

    layout = TerminalTable(
        title="claims of arXiv 2501.12739", title_justify="left", show_lines=True
    )
    for name, ratio in zip(HEADER[1:], (5, 5, 5, 4), strict=True):
        if name == "claim":
            layout.add_column(HEADER[0], justify="right", no_wrap=True)
        layout.add_column(name, ratio=ratio, overflow="fold")
    for claim in document["claims"]:
        source = f"{claim['source']['version']}: {claim['source']['place']}"
        title = Text.assemble(claim["title"], "\n", (f"{claim['id']}; {source}", "dim"))
        verdict = Text(verdict_text(claim), style=STYLES.get(claim["verdict"], ""))
        if claim["verdict"] != "not yet measured":
            verdict.stylize("not bold", len(claim["verdict"]))
        layout.add_row(
            str(claim["number"]),
            title,
            Text("\n".join(law_lines(claim))),
            Text("\n".join(measured_lines(claim))),
            verdict,
        )
    return layout


def footnotes(document: Record) -> list[str]:
    """Notes of all claims, one a line; of undecided cases the first few of each claim."""
    found = []
    for claim in document["claims"]:
        notes = claim["notes"]
        undecided = [note for note in notes if note.startswith("undecided: ")]
        left_out = set(undecided[UNDECIDED_SHOWN:])
        shown = [note for note in notes if note not in left_out]
        if left_out:
            shown.append(f"{len(left_out)} more undecided cases; `-o DIR` writes all of them")
        found += [f"{claim['number']}. {note}" for note in shown]
    return found


def ledger_table(document: Record, links: bool = False) -> Table:
    """Lay the ledger out as one table of all claims.

    Parameters
    ----------
    document : dict
        What `gradconv.claims.ledger.ledger` gives.
    links : bool
        Whether titles are links to the sections of a page.
    """
    rows = []
    for claim in document["claims"]:
        title = f"[{claim['title']}](#{claim['id']})" if links else claim["title"]
        source = f"{claim['source']['version']}: {claim['source']['place']}"
        rest = verdict_text(claim)[len(claim["verdict"]) :]
        rows.append(
            (
                str(claim["number"]),
                f"{title} ({source})",
                "\n".join(law_lines(claim)),
                "\n".join(measured_lines(claim)),
                f"**{claim['verdict']}**{rest}",
            )
        )
    return Table(
        name="claims",
        caption=(
            "Claims of arXiv 2501.12739, and what becomes of them. A verdict is computed from the "
            "numbers by a rule; law: the gap of neighbouring levels as a power of the mesh size h "
            "in d dimensions, a negative power is divergence."
        ),
        header=HEADER,
        rows=tuple(rows),
        widths=(0.0, 0.24, 0.22, 0.22, 0.18),
    )


def markdown(document: Record) -> str:
    """Lay the ledger out as a Markdown page: one table of all claims, then each with its cases."""
    lines = ["# Claims of arXiv 2501.12739", "", ledger_table(document, links=True).markdown()]
    for claim in document["claims"]:
        lines += _section(claim)
    lines += ["", origin_line(document["provenance"]), ""]
    return "\n".join(lines)


def _section(claim: Record) -> list[str]:
    lines = [
        f'<a id="{claim["id"]}"></a>',
        "",
        f"## {claim['number']}. {claim['title']}",
        "",
        claim["statement"],
        "",
        f"Verdict: {verdict_text(claim)}.",
        "",
        *(f"- {note}" for note in claim["notes"]),
        "",
    ]
    if claim["measurement"]:
        lines.append(cases_table(claim).markdown())
    return [*lines, f"![{claim['title']}]({claim['id']}.png)", ""]


def cases_table(claim: Record) -> Table:
    """Lay out every case of a claim: its law, its measurement and what the two say.

    Parameters
    ----------
    claim : dict
        A claim of the ledger's document, with measurements.
    """
    laws = {r["case"]: r for r in claim["law"] if "case" in r}
    return Table(
        name=claim["id"],
        caption=f"Cases of claim {claim['number']}: {claim['title']}.",
        header=("case", "law", "measured", "says of the claim"),
        rows=tuple(
            (
                m["case"],
                law_text(laws[m["case"]]),
                m["text"].removeprefix(f"{m['case']}: "),
                m["grade"],
            )
            for m in claim["measurement"]
        ),
        widths=(0.3, 0.22, 0.3, 0.1),
    )


def law_text(law: Record) -> str:
    """Write one law: the order with its constant, the value of an expression, or a statement."""
    if law.get("statement"):
        return str(law["statement"])
    if law.get("missing"):
        return "none derived"
    if "value" in law:
        return f"{_power(law['expression'])} = {law['value']:.1e}"
    if law.get("order") is None:
        return str(law["verdict"])
    return f"{law['coefficient']:.3g} h^{law['order']:g}"


def latex(document: Record) -> str:
    """Lay the ledger out as a LaTeX table (packages array, booktabs, longtable)."""
    return ledger_table(document).latex() + "% " + origin_line(document["provenance"]) + "\n"


def _power(expression: str) -> str:
    """An expression with the signs of print: a star in Markdown is none of multiplication."""
    return expression.replace("**", "^").replace("*", "·")
