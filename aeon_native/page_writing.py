"""Compiled kernels that write pages of sketches: encode, copy, clear, insert, find rows that belong elsewhere.

Contracts stand in `reference_pages`, the layout in `page_layout`.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any, disable-error-code="call-arg,var-annotated"
# Numba types the functions it compiles.
from __future__ import annotations

import numpy as np
from numba import types

from ._check import Array
from ._jit import array, helper, kernel
from ._simd import AVX512, address, load_f32, load_u8, load_u32, load_u64, measure_row, split_query
from ._simd_sketch import absolute_sums, residual_16, sign_bits_16, store_f32, store_u8, store_u32, widen_16
from .page_layout import LANES, NO_ROW, ROTATIONS
from .sketch import (
    _BEAM_ASSIGN,
    _CTX,
    _DIM,
    _EPS_ASSIGN,
    _OUT,
    _PENDING,
    _PLANES,
    _QUERY,
    _ROW_BYTES,
    _ROW_INT8,
    _SCRATCH,
    _SIGNS,
    _SLOT_CODES,
    _SLOT_LENGTHS,
    _SLOT_PAGES,
    _SLOT_SCALES,
    _UNBOUNDED,
    _UNIT,
    _VECTORS,
    _aligned,
    _near_groups,
    _near_pages,
    _prepare,
    _push,
    _require,
    _rotate,
    _row_at,
    _same,
    _score,
    _scratch,
)


@helper
def _encode(residual, width, signs, page, lane, scale, row):
    """Rotate the residual in place and write its sketch into a lane; the row's number comes last."""
    _rotate(residual, residual, width, signs)
    _, total = measure_row(residual, width)
    magnitude, _ = absolute_sums(residual, width)
    f = e = np.float32(0)
    if magnitude > np.float32(0) and total > 0:
        x0 = np.float64(magnitude) / np.sqrt(total * width)
        f = np.float32(total / np.float64(magnitude))
        e = np.float32(np.sqrt(total) * np.sqrt(max(0.0, 1 - x0 * x0)) / (x0 * np.sqrt(width - 1.0)))
    block = page + np.uintp((4 * width + 16 * LANES) * (lane >> 5))
    j = lane & 31
    shift, keep = (np.uint8(4), np.uint8(15)) if j >= 16 else (np.uint8(0), np.uint8(240))
    at = block + np.uintp(j & 15)
    for i in range(0, width, 16):
        bits = sign_bits_16(residual + np.uintp(4 * i))
        for _ in range(4):
            # The other nibble is another row's, which a reader may be looking at: it stays what it is.
            store_u8(at, np.uint8((load_u8(at) & keep) | (np.uint8(bits & np.uint16(15)) << shift)))
            bits = np.uint16(bits >> np.uint16(4))
            at += np.uintp(16)
    columns = block + np.uintp(4 * width + 4 * j)
    store_f32(columns, f)
    store_f32(columns + np.uintp(8 * LANES), scale)
    store_u32(columns + np.uintp(12 * LANES), row)
    store_f32(columns + np.uintp(4 * LANES), e)


@helper
def _subtract(vector, codes, factor, width, out):
    for j in range(0, width, 16):
        residual_16(vector + np.uintp(4 * j), codes + np.uintp(j), factor, out + np.uintp(4 * j))


@kernel(
    types.int64(
        _VECTORS, array(types.float32, 1), array(types.uint32, 1), array(types.int8, 1), types.float32, _VECTORS,
        types.uint64, types.int64, _SCRATCH,
    )
)  # fmt: skip
def _encode_lanes(vectors, scales, rows, centroid, factor, signs, page, start, scratch):
    n, width = vectors.shape
    s = _aligned(scratch)
    for i in range(n):
        _subtract(address(vectors) + np.uintp(4 * width * i), address(centroid), factor, width, s)
        _encode(s, width, address(signs), np.uintp(page), start + i, scales[i], rows[i])
    return 0


def encode_lanes(
    vectors: Array, scales: Array, rows: Array, centroid: Array, factor: float, signs: Array, page: int, start: int,
    scratch: Array,
) -> None:  # fmt: skip
    for value, dtype, ndim in (
        (vectors, np.float32, 2), (scales, np.float32, 1), (rows, np.uint32, 1), (centroid, np.int8, 1),
        (signs, np.float32, 2),
    ):  # fmt: skip
        _require(value, dtype, ndim)
    width = vectors.shape[1]
    _same((len(scales), len(rows), len(centroid)), (len(vectors), len(vectors), width))
    _same((signs.shape, width % 64), ((ROTATIONS, width), 0))
    _scratch(scratch, width)
    _encode_lanes(vectors, scales, rows, centroid, factor, signs, page, start, scratch)


