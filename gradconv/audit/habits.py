"""Causes that are found by taking a habit away: padding, statistics, dropout, large steps."""

from __future__ import annotations

from gradconv.audit.evidence import Evidence
from gradconv.audit.findings import Finding
from gradconv.audit.interventions import (
    HeldStatistics,
    Intervention,
    NestedSteps,
    NoDropout,
    PeriodicPadding,
)

PADDING = "padding at the walls"
STATISTICS = "normalisation statistics"
STOCHASTIC = "stochastic"
NOT_NESTED = "restriction not nested"


def experiments(evidence: Evidence) -> list[Finding]:
    """Run every intervention that finds something to replace."""
    found: list[Finding] = []
    for cause, intervention in (
        (PADDING, PeriodicPadding()),
        (STATISTICS, HeldStatistics()),
        (NOT_NESTED, NestedSteps()),
        (STOCHASTIC, NoDropout()),
    ):
        if evidence.acts(intervention):
            found += _judged(evidence, cause, intervention)
    named = {f.where for f in found if f.cause == STOCHASTIC}
    for layer, change in evidence.noisy.items():
        if layer not in named:
            sentence = (
                f"its output changes by {change:.2g} of its norm from one random state to another "
                f"on n={evidence.n(0)}; levels of a path start from one state, and what they draw "
                "on different meshes need not belong together"
            )
            found.append(Finding(layer, STOCHASTIC, sentence, change, "note"))
    return found


def _judged(evidence: Evidence, cause: str, intervention: Intervention) -> list[Finding]:
    changed = evidence.experiment(intervention)
    if changed is None:
        evidence.subject.note(f"{cause}: the module does not run {intervention.words}")
        return []
    found = []
    whole = evidence.effect(changed, evidence.names)
    for layer in sorted(intervention.layers):
        # a layer without parameters acts on those of others
        owned = evidence.layers.get(layer)
        own = evidence.effect(changed, owned) if owned and cause == PADDING else whole
        effect = own if own.helps else whole
        if not effect.helps:
            continue
        of = "its" if effect is own and own is not whole else "the whole's"
        sentence = effect.sentence(intervention.words, of)
        if isinstance(intervention, HeldStatistics):
            seen = intervention.variances[layer]
            sentence += (
                f" (its variance is {seen[False]:.3g} on n={evidence.n(0)} and {seen[True]:.3g} on "
                f"n={evidence.n(-1)})"
            )
        if cause == STOCHASTIC and layer in evidence.noisy:
            sentence += (
                f" (its output changes by {evidence.noisy[layer]:.2g} between random states)"
            )
        found.append(
            Finding(layer, cause, sentence, effect.share.value, evidence.severity(layer, effect))
        )
    return found
