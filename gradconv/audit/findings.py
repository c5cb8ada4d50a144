"""Findings: which layers break convergence and why, each with the number that shows it.

A cause is found by evidence, not by the name of a class: a habit is taken away and the gaps are
measured again, a layer is probed on two meshes, the loss is called on the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradconv.audit.measure import Step
from gradconv.audit.subject import Subject
from gradconv.samplers import Sampler

if TYPE_CHECKING:
    from gradconv.audit.result import Audit

# From grave to slight.
SEVERITIES = ("breaks", "suspect", "limits", "latent", "note")
UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Finding:
    """One cause at one layer.

    Parameters
    ----------
    layer : str
        Dotted name; ``"(module)"``, ``"(loss)"`` or ``"(data)"`` for what is no layer.
    cause : str
        In a few words.
    sentence : str
        What was done, and the number that it gave.
    number : float
        The number.
    severity : {"breaks", "suspect", "limits", "latent", "note"}
        The layer's gap diverges or stalls, and this explains it; the gap is undecided and not seen
        to fall with h, and this would explain it; it makes the gap larger or its order lower; it
        does no harm on these data, and would on others; it is worth knowing. What an experiment
        shows counts only if the whole interval of its effect lies beyond the threshold.
    """

    layer: str
    cause: str
    sentence: str
    number: float
    severity: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        from gradconv.rate_records import number

        return {
            "layer": self.layer,
            "cause": self.cause,
            "sentence": self.sentence,
            "number": number(self.number),
            "severity": self.severity,
        }


def explain_steps(subject: Subject) -> int:
    """How many steps `find` may take."""
    from gradconv.audit.experiments import PATHS

    return 2 * PATHS


def find(
    subject: Subject, data: Sampler, result: Audit, stochastic: bool, step: Step
) -> tuple[Finding, ...]:
    """Look for every known cause.

    Parameters
    ----------
    subject : Subject
        The module.
    data : Sampler
        Its inputs and targets.
    result : Audit
        What was measured.
    stochastic : bool
        Whether the module draws random numbers.
    step : callable
        Called after each path of an experiment.

    Returns
    -------
    tuple of Finding
        Gravest first. A layer that breaks without a known cause has one that says so.
    """
    from gradconv.audit import habits, kernels, scales
    from gradconv.audit.evidence import gather

    evidence = gather(subject, data, result, stochastic, step)
    found = [
        *scales.loss_scale(evidence),
        *scales.data_route(evidence),
        *habits.experiments(evidence),
        *kernels.tied_and_noisy(evidence),
        *scales.sizes(evidence),
        *scales.positions(evidence),
    ]
    explained = {f.layer for f in found if f.severity == "breaks"}
    general = any(f.severity == "breaks" and f.layer.startswith("(") for f in found)
    for layer in evidence.layers:
        if evidence.broken(layer) and layer not in explained and not general:
            rate = result.rate("rms_gap", layer)
            found.append(
                Finding(
                    layer,
                    UNEXPLAINED,
                    f"its gap {evidence.verdict(layer)} and none of the experiments explains it",
                    rate.order,
                    "breaks",
                )
            )
    found.sort(key=lambda f: SEVERITIES.index(f.severity))
    return tuple(found)
