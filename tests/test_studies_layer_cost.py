"""The study of a mesh-free layer's cost: choices, results made by hand, a small measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradconv.errors import InputError
from gradconv.figures import STYLES
from gradconv.studies import KINDS, load_study
from gradconv.studies.kinds import Workplace

KIND = KINDS["layer_cost"]
CHOICES: dict[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "channels": 2,
    "batch": 1,
    "repeats": 2,
    "width": 0.1,
    "mesh": 16,
    "widths": [1.0, 2.0],
    "meshes": {"cpu": [8, 16], "cuda": [256]},
}
MACHINE = {"processor": "ACME One", "cores": 8, "threads": 2, "system": "Linux", "gpu": "none"}


def timed(layer: str, n: int, seconds: float, ratio: float | None, cells: float = 2.0) -> Any:
    """A record with a spread of 10 % about its ratio."""
    pairs = ("median", 1.0), ("low", 0.9), ("high", 1.1), ("least", 0.8), ("most", 1.2)
    return {
        "layer": layer,
        "n": n,
        "width": cells / n,
        "cells": cells,
        "modes": None if ratio is None else 100,
        "operations": 2e9,
        "seconds": seconds,
        "seconds_quartiles": [0.9 * seconds, 1.1 * seconds],
        "nanoseconds_a_pixel": 1e9 * seconds / n**2,
        "ratio": None if ratio is None else {k: ratio * v for k, v in pairs},
        "processor_ratio": 1.0,
        "error": None if ratio is None else 2e-5,
    }


def by_hand(ratios: tuple[float, ...] = (2.0, 0.8, 0.3), paths: tuple[str, ...] = ("compiled",)):
    meshes, widths = [], []
    for n, ratio in zip((32, 64, 128), ratios, strict=True):
        meshes += [timed(p, n, 1e-3 * ratio, ratio) for p in paths]
        meshes.append(timed("nn.Conv2d", n, 1e-3, None))
    for cells, ratio in zip((1.0, 4.0, 16.0), ratios, strict=True):
        widths += [timed(p, 64, 1e-3 * ratio, ratio, cells) for p in paths]
        widths.append(timed("nn.Conv2d", 64, 1e-3, None, cells))
    return {
        "meshes": {"machine": MACHINE, "batch": 1, "timings": meshes},
        "widths": {"machine": MACHINE, "batch": 1, "timings": widths},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 0}, "`threads` must be a whole number from 1"),
        ({"repeats": 1}, "`repeats` must be a whole number from 2"),
        ({"width": -1.0}, "`width` must be positive"),
        ({"width": True}, "`width` must be positive"),
        ({"widths": [2.0, 1.0]}, "`widths` must rise"),
        ({"widths": []}, "`widths` must be a list"),
        ({"meshes": {"cuda": [64]}}, "`meshes` must have a list for device cpu"),
        ({"meshes": {"cpu": [64, 64]}}, "`meshes` must rise"),
        ({"meshes": {"cpu": [2]}}, "`meshes` must be a whole number from 4"),
        ({"device": "abacus"}, "`device` must be cpu or"),
        ({"colour": "red"}, "`choice` must be one of"),
    ],
)
def test_bad_choices_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KIND.parts({**CHOICES, **change})


def test_missing_choices_are_refused() -> None:
    with pytest.raises(InputError, match="`width` must be chosen"):
        KIND.parts({k: v for k, v in CHOICES.items() if k != "width"})


def test_meshes_are_those_of_the_device() -> None:
    assert KIND.parts(CHOICES)["meshes"]["meshes"] == [8, 16]
    other = KIND.parts({**CHOICES, "meshes": {"cpu": [8, 16], "cuda": [512]}})
    assert other == KIND.parts(CHOICES)  # a GPU's meshes play no part on the CPU


def test_measurement_has_every_layer_on_every_mesh(tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []
    found = {
        name: KIND.measure(part, Workplace(tmp_path, progress=lambda d, t: told.append((d, t))))
        for name, part in KIND.parts(CHOICES).items()
    }
    for name, values in (("meshes", [8, 16]), ("widths", [16, 16])):
        timings = found[name]["timings"]
        layers = list(dict.fromkeys(t["layer"] for t in timings))
        assert layers[-2:] == ["torch", "nn.Conv2d"]
        assert [t["n"] for t in timings] == [n for n in values for _ in layers]
    assert found["meshes"]["machine"]["threads"] == 1
    assert [t["cells"] for t in found["widths"]["timings"][:: len(layers)]] == [1.0, 2.0]
    assert [t["cells"] for t in found["meshes"]["timings"][:: len(layers)]] == [0.8, 1.6]
    errors = [t["error"] for t in found["meshes"]["timings"] if t["layer"] != "nn.Conv2d"]
    assert max(errors) < 1e-4
    assert told[-1] == (256.0, 512.0)
    # what was measured can be shown, whatever it is
    KIND.tables(found)
    assert len(KIND.summary(found)) == 2 * (len(layers) - 1)


def test_sentences_say_from_where_on_the_layer_is_faster() -> None:
    first, second = KIND.summary(by_hand())
    assert first == (
        "mesh-free, compiled: 2.00 [1.80, 2.20] times the time of nn.Conv2d on 32², "
        "0.30 [0.27, 0.33] on 128²; faster from 64² on."
    )
    assert "2.00 [1.80, 2.20] times it with kernels of width 1 h" in second
    assert second.endswith("faster from 4 h on.")


@pytest.mark.parametrize(
    ("ratios", "ending"),
    [
        ((2.0, 0.8, 1.5), "not faster on 128²."),  # faster in between is not faster from there on
        ((2.0, 0.95, 0.3), "faster from 128² on."),  # 0.95 with its quartiles is not told apart
        ((0.5, 0.4, 0.3), "faster from 32² on."),
    ],
)
def test_faster_is_said_of_whole_quartiles_only(
    ratios: tuple[float, float, float], ending: str
) -> None:
    assert KIND.summary(by_hand(ratios))[0].endswith(ending)


def test_table_has_pairs_and_their_spread() -> None:
    meshes, widths = KIND.tables(by_hand(paths=("compiled", "torch")))
    assert len(meshes.rows) == len(widths.rows) == 9
    row = dict(zip(meshes.header, meshes.rows[0], strict=True))
    assert row["over nn.Conv2d"] == "2.00 [1.80, 2.20] (1.60–2.40)"
    assert (row["time [ms]"], row["ns a pixel"]) == ("2 [1.8, 2.2]", "1953")
    assert (row["modes"], row["error"], row["GFLOP"]) == ("100", "2.0e-05", "2")
    assert "2 threads of 8 cores, ACME One" in meshes.caption


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_figure_shows_what_is_stored(style: Any) -> None:
    results = by_hand(paths=("compiled", "torch"))
    (figure,) = KIND.figures(results, style)
    left, right = figure.drawing.axes
    assert figure.drawing.get_figwidth() == style.full
    lines = {c.get_label(): c.lines[0] for c in left.containers}
    assert list(lines["3 × 3 nn.Conv2d"].get_xdata()) == [32, 64, 128]
    shown = list(lines["mesh-free, compiled"].get_ydata())
    timings = results["meshes"]["timings"]
    assert shown == [t["nanoseconds_a_pixel"] for t in timings if t["layer"] == "compiled"]
    (guide,) = [x for x in left.lines if "n^{-2}" in str(x.get_label())]
    (x0, x1), (y0, y1) = guide.get_xdata(), guide.get_ydata()
    assert y1 / y0 == pytest.approx((x1 / x0) ** -2)
    (curve,) = [x for x in right.lines if x.get_label() == "mesh-free, pure torch"]
    assert list(curve.get_ydata()) == [2.0, 0.8, 0.3]
    assert figure.alternative == " ".join(KIND.summary(results))


def test_study_asks_for_every_size() -> None:
    study = load_study("layer-cost")
    for size in ("smoke", "small", "full"):
        assert set(study.parts(size)) == {"meshes", "widths"}
    assert study.parts("full")["meshes"]["meshes"] == [32, 64, 128, 256, 512]
