"""The atlas: every combination of choices, derived and measured, as ``gradconv atlas`` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradconv.atlas import present
from gradconv.atlas.build import atlas
from gradconv.atlas.cache import digest
from gradconv.atlas.cells import CHOICES, REPLICATES, enumerate_cells, names
from gradconv.atlas.critical import POINTS, SHARES, critical_series
from gradconv.atlas.figures import critical_figure, phase_figure
from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.figures import Style
from gradconv.studies.kinds.base import (
    KINDS,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.tables import Table

LEAST = 8  # sample paths: fewer give a variance no interval
OTHERS = ("replicates", "seed", "exponents", "measured_exponents")


@KINDS.register("atlas")
class AtlasStudy(StudyKind):
    """Lists of kernels, noises and so on; what is absent is everything that is registered.

    Part ``atlas`` has the cells, part ``critical`` orders against the exponent of power-law noise
    (in shares of d: `exponents` derived, `measured_exponents` measured).
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        for name in choices:
            if name not in (*CHOICES, *OTHERS):
                raise unknown_name("choice of an atlas", name, (*CHOICES, *OTHERS))
        sampled = {
            "replicates": check_whole("replicates", choices.get("replicates", REPLICATES), LEAST),
            "seed": check_whole("seed", choices.get("seed", 0), 0),
        }
        known = names()
        chosen = {c: _texts(c, choices.get(c, known[c])) for c in CHOICES}
        cells = enumerate_cells(chosen)
        return {
            "atlas": {
                **chosen,
                # what a name stands for is part of the question
                "cells": digest([cell.describe() for cell in cells]),
                "count": len(cells),
                **sampled,
            },
            "critical": {
                "dim": sorted({cell.dim for cell in cells}),
                "exponents": _shares("exponents", choices.get("exponents", SHARES)),
                "measured_exponents": _shares(
                    "measured_exponents", choices.get("measured_exponents", POINTS)
                ),
                **sampled,
            },
        }

    def measure(self, part: Record, work: Workplace) -> Record:
        if "cells" not in part:
            series = critical_series(
                tuple(part["dim"]),
                part["replicates"],
                part["seed"],
                work.workers,
                shares=tuple(part["exponents"]),
                points=tuple(part["measured_exponents"]),
                progress=work.progress,
            )
            return {"series": series}
        document = atlas(
            enumerate_cells({c: part[c] for c in CHOICES}),
            cache=work.folder,
            workers=work.workers,
            seed=part["seed"],
            replicates=part["replicates"],
            progress=work.progress,
        )
        return {key: document[key] for key in ("signal", "problems", "quantile", "cells")}

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        document, series = results["atlas"], results["critical"]["series"]
        return [
            StudyFigure(
                name="phase",
                caption=(
                    "Where the mean gap of the gradient converges, stalls and diverges: a panel a "
                    "kernel, a row a noise, a column a restriction, in groups of setting and "
                    "dimension; target: identity. Colour is the signed order, derived where "
                    "there is a law, else measured; a triangle marks cells in which another target "
                    "goes another way."
                ),
                alternative=_verdicts(document),
                drawing=phase_figure(document, style),
            ),
            StudyFigure(
                name="critical",
                caption=(
                    "Signed order of the mean gap and of its standard deviation against the "
                    "exponent α of power-law noise, S(k) ∝ |k|^{−α}, under averaging. Lines: "
                    "derived; markers: measured, with 95 % intervals; dotted: where a derived "
                    "order changes sign, the critical exponent."
                ),
                alternative=" ".join(_transitions(series)),
                drawing=critical_figure(series, style),
            ),
        ]

    def tables(self, results: Results) -> list[Table]:
        return [*present.tables(results["atlas"]), _critical_table(results["critical"]["series"])]

    def summary(self, results: Results) -> list[str]:
        document = results["atlas"]
        cells = document["cells"]
        wrong = sum(cell["status"] == "disagrees" for cell in cells)
        counts = [
            f"{agree} of {int(agree) + int(no)} {word}s"
            for word, agree, no, *_ in present.compared(document)
        ]
        return [
            f"{len(cells)} cells, {document['problems']} distinct problems; "
            f"{wrong or 'none'} with a disagreement between law and measurement.",
            f"The full law goes through {', '.join(counts)} that it is compared with.",
            _verdicts(document),
            *_transitions(results["critical"]["series"]),
        ]


