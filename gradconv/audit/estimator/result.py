"""What an audit of an estimator found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradconv.audit.findings import Finding

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Side:
    """One side of a term as it was measured.

    Parameters
    ----------
    term : int
        Level of the term's fine side.
    kind : {"fine", "coarse"}
        Which side.
    n : int
        Cells an axis.
    samples : float
        Samples a step, the median over the steps.
    calls : float
        Calls of the module a step.
    weight : float
        Signed weight in the gradient that is used, in units of the finest level's; NaN if it could
        not be measured.
    work : float
        Work units a step: 1 is one sample's gradient on the finest mesh.
    gradient : bool
        Whether a gradient came back.
    """

    term: int
    kind: str
    n: int
    samples: float
    calls: float
    weight: float
    work: float
    gradient: bool


@dataclass(frozen=True)
class EstimatorAudit:
    """What is wrong with a multilevel gradient loop.

    Parameters
    ----------
    configuration : dict
        What was audited and how; JSON values.
    sides : tuple of Side
        The terms, coarse to fine.
    findings : tuple of Finding
        Gravest first.
    notes : tuple of str
        What was not checked, and what is worth knowing.
    work : float
        Work units a step.
    seed : int
        Seed of the random states that steps started from.
    device, dtype : str
        Where the module is, and in which precision.
    """

    configuration: dict[str, Any]
    sides: tuple[Side, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    work: float
    seed: int
    device: str
    dtype: str

    @property
    def sound(self) -> bool:
        """Whether nothing graver than a note was found."""
        return all(f.severity == "note" for f in self.findings)

    def table(self) -> Table:
        """Lay the terms out for the terminal."""
        from gradconv.audit.estimator.present import table

        return table(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Everything as one JSON document of the schema ``gradconv.estimator-audit/1``."""
        from gradconv.audit.estimator.present import document

        return document(self)
