"""The compiled convolution of many samples on a small mesh against a dense sum and other paths."""

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d
from gradconv.nn.engine import compiled
from gradconv.nn.engine.operator import mesh_free
from gradconv.nn.engine.transform import analyse
from tests.test_nn_compiled import (
    BOUNDS,
    CASES,
    DOUBLE,
    SINGLE,
    by_compiled,
    by_dense,
    errors,
    fields,
    kernels,
    plan_of,
    settings_of,
)


@pytest.fixture
def forced(monkeypatch):
    """Takes the way of many samples whatever the shapes; gives the layouts of the spectra."""
    seen = []
    real = compiled._forward_batched

    def spy(*arguments):
        found = real(*arguments)
        seen.append(tuple(found[1].shape))
        return found

    monkeypatch.setattr(compiled, "batches", lambda *_: True)
    monkeypatch.setattr(compiled, "_forward_batched", spy)
    return seen


MORE = {
    "whole vectors of channels": ((8, 8), 20, (16, 32, 1), 1, 0),
    "whole vectors in groups": ((6, 8), 17, (32, 16, 1), 2, 1),
    "a vector and one": ((5, 8), 9, (17, 33, 1), 1, 2),
    "groups on a line": ((12,), 18, (34, 17, 2), 2, 1),
}
EVERY = {**CASES, **MORE}


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=["single", "double"])
@pytest.mark.parametrize("case", EVERY)
def test_output_and_every_gradient_are_the_dense_ones(forced, case, dtype):
    shape, batch, pairs, groups, degree = EVERY[case]
    parameters = kernels(pairs, len(shape), degree, dtype=dtype, seed=1)
    x = fields((batch, pairs[1] * groups, *shape), dtype=dtype)
    g = fields((batch, pairs[0], *shape), seed=2, dtype=dtype)
    plan = plan_of(shape, parameters, groups)
    found = by_compiled(x, parameters, groups, g, plan)
    assert forced == [(plan.modes, batch, groups, 2, pairs[1])]
    expected = by_dense(x, parameters, groups, g)
    for v, w in zip(found, expected, strict=True):
        assert v.shape == w.shape
        assert v.dtype == dtype
    worst = errors(found, expected)
    assert max(worst.values()) < BOUNDS[dtype], worst


@pytest.mark.parametrize("change", [0, 1, 2], ids=["amplitude", "diffusion", "drift"])
def test_the_comparison_sees_a_wrong_kernel(forced, change):
    parameters = kernels((3, 2, 1), 2)
    x, g = fields((2, 2, 12, 12)), fields((2, 3, 12, 12), seed=2)
    found = by_compiled(x, parameters, 1, g, plan_of((12, 12), parameters, 1))
    parameters[change] = 1.001 * parameters[change]
    wrong = errors(found, by_dense(x, parameters, 1, g))
    assert forced
    assert wrong["output"] > 1e-5


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "reflect"},
        {"padding": "zero"},
        {"padding": "zero", "stride": (2, 2)},
        {"stride": (2, 1)},
        {"padding": "reflect", "stride": (2, 2)},
    ],
    ids=str,
)
def test_walls_strides_and_second_derivatives_are_those_of_the_torch_path(forced, settings, bias):
    parameters = kernels((4, 2, 1), 2)
    leaves = [fields((3, 4, 12, 16)), *parameters]
    if bias:
        leaves.append(fields((4,), seed=3))
    results = []
    for path in ("torch", "compiled"):
        x, c, q, b, *constant = (v.detach().clone().requires_grad_() for v in leaves)
        wanted = settings_of((12, 16), 2, path=path, **settings)
        y = mesh_free(x, c, q, b, wanted, *constant)
        inputs = [x, c, q, b, *constant]
        first = torch.autograd.grad(y, inputs, fields(y.shape, seed=4), create_graph=True)
        again = torch.autograd.grad(sum(v.square().sum() for v in first[:4]), inputs[:4])
        results.append([y.detach(), *(v.detach() for v in first), *again])
    assert len(forced) == 1  # the torch path is none of this
    for v, w in zip(*results, strict=True):
        torch.testing.assert_close(v, w, rtol=1e-10, atol=1e-11 * float(v.abs().max()))


