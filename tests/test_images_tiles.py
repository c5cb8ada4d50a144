"""Tiles: a number is one tile; photographs, places and turns are drawn with the stated weights.

The chi-squared tests have fixed seeds and a false-alarm rate of 1e-4 each.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare

from gradconv import InputError
from gradconv.images import IMAGES, Photographs, Tiles
from gradconv.images.arrays import ArrayPhotographs
from gradconv.images.tiles import _words

RATE = 1e-4


def _marked(*sizes: tuple[int, int], split: str = "train") -> Photographs:
    """Float images whose pixels say photograph, row and column: ``(p + (r + c / 64) / 64) / 8``."""
    images = {}
    for p, (rows, columns) in enumerate(sizes):
        r, c = np.mgrid[:rows, :columns]
        images[f"p{p}"] = ((p + (r + c / 64) / 64) / 8).astype(np.float32)[None]
    return ArrayPhotographs("marked", split, images, 1)


def _where(tile: torch.Tensor) -> tuple[int, int, int]:
    """Photograph, and top left corner in it, of a tile in any of its eight positions."""
    code = round(float(tile.min()) * 8 * 64 * 64)
    return code // 4096, code // 64 % 64, code % 64


def test_a_number_is_one_tile_in_any_order_and_company() -> None:
    photographs = IMAGES.parse("photographs").open("train", 1)
    numbers = [5, 700, 5, 0, 2**40, 255, 256]
    first = [Tiles(photographs, 32, seed=3)(n) for n in numbers]
    again = Tiles(photographs, 32, seed=3)
    for n in reversed(range(300)):
        again(n)
    for n, tile in zip(numbers, first, strict=True):
        assert torch.equal(again(n), tile)
    other = [Tiles(photographs, 32, seed=4)(n) for n in numbers]
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert len({tile.numpy().tobytes() for tile in first}) == len(set(numbers))


@pytest.mark.parametrize("number", [0, 1, 255, 256, 10**12])
def test_words_are_those_of_philox_at_the_number(number: int) -> None:
    alone = np.random.Philox(key=9, counter=number).random_raw(4)
    assert _words(9, number // 256)[number % 256] == np.asarray(alone).tolist()


def test_a_tile_is_the_square_of_the_photograph_scaled() -> None:
    photographs = IMAGES.parse("photographs").open("validation", 3)
    tiles = Tiles(photographs, 40, augment=False)
    image = photographs[0]
    windows = np.lib.stride_tricks.sliding_window_view(image, (40, 40), axis=(1, 2))
    for number in range(3):
        tile = tiles(number)
        assert tile.shape == (3, 40, 40)
        assert tile.dtype == torch.float32
        assert 0 <= float(tile.min()) <= float(tile.max()) <= 1
        raw = torch.round(tile * 255).to(torch.uint8).numpy()
        assert torch.equal(torch.from_numpy(raw).float() / 255, tile)
        corners = (windows[:, :, :, 0, 0] == raw[:, 0, 0][:, None, None]).all(axis=0)
        assert any((windows[:, r, c] == raw).all() for r, c in np.argwhere(corners))


def _p_values(tiles: Tiles, draws: int = 6000) -> dict[str, float]:
    """Chi-squared p-values of photographs, rows, columns and turns against what is stated."""
    places = [_where(tiles(n)) for n in range(draws)]
    shares = np.array([4 * 2, 2 * 3, 1 * 1])
    found = Counter(p for p, _, _ in places)
    rows = Counter(r for p, r, _ in places if p == 0)
    columns = Counter(c for p, _, c in places if p == 0)
    ways = Counter(_way(tiles(n)) for n in range(draws))

    def p(counts: list[int], weights: Any) -> float:
        weights = np.asarray(weights, dtype=float)
        return float(chisquare(counts, weights / weights.sum() * sum(counts)).pvalue)

    return {
        "photographs": p([found[i] for i in range(3)], shares),
        "rows": p([rows[i] for i in range(48 - 12 + 1)], np.ones(37)),
        "columns": p([columns[i] for i in range(29 - 12 + 1)], np.ones(18)),
        "ways": p([ways[i] for i in range(8)], np.ones(8)),
    }


def _way(tile: torch.Tensor) -> int:
    """Which of the eight positions: the corner with the least value, and which side is steeper."""
    t = tile[0]
    corners = [float(t[0, 0]), float(t[0, -1]), float(t[-1, 0]), float(t[-1, -1])]
    steep = abs(float(t[1, 0] - t[0, 0])) > abs(float(t[0, 1] - t[0, 0]))
    return 2 * int(np.argmin(corners)) + steep


def test_photographs_places_and_turns_have_the_stated_weights() -> None:
    tiles = Tiles(_marked((48, 29), (30, 36), (12, 12)), 12, seed=1)
    assert len(tiles) == 15
    assert min(_p_values(tiles).values()) > RATE


def _together(tiles: Tiles) -> float:
    """P-value of rows and columns being independent, in 4 × 3 blocks."""
    table = np.zeros((4, 3))
    for p, r, c in (_where(tiles(n)) for n in range(6000)):
        if p == 0:
            table[r * 4 // 37, c * 3 // 18] += 1
    return float(chi2_contingency(table).pvalue)


def test_rows_and_columns_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = Tiles(_marked((48, 29), (30, 36), (12, 12)), 12, seed=1)
    assert _together(tiles) > RATE

    def one_word(seed: int, block: int) -> list[list[int]]:
        return [[which, down, down, way] for which, down, _, way in _words(seed, block)]

    monkeypatch.setattr("gradconv.images.tiles._words", one_word)  # the negative control
    assert _together(tiles) < RATE


@pytest.mark.parametrize("defect", ["photographs", "rows", "columns", "ways"])
def test_wrong_weights_are_seen(defect: str) -> None:
    """The negative control of the test above: one weight wrong, and only its test objects."""
    tiles = Tiles(_marked((48, 29), (30, 36), (12, 12)), 12, seed=1)
    if defect == "photographs":  # each photograph alike
        tiles._ends = [5, 10, 15]
    elif defect == "rows":
        tiles._places[0][0] -= 1  # the last row is never reached
    elif defect == "columns":
        tiles._places[0][1] -= 1
    else:
        tiles.augment = False
    found = _p_values(tiles)
    assert found.pop(defect) < RATE
    assert min(found.values()) > RATE


def test_fixed_tiles_are_disjoint_and_all_there() -> None:
    tiles = Tiles(_marked((48, 29), (30, 36), (12, 12)), 12, seed=1)
    places = [_where(t) for t in tiles.fixed()]
    assert len(places) == len(tiles) == 15
    for i, (p, r, c) in enumerate(places):
        for q, s, d in places[:i]:
            assert p != q or abs(r - s) >= 12 or abs(c - d) >= 12
    assert places[0] == (0, 0, 2)  # 29 columns hold two tiles, 5 are over, 2 of them before
    assert torch.equal(tiles.fixed(), Tiles(tiles.photographs, 12, seed=2).fixed())


@pytest.mark.parametrize("most", [1, 2, 7, 14, 15, 99])
def test_fixed_tiles_are_spread_by_the_tiles_of_each_photograph(most: int) -> None:
    tiles = Tiles(_marked((48, 29), (30, 36), (12, 12)), 12)
    made = tiles.fixed(most)
    wanted = min(most, 15)
    assert made.shape == (wanted, 1, 12, 12)
    assert len({_where(t) for t in made}) == wanted
    found = Counter(_where(t)[0] for t in made)
    for p, there in enumerate((8, 6, 1)):
        assert abs(found[p] - there * wanted / 15) < 1


def test_fixed_tiles_do_not_follow_the_columns() -> None:
    """A stride through the grid would take whole columns only, for example the left one."""
    tiles = Tiles(_marked((64, 64)), 8)
    columns = {_where(t)[2] for t in tiles.fixed(8)}
    assert len(columns) > 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": 13}, "`size` must not exceed .* p2 of `data` marked .* 12 × 12 pixels; got 13"),
        ({"size": 0}, "`size` must be a whole number from 1"),
        ({"size": 8.0}, "`size` must be a whole number"),
        ({"size": True}, "`size` must be a whole number"),
        ({"size": 8, "seed": -1}, "`seed` must be a whole number from 0"),
        ({"size": 8, "seed": 2**64}, r"`seed` must be a whole number from 0 to 1.84e\+19"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    photographs = _marked((48, 29), (30, 36), (12, 12))
    with pytest.raises(InputError, match=said):
        Tiles(photographs, **arguments)


def test_bad_numbers_are_refused() -> None:
    tiles = Tiles(_marked((12, 12)), 12)
    with pytest.raises(InputError, match="`number` must not be negative; got -1"):
        tiles(-1)
    with pytest.raises(InputError, match="`most` must be at least 1; got 0"):
        tiles.fixed(0)
    with pytest.raises(InputError, match=re.escape("`photographs` must hold one at least")):
        Tiles(_marked(), 12)
