"""Compiled kernels of the SLB: the nearest of a ring, the likeness of two vectors, a working set scored anew.

Contracts stand in `reference_slb`. Rows are scored by the code that scores the rows of pages, so a row gets the same bits.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any, disable-error-code="call-arg,var-annotated"
# Numba types the functions it compiles.
from __future__ import annotations

import numpy as np
from numba import types

from ._check import Array
from ._jit import array, helper, kernel, packed_1d, packed_2d
from ._simd import (
    F64,
    I16,
    _scalar,
    address,
    dot_f32_eight,
    dot_f32_one,
    load_f32,
    load_i64,
)
from .page_layout import FIELDS, RECORD_SCALE, SCRATCH_FIXED
from .reference_slb import BLOCK, ENTRY_FIELDS, HOPELESS, HOPELESS_AFTER, OUT
from .sketch import (
    _DIM,
    _PENDING,
    _QUERY,
    _REACH,
    _ROW_INT8,
    _UNIT,
    _aligned,
    _prepare_scores,
    _push,
    _record_at,
    _row_at,
    _sort,
    _take_listed,
    _take_rows,
)

_F32, _F64, _INT64, _U8 = (np.dtype(t) for t in (np.float32, np.float64, np.int64, np.uint8))
_ENTRY, _OUT = len(ENTRY_FIELDS), len(OUT)
_CENTER, _CANDIDATES, _OLD_SCORES, _SCALES, _COUNT, _ROWS, _CENTER_SCALE, _LONGEST, _OUTSIDE, _SLACK = range(_ENTRY)
_CTX = len(FIELDS)
load_i16, load_f64 = _scalar(I16, types.int16), _scalar(F64, types.float64)


@kernel(types.float64(array(types.float32, 1), array(types.float32, 1)), nogil=False)
def _likeness(x, y):
    dim = x.shape[0]
    if y.shape[0] != dim or not (packed_1d(x, 4) and packed_1d(y, 4)):
        return -2.0
    whole = dim - dim % 16
    a, b = address(x), address(y)
    xy, xx, yy = dot_f32_one(a, b, whole), dot_f32_one(a, a, whole), dot_f32_one(b, b, whole)
    for j in range(whole, dim):
        xy += x[j] * y[j]
        xx += x[j] * x[j]
        yy += y[j] * y[j]
    size = np.sqrt(np.float64(xx) * np.float64(yy))
    return np.float64(xy) / size if size > 0 else 0.0


def likeness(x: Array, y: Array) -> float:
    if x.dtype is not _F32 or y.dtype is not _F32:
        raise TypeError("likeness: an array of another type")
    cosine: float = _likeness(x, y)
    if cosine == -2.0:
        raise ValueError("likeness: two vectors of one length, C, are needed")
    return cosine


@kernel(
    types.Tuple((types.int64, types.float64))(array(types.float32, 2), array(types.float32, 1), types.int64)
)  # fmt: skip
def _nearest(ring, query, count):
    stride, dim = ring.shape[1], query.shape[0]
    if (
        not 0 <= count <= ring.shape[0]
        or stride % 16
        or not stride - 16 < dim <= stride
        or not (packed_2d(ring, 4) and packed_1d(query, 4))
    ):
        return np.int64(-2), 0.0
    padded = np.zeros(stride if dim < stride else 1, np.float32)
    if dim < stride:
        padded[:dim] = query
    q = address(padded) if dim < stride else address(query)
    dots = np.empty(8, np.float32)
    row, step, where = address(ring), np.uintp(4 * stride), address(dots)
    best, largest = np.int64(-1), np.float32(-np.inf)
    whole = count - count % 8
    for i in range(0, whole, 8):
        dot_f32_eight(row, q, stride, where)
        row += np.uintp(8) * step
        for j in range(8):
            if dots[j] > largest:
                best, largest = i + j, dots[j]
    for i in range(whole, count):
        dot = dot_f32_one(row, q, stride)
        row += step
        if dot > largest:
            best, largest = i, dot
    total = np.float64(dot_f32_one(q, q, stride))
    if padded.shape[0] == 0 or best < 0 or not total > 0:  # the first never holds: `padded` has to live until here
        return np.int64(-1), 0.0
    return best, np.float64(largest) / np.sqrt(total)


def nearest(ring: Array, query: Array, count: int) -> tuple[int, float]:
    if ring.dtype is not _F32 or query.dtype is not _F32:
        raise TypeError("nearest: an array of another type")
    slot, cosine = _nearest(ring, query, count)
    if slot < -1:
        raise ValueError("nearest: malformed arguments")
    return slot, cosine


@helper
def _bound(score, along, across, across_row, center_norm, query_norm, slack):
    """The highest score a row can have now that had at most `score` with the entry's query; see the twin."""
    if score == -np.inf:
        return -np.inf
    sigma = score / center_norm
    if along <= 0 or sigma * query_norm >= along * across_row:
        return across_row * query_norm + slack
    rest = across_row * across_row - sigma * sigma
    return along * sigma + across * np.sqrt(max(rest, 0.0)) + slack


