"""Compiled scans with a bounded top-k. Contracts stand in `reference`.

Eight rows at a time share each load of the query and one comparison with the k-th score. Rows come in blocks of eight,
one byte of the bitmap of allowed rows: a block whose rows are all visible is scored at once, the visible rows of any
other wait until there are eight.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
# Numba types the functions it compiles.
from __future__ import annotations

import numpy as np
from numba import types

from . import _check
from ._check import Array
from ._jit import array, helper, kernel, overload_helper, packed_1d, packed_2d
from ._simd import (
    AVX512,
    INT8_CONTEXT,
    address,
    live_rows,
    load_f32,
    load_i64,
    load_u8,
    load_u64,
    lowest_bit,
    score_f32_from,
    score_f32_listed,
    score_int8_from,
    score_int8_listed,
    split_query,
    store_i64,
)

_INT8, _INT16, _INT64, _F32, _U8, _U64 = (
    np.dtype(t) for t in (np.int8, np.int16, np.int64, np.float32, np.uint8, np.uint64)
)


@helper
def _worse(score, row, other_score, other_row):
    return score < other_score or (score == other_score and row > other_row)


@helper
def _sift_down(scores, rows, size, score, row):
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
def _offer(scores, rows, count, score, row):
    """Offer a score that is not NaN; those never pass the comparison with the k-th score."""
    k = scores.shape[0]
    if count < k:
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
def _visible(died, lsn, allowed, has_allowed, i, n):
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


def _score_from(context, position, worst, out):
    """Mask of the eight rows from `position` whose score is not below `worst`; scores to out."""
    raise NotImplementedError


def _score_listed(context, positions, worst, out):
    """The same for eight positions at an address."""
    raise NotImplementedError


def _from_int8(context, position, worst, out):
    return score_int8_from(context, position, worst, out)


def _from_f32(context, position, worst, out):
    return score_f32_from(context, position, worst, out)


def _listed_int8(context, positions, worst, out):
    return score_int8_listed(context, positions, worst, out)


def _listed_f32(context, positions, worst, out):
    return score_f32_listed(context, positions, worst, out)


# The kind of row is told by the type of its context. Functions handed over as arguments would do as well, but numba
# does not cache code that was given one.


@overload_helper(_score_from)
def _choose_from(context, position, worst, out):
    return _from_int8 if len(context) == len(INT8_CONTEXT) else _from_f32


@overload_helper(_score_listed)
def _choose_listed(context, positions, worst, out):
    return _listed_int8 if len(context) == len(INT8_CONTEXT) else _listed_f32


# An entry point allocates one array of scratch memory and hands it down: numba frees an array after its last visible
# use, and an address taken from it is none. Its bytes, from a 64-byte boundary on:
_PENDING = 0  # int64[16]: positions that wait until there are eight
_SCORES = 128  # float32[8]
_PLANES = 192  # int8[2, stride]: the query as `split_query` leaves it
_SCRATCH = 192 + 63


@helper
def _aligned(scratch):
    return (address(scratch) + np.uintp(63)) & ~np.uintp(63)


@helper
def _worst(scores, count):
    """A score below it changes nothing."""
    return scores[0] if 0 < count == scores.shape[0] else np.float32(-np.inf)


@helper
def _offer_listed(context, waiting, first_row, scores, rows, count, scratch):
    """Offer up to eight pending positions, of which there is at least one."""
    base = _aligned(scratch)
    for j in range(waiting, 8):
        store_i64(base + np.uintp(8 * j), load_i64(base))
    mask = _score_listed(context, base, _worst(scores, count), base + np.uintp(_SCORES))
    if waiting < 8:
        mask &= (np.uint64(1) << np.uint64(waiting)) - np.uint64(1)
    while mask != np.uint64(0):
        j = lowest_bit(mask)
        mask &= mask - np.uint64(1)
        score = load_f32(base + np.uintp(_SCORES + 4 * j))
        count = _offer(scores, rows, count, score, first_row + load_i64(base + np.uintp(8 * j)))
    return count


@helper
def _scan(context, n, died, lsn, allowed, has_allowed, first_row, scores, rows, count, scratch):
    base = _aligned(scratch)
    waiting = 0
    for i in range(0, n, 8):
        mask = _visible(died, lsn, allowed, has_allowed, i, n)
        if mask == np.uint64(255):
            mask = _score_from(context, i, _worst(scores, count), base + np.uintp(_SCORES))
            while mask != np.uint64(0):
                j = lowest_bit(mask)
                mask &= mask - np.uint64(1)
                count = _offer(scores, rows, count, load_f32(base + np.uintp(_SCORES + 4 * j)), first_row + i + j)
            continue
        while mask != np.uint64(0):
            store_i64(base + np.uintp(8 * waiting), i + lowest_bit(mask))
            mask &= mask - np.uint64(1)
            waiting += 1
        if waiting >= 8:
            count = _offer_listed(context, 8, first_row, scores, rows, count, scratch)
            waiting -= 8
            for j in range(waiting):
                store_i64(base + np.uintp(8 * j), load_i64(base + np.uintp(64 + 8 * j)))
    if waiting > 0:
        count = _offer_listed(context, waiting, first_row, scores, rows, count, scratch)
    return count


@helper
def _sound(vectors, itemsize, died, query, query_itemsize, scores, rows, count):
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
def _allowed_sound(allowed, n):
    return (allowed.shape[0] == 0 or allowed.shape[0] == (n + 7) // 8) and packed_1d(allowed, 1)


_CODES, _VECTORS, _SCALES = array(types.int8, 2), array(types.float32, 2), array(types.float32, 1)
_DIED, _ALLOWED = array(types.uint64, 1), array(types.uint8, 1)
_QUERY_INT8, _QUERY_F32 = array(types.int16, 1), array(types.float32, 1)
# The scores, the rows and the count of a search.
_STATE = (array(types.float32, 1, True), array(types.int64, 1, True), types.int64)


@kernel(types.int64(_CODES, _SCALES, _DIED, types.uint64, _QUERY_INT8, types.float32, _ALLOWED, types.int64, *_STATE))
def _scan_int8(codes, scales, died, lsn, query, q_scale, allowed, first_row, scores, rows, count):
    n, stride = codes.shape
    if not (
        _sound(codes, 1, died, query, 2, scores, rows, count) and scales.shape[0] == n and _allowed_sound(allowed, n)
    ):
        return -2
    scratch = np.empty(_SCRATCH + 2 * stride, np.uint8)
    planes = _aligned(scratch) + np.uintp(_PLANES)
    correction = split_query(address(query), stride, planes) if AVX512 else 0
    context = (
        address(codes),
        np.uintp(stride),
        address(scales),
        np.uintp(scales.strides[0]),
        address(query),
        planes,
        correction,
        stride,
        q_scale,
    )
    return _scan(
        context, n, address(died), lsn, address(allowed), allowed.shape[0] > 0, first_row, scores, rows, count, scratch
    )


@kernel(types.int64(_VECTORS, _DIED, types.uint64, _QUERY_F32, _ALLOWED, types.int64, *_STATE))
def _scan_f32(vectors, died, lsn, query, allowed, first_row, scores, rows, count):
    n, stride = vectors.shape
    if not (_sound(vectors, 4, died, query, 4, scores, rows, count) and _allowed_sound(allowed, n)):
        return -2
    scratch = np.empty(_SCRATCH, np.uint8)
    context = (address(vectors), np.uintp(4 * stride), address(query), stride)
    return _scan(
        context, n, address(died), lsn, address(allowed), allowed.shape[0] > 0, first_row, scores, rows, count, scratch
    )


@kernel(types.int64(*_STATE), nogil=False)
def _finish_topk(scores, rows, count):
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
    try:
        if (
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
            status: int = _scan_int8(codes, scales, died, lsn, query, q_scale, allowed, first_row, scores, rows, count)
            if status >= 0:
                return status
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.scan_int8(codes, scales, died, query, allowed, scores, rows, count)
    return _check.accepted(
        _scan_int8(codes, scales, died, lsn, query, q_scale, allowed, first_row, scores, rows, count)
    )


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
    try:
        if (
            vectors.dtype is _F32
            and died.dtype is _U64
            and query.dtype is _F32
            and allowed.dtype is _U8
            and scores.dtype is _F32
            and rows.dtype is _INT64
            and scores.flags.writeable
            and rows.flags.writeable
        ):
            status: int = _scan_f32(vectors, died, lsn, query, allowed, first_row, scores, rows, count)
            if status >= 0:
                return status
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.scan_f32(vectors, died, query, allowed, scores, rows, count)
    return _check.accepted(_scan_f32(vectors, died, lsn, query, allowed, first_row, scores, rows, count))


def finish_topk(scores: Array, rows: Array, count: int) -> None:
    try:
        if (
            scores.dtype is _F32
            and rows.dtype is _INT64
            and scores.flags.writeable
            and rows.flags.writeable
            and _finish_topk(scores, rows, count) == 0
        ):
            return
    except (AttributeError, TypeError):
        pass  # not arrays, or not of that many dimensions: the check finds the words
    _check.topk(scores, rows, count)
    _check.accepted(_finish_topk(scores, rows, count))
