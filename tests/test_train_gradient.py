"""A step's gradient against the estimator's, however it is cut into passes and processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel import MultilevelGradient
from gradconv.multilevel.costs.plan import Term
from gradconv.nn import ResNet
from gradconv.nn.evaluation import mean_square
from gradconv.samplers import NoisySampler
from gradconv.train.engine import Engine
from gradconv.train.gradient import Ahead, StepGradient

HIERARCHY = MeshHierarchy(2, (4, 8, 16))
COUNTS = (7, 5, 3)
TERMS = tuple(Term(level, n, corrects=level > 0) for level, n in enumerate(COUNTS))


def sampler(seed: int = 0) -> NoisySampler:
    clean = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(5)).double()

    def corrupt(u: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return u + 0.3 * torch.randn(u.shape, generator=generator, dtype=u.dtype)

    return NoisySampler(clean, corrupt, HIERARCHY, seed=seed)


def network(norm: str | None = None) -> nn.Module:
    made = ResNet(1, 1, channels=4, layers=3, norm=norm, generator=torch.Generator().manual_seed(1))
    return made.double()


class OneOfMany(Engine):
    """A process of several, whose sums the test makes itself."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__("cpu", "64")
        self._place = (rank, world)

    @property
    def rank(self) -> int:
        return self._place[0]

    @property
    def world(self) -> int:
        return self._place[1]

    def add_up(self, parameters, values):
        return values


def gradient_of(step: StepGradient, terms=TERMS, first: int = 0, draws: int = 1):
    step.module.zero_grad(set_to_none=True)
    samples = sum(t.samples for t in terms)
    losses = step.add((step.draw(terms, first + i * samples) for i in range(draws)), draws)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in step.parameters]
    return torch.cat([g.reshape(-1) for g in grads]), losses


def step_gradient(**options) -> StepGradient:
    model, engine = options.pop("model", None), options.pop("engine", None)
    return StepGradient(
        network() if model is None else model,
        mean_square,
        sampler(),
        Engine("cpu", "64") if engine is None else engine,
        **options,
    )


@pytest.fixture(scope="module")
def reference():
    """The estimator's gradient of the first step: one pass a term and level."""
    model = network()
    estimate = MultilevelGradient(model, "mse", sampler(), HIERARCHY, COUNTS)
    found, step = estimate.estimate()
    return torch.cat([g.reshape(-1) for g in found.values()]), step


def test_merged_passes_are_the_estimators_gradient(reference):
    found, losses = gradient_of(step_gradient())
    torch.testing.assert_close(found, reference[0], rtol=1e-12, atol=1e-13)
    assert losses.loss == pytest.approx(reference[1].loss, rel=1e-12)
    np.testing.assert_allclose(losses.fine, reference[1].fine, rtol=1e-12)
    np.testing.assert_allclose(losses.coarse[1:], reference[1].coarse[1:], rtol=1e-12)
    assert losses.coarse[0] == 0.0


def test_another_number_is_another_gradient(reference):
    found, _ = gradient_of(step_gradient(), first=15)
    assert float((found - reference[0]).norm() / reference[0].norm()) > 1e-3


@pytest.mark.parametrize("microbatch", [1, 2, 100])
def test_passes_of_any_size_make_the_same_gradient(reference, microbatch):
    found, losses = gradient_of(step_gradient(microbatch=microbatch))
    torch.testing.assert_close(found, reference[0], rtol=1e-12, atol=1e-13)
    assert losses.loss == pytest.approx(reference[1].loss, rel=1e-12)


