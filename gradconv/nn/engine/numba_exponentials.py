"""Exponentials exp(−kᵀAk + ib·k) on columns of modes, for numba, with their moments.

With A = LLᵀ the size is exp(−|Lᵀk|²): squares add up and nothing cancels, however thin the kernel.
Down a column E is computed once in a while and follows from row to row in between.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from gradconv.nn.engine.numba_tiles import kernel
from gradconv.nn.engine.numba_vectors import Lanes, Writer

# Reassociation would undo the care taken with phases.
CAREFUL = {"contract", "nsz"}

# Columns of prepared kernels: L; drift in turns a mode, in a part whose products with mode numbers
# are exact and a rest; and a step of s rows, E(j1 + s) = E(j1) 2^(−2us L11) STEP with
# u = L11 j1 + L21 j2, a factor that BEND multiplies at the next step.
L11, L21, L22, TURN1, TURN2, REST1, REST2, STEP_RE, STEP_IM, BEND = range(10)
PREPARED = 10
_RUN = 16  # vectors by steps from one that is computed afresh, so that rounding cannot grow
_STEEPEST = 60.0  # powers of two that E may change by in a run, far from the ends of the numbers
_EXACT_BITS = 11


@kernel(CAREFUL, cached=True)
def prepare(quadratic, drift, length1, length2, rows, prepared):
    """Factors L and drifts of all kernels, scaled to mode numbers and to powers of two.

    quadratic is (kernels, 3), drift (kernels, 2), prepared (kernels, 10). Returns 0, or not a
    number for a kernel that does not decay or is not finite, to be added to its amplitude.
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
        bend, turn = l11 * l11 * rows * rows, 2.0 * math.pi * b1 * rows
        prepared[p, STEP_RE] = 2.0**-bend * math.cos(turn)
        prepared[p, STEP_IM] = 2.0**-bend * math.sin(turn)
        prepared[p, BEND] = 4.0**-bend
    return flaw


@register_jitable(inline="always")
def rows_together(itemsize):
    """Rows of a column that one vector holds."""
    return 8 // itemsize


@register_jitable(inline="always")
def _run_length(kernels, at, j1, j2, columns, rows):
    """Vectors of E that may follow from one that is computed: 1 where E falls or rises steeply."""
    step = kernels[at + L11] * rows
    widest = max(abs(j1[0]), abs(j1[-1])) * kernels[at + L11] + abs(kernels[at + L21] * j2[-1])
    run = _RUN if columns else 1
    while run > 1 and not (2 * widest + step) * step * run < _STEEPEST:
        run //= 2
    return run


