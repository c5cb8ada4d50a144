"""The compiled mesh-free convolution against a dense sum over all frequencies."""

import sys
import threading

import numpy as np
import pytest
import torch

from gradconv.nn.engine import compiled, numba_exponentials, numba_mixing, numba_tiles
from gradconv.nn.engine.mixing import Parameters
from gradconv.nn.engine.operator import Settings, mesh_free, plan_for
from gradconv.nn.engine.transform import analyse

SINGLE, DOUBLE = torch.float32, torch.float64
# Relative, in the Euclidean norm; the truncation is at 1e-13.
BOUNDS = {SINGLE: 2e-6, DOUBLE: 1e-12}
NAMES = ("output", "input", "coefficients", "quadratic", "drift")


def kernels(shape, dim, degree=0, seed=0, dtype=DOUBLE, width=(0.1, 0.2)):
    """Random kernels (out, in, terms), anisotropic, resolved on a dozen points."""
    random = np.random.default_rng(seed)
    columns = [1, 1 + dim, 1 + dim + dim * (dim + 1) // 2][degree]
    coefficients = random.normal(size=(*shape, columns))
    coefficients[..., 1 : 1 + dim] *= 0.05
    coefficients[..., 1 + dim :] *= 0.003
    turn, _ = np.linalg.qr(random.normal(size=(*shape, dim, dim)))
    size = random.uniform(*width, (*shape, dim)) ** 2 / 2
    a = np.einsum("...ab,...b,...cb->...ac", turn, size, turn)
    quadratic = a[..., *np.triu_indices(dim)]
    drift = random.normal(size=(*shape, dim)) * 0.1
    return [torch.tensor(v, dtype=dtype) for v in (coefficients, quadratic, drift)]


def dense(x, coefficients, quadratic, drift, groups, nyquist=True):
    """Periodic convolution on the unit box, all frequencies, both signs; differentiable."""
    dim = drift.shape[-1]
    x = x.double()
    waves, js, weights = [], [], torch.ones((), dtype=DOUBLE)
    for n in x.shape[2:]:
        j = torch.arange(-(n // 2), n // 2 + 1, dtype=DOUBLE)
        w = torch.ones_like(j)
        if n % 2 == 0 and nyquist:
            w[[0, -1]] = 0.5
        waves.append(torch.exp(2j * torch.pi * torch.outer(torch.arange(n, dtype=DOUBLE) / n, j)))
        js.append(2 * torch.pi * j)
        weights = weights[..., None] * w
    k = torch.stack(torch.meshgrid(*js, indexing="ij"))
    c, q, b = (v.double()[(...,) + (None,) * dim] for v in (coefficients, quadratic, drift))
    pairs = list(zip(*np.triu_indices(dim), strict=True))
    decay = sum(
        (1 if r == s else 2) * q[:, :, :, i] * k[r] * k[s] for i, (r, s) in enumerate(pairs)
    )
    phase = sum(b[:, :, :, a] * k[a] for a in range(dim))
    monomials = [torch.ones_like(k[0]) + 0j, *(1j * v for v in k)]
    monomials += [-(k[r] * k[s]) + 0j for r, s in pairs]
    prefactor = sum(c[:, :, :, p] * monomials[p] for p in range(c.shape[3]))
    symbol = (prefactor * torch.exp(-decay + 1j * phase)).sum(2) * weights
    letters, modes = "uv"[:dim], "jk"[:dim]
    tables = ",".join(u + j for u, j in zip(letters, modes, strict=True))
    spectrum = torch.einsum(
        f"bi{letters},{tables}->bi{modes}", x + 0j, *(w.conj() / len(w) for w in waves)
    )
    spectrum = spectrum.reshape(x.shape[0], groups, -1, *spectrum.shape[2:])
    symbol = symbol.reshape(groups, -1, *symbol.shape[1:])
    mixed = torch.einsum(f"goi{modes},bgi{modes}->bgo{modes}", symbol, spectrum).flatten(1, 2)
    return torch.einsum(f"bo{modes},{tables}->bo{letters}", mixed, *waves).real


def settings_of(shape, groups, tolerance=1e-13, **settings):
    settings = {
        "padding": "periodic",
        "stride": (1,) * len(shape),
        "restriction": "average",
        **settings,
    }
    return Settings(groups, (1.0,) * len(shape), tolerance=tolerance, **settings)


def plan_of(shape, parameters, groups, tolerance=1e-13, **settings):
    wanted = settings_of(shape, groups, tolerance, **settings)
    return plan_for(shape, Parameters(*parameters, groups), wanted)


def fields(shape, seed=1, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=DOUBLE).to(dtype)


def by_dense(x, parameters, groups, g, **options):
    leaves = [v.detach().double().requires_grad_() for v in (x, *parameters)]
    y = dense(*leaves, groups, **options)
    return [y.detach(), *torch.autograd.grad(y, leaves, g.double())]


def by_compiled(x, parameters, groups, g, plan):
    assert compiled.supports(x, parameters[0].shape, plan) is None
    y, spectrum = compiled.forward(x, *parameters, groups, plan)
    return [y, *compiled.backward(g, spectrum, *parameters, groups, plan, (True, True, False))[:4]]


def errors(found, expected):
    return {
        name: float((f.double() - e).norm() / e.norm())
        for name, f, e in zip(NAMES, found, expected, strict=True)
    }


CASES = {
    "square": ((12, 12), 2, (3, 2, 1), 1, 0),
    "half odd": ((10, 14), 3, (2, 3, 1), 1, 0),
    "odd": ((9, 15), 1, (2, 3, 1), 1, 0),
    "odd by even": ((11, 16), 5, (1, 1, 1), 1, 0),
    "one row": ((1, 16), 2, (2, 3, 1), 1, 0),
    "four points": ((4, 6), 2, (2, 2, 1), 1, 0),
    "whole vectors": ((34, 44), 1, (2, 2, 1), 1, 0),
    "two panels": ((8, 140), 1, (1, 2, 1), 1, 0),
    "line": ((18,), 3, (3, 2, 1), 1, 0),
    "line of whole vectors": ((70,), 2, (2, 1, 1), 1, 0),
    "odd line": ((17,), 40, (2, 1, 1), 1, 0),
    "two groups": ((12, 8), 2, (4, 3, 1), 2, 0),
    "depthwise": ((8, 12), 2, (5, 1, 1), 5, 0),
    "depthwise line": ((16,), 2, (6, 1, 1), 3, 0),
    "two terms": ((12, 12), 2, (2, 3, 2), 1, 0),
    "first derivatives": ((12, 14), 2, (2, 2, 1), 1, 1),
    "second derivatives": ((14, 12), 2, (2, 2, 2), 2, 2),
    "second derivatives on a line": ((20,), 2, (2, 2, 2), 1, 2),
    "many channels": ((8, 8), 1, (33, 17, 1), 1, 0),
}


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=["single", "double"])
@pytest.mark.parametrize("case", CASES)
def test_output_and_every_gradient_are_the_dense_ones(case, dtype):
    shape, batch, pairs, groups, degree = CASES[case]
    parameters = kernels(pairs, len(shape), degree, dtype=dtype)
    x = fields((batch, pairs[1] * groups, *shape), dtype=dtype)
    g = fields((batch, pairs[0], *shape), seed=2, dtype=dtype)
    found = by_compiled(x, parameters, groups, g, plan_of(shape, parameters, groups))
    expected = by_dense(x, parameters, groups, g)
    for v, w in zip(found, expected, strict=True):
        assert v.shape == w.shape
        assert v.dtype == dtype
    worst = errors(found, expected)
    assert max(worst.values()) < BOUNDS[dtype], worst


@pytest.mark.parametrize(
    ("change", "unmoved"),
    [
        (lambda c, q, b: (c, q, -b), ()),
        (lambda c, q, b: (c, q * torch.tensor([1.0, -1.0, 1.0]), b), ()),
        (lambda c, q, b: (1.01 * c, q, b), ("coefficients",)),
    ],
    ids=["drift turned", "off-diagonal turned", "amplitude one per cent off"],
)
def test_the_comparison_sees_a_wrong_kernel(change, unmoved):
    shape = (12, 12)
    parameters = kernels((3, 2, 1), 2)
    x, g = fields((2, 2, *shape)), fields((2, 3, *shape), seed=2)
    found = by_compiled(x, parameters, 1, g, plan_of(shape, parameters, 1))
    wrong = errors(found, by_dense(x, change(*parameters), 1, g))
    assert all(e > 1e-3 for name, e in wrong.items() if name not in unmoved), wrong


def test_the_comparison_sees_a_nyquist_mode_counted_twice():
    shape, parameters = (6, 6), kernels((2, 2, 1), 2)
    x, g = fields((2, 2, *shape)), fields((2, 2, *shape), seed=2)
    found = by_compiled(x, parameters, 1, g, plan_of(shape, parameters, 1))
    assert max(errors(found, by_dense(x, parameters, 1, g)).values()) < 1e-12
    assert min(errors(found, by_dense(x, parameters, 1, g, nyquist=False)).values()) > 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "reflect"},
        {"padding": "zero"},
        {"padding": "zero", "stride": (2, 2)},
        {"stride": (2, 1)},
    ],
    ids=str,
)
def test_walls_and_strides_are_those_of_the_torch_path(settings):
    # The torch path is tested against dense extensions of its own.
    parameters = kernels((3, 2, 1), 2)
    plan = plan_of((12, 16), parameters, 1, **settings)
    leaves = [v.requires_grad_() for v in (fields((2, 2, 12, 16)), *parameters)]
    y = mesh_free(*leaves, settings_of((12, 16), 1, path="torch", **settings))
    g = fields(y.shape, seed=2)
    expected = [y.detach(), *torch.autograd.grad(y, leaves, g)]
    bare = [v.detach() for v in leaves]
    found = by_compiled(bare[0], bare[1:], 1, g, plan)
    assert max(errors(found, expected).values()) < 1e-12


