"""Terms of a variance in powers of h, and how far they are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

NOTHING = 1e-12  # of the sum of absolute values: rounding


@dataclass(frozen=True)
class ScalarTerm:
    """value · h^exponent h_L^fine_exponent log(1/h)^logs in a variance or mean square.

    With what it comes from, and its `shares` by origin where several add up.
    """

    exponent: float
    fine_exponent: float
    value: float
    origin: str
    region: str
    logs: int = 0
    shares: tuple[tuple[str, float], ...] = ()


def rank(power: float, fine: float) -> tuple[float, float]:
    """Sort key of h^power h_L^fine: the larger first, for h_L = h/λ with λ large and h small."""
    return round(power + fine, 9), -round(power, 9)


@dataclass
class Expansion:
    """Terms by power, and the first powers that are not known."""

    unknown: tuple[float, float] | None = None
    reason: str = ""
    terms: list[ScalarTerm] = field(default_factory=list)

    def limit(self, power: float, fine: float, reason: str) -> None:
        """Nothing from h^power h_L^fine on is known."""
        if self.unknown is None or rank(power, fine) < rank(*self.unknown):
            self.unknown, self.reason = (float(power), float(fine)), reason

    def knows(self, power: float, fine: float) -> bool:
        """Whether all that is as large as h^power h_L^fine is known."""
        return self.unknown is None or rank(power, fine) < rank(*self.unknown)

    def absorb(self, other: Expansion) -> None:
        """Add the terms of another one, and what it does not know."""
        self.terms += other.terms
        if other.unknown is not None:
            self.limit(*other.unknown, other.reason)

    def limits(self) -> str:
        """How far the terms are known, in words; empty if nothing is left out."""
        if self.unknown is None:
            return ""
        power, fine = self.unknown
        return f"h^{power:g}" + (f" h_L^{fine:g}" if fine else "") + f": {self.reason}"

    def merge(self) -> None:
        """Add terms of the same powers; drop what is rounding or beyond what is known."""
        self.terms = [t for t in merged(self.terms) if self.knows(t.exponent, t.fine_exponent)]


def merged(terms: Iterable[ScalarTerm]) -> list[ScalarTerm]:
    """Terms of the same powers added up, the leading one first; without rounding."""
    found: dict[tuple[float, float, int], list[ScalarTerm]] = {}
    for t in terms:
        found.setdefault((round(t.exponent, 9), round(t.fine_exponent, 9), t.logs), []).append(t)
    total = []
    for (power, fine, logs), same in found.items():
        value = sum(t.value for t in same)
        if abs(value) <= NOTHING * sum(abs(t.value) for t in same):
            continue
        shares: dict[str, float] = {}
        for t in same:
            for origin, share in t.shares or ((t.origin, t.value),):
                shares[origin] = shares.get(origin, 0.0) + float(share)
        size = sum(abs(t.value) for t in same)
        shares = {o: v for o, v in shares.items() if abs(v) > NOTHING * size}
        origin, region = (
            " + ".join(dict.fromkeys(names))
            for names in ([t.origin for t in same], [t.region for t in same])
        )
        total.append(
            ScalarTerm(
                float(power), float(fine), float(value), origin, region, logs, tuple(shares.items())
            )
        )
    return sorted(total, key=lambda t: (*rank(t.exponent, t.fine_exponent), -t.logs))
