"""Evidence for the claims on training: from stored runs, and from measurements beside them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradconv.nn import UnresolvedKernelWarning
from gradconv.studies.training import measured
from gradconv.studies.training.groups import (
    COSTS,
    FULL,
    MULTISCALE,
    SINGLE,
    Record,
    Runs,
    costs,
    group,
    pair,
    scores,
)
from gradconv.studies.training.hot_starts import fine_iteration_factor, hot_summary
from gradconv.studies.training.measured import measurement, names_of
from gradconv.studies.training.spreads import Estimate, paired, ratio

COST_NAMES = {"work": "work units", "flops": "FLOPs", "seconds": "seconds"}
LOW_NOISE = "denoise:0.05"


@dataclass(frozen=True)
class Source:
    """What the evidence of a claim is made of.

    Parameters
    ----------
    measure : callable
        Of the claim's configuration and the runs by block.
    blocks : tuple of str
        Blocks of the training study whose runs are used.
    choices : tuple of str
        Choices of measurements of its own; none: the runs are all there is.
    own : bool
        Whether anything is measured beside the runs, with the setups of the training study.
    dtype : str
        Precision, for the provenance.
    """

    measure: Callable[[Record, Mapping[str, Runs]], list[Record]]
    blocks: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    own: bool = False
    dtype: str = "float32"


def measure_evidence(claim: str, part: Record, runs: Mapping[str, Runs]) -> list[Record]:
    """Measurements that a claim is judged by.

    Parameters
    ----------
    claim : str
        Its id, one of `SOURCES`.
    part : dict
        ``base`` and ``setups`` of the training study and the ``measured`` choices, where it needs
        them.
    runs : mapping of str to list of dict
        Stored runs of the training study, by block.

    Returns
    -------
    list of dict
        As `gradconv.claims.evidence.evidence_document` takes them.
    """
    with warnings.catch_warnings():
        # mesh-free kernels that are narrower than a coarse cell: part of what is measured
        warnings.simplefilter("ignore", UnresolvedKernelWarning)
        return SOURCES[claim].measure(part, runs)


# -- from stored runs ---------------------------------------------------------------------------


def cost_reduction(table: Runs) -> list[Record]:
    """Full multiscale training against one scale, for each setup and convolution."""
    found = []
    for (setup, conv), runs in group(_planned(table), "setup", "conv").items():
        full, single = _pair_of(runs, FULL, SINGLE)
        if full:
            names = {**names_of(setup), "conv": conv}
            found += _cheaper("cost_reduction", full, single, names, COSTS)
            found += _losses("score_loss", full, single, names)
    return found


def mfc_speed_up(table: Runs) -> list[Record]:
    """Multiscale training of mesh-free networks against one scale."""
    found = []
    for (setup, conv), runs in group(_planned(table), "setup", "conv").items():
        for strategy in (MULTISCALE, FULL):
            cheap, single = _pair_of(runs, strategy, SINGLE)
            if conv == "mfc" and cheap:
                names = {**names_of(setup), "strategy": strategy}
                found += _cheaper("theoretical_speed_up", cheap, single, names, ("work", "flops"))
                found += _losses("score_loss", cheap, single, names)
    return found


def standard_multiscale(noise: Runs) -> list[Record]:
    """Full multiscale training of standard convolutions at low noise."""
    runs = [r for r in _planned(noise) if r["task"] == LOW_NOISE and r["conv"] == "standard"]
    full, single = _pair_of(runs, FULL, SINGLE)
    if not full:
        return []
    names = {"noise": f"σ = {LOW_NOISE.partition(':')[2]}", "strategy": FULL}
    return [
        *_cheaper("low_noise_cost_reduction", full, single, names, COSTS),
        *_losses("low_noise_score_loss", full, single, names),
    ]


def mfc_in_cnn(table: Runs) -> list[Record]:
    """Mesh-free against standard convolutions, both trained on one scale."""
    found = []
    for (setup,), runs in group(_planned(table), "setup").items():
        single = [r for r in runs if r["strategy"] == SINGLE]
        mfc, standard = ([r for r in single if r["conv"] == conv] for conv in ("mfc", "standard"))
        mfc, standard = pair(mfc, standard)
        if len(mfc) > 1:
            found += _losses("score_loss", mfc, standard, names_of(setup))
    return found


def step_seconds(table: Runs) -> list[Record]:
    """Seconds of multiscale training over those of one scale, as many steps of as many samples."""
    found = []
    for (setup, conv), runs in group(_planned(table), "setup", "conv").items():
        cheap, single = _pair_of(runs, MULTISCALE, SINGLE)
        if cheap:
            value = ratio(costs(cheap, "seconds"), costs(single, "seconds"))
            names = {**names_of(setup), "conv": conv, "cost": "seconds"}
            found.append(measurement("cost_ratio", value, **names))
    return found


def hot_start(runs: Runs) -> list[Record]:
    """Steps on the finest mesh, cold over hot, for each start and target.

    A factor that is only bounded (no step was needed, or the target was not reached) counts with
    its bound, and says so.
    """
    found = []
    for entry in hot_summary(runs):
        if sum(seed["steps"].bound != "?" for seed in entry["seeds"]) < 2:
            continue
        value, bound = fine_iteration_factor(entry["seeds"])
        names = {
            **names_of(entry["setup"]),
            "conv": entry["conv"],
            "levels": f"{entry['below']} below",
            "target": f"{entry['target']:g} × the best cold MSE",
        }
        if bound:
            names["bound"] = {"≥": "at least", "≤": "at most"}.get(bound, "both ways")
        found.append(measurement("fine_iteration_factor", value, **names))
    return found


def _planned(runs: Runs) -> Runs:
    """Runs of the strategies' own plans, not of a budget."""
    return [run for run in runs if not run.get("budget")]


