"""Audits of a study in words: cells of tables, and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradconv.rate_records import interval_text

Record = dict[str, Any]
QUANTITIES = ("rms_gap", "mean_gap")
GRAVE = ("breaks", "suspect")


def order_cell(rate: Record) -> str:
    """Order with its interval; the verdict where there is none."""
    if rate["order"] is None:
        return str(rate["verdict"])
    return f"{rate['order']:+.2f} {interval_text(rate)}".replace("-", "−")


def setting(records: Sequence[Record]) -> str:
    """Data, meshes and sample paths of all audits, in a sentence."""
    data = [r["data"] for r in records]
    signals = sorted({d["signal"] for d in data})
    coarsest, finest = min(min(d["levels"]) for d in data), max(max(d["levels"]) for d in data)
    fewer = sum(max(d["levels"]) < finest for d in data)
    less = ", fewer for some" if fewer else ""
    paths = sorted({r["replicates"] for r in records})
    types = sorted({d["dtype"] for d in data})
    dims = sorted({str(d["dim"]) for d in data})
    return (
        f"{'-, '.join(dims)}-D, signal {', '.join(signals)}, {coarsest} to {finest} cells an axis"
        f"{less}, {' to '.join(map(str, paths[:1] + paths[1:][-1:]))} sample paths, "
        f"{', '.join(types)}."
    )


def order_cells(record: Record, explained: bool) -> list[str]:
    """Cells of the table of orders."""
    rates, law = record["rates"], record["law"]
    derived = [law[q] for q in QUANTITIES]
    words = ["–" if v is None else f"{v:+.2f}".replace("-", "−") for v in derived]
    source = record["source"]
    return [
        record["module"] if source in record["module"] else f"{record['module']} ({source})",
        *([str(record["along"]["value"])] if record["along"] else []),
        record["case"],
        str(record["parameters"]),
        *(order_cell(rates[q]) for q in QUANTITIES),
        "–" if derived == [None, None] else ", ".join(words),
        record["verdict"],
        _aliasing(record["aliasing"]),
        *([_reasons(record["findings"])] if explained else []),
    ]


def _aliasing(found: Record | None) -> str:
    """Finest error and its order."""
    if found is None or found["values"][-1] is None:
        return "–"
    text = f"{found['values'][-1]:.1e}"
    text = text if found["order"] is None else f"{text}, order {found['order']:+.1f}"
    return text.replace("-", "−")


def _reasons(findings: Sequence[Record]) -> str:
    """Grave causes, each once, with the layers it is at."""
    grave: dict[str, list[str]] = {}
    for f in findings:
        if f["severity"] in GRAVE:
            grave.setdefault(f["cause"], []).append(f["layer"])
    return "; ".join(cause + _where(layers) for cause, layers in grave.items())


def _where(layers: list[str]) -> str:
    """Name the layers of a cause, the first two of many."""
    if layers == ["(module)"]:
        return ""
    more = f" and {len(layers) - 2} more" if len(layers) > 3 else ""
    return f" ({', '.join(layers[:2] if more else layers)}{more})"


def finding_lines(records: Sequence[Record]) -> list[str]:
    """Every finding, with the number that shows it."""
    return [
        f"{r['module']}, {r['case']}: {f['severity']}: {f['layer']}: {f['cause']}: {f['sentence']}"
        for r in records
        for f in r["findings"]
    ]


def sentences(records: Sequence[Record]) -> list[str]:
    """What was found: verdicts by case, or orders from one end of a range to the other."""
    if all(r["along"] for r in records):
        return _along(records)
    found = []
    for case in dict.fromkeys(r["case"] for r in records):
        own = [r for r in records if r["case"] == case]
        parts = []
        for verdict in dict.fromkeys(r["verdict"] for r in own):
            names = [r["module"] for r in own if r["verdict"] == verdict]
            parts.append(f"{verdict} for {len(names)} of {len(own)} ({'; '.join(names)})")
        found.append(f"{case}: the gap {', '.join(_verb(p) for p in parts)}.")
    return found


def _verb(text: str) -> str:
    """``undecided for …`` and ``exact for …`` with a verb."""
    return text if text.split()[0].endswith("s") else f"is {text}"


def series(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Records by module and case."""
    found: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        found.setdefault((r["module"], r["case"]), []).append(r)
    return found


def _along(records: Sequence[Record]) -> list[str]:
    found = []
    for (module, case), own in series(records).items():
        rates = [(r["along"]["value"], r["rates"]["rms_gap"]) for r in own]
        name = own[0]["along"]["name"]
        ends = [
            f"{order_cell(rate)} ({rate['verdict']}) at {name} {value}"
            for value, rate in (rates[:1] + rates[1:][-1:])
        ]
        text = f"{module}, {case}: order of the rms gap {' and '.join(ends)}"
        known = [rate for _, rate in rates if rate["order"] is not None]
        if len(known) > 1:
            lows = [r["order_interval"][0] for r in known if r["order_interval"][0] is not None]
            highs = [r["order_interval"][1] for r in known if r["order_interval"][1] is not None]
            low, high = max(lows, default=None), min(highs, default=None)
            if low is None or high is None or low <= high:
                shared = interval_text({"order_interval": (low, high)}).replace("-", "−")
                text += f"; orders {shared} lie in all {len(known)} intervals: no change is seen"
            else:
                text += f"; no order lies in all {len(known)} intervals: it changes"
        law = own[0]["law"]["rms_gap"]
        if law is not None:
            text += f"; law of a single layer {law:+.2f}".replace("-", "−")
        found.append(text + ".")
    return found
