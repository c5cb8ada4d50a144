"""Logs: exact rows, and those of a resumed run are those of an uninterrupted one."""

from __future__ import annotations

import errno
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradconv.errors import InputError, StorageError
from gradconv.train import logs
from gradconv.train.logs import COLUMNS, RunLog, read_table


def write(log: RunLog, first: int, last: int, start: float = 0.0) -> None:
    """Rows of steps ``first`` to ``last``, functions of the step but for the seconds."""
    for step in range(first, last + 1):
        rng = random.Random(step)
        cost = {"work": step * 37 / 3, "flops": step * 1e9, "seconds": start + step * 0.1}
        log.step(
            step=step,
            leg=step // 4,
            loss=rng.random(),
            lr=0.1 / 3,
            gradient_norm=rng.random() if step % 3 else None,
            samples=16 * step,
            **cost,
        )
        for level in (0, 1):
            log.level(
                step=step,
                level=level,
                samples=8 >> level,
                fine_loss=rng.random(),
                coarse_loss=rng.random() if level else None,
                norm=rng.random() * 1e-9,
                variance=None,
            )
        if step % 3 == 0:
            log.validation(
                step=step, leg=step // 4, mse=rng.random(), psnr=20.0, ssim=rng.random(), **cost
            )


def csvs(folder: Path, seconds: bool = True) -> dict[str, Any]:
    """Content of the files; as rows without the seconds where these may differ."""
    if seconds:
        return {table: (folder / f"{table}.csv").read_bytes() for table in COLUMNS}
    return {t: [logs._identity(t, row) for row in read_table(folder, t)] for t in COLUMNS}


