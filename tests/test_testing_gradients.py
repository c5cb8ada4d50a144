"""`assert_gradient_converges` on modules that do and modules that do not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradconv.errors import InputError
from gradconv.testing import CheckFailed, assert_gradient_converges
from gradconv.testing.session import Session, running

SIZES = (16, 32, 64, 128)
FINER = (64, 128, 256, 512)


@pytest.fixture(autouse=True)
def session(tmp_path: Path) -> Any:
    with running(Session("test", lambda: tmp_path)) as current:
        yield current


def stencil() -> nn.Conv1d:
    conv = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[0.2, 0.5, 0.1]]]))
    return conv


class Heat(nn.Module):
    """exp(-a k²), one parameter: the same operator on every mesh."""

    def __init__(self) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.tensor(0.003, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[-1]
        k = 2 * torch.pi * torch.fft.rfftfreq(n, 1 / n, dtype=x.dtype)
        return torch.fft.irfft(torch.exp(-self.width * k**2) * torch.fft.rfft(x), n)


def test_smooth_data_converge_at_order_2(session: Session) -> None:
    found = assert_gradient_converges(
        stencil(), 2, quantity="mean_gap", signal="band-limited:2", noise="none", hierarchy=FINER
    )
    assert found.rate("mean_gap").verdict == "converges"
    (measured,) = session.measured
    assert measured.passed
    assert measured.expected == 2
    assert measured.order == pytest.approx(2.0, abs=0.1)


def test_mesh_free_operator_converges_under_noise() -> None:
    """The fluctuation of white noise under averaging falls at order 1 (1-D)."""
    meshes = tuple(2**e for e in range(5, 11))
    assert_gradient_converges(Heat(), 1, noise="pixel:0.5", hierarchy=meshes, dim=1, replicates=64)


def test_the_same_on_every_mesh_is_exact() -> None:
    choices: dict[str, Any] = {
        "signal": "band-limited:2",
        "noise": "none",
        "restriction": "injection",
        "target": "blur:0.05",
        "hierarchy": SIZES,
        "dim": 1,
    }
    found = assert_gradient_converges(Heat(), math.inf, **choices)
    assert found.rate("rms_gap").verdict == "exact"
    assert_gradient_converges(Heat(), **choices)
    with pytest.raises(CheckFailed, match="zero to rounding"):
        assert_gradient_converges(Heat(), 2, **choices)


def test_standard_convolution_diverges_under_noise(session: Session) -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_gradient_converges(stencil(), noise="pixel:20", hierarchy=(32, 64, 128, 256))
    assert "the verdict is diverges" in failed.value.reason
    text = str(failed.value)
    assert "Conv1d" in text
    assert "kernel tied to the grid" in text
    assert failed.value.figure is not None
    assert failed.value.figure.stat().st_size > 5000
    assert not session.measured[0].passed
    assert session.measured[0].order < 0


@pytest.mark.parametrize("order", [1, 3])
def test_another_order_fails(order: float) -> None:
    with pytest.raises(CheckFailed, match="does not contain"):
        assert_gradient_converges(
            stencil(), order, signal="band-limited:2", noise="none", hierarchy=SIZES
        )


def test_snippet_repeats_the_failure() -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_gradient_converges(
            stencil(), 1, signal="band-limited:2", noise="none", hierarchy=SIZES
        )
    with pytest.raises(CheckFailed) as again:
        exec(failed.value.snippet, {})
    assert again.value.reason == failed.value.reason


def test_module_is_left_as_it_was() -> None:
    module = nn.Sequential(stencil(), nn.BatchNorm1d(1)).double()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(CheckFailed):
        assert_gradient_converges(module, 7, noise="none", hierarchy=SIZES)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert module.training
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(legacy, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 0}, "`order` must be > 0"),
        ({"order": -1}, "`order` must be > 0"),
        ({"order": "2"}, "`order` must be a number"),
        ({"quantity": "level_norm"}, "`quantity` must be one of"),
        ({"tolerance": 0}, "`tolerance` must be"),
        ({"group": "nobody"}, "`group` must be one of"),
        ({"noise": "loud"}, "`noise`"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        assert_gradient_converges(stencil(), **{"hierarchy": SIZES, "replicates": 2, **change})
