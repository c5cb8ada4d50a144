"""The paper's claims: law, measurement and stored runs of the training study, judged by rule."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from gradconv.claims import present, scale
from gradconv.claims.claim import Claim
from gradconv.claims.orders import SEED
from gradconv.claims.paper import CLAIMS
from gradconv.errors import InputError, shortened, unknown_name
from gradconv.figures import Style
from gradconv.provenance import configuration_hash
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.studies.stored import read_documents
from gradconv.tables import Table

KEYS = ("only", "training", "telescoping_samples", "independent", "variance")
STORED = "stored"  # what is added to the choices: the blocks of the training study
SHARED = "table"  # the block whose options and setups are those of all measurements
BY_ID = {claim.id: claim for claim in CLAIMS}


@KINDS.register("claims")
class ClaimsStudy(StudyKind):
    """Every claim is a part, or those that ``only`` names.

    Claims on orders and scale are measured. The others are judged by evidence, which is made of the
    stored runs of the study that ``training`` names, beside this one, and of measurements whose
    choices are ``telescoping_samples``, ``independent`` and ``variance``. A part's configuration
    has the digests of the blocks that it is made of.
    """

    def complete(self, choices: Record, home: Path) -> Record:
        if STORED in choices:
            raise unknown_name("choice of a study of claims", STORED, KEYS)
        name = choices.get("training")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"`training` must be the name of a study; got {shortened(name)}")
        return {**choices, STORED: read_documents(home.parent / name)}

    def parts(self, choices: Record) -> dict[str, Record]:
        for key in choices:
            if key not in (*KEYS, STORED):
                raise unknown_name("choice of a study of claims", key, KEYS)
        only = choices.get("only", list(BY_ID))
        if not isinstance(only, list) or not only:
            raise InputError(f"`only` must be a list of claims; got {shortened(only)}")
        for name in only:
            if name not in BY_ID:
                raise unknown_name("only", name, BY_ID)
        return {name: _part(BY_ID[name], choices) for name in BY_ID if name in only}

    def origin(self, part: Record) -> Origin:
        from gradconv.studies.training.evidence import SOURCES

        source = SOURCES.get(part["claim"])
        return Origin(part["seed"], "cpu", source.dtype if source else "float64")

    def measure(self, part: Record, work: Workplace) -> Record:
        from gradconv.claims.ledger import assess

        claim = BY_ID[part["claim"]]
        if claim.live:
            return {"evidence": None, "entry": assess(claim).record()}
        evidence = _evidence(claim, part, work)
        if evidence is None:
            entry = assess(claim)
            note = "measured outside a repository: without its commit a number is no evidence"
            entry = replace(entry, notes=(*entry.notes, note))
            return {"evidence": None, "entry": entry.record()}
        return stored_results(claim, evidence)

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        from gradconv.claims.figures import claim_figure

        return [
            StudyFigure(
                name=name,
                caption=f"{record['statement']} {_seen(record)}",
                alternative=_sentence(record),
                drawing=claim_figure(record, style),
            )
            for name, record in _entries(results).items()
        ]

    def tables(self, results: Results) -> list[Table]:
        return [present.ledger_table({"claims": list(_entries(results).values())})]

    def summary(self, results: Results) -> list[str]:
        return [_sentence(record) for record in _entries(results).values()]


def stored_results(claim: Claim, evidence: Record) -> Record:
    """What a part holds of a claim that is judged by evidence.

    Parameters
    ----------
    claim : Claim
        The claim.
    evidence : dict
        What `gradconv.claims.evidence.evidence_document` gives.
    """
    from gradconv.claims.evidence import check_document
    from gradconv.claims.ledger import assess

    checked = check_document(evidence, claim, Path(f"{claim.id}.json"))
    return {"evidence": evidence, "entry": assess(claim, checked).record()}


def _part(claim: Claim, choices: Record) -> Record:
    from gradconv.studies.training.evidence import SOURCES

    part: Record = {
        "claim": claim.id,
        "seed": SEED,
        "criteria": [asdict(criterion) for criterion in claim.criteria],
        "coverage": {name: list(values) for name, values in claim.coverage.items()},
    }
    if claim.live == "orders":
        assert claim.bound is not None
        return part | {
            "bound": asdict(claim.bound),
            "cases": [case.describe() for case in claim.cases],
        }
    if claim.live == "scale":
        return part | {"scale": scale.describe()}
    source, stored = SOURCES[claim.id], choices[STORED]
    needed = list(dict.fromkeys([*source.blocks, *([SHARED] if source.own else [])]))
    for block in needed:
        if block not in stored:
            raise InputError(
                f"`training` must be a study whose block {block} is stored, for the claim "
                f"{claim.id}; got {choices['training']!r} with {', '.join(stored) or 'none'}"
            )
    part["training"] = {
        "study": choices["training"],
        "blocks": {
            block: {
                "configuration_hash": stored[block]["provenance"]["configuration_hash"],
                "results": configuration_hash(stored[block]["results"]),
            }
            for block in source.blocks
        },
    }
    if source.own:
        shared = stored[SHARED]["provenance"]["configuration"]
        part |= {"base": shared["base"], "setups": shared["setups"]}
    for name in source.choices:
        if name not in choices:
            raise InputError(f"`{name}` must be given for the claim {claim.id}; got none")
    return part | {"measured": {name: choices[name] for name in source.choices}}


def _evidence(claim: Claim, part: Record, work: Workplace) -> Record | None:
    """Evidence of a claim with its provenance; None without a commit, which evidence must have."""
    from gradconv.claims.evidence import evidence_document
    from gradconv.studies.training.evidence import measure_evidence

    blocks = part["training"]["blocks"]
    stored = read_documents(work.home.parent / part["training"]["study"]) if blocks else {}
    runs = {block: stored[block]["results"]["runs"] for block in blocks}
    measured = measure_evidence(claim.id, part, runs)
    if not work.origin.get("commit"):
        return None
    dirty = any(stored[block]["provenance"]["dirty"] for block in blocks)
    return evidence_document(
        claim, measured, {**work.origin, "dirty": bool(work.origin["dirty"]) or dirty}
    )


def _entries(results: Results) -> dict[str, Record]:
    found = {name: result["entry"] for name, result in results.items()}
    return dict(sorted(found.items(), key=lambda item: int(item[1]["number"])))


def _sentence(record: Record) -> str:
    verdict = present.verdict_text(record)
    return f"{record['number']}. {record['title']}: {verdict}."


def _seen(record: Record) -> str:
    measured = record["measurement"]
    if any("h" in m for m in measured):
        return (
            "Gap of neighbouring levels against the mesh size; filled: mean, open: root mean "
            "square with two standard errors; lines: fitted powers of h; dots: the derived law, "
            "fitted to nothing."
        )
    if any("cells" in m for m in measured):
        return (
            "Relative difference of the output to the finest mesh's, for an impulse by the width "
            "of the kernel in cells, with its law, and for a band-limited input by mesh, with a "
            "fixed stencil as the control."
        )
    return (
        "Measurements with their 95 % intervals, against the threshold of each criterion (dashed) "
        "and the side of it that the claim allows (shaded)."
    )
