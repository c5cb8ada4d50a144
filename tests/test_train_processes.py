"""Runs of several processes: one network, one stop, and what cannot be shared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from train_small import on_two_processes

from gradconv.errors import InputError
from gradconv.train import Trainer
from gradconv.train.checkpoints import Checkpoints
from tests.test_train_runs import SMALL

SCRIPT = """
import hashlib, json, os, signal, sys
import torch
from gradconv.train import Trainer
folder, stop = sys.argv[1], int(sys.argv[2])
rank = int(os.environ["RANK"])
torch.manual_seed(100 + rank)
model = torch.nn.Conv2d(1, 1, 3, padding=1)
first = model.weight.flatten().tolist()
def progress(done, total, words):
    if rank == 1 and done == stop:
        os.kill(os.getpid(), signal.SIGINT)
stopped = False
trainer = Trainer("denoise:0.2", model, "multiscale", **{small!r})
try:
    trainer.fit(folder, progress)
except KeyboardInterrupt:
    stopped = True
seen = dict(first=first, last=model.weight.flatten().tolist(), stopped=stopped)
with open(os.path.join(folder, f"rank{{rank}}.json"), "w") as file:
    json.dump(seen, file)
"""


def both(folder: Path, stop: int) -> list[dict]:
    """What two processes saw that trained a module of their own, one of them stopped at a step."""
    script = folder.parent / "script.py"
    script.write_text(SCRIPT.format(small=SMALL))
    on_two_processes(str(script), str(folder), str(stop), forked=True)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_all_processes_train_one_module_and_stop_after_one_step(tmp_path: Path) -> None:
    ranks = both(tmp_path / "run", stop=3)
    assert ranks[0]["first"] != ranks[1]["first"]  # each made a module of its own
    assert ranks[0]["last"] == ranks[1]["last"]
    assert [rank["stopped"] for rank in ranks] == [True, True]  # one of them was told to
    found = Checkpoints(tmp_path / "run" / "checkpoints").latest()
    assert found is not None
    assert found[0] == 3


@pytest.mark.parametrize("own", [False, True])
def test_batch_statistics_are_not_shared(own: bool) -> None:
    norm = {} if own else {"norm": "batch"}
    layers = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.BatchNorm2d(1)
    network = torch.nn.Sequential(*layers) if own else "resnet"
    with pytest.raises(InputError, match=r"`processes` must be 1 with batch normal.*got 2"):
        Trainer("denoise:0.2", network, "multiscale", **SMALL, **norm, processes=2)
