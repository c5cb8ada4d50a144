"""Gradients as short vectors, within a memory bound, and the state that an audit leaves behind."""

from __future__ import annotations

import copy
import random
import tracemalloc

import numpy as np
import pytest
import torch
from audit_modules import NOISY, SMOOTH, ResNet, Shaky, stencil
from torch import nn

from gradconv import InputError
from gradconv.audit import audit
from gradconv.audit.measure import GIB, compressed, from_gaps, joined, to_gaps


def test_compressed_vectors_keep_all_inner_products() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((3, 4, 50_000))
    vectors = to_gaps(gradients).reshape(12, -1)
    short = compressed(None, gradients)
    assert short.shape == (12, 12)
    assert np.abs(short @ short.T - vectors @ vectors.T).max() < 1e-12 * 50_000
    pieces = compressed(compressed(None, gradients[..., :777]), gradients[..., 777:])
    assert np.abs(pieces @ pieces.T - vectors @ vectors.T).max() < 1e-12 * 50_000
    lost = compressed(None, gradients[..., :777])  # negative control: the rest left out
    assert np.abs(lost @ lost.T - vectors @ vectors.T).max() > 1


def test_gaps_far_below_the_gradients_keep_their_digits() -> None:
    """A Gram matrix of the gradients would lose gaps below 1e-8 of them."""
    rng = np.random.default_rng(0)
    coarsest, gap = rng.standard_normal((2, 2, 1, 3000))
    scales = 10.0 ** -np.arange(0, 14, 3.0)[:, None]
    gaps = np.concatenate([coarsest, scales * gap], axis=1)
    gradients = from_gaps(gaps)
    gaps = to_gaps(gradients)  # as they are in double precision
    short = compressed(None, gradients).reshape(2, 6, -1)
    norms = [np.linalg.norm(g[:, 1:], axis=-1) for g in (short, gaps)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-12)
    flat = gradients.reshape(-1, 3000)
    gram = flat @ flat.T  # negative control
    square = gram[4, 4] + gram[5, 5] - 2 * gram[4, 5]
    assert abs(np.sqrt(abs(square)) / norms[1][0, -1] - 1) > 0.01


def test_gaps_and_back() -> None:
    gradients = np.random.default_rng(0).standard_normal((3, 4, 5))
    assert from_gaps(to_gaps(gradients)) == pytest.approx(gradients, abs=1e-14)
    assert np.array_equal(to_gaps(gradients)[:, 1:], np.diff(gradients, axis=1))


def test_joined_tensors_are_one_vector() -> None:
    members = [np.random.default_rng(i).standard_normal((3, 4, p)) for i, p in enumerate((2, 30))]
    together = joined(members)
    whole = np.concatenate(members, axis=-1)
    got, expected = (np.einsum("alp,bmp->albm", g, g) for g in (together, whole))
    assert together.shape[-1] <= 12
    assert got == pytest.approx(expected, abs=1e-12)


def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(stencil(1, 64), nn.Tanh(), stencil(64, 64), nn.Tanh(), stencil(64, 1))


SHORT = {**SMOOTH, "hierarchy": (4, 8, 16, 32), "signal": "sobolev:2", "explain": False}


def test_several_passes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound holds for numpy's arrays, and the results do not depend on it."""
    net = wide()
    free = audit(net, **SHORT, replicates=6)
    tracemalloc.start()
    bound = audit(net, **SHORT, replicates=6, memory=0.039)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "gradients were computed 2 times" in bound.notes[0]
    assert peak < 0.039 * GIB
    for quantity in ("rms_gap", "mean_gap", "variance"):
        for group in free.groups:
            values = [a.series(quantity, group.name)[0] for a in (free, bound)]
            assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_too_little_memory_is_refused_with_the_number() -> None:
    with pytest.raises(InputError, match=r"`memory` must hold one gradient.*about 0\.\d+ GiB here"):
        audit(wide(), **SHORT, memory=0.002)


