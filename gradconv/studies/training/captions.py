"""What stands under the figures of the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradconv.studies.training import sentences
from gradconv.studies.training.groups import MULTISCALE, Record, Runs
from gradconv.studies.training.spreads import CONFIDENCE


def caption(name: str, results: Mapping[str, Record]) -> str:
    """Caption of a figure.

    Parameters
    ----------
    name : str
        Name of the figure.
    results : mapping of str to dict
        By block, its ``runs``.
    """
    text = CAPTIONS[name]
    runs = next(results[block]["runs"] for block in ALTERNATIVES[name] if block in results)
    if "{setups}" in text:
        text = text.replace("{setups}", ", ".join(dict.fromkeys(run["setup"] for run in runs)))
    seeds = len({run["seed"] for run in runs})
    if "{samples}" in text:
        own = next(run for run in runs if run["strategy"] == MULTISCALE)
        head, first, *_ = own["curves"]["levels"]
        text = text.replace("{samples}", str(dict(zip(head, first, strict=True))["samples"]))
    return text.replace("{seeds}", f"{seeds} seeds" if seeds > 1 else "one seed")


def alternative(name: str, results: Mapping[str, Record]) -> str:
    """The result of a figure in sentences."""
    blocks = ALTERNATIVES[name]
    return " ".join(
        line
        for block, write in blocks.items()
        if block in results
        for line in write(results[block]["runs"])
    )


CAPTIONS = {
    "budgets": (
        "Test MSE of {setups} at equal budgets, against work units (one sample's gradient on the "
        "finest mesh is 1), counted FLOPs and measured seconds of training steps: means and "
        "standard deviations over {seeds}."
    ),
    "convolutions": (
        "Standard and mesh-free (mfc) convolutions in {setups}, against the noise and, where it is "
        "drawn, depth. Left: test MSE, means and standard deviations over {seeds}. Right: ratio of "
        f"the MSE with its {CONFIDENCE:.0%} interval, by Student's t on logarithms paired by seed; "
        "below 1 mesh-free convolutions are better."
    ),
    "hot-starts": (
        "Validation MSE on the finest mesh against the steps there, from a cold start and from "
        "starts so many levels below: mean of {seeds}, shaded from the least to the greatest."
    ),
    "curves": (
        "Validation MSE through training, against work units and against seconds of training "
        "steps: mean of {seeds}, shaded from the least to the greatest."
    ),
    "terms": (
        "Norm of the mean gradient and variance of each term of multiscale training, by step, "
        "from {samples} samples a measurement: mean of {seeds}, shaded from the least to the "
        "greatest. The sampling error is taken off the squares of the norms; where less than "
        "nothing is left a line is interrupted."
    ),
}
ALTERNATIVES: dict[str, dict[str, Callable[[Runs], list[str]]]] = {
    "budgets": {"budgets": sentences.budgets},
    "convolutions": {"noise": sentences.noise, "depth": sentences.depth},
    "hot-starts": {"hot-starts": sentences.hot_starts},
    "curves": {"curves": sentences.curves},
    "terms": {"curves": sentences.corrections},
}
