"""Audits of torch modules: orders of their gradients' gaps, verdicts and reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any

from gradconv.audit import audit
from gradconv.backend import Backend
from gradconv.errors import InputError, LawError, check_gib, check_whole, shortened, unknown_name
from gradconv.figures import Style
from gradconv.laws import derive
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.choices import CHOICES as DATA
from gradconv.multilevel.choices import make_hierarchy
from gradconv.problem import Problem
from gradconv.rate_records import number
from gradconv.rates import fit_rate
from gradconv.samplers import ProblemSampler
from gradconv.studies import audit_figures
from gradconv.studies.audit_words import (
    QUANTITIES,
    finding_lines,
    order_cells,
    sentences,
    setting,
)
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.studies.subjects import make_subject
from gradconv.tables import Table

DEFAULTS: Record = {
    **DATA,
    "dim": 2,
    "levels": [16, 32, 64, 128, 256],
    "replicates": 32,
    "seed": 0,
    "device": "cpu",
    "dtype": "float64",
    "memory": 4.0,
    "explain": True,
}
OWN = ("module", "case", "along")
PLACES = ("each", "levels")  # of a module's table, beside `make` and options
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
KEPT = ("quantity", "h", "values", "stderr", "order", "order_interval", "coefficient", "window",
        "verdict", "reason")  # fmt: skip


@KINDS.register("audit")
class AuditStudy(StudyKind):
    """Every module on every case is a part.

    A table under ``module`` says ``make``, a name of `gradconv.studies.subjects.SUBJECTS`, its
    options, under ``each`` lists of options that are gone through in all combinations, and
    ``levels`` of its own if it needs some. A table under ``case`` says its ``title`` and the
    choices of the built-in data. ``along`` names an option that orders are drawn against.
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        for name in choices:
            if name not in (*OWN, *DEFAULTS):
                raise unknown_name("choice of an audit", name, (*OWN, *DEFAULTS))
        shared = {**DEFAULTS, **{k: v for k, v in choices.items() if k not in OWN}}
        modules, cases = (_tables(choices, name) for name in ("module", "case"))
        found = {}
        for key, module in modules.items():
            for suffix, made in _combinations(module):
                for case_key, case in cases.items():
                    part = _part(shared, made, case, choices.get("along"))
                    found[f"{key}{suffix}_{case_key}"] = part
        return found

    def require(self, part: Record) -> None:
        make_subject(part["module"]).require()

    def origin(self, part: Record) -> Origin:
        packages = make_subject(part["module"]).packages
        return Origin(part["seed"], part["device"], part["dtype"], packages)

    def measure(self, part: Record, work: Workplace) -> Record:
        subject = make_subject(part["module"])
        found = audit(
            subject.factory,
            hierarchy=MeshHierarchy(part["dim"], tuple(part["levels"])),
            progress=work.progress,
            **{k: part[k] for k in (*DATA, "replicates", "seed", "device", "dtype", "memory")},
            explain=part["explain"],
        ).to_dict()
        whole = [r for r in found["rates"] if r["group"] == "whole"]
        aliasing = found["aliasing"]
        along = part["along"]
        return {
            "module": subject.title,
            "source": subject.source,
            "along": along and {"name": along, "value": part["module"][along]},
            "case": part["case"],
            "data": {k: part[k] for k in (*DATA, "dim", "levels", "dtype")},
            "replicates": found["provenance"]["configuration"]["replicates"],
            "parameters": whole[0]["parameters"],
            "verdict": found["verdict"],
            "rates": {r["quantity"]: {key: r[key] for key in KEPT} for r in whole},
            "law": _law(subject.kernel, part),
            "aliasing": aliasing and {key: aliasing[key] for key in KEPT[2:] if key in aliasing},
            "findings": found["findings"],
            "notes": found["notes"],
        }

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        records = list(results.values())
        against = all(r["along"] for r in records)
        told = " ".join(sentences(records))
        orders = (
            audit_figures.orders_along(records, style)
            if against
            else audit_figures.orders_by_module(records, style)
        )
        return [
            StudyFigure("orders", _orders_caption(records), told, orders),
            StudyFigure(
                "gaps", _gaps_caption(records), told, audit_figures.gaps(records, style, against)
            ),
        ]

    def tables(self, results: Results) -> list[Table]:
        records = list(results.values())
        along = [r["along"]["name"] for r in records if r["along"]][:1]
        explained = any(r["findings"] for r in records)
        header = ("module", *along, "case", "parameters", "rms gap", "mean gap", "law of a layer",
                  "verdict", "aliasing", *(["reasons"] if explained else []))  # fmt: skip
        return [
            Table(
                name="orders",
                caption=(
                    f"{setting(records)} Orders are signed: gap ~ C·h^order, negative is "
                    "divergence; brackets are 95 % intervals. Law of a layer: order of the law "
                    "derived for a single linear layer of the kind on the same meshes and data, "
                    "rms and mean gap. Aliasing: relative difference of the output between the "
                    "two finest meshes on one band-limited input."
                ),
                header=header,
                rows=tuple(tuple(order_cells(r, explained)) for r in records),
                notes=tuple(finding_lines(records)),
            )
        ]

    def summary(self, results: Results) -> list[str]:
        return sentences(list(results.values()))


