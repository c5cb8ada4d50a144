"""Tasks: their physics on one mesh, and from mesh to mesh."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from multilevel_data import waves
from scipy import ndimage

from gradconv import InputError, MeshHierarchy
from gradconv.backend import Backend
from gradconv.multilevel import MultilevelGradient
from gradconv.restriction import RESTRICTIONS
from gradconv.samplers import NoisySampler
from gradconv.train.networks import build_network
from gradconv.train.tasks import TASKS

SPECS = (
    "denoise",
    "denoise:0.05:0.2",
    "deblur",
    "deblur:0.1:0.0",
    "inpaint",
    "inpaint:0.4:0.3:0.5",
    "superres",
    "superres:0.1",
)
LEVELS = MeshHierarchy.powers_of_two(2, 3, 5)
TORCH = Backend(library="torch")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _image(n: int, channels: int = 1, dim: int = 2, dtype: torch.dtype = torch.float64) -> Any:
    return torch.rand(1, channels, *(n,) * dim, generator=_generator(7), dtype=dtype)


def _restricted(x: torch.Tensor, name: str = "average", factor: int = 2) -> torch.Tensor:
    return RESTRICTIONS.parse(name).restrict(x, x.ndim - 2, factor, backend=TORCH)


def _smooth(n: int, dim: int = 2) -> torch.Tensor:
    """Modes up to 3 of a random field, the same on every mesh; points at vertices."""
    rng = np.random.default_rng(5)
    x = np.arange(n) / n
    field = np.zeros((n,) * dim)
    for j in np.ndindex((7,) * dim):
        phase = rng.uniform(0, 2 * np.pi)
        wave: Any = phase
        for axis, a in enumerate(j):
            wave = wave + 2 * np.pi * (a - 3) * x.reshape(
                [-1 if b == axis else 1 for b in range(dim)]
            )
        field = field + np.cos(wave)
    return torch.from_numpy(field)[None, None]


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("spec", SPECS)
def test_what_every_task_keeps(spec: str, dim: int) -> None:
    task = TASKS.parse(spec)
    assert TASKS.parse(task.spec) == task
    for dtype in (torch.float32, torch.float64):
        clean = _image(8, 3, dim, dtype)
        before, state = clean.clone(), torch.random.get_rng_state()
        made = task.corrupt(clean, _generator(1))
        assert made.dtype == dtype
        assert made.shape == (1, task.inputs(3), *(task.input_size(8),) * dim)
        assert torch.equal(clean, before)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(made, task.corrupt(clean, _generator(1)))
        still = spec in ("superres", "deblur:0.1:0.0")
        assert torch.equal(made, task.corrupt(clean, _generator(2))) == still


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("denoise:0", "sigma must be positive"),
        ("denoise:-0.1:0.2", "sigma must not be negative"),
        ("denoise:0.2:0.1", "upper must be 0, or more than sigma"),
        ("denoise:nan", "sigma must be finite"),
        ("deblur:0", "width must be positive and at most the box"),
        ("deblur:1.5", "width must be positive and at most the box"),
        ("deblur:0.1:-1", "sigma must not be negative"),
        ("inpaint:0", "fraction must lie between 0 and 1"),
        ("inpaint:1", "fraction must lie between 0 and 1"),
        ("inpaint:0.5:1", "side must lie between 0 and 1"),
        ("inpaint:0.5:0.001", "at most 10000 boxes"),
        ("inpaint:0.5:0.1:inf", "value must be finite"),
        ("superres:-0.1", "sigma must not be negative"),
    ],
)
def test_values_out_of_range(spec: str, rule: str) -> None:
    with pytest.raises(InputError, match=f"`task` {spec.split(':')[0]}: .*{rule}.*; got '"):
        TASKS.parse(spec)


def test_images_that_are_none() -> None:
    with pytest.raises(InputError, match=r"`task` must be one of deblur.* did you mean 'denoise'"):
        TASKS.parse("denoize")
    for bad in (torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 6), torch.zeros(1, 1, 8, 8).long()):
        for spec in SPECS:
            with pytest.raises(InputError, match=r"`clean` must be one real image .*; got torch"):
                TASKS.parse(spec).corrupt(bad, _generator())
    with pytest.raises(InputError, match="superres needs targets of sizes divisible by 2; got 9"):
        TASKS.parse("superres").corrupt(_image(9), _generator())


def test_noise_of_one_level_has_its_deviation() -> None:
    clean = _image(256)
    noise = TASKS.parse("denoise:0.3").corrupt(clean, _generator(3)) - clean
    # 65 536 independent values: 5 standard errors, a false alarm of 6e-7
    assert float(noise.std()) == pytest.approx(0.3, rel=5 / math.sqrt(2 * 256**2))
    assert abs(float(noise.mean())) < 5 * 0.3 / 256
    neighbours = float((noise[..., 1:] * noise[..., :-1]).mean()) / 0.09
    assert abs(neighbours) < 5 / 256


def test_noise_of_a_random_level_says_its_level() -> None:
    task, clean = TASKS.parse("denoise:0.1:0.4"), _image(64, 2)
    levels, ratios = [], []
    for seed in range(200):
        made = task.corrupt(clean, _generator(seed))
        level = made[:, -1]
        assert float(level.max()) == float(level.min())
        torch.testing.assert_close(_restricted(made)[:, -1], level[..., ::2, ::2])
        levels.append(float(level[0, 0, 0]))
        ratios.append(float((made[:, :-1] - clean).std()) / levels[-1])
    # uniform: Kolmogorov–Smirnov at 1e-6; each ratio has a standard error of 1/√(2·8192)
    distance = np.abs(np.sort((np.array(levels) - 0.1) / 0.3) - (np.arange(200) + 0.5) / 200).max()
    assert distance < 2.7 / math.sqrt(200)
    assert np.abs(np.array(ratios) - 1).max() < 6 / math.sqrt(2 * 8192)


def _dense_blur(field: np.ndarray, width: float, frequencies: np.ndarray) -> np.ndarray:
    """Σ_k û(k) m(k) e^{ikx} by explicit sums, one mode after the other."""
    n = len(field)
    x = np.arange(n) / n
    total = np.zeros((n, n), dtype=complex)
    for a in frequencies:
        for b in frequencies:
            wave = np.exp(2j * np.pi * (a * x[:, None] + b * x))
            coefficient = (field * wave.conj()).mean()
            square = (2 * np.pi) ** 2 * (a**2 + b**2)
            total += coefficient * np.exp(-0.5 * width**2 * square) * wave
    assert np.abs(total.imag).max() < 1e-12
    return total.real


def test_blur_is_the_dense_sum() -> None:
    clean = _image(8)  # white: up to the Nyquist mode
    task = TASKS.parse("deblur:0.06:0.0")
    made = task.corrupt(clean, _generator())[0, 0].numpy()
    modes = np.arange(-4, 4)
    np.testing.assert_allclose(made, _dense_blur(clean[0, 0].numpy(), 0.06, modes), atol=1e-14)
    wrong = _dense_blur(clean[0, 0].numpy(), 0.05, modes)
    assert np.abs(made - wrong).max() > 1e-3


def test_blur_of_a_point_is_a_gaussian_of_its_width() -> None:
    # where the box is far wider than the kernel, against the density itself
    point = torch.zeros(1, 1, 256, dtype=torch.float64)
    point[..., 128] = 256.0
    made = TASKS.parse("deblur:0.025:0.0").corrupt(point, _generator())[0, 0].numpy()
    x = (np.arange(256) - 128) / 256
    density = np.exp(-0.5 * (x / 0.025) ** 2) / (0.025 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(made, density, atol=1e-10 * density.max())


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_blur_is_one_operator_on_all_meshes(dim: int) -> None:
    task = TASKS.parse("deblur:0.05:0.0")
    fine, coarse = _smooth(32, dim), _smooth(16, dim)
    torch.testing.assert_close(_restricted(fine, "spectral"), coarse, rtol=0, atol=1e-11)
    on_fine, on_coarse = (task.corrupt(u, _generator()) for u in (fine, coarse))
    torch.testing.assert_close(on_fine[(..., *(slice(None, None, 2),) * dim)], on_coarse)
    # blur, then restrict = restrict, then blur
    after = _restricted(on_fine, "spectral")
    torch.testing.assert_close(after, on_coarse, rtol=0, atol=1e-6)
    # a width in cells is another operator on each mesh
    in_cells = [
        TASKS.parse(f"deblur:{1.6 / n}:0.0").corrupt(_smooth(n, dim), _generator())
        for n in (32, 16)
    ]
    assert float((_restricted(in_cells[0], "spectral") - in_cells[1]).abs().max()) > 1e-2


def test_blurs_are_a_semigroup() -> None:
    clean = _image(16)
    once, twice = (TASKS.parse(f"deblur:{w}:0.0") for w in (0.04 * math.sqrt(2), 0.04))
    both = twice.corrupt(twice.corrupt(clean, _generator()), _generator())
    torch.testing.assert_close(both, once.corrupt(clean, _generator()), rtol=0, atol=1e-14)
    assert float((both - twice.corrupt(clean, _generator())).abs().max()) > 1e-3


def test_blur_adds_its_noise_after() -> None:
    clean = _image(256)
    still = TASKS.parse("deblur:0.02:0.0").corrupt(clean, _generator())
    noise = TASKS.parse("deblur:0.02:0.1").corrupt(clean, _generator()) - still
    assert float(noise.std()) == pytest.approx(0.1, rel=5 / math.sqrt(2 * 256**2))


def _opened(mask: np.ndarray, cells: int) -> np.ndarray:
    """What full boxes of so many cells cover, on the periodic box: the morphological opening."""
    n = len(mask)
    wide = np.pad(mask, n, mode="wrap")
    return ndimage.binary_opening(wide, np.ones((cells, cells)))[n:-n, n:-n]


@pytest.mark.parametrize(("n", "side", "cells"), [(16, 0.25, 4), (32, 0.25, 8), (32, 0.1, 3)])
def test_boxes_hide_the_image(n: int, side: float, cells: int) -> None:
    task, clean = TASKS.parse(f"inpaint:0.3:{side}:0.75"), _image(n, 3)
    for seed in range(20):
        made = task.corrupt(clean, _generator(seed))
        mask = made[0, -1].numpy()
        assert set(np.unique(mask)) <= {0.0, 1.0}
        hidden = mask == 1.0
        for before, after in zip(clean[0].numpy(), made[0, :-1].numpy(), strict=True):
            assert (after[hidden] == 0.75).all()
            np.testing.assert_array_equal(after[~hidden], before[~hidden])
        np.testing.assert_array_equal(_opened(hidden, cells), hidden)
        scattered = np.random.default_rng(seed).random((n, n)) < 0.3
        assert not np.array_equal(_opened(scattered, cells), scattered)


@pytest.mark.parametrize(
    ("spec", "dim"),
    [
        ("inpaint:0.25:0.25", 2),
        ("inpaint:0.1:0.5", 2),
        ("inpaint:0.4:0.3", 1),
        ("inpaint:0.4:0.5", 3),
    ],
)
def test_boxes_hide_their_fraction(spec: str, dim: int) -> None:
    task = TASKS.parse(spec)
    for n in (8, 16):
        generator, clean = _generator(n), torch.zeros(1, 1, *(n,) * dim)
        areas = np.array([float(task.corrupt(clean, generator)[0, 1].mean()) for _ in range(2000)])
        error = areas.std() / math.sqrt(2000)
        # 5 standard errors: a false alarm of 6e-7 each
        assert abs(areas.mean() - task.fraction) < 5 * error
        # a whole number of boxes alone would miss it by more
        covers = (round(task.side * n) / n) ** dim
        boxes = math.floor(math.log(1 - task.fraction) / math.log(1 - covers))
        assert abs(areas.mean() - (1 - (1 - covers) ** boxes)) > 5 * error


def test_input_of_superresolution_is_the_mean_of_children() -> None:
    clean = _image(8, 2)
    made = TASKS.parse("superres").corrupt(clean, _generator()).numpy()
    u = clean.numpy()
    expected = sum(u[..., a::2, b::2] for a in (0, 1) for b in (0, 1)) / 4
    np.testing.assert_allclose(made, expected, rtol=1e-15)
    wide = torch.zeros(1, 1, 512, 512)
    noise = TASKS.parse("superres:0.2").corrupt(wide, _generator())
    assert float(noise.std()) == pytest.approx(0.2, rel=5 / math.sqrt(2 * 256**2))


# From level to level


def _sampler(spec: str, **choices: Any) -> NoisySampler:
    clean = 0.5 + 0.2 * waves(LEVELS)
    task = TASKS.parse(spec)
    return NoisySampler(clean, task.corrupt, LEVELS, seed=4, restricted=task.restricted, **choices)


def _estimator(spec: str, **choices: Any) -> MultilevelGradient:
    net = build_network("resnet", TASKS.parse(spec), 1, width=3, layers=3).double()
    return MultilevelGradient(net, "mse", _sampler(spec, **choices), LEVELS, (4, 2, 1))


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_of_every_task_telescope(spec: str) -> None:
    assert _estimator(spec).telescoping_error() < 1e-12


def test_noise_by_level_telescopes_where_the_operator_does() -> None:
    assert _estimator("superres", drawn="level").telescoping_error() < 1e-12
    for spec in ("denoise", "deblur", "inpaint", "superres:0.1"):
        assert _estimator(spec, drawn="level").telescoping_error() > 1e-5, spec


@pytest.mark.parametrize("drawn", ["finest", "level", "law"])
@pytest.mark.parametrize("spec", SPECS)
def test_levels_of_a_sample_are_restrictions(spec: str, drawn: str) -> None:
    task = TASKS.parse(spec)
    made = _sampler(spec, drawn=drawn)
    (x, y), (coarse, target) = made.draw([3, 8], [2, 1])
    assert x.shape == (2, task.inputs(1), *(task.input_size(32),) * 2)
    torch.testing.assert_close(_restricted(x), coarse)
    torch.testing.assert_close(_restricted(y), target)
    ((other, _),) = made.draw([4, 8], [1])
    if spec not in ("superres", "deblur:0.1:0.0"):
        assert float((other[0] - coarse[0]).abs().max()) > 1e-3


WHITE = ["denoise:0.2", "denoise:0.1:0.5", "superres:0.1"]


@pytest.mark.parametrize("spec", WHITE)
def test_noise_in_law_is_that_of_restricted_noise(spec: str) -> None:
    """Drawn on the level, with the moments of what is drawn on the finest mesh and averaged."""
    numbers, strength = range(400), {}
    for drawn in ("finest", "law", "level"):
        made = _sampler(spec, drawn=drawn)
        ((x, clean),) = made.draw(numbers, [0])
        noise = (x[:, :1] - (_restricted(clean) if "superres" in spec else clean)).numpy()
        count = noise.size
        strength[drawn] = noise.std()
        # 5 standard errors each; neighbours of white noise are not correlated
        assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(count)
        for axis in (2, 3):
            pairs = (noise * np.roll(noise, 1, axis)).mean() / noise.var()
            assert abs(pairs) < 5 * math.sqrt(2 / count) + 0.02 * (":0.5" in spec)
    # the standard deviation of a sample's level, too, is random where levels are
    rel = 5 * math.sqrt(1 / count) + 0.06 * (":0.5" in spec)
    assert strength["law"] == pytest.approx(strength["finest"], rel=rel)
    assert strength["level"] == pytest.approx(4 * strength["finest"], rel=rel)  # the control


@pytest.mark.parametrize("spec", WHITE)
def test_noise_in_law_costs_a_levels_own_cells(spec: str) -> None:
    law, finest = _sampler(spec, drawn="law"), _sampler(spec, drawn="finest")
    assert law.cells_drawn((1, 0)) == 16**2
    assert finest.cells_drawn((1, 0)) == 32**2
    for (x, y), (same, target) in zip(law.path(5), finest.path(5), strict=True):
        torch.testing.assert_close(x, same, rtol=0, atol=0)  # with the finest level, the same draw
        torch.testing.assert_close(y, target, rtol=0, atol=0)
    ((x, y),), ((other, target),) = law.draw([5], [1]), finest.draw([5], [1])
    torch.testing.assert_close(y, target, rtol=0, atol=0)
    assert float((x - other)[:, :1].abs().max()) > 1e-3


def test_levels_of_noise_reach_every_mesh_in_law() -> None:
    for drawn in ("finest", "law"):
        ((x, _),) = _sampler("denoise:0.1:0.5", drawn=drawn).draw(range(400), [0])
        level = x[:, 1].flatten(1)
        assert float((level - level[:, :1]).abs().max()) < 1e-12  # constant over the box
        assert float(level.mean()) == pytest.approx(0.3, abs=5 * 0.4 / math.sqrt(12 * 400))
        assert float(level.min()) < 0.12
        assert float(level.max()) > 0.48


@pytest.mark.parametrize(
    ("spec", "choices"),
    [
        ("deblur:0.05:0.1", {}),
        ("inpaint", {}),
        ("denoise:0.2", {"restriction": "injection"}),
        ("superres:0.1", {"restriction": "full_weighting"}),
    ],
)
def test_what_has_no_law_is_drawn_on_the_finest_mesh(spec: str, choices: dict[str, str]) -> None:
    law, finest = (_sampler(spec, drawn=drawn, **choices) for drawn in ("law", "finest"))
    assert law.cells_drawn((1, 0)) == finest.cells_drawn((1, 0)) == 32**2
    for level in range(3):
        ((x, y),), ((same, target),) = law.draw([2, 7], [level]), finest.draw([2, 7], [level])
        torch.testing.assert_close(x, same, rtol=0, atol=0)
        torch.testing.assert_close(y, target, rtol=0, atol=0)


def test_superresolution_of_a_level_is_that_of_its_target() -> None:
    for x, y in _sampler("superres").draw([0, 5], [2, 1, 0]):
        assert y.shape[-1] == 2 * x.shape[-1]
        torch.testing.assert_close(_restricted(y), x)
