"""Public strategies of problems and networks: valid, wide, and readable once shrunk."""

from __future__ import annotations

import traceback
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategy_sampling import Corners, missing, sample, simplest

from gradconv import Problem, sweep
from gradconv.errors import InputError
from gradconv.kernels import KernelOptions
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.problem import REGISTERED
from gradconv.restriction import BOUNDARIES
from gradconv.testing import strategies as gst

DRAWN = {a: [w for w in r.names if (a, w) != ("signal", "image")] for a, r in REGISTERED.items()}
# A sweep needs 4 levels.
SMALL = st.one_of(
    gst.hierarchies(1, st.integers(4, 20), 4),
    gst.hierarchies(2, st.integers(4, 9), 4),
    gst.hierarchies(3, 4, 4),
)

# Problems

PROBLEM_CORNERS: Corners = {
    **{
        f"{argument} {name}": lambda p, a=argument, n=name: getattr(p, a).name == n
        for argument, names in DRAWN.items()
        for name in names
    },
    **{f"dim {d}": lambda p, d=d: p.dim == d for d in (1, 2, 3)},
    **{f"boundary {b}": lambda p, b=b: p.boundary == b for b in BOUNDARIES},
    **{f"channels {c}": lambda p, c=c: p.channels == c for c in (1, 2)},
    "refinement": lambda p: p.setting == "refinement",
    "direct route": lambda p: p.route == "direct",
    "noise that needs u >= 0": lambda p: p.noise.name == "poisson" and p.signal.name == "cartoon",
    "noise on a random signal": lambda p: p.noise.name != "none" and p.signal.random,
    "weights": lambda p: p.options.weights is not None,
    "diffusivity": lambda p: p.options.diffusivity is not None,
    "drift": lambda p: p.options.drift is not None,
}


def rejected(strategy: st.SearchStrategy[Any], count: int) -> float:
    """Share of draws that a filter rejects; Hypothesis's own cut-off variants do not count."""
    begun, refused = [], []

    @st.composite
    def counting(draw: st.DrawFn) -> None:
        begun.append(1)
        try:
            draw(strategy)
        except BaseException as stop:  # Hypothesis ends a draw by an exception of its own
            if "mark_invalid" in {frame.name for frame in traceback.extract_tb(stop.__traceback__)}:
                refused.append(1)
            raise

    sample(counting(), count)
    return len(refused) / len(begun)


def test_problems_cover_the_corners() -> None:
    assert missing(gst.problems(), PROBLEM_CORNERS, 500) == []
    flat = missing(gst.problems(dim=2), PROBLEM_CORNERS, 100)  # negative control
    assert {"dim 1", "dim 3"} <= set(flat)


def test_problems_are_hardly_ever_rejected() -> None:
    assert rejected(gst.problems(), 100) < 0.05
    lame = gst.problems().filter(lambda p: p.restriction.name == "spectral")  # negative control
    assert rejected(lame, 8) > 0.3


@settings(max_examples=40)
@given(gst.placed_problems(hierarchy=SMALL))
def test_problems_can_be_swept(placed: tuple[Problem, MeshHierarchy]) -> None:
    problem, hierarchy = placed
    result = sweep(problem, hierarchy, replicates=2)
    gradients = result.sample.gradients
    assert gradients.shape[1:] == (len(hierarchy), problem.convolution.theta.size)
    assert np.all(np.isfinite(gradients))


@settings(max_examples=100)
@given(gst.problems())
def test_problems_print_as_the_call_that_makes_them(problem: Problem) -> None:
    again = eval(repr(problem), {"Problem": Problem, "KernelOptions": KernelOptions})
    assert again == problem
    assert again.describe() == problem.describe()
    assert np.array_equal(again.convolution.theta, problem.convolution.theta)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (lambda p: p.noise.name == "pixel", "Problem('stencil', noise='pixel:0.5', dim=1)"),
        (
            lambda p: p.signal.name == "photograph",
            "Problem('stencil', signal='photograph:astronaut')",
        ),
        (lambda p: p.route == "direct", "Problem('stencil', dim=1, route='direct')"),
    ],
    ids=["pixel", "photograph", "direct"],
)
def test_problems_shrink_to_few_words(condition: Any, expected: str) -> None:
    plain = gst.problems(kernel="stencil", options=KernelOptions(), target="identity")
    assert repr(simplest(plain, condition)) == expected


