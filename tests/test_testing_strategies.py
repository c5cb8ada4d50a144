"""Public strategies of words, meshes and parameters: valid, wide, and readable once shrunk."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_sampling import Corners, missing, sample, simplest

from gradconv import Problem
from gradconv.fields import NOISES, SIGNALS
from gradconv.fields.noise import NoNoise
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.problem import REGISTERED
from gradconv.testing import strategies as gst

WORDS = {
    "signal": gst.signals,
    "target": gst.targets,
    "noise": gst.noises,
    "restriction": gst.restrictions,
    "kernel": gst.kernels,
}
# What has no default value cannot be drawn: a file.
DRAWN = {a: [w for w in r.names if (a, w) != ("signal", "image")] for a, r in REGISTERED.items()}
SMALL = gst.hierarchies(min_n=4, max_levels=3, max_size=600)

# Words of the command line


@pytest.mark.parametrize("argument", sorted(WORDS))
@pytest.mark.parametrize("extreme", [False, True])
def test_words_parse_and_reach_every_name(argument: str, extreme: bool) -> None:
    options = {} if argument == "restriction" else {"extreme": extreme}
    registry = REGISTERED[argument]
    found = sample(WORDS[argument](**options), 200)
    for word in found:
        choice = registry.parse(word)
        assert registry.parse(choice.spec) == choice
    assert {word.partition(":")[0] for word in found} == set(DRAWN[argument])


@pytest.mark.parametrize("argument", sorted(WORDS))
def test_every_field_varies(argument: str) -> None:
    registry = REGISTERED[argument]
    for name in DRAWN[argument]:
        found = [registry.parse(word) for word in sample(WORDS[argument](name), 40)]
        for field in dataclasses.fields(registry[name]):
            assert len({getattr(choice, field.name) for choice in found}) > 2, field


def test_extreme_sizes_are_reached_where_they_are_allowed() -> None:
    corners: Corners = {
        "smallest": lambda word: NOISES.parse(word).sigma == 1e-9,
        "largest": lambda word: NOISES.parse(word).sigma == 1e6,
    }
    assert missing(gst.noises("pixel", extreme=True), corners, 100) == []
    assert missing(gst.noises("pixel"), corners, 100) == list(corners)  # negative control


def test_registered_choices_are_picked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new noise needs no edit here, whatever its fields and rules are called."""

    @dataclasses.dataclass(frozen=True)
    class Brand(NoNoise):
        width_of_its_own: float = 0.25
        holes: int = 3
        colour: str = "pink"

        def __post_init__(self) -> None:
            self.require(0.1 <= self.width_of_its_own <= 0.5, "width must lie in 0.1 to 0.5")
            self.require(self.holes != 4, "4 holes are forbidden")

    assert not any(word.startswith("brand") for word in sample(gst.noises(), 200))
    monkeypatch.setitem(NOISES._classes, "brand", Brand)
    monkeypatch.setattr(Brand, "name", "brand")
    monkeypatch.setitem(Brand.__init__.__globals__, "Brand", Brand)
    found = [w for w in sample(gst.noises(), 400) if w.startswith("brand")]
    assert len({NOISES.parse(w).width_of_its_own for w in found}) > 2
    assert len({NOISES.parse(w).holes for w in found}) > 2
    assert simplest(gst.noises("brand")) == "brand:0.25"
    placed = sample(gst.placed_problems(noise=gst.noises("brand"), hierarchy=SMALL), 5)
    assert all(problem.noise.name == "brand" for problem, _ in placed)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (gst.signals(), "sobolev:3"),
        (gst.targets(), "identity"),
        (gst.noises(), "none"),
        (gst.noises("pixel"), "pixel:0.5"),
        (gst.noises("matern"), "matern:1.5:0.1"),
        (gst.noises(gaussian=False), "poisson:30"),
        (gst.restrictions(), "average"),
        (gst.restrictions(nested=False), "bilinear"),
        (gst.kernels(), "stencil:3"),
        (gst.kernels("gaussian-derivative"), "gaussian-derivative:2"),
        (gst.settings(), "coarsening"),
        (gst.boundaries(), "periodic"),
        (gst.routes(), "chain"),
        (gst.dims(), 1),
        (gst.round_numbers(0.01, 2.0), 1.0),
        (gst.round_numbers(-3.0, 2.0), 0.0),
        (gst.meshes(), Mesh(1, 2)),
        (gst.meshes(dim=2, min_n=5, even=True), Mesh(2, 6)),
        (gst.hierarchies(), MeshHierarchy(1, (2, 4))),
        (gst.waves(2), gst.Waves((((0, 0), 1.0, 0.0),))),
    ],
)
def test_simplest_draw(strategy: st.SearchStrategy[Any], expected: Any) -> None:
    assert simplest(strategy) == expected


