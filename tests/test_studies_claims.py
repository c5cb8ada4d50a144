"""The study of the claims: what its parts are of, and that a change of it is seen."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradconv.claims import orders, scale
from gradconv.claims.evidence import check_document
from gradconv.claims.paper import CLAIMS
from gradconv.errors import InputError
from gradconv.figures import find_style
from gradconv.provenance import configuration_hash
from gradconv.studies import KINDS, load_study
from gradconv.studies.kinds import Workplace
from gradconv.studies.kinds import claims as module
from gradconv.studies.stored import read_documents

STUDIES = Path(__file__).resolve().parent.parent / "studies"
KIND = KINDS["claims"]
BY_ID = {claim.id: claim for claim in CLAIMS}
EVIDENCE = [claim.id for claim in CLAIMS if not claim.live]
Record = dict[str, Any]


@pytest.fixture(scope="module")
def choices() -> Record:
    """Choices of the full size with the stored training study."""
    study = load_study("claims", STUDIES)
    return KIND.complete(study.choices["full"], study.folder)


def hashes(choices: Record) -> dict[str, str]:
    return {name: configuration_hash(part) for name, part in KIND.parts(choices).items()}


def differing(choices: Record, other: Record) -> set[str]:
    before, after = hashes(choices), hashes(other)
    return {name for name in before if before[name] != after[name]}


def test_a_part_for_each_claim(choices: Record) -> None:
    parts = KIND.parts(choices)
    assert list(parts) == [claim.id for claim in CLAIMS]
    assert all(parts[name]["training"]["study"] == "training" for name in EVIDENCE)
    assert len(parts["smooth-order"]["cases"]) == 18
    assert json.loads(json.dumps(parts)) == parts


def test_changed_training_is_seen(choices: Record) -> None:
    """Claims that a block of the training study is evidence of, and no others."""
    used = {
        "table": {"batch-variance", "cost-reduction", "mfc-speed-up", "mfc-in-cnn"},
        "noise": {"standard-multiscale"},
        "hot-starts": {"hot-start"},
        "depth": set(),
    }
    assert differing(choices, copy.deepcopy(choices)) == set()
    for block, names in used.items():
        other = copy.deepcopy(choices)
        other["stored"][block]["results"]["runs"][0]["test"]["mse"] *= 1.01
        assert differing(choices, other) == names
        other = copy.deepcopy(choices)
        other["stored"][block]["provenance"]["configuration_hash"] = "0" * 64
        assert differing(choices, other) == names
    other = copy.deepcopy(choices)
    del other["stored"]["noise"]
    with pytest.raises(InputError, match=r"block noise is stored, for the claim standard-multi"):
        KIND.parts(other)


def test_changed_choices_are_seen(choices: Record) -> None:
    assert differing(choices, {**choices, "telescoping_samples": 3}) == {"unbiased-sum"}
    variance = {**choices["variance"], "samples": 33}
    assert differing(choices, {**choices, "variance": variance}) == {"batch-variance"}


def test_changed_claims_are_seen(choices: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashes(choices)

    def seen() -> set[str]:
        after = hashes(choices)
        return {name for name in before if before[name] != after[name]}

    claim = BY_ID["mfc-order"]
    other = replace(claim, cases=(replace(claim.cases[0], replicates=7), *claim.cases[1:]))
    monkeypatch.setitem(module.BY_ID, claim.id, other)
    assert seen() == {"mfc-order"}
    monkeypatch.undo()
    claim = BY_ID["hot-start"]
    (criterion,) = claim.criteria
    other = replace(claim, criteria=(replace(criterion, threshold=4.0),))
    monkeypatch.setitem(module.BY_ID, claim.id, other)
    assert seen() == {"hot-start"}
    monkeypatch.undo()
    monkeypatch.setattr(scale, "WIDTH", scale.WIDTH * 2)
    assert seen() == {"scale-independence"}
    monkeypatch.undo()
    monkeypatch.setattr(module, "SEED", orders.SEED + 1)
    assert seen() == set(before)


def test_bad_choices_are_refused(choices: Record) -> None:
    for change, message in (
        ({"onyl": []}, "did you mean 'only'"),
        ({"only": []}, "`only` must be a list of claims"),
        ({"only": ["hot-strat"]}, "did you mean 'hot-start'"),
    ):
        with pytest.raises(InputError, match=message):
            KIND.parts({**choices, **change})
    without = {k: v for k, v in choices.items() if k != "variance"}
    with pytest.raises(InputError, match="`variance` must be given for the claim batch-variance"):
        KIND.parts(without)
    for name in (3, " "):
        with pytest.raises(InputError, match="`training` must be the name of a study"):
            KIND.complete({"training": name}, STUDIES / "claims")
    with pytest.raises(InputError, match="block table is stored"):
        KIND.parts(KIND.complete({**choices_of("full"), "training": "absent"}, STUDIES / "claims"))
    with pytest.raises(InputError, match="choice of a study of claims"):
        KIND.complete({**choices_of("full"), "stored": {}}, STUDIES / "claims")


def choices_of(size: str) -> Record:
    return dict(load_study("claims", STUDIES).choices[size])


def test_evidence_keeps_the_origin_of_its_numbers(choices: Record, tmp_path: Path) -> None:
    part = KIND.parts(choices)["standard-multiscale"]
    kept = read_documents(STUDIES / "claims")["standard-multiscale"]
    origin = {**kept["provenance"], "configuration": part, "commit": "0" * 40, "dirty": False}
    origin["configuration_hash"] = configuration_hash(part)
    work = Workplace(tmp_path, home=STUDIES / "claims", origin=origin)
    found = KIND.measure(part, work)
    assert found["evidence"]["provenance"]["commit"] == "0" * 40
    assert found["evidence"]["measurements"] == kept["results"]["evidence"]["measurements"]
    assert found["entry"]["verdict"] == kept["results"]["entry"]["verdict"]
    changed = replace(work, origin={**origin, "dirty": True})
    assert KIND.measure(part, changed)["evidence"]["provenance"]["dirty"] is True
    # outside a repository there is no evidence, and it is said
    bare = KIND.measure(part, replace(work, origin={**origin, "commit": None, "dirty": None}))
    assert bare["evidence"] is None
    assert bare["entry"]["verdict"] == "not yet measured"
    assert "without its commit a number is no evidence" in bare["entry"]["notes"][-1]


def test_what_is_stored_is_judged_as_it_says() -> None:
    """Entries of stored evidence are what the rules make of it now."""
    for name, document in read_documents(STUDIES / "claims").items():
        results = document["results"]
        assert (results["evidence"] is None) == bool(BY_ID[name].live)
        if results["evidence"] is not None:
            check_document(results["evidence"], BY_ID[name], Path(f"{name}.json"))
            anew = module.stored_results(BY_ID[name], results["evidence"])
            assert json.loads(json.dumps(anew)) == results
        assert results["entry"]["verdict"] != "not yet measured"


def test_ledger_and_figures_of_stored_claims() -> None:
    results = {n: d["results"] for n, d in read_documents(STUDIES / "claims").items()}
    (table,) = KIND.tables(results)
    assert [row[0] for row in table.rows] == [str(n) for n in range(1, 13)]
    for row, result in zip(table.rows, results.values(), strict=True):
        assert result["entry"]["verdict"] in row[-1]
    assert table.latex().count(r" \\") == len(table.rows) + 2
    last = list(results)[-1]
    (figure,) = KIND.figures({last: results[last]}, find_style("two-column"))
    assert figure.name == last
    assert results[last]["entry"]["verdict"] in figure.alternative
