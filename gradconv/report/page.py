"""The page: what is stored of every study, put into the template. Nothing is measured."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gradconv.claims.claim import VERDICTS
from gradconv.claims.present import law_lines, law_text, measured_lines
from gradconv.report.matrix import packed
from gradconv.report.pictures import STYLE, Picture, drawn, picture
from gradconv.report.writing import mathematics, prose
from gradconv.studies import Study, StudyFigure, find_studies, load_study
from gradconv.studies.stored import read_documents
from gradconv.tables import Table

Record = dict[str, Any]
Draw = Callable[[Study, StudyFigure], bytes]
CLAIMS, ATLAS, CENTRAL = "claims", "atlas", "gap"
LONG = 14  # rows from which on a table is folded
DIGITS = 12  # of a commit or a hash that are shown
# Name of its icon, and of its colours, by verdict.
ICONS = dict(zip(VERDICTS, ("check", "double", "half", "cross", "empty"), strict=True))


@dataclass(frozen=True)
class Shown:
    """A study with all that the page shows of it.

    Parameters
    ----------
    name, title, question : str
        Of its configuration.
    size : str
        At which its data were taken; that of the paper if there are none.
    stored : bool
        Whether there are data.
    sentences : tuple of str
        What was found.
    pictures : tuple of Picture
        Its figures.
    tables : tuple of Table
        Its tables.
    origins : mapping of str to dict
        Provenance by part.
    """

    name: str
    title: str
    question: str
    size: str
    stored: bool
    sentences: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    origins: Mapping[str, Record] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """What makes its data, tables and figures again."""
        return f"gradconv study {self.name} --size {self.size} --store"


@dataclass(frozen=True)
class Claimed:
    """A claim with its lines, its cases and its figures.

    Parameters
    ----------
    entry : dict
        Record of the ledger.
    law, measured : tuple of str
        Lines of the ledger's table.
    cases : tuple of tuple of str
        Case, law, measurement, and what it says of the claim.
    formulas : mapping of str to list of str
        Cases by derived law in LaTeX.
    pictures : tuple of Picture
        Its figures.
    origin : dict
        Provenance of its part.
    """

    entry: Record
    law: tuple[str, ...]
    measured: tuple[str, ...]
    cases: tuple[tuple[str, str, str, str], ...]
    formulas: Mapping[str, list[str]]
    pictures: tuple[Picture, ...]
    origin: Record


def page(folder: Path, *, draw: Draw = drawn, progress: Callable[..., None] | None = None) -> str:
    """Make the page of all studies in a folder.

    Parameters
    ----------
    folder : Path
        Where studies are.
    draw : callable, optional
        Gives the PNG of a study's figure.
    progress : callable, optional
        Called with (studies done, all, name of the next).

    Returns
    -------
    str
        A complete HTML document, which loads nothing.

    Raises
    ------
    InputError
        If the folder has no studies, or stored data are damaged.
    """
    names = find_studies(folder)
    studies, claims, cells = {}, [], []
    for place, name in enumerate(names):
        if progress is not None:
            progress(place, len(names), name)
        study = load_study(name, folder)
        documents = read_documents(study.folder)
        studies[name] = _shown(study, documents, draw)
        if name == CLAIMS:
            claims = _claimed(documents, studies[name].pictures)
        if name == ATLAS:
            cells = [c for d in documents.values() for c in d["results"].get("cells", ())]
    others = [s for name, s in studies.items() if name not in (CLAIMS, ATLAS, CENTRAL)]
    verdicts = [claim.entry["verdict"] for claim in claims]
    made = (
        _environment()
        .get_template("page.html.j2")
        .render(
            claims=claims,
            counts=[(v, verdicts.count(v)) for v in VERDICTS if v in verdicts],
            loose=_loose(studies.get(CLAIMS), claims),
            ledger=studies.get(CLAIMS),
            atlas=studies.get(ATLAS),
            cells=len(cells),
            matrix=_packed_json(packed(cells)) if cells else "",
            central=studies.get(CENTRAL),
            others=others,
            studies=list(studies.values()),
            versions=_versions(studies.values()),
            long=LONG,
            style=Markup(_text("style.css")),
            script=Markup(_text("page.js")),
        )
    )
    return made.strip() + "\n"  # nothing may stand before the type of the document


def _shown(study: Study, documents: Mapping[str, Record], draw: Draw) -> Shown:
    if not documents:
        return Shown(study.name, study.title, study.question, "full", False)
    results = {name: document["results"] for name, document in documents.items()}
    figures = study.kind.figures(results, STYLE)
    return Shown(
        name=study.name,
        title=study.title,
        question=study.question,
        size=next(iter(documents.values()))["size"],
        stored=True,
        sentences=tuple(study.kind.summary(results)),
        pictures=tuple(picture(study, figure, draw(study, figure)) for figure in figures),
        tables=tuple(study.kind.tables(results)),
        origins={name: document["provenance"] for name, document in documents.items()},
    )


def _claimed(documents: Mapping[str, Record], pictures: tuple[Picture, ...]) -> list[Claimed]:
    found = []
    for document in documents.values():
        entry = document["results"]["entry"]
        own = f"figure-{CLAIMS}-{entry['id']}"
        formulas: dict[str, list[str]] = {}
        for law in entry["law"]:
            if law.get("latex") and law.get("order") is not None:
                formulas.setdefault(law["latex"], []).append(law["case"])
        found.append(
            Claimed(
                entry=entry,
                law=tuple(law_lines(entry)),
                measured=tuple(measured_lines(entry)),
                cases=tuple(_cases(entry)),
                formulas=formulas,
                pictures=tuple(p for p in pictures if p.id == own),
                origin=document["provenance"],
            )
        )
    return sorted(found, key=lambda claim: claim.entry["number"])


def _cases(entry: Record) -> list[tuple[str, str, str, str]]:
    """Every case with law and measurement; what the law says is not said twice."""
    laws = {law["case"]: law for law in entry["law"] if "case" in law}
    found = []
    for measured in entry["measurement"]:
        case = measured["case"]
        law = law_text(laws[case])
        text = measured["text"].removeprefix(f"{case}: ").removesuffix(f" ({law})")
        found.append((case, law, _minus(text), measured["grade"]))
    return found


def _minus(text: str) -> str:
    """Text with the sign of subtraction before numbers."""
    for before in (" ", "[", "("):
        text = text.replace(f"{before}-", f"{before}−")
    return f"−{text[1:]}" if text.startswith("-") else text


def _loose(ledger: Shown | None, claims: list[Claimed]) -> list[Picture]:
    """Figures of the ledger that belong to no one claim."""
    taken = {p.id for claim in claims for p in claim.pictures}
    return [p for p in ledger.pictures if p.id not in taken] if ledger is not None else []


def _versions(studies: Any) -> list[str]:
    """Distinct sets of versions, in the order in which parts name them."""
    origins = (origin for study in studies for origin in study.origins.values())
    return list(dict.fromkeys(_version_text(origin) for origin in origins))


def _version_text(origin: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in origin["versions"].items())


def _numeric(table: Table) -> list[bool]:
    """Whether all cells of a column are numbers, intervals or nothing."""
    columns = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.header)
    return [all(_is_number(cell) for cell in column) for column in columns]


def _is_number(cell: str) -> bool:
    text = cell.strip("*~≤≥<>[]() +−-–—")
    return not text or text[0].isdigit()


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("gradconv.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "prose": prose,
        "mathematics": mathematics,
        "numeric": _numeric,
        "icon": ICONS.__getitem__,
        "short": lambda text: (text or "none")[:DIGITS],
        "version_text": _version_text,
        "minus": _minus,
    }
    return made


def _text(name: str) -> str:
    return resources.files("gradconv.report").joinpath("templates", name).read_text("utf-8")


def _packed_json(value: Record) -> str:
    """Write JSON compressed and in base64, as it can stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
