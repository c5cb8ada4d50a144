"""Aliases of a signal of infinitely many modes, seen by kernels of a physical width.

The expansions are held against sums over all modes of each mesh (`gradconv.laws.lattice`), which
share no alias formula with them, and the powers of aliases against sums over replicas.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import sympy

from gradconv import LawError, MeshHierarchy, Multiplier, Problem, derive
from gradconv.laws.aliases import alias_target, aliases_known, replica_sum, side_parts
from gradconv.laws.densities import signal_density
from gradconv.laws.expansion import gap_terms
from gradconv.laws.formulas_physical import PhysicalWriter
from gradconv.laws.lattice import gap_variances, mean_gradients
from gradconv.laws.law import VectorTerm
from gradconv.laws.mean import mean_terms
from gradconv.laws.numeric import evaluate
from gradconv.laws.pairs import level_pairs
from gradconv.laws.physical import lattice_reach
from gradconv.laws.transfers import transfer_of
from gradconv.laws.variance import terms as variance_module
from gradconv.laws.variance.scalars import Expansion
from gradconv.laws.variance.terms import variance_terms


def is_alias(t: VectorTerm) -> bool:
    return t.region == "alias" and t.origin == "signal"


def total(terms: list[VectorTerm], h: float, fine: float) -> Any:
    return sum(t.vector * h**t.exponent * fine**t.fine_exponent for t in terms)


def shares(problem: Problem, first: int, last: int) -> list[tuple[Any, Any, list[VectorTerm]]]:
    """By pair of levels: the gap without the terms that are no aliases, and what aliases give."""
    hierarchy = MeshHierarchy.powers_of_two(problem.dim, first, last)
    gaps = np.diff(mean_gradients(problem, hierarchy), axis=0)
    terms = gap_terms(mean_terms(problem))
    aliases = [t for t in terms if is_alias(t)]
    others = [t for t in terms if not is_alias(t)]
    assert aliases
    fine, found = float(hierarchy.h[-1]), []
    for gap, h in zip(gaps, hierarchy.h[1:], strict=True):
        found.append((gap - total(others, h, fine), total(aliases, h, fine), aliases))
    return found


def apart(one: Any, two: Any) -> float:
    return float(np.linalg.norm(one - two) / np.linalg.norm(one))


MEANS = """
mfc                 sobolev:0.5 identity  none        injection refinement 1 | 5 11 | 2 | 2e-3
mfc                 sobolev:1.5 blur:0.05 none        injection refinement 1 | 5 9  | 2 | 2e-3
gaussian-derivative sobolev:1.5 identity  none        injection refinement 1 | 5 10 | 3 | 1e-3
spectral:2          sobolev:1.5 identity  power:1.2:3 injection refinement 1 | 5 9  | 2 | 1e-3
mfc                 sobolev:0.4 identity  none        injection refinement 2 | 4 9  | 3 | 1e-3
spectral:2          sobolev:3   blur:0.05 none        injection refinement 2 | 4 7  | 1 | 0.02
spectral:1          sobolev:0.5 identity  none        injection refinement 3 | 3 6  | 2 | 1e-3
mfc                 sobolev:0.5 identity  none        average   refinement 1 | 5 10 | 3 | 0.01
spectral:2          sobolev:0.4 blur:0.05 none        average   refinement 2 | 4 8  | 2 | 0.02
mfc                 sobolev:0.5 identity  none        injection coarsening 1 | 5 13 | 2 | 1e-3
mfc                 sobolev:1.5 blur:0.05 none        injection coarsening 1 | 5 12 | 2 | 1e-3
gaussian-derivative sobolev:3   identity  none        injection coarsening 1 | 5 10 | 2 | 0.01
spectral:2          sobolev:1.5 identity  none        injection coarsening 2 | 4 9  | 1 | 2e-3
spectral:1          sobolev:1.2 identity  none        injection coarsening 3 | 3 6  | 0 | 0.02
mfc                 sobolev:0.5 identity  none        average   coarsening 1 | 5 13 | 2 | 0.05
"""


@pytest.mark.parametrize("row", MEANS.strip().splitlines(), ids=lambda row: "-".join(row.split()))
def test_aliases_in_the_mean(row: str) -> None:
    """What the other terms leave of the gap is what the aliases add, to all orders given."""
    choices, sizes, level, limit = (part.split() for part in row.split("|"))
    problem = Problem(*choices[:-1], int(choices[-1]))
    rest, found, aliases = shares(problem, *map(int, sizes))[int(level[0])]
    assert apart(rest, found) < float(limit[0])
    assert apart(rest, 2 * found) > 0.9  # control: a factor 2
    assert apart(rest, 0 * found) > 0.99  # control: no aliases
    leading = min(t.exponent + t.fine_exponent for t in aliases)
    lead = [t for t in aliases if t.exponent + t.fine_exponent < leading + 1e-9]
    h = 2.0 ** -(int(sizes[0]) + int(level[0]) + 1)
    shifted = [replace(t, exponent=t.exponent + 1.0) for t in lead]
    fine = 2.0 ** -int(sizes[1])
    assert apart(rest, found - total(lead, h, fine) + total(shifted, h, fine)) > 0.5  # wrong power


@pytest.mark.parametrize(
    ("setting", "order"), [("refinement", 3.0), ("coarsening", 4.0)], ids=["refine", "coarsen"]
)
def test_next_orders_of_the_aliases(setting: str, order: float) -> None:
    """What is left falls like the first order that is not given; without the last one, slower."""
    problem = Problem("mfc", "sobolev:1.5", "identity", "none", "injection", setting, 1)
    found = shares(problem, 5, 13)[1:4]
    found_errors = [apart(rest, aliases) for rest, aliases, _ in found]
    for before, after in pairwise(found_errors):
        assert math.log2(before / after) == pytest.approx(order, abs=0.35)
    rest, aliases, terms = found[-1]
    last = max(t.exponent for t in terms)
    h = 2.0**-9
    short = total([t for t in terms if t.exponent < last], h, 2.0**-13)
    assert apart(rest, short) > 5 * apart(rest, aliases)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("restriction", ["injection", "average"])
def test_power_of_the_aliases_by_mode(restriction: str, dim: int) -> None:
    """In refinement an axis with j_a = 0 has no alias: mode by mode against folded spectra."""
    problem = Problem("mfc", "sobolev:0.4", "identity", "none", restriction, "refinement", dim)
    transfer, density = transfer_of(problem), signal_density(problem)
    assert density is not None
    reach = 2
    j = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * dim, indexing="ij"), axis=-1)
    j = j.reshape(-1, dim)
    k = tuple(2 * np.pi * j.T)
    worst = []
    for n in (32, 64):
        pair = level_pairs(problem, MeshHierarchy(dim, (n // 2, n)))[0]
        assert pair.signal is not None
        own = density.at(np.sum(j * j, axis=1))
        if restriction == "average":
            own = own * np.prod(np.cos(np.pi * j / (2 * n)), axis=1) ** 2
        exact = pair.signal.fine[tuple(j.T)] - own
        found = np.zeros(len(j))
        for part in side_parts(problem, transfer, density):
            found += part.amount * part.at(k) / n ** part.exponent.value(density, dim)
        assert found[len(j) // 2] == 0.0  # j = 0 has none, to rounding of the sum
        assert abs(exact[len(j) // 2]) < 1e-15
        seen = exact > 1e-13
        assert np.count_nonzero(seen) == len(j) - 1
        worst.append(np.max(np.abs(found[seen] / exact[seen] - 1.0)))
    assert worst[1] < (2e-3 if restriction == "injection" else 0.02)
    assert worst[1] < worst[0] / (6.0 if restriction == "injection" else 1.9)


def test_sums_over_replicas() -> None:
    from scipy.special import zeta

    catalan = float(sympy.Catalan)
    assert replica_sum(4.0, 1) == pytest.approx(2 * zeta(4), rel=1e-12)
    assert replica_sum(4.0, 2) == pytest.approx(4 * zeta(2) * catalan, rel=1e-12)
    with pytest.raises(LawError, match="must differ from d"):
        replica_sum(2.0, 2)


def errors(problem: Problem, first: int, last: int, factor: float = 1.0) -> np.ndarray:
    """Relative error of the variance's terms on every pair of levels."""
    hierarchy = MeshHierarchy.powers_of_two(problem.dim, first, last)
    h, fine = hierarchy.h[1:], float(hierarchy.h[-1])
    found = sum(
        t.value * h**t.exponent * fine**t.fine_exponent for t in variance_terms(problem).terms
    )
    return np.asarray(np.abs(gap_variances(problem, hierarchy) / (factor * found) - 1.0))