@helper
def _products(center, codes, unit, width, int8):
    """Sums of x y, x x and y y of the entry's query x and this one y, both as rows are scored against them."""
    if int8:
        ixy = ixx = iyy = np.int64(0)
        for j in range(width):
            x = np.int64(load_i16(center + np.uintp(2 * j)))
            y = np.int64(load_i16(codes + np.uintp(2 * j)))
            ixy += x * y
            ixx += x * x
            iyy += y * y
        return np.float64(ixy), np.float64(ixx), np.float64(iyy)
    xy = xx = yy = 0.0
    for j in range(width):
        u = np.float64(load_f32(center + np.uintp(4 * j)))
        v = np.float64(load_f32(unit + np.uintp(4 * j)))
        xy += u * v
        xx += u * u
        yy += v * v
    return xy, xx, yy


@kernel(
    types.int64(
        array(types.int64, 1), array(types.int64, 1), array(types.float32, 1), types.int64, types.uint64, types.float64,
        types.int64, types.boolean, array(types.uint8, 1, True), array(types.float32, 1, True), array(types.int64, 1, True),
        array(types.float64, 1, True), types.boolean,
    )
)  # fmt: skip
def _rescore(ctx, entry, query, limit, lsn, tau, depth, prove, scratch, scores, rows, out, ids):
    dim, k = query.shape[0], scores.shape[0]
    width = ctx[_DIM]
    if (
        ctx.shape[0] != _CTX
        or entry.shape[0] != _ENTRY
        or out.shape[0] != _OUT
        or rows.shape[0] != k
        or k < 1
        or not 0 < dim <= width
        or scratch.shape[0] < 16 * width + SCRATCH_FIXED
        or not (packed_1d(ctx, 8) and packed_1d(entry, 8) and packed_1d(query, 4) and packed_1d(scratch, 1))
        or not (packed_1d(scores, 4) and packed_1d(rows, 8) and packed_1d(out, 8))
    ):
        return -2
    s = _aligned(scratch)
    q_scale, correction = _prepare_scores(address(query), dim, width, s)
    if q_scale == np.float32(0):
        return -1
    codes = s + np.uintp(_QUERY * width)
    fields = address(entry)
    center, candidates, old = np.uintp(entry[_CENTER]), np.uintp(entry[_CANDIDATES]), np.uintp(entry[_OLD_SCORES])
    scales = np.uintp(entry[_SCALES])
    m, first_new, int8 = entry[_COUNT], entry[_ROWS], ctx[_ROW_INT8] != 0
    longest, outside = load_f64(fields + np.uintp(8 * _LONGEST)), load_f64(fields + np.uintp(8 * _OUTSIDE))
    center_scale, slack = load_f64(fields + np.uintp(8 * _CENTER_SCALE)), load_f64(fields + np.uintp(8 * _SLACK))
    xy, xx, yy = _products(center, codes, s + np.uintp(_UNIT * width), width, int8)
    scale = np.float64(q_scale) if int8 else 1.0
    center_norm, query_norm = np.sqrt(xx) * center_scale, np.sqrt(yy) * scale
    along = xy / np.sqrt(xx) * scale
    across = np.sqrt(max(0.0, yy - xy * xy / xx)) * scale
    out[0], out[1], out[2] = along / query_norm, 0.0, 0.0
    if out[0] < tau:
        return 0
    count, waiting = 0, 0
    pending = s + np.uintp(_PENDING * width)
    for row in range(first_new, min(limit, ctx[_REACH])):
        where = _row_at(ctx, row)
        _push(pending, waiting, where, row, load_f32(_record_at(ctx, row) + np.uintp(RECORD_SCALE)))
        waiting += 1
        if waiting == 8:
            count = _take_rows(ctx, s, 8, q_scale, correction, lsn, scores, rows, count)
            waiting = 0
    if waiting > 0:
        count = _take_rows(ctx, s, waiting, q_scale, correction, lsn, scores, rows, count)
    beyond = _bound(outside, along, across, longest, center_norm, query_norm, slack)
    stop, proven, at = min(m, depth), False, 0
    while at < stop:
        end = min(stop, at + BLOCK)
        block = candidates + np.uintp(8 * at)
        count = _take_listed(
            ctx, s, block, scales + np.uintp(4 * at), end - at, q_scale, correction, lsn, scores, rows, count
        )
        if count < 0:
            return -2
        at = end
        if count == k:
            worst = np.float64(scores[0])
            if at < m:
                left = np.float64(load_f32(old + np.uintp(4 * at)))
                if worst > _bound(left, along, across, longest, center_norm, query_norm, slack):
                    proven = worst > beyond
                    break
            if prove and at >= HOPELESS_AFTER and worst + HOPELESS < beyond:
                break
    if at == m:
        proven = outside == -np.inf or (count == k and np.float64(scores[0]) > beyond)
    _sort(scores, rows, count)
    if ids:
        for j in range(count):
            rows[j] = load_i64(_record_at(ctx, rows[j]))
    out[1] = 1.0 if proven else 0.0
    out[2] = at
    return count


def rescore(
    ctx: Array, entry: Array, query: Array, limit: int, lsn: int, tau: float, depth: int, prove: bool, scratch: Array,
    scores: Array, rows: Array, out: Array, ids: bool = False,
) -> int:  # fmt: skip
    if not (
        ctx.dtype is _INT64
        and entry.dtype is _INT64
        and query.dtype is _F32
        and scratch.dtype is _U8
        and scores.dtype is _F32
        and rows.dtype is _INT64
        and out.dtype is _F64
    ):
        raise TypeError("rescore: an array of another type")
    count: int = _rescore(ctx, entry, query, limit, lsn, tau, depth, prove, scratch, scores, rows, out, ids)
    if count < -1:
        raise ValueError("rescore: malformed arguments")
    return count
