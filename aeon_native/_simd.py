"""Explicit SIMD: LLVM vectors reached from numba through intrinsics that take addresses.

Float kernels use one form of 16 lanes for all processors: LLVM lowers it to one zmm, two ymm, or four xmm / NEON
registers, and since no operation is reordered or fused, every processor computes the same bits. The order of a sum is
part of the contract: lane j sums the elements j, j + 16, j + 32, ..., then the lanes fold 16 -> 8 -> 4 -> 2 -> 1, each
time adding the upper half to the lower. Integer kernels are exact, so each path takes the instructions it has:

    avx512    vpdpbusd on 64 bytes of a row (as u8, flipped by 0x80) with two int8 planes of the query
    avx2      sign-extend 16 bytes of a row, vpmaddwd with the int16 query
    portable  plain widening multiplies, vectorised by LLVM

All loads and stores have alignment 1: rows lie anywhere in a mapping. Nothing here checks a bound.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
# Numba types the functions it compiles.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

from ._jit import cpu_features, simd_path, triple

intrinsic: Any = _intrinsic

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
Vec = ir.VectorType

ROW_ALIGNMENT = 64  # bytes; the length of every padded row is a multiple of it
AVX512 = simd_path == "avx512"
AVX2 = simd_path == "avx2"

if simd_path != "portable":
    CRC_PATH = "sse4.2"
elif triple.startswith(("aarch64", "arm64")) and "crc" in cpu_features:
    CRC_PATH = "armv8"
else:
    CRC_PATH = "table"


def _function(b: Any, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    return b.module.globals.get(name) or ir.Function(b.module, ir.FunctionType(result, arguments), name)


def _splat(vector: Any, value: Any) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def _broadcast(b: Any, vector: Any, scalar: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    one = b.insert_element(undefined, scalar, I32(0))
    return b.shuffle_vector(one, undefined, _splat(Vec(I32, vector.count), 0))


def _load(b: Any, address: Any, vector: Any) -> Any:
    value = b.load(b.inttoptr(address, vector.as_pointer()))
    value.align = 1
    return value


def _store(b: Any, value: Any, address: Any) -> None:
    b.store(value, b.inttoptr(address, value.type.as_pointer())).align = 1


def _shuffle(b: Any, x: Any, y: Any, lanes: Sequence[int]) -> Any:
    return b.shuffle_vector(x, y, ir.Constant(Vec(I32, len(lanes)), list(lanes)))


def _loop(b: Any, start: Any, stop: Any, step: int, carried: Sequence[Any], body: Callable[..., Sequence[Any]]) -> Any:
    """for (i = start; i < stop; i += step) carried = body(i, carried); returns what was carried last."""
    before = b.block
    head, inside, done = (b.append_basic_block(n) for n in ("loop.head", "loop.body", "loop.done"))
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(I64)
    i.add_incoming(start, before)
    phis = [b.phi(value.type) for value in carried]
    for phi, value in zip(phis, carried, strict=True):
        phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", i, stop), inside, done)
    b.position_at_end(inside)
    after = body(i, phis)
    following = b.add(i, I64(step))
    i.add_incoming(following, b.block)
    for phi, value in zip(phis, after, strict=True):
        phi.add_incoming(value, b.block)
    b.branch(head)
    b.position_at_end(done)
    return phis


def _fold(b: Any, vector: Any, add: Callable[[Any, Any], Any], width: int = 1) -> Any:
    """Add the upper half to the lower until `width` lanes are left; a scalar if that is one."""
    count = vector.type.count
    while count > width:
        count //= 2
        low, high = _shuffle(b, vector, vector, range(count)), _shuffle(b, vector, vector, range(count, 2 * count))
        vector = add(low, high)
    return b.extract_element(vector, I32(0)) if width == 1 else vector


def _consecutive(b: Any, first: Any, step: Any) -> list[Any]:
    addresses = [first]
    for _ in range(7):
        addresses.append(b.add(addresses[-1], step))
    return addresses


def _listed(b: Any, positions: Any, *starts_and_steps: Any) -> list[list[Any]]:
    """For each pair (start, step): the addresses of eight positions, int64[8]."""
    eight = [_load(b, b.add(positions, I64(8 * j)), I64) for j in range(8)]
    pairs = zip(starts_and_steps[::2], starts_and_steps[1::2], strict=True)
    return [[b.add(start, b.mul(position, step)) for position in eight] for start, step in pairs]


def _beat(b: Any, scores: Any, worst: Any, out: Any) -> Any:
    """Store <8 x float> and tell by a mask which are not below `worst`; NaN never is not."""
    _store(b, scores, out)
    return b.zext(b.bitcast(b.fcmp_ordered(">=", scores, _broadcast(b, scores.type, worst)), I8), I64)


def _fold_four(b: Any, four: Sequence[Any], add: Callable[[Any, Any], Any]) -> Any:
    """`_fold` of four vectors at once: <4 x T>, each lane bit for bit what `_fold` alone gives."""
    x, y, z, w = (_fold(b, v, add, 4) for v in four)
    xy = add(_shuffle(b, x, y, (0, 4, 1, 5)), _shuffle(b, x, y, (2, 6, 3, 7)))
    zw = add(_shuffle(b, z, w, (0, 4, 1, 5)), _shuffle(b, z, w, (2, 6, 3, 7)))
    return add(_shuffle(b, xy, zw, (0, 1, 4, 5)), _shuffle(b, xy, zw, (2, 3, 6, 7)))


def _unpack(context: Any, b: Any, signature: Any, values: Sequence[Any]) -> Any:
    return context.make_tuple(b, signature.return_type, list(values))


def _elements(b: Any, vector: Any) -> list[Any]:
    return [b.extract_element(vector, I32(j)) for j in range(vector.type.count)]


# --- buffers and scalars at an address -----------------------------------------------------------------------------


@intrinsic
def address(typing_context, buffer):
    """Where the first element of an array or bytes object lies. Valid while the caller holds the object."""

    def codegen(context, b, signature, args):
        data = context.make_array(signature.args[0])(context, b, value=args[0]).data
        return b.ptrtoint(data, I64)

    return types.uintp(buffer), codegen


def _scalar(llvm_type: Any, numba_type: Any) -> Any:
    @intrinsic
    def load(typing_context, where):
        def codegen(context, b, signature, args):
            return _load(b, args[0], llvm_type)

        return numba_type(types.uintp), codegen

    return load


load_u8, load_u32, load_u64 = _scalar(I8, types.uint8), _scalar(I32, types.uint32), _scalar(I64, types.uint64)
load_i64, load_f32 = _scalar(I64, types.int64), _scalar(F32, types.float32)


@intrinsic
def store_i64(typing_context, where, value):
    def codegen(context, b, signature, args):
        _store(b, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.uintp, types.int64), codegen


@intrinsic
def float_of_bits(typing_context, bits):
    def codegen(context, b, signature, args):
        return b.bitcast(args[0], F32)

    return types.float32(types.uint32), codegen


@intrinsic
def lowest_bit(typing_context, mask):
    """Index of the lowest set bit of a mask that is not zero."""

    def codegen(context, b, signature, args):
        return b.call(_function(b, "llvm.cttz.i64", I64, [I64, I1]), [args[0], I1(1)])

    return types.int64(types.uint64), codegen


@intrinsic
def prefetch(typing_context, where):
    def codegen(context, b, signature, args):
        pointer = b.inttoptr(args[0], I8.as_pointer())
        f = _function(b, "llvm.prefetch.p0", ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        b.call(f, [pointer, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.none(types.uintp), codegen


@intrinsic
def live_rows(typing_context, died, lsn):
    """Bit j is set if row j of eight is visible at `lsn`: died[j] == 0 or died[j] > lsn.

    Both cases at once, unsigned: died - 1 >= lsn.
    """

    def codegen(context, b, signature, args):
        eight = Vec(I64, 8)
        values = b.sub(_load(b, args[0], eight), _splat(eight, 1))
        return b.zext(b.bitcast(b.icmp_unsigned(">=", values, _broadcast(b, eight, args[1])), I8), I64)

    return types.uint64(types.uintp, types.uint64), codegen


# --- float rows ----------------------------------------------------------------------------------------------------

F16, D16, W16, B16, H16 = Vec(F32, 16), Vec(F64, 16), Vec(I32, 16), Vec(I8, 16), Vec(I16, 16)
_ROUND = 12582912.0  # 1.5 * 2^23: adding and subtracting it rounds |x| < 2^22 half to even


def _each_16(context: Any, b: Any, row: Any, dim: Any, carried: Sequence[Any], body: Callable[..., Any]) -> Any:
    """body(index, <16 x float>, carried) over a row that ends anywhere; lanes past the end are +0.0."""
    buffer = cgutils.alloca_once(b, F16)
    full = b.and_(dim, I64(-16))

    def step(i: Any, values: Sequence[Any]) -> Sequence[Any]:
        return body(i, _load(b, b.add(row, b.shl(i, I64(2))), F16), values)

    carried = _loop(b, I64(0), full, 16, carried, step)

    def tail(_: Any, values: Sequence[Any]) -> Sequence[Any]:
        b.store(_splat(F16, 0.0), buffer)
        base = b.ptrtoint(buffer, I64)

        def copy(j: Any, _: Sequence[Any]) -> Sequence[Any]:
            _store(b, _load(b, b.add(row, b.shl(j, I64(2))), I32), b.add(base, b.shl(b.sub(j, full), I64(2))))
            return []

        _loop(b, full, dim, 1, [], copy)
        return body(full, b.load(buffer), values)

    return _loop(b, full, dim, 16, carried, tail)


@intrinsic
def measure_row(typing_context, row, dim):
    """(bits of the largest |v|, sum of v^2) of float32[dim].

    The bits order as the magnitudes do, and are >= 0x7f800000 if anything is NaN or Inf. A square of a float32 is exact
    in float64, and the sum cannot overflow or underflow: 2^-298 <= v^2 < 2^256.
    """

    def codegen(context, b, signature, args):
        def body(i, v, values):
            most, total = values
            bits = b.and_(b.bitcast(v, W16), _splat(W16, 0x7FFFFFFF))
            wide = b.fpext(v, D16)
            return [
                b.select(b.icmp_unsigned(">", bits, most), bits, most),
                b.fadd(total, b.fmul(wide, wide)),
            ]

        start = [_splat(W16, 0), _splat(D16, 0.0)]
        most, total = _each_16(context, b, args[0], args[1], start, body)
        largest = _fold(b, most, lambda x, y: b.select(b.icmp_unsigned(">", x, y), x, y))
        return _unpack(context, b, signature, [largest, _fold(b, total, b.fadd)])

    return types.Tuple((types.uint32, types.float64))(types.uintp, types.int64), codegen


def _round_row(narrow: Any, limit: float) -> Any:
    width = narrow.element.width // 8

    @intrinsic
    def round_row(typing_context, row, dim, out, stride, boost, multiplier):
        signature = types.void(types.uintp, types.int64, types.uintp, types.int64, types.float32, types.float32)

        def codegen(context, b, signature, args):
            row, dim, out, stride, boost, multiplier = args
            boosts, multipliers = _broadcast(b, F16, boost), _broadcast(b, F16, multiplier)
            magic, most, least = _splat(F16, _ROUND), _splat(F16, limit), _splat(F16, -limit)

            def body(i, v, _):
                x = b.fmul(b.fmul(v, boosts), multipliers)
                x = b.fsub(b.fadd(x, magic), magic)
                x = b.select(b.fcmp_ordered("<", x, most), x, most)
                x = b.select(b.fcmp_ordered(">", x, least), x, least)
                _store(b, b.trunc(b.fptosi(x, W16), narrow), b.add(out, b.mul(i, I64(width))))
                return []

            def zero(i, _):
                _store(b, _splat(narrow, 0), b.add(out, b.mul(i, I64(width))))
                return []

            _each_16(context, b, row, dim, [], body)
            written = b.and_(b.add(dim, I64(15)), I64(-16))
            _loop(b, written, stride, 16, [], zero)
            return context.get_dummy_value()

        return signature, codegen

    return round_row


round_row_int8 = _round_row(B16, 127.0)
round_row_int16 = _round_row(H16, 16256.0)


@intrinsic
def divide_row(typing_context, row, dim, out, stride, norm):
    """out[j] = float32(float64(row[j]) / norm), zeros from dim to stride (in floats, a multiple of 16)."""

    def codegen(context, b, signature, args):
        row, dim, out, stride, norm = args
        norms = _broadcast(b, D16, norm)

        def body(i, v, _):
            _store(b, b.fptrunc(b.fdiv(b.fpext(v, D16), norms), F16), b.add(out, b.shl(i, I64(2))))
            return []

        def zero(i, _):
            _store(b, _splat(F16, 0.0), b.add(out, b.shl(i, I64(2))))
            return []

        _each_16(context, b, row, dim, [], body)
        _loop(b, b.and_(b.add(dim, I64(15)), I64(-16)), stride, 16, [], zero)
        return context.get_dummy_value()

    return types.void(types.uintp, types.int64, types.uintp, types.int64, types.float64), codegen


# Rows that run side by side: as many as leave the accumulators (64 bytes a row) in registers.
_FLOAT_ROWS = 8 if AVX512 else 4 if AVX2 else 2


def _float_dots(b: Any, rows: Sequence[Any], query: Any, stride: Any) -> list[Any]:
    def body(i: Any, sums: Sequence[Any]) -> Sequence[Any]:
        offset = b.shl(i, I64(2))
        q = _load(b, b.add(query, offset), F16)
        return [b.fadd(s, b.fmul(_load(b, b.add(r, offset), F16), q)) for s, r in zip(sums, rows, strict=True)]

    return _loop(b, I64(0), stride, 16, [_splat(F16, 0.0)] * len(rows), body)


def _float_dots_eight(b: Any, rows: Sequence[Any], query: Any, stride: Any) -> Any:
    totals: list[Any] = []
    for k in range(0, 8, _FLOAT_ROWS):
        totals += _float_dots(b, rows[k : k + _FLOAT_ROWS], query, stride)
    low, high = (_fold_four(b, totals[k : k + 4], b.fadd) for k in (0, 4))
    return _shuffle(b, low, high, range(8))


@intrinsic
def dot_f32_one(typing_context, row, query, stride):
    def codegen(context, b, signature, args):
        (total,) = _float_dots(b, args[:1], args[1], args[2])
        return _fold(b, total, b.fadd)

    return types.float32(types.uintp, types.uintp, types.int64), codegen


@intrinsic
def dot_f32_eight(typing_context, first, query, stride, out):
    """Eight consecutive rows; out: float32[8]."""

    def codegen(context, b, signature, args):
        first, query, stride, out = args
        rows = _consecutive(b, first, b.shl(stride, I64(2)))
        _store(b, _float_dots_eight(b, rows, query, stride), out)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.int64, types.uintp), codegen


# --- int8 rows -----------------------------------------------------------------------------------------------------

W8 = Vec(I32, 8)
# int8 x int16 in int32 lanes: |128 * 16256| * 2 per step of 16 dims; 512 steps stay below 2^31.
_MADD_DIMS = 8192


def _dpbusd(b: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    f = _function(b, "llvm.x86.avx512.vpdpbusd.512", W16, [W16] * 3)
    return b.call(f, [total, b.bitcast(unsigned, W16), b.bitcast(signed, W16)])


def _flip(b: Any, row: Any) -> Any:
    """int8 -> u8 with 128 added."""
    return b.xor(row, _splat(Vec(I8, 64), -128))


def _multiply_add(b: Any, total: Any, row: Any, query: Any) -> Any:
    """total + row * query of 16 int16, products summed in pairs or not: the sum over all lanes is the same."""
    if AVX2 or AVX512:
        f = _function(b, "llvm.x86.avx2.pmadd.wd", W8, [H16, H16])
        return b.add(total, b.call(f, [row, query]))
    product = b.mul(b.sext(row, W16), b.sext(query, W16))
    return b.add(total, b.add(_shuffle(b, product, product, range(8)), _shuffle(b, product, product, range(8, 16))))


def _wide_dots(b: Any, rows: Sequence[Any], query: Any, stride: Any) -> Any:
    """Exact <rows x i64> of int8 rows with an int16 query, without VNNI."""

    def chunk(start: Any, sums: Sequence[Any]) -> Sequence[Any]:
        end = b.add(start, I64(_MADD_DIMS))
        stop = b.select(b.icmp_signed("<", end, stride), end, stride)

        def body(i: Any, totals: Sequence[Any]) -> Sequence[Any]:
            q = _load(b, b.add(query, b.shl(i, I64(1))), H16)
            return [
                _multiply_add(b, t, b.sext(_load(b, b.add(r, i), B16), H16), q)
                for t, r in zip(totals, rows, strict=True)
            ]

        totals = _loop(b, start, stop, 16, [_splat(W8, 0)] * len(rows), body)
        # Widen before the lanes meet: one lane may already be close to 2^31.
        return [b.add(s, _fold(b, b.sext(t, Vec(I64, 8)), b.add, 4)) for s, t in zip(sums, totals, strict=True)]

    sums = _loop(b, I64(0), stride, _MADD_DIMS, [_splat(Vec(I64, 4), 0)] * len(rows), chunk)
    if len(rows) == 1:
        return _fold(b, sums[0], b.add)
    low, high = (_fold_four(b, sums[k : k + 4], b.add) for k in (0, 4))
    return _shuffle(b, low, high, range(8))


def _by_lane(pattern: Sequence[int]) -> list[int]:
    """A shuffle of two vectors of 16 in each 128-bit lane: 0 to 3 are the first one's there, 4 to 7 the other's."""
    return [4 * lane + (j if j < 4 else 12 + j) for lane in range(4) for j in pattern]


def _fold_eight(b: Any, eight: Sequence[Any]) -> Any:
    """Sums of eight <16 x i32>: <8 x i32>. Pairs meet within 128-bit lanes first, which costs the least moves."""
    pairs = []
    for x, y in zip(eight[::2], eight[1::2], strict=True):
        pairs.append(b.add(_shuffle(b, x, y, _by_lane((0, 4, 1, 5))), _shuffle(b, x, y, _by_lane((2, 6, 3, 7)))))
    fours = []
    for x, y in zip(pairs[::2], pairs[1::2], strict=True):
        fours.append(b.add(_shuffle(b, x, y, _by_lane((0, 1, 4, 5))), _shuffle(b, x, y, _by_lane((2, 3, 6, 7)))))
    x, y = fours  # each 128-bit lane holds partial sums of four rows
    halves = b.add(
        _shuffle(b, x, y, [*range(8), *range(16, 24)]),
        _shuffle(b, x, y, [*range(8, 16), *range(24, 32)]),
    )
    low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    return b.add(_shuffle(b, halves, halves, low), _shuffle(b, halves, halves, high))


def _vnni_dots(b: Any, rows: Sequence[Any], planes: Any, correction: Any, stride: Any) -> Any:
    """Exact dots with query = 128 * high + low: planes holds int8 high[stride], then low[stride].

    sum (row + 128) * q = dot + 128 * sum q, and the correction takes the second term away. A lane of `high` grows by at
    most 4 * 255 * 127 a step, a whole dot by 255 * 127 a dim: int32 holds up to 65,536 dims.
    """

    def body(i: Any, totals: Sequence[Any]) -> Sequence[Any]:
        high = _load(b, b.add(planes, i), Vec(I8, 64))
        low = _load(b, b.add(b.add(planes, stride), i), Vec(I8, 64))
        after = []
        for k, r in enumerate(rows):
            row = _flip(b, _load(b, b.add(r, i), Vec(I8, 64)))
            after += [_dpbusd(b, totals[2 * k], row, high), _dpbusd(b, totals[2 * k + 1], row, low)]
        return after

    totals = _loop(b, I64(0), stride, 64, [_splat(W16, 0)] * (2 * len(rows)), body)
    eight = Vec(I64, 8)
    high, low = (b.sext(_fold_eight(b, totals[k::2]), eight) for k in (0, 1))
    return b.sub(b.add(b.shl(high, _splat(eight, 7)), low), _broadcast(b, eight, correction))


@intrinsic
def split_query(typing_context, query, stride, planes):
    """int16[stride] -> int8 high[stride], low[stride] with q = 128 * high + low, low in [-64, 63].

    Returns 128 * sum q.
    """

    def codegen(context, b, signature, args):
        query, stride, planes = args
        lanes = Vec(I16, 32)

        def body(i, values):
            q = _load(b, b.add(query, b.shl(i, I64(1))), lanes)
            high = b.ashr(b.add(q, _splat(lanes, 64)), _splat(lanes, 7))
            low = b.sub(q, b.shl(high, _splat(lanes, 7)))
            _store(b, b.trunc(high, Vec(I8, 32)), b.add(planes, i))
            _store(b, b.trunc(low, Vec(I8, 32)), b.add(b.add(planes, stride), i))
            return [b.add(values[0], b.sext(q, Vec(I32, 32)))]

        # A lane sums stride / 32 values of at most 16,256, all lanes together at most 2^30 at 65,536 dims.
        (total,) = _loop(b, I64(0), stride, 32, [_splat(Vec(I32, 32), 0)], body)
        return b.shl(b.sext(_fold(b, total, b.add), I64), I64(7))

    return types.int64(types.uintp, types.int64, types.uintp), codegen


@intrinsic
def dot_int8_wide(typing_context, row, query, stride):
    """One exact dot with an int16 query that is not split; for a single call, where splitting would cost as much."""

    def codegen(context, b, signature, args):
        return _wide_dots(b, args[:1], args[1], args[2])

    return types.int64(types.uintp, types.uintp, types.int64), codegen


def _int8_scores(
    b: Any, rows: Any, scales: Any, query: Any, planes: Any, correction: Any, stride: Any, q_scale: Any
) -> Any:
    """float32(dot) * (scale * q_scale): one conversion and two products, each rounded."""
    if AVX512:
        dots = _vnni_dots(b, rows, planes, correction, stride)
    else:
        dots = _wide_dots(b, rows, query, stride)
    floats = Vec(F32, 8)
    column = ir.Constant(floats, ir.Undefined)
    for j, where in enumerate(scales):
        column = b.insert_element(column, _load(b, where, F32), I32(j))
    return b.fmul(b.sitofp(dots, floats), b.fmul(column, _broadcast(b, floats, q_scale)))


# The context of a scan, as the next four see it.
INT8_CONTEXT = types.Tuple(
    (
        types.uintp,  # codes
        types.uintp,  # bytes from row to row
        types.uintp,  # scales
        types.uintp,  # bytes from scale to scale
        types.uintp,  # int16 query
        types.uintp,  # its planes
        types.int64,  # what `split_query` returned
        types.int64,  # stride
        types.float32,  # q_scale
    )
)
F32_CONTEXT = types.Tuple((types.uintp, types.uintp, types.uintp, types.int64))  # rows, bytes a row, query, stride


def _scored(int8: bool, listed: bool) -> Any:
    """Score eight rows (from a position, or listed at an address) into out: float32[8]; a mask of those >= worst."""

    @intrinsic
    def score(typing_context, scan, which, worst, out):
        signature = types.uint64(
            INT8_CONTEXT if int8 else F32_CONTEXT, types.uintp if listed else types.int64, types.float32, types.uintp
        )

        def codegen(context, b, signature, args):
            scan, which, worst, out = args
            fields = [b.extract_value(scan, j) for j in range(len(signature.args[0]))]
            columns = fields[:4] if int8 else fields[:2]
            if listed:
                addresses = _listed(b, which, *columns)
            else:
                pairs = zip(columns[::2], columns[1::2], strict=True)
                addresses = [_consecutive(b, b.add(start, b.mul(which, step)), step) for start, step in pairs]
            if int8:
                scores = _int8_scores(b, *addresses, *fields[4:])
            else:
                scores = _float_dots_eight(b, *addresses, *fields[2:])
            return _beat(b, scores, worst, out)

        return signature, codegen

    return score


score_int8_from, score_int8_listed = _scored(True, False), _scored(True, True)
score_f32_from, score_f32_listed = _scored(False, False), _scored(False, True)


def _narrow_dots(b: Any, rows: Sequence[Any], query: Any, stride: Any, correction: Any) -> Any:
    """int8 x int8, exact in int32: 2^14 a dim, so up to 65,536 dims (2^30). correction = 128 * sum q."""
    if AVX512:
        bytes64 = Vec(I8, 64)

        def body(i: Any, totals: Sequence[Any]) -> Sequence[Any]:
            q = _load(b, b.add(query, i), bytes64)
            return [
                _dpbusd(b, t, _flip(b, _load(b, b.add(r, i), bytes64)), q) for t, r in zip(totals, rows, strict=True)
            ]

        totals = _loop(b, I64(0), stride, 64, [_splat(W16, 0)] * len(rows), body)
        if len(rows) == 1:
            return b.sub(_fold(b, totals[0], b.add), correction)
        return b.sub(_fold_eight(b, totals), _broadcast(b, W8, correction))

    def widening(i: Any, totals: Sequence[Any]) -> Sequence[Any]:
        q = b.sext(_load(b, b.add(query, i), B16), H16)
        return [
            _multiply_add(b, t, b.sext(_load(b, b.add(r, i), B16), H16), q) for t, r in zip(totals, rows, strict=True)
        ]

    totals = _loop(b, I64(0), stride, 16, [_splat(W8, 0)] * len(rows), widening)
    if len(rows) == 1:
        return _fold(b, totals[0], b.add)
    low, high = (_fold_four(b, totals[k : k + 4], b.add) for k in (0, 4))
    return _shuffle(b, low, high, range(8))


@intrinsic
def sum_int8(typing_context, query, stride):
    """128 * sum q of int8[stride], at most 2^30 at 65,536 dims."""

    def codegen(context, b, signature, args):
        def body(i, totals):
            return [b.add(totals[0], b.sext(_load(b, b.add(args[0], i), B16), W16))]

        (total,) = _loop(b, I64(0), args[1], 16, [_splat(W16, 0)], body)
        return b.shl(_fold(b, total, b.add), I32(7))

    return types.int32(types.uintp, types.int64), codegen


@intrinsic
def dot_int8_int8_one(typing_context, row, query, stride, correction):
    def codegen(context, b, signature, args):
        return _narrow_dots(b, args[:1], *args[1:])

    return types.int32(types.uintp, types.uintp, types.int64, types.int32), codegen


@intrinsic
def dot_int8_int8_eight(typing_context, first, query, stride, correction, out):
    """Eight consecutive rows; out: int32[8]."""

    def codegen(context, b, signature, args):
        first, query, stride, correction, out = args
        _store(b, _narrow_dots(b, _consecutive(b, first, stride), query, stride, correction), out)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.int64, types.int32, types.uintp), codegen


# --- CRC-32C -------------------------------------------------------------------------------------------------------


def _crc_instruction(x86: str, arm: str, width: Any, numba_type: Any) -> Any:
    @intrinsic
    def step(typing_context, crc, word):
        def codegen(context, b, signature, args):
            if CRC_PATH == "armv8":
                word = b.zext(args[1], I32) if width.width == 8 else args[1]
                return b.call(_function(b, arm, I32, [I32, word.type]), [args[0], word])
            if width.width == 64:
                return b.trunc(b.call(_function(b, x86, I64, [I64, I64]), [b.zext(args[0], I64), args[1]]), I32)
            return b.call(_function(b, x86, I32, [I32, width]), args)

        return types.uint32(types.uint32, numba_type), codegen

    return step


crc_u64 = _crc_instruction("llvm.x86.sse42.crc32.64.64", "llvm.aarch64.crc32cx", I64, types.uint64)
crc_u32 = _crc_instruction("llvm.x86.sse42.crc32.32.32", "llvm.aarch64.crc32cw", I32, types.uint32)
crc_u8 = _crc_instruction("llvm.x86.sse42.crc32.32.8", "llvm.aarch64.crc32cb", I8, types.uint8)
