"""Vectors of 64 bytes as values with operators, to write code for numba in.

LLVM makes vectors of loops by itself, but looks twice at each of their arrays first, which costs
more than the few dozen numbers of a column of modes. A vector longer than the machine's is several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

BYTES = 64
_FLAGS = ("contract", "nsz")


def _cosine(degree: int) -> list[float]:
    """Taylor coefficients of cos(πr) in r²."""
    return [(-1.0) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(degree + 1)]


class Lanes:
    """A vector; operators work lane by lane, numbers stand for themselves in each lane."""

    def __init__(self, writer: Writer, value: Any) -> None:
        self.writer, self.value = writer, value

    def _with(self, other: Lanes | float, operation: str, turned: bool = False) -> Lanes:
        right = other.value if isinstance(other, Lanes) else self.writer.number(other).value
        pair = (right, self.value) if turned else (self.value, right)
        make = getattr(self.writer.builder, operation)
        return Lanes(self.writer, make(*pair, flags=_FLAGS))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._with(other, "fadd")

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._with(other, "fsub")

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._with(other, "fmul")

    def __rmul__(self, other: float) -> Lanes:
        return self._with(other, "fmul", turned=True)

    def __neg__(self) -> Lanes:
        return Lanes(self.writer, self.writer.builder.fneg(self.value))


class Writer:
    """Writes vector code of one type of numbers at the builder's place."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.context, self.builder, self.kind = context, builder, kind
        self.scalar = context.get_value_type(kind)
        self.align = context.get_abi_sizeof(self.scalar)
        self.width = BYTES // self.align
        self.type = ir.VectorType(self.scalar, self.width)
        self.intp = context.get_value_type(types.intp)

    def data(self, sig: Any, args: Any, place: int) -> Any:
        """Pointer to an array among the arguments."""
        return self.array(sig, args, place).data

    def array(self, sig: Any, args: Any, place: int) -> Any:
        """An array among the arguments."""
        return self.context.make_array(sig.args[place])(self.context, self.builder, args[place])

    def number(self, x: float) -> Lanes:
        """The same constant in each lane."""
        return Lanes(self, ir.Constant(self.type, [ir.Constant(self.scalar, x)] * self.width))

    def splat(self, value: Any) -> Lanes:
        """The same value in each lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.IntType(32)(0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return Lanes(self, self.builder.shuffle_vector(one, undefined, order))

    def one(self, data: Any, place: Any) -> Any:
        """A number in memory."""
        return self.builder.load(self.builder.gep(data, [place]))

    def _at(self, data: Any, place: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [place]), self.type.as_pointer())

    def load(self, data: Any, place: Any) -> Lanes:
        """A vector from memory."""
        value = self.builder.load(self._at(data, place))
        value.align = self.align
        return Lanes(self, value)

    def store(self, lanes: Lanes, data: Any, place: Any) -> None:
        """A vector to memory."""
        self.builder.store(lanes.value, self._at(data, place)).align = self.align

    def where(self, condition: Any, lanes: Lanes) -> Lanes:
        """The vector under a condition, zeros else."""
        zero = ir.Constant(self.type, None)
        return Lanes(self, self.builder.select(condition, lanes.value, zero))

    def total(self, lanes: Lanes) -> Any:
        """Sum of the lanes, by halves."""
        value, width = lanes.value, self.width
        while width > 1:
            width //= 2
            low, high = (
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(s, s + width)))
                for s in (0, width)
            )
            undefined = ir.Constant(value.type, ir.Undefined)
            halves = [self.builder.shuffle_vector(value, undefined, half) for half in (low, high)]
            value = self.builder.fadd(*halves)
        return self.builder.extract_element(value, ir.IntType(32)(0))

    def doubled(self, value: Any) -> Any:
        """A number in double precision."""
        return value if self.align == 8 else self.builder.fpext(value, ir.DoubleType())

    def loop(self, count: Any, values: Sequence[Lanes], body: Any) -> list[Lanes]:
        """values = body(k, values) for k = 0 … count − 1; count is at least 1."""
        builder = self.builder
        before = builder.block
        inside, after = (builder.append_basic_block(name) for name in ("vectors", "vectors.end"))
        builder.branch(inside)
        builder.position_at_end(inside)
        k = builder.phi(self.intp)
        k.add_incoming(self.intp(0), before)
        held = [builder.phi(self.type) for _ in values]
        for phi, start in zip(held, values, strict=True):
            phi.add_incoming(start.value, before)
        new = body(k, [Lanes(self, phi) for phi in held])
        following = builder.add(k, self.intp(1))
        end = builder.block
        k.add_incoming(following, end)
        for phi, value in zip(held, new, strict=True):
            phi.add_incoming(value.value, end)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        return new

    def _intrinsic(self, name: str, *lanes: Lanes) -> Lanes:
        kind = ir.FunctionType(self.type, [self.type] * len(lanes))
        full = f"llvm.{name}.v{self.width}{self.scalar.intrinsic_name}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, full)
        return Lanes(self, self.builder.call(function, [v.value for v in lanes]))

    def reduced(self, turns: Lanes) -> Lanes:
        """A number of turns, less the nearest whole."""
        return turns - self._intrinsic("floor", turns + 0.5)

    def exp2(self, y: Lanes) -> Lanes:
        """2^y; nearly 0 where that is below the normal numbers."""
        single = self.align == 4
        lowest = self.number(-126.0 if single else -1022.0)
        above = self.builder.fcmp_ordered(">", y.value, lowest.value)
        z = Lanes(self, self.builder.select(above, y.value, lowest.value))
        n = self._intrinsic("floor", z + 0.5)
        f = z - n
        degree = 7 if single else 12
        p = self._polynomial([math.log(2.0) ** k / math.factorial(k) for k in range(degree + 1)], f)
        whole = ir.VectorType(ir.IntType(8 * self.align), self.width)
        bits, bias = (23, 127) if single else (52, 1023)
        exponent = self.builder.fptosi(n.value, whole)
        exponent = self.builder.add(exponent, ir.Constant(whole, [bias] * self.width))
        exponent = self.builder.shl(exponent, ir.Constant(whole, [bits] * self.width))
        return p * Lanes(self, self.builder.bitcast(exponent, self.type))

    def half_turn(self, r: Lanes) -> tuple[Lanes, Lanes]:
        """cos(πr) and sin(πr), |r| ≤ 1/2."""
        z = r * r
        sine, cosine = (5, 6) if self.align == 4 else (9, 10)
        odd = [c * math.pi / (2 * k + 1) for k, c in enumerate(_cosine(sine))]
        return self._polynomial(_cosine(cosine), z), self._polynomial(odd, z) * r

    def _polynomial(self, coefficients: list[float], x: Lanes) -> Lanes:
        """Taylor's, whose degrees leave less than the rounding for |x| ≤ 1/2."""
        value = self.number(coefficients[-1])
        for c in coefficients[-2::-1]:
            value = value * x + c
        return value
