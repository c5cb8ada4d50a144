"""Assertions of the property-test kit hold where they should and fail where they should."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradconv.errors import InputError
from gradconv.testing import (
    CheckFailed,
    assert_adjoint,
    assert_order,
    assert_semigroup,
    failures,
)
from gradconv.testing.session import Session, running

H = 2.0 ** -np.arange(3, 9)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keep the files of expected failures in the test's folder, and draw nothing."""
    monkeypatch.setattr(failures, "_figure", lambda *_: "not drawn")
    with running(Session("test", lambda: tmp_path)):
        yield


# Orders.


@pytest.mark.parametrize("order", [2.0, 1.0, 0.5, -1.0, -3.0])
def test_order_holds_for_either_sign(order: float) -> None:
    values = 3.0 * H**order * (1.0 + 0.5 * H)
    assert assert_order(H, values, order).order == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize(
    ("values", "order", "why"),
    [
        (H**2, 1, "does not contain 1"),
        (H**2, 2.3, "does not contain"),
        (H**-2, 2, "the verdict is diverges"),  # the size of the order is right, its sign is not
        (H**2, -2, "the verdict is converges"),
        (1.0 + H, 1, "the verdict is stalls"),
        (np.array([1.0, 2.0, 1.0, 2.0, 1.0, 2.0]), 0, "undecided"),
        (np.zeros(6), 2, "zero to rounding"),
        (np.exp(-1.0 / H), 2, "faster than any power"),
        (H**2, math.inf, "does not fall faster"),
        (np.exp(1.0 / H[:4]), -2, "grows faster than any power"),
    ],
)
def test_order_fails(values: np.ndarray, order: float, why: str) -> None:
    with pytest.raises(CheckFailed, match="assert_order") as failed:
        assert_order(H[: len(values)], values, order)
    assert why in failed.value.reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.floats(-3.0, 3.0).filter(lambda p: abs(p) > 0.3),
    size=st.floats(1e-12, 1e12),
    correction=st.floats(-0.5, 1.0),
    count=st.integers(4, 8),
)
def test_order_is_told_from_its_neighbours(
    order: float, size: float, correction: float, count: int
) -> None:
    """Any power law with a first correction of relative size h, on levels from 1/8 on."""
    h = 2.0 ** -np.arange(3, 3 + count)
    values = size * h**order * (1 + correction * h)
    assert_order(h, values, order)
    for wrong in (order - 1, order + 1, -order):
        with pytest.raises(CheckFailed):
            assert_order(h, values, wrong)


def test_order_fails_on_a_wide_interval() -> None:
    rng = np.random.default_rng(0)
    paths = H**1.0 * np.exp(0.4 * rng.standard_normal((12, 1))) * rng.uniform(0.1, 1.9, (12, 6))
    assert_order(H, paths=paths, order=1, tolerance=2.0)
    with pytest.raises(CheckFailed, match="too wide"):
        assert_order(H, paths=paths, order=1, tolerance=0.05)


def test_order_fails_where_rounding_leaves_too_few_levels() -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_order(H, H**2, 2, floor=2e-3)
    assert failed.value.reason.startswith("undecided")


def test_order_infinite() -> None:
    assert assert_order(H, np.exp(-1.0 / H), math.inf).order == math.inf
    assert assert_order(H, np.zeros(6), math.inf).verdict == "exact"


def test_order_of_a_level_norm() -> None:
    assert assert_order(H, 1.0 + H**2, 0, kind="level").verdict == "bounded"
    with pytest.raises(CheckFailed):
        assert_order(H, H**-1.0, 0, kind="level")


