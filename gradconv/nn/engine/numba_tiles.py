"""Matrix products of a few dozen rows in registers, for numba kernels.

LLVM's vectoriser keeps sums of products in memory; written out as vector instructions, with a tile
of the result held in registers, the same product runs two to four times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable
from numba.np.arrayobj import populate_array

# Not `fast`: NaN and infinity must come out as they would from a convolution.
FAST = {"contract", "reassoc", "arcp", "nsz"}


def kernel(fastmath: set[str], cached: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile without the interpreter's lock; `cached` for entry points, others go with these.

    numba looks at an entry point's own file to see whether its cache is out of date: after a change
    to another of these files, delete `__pycache__`.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        if cached:
            try:
                return njit(nogil=True, fastmath=fastmath, cache=True)(function)
            except RuntimeError:  # no folder can be written to: compile anew in each process
                pass
        return njit(nogil=True, fastmath=fastmath)(function)

    return compiled


LANES = 8  # columns of all operands are padded to multiples of it
_WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))
_VECTOR_BYTES = 64 if _WIDE else 32


@register_jitable
def padded(n: int) -> int:
    """`n`, rounded up to whole vectors."""
    return -(-n // LANES) * LANES


@intrinsic
def part(_context, array, start, size):
    """array[start : start + size] of a flat array, as a view that does not count references.

    Counting is atomic and costs more than the few dozen operations that are done on such a view.
    The array must outlive it.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.return_type
        source = context.make_array(sig.args[0])(context, builder, args[0])
        view = context.make_array(kind)(context, builder)
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(view.data.type.pointee))
        populate_array(
            view,
            data=builder.gep(source.data, [args[1]]),
            shape=[args[2]],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,
        )
        return view._getvalue()

    return types.Array(array.dtype, 1, "C")(array, types.intp, types.intp), code


def _make_tile(rows: int, vectors: int, width: int) -> Any:
    """Tile of rows and vectors × width columns: c = Σ_k a[row, k] b[k, column]."""

    @intrinsic
    def tile(_context, a, a0, row, step, b, b0, ldb, c, c0, ldc, length):
        signature = types.void(a, *[types.intp] * 3, b, *[types.intp] * 2, c, *[types.intp] * 3)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _tile_code(context, builder, sig, args, rows, vectors, width)

        return signature, code

    return tile


def _tile_code(
    context: Any, builder: Any, sig: Any, args: Any, rows: int, vectors: int, width: int
) -> Any:
    scalar = context.get_value_type(sig.args[0].dtype)
    vector, intp = ir.VectorType(scalar, width), context.get_value_type(types.intp)
    align = context.get_abi_sizeof(scalar)
    _, a0, row, step, _, b0, ldb, _, c0, ldc, length = args
    a, b, c = (
        builder.gep(context.make_array(sig.args[p])(context, builder, args[p]).data, [start])
        for p, start in ((0, a0), (4, b0), (7, c0))
    )
    fma = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector] * 3),
        f"llvm.fma.v{width}{scalar.intrinsic_name}",
    )
    undefined = ir.Constant(vector, ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)

    def at(base: Any, offset: int) -> Any:
        return builder.bitcast(builder.gep(base, [intp(offset)]), vector.as_pointer())

    lines = [builder.gep(a, [builder.mul(row, intp(r))]) for r in range(rows)]
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("tile", "tile.end"))
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(intp)
    k.add_incoming(intp(0), before)
    sums = [builder.phi(vector) for _ in range(rows * vectors)]
    line = builder.gep(b, [builder.mul(k, ldb)])
    right = [builder.load(at(line, v * width)) for v in range(vectors)]
    for load in right:
        load.align = align
    place = builder.mul(k, step)
    results = []
    for r in range(rows):
        left = builder.load(builder.gep(lines[r], [place]))
        left = builder.insert_element(undefined, left, ir.IntType(32)(0))
        left = builder.shuffle_vector(left, undefined, first)
        for v in range(vectors):
            results.append(builder.call(fma, [left, right[v], sums[r * vectors + v]]))
    following = builder.add(k, intp(1))
    k.add_incoming(following, loop)
    for total, result in zip(sums, results, strict=True):
        total.add_incoming(ir.Constant(vector, None), before)
        total.add_incoming(result, loop)
    builder.cbranch(builder.icmp_signed("<", following, length), loop, after)

    builder.position_at_end(after)
    for r in range(rows):
        line = builder.gep(c, [builder.mul(ldc, intp(r))])
        for v in range(vectors):
            builder.store(results[r * vectors + v], at(line, v * width)).align = align
    return context.get_dummy_value()


