"""The atlas as text: counts by kernel, every disagreement, explanations by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gradconv.atlas.cells import CHOICES
from gradconv.problem import QUANTITIES
from gradconv.tables import Table

if TYPE_CHECKING:
    import rich.table

Record = dict[str, Any]
STATUSES = ("agrees", "explained", "disagrees")
VERDICTS = ("converges", "stalls", "diverges", "exact", "undecided")
WORDS = {quantity: quantity.replace("_", " ") for quantity in QUANTITIES}


def family(cell: Record) -> str:
    """Name of a cell's kernel without its arguments."""
    return str(cell["kernel"]).partition(":")[0]


def verdict_of(cell: Record, quantity: str = "mean_gap") -> str:
    """Verdict on a quantity of a cell: the derived one, else what a fit says."""
    own = cell["quantities"][quantity]
    if "derived" in own:
        return str(own["derived"]["verdict"])
    return str(own.get("measured", {}).get("verdict", "undecided"))


def rows(document: Record) -> list[tuple[str, ...]]:
    """Counts by kernel: cells by status, and by verdict of the mean gap; last all of them."""
    status: dict[str, Counter[str]] = {}
    verdict: dict[str, Counter[str]] = {}
    for cell in document["cells"]:
        for name in (family(cell), "all"):
            status.setdefault(name, Counter())[cell["status"]] += 1
            verdict.setdefault(name, Counter())[verdict_of(cell)] += 1
    names = sorted(n for n in status if n != "all") + (["all"] if status else [])
    return [
        (
            name,
            str(sum(status[name].values())),
            *(str(status[name][s]) for s in STATUSES),
            *(str(verdict[name][v]) for v in VERDICTS),
        )
        for name in names
    ]


HEADER = ("kernel", "cells", *STATUSES, *VERDICTS)


def compared(document: Record) -> list[tuple[str, ...]]:
    """By quantity: comparisons of the full law, and of leading terms, with how many disagree."""
    found = []
    for quantity, word in WORDS.items():
        records = [c["quantities"][quantity] for c in document["cells"]]
        line = [word]
        for kind in ("values", "leading"):
            states = Counter(r[kind]["status"] for r in records if kind in r)
            line += [str(states["agrees"]), str(states["disagrees"])]
        found.append(tuple(line))
    return found


def reasons(document: Record) -> list[tuple[int, str, str]]:
    """Explanations with the number of cells and the quantities they concern, frequent ones first.

    Returns
    -------
    list of (cells, quantities, reason)
    """
    cells: dict[str, set[int]] = {}
    quantities: dict[str, set[str]] = {}
    for position, cell in enumerate(document["cells"]):
        for quantity, own in cell["quantities"].items():
            if own["status"] == "explained":
                cells.setdefault(own["reason"], set()).add(position)
                quantities.setdefault(own["reason"], set()).add(quantity)
    ordered = sorted(cells, key=lambda reason: (-len(cells[reason]), reason))
    return [
        (len(cells[r]), ", ".join(w for q, w in WORDS.items() if q in quantities[r]), r)
        for r in ordered
    ]


def disagreements(document: Record) -> Iterator[str]:
    """Every quantity of every cell that disagrees, one line each."""
    for cell in document["cells"]:
        for quantity, own in cell["quantities"].items():
            if own["status"] == "disagrees":
                name = ", ".join(f"{c} {cell[c]}" for c in CHOICES)
                yield f"{name}, {WORDS[quantity]}: {own['reason']}"


def table(document: Record) -> rich.table.Table:
    """Counts for the terminal."""
    import rich.table

    layout = rich.table.Table(title="atlas: cells by status, and by verdict on the mean gap")
    layout.title_justify = "left"
    for name in HEADER:
        layout.add_column(name, justify="left" if name == "kernel" else "right")
    for row in rows(document):
        layout.add_row(*row, style="bold" if row[0] == "all" else None)
    return layout


def tables(document: Record) -> list[Table]:
    """Counts, comparisons, disagreements if there are any, and explanations if there are any."""
    found = [
        Table(
            "cells",
            "Cells by kernel: whether law and measurement agree, and the verdict on the mean gap.",
            HEADER,
            tuple(rows(document)),
        ),
        Table(
            "comparisons",
            "Comparisons with the full law, and of leading terms, by quantity.",
            ("quantity", "full law agrees", "disagrees", "leading term agrees", "disagrees"),
            tuple(compared(document)),
        ),
    ]
    wrong = tuple((line,) for line in disagreements(document))
    if wrong:
        found.append(Table("disagreements", "What disagrees.", ("quantity of a cell",), wrong))
    why = tuple((str(count), names, reason) for count, names, reason in reasons(document))
    if why:
        caption = "Why quantities are explained: measured, but without a law to hold them against."
        found.append(Table("explained", caption, ("cells", "quantities", "reason"), why))
    return found


def markdown(document: Record) -> str:
    """All of it as Markdown."""
    head = f"# Atlas\n\n{document['problems']} distinct problems.\n"
    return "\n".join([head, *(table.markdown() for table in tables(document))])
