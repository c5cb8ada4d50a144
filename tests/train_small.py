"""Training runs small enough for tests, and what they are compared by."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

from gradconv.train import Trainer

TINY: dict[str, Any] = {
    "size": 16,
    "levels": 2,
    "width": 4,
    "layers": 2,
    "counts": (4, 2),
    "steps": 2,
    "stages": (2, 1),
    "validation_tiles": 2,
    "test_tiles": 2,
    "threads": 1,
    "device": "cpu",
}


# What torchrun does, but that its workers are forks: all three import torch once.
TORCHRUN = """
import os, runpy, sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
import lightning_fabric, torch._dynamo, gradconv.cli, gradconv.train.trainer

def work(*command):
    module = command[0] == "-m"
    sys.argv = list(command[module:])
    run = runpy.run_module if module else runpy.run_path
    try:
        run(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        assert not stop.code

config = LaunchConfig(
    1, 1, 2, run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork",
    max_restarts=0,
)
elastic_launch(config, work)(*sys.argv[1:])
"""


def on_two_processes(*command: str, forked: bool = False) -> None:
    """Run a script, or ``-m`` and a module, with its arguments by `torchrun`; it must succeed."""
    standalone = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run = subprocess.run(
        [sys.executable, *(("-c", TORCHRUN) if forked else standalone), *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def fitted(strategy: str = "multiscale", **options: Any) -> Trainer:
    """A trainer after its run."""
    trainer = Trainer(
        options.pop("task", "denoise"),
        options.pop("network", "resnet"),
        strategy,
        **{**TINY, **options},
    )
    trainer.fit(options.get("folder"))
    return trainer


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.module.parameters()])


def random_states() -> tuple[Any, ...]:
    legacy = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), legacy[1].tolist(), legacy[2], random.getstate()


def random_module() -> nn.Module:
    """Draws from torch's own generator, and keeps statistics."""
    hidden = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    made = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.Conv2d(4, 1, 3, padding=1),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(0.1)
        made[0].weight.copy_(hidden)
    return made
