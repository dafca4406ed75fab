"""Explicit SIMD of the sketches: rotation, tables, the scan of a block, scores of listed rows. No bound is checked.

A block's scan sums table entries with `pshufb`: 64 bytes of codes a step under AVX-512, 32 under AVX2. An entry is at
most 63, so four of them meet in a byte before they are widened, and a lane of 16 bits holds the sum over 4,160 dims
(`LUT_MAX` halves beyond). The portable path looks up entry by entry.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
# Numba types the functions it compiles.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._simd import (
    AVX2,
    AVX512,
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    Vec,
    _broadcast,
    _by_lane,
    _elements,
    _float_dots_eight,
    _fold,
    _function,
    _load,
    _loop,
    _shuffle,
    _splat,
    _store,
    _unpack,
    _vnni_dots,
    _wide_dots,
)

LUT_MAX = 63  # four entries fit a byte; 16 bits hold 63 * (4,096 / 4)
LUT_MAX_LONG = 31  # beyond 4,096 dims: 31 * (8,192 / 4) fits as well
LUT_DIMS = 4096
assert 4 * LUT_MAX < 256 and LUT_MAX * LUT_DIMS // 4 < 1 << 16 and LUT_MAX_LONG * 8192 // 4 < 1 << 16

_H16 = Vec(I16, 16)
_W16 = Vec(I32, 16)


def _setter(llvm_type: Any, numba_type: Any) -> Any:
    @intrinsic
    def store(typing_context, where, value):
        def codegen(context, b, signature, args):
            _store(b, args[1], args[0])
            return context.get_dummy_value()

        return types.void(types.uintp, numba_type), codegen

    return store


store_u8, store_u32, store_f32 = _setter(I8, types.uint8), _setter(I32, types.uint32), _setter(F32, types.float32)


# --- rotation ------------------------------------------------------------------------------------------------------


@intrinsic
def multiply_16(typing_context, x, y, out):
    """out = x * y for 16 floats each."""

    def codegen(context, b, signature, args):
        _store(b, b.fmul(_load(b, args[0], F16), _load(b, args[1], F16)), args[2])
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp), codegen


def _stage(b: Any, vectors: list[Any], h: int) -> list[Any]:
    """(x, y) -> (x + y, x - y) for vectors that are h apart in the list."""
    out = list(vectors)
    for i in range(len(vectors)):
        if not i & h:
            out[i], out[i + h] = b.fadd(vectors[i], vectors[i + h]), b.fsub(vectors[i], vectors[i + h])
    return out


def _within_16(b: Any, v: Any) -> Any:
    """The first four stages of the transform, within 16 floats."""
    for h in (1, 2, 4, 8):
        swapped = _shuffle(b, v, v, [i ^ h for i in range(16)])
        v = b.fadd(swapped, b.fmul(v, ir.Constant(F16, [-1.0 if i & h else 1.0 for i in range(16)])))
    return v


@intrinsic
def hadamard_64(typing_context, source, flips, x, factor):
    """x = factor * the first six stages of the transform of source * flips, for 64 floats each."""

    def codegen(context, b, signature, args):
        source, flips, x, factor = args
        ends = [I64(64 * j) for j in range(4)]
        vectors = [b.fmul(_load(b, b.add(source, at), F16), _load(b, b.add(flips, at), F16)) for at in ends]
        vectors = _stage(b, _stage(b, [_within_16(b, v) for v in vectors], 1), 2)
        for at, v in zip(ends, vectors, strict=True):
            _store(b, b.fmul(v, _broadcast(b, F16, factor)), b.add(x, at))
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp, types.float32), codegen


def _stages(count: int) -> Any:
    @intrinsic
    def stages(typing_context, x, h, factor):
        def codegen(context, b, signature, args):
            x, h, factor = args
            places = [b.add(x, b.shl(b.mul(h, I64(j)), I64(2))) for j in range(1 << count)]
            vectors = [_load(b, at, F16) for at in places]
            for stage in range(count):
                vectors = _stage(b, vectors, 1 << stage)
            for at, v in zip(places, vectors, strict=True):
                _store(b, b.fmul(v, _broadcast(b, F16, factor)), at)
            return context.get_dummy_value()

        return types.void(types.uintp, types.int64, types.float32), codegen

    return stages


# One stage, or two, of the transform, for 16 floats each at x, x + h, and so on; times factor.
hadamard_stage, hadamard_stages = _stages(1), _stages(2)


def _absolute(b: Any, v: Any) -> Any:
    return b.bitcast(b.and_(b.bitcast(v, _W16), _splat(_W16, 0x7FFFFFFF)), F16)


@intrinsic
def absolute_sums(typing_context, x, dim):
    """(sum of |x|, the largest sum of |x| over four dims) of float32[dim], dim a multiple of 16."""

    def codegen(context, b, signature, args):
        def body(i, values):
            total, most = values
            v = _absolute(b, _load(b, b.add(args[0], b.shl(i, I64(2))), F16))
            pairs = b.fadd(v, _shuffle(b, v, v, [j ^ 1 for j in range(16)]))
            fours = b.fadd(pairs, _shuffle(b, pairs, pairs, [j ^ 2 for j in range(16)]))
            return [b.fadd(total, v), b.select(b.fcmp_ordered(">", fours, most), fours, most)]

        total, most = _loop(b, I64(0), args[1], 16, [_splat(F16, 0.0)] * 2, body)
        larger = _fold(b, most, lambda u, v: b.select(b.fcmp_ordered(">", u, v), u, v))
        return _unpack(context, b, signature, [_fold(b, total, b.fadd), larger])

    return types.UniTuple(types.float32, 2)(types.uintp, types.int64), codegen


def _transposed(b: Any, four: Sequence[Any]) -> list[Any]:
    """Element i of 128-bit lane j of vector k becomes element k of lane j of vector i."""
    pairs = [
        _shuffle(b, four[at], four[at + 1], _by_lane(pattern))
        for pattern in ((0, 4, 1, 5), (2, 6, 3, 7))
        for at in (0, 2)
    ]
    return [
        _shuffle(b, pairs[at], pairs[at + 1], _by_lane(pattern))
        for at in (0, 2)
        for pattern in ((0, 1, 4, 5), (2, 3, 6, 7))
    ]


@intrinsic
def lut_64(typing_context, coordinates, out, multiplier):
    """Tables of 16 times four coordinates, of 16 bytes each.

    Entry c = the sum of those coordinates * multiplier whose bit is set in c, minus the least such sum, rounded.
    """

    def codegen(context, b, signature, args):
        coordinates, out, multiplier = args
        zero = _splat(F16, 0.0)
        vectors = [_load(b, b.add(coordinates, I64(64 * j)), F16) for j in range(4)]
        values = [b.fmul(v, _broadcast(b, F16, multiplier)) for v in _transposed(b, vectors)]
        least = zero
        for value in values:
            least = b.fadd(least, b.select(b.fcmp_ordered("<", value, zero), value, zero))
        sums = [b.fsub(_splat(F16, 0.5), least)]
        for c in range(1, 16):
            bit = c.bit_length() - 1
            sums.append(b.fadd(sums[c - (1 << bit)], values[bit]))
        entries = [b.fptosi(total, _W16) for total in sums]
        words = []
        for at in range(0, 16, 4):
            word = entries[at]
            for j in range(1, 4):
                word = b.or_(word, b.shl(entries[at + j], _splat(_W16, 8 * j)))
            words.append(word)
        for j, tables in enumerate(_transposed(b, words)):
            _store(b, tables, b.add(out, I64(64 * j)))
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.float32), codegen


@intrinsic
def sign_bits_16(typing_context, x):
    """Bit j is set if x[j] > 0."""

    def codegen(context, b, signature, args):
        return b.bitcast(b.fcmp_ordered(">", _load(b, args[0], F16), _splat(F16, 0.0)), I16)

    return types.uint16(types.uintp), codegen


# --- the scan of a block -------------------------------------------------------------------------------------------


def _table_sums(b: Any, codes: Any, lut: Any, dim: Any) -> list[Any]:
    """Sums of the table entries of rows 0-15 and 16-31: two of <16 x i32>."""
    if AVX512:
        width, name = 64, "llvm.x86.avx512.pshuf.b.512"
    else:
        width, name = 32, "llvm.x86.avx2.pshuf.b"
    octets, words = Vec(I8, width), Vec(I16, width // 2)
    lookup = _function(b, name, octets, [octets, octets])
    nibble, four, eight = _splat(octets, 15), _splat(words, 4), _splat(words, 8)

    def body(i: Any, sums: Any) -> Any:
        sums = list(sums)
        at, table = b.add(codes, b.shl(i, I64(2))), b.add(lut, b.shl(i, I64(2)))
        for group in range(256 // width // 4):
            x = y = None
            for step in range(4):
                offset = I64((4 * group + step) * width)
                code, entries = _load(b, b.add(at, offset), octets), _load(b, b.add(table, offset), octets)
                low = b.call(lookup, [entries, b.and_(code, nibble)])
                shifted = b.bitcast(b.lshr(b.bitcast(code, words), four), octets)
                high = b.call(lookup, [entries, b.and_(shifted, nibble)])
                x, y = (low, high) if x is None else (b.add(x, low), b.add(y, high))
            x, y = b.bitcast(x, words), b.bitcast(y, words)
            # Even bytes count once, odd ones 256-fold; the second sum takes them apart at the end.
            values = (x, b.lshr(x, eight), y, b.lshr(y, eight))
            sums = [b.add(s, v) for s, v in zip(sums, values, strict=True)]
        return sums

    mixed_low, odd_low, mixed_high, odd_high = _loop(b, I64(0), dim, 64, [_splat(words, 0)] * 4, body)
    found = []
    for mixed, odd in ((mixed_low, odd_low), (mixed_high, odd_high)):
        even = b.sub(mixed, b.shl(odd, eight))
        halves = []
        for part in (even, odd):
            lanes = [_shuffle(b, part, part, range(8 * k, 8 * k + 8)) for k in range(width // 16)]
            while len(lanes) > 1:
                lanes = [b.add(u, v) for u, v in zip(lanes[::2], lanes[1::2], strict=True)]
            halves.append(lanes[0])
        in_order = _shuffle(b, halves[0], halves[1], [k for j in range(8) for k in (j, 8 + j)])
        found.append(b.zext(in_order, _W16))
    return found


def _table_sums_portable(b: Any, codes: Any, lut: Any, dim: Any) -> list[Any]:
    """The same, one entry after the other."""
    octets = Vec(I8, 16)

    def body(i: Any, sums: Any) -> Any:
        at, table = b.add(codes, b.shl(i, I64(2))), b.add(lut, b.shl(i, I64(2)))
        code = _load(b, at, octets)
        found = []
        for total, index in zip(sums, (b.and_(code, _splat(octets, 15)), b.lshr(code, _splat(octets, 4))), strict=True):
            entries = ir.Constant(octets, ir.Undefined)
            for j, element in enumerate(_elements(b, index)):
                entries = b.insert_element(entries, _load(b, b.add(table, b.zext(element, I64)), I8), I32(j))
            found.append(b.add(total, b.zext(entries, _H16)))
        return found

    low, high = _loop(b, I64(0), dim, 4, [_splat(_H16, 0)] * 2, body)
    return [b.zext(low, _W16), b.zext(high, _W16)]


def _bounds(b: Any, block: Any, lut: Any, dim: Any, a: Any, minus: Any, eps0: Any) -> list[Any]:
    """f[v] * (a * T[v] - minus) + eps0 * e[v], T the sum of row v's table entries: two of <16 x float>."""
    sums = (_table_sums if AVX512 or AVX2 else _table_sums_portable)(b, block, lut, dim)
    columns = b.add(block, b.shl(dim, I64(2)))
    found = []
    for half, total in enumerate(sums):
        f = _load(b, b.add(columns, I64(64 * half)), F16)
        e = _load(b, b.add(columns, I64(128 + 64 * half)), F16)
        s = b.fsub(b.fmul(b.uitofp(total, F16), _broadcast(b, F16, a)), _broadcast(b, F16, minus))
        found.append(b.fadd(b.fmul(f, s), b.fmul(e, _broadcast(b, F16, eps0))))
    return found