def sigma_above(bound: float) -> Callable[[str], bool]:
    return lambda word: getattr(NOISES.parse(word), "sigma", 0.0) > bound


@pytest.mark.parametrize(
    ("strategy", "condition", "expected"),
    [
        (gst.noises("pixel"), sigma_above(0.7), "pixel:1"),
        (gst.noises("pixel"), sigma_above(1.2), "pixel:2"),
        (gst.noises("pixel"), lambda w: 0.21 < NOISES.parse(w).sigma < 0.23, "pixel:0.22"),
        (gst.signals("band-limited"), lambda w: SIGNALS.parse(w).modes > 8, "band-limited:9"),
        (gst.meshes(), lambda mesh: mesh.dim == 2 and mesh.n > 10, Mesh(2, 11)),
        (gst.hierarchies(), lambda h: len(h) > 2 and h.sizes[0] % 2, MeshHierarchy(1, (3, 6, 12))),
        (gst.waves(1), lambda w: w.modes > 1, gst.Waves((((2,), 1.0, 0.0),))),
    ],
)
def test_failures_shrink_to_round_values(strategy: Any, condition: Any, expected: Any) -> None:
    assert simplest(strategy, condition) == expected


def test_arguments_are_values_or_strategies() -> None:
    two = st.sampled_from(("pixel", "white"))
    found = sample(gst.noises(two, sigma=st.sampled_from((0.3, 0.7))), 60)
    assert set(found) == {"pixel:0.3", "pixel:0.7", "white:0.3", "white:0.7"}
    names = {word.partition(":")[0] for word in sample(gst.noises(sigma=0.3), 100)}
    assert names == {n for n in NOISES.names if "sigma" in NOISES[n].__dataclass_fields__}
    meshes = st.sampled_from((Mesh(1, 8), Mesh(2, 8)))
    found = [SIGNALS.parse(word) for word in sample(gst.signals(mesh=meshes), 100)]
    assert max(signal.modes for signal in found if hasattr(signal, "modes")) == 3
    assert sample(gst.signals("image", path="a=b:c.npy"), 1) == ["image:a=b:c.npy"]
    assert {SIGNALS.parse(w).refinable for w in sample(gst.signals(refinable=False), 20)} == {False}


# Meshes and fields

MESH_CORNERS: Corners = {
    **{f"dim {d}": lambda mesh, d=d: mesh.dim == d for d in (1, 2, 3)},
    "odd": lambda mesh: mesh.n % 2 == 1,
    "even": lambda mesh: mesh.n % 2 == 0 and mesh.n > 2,
    "two cells": lambda mesh: mesh.n == 2,
    "fine": lambda mesh: mesh.size > 2000,
}
HIERARCHY_CORNERS: Corners = {
    **{f"dim {d}": lambda h, d=d: h.dim == d for d in (1, 2, 3)},
    **{f"{n} levels": lambda h, n=n: len(h) == n for n in (2, 3, 4, 5)},
    "odd coarsest mesh": lambda h: h.sizes[0] % 2 == 1,
    "powers of two": lambda h: h.sizes[-1].bit_count() == 1,
}