@helper
def _copy_lane(source, lane, target, to, width):
    step = 4 * width + 16 * LANES
    x, y = source + np.uintp(step * (lane >> 5)), target + np.uintp(step * (to >> 5))
    i, j = lane & 31, to & 31
    down, up = np.uint8(4 if i >= 16 else 0), np.uint8(4 if j >= 16 else 0)
    keep = np.uint8(15 if j >= 16 else 240)
    u, v = x + np.uintp(i & 15), y + np.uintp(j & 15)
    for _ in range(width >> 2):
        nibble = np.uint8(load_u8(u) >> down) & np.uint8(15)
        store_u8(v, np.uint8((load_u8(v) & keep) | (nibble << up)))
        u += np.uintp(16)
        v += np.uintp(16)
    for column in (0, 2, 3, 1):
        offset = 4 * width + 4 * LANES * column
        store_u32(y + np.uintp(offset + 4 * j), load_u32(x + np.uintp(offset + 4 * i)))


@kernel(types.int64(types.uint64, array(types.int64, 1), types.uint64, types.int64, types.int64))
def _copy_lanes(source, lanes, target, start, width):
    for i in range(lanes.shape[0]):
        _copy_lane(np.uintp(source), lanes[i], np.uintp(target), start + i, width)
    return 0


def copy_lanes(source: int, lanes: Array, target: int, start: int, dim: int) -> None:
    _require(lanes, np.int64, 1)
    _same(dim % 64, 0)
    _copy_lanes(source, lanes, target, start, dim)


@kernel(types.int64(types.uint64, types.int64, types.int64, types.int64))
def _clear_lanes(page, start, stop, width):
    step = 4 * width + 16 * LANES
    for lane in range(start, stop):
        columns = np.uintp(page) + np.uintp(step * (lane >> 5) + 4 * width + 4 * (lane & 31))
        store_f32(columns + np.uintp(4 * LANES), np.float32(-np.inf))
        store_u32(columns + np.uintp(12 * LANES), np.uint32(NO_ROW))
        store_f32(columns, np.float32(0))
        store_f32(columns + np.uintp(8 * LANES), np.float32(0))
    return 0


def clear_lanes(page: int, start: int, stop: int, dim: int) -> None:
    _same(dim % 64, 0)
    _clear_lanes(page, start, stop, dim)


@kernel(
    types.int64(
        _CTX, _VECTORS, array(types.float32, 1), types.int64, array(types.uint32, 1, True), array(types.uint32, 1),
        _SCRATCH, array(types.int64, 1, True),
    )
)  # fmt: skip
def _insert_rows(ctx, vectors, scales, first_row, counts, capacities, scratch, out):
    n, width = vectors.shape
    s = _aligned(scratch)
    scores, slots, keys = np.empty(1, np.float32), np.empty(1, np.int64), np.empty(10, np.int64)
    group_scores, group_slots = np.empty(_BEAM_ASSIGN, np.float32), np.empty(_BEAM_ASSIGN, np.int64)
    for i in range(n):
        vector = address(vectors) + np.uintp(4 * width * i)
        prepared = _prepare(ctx, vector, width, s)
        slot = np.int64(-1)
        if prepared[0] != np.float32(0):
            groups = _near_groups(ctx, s, prepared[0], prepared[1], group_scores, group_slots)
            near = _near_pages(
                ctx, s, prepared, _EPS_ASSIGN, _UNBOUNDED, groups, group_scores, group_slots, keys, scores, slots
            )
            if near > 0:
                slot = slots[0]
        if slot < 0 or counts[slot] >= capacities[slot]:
            out[0] = slot
            return i
        factor = load_f32(np.uintp(ctx[_SLOT_LENGTHS]) + np.uintp(4 * slot)) * load_f32(
            np.uintp(ctx[_SLOT_SCALES]) + np.uintp(4 * slot)
        )
        _subtract(vector, np.uintp(ctx[_SLOT_CODES]) + np.uintp(width * slot), factor, width, s)
        page = np.uintp(load_u64(np.uintp(ctx[_SLOT_PAGES]) + np.uintp(8 * slot)))
        _encode(s, width, np.uintp(ctx[_SIGNS]), page, np.int64(counts[slot]), scales[i], np.uint32(first_row + i))
        counts[slot] += np.uint32(1)
    return n


