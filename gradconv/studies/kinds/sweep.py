"""Sweeps of h: gaps of the gradient with their laws, as ``gradconv sweep`` measures them."""

from __future__ import annotations

import re
from typing import Any

from gradconv import rate_records
from gradconv.config import AXES, SweepConfig, option_names
from gradconv.errors import InputError, LawError, shortened, unknown_name
from gradconv.figures import Style
from gradconv.laws import derive
from gradconv.plots import gap_figure
from gradconv.problem import CHOICES
from gradconv.runner import run
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.tables import Table
from gradconv.wording import number_cell, problem_words

USUAL = {"boundary": "periodic", "route": "chain", "channels": 1}
QUANTITIES = ("mean_gap", "rms_gap")


@KINDS.register("sweep")
class SweepStudy(StudyKind):
    """Every table under ``case`` is a part: choices of ``gradconv sweep`` that differ from others.

    Without a case there is one part, ``sweep``.
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        shared = {k: v for k, v in choices.items() if k != "case"}
        cases = choices.get("case", {"sweep": {}})
        if not isinstance(cases, dict) or not all(isinstance(c, dict) for c in cases.values()):
            raise InputError(f"`case` must hold tables; got {shortened(cases)}")
        found = {}
        for name, own in cases.items():
            config = _config({**shared, **own})
            config.problems()
            found[name] = config.identity()
        return found

    def origin(self, part: Record) -> Origin:
        return Origin(part["seed"], part["device"], part["dtype"])

    def measure(self, part: Record, work: Workplace) -> Record:
        config = _config({**part, "workers": work.workers})
        result = run(config, work.folder, "", work.progress)
        formulas = [_formulas(sweep.problem) for sweep in result.sweeps]
        for place, record in enumerate(result.records):
            own = formulas[place * len(formulas) // len(result.records)]
            record["law"]["formula"] = own.get(record["quantity"])
        return {"rates": result.records}

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        return [
            StudyFigure(
                name=name if len(results) > 1 else "figure",
                caption=_caption(result["rates"]),
                alternative=" ".join(_sentences(result["rates"])),
                drawing=gap_figure(result["rates"], style=style),
            )
            for name, result in results.items()
        ]

    def tables(self, results: Results) -> list[Table]:
        return [
            _table(name if len(results) > 1 else "orders", result["rates"])
            for name, result in results.items()
        ]

    def summary(self, results: Results) -> list[str]:
        several = len(results) > 1
        return [
            f"{name}: {line}" if several else line
            for name, result in results.items()
            for line in _sentences(result["rates"])
        ]


def _config(choices: Record) -> SweepConfig:
    known = option_names()
    for name in choices:
        if name not in (*known, "data"):
            raise unknown_name("choice of a sweep", name, known)
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) and name in AXES else value
        for name, value in choices.items()
        if name != "data"  # digests of what was read, in the identity of a run
    }
    return SweepConfig(**given)


def _formulas(problem: Any) -> dict[str, str]:
    """Leading terms in LaTeX, of the quantities that have a law in powers of h."""
    try:
        law = derive(problem)
    except LawError:
        return {}
    return {
        name: law.laws[name].written.leading_latex
        for name in QUANTITIES
        if name in law.laws and law.laws[name].terms
    }


def _caption(records: list[Record]) -> str:
    levels = max((r["h"] for r in records if r["quantity"] == "mean_gap"), key=len)
    cells = [round(1.0 / h) for h in levels]
    known = any(any(r["law"].get("values", ())) for r in records)
    law = " Dotted: the derived law, fitted to nothing." if known else ""
    return (
        "Gap of the gradients of neighbouring levels against the mesh size $h$, "
        f"{cells[0]} to {cells[-1]} cells an axis; filled: "
        r"$\lVert \mathrm{E}[g(h) - g(2h)]\rVert$, open: root mean "
        f"square over {records[0]['replicates']} sample paths with two standard errors; lines: "
        f"fitted powers of $h$.{law}{_symbolic(records)} {_shared(records)}."
    )


def _shared(records: list[Record]) -> str:
    """The choices that all records share, in words; the usual ones are not worth any."""
    left_out = rate_records.varying(records)
    left_out += [c for c, usual in USUAL.items() if records[0][c] == usual]
    text = problem_words(records[0], [c for c in CHOICES if c not in left_out])
    return text[:1].upper() + text[1:]


MEANINGS = {
    r"\lVert\theta\rVert": (r"\lVert\theta\rVert", "the norm of the weights"),
    r"\sigma": (r"\sigma", "the noise's parameter"),
    "h_{L}": ("h_L", "the finest mesh size"),
    "d": ("d", "the dimension"),
}
"""Symbols of leading terms that a caption can explain in a few words."""


def _symbolic(records: list[Record]) -> str:
    """Leading terms of the mean gap in symbols, where a caption can explain them."""
    formulas: dict[str, list[str]] = {}
    choices = [c for c in rate_records.varying(records) if c in CHOICES]
    for r in records:
        formula = r["law"].get("formula") if r["quantity"] == "mean_gap" else None
        if formula and not _unexplained(formula):
            formulas.setdefault(formula, []).append(problem_words(r, choices))
    if not formulas:
        return ""
    laws = [f"${f}$ ({'; '.join(w)})" if any(w) else f"${f}$" for f, w in formulas.items()]
    joined = " ".join(formulas)
    meanings = [f"${m[0]}$ {m[1]}" for s, m in MEANINGS.items() if _has(joined, s)]
    return f" Leading term of the mean gap: {', '.join(laws)}, with {', '.join(meanings)}."


def _has(formula: str, symbol: str) -> bool:
    return re.search(rf"(?<![A-Za-z]){re.escape(symbol)}(?![A-Za-z])", formula) is not None


def _unexplained(formula: str) -> str:
    """What remains of a formula without mesh sizes, explained symbols and brackets."""
    for symbol in MEANINGS:
        formula = re.sub(rf"(?<![A-Za-z]){re.escape(symbol)}(?![A-Za-z])", "", formula)
    formula = re.sub(r"\\(left|right|frac)(?![A-Za-z])", "", formula)
    return re.sub(r"(?<![A-Za-z])h(?![A-Za-z_])|[-+0-9{}()^ ]", "", formula)


def _sentences(records: list[Record]) -> list[str]:
    choices = [c for c in rate_records.varying(records) if c != "kernel"]
    found = []
    for r in records:
        if r["quantity"] != "mean_gap":
            continue
        where = problem_words(r, choices)
        text = f"{problem_words(r, ['kernel'])}{f' ({where})' if where else ''}: {r['verdict']}"
        if r["order"] is not None:
            low, high = r["order_interval"]
            text += f", order {r['order']:+.2f} [{low:+.2f}, {high:+.2f}]"
        if r["law"]["order"] is not None:
            text += f"; law {rate_records.law_text(r['law'])}"
        found.append(re.sub(r"-(?=\d)", "−", text) + ".")
    return found


def _table(name: str, records: list[Record]) -> Table:
    shown = [r for r in records if r["quantity"] in QUANTITIES]
    choices = [c for c in rate_records.varying(records) if c in CHOICES] or ["kernel"]
    rows = [
        [*(problem_words(r, [c]) for c in choices), *(number_cell(cell) for cell in row)]
        for r, row in zip(shown, rate_records.rows(shown, []), strict=True)
    ]
    return Table(
        name=name,
        caption=(
            "Signed orders of the gap, $C h^q$ with order $q$ (negative: divergence), and their "
            "95 % intervals; law: derived, and whether it goes through the data. "
            f"{_shared(records)}."
        ),
        header=(*choices, *rate_records.COLUMNS),
        rows=tuple(tuple(row) for row in rows),
    )