def _make_panel(vectors: int, width: int) -> Any:
    """All rows of a panel of columns."""
    tile8, tile4, tile1 = (_make_tile(r, vectors, width) for r in (8, 4, 1))

    @kernel(FAST)
    def panel(a, a0, row, step, b, b0, ldb, c, c0, ldc, m, k):
        i = 0
        while i + 8 <= m:
            tile8(a, a0 + row * i, row, step, b, b0, ldb, c, c0 + ldc * i, ldc, k)
            i += 8
        if i + 4 <= m:
            tile4(a, a0 + row * i, row, step, b, b0, ldb, c, c0 + ldc * i, ldc, k)
            i += 4
        while i < m:
            tile1(a, a0 + row * i, row, step, b, b0, ldb, c, c0 + ldc * i, ldc, k)
            i += 1

    return panel


# 24 of 32 registers hold sums with AVX-512; elsewhere there are 16, or 32 of half the length.
_panel_48, _panel_32, _panel_16 = (_make_panel(v, 16) for v in (3, 2, 1))
_panel_8 = _make_panel(1, 8)


@kernel(FAST)
def product(a, a0, row, step, b, b0, ldb, c, c0, ldc, m, k, n):
    """c[c0 + ldc·i + j] = Σ_l a[a0 + row·i + step·l] b[b0 + ldb·l + j], i < m, j < n, l < k.

    The arrays are flat. n is a multiple of 8 (`padded`), k is at least 1.
    """
    j = 0
    if _WIDE:
        while j + 48 <= n:
            _panel_48(a, a0, row, step, b, b0 + j, ldb, c, c0 + j, ldc, m, k)
            j += 48
        if j + 32 <= n:
            _panel_32(a, a0, row, step, b, b0 + j, ldb, c, c0 + j, ldc, m, k)
            j += 32
        if j + 16 <= n:
            _panel_16(a, a0, row, step, b, b0 + j, ldb, c, c0 + j, ldc, m, k)
            j += 16
    while j < n:
        _panel_8(a, a0, row, step, b, b0 + j, ldb, c, c0 + j, ldc, m, k)
        j += 8


def _make_complex_tile(rows: int, columns: int, conjugate: str, add: bool) -> Any:
    """c = Σ_k a[row, k] b[k, column], or added to c; elements are vectors of complex numbers."""

    @intrinsic
    def tile(_context, a, sa, b, sb, c, sc, length):
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _complex_tile_code(context, builder, sig, args, rows, columns, conjugate, add)

        return types.void(a, sa, b, sb, c, sc, length), code

    return tile


