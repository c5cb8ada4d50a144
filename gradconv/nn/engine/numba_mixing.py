"""Mixing for numba: the symbols of all channel pairs are made mode by mode, used and forgotten.

Vectors run along the modes, so that any number of channels, groups and terms goes equally fast.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from gradconv.nn.engine.numba_exponentials import PREPARED, exponential, exponential_moments
from gradconv.nn.engine.numba_tiles import (
    FAST,
    complex_product,
    complex_product_conjugate_a,
    complex_product_conjugate_b,
    kernel,
    part,
)

_OUTS = 2  # output channels whose symbols are held at once,
_PAIRS = 8, 4  # or output and input channels, where products of fields are held beside them
MOMENTS = 6  # of 1, k1², k1k2, k2² (real part) and k1, k2 (imaginary part)


@register_jitable
def aligned(a):
    """All but the first few numbers, so that vectors do not lie across lines of the cache."""
    return a[-a.ctypes.data % 64 // a.itemsize :]


@kernel(FAST)
def _times_prefactor(coefficients, at, powers, j1, j2, re, im, sr, si, add):
    """S = PE, or added to S; coefficients are in units of mode numbers."""
    c = coefficients[at]
    zero = c - c
    p1 = p2 = q11 = q12 = q22 = zero
    if powers > 1:
        p1, p2 = coefficients[at + 1], coefficients[at + 2]
    if powers > 3:
        q11, q12, q22 = coefficients[at + 3], coefficients[at + 4], coefficients[at + 5]
    for m in range(len(j1)):
        a, b = j1[m], j2[m]
        even = c - ((q11 * a + q12 * b) * a + q22 * b * b)
        odd = p1 * a + p2 * b
        real, imaginary = even * re[m] - odd * im[m], even * im[m] + odd * re[m]
        sr[m] = sr[m] + real if add else real
        si[m] = si[m] + imaginary if add else imaginary


@register_jitable(inline="always")
def _symbol(kernels, coefficients, pair, terms, powers, j1, j2, columns, re, im, sr, si):
    """Σ_e P_e E_e of a channel pair on a block of modes."""
    if terms * powers == 1:
        c = coefficients[pair]
        exponential(kernels, pair * PREPARED, c, j1, j2, columns, sr, si)
        return
    one = re.dtype.type(1)
    for e in range(pair * terms, (pair + 1) * terms):
        exponential(kernels, e * PREPARED, one, j1, j2, columns, re, im)
        _times_prefactor(coefficients, e * powers, powers, j1, j2, re, im, sr, si, e > pair * terms)


@kernel(FAST, cached=True)
def mix(x, kernels, coefficients, groups, j1, j2, cuts, columns, z, begin, end):
    """z[b, o] = Σ_i S_oi x[b, i] on blocks begin … end − 1 of modes.

    x is (B, groups·I, 2, modes), z (B, O, 2, modes), kernels (O, I, E, 10), coefficients
    (O, I, E, P). Block n has the modes cuts[n] … cuts[n + 1] − 1; with `columns` it is a part of a
    column.
    """
    outs, ins, terms, powers = coefficients.shape
    per_group = outs // groups
    block = np.diff(cuts).max()
    s = aligned(np.empty(_OUTS * ins * 2 * block + 16, x.dtype))
    scratch = np.empty(2 * block, x.dtype)
    kernels, coefficients = kernels.reshape(-1), coefficients.reshape(-1)
    x_flat, z_flat = x.reshape(-1), z.reshape(-1)
    modes = len(j1)
    x_image, z_image = x.shape[1] * 2 * modes, outs * 2 * modes
    for n in range(begin, end):
        first = cuts[n]
        size = cuts[n + 1] - first
        a, b = part(j1, first, size), part(j2, first, size)
        re, im = part(scratch, 0, size), part(scratch, block, size)
        for group in range(groups):
            for start in range(group * per_group, (group + 1) * per_group, _OUTS):
                together = min(_OUTS, (group + 1) * per_group - start)
                for p in range(together * ins):
                    _symbol(
                        kernels, coefficients, start * ins + p, terms, powers,
                        a, b, columns, re, im,
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
    g, x, kernels, coefficients, groups, j1, j2, weights, cuts, columns, need_x, need_p, h,
    moments, begin, end,
):  # fmt: skip
    """h[b, i] = Σ_o conj(S_oi) g[b, o], and moments of conj(E) M and of conj(PE) M.

    M = Σ_b g[b, o] conj(x[b, i]); moments is (O, I, E, 2, 6), float64, and is added to; with one
    term and one coefficient it is (O, I, 1, 1, 6), as the others follow. weights is (6, modes).
    """
    outs, ins, terms, powers = coefficients.shape
    plain = terms * powers == 1
    block = np.diff(cuts).max()
    per_group = outs // groups
    most_outs, most_ins = _PAIRS
    s = aligned(np.empty(most_outs * most_ins * 2 * block + 16, x.dtype))
    products = aligned(np.empty(most_outs * most_ins * 2 * block + 16, x.dtype))
    scratch = np.empty(4 * block, x.dtype)
    kernels, coefficients = kernels.reshape(-1), coefficients.reshape(-1)
    x_flat, g_flat, h_flat = x.reshape(-1), g.reshape(-1), h.reshape(-1)
    w, total = weights.reshape(-1), moments.reshape(-1)
    one = x.dtype.type(1)
    modes = len(j1)
    x_image, g_image = x.shape[1] * 2 * modes, outs * 2 * modes
    for n in range(begin, end):
        first = cuts[n]
        size = cuts[n + 1] - first
        a, b = part(j1, first, size), part(j2, first, size)
        w0, w11 = part(w, first, size), part(w, first + modes, size)
        w12, w22 = part(w, first + 2 * modes, size), part(w, first + 3 * modes, size)
        w1, w2 = part(w, first + 4 * modes, size), part(w, first + 5 * modes, size)
        re, im = part(scratch, 0, size), part(scratch, block, size)
        if need_x:
            h[:, :, :, first : first + size] = 0
        ar, ai = part(scratch, 2 * block, size), part(scratch, 3 * block, size)
        for group in range(groups):
            for start in range(group * per_group, (group + 1) * per_group, most_outs):
                together = min(most_outs, (group + 1) * per_group - start)
                g_first = first + start * 2 * modes
                for begin_in in range(0, ins, most_ins):
                    count = min(most_ins, ins - begin_in)
                    x_first = first + (group * ins + begin_in) * 2 * modes
                    if need_p:
                        complex_product_conjugate_b(
                            g_flat, (g_first, 2 * modes, g_image, modes),
                            x_flat, (x_first, x_image, 2 * modes, modes),
                            products, (0, 2 * block * count, 2 * block, block),
                            together, len(x), count, size,
                        )  # fmt: skip
                    for p in range(together * count):
                        pair = (start + p // count) * ins + begin_in + p % count
                        sr, si = part(s, 2 * block * p, size), part(s, 2 * block * p + block, size)
                        if not need_p:
                            _symbol(
                                kernels, coefficients, pair, terms, powers,
                                a, b, columns, re, im, sr, si,
                            )  # fmt: skip
                            continue
                        mr = part(products, 2 * block * p, size)
                        mi = part(products, 2 * block * p + block, size)
                        if plain:
                            exponential_moments(
                                kernels, pair * PREPARED, coefficients[pair], a, b, columns,
                                mr, mi, w0, w1, w11, sr, si, total, pair * MOMENTS,
                            )  # fmt: skip
                            continue
                        for e in range(pair * terms, (pair + 1) * terms):
                            exponential(kernels, e * PREPARED, one, a, b, columns, re, im)
                            _times_prefactor(
                                coefficients, e * powers, powers, a, b, re, im, sr, si,
                                e > pair * terms,
                            )  # fmt: skip
                            _moments(
                                re, im, mr, mi, w0, w11, w12, w22, w1, w2, one, ar, ai,
                                total, 2 * e * MOMENTS,
                            )  # fmt: skip
                            _times_prefactor(
                                coefficients, e * powers, powers, a, b, re, im, ar, ai, False
                            )
                            _moments(
                                ar, ai, mr, mi, w0, w11, w12, w22, w1, w2, one, re, im,
                                total, (2 * e + 1) * MOMENTS,
                            )  # fmt: skip
                    if need_x:
                        complex_product_conjugate_a(
                            s, (0, 2 * block, 2 * block * count, block),
                            g_flat, (g_first, 2 * modes, g_image, modes),
                            h_flat, (x_first, 2 * modes, x_image, modes),
                            count, together, len(g), size,
                        )  # fmt: skip
