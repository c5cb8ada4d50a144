"""Does the sum telescope: signed weights of the calls, by level.

With κ the weight of the finest level, the weights of all calls on a level add up to κ on the finest
mesh and to 0 on every other, whatever control-variate weights the terms carry. A mean over cells
and samples has one κ on every mesh and for every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.causes import STEP
from gradconv.audit.estimator.terms import Role, Structure
from gradconv.audit.estimator.weights import (
    ALIKE,
    ERRORS,
    Weights,
    level_sums,
    measurable,
    scaling,
    standard_error,
)
from gradconv.audit.findings import Finding
from gradconv.errors import InputError

TOLERANCE = 0.02  # of κ; what outputs and targets leave beside δ is a tenth of it
Loss = Callable[[Any, Any], torch.Tensor]


def check_weights(
    structure: Structure, weights: Weights, loss: Loss | None, amplitude: float
) -> tuple[list[Finding], list[str]]:
    """Check signs, sizes and presence of all sides.

    Parameters
    ----------
    structure : Structure
        The terms.
    weights : Weights
        Their weights.
    loss : callable or None
        What the loop's losses should be, to tell a sum of terms from their mean.
    amplitude : float
        Size of the perturbation.

    Returns
    -------
    findings, notes
        What is wrong, and what could not be checked.
    """
    if not measurable(weights):
        note = (
            "the slope of the loss along a shift of the prediction has no stable sign: signs and "
            "sizes of the terms' weights were not checked"
        )
        return list(_missing(structure)), [note]
    if structure.varies:
        note = (
            "steps have different terms (a randomised level?): each term was checked by itself, "
            "the weights between terms and the sum over levels were not"
        )
        return [*_missing_sides(structure), *_ratios(structure, weights)], [note]
    sums = level_sums(structure, weights)
    whole = not structure.detached and all(
        abs(value - (level == structure.finest)) <= max(TOLERANCE, ERRORS * error)
        for level, (value, error) in sums.items()
    )
    notes = []
    found: list[Finding] = []
    if whole and structure.finest in sums:
        found += _unused(structure)
        found += _grown(structure, weights)
        others = [w for k in weights.values if abs(abs(w := weights.mean(k)) - 1.0) > TOLERANCE]
        if others and not found and all(weights.spread(k) < TOLERANCE for k in weights.values):
            notes.append(
                f"terms carry weights, the least {min(map(abs, others)):.3g}; they telescope"
            )
    else:
        found += _diagnose(structure, weights)
    if loss is not None and not any(f.severity == "breaks" for f in found):
        found += _scale(structure, weights, loss, amplitude)
    return found, notes


def _missing(structure: Structure) -> list[Finding]:
    return [*_missing_sides(structure), *_missing_terms(structure), *_unused(structure)]


def _missing_sides(structure: Structure) -> list[Finding]:
    """Terms above the coarsest that have a fine side only."""
    found = []
    coarsest = min((role.level for role in structure.roles.values()), default=0)
    for term in range(1, len(structure.sizes)):
        if (term, "fine") not in structure.roles or (term, "coarse") in structure.roles:
            continue
        detached = structure.detached.get((term, "coarse"))
        if detached is not None:
            calls = [c for row in detached.calls.values() for c in row]
            without = sum(not c.differentiable for c in calls)
            how = "ran without gradients" if without else "were cut off from the loss"
            found.append(
                Finding(
                    structure.name(term),
                    causes.DETACHED,
                    f"the module ran on n={structure.sizes[detached.level]}, and 0 of {len(calls)} "
                    f"calls received a gradient: they {how}, so that the term is the whole "
                    "gradient of its fine mesh, not a difference",
                    0.0,
                    "breaks",
                )
            )
        elif term > coarsest:
            found.append(
                Finding(
                    structure.name(term),
                    causes.MISSING_COARSE,
                    f"the gradient on n={structure.sizes[term]} enters, and 0 calls subtract the "
                    "next coarser mesh's on the same samples: the term is no difference",
                    0.0,
                    "breaks",
                )
            )
    return found


def _missing_terms(structure: Structure) -> list[Finding]:
    """Levels whose gradient is subtracted and never added."""
    found = []
    for term, n in enumerate(structure.sizes):
        if (term, "fine") in structure.roles:
            continue
        taken = [r for r in structure.roles.values() if r.level == term]
        orphan = (term, "coarse") in structure.roles and not taken
        if not taken and not orphan and term < structure.finest:
            continue
        cause = causes.MISSING_COARSEST if term == 0 else causes.MISSING_TERM
        found.append(
            Finding(
                structure.name(term),
                cause,
                f"the gradient on n={n} is subtracted in {len(taken)} "
                f"term{'s' if len(taken) != 1 else ''} and added in 0: the sum lacks "
                f"{'the coarsest mesh' if term == 0 else 'this difference'}",
                0.0,
                "breaks",
            )
        )
    return found


def _unused(structure: Structure) -> list[Finding]:
    """Levels that no gradient came from at all."""
    used = {role.level for role in (*structure.roles.values(), *structure.detached.values())}
    return [
        Finding(
            STEP,
            causes.UNUSED,
            f"n={n} is declared, and 0 of the step's gradients are taken on it",
            0.0,
            "limits",
        )
        for level, n in enumerate(structure.sizes)
        if level not in used
    ]


def _diagnose(structure: Structure, weights: Weights) -> list[Finding]:
    found = [*_missing(structure)]
    keys = list(weights.values)
    raw = {key: weights.mean(key) for key in keys}
    cause, law, size = scaling(structure, raw, weights)
    unit = float(np.median([abs(raw[k]) / size[k] for k in keys]))
    relative = {k: raw[k] / size[k] / unit for k in keys}
    if cause is not None:
        found.append(_summed(structure, weights, cause, law))
    for key in keys:
        wanted = 1.0 if key[1] == "fine" else -1.0
        value = relative[key]
        if abs(abs(value) - 1.0) <= max(ALIKE, ERRORS * weights.spread(key)):
            if value * wanted < 0:
                found.append(_sign(structure, structure.roles[key], value))
        elif cause is None:
            found.append(
                Finding(
                    structure.name(key[0]),
                    causes.WRONG_WEIGHT,
                    f"its {key[1]} side on n={structure.sizes[structure.roles[key].level]} has "
                    f"weight {value:+.3g} where {wanted:+.0f} telescopes",
                    value,
                    "breaks",
                )
            )
    return found


def _grown(structure: Structure, weights: Weights) -> list[Finding]:
    """Sums over cells telescope, with differences that do not become small."""
    raw = {key: weights.mean(key) for key in weights.values}
    if all(abs(abs(w) - 1.0) <= ALIKE for w in raw.values()) or len(raw) < 3:
        return []
    cause, law, size = scaling(structure, raw, weights)
    scaled = [abs(raw[k]) / size[k] for k in raw]
    if cause is None or max(scaled) > (1.0 + ALIKE) * min(scaled):
        return []
    return [replace(_summed(structure, weights, cause, law), severity="limits")]


def _sign(structure: Structure, role: Role, value: float) -> Finding:
    verb = "added" if role.kind == "coarse" else "subtracted"
    return Finding(
        structure.name(role.term),
        causes.SIGN,
        f"the gradient of its {role.kind} side, on n={structure.sizes[role.level]}, is {verb}: "
        f"weight {value:+.3g} where {-value:+.3g} telescopes",
        value,
        "breaks",
    )


def _summed(structure: Structure, weights: Weights, cause: str, law: str) -> Finding:
    ends = sorted(weights.values, key=lambda k: abs(weights.mean(k)))
    least, most = (structure.roles[ends[0]], structure.roles[ends[-1]])
    ratio = abs(weights.mean(ends[-1]) / weights.mean(ends[0]))
    # the two are one: terms that are weighted by their share of all samples
    tail = " (a sum, or terms weighted by their samples)" if cause == causes.SUM_BATCH else ""

    def words(role: Role) -> str:
        count = np.mean([role.count(s) for s in role.calls])
        return f"n={structure.sizes[role.level]} with {count:.0f} samples"

    return Finding(
        STEP,
        cause,
        f"weights grow as {law}: {ratio:.3g} times more on {words(most)} than on {words(least)}, "
        f"where a mean over cells and samples weighs both alike{tail}",
        ratio,
        "breaks",
    )


def _ratios(structure: Structure, weights: Weights) -> list[Finding]:
    """Coarse over fine weight of each term, for loops whose terms vary between steps."""
    found = []
    for fine, coarse in structure.pairs():
        top, below = (weights.values.get((r.term, r.kind), {}) for r in (fine, coarse))
        ratios = [below[s] / top[s] for s in top if s in below]
        if not ratios:
            continue
        ratio, allowed = float(np.mean(ratios)), max(TOLERANCE, ERRORS * standard_error(ratios))
        cells = 2.0 ** (structure.dim * (coarse.level - fine.level))
        if abs(ratio + 1.0) <= allowed:
            continue
        if ratio > 0:
            found.append(_sign(structure, coarse, ratio))
        elif abs(ratio + cells) <= ALIKE * cells:
            found.append(_summed(structure, weights, causes.SUM_CELLS, f"n^{structure.dim}"))
        else:
            found.append(
                Finding(
                    structure.name(fine.term),
                    causes.WRONG_WEIGHT,
                    f"its coarse side has weight {ratio:+.3g} of the fine side's, where −1 "
                    "makes a difference",
                    ratio,
                    "note",  # with control-variate weights it may yet telescope
                )
            )
    return found


def _scale(structure: Structure, weights: Weights, loss: Loss, amplitude: float) -> list[Finding]:
    """Compare κ with the slope of the loss itself."""
    role = structure.roles[(structure.finest, "fine")]
    call = next(iter(role.calls.values()))[0]
    shape = (2, call.channels, *call.places)
    signs = 2.0 * torch.arange(2 * call.channels).remainder(2).double() - 1.0
    delta = (amplitude * signs.reshape(2, call.channels, *(1,) * (len(shape) - 2))).expand(shape)
    prediction = delta.clone().requires_grad_()
    try:
        value = loss(prediction, torch.zeros(shape, dtype=torch.float64))
        (cotangent,) = torch.autograd.grad(value, prediction)
    except Exception as error:  # the user's loss may fail in any way
        raise InputError(
            "`loss` must take a prediction and a target; on tensors of shape "
            f"{shape} it raised {type(error).__name__}: {error}"
        ) from error
    whole = float((cotangent * delta).sum() / delta.square().mean() / call.channels)
    ratio = weights.unit / whole if whole else np.nan
    terms = sum(kind == "fine" for _, kind in structure.roles)
    if not np.isfinite(ratio) or abs(ratio - 1.0) <= ALIKE:
        return []
    averaged = abs(ratio * terms - 1.0) <= ALIKE
    return [
        Finding(
            STEP,
            causes.AVERAGED if averaged else causes.WRONG_WEIGHT,
            f"the whole sum has weight {ratio:.3g} of `loss`"
            + (f": its {terms} terms are averaged, not added" if averaged else ""),
            ratio,
            "breaks" if averaged else "note",
        )
    ]
