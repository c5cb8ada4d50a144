"""`assert_taylor`: right gradients pass on functions of many kinds, wrong ones are named."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradconv.errors import InputError
from gradconv.testing import (
    CheckFailed,
    assert_adjoint,
    assert_mesh_independent,
    assert_taylor,
    failures,
)
from gradconv.testing.session import Session, running

X = np.array([0.3, 1.0, -0.7])


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(failures, "_figure", lambda *_: "not drawn")
    with running(Session("test", lambda: tmp_path)):
        yield


def sines(x: np.ndarray) -> float:
    return float(np.sum(np.sin(x)))


def network(*, norm: bool = False, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 4, 3, padding=1), activation(), nn.Conv2d(4, 2, 3, padding=1)]
    if norm:
        layers.insert(1, nn.BatchNorm2d(4))
    return nn.Sequential(*layers).double()


def sample(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 2, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(2))


# What must pass.


@pytest.mark.parametrize(
    ("function", "gradient", "x", "status"),
    [
        (sines, np.cos, X, "order 2"),
        (lambda x: np.sum(x), np.ones_like, X, "linear"),
        (lambda x: 1e6 + 1e-3 * np.sum(x**2), lambda x: 2e-3 * x, X, "order 2"),
        (lambda x: 1e-12 * np.sum(x**2), lambda x: 2e-12 * x, X, "order 2"),
        (lambda x: np.sum((x - 0.5) ** 2), np.zeros(3), [0.5, 0.5, 0.5], "order 2"),
        (lambda x: np.sum(x + x**3), lambda x: np.ones(3), [0.0, 0.0, 0.0], "order 3"),
        (lambda x: np.sum((x - 0.5) ** 4), np.zeros(3), [0.5, 0.5, 0.5], "order 4"),
        (lambda x: np.sum(np.exp(60 * x)), lambda x: 60 * np.exp(60 * x), X, "order 2"),
        (lambda x: np.sum(np.exp(np.exp(4 + x))), None, X, "order 2"),  # overflows at large steps
        (lambda x: math.log(x[0]), lambda x: 1 / x, [0.1], "order 2"),  # leaves its domain
        (lambda x: np.sum(np.abs(x) ** 2), lambda x: 2 * x, X + 1j * X[::-1], "order 2"),
    ],
)
def test_right_gradients(function: Any, gradient: Any, x: Any, status: str) -> None:
    if gradient is None:
        gradient = np.exp(4 + x) * np.exp(np.exp(4 + x))
    assert assert_taylor(function, x, gradient=gradient)["x"].status == status


def test_result_agrees_with_the_difference_quotient() -> None:
    result = assert_taylor(sines, X, gradient=np.cos)["x"]
    assert result.slope == pytest.approx(result.quotient, rel=1e-9)
    assert result.remainder is not None
    assert result.first is not None
    assert result.remainder.order == pytest.approx(2.0, abs=0.01)
    assert result.first.order == pytest.approx(1.0, abs=0.01)


def test_window_lies_between_higher_terms_and_rounding() -> None:
    """x + x² + (20 x)⁸ at 0: the last term rules above |x| = 20^(-4/3), rounding of 1 near 1e-8."""

    def function(x: np.ndarray) -> float:
        return float(1 + np.sum(x + x**2 + (20 * x) ** 8))

    result = assert_taylor(function, [0.0], gradient=np.ones(1))["x"]
    fit = result.remainder
    assert fit is not None
    assert result.status == "order 2"
    first, last = (abs(result.slope) * 0.5**i for i in fit.window)  # |x| along the direction
    assert 0.2 * 20 ** (-4 / 3) < first < 20 ** (-4 / 3)
    assert 1e-8 < last < 1e-6


def test_rounding_of_the_variables_does_not_count() -> None:
    """Steps from 1e6 round by 1e-10: as rounding of f it would hide what is below |x| = 80."""

    def function(x: np.ndarray) -> float:
        return float(np.sum((x - 1e6) + 1e-12 * (x - 1e6) ** 2))

    result = assert_taylor(function, [1e6], gradient=np.ones(1))["x"]
    assert result.remainder is not None
    assert abs(result.slope) * 0.5 ** result.remainder.window[1] < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_kinks_at_larger_steps_are_left_out(seed: int) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1),
        nn.Tanh(),
    ).double()
    results = assert_taylor(net, data=torch.randn(2, 2, 16, 16, dtype=torch.float64))
    assert results["0.weight"].status == "order 2"


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_modules(norm: bool, activation: type[nn.Module]) -> None:
    results = assert_taylor(network(norm=norm, activation=activation), data=sample())
    assert all(result.status in ("order 2", "flat") for result in results.values())
    # a constant before a normalisation does nothing
    assert (results["0.bias"].status == "flat") == norm


def test_single_precision() -> None:
    net = network().float()
    results = assert_taylor(net, data=sample(torch.float32))
    assert all(result.status == "order 2" for result in results.values())
    loss = half_square(net, sample(torch.float32))
    wrong = list(torch.autograd.grad(loss(), list(net.parameters())))
    wrong[2] = 1.05 * wrong[2]
    with pytest.raises(CheckFailed, match=r"along 2\.weight"):
        assert_taylor(loss, parameters=net, gradient=wrong)


def test_a_tensor_argument() -> None:
    x = torch.tensor(X, requires_grad=True)
    assert assert_taylor(lambda x: x.sin().sum(), x)["x"].status == "order 2"
    z = torch.tensor(X + 1j * X[::-1].copy())
    assert assert_taylor(lambda z: (z * z.conj()).real.sum().square(), z)["x"].status == "order 2"
    assert x.grad is None


def test_arithmetic_coarser_than_its_type() -> None:
    """Single precision inside a double precision function: its rounding is measured."""

    def coarse(x: np.ndarray) -> float:
        return float(np.float32(3.0 + np.sum(np.sin(x))))

    assert assert_taylor(coarse, X, gradient=np.cos)["x"].status == "order 2"
    with pytest.raises(CheckFailed, match=r"gradient is 1\.1"):
        assert_taylor(coarse, X, gradient=lambda x: 1.1 * np.cos(x))


# What must fail.


@pytest.mark.parametrize(
    ("gradient", "why"),
    [
        (lambda x: 1.01 * np.cos(x), "1.01 times the difference quotient"),
        (lambda x: 1.00001 * np.cos(x), "1.00001 times"),
        (lambda x: -np.cos(x), "wrong sign"),
        (lambda x: 0 * x, "the gradient is zero, yet f changes"),
        (lambda x: np.cos(x) * [1, 1, 0], "times the difference quotient"),
        (lambda x: np.cos(x[::-1]), "times the difference quotient"),
    ],
)
def test_wrong_gradients(gradient: Any, why: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_taylor(sines, X, gradient=gradient)
    assert why in failed.value.reason
    measured = re.search(r"falls at order (\S+),", failed.value.reason)
    assert measured is not None
    assert float(measured[1]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("function", "gradient", "x", "why"),
    [
        (lambda x: np.sum(np.abs(x)), np.zeros(2), [0.0, 0.0], "kink at x"),
        (lambda x: np.sum(np.maximum(x, 0)), np.zeros(2), [0.0, 0.0], "kink at x"),
        (lambda x: np.sum(np.abs(x) ** 1.5), np.zeros(2), [0.0, 0.0], "not twice differentiable"),
        (lambda x: np.sum(np.sqrt(np.abs(x))), np.zeros(2), [0.0, 0.0], "not"),
        (lambda x: 3.0, np.zeros(2), [0.1, 0.2], "nothing is asserted"),
        (lambda x: 3.0, np.ones(2), [0.1, 0.2], "f does not change"),
        (lambda x: np.nan, np.zeros(2), [0.1, 0.2], "f(x) is nan"),
        (lambda x: 1.0, np.array([np.inf, 0]), [0.1, 0.2], "gradient by x is not finite"),
    ],
)
def test_functions_without_an_expansion(function: Any, gradient: Any, x: Any, why: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_taylor(function, x, gradient=gradient)
    assert why in failed.value.reason


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0])
def test_noise_is_named(size: float) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(CheckFailed, match="the function is random"):
        assert_taylor(lambda x: sines(x) + size * rng.standard_normal(), X, gradient=np.cos)


def test_dropout_is_named() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).double()
    x = torch.ones(3, 4, dtype=torch.float64)
    with pytest.raises(CheckFailed, match="dropout"):
        assert_taylor(net, data=x)
    assert_taylor(net.eval(), data=x)


class HalfLost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        return g * weight, 0.5 * (g * x).sum().reshape(1)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.7, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return HalfLost.apply(x, self.weight)


def test_a_broken_backward_pass_is_found_and_named() -> None:
    net = nn.Sequential(*network(), Scale())
    with pytest.raises(CheckFailed, match=r"3\.weight") as failed:
        assert_taylor(net, data=sample())
    assert "0.5 times the difference quotient" in failed.value.reason
    assert "held" in str(failed.value)


def half_square(net: nn.Module, x: torch.Tensor) -> Any:
    return lambda: 0.5 * net(x).square().mean()


@pytest.mark.parametrize("factor", [1.01, -1.0, None])
@pytest.mark.parametrize("each", [True, False])
def test_a_wrong_gradient_of_a_module(factor: float | None, each: bool) -> None:
    net = network()
    loss = half_square(net, sample())
    names = [name for name, _ in net.named_parameters()]
    right = dict(zip(names, torch.autograd.grad(loss(), list(net.parameters())), strict=True))
    assert_taylor(loss, parameters=net, gradient=right, each=each)
    wrong = {**right, "2.bias": None if factor is None else factor * right["2.bias"]}
    with pytest.raises(CheckFailed) as failed:
        assert_taylor(loss, parameters=net, gradient=wrong, each=each)
    assert ("2.bias" if each else "all parameters") in str(failed.value).splitlines()[0]


def test_message_has_the_table_of_steps() -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_taylor(sines, X, gradient=lambda x: 1.01 * np.cos(x), seed=4)
    text = str(failed.value)
    for word in ("|f(x+εv)−f(x)|", "rounding", "1.000e+00", "7.812e-03", "⟨g, v⟩", "seed=4"):
        assert word in text


# What is left behind.


def test_everything_is_given_back() -> None:
    net = network(norm=True)
    x = sample().requires_grad_()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    kept = net[0].weight.grad
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net[1].eval()
    modes = [part.training for part in net.modules()]
    state = torch.get_rng_state()

    def loss(output: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        return output.square().mean()

    assert_taylor(net, data=x, loss=loss)
    with pytest.raises(CheckFailed):
        assert_taylor(half_square(net, x), parameters=net, gradient=[None] * 6)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [part.training for part in net.modules()] == modes
    assert torch.equal(state, torch.get_rng_state())
    assert net[0].weight.grad is kept
    assert torch.equal(kept, torch.ones_like(kept))
    assert net[0].bias.grad is None
    assert x.grad is None
    assert all(p.requires_grad for p in net.parameters())


def test_parameters_are_given_back_after_an_error() -> None:
    weight = torch.tensor([0.5, 0.25], dtype=torch.float64, requires_grad=True)
    calls = []

    def loss() -> torch.Tensor:
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("out of memory")
        return weight.sin().sum()

    with pytest.raises(RuntimeError, match="out of memory"):
        assert_taylor(loss, parameters=[weight])
    assert weight.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, X), "`function` must be callable"),
        ((sines, X), "`gradient` must be given"),
        ((sines,), "`x` or `parameters` must be given"),
        ((sines, []), "`x` must be a non-empty array"),
        ((sines, "abc"), "`x` must be a non-empty array"),
        ((nn.Linear(2, 2),), "`data` must be given"),
        ((nn.Linear(2, 2), X, {"data": torch.ones(2)}), "`x` goes with a function"),
        ((sines, X, {"data": 1, "gradient": np.cos}), "`data` and `loss` go with a module"),
        ((sines, X, {"gradient": np.ones(2)}), "`gradient` must have the shape of x"),
        ((sines, X, {"gradient": np.cos, "tolerance": -1}), "`tolerance` must be"),
        ((sines, X, {"gradient": np.cos, "seed": 1.5}), "`seed` must be"),
        ((lambda x: x, X, {"gradient": np.cos}), "must return one real number"),
        ((nn.Tanh(), None, {"data": torch.ones(2)}), "must hold a tensor that requires"),
        ((nn.LazyLinear(2), None, {"data": torch.ones(2)}), "is lazy"),
        ((nn.LSTM(2, 2), None, {"data": torch.ones(1, 2)}), "`loss` must be given"),
        (
            (nn.Linear(2, 2), None, {"data": torch.ones(2), "loss": lambda y: y}),
            "must give one real number",
        ),
        (
            (nn.Linear(2, 2), None, {"data": torch.ones(2), "gradient": {"wait": None}}),
            "`gradient` must name parameters",
        ),
        (
            (nn.Linear(2, 2), None, {"data": torch.ones(2), "gradient": [None]}),
            "`gradient` must have one entry a parameter",
        ),
        (
            (lambda: torch.ones(()), None, {"parameters": [torch.ones(2, requires_grad=True)]}),
            "must depend on its parameters",
        ),
        (
            (lambda: 0, None, {"parameters": [torch.ones(2, requires_grad=True) * 2]}),
            "must be leaf tensors",
        ),
        ((lambda: 0, None, {"parameters": 3}), "`parameters` must be a module"),
    ],
)
def test_bad_input(arguments: Any, message: str) -> None:
    named = arguments[2] if len(arguments) > 2 else {}
    with pytest.raises(InputError, match=message):
        assert_taylor(*arguments[:2], **named)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    net, x = network(norm=True).cuda(), sample().cuda()
    assert all(r.status in ("order 2", "flat") for r in assert_taylor(net, data=x).values())
    loss = half_square(net, x)
    wrong = [1.01 * g for g in torch.autograd.grad(loss(), list(net.parameters()))]
    with pytest.raises(CheckFailed, match=r"gradient is 1\.01 times"):
        assert_taylor(loss, parameters=net, gradient=wrong)
    conv = nn.Conv2d(2, 3, 3).cuda()
    assert_adjoint(conv, shape=(1, 2, 9, 9), affine=True, tolerance=1e-2)  # TF32
    assert_mesh_independent(nn.Conv2d(2, 3, 1).cuda(), [16, 32], tolerance=1e-2)
