"""Does a level have one law: as the fine side of its own term and as the coarse side of the next.

Only then does the sum telescope. The mean, and the power in octaves of frequency, are compared by
Welch's test over the steps' means: samples of one step need not be independent of each other.
False alarms: 1e-4 an audit, shared among all tests (Bonferroni); an octave counts only if its power
differs by a tenth.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.checks_samples import Samples
from gradconv.audit.estimator.samples import octave_index, unexplained
from gradconv.audit.estimator.terms import Role, Structure
from gradconv.audit.findings import Finding

FALSE_ALARM = 1e-4
LEAST_STEPS = 6
RATIO = 0.1  # difference of the logarithms of power that counts
FLOOR = 1e-10  # of the total power: below it is rounding
TINY = 1e-200
UNIT_GAIN = 0.02  # a restriction keeps a constant, to this
SMALL = 1e-3  # of the total power: a difference that changes no gradient to speak of


def check_laws(samples: Samples) -> tuple[list[Finding], list[str]]:
    """Compare the two roles of every level.

    Returns
    -------
    findings, notes
        What is wrong, and what could not be checked.
    """
    structure = samples.structure
    both = [
        (structure.roles[(level, "fine")], coarse)
        for _, coarse in structure.pairs()
        for level in (coarse.level,)
        if (level, "fine") in structure.roles
    ]
    compared = [pair for pair in both if min(len(r.calls) for r in pair) >= LEAST_STEPS]
    notes = []
    if len(compared) < len(both):
        notes.append(
            f"fewer than {LEAST_STEPS} steps have a level in both roles: whether it has one law "
            "was not checked"
        )
    if not compared:
        return [], notes
    differences = {}
    for own, other in compared:
        found = _difference(samples, own, other, len(compared))
        if found is not None:
            differences[own.level] = found
    if not differences:
        return [], notes
    return [_name(samples, differences, [own.level for own, _ in compared])], notes


def _statistics(samples: Samples, role: Role) -> tuple[np.ndarray, np.ndarray]:
    """Means of the values and mean logarithms of octave powers, ``(steps, 1)``, ``(steps, K)``."""
    means, powers = [], []
    for step in role.calls:
        x = samples.inputs(role, step).astype(float)
        means.append([x.mean()])
        powers.append(np.log(np.maximum(octaves(x), TINY)).mean(axis=0))
    return np.array(means), np.array(powers)


def octaves(x: np.ndarray) -> np.ndarray:
    """Power of each sample in octaves of |j|, all channels together, shape ``(N, K)``."""
    axes = tuple(range(2, x.ndim))
    spectrum = np.abs(np.fft.fftn(x, axes=axes, norm="forward")) ** 2
    octave = octave_index(x.shape[2:])
    total = spectrum.sum(axis=1)
    return np.stack([total[:, octave == k].sum(axis=1) for k in range(int(octave.max()) + 1)], 1)


def _difference(
    samples: Samples, own: Role, other: Role, levels: int
) -> tuple[np.ndarray, float, float] | None:
    """Logarithms of the power ratios coarse/fine by octave, share of the power, its t."""
    (mean_a, power_a), (mean_b, power_b) = (_statistics(samples, r) for r in (own, other))
    weights = np.exp(np.maximum(power_a.mean(0), power_b.mean(0)))
    used = weights > FLOOR * weights.sum()
    tests = levels * (int(used.sum()) + 1)
    ratio = power_b.mean(0) - power_a.mean(0)
    p = np.array([_welch(a, b) for a, b in zip(power_a.T, power_b.T, strict=True)])
    differs = used & (p < FALSE_ALARM / tests) & (np.abs(ratio) > RATIO)
    gap = np.abs(np.exp(power_b.mean(0)) - np.exp(power_a.mean(0)))
    share = float(gap[differs].sum() / weights.sum())
    size = float(np.sqrt(weights.sum()))
    shift = abs(float(mean_b.mean() - mean_a.mean())) / size if size else 0.0
    shifted = _welch(mean_a[:, 0], mean_b[:, 0]) < FALSE_ALARM / tests and shift > RATIO
    if not differs.any() and not shifted:
        return None
    shift = shift if shifted else 0.0
    ratio = np.where(differs, ratio, 0.0)
    return np.where(used, ratio, np.nan), max(share, shift), shift


def _welch(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value; 1 for samples that are equal to rounding."""
    if np.allclose(a, b.mean(), rtol=1e-9) and np.allclose(b, b.mean(), rtol=1e-9):
        return 1.0
    if not (a.std() or b.std()):
        return 0.0
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def _name(
    samples: Samples,
    differences: dict[int, tuple[np.ndarray, float, float]],
    compared: list[int],
) -> Finding:
    """Tell a route that is not nested, noise of one size and another scale from each other."""
    structure = samples.structure
    level = max(differences)
    ratio, share, shift = differences[level]
    octave = int(np.nanargmax(np.abs(ratio)))
    factor = float(np.exp(ratio[octave]))
    here = f"as the coarse side of {structure.name(_above(structure, level))}"
    seen = (
        f"inputs on n={structure.sizes[level]} have {factor:.2g} times the power at frequencies "
        f"{2**octave} to {2 ** (octave + 1)} {here}"
    )
    gain = _gain(samples, level)
    gained = np.isfinite(gain) and abs(gain - 1.0) > UNIT_GAIN
    known = ratio[np.isfinite(ratio)]
    flat = len(known) > 1 and bool(np.all(np.abs(known - ratio[octave]) < RATIO))
    agreeing = [c for c in compared if c > level]
    if gained or shift > RATIO or (flat and not _like_noise(structure, factor)):
        cause = causes.SCALED
        seen += f", their means differ by {shift:.2g} standard deviations" if shift else ""
        seen += f", and the restriction multiplies by {gain:.3g}" if gained else ""
        tail = "one of the two roles is scaled or shifted"
    elif agreeing:
        cause = causes.ROUTES
        tail = (
            f"on n={structure.sizes[agreeing[-1]]} the two agree: coarse levels are reached by "
            "different ways, which are not one map"
        )
    elif factor < 1.0:
        cause = causes.NOISE
        tail = (
            "noise has its full size on every mesh where it is drawn, and loses power where it is "
            "restricted"
        )
    else:
        cause = causes.LAWS
        tail = "the two roles come by different maps, or from different data"
    return Finding(
        structure.name(level),
        cause,
        f"{seen}; {tail}, so that the sum does not telescope",
        factor,
        "breaks" if share > SMALL else "note",
    )


def _above(structure: Structure, level: int) -> int:
    return next(coarse.term for _, coarse in structure.pairs() if coarse.level == level)


def _like_noise(structure: Structure, factor: float) -> bool:
    """Whether a power ratio is what averaging 2^d cells leaves of white noise."""
    return abs(np.log(factor) + structure.dim * np.log(2.0)) < 0.35


def _gain(samples: Samples, level: int) -> float:
    """What the restriction onto a level makes of a constant; NaN if no local map gives it."""
    fine, coarse = next(p for p in samples.structure.pairs() if p[1].level == level)
    step = next(iter(set(fine.calls) & set(coarse.calls)))
    x, y = samples.inputs(fine, step), samples.inputs(coarse, step)
    if len(x) != len(y):
        return float("nan")
    fit = unexplained(x, y)
    return fit.gain if fit.left < 1e-6 else float("nan")
