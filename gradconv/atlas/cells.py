"""The cells of the atlas: the full product of the registered choices, and which are one problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from itertools import product

import numpy as np

from gradconv.errors import InputError, unknown_name
from gradconv.fields import NOISES, TARGETS
from gradconv.kernels import KERNELS
from gradconv.mesh import MeshHierarchy
from gradconv.problem import SETTINGS, Problem
from gradconv.restriction import RESTRICTIONS, LocalRestriction

DIMS = (1, 2, 3)
CHOICES = ("kernel", "noise", "setting", "restriction", "target", "dim")
SIGNAL = "sobolev:3"
BOUNDED = "cartoon"  # for noises that refuse a Gaussian field: nowhere negative


def _powers(dim: int) -> tuple[str, ...]:
    """Power laws below, at and above α = d/2 and α = d."""
    return tuple(f"power:{share * dim:g}" for share in (0.25, 0.5, 0.75, 1.0, 1.5))


# Texts of choices that one name does not settle; every other name stands for its defaults.
SPECS: Mapping[str, Callable[[int], tuple[str, ...]]] = {
    "power": _powers,
    "matern": lambda dim: ("matern:1.5:0.1",),
    # 125 weights in 3-D instead of 729
    "spectral": lambda dim: ("spectral",) if dim < 3 else ("spectral:2",),
}
# Levels n = 2**a … 2**b: of means, which are exact, and of fluctuations, which are sampled.
LEVELS_OF_MEANS = {1: (3, 14), 2: (3, 9), 3: (3, 6)}
# Means of a fixed signal, or under a restriction given by a matrix: no spectra to be shared.
SHALLOW = {1: (3, 9), 2: (3, 7), 3: (3, 5)}
LEVELS_OF_PATHS = {1: (3, 8), 2: (3, 6), 3: (2, 4)}
# Where the leading terms of fluctuations are looked for: the full law, which goes through the
# sampled ones, on meshes that sampling does not reach.
DEEPER = {1: (3, 12), 2: (3, 7), 3: (2, 4)}
REPLICATES = 128


@dataclass(frozen=True)
class Cell:
    """One cell of the atlas; all choices as text, the way the command line takes them."""

    kernel: str
    noise: str
    setting: str
    restriction: str
    target: str
    dim: int

    @property
    def signal(self) -> str:
        """The signal: a Gaussian field, or a bounded one where the noise needs it."""
        return _signal_for(self.noise)

    @property
    def problem(self) -> Problem:
        """The problem of the cell."""
        return Problem(
            self.kernel,
            self.signal,
            self.target,
            self.noise,
            self.restriction,
            self.setting,
            self.dim,
        )

    def describe(self) -> dict[str, str | int]:
        """Choices by name, the signal included."""
        return {"signal": self.signal, **{name: getattr(self, name) for name in CHOICES}}


@cache
def _signal_for(noise: str) -> str:
    try:
        NOISES.parse(noise).check(-np.inf, np.inf)
    except InputError:
        return BOUNDED
    return SIGNAL


def specs(argument: str, name: str, dim: int) -> tuple[str, ...]:
    """Texts under which a registered name enters the atlas.

    Raises
    ------
    InputError
        If the name needs arguments that nobody has chosen.
    """
    if name in SPECS and argument in ("kernel", "noise"):
        return SPECS[name](dim)
    registry = {"kernel": KERNELS, "noise": NOISES, "target": TARGETS, "restriction": RESTRICTIONS}
    cls = registry[argument][name]  # type: ignore[index]
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if needed:
        raise InputError(
            f"`{argument}` {name} needs {', '.join(needed)} to enter the atlas (atlas.cells.SPECS)"
        )
    return (name,)


def names() -> dict[str, tuple[str, ...]]:
    """Every value of every choice: what is registered."""
    return {
        "kernel": tuple(KERNELS.names),
        "noise": tuple(NOISES.names),
        "setting": tuple(sorted(SETTINGS)),
        "restriction": tuple(RESTRICTIONS.names),
        "target": tuple(TARGETS.names),
        "dim": tuple(str(d) for d in DIMS),
    }


def enumerate_cells(chosen: Mapping[str, Sequence[str]] | None = None) -> list[Cell]:
    """All cells of the product, or of the part that is chosen.

    Parameters
    ----------
    chosen : mapping of str to sequence of str, optional
        Names by choice; a choice that is absent takes every registered name. A noise or kernel
        may be given with arguments (``power:1.5``).

    Raises
    ------
    InputError
        If a name is unknown.
    """
    known, picked = names(), dict(chosen or {})
    for choice, values in picked.items():
        if choice not in known:
            raise unknown_name("choice", choice, known)
        for value in values:
            if value.partition(":")[0] not in known[choice]:
                raise unknown_name(choice, value, known[choice])
    lists = {choice: tuple(picked.get(choice, known[choice])) for choice in CHOICES}
    cells = []
    for dim in (int(d) for d in lists["dim"]):
        kernels, noises = (
            [t for v in lists[a] for t in ((v,) if ":" in v else specs(a, v, dim))]
            for a in ("kernel", "noise")
        )
        for setting, restriction, kernel, noise, target in product(
            lists["setting"], lists["restriction"], kernels, noises, lists["target"]
        ):
            cells.append(Cell(kernel, noise, setting, restriction, target, dim))
    return list(dict.fromkeys(cells))


@cache
def one_restriction(name: str) -> str:
    """First registered restriction that is the same map as `name` in chains of steps by 2."""
    own = RESTRICTIONS.parse(name)
    if not isinstance(own, LocalRestriction):
        return name
    for other in RESTRICTIONS.names:
        found = RESTRICTIONS.parse(other)
        same = isinstance(found, LocalRestriction) and found.taps(2) == own.taps(2)
        if same and found.grid == own.grid:
            return other
    return name


@cache
def evaluable(restriction: str) -> bool:
    """Whether the full law knows what a restriction does to a mode."""
    own = RESTRICTIONS.parse(restriction)
    return isinstance(own, LocalRestriction) or own.band_limiting


def representative(cell: Cell) -> Cell:
    """The cell that stands for all cells that are the same problem.

    Restrictions with the same taps of a step by 2 on the same grid are one map, since every level
    is reached by such steps.
    """
    merged = one_restriction(cell.restriction)
    return Cell(cell.kernel, cell.noise, cell.setting, merged, cell.target, cell.dim)


def hierarchy_for(problem: Problem, first: int, last: int) -> MeshHierarchy | str:
    """Longest hierarchy within 2**first … 2**last that carries a problem; else the reason."""
    reason = ""
    for end in range(last, first, -1):
        for start in range(first, end):
            levels = MeshHierarchy.powers_of_two(problem.dim, start, end)
            try:
                problem.check(levels)
            except InputError as error:
                reason = str(error)
                continue
            return levels
    return reason