def insert_rows(
    ctx: Array, vectors: Array, scales: Array, first_row: int, counts: Array, capacities: Array, scratch: Array,
    out: Array,
) -> int:  # fmt: skip
    for value, dtype, ndim in (
        (ctx, np.int64, 1), (vectors, np.float32, 2), (scales, np.float32, 1), (capacities, np.uint32, 1),
    ):  # fmt: skip
        _require(value, dtype, ndim)
    _require(counts, np.uint32, 1, writable=True)
    _require(out, np.int64, 1, writable=True)
    _same((vectors.shape[1], len(scales)), (int(ctx[_DIM]), len(vectors)))
    _scratch(scratch, int(ctx[_DIM]))
    done: int = _insert_rows(ctx, vectors, scales, first_row, counts, capacities, scratch, out)
    return done


@helper
def _prepare_own(ctx, slot, s):
    """Fill the scratch memory at `s` with a page's centroid as a query; its correction."""
    width = ctx[_DIM]
    codes = np.uintp(ctx[_SLOT_CODES]) + np.uintp(width * slot)
    query = s + np.uintp(_QUERY * width)
    for j in range(0, width, 16):
        widen_16(codes + np.uintp(j), query + np.uintp(2 * j))
    scale = load_f32(np.uintp(ctx[_SLOT_SCALES]) + np.uintp(4 * slot))
    if ctx[_ROW_INT8] == 0:
        unit = s + np.uintp(_UNIT * width)
        for j in range(0, width, 16):
            store_zero = unit + np.uintp(4 * j)
            for i in range(16):
                store_f32(store_zero + np.uintp(4 * i), np.float32(0))
            residual_16(store_zero, codes + np.uintp(j), -scale, store_zero)
    return split_query(query, width, s + np.uintp(_PLANES * width)) if AVX512 else 0


@kernel(
    types.int64(
        _CTX, array(types.int64, 1), array(types.uint32, 1), _VECTORS, types.float32, _SCRATCH,
        array(types.int64, 2, True),
    )
)  # fmt: skip
def _closer_rows(ctx, slots, counts, candidates, margin, scratch, out):
    width, row_bytes, int8 = ctx[_DIM], ctx[_ROW_BYTES], ctx[_ROW_INT8] != 0
    s = _aligned(scratch)
    part = np.uintp(_PENDING * width + 512)
    first = _prepare(ctx, address(candidates), width, s)
    second = _prepare(ctx, address(candidates) + np.uintp(4 * width), width, s + part)
    own_at = s + part + part
    found = 0
    for p in range(slots.shape[0]):
        slot = slots[p]
        correction = _prepare_own(ctx, slot, own_at)
        own_scale = load_f32(np.uintp(ctx[_SLOT_SCALES]) + np.uintp(4 * slot))
        page = np.uintp(load_u64(np.uintp(ctx[_SLOT_PAGES]) + np.uintp(8 * slot)))
        total = np.int64(counts[p])
        for begin in range(0, total, 8):
            used = min(8, total - begin)
            for where in (s, s + part, own_at):
                pending = where + np.uintp(_PENDING * width)
                for j in range(used):
                    lane = begin + j
                    block = page + np.uintp((4 * width + 16 * LANES) * (lane >> 5) + 4 * width + 4 * (lane & 31))
                    row = np.int64(load_u32(block + np.uintp(12 * LANES)))
                    _push(pending, j, _row_at(ctx, row), row, load_f32(block + np.uintp(8 * LANES)))
            _score(s, width, used, int8, row_bytes, first[0], first[1])
            _score(s + part, width, used, int8, row_bytes, second[0], second[1])
            _score(own_at, width, used, int8, row_bytes, own_scale, correction)
            for j in range(used):
                at = np.uintp(_PENDING * width + _OUT + 4 * j)
                x, y, own = load_f32(s + at), load_f32(s + part + at), load_f32(own_at + at)
                if max(x, y) > own + margin and found < out.shape[0]:
                    out[found, 0] = slot
                    out[found, 1] = begin + j
                    out[found, 2] = 0 if x >= y else 1
                    found += 1
    return found


def closer_rows(
    ctx: Array, slots: Array, counts: Array, candidates: Array, margin: float, scratch: Array, out: Array
) -> int:
    for value, dtype, ndim in (
        (ctx, np.int64, 1), (slots, np.int64, 1), (counts, np.uint32, 1), (candidates, np.float32, 2),
    ):  # fmt: skip
        _require(value, dtype, ndim)
    _require(out, np.int64, 2, writable=True)
    _same((candidates.shape, out.shape[1], len(counts)), ((2, int(ctx[_DIM])), 3, len(slots)))
    _scratch(scratch, int(ctx[_DIM]), 3)
    found: int = _closer_rows(ctx, slots, counts, candidates, margin, scratch, out)
    return found
