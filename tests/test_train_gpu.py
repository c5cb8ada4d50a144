"""Training on a GPU: the CPU's run in single precision, bf16, going on, prefetch and memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gradconv.errors import InputError
from gradconv.sampling import GIB
from gradconv.train import Trainer
from gradconv.train.memory import MARGIN

pytestmark = pytest.mark.gpu

TINY: dict[str, Any] = {
    "size": 32,
    "levels": 3,
    "width": 8,
    "layers": 3,
    "counts": (8, 4, 2),
    "steps": 4,
    "stages": (4, 3, 2),
    "validation_tiles": 4,
    "test_tiles": 4,
    "threads": 1,
    "optimiser": "sgd",  # proportional to the gradient: Adam divides rounding by rounding
    "lr": 0.05,
}


def made(device: str, **options: Any) -> Trainer:
    strategy = options.pop("strategy", "full-multiscale")
    network = options.pop("network", "resnet")
    return Trainer("denoise:0.2", network, strategy, **{**TINY, "device": device, **options})


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().double().cpu().reshape(-1) for p in trainer.module.parameters()])


def trained(device: str, **options: Any) -> torch.Tensor:
    trainer = made(device, **options)
    trainer.fit()
    return weights(trainer)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in single precision, not in TF32."""
    assert not torch.backends.cuda.matmul.allow_tf32
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("conv", ["standard", "mfc"])
@pytest.mark.parametrize("network", ["resnet", "unet"])
def test_a_gpu_makes_the_run_of_the_cpu(network: str, conv: str) -> None:
    options = {"network": network, "conv": conv, "layers": 2}
    if conv == "mfc":
        options["mesh_free_widths"] = (0.15, 0.2)
    before = weights(made("cpu", **options))
    cpu, gpu = trained("cpu", **options), trained("cuda", **options)
    moved = float((cpu - before).norm())
    assert moved > 1e-3
    assert float((gpu - cpu).norm()) < 1e-4 * max(moved, 1.0)
    other = trained("cuda", **options, seed=1)  # the control
    assert float((other - cpu).norm()) > 1e-2 * moved


def test_auto_is_the_gpu_and_scores_are_those_of_the_cpu() -> None:
    results = [made(device).fit() for device in ("auto", "cpu")]
    assert next(results[0].module.parameters()).is_cuda
    assert "cuda" in results[0].document["provenance"]["device"]
    assert results[0].test.mse == pytest.approx(results[1].test.mse, rel=1e-3)
    assert results[0].totals.flops == results[1].totals.flops


def test_bf16_is_near_single_precision() -> None:
    before, single = weights(made("cpu")), trained("cuda")
    trainer = made("cuda", precision="bf16")
    seen = []
    trainer.module.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    trainer.fit()
    assert torch.bfloat16 in seen
    assert {p.dtype for p in trainer.module.parameters()} == {torch.float32}
    off = float((weights(trainer) - single).norm() / (single - before).norm())
    assert 0 < off < 0.2


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, precision: str) -> None:
    options = {"precision": precision, "optimiser": "adam", "lr": 1e-3}

    def progress(done: float, total: float, words: str) -> None:
        if done == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        made("cuda", **options).fit(tmp_path / "run", progress)
    seen: list[float] = []
    trainer = made("cuda", **options)
    result = trainer.fit(tmp_path / "run", lambda done, total, words: seen.append(done))
    assert seen == [7, 8, 9]
    assert result.totals.steps == 9
    # atomics of the GPU add in any order
    tolerance = 1e-4 if precision == "32" else 1e-2
    whole = trained("cuda", **options)
    assert float((weights(trainer) - whole).norm() / whole.norm()) < tolerance


def test_a_run_begun_on_a_gpu_goes_on_without_one(tmp_path: Path) -> None:
    def progress(done: float, total: float, words: str) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        made("cuda").fit(tmp_path / "run", progress)
    trainer = made("cpu")
    assert trainer.fit(tmp_path / "run").totals.steps == 9
    whole = trained("cpu")
    assert float((weights(trainer) - whole).norm() / whole.norm()) < 1e-4


def test_a_prefetch_changes_nothing() -> None:
    ahead, plain = (trained("cuda", prefetch=p) for p in (True, False))
    assert float((ahead - plain).norm() / plain.norm()) < 1e-5
    assert made("cuda").config.prefetch is None  # on, on a GPU


def test_a_pass_that_does_not_fit_is_refused_with_the_microbatch_that_does() -> None:
    options = {"size": 64, "counts": (64, 32, 16), "strategy": "multiscale", "steps": 1}
    costs = made("cuda", **options).costs
    # what eight samples of the finest mesh take, and as many cells on the others
    room = max(c.fixed_bytes + 8 * 4 ** (2 - c.level) * c.sample_bytes for c in costs)
    memory = 1.001 * MARGIN * room / GIB
    with pytest.raises(InputError, match=r"a microbatch of (\d+) would fit") as info:
        made("cuda", **options, memory=memory).fit()
    fits = int(str(info.value).split("microbatch of ")[1].split()[0])
    assert 8 <= fits < 16
    result = made("cuda", **options, memory=memory, microbatch=8).fit()
    assert result.totals.steps == 1
    assert result.peak_bytes <= room


def test_a_dry_run_is_timed_on_the_gpu() -> None:
    found = made("cuda").forecast(seconds=True)
    assert all(0 < leg["seconds_per_step"] < 60 for leg in found["legs"])
