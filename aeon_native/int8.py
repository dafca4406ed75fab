"""Compiled kernels on rows: quantising, normalising, dot products. Contracts stand in `reference`."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
# Numba types the functions it compiles.
from __future__ import annotations

import numpy as np
from numba import types

from . import _check
from ._check import Array
from ._jit import array, helper, kernel, packed_1d, packed_2d
from ._simd import (
    address,
    divide_row,
    dot_f32_eight,
    dot_f32_one,
    dot_int8_int8_eight,
    dot_int8_int8_one,
    dot_int8_wide,
    float_of_bits,
    measure_row,
    round_row_int8,
    round_row_int16,
    sum_int8,
)

_INT8, _INT16, _INT32, _F32 = (np.dtype(t) for t in (np.int8, np.int16, np.int32, np.float32))
_INF_BITS = np.uint32(0x7F800000)
_ONE, _BOOST, _TINY = np.float32(1), np.float32(2.0**100), np.float32(2.0**-100)
_CODE_MAX, _QUERY_MAX = np.float32(127), np.float32(16256)

# A kernel returns -2 if an argument does not fit the others. A wrapper takes the short way, and asks `_check` for the
# words (or for dtypes that are equal without being the same object) only if that did not do.

# Elements up to which a call keeps the GIL: below about two microseconds.
_SHORT = 8192


@helper
def _multiplier(largest, limit):
    boost = _BOOST if largest < _TINY else _ONE
    return boost, limit / (largest * boost)


def _quantize(vectors, codes, scales):
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
    try:
        if (
            vectors.dtype is _F32
            and codes.dtype is _INT8
            and scales.dtype is _F32
            and codes.flags.writeable
            and scales.flags.writeable
        ):
            status: int = (_quantize_few if codes.size <= _SHORT else _quantize_many)(vectors, codes, scales)
            if status >= -1:
                return status
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.quantize(vectors, codes, scales)
    return _check.accepted((_quantize_few if codes.size <= _SHORT else _quantize_many)(vectors, codes, scales))


@kernel(types.int64(array(types.float32, 2), array(types.float32, 2, True)))
def _normalize(vectors, rows):
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
    try:
        if vectors.dtype is _F32 and rows.dtype is _F32 and rows.flags.writeable:
            status: int = _normalize(vectors, rows)
            if status >= -1:
                return status
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.normalize(vectors, rows)
    return _check.accepted(_normalize(vectors, rows))


@kernel(types.float64(array(types.float32, 1), array(types.int16, 1, True)), nogil=False)
def _prepare_query(vector, query):
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
    try:
        if vector.dtype is _F32 and query.dtype is _INT16 and query.flags.writeable:
            status: float = _prepare_query(vector, query)
            if status >= -1:
                return status
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.prepare_query(vector, query)
    return _check.accepted(_prepare_query(vector, query))


_NO_DOT = -(2**63)  # no dot product is as large: 65,536 * 128 * 16,256 < 2^38


@kernel(types.int64(array(types.int8, 1), array(types.int16, 1)), nogil=False)
def _dot_int8(row, query):
    stride = row.shape[0]
    if query.shape[0] != stride or stride % 64 or stride > 65536 or not packed_1d(row, 1) or not packed_1d(query, 2):
        return np.int64(_NO_DOT)
    return dot_int8_wide(address(row), address(query), stride)


def dot_int8(row: Array, query: Array) -> int:
    try:
        if row.dtype is _INT8 and query.dtype is _INT16:
            value: int = _dot_int8(row, query)
            if value != _NO_DOT:
                return value
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.dot(row, query, np.int8, np.int16)
    value = _dot_int8(row, query)
    return _check.accepted(-2 if value == _NO_DOT else 0) or value


@kernel(types.int64(array(types.int8, 1), array(types.int8, 1)), nogil=False)
def _dot_int8_int8(row, query):
    stride = row.shape[0]
    if query.shape[0] != stride or stride % 64 or stride > 65536 or not packed_1d(row, 1) or not packed_1d(query, 1):
        return np.int64(_NO_DOT)
    return np.int64(dot_int8_int8_one(address(row), address(query), stride, sum_int8(address(query), stride)))


def dot_int8_int8(row: Array, query: Array) -> int:
    try:
        if row.dtype is _INT8 and query.dtype is _INT8:
            value: int = _dot_int8_int8(row, query)
            if value != _NO_DOT:
                return value
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.dot(row, query, np.int8, np.int8)
    value = _dot_int8_int8(row, query)
    return _check.accepted(-2 if value == _NO_DOT else 0) or value


@kernel(types.Tuple((types.float32, types.boolean))(array(types.float32, 1), array(types.float32, 1)), nogil=False)
def _dot_f32(row, query):
    stride = row.shape[0]
    if query.shape[0] != stride or stride % 16 or stride > 65536 or not packed_1d(row, 4) or not packed_1d(query, 4):
        return np.float32(0), False
    return dot_f32_one(address(row), address(query), stride), True


def dot_f32(row: Array, query: Array) -> float:
    try:
        if row.dtype is _F32 and query.dtype is _F32:
            value, valid = _dot_f32(row, query)
            if valid:
                return value
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.dot(row, query, np.float32, np.float32)
    value, valid = _dot_f32(row, query)
    return _check.accepted(0 if valid else -2) or value


@kernel(types.int64(array(types.int8, 2), array(types.int8, 1), array(types.int32, 1, True)))
def _dot_rows_int8(rows, query, out):
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
    correction, where = sum_int8(q, stride), address(out)
    whole = n - n % 8
    for i in range(0, whole, 8):
        dot_int8_int8_eight(row, q, stride, correction, where + np.uintp(4 * i))
        row += np.uintp(8) * step
    for i in range(whole, n):
        out[i] = dot_int8_int8_one(row, q, stride, correction)
        row += step
    return 0


def dot_rows_int8(rows: Array, query: Array, out: Array) -> None:
    try:
        if (
            rows.dtype is _INT8
            and query.dtype is _INT8
            and out.dtype is _INT32
            and out.flags.writeable
            and _dot_rows_int8(rows, query, out) == 0
        ):
            return
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.dot_rows(rows, query, out, np.int8, np.int32)
    _check.accepted(_dot_rows_int8(rows, query, out))


@kernel(types.int64(array(types.float32, 2), array(types.float32, 1), array(types.float32, 1, True)))
def _dot_rows_f32(rows, query, out):
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
    where = address(out)
    whole = n - n % 8
    for i in range(0, whole, 8):
        dot_f32_eight(row, q, stride, where + np.uintp(4 * i))
        row += np.uintp(8) * step
    for i in range(whole, n):
        out[i] = dot_f32_one(row, q, stride)
        row += step
    return 0


def dot_rows_f32(rows: Array, query: Array, out: Array) -> None:
    try:
        if (
            rows.dtype is _F32
            and query.dtype is _F32
            and out.dtype is _F32
            and out.flags.writeable
            and _dot_rows_f32(rows, query, out) == 0
        ):
            return
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.dot_rows(rows, query, out, np.float32, np.float32)
    _check.accepted(_dot_rows_f32(rows, query, out))