@intrinsic
def surviving_lanes(typing_context, block, lut, dim, a, minus, threshold, eps0):
    """Bit v is set if the bound of row v reaches the threshold: see `_bounds`."""
    signature = types.uint32(types.uintp, types.uintp, types.int64, *[types.float32] * 4)

    def codegen(context, b, signature, args):
        block, lut, dim, a, minus, threshold, eps0 = args
        low, high = [
            b.zext(b.bitcast(b.fcmp_ordered(">=", bound, _broadcast(b, F16, threshold)), I16), I32)
            for bound in _bounds(b, block, lut, dim, a, minus, eps0)
        ]
        return b.or_(low, b.shl(high, I32(16)))

    return signature, codegen


@intrinsic
def lane_bounds(typing_context, block, lut, dim, a, minus, eps0, base, out):
    """base + the bound of each row of a block, to out float32[32]: see `_bounds`."""
    signature = types.void(types.uintp, types.uintp, types.int64, *[types.float32] * 4, types.uintp)

    def codegen(context, b, signature, args):
        *given, base, out = args
        for half, bound in enumerate(_bounds(b, *given)):
            _store(b, b.fadd(bound, _broadcast(b, F16, base)), b.add(out, I64(64 * half)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def bounds_range(typing_context, bounds, count, lowest):
    """(least, largest) of float32[count] at `bounds`, count a multiple of 16, less than `lowest` left out."""

    def codegen(context, b, signature, args):
        bounds, count, lowest = args
        floor = _broadcast(b, F16, lowest)
        more, less = _splat(F16, float("inf")), _splat(F16, float("-inf"))

        def body(i, values):
            v = _load(b, b.add(bounds, b.shl(i, I64(2))), F16)
            least = b.select(b.fcmp_ordered(">=", v, floor), v, more)
            return [
                b.select(b.fcmp_ordered("<", least, values[0]), least, values[0]),
                b.select(b.fcmp_ordered(">", v, values[1]), v, values[1]),
            ]

        least, largest = _loop(b, I64(0), count, 16, [more, less], body)
        found = [
            _fold(b, least, lambda u, v: b.select(b.fcmp_ordered("<", u, v), u, v)),
            _fold(b, largest, lambda u, v: b.select(b.fcmp_ordered(">", u, v), u, v)),
        ]
        return _unpack(context, b, signature, found)

    return types.UniTuple(types.float32, 2)(types.uintp, types.int64, types.float32), codegen


@intrinsic
def count_reaching(typing_context, bounds, count, threshold):
    """How many of float32[count] at `bounds`, count a multiple of 16, are not less than the threshold."""

    def codegen(context, b, signature, args):
        bounds, count, threshold = args
        limit, ones = _broadcast(b, F16, threshold), _function(b, "llvm.ctpop.i16", I16, [I16])

        def body(i, values):
            v = _load(b, b.add(bounds, b.shl(i, I64(2))), F16)
            found = b.call(ones, [b.bitcast(b.fcmp_ordered(">=", v, limit), I16)])
            return [b.add(values[0], b.zext(found, I64))]

        return _loop(b, I64(0), count, 16, [I64(0)], body)[0]

    return types.int64(types.uintp, types.int64, types.float32), codegen


@intrinsic
def lanes_between(typing_context, bounds, low, high):
    """Bit v is set if low <= v-th of float32[32] at `bounds` < high."""

    def codegen(context, b, signature, args):
        bounds, low, high = args
        halves = []
        for half in range(2):
            v = _load(b, b.add(bounds, I64(64 * half)), F16)
            within = b.and_(
                b.fcmp_ordered(">=", v, _broadcast(b, F16, low)), b.fcmp_ordered("<", v, _broadcast(b, F16, high))
            )
            halves.append(b.zext(b.bitcast(within, I16), I32))
        return b.or_(halves[0], b.shl(halves[1], I32(16)))

    return types.uint32(types.uintp, types.float32, types.float32), codegen


# --- scores of rows that lie anywhere ------------------------------------------------------------------------------


@intrinsic
def score_int8_at(typing_context, addresses, scales, query, planes, correction, stride, q_scale, out):
    """float32(dot) * (scale * q_scale) of eight rows at uintp[8], scales float32[8], to out float32[8]."""
    signature = types.void(
        types.uintp, types.uintp, types.uintp, types.uintp, types.int64, types.int64, types.float32, types.uintp
    )

    def codegen(context, b, signature, args):
        addresses, scales, query, planes, correction, stride, q_scale, out = args
        rows = [_load(b, b.add(addresses, I64(8 * j)), I64) for j in range(8)]
        if AVX512:
            dots = _vnni_dots(b, rows, planes, correction, stride)
        else:
            dots = _wide_dots(b, rows, query, stride)
        floats = Vec(F32, 8)
        factors = b.fmul(_load(b, scales, floats), _broadcast(b, floats, q_scale))
        _store(b, b.fmul(b.sitofp(dots, floats), factors), out)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def score_f32_at(typing_context, addresses, query, stride, out):
    """Dots of eight float32 rows at uintp[8], stride in floats, to out float32[8]."""

    def codegen(context, b, signature, args):
        addresses, query, stride, out = args
        rows = [_load(b, b.add(addresses, I64(8 * j)), I64) for j in range(8)]
        _store(b, _float_dots_eight(b, rows, query, stride), out)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.int64, types.uintp), codegen


# --- building ------------------------------------------------------------------------------------------------------


@intrinsic
def residual_16(typing_context, vector, codes, factor, out):
    """out = vector - factor * codes for 16 floats and 16 int8."""

    def codegen(context, b, signature, args):
        codes = b.sitofp(_load(b, args[1], Vec(I8, 16)), F16)
        part = b.fmul(codes, _broadcast(b, F16, args[2]))
        _store(b, b.fsub(_load(b, args[0], F16), part), args[3])
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.float32, types.uintp), codegen


@intrinsic
def widen_16(typing_context, codes, out):
    """16 int8 to 16 int16."""

    def codegen(context, b, signature, args):
        _store(b, b.sext(_load(b, args[0], Vec(I8, 16)), _H16), args[1])
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp), codegen


@intrinsic
def add_16(typing_context, x, out):
    """out += x, 16 floats each."""

    def codegen(context, b, signature, args):
        _store(b, b.fadd(_load(b, args[1], F16), _load(b, args[0], F16)), args[1])
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp), codegen


@intrinsic
def subtract_16(typing_context, x, y, out):
    """out = x - y, 16 floats each."""

    def codegen(context, b, signature, args):
        _store(b, b.fsub(_load(b, args[0], F16), _load(b, args[1], F16)), args[2])
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp), codegen