def _tables(choices: Record, name: str) -> Mapping[str, Record]:
    found = choices.get(name)
    if not isinstance(found, dict) or not found or not all(
        isinstance(t, dict) for t in found.values()
    ):  # fmt: skip
        raise InputError(f"`{name}` must hold a table or more; got {shortened(found)}")
    for key in found:
        if not NAME.fullmatch(key):
            raise InputError(
                f"`{name}` tables must have names of letters, digits and hyphens; got {key!r}"
            )
    return found


def _combinations(module: Record) -> list[tuple[str, Record]]:
    """A module's choices for each combination of the lists under ``each``, and its suffix."""
    each = module.get("each", {})
    lists = isinstance(each, dict) and all(isinstance(v, list) and v for v in each.values())
    if not lists:
        raise InputError(f"`each` must hold lists of options; got {shortened(each)}")
    fixed = {k: v for k, v in module.items() if k != "each"}
    found = []
    for values in product(*each.values()):
        suffix = "".join(f"-{re.sub(r'[^A-Za-z0-9]+', '-', str(v))}" for v in values)
        found.append((suffix, {**fixed, **dict(zip(each, values, strict=True))}))
    return found


def _part(shared: Record, module: Record, case: Record, along: Any) -> Record:
    """Configuration of one audit, checked."""
    title = case.get("title")
    if not isinstance(title, str) or not title.strip():
        raise InputError(f"`title` of a case must be text; got {shortened(title)}")
    for name in case:
        if name not in ("title", *DATA):
            raise unknown_name("choice of a case", name, ("title", *DATA))
    own = {k: v for k, v in module.items() if k not in PLACES}
    make_subject(own)
    if along is not None and along not in own:
        raise InputError(f"`along` must be an option of every module; got {shortened(along)}")
    part: Record = {
        **shared,
        **({"levels": module["levels"]} if "levels" in module else {}),
        **{k: v for k, v in case.items() if k != "title"},
        "module": own,
        "case": title,
        "along": along,
    }
    check_whole("replicates", part["replicates"], 2, 10**6)
    check_whole("seed", part["seed"], 0, 2**62)
    check_gib(part["memory"])
    if not isinstance(part["explain"], bool):
        raise InputError(f"`explain` must be true or false; got {shortened(part['explain'])}")
    if part["device"] == "cpu":  # another one is checked where it is
        Backend(part["device"], part["dtype"])
    problem = Problem("stencil", dim=part["dim"], **{k: part[k] for k in DATA})
    hierarchy = make_hierarchy(part["levels"], part["dim"], None)
    ProblemSampler(problem, hierarchy, part["seed"])
    return part


def _law(kernel: str | None, part: Record) -> Record:
    """Orders of a single layer's law on the meshes of an audit; None where there is none."""
    if kernel is None:
        return dict.fromkeys(QUANTITIES)
    return _orders(kernel, part["dim"], tuple(part["levels"]), *(part[k] for k in DATA))


@lru_cache(maxsize=64)
def _orders(kernel: str, dim: int, levels: tuple[int, ...], *data: Any) -> Record:
    hierarchy = MeshHierarchy(dim, levels)
    problem = Problem(kernel, dim=dim, **dict(zip(DATA, data, strict=True)))
    try:
        values = derive(problem).evaluate(hierarchy)
    except LawError:
        return dict.fromkeys(QUANTITIES)
    fitted = {q: fit_rate(hierarchy.h[1:], values[q]) for q in QUANTITIES if q in values}
    # a law that is no power on such coarse meshes has no order to compare with
    known = {q: number(r.order) for q, r in fitted.items() if r.verdict != "undecided"}
    return {q: known.get(q) for q in QUANTITIES}


def _orders_caption(records: list[Record]) -> str:
    along = records[0]["along"]
    drawn = f"gap against {along['name']}" if along else "rms gap of each module (open: undecided)"
    return (
        f"Signed order of the {drawn} with 95 % intervals, gap ~ C·h^order. {setting(records)} "
        "At 0 the gap stalls, below it grows under refinement. Dotted: order of the law derived "
        "for a single linear layer on the same meshes and data, fitted to nothing. Where a point "
        "is missing, too few gaps lie above the sampling error."
    )


def _gaps_caption(records: list[Record]) -> str:
    return (
        "Root mean square gap of the gradients of neighbouring levels against the mesh size, with "
        f"two standard errors; lines: fitted powers of h. {setting(records)}"
    )
