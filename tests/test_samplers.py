"""Samplers: a number is one sample path, alone or with others, on any levels."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from multilevel_data import LINE, SQUARE, Noise, noisy, waves
from torch.utils.data import DataLoader, TensorDataset

from gradconv import InputError, MeshHierarchy, Problem
from gradconv.samplers import (
    CallableSampler,
    LoaderSampler,
    NoisySampler,
    ProblemSampler,
    Sampler,
    TensorSampler,
    as_sampler,
)
from gradconv.samplers.streams import _permuted, stream_seed

_LONG = MeshHierarchy.powers_of_two(1, 11, 12)


def _problem(**choices: Any) -> Problem:
    return Problem("stencil", signal="band-limited:1", noise="white:0.1", dim=1, **choices)


def _callable(n: int, number: int) -> Any:
    x = torch.full((1, 1, n), float(number), dtype=torch.float64)
    return x, 2 * x


SAMPLERS = {
    "problem": lambda: ProblemSampler(_problem(), LINE, 0),
    "refinement": lambda: ProblemSampler(_problem(setting="refinement"), LINE, 0),
    "noisy": lambda: noisy(seed=3),
    "noisy by level": lambda: noisy(drawn="level", seed=3),
    "noisy from a callable": lambda: NoisySampler(lambda m: waves(LINE)[m % 6], Noise(0.1), LINE),
    "tensors": lambda: TensorSampler(waves(LINE), waves(LINE), "average", "chain", LINE),
    "epochs": lambda: TensorSampler(
        waves(LINE), waves(LINE), "injection", "direct", LINE, epochs=True
    ),
    "callable": lambda: CallableSampler(_callable, LINE),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_number_is_one_sample(name: str) -> None:
    made: Sampler = SAMPLERS[name]()
    together = made.draw([4, 2, 5], [2, 1])
    for place, number in enumerate((4, 2, 5)):
        alone = made.draw([number], [2, 1])
        for (x, y), (one, target) in zip(together, alone, strict=True):
            torch.testing.assert_close(x[place : place + 1], one, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(y[place : place + 1], target, rtol=1e-12, atol=1e-14)
    assert [x.shape[-1] for x, _ in together] == [16, 8]
    json.dumps(made.describe())
    assert made.grid in ("cell", "vertex")


@pytest.mark.parametrize("name", [n for n in SAMPLERS if "level" not in n])
def test_levels_asked_for_alone_are_those_of_all(name: str) -> None:
    made: Sampler = SAMPLERS[name]()
    whole = made.path(3)
    for level in range(4):
        ((x, y),) = made.draw([3], [level])
        torch.testing.assert_close(x, whole[level][0], rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(y, whole[level][1], rtol=1e-13, atol=1e-14)


def test_noise_by_level_is_the_terms_own() -> None:
    made = noisy(drawn="level", sigma=1.0)
    (fine, _), (coarse, _) = made.draw(range(300), [2, 1])
    clean = noisy(sigma=0.0)
    (u2, _), (u1, _) = clean.draw(range(300), [2, 1])
    restricted = (fine - u2).reshape(300, 1, 8, 2).mean(-1)
    torch.testing.assert_close(restricted, coarse - u1)
    assert float((fine - u2).std()) == pytest.approx(1.0, rel=0.03)
    # as the fine of its own term the same level has other noise, of another strength
    ((own, _),) = made.draw(range(300), [1])
    assert float((own - u1).std()) == pytest.approx(1.0, rel=0.03)
    assert float((coarse - u1).std()) == pytest.approx(0.5**0.5, rel=0.03)


def test_cells_that_are_drawn() -> None:
    assert noisy(SQUARE).cells_drawn((1, 0)) == 32**2
    assert noisy(SQUARE, drawn="level").cells_drawn((1, 0)) == 16**2


def test_an_epoch_has_every_sample_once() -> None:
    marked = torch.arange(7.0).double().reshape(7, 1, 1).expand(7, 1, 32).contiguous()
    made = TensorSampler(marked, marked, "average", "chain", LINE, epochs=True, seed=2)
    epochs = [made.draw(range(7 * e, 7 * e + 7), [0])[0][0][:, 0, 0].numpy() for e in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(7))
    assert not np.array_equal(epochs[0], epochs[1])
    other = TensorSampler(marked, marked, "average", "chain", LINE, epochs=True, seed=3)
    assert not np.array_equal(other.draw(range(7), [0])[0][0][:, 0, 0].numpy(), epochs[0])


def test_a_loader_gives_its_samples_in_order() -> None:
    x = torch.arange(10.0).reshape(10, 1, 1).expand(10, 1, 32)
    labels = torch.arange(10)
    made = LoaderSampler(DataLoader(TensorDataset(x, labels), batch_size=4), LINE)
    (fine, first), (coarse, second) = made.draw(range(3), [3, 2])
    assert fine[:, 0, 0].tolist() == coarse[:, 0, 0].tolist() == [0, 1, 2]
    assert first.tolist() == second.tolist() == [0, 1, 2]  # labels serve all levels
    ((rest, _),) = made.draw(range(3, 12), [0])
    assert rest[:, 0, 0].tolist() == [3, 4, 5, 6, 7, 8, 9, 0, 1]  # a new epoch
    with pytest.raises(InputError, match=r"once and in order; asked for .* where 12 is next"):
        made.draw([3], [0])


def test_what_a_sampler_is_made_from() -> None:
    assert isinstance(as_sampler(_problem(), LINE), ProblemSampler)
    assert isinstance(as_sampler((waves(LINE), waves(LINE)), LINE), TensorSampler)
    assert isinstance(as_sampler(_callable, LINE), CallableSampler)
    assert isinstance(as_sampler(DataLoader(TensorDataset(waves(LINE))), LINE), LoaderSampler)
    made = noisy()
    assert as_sampler(made, LINE) is made
    with pytest.raises(InputError, match="`sampler` must be a Sampler"):
        as_sampler("noise", LINE)


@pytest.mark.parametrize(
    "restriction", ["average", "injection", "full_weighting", "bilinear", "spectral"]
)
@pytest.mark.parametrize("route", ["chain", "direct"])
def test_routes_are_the_restriction_of_numpy(restriction: str, route: str) -> None:
    from gradconv.restriction import RESTRICTIONS

    clean = waves(SQUARE)
    made = noisy(SQUARE, sigma=0.0, restriction=restriction, route=route)
    mapping = RESTRICTIONS.parse(restriction)
    ((x, y),) = made.draw(range(2), [0])
    from gradconv.samplers.epochs import shuffled

    source = clean[shuffled(range(2), 6, 0)].numpy()
    if restriction == "bilinear":  # the routes differ by more than what is compared below
        twice = mapping.restrict(mapping.restrict(source, 2), 2)
        assert np.abs(twice - mapping.restrict(source, 2, 4)).max() > 1e-3
    if route == "chain":
        expected = mapping.restrict(mapping.restrict(source, 2), 2)
    else:
        expected = mapping.restrict(source, 2, 4)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-13)


# Noise of numbered samples


def _halved(clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Means of children and noise: super-resolution."""
    means = clean.unflatten(-1, (-1, 2)).mean(-1)
    return means + 0.1 * torch.randn(means.shape, generator=generator, dtype=clean.dtype)