def test_order_false_alarms_are_as_rare_as_stated() -> None:
    """At most 2 % stated: more than 9 failures in 150 have a probability of 0.1 %."""
    alarms = 0
    for seed in range(150):
        noise = np.random.default_rng(seed).gamma(4.0, 0.25, (64, 6))
        try:
            assert_order(H, paths=H**1.5 * noise, order=1.5, seed=seed)
        except CheckFailed:
            alarms += 1
    assert alarms <= 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": None}, "`order` must be a number"),
        ({"order": "two"}, "`order` must be a number"),
        ({"order": math.nan}, "`order` must be finite or inf"),
        ({"order": -math.inf}, "`order` must be finite or inf"),
        ({"tolerance": 0.0}, "`tolerance` must be positive and finite"),
        ({"tolerance": math.inf}, "`tolerance` must be positive and finite"),
        ({"h": H[::-1]}, "`h` must decrease"),
        ({"values": -(H**2)}, "`values`"),
    ],
)
def test_order_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        assert_order(**{"h": H, "values": H**2, "order": 2, **change})


# Adjoints.

MATRIX = np.random.default_rng(0).standard_normal((5, 7))


def restrict(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, 2).mean(axis=1)


def prolong(y: np.ndarray) -> np.ndarray:
    return np.repeat(y, 2)


def test_adjoint_holds() -> None:
    assert assert_adjoint(lambda x: MATRIX @ x, lambda y: MATRIX.T @ y, shape=7) < 1e-14
    turned = MATRIX[:, :5] + 1j * MATRIX[:, 2:]
    assert_adjoint(lambda x: turned @ x, lambda y: turned.conj().T @ y, shape=5, dtype=complex)
    assert_adjoint(lambda x: MATRIX @ x + 1, lambda y: MATRIX.T @ y, shape=7, affine=True)


def test_adjoint_under_weights() -> None:
    """Averaging and injection of constants are adjoint under h and 2h, not under sums."""
    h = 1 / 16
    assert_adjoint(restrict, prolong, shape=16, weights=(h, 2 * h))
    with pytest.raises(CheckFailed, match="inner products differ"):
        assert_adjoint(restrict, prolong, shape=16)


def one_entry_off(y: np.ndarray) -> np.ndarray:
    x = MATRIX.T @ y
    x[3] *= 1 + 1e-9
    return x


