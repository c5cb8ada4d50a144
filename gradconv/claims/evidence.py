"""Stored results that claims are judged by: the contract, and the guard in front of it.

One file a claim, ``DIR/ID.json``::

    {
        "schema": "gradconv.evidence/1",
        "claim": "cost-reduction",
        "provenance": {
            "commit": "<40 hex digits>",
            "dirty": false,
            "configuration": {...},
            "configuration_hash": "<sha256 of it>",
            "seed": 0,
            "versions": {...},
            "device": "cuda (NVIDIA ...)",
            "dtype": "float32",
        },
        "measurements": [
            {
                "quantity": "cost_reduction",
                "value": 7.9,
                "interval": [7.1, 8.6],
                "conditions": {"task": "denoising", "network": "UNet"},
            }
        ],
        "criteria": [{"quantity": "cost_reduction", "outcome": "holds"}],
        "digest": "<sha256 of claim, provenance and measurements>",
    }

A quantity is one that the claim has a criterion for (`gradconv.claims.paper`); thresholds are the
claim's, never the file's. ``interval`` is a confidence interval, or left out for a number without
error. ``criteria`` says, in the order of the measurements, what each came to, and must be what the
numbers come to. No verdict is stored, and none is read. `evidence_document` makes all of it.

A stored part of the study ``studies/claims`` (schema ``gradconv.study/1``) holds such a document
under ``results``, ``evidence``; where a part has none, its claim is measured on the spot.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradconv.claims.claim import Claim, Finding, Record
from gradconv.errors import InputError, shortened, unknown_name
from gradconv.provenance import configuration_hash
from gradconv.store import write_atomically

SCHEMA = "gradconv.evidence/1"
STUDY = "gradconv.study/1"
LEDGER = "gradconv.claims/1"  # the ledger's own output may lie in the same folder
KEYS = ("schema", "claim", "provenance", "measurements", "criteria", "digest")
PROVENANCE: dict[str, tuple[type, ...]] = {
    "commit": (str,),
    "dirty": (bool,),
    "configuration": (dict,),
    "configuration_hash": (str,),
    "seed": (int,),
    "versions": (dict,),
    "device": (str,),
    "dtype": (str,),
}
LARGEST_FILE = 2**24  # bytes: evidence is numbers, not data


@dataclass(frozen=True)
class Evidence:
    """The stored results of one claim, checked.

    Parameters
    ----------
    claim : str
        The claim's id.
    provenance : dict
        Where the numbers come from.
    measurements : tuple of dict
        Quantity, value, interval and conditions of each.
    digest : str
        SHA-256 of all of it.
    path : Path
        The file.
    """

    claim: str
    provenance: Record
    measurements: tuple[Record, ...]
    digest: str
    path: Path

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of where the numbers come from."""
        p = self.provenance
        changed = ", from a changed source tree (dirty)" if p["dirty"] else ""
        return [
            f"evidence {self.path.name}: commit {p['commit'][:12]}{changed}, configuration "
            f"{p['configuration_hash'][:12]}, seed {p['seed']}, {p['dtype']} on {p['device']}"
        ]


def evidence_document(
    claim: Claim, measurements: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]
) -> Record:
    """Make the document of a claim's evidence, digest and outcomes included.

    Parameters
    ----------
    claim : Claim
        The claim.
    measurements : sequence of mapping
        Each with ``quantity``, ``value`` and, if there are any, ``interval`` and ``conditions``.
    provenance : mapping
        What `gradconv.provenance.provenance` gives.

    Returns
    -------
    dict
        JSON values, as `read_evidence` takes them.

    Raises
    ------
    InputError
        If a measurement or the provenance breaks a rule.
    """
    origin = _check_provenance(dict(provenance), "provenance")
    checked = _check_measurements(claim, list(measurements), "measurements")
    document = {
        "schema": SCHEMA,
        "claim": claim.id,
        "provenance": origin,
        "measurements": checked,
        "criteria": _outcomes(claim, checked),
    }
    return {**document, "digest": _digest(document)}


