"""Which samples the terms see: the same within a term, others in other terms and in other steps.

False alarms: an association is called real beyond 4.5 standard deviations of its permutation law
(3.4e-6 a test, some 20 tests) and only if it is a quarter of what it could be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.stats import binom

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.causes import STEP
from gradconv.audit.estimator.samples import (
    SAME,
    association,
    details,
    equal_pairs,
    fingerprints,
    image_shape,
    images,
    partners,
    standardized,
    unexplained,
)
from gradconv.audit.estimator.terms import Role, Structure
from gradconv.audit.findings import Finding

DEVIATIONS = 4.5
EXCESS = 0.25
EXACT = 1e-7  # part of the variance that rounding leaves
CHANCE = 1e-6  # false alarm of finding too many samples twice
ALONE = 0.5  # correlation of details that one sample a step must show
FITTED = 4  # steps that restrictions are looked for in
COUPLED = 0.02  # part of an octave's power: other noise of less does no harm to speak of
ENOUGH = 48  # samples that they are fitted on


class Samples:
    """Inputs of the sides of all terms, and what was compared of them.

    Parameters
    ----------
    structure : Structure
        The terms.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        coarsest = min(
            (c.input.shape[2:] for s in structure.steps for c in s.calls), key=lambda n: n[0]
        )
        self.shape = image_shape(tuple(coarsest))
        self._images: dict[tuple[int, str, int], np.ndarray] = {}
        self._centre: np.ndarray | None = None

    def inputs(self, role: Role, step: int) -> np.ndarray:
        """Inputs of a side in a step, shape ``(N, C, *n)``."""
        return role.samples(step, self.structure.channels)

    def images(self, role: Role, step: int) -> np.ndarray:
        """Rows to compare images by: block means, what all samples share taken off."""
        if self._centre is None:
            roles = self.structure.roles.values()
            everything = [self._blocks(r, s) for r in roles for s in r.calls]
            self._centre = np.concatenate(everything).mean(axis=0)
        return standardized(self._blocks(role, step) - self._centre)

    def _blocks(self, role: Role, step: int) -> np.ndarray:
        key = (role.term, role.kind, step)
        if key not in self._images:
            self._images[key] = images(self.inputs(role, step), self.shape)
        return self._images[key]

    def associated(
        self, first: Sequence[np.ndarray], second: Sequence[np.ndarray]
    ) -> tuple[float, float]:
        """Association of rows over several steps, and what it is of the possible.

        Larger sets are also permuted within each step only, so that a drift of the data from step
        to step is no association.
        """
        pairs = [(a[: len(b)], b[: len(a)]) for a, b in zip(first, second, strict=True)]
        z, excess = association(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
        within = [association(a, b)[0] for a, b in pairs if len(a) >= 4]
        if len(within) == len(pairs):
            z = min(z, float(np.sum(within)) / len(within) ** 0.5)
        return z, excess


def related(z: float, excess: float) -> bool:
    """Whether an association is beyond chance."""
    return z > DEVIATIONS and excess > EXCESS


def check_pairs(samples: Samples) -> list[Finding]:
    """Check that both sides of every term are taken on the same samples."""
    found: dict[int, Finding] = {}
    exact: list[int] = []
    for fine, coarse in samples.structure.pairs():
        finding = _pair(samples, fine, coarse)
        if finding is None:
            exact.append(fine.term)
        else:
            found[fine.term] = finding
    # the finest mesh's own restriction is found, those below it are not: they start from the data
    if exact and min(exact) > max(found, default=0):
        for term, finding in found.items():
            if finding.cause == causes.FRESH:
                sentence = (
                    f"{finding.sentence}, while n={samples.structure.sizes[max(exact)]} is "
                    "restricted to rounding: coarse levels come from the data by steps of their own"
                )
                found[term] = Finding(
                    finding.where, causes.ROUTES, sentence, finding.number, "limits"
                )
    return list(found.values())


def _pair(samples: Samples, fine: Role, coarse: Role) -> Finding | None:
    steps = sorted(set(fine.calls) & set(coarse.calls))
    matched = [
        partners(samples.inputs(fine, s), samples.inputs(coarse, s))[1] for s in steps[:FITTED]
    ]
    if np.concatenate(matched).mean() >= SAME:
        return None
    name = samples.structure.name(fine.term)
    left = octave = np.nan
    if all(fine.count(s) == coarse.count(s) for s in steps):
        few = max(FITTED, -(-ENOUGH // fine.count(steps[0])))
        inputs = [
            np.concatenate([samples.inputs(r, s) for s in steps[:few]]) for r in (fine, coarse)
        ]
        fit = unexplained(*inputs)
        left, octave = fit.left, fit.octave
        if left <= EXACT:
            return None
    z, excess = samples.associated(
        [samples.images(fine, s) for s in steps], [samples.images(coarse, s) for s in steps]
    )
    if related(z, excess):
        if octave < COUPLED:
            return Finding(
                name,
                causes.COUPLED,
                f"the coarse input is no restriction of the fine one, and follows from it but for "
                f"{octave:.2g} of an octave's power: both are made from one sample path, or their "
                "noises differ by as little",
                octave,
                "note",
            )
        share = f"{left:.2g} of its variance" if np.isfinite(left) else "part of it"
        return Finding(
            name,
            causes.FRESH,
            f"the coarse input is the fine one's image (z = {z:.0f}), and {share} follows from "
            "no restriction of the fine input: the noise was drawn anew, or another way was taken",
            left,
            "limits",
        )
    share = f"leaves {left:.2g} of the coarse input's variance" if np.isfinite(left) else "fits"
    return Finding(
        name,
        causes.DIFFERENT,
        f"{np.concatenate(matched).mean():.0%} of the coarse inputs are a restriction of a fine "
        f"one, and images do not go together (z = {z:.1f}); the best local map {share}",
        float(z),
        "limits",
    )


def check_repeats(samples: Samples, reseeded: Sequence[str]) -> tuple[list[Finding], bool]:
    """Check that samples differ from step to step.

    Parameters
    ----------
    samples : Samples
        The inputs.
    reseeded : sequence of str
        Libraries whose random state is the same after every step, wherever it started.

    Returns
    -------
    findings, repeated
        What is wrong, and whether any sample came again at its place in the next step.
    """
    found: list[Finding] = []
    for role in samples.structure.roles.values():
        if role.kind != "fine":
            continue
        finding = _repeat(samples, role, reseeded)
        if finding is not None:
            found.append(finding)
    if not found:
        return [], False
    if any(f.cause == causes.SEED for f in found):
        # on coarse meshes the same noise makes images alike: fine ones tell the two apart
        found = [replace(f, cause=causes.SEED) if f.cause == causes.REBUILT else f for f in found]
        found.sort(key=lambda f: "fine detail" not in f.sentence)
    # one cause, one finding: name the terms
    merged = []
    for cause in dict.fromkeys(f.cause for f in found):
        alike = [f for f in found if f.cause == cause]
        every = len(alike) == len([r for r in samples.structure.roles if r[1] == "fine"])
        term = STEP if every else ", ".join(f.where for f in alike)
        first = alike[0]
        merged.append(Finding(term, cause, first.sentence, first.number, first.severity))
    return merged, True


def _repeat(samples: Samples, role: Role, reseeded: Sequence[str]) -> Finding | None:
    steps = sorted(role.calls)
    following = [(a, b) for a, b in pairwise(steps) if b == a + 1]
    if len(following) < 2:
        return None
    name = samples.structure.name(role.term)
    same: list[float] = []
    for a, b in following:
        x, y = samples.inputs(role, a), samples.inputs(role, b)
        count = min(len(x), len(y))
        same.append(float(np.mean([np.array_equal(x[i], y[i]) for i in range(count)])))
    share = float(np.mean(same))
    if share > 0.5:
        if reseeded:
            return Finding(
                name,
                causes.SEED,
                f"{share:.0%} of the inputs are those of the step before, noise included, and the "
                f"step leaves the random state of {' and '.join(reseeded)} the same wherever it "
                "started",
                share,
                "breaks",
            )
        return Finding(
            name,
            causes.REBUILT,
            f"{share:.0%} of the inputs are those of the step before at the same place: an "
            "iterator starts anew in every step (or a generator of its own does)",
            share,
            "breaks",
        )
    z, excess = samples.associated(
        [samples.images(role, a) for a, _ in following],
        [samples.images(role, b) for _, b in following],
    )
    noise, detail = _same_noise(samples, role, following, name)
    # the same noise shows in the images too, and the same images in the detail: less, though
    if related(z, excess) and (noise is None or detail <= excess):
        return Finding(
            name,
            causes.REBUILT,
            f"images are those of the step before at the same place (z = {z:.0f}), with other "
            "noise: an iterator starts anew in every step",
            z,
            "breaks",
        )
    return noise


def _same_noise(
    samples: Samples, role: Role, following: list[tuple[int, int]], name: str
) -> tuple[Finding | None, float]:
    """Other images, the same details; and their association, as a share of the possible."""
    first = [standardized(details(samples.inputs(role, a))) for a, _ in following]
    second = [standardized(details(samples.inputs(role, b))) for _, b in following]
    z, excess = samples.associated(first, second)
    alone = all(len(x) == 1 for x in first)
    mean = float(np.mean([np.sum(a[0] * b[0]) for a, b in zip(first, second, strict=True)]))
    if not related(z, excess) and not (alone and mean > ALONE):
        return None, excess
    finding = Finding(
        name,
        causes.SEED,
        f"images change from step to step, and the fine detail stays (correlation {mean:.2f} at "
        "the same place): the noise is drawn from the same seed in every step",
        mean,
        "breaks",
    )
    return finding, excess


def check_shared(samples: Samples, repeated: bool) -> list[Finding]:
    """Check that terms have samples of their own."""
    structure = samples.structure
    fines = [r for r in structure.roles.values() if r.kind == "fine"]
    pairs: list[str] = []
    best = 0.0
    for i, a in enumerate(fines):
        for b in fines[i + 1 :]:
            number = _shares(samples, a, b, repeated)
            if number:
                best = max(best, number)
                pairs.append(f"{a.term} and {b.term}")
    if not pairs:
        return []
    return [
        Finding(
            STEP,
            causes.SHARED,
            f"terms {', '.join(pairs)} see the same images in one step (up to {best:.0%} of the "
            "smaller set): they are not independent, and the sum tends to the finest mesh's "
            "gradient of those samples at more cost",
            best,
            "limits",
        )
    ]


def _shares(samples: Samples, a: Role, b: Role, repeated: bool) -> float:
    """Share of the smaller set that two terms have in common; 0 if it may be chance."""
    steps = sorted(set(a.calls) & set(b.calls))
    if not steps:
        return 0.0
    if a.count(steps[0]) > b.count(steps[0]):
        a, b = b, a
    rows = [(samples.images(a, s), samples.images(b, s)) for s in steps]
    prints = [tuple(fingerprints(samples._blocks(r, s)) for r in (a, b)) for s in steps]
    # data sets are finite: some samples are drawn twice by chance, the more the fewer there are
    everything = np.concatenate([p[1] for p in prints])
    distinct = len(everything) - int(np.triu(equal_pairs(everything, everything), 1).any(0).sum())
    used = prints[:1] if repeated else prints
    hits = sum(int(equal_pairs(x, y).any(axis=1).sum()) for x, y in used)
    tried = sum(len(x) for x, _ in used)
    chance = min(1.0, max(len(y) for _, y in used) / max(distinct, 1))
    share = hits / tried
    if (
        share > 0.5
        and (repeated or binom.sf(hits - 1, tried, chance) < CHANCE)
        and (len(steps) > 1)
    ):
        return share
    if repeated:  # too few distinct samples for anything but equality
        return 0.0
    # the smaller set may be the head or the tail of the larger one
    for head in (True, False):
        larger = [y[: len(x)] if head else y[-len(x) :] for x, y in rows]
        z, excess = samples.associated([x for x, _ in rows], larger)
        if related(z, excess):
            return min(1.0, excess)
    return 0.0
