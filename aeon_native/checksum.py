"""Compiled CRC-32C. Contracts stand in `reference`."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
# Numba types the functions it compiles.
from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from . import _check, reference
from ._check import Array
from ._jit import array, helper, kernel, packed_2d
from ._simd import CRC_PATH, address, crc_u8, crc_u32, crc_u64, load_u8, load_u32, load_u64

_F32, _U32, _U64, _INT8, _U8 = (np.dtype(t) for t in (np.float32, np.uint32, np.uint64, np.int8, np.uint8))
_ONES = np.uint32(0xFFFFFFFF)
_SHORT = 16 * 1024  # bytes up to which a call keeps the GIL: about a microsecond

# Three streams hide the latency of the instruction (3 cycles, one started per cycle). Lengths of a stream, in bytes:
# the longer pays for joining less often, the shorter serves what is left.
_LONG, _MIDDLE = 4096, 256


def _tables_by_place(count: int) -> Array:
    """table[j][b]: what byte b contributes when j more bytes follow it."""
    table = np.empty((count, 256), np.uint32)
    table[0] = reference._byte_table()
    for j in range(1, count):
        table[j] = (table[j - 1] >> np.uint32(8)) ^ table[0][table[j - 1] & np.uint32(255)]
    return table


def _zeros_table(length: int) -> Array:
    """uint32[4, 256]: the map of a state followed by `length` zero bytes."""
    state = _tables_by_place(4)[::-1].copy()  # followed by as many zeros as the state has bytes: 4
    byte = reference._byte_table()
    for _ in range(length - 4):
        state = (state >> np.uint32(8)) ^ byte[state & np.uint32(255)]
    return state


_EIGHT = _tables_by_place(8)
_AFTER_LONG, _AFTER_MIDDLE = _zeros_table(_LONG), _zeros_table(_MIDDLE)

if CRC_PATH == "table":

    @helper
    def _step_u8(crc, value):
        return (crc >> np.uint32(8)) ^ _EIGHT[0, (crc ^ np.uint32(value)) & np.uint32(255)]

    @helper
    def _step_u32(crc, value):
        x = crc ^ value
        return (
            _EIGHT[3, x & np.uint32(255)]
            ^ _EIGHT[2, (x >> np.uint32(8)) & np.uint32(255)]
            ^ _EIGHT[1, (x >> np.uint32(16)) & np.uint32(255)]
            ^ _EIGHT[0, x >> np.uint32(24)]
        )

    @helper
    def _step_u64(crc, value):
        x = value ^ np.uint64(crc)
        byte = np.uint64(255)
        return (
            _EIGHT[7, x & byte]
            ^ _EIGHT[6, (x >> np.uint64(8)) & byte]
            ^ _EIGHT[5, (x >> np.uint64(16)) & byte]
            ^ _EIGHT[4, (x >> np.uint64(24)) & byte]
            ^ _EIGHT[3, (x >> np.uint64(32)) & byte]
            ^ _EIGHT[2, (x >> np.uint64(40)) & byte]
            ^ _EIGHT[1, (x >> np.uint64(48)) & byte]
            ^ _EIGHT[0, x >> np.uint64(56)]
        )

else:
    _step_u8, _step_u32, _step_u64 = crc_u8, crc_u32, crc_u64


@helper
def _followed(table, crc):
    return (
        table[0, crc & np.uint32(255)]
        ^ table[1, (crc >> np.uint32(8)) & np.uint32(255)]
        ^ table[2, (crc >> np.uint32(16)) & np.uint32(255)]
        ^ table[3, crc >> np.uint32(24)]
    )


@helper
def _three_streams(state, where, length):
    """State, then the two states that start from zero, over 3 * length bytes; length a multiple of 8."""
    second, third = np.uint32(0), np.uint32(0)
    two, three = where + np.uintp(length), where + np.uintp(2 * length)
    for j in range(0, length, 8):
        offset = np.uintp(j)
        state = _step_u64(state, load_u64(where + offset))
        second = _step_u64(second, load_u64(two + offset))
        third = _step_u64(third, load_u64(three + offset))
    return state, second, third


@helper
def _advance(state, where, length):
    """The CRC state after `length` bytes at an address."""
    while length >= 3 * _LONG:
        state, second, third = _three_streams(state, where, _LONG)
        state = _followed(_AFTER_LONG, _followed(_AFTER_LONG, state) ^ second) ^ third
        where += np.uintp(3 * _LONG)
        length -= 3 * _LONG
    while length >= 3 * _MIDDLE:
        state, second, third = _three_streams(state, where, _MIDDLE)
        state = _followed(_AFTER_MIDDLE, _followed(_AFTER_MIDDLE, state) ^ second) ^ third
        where += np.uintp(3 * _MIDDLE)
        length -= 3 * _MIDDLE
    while length >= 8:
        state = _step_u64(state, load_u64(where))
        where += np.uintp(8)
        length -= 8
    while length > 0:
        state = _step_u8(state, load_u8(where))
        where += np.uintp(1)
        length -= 1
    return state


def _crc32c(data, crc):
    return np.int64(_advance(np.uint32(crc) ^ _ONES, address(data), len(data)) ^ _ONES)


_CRC32C = types.int64(types.Bytes(types.uint8, 1, "C", readonly=True), types.int64)
_crc32c_short = kernel(_CRC32C, nogil=False)(_crc32c)
_crc32c_long = kernel(_CRC32C)(_crc32c)


def crc32c(data: Any, crc: int = 0) -> int:
    if type(data) is not bytes:
        data = reference._bytes_of(data)
    return (_crc32c_short if len(data) <= _SHORT else _crc32c_long)(data, crc)


@helper
def _row_state(id_, scale, where, stride):
    state = _step_u32(_step_u64(_ONES, id_), scale)
    for j in range(0, stride, 8):
        state = _step_u64(state, load_u64(where + np.uintp(j)))
    return state


@helper
def _four_rows(ids, ids_step, scales, scales_step, where, step, stride):
    """Four rows side by side: independent, so no joining."""
    s0 = _step_u32(_step_u64(_ONES, load_u64(ids)), load_u32(scales))
    ids, scales = ids + ids_step, scales + scales_step
    s1 = _step_u32(_step_u64(_ONES, load_u64(ids)), load_u32(scales))
    ids, scales = ids + ids_step, scales + scales_step
    s2 = _step_u32(_step_u64(_ONES, load_u64(ids)), load_u32(scales))
    ids, scales = ids + ids_step, scales + scales_step
    s3 = _step_u32(_step_u64(_ONES, load_u64(ids)), load_u32(scales))
    w1 = where + step
    w2 = w1 + step
    w3 = w2 + step
    for j in range(0, stride, 8):
        o = np.uintp(j)
        s0 = _step_u64(s0, load_u64(where + o))
        s1 = _step_u64(s1, load_u64(w1 + o))
        s2 = _step_u64(s2, load_u64(w2 + o))
        s3 = _step_u64(s3, load_u64(w3 + o))
    return s0 ^ _ONES, s1 ^ _ONES, s2 ^ _ONES, s3 ^ _ONES


@kernel(
    types.int64(array(types.uint8, 2), array(types.uint64, 1), array(types.float32, 1), array(types.uint32, 1, True))
)
def _rows_checksum(codes, ids, scales, out):
    n, stride = codes.shape
    if stride % 8 or not packed_2d(codes, 1) or ids.shape[0] != n or scales.shape[0] != n or out.shape[0] != n:
        return -2
    where, step = address(codes), np.uintp(stride)
    id_, id_step = address(ids), np.uintp(ids.strides[0])
    scale, scale_step = address(scales), np.uintp(scales.strides[0])
    four = n - n % 4
    for i in range(0, four, 4):
        out[i], out[i + 1], out[i + 2], out[i + 3] = _four_rows(id_, id_step, scale, scale_step, where, step, stride)
        id_ += np.uintp(4) * id_step
        scale += np.uintp(4) * scale_step
        where += np.uintp(4) * step
    for i in range(four, n):
        out[i] = _row_state(load_u64(id_), load_u32(scale), where, stride) ^ _ONES
        id_ += id_step
        scale += scale_step
        where += step
    return 0


def rows_checksum(codes: Array, ids: Array, scales: Array, out: Array) -> None:
    try:
        if (
            (codes.dtype is _INT8 or codes.dtype is _U8)
            and ids.dtype is _U64
            and scales.dtype is _F32
            and out.dtype is _U32
            and out.flags.writeable
            and _rows_checksum(codes, ids, scales, out) == 0
        ):
            return
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.rows_checksum(codes, ids, scales, out)
    _check.accepted(_rows_checksum(codes, ids, scales, out))


@kernel(types.int64(array(types.uint8, 2), types.int64, array(types.uint32, 1, True)))
def _records_checksum(records, at, out):
    n, size = records.shape
    where = address(records)
    for i in range(n):
        state = _advance(_ONES, where, at)
        out[i] = _advance(state, where + np.uintp(at + 4), size - at - 4) ^ _ONES
        where += np.uintp(size)
    return 0


def records_checksum(records: Array, at: int, out: Array) -> None:
    _check.records_checksum(records, at, out)
    _check.accepted(_records_checksum(records, at, out))


@kernel(types.int64(array(types.uint8, 2), array(types.uint8, 2)))
def _rows_verify(codes, meta):
    n, stride = codes.shape
    if stride % 8 or not packed_2d(codes, 1) or meta.shape[0] != n or meta.shape[1] != 16:
        return -2
    where, step = address(codes), np.uintp(stride)
    at, at_step = address(meta), np.uintp(16)
    four = n - n % 4
    for i in range(0, four, 4):
        crcs = _four_rows(at, at_step, at + np.uintp(8), at_step, where, step, stride)
        for j in range(4):
            if crcs[j] != load_u32(at + np.uintp(12)):
                return i + j
            at += at_step
        where += np.uintp(4) * step
    for i in range(four, n):
        crc = _row_state(load_u64(at), load_u32(at + np.uintp(8)), where, stride) ^ _ONES
        if crc != load_u32(at + np.uintp(12)):
            return i
        at += at_step
        where += step
    return -1


def rows_verify(codes: Array, meta: Array) -> int:
    _check.rows_verify(codes, meta)
    if meta.shape[0] == 0:
        return -1
    return _check.accepted(_rows_verify(codes, meta.view(np.uint8).reshape(-1, 16)))