def write_evidence(folder: Path, document: Record) -> Path:
    """Write a document of `evidence_document` where the ledger finds it, and return the path."""
    path = folder / f"{document['claim']}.json"
    write_atomically(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    return path


def read_folder(folder: Path, claims: Iterable[Claim]) -> dict[str, Evidence]:
    """Read every evidence file of a folder.

    Parameters
    ----------
    folder : Path
        The folder. Any JSON file in it must be evidence of a known claim, a stored part of a study
        of claims, or the ledger's output.
    claims : iterable of Claim
        All claims.

    Returns
    -------
    dict of str to Evidence
        By claim.

    Raises
    ------
    InputError
        If the folder or a file is not what it must be.
    """
    if not folder.is_dir():
        raise InputError(f"`results` must be a folder; got {shortened(str(folder))}")
    known = {c.id: c for c in claims}
    found = {}
    for path in sorted(folder.glob("*.json")):
        document: Record | None = _load(path)
        if document is None or document.get("schema") == LEDGER:
            continue
        if path.stem not in known:
            raise unknown_name(f"results file {path.name}", path.stem, known)
        if document.get("schema") == STUDY:
            inside = _of_study(document, path)
            if inside is None:
                continue
            document = inside
        found[path.stem] = check_document(document, known[path.stem], path)
    return found


def _of_study(document: Record, path: Path) -> Record | None:
    """Evidence in a stored part of a study, if the part has any."""
    results = document.get("results")
    if not isinstance(results, dict) or "evidence" not in results:
        raise InputError(
            f"`results file {path.name}` must be a part of a study of claims; "
            f"got one of {shortened(document.get('study'))}"
        )
    found = results["evidence"]
    if found is not None and not isinstance(found, dict):
        raise InputError(
            f"`results file {path.name}` must hold evidence as an object; got {shortened(found)}"
        )
    return found


def check_document(document: Record, claim: Claim, path: Path) -> Evidence:
    """Check the document of a file, and everything that can be computed again.

    Raises
    ------
    InputError
        If the schema is another one, the provenance is not valid, or the numbers are not those
        that the digest and the outcomes were made of.
    """
    where = f"results file {path.name}"
    if document.get("schema") != SCHEMA:
        raise InputError(
            f"`{where}` must have schema {SCHEMA}; got {shortened(document.get('schema'))}"
        )
    strange = [k for k in document if k not in KEYS]
    if strange:  # a typed-in verdict, for one
        raise InputError(f"`{where}` may hold {', '.join(KEYS)}; got {shortened(strange[0])}")
    if document.get("claim") != claim.id:
        raise InputError(
            f"`{where}` must be of the claim it is named after; "
            f"got {shortened(document.get('claim'))}"
        )
    origin = _check_provenance(document.get("provenance"), f"{where}: provenance")
    measured = _check_measurements(claim, document.get("measurements"), f"{where}: measurements")
    if document.get("digest") != _digest(document):
        raise InputError(
            f"`{where}` must hold the numbers that its digest was made of; "
            f"got {shortened(document.get('digest'))}: it was changed after it was written"
        )
    if document.get("criteria") != _outcomes(claim, measured):
        raise InputError(
            f"`{where}` must state the outcomes that its numbers have under the claim's criteria; "
            f"got {shortened(document.get('criteria'))}"
        )
    return Evidence(claim.id, origin, tuple(measured), str(document["digest"]), path)


def evidence_findings(claim: Claim, evidence: Evidence) -> list[Finding]:
    """Grade every stored measurement by the claim's criteria.

    Parameters
    ----------
    claim : Claim
        The claim.
    evidence : Evidence
        Its evidence.
    """
    findings = []
    for measured in evidence.measurements:
        criterion = claim.criterion(measured["quantity"])
        assert criterion is not None  # checked when it was read
        low, high = measured.get("interval") or [measured["value"]] * 2
        grade = criterion.grade(low, high)
        conditions = {k: str(v) for k, v in measured.get("conditions", {}).items()}
        if claim.networks:  # set beside the one layer that the ledger measures itself
            choices = {**conditions, "model": conditions.get("model", "network")}
        else:
            choices = {**conditions, "quantity": criterion.quantity.replace("_", " ")}
        name = ", ".join([criterion.quantity.replace("_", " "), *conditions.values()])
        shared: Record = {
            "case": name,
            "quantity": criterion.quantity,
            "choices": choices,
        }
        interval = "" if low == high else f" [{low:.4g}, {high:.4g}]"
        measurement = {
            **shared,
            "grade": grade,
            "text": f"{name}: {measured['value']:.6g}{interval} ({criterion.statement})",
            "value": measured["value"],
            "interval": [low, high],
            "source": evidence.path.name,
            "digest": evidence.digest,
        }
        if criterion.quantity.endswith("order"):
            measurement["order"] = measured["value"]
        law = {**shared, **criterion.describe(), "missing": ""}
        findings.append(Finding(choices, grade, law, measurement))
    return findings


def _load(path: Path) -> Record:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(
                f"`results file {path.name}` must have at most {LARGEST_FILE} bytes; got {size}"
            )
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"`results file {path.name}` must be readable; got {error.strerror}"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "" if isinstance(error, InputError) else f" ({str(error)[:120]})"
        if isinstance(error, InputError):
            raise
        raise InputError(f"`results file {path.name}` must be JSON; got {path}{reason}") from None
    if not isinstance(document, dict):
        raise InputError(
            f"`results file {path.name}` must hold a JSON object; got {shortened(document)}"
        )
    return document


def _check_provenance(value: Any, where: str) -> Record:
    if not isinstance(value, dict):
        raise InputError(
            f"`{where}` must be an object with {', '.join(PROVENANCE)}; got {shortened(value)}"
        )
    for key, kinds in PROVENANCE.items():
        got = value.get(key)
        if not isinstance(got, kinds) or (kinds == (int,) and isinstance(got, bool)):
            raise InputError(
                f"`{where}` must have {key} ({kinds[0].__name__}); got {shortened(got)}"
            )
    for key in ("device", "dtype"):
        if not value[key].strip():
            raise InputError(f"`{where}` must name a {key}; got {value[key]!r}")
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", value["commit"]):
        raise InputError(
            f"`{where}` must have the commit's full hash; got {shortened(value['commit'])}"
        )
    if not value["versions"]:
        raise InputError(f"`{where}` must list versions; got none")
    if value["configuration_hash"] != configuration_hash(value["configuration"]):
        raise InputError(
            f"`{where}` must have the hash of its configuration; "
            f"got {shortened(value['configuration_hash'])}"
        )
    return value


def _check_measurements(claim: Claim, value: Any, where: str) -> list[Record]:
    if not isinstance(value, list) or not value:
        raise InputError(f"`{where}` must be a list with entries; got {shortened(value)}")
    checked = []
    for position, entry in enumerate(value):
        at = f"{where}[{position}]"
        if not isinstance(entry, Mapping):
            raise InputError(f"`{at}` must be an object; got {shortened(entry)}")
        strange = [k for k in entry if k not in ("quantity", "value", "interval", "conditions")]
        if strange:
            raise InputError(
                f"`{at}` may hold quantity, value, interval, conditions; got {shortened(strange)}"
            )
        names = [c.quantity for c in claim.criteria]
        if entry.get("quantity") not in names:
            raise unknown_name(f"{at} quantity", entry.get("quantity"), names)
        if not _finite(entry.get("value")):
            raise InputError(
                f"`{at}` value must be a finite number; got {shortened(entry.get('value'))}"
            )
        interval = entry.get("interval")
        if interval is not None:
            pair = isinstance(interval, (list, tuple)) and len(interval) == 2
            if not pair or not all(_finite(e) for e in interval):
                raise InputError(
                    f"`{at}` interval must be two finite numbers; got {shortened(interval)}"
                )
            if not interval[0] <= entry["value"] <= interval[1]:
                raise InputError(
                    f"`{at}` interval must contain the value {entry['value']}; "
                    f"got {shortened(interval)}"
                )
        conditions = entry.get("conditions", {})
        texts = isinstance(conditions, Mapping) and all(
            isinstance(t, str) for pair in conditions.items() for t in pair
        )
        if not texts:
            raise InputError(f"`{at}` conditions must be texts; got {shortened(conditions)}")
        checked.append(json.loads(json.dumps(dict(entry))))
    return checked


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _outcomes(claim: Claim, measurements: Sequence[Record]) -> list[Record]:
    outcomes = []
    for measured in measurements:
        criterion = claim.criterion(measured["quantity"])
        assert criterion is not None
        low, high = measured.get("interval") or [measured["value"]] * 2
        outcomes.append({"quantity": criterion.quantity, "outcome": criterion.grade(low, high)})
    return outcomes


def _digest(document: Record) -> str:
    content = {key: document[key] for key in ("claim", "provenance", "measurements")}
    return configuration_hash(content)
