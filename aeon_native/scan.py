"""Compiled scans with a bounded top-k. Contracts stand in `reference`.

Four rows at a time share each load of the query. Rows come in blocks of eight, one byte of the bitmap of allowed rows;
the visible ones of a block wait in `pending` until there are four.
"""

from __future__ import annotations

import numpy as np
from numba import types

from . import _check
from ._check import Array
from ._jit import array, helper, kernel, overload_helper, packed_1d, packed_2d
from ._simd import (
    AVX512,
    address,
    dot_f32_four,
    dot_int8_four,
    live_rows,
    load_f32,
    load_u8,
    load_u64,
    lowest_bit,
    prefetch,
    split_query,
)

_INT8, _INT16, _INT64, _F32, _U8, _U64 = (
    np.dtype(t) for t in (np.int8, np.int16, np.int64, np.float32, np.uint8, np.uint64)
)
_PENDING = 16  # 3 left over and 8 new, rounded up
_AHEAD = 8  # positions whose first bytes are fetched early in a gather


@helper
def _worse(score, row, other_score, other_row):  # type: ignore[no-untyped-def]
    return score < other_score or (score == other_score and row > other_row)


@helper
def _sift_down(scores, rows, size, score, row):  # type: ignore[no-untyped-def]
    """Put (score, row) into the heap in place of its root, the worst."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and _worse(scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not _worse(scores[child], rows[child], score, row):
            break
        scores[parent], rows[parent] = scores[child], rows[child]
        parent = child
    scores[parent], rows[parent] = score, row


@helper
def _offer(scores, rows, count, score, row):  # type: ignore[no-untyped-def]
    k = scores.shape[0]
    if count < k:
        if score != score:
            return count
        child = count
        while child > 0:
            parent = (child - 1) >> 1
            if not _worse(score, row, scores[parent], rows[parent]):
                break
            scores[child], rows[child] = scores[parent], rows[parent]
            child = parent
        scores[child], rows[child] = score, row
        return count + 1
    if k > 0 and _worse(scores[0], rows[0], score, row):
        _sift_down(scores, rows, k, score, row)
    return count


@helper
def _visible(died, lsn, allowed, has_allowed, i, n):  # type: ignore[no-untyped-def]
    """Mask of the visible rows of the block of eight that starts at i."""
    left = n - i
    if left >= 8:
        mask = live_rows(died + np.uintp(8 * i), lsn)
    else:
        mask = np.uint64(0)
        for j in range(left):
            if load_u64(died + np.uintp(8 * (i + j))) - np.uint64(1) >= lsn:
                mask |= np.uint64(1) << np.uint64(j)
    if has_allowed:
        mask &= np.uint64(load_u8(allowed + np.uintp(i >> 3)))
    return mask


@helper
def _planes(stride):  # type: ignore[no-untyped-def]
    """Memory for the two planes of the query, aligned by hand within it."""
    return np.empty(2 * stride + 64 if AVX512 else 64, np.uint8)


@helper
def _aligned(memory):  # type: ignore[no-untyped-def]
    return (address(memory) + np.uintp(63)) & ~np.uintp(63)


def _int8_scores(context, p0, p1, p2, p3):  # type: ignore[no-untyped-def]
    codes, step, scales, scales_step, q_scale, query, planes, correction, stride = context
    d0, d1, d2, d3 = dot_int8_four(
        codes + np.uintp(p0) * step,
        codes + np.uintp(p1) * step,
        codes + np.uintp(p2) * step,
        codes + np.uintp(p3) * step,
        query,
        planes,
        correction,
        stride,
    )
    return (
        np.float32(d0) * (load_f32(scales + np.uintp(p0) * scales_step) * q_scale),
        np.float32(d1) * (load_f32(scales + np.uintp(p1) * scales_step) * q_scale),
        np.float32(d2) * (load_f32(scales + np.uintp(p2) * scales_step) * q_scale),
        np.float32(d3) * (load_f32(scales + np.uintp(p3) * scales_step) * q_scale),
    )


def _f32_scores(context, p0, p1, p2, p3):  # type: ignore[no-untyped-def]
    vectors, step, query, stride = context
    return dot_f32_four(
        vectors + np.uintp(p0) * step,
        vectors + np.uintp(p1) * step,
        vectors + np.uintp(p2) * step,
        vectors + np.uintp(p3) * step,
        query,
        stride,
    )


def _scores(context, p0, p1, p2, p3):  # type: ignore[no-untyped-def]
    """Scores of four rows; what `context` holds tells the kind of row."""
    raise NotImplementedError


# Functions handed over as arguments would do the same, but numba does not cache code that was given one.
@overload_helper(_scores)
def _choose(context, p0, p1, p2, p3):  # type: ignore[no-untyped-def]
    return _int8_scores if len(context) == 9 else _f32_scores


@helper
def _offer_four(context, p0, p1, p2, p3, used, first_row, scores, rows, count):  # type: ignore[no-untyped-def]
    """Offer the first `used` of four positions; the others must be readable."""
    s0, s1, s2, s3 = _scores(context, p0, p1, p2, p3)
    # The threshold only rises meanwhile, and `_offer` looks again.
    worst = scores[0] if 0 < count == scores.shape[0] else np.float32(-np.inf)
    if s0 >= worst:
        count = _offer(scores, rows, count, s0, first_row + p0)
    if s1 >= worst and used > 1:
        count = _offer(scores, rows, count, s1, first_row + p1)
    if s2 >= worst and used > 2:
        count = _offer(scores, rows, count, s2, first_row + p2)
    if s3 >= worst and used > 3:
        count = _offer(scores, rows, count, s3, first_row + p3)
    return count


# `pending` and `memory` are allocated by the entry point and handed down, used or not: numba frees an array after its
# last visible use, and an address taken from it is none.


@helper
def _offer_pending(context, pending, waiting, at_least, first_row, scores, rows, count):  # type: ignore[no-untyped-def]  # noqa: E501
    """Offer pending positions while there are `at_least`; the rest moves to the front."""
    j = 0
    while waiting - j >= at_least:
        used = min(4, waiting - j)
        count = _offer_four(
            context,
            pending[j],
            pending[j + min(1, used - 1)],
            pending[j + min(2, used - 1)],
            pending[j + min(3, used - 1)],
            used,
            first_row,
            scores,
            rows,
            count,
        )
        j += used
    for i in range(j, waiting):
        pending[i - j] = pending[i]
    return waiting - j, count


@helper
def _scan(context, n, died, lsn, allowed, has_allowed, first_row, scores, rows, count, pending, memory):  # type: ignore[no-untyped-def]  # noqa: E501
    waiting = 0
    for i in range(0, n, 8):
        mask = _visible(died, lsn, allowed, has_allowed, i, n)
        if mask == np.uint64(255):
            count = _offer_four(context, i, i + 1, i + 2, i + 3, 4, first_row, scores, rows, count)
            count = _offer_four(context, i + 4, i + 5, i + 6, i + 7, 4, first_row, scores, rows, count)
        elif mask != np.uint64(0):
            while mask != np.uint64(0):
                pending[waiting] = i + lowest_bit(mask)
                waiting += 1
                mask &= mask - np.uint64(1)
            waiting, count = _offer_pending(
                context, pending, waiting, 4, first_row, scores, rows, count
            )
    waiting, count = _offer_pending(context, pending, waiting, 1, first_row, scores, rows, count)
    return count


@helper
def _gather(context, start, step, row_bytes, positions, died, lsn, first_row, scores, rows, count, pending, memory):  # type: ignore[no-untyped-def]  # noqa: E501
    waiting = 0
    m = positions.shape[0]
    for j in range(m):
        if j + _AHEAD < m:
            ahead = start + np.uintp(positions[j + _AHEAD]) * step
            for line in range(0, row_bytes, 64):
                prefetch(ahead + np.uintp(line))
        p = positions[j]
        if load_u64(died + np.uintp(8 * p)) - np.uint64(1) >= lsn:
            pending[waiting] = p
            waiting += 1
            if waiting == 4:
                waiting, count = _offer_pending(
                    context, pending, waiting, 4, first_row, scores, rows, count
                )
    waiting, count = _offer_pending(context, pending, waiting, 1, first_row, scores, rows, count)
    return count


@helper
def _within(positions, n):  # type: ignore[no-untyped-def]
    for j in range(positions.shape[0]):
        if positions[j] < 0 or positions[j] >= n:
            return False
    return True


@helper
def _sound(vectors, itemsize, died, query, query_itemsize, scores, rows, count):  # type: ignore[no-untyped-def]
    n, stride = vectors.shape
    return (
        stride * itemsize % 64 == 0
        and stride <= 65536
        and packed_2d(vectors, itemsize)
        and died.shape[0] == n
        and packed_1d(died, 8)
        and query.shape[0] == stride
        and packed_1d(query, query_itemsize)
        and scores.shape[0] == rows.shape[0]
        and packed_1d(scores, 4)
        and packed_1d(rows, 8)
        and 0 <= count <= scores.shape[0]
    )


@helper
def _allowed_sound(allowed, n):  # type: ignore[no-untyped-def]
    return (allowed.shape[0] == 0 or allowed.shape[0] == (n + 7) // 8) and packed_1d(allowed, 1)


_CODES, _VECTORS, _SCALES = array(types.int8, 2), array(types.float32, 2), array(types.float32, 1)
_DIED, _ALLOWED, _POSITIONS = array(types.uint64, 1), array(types.uint8, 1), array(types.int64, 1)
_QUERY_INT8, _QUERY_F32 = array(types.int16, 1), array(types.float32, 1)
# The scores, the rows and the count of a search.
_STATE = (array(types.float32, 1, True), array(types.int64, 1, True), types.int64)


@kernel(
    types.int64(
        _CODES, _SCALES, _DIED, types.uint64, _QUERY_INT8, types.float32, _ALLOWED, types.int64, *_STATE
    )
)
def _scan_int8(codes, scales, died, lsn, query, q_scale, allowed, first_row, scores, rows, count):  # type: ignore[no-untyped-def]  # noqa: E501
    n, stride = codes.shape
    if not (
        _sound(codes, 1, died, query, 2, scores, rows, count) and scales.shape[0] == n and _allowed_sound(allowed, n)
    ):
        return -2
    memory, pending = _planes(stride), np.empty(_PENDING, np.int64)
    planes = _aligned(memory)
    correction = split_query(address(query), stride, planes) if AVX512 else 0
    context = (
        address(codes),
        np.uintp(stride),
        address(scales),
        np.uintp(scales.strides[0]),
        q_scale,
        address(query),
        planes,
        correction,
        stride,
    )
    return _scan(
        context,
        n,
        address(died),
        lsn,
        address(allowed),
        allowed.shape[0] > 0,
        first_row,
        scores,
        rows,
        count,
        pending,
        memory,
    )


@kernel(types.int64(_VECTORS, _DIED, types.uint64, _QUERY_F32, _ALLOWED, types.int64, *_STATE))
def _scan_f32(vectors, died, lsn, query, allowed, first_row, scores, rows, count):  # type: ignore[no-untyped-def]
    n, stride = vectors.shape
    if not (_sound(vectors, 4, died, query, 4, scores, rows, count) and _allowed_sound(allowed, n)):
        return -2
    pending = np.empty(_PENDING, np.int64)
    return _scan(
        (address(vectors), np.uintp(4 * stride), address(query), stride),
        n,
        address(died),
        lsn,
        address(allowed),
        allowed.shape[0] > 0,
        first_row,
        scores,
        rows,
        count,
        pending,
        pending,
    )


@kernel(
    types.int64(
        _CODES, _SCALES, _DIED, types.uint64, _QUERY_INT8, types.float32, _POSITIONS, types.int64, *_STATE
    )
)
def _gather_int8(codes, scales, died, lsn, query, q_scale, positions, first_row, scores, rows, count):  # type: ignore[no-untyped-def]  # noqa: E501
    n, stride = codes.shape
    if not (
        _sound(codes, 1, died, query, 2, scores, rows, count) and scales.shape[0] == n and _within(positions, n)
    ):
        return -2
    memory, pending = _planes(stride), np.empty(_PENDING, np.int64)
    planes = _aligned(memory)
    correction = split_query(address(query), stride, planes) if AVX512 else 0
    context = (
        address(codes),
        np.uintp(stride),
        address(scales),
        np.uintp(scales.strides[0]),
        q_scale,
        address(query),
        planes,
        correction,
        stride,
    )
    return _gather(
        context,
        address(codes),
        np.uintp(stride),
        stride,
        positions,
        address(died),
        lsn,
        first_row,
        scores,
        rows,
        count,
        pending,
        memory,
    )


@kernel(types.int64(_VECTORS, _DIED, types.uint64, _QUERY_F32, _POSITIONS, types.int64, *_STATE))
def _gather_f32(vectors, died, lsn, query, positions, first_row, scores, rows, count):  # type: ignore[no-untyped-def]
    n, stride = vectors.shape
    if not (_sound(vectors, 4, died, query, 4, scores, rows, count) and _within(positions, n)):
        return -2
    pending = np.empty(_PENDING, np.int64)
    return _gather(
        (address(vectors), np.uintp(4 * stride), address(query), stride),
        address(vectors),
        np.uintp(4 * stride),
        4 * stride,
        positions,
        address(died),
        lsn,
        first_row,
        scores,
        rows,
        count,
        pending,
        pending,
    )


@kernel(types.int64(*_STATE), nogil=False)
def _finish_topk(scores, rows, count):  # type: ignore[no-untyped-def]
    if not (scores.shape[0] == rows.shape[0] and 0 <= count <= scores.shape[0]):
        return -2
    # A twin may have left the state in another order: make it a heap, then take the worst off it, back to front.
    for size in range(count):
        _offer(scores[: size + 1], rows, size, scores[size], rows[size])
    for size in range(count - 1, 0, -1):
        score, row = scores[size], rows[size]
        scores[size], rows[size] = scores[0], rows[0]
        _sift_down(scores, rows, size, score, row)
    return 0


def scan_int8(
    codes: Array,
    scales: Array,
    died: Array,
    lsn: int,
    query: Array,
    q_scale: float,
    allowed: Array,
    first_row: int,
    scores: Array,
    rows: Array,
    count: int,
) -> int:
    if not (
        codes.dtype is _INT8
        and scales.dtype is _F32
        and died.dtype is _U64
        and query.dtype is _INT16
        and allowed.dtype is _U8
        and scores.dtype is _F32
        and rows.dtype is _INT64
        and scores.flags.writeable
        and rows.flags.writeable
    ):
        _check.scan_int8(codes, scales, died, query, allowed, scores, rows, count)
    found: int = _scan_int8(codes, scales, died, lsn, query, q_scale, allowed, first_row, scores, rows, count)
    if found < 0:
        _check.scan_int8(codes, scales, died, query, allowed, scores, rows, count)
        raise ValueError("scan_int8: malformed arguments")
    return found


def scan_f32(
    vectors: Array,
    died: Array,
    lsn: int,
    query: Array,
    allowed: Array,
    first_row: int,
    scores: Array,
    rows: Array,
    count: int,
) -> int:
    if not (
        vectors.dtype is _F32
        and died.dtype is _U64
        and query.dtype is _F32
        and allowed.dtype is _U8
        and scores.dtype is _F32
        and rows.dtype is _INT64
        and scores.flags.writeable
        and rows.flags.writeable
    ):
        _check.scan_f32(vectors, died, query, allowed, scores, rows, count)
    found: int = _scan_f32(vectors, died, lsn, query, allowed, first_row, scores, rows, count)
    if found < 0:
        _check.scan_f32(vectors, died, query, allowed, scores, rows, count)
        raise ValueError("scan_f32: malformed arguments")
    return found


def gather_int8(
    codes: Array,
    scales: Array,
    died: Array,
    lsn: int,
    query: Array,
    q_scale: float,
    positions: Array,
    first_row: int,
    scores: Array,
    rows: Array,
    count: int,
) -> int:
    if not (
        codes.dtype is _INT8
        and scales.dtype is _F32
        and died.dtype is _U64
        and query.dtype is _INT16
        and positions.dtype is _INT64
        and scores.dtype is _F32
        and rows.dtype is _INT64
        and scores.flags.writeable
        and rows.flags.writeable
    ):
        _check.gather_int8(codes, scales, died, query, positions, scores, rows, count)
    found: int = _gather_int8(codes, scales, died, lsn, query, q_scale, positions, first_row, scores, rows, count)
    if found < 0:
        _check.gather_int8(codes, scales, died, query, positions, scores, rows, count)
        raise ValueError("gather_int8: malformed arguments")
    return found


def gather_f32(
    vectors: Array,
    died: Array,
    lsn: int,
    query: Array,
    positions: Array,
    first_row: int,
    scores: Array,
    rows: Array,
    count: int,
) -> int:
    if not (
        vectors.dtype is _F32
        and died.dtype is _U64
        and query.dtype is _F32
        and positions.dtype is _INT64
        and scores.dtype is _F32
        and rows.dtype is _INT64
        and scores.flags.writeable
        and rows.flags.writeable
    ):
        _check.gather_f32(vectors, died, query, positions, scores, rows, count)
    found: int = _gather_f32(vectors, died, lsn, query, positions, first_row, scores, rows, count)
    if found < 0:
        _check.gather_f32(vectors, died, query, positions, scores, rows, count)
        raise ValueError("gather_f32: malformed arguments")
    return found


def finish_topk(scores: Array, rows: Array, count: int) -> None:
    if not (
        scores.dtype is _F32 and rows.dtype is _INT64 and scores.flags.writeable and rows.flags.writeable
    ):
        _check.topk(scores, rows, count)
    if _finish_topk(scores, rows, count):
        _check.topk(scores, rows, count)
        raise ValueError("finish_topk: malformed arguments")