@pytest.mark.parametrize(
    ("operator", "adjoint", "dtype", "why"),
    [
        (lambda x: MATRIX @ x, lambda y: -MATRIX.T @ y, None, "inner products differ"),
        (lambda x: MATRIX @ x, one_entry_off, None, "inner products differ"),
        (lambda x: np.roll(x, 1), lambda y: np.roll(y, 1), None, "inner products differ"),
        (lambda x: 1j * x, lambda y: 1j * y, complex, "inner products differ"),
        (lambda x: x**2, lambda y: y, None, "not linear"),
        (np.conj, np.conj, complex, "not linear over the complex"),
        (lambda x: x + 1, lambda y: y, None, "K(0) is not 0"),
        (lambda x: 0 * x, lambda y: 0 * y, None, "nothing is asserted"),
        (lambda x: x / 0.0 if x.any() else x, lambda y: y, None, "not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_adjoint_fails(operator: Any, adjoint: Any, dtype: Any, why: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_adjoint(operator, adjoint, shape=7, dtype=dtype)
    assert why in failed.value.reason


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(-1)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return g.cumsum(-1)  # the transpose sums from the other end


def test_adjoint_by_the_backward_pass() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(2, 3, 3, stride=2, bias=False)
    assert assert_adjoint(conv, shape=(2, 2, 9, 8)) < 1e-5
    assert_adjoint(conv.double(), shape=(2, 2, 9, 8), weights=(0.25, 1.0))
    assert_adjoint(torch.fft.fft, shape=9, dtype=torch.complex128)
    with pytest.raises(CheckFailed, match="inner products differ"):
        assert_adjoint(WrongBackward.apply, shape=9, dtype=torch.float64)
    with pytest.raises(CheckFailed, match="random"):
        assert_adjoint(torch.nn.Dropout(0.5), shape=64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": 3}, "`operator` must be callable"),
        ({"adjoint": 3}, "`adjoint` must be callable"),
        ({"adjoint": None}, "`adjoint` must be given"),
        ({"adjoint": lambda y: y[:2]}, "`adjoint` must return fields of the input's shape"),
        ({"shape": 0}, "`shape` must be"),
        ({"shape": (4, "a")}, "`shape` must be"),
        ({"samples": 0}, "`samples` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"tolerance": -1.0}, "`tolerance` must be"),
        ({"weights": (1.0, -1.0)}, "`weights` must be finite and > 0"),
        ({"weights": 1.0}, "`weights` must be a pair"),
        ({"weights": (np.ones(3), 1.0)}, "`weights` must broadcast"),
        ({"dtype": int}, "`dtype` must be a floating"),
        ({"operator": lambda x: None}, "must return one array"),
        ({"operator": lambda x: (x, x)}, "must return one array"),
    ],
)
def test_adjoint_bad_input(change: dict[str, Any], message: str) -> None:
    arguments = {"operator": lambda x: x, "adjoint": lambda y: y, "shape": 4, **change}
    with pytest.raises(InputError, match=message):
        assert_adjoint(**arguments)


# Semigroups.

DECAY = np.linspace(0.0, 3.0, 16)


def family(t: float) -> Any:
    return lambda x: np.exp(-t * DECAY) * x


def transported(t: float) -> Any:
    """exp(t d/dx) on 16 periodic points, the cosine of the phase at the Nyquist frequency."""
    k = 2 * np.pi * np.fft.rfftfreq(16, 1 / 16)
    return lambda x: np.fft.irfft(np.exp(1j * t * k) * np.fft.rfft(x), 16)


def test_semigroup_holds() -> None:
    assert assert_semigroup(family, 0.4, 1.1, shape=16) < 1e-14
    assert_semigroup(transported, 0.013, 0.021, shape=16, modes=7)


class Decay(torch.nn.Module):
    """exp(-t k²) on the last axis; the wrong one has a time of its own."""

    def __init__(self, time: float, power: float = 1.0) -> None:
        super().__init__()
        self.time = torch.nn.Parameter(torch.tensor(time, dtype=torch.float64))
        self.power = power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = torch.arange(x.shape[-1] // 2 + 1)
        symbol = torch.exp(-(self.time**self.power) * k**2)
        return torch.fft.irfft(symbol * torch.fft.rfft(x), x.shape[-1])


def test_semigroup_of_modules() -> None:
    assert_semigroup(Decay, 0.1, 0.2, shape=(2, 3, 16))
    assert_semigroup(Decay, 0.1, 0.2, shape=(2, 3, 16), modes=3)
    with pytest.raises(CheckFailed, match="is not K"):
        assert_semigroup(lambda t: Decay(t, 2.0), 0.1, 0.2, shape=(2, 3, 16))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda t: lambda x: x / (1 + t * DECAY), "K(s)K(t) is not K(s + t)"),
        (lambda t: lambda x: np.exp(-(t**2) * DECAY) * x, "K(s)K(t) is not K(s + t)"),
        (lambda t: lambda x: 1.001 * np.exp(-t * DECAY) * x, "K(s)K(t) is not K(s + t)"),
        (lambda t: lambda x: np.where(DECAY > 1, 0.0, x), "K(0) is not the identity"),
        (lambda t: lambda x: np.exp(-1e3 * t * (1 + DECAY)) * x, "nothing is asserted"),
        (lambda t: lambda x: np.full_like(x, np.nan), "not finite"),
        (transported, "K(s)K(t) is not K(s + t)"),  # the Nyquist frequency is not left out here
    ],
)
def test_semigroup_fails(wrong: Any, why: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        assert_semigroup(wrong, 0.013, 0.021 if wrong is transported else 0.8, shape=16)
    assert why in failed.value.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": 1}, "`family` must be callable"),
        ({"family": lambda t: t}, "`family` must return operators"),
        ({"family": lambda t: lambda x: x[:2]}, "`family` must keep the shape"),
        ({"s": 0.0}, "`s` must be a finite time"),
        ({"t": math.inf}, "`t` must be a finite time"),
        ({"modes": 8}, "`modes` must be below"),
        ({"dim": 2}, "`dim` must be at most"),
    ],
)
def test_semigroup_bad_input(change: dict[str, Any], message: str) -> None:
    arguments = {"family": family, "s": 0.1, "t": 0.2, "shape": 16, **change}
    with pytest.raises(InputError, match=message):
        assert_semigroup(**arguments)