def test_complex_parameters_count_as_pairs() -> None:
    class Spectral(nn.Module):
        """Scales the lowest modes by complex weights."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.5, 0.4 + 0.3j, 0.2 - 0.1j]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes = torch.fft.rfft(x, norm="forward")[..., :3] * self.weight
            return torch.fft.irfft(modes, n=x.shape[-1], norm="forward")

    choices = {"signal": "band-limited:2", "noise": "none", "restriction": "injection"}
    hierarchy = (8, 16, 32, 64)
    found = audit(Spectral(), **choices, hierarchy=hierarchy, dim=1, replicates=2)
    assert found.samples["whole"].gradients.shape == (2, 4, 6)
    assert found.verdict == "exact"
    imaginary = found.samples["whole"].gradients[0, 0].reshape(3, 2)[:, 1]
    assert np.abs(imaginary[1:]).min() > 1e-6  # lost if weights were cast to real numbers


def state_of(module: nn.Module) -> dict[str, object]:
    return {
        "weights": {k: v.clone() for k, v in module.state_dict().items()},
        "dtypes": [p.dtype for p in module.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        "modes": [m.training for m in module.modules()],
        "requires": [p.requires_grad for p in module.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],  # noqa: NPY002
        "python": random.getstate(),
        "enabled": torch.is_grad_enabled(),
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)  # type: ignore[arg-type]
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))  # type: ignore[arg-type]
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)  # type: ignore[attr-defined,index]
    if isinstance(a, list):
        return all(same(x, y) for x, y in zip(a, b, strict=True))  # type: ignore[call-overload]
    return a == b


@pytest.mark.parametrize("error", [None, RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("calls", [7, 60])
def test_state_is_left_as_it_was(error: BaseException | None, calls: int) -> None:
    module = Shaky(10**6 if error is None else calls, error or RuntimeError())
    module.conv.eval()
    module.conv.bias.requires_grad_(False)
    module.conv.weight.grad = torch.ones_like(module.conv.weight)
    before, twin = state_of(module), copy.deepcopy(module)
    choices = {**SMOOTH, "replicates": 4}
    if error is None:
        audit(module, **choices)
    elif isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            audit(module, **choices)
    else:
        with pytest.raises(InputError, match=r"on level \d \(n=\d+\).*RuntimeError: broken"):
            audit(module, **choices)
    assert same(state_of(module), before)
    if error is None:  # negative control: running the module does change its state
        twin(torch.randn(1, 1, 8, 8))
        assert not same(state_of(twin), before)


def test_gradients_are_taken_under_no_grad_too() -> None:
    with torch.no_grad():
        found = audit(stencil(1, 1), **SMOOTH, explain=False)
        assert not torch.is_grad_enabled()
    assert found.series("level_norm")[0].min() > 0


def test_buffers_start_every_evaluation_anew() -> None:
    """A module whose output depends on what it saw before gives each level the same start."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return self.conv(x) * self.seen

    module = Counting()
    found = audit(module, **SMOOTH, replicates=2, explain=False)
    assert float(module.seen) == 0
    values = found.series("level_norm")[0]
    assert values.max() / values.min() < 1.5


def test_progress_ends_at_its_total() -> None:
    steps: list[tuple[int, int]] = []
    audit(
        stencil(1, 1),
        **SMOOTH,
        replicates=3,
        progress=lambda done, total: steps.append((done, total)),
    )
    done = [d for d, _ in steps]
    assert done == sorted(done)
    assert all(0 < d <= t for d, t in steps)
    assert steps[-1][0] == steps[-1][1] > 3


def test_noise_shrinks_nothing_that_paths_share() -> None:
    """Negative control: levels on paths of their own lose the order of the gaps."""
    torch.manual_seed(0)
    found = audit(ResNet(stencil), **{**NOISY, "noise": "pixel:0.01"}, explain=False)
    gradients = found.samples["whole"].gradients
    mixed = np.stack([np.roll(gradients[:, i], i, axis=0) for i in range(gradients.shape[1])], 1)
    rms = [np.sqrt(np.mean(np.sum(np.diff(g, axis=1) ** 2, -1), 0)) for g in (gradients, mixed)]
    assert rms[1][0] > 2 * rms[0][0]
