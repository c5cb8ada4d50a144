"""The mesh-free convolution of many samples on a small mesh, for numba.

Vectors run along channels, which small meshes do not make shorter, and a symbol is made once for
all samples: at each mode they are the rows of one product with the real matrix of the symbols of
all channel pairs. Spectra are (modes, B, groups, 2, channels), real parts first; channels are
padded to whole vectors with zeros, which stay zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, register_jitable

from gradconv.nn.engine.layout import LANES
from gradconv.nn.engine.numba_exponentials import L11, L21, L22, REST1, REST2, TURN1, TURN2
from gradconv.nn.engine.numba_mixing import MOMENTS, aligned
from gradconv.nn.engine.numba_tiles import FAST, kernel, product
from gradconv.nn.engine.numba_vectors import Lanes, Writer


@intrinsic
def _exponentials(_context, kernels, at, stride, j1, j2, count, re, im):
    """E at one mode of as many kernels; the columns of the flat `kernels` are `stride` apart."""

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        v = Writer(context, builder, sig.args[0].dtype)
        at, stride, count = args[1], args[2], args[5]
        a, b = v.splat(args[3]), v.splat(args[4])
        kernels, re, im = (v.data(sig, args, p) for p in (0, 6, 7))

        def column(p: int, place: Any) -> Lanes:
            return v.load(kernels, builder.add(place, builder.mul(stride, v.intp(p))))

        def body(n: Any, _: list[Lanes]) -> list[Lanes]:
            to = builder.mul(n, v.intp(v.width))
            place = builder.add(at, to)
            x = column(L11, place) * a + column(L21, place) * b
            y = column(L22, place) * b
            turn = v.reduced(column(TURN1, place) * a + column(TURN2, place) * b)
            rest = column(REST1, place) * a + column(REST2, place) * b
            cosine, sine = v.half_turn(v.reduced(turn + rest))
            length = v.exp2(-(x * x + y * y))
            v.store(length * (cosine * cosine - sine * sine), re, to)
            v.store(length * (cosine * sine + sine * cosine), im, to)
            return []

        v.loop(builder.sdiv(count, v.intp(v.width)), [], body)
        return context.get_dummy_value()

    real = kernels.dtype
    return types.void(kernels, *[types.intp] * 2, real, real, types.intp, re, im), write


@register_jitable(inline="always")
def _prefactor(c, at, stride, powers, j1, j2):
    """P at one mode; coefficients are in units of mode numbers."""
    even, odd = c[at], c[at] - c[at]
    if powers > 1:
        odd = c[at + stride] * j1 + c[at + 2 * stride] * j2
    if powers > 3:
        p, q = c[at + 3 * stride], c[at + 4 * stride]
        even -= (p * j1 + q * j2) * j1 + c[at + 5 * stride] * j2 * j2
    return even, odd


@kernel(FAST)
def _symbols(kernels, coefficients, group, j1, j2, sign, re, im, s):
    """E of each term, and the matrix ((Sr, ±Si), (∓Si, Sr)) of Σ_e P_e E_e, at one mode.

    The sign is that of the mix, or of its adjoint, whose rows are outputs. kernels are
    (10, groups, E, rows, lanes), s is (2 rows, 2 lanes), flat.
    """
    _, groups, terms, rows, lanes = kernels.shape
    powers = len(coefficients)
    pairs = rows * lanes
    stride = groups * terms * pairs
    flat, c = kernels.reshape(-1), coefficients.reshape(-1)
    at = group * terms * pairs
    _exponentials(flat, at, stride, j1, j2, terms * pairs, re, im)
    for r in range(rows):
        upper = s[2 * lanes * r : 2 * lanes * (r + 1)]
        lower = s[2 * lanes * (rows + r) : 2 * lanes * (rows + r + 1)]
        for e in range(terms):
            p = e * pairs + r * lanes
            for i in range(lanes):
                even, odd = _prefactor(c, at + p + i, stride, powers, j1, j2)
                real = even * re[p + i] - odd * im[p + i]
                imaginary = sign * (even * im[p + i] + odd * re[p + i])
                upper[i] = real if e == 0 else upper[i] + real
                upper[lanes + i] = imaginary if e == 0 else upper[lanes + i] + imaginary
        for i in range(lanes):
            lower[i] = -upper[lanes + i]
            lower[lanes + i] = upper[i]


@kernel(FAST, cached=True)
def mix(x, kernels, coefficients, j1, j2, z, begin, end):
    """z[b, o] = Σ_i S_oi x[b, i] on modes begin … end − 1.

    kernels are (10, groups, E, I, O), coefficients (P, groups, E, I, O).
    """
    _, groups, terms, ins, outs = kernels.shape
    batch = x.shape[1]
    re, im = np.empty(terms * ins * outs, x.dtype), np.empty(terms * ins * outs, x.dtype)
    s = aligned(np.empty(4 * ins * outs + LANES, x.dtype))
    x_flat, z_flat = x.reshape(-1), z.reshape(-1)
    one = x.dtype.type(1)
    x_row, z_row = 2 * groups * ins, 2 * groups * outs
    for m in range(begin, end):
        for group in range(groups):
            _symbols(kernels, coefficients, group, j1[m], j2[m], one, re, im, s)
            product(
                x_flat, m * batch * x_row + 2 * group * ins, x_row, 1, s, 0, 2 * outs,
                z_flat, m * batch * z_row + 2 * group * outs, z_row, batch, 2 * ins, 2 * outs,
            )  # fmt: skip


@kernel(FAST)
def _moments(re, im, products, coefficients, group, j1, j2, w, total):
    """Adds to those of conj(E) M and, where there is room, of conj(PE) M at one mode.

    products are g and x in real numbers, (2, rows, 2, lanes), flat; total is (6 or 12, groups, E,
    rows, lanes).
    """
    kinds, groups, terms, rows, lanes = total.shape
    powers = len(coefficients)
    pairs = rows * lanes
    stride = groups * terms * pairs
    flat, c = total.reshape(-1), coefficients.reshape(-1)
    w11, w12, w22, w1, w2 = w * j1 * j1, w * j1 * j2, w * j2 * j2, w * j1, w * j2
    for r in range(rows):
        upper = products[2 * lanes * r : 2 * lanes * (r + 1)]
        lower = products[2 * lanes * (rows + r) : 2 * lanes * (rows + r + 1)]
        for e in range(terms):
            p = e * pairs + r * lanes
            at = group * terms * pairs + p
            for kind in range(0, kinds, MOMENTS):
                t0 = flat[kind * stride + at : kind * stride + at + lanes]
                t11 = flat[(kind + 1) * stride + at : (kind + 1) * stride + at + lanes]
                t12 = flat[(kind + 2) * stride + at : (kind + 2) * stride + at + lanes]
                t22 = flat[(kind + 3) * stride + at : (kind + 3) * stride + at + lanes]
                t1 = flat[(kind + 4) * stride + at : (kind + 4) * stride + at + lanes]
                t2 = flat[(kind + 5) * stride + at : (kind + 5) * stride + at + lanes]
                for i in range(lanes):
                    a, b = re[p + i], im[p + i]
                    if kind:
                        even, odd = _prefactor(c, at + i, stride, powers, j1, j2)
                        a, b = even * a - odd * b, even * b + odd * a
                    mr, mi = upper[i] + lower[lanes + i], lower[i] - upper[lanes + i]
                    real, imaginary = a * mr + b * mi, a * mi - b * mr
                    t0[i] += w * real
                    t11[i] += w11 * real
                    t12[i] += w12 * real
                    t22[i] += w22 * real
                    t1[i] += w1 * imaginary
                    t2[i] += w2 * imaginary


@kernel(FAST, cached=True)
def mix_adjoint(g, x, kernels, coefficients, j1, j2, w, need_x, need_p, h, total, begin, end):
    """h[b, i] = Σ_o conj(S_oi) g[b, o], and moments of M = Σ_b g[b, o] conj(x[b, i]).

    kernels are (10, groups, E, O, I), coefficients and moments alike; moments are float64, and are
    added to.
    """
    _, groups, terms, outs, ins = kernels.shape
    batch = g.shape[1]
    re, im = np.empty(terms * ins * outs, g.dtype), np.empty(terms * ins * outs, g.dtype)
    s = aligned(np.empty(4 * ins * outs + LANES, g.dtype))
    products = aligned(np.empty(4 * ins * outs + LANES, g.dtype))
    x_flat, g_flat, h_flat = x.reshape(-1), g.reshape(-1), h.reshape(-1)
    one = x.dtype.type(1)
    x_row, g_row = 2 * groups * ins, 2 * groups * outs
    for m in range(begin, end):
        for group in range(groups):
            _symbols(kernels, coefficients, group, j1[m], j2[m], -one, re, im, s)
            x_first = m * batch * x_row + 2 * group * ins
            g_first = m * batch * g_row + 2 * group * outs
            if need_x:
                product(
                    g_flat, g_first, g_row, 1, s, 0, 2 * ins,
                    h_flat, x_first, x_row, batch, 2 * outs, 2 * ins,
                )  # fmt: skip
            if need_p:
                product(
                    g_flat, g_first, 1, g_row, x_flat, x_first, x_row,
                    products, 0, 2 * ins, 2 * outs, batch, 2 * ins,
                )  # fmt: skip
                _moments(re, im, products, coefficients, group, j1[m], j2[m], w[m], total)


@kernel(FAST)
def _turn(a, at, rows, columns, b, to, width):
    """b[column, row] = a[row, column]; flat, the lines of b are `width` apart."""
    for first in range(0, columns, LANES):
        last = min(first + LANES, columns)
        for r in range(rows):
            for c in range(first, last):
                b[to + c * width + r] = a[at + r * columns + c]


@kernel(FAST)
def _turn_back(b, to, width, rows, columns, a, at):
    """a[row, column] = b[column, row]."""
    for first in range(0, columns, LANES):
        last = min(first + LANES, columns)
        for r in range(rows):
            for c in range(first, last):
                a[at + r * columns + c] = b[to + c * width + r]


@register_jitable(inline="always")
def _parts(whole, cosine, sine, turn, room):
    """Channels at one mode: cosine or sine of the first axis by cosine or sine of the second."""
    return (
        whole[cosine : cosine + room],
        whole[cosine + turn : cosine + turn + room],
        whole[sine : sine + room],
        whole[sine + turn : sine + turn + room],
    )


@kernel(FAST, cached=True)
def analyse(x, first, second, j1, j2, out, begin, end):
    """Spectra of samples begin … end − 1, X = (C ∓ iS)(C − iS).

    x is (B, groups, C, n1, n2); first and second are the waves, (2, J + 1, n), out the spectra.
    """
    _, groups, channels, n1, n2 = x.shape
    room = out.shape[4]
    lanes = groups * room
    count1, count2 = first.shape[1], second.shape[1]
    width = 2 * count2 * lanes
    points = aligned(np.zeros(n1 * n2 * lanes + LANES, x.dtype))
    half = aligned(np.empty(n1 * width + LANES, x.dtype))
    whole = aligned(np.empty(2 * count1 * width + LANES, x.dtype))
    x_flat, a, b = x.reshape(-1), first.reshape(-1), second.reshape(-1)
    for sample in range(begin, end):
        for group in range(groups):
            at = (sample * groups + group) * channels * n1 * n2
            _turn(x_flat, at, channels, n1 * n2, points, group * room, lanes)
        for t in range(n1):
            product(
                b, 0, n2, 1, points, t * n2 * lanes, lanes, half, t * width, lanes,
                2 * count2, n2, lanes,
            )  # fmt: skip
        product(a, 0, n1, 1, half, 0, width, whole, 0, width, 2 * count1, n1, width)
        for m in range(len(j1)):
            sign = x.dtype.type(1 if j1[m] >= 0 else -1)
            cosine = abs(j1[m]) * width + j2[m] * lanes
            sine = cosine + count1 * width
            turn = count2 * lanes
            for group in range(groups):
                cc, cs, sc, ss = _parts(
                    whole, cosine + group * room, sine + group * room, turn, room
                )
                real, imaginary = out[m, sample, group, 0], out[m, sample, group, 1]
                for c in range(room):
                    real[c] = cc[c] - sign * ss[c]
                    imaginary[c] = -cs[c] - sign * sc[c]


@kernel(FAST, cached=True)
def synthesise(z, w, first, second, j1, j2, y, begin, end):
    """Fields of samples begin … end − 1 from spectra and the weights of their modes.

    The waves are (n, 2, J + 1), the rest is as in `analyse`.
    """
    _, groups, channels, n1, n2 = y.shape
    room = z.shape[4]
    lanes = groups * room
    count1, count2 = first.shape[2], second.shape[2]
    width = 2 * count2 * lanes
    points = aligned(np.empty(n1 * n2 * lanes + LANES, z.dtype))
    half = aligned(np.empty(n1 * width + LANES, z.dtype))
    whole = aligned(np.empty(2 * count1 * width + LANES, z.dtype))
    y_flat, a, b = y.reshape(-1), first.reshape(-1), second.reshape(-1)
    for sample in range(begin, end):
        whole[:] = 0
        for m in range(len(j1)):
            up, sign = w[m], w[m] if j1[m] >= 0 else -w[m]
            cosine = abs(j1[m]) * width + j2[m] * lanes
            sine = cosine + count1 * width
            turn = count2 * lanes
            for group in range(groups):
                cc, cs, sc, ss = _parts(
                    whole, cosine + group * room, sine + group * room, turn, room
                )
                real, imaginary = z[m, sample, group, 0], z[m, sample, group, 1]
                for c in range(room):
                    cc[c] += up * real[c]
                    ss[c] -= sign * real[c]
                    cs[c] -= up * imaginary[c]
                    sc[c] -= sign * imaginary[c]
        product(a, 0, 2 * count1, 1, whole, 0, width, half, 0, width, n1, 2 * count1, width)
        for t in range(n1):
            product(
                b, 0, 2 * count2, 1, half, t * width, lanes, points, t * n2 * lanes, lanes,
                n2, 2 * count2, lanes,
            )  # fmt: skip
        for group in range(groups):
            at = (sample * groups + group) * channels * n1 * n2
            _turn_back(points, group * room, lanes, channels, n1 * n2, y_flat, at)
