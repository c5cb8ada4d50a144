"""Write what the study says of the claims: ``python studies/training/evidence.py [RESULTS [TO]]``.

Reads ``results/*.json`` and measures what needs no training run, in minutes; the ledger reads the
files that it writes, ``studies/claims/ID.json``.
"""

from __future__ import annotations

import sys
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measured
from measured import measurement, names_of
from spreads import Estimate, paired, ratio
from summaries import (
    COSTS,
    FULL,
    SINGLE,
    Record,
    Runs,
    costs,
    fine_iteration_factor,
    group,
    hot_summary,
    pair,
    read_results,
    scores,
)

from gradconv.claims.evidence import evidence_document, write_evidence
from gradconv.claims.paper import CLAIMS
from gradconv.nn import UnresolvedKernelWarning
from gradconv.provenance import provenance

HERE = Path(__file__).resolve().parent
CLAIMS_BY_ID = {claim.id: claim for claim in CLAIMS}
COST_NAMES = {"work": "work units", "flops": "FLOPs", "seconds": "seconds"}
LOW_NOISE = "denoise:0.05"
Results = dict[str, Record]


def main() -> None:
    """Write a file for each claim that there is something to say of."""
    given = [Path(argument) for argument in sys.argv[1:]]
    results = read_results(given[0] if given else HERE / "results")
    folder = given[1] if len(given) > 1 else HERE.parent / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    study = tomllib.loads((HERE / "configuration.toml").read_text(encoding="utf-8"))
    study["evidence"] = tomllib.loads((HERE / "evidence.toml").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        # mesh-free kernels that are narrower than a coarse cell: part of what is measured
        warnings.simplefilter("ignore", UnresolvedKernelWarning)
        made = evidence(study, results)
    for claim, (found, origin) in made.items():
        document = evidence_document(CLAIMS_BY_ID[claim], found, origin)
        print(write_evidence(folder, document), file=sys.stderr)


def evidence(study: Record, results: Results) -> dict[str, tuple[list[Record], Record]]:
    """Measurements and provenance by claim; none of those whose runs are not there."""
    # Before anything is written, which would make the tree another one.
    table, noise, hot = (
        results[b]["runs"] if b in results else [] for b in ("table", "noise", "hot-starts")
    )
    made = {
        "unbiased-sum": (
            [*measured.telescoping(study), *measured.independent_bias(study)],
            (),
            "float64",
        ),
        "batch-variance": (
            [*measured.variances(study), *measured.costs(study), *step_seconds(table)],
            ("table",),
            "float32",
        ),
        "work-units": (measured.work_units(study), (), "float64"),
        "cost-reduction": (cost_reduction(table), ("table",), "float32"),
        "hot-start": (hot_start(hot), ("hot-starts",), "float32"),
        "mfc-speed-up": (mfc_speed_up(table), ("table",), "float32"),
        "standard-multiscale": (standard_multiscale(noise), ("noise",), "float32"),
        "mfc-in-cnn": (
            [*measured.gradient_errors(study), *mfc_in_cnn(table)],
            ("table",),
            "float32; gradient errors float64",
        ),
    }
    return {
        claim: (found, origin_of(study, results, blocks, dtype))
        for claim, (found, blocks, dtype) in made.items()
        if found
    }


def origin_of(study: Record, results: Results, blocks: Sequence[str], dtype: str) -> Record:
    """Provenance of measurements, with that of the stored runs that they were made from."""
    stored = {
        block: {
            key: results[block]["provenance"][key]
            for key in ("commit", "dirty", "configuration_hash")
        }
        for block in blocks
        if block in results
    }
    origin = provenance({"study": study, "results": stored}, study["seeds"][0], "cpu", dtype)
    origin["dirty"] = bool(origin["dirty"]) or any(s["dirty"] for s in stored.values())
    return origin


# -- from stored runs ---------------------------------------------------------------------------


def cost_reduction(table: Runs) -> list[Record]:
    """Full multiscale training against one scale, for each setup and convolution."""
    found = []
    for (setup, conv), runs in group(_plain(table), "setup", "conv").items():
        full, single = _pair_of(runs, FULL, SINGLE)
        if full:
            names = {**names_of(setup), "conv": conv}
            found += _cheaper("cost_reduction", full, single, names, COSTS)
            found += _losses("score_loss", full, single, names)
    return found


def mfc_speed_up(table: Runs) -> list[Record]:
    """Multiscale training of mesh-free networks against one scale."""
    found = []
    for (setup, conv), runs in group(_plain(table), "setup", "conv").items():
        for strategy in ("multiscale", FULL):
            cheap, single = _pair_of(runs, strategy, SINGLE)
            if conv == "mfc" and cheap:
                names = {**names_of(setup), "strategy": strategy}
                found += _cheaper("theoretical_speed_up", cheap, single, names, ("work", "flops"))
                found += _losses("score_loss", cheap, single, names)
    return found


def standard_multiscale(noise: Runs) -> list[Record]:
    """Full multiscale training of standard convolutions at low noise."""
    runs = [r for r in _plain(noise) if r["task"] == LOW_NOISE and r["conv"] == "standard"]
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
    for (setup,), runs in group(_plain(table), "setup").items():
        single = [r for r in runs if r["strategy"] == SINGLE]
        mfc, standard = ([r for r in single if r["conv"] == conv] for conv in ("mfc", "standard"))
        mfc, standard = pair(mfc, standard)
        if len(mfc) > 1:
            found += _losses("score_loss", mfc, standard, names_of(setup))
    return found


def step_seconds(table: Runs) -> list[Record]:
    """Seconds of multiscale training over those of one scale, as many steps of as many samples."""
    found = []
    for (setup, conv), runs in group(_plain(table), "setup", "conv").items():
        cheap, single = _pair_of(runs, "multiscale", SINGLE)
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


def _plain(runs: Runs) -> Runs:
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


if __name__ == "__main__":
    main()
