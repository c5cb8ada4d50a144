"""Look for the causes: which layers break convergence and why, each with the number that shows it.

A cause is found by evidence, not by the name of a class: a habit is taken away and the gaps are
measured again, a layer is probed on two meshes, the loss is called on the same functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradconv.audit.findings import SEVERITIES, Finding
from gradconv.audit.measure import Tick
from gradconv.audit.subject import Subject
from gradconv.samplers import Sampler

if TYPE_CHECKING:
    from gradconv.audit.result import Audit

UNEXPLAINED = "unexplained"


def explain_steps() -> int:
    """How many steps `find` may take."""
    from gradconv.audit.experiments import PATHS

    return 2 * PATHS


def find(
    subject: Subject, data: Sampler, result: Audit, stochastic: bool, step: Tick
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
    explained = {f.where for f in found if f.severity == "breaks"}
    general = any(f.severity == "breaks" and f.where.startswith("(") for f in found)
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