@pytest.mark.parametrize("shape", [(4, 3), (6,)], ids=str)
def test_derivatives_are_those_of_differences(forced, shape):
    parameters = kernels((2, 2, 1), len(shape), 1)
    # The choice of modes is not differentiated, and must not move with the differences.
    settings = settings_of(shape, 1, path="compiled", tolerance=1e-13)
    leaves = [v.requires_grad_() for v in (fields((2, 2, *shape)), *parameters, fields((2,)))]

    def layer(x, c, q, b, bias):
        return mesh_free(x, c, q, b, settings, bias)

    assert torch.autograd.gradcheck(layer, leaves)
    assert forced

    def wrong(x, c, q, b, bias):
        return layer(x, c, q, b, bias) + (x.detach() - x).sum()

    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(wrong, leaves)


@pytest.mark.parametrize("make", [MeshFreeConv1d, MeshFreeConv2d])
@pytest.mark.parametrize("batch", [1, 5, 33])
def test_results_do_not_depend_on_the_number_of_threads(forced, make, batch):
    layer = make(18, 16, groups=2, widths=(0.1, 0.2))
    x = torch.randn(batch, 18, *(12, 10)[: 1 + (make is MeshFreeConv2d)], requires_grad=True)
    before = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            layer.zero_grad()
            x.grad = None
            y = layer(x)
            y.square().sum().backward()
            found.append([y.detach(), x.grad, *(p.grad for p in layer.parameters())])
    finally:
        torch.set_num_threads(before)
    assert len(forced) == 3
    for other in found[1:]:
        assert all(torch.equal(v, w) for v, w in zip(found[0], other, strict=True))


def test_a_sample_does_not_depend_on_the_others(forced):
    parameters = kernels((17, 5, 1), 2, dtype=SINGLE)
    x = fields((19, 5, 8, 8), dtype=SINGLE)
    plan = plan_of((8, 8), parameters, 1)
    y, _ = compiled.forward(x, *parameters, 1, plan)
    for batch in (1, 4, 11):
        part, _ = compiled.forward(x[:batch], *parameters, 1, plan)
        assert torch.equal(part, y[:batch])
    assert len(forced) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_spreads_over_its_image_and_no_other(forced, value):
    parameters = kernels((6, 4, 1), 2, dtype=SINGLE)
    x, g = fields((3, 4, 16, 20), dtype=SINGLE), fields((3, 6, 16, 20), seed=2, dtype=SINGLE)
    x[1, 2, 3, 4] = value
    plan = plan_of((16, 20), parameters, 1)
    y, *gradients = by_compiled(x, parameters, 1, g, plan)
    assert forced
    assert not y[1].isfinite().any()
    assert y[[0, 2]].isfinite().all()
    assert gradients[0].isfinite().all()
    for by in gradients[1:]:
        assert not by[:, 2].isfinite().any()
        assert by[:, [0, 1, 3]].isfinite().all()


def test_a_kernel_that_is_none_gives_nan_where_it_is_used(forced):
    c, q, b = kernels((6, 4, 1), 2, dtype=SINGLE)
    plan = plan_of((8, 8), (c, q, b), 1)
    q[4, 1] = torch.tensor([1e-3, 2e-3, 1e-3])  # det < 0
    y, _ = compiled.forward(fields((3, 4, 8, 8), dtype=SINGLE), c, q, b, 1, plan)
    assert forced
    assert y[:, 4].isnan().all()
    assert y[:, [0, 1, 2, 3, 5]].isfinite().all()


