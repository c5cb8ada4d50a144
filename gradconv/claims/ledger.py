"""The claims ledger: measure what can be measured now, read the rest, judge by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from gradconv.claims.claim import Claim, Entry, Finding, Record
from gradconv.claims.evidence import LEDGER, Evidence, evidence_findings, read_folder
from gradconv.claims.orders import SEED, order_findings
from gradconv.claims.paper import CLAIMS
from gradconv.claims.rules import judge, network_note
from gradconv.claims.scale import ROUNDING, scale_findings
from gradconv.errors import InputError, unknown_name
from gradconv.provenance import provenance

RESULTS = Path("studies") / "claims" / "data"  # read if it is there and no other folder is named

LIVE: Mapping[str, Callable[[Claim], Iterable[Finding]]] = {
    "orders": order_findings,
    "scale": lambda claim: scale_findings(),
    "": lambda claim: (),
}


def select(only: Sequence[str] = ()) -> tuple[Claim, ...]:
    """Choose claims by id or number.

    Parameters
    ----------
    only : sequence of str
        Ids or numbers; an entry may hold several with commas. Empty: all claims.

    Returns
    -------
    tuple of Claim
        In the order of the ledger, each once.

    Raises
    ------
    InputError
        If a name is unknown, with the nearest known one.
    """
    wanted = [part.strip() for text in only for part in text.split(",")]
    if not only:
        return CLAIMS
    by_name = {c.id: c for c in CLAIMS}
    numbers = {str(c.number): c.id for c in CLAIMS}
    chosen = set()
    for name in wanted:
        if not name:
            raise InputError("`only` must name claims, separated by commas; got an empty name")
        if numbers.get(name, name) not in by_name:
            raise unknown_name("only", name, by_name)
        chosen.add(numbers.get(name, name))
    return tuple(c for c in CLAIMS if c.id in chosen)


def read_results(folder: Path | None = None) -> dict[str, Evidence]:
    """Read stored results from a folder, or from `RESULTS` where that exists.

    Raises
    ------
    InputError
        If a named folder is missing, or a file is not valid evidence.
    """
    if folder is None:
        return read_folder(RESULTS, CLAIMS) if RESULTS.is_dir() else {}
    return read_folder(folder, CLAIMS)


def assess(claim: Claim, evidence: Evidence | None = None) -> Entry:
    """Measure a claim where it can be measured here, add stored evidence, and judge.

    Parameters
    ----------
    claim : Claim
        The claim.
    evidence : Evidence, optional
        Stored results.
    """
    findings = tuple(LIVE[claim.live](claim))
    if evidence is not None:
        findings += tuple(evidence_findings(claim, evidence))
    return entry(claim, findings, evidence)


def entry(claim: Claim, findings: tuple[Finding, ...], evidence: Evidence | None = None) -> Entry:
    """Judge findings and write down what a reader has to know of them."""
    verdict, condition = judge(claim, findings)
    notes = network_note(claim, findings)
    notes += _law_notes(findings)
    if claim.live == "scale":
        notes += _scale_notes(findings)
    undecided = [f for f in findings if f.grade == "undecided"]
    notes += [f"undecided: {f.measurement['text']}" for f in undecided]
    if evidence is not None:
        notes += evidence.notes
    return Entry(claim, verdict, condition, findings, tuple(notes))


def ledger(
    claims: Sequence[Claim] = CLAIMS,
    results: Mapping[str, Evidence] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Record:
    """Assess claims and make the document of ``gradconv claims --json``.

    Parameters
    ----------
    claims : sequence of Claim
        Which claims.
    results : mapping of str to Evidence, optional
        Stored results by claim.
    progress : callable, optional
        Called with (claims done, claims).

    Returns
    -------
    dict
        Schema ``gradconv.claims/1``.
    """
    results = results or {}
    records = []
    for index, claim in enumerate(claims):
        records.append(assess(claim, results.get(claim.id)).record())
        if progress is not None:
            progress(index + 1, len(claims))
    return {
        "schema": LEDGER,
        "provenance": provenance(configuration(claims, results), SEED, "cpu", "float64"),
        "claims": records,
    }


def configuration(claims: Sequence[Claim], results: Mapping[str, Evidence]) -> Record:
    """What a ledger is of: the cases that it measures and the evidence that it reads."""
    return {
        "claims": [c.id for c in claims],
        "cases": {c.id: [case.describe() for case in c.cases] for c in claims if c.cases},
        "evidence": {c.id: results[c.id].digest for c in claims if c.id in results},
    }


def _law_notes(findings: Sequence[Finding]) -> list[str]:
    without: dict[str, int] = {}
    for finding in findings:
        reason = finding.law.get("missing", "")
        if reason:
            without[reason] = without.get(reason, 0) + 1
    return [
        f"no law in {count} of {len(findings)} cases, judged by measurement alone: {reason}"
        for reason, count in without.items()
    ]


def _scale_notes(findings: Sequence[Finding]) -> list[str]:
    """From which width on the kernel itself is the same on every mesh, and what flags it."""
    impulses = [f for f in findings if f.choices["input"] == "impulse"]
    sound = [f.measurement["cells"] for f in impulses if f.grade == "holds"]
    notes = []
    if sound:
        worst = max(f.measurement["value"] for f in impulses if f.grade == "holds")
        notes.append(
            f"the kernel itself agrees to {ROUNDING:g} on meshes with {min(sound):.2f} cells or "
            f"more a standard deviation (largest difference {worst:.1e})"
        )
    missed = [f for f in impulses if f.grade == "fails" and not f.measurement["flagged"]]
    if missed:
        largest = max(missed, key=lambda f: f.measurement["value"]).measurement
        notes.append(
            f"a kernel counts as resolved from one cell on, where the difference is still "
            f"{largest['value']:.1e} ({largest['cells']:.2f} cells)"
        )
    controls = [
        min(f.measurement["control"]["values"]) for f in findings if "control" in f.measurement
    ]
    if controls:
        notes.append(
            f"negative control: a fixed stencil differs by {min(controls):.2g} or more on the "
            "band-limited input"
        )
    return notes