@pytest.mark.parametrize("microbatch", [1, 2, 3])
def test_no_pass_is_larger_than_the_microbatch_allows(microbatch):
    seen: dict[int, list[int]] = {}
    step = step_gradient(microbatch=microbatch)

    def watch(module, inputs):
        x = inputs[0]
        seen.setdefault(x.shape[-1], []).append(len(x))

    step.module.register_forward_pre_hook(watch)
    gradient_of(step)
    for n, batches in seen.items():
        assert max(batches) <= microbatch * (16 // n) ** 2
    # fine and coarse parts of a mesh: 7 + 5, 5 + 3 and 3 samples
    assert {n: sum(b) for n, b in seen.items()} == {4: 12, 8: 8, 16: 3}


def test_a_mesh_is_one_pass_and_batch_normalisation_keeps_the_parts_apart():
    for norm, passes in ((None, 3), ("batch", 5)):
        model, calls = network(norm), []
        model.register_forward_pre_hook(lambda module, inputs, calls=calls: calls.append(1))
        gradient_of(step_gradient(model=model))
        assert len(calls) == passes


def test_running_statistics_are_those_of_the_finest_mesh():
    model = network("batch")
    gradient_of(step_gradient(model=model))
    alone = network("batch")
    step = step_gradient(model=alone)
    data = step.draw(TERMS, 0)
    alone(data.pieces[2][0].x)
    for (name, ours), (_, theirs) in zip(model.named_buffers(), alone.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0, msg=name)


@given(count=st.integers(0, 40), world=st.integers(1, 9), start=st.integers(0, 20))
def test_shares_of_processes_are_all_numbers_once(count, world, start):
    shares = [OneOfMany(rank, world).share(count, start) for rank in range(world)]
    assert sorted(i for share in shares for i in share) == list(range(count))
    assert max(len(s) for s in shares) - min(len(s) for s in shares) <= 1


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_together_make_the_same_gradient(reference, world):
    parts = [gradient_of(step_gradient(engine=OneOfMany(rank, world))) for rank in range(world)]
    total = torch.stack([g for g, _ in parts]).sum(dim=0)
    torch.testing.assert_close(total, reference[0], rtol=1e-12, atol=1e-13)
    assert sum(losses.loss for _, losses in parts) == pytest.approx(reference[1].loss, rel=1e-12)
    # the control: one process alone is not the whole
    assert float((parts[0][0] - reference[0]).norm() / reference[0].norm()) > 0.1


def test_accumulated_draws_are_their_mean():
    step = step_gradient()
    both, losses = gradient_of(step, draws=2)
    samples = sum(COUNTS)
    each = [gradient_of(step, first=first) for first in (0, samples)]
    torch.testing.assert_close(both, 0.5 * (each[0][0] + each[1][0]), rtol=1e-12, atol=1e-13)
    assert losses.loss == pytest.approx(0.5 * (each[0][1].loss + each[1][1].loss), rel=1e-12)


def test_samples_drawn_ahead_are_the_same():
    step = step_gradient()
    plans = [(TERMS, 0), (TERMS, 15), (TERMS[:1], 30), (TERMS[:1], 37)]
    following = [*plans[1:], None]
    following[1] = (TERMS, 30)  # a step that then turns out to be another
    for active in (False, True):
        ahead = Ahead(step, active)
        for (terms, first), then in zip(plans, following, strict=True):
            data, wanted = ahead.take(terms, first, then), step.draw(terms, first)
            assert data.terms == wanted.terms
            for level, pieces in wanted.pieces.items():
                for ours, theirs in zip(data.pieces[level], pieces, strict=True):
                    assert torch.equal(ours.x, theirs.x)
                    assert torch.equal(ours.y, theirs.y)
        ahead.close()


def test_an_error_while_drawing_ahead_is_raised_where_the_samples_are_wanted():
    clean = torch.rand(2, 1, 16, 16)

    def broken(u: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.full_like(u, torch.nan)

    step = StepGradient(
        network(), mean_square, NoisySampler(clean, broken, HIERARCHY), Engine("cpu", "64")
    )
    ahead = Ahead(step, active=True)
    with pytest.raises(InputError, match="finite"):
        ahead.take(TERMS, 0, None)
    ahead.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"device": "gpu"}, "`device` must be one of auto, cpu, cuda; got 'gpu'"),
        ({"precision": "16"}, "`precision` must be one of 32, bf16, 64; got '16'"),
        ({"processes": 0}, "`processes` must be a whole number"),
        ({"nodes": True}, "`nodes` must be a whole number"),
    ],
)
def test_an_engine_refuses(options, text):
    with pytest.raises(InputError, match=text.replace("(", r"\(")):
        Engine(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_and_absent_is_named():
    with pytest.raises(InputError, match="`device` must be cpu or a device that torch can use"):
        Engine("cuda")
