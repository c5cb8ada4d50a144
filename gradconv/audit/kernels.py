"""Kernels tied to the grid or too narrow for it, and layers that see noise of its scale."""

from __future__ import annotations

import math
from typing import Any

from gradconv.audit.effects import Effect
from gradconv.audit.evidence import Evidence
from gradconv.audit.experiments import BandLimit
from gradconv.audit.findings import Finding
from gradconv.audit.probes import Response, mismatch
from gradconv.nn.evaluation import ROOT

TIED = "kernel tied to the grid"
UNRESOLVED = "kernel not resolved by these meshes"
NOISE = "noise at the grid's scale"
ELSEWHERE = "noise let through by other layers"
SAME = 1e-3  # 1 − cosine of two responses that count as one
RESOLVED = 2.0  # width in cells from which a kernel damps noise of the grid's scale
POINT = 0.01  # share of energy off the cell up to which a layer acts cell by cell


def tied_and_noisy(evidence: Evidence) -> list[Finding]:
    """Compare each layer's response to one cell on the two finest meshes, then filter its input."""
    tied: dict[str, tuple[Response, Response]] = {}
    noisy: list[str] = []
    for layer in evidence.layers:
        pair = _nearest(evidence.responses, layer) or []
        if len(pair) == 2:
            coarse, fine = pair
            if coarse.spread > POINT and mismatch(coarse, fine) < SAME:
                tied[layer] = (coarse, fine)
                continue
        if _open(evidence, layer):
            noisy.append(layer)
    candidates = {layer for layer in tied if _open(evidence, layer)} | set(noisy)
    effects: dict[str, Effect] = {}
    if candidates:
        changed = evidence.experiment(BandLimit(candidates, evidence.n(0)))
        if changed is not None:
            effects = {c: evidence.effect(changed, evidence.layers[c]) for c in candidates}
    found = [_tied(evidence, layer, *pair, effects.get(layer)) for layer, pair in tied.items()]
    for layer in noisy:
        effect = effects.get(layer)
        if effect is not None and effect.cures:
            found += _noisy(evidence, layer, effect)
    return found


def _nearest(kept: dict[str, Any], layer: str) -> Any:
    """What was kept of a layer, or of the layer that it is a part of (a parametrised weight)."""
    while layer:
        if layer in kept:
            return kept[layer]
        layer = layer.rpartition(".")[0]
    return None


def _open(evidence: Evidence, layer: str) -> bool:
    return evidence.verdict(layer) not in ("converges", "exact")


def _tied(
    evidence: Evidence, layer: str, coarse: Response, fine: Response, effect: Effect | None
) -> Finding:
    last = len(evidence.subject.modules) - 1
    sizes = _nearest(evidence.sizes, layer)
    # of the layer's own mesh, which may be coarser than the level's
    widths = [r.width / sizes[i][0][0] for r, i in ((coarse, last - 1), (fine, last))]
    order = math.log2(widths[0] / widths[1])
    sentence = (
        f"its response to one cell is the same on every mesh, {fine.width:.2f} cells wide: "
        f"{widths[0]:.3g} of the box on n={evidence.n(-2)}, {widths[1]:.3g} on n={evidence.n(-1)}"
    )
    severity = "latent"
    if effect is None:
        sentence += "; its gap converges on these data"
    elif effect.helps:
        severity = evidence.severity(layer, effect)
        sentence += "; " + effect.sentence(BandLimit.words, "its")
    else:
        why = "too few paths to blame it" if effect.may_help else "not what is wrong here"
        sentence += f"; {effect.sentence(BandLimit.words, 'its')}: {why}"
    return Finding(layer, TIED, sentence, order, severity)


def _noisy(evidence: Evidence, layer: str, effect: Effect) -> list[Finding]:
    """Tell whether a layer lets noise through by itself, or is reached by what others let through.

    A layer without a kernel passes it; so does one whose kernel is narrower than a few cells.
    """
    pair = _nearest(evidence.responses, layer) or []
    said, severity = effect.sentence(BandLimit.words, "its"), evidence.severity(layer, effect)
    if len(pair) == 2 and pair[1].spread > POINT:
        coarse, fine = pair
        seen = (
            f"its response to one cell is {coarse.width:.2f} cells wide on n={evidence.n(-2)} and "
            f"{fine.width:.2f} on n={evidence.n(-1)}: "
        )
        cause, why = ELSEWHERE, "noise of the grid's scale reaches it through other layers; "
        if fine.width < RESOLVED:
            cause, why = UNRESOLVED, "too narrow to damp noise of the grid's scale there; "
        return [Finding(layer, cause, seen + why + said, fine.width, severity)]
    own = _nearest(evidence.powers, layer)
    of, undamped = ("its", ", which it does not damp") if own else ("the module's", "")
    powers = own or evidence.powers.get(ROOT, [])
    if len(powers) < 2:
        return []
    order = math.log2(powers[-2] / powers[-1]) if powers[-2] and powers[-1] else math.nan
    sentence = (
        f"{of} input's power in space is {powers[-2]:.3g} on n={evidence.n(-2)} and "
        f"{powers[-1]:.3g} on n={evidence.n(-1)} (order {order:+.2f}){undamped}; "
    )
    return [Finding(layer, NOISE, sentence + said, order, severity)]
