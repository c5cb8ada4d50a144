"""Unusual modules, factories and data: a documented treatment, or an error that says why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from audit_modules import SMOOTH, stencil
from torch import nn

from gradconv import InputError, Mesh, MeshHierarchy, Problem
from gradconv.audit import audit

QUICK = {**SMOOTH, "replicates": 2, "explain": False}


class Returns(nn.Module):
    """Gives its convolution's output in some wrapping."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.wrap = stencil(1, 1), wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(self.conv(x))


class NaNOn(nn.Module):
    """Not finite on one mesh."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv, self.n = stencil(1, 1), n

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) / (0.0 if x.shape[-1] == self.n else 1.0)


class OwnRandom(nn.Module):
    """Draws from a generator that nobody can set."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rng = stencil(1, 1), np.random.default_rng()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * (1.0 + self.rng.random())


class Uncopyable(nn.Module):
    """Refuses to be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = stencil(1, 1)

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("holds a lock")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def with_weights(value: float) -> nn.Module:
    layer = stencil(1, 1)
    with torch.no_grad():
        layer.weight.fill_(value)
    return layer


def frozen() -> nn.Module:
    return stencil(1, 1).requires_grad_(False)


def tied_to(n: int) -> nn.Module:
    return nn.Sequential(stencil(1, 2), nn.LayerNorm([2, n, n]), stencil(2, 1))


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (3, {}, r"`module` must be a torch.nn.Module or a callable that makes one; got 3"),
    (lambda: 5, {}, r"`module` factory must make a torch.nn.Module; got 5"),
    (lambda a, b: None, {}, r"without arguments, or with `n` or `mesh`.*needs a, b"),
    (lambda: 1 / 0, {}, r"`module` factory must make a module; called with \(\) it raised Zero"),
    (nn.Tanh(), {}, r"`module` must have a parameter that takes a gradient; it has none"),
    (frozen(), {}, r"all of its parameters have requires_grad=False"),
    (with_weights(float("nan")), {}, r"`module` weights must be finite; got NaN.*weight"),
    (NaNOn(32), {}, r"`loss` must be finite.*level 2 \(n=32\)"),
    (nn.Conv2d(1, 1, 3), {}, r"output of the target's shape.*level 0 \(n=8\)"),
    (nn.Conv2d(1, 1, 9), {}, r"must run on every mesh; on level 0 \(n=8\).*RuntimeError"),
    (
        nn.Conv2d(3, 3, 3, padding=1),
        {"channels": 2},
        r"on level 0 \(n=8\), with input of shape \(1, 2",
    ),
    (tied_to(8), {}, r"on level 1 \(n=16\).*normalized_shape"),
    (
        tied_to,
        {},
        r"same parameters on every mesh; 1\.(weight|bias) has shape \(2, 8, 8\).*tied to",
    ),
    (OwnRandom(), {}, r"`module` must repeat itself.*differ by"),
    (Uncopyable(), {}, r"`module` must be copyable.*holds a lock"),
    (Returns(lambda y: "text"), {}, r"`output` must pick a tensor.*a str on level 0"),
    (
        Returns(lambda y: {"a": y}),
        {"output": "b"},
        r"`output` must pick a part.*'b' for a dict of a",
    ),
    (Returns(torch.Tensor.detach), {}, r"`loss` must depend on the parameters.*level 0"),
    (
        stencil(1, 1),
        {"loss": lambda p, t: p - t},
        r"`loss` must return a scalar tensor; got \(1, 1,",
    ),
    (stencil(1, 1), {"loss": lambda p, t: 1.0}, r"`loss` must return a scalar tensor; got 1.0"),
    (stencil(1, 1), {"loss": lambda p: p}, r"`loss` must take the prediction.*level 0.*TypeError"),
    (stencil(1, 1), {"loss": "l1"}, r"`loss` must be 'mse' or a callable; got 'l1'"),
    (stencil(1, 1), {"mode": "test"}, r"`mode` must be train, eval or None; got 'test'"),
    (stencil(1, 1), {"dtype": "float16"}, r"`dtype` must be float64 or float32"),
    (stencil(1, 1), {"device": "nowhere"}, r"`device` must be cpu or a device"),
    (stencil(1, 1), {"hierarchy": (8, 16, 32)}, r"`levels` must hold at least 4 meshes"),
    (stencil(1, 1), {"hierarchy": (8, 16, 24, 48)}, r"`levels` must double"),
    (stencil(1, 1), {"hierarchy": "8:64"}, r"`hierarchy` must be a MeshHierarchy or the cells"),
    (
        stencil(1, 1),
        {"hierarchy": MeshHierarchy(1, (8, 16, 32, 64)), "dim": 2},
        r"agree in dimension",
    ),
    (stencil(1, 1), {"replicates": 1}, r"`replicates` must be a whole number from 2"),
    (stencil(1, 1), {"seed": -1}, r"`seed` must be a whole number from 0"),
    (stencil(1, 1), {"seed": 1.5}, r"`seed` must be a whole number"),
    (stencil(1, 1), {"memory": 0}, r"`memory` must be positive"),
    (stencil(1, 1), {"noise": "pixl:1"}, r"`noise` must be one of.*did you mean 'pixel'"),
    (stencil(1, 1), {"data": 7, "signal": None, "noise": None}, r"`data` must be None, a Problem"),
    (stencil(1, 1), {"data": Problem("stencil")}, r"`signal` belongs to the built-in data"),
]


@pytest.mark.parametrize(("module", "choices", "message"), REFUSED, ids=lambda v: None)
def test_refused(module: Any, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        audit(module, **{**QUICK, **choices})


def test_tuples_give_their_first_entry_with_a_note() -> None:
    plain = audit(stencil(1, 1), **QUICK)
    torch.manual_seed(0)
    module = Returns(lambda y: (y, 0 * y))
    found = audit(module, **QUICK)
    assert any("a tuple of 2 entries: its first entry" in note for note in found.notes)
    second = audit(module, **QUICK, output=1)
    assert second.series("level_norm")[0].max() == 0
    third = audit(module, **QUICK, output=lambda made: made[0])
    assert np.array_equal(found.series("rms_gap")[0], third.series("rms_gap")[0])
    assert plain.notes == ()


def test_dictionaries_are_asked_by_key() -> None:
    module = Returns(lambda y: {"aux": 0 * y, "out": y})
    found = audit(module, **QUICK, output="out")
    assert found.series("level_norm")[0].min() > 0
    assert found.notes == ()


def test_evaluation_mode_is_kept_and_said() -> None:
    module = nn.Sequential(stencil(1, 1), nn.BatchNorm2d(1))
    trained = audit(module, **QUICK)
    assert trained.notes == ()
    module.eval()
    found = audit(module, **QUICK)
    assert any("evaluation mode" in note for note in found.notes)
    assert not module.training
    values = [a.series("level_norm")[0] for a in (trained, found)]
    assert not np.allclose(*values)
    forced = audit(module, **QUICK, mode="train")
    assert np.array_equal(values[0], forced.series("level_norm")[0])


def test_lazy_parameters_are_initialised_in_the_copy() -> None:
    module = nn.Sequential(nn.LazyConv2d(2, 3, padding=1), nn.Tanh(), nn.LazyConv2d(1, 1))
    found, again = (audit(module, **QUICK) for _ in range(2))
    assert any("lazy parameters (0.weight" in note for note in found.notes)
    assert isinstance(module[0].weight, nn.parameter.UninitializedParameter)
    assert np.array_equal(found.series("rms_gap")[0], again.series("rms_gap")[0])


def test_frozen_parameters_are_left_out() -> None:
    module = nn.Sequential(stencil(1, 2), stencil(2, 1))
    module[0].requires_grad_(False)
    found = audit(module, **QUICK)
    assert [g.name for g in found.layers()] == ["1"]
    assert any("0.weight takes no gradient" in note for note in found.notes)


def test_unused_parameters_have_zero_gradients() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = stencil(1, 1), nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    found = audit(Unused(), **QUICK)
    assert found.rate("mean_gap", "idle").verdict == "exact"
    assert found.series("level_norm", "idle")[0].max() == 0


@pytest.mark.parametrize(
    "factory",
    [
        lambda: stencil(1, 1),
        lambda n: stencil(1, 1),
        lambda size: stencil(1, 1),
        lambda mesh=None: stencil(1, 1),
    ],
    ids=["bare", "n", "position", "mesh"],
)
def test_factories_draw_the_same_weights(factory: Callable[..., nn.Module]) -> None:
    found = audit(factory, **QUICK)
    expected = audit(lambda: stencil(1, 1), **QUICK)
    assert np.array_equal(found.series("rms_gap")[0], expected.series("rms_gap")[0])


def test_a_factory_is_given_what_it_asks_for() -> None:
    seen: list[Any] = []

    class Scaled(nn.Module):
        def __init__(self, mesh: Mesh) -> None:
            super().__init__()
            seen.append(mesh)
            self.conv, self.h = stencil(1, 1, bias=False), mesh.h
            nn.init.constant_(self.conv.weight, mesh.n)  # every mesh gets those of the finest

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * self.h

    found = audit(Scaled, **QUICK)
    assert [mesh.n for mesh in seen] == [8, 16, 32, 64]
    assert all(isinstance(mesh, Mesh) for mesh in seen)

    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = stencil(1, 1, bias=False)
            nn.init.constant_(self.conv.weight, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * (1 / x.shape[-1])

    expected = audit(Same(), **QUICK)
    assert np.array_equal(found.series("rms_gap")[0], expected.series("rms_gap")[0])


def test_given_samples_are_restricted() -> None:
    """The same data once as tensors and once built in."""
    from gradconv.gradient import InputSource

    problem = Problem("stencil", "sobolev:2", "identity", "pixel:0.3", dim=2)
    hierarchy = MeshHierarchy(2, (8, 16, 32, 64))
    finest = InputSource(problem, hierarchy, 0).sample(range(3))[-1]
    tensors = (torch.from_numpy(finest.x), torch.from_numpy(finest.y))
    layer = stencil(1, 1)
    found = audit(layer, data=tensors, explain=False)
    expected = audit(layer, data=problem, hierarchy=hierarchy, replicates=3, explain=False)
    values = [a.series("rms_gap")[0] for a in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=1e-10)
    other = audit(layer, data=tensors, restriction="injection", explain=False)
    assert other.series("rms_gap")[0] != pytest.approx(values[1], rel=1e-2)
    with pytest.raises(InputError, match="`replicates` must be at most the samples, 3; got 4"):
        audit(layer, data=tensors, replicates=4)
    for bad, message in (
        ((tensors[0], tensors[1][:2]), "as many targets as inputs; got 2 and 3"),
        ((tensors[0][..., :48], tensors[1]), "`data` inputs must have shape"),
        ((tensors[0] * torch.nan, tensors[1]), "`data` inputs must be finite"),
        ((tensors[0],), "two tensors"),
        ((tensors[0][..., :9, :9], tensors[1]), "can be halved three times"),
    ):
        with pytest.raises(InputError, match=message):
            audit(layer, data=bad)


def test_labels_serve_all_levels() -> None:
    """Classification: a vector as output, a loss of the caller, targets that are no fields."""

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = stencil(1, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.conv(x)).mean(dim=(2, 3)))

    torch.manual_seed(0)
    images, labels = torch.randn(4, 1, 64, 64), torch.tensor([0, 2, 1, 1])
    found = audit(Classifier(), loss=nn.functional.cross_entropy, data=(images, labels))
    assert [g.name for g in found.layers()] == ["conv", "last"]
    assert found.aliasing is not None  # vectors are compared as they are
    assert {f.where for f in found.findings} <= {"conv", "last"}


def test_super_resolution_by_a_callable() -> None:
    calls: list[tuple[int, int]] = []

    def data(n: int, replicate: int) -> tuple[np.ndarray, np.ndarray]:
        calls.append((n, replicate))
        fields = []
        for m in (n, 2 * n):
            x = 2 * np.pi * (np.arange(m) + 0.5) / m
            fields.append((np.sin(x + replicate)[:, None] * np.cos(x))[None, None])
        return fields[0], fields[1]

    module = nn.Sequential(stencil(1, 4), nn.PixelShuffle(2))
    found = audit(module, data=data, hierarchy=(8, 16, 32, 64), replicates=2, explain=False)
    assert found.series("level_norm")[0].min() > 0
    assert found.configuration["callable"].endswith("data")
    assert {n for n, _ in calls} == {8, 16, 32, 64}
    with pytest.raises(InputError, match="`data` must return"):
        audit(module, data=lambda n, r: 3, hierarchy=(8, 16, 32, 64))


def test_more_output_channels_than_input() -> None:
    found = audit(stencil(2, 3), **QUICK)
    assert any("the output has 3 channels, the input 2" in note for note in found.notes)


def test_warnings_of_the_module_become_notes() -> None:
    import warnings

    class Warns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = stencil(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            warnings.warn(f"odd weather at n={x.shape[-1]}", UserWarning, stacklevel=1)
            return self.conv(x)

    found = audit(Warns(), **QUICK)
    assert found.notes == ("UserWarning: odd weather at n=8 (and 3 like it)",)


def test_dimension_and_channels_come_from_the_module() -> None:
    for kind, dim in ((nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3)):
        choices = {"signal": "plane-wave:3", "noise": "none", "explain": False}
        found = audit(kind(2, 2, 1), **choices, hierarchy=(8, 16, 32, 64))
        assert found.hierarchy.dim == dim
        assert found.configuration["channels"] == 2
        assert found.configuration["replicates"] == 1


def test_a_sample_that_does_not_fit_is_refused_before_it_is_drawn() -> None:
    with pytest.raises(InputError, match=r"`memory` must hold a sample on the finest mesh"):
        audit(stencil(1, 1), hierarchy=tuple(2**e for e in range(20, 25)), memory=0.1)


def test_pruned_modules_are_audited() -> None:
    """They hold a computed weight, which torch refuses to copy."""
    from torch.nn.utils import prune

    layer = stencil(1, 1)
    prune.l1_unstructured(layer, "weight", amount=1)
    layer(torch.zeros(1, 1, 16))
    found = audit(layer, hierarchy=(16, 32, 64, 128), replicates=2, explain=False)
    assert found.rate("mean_gap").order is not None


@pytest.mark.parametrize("mode", ["zero", "zeros"])
def test_padding_of_a_restriction_is_switched_whatever_its_name(mode: str) -> None:
    from gradconv.audit.interventions import _periodic
    from gradconv.nn import Restrict

    network = nn.Sequential(Restrict(2, "full_weighting", padding_mode=mode))
    with _periodic(network) as switched:
        assert switched == {"0"}
        assert network[0].padding_mode == "periodic"
    assert network[0].padding_mode == "zero"
