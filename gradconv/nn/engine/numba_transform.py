"""Analysis and synthesis of few modes, image by image, for numba.

An axis has two kinds of waves, cosine and sine, and where its symmetries t → n − t and
t → t + n/2 are used, each of two parities of j: then a quarter of the points does for each of the
four products. Blocks of waves follow one another as kind · parities + parity; wave j has place
j // parities in its block. Modes are stored in columns, eight j2 wide, each from its first row to
its last.
"""

from __future__ import annotations

import numpy as np

from gradconv.nn.engine.numba_lanes import (
    fetch_ahead,
    fold_lanes,
    fold_row_lanes,
    put_both,
    put_modes,
    take_both,
    take_modes,
    unfold_lanes,
    unfold_row_lanes,
)
from gradconv.nn.engine.numba_tiles import FAST, LANES, kernel, padded, part, product

_BAND = 8  # rows of one tile of a product
_PANEL = 128  # columns transformed at once along the first axis: folded, they stay in cache
_AHEAD = 4  # lines that are asked for before they are read


@kernel(FAST)
def _fold_columns(x, at, width, columns, n, folds, points, f):
    """Sums over the symmetries of the first axis on a panel of columns.

    x is flat, the panel begins at `at` and its lines are `width` apart; f is flat, in blocks of
    points × _PANEL.
    """
    step = points * _PANEL
    if folds == 1:
        for q in range(points):
            f0, a = part(f, q * _PANEL, columns), part(x, at + q * width, columns)
            for i in range(columns):
                f0[i] = a[i]
        return
    h = n // 2
    ahead = _AHEAD * width
    whole = columns - columns % LANES
    for q in range(points):
        a, b = at + q * width, at + (n - q) % n * width
        c, d = at + (h - q) * width, at + (h + q) * width
        to = q * _PANEL
        for i in range(0, columns, 64 // x.itemsize):
            fetch_ahead(x, a + ahead + i)
            fetch_ahead(x, b - ahead + i)
            fetch_ahead(x, c - ahead + i)
            fetch_ahead(x, d + ahead + i)
        for i in range(0, whole, LANES):
            fold_lanes(x, a + i, b + i, c + i, d + i, f, to + i, step)
        for i in range(whole, columns):
            even, odd = x[a + i] + x[b + i], x[a + i] - x[b + i]
            late, late_odd = x[c + i] + x[d + i], x[c + i] - x[d + i]
            f[to + i], f[to + step + i] = even + late, even - late
            f[to + 2 * step + i], f[to + 3 * step + i] = odd - late_odd, odd + late_odd


@kernel(FAST)
def _fold_row(x, at, n, folds, points, f, to, step):
    """The same along a row that begins at `at`; its parts begin at `to` and are `step` apart."""
    if folds == 1:
        a, f0 = part(x, at, points), part(f, to, points)
        for q in range(points):
            f0[q] = a[q]
        return
    h = n // 2
    even, late = x[at] + x[at], x[at + h] + x[at + h]
    zero = x[at] - x[at]  # not 0: what is not a number stays so
    f[to], f[to + step], f[to + 2 * step], f[to + 3 * step] = even + late, even - late, zero, zero
    first = 1
    while first < points and points > LANES:
        q = min(first, points - LANES)  # the last ones are done twice
        back = q + LANES - 1
        fold_row_lanes(x, at + q, at + n - back, at + h - back, at + h + q, f, to + q, step)
        first = q + LANES
    for q in range(first, points):
        a, b, c, d = x[at + q], x[at + n - q], x[at + h - q], x[at + h + q]
        even, odd, late, late_odd = a + b, a - b, c + d, c - d
        f[to + q], f[to + step + q] = even + late, even - late
        f[to + 2 * step + q], f[to + 3 * step + q] = odd - late_odd, odd + late_odd


@kernel(FAST)
def _unfold_columns(f, n, folds, points, y, at, width, columns):
    """From the blocks of waves to the points of a panel of columns, laid out as in folding."""
    step = points * _PANEL
    if folds == 1:
        for q in range(points):
            f0, f1 = part(f, q * _PANEL, columns), part(f, q * _PANEL + step, columns)
            a = part(y, at + q * width, columns)
            for i in range(columns):
                a[i] = f0[i] + f1[i]
        return
    h = n // 2
    whole = columns - columns % LANES
    for q in range(points):
        a, b = at + q * width, at + (n - q) % n * width
        c, d = at + (h - q) * width, at + (h + q) * width
        to = q * _PANEL
        for i in range(0, whole, LANES):
            unfold_lanes(f, to + i, step, y, a + i, b + i, c + i, d + i)
        for i in range(whole, columns):
            f0, f1 = f[to + i], f[to + step + i]
            f2, f3 = f[to + 2 * step + i], f[to + 3 * step + i]
            plus, minus, sine, turned = f0 + f1, f0 - f1, f2 + f3, f3 - f2
            y[b + i] = plus - sine
            y[a + i] = plus + sine
            y[d + i] = minus - turned
            y[c + i] = minus + turned


@kernel(FAST)
def _unfold_row(f, to, step, n, folds, points, y, at):
    """The same along a row, laid out as in folding."""
    if folds == 1:
        f0, f1, a = part(f, to, points), part(f, to + step, points), part(y, at, points)
        for q in range(points):
            a[q] = f0[q] + f1[q]
        return
    h = n // 2
    y[at], y[at + h] = f[to] + f[to + step], f[to] - f[to + step]
    first = 1
    while first < points and points > LANES:
        q = min(first, points - LANES)
        back = q + LANES - 1
        unfold_row_lanes(f, to + q, step, y, at + q, at + n - back, at + h - back, at + h + q)
        first = q + LANES
    for q in range(first, points):
        f0, f1, f2, f3 = f[to + q], f[to + step + q], f[to + 2 * step + q], f[to + 3 * step + q]
        plus, minus, sine, turned = f0 + f1, f0 - f1, f2 + f3, f3 - f2
        y[at + n - q] = plus - sine
        y[at + q] = plus + sine
        y[at + h + q] = minus - turned
        y[at + h - q] = minus + turned


@kernel(FAST)
def _most(places, length, parities1, count1):
    """Most columns of a row among eight: (parity of the row, its eight)."""
    rows = len(places) - 1
    most = np.zeros((parities1, -(-count1 // _BAND)), np.int64)
    for row in range(rows):
        j = abs(row - rows // 2)
        at = (j % parities1, j // parities1 // _BAND)
        for column in range(places.shape[1]):
            if places[row, column] < length - LANES:
                most[at] = max(most[at], column + 1)
    return most


@kernel(FAST)
def _gather(products, places, empty, parities1, parities2, r, count1, out, length):
    """Modes from products of waves, X = (C ∓ iS)(C − iS).

    places is (rows + 1, columns): where eight modes go, the last place if they are not kept, as
    in the last row; empty are the places that nothing goes to.
    """
    rows = len(places) - 1
    width, turn = 2 * parities2 * r, parities2 * r
    for row in range(rows):
        j = abs(row - rows // 2)
        cosine = (j % parities1 * count1 + j // parities1) * width
        sine = cosine + parities1 * count1 * width
        sign = 1 if row >= rows // 2 else -1
        for column in range(0, places.shape[1], parities2):
            low = places[row, column]
            if low == length - LANES:
                break
            cc, sc = cosine + column // parities2 * LANES, sine + column // parities2 * LANES
            if parities2 == 2:
                high = places[row, column + 1]
                take_both(products, cc, cc + turn, sc, sc + turn, r, sign, out, low, high, length)
            else:
                take_modes(products, cc, cc + turn, sc, sc + turn, r, sign, out, low, low, length)
    for place in empty:
        for m in range(place, place + LANES):
            out[m] = 0
            out[m + length] = 0


@kernel(FAST)
def _scatter(z, length, w, places, parities1, parities2, r, count1, most, products):
    """Transpose of `_gather`, with weights; both signs of a row at once."""
    highest = len(places) // 2 - 1
    width, turn = 2 * parities2 * r, parities2 * r
    for j in range(highest + 1):
        cosine = (j % parities1 * count1 + j // parities1) * width
        sine = cosine + parities1 * count1 * width
        up, down = highest + j, highest - j if j else len(places) - 1
        for column in range(0, max(1, most[j % parities1, j // parities1 // _BAND]), parities2):
            cc, sc = cosine + column // parities2 * LANES, sine + column // parities2 * LANES
            above, below = places[up, column], places[down, column]
            if parities2 == 2:
                put_both(
                    z, above, places[up, column + 1], below, places[down, column + 1],
                    length, w, products, cc, cc + turn, sc, sc + turn, r,
                )  # fmt: skip
            else:
                put_modes(
                    z, above, above, below, below, length, w,
                    products, cc, cc + turn, sc, sc + turn, r,
                )  # fmt: skip


@kernel(FAST, cached=True)
def analyse(x, side1, side2, matrix1, matrix2, places, empty, spectrum, begin, end):
    """Spectra of images begin … end − 1.

    x is (images, n1, n2), spectrum (images, 2, modes and at least 8 more); side is (points, folds,
    points after folding, padded waves a block, padded points after folding, waves a block); places
    and empty as in `_gather`.
    """
    n1, folds1, q1, r1, _, count1 = side1
    n2, folds2, q2, r2, q2p, _ = side2
    parities1, parities2 = max(1, folds1 // 2), max(1, folds2 // 2)
    rows = 2 * parities1 * count1
    width = 2 * parities2 * r2
    n2p = padded(n2)
    most = _most(places, spectrum.shape[2], parities1, count1)
    x_flat = x.reshape(-1)
    flat = np.zeros(folds1 * q1 * _PANEL, x.dtype)
    wave = np.empty(rows * n2p, x.dtype)
    quarter = np.empty(folds2 * rows * q2p, x.dtype)
    step = rows * q2p
    products = np.empty(rows * width, x.dtype)
    for image in range(begin, end):
        for first in range(0, n2, _PANEL):
            across = min(_PANEL, n2 - first)
            _fold_columns(x_flat, image * n1 * n2 + first, n2, across, n1, folds1, q1, flat)
            for g in range(2 * parities1):
                product(
                    matrix1, g * q1 * r1, 1, r1, flat, g % folds1 * q1 * _PANEL, _PANEL,
                    wave, g * count1 * n2p + first, n2p, count1, q1, padded(across),
                )  # fmt: skip
        for row in range(rows):
            _fold_row(wave, row * n2p, n2, folds2, q2, quarter, row * q2p, step)
        for g1 in range(2 * parities1):
            for band in range(most.shape[1]):
                row = g1 * count1 + band * _BAND
                height = min(_BAND, count1 - band * _BAND)
                for g2 in range(2 * parities2):
                    product(
                        quarter, (g2 % folds2 * rows + row) * q2p, q2p, 1,
                        matrix2, g2 * q2 * r2, r2, products, row * width + g2 * r2, width,
                        height, q2, padded(most[g1 % parities1, band] * LANES // parities2),
                    )  # fmt: skip
        out = spectrum[image].reshape(-1)
        _gather(products, places, empty, parities1, parities2, r2, count1, out, spectrum.shape[2])


@kernel(FAST, cached=True)
def synthesise(spectrum, weights, side1, side2, matrix1, matrix2, places, y, begin, end):
    """Images begin … end − 1 from their spectra, times how many modes each stands for."""
    n1, folds1, q1, r1, q1p, count1 = side1
    n2, folds2, q2, r2, q2p, _ = side2
    parities1, parities2 = max(1, folds1 // 2), max(1, folds2 // 2)
    rows = 2 * parities1 * count1
    width = 2 * parities2 * r2
    n2p = padded(n2)
    most = _most(places, spectrum.shape[2], parities1, count1)
    products = np.zeros(rows * width, y.dtype)
    quarter = np.empty(2 * parities2 * rows * q2p, y.dtype)
    step = rows * q2p
    wave = np.zeros(rows * n2p, y.dtype)
    flat = np.empty(2 * parities1 * q1 * _PANEL, y.dtype)
    y_flat = y.reshape(-1)
    for image in range(begin, end):
        _scatter(
            spectrum[image].reshape(-1), spectrum.shape[2], weights, places,
            parities1, parities2, r2, count1, most, products,
        )  # fmt: skip
        for g1 in range(2 * parities1):
            for band in range(most.shape[1]):
                row = g1 * count1 + band * _BAND
                height = min(_BAND, count1 - band * _BAND)
                for g2 in range(2 * parities2):
                    product(
                        products, row * width + g2 * r2, width, 1, matrix2, g2 * r2 * q2p, q2p,
                        quarter, (g2 * rows + row) * q2p, q2p,
                        height, max(1, most[g1 % parities1, band] * LANES // parities2), q2p,
                    )  # fmt: skip
        for row in range(rows):
            _unfold_row(quarter, row * q2p, step, n2, folds2, q2, wave, row * n2p)
        for first in range(0, n2, _PANEL):
            across = min(_PANEL, n2 - first)
            for g in range(2 * parities1):
                product(
                    matrix1, g * r1 * q1p, 1, q1p, wave, g * count1 * n2p + first, n2p,
                    flat, g * q1 * _PANEL, _PANEL, q1, count1, padded(across),
                )  # fmt: skip
            _unfold_columns(flat, n1, folds1, q1, y_flat, image * n1 * n2 + first, n2, across)


_ROWS = 32  # fields on one axis are transformed so many at once


@kernel(FAST, cached=True)
def analyse_rows(x, side, matrix, reach, spectrum, begin, end):
    """Spectra of rows begin … end − 1; x is (rows, n), spectrum (rows, 2, modes)."""
    n, folds, q, r, qp, _ = side
    parities = max(1, folds // 2)
    flat = np.zeros(folds * _ROWS * qp, x.dtype)
    x_flat = x.reshape(-1)
    products = np.empty((_ROWS, 2 * parities * r), x.dtype)
    for first in range(begin, end, _ROWS):
        count = min(_ROWS, end - first)
        for i in range(count):
            _fold_row(x_flat, (first + i) * n, n, folds, q, flat, i * qp, _ROWS * qp)
        for g in range(2 * parities):
            product(
                flat, g % folds * _ROWS * qp, qp, 1, matrix, g * q * r, r,
                products.reshape(-1), g * r, 2 * parities * r, count, q, r,
            )  # fmt: skip
        for i in range(count):
            re, im = spectrum[first + i, 0], spectrum[first + i, 1]
            for p in range(parities):
                for m in range(p, reach, parities):
                    re[m] = products[i, p * r + m // parities]
                    im[m] = -products[i, (parities + p) * r + m // parities]
            re[reach:] = 0
            im[reach:] = 0


@kernel(FAST, cached=True)
def synthesise_rows(spectrum, weights, side, matrix, reach, y, begin, end):
    """Rows begin … end − 1 from their spectra."""
    n, folds, q, r, qp, _ = side
    parities = max(1, folds // 2)
    width = 2 * parities * r
    products = np.zeros((_ROWS, width), y.dtype)
    flat = np.empty(2 * parities * _ROWS * qp, y.dtype)
    y_flat = y.reshape(-1)
    for first in range(begin, end, _ROWS):
        count = min(_ROWS, end - first)
        for i in range(count):
            re, im = spectrum[first + i, 0], spectrum[first + i, 1]
            for p in range(parities):
                for m in range(p, reach, parities):
                    products[i, p * r + m // parities] = weights[m] * re[m]
                    products[i, (parities + p) * r + m // parities] = -weights[m] * im[m]
        for g in range(2 * parities):
            product(
                products.reshape(-1), g * r, width, 1, matrix, g * r * qp, qp,
                flat, g * _ROWS * qp, qp, count, r, qp,
            )  # fmt: skip
        for i in range(count):
            _unfold_row(flat, i * qp, _ROWS * qp, n, folds, q, y_flat, (first + i) * n)