def _pair_of(runs: Runs, first: str, second: str) -> tuple[Runs, Runs]:
    """Runs of two strategies with the same seeds; nothing where there are not two."""
    one, other = ([r for r in runs if r["strategy"] == name] for name in (first, second))
    one, other = pair(one, other)
    return (one, other) if len(one) > 1 else ([], [])


def _cheaper(
    quantity: str, cheap: Runs, dear: Runs, names: dict[str, str], units: Sequence[str]
) -> list[Record]:
    found = []
    for unit in units:
        value: Any = ratio(costs(dear, unit), costs(cheap, unit))
        if unit != "seconds":  # counted: the same for all seeds
            value = value.value
        found.append(measurement(quantity, value, **names, cost=COST_NAMES[unit]))
    return found


def _losses(quantity: str, mine: Runs, base: Runs, names: dict[str, str]) -> list[Record]:
    """Relative loss of each score: MSE that rose, SSIM that fell; paired by seed."""
    found = []
    for score, sign in (("mse", 1.0), ("ssim", -1.0)):
        pairs = zip(scores(mine, score), scores(base, score), strict=True)
        value: Estimate = paired([sign * (a - b) / b for a, b in pairs])
        found.append(measurement(quantity, value, **names, score=score.upper()))
    return found


# -- what each claim is judged by ---------------------------------------------------------------


def _unbiased_sum(part: Record, runs: Mapping[str, Runs]) -> list[Record]:
    return [*measured.telescoping(part), *measured.independent_bias(part)]


def _batch_variance(part: Record, runs: Mapping[str, Runs]) -> list[Record]:
    own = [*measured.variances(part), *measured.costs(part)]
    return [*own, *step_seconds(runs["table"])]


def _mfc_in_cnn(part: Record, runs: Mapping[str, Runs]) -> list[Record]:
    return [*measured.gradient_errors(part), *mfc_in_cnn(runs["table"])]


SOURCES: dict[str, Source] = {
    "unbiased-sum": Source(
        _unbiased_sum, (), ("telescoping_samples", "independent"), True, "float64"
    ),
    "batch-variance": Source(_batch_variance, ("table",), ("variance",), True),
    "work-units": Source(lambda part, runs: measured.work_units(part), (), (), True, "float64"),
    "cost-reduction": Source(lambda part, runs: cost_reduction(runs["table"]), ("table",)),
    "hot-start": Source(lambda part, runs: hot_start(runs["hot-starts"]), ("hot-starts",)),
    "mfc-speed-up": Source(lambda part, runs: mfc_speed_up(runs["table"]), ("table",)),
    "standard-multiscale": Source(
        lambda part, runs: standard_multiscale(runs["noise"]), ("noise",)
    ),
    "mfc-in-cnn": Source(_mfc_in_cnn, ("table",), (), True, "float32; gradient errors float64"),
}