def test_truncated_modes_keep_the_tolerance_in_single_precision():
    parameters = kernels((8, 8, 1), 2, dtype=SINGLE, width=(0.04, 0.05))
    x = fields((2, 8, 48, 48), dtype=SINGLE)
    g = fields((2, 8, 48, 48), seed=2, dtype=SINGLE)
    plan = plan_of((48, 48), parameters, 1, tolerance=1e-4)
    assert plan.modes < 48 * 25 / 2  # less than half of all
    worst = errors(by_compiled(x, parameters, 1, g, plan), by_dense(x, parameters, 1, g))
    assert 1e-6 < max(worst.values()) < 1e-4, worst


@pytest.mark.parametrize("ratio", [1.0, 30.0, 1000.0])
def test_thin_kernels_and_far_drifts_keep_single_precision(ratio):
    # |k·b| reaches 1000 turns and kᵀAk has terms of 1e5 that cancel.
    angle = torch.tensor(0.6, dtype=DOUBLE)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    a = turn @ torch.diag(torch.tensor([2e-4, 2e-4 * ratio], dtype=DOUBLE)) @ turn.T
    parameters = [
        torch.ones(1, 1, 1, 1),
        torch.stack([a[0, 0], a[0, 1], a[1, 1]]).reshape(1, 1, 1, 3).float(),
        torch.tensor([17.37, -23.81]).reshape(1, 1, 1, 2),
    ]
    x = fields((1, 1, 64, 64), dtype=SINGLE)
    g = fields((1, 1, 64, 64), seed=2, dtype=SINGLE)
    plan = plan_of((64, 64), parameters, 1, tolerance=1e-9)
    worst = errors(by_compiled(x, parameters, 1, g, plan), by_dense(x, parameters, 1, g))
    assert max(worst.values()) < 1e-5, worst