@pytest.mark.parametrize(
    ("strategy", "mutilated", "corners"),
    [
        (gst.meshes(), gst.meshes(even=True), MESH_CORNERS),
        (gst.meshes(), gst.meshes(max_size=1000), MESH_CORNERS),
        (gst.hierarchies(), gst.hierarchies(levels=3), HIERARCHY_CORNERS),
        (gst.hierarchies(), gst.hierarchies(coarsest=4), HIERARCHY_CORNERS),
    ],
)
def test_meshes_cover_the_corners(strategy: Any, mutilated: Any, corners: Corners) -> None:
    assert missing(strategy, corners, 200) == []
    assert missing(mutilated, corners, 200) != []  # negative control


@settings(max_examples=60)
@given(
    st.integers(1, 3),
    st.integers(2, 6),
    st.integers(2, 4),
    st.integers(4**3 * 2**12, 2**20),
    st.data(),
)
def test_hierarchies_keep_their_bounds(
    dim: int, least: int, longest: int, largest: int, data: st.DataObject
) -> None:
    levels = {"min_n": least, "max_levels": longest, "max_size": largest}
    hierarchy = data.draw(gst.hierarchies(dim, **levels))
    assert hierarchy.dim == dim
    assert hierarchy.sizes[0] >= least
    assert len(hierarchy) <= longest
    assert hierarchy.finest.size <= largest
    mesh = data.draw(gst.meshes(dim, min_n=least, max_size=largest, even=False))
    assert mesh.n % 2 == 1
    assert mesh.n >= least
    assert mesh.size <= largest


@settings(max_examples=50)
@given(st.data())
def test_band_limited_fields_are_one_function_on_all_meshes(data: st.DataObject) -> None:
    """Where meshes share points they agree, and no mode lies beyond the band."""
    wave = data.draw(gst.waves(modes=3))
    assert eval(repr(wave), {"Waves": gst.Waves}) == wave
    coarse = data.draw(gst.meshes(wave.dim, min_n=7, max_size=10**3))
    fine = Mesh(coarse.dim, 2 * coarse.n)
    every_second = wave.on(fine)[(slice(None, None, 2),) * wave.dim]
    assert np.abs(every_second - wave.on(coarse)).max() < 1e-12
    distance = (0.5 * coarse.h,) * wave.dim
    assert np.abs(wave.shifted(distance).on(coarse) - wave.on(coarse, "cell")).max() < 1e-12
    modes = np.abs(np.fft.fftn(wave.on(coarse))) / coarse.size
    j = np.abs(np.fft.fftfreq(coarse.n, coarse.h)).round()
    beyond = np.any([a > wave.modes for a in np.meshgrid(*[j] * wave.dim, indexing="ij")], axis=0)
    assert modes[beyond].max(initial=0.0) < 1e-12


def test_fields_are_smooth_or_white() -> None:
    mesh = Mesh(2, 5)
    white = sample(gst.fields(mesh, channels=2, batch=3), 100)
    assert {field.shape for field in white} == {(3, 2, 5, 5)}
    corners: Corners = {
        "impulse": lambda f: np.count_nonzero(f) == 6,
        "noise": lambda f: np.count_nonzero(f) > 100,
    }
    assert missing(gst.fields(mesh, channels=2, batch=3), corners, 100) == []
    assert missing(gst.fields(mesh, channels=2, batch=3, modes=2), corners, 100) == ["impulse"]
    assert np.array_equal(simplest(gst.fields(Mesh(1, 4))), [[1.0, 0.0, 0.0, 0.0]])
    assert np.array_equal(simplest(gst.fields(Mesh(1, 4), modes=1)), np.ones((1, 4)))


# Parameters of kernels

STENCIL_CORNERS: Corners = {
    **{f"size {n}": lambda w, n=n: w.shape[-1] == n for n in (1, 3, 5, 7)},
    **{f"dim {d}": lambda w, d=d: w.ndim == d + 2 for d in (1, 2, 3)},
    "even": lambda w: w.size > 1 and np.array_equal(w, w[..., ::-1]),
    "not symmetric": lambda w: not np.array_equal(w, w[..., ::-1]),
    "all weights": lambda w: w.size > 1 and np.count_nonzero(w) == w.size,
    "negative": lambda w: w.min() < 0,
}