def test_failing_problems_are_printed_as_calls() -> None:
    @settings(max_examples=5, database=None, phases=[Phase.generate])
    @given(gst.placed_problems(noise="pixel:0.5", hierarchy=MeshHierarchy(1, (4, 8))))
    def wrong(placed: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        wrong()
    notes = "".join(caught.value.__notes__)
    assert "Problem('stencil:3', noise='pixel:0.5', dim=1)" in notes


def test_what_is_given_is_kept() -> None:
    found = sample(
        gst.placed_problems(
            noise=gst.noises("poisson"),
            setting="refinement",
            dim=st.sampled_from((1, 2)),
            channels=3,
        ),
        60,
    )
    assert {p.noise.name for p, _ in found} == {"poisson"}
    assert {p.signal.name for p, _ in found} == {"cartoon"}  # photographs cannot be refined
    assert {p.dim for p, _ in found} == {1, 2} == {h.dim for _, h in found}
    assert {p.channels for p, _ in found} == {3}
    spectral = [p for p, _ in sample(gst.placed_problems(kernel="spectral:1"), 40)]
    assert {p.boundary for p in spectral} == {"periodic"}
    kernel = Problem("mfc", dim=3).convolution
    assert {p.convolution for p in sample(gst.problems(kernel=kernel), 10)} == {kernel}


# Networks

MODULE_CORNERS: Corners = {
    **{f"dim {d}": lambda m, d=d: shape_of(m)[0] == d for d in (1, 2, 3)},
    **{
        name: lambda m, name=name: any(type(part).__name__.startswith(name) for part in m)
        for name in ("Conv", "MeshFreeConv", "GroupNorm", "BatchNorm", "Tanh", "ReLU", "SiLU")
    },
    "zero padding": lambda m: any("zero" in getattr(part, "padding_mode", "") for part in m),
    "periodic": lambda m: any(
        getattr(part, "padding_mode", "") in ("circular", "periodic") for part in m
    ),
    "derivatives": lambda m: any(getattr(part, "derivatives", 0) == 2 for part in m),
    "without bias": lambda m: getattr(m[0], "bias", None) is None,
    "three layers": lambda m: sum("Conv" in type(part).__name__ for part in m) == 3,
}


def shape_of(module: torch.nn.Sequential) -> tuple[int, int]:
    """Dimension and input channels."""
    weight = next(module[0].parameters())
    dim = int(type(module[0]).__name__[-2])
    return dim, weight.shape[1]


def test_modules_cover_the_corners() -> None:
    assert missing(gst.modules(), MODULE_CORNERS, 200) == []
    standard = missing(gst.modules(mesh_free=False), MODULE_CORNERS, 150)
    assert standard == ["MeshFreeConv", "derivatives"]
    for module in sample(gst.modules(mesh_free=True, padding="periodic"), 30):
        assert all(set(getattr(part, "kernel_size", {1})) == {1} for part in module)
        assert any(hasattr(part, "physical") for part in module)


@settings(max_examples=30)
@given(gst.modules(in_channels=2, out_channels=3), st.data())
def test_modules_run_and_are_differentiable(
    module: torch.nn.Sequential, data: st.DataObject
) -> None:
    dim, channels = shape_of(module)
    mesh = data.draw(gst.meshes(dim, min_n=8, max_size=10**3))
    x = torch.from_numpy(data.draw(gst.fields(mesh, channels=channels, batch=2)))
    y = module(x)
    assert y.shape == (2, 3, *mesh.shape)
    assert y.dtype == torch.float64
    y.square().sum().backward()
    gradients = [p.grad for p in module.parameters()]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


def test_networks_are_reproducible_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    layers = ("conv:3", "mesh-free:2", "pointwise")
    first, again = (gst.network(layers, norm="batch", seed=4) for _ in range(2))
    other = gst.network(layers, norm="batch", seed=5)
    sample(gst.modules(), 20)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_simplest_networks() -> None:
    plain = simplest(gst.modules())
    assert [type(part) for part in plain] == [torch.nn.Conv1d]
    assert (plain[0].kernel_size, plain[0].padding_mode) == ((3,), "circular")
    free = simplest(gst.modules(mesh_free=True))
    assert [type(part).__name__ for part in free] == ["MeshFreeConv1d"]


# What cannot be drawn


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (gst.noises("pixle"), "`noise` must be one of .*did you mean 'pixel'"),
        (gst.noises("none", sigma=1.0), "`noise` none takes no values; got sigma"),
        (gst.noises(colour=1), "`noise` must have a choice with"),
        (gst.noises("pixel", sigma=-1.0), "`noise` pixel: sigma must be positive"),
        (gst.noises("poisson", signal_range=(-1.0, 1.0)), "nowhere negative"),
        (gst.signals("image"), "`signal` image needs path"),
        (gst.signals("plane-wave", mesh=Mesh(1, 4)), "2\\*modes < n"),
        (gst.restrictions("spectral", boundary="zero"), "needs boundary periodic"),
        (gst.meshes(4), "`dim` must be 1, 2 or 3"),
        (gst.meshes(3, min_n=20), "`max_size` must allow 20 cells"),
        (gst.hierarchies(1, coarsest=4000), "`max_size` must allow 8000 cells"),
        (gst.stencils(1, 4), "`size` must be odd"),
        (gst.mfc_parameters(resolved=True), "`resolved` needs a `mesh`"),
        (gst.mfc_parameters(widths=(0.2, 0.1)), "`widths` must be positive and increase"),
        (gst.mfc_parameters(mesh=Mesh(1, 2), resolved=True), "must hold resolved ones"),
        (gst.mfc_parameters(mesh=Mesh(1, 512), resolved=False), "must hold unresolved ones"),
        (gst.problems(kernal="mfc"), "must be one of .*did you mean 'kernel'"),
        (gst.problems(signal="photograph", setting="refinement"), "`setting` refinement needs"),
        (gst.problems(noise="poisson", signal="sobolev"), "nowhere negative"),
        (gst.modules(mesh_free=True, layers=("conv:3",)), "`mesh_free` must be None"),
        (gst.modules(norm="layer"), "`norm` must be one of"),
        (gst.modules(layers=("conv:2",)), "`layers` must be one of"),
        (gst.modules(layers=()), "`layers` must name at least one"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_contradictions_are_input_errors(strategy: st.SearchStrategy[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simplest(strategy)


def test_ranges_must_increase() -> None:
    with pytest.raises(InputError, match="`low` must not exceed `high`; got 2 and 1"):
        gst.round_numbers(2.0, 1.0)


def test_draws_are_reproducible() -> None:
    """Nothing but Hypothesis decides what is drawn."""
    first, again = (sample(gst.placed_problems(), 30) for _ in range(2))
    assert first == again
    assert first != sample(gst.placed_problems(dim=2), 30)  # negative control
