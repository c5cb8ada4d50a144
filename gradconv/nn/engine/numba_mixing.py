"""Mixing for numba: the symbols of all channel pairs are made mode by mode, used and forgotten.

Vectors run along the modes, so that any number of channels, groups and terms goes equally fast.
A symbol is P(k) exp(−|Lᵀk|²) e^{ib·k} with A = LLᵀ: squares add up and nothing cancels, however
thin the kernel. Exponentials and circular functions are polynomials, written out here because
LLVM has none that run on vectors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload, register_jitable

from gradconv.nn.engine.numba_tiles import (
    FAST,
    complex_product,
    complex_product_conjugate_a,
    complex_product_conjugate_b,
    kernel,
    part,
)

# Reassociation would undo the care taken with phases.
CAREFUL = {"contract", "nsz"}

# Columns of prepared kernels: L, then drift in turns a mode, in a part whose products with mode
# numbers are exact and a rest.
L11, L21, L22, TURN1, TURN2, REST1, REST2 = range(7)
PREPARED = 7
_EXACT_BITS = 11
_TOGETHER = 8  # output channels whose symbols are held at once
MOMENTS = 6  # of 1, k1², k1k2, k2² (real part) and k1, k2 (imaginary part)


def _series(dtype: Any, exp: int, sine: int, cosine: int) -> tuple[tuple[Any, ...], ...]:
    """Taylor coefficients from the highest down: 2^f; sin(πr)/r and cos(πr) in r².

    The degrees leave less than the rounding for |f|, |r| ≤ 1/2.
    """
    terms = (
        [math.log(2.0) ** k / math.factorial(k) for k in range(exp + 1)],
        [(-1.0) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(sine + 1)],
        [(-1.0) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(cosine + 1)],
    )
    return tuple(tuple(dtype(c) for c in t[::-1]) for t in terms)


_EXP4, _SIN4, _COS4 = _series(np.float32, 7, 5, 6)
_EXP8, _SIN8, _COS8 = _series(np.float64, 12, 9, 10)
_HALF4, _HALF8 = np.float32(0.5), np.float64(0.5)
_LOW4, _LOW8 = np.float32(-126.0), np.float64(-1022.0)


@intrinsic
def _power_of_two(_context, n):
    """2ⁿ of a whole floating-point n, by writing it into the exponent."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits, bias = (23, 127) if sig.args[0] == types.float32 else (52, 1023)
        whole = ir.IntType(32 if bits == 23 else 64)
        exponent = builder.add(builder.fptosi(args[0], whole), whole(bias))
        return builder.bitcast(builder.shl(exponent, whole(bits)), args[0].type)

    return n(n), code