def test_stencils_cover_the_corners() -> None:
    assert missing(gst.stencils(), STENCIL_CORNERS, 150) == []
    assert missing(gst.stencils(size=3), STENCIL_CORNERS, 150) == ["size 1", "size 5", "size 7"]
    assert np.array_equal(simplest(gst.stencils()), [[[0.0, 1.0, 0.0]]])
    moved = simplest(gst.stencils(1), lambda w: not np.array_equal(w, w[..., ::-1]))
    assert np.count_nonzero(moved) == 2
    wide = sample(gst.stencils(2, 5, out_channels=2, in_channels=3), 20)
    assert {w.shape for w in wide} == {(2, 3, 5, 5)}


def anisotropy(parameters: gst.MFCParameters) -> float:
    return max(max(w) / min(w) for row in parameters.widths for w in row)


def tilt(parameters: gst.MFCParameters) -> float:
    a = parameters.diffusion
    return float(np.abs(a - np.einsum("...ii->...i", a)[..., None] * np.eye(a.shape[-1])).max())


MFC_CORNERS: Corners = {
    **{f"dim {d}": lambda p, d=d: p.dim == d for d in (1, 2, 3)},
    "isotropic": lambda p: p.dim > 1 and anisotropy(p) == 1.0,
    "strongly anisotropic": lambda p: anisotropy(p) >= 20.0,
    "oblique": lambda p: tilt(p) > 1e-4,
    "no drift": lambda p: not np.any(p.drift),
    "drift of many cells": lambda p: np.abs(p.drift).max() > 0.2,
    "narrow": lambda p: np.min([w for row in p.widths for w in row[0]]) < 0.01,
    "wide": lambda p: np.max([w for row in p.widths for w in row[0]]) > 0.25,
    "no amplitude": lambda p: not np.any(p.amplitude),
}


def test_mesh_free_parameters_cover_the_corners() -> None:
    assert missing(gst.mfc_parameters(), MFC_CORNERS, 300) == []
    tame = gst.mfc_parameters(max_anisotropy=3.0)
    assert missing(tame, MFC_CORNERS, 300) == ["strongly anisotropic"]
    pair = gst.MFCParameters(((1.0,),), (((0.1, 0.1),),), (((0.0,),),), (((0.0, 0.0),),))
    assert simplest(gst.mfc_parameters(2)) == pair
    one = simplest(gst.mfc_parameters(1, widths=(0.2, 0.3)))
    assert one.widths == (((0.2,),),)


@settings(max_examples=80)
@given(gst.mfc_parameters(out_channels=st.integers(1, 2), in_channels=st.integers(1, 2)))
def test_mesh_free_parameters_are_what_they_say(parameters: gst.MFCParameters) -> None:
    """Eigenvalues of 2A are the squared widths; the text makes an equal value."""
    assert eval(repr(parameters), {"MFCParameters": gst.MFCParameters}) == parameters
    kernel = parameters.kernel()
    assert (kernel.out_channels, kernel.in_channels) == np.array(parameters.amplitude).shape
    widths = np.sqrt(2 * np.linalg.eigvalsh(kernel.diffusion))
    expected = np.sort(np.array(parameters.widths), axis=-1)
    assert np.abs(widths - expected).max() < 1e-7
    if kernel.out_channels == kernel.in_channels:
        problem = Problem(
            "mfc", dim=kernel.dim, channels=kernel.in_channels, options=parameters.options()
        )
        assert np.array_equal(problem.convolution.theta, kernel.theta)


@pytest.mark.parametrize("resolved", [True, False, None])
@pytest.mark.parametrize("mesh", [Mesh(1, 16), Mesh(2, 13), Mesh(3, 32)])
def test_resolved_or_not_as_asked(resolved: bool | None, mesh: Mesh) -> None:
    pairs = {"out_channels": 2, "in_channels": 2}
    found = sample(gst.mfc_parameters(mesh=mesh, resolved=resolved, **pairs), 60)
    said = {p.kernel().unresolved(mesh.h) is None for p in found}
    assert said == ({resolved} if resolved is not None else {True, False})


def test_missing_hypothesis_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "gradconv.testing.strategies"
    for module in [m for m in sys.modules if m.startswith((name, "hypothesis"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "gradconv\[testing\]"'):
        importlib.import_module(name)
