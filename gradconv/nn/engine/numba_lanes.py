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
        return self._shuffled(value, ir.Constant(self.type, ir.Undefined), list(range(LANES))[::-1])

    def alternated(self, a: Any, b: Any) -> tuple[Any, Any]:
        """a0 b0 a1 b1 …, in two vectors."""
        order = [n + LANES * side for n in range(LANES) for side in (0, 1)]
        return self._shuffled(a, b, order[:LANES]), self._shuffled(a, b, order[LANES:])

    def parted(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Inverse of `alternated`."""
        order = list(range(0, 2 * LANES, 2)), list(range(1, 2 * LANES, 2))
        return self._shuffled(a, b, order[0]), self._shuffled(a, b, order[1])

    def _shuffled(self, a: Any, b: Any, order: list[int]) -> Any:
        places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
        return self.builder.shuffle_vector(a, b, places)


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


def _make_take(parities: int) -> Any:
    """(C − iσS)(C − iS) of eight modes from products d of waves at four places, σ = ±1.

    With two parities the modes are twice as many, `odd` is the distance from even waves to odd
    ones, and the two alternate in what is stored, at `low` and `high`.
    """

    @intrinsic
    def take(_context, d, cc, cs, sc, ss, odd, positive, out, low, high, imaginary):
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            v = _Vectors(context, builder, sig.args[0].dtype)
            d, *places, odd, positive, out, low, high, imaginary = args
            plus = builder.icmp_signed(">", positive, positive.type(0))

            def modes(away: Any) -> tuple[Any, Any]:
                cc, cs, sc, ss = (v.load(sig.args[0], d, builder.add(p, away)) for p in places)
                ss = builder.select(plus, builder.fneg(ss), ss)
                sc = builder.select(plus, builder.fneg(sc), sc)
                return builder.fadd(cc, ss), builder.fsub(sc, cs)

            even = modes(odd.type(0))
            if parities == 1:
                pairs = [(part, part) for part in even]
            else:
                pairs = [v.alternated(*parts) for parts in zip(even, modes(odd), strict=True)]
            for part, away in zip(pairs, (low.type(0), imaginary), strict=True):
                v.store(part[0], sig.args[7], out, builder.add(low, away))
                if parities == 2:
                    v.store(part[1], sig.args[7], out, builder.add(high, away))
            return context.get_dummy_value()

        return types.void(d, *[types.intp] * 6, out, *[types.intp] * 3), code

    return take


def _make_put(parities: int) -> Any:
    """Transpose of `take` for σ = 1 and −1 together, with weights."""

    @intrinsic
    def put(_context, z, up, up_high, down, down_high, imaginary, w, d, cc, cs, sc, ss, odd):
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            v = _Vectors(context, builder, sig.args[0].dtype)
            z, up, up_high, down, down_high, imaginary, w, d, *places, odd = args

            def weighted(start: Any) -> list[Any]:
                weight = v.load(sig.args[6], w, start)
                ends = (start, builder.add(start, imaginary))
                return [builder.fmul(weight, v.load(sig.args[0], z, end)) for end in ends]

            def parted(low: Any, high: Any) -> list[tuple[Any, Any]]:
                if parities == 1:
                    return [(part, part) for part in weighted(low)]
                both = zip(weighted(low), weighted(high), strict=True)
                return [v.parted(*parts) for parts in both]

            (ar, ai), (br, bi) = parted(up, up_high), parted(down, down_high)
            for parity in range(parities):
                values = (
                    builder.fadd(ar[parity], br[parity]),
                    builder.fneg(builder.fadd(ai[parity], bi[parity])),
                    builder.fsub(bi[parity], ai[parity]),
                    builder.fsub(br[parity], ar[parity]),
                )
                for value, place in zip(values, places, strict=True):
                    to = builder.add(place, odd) if parity else place
                    v.store(value, sig.args[7], d, to)
            return context.get_dummy_value()

        return types.void(z, *[types.intp] * 5, w, d, *[types.intp] * 5), code

    return put


take_modes, take_both = _make_take(1), _make_take(2)
put_modes, put_both = _make_put(1), _make_put(2)