VARIANCES = """
mfc                 sobolev:0.5  identity  none        injection refinement 1 1 | 5 11 | 4 | 1e-3
mfc                 sobolev:1.5  identity  none        injection refinement 1 1 | 5 10 | 2 | 1e-3
mfc                 sobolev:1.5  blur:0.05 none        injection refinement 1 1 | 5 10 | 2 | 1e-3
gaussian-derivative sobolev:1.5  identity  none        injection refinement 1 1 | 5 10 | 2 | 1e-3
spectral:2          sobolev:0.75 identity  power:1.2:3 injection refinement 1 2 | 5 10 | 2 | 1e-3
spectral:2          sobolev:0.75 blur:0.05 power:1.2:3 injection refinement 2 1 | 4 7  | 2 | 1e-3
mfc                 sobolev:0.75 identity  none        injection refinement 2 1 | 4 8  | 3 | 1e-3
spectral:1          sobolev:0.75 identity  none        injection refinement 3 1 | 3 6  | 2 | 1e-3
mfc                 sobolev:0.5  identity  none        average   refinement 1 1 | 5 11 | 4 | 1e-3
mfc                 sobolev:0.75 blur:0.05 none        average   refinement 2 1 | 4 8  | 3 | 1e-3
mfc                 sobolev:1.5  identity  none        injection coarsening 1 1 | 5 13 | 3 | 1e-3
gaussian-derivative sobolev:1.5  blur:0.05 none        injection coarsening 1 1 | 5 13 | 3 | 1e-3
spectral:2          sobolev:0.75 identity  power:1.2:3 injection coarsening 1 2 | 5 13 | 2 | 1e-3
spectral:2          sobolev:0.75 identity  none        injection coarsening 2 1 | 4 9  | 1 | 0.02
spectral:1          sobolev:0.75 identity  none        average   coarsening 3 1 | 3 6  | 1 | 0.01
mfc                 sobolev:0.5  identity  none        average   coarsening 1 1 | 5 13 | 2 | 5e-3
"""


