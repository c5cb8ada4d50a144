"""What a claim of the paper is, how it may be judged, and what speaks for or against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradconv.errors import InputError

VERDICTS = ("reproduced", "sharpened", "holds only if", "not reproduced", "not yet measured")
# What one finding says of a claim: more than it says, just what it says, the contrary, nothing
# that can be told, or that derivation and measurement contradict each other.
GRADES = ("sharper", "holds", "fails", "undecided", "disagrees")
# What the cases measured here and now are about.
LAYER = "one linear layer"
WIDEST = 0.5  # an interval of an order wider than this does not show that a bound is attained

Record = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where the paper makes a claim.

    Parameters
    ----------
    version : str
        Version of the paper, e.g. ``"arXiv v1"``.
    place : str
        Lemma, section or table.
    """

    version: str
    place: str


@dataclass(frozen=True)
class Bound:
    """What a claim says of an order: at least O(h^order), or no convergence.

    Parameters
    ----------
    relation : {"at least", "at most"}
        Which side of `order` is claimed.
    order : float
        Signed order.
    """

    relation: str
    order: float

    def __post_init__(self) -> None:
        if self.relation not in ("at least", "at most"):
            raise InputError(f"`relation` must be one of at least, at most; got {self.relation!r}")

    def grade(self, order: float) -> str:
        """Grade of an order known without error: sharper, holds or fails."""
        if self.relation == "at most":
            return "holds" if order <= self.order else "fails"
        if order == self.order:
            return "holds"
        return "sharper" if order > self.order else "fails"

    def grade_interval(self, low: float, high: float, slack: float) -> str:
        """Grade of an order known to lie in [low, high], give or take `slack`; may be undecided."""
        if self.relation == "at most":
            if high <= self.order + slack:
                return "holds"
            return "fails" if low > self.order + slack else "undecided"
        if low - slack > self.order:
            return "sharper"
        if high + slack < self.order:
            return "fails"
        return "holds" if high - low <= WIDEST else "undecided"


@dataclass(frozen=True)
class Case:
    """One sweep that bears on a claim about orders.

    Parameters
    ----------
    problem : mapping of str to str, or to int for ``dim``
        Choices of `gradconv.Problem`.
    levels : tuple of int
        Powers of two of the coarsest and the finest mesh.
    replicates : int
        Sample paths.
    quantities : tuple of str
        Quantities that are judged.
    """

    problem: Mapping[str, Any]
    levels: tuple[int, int]
    replicates: int
    quantities: tuple[str, ...]

    def describe(self) -> Record:
        """Return the case as JSON values."""
        return {
            "problem": dict(self.problem),
            "levels": list(self.levels),
            "replicates": self.replicates,
            "quantities": list(self.quantities),
        }


@dataclass(frozen=True)
class Criterion:
    """What a stored number must satisfy for a claim to hold.

    Parameters
    ----------
    quantity : str
        Name of the measured quantity.
    statement : str
        What is required, in words.
    relation : {"at least", "at most", "equals"}
        How the measurement stands to the threshold.
    threshold : float
        The number of the claim.
    tolerance : float
        For ``equals``: an interval wider than this on either side tells nothing.
    rounding : float
        For ``equals``: differences up to this are none.
    sharper : float, optional
        Value from which on (in the direction of the relation) more is shown than is claimed.
    required : bool
        Whether a verdict needs it. What is not required counts where there is evidence.
    """

    quantity: str
    statement: str
    relation: str
    threshold: float
    tolerance: float = 0.0
    rounding: float = 0.0
    sharper: float | None = None
    required: bool = True

    def grade(self, low: float, high: float) -> str:
        """Grade of a quantity whose interval is [low, high].

        Parameters
        ----------
        low, high : float
            Ends of the interval; equal for a number without error.

        Returns
        -------
        str
            One of `GRADES`.
        """
        if self.relation == "equals":
            if low - self.rounding > self.threshold or high + self.rounding < self.threshold:
                return "fails"
            narrow = max(high - self.threshold, self.threshold - low) <= max(
                self.tolerance, self.rounding
            )
            return "holds" if narrow else "undecided"
        sign = 1.0 if self.relation == "at least" else -1.0
        worst, best = sorted((sign * low, sign * high))
        if self.sharper is not None and worst >= sign * self.sharper:
            return "sharper"
        if worst >= sign * self.threshold:
            return "holds"
        return "fails" if best < sign * self.threshold else "undecided"

    def describe(self) -> Record:
        """Return the criterion as a law record: JSON values."""
        return {
            "quantity": self.quantity,
            "statement": self.statement,
            "relation": self.relation,
            "threshold": self.threshold,
            "required": self.required,
        }


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: data only.

    Parameters
    ----------
    id : str
        Short name, also that of its evidence file and its figures.
    number : int
        Position in the ledger.
    title, statement : str
        What is claimed, in a few words and in full.
    source : Source
        Where.
    live : {"orders", "scale", ""}
        What the ledger measures itself; empty if it waits for stored evidence.
    bound : Bound, optional
        What is claimed of orders.
    cases : tuple of Case
        The sweeps.
    criteria : tuple of Criterion
        What stored evidence has to satisfy.
    coverage : mapping of str to tuple of str
        Conditions, and the values of each that the claim speaks of.
    networks : bool
        Whether the claim speaks of deep networks too.
    """

    id: str
    number: int
    title: str
    statement: str
    source: Source
    live: str = ""
    bound: Bound | None = None
    cases: tuple[Case, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    coverage: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    networks: bool = False

    def criterion(self, quantity: str) -> Criterion | None:
        """Criterion of a quantity, or None."""
        return next((c for c in self.criteria if c.quantity == quantity), None)


@dataclass(frozen=True)
class Finding:
    """One measured case of a claim, with its law and what the two say together.

    Parameters
    ----------
    choices : mapping of str to str
        What tells the case from others, e.g. restriction and dimension.
    grade : str
        One of `GRADES`.
    law, measurement : dict
        Records of the ledger's document.
    """

    choices: Mapping[str, str]
    grade: str
    law: Record
    measurement: Record

    def __post_init__(self) -> None:
        if self.grade not in GRADES:
            raise InputError(f"`grade` must be one of {', '.join(GRADES)}; got {self.grade!r}")


@dataclass(frozen=True)
class Entry:
    """A claim with its verdict.

    Parameters
    ----------
    claim : Claim
        The claim.
    verdict : str
        One of `VERDICTS`.
    condition : str
        When the claim holds, or what stands against it; empty if nothing is to be added.
    findings : tuple of Finding
        What the verdict was computed from.
    notes : tuple of str
        What else a reader has to know.
    """

    claim: Claim
    verdict: str
    condition: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InputError(
                f"`verdict` must be one of {', '.join(VERDICTS)}; got {self.verdict!r}"
            )

    def record(self) -> Record:
        """Return the entry as JSON values.

        A claim without findings lists its criteria as law.
        """
        claim = self.claim
        laws = [f.law for f in self.findings]
        seen = {f.measurement["quantity"] for f in self.findings}
        laws += [c.describe() for c in claim.criteria if c.quantity not in seen and c.required]
        return {
            "id": claim.id,
            "number": claim.number,
            "title": claim.title,
            "statement": claim.statement,
            "source": {"version": claim.source.version, "place": claim.source.place},
            "verdict": self.verdict,
            "condition": self.condition,
            "law": laws,
            "measurement": [f.measurement for f in self.findings],
            "notes": list(self.notes),
        }