@pytest.mark.parametrize("drawn", ["finest", "level"])
@pytest.mark.parametrize("corrupt", [Noise(0.3), _halved])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_alone_are_bits_in_a_batch(
    drawn: str, corrupt: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = waves(LINE).to(dtype)
    made = NoisySampler(lambda m: clean[m % 6], corrupt, LINE, drawn=drawn, seed=9)
    numbers, levels = [4, 2**33 + 5, 2, 4, 11], (2, 0)
    whole = made.draw(numbers, levels)
    monkeypatch.setattr("gradconv.samplers.noisy.BLOCK", 64)  # two samples at a time
    parts = made.draw(np.array(numbers), levels)
    for place, number in enumerate(numbers):
        for (x, y), (u, v), (one, target) in zip(
            whole, parts, made.draw([number], levels), strict=True
        ):
            assert x.dtype == y.dtype == dtype
            for batch in (x, u):
                assert torch.equal(batch[place : place + 1], one)
            for batch in (y, v):
                assert torch.equal(batch[place : place + 1], target)
    assert not torch.equal(whole[0][0][0], whole[0][0][2])


def test_samples_have_streams_of_their_own() -> None:
    count = 2**18
    low = np.array([stream_seed(3, m, 2) for m in range(count)]) & (2**32 - 1)
    assert len(np.unique(low)) == count
    for x in (0, 77, 2**31 - 1, 2**32 - 1):  # no bit is lost: up to two that are flipped show
        flips = {x ^ (1 << a) ^ (1 << b) for a in range(32) for b in range(32)}
        assert len({_permuted(y) for y in flips}) == len(flips)
    # as many hashes would share some, with probability 1 − e⁻⁸
    drawn = np.random.default_rng(0).integers(2**32, size=count)
    assert len(np.unique(drawn)) < count
    seeds = {stream_seed(s, m, i) for s in range(4) for m in (0, 1, 2**32, 2**40) for i in range(4)}
    assert len(seeds) == 64
    assert max(seeds) < 2**64
    noise = NoisySampler(lambda m: torch.zeros(1, 4096), Noise(1.0), _LONG)
    ((x, _),) = noise.draw(range(50), [len(_LONG) - 1])
    overlap = (x[:, 0] @ x[:, 0].T / 4096).fill_diagonal_(0.0)
    # the largest of 1225 correlations: a false alarm of 1e-6
    assert float(overlap.abs().max()) < 6.1 / 64


def test_inputs_on_a_coarser_mesh() -> None:
    made = NoisySampler(waves(LINE), _halved, LINE, seed=1)
    path = made.path(3)
    assert [(x.shape[-1], y.shape[-1]) for x, y in path] == [(2, 4), (4, 8), (8, 16), (16, 32)]
    for (coarse, _), (fine, _) in pairwise(path):
        torch.testing.assert_close(fine.unflatten(-1, (-1, 2)).mean(-1), coarse)


@pytest.mark.parametrize(
    ("corrupt", "got"),
    [
        (lambda u, g: u[..., ::3], r"\(1, 1, 11\)"),
        (lambda u, g: u[..., ::8], r"\(1, 1, 4\)"),  # level 0 has 4 cells
        (lambda u, g: torch.cat([u, u], dim=-1), r"\(1, 1, 64\)"),
        (lambda u, g: torch.cat([u, u]), r"\(2, 1, 32\)"),
        (lambda u, g: u[None], r"\(1, 1, 1, 32\)"),
        (lambda u, g: u[0, 0], r"\(32,\)"),
        (lambda u, g: u[..., :0], r"\(1, 1, 0\)"),
        (lambda u, g: u.numpy(), r"array\("),
    ],
)
def test_inputs_on_no_mesh_of_the_hierarchy(corrupt: Any, got: str) -> None:
    made = NoisySampler(waves(LINE), corrupt, LINE)
    rule = "or of one coarser by a whole factor that divides the 4 cells of level 0"
    with pytest.raises(InputError, match=rf"{rule}.* on level 3 \(n=32\).* it returned {got}"):
        made.draw([0, 1], [0])


def test_inputs_keep_one_factor() -> None:
    uneven = NoisySampler(
        waves(LINE), lambda u, g: u if u.shape[-1] < 32 else u[..., ::2], LINE, drawn="level"
    )
    assert uneven.draw([0], [3])[0][0].shape[-1] == 16
    with pytest.raises(InputError, match=r"2 as before.*level 2 .* it returned \(1, 1, 16\)"):
        uneven.draw([0], [2])
    calls = iter([2, 1])
    mixed = NoisySampler(waves(LINE), lambda u, g: u[..., :: next(calls)], LINE)
    with pytest.raises(InputError, match=r"on level 3 .* it returned \(1, 1, 32\)"):
        mixed.draw([0, 1], [1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    clean = waves(LINE)
    clean[4, 0, 3] = bad
    with pytest.raises(InputError, match="`clean` inputs must be finite"):
        NoisySampler(lambda m: clean[m], Noise(0.1), LINE).draw(range(6), [0])
    with pytest.raises(InputError, match=r"`corrupt` inputs must be finite.* level 3 \(n=32\)"):
        NoisySampler(waves(LINE), lambda u, g: u + clean[4], LINE).draw(range(3), [0])
    huge = torch.full((2, 1, 32), 3e38)  # finite, while the sum is not
    assert NoisySampler(huge, lambda u, g: u, LINE).draw([0], [3])[0][0].max() > 1e38


def test_a_loader_goes_on_from_any_number_but_not_back() -> None:
    x = torch.arange(10.0).reshape(10, 1, 1).expand(10, 1, 32)
    made = LoaderSampler(DataLoader(TensorDataset(x, x), batch_size=4), LINE)
    ((first, _),) = made.draw(range(20, 22), [0])  # of a run that goes on elsewhere
    assert first[:, 0, 0].tolist() == [0, 1]
    ((then, _),) = made.draw(range(25, 26), [0])  # a pass that failed took some numbers
    assert then[:, 0, 0].tolist() == [2]
    with pytest.raises(InputError, match=r"asked for \[20\] where 26 is next"):
        made.draw([20], [0])