def _verdicts(document: Record) -> str:
    """Verdicts on the mean gap, by kernel."""
    found = []
    for row in present.rows(document)[:-1]:
        counts = dict(zip(present.HEADER, row, strict=True))
        words = [f"{v} in {counts[v]}" for v in present.VERDICTS if counts[v] != "0"]
        found.append(f"{row[0]} {', '.join(words)} of {counts['cells']} cells")
    return f"Mean gap by kernel: {'; '.join(found)}."


def _transitions(series: Sequence[Record]) -> list[str]:
    """Where orders change sign, a sentence a kernel and quantity."""
    found = []
    for kernel in dict.fromkeys(s["kernel"] for s in series):
        for quantity in dict.fromkeys(s["quantity"] for s in series):
            own = [s for s in series if (s["kernel"], s["quantity"]) == (kernel, quantity)]
            word = present.WORDS[quantity]
            where = _where(own)
            if where:
                found.append(f"{kernel}: the order of the {word} changes sign at {where}.")
                continue
            orders = [order for s in own for order in s["order"]]
            if orders:
                low, high = (f"{e:+.3g}".replace("-", "−") for e in (min(orders), max(orders)))
                found.append(
                    f"{kernel}: the order of the {word} changes sign nowhere ({low} to {high})."
                )
    return found


def _where(series: Sequence[Record]) -> str:
    """Critical exponents as shares of d, with the settings and dimensions that have them."""
    cases: dict[float, list[str]] = {}
    for s in series:
        for zero in s["zeros"]:
            cases.setdefault(round(zero / s["dim"], 4), []).append(f"{s['setting']} d = {s['dim']}")
    simple = {1.0: "d", 0.5: "d/2"}
    found = []
    for share, own in sorted(cases.items()):
        where = "in every case" if len(own) == len(series) else ", ".join(own)
        found.append(f"α = {simple.get(share, f'{share:.3g} d')} ({where})")
    return "; ".join(found)


def _critical_table(series: Sequence[Record]) -> Table:
    rows = []
    for s in series:
        held = [_on_line(s, point) for point in s["points"]]
        inside = [h for h in held if h is not None]
        rows.append(
            (
                s["kernel"],
                s["setting"],
                str(s["dim"]),
                present.WORDS[s["quantity"]],
                ", ".join(f"{zero:.3g}" for zero in s["zeros"]) or "none",
                f"{sum(inside)} of {len(inside)}" if inside else "not measured",
            )
        )
    return Table(
        "critical",
        "Critical exponents of power-law noise under averaging: α at which the derived order "
        "changes sign, and how many 95 % intervals of measured orders hold the derived one.",
        ("kernel", "setting", "d", "quantity", "critical α", "intervals that hold the order"),
        tuple(rows),
        notes=(
            "Measured orders are fits on few meshes, and the derived ones those in the limit: what "
            "is not yet small beside the leading term moves the first, not the second.",
        ),
    )


def _on_line(record: Record, point: Record) -> bool | None:
    """Whether an interval holds the derived order; None if it is not derived there."""
    derived = dict(zip(record["alpha"], record["order"], strict=True)).get(point["alpha"])
    low, high = point["interval"]
    return None if derived is None else bool(low <= derived <= high)


def _texts(name: str, value: Any) -> list[str]:
    found = list(value) if isinstance(value, (list, tuple)) else None
    if not found or not all(isinstance(v, str) or (name == "dim" and _dim(v)) for v in found):
        raise InputError(f"`{name}` must be a list of names; got {shortened(value)}")
    return [str(v) for v in found]


def _dim(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shares(name: str, value: Any) -> list[float]:
    found = list(value) if isinstance(value, (list, tuple)) else []
    numbers = [v for v in found if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if not found or len(numbers) < len(found) or not all(0 < v < 2 for v in numbers):
        raise InputError(f"`{name}` must be shares of d between 0 and 2; got {shortened(value)}")
    if sorted(set(numbers)) != numbers:
        raise InputError(f"`{name}` must increase; got {shortened(value)}")
    return [float(v) for v in numbers]
