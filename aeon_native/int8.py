"""Compiled kernels on rows: quantising, normalising, dot products. Contracts stand in `reference`."""

from __future__ import annotations

import numpy as np
from numba import types

from . import _check
from ._check import Array
from ._jit import array, helper, kernel, packed_1d, packed_2d
from ._simd import (
    address,
    divide_row,
    dot_f32_four,
    dot_f32_one,
    dot_int8_int8_four,
    dot_int8_int8_one,
    dot_int8_wide,
    float_of_bits,
    measure_row,
    round_row_int8,
    round_row_int16,
)

_INT8, _INT16, _INT32, _F32 = (np.dtype(t) for t in (np.int8, np.int16, np.int32, np.float32))
_INF_BITS = np.uint32(0x7F800000)
_ONE, _BOOST, _TINY = np.float32(1), np.float32(2.0**100), np.float32(2.0**-100)
_CODE_MAX, _QUERY_MAX = np.float32(127), np.float32(16256)
_MALFORMED = -2  # an argument does not fit the others; the wrapper asks `_check` for the words

# Elements up to which a call keeps the GIL: below about two microseconds.
_SHORT = 8192


@helper
def _multiplier(largest, limit):  # type: ignore[no-untyped-def]
    boost = _BOOST if largest < _TINY else _ONE
    return boost, limit / (largest * boost)


def _quantize(vectors, codes, scales):  # type: ignore[no-untyped-def]
    n, dim = vectors.shape
    stride = codes.shape[1]
    if (
        dim < 1
        or stride < dim
        or stride % 64 != 0
        or stride > 65536
        or codes.shape[0] != n
        or scales.shape[0] != n
        or not packed_2d(vectors, 4)
        or not packed_2d(codes, 1)
    ):
        return -2
    row, out, scale = address(vectors), address(codes), scales
    for i in range(n):
        bits, total = measure_row(row, dim)
        if bits == 0 or bits >= _INF_BITS:
            return i
        largest = float_of_bits(bits)
        boost, multiplier = _multiplier(largest, _CODE_MAX)
        round_row_int8(row, dim, out, stride, boost, multiplier)
        scale[i] = np.float32(np.float64(largest) / (127.0 * np.sqrt(total)))
        row += np.uintp(4 * dim)
        out += np.uintp(stride)
    return -1


_QUANTIZE = types.int64(array(types.float32, 2), array(types.int8, 2, True), array(types.float32, 1, True))
_quantize_few = kernel(_QUANTIZE, nogil=False)(_quantize)
_quantize_many = kernel(_QUANTIZE)(_quantize)


def quantize(vectors: Array, codes: Array, scales: Array) -> int:
    if not (
        vectors.dtype is _F32
        and codes.dtype is _INT8
        and scales.dtype is _F32
        and codes.flags.writeable
        and scales.flags.writeable
    ):
        _check.quantize(vectors, codes, scales)
    status: int = (_quantize_few if codes.size <= _SHORT else _quantize_many)(vectors, codes, scales)
    if status == _MALFORMED:
        _check.quantize(vectors, codes, scales)
        raise ValueError("quantize: malformed arguments")
    return status


@kernel(types.int64(array(types.float32, 2), array(types.float32, 2, True)))
def _normalize(vectors, rows):  # type: ignore[no-untyped-def]
    n, dim = vectors.shape
    stride = rows.shape[1]
    if (
        dim < 1
        or stride < dim
        or stride % 16 != 0
        or stride > 65536
        or rows.shape[0] != n
        or not packed_2d(vectors, 4)
        or not packed_2d(rows, 4)
    ):
        return -2
    row, out = address(vectors), address(rows)
    for i in range(n):
        bits, total = measure_row(row, dim)
        if bits == 0 or bits >= _INF_BITS:
            return i
        divide_row(row, dim, out, stride, np.sqrt(total))
        row += np.uintp(4 * dim)
        out += np.uintp(4 * stride)
    return -1


def normalize(vectors: Array, rows: Array) -> int:
    if not (vectors.dtype is _F32 and rows.dtype is _F32 and rows.flags.writeable):
        _check.normalize(vectors, rows)
    status: int = _normalize(vectors, rows)
    if status == _MALFORMED:
        _check.normalize(vectors, rows)
        raise ValueError("normalize: malformed arguments")
    return status


@kernel(types.float64(array(types.float32, 1), array(types.int16, 1, True)), nogil=False)
def _prepare_query(vector, query):  # type: ignore[no-untyped-def]
    dim, stride = vector.shape[0], query.shape[0]
    if (
        dim < 1
        or stride < dim
        or stride % 64 != 0
        or stride > 65536
        or not packed_1d(vector, 4)
        or not packed_1d(query, 2)
    ):
        return -2.0
    bits, total = measure_row(address(vector), dim)
    if bits == 0 or bits >= _INF_BITS:
        return 0.0
    largest = float_of_bits(bits)
    boost, multiplier = _multiplier(largest, _QUERY_MAX)
    round_row_int16(address(vector), dim, address(query), stride, boost, multiplier)
    return np.float64(np.float32(np.float64(largest) / (16256.0 * np.sqrt(total))))


def prepare_query(vector: Array, query: Array) -> float:
    if not (vector.dtype is _F32 and query.dtype is _INT16 and query.flags.writeable):
        _check.prepare_query(vector, query)
    q_scale: float = _prepare_query(vector, query)
    if q_scale < 0:
        _check.prepare_query(vector, query)
        raise ValueError("prepare_query: malformed arguments")
    return q_scale


