"""The causes that an audit of an estimator can name, and a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SEVERITIES = ("breaks", "limits", "latent", "note")
STEP = "(step)"  # what belongs to no single term

SIGN = "wrong sign"
DETACHED = "coarse side without a gradient"
MISSING_COARSE = "coarse side missing"
MISSING_COARSEST = "coarsest term missing"
MISSING_TERM = "term missing"
UNUSED = "declared mesh not used"
WRONG_WEIGHT = "wrong weight"
AVERAGED = "terms averaged"
SUM_CELLS = "loss summed over cells"
SUM_BATCH = "loss summed over the batch"
SUM_BOTH = "loss summed over cells and batch"
NORM = "loss not a mean"

ZEROED = "gradients zeroed between terms"
UPDATED = "weights change between terms"
STALE = "gradients of earlier steps kept"

DIFFERENT = "fine and coarse on different samples"
FRESH = "fine and coarse with different noise"
ROUTES = "restriction not nested"
COUPLED = "fine and coarse made apart from one sample"
SHARED = "samples shared by terms"
REBUILT = "iterator rebuilt at every step"
SEED = "seed fixed at every step"
NOISE = "noise of one size on every mesh"
SCALED = "levels scaled differently"
LAWS = "levels see different laws"

CONSTANT = "batch sizes constant"
REVERSED = "batch sizes reversed"
UNORDERED = "batch sizes do not grow"
UNDECLARED = "batch sizes not as declared"
WORK = "work not as claimed"

EVALUATION = "evaluation mode"
BATCH_STATISTICS = "batch statistics"
RANDOM_LAYERS = "fine and coarse draw different random numbers"


@dataclass(frozen=True)
class EstimatorFinding:
    """One cause in one term.

    Parameters
    ----------
    term : str
        ``"term 2 (n=64, 32)"``; ``"(step)"`` for what belongs to no single term.
    cause : str
        In a few words.
    sentence : str
        What was seen, with the number.
    number : float
        The number.
    severity : {"breaks", "limits", "latent", "note"}
        The mean of what the loop adds up is not the finest mesh's gradient, or not that of the
        data; the mean is right, but variance or cost are not what they should be; it does no harm
        to this module and would to others; it is worth knowing.
    """

    term: str
    cause: str
    sentence: str
    number: float
    severity: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        from gradconv.rate_records import number

        return {
            "term": self.term,
            "cause": self.cause,
            "sentence": self.sentence,
            "number": number(self.number),
            "severity": self.severity,
        }
