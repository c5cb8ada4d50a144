"""What a training run came to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

SCHEMA = "gradconv.training/1"


@dataclass
class Totals:
    """What a run has taken so far.

    Parameters
    ----------
    steps, samples : int
        Steps of the optimiser; samples drawn.
    work : float
        Work units: one sample's gradient on the finest mesh is 1.
    flops : float
        Operations of all gradients, as `gradconv.multilevel.costs.counting` counts them.
    seconds : float
        Time of the steps, samples included; validation, checkpoints and logs are not in it.
    """

    steps: int = 0
    samples: int = 0
    work: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Scores:
    """Errors on fixed pairs of the finest mesh, means over the tiles; values are in [0, 1].

    Parameters
    ----------
    mse : float
        Mean square over cells and channels.
    psnr : float
        Peak signal-to-noise ratio, dB; infinite if a tile is predicted exactly.
    ssim : float
        Structural similarity.
    """

    mse: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Parameters
    ----------
    module : Module
        Trained.
    test : Scores
        On photographs that neither training nor validation has seen.
    degraded : Scores or None
        Of the network's input itself, where it is an image on the mesh of the target.
    totals : Totals
        What it took.
    legs : list of dict
        Of each leg: finest level, steps, samples, work, FLOPs, seconds and validation at its end.
    peak_bytes : float
        Memory of the largest pass, counted; on a GPU what its allocator handed out.
    document : dict
        All of it as JSON values, with configuration and provenance.
    notes : list of str
        What the reader has to know.
    """

    module: nn.Module
    test: Scores
    degraded: Scores | None
    totals: Totals
    legs: list[dict[str, Any]]
    peak_bytes: float
    document: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def as_record(value: Any) -> dict[str, Any] | None:
    """Scores or totals as JSON values; None for what is not finite: the PSNR of equal images."""
    if value is None:
        return None
    return {name: v if math.isfinite(v) else None for name, v in asdict(value).items()}
