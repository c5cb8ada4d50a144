"""A folder of small studies, with a claims ledger and an atlas, for the tests of the page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gradconv.claims.claim import GRADES, VERDICTS
from gradconv.claims.paper import CLAIMS
from gradconv.problem import QUANTITIES
from gradconv.studies import StudyFigure, StudyKind
from gradconv.studies.stored import SCHEMA, write_part
from gradconv.tables import Table

Record = dict[str, Any]
KERNELS = ("mfc", "stencil")
TARGETS = ("identity", "shift")
DIMS = (1, 2)
MISSING = ("stencil", "white")  # no cells of these


class Stored(StudyKind):
    """A kind that is only shown: what its figures are called is in the data."""

    def parts(self, choices: Record) -> dict[str, Record]:
        return {}

    def measure(self, part: Record, work: Any) -> Record:
        raise AssertionError("a report measures nothing")

    def figures(self, results: Any, style: Any) -> list[StudyFigure]:
        return [
            StudyFigure(
                name,
                rf"Gap of {name}, with its law $\frac{{1}}{{2}} \sigma^2 h_L^{{d}}$ and h^-2.",
                f"The gap of {name} falls with order +2.00.",
                _drawing(style, place),
            )
            for place, name in enumerate(n for r in results.values() for n in r["figures"])
        ]

    def tables(self, results: Any) -> list[Table]:
        return [t for name, r in results.items() for t in _tables(name, r.get("rows", 0))]

    def summary(self, results: Any) -> list[str]:
        return [f"{len(results)} parts, <b> is no tag & **order −2** at h^-d."]


def _drawing(style: Any, place: int) -> Figure:
    with style.apply():
        drawing = Figure(figsize=(style.column, 1.5))
        drawing.subplots().plot([1, 2 + place])
    return drawing


def _tables(name: str, rows: int) -> list[Table]:
    if not rows:
        return []
    header = ("kernel", "order", *(f"a rather long column {c}" for c in range(9)))
    body = tuple((f"k{n}", "**−2.0**", *["[+1.98, +2.01]"] * 9) for n in range(rows))
    return [Table(name, f"Orders of {name}.", header, body, ("A note on h^2.",))]


def origin(seed: int = 0, dirty: bool | None = False) -> Record:
    return {
        "commit": f"{seed:02x}" * 20,
        "dirty": dirty,
        "configuration": {},
        "configuration_hash": "ab" * 32,
        "seed": seed,
        "versions": {"python": "3.11.7", "numpy": f"2.{seed}"},
        "device": "cpu (x86_64)",
        "dtype": "float64",
    }


def entries() -> list[Record]:
    """A record for each claim; verdicts and grades in turn, law or criterion, and markup in text.

    The shape is that of `gradconv.claims.claim.Entry.record`.
    """
    found = []
    for place, claim in enumerate(CLAIMS):
        verdict = VERDICTS[place % len(VERDICTS)]
        cases = 0 if verdict == "not yet measured" else 3
        orders = place % 2 == 0
        laws, measured = [], []
        for n in range(cases):
            case = f"case {n} of {claim.id}, a < b"
            choices = {"restriction": ("average", "injection")[n % 2], "dim": str(1 + n)}
            shared = {"case": case, "quantity": "mean_gap", "choices": choices}
            if orders:
                law = {
                    "order": 2.0,
                    "coefficient": 3.5,
                    "missing": "",
                    "expression": "h**2*v",
                    "latex": rf"\frac{{h^{{2}} \sqrt{{\sum_{{n=0}}^{{2}} v_{{n}}^{{2}}}}}}{{{n}}}",
                    "verdict": "converges",
                }
                text = f"{case}: order -1.99 [-2.01, -1.97] (diverges)"
                own = {"order": -1.99, "order_interval": [-2.01, -1.97], "text": text}
            else:
                law = {"statement": f"bias is {n}", "relation": "equals", "threshold": 0.0}
                text = f"{case}: 0.01 (bias is {n})"
                own = {"value": 0.01, "interval": [0.0, 0.02], "text": text}
            laws.append({**shared, **law})
            measured.append({**shared, **own, "grade": GRADES[(place + n) % len(GRADES)]})
        if not cases:
            laws = [{"quantity": "cost", "statement": "cost is at most 1", "required": True}]
        found.append(
            {
                "id": claim.id,
                "number": claim.number,
                "title": claim.title,
                "statement": claim.statement,
                "source": {"version": claim.source.version, "place": claim.source.place},
                "verdict": verdict,
                "condition": "α < d/2 & averaging" if verdict == "holds only if" else "",
                "law": laws,
                "measurement": measured,
                "notes": ["measured for one linear layer"] if place % 3 else [],
            }
        )
    return found


def cells() -> list[Record]:
    """Cells of a small atlas in the shape of the stored ones; every record differs from others."""
    found = []
    every = product(
        DIMS,
        ("coarsening", "refinement"),
        ("average", "full_weighting"),
        KERNELS,
        ("white", "none", "power"),
        TARGETS,
    )
    for place, (dim, setting, restriction, kernel, noise, target) in enumerate(every):
        if (kernel, noise) == MISSING:
            continue
        name = f"power:{dim * 1.5:g}" if noise == "power" else noise
        found.append(
            {
                "signal": "sobolev:3",
                "kernel": kernel,
                "noise": name,
                "setting": setting,
                "restriction": restriction,
                "target": target,
                "dim": dim,
                "same_as": None,
                "status": "agrees",
                "quantities": {
                    q: _quantity(place * len(QUANTITIES) + k) for k, q in enumerate(QUANTITIES)
                },
            }
        )
    return found


def _quantity(place: int) -> Record:
    status = ("agrees", "explained", "disagrees")[place % 3]
    order = (-2.0, 0.0, 2.0, None)[place % 4]
    verdict = ("diverges", "stalls", "converges", "exact")[place % 4]
    found = {
        "status": status,
        "reason": "" if status == "agrees" else f"reason {place % 5} of <this>",
        "measured": {
            "order": None if order is None else order + 0.001 * place,
            "coefficient": None if order is None else 1.5 + place * 1e-3,
            "interval": None if order is None else [order - 0.25, order + 0.5],
            "verdict": verdict,
            "method": ("fit", "window", "sum", "sample")[place % 4] if order is not None else "",
        },
    }
    if place % 5:
        found["derived"] = {
            "order": order,
            "log": int(place % 7 == 0),
            "coefficient": 0.0 if order is None else 12345.678 / (place + 1),
            "verdict": verdict,
        }
    return found


def write_studies(folder: Path, kind: str, names: Sequence[str] = ()) -> Path:
    """Write studies of a kind that is registered as `kind`: all of them, or these alone.

    ``waiting`` has no data.
    """
    small = {"figures": ["figure", "detail"], "rows": 5}
    data: dict[str, dict[str, Record]] = {
        "claims": {e["id"]: {"figures": [e["id"]], "entry": e} for e in entries()},
        "atlas": {
            "atlas": {"figures": ["phase"], "cells": cells()},
            "critical": {"figures": ["critical"], "rows": 3},
        },
        "gap": {"sweep": small},
        "wide": {"first": {"figures": ["wide"], "rows": 40}, "second": {"figures": [], "rows": 2}},
        "waiting": {},
    }
    for study, parts in data.items():
        if names and study not in names:
            continue
        own = folder / study
        own.mkdir(parents=True)
        (own / "configuration.toml").write_text(
            f'kind = "{kind}"\ntitle = "Study {study} & more"\n'
            f'question = "Is h^2 < 1 in {study}?"\n'
        )
        for place, (part, results) in enumerate(parts.items()):
            write_part(
                own,
                {
                    "schema": SCHEMA,
                    "study": study,
                    "kind": kind,
                    "size": "small",
                    "part": part,
                    "place": place,
                    "provenance": origin(place % 3, dirty=(False, True, None)[place % 3]),
                    "results": results,
                },
            )
    return folder