@register_jitable
def _horner6(c, x):
    return ((((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]) * x + c[5]


def _exp2(y):
    """2^y for y ≤ 0; 0 or nearly so where it is below the normal numbers."""


@overload(_exp2, inline="always")
def _exp2_of(y):
    if y == types.float32:

        def exp2_single(y):
            z = max(y, _LOW4)
            n = np.floor(z + _HALF4)
            f = z - n
            c = _EXP4
            return ((_horner6(c, f) * f + c[6]) * f + c[7]) * _power_of_two(n)

        return exp2_single

    def exp2_double(y):
        z = max(y, _LOW8)
        n = np.floor(z + _HALF8)
        f = z - n
        c = _EXP8
        p = _horner6(c, f)
        p = ((((p * f + c[6]) * f + c[7]) * f + c[8]) * f + c[9]) * f + c[10]
        return ((p * f + c[11]) * f + c[12]) * _power_of_two(n)

    return exp2_double


def _reduce(t):
    """A number of turns, less the nearest whole."""


@overload(_reduce, inline="always")
def _reduce_of(t):
    if t == types.float32:
        return lambda t: t - np.floor(t + _HALF4)
    return lambda t: t - np.floor(t + _HALF8)


def _half_turn(r):
    """cos(πr) and sin(πr), |r| ≤ 1/2."""


@overload(_half_turn, inline="always")
def _half_turn_of(r):
    if r == types.float32:

        def single(r):
            z = r * r
            return _horner6(_COS4, z) * z + _COS4[6], _horner6(_SIN4, z) * r

        return single

    def double(r):
        z = r * r
        c, s = _COS8, _SIN8
        cosine = (((_horner6(c, z) * z + c[6]) * z + c[7]) * z + c[8]) * z + c[9]
        cosine = cosine * z + c[10]
        sine = (((_horner6(s, z) * z + s[6]) * z + s[7]) * z + s[8]) * z + s[9]
        return cosine, sine * r

    return double


@kernel(CAREFUL, cached=True)
def prepare(quadratic, drift, length1, length2, prepared):
    """Factors L and drifts of all kernels, scaled to mode numbers and to powers of two.

    quadratic is (kernels, 3), drift (kernels, 2), prepared (kernels, 7). Returns 0, or not a number
    for a kernel that does not decay or is not finite, to be added to its amplitude.
    """
    flaw = np.zeros(len(quadratic), prepared.dtype)
    square = 1.0 / math.log(2.0)
    k1, k2 = 2.0 * math.pi / length1, 2.0 * math.pi / length2
    for p in range(len(quadratic)):
        a11 = quadratic[p, 0] * k1 * k1 * square
        a12 = quadratic[p, 1] * k1 * k2 * square
        a22 = quadratic[p, 2] * k2 * k2 * square
        b1, b2 = drift[p, 0] / length1, drift[p, 1] / length2
        l11 = math.sqrt(max(a11, 0.0))
        l21 = a12 / l11 if l11 > 0.0 else 0.0
        rest = a22 - l21 * l21
        decays = a11 >= 0.0 and rest >= -1e-6 * a22 and (l11 > 0.0 or a12 == 0.0)
        if not (decays and math.isfinite(a11 + a22 + b1 + b2)):
            flaw[p] = math.nan
            prepared[p] = 0
            continue
        scale = 2.0**_EXACT_BITS
        b1, b2 = b1 - np.rint(b1), b2 - np.rint(b2)
        t1, t2 = np.rint(b1 * scale) / scale, np.rint(b2 * scale) / scale
        prepared[p, L11], prepared[p, L21], prepared[p, L22] = l11, l21, math.sqrt(max(rest, 0.0))
        prepared[p, TURN1], prepared[p, TURN2] = t1, t2
        prepared[p, REST1], prepared[p, REST2] = b1 - t1, b2 - t2
    return flaw


@register_jitable
def aligned(a):
    """All but the first few numbers, so that vectors do not lie across lines of the cache."""
    return a[-a.ctypes.data % 64 // a.itemsize :]


@register_jitable(inline="always")
def _loaded(kernels, at):
    """A prepared kernel as numbers, not as memory that a store might change."""
    return (
        kernels[at + L11], kernels[at + L21], kernels[at + L22],
        kernels[at + TURN1], kernels[at + TURN2], kernels[at + REST1], kernels[at + REST2],
    )  # fmt: skip


@register_jitable(inline="always")
def _exponential_at(kernel, a, b):
    """E at mode (a, b)."""
    l11, l21, l22, turn1, turn2, rest1, rest2 = kernel
    u, v = l11 * a + l21 * b, l22 * b
    size = _exp2(-(u * u + v * v))
    turn = _reduce(turn1 * a + turn2 * b)
    c, s = _half_turn(_reduce(turn + (rest1 * a + rest2 * b)))
    return size * (c * c - s * s), size * (c * s + s * c)


@kernel(CAREFUL)
def _exponential(kernels, at, j1, j2, re, im):
    """E on a block of modes, of the kernel at a place of the flat array."""
    kernel = _loaded(kernels, at)
    for m in range(len(j1)):
        re[m], im[m] = _exponential_at(kernel, j1[m], j2[m])


@kernel(CAREFUL)
def _plain_symbol(kernels, at, c, j1, j2, sr, si):
    """S = cE."""
    kernel = _loaded(kernels, at)
    for m in range(len(j1)):
        re, im = _exponential_at(kernel, j1[m], j2[m])
        sr[m] = c * re
        si[m] = c * im


@kernel(FAST)
def _times_prefactor(coefficients, at, columns, j1, j2, re, im, sr, si, add):
    """S = PE, or added to S; coefficients are in units of mode numbers."""
    c = coefficients[at]
    zero = c - c
    p1 = p2 = q11 = q12 = q22 = zero
    if columns > 1:
        p1, p2 = coefficients[at + 1], coefficients[at + 2]
    if columns > 3:
        q11, q12, q22 = coefficients[at + 3], coefficients[at + 4], coefficients[at + 5]
    for m in range(len(j1)):
        a, b = j1[m], j2[m]
        even = c - ((q11 * a + q12 * b) * a + q22 * b * b)
        odd = p1 * a + p2 * b
        real, imaginary = even * re[m] - odd * im[m], even * im[m] + odd * re[m]
        sr[m] = sr[m] + real if add else real
        si[m] = si[m] + imaginary if add else imaginary


@kernel(FAST)
def _symbol(kernels, coefficients, pair, terms, columns, j1, j2, re, im, sr, si):
    """Σ_e P_e E_e of a channel pair on a block of modes."""
    if terms * columns == 1:
        _plain_symbol(kernels, pair * PREPARED, coefficients[pair], j1, j2, sr, si)
        return
    for e in range(pair * terms, (pair + 1) * terms):
        _exponential(kernels, e * PREPARED, j1, j2, re, im)
        _times_prefactor(
            coefficients, e * columns, columns, j1, j2, re, im, sr, si, e > pair * terms
        )


@kernel(FAST, cached=True)
def mix(x, kernels, coefficients, groups, j1, j2, block, z, begin, end):
    """z[b, o] = Σ_i S_oi x[b, i] on blocks begin … end − 1 of modes.

    x is (B, groups·I, 2, modes), z (B, O, 2, modes), kernels (O, I, E, 7), coefficients
    (O, I, E, P).
    """
    outs, ins, terms, columns = coefficients.shape
    per_group = outs // groups
    s = aligned(np.empty(_TOGETHER * ins * 2 * block + 16, x.dtype))
    scratch = np.empty(2 * block, x.dtype)
    kernels, coefficients = kernels.reshape(-1), coefficients.reshape(-1)
    x_flat, z_flat = x.reshape(-1), z.reshape(-1)
    modes = len(j1)
    x_image, z_image = x.shape[1] * 2 * modes, outs * 2 * modes
    for n in range(begin, end):
        first = n * block
        size = min(block, modes - first)
        a, b = part(j1, first, size), part(j2, first, size)
        re, im = part(scratch, 0, size), part(scratch, block, size)
        for group in range(groups):
            for start in range(group * per_group, (group + 1) * per_group, _TOGETHER):
                together = min(_TOGETHER, (group + 1) * per_group - start)
                for p in range(together * ins):
                    _symbol(
                        kernels, coefficients, start * ins + p, terms, columns, a, b, re, im,
                        part(s, 2 * block * p, size), part(s, 2 * block * p + block, size),
                    )  # fmt: skip
                complex_product(
                    s, (0, 2 * block * ins, 2 * block, block),
                    x_flat, (first + group * ins * 2 * modes, 2 * modes, x_image, modes),
                    z_flat, (first + start * 2 * modes, 2 * modes, z_image, modes),
                    together, ins, len(x), size,
                )  # fmt: skip


@kernel(FAST)
def _moments(re, im, mr, mi, w0, w11, w12, w22, w1, w2, c, sr, si, total, at):
    """Adds the moments of conj(E) M, with weights and their products with mode numbers; S = cE."""
    s0 = s11 = s12 = s22 = s1 = s2 = c - c
    for m in range(len(re)):
        tr, ti = re[m] * mr[m] + im[m] * mi[m], re[m] * mi[m] - im[m] * mr[m]
        s0 += w0[m] * tr
        s11 += w11[m] * tr
        s12 += w12[m] * tr
        s22 += w22[m] * tr
        s1 += w1[m] * ti
        s2 += w2[m] * ti
        sr[m] = c * re[m]
        si[m] = c * im[m]
    total[at] += s0
    total[at + 1] += s11
    total[at + 2] += s12
    total[at + 3] += s22
    total[at + 4] += s1
    total[at + 5] += s2


@kernel(FAST, cached=True)
def mix_adjoint(
    g, x, kernels, coefficients, groups, j1, j2, weights, block, need_x, need_p, h, moments,
    begin, end,
):  # fmt: skip
    """h[b, i] = Σ_o conj(S_oi) g[b, o], and moments of conj(E) M and of conj(PE) M.

    M = Σ_b g[b, o] conj(x[b, i]); moments is (O, I, E, 2, 6), float64, and is added to; with one
    term and one coefficient it is (O, I, 1, 1, 6), as the others follow. weights is (6, modes).
    """
    outs, ins, terms, columns = coefficients.shape
    plain = terms * columns == 1
    per_group = outs // groups
    s = aligned(np.empty(_TOGETHER * ins * 2 * block + 16, x.dtype))
    products = aligned(np.empty(_TOGETHER * ins * 2 * block + 16, x.dtype))
    scratch = np.empty(4 * block, x.dtype)
    kernels, coefficients = kernels.reshape(-1), coefficients.reshape(-1)
    x_flat, g_flat, h_flat = x.reshape(-1), g.reshape(-1), h.reshape(-1)
    w, total = weights.reshape(-1), moments.reshape(-1)
    one = x.dtype.type(1)
    modes = len(j1)
    x_image, g_image = x.shape[1] * 2 * modes, outs * 2 * modes
    for n in range(begin, end):
        first = n * block
        size = min(block, modes - first)
        a, b = part(j1, first, size), part(j2, first, size)
        w0, w11 = part(w, first, size), part(w, first + modes, size)
        w12, w22 = part(w, first + 2 * modes, size), part(w, first + 3 * modes, size)
        w1, w2 = part(w, first + 4 * modes, size), part(w, first + 5 * modes, size)
        re, im = part(scratch, 0, size), part(scratch, block, size)
        if need_x:
            h[:, :, :, first : first + size] = 0
        ar, ai = part(scratch, 2 * block, size), part(scratch, 3 * block, size)
        for group in range(groups):
            channels = first + group * ins * 2 * modes
            for start in range(group * per_group, (group + 1) * per_group, _TOGETHER):
                together = min(_TOGETHER, (group + 1) * per_group - start)
                if need_p:
                    complex_product_conjugate_b(
                        g_flat, (first + start * 2 * modes, 2 * modes, g_image, modes),
                        x_flat, (channels, x_image, 2 * modes, modes),
                        products, (0, 2 * block * ins, 2 * block, block),
                        together, len(x), ins, size,
                    )  # fmt: skip
                for p in range(together * ins):
                    pair = start * ins + p
                    sr, si = part(s, 2 * block * p, size), part(s, 2 * block * p + block, size)
                    if not need_p:
                        _symbol(kernels, coefficients, pair, terms, columns, a, b, re, im, sr, si)
                        continue
                    mr = part(products, 2 * block * p, size)
                    mi = part(products, 2 * block * p + block, size)
                    for e in range(pair * terms, (pair + 1) * terms):
                        _exponential(kernels, e * PREPARED, a, b, re, im)
                        if plain:
                            _moments(
                                re, im, mr, mi, w0, w11, w12, w22, w1, w2, coefficients[pair],
                                sr, si, total, e * MOMENTS,
                            )  # fmt: skip
                            continue
                        _times_prefactor(
                            coefficients, e * columns, columns, a, b, re, im, sr, si,
                            e > pair * terms,
                        )  # fmt: skip
                        _moments(
                            re, im, mr, mi, w0, w11, w12, w22, w1, w2, one, ar, ai,
                            total, 2 * e * MOMENTS,
                        )  # fmt: skip
                        _times_prefactor(
                            coefficients, e * columns, columns, a, b, re, im, ar, ai, False
                        )
                        _moments(
                            ar, ai, mr, mi, w0, w11, w12, w22, w1, w2, one, re, im,
                            total, (2 * e + 1) * MOMENTS,
                        )  # fmt: skip
                if need_x:
                    complex_product_conjugate_a(
                        s, (0, 2 * block, 2 * block * ins, block),
                        g_flat, (first + start * 2 * modes, 2 * modes, g_image, modes),
                        h_flat, (channels, 2 * modes, x_image, modes),
                        ins, together, len(g), size,
                    )  # fmt: skip