@pytest.mark.parametrize(
    "row", VARIANCES.strip().splitlines(), ids=lambda row: "-".join(row.split())
)
def test_aliases_in_the_variance(row: str) -> None:
    choices, sizes, level, limit = (part.split() for part in row.split("|"))
    problem = Problem(*choices[:-2], int(choices[-2]), channels=int(choices[-1]))
    first, last = map(int, sizes)
    assert errors(problem, first, last)[int(level[0])] < float(limit[0])
    assert errors(problem, first, last, factor=2.0)[int(level[0])] > 0.4  # control


@pytest.fixture
def fresh() -> Any:
    """Parts of variances that were kept are dropped, before and after."""
    variance_module._signal_part.cache_clear()
    yield
    variance_module._signal_part.cache_clear()


def test_noise_meets_aliases(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """Noise of order 1 times aliases counts like the signal times aliases."""
    choices = ("spectral:2", "sobolev:0.75", "identity", "power:1.2:3", "injection", "refinement")
    problem = Problem(*choices, 1)
    assert errors(problem, 5, 9)[-1] < 1e-3
    monkeypatch.setattr(variance_module, "_noise_aliases", lambda *_: None)
    assert errors(problem, 5, 9)[-1] > 0.3


@pytest.mark.parametrize("setting", ["refinement", "coarsening"])
def test_what_two_levels_share(setting: str, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """Each mesh of a refinement has aliases of its own; restricted data share those of the fine."""
    problem = Problem("mfc", "sobolev:1.5", "identity", "none", "injection", setting, 1)
    assert errors(problem, 5, 12)[2] < 2e-3
    true = variance_module.signal_aliases

    def other(*arguments: Any) -> list[Any]:
        return [replace(part, apart=not part.apart) for part in true(*arguments)]

    monkeypatch.setattr(variance_module, "signal_aliases", other)
    variance_module._signal_part.cache_clear()
    assert errors(problem, 5, 12)[2] > 0.05


@pytest.mark.parametrize("setting", ["refinement", "coarsening"])
@pytest.mark.parametrize("target", ["identity", "blur:0.05"])
def test_laws_led_by_aliases(target: str, setting: str) -> None:
    """Orders 2s + d of mean gap and variance, half of it for the rms gap; nothing is missing."""
    problem = Problem("mfc", "sobolev:1.25", target, "none", "injection", setting, 1)
    law = derive(problem)
    assert not law.missing
    orders = [law.quantity(q).order for q in ("mean_gap", "variance", "rms_gap")]
    assert orders == pytest.approx([3.5, 3.5, 1.75])
    assert all(law.quantity(q).verdict == "converges" for q in ("mean_gap", "rms_gap"))


@pytest.mark.parametrize("target", ["shift:0.1", "derivative:0"])
@pytest.mark.parametrize("setting", ["refinement", "coarsening"])
def test_targets_whose_aliases_are_not_derived(target: str, setting: str) -> None:
    """They oscillate with the distance in cells, or grow: no law, and why."""
    choices = ("mfc", "sobolev:1.5", target, "none", "injection", setting, 1)
    law = derive(Problem(*choices))
    with pytest.raises(LawError, match="their aliases move"):
        law.quantity("mean_gap")
    with pytest.raises(LawError, match="aliases of the signal are not expanded"):
        law.quantity("variance")
    assert law.quantity("level_norm").order == 0.0


def test_images_of_a_derivative_lose_an_order() -> None:
    """In refinement images are one-sided: m(k − 2π/h) grows like 1/h and nothing cancels it."""
    problem = Problem("mfc", "sobolev:0.5", "derivative:0", "none", "average", "refinement", 1)
    density = signal_density(problem)
    assert density is not None
    assert aliases_known(problem, transfer_of(problem), density) == pytest.approx(3.0)
    terms = mean_terms(problem)
    assert {t.exponent for t in terms} == {0.0, 2.0}
    hierarchy = MeshHierarchy.powers_of_two(1, 6, 10)
    gaps = np.diff(mean_gradients(problem, hierarchy), axis=0)
    left = [
        np.linalg.norm(gap - total(list(gap_terms(terms)), h, h))
        for gap, h in zip(gaps, hierarchy.h[1:], strict=True)
    ]
    assert math.log2(left[-2] / left[-1]) == pytest.approx(3.0, abs=0.1)


def test_multipliers_far_out() -> None:
    def of(target: Any, dim: int = 2) -> float | None:
        return alias_target(Problem("mfc", "sobolev:3", target, "none", dim=dim))

    assert of("identity") == 1.0
    assert of("blur:0.05") == of("blur:1e-5") == 0.0
    assert of("shift:0.1") is None
    assert of("derivative:1") is None
    assert of(Multiplier(lambda k: 1.0 / (1.0 + k**2)), 1) is None  # falls off like a power
    assert of(Multiplier(lambda k: 1.0 / np.cosh(np.minimum(np.abs(k), 700.0))), 1) == 0.0


def test_one_step_of_fixed_taps_leaves_the_aliases() -> None:
    choices = ("mfc", "sobolev:1.5", "identity", "none", "bilinear", "coarsening", 1)
    direct = Problem(*choices, route="direct")
    density = signal_density(direct)
    assert density is not None
    assert aliases_known(direct, transfer_of(direct), density) == pytest.approx(4.0)
    assert all(t.exponent + t.fine_exponent < 4.0 for t in mean_terms(direct))
    assert any(t.exponent + t.fine_exponent >= 4.0 for t in mean_terms(Problem(*choices)))
    assert variance_terms(direct).unknown == pytest.approx((4.0, 0.0))


def by_power(problem: Problem, scaled: float = 1.0) -> dict[tuple[float, float], np.ndarray]:
    """The pieces in symbols, evaluated; tables of counts times a factor."""
    writer = PhysicalWriter(problem)
    found: dict[tuple[float, float], Any] = {}
    pieces = list(writer.pieces())
    values = {s: m.value for s, m in writer.symbols.items()}
    table = sympy.IndexedBase("N")
    if table in values:
        values[table] = scaled * values[table]
    for piece in pieces:
        assert piece.components is not None
        scalar = evaluate(piece.scalar, values).real
        reach = lattice_reach(problem)
        vector = np.array([evaluate(c, values, reach).real for c in piece.components])
        key = (round(piece.exponent, 6), round(piece.fine_exponent, 6))
        found[key] = found.get(key, 0.0) + scalar * vector
    return found


@pytest.mark.parametrize("restriction", ["injection", "average"])
@pytest.mark.parametrize("setting", ["refinement", "coarsening"])
@pytest.mark.parametrize("dim", [1, 2])
def test_all_pieces_in_symbols(restriction: str, setting: str, dim: int) -> None:
    """Every piece, those beyond the terms that are shown too."""
    problem = Problem("mfc", "sobolev:0.4", "blur:0.05", "none", restriction, setting, dim)
    found, seen = by_power(problem), 0
    for key in {(round(t.exponent, 6), round(t.fine_exponent, 6)) for t in mean_terms(problem)}:
        same = [
            t
            for t in mean_terms(problem)
            if (round(t.exponent, 6), round(t.fine_exponent, 6)) == key
        ]
        vector = np.sum([t.vector for t in same], axis=0).ravel()
        np.testing.assert_allclose(found[key], vector, rtol=1e-9, atol=1e-12 * np.abs(vector).max())
        seen += any(is_alias(t) for t in same)
    assert seen >= (3 if restriction == "injection" else 1)
    if (restriction, setting) == ("injection", "refinement"):  # control
        wrong = by_power(problem, 1.01)
        assert any(not np.allclose(wrong[key], found[key], rtol=1e-4) for key in found)


def test_limits_are_told() -> None:
    """Data's mesh, aliases against each other: the first that is not known, in words."""

    def told(*choices: Any) -> Expansion:
        return variance_terms(Problem(*choices))

    one = told("mfc", "sobolev:0.5", "identity", "none", "injection", "refinement", 1)
    assert one.unknown == pytest.approx((4.0, 0.0))
    assert "against each other" in one.limits()
    two = told("mfc", "sobolev:1.5", "identity", "none", "injection", "coarsening", 1)
    assert two.unknown == pytest.approx((0.0, 4.0))
    assert "data's mesh" in two.limits()
