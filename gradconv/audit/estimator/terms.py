"""From calls to terms: which call is the fine and which the coarse side of which term.

What went in says more than the order of the calls: a call whose input is a restriction of a finer
call's is a coarse side, one with a restriction of its own is a fine side. Where the content does
not tell, the sign of its weight does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from gradconv.audit.estimator.calls import Call, Step
from gradconv.audit.estimator.samples import SAME, number_array, partners

LOOKED_AT = 4  # steps whose contents are compared to find the roles
Key = tuple[int, str]


@dataclass(eq=False)
class Role:
    """One side of a term, over the steps.

    Parameters
    ----------
    term : int
        Level of the term's fine side.
    kind : {"fine", "coarse"}
        Which side.
    level : int
        Level of the mesh.
    calls : dict of int to list of Call
        By number of the step.
    """

    term: int
    kind: str
    level: int
    calls: dict[int, list[Call]] = field(default_factory=dict)

    def samples(self, step: int, channels: np.ndarray) -> np.ndarray:
        """Inputs of a step in the order of the calls, shape ``(N, C, *n)``."""
        return np.concatenate([number_array(c.input)[:, channels] for c in self.calls[step]])

    def count(self, step: int) -> int:
        """Samples of a step."""
        return sum(c.batch for c in self.calls[step])


@dataclass(eq=False)
class Structure:
    """The terms of an estimator.

    Parameters
    ----------
    sizes : tuple of int
        Cells an axis of the levels, coarse to fine.
    dim : int
        Dimension.
    steps : list of Step
        What was recorded.
    channels : ndarray
        Channels of the input that differ between samples.
    roles : dict
        By (term, kind).
    detached : dict
        Coarse sides that no gradient came back to, by (term, kind).
    watched : list of Call
        Other calls that no gradient came back to.
    varies : bool
        Whether steps have different terms.
    """

    sizes: tuple[int, ...]
    dim: int
    steps: list[Step]
    channels: np.ndarray
    roles: dict[Key, Role] = field(default_factory=dict)
    detached: dict[Key, Role] = field(default_factory=dict)
    watched: list[Call] = field(default_factory=list)
    varies: bool = False

    @property
    def finest(self) -> int:
        """Level of the finest mesh."""
        return len(self.sizes) - 1

    def level(self, call: Call) -> int:
        """Level of a call."""
        return self.sizes.index(call.n)

    def name(self, term: int) -> str:
        """Name a term."""
        role = self.roles.get((term, "coarse")) or self.detached.get((term, "coarse"))
        below = role.level if role else term - 1
        if term == 0:
            return f"term 0 (n={self.sizes[0]})"
        return f"term {term} (n={self.sizes[term]}, {self.sizes[below]})"

    def pairs(self) -> Iterable[tuple[Role, Role]]:
        """Fine and coarse side of every term that has both."""
        for term in range(1, len(self.sizes)):
            fine, coarse = (self.roles.get((term, kind)) for kind in ("fine", "coarse"))
            if fine is not None and coarse is not None:
                yield fine, coarse


def structure(sizes: tuple[int, ...], dim: int, steps: list[Step]) -> Structure:
    """Give every call of every step its role."""
    found = Structure(sizes, dim, steps, varying_channels(steps))
    groups: dict[tuple[tuple[int, bool], ...], list[Step]] = {}
    for step in steps:
        signature = tuple((found.level(c), c.reached) for c in step.calls if c.n in sizes)
        groups.setdefault(signature, []).append(step)
    for group in groups.values():
        _assign(found, group)
    present = {
        frozenset(key for key, role in found.roles.items() if step.number in role.calls)
        for step in steps
    }
    found.varies = len(present) > 1
    return found


def varying_channels(steps: Sequence[Step]) -> np.ndarray:
    """Find channels whose content differs between samples: coordinates and masks tell nothing.

    Returns
    -------
    ndarray
        Indices; all channels if none differs.
    """
    firsts: dict[tuple[int, ...], np.ndarray] = {}
    differs: np.ndarray | None = None
    for step in steps:
        for call in step.calls:
            x = number_array(call.input)
            flat = x.reshape(*x.shape[:2], -1)
            first = firsts.setdefault(tuple(x.shape[1:]), flat[:1])
            apart = np.abs(flat - first).max(axis=(0, 2)) > 1e-6 * np.abs(first).max(initial=1e-30)
            if differs is not None and len(differs) != len(apart):
                return np.arange(min(len(differs), len(apart)))
            differs = apart if differs is None else differs | apart
    assert differs is not None
    return np.flatnonzero(differs) if differs.any() else np.arange(len(differs))


@dataclass
class _Slot:
    """The same call in all steps of a group."""

    level: int
    calls: list[Call]
    reached: bool
    up: bool = False
    down: bool = False
    weight: float = np.nan


def weight(call: Call, step: Step) -> float:
    """Signed weight of a call in the gradient that is used: κ for a mean over cells and batch."""
    factors = step.books.factors
    return call.cells * sum(
        factors.get(number, 1.0) * float(slopes.sum()) for number, slopes in call.slopes.items()
    )


def _assign(found: Structure, group: list[Step]) -> None:
    sizes = found.sizes
    calls = [[c for c in step.calls if c.n in sizes] for step in group]
    slots = [
        _Slot(found.level(row[0]), list(row), row[0].reached) for row in zip(*calls, strict=True)
    ]
    for slot in slots:
        weights = [weight(c, s) for c, s in zip(slot.calls, group, strict=True) if s.probed]
        slot.weight = float(np.mean(weights)) if weights else np.nan
    levels = sorted({slot.level for slot in slots})
    for lower, upper in pairwise(levels):
        _link(found, slots, lower, upper, len(group))
    reached = [s for s in slots if s.reached]
    kinds = {id(s): kind for level in levels for s, kind in _kinds(reached, level, found.finest)}
    for slot in reached:
        _enter(found.roles, slot, kinds[id(slot)], levels, group)
    for slot in slots:
        if slot.reached:
            continue
        term = _above(slot.level, levels)
        twin = [s for s in reached if s.level == term and s.calls[0].batch == slot.calls[0].batch]
        linked = slot.up or (not any(s.down for s in twin) and bool(twin))
        if slot.level < found.finest and linked and (term, "coarse") not in found.roles:
            _enter(found.detached, slot, "coarse", levels, group)
        else:
            found.watched += slot.calls


def _link(found: Structure, slots: list[_Slot], lower: int, upper: int, steps: int) -> None:
    """Compare all samples of two levels within each step."""
    fine = [s for s in slots if s.level == upper]
    coarse = [s for s in slots if s.level == lower]
    down: list[np.ndarray] = []
    up: list[np.ndarray] = []
    for k in range(min(steps, LOOKED_AT)):
        sets = [
            np.concatenate([number_array(s.calls[k].input)[:, found.channels] for s in side])
            for side in (fine, coarse)
        ]
        matches = partners(*sets)
        for side, links, matched in ((fine, down, matches[0]), (coarse, up, matches[1])):
            ends = np.cumsum([s.calls[k].batch for s in side])[:-1]
            links.append(np.array([m.mean() for m in np.split(matched, ends)]))
    for slot, share in zip(fine, np.mean(down, axis=0), strict=True):
        slot.down = bool(share >= SAME)
    for slot, share in zip(coarse, np.mean(up, axis=0), strict=True):
        slot.up = bool(share >= SAME)


def _kinds(slots: list[_Slot], level: int, finest: int) -> Iterable[tuple[_Slot, str]]:
    """Side that each call of a level is."""
    here = [s for s in slots if s.level == level]
    loose = any(not s.up for s in here)
    negative = any(s.weight < 0 for s in here)
    for slot in here:
        if level == finest or (slot.down and not slot.up):
            kind = "fine"
        elif (slot.up and not slot.down and level > 0) or slot.weight < 0:
            kind = "coarse"
        elif slot.up and (
            loose or (not negative and slot is here[0] and (len(here) > 1 or not slot.down))
        ):
            # a positive weight, yet a finer call's sample: a coarse side with the wrong sign
            kind = "coarse"
        else:
            kind = "fine"
        yield slot, kind


def _enter(
    roles: dict[Key, Role], slot: _Slot, kind: str, levels: list[int], group: list[Step]
) -> None:
    term = slot.level if kind == "fine" else _above(slot.level, levels)
    role = roles.setdefault((term, kind), Role(term, kind, slot.level))
    for call, step in zip(slot.calls, group, strict=True):
        role.calls.setdefault(step.number, []).append(call)


def _above(level: int, levels: list[int]) -> int:
    return min((m for m in levels if m > level), default=level)