def small(dtype=SINGLE, shape=(16, 20)):
    parameters = kernels((6, 4, 1), 2, dtype=dtype)
    x = fields((3, 4, *shape), dtype=dtype)
    g = fields((3, 6, *shape), seed=2, dtype=dtype)
    return x, parameters, 1, g, plan_of(shape, parameters, 1)


def test_results_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(by_compiled(*small()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(v, w) for v, w in zip(results[0], other, strict=True))


def test_several_python_threads_may_enter_at_once():
    arguments = small()
    expected = by_compiled(*arguments)
    before = torch.get_num_threads()
    found = []
    try:
        torch.set_num_threads(3)
        callers = [
            threading.Thread(target=lambda: found.append(by_compiled(*arguments))) for _ in range(4)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        torch.set_num_threads(before)
    assert len(found) == 4
    for result in found:
        assert all(torch.equal(v, w) for v, w in zip(expected, result, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_spreads_over_its_image_and_no_other(value):
    x, parameters, groups, g, plan = small()
    x[1, 2, 3, 4] = value
    y, *gradients = by_compiled(x, parameters, groups, g, plan)
    assert not y[1].isfinite().any()
    assert y[[0, 2]].isfinite().all()
    assert gradients[0].isfinite().all()  # by the input: needs the kernels only
    for by in gradients[1:]:
        assert not by[:, 2].isfinite().any()
        assert by[:, [0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("flaw", ["nan", "inf", "grows"])
def test_a_kernel_that_is_none_gives_nan_where_it_is_used(flaw):
    x, (c, q, b), groups, _, plan = small()
    if flaw == "grows":
        q[4, 1] = torch.tensor([1e-3, 2e-3, 1e-3])  # det < 0
    else:
        b[4, 1, 0, 0] = float(flaw)
    y, _ = compiled.forward(x, c, q, b, groups, plan)
    assert y[:, 4].isnan().all()
    assert y[:, [0, 1, 2, 3, 5]].isfinite().all()


@pytest.mark.parametrize("needs", [(True, False, True), (False, True, False), (False, False, True)])
def test_only_the_wanted_gradients_are_made(needs):
    x, parameters, groups, g, plan = small()
    _, *every = by_compiled(x, parameters, groups, g, plan)
    every.append(g.sum(dim=(0, 2, 3)))
    _, spectrum = compiled.forward(x, *parameters, groups, plan)
    found = compiled.backward(g, spectrum, *parameters, groups, plan, needs)
    assert needs[2] is False or torch.allclose(found[4], every[4], rtol=1e-5, atol=1e-5)
    for wanted, v, w in zip((needs[0], *[needs[1]] * 3), found[:4], every[:4], strict=True):
        assert torch.equal(v, w) if wanted else v is None


@pytest.mark.parametrize("settings", [{}, {"padding": "zero"}], ids=str)
def test_a_bias_is_added(settings):
    x, parameters, groups, _, _ = small(DOUBLE)
    plan = plan_of(tuple(x.shape[2:]), parameters, groups, **settings)
    bias = fields((6,), seed=3)
    y, _ = compiled.forward(x, *parameters, groups, plan)
    shifted, _ = compiled.forward(x, *parameters, groups, plan, bias)
    torch.testing.assert_close(shifted, y + bias[:, None, None], rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(10, 12), (9, 12), (14,)], ids=str)
def test_the_spectrum_is_that_of_the_torch_path(shape):
    parameters = kernels((2, 3, 1), len(shape))
    plan = plan_of(shape, parameters, 1)
    x = fields((2, 3, *shape))
    _, spectrum = compiled.forward(x, *parameters, 1, plan)
    expected = analyse(x.reshape(6, *shape), plan)
    found = compiled.modes(spectrum, plan)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_fields_need_not_be_contiguous():
    x, parameters, groups, g, plan = small(shape=(16, 16))
    turned = x.transpose(2, 3)
    found = by_compiled(turned, parameters, groups, g.transpose(2, 3), plan)
    again = by_compiled(
        turned.contiguous(), parameters, groups, g.transpose(2, 3).contiguous(), plan
    )
    assert all(torch.equal(v, w) for v, w in zip(found, again, strict=True))


@pytest.mark.parametrize(
    ("x", "shape", "reason"),
    [
        (fields((1, 2, 8, 8)).half(), (3, 2, 1, 1), "float16"),
        (fields((1, 2, 8, 8)).to("meta"), (3, 2, 1, 1), "meta"),
        (fields((0, 2, 8, 8)), (3, 2, 1, 1), "nothing"),
    ],
    ids=["half precision", "another device", "no fields"],
)
def test_what_is_not_supported_has_a_reason(x, shape, reason):
    plan = plan_of((8, 8), kernels((3, 2, 1), 2), 1)
    assert reason in compiled.supports(x, shape, plan)
    assert compiled.supports(fields((1, 2, 8, 8)), shape, plan) is None


def test_three_dimensions_are_left_to_torch():
    plan = plan_of((6, 6, 6), kernels((2, 2, 1), 3), 1)
    assert "dimensions" in compiled.supports(fields((1, 2, 6, 6, 6)), (2, 2, 1, 1), plan)


@pytest.fixture
def fresh_modules():
    compiled._found.cache_clear()
    yield
    compiled._found.cache_clear()


@pytest.mark.usefixtures("fresh_modules")
def test_without_numba_there_is_a_reason_and_no_error(monkeypatch):
    import gradconv.nn.engine

    for name in ("numba_mixing", "numba_transform"):
        monkeypatch.delitem(sys.modules, f"gradconv.nn.engine.{name}", raising=False)
        monkeypatch.delattr(gradconv.nn.engine, name, raising=False)
    monkeypatch.setitem(sys.modules, "gradconv.nn.engine.numba_mixing", None)
    found, reason = compiled.available()
    assert not found
    assert "numba" in reason
    plan = plan_of((8, 8), kernels((3, 2, 1), 2), 1)
    assert compiled.supports(fields((1, 2, 8, 8)), (3, 2, 1, 1), plan) == reason


def test_a_folder_that_cannot_be_written_to_costs_only_the_cache(monkeypatch):
    asked = []

    def njit(cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba_tiles, "njit", njit)
    assert numba_tiles.kernel(numba_tiles.FAST, cached=True)(len) is len
    assert asked == [True, False]


@pytest.mark.parametrize("shape", [(1, 1, 8), (25, 7, 40), (13, 33, 136), (4, 2, 56), (8, 5, 16)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_tiles(shape, dtype):
    m, k, n = shape
    random = np.random.default_rng(0)
    a, b = random.normal(size=(k, m)).astype(dtype), random.normal(size=(k, n)).astype(dtype)
    c = np.full((m + 1, n), 7.0, dtype)
    numba_tiles.product(a.ravel(), 0, 1, m, b.ravel(), 0, n, c.reshape(-1), 0, n, m, k, n)
    np.testing.assert_allclose(c[:m], a.T @ b, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-13)
    assert (c[m] == 7.0).all()  # nothing beyond the last row


@pytest.mark.parametrize(("dtype", "bound"), [(SINGLE, 6e-6), (DOUBLE, 2e-14)], ids=str)
@pytest.mark.parametrize("width", [0.004, 0.02, 2.0])
def test_exponentials_follow_from_row_to_row(dtype, bound, width):
    # Two hundred rows of a tilted kernel, from those that hardly fall to those that fall at once.
    rows, eight = 200, np.arange(8.0)
    j1, j2 = np.repeat(np.arange(-100.0, 100.0), 8), np.tile(16 + eight, rows)
    a11, a12, a22 = width**2 * np.array([1.0, 0.6, 0.8]) / 2.0
    b1, b2 = 0.3, -0.07
    k1, k2 = 2.0 * np.pi * j1, 2.0 * np.pi * j2
    expected = np.exp(-(a11 * k1**2 + 2 * a12 * k1 * k2 + a22 * k2**2) + 1j * (b1 * k1 + b2 * k2))
    kind = np.float32 if dtype == SINGLE else np.float64
    prepared = np.empty((1, numba_exponentials.PREPARED), kind)
    quadratic, drift = np.array([[a11, a12, a22]]), np.array([[b1, b2]])
    together = numba_exponentials.rows_together(prepared.itemsize)
    numba_exponentials.prepare(quadratic, drift, 1.0, 1.0, together, prepared)
    found = {}
    for in_columns in (True, False):
        x, z = np.zeros((2, 1, 1, 2, len(j1)), kind)
        x[0, 0, 0] = 1.0
        cuts = np.arange(0, len(j1) + 1, 320)
        numba_mixing.mix(
            x, prepared.reshape(1, 1, 1, -1), np.ones((1, 1, 1, 1), kind), 1,
            j1.astype(kind), j2.astype(kind), cuts, in_columns, z, 0, len(cuts) - 1,
        )  # fmt: skip
        found[in_columns] = z[0, 0, 0] + 1j * z[0, 0, 1]
    for values in found.values():
        assert np.abs(values - expected).max() <= bound
    # Kernels that fall steeply are computed mode by mode, and only they.
    assert (np.abs(found[True] - found[False]).max() == 0.0) == (width == 2.0)