@pytest.mark.parametrize("needs", [(True, False, True), (False, True, False), (False, False, True)])
def test_only_the_wanted_gradients_are_made(forced, needs):
    parameters = kernels((6, 4, 1), 2)
    x, g = fields((3, 4, 8, 8)), fields((3, 6, 8, 8), seed=2)
    plan = plan_of((8, 8), parameters, 1)
    _, *every = by_compiled(x, parameters, 1, g, plan)
    every.append(g.sum(dim=(0, 2, 3)))
    _, spectrum = compiled.forward(x, *parameters, 1, plan)
    found = compiled.backward(g, spectrum, *parameters, 1, plan, needs)
    assert len(forced) == 2
    for wanted, v, w in zip((needs[0], *[needs[1]] * 3, needs[2]), found, every, strict=True):
        if wanted:
            torch.testing.assert_close(v, w, rtol=1e-12, atol=1e-12)
        else:
            assert v is None


@pytest.mark.parametrize("shape", [(10, 12), (9, 12), (14,)], ids=str)
def test_the_spectrum_is_that_of_the_torch_path(forced, shape):
    parameters = kernels((2, 3, 1), len(shape))
    plan = plan_of(shape, parameters, 1)
    x = fields((2, 6, *shape))
    _, spectrum = compiled.forward(x, *parameters, 2, plan)
    assert forced
    found = compiled.modes(spectrum, plan)
    torch.testing.assert_close(found, analyse(x.reshape(12, *shape), plan), rtol=0, atol=1e-14)


CHOICES = [
    # Points, samples, channels in and out of a group, whether it is taken.
    ((8, 8), 192, (64, 64), True),
    ((16, 16), 16, (64, 64), True),
    ((32, 32), 32, (64, 64), True),
    ((32, 32), 16, (64, 64), False),
    ((32, 32), 48, (16, 16), False),
    ((64, 64), 192, (64, 64), False),
    ((8, 8), 15, (64, 64), False),
    ((8, 8), 32, (1, 64), True),  # on the smallest meshes padding does not matter
    ((8, 8), 31, (1, 64), False),
    ((8, 8), 192, (3, 15), False),
    ((12, 12), 192, (3, 64), False),
    ((16, 16), 192, (17, 17), False),  # nearly twice as many with the padding, in each
    ((128, 128), 4, (32, 32), False),
]


def test_a_point_counts_twice_in_double_precision():
    for size, taken in ((16, True), (24, False)):
        plan = plan_of((size, size), kernels((2, 2, 1), 2), 1)
        x = torch.zeros(1, 1, 1, 1).expand(96, 64, size, size)
        assert compiled.batches(x, (64, 64, 1, 1), 1, plan)
        assert compiled.batches(x.double(), (64, 64, 1, 1), 1, plan) == taken


def test_lines_keep_to_the_rows_of_modes():
    plan = plan_of((64,), kernels((2, 2, 1), 1), 1)
    assert not compiled.batches(torch.zeros(192, 64, 64), (64, 64, 1, 1), 1, plan)


@pytest.mark.parametrize(("shape", "batch", "channels", "taken"), CHOICES, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_it_is_chosen_by_shapes(shape, batch, channels, taken, groups):
    plan = plan_of(shape, kernels((2, 2, 1), 2), 1)
    x = torch.zeros(1, 1, 1, 1).expand(batch, channels[0] * groups, *shape)
    pairs = (channels[1] * groups, channels[0], 1, 1)
    assert compiled.batches(x, pairs, groups, plan) == taken


def test_both_ways_agree_where_the_rule_takes_the_new_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    layer = MeshFreeConv2d(16, 16, widths=(0.2, 0.4), generator=generator)
    x, g = (torch.randn(16, 16, 16, 16, generator=generator) for _ in range(2))
    results = []
    for _ in range(2):
        leaf = x.clone().requires_grad_()
        layer.zero_grad()
        y = layer(leaf)
        y.backward(g)
        results.append([y.detach(), leaf.grad, *(p.grad.clone() for p in layer.parameters())])
        monkeypatch.setattr(compiled, "batches", lambda *_: False)
    different = [not torch.equal(v, w) for v, w in zip(*results, strict=True)]
    assert any(different)  # two ways, not one
    for v, w in zip(*results, strict=True):
        # the gradient by the diffusion nearly cancels; 2.7e-5 was the most of 40 seeds
        assert float((v - w).norm()) < 1e-4 * float(w.norm())
