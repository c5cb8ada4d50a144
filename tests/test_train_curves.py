"""Curves draw the rows of the logs, all of them and nothing else; corrupt logs are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gradconv.errors import InputError
from gradconv.figures import figure_bytes
from gradconv.train.curves import MOST, curves_figure, draw_curves, read_run
from gradconv.train.logs import RunLog


def make(folder: Path, terms: tuple[int, ...], cost: float, moments: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "configuration.json").write_text(json.dumps({"strategy": folder.name}))
    with RunLog(folder, tensorboard=False) as log:
        for step in range(1, 41):
            spent = {"work": step * cost, "flops": step * cost * 1e9, "seconds": step * cost / 50}
            log.step(
                step=step,
                leg=0,
                loss=1.0 / step,
                lr=0.1,
                gradient_norm=0.5,
                samples=4 * step,
                **spent,
            )
            for level in terms:
                seen = moments and step % 10 == 0
                log.level(
                    step=step,
                    level=level,
                    samples=4,
                    fine_loss=0.5,
                    coarse_loss=None,
                    norm=2.0**-level if seen else None,
                    variance=4.0**-level / step if seen else None,
                )
            if step % 10 == 0:
                log.validation(step=step, leg=0, mse=0.1 / step, psnr=20.0, ssim=0.5, **spent)
    return folder


def test_columns_are_read_exactly(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "multiscale", (0, 1), 37 / 3))
    assert run.label == "multiscale"
    assert run.steps["work"][4] == 5 * (37 / 3)
    assert np.array_equal(run.steps["loss"], 1.0 / np.arange(1, 41))
    assert np.isnan(run.levels["coarse_loss"]).all()
    assert np.flatnonzero(np.isfinite(run.levels["norm"])).tolist() == [
        18,
        19,
        38,
        39,
        58,
        59,
        78,
        79,
    ]
    assert read_run(tmp_path / "multiscale", "mine").label == "mine"
    (tmp_path / "multiscale" / "configuration.json").unlink()
    assert read_run(tmp_path / "multiscale").label == "multiscale"
    (tmp_path / "multiscale" / "validation.csv").unlink()  # a run that was never validated
    assert read_run(tmp_path / "multiscale").validation["mse"].shape == (0,)


@pytest.mark.parametrize(
    ("table", "line", "column", "value", "message"),
    [
        ("steps", 3, 2, "abc", r"`loss` of .*steps\.csv must hold finite .*'abc' in line 3"),
        ("steps", 3, 2, "", r"`loss` of .*steps\.csv must hold finite"),
        ("steps", 5, 2, "nan", r"`loss` of .* got 'nan' in line 5"),
        ("steps", 9, 5, "1.0", r"`work` of .* must not fall; it does in line 9"),
        ("steps", 9, 7, "-1", r"`seconds` of .* got '-1' in line 9"),
        ("levels", 2, 1, "0.5", r"`level` of .*levels\.csv must hold .*'0.5'"),
        ("validation", 2, 5, "", r"`mse` of .*validation\.csv"),
        ("steps", 4, 4, "", ""),  # control: a column that may be empty
    ],
)
def test_corrupt_columns_are_named(
    table: str, line: int, column: int, value: str, message: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "run", (0, 1), 2.0)
    path = folder / f"{table}.csv"
    rows = [row.split(",") for row in path.read_text().splitlines()]
    rows[line - 1][column] = value
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    if not message:
        assert np.isnan(read_run(folder).steps["gradient_norm"][line - 2])
        return
    with pytest.raises(InputError, match=message):
        read_run(folder)


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", (0,), 2.0)
    (folder / "steps.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(InputError, match=r"steps\.csv` must begin with step,leg,loss"):
        read_run(folder)
    (folder / "steps.csv").unlink()
    with pytest.raises(InputError, match=r"steps\.csv is missing"):
        read_run(folder)


def test_the_figure_shows_every_row_of_every_run(tmp_path: Path) -> None:
    runs = [
        read_run(make(tmp_path / "single", (3,), 240.0)),
        read_run(make(tmp_path / "multiscale", (0, 1, 2, 3), 37.0)),
    ]
    figure = curves_figure(runs)
    axes = figure.axes
    assert len(axes) == 6 + 4
    for place, (table, quantity) in enumerate(
        (("steps", "loss"), ("validation", "mse"), ("validation", "psnr"))
    ):
        for row, cost in enumerate(("work", "seconds")):
            axis = axes[3 * row + place]
            for line, run in zip(axis.get_lines(), runs, strict=True):
                columns = getattr(run, table)
                assert np.array_equal(line.get_xdata(), columns[cost])
                assert np.array_equal(line.get_ydata(), columns[quantity])
            assert axis.get_xlabel().startswith({"work": "work units"}.get(cost, cost))
            assert axis.get_yscale() == ("linear" if quantity == "psnr" else "log")
            assert axis.get_xscale() == "log"
    styles = [(line.get_color(), line.get_linestyle()) for line in axes[0].get_lines()]
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] != styles[1][1]  # told apart in grey
    for number, axis in enumerate(axes[6:]):
        quantity, run = ("norm", "variance")[number // 2], runs[number % 2]
        levels = sorted(set(run.levels["level"]))
        drawn = [line for line in axis.get_lines() if np.size(line.get_xdata())]
        for line, level in zip(drawn, levels, strict=True):
            mine = (run.levels["level"] == level) & np.isfinite(run.levels[quantity])
            assert np.array_equal(line.get_xdata(), run.levels["step"][mine])
            assert np.array_equal(line.get_ydata(), run.levels[quantity][mine])
    words = [t.get_text() for part in figure.subfigs for t in part.legends[0].get_texts()]
    assert words == ["single", "multiscale", "level 0 (coarsest)", "level 1", "level 2", "level 3"]


def test_a_norm_that_is_not_told_apart_from_none_is_not_drawn(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "run", (0, 1), 3.0))
    norms = run.levels["norm"]
    measured = np.flatnonzero(np.isfinite(norms) & (run.levels["level"] == 1))
    norms[measured[1]] *= -1.0
    line = curves_figure([run]).axes[6].get_lines()[1]
    assert len(measured) == 4
    assert np.array_equal(line.get_ydata(), norms[np.delete(measured, 1)])


def test_files_are_the_same_from_the_same_data(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "run", (0,), 3.0))
    files = draw_curves([run], tmp_path / "out" / "curves")
    assert [p.name for p in files] == ["curves.pdf", "curves.svg", "curves.png"]
    first = [p.read_bytes() for p in files]
    assert [first[0][:4], first[2][:4]] == [b"%PDF", b"\x89PNG"]
    assert [p.read_bytes() for p in draw_curves([run], tmp_path / "out" / "curves")] == first
    other = read_run(make(tmp_path / "other", (0,), 4.0), "run")
    assert figure_bytes(curves_figure([other]), "svg") != first[1]  # control


def test_runs_without_moments_and_too_many_runs(tmp_path: Path) -> None:
    bare = read_run(make(tmp_path / "bare", (0,), 3.0, moments=False))
    assert len(curves_figure([bare]).axes) == 6
    full = read_run(make(tmp_path / "full", (0,), 3.0))
    texts = [t.get_text() for axis in curves_figure([bare, full]).axes for t in axis.texts]
    assert texts == ["not measured", "not measured"]
    for runs in ([], [bare] * (MOST + 1)):
        with pytest.raises(InputError, match=f"`runs` must be 1 to 8 runs; got {len(runs)}"):
            curves_figure(runs)
