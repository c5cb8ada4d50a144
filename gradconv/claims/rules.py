"""From findings to a verdict: the only place where one is made, and never from words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from gradconv.claims.claim import LAYER, Claim, Finding

LARGEST_PHRASE = 3  # alternatives in one phrase; beyond this it is a list, not a condition
LARGEST_SET = 4  # choices that a phrase may combine
OR = "; or "  # between alternatives of several choices each

# How a choice reads; others are "name value".
WORDS = {
    "quantity": "{}",
    "noise": "{}",
    "restriction": "{}",
    "setting": "{}",
    "dim": "d = {}",
    "model": "{}",
}

Choices = Mapping[str, str]


def judge(claim: Claim, findings: Sequence[Finding]) -> tuple[str, str]:
    """Verdict and condition of a claim.

    Parameters
    ----------
    claim : Claim
        The claim; its required criteria must all have evidence.
    findings : sequence of Finding
        What was measured.

    Returns
    -------
    verdict, condition : str
        A contradiction between law and measurement comes before everything else; what is
        undecided supports nothing, and is named.
    """
    by_grade: dict[str, list[Finding]] = {}
    for finding in findings:
        by_grade.setdefault(finding.grade, []).append(finding)
    disagreeing = by_grade.get("disagrees", [])
    if disagreeing:
        return (
            "not reproduced",
            f"law and measurement disagree ({len(disagreeing)} of {len(findings)} cases): "
            + "; ".join(f.measurement["text"] for f in disagreeing[:LARGEST_PHRASE]),
        )
    missing = missing_evidence(claim, findings)
    if missing:
        return "not yet measured", f"missing: {'; '.join(missing)}"
    sharper, holds = by_grade.get("sharper", []), by_grade.get("holds", [])
    fails, undecided = by_grade.get("fails", []), by_grade.get("undecided", [])
    tail = f"undecided in {len(undecided)} of {len(findings)} cases" if undecided else ""
    if not sharper and not holds and not fails:
        return "not yet measured", tail or "nothing was measured"
    if not sharper and not holds:
        return "not reproduced", _joined(f"contradicted in all {len(fails)} cases", tail)
    if fails:
        return "holds only if", _joined(_only_if(sharper + holds, fails), tail)
    if undecided:  # of some cases nothing is known: the claim stands for the others alone
        where = _only_if(sharper + holds, undecided)
        return "holds only if", _joined(where, "none contradicts it", tail)
    if not sharper:
        return "reproduced", ""
    if claim.bound is None:
        return "sharpened", f"more than claimed in {len(sharper)} of {len(findings)} cases"
    return "sharpened", _sharpened(claim.bound.order, sharper, holds)


def missing_evidence(claim: Claim, findings: Sequence[Finding]) -> list[str]:
    """Name what a verdict on the claim still needs: quantities, and values of its conditions."""
    missing = []
    for criterion in claim.criteria:
        found = [f for f in findings if f.measurement["quantity"] == criterion.quantity]
        if not criterion.required:
            continue
        if not found:
            missing.append(criterion.quantity)
            continue
        for name, values in claim.coverage.items():
            absent = [v for v in values if all(f.choices.get(name) != v for f in found)]
            if absent:
                missing.append(f"{criterion.quantity} of {name} {', '.join(absent)}")
    return missing


def network_note(claim: Claim, findings: Sequence[Finding]) -> list[str]:
    """Say whether a claim about deep networks was measured on any."""
    if not claim.networks:
        return []
    networks = {f.choices.get("model", LAYER) for f in findings} - {LAYER}
    if networks:
        return [f"networks measured: {', '.join(sorted(networks))}"]
    return [f"measured for {LAYER}; networks not yet measured"]


def separate(inside: Sequence[Choices], outside: Sequence[Choices]) -> str | None:
    """Find the shortest phrase of choices that is true of all `inside` and of none `outside`.

    Parameters
    ----------
    inside, outside : sequence of mapping
        Choices of the cases; the order of the names decides between phrases of equal length.

    Returns
    -------
    str or None
        ``"restriction average"``; None if no short phrase does it.
    """
    names = [n for n in inside[0] if all(n in c for c in (*inside, *outside))] if inside else []
    for size in range(1, min(len(names), LARGEST_SET) + 1):
        for chosen in combinations(names, size):
            found = list(dict.fromkeys(tuple(c[n] for n in chosen) for c in inside))
            others = {tuple(c[n] for n in chosen) for c in outside}
            if len(found) <= LARGEST_PHRASE and not others.intersection(found):
                return _phrase(chosen, found)
    return None


def _phrase(names: Sequence[str], values: Sequence[tuple[str, ...]]) -> str:
    fixed = [i for i in range(len(names)) if len({v[i] for v in values}) == 1]
    moving = [i for i in range(len(names)) if i not in fixed]
    parts = [word(names[i], values[0][i]) for i in fixed]
    if len(moving) == 1:
        i = moving[0]
        text = WORDS.get(names[i], f"{names[i]} {{}}")
        parts.append(text.format(" or ".join(v[i] for v in values)))
    elif moving:
        parts.append(OR.join(", ".join(word(names[i], v[i]) for i in moving) for v in values))
    return ", ".join(parts)


def word(name: str, value: str) -> str:
    """Return a choice as prose: ``"d = 1"``, ``"pixel noise"``."""
    return WORDS.get(name, f"{name} {{}}").format(value)


def label(choices: Choices) -> str:
    """All choices of a case in one line."""
    return ", ".join(word(name, value) for name, value in choices.items())


def _only_if(holding: Sequence[Finding], others: Sequence[Finding]) -> str:
    inside, outside = [f.choices for f in holding], [f.choices for f in others]
    where, exception = separate(inside, outside), separate(outside, inside)
    if where is not None and (exception is None or where.count(OR) <= exception.count(OR)):
        return where
    if exception is not None:
        orders = _orders(others)
        return f"not ({exception})" + (f", where the order is {orders}" if orders else "")
    return f"{len(inside)} of {len(inside) + len(outside)} cases, not separated by one choice"


def _sharpened(bound: float, sharper: Sequence[Finding], attained: Sequence[Finding]) -> str:
    more = f"the order is {_orders(sharper)}"
    if not attained:
        return f"{more} in every case, {bound:g} in none"
    above, at = [f.choices for f in sharper], [f.choices for f in attained]
    where, there = separate(above, at), separate(at, above)
    return (
        f"{more} for {where or f'{len(above)} cases'}; "
        f"{bound:g} is attained for {there or f'{len(at)} cases'}"
    )


def _orders(findings: Sequence[Finding]) -> str:
    """The orders of findings, ``"+0.47 to +0.51"``: the law's where there is one."""
    orders = [f.law.get("order") for f in findings]
    if any(order is None for order in orders):
        orders = [f.measurement.get("order") for f in findings]
    known = sorted({round(float(o), 2) + 0.0 for o in orders if o is not None})
    if not known:
        return ""
    return f"{known[0]:+.2f}" + (f" to {known[-1]:+.2f}" if len(known) > 1 else "")


def _joined(*parts: str) -> str:
    return "; ".join(p for p in parts if p)