def _make_exponential(with_moments: bool) -> Any:
    """cE on a block of modes, of the kernel at a place of the flat array, in runs of vectors.

    Within a run E follows from row to row. With moments, those of conj(E) M are added to a flat
    array: along a column j2 stays in its lane, so that its powers come in at the end.
    """

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        v = Writer(context, builder, sig.args[0].dtype)
        at, c, run = args[1], args[2], args[5]
        kernels, j1, j2, re, im = (v.data(sig, args, p) for p in (0, 3, 4, 6, 7))
        values = [v.one(kernels, builder.add(at, v.intp(p))) for p in range(PREPARED)]
        l11, l21, l22, turn1, turn2, rest1, rest2, step_re, step_im, bend = map(v.splat, values)
        c = v.splat(c)
        (modes,) = cgutils.unpack_tuple(builder, v.array(sig, args, 6).shape, 1)
        count = builder.sdiv(modes, v.intp(v.width))
        slope = l11 * (-2.0 * v.width / 8)
        weights = [v.data(sig, args, p) for p in range(8, 13)] if with_moments else []
        runs = builder.sdiv(builder.add(count, builder.sub(run, v.intp(1))), run)

        bend2 = bend * bend

        def add(sums: list[Lanes], e: Lanes, f: Lanes, place: Any, inside: Any) -> list[Lanes]:
            m_re, m_im, *by = (v.load(data, place) for data in weights)
            w, w1, w11 = by if inside is None else [v.where(inside, value) for value in by]
            real, imaginary = e * m_re + f * m_im, e * m_im - f * m_re
            terms = (w * real, w1 * real, w11 * real, w * imaginary, w1 * imaginary)
            return [s + t for s, t in zip(sums, terms, strict=True)]

        def one_run(n: Any, sums: list[Lanes]) -> list[Lanes]:
            begin = builder.mul(n, run)
            first = builder.mul(begin, v.intp(v.width))
            a, b = v.load(j1, first), v.load(j2, first)
            x, y = l11 * a + l21 * b, l22 * b
            turn = v.reduced(turn1 * a + turn2 * b)
            cosine, sine = v.half_turn(v.reduced(turn + (rest1 * a + rest2 * b)))
            length = v.exp2(-(x * x + y * y))
            change = v.exp2(x * slope)
            e, f = (
                length * (cosine * cosine - sine * sine),
                length * (cosine * sine + sine * cosine),
            )
            p, q = change * step_re, change * step_im
            # Two chains of every other vector, as each product waits for the last.
            state = [
                e, f, e * p - f * q, e * q + f * p, bend * (p * p - q * q), bend * (p * q + q * p)
            ]  # fmt: skip
            left = builder.sub(count, begin)
            vectors = builder.select(builder.icmp_signed("<", left, run), left, run)
            last = builder.sub(vectors, v.intp(1))

            def step(k: Any, held: list[Lanes]) -> list[Lanes]:
                e, f, g, h, p, q, *found = held
                even = builder.mul(k, v.intp(2))
                odd = builder.add(even, v.intp(1))
                inside = builder.icmp_signed("<=", odd, last)
                # An odd vector too many goes where the even one is written after it.
                odd = builder.select(inside, odd, last)
                places = [builder.add(first, builder.mul(n, v.intp(v.width))) for n in (odd, even)]
                for values, place in zip(((g, h), (e, f)), places, strict=True):
                    for value, data in zip(values, (re, im), strict=True):
                        v.store(c * value, data, place)
                if with_moments:
                    found = add(add(found, e, f, places[1], None), g, h, places[0], inside)
                r, s = p * bend2, q * bend2
                return [
                    e * p - f * q, e * q + f * p, g * r - h * s, g * s + h * r,
                    r * bend2, s * bend2, *found,
                ]  # fmt: skip

            half = builder.sdiv(builder.add(vectors, v.intp(1)), v.intp(2))
            return v.loop(half, [*state, *sums], step)[6:]

        sums = v.loop(runs, [v.number(0.0)] * (5 if with_moments else 0), one_run)
        if with_moments:
            total, to = v.data(sig, args, 13), args[14]
            b = v.load(j2, v.intp(0))
            s, s1, s11, t, t1 = sums
            for p, sum_ in enumerate((s, s11, b * s1, b * b * s, t1, b * t)):
                place = builder.gep(total, [builder.add(to, v.intp(p))])
                more = v.doubled(v.total(sum_))
                builder.store(builder.fadd(builder.load(place), more), place)
        return context.get_dummy_value()

    if with_moments:

        @intrinsic
        def exponential(
            _context, kernels, at, c, j1, j2, run, re, im, mr, mi, w, w1, w11, total, to
        ):
            arrays = (mr, mi, w, w1, w11, total)
            return types.void(
                kernels, types.intp, c, j1, j2, types.intp, re, im, *arrays, types.intp
            ), write

    else:

        @intrinsic
        def exponential(_context, kernels, at, c, j1, j2, run, re, im):
            return types.void(kernels, types.intp, c, j1, j2, types.intp, re, im), write

    return exponential


_exponential_of, _exponential_moments_of = _make_exponential(False), _make_exponential(True)


@register_jitable(inline="always")
def exponential(kernels, at, c, j1, j2, columns, re, im):
    """cE on a block of modes."""
    run = _run_length(kernels, at, j1, j2, columns, rows_together(re.itemsize))
    _exponential_of(kernels, at, c, j1, j2, run, re, im)


@register_jitable(inline="always")
def exponential_moments(kernels, at, c, j1, j2, columns, mr, mi, w, w1, w11, re, im, total, to):
    """The same, and the moments of conj(E) M."""
    run = _run_length(kernels, at, j1, j2, columns, rows_together(re.itemsize))
    _exponential_moments_of(kernels, at, c, j1, j2, run, re, im, mr, mi, w, w1, w11, total, to)
