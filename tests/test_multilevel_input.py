"""Bad input of multilevel estimators: named with its level, and nothing of the user's touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from multilevel_data import LINE, Noise, noisy, stencil, waves
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradconv import InputError, MeshHierarchy, Problem
from gradconv.multilevel import Fixed, Moments, MultilevelGradient, Optimal, Randomised
from gradconv.samplers import LoaderSampler, NoisySampler, TensorSampler

COUNTS = (4, 3, 2, 2)


def made(**choices: Any) -> MultilevelGradient:
    given: dict[str, Any] = {
        "module": stencil(),
        "loss": "mse",
        "sampler": noisy(),
        "hierarchy": LINE,
        "allocation": COUNTS,
        **choices,
    }
    return MultilevelGradient(**given)


def moments(**choices: Any) -> Moments:
    ones = np.ones(4)
    given: dict[str, Any] = {
        "fine": ones,
        "coarse": 0.5 * ones,
        "cross": 0.6 * ones,
        "mean_square": 0.1 * ones,
        "samples": 8,
        "fine_mean_square": ones,
        **choices,
    }
    return Moments(**given)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"module": 3}, "`module` must be a torch.nn.Module; got 3"),
        ({"module": nn.ReLU()}, "`module` must have a parameter"),
        ({"loss": "l2"}, "`loss` must be 'mse' or a callable; got 'l2'"),
        ({"hierarchy": (4, 8)}, "`hierarchy` must be a MeshHierarchy"),
        ({"hierarchy": MeshHierarchy.powers_of_two(1, 3, 5)}, "must have the same levels"),
        ({"sampler": 7}, "`sampler` must be a Sampler, a Problem"),
        ({"allocation": (4, 3, 0, 2)}, "at least 1 sample; got 0 on level 2"),
        ({"allocation": (4, 3, -1, 2)}, "at least 1 sample; got -1 on level 2"),
        ({"allocation": (4, 3, 2.5, 2)}, "at least 1 sample; got 2.5 on level 2"),
        ({"allocation": (4, 3, 2)}, "one number a level, 4, coarse to fine"),
        ({"allocation": Randomised(2, (0.5, 0.5))}, "one value a level, 4"),
        ({"control": (1.0, 1.0)}, "`control` must be None, 'optimal' or 4 finite weights"),
        ({"control": "best"}, "`control` must be None, 'optimal'"),
        ({"control": (1, 1, float("nan"), 1)}, "`control` must be None"),
        ({"pilot": 1}, "`pilot` must be a whole number from 2"),
        ({"overhead": -0.1}, "`overhead` must be a fraction >= 0; got -0.1"),
        ({"microbatch": 0}, "`microbatch` must be a whole number from 1"),
        ({"costs": 4}, "`costs` must be a CostModel; got 4"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_arguments(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        made(**choices)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Optimal(), "exactly one must be given; got neither"),
        (lambda: Optimal(variance=1.0, budget=1.0), "exactly one must be given; got both"),
        (lambda: Optimal(variance=0.0), "`variance` must be positive and finite; got 0.0"),
        (lambda: Optimal(budget=float("inf")), "`budget` must be positive and finite; got inf"),
        (lambda: Optimal(budget=1.0, rounding="down"), "`rounding` must be one of random, up"),
        (lambda: Randomised(0), "`draws` must be a whole number from 1"),
        (lambda: Randomised(3, (0.5, 0.6)), "`probabilities` must be > 0 on every level"),
        (lambda: Randomised(3, (1.0, 0.0)), "`probabilities` must be > 0 on every level"),
        (lambda: Fixed("16,32"), "`allocation` counts must be whole numbers"),
        (lambda: moments(fine=np.array([1, 1, np.inf, 1])), "finite; got inf on level 2"),
        (lambda: moments(fine=np.array([1, -1, 1, 1])), "a variance >= 0; got -1 on level 1"),
        (lambda: moments(coarse=np.ones(3)), "one value a level"),
    ],
)
def test_values(make: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert words in str(caught.value)


def test_levels_that_do_not_divide() -> None:
    fields = torch.zeros(4, 1, 12, dtype=torch.float64)
    with pytest.raises(InputError, match="finest mesh of the hierarchy"):
        made(sampler=(fields, fields))
    with pytest.raises(InputError, match="must double from one mesh to the next; got 6 then 9"):
        MeshHierarchy(1, (3, 6, 9))


class Fails(nn.Module):
    """Breaks on one mesh, in one way."""

    def __init__(self, n: int, way: str) -> None:
        super().__init__()
        self.inner, self.n, self.way = stencil(), n, way

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        if x.shape[-1] != self.n:
            return y
        if self.way == "shape":
            return y[..., :-1]
        if self.way == "raises":
            raise RuntimeError("kernel size larger than the input")
        return y * float("inf")


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("shape", "output of the target's shape"),
        ("raises", "it raised RuntimeError: kernel size larger"),
        ("infinite", "`loss` must be finite and real"),
    ],
)
@pytest.mark.parametrize(("level", "n"), [(0, 4), (1, 8), (3, 32)])
def test_a_level_that_fails_is_named_and_nothing_is_touched(
    way: str, words: str, level: int, n: int
) -> None:
    model = Fails(n, way)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    state = repr(optimiser.state_dict())
    weights = [p.detach().clone() for p in model.parameters()]
    grads = [p.grad for p in model.parameters()]
    estimator = made(module=model)
    for call in (estimator.backward, estimator.estimate, lambda: estimator.measure(2)):
        with pytest.raises(InputError) as caught:
            call()
        assert words in str(caught.value)
        assert f"level {level} (n={n})" in str(caught.value)
    assert repr(optimiser.state_dict()) == state
    for p, weight, grad in zip(model.parameters(), weights, grads, strict=True):
        assert torch.equal(p, weight)
        assert p.grad is grad
        assert torch.equal(grad, torch.ones_like(p))


def test_an_interrupt_leaves_gradients_as_they_were() -> None:
    model = stencil()

    def loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if prediction.shape[-1] == 16:
            raise KeyboardInterrupt
        return (prediction - target).square().mean()

    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    with pytest.raises(KeyboardInterrupt):
        made(module=model, loss=loss).backward()
    assert all(torch.equal(p.grad, torch.full_like(p, 3.0)) for p in model.parameters())


def test_a_sum_for_a_mean() -> None:
    with pytest.raises(InputError, match="a batch given twice has 2 times the loss"):
        made(loss=nn.MSELoss(reduction="sum")).backward()
    made(loss=nn.MSELoss()).backward()


def test_a_detached_loss() -> None:
    with pytest.raises(InputError, match="must depend on the parameters through torch"):
        made(loss=lambda p, y: (p.detach() - y).square().mean()).backward()


def test_samplers_that_run_dry() -> None:
    clean = waves(LINE, 8)
    data = TensorSampler(clean, clean, "average", "chain", LINE)
    with pytest.raises(InputError, match=r"on level 2 \(n=16\) it ran dry: sample 8 .* are 8"):
        made(sampler=data).backward()
    batches = iter([(clean, clean)])
    with pytest.raises(InputError, match=r"on level 2 \(n=16\) the loader ran dry after 8"):
        made(sampler=LoaderSampler(batches, LINE)).backward()
    # a loader that can start again does, in a new order each epoch
    loader = DataLoader(TensorDataset(clean, clean), batch_size=3, shuffle=True)
    estimator = made(sampler=loader)
    for _ in range(3):
        estimator.backward()


def test_samplers_that_repeat() -> None:
    generator = torch.Generator().manual_seed(0)

    def same(n: int, number: int) -> Any:
        """Ignores the number: one sample for all."""
        u = torch.randn(1, 1, n, generator=torch.Generator().manual_seed(0))
        return u.double(), u.double()

    with pytest.raises(InputError, match=r"new samples for every term; on level 1 \(n=8\)"):
        made(sampler=same).backward()

    def cycle(n: int, number: int) -> Any:
        """Begins again with every step."""
        u = torch.randn(1, 1, n, generator=torch.Generator().manual_seed(number % sum(COUNTS)))
        return u.double(), u.double()

    estimator = made(sampler=cycle)
    estimator.backward()
    with pytest.raises(InputError, match="new samples at every step; it gave all of the step"):
        estimator.backward()

    def fresh(n: int, number: int) -> Any:
        u = torch.randn(1, 1, n, generator=generator)
        return u.double(), u.double()

    estimator = made(sampler=fresh)
    for _ in range(3):
        estimator.backward()


def test_samplers_of_the_wrong_kind() -> None:
    with pytest.raises(InputError, match=r"`data` must return \(input, target\) for n=4"):
        made(sampler=lambda n, number: torch.zeros(1, 1, n)).backward()
    with pytest.raises(InputError, match="inputs must be finite; got NaN or infinity for n=4"):
        made(
            sampler=lambda n, number: (torch.full((1, 1, n), torch.nan), torch.zeros(1, 1, n))
        ).backward()
    with pytest.raises(InputError, match="`drawn` must be one of finest, law, level"):
        noisy(drawn="coarsest")
    with pytest.raises(InputError, match=r"`clean` must have shape \(N, C, 32\)"):
        NoisySampler(torch.zeros(2, 1, 16), Noise(1.0), LINE)
    bad = NoisySampler(waves(LINE), lambda u, g: u[..., ::3], LINE)
    with pytest.raises(InputError, match=r"on level 3 \(n=32\), given \(1, 1, 32\), it returned"):
        bad.draw([0], [1, 0])
    by_level = NoisySampler(waves(LINE), lambda u, g: u / 0.0, LINE, drawn="level")
    with pytest.raises(InputError, match=r"`corrupt` inputs must be finite.* level 1 \(n=8\)"):
        by_level.draw([0], [1, 0])


def test_variances_that_are_zero_or_infinite() -> None:
    still = noisy(sigma=0.0)
    one = NoisySampler(waves(LINE, 1), Noise(0.0), LINE)
    assert still.draw([0], [0])  # six images still vary
    estimator = made(sampler=one, allocation=Optimal(budget=4.0))
    with pytest.raises(InputError, match=r"finite and > 0 on every level; got 0.0 on level 0"):
        estimator.backward()
    assert all(p.grad is None for p in estimator.evaluator.module.parameters())

    huge = NoisySampler(waves(LINE), Noise(1e155), LINE)
    with pytest.raises(InputError, match=r"level 0"):
        made(sampler=huge, allocation=Optimal(budget=4.0)).backward()


def test_predictions_need_moments() -> None:
    with pytest.raises(InputError, match="`moments` must be given or measured by a pilot first"):
        made().predicted_variance()
    with pytest.raises(InputError, match="one value a level, 4; got 3"):
        made(moments=Moments(*[np.ones(3)] * 4, samples=4, fine_mean_square=np.ones(3)))


def test_states_of_something_else() -> None:
    with pytest.raises(InputError, match="`state` must be what state_dict gave"):
        made().load_state_dict({"steps": 3})


def test_a_problem_of_another_dimension() -> None:
    with pytest.raises(InputError, match="`dim` of problem and hierarchy must agree; got 2 and 1"):
        made(sampler=Problem("stencil", dim=2))


def loaded(model: nn.Module) -> MultilevelGradient:
    x = torch.rand(64, 1, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loader = DataLoader(TensorDataset(x, x), batch_size=4)
    levels = MeshHierarchy.powers_of_two(1, 2, 4)
    return MultilevelGradient(model, "mse", loader, levels, allocation=(3, 2, 1))


def line() -> nn.Module:
    return nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", dtype=torch.float64)


def test_an_estimate_over_a_loader_survives_a_refusal_and_a_restart() -> None:
    estimator = loaded(line())
    estimator.backward()
    with pytest.raises(InputError, match="`sampler` must give a sample again"):
        estimator.telescoping_error()
    estimator.backward()
    fresh = loaded(line())
    fresh.load_state_dict(estimator.state_dict())
    assert fresh.backward().work == estimator.backward().work


class Root(nn.Module):
    """A square root at zero: its loss is finite and its gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 + torch.sqrt(self.weight)


def test_gradients_that_are_not_finite_are_refused_and_nothing_is_touched() -> None:
    model = Root()
    model.weight.grad = torch.ones(1, dtype=torch.float64)
    estimator = loaded(model)
    for call in (estimator.backward, estimator.estimate):
        with pytest.raises(InputError, match="`module` must have finite gradients; got NaN"):
            call()
        assert model.weight.grad.tolist() == [1.0]
    with pytest.raises(InputError, match=r"`module` must have finite gradients.*weight on level"):
        estimator.measure(2)