# The dots return float64 so that one value, NaN, can say "malformed"; a float64 holds every int8 dot exactly.


@kernel(types.float64(array(types.int8, 1), array(types.int16, 1)), nogil=False)
def _dot_int8(row, query):  # type: ignore[no-untyped-def]
    stride = row.shape[0]
    if query.shape[0] != stride or stride % 64 or stride > 65536 or not packed_1d(row, 1) or not packed_1d(query, 2):
        return np.nan
    return np.float64(dot_int8_wide(address(row), address(query), stride))


def dot_int8(row: Array, query: Array) -> int:
    if row.dtype is not _INT8 or query.dtype is not _INT16:
        _check.dot(row, query, np.int8, np.int16)
    value: float = _dot_int8(row, query)
    if value != value:
        _check.dot(row, query, np.int8, np.int16)
        raise ValueError("dot_int8: malformed arguments")
    return int(value)


@kernel(types.float64(array(types.int8, 1), array(types.int8, 1)), nogil=False)
def _dot_int8_int8(row, query):  # type: ignore[no-untyped-def]
    stride = row.shape[0]
    if query.shape[0] != stride or stride % 64 or stride > 65536 or not packed_1d(row, 1) or not packed_1d(query, 1):
        return np.nan
    return np.float64(dot_int8_int8_one(address(row), address(query), stride))


def dot_int8_int8(row: Array, query: Array) -> int:
    if row.dtype is not _INT8 or query.dtype is not _INT8:
        _check.dot(row, query, np.int8, np.int8)
    value: float = _dot_int8_int8(row, query)
    if value != value:
        _check.dot(row, query, np.int8, np.int8)
        raise ValueError("dot_int8_int8: malformed arguments")
    return int(value)


@kernel(types.Tuple((types.float32, types.boolean))(array(types.float32, 1), array(types.float32, 1)), nogil=False)
def _dot_f32(row, query):  # type: ignore[no-untyped-def]
    stride = row.shape[0]
    if query.shape[0] != stride or stride % 16 or stride > 65536 or not packed_1d(row, 4) or not packed_1d(query, 4):
        return np.float32(0), False
    return dot_f32_one(address(row), address(query), stride), True


def dot_f32(row: Array, query: Array) -> float:
    if row.dtype is not _F32 or query.dtype is not _F32:
        _check.dot(row, query, np.float32, np.float32)
    value, valid = _dot_f32(row, query)
    if not valid:
        _check.dot(row, query, np.float32, np.float32)
        raise ValueError("dot_f32: malformed arguments")
    return value  # type: ignore[no-any-return]


@kernel(types.int64(array(types.int8, 2), array(types.int8, 1), array(types.int32, 1, True)))
def _dot_rows_int8(rows, query, out):  # type: ignore[no-untyped-def]
    n, stride = rows.shape
    if (
        query.shape[0] != stride
        or out.shape[0] != n
        or stride % 64
        or stride > 65536
        or not packed_2d(rows, 1)
        or not packed_1d(query, 1)
        or not packed_1d(out, 4)
    ):
        return -2
    step, row, q = np.uintp(stride), address(rows), address(query)
    four = n - n % 4
    for i in range(0, four, 4):
        out[i], out[i + 1], out[i + 2], out[i + 3] = dot_int8_int8_four(
            row, row + step, row + step + step, row + step + step + step, q, stride
        )
        row += np.uintp(4) * step
    for i in range(four, n):
        out[i] = dot_int8_int8_one(row, q, stride)
        row += step
    return 0


def dot_rows_int8(rows: Array, query: Array, out: Array) -> None:
    if not (rows.dtype is _INT8 and query.dtype is _INT8 and out.dtype is _INT32 and out.flags.writeable):
        _check.dot_rows(rows, query, out, np.int8, np.int32)
    if _dot_rows_int8(rows, query, out):
        _check.dot_rows(rows, query, out, np.int8, np.int32)
        raise ValueError("dot_rows_int8: malformed arguments")


@kernel(types.int64(array(types.float32, 2), array(types.float32, 1), array(types.float32, 1, True)))
def _dot_rows_f32(rows, query, out):  # type: ignore[no-untyped-def]
    n, stride = rows.shape
    if (
        query.shape[0] != stride
        or out.shape[0] != n
        or stride % 16
        or stride > 65536
        or not packed_2d(rows, 4)
        or not packed_1d(query, 4)
        or not packed_1d(out, 4)
    ):
        return -2
    step, row, q = np.uintp(4 * stride), address(rows), address(query)
    four = n - n % 4
    for i in range(0, four, 4):
        out[i], out[i + 1], out[i + 2], out[i + 3] = dot_f32_four(
            row, row + step, row + step + step, row + step + step + step, q, stride
        )
        row += np.uintp(4) * step
    for i in range(four, n):
        out[i] = dot_f32_one(row, q, stride)
        row += step
    return 0


def dot_rows_f32(rows: Array, query: Array, out: Array) -> None:
    if not (rows.dtype is _F32 and query.dtype is _F32 and out.dtype is _F32 and out.flags.writeable):
        _check.dot_rows(rows, query, out, np.float32, np.float32)
    if _dot_rows_f32(rows, query, out):
        _check.dot_rows(rows, query, out, np.float32, np.float32)
        raise ValueError("dot_rows_f32: malformed arguments")
