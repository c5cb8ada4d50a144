"""A finding: one cause at one place, with the number that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradconv.rate_records import number

# From grave to slight.
SEVERITIES = ("breaks", "suspect", "limits", "latent", "note")
STYLES = {"breaks": "bold red", "suspect": "yellow", "limits": "yellow"}  # of a terminal


@dataclass(frozen=True)
class Finding:
    """One cause at one place.

    Parameters
    ----------
    where : str
        A layer's dotted name, or ``"(module)"``, ``"(loss)"`` or ``"(data)"`` for what is none. Of
        a training loop a term, ``"term 2 (n=64, 32)"``, or ``"(step)"``.
    cause : str
        In a few words.
    sentence : str
        What was done, and the number that it gave.
    number : float
        The number.
    severity : {"breaks", "suspect", "limits", "latent", "note"}
        Of a layer: its gap diverges or stalls, and this explains it; the gap is undecided and not
        seen to fall with h, and this would explain it; it makes the gap larger or its order lower;
        it does no harm on these data, and would on others; it is worth knowing. What an experiment
        shows counts only if the whole interval of its effect lies beyond the threshold. Of a loop:
        the mean of what it adds up is not the finest mesh's gradient, or not that of the data;
        (never suspect); the mean is right, but variance or cost are not what they should be; it
        does no harm to this module and would to others; it is worth knowing.
    """

    where: str
    cause: str
    sentence: str
    number: float
    severity: str

    def to_dict(self, place: str) -> dict[str, Any]:
        """Return the finding as JSON values; `place` is the key of `where`, layer or term."""
        return {
            place: self.where,
            "cause": self.cause,
            "sentence": self.sentence,
            "number": number(self.number),
            "severity": self.severity,
        }


def finding_lines(found: dict[str, Any], place: str) -> list[str]:
    """One line a finding of a document: severity, place, cause and the sentence with its number."""
    return [
        f"{f['severity']}: {f[place]}: {f['cause']}: {f['sentence']}" for f in found["findings"]
    ]