def test_numbers_read_back_exactly(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        write(log, 1, 9)
    rows = read_table(tmp_path, "steps")
    assert [int(r[0]) for r in rows] == list(range(1, 10))
    assert [float(r[2]) for r in rows] == [random.Random(s).random() for s in range(1, 10)]
    assert rows[0][5] == "12.333333333333334"
    assert rows[2][4] == ""
    assert (tmp_path / "levels.csv").read_text().startswith(",".join(COLUMNS["levels"]) + "\n")


def test_a_resumed_log_has_the_bytes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    with RunLog(whole, tensorboard=False) as log:
        log.rewind(0)
        write(log, 1, 20)
    with RunLog(resumed, tensorboard=False) as log:
        write(log, 1, 13)
        log.flush()
    with (resumed / "steps.csv").open("ab") as file:
        file.write(b"14,3,0.12")  # killed within a row
    with RunLog(resumed, tensorboard=False) as log:
        log.rewind(9)
        write(log, 10, 20)
    assert csvs(resumed) == csvs(whole)
    with RunLog(resumed, tensorboard=False) as log:
        log.rewind(8)  # control: a row less
        write(log, 10, 20)
    assert csvs(resumed) != csvs(whole)
    with RunLog(resumed, tensorboard=False) as log:
        log.rewind(0)
        assert read_table(resumed, "steps") == []
        write(log, 1, 20)
    assert csvs(resumed) == csvs(whole)


@pytest.mark.parametrize("cut", [0, 3, len("step,leg"), 200, 333])
def test_a_file_cut_anywhere_is_rewound(cut: int, tmp_path: Path) -> None:
    with RunLog(tmp_path / "whole", tensorboard=False) as log:
        write(log, 1, 12)
    with RunLog(tmp_path, tensorboard=False) as log:
        write(log, 1, 12)
    path = tmp_path / "steps.csv"
    path.write_bytes(path.read_bytes()[:cut])
    with RunLog(tmp_path, tensorboard=False) as log:
        log.rewind(0)
        write(log, 1, 12)
    assert csvs(tmp_path) == csvs(tmp_path / "whole")


def test_a_validation_that_was_written_before_the_kill_stays_single(tmp_path: Path) -> None:
    """The last step of a leg is saved, validated, and the process is killed before it goes on."""
    whole = tmp_path / "whole"
    with RunLog(whole, tensorboard=False) as log:
        write(log, 1, 12)
    with RunLog(tmp_path, tensorboard=False) as log:
        write(log, 1, 9)
        log.rewind(9)
        cost = {"work": 9 * 37 / 3, "flops": 9e9, "seconds": 77.7}
        rng = random.Random(9)
        values = [rng.random() for _ in range(8)]
        again = read_table(tmp_path, "validation")[-1]
        log.validation(step=9, leg=2, mse=float(again[5]), psnr=20.0, ssim=float(again[7]), **cost)
        assert float(again[5]) in values  # the row is that of this step
        write(log, 10, 12, start=5.0)
    assert csvs(tmp_path, seconds=False) == csvs(whole, seconds=False)
    assert csvs(tmp_path) != csvs(whole)  # the seconds are those of this process
    with RunLog(tmp_path, tensorboard=False) as log:
        log.rewind(9)
        log.validation(step=9, leg=3, mse=1.0, psnr=20.0, ssim=None, **cost)  # another one
    assert len(read_table(tmp_path, "validation")) == 4


def test_rows_that_break_the_order_or_the_columns_are_refused(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        write(log, 1, 3)
        with pytest.raises(InputError, match=r"`step` of steps must follow .* 3; got 2; rewind"):
            write(log, 2, 2)
    with RunLog(tmp_path, tensorboard=False) as log:  # control: the next step is taken
        with pytest.raises(InputError, match=r"must follow .* 3; got 3"):
            write(log, 3, 3)
        write(log, 4, 4)
        with pytest.raises(InputError, match=r"`row` of steps must have the columns .*; lr, rate"):
            log.step(**dict.fromkeys(set(COLUMNS["steps"]) - {"lr"}, 1), rate=1)
        good = dict.fromkeys(COLUMNS["steps"], 5)
        for name, value in (("step", None), ("leg", 1.5), ("step", -1), ("loss", "0.1")):
            with pytest.raises(InputError, match=f"`{name}` must be a"):
                log.step(**{**good, name: value})  # type: ignore[arg-type]
        for value in (1.5, -1, True):
            with pytest.raises(InputError, match="`step` must be a whole number"):
                log.rewind(value)  # type: ignore[arg-type]
    assert len(read_table(tmp_path, "steps")) == 4


def test_files_that_are_no_logs_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    header = ",".join(COLUMNS["steps"])
    row = "1,0,0.5,0.1,,1.0,1.0,1.0,1"
    for text, message in (
        ("time,loss\n1,2\n", "must begin with step,leg"),
        (f"{header}\n{row}\n7\n{row}\n", r"must have 9 columns.*got '7' in line 3"),
        (f"{header}\nx{row}\n", "in line 2"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            RunLog(tmp_path, tensorboard=False).rewind(1)
        with pytest.raises(InputError, match=message):
            read_table(tmp_path, "steps")
        assert path.read_text() == text
    path.write_text(f"{header}\n{row}\n2,0")
    with pytest.raises(InputError, match="must be rewound first"):
        write(RunLog(tmp_path, tensorboard=False), 2, 2)
    assert len(read_table(tmp_path, "steps")) == 1
    path.unlink()
    log = RunLog(tmp_path, tensorboard=False)
    log.rewind(5)
    assert "steps.csv is missing; it begins after step 5" in log.notes[0]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.room = file, 10

        def write(self, line: bytes) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken, self.room = self.file.write(line[: self.room]), 0
            return int(taken)

        def close(self) -> None:
            self.file.close()

    with RunLog(tmp_path, tensorboard=False) as log:
        write(log, 1, 3)
        log._files["steps"] = Full(log._files["steps"])  # type: ignore[assignment]
        with pytest.raises(StorageError, match=r"No space left on device at .*steps\.csv"):
            write(log, 4, 4)
    with RunLog(tmp_path, tensorboard=False) as log:
        log.rewind(3)
        write(log, 4, 12)
    with RunLog(tmp_path / "whole", tensorboard=False) as log:
        write(log, 1, 12)
    assert csvs(tmp_path) == csvs(tmp_path / "whole")


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {t: {e.step: e.value for e in found.Scalars(t)} for t in found.Tags()["scalars"]}


def test_events_are_the_rows_also_after_a_rewind(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with RunLog(tmp_path) as log:
        write(log, 1, 8)
        log.step(
            **dict.fromkeys(COLUMNS["steps"], 9.0) | {"step": 9, "leg": 2, "samples": 1, "lr": 5.0}
        )
        log.flush()
        assert scalars(tmp_path)["steps/lr"][9] == 5.0  # there until it is rewound
    with RunLog(tmp_path) as log:
        log.rewind(6)
        write(log, 7, 12)
    events, expected = scalars(tmp_path), dict[str, dict[int, float]]()
    for table, columns in COLUMNS.items():
        for row in read_table(tmp_path, table):
            values = dict(zip(columns, row, strict=True))
            place = f"{table}/{values['level']}" if table == "levels" else table
            for name in logs.SCALARS:
                if values.get(name):
                    value = float(np.float32(values[name]))
                    expected.setdefault(f"{place}/{name}", {})[int(values["step"])] = value
    assert events == expected
    assert len(events) == 11
    assert math.isclose(events["steps/lr"][9], 0.1 / 3, rel_tol=1e-6)


def test_a_missing_tensorboard_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path) as log:
        write(log, 1, 2)
        assert log.notes == ["no events for TensorBoard are written: it is not installed"]
    assert len(read_table(tmp_path, "steps")) == 2
    assert not (tmp_path / "tensorboard").exists()
