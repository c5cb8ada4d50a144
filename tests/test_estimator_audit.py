"""Audits of multilevel loops: every planted defect is named, and sound loops raise no alarm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from estimator_defects import PLANTED, Randomised
from estimator_loops import Loop
from estimator_variants import SOUND

from gradconv.audit import EstimatorAudit, audit_estimator

# sound loops of the default run; the others, and more seeds, are slow
ALWAYS = (
    "subtracted by hand",
    "spectral",
    "bicubic",
    "clipped by value",
    "shared dropout masks",
    "one path, no restriction",
    "randomised level",
)
QUICK = list(dict.fromkeys([*list(SOUND)[::4], *ALWAYS]))


# one defect of each cause
FIRST = list({cause: name for name, (_, cause, _) in reversed(PLANTED.items())}.values())


def run(loop: Loop, seed: int = 0, **options: Any) -> EstimatorAudit:
    chosen = {
        "hierarchy": loop.sizes,
        "batch_sizes": loop.batches,
        "work": loop.work,
        **options,
    }
    return audit_estimator(loop.step, module=loop.module, seed=seed, **chosen)


def named(found: EstimatorAudit) -> set[str]:
    """Causes above a note."""
    return {f.cause for f in found.findings if f.severity != "note"}


def sound(name: str, seed: int) -> EstimatorAudit:
    """Audit of a sound variant; a random level costs what is claimed on average only."""
    loop = SOUND[name](seed=seed)
    return run(loop, seed, **({"work": None} if isinstance(loop, Randomised) else {}))


def planted(name: str, seed: int) -> tuple[EstimatorAudit, str]:
    """Audit of a planted defect, and the cause that must be named."""
    make, cause, options = PLANTED[name]
    return run(make(seed=seed), seed, **options), cause


def in_words(found: EstimatorAudit) -> bool:
    """Whether every finding is one line with a number in it."""
    sentences = [f.sentence for f in found.findings]
    return all("\n" not in s and any(c.isdigit() for c in s) for s in sentences)


@pytest.mark.parametrize("name", FIRST)
def test_a_planted_defect_is_named(name: str) -> None:
    found, cause = planted(name, 0)
    assert named(found) == {cause}, found.findings
    assert not found.sound
    assert in_words(found)


@pytest.mark.parametrize("name", QUICK)
def test_a_sound_loop_raises_no_alarm(name: str) -> None:
    found = sound(name, 0)
    assert named(found) == set(), found.findings
    assert found.sound


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", SOUND)
def test_no_sound_loop_raises_an_alarm_at_any_seed(name: str, seed: int) -> None:
    found = sound(name, seed)
    assert named(found) == set(), found.findings
    assert found.sound


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_defect_is_named_at_any_seed(name: str, seed: int) -> None:
    found, cause = planted(name, seed)
    assert named(found) == {cause}, found.findings
    assert not found.sound
    assert in_words(found)


def test_enough_of_both() -> None:
    assert len(SOUND) >= 50
    assert len({cause for _, cause, _ in PLANTED.values()}) >= 14


def test_weights_batches_and_work_of_a_sound_loop() -> None:
    loop = Loop()
    found = run(loop)
    sides = {(s.term, s.kind): s for s in found.sides}
    assert set(sides) == {(0, "fine"), (1, "fine"), (1, "coarse"), (2, "fine"), (2, "coarse")}
    for (term, kind), side in sides.items():
        assert side.weight == pytest.approx(1.0 if kind == "fine" else -1.0, abs=5e-3)
        assert side.samples == loop.batches[term]
        assert side.n == loop.sizes[term - (kind == "coarse")]
    # 12/16 + 6 (1/4 + 1/16) + 3 (1 + 1/4)
    assert found.work == pytest.approx(6.375)
    assert sum(s.work for s in found.sides) == pytest.approx(6.375)


def test_the_work_of_the_paper() -> None:
    """16, 32, 64, 128 samples from fine to coarse cost 37 work units a step."""
    loop = Loop(sizes=(4, 8, 16, 32), batches=(128, 64, 32, 16))
    assert loop.work == 37.0
    found = run(loop, steps=4, work=37)
    assert found.work == pytest.approx(37.0)
    assert found.sound
    assert named(run(loop, steps=4, work=30)) == {"work not as claimed"}


def test_the_gradient_of_a_sound_loop_is_what_the_weights_say() -> None:
    """Independent of the hooks: the step's own gradient against that of its losses."""
    loop, again = Loop(), Loop()
    torch.manual_seed(7)
    loop.step()
    torch.manual_seed(7)
    total = sum(sum(losses) for losses in again.terms())
    expected = torch.autograd.grad(total, list(again.module.parameters()))
    for p, g in zip(loop.module.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, atol=1e-6)


def test_the_step_may_take_the_model() -> None:
    loop = Loop()
    given: list[torch.nn.Module] = []

    def step(module: torch.nn.Module) -> None:
        given.append(module)
        loop.step()

    found = audit_estimator(step, module=loop.module, hierarchy=loop.sizes, steps=4)
    assert given == [loop.module] * 4
    assert not named(found)


def test_the_document() -> None:
    document = run(Loop(), steps=4).to_dict()
    assert set(document) == {
        "schema", "provenance", "sound", "work", "terms", "findings", "notes",
    }  # fmt: skip
    assert document["schema"] == "gradconv.estimator-audit/1"
    assert document["provenance"]["configuration"]["levels"] == [8, 16, 32]
    assert document["sound"] is True
    assert len(document["terms"]) == 5
    keys = {"term", "kind", "n", "samples", "calls", "weight", "work", "gradient"}
    assert all(set(t) == keys for t in document["terms"])


def test_the_same_seed_finds_the_same() -> None:
    first, second = (run(PLANTED["noise by level"][0](seed=3), 5) for _ in range(2))
    assert first.to_dict() == second.to_dict()