def _complex_tile_code(
    context: Any,
    builder: Any,
    sig: Any,
    args: Any,
    rows: int,
    columns: int,
    conjugate: str,
    add: bool,
) -> Any:
    element = sig.args[0].dtype
    scalar = context.get_value_type(element)
    intp = context.get_value_type(types.intp)
    align = context.get_abi_sizeof(scalar)
    width = _VECTOR_BYTES // align
    vector = ir.VectorType(scalar, width)
    fma = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector] * 3),
        f"llvm.fma.v{width}{scalar.intrinsic_name}",
    )

    def operand(place: int) -> tuple[Any, list[Any]]:
        data = context.make_array(sig.args[place])(context, builder, args[place]).data
        start, *strides = cgutils.unpack_tuple(builder, args[place + 1], 4)
        return builder.gep(data, [start]), strides

    def at(base: Any, *offsets: Any) -> Any:
        for offset in offsets:
            base = builder.gep(base, [offset])
        return builder.bitcast(base, vector.as_pointer())

    def load(base: Any, *offsets: Any) -> Any:
        value = builder.load(at(base, *offsets))
        value.align = align
        return value

    (a, (a_row, a_k, a_part)), (b, (b_k, b_column, b_part)), (c, (c_row, c_column, c_part)) = (
        operand(p) for p in (0, 2, 4)
    )
    length = args[6]
    cells = [(r, n) for r in range(rows) for n in range(columns)]
    places = []
    for r, n in cells:
        real = builder.gep(
            c, [builder.add(builder.mul(c_row, intp(r)), builder.mul(c_column, intp(n)))]
        )
        places += [(real,), (real, c_part)]
    zero = ir.Constant(vector, None)
    initial = [load(*place) if add else zero for place in places]
    lines = [builder.gep(a, [builder.mul(a_row, intp(r))]) for r in range(rows)]
    heads = [builder.gep(b, [builder.mul(b_column, intp(n))]) for n in range(columns)]
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("tile", "tile.end"))
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(intp)
    k.add_incoming(intp(0), before)
    sums = [builder.phi(vector) for _ in places]
    from_a, from_b = builder.mul(k, a_k), builder.mul(k, b_k)
    left = [(load(x, from_a), load(x, from_a, a_part)) for x in lines]
    right = [(load(x, from_b), load(x, from_b, b_part)) for x in heads]
    # (a_r + i a_i)(b_r + i b_i): the signs of a_i and b_i turn under conjugation.
    turned_a, turned_b = conjugate == "a", conjugate == "b"
    left_i = [builder.fneg(i) for _, i in left]
    results = []
    for cell, (r, n) in enumerate(cells):
        (ar, ai), (br, bi) = left[r], right[n]
        real = builder.call(fma, [ar, br, sums[2 * cell]])
        other = ai if turned_a or turned_b else left_i[r]
        real = builder.call(fma, [other, bi, real])
        imaginary = builder.call(fma, [left_i[r] if turned_a else ai, br, sums[2 * cell + 1]])
        if turned_b:
            imaginary = builder.call(fma, [ar, builder.fneg(bi), imaginary])
        else:
            imaginary = builder.call(fma, [ar, bi, imaginary])
        results += [real, imaginary]
    following = builder.add(k, intp(1))
    k.add_incoming(following, loop)
    for total, start, result in zip(sums, initial, results, strict=True):
        total.add_incoming(start, before)
        total.add_incoming(result, loop)
    builder.cbranch(builder.icmp_signed("<", following, length), loop, after)

    builder.position_at_end(after)
    for place, result in zip(places, results, strict=True):
        builder.store(result, at(*place)).align = align
    return context.get_dummy_value()


def _make_complex_product(conjugate: str, add: bool) -> Any:
    """c[i, j] = Σ_l a[i, l] b[l, j], i < m, j < n, l < k, on `size` modes; or added to c."""
    tile24, tile14, tile21, tile11 = (
        _make_complex_tile(r, n, conjugate, add) for r, n in ((2, 4), (1, 4), (2, 1), (1, 1))
    )

    @kernel(FAST)
    def run(a, sa, b, sb, c, sc, m, k, n, size):
        a0, a_row, a_k, a_part = sa
        b0, b_k, b_column, b_part = sb
        c0, c_row, c_column, c_part = sc
        for v in range(0, size, _VECTOR_BYTES // a.itemsize):
            i = 0
            while i < m:
                pair = _WIDE and i + 2 <= m
                first = (a0 + v + i * a_row, a_row, a_k, a_part)
                j = 0
                while j < n:
                    second = (b0 + v + j * b_column, b_k, b_column, b_part)
                    third = (c0 + v + i * c_row + j * c_column, c_row, c_column, c_part)
                    if j + 4 <= n:
                        if pair:
                            tile24(a, first, b, second, c, third, k)
                        else:
                            tile14(a, first, b, second, c, third, k)
                        j += 4
                    else:
                        if pair:
                            tile21(a, first, b, second, c, third, k)
                        else:
                            tile11(a, first, b, second, c, third, k)
                        j += 1
                i += 2 if pair else 1

    return run


# Flat arrays with (start, strides of the two indices, distance from real to imaginary part).
complex_product = _make_complex_product("", False)
complex_product_conjugate_a = _make_complex_product("a", True)  # this one adds
complex_product_conjugate_b = _make_complex_product("b", False)
