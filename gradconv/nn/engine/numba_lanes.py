"""Eight numbers at once between an axis and its folded parts, and between waves and modes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gradconv.nn.engine.numba_tiles import LANES


class _Vectors:
    """Loads, stores and counts of 8 lanes at places of flat arrays."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self.context, self.builder = context, builder
        self.align = context.get_abi_sizeof(context.get_value_type(element))
        self.type = ir.VectorType(context.get_value_type(element), LANES)

    def _at(self, kind: Any, array: Any, place: Any) -> Any:
        data = self.context.make_array(kind)(self.context, self.builder, array).data
        return self.builder.bitcast(self.builder.gep(data, [place]), self.type.as_pointer())

    def load(self, kind: Any, array: Any, place: Any) -> Any:
        value = self.builder.load(self._at(kind, array, place))
        value.align = self.align
        return value

    def store(self, value: Any, kind: Any, array: Any, place: Any) -> None:
        self.builder.store(value, self._at(kind, array, place)).align = self.align

    def turned(self, value: Any) -> Any:
        """The lanes in the opposite order."""
        order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(LANES))[::-1])
        return self.builder.shuffle_vector(value, ir.Constant(self.type, ir.Undefined), order)

    def splat(self, value: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        one = self.builder.insert_element(undefined, value, ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, undefined, first)

    def first(self, count: Any, value: Any) -> Any:
        """The lanes below `count` of `value`, the others zero."""
        kind = ir.VectorType(count.type, LANES)
        numbers = ir.Constant(kind, list(range(LANES)))
        inside = self.builder.icmp_signed("<", numbers, self.splat(count, kind))
        return self.builder.select(inside, value, ir.Constant(self.type, None))


@intrinsic
def fetch_ahead(_context, x, place):
    """Ask for the line of the cache with x[place], to be read soon; any place may be named."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        kinds = [pointer.type, *[ir.IntType(32)] * 3]
        ask = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0i8"
        )
        builder.call(ask, [pointer, *(ir.IntType(32)(v) for v in (0, 2, 1))])
        return context.get_dummy_value()

    return types.void(x, types.intp), code


def _make_fold(turned: bool) -> Any:
    """Sums of eight numbers at four places over both symmetries, to four places `step` apart.

    Along a row the two lines that a symmetry mirrors are read backwards.
    """

    @intrinsic
    def fold(_context, x, a, b, c, d, f, at, step):
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            v = _Vectors(context, builder, sig.args[0].dtype)
            x, *places, f, at, step = args
            a, b, c, d = (v.load(sig.args[0], x, place) for place in places)
            if turned:
                b, c = v.turned(b), v.turned(c)
            even, odd = builder.fadd(a, b), builder.fsub(a, b)
            late, late_odd = builder.fadd(c, d), builder.fsub(c, d)
            values = (
                builder.fadd(even, late),
                builder.fsub(even, late),
                builder.fsub(odd, late_odd),
                builder.fadd(odd, late_odd),
            )
            for value in values:
                v.store(value, sig.args[5], f, at)
                at = builder.add(at, step)
            return context.get_dummy_value()

        return types.void(x, *[types.intp] * 4, f, *[types.intp] * 2), code

    return fold


def _make_unfold(turned: bool) -> Any:
    """From parts of both symmetries, at four places `step` apart, back to four places."""

    @intrinsic
    def unfold(_context, f, at, step, y, a, b, c, d):
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            v = _Vectors(context, builder, sig.args[0].dtype)
            f, at, step, y, a, b, c, d = args
            parts = []
            for _ in range(4):
                parts.append(v.load(sig.args[0], f, at))
                at = builder.add(at, step)
            plus, minus = builder.fadd(parts[0], parts[1]), builder.fsub(parts[0], parts[1])
            sine, bent = builder.fadd(parts[2], parts[3]), builder.fsub(parts[3], parts[2])
            second, third = builder.fsub(plus, sine), builder.fadd(minus, bent)
            if turned:
                second, third = v.turned(second), v.turned(third)
            # Where two places are one, the first value is wrong and the second stands.
            v.store(second, sig.args[3], y, b)
            v.store(builder.fadd(plus, sine), sig.args[3], y, a)
            v.store(builder.fsub(minus, bent), sig.args[3], y, d)
            v.store(third, sig.args[3], y, c)
            return context.get_dummy_value()

        return types.void(f, *[types.intp] * 2, y, *[types.intp] * 4), code

    return unfold


fold_lanes, unfold_lanes = _make_fold(False), _make_unfold(False)
fold_row_lanes, unfold_row_lanes = _make_fold(True), _make_unfold(True)


@intrinsic
def take_modes(_context, d, cc, cs, sc, ss, positive, out, re, im):
    """(C − iσS)(C − iS) of eight modes from products d of waves at four places, σ = ±1."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        v = _Vectors(context, builder, sig.args[0].dtype)
        d, *places, positive, out, re, im = args
        cc, cs, sc, ss = (v.load(sig.args[0], d, place) for place in places)
        plus = builder.icmp_signed(">", positive, positive.type(0))
        ss = builder.select(plus, builder.fneg(ss), ss)
        sc = builder.select(plus, builder.fneg(sc), sc)
        v.store(builder.fadd(cc, ss), sig.args[6], out, re)
        v.store(builder.fsub(sc, cs), sig.args[6], out, im)
        return context.get_dummy_value()

    return types.void(d, *[types.intp] * 5, out, *[types.intp] * 2), code


@intrinsic
def put_modes(_context, z, up, down, part, w, ups, downs, d, cc, cs, sc, ss):
    """Transpose of `take_modes` for σ = 1 and −1 together, weighted; counts end the vectors."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        v = _Vectors(context, builder, sig.args[0].dtype)
        z, up, down, part, w, ups, downs, d, *places = args

        def weighted(start: Any, count: Any) -> tuple[Any, Any]:
            weight = v.load(sig.args[4], w, start)
            real = v.load(sig.args[0], z, start)
            imaginary = v.load(sig.args[0], z, builder.add(start, part))
            return (
                v.first(count, builder.fmul(weight, real)),
                v.first(count, builder.fmul(weight, imaginary)),
            )

        (ar, ai), (br, bi) = weighted(up, ups), weighted(down, downs)
        values = (
            builder.fadd(ar, br),
            builder.fneg(builder.fadd(ai, bi)),
            builder.fsub(bi, ai),
            builder.fsub(br, ar),
        )
        for value, place in zip(values, places, strict=True):
            v.store(value, sig.args[7], d, place)
        return context.get_dummy_value()

    integers = types.intp
    return types.void(z, *[integers] * 3, w, *[integers] * 2, d, *[integers] * 4), code
